"""The raw gradient flows of nets in slow time tau = lambda t, written down for every contender of `ode.py`.

dtheta/dtau = -theta - (1/lambda) grad L, L the mean loss, from alpha theta_bar to a given s = tau/log(alpha). Each is
given three times: as a numba function, as a JAX function, and as the `theorykit.Problem` whose flow it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from ode_problems import Problem
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.flow import LowRankJacobian

Array = NDArray[np.float64]
WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class Net:
    """One flow.

    Attributes
    ----------
    raw : Problem
        The numba function with its start and end.
    flow : tk.Problem
    s_end : float
    jax : callable
        ``jax(jnp)`` returns dtheta/dtau as a function of theta.
    taylor : callable, optional
        ``taylor(heyoka)`` returns the system as expressions.
    jacobian : LowRankJacobian, optional
    reference : callable, optional
        ``reference(tau)`` returns theta there by independent means, where no explicit method comes that far.
    tightest : float
        Tolerance of an explicit method as reference.
    """

    raw: Problem
    flow: tk.Problem
    s_end: float
    jax: Callable[[Any], Callable[[Any], Any]]
    taylor: Callable[[Any], Any] | None = None
    jacobian: LowRankJacobian | None = None
    reference: Callable[[float], Array] | None = None
    tightest: float = 1e-13


# --- diagonal nets, L = 2 ---


@numba.njit
def _diagonal_exponential(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    Z = p[3 : 3 + n * d].reshape(n, d)
    u, v = theta[:d], theta[d:]
    force = p[2] * np.dot(np.exp(-np.dot(Z, u * u - v * v)), Z)
    out[:d] = u * (force - 1.0)
    out[d:] = -v * (force + 1.0)


@numba.njit
def _diagonal_squared(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    Z = p[3 : 3 + n * d].reshape(n, d)
    u, v = theta[:d], theta[d:]
    force = 2.0 * p[2] * np.dot(1.0 - np.dot(Z, u * u - v * v), Z)
    out[:d] = u * (force - 1.0)
    out[d:] = -v * (force + 1.0)


def diagonal(loss: str, alpha: float, n: int = 8, d: int = 40) -> Net:
    """A diagonal net on sparse sign data, labels +-1."""
    s_end = 1.5
    data = tk.datasets.sparse_sign(n=n, d=d, k=3, n_test=0, seed=0)
    Z = data.y[:, None] * data.X.astype(np.float64)
    gain, exponential = 2.0 / (n * WEIGHT_DECAY), loss == "exponential"
    p = np.concatenate([[n, d, gain], Z.ravel()])
    f = _diagonal_exponential if exponential else _diagonal_squared
    end = s_end * math.log(alpha)
    name = f"diagonal {loss} alpha={alpha:g}" + (f" n={n} d={d}" if (n, d) != (8, 40) else "")
    raw = Problem(name, f, np.full(2 * d, alpha), end, None, 1.0, p)

    def jax(jnp: Any) -> Callable[[Any], Any]:
        def velocity(theta: Any) -> Any:
            u, v = theta[:d], theta[d:]
            q = Z @ (u * u - v * v)
            force = gain * ((jnp.exp(-q) if exponential else 2.0 * (1.0 - q)) @ Z)
            return jnp.concatenate([u * (force - 1.0), -v * (force + 1.0)])

        return velocity

    def taylor(hy: Any) -> Any:
        u, v = [hy.expression(f"u{j}") for j in range(d)], [hy.expression(f"v{j}") for j in range(d)]
        q = [hy.sum([float(Z[i, j]) * (u[j] * u[j] - v[j] * v[j]) for j in range(d)]) for i in range(n)]
        g = [hy.exp(-q[i]) if exponential else 2.0 * (1.0 - q[i]) for i in range(n)]
        force = [gain * hy.sum([float(Z[i, j]) * g[i] for i in range(n)]) for j in range(d)]
        system = [(u[j], u[j] * (force[j] - 1.0)) for j in range(d)]
        return system + [(v[j], -v[j] * (force[j] + 1.0)) for j in range(d)]

    def parts(t: float, theta: Array, *_: Any) -> tuple[Array, Array, Array]:
        u, v = theta[:d], theta[d:]
        q = Z @ (u * u - v * v)
        g = np.exp(-q) if exponential else 2.0 * (1.0 - q)
        bend = np.exp(-q) if exponential else np.full(n, 2.0)  # -dg/dq
        force = gain * (g @ Z)
        signed = np.concatenate([Z.T * u[:, None], -Z.T * v[:, None]])
        return np.concatenate([force - 1.0, -force - 1.0]), -2.0 * gain * signed * bend, signed

    def reference(tau: float) -> Array:
        """The dual of theta, n numbers in which the flow is exact: u, v = alpha exp(-tau +- 2 Z.T m), by SciPy."""

        def force(t: float, m: Array) -> Array:
            q = 2.0 * alpha**2 * math.exp(-2.0 * t) * (Z @ np.sinh(4.0 * (m @ Z)))
            return gain * (1.0 - q)

        def slopes(t: float, m: Array) -> Array:
            return -8.0 * gain * alpha**2 * math.exp(-2.0 * t) * (Z * np.cosh(4.0 * (m @ Z))) @ Z.T

        found = solve_ivp(force, (0.0, tau), np.zeros(n), "Radau", jac=slopes, rtol=1e-13, atol=1e-18)
        b = 2.0 * (found.y[:, -1] @ Z)
        return alpha * math.exp(-tau) * np.exp(np.concatenate([b, -b]))

    model = tk.models.DiagonalNet(d=d, degree=2)
    flow = tk.Problem(model, data, loss=loss, alpha=alpha, weight_decay=WEIGHT_DECAY)
    own = None if exponential else reference
    expressions = taylor if d < 100 else None
    return Net(raw, flow, s_end, jax, expressions, LowRankJacobian(parts, rank=n), own)


# --- matrix factorisation: the multiplication table (figure 3 of lyu2024 at d = 97) ---


@numba.njit
def _factorisation(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    rows, columns, y, gain = p[2 : 2 + n], p[2 + n : 2 + 2 * n], p[2 + 2 * n : 2 + 3 * n], p[2 + 3 * n :]
    U, V = theta[: d * d].reshape(d, d), theta[d * d :].reshape(d, d)
    dU, dV = out[: d * d].reshape(d, d), out[d * d :].reshape(d, d)
    out[:] = -theta
    for k in range(n):
        i, j = int(rows[k]), int(columns[k])
        f = 0.0
        for c in range(d):
            f += U[i, c] * U[j, c] - V[i, c] * V[j, c]
        force = gain[k] * (y[k] - f)
        for c in range(d):
            ui, uj, vi, vj = U[i, c], U[j, c], V[i, c], V[j, c]
            dU[i, c] += force * uj
            dU[j, c] += force * ui
            dV[i, c] -= force * vj
            dV[j, c] -= force * vi


def factorisation(d: int, fraction: float) -> Net:
    """W = U U^T - V V^T on some entries of the table, alpha = 10, lambda = 1e-4, from the perturbed identity."""
    alpha, decay, s_end = 10.0, 1e-4, 2.5
    data = tk.datasets.matrix_completion(d=d, fraction=fraction, seed=0)
    model = tk.models.MatrixFactorization(d)
    flow = tk.Problem(model, data, loss="squared", alpha=alpha, weight_decay=decay, init="perturbed")
    weights = np.ones(data.n) if data.weights is None else data.weights
    gain = 2.0 * weights / (weights.sum() * decay)
    rows, columns = data.X.T
    p = np.concatenate([[data.n, d], rows, columns, data.y, gain]).astype(np.float64)
    raw = Problem(f"factorisation d={d}", _factorisation, alpha * flow.direction, s_end * math.log(alpha), None, 1.0, p)

    def jax(jnp: Any) -> Callable[[Any], Any]:
        def velocity(theta: Any) -> Any:
            U, V = theta[: d * d].reshape(d, d), theta[d * d :].reshape(d, d)
            f = (U[rows] * U[columns] - V[rows] * V[columns]).sum(axis=1)
            G = jnp.zeros((d, d)).at[rows, columns].add(gain * (data.y - f))
            G = G + G.T
            return jnp.concatenate([(G @ U).ravel(), (-G @ V).ravel()]) - theta

        return velocity

    return Net(raw, flow, s_end, jax)


# --- fully connected nets, logistic loss ---


@numba.njit
def _mlp(t, theta, p, out):
    n, layers, squares = int(p[0]), int(p[1]), p[2] > 0.0
    widths = p[4 : 5 + layers]
    first = 5 + layers
    d = int(widths[0])
    X, y, gain = p[first : first + n * d].reshape(n, d), p[first + n * d :], p[3]
    kept = [X]  # what enters each layer
    slopes = [X]  # derivative of the activation behind each hidden layer, from index 1 on
    begin = 0
    for layer in range(layers):
        a, b = int(widths[layer]), int(widths[layer + 1])
        z = np.dot(kept[layer], theta[begin : begin + a * b].reshape(a, b))
        begin += a * b
        if layer + 1 == layers:
            kept.append(z)
        elif squares:
            kept.append(z * z)
            slopes.append(2.0 * z)
        else:
            kept.append(np.maximum(z, 0.0))
            slopes.append(np.where(z > 0.0, 1.0, 0.0))
    q = y * kept[layers][:, 0]
    back = np.empty((n, 1))
    for i in range(n):
        back[i, 0] = gain * y[i] / (1.0 + math.exp(min(q[i], 700.0)))
    for layer in range(layers - 1, -1, -1):
        a, b = int(widths[layer]), int(widths[layer + 1])
        begin -= a * b
        force = np.dot(np.ascontiguousarray(kept[layer].T), back).reshape(a * b)
        out[begin : begin + a * b] = force - theta[begin : begin + a * b]
        if layer > 0:
            W = theta[begin : begin + a * b].reshape(a, b)
            back = np.dot(back, np.ascontiguousarray(W.T)) * slopes[layer]


def mlp(name: str, widths: tuple[int, ...], activation: str, n: int, alpha: float) -> Net:
    """A net with zero last layer at the start, on Gaussian inputs whose labels are the parity of two signs."""
    s_end = 1.5
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, widths[0]))
    data = tk.Dataset.from_arrays(X, np.sign(X[:, 0] * X[:, 1]))
    model = tk.models.MLP(widths, activation=activation)
    flow = tk.Problem(model, data, loss="logistic", alpha=alpha, weight_decay=WEIGHT_DECAY, init="zero_last")
    squares = activation == "z^2"
    gain = 1.0 / (n * WEIGHT_DECAY)
    p = np.concatenate([[n, len(widths) - 1, float(squares), gain], widths, X.ravel(), data.y])
    start = alpha * flow.direction
    raw = Problem(f"{name}, {model.parameters} parameters", _mlp, start, s_end * math.log(alpha), None, 1.0, p)

    def jax(jnp: Any) -> Callable[[Any], Any]:
        import jax as library

        def loss(theta: Any) -> Any:
            z, begin = jnp.asarray(X), 0
            for k, (a, b) in enumerate(itertools.pairwise(widths)):
                z = z @ theta[begin : begin + a * b].reshape(a, b)
                begin += a * b
                if k + 2 < len(widths):
                    z = z * z if squares else jnp.maximum(z, 0.0)
            return jnp.mean(jnp.logaddexp(0.0, -data.y * z[:, 0])) / WEIGHT_DECAY

        gradient = library.grad(loss)
        return lambda theta: -gradient(theta) - theta

    return Net(raw, flow, s_end, jax, tightest=1e-13 if squares else 1e-9)


def nets(*, full: bool) -> list[Net]:
    """Return the flows that are compared."""
    alphas = (10.0, 100.0, 1e4) if full else (10.0,)
    found = [diagonal(loss, alpha) for loss in ("exponential", "squared") for alpha in alphas]
    found.append(factorisation(20, 0.2))
    found.append(mlp("two layers, ReLU", (20, 48, 1), "relu", 32, 10.0))
    if full:
        found.append(diagonal("squared", 100.0, n=32, d=1000))
        found.append(factorisation(97, 0.05))
        found.append(mlp("two layers, ReLU", (20, 480, 1), "relu", 128, 10.0))
        found.append(mlp("three layers, z^2", (20, 30, 20, 1), "z^2", 32, 1.5))
        found.append(mlp("three layers, z^2", (40, 300, 300, 1), "z^2", 64, 1.5))
    return found
