"""Proved bounds on eigenvalues, singular values and their norms, for dense matrices in double precision.

LAPACK proposes a decomposition; a bound on what it misses makes it a proof. Let Q be nearly orthogonal with
``||Q^T Q - I|| <= e`` and ``S Q = Q D + R``. Then ``S - Q D Q^T = S (I - Q Q^T) + R Q^T`` is small, and the eigenvalues
of ``Q D Q^T`` are those of D up to factors in [1 - e, 1 + e] (Ostrowski's theorem). What makes the bounds
tight (about n times the round-off, relative to the largest eigenvalue) is that the two residuals are computed to more
than double precision: the leading bits of the factors are split off so that their product is free of rounding (Ozaki,
Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication", Numer. Algorithms 59, 2012).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import UNIT, Floats, shift, shift_down, up

_UNDERFLOW = 2.0**-900
"""More than all the underflow in one entry of a product of scaled matrices."""

_TOO_SKEW = 0.25
"""A computed basis farther than this from orthogonal proves nothing here."""


def product_bounds(A: Floats, B: Floats) -> tuple[Floats, Floats]:
    """Enclose a product of two matrices, in about twice the precision of the working arithmetic where it cancels.

    Parameters
    ----------
    A : ndarray, shape (m, n)
        Entries at most 1 in absolute value, n < 2**40.
    B : ndarray, shape (n, k)
        Entries at most 1 in absolute value.

    Returns
    -------
    middle, radius : ndarray, shape (m, k)
        ``|A B - middle| <= radius``, entry by entry.

    Examples
    --------
    >>> middle, radius = product_bounds(np.array([[0.1, 0.3]]), np.array([[0.75], [-0.25]]))
    >>> abs(float(middle[0, 0])) < 1e-16, float(radius[0, 0]) < 1e-20
    (True, True)
    """
    n = A.shape[1]
    bits = (52 - math.ceil(math.log2(n + 1))) // 2
    A_high, B_high = _leading(A, bits), _leading(B, bits)
    exact = A_high @ B_high  # integers times 2**(-2 bits), their partial sums below 2**53: no rounding in any order
    first, second = A_high @ (B - B_high), (A - A_high) @ B
    rest = first + second
    middle = exact + rest
    # n products of numbers <= 1 and <= 2**-bits/2, twice, summed in any order, with or without fused multiply-add
    inner = 2.0 * (n + 2.0) ** 2 * UNIT * 2.0**-bits
    return middle, 4.0 * UNIT * np.abs(middle) + 4.0 * UNIT * np.abs(rest) + (inner + _UNDERFLOW)


def _leading(matrix: Floats, bits: int) -> Floats:
    """Return the entries rounded to multiples of 2**-bits; what is left is exact, too."""
    return np.asarray(np.rint(matrix * 2.0**bits) * 2.0**-bits, dtype=np.float64)


def eigenvalue_bounds(S: Floats) -> tuple[Floats, Floats]:
    """Enclose every eigenvalue of a symmetric matrix.

    Parameters
    ----------
    S : ndarray, shape (n, n)
        Finite, and symmetric to the last bit.

    Returns
    -------
    lower, upper : ndarray, shape (n,)
        The k-th smallest eigenvalue lies in ``[lower[k], upper[k]]``; the width is about n * 1e-16 times the largest
        absolute eigenvalue.

    Raises
    ------
    InputError
        S is not symmetric.

    Examples
    --------
    >>> lower, upper = eigenvalue_bounds(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> bool((lower <= [1.0, 3.0]).all() and (upper >= [1.0, 3.0]).all() and (upper - lower < 1e-13).all())
    True
    """
    if not _symmetric(S):
        raise InputError("S", f"a matrix of shape {S.shape} that differs from its transpose", "a symmetric matrix")
    scaled, exponent = _normalised(S)
    found = _eigen(scaled)
    radius = up(up(np.abs(found.values) * found.skew) + found.missed)
    lower, upper = -up(radius - found.values), up(radius + found.values)
    return shift_down(lower, exponent), -shift_down(-upper, exponent)


def smallest_eigenvalue_lower(S: Floats) -> float:
    """Bound the smallest eigenvalue of a symmetric matrix from below.

    Parameters
    ----------
    S : ndarray, shape (n, n)
        Finite, and symmetric to the last bit.

    Examples
    --------
    >>> -1e-14 < smallest_eigenvalue_lower(np.ones((2, 2))) <= 0.0
    True
    """
    return float(eigenvalue_bounds(S)[0][0])


def largest_eigenvalue_upper(S: Floats) -> float:
    """Bound the largest eigenvalue of a symmetric matrix from above.

    Parameters
    ----------
    S : ndarray, shape (n, n)
        Finite, and symmetric to the last bit.

    Examples
    --------
    >>> 2.0 <= largest_eigenvalue_upper(np.ones((2, 2))) < 2.0 + 1e-14
    True
    """
    return float(eigenvalue_bounds(S)[1][-1])


def operator_norm_upper(A: Floats) -> float:
    """Bound the largest singular value of a matrix from above.

    Parameters
    ----------
    A : ndarray, shape (p, q)
        Finite.

    Examples
    --------
    >>> 5.0 <= operator_norm_upper(np.array([[3.0], [4.0]])) < 5.0 + 1e-13
    True
    """
    if not A.any():
        return 0.0
    scaled, exponent = _normalised(A)
    found = _singular(scaled)
    bound = up(up(np.abs(found.values).max() * up(1.0 + found.skew)) + found.missed)
    return float(-shift_down(-bound, exponent))


def nuclear_norm_upper(A: Floats) -> float:
    """Bound the sum of the singular values of a matrix from above.

    Parameters
    ----------
    A : ndarray, shape (p, q)
        Finite.

    Examples
    --------
    >>> 4.0 <= nuclear_norm_upper(np.array([[2.0, 1.0], [1.0, 2.0]])) < 4.0 + 1e-13
    True
    """
    if not A.any():
        return 0.0
    scaled, exponent = _normalised(A)
    found = _singular(scaled)
    total = up(up(math.fsum(np.abs(found.values))) * up(1.0 + found.skew))
    spread = up(up(math.sqrt(min(A.shape))) * found.missed)  # ||E||_* <= sqrt(rank) ||E||_F
    return float(-shift_down(-up(total + spread), exponent))


def smallest_singular_value_lower(A: Floats, error: float = 0.0) -> float:
    """Bound the smallest singular value over the columns of a tall matrix from below, through its Gram matrix.

    Parameters
    ----------
    A : ndarray, shape (p, q)
        Finite, p >= q (otherwise the answer is 0). Values below about 1e-7 of the largest come out as 0.
    error : float
        The bound holds for every matrix within this Frobenius distance of A.

    Examples
    --------
    >>> 1.0 - 1e-12 < smallest_singular_value_lower(np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]])) / 2**0.5 <= 1.0
    True
    """
    if A.shape[0] < A.shape[1] or not A.any():
        return 0.0
    scaled, exponent = _normalised(A)
    middle, radius = product_bounds(scaled.T, scaled)
    gram = 0.5 * (middle + middle.T)
    square = smallest_eigenvalue_lower(gram) - up(_frobenius_upper(middle - gram, radius + UNIT * np.abs(middle)))
    value = math.sqrt(square) * (1.0 - 4.0 * UNIT) if square > 0.0 else 0.0
    return float(max(0.0, -up(error - shift_down(value, exponent))))


class SingularBounds(NamedTuple):
    """A computed singular value decomposition and what it may miss: see `singular_bounds`."""

    U: Floats
    values: Floats
    V: Floats
    skew: float
    missed: float


def singular_bounds(A: Floats) -> SingularBounds:
    """Return U, s, V with ``||A - U diag(s) V^T||_F <= missed``, U and V orthonormal up to `skew` (Frobenius norm).

    For a symmetric matrix the columns of U are those of V times the signs of the eigenvalues. The k-th largest singular
    value of A is within ``skew * s[k] + missed`` of ``s[k]``; U and V have min(p, q) columns.

    Examples
    --------
    >>> found = singular_bounds(np.array([[3.0, 0.0], [0.0, 4.0]]))
    >>> found.values, found.skew < 1e-13, found.missed < 1e-13
    (array([4., 3.]), True, True)
    """
    if not A.any():
        k = min(A.shape)
        return SingularBounds(np.eye(A.shape[0], k), np.zeros(k), np.eye(A.shape[1], k), 0.0, 0.0)
    scaled, exponent = _normalised(A)
    if _symmetric(scaled):
        both = _eigen(scaled)
        order = np.argsort(-np.abs(both.values))
        values, V = both.values[order], both.basis[:, order]
        missed = float(-shift_down(-both.missed, exponent))
        return SingularBounds(
            V * np.where(values < 0.0, -1.0, 1.0), shift(np.abs(values), exponent), V, both.skew, missed
        )
    flat = scaled.shape[0] < scaled.shape[1]
    U, values, transposed = np.linalg.svd(scaled.T if flat else scaled, full_matrices=False)
    found = _judged(scaled.T if flat else scaled, U, values, transposed.T)
    missed = float(-shift_down(-found.missed, exponent))
    U, V = (transposed.T, U) if flat else (U, transposed.T)
    return SingularBounds(U, shift(values, exponent), V, found.skew, missed)


class _Decomposition(NamedTuple):
    """``A = U diag(values) V^T + E``, ``||U|| ||V|| <= 1 + skew``, ``||E||_F <= missed`` (inf: unknown); basis is V."""

    values: Floats
    skew: float
    missed: float
    basis: Floats


def _eigen(S: Floats) -> _Decomposition:
    values, Q = np.linalg.eigh(S)
    return _judged(S, Q, values, Q)


def _singular(A: Floats) -> _Decomposition:
    """Decompose a matrix with entries below 1, by its eigenvalues where it is symmetric."""
    if _symmetric(A):
        return _eigen(A)
    tall = A if A.shape[0] >= A.shape[1] else A.T
    U, values, transposed = np.linalg.svd(tall, full_matrices=False)
    return _judged(tall, U, values, transposed.T)


def _judged(A: Floats, U: Floats, values: Floats, V: Floats) -> _Decomposition:
    """Bound what a computed decomposition misses, V square.

    With A V = U D + R and e at least ``||V^T V - I||_F`` (which is ``||V V^T - I||_F``) and ``||U^T U - I||_F``,
    ``||A - U D V^T||_F <= ||A|| e + ||R||_F (1 + e)`` and ``||A|| <= (max |D| (1 + e) + ||R||) / (1 - e)``.
    """
    skew = _defect(V) if U is V else max(_defect(U), _defect(V))
    if not skew < _TOO_SKEW:
        return _Decomposition(values, skew, math.inf, V)
    residual = _residual(A, U, values, V)
    stretched = up(1.0 + skew)
    norm = up(up(up(np.abs(values).max() * stretched) + residual) * up(1.0 + 2.0 * skew))  # 1/(1-e) <= 1 + 2e
    return _Decomposition(values, skew, float(up(up(up(norm * skew) + up(residual * stretched)) + _UNDERFLOW)), V)


def _defect(Q: Floats) -> float:
    """Bound ``||Q^T Q - I||_F``."""
    half = 0.5 * Q  # entries below 1, round-off or not
    middle, radius = product_bounds(half.T, half)
    return float(up(4.0 * _frobenius_upper(middle - 0.25 * np.eye(Q.shape[1]), radius + UNIT * np.abs(middle))))


def _residual(A: Floats, U: Floats, values: Floats, V: Floats) -> float:
    """Bound ``||A V - U diag(values)||_F``, as one product of blocks: the difference is taken before any rounding."""
    size = 2.0 ** (1 + max(1, int(np.frexp(np.abs(values).max())[1])))
    left, right = 0.5 * np.hstack((A, U)), np.vstack((V, np.diag(-values))) / size
    return float(up(2.0 * size * _frobenius_upper(*product_bounds(left, right))))


def _frobenius_upper(middle: Floats, radius: Floats) -> float:
    """Bound the Frobenius norm of any matrix in ``middle +- radius`` (radius so large that no square underflows)."""
    magnitudes = np.abs(middle) + radius
    return float(np.linalg.norm(magnitudes) * (1.0 + 4.0 * (magnitudes.size + 4.0) * UNIT))


def _symmetric(A: Floats) -> bool:
    return A.shape[0] == A.shape[1] and bool((A == A.T).all())


def _normalised(A: Floats) -> tuple[Floats, int]:
    """Return the matrix with its largest entry in [1/2, 1) and the power of two taken out."""
    exponent = int(np.frexp(np.abs(A).max(initial=0.0))[1])
    return shift(A, -exponent), exponent
