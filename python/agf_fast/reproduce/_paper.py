"""The data of the paper's experiments, where it fixed them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._attention import Attention
from .._diagonal import Diagonal
from .._linear import Linear
from .._modular import ModularAddition
from .._state import State
from .._trajectory import Trajectory

__all__ = [
    "MODULI",
    "PERIOD",
    "attention",
    "bases",
    "commuting",
    "components_learned",
    "five",
    "learned",
    "modular_addition",
    "plane",
    "spectrum",
    "template",
]

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


def components_learned(problem: Attention, path: Trajectory) -> list[int]:
    """For each jump, the principal component along which V grew most, in units of its equilibrium value."""
    full = problem.theory().facts["equilibrium"]
    shares = [np.zeros(problem.dimension), *(np.asarray(problem.spectrum(state)) / full for state in path.states)]
    return [int(np.argmax(after - before)) for before, after in itertools.pairwise(shares)]


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


def plane() -> Diagonal:
    """n = d = 2: X the lower Cholesky factor of R diag(1, 25) R', R a turn by +150 degrees; beta* = (-0.2, 2)."""
    turn = np.deg2rad(150.0)
    basis = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    X = np.linalg.cholesky(basis @ np.diag([1.0, 25.0]) @ basis.T)
    return Diagonal(X, X @ np.array([-0.2, 2.0]))


def five(seed: int = 10) -> tuple[Diagonal, NDArray[np.float64]]:
    """n = 20, d = 5, Gaussian of covariance diag(1, 1/2, 1/3, 1/4, 1/5), beta* = 10 N(0, 1), from the legacy generator;
    and beta*."""
    rng = np.random.RandomState(seed)
    X = rng.multivariate_normal(np.zeros(5), np.diag(1.0 / np.arange(1, 6)), 20)
    weights = 10.0 * rng.randn(5)
    return Diagonal(X, X @ weights), weights


def learned(problem: Diagonal, state: State) -> NDArray[np.float64]:
    """The coefficients of active coordinates, as alternating gradient flow counts them: the others are 0."""
    return np.where(np.asarray(state.active), np.asarray(problem.coefficients(state)), 0.0)
