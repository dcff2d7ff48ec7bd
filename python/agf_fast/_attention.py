"""Attention-only linear transformers on in-context linear regression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, ArrayKind, positive_integer, read
from ._backend import build
from ._factors import Factors, of_samples
from ._problem import Problem
from ._state import State, mean_crossing_log
from ._theory import Theory
from ._trajectory import Trajectory

__all__ = ["Attention"]

_TILE = 1 << 22  # numbers of one tile of features


class Attention(Problem):
    """Attention heads on in-context linear regression, population flow: f = sum_i v_i (q_i . x_q) (k_i . s).

    A prompt holds N pairs (x_j, y_j = beta . x_j) and a query x_q, all x ~ N(0, Sigma), and a task beta ~ N(0, I) of
    its own; s = sum_j y_j x_j is what an attention-only linear transformer sees of the pairs, and y_q = beta . x_q what
    it is asked for. Heads are neurons, theta_i = (v_i, q_i, k_i), kappa = 3, and act through V = sum_i v_i q_i k_i^T:

        L = 1/2 E(y_q - x_q^T V s)^2 = 1/2 [tr Sigma - 2N tr(Sigma V Sigma) + tr(V Gamma V^T Sigma)],
        Gamma = E[s s^T] = N(N+1) Sigma^2 + N tr(Sigma) Sigma

    in closed form, without sampling. Residuals are the (D, D) matrix M = -dL/dV = N Sigma^2 - Sigma V Gamma, and the
    utility of a head is U(theta; M) = v q^T M k.

    Parameters
    ----------
    covariance : (D, D) array, float32 or float64
        Sigma, symmetric and positive definite. Its array type and dtype are those of everything else; numbers are
        computed in double inside.
    context : int, default 32
        N, pairs in a prompt.

    Attributes
    ----------
    context : int
        N.
    dimension : int
        D.
    kappa : float
        3.
    n_params : int
        m = 1 + 2D.
    variances : (D,) array
        Eigenvalues of Sigma, largest first.
    components : (D, D) array
        Principal components, one row each, in that order; each with its largest entry positive.

    Raises
    ------
    TypeError, ValueError
        On anything but a finite, symmetric, positive definite matrix and a context of at least 1.

    Notes
    -----
    The system is that of Alternating Gradient Flows, arXiv 2506.06489, section 4.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Attention(np.diag([1.0, 0.5]), context=8)
    >>> problem
    Attention(D=2, context=8, float64)
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(3, scale=1e-3))
    >>> [round(jump.loss_after, 6) for jump in path.jumps]
    [0.369048, 0.202381]
    >>> problem.spectrum(path.state).round(6)
    array([0.095238, 0.166667])
    """

    context: int
    _spread: NDArray[np.float64]  # eigenvalues of Sigma, falling
    _basis: NDArray[np.float64]  # their eigenvectors, as rows
    _samples: Factors | None = None  # of (vec(x_q s^T), y_q); None: the population
    _n_samples: int = 0

    def __init__(self, covariance: Array, context: int = 32) -> None:
        matrix, kind = read(covariance, "covariance", (None, None), "(D, D)")
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"covariance has shape {matrix.shape}, expected a square matrix (D, D)")
        self.context = positive_integer(context, "context")
        self._spread, self._basis = _principal(_symmetric(matrix, kind))
        if not self._spread[-1] > len(matrix) * np.finfo(kind.dtype).eps * self._spread[0]:
            raise ValueError(
                f"covariance has eigenvalues from {self._spread[-1]:.3g} to {self._spread[0]:.3g}, expected a positive "
                "definite matrix; leave out directions without variance"
            )
        scale = self._spread[0] * float(min(self.context, 10**300))
        if not 1e-100 < scale < 1e100:
            raise ValueError(
                f"covariance has an eigenvalue of {self._spread[0]:.3g} with context {self.context}, expected numbers "
                "whose cubes a double holds; rescale it"
            )
        super().__init__(kind, 0.5 * float(self._spread.sum()))

    @classmethod
    def from_samples(cls, prompts: Array) -> Attention:
        """The same network on a finite set of prompts: E is the mean over them.

        Parameters
        ----------
        prompts : (n, N + 1, D + 1) array, float32 or float64
            Prompt by prompt, the rows (x_j, y_j) of its N pairs, then the row (x_q, y_q) of the query with the answer
            that the network is asked for, which it does not see. Those on a CUDA device are brought to the host, once,
            for their moments.

        Returns
        -------
        Attention
            With ``variances`` and ``components`` those of E[x x^T] over all rows of all prompts; `theory` is for the
            population.

        Raises
        ------
        TypeError, ValueError
            On anything but a finite array of that shape, or features that are zero in every prompt.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> rng = np.random.default_rng(0)
        >>> x, task = rng.normal(size=(1000, 9, 2)) * [1.0, 0.7], rng.normal(size=(1000, 1, 2))
        >>> problem = agf.Attention.from_samples(np.concatenate([x, (x * task).sum(axis=2)[..., None]], axis=2))
        >>> problem
        Attention(n=1000, D=2, context=8, float64)
        """
        data, kind = read(prompts, "prompts", (None, None, None), "(n, N + 1, D + 1)")
        if data.shape[1] < 2 or data.shape[2] < 2:
            raise ValueError(
                f"prompts has shape {data.shape}, expected (n, N + 1, D + 1) with N and D at least 1: rows (x_j, y_j), "
                "the query last"
            )
        problem = cls.__new__(cls)
        problem.context = data.shape[1] - 1
        with np.errstate(over="ignore", invalid="ignore"):
            factors = of_samples(_features(data), len(data))
        zero = factors.least + 0.5 * float(np.sum(factors.targets**2))
        x = data[:, :, :-1].reshape(-1, data.shape[2] - 1).astype(np.float64, copy=False)
        moment = x.T @ x / len(x)
        if factors.inputs.size == 0:
            raise ValueError(
                "prompts have x_q s^T = 0 throughout, s = sum_j y_j x_j, expected some in which it is not: there is "
                "nothing for a head to see"
            )
        problem._samples, problem._n_samples = factors, len(data)
        problem._spread, problem._basis = _principal(moment)
        Problem.__init__(problem, kind, zero)
        return problem

    def _build(self, backend: str) -> Any:
        if self._samples is not None:
            return build(backend, "attention_samples_kernel", self._samples, self._kind.device)
        queries, keys = self._sides()
        targets = np.diag(self.context * self._spread * np.sqrt(self._spread / self._seen()))
        data = (queries, keys, targets, float(self._levels()[-1]))
        return build(backend, "attention_kernel", data, self._kind.device)

    def _seen(self) -> NDArray[np.float64]:
        """The eigenvalues of Gamma = N (N + 1) Sigma^2 + N tr(Sigma) Sigma."""
        n, spread = self.context, self._spread
        return np.asarray(n * spread * ((n + 1) * spread + spread.sum()))

    def _sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """queries and keys of L = L_* + 1/2 |targets - queries V keys^T|^2.

        Sigma = queries^T queries, Gamma = keys^T keys: all are diagonal in the principal components.
        """
        return np.sqrt(self._spread)[:, None] * self._basis, np.sqrt(self._seen())[:, None] * self._basis

    def _probe_count(self) -> int:
        return self.dimension**2 if self._samples is None else len(self._samples.inputs)

    def _probe(self, place: int) -> NDArray[np.float64]:
        if self._samples is not None:
            return np.asarray(self._samples.inputs[place].reshape(self._residual_shape))
        queries, keys = self._sides()
        query, key = divmod(place, self.dimension)
        return np.outer(queries[query], keys[key])

    @property
    def _residual_shape(self) -> tuple[int, ...]:
        return (self.dimension, self.dimension)

    @property
    def kappa(self) -> float:
        return 3.0

    @property
    def dimension(self) -> int:
        """D."""
        return len(self._spread)

    @property
    def n_params(self) -> int:
        return 1 + 2 * self.dimension

    @property
    def variances(self) -> Array:
        """Eigenvalues of Sigma, largest first, (D,)."""
        return self._give_double(self._spread)

    @property
    def components(self) -> Array:
        """Principal components, one row each, largest variance first, (D, D)."""
        return self._give_double(self._basis)

    def split(self, theta: Array) -> dict[str, Array]:
        """Value, query and key weights of the heads as views of the parameters.

        Parameters
        ----------
        theta : (H, m) array
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        dict
            v : (H, 1), q : (H, D) and k : (H, D), views of theta where its array type has views.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Attention(np.eye(1)).split(np.array([[1.0, 2.0, 3.0]]))
        {'v': array([[1.]]), 'q': array([[2.]]), 'k': array([[3.]])}
        """
        read(theta, "theta", (None, self.n_params), "(H, m)", self._kind)
        return {"v": theta[:, :1], "q": theta[:, 1 : 1 + self.dimension], "k": theta[:, 1 + self.dimension :]}

    def attention_matrix(self, theta: Array | State) -> Array:
        """What the heads have learned together, V = sum_i v_i q_i k_i^T: the prediction is x_q^T V s.

        Every row counts, as in `loss`; of a run's state ``state.parameters()[state.active]`` are the active heads.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        (D, D) array

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Attention(np.eye(2)).attention_matrix(np.array([[2.0, 1.0, 0.0, 0.0, 3.0]]))
        array([[0., 6.],
               [0., 0.]])
        """
        return self._give_double(_product(self._read_theta(theta)))

    def spectrum(self, theta: Array | State) -> Array:
        """How much of each principal component is learned: u_j^T V u_j, largest variance first.

        At equilibrium it is 1/((N+1) lambda_j + tr Sigma) where the component is learned and 0 where it is not, and V
        has no other entries in this basis.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        (D,) array

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Attention(np.diag([1.0, 2.0])).spectrum(np.array([[2.0, 1.0, 0.0, 3.0, 0.0]]))
        array([0., 6.])
        """
        return self._give_double(np.einsum("ja,ab,jb->j", self._basis, _product(self._read_theta(theta)), self._basis))

    def theory(
        self, state: State | Array | None = None, path: Trajectory | None = None, *, adaptive_rate: bool = False
    ) -> Theory:
        """Principal components in order, the loss levels, and lower bounds of when each is learned.

            levels l^(k) = 1/2 [tr Sigma - sum_{j <= k} N lambda_j^2 / ((N+1) lambda_j + tr Sigma)]
            utility of a unit head before jump k + 1: at most N lambda_{k+1}^2 / (3 sqrt 3)
            tau^(k+1) >= tau^(k) + sqrt 3 (1 / max_i |theta_i(tau^(k))| - 1) / (N lambda_{k+1}^2), i over dormant heads

        Parameters
        ----------
        state : State or (H, m) array, optional
            Where the run starts; active heads are taken to be at equilibrium. It bounds the jump that comes next.
        path : Trajectory, optional
            A run of `alternating_gradient_flow`: its state after each jump bounds the next. Where components are
            learned out of order the largest one left takes the place of lambda_{k+1}.
        adaptive_rate : bool, default False
            Whether the run has the learning rates |theta|^(2 - kappa): then -ln|theta_i| replaces 1/|theta_i| - 1.

        Returns
        -------
        Theory
            ``features`` are the principal components, (D, D). ``time_kind`` is "lower_bound": time and scaled_time are
            bounds, NaN where neither argument bounds them. ``facts``: "equilibrium", the eigenvalues
            1/((N+1) lambda_j + tr Sigma) of V when all is learned, and "variances", both (D,).

        Raises
        ------
        TypeError, ValueError
            On a problem from samples, a run of another kind, or a state that does not fit the problem.

        Notes
        -----
        Alternating Gradient Flows, arXiv 2506.06489, section 4.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Attention(np.diag([1.0, 0.5]), context=8)
        >>> state = problem.initialize(3, scale=1e-3)
        >>> path = agf.alternating_gradient_flow(problem, state)
        >>> all(jump.time > bound.time for jump, bound in zip(path.jumps, problem.theory(state, path).jumps))
        True
        """
        if self._samples is not None:
            raise TypeError(
                "theory is of the population, this problem of samples; expected agf.Attention(covariance, context) "
                "with the covariance that the prompts were drawn with"
            )
        known = [] if state is None else [self._read_state(state)]
        if path is not None:
            if not isinstance(path, Trajectory) or path.method != "alternating_gradient_flow":
                got = path.method if isinstance(path, Trajectory) else type(path).__name__
                raise TypeError(f"path is {got}, expected a run of alternating_gradient_flow")
            known += [self._read_state(after) for after in path.states]
        n, spread = self.context, self._spread
        times, scaled = np.full(self.dimension, np.nan), np.full(self.dimension, np.nan)
        for before in known:
            learned = self._count(before)
            if learned < self.dimension and not np.asarray(before.active).all():
                times[learned], scaled[learned] = self._earliest(before, adaptive_rate)
        return Theory.from_levels(
            self._levels(),
            scaled,
            self._basis,
            times=times,
            time_kind="lower_bound",
            utilities=n * spread**2 / (3.0 * np.sqrt(3.0)),
            facts={"equilibrium": self._equilibrium(), "variances": spread.copy()},
        )

    def _count(self, state: State) -> int:
        """How many directions the active heads have learned.

        V is the identity on them and 0 elsewhere, in the principal components and units of its equilibrium there;
        principal components of equal variance may come mixed.
        """
        unit = 1.0 / np.sqrt(self._equilibrium())
        matrix = _product(_active_rows(state))
        scaled = unit[:, None] * (self._basis @ matrix @ self._basis.T) * unit
        return int(np.count_nonzero(np.linalg.svd(scaled, compute_uv=False) > 0.5))

    def _earliest(self, state: State, adaptive_rate: bool) -> tuple[float, float]:
        """Lower bounds of the next activation in both clocks: a unit head's U is at most |M| / (3 sqrt 3)."""
        start = state._start(self.kappa, adaptive_rate)
        highest = float(start["log_norm"][~start["active"]].max())
        strength = float(np.linalg.norm(self._kernel().residual(_active_rows(state)), 2))
        log_eta = start["log_eta"]
        if np.isnan(log_eta):
            log_eta = mean_crossing_log(start["log_norm"], self.kappa, adaptive_rate)
        if highest >= 0.0:
            return start["time"], start["scaled_time"]
        log_wait = mean_crossing_log(np.array([highest]), self.kappa, adaptive_rate) + np.log(np.sqrt(3.0) / strength)
        with np.errstate(over="ignore"):
            return (
                start["time"] + float(np.exp(log_wait)),
                start["scaled_time"] + float(np.exp(log_wait - log_eta)),
            )

    def _equilibrium(self) -> NDArray[np.float64]:
        return np.asarray(1.0 / ((self.context + 1) * self._spread + self._spread.sum()))

    def _levels(self) -> NDArray[np.float64]:
        n, spread = self.context, self._spread
        gains = n * spread**2 * self._equilibrium()
        return np.asarray(0.5 * (spread.sum() - np.concatenate([[0.0], np.cumsum(gains)])))

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        # v^2 - |q|^2 and v^2 - |k|^2.
        v, q, k = theta[:, :1], theta[:, 1 : 1 + self.dimension], theta[:, 1 + self.dimension :]
        return np.hstack([v**2 - (q**2).sum(axis=1, keepdims=True), v**2 - (k**2).sum(axis=1, keepdims=True)])

    def _give_double(self, array: NDArray[np.float64]) -> Array:
        return self._kind.read_only(array.astype(self._kind.dtype))

    def __repr__(self) -> str:
        samples = f"n={self._n_samples}, " if self._samples is not None else ""
        return f"Attention({samples}D={self.dimension}, context={self.context}, {self._kind.dtype})"


def _product(rows: NDArray[Any]) -> NDArray[np.float64]:
    """V = sum_i v_i q_i k_i^T."""
    theta = rows.astype(np.float64)
    size = theta.shape[1] // 2
    return np.asarray((theta[:, :1] * theta[:, 1 : 1 + size]).T @ theta[:, 1 + size :])


def _active_rows(state: State) -> NDArray[np.float64]:
    direction, log_norm, active = state._arrays()
    return np.ascontiguousarray(np.exp(log_norm[active])[:, None] * direction[active])


def _symmetric(matrix: NDArray[Any], kind: ArrayKind) -> NDArray[np.float64]:
    wide = matrix.astype(np.float64)
    gap, size = float(np.abs(wide - wide.T).max()), float(np.abs(wide).max())
    # A few roundings apart is what products such as X^T X or Q diag Q^T come to.
    if gap > 64 * np.finfo(kind.dtype).eps * size:
        raise ValueError(
            f"covariance differs from its transpose by {gap:.3g}, expected a symmetric matrix; pass (S + S.T) / 2 if "
            "that is rounding"
        )
    return 0.5 * (wide + wide.T)


def _principal(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, falling, and eigenvectors as rows, each with its largest entry positive."""
    values, vectors = np.linalg.eigh(matrix)
    rows = np.ascontiguousarray(vectors.T[::-1])
    largest = np.abs(rows).argmax(axis=1)
    return values[::-1].copy(), rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]


def _features(prompts: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """vec(x_q s^T) and y_q in tiles, s = sum_j y_j x_j over the rows before the last."""
    size = prompts.shape[2] - 1
    step = max(size**2 + 1, _TILE // max(size**2, prompts[0].size))
    for first in range(0, len(prompts), step):
        tile = prompts[first : first + step].astype(np.float64)
        seen = np.einsum("nj,nja->na", tile[:, :-1, -1], tile[:, :-1, :-1])
        features = (tile[:, -1, :-1, None] * seen[:, None, :]).reshape(len(tile), -1)
        # Factorisations of what is not finite end in errors of their own.
        if not np.isfinite(features**2).all():
            raise ValueError("prompts hold numbers whose products leave double, expected moderate ones; rescale them")
        yield features, tile[:, -1, -1:]
