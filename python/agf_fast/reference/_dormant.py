"""Dormant phase: each neuron maximises its utility on the sphere, the residual standing still.

theta = e^lambda u with |u| = 1. In the neuron's own clock s, where dt = e^((2 - kappa) lambda) ds, every kappa reads

    du/ds = P grad U(u),  P = 1 - u u^T        dlambda/ds = kappa U(u) = u . grad U(u)

so neither the scale nor kappa enters the integration. Physical time t = int e^((2 - kappa) lambda) ds is kept as its
logarithm, since t itself leaves double for kappa > 2; for kappa = 2, and with adaptive rates, t = s. Neurons are
compared by log t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import DOP853

from ._kernel import Kernel
from ._kink import Cell
from ._run import Halt, Run, quiet

Array = NDArray[np.float64]

# A neuron this close to a stationary direction is followed in closed form from there: what the linearisation neglects
# is the square of it.
_CLOSE = 1e-7
# Where a Newton step says that a stationary direction has been found: rounding of a unit vector.
_FOUND = 1e-13
_STEPS = 20000
_TOLERANCE = 1e-14
# Contrast e^36 between two components of a direction is where double forgets the smaller one.
_FORGOTTEN = 36.0


@dataclass(frozen=True)
class Point:
    """A neuron on its way.

    Attributes
    ----------
    s : float
        Its own clock.
    u : (m,) array
        Direction.
    log_norm : float
        lambda.
    log_time : float
        log of the physical time since the start of the phase.
    forgotten : bool
        Whether components of u have fallen below what a unit vector in double holds.
    """

    s: float
    u: Array
    log_norm: float
    log_time: float
    forgotten: bool = False


class Landscape:
    """Utility of one neuron at a frozen residual, on the sphere.

    Parameters
    ----------
    kernel : Kernel
        The problem. Its leading term at 0 is what counts here.
    residual : (n, c) array
        r.
    floor : float
        Utilities and gradients up to this count as zero; 1e-10 max_i |grad U(u_i; y)|.
    adaptive_rate : bool
        Whether the physical clock is s whatever kappa.
    run : Run
        Counters.
    """

    def __init__(self, kernel: Kernel, residual: Array, floor: float, adaptive_rate: bool, run: Run) -> None:
        self.kernel = kernel.leading()
        self.residual = residual
        self.floor = floor
        self.power = 0.0 if adaptive_rate else kernel.kappa - 2.0
        self.run = run

    def cell(self, u: Array) -> Cell:
        """The smooth piece of the landscape that u is in."""
        return Cell(self.kernel, u[None], self.residual)

    def gradient(self, u: Array, cell: Cell) -> Array:
        """grad U(u), Euclidean, within the planes that u slides on."""
        self.run.evaluations += 1
        gradient: Array = cell.project(cell.kernel.utility_gradient(u[None], self.residual))[0]
        if not np.isfinite(gradient).all():
            # On the sphere, at a frozen residual, no smaller step would help, and SciPy would look for one for ever.
            raise Halt("non_finite")
        return gradient

    def tangent_modes(self, u: Array, gradient: Array, cell: Cell) -> tuple[Array, Array]:
        """Eigenvalues and vectors (columns) of P (hess U) P - (u . grad U) P on the sphere, within its planes."""
        self.run.hessians += 1
        plane = cell.planes[0]
        fixed = u[:, None]
        if plane is not None:
            fixed = np.hstack([fixed, np.vstack([plane, np.zeros((self.kernel.n_outputs, plane.shape[1]))])])
        basis = np.linalg.qr(fixed, mode="complete")[0][:, fixed.shape[1] :]
        hessian = cell.kernel.curvature(u[None], self.residual)[0]
        rates, modes = np.linalg.eigh(basis.T @ hessian @ basis - (u @ gradient) * np.eye(basis.shape[1]))
        return rates, basis @ modes

    def solver(self, point: Point, cell: Cell, ds: float) -> DOP853:
        """An integrator over ds of (u, lambda, t), counted from `point`, t in units of e^((2 - kappa) lambda)."""
        m, power = len(point.u), self.power

        def field(_: float, y: Array) -> Array:
            u = y[:m] / np.linalg.norm(y[:m])
            gradient = self.gradient(u, cell)
            growth = u @ gradient
            return np.concatenate([gradient - growth * u, [growth, np.exp(-np.clip(power * y[m], -600.0, 600.0))]])

        # Components of u far below the largest decide later jumps, so errors are held near rounding, not near rtol.
        return DOP853(field, 0.0, np.concatenate([point.u, [0.0, 0.0]]), ds, rtol=3e-14, atol=_TOLERANCE)

    def settle(self, u: Array, gradient: Array, cell: Cell, horizon: float) -> Tail | None:
        """The stable stationary direction that u is about to reach, if it is that close to one; else None.

        `horizon` is lambda's distance to the level it must reach: directions that grow too slowly to show before are no
        obstacle.
        """
        tangent = gradient - (u @ gradient) * u
        size = np.linalg.norm(gradient)
        if np.linalg.norm(tangent) > 100.0 * _CLOSE * size:
            return None
        peak = u
        for _ in range(8):
            growth = peak @ gradient
            rates, modes = self.tangent_modes(peak, gradient, cell)
            flat = np.abs(rates) <= 1e-8 * size
            if growth <= self.floor:
                # It cannot cross from here; whether it can ever is for `inert` to say.
                return None
            if (rates[~flat] > 0).any() or rates.max(initial=0.0) * horizon > growth:
                return None
            slope = modes.T @ gradient
            if np.linalg.norm(slope[flat]) > 1e-12 * size:
                return None
            step = modes[:, ~flat] @ (slope[~flat] / -rates[~flat])
            if np.linalg.norm(step) > 2.0 * _CLOSE or np.linalg.norm(peak + step - u) > 2.0 * _CLOSE:
                return None
            peak = (peak + step) / np.linalg.norm(peak + step)
            gradient = self.gradient(peak, cell)
            if np.linalg.norm(step) <= _FOUND:
                break
        else:
            return None
        away = u - peak
        # Nothing may cross on the way there; going straight, it stays inside if both ends are well inside.
        if min(cell.inside(point[None], lambda: self.residual) for point in (u, peak)) <= 2.0 * np.linalg.norm(away):
            return None
        rates, modes = self.tangent_modes(peak, gradient, cell)
        rates = np.minimum(rates, 0.0)
        return Tail(peak, float(peak @ gradient), rates, modes, modes.T @ away)

    def inert(self, u: Array, gradient: Array, cell: Cell) -> bool:
        """Whether the neuron cannot grow: U <= 0 at a stationary direction from which no tangent direction leads up."""
        growth = u @ gradient
        if self.kernel.kinked and len(cell.contacts[0]) == self.kernel.n_samples:
            return True
        if growth > self.floor or np.linalg.norm(gradient - growth * u) > self.floor:
            return False
        return bool(self.tangent_modes(u, gradient, cell)[0].max(initial=0.0) <= self.floor)


@dataclass(frozen=True)
class Tail:
    """The closed form near a stationary direction: lambda linear in s, the rest of u decaying mode by mode."""

    peak: Array
    growth: float
    rates: Array
    modes: Array
    away: Array

    def after(self, origin: Point, ds: float, power: float) -> Point:
        """The neuron ds after `origin`."""
        with np.errstate(under="ignore"):
            u = self.peak + self.modes @ (self.away * np.exp(self.rates * ds))
        log_time = np.logaddexp(origin.log_time, _log_wait(power * self.growth, ds) - power * origin.log_norm)
        forgotten = bool(self.rates.min(initial=0.0) * ds < -_FORGOTTEN)
        return Point(
            origin.s + ds, u / np.linalg.norm(u), origin.log_norm + self.growth * ds, float(log_time), forgotten
        )


def _log_wait(rate: float, ds: float) -> float:
    """log of int_0^ds e^(-rate s) ds."""
    if ds <= 0.0:
        return -np.inf
    x = rate * ds
    if abs(x) < 1e-12:
        return float(np.log(ds))
    # (1 - e^-x)/rate, written so that no exponential leaves double whatever the sign.
    return float(np.log(-np.expm1(-abs(x))) - np.log(abs(rate)) + max(0.0, -x))


def _inverse_log_wait(rate: float, log_wait: float) -> float:
    """ds with _log_wait(rate, ds) = log_wait; inf if the integral never gets there."""
    if rate == 0.0:
        return float(np.exp(log_wait))
    x = np.log(abs(rate)) + log_wait
    if rate < 0.0:
        return float(np.logaddexp(0.0, x) / -rate)
    return float(-np.log(-np.expm1(x)) / rate) if x < 0.0 else np.inf


class Course:
    """The way of one neuron through one dormant phase, until its log-norm rises to `level`.

    Points of the way are kept at every accepted step; anything in between is integrated again from the point before, so
    that positions are as accurate as the integration, not as its interpolant.

    Parameters
    ----------
    landscape : Landscape
        Utility at the frozen residual.
    direction : (m,) array
        Start.
    log_norm : float
        Start; at `level` or above it crosses at once if its utility is positive.
    level : float
        Where the way ends, crossed upwards.
    """

    def __init__(self, landscape: Landscape, direction: Array, log_norm: float, level: float = 0.0) -> None:
        self.landscape, self.level = landscape, level
        self.points = [Point(0.0, np.array(direction), float(log_norm), -np.inf)]
        self.tail: Tail | None = None
        self.inert = False
        self.crossing: Point | None = None
        self.ended = False
        self.cells = [landscape.cell(direction)]
        if log_norm >= level and landscape.gradient(direction, self.cells[0]) @ direction > landscape.floor:
            self.crossing, self.ended = self.points[0], True

    @property
    def crossing_time(self) -> float:
        """log of the physical time of the crossing; inf while none is known."""
        return np.inf if self.crossing is None else self.crossing.log_time

    def at_saddle(self) -> bool:
        """Whether the start stands still, to rounding, where it could leave upwards."""
        u, cell = self.points[0].u, self.cells[0]
        gradient = self.landscape.gradient(u, cell)
        growth = u @ gradient
        if np.linalg.norm(gradient - growth * u) > 100.0 * self.landscape.floor:
            return False
        return bool(self.landscape.tangent_modes(u, gradient, cell)[0].max(initial=0.0) > self.landscape.floor)

    @property
    def end(self) -> Point:
        """The crossing, or the last point while there is none."""
        return self.points[-1] if self.crossing is None else self.crossing

    def follow(self, log_limit: float) -> None:
        """Goes on until the crossing, until it is clear that there is none, or until log t reaches `log_limit`."""
        with quiet():
            while not self.ended and self.points[-1].log_time < log_limit:
                self._segment(log_limit)

    def _segment(self, log_limit: float) -> None:
        # The integrator counts lambda and t from the start of each segment: over a whole way t would leave double.
        origin, cell = self.points[-1], self.cells[-1]
        if self._settles(origin, cell):
            return
        landscape, run, m = self.landscape, self.landscape.run, len(origin.u)
        solver = landscape.solver(origin, cell, 1e100)
        while True:
            run.poll()
            solver.step()
            if solver.status != "running" or not np.isfinite(solver.y).all() or len(self.points) > _STEPS:
                # Nothing moves any more, or nothing can be resolved: a saddle that rounding does not leave, most often.
                run.notes.add("direction_unresolved")
                self.ended = True
                return
            run.steps += 1
            left = None
            if cell.kinked:
                left = cell.exit(self._inside(solver.dense_output(), m), solver.t_old, solver.t)
            if left is None:
                point, after = self._point(origin, solver.t, solver.y), cell
            else:
                point = self._point(origin, left, self._integrate(origin, cell, left))
                after = cell.copy()
                point = replace(point, u=after.update(point.u[None], landscape.residual)[0])
            before = self.points[-1]
            self.points.append(point)
            self.cells.append(after)
            if before.log_norm < self.level <= point.log_norm:
                self.crossing = self._locate(before, cell, point.s - before.s, level=self.level)
                self.ended = True
            if self.ended or left is not None or point.log_time >= log_limit or self._settles(point, cell):
                return
            if landscape.power * abs(point.log_norm - origin.log_norm) > 2.0:
                return

    def _inside(self, way: Callable[[float], Array], m: int) -> Callable[[float], tuple[Array, Callable[[], Array]]]:
        return lambda t: (way(t)[None, :m], lambda: self.landscape.residual)

    def _settles(self, point: Point, cell: Cell) -> bool:
        """Whether the rest of the way is known in closed form from here."""
        landscape = self.landscape
        gradient = landscape.gradient(point.u, cell)
        if landscape.inert(point.u, gradient, cell):
            none = np.zeros(0)
            self.tail = Tail(point.u, float(gradient @ point.u), none, np.zeros((len(point.u), 0)), none)
            self.inert = self.ended = True
            return True
        self.tail = landscape.settle(point.u, gradient, cell, abs(self.level - point.log_norm))
        if self.tail is None:
            return False
        self.crossing = self.tail.after(point, (self.level - point.log_norm) / self.tail.growth, landscape.power)
        self.ended = True
        return True

    def at(self, log_time: float) -> Point:
        """The neuron at a physical time within what was followed."""
        k = int(np.searchsorted([p.log_time for p in self.points], log_time, side="right")) - 1
        point = self.points[max(k, 0)]
        if k < 0 or log_time <= point.log_time:
            return point
        # Time since that point, in the units of its own lambda.
        power = self.landscape.power
        log_wait = log_time + np.log(-np.expm1(point.log_time - log_time)) + power * point.log_norm
        if k < len(self.points) - 1:
            return self._locate(point, self.cells[k], self.points[k + 1].s - point.s, wait=float(np.exp(log_wait)))
        if self.tail is None:
            return point
        return self.tail.after(point, _inverse_log_wait(power * self.tail.growth, log_wait), power)

    def _locate(
        self, origin: Point, cell: Cell, longest: float, level: float | None = None, wait: float | None = None
    ) -> Point:
        """The point within one step of `origin` where lambda = level, or that is `wait` later: safeguarded Newton."""
        m, power = len(origin.u), self.landscape.power
        low, high, ds = 0.0, longest, 0.5 * longest if wait is None else min(wait, longest)
        for _ in range(60):
            y = self._integrate(origin, cell, ds)
            if level is not None:
                u = y[:m] / np.linalg.norm(y[:m])
                missing, slope = origin.log_norm + y[m] - level, self.landscape.gradient(u, cell) @ u
            else:
                assert wait is not None
                missing, slope = y[m + 1] - wait, np.exp(-power * y[m])
            low, high = (ds, high) if missing < 0.0 else (low, ds)
            step = -missing / slope if slope > 0.0 else np.inf
            if abs(step) <= 1e-14 * longest or missing == 0.0:
                break
            ds = ds + step if low < ds + step < high else 0.5 * (low + high)
        return self._point(origin, ds, y)

    def _integrate(self, origin: Point, cell: Cell, ds: float) -> Array:
        if ds <= 0.0:
            return np.concatenate([origin.u, [0.0, 0.0]])
        solver = self.landscape.solver(origin, cell, ds)
        with quiet():
            while solver.status == "running":
                solver.step()
        y: Array = solver.y
        return y

    def _point(self, origin: Point, ds: float, y: Array) -> Point:
        m = len(origin.u)
        with np.errstate(divide="ignore"):
            log_time = np.logaddexp(origin.log_time, np.log(y[m + 1]) - self.landscape.power * origin.log_norm)
        return Point(origin.s + ds, y[:m] / np.linalg.norm(y[:m]), origin.log_norm + float(y[m]), float(log_time))
