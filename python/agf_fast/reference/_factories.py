"""The leaves by the names and arguments of the compiled core's factories, for those that differ in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ._dense import Dense
from ._diagonal import Diagonal
from ._modular import ModularAddition

__all__ = ["dense", "diagonal", "modular"]

dense = Dense


def diagonal(columns: NDArray[Any], y: NDArray[Any], depth: int) -> Diagonal:
    """The leaves of a diagonal network.

    Parameters
    ----------
    columns : (d, n) array, float32 or float64
        One row for each input.
    y : (n, 1) array
        Targets, in the dtype of the columns.
    depth : int
        Layers.

    Returns
    -------
    Diagonal
    """
    return Diagonal(columns.T, y, depth)


def modular(template: NDArray[Any], frequencies: Sequence[int]) -> ModularAddition:
    """The leaves of modular addition.

    Parameters
    ----------
    template : (p,) array, float32 or float64
        x.
    frequencies : sequence of int
        Where its transform is not zero, of which the sum over pairs has no need.

    Returns
    -------
    ModularAddition
    """
    del frequencies
    return ModularAddition(template)
