"""The gradient flow of diagonal networks: against the reference, plain integration, and its limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import agf_fast as agf
from support.diagonal import five_dimensional, limit, order, random_data, two_dimensional

# In general position by a margin: at 1e-1000 plateaus are then longer than the transitions between them, some 40 units
# of x against gap * tau * 2302.
CLEAR_GAP = 0.04
CLEAR = 20


def flow(problem, digits, t_end, **options):
    return agf.gradient_flow(
        problem, problem.initialize(log_scale=-digits * np.log(10.0)), t_end, clock="scaled", **options
    )


def small_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 4))
    return X, X @ np.array([2.0, -1.0, 0.5, 0.0]) + 0.3 * rng.standard_normal(12)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_flow_equals_plain_integration_of_the_layers(depth, adaptive):
    """Explicit integration of du_l/dt = -dL/du_l itself, from layers of all kinds: equal, balanced, of random signs.

    Errors of theta are within 0.1 rtol per step times what a flow near an unstable direction makes of them.
    """
    X, y = small_data()
    problem = agf.Diagonal(X, y, depth)
    rng = np.random.default_rng(1)
    theta = problem.initialize(0.03).parameters()
    theta[2] = 0.1 * rng.standard_normal(depth)
    theta[3] = 0.05
    theta[3, 0] = -0.05
    times = np.array([0.0, 1.0, 3.0, 10.0, 20.0, 40.0]) * {2: 1, 3: 8, 4: 100}[depth]

    def rhs(_, z):
        u = z.reshape(theta.shape)
        rate = np.linalg.norm(u, axis=1, keepdims=True) ** (2 - depth) if adaptive else 1.0
        return (problem.utility_gradient(u) * rate).ravel()

    oracle = solve_ivp(rhs, times[[0, -1]], theta.ravel(), method="DOP853", rtol=1e-12, atol=1e-14, t_eval=times)
    truth = agf.gradient_flow(problem, theta, times[-1], save_at=times, adaptive_rate=adaptive)
    for k, state in enumerate(truth.states):
        np.testing.assert_allclose(state.parameters().ravel(), oracle.y[:, k], atol=2e-8)
    # A run continued goes on as if it had not stopped.
    first = agf.gradient_flow(problem, theta, times[3], save_at=[times[3]], adaptive_rate=adaptive)
    rest = agf.gradient_flow(problem, first.state, times[-1], save_at=times[4:], adaptive_rate=adaptive)
    np.testing.assert_allclose(rest.loss, truth.loss[4:], rtol=1e-8)


@pytest.mark.parametrize(("depth", "digits"), [(2, 0.5), (2, 10), (2, 12), (2, 20), (2, 1000), (3, 1), (3, 6)])
def test_flow_equals_the_reference(depth, digits):
    """Scales at which everybody is felt from the start, some are, and nobody is."""
    problem = agf.Diagonal(*two_dimensional(), depth)
    times = np.linspace(0.0, 4.0 if depth == 2 else 9.0, 9)
    ours = flow(problem, digits, times[-1], save_at=times, rtol=1e-6)
    oracle = flow(problem, digits, times[-1], save_at=times, rtol=1e-6, backend="numpy")
    np.testing.assert_allclose(ours.loss, oracle.loss, atol=1e-6 * ours.loss[0])
    for state, expected in zip(ours.states, oracle.states, strict=True):
        np.testing.assert_allclose(state.log_norm, expected.log_norm, atol=1e-5)
        np.testing.assert_allclose(state.direction, expected.direction, atol=1e-5)


@pytest.mark.parametrize("depth", [2, 3])
def test_more_inputs_felt_than_samples(depth):
    """Then steps are solved in the space of the samples."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((5, 12))
    problem = agf.Diagonal(X, X @ np.where(np.arange(12) < 2, 1.0, 0.0), depth)
    times = np.linspace(0.0, 4.0 if depth == 2 else 9.0, 6)
    ours = flow(problem, 1, times[-1], save_at=times, rtol=1e-6)
    oracle = flow(problem, 1, times[-1], save_at=times, rtol=1e-6, backend="numpy")
    for state, expected in zip(ours.states, oracle.states, strict=True):
        np.testing.assert_allclose(state.log_norm, expected.log_norm, atol=1e-5)


def test_closed_form_of_one_input():
    """L = (beta - b)^2/2, beta = alpha^2 sinh 2z: dz/dt = b - alpha^2 sinh 2z is solved by quadrature in z."""
    from scipy.integrate import quad

    alpha, b = 1e-3, 1.5
    problem = agf.Diagonal(np.ones((1, 1)), np.array([b]))
    for part in (0.01, 0.5, 0.99):
        z = 0.5 * np.arcsinh(part * b / alpha**2)
        t = quad(lambda x: 1.0 / (b - alpha**2 * np.sinh(2 * x)), 0.0, z, epsabs=1e-13, epsrel=1e-13)[0]
        truth = agf.gradient_flow(problem, problem.initialize(alpha), t)
        np.testing.assert_allclose(problem.coefficients(truth.state)[0], part * b, rtol=1e-8)


@pytest.mark.parametrize("data", [two_dimensional, five_dimensional])
def test_flow_approaches_the_path(data):
    """diagonal-2d and diagonal-5d to 1e-10000: the same jumps, the error of each time 1/ln(1/alpha) times a constant,
    and no more work than at 1e-100."""
    problem, exact = agf.Diagonal(*data()), limit(*data())
    errors, work = [], []
    for digits in (100, 1000, 10000):
        truth = flow(problem, digits, 1.1 * exact.time[-1])
        found = agf.compare(truth, exact)
        assert len(found.matches) == len(exact.jumps) and not found.path_only
        assert found.max_level_error <= 1e-9
        errors.append([match.time_error * digits * np.log(10.0) for match in found.matches])
        work.append(truth.stats["evaluations"])
    np.testing.assert_allclose(errors[1], errors[2], rtol=0.05, atol=0.01)
    assert max(work) <= 1.1 * min(work)
    assert flow(problem, 10, 1.1 * exact.time[-1]).stats["evaluations"] >= work[-1] / 1.5


def test_flow_approaches_random_paths():
    """Relative time error x ln(1/alpha), its largest over the jumps: from 1e-1000 to 1e-10000 within 5 %. So for each
    jump on that scale."""
    done = 0
    for seed in range(200):
        X, y = random_data(seed)
        problem, exact = agf.Diagonal(X, y), limit(X, y)
        if len(exact.jumps) > 12 or min(jump.gap for jump in exact.jumps) < CLEAR_GAP:
            continue
        errors = []
        for digits in (1000, 10000):
            truth = flow(problem, digits, 1.01 * exact.time[-1] + 1.0, rtol=1e-6, loss_tol=0.0)
            found = agf.compare(truth, exact)
            assert len(found.matches) == len(exact.jumps) and not found.path_only, seed
            assert [match.path_index for match in found.matches] == list(range(len(exact.jumps)))
            errors.append(np.array([match.time_error for match in found.matches]) * digits * np.log(10.0))
        largest = np.abs(errors).max(axis=1)
        np.testing.assert_allclose(largest[0], largest[1], rtol=0.05, err_msg=str(seed))
        np.testing.assert_allclose(errors[0], errors[1], atol=0.05 * largest[1], err_msg=str(seed))
        done += 1
        if done == CLEAR:
            break
    assert done == CLEAR


def test_deep_flow_approaches_the_path_in_both_clocks():
    """Depth 3: physical times of the order of 1/alpha leave double at 1e-400, and the scaled clock goes on."""
    problem = agf.Diagonal(*small_data(), depth=3)
    exact = limit(*small_data(), depth=3)
    for digits, accuracy in ((6, 1e-3), (150, 1e-8), (400, 1e-8)):
        truth = flow(problem, digits, 1.1 * exact.time[-1], loss_tol=0.0, rtol=1e-6)
        found = agf.compare(truth, exact)
        assert len(found.matches) == len(exact.jumps) and found.max_time_error <= accuracy
        assert np.isfinite(truth.time[-1]) == (digits < 300)
        assert (np.diff(truth.scaled_time) >= 0).all() and (np.diff(truth.time[np.isfinite(truth.time)]) >= 0).all()


def test_flow_converges_and_the_loss_never_rises():
    """Log-norms at given times, on plateaus and in drops, within 10 rtol; the record's loss falls to rounding."""
    problem, exact = agf.Diagonal(*random_data(2)), limit(*random_data(2))
    times = np.linspace(0.0, 1.1 * exact.time[-1], 200)
    fine = flow(problem, 30, times[-1], rtol=1e-10, save_at=times)
    for rtol in (1e-5, 1e-7, 1e-9):
        coarse = flow(problem, 30, times[-1], rtol=rtol, save_at=times)
        for state, expected in zip(coarse.states, fine.states, strict=True):
            np.testing.assert_allclose(state.log_norm, expected.log_norm, atol=10 * rtol)
        run = flow(problem, 30, times[-1], rtol=rtol)
        assert (np.diff(run.loss) <= 1e-13 * run.loss[0]).all()


def test_theta_follows_what_is_conserved():
    """u^2 - v^2 = 2 alpha^2 to rounding of u and v, in the lazy regime and in the rich one."""
    problem = agf.Diagonal(*two_dimensional())
    for alpha in (0.9, 1e-2, 1e-6):
        truth = agf.gradient_flow(problem, problem.initialize(alpha), 50.0, save_at=np.linspace(0.0, 50.0, 11))
        for state in truth.states:
            layers = problem.split(state.parameters())
            drift = layers["u"] ** 2 - layers["v"] ** 2 - 2 * alpha**2
            assert np.abs(drift).max() <= 1e-14 * np.exp(2 * state.log_norm).max()


def test_order_of_the_flow_is_that_of_alternating_gradient_flow():
    problem = agf.Diagonal(*random_data(5))
    start = problem.initialize(log_scale=-2302.6)
    path = agf.alternating_gradient_flow(problem, start)
    assert order(path) == order(limit(*random_data(5)))
    truth = agf.gradient_flow(problem, start, 1.05 * path.scaled_time[-1], clock="scaled", rtol=1e-6)
    found = agf.compare(path, truth)
    assert len(found.matches) >= len(path.jumps) - 3
