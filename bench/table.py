"""Rows as text: one table per subject, peers side by side."""

from __future__ import annotations

from collections.abc import Sequence

from .rows import Bar, Peer, Quantity, Row

# Factor and name of the units a figure is shown in: the first that leaves at least 1.
_SCALES = {
    "s": ((1.0, "s"), (1e3, "ms"), (1e6, "us")),
    "B": ((1e-9, "GB"), (1e-6, "MB"), (1e-3, "kB"), (1.0, "B")),
}
_NAMES: dict[Quantity, str] = {"ours": "", "ratio": "ratio ", "fraction": "of limit ", "error": "error "}


def number(value: float, unit: str) -> str:
    """With three digits, in a unit that suits it."""
    if unit in _SCALES:
        scales = _SCALES[unit]
        factor, name = next((pair for pair in scales if abs(value) * pair[0] >= 1.0), scales[-1])
        return f"{value * factor:.3g} {name}"
    if unit == "evaluations":
        return f"{value:,.0f} ev"
    return f"{value:.3g} {unit}".strip()


def bar_text(bar: Bar, row: Row) -> str:
    figure = f"{bar.number:.0%}" if bar.quantity == "fraction" else number(bar.number, _unit(bar, row))
    return f"{_NAMES[bar.quantity]}{bar.direction} {figure}"


def verdict(row: Row) -> str:
    """pass, or by how much which bar is missed; nothing where there is no bar."""
    if not row.judged:
        return "not judged: no peer" if row.bars else ""
    return "; ".join(_shortfall(bar, row) for bar in row.missed) or "pass"


def _shortfall(bar: Bar, row: Row) -> str:
    figure = row.figure(bar.quantity)
    if figure is None:
        return f"shortfall: no {bar.quantity} was taken"
    text = f"{figure:.1%}" if bar.quantity == "fraction" else number(figure, _unit(bar, row))
    within = ", within the spread" if _within(bar, row, figure) else ""
    return f"shortfall: {_NAMES[bar.quantity]}{text}{within}"


def _within(bar: Bar, row: Row, figure: float) -> bool:
    """Whether the spread of our time reaches the bar: the figures then do not tell which side it is on."""
    return bool(row.spread and row.ours) and abs(bar.number / figure - 1.0) <= (row.spread or 0.0) / (row.ours or 1.0)


def _unit(bar: Bar, row: Row) -> str:
    return row.unit if bar.quantity == "ours" else ""


def peer_text(peer: Peer, row: Row) -> str:
    if peer.value is None:
        return "missing"
    return number(peer.value, row.unit) + (" (quoted)" if peer.quoted else "")


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """A heading and one line per row, with a column for each peer that any of them has; empty columns are left out."""
    peers = list(dict.fromkeys(peer.name for row in rows for peer in row.peers))
    limits = list(dict.fromkeys(fraction.of for row in rows for fraction in row.fractions))
    heading = ["case", "ours", *peers, "ratio", "of limit", "evaluations", "error", "bar", "verdict"]
    lines = [heading]
    for row in rows:
        theirs = {peer.name: peer_text(peer, row) for peer in row.peers}
        lines.append(
            [
                row.case,
                _ours(row),
                *(theirs.get(name, "") for name in peers),
                "" if row.ratio is None else f"{row.ratio:.2f}",
                _fractions(row, limits),
                "" if row.work is None else f"{row.work:,}",
                "" if row.error is None else f"{row.error:.1e}",
                "; ".join(bar_text(bar, row) for bar in row.bars),
                verdict(row),
            ]
        )
    used = [k for k in range(len(heading)) if any(line[k] for line in lines[1:])]
    return [[line[k] for k in used] for line in lines]


def _ours(row: Row) -> str:
    if row.ours is None:
        return ""
    spread = f" ±{row.spread / row.ours:.0%}" if row.spread is not None and row.ours else ""
    return number(row.ours, row.unit) + spread


def _fractions(row: Row, limits: Sequence[str]) -> str:
    """The fraction that is judged, with the limit's name where a subject has more than one."""
    names = len(limits) > 1
    return ", ".join(f"{fraction.value:.0%}" + (f" of {fraction.of}" if names else "") for fraction in row.fractions)


def subjects(rows: Sequence[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.subject, []).append(row)
    return grouped


def table(rows: Sequence[Row]) -> str:
    """Columns padded, subjects apart."""
    parts = []
    for subject, group in subjects(rows).items():
        lines = cells(group)
        widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
        body = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        parts.append("\n".join([f"== {subject}", *body]))
    return "\n\n".join(parts)


def totals(rows: Sequence[Row]) -> str:
    """How many bars there are, and which rows miss theirs."""
    judged = [row for row in rows if row.judged]
    missed = [row for row in judged if row.missed]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} rows with a bar pass"]
    lines += [
        f"  {row.key}: {verdict(row)}; asked: {'; '.join(bar_text(bar, row) for bar in row.bars)}" for row in missed
    ]
    return "\n".join(lines)
