"""What a run says about itself: near-ties, overlaps, failure signatures; and how far the tangent kernel moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, finite_number
from ._diagonal import Diagonal
from ._maxima import utility_maxima
from ._problem import Problem
from ._state import State
from ._status import Status
from ._table import number, table
from ._trajectory import Trajectory

__all__ = ["Diagnosis", "KernelMovement", "diagnose", "kernel_movement"]

# A winner counts as lesser below this part of the largest utility found from so many starts.
_LESSER, _STARTS = 0.98, 100
_ALIGNED = 0.999
# A tangent kernel has one row per coordinate of the residual; its square is held.
_MOST_COORDINATES = 4096
# Log-norm to which networks too small for double are brought: small enough for the leading term of any activation.
_UNIT = -25.0


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """How trustworthy and how clean a run is, jump by jump; prints as a table with advice.

    Attributes
    ----------
    time, scaled_time, drop : (K,) array
        When each jump came, in both clocks, and by how much the loss fell.
    alignment : (K,) array
        Cosine between the direction that activated and its utility's gradient; NaN for flows.
    gap : (K,) array
        (t_2 - t_1) / t_2 for the two earliest candidates (general position); NaN for flows.
    overlap : (K,) array
        Relaxation time of the jump's active phase over the wait for the next jump. Well below 1, equilibrium is reached
        in time and plateaus are flat; near 1 and above, jumps run into one another.
        NaN for the last jump, for flows, and for `Diagonal`, whose active phases are not followed in time but solved.
    best_utility : (K,) array
        The largest utility of a unit neuron before each jump, as far as a search found it; NaN without a problem.
    near_ties, returns : tuple of int
        Jumps whose gap is below the threshold, and jumps in which a neuron fell dormant.
    drift : float
        Largest relative drift of a conserved quantity.
    advice : tuple of str
        What stands out, and what to do about it.
    """

    time: NDArray[np.float64]
    scaled_time: NDArray[np.float64]
    drop: NDArray[np.float64]
    alignment: NDArray[np.float64]
    gap: NDArray[np.float64]
    overlap: NDArray[np.float64]
    best_utility: NDArray[np.float64]
    near_ties: tuple[int, ...]
    returns: tuple[int, ...]
    drift: float
    advice: tuple[str, ...]

    def __repr__(self) -> str:
        columns = (self.time, self.scaled_time, self.drop, self.alignment, self.gap, self.overlap)
        rows = [[str(k), *(number(float(column[k])) for column in columns)] for k in range(len(self.time))]
        heads = ["jump", "time", "t/eta", "drop", "alignment", "gap", "overlap"]
        lines = [table(heads, rows)] if rows else ["no jumps"]
        lines.append(f"drift of conserved quantities: {self.drift:.2g}")
        lines += [f"- {line}" for line in self.advice]
        return "\n".join(lines)


def diagnose(path: Trajectory, *, near_tie: float = 1e-2, problem: Problem | None = None) -> Diagnosis:
    """Reads off a run how far it can be trusted, and recognises the ways in which stepwise learning fails.

    Parameters
    ----------
    path : Trajectory
        A run, of `alternating_gradient_flow` for all of it; of a flow or descent, for what its loss alone tells.
    near_tie : float, default 0.01
        Gaps below this are near-ties: a small change of data, scale or seed may exchange the two jumps.
    problem : Problem, optional
        What the run was on. With it, and a run of `alternating_gradient_flow`, the winner of every jump is held against
        the largest of the local maxima that `utility_maxima` finds from 100 starts at that residual: some seconds.
        Neurons of a `Diagonal` are tied to their inputs and have no choice of direction.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If path is not a trajectory, near_tie not a number from 0 to 1, or problem not one that the run can be of.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.diag([2.0, 1.0]), activation="identity")
    >>> found = agf.diagnose(agf.alternating_gradient_flow(problem, problem.initialize(2)))
    >>> found.returns, bool(found.overlap[0] < 0.2)
    ((), True)
    """
    if not isinstance(path, Trajectory):
        raise TypeError(f"path is {type(path).__name__}, expected a Trajectory as the verbs return it for one start")
    least = finite_number(near_tie, "near_tie", low=0.0, high=1.0)
    jumps = path.jumps
    time = np.array([jump.time for jump in jumps])
    relaxation = np.array([jump.relaxation for jump in jumps])
    overlap = np.full(len(jumps), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap[:-1] = relaxation[:-1] / np.diff(time)
    gap = np.array([jump.gap for jump in jumps])
    best = np.full(len(jumps), np.nan) if problem is None else _best_utilities(path, problem)
    found = {
        "near_ties": tuple(int(k) for k in np.flatnonzero(gap < least)),
        "returns": tuple(k for k, jump in enumerate(jumps) if jump.returned),
    }
    return Diagnosis(
        time=time,
        scaled_time=np.array([jump.scaled_time for jump in jumps]),
        drop=np.array([jump.loss_before - jump.loss_after for jump in jumps]),
        alignment=np.array([jump.alignment for jump in jumps]),
        gap=gap,
        overlap=overlap,
        best_utility=best,
        drift=path.conserved_drift,
        advice=tuple(_advice(path, gap, overlap, best, **found)),
        **found,
    )


def _advice(
    path: Trajectory,
    gap: NDArray[np.float64],
    overlap: NDArray[np.float64],
    best: NDArray[np.float64],
    near_ties: tuple[int, ...],
    returns: tuple[int, ...],
) -> list[str]:
    lines = []
    alternating = path.method == "alternating_gradient_flow"
    if not alternating and len(path.jumps) <= 1 and _slides(path):
        lines.append(
            "the loss falls without plateaus between drops: the initial scale is too large or the network too wide for "
            "stepwise learning; lower the scale, or compare a smaller width"
        )
    if near_ties:
        lines.append(
            f"near-ties at jumps {_list(near_ties)} (gap down to {gap.min():.1e}): their order hangs on little (unless "
            "the rivals are twins of one feature); vary the seed or the scale before relying on it"
        )
    running = [int(k) for k in np.flatnonzero(overlap > 1.0)]
    if running:
        lines.append(
            f"jumps {_list(running)} take longer to relax than the next jump takes to come: the flow will not rest on "
            "these plateaus; expect a slide where this run has stairs, or lower the scale"
        )
    # Aligned, and yet with less: a winner that was still turning is no wrong winner.
    lesser = [k for k, j in enumerate(path.jumps) if j.alignment > _ALIGNED and j.utility < _LESSER * best[k]]
    if lesser:
        lines.append(
            f"the winners of jumps {_list(lesser)} are not at the best direction (utility down to "
            f"{min(path.jumps[k].utility / best[k] for k in lesser):.0%} of it): features may come out of order; a "
            "larger width finds better ones"
        )
    if returns:
        lines.append(f"neurons fell dormant again during jumps {_list(returns)}; later times depend on their return")
    if alternating and path.status is Status.ALL_ACTIVE and path.loss[-1] > 1e-6 * path._loss_zero:
        lines.append("there may be more features than neurons: every neuron is active and loss is left; widen")
    open_ended = [k for k, jump in enumerate(path.jumps) if alternating and not jump.converged]
    if open_ended:
        lines.append(f"the active phases of jumps {_list(open_ended)} did not reach equilibrium; see active_time")
    return lines


def _best_utilities(path: Trajectory, problem: Problem) -> NDArray[np.float64]:
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {type(problem).__name__}, expected the problem that the run was on")
    best = np.full(len(path.jumps), np.nan)
    if path.method != "alternating_gradient_flow" or isinstance(problem, Diagonal):
        return best
    # The first race is known only where the run began with nothing learned.
    before: list[State | None] = [None, *(jump.state for jump in path.jumps[:-1])]
    for k, state in enumerate(before):
        residual = None
        if k == 0 and path.loss[0] < (1.0 - 1e-9) * path._loss_zero:
            continue
        if state is not None:
            residual = problem.residual(state._kind.wrap(np.ascontiguousarray(state._theta()[state._arrays()[2]])))
        elif k > 0:
            continue
        found = utility_maxima(problem, residual, starts=_STARTS)
        if len(found):
            best[k] = found.utility[0]
    return best


def _slides(path: Trajectory) -> bool:
    """Whether the loss takes most of the time that it falls in to fall: from a tenth of its drop to nine tenths."""
    loss, time = np.asarray(path.loss), np.asarray(path.scaled_time)
    if not loss[-1] < 0.5 * path._loss_zero:
        return False
    first, last = (time[np.argmax(loss <= loss[0] - part * (loss[0] - loss[-1]))] for part in (0.1, 0.9))
    return bool(last - first > 0.5 * last)


def _list(places: Any) -> str:
    shown = [str(k) for k in places]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


@dataclass(frozen=True)
class KernelMovement:
    """How the tangent kernel K = J J' changed between two networks, J the derivative of the outputs.

    Attributes
    ----------
    distance : float
        1 - <K_0, K_1> / (|K_0| |K_1|), between 0 (lazy: the kernel kept its shape) and 1.
    log_growth : float
        ln(|K_1| / |K_0|).
    """

    distance: float
    log_growth: float


def kernel_movement(problem: Problem, before: State | Array, after: State | Array) -> KernelMovement:
    """How far the tangent kernel moved between two networks: rich learning against lazy.

    K(x, x') = sum_i <df(x)/dtheta_i, df(x')/dtheta_i> on every coordinate of the residual: samples and outputs, or as
    many pseudo-samples as have the same moments, which changes no inner product. The lazy regime leaves its shape as it
    was.

    Parameters
    ----------
    problem : Problem
        With at most 4096 coordinates of the residual.
    before, after : State or (H, m) array
        The two networks. Scales below double are taken into account where neurons are homogeneous.

    Returns
    -------
    KernelMovement

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a network, or the problem too large.

    Notes
    -----
    The kernel distance of Fort et al. (2020), arXiv 2010.15110.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.diag([2.0, 1.0]), activation="identity")
    >>> theta = np.array([[1.0, 0.0, 0.0, 1.0]])
    >>> agf.kernel_movement(problem, theta, 2.0 * theta).distance < 1e-15
    True
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {type(problem).__name__}, expected a problem such as agf_fast.Dense(X, Y)")
    (first, first_log), (second, second_log) = (
        _tangent_kernel(problem, network, name) for network, name in ((before, "before"), (after, "after"))
    )
    norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if 0.0 in norms:
        raise ValueError(
            f"{'before' if norms[0] == 0.0 else 'after'} has a tangent kernel of zero, expected a network that some "
            "parameter can change; start it at a small scale, not at zero"
        )
    distance = 1.0 - float(np.vdot(first, second)) / (norms[0] * norms[1])
    return KernelMovement(max(0.0, distance), float(np.log(norms[1] / norms[0])) + second_log - first_log)


def _tangent_kernel(problem: Problem, network: State | Array, name: str) -> tuple[NDArray[np.float64], float]:
    """K divided by e^log, and that log."""
    count = problem._probe_count()
    if count > _MOST_COORDINATES:
        raise ValueError(
            f"problem has residuals of {count} coordinates, expected at most {_MOST_COORDINATES}; build it on a part "
            "of the samples"
        )
    log = 0.0
    rows = network
    if isinstance(network, State) and (peak := float(np.max(network._arrays()[1]))) < _UNIT:
        # grad f is homogeneous of degree kappa - 1 there, so any norm within the leading term's reach will do.
        direction, log_norm, active = network._arrays()
        rows = State._of(network._kind, direction, log_norm + (_UNIT - peak), active)
        log = 2.0 * (problem.kappa - 1.0) * (peak - _UNIT)
    theta = problem._read_theta(rows, name)
    kernel = problem._kernel()
    tangents = np.empty((count, theta.size))
    for place in range(count):
        tangents[place] = np.ravel(kernel.utility_gradient(theta, problem._probe(place).astype(theta.dtype)))
    return tangents @ tangents.T, log
