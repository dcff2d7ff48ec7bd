"""Linear networks with known singular values and moments."""

from __future__ import annotations

import numpy as np

import agf_fast as agf


def moments(values, variances, commuting=True, seed=0):
    """Sigma_xx and Sigma_yx with these eigenvalues and singular values, in random bases: Sigma_xx has the right
    singular vectors of Sigma_yx (and so commutes with Sigma_yx^T Sigma_yx), or a basis of its own."""
    rng = np.random.default_rng(seed)
    size = len(values)
    left, right, other = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(3))
    basis = right if commuting else other
    return (basis * np.asarray(variances)) @ basis.T, (left * np.asarray(values)) @ right.T


def power_laws(commuting=True, seed=0, size=10):
    """The `linear` experiments: c = H = d = 10, singular values j^-0.7 of the target, variances j^-0.5."""
    j = np.arange(1.0, size + 1)
    return agf.Linear.from_moments(*moments(j**-0.7, j**-0.5, commuting, seed))


def start(problem, width, decades, seed=0):
    """Initial scale 10^-decades, any at all."""
    return problem.initialize(width, log_scale=-decades * np.log(10.0), seed=seed)


def times(theory):
    return np.array([jump.scaled_time for jump in theory.jumps])


def middles(theory):
    """Losses half-way down each drop."""
    return 0.5 * (theory.levels[1:] + theory.levels[:-1])


def falls(flow, levels):
    """When a flow's recorded loss falls through each level, linear between points."""
    at = np.array([int(np.argmax(flow.loss < level)) for level in levels])
    assert (at > 0).all(), "the flow ends above a level"
    before, after = flow.loss[at - 1], flow.loss[at]
    return flow.time[at - 1] + (before - levels) / (before - after) * (flow.time[at] - flow.time[at - 1])


def extrapolated(first, second, scales):
    """The limit of what is linear in 1 / ln(1/alpha), from two scales given in decades."""
    x, y = (1.0 / decades for decades in scales)
    return (second * x - first * y) / (x - y)
