"""What the claims about generalisation, label noise and factorisation measure with, against independent references."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import linprog, root
from theorykit.verifications.lyu2024 import generalisation, thm_b1, thm_f3

from theorykit import InputError
from theorykit.predictors import label_noise_weights, margin_error_bound, rademacher_bound
from theorykit.programs import factorisation_point

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 6), st.integers(1, 7), st.sampled_from([1, 2]))
def test_complexity_over_all_signs_is_the_supremum_over_the_ball(seed, n, d, norm):
    """The l1 ball's supremum is at a vertex, the l2 ball's at a multiple of the sum: loops over signs and vertices."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    suprema = []
    for signs in itertools.product((-1.0, 1.0), repeat=n):
        total = [sum(s * x for s, x in zip(signs, column, strict=True)) for column in X.T.tolist()]
        suprema.append(max(abs(t) for t in total) if norm == 1 else math.sqrt(sum(t * t for t in total)))
    ball = generalisation._Ball(norm, (X,), generalisation._all_signs(n), True)
    slack = generalisation._relative_slack(ball, X, 0.7)
    assert slack.measured == pytest.approx(1.0 - np.mean(suprema) / n / 0.7, rel=1e-12, abs=1e-12)


def test_sharpest_cases_of_the_complexities():
    """All sign patterns as features: sup = n for every sign, 1/sqrt(2 log 2) of the bound. Orthogonal points: equal."""
    patterns = generalisation._all_signs(8).T
    ball = generalisation._Ball(1, (), generalisation._all_signs(8), True)
    slack = generalisation._relative_slack(ball, patterns, rademacher_bound(patterns, norm=1))
    assert slack.measured == pytest.approx(1.0 - 1.0 / math.sqrt(2.0 * math.log(2.0)), rel=1e-12)
    equal = generalisation._relative_slack(ball._replace(norm=2), np.eye(8), rademacher_bound(np.eye(8), norm=2))
    assert equal.measured == pytest.approx(0.0, abs=1e-15)


def test_random_signs_agree_with_all_signs():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((12, 30))
    for norm in (1, 2):
        exact = generalisation._Ball(norm, (), generalisation._all_signs(12), True)
        sampled = generalisation._Ball(norm, (), rng.choice([-1.0, 1.0], (4000, 12)), False)
        a, b = (generalisation._relative_slack(ball, X, rademacher_bound(X, norm=norm)) for ball in (exact, sampled))
        assert abs(a.measured - b.measured) <= b.error
        assert b.sampling < 0.1 * max(b.measured, 0.1)


@given(seeds, st.integers(1, 9), st.sampled_from([1, 3]), st.booleans())
def test_error_of_a_classifier_is_the_share_of_the_cube(seed, d, k, sparse):
    if k > d:
        return
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d) * (rng.random(d) < 0.5 if sparse else 1.0)
    wrong = 0
    for x in itertools.product((-1, 1), repeat=d):
        wrong += sum(a * b for a, b in zip(w, x, strict=True)) * sum(x[:k]) <= 0.0
    low, high = generalisation._test_error(w, k)
    assert low <= wrong / 2**d <= high
    assert np.abs(w).sum() == 0.0 or high - low < 1e-12 or np.count_nonzero(w) < 2


def test_error_of_a_dense_classifier_is_bracketed():
    """Too many entries to go through: the bracket holds the share of a large sample, and is narrow."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal(600)
    w[0] = 12.0
    low, high = generalisation._test_error(w, 1)
    X = rng.choice([-1.0, 1.0], (10_000, 600))
    share = float(((X @ w) * X[:, 0] <= 0.0).mean())
    assert low - 0.015 < share < high + 0.015
    assert high - low < 0.2


@pytest.mark.parametrize(
    ("norm", "first"), [(1, 4 * 3 * math.sqrt(2 * math.log(40) / 5000)), (2, 4 * math.sqrt(60 / 5000))]
)
def test_error_bounds_are_the_printed_ones(norm, first):
    second = 3.0 * math.sqrt(math.log(2.0 / 0.05) / 10_000)
    assert margin_error_bound(5000, 20, 3, 0.05, norm=norm) == pytest.approx(first + second, rel=1e-14)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: margin_error_bound(10, 5, 6, 0.1, norm=1), "k"),
        (lambda: margin_error_bound(10, 5, 1, 1.0, norm=1), "delta"),
        (lambda: margin_error_bound(10, 5, 1, 0.1, norm=3), "norm"),
        (lambda: rademacher_bound([[1.0]], norm=0), "norm"),
        (lambda: label_noise_weights([[1.0, 2.0], [2.0, 4.0]], [1.0, 2.0], alpha=1.0, time=0.0), "X"),
        (lambda: label_noise_weights([[1.0, 2.0]], [1.0, 2.0], alpha=1.0, time=0.0), "y"),
        (lambda: label_noise_weights([[1.0, 2.0]], [1.0], alpha=1.0, time=-1.0), "time"),
        (lambda: label_noise_weights([[1.0, 2.0]], [1.0], alpha=0.0, time=1.0), "alpha"),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(InputError, match=f"^{argument}: "):
        call()


def sparse_problem(seed=0):
    return thm_b1.draw(np.random.default_rng(seed), 12, 6, 1)


def test_label_noise_starts_at_the_end_of_the_gradient_flow():
    """SciPy on the raw ODE of u and v."""
    problem = sparse_problem()
    X, y, d = problem.X, problem.y, 12

    def slope(_, theta):
        u, v = theta[:d], theta[d:]
        pull = 2.0 / len(y) * X.T @ (X @ (u * u - v * v) - y)
        return np.concatenate([-2.0 * u * pull, 2.0 * v * pull])

    end = solve_ivp(slope, (0.0, 200.0), np.full(2 * d, 0.8), method="LSODA", rtol=1e-12, atol=1e-12).y[:, -1]
    w = label_noise_weights(X, y, alpha=0.8, time=0.0)
    assert w == pytest.approx(end[:d] ** 2 - end[d:] ** 2, abs=1e-8)


@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_label_noise_follows_the_projected_flow_of_the_trace(noise):
    """SciPy on -(sigma^2/2) P grad tr H, with the projection by least squares and tr H differentiated numerically."""
    problem = sparse_problem(1)
    X, y, d = problem.X, problem.y, 12
    w = label_noise_weights(X, y, alpha=1.0, time=0.0)
    half = np.arcsinh(0.5 * w) / 2.0
    start = np.concatenate([np.exp(half), np.exp(-half)])

    def trace(theta):
        """Return the trace of the Hessian of the mean squared loss at zero loss: (2/n) sum |grad f_i|^2."""
        gradients = np.hstack([2.0 * theta[:d] * X, -2.0 * theta[d:] * X])
        return 2.0 / len(y) * float((gradients**2).sum())

    def slope(_, theta):
        steps = 1e-6 * np.eye(2 * d)
        gradient = np.array([(trace(theta + step) - trace(theta - step)) / 2e-6 for step in steps])
        features = np.hstack([2.0 * theta[:d] * X, -2.0 * theta[d:] * X])
        free = -0.5 * noise**2 * gradient
        return free - features.T @ np.linalg.lstsq(features.T, free, rcond=None)[0]

    end = solve_ivp(slope, (0.0, 0.3), start, rtol=1e-9, atol=1e-11).y[:, -1]
    assert label_noise_weights(X, y, alpha=1.0, time=0.3, noise=noise) == pytest.approx(
        end[:d] ** 2 - end[d:] ** 2, abs=1e-6
    )


def test_label_noise_ends_at_the_smallest_weighted_norm():
    """SciPy's linear program min sum c_k |w_k| s.t. X w = y."""
    problem = sparse_problem(2)
    X, y = problem.X, problem.y + 0.1
    cost = (X**2).mean(axis=0)
    best = linprog(np.concatenate([cost, cost]), A_eq=np.hstack([X, -X]), b_eq=y, method="highs")
    early, late = (label_noise_weights(X, y, alpha=1.0, time=time) for time in (1.0, 30.0))
    assert X @ late == pytest.approx(y, abs=1e-10)
    assert best.fun <= cost @ np.abs(late) <= best.fun * (1.0 + 1e-6)
    assert cost @ np.abs(early) > best.fun * (1.0 + 1e-4)


@given(seeds, st.floats(0.0, 2.0), st.floats(-2.0, 2.0))
def test_label_noise_interpolates_by_a_sinh_of_the_span(seed, time, log_alpha):
    """Both conditions of optimality, for w alone: X w = y, and the arcsinh of w in its unit is in the row space."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((3, 7)), rng.standard_normal(3)
    alpha = math.exp(log_alpha)
    w = label_noise_weights(X, y, alpha=alpha, time=time)
    assert X @ w == pytest.approx(y, abs=1e-8)
    unit = 2.0 * alpha**2 * np.exp(-16.0 * time * (X**2).mean(axis=0))
    pull = np.arcsinh(w / unit)
    inside = X.T @ np.linalg.lstsq(X.T, pull, rcond=None)[0]
    assert inside == pytest.approx(pull, abs=1e-8 * (1.0 + np.abs(pull).max()))


@pytest.mark.parametrize("kind", [thm_f3._full, thm_f3._partial])
def test_gradient_and_hessian_of_the_factorisation(kind):
    """Central differences of a loss written with loops."""
    rng = np.random.default_rng(0)
    observed = kind(rng, 5)
    U, V = rng.standard_normal((5, 2)), rng.standard_normal((5, 1))
    theta = np.concatenate([U.ravel(), V.ravel()])

    def loss(theta):
        U, V = theta[:10].reshape(5, 2), theta[10:].reshape(5, 1)
        total = 0.0
        for (i, j), y in zip(observed.index, observed.values, strict=True):
            total += (U[i] @ U[j] - V[i] @ V[j] - y) ** 2
        return total / len(observed.values) + 0.5 * observed.decay * float(theta @ theta)

    assert observed.loss(U, V)[0] == pytest.approx(loss(theta), rel=1e-13)
    steps = np.eye(15)
    gradient = [(loss(theta + 1e-6 * s) - loss(theta - 1e-6 * s)) / 2e-6 for s in steps]
    assert thm_f3._gradient(observed, theta, 2) == pytest.approx(gradient, abs=1e-7)
    rows = [
        (thm_f3._gradient(observed, theta + 1e-6 * s, 2) - thm_f3._gradient(observed, theta - 1e-6 * s, 2)) / 2e-6
        for s in steps
    ]
    assert observed.hessian(U, V) == pytest.approx(np.array(rows), abs=1e-7)


def test_saddles_found_are_stationary_and_curve_down():
    """Another root finder stays there, and the loss along the direction is lower on both sides."""
    rng = np.random.default_rng(3)
    observed = thm_f3._partial(rng, 6)
    saddle = thm_f3._polished(observed, rng.standard_normal((6, 1)), rng.standard_normal((6, 1)))
    assert saddle is not None
    theta = np.concatenate([saddle.U.ravel(), saddle.V.ravel()])
    again = root(lambda t: thm_f3._gradient(observed, t, 1), theta, method="lm", tol=1e-14)
    assert np.linalg.norm(again.x - theta) < 1e-8
    U, V = (np.hstack([factor, np.zeros((6, 5))]) for factor in saddle)
    found = factorisation_point(U, V, observed.index, observed.values, weight_decay=observed.decay)
    assert found.curvature is not None
    H, K = found.direction
    at, ahead, back = (observed.loss(U + t * H, V + t * K)[0] for t in (0.0, 1e-3, -1e-3))
    assert ahead < at
    assert back < at
    assert (ahead + back - 2.0 * at) / 1e-6 == pytest.approx(found.curvature, rel=1e-3)


def test_ladders_that_fall_too_slowly_have_negative_slack():
    assert thm_b1.falls(np.array([1.0, 0.3, 0.1]), np.zeros(3), 0.5).measured == pytest.approx(1.0 / 6.0)
    assert thm_b1.falls(np.array([1.0, 0.3, 0.2]), np.zeros(3), 0.5).measured < 0.0
    noisy = thm_b1.falls(np.array([1.0, 0.3]), np.array([0.1, 0.2]), 0.5)
    assert noisy.sampling == pytest.approx(0.2 + 0.3 * 0.1)


@given(seeds)
def test_extrapolation_to_step_zero_is_exact_on_lines(seed):
    rng = np.random.default_rng(seed)
    intercept, slope = rng.standard_normal(2)
    rungs = [np.full((3, 1), intercept + slope * step) for step in (4.0, 2.0, 1.0)]
    value, error = thm_b1._at_zero_step(rungs)
    assert value == pytest.approx([intercept], abs=1e-12)
    assert error == pytest.approx([0.0], abs=1e-12)
