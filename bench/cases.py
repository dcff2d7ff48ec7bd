"""The frozen cases. Each asserts its answer, then returns rows for the table.

A row: case, ours and peer (seconds, or evaluations where `unit` says so), peer_name, ratio = peer / ours, fraction
(of the GEMM rate measured in the same run), error (largest relative difference from the answer), bar (what is
asked of it)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import agf_fast as agf

from . import peers
from .timing import interleave

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.flow import explicit_flow
from support.problems import modular_data, teacher_data

Row = dict[str, Any]

# (n, d, c, H) and the fraction of GEMM to reach.
SIZES = {
    (5000, 1024, 10, 4096): 0.90,
    (5000, 1024, 10, 512): 0.90,
    (5000, 1024, 10, 32): 0.80,
    (1797, 64, 10, 128): 0.65,
    (400, 40, 20, 18): 0.45,
}
GEMM = 2048


def _gemm(dtype: Any) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((GEMM, GEMM)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def leaves(threads: int) -> list[Row]:
    """Utility and gradient of all neurons at the five sizes, Python call included."""
    agf.set_threads(threads)
    rows = []
    for dtype in (np.float32, np.float64):
        for size, bar in SIZES.items():
            n, d, c, H = size
            rng = np.random.default_rng(0)
            X, residual, theta = (rng.standard_normal(shape).astype(dtype) for shape in ((n, d), (n, c), (H, d + c)))
            problem = agf.Dense(X, residual, activation="relu")
            kernel = problem._kernel()  # utility and gradient in one call, as the integrators use it
            calls = {
                "ours": partial(kernel.utility_and_gradient, theta, residual),
                "GEMM": _gemm(dtype),
            }
            calls.update({name: make(X, theta, residual) for name, make in peers.installed().items()})
            expected = [array.astype(np.float64) for array in calls["NumPy"]()]
            error = 0.0
            for name in calls:
                if name == "GEMM":
                    continue
                worst = max(
                    float(np.abs(got - answer).max() / np.abs(answer).max())
                    for got, answer in zip(calls[name](), expected, strict=True)
                )
                # Sums of n d terms of random sign in working precision: some sqrt(n) eps of the largest entry.
                assert worst <= 4 * np.sqrt(n) * np.finfo(dtype).eps, (
                    name,
                    size,
                    worst,
                )
                error = worst if name == "ours" else error
            timings = interleave(calls, repeats=5 if n * H > 1e7 else 9)
            ours = timings["ours"].seconds
            rate = 2 * GEMM**3 / timings["GEMM"].seconds
            for name in calls:
                if name in ("ours", "GEMM"):
                    continue
                rows.append(
                    {
                        "case": f"leaves {size} {np.dtype(dtype).name} {threads} thread{'s' * (threads > 1)}",
                        "ours": ours,
                        "spread": timings["ours"].spread,
                        "peer_name": name,
                        "peer": timings[name].seconds,
                        "ratio": timings[name].seconds / ours,
                        "fraction": 4 * n * H * (d + c) / ours / rate,
                        "error": error,
                        "bar": f">= {bar:.0%} of GEMM, never slower",
                        "unit": "s",
                    }
                )
    return rows


WIDTH, PERIOD = 18, 20


def _modular() -> Any:
    return agf.Dense(*modular_data(), activation="square")


def _levels(path: Any) -> Any:
    return 2 / PERIOD * np.array([jump.loss_after for jump in path.jumps])


def modular_run() -> list[Row]:
    """Algorithm 1 on p = 20 to 2L/p = 1e-4, active_time = 100, rtol 1e-6, one core."""
    agf.set_threads(1)
    problem = _modular()
    start = problem.initialize(WIDTH, scale=1e-2, seed=0)
    paths = []

    def run() -> None:
        paths.append(
            agf.alternating_gradient_flow(problem, start, loss_tol=0.5e-4 * PERIOD, active_time=100.0, rtol=1e-6)
        )

    run()
    levels = _levels(paths[0])
    error = float(np.abs(levels[:3] - [0.59959, 0.40936, 0.28390]).max())
    assert error <= 2e-5 and abs(levels[4] - 0.15626) <= 1e-4 and levels[-1] <= 1e-4, levels
    timing = interleave({"ours": run}, repeats=5)["ours"]
    return [
        {
            "case": "modular run",
            "ours": timing.seconds,
            "spread": timing.spread,
            "error": error,
            "work": paths[0].stats["evaluations"],
            "bar": "<= 3 s",
            "unit": "s",
        }
    ]


def modular_phase() -> list[Row]:
    """One active phase of two neurons, t = 100, rtol 1e-6: evaluations beside SciPy's LSODA with the exact Hessian."""
    agf.set_threads(1)
    problem = _modular()
    start = problem.initialize(WIDTH, scale=1e-2, seed=0)
    keywords = {"active_time": 100.0, "rtol": 1e-6}
    path = agf.alternating_gradient_flow(problem, start, max_jumps=2, **keywords)
    first, second = path.jumps
    before = first.state
    pair = agf.State(
        np.stack([before.direction[first.neuron], second.direction]),
        [before.log_norm[first.neuron], 0.0],
        [True, True],
    )
    theta, kernel = pair.parameters(), problem._kernel()

    def ours() -> Any:
        return agf.alternating_gradient_flow(problem, pair, **keywords)

    def lsoda() -> Any:
        return solve_ivp(
            lambda _, y: kernel.utility_gradient(y.reshape(theta.shape), None).ravel(),
            (0.0, 100.0),
            theta.ravel(),
            method="LSODA",
            jac=lambda _, y: -kernel.hessian(y.reshape(theta.shape)),
            rtol=1e-6,
            atol=1e-9,
        )

    answer = problem.loss(lsoda().y[:, -1].reshape(theta.shape))
    run = ours()
    error = abs(problem.loss(run.state) / answer - 1)
    # LSODA's own error at this tolerance.
    assert error <= 1e-5 and abs(2 * answer / PERIOD - 0.40936) <= 2e-5
    timings = interleave({"ours": ours, "LSODA": lsoda}, repeats=5)
    count, theirs = run.stats["evaluations"], int(lsoda().nfev)
    return [
        {
            "case": "modular phase",
            "ours": count,
            "peer_name": "LSODA + Hessian",
            "peer": theirs,
            "ratio": theirs / count,
            "error": error,
            "bar": "<= 2000",
            "unit": "evaluations",
        },
        {
            "case": "modular phase",
            "ours": timings["ours"].seconds,
            "spread": timings["ours"].spread,
            "peer_name": "LSODA + Hessian",
            "peer": timings["LSODA"].seconds,
            "ratio": timings["LSODA"].seconds / timings["ours"].seconds,
            "error": error,
            "bar": "",
            "unit": "s",
        },
    ]


def modular_flow() -> list[Row]:
    """Gradient flow of the network to 2L/p = 1e-4 at rtol 1e-6, one core; once, since it is long."""
    agf.set_threads(1)
    problem = _modular()
    path = agf.gradient_flow(
        problem,
        problem.initialize(WIDTH, scale=1e-2, seed=0),
        1e6,
        loss_tol=0.5e-4 * PERIOD,
        rtol=1e-6,
        max_seconds=120,
    )
    assert path.status == "loss_tol", path.status
    assert np.all(np.diff(path.loss) <= 1e-14 * path.loss[0])
    return [
        {
            "case": "modular flow",
            "ours": path.stats["seconds"],
            "work": path.stats["evaluations"],
            "bar": "<= 1 s",
            "unit": "s",
        }
    ]


def flow_dop853() -> list[Row]:
    """The same flow over its first two plateaus beside DOP853 at rtol 1e-10, whose right-hand side is our kernel."""
    agf.set_threads(1)
    problem = _modular()
    theta = problem.initialize(WIDTH, scale=1e-2, seed=0).parameters()
    scout = agf.gradient_flow(problem, theta, 200.0, loss_tol=0.2 * PERIOD / 2, rtol=1e-4)
    times = np.linspace(0.0, float(scout.time[-1]), 60)
    state, evaluations = [], []

    def peer() -> None:
        states, count = explicit_flow(problem.utility_gradient, theta, times)
        state[:], evaluations[:] = [states], [count]

    def ours() -> Any:
        return agf.gradient_flow(problem, theta, times[-1], save_at=times, loss_tol=0.0, rtol=1e-8)

    path = ours()
    peer()
    answer = np.array([problem.loss(theta) for theta in state[0]])
    error = float(np.abs(path.loss / answer - 1).max())
    assert error <= 1e-6, error
    timings = interleave({"ours": ours, "DOP853": peer}, repeats=5)
    return [
        {
            "case": "flow over two plateaus",
            "ours": timings["ours"].seconds,
            "spread": timings["ours"].spread,
            "peer_name": "DOP853",
            "peer": timings["DOP853"].seconds,
            "ratio": timings["DOP853"].seconds / timings["ours"].seconds,
            "error": error,
            "bar": "1e-6 in loss",
            "unit": "s",
        },
        {
            "case": "flow over two plateaus",
            "ours": path.stats["evaluations"],
            "peer_name": "DOP853",
            "peer": evaluations[0],
            "ratio": evaluations[0] / path.stats["evaluations"],
            "error": error,
            "bar": "",
            "unit": "evaluations",
        },
    ]


SCALES: dict[str, dict[str, float]] = {
    "1e-2": {"scale": 1e-2},
    "1e-10": {"scale": 1e-10},
    "1e-50": {"scale": 1e-50},
    "1e-300": {"scale": 1e-300},
    "10^-10000": {"log_scale": -23025.0},
}


def scales() -> list[Row]:
    """Evaluations of AGF and of the flow (first drop, and many plateaus) as the initial scale goes to 10^-10000."""
    agf.set_threads(1)
    rows = []
    for name, problem, width in (
        ("modular", _modular(), WIDTH),
        ("relu", agf.Dense(*teacher_data(), activation="relu"), 8),
    ):
        zero = problem.loss(np.zeros((1, problem.n_params)))
        counts: dict[str, dict[str, int]] = {"AGF": {}, "flow": {}, "whole flow": {}}
        # To the first drop, and through many plateaus to t/eta = 2.5.
        flows = {"flow": (20.0, {"loss_tol": 0.8 * zero}, "loss_tol"), "whole flow": (2.5, {}, "t_end")}
        for label, scale in SCALES.items():
            start = problem.initialize(width, seed=0, **scale)
            path = agf.alternating_gradient_flow(problem, start, max_jumps=3, active_time=100.0, rtol=1e-6)
            assert len(path.jumps) == 3, (name, label, path.status)
            counts["AGF"][label] = path.stats["evaluations"]
            if label == "10^-10000":
                continue
            for verb, (t_end, options, ending) in flows.items():
                flow = agf.gradient_flow(problem, start, t_end, clock="scaled", rtol=1e-6, max_seconds=60, **options)
                assert flow.status == ending and flow.loss[-1] < 0.81 * zero, (name, label, flow.status)
                counts[verb][label] = flow.stats["evaluations"]
        for verb, bar in (("AGF", 1.5), ("flow", 4.0), ("whole flow", 4.0)):
            base = counts[verb]["1e-2"]
            rows.extend(
                {
                    "case": f"scales {name} {verb} {label}",
                    "ours": count,
                    "peer_name": "itself at 1e-2",
                    "peer": base,
                    "ratio": base / count,
                    "bar": f">= {1 / bar:.2f}",
                    "unit": "evaluations",
                }
                for label, count in counts[verb].items()
            )
    return rows


# name -> (function, thread counts; None: the function sets its own)
CASES: dict[str, tuple[Callable[..., list[Row]], tuple[int | None, ...]]] = {
    "leaves": (leaves, (1, 2)),
    "modular-run": (modular_run, (None,)),
    "modular-phase": (modular_phase, (None,)),
    "modular-flow": (modular_flow, (None,)),
    "flow-dop853": (flow_dop853, (None,)),
    "scales": (scales, (None,)),
}
