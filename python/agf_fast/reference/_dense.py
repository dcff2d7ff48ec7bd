"""Two-layer networks on samples: f(x; theta) = sum_i a_i sigma(w_i . x), theta_i = (w_i, a_i), E the mean over samples.

With z = X w^T, g = R a^T:  U = E[sigma(z) g],  grad_a U = E[sigma(z) r],  grad_w U = E[sigma'(z) g x],  and
-dL/dtheta_i = grad U.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import Kernel, checked
from ._sigma import NAMES, Sigma

Array = NDArray[np.float64]


class Dense(Kernel):
    """The leaves of a two-layer network on samples, each one formula in NumPy.

    f(x; theta) = sum_i a_i sigma(w_i . x),  r = y - f,  L = 1/2 E|r|^2,  U(theta_i; r) = E<a_i sigma(w_i . x), r(x)>.
    Computes in double whatever the dtype, and returns arrays in the dtype of X.

    Parameters
    ----------
    X : (n, d) array, float32 or float64
        Inputs.
    Y : (n, c) array
        Targets, in the dtype of X.
    activation : str
        identity, relu, leaky_relu, square, power, tanh, gelu, elu, silu or erf.
    parameter : float, default 0
        Slope of leaky_relu below 0; exponent of power, 2 to 5.

    Attributes
    ----------
    kappa : float
        Degree of homogeneity of a neuron, of its leading term at 0 where sigma is not homogeneous.
    n_params, n_samples, n_inputs, n_outputs : int
        m = d + c, n, d and c.
    input_scale : float
        sqrt E|x|^2.

    Raises
    ------
    TypeError, ValueError
        On a wrong dtype, shape, value or activation.

    Notes
    -----
    Utility and flow are those of Alternating Gradient Flows, arXiv 2506.06489.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast.reference import Dense
    >>> kernel = Dense(np.eye(2), np.eye(2), "identity")
    >>> kernel.utility(np.array([[1.0, 0.0, 1.0, 0.0]]), np.eye(2))
    array([0.5])
    """

    def __init__(self, X: NDArray[Any], Y: NDArray[Any], activation: str, parameter: float = 0.0) -> None:
        for name, array in (("X", X), ("Y", Y)):
            if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
                got = getattr(array, "dtype", type(array).__name__)
                raise TypeError(
                    f"{name} is {got}, expected a NumPy array of float32 or float64; convert it with astype"
                )
            if array.ndim != 2 or 0 in array.shape:
                raise ValueError(f"{name} has shape {array.shape}, expected two dimensions, none of them empty")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} has NaN or infinite values, expected finite ones; remove those samples")
        if X.dtype != Y.dtype:
            raise TypeError(f"Y is {Y.dtype}, expected {X.dtype}, the dtype of X; convert one of them")
        if len(X) != len(Y):
            raise ValueError(f"Y has {len(Y)} samples, expected {len(X)}, as many as X; pair them")
        if activation not in NAMES:
            raise ValueError(f"activation is {activation!r}, expected one of {', '.join(NAMES)}; choose one of these")
        if activation == "power" and parameter not in (2, 3, 4, 5):
            raise ValueError(
                f"parameter is {parameter!r} for 'power', expected an exponent 2, 3, 4 or 5; choose one of these"
            )
        if not np.isfinite(parameter):
            raise ValueError(f"parameter is {parameter!r}, expected a finite number; leave it 0 where there is none")
        self.dtype = X.dtype
        self._x = np.array(X, dtype=np.float64)
        self._y = np.array(Y, dtype=np.float64)
        self._set(Sigma(activation, float(parameter)))
        self.n_samples, self.n_inputs = X.shape
        self.n_outputs = Y.shape[1]
        self.n_params = self.n_inputs + self.n_outputs
        self.input_scale = float(np.sqrt(np.mean(np.sum(self._x**2, axis=1))))
        with np.errstate(over="ignore"):
            self.reach = float(np.sqrt(np.mean(np.sum(self._x**2, axis=1) ** self.sigma.degree)))

    # Other readings of the same problem, for the phases; data are shared.

    def double(self) -> Dense:
        """The same problem, returning float64."""
        return self._variant(dtype=np.dtype(np.float64))

    def leading(self) -> Dense:
        """The same problem with sigma replaced by its leading homogeneous term at 0."""
        other = self._variant()
        other._set(self.sigma.leading())
        return other

    def in_cell(self, slopes: Array | None) -> Dense:
        """The same problem with sigma(z) = slope z, one slope per sample and neuron: a kinked sigma off its kinks."""
        return self._variant(slopes=slopes)

    def inputs(self) -> Array:
        """X in double."""
        return self._x

    def target(self) -> Array:
        """Y in double."""
        return self._y

    def size(self, residual: NDArray[Any]) -> float:
        """sqrt(E|r|^2)."""
        return float(np.sqrt(np.mean(np.sum(np.square(residual, dtype=np.float64), axis=1))))

    def _set(self, sigma: Sigma) -> None:
        self.sigma, self.kappa = sigma, sigma.kappa
        self.homogeneous, self.kinked, self.slope_below = sigma.homogeneous, sigma.kinked, sigma.slope_below
        self.conserves = sigma.conserved_degree is not None

    def _variant(self, **changes: Any) -> Dense:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    # The kernel methods.

    def predict(self, theta: NDArray[Any], X_new: NDArray[Any]) -> NDArray[Any]:
        """f(x; theta) on other inputs.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.
        X_new : (k, d) array
            Inputs.

        Returns
        -------
        (k, c) array
        """
        w, a = self._split(theta)
        x = checked(X_new, "X_new", (None, self.n_inputs))
        return self._give(self.sigma.value(x @ w.T) @ a)

    def residual(self, theta: NDArray[Any]) -> NDArray[Any]:
        """r = y - sum_i f_i(x; theta_i).

        Parameters
        ----------
        theta : (H, m) array
            Parameters; H = 0 gives y.

        Returns
        -------
        (n, c) array
        """
        return self._give(self._residual(theta))

    def loss(self, theta: NDArray[Any]) -> float:
        """L = 1/2 E|r|^2.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        float
        """
        return 0.5 * float(np.mean(np.sum(self._residual(theta) ** 2, axis=1)))

    def utility_and_gradient(
        self, theta: NDArray[Any], residual: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """U(theta_i; r) and its gradient.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.
        residual : (n, c) array, optional
            r; that of theta itself by default.

        Returns
        -------
        (H,) array, (H, m) array
        """
        w, a = self._split(theta)
        r = self._given(theta, residual)
        z = self._x @ w.T
        g = r @ a.T
        value = self._value(z)
        utility = np.mean(value * g, axis=0)
        gradient = np.hstack([(self._first(z) * g).T @ self._x, value.T @ r]) / self.n_samples
        return self._give(utility), self._give(gradient)

    def residual_derivative(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """Derivative of the residual along v: -sum_i [a_i sigma'(z_i) (v_w . x) + v_a sigma(z_i)].

        Parameters
        ----------
        theta, v : (H, m) array
            Parameters and the direction of change.

        Returns
        -------
        (n, c) array
        """
        w, a = self._split(theta)
        v_w, v_a = self._split(v)
        z = self._x @ w.T
        return self._give(-(self._first(z) * (self._x @ v_w.T)) @ a - self._value(z) @ v_a)

    def curvature(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """Hessian of each utility: ww E[sigma'' g x x^T], wa E[sigma' x r^T], aa 0.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.
        residual : (n, c) array, optional
            r; that of theta itself by default.

        Returns
        -------
        (H, m, m) array
        """
        w, a = self._split(theta)
        r = self._given(theta, residual)
        z = self._x @ w.T
        first = self._first(z)
        second = self._second(z) * (r @ a.T)
        d = self.n_inputs
        out = np.zeros((len(w), self.n_params, self.n_params))
        for i in range(len(w)):
            out[i, :d, :d] = (self._x * second[:, i : i + 1]).T @ self._x / self.n_samples
            out[i, :d, d:] = (self._x * first[:, i : i + 1]).T @ r / self.n_samples
            out[i, d:, :d] = out[i, :d, d:].T
        return self._give(out)

    def gauss_newton(self, theta: NDArray[Any]) -> NDArray[Any]:
        """E[(df/dtheta)^T df/dtheta] over all neurons together, the part of hess L that couples them.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H m, H m) array
        """
        w, a = self._split(theta)
        n, d, c, count = self.n_samples, self.n_inputs, self.n_outputs, len(w)
        z = self._x @ w.T
        value = self._value(z)
        # df/dw_i = a_i (sigma'(z_i) x)^T and df/da_i = sigma(z_i) 1: the outputs enter through a_i . a_j alone.
        slopes = (self._first(z)[:, :, None] * self._x[:, None, :]).reshape(n, count * d)
        ww = (slopes.T @ slopes / n).reshape(count, d, count, d) * (a @ a.T)[:, None, :, None]
        wa = (slopes.T @ value / n).reshape(count, d, count, 1) * a[:, None, None, :]
        aa = (value.T @ value / n)[:, None, :, None] * np.eye(c)[None, :, None, :]
        out = np.empty((count, d + c, count, d + c))
        out[:, :d, :, :d], out[:, :d, :, d:], out[:, d:, :, d:] = ww, wa, aa
        out[:, d:, :, :d] = wa.transpose(2, 3, 0, 1)
        return self._give(out.reshape(count * self.n_params, -1))

    def contribution(self, theta: NDArray[Any]) -> NDArray[Any]:
        """sqrt E|f_i|^2 of each neuron.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H,) array
        """
        w, a = self._split(theta)
        value = self._value(self._x @ w.T)
        return self._give(np.linalg.norm(a, axis=1) * np.sqrt(np.mean(value**2, axis=0)))

    def conserved(self, theta: NDArray[Any]) -> NDArray[Any] | None:
        """k |a_i|^2 - |w_i|^2, which the flow conserves for sigma homogeneous of degree k; None for the others.

        Parameters
        ----------
        theta : (H, m) array
            Parameters.

        Returns
        -------
        (H,) array or None
        """
        k = self.sigma.conserved_degree
        if k is None:
            return None
        w, a = self._split(theta)
        return self._give(k * np.sum(a**2, axis=1) - np.sum(w**2, axis=1))

    def _value(self, z: Array) -> Array:
        return self.sigma.value(z) if self.slopes is None else self.slopes * z

    def _first(self, z: Array) -> Array:
        return self.sigma.first(z) if self.slopes is None else self.slopes

    def _second(self, z: Array) -> Array:
        return self.sigma.second(z) if self.slopes is None else np.zeros_like(z)

    def _split(self, theta: NDArray[Any]) -> tuple[Array, Array]:
        rows = checked(theta, "theta", (None, self.n_params))
        return rows[:, : self.n_inputs], rows[:, self.n_inputs :]

    def _residual(self, theta: NDArray[Any]) -> Array:
        w, a = self._split(theta)
        return self._y - self._value(self._x @ w.T) @ a

    def _given(self, theta: NDArray[Any], residual: NDArray[Any] | None) -> Array:
        if residual is None:
            return self._residual(theta)
        return checked(residual, "residual", (self.n_samples, self.n_outputs))
