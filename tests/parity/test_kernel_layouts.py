"""The leaves in every layout their products take: vectors along samples or along neurons, X^T kept or not, sizes that
leave remainders in each, and the table of every instruction set at its edges."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from agf_fast import _core, reference
from support.activations import BY_LABEL
from support.problems import generic_data
from support.scales import assert_within, scales

# (n, d, c, H)
LAYOUTS = {
    # X^T kept: tiles of samples and blocks of neurons with remainders; a last vector of inputs nearly full or empty.
    "samples": (701, 40, 20, 75),
    "samples-nearly-full": (530, 31, 1, 18),
    "samples-nearly-empty": (257, 49, 17, 3),
    "samples-in-conflict": (512, 8, 2, 9),
    # Many inputs and neurons: vectors along neurons; rows a power of two apart; more inputs than stay in cache.
    "neurons": (131, 300, 3, 47),
    "neurons-in-conflict": (70, 512, 1, 64),
    "neurons-deep": (37, 1100, 2, 16),
    # Many inputs, few neurons: sums across vectors; and both in one call.
    "few": (67, 301, 5, 3),
    "both": (100, 260, 2, 70),
}


@pytest.fixture(params=["relu", "gelu"])
def smooth_or_not(request):
    return BY_LABEL[request.param]


def check(size, activation, dtype):
    n, d, c, H = size
    X, Y, theta, residual, v = generic_data(n, d, c, H, seed=n, dtype=dtype)
    X /= np.sqrt(d).astype(dtype)
    wide = [array.astype(np.float64) for array in (X, Y, theta, residual, v)]
    oracle = reference.Dense(wide[0], wide[1], activation.name, activation.parameter)
    ours = _core.dense(X, Y, activation.name, activation.parameter)
    scale = scales(activation, X, Y, theta, residual, v)
    eps = np.finfo(dtype).eps
    assert_within(ours.residual(theta), oracle.residual(wide[2]), scale.residual, eps)
    assert_within(ours.predict(theta, X), Y - oracle.residual(wide[2]), scale.residual, eps)
    for given in (residual, None):
        utility, gradient = ours.utility_and_gradient(theta, given)
        if given is None:
            wide[3] = oracle.residual(wide[2])
            scale = scales(activation, X, Y, theta, scale.residual, v)
        expected_utility, expected_gradient = oracle.utility_and_gradient(wide[2], wide[3])
        assert_within(utility, expected_utility, scale.utility, eps)
        assert_within(gradient, expected_gradient, scale.gradient, eps)
        assert_within(ours.utility(theta, given), expected_utility, scale.utility, eps)
    assert_within(ours.hessian_vector(theta, v), oracle.hessian_vector(wide[2], wide[4]), scale.hessian_vector, eps)
    return ours, theta, v, scale, eps


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leaves_agree_with_the_reference(layout, smooth_or_not, dtype):
    """The bars of test_kernels.py, at sizes that reach every layout."""
    check(LAYOUTS[layout], smooth_or_not, dtype)


def test_data_too_large_to_keep_twice(smooth_or_not):
    """Above 64 MB X^T is not kept, with few inputs as with many: both halves of the data, which are below, say the
    same. Entries of the scale are means over samples, and so about those of the first few."""
    n, d, c = 68_000, 250, 1
    rng = np.random.default_rng(0)
    X, residual = (rng.standard_normal((n, width), dtype=np.float32) for width in (d, c))
    X /= np.float32(np.sqrt(d))
    whole, *halves = (
        _core.dense(X[rows], residual[rows], smooth_or_not.name, smooth_or_not.parameter)
        for rows in (slice(n), slice(n // 2), slice(n // 2, n))
    )
    few = slice(500)
    for H in (3, 16):
        theta, v = (rng.standard_normal((H, d + c), dtype=np.float32) for _ in range(2))
        scale = scales(smooth_or_not, X[few], residual[few], theta, residual[few], v)
        eps = np.finfo(np.float32).eps
        first, second = (
            half.utility_and_gradient(theta, r) for half, r in zip(halves, np.split(residual, 2), strict=True)
        )
        utility, gradient = whole.utility_and_gradient(theta, residual)
        assert_within(utility, (first[0] + second[0]) / 2, 2 * scale.utility, eps)
        assert_within(gradient, (first[1] + second[1]) / 2, 2 * scale.gradient, eps)
        residuals = np.concatenate([half.residual(theta) for half in halves])
        assert_within(whole.residual(theta)[few], residuals[few], scale.residual, eps)
        np.testing.assert_allclose(whole.loss(theta), np.mean([half.loss(theta) for half in halves]), rtol=1e-5)


@pytest.mark.parametrize("size", [(45, 17, 3, 2), (33, 258, 2, 2)], ids=["kept", "not-kept"])
def test_hessian_agrees_with_its_products(size, dtype):
    ours, theta, v, scale, eps = check(size, BY_LABEL["gelu"], dtype)
    product = ours.hessian(theta).astype(np.float64) @ v.ravel().astype(np.float64)
    # As many terms again as the matrix has columns, each rounded once more.
    assert_within(ours.hessian_vector(theta, v).ravel(), product, 2 * scale.hessian_vector.ravel(), eps)


@pytest.mark.parametrize("layout", ["samples", "neurons", "few", "both"])
def test_same_bits_for_any_thread_count(layout, dtype, threads):
    n, d, c, H = LAYOUTS[layout]
    X, Y, theta, residual, v = generic_data(20 * n, d, c, H, dtype=dtype)
    kernel = _core.dense(X, Y, "gelu", 0.0)

    def everything():
        return [
            kernel.residual(theta),
            *kernel.utility_and_gradient(theta, residual),
            kernel.utility_gradient(theta, None),
            kernel.hessian_vector(theta, v),
            kernel.predict(theta, X),
        ]

    threads(1)
    one = everything()
    threads(3)
    for a, b in zip(one, everything(), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("layout", ["samples", "neurons", "few", "both"])
def test_samples_beyond_the_last_do_not_count(layout, dtype):
    """Padding is invisible: n samples, and the same with as many again whose inputs and targets are zero, halved."""
    n, d, c, H = LAYOUTS[layout]
    X, Y, theta, residual, _ = generic_data(n, d, c, H, seed=3, dtype=dtype)
    none = [np.concatenate([array, np.zeros_like(array)]) for array in (X, Y, residual)]
    tanh = BY_LABEL["tanh"]
    scale = scales(tanh, X, Y, theta, residual, theta)
    half, all_ = (_core.dense(x, y, "tanh", 0.0) for x, y in ((X, Y), none[:2]))
    utility, gradient = half.utility_and_gradient(theta, residual)
    again_utility, again_gradient = all_.utility_and_gradient(theta, none[2])
    eps = np.finfo(dtype).eps
    assert_within(2 * again_utility, utility, scale.utility, eps)
    assert_within(2 * again_gradient, gradient, scale.gradient, eps)


@pytest.mark.parametrize("layout", ["neurons", "few"])
def test_double_parameters_over_float_data(layout):
    """Runs hold parameters in double: the first steps of a flow on float32 data beside those on the same data in
    double, at float32's accuracy."""
    n, d, c, H = LAYOUTS[layout]
    X, Y, _, _, _ = generic_data(20 * n, d, c, H, seed=5, dtype=np.float32)
    X /= np.float32(np.sqrt(d))
    paths = []
    for dtype in (np.float32, np.float64):
        problem = agf.Dense(X.astype(dtype), Y.astype(dtype), activation="relu")
        theta = np.random.default_rng(1).standard_normal((H, d + c)).astype(dtype)
        paths.append(agf.gradient_flow(problem, theta, 0.5, save_at=[0.0, 0.25, 0.5], rtol=1e-5))
    # Losses are sums of squares in double of residuals with some sqrt(m) roundings each.
    np.testing.assert_allclose(paths[0].loss, paths[1].loss, rtol=1e-4)
