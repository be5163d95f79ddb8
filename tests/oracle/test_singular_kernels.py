"""The squared loss at huge scale where the tangent kernel becomes singular: against closed forms and the reduction."""

from __future__ import annotations

import math

import numpy as np
import pytest

import theorykit as tk
from theorykit.models import DiagonalNet, MatrixFactorization

Y = np.array([1.0, -0.7, 0.0, 0.0])


def exact_log_norm(log_sigma: float, free: int) -> float:
    """Return log|theta| where u^2 - v^2 = y and u v = sigma^2 for each target, and for `free` more without one."""
    log4 = math.log(4.0) + 4.0 * log_sigma
    with np.errstate(divide="ignore"):
        logs = 0.5 * np.logaddexp(2.0 * np.log(np.abs(np.append(Y, np.zeros(free)))), log4)
    return 0.5 * float(np.logaddexp.reduce(logs))


@pytest.mark.parametrize("log_alpha", [35.0, 230.0])
def test_targets_of_zero_lose_their_kernel(log_alpha):
    """Observed zeros: the kernel falls like 8 sigma^2 along them, and the whole solution is known."""
    diagonal = [[i, i] for i in range(4)]
    data = tk.datasets.matrix_entries(diagonal, Y, shape=(5, 5))
    linear = tk.Dataset.from_arrays(np.eye(4, 5), Y, task="regression")
    for net, rows, free in ((MatrixFactorization(5), data, 1), (DiagonalNet(5), linear, 1)):
        problem = tk.Problem(net, rows, "squared", log_alpha=log_alpha, log_weight_decay=-log_alpha)
        tau_end = log_alpha + 25.0
        flow = tk.gradient_flow(problem, tau_end=tau_end, method="dop853", save=tk.SaveAt(num=4)).raise_for_status()
        assert "below round-off" in flow.message
        for past in (-3.0, 0.0, 1.0, 5.0, 10.0):
            value, error = flow.at(tau=log_alpha + past).estimate(lambda now: now.log_norm)
            assert abs(value - exact_log_norm(-past, free)) <= error + 1e-8  # rtol
            assert error < 1e-6


@pytest.mark.parametrize("log_alpha", [35.0, 60.0])
def test_sparse_teacher_against_the_dual_reduction(log_alpha):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((6, 12))
    data = tk.Dataset.from_arrays(X, X[:, :2] @ [1.0, -0.7], task="regression")
    problem = tk.Problem(DiagonalNet(12), data, "squared", log_alpha=log_alpha, log_weight_decay=-log_alpha)
    dual, frames = (
        tk.gradient_flow(problem, tau_end=log_alpha + 6.0, method=method).raise_for_status()
        for method in ("dual", "dop853")
    )
    for past in (-5.0, 0.0, 2.0, 5.0):
        one, other = dual.at(tau=log_alpha + past), frames.at(tau=log_alpha + past)
        (_, error), (_, error_) = (now.estimate(lambda now: now.log_norm) for now in (one, other))
        assert abs(one.log_norm - other.log_norm) <= error + error_ + 1e-8  # rtol
        assert error_ < 1e-6
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)


def test_without_weight_decay_nothing_moves_on_the_manifold():
    rng = np.random.default_rng(4)
    data = tk.Dataset.from_arrays(rng.standard_normal((3, 6)), rng.standard_normal(3), task="regression")
    problem = tk.Problem(DiagonalNet(6), data, "squared", log_alpha=50.0, weight_decay=0.0)
    flow = tk.gradient_flow(problem, log_t_end=50.0, method="dop853").raise_for_status()
    features = problem.model.features(data.X, problem.direction)
    h = features.T @ np.linalg.solve(features @ features.T, data.y)
    end = flow.at(log_t=50.0)
    np.testing.assert_allclose(math.exp(end.h[1]) * end.h[0], h, atol=1e-7)
