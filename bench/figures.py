"""The page's figures: the roofline and work against precision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agf_fast.reproduce._style import COLOURS, DPI, GREY, figure, legend_below, style

from .limits import threads_text
from .rows import Curve, Row

_DTYPES = {"float32": "o", "float64": "s"}


def roofline(rows: Sequence[Row], path: Path) -> None:
    """FLOP/s of each leaf on one thread against the FLOPs per byte it must move, under what memory and GEMM allow."""
    one = threads_text(1)
    peaks = {
        dtype: max(peer.value or 0.0 for peer in row.peers)
        for row in rows
        for dtype, name in (("float32", "SGEMM"), ("float64", "DGEMM"))
        if row.subject == "limits" and row.case.startswith(name) and row.case.endswith(one)
    }
    triad = next((row.peers[0].value for row in rows if row.subject == "limits" and row.case == f"triad, {one}"), None)
    points = [row for row in rows if row.flops and row.bytes and row.ours and row.case.endswith(one)]
    names = list(dict.fromkeys(_label(row) for row in points))
    with style():
        made, axes = figure(size=(6.8, 4.2))
        ax = axes[0, 0]
        intensity = np.geomspace(0.1, 1e4, 200)
        for dtype, line in (("float32", "-"), ("float64", "--")):
            if dtype in peaks and triad:
                ax.plot(intensity, np.minimum(triad * intensity, peaks[dtype]), line, color=GREY, lw=1.2)
                below = dtype == "float64"  # points of large sizes reach above it
                y, side = (0.94, "top") if below else (1.06, "bottom")
                ax.text(9e3, y * peaks[dtype], f"GEMM {dtype}: {peaks[dtype]:.0f} GFLOP/s", ha="right", va=side)
        if triad:
            ax.text(1.0, 0.8 * triad, f"triad: {triad:.0f} GB/s", va="top")
        for row in points:
            assert row.flops and row.bytes and row.ours
            dtype = next(name for name in _DTYPES if name in row.case)
            colour = COLOURS[names.index(_label(row)) % len(COLOURS)]
            ax.plot(
                row.flops / row.bytes,
                1e-9 * row.flops / row.ours,
                _DTYPES[dtype],
                color=colour,
                mfc=colour if dtype == "float32" else "white",
                ms=6,
                ls="none",
            )
        reached = [1e-9 * row.flops / row.ours for row in points if row.flops and row.ours]
        top = 2.5 * max([*reached, *peaks.values()])
        ax.set(xscale="log", yscale="log", xlim=(0.1, 1e4), ylim=(0.3 * min(reached), top))
        ax.set_xlabel("FLOPs per byte that must be moved")
        ax.set_ylabel("GFLOP/s on one thread")
        ax.set_title("Filled: float32, open: float64. Points above the slope are served from cache.")
        handles = [ax.plot([], [], "o", color=COLOURS[k % len(COLOURS)], ms=6)[0] for k in range(len(names))]
        legend_below(made, handles, names, columns=2)
        made.savefig(path, dpi=DPI)


def _label(row: Row) -> str:
    shape = re.match(r"\(.*?\)", row.case)
    names = {4: "utility + gradient, (n, d, c, H) = ", 2: "one pass over X, (n, d) = "}
    return names.get(shape[0].count(",") + 1, "") + shape[0] if shape else row.case


def work_precision(curves: Sequence[Curve], path: Path) -> None:
    """Evaluations, and time, against error: a column per case."""
    cases = list(dict.fromkeys(curve.case for curve in curves))
    methods = list(dict.fromkeys(curve.method for curve in curves))
    colours = {method: COLOURS[k % len(COLOURS)] for k, method in enumerate(methods)}
    with style():
        made, axes = figure(2, len(cases), size=(2.5 * len(cases), 5.2))
        for column, case in zip(axes.T, cases, strict=True):
            for curve in (curve for curve in curves if curve.case == case):
                for ax, work in zip(column, (curve.evaluations, curve.seconds), strict=True):
                    ax.loglog(curve.error, work, "o-", color=colours[curve.method], lw=1.2, ms=3.5)
            column[0].set_title(case)
            column[1].set_xlabel("error")
        axes[0, 0].set_ylabel("evaluations")
        axes[1, 0].set_ylabel("seconds")
        made.align_ylabels(axes[:, 0])
        handles = [axes[0, 0].plot([], [], "o-", color=colour)[0] for colour in colours.values()]
        legend_below(made, handles, methods, columns=len(methods))
        made.savefig(path, dpi=DPI)
