"""`python -m bench [case ...] [--json FILE]`: runs cases in processes of their own and prints one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

NAMES = (
    "leaves",
    "modular-run",
    "modular-phase",
    "modular-flow",
    "flow-dop853",
    "scales",
)
COLUMNS = ("case", "ours", "peer", "ratio", "of GEMM", "work", "error", "bar")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "cases",
        nargs="*",
        choices=[*NAMES, []],
        metavar="case",
        help=f"of {', '.join(NAMES)}; default all",
    )
    parser.add_argument("--json", metavar="FILE", help="write rows and machine facts there")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        return child(options.cases[0], options.child)
    rows: list[dict[str, Any]] = []
    failed = False
    for name in options.cases or NAMES:
        for threads in (1, 2) if name == "leaves" else (1,):
            done = run(name, threads)
            failed |= done is None
            rows.extend(done or [])
    print(table(rows))
    if options.json:
        path = Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    return 1 if failed else 0


def run(name: str, threads: int) -> list[dict[str, Any]] | None:
    """One case in a process of its own, where every BLAS has this many threads from the start."""
    environment = {**os.environ, **{key: str(threads) for key in THREAD_VARIABLES}}
    print(
        f"{name}, {threads} thread{'s' * (threads > 1)} ...",
        file=sys.stderr,
        flush=True,
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench", name, "--child", str(threads)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        print(
            f"{name}: the answer was wrong or the run broke down; see above",
            file=sys.stderr,
        )
        return None
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def child(name: str, threads: int) -> int:
    from .cases import CASES

    function, counts = CASES[name]
    rows = function() if counts == (None,) else function(threads)
    print(json.dumps(rows, default=float))
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    lines = [COLUMNS]
    for row in rows:
        unit = "" if row["unit"] == "s" else " ev"
        lines.append(
            (
                row["case"],
                value(row["ours"], row["unit"]) + (f" +- {row['spread'] / row['ours']:.0%}" if "spread" in row else ""),
                f"{row['peer_name']} {value(row['peer'], row['unit'])}" if "peer" in row else "",
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                f"{row['fraction']:.0%}" if "fraction" in row else "",
                f"{row['work']} ev" if "work" in row else unit and "",
                f"{row['error']:.1e}" if "error" in row else "",
                row["bar"],
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def value(number: float, unit: str) -> str:
    if unit != "s":
        return f"{int(number)} {unit}"
    factor, name = next((pair for pair in ((1, "s"), (1e3, "ms")) if number * pair[0] >= 1), (1e6, "us"))
    return f"{number * factor:.3g} {name}"


def machine() -> dict[str, Any]:
    """What the figures were taken on; no names of hosts, users or places."""
    import agf_fast

    model = platform.processor()
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {}
    for name in ("numpy", "scipy", "torch", "jax"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version(),
            "versions": versions, "agf_fast": agf_fast.info()}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
