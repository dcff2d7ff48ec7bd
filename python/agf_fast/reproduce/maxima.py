"""Local maxima of the utility, and how often the neuron that wins the race has found a lesser one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._dense import Dense
from .._linear import Linear
from .._maxima import UtilityMaxima, utility_maxima
from .._modular import ModularAddition
from .._problem import Problem
from .._verbs import alternating_gradient_flow
from ._experiment import Experiment, Result, Setup, Table, at_most, equal, within
from ._natural import natural, whiten
from ._paper import attention, template
from ._style import COLOURS, GREY, figure, label_panels

WIDTHS = (1, 2, 4, 8)
# Frequencies of near moduli: with the paper's 10, 5, 2.5 the lesser maxima have basins too small for any start.
_MODULI = {1: 10.0, 3: 9.0, 5: 8.0}
# Below this part of the largest maximum a winner has found a lesser one; alignment at the jump is far better.
_LESSER = 1e-3
# ln(1e-100): the race is then decided by the utilities, with corrections of 1/230.
_LOG_SCALE = -230.0


@dataclass(frozen=True)
class _System:
    name: str
    problem: Problem
    theory: float  # the largest maximum where it is known in closed form
    adaptive: bool = False  # for kappa = 3: the clock in which the race is that of kappa = 2
    raced: bool = False


def compute(setup: Setup) -> Result:
    """Maps of the maxima of seven networks, and races of those that have several.

    300 images are taken: every start crosses the kinks of all of them. The small variant has fewer starts and races.
    """
    starts, races = (100, 15) if setup.small else (200, 40)
    seed = setup.seed_or(0)
    images = natural(setup, 300)
    systems = _systems(*whiten(images.pixels)[:1], images.one_hot())
    result = Result(
        facts={
            "data": images.name,
            "samples": len(images.pixels),
            "starts": starts,
            "races": races,
            "seed": seed,
            "log_scale": _LOG_SCALE,
        }
    )
    rows: list[list[Any]] = []
    race_rows: list[list[Any]] = []
    maps: dict[str, UtilityMaxima] = {}
    raced: dict[str, list[list[float]]] = {}
    for system in systems:
        found = maps[system.name] = utility_maxima(system.problem, starts=starts, seed=seed)
        top = float(found.utility[0])
        second = float(found.utility[1] / top) if len(found) > 1 else np.nan
        lost = float(np.mean(found.reached < 0))
        rows.append([system.name, len(found), top, system.theory, float(found.share[0]), second, lost])
        if not np.isnan(system.theory):
            claim = f"{system.name}: largest maximum over that of the closed form"
            result.checks.append(within(claim, top / system.theory, 1.0, 1e-4))
        result.numbers[system.name] = {"utility": found.utility, "share": found.share, "lost": lost}
        if system.raced:
            raced[system.name] = _races(system, found, races, seed)
            race_rows += [[system.name, *row] for row in raced[system.name]]
    result.tables.append(
        Table(
            "local maxima of the utility on the unit sphere, at the start of training",
            ["network", "maxima", "largest", "theory", "its basin", "second/largest", "inert or lost"],
            rows,
        )
    )
    result.tables.append(
        Table(
            "races to norm 1 won by a neuron at a lesser maximum: part of them, and (1 - basin)^H",
            ["network", "H", "measured", "predicted", "standard errors apart"],
            race_rows,
            digits=3,
        )
    )
    for name in ("identity", "linear", "attention"):
        result.checks.append(equal(f"{name}: local maxima", len(maps[name]), 1))
    result.checks.append(equal("modular addition: local maxima, one per frequency", len(maps["modular"]), len(_MODULI)))
    expected = [jump.utility for jump in ModularAddition(template(_MODULI)).theory().jumps]
    result.checks.append(
        within("modular addition: their utilities, Theorem 5.1", maps["modular"].utility, expected, 1e-4 * expected[0])
    )
    # Twelve comparisons: the worst of them exceeds 3.5 standard errors in one of two hundred runs.
    worst = max(row[-1] for row in race_rows)
    result.checks.append(at_most("races lost against (1 - basin)^H: worst, in standard errors", worst, 3.5))
    widest = {name: table[-1][1] for name, table in raced.items()}
    result.notes.append(
        "A lesser maximum wins the first race of "
        + ", ".join(f"{part:.0%} ({name})" for name, part in widest.items())
        + f" of networks of width {WIDTHS[-1]}: the order of features is then not that of their utilities."
    )
    result.curves.update(maps=maps, raced=raced, shape=images.shape[1:], inputs=images.pixels.shape[1])
    return result


def _systems(X: Any, Y: Any) -> list[_System]:
    heads, sums = attention(), ModularAddition(template(_MODULI))
    # U = <a, Sigma_yx w> on |w|^2 + |a|^2 = 1.
    linear = float(np.linalg.svd(Y.T @ X / len(X), compute_uv=False)[0]) / 2
    known = {problem: problem.theory().jumps[0].utility for problem in (heads, sums)}
    return [
        _System("identity", Dense(X, Y, activation="identity"), linear),
        _System("linear", Linear(X, Y), linear),
        _System("attention", heads, known[heads]),
        # gelu is z/2 to first order.
        _System("gelu", Dense(X, Y, activation="gelu"), linear / 2),
        _System("relu", Dense(X, Y, activation="relu"), np.nan, raced=True),
        _System("square", Dense(X, Y, activation="square"), np.nan, adaptive=True, raced=True),
        _System("modular", sums, known[sums], adaptive=True, raced=True),
    ]


def _races(system: _System, found: UtilityMaxima, races: int, seed: int) -> list[list[float]]:
    """Rows of width, part of races won by a lesser maximum, prediction, their distance in standard errors."""
    basin = float(found.share[0])
    rows = []
    for width in WIDTHS:
        lesser = 0
        for race in range(races):
            start = system.problem.initialize(width, seed=1000 * (seed + 1) + race, log_scale=_LOG_SCALE)
            path = alternating_gradient_flow(
                system.problem,
                start,
                max_jumps=1,
                active_time=1e-6,  # the race is all that is asked
                adaptive_rate=system.adaptive,
                rtol=4e-3,
            )
            lesser += not path.jumps or path.jumps[0].utility < (1.0 - _LESSER) * found.utility[0]
        predicted = (1.0 - basin) ** width
        # Of the races, and of the basin as the starts estimate it.
        of_basin = width * (1.0 - basin) ** (width - 1) * np.sqrt(basin * (1.0 - basin) / len(found.reached))
        error = np.hypot(np.sqrt(predicted * (1.0 - predicted) / races), of_basin)
        measured = lesser / races
        # A race more or less is no evidence where hardly any is expected.
        apart = max(0.0, abs(measured - predicted) - 0.5 / races) / max(error, 0.5 / races)
        rows.append([width, measured, predicted, apart])
    return rows


def draw(result: Result) -> dict[str, Any]:
    """The map of maxima and the races lost; and what the maxima of relu look like."""
    maps, raced = result.curves["maps"], result.curves["raced"]
    made, [[left, right]] = figure(1, 2, size=(7.4, 3.1))
    for place, ((name, found), colour, marker) in enumerate(zip(maps.items(), COLOURS, "os^DvPX", strict=False)):
        # Networks with a single maximum share one point: rings of growing size.
        single = len(found) == 1
        look = {"ms": 5 + 3 * place, "mfc": "none"} if single else {"ms": 5, "mec": "none"}
        ratio = found.utility / found.utility[0]
        left.plot(ratio, found.share, marker, color=colour, label=f"{name} ({len(found)})", ls="none", **look)
    left.set_xlabel("utility of the local maximum / of the largest")
    left.set_ylabel("share of starts in its basin")
    left.set_yscale("log")
    left.set_title("local maxima (number of them)")
    left.legend(markerscale=0.7, loc="upper left")
    colours = dict(zip(maps, COLOURS, strict=False))
    widths = np.geomspace(WIDTHS[0], WIDTHS[-1], 60)
    races = result.facts["races"]
    for name, rows in raced.items():
        width, measured = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        error = np.sqrt(np.maximum(measured * (1 - measured), 1 / races) / races)
        low = np.minimum(error, measured)
        basin = float(maps[name].share[0])
        right.plot(widths, (1 - basin) ** widths, color=colours[name], lw=1)
        right.errorbar(width, measured, (low, error), fmt="o", color=colours[name], label=name, capsize=2)
    right.plot([], [], color=GREY, lw=1, label=r"$(1-\mathrm{basin\ of\ the\ largest})^H$")
    right.set_xscale("log", base=2)
    right.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    right.minorticks_off()
    right.set_ylim(-0.02, 1.3)
    right.set_xlabel("width $H$")
    right.set_ylabel("races won by a lesser maximum")
    right.set_title("wrong winners of the first race")
    right.legend(loc="upper right")
    label_panels([left, right])
    return {"": made, "features": _draw_features(maps["relu"], result.curves["shape"], result.curves["inputs"])}


def _draw_features(found: UtilityMaxima, shape: Sequence[int], inputs: int) -> Any:
    count = min(len(found), 12)
    columns = min(count, 6)
    rows = -(-count // columns)
    made, axes = figure(rows, columns, size=(1.15 * columns, 1.5 * rows + 0.2))
    for ax in axes.ravel():
        ax.set_axis_off()
    for k, ax in zip(range(count), axes.ravel(), strict=False):
        weights = np.asarray(found.direction)[k]
        peak = np.abs(weights[:inputs]).max()
        ax.imshow(weights[:inputs].reshape(shape), cmap="RdBu_r", vmin=-peak, vmax=peak)
        label = int(np.argmax(np.abs(weights[inputs:])))
        sign = "+" if weights[inputs + label] > 0 else "−"
        ax.set_title(
            f"{found.utility[k] / found.utility[0]:.3f}, {found.share[k]:.0%}\nclass {sign}{label}", fontsize=7
        )
    made.suptitle("relu: first-layer weights at the maxima; utility / largest, basin; main output", fontsize=7.5)
    return made


EXPERIMENT = Experiment("maxima", "local maxima of the utility, and races that a lesser one wins", compute, draw, 12.0)
