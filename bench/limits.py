"""The limits that fractions are taken of, measured in the same run: GEMM and memory.

There are two GEMM rates: the fastest there is, of NumPy, torch and JAX as they come, against which bars are judged; and
that of OpenBLAS's AVX2 kernels, which is what NumPy gives on AVX-512 machines whose model it does not know, or where
OPENBLAS_CORETYPE=Haswell is set: half the rate. Fractions of that one are given for comparison with others' figures."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .probe import MissingError, Probe
from .rows import Fraction, Outcome, Peer, Row
from .threads import cores
from .timing import interleave, local

# Beside other calls, where the rate is that of 4096 and a sample five times shorter.
GEMM = 2048
FULL_GEMM = 4096
AVX2 = "OpenBLAS AVX2 GEMM"
# Each of the three arrays of a triad is larger than any cache.
TRIAD_LENGTH = 25_000_000


def numpy_gemm(threads: int, dtype: str, size: int) -> Callable[[], Any]:
    a, b = _factors(dtype, size)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def torch_gemm(threads: int, dtype: str, size: int) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    a, b = map(torch.from_numpy, _factors(dtype, size))
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out)


def jax_gemm(threads: int, dtype: str, size: int) -> Callable[[], Any]:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    a, b = map(jax.numpy.asarray, _factors(dtype, size))
    product = jax.jit(jax.numpy.matmul)
    return lambda: product(a, b).block_until_ready()


def _factors(dtype: str, size: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size)).astype(dtype) for _ in range(2))
    return a, b


@dataclass(frozen=True)
class Gemm:
    """One way to multiply matrices."""

    name: str
    factory: str
    environment: tuple[tuple[str, str], ...] = ()

    def probe(self, threads: int) -> Probe:
        return Probe(f"bench.limits:{self.factory}", threads, environment=dict(self.environment))


GEMMS = (
    Gemm("NumPy GEMM", "numpy_gemm"),
    Gemm(AVX2, "numpy_gemm", (("OPENBLAS_CORETYPE", "Haswell"),)),
    Gemm("torch GEMM", "torch_gemm"),
    Gemm("JAX GEMM", "jax_gemm"),
)


class GemmProbes:
    """Everybody's GEMM on so many threads, each in its process; who is not installed, or stumbles over an instruction
    that this CPU does not have, is in `missing`."""

    def __init__(self, threads: int) -> None:
        self.running = {gemm.name: gemm.probe(threads) for gemm in GEMMS}
        self.missing: list[str] = []

    def prepare(self, dtype: str, size: int) -> None:
        for name, probe in list(self.running.items()):
            try:
                probe.prepare(dtype=dtype, size=size)
                probe(1)
            except (MissingError, RuntimeError):
                self.missing.append(name)
                self.running.pop(name).close()

    def seconds(self, repeats: int) -> dict[str, float]:
        """Of one product, the best of so many, in turn."""
        rounds = [{name: probe(1) for name, probe in self.running.items()} for _ in range(repeats)]
        return {name: min(found[name] for found in rounds) for name in self.running}

    def contest(self, dtype: str) -> dict[str, Probe]:
        """The two that fractions are taken of, prepared at GEMM."""
        self.prepare(dtype, GEMM)
        seconds = self.seconds(3)
        names = {AVX2, min(seconds, key=seconds.__getitem__)}
        return {name: probe for name, probe in self.running.items() if name in names}

    def close(self) -> None:
        for probe in self.running.values():
            probe.close()

    def __enter__(self) -> GemmProbes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gemm_fractions(flops: float, seconds: float, gemms: dict[str, float]) -> tuple[Fraction, ...]:
    """Work of so many FLOPs against the seconds of one product of size GEMM, that of the fastest first."""
    rate = flops / seconds / (2.0 * GEMM**3)
    return tuple(Fraction(name, rate * gemms[name]) for name in sorted(gemms, key=gemms.__getitem__))


def triad_seconds(threads: int, repeats: int) -> float:
    """Of a = b + c, the three streams of a triad, shared out over threads: NumPy lets go of the interpreter's lock."""
    a, b, c = (np.ones(TRIAD_LENGTH) for _ in range(3))
    parts = [slice(k * TRIAD_LENGTH // threads, (k + 1) * TRIAD_LENGTH // threads) for k in range(threads)]

    def add(part: slice) -> None:
        np.add(b[part], c[part], out=a[part])

    def call() -> None:
        others = [threading.Thread(target=add, args=(part,)) for part in parts[1:]]
        for other in others:
            other.start()
        add(parts[0])
        for other in others:
            other.join()

    return interleave({"triad": local(call)}, repeats)["triad"].seconds


def limits() -> Outcome:
    """GEMM of 4096 and the triad, on one thread and two; rates, not times."""
    rows = []
    counts = (1, 2) if cores() > 1 else (1,)
    for threads in counts:
        with GemmProbes(threads) as probes:
            for dtype, name in (("float32", "SGEMM"), ("float64", "DGEMM")):
                probes.prepare(dtype, FULL_GEMM)
                rates = {of: 2e-9 * FULL_GEMM**3 / seconds for of, seconds in probes.seconds(2).items()}
                peers = [Peer(of, rate) for of, rate in rates.items()]
                peers += [Peer(of, None) for of in probes.missing]
                case = f"{name} {FULL_GEMM}^3, {threads_text(threads)}"
                rows.append(Row("limits", case, None, unit="GFLOP/s", peers=tuple(peers)))
    for threads in counts:
        rate = 24e-9 * TRIAD_LENGTH / triad_seconds(threads, 5)
        case = f"triad, {threads_text(threads)}"
        rows.append(Row("limits", case, None, unit="GB/s", peers=(Peer("NumPy add", rate),)))
    return Outcome(rows)


def threads_text(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"
