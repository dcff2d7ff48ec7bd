"""How the figures look: one style, colours that colour-blind readers tell apart, and the axes that recur."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AGF",
    "BLACK",
    "COLOURS",
    "DPI",
    "FLOW",
    "GREY",
    "LOSS",
    "THEORY",
    "figure",
    "label_panels",
    "legend_below",
    "shades",
    "staircase",
    "style",
]

# The Okabe-Ito palette. Theory, alternating gradient flow and gradient flow keep their colours in every figure.
AGF, FLOW, THEORY = "#0072B2", "#E69F00", "#000000"
GREY, BLACK = "#777777", "#000000"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999933", "#000000")
DPI = 180
LOSS = r"loss $L=\frac{1}{2}\,\mathbb{E}\,\|y-f\|^2$"

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
    "savefig.dpi": DPI,
}


def style() -> AbstractContextManager[None]:
    """The settings, within a ``with`` block; the caller's own come back after it."""
    context: AbstractContextManager[None] = importlib.import_module("matplotlib").rc_context(_SETTINGS)
    return context


def figure(rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None, **options: Any) -> Any:
    """A figure without a display and its axes, (rows, columns) of them in an array; `options` go to ``subplots``.

    Size in inches; by default 3.4 by 2.7 for each panel, so that two stand side by side on a page.
    """
    made: Figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=size or (3.4 * columns, 2.7 * rows), layout="constrained"
    )
    return made, made.subplots(rows, columns, squeeze=False, **options)


def shades(count: int, name: str = "viridis") -> list[Any]:
    """Colours of an ordered family of curves, from dark to light, without the palest end."""
    colours = importlib.import_module("matplotlib").colormaps[name](np.linspace(0.0, 0.85, max(count, 1)))
    return [tuple(colour) for colour in colours]


def staircase(time: ArrayLike, loss: ArrayLike, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps of alternating gradient flow: level until each jump, then straight down, and level to `end`.

    `time` and `loss` are a trajectory's: the start and each jump.
    """
    times, losses = (np.asarray(values, dtype=np.float64) for values in (time, loss))
    return np.append(np.repeat(times, 2)[1:], max(end, float(times[-1]))), np.repeat(losses, 2)


def label_panels(axes: Sequence[Axes] | NDArray[Any]) -> None:
    """(a), (b), ... before the panels' titles."""
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", np.ravel(np.asarray(axes, dtype=object)), strict=False):
        ax.set_title(f"({letter}) {ax.get_title(loc='left')}", loc="left")


def legend_below(made: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int = 4) -> None:
    """One legend for all panels, under them."""
    made.legend(handles, labels, loc="outside lower center", ncols=columns)
