"""ModularAddition against Theorem 5.1, against Dense on the expanded data, and the order in which frequencies come."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import agf_fast as agf
from support.modular import TEMPLATES, first_activation_times, random_template, utility_maxima
from support.problems import MODULAR_PERIOD, MODULAR_SPECTRUM, modular_template
from support.runs import MODULAR, ends, modular, modular_run

EPS = np.finfo(np.float64).eps


@functools.cache
def problem():
    return agf.ModularAddition(modular_template())


@functools.cache
def run(backend, seed=MODULAR["seed"], max_jumps=None):
    """The run of support.runs.modular_run, without samples."""
    return agf.alternating_gradient_flow(
        problem(),
        problem().initialize(MODULAR["width"], scale=MODULAR["scale"], seed=seed),
        max_jumps=max_jumps,
        loss_tol=0.5e-4 * MODULAR_PERIOD,
        active_time=MODULAR["active_time"],
        rtol=MODULAR["rtol"],
        backend=backend,
    )


def frequencies_of(problem, jumps):
    """The frequency of each jump's winner."""
    return [int(problem.dominant_frequencies(jump.direction[None])[0]) for jump in jumps]


# ------------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_levels_are_what_parseval_leaves(name):
    """L with the frequencies F learned is half the mean square of the other components of the template."""
    template = TEMPLATES[name]
    theory = agf.ModularAddition(template).theory()
    transform = np.fft.rfft(template)
    for done, level in enumerate(theory.levels):
        rest = transform.copy()
        rest[list(theory.facts["frequencies"][:done])] = 0
        left = np.fft.irfft(rest, n=len(template))
        np.testing.assert_allclose(level, 0.5 * np.sum(left**2), rtol=1e-12, atol=1e-12 * theory.levels[0])
    zero = np.zeros((1, 3 * len(template)))
    np.testing.assert_allclose(agf.ModularAddition(template).loss(zero), theory.levels[0], rtol=1e-12)


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_features_have_the_largest_utility(name):
    """Cosines of one frequency reach Ubar_k to rounding; random directions nowhere exceed the largest."""
    template = TEMPLATES[name]
    modular_problem = agf.ModularAddition(template)
    theory = modular_problem.theory()
    zero = np.zeros((1, 3 * len(template)))
    target = modular_problem.residual(zero)
    utilities = [jump.utility for jump in theory.jumps]
    np.testing.assert_allclose(modular_problem.utility(theory.features, target), utilities, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(theory.features, axis=1), 1, rtol=1e-14)
    assert utilities == sorted(utilities, reverse=True)
    maxima = utility_maxima(template)[np.array(theory.facts["frequencies"]) - 1]
    np.testing.assert_allclose(utilities, maxima, rtol=1e-12)
    np.testing.assert_array_equal(modular_problem.dominant_frequencies(theory.features), theory.facts["frequencies"])
    # A critical point on the sphere: the gradient is kappa U theta.
    gradient = modular_problem.utility_gradient(theory.features, target)
    expected = 3 * np.array(utilities)[:, None] * theory.features
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * utilities[0])
    directions = np.random.default_rng(0).standard_normal((2000, 3 * len(template)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert modular_problem.utility(directions, target).max() <= utilities[0] * (1 + 16 * EPS)


def test_half_the_period_comes_earlier_than_its_modulus_says():
    """Ubar has sqrt 2 for k = p/2: at 0.95 of the modulus it still comes first, and takes half the level."""
    j = np.arange(12)
    template = np.cos(2 * np.pi * 2 * j / 12) + 0.95 / 2 * np.cos(np.pi * j)
    theory = agf.ModularAddition(template).theory()
    assert theory.facts["frequencies"] == (6, 2)
    np.testing.assert_allclose(theory.facts["moduli"], [0.95 * 6, 6], rtol=1e-12)
    np.testing.assert_allclose(-np.diff(theory.levels), [0.5 * 5.7**2 / 12, 36 / 12], rtol=1e-12)


def test_theory_of_the_paper():
    theory = problem().theory()
    assert theory.facts["frequencies"] == (1, 3, 5)
    np.testing.assert_allclose(2 * theory.levels / MODULAR_PERIOD, [0.65625, 0.15625, 0.03125, 0], atol=1e-14)
    best = np.sqrt(2 * MODULAR_PERIOD / 27) * MODULAR_SPECTRUM[1] ** 3 / MODULAR_PERIOD**2
    np.testing.assert_allclose(theory.jumps[0].utility, best, rtol=1e-12)
    assert theory.time_kind == "lower_bound" and np.isnan([jump.time for jump in theory.jumps]).all()


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("log_scale", [np.log(1e-2), np.log(1e-8), -23025.85])
def test_first_jump_respects_the_lower_bound(log_scale, adaptive):
    """In both clocks; at 10^-10000 physical time is inf at fixed rates."""
    start = problem().initialize(18, log_scale=log_scale, seed=0)
    bound = problem().theory(start, adaptive_rate=adaptive).jumps[0]
    jump = agf.alternating_gradient_flow(
        problem(), start, max_jumps=1, active_time=1.0, rtol=1e-6, adaptive_rate=adaptive
    ).jumps[0]
    assert bound.time <= jump.time and bound.scaled_time <= jump.scaled_time
    best = utility_maxima(modular_template()).max()
    largest = start.log_norm.max()
    if adaptive:
        np.testing.assert_allclose(bound.time, -largest / (3 * best), rtol=1e-12)
    elif log_scale > -100:
        np.testing.assert_allclose(bound.time, (1 / np.exp(largest) - 1) / (3 * best), rtol=1e-12)
    else:
        assert bound.time == np.inf and 0 < bound.scaled_time < np.inf


# -------------------------------------------------------------------------------------------------- the paper's run


def test_levels_and_order_of_the_paper(verb_backend):
    """Frequencies 1, 3, 5 in order; 2L/p = .59959, .40936, .28390 after the first jumps."""
    whole = verb_backend != "numpy"
    path = run(verb_backend, max_jumps=None if whole else 2)
    known = [0.59959, 0.40936, 0.28390][: len(path.jumps)]
    np.testing.assert_allclose(ends(path)[:3], known, rtol=0, atol=2e-5)
    np.testing.assert_allclose(2 * path.loss[0] / MODULAR_PERIOD, 0.65625, rtol=1e-12)
    if not whole:
        return
    assert list(problem().first_activations(path)) == [1, 3, 5]
    # At active_time = 100 a plateau's valley is followed to 1e-4 in 2L/p.
    assert abs(ends(path)[4] - 0.15626) <= 1e-4
    for level in (0.15625, 0.03125, 0.0):
        assert np.abs(ends(path) - level).min() <= 1e-4
    assert path.status == "loss_tol" and path.conserved_drift <= 1e-8


def test_same_jumps_as_dense_on_the_expanded_data(compiled):
    """To 10 rtol, all of them: who, when, and how far the loss falls."""
    ours, dense = run(compiled), modular_run("cpp")
    assert [jump.neuron for jump in ours.jumps] == [jump.neuron for jump in dense.jumps]
    rtol = 10 * MODULAR["rtol"]
    np.testing.assert_allclose(ours.time, dense.time, rtol=rtol)
    np.testing.assert_allclose(ours.loss, dense.loss, rtol=0, atol=rtol * dense.loss[0])
    for one, two in zip(ours.jumps, dense.jumps, strict=True):
        np.testing.assert_allclose(one.utility, two.utility, rtol=0, atol=rtol * ours.jumps[0].utility)
        assert one.activated == two.activated and one.returned == two.returned


def test_same_flow_as_dense_on_the_expanded_data(compiled):
    """The gradient flow through its first drop, at saved points."""
    times = np.linspace(0.0, 200.0, 5)
    start = problem().initialize(5, scale=2e-2, seed=0)
    ours, dense = (
        agf.gradient_flow(p, start, times[-1], save_at=times, rtol=1e-6, backend=name)
        for p, name in ((problem(), compiled), (modular(), "cpp"))
    )
    assert ours.loss[-1] < 0.9 * ours.loss[0]
    np.testing.assert_allclose(ours.loss, dense.loss, rtol=0, atol=1e-5 * dense.loss[0])


def test_a_continued_run_goes_on_as_if_it_had_not_stopped():
    start = problem().initialize(18, scale=1e-2, seed=0)
    keywords = {"active_time": 100.0, "rtol": 1e-6}
    first = agf.alternating_gradient_flow(problem(), start, max_jumps=2, **keywords)
    second = agf.alternating_gradient_flow(problem(), first.state, max_jumps=2, **keywords)
    whole = run("cpp").jumps[2:4]
    for one, two in zip(second.jumps, whole, strict=True):
        assert one.neuron == two.neuron
        np.testing.assert_allclose([one.time, one.loss_after], [two.time, two.loss_after], rtol=1e-5)


def test_powers_of_what_was_learned(verb_backend):
    """Parseval over frequencies and blocks; the first winner is a cosine at frequency 1 in u, v and w alike."""
    theta = np.random.default_rng(0).standard_normal((7, 60))
    powers = problem().powers(theta)
    assert powers.shape == (7, 3, 11)
    np.testing.assert_allclose(powers.sum(axis=2), np.sum(theta.reshape(7, 3, 20) ** 2, axis=2), rtol=1e-13)
    path = run(verb_backend, max_jumps=None if verb_backend != "numpy" else 2)
    winner = path.jumps[0].direction
    np.testing.assert_allclose(problem().powers(winner[None])[0, :, 1], 1 / 3, atol=0.02)
    # All of a network's power is that of its neurons.
    state = path.state
    np.testing.assert_allclose(problem().powers(state).sum(axis=(1, 2)), np.exp(2 * state.log_norm), rtol=1e-12)


# --------------------------------------------------------------------------------------- the order of the frequencies


def test_first_activation_is_the_fastest_component_of_any_neuron():
    """Until the residual changes, the components of a neuron at each frequency have flows of their own, and the first
    of them all to blow up names winner, frequency and time: to the accuracy of the oracle and O(alpha)."""
    for seed in range(4):
        template, order = random_template(seed)
        modular_problem = agf.ModularAddition(template)
        start = modular_problem.initialize(18, scale=1e-6, seed=seed)
        times = first_activation_times(template, start)
        jump = agf.alternating_gradient_flow(modular_problem, start, max_jumps=1, active_time=1.0, rtol=1e-6).jumps[0]
        neuron, k = np.unravel_index(times.argmin(), times.shape)
        assert jump.neuron == neuron and frequencies_of(modular_problem, [jump])[0] == k + 1 == order[0]
        np.testing.assert_allclose(jump.time, times.min(), rtol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_frequencies_are_first_activated_in_the_order_of_their_utilities(seed):
    """Random templates of three frequencies, Ubar 2.7 to 8 apart; odd and even p, k = p/2 in some.

    "In order" is the order of each frequency's first activation; stragglers come later. The setting follows from what
    could break it. Too few neurons: some weaker frequency may have the better start. Twelve per frequency, of which up
    to six are spent on each earlier one, leave that to chance about once in a thousand. Too short an active phase: an
    unfinished frequency k leaves a part of the residual that draws neurons near it to 3 k mod p, out of order; so
    Ubar active_time >> 1. Too long a one for the scale: active neurons learn other frequencies themselves, without an
    activation; so scale Ubar active_time << 1. Here these are 8000 and 0.008, for the largest Ubar.
    """
    template, order = random_template(seed)
    modular_problem = agf.ModularAddition(template)
    assert modular_problem.theory().facts["frequencies"] == order
    seen = []

    def all_seen(jump):
        seen.extend(frequencies_of(modular_problem, [jump]))
        return set(seen) == set(order)

    agf.alternating_gradient_flow(
        modular_problem,
        modular_problem.initialize(12 * len(order), scale=1e-6, seed=0),
        active_time=1e4,
        rtol=1e-6,
        max_jumps=40,
        callback=all_seen,
    )
    assert tuple(dict.fromkeys(seen)) == order


def test_the_random_templates_are_of_every_kind():
    kinds = {(len(t) % 2, len(t) // 2 in order and len(t) % 2 == 0) for t, order in map(random_template, range(20))}
    assert kinds == {(0, False), (0, True), (1, False)}


def test_theory_stands_beside_a_run_frequency_by_frequency():
    """Several neurons serve one frequency: what they do together is the feature's one jump."""
    template = np.fft.irfft(np.array([0, 10.0, 0, 5.0, 0, 2.5, 0, 0, 0, 0, 0]), n=20)
    problem = agf.ModularAddition(template)
    start = problem.initialize(18, 1e-2, seed=0)
    path = agf.alternating_gradient_flow(problem, start, active_time=100, rtol=1e-6, loss_tol=1e-4)
    found = agf.compare(path, problem.theory(start))
    assert len(found.matches) == 3 and not found.truth_only
    # 1e-4 in 2L/p is 1e-3 in L, of L(0) = 6.5625.
    assert found.max_level_error < 1e-3 / 6.5625
    assert found.matches[0].time_error > 0.0 and np.isnan(found.matches[1].time_error)
    assert found.path_total == len(path.jumps) and "3 jumps correspond" in repr(found)
