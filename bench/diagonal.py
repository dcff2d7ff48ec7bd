"""Diagonal networks: the exact path beside scikit-learn's lars_path, its memory, and plain gradient descent."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import agf_fast as agf

from .memory import peak
from .passes import ours as our_pass
from .probe import Probe
from .rows import Bar, Fraction, Outcome, Peer, Row
from .timing import interleave, local

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.diagonal import five_dimensional

SUBJECT = "diagonal"
# Shape, and repeats: a path takes from milliseconds to seconds.
SHAPES = {(200, 1000): 7, (500, 5000): 5, (1000, 2000): 5}
FIRST = 500
# The path to the end of which is to fit.
WIDE = (500, 100_000)
GIGABYTE = 1e9
# lars_path without and with X^T X given, whose making is not counted.
RIVALS = ("lars_path", "lars_path, Gram given")

SCALES = tuple(10.0**-k for k in range(1, 9))
STEPS = 1_000_000
RATE = 1e-2
# NumPy's loop is timed over so many of the steps, each of which takes it as long.
SAMPLED_STEPS = 20_000


def design(shape: tuple[int, int]) -> tuple[Any, Any]:
    """A Gaussian design by columns, as either reads it without a copy of its own, and targets of noise."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape[::-1]).T, rng.standard_normal(shape[0])


def diagonal_path() -> Outcome:
    """Whole paths and the first 500 events, in total and per event.

    The two count different events: a jump of ours lets in one input and may send back several, which then travel to the
    other end before they return; a step of the lasso's lets one in or out. So totals are compared, and time per event
    with its own count."""
    agf.set_threads(1)
    rows = []
    for shape, repeats in SHAPES.items():
        X, y = design(shape)
        problem = agf.Diagonal(X, y)
        for most in (None, FIRST):
            rows += _compare(shape, problem, X, y, most, repeats)
    return Outcome(rows)


def _compare(
    shape: tuple[int, int], problem: agf.Diagonal, X: Any, y: Any, most: int | None, repeats: int
) -> list[Row]:
    ours = partial(agf.alternating_gradient_flow, problem, limit=True, max_jumps=most)
    jumps = len(ours().jumps)
    error = _worst_violation(problem, X, y, most)
    # Rounding of correlations that are sums of n terms, at condition numbers of up to some thousands.
    assert error <= 1e-11, (shape, error)
    calls: dict[str, Callable[[], Any]] = {"ours": ours}
    steps: dict[str, int] = {}
    if importlib.util.find_spec("sklearn"):
        lars_path = importlib.import_module("sklearn.linear_model").lars_path
        gram = X.T @ X if shape[1] <= 2 * shape[0] else None
        for name, given in zip(RIVALS, (False, gram), strict=True):
            if given is not None:
                calls[name] = partial(lars_path, X, y, Gram=given, method="lasso", max_iter=most or 100 * shape[0])
                steps[name] = len(calls[name]()[0]) - 1
    # The same data as the path reads them: one column after the other.
    calls["pass"] = partial(np.matmul, X.T, y)
    calls["our pass"] = our_pass(1, shape)
    timings = interleave({name: local(call) for name, call in calls.items()}, repeats)
    mine, one = timings["ours"], min(timings["pass"].seconds, timings["our pass"].seconds)
    what = f"{shape} {'whole path' if most is None else f'first {most}'}"
    totals = tuple(Peer(name, timings[name].seconds if name in timings else None) for name in RIVALS)
    each = tuple(Peer(name, timings[name].seconds / steps[name] if name in steps else None) for name in RIVALS)
    ahead = Bar("ratio", ">=", 1.0)
    return [
        Row(SUBJECT, what, mine.seconds, spread=mine.spread, peers=totals, error=error, work=jumps, bars=(ahead,)),
        Row(
            SUBJECT,
            f"{what}, per event",
            mine.seconds / jumps,
            spread=mine.spread / jumps,
            peers=each,
            # Of a jump, the part that one pass over X would take: half of it, or more, is at most two passes.
            fractions=(Fraction("the faster of two X.T @ y", one * jumps / mine.seconds),),
            error=error,
            bars=(ahead, Bar("fraction", ">=", 0.5)) if most is None else (ahead,),
            bytes=8.0 * shape[0] * shape[1],
        ),
    ]


def _worst_violation(problem: agf.Diagonal, X: Any, y: Any, most: int | None) -> float:
    """By how much plateaus miss their optimality, relative to max |E[x y]|: E[x r] = 0 where beta is not 0, beta of the
    sign of its end, and no active input at beta = 0 that would grow. On some thirty plateaus of a run of its own."""
    scale = float(np.abs(X.T @ y).max())
    worst = [0.0]
    count = [0]
    stride = max(1, (most or 2 * X.shape[0]) // 30)

    def check(jump: agf.Jump) -> None:
        count[0] += 1
        if count[0] % stride:
            return
        state = jump.state
        assert state is not None
        active, dual = np.asarray(state.active), np.asarray(state.extra["dual"])
        beta = np.zeros(X.shape[1])
        beta[active] = np.asarray(problem.coefficients(state))[active]
        gradient = X.T @ (y - X @ beta) / scale
        held = beta != 0
        assert np.all(beta * dual >= 0) and np.all(np.abs(dual) <= 1 + 1e-12)
        worst[0] = max(worst[0], float(np.abs(gradient[held]).max(initial=0.0)))
        worst[0] = max(worst[0], float((gradient * dual)[active & ~held].max(initial=0.0)))

    path = agf.alternating_gradient_flow(problem, limit=True, max_jumps=most, callback=check)
    assert path.status in ("loss_tol", "max_jumps") and np.all(np.diff(path.loss) <= 0.0), path.status
    assert count[0] >= stride
    return worst[0]


def wide(threads: int) -> Callable[[], Any]:
    """The peak of a process that makes the data of (500, 100,000) and follows the path to its end; jumps; seconds."""
    agf.set_threads(threads)

    def call() -> Any:
        problem = agf.Diagonal(*design(WIDE))
        begun = time.perf_counter()
        path = agf.alternating_gradient_flow(problem, limit=True)
        seconds = time.perf_counter() - begun
        assert path.status == "loss_tol" and np.all(np.diff(path.loss) <= 0.0), path.status
        return np.array([peak(), len(path.jumps), seconds])

    return call


def diagonal_memory() -> Outcome:
    """Inputs, the library's copy of them, and all else, in a process that has done nothing before."""
    with Probe("bench.diagonal:wide", 1) as probe:
        probe.prepare()
        most, jumps, seconds = (float(value) for value in probe.answer()[0])
    return Outcome(
        [
            Row(SUBJECT, f"{WIDE} peak of the process", most, unit="B", bars=(Bar("ours", "<=", GIGABYTE),)),
            Row(SUBJECT, f"{WIDE} whole path", seconds, work=int(jumps)),
            Row(SUBJECT, f"{WIDE} whole path, per event", seconds / jumps, bytes=8.0 * WIDE[0] * WIDE[1]),
        ]
    )


def diagonal_descent() -> Outcome:
    """Gradient descent on the paper's five inputs from eight scales, 10^6 steps each, beside the loop by hand."""
    agf.set_threads(1)
    X, y = five_dimensional()
    problem = agf.Diagonal(X, y)
    starts = [problem.initialize(scale).parameters() for scale in SCALES]

    def ours(steps: int = STEPS) -> list[Any]:
        return [agf.gradient_descent(problem, theta, RATE, steps) for theta in starts]

    error = 0.0
    for path, (u, v) in zip(ours(SAMPLED_STEPS), _by_hand(X, y, starts, SAMPLED_STEPS), strict=True):
        found = np.asarray(problem.coefficients(path.state))
        error = max(error, float(np.abs(found - u * v).max() / np.abs(u * v).max()))
    # Rounding, grown along the way as the network grows from its scale.
    assert error <= 1e-9, error
    runs = ours()
    assert all(run.stats["steps"] == STEPS and run.loss[-1] <= 1e-20 * run.loss[0] for run in runs)
    calls = {"ours": local(ours), "NumPy": local(lambda: _by_hand(X, y, starts, SAMPLED_STEPS))}
    timings = interleave(calls, repeats=5)
    return Outcome(
        [
            Row(
                SUBJECT,
                f"descent on 5 inputs, {len(SCALES)} scales of 10^6 steps",
                timings["ours"].seconds,
                spread=timings["ours"].spread,
                peers=(
                    Peer("NumPy by hand", timings["NumPy"].seconds * STEPS / SAMPLED_STEPS),
                    Peer("NumPy by hand, published", 26.0, quoted=True),
                    Peer("public code", 209.0, quoted=True),
                ),
                error=error,
                work=len(SCALES) * STEPS,
                bars=(Bar("ratio", ">=", 1.0),),
            )
        ]
    )


def _by_hand(X: Any, y: Any, starts: list[Any], steps: int) -> list[tuple[Any, Any]]:
    """The loop that a user would write, with nothing in it that need not be."""
    found = []
    pull = np.ascontiguousarray(X.T) * (RATE / len(y))
    for theta in starts:
        u, v = theta[:, 0].copy(), theta[:, 1].copy()
        for _ in range(steps):
            g = pull @ (y - X @ (u * v))
            change = g * v
            v += g * u
            u += change
        found.append((u, v))
    return found
