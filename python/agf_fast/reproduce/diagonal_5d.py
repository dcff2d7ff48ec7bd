"""Sparse regression by a diagonal network, from the lazy regime to the rich one (section 3 of arXiv 2506.06489)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._diagnostics import kernel_movement
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most, equal, within
from ._paper import five, learned
from ._style import AGF, COLOURS, GREY, LOSS, THEORY, figure, label_panels, shades, staircase

SCALES = (0.99, 0.5, 1e-1, 1e-2, 1e-4, 1e-8, 1e-16)
# Lazy from about |beta*| on: the kernel then hardly moves.
LAZY = (100.0, 10.0, 3.0)
TIMES = (0.120120, 0.600696, 0.981709, 1.112283, 4.219254)


def compute(setup: Setup) -> Result:
    """The limit path, flows from lazy to rich; takes a second, so the small variant is the same."""
    problem, weights = five(setup.seed_or(10))
    limit = alternating_gradient_flow(problem, limit=True)
    times = limit.time[1:]
    end = 1.15 * times[-1]
    flows: list[dict[str, Any]] = []
    for scale in SCALES:
        # From 0.99 ln(1/alpha) is no unit of time; those flows are shown in their own.
        unit = max(-np.log(scale), 1.0)
        start = problem.initialize(scale=scale)
        truth = gradient_flow(problem, start, 4.0 * end * unit)
        grid = np.linspace(0.0, end * unit, 600)
        shown = gradient_flow(problem, start, grid[-1], save_at=grid)
        beta = np.array([problem.coefficients(state) for state in shown.states])
        moved = kernel_movement(problem, start, truth.state)
        flows.append({"scale": scale, "unit": unit, "grid": grid / unit, "loss": shown.loss, "beta": beta,
                      "truth": truth, "movement": moved.distance, "growth": moved.log_growth,
                      "error": _curve_error(limit, grid / unit, shown.loss)})  # fmt: skip
    lazy = []
    for scale in LAZY:
        start = problem.initialize(scale=scale)
        truth = gradient_flow(problem, start, 400.0)
        moved = kernel_movement(problem, start, truth.state)
        lazy.append({"scale": scale, "movement": moved.distance, "growth": moved.log_growth, "truth": truth})
    result = Result(facts={"n": 20, "d": 5, "seed": setup.seed_or(10), "beta*": weights})
    result.tables.append(
        Table(
            "The limit path, times in units of ln(1/alpha)",
            ["jump", "coordinate", "time", "level", "gap"],
            [[k + 1, j.neuron, j.time, j.loss_after, j.gap] for k, j in enumerate(limit.jumps)],
        )
    )
    rows = [
        [f"{f['scale']:g}", len(f["truth"].jumps), f["movement"], f["growth"], f.get("error")] for f in lazy + flows
    ]
    heads = ["alpha", "flow jumps", "kernel distance", "ln(kernel growth)", "curve error"]
    result.tables.append(
        Table("From lazy to rich: movement of the tangent kernel, mean |L - L_limit| / L(0) over time", heads, rows, 4)
    )
    order = [jump.neuron for jump in limit.jumps]
    movement = [f["movement"] for f in lazy + flows]
    errors = [f["error"] for f in flows]
    result.checks += [
        at_most(f"lazy: the kernel keeps its shape at alpha = {LAZY[0]:g}, distance", movement[0], 1e-6),
        at_least(
            "rich: it moves at alpha = 1e-16, distance over the lazy one", movement[-1] / max(movement[0], 1e-16), 1e6
        ),
        at_most("curve error at 1e-16 over that at 0.1", errors[-1] / errors[2], 0.2),
        at_least("ln of the kernel's growth, over 2 ln(1/alpha), at 1e-16", flows[-1]["growth"] / (2 * 36.84), 1.0),
        equal("flow at 1e-16: coordinates by when they come up", _order(flows[-1]), order),
    ]
    if setup.seed is None:
        result.checks.append(equal("coordinates in order 1, 2, 3, 0, 4", order, [1, 2, 3, 0, 4]))
        told = "times .120120, .600696, .981709, 1.112283, 4.219254"
        result.checks.append(within(told, times, TIMES, 5e-7))
    result.numbers.update(times=times, levels=limit.loss, order=order,
                          kernel_distance={f"{f['scale']:g}": f["movement"] for f in lazy + flows})  # fmt: skip
    result.curves.update(problem=problem, limit=limit, flows=flows, lazy=lazy, end=end, weights=weights)
    return result


def _curve_error(limit: Any, grid: Any, loss: Any) -> float:
    steps = np.asarray(limit.loss)[np.searchsorted(limit.time, grid, side="right") - 1]
    return float(np.mean(np.abs(np.asarray(loss) - steps)) / limit.loss[0])


def _order(flow: dict[str, Any]) -> list[int]:
    """Coordinates by when |beta_i| first passes a hundredth of its largest value."""
    size = np.abs(flow["beta"])
    return [int(i) for i in np.argsort(np.argmax(size > 0.01 * size.max(axis=0), axis=0))]


def draw(result: Result) -> dict[str, Any]:
    """Loss and coefficients over the scales; how far the tangent kernel moves."""
    return {"": _draw_curves(result), "kernel": _draw_kernel(result)}


def _draw_curves(result: Result) -> Any:
    curves = result.curves
    limit, flows = curves["limit"], curves["flows"]
    made, axes = figure(1, 3, size=(9.6, 3.2))
    left, middle, right = axes[0]
    for flow, colour in zip(flows, shades(len(flows), "plasma"), strict=True):
        left.plot(flow["grid"], flow["loss"], color=colour, lw=1.1, label=rf"$\alpha={_tex(flow['scale'])}$")
    left.plot(*staircase(limit.time, limit.loss, curves["end"]), color=AGF, ls="--", label="AGF, limit path")
    left.set_yscale("log")
    left.set_ylim(1e-3, 2.0 * limit.loss[0])
    left.set_ylabel(LOSS)
    left.set_title("loss")
    left.legend(fontsize=6.5, ncols=2, loc="lower left")
    corners = np.vstack([np.zeros(5), [learned(curves["problem"], state) for state in limit.states]])
    for ax, flow in ((middle, flows[2]), (right, flows[-1])):
        for i, colour in zip(range(5), COLOURS, strict=False):
            ax.plot(flow["grid"], flow["beta"][:, i], color=colour, label=rf"$\beta_{i}$")
            time, value = staircase(limit.time, corners[:, i], curves["end"])
            ax.plot(time, value, color=colour, lw=0.8, ls="--")
            ax.plot(curves["end"], curves["weights"][i], marker="<", color=colour, ms=5, clip_on=False, ls="")
        ax.set_title(rf"$\alpha={_tex(flow['scale'])}$ (dashed: AGF, ◁: $\beta^*$)")
    middle.set_ylabel(r"$\beta_i$")
    right.legend(fontsize=7, ncols=5, loc="lower center", columnspacing=1.0, handlelength=1.2)
    # Room for the legend below.
    low, high = min(0.0, float(curves["weights"].min())), max(0.0, float(curves["weights"].max()))
    for ax in (middle, right):
        ax.set_ylim(low - 0.35 * (high - low), high + 0.15 * (high - low))
    for ax in axes[0]:
        ax.set_xlim(0.0, curves["end"])
        ax.set_xlabel(r"time $t\,/\,\max(\ln(1/\alpha), 1)$")
    label_panels(axes[0])
    return made


def _draw_kernel(result: Result) -> Any:
    both = result.curves["lazy"] + result.curves["flows"]
    made, [[ax]] = figure(1, 1, size=(3.8, 2.9))
    ax.plot([f["scale"] for f in both], [f["movement"] for f in both], color=THEORY, marker="o")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks([1e2, 1e-2, 1e-6, 1e-10, 1e-14])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.axvline(float(np.abs(result.curves["weights"]).max()) ** 0.5, color=GREY, lw=0.8, ls=":")
    ax.annotate(r"$\sqrt{\max|\beta^*|}$", (float(np.abs(result.curves["weights"]).max()) ** 0.5, 1e-7), fontsize=7,
                xytext=(4, 0), textcoords="offset points")  # fmt: skip
    ax.set_xlabel(r"initial scale $\alpha$ (lazy to rich)")
    ax.set_ylabel(r"kernel distance $1-\cos(K_0, K_\infty)$")
    ax.set_title("movement of the tangent kernel")
    return made


def _tex(scale: float) -> str:
    return f"{scale:g}" if scale >= 0.01 else f"10^{{{round(np.log10(scale))}}}"


EXPERIMENT = Experiment("diagonal-5d", "sparse regression, from lazy to rich", compute, draw, seconds=2.0)
