"""The exact path of diagonal networks: known answers, an independent algorithm, optimality, scales and depths."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.diagonal import five_dimensional, limit, order, random_data, two_dimensional

PROBLEMS = 200


def test_two_dimensional_path(verb_backend):
    """A coordinate activates, returns at the second jump and comes back with the other sign."""
    path = limit(*two_dimensional(), backend=verb_backend)
    assert order(path) == [0, 1, 0]
    assert [jump.returned for jump in path.jumps] == [(), (0,), ()]
    np.testing.assert_allclose(path.time[1:], [0.193042, 0.600220, 3.457363], atol=5e-7)
    np.testing.assert_allclose(path.loss, [2.311099, 1.114650, 0.070000, 0.0], atol=5e-7)
    assert path.status is agf.Status.LOSS_TOL


def test_five_dimensional_path(verb_backend):
    path = limit(*five_dimensional(), backend=verb_backend)
    assert order(path) == [1, 2, 3, 0, 4]
    np.testing.assert_allclose(path.time[1:], [0.120120, 0.600696, 0.981709, 1.112283, 4.219254], atol=5e-7)


def test_random_paths_equal_an_independent_algorithm():
    """Givens-updated Lawson-Hanson in double against block principal pivoting in extended precision: order and returns
    exact, times to 1e-9, levels to 1e-12 L(0)."""
    returns = 0
    for seed in range(PROBLEMS):
        X, y = random_data(seed)
        path, oracle = limit(X, y), limit(X, y, backend="numpy")
        # In general position; no seed of these misses it.
        assert min(jump.gap for jump in oracle.jumps) >= 1e-6, seed
        assert [jump.activated for jump in path.jumps] == [jump.activated for jump in oracle.jumps], seed
        assert [jump.returned for jump in path.jumps] == [jump.returned for jump in oracle.jumps], seed
        np.testing.assert_allclose(path.time, oracle.time, rtol=1e-9, err_msg=str(seed))
        np.testing.assert_allclose(path.loss, oracle.loss, atol=1e-12 * oracle.loss[0], err_msg=str(seed))
        np.testing.assert_allclose(
            [jump.gap for jump in path.jumps], [jump.gap for jump in oracle.jumps], atol=1e-7, err_msg=str(seed)
        )
        returns += any(jump.returned for jump in path.jumps)
    assert returns >= PROBLEMS // 4


def test_every_plateau_is_optimal():
    """The conditions themselves: beta has the sign of its end, E[x r] vanishes where beta does not, and no active
    coordinate at zero would grow."""
    for seed in range(0, PROBLEMS, 10):
        X, y = random_data(seed)
        # Rounding of E[x r] as it is computed here, from beta.
        beta_scale = 0.0
        for jump in limit(X, y).jumps:
            theta = np.exp(jump.state.log_norm)[:, None] * jump.state.direction
            active, dual = np.asarray(jump.state.active), jump.state.extra["dual"]
            beta = np.where(active, theta.prod(axis=1), 0.0)
            beta_scale = max(beta_scale, np.abs(X * beta).sum(axis=1).max(), np.abs(y).max())
            noise = 1e-13 * beta_scale * np.abs(X).max()
            gradient = X.T @ (y - X @ beta) / len(y)
            assert (np.abs(dual) <= 1 + 1e-12).all() and (np.abs(dual[active]) == 1).all()
            assert (beta * dual >= 0).all()
            assert np.abs(gradient[beta != 0]).max(initial=0.0) <= noise, seed
            assert (gradient * dual)[active].max(initial=0.0) <= noise, seed


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_finite_scales_approach_the_limit(depth):
    """The error is first order in 1/ln(1/alpha) at depth 2: its product with ln(1/alpha) stands still. Beyond, the ends
    differ from the limit's by alpha^(depth - 2) and logarithms: at 1e-1000 nothing is left."""
    for seed in range(20 if depth == 2 else 4):
        X, y = random_data(seed)
        problem = agf.Diagonal(X, y, depth)
        exact = limit(X, y, depth)
        errors = []
        for digits in (1000, 10000):
            path = agf.alternating_gradient_flow(problem, problem.initialize(log_scale=-digits * np.log(10.0)))
            assert order(path) == order(exact)
            np.testing.assert_allclose(path.loss, exact.loss, atol=1e-12 * exact.loss[0])
            errors.append((path.scaled_time[1:] / exact.time[1:] - 1.0) * digits * np.log(10.0))
            if depth > 2:
                np.testing.assert_allclose(path.scaled_time, exact.time, rtol=1e-9)
        if depth == 2:
            # eta = ln(1/alpha) - ln(2)/2, the end asinh-like: T = ln(1/alpha) exactly to alpha^4.
            np.testing.assert_allclose(errors[0], errors[1], rtol=0.05)
            np.testing.assert_allclose(errors[1], 0.5 * np.log(2.0), rtol=1e-3)


def test_depth_two_closed_form():
    """One input, g = 1: from sqrt(2) alpha (1, 0) the norm is 1 at t = acosh(1/(2 alpha^2)) / 2."""
    for alpha in (0.5, 0.1, 1e-8):
        problem = agf.Diagonal(np.ones((1, 1)), np.ones(1))
        jump = agf.alternating_gradient_flow(problem, problem.initialize(alpha)).jumps[0]
        np.testing.assert_allclose(jump.time, 0.5 * np.arccosh(0.5 / alpha**2), rtol=1e-13)


def test_deep_closed_form():
    """Depth 3, g = 1: with v = sqrt(2) alpha sinh x the time is (gd(x) - gd(0)) / (sqrt(2) alpha), gd the Gudermannian
    2 atan(tanh(x/2)), and the norm is 1 at 3 v^2 = 1 - 4 alpha^2."""
    alpha = 0.01
    problem = agf.Diagonal(np.ones((1, 1)), np.ones(1), depth=3)
    jump = agf.alternating_gradient_flow(problem, problem.initialize(alpha)).jumps[0]
    x = np.arcsinh(np.sqrt((1 - 4 * alpha**2) / 3) / (np.sqrt(2) * alpha))
    np.testing.assert_allclose(jump.time, 2 * np.arctan(np.tanh(0.5 * x)) / (np.sqrt(2) * alpha), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_general_starts_equal_the_reference(depth):
    """Layers of any size and sign, balanced ones (beta never changes sign) and active ones among them."""
    rng = np.random.default_rng(3)
    for trial in range(10):
        X = rng.standard_normal((12, 6))
        y = X @ rng.standard_normal(6)
        theta = rng.standard_normal((6, depth)) * 10.0 ** rng.uniform(-6, -1, (6, 1))
        theta[0, -1] = -theta[0, 0]
        theta[0, :-1] = theta[0, 0]
        theta[1] *= 0.9 / np.linalg.norm(theta[1])
        if trial % 2:
            # Active from the start, and near its balance: sum of u_l^2 - v^2 is below 1.
            theta[2] = 1.5 * np.sqrt(1 / depth) * np.append(np.ones(depth - 1), rng.choice([-1.1, 1.1]))
        problem = agf.Diagonal(X, y, depth)
        path = agf.alternating_gradient_flow(problem, theta)
        oracle = agf.alternating_gradient_flow(problem, theta, backend="numpy")
        assert [jump.activated for jump in path.jumps] == [jump.activated for jump in oracle.jumps], trial
        np.testing.assert_allclose(path.time, oracle.time, rtol=1e-9)
        np.testing.assert_allclose(path.loss, oracle.loss, atol=1e-12 * oracle.loss[0])
        for jump, other in zip(path.jumps, oracle.jumps, strict=True):
            np.testing.assert_allclose(jump.direction, other.direction, atol=1e-12)
            np.testing.assert_allclose([jump.utility, jump.alignment], [other.utility, other.alignment], rtol=1e-9)
            np.testing.assert_allclose(jump.state.log_norm, other.state.log_norm, atol=1e-8)
            np.testing.assert_allclose(jump.state.direction, other.state.direction, atol=1e-8)


@pytest.mark.parametrize("depth", [2, 3])
def test_balanced_layers_keep_the_sign_of_beta(depth, verb_backend):
    """From u_1 = .. = +-1e-5 all through, y = (1, 1): the first input grows, at depth 2 to norm 1 at
    t = ln(1/(sqrt(2) 1e-5)), the second, whose beta is negative, never."""
    theta = np.full((2, depth), 1e-5)
    theta[1, -1] = -1e-5
    problem = agf.Diagonal(np.sqrt(2.0) * np.eye(2), np.array([np.sqrt(2.0), np.sqrt(2.0)]), depth)
    path = agf.alternating_gradient_flow(problem, theta, backend=verb_backend)
    assert order(path) == [0] and path.status is agf.Status.INERT
    far = 1.0 / (np.sqrt(depth) * 1e-5)
    expected = np.log(far) if depth == 2 else (far - 1.0) * np.sqrt(depth)
    np.testing.assert_allclose(path.time[1], expected, rtol=1e-12)
    truth = agf.gradient_flow(problem, theta, 3 * expected)
    np.testing.assert_allclose(problem.coefficients(truth.state), [1.0, 0.0], atol=1e-9)
    assert problem.coefficients(truth.state)[1] < 0


@pytest.mark.parametrize("depth", [2, 3])
def test_continued_run_goes_on_as_if_it_had_not_stopped(depth, verb_backend, tmp_path):
    X, y = five_dimensional()
    problem = agf.Diagonal(X, y, depth)
    # Physical time at depth 3 is of the order of 1/alpha.
    start = problem.initialize(log_scale=-3000.0 if depth == 2 else -8.0)
    whole = agf.alternating_gradient_flow(problem, start, backend=verb_backend)
    parts, state = [], start
    while len(parts) < len(whole.jumps):
        part = agf.alternating_gradient_flow(problem, state, max_jumps=1, backend=verb_backend)
        part.save(tmp_path / "part.npz")
        state = agf.load(tmp_path / "part.npz").state
        parts.extend(part.jumps)
    assert [jump.neuron for jump in parts] == order(whole)
    np.testing.assert_allclose([jump.time for jump in parts], whole.time[1:], rtol=1e-8)
    np.testing.assert_allclose([jump.loss_after for jump in parts], whole.loss[1:], atol=1e-12 * whole.loss[0])


def test_equal_columns_share_and_opposite_ones_mirror():
    X, y = random_data(8)
    alone = limit(X, y)
    X = np.column_stack([X, X[:, 0], -X[:, 0]])
    path = limit(X, y)
    assert [set(jump.activated) - {X.shape[1] - 2, X.shape[1] - 1} for jump in path.jumps] == [
        set(jump.activated) for jump in alone.jumps
    ]
    np.testing.assert_allclose(path.time, alone.time, rtol=1e-9)
    np.testing.assert_allclose(path.loss, alone.loss, atol=1e-12 * alone.loss[0])
    beta = agf.Diagonal(X, y).coefficients(path.state)
    assert beta[0] != 0
    np.testing.assert_allclose([beta[-2], -beta[-1]], beta[0], rtol=1e-12)


def test_theory_is_the_limit_and_compares_with_runs():
    X, y = two_dimensional()
    problem = agf.Diagonal(X, y)
    theory = problem.theory()
    assert theory.time_kind == "limit" and order(theory) == [0, 1, 0]
    np.testing.assert_allclose(theory.features[-1], [-0.2, 2.0], rtol=1e-9)
    np.testing.assert_allclose(theory.levels, limit(X, y).loss, atol=1e-15)
    path = agf.alternating_gradient_flow(problem, problem.initialize(log_scale=-2302.585))
    assert len(agf.compare(path, theory).matches) == 3
