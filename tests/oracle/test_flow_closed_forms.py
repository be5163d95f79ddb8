"""One sample, one feature: what quadrature and algebra know about the flow."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy.optimize import brentq

import theorykit as tk
from theorykit.losses import LOSSES

X_ONE, TARGET = 0.8, 1.7


def one_sample(loss: str, degree: int, *, alpha: float, weight_decay: float) -> tk.Problem:
    y = TARGET if loss == "squared" else 1.0
    task = "regression" if loss == "squared" else "classification"
    data = tk.Dataset.from_arrays([[X_ONE]], [y], task=task)
    return tk.Problem(
        tk.models.DiagonalNet(d=1, degree=degree), data, loss=loss, alpha=alpha, weight_decay=weight_decay
    )


def pull(loss: str, f: mpmath.mpf) -> mpmath.mpf:
    """Return -loss' at output f."""
    if loss == "squared":
        return 2 * (mpmath.mpf(TARGET) - f)
    return mpmath.exp(-f) if loss == "exponential" else 1 / (1 + mpmath.exp(f))


def twin(u: mpmath.mpf, alpha: float, degree: int) -> mpmath.mpf:
    """Return v from u by the conserved quantity of the flow without weight decay."""
    alpha = mpmath.mpf(alpha)
    if degree == 2:
        return alpha**2 / u
    power = degree - 2
    return (2 * alpha**-power - u**-power) ** mpmath.mpf(-1 / mpmath.mpf(power))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize("loss", LOSSES)
def test_without_weight_decay_time_is_an_integral(loss, degree, alpha):
    """du/dt = L u^(L-1) x (-loss'): the time to reach u is a quadrature, v follows from the conserved quantity."""
    final_f = 1.2  # below the target of the squared loss

    def output(u: mpmath.mpf) -> mpmath.mpf:
        return X_ONE * (u**degree - twin(u, alpha, degree) ** degree)

    with mpmath.workdps(30):
        grown = mpmath.findroot(lambda u: output(u) - final_f, (alpha, alpha * 1.02 + 0.2 * (alpha < 2)), "anderson")
        log_t = mpmath.log(
            mpmath.quad(
                lambda u: 1 / (degree * u ** (degree - 1) * X_ONE * pull(loss, output(u))),
                mpmath.linspace(alpha, grown, 5),
            )
        )
    problem = one_sample(loss, degree, alpha=alpha, weight_decay=0.0)
    trajectory = tk.gradient_flow(problem, log_t_end=float(log_t), rtol=1e-11)
    assert trajectory.weights(-1)[0] * X_ONE == pytest.approx(final_f, rel=1e-8)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_with_weight_decay_it_ends_at_the_stationary_point(loss, degree):
    """L u^(L-2) x (-loss'(x u^L)) = lambda on the branch with v = 0."""
    weight_decay = 0.05

    def slope(u: float) -> float:
        return degree * u ** (degree - 2) * X_ONE * float(pull(loss, mpmath.mpf(X_ONE * u**degree))) - weight_decay

    u = brentq(slope, 1.0, 5.0, xtol=1e-15)
    if degree == 2 and loss == "squared":
        assert u**2 == pytest.approx((TARGET - weight_decay / (4 * X_ONE)) / X_ONE, rel=1e-12)
    if degree == 2 and loss == "exponential":
        assert u**2 == pytest.approx(math.log(2 * X_ONE / weight_decay) / X_ONE, rel=1e-12)
    problem = one_sample(loss, degree, alpha=2.0, weight_decay=weight_decay)
    end = tk.gradient_flow(problem, tau_end=40.0, rtol=1e-10).at(tau=40.0)
    assert end.weights[0] == pytest.approx(u**degree, rel=1e-9)
    assert end["log_norm"] == pytest.approx(math.log(u), abs=1e-9)


def test_a_small_start_decays_to_zero_when_it_must():
    """Degree 3 has a basin of attraction at zero: theta = sigma theta_bar, and w is what first order makes of it."""
    alpha, weight_decay = 1e-3, 0.5
    problem = one_sample("logistic", 3, alpha=alpha, weight_decay=weight_decay)
    end = tk.gradient_flow(problem, tau_end=5.0, rtol=1e-10).at(tau=5.0)
    sigma = alpha * math.exp(-5.0)
    # u = sigma + 3 sigma^2 B alpha ... to first order: m = (1/2)/lambda * alpha (1 - e^-5), w = 2 L^2 x sigma^3 sigma m
    m = 0.5 / weight_decay * alpha * (1.0 - math.exp(-5.0))
    assert end.weights[0] == pytest.approx(18.0 * X_ONE * sigma**3 * m, rel=1e-4)
    assert end["log_norm"] == pytest.approx(math.log(sigma * math.sqrt(2.0)), abs=1e-5)


def test_first_steps_are_the_neural_tangent_flow():
    """At a huge scale and early times f = K t y/n exactly (squared loss: f = y (1 - e^{-2 K A tau ...}))."""
    problem = one_sample("squared", 2, alpha=1e6, weight_decay=1e-3)
    K = problem.model.ntk([[X_ONE]])[0, 0] * 1e12
    t = 0.7 / (2.0 * K)
    trajectory = tk.gradient_flow(problem, log_t_end=math.log(t), rtol=1e-11)
    assert trajectory.weights(-1)[0] * X_ONE == pytest.approx(TARGET * (1.0 - math.exp(-0.7)), rel=1e-9)
    assert np.exp(trajectory.stats["log_train_loss"][-1]) == pytest.approx((TARGET * math.exp(-0.7)) ** 2, rel=1e-8)
