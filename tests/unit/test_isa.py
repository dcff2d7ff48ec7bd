"""Instruction sets: each gives right answers, one is chosen when the core is loaded, AGF_ISA chooses another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import agf_fast as agf
from agf_fast import _core

FACTS = _core.info()
ROOT = Path(__file__).parents[2]


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=240, env={**os.environ, **environment}
    )


def test_the_widest_is_chosen():
    if not os.environ.get("AGF_ISA"):
        assert FACTS["isa"] == FACTS["isa_available"][-1]
    assert FACTS["isa"] in FACTS["isa_available"] and FACTS["isa_available"][0] == "baseline"
    assert agf.info()["isa_available"] == FACTS["isa_available"]


@pytest.mark.parametrize("isa", [name for name in FACTS["isa_available"] if name != FACTS["isa"]])
def test_leaves_in_every_other_set(isa):
    """The bodies of the parity tests that compare leaves with the reference and with one another."""
    files = [str(ROOT / "tests" / "parity" / f"test_{name}kernels.py") for name in ("", "moment_", "diagonal_")]
    leaves = "leaves_agree or adjointness or thread_count or number_of_threads"
    # Each sigma by itself is tested in every set elsewhere.
    chosen = f"({leaves}) and not (numpy or identity or leaky or square or power or tanh or silu or erf)"
    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files, AGF_ISA=isa)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


def test_the_environment_chooses():
    code = "import agf_fast; print(agf_fast.info()['isa'])"
    assert run("-c", code, AGF_ISA="baseline").stdout.strip() == "baseline"
    assert run("-c", code, AGF_ISA="").stdout.strip() == FACTS["isa_available"][-1]


def test_a_set_that_is_not_there_is_named():
    """When the core is first needed, not when the package is imported; `agf info` shows it."""
    code = """
import agf_fast as agf
try:
    agf.set_threads(1)
except ImportError as error:
    print(error)
print(agf.info()["core"])
"""
    result = run("-c", code, AGF_ISA="sse9")
    assert result.returncode == 0, result.stderr
    for line in result.stdout.splitlines():
        assert f"AGF_ISA: got 'sse9', expected one of {', '.join(FACTS['isa_available'])}" in line
        assert "unset it" in line and "install" not in line


def test_the_command_shows_them():
    result = run("-m", "agf_fast", "info", AGF_ISA="baseline")
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["isa"] == "baseline" and rows["isa_available"].split(", ") == FACTS["isa_available"]
