"""What the flow keeps, and what it never does: conserved quantities, and a loss that rises."""

from __future__ import annotations

import numpy as np
import pytest

import agf_fast as agf
from support.activations import ACTIVATIONS, BY_LABEL
from support.problems import generic_data


def conserved(degree, theta, d):
    """k |a|^2 - |w|^2, per neuron."""
    return degree * np.sum(theta[:, d:] ** 2, axis=1) - np.sum(theta[:, :d] ** 2, axis=1)


def problem_for(activation, seed=0):
    X, Y, theta, *_ = generic_data(n=30, d=3, c=2, H=5, seed=seed)
    return agf.Dense(0.7 * X, Y, **activation.keywords), theta


@pytest.mark.parametrize("scale", [0.1, 0.8])
def test_flow(verb_backend, activation, scale):
    """Along gradient_flow at default tolerances: drift <= 1e-8 of max |theta|^2, both as reported and as computed
    here."""
    problem, theta = problem_for(activation)
    start = scale * theta / np.linalg.norm(theta, axis=1, keepdims=True)
    # Long enough for neurons to have turned, whatever kappa says of the speed at this norm.
    t_end = 2.0 * scale ** (2 - activation.kappa)
    path = agf.gradient_flow(problem, start, t_end, max_seconds=60, backend=verb_backend)
    assert path.status in ("t_end", "loss_tol")
    end = path.state.parameters()
    assert np.linalg.norm(end - start) > 0.1 * np.linalg.norm(start)
    if activation.homogeneous:
        moved = np.abs(conserved(activation.degree, end, 3) - conserved(activation.degree, start, 3))
        largest = max(np.sum(theta**2, axis=1).max() for theta in (start, end))
        # The reported drift is relative to max_t |theta_i|^2 of the neuron; nobody's is larger than `largest`.
        assert moved.max() <= 1e-8 * largest
        assert path.conserved_drift <= 1e-8
    else:
        assert np.isnan(path.conserved_drift)
    # Rounding of a loss evaluation: a few eps of L(0), the size of the targets' own sum of squares.
    assert np.all(np.diff(path.loss) <= 1e-14 * path.loss[0])
    assert path.loss[-1] == pytest.approx(problem.loss(path.state), rel=1e-9)


def test_alternating(verb_backend, activation):
    """Active phases conserve too; a jump may raise the loss (newcomer at norm 1), a phase may not."""
    problem, theta = problem_for(activation, seed=1)
    path = agf.alternating_gradient_flow(problem, 1e-4 * theta, max_jumps=3, active_time=5.0, backend=verb_backend)
    assert len(path.jumps) >= 1
    if activation.homogeneous:
        assert path.conserved_drift <= 1e-8
    else:
        assert np.isnan(path.conserved_drift)
    for jump in path.jumps:
        assert np.isfinite([jump.loss_before, jump.loss_after, jump.utility]).all()


def test_phase_alone_is_monotone(verb_backend, activation):
    """A state with every neuron active is one active phase: the loss goes down, to a stationary point or by
    active_time."""
    problem, theta = problem_for(activation, seed=2)
    start = agf.State(theta / np.linalg.norm(theta, axis=1, keepdims=True), np.full(len(theta), 0.2))
    before = problem.loss(start)
    last = before
    for active_time in (0.1, 1.0, 10.0):
        path = agf.alternating_gradient_flow(problem, start, active_time=active_time, backend=verb_backend)
        after = problem.loss(path.state)
        assert after <= last * (1 + 1e-9)
        last = after
    assert last < before


def test_phase_follows_the_flow(verb_backend):
    """Cost minimisation is the flow, not an optimiser: the same state as gradient_flow at the same time, to its
    tolerance."""
    for label in ("identity", "square", "tanh", "relu"):
        problem, theta = problem_for(BY_LABEL[label], seed=3)
        start = agf.State(theta / np.linalg.norm(theta, axis=1, keepdims=True), np.zeros(len(theta)))
        phase = agf.alternating_gradient_flow(problem, start, active_time=2.0, loss_tol=0.0, backend=verb_backend)
        flow = agf.gradient_flow(problem, start, 2.0, loss_tol=0.0, backend=verb_backend)
        assert len(phase.state.active) == phase.state.active.sum(), "nobody returned in this case"
        # Two integrations at rtol 1e-9 of a flow that contracts or turns mildly over t = 2.
        scale = np.abs(flow.state.parameters()).max()
        np.testing.assert_allclose(phase.state.parameters(), flow.state.parameters(), rtol=0, atol=1e-6 * scale)


def test_conserved_drift_is_measured_not_assumed(verb_backend):
    """The report follows what the states show; the compiled engine puts neurons back on their balance after each step,
    so its drift is rounding at any tolerance, the readable one's is the error of its integration."""
    problem, theta = problem_for(BY_LABEL["square"], seed=4)
    start = theta / np.linalg.norm(theta, axis=1, keepdims=True)
    rounding = 1e-14
    drifts = []
    for rtol in (1e-3, 1e-10):
        path = agf.gradient_flow(problem, start, 5.0, rtol=rtol, backend=verb_backend)
        end = path.state.parameters()
        shown = np.abs(conserved(2, end, 3) - conserved(2, start, 3)).max() / np.sum(end**2, axis=1).max()
        # The report is the maximum over the run and over neurons of a ratio with a denominator that is no larger.
        assert path.conserved_drift >= 0.99 * shown - rounding
        drifts.append(path.conserved_drift)
    assert drifts[1] <= drifts[0] + rounding
    if verb_backend == "cpp":
        assert max(drifts) <= rounding


def test_every_activation_is_in_the_table():
    assert {activation.name for activation in ACTIVATIONS} == {
        "identity", "relu", "leaky_relu", "square", "power", "tanh", "gelu", "elu", "silu", "erf"
    }  # fmt: skip
