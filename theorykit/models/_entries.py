"""Few entries of a product of matrices, and the gradients of such entries: far cheaper than the whole product."""

from __future__ import annotations

from numba import float64, int64, types, void

from theorykit._numerics.compile import compiled

_MATRIX, _VECTOR = float64[:, ::1], float64[::1]
_FACTOR, _PLACES, _WEIGHTS = (  # read only: directions of models are
    types.Array(dtype, dimensions, "C", readonly=True) for dtype, dimensions in ((float64, 2), (int64, 1), (float64, 1))
)


@compiled(void(_FACTOR, _FACTOR, _PLACES, _PLACES, float64, _VECTOR), nogil=True, fastmath={"reassoc", "contract"})
def add_products(A, B, rows, columns, factor, out):
    """Add factor <A[rows[k]], B[columns[k]]> to out[k]."""
    for k in range(out.size):
        i, j = rows[k], columns[k]
        total = 0.0
        for r in range(A.shape[1]):
            total += A[i, r] * B[j, r]
        out[k] += factor * total


@compiled(void(_FACTOR, _PLACES, _PLACES, float64, _WEIGHTS, _MATRIX), nogil=True)
def add_rows(A, taken, given, factor, weights, out):
    """Add factor weights[k] A[taken[k]] to out[given[k]]."""
    for k in range(weights.size):
        i, j = taken[k], given[k]
        weight = factor * weights[k]
        for r in range(A.shape[1]):
            out[j, r] += weight * A[i, r]
