"""The first plateau, where everything is known in closed form: who activates, when, in which direction."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.activations import BY_LABEL
from support.plateau import LinearNeuron

# Physical time of a jump is located to 1e-8 relative.
TIME = 1e-8
LOG_SCALES = [np.log(1e-2), np.log(1e-16), np.log(1e-300), -23025.85]


@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_identity_neurons_grow_as_the_matrix_exponential(verb_backend, log_scale):
    """sigma(z) = z: the norm is sqrt(sum_j p_j^2 e^(2 s_j t) + q_j^2 e^(-2 s_j t) + rest), for every neuron by
    itself."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    problem = agf.Dense(X, Y, activation="identity")
    start = problem.initialize(6, log_scale=log_scale, seed=2)
    M = Y.T @ X / len(X)
    horizon = 10 * -log_scale / np.linalg.norm(M, 2)
    norms = start.log_norm
    times = [
        LinearNeuron(row[:4], row[4:], norm).crossing(M, horizon)
        for row, norm in zip(start.direction, norms, strict=True)
    ]
    path = agf.alternating_gradient_flow(problem, start, max_jumps=1, backend=verb_backend)
    jump = path.jumps[0]
    assert jump.neuron == np.argmin(times)
    np.testing.assert_allclose(jump.time, min(times), rtol=TIME)
    # eta is the mean of c_i = -ln|theta_i(0)|.
    np.testing.assert_allclose(path.log_eta, np.log(np.mean(-norms)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jump.scaled_time, jump.time / np.mean(-norms), rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(jump.direction), 1, rtol=1e-14)
    theta = jump.direction[None]
    np.testing.assert_allclose(jump.utility, problem.utility(theta, Y)[0], rtol=1e-12)
    gradient = problem.utility_gradient(theta, Y)[0]
    np.testing.assert_allclose(jump.alignment, gradient @ theta[0] / np.linalg.norm(gradient), rtol=1e-12)
    assert jump.loss_before == pytest.approx(problem.loss(np.zeros((1, 7))), rel=1e-14)


def aligned(k):
    """f = a w^k on one sample x = y = 1: U = a w^k on the circle is largest at w^2 : a^2 = k : 1."""
    direction = np.sqrt(np.array([[k, 1.0]]) / (k + 1))
    return direction, direction[0, 1] * direction[0, 0] ** k


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("log_scale", [-1.0, *LOG_SCALES])
@pytest.mark.parametrize("adaptive", [False, True])
def test_aligned_neuron(verb_backend, k, log_scale, adaptive):
    """t = c/(kappa U), c = -ln|theta| (kappa = 2, or the adaptive clock), (|theta|^(2-kappa) - 1)/(kappa - 2)
    otherwise."""
    one = np.ones((1, 1))
    kappa = k + 1
    problem = agf.Dense(
        one,
        one,
        **({"activation": "identity"} if k == 1 else {"activation": "power", "exponent": k}),
    )
    direction, utility = aligned(k)
    start = agf.State(direction, np.array([log_scale]))
    path = agf.alternating_gradient_flow(problem, start, max_jumps=1, adaptive_rate=adaptive, backend=verb_backend)
    jump = path.jumps[0]
    if kappa == 2 or adaptive:
        log_c = np.log(-log_scale)
    else:
        # c = (e^((2 - kappa) lambda) - 1)/(kappa - 2), by its logarithm: the power itself may leave double.
        exponent = (kappa - 2) * -log_scale
        log_c = exponent + np.log1p(-np.exp(-exponent)) - np.log(kappa - 2)
    np.testing.assert_allclose(jump.utility, utility, rtol=1e-12)
    np.testing.assert_allclose(path.log_eta, log_c, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jump.scaled_time, 1 / (kappa * utility), rtol=TIME)
    with np.errstate(over="ignore"):
        expected = np.exp(log_c) / (kappa * utility)
    if np.isinf(expected):
        assert jump.time == np.inf
    else:
        np.testing.assert_allclose(jump.time, expected, rtol=TIME)


def square_time(w, a):
    """dw/dt = 2 a w, da/dt = w^2 keep C = 2a^2 - w^2, so da/dt = 2a^2 - C; norm 1 is at a = sqrt((1 + C)/3)."""
    C = 2 * a * a - w * w
    end = np.sqrt((1 + C) / 3)
    b = np.sqrt(abs(C) / 2)
    if C < 0:
        return (np.arctan(end / b) - np.arctan(a / b)) / (2 * b)
    if a < b:
        return np.inf  # a rises to -b and w dies: inert
    return np.log((end - b) * (a + b) / ((end + b) * (a - b))) / (4 * b)


@pytest.mark.parametrize("scale", [0.5, 1e-2, 1e-6])
def test_square_neurons_on_one_sample(verb_backend, scale):
    one = np.ones((1, 1))
    problem = agf.Dense(one, one, activation="square")
    theta = scale * np.random.default_rng(4).uniform(-0.7, 0.7, (7, 2))
    times = [square_time(abs(w), a) for w, a in theta]
    assert np.isinf(times).any() and np.isfinite(times).sum() >= 3  # both fates occur in this draw
    path = agf.alternating_gradient_flow(problem, theta, max_jumps=1, backend=verb_backend)
    assert path.jumps[0].neuron == np.argmin(times)
    np.testing.assert_allclose(path.jumps[0].time, min(times), rtol=TIME)


@pytest.mark.parametrize("target", [0.7, -1.3])
@pytest.mark.parametrize("scale", [1e-2, 1e-12])
def test_relu_neurons_on_one_sample(verb_backend, target, scale):
    """Only z = w.x moves: dz/dt = a y, da/dt = z y (|x| = 1) while z > 0; a neuron with z <= 0 is dead,
    one with z + a sign(y) < 0 dies on the way."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal(3)
    x /= np.linalg.norm(x)
    problem = agf.Dense(x[None], np.array([[target]]), activation="relu")
    theta = scale * rng.standard_normal((12, 4)) / 2
    times = []
    for row in theta:
        z, a = row[:3] @ x, row[3]
        alive = z > 0 and z + a * np.sign(target) > 0
        times.append(LinearNeuron(row[:3], row[3:]).crossing(target * x[None], 1e3) if alive else np.inf)
    assert np.isinf(times).any() and np.isfinite(times).any()
    path = agf.alternating_gradient_flow(problem, theta, backend=verb_backend)
    first = path.jumps[0]
    assert first.neuron == np.argmin(times)
    np.testing.assert_allclose(first.time, min(times), rtol=TIME)
    # One neuron of the right sign fits one sample.
    assert len(path.jumps) == 1 and path.status == "loss_tol"
    assert path.loss[-1] <= 1e-10 * path.loss[0]


def test_dead_neurons_are_inert(verb_backend):
    """y > 0 and every a < 0 with z < |a|: nobody can grow, and the run says so instead of waiting."""
    problem = agf.Dense(np.ones((1, 1)), np.ones((1, 1)), activation="relu")
    theta = 1e-3 * np.array([[-1.0, 1.0], [-0.5, -1.0], [0.2, -0.9]])
    path = agf.alternating_gradient_flow(problem, theta, backend=verb_backend)
    assert len(path.jumps) == 0 and path.status == "inert"
    np.testing.assert_array_equal(path.loss, [0.5])


def test_saddle_of_utility_is_not_inert(verb_backend):
    """U = 0 at (w, a) = (1, 0) for the identity, but a tangent direction grows: da/dt = y w."""
    problem = agf.Dense(np.ones((1, 1)), np.ones((1, 1)), activation="identity")
    start = agf.State(np.array([[1.0, 0.0]]), np.array([-5.0]))
    path = agf.alternating_gradient_flow(problem, start, max_jumps=1, backend=verb_backend)
    # norm^2 = e^(-10) cosh(2t)
    np.testing.assert_allclose(path.jumps[0].time, 0.5 * np.arccosh(np.exp(10.0)), rtol=TIME)


def test_leading_term_below_norm_one(verb_backend):
    """tanh, elu, erf, silu, gelu: up to norm 1 a dormant neuron sees sigma'(0) z, so its jump is that of a scaled
    identity."""
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((25, 3)), rng.standard_normal((25, 2))
    for label in ("tanh", "gelu", "elu", "silu", "erf"):
        activation = BY_LABEL[label]
        slope = float(activation(np.zeros(1), 1)[0])
        problem = agf.Dense(X, Y, activation=label)
        start = problem.initialize(4, scale=1e-3, seed=0)
        M = slope * Y.T @ X / len(X)
        times = [
            LinearNeuron(row[:3], row[3:], norm).crossing(M, 1e4)
            for row, norm in zip(start.direction, start.log_norm, strict=True)
        ]
        path = agf.alternating_gradient_flow(problem, start, max_jumps=1, backend=verb_backend)
        assert path.jumps[0].neuron == np.argmin(times)
        np.testing.assert_allclose(path.jumps[0].time, min(times), rtol=TIME)


def test_exact_ties_activate_together(verb_backend):
    """Twins by symmetry cross at the same time; both leave the dormant set at norm 1 in one jump."""
    one = np.ones((1, 1))
    for name in ("square", "relu"):
        problem = agf.Dense(one, one, activation=name)
        direction, _ = aligned(2 if name == "square" else 1)
        start = agf.State(np.repeat(direction, 3, axis=0), np.array([-4.0, -4.0, -5.0]))
        path = agf.alternating_gradient_flow(problem, start, max_jumps=1, backend=verb_backend)
        assert sorted(path.jumps[0].activated) == [0, 1]


def test_activation_window(verb_backend):
    """Neurons within the window (in lambda) go too, at their own norm."""
    one = np.ones((1, 1))
    problem = agf.Dense(one, one, activation="relu")
    direction, _ = aligned(1)
    # Same direction and rate: lambdas keep their distances 0.1 and 1.
    start = agf.State(np.repeat(direction, 3, axis=0), np.array([-4.0, -4.1, -5.0]))
    alone = agf.alternating_gradient_flow(problem, start, max_jumps=1, backend=verb_backend)
    assert list(alone.jumps[0].activated) == [0]
    wide = agf.alternating_gradient_flow(problem, start, max_jumps=1, activation_window=0.5, backend=verb_backend)
    assert sorted(wide.jumps[0].activated) == [0, 1]


def test_no_overflow_where_physical_time_is(verb_backend):
    """kappa = 3 at 10^-10000: the physical clock is inf, the scaled clock says who and when, and jumps go on after
    it."""
    rng = np.random.default_rng(5)
    X, Y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    problem = agf.Dense(X, Y, activation="square")
    path = agf.alternating_gradient_flow(
        problem,
        problem.initialize(5, log_scale=-23025.85, seed=1),
        max_jumps=3,
        active_time=10.0,
        backend=verb_backend,
    )
    assert len(path.jumps) == 3
    assert all(jump.time == np.inf for jump in path.jumps)
    scaled = np.array([jump.scaled_time for jump in path.jumps])
    assert np.all(np.isfinite(scaled)) and np.all(np.diff(scaled) >= 0) and scaled[0] > 0
    assert np.isfinite(path.log_eta)
