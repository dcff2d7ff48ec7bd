"""AGF meets gradient flow as the initialisation vanishes, in every architecture (Open Question 1, arXiv 2506.06489)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._compare import compare
from .._dense import Dense
from .._diagonal import Diagonal
from .._problem import Problem
from .._state import State
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_most, within
from ._paper import attention, commuting, modular_addition, plane
from ._style import COLOURS, GREY, figure, label_panels

# log10 of alpha. kappa = 2 goes on far below double; kappa = 3 has errors of integration (rtol 1e-9) by 1e-6.
TINY = (-16, -64, -256, -1024, -4096)
SMALL = (-2, -2.5, -3, -3.5, -4)


@dataclass(frozen=True)
class _System:
    name: str
    make: Callable[[int], Problem]
    start: Callable[[Problem, float, int], State]
    scales: tuple[float, ...]
    jumps: int | None = None  # compared: the first so many, all by default


def _wide(width: int) -> Callable[[Problem, float, int], State]:
    return lambda problem, log, seed: problem.initialize(width, log_scale=log, seed=seed)


def _coordinates(problem: Problem, log: float, seed: int) -> State:
    del seed
    assert isinstance(problem, Diagonal)
    return problem.initialize(log_scale=log)


def _teacher(activation: str) -> Callable[[int], Problem]:
    def make(seed: int) -> Problem:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(60, 4))
        Y = np.maximum(X @ rng.normal(size=(4, 2)), 0.0) @ rng.normal(size=(2, 2))
        return Dense(X, Y - Y.mean(axis=0), activation=activation)

    return make


# Past the first jump a network of samples has neurons whose order depends on the scale; its first plateau does not.
# The dormant neurons of tanh all follow its linear term, to one direction and to norm 1 within O(1) of time of each
# other at any scale, so only a neuron alone comes to rest.
SYSTEMS = (
    _System("diagonal", lambda seed: plane(), _coordinates, TINY),
    _System("linear", lambda seed: commuting(5, seed)[0], _wide(5), TINY),
    _System("relu", _teacher("relu"), _wide(4), TINY, jumps=1),
    _System("tanh", _teacher("tanh"), _wide(1), TINY),
    _System("attention", lambda seed: attention(), _wide(5), SMALL),
    _System("modular addition", lambda seed: modular_addition(), _wide(18), SMALL, jumps=1),
)


def compute(setup: Setup) -> Result:
    """Errors of times and levels over the scale, with fitted rates; the small variant has every second scale."""
    seed = setup.seed_or(0)
    result = Result(facts={"seed": seed})
    rows, curves = [], {}
    for system in SYSTEMS:
        problem = system.make(seed)
        scales = system.scales[::2] if setup.small else system.scales
        errors = np.array([_error(system, problem, exponent, seed) for exponent in scales])
        logs = -np.array(scales) * np.log(10.0)
        kappa = problem.kappa
        # kappa = 2: time / ln(1/alpha) is off by a constant time; kappa = 3: time alpha is.
        measure = np.log(logs) if kappa == 2 else -logs
        rate = float(np.polyfit(measure, np.log(errors[:, 0]), 1)[0])
        expected = -1.0 if kappa == 2 else 1.0
        unit = "ln(1/alpha)" if kappa == 2 else "alpha"
        rows.append([system.name, f"{kappa:g}", errors[0, 0], errors[-1, 0], f"{unit}^{rate:.3f}", errors[-1, 1]])
        told = f"{system.name}: time error as a power of {unit}"
        result.checks.append(within(told, rate, expected, 0.1))
        result.checks.append(at_most(f"{system.name}: level error at the least scale, over L(0)", errors[-1, 1], 1e-6))
        curves[system.name] = {"logs": logs, "scales": scales, "kappa": kappa, "errors": errors, "rate": rate}
    heads = ["system", "kappa", "first time error", "last time error", "goes like", "last level error"]
    result.tables.append(Table("AGF against gradient flow as alpha vanishes: largest relative errors", heads, rows, 4))
    result.numbers.update(curves)
    result.curves.update(systems=curves)
    return result


def _error(system: _System, problem: Problem, exponent: float, seed: int) -> tuple[float, float]:
    """Largest relative time error, and largest level error over L(0), of the jumps compared."""
    start = system.start(problem, exponent * np.log(10.0), seed)
    path = alternating_gradient_flow(problem, start, max_jumps=None if system.jumps is None else system.jumps + 1)
    if system.jumps is None:
        end = 1.1 * float(path.time[-1]) + 100.0
        truth = gradient_flow(problem, start, end)
        found = compare(path, truth)
        if len(found.matches) < len(path.jumps):
            return np.nan, np.nan
        return found.max_time_error, found.max_level_error
    # To the middle of the plateau, where the flow is at rest.
    last = path.jumps[system.jumps - 1].time
    truth = gradient_flow(problem, start, 0.5 * (last + path.jumps[system.jumps].time))
    mine, theirs = path.jumps[: system.jumps], truth.jumps[: system.jumps]
    if len(theirs) < system.jumps:
        return np.nan, np.nan
    times = max(abs(a.time / b.time - 1.0) for a, b in zip(mine, theirs, strict=True))
    levels = abs(mine[-1].loss_after - float(truth.loss[-1]))
    return times, levels / float(truth.loss[0])


def draw(result: Result) -> dict[str, Any]:
    """Time errors over ln(1/alpha) for kappa = 2, over alpha for kappa = 3."""
    systems = result.curves["systems"]
    made, axes = figure(1, 2, size=(7.2, 3.0))
    left, right = axes[0]
    for (name, found), colour in zip(systems.items(), COLOURS, strict=False):
        ax = left if found["kappa"] == 2 else right
        x = found["logs"] if found["kappa"] == 2 else np.exp(-found["logs"])
        ax.plot(x, found["errors"][:, 0], color=colour, marker="o", label=f"{name} (power {found['rate']:.2f})")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylabel("largest relative time error")
    low, high = left.get_xlim()
    guide = np.array([low * 1.2, high / 1.2])
    left.plot(guide, 0.1 / guide, color=GREY, lw=0.8, ls=":", label=r"$\propto 1/\ln(1/\alpha)$")
    high, low = right.get_xlim()
    guide = np.array([high * 1.2, low / 1.2])
    right.plot(guide, 0.1 * guide, color=GREY, lw=0.8, ls=":", label=r"$\propto\alpha$")
    right.invert_xaxis()
    left.set_xlabel(r"$\ln(1/\alpha)$")
    right.set_xlabel(r"initial scale $\alpha$")
    left.set_title(r"$\kappa=2$")
    right.set_title(r"$\kappa=3$")
    for ax in (left, right):
        ax.legend(fontsize=7, loc="lower left")
    label_panels(axes[0])
    return {"": made}


EXPERIMENT = Experiment("convergence", "AGF meets gradient flow as the initialisation vanishes", compute, draw, 12.0)
