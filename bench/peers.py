"""Utility and gradient of two-layer ReLU networks as their users would write them: factories for `bench.probe`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .problems import leaf_data

Call = Callable[[], tuple[Any, Any]]

# Shown in this order; a peer that is not installed is named as missing.
PEERS = {
    "NumPy": "bench.peers:numpy_peer",
    "torch": "bench.peers:torch_peer",
    "torch.compile": "bench.peers:compiled_torch_peer",
    "JAX jit": "bench.peers:jax_peer",
}


def numpy_peer(threads: int, size: list[int], dtype: str) -> Call:
    """U = E[sigma(z) g], grad_w U = E[sigma'(z) g x], grad_a U = E[sigma(z) r] with two temporaries of n x H."""
    X, theta, residual = leaf_data(size, dtype)
    n, d = X.shape
    w, a = theta[:, :d], theta[:, d:]
    scale = X.dtype.type(1 / n)

    def call() -> tuple[Any, Any]:
        z = X @ w.T
        g = residual @ a.T
        gate = z > 0
        np.maximum(z, 0, out=z)
        gradient = np.empty_like(theta)
        np.matmul(z.T, residual, out=gradient[:, d:])
        np.multiply(g, gate, out=g)
        np.matmul(g.T, X, out=gradient[:, :d])
        gradient *= scale
        return np.einsum("ni,ni->i", z, g) * scale, gradient

    return call


def torch_peer(threads: int, size: list[int], dtype: str) -> Call:
    """The same by hand in torch."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    x, p, r = map(torch.from_numpy, leaf_data(size, dtype))
    n, d = x.shape
    w, a = p[:, :d], p[:, d:]

    def call() -> tuple[Any, Any]:
        with torch.no_grad():
            z = x @ w.T
            g = (r @ a.T).mul_(z > 0)
            z.relu_()
            gradient = torch.empty_like(p)
            torch.matmul(g.T, x, out=gradient[:, :d])
            torch.matmul(z.T, r, out=gradient[:, d:])
            return (z * g).sum(0).div_(n).numpy(), gradient.div_(n).numpy()

    return call


def compiled_torch_peer(threads: int, size: list[int], dtype: str) -> Call:
    """The formulas compiled for the shapes at hand; gate, products and sums fuse."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    x, p, r = map(torch.from_numpy, leaf_data(size, dtype))
    n, d = x.shape

    def leaf(x: Any, p: Any, r: Any) -> tuple[Any, Any]:
        z = x @ p[:, :d].T
        g = torch.where(z > 0, r @ p[:, d:].T, 0.0)
        s = torch.relu(z)
        return (s * g).sum(0) / n, torch.cat([g.T @ x, s.T @ r], dim=1) / n

    compiled = torch.compile(leaf, dynamic=False)

    def call() -> tuple[Any, Any]:
        with torch.no_grad():
            utility, gradient = compiled(x, p, r)
            return utility.numpy(), gradient.numpy()

    return call


def jax_peer(threads: int, size: list[int], dtype: str) -> Call:
    """The gradient of the utilities' sum, compiled."""
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")
    jax.config.update("jax_enable_x64", True)
    x, p, r = map(jnp.asarray, leaf_data(size, dtype))
    d = x.shape[1]

    # The data are arguments: as constants they would be folded into the program.
    def total(p: Any, x: Any, r: Any) -> Any:
        utility = jnp.mean(jax.nn.relu(x @ p[:, :d].T) * (r @ p[:, d:].T), axis=0)
        return utility.sum(), utility

    compiled = jax.jit(jax.grad(total, has_aux=True))

    def call() -> tuple[Any, Any]:
        gradient, utility = compiled(p, x, r)
        return np.asarray(utility), np.asarray(gradient)

    return call
