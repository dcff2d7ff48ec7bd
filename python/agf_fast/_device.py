"""Arrays that lie on a CUDA device: where they are, and new ones like them.

CuPy's and torch's work is queued on the stream that is current in their library, and so is ours on their arrays. Other
libraries are asked through DLPack to have an array ready on the legacy default stream. Those without it say in
`__cuda_array_interface__` on which stream the array may be used, which is waited for, or before its version 3 say
nothing, and the device is waited for. The numbers of streams there are those of CUDA's own handles: 1 is the legacy
default stream, 2 the thread's; 0, which names neither, is refused.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _cuda_status

__all__ = ["View", "download", "empty", "is_on_device", "place", "upload", "view"]

# DLPack's device types: CUDA, and CUDA memory that the host can read too.
_CUDA = (2, 13)
_LEGACY = 1


@dataclass(frozen=True, eq=False)
class View:
    """An array of a device as the kernels take it. It holds what it views, and so does a call that holds it."""

    array: Any
    array_library: str
    pointer: int
    shape: tuple[int, ...]
    dtype: str
    device: int
    queue: int | None  # None: the stream that is current in the library

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stream(self) -> int:
        """The stream on which work on the array is queued, as CUDA's handle."""
        if self.queue is not None:
            return self.queue
        module = importlib.import_module(self.array_library)
        if self.array_library == "torch":
            handle = module.cuda.current_stream(self.device).cuda_stream
        else:
            with module.cuda.Device(self.device):
                handle = module.cuda.get_current_stream().ptr
        return int(handle) or _LEGACY  # both libraries write 0 for it

    def empty(self, shape: Sequence[int]) -> View:
        """A new array of the same library, dtype and device, with the stream of this one."""
        return replace(empty(self.array_library, self.device, shape, self.dtype), queue=self.queue)

    def column(self) -> View:
        """A vector as a matrix of one column."""
        return replace(self, shape=(*self.shape, 1))

    def copy(self) -> View:
        """The same numbers elsewhere on the device, there when this returns, whatever stream uses them next."""
        out = empty(self.array_library, self.device, self.shape, self.dtype)
        _cuda_status._cuda.copy(self, out)
        return out

    def __getitem__(self, rows: NDArray[np.int64]) -> View:
        """Some rows."""
        out = self.empty((len(rows), *self.shape[1:]))
        _cuda_status._cuda.gather(self, rows, out)
        return out

    def __len__(self) -> int:
        return self.shape[0]

    def give(self) -> Any:
        """The array of the caller's library."""
        if self.array_library in ("cupy", "torch"):
            return self.array
        # Nobody knows our stream there: what is handed over is done.
        _cuda_status._cuda.wait(self.device, self.stream)
        module = importlib.import_module(self.array_library)
        return module.from_dlpack(self.array) if hasattr(module, "from_dlpack") else module.asarray(self.array)

    def __reduce__(self) -> tuple[Any, ...]:
        return upload, (self.array_library, self.device, download(self))


def is_on_device(value: Any) -> bool:
    """Whether an array says that it is on a CUDA device; of torch's ask their own attributes."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) in _CUDA
    return hasattr(value, "__cuda_array_interface__")


def place(device: int | None) -> str:
    """In words."""
    return "in host memory" if device is None else f"on device cuda:{device}"


def view(value: Any, name: str, library: str) -> View:
    """The view of an array that is on a device; refused unless it is dense and in C order."""
    if library == "torch":
        device = int(value.device.index or 0)
        dtype = str(value.dtype).rsplit(".", 1)[-1]
        if not value.is_contiguous():
            raise _not_contiguous(name, f"{name}.contiguous()")
        return View(value, library, int(value.data_ptr()), tuple(map(int, value.shape)), dtype, device, None)
    if library == "cupy" or not hasattr(value, "__dlpack__"):
        return _by_interface(value, name, library)
    return _by_dlpack(value, name, library)


def empty(library: str, device: int, shape: Sequence[int], dtype: str) -> View:
    """A new array on a device, or memory that becomes one of its library when it is given."""
    lengths = tuple(int(length) for length in shape)
    if library == "torch":
        module = importlib.import_module("torch")
        array = module.empty(lengths, dtype=getattr(module, dtype), device=f"cuda:{device}")
        return View(array, library, int(array.data_ptr()), lengths, dtype, device, None)
    if library == "cupy":
        module = importlib.import_module("cupy")
        with module.cuda.Device(device):
            array = module.empty(lengths, dtype=dtype)
        pointer = int(array.__cuda_array_interface__["data"][0])
        return View(array, library, pointer, lengths, dtype, device, None)
    memory = _cuda_status._cuda.Memory(device, list(lengths), dtype)
    return View(memory, library, int(memory.pointer), lengths, dtype, device, _LEGACY)


def upload(library: str, device: int, array: NDArray[Any]) -> View:
    """Numbers of the host as a new array on a device."""
    out = empty(library, device, array.shape, array.dtype.name)
    _cuda_status._cuda.upload(out, np.ascontiguousarray(array))
    return out


def download(view: View) -> NDArray[Any]:
    """The numbers of an array on a device, in a new array of the host."""
    out: NDArray[Any] = np.empty(view.shape, dtype=view.dtype)
    if out.size:
        _cuda_status._cuda.download(view, out)
    return out


def _by_interface(value: Any, name: str, library: str) -> View:
    facts = value.__cuda_array_interface__
    shape = tuple(int(length) for length in facts["shape"])
    dtype = np.dtype(facts["typestr"])
    if not dtype.isnative:
        raise TypeError(
            f"{name} has the byte order of another machine ({dtype.str}), expected this one's; convert it with "
            f".astype('{dtype.name}')"
        )
    if facts.get("mask") is not None:
        raise TypeError(f"{name} is a masked array, expected one without a mask; drop or fill the masked samples first")
    strides = facts.get("strides")
    if strides is not None and not _dense(shape, [int(step) // dtype.itemsize for step in strides]):
        raise _not_contiguous(name, f"cupy.ascontiguousarray({name})" if library == "cupy" else "a copy in C order")
    pointer = int(facts["data"][0])
    if library == "cupy":
        return View(value, library, pointer, shape, dtype.name, int(value.device.id), None)
    stream = facts.get("stream")
    if stream is not None and int(stream) == 0:
        raise ValueError(
            f"{name} names stream 0 in its __cuda_array_interface__, expected None, 1 (the legacy default stream), 2 "
            f"(the thread's) or a handle, as version 3 has it; pass a CuPy or torch array that views it"
        )
    if hasattr(value, "__dlpack_device__"):
        device = int(value.__dlpack_device__()[1])
    else:
        device = int(_cuda_status._cuda.device_of(pointer)) if pointer else 0
    queue = _LEGACY if stream is None else int(stream)
    if int(facts.get("version", 0)) < 3:
        _cuda_status._cuda.rest(device)
    elif stream is not None:
        _cuda_status._cuda.wait(device, queue)  # arguments may come from several streams
    return View(value, library, pointer, shape, dtype.name, device, queue)


def _by_dlpack(value: Any, name: str, library: str) -> View:
    try:
        lent = _cuda_status._cuda.Borrowed(value.__dlpack__(stream=_LEGACY))
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        if hasattr(value, "__cuda_array_interface__"):
            return _by_interface(value, name, library)  # of a dtype or a flag that DLPack does not know, say
        raise TypeError(
            f"{name} ({type(value).__name__}) could not be read through DLPack ({error}); pass a CuPy or torch array "
            f"that views it"
        ) from None
    shape = tuple(lent.shape)
    if lent.strides is not None and not _dense(shape, lent.strides):
        raise _not_contiguous(name, "a copy in C order")
    # The library's array and what it lent: either may be what keeps the memory.
    return View((value, lent), library, int(lent.pointer), shape, str(lent.dtype), int(lent.device), _LEGACY)


def _dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether steps, in numbers, are those of C order; those of axes of length 1 say nothing."""
    step = 1
    for length, given in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and given != step:
            return math.prod(shape) == 0
        step *= length
    return True


def _not_contiguous(name: str, advice: str) -> ValueError:
    return ValueError(
        f"{name} is not C-contiguous, expected an array in C order, since kernels read it where it lies; nothing is "
        f"copied silently: pass {advice}"
    )
