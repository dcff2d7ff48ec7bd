"""sigma, sigma', sigma'' of every backend as one neuron on one sample shows them: theta = (w, a), x = 1, f = a
sigma(w)."""

from __future__ import annotations

import numpy as np
import pytest

# Both signs, both sides of every branch, the smallest and the largest: no entry may cancel, overflow or become NaN.
LADDER = np.concatenate([[1e-30, 1e-8, 1e-3], np.linspace(0.05, 7.0, 140), [12.0, 25.0]])
POINTS = np.concatenate([-LADDER[::-1], LADDER])


def neuron(kernel, activation, points, dtype, target=0.0):
    one = np.ones((1, 1), dtype=dtype)
    theta = np.stack([points, np.ones_like(points)], axis=1).astype(dtype)
    return kernel(one, np.full((1, 1), target, dtype=dtype), activation), theta, one


def test_values_and_slopes(kernel, activation, dtype):
    """U((w, 1); r = 1) = sigma(w); its gradient is (sigma'(w), sigma(w)).

    A few ulp of sigma itself, and what the rounding of w's neighbours does: |w sigma'| eps, |w sigma''| eps.
    """
    problem, theta, one = neuron(kernel, activation, POINTS, dtype)
    w = theta[:, 0].astype(np.float64)
    eps = np.finfo(dtype).eps
    utility, gradient = problem.utility_and_gradient(theta, one)
    s0, s1, s2 = (activation(w, order) for order in range(3))
    value_scale = np.abs(s0) + np.abs(w * s1)
    slope_scale = np.abs(s1) + np.abs(w * s2) + np.abs(s0)
    # Results below the smallest normal number are exact only to the spacing there.
    tiny = np.finfo(dtype).tiny / eps
    for got, expected, scale in (
        (utility, s0, value_scale),
        (gradient[:, 1], s0, value_scale),
        (gradient[:, 0], s1, slope_scale),
    ):
        error = np.abs(got.astype(np.float64) - expected)
        assert np.all(error <= 8 * eps * (scale + tiny * eps)), POINTS[np.argmax(error / (scale + tiny * eps))]


def test_slope_is_the_difference_of_values(kernel, activation):
    """sigma' by central differences of sigma: h^2 |sigma'''| / 6 + eps |sigma| / h at h = 1e-5."""
    h = 1e-5
    points = np.linspace(-6.0, 6.0, 97) + 0.0123
    problem, theta, one = neuron(kernel, activation, points, np.float64)
    slopes = problem.utility_gradient(theta, one)[:, 0]
    step = np.array([h, 0.0])
    difference = (problem.utility(theta + step, one) - problem.utility(theta - step, one)) / (2 * h)
    bound = h**2 * np.abs(activation(points, 3)) + 1e-15 * (1 + np.abs(activation(points))) / h
    assert np.all(np.abs(difference - slopes) <= bound)


def test_curvature_is_the_difference_of_slopes(kernel, activation):
    """sigma'' enters as d^2 L / dw^2 = a^2 sigma'^2 - r a sigma''; two targets one apart leave -a sigma'' alone."""
    h = 1e-5
    points = np.linspace(-6.0, 6.0, 49) + 0.0123
    curvature = []
    for point in points:
        blocks = []
        for target in (0.0, 1.0):
            problem, theta, one = neuron(kernel, activation, np.array([point]), np.float64, target)
            blocks.append(problem.hessian(theta)[0, 0])
        curvature.append(blocks[0] - blocks[1])
    problem, theta, one = neuron(kernel, activation, points, np.float64)
    step = np.array([h, 0.0])
    difference = (problem.utility_gradient(theta + step, one) - problem.utility_gradient(theta - step, one))[:, 0] / (
        2 * h
    )
    s0, s1, s2 = (activation(points, order) for order in range(3))
    # h^2 sigma/6 with sigma <= 120 (1 + |z|) for every entry of the table (z^5 is the largest); eps sigma'/h; and
    # the blocks, of size sigma'^2 + |sigma sigma''|, lose that many eps when they are subtracted.
    bound = 20 * h**2 * (1 + np.abs(points)) + 1e-15 * (1 + np.abs(s1)) / h + 1e-14 * (s1**2 + np.abs(s0 * s2))
    assert np.all(np.abs(difference - np.array(curvature)) <= bound)


@pytest.mark.parametrize("magnitude", [50.0, 200.0, 1000.0])
def test_far_out(kernel, activation, dtype, magnitude):
    """Limits, not NaN: exp overflows there unless it is kept away from."""
    points = np.array([-magnitude, magnitude])
    problem, theta, one = neuron(kernel, activation, points, dtype)
    utility, gradient = problem.utility_and_gradient(theta, one)
    np.testing.assert_allclose(
        utility,
        activation(points),
        rtol=8 * np.finfo(dtype).eps,
        atol=np.finfo(dtype).tiny * 100,
    )
    np.testing.assert_allclose(
        gradient[:, 0],
        activation(points, 1),
        rtol=64 * np.finfo(dtype).eps,
        atol=np.finfo(dtype).tiny * 1000,
    )
    assert np.all(np.isfinite(problem.hessian_vector(theta, theta)))


def test_zero_is_a_fixed_point(kernel, activation, dtype):
    """sigma(0) = 0, and sigma'(0) = 0 for a kink: a dead sample pushes nothing."""
    problem, theta, one = neuron(kernel, activation, np.zeros(3), dtype)
    utility, gradient = problem.utility_and_gradient(theta, one)
    np.testing.assert_array_equal(utility, 0)
    np.testing.assert_array_equal(gradient[:, 1], 0)
    np.testing.assert_allclose(gradient[:, 0], activation(np.zeros(3), 1), rtol=4 * np.finfo(dtype).eps)
