"""`python -m bench page [FILE]`: docs/performance.md and its figures, from figures that `--save` kept.

What a section measures and why a bar is missed is said in page.toml; everything else is drawn from the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .figures import roofline, work_precision
from .machine import RESULTS, results_file
from .rows import Outcome, Row
from .table import bar_text, cells, subjects, verdict

TEXT = Path(__file__).with_name("page.toml")
DOCS = Path(__file__).resolve().parents[1] / "docs"
ROOFLINE, WORK_PRECISION = "roofline.png", "work-precision.png"


def draw(source: Path | None = None) -> int:
    """Writes the page from this file, or from that of this machine, or the only one there is."""
    file = source or _default()
    if not file.is_file():
        raise SystemExit(f"no file {file}, expected one that --save or --json wrote")
    data = json.loads(file.read_text())
    outcome = Outcome.from_data(data)
    DOCS.mkdir(exist_ok=True)
    figures = {}
    if any(row.flops for row in outcome.rows):
        roofline(outcome.rows, DOCS / ROOFLINE)
        figures["leaves"] = ROOFLINE
    if outcome.curves:
        work_precision(outcome.curves, DOCS / WORK_PRECISION)
        figures["work-precision"] = WORK_PRECISION
    (DOCS / "performance.md").write_text(page(data["machine"], outcome.rows, figures))
    return 0


def _default() -> Path:
    own = results_file()
    files = sorted(RESULTS.glob("*.json"))
    if own in files:
        return own
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise SystemExit(f"bench/results has {names}, expected one of this machine ({own.name}); name the file to draw")
    return files[0]


def page(machine: dict[str, Any], rows: Sequence[Row], figures: dict[str, str]) -> str:
    """The whole text."""
    judged = [row for row in rows if row.judged]
    missed = [row for row in judged if row.missed]
    text = tomllib.loads(TEXT.read_text())
    passed = f"{len(judged) - len(missed)} of {len(judged)} rows with a bar pass."
    if missed:
        passed += " What falls short, and why, is [at the end](#what-falls-short)."
    parts = ["# Performance", text["opening"].strip(), _facts(machine), passed]
    grouped, sections = subjects(rows), text["section"]
    for subject in dict.fromkeys([*sections, *grouped]):
        if subject not in grouped and subject not in figures:
            continue
        section = sections.get(subject, {"title": subject.capitalize(), "text": ""})
        title = section["title"]
        parts += [f"## {title}", *filter(None, [section["text"].strip()])]
        if subject in figures:
            parts.append(f"![{title}]({figures[subject]})")
        if subject in grouped:
            parts.append(_markdown(cells(grouped[subject])))
    if missed:
        parts += ["## What falls short", *_shortfalls(missed, text.get("explanation", ()))]
    return "\n\n".join(parts) + "\n"


def _facts(machine: dict[str, Any]) -> str:
    ours = machine["agf_fast"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"CPU: {machine['cpu']}, {machine['cores']} cores" + (f"; {caches}" if caches else ""),
        f"agf_fast {ours['agf_fast']}: {ours.get('isa')}, {ours.get('blas')}, {ours.get('compiler')}",
        f"Python {machine['python']}, {machine['system']}; {versions}",
    ]
    if machine["blas"]:
        lines.append("; ".join(f"{name}'s BLAS: {version}" for name, version in machine["blas"].items()))
    for key, text in (("settings", "Set"), ("dropped", "Set there, and dropped for the measurements")):
        if machine[key]:
            lines.append(f"{text}: " + ", ".join(f"{name}={value}" for name, value in machine[key].items()))
    return "\n".join(f"* {line}" for line in lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    heading, *body = lines
    shown = [_line(heading), _line(["---"] * len(heading)), *(_line(line) for line in body)]
    return "\n".join(shown)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


def _shortfalls(missed: Sequence[Row], explanations: Sequence[dict[str, Any]]) -> list[str]:
    """Rows that miss a bar, above the explanation that covers them."""
    grouped: dict[str, list[str]] = {}
    for row in missed:
        text = next(
            (item["text"].strip() for item in explanations if any(fnmatchcase(row.key, key) for key in item["rows"])),
            "Not explained yet.",
        )
        asked = "; ".join(bar_text(bar, row) for bar in row.missed)
        grouped.setdefault(text, []).append(f"* {row.key}: {verdict(row)} (asked: {asked})")
    return [part for text, rows in grouped.items() for part in ("\n".join(rows), text)]
