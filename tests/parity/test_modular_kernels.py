"""The leaves of modular addition: every backend, both dtypes, against the reference, against Dense and against the
algebra."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import reference
from support.modular import TEMPLATES, Scales, expanded
from support.scales import assert_within


@pytest.fixture(params=list(TEMPLATES))
def template(request):
    return TEMPLATES[request.param]


@pytest.fixture
def kernel(verb_backend):
    """kernel(template): the leaves of this backend."""
    return lambda template: agf.ModularAddition(template)._kernel(verb_backend)


def arrays(template, H=5, seed=0, dtype=np.float64):
    """theta, a residual that no network has, and v."""
    rng = np.random.default_rng(seed)
    p = len(template)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((H, 3 * p), (p * p, p), (H, 3 * p)))


def test_leaves_agree_with_dense_on_the_expanded_data(kernel, template, dtype):
    """16 eps times the product of norms in place of every sum (support.modular.Scales).

    The template's own rounding to float32 gives it a mean, which takes no part here: it is taken from Dense's data too.
    """
    p = len(template)
    template = template.astype(dtype)
    theta, residual, v = arrays(template, dtype=dtype)
    wide = template.astype(np.float64)
    X, Y = expanded(wide - wide.mean())
    oracle = reference.Dense(X, Y, "square")
    ours = kernel(template)
    scale = Scales(template, theta, residual, v)
    eps = np.finfo(dtype).eps

    got = ours.residual(theta)
    assert got.dtype == dtype and got.shape == (p * p, p)
    assert_within(got, oracle.residual(theta), scale.residual, eps)
    assert_within(ours.loss(theta), oracle.loss(theta), scale.residual**2, eps)
    for given in (residual, None):
        utility, gradient = ours.utility_and_gradient(theta, given)
        expected_utility, expected_gradient = oracle.utility_and_gradient(theta, given)
        assert utility.shape == (5,) and gradient.shape == (5, 3 * p) and gradient.dtype == dtype
        own = given is None
        # U = <w, grad_w U>.
        assert_within(utility, expected_utility, scale.own_gradient[:, 0] * 10 if own else scale.utility, eps)
        assert_within(gradient, expected_gradient, scale.own_gradient if own else scale.gradient, eps)
    assert_within(ours.hessian_vector(theta, v), oracle.hessian_vector(theta, v), scale.hessian_vector, eps)
    hessian = ours.hessian(theta)
    assert hessian.dtype == dtype
    # An entry is a component of the Hessian times a v of norm 1, and v has norm sqrt(3p) per neuron.
    for other in (oracle.hessian(theta), hessian.T):
        assert_within(hessian, other, scale.hessian_vector.max(), eps)


def test_reference_agrees_with_dense_leaf_by_leaf(template):
    """What only the engines ask for: derivative of the residual, curvatures, contribution, conserved quantity."""
    theta, residual, v = arrays(template)
    X, Y = expanded(template)
    dense, ours = reference.Dense(X, Y, "square"), reference.ModularAddition(template)
    for leaf, args in (
        ("residual_derivative", (theta, v)),
        ("curvature", (theta, residual)),
        ("gauss_newton", (theta,)),
        ("contribution", (theta,)),
        ("conserved", (theta,)),
    ):
        got, expected = (getattr(kernel, leaf)(*args) for kernel in (ours, dense))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    np.testing.assert_allclose(ours.target(), Y, rtol=0, atol=1e-15 * np.abs(Y).max())
    assert ours.reach == pytest.approx(dense.reach, rel=1e-14) and ours.kappa == dense.kappa


def test_forms_of_one_leaf_agree(kernel, template, dtype):
    """utility, utility_gradient, utility_and_gradient; residual given and None; hessian and hessian_vector; predict."""
    template = template.astype(dtype)
    theta, _, v = arrays(template, dtype=dtype)
    ours = kernel(template)
    eps = np.finfo(dtype).eps
    residual = ours.residual(theta)
    scale = Scales(template, theta, residual, v)
    utility, gradient = ours.utility_and_gradient(theta)
    np.testing.assert_array_equal(ours.utility(theta), utility)
    np.testing.assert_array_equal(ours.utility_gradient(theta), gradient)
    assert_within(ours.utility_gradient(theta, residual), gradient, scale.own_gradient, eps)
    product = ours.hessian(theta).astype(np.float64) @ v.ravel().astype(np.float64)
    # A row of the Hessian rounds in the matrix and in the product: sqrt of its length more.
    rounding = np.sqrt(v.size) * scale.hessian_vector.max()
    assert_within(ours.hessian_vector(theta, v).ravel(), product, rounding, eps)


def test_gradient_against_differences_of_utility(kernel, template):
    """U is a cubic: central differences at h = 1/2 and 1 combine to its slope exactly."""
    theta, residual, v = arrays(template)
    ours = kernel(template)

    def difference(h):
        return (ours.utility(theta + h * v, residual) - ours.utility(theta - h * v, residual)) / (2 * h)

    slope = np.sum(ours.utility_gradient(theta, residual) * v, axis=1)
    wide = Scales(template, np.abs(theta) + np.abs(v), residual, v)
    assert_within((4 * difference(0.5) - difference(1.0)) / 3, slope, 4 * wide.utility, np.finfo(np.float64).eps)


def test_loss_gradient_is_minus_utility_gradient(kernel, template):
    """-dL/dtheta_i = grad U(theta_i; r): L is of degree six along a line, three differences give its slope exactly."""
    theta, _, v = arrays(template, seed=1)
    ours = kernel(template)

    def difference(h):
        return (ours.loss(theta + h * v) - ours.loss(theta - h * v)) / (2 * h)

    # Richardson's weights for errors in h^2 and h^4 at h = 1/4, 1/2, 1.
    slope = (64 * difference(0.25) - 20 * difference(0.5) + difference(1.0)) / 45
    wide = Scales(template, np.abs(theta) + np.abs(v), np.zeros((1, 1)), v)
    expected = -np.vdot(ours.utility_gradient(theta), v)
    assert_within(slope, expected, 64 * wide.residual**2, np.finfo(np.float64).eps)


def test_hessian_vector_against_differences_of_gradients(kernel, template):
    """Gradients of degree five along a line, likewise."""
    theta, _, v = arrays(template, seed=2)
    ours = kernel(template)

    def difference(h):
        return (ours.utility_gradient(theta - h * v) - ours.utility_gradient(theta + h * v)) / (2 * h)

    expected = (64 * difference(0.25) - 20 * difference(0.5) + difference(1.0)) / 45
    wide = Scales(template, np.abs(theta) + np.abs(v), np.zeros((1, 1)), v)
    assert_within(ours.hessian_vector(theta, v), expected, 64 * wide.own_gradient, np.finfo(np.float64).eps)


def test_hessian_is_symmetric(kernel, template, dtype):
    template = template.astype(dtype)
    theta, residual, v = arrays(template, dtype=dtype, seed=3)
    u = arrays(template, dtype=dtype, seed=4)[2]
    ours = kernel(template)
    left, right = (np.vdot(q.astype(np.float64), ours.hessian_vector(theta, w)) for q, w in ((u, v), (v, u)))
    scale = sum(
        np.linalg.norm(q) * np.linalg.norm(Scales(template, theta, residual, w).hessian_vector) * np.sqrt(len(template))
        for q, w in ((u, v), (v, u))
    )
    assert_within(left, right, scale, np.finfo(dtype).eps)


def test_adjointness(kernel, template):
    """<dr, q> along v is -sum_i <v_i, grad U(theta_i; q)>, for any q: the residual is a cubic along a line, and four
    differences give its derivative exactly."""
    theta, q, v = arrays(template, seed=5)
    ours = kernel(template)

    def difference(h):
        return (ours.residual(theta + h * v) - ours.residual(theta - h * v)) / (2 * h)

    derivative = (4 * difference(0.5) - difference(1.0)) / 3
    left = np.mean(np.sum(derivative * q, axis=1))
    right = -np.vdot(v, ours.utility_gradient(theta, q))
    wide = Scales(template, np.abs(theta) + np.abs(v), q, v)
    size = np.sqrt(np.mean(np.sum(q**2, axis=1)))
    assert_within(left, right, 4 * wide.residual * size, np.finfo(np.float64).eps)


@pytest.mark.parametrize("factor", [0.25, 3.0, 1e-40, 1e40])
def test_homogeneity(kernel, template, factor):
    """U(c theta) = c^3 U(theta), grad U(c theta) = c^2 grad U(theta), and <theta, grad U> = 3 U."""
    theta, residual, v = arrays(template, seed=6)
    ours = kernel(template)
    scale = Scales(template, theta, residual, v)
    eps = np.finfo(np.float64).eps
    utility, gradient = ours.utility_and_gradient(theta, residual)
    scaled_utility, scaled_gradient = ours.utility_and_gradient(factor * theta, residual)
    assert_within(scaled_utility / factor**3, utility, scale.utility, eps)
    assert_within(scaled_gradient / factor**2, gradient, scale.gradient, eps)
    assert_within(np.sum(theta * gradient, axis=1), 3 * utility, 3 * scale.utility, eps)


def test_neurons_are_independent_and_permute(kernel, dtype):
    template = TEMPLATES["half"].astype(dtype)
    theta, residual, v = arrays(template, H=150, dtype=dtype)
    ours = kernel(template)
    eps = np.finfo(dtype).eps
    order = np.random.default_rng(3).permutation(len(theta))
    scale = Scales(template, theta, residual, v)
    assert_within(ours.residual(theta[order].copy()), ours.residual(theta), scale.residual, eps)
    utility, gradient = ours.utility_and_gradient(theta, residual)
    permuted_utility, permuted_gradient = ours.utility_and_gradient(theta[order].copy(), residual)
    assert_within(permuted_utility, utility[order], scale.utility[order], eps)
    assert_within(permuted_gradient, gradient[order], scale.gradient[order], eps)
    alone = ours.utility_gradient(theta[140:141].copy(), residual)
    assert_within(alone, gradient[140:141], scale.gradient[140:141], eps)


def test_zero_parameters(kernel, template):
    """theta = 0 is the saddle: f = 0 there, so r is the target and grad U = 0."""
    zero = np.zeros((2, 3 * len(template)))
    ours = kernel(template)
    np.testing.assert_allclose(ours.residual(zero), expanded(template)[1], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(ours.utility_gradient(zero), zero)
    np.testing.assert_allclose(ours.loss(zero), 0.5 * np.sum(template**2), rtol=1e-14)


def test_same_bits_for_any_thread_count(dtype, threads):
    """Fixed cuts: how tasks fall on threads is invisible, down to the last bit. p = 60, all frequencies, so that work
    is shared."""
    rng = np.random.default_rng(0)
    template = rng.standard_normal(60)
    template = (template - template.mean()).astype(dtype)
    theta, _, v = arrays(template, H=40, dtype=dtype)
    kernel = agf.ModularAddition(template)._kernel("cpp")

    def everything():
        return [
            kernel.residual(theta),
            *kernel.utility_and_gradient(theta),
            kernel.hessian_vector(theta, v),
            kernel.hessian(theta[:3].copy()),
            np.float64(kernel.loss(theta)),
        ]

    threads(1)
    one = everything()
    for count in (2, 3, 5):
        threads(count)
        for a, b in zip(one, everything(), strict=True):
            assert a.tobytes() == b.tobytes(), f"{count} threads"


def test_same_bits_every_time(compiled, dtype):
    """Orders of sums depend on sizes alone."""
    template = np.random.default_rng(0).standard_normal(11)
    template = (template - template.mean()).astype(dtype)
    theta, residual, v = arrays(template, H=9, dtype=dtype)

    def everything():
        kernel = agf.ModularAddition(template)._kernel(compiled)
        return [
            kernel.residual(theta),
            *kernel.utility_and_gradient(theta),
            *kernel.utility_and_gradient(theta, residual),
            kernel.hessian_vector(theta, v),
            kernel.hessian(theta),
            np.float64(kernel.loss(theta)),
        ]

    for a, b in zip(everything(), everything(), strict=True):
        assert a.tobytes() == b.tobytes()


MEASURE = """
import resource
import numpy as np
import agf_fast as agf
p = 500
angle = 2 * np.pi * np.arange(p) / p
problem = agf.ModularAddition(np.cos(angle) + 0.5 * np.cos(3 * angle))
theta = np.random.default_rng(0).standard_normal((50, 3 * p))
problem.loss(theta[:1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gradient = problem.utility_gradient(theta)
v = problem.hessian_vector(theta, theta)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
def test_nothing_as_large_as_the_inputs_of_all_pairs_is_made():
    """p = 500: p^2 x 2p inputs would take 2 GB, the residual of the pairs 1 GB; four of 2p + 16 rows take 16 MB."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", MEASURE], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 64e6
