"""Jumps of a flow, read off its record of the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["flow_jumps"]

# A peak of -dL/dt counts between two minima at least this much lower.
_CONTRAST = 10.0
# A drop below this fraction of the level it starts from is the rounding of the loss, or the end of a relaxation.
_LEAST_DROP = 1e-6


def flow_jumps(time: ArrayLike, scaled_time: ArrayLike, loss: ArrayLike, elapsed: ArrayLike) -> list[dict[str, Any]]:
    """Local maxima of -dL/dt between two minima at least 10 times lower.

    Levels are the losses at those minima; the time is where the loss crosses their mean, by linear interpolation.

    Parameters
    ----------
    time, scaled_time : (k,) array
        Both clocks at the recorded points; non-decreasing, possibly infinite.
    loss : (k,) array
        The loss there.
    elapsed : (k,) array
        Time since the loss last began to fall. Where it grows from one point to the next, it is their distance, which
        `time` may not resolve; elsewhere a plateau lies between them.

    Returns
    -------
    list of dict
        time, scaled_time, loss_before, loss_after, and the indices before and after of the two minima.

    Raises
    ------
    ValueError
        If the arrays differ in length.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast._flow_jumps import flow_jumps
    >>> t = np.linspace(0.0, 40.0, 401)
    >>> [jump] = flow_jumps(t, t / 20.0, 1.0 / (1.0 + np.exp(t - 20.0)) + 1.0, t)
    >>> round(jump["time"], 6), round(jump["loss_before"], 3), round(jump["loss_after"], 3)
    (20.0, 2.0, 1.0)
    """
    t, scaled, level, since = (np.asarray(array, dtype=np.float64) for array in (time, scaled_time, loss, elapsed))
    if not t.shape == scaled.shape == level.shape == since.shape or t.ndim != 1:
        raise ValueError(
            f"time, scaled_time, loss, elapsed have shapes {t.shape}, {scaled.shape}, {level.shape}, {since.shape}, "
            f"expected four of one length; pass the records of one run"
        )
    if t.size < 3:
        return []
    with np.errstate(invalid="ignore"):
        step = np.where(np.diff(since) > 0, np.diff(since), np.diff(t))
    drop = -np.diff(level)
    # Differences within rounding of the loss carry no rate.
    drop[drop < 8 * np.finfo(np.float64).eps * np.abs(level[:-1])] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where((drop > 0) & (step > 0), drop / step, 0.0)
    rate[np.isnan(rate)] = 0.0
    jumps = []
    for first, last in _peaks(rate):
        # Interval k lies between points k and k + 1: the outer ends of the two minima.
        before, after = first, last + 1
        high, low = float(level[before]), float(level[after])
        if high - low <= _LEAST_DROP * high:
            continue
        middle = 0.5 * (high + low)
        k = before + int(np.argmax(level[before + 1 : after + 1] <= middle))
        fraction = float(np.clip((level[k] - middle) / (level[k] - level[k + 1]), 0.0, 1.0))
        jumps.append(
            {
                "time": _between(t[k], t[k + 1], fraction),
                "scaled_time": _between(scaled[k], scaled[k + 1], fraction),
                "loss_before": high,
                "loss_after": low,
                "before": before,
                "after": after,
            }
        )
    return jumps


def _peaks(rate: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Index pairs of successive minima with a maximum between them that is _CONTRAST above both."""
    found = []
    low = 0  # of the deepest point since the last peak
    high = -1  # of the highest point since `low`; -1 while it is not yet _CONTRAST above
    fall = 0  # of the deepest point since `high`
    for k in range(1, len(rate)):
        if high < 0:
            if rate[k] <= rate[low]:
                low = k
            elif rate[k] >= _CONTRAST * rate[low]:
                high = fall = k
        elif rate[k] > rate[high]:
            high = fall = k
        elif rate[k] <= rate[fall]:
            fall = k
        elif rate[fall] <= rate[high] / _CONTRAST and rate[k] >= _CONTRAST * rate[fall]:
            found.append((low, fall))
            low, high, fall = fall, k, k
    if high >= 0 and rate[fall] <= rate[high] / _CONTRAST:
        found.append((low, fall))
    return found


def _between(left: float, right: float, fraction: float) -> float:
    return float(left) if left == right or not np.isfinite(right) else float(left + fraction * (right - left))
