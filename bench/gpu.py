"""`python -m bench.gpu`: the rows that need a GPU, in one run that checks before it times.

Parity first (`agf selftest`), then utility and gradient on arrays of the device beside the library's GEMM, then an
ensemble of small runs beside the CPU. Without a device it says why and measures nothing. Arrays come from CuPy, or from
torch where CuPy is not installed; CuPy takes TF32 only when asked, and torch is told not to.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import agf_fast as agf
from agf_fast._selftest import selftest

from .leaves import SIZES
from .peers import numpy_peer
from .problems import MODULAR_SCALE, leaf_data
from .rows import Bar, Fraction, Outcome, Peer, Row
from .table import table, totals
from .timing import interleave

# Large enough for every multiprocessor of a large device.
WIDE = (50_000, 1024, 10, 4096)
RATES = {"float32": 0.70, "float64": 0.60}
GEMM = 8192
AHEAD = 50.0
MEMBERS = 10_000
# Of the CPU's side as many are run as take seconds.
COMPARED = 200


class Device:
    """The array library: uploads, products, and waiting for them."""

    def __init__(self) -> None:
        self.name = "cupy" if importlib.util.find_spec("cupy") else "torch"
        self._library: Any = importlib.import_module(self.name)
        if self.name == "torch":
            self._library.backends.cuda.matmul.allow_tf32 = False

    def put(self, array: Any) -> Any:
        if self.name == "cupy":
            return self._library.asarray(array)
        return self._library.from_numpy(array).cuda()

    def get(self, array: Any) -> Any:
        return self._library.asnumpy(array) if self.name == "cupy" else array.cpu().numpy()

    def matmul(self, a: Any, b: Any) -> Any:
        return self._library.matmul(a, b)

    def wait(self) -> None:
        (self._library.cuda.get_current_stream() if self.name == "cupy" else self._library.cuda).synchronize()

    def sampler(self, call: Callable[[], Any]) -> Callable[[int], float]:
        """Seconds a call, from the first launch until all is done."""

        def sample(count: int) -> float:
            self.wait()
            begun = time.perf_counter()
            for _ in range(count):
                call()
            self.wait()
            return (time.perf_counter() - begun) / count

        return sample


def leaves(device: Device) -> list[Row]:
    """Utility and gradient on arrays of the device, the Python call included, beside the library's GEMM."""
    rows = []
    for dtype in ("float32", "float64"):
        square = device.put(np.random.default_rng(0).standard_normal((GEMM, GEMM)).astype(dtype))
        for size in (WIDE, *SIZES):
            n, d, c, H = size
            X, theta, residual = leaf_data(list(size), dtype)
            on_device = [device.put(array) for array in (X, theta, residual)]
            problem = agf.Dense(on_device[0], on_device[2], activation="relu")

            def ours(problem: Any = problem, given: Any = on_device) -> Any:
                return problem.utility_and_gradient(given[1], given[2])

            def gemm(square: Any = square) -> Any:
                return device.matmul(square, square)

            got = [device.get(array) for array in ours()]
            expected = numpy_peer(1, list(size), "float64")()
            error = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, expected, strict=True))
            # Sums of n terms of random sign in working precision: some sqrt(n) eps of the largest entry.
            assert error <= 4 * np.sqrt(n) * np.finfo(dtype).eps, (size, dtype, error)
            timings = interleave({"ours": device.sampler(ours), "GEMM": device.sampler(gemm)}, repeats=9)
            rate = 4.0 * n * H * (d + c) / timings["ours"].seconds
            limit = 2.0 * GEMM**3 / timings["GEMM"].seconds
            rows.append(
                Row(
                    "gpu",
                    f"utility + gradient {size} {dtype}",
                    timings["ours"].seconds,
                    spread=timings["ours"].spread,
                    fractions=(Fraction(f"{device.name} GEMM {GEMM} ({limit / 1e12:.1f} TFLOP/s)", rate / limit),),
                    error=error,
                    bars=(Bar("fraction", ">=", RATES[dtype]),) if size == WIDE else (),
                    flops=4.0 * n * H * (d + c),
                )
            )
    return rows


def ensembles(members: int) -> list[Row]:
    """Small runs of modular addition in one call, beside the CPU on all its cores, per run."""
    j = 2.0 * np.pi * np.arange(8) / 8
    problem = agf.ModularAddition(2.0 * np.cos(j) + 0.7 * np.cos(2.0 * j + 0.3))
    starts = problem.initialize(8, scale=MODULAR_SCALE, seed=range(members))
    seconds: dict[str, float] = {}
    paths: dict[str, Any] = {}
    for backend, count in (("cpp", min(COMPARED, members)), ("cuda", members)):
        begun = time.perf_counter()
        paths[backend] = agf.alternating_gradient_flow(
            problem, starts[:count], backend=backend, active_time=100.0, rtol=1e-6
        )
        seconds[backend] = (time.perf_counter() - begun) / count
    error = max(
        float(np.abs(one.loss - two.loss).max() / one.loss[0])
        for one, two in zip(paths["cpp"], paths["cuda"], strict=False)
    )
    assert error <= 1e-3, error
    return [
        Row(
            "gpu",
            f"each of {members} AGF runs of modular addition, p = 8",
            seconds["cuda"],
            peers=(Peer(f"CPU, {agf.info()['threads']} threads", seconds["cpp"]),),
            error=error,
            bars=(Bar("ratio", ">=", AHEAD),),
        )
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--members", type=int, default=MEMBERS, help="of the ensemble (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and the device's name there")
    options = parser.parse_args()
    if not agf.cuda.is_available():
        print(f"no GPU: {agf.cuda.why()}", file=sys.stderr)
        return 2
    if selftest():
        return 1
    device = Device()
    outcome = Outcome([*leaves(device), *ensembles(options.members)])
    print(table(outcome.rows), totals(outcome.rows), sep="\n\n")
    if options.json:
        facts = {"device": agf.info()["cuda"], "library": device.name, **outcome.data()}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
