"""What a run gives back: jumps, times, losses, states, and how it ended."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import NUMPY64, Array, ArrayKind
from ._flow_jumps import flow_jumps
from ._state import COMPONENTS, State
from ._status import Status
from ._table import number, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Jump", "Record", "Trajectory", "load"]

_FORMAT = 1
_RECORDS = ("time", "scaled_time", "loss", "elapsed")
_STATE_NUMBERS = ("time", "scaled_time", "log_eta", "phase_elapsed")
_STATE_ARRAYS = ("direction", "log_norm", "active")
_JUMP_NUMBERS = (
    "time",
    "scaled_time",
    "utility",
    "alignment",
    "loss_before",
    "loss_after",
    "gradient_norm",
    "active_time",
    "relaxation",
    "gap",
)
_TITLES = {
    "alternating_gradient_flow": "Alternating gradient flow",
    "gradient_flow": "Gradient flow",
    "gradient_descent": "Gradient descent",
}


@dataclass(frozen=True, eq=False)
class Jump:
    """One activation: who, when, from where, the drop, and who fell dormant.

    Attributes
    ----------
    time, scaled_time : float
        When, in flow units and in units of eta. For alternating gradient flow, without the active phases.
    neuron : int
        Index of the neuron that activated first; -1 where the record of a flow does not tell.
    utility : float
        U at the unit direction, at the crossing.
    direction : (m,) array
        The direction it activated from; empty where the record of a flow does not tell.
    alignment : float
        Cosine between the direction and the utility's gradient there; 1 when fully aligned.
    loss_before, loss_after : float
        Loss on the plateau before, and at the end of the active phase.
    activated, returned : tuple of int
        Neurons that became active, and neurons that fell dormant during the phase.
    converged : bool
        Whether the active phase reached equilibrium.
    gradient_norm : float
        Norm of the loss's gradient left at its end.
    active_time : float
        Flow time that the active phase took.
    relaxation : float
        Flow time until a tenth of the phase's drop was left; far below the wait for the next jump where plateaus are
        clean. NaN where the phase is not followed in time (`Diagonal`).
    gap : float
        (t_2 - t_1) / t_2 in the scaled clock, t_1 this jump and t_2 when the next candidate would have come, its
        utility staying as it was. Near 0 the order hangs on little (twins of one feature aside); 1 without another.
    state : State or None
        The network after the jump.
    """

    time: float
    scaled_time: float
    neuron: int
    utility: float
    direction: Array
    alignment: float
    loss_before: float
    loss_after: float
    activated: tuple[int, ...]
    returned: tuple[int, ...]
    converged: bool
    gradient_norm: float = float("nan")
    active_time: float = float("nan")
    relaxation: float = float("nan")
    gap: float = float("nan")
    state: State | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Jump):
            return NotImplemented
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            same = mine == theirs
            if item.name == "direction" or isinstance(mine, float):
                same = np.array_equal(np.asarray(mine), np.asarray(theirs), equal_nan=True)
            if not same:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]  # equal by value, and holds arrays

    @classmethod
    def _from_engine(cls, record: Mapping[str, Any], kind: ArrayKind) -> Jump:
        state = record.get("state")
        return cls(
            time=float(record["time"]),
            scaled_time=float(record["scaled_time"]),
            neuron=int(record["neuron"]),
            utility=float(record["utility"]),
            direction=kind.read_only(np.asarray(record["direction"]).astype(kind.dtype)),
            alignment=float(record["alignment"]),
            loss_before=float(record["loss_before"]),
            loss_after=float(record["loss_after"]),
            activated=tuple(int(i) for i in record["activated"]),
            returned=tuple(int(i) for i in record["returned"]),
            converged=bool(record["converged"]),
            gradient_norm=float(record["gradient_norm"]),
            active_time=float(record["active_time"]),
            relaxation=float(record.get("relaxation", "nan")),
            gap=float(record.get("gap", "nan")),
            state=None if state is None else State._from_engine(state, kind),
        )


@dataclass(frozen=True)
class Record:
    """One saved point of a flow or descent, as a callback sees it.

    Attributes
    ----------
    time, scaled_time, loss, elapsed : float
        As the trajectory will hold them.
    state : State or None
        The network there, for times in ``save_at`` and for descent.
    """

    time: float
    scaled_time: float
    loss: float
    elapsed: float
    state: State | None = None

    @classmethod
    def _from_engine(cls, record: Mapping[str, Any], kind: ArrayKind) -> Record:
        state = record.get("state")
        return cls(
            time=float(record["time"]),
            scaled_time=float(record["scaled_time"]),
            loss=float(record["loss"]),
            elapsed=float(record["elapsed"]),
            state=None if state is None else State._from_engine(state, kind),
        )


class Trajectory:
    """A run: times, losses, jumps, states, and how it ended. Made by the verbs and by `load`.

    Attributes
    ----------
    method : str
        The verb that made it.
    time, scaled_time : (k,) array, float64
        Alternating gradient flow: the start and each jump, active phases not counted. Otherwise the saved points.
        Flow units dtheta/dt = -dL/dtheta, and units of eta = exp(log_eta).
    loss : (k,) array, float64
        L = 1/2 E|r|^2 there, after the active phase of each jump, and for the start after that of neurons active from
        the start.
    elapsed : (k,) array, float64
        Time since the last drop, which goes on where `time` has no representable steps left.
    jumps : tuple of Jump
        Activations; for a flow, the drops found in its record.
    states : tuple of State
        Alternating gradient flow: one after each jump. Gradient flow: one per time in save_at.
    state : State
        The final one, from which a run can be continued.
    status : Status
        Why it ended, with advice.
    log_eta : float
        Logarithm of the scaled clock's unit.
    conserved_drift : float
        Largest drift of a neuron's conserved quantity within a flow phase, relative to max_t |theta_i|^2; NaN where the
        activation conserves nothing. The compiled engine puts neurons back on their balance after each step (a
        rescaling of w against a that changes no output), so there it is rounding.
    notes : tuple of str
        Reservations about the result. "direction_unresolved": a neuron left an unstable direction along components
        below the rounding of a double, so the time of its jump is not known; in a gradient flow also, neurons that had
        become one direction to the last bit have parted again, and when they did is up to rounding; or the network
        rests on a saddle that it would leave along lost components.
        "active_phase_work_limit": an active phase without an end was given up (its jump has ``converged=False``); set
        ``active_time``. "step_failed": no acceptable step could be made in an active phase. "valley_frozen": in a
        gradient flow the loss still fell by less than 3e-4 of itself per e-fold of time on a plateau when the residual
        was taken to stand still.
    stats : dict
        evaluations, hessians, steps, rejected, seconds, and active_time of each phase.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> X = np.eye(2)
    >>> problem = agf.Dense(X, X @ np.diag([2.0, 1.0]), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(4))
    >>> [round(jump.loss_after, 6) for jump in path.jumps]
    [0.25, 0.0]
    """

    def __init__(
        self,
        result: Mapping[str, Any],
        kind: ArrayKind = NUMPY64,
        method: str = "gradient_flow",
        loss_zero: float = 0.0,
    ) -> None:
        self.method = method
        self._kind = kind
        self._loss_zero = float(loss_zero)
        self._records = {name: _frozen(result[name]) for name in _RECORDS}
        self._jumps: tuple[Jump, ...] | None = None
        if method == "alternating_gradient_flow":
            self._jumps = tuple(Jump._from_engine(jump, kind) for jump in result["jumps"])
        self.states: tuple[State, ...] = tuple(State._from_engine(state, kind) for state in result["states"])
        self.state: State = State._from_engine(result["state"], kind)
        self.status = Status(result["status"])
        self.log_eta = float(result["log_eta"])
        self.conserved_drift = float(result["conserved_drift"])
        self.notes: tuple[str, ...] = tuple(str(note) for note in result["notes"])
        self.stats: dict[str, Any] = dict(result["stats"])

    @property
    def time(self) -> Array:
        """Times, in flow units; see the class."""
        return self._kind.wrap(self._records["time"])

    @property
    def scaled_time(self) -> Array:
        """Times in units of eta."""
        return self._kind.wrap(self._records["scaled_time"])

    @property
    def loss(self) -> Array:
        """Losses at `time`."""
        return self._kind.wrap(self._records["loss"])

    @property
    def elapsed(self) -> Array:
        """Times since the last drop."""
        return self._kind.wrap(self._records["elapsed"])

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """Activations; for a flow or descent, the drops found in its record of the loss."""
        if self._jumps is None:
            self._jumps = tuple(_found(drop) for drop in flow_jumps(**self._records))
        return self._jumps

    def plot(self, other: Trajectory | None = None, *, ax: Axes | None = None, clock: str | None = None) -> Axes:
        """The loss against time, alone or beside another run's.

        Alternating gradient flow is drawn as a staircase in its own clock, in which an active phase is an instant.

        Parameters
        ----------
        other : Trajectory, optional
            Another run, usually the flow from the same state.
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.
        clock : {"physical", "scaled"}, optional
            Default: physical, or scaled where physical times are beyond double.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from ._plot import plot_loss  # here, because that module needs this one

        return plot_loss(self, other, ax=ax, clock=clock)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an .npz file of plain arrays, without pickles; `agf_fast.load` reads it back as NumPy.

        Parameters
        ----------
        path : str or path-like
            The file's name, used as it is.
        """
        self._write(path, {})

    def _write(self, path: str | os.PathLike[str], extra: Mapping[str, NDArray[Any]]) -> None:
        # Further arrays may travel along; `load` passes over them.
        jumps = self._jumps or ()
        arrays: dict[str, NDArray[Any]] = {**extra, **self._records}
        states = [*self.states, self.state]
        arrays.update(_pack_states("state", states))
        for name in _JUMP_NUMBERS:
            arrays[f"jump_{name}"] = np.array([getattr(jump, name) for jump in jumps], dtype=np.float64)
        for index, jump in enumerate(jumps):
            arrays[f"jump_direction_{index}"] = np.asarray(jump.direction)
        meta = {
            "format": _FORMAT,
            "method": self.method,
            "dtype": self._kind.dtype,
            "loss_zero": self._loss_zero,
            "status": self.status.value,
            "log_eta": self.log_eta,
            "conserved_drift": self.conserved_drift,
            "notes": list(self.notes),
            "stats": self.stats,
            "jumps": [
                [
                    jump.neuron,
                    list(jump.activated),
                    list(jump.returned),
                    jump.converged,
                    _place(jump.state, self.states),
                ]
                for jump in jumps
            ],
        }
        arrays["meta"] = np.array(json.dumps(meta, default=_plain))
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return int(self._records["time"].size)

    def __repr__(self) -> str:
        loss = self._records["loss"]
        jumps = self.jumps
        count = f"{len(jumps)} jump{'s' * (len(jumps) != 1)}"
        when = f"at time {number(self._records['time'][-1])}, {number(self.stats['seconds'], 3)} s"
        lines = [f"{_TITLES[self.method]}: {count}, loss {number(loss[0])} to {number(loss[-1])} {when}"]
        if jumps:
            shown = jumps if len(jumps) <= 24 else jumps[:23]
            lines.append(table(*_rows(shown, self.method == "alternating_gradient_flow")))
            if len(shown) < len(jumps):
                lines.append(f"  ... and {len(jumps) - len(shown)} more in .jumps")
        lines.append(str(self.status))
        if self.notes:
            lines.append("notes: " + ", ".join(self.notes))
        return "\n".join(lines)


def load(path: str | os.PathLike[str]) -> Trajectory:
    """Read a trajectory that `Trajectory.save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Trajectory
        With NumPy arrays, whatever library the run used.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf, pathlib, tempfile
    >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "x.npz"
    ...     path.save(file)
    ...     agf.load(file).state == path.state
    True
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"path is {os.fspath(path)!r}, expected a file written by Trajectory.save ({error})") from None
    if "meta" not in arrays:
        raise ValueError(
            f"path is {os.fspath(path)!r}, an .npz without a trajectory in it, expected a file written by "
            "Trajectory.save"
        )
    meta = json.loads(str(arrays["meta"]))
    if meta["format"] != _FORMAT:
        raise ValueError(
            f"path is {os.fspath(path)!r} in format {meta['format']}, expected format {_FORMAT}; use the version of "
            "agf_fast that wrote it"
        )
    kind = ArrayKind("numpy", meta["dtype"])
    *states, state = _unpack_states("state", arrays)
    result: dict[str, Any] = {name: arrays[name] for name in _RECORDS}
    result.update({name: meta[name] for name in ("status", "log_eta", "conserved_drift", "notes", "stats")})
    result.update(states=states, state=state, jumps=[])
    for index, (neuron, activated, returned, converged, place) in enumerate(meta["jumps"]):
        jump = {name: arrays[f"jump_{name}"][index] for name in _JUMP_NUMBERS if f"jump_{name}" in arrays}
        jump.update(neuron=neuron, activated=activated, returned=returned, converged=converged)
        jump.update(direction=arrays[f"jump_direction_{index}"], state=None if place is None else states[place])
        result["jumps"].append(jump)
    return Trajectory(result, kind, meta["method"], meta["loss_zero"])


def _frozen(values: Any) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _found(drop: Mapping[str, Any]) -> Jump:
    blank: dict[str, Any] = {
        "neuron": -1,
        "utility": float("nan"),
        "direction": np.empty(0),
        "alignment": float("nan"),
        "activated": (),
        "returned": (),
        "converged": False,
    }
    known = {item.name for item in fields(Jump)}
    return Jump(**{**blank, **{key: value for key, value in drop.items() if key in known}})


def _place(state: State | None, states: Sequence[State]) -> int | None:
    return next((index for index, other in enumerate(states) if state is not None and state == other), None)


def _pack_states(prefix: str, states: Sequence[State]) -> dict[str, NDArray[Any]]:
    starts = [state._start(2.0, False) for state in states]
    packed = {f"{prefix}_{name}": np.array([start[name] for start in starts]) for name in _STATE_NUMBERS}
    packed.update(
        {f"{prefix}_{name}": np.stack([np.asarray(getattr(s, name)) for s in states]) for name in _STATE_ARRAYS}
    )
    # Not every state has them.
    for index, start in enumerate(starts):
        packed.update({f"{prefix}_{name}_{index}": start[name] for name in COMPONENTS if name in start})
        packed.update({f"{prefix}_extra_{name}_{index}": value for name, value in start["extra"].items()})
    return packed


def _unpack_states(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    names = _STATE_NUMBERS + _STATE_ARRAYS
    count = arrays[f"{prefix}_time"].size
    states: list[dict[str, Any]] = [
        {name: arrays[f"{prefix}_{name}"][k] for name in names}
        | {name: arrays[f"{prefix}_{name}_{k}"] for name in COMPONENTS if f"{prefix}_{name}_{k}" in arrays}
        | {"extra": {}}
        for k in range(count)
    ]
    own = f"{prefix}_extra_"
    for key in arrays:
        if key.startswith(own):
            name, _, index = key.removeprefix(own).rpartition("_")
            states[int(index)]["extra"][name] = arrays[key]
    return states


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _rows(jumps: Sequence[Jump], neurons: bool) -> tuple[list[str], list[list[str]]]:
    headers = ["jump", "time", "t/eta", "loss before", "loss after"]
    rows = []
    for index, jump in enumerate(jumps):
        figures = (jump.time, jump.scaled_time, jump.loss_before, jump.loss_after)
        rows.append([str(index), *map(number, figures)])
        if neurons:
            rows[-1] += [str(jump.neuron), number(jump.utility), "yes" if jump.converged else "no"]
    return headers + (["neuron", "utility", "converged"] if neurons else []), rows
