"""Two runs side by side: which jumps correspond, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ._arrays import finite_number
from ._table import number, table
from ._theory import Theory
from ._trajectory import Jump, Trajectory

__all__ = ["Comparison", "Match", "compare"]


_LEVELS = ("path level", "truth level", "error/L(0)")


@dataclass(frozen=True)
class Match:
    """A jump of each run that correspond.

    Attributes
    ----------
    path_index, truth_index : int
        Positions in ``path.jumps`` and ``truth.jumps``; of a run beside a theory, the first of the jumps that take up
        the feature.
    path_time, truth_time : float
        When, in the clock of the comparison.
    path_level, truth_level : float
        Loss after the jump.
    time_error : float
        (path_time - truth_time) / truth_time; NaN where a theory does not know the time.
    level_error : float
        (path_level - truth_level) / L(0), L(0) the loss of the zero network.
    """

    path_index: int
    truth_index: int
    path_time: float
    truth_time: float
    path_level: float
    truth_level: float
    time_error: float
    level_error: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; prints as a table.

    Attributes
    ----------
    matches : tuple of Match
        Corresponding jumps, in order.
    path_only, truth_only : tuple of int
        Jumps of one run without a counterpart in the other.
    clock : str
        "scaled" (t/eta) or "physical".
    path_total, truth_total : int
        Jumps of each.
    """

    matches: tuple[Match, ...]
    path_only: tuple[int, ...]
    truth_only: tuple[int, ...]
    clock: str
    path_total: int
    truth_total: int

    @property
    def max_time_error(self) -> float:
        """Largest known relative time error of a matched jump; NaN without any."""
        known = [abs(match.time_error) for match in self.matches if not np.isnan(match.time_error)]
        return max(known, default=float("nan"))

    @property
    def max_level_error(self) -> float:
        """Largest level error of a matched jump, relative to L(0); NaN without any."""
        return max((abs(match.level_error) for match in self.matches), default=float("nan"))

    def __repr__(self) -> str:
        unit = "t/eta" if self.clock == "scaled" else "t"
        lines = [f"{len(self.matches)} jumps correspond, of {self.path_total} in path and {self.truth_total} in truth"]
        if self.matches:
            lines.append(
                table(
                    ["path", "truth", *(f"{run} {unit}" for run in ("path", "truth")), "error", *_LEVELS], _rows(self)
                )
            )
        for name, left in (("path", self.path_only), ("truth", self.truth_only)):
            if left:
                lines.append(f"only in {name}: {', '.join(map(str, left))}")
        return "\n".join(lines)


def compare(path: Trajectory | Theory, truth: Trajectory | Theory, *, min_overlap: float = 0.5) -> Comparison:
    """Match the jumps of two runs, in order, by the losses they span, and measure what lies between them.

    Runs need not have the same number of jumps: what has no counterpart is listed. Times are compared in the scaled
    clock t/eta where both runs have it. Alternating gradient flow leaves its active phases out of its clock, a flow
    cannot; the time errors of a comparison between them shrink with the initial scale. Beside a theory, all jumps of a
    run that lie between two of its levels are one: several neurons may serve one feature. Its time is the first one's.

    Parameters
    ----------
    path, truth : Trajectory or Theory
        Two runs, usually `alternating_gradient_flow` and `gradient_flow` from one state, or a run and what
        ``problem.theory`` says of it.
    min_overlap : float, default 0.5
        Jumps correspond only if the ranges from loss_before to loss_after overlap by at least this fraction of what
        the two cover together; from 0 (any overlap) to 1.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If an argument is not a trajectory, or min_overlap not a number from 0 to 1.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.diag([2.0, 1.0]), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(4))
    >>> agf.compare(path, path).max_time_error
    0.0
    """
    for name, run in (("path", path), ("truth", truth)):
        if not isinstance(run, (Trajectory, Theory)):
            raise TypeError(
                f"{name} is {type(run).__name__}, expected a Trajectory, as the verbs return it for one start, "
                "or a Theory"
            )
    least = finite_number(min_overlap, "min_overlap", low=0.0, high=1.0)
    mine = _gathered(path.jumps, truth if isinstance(truth, Theory) else None)
    theirs = _gathered(truth.jumps, path if isinstance(path, Theory) else None)
    pairs = _align([group.jump for group in mine], [group.jump for group in theirs], least)
    scaled = all(np.isfinite(group.jump.scaled_time) for group in (*mine, *theirs))
    zero = path._loss_zero or truth._loss_zero or 1.0
    matches = tuple(_match(mine[i], theirs[j], scaled, zero) for i, j in pairs)
    found = {k for i, _ in pairs for k in mine[i].members}, {k for _, j in pairs for k in theirs[j].members}
    return Comparison(
        matches,
        tuple(k for k in range(len(path.jumps)) if k not in found[0]),
        tuple(k for k in range(len(truth.jumps)) if k not in found[1]),
        "scaled" if scaled else "physical",
        len(path.jumps),
        len(truth.jumps),
    )


@dataclass(frozen=True)
class _Group:
    """Jumps that count as one: their places, and that one."""

    members: tuple[int, ...]
    jump: Jump


def _gathered(jumps: Sequence[Jump], theory: Theory | None) -> list[_Group]:
    """Jumps as they are; beside a theory, those whose middle lies between the same two of its levels as one."""
    if theory is None:
        return [_Group((k,), jump) for k, jump in enumerate(jumps)]
    groups: list[list[int]] = []
    floors: list[int] = []
    for k, jump in enumerate(jumps):
        middle = 0.5 * (jump.loss_before + jump.loss_after)
        floor = int(np.count_nonzero(theory.levels >= middle))
        if groups and floors[-1] == floor:
            groups[-1].append(k)
        else:
            groups.append([k])
            floors.append(floor)
    return [_Group(tuple(group), replace(jumps[group[0]], loss_after=jumps[group[-1]].loss_after)) for group in groups]


def _match(mine_group: _Group, theirs_group: _Group, scaled: bool, zero: float) -> Match:
    i, mine = mine_group.members[0], mine_group.jump
    j, theirs = theirs_group.members[0], theirs_group.jump
    times = (mine.scaled_time, theirs.scaled_time) if scaled else (mine.time, theirs.time)
    gap = times[0] - times[1]
    return Match(
        path_index=i,
        truth_index=j,
        path_time=times[0],
        truth_time=times[1],
        path_level=mine.loss_after,
        truth_level=theirs.loss_after,
        time_error=gap / times[1] if times[1] else float(np.copysign(np.inf, gap)) if gap else 0.0,
        level_error=(mine.loss_after - theirs.loss_after) / zero,
    )


def _rows(found: Comparison) -> list[list[str]]:
    return [
        [*map(str, (m.path_index, m.truth_index)), *map(number, (m.path_time, m.truth_time)), _percent(m.time_error)]
        + [*map(number, (m.path_level, m.truth_level)), f"{m.level_error:+.2e}"]
        for m in found.matches
    ]


def _percent(error: float) -> str:
    return "-" if np.isnan(error) else f"{error:+.2%}"


def _align(mine: Sequence[Jump], theirs: Sequence[Jump], least: float) -> list[tuple[int, int]]:
    """The order-preserving set of pairs with the largest total overlap."""
    rows, columns = len(mine), len(theirs)
    gain = np.zeros((rows, columns))
    for i, a in enumerate(mine):
        for j, b in enumerate(theirs):
            shared = min(a.loss_before, b.loss_before) - max(a.loss_after, b.loss_after)
            covered = max(a.loss_before, b.loss_before) - min(a.loss_after, b.loss_after)
            if shared > 0.0 and shared >= least * covered:
                gain[i, j] = shared / covered
    best: NDArray[np.float64] = np.zeros((rows + 1, columns + 1))
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            best[i, j] = max(best[i + 1, j], best[i, j + 1], best[i + 1, j + 1] + gain[i, j])
    pairs = []
    i = j = 0
    while i < rows and j < columns:
        if gain[i, j] > 0.0 and best[i, j] == best[i + 1, j + 1] + gain[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs
