"""The experiments by name, in the order of the listing."""

from __future__ import annotations

import importlib

from ._experiment import Experiment

__all__ = ["NAMES", "find"]

NAMES = (
    "diagonal-2d",
    "diagonal-5d",
    "diagonal-spectra",
    "linear",
    "linear-noncommuting",
    "attention",
    "modular-addition",
    "adaptive-rates",
    "width",
    "natural-features",
    "maxima",
    "descent",
    "convergence",
)


def find(name: str) -> Experiment:
    """The experiment of this name; its module is imported now.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from agf_fast.reproduce import find
    >>> find("width").name
    'width'
    """
    if name not in NAMES:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(NAMES)}; agf reproduce --list describes them")
    module = importlib.import_module(f"agf_fast.reproduce.{name.replace('-', '_')}")
    experiment: Experiment = module.EXPERIMENT
    return experiment
