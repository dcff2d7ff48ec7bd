"""Running experiments: in this process or several at once, with what they print and the files they write."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._backend import core, set_threads, version
from .._images import look
from .._plot import require_matplotlib
from ._experiment import Experiment, Result, Setup
from ._registry import NAMES, find
from ._style import style

__all__ = ["Report", "ReproduceOptions", "listing", "reproduce", "run_one"]

# One thread per worker: as many workers as cores run at once.
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class ReproduceOptions:
    """The options of `agf reproduce`, as its help describes them."""

    names: tuple[str, ...] = ()
    out: str = "agf-reproduce"
    data: str | None = None
    seed: int | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class Report:
    """What is left of an experiment once its files are written."""

    name: str
    text: str
    passed: bool
    failed: int
    seconds: float


def listing() -> str:
    """One line per experiment."""
    width = max(map(len, NAMES))
    return "\n".join(f"{name:<{width}}  {find(name).title}" for name in NAMES)


def reproduce(options: ReproduceOptions) -> int:
    """Run the named experiments, printing each as it finishes; returns 1 if one does not show what it must, else 0.

    Raises
    ------
    ValueError, OSError, ImportError
        Before any work, if options or data cannot be used.
    """
    if not options.names:
        raise ValueError(f"name is missing, expected all or one of {', '.join(NAMES)}; --list describes them")
    found = {name: find(name) for name in dict.fromkeys(options.names) if name != "all"}
    if "all" in options.names:
        found = {name: find(name) for name in NAMES}
    experiments = sorted(found.values(), key=lambda experiment: -experiment.seconds)
    require_matplotlib()
    if options.data is not None:
        look(options.data)
    _make_folder(options.out)
    setup = Setup(seed=options.seed, data=options.data)
    jobs = min(options.jobs or os.cpu_count() or 1, len(experiments))
    began = time.perf_counter()
    reports = []
    for report in _each(experiments, setup, options.out, jobs):
        print(report.text, flush=True)
        reports.append(report)
    if len(experiments) > 1:
        good = sum(report.passed for report in reports)
        bad = sorted(report.name for report in reports if not report.passed)
        print(
            f"{good} of {len(experiments)} experiments show what they must, in {time.perf_counter() - began:.1f} s"
            + (f"; not so: {', '.join(bad)}" if bad else "")
        )
    return 0 if all(report.passed for report in reports) else 1


def run_one(name: str, setup: Setup, out: str) -> Report:
    """Compute, draw and write one experiment: OUT/NAME.json and OUT/NAME*.png, each appearing whole or not at all."""
    experiment = find(name)
    began = time.perf_counter()
    result = experiment.compute(setup)
    seconds = time.perf_counter() - began
    pictures = _draw(experiment, result, out)
    record = _record(experiment, setup, result, seconds, pictures)
    file = os.path.join(out, f"{name}.json")
    _write(file, json.dumps(record, indent=1, allow_nan=False).encode())
    heading = f"{name}: {experiment.title}"
    lines = [heading, "=" * len(heading), str(result)]
    lines.append(f"wrote {', '.join([file, *pictures])} ({seconds:.1f} s)\n")
    failed = sum(not check.passed for check in result.checks)
    return Report(name, "\n".join(lines), result.passed, failed, seconds)


def _each(experiments: Sequence[Experiment], setup: Setup, out: str, jobs: int) -> Iterator[Report]:
    if jobs == 1:
        before = core().get_threads()
        set_threads(1)  # as workers have it: these problems are too small to gain by more
        try:
            for experiment in experiments:
                try:
                    report = run_one(experiment.name, setup, out)
                except Exception as error:  # noqa: BLE001  (told, as for the workers)
                    report = _broken(experiment.name, error)
                yield report
        finally:
            set_threads(before)
        return
    # Spawned, not forked: the parent may hold threads of a pool, which a fork would leave behind in pieces.
    with _one_thread_each():
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin_worker)
        try:
            futures = {pool.submit(run_one, e.name, setup, out): e.name for e in experiments}
            for future in as_completed(futures):
                failure = future.exception()
                yield future.result() if failure is None else _broken(futures[future], failure)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _broken(name: str, error: BaseException) -> Report:
    told = " ".join(str(error).split())
    print(f"agf reproduce: {name} broke down: {type(error).__name__}: {told}", file=sys.stderr, flush=True)
    return Report(name, f"{name}: broke down\n", False, 0, float("nan"))


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    set_threads(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """NumPy's own BLAS reads its number of threads from the environment when a worker imports it."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _draw(experiment: Experiment, result: Result, out: str) -> list[str]:
    files = []
    with style():
        for suffix, figure in experiment.draw(result).items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            stem = f"{experiment.name}-{suffix}" if suffix else experiment.name
            files.append(os.path.join(out, f"{stem}.png"))
            _write(files[-1], buffer.getvalue())
    return files


def _record(
    experiment: Experiment, setup: Setup, result: Result, seconds: float, pictures: Sequence[str]
) -> dict[str, Any]:
    record = {
        "experiment": experiment.name,
        "title": experiment.title,
        "agf_fast": version(),
        "seed": setup.seed,
        "data": setup.data,
        "seconds": round(seconds, 3),
        "passed": result.passed,
        "facts": result.facts,
        "tables": [{"title": t.title, "headers": list(t.headers), "rows": t.rows} for t in result.tables],
        "notes": result.notes,
        "checks": [vars(check) for check in result.checks],
        "numbers": result.numbers,
        "figures": [os.path.basename(file) for file in pictures],
    }
    plain: dict[str, Any] = _json(record)
    return plain


def _json(value: Any) -> Any:
    """Plain data: JSON has no NaN and no infinity, which become null and the strings inf and -inf."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, complex):
        return [_json(value.real), _json(value.imag)]
    return value


def _make_folder(out: str) -> None:
    if os.path.exists(out) and not os.path.isdir(out):
        raise ValueError(f"--out is {out!r}, which is a file, expected a folder; choose another")
    parent = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(parent):
        raise ValueError(f"--out is {out!r}, whose parent {parent!r} does not exist; make it first")
    os.makedirs(out, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise ValueError(f"--out is {out!r}, which cannot be written to; choose another")


def _write(file: str, content: bytes) -> None:
    """Into a temporary neighbour, then under its name: a run that is cut off leaves no half file."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(file) or ".", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.close()
            os.chmod(temporary.name, 0o644)
            os.replace(temporary.name, file)
        except BaseException:
            os.unlink(temporary.name)
            raise
