"""Whole runs: backends against each other, against their own tolerance, order of neurons, stops, threads and scales."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.activations import BY_LABEL
from support.problems import generic_data, linear_data, teacher_data
from support.runs import modular, modular_run, teacher


@pytest.mark.parametrize(
    "label",
    [
        "identity",
        "relu",
        "leaky_relu",
        "square",
        "power3",
        "tanh",
        "gelu",
        "elu",
        "silu",
        "erf",
    ],
)
def test_backends_agree(label, compiled):
    """A compiled engine and the readable one at rtol 1e-8: to 10 rtol each."""
    activation = BY_LABEL[label]
    X, Y, *_ = generic_data(n=30, d=3, c=2, H=4, seed=8)
    problem = agf.Dense(0.7 * X, Y, **activation.keywords)
    start = problem.initialize(5, scale=1e-3, seed=1)
    one, two = (
        agf.alternating_gradient_flow(problem, start, max_jumps=3, active_time=20.0, rtol=1e-8, backend=name)
        for name in (compiled, "numpy")
    )
    assert one.status == two.status
    assert [jump.neuron for jump in one.jumps] == [jump.neuron for jump in two.jumps]
    # A phase that ends at equilibrium does so at |grad L|^2 t <= 1e-8 L, give or take: residuals are then good to
    # 1e-4, and so are the utilities and the times that follow from them. Until then both runs are good to 10 rtol each.
    rtol = 20e-8
    for ours, theirs in zip(one.jumps, two.jumps, strict=True):
        np.testing.assert_allclose(ours.time, theirs.time, rtol=rtol)
        np.testing.assert_allclose(ours.scaled_time, theirs.scaled_time, rtol=rtol)
        np.testing.assert_allclose(ours.utility, theirs.utility, rtol=10 * rtol)
        np.testing.assert_allclose(ours.direction, theirs.direction, rtol=0, atol=max(2e-6, rtol))
        if ours.converged or theirs.converged:
            rtol = 1e-4
        assert abs(ours.loss_after - theirs.loss_after) <= max(10 * rtol**2, 10 * 20e-8) * one.loss[0]
        assert sorted(ours.activated) == sorted(theirs.activated) and sorted(ours.returned) == sorted(theirs.returned)
    np.testing.assert_allclose(one.log_eta, two.log_eta, rtol=1e-12)


CASES = {
    "modular": lambda: (
        modular(),
        {"width": 18, "scale": 1e-2, "seed": 0},
        {"active_time": 100.0, "max_jumps": 4},
    ),
    "relu": lambda: (
        teacher(),
        {"width": 8, "scale": 1e-8, "seed": 0},
        {"active_time": 100.0, "max_jumps": 3},
    ),
    "tanh": lambda: (
        agf.Dense(*teacher_data(), activation="tanh"),
        {"width": 6, "scale": 1e-6, "seed": 0},
        {"active_time": 50.0, "max_jumps": 3},
    ),
    "identity": lambda: (
        agf.Dense(*linear_data((1.0, 0.6, 0.3)), activation="identity"),
        {"width": 4, "scale": 1e-10, "seed": 0},
        {"active_time": 200.0, "max_jumps": 3},
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    """problem, start, keywords of a run."""
    problem, start, keywords = CASES[request.param]()
    return problem, problem.initialize(**start), keywords


@pytest.mark.parametrize("rtol", [1e-6, 1e-8])
def test_jump_times_do_not_depend_on_the_tolerance(case, rtol):
    """Halving rtol moves no jump by more than 10 rtol."""
    problem, start, keywords = case
    coarse, fine = (agf.alternating_gradient_flow(problem, start, rtol=r, **keywords) for r in (rtol, rtol / 2))
    assert [jump.neuron for jump in coarse.jumps] == [jump.neuron for jump in fine.jumps]
    for one, two in zip(coarse.jumps, fine.jumps, strict=True):
        assert abs(one.time - two.time) <= 10 * rtol * two.time


def test_jump_times_do_not_depend_on_the_order_of_neurons(case):
    problem, start, keywords = case
    order = np.random.default_rng(5).permutation(len(start))
    other = agf.State(start.direction[order], start.log_norm[order])
    rtol = 1e-7
    one, two = (agf.alternating_gradient_flow(problem, state, rtol=rtol, **keywords) for state in (start, other))
    assert [order[jump.neuron] for jump in two.jumps] == [jump.neuron for jump in one.jumps]
    for ours, theirs in zip(one.jumps, two.jumps, strict=True):
        assert abs(ours.time - theirs.time) <= 10 * rtol * theirs.time


def test_stopped_and_continued_equals_unbroken(case, tmp_path):
    """From path.state, through a file as well: as if it had not stopped, to 10 rtol."""
    problem, start, keywords = case
    rtol = 1e-7
    unbroken = agf.alternating_gradient_flow(problem, start, rtol=rtol, **keywords)
    for stop in range(1, len(unbroken.jumps)):
        head = agf.alternating_gradient_flow(problem, start, rtol=rtol, **{**keywords, "max_jumps": stop})
        assert len(head.jumps) == stop and head.status == "max_jumps"
        head.save(tmp_path / "head.npz")
        state = agf.load(tmp_path / "head.npz").state
        assert state == head.state
        tail = agf.alternating_gradient_flow(
            problem,
            state,
            rtol=rtol,
            **{**keywords, "max_jumps": keywords["max_jumps"] - stop},
        )
        rest = unbroken.jumps[stop:]
        assert [jump.neuron for jump in tail.jumps] == [jump.neuron for jump in rest]
        assert tail.log_eta == unbroken.log_eta
        for ours, theirs in zip(tail.jumps, rest, strict=True):
            assert abs(ours.time - theirs.time) <= 10 * rtol * theirs.time
            assert abs(ours.scaled_time - theirs.scaled_time) <= 10 * rtol * theirs.scaled_time
            assert abs(ours.loss_after - theirs.loss_after) <= 100 * rtol * unbroken.loss[0]


def test_continued_identity_keeps_what_a_unit_vector_forgets():
    """At 1e-50 the later directions are below the rounding of a unit row: the state has to carry them."""
    problem = agf.Dense(*linear_data((1.0, 0.5, 0.25)), activation="identity")
    start = problem.initialize(3, scale=1e-50, seed=5)
    unbroken = agf.alternating_gradient_flow(problem, start)
    head = agf.alternating_gradient_flow(problem, start, max_jumps=1)
    tail = agf.alternating_gradient_flow(problem, head.state)
    np.testing.assert_allclose(
        [jump.time for jump in tail.jumps],
        [jump.time for jump in unbroken.jumps[1:]],
        rtol=10 * 1e-9,
    )


def test_flow_stopped_and_continued(verb_backend):
    rtol = 1e-8
    problem, start = teacher(), teacher().initialize(5, scale=1e-2, seed=0)
    whole = agf.gradient_flow(problem, start, 30.0, rtol=rtol, backend=verb_backend)
    head = agf.gradient_flow(problem, start, 11.0, rtol=rtol, backend=verb_backend)
    assert head.state.time == 11.0
    tail = agf.gradient_flow(problem, head.state, 30.0, rtol=rtol, backend=verb_backend)
    assert tail.time[0] == 11.0 and tail.time[-1] == 30.0
    # Per-step errors of rtol add up along the plateau: both runs carry the same sum, to a few of its terms.
    assert abs(tail.loss[-1] - whole.loss[-1]) <= 100 * rtol * whole.loss[0]


@pytest.mark.parametrize("name", ["modular", "relu"])
def test_same_bits_for_any_thread_count(name, threads):
    problem, start, keywords = CASES[name]()
    start = problem.initialize(**start)
    runs = []
    for count in (1, 2, 3, 5, 1):
        threads(count)
        path = agf.alternating_gradient_flow(problem, start, rtol=1e-6, **{**keywords, "max_jumps": 2})
        flow = agf.gradient_flow(problem, start, 1.0, rtol=1e-6)
        runs.append(
            [
                *([jump.time, jump.utility, jump.loss_after, *jump.direction] for jump in path.jumps),
                path.state.log_norm.tobytes(),
                path.state.direction.tobytes(),
                flow.loss.tobytes(),
                flow.state.direction.tobytes(),
            ]
        )
    assert all(run == runs[0] for run in runs[1:])


SCALES = {
    "1e-2": {"scale": 1e-2},
    "1e-50": {"scale": 1e-50},
    "1e-300": {"scale": 1e-300},
    "log": {"log_scale": -23025.0},
}


@pytest.mark.parametrize("name", ["modular", "relu"])
def test_work_does_not_grow_with_the_logarithm_of_the_scale(name):
    """AGF from 1e-2 to 10^-10000, rescaled clock: every run finishes, evaluations grow by less than 1.5."""
    problem, start, keywords = CASES[name]()
    width = start["width"]
    evaluations = {}
    for label, scale in SCALES.items():
        path = agf.alternating_gradient_flow(
            problem,
            problem.initialize(width, seed=0, **scale),
            rtol=1e-6,
            **{**keywords, "max_jumps": 3},
        )
        assert len(path.jumps) == 3, path.status
        scaled = np.array([jump.scaled_time for jump in path.jumps])
        assert np.all(np.isfinite(scaled)) and np.all(np.diff(scaled) >= 0)
        assert path.loss[-1] < path.loss[0]
        evaluations[label] = path.stats["evaluations"]
    assert max(evaluations.values()) < 1.5 * evaluations["1e-2"], evaluations


@pytest.mark.parametrize("whole", [False, True], ids=["first-drop", "whole-run"])
@pytest.mark.parametrize("name", ["modular", "relu"])
def test_flow_work_at_small_scales(name, whole):
    """gradient_flow from 1e-2 to 1e-300: evaluations grow by less than 4, through the first drop and to t/eta = 2.5."""
    problem, start, _ = CASES[name]()
    zero = problem.loss(np.zeros((1, problem.n_params)))
    t_end, options, ending = (2.5, {}, "t_end") if whole else (20.0, {"loss_tol": 0.8 * zero}, "loss_tol")
    evaluations = []
    for scale in (1e-2, 1e-300):
        state = problem.initialize(start["width"], scale=scale, seed=0)
        path = agf.gradient_flow(problem, state, t_end, clock="scaled", rtol=1e-6, max_seconds=60, **options)
        assert path.status == ending
        assert path.loss[-1] < 0.81 * zero
        assert np.all(np.diff(path.time) >= 0) and np.all(np.diff(path.loss) <= 1e-14 * path.loss[0])
        evaluations.append(path.stats["evaluations"])
    assert evaluations[1] < 4 * evaluations[0], evaluations


@pytest.mark.parametrize("activation, scale", [("square", {"log_scale": -23025.0}), ("power", {"scale": 1e-2})])
def test_float32_takes_no_more_steps(activation, scale):
    """Rounding to float32 would hold an implicit integrator up in a valley: such runs are in double inside."""
    x, y = (array.astype(np.float32) for array in teacher_data(n=40, d=4))
    evaluations, levels = [], []
    for dtype in (np.float64, np.float32):
        problem = agf.Dense(x.astype(dtype), y.astype(dtype), activation=activation)
        path = agf.gradient_flow(
            problem, problem.initialize(6, seed=1, **scale), 2.0, clock="scaled", rtol=1e-5, max_seconds=30
        )
        assert path.status == "t_end" and path.state.direction.dtype == dtype
        evaluations.append(path.stats["evaluations"])
        levels.append(path.loss[-1])
    assert evaluations[1] < 1.5 * evaluations[0], evaluations
    # The starts differ by rounding to float32, and a plateau of the flow does not care.
    np.testing.assert_allclose(levels[1], levels[0], rtol=1e-3)


def _curved_data():
    """A small tanh teacher with a product term, which no few neurons fit exactly."""
    rng = np.random.default_rng(0)
    x, w, a = (rng.normal(size=shape) for shape in ((60, 5), (3, 5), (3, 2)))
    y = np.tanh(0.5 * x @ w.T) @ a + 0.1 * x[:, :1] * x[:, 1:2]
    return x, y - y.mean(axis=0)


@pytest.mark.parametrize("activation, scale", [("leaky_relu", 1e-8), ("relu", 1e-300)])
def test_default_tolerance_follows_kinked_phases_to_their_end(activation, scale):
    """Long sliding phases must not be cut short at tight rtol: jump times agree with those of a looser one."""
    problem = agf.Dense(*_curved_data(), activation=activation)
    start = problem.initialize(6, seed=1, scale=scale)
    loose, tight = (
        agf.alternating_gradient_flow(problem, start, max_jumps=4, rtol=rtol, max_seconds=60) for rtol in (1e-6, None)
    )
    assert len(tight.jumps) == 4 and all(jump.converged for jump in tight.jumps[:3])
    np.testing.assert_allclose([jump.time for jump in tight.jumps], [jump.time for jump in loose.jumps], rtol=1e-5)


@pytest.mark.parametrize(
    "activation, scale, times",
    [
        ("power", {"scale": 1e-300}, [1.0, 1.01, 1.13, 1.7, 2.5]),
        ("square", {"log_scale": -23025.0}, [2.4, 2.5]),
    ],
)
def test_saving_inside_a_plateau_longer_than_any_double(activation, scale, times):
    """Where physical time is inf the run still goes on from a saved point, and ends where it would without one."""
    problem = agf.Dense(*_curved_data(), activation=activation)
    start = problem.initialize(6, seed=1, **scale)
    keywords = {"clock": "scaled", "rtol": 1e-6, "max_seconds": 30}
    saved = agf.gradient_flow(problem, start, 2.5, save_at=times, **keywords)
    whole = agf.gradient_flow(problem, start, 2.5, **keywords)
    assert saved.status == whole.status == "t_end" and len(saved.loss) == len(times)
    np.testing.assert_allclose(saved.loss[-1], whole.loss[-1], rtol=1e-4)


def test_parting_of_merged_neurons_is_reported():
    """At 1e-300 relu neurons reach one direction to the last bit; at 1e-8 they stay apart, and nothing is noted."""
    problem = agf.Dense(*_curved_data(), activation="relu")
    for scale, expected in ((1e-8, False), (1e-300, True)):
        start = problem.initialize(6, seed=1, scale=scale)
        path = agf.gradient_flow(problem, start, 3.0, clock="scaled", rtol=1e-5)
        assert ("direction_unresolved" in path.notes) == expected


def test_start_with_active_neurons_reports_the_plateau_it_reaches(verb_backend):
    problem = agf.Dense(*_curved_data(), activation="relu")
    theta = np.random.default_rng(0).normal(size=(4, problem.n_params))
    keywords = {"rtol": 1e-5, "active_time": 50.0, "backend": verb_backend}
    path = agf.alternating_gradient_flow(problem, theta, **keywords)
    assert path.status == "all_active"
    np.testing.assert_allclose(path.loss, [problem.loss(path.state)], rtol=1e-10)
    assert path.loss[0] < problem.loss(theta)
    # One neuron still asleep: the first jump begins where the phase before it ended.
    theta[0] *= 1e-8 / np.linalg.norm(theta[0])
    path = agf.alternating_gradient_flow(problem, theta, max_jumps=1, **keywords)
    assert len(path.jumps) == 1 and path.jumps[0].loss_before == path.loss[0]


def test_start_too_large_for_the_loss_is_not_finite():
    problem = agf.Dense(*_curved_data(), activation="square")
    assert agf.alternating_gradient_flow(problem, np.full((3, problem.n_params), 1e60)).status == "non_finite"


def test_flow_holds_any_state():
    """10^-10000 as log_scale, and subnormal norms in an array."""
    problem = teacher()
    path = agf.gradient_flow(
        problem,
        problem.initialize(4, log_scale=-23025.85, seed=0),
        5.0,
        clock="scaled",
        loss_tol=0.5 * problem.loss(np.zeros((1, problem.n_params))),
        rtol=1e-6,
    )
    assert path.status == "loss_tol"
    theta = 1e-300 * np.random.default_rng(0).standard_normal((3, problem.n_params))
    theta[0] *= 1e-10
    assert agf.gradient_flow(problem, theta, 1.0).status == "t_end"


def test_agf_approaches_the_flow_as_the_scale_vanishes():
    """kappa = 2: jump time over ln(1/scale) of AGF and flow agree to O(1/ln(1/scale))."""
    problem = teacher()
    half = {}
    for log10 in (8, 300):
        state = problem.initialize(4, scale=10.0**-log10, seed=0)
        jump = agf.alternating_gradient_flow(problem, state, max_jumps=1, rtol=1e-6).jumps[0]
        level = 0.5 * (jump.loss_before + jump.loss_after)
        flow = agf.gradient_flow(problem, state, 1.5 * jump.time, rtol=1e-6)
        crossing = flow.time[np.searchsorted(-flow.loss, -level)]
        half[log10] = abs(crossing - jump.time) / jump.time * log10
    # The relative error times ln(1/scale) is a constant of the problem; between these scales it may change by little.
    assert half[300] <= 2 * half[8] + 1


def test_two_calls_give_the_same_bits():
    problem = modular()
    assert (
        modular_run("cpp", max_jumps=2).jumps[1].time
        == agf.alternating_gradient_flow(
            problem,
            problem.initialize(18, scale=1e-2, seed=0),
            max_jumps=2,
            loss_tol=1e-3,
            active_time=100.0,
            rtol=1e-6,
        )
        .jumps[1]
        .time
    )
