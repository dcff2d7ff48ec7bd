"""Closed forms of the paper in the vocabulary of runs, so that they stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._table import number, table
from ._trajectory import Jump

__all__ = ["Theory"]

_KINDS = {
    "limit": "jump times in the limit of vanishing initialisation",
    "lower_bound": "lower bounds of the jump times",
    "conjecture": "jump times conjectured in the limit of vanishing initialisation",
}


@dataclass(frozen=True, eq=False)
class Theory:
    """What theory says of a problem: which features are learned, in which order, when, and how far the loss falls.

    Made by ``problem.theory(...)``; `compare` takes it in place of a run.

    Attributes
    ----------
    jumps : tuple of Jump
        One per feature. scaled_time is in units of eta (for kappa = 2: ln(1/alpha)); ``neuron`` counts features and
        ``direction`` is the feature. What a closed form does not know is NaN, -1 or empty.
    levels : (K + 1,) array, float64
        Losses of the plateaus, L before any feature first.
    features : array, float64
        One row (or matrix) per feature; what it is the problem's ``theory`` says.
    time_kind : {"limit", "lower_bound", "conjecture"}
        What the jump times are.
    facts : dict
        Further closed-form numbers, by name.

    Examples
    --------
    >>> import agf_fast as agf
    >>> theory = agf.Theory.from_levels([0.625, 0.125, 0.0], [0.5, 1.0], features=[[1.0, 0.0], [0.0, 1.0]])
    >>> [jump.loss_after for jump in theory.jumps]
    [0.125, 0.0]
    """

    jumps: tuple[Jump, ...]
    levels: NDArray[np.float64]
    features: NDArray[np.float64]
    time_kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    _loss_zero: float = 0.0

    @classmethod
    def from_levels(
        cls,
        levels: Sequence[float] | NDArray[np.float64],
        scaled_times: Sequence[float] | NDArray[np.float64],
        features: Any,
        *,
        times: Sequence[float] | NDArray[np.float64] | None = None,
        time_kind: str = "limit",
        utilities: Sequence[float] | NDArray[np.float64] | None = None,
        facts: dict[str, Any] | None = None,
        loss_zero: float | None = None,
    ) -> Theory:
        """A theory of K features from K + 1 plateau levels and K jump times.

        Parameters
        ----------
        levels : (K + 1,) sequence of float
            Losses of the plateaus, in order.
        scaled_times : (K,) sequence of float
            Jump times in units of eta; NaN where unknown.
        features : (K, ...) array
            What is learned at each jump.
        times : (K,) sequence of float, optional
            Jump times in flow units. Default: unknown.
        time_kind : {"limit", "lower_bound", "conjecture"}
            What the times are.
        utilities : (K,) sequence of float, optional
            Largest utility of a unit neuron before each jump.
        facts : dict, optional
            Further numbers.
        loss_zero : float, optional
            L of the zero network, by which level errors are measured. Default: the first level.

        Returns
        -------
        Theory

        Raises
        ------
        ValueError
            If the lengths do not fit together, or time_kind is not one of the three.
        """
        if time_kind not in _KINDS:
            raise ValueError(f"time_kind is {time_kind!r}, expected one of {tuple(_KINDS)}")
        plateaus, rows = np.array(levels, dtype=np.float64), np.array(features, dtype=np.float64)
        count = len(plateaus) - 1
        unknown = np.full(count, np.nan)
        columns = [
            unknown if column is None else np.asarray(column, dtype=np.float64)
            for column in (times, scaled_times, utilities)
        ]
        for name, column in zip(("times", "scaled_times", "utilities", "features"), [*columns, rows], strict=True):
            if len(column) != count:
                raise ValueError(f"{name} has {len(column)} entries, expected {count}, one less than levels")
        jumps = tuple(
            Jump(
                time=float(columns[0][k]),
                scaled_time=float(columns[1][k]),
                neuron=k,
                utility=float(columns[2][k]),
                direction=rows[k].ravel(),
                alignment=float("nan"),
                loss_before=float(plateaus[k]),
                loss_after=float(plateaus[k + 1]),
                activated=(k,),
                returned=(),
                converged=True,
            )
            for k in range(count)
        )
        zero = float(plateaus[0]) if loss_zero is None else float(loss_zero)
        return cls(jumps, plateaus, rows, time_kind, dict(facts or {}), zero)

    def __len__(self) -> int:
        return len(self.jumps)

    def __repr__(self) -> str:
        rows = [
            [str(k), *map(number, (jump.time, jump.scaled_time, jump.loss_before, jump.loss_after))]
            for k, jump in enumerate(self.jumps)
        ]
        head = f"{len(self.jumps)} features; {_KINDS[self.time_kind]}"
        return head + "\n" + table(["jump", "time", "t/eta", "loss before", "loss after"], rows) if rows else head
