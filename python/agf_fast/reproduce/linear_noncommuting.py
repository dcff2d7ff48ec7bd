"""Conjecture 4.1 where its proof does not reach: data that do not commute (Open Question 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._linear import Linear
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most, within
from ._paper import bases
from ._style import AGF, COLOURS, FLOW, LOSS, THEORY, figure, label_panels, staircase

SIZE = 10
LOG10_SCALES = (-15, -100, -1000, -10000)
# Sigma_xx has eigenvalues j^-power in a basis of its own.
FAMILIES = ((0.5, 3), (2.0, 3))


def compute(setup: Setup) -> Result:
    """Relative gap of AGF's jump times to the conjecture as alpha vanishes, on six data sets; the small variant has
    two."""
    seed = setup.seed_or(0)
    cases = []
    for power, count in FAMILIES:
        for number in range(1 if setup.small else count):
            problem = data(power, seed + number)
            theory = problem.theory(SIZE)
            expected = np.array([jump.scaled_time for jump in theory.jumps])
            gaps, levels = [], []
            for exponent in LOG10_SCALES:
                log = -exponent * np.log(10.0)
                path = alternating_gradient_flow(problem, problem.initialize(SIZE, log_scale=-log, seed=seed))
                times = np.array([jump.time for jump in path.jumps]) / log
                together = min(len(times), len(expected))
                gaps.append(np.abs(times[:together] / expected[:together] - 1.0).max() if together == SIZE else np.inf)
                after = np.array([jump.loss_after for jump in path.jumps])[:together]
                levels.append(float(np.abs(after - theory.levels[1 : 1 + together]).max() / theory.levels[0]))
            cases.append({"power": power, "seed": seed + number, "commutator": theory.facts["commutator"],
                          "gaps": np.array(gaps), "level_error": max(levels), "expected": expected})  # fmt: skip
    logs = -np.array(LOG10_SCALES) * np.log(10.0)
    result = Result(facts={"c = H = d": SIZE, "seed": seed, "Sigma_xx eigenvalues": "j^-1/2 and j^-2, random basis"})
    result.tables.append(
        Table(
            "Largest relative gap of a jump time to Conjecture 4.1",
            ["eigenvalues", "seed", "commutator", *(f"1e{k}" for k in LOG10_SCALES), "level error"],
            [[f"j^-{c['power']:g}", c["seed"], c["commutator"], *c["gaps"], c["level_error"]] for c in cases],
            digits=3,
        )
    )
    # If the gap is constant / ln(1/alpha), gap x ln(1/alpha) stands still from one scale to the next.
    constants = np.array([case["gaps"] * logs for case in cases])
    rates = np.log(constants[:, -1] / constants[:, -2]) / np.log(logs[-1] / logs[-2]) - 1.0
    result.checks += [
        at_least("relative commutator of the data, least", min(c["commutator"] for c in cases), 0.05),
        at_most(f"gap at 1e{LOG10_SCALES[-1]}, largest", float(max(c["gaps"][-1] for c in cases)), 2e-3),
        within(f"power of ln(1/alpha) with which it falls, 1e{LOG10_SCALES[-2]} to 1e{LOG10_SCALES[-1]}", rates,
               -np.ones(len(rates)), 0.1),
        at_most("levels against the conjecture, error over L(0)", max(c["level_error"] for c in cases), 1e-8),
    ]  # fmt: skip
    result.notes.append(
        f"Between 1e{LOG10_SCALES[-2]} and 1e{LOG10_SCALES[-1]} the gap falls like ln(1/alpha) to the power "
        f"{rates.min():.2f} to {rates.max():.2f}; where the data commute, and the conjecture is proved, it is -1."
    )
    result.numbers.update(log10_scales=LOG10_SCALES, cases=cases)
    problem = data(FAMILIES[0][0], seed)
    start = problem.initialize(SIZE, log_scale=-logs[0], seed=seed)
    path = alternating_gradient_flow(problem, start)
    end = 1.05 * float(path.time[-1])
    truth = gradient_flow(problem, start, end)
    result.curves.update(cases=cases, logs=logs, path=path, truth=truth, theory=problem.theory(SIZE), end=end)
    return result


def data(power: float, seed: int) -> Linear:
    """Sigma_yx of singular values j^-0.7, Sigma_xx of eigenvalues j^-power, in bases that have nothing in common."""
    left, right = bases(SIZE, seed)
    own, _ = bases(SIZE, seed + 100)
    index = np.arange(1, SIZE + 1, dtype=np.float64)
    return Linear.from_moments(_symmetric(own, index**-power), left @ np.diag(index**-0.7) @ right.T)


def _symmetric(basis: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = (basis * values) @ basis.T
    return np.asarray(0.5 * (matrix + matrix.T))


def draw(result: Result) -> dict[str, Any]:
    """Loss at alpha = 1e-15; the gap over the logarithm of the scale."""
    curves = result.curves
    path, truth, theory, logs = (curves[name] for name in ("path", "truth", "theory", "logs"))
    made, [[left, right]] = figure(1, 2, size=(7.2, 3.0))
    end = curves["end"] / logs[0]
    times = np.array([0.0, *(jump.scaled_time for jump in theory.jumps)])
    left.plot(*staircase(times, theory.levels, end), color=THEORY, lw=1.0, ls=":", label="Conjecture 4.1")
    left.plot(*staircase(np.asarray(path.time) / logs[0], path.loss, end), color=AGF, label="AGF")
    left.plot(np.asarray(truth.time) / logs[0], truth.loss, color=FLOW, ls="--", label="gradient flow")
    left.set_xlabel(r"time $t\,/\,\ln(1/\alpha)$")
    left.set_ylabel(LOSS)
    left.set_xlim(0.0, end)
    left.set_title(r"loss at $\alpha=10^{-15}$, $\Sigma_{xx}\sim j^{-1/2}$")
    left.legend()
    for power, colour, marker in zip((0.5, 2.0), COLOURS[2:], "os", strict=False):
        for k, case in enumerate(c for c in curves["cases"] if c["power"] == power):
            right.plot(logs, case["gaps"], color=colour, marker=marker, lw=0.9, ms=3.5,
                       label=rf"eigenvalues $j^{{-{power:g}}}$" if k == 0 else None)  # fmt: skip
    right.plot(logs, logs[0] / logs * 0.1, color=THEORY, lw=1.0, ls=":", label=r"$\propto 1/\ln(1/\alpha)$")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel(r"$\ln(1/\alpha)$")
    right.set_ylabel("largest relative gap of a jump time")
    right.set_title("AGF against Conjecture 4.1")
    right.legend()
    label_panels([left, right])
    return {"": made}


EXPERIMENT = Experiment(
    "linear-noncommuting", "the conjecture where its proof does not reach", compute, draw, seconds=14.0
)
