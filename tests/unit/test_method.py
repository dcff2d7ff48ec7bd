"""Explicit or implicit, Hessian or products: what the run does tells which, and the answer does not depend on it."""

from __future__ import annotations

import numpy as np

import agf_fast as agf
from support.problems import teacher_data


def test_a_stiff_flow_changes_over():
    """Cheap evaluations and a dear Hessian: held by stability, an explicit run takes tens of times as many."""
    problem = agf.Attention(np.diag(1.0 / np.arange(1, 13)), context=24)
    path = agf.alternating_gradient_flow(problem, problem.initialize(12, scale=1e-2, seed=0), rtol=1e-6)
    levels = problem.theory().levels
    np.testing.assert_allclose(path.loss[1:4], levels[1:4], rtol=1e-8)
    assert path.stats["hessians"] > 0
    assert path.stats["evaluations"] < 30_000, path.stats


def test_kinks_that_are_crossed_are_crossed_explicitly():
    """No neuron slides along a kink here: one explicit step in a few is cut by one, and no Hessian is needed."""
    problem = agf.Dense(*teacher_data(n=200), activation="relu")
    start = problem.initialize(3, scale=1e-2, seed=0)
    flows = [agf.gradient_flow(problem, start, 15.0, rtol=rtol, loss_tol=0.0) for rtol in (1e-4, 1e-8)]
    assert flows[0].stats["evaluations"] < 3000, flows[0].stats
    # A kink's error is of first order in the tolerance of the step that meets it.
    assert abs(flows[0].loss[-1] - flows[1].loss[-1]) <= 100 * 1e-4 * flows[1].loss[0]


def _corners():
    """80 samples of 12 inputs, whose flows slide along kinks, cross others on the way, and slide on."""
    rng = np.random.default_rng(103)
    X = rng.standard_normal((80, 12))
    return agf.Dense(0.7 * X, rng.standard_normal((80, 1)), activation="relu")


def test_kinks_hold_no_phase_where_it_stands():
    """In its last phase explicit steps chatter at a ten-millionth of the time, and the first implicit ones are no
    longer: those have to be tried for long enough to slide."""
    problem = _corners()
    start = problem.initialize(12, scale=1e-3, seed=3)
    path = agf.alternating_gradient_flow(problem, start, max_jumps=4, active_time=200.0)
    assert path.stats["active_time"] == [200.0] * 4
    assert path.stats["evaluations"] < 600_000, path.stats


def test_kinks_hold_no_flow_where_it_stands():
    """A slide that meets a kink is slow for a while: one slow stretch must not give it up for good."""
    problem = _corners()
    path = agf.gradient_flow(problem, problem.initialize(12, scale=0.02, seed=3), 3.0)
    assert path.stats["evaluations"] < 200_000, path.stats


def test_products_give_what_the_hessian_gives():
    """Many neurons on few samples: products with the Hessian are cheaper than the Hessian, and as right."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 10))
    Y = np.square(X @ rng.standard_normal((10, 3))) @ rng.standard_normal((3, 1)) / 10
    problem = agf.Dense(X, np.ascontiguousarray(Y), activation="square")
    start = problem.initialize(150, scale=0.1, seed=0)
    coarse, fine = (agf.gradient_flow(problem, start, 100.0, rtol=rtol, loss_tol=0.0) for rtol in (1e-5, 1e-7))
    assert coarse.stats["evaluations"] < 3000, coarse.stats
    assert abs(coarse.loss[-1] - fine.loss[-1]) <= 1e-4 * fine.loss[-1]
    assert np.all(np.diff(fine.loss) <= 1e-14 * fine.loss[0])
