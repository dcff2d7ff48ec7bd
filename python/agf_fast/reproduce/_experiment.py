"""What an experiment is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .._images import Images, digits, load_images
from .._table import number, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Check", "Experiment", "Result", "Setup", "Table", "at_least", "at_most", "equal", "holds", "within"]


@dataclass(frozen=True)
class Setup:
    """What the user chose.

    Attributes
    ----------
    seed : int or None
        Of everything random; None for the experiment's own, with which its checks are stated.
    data : str or None
        Folder with MNIST or CIFAR-10; None for the 1,797 digits of the package. Only experiments on natural images
        look at it.
    small : bool
        A variant that the tests can afford; each experiment says what it leaves out.
    """

    seed: int | None = None
    data: str | None = None
    small: bool = False

    def seed_or(self, default: int) -> int:
        """The seed, or the experiment's own."""
        return default if self.seed is None else self.seed

    def images(self) -> Images:
        """The natural images and their labels."""
        return digits() if self.data is None else load_images(self.data)


@dataclass(frozen=True)
class Table:
    """A titled table; cells are numbers or text, and numbers are printed in `digits` significant figures."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    digits: int = 6

    def __str__(self) -> str:
        cells = [[_cell(cell, self.digits) for cell in row] for row in self.rows]
        return f"{self.title}\n{table(self.headers, cells)}"


@dataclass(frozen=True)
class Check:
    """One line of what an experiment must show: the claim, the figure got, the bar it is held to, and whether it holds.

    Made by `within`, `at_most`, `at_least`, `equal` and `holds`.
    """

    claim: str
    got: str
    bar: str
    passed: bool

    def __str__(self) -> str:
        return f"  [{'ok' if self.passed else 'FAILED'}] {self.claim}: {self.got} ({self.bar})"


@dataclass
class Result:
    """What an experiment found.

    Attributes
    ----------
    tables : list of Table
        For the reader: theory, alternating gradient flow, gradient flow, errors.
    checks : list of Check
        What must show.
    facts : dict
        Seeds, sizes, scales: the set-up, written to the JSON and printed above the tables.
    numbers : dict
        Further numbers for the JSON: numbers, strings, arrays, and lists and dicts of them.
    notes : list of str
        What the numbers say, one line each.
    curves : dict
        What the figures are drawn from; not written.
    """

    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        facts = ", ".join(f"{name.replace('_', ' ')} {_fact(value)}" for name, value in self.facts.items())
        parts = [facts] if facts else []
        parts += [str(item) for item in self.tables] + self.notes + [str(check) for check in self.checks]
        return "\n".join(parts)


@dataclass(frozen=True)
class Experiment:
    """An experiment: `compute` does the science, `draw` makes figures of its result and computes nothing.

    `seconds` is about what it takes on one core; the longest are started first.
    """

    name: str
    title: str
    compute: Callable[[Setup], Result]
    draw: Callable[[Result], Mapping[str, Figure]]
    seconds: float = 1.0


def within(claim: str, got: Any, expected: Any, atol: float) -> Check:
    """Every figure is within `atol` of the one expected; several are judged and told by the worst."""
    mine, theirs = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (got, expected))
    if mine.shape != theirs.shape:
        return Check(claim, f"{mine.size} figures", f"expected {theirs.size}", False)
    error = np.abs(mine - theirs)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    told = number(float(mine[worst])) if mine.size == 1 else f"worst of {mine.size} is {number(float(mine[worst]))}"
    bar = f"expected {number(float(theirs[worst]))} within {number(atol, 3)}"
    return Check(claim, told, bar, bool(np.all(error <= atol)))


def at_most(claim: str, got: float, bar: float) -> Check:
    """The figure is at most the bar."""
    return Check(claim, number(float(got)), f"at most {number(bar)}", bool(got <= bar))


def at_least(claim: str, got: float, bar: float) -> Check:
    """The figure is at least the bar."""
    return Check(claim, number(float(got)), f"at least {number(bar)}", bool(got >= bar))


def equal(claim: str, got: Any, expected: Any) -> Check:
    """The two are equal: orders, counts, names."""
    mine, theirs = _plain(got), _plain(expected)
    return Check(claim, _fact(mine), f"expected {_fact(theirs)}", bool(mine == theirs))


def holds(claim: str, got: Any, bar: str, passed: bool) -> Check:
    """For what the others cannot say."""
    return Check(claim, _fact(got), bar, bool(passed))


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return "-" if np.isnan(value) else number(float(value), digits)
    return str(value)


def _fact(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(_fact(item) for item in value)
    return _cell(value, 6)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
