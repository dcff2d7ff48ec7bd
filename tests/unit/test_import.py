"""Importing is light: no SciPy, no plots, no other array library, no device."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["scipy", "matplotlib", "cupy", "torch", "jax", "tqdm", "pandas", "sklearn"]


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_import_loads_nothing_heavy():
    result = run(f"import sys, agf_fast; print([m for m in {[*HEAVY, 'agf_fast._cuda']!r} if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", HEAVY)
def test_runs_where_the_optional_library_is_absent(name):
    """The C++ path needs NumPy alone: a None entry in sys.modules makes any import of `name` fail."""
    code = f"""
import sys
sys.modules[{name!r}] = None
import numpy as np, agf_fast as agf
rng = np.random.default_rng(0)
problem = agf.Dense(rng.standard_normal((20, 3)), rng.standard_normal((20, 2)), activation="relu")
path = agf.alternating_gradient_flow(problem, problem.initialize(4, seed=0), max_jumps=1)
assert len(path.jumps) == 1
"""
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_device_is_an_answer_not_an_exception():
    result = run("import agf_fast as agf; print(type(agf.cuda.is_available()).__name__)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "bool"
