"""Matrix completion, modular arithmetic, parities, XOR clusters and data with classes: values, splits, messages."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorykit._numerics.errors import InputError
from theorykit.datasets import (
    Dataset,
    digits,
    matrix_completion,
    matrix_entries,
    modular,
    sparse_parity,
    xor_cluster,
)
from theorykit.datasets.arithmetic import OPERATIONS

seeds = st.integers(0, 2**40)


def gathered(test):
    blocks = list(test.blocks(7))
    return np.concatenate([X for X, _ in blocks]), np.concatenate([y for _, y in blocks])


@given(d=st.integers(1, 12), fraction=st.floats(0.1, 1.0), symmetric=st.booleans(), seed=seeds)
def test_completion_observes_and_tests_every_entry_once(d, fraction, symmetric, seed):
    if round(fraction * d * d) == 0:
        return
    data = matrix_completion(d, "random", rank=2, fraction=fraction, symmetric=symmetric, seed=seed)
    weights = np.ones(data.n) if data.weights is None else data.weights
    assert weights.sum() == round(fraction * d * d)
    i, j = data.X.T
    assert np.array_equal(data.y, data.truth[i, j])
    assert len({tuple(pair) for pair in data.X.tolist()}) == data.n
    if symmetric:
        assert (i <= j).all()
        assert np.array_equal(data.truth, data.truth.T)
        assert (weights[i == j] == 1).all()
    else:
        assert data.weights is None
    left = d * d - int(weights.sum())
    assert (data.test is None) == (left == 0)
    if left:
        X, y = gathered(data.test)
        assert len({tuple(pair) for pair in X.tolist()}) == len(X) == left
        assert np.array_equal(y, data.truth[tuple(X.T)])
        drawn_twice = {tuple(pair) for pair in data.X[weights == 2].tolist()}
        off = {tuple(pair) for pair in data.X.tolist()} if not symmetric else drawn_twice
        assert off.isdisjoint({tuple(pair) for pair in X.tolist()})


def test_the_multiplication_table_is_of_rank_one():
    data = matrix_completion(d=97, fraction=0.05, seed=3)
    assert data.truth[5, 7] == 35 / 97**2
    assert np.linalg.matrix_rank(data.truth) == 1
    assert data.X.dtype == np.int64


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("rank", [1, 3])
def test_random_matrices_have_their_rank(rank, symmetric):
    assert np.linalg.matrix_rank(matrix_completion(12, "random", rank=rank, symmetric=symmetric).truth) == rank


def test_a_users_matrix_and_entries():
    table = np.arange(6.0).reshape(2, 3)
    data = matrix_completion(matrix=table, fraction=1.0, symmetric=False)
    assert data.test is None
    assert data.y.tolist() == table.ravel().tolist()
    assert matrix_entries([[1, 2]], [3.0], shape=(2, 3), symmetric=False).weights is None
    merged = matrix_entries([[2, 0], [0, 2], [1, 1], [0, 2]], [4.0, 4.0, 1.0, 4.0], shape=(3, 3))
    assert (merged.X.tolist(), merged.weights.tolist()) == ([[0, 2], [1, 1]], [3.0, 1.0])
    single = matrix_entries([[0, 2], [1, 1]], [4.0, 1.0], shape=(3, 3))
    assert merged.fingerprint != single.fingerprint


def slow_result(operation, x, y, p):
    """Return the class by Python integers, division by search; None where it is not defined."""
    if operation == "division":
        found = [z for z in range(p) if (z * y - x) % p == 0]
        return found[0] if len([z for z in range(p) if z * y % p == 1 % p]) == 1 else None
    words = {"addition": "x+y", "subtraction": "x-y", "multiplication": "x*y"}
    formula = words.get(operation, operation).replace("^", "**").replace("xy", "x*y")
    return eval(formula, {"x": x, "y": y}) % p


@pytest.mark.parametrize("p", [2, 3, 12, 13])
@pytest.mark.parametrize("operation", [*OPERATIONS, "division"])
def test_modular_is_the_whole_table_once(p, operation):
    data = modular(p, operation, fraction=0.6, seed=1)
    X, y = data.X, data.y
    if data.test is not None:
        X_test, y_test = gathered(data.test)
        X, y = np.vstack([X, X_test]), np.concatenate([y, y_test])
    slow = {(a, b): slow_result(operation, a, b, p) for a in range(p) for b in range(p)}
    assert {tuple(pair): result for pair, result in zip(X.tolist(), y.tolist(), strict=True)} == {
        pair: result for pair, result in slow.items() if result is not None
    }
    assert data.n == round(0.6 * len(X))
    assert (data.classes, data.task, data.X.dtype, data.y.dtype) == (p, "multiclass", np.int64, np.int64)


@given(n=st.integers(1, 20), d=st.integers(1, 20), k=st.integers(1, 20), seed=seeds)
def test_parities_are_products(n, d, k, seed):
    k = min(k, d)
    data = sparse_parity(n, d, k, n_test=9, seed=seed)
    support = data.settings["support"]
    assert len(set(support)) == k
    for X, y in ((data.X, data.y), gathered(data.test)):
        assert X.dtype == np.int8
        assert np.array_equal(y, np.prod(X[:, support].astype(float), axis=1))
    assert np.array_equal(data.X, sparse_parity(n, d, k, seed=seed).X)


def test_a_parity_is_invisible_to_linear_rules():
    data = sparse_parity(n=4000, d=10, k=2, seed=0)
    assert np.max(np.abs(data.X.T @ data.y) / data.n) < 5 / np.sqrt(data.n)


def test_xor_clusters_have_four_centres():
    data = xor_cluster(n=8000, d=6, separation=10.0, flip=0.2, n_test=4000, seed=0)
    X, y = gathered(data.test)
    plus, minus = X[y == 1], X[y == -1]
    for points in (plus, minus):
        assert np.linalg.norm(points.mean(axis=0)) < 10 * 5 / np.sqrt(len(points))
        top = np.linalg.svd(points, full_matrices=False)[2][0]
        along = points @ top
        assert abs(np.abs(along).mean() - 10) < 5 / np.sqrt(len(points))
    axes = [np.linalg.svd(points, full_matrices=False)[2][0] for points in (plus, minus)]
    assert abs(axes[0] @ axes[1]) < 0.02
    clean = np.where(np.abs(data.X @ axes[0]) > np.abs(data.X @ axes[1]), 1.0, -1.0)
    assert abs((clean != data.y).mean() - 0.2) < 5 * np.sqrt(0.16 / data.n)


def test_all_digits_once():
    from sklearn.datasets import load_digits

    data = digits("all", n_train=1000, seed=2)
    images, names = load_digits(return_X_y=True)
    X_test, y_test = gathered(data.test)
    X, y = np.vstack([data.X, X_test]), np.concatenate([data.y, y_test])
    ours = np.column_stack([8 * (X + 1), y])
    theirs = np.column_stack([images, names])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert (data.task, data.classes, data.y.dtype) == ("multiclass", 10, np.int64)


def test_users_classes(tmp_path):
    X = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    data = Dataset.from_arrays(X, [0, 2, 1], X, [2.0, 0.0, 1.0], task="multiclass")
    assert (data.classes, data.y.tolist(), data.y.dtype) == (3, [0, 2, 1], np.int64)
    assert Dataset.from_arrays(X, [0, 0, 1], task="multiclass", classes=5).classes == 5
    few, more = (Dataset.from_arrays(X, [0, 0, 1], task="multiclass", classes=c) for c in (2, 3))
    assert few.fingerprint != more.fingerprint
    np.savez(tmp_path / "points.npz", X=X, y=[0, 2, 1])
    assert Dataset.from_npz(tmp_path / "points.npz", task="multiclass").fingerprint == data.fingerprint


def test_they_travel_to_worker_processes():
    for data in (matrix_completion(9, fraction=0.3), modular(5), sparse_parity(3, 9, n_test=2), xor_cluster(3, 4)):
        assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


SQUARE = np.array([[1.0, 2.0], [2.5, 1.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: modular(p=1), "p: got 1; wanted an integer >= 2"),
        (lambda: modular(p=7.0), "p: got 7.0"),
        (lambda: modular(7, "adition"), "operation: got 'adition'.*did you mean 'addition'"),
        (lambda: modular(7, fraction=0.0), "fraction: got 0; wanted a finite number > 0"),
        (lambda: modular(7, fraction=0.01), "fraction: got 0.01 of 49 pairs; wanted at least one training pair"),
        (lambda: modular(7, fraction=1.5), "fraction: got 1.5; wanted a share above 0 and at most 1"),
        (lambda: matrix_completion(3, fraction=0.01), "fraction: got 0.01 of 9 entries; wanted at least one observed"),
        (lambda: matrix_completion(0), "d: got 0"),
        (lambda: matrix_completion(10**12), "d: got 1000000000000, which takes .* GiB; wanted what fits into"),
        (lambda: modular(10**12), "p: got 1000000000000, which takes .* GiB; wanted what fits into"),
        (lambda: sparse_parity(n=3, d=10**30, k=1), "d: got 1000000000000000000000000000000, which takes"),
        (lambda: xor_cluster(n=3, d=4, n_test=10**30), "n_test: got 1000000000000000000000000000000, which takes"),
        (lambda: matrix_entries([[0, 0]], [1.0], shape=3), "shape: got 3; wanted a pair of sizes"),
        (lambda: matrix_completion(3, "multiplicaton"), "matrix: got 'multiplicaton'.*did you mean 'multiplication'"),
        (lambda: matrix_completion(matrix=np.ones((2, 3))), "matrix: got 2 x 3; wanted a square matrix"),
        (
            lambda: matrix_completion(matrix=SQUARE),
            r"matrix: got 2 at \(0, 1\) and 2.5 at \(1, 0\); wanted a symmetric",
        ),
        (lambda: matrix_completion(matrix=[[np.nan]]), "matrix: got nan"),
        (lambda: matrix_completion(5, "random", rank=0), "rank: got 0"),
        (lambda: matrix_entries([], [], shape=(3, 3)), "entries: got no entries; wanted at least one observed entry"),
        (
            lambda: matrix_entries([[0, 3]], [1.0], shape=(3, 3)),
            r"entries: got 3 at index \(0, 1\); wanted integers from",
        ),
        (lambda: matrix_entries([[0, 0.5]], [1.0], shape=(3, 3)), r"entries: got 0.5 at index \(0, 1\)"),
        (lambda: matrix_entries([[0, 1]], [1.0], shape=(3, 4)), "shape: got 3 x 4; wanted a square matrix"),
        (
            lambda: matrix_entries([[0, 1], [1, 0]], [1.0, 2.0], shape=(3, 3)),
            r"values: got 1 at \(0, 1\) and 2 at \(1, 0\); wanted one value for one entry",
        ),
        (lambda: matrix_entries([[0, 1]], [1.0, 2.0], shape=(3, 3)), "values: got 2 entries; wanted 1"),
        (lambda: sparse_parity(3, 4, k=5), "k: got 5; wanted an integer from 1 to d = 4"),
        (lambda: xor_cluster(3, 1), "d: got 1; wanted an integer >= 2"),
        (lambda: xor_cluster(3, 4, flip=0.5), "flip: got 0.5"),
        (lambda: digits("every"), "classes: got 'every'; wanted two different digits from 0 to 9, or 'all'"),
        (lambda: digits("all", n_train=1797), "n_train: got 1797; wanted at most 1796: all classes have 1797"),
        (lambda: Dataset.from_arrays([[1.0], [2.0]], [0, 3], task="multiclass", classes=3), "y: got 3 at index 1"),
        (lambda: Dataset.from_arrays([[1.0], [2.0]], [0, -1], task="multiclass"), "y: got -1 at index 1"),
        (lambda: Dataset.from_arrays([[1.0], [2.0]], [0, 0.5], task="multiclass"), "y: got 0.5 at index 1"),
        (lambda: Dataset.from_arrays([[1.0]], [1], classes=2), "classes: got 2; wanted None"),
        (lambda: Dataset.from_arrays([[1.0]], [1], task="multiclass", classes=1), "classes: got 1"),
        (lambda: Dataset.from_arrays([[1.0]], [0], [[1.0]], [2], task="multiclass", classes=2), "y_test: got 2"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
