"""Gradient descent with finite steps."""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, positive_integer
from ._backend import resolve
from ._members import GO_ON, Batch, Observer
from ._options import flag, or_infinite
from ._problem import Problem
from ._samples import SampleProblem
from ._state import State, mean_crossing_log, polar
from ._trajectory import Record, Trajectory
from ._watch import Watch, bar

__all__ = ["gradient_descent"]


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
        As for `gradient_flow`. Parameters are stepped on the host; on a GPU they and their gradients travel each step.

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
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {type(problem).__name__}, expected a problem such as agf_fast.Dense(X, Y)")
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
        max_seconds=or_infinite(max_seconds, "max_seconds"),
        backend=resolve(backend, problem._kind.device),
        time=clock[0],
        log_eta=mean_crossing_log(log_norm, problem.kappa, False) if clock[1] is None else clock[1],
    )
    watch = Watch(
        lambda point, member: Record._from_engine(point, problem._kind, member),
        callback,
        bar(flag(progress, "progress"), 1.0, ""),
        descent.fraction,
    )
    with watch:
        result = descent.run(watch.observer)
    path = watch.finish([result], Batch([problem], None), "gradient_descent")
    assert isinstance(path, Trajectory)
    return path


# Parameters times samples that descent goes through between two looks at the clock and at Ctrl-C: some milliseconds.
_WORK_UNPOLLED = 1e7


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
        # Many steps in one call, where an engine has them.
        self.engine = self.kernel.descent() if batch is None and hasattr(self.kernel, "descent") else None
        self.theta = np.array(theta, order="C")
        self.work = self.theta.size * (problem.n_samples if isinstance(problem, SampleProblem) else 1)
        self.lr, self.steps, self.momentum = lr, steps, momentum
        self.batch, self.rng, self.save_every = batch, np.random.default_rng(seed), save_every
        self.max_seconds, self.time, self.log_eta = max_seconds, time, log_eta
        self.step = 0
        self.points: list[tuple[float, float]] = []
        self.conserved = problem._conserved(self.theta.astype(np.float64))
        self.drift = np.zeros(len(self.theta))
        self.size = np.zeros(len(self.theta))

    def run(self, observer: Observer | None) -> dict[str, Any]:
        began = clocks.perf_counter()
        status = "t_end"
        velocity = np.zeros_like(self.theta)
        batches = self._batches()
        evaluations = 0
        if self._save(observer):
            status = "callback"
        try:
            while status == "t_end" and self.step < self.steps:
                asked, done = self._advance(next(batches), velocity)
                self.step += done
                evaluations += asked
                if done < asked:
                    status = "non_finite"
                    break
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

    def _advance(self, kernel: Any, velocity: NDArray[Any]) -> tuple[int, int]:
        """Steps tried, and how many of them led to a network that a state can hold."""
        if self.engine is not None:
            due = min(self.save_every - self.step % self.save_every, self.steps - self.step)
            asked = min(due, max(1, int(_WORK_UNPOLLED / self.work)))
            done = int(self.engine.advance(self.theta, velocity, self.lr, self.momentum, asked))
            return min(done + 1, asked), done
        with np.errstate(over="ignore", invalid="ignore"):
            velocity *= self.momentum
            velocity += kernel.utility_gradient(self.theta, None)
            moved = self.theta + self.lr * velocity
        # A row of exact zeros has no direction and no logarithm of its norm.
        if not np.isfinite(moved).all() or not moved.any(axis=1).all():
            return 1, 0
        self.theta = moved.astype(self.theta.dtype, copy=False)
        return 1, 1

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

    def _save(self, observer: Observer | None) -> bool:
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
        return observer(0, {**point, "state": self._state()}) != GO_ON

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
