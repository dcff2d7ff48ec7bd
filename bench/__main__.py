"""`python -m bench [CASE ...]`: runs cases in processes of their own and prints one table, or draws the page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from .catalogue import CASES, run
from .machine import machine, results_file
from .rows import Outcome
from .table import table, totals


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Run benchmark cases, each in a process of its own; print one table with the verdict on each bar. "
        "The exit status is 1 if an answer is wrong or a case breaks down. `python -m bench page [FILE]` draws "
        "docs/performance.md from saved figures.",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and machine facts there")
    parser.add_argument("--save", action="store_true", help="write them to bench/results/CPU-Ncores.json")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is missed, too")
    options = parser.parse_args()
    if options.cases[:1] == ["page"]:
        from .page import draw

        if len(options.cases) > 2:
            parser.error(f"page takes one file, got {' '.join(options.cases[1:])}")
        return draw(*map(Path, options.cases[1:]))
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"no case named {', '.join(unknown)}; there are {', '.join(CASES)}")
    outcome, failed = _run(options.cases or list(CASES))
    print(table(outcome.rows), totals(outcome.rows), sep="\n\n")
    for name in failed:
        print(f"{name}: the answer was wrong or the case broke down; see above")
    for path in filter(None, (options.json, results_file() if options.save else None)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text({"machine": machine(), "failed": failed, **outcome.data()}))
    return 1 if failed or (options.strict and any(row.missed for row in outcome.rows)) else 0


def _run(names: list[str]) -> tuple[Outcome, list[str]]:
    outcome, failed = Outcome(), []
    for name in names:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        found = run(name)
        print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        if found is None:
            failed.append(name)
        else:
            outcome.extend(found)
    return outcome, failed


def _text(data: dict[str, Any]) -> str:
    """One row or curve per line, so that a diff of two files shows what changed."""
    parts = [f'"{key}": {json.dumps(data[key])}' for key in ("machine", "failed")]
    for key in ("rows", "curves"):
        lines = ",\n  ".join(json.dumps(item) for item in data[key])
        parts.append(f'"{key}": [\n  {lines}\n ]' if lines else f'"{key}": []')
    return "{\n " + ",\n ".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
