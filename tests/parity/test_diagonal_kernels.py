"""The leaves of diagonal networks: backends and dtypes against the reference in double, and against the algebra."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import reference
from support.scales import assert_within

# (n, d, depth): one of everything; odd sizes below a vector; several blocks of columns and pieces of samples.
SHAPES = [(1, 1, 2), (37, 5, 3), (1301, 3, 2), (9, 331, 4)]


def data(n, d, depth, dtype, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(n, d), (n, 1), (d, depth), (n, 1), (d, depth)]
    return [np.ascontiguousarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def build(backend, X, y, depth):
    return agf.Diagonal(X, y, depth)._kernel(backend)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_leaves_agree_with_the_reference(verb_backend, shape, dtype):
    """16 eps times the sum of absolute values of all elementary terms, against the reference in double."""
    X, y, theta, residual, v = data(*shape, dtype)
    n, d, depth = shape
    x, target, u, r, along = (array.astype(np.float64) for array in (X, y, theta, residual, v))
    oracle = reference.Diagonal(x, target, depth)
    absolute = reference.Diagonal(np.abs(x), -np.abs(target), depth)
    ours = build(verb_backend, X, y, depth)
    eps = np.finfo(dtype).eps

    got = ours.residual(theta)
    size = -absolute.residual(np.abs(u))
    assert got.dtype == dtype and got.shape == (n, 1)
    assert_within(got, oracle.residual(u), size, eps)
    assert_within(ours.loss(theta), oracle.loss(u), np.mean(size**2), eps)
    assert_within(ours.predict(theta, X), oracle.predict(u, x), absolute.predict(np.abs(u), np.abs(x)), eps)

    utility, gradient = ours.utility(theta, residual), ours.utility_gradient(theta, residual)
    assert utility.shape == (d,) and gradient.shape == (d, depth) and gradient.dtype == dtype
    assert_within(utility, oracle.utility(u, r), absolute.utility(np.abs(u), np.abs(r)), eps)
    assert_within(gradient, oracle.utility_gradient(u, r), absolute.utility_gradient(np.abs(u), np.abs(r)), eps)
    for one, same in zip(ours.utility_and_gradient(theta, residual), (utility, gradient), strict=True):
        np.testing.assert_array_equal(one, same)
    own = absolute.utility_gradient(np.abs(u), size)
    assert_within(ours.utility_gradient(theta), oracle.utility_gradient(u), own, eps)

    # The curvature term with |g|, the coupled one with |X|: both have the signs of sums of absolute values.
    slopes = absolute.utility_gradient(np.abs(u), np.ones((n, 1))) / np.maximum(np.abs(x).mean(axis=0), 1e-300)[:, None]
    coupled = (np.abs(x).T @ (np.abs(x) @ (slopes * np.abs(along)).sum(axis=1)) / n)[:, None] * slopes
    g = np.abs(x).T @ size / n
    curved = np.zeros_like(u)
    for layer in range(depth):
        for other in range(depth):
            if other != layer:
                rest = np.abs(np.delete(u, [layer, other], axis=1)).prod(axis=1)
                curved[:, layer] += g[:, 0] * rest * np.abs(along[:, other])
    assert_within(ours.hessian_vector(theta, v), oracle.hessian_vector(u, along), coupled + curved, eps)


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_and_hessian_are_derivatives(verb_backend, depth):
    """Central differences of the loss and of its gradient: h^2 of third derivatives of order 10 to 100."""
    X, y, theta, _, v = data(20, 6, depth, np.float64)
    problem = agf.Diagonal(X, y, depth)
    kernel = problem._kernel(verb_backend)
    h = 1e-5
    along = (kernel.loss(theta + h * v) - kernel.loss(theta - h * v)) / (2 * h)
    np.testing.assert_allclose(-(kernel.utility_gradient(theta) * v).sum(), along, rtol=1e-6)
    change = (kernel.utility_gradient(theta + h * v) - kernel.utility_gradient(theta - h * v)) / (2 * h)
    hv = kernel.hessian_vector(theta, v)
    np.testing.assert_allclose(-change, hv, atol=1e-6 * np.abs(hv).max())
    # Symmetric.
    w = np.random.default_rng(5).standard_normal(theta.shape)
    np.testing.assert_allclose((w * hv).sum(), (v * kernel.hessian_vector(theta, w)).sum(), rtol=1e-11)


@pytest.mark.parametrize("shape", [(30, 13), (12, 20)], ids=str)
@pytest.mark.parametrize("depth", [2, 3])
def test_runs_are_those_of_the_core(verb_backend, depth, shape):
    """Paths through the same neurons, equal and opposite columns among them, and the flow to ten times its rtol."""
    X, y, *_ = data(*shape, depth, np.float64)
    X[:, 5], X[:, 7] = X[:, 2], -X[:, 3]
    problem = agf.Diagonal(X, y, depth)
    start = problem.initialize(1e-3)
    rtol = 1e-6
    runs = [
        (1e-9, lambda backend: agf.alternating_gradient_flow(problem, limit=True, backend=backend)),
        (1e-9, lambda backend: agf.alternating_gradient_flow(problem, start, backend=backend)),
        (10 * rtol, lambda backend: agf.gradient_flow(problem, start, 3.0, clock="scaled", rtol=rtol, backend=backend)),
        (1e-9, lambda backend: agf.gradient_descent(problem, start, 1e-2, 50, backend=backend)),
    ]
    for bound, run in runs:
        got, expected = run(verb_backend), run("cpp")
        assert [jump.neuron for jump in got.jumps] == [jump.neuron for jump in expected.jumps]
        assert got.status == expected.status
        np.testing.assert_allclose(got.time[-1], expected.time[-1], rtol=bound)
        np.testing.assert_allclose(got.loss[-1], expected.loss[-1], rtol=bound, atol=1e-12 * expected.loss[0])


def test_leaves_equal_those_of_a_dense_network():
    """Depth 2 is the bilinear network u_i v_i x_i: the same loss as one linear neuron with weights beta."""
    X, y, theta, residual, _ = data(15, 4, 2, np.float64)
    beta = theta.prod(axis=1)
    linear = agf.Dense(X, y, activation="identity")
    problem = agf.Diagonal(X, y)
    row = np.append(beta, 1.0)[None]
    np.testing.assert_allclose(problem.loss(theta), linear.loss(row), rtol=1e-13)
    np.testing.assert_allclose(problem.utility(theta, residual).sum(), linear.utility(row, residual)[0], rtol=1e-12)
    np.testing.assert_allclose(problem.coefficients(theta), beta)


def test_same_bits_for_any_number_of_threads(threads):
    X, y, theta, _, v = data(600, 900, 2, np.float64)
    problem = agf.Diagonal(X, y)
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        path = agf.alternating_gradient_flow(problem, limit=True, max_jumps=20)
        results.append((problem.utility_gradient(theta), problem.hessian_vector(theta, v), path.time, path.loss))
    for one, *others in zip(*results, strict=True):
        assert all(np.array_equal(one, other) for other in others)


def test_float32_paths_are_those_of_the_same_numbers_in_double():
    X, y, *_ = data(30, 50, 2, np.float32)
    single = agf.alternating_gradient_flow(agf.Diagonal(X, y), limit=True)
    double = agf.alternating_gradient_flow(agf.Diagonal(X.astype(float), y.astype(float)), limit=True)
    np.testing.assert_array_equal(single.time, double.time)
    assert single.state.direction.dtype == np.float32
