"""Singular values learned in order by a fully connected linear network (Conjecture 4.1 of arXiv 2506.06489)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compare import compare
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_most, equal, within
from ._paper import commuting
from ._style import AGF, FLOW, LOSS, THEORY, figure, label_panels, shades, staircase

SIZE, SCALE = 10, 1e-15
# Times are extrapolated to vanishing scale from these two; the last is far beyond double.
PAIR = (1e-12, 1e-15)
LOG10_SMALL = -1000


def compute(setup: Setup) -> Result:
    """AGF and flow at alpha = 1e-15, times extrapolated to 0; a second or two, so the small variant is the same."""
    seed = setup.seed_or(0)
    problem, data = commuting(SIZE, seed)
    theory = problem.theory(SIZE)
    expected = np.array([jump.scaled_time for jump in theory.jumps])
    start = problem.initialize(SIZE, SCALE, seed)
    path = alternating_gradient_flow(problem, start)
    end = 1.05 * float(path.time[-1])
    truth = gradient_flow(problem, start, end)
    found = compare(path, theory)
    logs = [-np.log(scale) for scale in PAIR]
    times = [_times(alternating_gradient_flow(problem, problem.initialize(SIZE, scale, seed))) for scale in PAIR]
    limit = extrapolate(times, logs)
    far = problem.initialize(SIZE, log_scale=LOG10_SMALL * np.log(10.0), seed=seed)
    small = _times(alternating_gradient_flow(problem, far)) / (-LOG10_SMALL * np.log(10.0))
    grid = np.linspace(0.0, end, 300)
    states = gradient_flow(problem, start, end, save_at=grid).states
    # The map's part along each pair of singular vectors of Sigma_yx, over what it is at the end.
    strengths = np.array(
        [np.einsum("ij,ik,kj->j", data["left"], problem.linear_map(state), data["right"]) for state in states]
    )
    strengths /= data["strength"] / data["variance"]

    result = Result(facts={"c = H = d": SIZE, "alpha": SCALE, "seed": seed})
    log = -np.log(SCALE)
    rows = []
    for k, jump in enumerate(path.jumps):
        scaled = jump.time / log
        rows.append([k, expected[k], scaled, limit[k], small[k], theory.levels[k + 1], jump.loss_after])
    heads = ["jump", "conjecture", f"AGF {SCALE:g}", "extrapolated", f"AGF 1e{LOG10_SMALL}", "level", "AGF level"]
    result.tables.append(Table("Jump times in units of ln(1/alpha)", heads, rows))
    beside = compare(path, truth)
    result.tables.append(
        Table(
            f"AGF beside gradient flow at alpha = {SCALE:g}, in units of ln(1/alpha)",
            ["AGF", "flow", "AGF time", "flow time", "error", "AGF level", "flow level"],
            [
                [m.path_index, m.truth_index, path.jumps[m.path_index].time / log,
                 truth.jumps[m.truth_index].time / log, m.time_error, m.path_level, m.truth_level]
                for m in beside.matches
            ],
        )
    )  # fmt: skip
    order = [int(np.argmax(np.abs(data["left"].T @ problem.split(jump.direction[None])["a"][0])))
             for jump in path.jumps]  # fmt: skip
    result.checks += [
        equal("singular values learned in order", order, list(range(SIZE))),
        within("levels of AGF against the conjecture, over L(0)", found.max_level_error, 0.0, 1e-9),
        at_most("times extrapolated from 1e-12 and 1e-15, error over tau_k", _worst(limit, expected), 0.02),
        at_most(f"times at 1e{LOG10_SMALL}, error over tau_k", _worst(small, expected), 0.002),
        at_most("AGF against the flow, largest error of a time", beside.max_time_error, 0.02),
    ]
    result.numbers.update(
        conjecture=expected, levels=theory.levels, extrapolated=limit, at_1e_minus_1000=small,
        agf_times=[jump.time / log for jump in path.jumps], flow_times=[jump.time / log for jump in truth.jumps],
    )  # fmt: skip
    result.curves.update(path=path, truth=truth, theory=theory, log=log, grid=grid, strengths=strengths, end=end,
                         expected=expected)  # fmt: skip
    return result


def extrapolate(times: Sequence[NDArray[np.float64]], logs: Sequence[float]) -> NDArray[np.float64]:
    """Times in units of ln(1/alpha) as alpha vanishes, from two scales: t / ln(1/alpha) = tau + constant / ln(1/alpha).

    That is the difference quotient of t over ln(1/alpha).
    """
    return np.asarray((times[1] - times[0]) / (logs[1] - logs[0]))


def _times(path: Any) -> NDArray[np.float64]:
    return np.array([jump.time for jump in path.jumps])


def _worst(got: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(got / expected - 1.0))) if len(got) == len(expected) else np.inf


def draw(result: Result) -> dict[str, Any]:
    """Loss with the conjecture's times and levels; the strength of each singular direction."""
    curves = result.curves
    path, truth, theory, log = (curves[name] for name in ("path", "truth", "theory", "log"))
    made, [[left, right]] = figure(1, 2, size=(7.2, 3.0))
    end = curves["end"] / log
    times = np.concatenate([[0.0], curves["expected"]])
    left.plot(*staircase(times, theory.levels, end), color=THEORY, lw=1.0, ls=":", label="Conjecture 4.1")
    time, loss = staircase(path.time / log, path.loss, end)
    left.plot(time, loss, color=AGF, label="AGF")
    left.plot(np.asarray(truth.time) / log, truth.loss, color=FLOW, ls="--", label="gradient flow")
    left.set_ylabel(LOSS)
    left.set_title(r"loss at $\alpha=10^{-15}$")
    left.legend()
    count = curves["strengths"].shape[1]
    for k, colour in enumerate(shades(count)):
        right.plot(curves["grid"] / log, curves["strengths"][:, k], color=colour,
                   label=f"$j={k + 1}$" if k in (0, count // 2, count - 1) else None)  # fmt: skip
        right.plot([curves["expected"][k]] * 2, [-0.05, 1.05], color=THEORY, lw=0.6, ls=":")
    right.set_ylabel("singular direction learned, share")
    right.set_title("dotted: conjectured times")
    right.set_ylim(None, 1.25)
    right.legend(loc="upper left", ncols=3)
    for ax in (left, right):
        ax.set_xlabel(r"time $t\,/\,\ln(1/\alpha)$")
        ax.set_xlim(0.0, end)
    label_panels([left, right])
    return {"": made}


EXPERIMENT = Experiment("linear", "singular values learned in order, by a conjecture's clock", compute, draw, 3.0)
