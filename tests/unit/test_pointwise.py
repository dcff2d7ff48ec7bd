"""sigma, sigma', sigma'' of every loop and every instruction set of this machine, against multiprecision."""

from __future__ import annotations

from functools import cache

import mpmath
import numpy as np
import pytest

from agf_fast import _core
from support.activations import BY_LABEL

SETS = _core.info()["isa_available"]
LOOPS = ("value", "pair", "curve", "jets")
SMOOTH = ("tanh", "gelu", "elu", "silu", "erf")
# What the library promises for |z| <= 8, in ulp of the larger of the value and its largest term.
PROMISED = 4.0


def run(isa, loop, label, z, **keywords):
    activation = BY_LABEL[label]
    return _core.pointwise(isa, loop, activation.name, activation.parameter, z[None], **keywords)


def jet(label, z):
    """(sigma, sigma', sigma'') at one point, each with its largest term."""
    mp = mpmath.mp
    if label == "tanh":
        value, slope = mp.tanh(z), mp.sech(z) ** 2
        return (value, value), (slope, slope), (-2 * value * slope,) * 2
    if label == "erf":
        slope = 2 / mp.sqrt(mp.pi) * mp.exp(-z * z)
        return (mp.erf(z),) * 2, (slope, slope), (-2 * z * slope,) * 2
    if label == "elu":
        slope, bend = (mp.mpf(1), mp.mpf(0)) if z > 0 else (mp.exp(z),) * 2
        return (z if z > 0 else mp.expm1(z),) * 2, (slope, slope), (bend, bend)
    if label == "gelu":
        p, density = mp.erfc(-z / mp.sqrt(2)) / 2, mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
        return (
            (z * p, z * p),
            (p + z * density, max(p, abs(z) * density)),
            (density * (2 - z * z), density * max(2, z * z)),
        )
    p, q = 1 / (1 + mp.exp(-z)), 1 / (1 + mp.exp(z))
    lean = -z * mp.tanh(z / 2)
    return (z * p, z * p), (p * (1 + z * q), p * max(1, abs(z * q))), (p * q * (2 + lean), p * q * max(2, abs(lean)))


@cache
def exact(label, dtype):
    """Points, and (high, low, largest term) of each order, in doubles."""
    generator = np.random.default_rng(5)
    size = np.concatenate([np.linspace(1 / 64, 8, 512), 8 * generator.random(128), np.logspace(-300, -2, 64)])
    if dtype == "float32":
        size = size[size > 1e-30]
    z = np.concatenate([-size[::-1], [0.0], size]).astype(dtype)
    orders = [[], [], []]
    with mpmath.workprec(120):
        for point in z:
            for order, (value, term) in zip(orders, jet(label, mpmath.mpf(float(point))), strict=True):
                high = float(value)
                order.append((high, float(value - high), max(abs(high), abs(float(term)))))
    return z, [np.array(order).T for order in orders]


def ulps(got, high, low, largest, dtype):
    unit = np.spacing(largest.astype(dtype)).astype(np.float64)
    return np.abs((got.astype(np.float64) - high) - low) / unit


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("label", SMOOTH)
def test_accuracy(isa, loop, label, dtype):
    z, orders = exact(label, dtype.name)
    for got, (high, low, largest) in zip(run(isa, loop, label, z), orders, strict=False):
        error = ulps(got, high, low, largest, dtype)
        assert np.max(error) <= PROMISED, z[np.argmax(error)]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", SMOOTH)
def test_every_few_thousandth_float(isa, label):
    """The reference in double: its few ulp, times z^2 where a square is rounded, are 1e-7 of a float's."""
    size = np.arange(0, np.float32(8).view(np.uint32), 7919, dtype=np.uint32).view(np.float32)
    z = np.concatenate([-size[::-1], size])
    wide = z.astype(np.float64)
    activation = BY_LABEL[label]
    terms = [np.abs(activation(wide, order)) for order in range(3)]
    if label == "gelu":
        density = np.exp(-0.5 * wide**2) / np.sqrt(2 * np.pi)
        terms[1] = np.maximum(terms[1], np.abs(wide) * density)
        terms[2] = np.maximum(terms[2], density * np.maximum(2, wide**2))
    if label == "silu":
        p = np.exp(np.minimum(wide, 0)) / (1 + np.exp(-np.abs(wide)))
        q = p[::-1]
        terms[1] = np.maximum(terms[1], p * np.maximum(1, np.abs(wide) * q))
        terms[2] = np.maximum(terms[2], p * q * np.maximum(2, np.abs(wide * (q - p))))
    for order, got in enumerate(run(isa, "jets", label, z)):
        error = ulps(got, activation(wide, order), 0.0, terms[order], np.float32)
        assert np.max(error) <= PROMISED, z[np.argmax(error)]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", SMOOTH)
def test_far_out(isa, label, dtype):
    """Limits where the exponential vanishes, and never inf times 0; below the promised range the tail keeps its digits
    until it is denormal."""
    largest = np.finfo(dtype).max
    z = np.array([30.0, 1e3, 1e30, largest, np.inf], dtype=dtype)
    value, slope, bend = run(isa, "jets", label, z)
    rising = label in ("gelu", "elu", "silu")
    np.testing.assert_allclose(value, z if rising else 1, rtol=1e-12)
    np.testing.assert_allclose(slope, 1 if rising else 0, atol=1e-12)
    np.testing.assert_allclose(bend, 0, atol=1e-11)
    value, slope, bend = run(isa, "jets", label, -z)
    np.testing.assert_allclose(value, 0 if label in ("gelu", "silu") else -1, atol=1e-11)
    np.testing.assert_allclose(slope, 0, atol=1e-11)
    np.testing.assert_allclose(bend, 0, atol=1e-11)
    assert not slope[1:].any() and not bend[1:].any()
    assert all(np.isnan(part).all() for part in run(isa, "jets", label, np.full(40, np.nan, dtype=dtype)))


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", SMOOTH)
def test_tails(isa, label, dtype):
    """Relative accuracy far below the promised range, down to the denormal numbers, which are reached by degrees."""
    ends = {"tanh": 320, "gelu": 36, "elu": 700, "silu": 700, "erf": 25} if dtype == np.float64 else {"gelu": 12.5}
    end = ends.get(label, 40 if label == "tanh" else 80 if label in ("elu", "silu") else 9)
    z = -np.linspace(8, end, 200).astype(dtype)
    with mpmath.workprec(120):
        expected = np.array([[float(pair[0]) for pair in jet(label, mpmath.mpf(float(point)))] for point in z]).T
    for got, wanted in zip(run(isa, "jets", label, z), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=6 * np.finfo(dtype).eps)
    # From there to 0: rounded to the spacing of denormal numbers, p of silu before it is multiplied by z.
    z = -np.linspace(end, 1.2 * end, 300).astype(dtype)
    with mpmath.workprec(120):
        expected = np.array([float(jet(label, mpmath.mpf(float(point)))[1][0]) for point in z])
    slope = run(isa, "jets", label, z)[1]
    unit = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)
    assert np.all(np.abs(slope - expected) <= 6 * unit + np.abs(z) * np.finfo(dtype).smallest_subnormal)
    # The smallest numbers of all go through.
    tiny = np.array([np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny], dtype=dtype)
    gain = BY_LABEL[label](0.0, 1)
    np.testing.assert_allclose(run(isa, "value", label, tiny)[0], gain * tiny, atol=tiny[0], rtol=1e-6)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", list(BY_LABEL))
@pytest.mark.parametrize("loop", LOOPS)
def test_same_bits_wherever_in_a_tile(isa, label, loop, dtype):
    """A vector's lanes and what is left over at its end compute the same."""
    z = (3 * np.random.default_rng(1).standard_normal(500)).astype(dtype)
    whole = run(isa, loop, label, z)
    for begin, end in [(0, n) for n in range(1, 34)] + [(3, 40), (5, 100), (17, 18), (1, 500)]:
        for part, all_of_it in zip(run(isa, loop, label, z[begin:end].copy()), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[begin:end])


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", ["identity", "relu", "leaky_relu", "power2", "power3", "power4", "power5"])
def test_piecewise_polynomials(isa, label, dtype):
    """Exact up to the roundings of three products."""
    z = (3 * np.random.default_rng(2).standard_normal(200)).astype(dtype)
    activation = BY_LABEL[label]
    for order, got in enumerate(run(isa, "jets", label, z)):
        np.testing.assert_allclose(got, activation(z, order), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("label", ["relu", "leaky_relu"])
def test_ramps(isa, label, dtype):
    """A ramp of half-width 1/2 joins the two branches with their slopes, and is their mean slope at 0."""
    lower = BY_LABEL[label].parameter
    z = np.array([-2, -0.5, -0.25, 0, 0.25, 0.5, 2], dtype=dtype)
    value, slope, bend = run(isa, "jets", label, z, ramp=0.5)
    rise = (1 - lower) * np.array([0, 0, 0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(slope, lower + rise, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(bend, (1 - lower) * (np.abs(z) < 0.5), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(value[[0, 1, 5, 6]], BY_LABEL[label](z[[0, 1, 5, 6]]), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (("sse9", "jets", "tanh", 0.0, np.ones((1, 2))), ValueError, "isa: got 'sse9'"),
        ((SETS[0], "loop", "tanh", 0.0, np.ones((1, 2))), ValueError, "loop: got 'loop'"),
        ((SETS[0], "jets", "tan", 0.0, np.ones((1, 2))), ValueError, "activation: got 'tan'"),
        ((SETS[0], "jets", "tanh", 0.0, np.ones(2)), ValueError, "z: got shape"),
        ((SETS[0], "jets", "tanh", 0.0, np.ones((1, 2), dtype=int)), TypeError, "z: got dtype"),
    ],
)
def test_refusals(arguments, error, named):
    with pytest.raises(error, match=named):
        _core.pointwise(*arguments)
