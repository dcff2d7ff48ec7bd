"""Both verbs where neurons activate as directions of the neuron space: linear networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import LSODA

from ._active import Drift, Phase
from ._directions import Directions, Growth, form, modes
from ._kernel import Kernel
from ._run import Halt, Run, quiet
from .engine import _relaxation

__all__ = ["directions_alternating_gradient_flow", "directions_gradient_flow"]

Array = NDArray[np.float64]
Observer = Callable[[dict[str, Any]], bool]

_TIE = 1e-12  # crossing times that agree to this are one event
# What an equilibrium leaves of the residual's error, relative to the residual.
_LEFT_OVER = 1e-8
_SOFT = 1e-9  # curvatures below this part of the largest belong to symmetries: nothing moves along them
_QUIET = 1e-16  # part of the loss still to be gained at which a flow is taken to be at rest
_CROWDED = 0.1  # least distance of a visible column from the span of those before it, relative to its norm
_STRAIN = 5.0  # exponent over which faint columns are moved by one matrix


class _Network:
    """State of a run."""

    def __init__(self, kernel: Kernel, start: dict[str, Any], max_seconds: float) -> None:
        self.kernel = kernel.double()
        self.start = start
        self.directions, self.structured = Directions.of(start)
        self.time, self.scaled_time = float(start["time"]), float(start["scaled_time"])
        self.phase_elapsed = float(start["phase_elapsed"])
        self.log_eta = float(start["log_eta"])
        if np.isnan(self.log_eta):
            distance = -np.asarray(start["log_norm"])
            below = distance[distance > 0.0]
            self.log_eta = float(np.log(below.mean())) if below.size else 0.0
        self.run, self.drift = Run(max_seconds), Drift(self.kernel)
        top = modes(self.kernel, self.kernel.target())[0][-1]
        self.floor = 0.5e-10 * float(top)  # of utilities

    def residual(self) -> Array:
        self.run.evaluations += 1
        return np.asarray(self.kernel.residual(self.theta()))

    def loss(self) -> float:
        return float(self.kernel.loss(self.theta()))

    def theta(self) -> Array:
        return np.ascontiguousarray(self.directions.visible.T)

    def pass_time(self, wait: float) -> None:
        self.time += wait
        self.scaled_time += wait * float(np.exp(-self.log_eta))

    def state(self, directions: Directions | None = None) -> dict[str, Any]:
        directions = self.directions if directions is None else directions
        rows, logs = directions.rows()
        return {
            "direction": rows,
            "log_norm": logs,
            "active": logs >= 0.0,
            "time": self.time,
            "scaled_time": self.scaled_time,
            "log_eta": self.log_eta,
            "phase_elapsed": self.phase_elapsed,
            "extra": directions.extra(),
        }

    def result(
        self, status: str, jumps: list[dict[str, Any]], record: list[tuple[float, ...]], states: list[dict[str, Any]]
    ) -> dict[str, Any]:
        times, scaled, losses, elapsed = (np.array(column) for column in zip(*record, strict=True))
        return {
            "jumps": jumps,
            "time": times,
            "scaled_time": scaled,
            "loss": losses,
            "elapsed": elapsed,
            "states": states,
            "state": self.state(),
            "status": status,
            "log_eta": self.log_eta,
            "conserved_drift": self.drift.largest,
            "notes": sorted(self.run.notes),
            "stats": self.run.stats(),
        }


@np.errstate(all="ignore")
def directions_alternating_gradient_flow(
    kernel: Kernel,
    start: dict[str, Any],
    *,
    max_jumps: int = -1,
    loss_tol: float = 0.0,
    activation_window: float = 0.0,
    adaptive_rate: bool = False,
    active_time: float = np.inf,
    rtol: float = 1e-9,
    max_seconds: float = np.inf,
    observer: Observer | None = None,
) -> dict[str, Any]:
    """Algorithm 1 by directions: the next singular value of the dormant block to reach 1 activates.

    Arguments and result are those of `alternating_gradient_flow`; neuron, activated and returned of a jump count
    directions in the order of their activation, and adaptive rates change nothing at kappa = 2.
    """
    del adaptive_rate
    network = _Network(kernel, start, max_seconds)
    directions, run = network.directions, network.run
    if directions.learned < 0:
        # Left by a flow.
        directions.hide(np.ones(directions.visible.shape[1], dtype=bool))
        directions.orthogonalize()
        directions.learned = 0
    if directions.learned == 0:
        while directions.count and directions.log_norms()[0] >= 0.0:
            directions.show(float(directions.log_norms()[0]))
            directions.learned += 1
    order = list(range(directions.learned - directions.visible.shape[1], directions.learned))
    record: list[tuple[float, ...]] = [(network.time, network.scaled_time, network.loss(), network.time)]
    jumps: list[dict[str, Any]] = []

    def active_phase() -> Phase:
        """The active columns, as neurons of their own, to equilibrium."""
        norms = np.linalg.norm(directions.visible, axis=0)
        phase = Phase(
            list(range(len(norms))), (directions.visible / norms).T.copy(), np.log(norms), network.phase_elapsed
        )
        began = phase.elapsed
        try:
            phase.follow(
                network.kernel,
                active_time=active_time,
                loss_tol=loss_tol,
                rtol=rtol,
                adaptive_rate=False,
                run=run,
                drift=network.drift,
            )
            network.phase_elapsed = np.inf
        except Halt:
            network.phase_elapsed = phase.elapsed
            raise
        finally:
            run.active_time.append(phase.elapsed - began)
            directions.visible = (np.exp(phase.log_norm)[:, None] * phase.direction).T
            if phase.converged and not phase.returned:
                directions.visible = _settled(network.kernel, network.theta()).T
        phase.returned = [order[k] for k in phase.returned]
        if phase.returned:
            gone = ~np.isin(np.arange(len(norms)), phase.members)
            directions.hide(gone)
            order[:] = [order[k] for k in phase.members]
        return phase

    status = ""
    try:
        if not directions.visible.size and not network.kernel.target().any():
            status = "nothing_to_learn"
        elif directions.visible.size and np.isfinite(network.phase_elapsed):
            active_phase()
            record[0] = (network.time, network.scaled_time, network.loss(), network.time)
        while not status:
            loss = network.loss()
            if loss <= loss_tol:
                status = "loss_tol"
            elif 0 <= max_jumps <= len(jumps):
                status = "max_jumps"
            elif not directions.count:
                status = "all_active"
            if status:
                break
            residual = network.residual()
            beta, vectors = modes(network.kernel, residual)
            directions.adopt(beta, vectors, None, network.structured)
            network.structured = True
            least = network.floor
            if directions.visible.size:
                least = max(least, _LEFT_OVER * np.sqrt(2.0 * loss) * network.kernel.reach)
            growth = Growth(directions, beta)
            # U = beta / 2 at a unit eigenvector.
            wait = growth.crossing(0.0, 2.0 * least)
            if not np.isfinite(wait):
                status = "inert"
                break
            run.poll()
            _, slope, logs = growth.at(wait)
            directions.grow(beta, wait)
            directions.orthogonalize()
            network.pass_time(wait)
            unit = directions.direction(0)
            utility, gradient = network.kernel.utility_and_gradient(unit[None], residual)
            jump: dict[str, Any] = {
                "time": network.time,
                "scaled_time": network.scaled_time,
                "neuron": directions.learned,
                "utility": float(utility[0]),
                "direction": unit,
                "alignment": float(unit @ gradient[0] / np.linalg.norm(gradient)),
                "loss_before": loss,
            }
            activated = []
            together = max(_TIE * wait * slope, 1e-14)
            for behind in logs[0] - logs:
                if behind > max(together, activation_window) or not directions.count:
                    break
                directions.show(0.0 if behind <= together and wait > 0.0 else float(directions.log_norms()[0]))
                activated.append(directions.learned)
                directions.learned += 1
            order += activated
            after = Growth(directions, beta).crossing(0.0, 2.0 * least) if directions.count else np.inf
            scaled = after * np.exp(-network.log_eta)
            jump["gap"] = float(scaled / (network.scaled_time + scaled)) if np.isfinite(after) else 1.0
            network.phase_elapsed = 0.0
            phase = active_phase()
            jump.update(
                activated=tuple(activated),
                returned=tuple(phase.returned),
                converged=phase.converged,
                gradient_norm=phase.gradient_norm,
                active_time=phase.elapsed,
                relaxation=_relaxation(phase.course),
                loss_after=network.loss(),
                state=network.state(),
            )
            jumps.append(jump)
            record.append((network.time, network.scaled_time, jump["loss_after"], network.time))
            if observer is not None and observer(jump):
                status = "callback"
    except Halt as halt:
        status = halt.status
    except KeyboardInterrupt:
        status = "interrupted"
    return network.result(status, jumps, record, [jump["state"] for jump in jumps])


@np.errstate(all="ignore")
def directions_gradient_flow(
    kernel: Kernel,
    start: dict[str, Any],
    t_end: float,
    *,
    clock: str = "physical",
    save_at: Any = None,
    loss_tol: float = -1.0,
    rtol: float = 1e-9,
    max_seconds: float = np.inf,
    observer: Observer | None = None,
    adaptive_rate: bool = False,
) -> dict[str, Any]:
    """The full gradient flow: visible columns by an integrator, faint ones by the matrix that moves them all.

    Arguments and result are those of `gradient_flow`.
    """
    del adaptive_rate
    flow = _Flow(kernel, start, t_end, clock, save_at, loss_tol, rtol, max_seconds, observer)
    status = flow.follow()
    return flow.network.result(status, [], flow.record, flow.states)


class _Flow:
    def __init__(
        self,
        kernel: Kernel,
        start: dict[str, Any],
        t_end: float,
        clock: str,
        save_at: Any,
        loss_tol: float,
        rtol: float,
        max_seconds: float,
        observer: Observer | None,
    ) -> None:
        self.network = network = _Network(kernel, start, max_seconds)
        self.unit = float(np.exp(network.log_eta)) if clock == "scaled" else 1.0
        self.began = network.scaled_time * self.unit if clock == "scaled" else network.time
        self.origin = network.time, network.scaled_time
        self.end = t_end * self.unit - self.began  # in flow time from here on
        self.saves = None if save_at is None else [float(t) * self.unit - self.began for t in save_at]
        self.loss_tol, self.rtol, self.observer = loss_tol, rtol, observer
        zero = network.kernel.loss(np.zeros((0, network.kernel.n_params)))
        self.scale = zero if zero > 0.0 else 1.0
        # A column whose output is below a tenth of the accuracy asked for, relative to the residual, is out of sight.
        self.level = 0.5 * (
            np.log(max(0.1 * rtol, 1e-17)) - max(0.0, np.log(network.kernel.reach / np.sqrt(2 * self.scale)))
        )
        self.now = 0.0
        self.since = 0.0  # flow time of the last regrouping, and the time scale of the fastest motion then
        self.onset = 0.0
        self.drop = 0.0  # flow time of the last drop's beginning
        self.record: list[tuple[float, ...]] = []
        self.states: list[dict[str, Any]] = []
        self.stop = False

    def follow(self) -> str:
        network, directions = self.network, self.network.directions
        try:
            if network.structured:
                self._regroup()
            else:
                self._show(self.level)
            self._save(0.0)
            if not directions.visible.size and not network.kernel.target().any():
                return "nothing_to_learn"
            while not self.stop:
                network.run.poll()
                if self.loss_tol >= 0.0 and network.loss() <= self.loss_tol:
                    return "loss_tol"
                if self.now >= self.end:
                    return "t_end"
                if not directions.visible.size or self._at_rest():
                    self._plateau()
                else:
                    self._move()
        except Halt as halt:
            return halt.status
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            self._clock(self.now)
            directions.learned = -1
        return "callback"

    def _clock(self, at: float) -> None:
        self.network.time = self.origin[0] + at
        self.network.scaled_time = self.origin[1] + at * float(np.exp(-self.network.log_eta))

    def _save(self, at: float, directions: Directions | None = None) -> None:
        """A point of the record at a time that has been reached, where one is wanted; directions as they were then."""
        network = self.network
        if self.saves is not None and (not self.saves or self.saves[0] > at * (1.0 + 1e-15)):
            return
        self._clock(at)
        state = None
        loss = network.loss()
        if self.saves is not None:
            self.saves.pop(0)
            directions = network.directions if directions is None else directions
            directions.learned = -1
            loss = float(network.kernel.loss(np.ascontiguousarray(directions.visible.T)))
            state = network.state(directions)
            self.states.append(state)
        point = (network.time, network.scaled_time, loss, at - self.drop)
        self.record.append(point)
        names = ("time", "scaled_time", "loss", "elapsed")
        if self.observer is not None and self.observer({**dict(zip(names, point, strict=True)), "state": state}):
            self.stop = True
        elif self.saves is not None:
            self._save(at, directions)

    def _show(self, level: float) -> None:
        directions = self.network.directions
        while directions.count and directions.log_norms()[0] >= level:
            directions.show(float(directions.log_norms()[0]))
        self.since, self.onset = self.now, 1.0 / max(self._rate(), 1e-300)
        self._adopt(None)

    def _regroup(self) -> None:
        directions = self.network.directions
        directions.hide(np.ones(directions.visible.shape[1], dtype=bool))
        directions.orthogonalize()
        self._show(self.level - 1.0)

    def _adopt(self, motion: Array | None) -> None:
        self.beta, vectors = modes(self.network.kernel, self.network.residual())
        # The largest grows into all columns alike, and in a frame that turns they would keep nothing else.
        self.network.directions.orthogonalize()
        self.network.directions.adopt(self.beta, vectors, motion, self.network.structured)
        self.network.structured = True

    def _growing(self) -> bool:
        growth = Growth(self.network.directions, self.beta)
        return bool(np.isfinite(growth.crossing(self.level, 1e-10 * self.beta[-1])))

    def _rate(self) -> float:
        """The fastest relative change of a visible column."""
        theta = self.network.theta()
        gradient = self.network.kernel.utility_gradient(theta)
        return float((np.linalg.norm(gradient, axis=1) / np.linalg.norm(theta, axis=1)).max(initial=0.0))

    def _at_rest(self) -> bool:
        """What the visible columns may still gain is below the accuracy, and no direction hidden in them is unstable.

        One that is unstable is no reason to go on where a faint column carries it too, and so grows faster.
        """
        network = self.network
        theta = network.theta()
        time = self.now - self.since + self.onset
        left = float(np.sum(network.kernel.utility_gradient(theta) ** 2)) * time
        if self._rate() * time > 1.0 or left > max(_QUIET * network.loss(), 1e-20 * self.scale):
            return False
        curvature = np.linalg.eigvalsh(network.kernel.hessian(theta))
        if not (curvature[0] > -1e-9 * curvature[-1] or self._growing()):
            return False
        network.directions.visible = _settled(network.kernel, theta).T
        return True

    def _plateau(self) -> None:
        """The residual stands still, so that the faint columns are known at any time."""
        directions = self.network.directions
        self._adopt(None)
        least = max(2e-10 * np.sqrt(2.0 * self.scale) * self.network.kernel.reach, 1e-300)
        wait = Growth(directions, self.beta).crossing(self.level, least) if directions.count else np.inf
        goal = min(self.saves[0] if self.saves else self.end, self.end)
        if self.now + wait <= goal:
            directions.grow(self.beta, wait)
            directions.orthogonalize()
            self.now += wait
            self.drop = self.now
            # To rounding at the level.
            self._show(self.level - 1e-6)
        else:
            directions.grow(self.beta, goal - self.now)
            self.now = goal
        self._save(self.now)

    def _move(self) -> None:
        """Visible columns C and the motion G of the faint ones, C' = B(C) C and G' = B(C) G, for a while."""
        network, directions = self.network, self.network.directions
        kernel, (m, k) = network.kernel, directions.visible.shape
        top = directions.faint.top() if directions.count else 0
        columns = directions.frame @ directions.faint.scaled(top)
        logs = top * np.log(2.0)

        def field(_: float, y: Array) -> Array:
            network.run.evaluations += 1
            residual = kernel.residual(np.ascontiguousarray(y[: m * k].reshape(k, m)))
            return np.asarray((y.reshape(k + m, m) @ form(kernel, residual)).ravel())

        began, span = self.now, _STRAIN / max(self.beta[-1], -self.beta[0], 1e-300)
        tolerance = max(1e-2 * self.rtol, 1e-13)
        y = np.concatenate([directions.visible.T.ravel(), np.eye(m).ravel()])
        sizes = np.concatenate([np.repeat(np.linalg.norm(directions.visible, axis=0), m), np.ones(m * m)])
        network.drift.begin(*_polar(network.theta()))
        solver = LSODA(field, 0.0, y, min(span, self.end - began), rtol=tolerance, atol=tolerance * sizes)
        seen = False
        while solver.status == "running" and not seen and not self.stop:
            network.run.poll()
            with quiet():
                solver.step()
            if solver.status == "failed":
                raise Halt("non_finite")
            network.run.steps += 1
            dense = solver.dense_output()
            while self.saves and self.saves[0] <= began + solver.t and not self.stop:
                then = replace(directions, visible=_matrix(dense(self.saves[0] - began)[: m * k], m))
                vectors = modes(kernel, kernel.residual(np.ascontiguousarray(then.visible.T)))
                then.adopt(*vectors, _matrix(dense(self.saves[0] - began)[m * k :], m), network.structured)
                self._save(self.saves[0], then)
            directions.visible, motion = _matrix(solver.y[: m * k], m), _matrix(solver.y[m * k :], m)
            network.drift.see(*_polar(network.theta()))
            if self.saves is None:
                self._save(began + solver.t)
            if self.loss_tol >= 0.0 and network.loss() <= self.loss_tol:
                break
            size = np.linalg.norm(motion @ columns, 2) if columns.size else 0.0
            seen = bool(np.log(max(size, 1e-300)) + logs >= self.level)
        self.now = began + solver.t
        self._adopt(motion)
        if seen:
            directions.orthogonalize()
            self._show(self.level - 1e-6)
        elif self._crowded():
            self._regroup()

    def _crowded(self) -> bool:
        """Visible columns have faded, or share so much that the error of a large one drowns a small one."""
        visible = self.network.directions.visible
        norms = np.linalg.norm(visible, axis=0)
        independent = np.abs(np.diag(np.linalg.qr(visible / norms, mode="r")))
        return bool(np.log(norms.min()) < self.level - 2.0 or independent.min() < _CROWDED)


def _settled(kernel: Kernel, theta: Array) -> Array:
    """The equilibrium that a phase has come close to, by Newton's method.

    A phase ends where it may still gain 1e-8 of the loss; that is an error of 1e-4 in the residual, and so in the times
    of what follows.
    """
    gradient = kernel.utility_gradient(theta)
    for _ in range(5):
        curvature, vectors = np.linalg.eigh(kernel.hessian(theta))
        stiff = np.abs(curvature) > _SOFT * np.abs(curvature).max(initial=0.0)
        along = vectors[:, stiff]
        after = theta + (along @ (along.T @ gradient.ravel() / curvature[stiff])).reshape(theta.shape)
        left = kernel.utility_gradient(after)
        if not np.linalg.norm(left) < np.linalg.norm(gradient):
            break
        theta, gradient = after, left
    return theta


def _matrix(y: Array, m: int) -> Array:
    """Columns of m numbers from a vector."""
    return y.reshape(-1, m).T.copy()


def _polar(theta: Array) -> tuple[Array, Array]:
    norms = np.linalg.norm(theta, axis=1)
    return theta / norms[:, None], np.log(norms)
