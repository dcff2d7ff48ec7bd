"""Fixtures over which the same test bodies run: backend, dtype, activation. A new backend is one more entry of
BACKENDS."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import agf_fast
from agf_fast import _core, reference
from support.activations import ACTIVATIONS

# name -> (kernel factory, value of the `backend` argument of the verbs)
BACKENDS = {
    "numpy": (reference.Dense, "numpy"),
    "cpp": (_core.dense, "cpp"),
}
# With kernels on a GPU, or on the host where AGF_CUDA_MODULE names that build; where there is neither, skipped visibly.
CUDA_MISSING = agf_fast.cuda.why()
BACKENDS["cuda"] = (None if CUDA_MISSING else agf_fast.cuda.module().dense, "cuda")


def backends(names):
    """Parameters of a fixture or test over backends."""
    skipped = pytest.mark.skip(reason=f"no CUDA: {CUDA_MISSING}")
    return [pytest.param(name, marks=[skipped] if name == "cuda" and CUDA_MISSING else []) for name in names]


def pytest_sessionstart(session):
    # A device that is there and not used is a failure, not a skip.
    if CUDA_MISSING and any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))):
        raise pytest.UsageError(f"this machine has a GPU that the tests would skip: {CUDA_MISSING}")


def pytest_report_header(config):
    info = _core.info()
    versions = {name: sys.modules[name].__version__ for name in ("numpy", "scipy") if name in sys.modules}
    return [
        f"agf_fast {agf_fast.__version__}: {info}",
        "with " + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


@pytest.fixture(params=backends(BACKENDS))
def backend(request):
    return request.param


@pytest.fixture(params=backends(name for name in BACKENDS if name != "numpy"))
def compiled(request):
    """The compiled backends, as the verbs call them."""
    return request.param


@pytest.fixture
def verb_backend(backend):
    """What the verbs call this backend."""
    return BACKENDS[backend][1]


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=ACTIVATIONS, ids=lambda activation: activation.label)
def activation(request):
    return request.param


@pytest.fixture
def kernel(backend):
    """kernel(X, Y, activation): the leaves of this backend for one activation of the table."""
    make = BACKENDS[backend][0]
    return lambda X, Y, activation: make(X, Y, activation.name, activation.parameter)


@pytest.fixture
def threads():
    """Sets the number of threads and puts it back."""
    before = agf_fast.get_threads() if hasattr(agf_fast, "get_threads") else _core.get_threads()
    yield agf_fast.set_threads
    agf_fast.set_threads(before)
