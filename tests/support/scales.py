"""Per-entry error scales of the leaves: what one relative rounding of every elementary term can do to a result.

A leaf is a chain of sums of products. Replacing every term by its absolute value gives the scale S of an entry; two
correct evaluations differ by at most a modest multiple of eps * S. The multiple is 16: long sums are taken in blocks or
pairwise, so their error grows like a logarithm of the length, and sigma is good to a few ulp.
An error e in z moves sigma by |sigma'(z)| e; hence the terms |sigma'| Z with Z = |X| |w| beside |sigma|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MULTIPLE = 16.0


@dataclass
class Scales:
    residual: np.ndarray  # (n, c)
    utility: np.ndarray  # (H,)
    gradient: np.ndarray  # (H, m)
    hessian_vector: np.ndarray  # (H, m)


def scales(activation, X, Y, theta, residual, v):
    """Scales of residual(theta), U and grad U at the given residual, and (hess L) v."""
    X, Y, theta, residual, v = (np.asarray(array, dtype=np.float64) for array in (X, Y, theta, residual, v))
    n, d = X.shape
    w, a = theta[:, :d], theta[:, d:]
    x = np.abs(X)
    z, z_scale = X @ w.T, x @ np.abs(w).T
    s0, s1, s2 = (np.abs(activation(z, k)) + np.abs(activation(z, k + 1)) * z_scale for k in range(3))
    r = np.abs(residual)
    g = r @ np.abs(a).T
    own = np.abs(Y) + s0 @ np.abs(a)
    v_w, v_a = np.abs(v[:, :d]), np.abs(v[:, d:])
    dz = x @ v_w.T
    dr = (s1 * dz) @ np.abs(a) + s0 @ v_a
    along_a = (s1 * dz).T @ own + s0.T @ dr
    along_w = (s2 * dz * (own @ np.abs(a).T) + s1 * (own @ v_a.T) + s1 * (dr @ np.abs(a).T)).T @ x
    return Scales(
        residual=own,
        utility=(s0 * g).sum(axis=0) / n,
        gradient=np.concatenate([(s1 * g).T @ x, s0.T @ r], axis=1) / n,
        hessian_vector=np.concatenate([along_w, along_a], axis=1) / n,
    )


def assert_within(got, expected, scale, eps, multiple=MULTIPLE):
    """|got - expected| <= multiple * eps * scale, entry by entry."""
    error = np.abs(np.asarray(got, dtype=np.float64) - np.asarray(expected, dtype=np.float64))
    # The least positive number keeps 0 <= 0 meaningful where a whole entry is exactly zero in both.
    worst = np.max(error / (eps * np.asarray(scale) + np.finfo(np.float64).tiny))
    assert worst <= multiple, f"worst entry is {worst:.3g} eps * scale away, at most {multiple:g} expected"
