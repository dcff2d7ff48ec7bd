"""Modular addition with a quadratic network, on every pair (a, b): f = sum_i w_i (<u_i, a.x> + <v_i, b.x>)^2.

With z_i(a, b) = <u_i, a.x> + <v_i, b.x>, g_i = <w_i, r> and E the mean over the p^2 pairs:  U = E[z^2 g],
grad_w U = E[z^2 r],  grad_u U = 2 E[z g a.x],  grad_v U = 2 E[z g b.x],  and -dL/dtheta_i = grad U.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import Array, Kernel, checked


class ModularAddition(Kernel):
    """The leaves of modular addition, each one formula on the p x p array of pairs.

    f(a, b; theta) = sum_i w_i (<u_i, a.x> + <v_i, b.x>)^2, r = (a + b).x - f, where a.x is the template x shifted by a:
    (a.x)_j = x_{j - a}. Computes in double whatever the dtype, and returns arrays in the dtype of the template.

    Parameters
    ----------
    template : (p,) array, float32 or float64
        x; its mean takes no part.

    Attributes
    ----------
    kappa : float
        3.
    n_params : int
        3 p: [u | v | w].

    Raises
    ------
    TypeError, ValueError
        On anything but a finite vector of at least two numbers.

    Notes
    -----
    The task and its utility are those of Alternating Gradient Flows, arXiv 2506.06489, Section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast.reference import ModularAddition
    >>> kernel = ModularAddition(np.array([1.0, -1.0]))
    >>> round(kernel.loss(np.zeros((1, 6))), 12)
    1.0
    """

    kappa = 3.0

    def __init__(self, template: NDArray[Any]) -> None:
        x = checked(template, "template", (None,))
        if len(x) < 2 or not np.isfinite(x).all():
            raise ValueError(
                f"template has shape {template.shape} and {np.count_nonzero(~np.isfinite(x))} values that are not "
                "finite, expected a finite vector of at least two numbers; replace it"
            )
        self.dtype = template.dtype
        x = x - x.mean()
        period = self._period = len(x)
        self.n_params = 3 * period
        self._shifts = np.stack([np.roll(x, a) for a in range(period)])
        index = np.arange(period)
        self._y = self._shifts[(index[:, None] + index) % period]
        # |z| <= |(u, v)| |(a.x, b.x)| and |(a.x, b.x)|^2 = 2 |x|^2.
        self.reach = 2.0 * float(x @ x)

    def double(self) -> ModularAddition:
        """The same problem, returning float64."""
        other = copy.copy(self)
        other.dtype = np.dtype(np.float64)
        return other

    def target(self) -> Array:
        """(a + b).x, (p^2, p)."""
        target: Array = self._y.reshape(-1, self._period)
        return target

    def size(self, residual: NDArray[Any]) -> float:
        """sqrt(E|r|^2)."""
        return float(np.sqrt(np.mean(np.sum(np.square(residual, dtype=np.float64), axis=1))))

    def residual(self, theta: NDArray[Any]) -> NDArray[Any]:
        """r = (a + b).x - f(a, b; theta).

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters; H = 0 gives the target.

        Returns
        -------
        (p^2, p) array
            Row a p + b for the pair (a, b).
        """
        return self._give(self._residual(theta).reshape(-1, self._period))

    def loss(self, theta: NDArray[Any]) -> float:
        """L = 1/2 E|r|^2.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.

        Returns
        -------
        float
        """
        return 0.5 * self.size(self._residual(theta).reshape(-1, self._period)) ** 2

    def utility_and_gradient(
        self, theta: NDArray[Any], residual: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """U(theta_i; r) and its gradient.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.
        residual : (p^2, p) array, optional
            r; that of theta itself by default.

        Returns
        -------
        (H,) array, (H, 3p) array
        """
        w = self._split(theta)[2]
        r = self._given(theta, residual)
        z = self._analyse(theta)
        slope = 2.0 * z * np.einsum("abj,hj->hab", r, w)
        by_w = np.einsum("hab,abj->hj", z**2, r)
        gradient = np.hstack([slope.sum(axis=2) @ self._shifts, slope.sum(axis=1) @ self._shifts, by_w])
        gradient /= self._period**2
        return self._give(np.sum(gradient[:, 2 * self._period :] * w, axis=1)), self._give(gradient)

    def residual_derivative(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """Derivative of the residual along v: -sum_i [2 z_i dz_i w_i + z_i^2 dw_i].

        Parameters
        ----------
        theta, v : (H, 3p) array
            Parameters and the direction of change.

        Returns
        -------
        (p^2, p) array
        """
        w, dw = self._split(theta)[2], self._split(v)[2]
        z, dz = self._analyse(theta), self._analyse(v)
        out = -np.einsum("hab,hj->abj", 2.0 * z * dz, w) - np.einsum("hab,hj->abj", z**2, dw)
        return self._give(out.reshape(-1, self._period))

    def curvature(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """Hessian of each utility: uu 2 E[g a.x a.x^T], uv 2 E[g a.x b.x^T], uw 2 E[z a.x r^T], ww 0.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.
        residual : (p^2, p) array, optional
            r; that of theta itself by default.

        Returns
        -------
        (H, 3p, 3p) array
        """
        w = self._split(theta)[2]
        r = self._given(theta, residual)
        z = self._analyse(theta)
        g = np.einsum("abj,hj->hab", r, w)
        x = self._shifts
        uu, uv, vv = self._outer(2.0 * g)
        uw = 2.0 * np.einsum("hab,abj,ai->hij", z, r, x, optimize=True)
        vw = 2.0 * np.einsum("hab,abj,bi->hij", z, r, x, optimize=True)
        ww = np.zeros_like(uw)
        swap = (0, 2, 1)
        out = np.block([[uu, uv, uw], [uv.transpose(swap), vv, vw], [uw.transpose(swap), vw.transpose(swap), ww]])
        return self._give(out / self._period**2)

    def gauss_newton(self, theta: NDArray[Any]) -> NDArray[Any]:
        """E[(df/dtheta)^T df/dtheta], with df/du_i = 2 z_i w_i a.x^T, df/dv_i = 2 z_i w_i b.x^T, df/dw_i = z_i^2 1.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.

        Returns
        -------
        (3 H p, 3 H p) array
        """
        w = self._split(theta)[2]
        z = self._analyse(theta)
        p, count = self._period, len(w)
        out = np.empty((count, 3, p, count, 3, p))
        for i in range(count):
            for j in range(count):
                own = out[i, :, :, j]
                uu, uv, vv = self._outer(4.0 * (w[i] @ w[j]) * z[i] * z[j])
                own[0, :, 0], own[0, :, 1], own[1, :, 0], own[1, :, 1] = uu, uv, uv.T, vv
                left, right = 2.0 * z[i] * z[j] ** 2, 2.0 * z[i] ** 2 * z[j]
                for block, axis in ((0, 1), (1, 0)):
                    own[block, :, 2] = np.outer(left.sum(axis=axis) @ self._shifts, w[i])
                    own[2, :, block] = np.outer(w[j], right.sum(axis=axis) @ self._shifts)
                own[2, :, 2] = np.sum(z[i] ** 2 * z[j] ** 2) * np.eye(p)
        return self._give(out.reshape(3 * count * p, -1) / p**2)

    def contribution(self, theta: NDArray[Any]) -> NDArray[Any]:
        """|w_i| sqrt(E z_i^4).

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.

        Returns
        -------
        (H,) array
        """
        size = np.sqrt(np.mean(self._analyse(theta) ** 4, axis=(1, 2)))
        return self._give(np.linalg.norm(self._split(theta)[2], axis=1) * size)

    def conserved(self, theta: NDArray[Any]) -> NDArray[Any]:
        """2 |w_i|^2 - |(u_i, v_i)|^2, which the flow conserves.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters.

        Returns
        -------
        (H,) array
        """
        u, v, w = self._split(theta)
        return self._give(2.0 * np.sum(w**2, axis=1) - np.sum(u**2, axis=1) - np.sum(v**2, axis=1))

    def _split(self, theta: NDArray[Any]) -> tuple[Array, Array, Array]:
        rows = checked(theta, "theta", (None, self.n_params))
        p = self._period
        return rows[:, :p], rows[:, p : 2 * p], rows[:, 2 * p :]

    def _analyse(self, theta: NDArray[Any]) -> Array:
        """z, (H, p, p)."""
        u, v, _ = self._split(theta)
        z: Array = (u @ self._shifts.T)[:, :, None] + (v @ self._shifts.T)[:, None, :]
        return z

    def _outer(self, weight: Array) -> tuple[Array, Array, Array]:
        """The sums over pairs of weight times a.x a.x^T, a.x b.x^T and b.x b.x^T."""
        x = self._shifts
        uu: Array = (x.T * weight.sum(axis=-1)[..., None, :]) @ x
        vv: Array = (x.T * weight.sum(axis=-2)[..., None, :]) @ x
        return uu, x.T @ weight @ x, vv

    def _residual(self, theta: NDArray[Any]) -> Array:
        out: Array = self._y - np.einsum("hab,hj->abj", self._analyse(theta) ** 2, self._split(theta)[2])
        return out

    def _given(self, theta: NDArray[Any], residual: NDArray[Any] | None) -> Array:
        if residual is None:
            return self._residual(theta)
        p = self._period
        return checked(residual, "residual", (p * p, p)).reshape(p, p, p)
