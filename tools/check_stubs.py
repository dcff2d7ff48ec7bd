"""Do the stubs of the compiled modules say what is in them? Takes the modules, and the options of mypy's stubtest.

This is stubtest, which by itself sees no signature: pybind11 keeps them in the first lines of docstrings. `_cuda` is
the module that the package loads, which AGF_CUDA_MODULE may name by its file.
"""

from __future__ import annotations

import ast
import inspect
import sys
from typing import Any

from mypy import stubtest

import agf_fast

inspected = stubtest.safe_inspect_signature


def signature(runtime: Any) -> inspect.Signature | None:
    """The signature that Python knows, or the one that pybind11 wrote, without its types."""
    known = inspected(runtime)
    if known is not None:
        return known
    try:
        tree = ast.parse(f"def {inspect.getdoc(runtime) or ''}".partition("\n")[0] + ": ...")
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns, node.name = None, "function"
    scope: dict[str, Any] = {}
    exec(compile(tree, "docstring", "exec"), scope)
    return inspect.signature(scope["function"])


if __name__ == "__main__":
    stubtest.safe_inspect_signature = signature
    if "agf_fast._cuda" in sys.argv:
        agf_fast.cuda.module()  # from now on importable by its name
    sys.exit(stubtest.main())
