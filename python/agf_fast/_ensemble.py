"""What a call for many runs gives back: their trajectories, in order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from ._arrays import ArrayKind
from ._state import State
from ._status import Status
from ._table import number
from ._trajectory import TITLES, Trajectory

__all__ = ["Ensemble"]

_COUNTS = ("evaluations", "hessians", "steps", "rejected")


class Ensemble(Sequence[Trajectory]):
    """The runs of one call, in the order of their starts: an immutable sequence of `Trajectory`.

    Made by the verbs where they get several states or problems, and by `load`. Each member is what its run by itself
    gives, to the last bit (the seconds in its stats aside), however many threads there are. A member whose run failed
    has the status "failed", the error's text in its ``notes``, and its start as its state; so has one that was not
    begun when the call was stopped, with the status of that. The one loss of such a member, of a network that was not
    looked at, is NaN. A slice is an ensemble again; its ``stats`` count its own members, and keep what the whole call
    took.

    Attributes
    ----------
    method : str
        The verb that made it.
    status : tuple of Status
        Why each member ended.
    state : tuple of State
        The final ones, from which all can be continued.
    stats : dict
        evaluations, hessians, steps and rejected: sums over members. member_seconds: the sum of theirs. seconds: the
        call's, on the wall. threads: how many it could use. busy: the share of their time that the process computed.

    Notes
    -----
    Trajectories are made from the engines' records when they are asked for.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.diag([2.0, 1.0]), activation="identity")
    >>> runs = agf.alternating_gradient_flow(problem, problem.initialize(4, seed=range(3)))
    >>> len(runs), [len(path.jumps) for path in runs], {status.value for status in runs.status}
    (3, [2, 2, 2], {'loss_tol'})
    >>> again = agf.alternating_gradient_flow(problem, problem.initialize(4, seed=1))
    >>> again.state == runs[1].state
    True
    """

    def __init__(
        self,
        members: Iterable[Mapping[str, Any] | Trajectory],
        kind: ArrayKind,
        method: str,
        losses: Iterable[float],
        stats: Mapping[str, Any],
    ) -> None:
        self._members = list(members)
        self._losses = tuple(losses)
        self._kind = kind
        self._method = method
        self._call = {name: stats[name] for name in ("seconds", "threads", "busy")}
        own = [member.stats if isinstance(member, Trajectory) else member["stats"] for member in self._members]
        self._stats: dict[str, Any] = {name: sum(one[name] for one in own) for name in _COUNTS}
        self._stats["member_seconds"] = float(sum(one["seconds"] for one in own))
        self._status = tuple(
            member.status if isinstance(member, Trajectory) else Status(member["status"]) for member in self._members
        )

    @property
    def method(self) -> str:
        """The verb that made it."""
        return self._method

    @property
    def status(self) -> tuple[Status, ...]:
        """Why each member ended."""
        return self._status

    @property
    def state(self) -> tuple[State, ...]:
        """The final states, from which all can be continued."""
        return tuple(
            member.state if isinstance(member, Trajectory) else State._from_engine(member["state"], self._kind)
            for member in self._members
        )

    @property
    def stats(self) -> dict[str, Any]:
        """Sums over members, and what the call took."""
        return {**self._stats, **self._call}

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...

    @overload
    def __getitem__(self, index: slice) -> Ensemble: ...

    def __getitem__(self, index: int | slice) -> Trajectory | Ensemble:
        if isinstance(index, slice):
            return Ensemble(self._members[index], self._kind, self._method, self._losses[index], self._call)
        member = self._members[index]
        if not isinstance(member, Trajectory):
            member = Trajectory(member, self._kind, self._method, self._losses[index])
            self._members[index] = member
        return member

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all members to one .npz file of plain arrays; `agf_fast.load` reads it back as NumPy.

        Parameters
        ----------
        path : str or path-like
            The file's name, used as it is.
        """
        from ._files import save_ensemble  # here, because that module needs this one

        save_ensemble(self, path)

    def __repr__(self) -> str:
        stats = self.stats
        lines = [f"{TITLES[self._method]}, {len(self)} run{'s' * (len(self) != 1)}"]
        if self._members:
            agf = self._method == "alternating_gradient_flow"
            losses = [_losses(member) for member in self._members]
            counts = [len(loss) - agf for loss in losses]
            final = [float(loss[-1]) for loss in losses if loss[-1] == loss[-1]]
            what = ("jump" if agf else "saved point") + "s" * (max(counts) != 1)
            lines[0] += f": {_range(counts)} {what}, final loss {_range(final, 3) if final else 'unknown'}"
        lines[0] += (
            f"; {number(stats['seconds'], 3)} s on {stats['threads']} thread{'s' * (stats['threads'] != 1)}, "
            f"{stats['busy']:.0%} busy"
        )
        counted = Counter(self._status).most_common()
        width = len(str(len(self)))
        lines += [f"  {count:{width}d}  {status}" for status, count in counted]
        return "\n".join(lines)


def _losses(member: Mapping[str, Any] | Trajectory) -> Any:
    return (member._records if isinstance(member, Trajectory) else member)["loss"]


def _range(values: Sequence[float], digits: int = 17) -> str:
    low, high = number(min(values), digits), number(max(values), digits)
    return low if low == high else f"{low} to {high}"
