"""Every example that a docstring or README shows runs and says what it shows."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agf_fast

FOLDER = Path(agf_fast.__file__).parent
# Python files only: beside them lie the compiled core and the libraries that it opens.
MODULES = sorted(
    ".".join(("agf_fast", *file.relative_to(FOLDER).with_suffix("").parts))
    for file in FOLDER.rglob("*.py")
    if file.name not in ("__init__.py", "__main__.py")
)
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", ["agf_fast", *MODULES])
def test_docstrings(name):
    result = doctest.testmod(
        importlib.import_module(name),
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert result.failed == 0


def test_public_functions_have_examples():
    for name in (
        "alternating_gradient_flow",
        "gradient_flow",
        "gradient_descent",
        "compare",
        "load",
        "Dense",
        "State",
    ):
        assert ">>>" in getattr(agf_fast, name).__doc__, name


def test_readme(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
