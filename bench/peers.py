"""Utility and gradient of two-layer ReLU networks as their users would write them; a peer that is not installed is
left out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np


def numpy_peer(X: Any, theta: Any, residual: Any) -> Callable[[], tuple[Any, Any]]:
    """U = E[sigma(z) g], grad_w U = E[sigma'(z) g x], grad_a U = E[sigma(z) r] with two temporaries of n x H."""
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


def torch_peer(X: Any, theta: Any, residual: Any) -> Callable[[], tuple[Any, Any]]:
    """The same by hand in torch."""
    import torch

    x, p, r = (torch.from_numpy(array) for array in (X, theta, residual))
    n, d = X.shape
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


def jax_peer(X: Any, theta: Any, residual: Any) -> Callable[[], tuple[Any, Any]]:
    """value_and_grad of the utilities' sum, compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    d = X.shape[1]
    x, p, r = (jnp.asarray(array) for array in (X, theta, residual))

    def total(p: Any) -> Any:
        utility = jnp.mean(jax.nn.relu(x @ p[:, :d].T) * (r @ p[:, d:].T), axis=0)
        return utility.sum(), utility

    compiled = jax.jit(jax.grad(total, has_aux=True))

    def call() -> tuple[Any, Any]:
        gradient, utility = compiled(p)
        return np.asarray(utility), np.asarray(gradient)

    return call


def installed() -> dict[str, Callable[..., Callable[[], tuple[Any, Any]]]]:
    """NumPy always; torch and JAX where they can be imported."""
    peers: dict[str, Callable[..., Callable[[], tuple[Any, Any]]]] = {"NumPy": numpy_peer}
    if importlib.util.find_spec("torch"):
        peers["torch"] = torch_peer
    if importlib.util.find_spec("jax"):
        peers["JAX"] = jax_peer
    return peers
