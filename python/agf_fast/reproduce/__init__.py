"""What `agf reproduce` runs: the experiments of the paper and around it, one module each.

To add one, write a module named for it (``diagonal-2d`` in ``diagonal_2d.py``) that ends in::

    EXPERIMENT = Experiment("diagonal-2d", "a coordinate that returns to dormancy", compute, draw, seconds=3.0)

and list its name in ``_registry.NAMES``. ``compute(setup)`` does the science and returns a `Result`: tables for the
reader, checks that say what must show (each with the figure got and its bar), facts (seeds and sizes) and numbers for
the JSON, and curves, which only ``draw`` sees. ``draw(result)`` makes the figures from that and computes nothing; it
returns ``{suffix: figure}``, written as NAME.png for the suffix "" and NAME-suffix.png otherwise. Modules import
matplotlib through ``_style`` only, when they draw. ``tests/theory/test_experiments.py`` runs every listed name with
``Setup(small=True)`` and asserts its checks; the command, the worker processes and the files come by themselves.
"""

from __future__ import annotations

from ._experiment import Check, Experiment, Result, Setup, Table
from ._registry import NAMES, find

__all__ = ["NAMES", "Check", "Experiment", "Result", "Setup", "Table", "find"]
