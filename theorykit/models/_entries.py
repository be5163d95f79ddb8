"""Few entries of a product of matrices, and the gradients of such entries: far cheaper than the whole product."""

from __future__ import annotations

from numba import float64, int64, types, void

from theorykit._numerics.compile import compiled

_MATRIX, _VECTOR = float64[:, ::1], float64[::1]
_FACTOR, _PLACES, _WEIGHTS = (  # read only: directions of models are
    types.Array(dtype, dimensions, "C", readonly=True) for dtype, dimensions in ((float64, 2), (int64, 1), (float64, 1))
)


_FAST = {"reassoc", "contract"}


@compiled(fastmath=_FAST)
def _product(A, i, B, j):
    total = 0.0
    for r in range(A.shape[1]):
        total += A[i, r] * B[j, r]
    return total


@compiled()
def _add_row(weight, A, i, out, j):
    for r in range(A.shape[1]):
        out[j, r] += weight * A[i, r]


@compiled(void(_FACTOR, _FACTOR, _PLACES, _PLACES, _VECTOR), nogil=True)
def products(A, B, rows, columns, out):
    """Write <A[rows[k]], B[columns[k]]> to out[k]."""
    for k in range(out.size):
        out[k] = _product(A, rows[k], B, columns[k])


@compiled(void(_FACTOR, _FACTOR, _PLACES, _PLACES, _VECTOR), nogil=True)
def symmetric_products(U, V, rows, columns, out):
    """Write the entries of U U^T - V V^T to out."""
    for k in range(out.size):
        i, j = rows[k], columns[k]
        out[k] = _product(U, i, U, j) - _product(V, i, V, j)


@compiled(void(_FACTOR, _FACTOR, _PLACES, _PLACES, _WEIGHTS, _MATRIX, _MATRIX), nogil=True)
def gradients(A, B, rows, columns, weights, of_A, of_B):
    """Write the gradients of sum_k weights[k] <A[rows[k]], B[columns[k]]>."""
    of_A[:] = 0.0
    of_B[:] = 0.0
    for k in range(weights.size):
        i, j = rows[k], columns[k]
        _add_row(weights[k], B, j, of_A, i)
        _add_row(weights[k], A, i, of_B, j)


@compiled(void(_FACTOR, _FACTOR, _PLACES, _PLACES, _WEIGHTS, _MATRIX, _MATRIX), nogil=True)
def symmetric_gradients(U, V, rows, columns, weights, of_U, of_V):
    """Write the gradients of the sum of entries of U U^T - V V^T with these weights."""
    of_U[:] = 0.0
    of_V[:] = 0.0
    for k in range(weights.size):
        i, j, weight = rows[k], columns[k], weights[k]
        _add_row(weight, U, j, of_U, i)
        _add_row(weight, U, i, of_U, j)
        _add_row(-weight, V, j, of_V, i)
        _add_row(-weight, V, i, of_V, j)
