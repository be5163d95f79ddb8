"""The squared loss at huge scale where the tangent kernel becomes singular: against closed forms and the reduction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import MLP, DiagonalNet, MatrixFactorization

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


def too_many_targets(log_alpha, widths=(4, 3, 1), n=8):
    """The last layer at zero has fewer units than there are targets: its kernel does not fit them."""
    rng = np.random.default_rng(0)
    data = tk.Dataset.from_arrays(rng.standard_normal((n, 4)), rng.standard_normal(n), task="regression")
    scale = {"log_alpha": log_alpha, "log_weight_decay": -log_alpha}
    return tk.Problem(MLP(widths, activation="z^2"), data, "squared", init="zero_last", seed=0, **scale)


def test_what_the_kernel_cannot_fit_moves_the_features():
    """The last layer is the least-squares one at all times; the first descends what that leaves of the loss."""
    problem, s = too_many_targets(6.0), np.array([0.2, 0.4, 0.5])
    X, y, start = problem.data.X, problem.data.y, problem.direction[:12]

    def left(flat):
        hidden = X @ flat.reshape(4, 3)
        last = np.linalg.lstsq(hidden**2, y)[0]
        return hidden, last, hidden**2 @ last - y

    def descent(tau, flat):
        hidden, last, residual = left(flat)
        gradient = 2.0 / y.size * np.einsum("i,k,ik,ij->jk", residual, last, 2.0 * hidden, X)
        return -np.exp(2.0 * tau - 6.0) * gradient.ravel()

    first = solve_ivp(descent, (0.0, 3.0), start, t_eval=6.0 * s, method="LSODA", rtol=1e-9, atol=1e-12).y.T
    expected = [np.mean(left(flat)[2] ** 2) for flat in first]
    flow = tk.gradient_flow(problem, s_end=0.5, rtol=1e-6, save=tk.SaveAt(s=s)).raise_for_status()
    np.testing.assert_allclose(flow.stats["train_loss"], expected, rtol=1e-5)


def test_where_that_has_no_digits_the_flow_ends_and_says_so():
    """It went on with a train loss of 1e-182 that was .37."""
    flow = tk.gradient_flow(too_many_targets(50.0), s_end=0.7, save=tk.SaveAt(num=5))
    assert flow.status == "unfit"
    assert flow.tau[-1] < 1e-6
    assert "wider net or fewer samples" in flow.message


def test_what_no_parameters_fit_stays_as_it_is():
    """14 targets, 10 quadratic forms: the best fit, and a flow that goes on."""
    problem = too_many_targets(50.0, widths=(4, 16, 1), n=14)
    X, y = problem.data.X, problem.data.y
    forms = np.array([np.outer(x, x)[np.triu_indices(4)] for x in X])
    least = np.mean((forms @ np.linalg.lstsq(forms, y)[0] - y) ** 2)
    flow = tk.gradient_flow(problem, s_end=0.5, save=tk.SaveAt(num=5)).raise_for_status()
    np.testing.assert_allclose(flow.stats["train_loss"], least, rtol=1e-8)
