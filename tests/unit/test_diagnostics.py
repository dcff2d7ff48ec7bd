"""What runs say about themselves, and how far tangent kernels move."""

import numpy as np
import pytest

import agf_fast as agf


def two_features(second=0.5, scale=1e-8, width=4):
    problem = agf.Dense(np.eye(2), np.diag([2.0, 2.0 * second]), activation="identity")
    return problem, problem.initialize(width, scale=scale, seed=1)


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_gap_is_that_of_the_next_crossing(backend):
    # Uncoupled features: every neuron is one of the coordinates, so the candidates' times are in closed form,
    # t = -log_norm / (2 U) with U = (1, 1/2) / 2, and the gap is what the second adds.
    problem, _ = two_features()
    half = np.sqrt(0.5)
    state = agf.State(np.array([[half, 0, half, 0], [0, half, 0, half]]), [-18.0, -12.0])
    path = agf.alternating_gradient_flow(problem, state, max_jumps=1, backend=backend)
    rates = np.array([1.0, 0.5])
    times = np.array([18.0, 12.0]) / rates
    assert path.jumps[0].gap == pytest.approx((times[1] - times[0]) / times[1], rel=1e-9)


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
def test_relaxation_is_when_a_tenth_of_the_drop_is_left(backend):
    # One balanced neuron on one input: f = s with s' = 2 s (y - s), s(0) = 1/2, so y/s - 1 = (2 y - 1) e^(-2 y t).
    target = 2.0
    problem = agf.Dense(np.ones((1, 1)), np.full((1, 1), target), activation="identity")
    half = np.sqrt(0.5)
    path = agf.alternating_gradient_flow(problem, agf.State(np.array([[half, half]]), [-9.0]), backend=backend)
    residual = np.sqrt(0.1) * (target - 0.5)
    share = target / (target - residual) - 1.0
    expected = -np.log(share / (2 * target - 1)) / (2 * target)
    # Interpolated between steps, of which there are some ten within the drop.
    assert path.jumps[0].relaxation == pytest.approx(expected, rel=0.1)
    assert path.jumps[0].relaxation < path.jumps[0].active_time


def test_a_clean_run_has_no_advice_about_overlap():
    problem, state = two_features(scale=1e-30)
    found = agf.diagnose(agf.alternating_gradient_flow(problem, state))
    assert found.overlap[0] < 0.1 and np.isnan(found.overlap[-1])
    assert not any("relax" in line for line in found.advice)
    assert "overlap" in repr(found)


def test_near_ties_are_named():
    problem, state = two_features(second=1.0 - 1e-4)
    found = agf.diagnose(agf.alternating_gradient_flow(problem, state))
    assert found.near_ties and found.gap[found.near_ties[0]] < 1e-2
    assert any("near-tie" in line for line in found.advice)


def test_a_slide_is_recognised():
    problem, state = two_features(scale=0.5, width=64)
    found = agf.diagnose(agf.gradient_flow(problem, state, 20.0))
    assert any("without plateaus" in line for line in found.advice)


def test_winners_that_are_not_the_best_direction_are_named():
    """One neuron alone ends at whichever frequency its start lies nearest to."""
    template = np.fft.irfft([0, 10.0, 0, 9.0, 0, 8.0, 0, 0, 0, 0, 0], n=20)
    problem = agf.ModularAddition(template)
    largest = problem.theory().jumps[0].utility
    seen = set()
    for seed in range(6):
        path = agf.alternating_gradient_flow(problem, problem.initialize(1, 1e-6, seed), active_time=10.0, rtol=1e-6)
        found = agf.diagnose(path, problem=problem)
        assert found.best_utility[0] == pytest.approx(largest, rel=1e-4)
        lesser = path.jumps[0].utility < 0.98 * largest
        seen.add(lesser)
        assert lesser == any("not at the best direction" in line for line in found.advice)
    assert seen == {False, True}


def test_later_winners_are_judged_at_their_own_residual():
    problem, state = two_features()
    found = agf.diagnose(agf.alternating_gradient_flow(problem, state), problem=problem)
    # U = <a, Sigma w> on the unit sphere: half the singular values 1 and 1/2 of what is left.
    assert found.best_utility == pytest.approx([0.5, 0.25], rel=1e-4)
    assert not any("best direction" in line for line in found.advice)


def test_a_single_clean_drop_is_no_slide():
    problem = agf.Dense(np.ones((1, 1)), np.full((1, 1), 2.0), activation="identity")
    found = agf.diagnose(agf.gradient_flow(problem, problem.initialize(1, scale=1e-12), 60.0))
    assert not any("without plateaus" in line for line in found.advice)


def test_too_few_neurons_are_recognised():
    problem, _ = two_features()
    found = agf.diagnose(agf.alternating_gradient_flow(problem, problem.initialize(1)))
    assert any("more features than neurons" in line for line in found.advice)


def test_tangent_kernel_distance_of_diagonal_like_networks():
    # identity activation, c = 1: K = sum_i (a_i^2 X X' + X w_i w_i' X'), here with X = 1.
    problem = agf.Dense(np.eye(2), np.array([1.0, -1.0]), activation="identity")
    before, after = np.array([[1.0, 2.0, 3.0]]), np.array([[0.5, -1.0, 2.0]])

    def kernel(theta):
        w, a = theta[0, :2], theta[0, 2]
        return a**2 * np.eye(2) + np.outer(w, w)

    first, second = kernel(before), kernel(after)
    moved = agf.kernel_movement(problem, before, after)
    expected = 1 - np.vdot(first, second) / np.linalg.norm(first) / np.linalg.norm(second)
    assert moved.distance == pytest.approx(expected, rel=1e-12)
    assert moved.log_growth == pytest.approx(np.log(np.linalg.norm(second) / np.linalg.norm(first)), rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "square"])
def test_tangent_kernel_below_the_range_of_doubles(activation):
    rng = np.random.default_rng(0)
    problem = agf.Dense(rng.normal(size=(6, 2)), rng.normal(size=6), activation=activation)
    small, tiny = (problem.initialize(3, log_scale=log, seed=0) for log in (-20.0, -20000.0))
    moved = agf.kernel_movement(problem, tiny, small)
    # tanh departs from its leading term by z^2 / 3, z about e^-20.
    assert moved.distance < 1e-12
    assert moved.log_growth == pytest.approx(2 * (problem.kappa - 1) * 19980.0, rel=1e-12)


def test_tangent_kernel_of_moments_is_that_of_the_samples():
    """A linear network on its moments and a dense one on the samples are one network: so are their tangent kernels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4)) * [2.0, 1.0, 0.5, 0.1]
    Y = rng.normal(size=(30, 2))
    before, after = rng.normal(size=(2, 3, 6))
    moved = [
        agf.kernel_movement(problem, before, after)
        for problem in (agf.Dense(X, Y, activation="identity"), agf.Linear(X, Y))
    ]
    assert moved[1].distance == pytest.approx(moved[0].distance, rel=1e-9)
    assert moved[1].log_growth == pytest.approx(moved[0].log_growth, rel=1e-9)


def test_tangent_kernel_of_attention_is_that_of_its_prompts():
    """K on prompts from outputs' gradients, by differences, against the kernel on their moments."""
    rng = np.random.default_rng(1)
    prompts = rng.normal(size=(12, 5, 3))
    problem = agf.Attention.from_samples(prompts)
    before, after = rng.normal(size=(2, 2, 5))

    def outputs(theta):
        x, y = prompts[:, :-1, :2], prompts[:, :-1, 2]
        s = np.einsum("nj,njd->nd", y, x)
        v, q, k = theta[:, 0], theta[:, 1:3], theta[:, 3:]
        return np.einsum("h,hn,hn->n", v, q @ prompts[:, -1, :2].T, k @ s.T)

    def kernel(theta):
        steps = 1e-6 * np.eye(theta.size).reshape(theta.size, *theta.shape)
        tangents = np.array([(outputs(theta + d) - outputs(theta - d)) / 2e-6 for d in steps])
        return tangents.T @ tangents

    first, second = kernel(before), kernel(after)
    expected = 1 - np.vdot(first, second) / np.linalg.norm(first) / np.linalg.norm(second)
    # Differences of a cubic at 1e-6: 1e-12 of its third derivative, 1e-10 of rounding.
    assert agf.kernel_movement(problem, before, after).distance == pytest.approx(expected, rel=1e-7)


def test_bad_arguments_are_named():
    problem, state = two_features()
    with pytest.raises(TypeError, match="path is int"):
        agf.diagnose(3)
    with pytest.raises(ValueError, match="near_tie"):
        agf.diagnose(agf.alternating_gradient_flow(problem, state), near_tie=2.0)
    with pytest.raises(ValueError, match="tangent kernel of zero"):
        agf.kernel_movement(problem, np.zeros((1, 4)), state)
    wide = agf.Dense(np.ones((4097, 1)), np.ones(4097))
    with pytest.raises(ValueError, match="4097 coordinates"):
        agf.kernel_movement(wide, wide.initialize(1), wide.initialize(1))


def test_limit_and_state_exclude_each_other():
    problem, state = two_features()
    with pytest.raises(TypeError, match="state is given with limit=True"):
        agf.alternating_gradient_flow(problem, state, limit=True)
    with pytest.raises(TypeError, match="state is missing with limit=False"):
        agf.alternating_gradient_flow(problem)
    with pytest.raises(TypeError, match="limit is True for Dense"):
        agf.alternating_gradient_flow(problem, limit=True)


def test_batches_need_samples_only_where_asked_for():
    problem, state = two_features()
    path = agf.gradient_descent(problem, state, lr=0.1, steps=3, batch=1)
    assert len(path) == 4


def test_theory_stands_beside_a_run():
    problem, state = two_features(scale=1e-30)
    path = agf.alternating_gradient_flow(problem, state)
    theory = agf.Theory.from_levels([1.25, 0.25, 0.0], [1.0, 2.0], np.eye(2), time_kind="limit")
    found = agf.compare(path, theory)
    assert len(found.matches) == 2 and found.max_level_error < 1e-9
    assert "2 features" in repr(theory)
    with pytest.raises(ValueError, match="features has 1 entries, expected 2"):
        agf.Theory.from_levels([1.0, 0.5, 0.0], [1.0, 2.0], np.eye(1))
    with pytest.raises(ValueError, match="time_kind"):
        agf.Theory.from_levels([1.0, 0.5], [1.0], np.eye(1), time_kind="exact")
