"""One pass over X: the correlations E[x r] that every jump of a diagonal path takes, at the rate of memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import agf_fast as agf

from .limits import TRIAD_LENGTH, triad_seconds
from .rows import Fraction, Outcome, Peer, Row
from .timing import interleave, local

# The second fits a large last-level cache, the third none.
SHAPES = ((200, 1000), (500, 5000), (500, 100_000))


def design(shape: tuple[int, int]) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape), rng.standard_normal(shape[0])


def ours(threads: int, shape: tuple[int, int]) -> Callable[[], Any]:
    """grad U at u = v = 1 with the residual given: E[x r], twice over."""
    agf.set_threads(threads)
    X, y = design(shape)
    problem = agf.Diagonal(X, y)
    kernel, theta, residual = problem._kernel(), np.ones((shape[1], 2)), y[:, None].copy()
    return lambda: kernel.utility_gradient(theta, residual)


def passes() -> Outcome:
    """Beside NumPy's X.T @ r, as a part of the bandwidth of the triad."""
    rows = []
    bandwidth = 24.0 * TRIAD_LENGTH / triad_seconds(1, 5)
    for shape in SHAPES:
        n, d = shape
        X, y = design(shape)
        call = ours(1, shape)
        expected = X.T @ y / n
        got = call()
        error = float(np.abs(got[:, 0] - expected).max() / np.abs(expected).max())
        # Sums of n terms of random sign.
        assert error <= 4.0 * np.sqrt(n) * np.finfo(np.float64).eps, error
        timings = interleave({"ours": local(call), "NumPy": local(partial(np.matmul, X.T, y))}, repeats=9)
        mine = timings["ours"]
        traffic = 8.0 * n * d
        rows.append(
            Row(
                "pass over X",
                f"{shape} float64, 1 thread",
                mine.seconds,
                spread=mine.spread,
                peers=(Peer("NumPy X.T @ r", timings["NumPy"].seconds),),
                fractions=(Fraction("triad", traffic / mine.seconds / bandwidth),),
                error=error,
                flops=2.0 * n * d,
                bytes=traffic,
            )
        )
    return Outcome(rows)
