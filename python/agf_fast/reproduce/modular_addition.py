"""Fourier features of modular addition, one frequency after another (section 5 of arXiv 2506.06489)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compare import compare
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, equal, within
from ._paper import modular_addition, template
from ._style import AGF, COLOURS, FLOW, GREY, THEORY, figure, label_panels, legend_below, staircase

WIDTH, SCALE, ACTIVE_TIME, RTOL = 18, 1e-2, 100.0, 1e-6
_RTOL_OF_PICTURES = 1e-4
# 2L/p after the first three jumps, and after the fifth, where frequency 1 is done; theory.md's prototype.
PLATEAUS = (0.65625, 0.15625, 0.03125, 0.0)
FIRST_LEVELS = (0.59959, 0.40936, 0.28390)
_PLATEAU, _NEAR = 1e-4, 5e-3


def compute(setup: Setup) -> Result:
    """Both flows of the paper's network; the small variant is the same, which takes a few seconds."""
    problem = modular_addition()
    period = problem.period
    unit = 2.0 / period
    seed = setup.seed_or(0)
    start = problem.initialize(WIDTH, SCALE, seed)
    path = alternating_gradient_flow(problem, start, active_time=ACTIVE_TIME, rtol=RTOL, loss_tol=1e-5)
    theory = problem.theory(start)
    done = [_reaches(unit * np.array([jump.loss_after for jump in path.jumps]), unit * level)
            for level in theory.levels[1:]]  # fmt: skip
    reached = [np.nan if k is None else unit * path.jumps[k].loss_after for k in done]
    end = path.jumps[-1 if done[-1] is None else done[-1]].time
    grid = np.unique(np.concatenate([np.geomspace(0.3 * path.jumps[0].time, end, 300), _moments(path, done)]))
    truth = gradient_flow(problem, start, end, rtol=RTOL)
    shown = gradient_flow(problem, start, end, rtol=_RTOL_OF_PICTURES, save_at=grid)
    frequencies = theory.facts["frequencies"]
    winners = [int(problem.dominant_frequencies(jump.direction[None])[0]) for jump in path.jumps]
    first = list(problem.first_activations(path))
    powers = np.array([problem.powers(state).sum(axis=(0, 1)) for state in shown.states])

    result = Result(facts={"p": period, "H": WIDTH, "alpha": SCALE, "active_time": ACTIVE_TIME, "seed": seed})
    result.facts["rtol"] = RTOL
    result.tables.append(
        Table(
            "Plateaus of theory, 2L/p, and where the runs pass them",
            ["frequencies done", "theory", "AGF", "flow", "largest utility"],
            [
                [", ".join(map(str, frequencies[:k])) or "none", unit * level]
                + ([1.0 * unit * path.loss[0], unit * float(truth.loss[0])] if k == 0 else
                   [reached[k - 1], unit * _nearest(truth, level)])
                + [theory.jumps[k].utility if k < len(theory) else None]
                for k, level in enumerate(theory.levels)
            ],
        )
    )  # fmt: skip
    rows = [
        [k, jump.time, jump.scaled_time, winners[k], jump.neuron, jump.utility, unit * jump.loss_after, jump.alignment]
        for k, jump in enumerate(path.jumps)
    ]
    heads = ["jump", "time", "t/eta", "frequency", "neuron", "utility", "2L/p after", "alignment"]
    result.tables.append(Table("AGF", heads, rows))
    found = compare(path, truth)
    result.tables.append(
        Table(
            "AGF beside gradient flow, jumps that correspond",
            ["AGF", "flow", "AGF time", "flow time", "error", "AGF 2L/p", "flow 2L/p"],
            [
                [m.path_index, m.truth_index, path.jumps[m.path_index].time, truth.jumps[m.truth_index].time,
                 m.time_error, unit * m.path_level, unit * m.truth_level]
                for m in found.matches
            ],
        )
    )  # fmt: skip
    result.checks += [
        equal("frequencies in order of first activation", first, list(frequencies)),
        within("plateaus 2L/p of theory .65625, .15625, .03125, 0", unit * theory.levels, PLATEAUS, 1e-12),
        within("AGF's plateaus 2L/p once a frequency is done", reached, unit * theory.levels[1:], _PLATEAU),
        at_least("first jump over its lower bound", path.jumps[0].time / theory.jumps[0].time, 1.0),
    ]  # fmt: skip
    if setup.seed is None:
        levels = [unit * jump.loss_after for jump in path.jumps]
        result.checks.append(within("first jumps 2L/p .59959, .40936, .28390", levels[:3], FIRST_LEVELS, 1e-5))
        result.checks.append(within("fifth jump 2L/p .15626", levels[4], 0.15626, 1.5e-5))
    result.numbers.update(
        agf_times=path.time, agf_loss=path.loss, agf_frequencies=winners, bound=theory.jumps[0].time,
        flow_times=[jump.time for jump in truth.jumps], flow_levels=[jump.loss_after for jump in truth.jumps],
        theory_levels=theory.levels,
    )  # fmt: skip
    moments = [int(np.argmin(np.abs(grid - moment))) for moment in _moments(path, done)]
    result.curves.update(
        path=path, truth=truth, theory=theory, grid=grid, powers=powers, done=done, problem=problem, unit=unit,
        moments=moments, states=[shown.states[k] for k in moments], end=end,
    )  # fmt: skip
    return result


def _reaches(levels: NDArray[np.float64], plateau: float) -> int | None:
    """The first jump that ends on a plateau: stragglers of its frequency may come after one that is merely near."""
    away = np.abs(levels - plateau)
    if (away <= _PLATEAU).any():
        return int(np.argmax(away <= _PLATEAU))
    return int(np.argmin(away)) if away.min() <= _NEAR else None


def _moments(path: Any, done: list[int | None]) -> list[float]:
    """Before the first jump, and on the plateau after each frequency."""
    known = [k for k in done if k is not None]
    after = [path.jumps[k].time + 0.9 * (path.jumps[k + 1].time - path.jumps[k].time) for k in known[:-1]]
    return [0.9 * path.jumps[0].time, *after, path.jumps[known[-1]].time]


def _nearest(truth: Any, level: float) -> float:
    """The flow's plateau nearest to a level."""
    levels = np.array([jump.loss_after for jump in truth.jumps] + [float(truth.loss[-1])])
    return float(levels[np.argmin(np.abs(levels - level))])


def draw(result: Result) -> dict[str, Any]:
    """Loss and Fourier power over time; weights and outputs on each plateau."""
    return {"": _draw_time(result), "weights": _draw_weights(result)}


def _draw_time(result: Result) -> Any:
    curves = result.curves
    path, truth, theory, unit = (curves[name] for name in ("path", "truth", "theory", "unit"))
    made, [[top], [bottom]] = figure(2, 1, size=(5.6, 5.2), sharex=True)
    for k, level in enumerate(theory.levels[:-1]):
        top.axhline(unit * level, color=THEORY, lw=0.8, ls=":", label="theory: plateaus" if k == 0 else None)
    bound = theory.jumps[0].time
    top.axvline(bound, color=THEORY, lw=0.8, ls="--", label="theory: bound of the first jump")
    time, loss = staircase(path.time, path.loss, curves["end"])
    top.plot(time, unit * loss, color=AGF, label="AGF")
    top.plot(truth.time, unit * np.asarray(truth.loss), color=FLOW, label="gradient flow")
    top.set_ylabel(r"$2L/p$")
    top.set_title("loss")
    frequencies = list(theory.facts["frequencies"])
    for colour, k in zip(COLOURS[2:], frequencies, strict=False):
        bottom.plot(curves["grid"], curves["powers"][:, k], color=colour, label=f"$k={k}$")
    others = [k for k in range(curves["powers"].shape[1]) if k not in frequencies]
    bottom.plot(curves["grid"], curves["powers"][:, others].sum(axis=1), color=GREY, lw=1.0, label="all others")
    for ax in (top, bottom):
        ax.set_xscale("log")
        ax.set_xlim(0.3 * path.jumps[0].time, curves["end"])
    bottom.set_xlabel(r"time $t$ (flow units, $\dot\theta=-\nabla L$)")
    bottom.set_ylabel("Fourier power of all weights")
    bottom.set_title("frequencies learned by gradient flow")
    top.legend(loc="upper right", bbox_to_anchor=(1.0, 0.9))
    bottom.legend(loc="upper left")
    label_panels([top, bottom])
    return made


def _draw_weights(result: Result) -> Any:
    curves = result.curves
    problem, states = curves["problem"], curves["states"]
    titles = ["start"] + [f"k = {', '.join(map(str, curves['theory'].facts['frequencies'][: n + 1]))} done"
                          for n in range(len(states) - 1)]  # fmt: skip
    made, axes = figure(2, len(states), size=(1.9 * len(states) + 0.4, 4.6))
    period = problem.period
    for column, (state, title) in enumerate(zip(states, titles, strict=True)):
        theta = np.asarray(state.parameters())
        norms = np.linalg.norm(theta, axis=1)
        ax = axes[0, column]
        for k, row in enumerate(np.argsort(-norms)[:6]):
            ax.plot(np.arange(period), theta[row, 2 * period :], lw=0.9, color=COLOURS[k % len(COLOURS)])
        ax.set_title(f"{title}\n$t={curves['grid'][curves['moments'][column]]:.4g}$")
        ax.set_xlabel("position")
        ax = axes[1, column]
        # f(a, b) as a function of a + b: the mean over pairs of equal sum, rotated back by it.
        out = np.asarray(problem.predict(theta)).reshape(period, period, period)
        target = template()
        aligned = np.mean([np.roll(out[a, b], -(a + b)) for a in range(period) for b in range(period)], axis=0)
        ax.plot(np.arange(period), target, color=THEORY, lw=1.0, ls=":", label="template")
        ax.plot(np.arange(period), aligned, color=FLOW, label="output, shifted back by $a+b$")
        ax.set_xlabel("position")
    axes[0, 0].set_ylabel("readout $w_i$, six largest neurons")
    axes[1, 0].set_ylabel("mean output")
    legend_below(made, *axes[1, 0].get_legend_handles_labels())
    return made


EXPERIMENT = Experiment("modular-addition", "Fourier features learned one after another", compute, draw, seconds=10.0)
