"""Our reduced flows against SciPy on the raw ones: tables for the tests and for the evidence.

The reference integrates u and v themselves, 2d numbers, in slow time, twice: by LSODA and by SciPy's Radau (an explicit
method would take minutes where the flow is stiff). The two have to agree before they judge.

python tests/oracle/flow_agreement.py 50
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.losses import LOSSES

Array = NDArray[np.float64]
FLOOR = 1e-3
"""Predictors below it are compared absolutely: where weight decay wins, w falls to zero."""


def raw_rhs(problem: tk.Problem) -> tuple[Any, Any]:
    """Return d(theta)/d(tau) of the raw flow, tau = lambda t (t without weight decay), and its Jacobian."""
    X, y, L = problem.data.X.astype(np.float64), problem.data.y, problem.model.degree
    n, d = X.shape
    decaying = problem.log_weight_decay > -np.inf
    scale, decay = (np.exp(problem.log_weight_decay), 1.0) if decaying else (1.0, 0.0)

    def slopes(f: Array) -> tuple[Array, Array]:
        """Return -loss' and loss'' of each sample."""
        if problem.loss == "squared":
            return 2.0 * (y - f), np.full(n, 2.0)
        if problem.loss == "exponential":
            return y * np.exp(-y * f), np.exp(-y * f)
        p = 0.5 * (1.0 - np.tanh(0.5 * y * f))
        return y * p, p * (1.0 - p)

    def rhs(tau: float, theta: Array) -> Array:
        u, v = theta[:d], theta[d:]
        force = L * (X.T @ slopes(X @ (u**L - v**L))[0]) / (n * scale)
        return np.concatenate([u ** (L - 1) * force, -(v ** (L - 1)) * force]) - decay * theta

    def jacobian(tau: float, theta: Array) -> Array:
        u, v = theta[:d], theta[d:]
        first, second = slopes(X @ (u**L - v**L))
        features = L * np.hstack([X * u ** (L - 1), -X * v ** (L - 1)])
        force = L * (L - 1) * (X.T @ first) / (n * scale)
        own = np.concatenate([u ** (L - 2) * force, -(v ** (L - 2)) * force])
        return np.diag(own - decay) - features.T @ (features * second[:, None]) / (n * scale)

    return rhs, jacobian


def reference(problem: tk.Problem, taus: Array, method: str, rtol: float) -> Array:
    """Return w at the given times from the raw flow by SciPy, shape (k, d)."""
    rhs, jacobian = raw_rhs(problem)
    theta = np.exp(problem.log_alpha) * problem.direction
    extra: dict[str, Any] = {"first_step": 1e-12, "rtol": rtol, "atol": 1e-3 * rtol}
    if method in ("Radau", "LSODA"):
        extra["jac"] = jacobian
    solution = solve_ivp(rhs, (0.0, taus[-1]), theta, method, t_eval=taus, **extra)
    if not solution.success:
        raise RuntimeError(solution.message)
    u, v = np.split(solution.y.T, 2, axis=1)
    return u**problem.model.degree - v**problem.model.degree


def references(problem: tk.Problem, taus: Array) -> tuple[Array, Array]:
    """Return w by two methods of SciPy, the more accurate one first."""
    return reference(problem, taus, "LSODA", 1e-12), reference(problem, taus, "Radau", 1e-11)


def random_problem(rng: np.random.Generator, index: int) -> tk.Problem:
    """Return a small problem; the losses and the degrees take turns, Gaussian and +-1 features too."""
    n, d = int(rng.integers(2, 9)), int(rng.integers(4, 21))
    X = rng.standard_normal((n, d))
    if index % 2 == 0:
        X = np.sign(X)
        X[:, :3] = 1.0 - 2.0 * (np.arange(n)[:, None] >> np.arange(3) & 1)  # no sample twice
    loss = LOSSES[index % 3]
    y = rng.standard_normal(n) if loss == "squared" else rng.choice([-1.0, 1.0], n)
    task = "regression" if loss == "squared" else "classification"
    return tk.Problem(
        tk.models.DiagonalNet(d=d, degree=2 + index // 3 % 3),
        tk.Dataset.from_arrays(X, y, task=task),
        loss=loss,
        log_alpha=float(rng.uniform(-1.0, 2.5)),
        weight_decay=float(rng.uniform(0.005, 0.3)),
    )


def distance(w: Array, w_ref: Array) -> float:
    """Return the largest |w - w_ref| over all times, relative to the largest entry of w_ref at that time."""
    size = np.maximum(FLOOR, np.abs(w_ref).max(axis=1))
    return float(np.max(np.abs(w - w_ref).max(axis=1) / size))


def compare(problem: tk.Problem, rtol: float = 1e-10) -> dict[str, Any]:
    """Return one row: how far ours is from the reference, how far it says it is, how far the references are apart."""
    taus = (max(problem.log_alpha, 0.0) + 1.5) * np.array([0.02, 0.2, 0.4, 0.6, 0.8, 1.0])
    trajectory = tk.gradient_flow(problem, tau_end=float(taus[-1]), rtol=rtol, save=tk.SaveAt(tau=taus))
    snapshots = [trajectory.at(tau=float(tau)) for tau in taus]
    ours = np.array([snapshot.weights for snapshot in snapshots])
    theirs, check = references(problem, taus)
    return {
        "loss": problem.loss,
        "degree": problem.model.degree,
        "n": problem.data.n,
        "d": problem.data.d,
        "log_alpha": problem.log_alpha,
        "weight_decay": float(np.exp(problem.log_weight_decay)),
        "status": trajectory.status,
        "error": distance(ours, theirs),
        "estimate": distance(np.array([snapshot.companion_weights for snapshot in snapshots]), ours),
        "reference_error": distance(check, theirs),
    }


def run(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row for each of `count` random problems, at rtol = 1e-10."""
    rng = np.random.default_rng(seed)
    return [compare(random_problem(rng, index)) for index in range(count)]


def coverage(count: int, seed: int = 0, rtol: float = 1e-7) -> dict[str, Any]:
    """Return how often the error estimate is at least the true error, over `count` random problems.

    The tolerance is loose enough for the error to stand well above that of the reference.
    """
    rng = np.random.default_rng(seed)
    rows = [compare(random_problem(rng, index), rtol) for index in range(count)]
    ratios = np.array([row["estimate"] / max(row["error"], row["reference_error"]) for row in rows])
    return {
        "count": count,
        "rtol": rtol,
        "frequency": float(np.mean(ratios >= 1.0)),
        "smallest_ratio": float(ratios.min()),
        "median_ratio": float(np.median(ratios)),
    }


if __name__ == "__main__":
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
    for row in rows:
        print(
            "{loss:12s} L={degree} {n:2d} x {d:2d}  log alpha {log_alpha:5.2f}  lambda {weight_decay:.3f}  "
            "error {error:.1e}  estimate {estimate:.1e}  reference {reference_error:.1e}".format(**row)
        )
    print(f"largest error {max(row['error'] for row in rows):.1e}")
    print("estimate at least the error in {frequency:.0%} of {count}".format(**coverage(len(rows))))
