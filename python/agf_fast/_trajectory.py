"""What a run gives back: jumps, times, losses, states, and how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import NUMPY64, Array, ArrayKind, host
from ._flow_jumps import flow_jumps
from ._state import State
from ._status import Status
from ._table import number, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RECORDS", "TITLES", "Jump", "Record", "Trajectory"]

RECORDS = ("time", "scaled_time", "loss", "elapsed")
TITLES = {
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
    member : int or None
        Of an ensemble, for callbacks: which run this is of.
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
    member: int | None = field(default=None, repr=False, compare=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Jump):
            return NotImplemented
        for item in fields(self):
            if not item.compare:
                continue
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            same = mine == theirs
            if item.name == "direction" or isinstance(mine, float):
                same = np.array_equal(host(mine), host(theirs), equal_nan=True)
            if not same:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]  # equal by value, and holds arrays

    @classmethod
    def _from_engine(
        cls, record: Mapping[str, Any], kind: ArrayKind, member: int | None = None, state: State | None = None
    ) -> Jump:
        if state is None and record.get("state") is not None:
            state = State._from_engine(record["state"], kind)
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
            state=state,
            member=member,
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
    member : int or None
        Of an ensemble: which run this is of.
    """

    time: float
    scaled_time: float
    loss: float
    elapsed: float
    state: State | None = None
    member: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def _from_engine(cls, record: Mapping[str, Any], kind: ArrayKind, member: int | None = None) -> Record:
        state = record.get("state")
        return cls(
            time=float(record["time"]),
            scaled_time=float(record["scaled_time"]),
            loss=float(record["loss"]),
            elapsed=float(record["elapsed"]),
            state=None if state is None else State._from_engine(state, kind),
            member=member,
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
        evaluations (of the right-hand side, U and its gradient; neither the loss that is looked up where an implicit
        step ends nor products with the Hessian are among them), hessians, steps, rejected, seconds, and active_time
        of each phase.

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
        self._records = {name: _frozen(result[name]) for name in RECORDS}
        # What objects are made of when they are asked for: of a thousand jumps often only the times are.
        self._raw: tuple[list[Any], list[Any]] = (list(result["states"]), list(result.get("jumps", ())))
        self._states: tuple[State, ...] | None = None
        self._jumps: tuple[Jump, ...] | None = None
        self.state: State = State._from_engine(result["state"], kind)
        self.status = Status(result["status"])
        self.log_eta = float(result["log_eta"])
        self.conserved_drift = float(result["conserved_drift"])
        self.notes: tuple[str, ...] = tuple(str(note) for note in result["notes"])
        self.stats: dict[str, Any] = dict(result["stats"])

    @property
    def time(self) -> Array:
        """Times, in flow units; see the class."""
        return self._kind.numbers.wrap(self._records["time"])

    @property
    def scaled_time(self) -> Array:
        """Times in units of eta."""
        return self._kind.numbers.wrap(self._records["scaled_time"])

    @property
    def loss(self) -> Array:
        """Losses at `time`."""
        return self._kind.numbers.wrap(self._records["loss"])

    @property
    def elapsed(self) -> Array:
        """Times since the last drop."""
        return self._kind.numbers.wrap(self._records["elapsed"])

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """Activations; for a flow or descent, the drops found in its record of the loss."""
        if self._jumps is None:
            if self.method == "alternating_gradient_flow":
                # The state of a jump and of the record is one.
                raw, jumps = self._raw
                known = {id(record): state for record, state in zip(raw, self.states, strict=True)}
                self._jumps = tuple(
                    Jump._from_engine(jump, self._kind, state=known.get(id(jump.get("state")))) for jump in jumps
                )
            else:
                self._jumps = tuple(_found(drop) for drop in flow_jumps(**self._records))
        return self._jumps

    @property
    def states(self) -> tuple[State, ...]:
        """Alternating gradient flow: one after each jump. Gradient flow: one per time in save_at."""
        if self._states is None:
            self._states = tuple(State._from_engine(state, self._kind) for state in self._raw[0])
        return self._states

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
        from ._files import save_trajectory  # here, because that module needs this one

        save_trajectory(self, path, extra)

    def __len__(self) -> int:
        return int(self._records["time"].size)

    def __repr__(self) -> str:
        loss = self._records["loss"]
        jumps = self.jumps
        count = f"{len(jumps)} jump{'s' * (len(jumps) != 1)}"
        when = f"at time {number(self._records['time'][-1])}, {number(self.stats['seconds'], 3)} s"
        lines = [f"{TITLES[self.method]}: {count}, loss {number(loss[0])} to {number(loss[-1])} {when}"]
        if jumps:
            shown = jumps if len(jumps) <= 24 else jumps[:23]
            lines.append(table(*_rows(shown, self.method == "alternating_gradient_flow")))
            if len(shown) < len(jumps):
                lines.append(f"  ... and {len(jumps) - len(shown)} more in .jumps")
        lines.append(str(self.status))
        if self.notes:
            lines.append("notes: " + ", ".join(self.notes))
        return "\n".join(lines)


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


def _rows(jumps: Sequence[Jump], neurons: bool) -> tuple[list[str], list[list[str]]]:
    headers = ["jump", "time", "t/eta", "loss before", "loss after"]
    rows = []
    for index, jump in enumerate(jumps):
        figures = (jump.time, jump.scaled_time, jump.loss_before, jump.loss_after)
        rows.append([str(index), *map(number, figures)])
        if neurons:
            rows[-1] += [str(jump.neuron), number(jump.utility), "yes" if jump.converged else "no"]
    return headers + (["neuron", "utility", "converged"] if neurons else []), rows
