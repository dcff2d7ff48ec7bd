"""Degenerate but legal data: each ends with a status that says what it was."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data, linear_data


def run(problem, start, backend, **keywords):
    return agf.alternating_gradient_flow(
        problem,
        start,
        **{"rtol": 1e-7, "active_time": 50.0, "backend": backend, **keywords},
    )


def test_nothing_to_learn(verb_backend, activation):
    X, Y, *_ = generic_data()
    problem = agf.Dense(X, np.zeros_like(Y), **activation.keywords)
    start = problem.initialize(4, seed=0)
    path = run(problem, start, verb_backend)
    assert path.status == "nothing_to_learn" and len(path.jumps) == 0
    np.testing.assert_array_equal(path.loss, [0.0])
    # The flow of f -> 0 is a flow: small weights stay where they are.
    flow = agf.gradient_flow(problem, start, 1.0, rtol=1e-7, backend=verb_backend)
    assert np.all(flow.loss <= 1e-20)


@pytest.mark.parametrize("shape", [(1, 3, 2), (1, 1, 1), (40, 3, 1), (2, 6, 3), (3, 1, 4)])
def test_small_shapes(verb_backend, activation, shape):
    """n = 1, c = 1, d = 1, fewer samples than inputs."""
    n, d, c = shape
    X, Y, *_ = generic_data(n, d, c, seed=3)
    problem = agf.Dense(X, Y, **activation.keywords)
    path = run(
        problem,
        problem.initialize(4, scale=1e-3, seed=0),
        verb_backend,
        max_jumps=2,
        active_time=5.0,
    )
    assert path.status in ("max_jumps", "loss_tol", "inert", "all_active")
    assert np.all(np.isfinite(path.loss)) and path.loss[-1] <= path.loss[0]
    flow = agf.gradient_flow(
        problem,
        problem.initialize(4, scale=0.5, seed=0),
        1.0,
        rtol=1e-7,
        backend=verb_backend,
    )
    assert flow.status in ("t_end", "loss_tol") and np.all(np.diff(flow.loss) <= 1e-14 * flow.loss[0])


def test_one_neuron(verb_backend):
    X, Y, *_ = generic_data()
    problem = agf.Dense(X, Y, activation="tanh")
    path = run(problem, problem.initialize(1, seed=0), verb_backend)
    assert len(path.jumps) == 1 and path.status == "all_active"


def test_wider_than_the_rank(verb_backend):
    """Rank 2, ten identity neurons: two features, after which nobody has anything to gain."""
    X, Y = linear_data((1.0, 0.5))
    problem = agf.Dense(X, Y, activation="identity")
    path = run(
        problem,
        problem.initialize(10, scale=1e-10, seed=0),
        verb_backend,
        active_time=None,
    )
    assert len(path.jumps) == 2 and path.status in ("loss_tol", "inert")
    assert path.loss[-1] <= 1e-9 * path.loss[0]


def test_duplicated_neurons(verb_backend):
    """Twins have the same flow: they stay twins, activate in one jump, and share what one of norm sqrt(2) would do."""
    X, Y, *_ = generic_data(n=30, d=3, c=2, seed=2)
    for name in ("relu", "square", "identity", "tanh"):
        problem = agf.Dense(X, Y, activation=name)
        single = problem.initialize(3, scale=1e-3, seed=0)
        twins = agf.State(np.repeat(single.direction, 2, axis=0), np.repeat(single.log_norm, 2))
        path = run(problem, twins, verb_backend, max_jumps=1)
        first = path.jumps[0]
        pair = first.neuron // 2 * 2
        assert sorted(first.activated) == [pair, pair + 1]
        lone = run(problem, single, verb_backend, max_jumps=1).jumps[0]
        assert lone.neuron == pair // 2
        np.testing.assert_allclose(first.time, lone.time, rtol=1e-8)
        theta = path.state.parameters()
        np.testing.assert_allclose(theta[pair], theta[pair + 1], rtol=0, atol=1e-9 * np.abs(theta[pair]).max())


def test_duplicated_columns(verb_backend):
    """x and x beside each other: with w shared, dL/dw is twice what x / sqrt 2 gives; both stay equal."""
    X, Y, *_ = generic_data(n=30, d=3, c=2, seed=2)
    problem = agf.Dense(np.concatenate([X, X[:, :1]], axis=1), Y, activation="relu")
    state = problem.initialize(4, scale=1e-4, seed=0)
    theta = state.parameters()
    theta[:, 3] = theta[:, 0]
    path = run(problem, theta, verb_backend, max_jumps=2)
    end = path.state.parameters()
    np.testing.assert_allclose(end[:, 0], end[:, 3], rtol=0, atol=1e-9 * np.abs(end).max())
    # Columns of zeros carry nothing and stand still.
    problem = agf.Dense(np.concatenate([X, np.zeros((30, 1))], axis=1), Y, activation="relu")
    theta = problem.initialize(4, scale=0.3, seed=0).parameters()
    flow = agf.gradient_flow(problem, theta, 2.0, backend=verb_backend)
    np.testing.assert_allclose(flow.state.parameters()[:, 3], theta[:, 3], rtol=1e-7)


def test_start_at_norm_one_and_above(verb_backend):
    """Such neurons are active from the start, at their own norm; only dormant ones jump. Downward crossings are
    none."""
    X, Y, *_ = generic_data(n=30, d=3, c=2, seed=2)
    problem = agf.Dense(X, Y, activation="relu")
    state = problem.initialize(4, scale=1e-3, seed=0)
    log_norm = np.array(state.log_norm)
    log_norm[[1, 3]] = [0.0, 0.7]
    path = run(
        problem,
        agf.State(state.direction, log_norm),
        verb_backend,
        max_jumps=1,
        active_time=5.0,
    )
    assert path.jumps and path.jumps[0].neuron in (0, 2)
    # The plateau is that of the active pair's equilibrium, not L(0).
    assert path.jumps[0].loss_before < problem.loss(np.zeros((1, 5)))


def test_dormant_by_choice_above_norm_one(verb_backend):
    """active=False at norm above 1: dormant, and not activated by being there (upward crossings of norm 1 only)."""
    problem = agf.Dense(np.ones((1, 1)), np.ones((1, 1)), activation="relu")
    good = np.sqrt([0.5, 0.5])
    state = agf.State(np.stack([good, good]), [0.5, -3.0], active=[False, False])
    path = run(problem, state, verb_backend, max_jumps=1)
    assert len(path.jumps) <= 1
    assert path.status in ("max_jumps", "loss_tol", "inert")


def test_mixed_scales(verb_backend):
    """Neurons at 1e-2, 1e-100 and 10^-10000 in one network: the large one goes first, the others keep their clocks."""
    X, Y, *_ = generic_data(n=30, d=3, c=2, seed=2)
    problem = agf.Dense(X, Y, activation="identity")
    state = problem.initialize(3, scale=1.0, seed=0)
    mixed = agf.State(state.direction, np.array([-23025.85, -230.0, -4.6]))
    path = run(problem, mixed, verb_backend, active_time=None)
    assert path.jumps[0].neuron == 2
    assert all(np.diff(path.time) >= 0)


def test_large_and_small_units(verb_backend):
    """Units are the user's: X in 1e3 and Y in 1e-3 give the staircase of X, Y = 1 in rescaled time.

    For the identity f = a w x: with x -> s x, y -> y/s the cross moment E[y x^T] is the same, so plateaus are.
    """
    X, Y = linear_data((1.0, 0.5))
    plain = agf.Dense(X, Y, activation="identity")
    scaled = agf.Dense(1e3 * X, 1e-3 * Y, activation="identity")
    start = plain.initialize(3, scale=1e-8, seed=0)
    times = [run(problem, start, verb_backend, max_jumps=1).jumps[0].time for problem in (plain, scaled)]
    np.testing.assert_allclose(times[1], times[0], rtol=1e-7)
