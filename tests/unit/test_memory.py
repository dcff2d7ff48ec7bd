"""No n x H array is ever stored: with the residual given, at most 64 MB above inputs and outputs."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import resource
import numpy as np
from agf_fast import _core
n, d, c, H = 5000, 1024, 10, 4096
rng = np.random.default_rng(0)
X, residual, theta = (rng.standard_normal(shape, dtype=np.{dtype}) for shape in ((n, d), (n, c), (H, d + c)))
kernel = _core.dense(X, residual, "relu", 0.0)
kernel.utility_and_gradient(theta[:1], residual)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
utility, gradient = kernel.utility_and_gradient(theta, residual)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 - utility.nbytes - gradient.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak_memory(dtype):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE.format(dtype=dtype)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) <= 64e6
