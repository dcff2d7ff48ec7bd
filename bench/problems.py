"""The frozen problems. Modular addition's data are those of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import agf_fast as agf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.problems import MODULAR_PERIOD, modular_template
from support.problems import modular_data as modular_data
from support.problems import teacher_data as teacher_data

Sized = tuple[Any, int | None]

MODULAR_WIDTH = 18
MODULAR_SCALE = 1e-2
# 2 L / p after the first three jumps, and after the fifth, where the order of neurons no longer matters.
MODULAR_LEVELS = (0.59959, 0.40936, 0.28390)
MODULAR_FIFTH = 0.15626
MODULAR_RUN: dict[str, Any] = {"active_time": 100.0, "rtol": 1e-6}


def leaf_data(size: list[int], dtype: str) -> tuple[Any, Any, Any]:
    """X (n, d), theta (H, d + c), residual (n, c) for size = (n, d, c, H).

    X and w are multiples of 1/4: every z = w.x is then exact in either dtype, so that nobody's rounding moves a sample
    across the kink, which would change a gradient by far more than rounding does."""
    n, d, c, H = size
    rng = np.random.default_rng(0)
    X, theta, residual = (rng.standard_normal(shape) for shape in ((n, d), (H, d + c), (n, c)))
    theta[:, :d] = np.round(4.0 * theta[:, :d]) / 4.0
    return (np.round(4.0 * X) / 4.0).astype(dtype), theta.astype(dtype), residual.astype(dtype)


def modular(kind: str) -> agf.Problem:
    """p = 20 modular addition as "ModularAddition", or as "Dense" on its 400 pairs."""
    if kind == "ModularAddition":
        return agf.ModularAddition(modular_template())
    X, Y = modular_data()
    return agf.Dense(X, Y, activation="square")


def modular_start(problem: agf.Problem) -> agf.State:
    return problem.initialize(MODULAR_WIDTH, scale=MODULAR_SCALE, seed=0)


def modular_level(loss: float) -> float:
    """2 L / p, the paper's scale."""
    return 2.0 / float(MODULAR_PERIOD) * loss


def modular_loss(level: float) -> float:
    return 0.5 * float(MODULAR_PERIOD) * level


def every_architecture() -> dict[str, Sized]:
    """One problem each, with a width; None where the problem has its own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 8))
    x, y = teacher_data()
    return {
        "Dense square": (modular("Dense"), MODULAR_WIDTH),
        "Dense relu": (agf.Dense(x, y, activation="relu"), 8),
        "Dense tanh": (agf.Dense(x, y, activation="tanh"), 8),
        "Linear": (agf.Linear(X, X @ rng.standard_normal((8, 4))), 8),
        "Diagonal": (agf.Diagonal(X, X @ rng.standard_normal(8)), None),
        "Attention": (agf.Attention(np.diag([2.0, 1.0, 0.5])), 6),
        "ModularAddition": (modular("ModularAddition"), MODULAR_WIDTH),
    }
