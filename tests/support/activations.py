"""The activations of Dense with their first three derivatives, written a second time and in no backend's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, erfc, expit

ROOT_TWO_PI = np.sqrt(2.0 * np.pi)


@dataclass(frozen=True)
class Activation:
    """sigma and its derivatives; `degree` is that of the leading term at 0, so kappa = degree + 1."""

    label: str
    name: str
    parameter: float
    degree: int
    homogeneous: bool
    kinked: bool
    derivatives: tuple[Callable, Callable, Callable, Callable]

    def __call__(self, z, order=0):
        return self.derivatives[order](np.asarray(z, dtype=np.float64))

    @property
    def kappa(self):
        return self.degree + 1

    @property
    def keywords(self):
        """Keywords of the public `Dense`."""
        keywords = {"activation": self.name}
        if self.name == "leaky_relu":
            keywords["slope"] = self.parameter
        if self.name == "power":
            keywords["exponent"] = int(self.parameter)
        return keywords


def _zero(z):
    return np.zeros_like(z)


def _power(k):
    def derivative(order):
        factor = float(np.prod([k - j for j in range(order)])) if order else 1.0
        return lambda z: factor * z ** max(k - order, 0)

    return tuple(derivative(order) for order in range(4))


def _leaky(slope):
    return (
        lambda z: np.where(z > 0, z, slope * z),
        lambda z: np.where(z > 0, 1.0, slope),
        _zero,
        _zero,
    )


def _normal(z):
    return np.exp(-0.5 * z * z) / ROOT_TWO_PI


def _gelu():
    return (
        lambda z: z * 0.5 * erfc(-z / np.sqrt(2.0)),
        lambda z: 0.5 * erfc(-z / np.sqrt(2.0)) + z * _normal(z),
        lambda z: (2.0 - z * z) * _normal(z),
        lambda z: (z**3 - 4.0 * z) * _normal(z),
    )


def _tanh():
    def slope(z):
        small = np.exp(-2.0 * np.abs(z))
        return 4.0 * small / (1.0 + small) ** 2

    return (
        np.tanh,
        slope,
        lambda z: -2.0 * np.tanh(z) * slope(z),
        lambda z: slope(z) * (4.0 - 6.0 * slope(z)),
    )


def _elu():
    def below(z):
        return np.exp(np.minimum(z, 0.0))

    return (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
        lambda z: np.where(z > 0, 1.0, below(z)),
        lambda z: np.where(z > 0, 0.0, below(z)),
        lambda z: np.where(z > 0, 0.0, below(z)),
    )


def _silu():
    def logistic(z):
        s = expit(z)
        q = s * expit(-z)
        return s, q

    def first(z):
        s, q = logistic(z)
        return s + z * q

    def second(z):
        s, q = logistic(z)
        return q * (2.0 + z * (1.0 - 2.0 * s))

    def third(z):
        s, q = logistic(z)
        return q * (3.0 * (1.0 - 2.0 * s) + z * (1.0 - 6.0 * q))

    return (lambda z: z * expit(z), first, second, third)


def _erf():
    def slope(z):
        return 2.0 / np.sqrt(np.pi) * np.exp(-z * z)

    return (
        erf,
        slope,
        lambda z: -2.0 * z * slope(z),
        lambda z: (4.0 * z * z - 2.0) * slope(z),
    )


ACTIVATIONS = (
    Activation("identity", "identity", 0.0, 1, True, False, _power(1)),
    Activation("relu", "relu", 0.0, 1, True, True, _leaky(0.0)),
    Activation("leaky_relu", "leaky_relu", 0.1, 1, True, True, _leaky(0.1)),
    Activation("square", "square", 0.0, 2, True, False, _power(2)),
    *(Activation(f"power{k}", "power", float(k), k, True, False, _power(k)) for k in (2, 3, 4, 5)),
    Activation("tanh", "tanh", 0.0, 1, False, False, _tanh()),
    Activation("gelu", "gelu", 0.0, 1, False, False, _gelu()),
    Activation("elu", "elu", 0.0, 1, False, False, _elu()),
    Activation("silu", "silu", 0.0, 1, False, False, _silu()),
    Activation("erf", "erf", 0.0, 1, False, False, _erf()),
)
BY_LABEL = {activation.label: activation for activation in ACTIVATIONS}
