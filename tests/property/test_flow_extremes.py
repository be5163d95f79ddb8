"""Scales far outside the float range: nothing overflows, nothing warns, and the transition is where theory puts it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import DiagonalNet

SCALES = [(2, -5.0), (2, 20.0), (2, 230.0), (2, 2560.0), (2, 10000.0), (3, -5.0), (3, 20.0), (3, 230.0), (4, 230.0)]


def run(loss: str, degree: int, log_alpha: float) -> tk.Trajectory:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(6) if loss == "squared" else rng.choice([-1.0, 1.0], 6)
    task = "regression" if loss == "squared" else "classification"
    data = tk.Dataset.from_arrays(rng.standard_normal((6, 20)), y, task=task)
    problem = tk.Problem(
        tk.models.DiagonalNet(d=20, degree=degree),
        data,
        loss=loss,
        log_alpha=log_alpha,
        log_weight_decay=-abs(log_alpha),
    )
    end = {"s_end": 1.5} if log_alpha > 0.0 else {"tau_end": 3.0}
    half = tk.Crossing("log_delta", math.log(0.5), direction=1)
    with np.errstate(all="raise"):
        return tk.gradient_flow(problem, **end, save=tk.SaveAt(num=60), events=[half])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
@pytest.mark.parametrize(("degree", "log_alpha"), SCALES)
def test_any_scale_runs_to_its_end(loss, degree, log_alpha):
    trajectory = run(loss, degree, log_alpha)
    assert trajectory.status == "reached_end"
    for name, values in trajectory.stats.items():
        if name == "norm" and log_alpha > 700.0:
            assert np.isinf(values[0])  # e^2560 is no float; its logarithm is
        else:
            assert np.isfinite(values).all(), name
    assert np.isfinite(trajectory.log_t).all()
    (event,) = trajectory.events
    if log_alpha >= 230.0:
        assert 0.9 < event.s < 1.1
        assert event.error < 1e-5
    if log_alpha > 0.0 and loss != "squared":
        assert trajectory.stats["train_accuracy"][-1] == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("gaussian", [False, True])
def test_a_rule_with_fewer_coordinates_than_samples_is_fitted_to_the_end(degree, gaussian):
    """The tangent kernel loses rank there: only its strong directions are held by the data."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((20, 100)) if gaussian else rng.choice([-1.0, 1.0], (20, 100))
    w = np.zeros(100)
    w[:3] = 1.0
    data = tk.Dataset.from_arrays(X, X @ w, task="regression")
    problem = tk.Problem(
        tk.models.DiagonalNet(d=100, degree=degree), data, loss="squared", log_alpha=230.0, log_weight_decay=-230.0
    )
    trajectory = tk.gradient_flow(problem, s_end=1.5, save=tk.SaveAt(num=20))
    assert trajectory.status == "reached_end"
    assert trajectory.weights(-1) == pytest.approx(w, abs=1e-6)  # the rule is the only sparse interpolant


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", ["exponential", "squared"])
def test_degree_three_at_e_to_the_2560(loss):
    trajectory = run(loss, 3, 2560.0)
    assert trajectory.status == "reached_end"
    assert 0.99 < trajectory.events[0].s < 1.01


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
def test_diagnostics_at_extreme_scale_do_not_warn(loss):
    trajectory = run(loss, 2, 2560.0)
    with np.errstate(all="raise"):
        drift = trajectory.diagnostics["drift"]
    assert drift["balancedness"] < 1e-9
    assert math.isfinite(drift["norm"])
    assert drift["norm"] < 1e-3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("scale", [1e-20, 1e-13, 1e13, 1e20])
def test_the_scale_of_the_features_is_that_of_alpha_and_lambda(loss, scale):
    """s X with (alpha, lambda) is X with (s^(1/L) alpha, s^(-2/L) lambda), at the same tau."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 4))
    y = np.sign(X @ [1.0, -2.0, 0.5, 0.0])
    net, shift = tk.models.DiagonalNet(d=4), math.log(scale)

    def loss_of(X, log_alpha, log_weight_decay):
        data = tk.Dataset.from_arrays(X, y)
        problem = tk.Problem(net, data, loss=loss, log_alpha=log_alpha, log_weight_decay=log_weight_decay)
        trajectory = tk.gradient_flow(problem, tau_end=24.0, save=tk.SaveAt(num=30))
        assert trajectory.status == "reached_end"
        return trajectory.stats["train_loss"], trajectory.errors["train_loss"]

    scaled, error = loss_of(scale * X, 20.0, -20.0)
    plain, plain_error = loss_of(X, 20.0 + 0.5 * shift, -20.0 - shift)
    assert (np.abs(scaled - plain) <= error + plain_error + 1e-9 * plain).all()


@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
@pytest.mark.parametrize("log_alpha", [-20.0, -5.0])
def test_tiny_starts_against_scipy(loss, log_alpha):
    """The coordinates grow by many orders of magnitude before any output can be seen."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 4))
    y = np.sign(X @ [1.0, -2.0, 0.5, 0.0])
    problem = tk.Problem(
        tk.models.DiagonalNet(d=4), tk.Dataset.from_arrays(X, y), loss=loss, log_alpha=log_alpha, weight_decay=0.05
    )
    trajectory = tk.gradient_flow(problem, tau_end=3.0, save=tk.SaveAt(tau=[1.0, 2.0, 3.0]))

    def rhs(_, theta):
        f = X @ (theta[:4] ** 2 - theta[4:] ** 2)
        slope = {
            "squared": 2.0 * (f - y),
            "logistic": -y / (1.0 + np.exp(y * f)),
            "exponential": -y * np.exp(-y * f),
        }[loss]
        force = np.tile(X.T @ slope / 6.0, 2) * np.repeat([-2.0, 2.0], 4)
        return theta * (force / 0.05 - 1.0)

    start = np.full(8, math.exp(log_alpha))
    reference = solve_ivp(rhs, (0.0, 3.0), start, "DOP853", t_eval=[1.0, 2.0, 3.0], rtol=1e-12, atol=1e-30).y
    w = (reference[:4] ** 2 - reference[4:] ** 2).T
    for index in range(3):
        assert trajectory.weights(index) == pytest.approx(w[index], abs=1e-6 * np.abs(w[index]).max())


def test_a_negative_start_of_even_degree_is_the_positive_one():
    data = tk.datasets.sparse_sign(n=6, d=20, k=3, seed=0)
    net = tk.models.DiagonalNet(d=20)
    runs = [
        tk.gradient_flow(
            tk.Problem(net, data, log_alpha=20.0, log_weight_decay=-20.0, init=sign * np.ones(40)), s_end=1.2
        )
        for sign in (1.0, -1.0)
    ]
    assert runs[1].status == "reached_end"
    assert runs[1].stats["log_train_loss"] == pytest.approx(runs[0].stats["log_train_loss"])


def test_contradicting_samples_are_a_legal_flow():
    data = tk.Dataset.from_arrays([[1.0, 0.0], [-1.0, 0.0]], [1, 1])
    problem = tk.Problem(tk.models.DiagonalNet(d=2), data, log_alpha=20.0, log_weight_decay=-20.0)
    trajectory = tk.gradient_flow(problem, s_end=1.2)
    assert trajectory.status == "reached_end"
    assert trajectory.stats["train_loss"] == pytest.approx(math.log(2.0))


def test_the_second_order_law_of_the_transition_time():
    """lem-c5: log(alpha) - lambda t* grows by (1/L) log 2 per doubling of log(alpha), up to its own corrections."""
    marks = []
    for log_alpha in (160.0, 320.0, 640.0):
        (event,) = run("exponential", 2, log_alpha).events
        marks.append(log_alpha - event.tau)
    steps = np.diff(marks)
    assert steps == pytest.approx(0.5 * math.log(2.0), abs=0.03)


def test_without_weight_decay_time_is_unbounded():
    data = tk.datasets.sparse_sign(n=6, d=20, k=3, seed=0)
    problem = tk.Problem(tk.models.DiagonalNet(d=20), data, loss="logistic", alpha=1.0, weight_decay=0.0)
    trajectory = tk.gradient_flow(problem, log_t_end=5000.0, save=tk.SaveAt(num=30))
    assert trajectory.status == "reached_end"
    assert trajectory.t[-1] == math.inf
    assert np.isnan(trajectory.tau).all()
    # the loss falls like 1/t: log loss + log t settles
    late = trajectory.stats["log_train_loss"] + trajectory.log_t
    assert abs(late[-1] - late[-3]) < 0.1 * abs(trajectory.log_t[-1] - trajectory.log_t[-3])


@pytest.mark.parametrize("log_alpha", [50.0, 400.0, 700.0])
def test_weight_decay_so_large_that_all_is_lost(log_alpha):
    """The squares of residuals leave the float range before, and the loss ends as that of f = 0."""
    y = np.array([1.0, 0.5, -2.0])
    data = tk.Dataset.from_arrays(np.random.default_rng(0).standard_normal((3, 3)), y, task="regression")
    problem = tk.Problem(DiagonalNet(3), data, "squared", log_alpha=log_alpha, log_weight_decay=5.0)
    flow = tk.gradient_flow(problem, s_end=1.5, rtol=1e-6, save=tk.SaveAt(num=5)).raise_for_status()
    assert np.isfinite(flow.stats["log_train_loss"]).all()
    assert flow.stats["log_train_loss"][-1] == pytest.approx(np.log(np.mean(y**2)), abs=1e-5)
