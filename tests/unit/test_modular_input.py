"""Modular addition: input that is refused, and templates that are degenerate but legal."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import modular_template

TEMPLATE = modular_template()
NAN, INF = TEMPLATE.copy(), TEMPLATE.copy()
NAN[3], INF[0] = np.nan, np.inf
THETA = np.random.default_rng(0).standard_normal((4, 60))


def problem():
    return agf.ModularAddition(TEMPLATE)


def small_run():
    small = agf.ModularAddition(np.array([1.0, -1.0]))
    return agf.alternating_gradient_flow(small, small.initialize(2, scale=0.1), max_jumps=1, active_time=1.0)


# name -> (call, the argument that the message must name)
REFUSED = {
    "nan": (lambda: agf.ModularAddition(NAN), "template"),
    "inf": (lambda: agf.ModularAddition(INF), "template"),
    "empty": (lambda: agf.ModularAddition(TEMPLATE[:0]), "template"),
    "one number": (lambda: agf.ModularAddition(np.zeros(1)), "template"),
    "matrix": (lambda: agf.ModularAddition(TEMPLATE[:, None]), "template"),
    "scalar": (lambda: agf.ModularAddition(1.0), "template"),
    "list": (lambda: agf.ModularAddition([1.0, -1.0]), "template"),
    "None": (lambda: agf.ModularAddition(None), "template"),
    "mean": (lambda: agf.ModularAddition(TEMPLATE + 1e-6), "template"),
    "mean in float32": (lambda: agf.ModularAddition((TEMPLATE + 1e-3).astype(np.float32)), "template"),
    "constant": (lambda: agf.ModularAddition(np.ones(5)), "template"),
    "too large": (lambda: agf.ModularAddition(1e200 * TEMPLATE), "template"),
    "float16": (lambda: agf.ModularAddition(TEMPLATE.astype(np.float16)), "template"),
    "integers": (lambda: agf.ModularAddition(np.array([1, -1])), "template"),
    "complex": (lambda: agf.ModularAddition(TEMPLATE.astype(complex)), "template"),
    "object": (lambda: agf.ModularAddition(TEMPLATE.astype(object)), "template"),
    "theta width": (lambda: problem().loss(THETA[:, :-1]), "theta"),
    "theta flat": (lambda: problem().utility(THETA[0]), "theta"),
    "theta dtype": (lambda: problem().residual(THETA.astype(np.float32)), "theta"),
    "residual shape": (lambda: problem().utility(THETA, np.zeros((20, 20, 20))), "residual"),
    "residual dtype": (lambda: problem().utility_gradient(THETA, np.zeros((400, 20), np.float32)), "residual"),
    "v shape": (lambda: problem().hessian_vector(THETA, THETA[:-1].copy()), "v"),
    "split": (lambda: problem().split(THETA[:, :-1]), "theta"),
    "powers": (lambda: problem().powers(THETA[:, :-1]), "theta"),
    "predict": (lambda: problem().predict(THETA[:, :-1]), "theta"),
    "no frequency to name": (lambda: agf.ModularAddition(np.zeros(20)).dominant_frequencies(THETA), "template"),
    "path of another problem": (lambda: problem().first_activations(small_run()), "path"),
    "path of no kind": (lambda: problem().first_activations(3), "path"),
    "theory of no state": (lambda: problem().theory(3), "state"),
    "theory of another state": (
        lambda: problem().theory(agf.ModularAddition(np.array([1.0, -1.0])).initialize(2)),
        "state",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name):
    call, argument = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    assert argument in message and "expected" in message


def test_the_message_on_a_mean_says_what_to_do():
    with pytest.raises(ValueError, match=r"template - template\.mean\(\)"):
        agf.ModularAddition(TEMPLATE + 0.1)


def test_a_mean_within_rounding_is_none():
    """Rounded to float32 the template has a sum of up to 6e-8 sqrt(p) |x|, and no more frequencies than before."""
    assert agf.ModularAddition(TEMPLATE.astype(np.float32)).frequencies == (1, 3, 5)
    assert agf.ModularAddition(1e-30 * TEMPLATE).frequencies == (1, 3, 5)


def test_rounding_of_angles_is_no_frequency():
    """cos(2 pi j k / p) with angles of hundreds: what rounding leaves elsewhere is not learned."""
    for period in (23, 101, 1000):
        j = np.arange(period)
        template = np.cos(2 * np.pi * j * 9 / period + 0.3) + 0.5 * np.cos(2 * np.pi * j * 11 / period)
        assert agf.ModularAddition(template - template.mean()).frequencies == (9, 11)


def test_nothing_to_learn(verb_backend):
    silent = agf.ModularAddition(np.zeros(6))
    assert silent.frequencies == () and len(silent.theory()) == 0
    np.testing.assert_array_equal(silent.theory().levels, [0.0])
    start = silent.initialize(3, scale=1e-2, seed=0)
    path = agf.alternating_gradient_flow(silent, start, backend=verb_backend)
    assert path.status == "nothing_to_learn" and len(path.jumps) == 0


@pytest.mark.parametrize("period", [2, 3])
def test_smallest_periods(verb_backend, period):
    template = np.array([1.0, -1.0]) if period == 2 else np.array([1.0, -0.25, -0.75])
    small = agf.ModularAddition(template)
    start = small.initialize(6, scale=1e-2, seed=1)
    path = agf.alternating_gradient_flow(small, start, active_time=20.0, rtol=1e-6, max_jumps=2, backend=verb_backend)
    assert len(path.jumps) >= 1 and path.loss[-1] < path.loss[0]


def test_the_caller_may_change_the_template():
    template = TEMPLATE.copy()
    changed = agf.ModularAddition(template)
    template[:] = 0.0
    assert changed.loss(np.zeros((1, 60))) > 6.0


def test_float32_in_float32_out(verb_backend):
    single = agf.ModularAddition(TEMPLATE.astype(np.float32))
    theta = THETA.astype(np.float32)
    kernel = single._kernel(verb_backend)
    assert kernel.residual(theta).dtype == kernel.utility_gradient(theta).dtype == np.float32
    assert single.powers(theta).dtype == np.float32
    path = agf.alternating_gradient_flow(
        single, single.initialize(6, scale=1e-2), max_jumps=1, active_time=1.0, rtol=1e-5, backend=verb_backend
    )
    assert path.jumps[0].direction.dtype == np.float32
