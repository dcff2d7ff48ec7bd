"""Neuron-specific learning rates |theta|^(2 - kappa), kappa = 3 (Theorem B.2 and section B.5 of arXiv 2506.06489)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._problem import Problem
from .._state import State
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most, equal, within
from ._paper import attention, components_learned, modular_addition
from ._style import COLOURS, GREY, figure, label_panels

SCALES = (1e-1, 1e-2, 1e-3, 1e-4)
ALIGNED = 0.99  # cosine with the direction that activates
RATES = ("fixed", "adaptive")
# Where AGF meets the flow: powers of alpha without adaptive rates, powers of ln(1/alpha) with them.
TIMING = {"fixed": (-2.0, -3.0, -4.0), "adaptive": (-4.0, -8.0, -16.0, -32.0, -64.0)}
_SEEDS = 3
_POINTS = 300


def compute(setup: Setup) -> Result:
    """Alignment over time and at activation, order and times, with either clock; the small variant has one seed."""
    seed = setup.seed_or(0)
    seeds = range(seed, seed + (1 if setup.small else _SEEDS))
    systems: dict[str, tuple[Problem, int]] = {
        "modular addition": (modular_addition(), 18),
        "attention": (attention(), 5),
    }
    found: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for name, (problem, width) in systems.items():
        for rates in RATES:
            runs = [[_first(problem, problem.initialize(width, scale, k), rates == "adaptive") for k in seeds]
                    for scale in SCALES]  # fmt: skip
            found[name, rates] = {key: np.array([np.median([run[key] for run in row]) for row in runs])
                                  for key in ("aligned", "jump", "angle")}  # fmt: skip
    errors = {(name, rates): _first_errors(*systems[name], rates, seed) for name in systems for rates in RATES}
    orders = {rates: _orders(rates == "adaptive", seed) for rates in RATES}

    result = Result(facts={"seeds": list(seeds), "aligned at cosine": ALIGNED, "kappa": 3})
    rows = []
    for (name, rates), at in found.items():
        for k, scale in enumerate(SCALES):
            share = at["aligned"][k] / at["jump"][k]
            rows.append([name, rates, f"{scale:g}", at["aligned"][k], at["jump"][k], share, at["angle"][k]])
    heads = ["system", "rates", "alpha", "aligned at", "jump at", "share of wait", "angle at activation"]
    result.tables.append(
        Table("The first neuron to activate (medians over seeds, times in flow units)", heads, rows, 4)
    )
    rows = [
        [name, rates, f"1e{exponent:.0f}", error]
        for name in systems for rates in RATES
        for exponent, error in zip(TIMING[rates], errors[name, rates], strict=True)
    ]  # fmt: skip
    heads = ["system", "rates", "alpha", "error of the first time"]
    result.tables.append(Table("AGF beside the flow: when the first drop passes its middle", heads, rows, 4))
    result.tables.append(Table(
        "Features in order of first activation", ["system", *RATES],
        [[name, *(", ".join(map(str, orders[rates][name])) for rates in RATES)] for name in systems],
    ))  # fmt: skip

    for name in systems:
        fixed, adaptive = found[name, "fixed"], found[name, "adaptive"]
        standing = [
            float(times[-1] / times[-2]) for times in (fixed["aligned"] * np.array(SCALES), adaptive["aligned"])
        ]
        result.checks += [
            within(f"{name}: alignment time x alpha^(kappa-2) at 1e-4 over 1e-3, fixed rates", standing[0], 1.0, 0.05),
            within(f"{name}: alignment time at 1e-4 over 1e-3, adaptive rates", standing[1], 1.0, 0.05),
        ]
        shares = [at["aligned"] / at["jump"] for at in (fixed, adaptive)]
        result.checks += [
            at_least(f"{name}: share of the wait spent unaligned, 1e-4 over 1e-1, fixed rates",
                     float(shares[0][-1] / shares[0][0]), 0.9),
            at_most(f"{name}: the same with adaptive rates", float(shares[1][-1] / shares[1][0]), 0.6),
        ]  # fmt: skip
        powers = [float(np.polyfit(np.log(SCALES[1:]), np.log(at["angle"][1:]), 1)[0]) for at in (fixed, adaptive)]
        result.numbers[f"{name}: power of alpha of the angle at activation"] = powers
        if name == "modular addition":
            # All directions but the best decay together here; in attention the runner-up components decay more slowly.
            result.checks.append(
                within("modular addition: angle at activation as a power of alpha", powers, (1.0, 1.0), 0.03)
            )
        else:
            result.notes.append(
                f"In {name} the angle at activation goes like alpha^{powers[0]:.2f} with fixed rates and "
                f"alpha^{powers[1]:.2f} with adaptive ones: the components next to the largest decay more slowly."
            )
    for name in systems:
        expected = [1, 3, 5] if name == "modular addition" else [0, 1, 2, 3]
        for rates in RATES:
            result.checks.append(equal(f"{name}: order, {rates} rates", orders[rates][name], expected))
    slopes: dict[str, list[float]] = {}
    for name in systems:
        fixed_logs, adaptive_logs = (np.log(errors[name, rates]) for rates in RATES)
        slopes[name] = [
            float(np.polyfit(np.array(TIMING["fixed"]) * np.log(10.0), fixed_logs, 1)[0]),
            float(np.polyfit(np.log(-np.array(TIMING["adaptive"])), adaptive_logs, 1)[0]),
        ]
        result.checks += [
            within(f"{name}: time error as a power of alpha, fixed rates", slopes[name][0], 1.0, 0.15),
            within(f"{name}: time error as a power of ln(1/alpha), adaptive rates", slopes[name][1], -1.0, 0.15),
        ]
    result.notes.append(
        "Adaptive rates make alignment instantaneous in the clock of the jumps, as kappa = 2 has it; the price is that "
        "AGF's times meet the flow's like 1/ln(1/alpha), where fixed rates have them meet like alpha."
    )
    result.numbers.update(
        scales=SCALES, time_error_powers=slopes, orders=orders,
        **{f"{name}, {rates}": at for (name, rates), at in found.items()},
        **{f"{name}, {rates}: time errors": at for (name, rates), at in errors.items()},
    )  # fmt: skip
    result.curves.update(found=found, errors=errors, systems=tuple(systems))
    return result


def _first(problem: Problem, start: State, adaptive: bool) -> dict[str, float]:
    """When the neuron that activates first is aligned and when it activates, and the angle left then."""
    path = alternating_gradient_flow(
        problem, start, max_jumps=1, adaptive_rate=adaptive, active_time=1e-6, rtol=1e-8
    )  # the race only
    jump = path.jumps[0]
    # Dormant neurons do not feel one another: its own flow, alone.
    alone = State(start.direction[jump.neuron][None], start.log_norm[jump.neuron][None], log_eta=path.log_eta)
    grid = np.linspace(0.0, jump.time * (1.0 - 1e-9), _POINTS)
    states = gradient_flow(problem, alone, jump.time, adaptive_rate=adaptive, save_at=grid, rtol=1e-6).states
    cosine = np.array([state.direction[0] @ jump.direction for state in states])
    k = int(np.argmax(cosine > ALIGNED))
    part = (ALIGNED - cosine[k - 1]) / (cosine[k] - cosine[k - 1]) if k > 0 else 0.0
    aligned = grid[k - 1] + part * (grid[k] - grid[k - 1]) if k > 0 else 0.0
    return {"aligned": float(aligned), "jump": jump.time, "angle": float(np.sqrt(2.0 * max(1.0 - jump.alignment, 0.0)))}


def _first_errors(problem: Problem, width: int, rates: str, seed: int) -> NDArray[np.float64]:
    """Relative error of AGF's first jump against when the flow's loss passes the middle of that drop, over the scales.

    With adaptive rates later jumps grow from parts of the directions that fall below the rounding of a double from
    about 1e-20 on, the runs saying so.
    """
    adaptive = rates == "adaptive"
    errors = []
    for exponent in TIMING[rates]:
        start = problem.initialize(width, log_scale=exponent * np.log(10.0), seed=seed)
        path = alternating_gradient_flow(
            problem, start, adaptive_rate=adaptive, max_jumps=1, active_time=100.0, rtol=1e-7
        )
        jump = path.jumps[0]
        truth = gradient_flow(problem, start, 1.1 * jump.time + 1.0, adaptive_rate=adaptive, rtol=1e-7)
        loss, time = np.asarray(truth.loss), np.asarray(truth.time)
        middle = 0.5 * (jump.loss_before + jump.loss_after)
        k = int(np.argmax(loss < middle))
        crossed = time[k - 1] + (loss[k - 1] - middle) / (loss[k - 1] - loss[k]) * (time[k] - time[k - 1])
        errors.append(abs(jump.time / crossed - 1.0) if k > 0 else np.nan)
    return np.array(errors)


def _orders(adaptive: bool, seed: int) -> dict[str, list[int]]:
    modular, linear = modular_addition(), attention()
    path = alternating_gradient_flow(
        modular, modular.initialize(18, 1e-2, seed), adaptive_rate=adaptive, active_time=100.0, rtol=1e-6,
        loss_tol=0.01, max_jumps=14,
    )  # fmt: skip
    frequencies = list(modular.first_activations(path))
    path = alternating_gradient_flow(linear, linear.initialize(5, 1e-3, seed), adaptive_rate=adaptive)
    learned = components_learned(linear, path)
    return {"modular addition": frequencies, "attention": list(dict.fromkeys(learned))}


def draw(result: Result) -> dict[str, Any]:
    """Alignment times, angles at activation and time errors over the scale."""
    found, errors = result.curves["found"], result.curves["errors"]
    made, axes = figure(1, 3, size=(9.0, 3.0))
    left, middle, right = axes[0]
    for name, colour in zip(result.curves["systems"], COLOURS[2:], strict=False):
        for rates, look in zip(RATES, ("-", "--"), strict=True):
            at = found[name, rates]
            label = f"{name}, {rates}"
            left.plot(SCALES, at["aligned"] / at["jump"], color=colour, ls=look, marker="o", label=label)
            middle.plot(SCALES, at["angle"], color=colour, ls=look, marker="o", label=label)
    middle.plot(SCALES, np.array(SCALES) * 0.5, color=GREY, lw=0.8, ls=":", label=r"$\propto\alpha^{\kappa-2}$")
    for ax in (left, middle):
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel(r"initial scale $\alpha$")
    left.set_ylim(0.0, 1.05)
    left.set_ylabel("share of the wait until aligned")
    left.set_title("alignment of the first neuron")
    left.legend(fontsize=6.5, loc="lower left", handlelength=3.4)
    middle.set_yscale("log")
    middle.set_ylabel("angle at activation (rad)")
    middle.set_title("misalignment left")
    middle.legend(fontsize=6.5, handlelength=3.4)
    for name, colour in zip(result.curves["systems"], COLOURS[2:], strict=False):
        for rates, look in zip(RATES, ("-", "--"), strict=True):
            logs = -np.array(TIMING[rates]) * np.log(10.0)
            right.plot(logs, errors[name, rates], color=colour, ls=look, marker="o", label=f"{name}, {rates}")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel(r"$\ln(1/\alpha)$")
    right.set_ylabel("relative error of the first time")
    right.set_title("AGF against the flow")
    right.legend(fontsize=6.5, handlelength=3.4)
    label_panels(axes[0])
    return {"": made}


EXPERIMENT = Experiment(
    "adaptive-rates", "neuron-specific learning rates and their clocks", compute, draw, seconds=10.0
)
