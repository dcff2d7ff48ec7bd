"""`agf reproduce all`: every figure of the paper with theory, AGF and gradient flow, on two cores."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from .rows import Bar, Outcome, Row


def reproduce() -> Outcome:
    """Once, since it is long; its exit status says whether every experiment shows what it must."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "agf_fast", "reproduce", "all", "--jobs", "2", "--out", folder]
        begun = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stdout
    return Outcome([Row("reproduce", "agf reproduce all, 2 cores", seconds, bars=(Bar("ours", "<=", 60.0),))])
