"""The frozen cases, made once and shared by the tests that look at them."""

from __future__ import annotations

import functools

import numpy as np

import agf_fast as agf
from support.problems import MODULAR_PERIOD, modular_data, teacher_data

MODULAR = {"width": 18, "scale": 1e-2, "active_time": 100.0, "rtol": 1e-6, "seed": 0}


@functools.cache
def modular():
    """p = 20 modular addition as a Dense network with square activation: n = 400, d = 40, c = 20."""
    return agf.Dense(*modular_data(), activation="square")


@functools.cache
def modular_run(backend, seed=MODULAR["seed"], max_jumps=None):
    """Algorithm 1 to 2L/p = 1e-4."""
    problem = modular()
    return agf.alternating_gradient_flow(
        problem,
        problem.initialize(MODULAR["width"], scale=MODULAR["scale"], seed=seed),
        max_jumps=max_jumps,
        loss_tol=0.5e-4 * MODULAR_PERIOD,
        active_time=MODULAR["active_time"],
        rtol=MODULAR["rtol"],
        backend=backend,
    )


@functools.cache
def teacher():
    """A ReLU network's targets on 60 samples."""
    return agf.Dense(*teacher_data(), activation="relu")


def ends(path):
    """2L/p after each jump."""
    return 2.0 / MODULAR_PERIOD * np.array([jump.loss_after for jump in path.jumps])
