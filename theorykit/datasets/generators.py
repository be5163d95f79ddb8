"""Seeded data: lyu2024's figure 1, sparse parities, XOR clusters, and scikit-learn's bundled digits."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import affordable, finite, integer, shown
from theorykit.datasets.dataset import Dataset, Points, Task, TestSet, stored

_HELD_BYTES = (
    2**30
)  # generated Gaussian test points up to this size are kept, larger sets are generated anew on each pass


_WIDEST = 1e38  # test points are float32


def sparse_sign(n: int, d: int, k: int = 3, n_test: int = 0, seed: int = 0) -> Dataset:
    """Uniform +-1 features whose label is the majority of `k` of them, each with a sign (grokking, fig-1a of lyu2024).

    The support and the signs of w* are drawn with the seed; y = sign<w*, x>. The training points do not depend on
    `n_test`. Test points are held as packed bits, d/8 bytes each.

    Parameters
    ----------
    n, d : int
        Training samples and features.
    k : int
        Non-zero entries of w*, odd (so that <w*, x> is never 0) and at most `d`.
    n_test : int
        Test points; 0 for none.
    seed : int
        Same seed, same data, bit for bit.

    Returns
    -------
    Dataset
        `X` int8 (n, d), `y` float64 (n,), `truth` = w* with k entries +-1.

    Raises
    ------
    InputError
        A size below 1, k even or above d, a negative seed or n_test.

    Examples
    --------
    >>> data = sparse_sign(n=5, d=40, k=3, seed=1)
    >>> data.X.dtype, bool((np.sign(data.X @ data.truth) == data.y).all())
    (dtype('int8'), True)
    """
    n, d, n_test, seed = _sizes(n, d, n_test, seed)
    _refuse_what_does_not_fit(n, d, n_test, bits=8, test_bits=1)
    if integer("k", k, minimum=1) % 2 == 0 or k > d:
        raise InputError("k", shown(k), f"an odd integer from 1 to d = {d}")
    truth_rng, train_rng, test_rng = _streams(seed)
    support = np.sort(truth_rng.choice(d, size=k, replace=False))
    weights = np.where(truth_rng.integers(0, 2, size=k) == 1, 1.0, -1.0)
    truth = np.zeros(d)
    truth[support] = weights
    X, y = _read_packed(_packed_bits(train_rng, n, d), d, support, weights, 0, n)
    test = None
    if n_test:
        test = TestSet(n_test, d, partial(_read_packed, _packed_bits(test_rng, n_test, d), d, support, weights))
    settings = {"n": n, "d": d, "k": k, "n_test": n_test}
    return Dataset(X, y, "classification", "sparse_sign", seed, settings, test, truth)


def separated_gaussian(n: int, d: int, gap: float = 25.0, n_test: int = 0, seed: int = 0) -> Dataset:
    """Gaussian points pushed apart by `gap` along a hidden direction (misgrokking, fig-1b of lyu2024).

    w* is a uniform unit vector, z ~ N(0, I_d), y = sign<z, w*> and x = z + (gap/2) y w*. The training points are
    float64 and do not depend on `n_test`. Test points are float32, each from a key of its own: up to 1 GiB of them are
    held, larger sets are generated anew on every pass, with the same values.

    Parameters
    ----------
    n, d : int
        Training samples and features.
    gap : float
        Distance between the two half-spaces, from 0 to 1e38.
    n_test : int
        Test points; 0 for none.
    seed : int
        Same seed, same data, bit for bit.

    Returns
    -------
    Dataset
        `X` float64 (n, d), `y` float64 (n,), `truth` = w*, of Euclidean norm 1.

    Raises
    ------
    InputError
        A size below 1, a gap out of range, a negative n_test or seed.

    Examples
    --------
    >>> data = separated_gaussian(n=6, d=50, gap=4.0, seed=0)
    >>> bool((data.y * (data.X @ data.truth) >= 2.0).all())
    True
    """
    n, d, n_test, seed = _sizes(n, d, n_test, seed)
    _refuse_what_does_not_fit(n, d, n_test, bits=64, test_bits=0)  # what is not held is generated anew
    gap = finite("gap", gap, minimum=0.0, maximum=_WIDEST)
    truth_rng, train_rng, test_rng = _streams(seed)
    truth = truth_rng.standard_normal(d)
    truth /= math.sqrt(math.fsum(truth**2))  # exactly rounded: a BLAS norm may differ in the last bit between machines
    X = train_rng.standard_normal((n, d))
    y = np.array([_push_apart(row, truth, gap) for row in X])
    test = _gaussian_test(n_test, test_rng, truth, gap) if n_test else None
    settings = {"n": n, "d": d, "gap": gap, "n_test": n_test}
    return Dataset(X, y, "classification", "separated_gaussian", seed, settings, test, truth)


def sparse_parity(n: int, d: int, k: int = 2, n_test: int = 0, seed: int = 0) -> Dataset:
    """Uniform +-1 features whose label is the product of `k` of them: no linear rule does better than chance (k >= 2).

    The support is drawn with the seed. The training points do not depend on `n_test`; test points are packed bits.

    Parameters
    ----------
    n, d : int
        Training samples and features.
    k : int
        Features in the product, at least 1 and at most `d`.
    n_test : int
        Test points; 0 for none.
    seed : int
        Same seed, same data, bit for bit.

    Returns
    -------
    Dataset
        `X` int8 (n, d), `y` float64 (n,); ``settings["support"]`` lists the k features, ascending.

    Raises
    ------
    InputError
        A size below 1, k above d, a negative seed or n_test.

    References
    ----------
    Barak et al. 2022, arXiv:2207.08799.

    Examples
    --------
    >>> data = sparse_parity(n=5, d=40, k=3, seed=1)
    >>> bool((data.X[:, data.settings["support"]].prod(axis=1) == data.y).all())
    True
    """
    n, d, n_test, seed = _sizes(n, d, n_test, seed)
    _refuse_what_does_not_fit(n, d, n_test, bits=8, test_bits=1)
    if integer("k", k, minimum=1) > d:
        raise InputError("k", str(k), f"an integer from 1 to d = {d}")
    truth_rng, train_rng, test_rng = _streams(seed)
    support = np.sort(truth_rng.choice(d, size=k, replace=False))
    X, y = _read_parity(_packed_bits(train_rng, n, d), d, support, 0, n)
    test = TestSet(n_test, d, partial(_read_parity, _packed_bits(test_rng, n_test, d), d, support)) if n_test else None
    settings = {"n": n, "d": d, "k": k, "n_test": n_test, "support": support.tolist()}
    return Dataset(X, y, "classification", "sparse_parity", seed, settings, test)


def xor_cluster(n: int, d: int, separation: float = 5.0, flip: float = 0.0, n_test: int = 0, seed: int = 0) -> Dataset:
    """Four Gaussian clusters with labels like XOR: centres +-mu_1 are class +1, +-mu_2 class -1.

    mu_1 and mu_2 are orthogonal, of norm `separation`, in random directions; x is a centre, each equally likely, plus
    N(0, I_d) noise. Training labels are flipped with probability `flip`; test labels are clean. No linear rule does
    better than chance.

    Parameters
    ----------
    n, d : int
        Training samples and features, d >= 2.
    separation : float
        Norm of the centres, >= 0.
    flip : float
        Probability of a wrong training label, at least 0 and below 1/2.
    n_test : int
        Test points; 0 for none.
    seed : int
        Same seed, same data.

    Returns
    -------
    Dataset
        `X` float64 (n, d), `y` float64 (n,).

    Raises
    ------
    InputError
        A size out of range, a negative separation, n_test or seed, or a flip outside [0, 1/2).

    References
    ----------
    Xu et al. 2023, arXiv:2310.02541 (benign overfitting and grokking on such data).

    Examples
    --------
    >>> data = xor_cluster(n=6, d=50, separation=8.0, n_test=3, seed=0)
    >>> data.X.shape, data.test.n
    ((6, 50), 3)
    """
    n, d, n_test, seed = _sizes(n, d, n_test, seed)
    _refuse_what_does_not_fit(n, d, n_test, bits=64, test_bits=0)
    integer("d", d, minimum=2)
    separation = finite("separation", separation, minimum=0.0)
    if not finite("flip", flip, minimum=0.0) < 0.5:
        raise InputError("flip", f"{flip:g}", "a probability of at least 0 and below 1/2")
    truth_rng, train_rng, test_rng = _streams(seed)
    centres = separation * np.linalg.qr(truth_rng.standard_normal((d, 2)))[0].T
    X, y = _around(centres, n, train_rng)
    y = np.where(train_rng.random(n) < flip, -y, y)
    test = stored(*_around(centres, n_test, test_rng)) if n_test else None
    settings = {"n": n, "d": d, "separation": separation, "flip": flip, "n_test": n_test}
    return Dataset(X, y, "classification", "xor_cluster", seed, settings, test)


def digits(classes: tuple[int, int] | str = (3, 8), n_train: int = 60, seed: int = 0) -> Dataset:
    """Handwritten digits, 8x8, that scikit-learn bundles: two classes or all ten; what is not drawn is the test set.

    Pixels (0 to 16) are scaled to [-1, 1]. The corner pixels, always 0, are then constant -1 and act as a bias.
    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
    (its test part, as bundled).

    Parameters
    ----------
    classes : tuple of two int, or "all"
        Two different digits from 0 to 9, the first labelled +1, the second -1; or all ten as class numbers.
    n_train : int
        Training samples, drawn from the classes together without replacement; at least one sample must be left.
    seed : int
        Which samples are drawn.

    Returns
    -------
    Dataset
        `X` float64 (n_train, 64); `y` float64 (n_train,) of +-1, or int64 class numbers.

    Raises
    ------
    InputError
        scikit-learn is not installed, the classes are not two different digits, or too many samples are asked for.

    Examples
    --------
    >>> data = digits(seed=0)
    >>> data.X.shape, data.test.n, float(data.X.min()), float(data.X.max())
    ((60, 64), 297, -1.0, 1.0)
    >>> digits("all", n_train=500).classes
    10
    """
    everything = isinstance(classes, str) and classes == "all"
    first, second = (0, 9) if everything else _two_digits(classes)
    n_train, seed = integer("n_train", n_train, minimum=1), integer("seed", seed, minimum=0)
    images, names = _bundled_digits()
    rows = np.flatnonzero((names == first) | (names == second) | everything)
    if n_train >= rows.size:
        have = f"all classes have {rows.size}" if everything else f"classes {first} and {second} have {rows.size}"
        raise InputError("n_train", shown(n_train), f"at most {rows.size - 1}: {have}")
    rows = np.random.default_rng(seed).permutation(rows)
    X = images[rows] / 8.0 - 1.0
    y = names[rows].astype(np.int64) if everything else np.where(names[rows] == first, 1.0, -1.0)
    settings = {"classes": "all" if everything else [first, second], "n_train": n_train}
    test = stored(X[n_train:].copy(), y[n_train:].copy())
    task: Task = "multiclass" if everything else "classification"
    number = 10 if everything else None
    return Dataset(X[:n_train].copy(), y[:n_train].copy(), task, "digits", seed, settings, test, classes=number)


def _sizes(n: int, d: int, n_test: int, seed: int) -> tuple[int, int, int, int]:
    return (
        integer("n", n, minimum=1),
        integer("d", d, minimum=1),
        integer("n_test", n_test, minimum=0),
        integer("seed", seed, minimum=0),
    )


def _refuse_what_does_not_fit(n: int, d: int, n_test: int, *, bits: int, test_bits: int) -> None:
    """Raise, before any work, where the data take more than memory; `bits` is the size of an entry of X."""
    affordable("d", d, 8 * d)
    affordable("n", n, n * (8 + bits * d // 8))
    affordable("n_test", n_test, n_test * (8 + test_bits * d // 8))


def _streams(seed: int) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
    """Return independent generators for the rule, the training and the test points."""
    truth, train, test = np.random.SeedSequence(seed).spawn(3)
    return np.random.default_rng(truth), np.random.default_rng(train), np.random.default_rng(test)


def _packed_bits(rng: np.random.Generator, rows: int, d: int) -> NDArray[np.uint8]:
    """Return `rows` rows of d fair bits, eight to a byte (the last byte of a row may have some to spare)."""
    width = -(-d // 8)
    return np.frombuffer(rng.bytes(rows * width), dtype=np.uint8).reshape(rows, width)


def _read_packed(
    packed: NDArray[np.uint8], d: int, support: NDArray[np.intp], weights: NDArray[np.float64], start: int, stop: int
) -> Points:
    """Return points `start` to `stop` as +-1 in int8, with their labels."""
    X = _plus_minus_one(packed[start:stop], d)
    return X, np.sign(X[:, support] @ weights)


def _read_parity(packed: NDArray[np.uint8], d: int, support: NDArray[np.intp], start: int, stop: int) -> Points:
    """Return points `start` to `stop` as +-1 in int8, with their parities."""
    X = _plus_minus_one(packed[start:stop], d)
    return X, X[:, support].prod(axis=1, dtype=np.float64)


def _plus_minus_one(packed: NDArray[np.uint8], d: int) -> NDArray[np.int8]:
    X = np.unpackbits(packed, axis=1, count=d).view(np.int8)
    X *= 2
    X -= 1
    return X


def _around(centres: NDArray[np.float64], n: int, rng: np.random.Generator) -> Points:
    """Return n points round +-centres[0] (label +1) and +-centres[1] (label -1)."""
    which, side = rng.integers(0, 2, size=n), rng.choice([-1.0, 1.0], size=n)
    X = rng.standard_normal((n, centres.shape[1])) + side[:, None] * centres[which]
    return X, 1.0 - 2.0 * which


def _push_apart(z: NDArray[np.floating], truth: NDArray[np.float64], gap: float) -> float:
    """Shift one point in place by (gap/2) y w* and return its label y."""
    label = 1.0 if np.einsum("k,k->", z, truth) >= 0.0 else -1.0  # not BLAS: its threads cost more than so small a sum
    z += (0.5 * gap * label * truth).astype(z.dtype)
    return label


def _gaussian_test(n: int, rng: np.random.Generator, truth: NDArray[np.float64], gap: float) -> TestSet:
    keys = rng.integers(0, 2**63, size=n)
    if 4 * n * truth.size <= _HELD_BYTES:
        return stored(*_read_gaussian(keys, truth, gap, 0, n))
    return TestSet(n, truth.size, partial(_read_gaussian, keys, truth, gap))


def _read_gaussian(keys: NDArray[np.int64], truth: NDArray[np.float64], gap: float, start: int, stop: int) -> Points:
    """Generate points `start` to `stop`, each from its own key, so that no block depends on another."""
    X = np.empty((stop - start, truth.size), dtype=np.float32)
    y = np.empty(stop - start)
    for row, key in enumerate(keys[start:stop]):
        np.random.Generator(np.random.SFC64(int(key))).standard_normal(dtype=np.float32, out=X[row])
        y[row] = _push_apart(X[row], truth, gap)
    return X, y


def _two_digits(classes: object) -> tuple[int, int]:
    wanted = "two different digits from 0 to 9, or 'all'"
    if not isinstance(classes, (tuple, list)) or len(classes) != 2:
        raise InputError("classes", shown(classes), wanted)
    first, second = (integer("classes", digit, minimum=0) for digit in classes)
    if first == second or max(first, second) > 9:
        raise InputError("classes", shown(classes), wanted)
    return first, second


def _bundled_digits() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits", "no scikit-learn", "it installed: pip install theorykit[data]") from None
    images, names = load_digits(return_X_y=True)
    return images, names
