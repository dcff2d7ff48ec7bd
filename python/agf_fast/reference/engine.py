"""Algorithm 1 of Alternating Gradient Flows (arXiv 2506.06489), and the gradient flow that it approximates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._flow_jumps import flow_jumps
from ._active import Drift, Motion, Phase
from ._dormant import Course, Landscape, Point
from ._kernel import Kernel
from ._run import Halt, Run

__all__ = ["alternating_gradient_flow", "gradient_flow"]

Array = NDArray[np.float64]
Observer = Callable[[dict[str, Any]], bool]

# Crossings that agree to this, relative, are one event.
_TIE = 1e-12
# A neuron with kappa lambda below this contributes less to r than its rounding.
_UNFELT = -40.0
# Where sigma is not homogeneous a neuron is in its leading regime only if its norm is below this.
_LEADING = -25.0
# Accepted steps of one flow before it is given up: it is then in a valley where rounding keeps steps short.
_STEPS = 100000


class _Network:
    """State of a run: directions, log-norms, who is active, and both clocks."""

    def __init__(self, kernel: Kernel, start: dict[str, Any], adaptive_rate: bool) -> None:
        self.kernel = kernel.double()
        self.direction = np.array(start["direction"], dtype=np.float64)
        self.log_norm = np.array(start["log_norm"], dtype=np.float64)
        self.active = np.array(start["active"], dtype=bool)
        self.time, self.scaled_time = float(start["time"]), float(start["scaled_time"])
        self.phase_elapsed = float(start["phase_elapsed"])
        self.power = 0.0 if adaptive_rate else kernel.kappa - 2.0
        self.log_eta = float(start["log_eta"])
        if np.isnan(self.log_eta):
            self.log_eta = _mean_crossing_log(self.log_norm, self.power)
        gradients = self.kernel.leading().utility_gradient(self.direction, self.kernel.target())
        self.floor = 1e-10 * float(np.linalg.norm(gradients, axis=1).max(initial=0.0))
        # Data too large for their own squares, most often; solvers would not come back from there.
        self.finite = bool(np.isfinite(self.floor) and np.isfinite(self.kernel.loss(self.rows(self.log_norm > -300.0))))

    def state(self) -> dict[str, Any]:
        return {
            "direction": self.direction.copy(),
            "log_norm": self.log_norm.copy(),
            "active": self.active.copy(),
            "time": self.time,
            "scaled_time": self.scaled_time,
            "log_eta": self.log_eta,
            "phase_elapsed": self.phase_elapsed,
        }

    def pass_time(self, log_wait: float) -> None:
        """Both clocks go on by e^log_wait of physical time, which may leave double."""
        self.time += _exp(log_wait)
        self.scaled_time += _exp(log_wait - self.log_eta)

    def rows(self, who: NDArray[Any]) -> Array:
        return np.asarray(np.exp(self.log_norm[who])[:, None] * self.direction[who])


def _mean_crossing_log(log_norm: Array, power: float) -> float:
    """log E[c_i] over neurons below norm 1; c_i = -lambda_i, or (e^(-power lambda_i) - 1)/power for power > 0."""
    distance = -log_norm[log_norm < 0.0]
    if distance.size == 0:
        return 0.0
    if power == 0.0:
        return float(np.log(distance.mean()))
    logs = power * distance + np.log(-np.expm1(-power * distance)) - np.log(power)
    return float(logs.max() + np.log(np.mean(np.exp(logs - logs.max()))))


def _learns_nothing(kernel: Kernel) -> bool:
    return not kernel.target().any()


# Overflow and underflow are looked at where they matter: a trial step may be anything.
@np.errstate(all="ignore")
def alternating_gradient_flow(
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
    """Algorithm 1: dormant neurons maximise utility until one activates, active neurons minimise the loss, and again.

    Parameters
    ----------
    kernel : Kernel
        The problem.
    start : dict
        direction (H, m), log_norm (H,), active (H,), time, scaled_time, log_eta (NaN: taken from log_norm),
        phase_elapsed (flow time already spent in the present active phase, inf once it is complete).
    max_jumps : int, default -1
        Stop after so many events; -1 for no limit.
    loss_tol : float, default 0
        Stop when L <= loss_tol.
    activation_window : float, default 0
        Neurons whose log-norm is within this of 0 activate with the first, at their own norm.
    adaptive_rate : bool, default False
        Give each neuron the rate |theta|^(2 - kappa).
    active_time : float, default inf
        Longest flow time of one active phase.
    rtol : float, default 1e-9
        Accuracy.
    max_seconds : float, default inf
        Stop after so many seconds.
    observer : callable, optional
        Called with each jump; True stops.

    Returns
    -------
    dict
        jumps, time, scaled_time, loss, elapsed, states, state, status, log_eta, conserved_drift, notes, stats.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast.reference import Dense, alternating_gradient_flow
    >>> start = {"direction": np.array([[0.6, 0.8]]), "log_norm": np.array([-9.0]), "active": np.array([False]),
    ...          "time": 0.0, "scaled_time": 0.0, "log_eta": np.nan, "phase_elapsed": 0.0}
    >>> one = np.ones((1, 1))
    >>> result = alternating_gradient_flow(Dense(one, one, "identity"), start, loss_tol=1e-8)
    >>> result["status"], len(result["jumps"])
    ('loss_tol', 1)
    """
    run = Run(max_seconds)
    network = _Network(kernel, start, adaptive_rate)
    drift = Drift(network.kernel)
    phase_options: dict[str, Any] = {
        "active_time": active_time,
        "loss_tol": loss_tol,
        "rtol": rtol,
        "adaptive_rate": adaptive_rate,
        "run": run,
        "drift": drift,
    }
    first_loss = network.kernel.loss(network.rows(network.active))
    record = [(network.time, network.scaled_time, first_loss)]
    jumps: list[dict[str, Any]] = []
    sensitive = np.zeros(len(network.log_norm), dtype=bool)
    instant = 0

    def active_phase() -> Phase:
        members = [int(i) for i in np.flatnonzero(network.active)]
        phase = Phase(members, network.direction, network.log_norm, network.phase_elapsed)
        began = phase.elapsed
        try:
            phase.follow(network.kernel, **phase_options)
            network.phase_elapsed = np.inf
        except BaseException:
            network.phase_elapsed = phase.elapsed
            phases.append(phase)
            raise
        finally:
            network.active[:] = False
            network.active[phase.members] = True
            run.active_time.append(phase.elapsed - began)
        return phase

    phases: list[Phase] = []  # the one that was cut short
    pending: dict[str, Any] | None = None
    status = ""
    try:
        if not network.finite:
            status = "non_finite"
        elif _learns_nothing(network.kernel):
            status = "nothing_to_learn"
        elif network.active.any() and np.isfinite(network.phase_elapsed):
            try:
                active_phase()
            finally:
                # The clock starts on the plateau that this phase ends on.
                record[0] = (network.time, network.scaled_time, network.kernel.loss(network.rows(network.active)))
        while not status:
            rows = network.rows(network.active)
            residual, loss = network.kernel.residual(rows), network.kernel.loss(rows)
            if loss <= loss_tol:
                status = "loss_tol"
            elif 0 <= max_jumps <= len(jumps):
                status = "max_jumps"
            elif network.active.all():
                status = "all_active"
            if status:
                break
            landscape = Landscape(network.kernel, residual, network.floor, adaptive_rate, run)
            event = _dormant_phase(network, landscape, activation_window, sensitive)
            if event is None:
                status = "inert"
                break
            winner, activated, utility, direction, alignment, waited = event
            instant = 0 if waited else instant + 1
            network.phase_elapsed = 0.0
            pending = {
                "gap": _gap(network, landscape),
                "time": network.time,
                "scaled_time": network.scaled_time,
                "neuron": winner,
                "utility": utility,
                "direction": direction,
                "alignment": alignment,
                "loss_before": loss,
                "activated": activated,
            }
            phase = active_phase()
            jumps.append(_finish_jump(pending, phase, network))
            pending = None
            record.append((network.time, network.scaled_time, phase.loss))
            if observer is not None and observer(jumps[-1]):
                status = "callback"
            elif not np.isfinite(phase.loss):
                status = "non_finite"
            elif instant > 10 * len(network.log_norm):
                # Neurons that return and activate again in the same instant, for ever.
                status = "work_limit"
    except Halt as halt:
        status = halt.status
    except np.linalg.LinAlgError:
        status = "non_finite"
    except KeyboardInterrupt:
        status = "interrupted"
    if pending is not None:
        # Cut short in its active phase: what there is belongs to the record, and the state says how far the phase got.
        phase = phases[-1] if phases else Phase([], network.direction, network.log_norm, 0.0)
        phase.loss = network.kernel.loss(network.rows(network.active))
        phase.converged = False
        jumps.append(_finish_jump(pending, phase, network))
        record.append((network.time, network.scaled_time, phase.loss))
    times, scaled, losses = (np.array(column) for column in zip(*record, strict=True))
    with np.errstate(invalid="ignore"):
        since = np.diff(times, prepend=times[0])
    return {
        "jumps": jumps,
        "time": times,
        "scaled_time": scaled,
        "loss": losses,
        "elapsed": np.nan_to_num(since, posinf=np.inf),
        "states": [jump["state"] for jump in jumps],
        "state": network.state(),
        "status": status,
        "log_eta": network.log_eta,
        "conserved_drift": drift.largest,
        "notes": sorted(run.notes),
        "stats": run.stats(),
    }


def _finish_jump(pending: dict[str, Any], phase: Phase, network: _Network) -> dict[str, Any]:
    return {
        **pending,
        "loss_after": phase.loss,
        "returned": tuple(sorted(phase.returned)),
        "converged": phase.converged,
        "gradient_norm": phase.gradient_norm,
        "active_time": phase.elapsed,
        "relaxation": _relaxation(phase.course),
        "state": network.state(),
    }


def _relaxation(course: list[tuple[float, float]]) -> float:
    """Flow time until a tenth of the drop was left, the drop counted from the highest loss of the phase."""
    if not course:
        return 0.0
    times, losses = np.array(course).T
    top = int(np.argmax(losses))
    tenth = losses[-1] + 0.1 * (losses[top] - losses[-1])
    now = top + int(np.argmax(losses[top:] <= tenth))
    if now == top:
        return float(times[now])
    part = (losses[now - 1] - tenth) / (losses[now - 1] - losses[now])
    return float(times[now - 1] + part * (times[now] - times[now - 1]))


def _gap(network: _Network, landscape: Landscape) -> float:
    """How far the next dormant neuron was from being first: (t_2 - t_1) / t_2 in the scaled clock.

    t_2 is when it would cross if its utility stayed as it is; 1 where there is no other.
    """
    rest = ~network.active
    utility = landscape.kernel.utility(network.direction[rest], landscape.residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.array(
            [_mean_crossing_log(np.array([x]), network.power) if x < 0 else -np.inf for x in network.log_norm[rest]]
        )
        least = (np.exp(logs - network.log_eta) / (landscape.kernel.kappa * utility))[utility > 0].min(initial=np.inf)
    return float(least / (network.scaled_time + least)) if np.isfinite(least) else 1.0


def _dormant_phase(
    network: _Network, landscape: Landscape, activation_window: float, sensitive: NDArray[np.bool_]
) -> tuple[int, tuple[int, ...], float, Array, float, bool] | None:
    """Takes all dormant neurons to the first activation; None if none of them can ever activate.

    `sensitive` marks neurons whose direction has lost components to rounding; if such a neuron now stands at a saddle,
    what it lost decides where it goes.
    """
    dormant = np.flatnonzero(~network.active)
    courses = {int(i): Course(landscape, network.direction[i], float(network.log_norm[i])) for i in dormant}
    for i, course in courses.items():
        if sensitive[i] and course.at_saddle():
            landscape.run.notes.add("direction_unresolved")
    first = _race(courses)
    if not np.isfinite(first):
        if first > 0:
            return None
        first = -np.inf
    near = _nearness(first)
    winners = [i for i, course in courses.items() if course.crossing_time <= first + near]
    winner = min(winners, key=lambda i: (courses[i].crossing_time, i))
    crossing = courses[winner].end
    points: dict[int, Point] = {i: course.at(first) for i, course in courses.items() if i not in winners}
    for i, point in points.items():
        network.direction[i], network.log_norm[i] = (
            point.u,
            min(point.log_norm, 0.0) if network.log_norm[i] < 0 else point.log_norm,
        )
        sensitive[i] |= point.forgotten
    for i in winners:
        # Norm exactly 1, unless it was put into the dormant set above that.
        network.direction[i], network.log_norm[i] = courses[i].end.u, max(0.0, network.log_norm[i])
    network.pass_time(first)
    also = [i for i, point in points.items() if point.log_norm >= -activation_window] if activation_window > 0 else []
    activated = tuple(sorted(winners + also))
    network.active[list(activated)] = True
    gradient = landscape.kernel.utility_gradient(crossing.u[None], landscape.residual)[0]
    utility = float(landscape.kernel.utility(crossing.u[None], landscape.residual)[0])
    alignment = float(crossing.u @ gradient / np.linalg.norm(gradient))
    return winner, activated, utility, crossing.u.copy(), alignment, bool(np.isfinite(first))


def _race(courses: dict[int, Course]) -> float:
    """Follows every course until the first crossing of all; returns its log time, inf if there is none."""
    best = np.inf
    for course in courses.values():
        course.follow(best + _nearness(best))
        best = min(best, course.crossing_time)
    return best


def _nearness(log_time: float) -> float:
    # A difference of logarithms is a relative difference of times, known no better than the logarithm's rounding.
    return max(_TIE, 8 * np.finfo(np.float64).eps * abs(log_time)) if np.isfinite(log_time) else 0.0


@np.errstate(all="ignore")
def gradient_flow(
    kernel: Kernel,
    start: dict[str, Any],
    t_end: float,
    *,
    clock: str = "physical",
    save_at: Array | None = None,
    loss_tol: float = -1.0,
    rtol: float = 1e-9,
    max_seconds: float = np.inf,
    observer: Observer | None = None,
    adaptive_rate: bool = False,
) -> dict[str, Any]:
    """The gradient flow of every neuron at once, from any scale.

    While the neurons that are felt stand at equilibrium, r stands still and each of the others goes its own way,
    exactly as in a dormant phase but up to the norm at which it is felt: plateaus of any length cost the same.
    Otherwise all move together.

    Parameters
    ----------
    kernel : Kernel
        The problem.
    start : dict
        As for `alternating_gradient_flow`.
    t_end : float
        Where to stop, in the given clock.
    clock : {"physical", "scaled"}
        The clock of t_end and save_at.
    save_at : (k,) array, optional
        Times to save, in order; by default every accepted step, the start and the end.
    loss_tol : float, default -1
        Stop when L <= loss_tol.
    rtol : float, default 1e-9
        Accuracy.
    max_seconds : float, default inf
        Stop after so many seconds.
    observer : callable, optional
        Called at each saved point; True stops.
    adaptive_rate : bool, default False
        Give each neuron the rate |theta|^(2 - kappa).

    Returns
    -------
    dict
        As `alternating_gradient_flow`; jumps are the drops of the loss, not tied to a neuron.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast.reference import Dense, gradient_flow
    >>> start = {"direction": np.array([[0.6, 0.8]]), "log_norm": np.array([-9.0]), "active": np.array([False]),
    ...          "time": 0.0, "scaled_time": 0.0, "log_eta": np.nan, "phase_elapsed": 0.0}
    >>> one = np.ones((1, 1))
    >>> result = gradient_flow(Dense(one, one, "identity"), start, 40.0, save_at=np.array([0.0, 40.0]))
    >>> result["status"], result["loss"].round(6).tolist()
    ('t_end', [0.5, 0.0])
    """
    flow = _Flow(kernel, start, t_end, clock, save_at, loss_tol, rtol, max_seconds, observer, adaptive_rate)
    return flow.follow()


class _Flow:
    """A gradient flow under way: the network, what was recorded of it, and what is still to be saved."""

    def __init__(
        self,
        kernel: Kernel,
        start: dict[str, Any],
        t_end: float,
        clock: str,
        save_at: Array | None,
        loss_tol: float,
        rtol: float,
        max_seconds: float,
        observer: Observer | None,
        adaptive_rate: bool,
    ) -> None:
        self.network = _Network(kernel, start, adaptive_rate)
        self.kernel = self.network.kernel
        self.run = Run(max_seconds)
        self.drift = Drift(self.kernel)
        self.t_end, self.scaled_clock, self.loss_tol, self.rtol = float(t_end), clock == "scaled", loss_tol, rtol
        self.observer, self.adaptive_rate = observer, adaptive_rate
        self.due = None if save_at is None else [float(t) for t in save_at]
        self.saved: list[tuple[float, float, float, float]] = []
        self.states: list[dict[str, Any]] = []
        self.dense: list[tuple[float, float, float, float]] = []
        self.forgotten: set[int] = set()
        self.at_rest = False
        # Since r began to move: its highest speed and when that was; the last look at it, and r then.
        self.seen: tuple[float, float, float, Array] | None = None
        # Time since r last began to move.
        self.elapsed = self.network.phase_elapsed if np.isfinite(self.network.phase_elapsed) else 0.0

    def follow(self) -> dict[str, Any]:
        status = ""
        network = self.network
        self.drift.begin(network.direction, network.log_norm)
        try:
            if not network.finite:
                status = "non_finite"
            elif _learns_nothing(self.kernel) and not self._felt(self.kernel.target()).any():
                status = "nothing_to_learn"
            self._record(network.direction, network.log_norm, network.time, network.scaled_time, self.elapsed)
            while not status:
                status = self._next()
        except Halt as halt:
            status = halt.status
        except np.linalg.LinAlgError:
            status = "non_finite"
        except KeyboardInterrupt:
            status = "interrupted"
        network.active = network.log_norm >= 0.0
        network.phase_elapsed = self.elapsed
        if self.due is None and self.saved[-1] != self.dense[-1]:
            self.saved.append(self.dense[-1])
        saved = np.array(self.saved).reshape(-1, 4)
        record = np.array(self.dense)
        blank = {
            "neuron": -1,
            "utility": np.nan,
            "direction": np.empty(0),
            "alignment": np.nan,
            "activated": (),
            "returned": (),
            "converged": False,
            "gradient_norm": np.nan,
            "active_time": np.nan,
            "state": None,
        }
        return {
            "jumps": [{**drop, **blank} for drop in flow_jumps(*record.T)],
            "time": saved[:, 0],
            "scaled_time": saved[:, 1],
            "loss": saved[:, 2],
            "elapsed": saved[:, 3],
            "states": self.states,
            "state": network.state(),
            "status": status,
            "log_eta": network.log_eta,
            "conserved_drift": self.drift.largest,
            "notes": sorted(self.run.notes),
            "stats": self.run.stats(),
        }

    def _next(self) -> str:
        """The next plateau or the next stretch of joint motion; returns a status once the run is over."""
        if self._left() <= 0.0:
            return "t_end"
        if 0.0 <= self.dense[-1][2] <= self.loss_tol:
            return "loss_tol"
        network = self.network
        residual = self.kernel.residual(network.rows(network.log_norm > -300.0))
        felt = self._felt(residual)
        if felt.any():
            motion = self._motion(felt)
            # Sliding neurons are put exactly on their planes.
            network.direction = motion.direction.copy()
            if not self.at_rest:
                return self._move(motion)
        return self._plateau(felt)

    # Clocks.

    def _left(self) -> float:
        """Physical time left; inf where the clock's own unit leaves double."""
        return self._until(self.t_end)

    def _until(self, moment: float) -> float:
        """Physical time from now to a moment of the user's clock."""
        network = self.network
        if not self.scaled_clock:
            return moment - network.time if np.isfinite(network.time) else 0.0
        left = moment - network.scaled_time
        return _exp(_log_or_least(left) + network.log_eta) if left > 0.0 else left

    def _log_until(self, moment: float) -> float:
        network = self.network
        if not self.scaled_clock:
            return _log_or_least(moment - network.time) if np.isfinite(network.time) else -np.inf
        return _log_or_least(moment - network.scaled_time) + network.log_eta

    # Who matters.

    def _levels(self, residual: Array) -> float:
        """The log-norm at which a neuron begins to be felt."""
        size, reach = self.kernel.size(residual), self.kernel.reach
        level = (_UNFELT + min(0.0, np.log(max(size, 1e-300) / max(reach, 1e-300)))) / self.kernel.kappa
        return float(level if self.kernel.homogeneous else min(level, _LEADING))

    def _felt(self, residual: Array) -> NDArray[np.bool_]:
        return self.network.log_norm >= self._levels(residual) - 1e-9

    def _motion(self, felt: NDArray[np.bool_]) -> Motion:
        network = self.network
        return Motion(self.kernel, network.direction, network.log_norm, felt, self.rtol, self.adaptive_rate, self.run)

    def _still(self, motion: Motion, began: float) -> bool:
        """Whether r stands still: while the time since it moved fastest doubled, it moved by less than rtol.

        For relaxations, exponential or not, that bounds what is left of them. Below the integration's own noise nothing
        can be said; neurons that are felt but have not made themselves a place yet, and saddles, are still on their
        way.
        """
        residual = motion.residual()
        size = self.kernel.size(residual)
        if size == 0.0:
            return True
        felt, now = motion.felt, began + motion.elapsed
        rows = np.exp(motion.log_norm[felt])[:, None] * motion.direction[felt]
        velocity = motion.gradients()[felt]
        if self.adaptive_rate:
            velocity = velocity * np.exp((2.0 - self.kernel.kappa) * motion.log_norm[felt])[:, None]
        speed = self.kernel.size(self.kernel.residual_derivative(rows, velocity))
        if self.seen is None or speed > self.seen[0]:
            self.seen = speed, now, now, residual
            return False
        fastest, peak, then, before = self.seen
        if (now - peak) * motion.fastest() < 1e3 or now == then or now - peak < 2.0 * (then - peak):
            return False
        self.seen = fastest, peak, now, residual
        share = self.kernel.contribution(rows)
        moved = np.sqrt(np.mean(np.sum((residual - before) ** 2, axis=1)))
        if (share < 1e-6 * size).any() or moved > max(self.rtol * size, 10.0 * motion.tolerance * share.sum()):
            return False
        curvatures = np.linalg.eigvalsh(motion.hessian())
        return bool(curvatures[0] >= -1e-9 * curvatures[-1])

    # The two ways of going on.

    def _move(self, motion: Motion) -> str:
        """All neurons together, until r stands still, someone begins or ceases to be felt, or the end."""
        network = self.network
        began = network.time, network.scaled_time, self.elapsed
        left = self._left()
        for count in range(1, _STEPS + 1):
            if self.run.steps > _STEPS:
                break
            before = motion.elapsed
            state = motion.step(left)
            while self.due and (wait := self._until_from(began, self.due[0])) <= motion.elapsed:
                u, log_norm = state(max(wait, before))
                self._save(u, log_norm, began, max(wait, before))
            network.direction, network.log_norm = motion.direction.copy(), motion.log_norm.copy()
            self._set_clocks(began, motion.elapsed)
            loss = self._record(network.direction, network.log_norm, network.time, network.scaled_time, self.elapsed)
            if not np.isfinite(loss):
                return "non_finite"
            if loss <= self.loss_tol or motion.elapsed >= left:
                return ""
            residual = motion.residual()
            level = self._levels(residual)
            if (motion.log_norm[~motion.felt] >= level).any() or (motion.log_norm[motion.felt] < level - 3.0).any():
                return ""
            if count % 10 == 0 and self._still(motion, began[2]):
                self.at_rest = True
                return ""
        return "work_limit"

    def _until_from(self, began: tuple[float, float, float], moment: float) -> float:
        kept = self.network.time, self.network.scaled_time
        self.network.time, self.network.scaled_time = began[:2]
        wait = self._until(moment)
        self.network.time, self.network.scaled_time = kept
        return wait

    def _set_clocks(self, began: tuple[float, float, float], passed: float) -> None:
        self.network.time = began[0] + passed
        self.network.scaled_time = began[1] + passed * _exp(-self.network.log_eta)
        self.elapsed = began[2] + passed
        if passed >= self._until_from(began, self.t_end):
            # The end itself, not what rounding makes of it.
            if self.scaled_clock:
                self.network.scaled_time = max(self.t_end, began[1])
            else:
                self.network.time = max(self.t_end, began[0])

    def _plateau(self, felt: NDArray[np.bool_]) -> str:
        """r stands still: everyone who is not felt goes his own way until the first of them is."""
        network = self.network
        residual = self.kernel.residual(network.rows(felt))
        level = self._levels(residual)
        landscape = Landscape(self.kernel, residual, network.floor, self.adaptive_rate, self.run)
        limit = self._log_until(self.t_end)
        courses = {
            int(i): Course(landscape, network.direction[i], float(network.log_norm[i]), level)
            for i in np.flatnonzero(~felt)
        }
        for course in courses.values():
            course.follow(limit)
            limit = min(limit, course.crossing_time)
        if limit == np.inf:
            return "inert" if courses else "all_active"
        began = network.time, network.scaled_time, self.elapsed

        def at(log_wait: float) -> tuple[Array, Array]:
            u, log_norm = network.direction.copy(), network.log_norm.copy()
            for i, course in courses.items():
                point = course.end if course.crossing_time <= log_wait else course.at(log_wait)
                u[i], log_norm[i] = point.u, point.log_norm
                if point.forgotten:
                    self.forgotten.add(i)
            return u, log_norm

        for i, course in courses.items():
            if i in self.forgotten and course.at_saddle():
                self.run.notes.add("direction_unresolved")
        while self.due and self._log_until(self.due[0]) <= limit:
            log_wait = self._log_until(self.due[0])
            u, log_norm = at(log_wait)
            self._save(u, log_norm, began, _exp(log_wait), _exp(log_wait - network.log_eta))
        final = limit >= self._log_until(self.t_end)
        network.direction, network.log_norm = at(limit)
        network.pass_time(limit)
        if final:
            if self.scaled_clock:
                network.scaled_time = self.t_end
            else:
                network.time = self.t_end
        # Here r begins to move again.
        self.elapsed = began[2] + _exp(limit) if final else 0.0
        self.seen, self.at_rest = None, False
        self._record(network.direction, network.log_norm, network.time, network.scaled_time, self.elapsed)
        return ""

    # Records.

    def _loss(self, u: Array, log_norm: Array) -> float:
        return self.kernel.loss(np.exp(np.maximum(log_norm, -700.0))[:, None] * u)

    def _record(self, u: Array, log_norm: Array, time: float, scaled_time: float, elapsed: float) -> float:
        """A point of the dense record; also a saved one if every step is."""
        loss = self._loss(u, log_norm)
        self.drift.see(u, log_norm)
        point = time, scaled_time, loss, elapsed
        self.dense.append(point)
        if self.due is None:
            self._give(point, None)
        else:
            while self.due and self._until(self.due[0]) <= 0.0:
                self._save(u, log_norm, (time, scaled_time, elapsed), 0.0)
        return loss

    def _save(
        self,
        u: Array,
        log_norm: Array,
        began: tuple[float, float, float],
        wait: float,
        scaled_wait: float | None = None,
    ) -> None:
        """The next due point, `wait` after `began`."""
        assert self.due is not None
        moment = self.due.pop(0)
        if scaled_wait is None:
            scaled_wait = wait * _exp(-self.network.log_eta)
        time, scaled_time = began[0] + wait, began[1] + scaled_wait
        time, scaled_time = (time, moment) if self.scaled_clock else (moment, scaled_time)
        elapsed = began[2] + wait
        state = {
            **self.network.state(),
            "direction": u.copy(),
            "log_norm": log_norm.copy(),
            "active": log_norm >= 0.0,
            "time": time,
            "scaled_time": scaled_time,
            "phase_elapsed": elapsed,
        }
        self.states.append(state)
        self._give((time, scaled_time, self._loss(u, log_norm), elapsed), state)

    def _give(self, point: tuple[float, float, float, float], state: dict[str, Any] | None) -> None:
        self.saved.append(point)
        if self.observer is not None:
            record = dict(zip(("time", "scaled_time", "loss", "elapsed"), point, strict=True), state=state)
            if self.observer(record):
                raise Halt("callback")


def _log_or_least(value: float) -> float:
    return float(np.log(value)) if value > 0.0 else -np.inf


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
