"""`python -m bench.compare A B [CALL ...]`: two installs of agf_fast, each an interpreter, on the same calls.

Every round starts a process of A and one of B for each call, so that what differs between processes (where memory lies,
which core) differs here too. Ratios are those of one round's pair; what is claimed is what their median resolves."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from .leaves import SIZES
from .modular import KINDS
from .passes import SHAPES
from .probe import Probe
from .table import number
from .timing import Ratio, calls_per_sample, paired_ratio, summary

ROUNDS = 7
# Of one process; its figure is the least, since what disturbs a process only adds to it.
SAMPLES = 5


@dataclass(frozen=True)
class Call:
    """A factory of `bench.probe` and what it is given."""

    factory: str
    arguments: dict[str, Any]
    # Largest relative difference between two right answers; None where a run's own tolerance decides.
    agreement: float | None = None


def calls() -> dict[str, Call]:
    """Everything that can be compared, by name."""
    found = {}
    for size in SIZES:
        for dtype in ("float32", "float64"):
            agreement = 8.0 * size[0] ** 0.5 * float(np.finfo(dtype).eps)
            arguments = {"size": size, "dtype": dtype}
            found["-".join(map(str, ("leaves", *size, dtype)))] = Call("bench.leaves:ours", arguments, agreement)
    for shape in SHAPES:
        agreement = 8.0 * shape[0] ** 0.5 * float(np.finfo(np.float64).eps)
        found[f"pass-{shape[0]}-{shape[1]}"] = Call("bench.passes:ours", {"shape": shape}, agreement)
    for verb in ("run", "flow", "phase"):
        for kind in KINDS:
            found[f"modular-{verb}-{kind}"] = Call(f"bench.modular:{verb}", {"kind": kind})
    return found


def main() -> int:
    available = calls()
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Compare two installs, interleaved.")
    parser.add_argument("a", metavar="A", help="interpreter that has the first install")
    parser.add_argument("b", metavar="B", help="interpreter that has the second")
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"of {', '.join(available)}; default all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of processes per call (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    options = parser.parse_args()
    unknown = [name for name in options.calls if name not in available]
    if unknown:
        parser.error(f"no call named {', '.join(unknown)}; there are {', '.join(available)}")
    absent = [python for python in (options.a, options.b) if shutil.which(python) is None]
    if absent:
        parser.error(f"no interpreter at {', '.join(absent)}, expected such as .venv/bin/python of an environment")
    if options.rounds < 1 or options.threads < 1:
        parser.error(f"rounds and threads are {options.rounds} and {options.threads}, expected at least 1 of each")
    names = options.calls or list(available)
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    for turn in range(options.rounds):
        for name in names:
            call, answers = available[name], []
            print(f"round {turn + 1} of {options.rounds}: {name}", file=sys.stderr)
            for python, values in zip((options.a, options.b), taken[name], strict=True):
                seconds, answer = _sample(python, call, options.threads, turn == 0)
                values.append(seconds)
                answers.append(answer)
            if turn == 0:
                _agree(name, call, *answers)
    for name, (first, second) in taken.items():
        print(verdict(name, first, second))
    return 0


def _sample(python: str, call: Call, threads: int, answer: bool) -> tuple[float, list[Any]]:
    with Probe(call.factory, threads, python=python) as probe:
        probe.prepare(**call.arguments)
        found = probe.answer() if answer else []
        count = calls_per_sample(probe)
        return min(probe(count) for _ in range(SAMPLES)), found


def _agree(name: str, call: Call, first: list[Any], second: list[Any]) -> None:
    """Two installs that do not compute the same are not to be compared."""
    if call.agreement is None:
        (loss, jumps, evaluations), (other, others, theirs) = first, second
        print(f"{name}: evaluations {evaluations} and {theirs}, losses {loss:.6g} and {other:.6g}", file=sys.stderr)
        assert jumps == others, (name, "jumps", jumps, others)
        return
    worst = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(first, second, strict=True))
    assert worst <= call.agreement, (name, worst, call.agreement)


def verdict(name: str, first: list[float], second: list[float]) -> str:
    """One line: the medians, their ratio with its interval, and what may be claimed."""
    ratio = paired_ratio(first, second)
    medians = " and ".join(number(summary(values).seconds, "s") for values in (first, second))
    interval = f"B/A {ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] at {ratio.confidence:.1%}"
    return f"{name}: {medians}, {interval}: {claim(ratio)}"


def claim(ratio: Ratio) -> str:
    """Which is faster, or how large a difference would have shown."""
    if ratio.confidence < 0.95:
        return "too few rounds to tell apart; six or more would"
    if not ratio.resolved:
        return f"not told apart; a difference of {max(ratio.high - 1.0, 1.0 - ratio.low):.1%} would have shown"
    if ratio.median > 1.0:
        return f"A is faster, {ratio.median:.3f} times"
    return f"B is faster, {1.0 / ratio.median:.3f} times"


if __name__ == "__main__":
    sys.exit(main())
