"""Modular addition: a quadratic network on all pairs of shifts of one template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, read
from ._backend import build
from ._problem import Problem
from ._state import State, mean_crossing_log
from ._theory import Theory
from ._trajectory import Trajectory

__all__ = ["ModularAddition"]


class ModularAddition(Problem):
    """Modular addition: f(a, b; theta) = sum_i w_i (<u_i, a.x> + <v_i, b.x>)^2 on all pairs of a and b modulo p.

    a.x is the template x shifted by a, (a.x)_j = x_(j - a), and the target of the pair (a, b) is (a + b).x. With
    theta_i = (u_i, v_i, w_i) in R^3p, r = (a + b).x - f and E the mean over the p^2 pairs, loss and utility are
    L = 1/2 E|r|^2 and U(theta_i; r) = E[(<u_i, a.x> + <v_i, b.x>)^2 <w_i, r(a, b)>], and the flow is
    dtheta_i/dt = -dL/dtheta_i = grad U(theta_i; r).

    The results are those of `Dense` with square activation on the p^2 inputs (a.x, b.x), but nothing of that size is
    made: the problem is computed in the Fourier modes of the template, K of them (two for a frequency below p/2), with
    a residual of 2p + K^2 rows in place of p^2.

    Parameters
    ----------
    template : (p,) array, float32 or float64
        x, p at least 2, of zero mean: abs(sum x) <= 1e-12 sqrt(p) |x| (1.2e-7 in float32). Its dtype and array type are
        those of everything else; arithmetic is in double inside.

    Attributes
    ----------
    period : int
        p.
    frequencies : tuple of int
        Those of the template, from 1 to p/2, where its discrete Fourier transform is above rounding.
    moduli : tuple of float
        Of the transform x^[k] = sum_j x_j exp(-2 pi i j k / p) at those frequencies.
    kappa : float
        3.
    n_params : int
        3p.

    Raises
    ------
    TypeError, ValueError
        On anything but a finite float32 or float64 vector of at least two numbers and no mean.

    Notes
    -----
    The task, Theorem 5.1 on its utility and the levels of its plateaus are those of Alternating Gradient Flows, arXiv
    2506.06489, Section 5.

    "Learned in order" means in the order of each frequency's first activation: up to six neurons serve one frequency,
    and stragglers come later. Until the residual changes, the flow of a neuron falls apart into flows of its components
    at each frequency, and the one at k reaches norm 1 after tau / (Ubar_k |theta_ik(0)|), where tau >= 1/3 depends on
    the initial phases and on how the norm is shared between u, v and w, at any small scale. So the order is that of the
    largest utilities Ubar_k as far as the best start among the free neurons is about equally good for each; twelve
    neurons per frequency are enough where the moduli are 1.4 apart. Active phases must come near equilibrium
    (Ubar active_time >> 1): what is left of an unfinished frequency k has a part at 2k that draws neurons near k to
    3k mod p, which may then come too early. And the scale must be small enough (scale Ubar active_time << 1), or active
    neurons learn further frequencies without an activation.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> j = np.arange(10)
    >>> x = np.cos(2 * np.pi * j / 10) + 0.5 * np.cos(2 * np.pi * 3 * j / 10)
    >>> problem = agf.ModularAddition(x)
    >>> problem
    ModularAddition(p=10, frequencies=(1, 3), float64)
    >>> round(problem.loss(np.zeros((1, 30))), 12)
    3.125
    """

    def __init__(self, template: Array) -> None:
        x, kind = read(template, "template", (None,), "(p,)")
        period = len(x)
        if period < 2:
            raise ValueError(
                "template has 1 number, expected at least 2; a template without a mean is zero if it has one"
            )
        wide = x.astype(np.float64)
        with np.errstate(over="ignore"):
            square = float(wide @ wide)
        if not square < np.finfo(kind.dtype).max:
            raise ValueError(
                f"template has a sum of squares of {square:.3g}, expected one within {kind.dtype}; rescale it (a mean "
                "square near 1 is best)"
            )
        size, eps = np.sqrt(period * square), float(np.finfo(kind.dtype).eps)
        total = float(wide.sum())
        if abs(total) > max(1e-12, eps) * size:
            raise ValueError(
                f"template has the mean {total / period:.3g}, expected zero (at most {max(1e-12, eps):.2g} sqrt(p) |x| "
                "in the sum); subtract it: template - template.mean()"
            )
        super().__init__(kind, 0.5 * square)
        self._x = x.copy()
        self.period = period
        transform = np.fft.rfft(wide)
        # A template made of cos(2 pi j k / p) has angles up to pi p, each off by a relative rounding or two.
        found = 1 + np.flatnonzero(np.abs(transform[1:]) > 4.0 * period * eps * size)
        self.frequencies = tuple(int(k) for k in found)
        self.moduli = tuple(float(modulus) for modulus in np.abs(transform[found]))

    def _build(self, backend: str) -> Any:
        return build(backend, "modular", (self._x, self.frequencies), self._kind.device)

    @property
    def _residual_shape(self) -> tuple[int, ...]:
        return self.period**2, self.period

    @property
    def kappa(self) -> float:
        return 3.0

    @property
    def n_params(self) -> int:
        return 3 * self.period

    def split(self, theta: Array) -> dict[str, Array]:
        """The weights of both inputs and of the output as views of the parameters.

        Parameters
        ----------
        theta : (H, 3p) array
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        dict
            u, v and w, (H, p) each, views of theta where its array type has views.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.ModularAddition(np.array([1.0, -1.0])).split(np.arange(6.0)[None])["v"]
        array([[2., 3.]])
        """
        read(theta, "theta", (None, self.n_params), "(H, m)", self._kind)
        p = self.period
        return {"u": theta[:, :p], "v": theta[:, p : 2 * p], "w": theta[:, 2 * p :]}

    def residual(self, theta: Array | State) -> Array:
        """The residual r(a, b) = (a + b).x - f(a, b; theta) of every pair.

        Parameters
        ----------
        theta : (H, 3p) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        (p^2, p) array
            Row a p + b for the pair (a, b): p^3 numbers. Runs work in the template's K Fourier modes, (2p + K^2) p.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.ModularAddition(np.array([1.0, -1.0])).residual(np.zeros((1, 6))).round(12)
        array([[ 1., -1.],
               [-1.,  1.],
               [-1.,  1.],
               [ 1., -1.]])
        """
        return super().residual(theta)

    def predict(self, theta: Array | State) -> Array:
        """The outputs f(a, b; theta) of every pair.

        Parameters
        ----------
        theta : (H, 3p) array or State
            Parameters, of the problem's array type and dtype.

        Returns
        -------
        (p^2, p) array
            Row a p + b for the pair (a, b).

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> problem = agf.ModularAddition(np.array([1.0, -1.0]))
        >>> problem.predict(np.array([[1.0, 0.0, 0.0, 0.0, 0.0, 2.0]])).round(12)[0]
        array([0., 2.])
        """
        kernel = self._kernel()
        rows = self._read_theta(theta)
        return self._give(kernel.residual(np.zeros_like(rows[:1])) - kernel.residual(rows))

    def powers(self, theta: Array | State) -> Array:
        """The Fourier power of u, v and w of each neuron at every frequency.

        Parameters
        ----------
        theta : (H, 3p) array or State
            Parameters, of the problem's array type and dtype; of a jump's direction take ``direction[None]``.

        Returns
        -------
        (H, 3, floor(p / 2) + 1) array
            The part of |u|^2, |v|^2 and |w|^2 at frequencies 0 to p/2: the sum over all three and all frequencies is
            |theta_i|^2.

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> wave = np.cos(2 * np.pi * np.arange(5) / 5)
        >>> problem = agf.ModularAddition(wave)
        >>> problem.powers(np.concatenate([wave, wave, 2 * wave])[None]).round(12)
        array([[[ 0. ,  2.5,  0. ],
                [ 0. ,  2.5,  0. ],
                [ 0. , 10. ,  0. ]]])
        """
        return self._give(self._powers(theta).astype(self._kind.dtype))

    def dominant_frequencies(self, theta: Array | State) -> NDArray[np.int64]:
        """The frequency of the template at which each neuron has most of its power, u, v and w together.

        Parameters
        ----------
        theta : (H, 3p) array or State
            Parameters, of the problem's array type and dtype; of a jump's direction take ``direction[None]``.

        Returns
        -------
        (H,) array, int64

        Raises
        ------
        TypeError, ValueError
            If theta is not such an array, or the template is zero.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> wave = np.cos(2 * np.pi * np.arange(5) / 5)
        >>> agf.ModularAddition(wave).dominant_frequencies(np.concatenate([wave, wave, wave])[None])
        array([1])
        """
        powers = self._powers(theta)
        if not self.frequencies:
            raise ValueError("template is zero, expected one with a frequency to learn; there is none to name")
        frequencies = np.array(self.frequencies)
        strongest: NDArray[np.int64] = frequencies[powers.sum(axis=1)[:, frequencies].argmax(axis=1)]
        return strongest

    def first_activations(self, path: Trajectory) -> dict[int, int]:
        """The jump at which each frequency was first taken up, in that order.

        Parameters
        ----------
        path : Trajectory
            A run of `alternating_gradient_flow` on this problem.

        Returns
        -------
        dict
            From frequency to the index of the first jump whose winner has most of its power there.

        Raises
        ------
        TypeError, ValueError
            If path is not a trajectory, or its jumps have no directions, as those of `gradient_flow`, or are of another
            problem.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> j = np.arange(8)
        >>> problem = agf.ModularAddition(2 * np.cos(2 * np.pi * j / 8) + np.cos(2 * np.pi * 2 * j / 8))
        >>> start = problem.initialize(24, scale=1e-4)
        >>> path = agf.alternating_gradient_flow(problem, start, active_time=100.0, rtol=1e-5, max_jumps=10)
        >>> list(problem.first_activations(path))
        [1, 2]
        """
        if not isinstance(path, Trajectory):
            raise TypeError(f"path is {type(path).__name__}, expected a run of alternating_gradient_flow")
        first: dict[int, int] = {}
        for index, jump in enumerate(path.jumps):
            if len(jump.direction) != self.n_params:
                raise ValueError(
                    f"path has a jump whose direction has {len(jump.direction)} entries, expected {self.n_params}; "
                    "give a run of alternating_gradient_flow on this problem"
                )
            first.setdefault(int(self.dominant_frequencies(jump.direction[None])[0]), index)
        return first

    def theory(self, state: State | Array | None = None, *, adaptive_rate: bool = False) -> Theory:
        """The plateaus, largest utilities and features of Theorem 5.1, and a lower bound of the first jump.

        A unit neuron's utility is largest for cosines of one frequency in phase with the template,
        Ubar_k = sqrt(2p/27) |x^[k]|^3 / p^2, times sqrt 2 for k = p/2. Frequencies are learned in the order of Ubar_k,
        and once those of a set F are done L = (1/p) sum over k not in F of |x^[k]|^2, half of it for k = p/2. No neuron
        reaches norm 1 before (1/|theta(0)| - 1) / (3 max Ubar), |theta(0)| the largest initial norm.

        Parameters
        ----------
        state : State or (H, 3p) array, optional
            The initial state, for the bound; without one the jump times are NaN.
        adaptive_rate : bool, default False
            With neuron-specific rates |theta_i|^(2 - kappa) the bound is ln(1/|theta(0)|) / (3 max Ubar).

        Returns
        -------
        Theory
            One jump per frequency, at its first activation; ``time`` is that bound for the first and NaN for the
            others. ``direction`` and ``features`` (K, 3p) are the unit parameters of largest utility, and
            ``facts["frequencies"]`` the frequencies in order. ``facts["moduli"]`` are \\|x^[k]\\| in that order.

        Raises
        ------
        TypeError, ValueError
            If the state is not one of this problem.

        Notes
        -----
        Theorem 5.1 of arXiv 2506.06489.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> j = np.arange(10)
        >>> x = np.cos(2 * np.pi * j / 10) + 0.5 * np.cos(2 * np.pi * 3 * j / 10)
        >>> theory = agf.ModularAddition(x).theory()
        >>> theory.facts["frequencies"], theory.levels.round(12).tolist()
        ((1, 3), [3.125, 0.625, 0.0])
        """
        period = self.period
        frequencies, moduli = np.array(self.frequencies, dtype=np.int64), np.array(self.moduli)
        single = 2 * frequencies == period
        utilities = np.sqrt(2.0 * period / 27.0) * np.where(single, np.sqrt(2.0), 1.0) * moduli**3 / period**2
        order = np.argsort(-utilities, kind="stable")
        parts = (np.where(single, 0.5, 1.0) * moduli**2 / period)[order]
        levels = np.append(np.cumsum(parts[::-1])[::-1], 0.0)
        times, scaled = np.full((2, len(order)), np.nan)
        start = None if state is None else self._read_state(state)
        if start is not None and len(order):
            log_norms = np.asarray(start._arrays()[1])
            log_time = _log_wait(float(log_norms.max()), adaptive_rate) - np.log(3.0 * utilities.max())
            log_eta = start.log_eta
            if log_eta is None:
                log_eta = mean_crossing_log(log_norms, self.kappa, adaptive_rate)
            with np.errstate(over="ignore"):
                times[0], scaled[0] = np.exp(log_time), np.exp(log_time - log_eta)
        return Theory.from_levels(
            levels,
            scaled,
            self._cosines(frequencies[order]),
            times=times,
            time_kind="lower_bound",
            utilities=utilities[order],
            facts={
                "frequencies": tuple(int(k) for k in frequencies[order]),
                "moduli": tuple(float(modulus) for modulus in moduli[order]),
            },
            loss_zero=self._loss_zero,
        )

    def _cosines(self, frequencies: NDArray[np.int64]) -> NDArray[np.float64]:
        """The template's own component at each frequency in u, v and w, of norm 1 together."""
        transform = np.fft.rfft(self._x.astype(np.float64))
        alone = np.zeros((len(frequencies), len(transform)), dtype=np.complex128)
        rows = np.arange(len(frequencies))
        alone[rows, frequencies] = transform[frequencies]
        waves = np.tile(np.fft.irfft(alone, n=self.period, axis=1), 3)
        return np.asarray(waves / np.linalg.norm(waves, axis=1, keepdims=True), dtype=np.float64)

    def _powers(self, theta: Array | State) -> NDArray[np.float64]:
        rows = self._read_theta(theta).astype(np.float64)
        power = np.abs(np.fft.rfft(rows.reshape(len(rows), 3, self.period), axis=2)) ** 2 / self.period
        # Frequencies below p/2 stand for themselves and their mirror image.
        power[:, :, 1 : (self.period + 1) // 2] *= 2.0
        return power

    def _conserved(self, theta: NDArray[np.float64]) -> NDArray[np.float64] | None:
        p = self.period
        squares = np.square(theta)
        conserved: NDArray[np.float64] = 2.0 * squares[:, 2 * p :].sum(axis=1) - squares[:, : 2 * p].sum(axis=1)
        return conserved

    def __repr__(self) -> str:
        return f"ModularAddition(p={self.period}, frequencies={self.frequencies}, {self._kind.dtype})"


def _log_wait(log_norm: float, adaptive_rate: bool) -> float:
    """ln of the time from this norm to 1 at unit growth rate: 1/|theta| - 1, or ln(1/|theta|) with adapted rates."""
    if log_norm >= 0.0:
        return -np.inf
    return float(np.log(-log_norm) if adaptive_rate else -log_norm + np.log1p(-np.exp(log_norm)))
