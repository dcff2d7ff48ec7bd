"""Every way a run ends: statuses, callback, limits, Ctrl-C; and what is kept when it does."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

import agf_fast as agf
from support.interrupts import median_wait
from support.problems import generic_data
from support.runs import teacher


def start(width=6, scale=1e-4):
    return teacher().initialize(width, scale=scale, seed=0)


def assert_whole(path):
    """A partial path is a path: parallel arrays, finite numbers, a state the problem accepts."""
    assert len(path.time) == len(path.loss) == len(path.elapsed) == len(path.scaled_time)
    assert np.all(np.isfinite(path.loss))
    if path.method == "alternating_gradient_flow":
        assert len(path.time) == len(path.jumps) + 1
    assert np.isfinite(teacher().loss(path.state))
    assert path.status.advice


def test_max_jumps(verb_backend):
    for count in (0, 1, 2):
        path = agf.alternating_gradient_flow(teacher(), start(), max_jumps=count, rtol=1e-6, active_time=50.0,
                                             backend=verb_backend)  # fmt: skip
        assert len(path.jumps) == count and path.status == "max_jumps"
        assert_whole(path)


def test_loss_tol(verb_backend):
    zero = teacher().loss(np.zeros((1, teacher().n_params)))
    path = agf.alternating_gradient_flow(teacher(), start(), loss_tol=0.5 * zero, rtol=1e-6, backend=verb_backend)
    assert path.status == "loss_tol"
    # The loss of the end is at the tolerance: reached by an active phase that then stopped, not passed by far.
    assert path.loss[-1] <= 0.5 * zero
    flow = agf.gradient_flow(teacher(), start(), 1e4, loss_tol=0.5 * zero, rtol=1e-6, backend=verb_backend)
    assert flow.status == "loss_tol" and flow.loss[-1] <= 0.5 * zero < flow.loss[-2]
    assert_whole(flow)


def test_loss_tol_already_met(verb_backend):
    zero = teacher().loss(np.zeros((1, teacher().n_params)))
    path = agf.alternating_gradient_flow(teacher(), start(), loss_tol=2 * zero, backend=verb_backend)
    assert path.status == "loss_tol" and len(path.jumps) == 0
    assert agf.gradient_flow(teacher(), start(), 5.0, loss_tol=2 * zero, backend=verb_backend).status == "loss_tol"


def test_callback_sees_every_jump_and_stops(verb_backend):
    seen = []

    def watch(jump):
        seen.append(jump)
        return len(seen) == 2

    path = agf.alternating_gradient_flow(
        teacher(),
        start(),
        callback=watch,
        rtol=1e-6,
        active_time=50.0,
        backend=verb_backend,
    )
    assert path.status == "callback" and len(path.jumps) == 2
    assert [jump.neuron for jump in seen] == [jump.neuron for jump in path.jumps]
    assert seen[1].state == path.state
    assert_whole(path)


def test_callback_sees_saved_points_and_stops(verb_backend):
    seen = []
    flow = agf.gradient_flow(
        teacher(), start(), 10.0, save_at=np.linspace(0, 10, 11), backend=verb_backend,
        callback=lambda record: seen.append(record.time) or record.time >= 4.0,
    )  # fmt: skip
    assert flow.status == "callback" and flow.time[-1] == 4.0
    assert seen == list(flow.time)
    assert_whole(flow)


def test_exception_in_callback_is_the_callers(verb_backend):
    class MineError(Exception):
        pass

    def fail(jump):
        raise MineError("enough")

    with pytest.raises(MineError, match="enough") as caught:
        agf.alternating_gradient_flow(
            teacher(),
            start(),
            callback=fail,
            rtol=1e-6,
            active_time=50.0,
            backend=verb_backend,
        )
    assert len(caught.value.path.jumps) == 1


@pytest.mark.parametrize("make", [agf.Diagonal, agf.Dense, agf.Linear])
def test_a_flow_that_is_stopped_at_once_shows_its_start(make, compiled):
    X, Y, *_ = generic_data(n=20, d=3, c=1)
    problem = make(X, Y, activation="tanh") if make is agf.Dense else make(X, Y)
    state = problem.initialize(scale=1e-2) if make is agf.Diagonal else problem.initialize(4, scale=1e-2, seed=0)
    path = agf.gradient_flow(problem, state, 10.0, max_seconds=1e-9, backend=compiled)
    assert path.status == "max_seconds"
    np.testing.assert_allclose(path.loss[0], problem.loss(state), rtol=1e-12)


def test_max_seconds(verb_backend):
    """The limit is looked at per tile of work: a hundredth of a second is enough to end a run of minutes."""
    X, Y, *_ = generic_data(n=2000, d=60, c=10)
    problem = agf.Dense(X, Y, activation="relu")
    before = time.monotonic()
    for run in (
        lambda: agf.alternating_gradient_flow(
            problem,
            problem.initialize(80, seed=0),
            max_seconds=0.3,
            backend=verb_backend,
        ),
        lambda: agf.gradient_flow(
            problem,
            problem.initialize(80, seed=0),
            1e9,
            max_seconds=0.3,
            backend=verb_backend,
        ),
    ):
        path = run()
        assert path.status == "max_seconds"
        assert path.stats["seconds"] >= 0.3
        assert np.isfinite(problem.loss(path.state))
    # Two limits of 0.3 s; a backend that polls per evaluation adds one evaluation each, here some hundredths.
    assert time.monotonic() - before < 5


def test_all_active(verb_backend):
    theta = generic_data(H=3)[2]
    X, Y, *_ = generic_data()
    problem = agf.Dense(X, Y, activation="tanh")
    path = agf.alternating_gradient_flow(
        problem,
        2 * theta / np.linalg.norm(theta, axis=1, keepdims=True),
        active_time=1.0,
        backend=verb_backend,
    )
    assert path.status == "all_active" and len(path.jumps) == 0
    assert path.state.active.all()


def test_work_limit_is_said():
    """Limits at infinity do not loop: with active_time=None a phase ends, converged or not, and a jump says which."""
    X, Y, *_ = generic_data(n=12, d=3, c=2, seed=1)
    problem = agf.Dense(X, Y, activation="square")
    path = agf.alternating_gradient_flow(problem, problem.initialize(4, scale=1e-3, seed=0), max_jumps=3, rtol=1e-6,
                                         max_seconds=60)  # fmt: skip
    assert path.status != "max_seconds"
    for jump in path.jumps:
        if jump.converged:
            bound = max(1e-8 * jump.loss_after / max(jump.active_time, 1e-300), 0)
            assert jump.gradient_norm**2 <= 1.01 * bound or jump.loss_after <= 1e-10 * path.loss[0]
        else:
            assert jump.gradient_norm > 0


@pytest.mark.parametrize("name", ["tanh", "square"])
def test_a_run_that_cannot_go_on_keeps_what_it_has(name, verb_backend):
    """Data so large that losses overflow while squares of inputs do not: refused by name, or a status and a finite
    state."""
    X, Y, *_ = generic_data(n=8, d=2, c=1)
    problem = agf.Dense(1e120 * X, 1e120 * Y, activation=name)
    theta = np.ones((2, 3))
    for run in (
        lambda: agf.gradient_flow(problem, theta, 1.0, max_seconds=5.0, backend=verb_backend),
        lambda: agf.alternating_gradient_flow(problem, 1e-3 * theta, max_seconds=5.0, backend=verb_backend),
    ):
        try:
            path = run()
        except ValueError as error:
            assert "X" in str(error)
        else:
            assert path.status in tuple(agf.Status)
            assert np.all(np.isfinite(path.state.log_norm))


INTERRUPT = """
import sys, time
import numpy as np, agf_fast as agf
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((5000, 1024)), rng.standard_normal((5000, 10))
problem = agf.Dense(X, Y, activation="tanh")
state = problem.initialize(512, scale={scale}, seed=0)
problem.loss(state)
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt as stop:
    # Read before anything else is done with it; this clock is the same in every process of the machine.
    print(time.monotonic(), flush=True)
    assert stop.path.status == "interrupted"
    assert np.isfinite(stop.path.loss).all() and len(stop.path.time) >= 1 and repr(stop.path)
    print("kept", flush=True)
"""
CALLS = {
    "alternating": (1e-8, "agf.alternating_gradient_flow(problem, state)"),
    "flow": (0.5, "agf.gradient_flow(problem, state, 1e6)"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_returns_within_a_fifth_of_a_second(name):
    """At (5000, 1024, 10, 512) one evaluation takes tenths of a second: the poll must be finer than that."""
    scale, call = CALLS[name]
    assert median_wait(INTERRUPT.format(scale=scale, call=call), (0.31, 0.77, 1.13)) <= 0.2


def test_ctrl_c_in_a_callback_is_one_too():
    def interrupt(jump):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        agf.alternating_gradient_flow(teacher(), start(), callback=interrupt, rtol=1e-6, active_time=10.0)
    assert caught.value.path.status == "interrupted" and len(caught.value.path.jumps) == 1


def test_two_python_threads_share_one_problem(threads):
    """The lock is released in every long call, and a problem has no state of its own: same bits as alone."""
    threads(2)
    problem = teacher()
    seeds = (0, 1, 2, 3)

    def run(seed):
        state = problem.initialize(6, scale=1e-4, seed=seed)
        path = agf.alternating_gradient_flow(problem, state, max_jumps=2, rtol=1e-6, active_time=50.0)
        return (
            [jump.time for jump in path.jumps],
            path.state.log_norm.tobytes(),
            path.state.direction.tobytes(),
        )

    alone = [run(seed) for seed in seeds]
    together = [None] * len(seeds)
    errors = []

    def work(k):
        try:
            together[k] = run(seeds[k])
        except BaseException as error:  # noqa: BLE001, a thread's exception would otherwise be lost
            errors.append(error)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(seeds))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert together == alone


def test_lock_is_released_during_long_calls():
    """A Python thread must advance while a kernel works: at least one tick in a call of some tenths of a second."""
    X, Y, *_ = generic_data(n=5000, d=512, c=10)
    problem = agf.Dense(X, Y, activation="relu")
    theta = problem.initialize(1024, scale=1.0, seed=0).parameters()
    problem.utility_gradient(theta[:1])
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.002):
            ticks.append(time.monotonic())

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.monotonic()
    problem.utility_gradient(theta)
    ended = time.monotonic()
    stop.set()
    ticker.join()
    inside = [moment for moment in ticks if began < moment < ended]
    # Quarter of the ticks there is time for: the kernel keeps every core busy meanwhile.
    assert len(inside) >= max(1, (ended - began) / 0.002 / 4), (
        len(inside),
        ended - began,
    )


def test_progress_needs_only_tqdm(capsys):
    pytest.importorskip("tqdm")
    agf.alternating_gradient_flow(teacher(), start(), max_jumps=1, rtol=1e-6, active_time=10.0, progress=True)
    agf.gradient_flow(teacher(), start(), 1.0, progress=True)
    shown = capsys.readouterr()
    assert shown.err and not shown.out
