"""max_margin against closed forms, brute force, other solvers, and exact arithmetic."""

from __future__ import annotations

import importlib.util
import itertools
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from theorykit._numerics.errors import NotSeparableError
from theorykit._numerics.rounding import column_products, norm_upper, row_products, scale_rows, sum_bounds
from theorykit.programs import CertificateError, kkt_residuals, max_margin, verify_farkas


def load_agreement() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "max_margin_agreement", Path(__file__).with_name("max_margin_agreement.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- enclosures against exact rational arithmetic -------------------------------------------------------------------

doubles = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)
matrices = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 70)), elements=doubles)


def exact_products(rows: list[list[float]], vector: list[float]) -> list[Fraction]:
    fractions = [Fraction(v) for v in vector]
    return [sum((Fraction(a) * b for a, b in zip(row, fractions, strict=True)), Fraction(0)) for row in rows]


def assert_encloses(bounds, exact):
    lower, upper = bounds
    for a, value, b in zip(lower, exact, upper, strict=True):
        assert a == -np.inf or Fraction(float(a)) <= value
        assert b == np.inf or value <= Fraction(float(b))


@settings(deadline=None, max_examples=60)
@given(matrices, st.data())
def test_products_enclose_the_exact_ones(X, data):
    w = data.draw(hnp.arrays(np.float64, X.shape[1], elements=doubles))
    mu = data.draw(hnp.arrays(np.float64, X.shape[0], elements=doubles))
    rows = scale_rows(X)
    assert_encloses(row_products(rows, w), exact_products(X.tolist(), w.tolist()))
    assert_encloses(column_products(rows, mu), exact_products(X.T.tolist(), mu.tolist()))


@pytest.mark.parametrize("dtype", [np.int8, np.float64])
def test_products_are_tight_under_cancellation(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(-128, 128, (5, 1000)).astype(dtype)
    w = rng.standard_normal(1000)
    w[-1] -= float(X[0].astype(float) @ w) / float(X[0, -1] or 1)
    lower, upper = row_products(scale_rows(X), w)
    exact = exact_products(X.astype(float).tolist(), w.tolist())
    assert_encloses((lower, upper), exact)
    absolute = np.abs(X.astype(float)) @ np.abs(w)  # 1e12 times the result of the first row
    assert np.all(upper - lower <= 4.5e-16 * np.abs([float(v) for v in exact]) + 1e-24 * absolute)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float64, st.integers(1, 20), elements=doubles))
def test_norms_are_bounded_from_above(v):
    exact = [abs(Fraction(x)) for x in v.tolist()]
    assert Fraction(norm_upper(np.abs(v), np.inf)) >= max(exact)
    assert Fraction(norm_upper(np.abs(v), 1)) >= sum(exact)
    two = norm_upper(np.abs(v), 2)
    assert Fraction(two) ** 2 >= sum(x * x for x in exact)
    assert Fraction(two) ** 2 * (1 - Fraction(1, 10**14)) <= sum(x * x for x in exact) + Fraction(1, 10**600)
    lower, upper = sum_bounds(v)
    assert Fraction(lower) <= sum(Fraction(x) for x in v.tolist()) <= Fraction(upper)


# --- closed forms -----------------------------------------------------------------------------------------------------


def assert_optimum(result, margin, w=None):
    assert result.certificate.lower <= margin * (1 + 1e-14)
    assert margin * (1 - 1e-14) <= result.certificate.upper
    assert result.certificate.gap < 1e-13
    if w is not None:
        assert np.allclose(result.w, w, rtol=1e-12, atol=1e-12 * np.abs(w).max())


@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_orthonormal_samples(scale):
    rng = np.random.default_rng(1)
    X = scale * np.linalg.qr(rng.standard_normal((40, 9)))[0].T
    y = np.where(rng.random(9) < 0.5, 1.0, -1.0)
    result = max_margin(X, y)
    assert_optimum(result, scale / 3.0, X.T @ y / scale / scale)
    assert np.allclose(result.dual, 1.0 / 9.0, rtol=1e-12)
    assert result.distance_bound <= 1e-7 * 3.0 / scale


@pytest.mark.parametrize("dtype", [np.int8, np.float64])
def test_every_sign_vector_with_a_sparse_majority(dtype):
    X = np.array(list(itertools.product((-1, 1), repeat=6)), dtype=dtype)
    y = np.sign(X[:, :3] @ [1.0, -1.0, 1.0])
    direction = np.array([1.0, -1.0, 1.0, 0.0, 0.0, 0.0])
    result = max_margin(X, y)
    assert_optimum(result, 1.0 / np.sqrt(3.0), direction)
    assert np.linalg.norm(result.w - direction) <= result.distance_bound  # the optimum is known exactly
    assert_optimum(max_margin(X, y, norm=1), 1.0 / 3.0, direction)


@pytest.mark.parametrize(("norm", "dual_order"), [(2, 2), (1, np.inf)])
def test_one_sample(norm, dual_order):
    x = np.array([[1.0, -3.0, 2.0]])
    assert_optimum(max_margin(x, [-1], norm=norm), np.linalg.norm(x, dual_order) if norm == 2 else 3.0)


@pytest.mark.parametrize("margin", [1e-4, 1e-6, 1e-8])
def test_a_tiny_margin_is_solved(margin):
    X, y = [[1.0, margin], [-1.0, margin]], [1, 1]
    for norm in (1, 2):
        result = max_margin(X, y, norm=norm)
        assert result.certificate.lower <= margin <= result.certificate.upper
        assert result.certificate.gap < 1e-9


@pytest.mark.parametrize("norm", [1, 2])
def test_a_tiny_margin_in_general_position(norm):
    """The last digit of w moves the margin by 1e-16 / 1e-8: the gap can be no smaller, and must be no larger."""
    rng = np.random.default_rng(2)
    direction = np.full(8, 1.0 / np.sqrt(8.0))
    Z = rng.standard_normal((30, 8))
    Z += np.outer(1e-8 * (1.0 + rng.random(30)) - Z @ direction, direction)
    assert max_margin(Z, np.ones(30), norm=norm).certificate.gap < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("norm", [1, 2])
def test_the_size_of_the_grokking_example(norm):
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 2, (256, 100_000)) * 2 - 1).astype(np.int8)
    y = np.sign(X[:, :3] @ np.array([1.0, -1.0, 1.0]))
    result = max_margin(X, y, norm=norm)
    assert result.certificate.gap < 1e-13
    assert result.certificate.verify(X, y)
    if norm == 1:
        assert result.certificate.lower <= 1.0 / 3.0 <= result.certificate.upper
    else:
        assert result.distance_bound < 1e-7 * np.linalg.norm(result.w)
    X[200, 70_000] *= -1
    with pytest.raises(CertificateError, match="data"):
        result.certificate.verify(X, y)


# --- brute force ------------------------------------------------------------------------------------------------------


def brute_l2(Z):
    """Try every active set: the shortest w with Z_A w = 1 that satisfies the rest."""
    best = np.inf
    for size in range(1, min(Z.shape) + 1):
        for active in itertools.combinations(range(len(Z)), size):
            block = Z[list(active)]
            if np.linalg.matrix_rank(block) == size:
                w = np.linalg.pinv(block) @ np.ones(size)
                if (Z @ w).min() > 1.0 - 1e-9:
                    best = min(best, np.linalg.norm(w))
    return 1.0 / best


def brute_l1(Z):
    """Try every vertex: as many features as active samples."""
    best = np.inf
    for size in range(1, min(Z.shape) + 1):
        for active in itertools.combinations(range(len(Z)), size):
            for features in itertools.combinations(range(Z.shape[1]), size):
                block = Z[np.ix_(active, features)]
                if abs(np.linalg.det(block)) > 1e-9:
                    w = np.zeros(Z.shape[1])
                    w[list(features)] = np.linalg.solve(block, np.ones(size))
                    if (Z @ w).min() > 1.0 - 1e-9:
                        best = min(best, np.abs(w).sum())
    return 1.0 / best


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_over_active_sets(seed):
    rng = np.random.default_rng(seed)
    Z = rng.integers(-3, 4, (6, 4)) + (0.0 if seed % 2 else 0.1 * rng.standard_normal((6, 4)))
    Z *= np.where(Z @ rng.standard_normal(4) > 0, 1.0, -1.0)[:, None]
    Z = Z[np.abs(Z).sum(axis=1) > 0]
    for norm, brute in ((1, brute_l1), (2, brute_l2)):
        try:
            result = max_margin(Z, np.ones(len(Z)), norm=norm)
        except NotSeparableError:
            assert brute(Z) == 0.0  # no active set is feasible
        else:
            assert result.margin == pytest.approx(brute(Z), rel=1e-9)


# --- other solvers ----------------------------------------------------------------------------------------------------


def test_agreement_with_other_solvers():
    for row in load_agreement().run(12, seed=3):
        assert row["gap"] < 1e-12, row
        assert row["difference"] < 1e-8, row  # the tolerance of the others


def test_agreement_with_scikit_learn_and_slsqp():
    svm = pytest.importorskip("sklearn.svm")
    from scipy.optimize import minimize

    rng = np.random.default_rng(4)
    X = rng.standard_normal((20, 6))
    y = np.sign(X @ rng.standard_normal(6))
    w = max_margin(X, y).w
    machine = svm.LinearSVC(C=1e6, loss="hinge", fit_intercept=False, tol=1e-10, max_iter=10**6).fit(X, y)
    assert np.allclose(machine.coef_[0], w, rtol=1e-4)
    constraint = {"type": "ineq", "fun": lambda v: y * (X @ v) - 1.0, "jac": lambda v: y[:, None] * X}
    found = minimize(lambda v: (0.5 * v @ v, v), w + 0.1, jac=True, constraints=constraint, options={"ftol": 1e-14})
    assert np.allclose(found.x, w, rtol=1e-6)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("solver", ["CLARABEL", "HIGHS"])
def test_the_cvxpy_statement_gives_the_same_margin(norm, solver):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((15, 25))
    y = np.sign(X[:, 0])
    fast, stated = max_margin(X, y, norm=norm), max_margin(X, y, norm=norm, solver=solver.lower())
    assert stated.solver.startswith(solver)
    assert stated.certificate.lower <= fast.certificate.upper
    assert fast.certificate.lower <= stated.certificate.upper
    assert stated.certificate.gap < 1e-6
    if norm == 2:
        assert np.linalg.norm(stated.w - fast.w) <= stated.distance_bound + fast.distance_bound


# --- exact infeasibility --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("shape", [(30, 2), (60, 5), (200, 12)])
def test_farkas_vectors_are_exact(norm, shape):
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal(shape), np.where(rng.random(shape[0]) < 0.5, 1.0, -1.0)
    with pytest.raises(NotSeparableError, match="contradict one another") as caught:
        max_margin(X, y, norm=norm)
    mu = caught.value.farkas
    assert sum(mu) == 1
    assert min(mu) >= 0
    for k in range(shape[1]):  # exact, without our own check
        assert sum(m * int(label) * Fraction(x) for m, label, x in zip(mu, y, X[:, k].tolist(), strict=True)) == 0
    assert verify_farkas(X, y, mu)
    assert caught.value.samples == tuple(np.flatnonzero(mu))
    assert caught.value.margin_at_most == 0.0


def test_opposite_combination_in_high_dimension():
    rng = np.random.default_rng(7)
    X = rng.integers(-50, 50, (12, 500)).astype(np.int8)
    X[11] = -(X[3] // 2) * 1
    X[3] = 2 * (X[3] // 2)
    with pytest.raises(NotSeparableError) as caught:
        max_margin(X, np.ones(12))
    assert caught.value.samples == (3, 11)
    assert caught.value.farkas[3] == Fraction(1, 3)


# --- KKT of R1 -------------------------------------------------------------------------------------------------------


def test_the_l2_margin_solution_is_a_kkt_point_of_the_linear_model():
    rng = np.random.default_rng(8)
    X = rng.standard_normal((12, 30))
    y = np.sign(X[:, 0])
    result = max_margin(X, y)
    Z = y[:, None] * X
    found = kkt_residuals(3.0 * result.w, 3.0 * Z @ result.w, Z, 1)
    assert found.stationarity < 1e-12
    assert found.complementarity < 1e-12
    assert np.allclose(found.multipliers / found.multipliers.sum(), result.dual, atol=1e-10)


def test_the_l1_margin_solution_is_a_kkt_point_of_the_diagonal_net():
    rng = np.random.default_rng(9)
    X = rng.standard_normal((12, 30))
    y = np.sign(X[:, 0])
    w, Z = max_margin(X, y, norm=1).w, y[:, None] * X
    theta = np.concatenate((np.sqrt(np.maximum(w, 0.0)), np.sqrt(np.maximum(-w, 0.0))))
    gradients = np.hstack((2.0 * Z * theta[:30], -2.0 * Z * theta[30:]))
    found = kkt_residuals(theta, Z @ w, gradients, 2)
    assert found.stationarity < 1e-12
    assert found.complementarity < 1e-12
    turned = kkt_residuals(theta + 0.1, Z @ (w + 0.1), gradients, 2)
    assert turned.stationarity > 1e-2


def test_kkt_multipliers_against_every_support():
    rng = np.random.default_rng(10)
    theta, gradients = rng.standard_normal(6), rng.standard_normal((4, 6))
    slack = np.array([0.0, 1.0, 2.0, 0.5])
    extended = np.column_stack((gradients, slack / np.linalg.norm(theta)))  # both residuals, relative to theta
    target = np.append(theta, 0.0)
    best, at = np.linalg.norm(theta), np.zeros(4)
    for size in range(1, 5):
        for support in map(list, itertools.combinations(range(4), size)):
            mu = np.linalg.lstsq(extended[support].T, target, rcond=None)[0]
            miss = np.linalg.norm(target - mu @ extended[support])
            if mu.min() >= 0 and miss < best:
                best, at = miss, np.zeros(4)
                at[support] = mu
    found = kkt_residuals(theta, 1.0 + slack, gradients, 1)
    assert found.residual == pytest.approx(best / np.linalg.norm(theta), rel=1e-12)
    mu = found.multipliers
    assert mu == pytest.approx(at, rel=1e-9)
    assert found.stationarity == pytest.approx(
        np.linalg.norm(theta - mu @ gradients) / np.linalg.norm(theta), rel=1e-12
    )
    assert found.complementarity == pytest.approx((mu @ [0.0, 1.0, 2.0, 0.5]) / mu.sum(), rel=1e-12)


def test_degenerate_signs_on_which_nnls_is_silently_wrong():
    """863 of the 1024 corners of a cube, labelled by one coordinate: that one alone has the largest margin, 1."""
    rng = np.random.default_rng(51439671)
    for _ in range(12):
        X = rng.choice(np.array([-1, 1], dtype=np.int8), (2000, 10))
    rows = np.unique(X, axis=0).astype(np.float64)
    assert max_margin(rows, rows[:, 0], norm=2).certificate.lower == pytest.approx(1.0, rel=1e-12)
