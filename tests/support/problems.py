"""Data with known answers."""

from __future__ import annotations

import numpy as np

MODULAR_PERIOD = 20
MODULAR_SPECTRUM = {1: 10.0, 3: 5.0, 5: 2.5}


def modular_template(period=MODULAR_PERIOD, spectrum=None, phases=None):
    """Mean-free template whose DFT has the given moduli: x_j = (2/p) sum_k |x_k| cos(2 pi j k / p + phase_k)."""
    spectrum = MODULAR_SPECTRUM if spectrum is None else spectrum
    phases = {} if phases is None else phases
    j = np.arange(period)
    return sum(
        2.0 / period * modulus * np.cos(2.0 * np.pi * j * k / period + phases.get(k, 0.0))
        for k, modulus in spectrum.items()
    )


def modular_data(period=MODULAR_PERIOD, spectrum=None, phases=None):
    """All p^2 pairs: inputs (a.x, b.x), target (a + b).x, where a.x is the template shifted by a."""
    template = modular_template(period, spectrum, phases)
    shifts = np.stack([np.roll(template, shift) for shift in range(period)])
    a, b = np.divmod(np.arange(period**2), period)
    return np.concatenate([shifts[a], shifts[b]], axis=1), np.ascontiguousarray(shifts[(a + b) % period])


def modular_plateau(done, period=MODULAR_PERIOD, spectrum=None):
    """2 L / p once the frequencies `done` are learned: (2/p^2) * sum of |x_k|^2 over the others (k < p/2)."""
    spectrum = MODULAR_SPECTRUM if spectrum is None else spectrum
    return 2.0 / period**2 * sum(modulus**2 for k, modulus in spectrum.items() if k not in done)


def whitened(n, d, rng):
    """n samples with E[x x^T] = 1 exactly (to rounding)."""
    q, _ = np.linalg.qr(rng.standard_normal((n, d)))
    return np.sqrt(n) * q


def linear_data(singular_values, n=12, seed=0):
    """Whitened inputs and Y = X M^T with M of the given singular values between random orthogonal frames."""
    rng = np.random.default_rng(seed)
    k = len(singular_values)
    X = whitened(n, k, rng)
    left, _ = np.linalg.qr(rng.standard_normal((k, k)))
    right, _ = np.linalg.qr(rng.standard_normal((k, k)))
    return X, np.ascontiguousarray(X @ (left * np.asarray(singular_values) @ right.T).T)


def teacher_data(n=60, d=5, c=2, teachers=3, seed=3):
    """Targets of a small ReLU network on Gaussian inputs: what a ReLU student can learn exactly."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    w = rng.standard_normal((teachers, d))
    a = rng.standard_normal((teachers, c)) * np.array([1.5, 1.0, 0.6, 0.4])[:teachers, None]
    return X, np.ascontiguousarray(np.maximum(X @ w.T, 0.0) @ a / np.sqrt(d))


def generic_data(n=37, d=5, c=3, H=6, seed=0, dtype=np.float64):
    """Gaussian X, Y, theta, residual and v: sizes are odd on purpose, so that vector remainders are exercised."""
    rng = np.random.default_rng(seed)
    shapes = ((n, d), (n, c), (H, d + c), (n, c), (H, d + c))
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)
