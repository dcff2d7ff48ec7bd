"""Evaluations as the initial scale goes from 1e-10 to 10^-10000: both verbs, every architecture."""

from __future__ import annotations

from typing import Any

import numpy as np

import agf_fast as agf

from .problems import every_architecture
from .rows import Bar, Outcome, Peer, Row

SUBJECT = "scales"
COARSE = {"log_scale": -10.0 * np.log(10.0)}
FINE = {"log_scale": -10000.0 * np.log(10.0)}
GROWTH = 1.5
JUMPS = 3


def scales() -> Outcome:
    """AGF through its first three jumps, and gradient flow until it has learned half of what there is to learn."""
    agf.set_threads(1)
    rows = []
    for name, (problem, width) in every_architecture().items():
        for verb, count in (("AGF", _alternate), ("flow", _flow)):
            coarse, fine = (count(name, problem, width, scale) for scale in (COARSE, FINE))
            rows.append(
                Row(
                    SUBJECT,
                    f"{name}, {verb} from 10^-10000",
                    fine,
                    unit="evaluations",
                    peers=(Peer("from 1e-10", float(coarse)),),
                    bars=(Bar("ours", "<=", GROWTH * coarse),),
                )
            )
    return Outcome(rows)


def _start(problem: Any, width: int | None, scale: dict[str, float]) -> agf.State:
    start: agf.State = problem.initialize(**scale) if width is None else problem.initialize(width, seed=0, **scale)
    return start


def _alternate(name: str, problem: Any, width: int | None, scale: dict[str, float]) -> int:
    # The path of a diagonal network takes each active phase to its minimum.
    options: dict[str, Any] = {} if isinstance(problem, agf.Diagonal) else {"active_time": 100.0}
    path = agf.alternating_gradient_flow(problem, _start(problem, width, scale), max_jumps=JUMPS, rtol=1e-6, **options)
    assert len(path.jumps) == JUMPS and np.all(np.diff(path.loss) < 0.0), (name, scale, path.status)
    return int(path.stats["evaluations"])


def _flow(name: str, problem: Any, width: int | None, scale: dict[str, float]) -> int:
    start = _start(problem, width, scale)
    half = 0.5 * problem.loss(np.zeros((width or problem.n_inputs, problem.n_params)))
    path = agf.gradient_flow(problem, start, 1e9, clock="scaled", loss_tol=half, rtol=1e-6, max_seconds=60.0)
    assert path.status == "loss_tol" and np.all(np.diff(path.loss) <= 1e-14 * path.loss[0]), (name, scale, path.status)
    return int(path.stats["evaluations"])
