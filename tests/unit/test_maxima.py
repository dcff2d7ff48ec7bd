"""utility_maxima against closed forms, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data, linear_data, modular_template


def test_linear_neurons_have_one_maximum():
    """U = <a, M w>: half the largest singular value, at (v, u)/sqrt(2); the other singular pairs are saddles."""
    X, Y = linear_data([1.0, 0.9, 0.5])
    problem = agf.Dense(X, Y, activation="identity")
    found = agf.utility_maxima(problem, starts=60)
    assert len(found) == 1 and found.share[0] == 1.0
    np.testing.assert_allclose(found.utility, 0.5, rtol=1e-6)  # the square of the angle that tol leaves, 2e-5 / 0.1
    u, _, vt = np.linalg.svd(Y.T @ X / len(X))
    expected = np.concatenate([vt[0], u[:, 0]]) / np.sqrt(2)
    assert abs(expected @ found.direction[0]) >= 1 - 1e-6


def test_modular_addition_has_one_maximum_per_frequency():
    """Theorem 5.1: sqrt(2p/27) |x_k|^3 / p^2 for k < p/2, whatever the phases."""
    moduli = {1: 4.0, 2: 3.8, 4: 3.6}
    problem = agf.ModularAddition(modular_template(10, moduli, {2: 0.7}))
    found = agf.utility_maxima(problem, starts=200)
    np.testing.assert_allclose(found.utility, [np.sqrt(20 / 27) * m**3 / 100 for m in moduli.values()], rtol=1e-6)
    assert found.share.sum() == pytest.approx(1.0) and (np.diff(found.share) < 0).all()


def test_attention_has_one_maximum():
    """N lambda_1^2 / (3 sqrt 3)."""
    problem = agf.Attention(np.diag([1.0, 0.7, 0.3]), context=16)
    found = agf.utility_maxima(problem, starts=50)
    assert len(found) == 1
    np.testing.assert_allclose(found.utility, 16 / (3 * np.sqrt(3)), rtol=1e-6)


@pytest.mark.parametrize("activation", ["square", "tanh", "relu"])
def test_maxima_are_maxima(activation):
    """No higher utility nearby, gradients along the directions (off kinks), and U at the leading term."""
    X, Y, *_ = generic_data(n=40)
    problem = agf.Dense(X, Y, activation=activation)
    found = agf.utility_maxima(problem, starts=100, seed=3)
    rng = np.random.default_rng(0)
    assert len(found) >= 1 and (np.diff(found.utility) < 0).all()
    np.testing.assert_allclose(found.share, [np.mean(found.reached == k) for k in range(len(found))])
    for utility, direction in zip(found.utility, found.direction, strict=True):
        near = direction + 1e-2 * rng.standard_normal((200, direction.size))
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        scale = 1e-4  # small enough for the leading term of tanh, whose next one is scale^2 below
        values = problem.utility(scale * near, residual=Y) / scale**problem.kappa
        assert values.max() <= utility * (1 + 1e-4)
        if activation == "relu":
            continue
        gradient = problem.utility_gradient(scale * direction[None], residual=Y)[0]
        assert gradient @ direction >= (1 - 1e-8) * np.linalg.norm(gradient)


def test_a_neuron_that_races_alone_ends_at_the_maximum_its_start_reaches():
    """The engine's dormant phase and this one agree on basins, where the jump is well after alignment."""
    X, Y, *_ = generic_data(n=40)
    problem = agf.Dense(X, Y, activation="square")
    start = problem.initialize(12, seed=1, log_scale=-200.0)
    found = agf.utility_maxima(problem, starts=start)
    for k in range(12):
        alone = agf.State(start.direction[k : k + 1], start.log_norm[k : k + 1])
        path = agf.alternating_gradient_flow(problem, alone, max_jumps=1, adaptive_rate=True, active_time=1e-9)
        np.testing.assert_allclose(path.jumps[0].utility, found.utility[found.reached[k]], rtol=1e-4)


def test_residual_seed_and_dtype():
    X, Y, _, residual, _ = generic_data()
    problem = agf.Dense(X, Y, activation="square")
    one, two = (agf.utility_maxima(problem, residual, starts=30, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.ends, two.ends)
    assert one.utility[0] != pytest.approx(agf.utility_maxima(problem, starts=30).utility[0], rel=1e-3)
    single = agf.Dense(X.astype(np.float32), Y.astype(np.float32), activation="square")
    found = agf.utility_maxima(single, residual.astype(np.float32), starts=30, seed=5)
    assert found.direction.dtype == np.float32
    np.testing.assert_allclose(found.utility[0], one.utility[0], rtol=1e-4)


def test_nothing_to_find():
    found = agf.utility_maxima(agf.Dense(np.eye(3), np.zeros((3, 2))), starts=5)
    assert len(found) == 0 and (found.reached == -1).all() and "0 local maxima" in repr(found)


def test_refusals():
    problem = agf.Dense(np.eye(3), np.eye(3))
    for arguments, error, told in (
        ({"problem": np.eye(3)}, TypeError, "problem is ndarray"),
        ({"starts": 0}, ValueError, "starts"),
        ({"starts": np.ones((2, 4))}, ValueError, "state has shape"),
        ({"residual": np.ones((2, 3))}, ValueError, "residual has shape"),
        ({"tol": 0.0}, ValueError, "tol"),
        ({"same": 2.0}, ValueError, "same"),
        ({"max_steps": 1.5}, TypeError, "max_steps"),
        ({"seed": -1}, ValueError, "seed"),
    ):
        with pytest.raises(error, match=told):
            agf.utility_maxima(**{"problem": problem, **arguments})
