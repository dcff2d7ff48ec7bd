"""The environment and the cores of a process that is measured."""

from __future__ import annotations

import os

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Settings that choose a library's kernels: OPENBLAS_CORETYPE=Haswell halves the GEMM of an AVX-512 machine. Everybody
# is measured as it comes, so they are dropped.
DROPPED = ("OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "XLA_")


def environment(threads: int) -> dict[str, str]:
    """That of a process in which every library has so many threads and chooses its kernels itself."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(DROPPED)}
    return {**kept, **{key: str(threads) for key in VARIABLES}}


def dropped() -> dict[str, str]:
    """What `environment` leaves out of the present one."""
    return {key: value for key, value in sorted(os.environ.items()) if key.startswith(DROPPED) and key not in VARIABLES}


def pin(threads: int) -> None:
    """Keeps this process to its first `threads` cores, where the system can: JAX takes one thread per core it sees."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
