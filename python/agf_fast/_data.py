"""Data sets for the command: the handwritten digits of the package, .npz and .csv files."""

from __future__ import annotations

import csv
import os
import warnings
import zipfile
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "Split", "load_digits", "load_file", "prepare"]


class DataError(ValueError):
    """A data file that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Split:
    """Centred and scaled data, for training and for testing.

    ``classes`` names the outputs; it is empty for regression. ``shift`` is the mean of the training targets.
    """

    x_train: NDArray[np.float64]
    y_train: NDArray[np.float64]
    x_test: NDArray[np.float64]
    y_test: NDArray[np.float64]
    labels_test: NDArray[np.int64]
    shift: NDArray[np.float64]
    classes: tuple[str, ...]
    name: str

    def score(self, outputs: NDArray[Any]) -> float:
        """Test accuracy of these outputs, or for regression the test loss 1/2 E|y - f|^2."""
        if self.classes:
            return float(np.mean(np.argmax(outputs + self.shift, axis=1) == self.labels_test))
        return 0.5 * float(np.mean(np.sum((self.y_test - outputs) ** 2, axis=1)))


def load_digits() -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The 1,797 handwritten digits of the package: 8 x 8 images with values from 0 to 16, and their labels."""
    with resources.as_file(resources.files("agf_fast") / "data" / "digits.npz") as path, np.load(path) as file:
        return file["images"].reshape(-1, 64).astype(np.float64), file["labels"].astype(np.int64)


def load_file(path: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Samples and targets of an .npz (keys X and y, or X and Y) or .csv file (the last column is the label)."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".npz", ".csv"):
        raise DataError(f"{path}: got a file ending in {ending!r}, expected .npz or .csv; convert it")
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file")
    x, y = _load_npz(path) if ending == ".npz" else _load_csv(path)
    if x.ndim > 2:
        x = x.reshape(x.shape[0], -1)
    if x.ndim != 2 or x.size == 0:
        raise DataError(f"{path}: X has shape {x.shape}, expected (samples, inputs) and at least one of each")
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: X has dtype {x.dtype}, expected numbers")
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise DataError(f"{path}: the targets have shape {y.shape}, expected one row for each of {len(x)} samples")
    x = x.astype(np.float64)
    for name, values in (("X", x), ("the targets", y)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(
                f"{path}: {name} holds NaN or infinite values, the first in sample {row}; remove that sample"
            )
    return x, y


def prepare(x: NDArray[np.float64], y: NDArray[Any], name: str) -> Split:
    """Every fifth sample for testing; inputs centred and scaled to E|x|^2 = 1, labels one-hot and centred.

    All means and scales are those of the training part.
    """
    if len(x) < 5:
        raise DataError(f"{name}: got {len(x)} samples, expected at least 5, every fifth being for testing")
    testing = np.arange(len(x)) % 5 == 4
    classes: tuple[str, ...] = ()
    codes = np.zeros(len(x), dtype=np.int64)
    if _are_labels(y):
        names, codes = np.unique(y.ravel(), return_inverse=True)
        if len(names) > max(2, len(x) // 2):
            raise DataError(
                f"{name}: the labels take {len(names)} values in {len(x)} samples, expected classes; for regression, "
                "put real numbers (not whole ones) in the targets"
            )
        classes = tuple(f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value) for value in names)
        targets = np.eye(len(names))[codes]
    elif y.dtype.kind in "fiu":
        targets = y.reshape(len(y), -1).astype(np.float64)
    else:
        raise DataError(
            f"{name}: the targets have dtype {y.dtype} and shape {y.shape}, expected labels or real numbers"
        )
    mean = x[~testing].mean(axis=0)
    scale = float(np.sqrt(np.mean(np.sum((x[~testing] - mean) ** 2, axis=1))))
    if scale == 0.0:
        raise DataError(f"{name}: all training inputs are equal, expected inputs that differ")
    inputs = (x - mean) / scale
    shift = targets[~testing].mean(axis=0)
    targets = targets - shift
    if not targets[~testing].any():
        raise DataError(f"{name}: all training targets are equal, expected targets that differ")
    return Split(
        inputs[~testing],
        targets[~testing],
        inputs[testing],
        targets[testing],
        codes[testing].astype(np.int64),
        shift,
        classes,
        name,
    )


def _are_labels(y: NDArray[Any]) -> bool:
    if y.ndim == 2 and y.shape[1] != 1:
        return False
    if y.dtype.kind in "iubUS":
        return True
    return y.dtype.kind == "f" and bool(np.all(y == np.round(y)))


def _load_npz(path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = list(file.files)
            target = next((key for key in ("y", "Y") if key in found), None)
            if "X" not in found or target is None:
                raise DataError(f"{path}: got the keys {', '.join(found) or 'none'}, expected X and y (or Y)")
            return file["X"], file[target]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays ({_one_line(error)})") from None


def _load_csv(path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            first = next(reader, [])
            second = next(reader, [])
        if len(first) < 2:
            raise DataError(
                f"{path}: got {len(first)} column(s), expected inputs and a last column with the label, by commas"
            )
        header = bool(second) and not all(map(_is_number, first[:-1]))
        sample = second if header else first
        inputs = list(range(len(first) - 1))
        options: dict[str, Any] = {"delimiter": ",", "skiprows": int(header), "encoding": "utf-8", "comments": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about empty files, which the shapes tell
            if sample and _is_number(sample[-1]):
                table = np.loadtxt(path, ndmin=2, **options)
                return table[:, :-1], table[:, -1]
            x = np.loadtxt(path, ndmin=2, usecols=inputs, **options)
            y = np.loadtxt(path, ndmin=1, usecols=len(first) - 1, dtype=str, quotechar='"', **options)
            return x, np.char.strip(y)
    except DataError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table of numbers ({_one_line(error)})") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
