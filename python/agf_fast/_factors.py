"""Moments as the few pseudo-samples that have them, which keeps half the digits that a product of moments would lose.

With inputs^T inputs = E[x x^T] and targets^T inputs = E[y x^T]:

    L = 1/2 E|y - P x|^2 = least + 1/2 |targets - inputs P^T|^2
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Factors", "of_moments", "of_samples"]

Array = NDArray[np.float64]


class Factors(NamedTuple):
    """Pseudo-samples, k of them, k the rank of E[x x^T], and the loss that no P gets below."""

    inputs: Array  # (k, d)
    targets: Array  # (k, c)
    least: float


def of_moments(sigma_xx: Array, sigma_yx: Array, trace_yy: float | None = None) -> Factors:
    """From Sigma_xx (d, d), Sigma_yx (c, d) and tr Sigma_yy; without the last, targets are taken to be noiseless.

    Directions without variance are left out, and with them what Sigma_yx has there.
    """
    variances, vectors = np.linalg.eigh(sigma_xx)
    kept = variances > len(variances) * np.finfo(np.float64).eps * variances[-1]
    spread, vectors = np.sqrt(variances[kept]), vectors[:, kept]
    targets = np.ascontiguousarray((sigma_yx @ vectors / spread).T)
    least = 0.0 if trace_yy is None else max(0.0, 0.5 * (trace_yy - float(np.sum(targets**2))))
    return Factors(np.ascontiguousarray(spread[:, None] * vectors.T), targets, least)


def of_samples(tiles: Iterable[tuple[Array, Array]], count: int) -> Factors:
    """From `count` samples, which come in tiles (x (b, d), y (b, c)), by an orthogonal factorisation of [x | y].

    Only the triangular factor of what came before is kept from one tile to the next.
    """
    factor = np.empty((0, 0))
    width = 0
    for x, y in tiles:
        rows, width = np.hstack([x, y]) / np.sqrt(count), x.shape[1]
        factor = np.asarray(np.linalg.qr(np.vstack([factor, rows]) if factor.size else rows, mode="r"))
    across, spread, vectors = np.linalg.svd(factor[:, :width], full_matrices=False)
    kept = spread > max(count, width) * np.finfo(np.float64).eps * spread[0]
    targets = across[:, kept].T @ factor[:, width:]
    rest = factor[:, width:] - across[:, kept] @ targets
    return Factors(np.ascontiguousarray(spread[kept, None] * vectors[kept]), targets, 0.5 * float(np.sum(rest**2)))
