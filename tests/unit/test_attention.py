"""Attention's public face: arguments, array types, accessors, states, and what the verbs make of it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import agf_fast as agf

SIGMA = np.array([[1.0, 0.3], [0.3, 0.5]])
PROMPTS = np.random.default_rng(0).standard_normal((30, 5, 3))
THETA = 0.4 * np.random.default_rng(1).standard_normal((3, 5))
NAN = PROMPTS.copy()
NAN[1, 2, 0] = np.nan


def problem():
    return agf.Attention(SIGMA, context=8)


def path():
    return agf.alternating_gradient_flow(problem(), problem().initialize(3, scale=1e-2))


# name -> (call, what the message must name)
BAD = {
    "asymmetric": (lambda: agf.Attention(np.array([[1.0, 0.3], [0.2, 1.0]])), "covariance"),
    "indefinite": (lambda: agf.Attention(np.diag([1.0, -0.5])), "covariance"),
    "singular": (lambda: agf.Attention(np.ones((2, 2))), "covariance"),
    "zero": (lambda: agf.Attention(np.zeros((2, 2))), "covariance"),
    "not square": (lambda: agf.Attention(np.ones((2, 3))), "covariance"),
    "flat": (lambda: agf.Attention(np.ones(3)), "covariance"),
    "empty": (lambda: agf.Attention(np.ones((0, 0))), "covariance"),
    "nan": (lambda: agf.Attention(np.diag([1.0, np.nan])), "covariance"),
    "inf": (lambda: agf.Attention(np.diag([1.0, np.inf])), "covariance"),
    "integers": (lambda: agf.Attention(np.eye(2, dtype=int)), "covariance"),
    "float16": (lambda: agf.Attention(np.eye(2, dtype=np.float16)), "covariance"),
    "object": (lambda: agf.Attention(np.eye(2).astype(object)), "covariance"),
    "list": (lambda: agf.Attention([[1.0]]), "covariance"),
    "beyond double": (lambda: agf.Attention(1e120 * np.eye(2)), "covariance"),
    "below double": (lambda: agf.Attention(1e-120 * np.eye(2)), "covariance"),
    "context 0": (lambda: agf.Attention(SIGMA, context=0), "context"),
    "context 1.5": (lambda: agf.Attention(SIGMA, context=1.5), "context"),
    "context beyond double": (lambda: agf.Attention(SIGMA, context=10**400), "context"),
    "context True": (lambda: agf.Attention(SIGMA, context=True), "context"),
    "prompts flat": (lambda: agf.Attention.from_samples(PROMPTS[0]), "prompts"),
    "prompts without pairs": (lambda: agf.Attention.from_samples(PROMPTS[:, :1]), "prompts"),
    "prompts without inputs": (lambda: agf.Attention.from_samples(PROMPTS[:, :, :1].copy()), "prompts"),
    "prompts nan": (lambda: agf.Attention.from_samples(NAN), "prompts"),
    "prompts of zeros": (lambda: agf.Attention.from_samples(np.zeros((4, 3, 2))), "prompts"),
    "prompts too large": (lambda: agf.Attention.from_samples(1e90 * PROMPTS), "prompts"),
    "prompts integers": (lambda: agf.Attention.from_samples(np.ones((4, 3, 2), dtype=int)), "prompts"),
    "theta width": (lambda: problem().loss(THETA[:, :4]), "theta"),
    "theta dtype": (lambda: problem().loss(THETA.astype(np.float32)), "theta"),
    "residual": (lambda: problem().utility(THETA, np.zeros((3, 2))), "residual"),
    "v": (lambda: problem().hessian_vector(THETA, THETA[:2]), "v"),
    "split": (lambda: problem().split(THETA[:, :3]), "theta"),
    "spectrum": (lambda: problem().spectrum(THETA[:, :3]), "theta"),
    "attention matrix": (lambda: problem().attention_matrix(THETA[0]), "theta"),
    "theory of samples": (lambda: agf.Attention.from_samples(PROMPTS).theory(), "theory"),
    "theory of another size": (lambda: agf.Attention(np.eye(3)).theory(path().state), "state"),
    "theory of another path": (lambda: agf.Attention(np.eye(3)).theory(path=path()), "state"),
    "theory of a state as path": (lambda: problem().theory(path=path().state), "path"),
    "theory of a flow": (
        lambda: problem().theory(path=agf.gradient_flow(problem(), problem().initialize(2), 1.0)),
        "path",
    ),
    "limit": (lambda: agf.alternating_gradient_flow(problem(), limit=True), "limit"),
    "batch": (lambda: agf.gradient_descent(problem(), THETA, 0.01, 2, batch=3), "batch"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_refused_by_name(name):
    call, argument = BAD[name]
    with pytest.raises((TypeError, ValueError), match=argument) as error:
        call()
    assert len(str(error.value)) > 30


def test_facts_of_a_problem():
    case = problem()
    assert (case.kappa, case.n_params, case.dimension, case.context) == (3.0, 5, 2, 8)
    assert repr(case) == "Attention(D=2, context=8, float64)"
    np.testing.assert_allclose(case.components.T @ np.diag(case.variances) @ case.components, SIGMA, atol=1e-15)
    assert case.variances[0] > case.variances[1]
    assert (case.components[[0, 1], np.abs(case.components).argmax(axis=1)] > 0).all()
    blocks = case.split(THETA)
    np.testing.assert_array_equal(np.hstack([blocks["v"], blocks["q"], blocks["k"]]), THETA)
    assert np.shares_memory(blocks["q"], THETA)
    assert agf.Attention(SIGMA).context == 32
    sampled = agf.Attention.from_samples(PROMPTS)
    assert repr(sampled) == "Attention(n=30, D=2, context=4, float64)"
    x = PROMPTS[:, :, :2].reshape(-1, 2)
    np.testing.assert_allclose(np.diag(sampled.components @ (x.T @ x / 150) @ sampled.components.T), sampled.variances)


def test_rounding_of_a_covariance_is_no_asymmetry(dtype):
    x = np.random.default_rng(3).standard_normal((500, 12)).astype(dtype)
    agf.Attention(x.T @ x / np.asarray(500, dtype))
    basis = np.linalg.qr(x[:12])[0].astype(dtype)
    agf.Attention((basis * np.linspace(1, 2, 12).astype(dtype)) @ basis.T)


@pytest.mark.parametrize("make", [problem, lambda: agf.Attention.from_samples(PROMPTS)])
def test_pickles(make):
    case = make()
    again = pickle.loads(pickle.dumps(case))
    assert again.loss(THETA) == case.loss(THETA) and repr(again) == repr(case)


def test_the_caller_may_change_the_covariance():
    matrix = SIGMA.copy()
    case = agf.Attention(matrix, context=8)
    matrix[:] = 0
    assert case.loss(THETA) == problem().loss(THETA)


def test_single_precision(verb_backend):
    """Arrays of float32 in and out, computed in double inside."""
    single = agf.Attention(SIGMA.astype(np.float32), context=8)
    double = agf.Attention(SIGMA.astype(np.float32).astype(np.float64), context=8)
    theta = THETA.astype(np.float32)
    wide = theta.astype(np.float64)
    for name in ("residual", "utility", "utility_gradient", "attention_matrix", "spectrum"):
        got, expected = getattr(single, name)(theta), getattr(double, name)(wide)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected.astype(np.float32))
    assert single.loss(theta) == double.loss(wide)
    assert single.hessian_vector(theta, theta).dtype == np.float32
    state = single.initialize(3, scale=1e-2)
    path = agf.alternating_gradient_flow(single, state, rtol=1e-5, max_jumps=2, backend=verb_backend)
    assert path.state.direction.dtype == np.float32
    # The reference ends a phase at |grad L|^2 t = 1e-8 L.
    np.testing.assert_allclose([jump.loss_after for jump in path.jumps], double.theory().levels[1:], atol=1e-6)


def test_other_array_libraries():
    torch = pytest.importorskip("torch")
    case = agf.Attention(torch.from_numpy(SIGMA), context=8)
    theta = torch.from_numpy(THETA)
    for got in (case.residual(theta), case.spectrum(theta), case.variances, case.split(theta)["k"]):
        assert isinstance(got, torch.Tensor)
    assert case.loss(theta) == problem().loss(THETA)


@pytest.mark.parametrize("adaptive_rate", [False, True])
def test_continuing_a_run(adaptive_rate):
    """As if it had not stopped, to 10 rtol."""
    case = problem()
    state = case.initialize(3, scale=1e-3)
    whole = agf.alternating_gradient_flow(case, state, adaptive_rate=adaptive_rate)
    first = agf.alternating_gradient_flow(case, state, max_jumps=1, adaptive_rate=adaptive_rate)
    rest = agf.alternating_gradient_flow(case, first.state, adaptive_rate=adaptive_rate)
    assert len(first.jumps) + len(rest.jumps) == len(whole.jumps) == 2
    assert rest.jumps[0].neuron == whole.jumps[1].neuron
    assert rest.jumps[0].time == pytest.approx(whole.jumps[1].time, rel=1e-8)
    assert rest.jumps[0].loss_after == pytest.approx(whole.jumps[1].loss_after, rel=1e-8)


def test_save_and_load(tmp_path):
    run = path()
    run.save(tmp_path / "run.npz")
    again = agf.load(tmp_path / "run.npz")
    assert again.jumps == run.jumps and again.state == run.state
    bounds, expected = problem().theory(path=again), problem().theory(path=run)
    np.testing.assert_array_equal([b.time for b in bounds.jumps], [b.time for b in expected.jumps])


def test_compare_with_theory():
    case = problem()
    state = case.initialize(3, scale=1e-2)
    run = agf.alternating_gradient_flow(case, state)
    found = agf.compare(run, case.theory(state, run))
    assert len(found.matches) == 2 and found.max_level_error <= 1e-8
    assert all(match.time_error > 0 for match in found.matches)


def test_descent_tends_to_the_flow():
    """Steps of lr advance the flow by lr: the error at a given time is proportional to lr."""
    case = problem()
    t_end = 0.5
    flow = agf.gradient_flow(case, THETA, t_end).state.parameters()
    errors = []
    for steps in (500, 1000):
        path = agf.gradient_descent(case, THETA, t_end / steps, steps)
        errors.append(np.abs(path.state.parameters() - flow).max())
    assert 1.9 < errors[0] / errors[1] < 2.1
    assert 0 < path.conserved_drift < 1e-2


def test_nothing_to_learn():
    """Answers that are all zero leave features without a target."""
    prompts = PROMPTS.copy()
    prompts[:, -1, -1] = 0.0
    case = agf.Attention.from_samples(prompts)
    path = agf.alternating_gradient_flow(case, case.initialize(2))
    assert not path.jumps and path.status == "nothing_to_learn"


def test_more_components_than_heads():
    case = agf.Attention(np.diag([1.0, 0.6, 0.3]), context=8)
    path = agf.alternating_gradient_flow(case, case.initialize(2, scale=1e-3))
    assert path.status == "all_active" and len(path.jumps) == 2
    assert path.loss[-1] == pytest.approx(case.theory().levels[2], abs=1e-8)


def test_heads_that_start_active():
    """At norm 1 from the start: minimised first, and what they leave is learned by the others."""
    case = problem()
    state = case.initialize(4, scale=1e-3)
    direction, log_norm = state.direction.copy(), state.log_norm.copy()
    direction[0] = np.concatenate([[1.0], case.components[0], case.components[0]]) / np.sqrt(3)
    log_norm[0] = 0.0
    path = agf.alternating_gradient_flow(case, agf.State(direction, log_norm))
    levels = case.theory().levels
    assert path.loss[0] == pytest.approx(levels[1], abs=1e-8)
    assert [jump.loss_after for jump in path.jumps] == pytest.approx([levels[2]], abs=1e-8)
