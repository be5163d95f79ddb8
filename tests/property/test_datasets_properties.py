"""What holds for every data set: seeds, shapes, blocks and fingerprints."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from theorykit._numerics.errors import InputError
from theorykit.datasets import Dataset, separated_gaussian, sparse_sign

sizes = st.integers(1, 20)
seeds = st.integers(0, 2**40)


def gathered(test, rows):
    blocks = list(test.blocks(rows))
    return np.concatenate([X for X, _ in blocks]), np.concatenate([y for _, y in blocks])


@settings(deadline=None, max_examples=60)
@given(n=sizes, d=sizes, half=st.integers(0, 9), n_test=sizes, seed=seeds, rows=st.integers(1, 30))
def test_sparse_sign_labels_are_the_rule_in_any_blocks(n, d, half, n_test, seed, rows):
    k = min(2 * half + 1, d - 1 + d % 2)
    data = sparse_sign(n=n, d=d, k=k, n_test=n_test, seed=seed)
    X, y = gathered(data.test, rows)
    assert X.shape == (n_test, d)
    assert (np.count_nonzero(data.truth), np.abs(data.truth).max()) == (k, 1.0)
    for points, labels in ((data.X, data.y), (X, y)):
        assert points.dtype == np.int8
        assert (np.abs(points) == 1).all()
        assert np.array_equal(labels, np.sign(points.astype(float) @ data.truth))
    again = gathered(sparse_sign(n=n, d=d, k=k, n_test=n_test, seed=seed).test, n_test)
    assert np.array_equal(again[0], X)
    assert np.array_equal(again[1], y)


@settings(deadline=None, max_examples=60)
@given(n=sizes, d=sizes, gap=st.floats(0, 1e3), n_test=sizes, seed=seeds, rows=st.integers(1, 30))
def test_separated_gaussian_keeps_its_gap_in_any_blocks(n, d, gap, n_test, seed, rows):
    data = separated_gaussian(n=n, d=d, gap=gap, n_test=n_test, seed=seed)
    X, y = gathered(data.test, rows)
    assert X.shape == (n_test, d)
    assert (data.y * (data.X @ data.truth) >= gap / 2 * (1 - 1e-12) - 1e-12).all()
    assert (y * (X @ data.truth) >= gap / 2 * (1 - 1e-5) - 1e-5).all()
    again = gathered(separated_gaussian(n=n, d=d, gap=gap, n_test=n_test, seed=seed).test, n_test)
    assert np.array_equal(again[0], X)


finite = st.floats(-3, 3, width=16)
matrices = hnp.arrays(np.float64, st.tuples(sizes, st.integers(1, 4)), elements=finite)


@settings(deadline=None)
@given(X=matrices, data=st.data())
def test_contradictions_are_found_exactly_where_brute_force_finds_them(X, data):
    y = data.draw(hnp.arrays(np.float64, len(X), elements=st.sampled_from([-1.0, 1.0])))
    pairs = [(i, j) for j in range(len(X)) for i in range(j) if (X[i] == X[j]).all() and y[i] != y[j]]
    if not pairs:
        assert np.array_equal(Dataset.from_arrays(X, y).X, X)
        return
    with pytest.raises(InputError) as caught:
        Dataset.from_arrays(X, y)
    assert any(f"at index {i} and {y[j]:g} at index {j} " in str(caught.value) for i, j in pairs)


@settings(deadline=None)
@given(X=matrices, row=st.integers(0, 19), column=st.integers(0, 3))
def test_fingerprint_sees_every_entry(X, row, column):
    y = np.ones(len(X))
    row, column = row % X.shape[0], column % X.shape[1]
    changed = X.copy()
    changed[row, column] = np.nextafter(X[row, column], np.inf)
    assert Dataset.from_arrays(X, y).fingerprint != Dataset.from_arrays(changed, y).fingerprint
    assert Dataset.from_arrays(X, y).fingerprint == Dataset.from_arrays(X.copy() + 0.0, y).fingerprint


anything = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=50)
@given(table=hnp.arrays(np.float64, st.tuples(sizes, st.integers(2, 5)), elements=anything), data=st.data())
def test_files_give_back_every_number(tmp_path_factory, table, data):
    column = data.draw(st.integers(0, table.shape[1] - 1))
    X, y = np.delete(table, column, axis=1), table[:, column]
    pairs = {row.tobytes(): target for row, target in zip(X + 0.0, y, strict=True)}
    assume(all(pairs[row.tobytes()] == target for row, target in zip(X + 0.0, y, strict=True)))
    folder = tmp_path_factory.mktemp("files")
    header = ",".join(f"c{index}" for index in range(table.shape[1]))
    np.savetxt(folder / "points.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    np.savez(folder / "points.npz", X=X, y=y)
    for read in (
        Dataset.from_csv(folder / "points.csv", label=f"c{column}", task="regression"),
        Dataset.from_npz(folder / "points.npz", task="regression"),
    ):
        assert np.array_equal(read.X, X)
        assert np.array_equal(read.y, y)
