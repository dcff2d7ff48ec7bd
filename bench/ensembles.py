"""Ensembles: many runs of modular addition in one call, on all cores, and their cost beside that of runs one by one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import agf_fast as agf

from .memory import peak
from .modular import END
from .problems import MODULAR_LEVELS, MODULAR_RUN, MODULAR_SCALE, MODULAR_WIDTH, modular, modular_level, modular_loss
from .rows import Bar, Fraction, Outcome, Peer, Row
from .threads import cores
from .timing import paired_ratio, samples

SUBJECT = "ensembles"
MEMBERS = 1000
# As many again are run one by one.
COMPARED = 8
REPEATS = 7
# 2 L / p after the third jump where the third neuron has the phase of the second; `MODULAR_LEVELS` has the other case.
OTHER_THIRD = 0.37728


def ensembles(count: int = MEMBERS) -> Outcome:
    threads = cores()
    agf.set_threads(threads)
    problem = modular("ModularAddition")
    starts = problem.initialize(MODULAR_WIDTH, scale=MODULAR_SCALE, seed=range(count))

    def together(which: tuple[agf.State, ...]) -> agf.Ensemble:
        runs = agf.alternating_gradient_flow(problem, which, loss_tol=modular_loss(END), **MODULAR_RUN)
        assert isinstance(runs, agf.Ensemble)
        return runs

    def one_by_one() -> list[agf.Trajectory]:
        return [
            agf.alternating_gradient_flow(problem, start, loss_tol=modular_loss(END), **MODULAR_RUN)
            for start in starts[:COMPARED]
        ]

    for run, alone in zip(together(starts[:COMPARED]), one_by_one(), strict=True):
        assert run.state == alone.state and list(run.jumps) == list(alone.jumps)
    before = peak()
    runs = together(starts)
    held = peak() - before
    error = max(_error(path) for path in runs)
    assert error <= 2e-5, error
    # Most starts are to learn everything.
    unlearned = sum(path.status != "loss_tol" for path in runs)
    assert unlearned <= 0.05 * count, unlearned
    calls = {"together": _processor(lambda: together(starts[:COMPARED])), "alone": _processor(one_by_one)}
    taken = samples(calls, REPEATS)
    ratio = paired_ratio(taken["together"], taken["alone"])
    cost = float(np.median(taken["together"])) / COMPARED
    case = f"{count} AGF runs of modular addition in one call, {threads} threads"
    return Outcome(
        [
            Row(
                SUBJECT,
                f"{case}: on the wall",
                runs.stats["seconds"],
                fractions=(Fraction("all cores busy", runs.stats["busy"]),),
                error=error,
                work=runs.stats["evaluations"],
                bars=(Bar("fraction", ">=", 0.9),),
            ),
            Row(
                SUBJECT,
                f"{case}: processor time of each of {COMPARED}",
                cost,
                spread=0.5 * cost * (ratio.high - ratio.low),
                peers=(Peer("one by one", cost * ratio.median),),
                bars=(Bar("ratio", ">=", 1.0),),
            ),
            Row(SUBJECT, f"{case}: growth of the peak, each", held / count, unit="B"),
        ]
    )


def _processor(call: Callable[[], object]) -> Callable[[int], float]:
    """Samples the time of all of this process's threads."""

    def sample(count: int) -> float:
        begun = time.process_time()
        for _ in range(count):
            call()
        return (time.process_time() - begun) / count

    return sample


def _error(path: agf.Trajectory) -> float:
    """The first three levels beside those known. A run ends where all is learned, or with all neurons at work: some
    starts spend several on one frequency and lack them elsewhere."""
    levels = [modular_level(jump.loss_after) for jump in path.jumps]
    learned = levels[-1] <= END
    assert path.status == ("loss_tol" if learned else "all_active"), (path.status, levels)
    assert learned or sum(len(jump.activated) for jump in path.jumps) == MODULAR_WIDTH, levels
    third = min(MODULAR_LEVELS[2], OTHER_THIRD, key=lambda known: abs(known - levels[2]))
    return float(np.abs(np.subtract(levels[:3], [*MODULAR_LEVELS[:2], third])).max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("members", nargs="?", type=int, default=MEMBERS)
    for row in ensembles(parser.parse_args().members).rows:
        print(row)
