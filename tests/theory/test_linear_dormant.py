"""Dormant neurons under an activation that is linear at 0: later directions may lie far below the range of a double."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import agf_fast as agf
from support.plateau import LinearNeuron
from support.problems import linear_data

SINGULAR = (1.0, 0.5, 0.25)


def commuting(activation="identity", singular=SINGULAR):
    return agf.Dense(*linear_data(np.array(singular)), activation=activation)


def run(problem, start, **options):
    return agf.alternating_gradient_flow(problem, start, backend="cpp", **options)


def times(path):
    return np.array([jump.time for jump in path.jumps])


@pytest.mark.parametrize("log_scale", [*np.log([1e-100, 1e-300]), -1000 * np.log(10), -23025.85])
def test_jumps_at_one_two_four(log_scale):
    problem = commuting()
    path = run(problem, problem.initialize(3, log_scale=log_scale, seed=5))
    np.testing.assert_allclose(times(path) / -log_scale, [1, 2, 4], rtol=0.02)
    assert "direction_unresolved" not in path.notes


@pytest.mark.parametrize("scales", [(1e-16, 1e-32), (1e-32, 1e-50), (1e-50, 1e-300)])
def test_rates_between_scales(scales):
    """What random starts add to (1, 2, 4) ln(1/scale) is O(1) and cancels in the difference."""
    problem = commuting()
    first, second = (times(run(problem, problem.initialize(3, scale=scale, seed=5))) for scale in scales)
    np.testing.assert_allclose((second - first) / np.log(scales[0] / scales[1]), [1, 2, 4], rtol=2e-3)


def test_close_singular_values_stay_apart():
    log_scale = -23025.85
    problem = commuting(singular=(1.0, 0.5, 0.499, 0.25, 0.249))
    path = run(problem, problem.initialize(6, log_scale=log_scale, seed=5))
    np.testing.assert_allclose(times(path) / -log_scale, 1 / np.array([1, 0.5, 0.499, 0.25, 0.249]), rtol=1e-3)


@pytest.mark.parametrize("singular, expected", [((1.0, 0.5, 0.5, 0.25), (1, 2, 2, 4)), ((1.0, 1.0, 0.25), (1, 1, 4))])
def test_equal_singular_values(singular, expected):
    log_scale = -23025.85
    problem = commuting(singular=singular)
    path = run(problem, problem.initialize(5, log_scale=log_scale, seed=1))
    np.testing.assert_allclose(times(path) / -log_scale, expected, rtol=1e-2)


@pytest.mark.parametrize("activation", ["identity", "tanh", "gelu", "elu", "silu", "erf"])
@pytest.mark.parametrize("scale", [1e-3, 1e-7, 1e-12])
def test_two_plateaus_of_general_data(activation, scale):
    """E[x x^T] is not 1, so that the second matrix does not commute with the first: each plateau is the exponential of
    its own matrix, which within the range of a double can be followed from the states in between."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, 4))
    Y = X @ rng.standard_normal((4, 3)) + 0.3 * rng.standard_normal((40, 3))
    problem = agf.Dense(X, Y, activation=activation)
    start = problem.initialize(5, scale=scale, seed=1)
    path = run(problem, start, max_jumps=2, active_time=50.0)
    slope = {"gelu": 0.5, "silu": 0.5, "erf": 2 / np.sqrt(np.pi)}.get(activation, 1.0)
    before, now = start, 0.0
    for jump in path.jumps:
        residual = Y - (problem.predict(before.parameters()[before.active], X) if before.active.any() else 0.0)
        M = slope * residual.T @ X / len(X)
        horizon = -10 * np.log(scale) / np.linalg.norm(M, 2)
        waits = {
            i: LinearNeuron(before.direction[i, :4], before.direction[i, 4:], before.log_norm[i]).crossing(M, horizon)
            for i in np.flatnonzero(~before.active)
        }
        winner = min(waits, key=waits.get)
        assert jump.neuron == winner
        np.testing.assert_allclose(jump.time - now, waits[winner], rtol=1e-7)
        before, now = jump.state, jump.time


@pytest.mark.parametrize("how", ["state", "pickle", "file"])
def test_a_continued_run_forgets_nothing(how, tmp_path):
    problem = commuting()
    start = problem.initialize(4, scale=1e-100, seed=5)
    whole = run(problem, start)
    part = run(problem, start, max_jumps=1)
    state = part.state
    if how == "pickle":
        state = pickle.loads(pickle.dumps(state))
    if how == "file":
        part.save(tmp_path / "part.npz")
        state = agf.load(tmp_path / "part.npz").state
    assert state == part.state
    rest = run(problem, state)
    np.testing.assert_allclose(times(rest), times(whole)[1:], rtol=1e-12)


def test_an_edited_direction_is_believed():
    """Components that no longer belong to their direction are dropped, for that neuron alone."""
    problem = commuting()
    state = run(problem, problem.initialize(4, scale=1e-100, seed=5), max_jumps=1).state
    rng = np.random.default_rng(0)
    direction = np.where(state.active[:, None], state.direction, rng.standard_normal(state.direction.shape))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    plain = {name: state.extra[name] for name in ("phase_elapsed", "scaled_time")}
    edited, bare = (
        agf.State(direction, state.log_norm, state.active, state.time, state.log_eta, extra)
        for extra in (state.extra, plain)
    )
    np.testing.assert_allclose(times(run(problem, edited)), times(run(problem, bare)), rtol=1e-7)


@pytest.mark.parametrize("name", ["frame", "component_log", "component_sign"])
def test_components_of_the_wrong_shape(name):
    problem = commuting()
    state = run(problem, problem.initialize(4, scale=1e-8, seed=5), max_jumps=1).state
    state.extra[name] = np.asarray(state.extra[name])[:-1]
    with pytest.raises(ValueError, match=name):
        run(problem, state)


def test_noise_is_not_learned():
    """With targets that no linear map reaches, the residual left at equilibrium drives nothing."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 5))
    Y = X @ rng.standard_normal((5, 3)) + 0.3 * rng.standard_normal((40, 3))
    problem = agf.Dense(X, Y, activation="identity")
    path = run(problem, problem.initialize(6, scale=1e-7, seed=1))
    assert len(path.jumps) == 3 and path.status == "inert"


@pytest.mark.parametrize("scale, expected", [(1e-4, False), (1e-100, True)])
def test_forgotten_directions_are_reported(scale, expected):
    """ReLU is the identity where w.x > 0, but directions are plain doubles: on a long plateau they forget all but the
    first singular vector, which is a resting point of the next."""
    rng = np.random.default_rng(3)
    X = np.abs(rng.standard_normal((30, 3))) + 0.2
    values, vectors = np.linalg.eigh(X.T @ X / len(X))
    # E[y x^T] commutes with E[x x^T] and has the singular values 1, 1/2, 1/4, the first where all samples are positive.
    Y = X @ (vectors / values * [0.25, 0.5, 1.0]) @ vectors.T
    problem = agf.Dense(X, Y, activation="relu")
    direction = np.abs(rng.standard_normal((3, 6)))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    path = run(problem, agf.State(direction, np.full(3, np.log(scale))), max_jumps=2)
    assert ("direction_unresolved" in path.notes) == expected
