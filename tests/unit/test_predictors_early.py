"""Bounds along the early flow against independent references: 60-digit arithmetic, quadrature, sampled Hessians."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from theorykit import InputError
from theorykit.models import CNN, MLP, DiagonalNet, MatrixFactorization
from theorykit.predictors import (
    curvature_bound,
    feature_radius,
    kernel_phase_end,
    log_displacement_ceiling,
    log_inverse_xlogx,
    log_loss_ceiling,
    log_loss_floor,
    log_loss_floor_printed,
    output_bound,
)

SCALES = st.tuples(
    st.floats(5.0, 600.0), st.floats(-600.0, -2.0), st.integers(2, 5), st.floats(0.05, 5.0), st.floats(0.01, 1.4)
)


def _inverse(y):
    """Return F^-1(y) by bisection-free high precision: the root of x log x = y."""
    return y / mp.lambertw(y)


def _ceiling(tau, log_alpha, log_lambda, L, gamma):
    A = mp.exp(2 * (L - 1) * mp.mpf(log_alpha) - mp.mpf(log_lambda))
    grown = mp.exp(2 * (L - 1) * mp.mpf(tau))
    first = 1 / (1 + gamma**2 * A * (1 - 1 / grown) / (16 * (L - 1)))
    return max(first, grown / (_inverse(gamma**2 * A / (8 * L)) - 1))


@given(SCALES)
@settings(max_examples=15, deadline=None)
def test_bounds_on_the_loss_are_the_formulas(drawn):
    log_alpha, log_lambda, L, gamma, s = drawn
    tau, n, G = s * log_alpha, 8, 3.0 * gamma
    with mp.workdps(60):
        ceiling = mp.log(_ceiling(tau, log_alpha, log_lambda, L, mp.mpf(gamma)))
        y = mp.mpf(2) / (n * L) * mp.mpf(G) ** 2 * mp.exp(2 * (L - 1) * (mp.mpf(log_alpha) - mp.mpf(tau)) - log_lambda)
        printed = min(n / _inverse(y), mp.exp(1 - 2 * (L - 1) * mp.exp(log_lambda)) / n)
        floor = min(1 / _inverse(y), mp.exp(1 - mp.mpf(4 * (L - 1)) / L)) / n
        expected = [float(x) for x in (ceiling, mp.log(printed), mp.log(floor))]
    scales = (tau, log_alpha, log_lambda, L)
    found = [
        float(log_loss_ceiling(math.log(tau), *scales[1:], gamma)),
        float(log_loss_floor_printed(*scales, G, n)),
        float(log_loss_floor(*scales, G, n)),
    ]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-10)


@pytest.mark.parametrize("y", [1e-8, 0.3, 1.0, 50.0, 1e12])
def test_inverse_of_x_log_x(y):
    w = float(log_inverse_xlogx(math.log(y)))
    assert w * math.exp(w) == pytest.approx(y, rel=1e-12)


@pytest.mark.parametrize("degree", [2, 3, 5])
@pytest.mark.parametrize("tau", [1e-12, 0.05, 0.5, 3.0, 8.0])
def test_displacement_is_above_the_integral_of_the_loss_bound(degree, tau):
    """The closed form bounds the quadrature of the sum of both parts, and is not far above it."""
    log_alpha, log_lambda, gamma, G = 6.0, -4.0, 0.7, 2.0
    scales = (log_alpha, log_lambda, degree, gamma)
    A = math.exp(2 * (degree - 1) * log_alpha - log_lambda)
    kappa = gamma**2 * A / (16 * (degree - 1))
    rest = math.exp(float(log_inverse_xlogx(math.log(gamma**2 * A / (8 * degree))))) - 1.0

    def density(log_s):
        s = math.exp(log_s)
        grown = math.exp(2 * (degree - 1) * s)
        parts = 1.0 / (1.0 + kappa * -math.expm1(-2 * (degree - 1) * s)) + grown / rest
        return s * math.exp(-(degree - 2) * s) * parts

    integral = quad(density, math.log(tau) - 60.0, math.log(tau), limit=400, epsabs=0.0, epsrel=1e-10)[0]
    reference = math.log(G) + (degree - 2) * log_alpha - log_lambda + math.log(integral)
    found = float(log_displacement_ceiling(math.log(tau), *scales, G))
    assert reference - 1e-9 <= found <= reference + 1.5


def test_bounds_at_times_below_the_float_range():
    """There both are linear in tau: log(1/loss) >= gamma^2 A tau/8 and |delta| <= G alpha^(L-2) tau/lambda."""
    log_alpha, log_lambda, gamma, G = 640.0, -640.0, 0.5, 2.0
    log_tau = np.array([-1930.0, -1935.0])
    log_A = 2.0 * log_alpha - log_lambda
    expected = math.log(gamma**2 / 8.0) + log_A + log_tau
    found = np.log(-log_loss_ceiling(log_tau, log_alpha, log_lambda, 2, gamma))
    assert found == pytest.approx(expected, abs=1e-3)
    displacement = log_displacement_ceiling(log_tau, log_alpha, log_lambda, 2, gamma, G)
    assert (displacement >= math.log(G) - log_lambda + log_tau - 1e-9).all()
    assert (displacement <= math.log(G) - log_lambda + log_tau + 1.0).all()


def test_end_of_the_kernel_phase_is_where_the_displacement_reaches_the_radius():
    arguments = (80.0, -40.0, 3, 0.5, 2.0)
    end = kernel_phase_end(*arguments, 0.03)
    assert float(log_displacement_ceiling(math.log(end), *arguments)) == pytest.approx(math.log(0.03), abs=1e-9)


def test_end_of_the_kernel_phase_has_the_second_order_of_lemma_c5():
    """log(alpha) - (1/L) log log A + const: the constant settles as alpha grows, for L = 2 and 4."""
    for degree in (2, 4):
        rest = []
        for log_alpha in (1e3, 1e5, 1e7):
            log_A = (2 * (degree - 1) + 1.0) * log_alpha
            end = kernel_phase_end(log_alpha, -log_alpha, degree, 0.5, 2.0, 0.03)
            rest.append(end - log_alpha + math.log(log_A) / degree)
        assert abs(rest[2] - rest[1]) < 1e-4
        assert abs(rest[1] - rest[0]) < 1e-2


@pytest.mark.parametrize("degree", [2, 3, 6])
def test_floor_holds_for_the_extremal_flow_and_the_printed_one_does_not(degree):
    """Integrate dy/dtau = (G^2/n) A e^(-2(L-1) tau) e^(-y) - L y, the equality case, with SciPy."""
    log_alpha, log_lambda, G, n = 8.0, -6.0, 2.0, 9
    power = 2.0 * (degree - 1)
    log_k = 2.0 * math.log(G) - math.log(n) + power * log_alpha - log_lambda

    def slope(tau, y):
        return np.exp(log_k - power * tau - y) - degree * y

    found = solve_ivp(slope, (0.0, log_alpha), [-math.log(n)], method="Radau", rtol=1e-9, atol=1e-11)
    log_loss = -found.y[0] - math.log(n)
    scales = (found.t, log_alpha, log_lambda, degree, G, n)
    assert (log_loss >= log_loss_floor(*scales) - 1e-8).all()
    assert (log_loss < log_loss_floor_printed(*scales)).any()


def _models():
    rng = np.random.default_rng(3)
    yield DiagonalNet(5, 2), rng.standard_normal((4, 5)), "theory"
    yield DiagonalNet(5, 4), rng.standard_normal((4, 5)), "theory"
    yield MatrixFactorization(3), [[0, 1], [1, 2], [0, 0]], "theory"
    yield MatrixFactorization(3, symmetric=False), [[0, 1], [1, 2]], "theory"
    yield MLP((3, 4, 1), "z^2"), rng.standard_normal((4, 3)), "twin"
    yield MLP((3, 4, 1), "relu^3", bias=True), rng.standard_normal((4, 3)), "zero_last"
    yield MLP((3, 2, 4, 1), "z^2"), rng.standard_normal((4, 3)), "twin"
    yield CNN((5,), (4,), 3, "z^2", window=3), rng.standard_normal((4, 5)), "twin"
    yield CNN((5,), (2, 2), 2, "z^2", window=3, pooling="sum", bias=True), rng.standard_normal((4, 5)), "twin"


@pytest.mark.parametrize(("model", "X", "init"), list(_models()), ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("radius", [0.01, 0.5])
def test_curvature_bound_is_above_every_sampled_hessian(model, X, init, radius):
    rng = np.random.default_rng(0)
    center = model.direction(init)
    bound, largest = curvature_bound(model, center, X, radius), 0.0
    for _ in range(5):
        step = rng.standard_normal(model.parameters)
        theta = center + radius * step / np.linalg.norm(step)
        for cotangent in np.eye(len(X)):
            hessian = np.array([model.hvp(theta, X, cotangent, axis) for axis in np.eye(model.parameters)])
            largest = max(largest, float(np.abs(np.linalg.eigvalsh(0.5 * (hessian + hessian.T))).max()))
    assert largest <= bound
    assert radius > 0.1 or bound <= 40.0 * largest  # not empty either


@pytest.mark.parametrize(("model", "X", "init"), list(_models()), ids=lambda value: getattr(value, "name", ""))
def test_no_feature_moves_by_half_the_margin_within_the_radius(model, X, init):
    rng = np.random.default_rng(1)
    center, margin = model.direction(init), 0.3
    radius = feature_radius(model, center, X, margin)
    still, furthest = model.features(X, center), 0.0
    for k in range(200):
        step = rng.standard_normal(model.parameters) if k % 2 else np.eye(model.parameters)[k % model.parameters]
        moved = model.features(X, center + radius * step / np.linalg.norm(step))
        furthest = max(furthest, float(np.linalg.norm(moved - still, axis=1).max()))
    assert 0.0 < furthest <= 0.5 * margin


@pytest.mark.parametrize(("model", "X", "init"), list(_models()), ids=lambda value: getattr(value, "name", ""))
def test_no_output_on_the_unit_sphere_exceeds_its_bound(model, X, init):
    """Climb from random points, so that the bound is met by outputs near the largest."""
    rng = np.random.default_rng(2)
    bound = output_bound(model, X)
    for i, cotangent in enumerate(np.eye(len(X))):
        largest = 0.0
        for _ in range(4):
            theta = rng.standard_normal(model.parameters)
            for _ in range(60):
                theta /= np.linalg.norm(theta)
                sign = np.sign(model.output(theta, X)[i])
                theta = theta + sign * model.vjp(theta, X, cotangent) / bound[i]
            largest = max(largest, abs(float(model.output(theta / np.linalg.norm(theta), X)[i])))
        assert largest <= bound[i] * (1.0 + 1e-12)
        assert largest >= 0.05 * bound[i]


def test_radius_of_a_diagonal_net_is_attained():
    """One coordinate that moves by the whole radius moves the largest feature by exactly half the margin."""
    model, X = DiagonalNet(3, 3), np.array([[0.5, -2.0, 1.0]])
    center = model.direction()
    radius = feature_radius(model, center, X, 0.4)
    moved = model.features(X, center + radius * np.eye(6)[1]) - model.features(X, center)
    assert float(np.linalg.norm(moved)) == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize("model", [MLP((3, 4, 1), "relu"), MLP((3, 4, 2), "z^2")], ids=lambda model: model.name)
def test_curvature_is_refused_where_nothing_is_known(model):
    with pytest.raises(InputError, match="model"):
        curvature_bound(model, model.direction("zero_last"), np.ones((2, 3)), 0.1)
