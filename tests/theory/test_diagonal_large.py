"""The path's linear algebra beyond small well-conditioned problems: a Gram matrix, dependent inputs, threads."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import lstsq
from scipy.optimize import nnls

import agf_fast as agf
from support.diagonal import limit, random_data


def _gaussian(rng):
    return rng.standard_normal((60, 150))


def _repeated(rng):
    X = rng.standard_normal((60, 90))
    return np.column_stack([X, X[:, :20], -X[:, 10:30]])


def _dependent(rng):
    X = rng.standard_normal((60, 90))
    return np.column_stack([X, X[:, :20] + X[:, 20:40]])


def _low_rank(rng):
    return rng.standard_normal((60, 25)) @ rng.standard_normal((25, 120))


def _scaled(rng):
    return rng.standard_normal((60, 120)) * 10.0 ** rng.uniform(-3.0, 3.0, 120)


@pytest.mark.parametrize("design", [_gaussian, _repeated, _dependent, _low_rank, _scaled])
def test_plateaus_are_non_negative_least_squares(design):
    """Jump by jump against SciPy's nnls on the active inputs with their signs: who arrives, when, and at what level."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = design(rng)
        n, d = X.shape
        y = X @ (rng.standard_normal(d) * (rng.uniform(size=d) < 0.3)) + rng.standard_normal(n)
        path = limit(X, y)
        assert path.status is agf.Status.LOSS_TOL or design is _low_rank
        travelled, side, time = np.zeros(d), np.zeros(d), 0.0
        beta = np.zeros(d)
        zero = 0.5 * np.mean(y**2)
        for jump in path.jumps:
            g = X.T @ (y - X @ beta) / n
            wait = np.full(d, np.inf)
            dormant = (side == 0) & (np.abs(g) > 1e-10 * np.abs(X.T @ y / n).max())
            wait[dormant] = np.maximum((np.sign(g[dormant]) - travelled[dormant]) / g[dormant], 0.0)
            soonest = wait.min()
            # Rounding of the reference's own g, in double, against a way of 1.
            arrived = np.flatnonzero(wait - soonest <= 1e-9 / np.maximum(np.abs(g), 1e-300))
            assert set(jump.activated) <= set(arrived), (seed, jump)
            time += soonest
            np.testing.assert_allclose(jump.time, time, rtol=1e-7)
            travelled[side == 0] += g[side == 0] * soonest
            side[list(jump.activated)] = np.sign(g[list(jump.activated)])
            active = np.flatnonzero(side)
            value, _ = nnls(X[:, active] * side[active], y, maxiter=100 * n)
            beta = np.zeros(d)
            beta[active] = value * side[active]
            np.testing.assert_allclose(jump.loss_after, 0.5 * np.mean((y - X @ beta) ** 2), atol=1e-12 * zero)
            returned = list(jump.returned)
            assert np.all(beta[returned] == 0.0)
            travelled[returned] = side[returned]
            side[returned] = 0.0


@pytest.mark.parametrize("apart", [1e-3, 1e-5, 1e-7, 1e-9])
def test_nearly_equal_inputs(apart):
    """Columns that differ by so little of their length that X^T X does not tell them apart, from about 1e-6 on: each
    plateau is the least-squares solution on its own support, by SciPy's orthogonal factors."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((20, 8))
        X = np.column_stack([X, X[:, :3] + apart * rng.standard_normal((20, 3))])
        y = X @ rng.standard_normal(11) + rng.standard_normal(20)
        path = limit(X, y)
        assert len(path.jumps) >= 8
        for jump in path.jumps:
            theta = np.exp(jump.state.log_norm)[:, None] * jump.state.direction
            active = np.flatnonzero(np.asarray(jump.state.active) & (theta.prod(axis=1) != 0.0))
            beta = lstsq(X[:, active], y, lapack_driver="gelsy", cond=1e-15)[0]
            level = 0.5 * np.mean((y - X[:, active] @ beta) ** 2)
            # Rounding of X beta, beta being of the order of 1 / apart.
            np.testing.assert_allclose(jump.loss_after, level, atol=1e-15 / apart * path.loss[0] + 1e-12)


def test_same_bits_for_any_number_of_threads(threads):
    """Past the jumps at which X^T X is made, with passes long enough to be shared out."""
    rng = np.random.default_rng(0)
    problem = agf.Diagonal(rng.standard_normal((600, 1100)), rng.standard_normal(600))
    paths = []
    for count in (1, 2, 3):
        threads(count)
        paths.append(agf.alternating_gradient_flow(problem, limit=True, max_jumps=200))
    for path in paths[1:]:
        assert path.time.tobytes() == paths[0].time.tobytes() and path.loss.tobytes() == paths[0].loss.tobytes()
        assert path.jumps == paths[0].jumps


def test_descent_of_many_steps_is_that_of_single_ones():
    """The engine's steps in one call against NumPy's, in both dtypes, with momentum and at depth 3."""
    for depth, momentum, dtype in ((2, 0.0, "float64"), (3, 0.5, "float64"), (2, 0.9, "float32")):
        X, y = (array.astype(dtype) for array in random_data(4))
        problem = agf.Diagonal(X, y, depth)
        rng = np.random.default_rng(0)
        theta = (0.3 * rng.standard_normal((X.shape[1], depth))).astype(dtype)
        lr = 1e-3
        run = agf.gradient_descent(problem, theta, lr, 57, momentum=momentum, save_every=10)
        velocity = np.zeros_like(theta)
        for _ in range(57):
            velocity = momentum * velocity + problem.utility_gradient(theta)
            theta = theta + lr * velocity
        assert run.stats["steps"] == run.stats["evaluations"] == 57 and len(run.time) == 7
        # Sums in another order, over 57 steps.
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(run.state.parameters(), theta, atol=1e3 * eps * np.abs(theta).max())


def test_descent_that_diverges_keeps_the_last_finite_network():
    X, y = random_data(2)
    problem = agf.Diagonal(X, y)
    run = agf.gradient_descent(problem, problem.initialize(0.5).parameters(), 1e3, 1000)
    assert run.status is agf.Status.NON_FINITE and np.isfinite(run.state.parameters()).all()
    assert 0 <= run.stats["evaluations"] - run.stats["steps"] <= 1 and run.stats["steps"] < 1000
