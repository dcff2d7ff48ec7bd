"""Attention: principal components in order at the paper's levels, never before its bounds; the closed form of the flow
against prompts drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf

CONTEXT, HEADS = 32, 5
LEVELS = [1.0, 0.562185, 0.355548, 0.225103, 0.132199]
TEN = np.log(10.0)


def spectrum(*values, trace=2.0):
    values = np.array(values)
    return values * (trace / values.sum())


SPECTRUM = spectrum(1, 1 / 2, 1 / 3, 1 / 4)


def covariance(values=SPECTRUM, seed=0):
    """With these eigenvalues, in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return (basis * values) @ basis.T


def problem(values=SPECTRUM, context=CONTEXT):
    return agf.Attention(covariance(values), context)


def run(case, log_scale, seed=0, width=HEADS, **options):
    state = case.initialize(width, log_scale=log_scale, seed=seed)
    return state, agf.alternating_gradient_flow(case, state, **options)


def assert_levels(case, path, rtol=1e-8):
    """Each jump ends on the next level of the closed form, with the next principal component learned, and no other."""
    theory = case.theory()
    assert len(path.jumps) == case.dimension
    for k, jump in enumerate(path.jumps):
        assert jump.converged
        # Relative to L(0), of which levels are parts.
        assert abs(jump.loss_before - theory.levels[k]) <= rtol * theory.levels[0]
        assert abs(jump.loss_after - theory.levels[k + 1]) <= rtol * theory.levels[0]
        learned = np.where(np.arange(case.dimension) <= k, theory.facts["equilibrium"], 0.0)
        # L - l is quadratic in V - V*, in units of the equilibrium of order one: the root of its accuracy.
        active = jump.state.parameters()[jump.state.active]
        np.testing.assert_allclose(case.spectrum(active), learned, atol=np.sqrt(rtol) * learned.max())


def assert_bounded(case, state, path, adaptive_rate=False):
    bounds = case.theory(state, path, adaptive_rate=adaptive_rate).jumps
    for jump, bound in zip(path.jumps, bounds, strict=True):
        assert 0 < bound.scaled_time <= jump.scaled_time
        assert bound.time <= jump.time


# ---- the closed form


def test_levels_of_the_experiment():
    """Six decimals, as experiments.md has them."""
    theory = problem().theory()
    np.testing.assert_allclose(theory.levels, LEVELS, atol=1e-6)
    np.testing.assert_allclose(theory.facts["equilibrium"], 1 / (33 * SPECTRUM + 2), rtol=1e-12)
    np.testing.assert_allclose([jump.utility for jump in theory.jumps], 32 * SPECTRUM**2 / 27**0.5, rtol=1e-12)
    assert np.isnan([jump.time for jump in theory.jumps]).all() and theory.time_kind == "lower_bound"


def test_levels_are_minima_of_the_loss():
    """At V = sum of the first k components at equilibrium, L is the level, and M is N lambda^2 on the others."""
    case = problem()
    theory = case.theory()
    u, equilibrium = case.components, theory.facts["equilibrium"]
    for k in range(5):
        theta = np.hstack([equilibrium[:, None] * (np.arange(4) < k)[:, None], u, u])
        assert abs(case.loss(theta) - theory.levels[k]) <= 1e-14
        left = np.where(np.arange(4) < k, 0.0, 32 * SPECTRUM**2)
        # M is a difference of numbers of the order of its first eigenvalue.
        np.testing.assert_allclose(u @ case.residual(theta) @ u.T, np.diag(left), atol=1e-14 * 32 * SPECTRUM[0] ** 2)


def test_best_head_of_each_component():
    """N lambda^2 / (3 sqrt 3) is the utility of (1, u, u) / sqrt 3, and no unit head finds more."""
    case = problem()
    heads = np.hstack([np.ones((4, 1)), case.components, case.components]) / np.sqrt(3)
    nothing = case.residual(np.zeros((1, 9)))
    best = [jump.utility for jump in case.theory().jumps]
    np.testing.assert_allclose(case.utility(heads, nothing), best, rtol=1e-13)
    others = np.random.default_rng(0).standard_normal((1000, 9))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert case.utility(others, nothing).max() < best[0]


def test_population_loss_as_the_theory_writes_it():
    """L = 1/2 [tr S - 2N tr(S V S) + tr(V (N(N+1) S^2 + N tr(S) S) V^T S)], and its gradient in V."""
    matrix, n = covariance(), CONTEXT
    case = agf.Attention(matrix, n)
    theta = 0.3 * np.random.default_rng(1).standard_normal((3, 9))
    V = case.attention_matrix(theta)
    np.testing.assert_allclose(V, sum(row[0] * np.outer(row[1:5], row[5:]) for row in theta), atol=1e-15)
    seen = n * (n + 1) * matrix @ matrix + n * np.trace(matrix) * matrix
    terms = np.trace(matrix), 2 * n * np.trace(matrix @ V @ matrix), np.trace(V @ seen @ V.T @ matrix)
    size = sum(map(abs, terms))
    assert abs(case.loss(theta) - 0.5 * (terms[0] - terms[1] + terms[2])) <= 1e-14 * size
    np.testing.assert_allclose(case.residual(theta), n * matrix @ matrix - matrix @ V @ seen, atol=1e-13 * size)
    np.testing.assert_allclose(case.spectrum(theta), np.diag(case.components @ V @ case.components.T), atol=1e-14)


# ---- prompts


def draw(n, values, context, seed=0):
    """Prompts (n, N + 1, D + 1) of in-context linear regression."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(covariance(values))
    x = rng.standard_normal((n, context + 1, len(values))) @ root.T
    task = rng.standard_normal((n, 1, len(values)))
    return np.concatenate([x, np.sum(x * task, axis=2, keepdims=True)], axis=2)


def predictions(theta, prompts):
    """One prompt, head and example at a time."""
    size = prompts.shape[2] - 1
    out = np.zeros(len(prompts))
    for p, prompt in enumerate(prompts):
        s = sum(row[-1] * row[:-1] for row in prompt[:-1])
        out[p] = sum(t[0] * (t[1 : 1 + size] @ prompt[-1, :-1]) * (t[1 + size :] @ s) for t in theta)
    return out


def test_samples_against_prompts_one_by_one(verb_backend, dtype):
    prompts = draw(40, spectrum(1, 0.6, 0.3), 5).astype(dtype)
    case = agf.Attention.from_samples(prompts)
    theta = 0.1 * np.random.default_rng(1).standard_normal((4, 7)).astype(dtype)
    wide = prompts.astype(np.float64)
    error = wide[:, -1, -1] - predictions(theta.astype(np.float64), wide)
    # Sums of 40 x 5 terms of one sign at most, in double whatever the dtype.
    np.testing.assert_allclose(case._kernel(verb_backend).loss(theta), 0.5 * np.mean(error**2), rtol=1e-12)
    s = np.einsum("nj,nja->na", wide[:, :-1, -1], wide[:, :-1, :-1])
    M = np.einsum("n,na,nb->ab", error, wide[:, -1, :-1], s) / len(wide)
    got = case._kernel(verb_backend).residual(theta)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, M, atol=2 * np.finfo(dtype).eps * np.abs(M).max() + 1e-12 * np.abs(s).max() ** 2)


def test_few_prompts():
    """Fewer prompts than entries of V: they are fitted exactly by some V, and the loss is still right."""
    prompts = draw(3, spectrum(1, 0.5), 4)
    case = agf.Attention.from_samples(prompts)
    theta = 0.1 * np.random.default_rng(1).standard_normal((2, 5))
    error = prompts[:, -1, -1] - predictions(theta, prompts)
    np.testing.assert_allclose(case.loss(theta), 0.5 * np.mean(error**2), rtol=1e-12)


@pytest.mark.parametrize("count", [500, 8000])
def test_samples_tend_to_the_population(count):
    """Loss and gradient within five standard errors, which the prompts themselves tell: it falls like n^(-1/2)."""
    values, context = spectrum(1, 0.5, 0.25), 6
    prompts = draw(count, values, context, seed=2)
    population, sampled = agf.Attention(covariance(values), context), agf.Attention.from_samples(prompts)
    theta = 0.2 * np.random.default_rng(1).standard_normal((3, 7))
    V = population.attention_matrix(theta)
    s = np.einsum("nj,nja->na", prompts[:, :-1, -1], prompts[:, :-1, :-1])
    query = prompts[:, -1, :-1]
    error = prompts[:, -1, -1] - np.einsum("na,ab,nb->n", query, V, s)
    each = 0.5 * error**2
    standard = each.std() / np.sqrt(count)
    assert abs(sampled.loss(theta) - population.loss(theta)) <= 5 * standard
    signals = error[:, None, None] * query[:, :, None] * s[:, None, :]
    standard = signals.std(axis=0) / np.sqrt(count)
    assert (np.abs(sampled.residual(theta) - population.residual(theta)) <= 5 * standard).all()
    assert np.abs(sampled.variances - population.variances).max() <= 5 * 2 * values[0] / np.sqrt(count)


def test_samples_learn_in_stages():
    """A few thousand prompts already show the population's staircase, off by what the moments are off."""
    values, context, count = spectrum(1, 0.5), 4, 4000
    case = agf.Attention.from_samples(draw(count, values, context))
    theory = agf.Attention(covariance(values), context).theory()
    _, path = run(case, np.log(1e-3), width=3)
    assert len(path.jumps) == 2
    losses = [path.jumps[0].loss_before, path.jumps[0].loss_after, path.jumps[1].loss_after]
    # Moments of degree six of a Gaussian: their relative standard error is 10 n^(-1/2) or so.
    np.testing.assert_allclose(losses, theory.levels, rtol=10 / np.sqrt(count))


# ---- runs


@pytest.mark.parametrize("log_scale", [np.log(1e-2), np.log(1e-3), -300 * TEN, -10000 * TEN])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_components_in_order_at_the_levels(log_scale, seed):
    case = problem()
    state, path = run(case, log_scale, seed)
    assert path.status == "inert"
    assert_levels(case, path)
    assert_bounded(case, state, path)
    assert path.conserved_drift <= 1e-8


def test_the_reference_engine_agrees():
    case = problem()
    state, path = run(case, np.log(1e-3), backend="numpy", max_jumps=4)
    assert_levels(case, path)
    assert_bounded(case, state, path)
    _, ours = run(case, np.log(1e-3))
    # The reference takes a phase to be over at |grad L|^2 t = 1e-8 L: residuals, and so times, are known to 1e-4.
    for a, b in zip(path.jumps, ours.jumps, strict=True):
        assert abs(a.scaled_time / b.scaled_time - 1) <= 3e-4


@pytest.mark.parametrize("values, context", [((1, 0.9, 0.1), 2), ((3, 1), 1), ((1, 0.99, 0.98), 200), ((1,), 7)])
def test_other_spectra(values, context):
    case = problem(spectrum(*values, trace=0.7), context)
    state, path = run(case, -50 * TEN, width=len(values) + 1)
    assert_levels(case, path)
    assert_bounded(case, state, path)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_the_inputs(unit):
    """x -> c x scales L by c^2 and V by c^-2, whatever the unit of norm makes of the times."""
    case = agf.Attention(unit * covariance(), CONTEXT)
    state, path = run(case, -30 * TEN)
    assert_levels(case, path)
    assert_bounded(case, state, path)


def test_equal_variances():
    """Of two equal components any two directions may be learned: counted, not named; levels and bounds stand."""
    case = problem(spectrum(1, 1, 0.5))
    state, path = run(case, -20 * TEN)
    theory = case.theory(state, path)
    np.testing.assert_allclose([jump.loss_after for jump in path.jumps], theory.levels[1:], atol=1e-8)
    assert_bounded(case, state, path)


def test_several_heads_on_one_component():
    """Twins come together and share what one head would have learned; a third head of the same start follows them."""
    case = problem()
    state = case.initialize(HEADS, log_scale=-40 * TEN)
    direction, log_norm = state.direction.copy(), state.log_norm.copy()
    first = agf.alternating_gradient_flow(case, state, max_jumps=1).jumps[0].neuron
    twin = (first + 1) % HEADS
    direction[twin], log_norm[twin] = direction[first], log_norm[first]
    state = agf.State(direction, log_norm)
    path = agf.alternating_gradient_flow(case, state)
    assert set(path.jumps[0].activated) == {first, twin}
    assert abs(path.jumps[0].loss_after - case.theory().levels[1]) <= 1e-8
    assert_levels(case, path)
    assert_bounded(case, state, path)


def test_adaptive_rates():
    """With rates |theta|^(2 - kappa) waits are -ln|theta| in place of 1/|theta| - 1, and bounds follow."""
    case = problem()
    state, path = run(case, -30 * TEN, adaptive_rate=True)
    assert_levels(case, path)
    assert_bounded(case, state, path, adaptive_rate=True)
    # A start that is nearly all the distance: the bound is then nearly the time.
    bound = case.theory(state, path, adaptive_rate=True).jumps[0]
    assert path.jumps[0].time < 1.2 * bound.time


def test_bounds_from_a_state_alone():
    case = problem()
    state, path = run(case, np.log(1e-3))
    norm = np.exp(np.max(state.log_norm))
    first, *rest = case.theory(state).jumps
    assert first.time == pytest.approx(np.sqrt(3) * (1 / norm - 1) / (32 * SPECTRUM[0] ** 2), rel=1e-12)
    assert first.scaled_time == pytest.approx(first.time / np.exp(path.log_eta), rel=1e-12)
    assert np.isnan([jump.time for jump in rest]).all()
    # A state of the middle of the run bounds the jump that is next.
    middle = case.theory(path.jumps[1].state).jumps
    assert np.isnan([middle[0].time, middle[1].time, middle[3].time]).all()
    assert path.jumps[1].time < middle[2].time < path.jumps[2].time
    # Without the start, the first jump is not bounded.
    assert np.isnan(case.theory(path=path).jumps[0].time)
    # Far below double, the scaled clock still tells.
    far = case.theory(case.initialize(HEADS, log_scale=-10000 * TEN)).jumps[0]
    assert far.time == np.inf and 0 < far.scaled_time < 1


@pytest.mark.parametrize("log10_scale", [-2, -3, -6, -10, -50, -300, -10000])
def test_gradient_flow_beside(log10_scale):
    """The flow shows the same staircase, late or early by a multiple of alpha: at kappa = 3 the last part of a head's
    growth, which AGF cuts short at norm 1, takes a time of order one, and the wait one of order 1/alpha."""
    case = problem()
    state, path = run(case, log10_scale * TEN)
    truth = agf.gradient_flow(case, state, 1.2 * path.jumps[-1].scaled_time, clock="scaled")
    assert truth.status == "t_end" and "valley_frozen" not in truth.notes
    comparison = agf.compare(path, truth)
    assert len(comparison.matches) == 4 and not comparison.path_only and not comparison.truth_only
    errors = [drop.scaled_time / jump.scaled_time - 1 for jump, drop in zip(path.jumps, truth.jumps, strict=True)]
    # Four waits, each off by a few units of 1/eta = alpha; below that, by 10 rtol.
    assert np.abs(errors).max() <= 5 * 10.0**log10_scale + 1e-8
    levels = case.theory().levels
    for drop, level in zip(truth.jumps, levels[1:], strict=True):
        # A plateau's loss differs by what heads of norm alpha to 10 alpha do to it.
        assert abs(drop.loss_after - level) <= 0.1 * 10.0**log10_scale + 1e-10
    assert truth.conserved_drift <= 1e-8
    assert (np.diff(truth.loss) <= 1e-14).all()


def test_error_of_the_alternation_is_proportional_to_alpha():
    """Open Question 1 for attention: the first jump's relative time error, over five decades."""
    case = problem()
    ratios = []
    for log10_scale in (-2, -3, -5, -7):
        state, path = run(case, log10_scale * TEN, max_jumps=1)
        jump = path.jumps[0]
        truth = agf.gradient_flow(case, state, 1.3 * jump.scaled_time, clock="scaled")
        ratios.append((truth.jumps[0].scaled_time / jump.scaled_time - 1) / 10.0**log10_scale)
    # The next order in alpha is relative to the first.
    np.testing.assert_allclose(ratios, ratios[-1], rtol=0.05)


@pytest.mark.parametrize("log_scale", [np.log(1e-3), -10 * TEN, -300 * TEN])
@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_jump_times_converge(log_scale, rtol):
    """Halving rtol changes no jump by more than 10 rtol, nor the order of heads."""
    case = problem()
    _, coarse = run(case, log_scale, rtol=rtol)
    _, fine = run(case, log_scale, rtol=rtol / 2)
    assert [jump.neuron for jump in coarse.jumps] == [jump.neuron for jump in fine.jumps]
    for a, b in zip(coarse.jumps, fine.jumps, strict=True):
        assert abs(a.scaled_time / b.scaled_time - 1) <= 10 * rtol


def test_phases_reach_their_equilibrium():
    """At the end of a phase the residual of what is learned is gone to rtol; L stopped showing it long before."""
    case = problem(spectrum(1, 0.95, 0.9))
    _, path = run(case, -8 * TEN)
    for k, jump in enumerate(path.jumps):
        left = case.components @ case.residual(jump.state.parameters()[jump.state.active]) @ case.components.T
        assert np.abs(left[: k + 1, : k + 1]).max() <= 1e-8 * 32 * case.variances[-1] ** 2


def test_adaptive_rates_do_not_freeze_a_saddle():
    """Heads that follow the first one up stay small beside it, and only their own rates say that they still move."""
    case = problem(spectrum(1, 1 / 2, 1 / 3, 1 / 4))
    start = case.initialize(5, 1e-8, seed=0)
    loose, tight = (
        agf.gradient_flow(case, start, 60.0, adaptive_rate=True, rtol=rtol, loss_tol=0.0) for rtol in (1e-6, 1e-9)
    )
    assert len(loose.jumps) == len(tight.jumps) == 4
    # From saddle to saddle an error of rtol in a direction that grows is one of rtol in the time it takes, e-fold by
    # e-fold of some twenty.
    for a, b in zip(loose.jumps, tight.jumps, strict=True):
        assert a.time == pytest.approx(b.time, rel=1e-3)


@pytest.mark.parametrize("digits", [20, 64, 300])
def test_a_flow_that_rests_on_a_saddle_says_so(digits):
    """With adaptive rates every head follows the first one up, its other components far below the rounding of a double:
    what would leave the saddle is lost, and a flow that stays there must not look like one that has learned."""
    case = problem(spectrum(1, 1 / 2, 1 / 3, 1 / 4))
    run_of = agf.gradient_flow(case, case.initialize(5, log_scale=-digits * TEN, seed=0), 150.0, adaptive_rate=True)
    assert len(run_of.jumps) == 4 or "direction_unresolved" in run_of.notes
