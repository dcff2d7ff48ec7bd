"""Problems on samples: inputs X, targets Y, and the residual on every one of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _cuda_status
from ._arrays import Array, host, read, read_view
from ._device import View
from ._problem import Problem
from ._state import State

__all__ = ["SampleProblem"]


class SampleProblem(Problem):
    """A problem on n samples of d inputs and c outputs; E is the mean over samples."""

    # NumPy arrays, or for data on a device views of arrays there.
    _x: Any
    _y: Any
    _in_place = (
        True  # whether data on a device stay there; otherwise the host holds them, and kernels take them from it
    )
    _order: Literal["C", "F"] = "C"  # of the copy of X
    _target = "Y"  # the targets' name in messages
    _flat: bool  # targets came as (n,): residuals and predictions have that shape too

    def __init__(self, X: Array, Y: Array) -> None:
        # As it lies in memory: the copy below is the only one, and may be most of what the machine holds.
        x, kind = read_view(X, "X", (None, None), "(n, d)")
        ndim = getattr(Y, "ndim", 2)
        self._flat = ndim == 1
        if self._flat:
            y, _ = read_view(Y, self._target, (x.shape[0],), "(n,)", kind)
            y = y.column() if isinstance(y, View) else y[:, None]
        else:
            y, _ = read_view(Y, self._target, (x.shape[0], None), "(n, c)", kind)
        for name, values in (("X", x), (self._target, y)):
            square = mean_square(values)
            if not square < np.finfo(kind.dtype).max:
                raise ValueError(
                    f"{name} has a mean square of {square:.3g} per sample, expected one within {kind.dtype}; rescale X "
                    f"and {self._target} (a mean square near 1 is best)"
                )
        super().__init__(kind, 0.5 * mean_square(y))
        # Copies, because kernels are made when first needed: the caller may change the arrays until then.
        if kind.device is not None and self._in_place:
            self._x, self._y = x.copy(), y.copy()
        else:
            self._x, self._y = np.array(host(x), order=self._order), np.array(host(y), order="C")

    @abstractmethod
    def _build_on(self, backend: str, x: Any, y: Any) -> Any:
        """The kernel of a resolved backend on these samples."""

    def _build(self, backend: str) -> Any:
        return self._build_on(backend, self._x, self._y)

    @property
    def n_samples(self) -> int:
        """Samples, n."""
        return int(self._x.shape[0])

    @property
    def n_inputs(self) -> int:
        """Inputs, d."""
        return int(self._x.shape[1])

    @property
    def n_outputs(self) -> int:
        """Outputs, c."""
        return int(self._y.shape[1])

    def predict(self, theta: Array | State, X: Array) -> Array:
        """The network's outputs f(x; theta) on other samples.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        X : (k, d) array
            Inputs, centred and scaled as the problem's own were.

        Returns
        -------
        (k, c) array
            Or (k,) if the targets were given as (n,).

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="relu")
        >>> problem.predict(np.array([[1.0, 0.0, 0.0, 2.0]]), np.array([[3.0, 5.0]]))
        array([[0., 6.]])
        """
        reader = read if self._kind.device is None else read_view
        x, _ = reader(X, "X", (None, self.n_inputs), "(k, d)", self._kind)
        return self._flattened(self._give(self._kernel().predict(self._leaf_theta(theta), x)))

    def residual(self, theta: Array | State) -> Array:
        return self._flattened(self._give(self._kernel().residual(self._leaf_theta(theta))))

    residual.__doc__ = Problem.residual.__doc__

    @property
    def _residual_shape(self) -> tuple[int, ...]:
        return tuple(self._y.shape)

    def _read_residual(self, residual: Array | None) -> NDArray[Any] | None:
        if residual is not None and self._flat and getattr(residual, "ndim", 0) == 1:
            return read(residual, "residual", (self.n_samples,), "(n,)", self._kind)[0][:, None]
        return super()._read_residual(residual)

    def _leaf_residual(self, residual: Array | None) -> Any:
        if self._kind.device is not None and self._flat and getattr(residual, "ndim", 0) == 1:
            return read_view(residual, "residual", (self.n_samples,), "(n,)", self._kind)[0].column()
        return super()._leaf_residual(residual)

    def _flattened(self, rows: Array) -> Array:
        return rows[:, 0] if self._flat else rows


def mean_square(values: NDArray[Any] | View) -> float:
    """E|v|^2 over rows, in float64."""
    if isinstance(values, View):
        return _cuda_status._cuda.sum_of_squares(values) / len(values)
    with np.errstate(over="ignore"):
        return float(np.einsum("ij,ij->", values, values, dtype=np.float64)) / len(values)
