"""The explicit pairs, Radau IIA and the stabilised method: order conditions, and orders as measured."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import sympy as sp

from theorykit.flow import integrate
from theorykit.flow.tableaus import DOP853, TSIT5, chebyshev, radau_iia

EXPLICIT = {"tsit5": TSIT5, "dop853": DOP853}
Tree = tuple  # of its subtrees, sorted


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """Return all rooted trees with so many vertices."""
    if order == 1:
        return ((),)
    found = set()
    for first in range(1, order):
        for child in trees(first):
            for rest in trees(order - first):
                found.add(tuple(sorted((child, *rest))))
    return tuple(sorted(found))


def size(tree):
    return 1 + sum(size(child) for child in tree)


def density(tree):
    return size(tree) * math.prod(density(child) for child in tree)


def stage_weights(tree, A):
    """Return the elementary weights of a tree at the stages."""
    product = np.ones(len(A))
    for child in tree:
        product = product * (A @ stage_weights(child, A))
    return product


def defect(tree, b, A):
    return abs(float(b @ stage_weights(tree, A)) - 1.0 / density(tree))


def test_numbers_of_trees():
    assert [len(trees(k)) for k in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


@pytest.mark.parametrize("name", EXPLICIT)
def test_order_conditions(name):
    """All of them: the decimals are those of their sources, to the last place that doubles hold."""
    r = EXPLICIT[name]
    b = r.A[r.stages]
    np.testing.assert_allclose(r.A.sum(axis=1), r.c, atol=2e-15)
    assert np.all(np.triu(r.A) == 0.0)
    worst = max(defect(tree, b, r.A) for order in range(1, r.order + 1) for tree in trees(order))
    assert worst < 3e-14  # sixteen published decimals, times coefficients up to 13
    assert max(defect(tree, b, r.A) for tree in trees(r.order + 1)) > 1e-8


@pytest.mark.parametrize("name", EXPLICIT)
def test_error_estimates_vanish_to_their_orders(name):
    r = EXPLICIT[name]
    embedded = {"tsit5": (4, None), "dop853": (5, 3)}[name]
    for weights, order in zip(r.error, embedded, strict=True):
        if order is None:
            assert np.all(weights == 0.0)
            continue
        full = np.zeros(len(r.A))
        full[: weights.size] = weights
        values = [[abs(full @ stage_weights(tree, r.A)) for tree in trees(k)] for k in range(1, order + 2)]
        assert max(max(row) for row in values[:-1]) < 5e-15
        assert max(values[-1]) > 1e-6


@pytest.mark.parametrize(("name", "order"), [("tsit5", 4), ("dop853", 7)])
@pytest.mark.parametrize("x", [0.2, 0.5, 0.9])
def test_dense_output_satisfies_its_order_conditions(name, order, x):
    r = EXPLICIT[name]
    b = np.array([x ** (k + 1) for k in range(len(r.dense))]) @ r.dense
    for k in range(1, order + 1):
        for tree in trees(k):
            assert float(b @ stage_weights(tree, r.A)) == pytest.approx(x**k / density(tree), abs=1e-13)


def test_dop853_is_that_of_scipy():
    from scipy.integrate import DOP853 as REFERENCE

    np.testing.assert_array_equal(DOP853.A[:12, :12], REFERENCE.A)
    np.testing.assert_array_equal(DOP853.error, [REFERENCE.E5, REFERENCE.E3])


@pytest.mark.parametrize("name", EXPLICIT)
def test_length_of_the_stability_interval(name):
    r = EXPLICIT[name]
    z = sp.Symbol("z")
    b, A = sp.Matrix(r.A[r.stages, : r.stages]).T, sp.Matrix(r.A[: r.stages, : r.stages])
    powers = [1] + [float((b * A**k * sp.ones(r.stages, 1))[0]) for k in range(r.stages)]
    growth = sp.lambdify(z, sum(p * z**k for k, p in enumerate(powers)))
    inside = np.linspace(-r.stability, -1e-3, 500)
    assert np.all(np.abs(growth(inside)) <= 1.0)
    assert abs(growth(-1.1 * r.stability)) > 1.0


@pytest.mark.parametrize("s", [3, 5, 7])
def test_radau_against_exact_arithmetic(s):
    """The abscissae are zeros of a Radau polynomial, the rows of A integrate the Lagrange polynomials: 40 digits."""
    x = sp.Symbol("x")
    polynomial = sp.Poly(sp.diff(x ** (s - 1) * (x - 1) ** s, x, s - 1), x)
    c = sorted(polynomial.nroots(n=40, maxsteps=200), key=sp.re)
    r = radau_iia(s)
    np.testing.assert_allclose(r.c, [float(sp.re(root)) for root in c], atol=1e-14)
    V = sp.Matrix(s, s, lambda i, k: c[i] ** k)
    moments = sp.Matrix(s, s, lambda i, k: c[i] ** (k + 1) / (k + 1))
    A = moments * V.inv()
    np.testing.assert_allclose(r.A, np.array(A.evalf(20), dtype=float), atol=1e-12)
    b = A[s - 1, :]
    for k in range(1, 2 * s):  # the quadrature conditions to order 2s - 1, and no further
        assert abs(sum(b[i] * c[i] ** (k - 1) for i in range(s)) - sp.Rational(1, k)) < sp.Float("1e-30")
    assert abs(sum(b[i] * c[i] ** (2 * s - 1) for i in range(s)) - sp.Rational(1, 2 * s)) > sp.Float("1e-12")
    for k in range(1, s):  # D(s - 1), with B(2s - 1) and C(s) the order follows (Butcher)
        for j in range(s):
            left = sum(b[i] * c[i] ** (k - 1) * A[i, j] for i in range(s))
            assert abs(left - b[j] * (1 - c[j] ** k) / k) < sp.Float("1e-28")


@pytest.mark.parametrize("s", [3, 5, 7])
def test_radau_transformation_and_error_estimate(s):
    r = radau_iia(s)
    block = np.zeros((s, s))
    block[0, 0] = r.gamma
    for p, mu in enumerate(r.mu):
        a = 1 + 2 * p
        block[a : a + 2, a : a + 2] = [[mu.real, mu.imag], [-mu.imag, mu.real]]
    np.testing.assert_allclose(np.linalg.inv(r.A) @ r.T, r.T @ block, atol=1e-9)
    np.testing.assert_allclose(r.T @ r.T_inv, np.eye(s), atol=1e-10)
    weights = r.b + r.error @ r.A / r.gamma
    moments = [weights @ r.c**k + (1.0 / r.gamma if k == 0 else 0.0) for k in range(s + 1)]
    np.testing.assert_allclose(moments[:s], 1.0 / np.arange(1, s + 1), atol=1e-11)
    assert abs(moments[s] - 1.0 / (s + 1)) > 1e-7


@pytest.mark.parametrize("s", [3, 5, 7])
def test_radau_chebyshev_series(s):
    coefficients, x = np.random.default_rng(s).standard_normal(s), np.linspace(0.0, 3.0, 7)
    series = radau_iia(s).series @ coefficients
    values = sum(a * (sp.chebyshevt(k + 1, 2 * sp.Symbol("x") - 1) - (-1) ** (k + 1)) for k, a in enumerate(series))
    expected = np.polynomial.Polynomial([0.0, *coefficients])(x)
    np.testing.assert_allclose([float(values.subs(sp.Symbol("x"), at)) for at in x], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("s", [3, 5, 7])
def test_radau_is_l_stable(s):
    r = radau_iia(s)
    z = np.concatenate([-np.logspace(-2, 8, 100), 1j * np.linspace(-80, 80, 401)])[:, None, None]
    stages = np.linalg.solve(np.eye(s) - z * r.A, np.ones((s, 1)))
    growth = np.abs(1.0 + z[:, 0, 0] * (stages[:, :, 0] @ r.b))
    assert np.all(growth <= 1.0 + 1e-9)
    assert growth[99] < 1e-6


@pytest.mark.parametrize("s", [3, 5, 20, 100, 400])
def test_stabilised_method_has_order_two_and_a_long_real_interval(s):
    r = chebyshev(s)
    assert r.c[-1] == pytest.approx(1.0)

    def growth(z):
        before, now = np.ones_like(z), 1.0 + r.mu_tilde[1] * z
        for j in range(2, s + 1):
            new = (1 - r.mu[j] - r.nu[j]) + r.mu[j] * now + r.nu[j] * before + r.mu_tilde[j] * z * now
            before, now = now, new + r.gamma_tilde[j] * z
        return now

    z = np.linspace(-0.99 * r.stability, 0.0, 20_001)
    assert np.all(np.abs(growth(z)) <= 1.0 + 1e-9)
    assert r.stability > 0.58 * s * s
    small = np.array([1e-3])
    assert abs(growth(small)[0] - math.exp(1e-3)) < 1e-9  # the third-order term is 1e-9/6 and less


def pendulum(t, y):
    return np.array([y[1], -np.sin(y[0]) - 0.3 * y[1] ** 3 + 0.2 * np.cos(t)])


START = np.array([1.0, 0.5])


def circle(t, y):
    return np.array([-y[1], y[0]])


def slope(counts, errors):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


TURN = 20.0


@pytest.mark.parametrize(
    ("method", "order", "counts"),
    [("tsit5", 5, (300, 400, 550, 750)), ("dop853", 8, (30, 40, 52, 66)), ("rkc2", 2, (400, 600, 900, 1200))],
)
def test_driver_converges_with_the_order_of_its_method(method, order, counts):
    """Steps held constant by `widest`, at a tolerance that every step meets."""
    errors = []
    for count in counts:
        h = TURN / count
        result = integrate(
            circle, [1.0, 0.0], (0.0, TURN), method=method, first_step=h, widest=h, rtol=0.1, atol=1e3, companion=False
        )
        assert result.counts["steps"] == count
        errors.append(np.linalg.norm(result.y_end - [math.cos(TURN), math.sin(TURN)]))
    assert slope(counts, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("s", "counts"), [(3, (80, 110, 150, 200)), (5, (16, 22, 30, 40)), (7, (8, 9, 10, 12))])
def test_radau_converges_with_its_order(s, counts):
    """On y' = iy, stage equations solved directly: the driver's own Newton iteration stops at the tolerance."""
    r, errors = radau_iia(s), []
    for count in counts:
        h, y = TURN / count, 1.0 + 0.0j
        for _ in range(count):
            y += np.linalg.solve(np.eye(s) - 1j * h * r.A, 1j * h * y * r.A.sum(axis=1))[-1]
        errors.append(abs(y - np.exp(1j * TURN)))
    assert slope(counts, errors) == pytest.approx(2 * s - 1, abs=0.2)


@pytest.mark.parametrize(
    ("method", "order"), [("tsit5", 5), ("dop853", 8), ("radau5", 4), ("radau9", 6), ("radau13", 8)]
)
def test_work_grows_with_the_tolerance_as_the_error_estimate_says(method, order):
    """Steps ~ rtol^(-1/k), k the power of h with which the error estimate falls."""
    tolerances = 10.0 ** -np.arange(5.0, 11.0)
    span = (0.0, 60.0)
    steps = [
        integrate(pendulum, START, span, method=method, rtol=rtol, companion=False).counts["steps"]
        for rtol in tolerances
    ]
    assert slope(tolerances, steps) == pytest.approx(1.0 / order, rel=0.2)
