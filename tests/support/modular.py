"""Modular addition: templates, their expanded data, error scales, and the first activations that theory predicts."""

from __future__ import annotations

import numpy as np

from support.problems import modular_template


def expanded(template):
    """Inputs (a.x, b.x) and targets (a + b).x of all p^2 pairs, row a p + b."""
    period = len(template)
    shifts = np.stack([np.roll(template, shift) for shift in range(period)])
    a, b = np.divmod(np.arange(period**2), period)
    return np.concatenate([shifts[a], shifts[b]], axis=1), np.ascontiguousarray(shifts[(a + b) % period])


def full_template(period, seed=0):
    """Every frequency, p/2 among them where there is one."""
    x = np.random.default_rng(seed).standard_normal(period)
    return x - x.mean()


def half_template(period):
    """Two frequencies, one of them p/2."""
    wave = modular_template(period, {2: 3.0}, {2: 0.4})
    return wave + 0.3 * np.cos(np.pi * np.arange(period))


# One frequency alone, which is p/2; full spectra of even and odd p; sparse ones of p with and without p/2.
TEMPLATES = {
    "two": np.array([1.0, -1.0]),
    "three": full_template(3),
    "full-even": full_template(8),
    "full-odd": full_template(13),
    "paper": modular_template(),
    "half": half_template(14),
}


def utility_maxima(template):
    """Theorem 5.1: Ubar_k = sqrt(2p/27) (sqrt 2 for k = p/2) |x^[k]|^3 / p^2, for k = 1 ... p/2."""
    period = len(template)
    k = np.arange(1, period // 2 + 1)
    maxima = np.sqrt(2 * period / 27) * np.abs(np.fft.rfft(template)[k]) ** 3 / period**2
    maxima[2 * k == period] *= np.sqrt(2)
    return maxima


def random_template(seed, least=1.4, most=2.0, count=3):
    """A template of `count` frequencies, and these in the order of their Ubar.

    p from 11 to 23, random frequencies and phases; Ubar^(1/3), which is proportional to |x^[k]| below p/2, falls by a
    factor from `least` to `most` from each to the next. The largest Ubar is 0.8.
    """
    rng = np.random.default_rng(seed)
    period = int(rng.integers(11, 24))
    frequencies = rng.permutation(np.arange(1, period // 2 + 1))[:count]
    if period % 2 == 0 and seed % 4 == 0 and period // 2 not in frequencies:
        frequencies[rng.integers(count)] = period // 2
    amplitudes = np.concatenate([[1.0], np.cumprod(1.0 / rng.uniform(least, most, count - 1))])
    amplitudes *= (0.8 * period**2 / np.sqrt(2 * period / 27)) ** (1 / 3)
    angle = 2 * np.pi * np.arange(period) / period
    template = np.zeros(period)
    for k, amplitude in zip(frequencies, amplitudes, strict=True):
        phase = rng.uniform(0, 2 * np.pi)
        if 2 * k == period:
            template += amplitude / 2 ** (1 / 6) / period * np.cos(k * angle) * np.sign(np.cos(phase))
        else:
            template += 2 * amplitude / period * np.cos(k * angle + phase)
    return template, tuple(int(k) for k in frequencies)


def first_activation_times(template, state):
    """The time at which the part of each neuron at each frequency k = 1 ... p/2 would reach norm 1, (H, p/2).

    With r the target, dtheta/dt = grad U falls apart: in components z = (u, v, w) at frequency k, complex numbers in
    the phase of the template, U is 3 sqrt 3 Ubar_k Re(z_u z_v conj z_w), whose flow is the same for all k, p/2 included
    (where z is real). From small z it blows up, and the time to norm 1 is that to infinity less 1 / (3 Ubar_k).
    Followed by Runge-Kutta steps of a tenth of 1/|z| to 10^4 times the initial norm, where it is aligned: good to about
    1e-4.
    """
    period = len(template)
    transform = np.fft.rfft(template)[1:]
    k = np.arange(1, period // 2 + 1)
    theta = np.exp(state.log_norm)[:, None] * np.asarray(state.direction)
    z = np.fft.rfft(theta.reshape(len(theta), 3, period), axis=2)[:, :, 1:] / np.sqrt(period)
    z *= np.where(2 * k == period, 1.0, np.sqrt(2.0)) * np.exp(-1j * np.angle(transform))
    z = np.moveaxis(z, 1, 2).reshape(-1, 3)

    def slope(z):
        u, v, w = z.T
        return np.stack([np.conj(v) * w, np.conj(u) * w, u * v], axis=1)

    start, time = np.linalg.norm(z, axis=1), np.zeros(len(z))
    while (growing := (size := np.linalg.norm(z, axis=1)) < 1e4 * start).any():
        h = np.where(growing, 0.1 / size, 0.0)
        step = h[:, None]
        k1 = slope(z)
        k2 = slope(z + step / 2 * k1)
        k3 = slope(z + step / 2 * k2)
        z = z + step / 6 * (k1 + 2 * k2 + 2 * k3 + slope(z + step * k3))
        time += h
    # The rest of the way to infinity, aligned: d|z|/dt = |z|^2 / sqrt 3.
    time = (time + np.sqrt(3.0) / size).reshape(len(theta), len(k))
    with np.errstate(divide="ignore"):
        return time / (3 * np.sqrt(3.0) * utility_maxima(template)) - 1 / (3 * utility_maxima(template))


class Scales:
    """Per-neuron error scales: each sum of products replaced by the product of its norms.

    |A(a)| = |<u, a.x>| <= |u| |x| whichever way it is taken, entry by entry or mode by mode, so that |z| <= c =
    (|u| + |v|) |x|, and the residual's rows are at most R = |x| + sum_i c_i^2 |w_i|.
    """

    def __init__(self, template, theta, residual, v):
        size = np.linalg.norm(template.astype(np.float64))
        c, s = self._sizes(theta, size)
        dc, ds = self._sizes(v, size)
        x = np.sqrt(2.0) * size
        rho = np.sqrt(np.mean(np.sum(residual.astype(np.float64) ** 2, axis=1)))
        R = size + np.sum(c**2 * s)
        dR = np.sum(2 * c * dc * s + c**2 * ds)
        self.residual = R
        self.utility = c**2 * s * rho
        self.gradient = (2 * c * s * x * rho + c**2 * rho)[:, None]
        self.own_gradient = (2 * c * s * x * R + c**2 * R)[:, None]
        by_w = 2 * c * dc * R + c**2 * dR
        self.hessian_vector = (by_w + 2 * x * (dc * s * R + c * ds * R + c * s * dR))[:, None]

    @staticmethod
    def _sizes(theta, size):
        u, v, w = np.moveaxis(theta.astype(np.float64).reshape(len(theta), 3, -1), 1, 0)
        return (np.linalg.norm(u, axis=1) + np.linalg.norm(v, axis=1)) * size, np.linalg.norm(w, axis=1)
