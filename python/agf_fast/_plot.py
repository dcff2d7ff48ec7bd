"""Figures; matplotlib is imported when one is drawn."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import host
from ._trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_loss", "require_matplotlib", "run_figure"]

_LABELS = {
    "alternating_gradient_flow": "alternating gradient flow",
    "gradient_flow": "gradient flow",
    "gradient_descent": "gradient descent",
}
# Blue and orange of the Okabe-Ito palette, which colour-blind readers tell apart.
_COLOURS = ("#0072B2", "#E69F00")


def require_matplotlib() -> None:
    """Refuse before work begins if figures cannot be drawn."""
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise ImportError("figures need matplotlib, which is not installed; pip install matplotlib") from None


def plot_loss(
    path: Trajectory, other: Trajectory | None = None, *, ax: Axes | None = None, clock: str | None = None
) -> Axes:
    """See `Trajectory.plot`."""
    require_matplotlib()
    runs = [path] if other is None else [path, other]
    for name, run in zip(("path", "other"), runs, strict=False):
        if not isinstance(run, Trajectory):
            raise TypeError(f"{name} is {type(run).__name__}, expected a Trajectory")
    if clock is None:
        clock = "physical" if all(_usable(run) for run in runs) else "scaled"
    if clock not in ("physical", "scaled"):
        raise ValueError(f"clock is {clock!r}, expected 'physical' or 'scaled'")
    if ax is None:
        ax = importlib.import_module("matplotlib.pyplot").subplots(figsize=(6.4, 4.0), layout="constrained")[1]
    name = "time" if clock == "physical" else "scaled_time"
    end = max(float(run._records[name][-1]) for run in runs)
    for run, colour, order in zip(runs, _COLOURS, (3, 2), strict=False):
        times, losses = run._records[name], run._records["loss"]
        if run.method == "alternating_gradient_flow":
            times, losses = _staircase(run, name, max(end, float(times[-1]) * 1.1))
        ax.plot(times, losses, color=colour, lw=1.8, zorder=order, label=_LABELS[run.method])
    ax.set_xlabel(
        r"time $t$  (flow units, $\dot\theta = -\nabla L$)" if clock == "physical" else r"scaled time $t/\eta$"
    )
    ax.set_ylabel(r"loss $L = \frac{1}{2}\,\mathbb{E}\,\|y - f\|^2$")
    ax.set_xlim(left=float(path._records[name][0]))
    ax.set_ylim(bottom=0.0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def run_figure(
    path: Trajectory,
    truth: Trajectory | None,
    n_inputs: int,
    file: str | os.PathLike[str],
    title: str,
    outputs: Sequence[str],
) -> None:
    """The picture of a run: losses on one axis, below it the first-layer weights of each newcomer.

    Drawn without a display, whatever backend the caller's matplotlib has chosen.
    """
    require_matplotlib()
    figure_class = importlib.import_module("matplotlib.figure").Figure
    jumps = path.jumps[:16]
    columns = max(len(jumps), 6)
    width = max(7.0, 0.72 * columns + 0.8)
    strip = (2 * width / (columns + 0.6) + 0.45) * bool(jumps)
    figure = figure_class(figsize=(width, 3.6 + strip), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[3.6, max(strip, 1e-3)], hspace=0.03)
    ax = figure.add_subplot(grid[0])
    plot_loss(path, truth, ax=ax)
    ax.set_title(title, fontsize=10, loc="left")
    top = max(float(path._records["loss"].max()), 1e-300)
    for index, jump in enumerate(jumps):
        # Beside its drop, or above it where the drop is too short to stand beside.
        short = jump.loss_before - jump.loss_after < 0.05 * top
        ax.annotate(
            str(index + 1),
            (jump.time, jump.loss_before if short else 0.5 * (jump.loss_before + jump.loss_after)),
            textcoords="offset points",
            xytext=(0, 7) if short else (5, 0),
            ha="center" if short else "left",
            va="center",
            fontsize=7,
            color=_COLOURS[0],
        )
    if jumps:
        _features(figure, grid[1], path, jumps, columns, n_inputs, outputs)
    figure.savefig(file, dpi=200, format="png")


def _features(
    figure: Any, place: Any, path: Trajectory, jumps: Sequence[Any], columns: int, n_inputs: int, outputs: Sequence[str]
) -> None:
    theta = path.state._theta().astype(np.float64)
    cells = place.subgridspec(2, columns, wspace=0.06, hspace=0.06)
    for index, jump in enumerate(jumps):
        direction = host(jump.direction).astype(np.float64)
        for row, neuron in enumerate((direction, theta[jump.neuron])):
            ax = figure.add_subplot(cells[row, index])
            _draw_feature(ax, neuron[:n_inputs])
            if row == 0:
                largest = int(np.argmax(neuron[n_inputs:]))
                ax.set_title(f"{index + 1}: {outputs[largest]}" if outputs else str(index + 1), fontsize=7, pad=2)
            if index == 0:
                ax.set_ylabel("at its jump" if row == 0 else "at the end", fontsize=7, labelpad=2)
    note = "first-layer weights of the neuron that activates at each jump (red positive, blue negative)"
    if outputs:
        note += "; number of the jump: class of its largest output weight"
    figure.supxlabel(note, fontsize=7)


def _draw_feature(ax: Any, weights: NDArray[np.float64]) -> None:
    side = round(float(np.sqrt(weights.size)))
    peak = float(np.abs(weights).max()) or 1.0
    if side * side == weights.size and side > 1:
        ax.imshow(weights.reshape(side, side), cmap="RdBu_r", vmin=-peak, vmax=peak, interpolation="nearest")
    else:
        ax.axhline(0.0, color="0.7", lw=0.5)
        if weights.size <= 32:
            ax.bar(np.arange(weights.size), weights, width=0.9, color=np.where(weights > 0, "#B2182B", "#2166AC"))
        else:
            ax.plot(weights, lw=0.6, color="#2166AC")
        ax.set_ylim(-1.05 * peak, 1.05 * peak)
        ax.set_box_aspect(1)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)


def _staircase(run: Trajectory, name: str, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Level until each jump, then straight down: an active phase is an instant of this clock."""
    times, losses = run._records[name], run._records["loss"]
    return np.append(np.repeat(times, 2)[1:], end), np.repeat(losses, 2)


def _usable(run: Trajectory) -> bool:
    times = run._records["time"]
    return bool(np.isfinite(times).all() and (times.size < 3 or np.unique(times).size > times.size // 2))
