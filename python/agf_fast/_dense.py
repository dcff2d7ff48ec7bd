"""Two-layer networks on samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, positive_integer, read_view
from ._backend import build
from ._samples import SampleProblem

__all__ = ["ACTIVATIONS", "Dense"]

# Degree of the leading term of sigma at 0, and whether sigma is that term; the degree of power is its exponent.
ACTIVATIONS: dict[str, tuple[int, bool]] = {
    "identity": (1, True),
    "relu": (1, True),
    "leaky_relu": (1, True),
    "square": (2, True),
    "power": (0, True),
    "tanh": (1, False),
    "gelu": (1, False),
    "elu": (1, False),
    "silu": (1, False),
    "erf": (1, False),
}


class Dense(SampleProblem):
    """A two-layer network on samples: f(x; theta) = sum_i a_i sigma(w_i . x), theta_i = (w_i, a_i).

    Residual, loss and utility are r = y - f, L = 1/2 E|r|^2 and U(theta_i; r) = E<a_i sigma(w_i . x), r(x)>, with E
    the mean over samples, and the flow is dtheta_i/dt = -dL/dtheta_i = grad U(theta_i; r). There is no bias: append a
    column of ones to X for one.

    Parameters
    ----------
    X : (n, d) array, float32 or float64
        Inputs, one sample per row. Their dtype and array type are those of everything else. Runs on float32 data whose
        evaluations take about a millisecond or less are computed in double inside. Arrays on a CUDA device (CuPy, torch
        and others, in C order) are copied there, leaves compute there on the library's stream, and every other array is
        expected there too.
    Y : (n, c) or (n,) array
        Targets.
    activation : str, default "relu"
        sigma: identity, relu, leaky_relu, square, power, tanh, gelu (z times the normal distribution function), elu
        (alpha 1), silu or erf.
    slope : float, default 0.01
        Of leaky_relu below 0; for that activation only.
    exponent : int, default 3
        k of power, z^k, from 2 to 5; for that activation only.

    Attributes
    ----------
    activation, slope, exponent
        As given; None where the activation has no such parameter.
    kappa : float
        Degree of homogeneity of a neuron: 2 for linear and (leaky) ReLU, 1 + k for z^k.
    n_params, n_samples, n_inputs, n_outputs : int
        m = d + c, n, d and c.

    Raises
    ------
    TypeError, ValueError
        On anything but finite arrays of one dtype that fit together, or an activation that is not listed.

    Notes
    -----
    The model and its utility are those of two-layer networks in Alternating Gradient Flows, arXiv 2506.06489.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 5))
    >>> problem = agf.Dense(X, np.maximum(X[:, 0], 0.0), activation="relu")
    >>> problem
    Dense(n=100, d=5, c=1, activation='relu', float64)
    >>> problem.kappa, problem.n_params
    (2.0, 6)
    """

    def __init__(self, X: Array, Y: Array, activation: str = "relu", slope: float = 0.01, exponent: int = 3) -> None:
        if not isinstance(activation, str):
            raise TypeError(
                f"activation is {type(activation).__name__}, expected a name, one of {', '.join(ACTIVATIONS)}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}; functions with sigma(0) != "
                "0, such as sigmoid, are refused, since a neuron would then act at zero norm"
            )
        if activation != "leaky_relu" and slope != 0.01:
            raise ValueError(f"slope is {slope!r} with activation {activation!r}, expected it for 'leaky_relu' only")
        if activation != "power" and exponent != 3:
            raise ValueError(f"exponent is {exponent!r} with activation {activation!r}, expected it for 'power' only")
        self.activation = activation
        self.slope = finite_number(slope, "slope") if activation == "leaky_relu" else None
        self.exponent = None
        if activation == "power":
            self.exponent = positive_integer(exponent, "exponent", 2)
            if self.exponent > 5:
                raise ValueError(f"exponent is {exponent}, expected 2 to 5")
        super().__init__(X, Y)

    def _build_on(self, backend: str, x: Any, y: Any) -> Any:
        parameter = float(self.slope if self.slope is not None else self.exponent or 0)
        return build(backend, "dense", (x, y, self.activation, parameter), self._kind.device)

    @property
    def kappa(self) -> float:
        return 1.0 + self._degree()

    @property
    def n_params(self) -> int:
        return self.n_inputs + self.n_outputs

    def split(self, theta: Array) -> dict[str, Array]:
        """First- and second-layer weights as views of the parameters.

        Parameters
        ----------
        theta : (H, m) array
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        dict
            w : (H, d) and a : (H, c), views of theta where its array type has views.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> theta = np.array([[1.0, 2.0, 3.0]])
        >>> agf.Dense(np.eye(2), np.ones(2)).split(theta)
        {'w': array([[1., 2.]]), 'a': array([[3.]])}
        """
        read_view(theta, "theta", (None, self.n_params), "(H, m)", self._kind)
        return {"w": theta[:, : self.n_inputs], "a": theta[:, self.n_inputs :]}

    def _degree(self) -> int:
        return self.exponent if self.exponent is not None else ACTIVATIONS[self.activation][0]

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64] | None:
        # k |a|^2 - |w|^2 for sigma homogeneous of degree k.
        if not ACTIVATIONS[self.activation][1]:
            return None
        w, a = theta[:, : self.n_inputs], theta[:, self.n_inputs :]
        conserved: NDArray[np.float64] = self._degree() * (a**2).sum(axis=1) - (w**2).sum(axis=1)
        return conserved

    def __repr__(self) -> str:
        extra = f", slope={self.slope:g}" if self.slope is not None else ""
        extra += f", exponent={self.exponent}" if self.exponent is not None else ""
        return (
            f"Dense(n={self.n_samples}, d={self.n_inputs}, c={self.n_outputs}, activation={self.activation!r}{extra}, "
            f"{self._kind.dtype})"
        )
