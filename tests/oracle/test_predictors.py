"""Predictors against the definitions they shorten: programs on explicit features, scalar equations solved afresh."""

from __future__ import annotations

import cvxpy as cp
import mpmath
import numpy as np
import pytest

from theorykit.kernels import features
from theorykit.models import DiagonalNet
from theorykit.predictors import kernel_direction, log_normaliser, log_normaliser_printed, transition_time, window


def kernel_predictor(phi: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Solve K1 on explicit features, min |h|^2/2 with y_i <phi_i, h> >= 1, for its unit direction and its margin."""
    h = cp.Variable(phi.shape[1])
    problem = cp.Problem(cp.Minimize(cp.sum_squares(h) / 2), [cp.multiply(y, phi @ h) >= 1])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    unit = h.value / np.linalg.norm(h.value)
    return unit, float(np.min(y * (phi @ unit)))


def max_l2_margin(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    return kernel_predictor(X, y)


@pytest.mark.parametrize("init", ["theory", "unit"])
@pytest.mark.parametrize("degree", [2, 3, 4])
def test_kernel_direction_is_k1_on_the_features_of_all_parameters(degree: int, init: str) -> None:
    rng = np.random.default_rng(degree)
    X, y = rng.standard_normal((6, 9)), rng.choice([-1.0, 1.0], 6)
    points = rng.standard_normal((20, 9))
    model = DiagonalNet(9, degree)
    h, gamma = kernel_predictor(features(model, X, init=init), y)
    wanted = features(model, points, init=init) @ h / gamma  # <phi(x), h*>/gamma
    w, margin = max_l2_margin(X, y)
    np.testing.assert_allclose(points @ kernel_direction(model, w, margin), wanted, rtol=0, atol=2e-6)


def test_kernel_direction_does_not_depend_on_the_scale_of_the_separator() -> None:
    w = np.array([1.0, -2.0, 2.0])
    direction = kernel_direction(DiagonalNet(3), w, 0.25)
    np.testing.assert_allclose(kernel_direction(DiagonalNet(3), 7.0 * w, 0.25), direction, rtol=1e-15)
    assert np.linalg.norm(direction) == pytest.approx(1.0 / 0.25)  # a margin of one


@pytest.mark.parametrize(
    ("log_alpha", "p", "c", "degree"), [(1e3, 1.0, 0.3, 2), (1e4, 0.5, 0.6, 3), (1e5, 2.0, 0.1, 4)]
)
def test_normaliser_is_the_output_at_which_growth_meets_decay(
    log_alpha: float, p: float, c: float, degree: int
) -> None:
    """In the kernel frame q obeys sigma^(2(L-1))/lambda e^-q ~ q at sigma = alpha^c: solve that with mpmath."""
    mpmath.mp.dps = 30
    big = mpmath.mpf(2 * (degree - 1)) * c * log_alpha + p * log_alpha  # log(sigma^(2(L-1))/lambda)
    q = mpmath.findroot(lambda z: z + mpmath.log(z) - big, big)
    got = log_normaliser(log_alpha, -p * log_alpha, c, degree)
    assert got == pytest.approx(float(big), rel=1e-14)
    assert abs(float(q) / got - 1.0) < 2.0 * np.log(got) / got


@pytest.mark.parametrize(("log_alpha", "log_decay", "c"), [(2.0, -3.0, 0.3), (5.0, -1.0, 0.9)])
def test_printed_normaliser_is_the_printed_formula(log_alpha: float, log_decay: float, c: float) -> None:
    alpha, decay = np.exp(log_alpha), np.exp(log_decay)
    assert log_normaliser_printed(log_alpha, log_decay, c) == pytest.approx(np.log(alpha**c / decay), rel=1e-14)


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_both_normalisers_differ_by_the_missing_exponent(degree: int) -> None:
    """Their ratio at p = 1 is (2(L-1)c + 1)/(c + 1): 1.6/1.3 for L = 2, c = 0.3."""
    ratio = log_normaliser(50.0, -50.0, 0.3, degree) / log_normaliser_printed(50.0, -50.0, 0.3)
    assert ratio == pytest.approx((2 * (degree - 1) * 0.3 + 1.0) / 1.3, rel=1e-14)


@pytest.mark.parametrize(("alpha", "decay", "degree"), [(50.0, 1e-3, 2), (1e6, 1e-6, 3), (1e20, 1e-5, 4)])
def test_transition_time_is_where_the_moved_part_is_of_order_one(alpha: float, decay: float, degree: int) -> None:
    """The bound alpha^-L log A e^(L tau) of Lemma C.5 on |delta| reaches 1: solved for tau by bisection."""
    A = alpha ** (2 * (degree - 1)) / decay
    low, high = 0.0, 2.0 * np.log(alpha)
    for _ in range(100):
        middle = 0.5 * (low + high)
        moved = alpha**-degree * np.log(A) * np.exp(degree * middle)
        low, high = (middle, high) if moved < 1.0 else (low, middle)
    assert transition_time(np.log(alpha), np.log(decay), degree) == pytest.approx(low, rel=1e-12)


def test_window_lies_around_the_transition() -> None:
    early, late = window(80.0, 0.3)
    assert (early + late) / 2.0 == pytest.approx(80.0)
    assert late - early == pytest.approx(2.0 * 0.3 * 80.0)
    assert early < transition_time(80.0, -80.0, 2) < late
