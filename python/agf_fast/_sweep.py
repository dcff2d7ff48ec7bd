"""Parameter sweeps: one function over a grid, on any executor, with failures kept and finished tasks on disk."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import positive_integer
from ._table import table

__all__ = ["Sweep", "SweepTask", "sweep"]

_PLAN = "sweep.json"


@dataclass(frozen=True)
class SweepTask:
    """One point of the grid and what became of it.

    Attributes
    ----------
    index : int
        Its place in the grid.
    parameters : dict
        What the function was called with, the seed aside.
    seed : int
        Its own, which depends on the sweep's seed and the index alone.
    status : {"done", "failed", "pending"}
        Pending: the sweep was interrupted before it.
    value : Any
        What the function returned; None unless done.
    error : str
        The traceback of a failure; empty otherwise.
    seconds : float
        What the call took.
    """

    index: int
    parameters: dict[str, Any]
    seed: int
    status: str = "pending"
    value: Any = None
    error: str = ""
    seconds: float = float("nan")


@dataclass(frozen=True)
class Sweep:
    """What `sweep` returns: its tasks in the order of the grid; prints as a table of what failed.

    Attributes
    ----------
    tasks : tuple of SweepTask
        All of them, in order.
    """

    tasks: tuple[SweepTask, ...]

    @property
    def values(self) -> list[Any]:
        """What the function returned, task by task; None where it did not."""
        return [task.value for task in self.tasks]

    @property
    def failures(self) -> tuple[SweepTask, ...]:
        """The tasks that failed."""
        return tuple(task for task in self.tasks if task.status == "failed")

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[SweepTask]:
        return iter(self.tasks)

    def __repr__(self) -> str:
        counts = {status: sum(task.status == status for task in self.tasks) for status in ("done", "failed", "pending")}
        lines = [f"{len(self)} tasks: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count)]
        if self.failures:
            rows = [
                [str(task.index), _short(task.parameters), task.error.strip().splitlines()[-1][:100]]
                for task in self.failures[:20]
            ]
            lines.append(table(["task", "parameters", "error"], rows))
        return "\n".join(lines)


def sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    executor: Executor | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Callable[[SweepTask], Any] | None = None,
) -> Sweep:
    """Call a function at every point of a grid; failures are kept, and finished tasks outlive an interruption.

    Parameters
    ----------
    function : callable
        Called with a point's parameters by name, and with ``seed=`` if it takes one that the grid does not set. For
        executors of other processes it and what it returns must pickle.
    grid : mapping of str to sequence, or sequence of mappings
        Values by name, of which all combinations are taken, the last name fastest; or the points themselves.
    executor : concurrent.futures.Executor, optional
        Where to run: threads, processes, loky, Dask or MPI. Default: here, one after the other. In worker processes
        the library has one thread (see `set_threads`).
    seed : int, default 0
        Of all tasks: each has its own, drawn from this one and its index, whatever runs where.
    out : path, optional
        Folder for finished tasks, one pickle each, which appears whole or not at all.
    resume : bool, default False
        Take what `out` holds from an earlier sweep of the same grid and seed, and run the rest; failures are run again.
    callback : callable, optional
        Called with each `SweepTask` as it finishes; returning True stops the sweep, what is running being let finish.

    Returns
    -------
    Sweep

    Raises
    ------
    TypeError, ValueError
        On arguments other than these, a folder of another sweep, or one that is not empty without resume.
    KeyboardInterrupt
        On Ctrl-C, with what is finished as its attribute ``sweep``.

    Examples
    --------
    >>> import agf_fast as agf
    >>> found = agf.sweep(lambda a, b: a / b, {"a": [1, 2], "b": [0, 4]})
    >>> found.values, [task.parameters for task in found.failures]
    ([None, 0.25, None, 0.5], [{'a': 1, 'b': 0}, {'a': 2, 'b': 0}])
    """
    if not callable(function):
        raise TypeError(f"function is {type(function).__name__}, expected a function of the grid's parameters")
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(f"executor is {type(executor).__name__}, expected a concurrent.futures.Executor")
    points = _points(grid)
    root = positive_integer(seed, "seed", 0)
    tasks = {index: SweepTask(index, point, _seed(root, index)) for index, point in enumerate(points)}
    folder = None if out is None else _Folder(os.fspath(out), list(tasks.values()), root, resume)
    if resume and folder is None:
        raise ValueError("resume is True without out, expected the folder of the sweep to go on with")
    if folder is not None:
        tasks.update(folder.finished())
    seeded = _takes_seed(function)
    waiting = [task for task in tasks.values() if task.status != "done"]
    running: dict[Future[SweepTask], int] = {}
    try:
        for task in _finished(executor, function, waiting, seeded, running):
            tasks[task.index] = task
            if folder is not None:
                folder.keep(task)
            if callback is not None and callback(task):
                for future in running:
                    future.cancel()
                break
        for future, index in running.items():
            # What was running when the callback stopped the sweep.
            if tasks[index].status == "pending" and not future.cancelled():
                tasks[index] = future.result()
                if folder is not None:
                    folder.keep(tasks[index])
    except BaseException as error:
        for future in running:
            future.cancel()
        error.sweep = Sweep(tuple(tasks.values()))  # type: ignore[attr-defined]
        raise
    return Sweep(tuple(tasks.values()))


def _finished(
    executor: Executor | None,
    function: Callable[..., Any],
    waiting: Sequence[SweepTask],
    seeded: bool,
    running: dict[Future[SweepTask], int],
) -> Iterator[SweepTask]:
    if executor is None:
        for task in waiting:
            yield _run(function, task, seeded)
        return
    running.update({executor.submit(_run, function, task, seeded): task.index for task in waiting})
    places = {task.index: task for task in waiting}
    for future in as_completed(running):
        try:
            task = future.result()
        except Exception as error:  # noqa: BLE001  (a worker that died, or a value that does not pickle)
            lost = places[running[future]]
            task = SweepTask(lost.index, lost.parameters, lost.seed, "failed", error=_told(error))
        yield task


def _run(function: Callable[..., Any], task: SweepTask, seeded: bool) -> SweepTask:
    given = dict(task.parameters)
    if seeded and "seed" not in given:
        given["seed"] = task.seed
    began = time.perf_counter()
    try:
        value = function(**given)
    except Exception as error:  # noqa: BLE001  (whatever it is belongs to this task alone)
        failed = time.perf_counter() - began
        return SweepTask(task.index, task.parameters, task.seed, "failed", error=_told(error), seconds=failed)
    return SweepTask(task.index, task.parameters, task.seed, "done", value, seconds=time.perf_counter() - began)


class _Folder:
    """The finished tasks of one sweep on disk, and the plan that says which sweep they are of."""

    def __init__(self, path: str, tasks: Sequence[SweepTask], seed: int, resume: bool) -> None:
        self.path = path
        self.tasks = tasks
        plan = {"format": 1, "seed": seed, "tasks": [_short(task.parameters) for task in tasks]}
        os.makedirs(path, exist_ok=True)
        file = os.path.join(path, _PLAN)
        if os.path.exists(file):
            if not resume:
                raise ValueError(
                    f"out is {path!r}, which holds a sweep, expected an empty folder; choose another, or resume=True"
                )
            with open(file, encoding="utf-8") as opened:
                known = json.load(opened)
            if known != plan:
                raise ValueError(
                    f"out is {path!r}, which holds a sweep of another grid or seed, expected this one's; choose another"
                )
        elif os.listdir(path):
            raise ValueError(f"out is {path!r}, which is not empty and holds no sweep, expected an empty folder")
        else:
            self._write(file, json.dumps(plan, indent=1).encode())

    def finished(self) -> dict[int, SweepTask]:
        """What an earlier run finished."""
        found = {}
        for task in self.tasks:
            file = self._file(task.index)
            if os.path.exists(file):
                kept = self._read(file)
                if kept.status == "done":
                    found[task.index] = kept
        return found

    @staticmethod
    def _read(file: str) -> SweepTask:
        try:
            with open(file, "rb") as opened:
                kept = pickle.load(opened)
        except (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError) as error:
            raise ValueError(
                f"out holds {file!r}, which cannot be read ({type(error).__name__}: {error}), expected a finished "
                "task; make what it names importable, or delete the file, and the task is run again"
            ) from error
        if not isinstance(kept, SweepTask):
            raise ValueError(
                f"out holds {file!r} with a {type(kept).__name__}, expected a finished task; delete it, and the task "
                "is run again"
            )
        return kept

    def keep(self, task: SweepTask) -> None:
        self._write(self._file(task.index), pickle.dumps(task))

    def _file(self, index: int) -> str:
        return os.path.join(self.path, f"task-{index:06d}.pickle")

    def _write(self, file: str, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self.path, delete=False) as temporary:
            try:
                temporary.write(content)
                temporary.close()
                os.replace(temporary.name, file)
            except BaseException:
                os.unlink(temporary.name)
                raise


def _points(grid: Any) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
                raise TypeError(f"grid[{name!r}] is {type(values).__name__}, expected a sequence of values")
        points = [dict(zip(grid, combination, strict=True)) for combination in itertools.product(*grid.values())]
    elif isinstance(grid, Sequence) and all(isinstance(point, Mapping) for point in grid):
        points = [dict(point) for point in grid]
    else:
        raise TypeError(
            f"grid is {type(grid).__name__}, expected values by name, {{'scale': [1e-2, 1e-4]}}, or a list of mappings"
        )
    if not points:
        raise ValueError("grid has no points, expected at least one value for every name")
    return points


def _seed(root: int, index: int) -> int:
    return int(np.random.SeedSequence(root, spawn_key=(index,)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _takes_seed(function: Callable[..., Any]) -> bool:
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return "seed" in known or any(item.kind is inspect.Parameter.VAR_KEYWORD for item in known.values())


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _short(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
