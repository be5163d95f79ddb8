"""Streamed flows of large nets against SciPy on formulas written out here, at sizes at which SciPy can follow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

import theorykit as tk
from theorykit.flow.large_force import Force
from theorykit.losses import log_derivatives
from theorykit.models import MLP

Array = NDArray[np.float64]

P, WIDTH = 5, 8
DATA = tk.datasets.modular(p=P, fraction=0.6, seed=1)
SQUARE, RELU = (MLP((2 * P, WIDTH, P), activation=name, bias=True, symbols=P) for name in ("z^2", "relu"))


def gradient(theta: Array, power: int) -> tuple[float, Array]:
    """Return the mean cross-entropy and its gradient, from dense one-hot vectors; power 1 stands for ReLU."""
    X = np.concatenate([np.eye(P)[DATA.X[:, 0]], np.eye(P)[DATA.X[:, 1]]], axis=1)
    W = theta[: 2 * P * WIDTH].reshape(2 * P, WIDTH)
    b, A = theta[W.size : W.size + WIDTH], theta[W.size + WIDTH :].reshape(WIDTH, P)
    z = X @ W + b
    hidden, slope = (np.maximum(z, 0.0), (z > 0.0) * 1.0) if power == 1 else (z**2, 2.0 * z)
    f, rows = hidden @ A, np.arange(DATA.n)
    logs = f - logsumexp(f, axis=1, keepdims=True)
    g = np.exp(logs)
    g[rows, DATA.y] -= 1.0
    g /= DATA.n
    back = (g @ A.T) * slope
    parts = [(X.T @ back).ravel(), back.sum(axis=0), (hidden.T @ g).ravel()]
    return -float(logs[rows, DATA.y].mean()), np.concatenate(parts)


def problem(net: Any, weight_decay: float) -> tk.Problem:
    settings: dict[str, Any] = {"loss": "cross_entropy", "alpha": 1.5, "init": "zero_last", "seed": 3}
    return tk.Problem(net, DATA, weight_decay=weight_decay, **settings)


def reference(given: tk.Problem, power: int, times: Array) -> tuple[Array, Array]:
    """Return norms and losses at flow times t, from SciPy on theta itself; kinks allow only an explicit pair."""
    decay = math.exp(given.log_weight_decay)
    start = 1.5 * given.direction
    method, rtol = ("RK23", 1e-3) if power == 1 else ("LSODA", 1e-8)
    solved = solve_ivp(
        lambda t, theta: -gradient(theta, power)[1] - decay * theta, (0.0, times[-1]), start, method=method,
        t_eval=times, rtol=rtol, atol=1e-3 * rtol,
    )  # fmt: skip
    states = solved.y.T
    return np.linalg.norm(states, axis=1), np.array([gradient(theta, power)[0] for theta in states])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_flow_with_weight_decay_converges_to_scipys(dtype: str) -> None:
    given = problem(SQUARE, 1e-2)
    errors = []
    for rtol in (1e-2, 1e-4):
        flow = tk.gradient_flow(given, tau_end=1.0, rtol=rtol, dtype=dtype, save=tk.SaveAt(num=8))
        norms, losses = reference(given, 2, flow.t)
        gaps = {"norm": np.abs(flow.stats["norm"] - norms), "train_loss": np.abs(flow.stats["train_loss"] - losses)}
        for name, gap in gaps.items():
            assert gap.max() <= 1.5 * flow.errors[name].max(), name
        errors.append(gaps["norm"].max())
        assert flow.diagnostics["drift"]["balancedness"] < rtol
    assert errors[1] < 0.2 * errors[0]
    assert errors[1] < 1e-3


def test_relu_flow_agrees_with_scipy_at_the_accuracy_of_curves() -> None:
    given = problem(RELU, 1e-2)
    flow = tk.gradient_flow(given, tau_end=0.3, rtol=1e-2, dtype="float32", save=tk.SaveAt(num=5))
    norms, losses = reference(given, 1, flow.t)
    np.testing.assert_allclose(flow.stats["norm"], norms, rtol=5e-3)
    np.testing.assert_allclose(flow.stats["log_train_loss"], np.log(losses), atol=0.1)


def test_loss_clock_agrees_with_scipy_in_flow_time() -> None:
    given = problem(SQUARE, 0.0)
    flow = tk.gradient_flow(
        given, log_t_end=7.0, rtol=1e-4, dtype="float64", save=tk.SaveAt(num=6, spacing="loglog"),
        events=[tk.Crossing("train_loss", 0.1)],
    )  # fmt: skip
    assert flow.status == "reached_end"
    (event,) = flow.events
    crossed = reference(given, 2, np.array([0.5, 1.0]) * math.exp(event.log_t))[1][-1]
    assert crossed == pytest.approx(0.1, rel=3.0 * event.log_t_error + 1e-3)
    assert event.log_t_error < 0.02
    np.testing.assert_allclose(flow.log_t, np.geomspace(1.0, 7.0, 6))
    norms, losses = reference(given, 2, flow.t)
    np.testing.assert_allclose(flow.stats["norm"], norms, rtol=1e-3)
    np.testing.assert_allclose(flow.stats["log_train_loss"], np.log(losses), atol=1e-2)


def test_loss_clock_goes_far_past_the_float_range() -> None:
    given = problem(SQUARE, 0.0)
    flow = tk.gradient_flow(given, log_t_end=1e3, rtol=1e-2, dtype="float32", save=tk.SaveAt(num=20, spacing="loglog"))
    assert flow.status == "reached_end"
    # L t grows slower than any power of t: log(1/L) = log t + O(log log t)
    late = flow.log_t > 100.0
    gap = -flow.stats["log_train_loss"][late] - flow.log_t[late]
    assert np.all(np.abs(gap) < 4.0 * np.log(flow.log_t[late]) + 10.0)
    assert flow.stats["train_accuracy"][-1] == 1.0


def test_shares_that_float32_cannot_resolve_are_left_out_and_change_nothing() -> None:
    given, rng = problem(SQUARE, 1e-2), np.random.default_rng(0)
    theta = 2.5 * rng.standard_normal(given.model.parameters)
    log_loss, expected = gradient(theta, 2)
    single = Force(given, 1)(theta.astype(np.float32))
    found = math.exp(single.log_scale) * single.direction.astype(np.float64)
    assert np.linalg.norm(found + expected) < 1e-5 * np.linalg.norm(expected)
    assert single.log_loss == pytest.approx(math.log(log_loss), rel=1e-6)
    slopes = np.abs(log_derivatives("cross_entropy", given.model.output(theta, DATA.X), DATA.y)[0].ravel())
    assert np.ptp(slopes) > -math.log(np.finfo(np.float32).tiny)  # the samples do lie that far apart


def test_force_in_blocks_is_the_gradient_with_the_same_bits_on_two_threads() -> None:
    p, width = 41, 512
    data = tk.datasets.modular(p=p, fraction=0.9, seed=0)
    net = MLP((2 * p, width, p), bias=True, symbols=p)
    given = tk.Problem(net, data, loss="cross_entropy", alpha=1.0, weight_decay=1e-3, init="he")
    one, two = Force(given, 1), Force(given, 2)
    assert len(one.blocks) > 1
    pull, same = one(given.direction), two(given.direction)
    assert np.array_equal(pull.direction, same.direction)
    f = net.output(given.direction, data.X)
    logs = f - logsumexp(f, axis=1, keepdims=True)
    g = np.exp(logs)
    g[np.arange(data.n), data.y] -= 1.0
    wanted = -net.vjp(given.direction, data.X, g / data.n)
    assert pull.log_loss == pytest.approx(math.log(-logs[np.arange(data.n), data.y].mean()), rel=1e-12)
    np.testing.assert_allclose(math.exp(pull.log_scale) * pull.direction, wanted, atol=1e-14)
