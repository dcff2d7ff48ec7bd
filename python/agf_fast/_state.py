"""Where a network is: unit directions and log-norms, so that no initial scale underflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, ArrayKind, finite_number, host, read, read_numbers

__all__ = ["COMPONENTS", "State", "mean_crossing_log", "polar"]

# What double directions forget, as the compiled engine carries it; absent where it carries nothing.
COMPONENTS = ("frame", "component_log", "component_sign")
_CLOCKS = ("phase_elapsed", "scaled_time")


class State:
    """H neurons as unit directions and log-norms: theta_i = exp(log_norm_i) direction_i.

    Parameters
    ----------
    direction : (H, m) array, float32 or float64
        Unit rows, one per neuron.
    log_norm : (H,) sequence of real numbers
        Natural logarithm of each neuron's norm; held in float64. -23025.85 stands for a norm of 1e-10000.
    active : (H,) sequence of bool, optional
        Which neurons are active. Default: those with log_norm >= 0, that is at norm 1 or above.
    time : float, default 0
        Time reached, in units of the flow dtheta_i/dt = -dL/dtheta_i.
    log_eta : float, optional
        Logarithm of the unit of the scaled clock, t/eta. None: the mean time to activation per unit of utility, taken
        from the norms at the start of the next run.
    extra : mapping of str to float or array, optional
        Variables that a run needs in order to go on as if it had not stopped: ``phase_elapsed``, the time already spent
        in the current active phase (infinite once it is complete), ``scaled_time``, and for activations that are linear
        at 0 the directions' components beyond the range of one double: ``component_log`` and ``component_sign`` (H, k)
        in the rows of ``frame`` (k, k). Problems with exact variables of their own (see them) keep these here too.

    Attributes
    ----------
    direction, log_norm, active : array
        In the array type that `direction` was given in; NumPy arrays are read-only. log_norm is float64. Of directions
        on a GPU log_norm and active are NumPy arrays; runs follow directions in double on the host, so that they are
        brought there when a run begins, and back where a state of the run is looked at.
    time, log_eta, extra
        As above.

    Raises
    ------
    TypeError, ValueError
        On a wrong dtype or shape, NaN or infinite values, rows of norm zero or other than 1.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> state = agf.State(np.eye(3), [-18.4, -18.4, 0.0])
    >>> state
    State of 3 neurons with 3 parameters each: 1 active, log-norms -18.4 to 0, time 0
    >>> state.parameters()[2]
    array([0., 0., 1.])
    """

    direction: Array
    log_norm: Array
    active: Array
    time: float
    log_eta: float | None
    extra: dict[str, Any]

    def __init__(
        self,
        direction: Array,
        log_norm: Any,
        active: Any = None,
        time: float = 0.0,
        log_eta: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        rows, kind = read(direction, "direction", (None, None), "(H, m)")
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
        if (norms == 0).any():
            raise ValueError(
                f"direction has a row of zeros (row {int(np.argmin(norms))}), expected unit rows; a neuron at zero has "
                "no direction and stays there: remove it, or start it at a small scale"
            )
        worst = int(np.argmax(np.abs(norms - 1.0)))
        if abs(norms[worst] - 1.0) > (1e-3 if kind.dtype == "float32" else 1e-6):
            raise ValueError(
                f"direction has a row of norm {norms[worst]:.6g} (row {worst}), expected unit rows; divide each row by "
                "its norm and add the logarithm of that norm to log_norm, or use State.from_parameters(theta)"
            )
        count = rows.shape[0]
        logs = read_numbers(log_norm, "log_norm", count)
        flags = logs >= 0.0 if active is None else _read_flags(active, count)
        self._take(kind, rows, logs, flags)
        self.time = _time(time)
        self.log_eta = None if log_eta is None else finite_number(log_eta, "log_eta")
        if extra is not None and not isinstance(extra, Mapping):
            raise TypeError(f"extra is {type(extra).__name__}, expected a mapping from names to numbers or arrays")
        self.extra = dict(extra or {})

    def _take(
        self, kind: ArrayKind, rows: NDArray[Any], log_norm: NDArray[np.float64], active: NDArray[np.bool_]
    ) -> None:
        self._kind = kind
        self.direction = kind.read_only(rows)
        self.log_norm = kind.numbers.read_only(log_norm)
        self.active = kind.numbers.read_only(active)

    @classmethod
    def _of(cls, kind: ArrayKind, rows: NDArray[np.float64], *given: Any) -> State:
        """A state in arrays of a kind, of what the host has."""
        state = cls(rows.astype(kind.dtype), *given)
        state._take(kind, state.direction, state.log_norm, state.active)
        return state

    @classmethod
    def from_parameters(cls, theta: Array) -> State:
        """The state of a parameter array; norms down to the smallest float64 are kept.

        Parameters
        ----------
        theta : (H, m) array, float32 or float64
            One neuron per row.

        Returns
        -------
        State
            With every neuron of norm 1 or above active.

        Raises
        ------
        TypeError, ValueError
            On a wrong dtype or shape, NaN or infinite values, or a row of zeros.

        Examples
        --------
        >>> import numpy as np, agf_fast as agf
        >>> agf.State.from_parameters(np.array([[3e-300, 4e-300]])).direction
        array([[0.6, 0.8]])
        """
        return cls._from_rows(*read(theta, "theta", (None, None), "(H, m)"), "theta")

    @classmethod
    def _from_rows(cls, theta: NDArray[Any], kind: ArrayKind, name: str) -> State:
        direction, log_norm = polar(theta, name)
        return cls._of(kind, direction, log_norm)

    def parameters(self) -> Array:
        """The parameters theta = exp(log_norm) direction.

        Returns
        -------
        (H, m) array
            In the type and dtype of `direction`. Rows whose norm is below the dtype's smallest number come out as
            zeros.

        Raises
        ------
        OverflowError
            If a norm is above the dtype's largest number.
        """
        return self._kind.wrap(self._theta())

    def _theta(self) -> NDArray[Any]:
        direction, log_norm, _ = self._arrays()
        theta = _scaled(direction, log_norm).astype(self._kind.dtype)
        if not np.isfinite(theta).all():
            raise OverflowError(
                f"log_norm reaches {log_norm.max():.6g}, whose exponential is beyond {self._kind.dtype}; these "
                "parameters exist as direction and log_norm only"
            )
        return theta

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Direction (float64, unit rows), log-norms and flags as NumPy arrays, whatever the caller's library."""
        rows, _ = read(self.direction, "state.direction", (None, None), "(H, m)")
        count = rows.shape[0]
        direction = rows.astype(np.float64)
        norm = np.linalg.norm(direction, axis=1, keepdims=True)
        if not (norm > 0).all():
            raise ValueError("state.direction has a row of zeros, expected unit rows; build a new State")
        # A row that is unit to rounding is left alone, so that stopping and continuing changes no bit.
        direction = np.where(np.abs(norm - 1.0) <= 4 * np.finfo(np.float64).eps, direction, direction / norm)
        return direction, read_numbers(self.log_norm, "state.log_norm", count), _read_flags(self.active, count)

    def _start(self, kappa: float, adaptive_rate: bool) -> dict[str, Any]:
        """The engines' start dict."""
        direction, log_norm, active = self._arrays()
        time = _time(self.time)
        log_eta = float("nan") if self.log_eta is None else float(self.log_eta)
        scaled_time = self.extra.get("scaled_time")
        if scaled_time is None:
            if not np.isfinite(time):
                raise ValueError(
                    f"state.time is {time} without extra['scaled_time'], expected both; give the scaled time"
                )
            scaled_time = 0.0
            if time != 0.0:
                unit = mean_crossing_log(log_norm, kappa, adaptive_rate) if self.log_eta is None else log_eta
                scaled_time = time * float(np.exp(-unit))
        phase_elapsed = float(self.extra.get("phase_elapsed", 0.0))
        if not phase_elapsed >= 0.0:
            raise ValueError(f"state.extra['phase_elapsed'] is {phase_elapsed}, expected a time of at least 0")
        return {
            "direction": direction,
            "log_norm": log_norm,
            "active": active,
            "time": time,
            "scaled_time": float(scaled_time),
            "log_eta": log_eta,
            "phase_elapsed": phase_elapsed,
            "extra": self._own(),
            **self._components(len(direction)),
        }

    def _own(self) -> dict[str, NDArray[np.float64]]:
        """What is in `extra` beside the clocks and components: variables that a problem's own engine knows."""
        general = {*COMPONENTS, *_CLOCKS}
        own = {name: np.asarray(self.extra[name], dtype=np.float64) for name in self.extra if name not in general}
        for name, values in own.items():
            if np.isnan(values).any():
                raise ValueError(
                    f"state.extra[{name!r}] holds NaN, expected numbers; keep what a run wrote, or drop it"
                )
        return own

    def _components(self, count: int) -> dict[str, NDArray[np.float64]]:
        given = [name for name in COMPONENTS if name in self.extra]
        if not given:
            return {}
        if len(given) < len(COMPONENTS):
            raise ValueError(f"state.extra has {given}, expected all of {list(COMPONENTS)} or none; drop them")
        arrays = {name: np.asarray(self.extra[name], dtype=np.float64) for name in COMPONENTS}
        size = arrays["frame"].shape[-1] if arrays["frame"].ndim else 0
        for name, shape in zip(COMPONENTS, [(size, size), (count, size), (count, size)], strict=True):
            if arrays[name].shape != shape:
                raise ValueError(
                    f"state.extra[{name!r}] has shape {arrays[name].shape}, expected {shape}; keep the three arrays of "
                    f"one run together, or drop {list(COMPONENTS)}"
                )
        return arrays

    @classmethod
    def _from_engine(cls, record: Mapping[str, Any], kind: ArrayKind) -> State:
        direction = np.asarray(record["direction"], dtype=np.float64)
        log_eta = float(record["log_eta"])
        extra: dict[str, Any] = {name: float(record[name]) for name in _CLOCKS}
        extra.update({name: np.array(value, dtype=np.float64) for name, value in record.get("extra", {}).items()})
        extra.update({name: np.asarray(record[name], dtype=np.float64) for name in COMPONENTS if name in record})
        return cls._of(
            kind,
            direction,
            np.asarray(record["log_norm"], dtype=np.float64),
            np.asarray(record["active"], dtype=bool),
            float(record["time"]),
            None if np.isnan(log_eta) else log_eta,
            extra,
        )

    def __len__(self) -> int:
        return int(self.direction.shape[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        if self._kind != other._kind or self.time != other.time or self.log_eta != other.log_eta:
            return False
        same = all(np.array_equal(a, b) for a, b in zip(self._arrays(), other._arrays(), strict=True))
        return (
            same
            and self.extra.keys() == other.extra.keys()
            and all(
                np.array_equal(np.asarray(value), np.asarray(other.extra[key]), equal_nan=True)
                for key, value in self.extra.items()
            )
        )

    __hash__ = None  # type: ignore[assignment]  # equal by value, and holds arrays

    def __reduce__(self) -> tuple[Any, ...]:
        return State, (self.direction, self.log_norm, self.active, self.time, self.log_eta, self.extra)

    def __repr__(self) -> str:
        count, m = (int(k) for k in self.direction.shape)
        _, log_norm, active = self._arrays()
        return (
            f"State of {count} neuron{'s' * (count != 1)} with {m} parameters each: {int(active.sum())} active, "
            f"log-norms {log_norm.min():.6g} to {log_norm.max():.6g}, time {self.time:.6g}"
        )


def polar(theta: NDArray[Any], name: str = "theta") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit rows and log-norms of parameters, without underflow in the squares; rows of zeros are refused."""
    rows = theta.astype(np.float64)
    peak = np.abs(rows).max(axis=1, keepdims=True)
    if not (peak > 0).all():
        raise ValueError(
            f"{name} has a row of zeros (row {int(np.argmin(peak))}), expected every neuron off zero; a neuron at zero "
            "stays there: remove it, or start it at a small scale"
        )
    # A power of two scales without rounding, and its reciprocal without overflow.
    exponent = np.frexp(peak)[1]
    rows = np.ldexp(rows, -exponent)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / norm, np.log(norm[:, 0]) + exponent[:, 0] * np.log(2.0)


def mean_crossing_log(log_norm: NDArray[np.float64], kappa: float, adaptive_rate: bool) -> float:
    """log E[c_i], c_i the accumulated utility at which neuron i reaches norm 1; 0 if no neuron has any to go.

    c_i = -log_norm_i for kappa = 2 or adaptive rates, (|theta_i|^(2 - kappa) - 1) / (kappa - 2) otherwise.
    """
    distance = -log_norm[log_norm < 0.0]
    if distance.size == 0:
        return 0.0
    power = 0.0 if adaptive_rate else kappa - 2.0
    if power == 0.0:
        return float(np.log(distance.mean()))
    logs = power * distance + np.log(-np.expm1(-power * distance)) - np.log(power)
    peak = logs.max()
    return float(peak + np.log(np.exp(logs - peak).mean()))


def _scaled(direction: NDArray[np.float64], log_norm: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled: NDArray[np.float64] = np.exp(log_norm)[:, None] * direction
    return scaled


def _time(value: Any) -> float:
    # Infinite is legal: for kappa > 2 and extreme scales physical time leaves double, and the scaled clock goes on.
    if isinstance(value, (int, float, np.floating)) and float(value) == float("inf"):
        return float("inf")
    return finite_number(value, "time")


def _read_flags(active: Any, count: int) -> NDArray[np.bool_]:
    flags = host(active)
    if flags.dtype != np.bool_:
        raise TypeError(f"active has dtype {flags.dtype}, expected bool, one per neuron; use active.astype(bool)")
    if flags.shape != (count,):
        raise ValueError(f"active has shape {flags.shape}, expected (H,) = ({count},)")
    return np.array(flags)
