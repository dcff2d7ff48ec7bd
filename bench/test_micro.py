"""Micro cases under pytest-benchmark: `python -m pytest bench/test_micro.py`. Answers are asserted by the tests' own
oracle."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import _core
from support.activations import ACTIVATIONS
from support.problems import modular_data, modular_template
from support.scales import assert_within, scales


@pytest.fixture(params=ACTIVATIONS, ids=lambda activation: activation.label)
def activation(request):
    return request.param


@pytest.fixture(params=["float32", "float64"])
def data(request):
    """(1797, 64, 10, 128): the digits' size."""
    rng = np.random.default_rng(0)
    n, d, c, H = 1797, 64, 10, 128
    shapes = ((n, d), (n, c), (H, d + c), (H, d + c))
    return tuple((rng.standard_normal(shape) / 8).astype(request.param) for shape in shapes)


def test_utility_and_gradient(benchmark, activation, data):
    X, Y, theta, v = data
    kernel = _core.dense(X, Y, activation.name, activation.parameter)
    utility, gradient = benchmark(kernel.utility_and_gradient, theta, Y)
    scale = scales(activation, X, Y, theta, Y, v)
    wide = [array.astype(np.float64) for array in (X, Y, theta)]
    expected = _core.dense(*wide[:2], activation.name, activation.parameter).utility_and_gradient(wide[2], wide[1])
    assert_within(utility, expected[0], scale.utility, np.finfo(X.dtype).eps)
    assert_within(gradient, expected[1], scale.gradient, np.finfo(X.dtype).eps)


def test_residual(benchmark, activation, data):
    X, Y, theta, _ = data
    kernel = _core.dense(X, Y, activation.name, activation.parameter)
    residual = benchmark(kernel.residual, theta)
    assert residual.shape == Y.shape and np.isfinite(residual).all()


def test_hessian_vector(benchmark, activation, data):
    X, Y, theta, v = data
    kernel = _core.dense(X, Y, activation.name, activation.parameter)
    product = benchmark(kernel.hessian_vector, theta, v)
    assert product.shape == theta.shape and np.isfinite(product).all()


def test_dense_hessian(benchmark):
    X, Y = modular_data()
    kernel = _core.dense(X, Y, "square", 0.0)
    theta = np.random.default_rng(0).standard_normal((4, 60)) / 8
    hessian = benchmark(kernel.hessian, theta)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-12 * np.abs(hessian).max())


@pytest.fixture(params=["modular", "attention"])
def compressed(request):
    """A problem whose kernel works on moments or Fourier modes, and parameters."""
    if request.param == "modular":
        problem = agf.ModularAddition(modular_template())
    else:
        problem = agf.Attention(np.diag([2.0, 1.0, 0.5, 0.25]))
    return problem, np.random.default_rng(0).standard_normal((18, problem.n_params)) / 8


def test_compressed_gradient(benchmark, compressed):
    """By finite differences of the loss along the gradient: -dL/dt = |grad U|^2."""
    problem, theta = compressed
    gradient = benchmark(problem._kernel().utility_gradient, theta)
    step = 1e-4 / np.abs(gradient).max()
    slope = (problem.loss(theta + step * gradient) - problem.loss(theta - step * gradient)) / (2 * step)
    # The difference is off by the step squared and by rounding over the step.
    np.testing.assert_allclose(-slope, (gradient**2).sum(), rtol=1e-6)


def test_compressed_hessian(benchmark, compressed):
    problem, theta = compressed
    hessian = benchmark(problem._kernel().hessian, theta[:2])
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-12 * np.abs(hessian).max())


@pytest.mark.parametrize("shape", [(200, 1000), (500, 5000)])
def test_pass_over_diagonal_design(benchmark, shape):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal(shape), rng.standard_normal((shape[0], 1))
    kernel = agf.Diagonal(X, y)._kernel()
    gradient = benchmark(kernel.utility_gradient, np.ones((shape[1], 2)), y)
    expected = np.repeat(X.T @ y / shape[0], 2, axis=1)
    # Sums of n terms of random sign.
    bound = 4 * np.sqrt(shape[0]) * np.finfo(np.float64).eps * np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=bound)


def test_small_call(benchmark):
    """The price of a call from Python: one neuron on one sample."""
    problem = agf.Dense(np.ones((1, 1)), np.ones((1, 1)), activation="relu")
    theta = np.ones((1, 2))
    assert benchmark(problem.loss, theta) == 0.0


def test_first_jump(benchmark):
    problem = agf.Dense(*modular_data(), activation="square")
    start = problem.initialize(18, scale=1e-2, seed=0)
    path = benchmark(
        agf.alternating_gradient_flow,
        problem,
        start,
        max_jumps=1,
        active_time=100.0,
        rtol=1e-6,
    )
    assert abs(path.jumps[0].loss_after / 10 - 0.59959) <= 2e-5
