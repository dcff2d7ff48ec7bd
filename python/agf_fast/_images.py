"""Natural images and their labels: the digits of the package, MNIST and CIFAR-10 from a folder of the user's."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._data import DataError, load_digits

__all__ = ["Images", "digits", "load_images", "look"]

_MNIST_IMAGES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
_MNIST_LABELS = ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte")
_CIFAR_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
# As the archives unpack, and as torchvision keeps them.
_SUBFOLDERS = ("", "MNIST/raw", "raw", "mnist", "cifar-10-batches-py", "cifar-10-batches-bin")
_CIFAR_PIXELS = 3 * 32 * 32
_SOURCES = (
    "MNIST: https://yann.lecun.com/exdb/mnist or https://ossci-datasets.s3.amazonaws.com/mnist; "
    "CIFAR-10: https://www.cs.toronto.edu/~kriz/cifar.html"
)


@dataclass(frozen=True)
class Images:
    """Images as rows of pixels, with their labels.

    Attributes
    ----------
    pixels : (n, d) array, float64
        Row by row, channel after channel, from 0 to 1.
    labels : (n,) array, int64
        Classes from 0 to 9.
    shape : tuple of int
        (channels, height, width), of which d is the product.
    name : str
        What they are.
    """

    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]
    shape: tuple[int, int, int]
    name: str

    def first(self, count: int) -> Images:
        """The first `count` of them, which both archives and the digits have in mixed order."""
        return Images(self.pixels[:count], self.labels[:count], self.shape, self.name)

    def grey(self) -> Images:
        """The mean over channels."""
        channels, height, width = self.shape
        mean = self.pixels.reshape(-1, channels, height * width).mean(axis=1)
        return Images(mean, self.labels, (1, height, width), self.name)

    def one_hot(self) -> NDArray[np.float64]:
        """Labels as centred one-hot rows, (n, 10)."""
        hot = np.eye(10)[self.labels]
        centred: NDArray[np.float64] = hot - hot.mean(axis=0)
        return centred


def digits() -> Images:
    """The 1,797 handwritten digits of the package, 8 x 8 pixels.

    Examples
    --------
    >>> from agf_fast._images import digits
    >>> digits().pixels.shape
    (1797, 64)
    """
    pixels, labels = load_digits()
    return Images(pixels / 16.0, labels, (1, 8, 8), "digits")


def look(folder: str) -> str:
    """Which data set a folder holds, without reading it: "MNIST" or "CIFAR-10".

    Raises
    ------
    DataError
        If it holds neither.
    """
    return _find(folder)[0]


def load_images(folder: str) -> Images:
    """The training images of MNIST (IDX files) or CIFAR-10 (python or binary batches) in a folder.

    Parameters
    ----------
    folder : str
        With train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz, or with data_batch_1 to data_batch_5,
        plain or .bin; or with the folder in which they are usually kept, such as cifar-10-batches-py.

    Returns
    -------
    Images
        All training images; MNIST where a folder holds both.

    Raises
    ------
    DataError
        If files are missing or damaged; the message names them and says where the data can be had.
    """
    name, files = _find(folder)
    if name == "MNIST":
        pixels, labels = _read_idx(files[0], 3), _read_idx(files[1], 1)
        shape = (1, *pixels.shape[1:])
    else:
        batches = [_read_binary_batch(file) if file.endswith(".bin") else _read_python_batch(file) for file in files]
        pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        shape = (3, 32, 32)
    if len(pixels) != len(labels) or not len(pixels):
        raise DataError(f"{folder}: got {len(pixels)} images and {len(labels)} labels, expected as many of each")
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{folder}: labels go from {labels.min()} to {labels.max()}, expected 0 to 9")
    if 0 in shape:
        raise DataError(f"{folder}: images have shape {shape}, expected at least one pixel")
    flat = pixels.reshape(len(pixels), -1).astype(np.float64) / 255.0
    return Images(flat, labels.astype(np.int64), (int(shape[0]), int(shape[1]), int(shape[2])), name)


def _find(folder: str) -> tuple[str, list[str]]:
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder, expected one with MNIST or CIFAR-10. {_SOURCES}")
    for sub in _SUBFOLDERS:
        place = os.path.join(folder, sub) if sub else folder
        images, labels = (_first_of(place, names, ("", ".gz")) for names in (_MNIST_IMAGES, _MNIST_LABELS))
        if images and labels:
            return "MNIST", [images, labels]
        if images or labels:
            lone, other = (images, _MNIST_LABELS) if images else (labels, _MNIST_IMAGES)
            raise DataError(f"{place}: got {os.path.basename(str(lone))} without {other[0]}, expected both. {_SOURCES}")
        batches = [_first_of(place, (batch,), ("", ".bin")) for batch in _CIFAR_BATCHES]
        if any(batches):
            missing = [batch for batch, file in zip(_CIFAR_BATCHES, batches, strict=True) if file is None]
            if missing:
                raise DataError(f"{place}: {', '.join(missing)} missing, expected all five batches. {_SOURCES}")
            return "CIFAR-10", [str(file) for file in batches]
    wanted = (
        f"{_MNIST_IMAGES[0]} and {_MNIST_LABELS[0]} (plain or .gz), or data_batch_1 to data_batch_5 (plain or .bin)"
    )
    raise DataError(f"{folder}: expected {wanted}, here or in {', '.join(filter(None, _SUBFOLDERS))}. {_SOURCES}")


def _first_of(place: str, names: tuple[str, ...], endings: tuple[str, ...]) -> str | None:
    files = (os.path.join(place, name + ending) for name in names for ending in endings)
    return next((file for file in files if os.path.isfile(file)), None)


def _read_idx(file: str, dimensions: int) -> NDArray[np.uint8]:
    """IDX: two zero bytes, the type (8 is uint8), the number of dimensions, their lengths (big-endian), the data."""
    try:
        if file.endswith(".gz"):
            with gzip.open(file) as packed:
                content = packed.read()
        else:
            with open(file, "rb") as plain:
                content = plain.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(file, str(error)) from None
    start = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise _damaged(file, f"it begins with {content[:4].hex() or 'nothing'}, expected {magic.hex()}")
    if len(content) < start:
        raise _damaged(file, f"it ends after {len(content)} bytes, within its header")
    lengths = struct.unpack(f">{dimensions}I", content[4:start])
    expected = int(np.prod([int(k) for k in lengths], dtype=object))
    if len(content) - start != expected:
        raise _damaged(file, f"it holds {len(content) - start} bytes of data, its header says {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(lengths)


def _read_binary_batch(file: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Records of one byte of label and 3,072 of pixels."""
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise _damaged(file, str(error)) from None
    if content.size == 0 or content.size % (1 + _CIFAR_PIXELS):
        raise _damaged(file, f"it holds {content.size} bytes, expected a multiple of {1 + _CIFAR_PIXELS}")
    records = content.reshape(-1, 1 + _CIFAR_PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _read_python_batch(file: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A pickled dict of data, (n, 3072) uint8, and labels, a list; nothing but plain data is unpickled."""
    try:
        with open(file, "rb") as stream:
            content = _Unpickler(io.BytesIO(stream.read()), encoding="bytes").load()
        entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        data, labels = entries["data"], entries["labels"]
        pixels = data.array() if isinstance(data, _Array) else None
        if pixels is None or pixels.ndim != 2 or pixels.shape[1] != _CIFAR_PIXELS:
            raise _damaged(file, f"its data are not (n, {_CIFAR_PIXELS}) bytes")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise _damaged(file, "its labels are not a list of whole numbers")
        classes = np.array(labels, dtype=np.int64)
    except DataError:
        raise
    except OSError as error:
        raise _damaged(file, str(error)) from None
    # What a damaged stream of opcodes can end in: each opcode trusts the stack that the ones before it left.
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError,
        UnicodeDecodeError, MemoryError, OverflowError, struct.error,
    ) as error:  # fmt: skip
        raise _damaged(file, f"{type(error).__name__}: {error}") from None
    return pixels, classes


class _Array:
    """Stands for numpy.ndarray in a pickle: keeps what it is given, and checks it before it becomes an array."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        _, shape, dtype, fortran, data = self.state
        raw = data if isinstance(data, bytes) else data.encode("latin1")
        if not isinstance(dtype, _Dtype) or dtype.code not in ("u1", "uint8"):
            raise ValueError("the data are not of type uint8")
        return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        pass  # byte order and alignment, which bytes have not


class _Unpickler(pickle.Unpickler):
    """Knows the names that an array of bytes is pickled under, each as a stand-in that can do nothing; no others."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Array if name == "ndarray" else _Dtype
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR-10 needs")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, *_: Any) -> bytes:
    return text.encode("latin1")  # how Python 3 writes bytes in the old protocols


def _damaged(file: str, why: str) -> DataError:
    return DataError(f"{file}: damaged ({' '.join(why.split())}); fetch it again. {_SOURCES}")
