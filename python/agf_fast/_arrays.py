"""Arrays of any library in, arrays of the same library out: NumPy, torch, CuPy and whatever else speaks DLPack.

Inside the package everything is a C-contiguous NumPy array, or for leaves on a GPU the caller's array where it lies;
``ArrayKind`` remembers what the caller uses and gives it back.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _cuda_status
from ._device import View, download, is_on_device, place, upload, view

__all__ = [
    "NUMPY64",
    "Array",
    "ArrayKind",
    "ArrayLike",
    "finite_number",
    "host",
    "positive_integer",
    "read",
    "read_numbers",
    "read_view",
]

Array = Any  # an array of the caller's library


class ArrayLike(Protocol):
    """What tells an array of any library from everything else that the verbs take."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


_FLOATS = ("float32", "float64")
_DTYPES = {name: np.dtype(name) for name in _FLOATS}
_DLPACK_CPU = 1


@dataclass(frozen=True)
class ArrayKind:
    """What a caller's arrays are: the library (an importable name), the dtype of its vectors, and where they lie."""

    array_library: str
    dtype: str
    device: int | None = None  # of CUDA; None: host memory

    def __str__(self) -> str:
        where = "" if self.device is None else f" {place(self.device)}"
        return f"{self.dtype} of {self.array_library}{where}"

    def wrap(self, array: NDArray[Any] | View) -> Array:
        """The same numbers as an array of this library; memory is shared where the library allows."""
        if isinstance(array, View):
            return array.give()
        if self.device is not None:
            return upload(self.array_library, self.device, array).give()
        if self.array_library == "numpy":
            return array
        if not array.flags.writeable:
            array = array.copy()
        if self.array_library == "torch":
            return importlib.import_module("torch").from_numpy(array)
        given = _give(importlib.import_module(self.array_library), array)
        # A library without float64 (JAX by default) would round times and log-norms; those stay NumPy.
        return given if _dtype_name(given) == array.dtype.name else array

    def read_only(self, array: NDArray[Any]) -> Array:
        """As ``wrap``, of a copy that NumPy callers cannot change by accident."""
        copy = np.array(array)
        if self.array_library == "numpy":
            copy.flags.writeable = False
        return self.wrap(copy)

    @property
    def numbers(self) -> ArrayKind:
        """Of times, losses and log-norms, which are float64 and stay on the host beside arrays of a device."""
        return self if self.device is None else NUMPY64

    def view(self, array: NDArray[Any]) -> Any:
        """What a kernel for this data takes: on the device where that is."""
        return array if self.device is None else upload(self.array_library, self.device, array)


NUMPY64 = ArrayKind("numpy", "float64")


def read(
    value: Array,
    name: str,
    shape: tuple[int | None, ...],
    letters: str,
    kind: ArrayKind | None = None,
) -> tuple[NDArray[Any], ArrayKind]:
    """A caller's array as a NumPy array in C order, and its kind; refused with advice if it is anything else.

    What is on a device is checked there, and then brought to the host.

    Parameters
    ----------
    value : array
        What the caller gave.
    name : str
        The argument's name, for messages.
    shape : tuple
        Expected lengths; None for any length of at least one.
    letters : str
        The shape in words, such as ``"(n, d)"``, for messages.
    kind : ArrayKind, optional
        Library, dtype and device that the array must share with the problem.
    """
    array, found = read_view(value, name, shape, letters, kind)
    if isinstance(array, View):
        return download(array), found
    return np.ascontiguousarray(array), found


def read_view(
    value: Array, name: str, shape: tuple[int | None, ...], letters: str, kind: ArrayKind | None = None
) -> tuple[Any, ArrayKind]:
    """As `read`, without a copy: a NumPy array as it lies, or the view of one on a device."""
    if kind is not None and _is_ready(value, shape, kind):
        return value, kind
    array: NDArray[Any] | View
    if type(value) is np.ndarray:
        array, library = value, "numpy"
    else:
        array, library = _import(value, name)
    dtype = array.dtype if isinstance(array, View) else array.dtype.name
    found = ArrayKind(library, dtype, array.device if isinstance(array, View) else None)
    if dtype not in _FLOATS:
        raise _wrong_dtype(name, dtype, library)
    if not isinstance(array, View) and not array.dtype.isnative:
        raise TypeError(
            f"{name} has the byte order of another machine ({array.dtype.str}), expected this one's; convert it with "
            f".astype('{dtype}')"
        )
    if kind is not None:
        if dtype != kind.dtype:
            raise TypeError(
                f"{name} has dtype {dtype}, expected {kind.dtype} as in the problem's X; nothing is cast silently: "
                f"convert {name} (or build the problem in {dtype})"
            )
        if found.device != kind.device:
            raise TypeError(
                f"{name} is {place(found.device)}, expected it {place(kind.device)} as the problem's X; nothing is "
                f"moved silently: move {name} there (or build the problem on data where {name} is)"
            )
        if library != kind.array_library:
            raise TypeError(
                f"{name} is an array of {library}, expected {kind.array_library} as the problem's X; "
                f"convert one of them so that all arrays come from one library"
            )
    if array.ndim != len(shape) or any(k is not None and k != got for k, got in zip(shape, array.shape, strict=True)):
        wanted = "(" + ", ".join("any" if k is None else str(k) for k in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{name} has shape {array.shape}, expected {letters} = {wanted}; reshape or slice it")
    if array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}), expected {letters} with every length at least 1")
    if not _finite(array):
        values = host(array)
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"{name} holds {bad} value(s) that are NaN or infinite, the first at index {first}, expected finite "
            f"numbers; remove or replace them"
        )
    return array, found


def host(value: Any) -> NDArray[Any]:
    """The numbers of an array of any library, wherever it is."""
    if not isinstance(value, (np.ndarray, View)) and is_on_device(value):
        value = _import(value, "array")[0]
    return download(value) if isinstance(value, View) else np.asarray(value)


def read_numbers(value: Any, name: str, length: int | None = None, *, finite: bool = True) -> NDArray[np.float64]:
    """A sequence of real numbers (times, log-norms) as a float64 vector, from any array library or a list."""
    if not isinstance(value, (np.ndarray, list, tuple)):
        value = host(_import(value, name)[0]) if _is_array(value) else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {type(value).__name__}, expected a sequence of real numbers ({error})") from None
    if isinstance(value, np.ma.MaskedArray) or array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers; convert it to float64")
    if array.ndim != 1 or (length is not None and array.size != length):
        wanted = "(k,)" if length is None else f"({length},)"
        raise ValueError(f"{name} has shape {array.shape}, expected {wanted}; give one number each")
    out = np.array(array, dtype=np.float64)
    if np.isnan(out).any() or (finite and not np.isfinite(out).all()):
        raise ValueError(f"{name} holds NaN or infinite values, expected finite numbers; remove them")
    return out


def finite_number(
    value: Any, name: str, *, low: float | None = None, above: float | None = None, high: float | None = None
) -> float:
    """A finite real scalar within [low, high], or (above, high]."""
    if isinstance(value, (bool, np.bool_, str, bytes, complex)):
        raise TypeError(f"{name} is {value!r}, expected a real number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {type(value).__name__}, expected a real number") from None
    inside = np.isfinite(number) and (low is None or number >= low) and (above is None or number > above)
    if not inside or (high is not None and number > high):
        limits = [f"at least {low:g}"] if low is not None else []
        limits += [f"greater than {above:g}"] if above is not None else []
        limits += [f"at most {high:g}"] if high is not None else []
        wanted = " and ".join(limits)
        raise ValueError(f"{name} is {value!r}, expected a finite number {wanted}".rstrip())
    return number


def positive_integer(value: Any, name: str, least: int = 1) -> int:
    """An integer of at least ``least``; bools and floats are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer of at least {least}")
    if value < least:
        raise ValueError(f"{name} is {value}, expected an integer of at least {least}")
    return int(value)


def _is_ready(value: Any, shape: tuple[int | None, ...], kind: ArrayKind) -> bool:
    """Whether there is nothing to refuse or convert: a leaf on small arrays takes no longer than the questions."""
    if type(value) is not np.ndarray or value.dtype is not _DTYPES[kind.dtype] or kind.array_library != "numpy":
        return False
    got = value.shape
    if got != shape:
        if len(got) != len(shape):
            return False
        for length, wanted in zip(got, shape, strict=True):
            if length != wanted and wanted is not None:
                return False
    return value.size > 0 and value.flags.c_contiguous and isfinite(np.vdot(value, value))


def _finite(array: NDArray[Any] | View) -> bool:
    if isinstance(array, View):
        return bool(_cuda_status._cuda.not_finite(array) == 0)
    # One pass without a temporary decides nearly always; only an overflowing sum of squares needs the careful test.
    flat = array.ravel(order="K")
    return bool(np.isfinite(np.vdot(flat, flat))) or bool(np.isfinite(flat).all())


def _is_array(value: Any) -> bool:
    return hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__") or isinstance(value, np.ndarray)


def _dtype_name(array: Any) -> str:
    return str(array.dtype).rsplit(".", 1)[-1]


def _import(value: Any, name: str) -> tuple[NDArray[Any] | View, str]:
    """A view of an array of any library, NumPy's of one on the host, and the importable name that makes such arrays."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, expected one without a mask; drop or fill the masked samples first")
    if isinstance(value, np.ndarray):
        return np.asarray(value), "numpy"
    root = type(value).__module__.partition(".")[0]
    if root == "torch" and hasattr(value, "requires_grad"):
        return _import_torch(value, name), "torch"
    if not _is_array(value):
        advice = "use numpy.asarray(..., dtype=numpy.float64)"
        if hasattr(value, "to_numpy"):
            advice = "use .to_numpy(dtype=numpy.float64)"
        elif hasattr(value, "toarray"):
            advice = "use .toarray(): sparse data is not supported"
        raise TypeError(
            f"{name} is {type(value).__name__}, expected an array (NumPy, torch, CuPy or another that offers DLPack); "
            f"{advice}"
        )
    if is_on_device(value):
        if not _cuda_status.is_available():
            raise _out_of_reach(name, root, str(getattr(value, "device", "a device")), "cupy.asnumpy(...)")
        library = "cupy" if root == "cupy" else _library(value, name)
        return view(value, name, library), library
    device = value.__dlpack_device__() if hasattr(value, "__dlpack_device__") else (0, 0)
    if int(device[0]) != _DLPACK_CPU:
        raise TypeError(
            f"{name} is an array of {root} on {getattr(value, 'device', 'a device')}, expected host memory or a CUDA "
            f"device; nothing is moved silently: move it to one of them"
        )
    dtype = _dtype_name(value)
    if dtype not in _FLOATS:
        raise _wrong_dtype(name, dtype, root)
    try:
        array = np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"{name} ({type(value).__name__}) could not be read through DLPack ({error}); convert it to NumPy first"
        ) from None
    return array, _library(value, name)


def _library(value: Any, name: str) -> str:
    """The importable name of what makes such arrays."""
    root = type(value).__module__.partition(".")[0]
    space = getattr(value, "__array_namespace__", None)
    library = str(space().__name__) if space is not None else root
    module = importlib.import_module(library)
    if not hasattr(module, "from_dlpack") and not hasattr(module, "asarray"):
        raise TypeError(
            f"{name} is an array of {root}, to which results could not be given back; convert it with "
            f"{'cupy' if is_on_device(value) else 'numpy'}.from_dlpack(...)"
        )
    return library


def _import_torch(value: Any, name: str) -> NDArray[Any] | View:
    if value.requires_grad:
        raise TypeError(
            f"{name} is a torch tensor that requires grad, expected one outside autograd; nothing here is recorded for "
            f"backpropagation: pass {name}.detach()"
        )
    if str(value.layout) != "torch.strided":
        raise TypeError(f"{name} is a torch tensor of layout {value.layout}, expected a dense one; use .to_dense()")
    if value.device.type == "cuda" and _cuda_status.is_available():
        return view(value.resolve_neg(), name, "torch")
    if value.device.type != "cpu":
        raise _out_of_reach(name, "torch", str(value.device), f"{name}.cpu()")
    dtype = _dtype_name(value)
    if dtype not in _FLOATS:
        raise _wrong_dtype(name, dtype, "torch")
    array: NDArray[Any] = value.resolve_neg().numpy()
    return array


def _give(module: Any, array: NDArray[Any]) -> Any:
    if hasattr(module, "from_dlpack"):
        try:
            return module.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError):
            pass  # some libraries take DLPack from one another only, and copy NumPy arrays by asarray
    return module.asarray(array)


def _out_of_reach(name: str, library: str, device: str, advice: str) -> TypeError:
    reason = _cuda_status.why() or "only host memory and CUDA devices are within reach"
    return TypeError(
        f"{name} is an array of {library} on {device}, expected host memory: {reason}. Nothing is moved silently: use "
        f"{advice}"
    )


def _wrong_dtype(name: str, dtype: str, library: str) -> TypeError:
    convert = ".double()" if library == "torch" else ".astype('float64')"
    return TypeError(
        f"{name} has dtype {dtype}, expected float32 or float64; nothing is cast silently: convert it, for example "
        f"with {convert}"
    )
