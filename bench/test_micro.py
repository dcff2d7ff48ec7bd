"""Micro cases under pytest-benchmark: `python -m pytest bench/test_micro.py`. Answers are asserted by the tests' own
oracle."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import _core
from support.activations import ACTIVATIONS
from support.problems import modular_data
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
