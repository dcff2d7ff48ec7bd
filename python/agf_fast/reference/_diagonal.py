"""Diagonal networks: f(x; theta) = sum_i beta_i x_i, beta_i = prod_l u_{l,i}, E the mean over samples.

With g = E[x r]:  U_i = beta_i g_i,  dU_i/du_l = g_i prod_{k != l} u_k,  and -dL/dtheta_i = grad U_i.

The flow of one neuron conserves u_l^2 - u_k^2. With v the layer of least |u|, signed by the others, and the others
sqrt(c_l + v^2), v = sqrt(c) sinh x for the least c > 0 (v = e^x if it is 0), dx/dt = g rho and T = int dx / rho obeys
dT/dt = g, where rho = prod sqrt(c_l + v^2) over the layers but v and that of the least c: rho = 1 at depth 2.
"""

from __future__ import annotations

from itertools import pairwise
from math import gamma, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

from ._diagonal_flow import follow
from ._run import Halt, Run, quiet

__all__ = ["Diagonal", "Neuron", "signed_least_squares"]

Array = NDArray[np.float64]
Extended = NDArray[np.longdouble]

_TIE = 1e-12
_INERT = 1e-10


class Diagonal:
    """The leaves of a diagonal network, each one formula in NumPy, and its exact path and flow.

    Computes in double whatever the dtype, the path in extended precision, and returns arrays in the dtype of X.

    Parameters
    ----------
    X : (n, d) array, float32 or float64
        Inputs.
    y : (n, 1) array
        Targets, in the dtype of X.
    depth : int
        Layers.

    Examples
    --------
    >>> import numpy as np
    >>> from agf_fast.reference import Diagonal
    >>> Diagonal(np.eye(2), np.ones((2, 1)), 2).utility(np.array([[1.0, 2.0], [1.0, 0.0]]))
    array([-1.,  0.])
    """

    def __init__(self, X: NDArray[Any], y: NDArray[Any], depth: int) -> None:
        self.dtype = X.dtype
        self.x, self.y = X.astype(np.float64), y.astype(np.float64)[:, 0]
        self.depth = depth
        self.n_samples, self.n_inputs = X.shape

    def predict(self, theta: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        return self._out((x.astype(np.float64) @ np.prod(theta.astype(np.float64), axis=1))[:, None])

    def residual(self, theta: NDArray[Any]) -> NDArray[Any]:
        return self._out(self._residual(theta)[:, None])

    def loss(self, theta: NDArray[Any]) -> float:
        return 0.5 * float(np.mean(self._residual(theta) ** 2))

    def utility(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        return self.utility_and_gradient(theta, residual)[0]

    def utility_gradient(self, theta: NDArray[Any], residual: NDArray[Any] | None = None) -> NDArray[Any]:
        return self.utility_and_gradient(theta, residual)[1]

    def utility_and_gradient(
        self, theta: NDArray[Any], residual: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        g = self._gradient(theta, residual)
        return self._out(np.prod(theta.astype(np.float64), axis=1) * g), self._out(self._slopes(theta) * g[:, None])

    def hessian_vector(self, theta: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        """(Sigma d beta)_i dbeta_i/du_l - g_i sum_m d2 beta_i / du_l du_m v_m, d beta along v."""
        u, along = theta.astype(np.float64), v.astype(np.float64)
        slopes, g = self._slopes(theta), self._gradient(theta, None)
        pulled = self.x.T @ (self.x @ (slopes * along).sum(axis=1)) / self.n_samples
        out = pulled[:, None] * slopes
        for layer in range(self.depth):
            for other in range(self.depth):
                if other != layer:
                    rest = np.prod(np.delete(u, [layer, other], axis=1), axis=1)
                    out[:, layer] -= g * rest * along[:, other]
        return self._out(out)

    def _residual(self, theta: NDArray[Any]) -> Array:
        return np.asarray(self.y - self.x @ np.prod(theta.astype(np.float64), axis=1))

    def _gradient(self, theta: NDArray[Any], residual: NDArray[Any] | None) -> Array:
        r = self._residual(theta) if residual is None else residual.astype(np.float64)[:, 0]
        return np.asarray(self.x.T @ r / self.n_samples)

    def _slopes(self, theta: NDArray[Any]) -> Array:
        u = theta.astype(np.float64)
        return np.stack([np.prod(np.delete(u, layer, axis=1), axis=1) for layer in range(self.depth)], axis=1)

    def _out(self, array: Array) -> NDArray[Any]:
        return array.astype(self.dtype, copy=False)

    def path(
        self,
        start: dict[str, Any] | None,
        *,
        max_jumps: int = -1,
        loss_tol: float = 0.0,
        activation_window: float = 0.0,
        adaptive_rate: bool = False,
        max_seconds: float = np.inf,
        observer: Any = None,
    ) -> dict[str, Any]:
        """Alternating gradient flow, exact; from None its limit at small scale. See `agf_fast.Diagonal`."""
        if activation_window > 0.0 or (adaptive_rate and self.depth > 2):
            raise ValueError(
                "activation_window or adaptive_rate given with backend='numpy', expected neither: the reference of "
                "diagonal networks knows none; use backend='cpp'"
            )
        return _Path(self, start, max_jumps, loss_tol, Run(max_seconds), observer).follow()

    def flow(
        self,
        start: dict[str, Any],
        t_end: float,
        *,
        clock: str,
        save_at: Array | None,
        loss_tol: float,
        rtol: float,
        max_seconds: float,
        adaptive_rate: bool = False,
        observer: Any = None,
    ) -> dict[str, Any]:
        """The gradient flow, within the range of double in time. See `agf_fast.gradient_flow`."""
        if adaptive_rate and self.depth > 2:
            raise ValueError("adaptive_rate is True with backend='numpy', expected False; use backend='cpp'")
        return follow(self, Network(start), t_end, clock, save_at, loss_tol, rtol, Run(max_seconds), observer)


class Neuron:
    """One neuron through its conserved quantities c_l, as logarithms; everything a function of x."""

    def __init__(self, log_gaps: Array) -> None:
        self.log_gaps = np.sort(np.asarray(log_gaps, dtype=np.float64))
        self.depth = len(self.log_gaps) + 1
        self.pinned = bool(np.isneginf(self.log_gaps[0]))
        total = float(np.logaddexp.reduce(self.log_gaps))
        self.free = total >= 0.0
        # |theta|^2 = depth v^2 + sum c is 1 at the end.
        self.end = np.inf if self.free else self.place(0.5 * (np.log(-np.expm1(total)) - np.log(self.depth)))

    def place(self, log_v: float) -> float:
        """x of v = e^log_v."""
        if self.pinned:
            return log_v
        z = log_v - 0.5 * self.log_gaps[0]
        return float(np.log(2.0) + z + 0.25 * np.exp(-2.0 * z)) if z > 20.0 else float(np.arcsinh(np.exp(z)))

    def log_v(self, x: float) -> float:
        if self.pinned:
            return x
        if x <= 0.0:
            return -np.inf
        return float(0.5 * self.log_gaps[0] + x - np.log(2.0) + np.log(-np.expm1(-2.0 * x)))

    def log_layers(self, log_v: float) -> Array:
        """ln of the layers but v."""
        return np.asarray(0.5 * np.logaddexp(self.log_gaps, 2.0 * log_v))

    def log_norm(self, log_v: float) -> float:
        return 0.5 * float(np.logaddexp.reduce(np.append(self.log_gaps, np.log(self.depth) + 2.0 * log_v)))

    def log_product(self, log_v: float) -> float:
        return float(log_v + self.log_layers(log_v).sum())

    def log_v_of(self, log_product: float) -> float:
        """ln v at which ln |beta| is this."""
        return _root(self.log_product, log_product)

    def travel(self, first: float, last: float, log_unit: float) -> float:
        """int dx / rho from first to last, in units of e^log_unit."""
        if self.depth == 2:
            return (last - first) * float(np.exp(-log_unit))

        def speed(x: float) -> float:
            return float(np.exp(-self.log_layers(self.log_v(x))[1:].sum() - log_unit))

        # The integrand falls by 1/e and more over unit lengths beyond the last crossing of two terms.
        crossings = [self.place(0.5 * c) for c in self.log_gaps if np.isfinite(c)]
        knots = [first, *sorted(x for x in crossings if first < x < last), last]
        knots = [p for k in knots for p in (k - 3.0, k, k + 3.0, k + 40.0) if first <= p <= last] + [first, last]
        knots = sorted(set(knots))
        with quiet():
            return float(sum(quad(speed, a, b, epsabs=1e-17, epsrel=1e-13)[0] for a, b in pairwise(knots)))

    def arrival(self, travelled: float, log_unit: float) -> float:
        """The x with T = travelled since 0; where v cannot be 0, the x from which that is left to the end."""
        if self.pinned:
            if self.depth == 2:
                return self.end - travelled
            return _root(lambda x: -self.travel(min(x, self.end), self.end, log_unit), -travelled)
        if self.depth == 2:
            return travelled
        return _root(lambda x: self.travel(0.0, max(x, 0.0), log_unit), travelled)


def signed_least_squares(gram: Extended, moment: Extended, signs: NDArray[np.int_]) -> Extended:
    """argmin 1/2 b' gram b - moment' b with signs_i b_i >= 0, and b_i = 0 where signs_i = 0.

    Block principal pivoting (Judice and Pires; Kim and Park, SIAM J. Sci. Comput. 33, 2011) in extended precision, from
    an empty start: all that violate change sides at once, or, when that has stopped to help, the last of them alone.
    """
    allowed = np.flatnonzero(signs)
    s = signs[allowed].astype(np.longdouble)
    a = gram[np.ix_(allowed, allowed)] * s[:, None] * s[None, :]
    b = moment[allowed] * s
    passive = np.zeros(len(allowed), dtype=bool)
    fewest, patience = len(allowed) + 1, 3
    noise = 1e-15 * (np.abs(b).max(initial=0.0))
    for _ in range(10000):
        x = np.zeros(len(allowed), dtype=np.longdouble)
        x[passive] = _solve(a[np.ix_(passive, passive)], b[passive])
        slope = a @ x - b
        wrong = np.where(passive, x < 0.0, slope < -noise)
        count = int(wrong.sum())
        if count == 0:
            out = np.zeros(len(signs), dtype=np.longdouble)
            out[allowed] = x * s
            return out
        if count < fewest:
            fewest, patience = count, 3
        elif patience > 0:
            patience -= 1
        else:
            last = int(np.flatnonzero(wrong)[-1])
            wrong = np.zeros_like(wrong)
            wrong[last] = True
        passive ^= wrong
    raise np.linalg.LinAlgError("block principal pivoting did not end")


def _solve(a: Extended, b: Extended) -> Extended:
    """a x = b for a symmetric positive definite a, by Cholesky in extended precision; dependent rows get 0."""
    size = len(b)
    lower = np.array(a)
    kept = np.zeros(size, dtype=bool)
    for k in range(size):
        pivot = lower[k, k] - lower[k, :k] @ lower[k, :k]
        kept[k] = pivot > 1e-16 * a[k, k]
        lower[k, k] = np.sqrt(pivot) if kept[k] else 1.0
        column = (lower[k + 1 :, k] - lower[k + 1 :, :k] @ lower[k, :k]) / lower[k, k]
        lower[k + 1 :, k] = column if kept[k] else 0.0
    x = np.array(b)
    for k in range(size):
        x[k] = (x[k] - lower[k, :k] @ x[:k]) / lower[k, k] if kept[k] else 0.0
    for k in range(size - 1, -1, -1):
        x[k] = (x[k] - lower[k + 1 :, k] @ x[k + 1 :]) / lower[k, k] if kept[k] else 0.0
    return x


class _Path:
    """T_i of the dormant, the side of the active; between jumps g stands still."""

    def __init__(
        self, kernel: Diagonal, start: dict[str, Any] | None, max_jumps: int, loss_tol: float, run: Run, observer: Any
    ) -> None:
        self.kernel, self.max_jumps, self.loss_tol, self.run, self.observer = kernel, max_jumps, loss_tol, run, observer
        x = kernel.x.astype(np.longdouble)
        n, count = kernel.n_samples, kernel.n_inputs
        self.gram, self.moment = x.T @ x / n, x.T @ kernel.y.astype(np.longdouble) / n
        self.square = np.mean(kernel.y.astype(np.longdouble) ** 2)
        self.beta = np.zeros(count, dtype=np.longdouble)
        self.side = np.zeros(count, dtype=np.int_)
        self.network = None if start is None else Network(start)
        if self.network is None:
            depth = kernel.depth
            self.low, self.high = -np.ones(count), np.ones(count)
            self.dual = np.zeros(count, dtype=np.longdouble)
            self.unit, self.time, self.scaled, self.log_eta = 0.0, 0.0, 0.0, 0.0
            if depth > 2:
                k = depth - 2
                integral = 0.5 * sqrt(pi) * gamma(0.5 * k) / gamma(0.5 * (k + 1))  # of sech^k
                self.unit = float(np.log((depth - 1) ** (0.5 * k) * k * integral))
        else:
            self.low, self.high, dual, self.unit = self.network.ends()
            self.dual = dual.astype(np.longdouble)
            self.side[self.network.active] = self.network.sign[self.network.active]
            self.time, self.scaled, self.log_eta = self.network.clocks()
        self.free = np.zeros(count, dtype=bool) if self.network is None else self.network.free

    def loss(self) -> float:
        return 0.5 * float(self.square - 2.0 * self.moment @ self.beta + self.beta @ self.gram @ self.beta)

    def settle(self) -> tuple[int, ...]:
        if self.free.any():
            raise ValueError("start has neurons that are never below norm 1, which backend='numpy' does not run")
        self.beta = signed_least_squares(self.gram, self.moment, self.side)
        g = self.moment - self.gram @ self.beta
        noise = 1e-14 * np.abs(self.moment).max()
        gone = np.flatnonzero((self.side != 0) & (self.beta == 0.0) & (self.side * g < -noise))
        self.dual[gone] = np.where(self.side[gone] > 0, self.high[gone], self.low[gone])
        self.side[gone] = 0
        return tuple(int(i) for i in gone)

    def follow(self) -> dict[str, Any]:
        if self.side.any():
            self.settle()
        record = [(self.time, self.scaled, self.loss())]
        jumps: list[dict[str, Any]] = []
        status = "nothing_to_learn" if not self.moment.any() and record[0][2] == 0.0 else ""
        try:
            while not status:
                self.run.poll()
                status = self.next(jumps, record)
        except Halt as halt:
            status = halt.status
        columns = [np.array(column) for column in zip(*record, strict=True)]
        return {
            "jumps": jumps,
            "time": columns[0],
            "scaled_time": columns[1],
            "loss": columns[2],
            "elapsed": columns[0].copy(),
            "states": [jump["state"] for jump in jumps],
            "state": self.state(),
            "status": status,
            "log_eta": self.log_eta,
            "conserved_drift": 0.0,
            "notes": [],
            "stats": self.run.stats(),
        }

    def next(self, jumps: list[dict[str, Any]], record: list[tuple[float, float, float]]) -> str:
        loss = record[-1][2]
        if loss <= self.loss_tol:
            return "loss_tol"
        if self.side.all():
            return "all_active"
        if 0 <= self.max_jumps <= len(jumps):
            return "max_jumps"
        g = self.moment - self.gram @ self.beta
        self.run.evaluations += 1
        moving = (self.side == 0) & (np.abs(g) > _INERT * np.abs(self.moment).max())
        wait = np.full(len(g), np.inf, dtype=np.longdouble)
        ends = np.where(g > 0, self.high, self.low)
        wait[moving] = np.maximum((ends[moving] - self.dual[moving]) / g[moving], 0.0)
        soonest = wait.min()
        if np.isinf(soonest):
            return "inert"
        span = np.where(np.isfinite(self.high - self.low), (self.high - self.low) / np.maximum(np.abs(g), 1e-300), 0.0)
        arrived = np.flatnonzero(wait <= soonest + _TIE * np.maximum(span, soonest))
        arrived = arrived[np.lexsort((arrived, -np.abs(g[arrived])))]
        later = np.delete(wait, arrived).min(initial=np.inf) if len(arrived) == 1 else soonest
        self.dual = np.where(self.side == 0, self.dual + g * soonest, self.dual)
        self.side[arrived] = np.where(g[arrived] > 0, 1, -1)
        factor = float(np.exp(self.unit - self.log_eta))
        self.time += float(soonest) * _exp(self.unit)
        self.scaled += float(soonest) * factor
        first = int(arrived[0])
        direction, product = self.at_end(first)
        before = loss
        returned = self.settle()
        record.append((self.time, self.scaled, self.loss()))
        further = float(later - soonest) * factor
        jumps.append(
            {
                "time": self.time,
                "scaled_time": self.scaled,
                "neuron": first,
                "utility": float(abs(g[first])) * product,
                "direction": direction,
                "alignment": self.kernel.depth / float(np.sqrt((1.0 / direction**2).sum())),
                "loss_before": before,
                "loss_after": record[-1][2],
                "activated": tuple(int(i) for i in arrived),
                "returned": returned,
                "converged": True,
                "gradient_norm": 0.0,
                "active_time": np.inf,
                "relaxation": np.nan,
                "gap": 1.0 if np.isinf(further) else further / (self.scaled + further),
                "state": self.state(),
            }
        )
        return "callback" if self.observer is not None and self.observer(jumps[-1]) else ""

    def at_end(self, i: int) -> tuple[Array, float]:
        """Direction and product of the layers of neuron i at norm 1 on its side."""
        depth = self.kernel.depth
        if self.network is None:
            direction = np.full(depth, depth**-0.5)
            direction[-1] *= self.side[i]
            return direction, float(depth ** (-0.5 * depth))
        neuron = self.network.neurons[i]
        log_v = neuron.log_v(neuron.end)
        return self.network.layers(i, int(self.side[i]), log_v, 0.0), float(np.exp(neuron.log_product(log_v)))

    def state(self) -> dict[str, Any]:
        depth, count = self.kernel.depth, self.kernel.n_inputs
        clocks = {"time": self.time, "scaled_time": self.scaled, "log_eta": self.log_eta, "phase_elapsed": np.inf}
        active = self.side != 0
        if self.network is not None:
            self.network.move(self.beta, self.side, self.dual.astype(np.float64), self.unit, self.high)
            return {**self.network.record(), "active": active, **clocks}
        direction = np.full((count, depth), depth**-0.5)
        toward = np.where(active, self.side, self.dual)
        direction[:, -1] *= np.where(toward < 0, -1.0, 1.0)
        log_norm = np.full(count, -1e300)
        felt = active & (self.beta != 0)
        log_norm[felt] = np.log(np.abs(self.beta[felt]).astype(np.float64)) / depth + 0.5 * np.log(depth)
        log_norm[~active & (np.abs(self.dual) >= 1)] = 0.0
        extra = {"dual": toward.astype(np.float64)}
        return {"direction": direction, "log_norm": log_norm, "active": active, "extra": extra, **clocks}


def _exp(log: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(log))


class Network:
    """The neurons of a start, each by conserved quantities, side and ln|v|."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.active = np.array(start["active"], dtype=bool)
        self.start = start
        extra = start.get("extra", {})
        direction, log_norm = np.asarray(start["direction"]), np.asarray(start["log_norm"])
        count, depth = direction.shape
        size = np.abs(direction)
        if "log_reference" in extra:
            self.log_gaps = np.array(extra["log_conserved"])
            self.log_v = np.array(extra["log_reference"])
            self.layer_sign = np.array(extra["layer_sign"])
            self.least = self.log_gaps.argmin(axis=1)
        else:
            self.least = size.argmin(axis=1)
            v = size[np.arange(count), self.least]
            with np.errstate(divide="ignore"):
                gaps = (size - v[:, None]) * (size + v[:, None])
                self.log_gaps = np.where(gaps > 0, np.log(gaps) + 2.0 * log_norm[:, None], -np.inf)
                self.log_v = np.log(v) + log_norm
            self.layer_sign = np.where(direction < 0, -1.0, 1.0)
        self.sign = np.prod(self.layer_sign, axis=1).astype(np.int_)
        self.neurons = [Neuron(np.delete(self.log_gaps[i], self.least[i])) for i in range(count)]
        self.free = np.array([neuron.free for neuron in self.neurons])
        # Two layers or more are zero: no gradient moves it.
        self.still = np.array([neuron.pinned for neuron in self.neurons]) & np.isneginf(self.log_v)
        self.depth = depth

    def clocks(self) -> tuple[float, float, float]:
        from .engine import _mean_crossing_log

        log_eta = float(self.start["log_eta"])
        if np.isnan(log_eta):
            log_eta = _mean_crossing_log(np.asarray(self.start["log_norm"]), self.depth - 2.0)
        return float(self.start["time"]), float(self.start["scaled_time"]), log_eta

    def ends(self) -> tuple[Array, Array, Array, float]:
        """T at norm 1 on either side, T now, and the logarithm of its unit."""
        unit = 0.0
        if self.depth > 2:
            # A balanced neuron is as far from the end as the inverse of its layers is large.
            ways = [
                -float(neuron.log_layers(float(v) if neuron.pinned else -np.inf)[1:].sum())
                for neuron, v, still in zip(self.neurons, self.log_v, self.still, strict=True)
                if not still
            ]
            unit = max(ways, default=0.0)
        low, high, now = (np.zeros(len(self.neurons)) for _ in range(3))
        for i, neuron in enumerate(self.neurons):
            if neuron.free:
                continue
            if self.still[i]:
                low[i], high[i] = -np.inf, np.inf
                continue
            x = neuron.place(float(self.log_v[i]))
            if neuron.pinned:
                left = neuron.travel(x, neuron.end, unit)
                low[i], high[i] = (-np.inf, 0.0) if self.sign[i] > 0 else (0.0, np.inf)
                now[i] = -self.sign[i] * left
            else:
                high[i] = neuron.travel(0.0, neuron.end, unit)
                low[i] = -high[i]
                now[i] = self.sign[i] * neuron.travel(0.0, x, unit) if x > 0 else 0.0
        return low, high, now, unit

    def layers(self, i: int, sign: int, log_v: float, log_scale: float) -> Array:
        """Layers of neuron i over e^log_scale."""
        size = np.exp(0.5 * np.logaddexp(self.log_gaps[i], 2.0 * log_v) - log_scale)
        signs = np.array(self.layer_sign[i])
        if sign != self.sign[i]:
            signs[self.least[i]] *= -1.0
        return np.asarray(size * signs)

    def place(self, i: int, sign: int, log_v: float) -> None:
        if sign != self.sign[i]:
            self.layer_sign[i, self.least[i]] *= -1.0
            self.sign[i] = sign
        self.log_v[i] = log_v

    def move(self, beta: Extended, side: NDArray[np.int_], dual: Array, unit: float, high: Array) -> None:
        """Brings ln|v| up to date with beta of the active and T of the dormant."""
        for i, neuron in enumerate(self.neurons):
            if self.still[i]:
                continue
            if side[i] != 0:
                with np.errstate(divide="ignore"):
                    wanted = float(np.log(np.abs(beta[i])))
                self.place(i, int(np.sign(beta[i])) or int(self.sign[i]), neuron.log_v_of(wanted))
            elif neuron.pinned:
                left = -float(self.sign[i] * dual[i])
                self.place(i, int(self.sign[i]), neuron.arrival(left, unit))
            else:
                x = neuron.end if abs(dual[i]) >= high[i] else neuron.arrival(float(abs(dual[i])), unit)
                self.place(i, -1 if dual[i] < 0 else 1, neuron.log_v(x))

    def record(self) -> dict[str, Any]:
        log_norm = np.array([neuron.log_norm(v) for neuron, v in zip(self.neurons, self.log_v, strict=True)])
        direction = np.array(
            [self.layers(i, int(self.sign[i]), float(self.log_v[i]), log_norm[i]) for i in range(len(self.neurons))]
        )
        extra = {
            "log_conserved": self.log_gaps.copy(),
            "log_reference": self.log_v.copy(),
            "layer_sign": self.layer_sign.copy(),
        }
        return {"direction": direction, "log_norm": log_norm, "extra": extra}


def _root(function: Any, value: float) -> float:
    """Where an increasing function of slope 1 or more, or bounded from 0, takes a value; by bisection."""
    if np.isinf(value):
        return value
    low, high = -1.0, 1.0
    while function(low) > value:
        low *= 2.0
    while function(high) < value:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if function(middle) < value else (low, middle)
    return 0.5 * (low + high)
