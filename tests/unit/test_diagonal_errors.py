"""Diagonal networks: bad input is refused by name with advice; degenerate but legal input runs."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 3))
Y = RNG.standard_normal(8)
NAN = X.copy()
NAN[1, 1] = np.nan


def problem(depth=2):
    return agf.Diagonal(X, Y, depth)


def run(**options):
    return agf.alternating_gradient_flow(problem(), problem().initialize(), **options)


# name -> (call, what the message must name)
BAD = {
    "nan": (lambda: agf.Diagonal(NAN, Y), "X"),
    "rows differ": (lambda: agf.Diagonal(X, Y[:-1]), "y"),
    "two targets": (lambda: agf.Diagonal(X, np.ones((8, 2))), "y"),
    "integers": (lambda: agf.Diagonal(np.ones((4, 2), dtype=int), np.ones(4)), "X"),
    "mixed dtypes": (lambda: agf.Diagonal(X, Y.astype(np.float32)), "dtype"),
    "depth 1": (lambda: agf.Diagonal(X, Y, 1), "depth"),
    "depth 2.0": (lambda: agf.Diagonal(X, Y, 2.0), "depth"),
    "scale 0": (lambda: problem().initialize(0.0), "scale"),
    "negative scale": (lambda: problem().initialize(-1.0), "scale"),
    "two scales": (lambda: problem().initialize(0.1, log_scale=-3.0), "log_scale"),
    "theta of another depth": (lambda: problem().loss(np.ones((3, 3))), "theta"),
    "theta of another width": (lambda: problem().loss(np.ones((4, 2))), "theta"),
    "v": (lambda: problem().hessian_vector(np.ones((3, 2)), np.ones((2, 2))), "v"),
    "residual": (lambda: problem().utility(np.ones((3, 2)), np.ones(7)), "residual"),
    "predict": (lambda: problem().predict(np.ones((3, 2)), np.ones((2, 4))), "X"),
    "state of another width": (
        lambda: agf.alternating_gradient_flow(problem(), agf.Diagonal(X[:, :2].copy(), Y).initialize()),
        "state",
    ),
    "state of another depth": (lambda: agf.gradient_flow(problem(), problem(3).initialize(), 1.0), "state"),
    "parameters of another width": (lambda: agf.gradient_flow(problem(), np.ones((4, 2)), 1.0), "state"),
    "active_time": (lambda: run(active_time=10.0), "active_time"),
    "active_time in the limit": (
        lambda: agf.alternating_gradient_flow(problem(), limit=True, active_time=10.0),
        "active_time",
    ),
    "window in the limit": (
        lambda: agf.alternating_gradient_flow(problem(), limit=True, activation_window=1.0),
        "activation_window",
    ),
    "limit and state": (lambda: run(limit=True), "state"),
    "neither": (lambda: agf.alternating_gradient_flow(problem()), "state"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_by_name(name):
    call, argument = BAD[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    assert argument in message and "expected" in message


@pytest.mark.parametrize("change", ["log_norm", "shape"])
def test_exact_variables_that_do_not_fit_are_refused(change):
    path = run(max_jumps=1)
    extra = dict(path.state.extra)
    log_norm = np.array(path.state.log_norm)
    if change == "log_norm":
        log_norm[int(np.argmin(log_norm))] -= 1.0
    else:
        extra["log_reference"] = extra["log_reference"][:-1]
    state = agf.State(path.state.direction, log_norm, path.state.active, path.state.time, path.state.log_eta, extra)
    for call in (
        lambda: agf.alternating_gradient_flow(problem(), state),
        lambda: agf.gradient_flow(problem(), state, path.state.time + 1.0),
    ):
        with pytest.raises(ValueError, match="log_reference"):
            call()


def test_nothing_to_learn(verb_backend):
    flat = agf.Diagonal(X, np.zeros(8))
    for path in (
        agf.alternating_gradient_flow(flat, limit=True, backend=verb_backend),
        agf.alternating_gradient_flow(flat, flat.initialize(), backend=verb_backend),
    ):
        assert len(path.jumps) == 0 and path.status is agf.Status.NOTHING_TO_LEARN
    assert agf.gradient_flow(flat, flat.initialize(), 10.0).loss[-1] <= 1e-30


def test_one_sample_and_one_input():
    path = agf.alternating_gradient_flow(agf.Diagonal(np.array([[2.0, -1.0, 0.0]]), np.array([3.0])), limit=True)
    assert [jump.neuron for jump in path.jumps] == [0] and path.loss[-1] <= 1e-25
    np.testing.assert_allclose(path.time[1], 1.0 / 6.0, rtol=1e-14)


def test_scales_of_one_and_more_are_active_from_the_start():
    """|theta| >= 1 always, since u^2 - v^2 = 2 alpha^2: one active phase to the least-squares loss, and no jump."""
    least = 0.5 * np.mean((Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]) ** 2)
    for alpha in (1.0, 30.0):
        path = agf.alternating_gradient_flow(problem(), problem().initialize(alpha))
        assert len(path.jumps) == 0 and path.status is agf.Status.ALL_ACTIVE
        np.testing.assert_allclose(path.loss[-1], least, rtol=1e-12)
        truth = agf.gradient_flow(problem(), problem().initialize(alpha), 1e3)
        np.testing.assert_allclose(truth.loss[-1], least, rtol=1e-9)


def test_dependent_columns_leave_the_residual_unique():
    """x_3 = x_0 + x_1: beta is not unique, levels and times are; against the reference, and no cycling."""
    wide = np.column_stack([X, X[:, 0] + X[:, 1], X[:, 0], np.zeros(8)])
    duplicated = agf.Diagonal(wide, Y)
    path, oracle = (
        agf.alternating_gradient_flow(duplicated, limit=True, backend=backend) for backend in ("cpp", "numpy")
    )
    np.testing.assert_allclose(path.time, oracle.time, rtol=1e-9)
    np.testing.assert_allclose(path.loss, oracle.loss, rtol=1e-9)
    truth = agf.gradient_flow(duplicated, duplicated.initialize(log_scale=-230.0), 1.1 * path.time[-1] * 230.0)
    np.testing.assert_allclose(truth.loss[-1], path.loss[-1], rtol=1e-6)


def test_stopping():
    for limit in (0, 1, 2):
        path = run(max_jumps=limit)
        assert len(path.jumps) == limit and path.status is agf.Status.MAX_JUMPS
    seen = []
    path = run(callback=lambda jump: seen.append(jump) or True)
    assert len(seen) == len(path.jumps) == 1 and path.status is agf.Status.CALLBACK
    full = run()
    path = run(loss_tol=float(full.loss[1]))
    assert len(path.jumps) == 1 and path.status is agf.Status.LOSS_TOL
    truth = agf.gradient_flow(problem(), problem().initialize(), 1e3, callback=lambda record: record.time > 1.0)
    assert truth.status is agf.Status.CALLBACK
    with pytest.raises(ZeroDivisionError) as caught:
        run(callback=lambda jump: 1 / 0)
    assert len(caught.value.path.jumps) == 1
    wide = np.random.default_rng(0).standard_normal((300, 4000))
    slow = agf.alternating_gradient_flow(agf.Diagonal(wide, wide[:, 0]), limit=True, max_seconds=1e-9)
    assert slow.status is agf.Status.MAX_SECONDS


def test_activation_window_takes_neighbours_along():
    """Equal utilities but for a thousandth: at alpha = 1e-8 the second is within 0.1 of norm 1 in ln |theta|."""
    near = agf.Diagonal(np.eye(2), np.array([1.0, 0.999]))
    start = near.initialize(1e-8)
    assert [jump.activated for jump in agf.alternating_gradient_flow(near, start).jumps] == [(0,), (1,)]
    window = agf.alternating_gradient_flow(near, start, activation_window=0.1)
    assert [jump.activated for jump in window.jumps] == [(0, 1)]


def test_problem_describes_and_pickles():
    import pickle

    again = pickle.loads(pickle.dumps(problem(3)))
    assert repr(again) == "Diagonal(n=8, d=3, depth=3, float64)"
    assert (again.kappa, again.n_params, again.n_inputs) == (3.0, 3, 3)
    assert list(again.split(np.ones((3, 3)))) == ["u1", "u2", "u3"]
    np.testing.assert_allclose(again.loss(np.zeros((3, 3))), 0.5 * np.mean(Y**2), rtol=1e-15)


def test_gradient_descent_runs_on_it():
    theta = problem().initialize(0.3).parameters()
    descent = agf.gradient_descent(problem(), theta, 0.01, 200)
    truth = agf.gradient_flow(problem(), theta, 2.0)
    np.testing.assert_allclose(descent.loss[-1], truth.loss[-1], rtol=0.05)


@pytest.mark.parametrize("depth", [2, 3])
def test_flow_without_targets_unlearns(depth):
    """y = 0 and layers all at u: beta = u^depth, d beta/dt = -depth beta^(3 - 2/depth) / 2."""
    problem = agf.Diagonal(np.eye(2), np.zeros(2), depth)
    theta = np.array([np.full(depth, 0.8), np.eye(1, depth)[0] * 0.5])
    truth = agf.gradient_flow(problem, theta, 3.0)
    power = 2.0 - 2.0 / depth
    expected = (0.8 ** (-depth * power) + 0.5 * depth * power * 3.0) ** (-1.0 / power)
    np.testing.assert_allclose(problem.coefficients(truth.state), [expected, 0.0], rtol=1e-8)
    np.testing.assert_allclose(truth.loss[[0, -1]], [0.25 * 0.8 ** (2 * depth), 0.25 * expected**2], rtol=1e-8)


@pytest.mark.parametrize("depth", [2, 3])
def test_inputs_that_are_zero_leave_their_neurons_alone(depth):
    X = np.column_stack([np.ones(2), np.zeros(2), np.zeros(2)])
    theta = np.vstack([np.full(depth, 0.1), np.full(depth, 0.2), np.eye(1, depth)[0] * 2.0])
    theta[2] += 0.3
    truth = agf.gradient_flow(agf.Diagonal(X, np.array([1.0, 0.5]), depth), theta, 5.0)
    assert truth.status.value == "t_end" and truth.loss[-1] < truth.loss[0]
    np.testing.assert_allclose(truth.state.parameters()[1:], theta[1:], rtol=1e-13)


@pytest.mark.parametrize("backend", ["cpp", "numpy"])
@pytest.mark.parametrize("norm", [0.5, 2.0])
def test_neurons_with_two_layers_at_zero_never_move(norm, backend):
    """Every gradient of u_1 u_2 u_3 is zero there: such a neuron is stuck, be it dormant or active."""
    deep = agf.Diagonal(np.eye(2), np.ones(2), 3)
    theta = np.array([[norm, 0.0, 0.0], [0.1, 0.1, 0.0]])
    if backend == "numpy":
        theta[0, 0] = 0.5
    path = agf.alternating_gradient_flow(deep, theta, backend=backend)
    assert [jump.neuron for jump in path.jumps] == [1]
    found = [path]
    if backend == "cpp":
        found.append(agf.gradient_flow(deep, theta, 100.0))
        plain = agf.gradient_flow(deep, np.vstack([[0.1, 0.1, 1e-200], theta[1]]), 100.0, save_at=[100.0])
        np.testing.assert_allclose(found[1].state.log_norm[1], plain.state.log_norm[1], atol=1e-8)
    for run_ in found:
        np.testing.assert_allclose(deep.coefficients(run_.state), [0.0, 1.0], atol=1e-6)
        np.testing.assert_allclose(run_.state.parameters()[0], theta[0], rtol=1e-14)
        np.testing.assert_allclose(run_.loss[-1], 0.25, rtol=1e-6)
        again = agf.alternating_gradient_flow(deep, run_.state, backend=backend)
        assert not [jump for jump in again.jumps if jump.neuron == 0]


def test_states_of_the_limit_do_not_go_on():
    """Their log-norms are below every scale."""
    state = agf.alternating_gradient_flow(problem(), limit=True, max_jumps=1).state
    assert problem().loss(state) < problem().loss(np.zeros((3, 2)))
    for call in (agf.alternating_gradient_flow, lambda p, s: agf.gradient_flow(p, s, 1.0)):
        with pytest.raises(ValueError, match=r"state is one of the limit.*expected"):
            call(problem(), state)


@pytest.mark.parametrize("depth", [2, 3])
def test_exact_variables_of_other_rows_are_refused(depth):
    """Those of another direction, some of them, or of another shape: none is left out without a word."""
    state = agf.alternating_gradient_flow(problem(depth), problem(depth).initialize(1e-6), max_jumps=2).state
    turned = state.direction.copy()
    turned[0] = np.linspace(1.0, 2.0, depth) / np.linalg.norm(np.linspace(1.0, 2.0, depth))
    some = {name: value for name, value in state.extra.items() if name != "log_reference"}
    short = {**state.extra, "side": np.ones(2)}
    for direction, extra in ((turned, state.extra), (state.direction, some), (state.direction, short)):
        changed = agf.State(direction, state.log_norm, extra=extra)
        for call in (agf.alternating_gradient_flow, lambda p, s: agf.gradient_flow(p, s, 1.0)):
            with pytest.raises(ValueError, match=r"extra.*expected"):
                call(problem(depth), changed)
