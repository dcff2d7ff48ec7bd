"""Dormant neurons in closed form, for dynamics that are linear while the residual stands still (kappa = 2)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq


class LinearNeuron:
    """theta = (w, a) under dw/dt = M^T a, da/dt = M w: grows like e^(s t) along (v, u)/sqrt(2) for each singular
    triple.

    With M = sum_j s_j u_j v_j^T the components along (v_j, u_j)/sqrt(2) and (v_j, -u_j)/sqrt(2) are multiplied by
    e^(s_j t) and e^(-s_j t); what is left of theta stands still.
    `log_scale` is added to the logarithm of the norm, so that no scale is too small.
    """

    def __init__(self, w, a, log_scale=0.0):
        self.w, self.a, self.log_scale = np.array(w), np.array(a), log_scale

    def parts(self, M):
        u, s, vt = np.linalg.svd(M, full_matrices=False)
        along, across = vt @ self.w, u.T @ self.a
        growing, shrinking = (
            (along + across) / np.sqrt(2),
            (along - across) / np.sqrt(2),
        )
        rest = self.w @ self.w + self.a @ self.a - growing @ growing - shrinking @ shrinking
        return u, s, vt, growing, shrinking, max(rest, 0.0)

    def log_norm(self, M, t):
        _, s, _, growing, shrinking, rest = self.parts(M)
        with np.errstate(divide="ignore"):
            logs = np.concatenate(
                [
                    2 * np.log(np.abs(growing)) + 2 * s * t,
                    2 * np.log(np.abs(shrinking)) - 2 * s * t,
                    [np.log(rest)],
                ]
            )
        top = logs.max()
        return self.log_scale + 0.5 * (top + np.log(np.sum(np.exp(logs - top))))

    def crossing(self, M, horizon):
        """First time with norm 1 in (0, horizon], the norm being below 1 at 0; inf if there is none.

        norm^2 is convex in t, so below 1 at the start there is at most one upward crossing.
        """
        if self.log_norm(M, horizon) < 0:
            return np.inf
        return brentq(lambda t: self.log_norm(M, t), 0.0, horizon, xtol=1e-300, rtol=1e-14)

    def advance(self, M, t):
        """In place; only for horizons over which e^(s t) is representable."""
        u, s, vt, growing, shrinking, _ = self.parts(M)
        up, down = growing * np.expm1(s * t), shrinking * np.expm1(-s * t)
        self.w = self.w + vt.T @ (up + down) / np.sqrt(2)
        self.a = self.a + u @ (up - down) / np.sqrt(2)
