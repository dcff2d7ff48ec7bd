"""The gradient flow of a diagonal network by SciPy, one variable per neuron: dx_i/dt = g_i rho_i(x_i).

x is signed as beta (ln v of neurons whose v cannot be 0), so conserved quantities hold by construction and no scale
underflows. Where initial scales are tiny the right-hand side is constant for long times, and a step may be as long as
it takes the next neuron to be felt, no longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import Radau

from .._flow_jumps import flow_jumps
from ._run import Halt, Run, quiet

if TYPE_CHECKING:
    from ._diagonal import Diagonal, Network

__all__ = ["follow"]

Array = NDArray[np.float64]

# Parts of the targets that a neuron makes up where steps begin to be bounded by its growth.
_FELT = 1e-12


class _Motion:
    """Right-hand side and Jacobian."""

    def __init__(self, kernel: Diagonal, network: Network, run: Run) -> None:
        self.kernel, self.network, self.run = kernel, network, run
        self.gram = kernel.x.T @ kernel.x / kernel.n_samples
        self.pinned = np.array([neuron.pinned for neuron in network.neurons])
        self.side = np.where(self.pinned, network.sign, 1)
        length = np.sqrt(np.diag(self.gram))
        size = np.sqrt(np.mean(kernel.y**2))
        with np.errstate(divide="ignore"):
            log_beta = np.log(_FELT * size) - np.log(length)
        # x at which a neuron is felt.
        self.felt = np.array(
            [
                neuron.place(neuron.log_v_of(float(b))) if np.isfinite(b) else np.inf
                for neuron, b in zip(network.neurons, log_beta, strict=True)
            ]
        )

    def initial(self) -> Array:
        places = [neuron.place(float(v)) for neuron, v in zip(self.network.neurons, self.network.log_v, strict=True)]
        return np.where(self.pinned, places, self.network.sign * np.array(places))

    def log_v(self, x: Array) -> Array:
        size = np.where(self.pinned, x, np.abs(x))
        return np.array([neuron.log_v(float(z)) for neuron, z in zip(self.network.neurons, size, strict=True)])

    def sign(self, x: Array) -> NDArray[np.int_]:
        return np.where(self.pinned, self.network.sign, np.where(x < 0, -1, 1))

    def coefficients(self, x: Array) -> Array:
        logs = [neuron.log_product(float(v)) for neuron, v in zip(self.network.neurons, self.log_v(x), strict=True)]
        return np.asarray(self.sign(x) * np.exp(logs))

    def loss(self, x: Array) -> float:
        return 0.5 * float(np.mean((self.kernel.y - self.kernel.x @ self.coefficients(x)) ** 2))

    def gradient(self, x: Array) -> Array:
        return np.asarray(self.kernel.x.T @ (self.kernel.y - self.kernel.x @ self.coefficients(x)) / len(self.kernel.y))

    def rate(self, x: Array) -> Array:
        pairs = zip(self.network.neurons, self.log_v(x), strict=True)
        return np.exp([neuron.log_layers(float(v))[1:].sum() for neuron, v in pairs])

    def rhs(self, t: float, x: Array) -> Array:
        del t
        self.run.poll()
        self.run.evaluations += 1
        return np.asarray(self.side * self.gradient(x) * self.rate(x))

    def jacobian(self, t: float, x: Array) -> Array:
        """-rho Sigma dbeta/dx + diag(g drho/dx); both derivatives by central differences, smooth on the unit scale."""
        del t
        self.run.hessians += 1
        h = 1e-5
        slope = (self.coefficients(x + h) - self.coefficients(x - h)) / (2 * h)
        bend = (self.rate(x + h) - self.rate(x - h)) / (2 * h)
        coupled = -(self.side * self.rate(x))[:, None] * self.gram * slope[None, :]
        return np.asarray(coupled + np.diag(self.side * self.gradient(x) * bend))

    def reach(self, x: Array) -> float:
        """The time in which no neuron gets further than where it is felt, or an e-fold beyond."""
        speed = self.rhs(0.0, x)
        outward = np.where(self.pinned, speed, speed * self.sign(x))
        left = np.maximum(self.felt - np.where(self.pinned, x, np.abs(x)), 1.0)
        with np.errstate(divide="ignore"):
            return float(np.where(outward > 0, left / np.maximum(outward, 1e-300), np.inf).min())


@np.errstate(all="ignore")
def follow(
    kernel: Diagonal,
    network: Network,
    t_end: float,
    clock: str,
    save_at: Array | None,
    loss_tol: float,
    rtol: float,
    run: Run,
    observer: Any,
) -> dict[str, Any]:
    """The record of a flow from a network's present state to t_end in the given clock."""
    if network.still.any():
        raise ValueError("start has neurons with several layers at zero, which backend='numpy' does not run")
    motion = _Motion(kernel, network, run)
    time, scaled_time, log_eta = network.clocks()
    unit = float(np.exp(log_eta)) if clock == "scaled" else 1.0
    began = scaled_time if clock == "scaled" else time
    x = motion.initial()
    # Times from here on are in flow units since the start.
    solver = Radau(motion.rhs, 0.0, x, (t_end - began) * unit, rtol=1e-13, atol=0.1 * rtol, jac=motion.jacobian)
    dense: list[tuple[float, float, float, float]] = []
    saved: list[tuple[float, float, float, float]] = []
    states: list[dict[str, Any]] = []
    due = [] if save_at is None else [float(s) for s in save_at]

    def point(since: float, at: Array) -> tuple[float, float, float, float]:
        return time + since, scaled_time + since * float(np.exp(-log_eta)), motion.loss(at), since

    def state(since: float, at: Array) -> dict[str, Any]:
        for i, v in enumerate(motion.log_v(at)):
            network.place(i, int(motion.sign(at)[i]), float(v))
        now = point(since, at)
        record = network.record()
        record.update(time=now[0], scaled_time=now[1], log_eta=log_eta, phase_elapsed=since)
        return {**record, "active": record["log_norm"] >= 0.0}

    def keep(since: float, at: Array, with_state: bool) -> bool:
        saved.append(point(since, at))
        names = ("time", "scaled_time", "loss", "elapsed")
        if with_state:
            states.append(state(since, at))
        record = {**dict(zip(names, saved[-1], strict=True)), "state": states[-1] if with_state else None}
        return observer is not None and bool(observer(record))

    status, since = "", 0.0
    try:
        dense.append(point(0.0, x))
        if save_at is None and keep(0.0, x, False):
            status = "callback"
        while due and due[0] <= began and not status:
            due.pop(0)
            status = "callback" if keep(0.0, x, True) else ""
        while not status:
            if loss_tol >= 0.0 and dense[-1][2] <= loss_tol:
                status = "loss_tol"
            elif solver.status != "running":
                status = "t_end" if solver.status == "finished" else "non_finite"
            if status:
                break
            solver.max_step = motion.reach(x)
            with quiet():
                solver.step()
            run.steps += 1
            before, since, x = since, float(solver.t), np.array(solver.y)
            if solver.status == "failed":
                status = "non_finite"
                break
            output = solver.dense_output()
            while due and (due[0] - began) * unit <= since and not status:
                at = (due.pop(0) - began) * unit
                status = "callback" if keep(at, output(at) if at > before else x, True) else ""
            dense.append(point(since, x))
            if save_at is None and keep(since, x, False):
                status = "callback"
    except Halt as halt:
        status = halt.status
    columns = np.array(saved).reshape(-1, 4)
    return {
        "jumps": flow_jumps(*np.array(dense).T),
        "time": columns[:, 0],
        "scaled_time": columns[:, 1],
        "loss": columns[:, 2],
        "elapsed": columns[:, 3],
        "states": states,
        "state": state(since, x),
        "status": status,
        "log_eta": log_eta,
        "conserved_drift": 0.0,
        "notes": [],
        "stats": run.stats(),
    }
