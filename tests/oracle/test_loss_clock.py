"""Flows without weight decay in the clock of their loss: against quadrature, SciPy, and the dual reduction."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.flow.frames import KERNEL, RICH, Field
from theorykit.flow.loss_clock import LossClock
from theorykit.models import CNN, MLP, DiagonalNet, Linear


def labelled(n: int = 6, d: int = 4, seed: int = 8) -> tk.Dataset:
    rng = np.random.default_rng(seed)
    return tk.Dataset.from_arrays(rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n))


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("degree", [2, 3])
def test_one_sample_to_log_t_of_ten_thousand(loss, degree):
    """dt/df is a known function of f: log t from quadrature over the last 60 units of f, which leave out e^-60."""
    data = tk.Dataset.from_arrays([[0.8]], [1.0])
    problem = tk.Problem(DiagonalNet(1, degree), data, loss, alpha=1.0, weight_decay=0.0)
    flow = tk.gradient_flow(problem, log_t_end=1e4, method="radau", save=tk.SaveAt(num=30, spacing="loglog"))
    assert [frame["clock"] for frame in flow.diagnostics["frames"]][-1] == "loss"
    np.testing.assert_allclose(np.diff(np.log(flow.log_t)), math.log(1e4) / 29, rtol=1e-9)
    power, x = degree - 2, mpmath.mpf("0.8")

    def output(u: mpmath.mpf) -> mpmath.mpf:  # v from what is conserved
        v = 1 / u if degree == 2 else (2 - u**-power) ** (-mpmath.mpf(1) / power)
        return x * (u**degree - v**degree)

    def inverse(f: mpmath.mpf) -> mpmath.mpf:
        root = 1 / mpmath.mpf(degree)
        return mpmath.findroot(lambda u: output(u) - f, ((f / x + 1) ** root, (f / x + 2) ** root))

    def minus_slope(f: mpmath.mpf) -> mpmath.mpf:
        return mpmath.exp(-f) if loss == "exponential" else 1 / (1 + mpmath.exp(f))

    with mpmath.workdps(30):
        for k in (12, 20, 29):
            f_end = mpmath.mpf(flow.at(log_t=float(flow.log_t[k])).outputs()[0])
            low, high = inverse(max(f_end - 60, mpmath.mpf("1e-12"))), inverse(f_end)
            t = mpmath.quad(
                lambda u: 1 / (degree * u ** (degree - 1) * x * minus_slope(output(u))), mpmath.linspace(low, high, 30)
            )
            assert float(mpmath.log(t)) == pytest.approx(flow.log_t[k], rel=1e-7)


@pytest.mark.parametrize(("degree", "log_alpha"), [(2, 1.0), (3, 0.5), (2, 200.0)])
def test_against_the_dual_reduction_in_log_t(degree, log_alpha):
    problem = tk.Problem(DiagonalNet(4, degree), labelled(), "logistic", log_alpha=log_alpha, weight_decay=0.0)
    save = tk.SaveAt(log_t=np.array([1.0, 10.0, 300.0, 2e4]))
    mark = [tk.Crossing("output_margin", 50.0)]
    dual, frames = (
        tk.gradient_flow(problem, log_t_end=2e4, save=save, method=method, events=mark) for method in ("dual", "radau")
    )
    for name in ("log_train_loss", "log_norm", "output_margin", "margin"):
        np.testing.assert_allclose(frames.stats[name], dual.stats[name], rtol=3e-7, atol=1e-9)
    (one,), (other,) = dual.events, frames.events
    assert abs(one.log_t - other.log_t) < 1e-5 * max(abs(one.log_t), 1.0)
    assert other.log_t_error < 1e-4


@pytest.mark.parametrize("frame", [KERNEL, RICH])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_jacobian_is_the_derivative(frame, classes):
    rng = np.random.default_rng(0)
    net = MLP((4, 5, classes), activation="z^3")
    data = labelled() if classes == 1 else tk.Dataset.from_arrays(labelled().X, [0, 1, 2, 0, 1, 2], task="multiclass")
    loss = "logistic" if classes == 1 else "cross_entropy"
    problem = tk.Problem(net, data, loss, alpha=1.2, weight_decay=0.0)
    clock = LossClock(Field(problem, net.inputs(data.X), frame, log_clock=True))
    state = np.append(rng.standard_normal(net.parameters), 0.7)
    columns = [(clock(0.0, state + e) - clock(0.0, state - e)) / 2e-6 for e in 1e-6 * np.eye(state.size)]
    matrix = clock.jacobian(0.0, state)
    np.testing.assert_allclose(matrix, np.array(columns).T, rtol=1e-5, atol=1e-6 * np.abs(matrix).max())
    diagonal, left, right = clock.low_rank_jacobian(0.0, state)
    np.testing.assert_allclose((np.diag(diagonal) + left @ right.T)[-1], matrix[-1], rtol=1e-9, atol=1e-12)


def test_classes_against_scipy_on_the_raw_flow():
    data = tk.Dataset.from_arrays(labelled().X, [0, 1, 2, 0, 1, 2], task="multiclass", classes=3)
    net = Linear(4, outputs=3)
    start = np.random.default_rng(1).standard_normal(net.parameters)
    problem = tk.Problem(net, data, "cross_entropy", alpha=1.0, weight_decay=0.0, init=start)

    def rhs(log_t: float, theta: np.ndarray) -> np.ndarray:
        f = net.output(theta, data.X)
        p = np.exp(f - f.max(axis=1, keepdims=True))
        c = np.eye(3)[data.y.astype(int)] - p / p.sum(axis=1, keepdims=True)
        return math.exp(log_t) / 6 * net.vjp(theta, data.X, c)

    flow = tk.gradient_flow(problem, log_t_end=14.0, rtol=1e-9)
    theta = solve_ivp(rhs, (-25.0, 14.0), start, method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
    end = flow.at(log_t=14.0)
    assert any(frame["clock"] == "loss" for frame in flow.diagnostics["frames"])
    np.testing.assert_allclose(math.exp(end.log_norm) * end.direction, theta, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "net", [MLP((4, 6, 5, 1), activation="z^2"), CNN((4,), channels=(3,), kernel=2, activation="z^2")]
)
def test_nets_to_enormous_times_from_any_scale(net):
    for log_alpha in (1.0, 1e4):
        problem = tk.Problem(net, labelled(), "exponential", log_alpha=log_alpha, weight_decay=0.0)
        flow = tk.gradient_flow(problem, log_t_end=2.4e4, rtol=1e-6, save=tk.SaveAt(num=20)).raise_for_status()
        shift = 2.0 * (net.degree - 1) * log_alpha  # t counts in units of 1/A~ as long as the features stand still
        assert flow.stats["log_train_loss"][-1] == pytest.approx(-2.4e4 - shift, rel=3e-3)
        assert flow.diagnostics["drift"]["balancedness"] < 1e-4


@pytest.mark.parametrize("start", [-150.0, -250.0, -42_000.0])
def test_a_start_far_on_the_wrong_side_of_the_exponential_loss(start):
    """One sample, a linear model: d(e^q)/dt = |x|^2, from q = y f = -42 000, where the slope is e^42 000."""
    x = np.array([3.0, -4.0])
    data = tk.Dataset.from_arrays(x[None, :], [-1.0])
    problem = tk.Problem(tk.models.Linear(2), data, "exponential", init=-start * x / 25.0, alpha=1.0, weight_decay=0.0)
    log_t = np.concatenate([start + np.array([-4.0, 1.0, 30.0]), [0.0, 2.0]])
    flow = tk.gradient_flow(problem, log_t_end=2.0, save=tk.SaveAt(log_t=log_t)).raise_for_status()
    q = np.logaddexp(start, log_t + 2.0 * math.log(5.0))
    np.testing.assert_allclose(flow.stats["output_margin"], q, rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(flow.stats["log_train_loss"], -q, rtol=1e-8, atol=1e-7)
    assert np.all(np.abs(flow.stats["output_margin"] - q) <= flow.errors["output_margin"] + 1e-12 * np.abs(q))
