"""What labels ask of a predictor: y f >= 1 for signs, f_y - f_j >= 1 for the other classes j of class numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import UNIT, Floats, down, up
from theorykit._numerics.validate import vector


class Constraints(NamedTuple):
    """The margins are ``differences @ f``, f the outputs (n, c) laid out flat, samples first (c = 1 for signs).

    Attributes
    ----------
    labels : ndarray, shape (n,)
        +1 and -1, or 0 .. c-1.
    classes : int
        c; 1 for signs.
    samples : ndarray of int, shape (m,)
        The sample of each constraint.
    others : ndarray of int, shape (m,)
        The class j that each constraint compares with; 0 for signs.
    differences : sparse array, shape (m, n c)
        Entries 1 and -1.
    """

    labels: Floats
    classes: int
    samples: NDArray[np.intp]
    others: NDArray[np.intp]
    differences: Any

    def margins(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Enclose the margins of outputs that lie between two flat vectors."""
        plus, minus = self.differences.maximum(0), (-self.differences).maximum(0)
        return down(plus @ lower - minus @ upper), up(plus @ upper - minus @ lower)

    def adjoint(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return ``differences^T weights``, flat, and a bound on its rounding errors."""
        total = self.differences.T @ weights
        return total, up(2.0 * self.classes * UNIT * (abs(self.differences).T @ np.abs(weights)))

    def rows(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the features of the constraints: y_i x_i, or x_i (x) (e_{y_i} - e_j), shape (m, c d), class first."""
        wide = X.astype(np.float64) if X.dtype == np.int8 and X.min() == -128 else X  # -128 has no negative
        if self.classes == 1:
            return wide * self.labels.astype(wide.dtype)[:, None]
        out = np.zeros((len(self.samples), self.classes, X.shape[1]), dtype=wide.dtype)
        places = np.arange(len(out))
        out[places, self.labels[self.samples].astype(np.intp)] = wide[self.samples]
        out[places, self.others] = -wide[self.samples]
        return out.reshape(len(out), -1)

    def gram(self, values: Floats, shared: bool) -> Floats:
        """Return the inner products of the constraints' features from those of the outputs.

        `shared` says that all classes have the same features, with Gram matrix (n, n); they are exact then.
        """
        if self.classes == 1:
            return self.labels[:, None] * values * self.labels
        if not shared:
            half = self.differences @ values
            G = (self.differences @ half.T).T
            return 0.5 * (G + G.T)
        directions = np.zeros((len(self.samples), self.classes))
        places = np.arange(len(directions))
        directions[places, self.labels[self.samples].astype(np.intp)] = 1.0
        directions[places, self.others] = -1.0
        return np.asarray(values[np.ix_(self.samples, self.samples)] * (directions @ directions.T))


def of_labels(y: ArrayLike, n: int, outputs: int | None = None) -> Constraints:
    """Return the constraints of n labels; `outputs` is the number of outputs that features or model have, if they do.

    Raises
    ------
    InputError
        Labels that are neither all signs nor all class numbers 0 .. c-1 (as many classes as outputs).
    """
    labels = vector("y", y, length=n)
    if outputs in (None, 1) and (np.abs(labels) == 1.0).all() and (outputs == 1 or (labels < 0).any() or _ones(labels)):
        return _signs(labels)
    wrong = np.flatnonzero((labels < 0) | (labels != np.rint(labels)))
    limit = 0 if outputs == 1 else outputs
    if limit is not None and not wrong.size:
        wrong = np.flatnonzero(labels >= limit)
    if wrong.size:
        names = "" if limit == 0 else f"a class number 0 .. {'c-1' if limit is None else limit - 1}"
        wanted = " or ".join(filter(None, ("every label +1 or -1" if outputs in (None, 1) else "", names)))
        raise InputError("y", f"{labels[wrong[0]]:g} at index {wrong[0]}", wanted)
    classes = int(labels.max()) + 1 if outputs is None else outputs
    if classes < 2:
        raise InputError("y", "class 0 only", "labels +1 and -1, or at least two classes")
    return _classes(labels, classes)


def _ones(labels: Floats) -> bool:
    """Whether all labels are 1: one class alone of the two signs."""
    return bool((labels == 1.0).all())


def _signs(labels: Floats) -> Constraints:
    n = len(labels)
    everyone = np.arange(n)
    return Constraints(labels, 1, everyone, np.zeros(n, dtype=np.intp), sparse.diags_array(labels).tocsr())


def _classes(labels: Floats, classes: int) -> Constraints:
    n = len(labels)
    own = labels.astype(np.intp)
    samples, others = np.nonzero(np.arange(classes)[None, :] != own[:, None])
    places = np.arange(len(samples))
    entries = np.concatenate((np.ones(len(samples)), -np.ones(len(samples))))
    columns = np.concatenate((samples * classes + own[samples], samples * classes + others))
    matrix = sparse.csr_array((entries, (np.tile(places, 2), columns)), shape=(len(samples), n * classes))
    return Constraints(labels, classes, samples, others, matrix)
