"""Every kind of model from log alpha = 10 000 to past the transition: they end, no warning, what is exact holds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import theorykit as tk
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, Linear, MatrixFactorization

NETS: dict[str, HomogeneousModel] = {
    "linear": Linear(4),
    "diagonal": DiagonalNet(d=4),
    "factorisation": MatrixFactorization(d=3),
    "two layers": MLP((4, 4, 1), activation="z^2"),
    "three layers": MLP((3, 3, 3, 1), activation="z^2"),
    "linear layers": MLP((3, 3, 3, 1), activation="identity"),
    "cnn": CNN((4,), channels=(2,), kernel=2, activation="z^2"),
}


def problem_of(name: str, loss: str, log_alpha: float, seed: int) -> tk.Problem:
    net, rng = NETS[name], np.random.default_rng(seed)
    X = np.array([[0, 1], [1, 1]]) if name == "factorisation" else rng.standard_normal((2, net.d))  # type: ignore[attr-defined]
    y = rng.standard_normal(2) if loss == "squared" else rng.choice([-1.0, 1.0], 2)
    data = tk.Dataset.from_arrays(X, y, task="regression" if loss == "squared" else "classification")
    return tk.Problem(net, data, loss=loss, log_alpha=log_alpha, log_weight_decay=-log_alpha, seed=seed)


@pytest.mark.parametrize("loss", ["exponential", "squared"])
@pytest.mark.parametrize("name", list(NETS))
def test_log_alpha_of_ten_thousand(name: str, loss: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = tk.gradient_flow(problem_of(name, loss, 1e4, 0), s_end=1.2, rtol=1e-7, save=tk.SaveAt(num=6))
    assert flow.counts["statuses"] == ["reached_end", "reached_end"], flow.message
    assert all(np.isfinite(flow.stats[key]).all() for key in ("log_norm", "log_train_loss"))
    if name != "linear":
        assert flow.stats["log_norm"][2] == pytest.approx(
            1e4 * (1.0 - 0.6), abs=2.0
        )  # s = 0.6: theta = sigma theta_bar
    assert abs(flow.stats["log_norm"][-1]) < np.log(1e4) / NETS[name].degree + 3.0  # |theta| ~ (log 1/lambda)^(1/L)
    if loss == "squared" and name != "factorisation":
        assert np.exp(flow.stats["log_train_loss"][-1]) < 1e-6
    assert np.all(flow.errors["log_norm"] < 1e-6 * np.maximum(np.abs(flow.stats["log_norm"]), 1.0))


def test_companions_of_small_nets_keep_the_flow() -> None:
    """Where the clock changes the first step is no longer chosen by an Euler step, on which e^(-q) left every scale."""
    flow = tk.gradient_flow(problem_of("three layers", "exponential", 640.0, 1), s_end=1.3, rtol=1e-7)
    assert flow.counts["statuses"] == ["reached_end", "reached_end"]
    assert flow.settings["rtol"] == 1e-7


def test_tolerances_are_held_below_what_margins_need() -> None:
    problem = problem_of("two layers", "exponential", 1e4, 0)
    flow = tk.gradient_flow(problem, s_end=0.2, rtol=1e-4, save=tk.SaveAt(num=2))
    assert flow.settings["rtol"] == pytest.approx(2e-3 / problem.log_A)
    assert flow.settings["companion_rtol"] == pytest.approx(10.0 * flow.settings["rtol"])
