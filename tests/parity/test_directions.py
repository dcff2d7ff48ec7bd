"""Directions of the neuron space: every backend, continued runs, ties, copies, scales beyond one double."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

import agf_fast as agf
from agf_fast.reference._directions import Directions, Growth
from agf_fast.reference._wide import Wide
from support.linear import falls, middles, moments, start

LN10 = np.log(10.0)


def small(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, 3))
    return agf.Linear(X, X @ rng.standard_normal((3, 2)) + 0.1 * rng.standard_normal((40, 2)))


@pytest.mark.parametrize(("decades", "width"), [(9, 4), (900, 12)])
def test_backends_agree(compiled, decades, width):
    """Alternating flow to 10 rtol at rtol 1e-9; a compiled phase ends within 1e-16 of the loss, that is with the
    residual good to 1e-8, and times that follow from it. The reference settles by Newton's method."""
    problem = small()
    state = start(problem, width, decades, seed=2)
    one, two = (agf.alternating_gradient_flow(problem, state, backend=name) for name in (compiled, "numpy"))
    assert one.status == two.status and len(one.jumps) == 2
    for ours, theirs in zip(one.jumps, two.jumps, strict=True):
        assert (ours.neuron, ours.activated, ours.returned) == (theirs.neuron, theirs.activated, theirs.returned)
        for name, rtol in (("time", 1e-8), ("scaled_time", 1e-8), ("utility", 1e-7), ("loss_after", 1e-9)):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol)
        np.testing.assert_allclose(ours.gap, theirs.gap, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.relaxation, theirs.relaxation, rtol=0.05)
        sign = np.sign(ours.direction @ theirs.direction)
        np.testing.assert_allclose(ours.direction, sign * theirs.direction, rtol=0, atol=1e-6)
    np.testing.assert_allclose(one.state.log_norm, two.state.log_norm, rtol=0, atol=1e-5)


@pytest.mark.parametrize("decades", [9, 900])
def test_backends_agree_on_the_flow(compiled, decades):
    """Losses at given times: where L falls at its relative rate of about 2 per unit of time, an error of 1e-7 in time
    (a column comes into sight to 1e-6 of its size, twice) is one of 1e-6."""
    problem = small()
    state = start(problem, 4, decades, seed=2)
    end = 3 * decades * LN10
    one, two = (
        agf.gradient_flow(problem, state, end, save_at=np.linspace(0, end, 25), backend=name)
        for name in (compiled, "numpy")
    )
    np.testing.assert_allclose(one.loss, two.loss, rtol=0, atol=3e-6 * one.loss[0])
    np.testing.assert_allclose(one.state.log_norm, two.state.log_norm, rtol=0, atol=1e-4)
    for ours, theirs in zip(one.states, two.states, strict=True):
        np.testing.assert_allclose(problem.loss(ours), problem.loss(theirs), rtol=0, atol=3e-6 * one.loss[0])


@pytest.mark.parametrize("decades", [9, 900])
def test_continued_runs(verb_backend, decades):
    """As if they had not stopped, to 10 rtol, also through a file and after a flow in between."""
    problem = small()
    state = start(problem, 4, decades, seed=2)
    whole = agf.alternating_gradient_flow(problem, state, backend=verb_backend)
    part = agf.alternating_gradient_flow(problem, state, max_jumps=1, backend=verb_backend)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "path.npz"
        part.save(file)
        kept = agf.load(file).state
    assert kept == part.state
    rest = agf.alternating_gradient_flow(problem, kept, backend=verb_backend)
    assert [jump.neuron for jump in rest.jumps] == [1]
    np.testing.assert_allclose(rest.jumps[0].time, whole.jumps[1].time, rtol=1e-8)
    np.testing.assert_allclose(rest.state.log_norm, whole.state.log_norm, rtol=0, atol=1e-8)

    end = 3 * decades * LN10
    grid = np.linspace(0, end, 9)
    flow = agf.gradient_flow(problem, state, end, save_at=grid, backend=verb_backend)
    half = agf.gradient_flow(problem, state, grid[4], save_at=grid[:5], backend=verb_backend)
    after = agf.gradient_flow(problem, half.state, end, save_at=grid[4:], backend=verb_backend)
    np.testing.assert_allclose(np.concatenate([half.loss, after.loss[1:]]), flow.loss, rtol=0, atol=1e-8 * flow.loss[0])
    np.testing.assert_allclose(after.state.log_norm, flow.state.log_norm, rtol=0, atol=1e-7)
    # What is active by its norm in a flow is active for the alternating flow, which finds the same network in the end.
    found = agf.alternating_gradient_flow(problem, half.state, backend=verb_backend)
    np.testing.assert_allclose(found.loss[-1], whole.loss[-1], rtol=1e-8)


def test_rows_that_were_changed_count():
    """A state's exact variables give way to rows that are no longer theirs."""
    problem = small()
    moved = agf.alternating_gradient_flow(problem, start(problem, 4, 9, seed=2), max_jumps=1).state
    fresh = start(problem, 4, 9, seed=5)
    changed = agf.State(fresh.direction, fresh.log_norm, extra=moved.extra)
    one, two = (agf.alternating_gradient_flow(problem, state) for state in (changed, fresh))
    assert [jump.time for jump in one.jumps] == [jump.time for jump in two.jumps]


@pytest.mark.parametrize("verb", ["alternating", "flow"])
def test_scales_beyond_one_double(verb):
    """Neurons from e^-9000 to e^1 in one network: the order and times of the product of all scales, which elimination
    carries exactly. Neurons at the same scale reversed in order give the same run."""
    rng = np.random.default_rng(3)
    problem = agf.Linear(rng.standard_normal((30, 4)), rng.standard_normal((30, 3)))
    direction = problem.initialize(8, seed=7).direction
    logs = np.linspace(-9000.0, 1.0, 8)
    one = agf.State(direction, logs)
    two = agf.State(np.ascontiguousarray(direction[::-1]), logs[::-1].copy())
    if verb == "alternating":
        first, second = (agf.alternating_gradient_flow(problem, state) for state in (one, two))
        assert len(first.jumps) == 2
        np.testing.assert_allclose([j.time for j in first.jumps], [j.time for j in second.jumps], rtol=1e-8)
    else:
        grid = np.linspace(0.0, 60000.0, 7)
        first, second = (agf.gradient_flow(problem, state, grid[-1], save_at=grid) for state in (one, two))
        np.testing.assert_allclose(first.loss, second.loss, rtol=0, atol=1e-8)
    assert np.isfinite(first.state.log_norm).all()
    np.testing.assert_allclose(first.state.log_norm, second.state.log_norm[::-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("verb", ["alternating", "flow"])
def test_copies_add_no_directions(verb):
    """H neurons of which only two differ span two directions: (1, 2) of rank 2 learned, nothing from rounding."""
    problem = agf.Linear.from_moments(*moments([1.0, 0.5, 0.25], np.ones(3)))
    a, b = problem.initialize(2, seed=1).direction
    state = agf.State(np.stack([a, a, b, -a, b, b]), np.full(6, -200.0))
    if verb == "alternating":
        path = agf.alternating_gradient_flow(problem, state)
        assert path.status.value == "all_active"
    else:
        path = agf.gradient_flow(problem, state, 4000.0)
    assert len(path.jumps) == 2
    np.testing.assert_allclose(path.jumps[-1].loss_after, 0.5 * 0.25**2, rtol=0, atol=1e-6)


def test_ties_activate_together(verb_backend):
    """Two exact singular pairs at one scale and rate are one event; a window makes one of two that are not."""
    problem = agf.Linear.from_moments(np.eye(2), np.eye(2))
    pairs = np.array([[1.0, 0, 1, 0], [0, 1.0, 0, 1]]) / np.sqrt(2)
    path = agf.alternating_gradient_flow(problem, agf.State(pairs, [-50.0, -50.0]), backend=verb_backend)
    assert [jump.activated for jump in path.jumps] == [(0, 1)]
    np.testing.assert_allclose(path.jumps[0].time, 50.0, rtol=1e-12)
    apart = agf.State(pairs, [-50.0, -51.0])
    path = agf.alternating_gradient_flow(problem, apart, backend=verb_backend)
    assert [jump.activated for jump in path.jumps] == [(0,), (1,)]
    np.testing.assert_allclose([jump.time for jump in path.jumps], [50.0, 51.0], rtol=1e-9)
    np.testing.assert_allclose(path.jumps[0].gap, 1 / 51, rtol=1e-9)
    path = agf.alternating_gradient_flow(problem, apart, activation_window=2.0, backend=verb_backend)
    assert [jump.activated for jump in path.jumps] == [(0, 1)]


def test_structure_is_not_buried_by_rounding():
    """Two blocks of inputs and outputs that know nothing of each other. In one the second component is small until the
    first is learned and then overtakes the other block's: a rounding of the larger column would grow in its place."""
    xx, yx = np.eye(3), np.zeros((3, 3))
    xx[:2, :2] = [[1.0, 0.9], [0.9, 1.0]]
    yx[:2, :2] = [[2.0, 0.0], [1.9, 0.6]]
    yx[2, 2] = 0.25
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    alone, turned = agf.Linear.from_moments(xx, yx), agf.Linear.from_moments(right @ xx @ right.T, left @ yx @ right.T)
    frame = np.block([[right, np.zeros((3, 3))], [np.zeros((3, 3)), left]])
    for decades in (30, 1000):
        state = start(alone, 6, decades)
        other = agf.State(state.direction @ frame.T, state.log_norm)
        one, two = (agf.alternating_gradient_flow(p, s) for p, s in ((alone, state), (turned, other)))
        assert len(one.jumps) == 3
        np.testing.assert_allclose([j.time for j in one.jumps], [j.time for j in two.jumps], rtol=1e-6)


def test_tolerance_and_threads(threads):
    """Halving rtol moves jumps by at most 10 rtol; the number of threads moves nothing at all."""
    problem = small(3)
    state = start(problem, 5, 40)
    runs = [agf.alternating_gradient_flow(problem, state, rtol=rtol) for rtol in (1e-8, 5e-9)]
    np.testing.assert_allclose(*([jump.time for jump in run.jumps] for run in runs), rtol=1e-7)
    threads(1)
    one = agf.gradient_flow(problem, state, 400.0)
    threads(2)
    two = agf.gradient_flow(problem, state, 400.0)
    assert np.array_equal(one.loss, two.loss) and one.state == two.state


def test_work_does_not_grow_with_the_scale():
    """10^-10000 takes at most 1.5 times the evaluations of 10^-10, both verbs."""
    problem = agf.Linear.from_moments(*moments([1.0, 0.4, 0.16], np.ones(3)))
    counts = []
    for decades in (10, 10000):
        state = start(problem, 4, decades)
        path = agf.alternating_gradient_flow(problem, state)
        flow = agf.gradient_flow(problem, state, 10 * decades * LN10)
        assert len(path.jumps) == len(flow.jumps) == 3
        counts.append((path.stats["evaluations"], flow.stats["evaluations"]))
    assert counts[1][0] <= 1.5 * counts[0][0] and counts[1][1] <= 1.5 * counts[0][1]


def test_clocks_and_points():
    """The scaled clock is time over the mean initial -ln|theta|; saved times are met exactly; a callback stops."""
    problem = small()
    state = start(problem, 4, 9, seed=2)
    path = agf.alternating_gradient_flow(problem, state)
    eta = -np.mean(state.log_norm)
    np.testing.assert_allclose([jump.scaled_time for jump in path.jumps], [jump.time / eta for jump in path.jumps])
    flow = agf.gradient_flow(problem, state, 2.0, clock="scaled", save_at=[0.0, 0.5, 1.0, 2.0])
    assert list(flow.scaled_time) == [0.0, 0.5, 1.0, 2.0]
    np.testing.assert_allclose(flow.time, eta * flow.scaled_time)
    stopped = agf.gradient_flow(problem, state, 60.0, callback=lambda record: record.loss < 0.5)
    assert stopped.status.value == "callback" and stopped.loss[-1] < 0.5 < stopped.loss[-2]
    physical = agf.gradient_flow(problem, state, 2.0 * eta)
    theory = problem.theory()
    np.testing.assert_allclose(falls(physical, middles(theory)), [jump.time for jump in physical.jumps], rtol=1e-2)


def test_graded_factors():
    """The reference's own factorisation: Z is kept, columns are orthogonal, and singular values that lie e^1000 apart
    multiply to the determinant."""
    rng = np.random.default_rng(4)
    direction = rng.standard_normal((5, 5))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    logs = np.array([-3000.0, 0.0, -10.0, -2000.0, -1000.0])
    directions, known = Directions.of({"direction": direction, "log_norm": logs})
    assert not known
    rows, norms = directions.rows()
    np.testing.assert_allclose(rows, direction, rtol=0, atol=1e-14)
    np.testing.assert_allclose(norms, logs, rtol=0, atol=1e-11)
    determinant = np.log(abs(np.linalg.det(direction)))
    np.testing.assert_allclose(directions.log_norms().sum(), logs.sum() + determinant, rtol=1e-14)
    beta = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    top = Growth(directions, beta).at(4000.0)[0]
    directions.grow(beta, 4000.0)
    directions.orthogonalize()
    np.testing.assert_allclose(directions.log_norms()[0], top, rtol=1e-14)
    np.testing.assert_allclose(directions.log_norms().sum(), logs.sum() + determinant, rtol=1e-13)
    unit = (directions.faint / directions.faint.norms()).scaled(0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(5), rtol=0, atol=1e-14)


def test_wide_arithmetic():
    """As doubles where those reach, and the same relations far beyond."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 4, 4))
    for shift in (0.0, -20000.0):
        x, y = Wide(a) * Wide.exp(shift), Wide(b) * Wide.exp(-shift)
        np.testing.assert_allclose((x @ y).scaled(0), a @ b, rtol=1e-13)
        np.testing.assert_allclose((x / Wide(b) + x).log(), np.log(np.abs(a / b + a)) + shift, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose((x * x).sqrt().log(), np.log(np.abs(a)) + shift, rtol=1e-14, atol=1e-14)
        assert not (x - x).mantissa.any()
