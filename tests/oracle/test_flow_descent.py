"""Plain gradient descent in NumPy tends to the flow at first order in the step."""

from __future__ import annotations

import numpy as np
import pytest

import theorykit as tk


def descend(problem: tk.Problem, time: float, steps: int) -> np.ndarray:
    """Return w after `steps` full-batch steps of size time/steps from alpha theta_bar."""
    X, y, L = problem.data.X, problem.data.y, problem.model.degree
    lam, h = np.exp(problem.log_weight_decay), time / steps
    theta = np.exp(problem.log_alpha) * problem.direction
    d = X.shape[1]
    for _ in range(steps):
        u, v = theta[:d], theta[d:]
        f = X @ (u**L - v**L)
        if problem.loss == "squared":
            pull = 2.0 * (y - f)
        elif problem.loss == "exponential":
            pull = y * np.exp(-y * f)
        else:
            pull = y / (1.0 + np.exp(y * f))
        g = L * (pull @ X) / len(y)
        theta = theta + h * (np.concatenate([u ** (L - 1) * g, -(v ** (L - 1)) * g]) - lam * theta)
    return theta[:d] ** L - theta[d:] ** L


@pytest.mark.parametrize(
    ("loss", "degree", "log_alpha", "time", "steps"),
    [
        ("exponential", 2, 2.0, 1.0, 4000),
        ("logistic", 2, 2.0, 3.0, 6000),
        ("squared", 2, 1.0, 3.0, 800),
        ("exponential", 3, 0.5, 2.0, 3200),
        ("logistic", 4, 0.0, 6.0, 1600),
        ("squared", 3, -0.5, 6.0, 400),
    ],
)
def test_gradient_descent_converges_to_the_flow(loss, degree, log_alpha, time, steps):
    rng = np.random.default_rng(degree)
    y = rng.standard_normal(3) if loss == "squared" else np.array([1.0, -1.0, 1.0])
    data = tk.Dataset.from_arrays(
        rng.standard_normal((3, 5)), y, task="regression" if loss == "squared" else "classification"
    )
    model = tk.models.DiagonalNet(d=5, degree=degree)
    problem = tk.Problem(model, data, loss=loss, log_alpha=log_alpha, weight_decay=0.2)
    flow = tk.gradient_flow(problem, log_t_end=float(np.log(time)), rtol=1e-10).weights(-1)
    counts = steps * 2 ** np.arange(3)
    errors = [np.max(np.abs(descend(problem, time, int(count)) - flow)) for count in counts]
    assert np.all(np.diff(errors) < 0.0)
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)
