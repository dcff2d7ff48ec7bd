"""Whether arrays on a GPU can be used, and the compiled module that does; importing this touches no GPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _cuda as _cuda

__all__ = ["is_available", "why"]

_MODULE = "agf_fast._cuda"
# The file of another build of the module, such as that of the tests, whose kernels run on the host.
_VARIABLE = "AGF_CUDA_MODULE"


def is_available() -> bool:
    """Whether this build can compute on a CUDA device of this machine.

    The first call loads the CUDA module and asks the driver for its devices; it opens none of them.

    Returns
    -------
    bool
        False without a CUDA build, a driver or a device; `why` says which.

    Examples
    --------
    >>> import agf_fast as agf
    >>> agf.cuda.is_available() or agf.cuda.why() != ""
    True
    """
    return not why()


def why() -> str:
    """The reason why CUDA cannot be used, as half a sentence.

    Returns
    -------
    str
        What is missing; empty where `is_available` is True.

    Examples
    --------
    >>> import agf_fast as agf
    >>> isinstance(agf.cuda.why(), str)
    True
    """
    try:
        found = module().info()
    except ImportError as error:
        return str(error)
    return "" if found["devices"] else str(found["why"])


def module() -> ModuleType:
    """The compiled module.

    Raises
    ------
    ImportError
        If this build has none, or it cannot be loaded.
    """
    loaded = sys.modules.get(_MODULE)
    if loaded is not None:
        return loaded
    importlib.import_module("agf_fast._core")  # kernels there are the base of kernels here
    path = os.environ.get(_VARIABLE)
    if path:
        spec = importlib.util.spec_from_file_location(_MODULE, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{_VARIABLE} is {path!r}, expected the file of a compiled module")
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        sys.modules[_MODULE] = found
        return found
    if importlib.util.find_spec(_MODULE) is None:
        raise ImportError("this build of agf_fast has no CUDA backend")
    try:
        return importlib.import_module(_MODULE)
    except ImportError as error:
        raise ImportError(f"the CUDA module could not be loaded: {error}") from error


if not TYPE_CHECKING:

    def __getattr__(name: str) -> ModuleType:
        """`_cuda`: the module, loaded when it is first used, with the types that its stub says."""
        if name == "_cuda":
            return module()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def description() -> str:
    """What `agf_fast.info` says of it."""
    missing = why()
    if missing:
        return f"not available: {missing}"
    found = module().info()
    return f"{', '.join(found['devices'])} (built for {found['architectures']})"
