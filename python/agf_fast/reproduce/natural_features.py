"""What networks learn first on natural images: singular and Fourier directions, and smooth curves taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._dense import Dense
from .._linear import Linear
from .._maxima import utility_maxima
from .._theory import Theory
from .._trajectory import Trajectory
from .._verbs import alternating_gradient_flow, gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_least, at_most, equal, within
from ._natural import natural, rank_correlation
from ._style import AGF, COLOURS, FLOW, GREY, LOSS, figure, label_panels, shades, staircase

_SCALE = 1e-10
_POINTS = 400
_LINEAR_JUMPS = 6  # the later ones come after the end of the flow
# activation: width, rtol (relu: kinks of single samples averaged over, see width), end of the flow in first jumps
_NETWORKS = {"identity": (12, 1e-6, 2.2), "gelu": (12, 1e-6, 2.2), "relu": (16, 2e-3, 2.0)}
# Directions with less than this part of the largest utility are noise of the sample.
_LEAST = 0.1


@dataclass(frozen=True)
class _Network:
    name: str
    path: Trajectory
    truth: Trajectory
    singular: NDArray[np.float64]  # (times, directions) part of each direction that is learned
    fourier: NDArray[np.float64]
    losses: NDArray[np.float64]  # (times, outputs) 1/2 E<u_j, r>^2 for the left singular vectors: their sum is the loss


def compute(setup: Setup) -> Result:
    """Linear, gelu and relu networks on centred images from 1e-10.

    1,000 images, which show the order as all of them do. The small variant has 500.
    """
    seed = setup.seed_or(0)
    images = natural(setup, 500 if setup.small else 1000)
    X = images.pixels - images.pixels.mean(axis=0)
    X = np.ascontiguousarray(X / np.sqrt(np.mean(np.sum(X**2, axis=1))))
    Y = images.one_hot()
    sigma_yx = Y.T @ X / len(X)
    singular = np.linalg.svd(sigma_yx, full_matrices=False)[2][: np.linalg.matrix_rank(sigma_yx)]
    fourier = _cosines(*images.shape[1:])
    strength = np.linalg.norm(sigma_yx @ fourier.T, axis=0)
    bases = [singular, fourier[strength >= _LEAST * strength.max()]]
    result = Result(
        facts={
            "data": images.name, "samples": len(X), "inputs": X.shape[1], "seed": seed, "scale": _SCALE,
            "singular directions": len(bases[0]), "Fourier directions": len(bases[1]),
        }
    )  # fmt: skip
    linear = Linear(X, Y)
    theory = linear.theory()
    path = alternating_gradient_flow(linear, linear.initialize(12, _SCALE, seed), max_jumps=_LINEAR_JUMPS, rtol=1e-6)
    networks = [_network(name, X, Y, sigma_yx, bases, path, seed) for name in _NETWORKS]
    predicted = [_predicted(theory, sigma_yx, basis) for basis in bases]
    _linear(result, theory, path, networks[0])
    _orders(result, networks, predicted)
    _first_jumps(result, networks, X, Y, seed)
    _overlaps(result, networks)
    result.curves.update(networks=networks, predicted=predicted)
    return result


def _network(
    name: str,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    sigma_yx: NDArray[np.float64],
    bases: list[NDArray[np.float64]],
    linear_path: Trajectory,
    seed: int,
) -> _Network:
    width, rtol, end = _NETWORKS[name]
    problem = Dense(X, Y, activation=name)
    start = problem.initialize(width, _SCALE, seed)
    path = linear_path
    if name != "identity":
        path = alternating_gradient_flow(problem, start, rtol=rtol, active_time=200.0, max_jumps=10)
    times = np.linspace(0.0, end * path.jumps[0].time, _POINTS + 1)
    truth = gradient_flow(problem, start, times[-1], rtol=rtol, save_at=times)
    residuals = [np.asarray(problem.residual(state)) for state in truth.states]
    responses = np.stack([(Y - residual).T @ X / len(X) for residual in residuals])
    learned = []
    for basis in bases:
        wanted = sigma_yx @ basis.T
        learned.append(np.einsum("tck,ck->tk", responses @ basis.T, wanted) / np.einsum("ck,ck->k", wanted, wanted))
    outputs = np.linalg.svd(sigma_yx)[0]
    losses = np.stack([0.5 * np.mean((residual @ outputs) ** 2, axis=0) for residual in residuals])
    return _Network(name, path, truth, learned[0], learned[1], losses)


def _predicted(theory: Theory, sigma_yx: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """When Conjecture 4.1 has half of the response to a direction: P_k Sigma_yx phi after k jumps; in ln(1/alpha)."""
    responses = np.asarray(theory.facts["modes"]) @ sigma_yx @ basis.T
    parts = np.cumsum(responses**2, axis=0) / np.sum(responses**2, axis=0)
    times = np.array([jump.scaled_time for jump in theory.jumps])
    # The last mode completes every direction, to rounding.
    found: NDArray[np.float64] = times[np.minimum(np.argmax(parts >= 0.5, axis=0), len(times) - 1)]
    return found


def _cosines(height: int, width: int) -> NDArray[np.float64]:
    """The two-dimensional cosine basis (orthonormal rows), the constant left out: images are centred, not periodic."""
    rows, columns = (
        np.cos(np.pi * np.outer(np.arange(size), np.arange(size) + 0.5) / size) for size in (height, width)
    )
    basis = np.einsum("ai,bj->abij", rows, columns).reshape(height * width, -1)[1:]
    unit: NDArray[np.float64] = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    return unit


def _linear(result: Result, theory: Theory, path: Trajectory, network: _Network) -> None:
    """Conjecture 4.1 on data that do not commute, beside AGF and the flow."""
    unit = float(np.log(1.0 / _SCALE))
    middles = [0.5 * (jump.loss_before + jump.loss_after) for jump in theory.jumps]
    falls = _half_times(-np.asarray(network.truth.loss)[:, None], np.asarray(network.truth.time), -np.array(middles))
    zero = float(path.loss[0])
    rows: list[list[Any]] = []
    for k, (jump, told) in enumerate(zip(path.jumps, theory.jumps, strict=False)):
        flow = float(falls[k]) / unit if np.isfinite(falls[k]) else np.nan
        tau = jump.time / unit
        rows.append(
            [k, told.scaled_time, tau, flow, tau / told.scaled_time - 1.0, flow / told.scaled_time - 1.0]
            + [told.loss_after, jump.loss_after, (jump.loss_after - told.loss_after) / zero]
        )
    heads = ["jump", "theory t/ln(1/alpha)", "AGF", "flow", "AGF error", "flow error"]
    heads += ["theory level", "AGF", "error/L(0)"]
    title = "linear: Conjecture 4.1 (data do not commute), AGF, and when the flow passes the middle of each drop"
    result.tables.append(Table(title, heads, rows, digits=5))
    # A phase that is not cut off ends at |grad L|^2 t <= 1e-8 L, whose square root no error of the level exceeds.
    errors = [row[8] for row, jump in zip(rows, path.jumps, strict=False) if jump.converged]
    claim = "linear: levels of AGF against the conjecture, in L(0), of phases that converge"
    result.checks.append(within(claim, errors, [0.0] * len(errors), 1e-4))
    result.checks.append(at_least("linear: phases that converge", len(errors), 4))
    half = _half_times(network.singular, np.asarray(network.truth.time))
    claim = "linear: the flow learns singular directions in their order, all that it learns in time"
    result.checks.append(equal(claim, np.argsort(half[np.isfinite(half)]), list(range(int(np.isfinite(half).sum())))))
    late = [row[4] for row in rows]
    commutator = theory.facts["commutator"]
    result.numbers.update(conjecture_time_errors=late, commutator=commutator)
    result.notes.append(
        f"Sigma_xx and Sigma_yx' Sigma_yx do not commute (relative commutator {commutator:.2g}): at alpha = {_SCALE:g} "
        f"AGF jumps {min(late):.1%} to {max(late):.1%} from the conjectured limit."
    )


def _orders(result: Result, networks: list[_Network], predicted: list[NDArray[np.float64]]) -> None:
    rows = []
    for network in networks:
        kinds = zip(("singular", "Fourier"), (network.singular, network.fourier), predicted, strict=True)
        for kind, learned, told in kinds:
            half = _half_times(learned, np.asarray(network.truth.time))
            order = rank_correlation(told, half)
            rows.append([network.name, kind, len(told), int(np.isfinite(half).sum()), order])
            # Of nine directions in no order one in twenty draws exceeds 0.6; of fifty, one in 5,000 exceeds 0.5.
            claim = f"{network.name}: {kind} directions are learned in the predicted order: rank correlation"
            result.checks.append(at_least(claim, order, 0.6 if kind == "singular" else 0.5))
    heads = ["network", "directions", "number", "half learned in time", "rank correlation with theory"]
    title = "order in which directions of the inputs are half learned by the flow, against the linear conjecture"
    result.tables.append(Table(title, heads, rows))


def _half_times(
    learned: NDArray[np.float64], times: NDArray[np.float64], part: float | NDArray[np.float64] = 0.5
) -> NDArray[np.float64]:
    """First times at which so much is learned; infinite where that comes later than the run."""
    done = learned >= part
    return np.where(done.any(axis=0), times[np.argmax(done, axis=0)], np.inf)


def _first_jumps(
    result: Result, networks: list[_Network], X: NDArray[np.float64], Y: NDArray[np.float64], seed: int
) -> None:
    rows: list[list[Any]] = []
    for network in networks:
        problem = Dense(X, Y, activation=network.name)
        jump = network.path.jumps[0]
        starts = problem.initialize(_NETWORKS[network.name][0], _SCALE, seed)
        found = utility_maxima(problem, starts=starts)
        nearest = int(np.argmin(np.abs(found.utility / jump.utility - 1.0)))
        rows.append([network.name, jump.time, jump.utility, float(found.utility[nearest]), len(found)])
        # Alignment goes on as e^-(gap t): what is left of it after ln(1/alpha) = 23 e-folds.
        claim = f"{network.name}: the first neuron to activate is at a local maximum: utility over the maximum's"
        result.checks.append(within(claim, jump.utility / found.utility[nearest], 1.0, 0.01))
    ratio = rows[1][2] / rows[0][2]
    result.checks.append(
        within("gelu is half a linear network at first: its first utility over the linear one's", ratio, 0.5, 0.01)
    )
    heads = ["network", "first jump t", "its utility", "nearest maximum", "maxima that its neurons reach"]
    result.tables.append(Table("first jumps", heads, rows))


def _overlaps(result: Result, networks: list[_Network]) -> None:
    """How long each singular direction takes to be learned, against the wait for the next one."""
    rows: list[list[Any]] = []
    for network in networks:
        times = np.asarray(network.truth.time)
        half, first, last = (_half_times(network.singular, times, part) for part in (0.5, 0.1, 0.9))
        known = np.flatnonzero(np.isfinite(last))
        place = known[np.argsort(half[known])]
        rise, wait = (last[place] - first[place])[:-1], np.diff(half[place])
        # The record's own spacing is the shortest wait that it can tell.
        overlap = float(np.median(rise / np.maximum(wait, times[1])))
        rows.append([network.name, len(place), float(np.median(rise)), float(np.median(wait)), overlap])
        # What the outputs' own floor leaves of rounding, in a residual of 1,000 samples.
        claim = f"{network.name}: the parts of the loss along output directions add up to it: error in L(0)"
        rest = network.losses.sum(axis=1) - np.asarray(network.truth.loss)
        result.checks.append(at_most(claim, float(np.abs(rest).max() / network.truth.loss[0]), 1e-3))
        result.numbers[f"{network.name}_half_times"] = half
    heads = ["network", "learned in time", "10 % to 90 %", "wait for the next", "overlap"]
    title = "smooth curves as overlapping jumps: singular directions, medians, flow units"
    result.tables.append(Table(title, heads, rows, digits=4))
    smoothest = min(row[4] for row in rows[1:])
    claim = "curves of gelu and relu are jumps that overlap more: overlap over the linear one's"
    result.checks.append(at_least(claim, smoothest / rows[0][4], 1.5))


def draw(result: Result) -> dict[str, Any]:
    """Loss curves taken apart; measured against predicted times of directions; parts learned over time."""
    networks = result.curves["networks"]
    made, axes = figure(3, len(networks), size=(3.4 * len(networks), 8.0))
    unit = float(np.log(1.0 / _SCALE))
    for network, (top, middle, bottom) in zip(networks, axes.T, strict=True):
        _draw_modes(top, network)
        times = np.asarray(network.truth.time)
        fourier, singular = reversed(result.curves["predicted"])
        kinds = (("Fourier", network.fourier, fourier), ("singular", network.singular, singular))
        for (kind, learned, told), colour, marker in zip(kinds, (COLOURS[3], AGF), "so", strict=True):
            half = _half_times(learned, times)
            middle.plot(told, half / unit, marker, color=colour, label=kind, ms=3.5, alpha=0.7, mec="none")
        ends, half_linear = np.array([8.0, 36.0]), network.name == "gelu"
        told = "twice the conjecture" if half_linear else "the conjecture"
        middle.plot(ends, (2.0 if half_linear else 1.0) * ends, color=GREY, lw=0.8, ls=":", label=told)
        middle.set_ylim(0.0, None)
        middle.set_xlabel(r"Conjecture 4.1: half learned, $t/\ln(1/\alpha)$")
        middle.set_ylabel(r"flow: half learned, $t/\ln(1/\alpha)$")
        middle.set_title(f"{network.name}: directions of the inputs")
        middle.legend(loc="lower right")
        for curve, colour in zip(network.singular.T, shades(network.singular.shape[1]), strict=True):
            bottom.plot(times, curve, color=colour, lw=1.2)
        bottom.axhline(1.0, color=GREY, lw=0.7, ls=":")
        bottom.set_xlim(0.6 * network.path.jumps[0].time, times[-1])
        bottom.set_ylim(-0.1, 1.25)
        bottom.set_xlabel(r"time $t$ (flow units, $\dot\theta=-\nabla L$)")
        bottom.set_ylabel("part of a singular direction learned")
        bottom.set_title("largest singular value dark, least pale")
    label_panels(axes)
    return {"": made}


def _draw_modes(ax: Any, network: _Network) -> None:
    times, count = np.asarray(network.truth.time), network.losses.shape[1]
    ax.stackplot(times, network.losses.T[::-1], colors=shades(count)[::-1], alpha=0.55, lw=0)
    ax.plot(times, network.truth.loss, color=FLOW, lw=1.8, label="gradient flow, by output directions")
    stairs = staircase(network.path.time, network.path.loss, float(network.path.time[-1]))
    ax.plot(*stairs, color=AGF, lw=1.0, label="AGF")
    ax.set_xlim(0.6 * network.path.jumps[0].time, times[-1])
    ax.set_ylim(0.0, 1.2 * float(network.truth.loss[0]))
    ax.set_xlabel(r"time $t$ (flow units, $\dot\theta=-\nabla L$)")
    ax.set_ylabel(LOSS)
    ax.set_title(f"{network.name}: the loss taken apart")
    ax.legend(fontsize=7, loc="upper right")


EXPERIMENT = Experiment(
    "natural-features", "which directions of natural images are learned first", compute, draw, seconds=14.0
)
