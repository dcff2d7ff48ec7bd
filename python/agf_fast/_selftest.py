"""What `agf selftest` does: every backend of this machine beside the reference, in under a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _cuda_status
from ._attention import Attention
from ._dense import Dense
from ._diagonal import Diagonal
from ._linear import Linear
from ._modular import ModularAddition
from ._problem import Problem
from ._table import table
from ._verbs import alternating_gradient_flow, gradient_flow

__all__ = ["selftest"]

# Leaves: sums of some hundred terms, each to a few roundings, beside the largest entry of what is compared.
LEAF_TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
# Runs: the flow is right to some tens of rtol. An active phase that ends at equilibrium does so where |grad L|^2 t is
# 1e-8 L: residuals are then good to 1e-4, and so are the times that follow from them.
RUN_RTOL = {"float64": 1e-8, "float32": 1e-5}
RUN_TOLERANCE = {
    "alternating gradient flow": {"float64": 1e-3, "float32": 1e-2},
    "gradient flow": {"float64": 1e-6, "float32": 1e-3},
}


@dataclass(frozen=True)
class Check:
    """One comparison: how far a backend is from the reference, and how far it may be."""

    backend: str
    what: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


def selftest() -> int:
    """Prints every comparison; returns 0, or 1 if one of them fails."""
    backends = ["cpp", *(["cuda"] if _cuda_status.is_available() else [])]
    checks = [check for backend in backends for check in checks_of(backend)]
    rows = [[c.backend, c.what, f"{c.error:.1e}", f"{c.tolerance:.0e}", "ok" if c.passed else "FAILED"] for c in checks]
    print(table(["backend", "compared with the reference", "error", "allowed", ""], rows))
    if "cuda" not in backends:
        print(f"cuda: {_cuda_status.why()}")
    failed = sum(not check.passed for check in checks)
    print(f"{len(checks)} comparisons, {failed} failed" if failed else f"{len(checks)} comparisons, all good")
    return 1 if failed else 0


def checks_of(backend: str) -> Iterator[Check]:
    """Leaves and runs of every architecture in both dtypes."""
    for dtype in ("float64", "float32"):
        for name, make in PROBLEMS.items():
            error = max(_leaf_errors(make, dtype, backend))
            yield Check(backend, f"{name}, {dtype}: leaves", error, LEAF_TOLERANCE[dtype])
        for name in RUNS:
            for verb, error in _run_errors(PROBLEMS[name], dtype, backend).items():
                yield Check(backend, f"{name}, {dtype}: {verb}", error, RUN_TOLERANCE[verb][dtype])


def _leaf_errors(make: Callable[[str], Problem], dtype: str, backend: str) -> Iterator[float]:
    """Of each leaf, beside the reference in double on the same numbers."""
    problem, oracle = make(dtype), make("float64")
    ours, theirs = problem._kernel(backend), oracle._kernel("numpy")
    theta, v = _parameters(problem, 1, dtype), _parameters(problem, 2, dtype)
    wide, along = theta.astype(np.float64), v.astype(np.float64)
    yield _distance(ours.loss(theta), theirs.loss(wide))
    yield _distance(ours.residual(theta), theirs.residual(wide))
    residual = theirs.residual(wide)
    given = np.ascontiguousarray(residual, dtype=dtype)
    yield _distance(ours.utility(theta, given), theirs.utility(wide, residual))
    yield _distance(ours.utility_gradient(theta, given), theirs.utility_gradient(wide, residual))
    yield _distance(ours.utility_gradient(theta, None), theirs.utility_gradient(wide, None))
    yield _distance(ours.hessian_vector(theta, v), theirs.hessian_vector(wide, along))


def _run_errors(make: Callable[[str], Problem], dtype: str, backend: str) -> dict[str, float]:
    """Of both verbs: jumps' times and losses, and the loss along the flow."""
    problem = make(dtype)
    width = {} if isinstance(problem, Diagonal) else {"width": 4, "seed": 1}
    state = problem.initialize(scale=1e-4, **width)
    rtol = RUN_RTOL[dtype]
    path, expected = (
        alternating_gradient_flow(problem, state, rtol=rtol, max_jumps=2, backend=which) for which in (backend, "numpy")
    )
    times, losses = ([getattr(run, what) for run in (path, expected)] for what in ("time", "loss"))
    alike = len(times[0]) == len(times[1])
    error = max(_distance(*times), _distance(*losses)) if alike else np.inf
    end = float(expected.time[-1])
    save = np.linspace(0.2, 1.2, 5) * end
    flow, truth = (
        gradient_flow(problem, state, float(save[-1]), save_at=save, rtol=rtol, backend=which)
        for which in (backend, "numpy")
    )
    return {"alternating gradient flow": float(error), "gradient flow": _distance(flow.loss, truth.loss)}


def _distance(got: Any, expected: Any) -> float:
    """The largest, relative to the largest entry."""
    a, b = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    largest = float(np.abs(b).max()) or 1.0
    return float(np.abs(a - b).max()) / largest


def _parameters(problem: Problem, seed: int, dtype: str) -> NDArray[Any]:
    shape = (problem._width or 5, problem.n_params)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _samples(c: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Targets that one neuron of each sign explains in part, so that there are jumps."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((40, 4))
    Y = np.maximum(X @ rng.standard_normal((4, 3)), 0.0) @ rng.standard_normal((3, c))
    return X.astype(dtype), Y.astype(dtype)


def _dense(activation: str) -> Callable[[str], Problem]:
    return lambda dtype: Dense(*_samples(2, dtype), activation=activation)


def _diagonal(dtype: str) -> Problem:
    X, Y = _samples(1, dtype)
    return Diagonal(X, Y[:, 0])


def _template(dtype: str) -> NDArray[Any]:
    j = 2.0 * np.pi * np.arange(8) / 8
    return np.asarray(2.0 * np.cos(j) + 0.7 * np.cos(2.0 * j + 0.3), dtype=dtype)


PROBLEMS: dict[str, Callable[[str], Problem]] = {
    **{f"Dense, {name}": _dense(name) for name in ("identity", "relu", "square", "tanh", "gelu", "elu", "silu", "erf")},
    "Diagonal": _diagonal,
    "Linear": lambda dtype: Linear(*_samples(2, dtype)),
    "Attention": lambda dtype: Attention(np.diag(np.array([1.0, 0.6, 0.3], dtype=dtype))),
    "ModularAddition": lambda dtype: ModularAddition(_template(dtype)),
}
RUNS = ("Dense, square", "Diagonal", "Linear", "Attention", "ModularAddition")
