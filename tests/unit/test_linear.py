"""The public face of linear networks: leaves beside Dense, moments, accessors, and what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import agf_fast as agf
from support.linear import start
from support.problems import generic_data
from support.scales import assert_within

X, Y, THETA, _, V = generic_data()
XX, YX, YY = (np.ascontiguousarray(a.T @ b / len(X)) for a, b in ((X, X), (Y, X), (Y, Y)))


def from_moments(**changes):
    return agf.Linear.from_moments(**{"sigma_xx": XX, "sigma_yx": YX, "sigma_yy": YY, **changes})


def indefinite(size):
    return np.diag(np.linspace(1.0, -0.1, size))


def astray():
    flat = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    return {"sigma_xx": flat, "sigma_yx": np.ones((3, 5)), "sigma_yy": None}


@pytest.mark.parametrize("make", [lambda: agf.Linear(X, Y), from_moments], ids=["samples", "moments"])
def test_leaves_are_those_of_dense(make, verb_backend):
    """The same network on the samples themselves. Pseudo-samples carry rounding of the data's own scale into every
    term: 200 eps of |Y|^2 and of gradients' scales."""
    kernel, dense = make()._kernel(verb_backend), agf.Dense(X, Y, activation="identity")
    eps = 200 * np.finfo(np.float64).eps
    scale = 1.0 + dense.loss(THETA)
    np.testing.assert_allclose(kernel.loss(THETA), dense.loss(THETA), rtol=0, atol=eps * scale)
    for got, expected in (
        (kernel.utility_gradient(THETA, None), dense.utility_gradient(THETA)),
        (kernel.hessian_vector(THETA, V), dense.hessian_vector(THETA, V)),
        (kernel.utility(THETA, None), dense.utility(THETA)),
        (kernel.residual(THETA), dense.residual(THETA).T @ X / len(X)),
    ):
        assert_within(got, expected, np.abs(expected).max(), eps, multiple=1.0)


def test_moments_and_samples_run_alike():
    one, two = agf.Linear(X, Y), from_moments()
    state = start(one, 5, 20)
    first, second = (agf.alternating_gradient_flow(problem, state) for problem in (one, two))
    np.testing.assert_allclose([j.time for j in first.jumps], [j.time for j in second.jumps], rtol=1e-8)
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-8)
    np.testing.assert_allclose(one.theory().levels, two.theory().levels, rtol=1e-8)


def test_sigma_yy_sets_the_level():
    zero = np.zeros((1, X.shape[1] + Y.shape[1]))
    assert from_moments().loss(zero) == pytest.approx(0.5 * np.trace(YY), rel=1e-12)
    noiseless = from_moments(sigma_yy=None)
    explained = np.trace(YX @ np.linalg.pinv(XX) @ YX.T)
    assert noiseless.loss(zero) == pytest.approx(0.5 * explained, rel=1e-12)
    assert noiseless.theory().levels[-1] == 0.0


def test_accessors():
    problem = agf.Linear(X, Y)
    d = X.shape[1]
    parts = problem.split(THETA)
    assert parts["w"].base is THETA and parts["a"].shape == (len(THETA), Y.shape[1])
    product = parts["a"].T @ parts["w"]
    np.testing.assert_allclose(problem.linear_map(THETA), product, rtol=1e-13)
    np.testing.assert_allclose(problem.predict(THETA, X[:3]), X[:3] @ product.T, rtol=1e-12)
    u, s, v = problem.singular_components(THETA)
    np.testing.assert_allclose(u.T * s @ v, product, rtol=0, atol=1e-12)
    assert (np.diff(s) <= 0).all() and (u.max(axis=1) >= -u.min(axis=1)).all()
    residual = problem.residual(THETA)
    assert residual.shape == (Y.shape[1], d)
    np.testing.assert_allclose(
        problem.utility(THETA, residual), np.einsum("ic,cd,id->i", parts["a"], residual, parts["w"]), rtol=1e-12
    )
    assert (problem.kappa, problem.n_params, problem.n_inputs, problem.n_outputs) == (2.0, 8, 5, 3)
    assert agf.Linear(X, Y[:, 0].copy()).n_outputs == 1


def test_float32_and_copies():
    single = agf.Linear(X.astype(np.float32), Y.astype(np.float32))
    path = agf.alternating_gradient_flow(single, start(single, 4, 20))
    assert path.state.direction.dtype == np.float32 and single.linear_map(path.state).dtype == np.float32
    double = agf.Linear(X, Y)
    wide = agf.alternating_gradient_flow(double, start(double, 4, 20))
    np.testing.assert_allclose([j.time for j in path.jumps], [j.time for j in wide.jumps], rtol=1e-4)
    # Directions are rounded to float32 in between; the exact variables are not.
    part = agf.alternating_gradient_flow(single, start(single, 4, 20), max_jumps=1)
    rest = agf.alternating_gradient_flow(single, part.state)
    np.testing.assert_allclose([j.time for j in rest.jumps], [j.time for j in path.jumps[1:]], rtol=1e-5)
    for twin in (pickle.loads(pickle.dumps(double)), copy.deepcopy(double)):
        assert twin.loss(THETA) == double.loss(THETA)


def test_degenerate_but_legal():
    """y = 0, one sample, one output, one input, a start beyond norm 1, adaptive rates."""
    nothing = agf.Linear(X, np.zeros_like(Y))
    for path in (
        agf.alternating_gradient_flow(nothing, start(nothing, 3, 9)),
        agf.gradient_flow(nothing, start(nothing, 3, 9), 5.0),
    ):
        assert path.status.value == "nothing_to_learn" and not path.jumps
    assert len(nothing.theory()) == 0
    single = agf.Linear(X[:1], Y[:1])
    path = agf.alternating_gradient_flow(single, start(single, 3, 9))
    assert len(path.jumps) == 1 and path.loss[-1] <= 1e-10 * path.loss[0]
    scalar = agf.Linear(np.ones((2, 1)), np.array([2.0, 2.0]))
    for path in (
        agf.alternating_gradient_flow(scalar, start(scalar, 1, 9, seed=3)),
        agf.gradient_flow(scalar, start(scalar, 1, 9, seed=3), 100.0),
    ):
        assert path.loss[-1] <= 1e-9
    problem = agf.Linear(X, Y)
    large = problem.initialize(6, scale=3.0)
    best = problem.theory().levels[-1]
    for path in (agf.alternating_gradient_flow(problem, large), agf.gradient_flow(problem, large, 2000.0)):
        assert path.loss[-1] == pytest.approx(best, rel=1e-6) and not len(path.state.extra["dormant_mantissa"]) > 8
    state = start(problem, 4, 9)
    plain, adaptive = (agf.alternating_gradient_flow(problem, state, adaptive_rate=flag) for flag in (False, True))
    assert [jump.time for jump in plain.jumps] == [jump.time for jump in adaptive.jumps]


def test_stops():
    problem = agf.Linear(X, Y)
    state = start(problem, 4, 40)
    short = agf.alternating_gradient_flow(problem, state, active_time=0.5, max_jumps=1)
    assert not short.jumps[0].converged and short.jumps[0].active_time == 0.5
    assert agf.alternating_gradient_flow(problem, state, callback=lambda jump: True).status.value == "callback"
    assert agf.gradient_flow(problem, state, 1e6, max_seconds=1e-9).status.value == "max_seconds"
    assert agf.alternating_gradient_flow(problem, state, max_seconds=1e-9).status.value == "max_seconds"
    early = agf.gradient_flow(problem, state, 1e6, loss_tol=0.9 * problem.theory().levels[0])
    assert early.status.value == "loss_tol" and early.loss[-1] <= 0.9 * problem.theory().levels[0]


# name -> (call, what the message must name)
REFUSED = {
    "nan": (lambda: agf.Linear(np.full_like(X, np.nan), Y), "X"),
    "rows differ": (lambda: agf.Linear(X, Y[:-1]), "Y"),
    "mixed dtypes": (lambda: agf.Linear(X, Y.astype(np.float32)), "Y"),
    "integers": (lambda: agf.Linear(np.ones((4, 2), dtype=int), np.ones((4, 1))), "X"),
    "empty": (lambda: agf.Linear(X[:0], Y[:0]), "X"),
    "zero inputs": (lambda: agf.Linear(np.zeros_like(X), Y), "X"),
    "huge": (lambda: agf.Linear(1e80 * X, Y), "X"),
    "xx not square": (lambda: from_moments(sigma_xx=XX[:3]), "sigma_xx"),
    "xx asymmetric": (lambda: from_moments(sigma_xx=XX + np.triu(np.ones_like(XX), 1)), "sigma_xx"),
    "xx indefinite": (lambda: from_moments(sigma_xx=indefinite(5), sigma_yy=None), "sigma_xx"),
    "xx zero": (
        lambda: from_moments(sigma_xx=np.zeros((5, 5)), sigma_yx=np.zeros((3, 5)), sigma_yy=None),
        "sigma_xx",
    ),
    "xx huge": (lambda: from_moments(sigma_xx=1e120 * XX), "sigma_xx"),
    "yx of another width": (lambda: from_moments(sigma_yx=YX[:, :3].copy()), "sigma_yx"),
    "yx of another dtype": (lambda: from_moments(sigma_yx=YX.astype(np.float32)), "sigma_yx"),
    "yx where x does not vary": (lambda: from_moments(**astray()), "sigma_yx"),
    "yy of another size": (lambda: from_moments(sigma_yy=np.eye(2)), "sigma_yy"),
    "yy indefinite": (lambda: from_moments(sigma_yy=indefinite(3)), "sigma_yy"),
    "yy too small": (lambda: from_moments(sigma_yy=0.01 * YY), "sigma_yy"),
    "width": (lambda: agf.Linear(X, Y).theory(width=0), "width"),
    "theta": (lambda: agf.Linear(X, Y).linear_map(THETA[:, :-1].copy()), "theta"),
    "residual": (lambda: agf.Linear(X, Y).utility(THETA, Y), "residual"),
    "predict": (lambda: agf.Linear(X, Y).predict(THETA, Y), "X"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, argument = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=rf"(^|\b){argument}\b.*expected"):
        call()


def test_exact_variables_that_do_not_fit_are_refused():
    problem = agf.Linear(X, Y)
    state = agf.alternating_gradient_flow(problem, start(problem, 4, 9), max_jumps=1).state
    some = {name: value for name, value in state.extra.items() if name != "frame_row"}
    with pytest.raises(ValueError, match=r"extra.*expected all"):
        agf.alternating_gradient_flow(problem, agf.State(state.direction, state.log_norm, extra=some))
    wrong = {**state.extra, "frame_row": np.eye(3)}
    with pytest.raises(ValueError, match=r"extra\['frame_row'\].*expected"):
        agf.gradient_flow(problem, agf.State(state.direction, state.log_norm, extra=wrong), 1.0)
