"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["number", "table"]


def number(value: float, digits: int = 6) -> str:
    """A number in at most `digits` significant figures."""
    return f"{value:.{digits}g}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Right-aligned columns under their headers, one line per row."""
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    lines = [headers, *rows]
    return "\n".join(
        (indent + "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))).rstrip() for line in lines
    )
