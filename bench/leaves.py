"""Utility and gradient of all neurons at the five sizes, Python call included, beside everybody and the GEMM rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

import agf_fast as agf

from .limits import GemmProbes, gemm_fractions, threads_text
from .peers import PEERS, numpy_peer
from .probe import MissingError, Probe
from .problems import leaf_data
from .rows import Bar, Outcome, Peer, Row
from .threads import cores
from .timing import interleave

Size = tuple[int, int, int, int]

# (n, d, c, H) and the fraction of GEMM to reach on one thread.
SIZES: dict[Size, float] = {
    (5000, 1024, 10, 4096): 0.90,
    (5000, 1024, 10, 512): 0.90,
    (5000, 1024, 10, 32): 0.80,
    (1797, 64, 10, 128): 0.65,
    (400, 40, 20, 18): 0.45,
}
NEVER_SLOWER = Bar("ratio", ">=", 1.0)
# From n H = MANY on, two threads are to be so many times as fast as one.
MANY = 1e5
TWO_THREADS = 1.85
OURS = "ours"


def ours(threads: int, size: list[int], dtype: str) -> Callable[[], tuple[Any, Any]]:
    """The public call: both in one, arguments checked."""
    agf.set_threads(threads)
    X, theta, residual = leaf_data(size, dtype)
    problem = agf.Dense(X, residual, activation="relu")
    return lambda: problem.utility_and_gradient(theta, residual)


def leaves() -> Outcome:
    """Each size in both dtypes on one thread and on two, and how much faster two are."""
    rows: list[Row] = []
    with ExitStack() as stack:
        benches = {threads: _Bench(threads, stack) for threads in ((1, 2) if cores() > 1 else (1,))}
        for dtype in ("float32", "float64"):
            gemms = {threads: bench.gemms.contest(dtype) for threads, bench in benches.items()}
            for size in SIZES:
                rows.extend(_at(size, dtype, benches, gemms))
    return Outcome(rows)


class _Bench:
    """Everybody's process on so many threads."""

    def __init__(self, threads: int, stack: ExitStack) -> None:
        self.gemms = stack.enter_context(GemmProbes(threads))
        factories = {OURS: "bench.leaves:ours", **PEERS}
        self.leaves = {name: stack.enter_context(Probe(factory, threads)) for name, factory in factories.items()}

    def prepare(self, size: Size, dtype: str, expected: list[Any]) -> float:
        """Everybody at this size. Each answer is compared with that of double precision; our error is returned."""
        errors = {}
        for name, probe in list(self.leaves.items()):
            try:
                probe.prepare(size=size, dtype=dtype)
            except MissingError:
                self.leaves.pop(name).close()
                continue
            errors[name] = worst = max(
                float(np.abs(got - answer).max() / np.abs(answer).max())
                for got, answer in zip(probe.answer(), expected, strict=True)
            )
            # Sums of n terms of random sign in working precision: some sqrt(n) eps of the largest entry.
            assert worst <= 4 * np.sqrt(size[0]) * np.finfo(dtype).eps, (name, size, dtype, worst)
        return errors[OURS]


def _at(size: Size, dtype: str, benches: dict[int, _Bench], gemms: dict[int, dict[str, Probe]]) -> Iterator[Row]:
    n, d, c, H = size
    expected = list(numpy_peer(1, list(size), "float64")())
    errors = {threads: bench.prepare(size, dtype, expected) for threads, bench in benches.items()}
    samplers = {
        (threads, name): probe
        for threads, bench in benches.items()
        for name, probe in {**bench.leaves, **gemms[threads]}.items()
    }
    timings = interleave(samplers, repeats=5 if n * H > 1e7 else 9)
    flops = 4.0 * n * H * (d + c)
    traffic = np.dtype(dtype).itemsize * (n * (d + c) + 2 * H * (d + c) + H)
    for threads, bench in benches.items():
        mine = timings[threads, OURS]
        yield Row(
            "leaves",
            f"{size} {dtype}, {threads_text(threads)}",
            mine.seconds,
            spread=mine.spread,
            peers=tuple(
                Peer(name, timings[threads, name].seconds) if name in bench.leaves else Peer(name, None)
                for name in PEERS
            ),
            fractions=gemm_fractions(
                flops, mine.seconds, {name: timings[threads, name].seconds for name in gemms[threads]}
            ),
            error=errors[threads],
            bars=(Bar("fraction", ">=", SIZES[size]), NEVER_SLOWER) if threads == 1 else (NEVER_SLOWER,),
            flops=flops,
            bytes=traffic,
        )
    if len(benches) > 1 and n * H >= MANY:
        one, two = timings[1, OURS], timings[2, OURS]
        gain = one.seconds / two.seconds
        spread = gain * (one.spread / one.seconds + two.spread / two.seconds)
        bar = Bar("ours", ">=", TWO_THREADS)
        yield Row("threads", f"{size} {dtype}", gain, unit="x", spread=spread, bars=(bar,))
