"""Ctrl-C as a user sends it: a signal to a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time


def median_wait(code: str, pauses: tuple[float, ...]) -> float:
    """Seconds from the signal until `code` had control back, of runs that are signalled after these pauses.

    It prints "ready", then runs; interrupted, it prints `time.monotonic()` and, with what it computed in hand, "kept".
    The median: one of several may meet a busy machine."""
    waits = []
    for pause in pauses:
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None and child.stderr is not None
            assert child.stdout.readline().strip() == "ready", child.stderr.read()
            time.sleep(pause)
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
        finally:
            child.kill()
        lines = out.split()
        assert lines and lines[-1] == "kept", err
        waits.append(float(lines[0]) - sent)
    return sorted(waits)[len(waits) // 2]
