"""Arrays of doubles with an exponent of their own: relative accuracy of a double at any scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Wide"]

_LOG2 = float(np.log(2.0))
_EMPTY = -(2**60)  # exponent that a zero counts with
_FAR = 3000  # exponents further apart than any two doubles
# A sum this much smaller than its terms is rounding that stands for zero.
_CANCELLED = 16.0 * np.finfo(np.float64).eps


class Wide:
    """mantissa * 2^exponent, elementwise; 1/2 <= |mantissa| < 1, or zero.

    Parameters
    ----------
    value : array
        Doubles.
    exponent : array of int, default 0
        Powers of two that they are multiplied by.
    """

    def __init__(self, value: Any, exponent: Any = 0) -> None:
        mantissa, shift = np.frexp(np.asarray(value, dtype=np.float64))
        self.mantissa: NDArray[np.float64] = mantissa
        self.exponent: NDArray[np.int64] = np.where(mantissa == 0.0, 0, shift.astype(np.int64) + exponent)

    @classmethod
    def exp(cls, x: Any) -> Wide:
        """e^x of doubles of any size."""
        x = np.asarray(x, dtype=np.float64)
        shift = np.rint(x / _LOG2)
        # ln 2 in two parts.
        return cls(np.exp((x - shift * _LOG2) - shift * 2.3190468138462996e-17), shift.astype(np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mantissa.shape

    @property
    def T(self) -> Wide:
        return Wide(self.mantissa.T, self.exponent.T)

    def __getitem__(self, key: Any) -> Wide:
        return Wide(self.mantissa[key], self.exponent[key])

    def __neg__(self) -> Wide:
        return Wide(-self.mantissa, self.exponent)

    def __mul__(self, other: Wide) -> Wide:
        return Wide(self.mantissa * other.mantissa, self.exponent + other.exponent)

    def __truediv__(self, other: Wide) -> Wide:
        return Wide(self.mantissa / other.mantissa, self.exponent - other.exponent)

    def __add__(self, other: Wide) -> Wide:
        return _sum(*(np.stack(np.broadcast_arrays(a, b)) for a, b in _pairs(self, other)))

    def __sub__(self, other: Wide) -> Wide:
        return self + -other

    def __matmul__(self, other: Wide) -> Wide:
        """Product of matrices."""
        mantissa = self.mantissa.T[:, :, None] * other.mantissa[:, None, :]
        return _sum(mantissa, self.exponent.T[:, :, None] + other.exponent[:, None, :])

    def sqrt(self) -> Wide:
        """Of numbers that are not negative."""
        odd = self.exponent % 2
        return Wide(np.sqrt(np.ldexp(self.mantissa, odd)), (self.exponent - odd) // 2)

    def norms(self) -> Wide:
        """Of columns."""
        return _sum(self.mantissa**2, 2 * self.exponent).sqrt()

    def log(self) -> NDArray[np.float64]:
        """ln|x|."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.abs(self.mantissa)) + _LOG2 * self.exponent)

    def top(self) -> int:
        """The largest exponent."""
        return int(np.where(self.mantissa == 0.0, _EMPTY, self.exponent).max(initial=_EMPTY))

    def scaled(self, shift: int) -> NDArray[np.float64]:
        """x / 2^shift in doubles."""
        return np.asarray(np.ldexp(self.mantissa, np.clip(self.exponent - shift, -_FAR, _FAR)))


def _pairs(a: Wide, b: Wide) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    return (a.mantissa, b.mantissa), (a.exponent, b.exponent)


def _sum(mantissa: NDArray[np.float64], exponent: NDArray[np.int64]) -> Wide:
    """Over the first axis; zero where nothing but rounding is left."""
    top = np.where(mantissa == 0.0, _EMPTY, exponent).max(axis=0)
    terms = np.ldexp(mantissa, np.clip(exponent - top, -_FAR, 0))
    total = terms.sum(axis=0)
    return Wide(np.where(np.abs(total) > _CANCELLED * np.abs(terms).max(axis=0), total, 0.0), top)
