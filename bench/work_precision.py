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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import agf_fast as agf

from .problems import modular_data, teacher_data
from .rows import Bar, Curve, Outcome, Peer, Row
from .timing import local

SUBJECT = "work-precision"
RTOL = (1e-4, 1e-6, 1e-8, 1e-10)
PEERS = ("RK45", "DOP853", "LSODA", "Radau")
TIMES = 40
OURS = "ours"
LONG = 0.5


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


def cases() -> list[Case]:
    """Smooth and stiff over two plateaus; kinked; not homogeneous; on moments, from a small start."""
    rng = np.random.default_rng(0)
    inputs, targets = modular_data(10, {1: 5.0, 3: 2.5})
    modular = agf.Dense(inputs, targets, activation="square")
    inputs, targets = teacher_data(n=200)
    relu = agf.Dense(inputs, targets, activation="relu")
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


def peer_flow(case: Case, method: str, times: Any, rtol: float) -> tuple[Any, int, int]:
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


def our_flow(case: Case, times: Any, rtol: float) -> tuple[Any, int, int]:
    """The same by `gradient_flow`."""
    path = agf.gradient_flow(case.problem, case.theta, case.t_end, save_at=times, loss_tol=0.0, rtol=rtol)
    assert path.status == "t_end", (case.name, rtol, path.status)
    states = np.stack([state.parameters().ravel() for state in path.states])
    return states, path.stats["evaluations"], path.stats["hessians"]


def measure(case: Case) -> list[Curve]:
    """Errors, work and seconds of every method at every tolerance; asserts that all meet the reference."""
    times = np.linspace(0.0, case.t_end, TIMES)
    # Tighter than the tightest; across kinks, where steps shrink with it, by less.
    reference, _, _ = peer_flow(case, "DOP853", times, 1e-11 if case.kinked else 1e-12)
    runs: dict[str, Callable[[float], tuple[Any, int, int]]] = {OURS: partial(our_flow, case, times)}
    for method in PEERS:
        runs[method] = partial(peer_flow, case, method, times)
    curves = []
    for method, run in runs.items():
        found = []
        tolerances = RTOL[:-1] if case.kinked else RTOL
        for rtol in tolerances:
            states, evaluations, hessians = run(rtol)
            seconds = local(partial(run, rtol))
            # What disturbs a run only adds to it; a long one is little disturbed.
            once = seconds(1)
            least = once if once > LONG else min(once, seconds(1), seconds(1))
            found.append((_distance(states, reference), evaluations, hessians, least))
        curve = Curve(case.name, method, tolerances, *zip(*found, strict=True))
        assert curve.error[-1] <= case.exact, (case.name, method, curve.error)
        curves.append(curve)
    return curves


def _distance(states: Any, reference: Any) -> float:
    return float(np.linalg.norm(states - reference, axis=1).max() / np.linalg.norm(reference, axis=1).max())


def work_at(curve: Curve, error: float, work: tuple[float, ...] | tuple[int, ...]) -> float:
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
    needed = {
        work: {curve.method: work_at(curve, level, getattr(curve, work)) for curve in curves}
        for work in ("evaluations", "seconds")
    }
    theirs = {work: tuple(Peer(peer.method, by[peer.method]) for peer in peers) for work, by in needed.items()}
    fewest = Bar("ratio", ">=", 1.0, "fewest evaluations, against SciPy's methods")
    return [
        Row(
            SUBJECT,
            f"{ours.case}: evaluations",
            needed["evaluations"][OURS],
            unit="evaluations",
            peers=theirs["evaluations"],
            error=level,
            bars=(fewest,),
        ),
        Row(SUBJECT, f"{ours.case}: time", needed["seconds"][OURS], peers=theirs["seconds"], error=level),
    ]


def work_precision() -> Outcome:
    """Evaluations and seconds at equal error on the four networks, one core, and the curves they are read from."""
    agf.set_threads(1)
    outcome = Outcome()
    for case in cases():
        curves = measure(case)
        outcome.extend(Outcome(compare(curves), curves))
    return outcome
