"""The verbs: alternating gradient flow, gradient flow, gradient descent."""

from __future__ import annotations

import importlib
import time as clocks
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, positive_integer, read_numbers
from ._backend import resolve
from ._problem import Problem
from ._samples import SampleProblem
from ._state import State, mean_crossing_log, polar
from ._status import Status
from ._trajectory import Jump, Record, Trajectory

__all__ = ["alternating_gradient_flow", "gradient_descent", "gradient_flow"]


def alternating_gradient_flow(
    problem: Problem,
    state: State | Array | None = None,
    *,
    limit: bool = False,
    max_jumps: int | None = None,
    loss_tol: float | None = None,
    activation_window: float = 0.0,
    adaptive_rate: bool = False,
    active_time: float | None = None,
    rtol: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    progress: bool = False,
    callback: Callable[[Jump], Any] | None = None,
) -> Trajectory:
    """Alternate utility maximisation over dormant neurons with cost minimisation over active ones.

    Dormant neurons theta = exp(lambda) u, |u| = 1, follow du/dt = e^((kappa-2) lambda) P grad U(u; r) and
    dlambda/dt = kappa e^((kappa-2) lambda) U(u; r) with the residual r frozen and P = I - u u'. The first to reach norm
    1 joins the active ones, which then follow dtheta/dt = grad U(theta; r), r kept up to date, to equilibrium. The
    clock stands still meanwhile. The run ends when no dormant neuron can grow.

    Parameters
    ----------
    problem : Problem
        Such as a `Dense`.
    state : State or (H, m) array
        Where to start: from `problem.initialize`, from another run's `path.state`, or parameters.
    limit : bool, default False
        The limit of vanishing initialisation, exact, where it is known (`Diagonal`): without a state, times in units of
        ln(1/alpha).
    max_jumps : int, optional
        Stop after so many jumps of this call.
    loss_tol : float, optional
        Stop when L <= loss_tol. Default: 1e-10 of the loss of the zero network.
    activation_window : float, default 0
        Neurons whose log-norm is within this of the activating one's activate with it, at their own norm.
    adaptive_rate : bool, default False
        Give each neuron the learning rate |theta|^(2 - kappa): every kappa then has the clock of kappa = 2.
    active_time : float, optional
        Longest flow time of one active phase. Default: until equilibrium, within a work limit.
    rtol : float, optional
        Accuracy of the integration. Default: 1e-9, for float32 1e-5, the least it can resolve.
    max_seconds : float, optional
        Stop after so many seconds.
    backend : {"auto", "cpp", "numpy"}
        The compiled core, or the readable reference, which is far slower.
    progress : bool, default False
        Show a progress bar; needs tqdm.
    callback : callable, optional
        Called with each `Jump`; returning True stops the run.

    Returns
    -------
    Trajectory
        With one entry per jump after the first, for the start.

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.
    KeyboardInterrupt
        On Ctrl-C, with the trajectory so far as its attribute ``path``. An exception of the callback has it too.

    Notes
    -----
    Algorithm 1 of Alternating Gradient Flows, arXiv 2506.06489.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 4))
    >>> problem = agf.Dense(X, X @ rng.normal(size=(4, 2)), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(6))
    >>> len(path.jumps)
    2
    """
    _check_problem(problem)
    if _flag(limit, "limit") == (state is not None):
        raise TypeError(
            f"state is {'missing' if state is None else 'given'} with limit={limit}, expected a state, or limit=True "
            "without one; start from problem.initialize(...)"
        )
    start = None if state is None else problem._read_state(state)
    jumps = -1 if max_jumps is None else positive_integer(max_jumps, "max_jumps", 0)
    name = resolve(backend)
    options = {
        "max_jumps": jumps,
        "loss_tol": _loss_tol(problem, loss_tol),
        "activation_window": finite_number(activation_window, "activation_window", low=0.0),
        "adaptive_rate": _flag(adaptive_rate, "adaptive_rate"),
        "active_time": _or_infinite(active_time, "active_time"),
        "rtol": _rtol(problem, rtol),
        "max_seconds": _or_infinite(max_seconds, "max_seconds"),
    }
    total = jumps if jumps >= 0 else 0 if start is None else int(np.count_nonzero(~start._arrays()[2]))
    watch = _Watch(lambda record: Jump._from_engine(record, problem._kind), callback, _bar(progress, total, " jump"))
    with watch:
        if start is None:
            result = problem._limit(name, options, watch.observer)
        else:
            result = problem._alternate(name, problem._start(start, bool(adaptive_rate)), options, watch.observer)
    return watch.finish(result, problem, "alternating_gradient_flow")


def gradient_flow(
    problem: Problem,
    state: State | Array,
    t_end: float,
    *,
    clock: str = "physical",
    save_at: Any = None,
    loss_tol: float | None = None,
    adaptive_rate: bool = False,
    rtol: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    progress: bool = False,
    callback: Callable[[Record], Any] | None = None,
) -> Trajectory:
    """Follow the gradient flow dtheta_i/dt = -dL/dtheta_i of every neuron at once, from any scale.

    Parameters
    ----------
    problem : Problem
        Such as a `Dense`.
    state : State or (H, m) array
        Where to start.
    t_end : float
        Time at which to stop, in the given clock; not less than the state's own.
    clock : {"physical", "scaled"}
        Whether t_end and save_at are times t or t/eta. For kappa > 2 and extreme scales only the scaled clock is
        finite.
    save_at : sequence of float, optional
        Save exactly at these times, in order. Default: every accepted step, the start and t_end.
    loss_tol : float, optional
        Stop when L <= loss_tol. Default: 1e-10 of the loss of the zero network; never, if save_at is given.
    adaptive_rate : bool, default False
        Give each neuron the learning rate |theta|^(2 - kappa).
    rtol : float, optional
        Accuracy of the integration. Default: 1e-9, for float32 1e-5, the least it can resolve.
    max_seconds : float, optional
        Stop after so many seconds.
    backend : {"auto", "cpp", "numpy"}
        The compiled core, or the readable reference, which is far slower.
    progress : bool, default False
        Show a progress bar; needs tqdm.
    callback : callable, optional
        Called with a `Record` at each saved point; returning True stops the run.

    Returns
    -------
    Trajectory
        With one entry per saved point.

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.
    KeyboardInterrupt
        On Ctrl-C, with the trajectory so far as its attribute ``path``. An exception of the callback has it too.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
    >>> truth = agf.gradient_flow(problem, problem.initialize(4), 60.0, save_at=[0.0, 60.0])
    >>> [round(float(loss), 6) for loss in truth.loss]
    [0.5, 0.0]
    """
    _check_problem(problem)
    start = problem._read_state(state)
    if not isinstance(clock, str) or clock not in ("physical", "scaled"):
        raise ValueError(f"clock is {clock!r}, expected 'physical' or 'scaled'")
    record = problem._start(start, _flag(adaptive_rate, "adaptive_rate"))
    now = record["time" if clock == "physical" else "scaled_time"]
    if not np.isfinite(now):
        raise ValueError(f"state.time is {now} in the {clock} clock, expected a finite time; use clock='scaled'")
    end = finite_number(t_end, "t_end", low=now)
    times = None
    if save_at is not None:
        times = read_numbers(save_at, "save_at")
        if times.size == 0 or (np.diff(times) < 0).any() or times[0] < now or times[-1] > end:
            raise ValueError(
                f"save_at is {_short(times)}, expected at least one time, in increasing order, from the state's time "
                f"{now:g} to t_end = {end:g}; sort it and drop times outside"
            )
    name = resolve(backend)
    options = {
        "clock": clock,
        "save_at": times,
        "loss_tol": -1.0 if loss_tol is None and times is not None else _loss_tol(problem, loss_tol),
        "rtol": _rtol(problem, rtol),
        "max_seconds": _or_infinite(max_seconds, "max_seconds"),
        "adaptive_rate": bool(adaptive_rate),
    }
    key = "time" if clock == "physical" else "scaled_time"
    bar = _bar(progress, 1.0, "")
    watch = _Watch(
        lambda point: Record._from_engine(point, problem._kind),
        callback,
        bar,
        lambda point: (getattr(point, key) - now) / max(end - now, np.finfo(np.float64).tiny),
    )
    with watch:
        result = problem._flow(name, record, end, options, watch.observer)
    return watch.finish(result, problem, "gradient_flow")


def gradient_descent(
    problem: Problem,
    theta: State | Array,
    lr: float,
    steps: int,
    *,
    momentum: float = 0.0,
    batch: int | None = None,
    seed: int = 0,
    save_every: int | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    progress: bool = False,
    callback: Callable[[Record], Any] | None = None,
) -> Trajectory:
    """Train by plain gradient descent with finite steps, to see where training departs from the flow.

    v <- momentum v + grad U(theta; r), theta <- theta + lr v, the gradient taken over the batch's mean. One step
    advances the flow's time by lr / (1 - momentum). A step of size s on torch's MSELoss (the mean over c outputs,
    without 1/2) is lr = 2 s / c here.

    Parameters
    ----------
    problem : Problem
        Such as a `Dense`.
    theta : (H, m) array or State
        Where to start. Norms must be within the dtype, since plain parameters are trained.
    lr : float
        Step size.
    steps : int
        Number of steps.
    momentum : float, default 0
        Heavy-ball momentum, at least 0 and below 1.
    batch : int, optional
        Samples per step, drawn without replacement until all were seen, then shuffled anew; an incomplete last batch is
        skipped. Default: all of them.
    seed : int, default 0
        Of the shuffling.
    save_every : int, optional
        Save the loss over all samples every so many steps. Default: about 1,000 times in all.
    max_seconds, backend, progress, callback
        As for `gradient_flow`.

    Returns
    -------
    Trajectory
        With one entry per saved step, time being flow time. If training diverges the status is non_finite, with the
        last finite network as its state.

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.
    KeyboardInterrupt
        On Ctrl-C, with the trajectory so far as its attribute ``path``. An exception of the callback has it too.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
    >>> theta = problem.initialize(4, scale=0.1).parameters()
    >>> gd = agf.gradient_descent(problem, theta, lr=0.1, steps=1000)
    >>> gd.time[-1], bool(gd.loss[-1] < 1e-6)
    (np.float64(100.0), True)
    """
    _check_problem(problem)
    rows = problem._read_theta(theta)
    log_norm = polar(rows)[1]
    clock = (theta.time, theta.log_eta) if isinstance(theta, State) else (0.0, None)
    size = None if batch is None else _batch(problem, batch)
    count = positive_integer(steps, "steps")
    descent = _Descent(
        problem=problem,
        theta=rows,
        lr=finite_number(lr, "lr", above=0.0),
        steps=count,
        momentum=finite_number(momentum, "momentum", low=0.0, high=float(np.nextafter(1.0, 0.0))),
        batch=size,
        seed=positive_integer(seed, "seed", 0),
        save_every=max(1, count // 1000) if save_every is None else positive_integer(save_every, "save_every"),
        max_seconds=_or_infinite(max_seconds, "max_seconds"),
        backend=resolve(backend),
        time=clock[0],
        log_eta=mean_crossing_log(log_norm, problem.kappa, False) if clock[1] is None else clock[1],
    )
    watch = _Watch(
        lambda point: Record._from_engine(point, problem._kind), callback, _bar(progress, 1.0, ""), descent.fraction
    )
    with watch:
        result = descent.run(watch.observer)
    return watch.finish(result, problem, "gradient_descent")


class _Descent:
    """The loop of gradient descent, with the record that the engines would give."""

    def __init__(
        self,
        problem: Problem,
        theta: NDArray[Any],
        lr: float,
        steps: int,
        momentum: float,
        batch: int | None,
        seed: int,
        save_every: int,
        max_seconds: float,
        backend: str,
        time: float,
        log_eta: float,
    ) -> None:
        self.problem, self.backend = problem, backend
        self.kernel = problem._kernel(backend)
        self.theta = np.array(theta)
        self.lr, self.steps, self.momentum = lr, steps, momentum
        self.batch, self.rng, self.save_every = batch, np.random.default_rng(seed), save_every
        self.max_seconds, self.time, self.log_eta = max_seconds, time, log_eta
        self.step = 0
        self.points: list[tuple[float, float]] = []
        self.conserved = problem._conserved(self.theta.astype(np.float64))
        self.drift = np.zeros(len(self.theta))
        self.size = np.zeros(len(self.theta))

    def run(self, observer: Callable[[Mapping[str, Any]], bool] | None) -> dict[str, Any]:
        began = clocks.perf_counter()
        status = "t_end"
        velocity = np.zeros_like(self.theta)
        batches = self._batches()
        evaluations = 0
        if self._save(observer):
            status = "callback"
        try:
            while status == "t_end" and self.step < self.steps:
                kernel = next(batches)
                with np.errstate(over="ignore", invalid="ignore"):
                    velocity *= self.momentum
                    velocity += kernel.utility_gradient(self.theta, None)
                    moved = self.theta + self.lr * velocity
                evaluations += 1
                # A row of exact zeros has no direction and no logarithm of its norm: no state can hold it.
                if not np.isfinite(moved).all() or not moved.any(axis=1).all():
                    status = "non_finite"
                    break
                self.theta = moved.astype(self.theta.dtype, copy=False)
                self.step += 1
                due = self.step % self.save_every == 0 or self.step == self.steps
                if due and self._save(observer):
                    status = "callback"
                elif due and not np.isfinite(self.points[-1][1]):
                    if len(self.points) > 1:
                        self.points.pop()
                    status = "non_finite"
                elif clocks.perf_counter() - began > self.max_seconds:
                    status = "max_seconds"
        except KeyboardInterrupt:
            status = "interrupted"
        if self.points[-1][0] != self._now() and status != "non_finite":
            self._save(None)
        times, losses = np.array(self.points).T
        stats = {
            "evaluations": evaluations,
            "hessians": 0,
            "steps": self.step,
            "rejected": 0,
            "seconds": clocks.perf_counter() - began,
            "active_time": [],
        }
        drift = float("nan") if self.conserved is None else float((self.drift / np.maximum(self.size, 1e-300)).max())
        return {
            "jumps": [],
            "time": times,
            "scaled_time": times * np.exp(-self.log_eta),
            "loss": losses,
            "elapsed": times - times[0],
            "states": [],
            "state": self._state(),
            "status": status,
            "log_eta": self.log_eta,
            "conserved_drift": drift,
            "notes": [],
            "stats": stats,
        }

    def fraction(self, point: Record) -> float:
        return self.step / self.steps

    def _now(self) -> float:
        return self.time + self.step * self.lr / (1.0 - self.momentum)

    def _batches(self) -> Iterator[Any]:
        problem = self.problem
        while self.batch is None or not isinstance(problem, SampleProblem):
            yield self.kernel
        x, y = problem._x, problem._y
        while True:
            order = self.rng.permutation(problem.n_samples)
            for first in range(0, len(order) - self.batch + 1, self.batch):
                rows = order[first : first + self.batch]
                yield problem._build_on(self.backend, x[rows], y[rows])

    def _save(self, observer: Callable[[Mapping[str, Any]], bool] | None) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            self.points.append((self._now(), float(self.kernel.loss(self.theta))))
            theta = self.theta.astype(np.float64)
            conserved = self.problem._conserved(theta)
            if self.conserved is not None and conserved is not None:
                moved = np.abs(conserved - self.conserved).reshape(len(theta), -1).max(axis=1)
                self.drift = np.maximum(self.drift, moved)
                self.size = np.maximum(self.size, (theta**2).sum(axis=1))
        if observer is None or not np.isfinite(self.points[-1][1]):
            return False
        time, loss = self.points[-1]
        scaled = time * float(np.exp(-self.log_eta))
        point = {"time": time, "scaled_time": scaled, "loss": loss, "elapsed": time - self.points[0][0]}
        return observer({**point, "state": self._state()})

    def _state(self) -> dict[str, Any]:
        direction, log_norm = polar(self.theta)
        now = self._now()
        return {
            "direction": direction,
            "log_norm": log_norm,
            "active": log_norm >= 0.0,
            "time": now,
            "scaled_time": now * float(np.exp(-self.log_eta)),
            "log_eta": self.log_eta,
            "phase_elapsed": 0.0,
        }


class _Watch:
    """What stands between an engine and the caller during a run: callback, progress, exceptions, Ctrl-C."""

    def __init__(
        self,
        build: Callable[[Mapping[str, Any]], Any],
        callback: Callable[[Any], Any] | None,
        bar: Any,
        fraction: Callable[[Any], float] | None = None,
    ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {type(callback).__name__}, expected a function of one record")
        self.build, self.callback, self.bar, self.fraction = build, callback, bar, fraction
        self.error: BaseException | None = None
        # Without anyone watching, the engine need not stop to make records.
        self.observer = None if callback is None and bar is None else self._observe

    def _observe(self, record: Mapping[str, Any]) -> bool:
        # An exception must not cut through the engine: it stops the run, and is raised again with what there is so far.
        try:
            point = self.build(record)
            if self.bar is not None:
                done = self.bar.n + 1 if self.fraction is None else self.fraction(point)
                self.bar.set_postfix_str(
                    f"loss {getattr(point, 'loss_after', None) or getattr(point, 'loss', 0.0):.6g}", False
                )
                self.bar.update(min(done, self.bar.total or done) - self.bar.n)
            return self.callback is not None and bool(self.callback(point))
        except BaseException as error:  # noqa: BLE001  (Ctrl-C inside the callback too; raised again by finish)
            self.error = error
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def finish(self, result: Mapping[str, Any], problem: Problem, method: str) -> Trajectory:
        if isinstance(self.error, KeyboardInterrupt):
            result = {**result, "status": "interrupted"}
        path = Trajectory(result, problem._kind, method, problem._loss_zero)
        error = self.error
        if error is None and path.status is Status.INTERRUPTED:
            error = KeyboardInterrupt(
                "stopped by Ctrl-C; the trajectory so far is the attribute path of this exception"
            )
        if error is not None:
            error.path = path  # type: ignore[attr-defined]
            raise error
        return path


def _bar(progress: bool, total: float, unit: str) -> Any:
    if not _flag(progress, "progress"):
        return None
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        raise ImportError(
            "progress is True, expected tqdm to be installed; pip install tqdm, or leave progress out and use callback"
        ) from None
    if unit:
        return tqdm(total=total, unit=unit)
    return tqdm(total=total, bar_format="{percentage:3.0f}%|{bar}| [{elapsed}{postfix}]")


def _check_problem(problem: Problem) -> None:
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {type(problem).__name__}, expected a problem such as agf_fast.Dense(X, Y)")


def _batch(problem: Problem, batch: int) -> int | None:
    size = positive_integer(batch, "batch")
    if not isinstance(problem, SampleProblem):
        raise TypeError(
            f"batch is {size} for {type(problem).__name__}, expected a problem on samples to draw it from; leave it out"
        )
    if size > problem.n_samples:
        raise ValueError(
            f"batch is {size}, expected at most the number of samples, {problem.n_samples}; leave it out for all"
        )
    return size if size < problem.n_samples else None


def _loss_tol(problem: Problem, loss_tol: float | None) -> float:
    return 1e-10 * problem._loss_zero if loss_tol is None else finite_number(loss_tol, "loss_tol", low=0.0)


def _rtol(problem: Problem, rtol: float | None) -> float:
    single = problem._kind.dtype == "float32"
    if rtol is None:
        return 1e-5 if single else 1e-9
    value = finite_number(rtol, "rtol", above=0.0, high=0.1)
    least = 1e-5 if single else 1e-13
    if value < least:
        raise ValueError(
            f"rtol is {rtol!r} for {problem._kind.dtype}, expected at least {least:g}, which rounding still resolves"
        )
    return value


def _or_infinite(value: float | None, name: str) -> float:
    if value is None or (isinstance(value, float) and value == float("inf")):
        return float("inf")
    return finite_number(value, name, above=0.0)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def _short(values: NDArray[np.float64]) -> str:
    return np.array2string(values, threshold=6, edgeitems=2, precision=6)
