"""Ensembles: the bits of every member alone and in company, for any number of threads, in both verbs; what ends one
member and what ends all; what callers get wrong."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time

import numpy as np
import pytest

import agf_fast as agf
from support.interrupts import median_wait
from support.problems import generic_data, modular_template
from support.runs import teacher

SEEDS = range(5)
AGF = {"max_jumps": 3, "active_time": 5.0, "rtol": 1e-5}
FLOW = {"rtol": 1e-5}


def dense(dtype="float64", activation="tanh"):
    X, Y, *_ = generic_data(n=23, d=3, c=2, dtype=np.dtype(dtype))
    return agf.Dense(X, Y, activation=activation)


def members(name):
    """A problem (or one for each member), states, options of AGF, and where the flow ends."""
    rng = np.random.default_rng(7)
    if name.startswith("diagonal"):
        problems = [agf.Diagonal(rng.standard_normal((12, 4)), rng.standard_normal(12)) for _ in SEEDS]
        return problems, [one.initialize(10.0 ** (-3 - k)) for k, one in enumerate(problems)], {"max_jumps": 3}, 20.0
    if name == "linear":
        problem = agf.Linear(rng.standard_normal((20, 3)), rng.standard_normal((20, 2)))
    elif name == "attention":
        problem = agf.Attention(np.diag([1.0, 0.5]), context=8)
    elif name == "modular":
        problem = agf.ModularAddition(modular_template(7, {1: 5.0, 2: 2.0}))
    else:
        problem = dense(*name.split())
    return problem, problem.initialize(4, scale=1e-2, seed=SEEDS), AGF, 20.0


NAMES = ["float64 tanh", "float32 relu", "float64 identity", "linear", "attention", "modular", "diagonal"]


def same(one, two):
    """To the last bit, but for the seconds it took."""
    for name in ("time", "scaled_time", "loss", "elapsed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.method == two.method and one.status == two.status and one.notes == two.notes
    assert list(one.jumps) == list(two.jumps) and list(one.states) == list(two.states) and one.state == two.state
    np.testing.assert_array_equal([one.log_eta, one.conserved_drift], [two.log_eta, two.conserved_drift])
    assert {**one.stats, "seconds": 0} == {**two.stats, "seconds": 0}


def each(problem):
    return problem if isinstance(problem, list) else [problem] * len(SEEDS)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_alone_and_in_company(name, threads, compiled):
    problem, states, options, end = members(name)
    rtol = {"rtol": 1e-4} if "float32" in name else {}
    threads(1)
    paths = [
        agf.alternating_gradient_flow(one, state, **{**options, **rtol}, backend=compiled)
        for one, state in zip(each(problem), states, strict=True)
    ]
    truths = [
        agf.gradient_flow(one, state, end, **{**FLOW, **rtol}, backend=compiled)
        for one, state in zip(each(problem), states, strict=True)
    ]
    assert any(path.jumps for path in paths) and len({path.time[-1] for path in paths}) > 1
    for count in (1, 2, 3):
        threads(count)
        for runs, alone in (
            (agf.alternating_gradient_flow(problem, states, **{**options, **rtol}, backend=compiled), paths),
            (agf.gradient_flow(problem, states, end, **{**FLOW, **rtol}, backend=compiled), truths),
        ):
            assert len(runs) == len(alone)
            for one, two in zip(runs, alone, strict=True):
                same(one, two)


def test_limit_of_many_problems():
    problems, *_ = members("diagonal")
    runs = agf.alternating_gradient_flow(problems, limit=True)
    for path, problem in zip(runs, problems, strict=True):
        same(path, agf.alternating_gradient_flow(problem, limit=True))
    stopped = agf.alternating_gradient_flow(problems, limit=True, max_seconds=1e-9)
    assert stopped.status[-1] == "max_seconds" and stopped[-1].loss[0] == pytest.approx(problems[-1].loss(
        problems[-1].initialize(1e-20)))  # fmt: skip


def test_reference_runs_them_too():
    """backend="numpy" one after another; as far from the compiled core as its single runs are."""
    problem, states, *_ = members("float64 tanh")
    options = {"max_jumps": 1, "active_time": 1.0, "rtol": 1e-6}
    slow = agf.alternating_gradient_flow(problem, states[:2], backend="numpy", **options)
    for path, state in zip(slow, states, strict=False):
        same(path, agf.alternating_gradient_flow(problem, state, backend="numpy", **options))
    fast = agf.alternating_gradient_flow(problem, states[:2], **options)
    for one, two in zip(slow, fast, strict=True):
        np.testing.assert_allclose(one.time, two.time, rtol=1e-5)
        np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
    flows = agf.gradient_flow(problem, states[:2], [1.0, 2.0], save_at=[0.5], backend="numpy")
    assert [path.time.tolist() for path in flows] == [[0.5], [0.5]]


def test_what_may_be_given():
    problem, states, *_ = members("float64 tanh")
    by_state = agf.alternating_gradient_flow(problem, states, **AGF)
    theta = np.stack([state.parameters() for state in states])
    by_array = agf.alternating_gradient_flow(problem, theta, **AGF)
    by_list = agf.alternating_gradient_flow(problem, list(theta), **AGF)
    by_problem = agf.alternating_gradient_flow([problem] * 5, tuple(states), **AGF)
    for runs in (by_array, by_list):
        for one, two in zip(runs, by_state, strict=True):
            # Parameters round where a state does not.
            np.testing.assert_allclose(one.loss, two.loss, rtol=1e-6)
    for one, two in zip(by_problem, by_state, strict=True):
        same(one, two)
    others = [dense(), dense(activation="gelu")]
    for path, one in zip(agf.alternating_gradient_flow(others, states[0], **AGF), others, strict=True):
        same(path, agf.alternating_gradient_flow(one, states[0], **AGF))
    ends = [1.0, 2.0, 3.0, 4.0, 5.0]
    flows = agf.gradient_flow(problem, states, ends)
    assert [path.time[-1] for path in flows] == ends
    assert len(agf.alternating_gradient_flow(problem, states[:1], **AGF)) == 1


def test_tolerance_is_each_problems_own():
    """The default loss_tol is relative to the loss of each problem's zero network."""
    X, Y, *_ = generic_data(n=23, d=3, c=2)
    problems = [agf.Dense(X, Y, activation="identity"), agf.Dense(X, 1e-3 * Y, activation="identity")]
    states = [problem.initialize(4, scale=1e-4, seed=1) for problem in problems]
    for path, problem, state in zip(
        agf.alternating_gradient_flow(problems, states, rtol=1e-5), problems, states, strict=True
    ):
        same(path, agf.alternating_gradient_flow(problem, state, rtol=1e-5))


def test_continue_all():
    problem, states, *_ = members("float64 tanh")
    first = agf.alternating_gradient_flow(problem, states, **{**AGF, "max_jumps": 1})
    rest = agf.alternating_gradient_flow(problem, first.state, **{**AGF, "max_jumps": 2})
    whole = agf.alternating_gradient_flow(problem, states, **AGF)
    for one, two in zip(rest, whole, strict=True):
        np.testing.assert_allclose(one.loss[-1], two.loss[-1], rtol=10 * AGF["rtol"])


def test_is_a_sequence():
    problem, states, *_ = members("float64 tanh")
    runs = agf.alternating_gradient_flow(problem, states, **AGF)
    assert isinstance(runs, agf.Ensemble) and len(runs) == 5 and runs[-1] is runs[4] and runs[0] in runs
    assert [path.state for path in runs] == list(runs.state)
    part = runs[1:3]
    assert isinstance(part, agf.Ensemble) and list(part) == [runs[1], runs[2]] and part.status == runs.status[1:3]
    assert len(runs[::2]) == 3 and not runs[:0] and "0 runs" in repr(runs[:0])
    with pytest.raises(IndexError):
        runs[5]
    with pytest.raises(TypeError):
        runs[0] = runs[1]
    for name in ("status", "state", "stats", "method"):
        with pytest.raises(AttributeError):
            setattr(runs, name, None)
    stats = runs.stats
    for name in ("evaluations", "hessians", "steps", "rejected"):
        assert stats[name] == sum(path.stats[name] for path in runs)
    assert stats["seconds"] > 0 and stats["threads"] >= 1 and stats["busy"] >= 0
    text = repr(runs)
    assert "5 runs" in text and str(runs.status[0]) in text and "jumps" in text


def test_file_pickle_copy(tmp_path):
    problem, states, *_ = members("float64 identity")
    for runs in (
        agf.alternating_gradient_flow(problem, states, **AGF),
        agf.gradient_flow(problem, states, [1.0, 2.0, 3.0, 4.0, 5.0], save_at=[0.5, 0.75]),
    ):
        runs.save(tmp_path / "runs.npz")
        for again in (agf.load(tmp_path / "runs.npz"), pickle.loads(pickle.dumps(runs)), copy.deepcopy(runs)):
            assert isinstance(again, agf.Ensemble)
            assert again.stats == runs.stats and again.status == runs.status and again.method == runs.method
            for one, two in zip(again, runs, strict=True):
                same(one, two)


def test_callback_names_the_member_and_stops_it_alone(verb_backend):
    problem, states, *_ = members("float64 tanh")
    seen = []

    def watch(jump):
        seen.append(jump)
        return jump.member == 1

    options = {"max_jumps": 2, "active_time": 1.0, "rtol": 1e-5, "backend": verb_backend}
    runs = agf.alternating_gradient_flow(problem, states[:3], callback=watch, **options)
    assert [status.value for status in runs.status] == ["max_jumps", "callback", "max_jumps"]
    assert [len(path.jumps) for path in runs] == [2, 1, 2]
    for member, path in enumerate(runs):
        own = [jump for jump in seen if jump.member == member]
        assert own == list(path.jumps) and own[-1].state == path.state
    same(runs[0], agf.alternating_gradient_flow(problem, states[0], **options))
    seen.clear()
    flows = agf.gradient_flow(
        problem, states[:3], 2.0, save_at=[0.0, 1.0, 2.0], callback=lambda point: seen.append(point.member),
        backend=verb_backend,
    )  # fmt: skip
    assert sorted(seen) == [0, 0, 0, 1, 1, 1, 2, 2, 2] and all(status == "t_end" for status in flows.status)


ERRORS = [(ZeroDivisionError, "callback"), (KeyboardInterrupt, "interrupted")]


@pytest.mark.parametrize("error, status", ERRORS)
def test_exception_in_callback_stops_members_at_work(error, status, threads):
    """Flows that would go on for hours: without a stop of all, max_seconds would end the others."""
    threads(2)
    X, Y, *_ = generic_data(n=400, d=20, c=5)
    problem = agf.Dense(X, Y, activation="tanh")

    def fail(point):
        if point.member == 1:
            raise error("enough")

    with pytest.raises(error) as caught:
        agf.gradient_flow(
            problem, problem.initialize(30, scale=1e-2, seed=range(4)), 1e12, callback=fail, max_seconds=20.0
        )
    assert set(caught.value.path.status) == {status}


@pytest.mark.parametrize("error, status", ERRORS)
def test_exception_in_callback_stops_all(error, status, verb_backend, threads):
    threads(2)
    problem, states, *_ = members("float64 tanh")

    def fail(jump):
        if jump.member == 1:
            raise error("enough")

    with pytest.raises(error) as caught:
        agf.alternating_gradient_flow(problem, states, callback=fail, backend=verb_backend, active_time=1.0, rtol=1e-5)
    runs = caught.value.path
    assert len(runs) == 5 and runs.status[1] == status and len(runs[1].jumps) == 1
    # The others were over before, stopped, or not begun.
    assert set(runs.status) <= {status, "inert", "all_active", "loss_tol"}


def test_one_failure_leaves_the_others(threads):
    """An engine that refuses one start: the error is that member's; alone it is raised."""
    threads(2)
    rng = np.random.default_rng(0)
    problem = agf.Diagonal(rng.standard_normal((12, 4)), rng.standard_normal(12))
    good = problem.initialize(1e-3)
    parts = agf.gradient_flow(problem, good, 1.0).state
    bad = agf.State(
        parts.direction, parts.log_norm, extra={**parts.extra, "log_conserved": parts.extra["log_conserved"] + 3.0}
    )
    with pytest.raises(ValueError) as alone:
        agf.gradient_flow(problem, bad, 2.0)
    runs = agf.gradient_flow(problem, [good, bad, good], 2.0)
    assert [status.value for status in runs.status] == ["t_end", "failed", "t_end"]
    assert runs[1].notes == (f"ValueError: {alone.value}",) and runs[1].state.direction is not None
    assert np.isnan(runs[1].loss).all() and "failed" in repr(runs)
    same(runs[0], agf.gradient_flow(problem, good, 2.0))
    pickle.loads(pickle.dumps(runs))


def test_one_failure_of_the_reference(monkeypatch):
    from agf_fast.reference import engine

    real = engine.alternating_gradient_flow

    def fail(kernel, start, **options):
        if start["log_norm"][0] == states[1].log_norm[0]:
            raise ZeroDivisionError("by design")
        return real(kernel, start, **options)

    problem, states, *_ = members("float64 tanh")
    monkeypatch.setattr(engine, "alternating_gradient_flow", fail)
    runs = agf.alternating_gradient_flow(problem, states[:2], max_jumps=1, rtol=1e-4, active_time=1.0, backend="numpy")
    assert [status.value for status in runs.status] == ["max_jumps", "failed"] and "by design" in runs[1].notes[0]
    with pytest.raises(ZeroDivisionError):
        agf.alternating_gradient_flow(problem, states[1], max_jumps=1, backend="numpy")


def test_max_seconds_is_the_calls(verb_backend, threads):
    threads(2)
    X, Y, *_ = generic_data(n=400, d=20, c=5)
    problem = agf.Dense(X, Y, activation="tanh")
    states = problem.initialize(30, scale=1e-2, seed=range(6))
    began = time.monotonic()
    runs = agf.gradient_flow(problem, states, 1e12, max_seconds=0.3, backend=verb_backend)
    # As for single runs: one evaluation of the reference, or a tile of the core, beyond the limit.
    assert time.monotonic() - began < 5.0
    assert set(runs.status) == {"max_seconds"}
    begun = [path for path in runs if np.isfinite(path.loss).all()]
    assert 1 <= len(begun) < 6 and runs[-1].state.log_norm.tolist() == states[-1].log_norm.tolist()
    again = agf.gradient_flow(problem, runs.state, 1e12, max_seconds=0.1, backend=verb_backend)
    assert len(again) == 6


def test_wide_members_share_the_threads(threads):
    """Fewer members than threads, of long evaluations: one after another, the bits the same."""
    X, Y, *_ = generic_data(n=3000, d=64, c=8)
    problem = agf.Dense(X, Y, activation="relu")
    states = problem.initialize(64, scale=1e-2, seed=[0, 1])
    options = {"save_at": [0.0, 0.01, 0.02], "rtol": 1e-3}
    threads(1)
    alone = [agf.gradient_flow(problem, state, 0.02, **options) for state in states]
    for count in (2, 3):
        threads(count)
        for one, two in zip(agf.gradient_flow(problem, states, 0.02, **options), alone, strict=True):
            same(one, two)


def test_two_python_threads_at_once(threads):
    threads(2)
    problem, states, *_ = members("float64 tanh")
    alone = agf.alternating_gradient_flow(problem, states, **AGF)
    found = [None, None]

    def work(k):
        found[k] = agf.alternating_gradient_flow(problem, states, **AGF)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for runs in found:
        for one, two in zip(runs, alone, strict=True):
            same(one, two)


def test_progress_counts_members(capsys):
    pytest.importorskip("tqdm")
    problem, states, *_ = members("float64 tanh")
    agf.alternating_gradient_flow(problem, states, progress=True, **AGF)
    shown = capsys.readouterr()
    assert "5/5" in shown.err and not shown.out


def test_seeds():
    problem = teacher()
    states = problem.initialize(6, scale=1e-4, seed=(3, 1))
    assert isinstance(states, tuple)
    assert states == (problem.initialize(6, scale=1e-4, seed=3), problem.initialize(6, scale=1e-4, seed=1))
    assert problem.initialize(6, seed=np.arange(2)) == problem.initialize(6, seed=[0, 1])
    for wrong, match in (([], "empty"), ([0, -1], r"seed\[1\]"), ([0.5], r"seed\[0\]"), ("12", "seed")):
        with pytest.raises((TypeError, ValueError), match=match):
            problem.initialize(6, seed=wrong)


def wrong_calls():
    problem = dense()
    state, wide = problem.initialize(4, seed=0), problem.initialize(5, seed=0)
    single = dense("float32")
    theta = np.stack([state.parameters()] * 2)
    ragged = np.ones((2, 4, 3))
    hole = theta.copy()
    hole[1, 2] = 0.0
    yield "no states", problem, [], "state is empty"
    yield "no problems", [], state, "problem is empty"
    yield "ragged", problem, [state, wide], r"state\[1\] has 5 neurons, expected 4"
    yield "dtype", problem, [state, single.initialize(4)], r"state\[1\] has directions of dtype float32"
    yield "array dtype", problem, [theta[0], theta[0].astype(np.float32)], r"state\[1\] has dtype float32"
    yield "stack dtype", problem, theta.astype(np.float32), "state has dtype float32"
    yield "stack shape", problem, ragged, r"\(B, H, m\)"
    yield "empty stack", problem, theta[:0], "empty"
    yield "zero row", problem, hole, r"state\[1\] has a row of zeros"
    yield "not a state", problem, [state, 3.0], r"state\[1\]"
    yield "generator", problem, (one for one in [state]), r"state is generator.*tuple\(\.\.\.\)"
    path = agf.gradient_flow(problem, state, 0.0)
    yield "a run", problem, path, r"state is a Trajectory.*\.state"
    yield "runs", problem, agf.gradient_flow(problem, [state], 0.0), r"state\[0\] is a Trajectory.*\.state"
    yield "generator of problems", (one for one in [problem]), state, "problem is generator.*tuple of them"
    yield "not a problem", [problem, 3.0], state, r"problem\[1\] is float"
    yield "classes", [problem, agf.Linear(np.eye(3), np.eye(3))], state, r"problem\[1\] is Linear, expected Dense"
    yield "dtypes", [problem, single], state, r"problem\[1\] is in float32"
    yield "shapes", [problem, agf.Dense(np.eye(4), np.eye(4))], state, r"problem\[1\] has m = 8"
    yield "lengths", [problem, problem], [state] * 3, "state has 3 members and problem 2"
    yield "width", agf.Diagonal(np.eye(3), np.ones(3)), np.ones((2, 4, 2)), r"\(B, H, m\)"


@pytest.mark.parametrize("case", list(wrong_calls()), ids=lambda case: case[0])
def test_wrong_calls_say_what(case):
    _, problem, state, match = case
    for run in (
        lambda: agf.alternating_gradient_flow(problem, state, max_jumps=1),
        lambda: agf.gradient_flow(problem, state, 1.0),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            run()


def test_wrong_ends_say_what():
    problem, states, *_ = members("float64 tanh")
    for end, match in (([1.0, 2.0], "t_end"), ([1.0] * 4 + [-1.0], r"t_end\[4\]"), ([1.0] * 4 + [np.nan], "t_end")):
        with pytest.raises((TypeError, ValueError), match=match):
            agf.gradient_flow(problem, states, end)
    with pytest.raises(TypeError, match="t_end"):
        agf.gradient_flow(problem, states[0], [1.0])
    with pytest.raises(ValueError, match="save_at"):
        agf.gradient_flow(problem, states, [1.0, 2.0, 3.0, 4.0, 5.0], save_at=[1.5])
    with pytest.raises(TypeError, match="state is None"):
        agf.gradient_flow(problem, None, 1.0)


INTERRUPT = """
import time
import numpy as np, agf_fast as agf
agf.set_threads(2)
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((300, 20)), rng.standard_normal((300, 5))
problem = agf.Dense(X, Y, activation="tanh")
# The first is over at once: whoever listens for Ctrl-C then has nothing else to do.
states = problem.initialize(30, scale=1e-2, seed=range({count}))
problem.loss(states[0])
print("ready", flush=True)
try:
    agf.gradient_flow(problem, states, {ends})
except KeyboardInterrupt as stop:
    print(time.monotonic(), flush=True)
    runs = stop.path
    assert len(runs) == {count} and "interrupted" in runs.status
    assert all(np.isfinite(path.state.log_norm).all() for path in runs) and repr(runs)
    print("kept", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("count, ends", [(2, "[1e-6, 1e12]"), (50, "1e12")])
def test_ctrl_c_returns_within_a_fifth_of_a_second(count, ends):
    assert median_wait(INTERRUPT.format(count=count, ends=ends), (0.3, 0.5, 0.7)) <= 0.2
