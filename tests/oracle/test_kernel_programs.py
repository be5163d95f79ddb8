"""Kernel programs, interpolants, KKT points and quasinorm margins against others and against closed forms."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from theorykit._numerics.errors import InconsistentError, NotSeparableError
from theorykit.models import CNN, MLP, DiagonalNet, MatrixFactorization
from theorykit.programs import (
    interpolation_kkt_residuals,
    kernel_interpolant,
    kernel_svm,
    kkt_residuals,
    max_margin,
    quasinorm_margin,
    rich_kkt,
    verify_farkas,
    verify_inconsistency,
)


def load_programs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel_programs", Path(__file__).with_name("kernel_programs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel_programs"] = module
    spec.loader.exec_module(module)
    return module


kernel_programs = load_programs()


def separable(seed, n=12, d=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sign(X @ rng.standard_normal(d))


# --- agreement (the full counts: benchmarks/evidence.py) ------------------------------------------------------------


def test_machines_agree_with_clarabel():
    rows = kernel_programs.machines(24, seed=1)
    assert max(row["difference"] for row in rows) < 1e-9
    assert max(row["gap"] for row in rows if row["perturbation"] == 0.0) < 1e-11
    assert max(row["distance"] for row in rows) < 1e-7
    assert {row["classes"] > 1 for row in rows} == {True, False}
    assert {np.isinf(row["C"]) for row in rows} == {True, False}


def test_tiny_machines_agree_with_every_active_set():
    assert max(row["difference"] for row in kernel_programs.tiny_machines(60, seed=1)) < 1e-12


def test_interpolants_agree_with_the_pseudo_inverse():
    rows = kernel_programs.interpolants(24, seed=1)
    assert max(row["difference"] for row in rows) < 1e-9
    assert max(row["distance"] for row in rows) < 1e-9


def test_tampered_results_are_rejected():
    rows = kernel_programs.tampered(60, seed=1)
    assert all(row["genuine"] and row["rejected"] for row in rows)
    assert len({row["changed"] for row in rows}) == 8


def test_quasinorm_search_ends_at_vertices():
    rows = kernel_programs.quasinorms(12, seed=1)
    assert max(row["ratio"] for row in rows) <= 1.0 + 1e-12
    assert np.mean([row["ratio"] > 1.0 - 1e-9 for row in rows]) > 0.6
    assert max(row["vertex"] for row in rows) < 1e-9
    assert max(row["kkt"] for row in rows) < 1e-9
    assert all(row["strict"] and row["bounded"] for row in rows)


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_orthonormal_features():
    """h = sum y_i phi_i, all of margin 1, and gamma = 1/sqrt(n)."""
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 7)))[0].T
    y = np.array([1, -1, 1, 1, -1, 1, -1.0])
    for given in ({"X": Q}, {"gram": np.eye(7)}):
        found = kernel_svm(y=y, **given)
        assert found.coefficients == pytest.approx(y, abs=1e-13)
        assert found.margin == pytest.approx(7**-0.5, rel=1e-14)
        assert found.multipliers == "proved"
        assert np.array_equal(found.support, np.arange(7))


def test_orthonormal_features_of_several_classes():
    """h_k = sum_i a_ik phi_i with a = (c - 1)/c on the own class and -1/c on the others: f_y - f_j = 1."""
    y = np.array([0, 1, 2, 3, 1, 2])
    found = kernel_svm(gram=np.eye(6), y=y)
    expected = np.full((6, 4), -0.25)
    expected[np.arange(6), y] = 0.75
    assert found.coefficients == pytest.approx(expected, abs=1e-14)
    assert np.array_equal(found.predict(np.eye(6)), y)


def test_soft_margin_of_orthonormal_features_is_clipped():
    """The dual separates: mu_i = min(C, 1)."""
    y = np.array([1.0, -1.0, 1.0])
    for C in (0.25, 1.0, 4.0):
        found = kernel_svm(gram=np.eye(3), y=y, C=C)
        assert found.dual == pytest.approx(np.full(3, min(C, 1.0)), rel=1e-14)
        value = 3 * (0.5 * min(C, 1.0) ** 2 + C * (1.0 - min(C, 1.0)))
        assert found.certificate.lower <= value * (1 + 1e-15)
        assert value * (1 - 1e-15) <= found.certificate.upper


def test_an_expensive_soft_margin_is_the_hard_one():
    X, y = separable(3)
    hard, soft = kernel_svm(X, y), kernel_svm(X, y, C=1e3)
    assert np.linalg.norm(hard.w - soft.w) <= hard.distance_bound + soft.distance_bound


def test_two_classes_are_two_signs_of_half_the_size():
    """h_1 = -h_0 = w/2 by symmetry, so that the margin is sqrt(2) times the binary one."""
    X, y = separable(4)
    signs, classes = kernel_svm(X, y), kernel_svm(X, (y > 0).astype(float))
    assert classes.margin == pytest.approx(np.sqrt(2.0) * signs.margin, rel=1e-13)
    assert classes.w == pytest.approx(np.stack((-signs.w / 2, signs.w / 2)), abs=1e-12)


def test_exact_bounds_of_an_integer_gram_matrix():
    """Both bounds of the certificate, again in rational arithmetic."""
    rng = np.random.default_rng(5)
    X = rng.integers(-4, 5, (8, 15))
    y = np.sign(X @ rng.integers(-3, 4, 15) + 0.5)
    K = (X @ X.T).astype(float)
    c = kernel_svm(gram=K, y=y).certificate
    exact = [[Fraction(int(v)) for v in row] for row in K]
    a, mu = ([Fraction(v) for v in vector.tolist()] for vector in (c.predictor, c.dual))
    signs = [int(s) for s in y]
    n = range(8)
    f = [sum(exact[i][j] * a[j] for j in n) for i in n]
    square = sum(a[i] * f[i] for i in n)
    smallest = min(signs[i] * f[i] for i in n)
    assert Fraction(c.lower) ** 2 * square <= smallest**2
    b = [signs[i] * mu[i] for i in n]
    combined = sum(b[i] * exact[i][j] * b[j] for i in n for j in n)
    assert combined <= Fraction(c.upper) ** 2 * sum(mu) ** 2
    assert c.gap < 1e-12


def test_the_distance_bound_in_rational_arithmetic():
    """||h - h*||^2 = r . K^-1 r for an interpolant, exactly."""
    import flint

    K = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]])
    y = np.array([0.3, -1.7, 0.1])
    found = kernel_interpolant(gram=K, y=y)

    def exact(v):
        return [[flint.fmpq(*Fraction(x).as_integer_ratio()) for x in row] for row in np.atleast_2d(v).tolist()]

    A, a, b = (flint.fmpq_mat(exact(v)) for v in (K, found.coefficients[:, None], y[:, None]))
    r = b - A * a
    square = (r.transpose() * A.inv() * r)[0, 0]
    bound = Fraction(found.distance_bound) ** 2
    assert Fraction(int(square.p), int(square.q)) <= bound
    assert found.distance_bound < 1e-14


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_model_is_its_features():
    X, y = separable(6)
    net = DiagonalNet(d=20, degree=3)
    by_model, by_features = kernel_svm(X, y, model=net), kernel_svm(net.features(X), y)
    assert by_model.margin == pytest.approx(by_features.margin, rel=1e-12)
    new = np.random.default_rng(7).standard_normal((5, 20))
    assert by_model.decision(new) == pytest.approx(by_features.decision(net.features(new)), rel=1e-10)
    assert by_model.data.values.shape == (12, 12)


@pytest.mark.parametrize("soft", [None, 0.3])
def test_a_model_with_several_outputs(soft):
    """The block kernel against the written-out features of the constraints."""
    rng = np.random.default_rng(8)
    net = MLP((4, 12, 3))
    X, y = rng.standard_normal((9, 4)), np.arange(9) % 3
    theta = rng.standard_normal(net.parameters)
    found = kernel_svm(X, y, model=net, init=theta, C=soft)
    phi = net.features(X, theta)
    Z = np.array([phi[i, y[i]] - phi[i, j] for i in range(9) for j in range(3) if j != y[i]])
    direct = kernel_svm(Z, np.ones(18), C=soft)
    assert found.norm == pytest.approx(direct.norm, rel=1e-9)
    assert found.dual == pytest.approx(direct.dual, rel=1e-6, abs=1e-9)
    assert found.decision(X[:2]) == pytest.approx(phi[:2] @ (direct.dual @ Z), rel=1e-7, abs=1e-9)
    assert found.certificate.verify(found.data.values, y)


def test_a_model_with_several_outputs_interpolates():
    rng = np.random.default_rng(9)
    net = MLP((4, 12, 2))
    X, Y = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    theta = rng.standard_normal(net.parameters)
    found = kernel_interpolant(X, Y, model=net, init=theta)
    h = np.linalg.pinv(net.features(X, theta).reshape(10, -1)) @ Y.ravel()
    new = rng.standard_normal((3, 4))
    assert found.predict(new) == pytest.approx(net.features(new, theta) @ h, rel=1e-9, abs=1e-10)
    assert found.norm == pytest.approx(np.linalg.norm(h), rel=1e-10)


def test_images():
    rng = np.random.default_rng(10)
    net = CNN((6, 6), channels=(3,))
    X = rng.standard_normal((6, *net.d)) if isinstance(net.d, tuple) else rng.standard_normal((6, net.d))
    y = np.array([1, -1, 1, -1, 1, -1.0])
    theta = rng.standard_normal(net.parameters)
    assert kernel_svm(X, y, model=net, init=theta).certificate.gap < 1e-9


# --- degenerate -----------------------------------------------------------------------------------------------------


def test_not_separable_with_exact_weights():
    rng = np.random.default_rng(11)
    X = rng.integers(-3, 4, (12, 4)).astype(float)
    y = np.where(np.arange(12) % 2, 1.0, -1.0)
    for given in ({"X": X}, {"gram": X @ X.T}):
        with pytest.raises(NotSeparableError, match="contradict") as caught:
            kernel_svm(y=y, **given)
        assert verify_farkas(X, y, caught.value.farkas)  # of the features, also where only their Gram matrix was given


def test_classes_that_contradict_one_another():
    X = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    for given in ({"X": X}, {"gram": X @ X.T}):
        with pytest.raises(NotSeparableError, match="samples are 0, 1") as caught:
            kernel_svm(y=[0, 1, 2], **given)
        Z = kernel_programs.constraint_features(X, np.array([0, 1, 2]), 3)
        assert verify_farkas(Z, np.ones(6), caught.value.farkas)
        assert caught.value.samples == (0, 1)


def test_undecided_gram_matrix():
    """Rounding hides the dependence: the answer is a bound on the margin, far below the size of the features."""
    rng = np.random.default_rng(12)
    X = rng.standard_normal((30, 4))
    y = np.where(np.arange(30) % 2, 1.0, -1.0)
    with pytest.raises(NotSeparableError, match="undecided: the margin is at most") as caught:
        kernel_svm(gram=X @ X.T, y=y)
    assert caught.value.farkas is None
    assert 0.0 < caught.value.margin_at_most < 1e-5


def test_a_gram_matrix_of_low_rank():
    """d < n: bounds count the round-off in, and hold for the features that the matrix came from."""
    X, y = separable(13, n=40, d=6)
    direct, found = max_margin(X, y).certificate, kernel_svm(gram=X @ X.T, y=y).certificate
    assert found.perturbation > 0.0
    assert found.lower <= direct.upper
    assert direct.lower <= found.upper
    assert found.gap < 1e-8


def test_dependent_equations():
    rng = np.random.default_rng(14)
    X = rng.integers(-5, 6, (6, 9)).astype(float)
    X[5] = X[0] - 2.0 * X[3]
    w = rng.integers(-3, 4, 9)
    for given in ({"X": X}, {"gram": X @ X.T}):
        found = kernel_interpolant(y=X @ w, **given)
        assert found.distance_bound < 1e-12
        assert found.norm == pytest.approx(np.linalg.norm(np.linalg.pinv(X) @ (X @ w)), rel=1e-12)
        wrong = X @ w
        wrong[5] += 1e-6
        with pytest.raises(InconsistentError, match=r"contradict one another .*0, 3, 5") as caught:
            kernel_interpolant(y=wrong, **given)
        assert verify_inconsistency(X, wrong, caught.value.proof)


def test_beyond_reach():
    x = np.linspace(0.0, 1.0, 40)
    found = kernel_interpolant(gram=np.exp(-((x[:, None] - x) ** 2)), y=np.ones(40))
    assert found.distance_bound == found.condition == np.inf
    assert kernel_interpolant(gram=np.exp(-((x[:, None] - x) ** 2)), y=np.ones(40), ridge=1e-6).distance_bound < 1e-6


# --- KKT points -----------------------------------------------------------------------------------------------------


def test_curvature_of_the_diagonal_net_in_closed_form():
    """L = 2: I - sum mu_i Hess q_i is diagonal, 1 -+ 2 (Z^T mu)_k; off the support nothing else is active."""
    X, y = separable(15, n=6, d=12)
    svm = max_margin(X, y, norm=1)
    w = np.where(np.abs(svm.w) > 1e-9, svm.w, 0.0)
    theta = np.sqrt(np.concatenate((np.maximum(w, 0.0), np.maximum(-w, 0.0))))
    found = rich_kkt(DiagonalNet(d=12), theta, X, y)
    assert found.residual < 1e-12
    slope = 2.0 * found.multipliers @ (y[:, None] * X)
    diagonal = np.concatenate((1.0 - slope, 1.0 + slope))
    off = theta == 0.0
    assert found.curvature.sufficient == pytest.approx(diagonal[off].min(), rel=1e-9)
    assert found.curvature.sufficient > 0.0
    assert found.curvature.dimensions[0] == 24 - int((found.multipliers > 0).sum())


def test_a_saddle_is_seen():
    """The l2-like KKT point that splits one unit between two equal features of a cubic net is no minimum."""
    theta = np.array([0.5 ** (1 / 3), 0.5 ** (1 / 3), 0.0, 0.0])
    found = rich_kkt(DiagonalNet(d=2, degree=3), theta, [[1.0, 1.0]], [1])
    assert found.residual < 1e-12
    assert found.curvature.necessary == pytest.approx(-1.0, rel=1e-9)
    alone = rich_kkt(DiagonalNet(d=2, degree=3), [1.0, 0.0, 0.0, 0.0], [[1.0, 1.0]], [1])
    assert alone.curvature.sufficient == pytest.approx(1.0, rel=1e-12)


def test_curvature_without_a_matrix():
    """Lanczos at P = 2400 against the diagonal."""
    rng = np.random.default_rng(16)
    X, y = rng.standard_normal((5, 1200)), np.ones(5)
    theta = rng.random(2400)
    net = DiagonalNet(d=1200, degree=3)
    found = rich_kkt(net, theta, X, y)
    if not found.feasible:
        theta = np.concatenate((1.0 + max_margin(X, y).w, np.ones(1200)))
        found = rich_kkt(net, theta, X, y)
    assert found.feasible
    assert found.curvature.method == "Lanczos"
    q = X @ net.weights(theta)
    weights = found.multipliers * q.min() ** (2 / 3 - 1)
    signed = np.concatenate((weights @ X, -(weights @ X)))
    H = np.diag(1.0 - 6.0 * theta * signed)
    strict = weights > 1e-9 * weights.max()
    basis = np.linalg.qr(net.features(X, theta)[strict].T, mode="complete")[0][:, strict.sum() :]
    assert found.curvature.sufficient == pytest.approx(np.linalg.eigvalsh(basis.T @ H @ basis)[0], rel=1e-6)


def test_the_interpolant_of_a_linear_model_is_a_kkt_point_of_r2():
    rng = np.random.default_rng(17)
    X, y = rng.standard_normal((6, 15)), rng.standard_normal(6)
    w = kernel_interpolant(X, y).w
    found = interpolation_kkt_residuals(w, X @ w, X, y)
    assert found.stationarity < 1e-12
    assert found.violation < 1e-14
    assert found.multipliers == pytest.approx(np.linalg.solve(X @ X.T, y), rel=1e-9)
    assert interpolation_kkt_residuals(w + 0.1, X @ (w + 0.1), X, y).residual > 1e-2


def test_r2_of_a_matrix_factorisation():
    """One observed entry, W_00 = 1: U = e_0 e_0^T is a global minimum, any other way of making it is not stationary."""
    net = MatrixFactorization(2)
    U, V = np.zeros((2, 2)), np.zeros((2, 2))
    U[0, 0] = 1.0
    theta = net.pack(dict(zip(net.shapes, (U, V), strict=True)))
    found = rich_kkt(net, theta, [[0, 0]], [1.0], task="regression")
    assert found.residual < 1e-14
    assert found.feasible
    assert found.curvature.sufficient >= -1e-12
    U[1, 1] = 0.5
    theta = net.pack(dict(zip(net.shapes, (U, V), strict=True)))
    assert rich_kkt(net, theta, [[0, 0]], [1.0], task="regression").stationarity > 0.1


def test_several_classes_of_a_linear_machine():
    """The multi-class K1 solution is a KKT point of R1 for the linear model f_k = <theta_k, x>."""
    rng = np.random.default_rng(18)
    X, y = rng.standard_normal((8, 12)), np.arange(8) % 3
    Z = kernel_programs.constraint_features(X, y, 3)
    found = kernel_svm(X, y)
    point = kkt_residuals(found.w.ravel(), Z @ found.w.ravel(), Z, 1)
    assert point.residual < 1e-12
    assert point.multipliers == pytest.approx(found.dual, rel=1e-6, abs=1e-9)


def test_curvature_of_a_net_with_several_classes():
    """Against differences of gradients; and the same at any scale of theta."""
    rng = np.random.default_rng(20)
    net = MLP((3, 5, 3))
    X, theta = rng.standard_normal((6, 3)), rng.standard_normal(net.parameters)
    y = net.output(theta, X).argmax(axis=1)
    found = rich_kkt(net, theta, X, y)
    assert found.feasible
    pairs = [(i, j) for i in range(6) for j in range(3) if j != y[i]]

    def gradients(at):
        phi = net.features(X, at)
        return np.array([phi[i, y[i]] - phi[i, j] for i, j in pairs])

    f = net.output(theta, X)
    q = np.array([f[i, y[i]] - f[i, j] for i, j in pairs])
    weights = found.multipliers * q.min() ** (2.0 / net.degree - 1.0)
    steps = 1e-6 * np.eye(net.parameters)
    H = (
        np.eye(net.parameters)
        - np.array([weights @ (gradients(theta + e) - gradients(theta - e)) for e in steps]) / 2e-6
    )
    strict = gradients(theta)[weights > 1e-9 * weights.max()]
    basis = np.linalg.qr(strict.T, mode="complete")[0][:, len(strict) :]
    expected = np.linalg.eigvalsh(basis.T @ (H + H.T) @ basis / 2)[0]
    assert found.curvature.sufficient == pytest.approx(expected, rel=1e-6)
    assert rich_kkt(net, 3.0 * theta, X, y).curvature.sufficient == pytest.approx(expected, rel=1e-6)


def test_many_samples_of_few_features():
    """The certificate needs the support only, not the (n, n) matrix; nor does the solver of the hard margin."""
    rng = np.random.default_rng(21)
    X = rng.standard_normal((3000, 4)) + np.array([4.0, 0.0, 0.0, 0.0])
    found = kernel_svm(X, np.ones(3000))
    assert found.distance_bound < 1e-10 * found.norm
    assert found.multipliers == "proved"
    assert found.margin == pytest.approx(max_margin(X, np.ones(3000)).margin, rel=1e-12)


def test_the_multipliers_are_robust_to_ties():
    """Nearly dependent gradients far from the margin: fitting theta's last digits must not cost complementarity."""
    rng = np.random.default_rng(19)
    theta = rng.standard_normal(8)
    direction = theta / (theta @ theta)
    gradients = np.vstack((direction + 1e-7 * rng.standard_normal(8), 5.0 * direction))
    q = gradients @ theta
    found = kkt_residuals(theta, q, gradients, 1)
    assert found.residual < 1e-6
    assert found.stationarity < 1e-6
    assert found.complementarity < 1e-6


def test_quasinorm_by_hand():
    found = quasinorm_margin([[1.0, 1.0, 1.5]], [1], degree=4, restarts=3)
    assert found.margin == pytest.approx(1.5, rel=1e-12)
    assert found.upper == pytest.approx(1.5, rel=1e-12)
    assert not found.local
    assert found.values[0] == found.margin
