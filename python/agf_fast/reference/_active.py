"""Active phase: cost minimisation along the flow, dtheta_j/dt = grad U(theta_j; r(Theta)), r kept up to date.

In polar form theta = e^lambda u, so that errors are relative to each neuron's own norm whatever the norms are:

    du/dt = P F,   dlambda/dt = u . F,   F_i = eta_i e^(-lambda_i) grad U(theta_i; r)

with eta_i = 1, or |theta_i|^(2 - kappa) with adaptive rates. The flow is stiff (an explicit method needs hundreds of
times the evaluations), so it is integrated by LSODA with the exact Jacobian of this field, from the exact Hessian of L.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import BDF, LSODA

from ._kernel import Kernel
from ._kink import Cell
from ._run import Halt, Run, quiet

Array = NDArray[np.float64]

# Accepted steps of one active phase before it is given up as unconverged.
_STEPS = 10000
# Near equilibrium LSODA can stay with its explicit method, its steps bounded by stability, since rounding hides from it
# what a stiff step would gain (measured: for ever). After so many steps below that bound, plain BDF takes over.
_LONG = 500
# Norms beyond e^30 times those at the start of a segment are a trial step gone astray: clipped, they stay finite and
# the error estimate rejects the step.
_CLIP = 30.0
# Where sigma is not homogeneous, neurons too small to matter are evaluated at this norm, small enough for the leading
# term.
_SMALL = -25.0


class Motion:
    """The flow of several neurons together, integrated one step at a time.

    Neurons not in `felt` move in the residual of the others but do not change it: e^(kappa lambda) is below its
    rounding. They are evaluated at a norm that double holds, and their field is scaled down from there, so lambda may
    be anything.

    Parameters
    ----------
    kernel : Kernel
        The problem.
    direction : (H, m) array
        u.
    log_norm : (H,) array
        lambda.
    felt : (H,) array of bool
        Who enters the residual.
    rtol : float
        Accuracy asked of the run.
    adaptive_rate : bool
        Whether eta_i = |theta_i|^(2 - kappa).
    run : Run
        Counters.
    """

    def __init__(
        self,
        kernel: Kernel,
        direction: Array,
        log_norm: Array,
        felt: NDArray[np.bool_],
        rtol: float,
        adaptive_rate: bool,
        run: Run,
    ) -> None:
        self.kernel, self.run, self.felt = kernel, run, felt
        self.direction, self.log_norm = np.array(direction), np.array(log_norm)
        self.elapsed = 0.0
        # dlambda/dt goes like e^(power lambda) for a neuron in a given residual.
        self.power = 0.0 if adaptive_rate else kernel.kappa - 2.0
        self.slowed = adaptive_rate
        # LSODA controls the error of a step; over a phase of hundreds of steps they add up.
        self.tolerance = max(1e-2 * rtol, 1e-13)
        self._stiff = False
        self.cell = Cell(kernel, self.direction, self.residual())
        self._begin()

    def _begin(self) -> None:
        self._start = self.log_norm.copy()
        self._solver: LSODA | BDF | None = None
        self._count = 0

    def _parts(self, y: Array, start: Array) -> tuple[Array, Array]:
        count, m = self.direction.shape
        u = y[: count * m].reshape(count, m)
        return u / np.linalg.norm(u, axis=1, keepdims=True), start + np.minimum(y[count * m :], _CLIP)

    def _rows(self, u: Array, log_norm: Array) -> tuple[Array, Array]:
        """Parameters at which neurons are evaluated, and their log-norms: their own where felt."""
        small = 0.0 if self.kernel.homogeneous else _SMALL
        at = np.where(self.felt, log_norm, small)
        return np.exp(at)[:, None] * u, at

    def residual(self, u: Array | None = None, log_norm: Array | None = None) -> Array:
        """r of the neurons that are felt, at the present point by default."""
        u = self.direction if u is None else u
        log_norm = self.log_norm if log_norm is None else log_norm
        return self.kernel.residual(np.exp(log_norm[self.felt])[:, None] * u[self.felt])

    def _field(self, u: Array, log_norm: Array) -> tuple[Array, Array, Array, Array]:
        """grad U at the rows where the kernel is evaluated, these rows, gains with F = gain grad U(rows), and r."""
        self.run.evaluations += 1
        rows, at = self._rows(u, log_norm)
        felt = np.flatnonzero(self.felt)
        slopes = self.cell.kernel.slopes
        near = self.cell.kernel.in_cell(None if slopes is None else slopes[:, felt])
        residual = near.residual(rows[felt])
        # grad U is of degree kappa - 1 in theta where the neuron is not felt, F of degree kappa - 2 (0 if adaptive).
        shift: Array = self.power * (log_norm - at)
        own: Array = (2.0 - self.kernel.kappa) * at if self.slowed else np.zeros_like(at)
        gain: Array = np.exp(shift + own - at)
        return self.cell.project(self.cell.kernel.utility_gradient(rows, residual)), rows, gain, residual

    def _rhs(self, _: float, y: Array) -> Array:
        u, log_norm = self._parts(y, self._start)
        gradient, _rows, gain, _residual = self._field(u, log_norm)
        field = gain[:, None] * gradient
        growth = np.sum(u * field, axis=1)
        return np.concatenate([(field - growth[:, None] * u).ravel(), growth])

    def _jacobian(self, _: float, y: Array) -> Array:
        u, log_norm = self._parts(y, self._start)
        count, m = u.shape
        gradient, rows, gain, residual = self._field(u, log_norm)
        field = gain[:, None] * gradient
        self.run.hessians += 1
        kernel = self.cell.kernel
        sizes = np.linalg.norm(rows, axis=1)
        # d grad U_i / d theta_j = -E[(df_i)^T df_j], for those that are felt, and the curvature of U_i itself for i =
        # j.
        full = -kernel.gauss_newton(rows).reshape(count, m, count, m)
        full[:, :, ~self.felt] = 0.0
        for i, bent in enumerate(kernel.curvature(rows, residual)):
            full[i, :, i] += bent
        for i in range(count):
            projector = self.cell.projector(i)
            if projector is not None:
                full[i] = np.einsum("ab,bjc->ajc", projector, full[i])
                full[:, :, i] = np.einsum("jcb,ba->jca", full[:, :, i], projector)
        by_u = gain[:, None, None, None] * full * sizes[None, None, :, None]
        by_lambda = np.einsum("iajb,jb->iaj", by_u, u)
        growth = np.sum(u * field, axis=1)
        for i in range(count):
            # The gain's own dependence on lambda_i; where the neuron is not felt F is homogeneous in it.
            if self.felt[i]:
                by_lambda[i, :, i] += (1.0 - self.kernel.kappa if self.slowed else -1.0) * field[i]
            else:
                by_lambda[i, :, i] = self.power * field[i]
        out = np.zeros((count, m + 1, count, m + 1))
        # dlambda/dt = u . F and du/dt = F - (u . F) u.
        out[:, m, :, :m] = np.einsum("ia,iajb->ijb", u, by_u)
        out[:, m, :, m] = np.einsum("ia,iaj->ij", u, by_lambda)
        for i in range(count):
            out[i, m, i, :m] += field[i]
        out[:, :m, :, :m] = by_u - u[:, :, None, None] * out[:, None, m, :, :m]
        out[:, :m, :, m] = by_lambda - u[:, :, None] * out[:, None, m, :, m]
        for i in range(count):
            out[i, :m, i, :m] -= growth[i] * np.eye(m)
        order = np.concatenate(
            [np.arange(count * (m + 1)).reshape(count, m + 1)[:, :m].ravel(), np.arange(count) * (m + 1) + m]
        )
        flat = out.reshape(count * (m + 1), -1)
        return np.asarray(flat[np.ix_(order, order)])

    # Stepping.

    def step(self, limit: float) -> Callable[[float], tuple[Array, Array]]:
        """One accepted step, not beyond elapsed = limit; returns (u, lambda) as a function of elapsed within it.

        Raises
        ------
        Halt
            If no step can be made: non_finite, or work_limit where the field is finite but only rounding is left of it.
        """
        self.run.poll()
        for attempt in range(4):
            if self._solver is None:
                self._origin = self.elapsed
                y0 = np.concatenate([self.direction.ravel(), np.zeros(len(self.direction))])
                # Far along a valley with large, nearly cancelling neurons the field is noise at the tolerance asked
                # for.
                tolerance = self.tolerance * 10.0 ** max(0, attempt - 1)
                # The relative part is for times and norms far from 0, which double resolves no better. LSODA's own
                # first step at a standstill reaches for the end of time, and fails: the second attempt starts small.
                end = min(limit - self._origin, 1e300)
                first = min(end, 1e-3 / max(self._pace(), 1e-300)) if attempt else None
                method = BDF if self._stiff else LSODA
                self._solver = method(
                    self._rhs, 0.0, y0, end, rtol=1e-13, atol=tolerance, jac=self._jacobian, first_step=first
                )
            solver = self._solver
            with quiet(), np.errstate(over="ignore", under="ignore"):
                solver.step()
            if solver.status != "failed" and np.isfinite(solver.y).all() and solver.t > (solver.t_old or 0.0):
                break
            # Once more from the last good point, where LSODA starts small and of low order.
            self._begin()
        else:
            finite = np.isfinite(self._field(self.direction, self.log_norm)[0]).all()
            raise Halt("work_limit" if finite else "non_finite")
        self.run.steps += 1
        way, origin, start = solver.dense_output(), self._origin, self._start

        def state(elapsed: float) -> tuple[Array, Array]:
            return self._parts(way(elapsed - origin), start)

        def within(elapsed: float) -> tuple[Array, Callable[[], Array]]:
            u, log_norm = state(elapsed)
            return u, lambda: self.residual(u, log_norm)

        left = self.cell.exit(within, self.elapsed, origin + solver.t)
        if left is None:
            self.direction, self.log_norm = self._parts(solver.y, start)
            self.elapsed = limit if solver.status == "finished" else origin + solver.t
            self._count += 1
            if self._count % _LONG == 0 and not self._stiff and (solver.t - solver.t_old) * self.fastest() < 5.0:
                self._stiff = True
                self._begin()
            if np.abs(self.log_norm - start).max(initial=0.0) > 0.5 * _CLIP or solver.status == "finished":
                self._begin()
        else:
            u, self.log_norm = state(left)
            self.direction = self.cell.update(u, self.residual(u, self.log_norm))
            self.elapsed = left
            self._begin()
        return state

    def _pace(self) -> float:
        gradient, _, gain, _ = self._field(self.direction, self.log_norm)
        return max(float(np.linalg.norm(gain[:, None] * gradient, axis=1).max(initial=0.0)), self.fastest())

    # Measurements at the present point.

    def loss(self) -> float:
        """L of the neurons that are felt."""
        return self.kernel.loss(np.exp(self.log_norm[self.felt])[:, None] * self.direction[self.felt])

    def gradients(self) -> Array:
        """-dL/dtheta_i."""
        gradient, rows, _, _ = self._field(self.direction, self.log_norm)
        lower = np.where(self.felt, 0.0, self.log_norm - np.log(np.linalg.norm(rows, axis=1)))
        with np.errstate(under="ignore"):
            return gradient * np.exp((self.kernel.kappa - 1.0) * lower)[:, None]

    def fall(self, gradients: Array) -> float:
        """-dL/dt, given `gradients()`."""
        squares = np.sum(gradients**2, axis=1)
        if self.slowed:
            squares = squares * np.exp((2.0 - self.kernel.kappa) * self.log_norm)
        return float(squares[self.felt].sum())

    def fastest(self) -> float:
        """A bound of the rates at which the felt neurons relax: the Frobenius norm of hess L, times the largest eta."""
        rate = float(np.linalg.norm(self.hessian()))
        if not self.slowed:
            return rate
        return rate * float(np.exp((2.0 - self.kernel.kappa) * self.log_norm[self.felt]).max(initial=0.0))

    def hessian(self) -> Array:
        """hess L over the felt neurons, within the planes they slide on."""
        self.run.hessians += 1
        members = np.flatnonzero(self.felt)
        slopes = self.cell.kernel.slopes
        kernel = self.cell.kernel.in_cell(None if slopes is None else slopes[:, members])
        out = kernel.hessian(np.exp(self.log_norm[members])[:, None] * self.direction[members])
        m = self.kernel.n_params
        for k, i in enumerate(members):
            projector = self.cell.projector(int(i))
            if projector is not None:
                block = slice(k * m, (k + 1) * m)
                out[block], out[:, block] = projector @ out[block], out[:, block] @ projector
        return out


class Drift:
    """Largest change of what the flow conserves, relative to the largest |theta_i|^2 of the same neuron."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.largest = 0.0 if kernel.conserves else np.nan

    def begin(self, direction: Array, log_norm: Array) -> None:
        """From here on, until the next call, there is one unbroken flow of these neurons."""
        self._unit, self._first = log_norm.copy(), self.kernel.conserved(direction)
        self._top, self._gap = log_norm.copy(), np.zeros(len(log_norm))

    def see(self, direction: Array, log_norm: Array) -> None:
        """Another point of that flow; everything in units of the largest norm so far, which may be below double."""
        after = self.kernel.conserved(direction)
        if self._first is None or after is None:
            return
        top = np.maximum(self._top, log_norm)
        # A neuron may conserve several numbers.
        now = np.exp(2.0 * (log_norm - top)) * after.T
        gap = np.abs(now - np.exp(2.0 * (self._unit - top)) * self._first.T).reshape(-1, len(top)).max(axis=0)
        self._gap = np.maximum(self._gap * np.exp(2.0 * (self._top - top)), gap)
        self._top = top
        self.largest = max(self.largest, float(self._gap.max(initial=0.0)))


@dataclass
class Phase:
    """An active phase under way.

    Attributes
    ----------
    members : list of int
        Active neurons.
    direction, log_norm : array
        Of all neurons of the network; rows of members change.
    elapsed : float
        Flow time spent.
    returned : list of int
        Neurons that fell dormant.
    converged : bool
        Whether equilibrium was reached.
    gradient_norm : float
        |grad L| over the members.
    loss : float
        L of the members.
    """

    members: list[int]
    direction: Array
    log_norm: Array
    elapsed: float
    loss: float = np.nan
    gradient_norm: float = np.nan
    converged: bool = False

    def __post_init__(self) -> None:
        self.returned: list[int] = []
        self.course: list[tuple[float, float]] = []  # (elapsed, loss) at every step

    def follow(
        self,
        kernel: Kernel,
        *,
        active_time: float,
        loss_tol: float,
        rtol: float,
        adaptive_rate: bool,
        run: Run,
        drift: Drift,
    ) -> None:
        """Follows the flow to equilibrium, to loss_tol, to active_time, or until the work is not worth it.

        Equilibrium is |grad L|^2 t <= 1e-8 L: as long again would change L by less than that. A phase's first steps are
        so short that they would pass; hence not before t exceeds the time of the fastest relaxation.
        """
        exhausted = 1e-24 * kernel.loss(np.zeros((0, kernel.n_params)))
        leading = kernel.leading()
        steps = 0
        while True:
            members = self.members
            motion = Motion(
                kernel,
                self.direction[members],
                self.log_norm[members],
                np.ones(len(members), dtype=bool),
                rtol,
                adaptive_rate,
                run,
            )
            drift.begin(motion.direction, motion.log_norm)
            before, settling = self.elapsed, 1.0 / max(motion.fastest(), 1e-300)
            while True:
                gradients = motion.gradients()
                self.loss, self.gradient_norm = motion.loss(), float(np.linalg.norm(gradients))
                self.course.append((self.elapsed, self.loss))
                fall = motion.fall(gradients)
                quiet_now = self.elapsed >= settling and fall * self.elapsed <= 1e-8 * self.loss
                self.converged = bool(fall == 0.0 or quiet_now or self.loss <= max(loss_tol, exhausted))
                if self.converged or self.elapsed >= active_time or steps >= _STEPS:
                    return
                gone = self._fallen(motion, leading, rtol)
                if gone.any():
                    break
                try:
                    motion.step(active_time - before)
                except Halt as halt:
                    if halt.status != "work_limit":
                        raise
                    return
                steps += 1
                self.elapsed = before + motion.elapsed
                self.direction[members], self.log_norm[members] = motion.direction, motion.log_norm
                drift.see(motion.direction, motion.log_norm)
            for i in np.flatnonzero(gone):
                # Its fall, turn and regrowth belong to the dormant clock that follows.
                self.log_norm[members[i]] = 0.0
                self.returned.append(members[i])
            self.members = [member for member, left in zip(members, gone, strict=True) if not left]

    def _fallen(self, motion: Motion, leading: Kernel, rtol: float) -> NDArray[np.bool_]:
        """Active neurons that fell dormant: lambda < 0, U(u; r) < 0, sqrt(E|f_i|^2) < rtol sqrt(2 L)."""
        low = motion.log_norm < 0.0
        if not low.any():
            return low
        residual = motion.residual()
        share = motion.kernel.contribution(np.exp(motion.log_norm)[:, None] * motion.direction)
        low &= share < rtol * np.sqrt(2.0 * motion.loss())
        return low & (leading.utility(motion.direction, residual) < 0.0) if low.any() else low
