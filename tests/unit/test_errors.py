"""Bad input: a ValueError or TypeError that names the argument and what to do; never a crash, a hang or a silent
answer."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data

X, Y, THETA, RESIDUAL, V = generic_data()
NAN, INF = X.copy(), Y.copy()
NAN[3, 1] = np.nan
INF[0, 0] = np.inf


def problem():
    return agf.Dense(X, Y, activation="relu")


def state():
    return problem().initialize(4, seed=0)


# name -> (call, the argument that the message must name)
DENSE = {
    "nan": (lambda: agf.Dense(NAN, Y), "X"),
    "inf": (lambda: agf.Dense(X, INF), "Y"),
    "no samples": (lambda: agf.Dense(X[:0], Y[:0]), "X"),
    "no inputs": (lambda: agf.Dense(X[:, :0], Y), "X"),
    "no outputs": (lambda: agf.Dense(X, Y[:, :0]), "Y"),
    "flat X": (lambda: agf.Dense(X[:, 0].copy(), Y), "X"),
    "cube": (lambda: agf.Dense(X[None], Y), "X"),
    "cube Y": (lambda: agf.Dense(X, Y[None]), "Y"),
    "scalar": (lambda: agf.Dense(1.0, Y), "X"),
    "rows differ": (lambda: agf.Dense(X, Y[:-1]), "Y"),
    "float16": (lambda: agf.Dense(X.astype(np.float16), Y), "X"),
    "longdouble": (lambda: agf.Dense(X.astype(np.longdouble), Y), "X"),
    "integers": (lambda: agf.Dense(np.ones((4, 2), dtype=int), np.ones((4, 1))), "X"),
    "bool": (lambda: agf.Dense(X, Y > 0), "Y"),
    "complex": (lambda: agf.Dense(X.astype(complex), Y), "X"),
    "object": (lambda: agf.Dense(X.astype(object), Y), "X"),
    "strings": (lambda: agf.Dense(np.array([["a"]]), np.ones((1, 1))), "X"),
    "mixed dtypes": (lambda: agf.Dense(X, Y.astype(np.float32)), "Y"),
    "other byte order": (lambda: agf.Dense(X.astype(X.dtype.newbyteorder()), Y), "X"),
    "None": (lambda: agf.Dense(None, Y), "X"),
    "ragged list": (lambda: agf.Dense([[1.0], [1.0, 2.0]], Y), "X"),
    "unknown activation": (lambda: agf.Dense(X, Y, activation="softmax"), "activation"),
    "activation not at 0": (
        lambda: agf.Dense(X, Y, activation="sigmoid"),
        "activation",
    ),
    "callable activation": (lambda: agf.Dense(X, Y, activation=np.tanh), "activation"),
    "nan slope": (
        lambda: agf.Dense(X, Y, activation="leaky_relu", slope=np.nan),
        "slope",
    ),
    "exponent 1": (lambda: agf.Dense(X, Y, activation="power", exponent=1), "exponent"),
    "exponent 6": (lambda: agf.Dense(X, Y, activation="power", exponent=6), "exponent"),
    "exponent 2.5": (
        lambda: agf.Dense(X, Y, activation="power", exponent=2.5),
        "exponent",
    ),
}

LEAVES = {
    "one row": (lambda: problem().loss(THETA[0]), "theta"),
    "wrong width": (lambda: problem().loss(THETA[:, :-1]), "theta"),
    "wrong dtype": (lambda: problem().loss(THETA.astype(np.float32)), "theta"),
    "integers": (lambda: problem().utility(np.ones((2, 8), dtype=int)), "theta"),
    "residual shape": (lambda: problem().utility(THETA, RESIDUAL[:-1]), "residual"),
    "residual dtype": (
        lambda: problem().utility_gradient(THETA, RESIDUAL.astype(np.float32)),
        "residual",
    ),
    "v shape": (lambda: problem().hessian_vector(THETA, V[:-1]), "v"),
    "v dtype": (lambda: problem().hessian_vector(THETA, V.astype(np.float32)), "v"),
    "object": (lambda: problem().residual(THETA.astype(object)), "theta"),
    "split": (lambda: problem().split(THETA[:, :-1]), "theta"),
}

UNIT = np.eye(2, 8)
STATES = {
    "width 0": (lambda: problem().initialize(0), "width"),
    "negative width": (lambda: problem().initialize(-1), "width"),
    "fractional width": (lambda: problem().initialize(2.5), "width"),
    "zero scale": (lambda: problem().initialize(2, scale=0.0), "scale"),
    "negative scale": (lambda: problem().initialize(2, scale=-1e-3), "scale"),
    "nan scale": (lambda: problem().initialize(2, scale=np.nan), "scale"),
    "infinite scale": (lambda: problem().initialize(2, scale=np.inf), "scale"),
    "nan log_scale": (lambda: problem().initialize(2, log_scale=np.nan), "log_scale"),
    "two scales": (
        lambda: problem().initialize(2, scale=1e-3, log_scale=-3.0),
        "scale",
    ),
    "zero row": (
        lambda: agf.alternating_gradient_flow(problem(), np.zeros((2, 8))),
        "state",
    ),
    "zero direction": (lambda: agf.State(np.zeros((2, 8)), np.zeros(2)), "direction"),
    "not unit": (lambda: agf.State(2.0 * UNIT, np.zeros(2)), "direction"),
    "nan direction": (lambda: agf.State(UNIT * np.nan, np.zeros(2)), "direction"),
    "nan log_norm": (lambda: agf.State(UNIT, np.array([0.0, np.nan])), "log_norm"),
    "infinite log_norm": (
        lambda: agf.State(UNIT, np.array([0.0, -np.inf])),
        "log_norm",
    ),
    "short log_norm": (lambda: agf.State(UNIT, np.zeros(3)), "log_norm"),
    "short active": (
        lambda: agf.State(UNIT, np.zeros(2), active=np.array([True])),
        "active",
    ),
    "active not bool": (
        lambda: agf.State(UNIT, np.zeros(2), active=np.array([0.3, 0.4])),
        "active",
    ),
    "nan time": (lambda: agf.State(UNIT, np.zeros(2), time=np.nan), "time"),
    "state of another width": (
        lambda: agf.gradient_flow(problem(), agf.State(np.eye(2, 7), -np.ones(2)), 1.0),
        "state",
    ),
    "state is text": (lambda: agf.gradient_flow(problem(), "start", 1.0), "state"),
    "nan theta": (lambda: agf.gradient_flow(problem(), THETA * np.nan, 1.0), "state"),
    "theta of another dtype": (
        lambda: agf.gradient_flow(problem(), THETA.astype(np.float32), 1.0),
        "state",
    ),
    "no neurons": (lambda: agf.gradient_flow(problem(), THETA[:0], 1.0), "state"),
}


def alternate(**keywords):
    return lambda: agf.alternating_gradient_flow(problem(), state(), **keywords)


def flow(t_end=1.0, **keywords):
    return lambda: agf.gradient_flow(problem(), state(), t_end, **keywords)


def descend(lr=0.1, steps=3, theta=THETA, **keywords):
    return lambda: agf.gradient_descent(problem(), theta, lr, steps, **keywords)


VERBS = {
    "rtol 0": (alternate(rtol=0.0), "rtol"),
    "rtol negative": (flow(rtol=-1e-6), "rtol"),
    "rtol nan": (alternate(rtol=np.nan), "rtol"),
    "rtol 1": (alternate(rtol=1.0), "rtol"),
    "rtol below roundoff": (flow(rtol=1e-18), "rtol"),
    "max_jumps negative": (alternate(max_jumps=-1), "max_jumps"),
    "max_jumps fractional": (alternate(max_jumps=1.5), "max_jumps"),
    "loss_tol negative": (alternate(loss_tol=-1.0), "loss_tol"),
    "loss_tol nan": (alternate(loss_tol=np.nan), "loss_tol"),
    "active_time zero": (alternate(active_time=0.0), "active_time"),
    "active_time negative": (alternate(active_time=-1.0), "active_time"),
    "activation_window negative": (
        alternate(activation_window=-0.1),
        "activation_window",
    ),
    "max_seconds negative": (alternate(max_seconds=-1.0), "max_seconds"),
    "max_seconds nan": (flow(max_seconds=np.nan), "max_seconds"),
    "backend unknown": (alternate(backend="gpu3"), "backend"),
    "callback not callable": (alternate(callback=3), "callback"),
    "t_end negative": (flow(-1.0), "t_end"),
    "t_end nan": (flow(np.nan), "t_end"),
    "t_end text": (flow("1"), "t_end"),
    "clock": (flow(clock="wall"), "clock"),
    "save_at unsorted": (flow(save_at=np.array([0.5, 0.2])), "save_at"),
    "save_at nan": (flow(save_at=np.array([0.1, np.nan])), "save_at"),
    "save_at beyond": (flow(save_at=np.array([0.1, 2.0])), "save_at"),
    "save_at before": (flow(save_at=np.array([-0.1, 0.5])), "save_at"),
    "save_at matrix": (flow(save_at=np.ones((2, 2))), "save_at"),
    "lr zero": (descend(lr=0.0), "lr"),
    "lr nan": (descend(lr=np.nan), "lr"),
    "steps negative": (descend(steps=-1), "steps"),
    "steps fractional": (descend(steps=1.5), "steps"),
    "momentum 1": (descend(momentum=1.0), "momentum"),
    "momentum negative": (descend(momentum=-0.1), "momentum"),
    "batch 0": (descend(batch=0), "batch"),
    "batch above n": (descend(batch=len(X) + 1), "batch"),
    "theta shape": (descend(theta=THETA[:, :-1]), "theta"),
    "problem": (lambda: agf.gradient_flow("problem", state(), 1.0), "problem"),
    "threads 0": (lambda: agf.set_threads(0), "k"),
    "threads fractional": (lambda: agf.set_threads(1.5), "k"),
}
CASES = {
    f"{group}: {name}": case
    for group, table in (
        ("Dense", DENSE),
        ("leaves", LEAVES),
        ("states", STATES),
        ("verbs", VERBS),
    )
    for name, case in table.items()
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_by_name(name):
    call, argument = CASES[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    text = str(caught.value)
    assert argument in text, f"the message does not name {argument!r}: {text}"
    # Argument, got, expected, what to do: a bare "invalid value" is none of these.
    assert len(text.split()) >= 6, f"too short to say got, expected and what to do: {text}"


def test_float32_refuses_tolerances_it_cannot_meet():
    single = agf.Dense(X.astype(np.float32), Y.astype(np.float32), activation="relu")
    with pytest.raises(ValueError, match="rtol"):
        agf.gradient_flow(single, single.initialize(3, seed=0), 1.0, rtol=1e-9)
    path = agf.gradient_flow(single, single.initialize(3, seed=0), 1.0)
    assert path.status == "t_end"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_leaves_answer_non_finite_parameters_without_crashing(value):
    """Overflow is the caller's business to see: a leaf either refuses or lets the NaN show, and never hides it."""
    theta = THETA.copy()
    theta[1, 2] = value
    try:
        loss = problem().loss(theta)
    except ValueError as error:
        assert "theta" in str(error)
    else:
        assert not np.isfinite(loss)


def test_compiled_kernels_check_what_they_are_given():
    """The layer under the public face refuses rather than reads past an array."""
    from agf_fast import _core

    ours = _core.dense(X, Y, "relu", 0.0)
    for call in (
        lambda: ours.loss(THETA[:, :-1].copy()),
        lambda: ours.loss(THETA[0]),
        lambda: ours.loss(THETA.astype(np.float32)),
        lambda: ours.utility(THETA, RESIDUAL[:-1].copy()),
        lambda: ours.utility(THETA, RESIDUAL[:, :-1].copy()),
        lambda: ours.utility_gradient(THETA, RESIDUAL.astype(np.float32)),
        lambda: ours.hessian_vector(THETA, V[:-1].copy()),
        lambda: ours.predict(THETA, X[:, :-1].copy()),
        lambda: ours.loss("theta"),
        lambda: ours.loss(None),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    with pytest.raises((ValueError, TypeError)):
        _core.dense(X[:-1].copy(), Y, "relu", 0.0)
    with pytest.raises((ValueError, TypeError)):
        _core.dense(X, Y, "softmax", 0.0)
