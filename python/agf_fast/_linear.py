"""Fully connected linear networks, whose neurons activate as directions of the neuron space."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, ArrayKind, positive_integer, read
from ._backend import build, core, reference
from ._factors import Factors, of_moments, of_samples
from ._linear_theory import conjecture
from ._members import Batch, Options, OwnOptions
from ._problem import Problem
from ._samples import mean_square
from ._state import State
from ._theory import Theory

__all__ = ["Linear"]

# The exact variables of a run: columns of Theta V for an orthonormal frame V of the neuron space.
_DIRECTIONS = (
    "active_column",
    "frame_row",
    "dormant_mantissa",
    "dormant_exponent",
    "neuron_mantissa",
    "neuron_exponent",
    "directions_learned",
)


class Linear(Problem):
    """A two-layer linear network, f(x; theta) = sum_i a_i (w_i . x) = A W x, theta_i = (w_i, a_i), kappa = 2.

    All it sees of the data is in Sigma_xx = E[x x^T], Sigma_yx = E[y x^T] and tr Sigma_yy. Residuals are the (c, d)
    matrix of moments M = E[r x^T] = Sigma_yx - A W Sigma_xx = -dL/d(A W), and the utility of a neuron is
    U(theta; M) = a . M w.

    The hidden space can be rotated freely: with Theta of one column per neuron, Theta -> Theta Q (Q orthogonal) leaves
    outputs, loss and flow alone, and neurons align together. So they activate as directions of the neuron space. The
    dormant block Theta_D moves by dTheta_D/dt = B Theta_D, B = [[0, M^T], [M, 0]] constant between jumps; its next
    singular value to reach 1 activates, with the left singular vector as the unit pair (w, a). ``Jump.neuron``,
    ``Jump.activated`` and ``Jump.returned`` therefore count directions in the order of their activation,
    ``Jump.direction`` is that pair, and ``adaptive_rate`` changes nothing. A state's ``direction`` and ``log_norm``
    are the neurons' own; what rows of doubles forget is in its ``extra``, and ``active`` tells which neurons have norm
    1 or above.

    Parameters
    ----------
    X : (n, d) array, float32 or float64
        Inputs, one sample per row. Their dtype and array type are those of everything else; numbers are computed in
        double inside. Data on a CUDA device are brought to the host, once, for their moments.
    Y : (n, c) or (n,) array
        Targets.

    Attributes
    ----------
    kappa : float
        2.
    n_params, n_inputs, n_outputs : int
        m = d + c, d and c.

    Raises
    ------
    TypeError, ValueError
        On anything but finite arrays of one dtype that fit together, or inputs that are zero throughout.

    Notes
    -----
    The system is that of Alternating Gradient Flows, arXiv 2506.06489, section 4.

    At a finite scale a direction activates with traces of the others in it. Where the order is not that of what each
    component takes off the loss, a plateau is a saddle of the active directions too, and an active phase without end
    leaves it along such a trace, which the gradient flow has no time for; ``active_time`` (a few relaxation times)
    keeps the phase on the plateau.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Linear(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    >>> problem
    Linear(d=3, c=3, float64)
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(5, scale=1e-100))
    >>> [round(jump.loss_after, 6) for jump in path.jumps]
    [0.833333, 0.166667, 0.0]
    >>> problem.singular_components(path.state)[1].round(3)
    array([3., 2., 1.])
    """

    _factors: Factors
    _sizes: tuple[int, int]  # d, c

    def __init__(self, X: Array, Y: Array) -> None:
        x, kind = read(X, "X", (None, None), "(n, d)")
        if getattr(Y, "ndim", 2) == 1:
            y = read(Y, "Y", (x.shape[0],), "(n,)", kind)[0][:, None]
        else:
            y = read(Y, "Y", (x.shape[0], None), "(n, c)", kind)[0]
        for name, values in (("X", x), ("Y", y)):
            # Their products enter the Hessian.
            square = mean_square(values)
            if not square < 1e100:
                raise ValueError(
                    f"{name} has a mean square of {square:.3g} per sample, expected below 1e100; rescale X and Y (a "
                    "mean square near 1 is best)"
                )
        tile = (x.astype(np.float64, copy=False), y.astype(np.float64, copy=False))
        self._bind(of_samples([tile], len(x)), kind, "X is zero throughout, expected inputs that vary; check the data")

    @classmethod
    def from_moments(cls, sigma_xx: Array, sigma_yx: Array, sigma_yy: Array | None = None) -> Linear:
        """The same network on data known by its second moments: a population, or samples summed up elsewhere.

        Parameters
        ----------
        sigma_xx : (d, d) array, float32 or float64
            E[x x^T], symmetric and positive semidefinite; directions without variance are left out (pseudo-inverse).
        sigma_yx : (c, d) array
            E[y x^T].
        sigma_yy : (c, c) array, optional
            E[y y^T], for the level of the loss. Default: that of noiseless targets, Sigma_yx Sigma_xx^+ Sigma_yx^T.

        Returns
        -------
        Linear

        Raises
        ------
        TypeError, ValueError
            On a wrong dtype or shape, an asymmetric or indefinite matrix, or moments that no random variables have.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.Linear.from_moments(np.diag([1.0, 0.5]), np.array([[1.0, 0.0]]), np.array([[3.0]]))
        >>> problem.loss(np.zeros((1, 3))), float(problem.theory().levels[-1])
        (1.5, 1.0)
        """
        xx, kind = read(sigma_xx, "sigma_xx", (None, None), "(d, d)")
        spread = _moment(xx, "sigma_xx", kind)
        yx = read(sigma_yx, "sigma_yx", (None, len(xx)), "(c, d)", kind)[0].astype(np.float64)
        for name, largest in (("sigma_xx", float(np.abs(spread).max())), ("sigma_yx", float(np.abs(yx).max()))):
            if not largest < 1e100:
                raise ValueError(f"{name} has an entry of {largest:.3g}, expected below 1e100; rescale the data")
        eps = float(np.finfo(kind.dtype).eps)
        variances, vectors = np.linalg.eigh(spread)
        hidden = vectors[:, variances <= len(xx) * np.finfo(np.float64).eps * variances[-1]]
        astray = float(np.linalg.norm(yx @ hidden))
        # Rounding of Sigma_xx turns its null space by as much.
        if astray > 1e3 * len(xx) * eps * float(np.linalg.norm(yx)):
            raise ValueError(
                f"sigma_yx has a part of norm {astray:.3g} along inputs without variance in sigma_xx, expected none: "
                "no random variables have these moments; check that both are over the same samples"
            )
        trace = None
        if sigma_yy is not None:
            yy = _moment(read(sigma_yy, "sigma_yy", (len(yx), len(yx)), "(c, c)", kind)[0], "sigma_yy", kind)
            trace = float(np.trace(yy))
            explained = of_moments(spread, yx).targets
            left = float(np.linalg.eigvalsh(yy - explained.T @ explained)[0])
            if left < -1e3 * eps * max(trace, float(np.sum(explained**2))):
                raise ValueError(
                    f"sigma_yy - sigma_yx sigma_xx^+ sigma_yx^T has an eigenvalue of {left:.3g}, expected a positive "
                    "semidefinite matrix: no random variables have these moments; check that all three are over the "
                    "same samples and not centred differently"
                )
        problem = cls.__new__(cls)
        problem._bind(
            of_moments(spread, yx, trace),
            kind,
            "sigma_xx is zero, expected some variance of the inputs; check the data",
        )
        return problem

    def _bind(self, factors: Factors, kind: ArrayKind, empty: str) -> None:
        if factors.inputs.size == 0:
            raise ValueError(empty)
        self._factors = factors
        self._sizes = factors.inputs.shape[1], factors.targets.shape[1]
        super().__init__(kind, factors.least + 0.5 * float(np.sum(factors.targets**2)))

    def _build(self, backend: str) -> Any:
        return build(backend, "linear_kernel", self._factors, self._kind.device)

    @property
    def _residual_shape(self) -> tuple[int, ...]:
        return (self.n_outputs, self.n_inputs)

    def _probe_count(self) -> int:
        return int(self._factors.targets.size)

    def _probe(self, place: int) -> NDArray[np.float64]:
        sample, output = divmod(place, self.n_outputs)
        probe = np.zeros(self._residual_shape)
        probe[output] = self._factors.inputs[sample]
        return probe

    @property
    def kappa(self) -> float:
        return 2.0

    @property
    def n_inputs(self) -> int:
        """Inputs, d."""
        return self._sizes[0]

    @property
    def n_outputs(self) -> int:
        """Outputs, c."""
        return self._sizes[1]

    @property
    def n_params(self) -> int:
        return sum(self._sizes)

    def split(self, theta: Array) -> dict[str, Array]:
        """First- and second-layer weights as views of the parameters.

        Parameters
        ----------
        theta : (H, m) array
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        dict
            w : (H, d) and a : (H, c), views of theta where its array type has views. W is w, and A the transpose of a.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Linear(np.eye(2), np.ones(2)).split(np.array([[1.0, 2.0, 3.0]]))
        {'w': array([[1., 2.]]), 'a': array([[3.]])}
        """
        read(theta, "theta", (None, self.n_params), "(H, m)", self._kind)
        return {"w": theta[:, : self.n_inputs], "a": theta[:, self.n_inputs :]}

    def predict(self, theta: Array | State, X: Array) -> Array:
        """The network's outputs A W x on other samples.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.
        X : (k, d) array
            Inputs, centred and scaled as the problem's own were.

        Returns
        -------
        (k, c) array

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Linear(np.eye(2), np.eye(2)).predict(np.array([[1.0, 0.0, 0.0, 2.0]]), np.array([[3.0, 5.0]]))
        array([[0., 6.]])
        """
        x = read(X, "X", (None, self.n_inputs), "(k, d)", self._kind)[0]
        return self._give((x.astype(np.float64) @ self._map(theta).T).astype(self._kind.dtype))

    def linear_map(self, theta: Array | State) -> Array:
        """What the neurons compute together, A W = sum_i a_i w_i^T.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        (c, d) array

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Linear(np.eye(2), np.eye(2)).linear_map(np.array([[1.0, 0.0, 0.0, 2.0]]))
        array([[0., 0.],
               [2., 0.]])
        """
        return self._kind.read_only(self._map(theta).astype(self._kind.dtype))

    def singular_components(self, theta: Array | State) -> tuple[Array, Array, Array]:
        """What is learned, as the singular value decomposition A W = sum_j s_j u_j v_j^T.

        Parameters
        ----------
        theta : (H, m) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        u : (k, c) array
            Left singular vectors, one row each, k = min(c, d), each with its largest entry positive.
        s : (k,) array
            Singular values, largest first.
        v : (k, d) array
            Right singular vectors, one row each.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.Linear(np.eye(2), np.eye(2)).singular_components(np.array([[1.0, 0.0, 0.0, 2.0]]))[1]
        array([2., 0.])
        """
        left, values, right = np.linalg.svd(self._map(theta), full_matrices=False)
        rows = left.T
        sign = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]
        u, s, v = (part.astype(self._kind.dtype) for part in (rows * sign, values, right * sign))
        return self._kind.read_only(u), self._kind.read_only(s), self._kind.read_only(v)

    def theory(self, width: int | None = None) -> Theory:
        """Conjecture 4.1: the components in order, the levels, and the jump times as the initialisation vanishes.

        With Sigma_yx Sigma_xx^+ Sigma_yx^T = U diag(mu) U^T, P_k the projector on the first k columns of U, and
        sigma_j^(k) the j-th singular value of (I - P_k) Sigma_yx, in units of ln(1/alpha) and for k = 1, ..., K:

            beta^(k) = P_k Sigma_yx Sigma_xx^+
            l^(k) = 1/2 sum_{j > k} mu_j + 1/2 tr(Sigma_yy - Sigma_yx Sigma_xx^+ Sigma_yx^T)
            dtau^(1) = 1 / sigma_1^(0)
            dtau^(k) = (1 - sum_{i = 0}^{k - 2} sigma_{k - i}^(i) dtau^(i + 1)) / sigma_1^(k - 1)

        Proved where Sigma_xx commutes with Sigma_yx^T Sigma_yx, there in the order of the singular values of Sigma_yx;
        a conjecture elsewhere, in the order of mu. `alternating_gradient_flow` and `gradient_flow` from any scale
        measure the gap.

        Parameters
        ----------
        width : int, optional
            H; no more than H components are learned. Default: as many as needed.

        Returns
        -------
        Theory
            ``features`` are the maps beta^(k), (K, c, d), K = min(d, H, c, rank Sigma_yx). ``facts``: "commutes",
            whether the data are of the proved kind (to 1e-9); "commutator", the norm of the commutator relative to
            the product of the norms; "mu", in the order learned; "modes", the columns of U as rows.

        Raises
        ------
        TypeError, ValueError
            If the width is not an integer of at least 1.

        Notes
        -----
        Alternating Gradient Flows, arXiv 2506.06489, Conjecture 4.1.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> theory = agf.Linear.from_moments(np.diag([1.0, 0.3, 0.4]), np.diag([1.0, 0.8, 0.5])).theory()
        >>> [round(jump.scaled_time, 6) for jump in theory.jumps], theory.facts["commutes"]
        ([1.0, 1.25, 2.0], True)
        """
        most = None if width is None else positive_integer(width, "width")
        return conjecture(self._factors, most, self._loss_zero)

    def _map(self, theta: Array | State) -> NDArray[np.float64]:
        rows = self._read_theta(theta).astype(np.float64)
        return np.asarray(rows[:, self.n_inputs :].T @ rows[:, : self.n_inputs])

    def _start(self, state: State, adaptive_rate: bool) -> dict[str, Any]:
        start = state._start(self.kappa, adaptive_rate)
        given = [name for name in _DIRECTIONS if name in start["extra"]]
        if given and len(given) < len(_DIRECTIONS):
            raise ValueError(f"state.extra has {given}, expected all of {list(_DIRECTIONS)} or none; drop them")
        if given:
            k, f = (start["extra"][name].shape[0] for name in ("active_column", "dormant_mantissa"))
            m, count = self.n_params, len(start["log_norm"])
            shapes = ((k, m), (m, m), (f, m), (f, m), (k + f, count), (k + f, count), (1,))
            for name, shape in zip(_DIRECTIONS, shapes, strict=True):
                if start["extra"][name].shape != shape:
                    raise ValueError(
                        f"state.extra[{name!r}] has shape {start['extra'][name].shape}, expected {shape}; keep the "
                        f"arrays of one run together, or drop {list(_DIRECTIONS)}"
                    )
        return start

    def _alternate(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return batch.run(_engine(batch.backend).directions_alternating_gradient_flow, options, own)

    def _flow(self, batch: Batch, options: Options, own: OwnOptions) -> list[dict[str, Any]]:
        return batch.run(_engine(batch.backend).directions_gradient_flow, options, own)

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        # |a|^2 - |w|^2, the diagonal of A^T A - W W^T.
        w, a = theta[:, : self.n_inputs], theta[:, self.n_inputs :]
        return np.asarray((a**2).sum(axis=1) - (w**2).sum(axis=1))

    def __repr__(self) -> str:
        return f"Linear(d={self.n_inputs}, c={self.n_outputs}, {self._kind.dtype})"


def _engine(backend: str) -> ModuleType:
    return core() if backend != "numpy" else reference(".directions")


def _moment(matrix: NDArray[Any], name: str, kind: ArrayKind) -> NDArray[np.float64]:
    """A second moment in double; refused unless square, symmetric and positive semidefinite."""
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} has shape {matrix.shape}, expected a square matrix")
    wide = matrix.astype(np.float64)
    eps = float(np.finfo(kind.dtype).eps)
    gap, size = float(np.abs(wide - wide.T).max()), float(np.abs(wide).max())
    # A few roundings apart is what products such as X^T X or Q diag Q^T come to.
    if gap > 64 * eps * size:
        raise ValueError(
            f"{name} differs from its transpose by {gap:.3g}, expected a symmetric matrix; pass (S + S.T) / 2 if that "
            "is rounding"
        )
    wide = 0.5 * (wide + wide.T)
    values = np.linalg.eigvalsh(wide)
    if values[0] < -64 * len(values) * eps * max(values[-1], -values[0]):
        raise ValueError(
            f"{name} has eigenvalues from {values[0]:.3g} to {values[-1]:.3g}, expected a positive semidefinite "
            "matrix, as every E[z z^T] is; an indefinite one is often a typing error or an estimate with gaps"
        )
    return wide
