"""No n x H array is ever stored: the process's peak above inputs and outputs, with the residual given."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import agf_fast as agf

from .leaves import SIZES
from .probe import Probe
from .problems import leaf_data
from .rows import Bar, Outcome, Row
from .threads import cores

# One more, whose n x H array would be 3.3 GB in single precision.
HUGE = (200_000, 64, 10, 4096)
LIMIT = 64e6


def memory() -> Outcome:
    """Every size and dtype in a process that has done nothing before, on two threads."""
    rows = []
    for dtype in ("float32", "float64"):
        for size in (*SIZES, HUGE):
            n, _, _, H = size
            with Probe("bench.memory:growth", min(2, cores())) as probe:
                probe.prepare(size=size, dtype=dtype)
                call, kernel = (float(value) for value in probe.answer()[0])
            matrix = n * H * np.dtype(dtype).itemsize
            case = f"utility + gradient {size} {dtype} (n x H: {matrix / 1e6:.3g} MB)"
            bars = (Bar("ours", "<=", LIMIT),)
            rows.append(Row("memory", case, call, unit="B", bars=bars))
            rows.append(
                Row("memory", f"with the making of its problem {size} {dtype}", call + kernel, unit="B", bars=bars)
            )
    return Outcome(rows)


def growth(threads: int, size: list[int], dtype: str) -> Callable[[], Any]:
    """By how much the peak rises over the call, less its outputs; and over the kernel's making."""
    agf.set_threads(threads)
    X, theta, residual = leaf_data(size, dtype)

    def call() -> Any:
        before = _settled()
        kernel = agf.Dense(X, residual, activation="relu")._kernel()
        made = _settled()
        outputs = kernel.utility_and_gradient(theta, residual)
        return np.array([peak() - made - sum(array.nbytes for array in outputs), made - before])

    return call


def _settled() -> int:
    """Forgets an earlier peak, where the system can (Linux), so that what lies below it is not hidden."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most bytes that this process has held at once."""
    try:
        text = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
