"""Modular addition, p = 20, H = 18, scale 1e-2, rtol 1e-6: the AGF run, the gradient flow, and one active phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

import agf_fast as agf

from .problems import (
    MODULAR_FIFTH,
    MODULAR_LEVELS,
    MODULAR_RUN,
    modular,
    modular_level,
    modular_loss,
    modular_start,
)
from .rows import Bar, Outcome, Peer, Row
from .timing import interleave, local

from support.flow import explicit_flow  # isort: skip  # found once `problems` is imported

SUBJECT = "modular"
KINDS = ("ModularAddition", "Dense")
END = 1e-4
# Published figures, of the paper's public code and of SciPy, on a machine like this one; not measured here.
PUBLIC_RUN = Peer("public code", 930.0, quoted=True)
PUBLIC_FLOW = (
    Peer("public code", 748.0, quoted=True),
    Peer("DOP853", 135.0, quoted=True),
    Peer("LSODA", 36.0, quoted=True),
)


def run(threads: int, kind: str) -> Callable[[], agf.Trajectory]:
    """Algorithm 1 to 2L/p = 1e-4."""
    agf.set_threads(threads)
    problem = modular(kind)
    start = modular_start(problem)
    return lambda: agf.alternating_gradient_flow(problem, start, loss_tol=modular_loss(END), **MODULAR_RUN)


def flow(threads: int, kind: str) -> Callable[[], agf.Trajectory]:
    """Gradient flow to 2L/p = 1e-4."""
    agf.set_threads(threads)
    problem = modular(kind)
    start = modular_start(problem)
    return lambda: agf.gradient_flow(problem, start, 1e6, loss_tol=modular_loss(END), rtol=1e-6, max_seconds=120.0)


def phase(threads: int, kind: str) -> Callable[[], agf.Trajectory]:
    """The second active phase: two neurons, t = 100."""
    agf.set_threads(threads)
    problem, pair = second_phase(kind)
    return lambda: agf.alternating_gradient_flow(problem, pair, **MODULAR_RUN)


def second_phase(kind: str) -> tuple[agf.Problem, agf.State]:
    """The two neurons of the second jump as it begins."""
    problem = modular(kind)
    path = agf.alternating_gradient_flow(problem, modular_start(problem), max_jumps=2, **MODULAR_RUN)
    first, second = path.jumps
    before = first.state
    assert before is not None
    direction = np.stack([before.direction[first.neuron], second.direction])
    return problem, agf.State(direction, [before.log_norm[first.neuron], 0.0], [True, True])


def modular_run() -> Outcome:
    calls = {kind: run(1, kind) for kind in KINDS}
    paths = {kind: call() for kind, call in calls.items()}
    timings = interleave({kind: local(call) for kind, call in calls.items()}, repeats=5)
    rows = []
    for kind, path in paths.items():
        levels = [modular_level(jump.loss_after) for jump in path.jumps]
        error = float(np.abs(np.subtract(levels[:3], MODULAR_LEVELS)).max())
        assert error <= 2e-5 and abs(levels[4] - MODULAR_FIFTH) <= 1e-4 and levels[-1] <= END, levels
        rows.append(
            Row(
                SUBJECT,
                f"AGF run to 2L/p = 1e-4, {kind}",
                timings[kind].seconds,
                spread=timings[kind].spread,
                peers=(PUBLIC_RUN,),
                error=error,
                work=path.stats["evaluations"],
                bars=(Bar("ours", "<=", 0.5),) if kind == "ModularAddition" else (),
            )
        )
    return Outcome(rows)


def modular_flow() -> Outcome:
    calls = {kind: flow(1, kind) for kind in KINDS}
    paths = {kind: call() for kind, call in calls.items()}
    timings = interleave({kind: local(call) for kind, call in calls.items()}, repeats=5)
    rows = []
    for kind, path in paths.items():
        assert path.status == "loss_tol", path.status
        assert np.all(np.diff(path.loss) <= 1e-14 * path.loss[0])
        rows.append(
            Row(
                SUBJECT,
                f"gradient flow to 2L/p = 1e-4, {kind}",
                timings[kind].seconds,
                spread=timings[kind].spread,
                peers=PUBLIC_FLOW,
                work=path.stats["evaluations"],
                bars=(Bar("ours", "<=", 1.0),) if kind == "ModularAddition" else (),
            )
        )
    return Outcome(rows)


def modular_phase() -> Outcome:
    """One active phase beside SciPy's LSODA with the exact Hessian and RK45, whose right-hand side is our kernel."""
    rows = []
    for kind in KINDS:
        problem, pair = second_phase(kind)
        ours, theta, kernel = phase(1, kind), pair.parameters(), problem._kernel()

        def solve(method: str, kernel: Any = kernel, theta: Any = theta) -> Any:
            jacobian = {"jac": lambda _, y: -kernel.hessian(y.reshape(theta.shape))} if method == "LSODA" else {}
            return solve_ivp(
                lambda _, y: kernel.utility_gradient(y.reshape(theta.shape), None).ravel(),
                (0.0, MODULAR_RUN["active_time"]),
                theta.ravel(),
                method=method,
                rtol=1e-6,
                atol=1e-9,
                **jacobian,
            )

        implicit, explicit = solve("LSODA"), solve("RK45")
        path = ours()
        answer = problem.loss(implicit.y[:, -1].reshape(theta.shape))
        error = abs(problem.loss(path.state) / answer - 1)
        # LSODA's own error at this tolerance.
        assert error <= 1e-5 and abs(modular_level(answer) - MODULAR_LEVELS[1]) <= 2e-5, (error, answer)
        timings = interleave({"ours": local(ours), "LSODA": local(lambda: solve("LSODA"))}, repeats=5)
        rows += [
            Row(
                SUBJECT,
                f"active phase of two neurons, {kind}: evaluations",
                path.stats["evaluations"],
                unit="evaluations",
                peers=(Peer("LSODA + Hessian", float(implicit.nfev)), Peer("RK45", float(explicit.nfev))),
                error=error,
                bars=(Bar("ours", "<=", 2000, "one active phase of the main job"),),
            ),
            Row(
                SUBJECT,
                f"active phase of two neurons, {kind}: time",
                timings["ours"].seconds,
                spread=timings["ours"].spread,
                peers=(Peer("LSODA + Hessian", timings["LSODA"].seconds),),
                error=error,
            ),
        ]
    return Outcome(rows)


def flow_dop853() -> Outcome:
    """The flow over its first two plateaus beside DOP853 at rtol 1e-10, whose right-hand side is our kernel."""
    agf.set_threads(1)
    problem = modular("ModularAddition")
    start = modular_start(problem)
    theta = start.parameters()
    scout = agf.gradient_flow(problem, start, 200.0, loss_tol=modular_loss(0.2), rtol=1e-4)
    times = np.linspace(0.0, float(scout.time[-1]), 60)

    def ours() -> agf.Trajectory:
        return agf.gradient_flow(problem, start, times[-1], save_at=times, loss_tol=0.0, rtol=1e-8)

    def peer() -> Any:
        return explicit_flow(problem.utility_gradient, theta, times)

    path = ours()
    states, evaluations = peer()
    answer = np.array([problem.loss(state) for state in states])
    error = float(np.abs(path.loss / answer - 1).max())
    assert error <= 1e-6, error
    timings = interleave({"ours": local(ours), "DOP853": local(peer)}, repeats=5)
    case = "gradient flow over two plateaus, errors below 1e-6:"
    return Outcome(
        [
            Row(
                SUBJECT,
                f"{case} time",
                timings["ours"].seconds,
                spread=timings["ours"].spread,
                peers=(Peer("DOP853", timings["DOP853"].seconds),),
                error=error,
            ),
            Row(
                SUBJECT,
                f"{case} evaluations",
                path.stats["evaluations"],
                unit="evaluations",
                peers=(Peer("DOP853", float(evaluations)),),
                error=error,
            ),
        ]
    )
