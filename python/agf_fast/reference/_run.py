"""What every phase of a run shares: counters, the clock on the wall, and the reasons for stopping in the middle."""

from __future__ import annotations

import time as clocks
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Halt(Exception):
    """Raised from inside a phase; what the phase had reached stands, and `status` names the reason."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class Run:
    """Counters of one run, and its deadline."""

    def __init__(self, max_seconds: float) -> None:
        self.began = clocks.perf_counter()
        self.max_seconds = max_seconds
        self.evaluations = 0
        self.hessians = 0
        self.steps = 0
        self.active_time: list[float] = []
        self.notes: set[str] = set()

    def poll(self) -> None:
        """Raises Halt once the run's time is up."""
        if clocks.perf_counter() - self.began > self.max_seconds:
            raise Halt("max_seconds")

    def stats(self) -> dict[str, object]:
        """The stats of the result; SciPy's solvers do not tell how many steps they rejected."""
        return {
            "evaluations": self.evaluations,
            "hessians": self.hessians,
            "steps": self.steps,
            "rejected": 0,
            "seconds": clocks.perf_counter() - self.began,
            "active_time": list(self.active_time),
        }


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the warnings of a solver whose failures are handled where they occur."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
