"""Matrix completion: the inputs are pairs of indices, the targets entries of a matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import affordable, finite, flag, integer, matrix, numeric, shown, text, vector
from theorykit.datasets.dataset import Dataset, stored

_MATRICES = ("multiplication", "random")
_LARGEST_SIZE = 2**53  # with indices that floats can tell apart
Entries = NDArray[np.int64]


def matrix_completion(
    d: int = 97,
    matrix: str | ArrayLike = "multiplication",
    *,
    rank: int = 1,
    fraction: float = 0.05,
    symmetric: bool = True,
    seed: int = 0,
) -> Dataset:
    """Some entries of a matrix, drawn without replacement; the test points are all others (fig-3 of lyu2024).

    round(fraction d^2) ordered pairs (i, j) are observed. In the symmetric case (i, j) and (j, i) are one observation:
    where both are drawn they are one sample of weight 2, and every sample has i <= j. The test points are the ordered
    pairs that were not drawn, mirror images of observed entries among them.

    Parameters
    ----------
    d : int
        Rows and columns; with the user's matrix its shape counts instead.
    matrix : {"multiplication", "random"} or array_like, shape (p, q)
        The multiplication table X*_ij = i j/d^2, i, j = 0, ..., d - 1, of rank 1; a random matrix A S A^T/sqrt(rank)
        (asymmetric: A B^T/sqrt(rank)) with independent N(0, 1) factors and random signs S; or the user's own.
    rank : int
        Rank of the random matrix.
    fraction : float
        Share of the entries that is observed, above 0 and at most 1.
    symmetric : bool
        Whether (i, j) and (j, i) are one observation; the matrix must then be exactly symmetric.
    seed : int
        Of the random matrix and of the observed entries.

    Returns
    -------
    Dataset
        Regression: `X` int64 (n, 2), pairs counted from 0, `y` the entries, `truth` the whole matrix.

    Raises
    ------
    InputError
        A size < 1, a fraction that observes nothing, a matrix that is not square or not symmetric where it must be.

    Examples
    --------
    >>> data = matrix_completion(d=97, fraction=0.05, seed=0)
    >>> data.X.shape, int(data.weights.sum()), data.test.n
    ((459, 2), 470, 8939)
    """
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    affordable("d", integer("d", d, minimum=1), 8 * d * d)
    affordable("rank", integer("rank", rank, minimum=1), 16 * d * rank)
    whole = _whole(matrix, d, rank, flag("symmetric", symmetric), rng)
    if symmetric:
        _require_symmetric(whole)
    if finite("fraction", fraction, above=0.0) > 1.0:
        raise InputError("fraction", f"{fraction:g}", "a share above 0 and at most 1")
    observed = round(fraction * whole.size)
    if observed == 0:
        raise InputError("fraction", f"{fraction:g} of {whole.size} entries", "at least one observed entry")
    places = rng.permutation(whole.size)
    seen, unseen = (_pairs(part, whole.shape[1]) for part in (places[:observed], np.sort(places[observed:])))
    settings = {
        "matrix": matrix if isinstance(matrix, str) else "user's",
        "shape": list(whole.shape),
        "rank": rank if isinstance(matrix, str) and matrix == "random" else None,
        "fraction": fraction,
        "symmetric": symmetric,
    }
    entries, values, weights = _merged(seen, whole[tuple(seen.T)], symmetric)
    test = stored(unseen, whole[tuple(unseen.T)]) if unseen.size else None
    return Dataset(entries, values, "regression", "matrix_completion", seed, settings, test, whole, weights=weights)


def matrix_entries(
    entries: ArrayLike, values: ArrayLike, *, shape: tuple[int, int], symmetric: bool = True, name: str = "entries"
) -> Dataset:
    """Build a data set from the user's own observed entries.

    Parameters
    ----------
    entries : array_like of integers, shape (n, 2)
        Pairs (i, j), counted from 0. Repeats, and mirror images where the matrix is symmetric, become one sample with
        their number as its weight.
    values : array_like, shape (n,)
        The entries there.
    shape : tuple of two int
        Rows and columns of the matrix.
    symmetric : bool
        Whether (i, j) and (j, i) are one observation.
    name : str
        Name shown in results.

    Returns
    -------
    Dataset
        As `matrix_completion` makes it, without test points and truth.

    Raises
    ------
    InputError
        Nothing observed, indices that are no integers or outside the matrix, a symmetric matrix that is not square, or
        different values for one entry.

    Examples
    --------
    >>> data = matrix_entries([[0, 1], [1, 0], [2, 2]], [5.0, 5.0, 1.0], shape=(3, 3))
    >>> data.X.tolist(), data.y.tolist(), data.weights.tolist()
    ([[0, 1], [2, 2]], [5.0, 1.0], [2.0, 1.0])
    """
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        raise InputError("shape", shown(shape), "a pair of sizes, such as (3, 4)") from None
    rows, columns = (integer("shape", size, minimum=1, maximum=_LARGEST_SIZE) for size in (rows, columns))
    text("name", name)
    if flag("symmetric", symmetric) and rows != columns:
        raise InputError("shape", f"{rows} x {columns}", "a square matrix, since symmetric=True")
    pairs = _indices(entries, (rows, columns))
    targets = vector("values", values, length=len(pairs))
    X, y, weights = _merged(pairs, targets, symmetric)
    settings = {"shape": [rows, columns], "symmetric": symmetric}
    return Dataset(X, y, "regression", name, None, settings, weights=weights)


def _whole(table: str | ArrayLike, d: int, rank: int, symmetric: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the matrix to complete."""
    if not isinstance(table, str):
        return np.array(matrix("matrix", table), dtype=np.float64)
    if table not in _MATRICES:
        raise unknown_name("matrix", table, list(_MATRICES))
    if table == "multiplication":
        return np.outer(np.arange(d), np.arange(d)) / d**2
    A = rng.standard_normal((d, rank))
    if not symmetric:
        return A @ rng.standard_normal((rank, d)) / np.sqrt(rank)
    product = (A * rng.choice([-1.0, 1.0], size=rank)) @ A.T
    return (product + product.T) / (2.0 * np.sqrt(rank))  # symmetric to the last bit


def _require_symmetric(whole: NDArray[np.float64]) -> None:
    rows, columns = whole.shape
    if rows != columns:
        raise InputError("matrix", f"{rows} x {columns}", "a square matrix, since symmetric=True")
    wrong = np.argwhere(whole != whole.T)
    if wrong.size:
        i, j = (int(index) for index in wrong[0])
        got = f"{whole[i, j]:.17g} at ({i}, {j}) and {whole[j, i]:.17g} at ({j}, {i})"
        raise InputError("matrix", got, "a symmetric matrix, or symmetric=False")


def _pairs(places: NDArray[np.int64], columns: int) -> Entries:
    return np.column_stack(np.divmod(places, columns)).astype(np.int64)


def _indices(entries: ArrayLike, shape: tuple[int, int]) -> Entries:
    pairs = numeric("entries", entries)
    if pairs.size == 0:
        raise InputError("entries", "no entries", "at least one observed entry")
    pairs = matrix("entries", pairs)
    if pairs.shape[1] != 2:
        raise InputError("entries", f"{pairs.shape[1]} columns", "2: row and column of an entry")
    wrong = np.argwhere((pairs != np.rint(pairs)) | (pairs < 0) | (pairs >= shape))
    if wrong.size:
        row, column = (int(index) for index in wrong[0])
        got = f"{pairs[row, column]:g} at index {(row, column)}"
        raise InputError("entries", got, f"integers from 0 to {shape[column] - 1}")
    return pairs.astype(np.int64)


def _merged(
    pairs: Entries, values: NDArray[np.float64], symmetric: bool
) -> tuple[Entries, NDArray[np.float64], NDArray[np.float64] | None]:
    """Return every observation once, in order of rows and columns, with how often it came where that is not once."""
    keys = np.sort(pairs, axis=1) if symmetric else pairs
    merged, first, which, counts = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    wrong = np.flatnonzero(values != values[first][which.ravel()])
    if wrong.size:
        other, one = int(wrong[0]), int(first[which.ravel()[wrong[0]]])
        i, j = (f"{values[k]:g} at {tuple(int(v) for v in pairs[k])}" for k in (one, other))
        raise InputError("values", f"{i} and {j}", "one value for one entry")
    weights = counts.astype(np.float64) if (counts > 1).any() else None
    return merged.astype(np.int64), values[first], weights
