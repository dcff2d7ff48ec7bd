"""What the reference engine asks of a problem: the leaves, each one formula in NumPy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Kernel(ABC):
    """The leaves of a problem: residual r = y - sum_i f_i, loss, utilities U(theta_i; r) and their derivatives.

    A residual may be any array the kernel understands: r on the samples, or what the data's moments leave of it.

    Attributes
    ----------
    kappa : float
        Degree of homogeneity of a neuron, of its leading term at 0 where it is not homogeneous.
    n_params : int
        Parameters per neuron, m.
    dtype : numpy dtype
        Of what the leaves return; they compute in double.
    reach : float
        A bound on what a neuron of norm 1 adds to the residual, in the measure of `size`.
    homogeneous, kinked, conserves : bool
        Whether a neuron is its own leading term; whether its gradient has steps; whether its flow conserves anything.
    """

    kappa: float
    n_params: int
    dtype: np.dtype[Any]
    reach: float
    homogeneous = True
    kinked = False
    conserves = True
    slope_below = 0.0
    slopes: Array | None = None
    # On samples only, as kinks are.
    n_samples = 0
    n_inputs = 0
    n_outputs = 0

    @abstractmethod
    def double(self) -> Self:
        """The same problem, returning float64."""

    def leading(self) -> Self:
        """The same problem with each neuron replaced by its leading homogeneous term at 0."""
        return self

    def in_cell(self, slopes: Array | None) -> Self:
        """The same problem off its kinks, with the slopes of one piece; of no account where there are none."""
        del slopes
        return self

    def inputs(self) -> Array:
        """The inputs (n, d), where there are samples."""
        return np.empty((self.n_samples, self.n_inputs))

    @abstractmethod
    def target(self) -> Array:
        """The residual of the network at zero."""

    @abstractmethod
    def size(self, residual: NDArray[Any]) -> float:
        """A norm of the residual: sqrt(E|r|^2) on samples."""

    @abstractmethod
    def residual(self, theta: NDArray[Any]) -> NDArray[Any]:
        """The residual of (H, m) parameters; H = 0 gives the target."""

    @abstractmethod
    def residual_derivative(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """The derivative of the residual along v, (H, m)."""

    @abstractmethod
    def loss(self, theta: NDArray[Any]) -> float:
        """L of (H, m) parameters."""

    @abstractmethod
    def utility_and_gradient(
        self, theta: NDArray[Any], residual: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """U(theta_i; r), (H,), and its gradient, (H, m); r that of theta itself by default."""

    @abstractmethod
    def curvature(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """Hessian of each utility, (H, m, m)."""

    @abstractmethod
    def gauss_newton(self, theta: NDArray[Any]) -> NDArray[Any]:
        """E[(df/dtheta)^T df/dtheta] over all neurons, (H m, H m): the part of hess L that couples them."""

    def hessian(self, theta: NDArray[Any]) -> NDArray[Any]:
        """Hessian of L over all neurons, (H m, H m): the Gauss-Newton matrix less the curvature of each utility."""
        double = self.double()
        at = checked(theta, "theta", (None, self.n_params))
        out = double.gauss_newton(at)
        m = self.n_params
        for i, block in enumerate(double.curvature(at)):
            out[i * m : (i + 1) * m, i * m : (i + 1) * m] -= block
        return self._give(out, theta)

    def hessian_vector(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """Hessian of L times v, (H, m): minus the derivative along v of grad U(theta; r), at fixed r and through r."""
        double = self.double()
        at = checked(theta, "theta", (None, self.n_params))
        along = checked(v, "v", at.shape)
        through = double.utility_gradient(at, double.residual_derivative(at, along))
        return self._give(-np.einsum("ijk,ik->ij", double.curvature(at), along) - through, theta)

    @abstractmethod
    def contribution(self, theta: NDArray[Any]) -> NDArray[Any]:
        """sqrt(E|f_i|^2) of each neuron, (H,)."""

    @abstractmethod
    def conserved(self, theta: NDArray[Any]) -> NDArray[Any] | None:
        """What the flow conserves of each neuron, (H,) or (H, k); None where nothing is."""

    def utility(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """U(theta_i; r), (H,)."""
        return self.utility_and_gradient(theta, residual)[0]

    def utility_gradient(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        """grad U(theta_i; r), (H, m): -dL/dtheta_i where r is the residual of theta."""
        return self.utility_and_gradient(theta, residual)[1]

    def _give(self, array: Array, theta: NDArray[Any] | None = None) -> NDArray[Any]:
        """In the dtype of what is returned: the data's, or that of theta where the kernel has none of its own."""
        del theta
        with np.errstate(over="ignore"):
            return array.astype(self.dtype, copy=False)


def checked(array: NDArray[Any], name: str, shape: tuple[int | None, ...]) -> Array:
    """The array in double, refused by name if it is not of this shape (None: any length) in float32 or float64."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} is {got}, expected a NumPy array of float32 or float64; convert it with astype")
    if array.ndim != len(shape) or any(k is not None and k != s for k, s in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if k is None else str(k) for k in shape)
        raise ValueError(
            f"{name} has shape {array.shape}, expected ({wanted}); reshape it, one neuron or sample per row"
        )
    return array.astype(np.float64, copy=False)
