"""Interleaved timing: A B A B, medians, and the spread that says what they resolve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

REPEATS = 7
# One sample repeats a short call until it is long beside the clock and the scheduler.
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Timing:
    """Median seconds per call; half the distance between the quartiles."""

    seconds: float
    spread: float


def interleave(calls: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, Timing]:
    """Times every call `repeats` times in turn, each warm."""
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, round(SAMPLE_SECONDS / max(_seconds(call, 1), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            samples[name].append(_seconds(call, counts[name]))
    return {name: Timing(median(values), _half_width(values)) for name, values in samples.items()}


def _seconds(call: Callable[[], object], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begun) / count


def _half_width(values: list[float]) -> float:
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return 0.5 * (ordered[-1 - quarter] - ordered[quarter])
