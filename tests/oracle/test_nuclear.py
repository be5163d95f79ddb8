"""Nuclear-norm programs against other solvers, closed forms and exact low-rank data."""

import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from theorykit.programs import SolverError, factorisation_point, min_nuclear_norm, nuclear_regularised

_spec = importlib.util.spec_from_file_location(
    "nuclear_agreement", Path(__file__).resolve().parent / "nuclear_agreement.py"
)
agreement = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(agreement)
_known_spec = importlib.util.spec_from_file_location(
    "known_answers", Path(__file__).resolve().parent / "known_answers.py"
)
known_answers = importlib.util.module_from_spec(_known_spec)
_known_spec.loader.exec_module(known_answers)


def test_two_solvers_agree_on_random_problems():
    rows = agreement.run(36, seed=5)
    assert {row["kind"] for row in rows} == set(agreement.KINDS)
    assert max(row["gap"] for row in rows) <= 1e-9
    assert max(row[f"{solver} miss"] for row in rows for solver in ("CLARABEL", "SCS")) == 0.0
    answered = [row["CLARABEL difference"] for row in rows if row["CLARABEL difference"] is not None]
    assert len(answered) >= 30
    assert max(answered) <= 1e-5


def test_tampered_certificates_are_rejected():
    rows = agreement.tampered(60, seed=6)
    assert len(rows) >= 50
    assert all(row["true"] for row in rows)
    assert [row for row in rows if not row["rejected"]] == []


def all_places(p, q):
    return np.stack(np.divmod(np.arange(p * q), q), axis=1)


@pytest.mark.parametrize("symmetric", [False, True])
def test_fully_observed_is_the_norm_itself(symmetric):
    W = np.random.default_rng(0).standard_normal((5, 5 if symmetric else 3))
    W = W + W.T if symmetric else W
    result = min_nuclear_norm(all_places(*W.shape), W.ravel(), shape=W.shape, symmetric=symmetric)
    assert np.array_equal(result.W, W)
    norm = np.linalg.svd(W, compute_uv=False).sum()
    assert result.certificate.lower <= norm * (1 + 1e-14)
    assert norm * (1 - 1e-14) <= result.certificate.upper
    assert result.certificate.gap < 1e-12
    assert result.uniqueness == "proved"


@pytest.mark.parametrize(("a", "b"), [(4.0, 2.0), (1.0, 2.0), (-3.0, 1.0), (2.0, -5.0), (0.0, 1.0)])
def test_two_by_two_with_one_entry_missing(a, b):
    """[[a, b], [b, x]]: rank 1 with x = b^2/a where |b| <= |a|, else x = a and the eigenvalues a +- |b|."""
    result = min_nuclear_norm([[0, 0], [0, 1]], [a, b], shape=2, symmetric=True)
    wanted = abs(a) + b * b / abs(a) if abs(b) <= abs(a) else 2.0 * abs(b)
    assert result.certificate.lower <= wanted * (1 + 1e-15)
    assert wanted * (1 - 1e-15) <= result.certificate.upper
    assert result.certificate.gap < 1e-9
    assert result.W[1, 1] == pytest.approx(b * b / a if abs(b) <= abs(a) else a, abs=1e-4)


@pytest.mark.parametrize("values", [[1.0, 1.0], [1.0, -2.0, 3.0], [0.5, 0.0, -0.25, 4.0]])
def test_diagonal_observations(values):
    """The optimum is sum |b_i|; it is not unique where two entries have one sign."""
    d = len(values)
    result = min_nuclear_norm(np.stack((np.arange(d),) * 2, axis=1), values, shape=d, symmetric=True)
    total = np.abs(values).sum()
    assert result.certificate.lower <= total <= result.certificate.upper
    assert result.certificate.gap < 1e-10
    assert result.uniqueness == "disproved"
    other = result.alternative
    assert np.linalg.norm(other - result.W) > 1e-3
    assert np.allclose(np.diag(other), values, rtol=0, atol=1e-12)
    assert np.linalg.svd(other, compute_uv=False).sum() == pytest.approx(total, rel=1e-10)


def test_two_diagonal_entries_of_opposite_signs_are_unique():
    result = min_nuclear_norm([[0, 0], [1, 1]], [1.0, -1.0], shape=2, symmetric=True)
    assert result.uniqueness == "proved"
    assert np.allclose(result.W, np.diag([1.0, -1.0]), atol=1e-6)


def test_the_multiplication_table_comes_back():
    """Figure 3 of Lyu et al.: ij over i, j < 97, 5 % of the entries seen, recovered exactly and proved unique."""
    rng = np.random.default_rng(0)
    d = 97
    i, j = np.divmod(rng.choice(d * d, 470, replace=False), d)
    result = min_nuclear_norm(np.stack((i, j), axis=1), (i * j).astype(float), shape=d, symmetric=True)
    assert np.array_equal(result.W, np.outer(np.arange(d), np.arange(d)))
    assert result.certificate.gap < 1e-10
    assert result.uniqueness == "proved"


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_matrices_come_back_from_enough_entries_and_not_from_few(symmetric, rank):
    rng = np.random.default_rng(10 * rank + symmetric)
    p, q = (16, 16) if symmetric else (16, 14)
    left, right = rng.integers(-3, 4, (p, rank)), rng.integers(-3, 4, (q, rank))
    W = (left @ np.diag([1, -1, 1][:rank]) @ left.T if symmetric else left @ right.T).astype(float)
    places = all_places(p, q)[rng.permutation(p * q)]

    def completion(m):
        return min_nuclear_norm(places[:m], W[*places[:m].T], shape=(p, q), symmetric=symmetric)

    enough = completion(int(0.9 * p * q))
    assert np.array_equal(enough.W, W)
    assert (enough.rank, enough.uniqueness) == (rank, "proved")
    few = completion(20)
    assert few.certificate.upper < 0.99 * np.linalg.svd(W, compute_uv=False).sum()  # W is feasible, and no optimum
    assert few.certificate.verify(places[:20], W[*places[:20].T])


def test_rows_without_entries_and_blocks():
    """Blocks on the diagonal do not see each other: the optimum is the sum; a row that nobody saw adds nothing."""
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 4, 4))
    seen = np.argwhere(rng.random((4, 4)) < 0.6)
    parts = [min_nuclear_norm(seen, W[*seen.T], shape=4) for W in (first, second)]
    places = np.vstack((seen, seen + 5))  # row and column 4, and 9, stay empty
    together = min_nuclear_norm(places, np.append(first[*seen.T], second[*seen.T]), shape=10)
    lower = sum(part.certificate.lower for part in parts)
    upper = sum(part.certificate.upper for part in parts)
    assert together.certificate.gap < 1e-9
    assert together.certificate.lower <= upper
    assert lower <= together.certificate.upper


@pytest.mark.parametrize("decay", [0.01, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("symmetric", [False, True])
def test_regularised_fully_observed_shrinks_the_singular_values(decay, symmetric):
    """(1/n) ||W - Y||_F^2 + (decay/2) ||W||_*: each singular value moves towards 0 by n decay / 4."""
    Y = np.random.default_rng(1).standard_normal((4, 4))
    Y = Y + Y.T if symmetric else Y
    result = nuclear_regularised(all_places(4, 4), Y.ravel(), weight_decay=decay, shape=4, symmetric=symmetric)
    U, values, Vt = np.linalg.svd(Y)
    shrunk = (U * np.maximum(values - 16 * decay / 4, 0.0)) @ Vt
    assert np.allclose(result.W, shrunk, atol=1e-6)
    assert np.sqrt(np.mean((result.W - shrunk) ** 2)) <= result.fit_bound
    assert result.uniqueness == "proved"


def test_the_residual_matrix_of_theorem_f3():
    """(M + lambda I) U = 0, (lambda I - M) V = 0 and ||M||_op <= lambda at the optimum, with the constant 4/n."""
    rng = np.random.default_rng(2)
    d, decay = 8, 0.02
    places = np.argwhere(rng.random((d, d)) < 0.5)
    Y = rng.standard_normal((d, d))
    Y = Y + Y.T
    result = nuclear_regularised(places, Y[*places.T], weight_decay=decay, shape=d, symmetric=True)
    values, Q = np.linalg.eigh(result.W)
    U, V = Q * np.sqrt(np.maximum(values, 0)), Q * np.sqrt(np.maximum(-values, 0))
    residual = (result.W - Y)[*places.T]
    M = np.zeros((d, d))
    for (i, j), r in zip(places, residual, strict=True):
        M[i, j] += 2.0 * r / len(places)
        M[j, i] += 2.0 * r / len(places)
    assert np.allclose(M, result.M, atol=1e-15)
    assert np.linalg.norm(M, 2) <= decay * (1 + 1e-6)
    assert max(np.abs((M + decay * np.eye(d)) @ U).max(), np.abs((decay * np.eye(d) - M) @ V).max()) < 1e-7
    point = factorisation_point(U, V, places, Y[*places.T], weight_decay=decay)
    assert point.gap < 1e-6
    assert point.lower <= result.certificate.upper
    assert result.certificate.lower <= point.loss


def test_curvature_at_a_saddle():
    """From V = 0 a negative entry cannot be reached: the origin and every point with V = 0 there has a way down."""
    rng = np.random.default_rng(4)
    d, decay = 6, 0.05
    places = all_places(d, d)
    Y = np.diag([2.0, 1.0, -1.5, 0.0, 0.0, 0.0])
    n = d * d
    U = np.diag(np.sqrt([2.0 - n * decay / 4, 1.0 - n * decay / 4, 0, 0, 0, 0]))
    V = np.zeros((d, d))
    saddle = factorisation_point(U, V, places, Y.ravel(), weight_decay=decay)
    assert saddle.stationarity < 1e-14
    assert saddle.operator_norm > decay
    assert saddle.curvature == pytest.approx(decay - 4 / n * 1.5, rel=1e-9)
    H, K = saddle.direction

    def loss(t):
        A, B = U + t * H, V + t * K
        W = A @ A.T - B @ B.T
        return np.mean((W - Y) ** 2) + decay / 2 * (np.sum(A**2) + np.sum(B**2))

    step = 1e-3
    assert (loss(step) - 2 * loss(0) + loss(-step)) / step**2 == pytest.approx(saddle.curvature, rel=1e-4)
    assert loss(0) <= saddle.loss * (1 + 1e-14)
    elsewhere = factorisation_point(rng.standard_normal((d, d)), V, places, Y.ravel(), weight_decay=decay)
    assert elsewhere.lower <= elsewhere.loss


def test_proofs_of_contradiction_are_exact():
    rng = np.random.default_rng(5)
    from theorykit.programs import InconsistentError

    for trial in range(10):
        A = rng.integers(-3, 4, (4, 3, 3)).astype(float)
        A = np.concatenate((A, (A[0] - 2 * A[2] + A[3])[None]))
        b = rng.integers(-3, 4, 4).astype(float)
        last = b[0] - 2 * b[2] + b[3]
        assert min_nuclear_norm(A, np.append(b, last)).certificate.verify(A, np.append(b, last))
        with pytest.raises(InconsistentError) as caught:
            min_nuclear_norm(A, np.append(b, last + 2.0 ** (-trial)))
        proof = caught.value.proof
        zero = sum(t * np.vectorize(Fraction)(matrix) for t, matrix in zip(proof, A, strict=True))
        assert (zero == 0).all()
        assert sum(t * Fraction(v) for t, v in zip(proof, np.append(b, last + 2.0 ** (-trial)), strict=True)) == 1


def far_optimum(places, values, d, upper, direction):
    """Return the matrix that goes farthest along a direction at (almost) the least nuclear norm, by Clarabel."""
    import cvxpy as cp

    W = cp.Variable((d, d), symmetric=True)
    constraints = [W[places[:, 0], places[:, 1]] == values, cp.normNuc(W) <= upper * (1 + 1e-8)]
    cp.Problem(cp.Maximize(cp.sum(cp.multiply(direction, W))), constraints).solve(solver="CLARABEL")
    return W.value


def test_verdicts_on_uniqueness_against_a_search():
    """Small integer data, with many ties: a search over the optimal set moves only where it was not proved a point."""
    rng = np.random.default_rng(7)
    verdicts = []
    for _ in range(25):
        d = int(rng.integers(2, 5))
        u = rng.integers(-1, 2, d)
        base = np.outer(u, u) if rng.random() < 0.3 else np.diag(rng.integers(-1, 2, d)) + np.outer(u, u)
        places = np.argwhere(np.triu(rng.random((d, d)) < 0.6))
        if not len(places):
            continue
        values = base[*places.T].astype(float)
        result = min_nuclear_norm(places, values, shape=d, symmetric=True)
        verdicts.append(result.uniqueness)
        if verdicts[-1] == "unknown" or result.value == 0.0:
            continue
        moved = 0.0
        for _ in range(3):
            direction = rng.standard_normal((d, d))
            found = far_optimum(places, values, d, result.value, direction + direction.T)
            moved = max(moved, float(np.abs(found - result.W).max()))
        assert moved < 0.02 if verdicts[-1] == "proved" else moved > 0.05, (verdicts[-1], moved, places, values)
    assert min(verdicts.count("proved"), verdicts.count("disproved")) >= 3, verdicts


def test_distances_cover_what_other_solvers_miss():
    """SCS stops far away, and its own certificate says how far it may be; ours is the reference."""
    rng = np.random.default_rng(5)
    shares = []
    for index in range(24):
        _, observed, values, keywords = agreement.random_problem(rng, index)
        ours = agreement.solve(observed, values, keywords)
        try:
            theirs = agreement.solve(observed, values, keywords, "SCS")
        except SolverError:
            continue
        if ours.distance_bound is None or theirs.distance_bound is None or not ours.W.any():
            continue
        apart = float(np.linalg.norm(theirs.W - ours.W))
        assert apart <= theirs.distance_bound + ours.distance_bound
        shares.append(apart / theirs.distance_bound)
    assert len(shares) > 8
    assert max(shares) > 1e-4  # no empty bounds


def test_a_matrix_of_exact_rank_is_at_distance_zero():
    places = np.argwhere(np.random.default_rng(0).random((12, 12)) < 0.6)
    table = np.outer(np.arange(12.0), np.arange(12.0))
    found = min_nuclear_norm(places, table[*places.T], shape=12)
    assert (table == found.W).all()
    assert found.distance_bound == 0.0
    assert min_nuclear_norm([[0, 0], [1, 1]], [1.0, 1.0], shape=2).distance_bound is None  # many optima


def test_uniqueness_of_measurements():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((7, 4, 3))
    unique = min_nuclear_norm(A, rng.standard_normal(7))
    assert unique.uniqueness == "proved"
    assert unique.distance_bound < 1e-4 * np.linalg.norm(unique.W)
    trace = min_nuclear_norm(np.eye(3)[None], [1.0])
    assert trace.uniqueness != "proved"
    assert trace.distance_bound is None


def test_a_general_matrix_with_more_entries_than_a_newton_step_likes():
    rng = np.random.default_rng(0)
    i, j = np.divmod(rng.choice(97 * 97, 1411, replace=False), 97)
    found = min_nuclear_norm(np.stack((i, j), axis=1), i * j / 97**2, shape=97)
    assert found.certificate.gap < 1e-9
    assert np.allclose(found.W, np.outer(np.arange(97), np.arange(97)) / 97**2, atol=1e-7)


def test_completions_come_back_where_enough_is_seen_and_not_where_little_is():
    for row in known_answers.completions(8, seed=3):
        assert row["recovered"], row
        assert row["refuted"], row


@pytest.mark.parametrize(
    ("places", "values"),
    [([[0, 0], [1, 1]], [-0.341, -0.0141]), ([[1, 2], [2, 0], [0, 0]], [-0.349, 0.259, 1.279])],
)
def test_two_optima_with_any_values(places, values):
    """Entries that depend on the observed ones are solved for exactly."""
    size = 1 + int(np.max(places))
    result = min_nuclear_norm(places, values, shape=size, symmetric=True)
    assert result.uniqueness == "disproved"
    other = result.alternative
    assert np.abs(other - result.W).max() > 1e-3
    assert [other[i, j] for i, j in places] == values
    assert np.linalg.norm(other, "nuc") == pytest.approx(result.value, rel=1e-12)


def test_as_many_equations_as_features_leave_one_solution():
    from theorykit.programs import min_norm

    diagonal = min_norm(2.0 * np.eye(4), [-2.0, -2.0, 0.0, 0.0], norm="group", groups=[0, 0, 1, 1])
    assert diagonal.uniqueness == "proved"
