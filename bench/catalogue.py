"""The cases by name, and how one runs in a process of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import threads as _threads
from .rows import Outcome


@dataclass(frozen=True)
class Case:
    """Where its function is, and on how many threads its process runs; a case of probes gives each its own."""

    function: str
    threads: int = 1
    pinned: bool = True


CASES = {
    "limits": Case("bench.limits:limits", 2, pinned=False),
    "leaves": Case("bench.leaves:leaves", 1, pinned=False),
    "passes": Case("bench.passes:passes"),
    "memory": Case("bench.memory:memory", 2, pinned=False),
    "modular-run": Case("bench.modular:modular_run"),
    "modular-flow": Case("bench.modular:modular_flow"),
    "modular-phase": Case("bench.modular:modular_phase"),
    "flow-dop853": Case("bench.modular:flow_dop853"),
    "diagonal-path": Case("bench.diagonal:diagonal_path"),
    "diagonal-memory": Case("bench.diagonal:diagonal_memory"),
    "diagonal-descent": Case("bench.diagonal:diagonal_descent"),
    "scales": Case("bench.scales:scales"),
    "work-precision": Case("bench.work_precision:work_precision"),
    "ensembles": Case("bench.ensembles:ensembles", 2, pinned=False),
    "reproduce": Case("bench.reproduce:reproduce", 2, pinned=False),
}


def run(name: str) -> Outcome | None:
    """The case in a process where every BLAS has its threads from the start; None if that process fails."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", "bench.catalogue", name, str(path)]
        if subprocess.run(command, env=_threads.environment(case.threads)).returncode:
            return None
        return Outcome.from_data(json.loads(path.read_text()))


def _child(name: str, path: str) -> None:
    case = CASES[name]
    if case.pinned:
        _threads.pin(case.threads)
    module, _, function = case.function.partition(":")
    outcome: Outcome = getattr(importlib.import_module(module), function)()
    Path(path).write_text(json.dumps(outcome.data(), default=float))


if __name__ == "__main__":
    _child(*sys.argv[1:])
