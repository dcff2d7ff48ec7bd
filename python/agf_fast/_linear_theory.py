"""Conjecture 4.1 of arXiv 2506.06489 for linear networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._factors import Factors
from ._theory import Theory

__all__ = ["conjecture"]

_COMMUTES = 1e-9
_EQUAL = 1e-9  # relative distance of singular values that are one to rounding


def conjecture(factors: Factors, width: int | None, loss_zero: float) -> Theory:
    """See `Linear.theory`. With Sigma_xx = inputs^T inputs and Sigma_yx = targets^T inputs."""
    inputs, targets = factors.inputs, factors.targets
    sigma_xx, sigma_yx = inputs.T @ inputs, targets.T @ inputs
    inner = sigma_yx.T @ sigma_yx
    size = float(np.linalg.norm(sigma_xx) * np.linalg.norm(inner))
    commutator = float(np.linalg.norm(sigma_xx @ inner - inner @ sigma_xx)) / size if size > 0 else 0.0
    commutes = commutator <= _COMMUTES
    # Sigma_yx Sigma_xx^+ Sigma_yx^T
    gain = targets.T @ targets
    modes = _by_singular_value(sigma_yx, gain) if commutes else np.linalg.eigh(gain)[1].T[::-1]
    mu = np.einsum("ja,ab,jb->j", modes, gain, modes)
    rank = int(np.linalg.matrix_rank(sigma_yx)) if size > 0 else 0
    count = min(rank, *sigma_yx.shape, *([] if width is None else [width]))
    best = targets.T @ np.linalg.pinv(inputs).T

    # sigma[k][j], j-th singular value of (I - P_k) Sigma_yx, both from 0; modes beyond K stay in the loss.
    sigma = []
    features = []
    for k in range(count + 1):
        learned = modes[:k].T @ modes[:k]
        sigma.append(np.linalg.svd(sigma_yx - learned @ sigma_yx, compute_uv=False))
        features.append(learned @ best)
    wait: list[float] = []
    for k in range(1, count + 1):
        grown = sum(sigma[i][k - i - 1] * wait[i] for i in range(k - 1))
        wait.append((1.0 - grown) / sigma[k - 1][0])
    total = float(mu.sum())
    levels = factors.least + 0.5 * (total - np.concatenate([[0.0], np.cumsum(mu[:count])]))
    if count == len(mu):
        levels[-1] = factors.least  # exactly
    return Theory.from_levels(
        levels,
        np.cumsum(wait),
        np.array(features[1:]).reshape(count, *sigma_yx.shape),
        time_kind="conjecture",
        utilities=[0.5 * row[0] for row in sigma[:count]],
        facts={"commutes": commutes, "commutator": commutator, "mu": mu[:count], "modes": modes[:count]},
        loss_zero=loss_zero,
    )


def _by_singular_value(sigma_yx: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Common eigenvectors of both, rows in falling order of the singular values of Sigma_yx, then of mu."""
    left, values, _ = np.linalg.svd(sigma_yx)
    rows = np.array(left.T)
    padded = np.concatenate([values, np.zeros(len(rows) - len(values))])
    first = 0
    for last in range(1, len(rows) + 1):
        if last == len(rows) or padded[first] - padded[last] > _EQUAL * padded[0]:
            block = rows[first:last]
            rows[first:last] = np.linalg.eigh(block @ gain @ block.T)[1].T[::-1] @ block
            first = last
    return rows
