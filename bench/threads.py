"""A process that has so many threads, whoever asks: the variables every BLAS reads, and the cores it may use."""

from __future__ import annotations

import os

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def environment(threads: int) -> dict[str, str]:
    """That of a process of so many threads."""
    return {**os.environ, **{key: str(threads) for key in VARIABLES}}


def pin(threads: int) -> None:
    """Keeps this process to its first `threads` cores, where the system can: JAX takes one thread per core it sees."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
