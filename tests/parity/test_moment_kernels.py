"""The leaves of linear networks and attention, which see moments only: against the reference, Dense and the algebra."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast
from agf_fast import _core, _factors, reference
from support.scales import assert_within

LIBRARIES = {"numpy": reference, "cpp": _core}
if agf_fast.cuda.is_available():
    LIBRARIES["cuda"] = agf_fast.cuda.module()

# Sizes of the pseudo-samples beside those of the problem; several blocks of neurons, and one of everything.
CASES = {
    "linear": ("linear_kernel", [(4, 5), (4, 3)], 6),
    "linear-wide": ("linear_kernel", [(7, 7), (7, 2)], 261),
    "attention": ("attention_kernel", [(4, 4), (3, 4), (4, 3)], 5),
    "attention-wide": ("attention_kernel", [(6, 6), (6, 6), (6, 6)], 130),
    "samples": ("attention_samples_kernel", [(7, 9), (7, 1)], 4),
    "samples-wide": ("attention_samples_kernel", [(25, 25), (25, 1)], 129),
    "one": ("attention_kernel", [(1, 1), (1, 1), (1, 1)], 1),
}
LEAST = 0.3


class Case:
    """Random pseudo-samples and points, and what one relative rounding of every elementary term can do to a leaf.

    Each leaf is a chain of sums of products of its arguments. The same chain over absolute values, with the target's
    sign turned so that y - G[P] becomes -(|y| + G[P]), is the scale of an entry (see support.scales).
    """

    def __init__(self, name, dtype=np.float64, seed=0):
        self.name, shapes, count = CASES[name]
        rng = np.random.default_rng(seed)
        self.arrays = [rng.standard_normal(shape) for shape in shapes]
        kernel = self.kernel("numpy")
        self.params, self.shape, self.kappa = kernel.n_params, kernel.shape, kernel.kappa
        self.theta, self.v = (rng.standard_normal((count, self.params)).astype(dtype) for _ in range(2))
        self.residual = rng.standard_normal(self.shape).astype(dtype)
        inputs = [np.abs(array) for array in self.arrays]
        self.bound = getattr(reference, self.name)(*inputs[:-1], -inputs[-1], LEAST)

    def kernel(self, backend):
        return getattr(LIBRARIES[backend], self.name)(*self.arrays, LEAST)

    def wide(self):
        return [np.abs(array.astype(np.float64)) for array in (self.theta, self.residual, self.v)]


@pytest.fixture(params=list(CASES))
def case_name(request):
    return request.param


def test_leaves_agree_with_the_reference(backend, case_name, dtype):
    case = Case(case_name, dtype)
    ours, oracle = case.kernel(backend), case.kernel("numpy")
    theta, residual, v = (array.astype(np.float64) for array in (case.theta, case.residual, case.v))
    at, signal, along = case.wide()
    eps = np.finfo(dtype).eps
    assert ours.kappa == case.kappa and ours.n_params == case.params and tuple(ours.shape) == case.shape

    got = ours.residual(case.theta)
    assert got.dtype == dtype and got.shape == case.shape
    assert_within(got, oracle.residual(theta), -case.bound.residual(at), eps)
    utility, gradient = ours.utility_and_gradient(case.theta, case.residual)
    expected = oracle.utility_and_gradient(theta, residual)
    assert utility.dtype == dtype and gradient.dtype == dtype and gradient.shape == theta.shape
    for value, other, scale in zip(
        (utility, gradient), expected, case.bound.utility_and_gradient(at, signal), strict=True
    ):
        assert_within(value, other, scale, eps)
    assert_within(
        ours.hessian_vector(case.theta, case.v),
        oracle.hessian_vector(theta, v),
        case.bound.hessian_vector(at, along),
        eps,
    )
    # L is a sum of squares, and a square has twice the relative error of what is squared.
    assert_within(ours.loss(case.theta), oracle.loss(theta), 2 * case.bound.loss(at), eps)
    if len(theta) < 10:
        assert_within(ours.hessian(case.theta), oracle.hessian(theta), case.bound.hessian(at), eps)


def test_forms_of_one_leaf_agree(backend, case_name):
    case = Case(case_name)
    ours = case.kernel(backend)
    at, _, along = case.wide()
    eps = np.finfo(np.float64).eps
    own = ours.residual(case.theta)
    scales = case.bound.utility_and_gradient(at, -case.bound.residual(at))
    for given in (own, None):
        both = ours.utility_and_gradient(case.theta, given)
        singly = ours.utility(case.theta, given), ours.utility_gradient(case.theta, given)
        for a, b, scale in zip(both, singly, scales, strict=True):
            assert_within(a, b, scale, eps)
    few, vector = case.theta[:5].copy(), case.v[:5].copy()
    hessian = ours.hessian(few)
    np.testing.assert_array_equal(hessian, hessian.T)
    # One more sum than in either of them.
    scale = case.bound.hessian(at[:5].copy()) @ along[:5].ravel()
    assert_within(hessian @ vector.ravel(), ours.hessian_vector(few, vector).ravel(), 2 * scale, eps)


def test_gradients_against_differences(backend, case_name):
    """Central differences along a random direction: h^2 U'''/6 + eps S/h, both 4e-11 of the scale at h = eps^(1/3)."""
    case = Case(case_name, seed=3)
    ours = case.kernel(backend)
    at, signal, _ = case.wide()
    h = np.finfo(np.float64).eps ** (1 / 3)
    v = case.v / np.linalg.norm(case.v)
    up, down = case.theta + h * v, case.theta - h * v
    scale = case.bound.loss(at) + np.abs(case.bound.utility_gradient(at, -case.bound.residual(at))).sum()

    slope = (ours.utility(up, case.residual) - ours.utility(down, case.residual)) / (2 * h)
    expected = np.sum(ours.utility_gradient(case.theta, case.residual) * v, axis=1)
    bound = case.bound.utility(at, signal).max()
    # The third derivative of a product of three factors is of the order of the product at unit parameters.
    np.testing.assert_allclose(slope, expected, rtol=0, atol=100 * 4e-11 * bound)
    slope = (ours.loss(up) - ours.loss(down)) / (2 * h)
    assert abs(slope + np.vdot(ours.utility_gradient(case.theta, None), v)) <= 100 * 4e-11 * scale
    bent = -(ours.utility_gradient(up, None) - ours.utility_gradient(down, None)) / (2 * h)
    bound = case.bound.hessian_vector(at, np.abs(v)).max() + np.abs(case.bound.utility_gradient(at, None)).max()
    np.testing.assert_allclose(ours.hessian_vector(case.theta, v), bent, rtol=0, atol=100 * 4e-11 * bound)


@pytest.mark.parametrize("factor", [0.25, 3.0, 1e-40, 1e40])
def test_homogeneity(backend, case_name, factor):
    """U(c theta) = c^kappa U(theta), and Euler's <theta, grad U> = kappa U."""
    case = Case(case_name, seed=5)
    ours, kappa = case.kernel(backend), case.kappa
    at, signal, _ = case.wide()
    eps = np.finfo(np.float64).eps
    utility, gradient = ours.utility_and_gradient(case.theta, case.residual)
    scaled, steeper = ours.utility_and_gradient(factor * case.theta, case.residual)
    scales = case.bound.utility_and_gradient(at, signal)
    assert_within(scaled / factor**kappa, utility, scales[0], eps)
    assert_within(steeper / factor ** (kappa - 1), gradient, scales[1], eps)
    assert_within(np.sum(case.theta * gradient, axis=1), kappa * utility, kappa * scales[0], eps)


def test_what_the_flow_conserves(backend, case_name):
    """v^2 - |q|^2 and v^2 - |k|^2 (linear: |a|^2 - |w|^2) have no derivative along grad U, whatever the residual."""
    case = Case(case_name, seed=7)
    oracle = case.kernel("numpy")
    gradient = case.kernel(backend).utility_gradient(case.theta, case.residual)
    at, signal, _ = case.wide()
    steepest = case.bound.utility_gradient(at, signal)
    # Conserved numbers are quadratic: their derivative along g is half the difference of those at theta + g, theta - g.
    slope = 0.5 * (oracle.conserved(case.theta + gradient) - oracle.conserved(case.theta - gradient))
    scale = np.sum((at + steepest) ** 2, axis=1)
    assert_within(slope.T, 0.0, scale, np.finfo(np.float64).eps)


def test_adjointness(backend, case_name):
    """L is quadratic in P, so a neuron's first-order change of M and of L are two readings of one symmetric map."""
    case = Case(case_name, seed=9)
    ours = case.kernel(backend)
    at, _, along = case.wide()
    other = np.random.default_rng(2).standard_normal(case.v.shape)
    left = np.vdot(other, ours.hessian_vector(case.theta, case.v))
    right = np.vdot(case.v, ours.hessian_vector(case.theta, other))
    scale = np.vdot(np.abs(other), case.bound.hessian_vector(at, along))
    assert_within(left, right, 2 * scale, np.finfo(np.float64).eps)


def test_neurons_permute(backend, case_name):
    case = Case(case_name, seed=11)
    ours = case.kernel(backend)
    at, signal, along = case.wide()
    eps = np.finfo(np.float64).eps
    order = np.random.default_rng(3).permutation(len(at))
    moved, vector = case.theta[order].copy(), case.v[order].copy()
    assert_within(ours.residual(moved), ours.residual(case.theta), -case.bound.residual(at), eps)
    assert_within(
        ours.utility_gradient(moved, case.residual),
        ours.utility_gradient(case.theta, case.residual)[order],
        case.bound.utility_gradient(at, signal)[order],
        eps,
    )
    assert_within(
        ours.hessian_vector(moved, vector),
        ours.hessian_vector(case.theta, case.v)[order],
        case.bound.hessian_vector(at, along)[order],
        eps,
    )


def test_the_network_at_zero(backend, case_name):
    case = Case(case_name)
    ours, oracle = case.kernel(backend), case.kernel("numpy")
    none, zero = np.zeros((0, case.params)), np.zeros_like(case.theta)
    np.testing.assert_array_equal(ours.residual(none), ours.residual(zero))
    assert_within(ours.residual(none), oracle.target(), -case.bound.residual(np.zeros((0, case.params))), 2.3e-16)
    assert ours.loss(none) == ours.loss(zero)
    np.testing.assert_array_equal(ours.utility_gradient(zero, None), zero)


def test_linear_is_dense_on_samples(backend):
    """Sigma_xx, Sigma_yx and Sigma_yy are all that L of a linear network sees of its samples."""
    rng = np.random.default_rng(4)
    X, Y = rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    X[:, 5] = X[:, 0] - 2 * X[:, 1]  # a direction without variance
    dense = reference.Dense(X, Y, "identity")
    theta, v = rng.standard_normal((2, 4, 9))
    of_moments = _factors.of_moments(X.T @ X / 50, Y.T @ X / 50, float(np.sum(Y**2)) / 50)
    halves = _factors.of_samples([(X[:30], Y[:30]), (X[30:], Y[30:])], 50)
    assert len(of_moments.inputs) == len(halves.inputs) == 5
    # Roots of moments know directions to sqrt(cond) of what the moments do; cond is below 100 here.
    for factors in (of_moments, halves):
        ours = LIBRARIES[backend].linear_kernel(*factors)
        np.testing.assert_allclose(ours.loss(theta), dense.loss(theta), rtol=1e-12)
        np.testing.assert_allclose(ours.utility_gradient(theta, None), dense.utility_gradient(theta), atol=1e-11)
        np.testing.assert_allclose(ours.hessian_vector(theta, v), dense.hessian_vector(theta, v), atol=1e-11)
        np.testing.assert_allclose(ours.residual(theta), dense.residual(theta).T @ X / 50, atol=1e-11)
    np.testing.assert_allclose(of_moments.least, halves.least, atol=1e-14)
    assert _factors.of_moments(X.T @ X / 50, Y.T @ X / 50).least == 0.0


def test_same_bits_for_any_thread_count(threads):
    rng = np.random.default_rng(6)
    size = 40
    kernel = _core.attention_kernel(*(rng.standard_normal((size, size)) for _ in range(3)), 0.0)
    theta, v = rng.standard_normal((2, 700, 1 + 2 * size))

    def everything():
        few = theta[:3].copy()
        return [
            kernel.residual(theta),
            *kernel.utility_and_gradient(theta, None),
            kernel.hessian_vector(theta, v),
            kernel.hessian(few),
            np.float64(kernel.loss(theta)),
        ]

    threads(1)
    one = everything()
    for count in (2, 3, 5):
        threads(count)
        for a, b in zip(one, everything(), strict=True):
            assert a.tobytes() == b.tobytes()


BAD = {
    "theta width": ("theta", lambda kernel, theta: kernel.loss(theta[:, :-1].copy())),
    "theta dtype": ("theta", lambda kernel, theta: kernel.loss(theta.astype(np.float16))),
    "theta order": ("theta", lambda kernel, theta: kernel.loss(np.asfortranarray(theta))),
    "v shape": ("v", lambda kernel, theta: kernel.hessian_vector(theta, theta[:-1].copy())),
    "residual shape": ("residual", lambda kernel, theta: kernel.utility(theta, np.zeros((1, 2)))),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_arrays_are_named(name, compiled):
    case = Case("attention")
    argument, call = BAD[name]
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: got .*, expected "):
        call(case.kernel(compiled), case.theta)


def test_bad_factors_are_named(compiled):
    good, library = np.ones((2, 4)), LIBRARIES[compiled]
    for call, name in (
        (lambda: library.linear_kernel(good, np.ones((3, 1)), 0.0), "targets"),
        (lambda: library.attention_kernel(good, np.ones((2, 3)), np.ones((2, 2)), 0.0), "keys"),
        (lambda: library.attention_samples_kernel(np.ones((2, 3)), np.ones((2, 1)), 0.0), "features"),
        (lambda: library.attention_samples_kernel(good, np.ones((2, 2)), 0.0), "targets"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: got .*, expected "):
            call()
