"""Regression problems for diagonal networks."""

from __future__ import annotations

import numpy as np

import agf_fast as agf


def two_dimensional():
    """The paper's: X the Cholesky factor of R(150 degrees) diag(1, 25) R', y = X (-0.2, 2)."""
    angle = np.deg2rad(150.0)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    X = np.linalg.cholesky(rotation @ np.diag([1.0, 25.0]) @ rotation.T)
    return X, X @ np.array([-0.2, 2.0])


def five_dimensional():
    """The paper's: legacy seed 10, 20 samples of N(0, diag(1, 1/2, .., 1/5)), beta = 10 N(0, 1)."""
    random = np.random.RandomState(10)
    X = random.multivariate_normal(np.zeros(5), np.diag(1.0 / np.arange(1, 6)), 20)
    return X, X @ (10.0 * random.randn(5))


def random_data(seed):
    """n from 5 to 60, d from 2 to 40, cond of the covariance from 1 to 1e6; noisy targets for odd seeds."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 61)), int(rng.integers(2, 41))
    rank = min(n, d)
    spectrum = np.logspace(0.0, -0.5 * rng.uniform(0.0, 6.0), rank)
    left, _ = np.linalg.qr(rng.standard_normal((n, rank)))
    right, _ = np.linalg.qr(rng.standard_normal((d, rank)))
    X = np.sqrt(n) * (left * spectrum) @ right.T
    y = X @ (rng.standard_normal(d) * 10.0 ** rng.uniform(-1.0, 1.0, d))
    return X, y + rng.standard_normal(n) * (seed % 2)


def limit(X, y, depth=2, **options):
    return agf.alternating_gradient_flow(agf.Diagonal(X, y, depth), limit=True, **options)


def order(path):
    return [jump.neuron for jump in path.jumps]
