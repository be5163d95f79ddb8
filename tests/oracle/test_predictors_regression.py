"""Predictors of regression against brute force: random displacements, the differential inequality, and quadrature."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from theorykit import InputError
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, MatrixFactorization
from theorykit.predictors import (
    KernelBall,
    displacement_bound,
    earliest_exit,
    early_log_loss,
    early_loss_rate,
    kernel_ball,
    norm_bound,
    off_span_bound,
)

RNG = np.random.default_rng(0)
CASES: list[tuple[HomogeneousModel, np.ndarray, str]] = [
    (DiagonalNet(5, 2), RNG.standard_normal((3, 5)), "theory"),
    (DiagonalNet(5, 4), RNG.standard_normal((3, 5)), "theory"),
    (MatrixFactorization(4), np.array([[0, 0], [0, 1], [2, 3], [1, 3]]), "theory"),
    (MLP((3, 8, 1), "z^2"), RNG.standard_normal((3, 3)), "twin"),
    (MLP((3, 6, 6, 1), "z^2"), RNG.standard_normal((3, 3)), "twin"),
    (CNN((5,), (6,), 3, "z^3"), RNG.standard_normal((3, 5)), "twin"),
]


@pytest.mark.parametrize(("model", "X", "init"), CASES, ids=lambda value: getattr(value, "name", ""))
def test_the_kernel_keeps_its_bounds_in_the_ball(model: HomogeneousModel, X: np.ndarray, init: str) -> None:
    ball, theta = kernel_ball(model, X, init=init), model.direction(init)
    phi = model.features(X, theta)
    assert ball.nu == pytest.approx(np.linalg.svd(phi, compute_uv=False)[-1] ** 2, rel=1e-8)
    assert ball.condition == pytest.approx(np.linalg.cond(phi) ** 2, rel=1e-6)
    rng = np.random.default_rng(1)
    worst = phi.T @ np.linalg.eigh(phi @ phi.T)[1][:, 0]  # towards where the smallest eigenvalue shrinks
    for trial in range(40):
        delta = rng.standard_normal(theta.size) if trial % 2 else -theta * rng.random() - worst * rng.standard_normal()
        delta *= ball.radius / np.linalg.norm(delta)
        moved = model.features(X, theta + delta)
        values = np.linalg.svd(moved, compute_uv=False) ** 2
        assert values[-1] >= 0.5 * ball.nu * (1.0 - 1e-9)
        assert values[0] <= ball.largest * (1.0 + 1e-9)
        assert np.linalg.norm(moved - phi, 2) <= ball.lipschitz * ball.radius * (1.0 + 1e-9)


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_the_radius_of_a_diagonal_net_is_reached(degree: int) -> None:
    model, X = DiagonalNet(2, degree), np.array([[3.0, 0.0]])
    ball = kernel_ball(model, X)
    theta = model.direction() - ball.radius / math.sqrt(2.0) * np.array([1.0, 0.0, 1.0, 0.0])
    assert float(model.ntk(X, theta=theta)[0, 0]) == pytest.approx(0.5 * ball.nu, rel=1e-12)


def test_the_radius_of_a_factorisation_is_reached() -> None:
    model, X = MatrixFactorization(2), np.array([[0, 0]])
    ball = kernel_ball(model, X)
    shift = np.zeros((2, 2))
    shift[0, 0] = -ball.radius / math.sqrt(2.0)
    theta = model.direction() + model.pack({"U": shift, "V": shift})
    assert float(model.ntk(X, theta=theta)[0, 0]) == pytest.approx(0.5 * ball.nu, rel=1e-12)


def test_what_has_no_known_ball_is_refused() -> None:
    with pytest.raises(InputError, match="init"):
        kernel_ball(DiagonalNet(2), [[1.0, 0.0]], init=[1.0, -1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="model"):
        kernel_ball(MatrixFactorization(3, 2, symmetric=False), [[0, 0]])


@pytest.mark.parametrize(("degree", "log_A", "nu"), [(2, 8.0, 3.0), (3, 12.0, 0.7), (4, 6.0, 20.0)])
def test_the_bound_on_the_loss_holds_for_the_differential_inequality(degree: int, log_A: float, nu: float) -> None:
    n, size, power = 5, 2.0, degree - 1
    known = {"n": n, "degree": degree, "log_A": log_A, "nu": nu, "target_norm": size}

    def rate(tau: float, log_loss: np.ndarray) -> np.ndarray:
        """d log Loss/dtau where the printed inequality is an equality."""
        taken = nu / (2 * n) * math.exp(log_A - 2 * power * tau)
        return -taken + degree / math.sqrt(n) * size * np.exp(-0.5 * log_loss)

    end = 0.5 * log_A / (2 * power)  # while the stiffness A e^(-2(L-1) tau) is large
    times = np.linspace(0.0, end, 50)
    start = [math.log(size**2 / n)]
    solved = solve_ivp(rate, (0.0, end), start, method="Radau", t_eval=times, rtol=1e-9, atol=1e-9).y[0]
    assert (early_log_loss(times, **known) - solved)[1:].min() > 0.0
    taken, given = early_loss_rate(times[7], solved[7], **known)
    assert math.exp(given) - math.exp(taken) == pytest.approx(float(rate(times[7], solved[7:8])[0]), rel=1e-12)


@pytest.mark.parametrize(("degree", "log_A"), [(2, 10.0), (3, 20.0)])
def test_constants_are_above_the_integrals_they_bound(degree: int, log_A: float) -> None:
    ball, n, size, power = KernelBall(2.0, 4.0, 0.3, 9.0, 5.0), 4, 1.5, degree - 1
    until = log_A / (2 * power)

    def force(tau: float) -> float:
        """(2/n) A~ |r| of Lemma D.1's bound."""
        loss = early_log_loss(tau, n=n, degree=degree, log_A=log_A, nu=ball.nu, target_norm=size)
        return 2.0 / n * math.exp(log_A - 2 * power * tau + 0.5 * (math.log(n) + float(loss)))

    first = 20.0 * math.exp(-log_A)  # the width of the first part
    cuts = [0.0, first, 100 * first, 0.1 * until, 0.5 * until, until]

    def integral(times_eps: int) -> float:
        """Return the integral of force eps^k over eps^k at the end."""
        parts = [
            quad(lambda t: force(t) * math.exp(times_eps * degree * (t - until)), a, b, epsabs=0, epsrel=1e-8)[0]
            for a, b in pairwise(cuts)
        ]
        return sum(parts)

    of_delta = displacement_bound(ball, size)
    assert 0.1 * of_delta < math.sqrt(ball.largest) * integral(1) < of_delta
    of_rest = off_span_bound(ball, size)
    assert 0.05 * of_rest < ball.lipschitz * of_delta * integral(2) < of_rest
    exit_ = earliest_exit(70.0, degree, ball, size)
    assert of_delta * math.exp(degree * (exit_ - 70.0)) == pytest.approx(ball.radius)


def test_bound_on_the_norm_from_the_energy() -> None:
    ball, n, size, log_lambda, width, degree = KernelBall(2.0, 4.0, 0.3, 9.0, 5.0), 4, 1.5, -5.0, 3.0, 3
    bound = norm_bound(n=n, degree=degree, log_weight_decay=log_lambda, ball=ball, target_norm=size, size=width)
    log_alpha = 6.0
    tau = earliest_exit(log_alpha, degree, ball, size)
    log_A = 2 * (degree - 1) * log_alpha - log_lambda
    held = 16 * n * degree**2 * size**2 / ball.nu**2 * math.exp(4 * (degree - 1) * tau - 2 * log_A)
    theta = math.exp(log_alpha - tau) * (width + ball.radius)
    assert bound**2 == pytest.approx(theta**2 + 2.0 * math.exp(-log_lambda) * held, rel=1e-12)
