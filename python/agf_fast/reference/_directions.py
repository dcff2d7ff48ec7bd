"""Neurons as directions of the neuron space, where their dynamics are linear while the residual stands still.

Theta (m, H) has one column per neuron and moves by dTheta/dt = B(r) Theta, U(theta; r) = 1/2 theta^T B theta. Turning
the neuron space, Theta -> Theta Q, changes neither outputs nor flow, so Theta V for a fixed orthonormal V is as good,
and with V of right singular vectors every scale stands apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import Kernel
from ._wide import Wide

__all__ = ["Directions", "Growth", "form", "modes"]

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# Below this part of the largest eigenvalue over the gap, a change of frame is rounding that stands for zero.
_NOISE, _MOST_NOISE = 1e-13, 1e-7


def form(kernel: Kernel, residual: Array) -> Array:
    """B, the Hessian of U, the same for every theta."""
    return np.asarray(kernel.curvature(np.ones((1, kernel.n_params)), residual)[0])


def modes(kernel: Kernel, residual: Array) -> tuple[Array, Array]:
    """Eigenvalues beta of B, rising, and eigenvectors as columns."""
    beta, vectors = np.linalg.eigh(form(kernel, residual))
    return beta, vectors


@dataclass
class Directions:
    """Columns of Theta V: visible ones as doubles, faint ones by components in a frame of the parameters.

    Attributes
    ----------
    visible : (m, k) array
        Columns that shape the residual.
    visible_neuron : (H, k) Wide
        Their vectors of the neuron space.
    frame : (m, m) array
        Orthonormal columns.
    faint : (m, f) Wide
        Components of the other columns along the frame.
    neuron : (H, f) Wide
        Their vectors of the neuron space.
    learned : int
        Directions that have activated so far; -1: visible columns need not be active.
    """

    visible: Array
    visible_neuron: Wide
    frame: Array
    faint: Wide
    neuron: Wide
    learned: int = 0

    @classmethod
    def of(cls, start: dict[str, Any]) -> tuple[Directions, bool]:
        """From the exact variables of an earlier run, where there are any (True) and the rows are still theirs."""
        direction, log_norm = np.asarray(start["direction"]), np.asarray(start["log_norm"])
        count, m = direction.shape
        extra = start.get("extra", {})
        if "active_column" in extra:
            k = len(extra["active_column"])
            neurons = Wide(extra["neuron_mantissa"].T, extra["neuron_exponent"].T.astype(np.int64))
            own = cls(
                np.array(extra["active_column"]).T,
                neurons[:, :k],
                np.array(extra["frame_row"]).T,
                Wide(extra["dormant_mantissa"].T, extra["dormant_exponent"].T.astype(np.int64)),
                neurons[:, k:],
                int(extra["directions_learned"][0]),
            )
            rows, logs = own.rows()
            if max(np.abs(rows - direction).max(), np.abs(logs - log_norm).max()) <= 1e-5:
                return own, True
        columns = Wide(direction.T) * Wide.exp(log_norm)
        new = cls(np.empty((m, 0)), Wide(np.empty((count, 0))), np.eye(m), columns, Wide(np.eye(count)))
        new.orthogonalize()
        return new, False

    def rows(self) -> tuple[Array, Array]:
        """Directions (H, m) and log-norms (H,) of the neurons: theta_i = sum_j V_ij c_j."""
        columns = _beside(Wide(self.visible), Wide(self.frame) @ self.faint)
        theta = columns @ _beside(self.visible_neuron, self.neuron).T
        length = theta.norms()
        rows = (theta / length).scaled(0).T
        return rows, length.log()

    def extra(self) -> dict[str, Array]:
        """The exact variables."""
        neurons = _beside(self.visible_neuron, self.neuron)
        return {
            "active_column": self.visible.T.copy(),
            "frame_row": self.frame.T.copy(),
            "dormant_mantissa": self.faint.mantissa.T.copy(),
            "dormant_exponent": self.faint.exponent.T.astype(np.float64),
            "neuron_mantissa": neurons.mantissa.T.copy(),
            "neuron_exponent": neurons.exponent.T.astype(np.float64),
            "directions_learned": np.array([float(self.learned)]),
        }

    @property
    def count(self) -> int:
        return self.faint.shape[1]

    def orthogonalize(self) -> None:
        """Turns the faint columns into sigma_j u_j, falling, each to high relative accuracy.

        X = L D R by elimination with complete pivoting leaves all scales to D, |L|, |R| <= 1. With R^T = Q T,
        X Q = L (D T^T) has columns that differ in scale but not in much else, and one-sided Jacobi does the rest.
        """
        work, (m, n) = self.faint, self.faint.shape
        left, right, pivots = [], [], []
        rows, columns = np.ones(m, dtype=bool), np.ones(n, dtype=bool)
        for _ in range(min(m, n)):
            size = np.where(rows[:, None] & columns, work.log(), -np.inf)
            row, column = divmod(int(size.argmax()), n)
            if size[row, column] == -np.inf:
                break
            pivot = work[row, column]
            lower = Wide(np.where(rows, work.mantissa[:, column], 0.0), work.exponent[:, column]) / pivot
            upper = Wide(np.where(columns, work.mantissa[row], 0.0), work.exponent[row]) / pivot
            rows[row] = columns[column] = False
            work = work - lower[:, None] * (upper[None, :] * pivot)
            left.append(lower)
            right.append(upper)
            pivots.append(pivot)
        rank = len(pivots)
        turned: list[Wide] = []
        basis: list[Wide] = []
        parts: list[list[Wide]] = []
        for k in range(rank):
            q, part = right[k], [Wide(0.0)] * k
            for _ in range(2):
                for j in range(k):
                    along = _dot(basis[j], q)
                    part[j] = part[j] + along
                    q = q - basis[j] * along
            length = _dot(q, q).sqrt()
            basis.append(q / length)
            parts.append([*part, length])
        for j in range(rank):
            total = Wide(np.zeros(m))
            for k in range(j, rank):
                total = total + left[k] * (parts[k][j] * pivots[k])
            turned.append(total)
        frame = [(self.neuron @ q[:, None])[:, 0] for q in basis]
        _jacobi(turned, frame)
        order = sorted(range(rank), key=lambda k: -float(_dot(turned[k], turned[k]).log()))
        self.faint = _columns([turned[k] for k in order], m)
        self.neuron = _columns([frame[k] for k in order], self.neuron.shape[0])

    def log_norms(self) -> Array:
        """ln sigma_j of orthogonal columns."""
        return self.faint.norms().log()

    def direction(self, j: int) -> Array:
        """Unit vector of faint column j in the parameters."""
        column = self.faint[:, j]
        unit = self.frame @ column.scaled(column.top())
        return np.asarray(unit / np.linalg.norm(unit))

    def show(self, log_norm: float) -> None:
        """The largest faint column becomes visible, at e^log_norm."""
        column = np.exp(log_norm) * self.direction(0)
        self.visible = np.column_stack([self.visible, column])
        self.visible_neuron = _beside(self.visible_neuron, self.neuron[:, :1])
        self.faint, self.neuron = self.faint[:, 1:], self.neuron[:, 1:]

    def hide(self, which: NDArray[np.bool_]) -> None:
        """Visible columns go back among the faint ones, which are not orthogonal then."""
        self.faint = _beside(self.faint, Wide(self.frame.T @ self.visible[:, which]))
        self.neuron = _beside(self.neuron, self.visible_neuron[:, which])
        self.visible, self.visible_neuron = self.visible[:, ~which], self.visible_neuron[:, ~which]

    def adopt(self, beta: Array, vectors: Array, motion: Array | None, structured: bool) -> None:
        """Writes the faint columns, moved by `motion`, by their components along the eigenvectors.

        Zeros of the change of frame mean something where the old frame was one of eigenvectors (`structured`): a
        component e^1000 times larger than the one it falls on would bury the truth under its rounding.
        """
        turn = vectors.T @ (self.frame if motion is None else motion @ self.frame)
        if structured:
            weights = turn**2
            gap = np.abs(beta[:, None] - (beta @ weights) / weights.sum(axis=0))
            with np.errstate(divide="ignore"):
                least = np.minimum(_NOISE * np.abs(beta).max() / gap, _MOST_NOISE)
            turn = np.where(np.abs(turn) > least * np.abs(turn).max(), turn, 0.0)
        self.faint, self.frame = Wide(turn) @ self.faint, vectors

    def grow(self, beta: Array, t: float) -> None:
        """Components along eigenvectors, e^{beta t} later."""
        self.faint = self.faint * Wide.exp(beta * t)[:, None]


class Growth:
    """The largest singular value of e^{beta t} Z, Z the faint columns; its logarithm is convex in t."""

    def __init__(self, directions: Directions, beta: Array) -> None:
        self.faint, self.beta = directions.faint, beta

    def at(self, t: float) -> tuple[float, float, Array]:
        """ln sigma, its slope, and the logarithms of all singular values as far as doubles reach."""
        grown = self.faint * Wide.exp(self.beta * t)[:, None]
        top = grown.top()
        left, values, _ = np.linalg.svd(grown.scaled(top), full_matrices=False)
        with np.errstate(divide="ignore"):
            logs = np.log(values) + top * np.log(2.0)
        return float(logs[0]), float(self.beta @ left[:, 0] ** 2), logs

    def crossing(self, level: float, least: float) -> float:
        """When it rises through e^level; inf without a component that grows faster than `least`."""
        logs = self.faint.log()
        growing = self.beta > least
        if not np.isfinite(logs[growing]).any():
            return np.inf

        def beyond(t: float) -> bool:
            value, slope, _ = self.at(t)
            return value >= level and slope > 0.0

        if beyond(0.0):
            return 0.0
        # It is above each single component.
        high = float(((level - logs[growing]) / self.beta[growing, None]).min())
        high = max(high, 1e-300)
        while not beyond(high):
            high *= 1.0 + 1e-15 if self.at(high)[0] < level else 2.0
        low = 0.0
        # Newton's steps from above stay above.
        for _ in range(200):
            value, slope, _ = self.at(high)
            t = high - (value - level) / slope
            if high - t <= 1e-16 * high:
                break
            t = t if t > low else 0.5 * (low + high)
            if beyond(t):
                high = t
            else:
                low = t
            if 0.5 * (low + high) in (low, high):
                break
        return high


def _beside(a: Wide, b: Wide) -> Wide:
    return Wide(np.hstack([a.mantissa, b.mantissa]), np.hstack([a.exponent, b.exponent]))


def _columns(columns: list[Wide], length: int) -> Wide:
    if not columns:
        return Wide(np.empty((length, 0)))
    return Wide(np.column_stack([c.mantissa for c in columns]), np.column_stack([c.exponent for c in columns]))


def _dot(a: Wide, b: Wide) -> Wide:
    return (a[None, :] @ b[:, None])[0, 0]


def _jacobi(columns: list[Wide], along: list[Wide]) -> None:
    """Turns pairs of columns, and `along` with them, until all are orthogonal to rounding."""
    one, two = Wide(1.0), Wide(2.0)
    small = Wide(_EPS * np.sqrt(len(columns[0].mantissa))) if columns else one
    turned = True
    while turned:
        turned = False
        for i in range(len(columns)):
            for j in range(i + 1, len(columns)):
                a, b, g = (_dot(columns[p], columns[q]) for p, q in ((i, i), (j, j), (i, j)))
                if g.log() <= (small * a.sqrt() * b.sqrt()).log():
                    continue
                turned = True
                zeta = (b - a) / (two * g)
                sign = Wide(-1.0 if zeta.mantissa < 0.0 else 1.0)
                t = sign / (sign * zeta + (one + zeta * zeta).sqrt())
                c = one / (one + t * t).sqrt()
                s = c * t
                for rows in (columns, along):
                    rows[i], rows[j] = rows[i] * c - rows[j] * s, rows[i] * s + rows[j] * c
