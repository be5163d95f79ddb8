"""Margins and interpolation in every norm against other solvers, brute force, closed forms and exact arithmetic."""

from __future__ import annotations

import importlib.util
import itertools
import math
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import flint
import numpy as np
import pytest

import theorykit as tk
from theorykit._numerics.errors import InconsistentError, NotSeparableError
from theorykit.programs import max_margin, min_norm, verify_inconsistency

NORMS = [1, 2, "inf", "group"]


def load_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("norm_programs", Path(__file__).with_name("norm_programs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = load_table()


def groups_for(norm, d):
    return np.arange(d) // 3 if norm == "group" else None


# --- the samples of what the evidence counts in full -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # said by the other solver
def test_agreement_with_other_solvers():
    for row in table.agreement(12, seed=1):
        assert row["gap"] < 1e-9, row
        assert row["difference"] < 1e-7, row  # the tolerance of the others


def test_tampered_results_are_rejected():
    rows = table.tampering(384, seed=1)
    assert {row["changed"] for row in rows} == {"X", "y", "w", "dual", "lower", "upper", "norm", "file"}
    assert all(row["rejected"] for row in rows)


def test_proofs_of_infeasibility_are_exact():
    rows = table.infeasible(20, seed=1)
    assert all(row["proved"] for row in rows)


def test_the_checks_of_the_proofs_can_fail():
    X, y = np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([1.0, -1.0])
    assert table.farkas_holds(X, y, [Fraction(2, 3), Fraction(1, 3)])
    assert not table.farkas_holds(X, y, [Fraction(1, 3), Fraction(2, 3)])
    assert table.contradiction_holds(X, np.array([1.0, 3.0]), [Fraction(-2), Fraction(1)])
    assert not table.contradiction_holds(X, np.array([1.0, 2.5]), [Fraction(-2), Fraction(1)])


def test_what_is_said_on_uniqueness_is_true():
    rows = table.uniqueness(60, seed=1)
    assert {row["said"] for row in rows} >= {"proved", "disproved"}
    assert sum(row["said"] == "unknown" for row in rows) <= 3
    for row in rows:
        if row["said"] == "proved":
            assert row["width"] < 1e-5, row
        elif row["said"] == "disproved":
            assert row["width"] > 1e-3, row


# --- intervals against exact arithmetic ------------------------------------------------------------------------------


def exact(value):
    return flint.arb(flint.fmpq(value.numerator, value.denominator))


def exact_norm(values, norm, groups):
    """Return a ball with 500 digits around the norm of exact fractions."""
    if norm == 1:
        return exact(sum(map(abs, values)))
    if norm in (math.inf, "inf"):
        return exact(max(map(abs, values)))
    parts = np.zeros(len(values), dtype=int) if norm == 2 else groups
    total = flint.arb(0)
    for part in np.unique(parts):
        total += exact(sum((values[k] ** 2 for k in np.flatnonzero(parts == part)), Fraction(0))).sqrt()
    return total


def exact_dual_norm(values, norm, groups):
    if norm in (1, math.inf, "inf"):
        return exact_norm(values, "inf" if norm == 1 else 1, groups)
    parts = np.zeros(len(values), dtype=int) if norm == 2 else groups
    return max(
        exact(sum((values[k] ** 2 for k in np.flatnonzero(parts == part)), Fraction(0))).sqrt()
        for part in np.unique(parts)
    )


def fractions(array):
    return [Fraction(float(v)) for v in np.ravel(array)]


def product(matrix, vector):
    """Return matrix @ vector exactly, for an array and a list of fractions."""
    return [sum((Fraction(float(a)) * v for a, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@pytest.fixture
def precise():
    before = flint.ctx.prec
    flint.ctx.prec = 2000
    yield
    flint.ctx.prec = before


@pytest.mark.usefixtures("precise")
@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
@pytest.mark.parametrize("norm", NORMS)
def test_margin_intervals_hold_exactly(norm, scale):
    rng = np.random.default_rng(2)
    X = scale * rng.standard_normal((6, 11))
    y = np.sign(X[:, 0])
    groups = groups_for(norm, 11)
    certificate = max_margin(X, y, norm=norm, groups=groups).certificate
    Z = y[:, None] * X
    w, dual = fractions(certificate.w), fractions(certificate.dual)
    smallest, total = min(product(Z, w)), sum(dual)
    assert exact(Fraction(certificate.lower)) <= exact(smallest) / exact_norm(w, norm, groups)
    proved = exact_dual_norm(product(Z.T, dual), norm, groups) / exact(total)
    assert proved <= exact(Fraction(certificate.upper))
    assert certificate.gap < 1e-9


@pytest.mark.usefixtures("precise")
@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
@pytest.mark.parametrize("norm", NORMS)
def test_interpolation_intervals_hold_exactly(norm, scale):
    """The vector w + X^T nu with X X^T nu = y - X w, in rationals, is exactly feasible and within the interval."""
    rng = np.random.default_rng(3)
    X, y = scale * rng.standard_normal((4, 9)), rng.standard_normal(4)
    groups = groups_for(norm, 9)
    certificate = min_norm(X, y, norm=norm, groups=groups).certificate
    w, dual = fractions(certificate.w), fractions(certificate.dual)
    paired = exact(sum((a * b for a, b in zip(fractions(y), dual, strict=True)), Fraction(0)))
    assert exact(Fraction(certificate.lower)) <= paired / exact_dual_norm(product(X.T, dual), norm, groups)
    residual = [a - b for a, b in zip(fractions(y), product(X, w), strict=True)]
    gram = flint.fmpq_mat(
        4, 4, [flint.fmpq(v.numerator, v.denominator) for row in X for v in product(X, fractions(row))]
    )
    right = flint.fmpq_mat(4, 1, [flint.fmpq(v.numerator, v.denominator) for v in residual])
    nu = [Fraction(int(v.p), int(v.q)) for v in gram.solve(right).entries()]
    feasible = [a + b for a, b in zip(w, product(X.T, nu), strict=True)]
    assert product(X, feasible) == fractions(y)
    assert exact_norm(feasible, norm, groups) <= exact(Fraction(certificate.upper))
    assert certificate.gap < 1e-9


def test_the_shortest_interpolant_in_rationals():
    rng = np.random.default_rng(4)
    X, y = rng.standard_normal((5, 8)), rng.standard_normal(5)
    rational = [[flint.fmpq(*float(v).as_integer_ratio()) for v in row] for row in X]
    matrix = flint.fmpq_mat(5, 8, [v for row in rational for v in row])
    right = flint.fmpq_mat(5, 1, [flint.fmpq(*float(v).as_integer_ratio()) for v in y])
    best = (matrix.transpose() * (matrix * matrix.transpose()).solve(right)).entries()
    result = min_norm(X, y)
    square = sum(Fraction(int(v.p), int(v.q)) ** 2 for v in best)
    assert Fraction(result.certificate.lower) ** 2 <= square <= Fraction(result.certificate.upper) ** 2
    off = sum((Fraction(int(v.p), int(v.q)) - Fraction(float(w))) ** 2 for v, w in zip(best, result.w, strict=True))
    assert off <= Fraction(result.distance_bound) ** 2
    assert result.distance_bound < 1e-13 * np.linalg.norm(result.w)


# --- brute force ------------------------------------------------------------------------------------------------------


def brute_linf_margin(Z):
    """Try every vertex of: maximise t subject to Z w >= t, |w_k| <= 1."""
    n, d = Z.shape
    best = -np.inf
    for sides in itertools.product((-1.0, 0.0, 1.0), repeat=d):
        free = [k for k in range(d) if sides[k] == 0.0]
        for active in itertools.combinations(range(n), len(free) + 1):
            block = np.column_stack((Z[np.ix_(active, free)], -np.ones(len(active))))
            if abs(np.linalg.det(block)) < 1e-9:
                continue
            found = np.linalg.solve(block, -Z[list(active)] @ np.array(sides))
            w = np.array(sides)
            w[free] = found[:-1]
            if np.abs(w).max() <= 1.0 + 1e-9:
                best = max(best, (Z @ w).min())
    return best


def brute_l1_norm(X, y):
    """Try every basis: as many features as equations."""
    best = np.inf
    for features in itertools.combinations(range(X.shape[1]), len(X)):
        block = X[:, features]
        if abs(np.linalg.det(block)) > 1e-9:
            best = min(best, np.abs(np.linalg.solve(block, y)).sum())
    return best


def brute_linf_norm(X, y):
    """Try every vertex: n - 1 free features and the common size of all others, with every choice of signs."""
    n, d = X.shape
    best = np.inf
    for free in itertools.combinations(range(d), n - 1):
        others = [k for k in range(d) if k not in free]
        for signs in itertools.product((-1.0, 1.0), repeat=len(others)):
            block = np.column_stack((X[:, free], X[:, others] @ np.array(signs)))
            if abs(np.linalg.det(block)) > 1e-9:
                found = np.linalg.solve(block, y)
                if found[-1] >= np.abs(found[:-1]).max(initial=0.0) - 1e-9:
                    best = min(best, found[-1])
    return best


@pytest.mark.parametrize("seed", range(6))
def test_brute_force_over_vertices(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((3, 6)) + rng.integers(-2, 3, (3, 6)), rng.standard_normal(3)
    assert min_norm(X, y, norm=1).value == pytest.approx(brute_l1_norm(X, y), rel=1e-9)
    assert min_norm(X, y, norm="inf").value == pytest.approx(brute_linf_norm(X, y), rel=1e-9)
    Z = rng.standard_normal((5, 4))
    Z *= np.where(Z @ rng.standard_normal(4) > 0.0, 1.0, -1.0)[:, None]
    assert max_margin(Z, np.ones(5), norm="inf").margin == pytest.approx(brute_linf_margin(Z), rel=1e-9)


# --- known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(1, 200), (3, 300), (5, 1500)])
def test_l1_margin_of_sparse_signs(k, n):
    """With enough samples the k-sparse rule itself is the widest: margin 1/k, and the only one."""
    data = tk.datasets.sparse_sign(n=n, d=60, k=k, seed=0)
    result = max_margin(data, norm=1)
    assert result.certificate.lower <= 1.0 / k * (1 + 1e-15)
    assert 1.0 / k * (1 - 1e-15) <= result.certificate.upper
    assert result.certificate.gap < 1e-13
    assert np.allclose(result.w, data.truth / np.abs(data.truth).max(), atol=1e-12)
    assert result.uniqueness == "proved"


def test_linf_margin_of_every_sign_vector():
    """All weights alike vote by majority: margin 1 of 5, which no other vote has."""
    X = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    result = max_margin(X, np.sign(X.sum(axis=1)), norm="inf")
    assert result.certificate.lower <= 1.0 <= result.certificate.upper
    assert np.allclose(result.w, 1.0, rtol=1e-12)


@pytest.mark.parametrize("program", ["margin", "least norm"])
def test_groups_of_one_and_of_all(program):
    """One feature a group: the l1-norm. One group: the l2-norm."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((6, 15))
    y = np.sign(X[:, 0]) if program == "margin" else rng.standard_normal(6)
    solve = max_margin if program == "margin" else min_norm
    for norm, groups in ((1, np.arange(15)), (2, np.full(15, 7))):
        plain, grouped = solve(X, y, norm=norm), solve(X, y, norm="group", groups=groups)
        assert grouped.certificate.gap < 1e-10
        assert np.allclose(plain.w, grouped.w, atol=1e-7)
        assert grouped.uniqueness == "proved"


def test_orthogonal_groups():
    """With orthonormal features every group is used: w = X^T y, whatever the groups."""
    rng = np.random.default_rng(6)
    X = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    y = rng.standard_normal(6)
    for norm in NORMS:
        result = min_norm(X, y, norm=norm, groups=groups_for(norm, 6))
        assert np.allclose(result.w, X.T @ y, atol=1e-12)


def test_one_equation_in_closed_form():
    x = np.array([[3.0, -4.0, 12.0, 0.0]])
    for norm, groups, value in [
        (1, None, 1 / 12),
        (2, None, 1 / 13),
        ("inf", None, 1 / 19),
        ("group", [0, 0, 1, 1], 1 / 12),
        ("group", [0, 1, 0, 1], 1 / math.hypot(3, 12)),
    ]:
        result = min_norm(x, [1.0], norm=norm, groups=groups)
        assert result.certificate.lower <= value * (1 + 1e-15)
        assert value * (1 - 1e-15) <= result.certificate.upper
        assert result.certificate.gap < 1e-13


def test_sparse_recovery():
    """The sparsest interpolant of integer data is found exactly, and is proved to be the only one of its l1-norm."""
    rng = np.random.default_rng(7)
    X = rng.integers(-5, 6, (25, 80)).astype(np.float64)
    hidden = np.zeros(80)
    hidden[[3, 40, 41, 77]] = 1.0, -2.0, 3.0, 5.0
    result = min_norm(X, X @ hidden, norm=1)
    assert np.allclose(result.w, hidden, atol=1e-13)
    assert result.certificate.lower <= 11.0 <= result.certificate.upper
    assert result.uniqueness == "proved"


# --- degenerate data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_redundant_equations(norm):
    rng = np.random.default_rng(8)
    X, y = rng.integers(-9, 10, (5, 12)).astype(np.float64), rng.integers(-9, 10, 5).astype(np.float64)
    plain = min_norm(X, y, norm=norm, groups=groups_for(norm, 12))
    mixed = np.vstack((X, X[2], 2 * X[0] - X[4], np.zeros(12)))
    redundant = min_norm(mixed, np.append(y, [y[2], 2 * y[0] - y[4], 0.0]), norm=norm, groups=groups_for(norm, 12))
    assert redundant.certificate.verify(mixed, redundant.y)
    assert redundant.certificate.lower <= plain.certificate.upper
    assert plain.certificate.lower <= redundant.certificate.upper
    assert len(redundant.certificate.independent) == 5
    with pytest.raises(InconsistentError, match="contradict one another") as caught:
        min_norm(mixed, np.append(y, [y[2], 2 * y[0] - y[4] + 1.0, 0.0]), norm=norm, groups=groups_for(norm, 12))
    assert set(caught.value.samples) <= {0, 4, 6}
    assert verify_inconsistency(mixed, np.append(y, [y[2], 2 * y[0] - y[4] + 1.0, 0.0]), caught.value.proof)


def test_an_equation_that_says_nothing_but_a_number():
    with pytest.raises(InconsistentError, match=r"contradict one another \(1\)") as caught:
        min_norm([[1.0, 2.0], [0.0, 0.0]], [1.0, -4.0])
    assert caught.value.proof[1] == Fraction(-1, 4)
    assert caught.value.norm_at_least == math.inf


def test_round_off_leaves_it_undecided():
    rng = np.random.default_rng(9)
    X = rng.standard_normal((4, 9))
    X[3] = 0.1 * X[0] + 0.3 * X[1]  # rounded: independent in exact arithmetic
    with pytest.raises(InconsistentError, match=r"undecided: equation \d depends on others up to round-off") as caught:
        min_norm(X, [1.0, 1.0, 1.0, 3.0])
    assert caught.value.proof is None
    assert caught.value.norm_at_least > 1e14


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_to_fit(norm):
    result = min_norm(np.eye(2, 4), [0.0, 0.0], norm=norm, groups=groups_for(norm, 4))
    assert not result.w.any()
    assert (result.value, result.certificate.gap, result.uniqueness) == (0.0, 0.0, "proved")
    nothing = min_norm(np.zeros((2, 4)), [0.0, 0.0], norm=norm, groups=groups_for(norm, 4))
    assert nothing.certificate.verify(np.zeros((2, 4)), [0.0, 0.0])


@pytest.mark.parametrize("norm", NORMS)
def test_samples_of_any_scale(norm):
    rng = np.random.default_rng(10)
    X = rng.standard_normal((8, 14)) * 10.0 ** rng.uniform(-100, 100, (8, 1))
    y = np.where(rng.random(8) < 0.5, 1.0, -1.0)
    groups = groups_for(norm, 14)
    assert max_margin(X, y, norm=norm, groups=groups).certificate.gap < 1e-9
    assert min_norm(X, y, norm=norm, groups=groups).certificate.gap < 1e-9


@pytest.mark.parametrize("norm", [1, 2, "inf"])
def test_features_twelve_decades_apart(norm):
    rng = np.random.default_rng(11)
    X = rng.standard_normal((8, 14)) * 10.0 ** rng.permutation(np.linspace(-6, 6, 14))
    y = np.where(rng.random(8) < 0.5, 1.0, -1.0)
    assert max_margin(X, y, norm=norm).certificate.gap < 1e-9
    assert min_norm(X, y, norm=norm).certificate.gap < 1e-7


@pytest.mark.parametrize("norm", [2, "inf", "group"])
def test_farkas_does_not_depend_on_the_norm(norm):
    with pytest.raises(NotSeparableError, match="contradict") as caught:
        max_margin([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1, 1, 1], norm=norm, groups=groups_for(norm, 2))
    assert list(caught.value.farkas) == [Fraction(1, 3)] * 3


# --- uniqueness -------------------------------------------------------------------------------------------------------


def assert_other_solution(result):
    assert result.uniqueness == "disproved"
    other, order = result.alternative, 1 if result.norm == 1 else np.inf
    assert np.abs(other - result.w).max() > 1e-3 * np.abs(result.w).max()
    for point in (other, 0.5 * (other + result.w)):
        assert np.linalg.norm(point, order) == pytest.approx(np.linalg.norm(result.w, order), rel=1e-12)
        outputs = result.X @ point
        if isinstance(result, tk.programs.MaxMargin):
            assert (result.y * outputs).min() > 1.0 - 1e-12
        else:
            assert np.allclose(outputs, result.y, atol=1e-12)


def test_a_feature_twice():
    rng = np.random.default_rng(12)
    X = rng.standard_normal((6, 10))
    X = np.hstack((X, -X))
    y = np.where(rng.random(6) < 0.5, 1.0, -1.0)
    assert_other_solution(max_margin(X, y, norm=1))
    assert_other_solution(min_norm(X, rng.standard_normal(6), norm=1))


def test_a_whole_edge_of_solutions():
    assert_other_solution(min_norm([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]], [2.0, 0.0], norm=1))


def test_an_edge_among_the_features_in_use():
    """The samples with a multiplier do not fix the weights, although no other feature may join."""
    result = max_margin([[1.0, 1.0], [1.0, 0.9]], [1, 1], norm=1)
    assert result.uniqueness == "proved"  # (1, 0): the second sample forbids the rest of the first one's edge
    assert_other_solution(max_margin([[1.0, 1.0], [2.0, 0.5], [0.5, 2.0]], [1, 1, 1], norm=1))


def test_a_feature_without_entries_is_free_in_linf():
    X = np.array([[1.0, 0.0, 2.0], [0.5, 0.0, 1.0]])
    assert_other_solution(max_margin(X, [1, 1], norm="inf"))
    assert_other_solution(min_norm(X[:1], [1.0], norm=np.inf))


def test_a_face_of_solutions_in_linf():
    """The first weight is held by the sample it is needed for, the second is free in an interval."""
    assert_other_solution(max_margin([[1.0, 0.0], [1.0, 0.5]], [1, 1], norm="inf"))
    assert_other_solution(min_norm([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]], [2.0, 1.0], norm="inf"))


@pytest.mark.parametrize("norm", [1, "inf", "group"])
def test_generic_data_have_one_solution(norm):
    rng = np.random.default_rng(13)
    X, y = rng.standard_normal((20, 50)), rng.standard_normal(20)
    groups = groups_for(norm, 50)
    for result in (
        max_margin(X, np.sign(y), norm=norm, groups=groups),
        min_norm(X, y, norm=norm, groups=groups),
    ):
        assert result.uniqueness == "proved"
        assert "proved" in result.uniqueness_reason
        assert result.alternative is None


@pytest.mark.parametrize("seed", range(3))
def test_one_solution_for_groups_by_another_solver(seed):
    """No weight can move by more than the square root of the tolerance while the norm stays."""
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    X, y, groups = rng.standard_normal((3, 8)), rng.standard_normal(3), np.array([0, 0, 1, 1, 1, 2, 2, 2])
    result = min_norm(X, y, norm="group", groups=groups)
    assert result.uniqueness == "proved"
    w = cp.Variable(8)
    size = cp.sum([cp.norm(w[groups == g], 2) for g in range(3)])
    for k in range(8):
        limits = [X @ w == y, size <= result.value * (1.0 + 1e-8)]
        ends = [cp.Problem(goal, limits).solve(solver="CLARABEL") for goal in (cp.Minimize(w[k]), cp.Maximize(w[k]))]
        assert ends[1] - ends[0] < 1e-2 * result.value


@pytest.mark.parametrize("program", [max_margin, min_norm])
def test_groups_that_come_twice_are_not_said_to_be_unique(program):
    rng = np.random.default_rng(14)
    X, y = rng.standard_normal((4, 9)), rng.standard_normal(4)
    y = np.sign(y) if program is max_margin else y
    groups = np.arange(9) // 3
    result = program(np.hstack((X, X)), y, norm="group", groups=np.append(groups, groups + 3))
    assert result.certificate.gap < 1e-9
    assert result.uniqueness != "proved"
