"""Stand-ins for array libraries of a GPU: memory of the CUDA module (of the host, in its build for tests) behind the
attributes by which CuPy, torch and others are known, and no arithmetic."""

from __future__ import annotations

import contextlib
import types
from dataclasses import dataclass
from typing import Any

import numpy as np

from agf_fast import cuda


@dataclass(frozen=True)
class Place:
    """Enough of a view for the CUDA module's copies."""

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    device: int = 0
    stream: int = 1


class Stored:
    """Numbers in memory of a device; subclasses say how they are found there."""

    def __init__(self, memory, pointer, shape, dtype, strides=None, ordinal=0):
        self.memory, self.pointer, self.lengths, self.kind = memory, pointer, tuple(shape), np.dtype(dtype)
        self.strides = np.empty(shape, dtype).strides if strides is None else strides
        self.ordinal = ordinal

    @classmethod
    def of(cls, values, **claims):
        values = np.ascontiguousarray(values)
        array = cls.empty(values.shape, values.dtype.name, **claims)
        array.fill(values)
        return array

    @classmethod
    def empty(cls, shape, dtype, **claims):
        words = -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 4)
        memory = cuda.module().Memory(0, [words], "float32")
        return cls(memory, memory.pointer, shape, dtype, **claims)

    def fill(self, values):
        values = np.ascontiguousarray(values, dtype=self.kind)
        cuda.module().upload(Place(self.pointer, self.lengths, self.kind.name), values)

    def numpy_values(self):
        """What the memory holds."""
        span = sum(step * (length - 1) for step, length in zip(self.strides, self.lengths, strict=True))
        flat = np.empty(1 + span // self.kind.itemsize, self.kind)
        cuda.module().download(Place(self.pointer, flat.shape, self.kind.name), flat)
        return np.lib.stride_tricks.as_strided(flat, self.lengths, self.strides).copy()

    @property
    def shape(self):
        return self.lengths

    @property
    def ndim(self):
        return len(self.lengths)

    @property
    def T(self):
        return self._with(self.pointer, self.lengths[::-1], self.strides[::-1])

    def __getitem__(self, key):
        # Slices and numbers; NumPy says where they lie, and reads nothing there.
        base = np.lib.stride_tricks.as_strided(np.zeros(1, self.kind), self.lengths, self.strides)
        part = base[key]
        offset = part.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return self._with(self.pointer + offset, part.shape, part.strides)

    def _with(self, pointer, shape, strides):
        return type(self)(self.memory, pointer, shape, self.kind.name, strides, self.ordinal)

    def _interface(self, **more):
        return {
            "shape": self.lengths,
            "typestr": self.kind.str,
            "data": (self.pointer, False),
            "strides": self.strides,
            "version": 3,
            **more,
        }

    def __dlpack_device__(self):
        return (2, self.ordinal)


@dataclass
class Library:
    """How tests make arrays, and read them back."""

    name: str
    make: Any  # of NumPy values, and in stand-ins of what they claim
    read: Any
    module: Any
    real: bool = False


def cupy_library():
    """CuPy's: __cuda_array_interface__, a current device and stream."""

    class ndarray(Stored):  # noqa: N801  (as there)
        @property
        def dtype(self):
            return self.kind

        @property
        def device(self):
            return types.SimpleNamespace(id=self.ordinal)

        @property
        def __cuda_array_interface__(self):
            return self._interface(stream=module.stream or 1)

    @contextlib.contextmanager
    def on(ordinal):
        before, module.ordinal = module.ordinal, ordinal
        yield
        module.ordinal = before

    module = _module("cupy", ndarray)
    module.stream, module.ordinal = 0, 0
    module.empty = lambda shape, dtype: ndarray.empty(shape, dtype, ordinal=module.ordinal)
    module.asarray = module.from_dlpack = None
    module.cuda = types.SimpleNamespace(Device=on, get_current_stream=lambda: types.SimpleNamespace(ptr=module.stream))
    return Library("cupy", ndarray.of, Stored.numpy_values, module)


def torch_library():
    """torch's: attributes of its own."""

    class Tensor(Stored):
        requires_grad = False
        layout = "torch.strided"

        @property
        def dtype(self):
            return getattr(module, self.kind.name)

        @property
        def device(self):
            return types.SimpleNamespace(type="cuda", index=self.ordinal)

        def __dlpack__(self, **_):
            raise AssertionError("torch's arrays are read by their own attributes")

        def data_ptr(self):
            return self.pointer

        def is_contiguous(self):
            return self.strides == np.empty(self.lengths, self.kind).strides

        def resolve_neg(self):
            return self

    class DType:
        def __init__(self, name):
            self.name = name

        def __str__(self):
            return f"torch.{self.name}"

    def empty(shape, dtype, device):
        return Tensor.empty(shape, dtype.name, ordinal=int(device.removeprefix("cuda:")))

    module = _module("torch", Tensor)
    module.stream = 0
    module.float32, module.float64 = DType("float32"), DType("float64")
    module.int64, module.bool = DType("int64"), DType("bool")
    module.empty = empty
    module.cuda = types.SimpleNamespace(current_stream=lambda device: types.SimpleNamespace(cuda_stream=module.stream))
    return Library("torch", Tensor.of, Stored.numpy_values, module)


def interface_library():
    """A library known by its __cuda_array_interface__ alone."""

    class Array(Stored):
        stream = None
        __dlpack_device__ = property()  # hides the base's: there is none

        def __array_namespace__(self):
            return module

        @property
        def dtype(self):
            return self.kind

        @property
        def __cuda_array_interface__(self):
            return self._interface(stream=self.stream)

    module = _module("device_arrays", Array)
    module.from_dlpack = lambda given: _lent(Array, given)
    return Library("device_arrays", Array.of, Stored.numpy_values, module)


def dlpack_library():
    """A library that speaks DLPack and nothing else."""

    class Tensor(Stored):
        asked = None

        @property
        def dtype(self):
            return self.kind

        def __dlpack__(self, stream=None):
            type(self).asked = stream
            if self.kind.kind != "f":
                raise BufferError(f"{self.kind} cannot be lent")
            owner = cuda.module().Memory(0, list(self.lengths), self.kind.name)
            cuda.module().upload(Place(owner.pointer, self.lengths, self.kind.name), self.numpy_values())
            return owner.__dlpack__()

    module = _module("dlpack_arrays", Tensor)
    module.from_dlpack = lambda given: _lent(Tensor, given)
    return Library("dlpack_arrays", Tensor.of, Stored.numpy_values, module)


def real_cupy():
    """CuPy itself, where there is a GPU."""
    cupy = __import__("cupy")
    return Library("cupy", cupy.asarray, cupy.asnumpy, cupy, real=True)


def real_torch():
    """torch itself, where it has a GPU."""
    torch = __import__("torch")
    return Library(
        "torch",
        lambda values: torch.from_numpy(np.array(values)).cuda(),
        lambda array: array.cpu().numpy(),
        torch,
        True,
    )


def _module(name, array):
    module = types.ModuleType(name)
    array.__module__ = name
    module.array = array
    return module


def _lent(cls, given):
    lent = cuda.module().Borrowed(given.__dlpack__(stream=1, max_version=(1, 0)))
    return cls(lent, lent.pointer, lent.shape, lent.dtype)
