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
