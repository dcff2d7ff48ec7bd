"""What the experiments on natural images share: the samples, their whitening, the best linear predictor."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._data import DataError
from .._images import Images
from ._experiment import Setup

__all__ = ["best_linear_loss", "natural", "rank_correlation", "whiten"]

# As many as the digits of the package are: larger archives are cut to it, so that every experiment stays in its budget.
_SAMPLES = 1797


def natural(setup: Setup, samples: int = _SAMPLES) -> Images:
    """The first images of the user's archive or the digits, one channel (colours averaged)."""
    images = setup.images().first(min(samples, _SAMPLES)).grey()
    for what, values in (("one label", images.labels), ("nothing but one image", images.pixels)):
        if (values == values[0]).all():
            raise DataError(f"{setup.data}: the first {len(values)} images have {what}, expected several to tell apart")
    return images


def whiten(pixels: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """U_r V_r' sqrt(n/d) for X = U S V', singular values above 1e-10 of the largest; and r.

    E[x x'] is then the projector on the span of the images, over d, so that E|x|^2 = r/d.
    """
    n, d = pixels.shape
    u, s, vt = np.linalg.svd(pixels, full_matrices=False)
    rank = int(np.count_nonzero(s > 1e-10 * s[0]))
    return np.ascontiguousarray(u[:, :rank] @ vt[:rank] * np.sqrt(n / d)), rank


def best_linear_loss(X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """min over B of 1/2 E|y - B x|^2."""
    coefficients = np.linalg.lstsq(X, Y, rcond=None)[0]
    return 0.5 * float(np.mean(np.sum((Y - X @ coefficients) ** 2, axis=1)))


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's: the correlation of ranks, equal values sharing the mean of theirs."""
    return float(np.corrcoef(_ranks(np.asarray(one)), _ranks(np.asarray(other)))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - 0.5 * (count - 1))[place]
    return ranks
