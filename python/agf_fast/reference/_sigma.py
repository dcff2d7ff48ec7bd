"""Activations sigma with their first two derivatives, and the leading homogeneous term at 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

Array = NDArray[np.float64]

NAMES = ("identity", "relu", "leaky_relu", "square", "power", "tanh", "gelu", "elu", "silu", "erf")

# sigma(z) = slope z + O(z^2) for those that are not homogeneous.
_SLOPE_AT_ZERO = {"tanh": 1.0, "gelu": 0.5, "elu": 1.0, "silu": 0.5, "erf": 2.0 / np.sqrt(np.pi)}


@dataclass(frozen=True)
class Sigma:
    """An activation by name; `parameter` is the slope of leaky_relu below 0, the exponent of power."""

    name: str
    parameter: float = 0.0

    @property
    def degree(self) -> int:
        """Degree k of the leading term at 0: sigma(c z) ~ c^k sigma(z)."""
        if self.name == "square":
            return 2
        return int(self.parameter) if self.name == "power" else 1

    @property
    def kappa(self) -> float:
        """Degree of a neuron a sigma(w . x) in (w, a)."""
        return 1.0 + self.degree

    @property
    def homogeneous(self) -> bool:
        """Whether sigma is its own leading term."""
        return self.name not in _SLOPE_AT_ZERO

    @property
    def conserved_degree(self) -> int | None:
        """k of the conserved k |a|^2 - |w|^2, None where sigma is not homogeneous."""
        return self.degree if self.homogeneous else None

    @property
    def kinked(self) -> bool:
        """Whether sigma' has a step at 0."""
        return self.name in ("relu", "leaky_relu")

    @property
    def slope_below(self) -> float:
        """sigma' below a kink; above it is 1."""
        return self.parameter if self.name == "leaky_relu" else 0.0

    def leading(self) -> Sigma:
        """The leading homogeneous term at 0."""
        return self if self.homogeneous else Sigma("linear", _SLOPE_AT_ZERO[self.name])

    def value(self, z: Array) -> Array:
        """sigma(z)."""
        match self.name:
            case "identity":
                return z
            case "linear":
                return self.parameter * z
            case "relu" | "leaky_relu":
                return np.where(z > 0.0, z, self.slope_below * z)
            case "square":
                return z * z
            case "power":
                return z**self.degree
            case "tanh":
                return np.tanh(z)
            case "gelu":
                return np.asarray(z * ndtr(z))
            case "elu":
                return np.where(z > 0.0, z, np.expm1(np.minimum(z, 0.0)))
            case "silu":
                return np.asarray(z * expit(z))
            case _:
                return np.asarray(erf(z))

    def first(self, z: Array) -> Array:
        """sigma'(z); at a kink the value from below."""
        match self.name:
            case "identity":
                return np.ones_like(z)
            case "linear":
                return np.full_like(z, self.parameter)
            case "relu" | "leaky_relu":
                return np.where(z > 0.0, 1.0, self.slope_below)
            case "square":
                return 2.0 * z
            case "power":
                return self.degree * z ** (self.degree - 1)
            case "tanh":
                # 1 - tanh^2 cancels for large |z|; 4 s (1 - s) of the logistic at 2z does not.
                return np.asarray(4.0 * expit(2.0 * z) * expit(-2.0 * z))
            case "gelu":
                return np.asarray(ndtr(z) + z * _normal(z))
            case "elu":
                return np.where(z > 0.0, 1.0, np.exp(np.minimum(z, 0.0)))
            case "silu":
                return np.asarray(expit(z) + z * (expit(z) * expit(-z)))
            case _:
                return np.asarray(2.0 / np.sqrt(np.pi) * np.exp(-(np.clip(z, -50.0, 50.0) ** 2)))

    def second(self, z: Array) -> Array:
        """sigma''(z), without the delta at a kink."""
        match self.name:
            case "identity" | "linear" | "relu" | "leaky_relu":
                return np.zeros_like(z)
            case "square":
                return np.full_like(z, 2.0)
            case "power":
                return self.degree * (self.degree - 1) * z ** (self.degree - 2)
            case "tanh":
                return -2.0 * np.tanh(z) * self.first(z)
            case "gelu":
                return (2.0 - np.clip(z, -50.0, 50.0) ** 2) * _normal(z)
            case "elu":
                return np.where(z > 0.0, 0.0, np.exp(np.minimum(z, 0.0)))
            case "silu":
                return np.asarray(expit(z) * expit(-z) * (2.0 + z * (1.0 - 2.0 * expit(z))))
            case _:
                return -2.0 * np.clip(z, -50.0, 50.0) * self.first(z)


def _normal(z: Array) -> Array:
    # Clipped where it has underflowed, so that squares of huge arguments do not overflow.
    return np.asarray(np.exp(-0.5 * np.clip(z, -50.0, 50.0) ** 2) / np.sqrt(2.0 * np.pi))
