"""The data of the paper's experiments, where it fixed them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._attention import Attention
from .._linear import Linear
from .._modular import ModularAddition

__all__ = ["MODULI", "PERIOD", "attention", "bases", "commuting", "modular_addition", "spectrum", "template"]

PERIOD = 20
MODULI = {1: 10.0, 3: 5.0, 5: 2.5}


def template(moduli: dict[int, float] | None = None, period: int = PERIOD) -> NDArray[np.float64]:
    """The template whose Fourier transform has these moduli, all in phase."""
    transform = np.zeros(period // 2 + 1)
    for frequency, modulus in (MODULI if moduli is None else moduli).items():
        transform[frequency] = modulus
    return np.fft.irfft(transform, n=period)


def modular_addition() -> ModularAddition:
    """p = 20, with |x^[k]| = 10, 5, 2.5 at k = 1, 3, 5."""
    return ModularAddition(template())


def spectrum() -> NDArray[np.float64]:
    """(1, 1/2, 1/3, 1/4), scaled to trace 2."""
    values = 1.0 / np.arange(1, 5)
    return np.asarray(2.0 * values / values.sum())


def attention(context: int = 32) -> Attention:
    """D = 4, N = 32."""
    return Attention(np.diag(spectrum()), context=context)


def commuting(size: int, seed: int) -> tuple[Linear, dict[str, Any]]:
    """Linear data in random bases: singular values j^-0.7 of Sigma_yx, eigenvalues j^-0.5 of Sigma_xx, commuting."""
    left, right = bases(size, seed)
    strength = np.arange(1, size + 1) ** -0.7
    variance = np.arange(1, size + 1) ** -0.5
    problem = Linear.from_moments(right @ np.diag(variance) @ right.T, left @ np.diag(strength) @ right.T)
    return problem, {"strength": strength, "variance": variance, "left": left, "right": right}


def bases(size: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two random orthogonal matrices."""
    rng = np.random.default_rng(seed)
    first, second = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    return first, second
