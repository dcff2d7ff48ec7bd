"""Small runs that a device carries by itself, many in one call: beside the CPU, in any company."""

import time

import numpy as np
import pytest

import agf_fast as agf

pytestmark = pytest.mark.skipif(not agf.cuda.is_available(), reason=f"no CUDA: {agf.cuda.why()}")

RTOL = 1e-7


def data(n, d, c, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 2 * rng.normal(size=(n, c))


def dense(n, d, c, seed, activation="tanh", dtype=np.float64):
    x, y = data(n, d, c, seed)
    return agf.Dense(x.astype(dtype), y.astype(dtype), activation=activation)


MODULAR = 2.0 * np.cos(2 * np.pi * np.arange(5) / 5) + 0.4 * np.cos(4 * np.pi * np.arange(5) / 5)
# Problems of one call, which are of one shape and dtype. The last ones take too long to evaluate to be carried, and run
# beside the others.
CALLS = {
    "several sigmas": lambda: [
        dense(12, 3, 2, k, name) for k, name in enumerate(("tanh", "identity", "square", "gelu"))
    ],
    "float32": lambda: [dense(9, 4, 2, k, "square", np.float32) for k in range(3)],
    "modular addition": lambda: [agf.ModularAddition(scale * MODULAR) for scale in (1.0, 1.5)],
    "attention": lambda: [agf.Attention(np.diag([2.0, 1.0, 0.5]), 8), agf.Attention(np.diag([1.5, 1.0, 0.2]), 8)],
    "linear": lambda: [agf.Linear(*data(12, 3, 2, k)) for k in range(3)],
    "too large": lambda: [dense(12000, 20, 3, k) for k in range(2)],
}


def same(one, two):
    return one.state == two.state and one.status == two.status and one.stats["steps"] == two.stats["steps"]


@pytest.mark.parametrize("name", CALLS)
def test_problems_in_one_cuda_call(name):
    problems = CALLS[name]()
    starts = [problem.initialize(4, scale=1e-4, seed=k) for k, problem in enumerate(problems)]
    few = name == "too large"
    options = {"max_jumps": 1 if few else 2, "active_time": 2.0 if few else 20.0, "rtol": 1e-5}
    carried = agf.alternating_gradient_flow(problems, starts, backend="cuda", **options)
    for problem, start, path in zip(problems, starts, carried, strict=True):
        host = agf.alternating_gradient_flow(problem, start, backend="cpp", **options)
        assert path.status == host.status
        assert [jump.neuron for jump in path.jumps] == [jump.neuron for jump in host.jumps]
        # Each is right to some ten times its rtol.
        np.testing.assert_allclose(
            [jump.time for jump in path.jumps], [jump.time for jump in host.jumps], rtol=20 * options["rtol"]
        )
        alone = agf.alternating_gradient_flow(problem, start, backend="cuda", **options)
        assert same(alone, path)


def test_many_members_are_each_as_alone_cuda():
    problem = dense(10, 3, 2, 1)
    starts = problem.initialize(5, scale=1e-6, seed=range(40))
    runs = agf.gradient_flow(problem, starts, 8.0, save_at=[1.0, 4.0, 8.0], rtol=RTOL, backend="cuda")
    assert {path.status.value for path in runs} == {"t_end"}
    for k in (0, 17, 39):
        alone = agf.gradient_flow(problem, starts[k], 8.0, save_at=[1.0, 4.0, 8.0], rtol=RTOL, backend="cuda")
        assert same(alone, runs[k])
        assert list(runs[k].time) == [1.0, 4.0, 8.0] and len(runs[k].states) == 3


def test_whoever_watches_changes_no_bit_cuda():
    problem = dense(10, 3, 2, 1)
    start = problem.initialize(5, scale=1e-6, seed=2)
    options = {"max_jumps": 3, "active_time": 20.0, "backend": "cuda"}
    seen = []
    watched = agf.alternating_gradient_flow(problem, start, callback=seen.append, **options)
    quiet = agf.alternating_gradient_flow(problem, start, **options)
    assert same(watched, quiet)
    assert [jump.time for jump in seen] == [jump.time for jump in quiet.jumps]


def test_who_watches_for_long_sees_each_jump_once_cuda():
    problem = dense(10, 3, 2, 1)
    start = problem.initialize(5, scale=1e-6, seed=2)
    options = {"max_jumps": 2, "active_time": 20.0, "backend": "cuda"}
    seen = []

    def watch(jump):
        seen.append(jump.time)
        # Longer than a block waits, which may hold up what a callback does on the device.
        time.sleep(4.0 if len(seen) == 1 else 0.0)

    watched = agf.alternating_gradient_flow(problem, start, callback=watch, **options)
    assert same(watched, agf.alternating_gradient_flow(problem, start, **options))
    assert seen == [jump.time for jump in watched.jumps]


def test_a_carried_run_that_is_stopped_at_once_shows_its_start_cuda():
    problem = dense(10, 3, 2, 1)
    start = problem.initialize(5, scale=1e-6, seed=2)
    path = agf.gradient_flow(problem, start, 1e3, max_seconds=1e-7, backend="cuda")
    assert path.status.value == "max_seconds" and np.isfinite(path.loss[0])


def test_a_carried_run_goes_on_where_it_stopped_cuda():
    problem = dense(10, 3, 2, 1)
    start = problem.initialize(5, scale=1e-6, seed=2)
    options = {"active_time": 20.0, "rtol": RTOL, "backend": "cuda"}
    whole = agf.alternating_gradient_flow(problem, start, max_jumps=3, **options)
    part = agf.alternating_gradient_flow(problem, start, max_jumps=1, **options)
    rest = agf.alternating_gradient_flow(problem, part.state, max_jumps=2, **options)
    times = [jump.time for jump in (*part.jumps, *rest.jumps)]
    np.testing.assert_allclose(times, [jump.time for jump in whole.jumps], rtol=10 * RTOL)


def test_members_without_anything_to_learn_cuda():
    problem = agf.Dense(np.eye(3), np.zeros((3, 1)), activation="tanh")
    runs = agf.alternating_gradient_flow(problem, problem.initialize(2, scale=1e-3, seed=range(5)), backend="cuda")
    assert {path.status.value for path in runs} == {"nothing_to_learn"}
    assert all(len(path.jumps) == 0 and path.loss[-1] == 0 for path in runs)


def test_faint_neurons_beside_stiff_ones_cuda():
    # Of degree 3, so that faint neurons have clocks of their own.
    problem = dense(10, 3, 2, 1, "square")
    start = problem.initialize(6, scale=1e-3, seed=2)
    host, carried = (
        agf.gradient_flow(problem, start, 2000.0, rtol=RTOL, backend=backend) for backend in ("cpp", "cuda")
    )
    assert carried.stats["hessians"] > 0 and min(carried.state.log_norm) < -5 < max(carried.state.log_norm)
    np.testing.assert_allclose(carried.state.log_norm, host.state.log_norm, atol=20 * RTOL)


def diagonal(n, d, seed, depth=2, dtype=np.float64):
    x, y = data(n, d, 1, seed)
    # Equal and opposite columns share what they grow to.
    x[:, 1], x[:, 2] = x[:, 0], -x[:, 0]
    return agf.Diagonal(x.astype(dtype), y.astype(dtype), depth)


# Rates of a path are right to 1e-11 |x_i| |r| / n, and to rounding of |y|, some 1e-9 of |r| when L has fallen to its
# loss_tol of 1e-10: times, which add up ways divided by rates, are to a hundred times that.
EXACT = 1e-7


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("depth", "adaptive"), [(2, False), (3, False), (4, True)])
@pytest.mark.parametrize("shape", [(20, 7), (7, 20)])
def test_diagonal_paths_in_one_cuda_call(shape, depth, adaptive, dtype):
    problems = [diagonal(*shape, k, depth, dtype) for k in range(3)]
    starts = [problem.initialize(10.0 ** -(2 + k)) for k, problem in enumerate(problems)]
    for given in (starts, None):
        options = {"adaptive_rate": adaptive, "limit": given is None}
        carried = agf.alternating_gradient_flow(problems, given, backend="cuda", **options)
        for k, path in enumerate(carried):
            start = None if given is None else given[k]
            host = agf.alternating_gradient_flow(problems[k], start, backend="cpp", **options)
            assert path.status == host.status
            assert [jump.activated for jump in path.jumps] == [jump.activated for jump in host.jumps]
            assert [jump.returned for jump in path.jumps] == [jump.returned for jump in host.jumps]
            np.testing.assert_allclose(path.time, host.time, rtol=EXACT)
            np.testing.assert_allclose(path.loss, host.loss, atol=EXACT * host.loss[0])
            for one, two in zip((*path.jumps, path), (*host.jumps, host), strict=True):
                np.testing.assert_allclose(one.state.parameters(), two.state.parameters(), atol=EXACT)
            assert same(agf.alternating_gradient_flow(problems[k], start, backend="cuda", **options), path)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("depth", "adaptive"), [(2, False), (3, False), (4, True)])
@pytest.mark.parametrize("shape", [(20, 7), (7, 20)])
def test_diagonal_flows_in_one_cuda_call(shape, depth, adaptive, dtype):
    problems = [diagonal(*shape, k, depth, dtype) for k in range(3)]
    starts = [problem.initialize(10.0 ** -(1 + k)) for k, problem in enumerate(problems)]
    options = {"adaptive_rate": adaptive, "rtol": 1e-5, "save_at": [0.5, 1.0, 1.5], "clock": "scaled"}
    carried = agf.gradient_flow(problems, starts, 1.5, backend="cuda", **options)
    for problem, start, path in zip(problems, starts, carried, strict=True):
        host = agf.gradient_flow(problem, start, 1.5, backend="cpp", **options)
        assert path.status == host.status and list(path.scaled_time) == [0.5, 1.0, 1.5]
        # Each is right to some ten times its rtol.
        np.testing.assert_allclose(path.loss, host.loss, atol=20 * options["rtol"] * problem.loss(problem.initialize()))
        alone = agf.gradient_flow(problem, start, 1.5, backend="cuda", **options)
        assert same(alone, path)


def test_diagonal_runs_that_are_watched_or_go_on_cuda():
    problem = diagonal(20, 7, 1, 3)
    start = problem.initialize(1e-2)
    seen = []
    whole = agf.alternating_gradient_flow(problem, start, backend="cuda")
    watched = agf.alternating_gradient_flow(problem, start, callback=seen.append, backend="cuda")
    assert same(whole, watched) and [jump.time for jump in seen] == [jump.time for jump in whole.jumps]
    part = agf.alternating_gradient_flow(problem, start, max_jumps=2, backend="cuda")
    rest = agf.alternating_gradient_flow(problem, part.state, backend="cuda")
    times = [jump.time for jump in (*part.jumps, *rest.jumps)]
    np.testing.assert_allclose(times, [jump.time for jump in whole.jumps], rtol=EXACT)


def test_a_diagonal_state_that_is_none_is_refused_cuda():
    problem = diagonal(20, 7, 1)
    state = agf.alternating_gradient_flow(problem, problem.initialize(1e-3), max_jumps=1, backend="cpp").state
    state.extra["log_reference"] = state.extra["log_reference"] + 1
    for verb, more in ((agf.alternating_gradient_flow, ()), (agf.gradient_flow, (100.0,))):
        with pytest.raises(ValueError, match="log_reference"):
            verb(problem, state, *more, backend="cuda")
