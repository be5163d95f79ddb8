"""What is observed of a matrix: entries or general linear measurements, checked, merged, hashed and enclosed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from theorykit._numerics.errors import InconsistentError, InputError
from theorykit._numerics.rounding import (
    Floats,
    column_products,
    down,
    norm_upper,
    pairing_bounds,
    row_products,
    scale_rows,
    shift,
    up,
)
from theorykit._numerics.spectral import (
    nuclear_norm_upper,
    operator_norm_upper,
    smallest_singular_value_lower,
)
from theorykit._numerics.validate import affordable, numeric, shown, vector
from theorykit.programs._sealed import digest

_NEARLY_DEPENDENT = 1e-9
LARGEST = 1e150
"""Numbers up to it, and down to one over it, have squares in the float range."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Distinct observations of a p x q matrix W: entries W[index], or measurements <matrices_k, W>.

    `counts` says how many given observations each stands for. Symmetric: over symmetric W, indices with i <= j.
    """

    shape: tuple[int, int]
    symmetric: bool
    values: Floats
    counts: Floats
    index: NDArray[np.int64] | None
    matrices: Floats | None

    def __len__(self) -> int:
        return len(self.values)

    def of(self, W: Floats) -> Floats:
        """Return what is observed of W, to round-off."""
        if self.index is not None:
            return np.asarray(W[self.index[:, 0], self.index[:, 1]])
        assert self.matrices is not None
        return np.asarray(self._flat() @ W.ravel())

    def adjoint(self, dual: Floats) -> Floats:
        """Return S = sum_k dual_k A_k, symmetric where the program is; exact for entries."""
        if self.index is None:
            lower, upper = self._adjoint_bounds(dual)
            return 0.5 * lower + 0.5 * upper
        S = np.zeros(self.shape)
        i, j = self.index.T
        if self.symmetric:
            S[i, j] = S[j, i] = np.where(i == j, dual, 0.5 * dual)
        else:
            S[i, j] = dual
        return S

    def adjoint_norm_upper(self, dual: Floats) -> float:
        """Bound the operator norm of S = sum_k dual_k A_k."""
        S = self.adjoint(dual)
        if self.index is not None:
            return operator_norm_upper(S)
        lower, upper = self._adjoint_bounds(dual)
        radius = up(np.maximum(up(upper - S), up(S - lower)))
        return float(up(operator_norm_upper(S) + norm_upper(radius.ravel(), 2)))

    def _adjoint_bounds(self, dual: Floats) -> tuple[Floats, Floats]:
        assert self.matrices is not None
        lower, upper = column_products(scale_rows(self._flat()), dual)
        return lower.reshape(self.shape), upper.reshape(self.shape)

    def pairing_lower(self, dual: Floats) -> float:
        """Bound <values, dual> from below."""
        return pairing_bounds(self.values, dual)[0]

    def feasible_norm_upper(self, W: Floats) -> float:
        """Bound the nuclear norm of W, or of the nearest matrix with the observed values; inf where W is not near one.

        With entries W must have the values exactly. The matrix W + D nearest to W in the affine space of general
        measurements has ``||D||_F <= ||residual|| / (smallest singular value of the measurements)``.
        """
        if self.symmetric and not (W == W.T).all():
            return math.inf
        if self.index is not None or not len(self):
            return nuclear_norm_upper(W) if (self.of(W) == self.values).all() else math.inf
        return float(up(nuclear_norm_upper(W) + up(up(math.sqrt(min(self.shape))) * self.missing(W))))

    def missing(self, W: Floats) -> float:
        """Bound the Frobenius norm of what general measurements still ask to be added to W."""
        rows = scale_rows(self._flat())
        lower, upper = row_products(rows, W.ravel())
        residual = up(np.maximum(np.abs(up(upper - self.values)), np.abs(down(lower - self.values))))
        smallest = self.smallest_singular_value()
        return float(up(norm_upper(up(shift(residual, -rows.exponents)), 2) / smallest)) if smallest > 0.0 else math.inf

    def smallest_singular_value(self) -> float:
        """Bound the smallest singular value of the measurements from below, their rows scaled as `scale_rows` does."""
        return smallest_singular_value_lower(np.asarray(scale_rows(self._flat()).values, dtype=np.float64).T)

    def _flat(self) -> Floats:
        assert self.matrices is not None
        return self.matrices.reshape(len(self), self.shape[0] * self.shape[1])

    def data_hash(self) -> str:
        """Return the SHA-256 of the observations: their kind, places, values and counts."""
        where = {"index": self.index} if self.matrices is None else {"matrices": self.matrices + 0.0}
        parts = {"values": self.values + 0.0, "counts": self.counts} | where  # + 0.0: no negative zeros
        return digest("observations", shape=str(self.shape), symmetric=self.symmetric, **parts)


def checked_observations(observed: ArrayLike, values: ArrayLike, shape: Any, symmetric: bool) -> Observed:
    """Return the observations in canonical form: sorted, repeats merged, dependent measurements left out."""
    array = numeric("observed", observed)
    b = vector("values", values)
    if array.ndim not in (2, 3) or array.dtype.kind not in "iuf" or (array.ndim == 2 and array.shape[1] != 2):
        raise InputError("observed", f"shape {array.shape} of {array.dtype}", _WANTED)
    if len(array) != len(b) or len(b) == 0:
        raise InputError("values", f"{len(b)} values for {len(array)} observations", "as many, and at least one")
    if array.ndim == 3:
        return _measurements(array.astype(np.float64), b, shape, symmetric)
    return _entries(array, b, _checked_shape(shape, symmetric), symmetric)


def check_squares(values: Floats) -> None:
    """Raise `InputError` for values whose mean square leaves the float range."""
    size = float(np.abs(values).max())
    if size != 0.0 and not 1.0 / LARGEST <= size <= LARGEST:
        raise InputError("values", f"values up to {size:g}", f"sizes from {1.0 / LARGEST:g} to {LARGEST:g}, or zeros")


_WANTED = "integer indices of shape (m, 2), or measurement matrices of shape (m, p, q)"


def _checked_shape(shape: Any, symmetric: bool) -> tuple[int, int]:
    sizes = np.atleast_1d(np.asarray(shape, dtype=object))
    good = all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) and s > 0 for s in sizes)
    if len(sizes) not in (1, 2) or not good or (symmetric and sizes[0] != sizes[-1]):
        wanted = "d" if symmetric else "d or (p, q)"
        raise InputError("shape", shown(shape), f"the size of the matrix, {wanted}, in positive integers")
    rows, columns = int(sizes[0]), int(sizes[-1])
    affordable("shape", max(rows, columns), 8 * rows * columns)
    return rows, columns


def _entries(index: NDArray[Any], b: Floats, shape: tuple[int, int], symmetric: bool) -> Observed:
    if index.dtype.kind == "f" and not (index == np.rint(index)).all():
        raise InputError("observed", "indices that are no integers", _WANTED)
    outside = np.flatnonzero(((index < 0) | (index >= np.array(shape))).any(axis=1))
    if outside.size:
        k = int(outside[0])
        got = f"index ({index[k, 0]}, {index[k, 1]}) at observation {k}"
        raise InputError("observed", got, f"indices inside a matrix of shape {shape}")
    places = index.astype(np.int64)
    if symmetric:
        places = np.sort(places, axis=1)
    distinct, first, which, counts = np.unique(
        places, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    wrong = np.flatnonzero(b != b[first[which.ravel()]])
    if wrong.size:
        k, j = int(wrong[0]), int(first[which.ravel()[wrong[0]]])
        proof = np.array([Fraction(0)] * len(b), dtype=object)
        proof[j], proof[k] = _opposite(Fraction(float(b[j])), Fraction(float(b[k])))
        named = [f"({index[o, 0]}, {index[o, 1]}) = {float(b[o])!r} (observation {o})" for o in (j, k)]
        wanted = "one value for each entry" + (", (i, j) and (j, i) being one" if symmetric else "")
        raise InconsistentError(
            "values", f"{named[0]} and {named[1]}, which contradict each other", wanted, proof, _involved(proof)
        )
    return Observed(shape, symmetric, b[first], counts.astype(np.float64), distinct, None)


def _opposite(first: Fraction, second: Fraction) -> tuple[Fraction, Fraction]:
    """Return t, -t with t (first - second) = 1."""
    weight = 1 / (first - second)
    return weight, -weight


def _measurements(matrices: Floats, b: Floats, shape: Any, symmetric: bool) -> Observed:
    if matrices.shape[1] == 0 or matrices.shape[2] == 0 or not np.isfinite(matrices).all():
        raise InputError("observed", "an empty matrix or one with entries that are not finite", _WANTED)
    sizes = np.abs(matrices).max(axis=(1, 2))
    far = np.flatnonzero((sizes > LARGEST) | ((sizes > 0.0) & (sizes < 1.0 / LARGEST)))
    if far.size:
        got = f"a matrix of size {sizes[far[0]]:g} (observation {far[0]})"
        raise InputError("observed", got, f"sizes from {1.0 / LARGEST:g} to {LARGEST:g}")
    found = (matrices.shape[1], matrices.shape[2])
    if shape is not None and _checked_shape(shape, symmetric) != found:
        raise InputError("shape", shown(shape), f"{found}, the shape of the measurement matrices, or nothing")
    if symmetric and not (found[0] == found[1] and (matrices == matrices.transpose(0, 2, 1)).all()):
        raise InputError("observed", "measurement matrices that are not symmetric", "symmetric ones: (A + A.T)/2")
    everything = Observed(found, symmetric, b, np.ones(len(b)), None, matrices)
    if everything.smallest_singular_value() > _NEARLY_DEPENDENT:
        return everything
    kept = _independent(matrices.reshape(len(b), -1), b)
    return Observed(found, symmetric, b[kept], np.ones(len(kept)), None, matrices[kept])


def _independent(flat: Floats, b: Floats) -> NDArray[np.intp]:
    """Return independent rows of the measurements, by exact arithmetic; raise if the others contradict them."""
    import flint

    integers, scales = _whole_numbers(flat)
    basis, nullity = flint.fmpz_mat(integers).transpose().nullspace()
    for column in range(nullity):
        weights = [int(basis[k, column]) * scale for k, scale in enumerate(scales)]
        total = sum(w * Fraction(float(v)) for w, v in zip(weights, b, strict=True))
        if total != 0:
            proof = np.array([w / total for w in weights], dtype=object)
            names = ", ".join(str(k) for k in np.flatnonzero(proof != 0)[:6])
            got = f"measurements that contradict one another (observations {names})"
            raise InconsistentError(
                "values", got, "values that some matrix has: see the proof of this error", proof, _involved(proof)
            )
    rows = scale_rows(flat).values
    pivots = qr(np.asarray(rows, dtype=np.float64).T, mode="r", pivoting=True)[1]
    return np.sort(pivots[: len(b) - nullity])


def _whole_numbers(flat: Floats) -> tuple[list[list[int]], list[Fraction]]:
    """Return every row times a power of two of its own, in integers, and those powers."""
    rows, scales = [], []
    for row in flat:
        exact = [Fraction(float(value)) for value in row]
        scale = math.lcm(*(value.denominator for value in exact))
        rows.append([int(value * scale) for value in exact])
        scales.append(Fraction(scale))
    return rows, scales


def _involved(proof: NDArray[np.object_]) -> tuple[int, ...]:
    """Return the indices of the observations that a proof of inconsistency uses."""
    return tuple(int(k) for k in np.flatnonzero(proof != 0))
