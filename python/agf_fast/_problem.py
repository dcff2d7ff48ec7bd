"""What every problem offers: a model bound to data, with the leaves of the theory on the caller's arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, ArrayKind, finite_number, positive_integer, read, read_view
from ._backend import engine, resolve
from ._members import Batch, Options, OwnOptions
from ._state import State, polar
from ._theory import Theory
from ._trajectory import Trajectory

__all__ = ["Problem"]


class Problem(ABC):
    """A model bound to data: f(x; theta) = sum_i f_i(x; theta_i), r = y - f, L = 1/2 E|r|^2, E the mean over the data.

    Not built directly; see `Dense`, `Diagonal`, `Linear`, `Attention` and `ModularAddition`.
    """

    _kind: ArrayKind
    _loss_zero: float  # L of the zero network

    def __init__(self, kind: ArrayKind, loss_zero: float) -> None:
        self._kind = kind
        self._loss_zero = float(loss_zero)
        self._kernels: dict[str, Any] = {}

    @abstractmethod
    def _build(self, backend: str) -> Any:
        """The kernel of a resolved backend."""

    @property
    @abstractmethod
    def _residual_shape(self) -> tuple[int, ...]:
        """The shape of residuals."""

    @property
    def _width(self) -> int | None:
        """The number of neurons, where the problem itself says it."""
        return None

    @property
    @abstractmethod
    def kappa(self) -> float:
        """Degree of homogeneity of f_i in theta_i; for a non-homogeneous activation, of its leading term at 0."""

    @property
    @abstractmethod
    def n_params(self) -> int:
        """Parameters per neuron, m."""

    @abstractmethod
    def split(self, theta: Array) -> dict[str, Array]:
        """The blocks of the parameters by name."""

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """What each neuron conserves along the flow, (H,) or (H, k); None where there is nothing."""
        return None

    def loss(self, theta: Array | State) -> float:
        """The loss L = 1/2 E|y - f|^2, summed over outputs.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Dense(np.eye(2), np.eye(2)).loss(np.zeros((1, 4)))
        0.5
        """
        return float(self._kernel().loss(self._leaf_theta(theta)))

    def residual(self, theta: Array | State) -> Array:
        """The residual r = y - sum_i f_i(x; theta_i) on every sample.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        array
            (n, c), or (n,) if the targets were given so; for problems that know their data by moments, see there.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Dense(np.eye(2), np.array([1.0, -1.0])).residual(np.zeros((1, 3)))
        array([ 1., -1.])
        """
        return self._give(self._kernel().residual(self._leaf_theta(theta)))

    def utility(self, theta: Array | State, residual: Array | None = None) -> Array:
        """The utility U(theta_i; r) = E<f_i(x; theta_i), r(x)> of each neuron, the activation itself at the given norm.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        residual : array, optional
            The residual r to align with, as `residual` gives it. None: that of `theta` itself, every row included.

        Returns
        -------
        (H,) array

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
        >>> problem.utility(np.array([[1.0, 0.0, 1.0, 0.0]]), residual=np.eye(2))
        array([0.5])
        """
        return self._give(self._kernel().utility(self._leaf_theta(theta), self._leaf_residual(residual)))

    def utility_gradient(self, theta: Array | State, residual: Array | None = None) -> Array:
        """The Euclidean gradient of the utility; with residual=None it is -dL/dtheta.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        residual : array, optional
            The residual r to align with, as `residual` gives it. None: that of `theta` itself, every row included.

        Returns
        -------
        (H, m) array
            Not projected on the sphere.

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
        >>> problem.utility_gradient(np.array([[1.0, 0.0, 1.0, 0.0]]), residual=np.eye(2))
        array([[0.5, 0. , 0.5, 0. ]])
        """
        return self._give(self._kernel().utility_gradient(self._leaf_theta(theta), self._leaf_residual(residual)))

    def utility_and_gradient(self, theta: Array | State, residual: Array | None = None) -> tuple[Array, Array]:
        """U(theta_i; r) = E<f_i(x; theta_i), r(x)> of each neuron and its Euclidean gradient, as `utility` and
        `utility_gradient` give them, in one pass over the data.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        residual : array, optional
            The residual r to align with, as `residual` gives it. None: that of `theta` itself, every row included.

        Returns
        -------
        (H,) array, (H, m) array

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
        >>> problem.utility_and_gradient(np.array([[1.0, 0.0, 1.0, 0.0]]), residual=np.eye(2))
        (array([0.5]), array([[0.5, 0. , 0.5, 0. ]]))
        """
        value, gradient = self._kernel().utility_and_gradient(self._leaf_theta(theta), self._leaf_residual(residual))
        return self._give(value), self._give(gradient)

    def hessian_vector(self, theta: Array | State, v: Array) -> Array:
        """The Hessian of the loss, over all neurons together, times a vector.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        v : (H, m) array
            The vector, in the shape of theta.

        Returns
        -------
        (H, m) array

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.zeros((2, 1)), activation="identity")
        >>> problem.hessian_vector(np.array([[0.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0]])) + 0.0
        array([[0.5, 0. , 0. ]])
        """
        rows = self._leaf_theta(theta)
        reader = read if self._kind.device is None else read_view
        along = reader(v, "v", rows.shape, "(H, m)", self._kind)[0]
        return self._give(self._kernel().hessian_vector(rows, along))

    @overload
    def initialize(
        self, width: int, scale: float = 1e-8, seed: int = 0, *, log_scale: float | None = None
    ) -> State: ...

    @overload
    def initialize(
        self, width: int, scale: float = 1e-8, *, seed: Sequence[int] | NDArray[Any], log_scale: float | None = None
    ) -> tuple[State, ...]: ...

    def initialize(
        self,
        width: int,
        scale: float = 1e-8,
        seed: int | Sequence[int] | NDArray[Any] = 0,
        *,
        log_scale: float | None = None,
    ) -> State | tuple[State, ...]:
        """A random network: parameters independent and normal, N(0, scale^2 / m), so that E|theta_i|^2 = scale^2.

        Parameters
        ----------
        width : int
            Number of neurons, H.
        scale : float, default 1e-8
            Standard deviation of a neuron's norm about zero.
        seed : int or sequence of int, default 0
            Of ``numpy.random.default_rng``; the directions do not depend on the scale. A sequence gives one network
            each, the same as alone.
        log_scale : float, optional
            Natural logarithm of the scale, in place of `scale`, for any scale at all: -23025.85 is 1e-10000.

        Returns
        -------
        State or tuple of State
            Directions in the problem's array type and dtype. For a sequence of seeds a tuple, which the verbs take as
            an ensemble.

        Raises
        ------
        TypeError, ValueError
            If the width is not an integer of at least 1, the scale not a positive number, or both scales are given.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Dense(np.eye(2), np.eye(2))
        >>> problem.initialize(3, log_scale=-23025.85).direction.shape
        (3, 4)
        >>> len(problem.initialize(3, seed=range(100)))
        100
        """
        count = positive_integer(width, "width")
        several = isinstance(seed, (Sequence, np.ndarray)) and not isinstance(seed, (str, bytes))
        given = list(seed) if several else [seed]  # type: ignore[arg-type]
        if not given:
            raise ValueError("seed is empty, expected an integer, or one for each network")
        seeds = [positive_integer(one, f"seed[{k}]" if several else "seed", 0) for k, one in enumerate(given)]
        if log_scale is None:
            shift = float(np.log(finite_number(scale, "scale", above=0.0)))
        elif scale != 1e-8:
            raise ValueError(
                f"scale is {scale!r} and log_scale is {log_scale!r}, expected one of them; leave the other out"
            )
        else:
            shift = finite_number(log_scale, "log_scale")
        states = []
        for one in seeds:
            draw = np.random.default_rng(one).normal(size=(count, self.n_params)) / np.sqrt(self.n_params)
            direction, log_norm = polar(draw)
            states.append(State._of(self._kind, direction, log_norm + shift))
        return tuple(states) if several else states[0]

    def theory(self) -> Theory:
        """Closed-form levels, jump times and features, where the paper has them.

        Returns
        -------
        Theory

        Raises
        ------
        TypeError
            Always, for a problem without a closed form.
        """
        raise TypeError(
            f"{type(self).__name__} has no closed form, expected a problem that has one; run "
            "alternating_gradient_flow, and compare it with gradient_flow"
        )

    def _kernel(self, backend: str = "auto") -> Any:
        name = resolve(backend, self._kind.device) if backend == "auto" else backend
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = self._kernels[name] = self._build(name)
        return kernel

    # The leaves take arrays of a device where they lie; whatever else reads parameters has them on the host.

    def _leaf_theta(self, theta: Array | State) -> Any:
        if self._kind.device is None or isinstance(theta, State):
            return self._kind.view(self._read_theta(theta))
        return read_view(theta, "theta", (self._width, self.n_params), "(H, m)", self._kind)[0]

    def _leaf_residual(self, residual: Array | None) -> Any:
        if self._kind.device is None or residual is None:
            return self._read_residual(residual)
        return read_view(
            residual, "residual", self._residual_shape, "the shape of problem.residual(theta)", self._kind
        )[0]

    def _read_theta(self, theta: Array | State, name: str = "theta") -> NDArray[Any]:
        if isinstance(theta, State):
            self._check_state(theta, name)
            return theta._theta()
        return read(theta, name, (None, self.n_params), "(H, m)", self._kind)[0]

    def _read_state(self, state: Array | State, name: str = "state") -> State:
        if isinstance(state, State):
            self._check_state(state, name)
            return state
        if isinstance(state, Trajectory):
            raise TypeError(f"{name} is a Trajectory, expected a State or (H, m) array; take the run's .state")
        rows, kind = read(state, name, (self._width, self.n_params), "(H, m)", self._kind)
        return State._from_rows(rows, kind, name)

    def _check_state(self, state: State, name: str) -> None:
        # The array library may differ: a state that was loaded from a file is NumPy.
        if state._kind.dtype != self._kind.dtype:
            raise TypeError(
                f"{name} has directions of dtype {state._kind.dtype}, expected {self._kind.dtype} as in the problem's "
                "data; build it anew in that dtype"
            )
        if int(state.direction.shape[1]) != self.n_params:
            raise ValueError(
                f"{name} has {int(state.direction.shape[1])} parameters per neuron, expected m = {self.n_params}; it "
                "belongs to a problem of another size"
            )

    def _read_residual(self, residual: Array | None) -> NDArray[Any] | None:
        if residual is None:
            return None  # the kernel takes its own
        return read(residual, "residual", self._residual_shape, "the shape of problem.residual(theta)", self._kind)[0]

    # An orthonormal basis of the residuals in the measure of the data, up to a factor common to all: E[r r] for r on
    # samples, what such residuals leave of the moments elsewhere.

    def _probe_count(self) -> int:
        return int(np.prod(self._residual_shape))

    def _probe(self, place: int) -> NDArray[np.float64]:
        one = np.zeros(self._residual_shape)
        one.flat[place] = 1.0
        return one

    # What the verbs run, for all problems of the batch (of which this is the first). A problem with engines of its own
    # overrides these; records are those of the compiled engine.

    def _start(self, state: State, adaptive_rate: bool) -> dict[str, Any]:
        return state._start(self.kappa, adaptive_rate)

    def _alternate(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return batch.run(engine(batch.backend).alternating_gradient_flow, options, own)

    def _flow(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return batch.run(engine(batch.backend).gradient_flow, options, own)

    def _limit(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        """Alternating gradient flow in the limit of vanishing initialisation."""
        raise TypeError(
            f"limit is True for {type(self).__name__}, expected a problem whose limit is known exactly (Diagonal); "
            "leave it out and start from a small scale"
        )

    def _give(self, array: Any) -> Array:
        return self._kind.wrap(array)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernels": {}}  # kernels are made again where they are needed
