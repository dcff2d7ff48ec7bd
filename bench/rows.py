"""What a case gives back: rows with their figures and bars as data, so that pass or shortfall is computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Quantity = Literal["ours", "ratio", "fraction", "error"]
Direction = Literal["<=", ">="]

TARGETS = "targets.md, Speed and scale"


@dataclass(frozen=True)
class Bar:
    """What is asked of one figure of a row, and by whom."""

    quantity: Quantity
    direction: Direction
    number: float
    source: str = TARGETS

    def met(self, figure: float) -> bool:
        return figure <= self.number if self.direction == "<=" else figure >= self.number


@dataclass(frozen=True)
class Peer:
    """Another's figure for the same work; None where it is not installed. A quoted figure was published, not measured
    here, and decides nothing."""

    name: str
    value: float | None
    quoted: bool = False


@dataclass(frozen=True)
class Fraction:
    """Ours as a part of a limit measured in the same run."""

    of: str
    value: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ours is seconds, or what `unit` says; spread is half the distance between its quartiles. Where there are several
    fractions, of one limit measured in several ways, the first is that of the fastest and the one that is judged.
    error is the largest relative difference from the answer, asserted by the case. work counts evaluations of a run
    whose time is given. flops and bytes are those that the work cannot do without, for the roofline."""

    subject: str
    case: str
    ours: float | None
    unit: str = "s"
    spread: float | None = None
    peers: tuple[Peer, ...] = ()
    fractions: tuple[Fraction, ...] = ()
    error: float | None = None
    work: int | None = None
    bars: tuple[Bar, ...] = ()
    flops: float | None = None
    bytes: float | None = None

    @property
    def rival(self) -> Peer | None:
        """The best peer that was measured here."""
        measured = [peer for peer in self.peers if peer.value is not None and not peer.quoted]
        return min(measured, key=lambda peer: peer.value or 0.0, default=None)

    @property
    def ratio(self) -> float | None:
        """The best measured peer over ours: above 1 we are ahead."""
        rival = self.rival
        if rival is None or rival.value is None or not self.ours:
            return None
        return rival.value / self.ours

    def figure(self, quantity: Quantity) -> float | None:
        """The figure that a bar is about."""
        if quantity == "fraction":
            return self.fractions[0].value if self.fractions else None
        figure: float | None = getattr(self, quantity)
        return figure

    @property
    def judged(self) -> tuple[Bar, ...]:
        """The bars that can be judged: all but that of a comparison with peers of which none is there."""
        return tuple(bar for bar in self.bars if bar.quantity != "ratio" or self.ratio is not None)

    @property
    def missed(self) -> tuple[Bar, ...]:
        """Those that are not met. A figure of ours that could not be taken meets no bar."""
        figures = ((bar, self.figure(bar.quantity)) for bar in self.judged)
        return tuple(bar for bar, figure in figures if figure is None or not bar.met(figure))

    @property
    def key(self) -> str:
        """The row's name among all."""
        return f"{self.subject}: {self.case}"


@dataclass(frozen=True)
class Curve:
    """Work against error of one method on one case as its tolerance is tightened."""

    case: str
    method: str
    rtol: tuple[float, ...]
    error: tuple[float, ...]
    evaluations: tuple[int, ...]
    hessians: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """All that a case found."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def extend(self, other: Outcome) -> None:
        self.rows.extend(other.rows)
        self.curves.extend(other.curves)

    def data(self) -> dict[str, Any]:
        """As plain data, for JSON; the verdict goes along for readers, and is computed anew by `from_data`."""
        rows = [
            {
                **asdict(row),
                "ratio": row.ratio,
                "verdict": None if not row.judged else "shortfall" if row.missed else "pass",
            }
            for row in self.rows
        ]
        return {"rows": rows, "curves": [asdict(curve) for curve in self.curves]}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Outcome:
        return cls([_row(record) for record in data["rows"]], [_curve(record) for record in data["curves"]])


def _row(record: dict[str, Any]) -> Row:
    kinds: dict[str, Any] = {"peers": Peer, "fractions": Fraction, "bars": Bar}
    given = {key: value for key, value in record.items() if key not in ("ratio", "verdict")}
    for key, kind in kinds.items():
        given[key] = tuple(kind(**item) for item in given[key])
    return Row(**given)


def _curve(record: dict[str, Any]) -> Curve:
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    return Curve(**given)
