"""What no kernel certificate may do, and what no kernel machine may depend on."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorykit._numerics.errors import InputError
from theorykit.programs import interpolation_kkt_residuals, kernel_interpolant, kernel_svm
from theorykit.programs._constraints import of_labels
from theorykit.programs._semidefinite import proved_positive, semidefinite_shift, smallest_eigenvalue
from theorykit.programs.kernel_certificate import bounds, system_of

seeds = st.integers(0, 2**32 - 1)
prices = st.sampled_from([None, 0.02, 0.5])
kinds = st.sampled_from(["features", "gram"])


def problem(seed, classes, n=10, d=14):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if classes == 1:
        return X, np.sign(X @ rng.standard_normal(d))
    y = (X @ rng.standard_normal((d, classes))).argmax(axis=1)
    y[:2] = 0, classes - 1  # n <= d: any labels are separable
    return X, y


def solved(X, y, kind, C=None):
    return kernel_svm(X, y, C=C) if kind == "features" else kernel_svm(gram=X @ X.T, y=y, C=C)


@given(seeds, st.sampled_from([1, 3]), kinds, prices)
def test_weak_duality(seed, classes, kind, C):
    """Any predictor and any multipliers give bounds on the right sides of the optimum."""
    rng = np.random.default_rng(seed)
    X, y = problem(seed, classes)
    best = solved(X, y, kind, C).certificate
    data = X if kind == "features" else X @ X.T
    system = system_of(data, of_labels(y, len(X)), kind)
    predictor = best.predictor.ravel() + 0.1 * rng.standard_normal(best.predictor.size)
    price = np.inf if C is None else C
    dual = rng.random(len(best.dual)) * (1.0 if C is None else C)
    lower, upper = bounds(system, predictor, dual, price)
    assert lower <= best.upper
    assert best.lower <= upper


def assert_same(first, second, factor=1.0):
    a, b = first.certificate, second.certificate
    assert a.lower <= factor * b.upper * (1 + 1e-12)
    assert factor * b.lower <= a.upper * (1 + 1e-12)
    assert max(a.gap, b.gap) < 1e-8


@given(seeds, st.sampled_from([1, 3]), kinds, prices)
def test_invariances(seed, classes, kind, C):
    rng = np.random.default_rng(seed)
    X, y = problem(seed, classes)
    first = solved(X, y, kind, C)
    order = rng.permutation(len(X))
    assert_same(first, solved(X[order], y[order], kind, C))
    rotation = np.linalg.qr(rng.standard_normal((14, 14)))[0]
    assert_same(first, solved(X @ rotation, y, kind, C))
    if classes == 1:
        assert_same(first, solved(-X, -y, kind, C))
    if C is None:  # duplicates and rows that follow from others (twice the sample, with room to spare) change nothing
        assert_same(first, solved(np.vstack((X, X[:3])), np.append(y, y[:3]), kind))
        assert_same(first, solved(np.vstack((X, 2.0 * X[:3])), np.append(y, y[:3]), kind))


@given(seeds, st.sampled_from([1, 3]), kinds, st.integers(-490, 490), prices)  # C stays above its least value
def test_powers_of_two_change_nothing_but_the_scale(seed, classes, kind, power, C):
    X, y = problem(seed, classes)
    plain = solved(X, y, kind, C)
    scaled = solved(np.ldexp(X, power), y, kind, None if C is None else float(np.ldexp(C, -2 * power)))
    assert np.array_equal(np.ldexp(scaled.dual, 2 * power), plain.dual)
    assert np.ldexp(scaled.distance_bound, power) == pytest.approx(plain.distance_bound, rel=1e-6)
    if C is None:
        assert np.ldexp(scaled.margin, -power) == plain.margin


@given(seeds, kinds, st.integers(-140, 140))
def test_samples_of_very_different_scale(seed, kind, power):
    X, y = problem(seed, 1)
    X[3] *= 10.0**power
    found = solved(X, y, kind)
    assert found.certificate.gap < 1e-10
    assert found.certificate.verify(X if kind == "features" else X @ X.T, y)


@given(seeds, prices)
def test_features_and_gram_matrix_agree(seed, C):
    X, y = problem(seed, 3)
    first, second = solved(X, y, "features", C), solved(X, y, "gram", C)
    assert_same(first, second)
    rounding = 1e-12 * first.norm  # of the Gram matrix
    h = (X.T @ second.coefficients).T
    assert np.linalg.norm(first.w - h) <= first.distance_bound + second.distance_bound + rounding


@given(seeds, st.floats(0.5, 2.0))
def test_margins_of_all_sizes(seed, exponent):
    """Two nearly opposite samples: margins down to 1e-8 of the features."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 6))
    X = np.stack((a, -a + 10.0 ** (-4.0 * exponent) * b))
    found = kernel_svm(X, [1, 1])
    assert found.certificate.gap < 1e-6
    z = X[0] + X[1]
    assert found.margin <= 0.5 * np.linalg.norm(z) * (1 + 1e-9)


@given(seeds, st.floats(-3, 0))
def test_indefinite_matrices_are_refused_and_the_eigenvalue_is_right(seed, exponent):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    values = np.append(rng.random(6) + 0.5, -(10.0**exponent))
    K = Q @ np.diag(values) @ Q.T
    K = 0.5 * (K + K.T)
    assert not proved_positive(K, 0.0)
    with pytest.raises(InputError, match="eigenvalue of -") as caught:
        kernel_svm(gram=K, y=np.ones(7))
    stated = float(caught.value.got.split("of ")[1].split(" or")[0])
    assert stated == pytest.approx(-(10.0**exponent), rel=1e-4)


@given(seeds, st.integers(1, 12), st.floats(0.0, 0.99))
def test_proved_eigenvalues(seed, n, part):
    rng = np.random.default_rng(seed)
    A = rng.integers(-3, 4, (n, n + 2)).astype(float)
    S = A @ A.T + np.eye(n)
    smallest = np.linalg.eigvalsh(S)[0]
    assert proved_positive(S, part * smallest)
    assert not proved_positive(S, 1.001 * smallest)


@given(seeds, st.floats(-150, 150), kinds, st.sampled_from([0.0, 0.3]))
def test_interpolants_scale(seed, exponent, kind, ridge):
    X, y = np.random.default_rng(seed).standard_normal((6, 9)), np.arange(6.0)
    power = round(3.3 * exponent)
    given_data = (lambda Z: {"X": Z}) if kind == "features" else (lambda Z: {"gram": Z @ Z.T})
    plain = kernel_interpolant(y=y, ridge=ridge, **given_data(X))
    scaled = kernel_interpolant(y=y, ridge=float(np.ldexp(ridge, 2 * power)), **given_data(np.ldexp(X, power)))
    assert np.ldexp(scaled.norm, power) == pytest.approx(plain.norm, rel=1e-13)
    assert scaled.residual == pytest.approx(plain.residual, rel=1e-9, abs=1e-12)
    assert scaled.distance_bound <= 1e-11 * scaled.norm


@given(seeds)
def test_r2_residuals_do_not_depend_on_the_basis(seed):
    rng = np.random.default_rng(seed)
    theta, f, G, y = (rng.standard_normal(s) for s in (9, 5, (5, 9), 5))
    Q = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    first, second = interpolation_kkt_residuals(theta, f, G, y), interpolation_kkt_residuals(Q @ theta, f, G @ Q.T, y)
    assert second.stationarity == pytest.approx(first.stationarity, rel=1e-9)
    assert np.allclose(first.multipliers, second.multipliers, rtol=1e-9, atol=1e-12)
    best = np.linalg.lstsq(G.T, theta, rcond=None)[0]
    assert first.stationarity == pytest.approx(np.linalg.norm(theta - G.T @ best) / np.linalg.norm(theta), rel=1e-9)


@given(seeds, st.floats(6.0, 18.0))
def test_the_smallest_eigenvalue_is_bounded_far_below_round_off(seed, decades):
    """Against 50 digits: neither bound may pass the true eigenvalue, and both come near it."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    S = (Q * 10.0 ** -np.linspace(0.0, decades, 8)) @ Q.T
    S = 0.5 * (S + S.T)
    with mpmath.workdps(50):
        smallest = mpmath.eigsy(mpmath.matrix(S.tolist()), eigvals_only=True)[0]
    assert smallest_eigenvalue(S) <= max(smallest, 0.0)  # 0: none was proved
    assert -semidefinite_shift(S) <= smallest
    assert smallest_eigenvalue(S) >= 0.4 * smallest or smallest < 1e-17
    assert semidefinite_shift(S) <= max(0.0, -20.0 * smallest) + 1e-17
