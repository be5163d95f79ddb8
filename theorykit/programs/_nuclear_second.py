"""Two optima of a nuclear-norm program, in rational arithmetic: the proof that neither is the only one.

With S = sum_k s_k A_k rational and ``I - S^T S`` positive semidefinite, W is optimal if it has the observed values,
``S^T W`` is symmetric positive semidefinite and ``S S^T W = W``: then ``<S, W> = ||W||_*``. The equations are linear in
W, and solved exactly.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.rounding import Floats
from theorykit._numerics.spectral import singular_bounds
from theorykit.programs._nuclear_data import Observed
from theorykit.programs._pair import Uniqueness

if TYPE_CHECKING:
    from theorykit.programs.nuclear import NuclearCertificate

_LARGEST_EXACT = 12


def second_optimum(data: Observed, c: NuclearCertificate) -> Uniqueness | None:
    """Exhibit two optima, or return None."""
    if c.weight_decay is not None or data.index is None or max(data.shape) > _LARGEST_EXACT:
        return None
    direction = _unseen(data, c.dual)
    if direction is None:
        return None
    S = _simple(data.adjoint(c.dual))
    if not _semidefinite(_identity(len(S[0])) - S.T @ S):
        return None
    optima = _Optima(data, S)
    first = optima.near(c.W)
    if first is None:
        return None
    step = 2.0 ** math.floor(math.log2(float(np.abs(c.W).max()) / float(np.abs(direction).max())))
    for halvings in range(2, 9):
        for sign in (1.0, -1.0):
            second = optima.near(c.W + sign * step * 2.0**-halvings * direction)
            if second is not None and (first != second).any() and all(_attains(data, S, W) for W in (first, second)):
                reason = "two optima, checked in rational arithmetic; the second is in `alternative`"
                return Uniqueness("disproved", reason, second.astype(np.float64))
    return None


def _unseen(data: Observed, dual: Floats) -> Floats | None:
    """Return a matrix of the face that the observations do not see, if there is one."""
    found = singular_bounds(data.adjoint(dual))
    near = found.values > 1.0 - 1e-6
    U, V = found.U[:, near], found.V[:, near]
    seen = face_observed(data, U, V)
    if seen.shape[1] == 0:
        return None
    _, singular, rows = np.linalg.svd(seen)
    if len(singular) == seen.shape[1] and singular[-1] > 1e-6:
        return None
    a, b = np.triu_indices(U.shape[1])
    if data.symmetric:
        signs = np.sign(np.sum(U * V, axis=0))
        a, b = a[signs[a] == signs[b]], b[signs[a] == signs[b]]
    core = np.zeros((U.shape[1], U.shape[1]))
    core[a, b] = rows[-1]
    return np.asarray(U @ (core + core.T) @ V.T)


class _Optima:
    """The matrices with the observed values, S^T W symmetric and S S^T W = W: an affine space, by exact elimination."""

    def __init__(self, data: Observed, S: NDArray[np.object_]) -> None:
        import flint

        assert data.index is not None
        p, q = data.shape
        known = np.full((p, q), None, dtype=object)
        for (i, j), value in zip(data.index, data.values, strict=True):
            known[i, j] = Fraction(float(value))
            if data.symmetric:
                known[j, i] = known[i, j]
        self.known, self.symmetric = known, data.symmetric
        self.places = [(i, j) for i, j in np.argwhere(known == None) if i <= j or not data.symmetric]  # noqa: E711
        number = {place: k for k, place in enumerate(self.places)}
        projected = S @ S.T - _identity(p)
        sums = [[(projected[i, k], k, j) for k in range(p)] for i in range(p) for j in range(q)]
        sums += [
            [part for k in range(p) for part in ((S[k, i], k, j), (-S[k, j], k, i))] for i in range(q) for j in range(i)
        ]
        rows = []
        for terms in sums:
            row = [Fraction(0)] * (len(self.places) + 1)
            for weight, i, j in terms:
                place = (min(i, j), max(i, j)) if data.symmetric else (i, j)
                if known[i, j] is None:
                    row[number[place]] += weight
                else:
                    row[-1] -= weight * known[i, j]
            rows.append([flint.fmpq(v.numerator, v.denominator) for v in row])
        self.reduced, self.rank = flint.fmpq_mat(rows).rref()

    def near(self, W: Floats) -> NDArray[np.object_] | None:
        """Return the one whose free entries are simple fractions near those of W; None if there is none."""
        size = len(self.places)
        entries: list[Any] = [Fraction(float(W[place])).limit_denominator(2**20) for place in self.places]
        table = [[Fraction(int(v.p), int(v.q)) for v in row] for row in self.reduced.tolist()[: self.rank]]
        for row in table:
            pivot = next(k for k, value in enumerate(row) if value)
            if pivot == size:
                return None
            entries[pivot] = row[-1] - sum(
                (value * entries[k] for k, value in enumerate(row[:-1]) if value and k != pivot), Fraction(0)
            )
        found = self.known.copy()
        for (i, j), value in zip(self.places, entries, strict=True):
            found[i, j] = value
            if self.symmetric:
                found[j, i] = value
        return found


def face_observed(data: Observed, U: Floats, V: Floats) -> Floats:
    """Return the observations of an orthonormal basis of {U H V^T: H symmetric}, shape (m, size)."""
    a, b = np.triu_indices(U.shape[1])
    if data.symmetric:  # only pairs of equal signs give symmetric matrices
        signs = np.sign(np.sum(U * V, axis=0))
        same = signs[a] == signs[b]
        a, b = a[same], b[same]
    factor = np.where(a == b, 0.5, math.sqrt(0.5))
    if data.index is not None:
        i, j = data.index.T
        return np.asarray((U[i][:, a] * V[j][:, b] + U[i][:, b] * V[j][:, a]) * factor)
    assert data.matrices is not None
    cores = U.T @ data.matrices @ V
    return np.asarray((cores[:, a, b] + cores[:, b, a]) * factor)


def _simple(matrix: Floats) -> NDArray[np.object_]:
    """Return nearby fractions with small denominators."""
    flat = [Fraction(float(value)).limit_denominator(64) for value in matrix.ravel()]
    return np.array(flat, dtype=object).reshape(matrix.shape)


def _identity(n: int) -> NDArray[np.object_]:
    return np.array([[Fraction(int(i == j)) for j in range(n)] for i in range(n)], dtype=object)


def _attains(data: Observed, S: NDArray[np.object_], W: NDArray[np.object_]) -> bool:
    """Whether W has the observed values and <S, W> = ||W||_*, exactly."""
    assert data.index is not None
    i, j = data.index.T
    wanted = [Fraction(float(value)) for value in data.values]
    if list(W[i, j]) != wanted or (data.symmetric and (W != W.T).any()):
        return False
    size = S.T @ W
    return bool((size == size.T).all() and (S @ size == W).all()) and _semidefinite(size)


def _semidefinite(matrix: NDArray[np.object_]) -> bool:
    """Whether a symmetric matrix of fractions is positive semidefinite, by exact elimination."""
    A = matrix.copy()
    for k in range(len(A)):
        if A[k, k] < 0 or (A[k, k] == 0 and any(A[k, k + 1 :] != 0)):
            return False
        if A[k, k] != 0:
            A[k + 1 :, k + 1 :] -= np.outer(A[k + 1 :, k], A[k, k + 1 :]) / A[k, k]
    return True
