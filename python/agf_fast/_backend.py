"""Which engine computes: the compiled core, or the NumPy reference."""

from __future__ import annotations

import importlib
import multiprocessing.util
import os
import platform
import sys
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np

from . import _cuda_status
from ._arrays import positive_integer

__all__ = ["build", "core", "engine", "info", "resolve", "set_threads", "version"]

_NAMES = ("auto", "cpp", "cuda", "numpy")
_CORE = "agf_fast._core"
# Whether this process has been given its number of threads.
_chosen = False


def version() -> str:
    """The installed version of the package."""
    try:
        return metadata.version("agf_fast")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def core() -> ModuleType:
    """The compiled extension module.

    Raises
    ------
    ImportError
        If the package was not installed with it, or it refuses AGF_ISA or AGF_THREADS.
    """
    try:
        module = sys.modules.get(_CORE) or importlib.import_module(_CORE)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the compiled core {_CORE} could not be imported ({error}); install the package with pip from a "
            f"directory other than its source tree, or use backend='numpy'"
        ) from error
    except ImportError as error:
        raise ImportError(f"the compiled core {_CORE} could not be loaded: {error}") from error
    if not _chosen and multiprocessing.parent_process() is not None:
        _one_thread(module)
    return module


def _one_thread(module: ModuleType) -> None:
    """In a worker process: its like are as many as the processors already."""
    global _chosen
    _chosen = True
    if "AGF_THREADS" not in os.environ:
        module.set_threads(1)


def _forked(_: object) -> None:
    loaded = sys.modules.get(_CORE)
    if loaded is not None:
        _one_thread(loaded)


# A forked worker inherits its parent's choice; a spawned one is met in `core`.
multiprocessing.util.register_after_fork(_forked, _forked)


def resolve(backend: str, device: int | None = None) -> str:
    """The engine that a backend's name stands for, for data on a device or (None) the host: "cpp", "cuda" or "numpy".

    "auto" is where the data are: the compiled core on the host, a GPU for its own arrays. It does not fall back: NumPy
    is far slower, which should be a choice, and so should moving data. "cuda" takes data of the host to the device.
    """
    if not isinstance(backend, str) or backend not in _NAMES:
        raise ValueError(f"backend is {backend!r}, expected one of {_NAMES}; use 'auto'")
    if backend == "cuda" and not _cuda_status.is_available():
        raise ValueError(f"backend is 'cuda', which is not available: {_cuda_status.why()}; use 'auto'")
    if device is not None:
        if backend not in ("auto", "cuda"):
            raise ValueError(
                f"backend is {backend!r} for data on device cuda:{device}, expected 'auto' or 'cuda'; nothing is moved "
                f"silently: build the problem on arrays of the host for {backend!r}"
            )
        return "cuda"
    return "cpp" if backend == "auto" else backend


def engine(name: str) -> ModuleType:
    """The module with the integrators of a resolved backend; both offer the same functions.

    Those of the compiled core drive kernels of the CPU and of a GPU alike.
    """
    return core() if name in ("cpp", "cuda") else reference(".engine")


def reference(module: str = "") -> ModuleType:
    """The readable reference, or a module of it.

    Raises
    ------
    ImportError
        Where SciPy is not installed, which nothing else needs.
    """
    try:
        return importlib.import_module(f"agf_fast.reference{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scipy":
            raise
        raise ImportError(
            "the reference, backend='numpy', needs SciPy, which is not installed; pip install scipy"
        ) from error


def build(backend: str, name: str, data: tuple[Any, ...], device: int | None) -> Any:
    """A kernel of a resolved backend by the name of its factory, which every backend's module has."""
    if backend == "cuda":
        return getattr(_cuda_status.module(), name)(*data, device or 0)
    library = core() if backend == "cpp" else reference()
    return getattr(library, name)(*data)


def set_threads(k: int) -> None:
    """Use k threads for the compiled core from now on; results keep the same bits for every k.

    Until then it uses as many as the environment variable AGF_THREADS says when the core is loaded; without it, as many
    as there are processors for this process (its affinity mask and the limit of its control group), and one in a worker
    process of multiprocessing, `concurrent.futures` or joblib, where the processes are the parallelism: an executor's
    ``initializer=agf.set_threads, initargs=(k,)`` gives workers more. They are the library's only threads, its BLAS has
    one, and all calls share them: whoever calls while they are taken computes on its own thread alone.

    Parameters
    ----------
    k : int
        Number of threads, from 1 to 1024.

    Raises
    ------
    TypeError, ValueError
        If k is not such an integer.
    ImportError
        If the compiled core is not there, or refuses AGF_ISA or AGF_THREADS.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.set_threads(2)
    """
    global _chosen
    core().set_threads(positive_integer(k, "k"))
    _chosen = True


def info() -> dict[str, Any]:
    """What this installation is made of: versions, instruction set, threads, BLAS, CUDA or why not.

    Returns
    -------
    dict
        Plain data: agf_fast, python, numpy, platform, processors, what the compiled core says of itself
        (isa, isa_available, threads, blas, compiler) or ``core`` with the reason for its absence, and ``cuda``: the
        devices, or why there are none. ``isa`` is
        the widest instruction set of the machine, or the one of them that the environment variable AGF_ISA names when
        the core is loaded; ``threads`` see `set_threads`.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.info()["agf_fast"] == agf.__version__
    True
    """
    facts: dict[str, Any] = {
        "agf_fast": version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{sys.platform} {platform.machine()}",
        "processors": os.cpu_count(),
    }
    try:
        facts.update({key: value for key, value in core().info().items() if key != "version"})
    except ImportError as error:
        facts["core"] = f"not available: {error}"
    facts["cuda"] = _cuda_status.description()
    return facts
