"""What `agf run` does: a data set, alternating gradient flow and gradient flow from one start, a table, a picture."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import positive_integer
from ._compare import compare
from ._data import Split, load_digits, load_file, prepare
from ._dense import Dense
from ._plot import require_matplotlib, run_figure
from ._state import State
from ._status import Status
from ._table import number, table
from ._trajectory import Trajectory
from ._verbs import alternating_gradient_flow, gradient_flow

__all__ = ["RunOptions", "run"]


@dataclass(frozen=True)
class RunOptions:
    """The options of `agf run`, as its help describes them."""

    data: str | None = None
    activation: str = "relu"
    width: int = 16
    scale: float = 1e-8
    seed: int = 0
    max_jumps: int = 12
    out: str = "agf-run"
    flow: bool = True
    rtol: float = 1e-3
    active_time: float = 200.0


def run(options: RunOptions) -> int:
    """Run, print and write; returns the exit code.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        Before any work, if options or data cannot be used.
    """
    require_matplotlib()
    stem = _stem(options.out)
    split = prepare(*_load(options.data))
    problem = Dense(split.x_train, split.y_train, activation=options.activation)
    start = problem.initialize(options.width, scale=options.scale, seed=options.seed)
    positive_integer(options.max_jumps, "max-jumps")
    _say_what(options, split, problem)
    path, truth, interrupted = _integrate(options, problem, start)
    scores = [split.score(problem.predict(state, split.x_test)) for state in path.states]
    print(_jump_table(path, scores, bool(split.classes)))
    print(path.status)
    if truth is not None:
        print(f"gradient flow: loss {number(truth._records['loss'][-1])} at t = {number(truth._records['time'][-1])}")
        score = split.score(problem.predict(truth.state, split.x_test))
        print(f"  test {'accuracy' if split.classes else 'loss'} {score:.4g}; {truth.status}")
        found = compare(path, truth)
        if found.matches:
            print(found)
        else:
            print(
                f"  the flow has {len(truth.jumps)} drop(s) of its own where AGF has {len(path.jumps)} jumps: at this "
                "scale and width its steps overlap into a slide, and none can be set against a jump"
            )
    _write(stem, path, truth, scores, split, options)
    if interrupted:
        print("interrupted: the files hold what was computed until then", file=sys.stderr)
        return 130
    return 1 if Status.NON_FINITE in (path.status, truth.status if truth is not None else path.status) else 0


def _integrate(options: RunOptions, problem: Dense, start: State) -> tuple[Trajectory, Trajectory | None, bool]:
    progress = importlib.util.find_spec("tqdm") is not None
    try:
        print("alternating gradient flow ...", file=sys.stderr)
        path = alternating_gradient_flow(
            problem,
            start,
            max_jumps=options.max_jumps,
            active_time=options.active_time,
            rtol=options.rtol,
            progress=progress,
            callback=None
            if progress
            else lambda jump: _say(f"  t = {number(jump.time)}: loss {number(jump.loss_after)}"),
        )
    except KeyboardInterrupt as stop:
        if not hasattr(stop, "path"):
            raise
        return stop.path, None, True
    if not options.flow or not path.jumps:
        return path, None, False
    # AGF's clock stands still during active phases and the flow's does not, so the flow reaches the last drop later.
    t_end = 1.3 * path.jumps[-1].time + options.active_time
    print(f"gradient flow to t = {number(t_end)}: 1.3 times the last jump's, and one active phase ...", file=sys.stderr)
    try:
        return path, gradient_flow(problem, start, t_end, rtol=options.rtol, progress=progress), False
    except KeyboardInterrupt as stop:
        if not hasattr(stop, "path"):
            raise
        return path, stop.path, True


def _load(data: str | None) -> tuple[Any, Any, str]:
    return (*load_digits(), "digits") if data is None else (*load_file(data), os.path.basename(data))


def _stem(out: str) -> str:
    root, ending = os.path.splitext(out)
    stem = root if ending in (".png", ".npz") else out
    if os.path.isdir(stem):
        stem = os.path.join(stem, "agf-run")
    folder = os.path.dirname(stem) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"--out is {out!r}, whose folder {folder!r} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--out is {out!r}, whose folder {folder!r} cannot be written to; choose another")
    return stem


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_what(options: RunOptions, split: Split, problem: Dense) -> None:
    kind = f"{len(split.classes)} classes" if split.classes else f"{problem.n_outputs} targets"
    print(
        f"{split.name}: {problem.n_samples} training and {len(split.x_test)} test samples (every fifth), "
        f"{problem.n_inputs} inputs, {kind}"
    )
    targets = "labels one-hot and centred" if split.classes else "targets centred"
    print(f"inputs centred and scaled to E|x|^2 = 1, {targets}, by the training samples")
    print(
        f"two-layer {options.activation} network, width {options.width}, initial scale {options.scale:g}, seed "
        f"{options.seed}, rtol {options.rtol:g}, active phases of at most {options.active_time:g}"
    )
    sys.stdout.flush()


def _jump_table(path: Trajectory, scores: list[float], classes: bool) -> str:
    if not path.jumps:
        return "no neuron activated"
    measure = "test accuracy" if classes else "test loss"
    rows = []
    for index, (jump, score) in enumerate(zip(path.jumps, scores, strict=True)):
        figures = (jump.utility, jump.loss_before, jump.loss_after)
        told = f"{score:.1%}" if classes else number(score, 5)
        rows.append([str(index + 1), number(jump.time), str(jump.neuron), *(number(value) for value in figures), told])
    return table(["jump", "time", "neuron", "utility", "loss before", "loss after", measure], rows)


def _write(
    stem: str, path: Trajectory, truth: Trajectory | None, scores: list[float], split: Split, options: RunOptions
) -> None:
    count = path.states[0].direction.shape[0] if path.states else 0
    extra: dict[str, Any] = {"test_score": np.array(scores)}
    if count:
        extra["features"] = np.stack([state._theta()[:, : split.x_train.shape[1]] for state in path.states])
    if truth is not None:
        extra.update({f"flow_{name}": truth._records[name] for name in ("time", "scaled_time", "loss")})
    path._write(f"{stem}.npz", extra)
    title = (
        f"{split.name}: two-layer {options.activation} network, width {options.width}, initial scale "
        f"{options.scale:g}, seed {options.seed}"
    )
    run_figure(path, truth, split.x_train.shape[1], f"{stem}.png", title, split.classes)
    print(f"wrote {stem}.png and {stem}.npz (agf_fast.load reads it)")
