"""General position on random designs, from flat spectra to ill-conditioned ones: where near-ties break the order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._diagonal import Diagonal
from .._trajectory import Trajectory
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most
from ._paper import learned
from ._style import COLOURS, GREY, figure, label_panels

SAMPLES, INPUTS, DRAWS = 40, 8, 25
POWERS = (0.0, 1.0, 2.0, 3.0)  # covariance eigenvalues j^-power in a random basis
LOG10_SCALES = (-4, -16, -100)
_POINTS = 40  # between successive jumps
# A coordinate counts as up at this log-norm, and its way from there to 0 is extrapolated: it may settle below norm 1.
# It may also come that near and turn back, so only the rise that takes it within _SHORT of where it settles counts.
_UP, _SHARE, _SHORT = -2.0, 0.02, 1.0
_EDGES = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, np.inf)


def compute(setup: Setup) -> Result:
    """Order and times of the flow against the limit path; the small variant has a fifth of the draws.

    Two coordinates that are first activated one after the other may change places in the flow. How far apart they are
    is told by what the second still lacks in ln|theta| when the first comes up, (tau_2 - tau_1) |g_2| ln(1/alpha).
    """
    seed = setup.seed_or(0)
    draws = DRAWS // 5 if setup.small else DRAWS
    runs: list[dict[str, Any]] = []
    for power in POWERS:
        for number in range(draws):
            problem, condition = design(power, seed + number)
            limit = alternating_gradient_flow(problem, limit=True)
            order, times, pull = _first(limit)
            for exponent in LOG10_SCALES:
                log = -exponent * np.log(10.0)
                crossing = _crossings(problem, limit, log)[order]
                runs.append({"power": power, "seed": seed + number, "condition": condition, "log10_scale": exponent,
                             "gap": float(min(jump.gap for jump in limit.jumps)),
                             "returns": sum(bool(jump.returned) for jump in limit.jumps),
                             "distance": np.diff(times) * pull[1:] * log, "kept": np.diff(crossing) > 0.0,
                             "time_error": float(np.median(np.abs(crossing / times - 1.0)))})  # fmt: skip
    result = Result(facts={"n": SAMPLES, "d": INPUTS, "draws": draws, "seed": seed})
    rows = []
    for power in POWERS:
        here = [run for run in runs if run["power"] == power]
        row: list[Any] = [f"j^-{power:g}", float(np.median([run["condition"] for run in here]))]
        row += [
            float(np.median([run["gap"] for run in here])),
            sum(r["returns"] > 0 for r in here) // len(LOG10_SCALES),
        ]
        for exponent in LOG10_SCALES:
            at = [run for run in here if run["log10_scale"] == exponent]
            share = float(np.mean(np.concatenate([run["kept"] for run in at])))
            row += [share, float(np.median([run["time_error"] for run in at]))]
        rows.append(row)
    heads = ["spectrum", "condition", "gap", "with returns"]
    for exponent in LOG10_SCALES:
        heads += [f"kept 1e{exponent}", "time error"]
    title = "Gradient flow against the limit path: share of successive pairs in order, and medians over draws"
    result.tables.append(Table(title, heads, rows, digits=3))
    bins = _bins(runs)
    title = "Pairs by what the second lacks in ln|theta| when the first comes up"
    result.tables.append(Table(title, ["distance", "pairs", "share in order"], bins, digits=3))
    distance, kept = (np.concatenate([run[name] for run in runs]) for name in ("distance", "kept"))
    result.checks += [
        at_least("pairs farther apart than 10 that keep their order", float(np.mean(kept[distance > 10.0])), 0.95),
        at_most("pairs nearer than 0.3 that keep their order", float(np.mean(kept[distance < 0.3])), 0.8),
    ]
    for power in POWERS:
        errors = [np.median([r["time_error"] for r in runs if r["power"] == power and r["log10_scale"] == exponent])
                  for exponent in (LOG10_SCALES[0], LOG10_SCALES[-1])]  # fmt: skip
        ratio = float(errors[1] / errors[0])
        # 1/ln(1/alpha) falls 25-fold from 1e-4 to 1e-100.
        result.checks.append(at_most(f"spectrum j^-{power:g}: median time error at 1e-100 over 1e-4", ratio, 0.2))
    result.numbers.update(runs=runs)
    result.curves.update(runs=runs, bins=bins)
    return result


def design(power: float, seed: int) -> tuple[Diagonal, float]:
    """A Gaussian design whose covariance has eigenvalues j^-power in a random basis, dense Gaussian weights, no noise;
    and the condition number of its sample covariance."""
    rng = np.random.default_rng([int(10 * power), seed])
    basis = np.linalg.qr(rng.normal(size=(INPUTS, INPUTS)))[0]
    spread = np.arange(1, INPUTS + 1) ** (-power / 2.0)
    X = rng.normal(size=(SAMPLES, INPUTS)) @ (basis * spread).T @ basis.T
    return Diagonal(X, X @ rng.normal(size=INPUTS)), float(np.linalg.cond(X) ** 2)


def _first(limit: Trajectory) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates by their first activation, when, and |g_i| then: a unit neuron has U = |g|/2."""
    seen: dict[int, tuple[float, float]] = {}
    for jump in limit.jumps:
        for neuron in jump.activated:
            seen.setdefault(neuron, (jump.time, 2.0 * jump.utility))
    times, pull = np.array(list(seen.values())).T
    return list(seen), times, pull


def _crossings(problem: Diagonal, limit: Trajectory, log: float) -> NDArray[np.float64]:
    """When each coordinate of the flow is first up, in units of ln(1/alpha); inf if it never is."""
    moments = np.concatenate([[0.0], limit.time[1:], [1.05 * limit.time[-1]]])
    grid = np.unique(np.concatenate([np.linspace(a, b, _POINTS) for a, b in itertools.pairwise(moments)]))
    truth = gradient_flow(problem, problem.initialize(log_scale=-log), grid[-1] * log, save_at=grid * log, rtol=1e-6)
    norms = np.array([state.log_norm for state in truth.states])
    found = np.full(norms.shape[1], np.inf)
    for i, course in enumerate(norms.T):
        # |theta_i|^2 = 2 |beta_i| once it is active, and it stays in reach of what the first jump gives it.
        size = next((float(abs(b[i])) for b in (learned(problem, s) for s in limit.states) if b[i] != 0.0), 0.0)
        if size == 0.0:
            continue
        settled = 0.5 * np.log(2.0 * size) - _SHORT
        there = int(np.argmax(course > settled))
        below = np.flatnonzero(course[:there] <= min(_UP - _SHARE * log, settled))
        if below.size:
            up = int(below[-1]) + 1
            slope = (course[up] - course[up - 1]) / (grid[up] - grid[up - 1])
            found[i] = grid[up - 1] - course[up - 1] / slope
    return found


def _bins(runs: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    distance, kept = (np.concatenate([run[name] for run in runs]) for name in ("distance", "kept"))
    rows = []
    for low, high in itertools.pairwise(_EDGES):
        here = kept[(distance >= low) & (distance < high)]
        label = f"{low:g} to {high:g}" if np.isfinite(high) else f"over {low:g}"
        rows.append((label, here.size, float(here.mean()) if here.size else np.nan))
    return rows


def draw(result: Result) -> dict[str, Any]:
    """Time errors against the gap of general position; the share of pairs in order against their distance."""
    runs, bins = result.curves["runs"], result.curves["bins"]
    made, axes = figure(1, 3, size=(8.6, 3.0))
    left, middle, right = axes[0]
    for ax, exponent in ((left, LOG10_SCALES[0]), (middle, LOG10_SCALES[-1])):
        for power, colour in zip(POWERS, COLOURS, strict=False):
            for broken, marker in ((False, "o"), (True, "x")):
                at = [r for r in runs if r["power"] == power and r["log10_scale"] == exponent]
                at = [r for r in at if bool(np.all(r["kept"])) != broken]
                ax.plot([r["gap"] for r in at], [r["time_error"] for r in at], ls="", marker=marker, ms=4, color=colour,
                        mfc="none", label=None if broken else rf"$\lambda_j=j^{{-{power:g}}}$")  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("general-position gap")
        ax.set_title(rf"$\alpha=10^{{{exponent}}}$ (crosses: a pair changed)")
    left.set_ylabel("median relative time error")
    left.legend(fontsize=7, loc="lower left")
    places = np.arange(len(bins))
    right.bar(places, [share for _, _, share in bins], color=GREY, width=0.7)
    right.set_xticks(places, [label for label, _, _ in bins], rotation=35, ha="right")
    right.set_xlabel(r"distance of a pair in $\ln\Vert\theta\Vert$")
    right.set_ylabel("share of pairs in order")
    right.set_title("all scales")
    right.set_ylim(0.0, 1.05)
    label_panels(axes[0])
    return {"": made}


EXPERIMENT = Experiment("diagonal-spectra", "general position: where near-ties break the order", compute, draw, 12.0)
