"""Principal components learned by linear attention in context (section 4 of arXiv 2506.06489)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._compare import compare
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most, equal, within
from ._paper import attention, components_learned
from ._style import AGF, COLOURS, FLOW, LOSS, THEORY, figure, label_panels, staircase

HEADS, SCALE = 5, 1e-3
LEVELS = (1.0, 0.562185, 0.355548, 0.225103, 0.132199)
_SEEDS = 20


def compute(setup: Setup) -> Result:
    """Both flows of the population; takes a fraction of a second, so the small variant is the same."""
    problem = attention()
    seed = setup.seed_or(0)
    start = problem.initialize(HEADS, SCALE, seed)
    path = alternating_gradient_flow(problem, start)
    end = 1.25 * path.time[-1]
    truth = gradient_flow(problem, start, end)
    theory = problem.theory(start, path)
    grid = np.linspace(0.0, end, 400)
    states = gradient_flow(problem, start, end, save_at=grid).states
    spectra = np.array([problem.spectrum(state) for state in states])
    order = components_learned(problem, path)
    found = compare(path, truth)
    levels = np.array([path.loss[0], *(jump.loss_after for jump in path.jumps)])

    # Bounds hold at every jump of other runs too: more seeds, scales and heads.
    margins, learned = [], []
    for other in range(_SEEDS):
        for scale, heads in ((SCALE, HEADS), (1e-8, 8)):
            begin = problem.initialize(heads, scale, other)
            run = alternating_gradient_flow(problem, begin)
            bounds = [jump.scaled_time for jump in problem.theory(begin, run).jumps]
            margins += [j.scaled_time / b for j, b in zip(run.jumps, bounds, strict=False) if np.isfinite(b)]
            if (scale, heads) == (SCALE, HEADS):
                learned.append(len(run.jumps))

    result = Result(facts={"D": problem.dimension, "N": problem.context, "heads": HEADS, "alpha": SCALE, "seed": seed})
    rows = [[0, None, None, None, None, None, theory.levels[0], levels[0], truth.loss[0]]]
    for k, jump in enumerate(path.jumps):
        match = next((m for m in found.matches if m.path_index == k), None)
        time = truth.jumps[match.truth_index].time if match else np.nan
        rows.append(
            [k + 1, order[k] + 1, theory.jumps[k].time, jump.time, time, jump.time / time - 1.0,
             theory.levels[k + 1], jump.loss_after, match.truth_level if match else np.nan]
        )  # fmt: skip
    columns = ["jump", "component", "bound", "AGF time", "flow time", "error", "level", "AGF level", "flow level"]
    result.tables.append(Table("Jumps of the population flow", columns, rows))
    final = problem.spectrum(path.state)
    result.tables.append(
        Table(
            "Eigenvalues of V when all is learned",
            ["component", "variance", "theory", "AGF"],
            [[k + 1, problem.variances[k], theory.facts["equilibrium"][k], final[k]] for k in range(problem.dimension)],
        )
    )
    result.checks += [
        equal("principal components in order", order, list(range(problem.dimension))),
        within("levels 1, .562185, .355548, .225103, .132199", theory.levels, LEVELS, 1e-6),
        within("AGF's levels against the closed form", levels, theory.levels, 1e-8),
        within("eigenvalues of V at the end", final, theory.facts["equilibrium"], 1e-7),
        at_least("jump time over its lower bound, least of all", _least(path, theory), 1.0),
        at_least(f"the same over {len(margins)} jumps of other runs", min(margins), 1.0),
        # The clock of AGF leaves active phases out; they take a few units of time against hundreds.
        at_most("AGF times against the flow, largest relative error", found.max_time_error, 0.01),
        equal("jumps that correspond", len(found.matches), problem.dimension),
    ]
    all_of = sum(count == problem.dimension for count in learned)
    result.notes.append(
        f"With {HEADS} heads at alpha = {SCALE:g}, {all_of} of {_SEEDS} seeds learn all {problem.dimension} components."
    )
    result.numbers.update(
        theory_levels=theory.levels, bounds=[jump.time for jump in theory.jumps], agf_times=path.time[1:],
        agf_levels=levels, flow_times=[jump.time for jump in truth.jumps], seeds_that_learn_all=all_of,
    )  # fmt: skip
    result.curves.update(path=path, truth=truth, theory=theory, grid=grid, spectra=spectra, end=end)
    return result


def _least(path: Any, theory: Any) -> float:
    return min(float(jump.time / bound.time) for jump, bound in zip(path.jumps, theory.jumps, strict=True))


def draw(result: Result) -> dict[str, Any]:
    """Loss with levels and bounds; the eigenvalues of V over time."""
    curves = result.curves
    path, truth, theory = curves["path"], curves["truth"], curves["theory"]
    made, [[left, right]] = figure(1, 2, size=(7.2, 3.0))
    for k, level in enumerate(theory.levels):
        left.axhline(level, color=THEORY, lw=0.8, ls=":", label="theory: levels" if k == 0 else None)
    for k, jump in enumerate(theory.jumps):
        left.plot(jump.time, jump.loss_before, marker="|", ms=11, mew=1.4, color=THEORY, ls="",
                  label="theory: earliest jump" if k == 0 else None)  # fmt: skip
    left.plot(*staircase(path.time, path.loss, curves["end"]), color=AGF, label="AGF")
    left.plot(truth.time, truth.loss, color=FLOW, ls="--", label="gradient flow")
    left.set_ylabel(LOSS)
    left.set_ylim(0.0, 1.05)
    left.set_title("loss")
    left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.97))
    for k, colour in zip(range(curves["spectra"].shape[1]), COLOURS, strict=False):
        right.plot(curves["grid"], curves["spectra"][:, k], color=colour, label=f"component {k + 1}")
        right.axhline(theory.facts["equilibrium"][k], color=colour, lw=0.8, ls=":")
    right.set_ylabel(r"part of $V$ along each principal component")
    right.set_title("learned (dotted: equilibrium values)")
    right.set_ylim(None, 0.135)
    right.legend(loc="upper left", ncols=2)
    for ax in (left, right):
        ax.set_xlabel(r"time $t$ (flow units, $\dot\theta=-\nabla L$)")
        ax.set_xlim(0.0, curves["end"])
    label_panels([left, right])
    return {"": made}


EXPERIMENT = Experiment("attention", "principal components learned in context", compute, draw, seconds=3.0)
