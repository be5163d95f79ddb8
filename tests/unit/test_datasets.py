"""Generators, the user's arrays and files: values, messages, memory."""

import io
import pickle
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import scipy.sparse

from theorykit._numerics.errors import InputError
from theorykit.datasets import Dataset, digits, separated_gaussian, sparse_sign

PINNED = {
    "support": [2, 7, 10],
    "signs": [1.0, 1.0, 1.0],
    "X": [
        [1, -1, -1, 1, -1, -1, 1, -1, 1, 1, 1],
        [-1, 1, 1, -1, 1, 1, 1, 1, 1, -1, 1],
        [-1, -1, -1, 1, 1, 1, -1, 1, -1, 1, 1],
    ],
    "y": [-1.0, 1.0, 1.0],
    "X_test": [[-1, -1, -1, 1, -1, 1, -1, 1, 1, 1, 1], [1, -1, -1, -1, 1, -1, -1, 1, -1, 1, 1]],
    "gaussian": [
        [1.7827958285429109, -0.032245764689715406, 3.3218615171424166],
        [-0.43790922124260034, 2.1726734156609724, -0.31422697393363713],
    ],
    "gaussian_test": [[0.48455628752708435, -2.664294481277466, -2.1644837856292725]],
}


def gathered(test, rows=1024):
    blocks = list(test.blocks(rows))
    return np.concatenate([X for X, _ in blocks]), np.concatenate([y for _, y in blocks])


def test_sparse_sign_values_are_pinned():
    data = sparse_sign(n=3, d=11, k=3, n_test=2, seed=7)
    assert data.X.dtype == np.int8
    assert data.truth.nonzero()[0].tolist() == PINNED["support"]
    assert data.truth[data.truth != 0].tolist() == PINNED["signs"]
    assert data.X.tolist() == PINNED["X"]
    assert data.y.tolist() == PINNED["y"]
    assert gathered(data.test)[0].tolist() == PINNED["X_test"]


def test_separated_gaussian_values_are_pinned():
    data = separated_gaussian(n=2, d=3, gap=2.0, n_test=1, seed=7)
    assert data.X.tolist() == PINNED["gaussian"]
    assert gathered(data.test)[0].tolist() == PINNED["gaussian_test"]


def test_sparse_sign_bits_are_fair_and_independent_of_padding():
    data = sparse_sign(n=400, d=1003, n_test=2000, seed=1)
    X, y = gathered(data.test)
    assert abs(X.mean()) < 5 / np.sqrt(X.size)
    assert abs(X[:, -1].mean()) < 5 / np.sqrt(len(X))
    assert abs(y.mean()) < 5 / np.sqrt(len(y))
    agreement = (X @ data.truth) * y
    assert set(agreement.tolist()) == {1.0, 3.0}  # a majority of three is won by 1 or by 3
    assert abs((agreement == 3).mean() - 0.25) < 5 * np.sqrt(0.1875 / len(y))


def test_separated_gaussian_leaves_a_gap_and_is_gaussian_across_it():
    data = separated_gaussian(n=300, d=60, gap=25.0, n_test=3000, seed=2)
    X, y = gathered(data.test)
    for points, labels in ((data.X, data.y), (X, y)):
        along = points @ data.truth
        assert (labels * along >= 12.5 - 1e-4).all()
        across = points - np.outer(along, data.truth)
        assert abs(across.mean()) < 5 / np.sqrt(across.size)
        assert abs(across.var() * 60 / 59 - 1) < 5 * np.sqrt(2 / across.size)
    assert abs(np.linalg.norm(data.truth) - 1) < 1e-15
    half_normal = (y * (X @ data.truth) - 12.5).mean()
    assert abs(half_normal - np.sqrt(2 / np.pi)) < 5 * np.sqrt((1 - 2 / np.pi) / len(y))


def test_training_points_do_not_depend_on_the_test_set():
    for make in (sparse_sign, separated_gaussian):
        assert np.array_equal(make(n=5, d=20, seed=3).X, make(n=5, d=20, n_test=9, seed=3).X)
        assert not np.array_equal(make(n=5, d=20, seed=3).X, make(n=5, d=20, seed=4).X)


def test_gaussian_test_points_beyond_the_limit_are_generated_anew_with_the_same_values(monkeypatch):
    held = separated_gaussian(n=2, d=50, n_test=33, seed=5)
    monkeypatch.setattr("theorykit.datasets.generators._HELD_BYTES", 100)
    streamed = separated_gaussian(n=2, d=50, n_test=33, seed=5)
    assert held.test.read.func is not streamed.test.read.func
    for rows in (7, 1000):
        for one, other in zip(gathered(held.test, rows), gathered(streamed.test, rows), strict=True):
            assert np.array_equal(one, other)


def test_blocks_stay_under_their_memory_limit(monkeypatch):
    monkeypatch.setattr("theorykit.datasets.dataset._BLOCK_BYTES", 8 * 20 * 3)
    test = sparse_sign(n=1, d=20, n_test=10).test
    assert [len(y) for _, y in test.blocks(rows=1000)] == [3, 3, 3, 1]
    assert [len(y) for _, y in test.blocks(rows=2)] == [2, 2, 2, 2, 2]
    with pytest.raises(InputError, match="rows: got 0"):
        next(test.blocks(rows=0))


def test_digits_default_split_is_linearly_separable_without_bias():
    from scipy.optimize import linprog

    data = digits()
    Z = data.y[:, None] * data.X
    solution = linprog(np.zeros(data.d), A_ub=-Z, b_ub=-np.ones(data.n), bounds=(None, None), method="highs")
    assert solution.status == 0
    assert (Z @ solution.x).min() > 1 - 1e-9


def test_digits_are_all_of_both_classes_once():
    data = digits(classes=(0, 7), n_train=50, seed=3)
    from sklearn.datasets import load_digits

    images, names = load_digits(return_X_y=True)
    X_test, y_test = gathered(data.test)
    ours = np.vstack([data.X, X_test])[np.concatenate([data.y, y_test]) == 1]
    theirs = images[names == 0] / 8 - 1
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert data.n + data.test.n == ((names == 0) | (names == 7)).sum()


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"pip install theorykit\[data\]"):
        digits()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sparse_sign(n=0, d=5), "n: got 0; wanted an integer >= 1"),
        (lambda: sparse_sign(n=5, d=0), "d: got 0"),
        (lambda: sparse_sign(n=5, d=5, k=2), "k: got 2; wanted an odd integer from 1 to d = 5"),
        (lambda: sparse_sign(n=5, d=5, k=7), "k: got 7"),
        (lambda: sparse_sign(n=5, d=5, k=1.0), "k: got 1.0"),
        (lambda: sparse_sign(n=5, d=5, n_test=-1), "n_test: got -1"),
        (lambda: sparse_sign(n=5, d=5, seed=-1), "seed: got -1"),
        (lambda: sparse_sign(n=True, d=5), "n: got True"),
        (lambda: separated_gaussian(n=5, d=5, gap=-1.0), "gap: got -1"),
        (lambda: separated_gaussian(n=5, d=5, gap=float("nan")), "gap: got nan"),
        (lambda: digits(classes=(3, 3)), r"classes: got \(3, 3\); wanted two different digits"),
        (lambda: digits(classes=(3, 10)), r"classes: got \(3, 10\)"),
        (lambda: digits(classes=(3, 8, 9)), "wanted two different digits"),
        (lambda: digits(classes=38), "classes: got 38"),
        (lambda: digits(n_train=357), "n_train: got 357; wanted at most 356"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [0]), "y: got 0 at index 0; wanted every label"),
        (lambda: Dataset.from_arrays([[1.0, np.nan]], [1]), r"X: got nan at index \(0, 1\)"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [np.inf], task="regression"), "y: got inf"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [1, 1]), "y: got 2 entries; wanted 1"),
        (lambda: Dataset.from_arrays(np.zeros((0, 3)), []), r"X: got shape \(0, 3\)"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [1], [[1.0, 2.0]]), "y_test: got None"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [1], None, [1]), "X_test: got None"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [1], [[1.0]], [1]), "X_test: got 1 features; wanted 2"),
        (lambda: Dataset.from_arrays([[1.0, 2.0]], [1], [[1.0, 2.0]], [3]), "y_test: got 3 at index 0"),
        (lambda: Dataset.from_arrays([[1.0]], [1], task="clasification"), "did you mean 'classification'"),
        (
            lambda: Dataset.from_arrays([[0.0, 2.0], [1.0, 1.0], [-0.0, 2.0]], [1, 1, -1]),
            "y: got 1 at index 0 and -1 at index 2 for identical rows",
        ),
        (
            lambda: Dataset.from_arrays([[0.5], [0.5]], [1.0, 1.25], task="regression"),
            "y: got 1 at index 0 and 1.25 at index 1",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_consistent_duplicates_and_one_class_are_fine():
    assert Dataset.from_arrays([[1.0, 2.0]] * 3, [1, 1, 1]).n == 3


def test_arrays_are_own_read_only_copies_in_their_working_type():
    X = np.array([[1, -1], [1, 1]], dtype=np.int8)
    data = Dataset.from_arrays(X, [1, -1])
    X[0, 0] = -1
    assert data.X.dtype == np.int8
    assert data.X[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        data.X[0, 0] = 5
    assert Dataset.from_arrays(np.array([[2, 0]], dtype=np.int8), [1]).X.dtype == np.float64
    assert Dataset.from_arrays(np.asfortranarray(np.ones((2, 3))), [1, 1]).X.flags.c_contiguous


def test_fingerprint_follows_values_not_types():
    X = np.array([[1, -1, 1], [1, 1, -1]], dtype=np.int8)
    data = Dataset.from_arrays(X, [1, -1])
    assert len(data.fingerprint) == 64
    assert data.fingerprint == Dataset.from_arrays(X.astype(float), [1, -1], X, [1, -1]).fingerprint
    others = [
        Dataset.from_arrays(-X, [1, -1]),
        Dataset.from_arrays(X, [-1, 1]),
        Dataset.from_arrays(X.reshape(3, 2), [1, -1, 1]),
        Dataset.from_arrays(X * np.nextafter(1, 2), [1, -1]),
        Dataset.from_arrays(X, [1, -1], task="regression"),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_data_sets_travel_to_worker_processes():
    for data in (sparse_sign(n=2, d=9, n_test=3), separated_gaussian(n=2, d=9, n_test=3), digits()):
        copy = pickle.loads(pickle.dumps(data))
        assert copy.fingerprint == data.fingerprint
        assert np.array_equal(gathered(copy.test)[0], gathered(data.test)[0])


def test_npz_round_trip(tmp_path):
    X, y = np.array([[1.5, 2.0], [0.0, -1.0]]), np.array([1.0, -1.0])
    np.savez_compressed(tmp_path / "points.npz", X=X, y=y, X_test=X[:1], y_test=y[:1])
    data = Dataset.from_npz(tmp_path / "points.npz")
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, y)
    assert data.name == "points.npz"
    assert data.test.n == 1


def npz_cases(folder):
    good = folder / "good.npz"
    np.savez(good, X=np.ones((50, 50)), y=np.ones(50))
    whole = good.read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    spoiled = bytearray(whole)
    spoiled[5000] ^= 0xFF
    (folder / "spoiled.npz").write_bytes(bytes(spoiled))
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("X,y\n1,2\n")
    (folder / "pickle.npz").write_bytes(pickle.dumps({"X": [[1.0]], "y": [1.0]}))
    np.savez(folder / "objects.npz", X=np.array([[{}]], dtype=object), y=np.ones(1))
    np.savez(folder / "no_y.npz", X=np.ones((1, 1)))
    np.save(folder / "single.npy", np.ones((2, 2)))
    (folder / "folder.npz").mkdir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "No such file"),
        ("folder.npz", "Is a directory"),
        ("truncated.npz", "truncated, pickled"),
        ("spoiled.npz", "truncated, pickled"),
        ("empty.npz", "truncated, pickled"),
        ("text.npz", "truncated, pickled"),
        ("pickle.npz", "truncated, pickled"),
        ("objects.npz", "truncated, pickled"),
        ("no_y.npz", "without 'y'"),
        ("single.npy", "not in this format"),
    ],
)
def test_bad_npz_files_are_input_errors(tmp_path, name, message):
    npz_cases(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        Dataset.from_npz(tmp_path / name)
    assert name in str(caught.value)


def test_csv_by_name_and_by_position(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("\ufeffa, label ,b\r\n1,1,2.5\r\n\r\n-3e1,-1,0\r\n", encoding="utf-8")
    for label in ("label", 1):
        data = Dataset.from_csv(file, label=label)
        assert data.X.tolist() == [[1.0, 2.5], [-30.0, 0.0]]
        assert data.y.tolist() == [1.0, -1.0]
    assert Dataset.from_csv(file, label="b", task="regression").y.tolist() == [2.5, 0.0]


@pytest.mark.parametrize(
    ("content", "label", "message"),
    [
        (b"", "y", "an empty file"),
        (b"\n\n", "y", "an empty file"),
        (b"a,y\n", "y", "a header and no samples"),
        (b"1,2\n3,4\n", "y", "numbers in line 1; wanted column names"),
        (b"a,y\n1,1\n2\n", "y", "1 cells in line 3; wanted 2"),
        (b"a,y\n1,1\n2,1,1\n", "y", "3 cells in line 3"),
        (b"a,y\n1,1\nx,1\n", "y", "'x' in line 3, column 'a'; wanted a finite number"),
        (b"a,y\n1,1\n,1\n", "y", "'' in line 3, column 'a'"),
        (b"a,y\nnan,1\n", "y", "'nan' in line 2"),
        (b"a,y\n1,2\n", "y", "y: got 2 at index 0"),
        (b"a,target\n1,1\n", "traget", "did you mean 'target'"),
        (b"y,y\n1,1\n", "y", "the name of 2 columns"),
        (b"y\n1\n", "y", "with one column"),
        (b"a,y\n1,1\n", 2, "a position from 0 to 1"),
        (b"a,y\n1,1\n", -1, "a position from 0 to 1"),
        (b"a,y\n\xff\xfe,1\n", "y", "not UTF-8"),
        (b"a,y\n1,\0\n", "y", "in line 2|line contains NUL"),
    ],
)
def test_bad_csv_files_are_input_errors(tmp_path, content, label, message):
    file = tmp_path / "points.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Dataset.from_csv(file, label=label)


def test_csv_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        Dataset.from_csv(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="Is a directory"):
        Dataset.from_csv(tmp_path)


def test_test_points_stay_packed_in_memory():
    """A tenth of the full size: 10 000 x 100 000 signs as float64 would be 8 GB, as bits they are 125 MB."""
    script = textwrap.dedent("""
        import resource
        from theorykit.datasets import sparse_sign
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = sparse_sign(n=256, d=100_000, n_test=1_000, seed=0)
        seen = sum(len(y) for X, y in data.test.blocks())
        assert seen == 1_000
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unpacked_mb = 1_000 * 100_000 / 2**20
    assert float(run.stdout) < unpacked_mb


HUGE = 10**5000  # Python refuses to print it


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse_sign(n=10**12, d=100), "n: got 1000000000000, which takes 1.*; wanted what fits"),
        (lambda: sparse_sign(n=HUGE, d=100), "n: got an integer of 16610 bits"),
        (lambda: sparse_sign(n=1, d=10**14), "d: got 100000000000000, which takes"),
        (lambda: sparse_sign(n=1, d=10, k=HUGE + 1), "k: got an integer"),
        (lambda: sparse_sign(n=1, d=10, n_test=10**400), "n_test: got 1000"),
        (lambda: separated_gaussian(n=1, d=10, n_test=10**12), "n_test: got 1000000000000"),
        (lambda: separated_gaussian(n=1, d=10, gap=HUGE), "gap: got an integer"),
        (lambda: Dataset.from_npz(None), "path: got None"),
        (lambda: Dataset.from_csv([]), r"path: got \[\]"),
        (lambda: Dataset.from_npz("a\0b"), "path: got "),
        (lambda: Dataset.from_csv(""), "path: got ''"),
        (lambda: Dataset.from_csv("/dev/zero"), "path: got /dev/zero .a device or a pipe."),
        (lambda: Dataset.from_arrays([[1.0]], [1], task=np.array(["a", "b"])), "task: got array"),
        (lambda: Dataset.from_arrays([[1.0]], [1], name=np.array(["a", "b"])), "name: got array"),
        (lambda: Dataset.from_arrays([[1.0], [2.0]], [0, 1]), r"2 \* y - 1"),
        (lambda: Dataset.from_arrays(np.ma.array([[1.0], [2.0]], mask=[[0], [1]]), [1, -1]), "X: got a masked array"),
        (lambda: Dataset.from_arrays(scipy.sparse.eye_array(2), [1, -1]), r"X: got a sparse .*wanted .* X.toarray"),
        (lambda: Dataset.from_arrays([[1.0], [HUGE]], [1, -1]), "X: got "),
        (lambda: Dataset.from_arrays([[1.0], [np.longdouble("1e4000")]], [1, -1]), r"X: got inf at index \(1, 0\)"),
    ],
)
def test_input_beyond_reason_is_named(call, message, recwarn):
    with pytest.raises(InputError, match=message):
        call()
    # a file that another test left open is closed, with a warning, whenever the collector comes by
    assert not [warning for warning in recwarn.list if warning.category is not ResourceWarning], recwarn.list


def test_an_unmasked_masked_array_is_an_array():
    assert Dataset.from_arrays(np.ma.array([[1.0], [2.0]]), [1, -1]).X.tolist() == [[1.0], [2.0]]


def test_an_npz_file_that_promises_more_than_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**14, 3)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("X.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(InputError, match=r"path: got .*huge.npz"):
        Dataset.from_npz(tmp_path / "huge.npz")


@pytest.mark.parametrize("cell", ["1_0", "٣", "0x1", "nan", "inf", "1e400", "", "1 2"])
def test_cells_are_plain_decimal_numbers(tmp_path, cell):
    (tmp_path / "a.csv").write_text(f"a,y\n1,1\n{cell},-1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"in line 3, column 'a'; wanted a finite number"):
        Dataset.from_csv(tmp_path / "a.csv")


def test_decimal_numbers_in_every_form(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n+1.,1\n-.5e+1,-1\n2E-3,1\n", encoding="utf-8")
    assert Dataset.from_csv(tmp_path / "a.csv").X.ravel().tolist() == [1.0, -5.0, 0.002]
