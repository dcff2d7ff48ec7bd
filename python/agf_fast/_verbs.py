"""The verbs that follow flows: alternating gradient flow and gradient flow, of one network or an ensemble."""

from __future__ import annotations

import time as clocks
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ._arrays import Array, ArrayLike, finite_number, positive_integer, read_numbers
from ._backend import core, resolve
from ._ensemble import Ensemble
from ._members import Batch, read_ends, read_members
from ._options import flag, loss_tolerance, or_infinite, tolerance
from ._problem import Problem
from ._state import State
from ._trajectory import Jump, Record, Trajectory
from ._watch import Watch, bar

__all__ = ["alternating_gradient_flow", "gradient_flow"]


class _Common(TypedDict, total=False):
    loss_tol: float | None
    adaptive_rate: bool
    rtol: float | None
    max_seconds: float | None
    backend: str
    progress: bool


class _Alternating(_Common, total=False):
    limit: bool
    max_jumps: int | None
    activation_window: float
    active_time: float | None
    callback: Callable[[Jump], Any] | None


class _Flow(_Common, total=False):
    clock: str
    save_at: Any
    callback: Callable[[Record], Any] | None


@overload
def alternating_gradient_flow(
    problem: Problem, state: State | None = None, **options: Unpack[_Alternating]
) -> Trajectory: ...


@overload
def alternating_gradient_flow(
    problem: Problem, state: Sequence[State | Array], **options: Unpack[_Alternating]
) -> Ensemble: ...


@overload
def alternating_gradient_flow(
    problem: Sequence[Problem],
    state: State | Sequence[State | Array] | Array | None = None,
    **options: Unpack[_Alternating],
) -> Ensemble: ...


@overload
def alternating_gradient_flow(problem: Problem, state: ArrayLike, **options: Unpack[_Alternating]) -> Any: ...


def alternating_gradient_flow(
    problem: Problem | Sequence[Problem],
    state: State | Sequence[State | Array] | Array | None = None,
    *,
    limit: bool = False,
    max_jumps: int | None = None,
    loss_tol: float | None = None,
    activation_window: float = 0.0,
    adaptive_rate: bool = False,
    active_time: float | None = None,
    rtol: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    progress: bool = False,
    callback: Callable[[Jump], Any] | None = None,
) -> Trajectory | Ensemble:
    """Alternate utility maximisation over dormant neurons with cost minimisation over active ones.

    Dormant neurons theta = exp(lambda) u, |u| = 1, follow du/dt = e^((kappa-2) lambda) P grad U(u; r) and
    dlambda/dt = kappa e^((kappa-2) lambda) U(u; r) with the residual r frozen and P = I - u u'. The first to reach norm
    1 joins the active ones, which then follow dtheta/dt = grad U(theta; r), r kept up to date, to equilibrium. The
    clock stands still meanwhile. The run ends when no dormant neuron can grow.

    Several states or problems make an ensemble: all runs in one call, on all threads, each as if it were alone.

    Parameters
    ----------
    problem : Problem or sequence of Problem
        Such as a `Dense`. A sequence, of one class and shape, has one problem for each state, or one state for all.
    state : State or (H, m) array, or sequence of them, or (B, H, m) array
        Where to start: from `problem.initialize`, from another run's `path.state`, or parameters. Several, of one
        width, for an ensemble.
    limit : bool, default False
        The limit of vanishing initialisation, exact, where it is known (`Diagonal`): without a state, times in units of
        ln(1/alpha).
    max_jumps : int, optional
        Stop after so many jumps of this call.
    loss_tol : float, optional
        Stop when L <= loss_tol. Default: 1e-10 of the loss of the zero network.
    activation_window : float, default 0
        Neurons whose log-norm is within this of the activating one's activate with it, at their own norm.
    adaptive_rate : bool, default False
        Give each neuron the learning rate |theta|^(2 - kappa): every kappa then has the clock of kappa = 2.
    active_time : float, optional
        Longest flow time of one active phase. Default: until equilibrium, within a work limit.
    rtol : float, optional
        Accuracy of the integration. Default: 1e-9, for float32 1e-5, the least it can resolve.
    max_seconds : float, optional
        Stop after so many seconds; of an ensemble, the whole call, whose other members then are not begun.
    backend : {"auto", "cpp", "cuda", "numpy"}
        The compiled core, a GPU, or the readable reference, which is far slower. "auto" computes where the problem's
        data are; "cuda" takes those of the host to the GPU. There one block of threads carries a small run (4e6
        operations an evaluation, 1,500 parameters and 256 of a neuron, or 1,500 inputs of a diagonal network) from
        beginning to end, and many at the same time; larger ones are driven from the host, where directions are
        followed in double.
    progress : bool, default False
        Show a progress bar, for an ensemble of members done; needs tqdm.
    callback : callable, optional
        Called with each `Jump`; returning True stops the run. Of an ensemble it stops that member alone
        (``jump.member`` says which), an exception all of them; it is called from the thread that computes the member,
        one call at a time, and all others that want to call wait for it.

    Returns
    -------
    Trajectory or Ensemble
        With one entry per jump after the first, for the start. An `Ensemble` if `problem` is a sequence, or `state` one
        or an array with three axes.

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.
    KeyboardInterrupt
        On Ctrl-C, with the trajectory or ensemble so far as its attribute ``path``. An exception of the callback has
        it too.

    Notes
    -----
    Algorithm 1 of Alternating Gradient Flows, arXiv 2506.06489.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 4))
    >>> problem = agf.Dense(X, X @ rng.normal(size=(4, 2)), activation="identity")
    >>> path = agf.alternating_gradient_flow(problem, problem.initialize(6))
    >>> len(path.jumps)
    2
    >>> runs = agf.alternating_gradient_flow(problem, problem.initialize(6, seed=range(4)))
    >>> [len(path.jumps) for path in runs]
    [2, 2, 2, 2]
    """
    problems, states, several = read_members(problem, state)
    if flag(limit, "limit") == (states is not None):
        raise TypeError(
            f"state is {'missing' if states is None else 'given'} with limit={limit}, expected a state, or limit=True "
            "without one; start from problem.initialize(...)"
        )
    first = problems[0]
    jumps = -1 if max_jumps is None else positive_integer(max_jumps, "max_jumps", 0)
    options = {
        "max_jumps": jumps,
        "activation_window": finite_number(activation_window, "activation_window", low=0.0),
        "adaptive_rate": flag(adaptive_rate, "adaptive_rate"),
        "active_time": or_infinite(active_time, "active_time"),
        "rtol": tolerance(first, rtol),
        "max_seconds": or_infinite(max_seconds, "max_seconds"),
    }
    own = {"loss_tol": [loss_tolerance(one, loss_tol) for one in problems]}
    batch = Batch(problems, _starts(problems, states, bool(adaptive_rate)), resolve(backend, first._kind.device))
    total = jumps if jumps >= 0 else 0 if states is None else int(np.count_nonzero(~states[0]._arrays()[2]))
    watch = Watch(
        lambda record, member: Jump._from_engine(record, first._kind, member),
        callback,
        bar(flag(progress, "progress"), len(problems) if several else total, " run" if several else " jump"),
        ensemble=several,
    )
    run = first._limit if states is None else first._alternate
    return _run(watch, batch, "alternating_gradient_flow", lambda: run(batch, options, own))


@overload
def gradient_flow(problem: Problem, state: State, t_end: float, **options: Unpack[_Flow]) -> Trajectory: ...


@overload
def gradient_flow(
    problem: Problem, state: Sequence[State | Array], t_end: float | Sequence[float], **options: Unpack[_Flow]
) -> Ensemble: ...


@overload
def gradient_flow(
    problem: Sequence[Problem],
    state: State | Sequence[State | Array] | Array,
    t_end: float | Sequence[float],
    **options: Unpack[_Flow],
) -> Ensemble: ...


@overload
def gradient_flow(
    problem: Problem, state: ArrayLike, t_end: float | Sequence[float], **options: Unpack[_Flow]
) -> Any: ...


def gradient_flow(
    problem: Problem | Sequence[Problem],
    state: State | Sequence[State | Array] | Array,
    t_end: float | Sequence[float],
    *,
    clock: str = "physical",
    save_at: Any = None,
    loss_tol: float | None = None,
    adaptive_rate: bool = False,
    rtol: float | None = None,
    max_seconds: float | None = None,
    backend: str = "auto",
    progress: bool = False,
    callback: Callable[[Record], Any] | None = None,
) -> Trajectory | Ensemble:
    """Follow the gradient flow dtheta_i/dt = -dL/dtheta_i of every neuron at once, from any scale.

    Several states or problems make an ensemble: all runs in one call, on all threads, each as if it were alone.

    Parameters
    ----------
    problem : Problem or sequence of Problem
        Such as a `Dense`. A sequence, of one class and shape, has one problem for each state, or one state for all.
    state : State or (H, m) array, or sequence of them, or (B, H, m) array
        Where to start. Several, of one width, for an ensemble.
    t_end : float or sequence of float
        Time at which to stop, in the given clock; not less than the state's own. A sequence has one for each member.
    clock : {"physical", "scaled"}
        Whether t_end and save_at are times t or t/eta. For kappa > 2 and extreme scales only the scaled clock is
        finite.
    save_at : sequence of float, optional
        Save exactly at these times, in order. Default: every accepted step, the start and t_end.
    loss_tol : float, optional
        Stop when L <= loss_tol. Default: 1e-10 of the loss of the zero network; never, if save_at is given.
    adaptive_rate : bool, default False
        Give each neuron the learning rate |theta|^(2 - kappa).
    rtol : float, optional
        Accuracy of the integration. Default: 1e-9, for float32 1e-5, the least it can resolve.
    max_seconds : float, optional
        Stop after so many seconds; of an ensemble, the whole call, whose other members then are not begun.
    backend : {"auto", "cpp", "cuda", "numpy"}
        The compiled core, a GPU, or the readable reference, which is far slower. "auto" computes where the problem's
        data are; "cuda" takes those of the host to the GPU. There one block of threads carries a small run (4e6
        operations an evaluation, 1,500 parameters and 256 of a neuron, or 1,500 inputs of a diagonal network) from
        beginning to end, and many at the same time; larger ones are driven from the host, where directions are
        followed in double.
    progress : bool, default False
        Show a progress bar, for an ensemble of members done; needs tqdm.
    callback : callable, optional
        Called with a `Record` at each saved point; returning True stops the run. For ensembles see
        `alternating_gradient_flow`.

    Returns
    -------
    Trajectory or Ensemble
        With one entry per saved point. An `Ensemble` if `problem` is a sequence, or `state` one or an array with three
        axes.

    Raises
    ------
    TypeError, ValueError
        On arguments other than these.
    KeyboardInterrupt
        On Ctrl-C, with the trajectory or ensemble so far as its attribute ``path``. An exception of the callback has
        it too.

    Examples
    --------
    >>> import numpy as np, agf_fast as agf
    >>> problem = agf.Dense(np.eye(2), np.eye(2), activation="identity")
    >>> truth = agf.gradient_flow(problem, problem.initialize(4), 60.0, save_at=[0.0, 60.0])
    >>> [round(float(loss), 6) for loss in truth.loss]
    [0.5, 0.0]
    """
    problems, states, several = read_members(problem, state)
    if states is None:
        raise TypeError("state is None, expected a State or an array; start from problem.initialize(...)")
    if not isinstance(clock, str) or clock not in ("physical", "scaled"):
        raise ValueError(f"clock is {clock!r}, expected 'physical' or 'scaled'")
    starts = _starts(problems, states, flag(adaptive_rate, "adaptive_rate"))
    assert starts is not None
    key = "time" if clock == "physical" else "scaled_time"
    nows = [float(start[key]) for start in starts]
    if not np.isfinite(nows).all():
        raise ValueError(f"state.time is {max(nows)} in the {clock} clock, expected a finite time; use clock='scaled'")
    if not several and np.ndim(t_end) != 0:
        raise TypeError(f"t_end is {type(t_end).__name__} for one state, expected a number; give several states for it")
    ends = read_ends(t_end, nows)
    times = None
    if save_at is not None:
        times = read_numbers(save_at, "save_at")
        now, end = max(nows), min(ends)
        if times.size == 0 or (np.diff(times) < 0).any() or times[0] < now or times[-1] > end:
            raise ValueError(
                f"save_at is {_short(times)}, expected at least one time, in increasing order, from the state's time "
                f"{now:g} to t_end = {end:g}; sort it and drop times outside"
            )
    first = problems[0]
    options = {
        "clock": clock,
        "save_at": times,
        "rtol": tolerance(first, rtol),
        "max_seconds": or_infinite(max_seconds, "max_seconds"),
        "adaptive_rate": bool(adaptive_rate),
    }
    on = loss_tol is None and times is not None
    own = {"t_end": ends, "loss_tol": [-1.0 if on else loss_tolerance(one, loss_tol) for one in problems]}
    batch = Batch(problems, starts, resolve(backend, first._kind.device))
    watch = Watch(
        lambda point, member: Record._from_engine(point, first._kind, member),
        callback,
        bar(flag(progress, "progress"), len(problems) if several else 1.0, " run" if several else ""),
        lambda point: (getattr(point, key) - nows[0]) / max(ends[0] - nows[0], np.finfo(np.float64).tiny),
        ensemble=several,
    )
    return _run(watch, batch, "gradient_flow", lambda: first._flow(batch, options, own))


def _starts(problems: Sequence[Problem], states: Sequence[State] | None, adaptive_rate: bool) -> Any:
    if states is None:
        return None
    return [one._start(state, adaptive_rate) for one, state in zip(problems, states, strict=True)]


def _run(watch: Watch, batch: Batch, method: str, run: Callable[[], list[dict[str, Any]]]) -> Trajectory | Ensemble:
    batch.observer, batch.finished = watch.observer, watch.finished
    wall, processor = clocks.perf_counter(), clocks.process_time()
    with watch:
        results = run()
    seconds, busy = clocks.perf_counter() - wall, clocks.process_time() - processor
    threads = core().get_threads() if batch.backend == "cpp" else 1
    stats = {"seconds": seconds, "threads": threads, "busy": busy / max(seconds * threads, 1e-9)}
    return watch.finish(results, batch, method, stats)


def _short(values: NDArray[np.float64]) -> str:
    return np.array2string(values, threshold=6, edgeitems=2, precision=6)
