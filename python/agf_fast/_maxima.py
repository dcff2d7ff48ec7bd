"""The map of a utility's local maxima: where dormant neurons end up, and how many of them where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, positive_integer
from ._problem import Problem
from ._state import State
from ._table import number, table

__all__ = ["UtilityMaxima", "utility_maxima"]

# Norm at which gradients are taken: a power of two changes no digit where neurons are homogeneous, and where they are
# not the leading term at 0 is what dormant neurons follow, with a relative error of the order of this norm.
_NORM = 2.0**-20
# Local error of a step on the unit sphere; only starts this close to a border between basins can cross it.
_STEP_ERROR = 1e-3
# Shortest steps, in units of 1/|grad U|, in which a direction turns; and those after which a start at a kink is done.
_LEAST_STEP, _FINEST_STEP = 0.25, 1e-3
# A representative pushed this far must come back, or it was a saddle.
_PUSH = 1e-2
# So many times are starts that had stopped at a saddle sent on.
_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class UtilityMaxima:
    """Local maxima of the utility on the unit sphere, the largest first; prints as a table.

    Attributes
    ----------
    utility : (K,) array
        U at each maximum.
    share : (K,) array
        Part of the starts that end there: the share of its basin.
    direction : (K, m) array
        A unit direction of each.
    reached : (S,) array, int
        For each start, which maximum it reached; -1 if none, being inert or still on its way at the last step.
    ends : (S, m) array
        Where each start ended.
    """

    utility: NDArray[np.float64]
    share: NDArray[np.float64]
    direction: Array
    reached: NDArray[np.int64]
    ends: Array

    def __len__(self) -> int:
        return len(self.utility)

    def __repr__(self) -> str:
        rows = [
            [str(k), number(float(u)), f"{u / self.utility[0]:.4f}", f"{share:.1%}"]
            for k, (u, share) in enumerate(zip(self.utility, self.share, strict=True))
        ]
        shown = rows if len(rows) <= 16 else rows[:15]
        lines = [f"{len(self)} local maxima of the utility from {len(self.reached)} starts"]
        if rows:
            lines.append(table(["maximum", "utility", "of the largest", "basin share"], shown))
        if len(shown) < len(rows):
            lines.append(f"  ... and {len(rows) - len(shown)} more")
        if (lost := int(np.count_nonzero(self.reached < 0))) > 0:
            lines.append(f"{lost} starts reached none: inert, or still on their way")
        return "\n".join(lines)


def utility_maxima(
    problem: Problem,
    residual: Array | None = None,
    *,
    starts: int | State | Array = 200,
    seed: int = 0,
    same: float = 1e-4,
    tol: float = 1e-5,
    max_steps: int = 3000,
) -> UtilityMaxima:
    """Follow many dormant neurons to the local maxima of their utility, and count who ends where.

    Directions follow du/ds = (I - u u') grad U(u; r), the dormant phase in a neuron's own clock, with the residual r
    frozen. The neuron that activates first need not have found the largest maximum: with H neurons, and all maxima
    above it in basins of total share p, none of them does with probability (1 - p)^H.

    Parameters
    ----------
    problem : Problem
        Such as a `Dense`.
    residual : array, optional
        The residual r to align with, as `Problem.residual` gives it. Default: that of the zero network, the targets.
    starts : int, State or (S, m) array, default 200
        How many random directions, drawn as `Problem.initialize` draws them; or the directions.
    seed : int, default 0
        Of the random directions.
    same : float, default 1e-4
        Ends whose utilities agree to this, relatively, count as one maximum, as those that a symmetry carries into one
        another do.
    tol : float, default 1e-5
        A start has arrived when the tangential part of its gradient is below this part of the gradient. At a kink of
        relu, where that never happens: when its utility has stopped growing.
    max_steps : int, default 3000
        Most steps of any start.

    Returns
    -------
    UtilityMaxima

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.

    Notes
    -----
    Whether utilities have local maxima besides the global one is open in general (arXiv 2506.06489).

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.diag([2.0, 1.0]), activation="relu")
    >>> agf.utility_maxima(problem, starts=50)
    2 local maxima of the utility from 50 starts
      maximum  utility  of the largest  basin share
            0      0.5          1.0000        36.0%
            1     0.25          0.5000        28.0%
    18 starts reached none: inert, or still on their way
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {type(problem).__name__}, expected a problem such as agf_fast.Dense(X, Y)")
    seed = positive_integer(seed, "seed", 0)
    if isinstance(starts, (bool, int, np.integer)):
        state = problem.initialize(positive_integer(starts, "starts"), seed=seed)
    else:
        state = problem._read_state(starts)
    limits = {name: finite_number(value, name, above=0.0, high=0.1) for name, value in (("same", same), ("tol", tol))}
    steps = positive_integer(max_steps, "max_steps")
    field = _Field(problem, residual)
    ends, utility, arrived = _climb(field, state._arrays()[0], limits["tol"], steps)
    floor = 1e-10 * float(np.max(np.linalg.norm(field.gradient(ends)[0], axis=1)))
    rng = np.random.default_rng([seed, 1])
    for _ in range(_ROUNDS):
        reached = _group(utility, arrived & (utility > floor), limits["same"])
        first = np.array([np.argmax(reached == k) for k in range(int(reached.max()) + 1)], dtype=np.int64)
        if first.size == 0:
            break
        again = _climb(field, _push(ends[first], rng), limits["tol"], steps)[1]
        # Back, or off a saddle to somewhere higher.
        higher = again > utility[first] * (1.0 + limits["same"])
        on = np.flatnonzero((reached >= 0) & higher[np.maximum(reached, 0)])
        reached[on] = -1
        if on.size == 0:
            break
        ends[on], utility[on], arrived[on] = _climb(field, _push(ends[on], rng), limits["tol"], steps)
    places = np.unique(reached[reached >= 0])
    reached = np.where(reached >= 0, np.searchsorted(places, reached), -1)
    rows = np.array([ends[np.argmax(reached == k)] for k in range(len(places))]).reshape(-1, ends.shape[1])
    kind = problem._kind
    return UtilityMaxima(
        utility=np.array([utility[reached == k].max() for k in range(len(places))]),
        share=np.array([np.mean(reached == k) for k in range(len(places))]),
        direction=kind.wrap(rows.astype(kind.dtype)),
        reached=reached,
        ends=kind.wrap(ends.astype(kind.dtype)),
    )


class _Field:
    """Gradient and utility at unit directions, of the leading term at 0."""

    def __init__(self, problem: Problem, residual: Array | None) -> None:
        self._kernel: Any = problem._kernel()
        self._dtype = np.dtype(problem._kind.dtype)
        self._kappa = problem.kappa
        zero = np.zeros((1, problem.n_params), dtype=self._dtype)
        given = problem._read_residual(residual)
        self._residual = self._kernel.residual(zero) if given is None else given

    def gradient(self, u: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """grad U and, by Euler's identity, U = <u, grad U> / kappa."""
        theta = (_NORM * u).astype(self._dtype)
        raw = self._kernel.utility_gradient(theta, self._residual).astype(np.float64)
        grad = raw * _NORM ** (1.0 - self._kappa)
        return grad, np.einsum("ij,ij->i", u, grad) / self._kappa

    def tangent(self, u: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(I - u u') grad U, |grad U| and U."""
        grad, utility = self.gradient(u)
        return grad - self._kappa * utility[:, None] * u, np.linalg.norm(grad, axis=1), utility


def _climb(
    field: _Field, start: NDArray[np.float64], tol: float, max_steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Bogacki and Shampine's pair of orders 3 and 2, each row with its own steps: ends, utilities, who has arrived."""
    u = start / np.linalg.norm(start, axis=1, keepdims=True)
    f, size, utility = field.tangent(u)
    with np.errstate(divide="ignore"):
        h = np.where(size > 0, _LEAST_STEP / size, 0.0)
    arrived = np.linalg.norm(f, axis=1) <= tol * size
    clock, work, floor = np.zeros(len(u)), np.zeros(len(u)), np.full(len(u), _LEAST_STEP)
    mark = utility.copy()
    for _ in range(max_steps):
        rows = np.flatnonzero(~arrived)
        if rows.size == 0:
            break
        y, k1, step = u[rows], f[rows], h[rows][:, None]
        k2 = field.tangent(_unit(y + 0.5 * step * k1))[0]
        k3 = field.tangent(_unit(y + 0.75 * step * k2))[0]
        new = _unit(y + step * (2.0 * k1 + 3.0 * k2 + 4.0 * k3) / 9.0)
        k4, scale, value = field.tangent(new)
        error = np.linalg.norm(step * (-5.0 * k1 + 6.0 * k2 + 8.0 * k3 - 9.0 * k4) / 72.0, axis=1)
        # Tighter where little is left to turn, or the ripple of steps at their limit of stability would hide it.
        error /= _STEP_ERROR * np.clip(np.linalg.norm(k1, axis=1) / size[rows], 0.03, 1.0)
        # A step this short is accurate wherever U is smooth, and where it is not, goes to and fro across the kink.
        least = floor[rows] / size[rows]
        good = (error <= 1.0) | (step[:, 0] <= least)
        factor = np.clip(0.9 * np.maximum(error, 1e-6) ** (-1.0 / 3.0), 0.2, np.where(good, 3.0, 0.9))
        h[rows] = np.maximum(h[rows] * factor, least)
        on = rows[good]
        clock[on] += step[good, 0] * size[on]
        work[on] += step[good, 0] * np.einsum("ij,ij->i", k1[good], k1[good])
        u[on], f[on], size[on], utility[on] = new[good], k4[good], scale[good], value[good]
        arrived[on] = np.linalg.norm(f[on], axis=1) <= tol * size[on]
        # dU/ds = |f|^2. At a kink that attracts from both sides a start goes to and fro: f stays, and U does not grow
        # by it. Judged over forty of the shortest steps; then finer ones, which keep closer to the kink.
        due = on[clock[on] >= 40.0 * floor[on]]
        gain = utility[due] - mark[due]
        settled = due[(gain <= tol * utility[due]) & (gain <= 0.1 * work[due])]
        arrived[settled[floor[settled] < _FINEST_STEP]] = True
        floor[settled] *= 0.25
        h[settled] = floor[settled] / size[settled]
        clock[due], work[due], mark[due] = 0.0, 0.0, utility[due]
    return u, utility, arrived


def _group(utility: NDArray[np.float64], usable: NDArray[np.bool_], same: float) -> NDArray[np.int64]:
    """Runs of sorted utilities without a relative gap above `same`, numbered from the largest."""
    reached = np.full(len(utility), -1, dtype=np.int64)
    order = np.flatnonzero(usable)
    order = order[np.argsort(-utility[order])]
    if order.size:
        sorted_utility = utility[order]
        gaps = -np.diff(sorted_utility) > same * sorted_utility[:-1]
        reached[order] = np.concatenate([[0], np.cumsum(gaps)])
    return reached


def _push(rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return _unit(rows + _PUSH * rng.standard_normal(rows.shape) / np.sqrt(rows.shape[1]))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
