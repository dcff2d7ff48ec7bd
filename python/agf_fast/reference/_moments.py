"""Networks whose loss is a quadratic form in one matrix P = sum_i p(theta_i), p(theta) = g l r^T.

With pseudo-samples y, a linear map G and the least loss L_*:

    L = L_* + 1/2 |y - G[P]|^2     M = -dL/dP = G*[y - G[P]]     U(theta; M) = <p(theta), M>

Linear networks: theta = [w | a], g = 1, l = a, r = w. Attention: theta = [v | q | k], g = v, l = q, r = k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import Kernel, checked

__all__ = ["Moments", "attention_kernel", "attention_samples_kernel", "linear_kernel"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Blocks:
    """Where the factors of p lie in theta; no gain: g = 1."""

    left: slice
    right: slice
    gain: bool


class Moments(Kernel):
    """The leaves of such a network, each one formula in NumPy. The residual is the signal M.

    Computes in double and returns arrays in the dtype of theta.

    Built by `linear_kernel`, `attention_kernel` and `attention_samples_kernel`.

    Parameters
    ----------
    blocks : _Blocks
        The factors in theta.
    shape : (int, int)
        Of P and M.
    forward, adjoint : callable
        G, of matrices (..., rows, columns), and G*.
    target : array
        y.
    least : float
        L_*.
    scale : float
        A bound of |G[x y^T]| over unit x and y.

    Notes
    -----
    The systems and their utility are those of Alternating Gradient Flows, arXiv 2506.06489.
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        blocks: _Blocks,
        shape: tuple[int, int],
        forward: Callable[[Array], Array],
        adjoint: Callable[[Array], Array],
        target: Array,
        least: float,
        scale: float,
    ) -> None:
        self._blocks, self.shape = blocks, shape
        self._forward, self._adjoint = forward, adjoint
        self._y, self._least, self.reach = target, least, scale**2
        self.kappa = 3.0 if blocks.gain else 2.0
        self.n_params = sum(shape) + blocks.gain

    def double(self) -> Moments:
        """Itself: it computes in double whatever it is given."""
        return self

    def _give(self, array: Array, theta: NDArray[Any] | None = None) -> NDArray[Any]:
        return array if theta is None else _like(theta, array)

    def target(self) -> Array:
        """M of no neurons at all."""
        return self._adjoint(self._y)

    def size(self, residual: NDArray[Any]) -> float:
        """|M|, which a unit neuron changes by at most `reach`."""
        return float(np.linalg.norm(residual))

    # The kernel methods.

    def loss(self, theta: NDArray[Any]) -> float:
        """L = L_* + 1/2 |y - G[P]|^2.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        float
        """
        return self._least + 0.5 * float(np.sum((self._y - self._forward(self._product(theta))) ** 2))

    def residual(self, theta: NDArray[Any]) -> NDArray[Any]:
        """M = G*[y - G[P]] = -dL/dP.

        Parameters
        ----------
        theta : (H, m) array
            Parameters; H = 0 gives G*[y].

        Returns
        -------
        (rows, columns) array
        """
        return _like(theta, self._adjoint(self._y - self._forward(self._product(theta))))

    def utility_and_gradient(
        self, theta: NDArray[Any], residual: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """U(theta_i; M) and its gradient: grad_l = g M r, grad_r = g M^T l, grad_g = l^T M r.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.
        residual : (rows, columns) array, optional
            M; that of theta itself by default.

        Returns
        -------
        (H,) array, (H, m) array
        """
        g, left, right = self._split(theta)
        M = self._given(theta, residual)
        form = np.einsum("ia,ab,ib->i", left, M, right)
        gradient = self._join(form, g[:, None] * (right @ M.T), g[:, None] * (left @ M))
        return _like(theta, g * form), _like(theta, gradient)

    def residual_derivative(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """Derivative of M along v: -G*[G[dP]].

        Parameters
        ----------
        theta, v : (H, m) array
            Parameters and the direction of change.

        Returns
        -------
        (rows, columns) array
        """
        jacobian = self._jacobian(theta)
        change = np.einsum("ie,ieab->ab", checked(v, "v", np.shape(theta)), jacobian)
        return _like(theta, -self._adjoint(self._forward(change)))

    def curvature(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """Hessian of each utility: lr g M, gl M r, gr M^T l.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.
        residual : (rows, columns) array, optional
            M; that of theta itself by default.

        Returns
        -------
        (H, m, m) array
        """
        g, left, right = self._split(theta)
        M = self._given(theta, residual)
        at = self._blocks
        out = np.zeros((len(g), self.n_params, self.n_params))
        out[:, at.left, at.right] = g[:, None, None] * M
        if at.gain:
            out[:, 0, at.left], out[:, 0, at.right] = right @ M.T, left @ M
        return _like(theta, out + out.transpose(0, 2, 1))

    def gauss_newton(self, theta: NDArray[Any]) -> NDArray[Any]:
        """<G[dP/dtheta_e], G[dP/dtheta_f]> over all neurons together, the part of hess L that couples them.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H m, H m) array
        """
        jacobian = self._jacobian(theta).reshape(-1, *self.shape)
        images = self._forward(jacobian).reshape(len(jacobian), -1)
        return _like(theta, images @ images.T)

    def contribution(self, theta: NDArray[Any]) -> NDArray[Any]:
        """|G[p(theta_i)]| of each neuron, sqrt E|f_i|^2.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H,) array
        """
        g, left, right = self._split(theta)
        images = self._forward((g[:, None] * left)[:, :, None] * right[:, None, :])
        return _like(theta, np.linalg.norm(images.reshape(len(g), -1), axis=1))

    def conserved(self, theta: NDArray[Any]) -> NDArray[Any]:
        """|l|^2 - |r|^2, (H,); with a gain g^2 - |l|^2 and g^2 - |r|^2, (H, 2).

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H,) or (H, 2) array
        """
        g, left, right = self._split(theta)
        l2, r2 = np.sum(left**2, axis=1), np.sum(right**2, axis=1)
        return _like(theta, np.stack([g**2 - l2, g**2 - r2], axis=1) if self._blocks.gain else l2 - r2)

    def _split(self, theta: NDArray[Any]) -> tuple[Array, Array, Array]:
        rows = checked(theta, "theta", (None, self.n_params))
        g = rows[:, 0] if self._blocks.gain else np.ones(len(rows))
        return g, rows[:, self._blocks.left], rows[:, self._blocks.right]

    def _join(self, g: Array, left: Array, right: Array) -> Array:
        out = np.empty((len(g), self.n_params))
        out[:, self._blocks.left], out[:, self._blocks.right] = left, right
        if self._blocks.gain:
            out[:, 0] = g
        return out

    def _product(self, theta: NDArray[Any]) -> Array:
        g, left, right = self._split(theta)
        return np.asarray((g[:, None] * left).T @ right)

    def _jacobian(self, theta: NDArray[Any]) -> Array:
        """dp/dtheta_e of each neuron, (H, m, rows, columns)."""
        g, left, right = self._split(theta)
        rows, columns = self.shape
        out = np.zeros((len(g), self.n_params, rows, columns))
        out[:, self._blocks.left] = g[:, None, None, None] * np.eye(rows)[None, :, :, None] * right[:, None, None, :]
        out[:, self._blocks.right] = (g[:, None] * left)[:, None, :, None] * np.eye(columns)[None, :, None, :]
        if self._blocks.gain:
            out[:, 0] = left[:, :, None] * right[:, None, :]
        return out

    def _given(self, theta: NDArray[Any], residual: NDArray[Any] | None) -> Array:
        return self.residual(theta) if residual is None else checked(residual, "residual", self.shape)


def _like(theta: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(theta.dtype, copy=False)


def linear_kernel(inputs: Array, targets: Array, least: float) -> Moments:
    """f = sum_i a_i w_i . x on pseudo-samples: L = least + 1/2 |targets - inputs P^T|^2, P = sum_i a_i w_i^T.

    Parameters
    ----------
    inputs : (k, d) array
        inputs^T inputs = Sigma_xx.
    targets : (k, c) array
        targets^T inputs = Sigma_yx.
    least : float
        Loss of the best P.

    Returns
    -------
    Moments
    """
    x, y = np.array(inputs, dtype=np.float64), np.array(targets, dtype=np.float64)
    d, c = x.shape[1], y.shape[1]
    blocks = _Blocks(slice(d, d + c), slice(0, d), False)
    return Moments(blocks, (c, d), lambda p: p @ x.T, lambda r: r @ x, y.T, least, float(np.linalg.norm(x)))


def attention_kernel(queries: Array, keys: Array, targets: Array, least: float) -> Moments:
    """Attention heads on every pair of pseudo-samples: L = least + 1/2 |targets - queries P keys^T|^2.

    Parameters
    ----------
    queries, keys : (a, D) and (b, D) array
        queries^T queries = E[x_q x_q^T] and keys^T keys = E[s s^T].
    targets : (a, b) array
        queries^T targets keys = E[y_q x_q s^T].
    least : float
        Loss of the best P.

    Returns
    -------
    Moments
    """
    q, k = np.array(queries, dtype=np.float64), np.array(keys, dtype=np.float64)
    reach = float(np.linalg.norm(q) * np.linalg.norm(k))
    y = np.array(targets, dtype=np.float64)
    size = q.shape[1]
    return Moments(_heads(size), (size, size), lambda p: q @ p @ k.T, lambda r: q.T @ r @ k, y, least, reach)


def attention_samples_kernel(features: Array, targets: Array, least: float) -> Moments:
    """Attention heads on pseudo-samples of vec(x_q s^T): L = least + 1/2 |targets - features vec(P)|^2.

    Parameters
    ----------
    features : (k, D^2) array
        features^T features = E[vec(x_q s^T) vec(x_q s^T)^T].
    targets : (k, 1) array
        features^T targets = E[y_q vec(x_q s^T)].
    least : float
        Loss of the best P.

    Returns
    -------
    Moments
    """
    z = np.array(features, dtype=np.float64)
    y = np.array(targets, dtype=np.float64)[:, 0]
    size = round(np.sqrt(z.shape[1]))

    def forward(p: Array) -> Array:
        return np.asarray(p.reshape(*p.shape[:-2], -1) @ z.T)

    return Moments(
        _heads(size),
        (size, size),
        forward,
        lambda r: np.asarray(r @ z).reshape(size, size),
        y,
        least,
        float(np.linalg.norm(z)),
    )


def _heads(size: int) -> _Blocks:
    return _Blocks(slice(1, 1 + size), slice(1 + size, 1 + 2 * size), True)
