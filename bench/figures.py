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
                ax.text(9e3, 1.06 * peaks[dtype], f"GEMM {dtype}: {peaks[dtype]:.0f} GFLOP/s", ha="right", va="bottom")
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
        ax.set(xscale="log", yscale="log", xlim=(0.1, 1e4), ylim=(1.0, 600.0))
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
    """Evaluations against error, a panel per problem."""
    problems = list(dict.fromkeys(curve.problem for curve in curves))
    methods = list(dict.fromkeys(curve.method for curve in curves))
    columns = min(2, len(problems))
    with style():
        made, axes = figure(-(-len(problems) // columns), columns)
        for ax in axes.flat[len(problems) :]:
            ax.set_axis_off()
        for ax, problem in zip(axes.flat, problems, strict=False):
            for curve in curves:
                if curve.problem == problem:
                    k = methods.index(curve.method)
                    ax.loglog(curve.error, curve.evaluations, "o-", color=COLOURS[k % len(COLOURS)], lw=1.2, ms=3.5)
            ax.set_title(problem)
            ax.set(xlabel="error", ylabel="evaluations")
        handles = [axes[0, 0].plot([], [], "o-", color=COLOURS[k % len(COLOURS)])[0] for k in range(len(methods))]
        legend_below(made, handles, methods, columns=3)
        made.savefig(path, dpi=DPI)
