"""Work against precision: the gradient flow of four small networks beside SciPy's integrators at four tolerances.

Every method integrates the same right-hand side, our kernel, from the same start; LSODA and Radau are also given the
exact Jacobian. Error: the largest distance from the reference on a grid of times, relative to the largest norm there.
Work: evaluations of the right-hand side, and Hessians beside them, as each method counts its own. Ours also knows the
loss at the end of every step, which takes the residual there, half an evaluation that is none of the right-hand side.

What to expect. Explicit methods pay for stiffness whatever the tolerance. LSODA's formulas of order up to 12 need the
fewest evaluations where smooth growth is followed to many digits: ours stop at order 5, as all that damp stiff
neurons at any step do. Across kinks all lose their order; where a flow slides along one, explicit methods chatter, so
this case has none that does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import agf_fast as agf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.problems import modular_data, teacher_data

Row = dict[str, Any]

RTOL = (1e-4, 1e-6, 1e-8, 1e-10)
PEERS = ("RK45", "DOP853", "LSODA", "Radau")
TIMES = 40
OURS = "ours"


@dataclass(frozen=True)
class Case:
    """A network, where its flow starts and how long it is followed; `exact`, how near each method must come to the
    reference at its tightest tolerance."""

    name: str
    problem: Any
    theta: Any
    t_end: float
    exact: float
    kinked: bool = False


@dataclass
class Curve:
    """One method on one case: an entry for every tolerance."""

    case: str
    method: str
    rtol: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    hessians: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def cases() -> list[Case]:
    """Smooth and stiff over two plateaus; kinked; not homogeneous; on moments, from a small start."""
    rng = np.random.default_rng(0)
    modular = agf.Dense(*modular_data(10, {1: 5.0, 3: 2.5}), activation="square")
    relu = agf.Dense(*teacher_data(n=200), activation="relu")
    X = rng.standard_normal((100, 5))
    Y = np.tanh(X @ rng.standard_normal((5, 3)) / 2) @ (rng.standard_normal((3, 2)) * np.array([[1.5], [1.0], [0.6]]))
    tanh = agf.Dense(X, np.ascontiguousarray(Y), activation="tanh")
    attention = agf.Attention(np.diag([1.0, 0.7, 0.5, 0.3]), context=8)
    rows = [
        ("modular", modular, 8, 1e-2, 140.0, 1e-7),
        ("relu", relu, 3, 1e-2, 15.0, 1e-4),
        ("tanh", tanh, 8, 1e-3, 12.0, 1e-7),
        ("attention", attention, 4, 1e-2, 150.0, 1e-6),
    ]
    return [
        Case(name, problem, problem.initialize(width, scale=scale, seed=0).parameters(), t_end, exact, name == "relu")
        for name, problem, width, scale, t_end, exact in rows
    ]


def peer_flow(case: Case, method: str, rtol: float, times: Any) -> tuple[Any, int, int]:
    """theta on the grid, evaluations and Jacobians of one of SciPy's methods."""
    shape, kernel = case.theta.shape, case.problem._kernel()
    options: dict[str, Any] = {}
    if method in ("LSODA", "Radau"):
        options["jac"] = lambda _, y: -kernel.hessian(y.reshape(shape))
    # Trial steps out of a plateau can be so long that they overflow; they are rejected.
    with np.errstate(over="ignore", invalid="ignore"):
        solution = solve_ivp(
            lambda _, y: kernel.utility_gradient(y.reshape(shape), None).ravel(),
            (0.0, case.t_end),
            case.theta.ravel(),
            method=method,
            t_eval=times,
            rtol=rtol,
            # Far below the start: an absolute tolerance near it would decide when the plateau ends.
            atol=1e-3 * rtol * np.abs(case.theta).max(),
            **options,
        )
    assert solution.success, (case.name, method, rtol, solution.message)
    return solution.y.T, int(solution.nfev), int(solution.njev)


def our_flow(case: Case, rtol: float, times: Any) -> tuple[Any, int, int]:
    """The same by `gradient_flow`."""
    path = agf.gradient_flow(case.problem, case.theta, case.t_end, save_at=times, loss_tol=0.0, rtol=rtol)
    assert path.status == "t_end", (case.name, rtol, path.status)
    states = np.stack([state.parameters().ravel() for state in path.states])
    return states, path.stats["evaluations"], path.stats["hessians"]


def measure(case: Case) -> list[Curve]:
    """Errors, work and seconds of every method at every tolerance; asserts that all meet the reference."""
    times = np.linspace(0.0, case.t_end, TIMES)
    # Tighter than the tightest; across kinks, where steps shrink with it, by less.
    reference, _, _ = peer_flow(case, "DOP853", 1e-11 if case.kinked else 1e-12, times)
    scale = float(np.linalg.norm(reference, axis=1).max())
    runs: dict[str, Callable[[float], tuple[Any, int, int]]] = {OURS: lambda rtol: our_flow(case, rtol, times)}
    for method in PEERS:
        runs[method] = lambda rtol, method=method: peer_flow(case, method, rtol, times)
    curves = []
    for method, run in runs.items():
        curve = Curve(case.name, method)
        for rtol in RTOL[:-1] if case.kinked else RTOL:
            begun = time.perf_counter()
            states, evaluations, hessians = run(rtol)
            curve.seconds.append(time.perf_counter() - begun)
            curve.rtol.append(rtol)
            curve.error.append(float(np.linalg.norm(states - reference, axis=1).max()) / scale)
            curve.evaluations.append(evaluations)
            curve.hessians.append(hessians)
        assert curve.error[-1] <= case.exact, (case.name, method, curve.error)
        curves.append(curve)
    return curves


def work_at(curve: Curve, error: float, work: list[float] | list[int]) -> float:
    """Work that the method needs for this error: straight between its tolerances, both in logarithms."""
    # The best that was had at each price, so that errors fall.
    best = np.minimum.accumulate(np.log(curve.error))
    return float(np.exp(np.interp(-np.log(error), -best, np.log(work))))


def compare(curves: list[Curve]) -> list[Row]:
    """Ours against each peer at an error that all of them reach, 1e-6 where they do."""
    reached = max(min(curve.error) for curve in curves)
    loosest = min(max(curve.error) for curve in curves)
    level = min(max(1e-6, reached), loosest)
    ours, *peers = curves
    rows = []
    for peer in peers:
        for unit, own, other in (
            ("evaluations", ours.evaluations, peer.evaluations),
            ("s", ours.seconds, peer.seconds),
        ):
            mine, theirs = work_at(ours, level, own), work_at(peer, level, other)
            rows.append(
                {
                    "case": f"work precision {ours.case}",
                    "ours": mine,
                    "peer_name": peer.method,
                    "peer": theirs,
                    "ratio": theirs / mine,
                    "error": level,
                    "bar": ">= 1" if unit == "evaluations" else "",
                    "unit": unit,
                    "curves": {OURS: vars(ours), peer.method: vars(peer)},
                }
            )
    return rows


def work_precision() -> list[Row]:
    """Evaluations and seconds at equal error on the four networks, one core; each row holds its two curves."""
    agf.set_threads(1)
    return [row for case in cases() for row in compare(measure(case))]
