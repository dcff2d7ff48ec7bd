"""Modular addition, p = 20: the levels of the paper's experiment."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import (
    MODULAR_PERIOD,
    MODULAR_SPECTRUM,
    modular_data,
    modular_plateau,
    modular_template,
)
from support.runs import ends, modular, modular_run


def test_template_and_plateau_formula():
    """Parseval: with nothing learned 2L/p is the template's mean square, (2/p^2) sum |x_k|^2 = 0.65625."""
    template = modular_template()
    assert abs(template.sum()) <= 1e-12 * np.sqrt(MODULAR_PERIOD) * np.linalg.norm(template)
    spectrum = np.abs(np.fft.rfft(template))
    for k, modulus in MODULAR_SPECTRUM.items():
        assert abs(spectrum[k] - modulus) <= 1e-12 * modulus
    zero = np.zeros((1, 60))
    np.testing.assert_allclose(2 * modular().loss(zero) / MODULAR_PERIOD, modular_plateau(()), rtol=1e-12)
    np.testing.assert_allclose(
        [modular_plateau(f) for f in ((), (1,), (1, 3), (1, 3, 5))],
        [0.65625, 0.15625, 0.03125, 0],
    )


def test_utility_is_maximised_by_cosines_at_the_dominant_frequency(verb_backend):
    """Theorem 5.1: max U = sqrt(2p/27) |x_1|^3 / p^2, reached by aligned cosines, and nowhere exceeded."""
    period = MODULAR_PERIOD
    best = np.sqrt(2 * period / 27) * MODULAR_SPECTRUM[1] ** 3 / period**2
    wave = np.cos(2 * np.pi * np.arange(period) / period)
    row = np.concatenate([wave, wave, wave])
    row /= np.linalg.norm(row)
    _, Y = modular_data()
    np.testing.assert_allclose(modular().utility(row[None], Y)[0], best, rtol=1e-12)
    directions = np.random.default_rng(0).standard_normal((4000, 3 * period))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert modular().utility(directions, Y).max() <= best
    # With the rates adapted to the norms neurons align before they grow: the first jump comes from that maximum.
    problem = modular()
    path = agf.alternating_gradient_flow(
        problem,
        problem.initialize(18, scale=1e-30, seed=0),
        adaptive_rate=True,
        max_jumps=1,
        active_time=1.0,
        backend=verb_backend,
    )
    jump = path.jumps[0]
    np.testing.assert_allclose(jump.utility, best, rtol=1e-8)
    np.testing.assert_allclose(jump.alignment, 1, rtol=1e-8)


def test_first_jump_respects_the_lower_bound(verb_backend):
    """No neuron can beat (1/max|theta(0)| - 1)/(3 U*)."""
    problem = modular()
    start = problem.initialize(18, scale=1e-2, seed=0)
    best = np.sqrt(2 * MODULAR_PERIOD / 27) * MODULAR_SPECTRUM[1] ** 3 / MODULAR_PERIOD**2
    path = modular_run(verb_backend, max_jumps=None if verb_backend != "numpy" else 2)
    assert path.jumps[0].time >= (1 / np.exp(start.log_norm.max()) - 1) / (3 * best)


def test_first_levels(verb_backend):
    """2L/p after the first three jumps, active_time = 100."""
    path = modular_run(verb_backend, max_jumps=None if verb_backend != "numpy" else 3)
    np.testing.assert_allclose(ends(path)[:3], [0.59959, 0.40936, 0.28390], rtol=0, atol=2e-5)
    np.testing.assert_allclose(2 * path.loss[0] / MODULAR_PERIOD, modular_plateau(()), rtol=1e-12)
    np.testing.assert_allclose(path.loss[1:], [jump.loss_after for jump in path.jumps], rtol=1e-14)
    assert all(jump.loss_before > jump.loss_after for jump in path.jumps)
    assert np.all(np.diff(path.time) >= 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whole_run(seed, threads):
    """Frequency 1 is done at the fifth jump, whatever the seed; the run goes on to 2L/p = 1e-4.

    Time belongs to bench; here a run that is far too slow must show, so four times the 3 s asked of one core.
    """
    threads(1)
    path = modular_run("cpp", seed=seed)
    assert abs(ends(path)[4] - 0.15626) <= 1e-4
    assert path.status == "loss_tol" and ends(path)[-1] <= 1e-4
    assert path.stats["seconds"] <= 12
    assert path.conserved_drift <= 1e-4  # at rtol 1e-6; at the default, 1e-8 is asserted in test_conservation


def test_levels_pass_the_plateaus_of_the_theorem():
    """Frequencies are learned in the order of their moduli: a level near each plateau, none skipped.

    At active_time = 100 the valley of a plateau is followed to about 1e-4 in 2L/p.
    """
    levels = ends(modular_run("cpp"))
    for done in ((1,), (1, 3)):
        assert np.abs(levels - modular_plateau(done)).min() <= 1e-4


def test_active_phase_work(verb_backend):
    """Two neurons, t = 100, rtol 1e-6: explicit RK45 takes 366,200 evaluations; at most 2,000 are allowed.

    The second jump's phase by itself: the state that the first jump left and the newcomer at norm 1, both active.
    """
    first, second = modular_run(verb_backend, max_jumps=2).jumps
    before = modular_run(verb_backend, max_jumps=1).state
    direction = np.stack([before.direction[first.neuron], second.direction])
    start = agf.State(direction, [before.log_norm[first.neuron], 0.0], active=[True, True])
    path = agf.alternating_gradient_flow(modular(), start, active_time=100.0, rtol=1e-6, backend=verb_backend)
    assert path.status == "all_active" and len(path.jumps) == 0
    assert abs(2 * modular().loss(path.state) / MODULAR_PERIOD - 0.40936) <= 2e-5
    assert sum(path.stats["active_time"]) == pytest.approx(100, rel=1e-9)
    assert path.stats["evaluations"] <= 2000


def test_longer_active_phases_go_further_down_the_valley():
    """Second level .409356 at active_time 100, .409170 at 1e4: limits at infinity are said to be such."""
    problem = modular()
    start = problem.initialize(18, scale=1e-2, seed=0)
    for active_time, level in ((100.0, 0.409356), (1e4, 0.409170)):
        path = agf.alternating_gradient_flow(problem, start, max_jumps=2, active_time=active_time, rtol=1e-6)
        assert abs(ends(path)[1] - level) <= 2e-6
        assert not path.jumps[1].converged


def test_phases_of_the_template_do_not_matter(verb_backend):
    """Shifting the phase of a frequency is an orthogonal change of inputs and outputs: from the rotated start, the
    same run."""
    phases = {1: 0.7, 3: -1.1, 5: 2.0}
    _, Y = modular_data()
    turned_X, turned_Y = modular_data(phases=phases)
    # The circulant that turns the template, on the span of its frequencies, and the identity elsewhere.
    period, k = MODULAR_PERIOD, np.fft.fftfreq(MODULAR_PERIOD, 1 / MODULAR_PERIOD)
    turn = np.array([np.exp(1j * np.sign(f) * phases.get(abs(round(f)), 0.0)) for f in k])
    circulant = np.fft.ifft(turn[:, None] * np.fft.fft(np.eye(period), axis=0), axis=0).real
    np.testing.assert_allclose(turned_Y, Y @ circulant.T, atol=1e-13)
    start = modular().initialize(18, scale=1e-2, seed=0)
    blocks = start.direction.reshape(18, 3, period)
    turned = agf.State(np.einsum("ij,hbj->hbi", circulant, blocks).reshape(18, -1), start.log_norm)
    problem = agf.Dense(turned_X, turned_Y, activation="square")
    plain, other = (
        agf.alternating_gradient_flow(p, s, max_jumps=1, active_time=100.0, rtol=1e-6, backend=verb_backend)
        for p, s in ((modular(), start), (problem, turned))
    )
    assert plain.jumps[0].neuron == other.jumps[0].neuron
    np.testing.assert_allclose(other.jumps[0].time, plain.jumps[0].time, rtol=1e-5)
    np.testing.assert_allclose(other.jumps[0].loss_after, plain.jumps[0].loss_after, rtol=1e-5)
