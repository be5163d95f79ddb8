"""Flows of general models in our frames against SciPy on the raw ones: tables for the tests and for the evidence.

The reference knows nothing of theorykit's models: outputs and gradients are written out here. It is integrated twice,
by LSODA and by SciPy's Radau, which have to agree before they judge.

python tests/oracle/model_flow_agreement.py 20
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import MLP, Linear, MatrixFactorization

Array = NDArray[np.float64]
Forward = Callable[[Array], tuple[Array, Callable[[Array], Array]]]

NETS = {
    "linear": Linear(4),
    "two layers": MLP((4, 6, 1), activation="z^2"),
    "two layers, bias": MLP((4, 5, 1), activation="z^3", bias=True),
    "three layers": MLP((4, 5, 4, 1), activation="z^2"),
    "classes": MLP((4, 5, 3), activation="z^2"),
    "factorisation": MatrixFactorization(d=4),
}


def forward(name: str, X: Array) -> Forward:
    """Return a function of theta that gives the outputs and the way back from cotangents to the gradient."""

    def layers(theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        widths, power = NETS[name].widths, NETS[name].phi.power  # type: ignore[union-attr]
        weights, start = [], 0
        for rows, columns in itertools.pairwise(widths):
            weights.append(theta[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
            if NETS[name].bias and len(weights) == 1:  # type: ignore[union-attr]
                bias = theta[start : start + columns]
                start += columns
        inputs, zs = [X], []
        for k, W in enumerate(weights):
            zs.append(inputs[-1] @ W + (bias if NETS[name].bias and k == 0 else 0.0))  # type: ignore[union-attr]
            inputs.append(zs[-1] ** power)

        def back(c: Array) -> Array:
            g, parts = c.reshape(len(X), -1), []
            for k in reversed(range(len(weights))):
                parts.insert(0, (inputs[k].T @ g).ravel())
                if NETS[name].bias and k == 0:  # type: ignore[union-attr]
                    parts.insert(1, g.sum(axis=0))
                if k:
                    g = (g @ weights[k].T) * power * zs[k - 1] ** (power - 1)
            return np.concatenate(parts)

        return (zs[-1][:, 0] if widths[-1] == 1 else zs[-1]), back

    def linear(theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        return X @ theta, lambda c: X.T @ c

    def matrix(theta: Array) -> tuple[Array, Callable[[Array], Array]]:
        i, j = X.astype(int).T
        U, V = theta.reshape(2, 4, 4)

        def back(c: Array) -> Array:
            S = np.zeros((4, 4))
            np.add.at(S, (i, j), c)
            return np.concatenate([((S + S.T) @ U).ravel(), -((S + S.T) @ V).ravel()])

        return (U @ U.T - V @ V.T)[i, j], back

    return {"linear": linear, "factorisation": matrix}.get(name, layers)


def minus_slopes(loss: str, f: Array, y: NDArray[Any]) -> Array:
    """Return -d loss_i/df."""
    if loss == "squared":
        return 2.0 * (y - f)
    if loss == "exponential":
        return np.asarray(y * np.exp(-y * f))
    if loss == "logistic":
        return np.asarray(y / (1.0 + np.exp(y * f)))
    e = np.exp(f - f.max(axis=1, keepdims=True))
    return np.eye(f.shape[1])[y] - e / e.sum(axis=1, keepdims=True)


def reference(name: str, problem: tk.Problem, taus: Array, method: str, rtol: float) -> Array:
    """Return theta at the given times from the raw flow by SciPy, shape (k, P)."""
    data, run = problem.data, forward(name, problem.data.X.astype(np.float64))
    decaying = problem.log_weight_decay > -np.inf
    scale, decay = (np.exp(problem.log_weight_decay), 1.0) if decaying else (1.0, 0.0)
    shares = (np.ones(data.n) if data.weights is None else data.weights) / (
        data.n if data.weights is None else data.weights.sum()
    )

    def rhs(tau: float, theta: Array) -> Array:
        f, back = run(theta)
        c = minus_slopes(problem.loss, f, data.y)
        return back(c * (shares if c.ndim == 1 else shares[:, None])) / scale - decay * theta

    start = np.exp(problem.log_alpha) * problem.direction
    solved = solve_ivp(rhs, (0.0, taus[-1]), start, method=method, t_eval=taus, rtol=rtol, atol=rtol * 1e-2)
    assert solved.success, solved.message
    return np.asarray(solved.y.T)


def random_problem(name: str, loss: str, rng: np.random.Generator, **settings: Any) -> tk.Problem:
    """Return a small problem of moderate scale."""
    if name == "factorisation":
        pairs = [[0, 1], [1, 0], [2, 2], [1, 3], [2, 3]]
        values = rng.standard_normal(4)[[0, 0, 1, 2, 3]]
        data = tk.datasets.matrix_entries(pairs, values, shape=(4, 4))
    else:
        X = rng.standard_normal((5, 4))
        if loss == "squared":
            data = tk.Dataset.from_arrays(X, rng.standard_normal(5), task="regression")
        elif loss == "cross_entropy":
            data = tk.Dataset.from_arrays(X, rng.permutation([0, 1, 2, 0, 1]), task="multiclass", classes=3)
        else:
            data = tk.Dataset.from_arrays(X, rng.choice([-1.0, 1.0], 5))
    chosen = {"log_alpha": rng.uniform(0.2, 1.0), "weight_decay": rng.uniform(0.05, 0.3)} | settings
    return tk.Problem(NETS[name], data, loss=loss, seed=int(rng.integers(1000)), **chosen)


def losses(name: str) -> tuple[str, ...]:
    """Return the losses that a net of the table takes."""
    return {"classes": ("cross_entropy",), "factorisation": ("squared",)}.get(
        name, ("exponential", "logistic", "squared")
    )


def compare(name: str, problem: tk.Problem, taus: Array, **end: float) -> dict[str, Any]:
    """Return the largest distance of theta to the reference over the times, relative to 1 + |theta|, and its own."""
    flow = tk.gradient_flow(problem, **end, rtol=1e-10, save=tk.SaveAt(num=5))
    ours = np.array([np.exp(now.log_norm) * now.direction for now in (flow.at(tau=float(tau)) for tau in taus)])
    theirs = reference(name, problem, taus, "LSODA", 1e-11)
    check = reference(name, problem, taus, "Radau", 1e-9)
    size = 1.0 + np.linalg.norm(theirs, axis=1)
    return {
        "model": name, "loss": problem.loss, "status": flow.status, "log_alpha": problem.log_alpha,
        "frames": [entry["frame"] for entry in flow.diagnostics["frames"]],
        "drift": flow.diagnostics["drift"],
        "error": float(np.max(np.linalg.norm(ours - theirs, axis=1) / size)),
        "reference_error": float(np.max(np.linalg.norm(check - theirs, axis=1) / size)),
    }  # fmt: skip


def run(count: int, seed: int) -> list[dict[str, Any]]:
    """Compare `count` random flows of every net and loss, every second one from a random draw, in the rich frame."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in NETS:
        for loss in losses(name):
            for index in range(count):
                settings: dict[str, Any] = {"init": "theory"}
                if index % 2:  # a draw has outputs of its own: at larger scales the raw flow is beyond SciPy
                    drawn = "perturbed" if name == "factorisation" else "he"
                    settings = {"init": drawn, "log_alpha": rng.uniform(-1.0, -0.3)}
                problem = random_problem(name, loss, rng, **settings)
                taus = np.array([0.05, 0.3, 1.0, 2.0])
                rows.append(compare(name, problem, taus, tau_end=2.0))
    return rows


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 2, seed=0):
        print(row)
