"""State, initialize, and plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data


@pytest.fixture
def problem():
    X, Y, *_ = generic_data()
    return agf.Dense(X, Y, activation="relu")


def test_initialize_has_the_promised_law(problem):
    """Entries N(0, scale^2/m): E|theta_i|^2 = scale^2, its spread over H neurons scale^2 sqrt(2/(m H))."""
    H, scale, m = 20_000, 1e-3, problem.n_params
    state = problem.initialize(H, scale=scale, seed=1)
    square = np.exp(2 * state.log_norm)
    assert abs(square.mean() / scale**2 - 1) < 5 * np.sqrt(2 / (m * H))
    np.testing.assert_allclose(np.linalg.norm(state.direction, axis=1), 1, rtol=4e-16 * m)
    # Directions are uniform: every entry has mean 0 and mean square 1/m.
    assert np.abs(state.direction.mean(axis=0)).max() < 5 / np.sqrt(m * H)
    assert np.abs(m * (state.direction**2).mean(axis=0) - 1).max() < 5 * np.sqrt(2 / H)
    assert not state.active.any()
    assert state.time == 0.0


def test_initialize_is_reproducible_and_scale_only_moves_log_norm(problem):
    one, two, other = (problem.initialize(5, scale=1e-8, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.direction, two.direction)
    np.testing.assert_array_equal(one.log_norm, two.log_norm)
    assert not np.array_equal(one.direction, other.direction)
    far = problem.initialize(5, log_scale=-23025.85, seed=3)
    np.testing.assert_array_equal(far.direction, one.direction)
    # lambda = log scale + log|N|: the subtraction costs eps * |log scale|.
    np.testing.assert_allclose(far.log_norm + 23025.85, one.log_norm - np.log(1e-8), atol=23026 * 4e-16)


def test_array_is_a_state(problem):
    theta = 1e-3 * np.random.default_rng(0).standard_normal((4, problem.n_params))
    from_array = agf.alternating_gradient_flow(problem, theta, max_jumps=1)
    norm = np.linalg.norm(theta, axis=1)
    state = agf.State(theta / norm[:, None], np.log(norm))
    from_state = agf.alternating_gradient_flow(problem, state, max_jumps=1)
    assert from_array.jumps[0].neuron == from_state.jumps[0].neuron
    np.testing.assert_allclose(from_array.jumps[0].time, from_state.jumps[0].time, rtol=1e-8)


def test_active_defaults_to_norm_at_least_one(problem):
    direction = np.eye(3, problem.n_params)
    state = agf.State(direction, np.array([-1.0, 0.0, 0.5]))
    np.testing.assert_array_equal(state.active, [False, True, True])
    state = agf.State(direction, np.array([-1.0, 0.0, 0.5]), active=np.array([True, False, True]))
    np.testing.assert_array_equal(state.active, [True, False, True])


def test_split_names_the_blocks_as_views(problem):
    theta = np.arange(2.0 * problem.n_params).reshape(2, -1)
    blocks = problem.split(theta)
    assert set(blocks) == {"w", "a"}
    assert blocks["w"].shape == (2, 5) and blocks["a"].shape == (2, 3)
    assert blocks["w"].base is not None and np.shares_memory(blocks["w"], theta)
    np.testing.assert_array_equal(np.concatenate([blocks["w"], blocks["a"]], axis=1), theta)


def test_public_leaves_keep_the_dtype():
    for dtype in (np.float32, np.float64):
        X, Y, theta, residual, v = generic_data(dtype=dtype)
        problem = agf.Dense(X, Y, activation="tanh")
        for array in (
            problem.residual(theta),
            problem.utility(theta),
            problem.utility(theta, residual),
            problem.utility_gradient(theta),
            problem.utility_gradient(theta, residual),
            problem.hessian_vector(theta, v),
        ):
            assert isinstance(array, np.ndarray) and array.dtype == dtype
        assert isinstance(problem.loss(theta), float)
        np.testing.assert_array_equal(problem.utility(theta), problem.utility(theta, problem.residual(theta)))


def test_one_column_targets_may_be_flat():
    X, Y, theta, *_ = generic_data(c=1)
    flat, column = (agf.Dense(X, y, activation="relu") for y in (Y[:, 0].copy(), Y))
    assert flat.loss(theta) == column.loss(theta)


def test_caller_keeps_his_arrays():
    """Neither the data nor the start are changed, and later changes of the data are not seen by the problem."""
    X, Y, theta, *_ = generic_data()
    kept = X.copy(), Y.copy(), theta.copy()
    problem = agf.Dense(X, Y, activation="relu")
    agf.gradient_flow(problem, theta, 0.1)
    agf.alternating_gradient_flow(problem, 1e-3 * theta, max_jumps=1)
    for array, before in zip((X, Y, theta), kept, strict=True):
        np.testing.assert_array_equal(array, before)
    loss = problem.loss(theta)
    X[:] = 0
    assert problem.loss(theta) == loss


def test_any_memory_layout_is_accepted_for_data():
    X, Y, theta, *_ = generic_data()
    problem = agf.Dense(X, Y, activation="relu")
    strided = agf.Dense(np.asfortranarray(X), np.repeat(Y, 2, axis=1)[:, ::2], activation="relu")
    assert strided.loss(np.asfortranarray(theta)) == problem.loss(theta)
    X.setflags(write=False)
    theta.setflags(write=False)
    assert agf.Dense(X, Y, activation="relu").loss(theta) == problem.loss(theta)
