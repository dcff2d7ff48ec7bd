"""The members of a call: problems and starts as the caller gives them, and how an engine runs them all."""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, read, read_numbers
from ._state import State

if TYPE_CHECKING:
    from ._problem import Problem

__all__ = [
    "GO_ON",
    "INTERRUPT",
    "STOP_ALL",
    "STOP_MEMBER",
    "Batch",
    "Finished",
    "Observer",
    "Options",
    "OwnOptions",
    "read_ends",
    "read_members",
]


# What an observer of (member, record) answers. INTERRUPT stops all as Ctrl-C does.
GO_ON, STOP_MEMBER, STOP_ALL, INTERRUPT = range(4)
Observer = Callable[[int, Mapping[str, Any]], int]
Finished = Callable[[int], None]
# Of all members, and one value for each.
Options = Mapping[str, Any]
OwnOptions = Mapping[str, Sequence[float]]


@dataclass
class Batch:
    """Runs of one call, one problem and one start each; a single run is a batch of one."""

    problems: Sequence[Problem]
    starts: Sequence[dict[str, Any]] | None  # None: the limit of vanishing initialisation
    backend: str = "auto"
    observer: Observer | None = None
    finished: Finished | None = None

    def run(self, engine: Callable[..., Any], options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        """What each member gave: a record of its own even where it failed (then with "error") or was not begun.

        `options` are for all, `own` has one for each. The compiled engines take all members at once, those of the
        reference one.
        """
        kernels = [problem._kernel(self.backend) for problem in self.problems]
        if self.backend != "numpy":
            results: list[dict[str, Any]] = engine(
                kernels, self.starts, **options, **own, observer=self.observer, finished=self.finished
            )
        else:
            results = self._one_by_one(engine, kernels, options, own)
        return [
            result if "state" in result or self.starts is None else {**_blank(start), **result}
            for result, start in zip(results, self.starts or results, strict=True)
        ]

    def _one_by_one(
        self,
        engine: Callable[..., Any],
        kernels: list[Any],
        options: Options,
        own: OwnOptions,
    ) -> list[dict[str, Any]]:
        began = clocks.perf_counter()
        results: list[dict[str, Any]] = []
        answers = [GO_ON]

        def tell(member: int, record: Mapping[str, Any]) -> bool:
            assert self.observer is not None
            answers.append(self.observer(member, record))
            return answers[-1] != GO_ON

        for member, kernel in enumerate(kernels):
            left = options["max_seconds"] - (clocks.perf_counter() - began)
            stopped = max(answers)
            if stopped >= STOP_ALL:
                results.append({"status": "interrupted" if stopped == INTERRUPT else "callback"})
                continue
            if left <= 0.0 and len(kernels) > 1:
                results.append({"status": "max_seconds"})
                continue
            start = None if self.starts is None else self.starts[member]
            given = {**options, **{name: values[member] for name, values in own.items()}, "max_seconds": left}
            observe = None if self.observer is None else partial(tell, member)
            try:
                result = engine(kernel, start, **given, observer=observe)
            except KeyboardInterrupt:
                result = {"status": "interrupted"}
            except Exception as error:  # noqa: BLE001  (it belongs to this member alone)
                result = {"status": "failed", "error": error}
            if result["status"] == "interrupted":
                answers.append(INTERRUPT)
            results.append(result)
            if self.finished is not None:
                self.finished(member)
        return results


def read_members(problem: Any, state: Any) -> tuple[list[Problem], list[State] | None, bool]:
    """Problems and starts of equal length (None: no state was given), and whether the call is for an ensemble."""
    from ._problem import Problem  # here, because that module needs this one

    several = isinstance(problem, (list, tuple))
    problems: list[Any] = list(problem) if several else [problem]
    if not problems:
        raise ValueError("problem is empty, expected at least one problem")
    for index, one in enumerate(problems):
        name = f"problem[{index}]" if several else "problem"
        if not isinstance(one, Problem):
            raise TypeError(
                f"{name} is {type(one).__name__}, expected a problem such as agf_fast.Dense(X, Y)"
                + ("" if several else ", or a list or tuple of them")
            )
        _check_alike(one, problems[0], name)
    if state is None:
        return problems, None, several
    if isinstance(state, Iterator):
        raise TypeError(
            f"state is {type(state).__name__}, expected a State, an array or a sequence of them; use tuple(...)"
        )
    # A state and an array are one network each, whatever else they are.
    batch = not isinstance(state, State) and (isinstance(state, Sequence) or getattr(state, "ndim", 0) == 3)
    if not batch:
        one = [problems[0]._read_state(state)]
        return problems, one * len(problems), several
    states = _read_batch(problems[0], state)
    if not several:
        return problems * len(states), states, True
    if len(states) != len(problems):
        raise ValueError(
            f"state has {len(states)} members and problem {len(problems)}, expected as many of both; give one state to "
            "start all problems from it, or one problem for all states"
        )
    return problems, states, True


def read_ends(t_end: Any, nows: Sequence[float]) -> list[float]:
    """When each member stops: one time for all, or one each; not before it starts."""
    if np.ndim(t_end) == 0:
        return [finite_number(t_end, "t_end", low=max(nows))] * len(nows)
    given = read_numbers(t_end, "t_end", len(nows))
    return [
        finite_number(float(end), f"t_end[{index}]", low=now)
        for index, (end, now) in enumerate(zip(given, nows, strict=True))
    ]


def _blank(start: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that has nothing but its start."""
    clocks_of_start = {name: np.array([start[name]]) for name in ("time", "scaled_time")}
    stats = {"evaluations": 0, "hessians": 0, "steps": 0, "rejected": 0, "seconds": 0.0, "active_time": []}
    return {
        **clocks_of_start,
        "loss": np.array([np.nan]),
        "elapsed": np.array([start["time"]]),
        "jumps": [],
        "states": [],
        "state": start,
        "log_eta": start["log_eta"],
        "conserved_drift": float("nan"),
        "notes": [],
        "stats": stats,
    }


def _check_alike(one: Problem, first: Problem, name: str) -> None:
    if type(one) is not type(first):
        raise TypeError(
            f"{name} is {type(one).__name__}, expected {type(first).__name__} as problem[0]; run each class by itself"
        )
    if one._kind != first._kind:
        raise TypeError(
            f"{name} is in {one._kind}, expected {first._kind} as problem[0]; build all problems on arrays of one kind"
        )
    if one.n_params != first.n_params or one._residual_shape != first._residual_shape:
        raise ValueError(
            f"{name} has m = {one.n_params} and residuals {one._residual_shape}, expected {first.n_params} and "
            f"{first._residual_shape} as problem[0]; run each shape by itself"
        )


def _read_batch(problem: Problem, state: Any) -> list[State]:
    if isinstance(state, Sequence):
        if not state:
            raise ValueError("state is empty, expected at least one State or (H, m) array")
        states = [problem._read_state(one, f"state[{index}]") for index, one in enumerate(state)]
        for index, one in enumerate(states):
            if len(one) != len(states[0]):
                raise ValueError(
                    f"state[{index}] has {len(one)} neurons, expected {len(states[0])} as state[0]; run each width by "
                    "itself"
                )
        return states
    rows, kind = _read_stack(problem, state)
    return [State._from_rows(one, kind, f"state[{index}]") for index, one in enumerate(rows)]


def _read_stack(problem: Problem, state: Array) -> tuple[NDArray[Any], Any]:
    return read(state, "state", (None, problem._width, problem.n_params), "(B, H, m)", problem._kind)
