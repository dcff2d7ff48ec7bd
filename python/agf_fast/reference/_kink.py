"""Flows of a kinked activation, cell by cell.

Where sigma' steps at 0, the gradient steps wherever some z_s = x_s . w changes sign. Between those surfaces every
formula is smooth with sigma(z) = slope z. On a surface the flow crosses if both sides push the same way, and slides
along it if both push towards it (where a . r_s < 0): Filippov's solution, in which sigma'(0) takes the value that keeps
z_s at 0. Since sigma(0) = 0 whatever that value, sliding is the gradient flow within the plane x_s . w = 0: gradients
are projected on it, the loss still falls, k |a|^2 - |w|^2 is still conserved. It ends when the value needed leaves
[sigma'(-0), sigma'(+0)].

An adaptive method run across such steps chatters. Rounding the kink off over a width w and integrating what is then
stiff was measured at 10 to 100 times the steps: every crossing costs a descent to steps of size w and back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, lsq_linear

from ._kernel import Kernel

Array = NDArray[np.float64]

# z_s / (|x_s| |w|) beyond its surface by this much is a crossing; decisions are taken for everything within ten times
# that.
_BEYOND = 1e-12
_NEAR = 10.0 * _BEYOND
# A neuron whose w falls to this fraction of its norm ends at w = 0, in finite time, where every sample slides: what
# could have turned w has had all the time in log |w| to do so.
_GONE = 1e-9


class Cell:
    """The smooth piece of the flow in which neurons are: a side or a sliding contact for every sample and neuron.

    For an activation without kinks there is one piece, and nothing here does anything.

    Parameters
    ----------
    kernel : Kernel
        The problem.
    u : (H, m) array
        Unit directions; sides and contacts do not depend on norms.
    residual : (n, c) array
        r, which decides about neurons that start on a surface.
    """

    def __init__(self, kernel: Kernel, u: Array, residual: Array) -> None:
        self.smooth = kernel
        self.kinked = kernel.kinked
        self.low = kernel.slope_below
        self.kernel = kernel
        count = len(u)
        self.contacts: list[list[int]] = [[] for _ in range(count)]
        self.planes: list[Array | None] = [None] * count
        if self.kinked:
            self.x = kernel.inputs()
            self.large = np.zeros(count, dtype=bool)  # whether |w| has been above _GONE
            self.lengths = np.linalg.norm(self.x, axis=1)
            self.above = self.x @ u[:, : kernel.n_inputs].T > 0.0
            self._refresh()
            self.update(u, residual)

    def copy(self) -> Cell:
        """The same piece, to be updated apart."""
        other = copy.copy(self)
        if self.kinked:
            other.above, other.large = self.above.copy(), self.large.copy()
            other.contacts, other.planes = [list(contact) for contact in self.contacts], list(self.planes)
        return other

    def project(self, gradient: Array) -> Array:
        """The gradient of each neuron within the planes it slides on."""
        if not any(plane is not None for plane in self.planes):
            return gradient
        gradient = np.array(gradient)
        d = self.smooth.n_inputs
        for i, plane in enumerate(self.planes):
            if plane is not None:
                gradient[i, :d] -= plane @ (plane.T @ gradient[i, :d])
        return gradient

    def projector(self, i: int) -> Array | None:
        """The (m, m) matrix of `project` for neuron i; None for the identity."""
        plane = self.planes[i]
        if plane is None:
            return None
        out = np.eye(self.smooth.n_params)
        out[: len(plane), : len(plane)] -= plane @ plane.T
        return out

    def inside(self, u: Array, residual: Callable[[], Array]) -> float:
        """Distance to the nearest surface, or to losing a contact; continuous, negative beyond the cell."""
        if not self.kinked:
            return np.inf
        least = float(self._margins(u).min(initial=np.inf))
        sizes = np.linalg.norm(u[self.large, : self.smooth.n_inputs], axis=1)
        least = min(least, float(sizes.min(initial=np.inf)) - _GONE)
        for i, contact in enumerate(self.contacts):
            if contact and len(contact) < len(self.x):
                share = self._shares(i, u, residual())
                least = min(least, 1e-3 * float(np.minimum(share, 1.0 - share).min()))
        return least + _BEYOND

    def exit(
        self, state: Callable[[float], tuple[Array, Callable[[], Array]]], start: float, end: float
    ) -> float | None:
        """The first time in (start, end] at which state(t) = (u, residual) leaves the cell; None if it does not.

        Looked for at `end` and at a few points before it: a surface touched twice within a step is caught if it is left
        for a quarter of the step.
        """
        if not self.kinked:
            return None
        low = start
        for high in start + (end - start) * np.array([0.25, 0.5, 0.75, 1.0]):
            if self.inside(*state(high)) < 0.0:
                if self.inside(*state(low)) <= 0.0:
                    return float(low)
                return float(
                    brentq(lambda t: self.inside(*state(t)), low, high, xtol=1e-15 * (abs(high) + 1e-300), rtol=1e-15)
                )
            low = high
        return None

    def update(self, u: Array, residual: Array) -> Array:
        """Decides afresh about every sample at its surface; returns u, put exactly on the planes it now slides on."""
        if not self.kinked:
            return u
        d = self.smooth.n_inputs
        u = np.array(u)
        margins = self._margins(u)
        for i in range(len(u)):
            w = u[i, :d]
            small = np.linalg.norm(w) <= _GONE
            if small and (self.large[i] or self._pull(i, u, residual) @ w < 0.0):
                self.contacts[i] = list(range(len(self.x)))
                self.planes[i] = np.eye(d)
                self.large[i] = False
                continue
            self.large[i] = not small
            if len(self.contacts[i]) == len(self.x):
                self.contacts[i] = []
            for s in np.flatnonzero((np.abs(margins[:, i]) <= _NEAR) & (self.lengths > 0.0)):
                self._decide(i, int(s), u, residual)
            self._release(i, u, residual)
            self._span(i)
            plane = self.planes[i]
            if plane is not None:
                w = w - plane @ (plane.T @ w)
                u[i, :d] = w
                u[i] /= np.linalg.norm(u[i])
        self._refresh()
        return u

    def _refresh(self) -> None:
        self.kernel = self.smooth.in_cell(np.where(self.above, 1.0, self.low))

    def _margins(self, u: Array) -> Array:
        w = u[:, : self.smooth.n_inputs]
        scale = np.outer(self.lengths, np.linalg.norm(w, axis=1))
        z = self.x @ w.T
        margins = np.where(self.above, z, -z) / np.where(scale > 0.0, scale, 1.0)
        for i, contact in enumerate(self.contacts):
            margins[contact, i] = np.inf
        return margins

    def _pull(self, i: int, u: Array, residual: Array) -> Array:
        """grad_w U of neuron i with its contacts on their lower side, not projected."""
        d = self.smooth.n_inputs
        slopes = np.where(self.above[:, i], 1.0, self.low)
        slopes[self.contacts[i]] = self.low
        return (slopes * (residual @ u[i, d:])) @ self.x / len(self.x)

    def _kick(self, i: int, s: int, u: Array, residual: Array) -> Array:
        """What grad_w U gains when sample s passes from its lower to its upper side."""
        kick: Array = (1.0 - self.low) * (residual[s] @ u[i, self.smooth.n_inputs :]) / len(self.x) * self.x[s]
        return kick

    def _decide(self, i: int, s: int, u: Array, residual: Array) -> None:
        """Below, above or in contact, by the velocity of z_s on either side."""
        if s in self.contacts[i]:
            return
        self.above[s, i] = False
        self._span(i)
        plane, pull, kick = self.planes[i], self._pull(i, u, residual), self._kick(i, s, u, residual)
        if plane is not None:
            pull, kick = pull - plane @ (plane.T @ pull), kick - plane @ (plane.T @ kick)
        below = float(self.x[s] @ pull)
        above = below + float(self.x[s] @ kick)
        if below > 0.0 > above:
            self.contacts[i].append(s)
        else:
            self.above[s, i] = above > 0.0

    def _release(self, i: int, u: Array, residual: Array) -> None:
        """Lets go of contacts that no value of sigma' within its step can hold."""
        while self.contacts[i]:
            share = self._shares(i, u, residual)
            slack = np.minimum(share, 1.0 - share)
            worst = int(slack.argmin())
            if slack[worst] > 0.0:
                return
            s = self.contacts[i].pop(worst)
            self.above[s, i] = share[worst] >= 0.5

    def _shares(self, i: int, u: Array, residual: Array) -> Array:
        """For each contact, where in its step sigma' must be, from 0 below to 1 above, so that all z_s stay at 0."""
        contact = self.contacts[i]
        kicks = np.stack([self._kick(i, s, u, residual) for s in contact], axis=1)
        rows = self.x[contact]
        matrix, wanted = rows @ kicks, -rows @ self._pull(i, u, residual)
        if len(contact) > 1 and np.linalg.matrix_rank(matrix) < len(contact):
            # Repeated samples share one contact: any split within bounds will do.
            return np.asarray(lsq_linear(matrix, wanted, (0.0, 1.0)).x)
        return np.asarray(np.linalg.lstsq(matrix, wanted, rcond=None)[0], dtype=np.float64)

    def _span(self, i: int) -> None:
        if not self.contacts[i]:
            self.planes[i] = None
            return
        left, sizes, _ = np.linalg.svd(self.x[self.contacts[i]].T, full_matrices=False)
        self.planes[i] = left[:, sizes > 1e-12 * sizes[0]]
