"""Whole runs whose every jump is known: orthogonal samples under ReLU, and linear networks."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.plateau import LinearNeuron
from support.problems import linear_data


def orthogonal_staircase(X, y, theta, horizon=1e4):
    """AGF in closed form for orthonormal inputs, y > 0, a > 0 and ReLU.

    A neuron sees the samples S with w.x_k > 0 and never changes S: z_k rises for k in S since a > 0, and stands still
    otherwise. Between jumps it is linear with M = (1/n) sum_S r_k x_k^T; at a jump the active neuron fits all of its
    S (y > 0 is reachable with a > 0, z > 0), so the residual vanishes there: Maennel's extremal directions, one by one.
    """
    n, d = X.shape
    neurons = [LinearNeuron(row[:d], row[d:]) for row in theta]
    sees = theta[:, :d] @ X.T > 0
    residual, time, jumps = y.copy(), 0.0, []
    dormant = set(range(len(theta)))
    while True:
        drives = {i: (residual * sees[i])[None] @ X / n for i in dormant}
        waits = {i: neurons[i].crossing(M, horizon) for i, M in drives.items() if np.any(M)}
        winner = min(waits, key=waits.get, default=None)
        if winner is None or np.isinf(waits[winner]):
            return jumps, residual
        for i, M in drives.items():
            neurons[i].advance(M, waits[winner])
        time += waits[winner]
        dormant.remove(winner)
        direction = np.concatenate([neurons[winner].w, neurons[winner].a])
        residual = np.where(sees[winner], 0.0, residual)
        jumps.append((winner, time, direction, 0.5 * np.mean(residual**2)))


@pytest.mark.parametrize("scale", [1e-3, 1e-8])
def test_relu_on_orthogonal_samples(verb_backend, scale):
    rng = np.random.default_rng(12)
    n = 6
    X, _ = np.linalg.qr(rng.standard_normal((n, n)))
    y = np.array([1.0, 1.7, 0.6, 2.3, 1.2, 0.9])
    theta = scale * rng.standard_normal((5, n + 1)) / np.sqrt(n + 1)
    theta[:, n] = np.abs(theta[:, n])
    expected, _ = orthogonal_staircase(X, y, theta)
    assert len(expected) >= 3
    problem = agf.Dense(np.ascontiguousarray(X), y, activation="relu")
    path = agf.alternating_gradient_flow(problem, theta, max_jumps=len(expected), loss_tol=1e-12, backend=verb_backend)
    assert [jump.neuron for jump in path.jumps] == [neuron for neuron, *_ in expected]
    first = path.jumps[0]
    np.testing.assert_allclose(first.time, expected[0][1], rtol=1e-8)
    np.testing.assert_allclose(first.direction, expected[0][2], atol=1e-7)
    for jump, (_, time, _, level) in zip(path.jumps, expected, strict=True):
        # An active phase ends at |grad L|^2 t <= 1e-8 L, that is with residuals of about 1e-4 left on the samples it
        # fits: they turn the others' clocks by that much, and the level by its square.
        np.testing.assert_allclose(jump.time, time, rtol=1e-3)
        np.testing.assert_allclose(jump.loss_after, level, atol=1e-6 * path.loss[0])


@pytest.mark.parametrize("scales", [(1e-12, 1e-16), (1e-30, 1e-50), (1e-100, 1e-300)])
def test_linear_network_learns_singular_values_in_order(verb_backend, scales):
    """Identity activation, E[x x^T] = 1, singular values (1, 1/2, 1/4): jumps at (1, 2, 4) ln(1/scale).

    Random starts add amounts that do not depend on the scale, so two scales are compared. What is left is the residual
    at which an active phase ends (1e-4 by the definition of equilibrium), acting over plateaus of length ln(1/scale).
    Below 1e-16 a unit vector in double has forgotten the later directions: they are carried apart, or the run says
    that it could not.
    """
    singular = np.array([1.0, 0.5, 0.25])
    levels = 0.5 * np.array([np.sum(singular[k:] ** 2) for k in range(4)])
    problem = agf.Dense(*linear_data(singular), activation="identity")
    runs = []
    for scale in scales:
        path = agf.alternating_gradient_flow(problem, problem.initialize(3, scale=scale, seed=5), backend=verb_backend)
        assert len(path.jumps) == 3 and path.status in ("loss_tol", "all_active")
        np.testing.assert_allclose(path.loss, levels, atol=1e-6 * levels[0])
        runs.append(path)
    first, second = (np.array([jump.time for jump in path.jumps]) for path in runs)
    rates = (second - first) / np.log(scales[0] / scales[1])
    if verb_backend == "numpy" and scales[0] < 1e-16:
        assert all("direction_unresolved" in path.notes for path in runs)
        assert abs(rates[0] - 1) <= 1e-8
        return
    assert all("direction_unresolved" not in path.notes for path in runs)
    np.testing.assert_allclose(rates, [1, 2, 4], rtol=2e-3)


def test_active_phase_of_one_neuron_ends_on_the_conserved_hyperbola(verb_backend):
    """f = a w x with E x^2 = 1: the end is w a = s on a^2 - w^2 = its value when the neuron reached norm 1."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((15, 1))
    x /= np.sqrt(np.mean(x**2))
    s = 2.5
    problem = agf.Dense(x, s * x, activation="identity")
    start = agf.State(np.array([[0.96, -0.28]]), np.array([-6.0]))
    path = agf.alternating_gradient_flow(problem, start, loss_tol=1e-22, backend=verb_backend)
    w, a = path.jumps[0].direction
    conserved = a**2 - w**2
    end_w, end_a = np.exp(path.state.log_norm[0]) * path.state.direction[0]
    assert abs(end_w * end_a - s) <= 2 * np.sqrt(2 * path.loss[-1]) + 1e-9
    norm_square = end_w**2 + end_a**2
    assert abs(end_a**2 - end_w**2 - conserved) <= 1e-8 * norm_square
    assert path.conserved_drift <= 1e-8


@pytest.mark.parametrize("log_scale", [np.log(1e-2), np.log(1e-300), -23025.85])
def test_flow_of_one_linear_neuron_is_logistic(verb_backend, log_scale):
    """Balanced a = w: p = w a obeys dp/dt = 2 p (s - p), p = s / (1 + (s/p0 - 1) e^(-2 s t)), L = 1/2 (s - p)^2."""
    s, rtol = 1.5, 1e-9
    one = np.ones((1, 1))
    problem = agf.Dense(one, s * one, activation="identity")
    start = agf.State(np.full((1, 2), np.sqrt(0.5)), np.array([log_scale]))
    log_p0 = 2 * log_scale - np.log(2)
    middle = (np.log(s) - log_p0) / (2 * s)
    times = np.sort(np.concatenate([[0.0, 0.5 * middle], middle + np.linspace(-2, 5, 15)]))
    path = agf.gradient_flow(
        problem,
        start,
        times[-1],
        save_at=times,
        loss_tol=0.0,
        rtol=rtol,
        backend=verb_backend,
    )
    np.testing.assert_array_equal(path.time, times)
    exponent = log_p0 - np.log(s) + 2 * s * times
    # (s - p)/s = 1/(1 + e^exponent); p0/s is far below rounding beside 1 except at 1e-2, where it enters the odds.
    odds = np.exp(np.minimum(exponent, 700)) / -np.expm1(log_p0 - np.log(s))
    residual = s / (1 + odds)
    # An error rtol of lambda's rate over the plateau moves the odds by rtol * |2 log_scale|, relative; p itself is
    # known to rtol, and the residual s - p, which may be much smaller, no better than that. A factor 10 for the
    # global error.
    bound = 10 * rtol * (s + residual * abs(2 * log_scale))
    assert np.all(np.abs(np.sqrt(2 * path.loss) - residual) <= bound)
    assert np.all(np.diff(path.loss) <= 1e-15 * path.loss[0])


@pytest.mark.parametrize("log_scale", [np.log(0.3), np.log(1e-2), np.log(1e-100)])
def test_flow_of_one_aligned_square_neuron(verb_backend, log_scale):
    """rho = |theta| obeys d rho/dt = 3 u rho^2 (1 - u rho^3), u = 2/(3 sqrt 3), in partial fractions of 1/(rho^2 (1 -
    u rho^3))."""
    from scipy.integrate import quad

    u = 2 / (3 * np.sqrt(3))
    one = np.ones((1, 1))
    problem = agf.Dense(one, one, activation="square")
    start = agf.State(np.sqrt([[2 / 3, 1 / 3]]), np.array([log_scale]))
    rho0, rhos = np.exp(log_scale), np.array([0.5, 0.8, 1.0, 1.2, 1.3])
    # 1/(rho^2 (1 - u rho^3)) = 1/rho^2 + u rho/(1 - u rho^3): the first integrates to the plateau, the second is
    # harmless.
    times = np.array(
        [
            (1 / rho0 - 1 / rho + quad(lambda x: u * x / (1 - u * x**3), rho0, rho, epsabs=1e-13)[0]) / (3 * u)
            for rho in rhos
        ]
    )
    path = agf.gradient_flow(problem, start, times[-1], save_at=times, loss_tol=0.0, backend=verb_backend)
    expected = 0.5 * (1 - u * rhos**3) ** 2
    if log_scale > -10:
        # Time enters the loss by d ln L/dt up to about 10; t itself is good to 10 rtol = 1e-8 relative.
        np.testing.assert_allclose(path.loss, expected, rtol=1e-7 * times[-1])
    else:
        # All five times are the same double, 1e100: the drop has no representable times, only its two sides.
        assert np.all(np.diff(times) == 0)
        assert np.all((path.loss >= 0) & (path.loss <= 0.5))
    assert np.all(np.diff(path.time) >= 0)
    assert np.all(np.diff(path.loss) <= 1e-15)
