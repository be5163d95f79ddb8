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
from theorykit._numerics.validate import choice, class_numbers, integer, matrix, shown, signs, text, vector
from theorykit.datasets.files import read_csv, read_npz

Task = Literal["classification", "regression", "multiclass"]
Points = tuple[NDArray[Any], NDArray[Any]]

TASKS: tuple[Task, ...] = ("classification", "regression", "multiclass")

_MOST_CLASSES = 2**53  # class numbers that floats can tell apart
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
        X : ndarray of int8, int64, float32 or float64, shape (m, d)
            Features; int8 holds +-1 only, int64 indices or symbols, float32 are generated Gaussian points.
        y : ndarray of float64 or int64, shape (m,)
            Labels; class numbers are int64.

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

    Build one with a generator (`sparse_sign`, `matrix_completion`, `modular`, `digits`, ...) or with `from_arrays`,
    `from_npz`, `from_csv`, which check what they are given.

    Attributes
    ----------
    X : ndarray, shape (n, d)
        Samples in rows, read-only and C-contiguous: int8 where it was generated or given as int8 with entries +-1,
        int64 where a generator makes indices (`matrix_completion`) or symbols (`modular`), float64 otherwise.
    y : ndarray, shape (n,)
        Labels +-1 (classification) or real targets (regression), float64, or class numbers (multiclass), int64;
        read-only.
    task : {"classification", "regression", "multiclass"}
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
        The linear rule w* that generated the labels, where there is one; of `matrix_completion` the whole matrix.
    classes : int or None
        Number of classes (multiclass only): `y` is in 0, ..., classes - 1.
    weights : ndarray of float64, shape (n,), or None
        How often each sample was observed, where some were more than once: the mean loss over samples is then
        sum_i weights_i loss_i / sum_i weights_i. None for ones.

    Examples
    --------
    >>> data = Dataset.from_arrays([[1.0, 2.0], [3.0, -1.0]], [1, -1])
    >>> data.n, data.d, data.task
    (2, 2, 'classification')
    """

    X: NDArray[Any] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    task: Task
    name: str
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    test: TestSet | None = None
    truth: NDArray[np.float64] | None = field(default=None, repr=False)
    classes: int | None = None
    weights: NDArray[np.float64] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for array in (self.X, self.y, self.truth, self.weights):
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
        """SHA-256 (hex) of the values and shape of `X`, `y` and `weights`; copies of other types agree.

        The test points are not part of it: they do not move a flow.
        """
        digest = hashlib.sha256(f"theorykit dataset {self.n} {self.d} {self.task}".encode())
        digest.update(_canonical(self.X).data)
        digest.update(_canonical(self.y).data)
        if self.weights is not None:
            digest.update(b"weights" + _canonical(self.weights).tobytes())
        if self.classes is not None:
            digest.update(f"classes {self.classes}".encode())
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
        classes: int | None = None,
    ) -> Self:
        """Check the user's own arrays and copy them into a data set.

        Parameters
        ----------
        X : array_like, shape (n, d)
            Samples in rows; int8 with entries +-1 stays int8, everything else becomes float64.
        y : array_like, shape (n,)
            Labels +-1, finite real targets for ``task="regression"``, or class numbers from 0 for
            ``task="multiclass"``. One class alone is legal.
        X_test, y_test : array_like, shapes (m, d) and (m,), optional
            Test points; both or neither.
        name : str
            Name shown in results.
        task : {"classification", "regression", "multiclass"}
            What `y` means.
        classes : int, optional
            Number of classes, at least 2 (multiclass only); default: one more than the largest in `y`.

        Returns
        -------
        Dataset

        Raises
        ------
        InputError
            Empty or non-finite arrays, wrong shapes or lengths, labels other than +-1, class numbers that are no
            integers or out of range, or two identical samples with different labels.

        Examples
        --------
        >>> Dataset.from_arrays([[1, 1], [1, 1]], [1, -1])
        Traceback (most recent call last):
        theorykit._numerics.errors.InputError: y: got 1 at index 0 and -1 at index 1 for identical rows of X; wanted the same label for the same sample
        """  # noqa: E501 - a message is one line
        choice("task", task, list(TASKS))
        text("name", name)
        if task == "multiclass":
            classes = (
                _number_of_classes(y)
                if classes is None
                else integer("classes", classes, minimum=2, maximum=_MOST_CLASSES)
            )
        elif classes is not None:
            raise InputError("classes", shown(classes), "None: only task='multiclass' has class numbers")
        features, labels = _checked("X", X, "y", y, classes, task)
        _refuse_contradictions(features, labels)
        test = _checked_test(X_test, y_test, features.shape[1], classes, task)
        return cls(features, labels, task, name, test=test, classes=classes)

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str], *, task: Task = "classification") -> Self:
        """Read an ``.npz`` file with the arrays ``X`` and ``y``, and optionally ``X_test`` and ``y_test``.

        Parameters
        ----------
        path : path
            A file written by `numpy.savez` or `numpy.savez_compressed`. Pickled objects are never loaded.
        task : {"classification", "regression", "multiclass"}
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
        task : {"classification", "regression", "multiclass"}
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


def stored(X: NDArray[Any], y: NDArray[Any]) -> TestSet:
    """Return a test set over arrays that are in memory anyway."""
    X.flags.writeable = y.flags.writeable = False
    return TestSet(X.shape[0], X.shape[1], partial(_read_stored, X, y))


def _read_stored(X: NDArray[Any], y: NDArray[Any], start: int, stop: int) -> Points:
    return X[start:stop], y[start:stop]


def _checked(X_name: str, X: ArrayLike, y_name: str, y: ArrayLike, classes: int | None, task: Task) -> Points:
    """Return own copies of `X` and `y`, checked and in their working types."""
    features = matrix(X_name, X)
    plus_minus_one = features.dtype == np.int8 and bool((np.abs(features) == 1).all())
    n = features.shape[0]
    if classes is not None:
        labels: NDArray[Any] = class_numbers(y_name, y, classes, length=n)
    else:
        labels = (signs if task == "classification" else vector)(y_name, y, length=n)
    return np.array(features, dtype=np.int8 if plus_minus_one else np.float64, order="C"), np.array(labels)


def _number_of_classes(y: ArrayLike) -> int:
    return max(2, int(vector("y", y).max(initial=0.0)) + 1)


def _checked_test(
    X_test: ArrayLike | None, y_test: ArrayLike | None, d: int, classes: int | None, task: Task
) -> TestSet | None:
    if X_test is None and y_test is None:
        return None
    if X_test is None or y_test is None:
        missing = "X_test" if X_test is None else "y_test"
        raise InputError(missing, "None", "both X_test and y_test, or neither")
    features, labels = _checked("X_test", X_test, "y_test", y_test, classes, task)
    if features.shape[1] != d:
        raise InputError("X_test", f"{features.shape[1]} features", f"{d}, as in X")
    return stored(features, labels)


def _refuse_contradictions(X: NDArray[Any], y: NDArray[Any]) -> None:
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
