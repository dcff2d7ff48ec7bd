"""A call that is sampled in a process of its own: own environment, own thread pools, own interpreter if need be.

Side by side in one process, libraries disturb each other: idle workers of one pool spin on the cores of the next, and a
BLAS that was loaded first decides for all. The parent sends lines of JSON and reads one back for each."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import threads as _threads
from .timing import local

ROOT = Path(__file__).resolve().parents[1]
# Idle workers of whoever was sampled before look for work on the cores of the next: OpenBLAS's for some 30 ms.
REST_SECONDS = 0.05


class MissingError(Exception):
    """A library that is not installed; the text says which."""


class Probe:
    """Samples the call that a factory builds; used as a `timing.Sampler`.

    factory is "module:function" of this repository. The function is called with threads and what `prepare` is given,
    and returns the call."""

    def __init__(
        self,
        factory: str,
        threads: int,
        *,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self._name = f"{factory} on {threads} threads"
        self._process = subprocess.Popen(
            [python, "-m", "bench.probe", factory, str(threads)],
            cwd=ROOT,
            env={**_threads.environment(threads), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def prepare(self, **arguments: Any) -> None:
        """Builds the call, in place of the last one. Raises MissingError if its library is not there."""
        self._ask("prepare", arguments)

    def answer(self) -> list[np.ndarray[Any, Any]]:
        """Calls once and returns what came out as arrays."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "answer.npz")
            self._ask("answer", path)
            with np.load(path) as file:
                return [file[name] for name in file.files]

    def __call__(self, count: int) -> float:
        time.sleep(REST_SECONDS)
        return float(self._ask("sample", count))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, verb: str, argument: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps([verb, argument]), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the process of {self._name} ended with {self._process.wait()}")
        state, content = json.loads(line)
        if state == "missing":
            raise MissingError(content)
        return content


def _serve(factory: str, threads: int, requests: IO[str], replies: IO[str]) -> None:
    module, _, function = factory.partition(":")
    build: Callable[..., Callable[[], Any]] = getattr(importlib.import_module(module), function)
    call: Callable[[], Any] | None = None
    for line in requests:
        verb, argument = json.loads(line)
        reply: list[Any] = ["done", None]
        if verb == "prepare":
            call = None
            try:
                call = build(threads=threads, **argument)
            except ModuleNotFoundError as error:
                reply = ["missing", f"{error.name} is not installed"]
        elif verb == "answer":
            assert call is not None
            np.savez(argument, *_arrays(call()))
        else:
            assert call is not None
            if argument > 1:
                # Warm again after the rest.
                local(call)(-(-argument // 10))
            reply[1] = local(call)(argument)
        print(json.dumps(reply), file=replies, flush=True)


def _arrays(result: Any) -> tuple[Any, ...]:
    """As they are; of a trajectory its last loss, its jumps and its evaluations."""
    if hasattr(result, "stats"):
        return float(result.loss[-1]), len(result.jumps), result.stats["evaluations"]
    return result if isinstance(result, tuple) else (result,)


def main() -> None:
    factory, threads = sys.argv[1], int(sys.argv[2])
    _threads.pin(threads)
    # What libraries print goes to standard error; the pipe is for replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(factory, threads, sys.stdin, replies)


if __name__ == "__main__":
    main()
