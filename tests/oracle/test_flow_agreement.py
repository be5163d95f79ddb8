"""gradient_flow against SciPy on the raw 2d-dimensional flow, from every kind of start."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.losses import LOSSES


def load_agreement() -> ModuleType:
    path = Path(__file__).with_name("flow_agreement.py")
    spec = importlib.util.spec_from_file_location("flow_agreement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


agreement = load_agreement()


def test_agreement_on_every_loss_and_degree():
    rows = agreement.run(9, seed=3)
    assert {(row["loss"], row["degree"]) for row in rows} == {(loss, L) for loss in LOSSES for L in (2, 3, 4)}
    for row in rows:
        assert row["status"] == "reached_end", row
        assert row["reference_error"] < 2e-8, row  # otherwise the reference has no right to judge
        assert row["error"] <= 1e-7, row


def test_error_estimate_covers_the_error():
    result = agreement.coverage(20, seed=4)
    assert result["frequency"] >= 0.9, result


def problem_of(loss: str, degree: int, seed: int, *, n: int = 4, d: int = 7, **settings: object) -> tk.Problem:
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n) if loss == "squared" else rng.choice([-1.0, 1.0], n)
    task = "regression" if loss == "squared" else "classification"
    data = tk.Dataset.from_arrays(rng.standard_normal((n, d)), y, task=task)
    return tk.Problem(tk.models.DiagonalNet(d=d, degree=degree), data, loss=loss, **settings)


def error_of(problem: tk.Problem, taus: np.ndarray, **end: float) -> float:
    trajectory = tk.gradient_flow(problem, **end, rtol=1e-10, save=tk.SaveAt(num=10)).raise_for_status()
    clock = "log_tau" if problem.log_weight_decay > -np.inf else "log_t"  # without weight decay the times are t itself
    ours = np.array([trajectory.at(**{clock: float(np.log(tau))}).weights for tau in taus])
    theirs, check = agreement.references(problem, taus)
    assert agreement.distance(check, theirs) < 2e-8
    return agreement.distance(ours, theirs)


@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
def test_without_weight_decay(loss, degree):
    problem = problem_of(loss, degree, seed=degree, log_alpha=0.4, weight_decay=0.0)
    times = np.array([0.05, 0.5, 2.0, 10.0])
    assert error_of(problem, times, log_t_end=float(np.log(10.0))) <= 1e-7


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
@pytest.mark.parametrize("loss", LOSSES)
def test_from_any_array(loss, degree):
    """Negative and zero entries: powers of odd and even degree keep or lose the sign, and zero stays zero."""
    init = np.random.default_rng(degree).uniform(-1.2, 1.2, 14)
    init[[2, 9]] = 0.0
    problem = problem_of(loss, degree, seed=10 + degree, log_alpha=0.3, weight_decay=0.05, init=init)
    assert error_of(problem, np.array([0.02, 0.3, 1.0, 2.5]), tau_end=2.5) <= 1e-7


@pytest.mark.parametrize("loss", LOSSES)
def test_more_samples_than_features(loss):
    problem = problem_of(loss, 3, seed=20, n=9, d=4, log_alpha=1.0, weight_decay=0.1)
    assert error_of(problem, np.array([0.1, 1.0, 2.5]), tau_end=2.5) <= 1e-7


@pytest.mark.parametrize("loss", LOSSES)
def test_kernel_and_rich_frame_agree(loss):
    """A start that is off the balanced one by round-off runs in the rich frame throughout."""
    init = np.ones(14)
    init[0] *= 1.0 + 1e-13
    settings = {"seed": 30, "log_alpha": 1.5, "weight_decay": 0.05}
    runs = []
    for start, frame in (("theory", "kernel"), (init, "rich")):
        trajectory = tk.gradient_flow(problem_of(loss, 3, init=start, **settings), tau_end=3.0, rtol=1e-10)
        assert trajectory.diagnostics["frames"][0]["frame"] == frame
        runs.append(np.array([trajectory.at(tau=tau).weights for tau in (0.1, 0.8, 1.5, 3.0)]))
    assert agreement.distance(runs[1], runs[0]) < 1e-8


def test_an_array_of_ones_is_the_theory():
    plain = problem_of("logistic", 2, seed=31, log_alpha=1.5, weight_decay=0.05)
    array = problem_of("logistic", 2, seed=31, log_alpha=1.5, weight_decay=0.05, init=np.ones(14))
    w = [tk.gradient_flow(problem, s_end=1.5).weights(-1) for problem in (plain, array)]
    np.testing.assert_array_equal(*w)


def test_wide_int8_data_against_scipy():
    """Above four million entries int8 data stay int8, in kernels of their own; SciPy integrates the dual numbers."""
    data = tk.datasets.sparse_sign(n=48, d=90_000, k=3, seed=5)
    log_alpha, weight_decay, s = 2.0, 0.02, 1.2
    problem = tk.Problem(
        tk.models.DiagonalNet(d=data.d), data, loss="logistic", log_alpha=log_alpha, weight_decay=weight_decay
    )
    trajectory = tk.gradient_flow(problem, s_end=s, rtol=1e-6, save=tk.SaveAt(num=3)).raise_for_status()
    Z = (data.y[:, None] * data.X).astype(np.float32).astype(np.float64)
    end = s * log_alpha

    def weights(tau: float, m: np.ndarray) -> np.ndarray:
        return 2.0 * np.exp(2.0 * (log_alpha - tau)) * np.sinh(4.0 * (m @ Z))

    def slope(tau: float, m: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0.0, Z @ weights(tau, m))) / (data.n * weight_decay)

    first = 1e-3 / (8.0 * data.d * np.exp(2.0 * log_alpha) / (data.n * weight_decay))
    solution = solve_ivp(slope, (0.0, end), np.zeros(data.n), "LSODA", rtol=1e-8, atol=1e-14, first_step=first)
    expected = weights(end, solution.y[:, -1])
    assert np.max(np.abs(trajectory.weights(-1) - expected)) <= 1e-5 * np.max(np.abs(expected))
