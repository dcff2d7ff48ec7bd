"""Trajectories and ensembles in .npz files of plain arrays, without pickles."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import ArrayKind, host
from ._ensemble import Ensemble
from ._state import COMPONENTS, State
from ._trajectory import RECORDS, Trajectory

__all__ = ["load", "save_ensemble", "save_trajectory"]

_FORMAT = 1
_STATE_NUMBERS = ("time", "scaled_time", "log_eta", "phase_elapsed")
_STATE_ARRAYS = ("direction", "log_norm", "active")
_JUMP_NUMBERS = (
    "time",
    "scaled_time",
    "utility",
    "alignment",
    "loss_before",
    "loss_after",
    "gradient_norm",
    "active_time",
    "relaxation",
    "gap",
)
_SEVERAL = "ensemble"


def save_trajectory(
    path: Trajectory, file: str | os.PathLike[str], extra: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """What `Trajectory.save` does; further arrays may travel along, which `load` passes over."""
    arrays, meta = _pack(path)
    _write(file, {**(extra or {}), **arrays}, meta)


def save_ensemble(ensemble: Ensemble, file: str | os.PathLike[str]) -> None:
    """What `Ensemble.save` does: arrays of one name end to end, their shapes beside what else each member is."""
    parts: dict[str, list[NDArray[Any]]] = {}
    members = []
    for path in ensemble:
        arrays, meta = _pack(path)
        members.append([meta, {name: array.shape for name, array in arrays.items()}])
        for name, array in arrays.items():
            parts.setdefault(name, []).append(array.ravel())
    whole = {
        "format": _FORMAT,
        "method": ensemble.method,
        "dtype": ensemble._kind.dtype,
        "stats": ensemble.stats,
        _SEVERAL: members,
    }
    _write(file, {name: np.concatenate(own) for name, own in parts.items()}, whole)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `Trajectory.save` or `Ensemble.save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    Trajectory or Ensemble
        With NumPy arrays, whatever library the run used.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf, pathlib, tempfile
    >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "x.npz"
    ...     path.save(file)
    ...     agf.load(file).state == path.state
    True
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"path is {os.fspath(path)!r}, expected a file written by Trajectory.save ({error})") from None
    if "meta" not in arrays:
        raise ValueError(
            f"path is {os.fspath(path)!r}, an .npz without a trajectory in it, expected a file written by "
            "Trajectory.save"
        )
    meta = json.loads(str(arrays["meta"]))
    if meta["format"] != _FORMAT:
        raise ValueError(
            f"path is {os.fspath(path)!r} in format {meta['format']}, expected format {_FORMAT}; use the version of "
            "agf_fast that wrote it"
        )
    if _SEVERAL not in meta:
        return _unpack(arrays, meta)
    at = dict.fromkeys(arrays, 0)
    members = []
    for own, shapes in meta[_SEVERAL]:
        pieces = {}
        for name, shape in shapes.items():
            size = int(np.prod(shape, dtype=np.int64))
            pieces[name] = arrays[name][at[name] : at[name] + size].reshape(shape)
            at[name] += size
        members.append(_unpack(pieces, own))
    kind = ArrayKind("numpy", meta["dtype"])
    return Ensemble(members, kind, meta["method"], [member._loss_zero for member in members], meta["stats"])


def _write(file: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    with open(file, "wb") as opened:
        np.savez_compressed(opened, **arrays, meta=np.array(json.dumps(meta, default=_plain)))  # type: ignore[arg-type]


def _pack(path: Trajectory) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    jumps = path.jumps if path.method == "alternating_gradient_flow" else ()
    arrays: dict[str, NDArray[Any]] = {**path._records}
    arrays.update(_pack_states("state", [*path.states, path.state]))
    for name in _JUMP_NUMBERS:
        arrays[f"jump_{name}"] = np.array([getattr(jump, name) for jump in jumps], dtype=np.float64)
    for index, jump in enumerate(jumps):
        arrays[f"jump_direction_{index}"] = host(jump.direction)
    places = {id(state): index for index, state in enumerate(path.states)}
    meta = {
        "format": _FORMAT,
        "method": path.method,
        "dtype": path._kind.dtype,
        "loss_zero": path._loss_zero,
        "status": path.status.value,
        "log_eta": path.log_eta,
        "conserved_drift": path.conserved_drift,
        "notes": list(path.notes),
        "stats": path.stats,
        "jumps": [
            [jump.neuron, list(jump.activated), list(jump.returned), jump.converged, places.get(id(jump.state))]
            for jump in jumps
        ],
    }
    return arrays, meta


def _unpack(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Trajectory:
    *states, state = _unpack_states("state", arrays)
    result: dict[str, Any] = {name: arrays[name] for name in RECORDS}
    result.update({name: meta[name] for name in ("status", "log_eta", "conserved_drift", "notes", "stats")})
    result.update(states=states, state=state, jumps=[])
    for index, (neuron, activated, returned, converged, place) in enumerate(meta["jumps"]):
        jump = {name: arrays[f"jump_{name}"][index] for name in _JUMP_NUMBERS if f"jump_{name}" in arrays}
        jump.update(neuron=neuron, activated=activated, returned=returned, converged=converged)
        jump.update(direction=arrays[f"jump_direction_{index}"], state=None if place is None else states[place])
        result["jumps"].append(jump)
    return Trajectory(result, ArrayKind("numpy", meta["dtype"]), meta["method"], meta["loss_zero"])


def _pack_states(prefix: str, states: Sequence[State]) -> dict[str, NDArray[Any]]:
    starts = [state._start(2.0, False) for state in states]
    packed = {f"{prefix}_{name}": np.array([start[name] for start in starts]) for name in _STATE_NUMBERS}
    packed.update({f"{prefix}_{name}": np.stack([host(getattr(s, name)) for s in states]) for name in _STATE_ARRAYS})
    # Not every state has them.
    for index, start in enumerate(starts):
        packed.update({f"{prefix}_{name}_{index}": start[name] for name in COMPONENTS if name in start})
        packed.update({f"{prefix}_extra_{name}_{index}": value for name, value in start["extra"].items()})
    return packed


def _unpack_states(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    names = _STATE_NUMBERS + _STATE_ARRAYS
    count = arrays[f"{prefix}_time"].size
    states: list[dict[str, Any]] = [
        {name: arrays[f"{prefix}_{name}"][k] for name in names}
        | {name: arrays[f"{prefix}_{name}_{k}"] for name in COMPONENTS if f"{prefix}_{name}_{k}" in arrays}
        | {"extra": {}}
        for k in range(count)
    ]
    own = f"{prefix}_extra_"
    for key in arrays:
        if key.startswith(own):
            name, _, index = key.removeprefix(own).rpartition("_")
            states[int(index)]["extra"][name] = arrays[key]
    return states


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
