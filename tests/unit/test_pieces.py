"""Runs that are stopped at any moment, in the middle of a step or a phase, lose nothing: pieces make up the whole."""

from __future__ import annotations

import numpy as np

import agf_fast as agf
from support.linear import moments


def pieces(run, start, seconds, done):
    """`run(state, max_seconds)` again and again from where it was stopped, each piece some hundredths of `seconds`."""
    rng = np.random.default_rng(0)
    parts, state, share = [], start, 1.0
    while True:
        parts.append(run(state, share * rng.uniform(0.02, 0.1) * seconds))
        # A busy machine gets further with more time.
        share *= 1.02
        state = parts[-1].state
        if done(parts[-1]):
            return parts


def finished(path):
    return path.status is not agf.Status.MAX_SECONDS


def flow_in_pieces(problem, start, t_end, learned):
    times = np.linspace(0.0, t_end, 401)
    whole = agf.gradient_flow(problem, start, t_end, save_at=times, loss_tol=0.0)

    def run(state, seconds):
        left = times if state is start else times[times > state.time]
        return agf.gradient_flow(problem, state, t_end, save_at=left, loss_tol=0.0, max_seconds=seconds)

    parts = pieces(run, start, whole.stats["seconds"], finished)
    assert len(parts) > 5
    np.testing.assert_array_equal(np.concatenate([part.time for part in parts]), times)
    loss = np.concatenate([part.loss for part in parts])
    np.testing.assert_allclose(loss, whole.loss, rtol=0, atol=1e-7 * whole.loss[0])
    np.testing.assert_allclose(learned(parts[-1].state), learned(whole.state), rtol=0, atol=1e-8)


def test_diagonal_flow():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 600))
    problem = agf.Diagonal(X, X[:, :5] @ rng.standard_normal(5) + rng.standard_normal(100))
    flow_in_pieces(problem, problem.initialize(1e-3), 20.0, problem.coefficients)


def test_linear_flow():
    size = 24
    problem = agf.Linear.from_moments(*moments(np.linspace(1.0, 0.2, size), np.linspace(1.0, 0.3, size), False))
    flow_in_pieces(problem, problem.initialize(size, scale=1e-20), 120.0, problem.linear_map)


def test_diagonal_path():
    """Every jump is told of once, those whose phase was broken off included."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 1200))
    problem = agf.Diagonal(X, X[:, :50] @ rng.standard_normal(50) + rng.standard_normal(200))
    start = problem.initialize(1e-100)
    whole = agf.alternating_gradient_flow(problem, start)
    parts = pieces(
        lambda state, seconds: agf.alternating_gradient_flow(problem, state, max_seconds=seconds),
        start,
        3 * whole.stats["seconds"],
        finished,
    )
    jumps = [jump for part in parts for jump in part.jumps]
    assert [jump.activated for jump in jumps] == [jump.activated for jump in whole.jumps]
    np.testing.assert_allclose([jump.time for jump in jumps], whole.time[1:], rtol=1e-9)
    np.testing.assert_allclose(
        [jump.loss_after for jump in jumps if jump.converged],
        [jump.loss_after for jump, mine in zip(whole.jumps, jumps, strict=True) if mine.converged],
        rtol=0,
        atol=1e-12 * whole.loss[0],
    )
