"""Linear networks in extended precision, by methods of their own: long doubles, Jacobi's rotations, fixed steps."""

from __future__ import annotations

import numpy as np

LONG = np.longdouble


def correlate(theta, d, xx, yx):
    """M = Sigma_yx - A W Sigma_xx; theta has one column [w (d) | a (c)] per neuron."""
    return yx - theta[d:] @ theta[:d].T @ xx


def velocity(theta, d, xx, yx):
    """d theta / dt: dW/dt = A^T M, dA/dt = M W^T."""
    m = correlate(theta, d, xx, yx)
    return np.concatenate([m.T @ theta[d:], m @ theta[:d]])


def runge_kutta(theta, d, xx, yx, h):
    """One classical step."""
    k1 = velocity(theta, d, xx, yx)
    k2 = velocity(theta + h / 2 * k1, d, xx, yx)
    k3 = velocity(theta + h / 2 * k2, d, xx, yx)
    k4 = velocity(theta + h * k3, d, xx, yx)
    return theta + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def loss(theta, d, xx, yx, level):
    """L = level - tr(A W Sigma_yx^T) + 1/2 tr(A W Sigma_xx (A W)^T), `level` that of the zero network."""
    p = theta[d:] @ theta[:d].T
    return level - np.sum(p * yx) + np.sum((p @ xx) * p) / 2


def flow_crossings(theta, d, xx, yx, level, levels, h, limit):
    """When the flow's loss falls through each of the falling `levels`; linear between steps."""
    times, before, t = [], loss(theta, d, xx, yx, level), LONG(0)
    while len(times) < len(levels) and t < limit:
        theta = runge_kutta(theta, d, xx, yx, h)
        after = loss(theta, d, xx, yx, level)
        while len(times) < len(levels) and after <= levels[len(times)]:
            times.append(float(t + h * (before - levels[len(times)]) / (before - after)))
        before, t = after, t + h
    return np.array(times)


def eigen(matrix):
    """Eigenvalues and eigenvectors (columns) of a symmetric matrix by Jacobi's rotations."""
    a, v = np.array(matrix, dtype=LONG), np.eye(len(matrix), dtype=LONG)
    for _ in range(60):
        if np.abs(np.triu(a, 1)).max() <= 1e-22 * np.abs(a).max():
            break
        for p in range(len(a)):
            for q in range(p + 1, len(a)):
                if a[p, q] != 0:
                    _turn(a, v, p, q)
    return np.diag(a).copy(), v


def _turn(a, v, p, q):
    theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
    t = (1 if theta >= 0 else -1) / (abs(theta) + np.sqrt(1 + theta * theta))
    c = 1 / np.sqrt(1 + t * t)
    turn = np.array([[c, c * t], [-c * t, c]], dtype=LONG)
    a[:, [p, q]] = a[:, [p, q]] @ turn
    a[[p, q]] = turn.T @ a[[p, q]]
    v[:, [p, q]] = v[:, [p, q]] @ turn


def orthogonal_columns(columns):
    """columns Q with orthogonal columns, longest first (one-sided Jacobi)."""
    x = np.array(columns, dtype=LONG)
    for _ in range(60):
        turned = False
        for p in range(x.shape[1]):
            for q in range(p + 1, x.shape[1]):
                a, b, g = x[:, p] @ x[:, p], x[:, q] @ x[:, q], x[:, p] @ x[:, q]
                if abs(g) <= 1e-18 * np.sqrt(a * b):
                    continue
                turned = True
                zeta = (b - a) / (2 * g)
                t = (1 if zeta >= 0 else -1) / (abs(zeta) + np.sqrt(1 + zeta * zeta))
                c = 1 / np.sqrt(1 + t * t)
                x[:, [p, q]] = x[:, [p, q]] @ np.array([[c, c * t], [-c * t, c]], dtype=LONG)
        if not turned:
            break
    return x[:, np.argsort(-np.sum(x * x, axis=0))]


def alternating_jumps(theta, d, xx, yx, level, count, h, relax):
    """Times and levels of the first `count` jumps of Algorithm 1 by directions; active phases last `relax`."""
    active, dormant, t = theta[:, :0], np.array(theta), LONG(0)
    jumps = []
    for _ in range(count):
        m = correlate(active, d, xx, yx)
        form = np.block([[np.zeros((d, d)), m.T], [m, np.zeros((len(m), len(m)))]])
        beta, vectors = eigen(form)
        # The columns keep their own directions before each race; their logarithm makes the bracket.
        start = vectors.T @ orthogonal_columns(dormant)

        def size(wait, beta=beta, start=start):
            grown = np.exp(beta * wait)[:, None] * start
            return np.log(np.linalg.norm(orthogonal_columns(grown)[:, 0].astype(float)))

        low, high = LONG(0), LONG(1)
        while size(high) < 0:
            low, high = high, 2 * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if size(middle) < 0 else (low, middle)
        columns = orthogonal_columns(vectors @ (np.exp(beta * high)[:, None] * start))
        t += high
        active, dormant = np.column_stack([active, columns[:, 0]]), columns[:, 1:]
        for _ in range(int(relax / h)):
            active = runge_kutta(active, d, xx, yx, h)
        jumps.append((float(t), float(loss(active, d, xx, yx, level))))
    return np.array(jumps)
