"""A coordinate that activates, falls dormant and comes back with the other sign (section 3 of arXiv 2506.06489)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_most, equal, within
from ._paper import learned, plane
from ._style import AGF, COLOURS, GREY, LOSS, THEORY, figure, label_panels, legend_below, shades, staircase

# log10 of alpha; from -100 on far below double, where only logarithms go.
SCALES = (np.log10(0.5), -1.0, -2.0, -4.0, -6.0, -100.0, -1000.0, -10000.0)
TIMES = (0.193042, 0.600220, 3.457363)
LEVELS = (2.311099, 1.114650, 0.070000, 0.0)
_SHOWN = 6  # curves in the figures: down to 1e-100, on which the next lie


def compute(setup: Setup) -> Result:
    """The limit path and flows from 0.5 down to 10^-10000; a fraction of a second, so the small variant is the same."""
    del setup  # nothing is random
    problem = plane()
    limit = alternating_gradient_flow(problem, limit=True)
    theory = problem.theory()
    times = limit.time[1:]
    end = 1.15 * times[-1]
    grid = np.unique(np.concatenate([np.linspace(0.0, 1.2 * times[1], 400), np.linspace(0.0, end, 400)]))
    flows: list[dict[str, Any]] = []
    for exponent in SCALES:
        log = -exponent * np.log(10.0)
        start = problem.initialize(log_scale=-log)
        truth = gradient_flow(problem, start, end * log)
        shown = gradient_flow(problem, start, end * log, save_at=grid * log)
        path = alternating_gradient_flow(problem, start)
        flows.append({
            "log": log, "name": _name(exponent), "truth": truth, "loss": shown.loss, "agf": np.asarray(path.time[1:]),
            "beta": np.array([problem.coefficients(state) for state in shown.states]),
            "log_norm": np.array([state.log_norm for state in shown.states]) / log,
            "angle": np.array([np.arctan2(state.direction[:, 1], state.direction[:, 0]) for state in shown.states]),
        })  # fmt: skip
    result = Result(facts={"n = d": 2, "beta*": [-0.2, 2.0], "scales": [flow["name"] for flow in flows]})
    rows = []
    for flow in flows:
        found = np.array([jump.time for jump in flow["truth"].jumps]) / flow["log"]
        flow["times"] = found
        flow["error"] = found / times - 1.0 if len(found) == len(times) else np.full(len(times), np.nan)
        agf = np.abs(flow["agf"] / flow["log"] / times - 1.0).max()
        rows.append([flow["name"], len(found), *flow["error"], *(flow["error"] * flow["log"]), agf])
    heads = ["alpha", "jumps", "error 1", "error 2", "error 3", *(f"x ln(1/alpha) {k}" for k in (1, 2, 3)), "AGF error"]
    jumps = [[k + 1, j.neuron, j.time, th.scaled_time, j.loss_after, ", ".join(map(str, j.returned)) or "-"]
             for k, (j, th) in enumerate(zip(limit.jumps, theory.jumps, strict=True))]  # fmt: skip
    names = ["jump", "coordinate", "AGF time", "theory", "level", "fell dormant"]
    result.tables.append(Table("The limit path, times in units of ln(1/alpha)", names, jumps))
    result.tables.append(Table("Gradient flow: relative errors of its jump times", heads, rows, digits=4))
    result.checks += [
        equal("coordinates in order 0, 1, 0", [jump.neuron for jump in limit.jumps], [0, 1, 0]),
        equal("how many fall dormant at each jump", [len(jump.returned) for jump in limit.jumps], [0, 1, 0]),
        within("times .193042, .600220, 3.457363", times, TIMES, 5e-7),
        within("levels 2.311099, 1.114650, .070000, 0", limit.loss, LEVELS, 5e-7),
    ]
    last, before = flows[-1], flows[-2]
    constants = [flow["error"] * flow["log"] for flow in (before, last)]
    steady = float(np.abs(constants[1] / constants[0] - 1.0).max())
    result.checks += [
        at_most("relative time error x ln(1/alpha), change from 1e-1000 to 1e-10000", steady, 0.05),
        at_most("time error at 1e-10000", float(np.abs(last["error"]).max()), 1e-3),
        equal("signs of coordinate 0 on the flow's plateaus", _signs(last, grid, times), [0, 1, 0, -1]),
    ]
    result.numbers.update(
        times=times, levels=limit.loss,
        flow={flow["name"]: {"times": flow["times"], "errors": flow["error"]} for flow in flows},
    )  # fmt: skip
    result.curves.update(problem=problem, limit=limit, flows=flows, grid=grid, times=times, end=end)
    return result


def _name(exponent: float) -> str:
    return f"{10**exponent:g}" if exponent > -7 else f"1e{exponent:.0f}"


def _signs(flow: dict[str, Any], grid: Any, times: Any) -> list[int]:
    """The sign of beta_0, to a thousandth, late on each plateau."""
    moments = np.concatenate([[0.0], times, [grid[-1]]])
    late = [int(np.searchsorted(grid, a + 0.9 * (b - a))) for a, b in itertools.pairwise(moments)]
    return [int(np.sign(np.round(flow["beta"][k, 0], 3))) for k in late]


def draw(result: Result) -> dict[str, Any]:
    """Loss and trajectories for every scale; log-norms and angles of the two neurons."""
    return {"": _draw_loss(result), "neurons": _draw_neurons(result)}


def _draw_loss(result: Result) -> Any:
    curves = result.curves
    limit, flows, grid = curves["limit"], curves["flows"][:_SHOWN], curves["grid"]
    made, [[left, right]] = figure(1, 2, size=(7.4, 3.3))
    for flow, colour in zip(flows, shades(len(flows), "plasma"), strict=True):
        left.plot(grid, flow["loss"], color=colour, lw=1.1, label=rf"flow, $\alpha={_tex(flow['name'])}$")
        right.plot(*flow["beta"].T, color=colour, lw=1.1)
    left.plot(*staircase(limit.time, limit.loss, curves["end"]), color=AGF, ls="--", label="AGF, limit path")
    left.set_xlabel(r"time $t\,/\,\ln(1/\alpha)$")
    left.set_ylabel(LOSS)
    left.set_title("loss")
    left.set_xlim(0.0, curves["end"])
    left.legend(fontsize=7)
    problem = curves["problem"]
    corners = np.array([learned(problem, state) for state in limit.states])
    x, y = np.meshgrid(np.linspace(-0.45, 0.7, 80), np.linspace(-0.15, 2.2, 80))
    away = np.stack([x - corners[-1, 0], y - corners[-1, 1]], axis=-1)
    sigma = _covariance(problem)
    right.contour(x, y, 0.5 * np.einsum("...i,ij,...j->...", away, sigma, away), levels=14, colors=GREY,
                  linewidths=0.4, alpha=0.7)  # fmt: skip
    corners = np.vstack([np.zeros(2), corners])
    right.plot(*corners.T, color=AGF, ls="--", marker="o", ms=4, label="AGF, limit path")
    right.plot(*corners[-1], marker="*", ms=10, color=THEORY, ls="", label=r"$\beta^*$")
    right.set_xlabel(r"$\beta_0$")
    right.set_ylabel(r"$\beta_1$")
    right.set_title("trajectories over contours of the loss")
    right.legend(fontsize=7, loc="upper right")
    label_panels([left, right])
    return made


def _covariance(problem: Any) -> Any:
    """E[x x'], from the residual's change by each coefficient."""
    base = np.asarray(problem.residual(np.zeros((2, 2))))
    columns = []
    for i in range(2):
        theta = np.zeros((2, 2))
        theta[i] = 1.0
        columns.append(base - np.asarray(problem.residual(theta)))
    X = np.stack(columns, axis=1)
    return X.T @ X / len(X)


def _draw_neurons(result: Result) -> Any:
    curves = result.curves
    grid = curves["grid"]
    made, axes = figure(2, 2, size=(7.4, 5.0), sharex=True)
    for column, index in enumerate((3, 6)):
        flow = curves["flows"][index]
        for i, colour in zip(range(2), COLOURS[2:], strict=False):
            axes[0, column].plot(grid, flow["log_norm"][:, i], color=colour, label=f"coordinate {i}")
            axes[1, column].plot(grid, flow["angle"][:, i] / np.pi, color=colour)
        axes[0, column].axhline(0.0, color=GREY, lw=0.7, ls=":")
        axes[0, column].set_title(rf"$\alpha={_tex(flow['name'])}$")
        axes[1, column].set_xlabel(r"time $t\,/\,\ln(1/\alpha)$")
        axes[1, column].set_yticks((-0.25, 0.0, 0.25), ("$-1/4$", "0", "$1/4$"))
        for ax in axes[:, column]:
            for k, time in enumerate(curves["times"]):
                ax.axvline(time, color=AGF, lw=0.8, ls="--", label="AGF jumps" if k == 0 else None)
    axes[0, 0].set_ylabel(r"$\ln\Vert\theta_i\Vert\,/\,\ln(1/\alpha)$")
    axes[1, 0].set_ylabel(r"angle of $\theta_i=(u,v)$, in $\pi$")
    legend_below(made, *axes[0, 0].get_legend_handles_labels())
    label_panels(axes)
    return made


def _tex(name: str) -> str:
    mantissa, _, power = name.partition("e")
    if not power:
        return name
    return f"10^{{{int(power)}}}" if mantissa == "1" else rf"{mantissa}\cdot 10^{{{int(power)}}}"


EXPERIMENT = Experiment("diagonal-2d", "a coordinate that falls dormant and returns", compute, draw, seconds=2.0)
