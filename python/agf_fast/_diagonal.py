"""Diagonal networks: one neuron per input, exact alternating gradient flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number, positive_integer, read
from ._backend import build, core
from ._members import GO_ON, Batch, Options, OwnOptions
from ._samples import SampleProblem
from ._state import State
from ._theory import Theory
from ._trajectory import Trajectory

__all__ = ["Diagonal"]


class Diagonal(SampleProblem):
    """A diagonal network: f(x; theta) = sum_i beta_i x_i, beta_i = prod_l u_{l,i}, theta_i = (u_{1,i}, u_{2,i}, ..).

    Residual, loss and utility are r = y - f, L = 1/2 E r^2 and U(theta_i; r) = beta_i E[x_i r], with E the mean over
    samples; the flow is du_l/dt = -dL/du_l. It conserves u_l^2 - u_k^2 of each neuron, and runs leave exact variables
    in ``State.extra``, v the layer of least |u|: ``log_conserved`` (d, depth), ln(u_l^2 - v^2); ``log_reference`` (d,),
    ln|v|; ``layer_sign`` (d, depth); ``side`` (d,), the sign that beta_i of an active neuron keeps. In the limit
    ``dual`` (d,) says how far a neuron has come from 0 to either end, +1 or -1.

    Alternating gradient flow is exact here and takes every active phase to its minimum: between jumps E[x_i r] stands
    still, so jump times are closed forms, and what is active solves a least-squares problem with signs given. With
    ``alternating_gradient_flow(problem, limit=True)`` it starts from vanishing scale alpha, with times in units of
    eta: ln(1/alpha) for depth 2. Gradient flow runs in the variables that those conserved quantities leave.

    Parameters
    ----------
    X : (n, d) array, float32 or float64
        Inputs, one sample per row, one neuron per column. Their dtype and array type are those of everything else; runs
        compute in double inside. Data on a CUDA device are brought to the host, once.
    y : (n,) or (n, 1) array
        Targets.
    depth : int, default 2
        Number of layers, at least 2.

    Attributes
    ----------
    depth : int
        As given.
    kappa : float
        The depth: degree of homogeneity of a neuron.
    n_params, n_samples, n_inputs, n_outputs : int
        m = depth, n, d and 1.

    Raises
    ------
    TypeError, ValueError
        On anything but finite arrays of one dtype that fit together, or a depth below 2.

    Notes
    -----
    Section 3 and Theorem 3.1 of Alternating Gradient Flows, arXiv 2506.06489; the limit is Pesme and Flammarion's.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Diagonal(np.eye(3), np.array([3.0, -1.5, 0.0]))
    >>> path = agf.alternating_gradient_flow(problem, limit=True)
    >>> [jump.neuron for jump in path.jumps], path.time.round(12).tolist()
    ([0, 1], [0.0, 1.0, 2.0])
    """

    _target = "y"
    _in_place = False  # the engines of the path work on the host
    _order: Literal["C", "F"] = "F"  # columns are what the engines read, and the one copy they work on

    def __init__(self, X: Array, y: Array, depth: int = 2) -> None:
        self.depth = positive_integer(depth, "depth", 2)
        super().__init__(X, y)
        if self._y.shape[1] != 1:
            raise ValueError(f"y has shape {self._y.shape}, expected (n,) or (n, 1); build one problem per column")

    def _build_on(self, backend: str, x: NDArray[Any], y: NDArray[Any]) -> Any:
        data = (np.ascontiguousarray(x.T), np.ascontiguousarray(y), self.depth)
        return build(backend, "diagonal", data, self._kind.device)

    @property
    def kappa(self) -> float:
        return float(self.depth)

    @property
    def n_params(self) -> int:
        return self.depth

    def split(self, theta: Array) -> dict[str, Array]:
        """The layers as views of the parameters.

        Parameters
        ----------
        theta : (d, depth) array
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        dict
            u and v, each (d,), for depth 2; u1, u2, .. beyond. Views of theta where its array type has views.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Diagonal(np.eye(2), np.ones(2)).split(np.array([[1.0, 2.0], [3.0, 4.0]]))
        {'u': array([1., 3.]), 'v': array([2., 4.])}
        """
        read(theta, "theta", (self.n_inputs, self.depth), "(d, depth)", self._kind)
        names = ["u", "v"] if self.depth == 2 else [f"u{layer + 1}" for layer in range(self.depth)]
        return {name: theta[:, layer] for layer, name in enumerate(names)}

    def coefficients(self, theta: Array | State) -> Array:
        """The linear model that the network is, beta_i = prod_l u_{l,i}.

        Parameters
        ----------
        theta : (d, depth) array or State
            Parameters, of the problem's array type and dtype; of a state every neuron counts, active or not.

        Returns
        -------
        (d,) array

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Diagonal(np.eye(2), np.ones(2)).coefficients(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([ 2., 12.])
        """
        return self._give(np.prod(self._read_theta(theta), axis=1))

    def initialize(  # type: ignore[override]  # the width is the number of inputs
        self, scale: float = 1e-8, *, log_scale: float | None = None
    ) -> State:
        """The network with every layer at sqrt(2) scale, and the last at 0: beta = 0.

        Parameters
        ----------
        scale : float, default 1e-8
            alpha.
        log_scale : float, optional
            Natural logarithm of the scale, in place of `scale`, for any scale at all: -23025.85 is 1e-10000.

        Returns
        -------
        State
            Of d neurons, directions in the problem's array type and dtype.

        Raises
        ------
        TypeError, ValueError
            If the scale is not a positive number, or both scales are given.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Diagonal(np.eye(2), np.ones(2)).initialize(0.5).parameters().round(6)
        array([[0.707107, 0.      ],
               [0.707107, 0.      ]])
        """
        if log_scale is None:
            log_alpha = float(np.log(finite_number(scale, "scale", above=0.0)))
        elif scale != 1e-8:
            raise ValueError(
                f"scale is {scale!r} and log_scale is {log_scale!r}, expected one of them; leave the other out"
            )
        else:
            log_alpha = finite_number(log_scale, "log_scale")
        others = self.depth - 1
        direction = np.full((self.n_inputs, self.depth), np.sqrt(1.0 / others), dtype=self._kind.dtype)
        direction[:, -1] = 0.0
        log_norm = np.full(self.n_inputs, log_alpha + 0.5 * np.log(2.0 * others))
        return State._of(self._kind, direction, log_norm)

    def theory(self) -> Theory:
        """The path of Theorem 3.1: jumps, levels and coefficients in the limit of vanishing scale alpha.

        Returns
        -------
        Theory
            With the input's number as each jump's ``neuron``, times in units of eta, and as features the coefficients
            (K, d) after each jump.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> theory = agf.Diagonal(np.eye(2), np.array([2.0, -1.0])).theory()
        >>> theory.levels.round(12).tolist(), theory.features.round(12).tolist()
        ([1.25, 0.25, 0.0], [[2.0, 0.0], [2.0, -1.0]])
        """
        options = {"max_jumps": -1, "max_seconds": float("inf")}
        coefficients = []

        def keep(member: int, jump: Any) -> int:
            state = jump["state"]
            theta = np.exp(state["log_norm"])[:, None] * state["direction"]
            coefficients.append(np.where(state["active"], theta.prod(axis=1), 0.0))
            return GO_ON

        [result] = self._limit(Batch([self], None, "cpp", keep), options, {"loss_tol": [1e-10 * self._loss_zero]})
        path = Trajectory(result, self._kind, "alternating_gradient_flow", self._loss_zero)
        levels = np.asarray(path.loss)
        features = np.array(coefficients).reshape(len(coefficients), self.n_inputs)
        return Theory(path.jumps, levels, features, "limit", _loss_zero=self._loss_zero)

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        # u_l^2 - u_k^2 for all pairs follows from those with the first layer; the largest stands for them.
        difference = theta[:, 1:] ** 2 - theta[:, :1] ** 2
        conserved: NDArray[np.float64] = difference[np.arange(len(theta)), np.abs(difference).argmax(axis=1)]
        return conserved

    def _check_state(self, state: State, name: str) -> None:
        super()._check_state(state, name)
        if len(state) != self.n_inputs:
            raise ValueError(
                f"{name} has {len(state)} neurons, expected d = {self.n_inputs}, one for each input; see "
                "problem.initialize"
            )

    def _read_theta(self, theta: Array | State, name: str = "theta") -> NDArray[Any]:
        if isinstance(theta, State):
            return super()._read_theta(theta, name)
        return read(theta, name, (self.n_inputs, self.depth), "(d, depth)", self._kind)[0]

    @property
    def _width(self) -> int:
        return self.n_inputs

    def _start(self, state: State, adaptive_rate: bool) -> dict[str, Any]:
        if "dual" in state.extra:
            raise ValueError(
                "state is one of the limit of vanishing scale, expected one of a finite scale; start from "
                "problem.initialize(scale), or take the limit again with a larger max_jumps"
            )
        return super()._start(state, adaptive_rate)

    def _alternate(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return self._path(batch, options, own)

    def _flow(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return batch.run(_engine(batch.backend, "flow"), options, own)

    def _limit(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        if options.get("activation_window", 0.0) > 0.0:
            raise ValueError(
                f"activation_window is {options['activation_window']!r} with limit=True, expected 0: log-norms are "
                "infinite in the limit; start from a small scale instead"
            )
        results = self._path(batch, options, own)
        for member, problem in enumerate(batch.problems):
            if "state" not in results[member]:
                # What was not begun, or failed, has its start to show.
                [start] = self._path(
                    Batch([problem], None, batch.backend), {**options, "max_jumps": 0}, {"loss_tol": [0.0]}
                )
                if "error" in start:
                    raise start["error"]
                results[member] = {**start, **results[member]}
        return results

    def _path(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        if np.isfinite(options.get("active_time", np.inf)):
            raise ValueError(
                f"active_time is {options['active_time']!r}, expected None: the path of a diagonal network takes each "
                "active phase to its minimum; leave it out, or follow gradient_flow"
            )
        given = {
            "max_jumps": options["max_jumps"],
            "activation_window": options.get("activation_window", 0.0),
            "adaptive_rate": options.get("adaptive_rate", False),
            "max_seconds": options["max_seconds"],
        }
        return batch.run(_engine(batch.backend, "path"), given, own)

    def __repr__(self) -> str:
        return f"Diagonal(n={self.n_samples}, d={self.n_inputs}, depth={self.depth}, {self._kind.dtype})"


def _engine(backend: str, name: str) -> Callable[..., Any]:
    if backend in ("cpp", "cuda"):  # those of the compiled core drive kernels of a GPU as well
        run: Callable[..., Any] = getattr(core(), f"diagonal_{name}")
        return run
    return lambda kernel, *given, **options: getattr(kernel, name)(*given, **options)
