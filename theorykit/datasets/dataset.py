"""The frozen data set that problems are built on, and test points that are read block by block."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import choice, integer, matrix, signs, text, vector
from theorykit.datasets.files import read_csv, read_npz

Task = Literal["classification", "regression"]
Points = tuple[NDArray[Any], NDArray[np.float64]]

_BLOCK_BYTES = 2**27  # one block of test points, once it is float64


@dataclass(frozen=True, eq=False)
class TestSet:
    """Test points that are read in blocks, so that they need not all be in memory as numbers.

    Attributes
    ----------
    n, d : int
        Number of points and of features.
    read : callable
        ``read(start, stop)`` returns the features (stop - start, d) and labels (stop - start,) of those points.
    """

    __test__ = False  # pytest would take the name for a test case

    n: int
    d: int
    read: Callable[[int, int], Points] = field(repr=False)

    def blocks(self, rows: int = 1024) -> Iterator[Points]:
        """Yield the points in order, at most `rows` at a time, fewer where the block would pass 128 MiB as float64.

        Parameters
        ----------
        rows : int
            Largest number of points in a block.

        Yields
        ------
        X : ndarray of int8, float32 or float64, shape (m, d)
            Features; int8 holds +-1 only, float32 are generated Gaussian points.
        y : ndarray of float64, shape (m,)
            Labels.

        Examples
        --------
        >>> from theorykit.datasets import sparse_sign
        >>> test = sparse_sign(n=4, d=9, n_test=5, seed=0).test
        >>> [X.shape for X, y in test.blocks(rows=3)]
        [(3, 9), (2, 9)]
        """
        rows = integer("rows", rows, minimum=1)
        step = max(1, min(rows, _BLOCK_BYTES // (8 * self.d)))
        for start in range(0, self.n, step):
            yield self.read(start, min(start + step, self.n))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set, how it was made, and the test points that go with it.

    Build one with a generator (`sparse_sign`, `separated_gaussian`, `digits`) or with `from_arrays`, `from_npz`,
    `from_csv`, which check what they are given.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Samples in rows, read-only and C-contiguous: int8 where it was generated or given as int8 with entries +-1,
        float64 otherwise.
    y : ndarray of float64, shape (n,)
        Labels +-1 (classification) or real targets (regression), read-only.
    task : {"classification", "regression"}
        What `y` means.
    name : str
        Name of the generator or source.
    seed : int or None
        Seed of the generator, None for arrays and files.
    settings : dict
        The arguments it was made with.
    test : TestSet or None
        Test points.
    truth : ndarray of float64, shape (d,), or None
        The linear rule w* that generated the labels, where there is one.

    Examples
    --------
    >>> data = Dataset.from_arrays([[1.0, 2.0], [3.0, -1.0]], [1, -1])
    >>> data.n, data.d, data.task
    (2, 2, 'classification')
    """

    X: NDArray[Any] = field(repr=False)
    y: NDArray[np.float64] = field(repr=False)
    task: Task
    name: str
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    test: TestSet | None = None
    truth: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for array in (self.X, self.y, self.truth):
            if array is not None:
                array.flags.writeable = False

    @property
    def n(self) -> int:
        """Number of training samples."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.X.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the values and shape of `X` and `y`; int8 and float64 copies of the same numbers agree.

        The test points are not part of it: they do not move a flow.
        """
        digest = hashlib.sha256(f"theorykit dataset {self.n} {self.d} {self.task}".encode())
        digest.update(_canonical(self.X).data)
        digest.update(_canonical(self.y).data)
        return digest.hexdigest()

    @classmethod
    def from_arrays(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        X_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        name: str = "arrays",
        task: Task = "classification",
    ) -> Self:
        """Check the user's own arrays and copy them into a data set.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Samples in rows; int8 with entries +-1 stays int8, everything else becomes float64.
        y : array_like, shape (n,)
            Labels +-1, or finite real targets for ``task="regression"``. One class alone is legal.
        X_test, y_test : array_like, shapes (m, d) and (m,), optional
            Test points; both or neither.
        name : str
            Name shown in results.
        task : {"classification", "regression"}
            What `y` means.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            Empty or non-finite arrays, wrong shapes or lengths, labels other than +-1, or two identical samples with
            different labels.

        Examples
        --------
        >>> Dataset.from_arrays([[1, 1], [1, 1]], [1, -1])
        Traceback (most recent call last):
        theorykit._numerics.errors.InputError: y: got 1 at index 0 and -1 at index 1 for identical rows of X; wanted the same label for the same sample
        """  # noqa: E501 - a message is one line
        choice("task", task, ["classification", "regression"])
        text("name", name)
        features, labels = _checked("X", X, "y", y, task)
        _refuse_contradictions(features, labels)
        return cls(features, labels, task, name, test=_checked_test(X_test, y_test, features.shape[1], task))

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str], *, task: Task = "classification") -> Self:
        """Read an ``.npz`` file with the arrays ``X`` and ``y``, and optionally ``X_test`` and ``y_test``.

        Parameters
        ----------
        path : path
            A file written by `numpy.savez` or `numpy.savez_compressed`. Pickled objects are never loaded.
        task : {"classification", "regression"}
            What ``y`` means.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            Missing, unreadable, truncated or pickled file, a missing key, or arrays `from_arrays` refuses.

        Examples
        --------
        >>> Dataset.from_npz("nowhere.npz")
        Traceback (most recent call last):
        theorykit._numerics.errors.InputError: path: got nowhere.npz (No such file or directory); wanted an .npz file with the arrays X and y
        """  # noqa: E501
        arrays = read_npz(path)
        return cls.from_arrays(
            arrays["X"], arrays["y"], arrays.get("X_test"), arrays.get("y_test"), name=os.path.basename(path), task=task
        )

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], *, label: str | int = "y", task: Task = "classification") -> Self:
        """Read a CSV file with a header row: one column of labels, all others features in their order.

        Parameters
        ----------
        path : path
            Comma-separated, UTF-8, first row the column names, numbers everywhere else. Empty lines are skipped.
        label : str or int
            Name of the column of labels, or its position counted from 0.
        task : {"classification", "regression"}
            What the labels mean.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            Missing or unreadable file, no header, unknown label column, a cell that is not a finite number (with its
            line), rows of different lengths, or arrays `from_arrays` refuses.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "points.csv"
        >>> _ = file.write_text("a,b,y\\n1,2,1\\n-1,0.5,-1\\n")
        >>> Dataset.from_csv(file).X.tolist()
        [[1.0, 2.0], [-1.0, 0.5]]
        """
        X, y = read_csv(path, label)
        return cls.from_arrays(X, y, name=os.path.basename(path), task=task)


def stored(X: NDArray[Any], y: NDArray[np.float64]) -> TestSet:
    """Return a test set over arrays that are in memory anyway."""
    X.flags.writeable = y.flags.writeable = False
    return TestSet(X.shape[0], X.shape[1], partial(_read_stored, X, y))


def _read_stored(X: NDArray[Any], y: NDArray[np.float64], start: int, stop: int) -> Points:
    return X[start:stop], y[start:stop]


def _checked(X_name: str, X: ArrayLike, y_name: str, y: ArrayLike, task: Task) -> Points:
    """Return own copies of `X` and `y`, checked and in their working types."""
    features = matrix(X_name, X)
    plus_minus_one = features.dtype == np.int8 and bool((np.abs(features) == 1).all())
    check = signs if task == "classification" else vector
    labels = check(y_name, y, length=features.shape[0])
    return np.array(features, dtype=np.int8 if plus_minus_one else np.float64, order="C"), np.array(labels)


def _checked_test(X_test: ArrayLike | None, y_test: ArrayLike | None, d: int, task: Task) -> TestSet | None:
    if X_test is None and y_test is None:
        return None
    if X_test is None or y_test is None:
        missing = "X_test" if X_test is None else "y_test"
        raise InputError(missing, "None", "both X_test and y_test, or neither")
    features, labels = _checked("X_test", X_test, "y_test", y_test, task)
    if features.shape[1] != d:
        raise InputError("X_test", f"{features.shape[1]} features", f"{d}, as in X")
    return stored(features, labels)


def _refuse_contradictions(X: NDArray[Any], y: NDArray[np.float64]) -> None:
    """Raise where two identical samples carry different labels."""
    first: dict[bytes, int] = {}
    for index, row in enumerate(X):
        key = hashlib.blake2b(row if X.dtype == np.int8 else row + 0.0, digest_size=16).digest()  # -0.0 is 0.0
        earlier = first.setdefault(key, index)
        if y[earlier] != y[index]:
            raise InputError(
                "y",
                f"{y[earlier]:g} at index {earlier} and {y[index]:g} at index {index} for identical rows of X",
                "the same label for the same sample",
            )


def _canonical(array: NDArray[Any]) -> NDArray[Any]:
    """Return the one array that stands for these values: int8 where they fit exactly, else float64 without -0.0."""
    if array.dtype == np.int8:
        return array
    if (np.abs(array) <= 127).all() and (array == np.rint(array)).all():
        return array.astype(np.int8)
    return array + 0.0
