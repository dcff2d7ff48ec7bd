"""Gradient flow by SciPy's DOP853, its right-hand side in plain NumPy or from a kernel: no integrator is shared."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp


def plain_loss(activation, X, Y, theta):
    """L = 1/2 E|y - sum_i a_i sigma(w_i . x)|^2."""
    d = X.shape[1]
    residual = Y - activation(X @ theta[:, :d].T) @ theta[:, d:]
    return 0.5 * np.mean(np.sum(residual**2, axis=1))


def plain_gradient(activation, X, Y, theta):
    """-grad L, that is (grad U(theta_i; r))_i."""
    n, d = X.shape
    z = X @ theta[:, :d].T
    s = activation(z)
    residual = Y - s @ theta[:, d:]
    g = residual @ theta[:, d:].T
    return np.concatenate([(activation(z, 1) * g).T @ X, s.T @ residual], axis=1) / n


def explicit_flow(gradient, theta, times, rtol=1e-10):
    """theta at the given increasing times, the first being the start; gradient(theta) is -grad L."""
    solution = _solve(gradient, theta, (times[0], times[-1]), rtol, t_eval=times)
    return solution.y.T.reshape(-1, *theta.shape), solution.nfev


def time_to_loss(gradient, loss, theta, level, limit):
    """When the flow's loss has fallen to `level`, or `limit` if it is not there by then."""

    def above(_, y):
        return loss(y.reshape(theta.shape)) - level

    above.terminal = True
    return float(_solve(gradient, theta, (0.0, limit), 1e-6, events=above).t[-1])


def _solve(gradient, theta, span, rtol, **options):
    solution = solve_ivp(
        lambda _, y: gradient(y.reshape(theta.shape)).ravel(),
        span,
        theta.ravel(),
        method="DOP853",
        rtol=rtol,
        # Far below the smallest start: an absolute tolerance near it would decide when the plateau ends.
        atol=1e-6 * rtol * np.abs(theta).max(),
        **options,
    )
    assert solution.success, solution.message
    return solution
