"""The leaves as users call them: both of one pass are those of two calls; nothing bad gets past the short way in."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.problems import generic_data, modular_template

PROBLEMS = {
    "dense": lambda X, Y: agf.Dense(X, Y, activation="gelu"),
    "diagonal": lambda X, Y: agf.Diagonal(X, Y[:, 0]),
    "linear": agf.Linear,
    "attention": lambda X, Y: agf.Attention(np.diag([1.0, 0.5])),
    "modular": lambda X, Y: agf.ModularAddition(modular_template(7, {1: 5.0, 2: 2.0})),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_both_in_one_pass(name):
    X, Y, *_ = generic_data(n=11, d=4, c=2)
    problem = PROBLEMS[name](X, Y)
    theta = np.random.default_rng(1).standard_normal((problem._width or 3, problem.n_params))
    for residual in (None, problem.residual(0.5 * theta)):
        value, gradient = problem.utility_and_gradient(theta, residual)
        np.testing.assert_array_equal(value, problem.utility(theta, residual))
        np.testing.assert_array_equal(gradient, problem.utility_gradient(theta, residual))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_bad_numbers_are_found_and_large_ones_pass(bad):
    """1e300 overflows a sum of squares, which alone would not tell it from an infinity."""
    X, Y, theta, *_ = generic_data(n=11, d=4, c=2)
    problem = agf.Dense(X, Y, activation="identity")
    theta[1, 2] = bad
    if np.isfinite(bad):
        assert np.isfinite(problem.utility(theta, Y)).all()
    else:
        with pytest.raises(ValueError, match=r"theta holds 1 value\(s\) that are NaN or infinite.*\(1, 2\)"):
            problem.utility_and_gradient(theta)
