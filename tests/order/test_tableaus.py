"""Radau IIA of order 5: the coefficients against exact arithmetic, and the orders that fixed steps show."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

from theorykit.flow.tableaus import radau_iia

RADAU = radau_iia(3)
ROUND_OFF = 5e-15


def exact_tableau():
    """Return A, b, c in exact arithmetic: each row of A integrates the Lagrange polynomials up to its abscissa."""
    root = sp.sqrt(6)
    c = [(4 - root) / 10, (4 + root) / 10, sp.Integer(1)]
    x = sp.Symbol("x")
    basis = [sp.prod([(x - o) / (own - o) for o in c if o != own]) for own in c]
    A = sp.Matrix(3, 3, lambda i, j: sp.radsimp(sp.expand(sp.integrate(sp.expand(basis[j]), (x, 0, c[i])))))
    return A, A[2, :], c


def vanish(expressions):
    return all(sp.simplify(expression) == 0 for expression in expressions)


def test_exact_tableau_satisfies_the_simplifying_assumptions():
    A, b, c = exact_tableau()
    stages = range(3)
    assert vanish(sum(b[i] * c[i] ** (k - 1) for i in stages) - sp.Rational(1, k) for k in range(1, 6))  # B(5)
    assert not vanish([sum(b[i] * c[i] ** 5 for i in stages) - sp.Rational(1, 6)])  # and no more than 5
    assert vanish(  # C(3)
        sum(A[i, j] * c[j] ** (k - 1) for j in stages) - c[i] ** k / k for i in stages for k in (1, 2, 3)
    )
    assert vanish(  # D(2)
        sum(b[i] * c[i] ** (k - 1) * A[i, j] for i in stages) - b[j] * (1 - c[j] ** k) / k
        for j in stages
        for k in (1, 2)
    )


def test_ours_is_the_exact_tableau_to_round_off():
    A, b, c = exact_tableau()
    np.testing.assert_allclose(RADAU.A, np.array(A.evalf(30), dtype=float), rtol=0, atol=ROUND_OFF)
    np.testing.assert_allclose(RADAU.b, np.array(b.evalf(30), dtype=float)[0], rtol=0, atol=ROUND_OFF)
    np.testing.assert_allclose(RADAU.c, [float(x) for x in c], rtol=0, atol=ROUND_OFF)


def test_transformation_to_one_real_and_one_complex_system():
    (mu,) = RADAU.mu
    block = np.array([[RADAU.gamma, 0, 0], [0, mu.real, mu.imag], [0, -mu.imag, mu.real]])
    assert mu.imag > 0
    np.testing.assert_allclose(RADAU.A @ RADAU.T @ block, RADAU.T, atol=1e-13)
    np.testing.assert_allclose(RADAU.T @ RADAU.T_inv, np.eye(3), atol=1e-14)
    assert pytest.approx(60.0, rel=1e-12) == RADAU.gamma * abs(mu) ** 2  # 1/det A


def test_method_is_l_stable():
    z = -np.logspace(-2, 8, 200)[:, None, None]
    stages = np.linalg.solve(np.eye(3) - z * RADAU.A, np.ones((3, 1)))
    growth = 1.0 + z[:, 0, 0] * (stages[:, :, 0] @ RADAU.b)
    assert np.all(np.abs(growth) < 1.0)
    assert abs(growth[-1]) < 1e-6
    along_the_imaginary_axis = 1j * np.linspace(-50, 50, 401)[:, None, None]
    stages = np.linalg.solve(np.eye(3) - along_the_imaginary_axis * RADAU.A, np.ones((3, 1)))
    growth = 1.0 + along_the_imaginary_axis[:, 0, 0] * (stages[:, :, 0] @ RADAU.b)
    assert np.all(np.abs(growth) <= 1.0 + 1e-12)


def test_embedded_formula_has_order_three_exactly():
    weights = RADAU.b + RADAU.error @ RADAU.A / RADAU.gamma
    moments = [weights @ RADAU.c**k + (1.0 / RADAU.gamma if k == 0 else 0.0) for k in range(4)]
    np.testing.assert_allclose(moments[:3], [1.0, 1 / 2, 1 / 3], atol=1e-13)
    assert abs(moments[3] - 1 / 4) > 1e-3  # otherwise it would not differ from the method itself


def test_dense_output_passes_through_the_stages():
    increments = np.array([[0.3, -1.0], [0.7, 2.0], [1.1, 0.5]])
    coefficients = RADAU.dense.T @ increments
    for c, increment in zip(RADAU.c, increments, strict=True):
        np.testing.assert_allclose(np.array([c, c**2, c**3]) @ coefficients, increment, atol=1e-13)


def pendulum(t, y):
    return np.array([y[1], -np.sin(y[0]) - 0.3 * y[1] ** 3 + 0.2 * np.cos(t)])


def stages_of(t, y, h):
    """Return the stage increments of one step, by fixed-point iteration to round-off."""
    z = np.zeros((3, y.size))
    for _ in range(200):
        new = h * RADAU.A @ np.array([pendulum(t + c * h, y + row) for c, row in zip(RADAU.c, z, strict=True)])
        if np.max(np.abs(new - z)) < 1e-16:
            break
        z = new
    return z


def exact(y, t):
    return solve_ivp(pendulum, (0.0, t), y, "DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


START = np.array([1.0, 0.5])


def slopes(steps, errors):
    return np.diff(np.log(errors)) / np.diff(np.log(steps))


def test_endpoint_converges_with_order_five():
    steps, errors = [], []
    for count in (6, 12, 24, 48):
        h, y = 3.0 / count, START
        for k in range(count):
            y = y + stages_of(k * h, y, h)[2]
        steps.append(h)
        errors.append(np.linalg.norm(y - exact(START, 3.0)))
    assert slopes(steps, errors)[-1] == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize("x", [0.15, 0.7])  # away from the zeros of the error polynomial
def test_dense_output_has_local_order_four(x):
    steps = [0.2, 0.1, 0.05]
    errors = []
    for h in steps:
        coefficients = RADAU.dense.T @ stages_of(0.0, START, h)
        inside = START + np.array([x, x**2, x**3]) @ coefficients
        errors.append(np.linalg.norm(inside - exact(START, x * h)))
    assert slopes(steps, errors)[-1] == pytest.approx(4.0, abs=0.3)
