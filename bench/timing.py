"""Interleaved timing: A B A B, medians, and the spread that says what they resolve."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import TypeVar

REPEATS = 7
# One sample repeats a short call until it is long beside the clock and the scheduler.
SAMPLE_SECONDS = 0.02

# Seconds per call, over so many calls.
Sampler = Callable[[int], float]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Median seconds per call; half the distance between the quartiles."""

    seconds: float
    spread: float


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios, between two of them that hold the true median with probability `confidence`."""

    median: float
    low: float
    high: float
    confidence: float

    @property
    def resolved(self) -> bool:
        """Whether the two are told apart, at 95 % at least: six pairs or more."""
        return self.confidence >= 0.95 and (self.low > 1.0 or self.high < 1.0)


def local(call: Callable[[], object]) -> Sampler:
    """Samples a call of this process."""

    def sample(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - begun) / count

    return sample


def interleave(samplers: Mapping[Key, Sampler], repeats: int = REPEATS) -> dict[Key, Timing]:
    """Samples each `repeats` times in turn, warm."""
    return {name: summary(values) for name, values in samples(samplers, repeats).items()}


def samples(samplers: Mapping[Key, Sampler], repeats: int) -> dict[Key, list[float]]:
    """What `interleave` sums up."""
    counts = {name: calls_per_sample(sampler) for name, sampler in samplers.items()}
    taken: dict[Key, list[float]] = {name: [] for name in samplers}
    for _ in range(repeats):
        for name, sampler in samplers.items():
            taken[name].append(sampler(counts[name]))
    return taken


def calls_per_sample(sampler: Sampler) -> int:
    """How many calls make a sample; the first of all is not looked at, since it pays for what comes once."""
    if sampler(1) > SAMPLE_SECONDS:
        return 1
    return max(1, round(SAMPLE_SECONDS / max(sampler(1), 1e-9)))


def summary(values: Sequence[float]) -> Timing:
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return Timing(median(ordered), 0.5 * (ordered[-1 - quarter] - ordered[quarter]))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """theirs / ours of samples taken side by side.

    The k-th smallest and k-th largest of n ratios fail to hold the median when fewer than k of them, or more than
    n - k, lie below it: by the sign test with probability 2 sum_(j < k) C(n, j) / 2^n, whatever their distribution. It
    is taken at most 5 %, with k at least 1."""
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    n = len(ratios)
    k, outside = 1, 2.0 * 0.5**n
    while 2 * (k + 1) <= n and outside + 2.0 * comb(n, k) * 0.5**n <= 0.05:
        outside += 2.0 * comb(n, k) * 0.5**n
        k += 1
    return Ratio(median(ratios), ratios[k - 1], ratios[n - k], 1.0 - min(1.0, outside))
