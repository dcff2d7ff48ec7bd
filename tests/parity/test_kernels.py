"""The leaves: every backend, both dtypes, every activation, against the reference in double and against the algebra."""

from __future__ import annotations

import numpy as np
import pytest

from agf_fast import reference
from support.activations import ACTIVATIONS, BY_LABEL
from support.problems import generic_data
from support.scales import assert_within, scales

HOMOGENEOUS = [activation for activation in ACTIVATIONS if activation.homogeneous]

# (n, d, c, H): one of everything; odd sizes below a vector; several tiles in n, in d and in H; more outputs than
# inputs.
SHAPES = {
    "one": (1, 1, 1, 1),
    "small": (37, 5, 3, 6),
    "tall": (1201, 3, 1, 5),
    "wide": (70, 131, 2, 67),
    "many-outputs": (33, 2, 40, 9),
}


def test_leaves_agree_with_the_reference(kernel, activation, dtype):
    """16 eps times the sum of absolute values of all elementary terms (support.scales), against the reference in
    double."""
    for n, d, c, H in SHAPES.values():
        X, Y, theta, residual, v = generic_data(n, d, c, H, seed=n + H, dtype=dtype)
        # The fifth power of a sum of 131 terms would leave float32: inputs of unit mean square.
        X /= np.sqrt(d).astype(dtype)
        wide = [array.astype(np.float64) for array in (X, Y, theta, residual, v)]
        oracle = reference.Dense(wide[0], wide[1], activation.name, activation.parameter)
        ours = kernel(X, Y, activation)
        scale = scales(activation, X, Y, theta, residual, v)
        eps = np.finfo(dtype).eps

        got = ours.residual(theta)
        assert got.dtype == dtype and got.shape == (n, c)
        assert_within(got, oracle.residual(wide[2]), scale.residual, eps)

        utility, gradient = ours.utility_and_gradient(theta, residual)
        expected_utility, expected_gradient = oracle.utility_and_gradient(wide[2], wide[3])
        assert utility.shape == (H,) and gradient.shape == (H, d + c) and gradient.dtype == dtype
        assert_within(utility, expected_utility, scale.utility, eps)
        assert_within(gradient, expected_gradient, scale.gradient, eps)

        hv = ours.hessian_vector(theta, v)
        assert_within(hv, oracle.hessian_vector(wide[2], wide[4]), scale.hessian_vector, eps)

        # L is a mean of squares: relative error 2 |r| S eps, and S >= |r|.
        loss_scale = 0.5 * np.mean(np.sum(scale.residual**2, axis=1))
        assert_within(ours.loss(theta), oracle.loss(wide[2]), 2.0 * loss_scale, eps)


def test_forms_of_one_leaf_agree(kernel, activation, dtype):
    """utility, utility_gradient, utility_and_gradient; residual given and None; hessian and hessian_vector; predict."""
    X, Y, theta, _, v = generic_data(dtype=dtype)
    ours = kernel(X, Y, activation)
    eps = np.finfo(dtype).eps
    residual = ours.residual(theta)
    scale = scales(activation, X, Y, theta, residual, v)
    for given in (residual, None):
        utility, gradient = ours.utility_and_gradient(theta, given)
        assert_within(ours.utility(theta, given), utility, scale.utility, eps)
        assert_within(ours.utility_gradient(theta, given), gradient, scale.gradient, eps)
        assert_within(ours.utility(theta, residual), utility, scale.utility, eps)
    hessian = ours.hessian(theta)
    assert hessian.shape == (theta.size, theta.size)
    # A row of the Hessian times v is one more sum, of terms whose scales are the columns' own.
    columns = np.stack(
        [
            scales(activation, X, Y, theta, residual, e.reshape(theta.shape)).hessian_vector.ravel()
            for e in np.eye(theta.size)
        ],
        axis=1,
    )
    assert_within(hessian, hessian.T, columns + columns.T, eps)
    product = hessian.astype(np.float64) @ v.ravel().astype(np.float64)
    assert_within(ours.hessian_vector(theta, v).ravel(), product, columns @ np.abs(v.ravel()), eps)
    assert_within(ours.predict(theta, X), Y - residual, scale.residual, eps)


def test_gradient_against_differences_of_utility(kernel, activation):
    """Central differences: error h^2 U'''/6 + eps S/h, at h = eps^(1/3) both about 4e-11 of their scales."""
    X, Y, theta, residual, _ = generic_data()
    ours = kernel(X, Y, activation)
    h = np.finfo(np.float64).eps ** (1 / 3)
    if activation.kinked or activation.name == "elu":
        # A difference across a kink measures something else: no sample may be that close to one.
        assert np.abs(X @ theta[:, : X.shape[1]].T).min() > h * np.abs(X).max()
    gradient = ours.utility_gradient(theta, residual)
    scale = scales(activation, X, Y, theta, residual, theta).gradient.max()
    for j in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[:, j] = h
        difference = (ours.utility(theta + step, residual) - ours.utility(theta - step, residual)) / (2 * h)
        # The third derivative of z^5 is 60 z^2 where the gradient has 5 z^4: two orders above the gradient's own scale.
        np.testing.assert_allclose(difference, gradient[:, j], rtol=0, atol=100 * 4e-11 * scale)


def test_loss_gradient_is_minus_utility_gradient(kernel, activation):
    """-dL/dtheta_i = grad U(theta_i; r), the identity everything rests on, by differences of L along random
    directions."""
    X, Y, theta, _, _ = generic_data(seed=5)
    ours = kernel(X, Y, activation)
    gradient = -ours.utility_gradient(theta, None)
    h = np.finfo(np.float64).eps ** (1 / 3)
    loss = ours.loss(theta)
    rng = np.random.default_rng(1)
    for _ in range(4):
        v = rng.standard_normal(theta.shape)
        v /= np.linalg.norm(v)
        if activation.kinked or activation.name == "elu":
            assert np.abs(X @ theta[:, :5].T).min() > h * np.abs(X @ v[:, :5].T).max()
        difference = (ours.loss(theta + h * v) - ours.loss(theta - h * v)) / (2 * h)
        scale = scales(activation, X, Y, theta, ours.residual(theta), v).gradient.max() + loss
        assert abs(difference - np.vdot(gradient, v)) <= 1000 * 4e-11 * scale


def test_hessian_vector_against_differences_of_gradients(kernel, activation):
    X, Y, theta, _, v = generic_data(seed=7)
    ours = kernel(X, Y, activation)
    h = np.finfo(np.float64).eps ** (1 / 3)
    v = v / np.linalg.norm(v)
    if activation.kinked or activation.name == "elu":
        assert np.abs(X @ theta[:, :5].T).min() > h * np.abs(X @ v[:, :5].T).max()
    difference = -(ours.utility_gradient(theta + h * v, None) - ours.utility_gradient(theta - h * v, None)) / (2 * h)
    scale = scales(activation, X, Y, theta, ours.residual(theta), theta).hessian_vector.max()
    np.testing.assert_allclose(ours.hessian_vector(theta, v), difference, rtol=0, atol=100 * 4e-11 * scale)


def test_hessian_is_symmetric(kernel, activation, dtype):
    X, Y, theta, _, v = generic_data(dtype=dtype, seed=2)
    u = np.random.default_rng(9).standard_normal(v.shape).astype(dtype)
    ours = kernel(X, Y, activation)
    left, right = (np.vdot(p, ours.hessian_vector(theta, q)) for p, q in ((u, v), (v, u)))
    residual = ours.residual(theta)
    scale = sum(
        np.sum(np.abs(p) * scales(activation, X, Y, theta, residual, q).hessian_vector) for p, q in ((u, v), (v, u))
    )
    assert_within(left, right, scale, np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", HOMOGENEOUS, ids=lambda activation: activation.label, indirect=False)
@pytest.mark.parametrize("factor", [0.25, 3.0, 1e-40, 1e40])
def test_homogeneity(kernel, activation, factor):
    """U(c theta) = c^kappa U(theta) and grad U(c theta) = c^(kappa-1) grad U(theta); powers of two are not needed."""
    X, Y, theta, residual, _ = generic_data(seed=11)
    ours = kernel(X, Y, activation)
    assert ours.kappa == activation.kappa
    scale = scales(activation, X, Y, theta, residual, theta)
    eps = np.finfo(np.float64).eps
    utility, gradient = ours.utility_and_gradient(theta, residual)
    scaled_utility, scaled_gradient = ours.utility_and_gradient(factor * theta, residual)
    kappa = activation.kappa
    assert_within(scaled_utility / factor**kappa, utility, scale.utility, eps)
    assert_within(scaled_gradient / factor ** (kappa - 1), gradient, scale.gradient, eps)
    # Euler: <theta, grad U> = kappa U.
    assert_within(np.sum(theta * gradient, axis=1), kappa * utility, kappa * scale.utility, eps)


def test_leading_degree(kernel, activation):
    """kappa is the degree of the leading term at 0, whether or not sigma is homogeneous."""
    X, Y, theta, residual, _ = generic_data(seed=11)
    ours = kernel(X, Y, activation)
    assert ours.kappa == activation.kappa
    small = 1e-5
    ratio = ours.utility(small * theta, residual) / ours.utility(0.5 * small * theta, residual)
    # The next term of sigma is at least one order higher: relative 1e-5 times its coefficient and |z| of a few.
    np.testing.assert_allclose(ratio, 2.0**activation.kappa, rtol=1e-3)


def test_neurons_are_independent_and_permute(kernel, activation, dtype):
    X, Y, theta, residual, v = generic_data(H=19, dtype=dtype, seed=13)
    ours = kernel(X, Y, activation)
    eps = np.finfo(dtype).eps
    order = np.random.default_rng(3).permutation(len(theta))
    scale = scales(activation, X, Y, theta, residual, v)
    assert_within(ours.residual(theta[order].copy()), ours.residual(theta), scale.residual, eps)
    utility, gradient = ours.utility_and_gradient(theta, residual)
    permuted_utility, permuted_gradient = ours.utility_and_gradient(theta[order].copy(), residual)
    assert_within(permuted_utility, utility[order], scale.utility[order], eps)
    assert_within(permuted_gradient, gradient[order], scale.gradient[order], eps)
    hv = ours.hessian_vector(theta, v)
    assert_within(
        ours.hessian_vector(theta[order].copy(), v[order].copy()),
        hv[order],
        scale.hessian_vector[order],
        eps,
    )
    alone_utility, alone_gradient = ours.utility_and_gradient(theta[4:5].copy(), residual)
    assert_within(alone_utility, utility[4:5], scale.utility[4:5], eps)
    assert_within(alone_gradient, gradient[4:5], scale.gradient[4:5], eps)


def test_samples_permute_and_repeat(kernel, activation, dtype):
    """E is a mean: the order of samples, and repeating all of them, change nothing but roundings."""
    X, Y, theta, residual, v = generic_data(dtype=dtype, seed=17)
    eps = np.finfo(dtype).eps
    scale = scales(activation, X, Y, theta, residual, v)
    first = kernel(X, Y, activation)
    utility, gradient = first.utility_and_gradient(theta, residual)
    order = np.random.default_rng(3).permutation(len(X))
    for rows in (order, np.tile(order, 3)):
        again = kernel(X[rows].copy(), Y[rows].copy(), activation)
        assert_within(again.utility(theta, residual[rows].copy()), utility, scale.utility, eps)
        assert_within(
            again.utility_gradient(theta, residual[rows].copy()),
            gradient,
            scale.gradient,
            eps,
        )
        assert_within(
            again.residual(theta),
            first.residual(theta)[rows],
            scale.residual[rows],
            eps,
        )
        assert_within(
            again.hessian_vector(theta, v),
            first.hessian_vector(theta, v),
            scale.hessian_vector,
            eps,
        )


def test_adjointness(kernel, dtype):
    """<G w, q> = <w, G^T q>: with sigma = identity, -E<r(w + v, a) - r(w, a), q> = <v, grad_w U(w, a; q)>, exactly.

    Each side is a sum of n d H c products; the residuals carry their own scale into the left one.
    """
    identity = BY_LABEL["identity"]
    for n, d, c, H in SHAPES.values():
        X, Y, theta, q, v = generic_data(n, d, c, H, seed=d, dtype=dtype)
        v[:, d:] = 0
        ours = kernel(X, Y, identity)
        moved = (theta + v).astype(dtype)
        v = moved - theta  # what was really added, after rounding
        difference = ours.residual(theta).astype(np.float64) - ours.residual(moved)
        left = np.mean(np.sum(difference * q, axis=1))
        right = np.vdot(v.astype(np.float64), ours.utility_gradient(theta, q))
        before, after = (scales(identity, X, Y, t, q, v) for t in (theta, moved))
        scale = np.mean(np.sum((before.residual + after.residual) * np.abs(q), axis=1))
        scale += np.sum(np.abs(v) * before.gradient)
        assert_within(left, right, scale, np.finfo(dtype).eps)


def test_same_bits_for_any_thread_count(activation, dtype, threads):
    """Fixed chunking: how tasks fall on threads is invisible, down to the last bit."""
    from agf_fast import _core

    X, Y, theta, residual, v = generic_data(n=5003, d=17, c=3, H=70, dtype=dtype)
    kernel = _core.dense(X, Y, activation.name, activation.parameter)

    def everything():
        few = theta[:4].copy()
        return [
            kernel.residual(theta),
            *kernel.utility_and_gradient(theta, residual),
            kernel.hessian_vector(theta, v),
            kernel.hessian(few),
            np.float64(kernel.loss(theta)),
        ]

    threads(1)
    one = everything()
    for count in (2, 3, 5):
        threads(count)
        for again in range(2):
            for a, b in zip(one, everything(), strict=True):
                assert a.tobytes() == b.tobytes(), f"{count} threads, call {again}"


def test_no_neurons_and_zero_parameters(kernel, activation):
    """theta = 0 is the saddle: f = 0 there, so r = y; grad U = 0 there since sigma(0) = 0 and a = 0."""
    X, Y, theta, _, _ = generic_data()
    ours = kernel(X, Y, activation)
    zero = np.zeros_like(theta)
    np.testing.assert_array_equal(ours.residual(zero), Y)
    np.testing.assert_array_equal(ours.utility_gradient(zero, None), zero)
    np.testing.assert_allclose(ours.loss(zero), 0.5 * np.mean(np.sum(Y**2, axis=1)), rtol=1e-14)
