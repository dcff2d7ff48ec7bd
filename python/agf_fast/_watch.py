"""What stands between the engines and the caller during a call: callback, progress, exceptions, Ctrl-C."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Self

from ._ensemble import Ensemble
from ._members import GO_ON, INTERRUPT, STOP_ALL, STOP_MEMBER, Batch
from ._trajectory import Jump, Record, Trajectory

__all__ = ["Watch", "bar"]


class Watch:
    """Hears the runs of one call, and makes of what they gave what the verb returns or raises."""

    def __init__(
        self,
        build: Callable[[Mapping[str, Any], int | None], Jump | Record],
        callback: Callable[[Any], Any] | None,
        bar: Any,
        fraction: Callable[[Any], float] | None = None,
        *,
        ensemble: bool = False,
    ) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {type(callback).__name__}, expected a function of one record")
        self.build, self.callback, self.bar, self.fraction = build, callback, bar, fraction
        self.ensemble = ensemble
        self.error: BaseException | None = None
        self.failing = 0  # the member at whose record the error occurred
        # Without anyone watching, engines need not stop to make records: of an ensemble, progress is members done.
        self.observer = None if callback is None and (bar is None or ensemble) else self._observe
        self.finished = self._finished if bar is not None and ensemble else None

    def _observe(self, member: int, record: Mapping[str, Any]) -> int:
        # An exception must not cut through an engine: it stops all, and is raised again with what there is so far.
        if self.error is not None:
            return GO_ON  # the engine stops by itself
        try:
            point = self.build(record, member if self.ensemble else None)
            if self.bar is not None and not self.ensemble:
                done = self.bar.n + 1 if self.fraction is None else self.fraction(point)
                self.bar.set_postfix_str(
                    f"loss {getattr(point, 'loss_after', None) or getattr(point, 'loss', 0.0):.6g}", False
                )
                self.bar.update(min(done, self.bar.total or done) - self.bar.n)
            return STOP_MEMBER if self.callback is not None and self.callback(point) else GO_ON
        except BaseException as error:  # noqa: BLE001  (Ctrl-C inside the callback too; raised again by finish)
            self.error, self.failing = error, member
            return INTERRUPT if isinstance(error, KeyboardInterrupt) else STOP_ALL

    def _finished(self, member: int) -> None:
        self.bar.update(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def finish(
        self, results: list[dict[str, Any]], batch: Batch, method: str, stats: Mapping[str, Any] | None = None
    ) -> Trajectory | Ensemble:
        """The trajectory or ensemble; raises what the callback raised, or KeyboardInterrupt, with it as ``path``."""
        if isinstance(self.error, KeyboardInterrupt):
            results[self.failing]["status"] = "interrupted"
        for result in results:
            if "error" in result:
                error = result.pop("error")
                if not self.ensemble:
                    raise error
                result["notes"] = [f"{type(error).__name__}: {error}"]
        interrupted = any(result["status"] == "interrupted" for result in results)
        first = batch.problems[0]
        losses = [problem._loss_zero for problem in batch.problems]
        path: Trajectory | Ensemble
        if self.ensemble:
            path = Ensemble(results, first._kind, method, losses, stats or {})
        else:
            path = Trajectory(results[0], first._kind, method, losses[0])
        stop = self.error
        if stop is None and interrupted:
            what = "ensemble" if self.ensemble else "trajectory"
            stop = KeyboardInterrupt(f"stopped by Ctrl-C; the {what} so far is the attribute path of this exception")
        if stop is not None:
            stop.path = path  # type: ignore[attr-defined]
            raise stop
        return path


def bar(progress: bool, total: float, unit: str) -> Any:
    """A progress bar of tqdm's, or None."""
    if not progress:
        return None
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        raise ImportError(
            "progress is True, expected tqdm to be installed; pip install tqdm, or leave progress out and use callback"
        ) from None
    if unit:
        return tqdm(total=total, unit=unit)
    return tqdm(total=total, bar_format="{percentage:3.0f}%|{bar}| [{elapsed}{postfix}]")
