"""What a snapshot gives beside statistics: h, outputs, gradients, the rates of the loss; in both ways to integrate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import MLP, DiagonalNet


def flow(loss: str, method: str, log_alpha: float, degree: int = 3) -> tk.Trajectory:
    data = tk.datasets.sparse_sign(n=6, d=16, k=3, seed=1)
    problem = tk.Problem(DiagonalNet(16, degree), data, loss, log_alpha=log_alpha, log_weight_decay=-log_alpha)
    return tk.gradient_flow(problem, s_end=1.1, method=method, save=tk.SaveAt(num=5)).raise_for_status()


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("log_alpha", [4.0, 60.0])
def test_the_dual_reduction_and_the_frames_agree(loss, log_alpha):
    dual, frames = flow(loss, "dual", log_alpha), flow(loss, "radau", log_alpha)
    X = np.random.default_rng(0).standard_normal((3, 16))
    for s in (0.2, 0.7, 0.95, 1.05):
        one, other = dual.at(s=s), frames.at(s=s)
        np.testing.assert_allclose(one.outputs(), other.outputs(), rtol=1e-7)
        np.testing.assert_allclose(one.outputs(X), other.outputs(X), rtol=1e-6, atol=1e-9)
        for name in ("h", "gradient"):
            (unit, log), (unit_, log_) = getattr(one, name), getattr(other, name)
            # in the frames the residual of the squared loss is a difference of near numbers: the companion knows
            (looser, looser_log) = getattr(other.looser, name)
            np.testing.assert_allclose(unit, unit_, atol=3e-6 + float(np.max(np.abs(looser - unit_))))
            assert log == pytest.approx(log_, abs=3e-6 + abs(looser_log - log_))
        spread = np.max(np.abs(np.subtract(other.looser.log_loss_rates, other.log_loss_rates)))
        np.testing.assert_allclose(one.log_loss_rates, other.log_loss_rates, rtol=1e-5, atol=float(spread))


@pytest.mark.parametrize("loss", ["exponential", "squared", "cross_entropy"])
@pytest.mark.parametrize("decaying", [True, False])
def test_gradient_and_rates_are_the_flow_s_own(loss, decaying):
    """Differences in time of the dense output give the same rates."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((5, 3))
    if loss == "squared":
        data = tk.Dataset.from_arrays(X, rng.standard_normal(5), task="regression")
    elif loss == "cross_entropy":
        data = tk.Dataset.from_arrays(X, [0, 1, 2, 1, 0], task="multiclass", classes=3)
    else:
        data = tk.Dataset.from_arrays(X, [1.0, -1.0, 1.0, 1.0, -1.0])
    net = MLP((3, 6, data.classes or 1), activation="z^2")
    problem = tk.Problem(net, data, loss, alpha=1.5, weight_decay=0.1 if decaying else 0.0)
    flow = tk.gradient_flow(problem, log_t_end=2.5, rtol=1e-10)
    for log_t in (-0.5, 0.7, 2.0):
        step = 1e-4
        before, now, after = (flow.at(log_t=log_t + k * step) for k in (-1, 0, 1))
        clock = math.exp(log_t) * (0.1 if decaying else 1.0)
        sign, given, taken = now.log_loss_rates
        rate = (after["log_train_loss"] - before["log_train_loss"]) / (2.0 * step)
        assert rate == pytest.approx(clock * (sign * math.exp(given) - math.exp(taken)), rel=1e-4, abs=1e-6)
        theta = [math.exp(snap.log_norm) * snap.direction for snap in (before, now, after)]
        slope = -(theta[1] * (0.1 if decaying else 0.0) + math.exp(now.gradient[1]) * now.gradient[0])
        np.testing.assert_allclose((theta[2] - theta[0]) / (2.0 * step), math.exp(log_t) * slope, rtol=1e-4, atol=1e-5)
        alpha_t = 1.5 * math.exp(-clock) if decaying else 1.5
        h = alpha_t**net.degree * (theta[1] / alpha_t - problem.direction)
        np.testing.assert_allclose(math.exp(now.h[1]) * now.h[0], h, rtol=1e-7, atol=1e-8)


def test_every_accepted_step_can_be_read():
    trajectory = flow("logistic", "dual", 60.0)
    ends = trajectory.step_ends
    assert np.all(np.diff(ends) > 0.0)
    assert math.exp(ends[-1]) == pytest.approx(1.1 * 60.0)
    losses = [trajectory.at(log_tau=float(end))["log_train_loss"] for end in ends[::20]]
    assert np.isfinite(losses).all()
    value, error = trajectory.at(log_tau=float(ends[50])).estimate(lambda now: now.h[1])
    assert math.isfinite(value)
    assert 0.0 < error < 1e-5


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({}, "s: got no time; wanted exactly one of s, tau, log_tau and log_t"),
        ({"s": 1.0, "log_t": 1.0}, "s: got s and log_t; wanted exactly one"),
        ({"log_t": 1e3}, "log_t: got 1000; wanted at most"),
        ({"log_tau": math.nan}, "log_tau: got nan; wanted a finite number"),
    ],
)
def test_at_refuses(when, message):
    with pytest.raises(tk.InputError, match=message):
        flow("logistic", "dual", 4.0).at(**when)


@pytest.mark.parametrize(("degree", "log_alpha"), [(3, 5.0), (4, 4.0)])
def test_the_squared_loss_where_its_stiffness_fades_within_the_run(degree, log_alpha):
    """A falls from 1e11 to 1e2: with a Jacobian of a stiffer time Newton's iteration stood still, and was believed."""
    data = tk.datasets.sparse_sign(n=6, d=12, k=3, seed=0)
    problem = tk.Problem(DiagonalNet(12, degree), data, "squared", log_alpha=log_alpha, log_weight_decay=-log_alpha)
    X, y, decay = data.X.astype(float), data.y, math.exp(-log_alpha)

    def rhs(_: float, theta: np.ndarray) -> np.ndarray:
        u, v = np.split(theta, 2)
        g = degree * X.T @ (2.0 * (X @ (u**degree - v**degree) - y)) / len(y) / decay
        return np.concatenate([-u - u ** (degree - 1) * g, -v + v ** (degree - 1) * g])

    def jacobian(_: float, theta: np.ndarray) -> np.ndarray:
        u, v = np.split(theta, 2)
        g = degree * X.T @ (2.0 * (X @ (u**degree - v**degree) - y)) / len(y) / decay
        features = degree * np.hstack([X * u ** (degree - 1), -X * v ** (degree - 1)])
        bent = (degree - 1) * np.concatenate([-(u ** (degree - 2)) * g, v ** (degree - 2) * g])
        return np.diag(bent - 1.0) - 2.0 / len(y) / decay * features.T @ features

    trajectory = tk.gradient_flow(problem, s_end=1.15)
    taus = log_alpha * np.array([0.7, 1.0, 1.15])
    solved = solve_ivp(
        rhs, (0.0, taus[-1]), np.full(24, math.exp(log_alpha)), method="BDF", jac=jacobian, t_eval=taus, rtol=1e-9,
        atol=1e-10,
    )  # fmt: skip
    assert solved.success
    for tau, theta in zip(taus, solved.y.T, strict=True):
        now = trajectory.at(tau=min(float(tau), float(trajectory.tau[-1])))
        f = X @ (theta[:12] ** degree - theta[12:] ** degree)
        np.testing.assert_allclose(now.outputs(), f, atol=1e-6)


def test_the_squared_loss_between_the_stages_of_a_step():
    """Held by its outputs, the state is right at all stages of a step that is far too wide, and only there."""
    rng = np.random.default_rng(0)
    data = tk.Dataset.from_arrays(rng.standard_normal((8, 40)), rng.standard_normal(8), task="regression")
    problem = tk.Problem(DiagonalNet(40, 4), data, "squared", log_alpha=230.0, log_weight_decay=-230.0)
    trajectory = tk.gradient_flow(problem, s_end=1.5, save=tk.SaveAt(num=5))
    now = trajectory.at(s=1.0)
    for path in (now.path, now.companion):
        ends = path.step_ends()
        ends = ends[(ends > math.log(100.0)) & (ends < math.log(231.0))]
        inside = ends[:-1, None] + np.diff(ends)[:, None] * np.array([0.3, 0.85])
        missed = np.abs(path.outputs(inside.ravel()) - data.y)  # f - y itself is about e^-460
        assert np.max(missed) < 30.0 * path.rtol
