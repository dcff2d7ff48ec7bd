"""What a run gives back: jumps, records, files, pickles, comparison, plots."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data, linear_data
from support.runs import teacher


@pytest.fixture(scope="module")
def start():
    return teacher().initialize(6, scale=1e-4, seed=0)


@pytest.fixture(scope="module")
def path(start):
    return agf.alternating_gradient_flow(teacher(), start, max_jumps=3, rtol=1e-6, active_time=50.0)


@pytest.fixture(scope="module")
def flow(start, path):
    return agf.gradient_flow(teacher(), start, 1.3 * path.jumps[-1].time + 50.0, rtol=1e-6)


def same(one, two):
    for name in ("time", "scaled_time", "loss", "elapsed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.status == two.status and one.log_eta == two.log_eta and one.notes == two.notes
    assert one.stats == two.stats and one.state == two.state
    assert list(one.jumps) == list(two.jumps)
    assert list(one.states) == list(two.states)
    np.testing.assert_array_equal(one.conserved_drift, two.conserved_drift)


def test_records_fit_together(path, flow):
    assert len(path.time) == len(path.jumps) + 1 == len(path.states) + 1
    assert path.time[0] == 0 and path.loss[0] == pytest.approx(teacher().loss(np.zeros((1, 7))), rel=1e-14)
    np.testing.assert_array_equal(path.time[1:], [jump.time for jump in path.jumps])
    np.testing.assert_array_equal(path.loss[1:], [jump.loss_after for jump in path.jumps])
    np.testing.assert_array_equal(path.loss[:-1], [jump.loss_before for jump in path.jumps])
    np.testing.assert_allclose(path.scaled_time, path.time / np.exp(path.log_eta), rtol=1e-12)
    for jump, state in zip(path.jumps, path.states, strict=True):
        assert jump.neuron in jump.activated and state == jump.state
        # The record's loss is the active neurons' alone: the dormant do not contribute in AGF.
        active = np.asarray(state.active)
        assert teacher().loss(state.parameters()[active]) == pytest.approx(jump.loss_after, rel=1e-9)
    for key in ("evaluations", "hessians", "steps", "rejected"):
        assert isinstance(path.stats[key], int) and path.stats[key] >= 0
    assert path.stats["evaluations"] > 0 and path.stats["seconds"] > 0
    assert len(path.stats["active_time"]) >= len(path.jumps)
    assert path.state == path.states[-1]
    np.testing.assert_allclose(flow.scaled_time, flow.time / np.exp(flow.log_eta), rtol=1e-12)


def test_file(path, flow, tmp_path):
    for index, run in enumerate((path, flow)):
        file = tmp_path / f"{index}.npz"
        run.save(file)
        same(agf.load(file), run)
        with np.load(file, allow_pickle=False) as arrays:  # plain arrays: no pickle inside
            assert set(arrays.files)
    with pytest.raises(OSError):
        agf.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz"):
        agf.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ValueError, match=r"text\.npz"):
        agf.load(tmp_path / "text.npz")


def test_file_of_infinite_times(tmp_path):
    """Physical times beyond double are inf: they must survive the file."""
    X, Y, *_ = generic_data(n=20, d=3, c=2)
    problem = agf.Dense(X, Y, activation="square")
    run = agf.alternating_gradient_flow(
        problem,
        problem.initialize(3, log_scale=-23025.85, seed=0),
        max_jumps=1,
        rtol=1e-6,
        active_time=5.0,
    )
    run.save(tmp_path / "x.npz")
    same(agf.load(tmp_path / "x.npz"), run)


def test_pickle_and_copy(path, flow, start):
    for thing in (path, flow):
        same(pickle.loads(pickle.dumps(thing)), thing)
        same(copy.deepcopy(thing), thing)
    assert pickle.loads(pickle.dumps(start)) == start
    assert pickle.loads(pickle.dumps(path.jumps[0])) == path.jumps[0]
    assert pickle.loads(pickle.dumps(path.status)) is path.status
    again = pickle.loads(pickle.dumps(teacher()))
    assert again.loss(start) == teacher().loss(start)
    assert (
        agf.alternating_gradient_flow(again, start, max_jumps=1, rtol=1e-6, active_time=50.0).jumps[0] == path.jumps[0]
    )


def test_problem_survives_a_process(start):
    """sweep's executors send problems and states to other processes."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        loss = pool.submit(teacher().loss, start).result(timeout=60)
    assert loss == teacher().loss(start)


def test_compare_a_run_with_itself(path):
    comparison = agf.compare(path, path)
    assert len(comparison.matches) == len(path.jumps)
    assert comparison.max_time_error == 0 and comparison.max_level_error == 0
    assert not comparison.path_only and not comparison.truth_only


def test_compare_finds_the_flows_drops(path):
    """A linear network's staircase, the same in AGF and flow: levels to O(scale^(1/2)), times to O(1/ln(1/scale))."""
    problem = agf.Dense(*linear_data((1.0, 0.5, 0.25)), activation="identity")
    start = problem.initialize(3, scale=1e-8, seed=5)
    run = agf.alternating_gradient_flow(problem, start)
    truth = agf.gradient_flow(problem, start, 1.3 * run.jumps[-1].time, rtol=1e-6)
    comparison = agf.compare(run, truth)
    assert [(match.path_index, match.truth_index) for match in comparison.matches] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    # Between jumps a level is left as the next component grows from e^(-9): it is a minimum of -dL/dt, not a constant.
    assert comparison.max_level_error <= 1e-2
    assert comparison.max_time_error <= 3 / np.log(1e8)
    assert str(comparison) == repr(comparison)
    with pytest.raises(TypeError, match="truth"):
        agf.compare(path, "flow")


def test_flow_jumps_of_a_known_staircase():
    """One linear neuron: a single drop from s^2/2 to 0, in the middle at p = s (1 - sqrt(1/2))."""
    s = 1.5
    one = np.ones((1, 1))
    problem = agf.Dense(one, s * one, activation="identity")
    start = agf.State(np.full((1, 2), np.sqrt(0.5)), [-20.0])
    run = agf.gradient_flow(problem, start, 40.0, loss_tol=0.0)
    assert len(run.jumps) == 1
    jump = run.jumps[0]
    p0, p = 0.5 * np.exp(-40.0), s * (1 - np.sqrt(0.5))
    middle = np.log(p / (s - p) * (s - p0) / p0) / (2 * s)
    # The record is the accepted steps; between them the drop's middle is interpolated.
    np.testing.assert_allclose(jump.time, middle, rtol=2e-3)
    np.testing.assert_allclose([jump.loss_before, jump.loss_after], [0.5 * s * s, 0], atol=1e-3 * s * s)


def test_status_carries_advice():
    texts = [str(status) for status in agf.Status]
    assert len(set(texts)) == len(texts)
    for status in agf.Status:
        assert status == status.value and str(status).startswith(status.value)
        assert len(status.advice.split()) >= 5


def test_repr_is_a_table(path, flow):
    for run in (path, flow):
        text = repr(run)
        assert str(run.status) in text and len(text.splitlines()) >= 2
    assert f"{path.jumps[0].neuron}" in repr(path)


def test_plot(path, flow):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = path.plot(flow)
    lines = axes.get_lines()
    assert len(lines) == 2
    for line in lines:
        x, y = (np.asarray(data, dtype=float) for data in line.get_data())
        assert np.isfinite(x).all() and np.isfinite(y).all()
    matplotlib.pyplot.close(axes.figure)


def test_results_are_read_only(path):
    with pytest.raises(ValueError):
        path.loss[0] = 0.0
    with pytest.raises(ValueError):
        path.state.log_norm[0] = 0.0
