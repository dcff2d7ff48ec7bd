"""Options of the verbs, as callers give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import finite_number
from ._problem import Problem

__all__ = ["flag", "loss_tolerance", "or_infinite", "tolerance"]


def loss_tolerance(problem: Problem, loss_tol: float | None) -> float:
    """Of one problem: 1e-10 of the zero network's loss unless given."""
    return 1e-10 * problem._loss_zero if loss_tol is None else finite_number(loss_tol, "loss_tol", low=0.0)


def tolerance(problem: Problem, rtol: float | None) -> float:
    """rtol, which the dtype must resolve."""
    single = problem._kind.dtype == "float32"
    if rtol is None:
        return 1e-5 if single else 1e-9
    value = finite_number(rtol, "rtol", above=0.0, high=0.1)
    least = 1e-5 if single else 1e-13
    if value < least:
        raise ValueError(
            f"rtol is {rtol!r} for {problem._kind.dtype}, expected at least {least:g}, which rounding still resolves"
        )
    return value


def or_infinite(value: float | None, name: str) -> float:
    """A positive number, None standing for infinity."""
    if value is None or (isinstance(value, float) and value == float("inf")):
        return float("inf")
    return finite_number(value, name, above=0.0)


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)
