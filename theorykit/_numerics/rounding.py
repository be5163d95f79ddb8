"""Proved enclosures of matrix-vector products and norms in double precision, rounded outward.

Products are accumulated as unevaluated sums of two doubles (Dot2 of Ogita, Rump and Oishi, "Accurate sum and dot
product", SIAM J. Sci. Comput. 26, 2005): the error is of second order in the round-off, so that cancellation costs
little, and it has a proved bound. Powers of two, which are exact, are taken out first, so that neither 1e-300 nor 1e300
gets in the way.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.compile import compiled

Floats = NDArray[np.float64]

UNIT = 2.0**-53
"""Half the distance from 1 to the next double."""

_UNDERFLOW = 2.0**-1000
"""Far more than one product of numbers below 2**8 can lose by underflow."""

_SPLITTER = 2.0**27 + 1.0
_LANES = 64
_BLOCK = 1024


class Rows(NamedTuple):
    """A matrix as exact powers of two times rows of moderate size: row i is ``2**exponents[i] * values[i]``.

    int8 stays int8 with exponents 0; the rows of a float64 matrix get their largest entry into [1/2, 1). Entries below
    2**-1022 of that may underflow: the enclosures allow for it.
    """

    values: NDArray[Any]
    exponents: NDArray[np.int64]


def scale_rows(matrix: NDArray[Any]) -> Rows:
    """Take the powers of two out of the rows of an int8 or float64 matrix.

    Examples
    --------
    >>> scale_rows(np.array([[3.0, -8.0], [0.0, 0.0]])).exponents
    array([4, 0])
    """
    if matrix.dtype == np.int8:
        return Rows(matrix, np.zeros(len(matrix), dtype=np.int64))
    largest = np.maximum(matrix.max(axis=1), -matrix.min(axis=1))
    exponents = np.maximum(np.frexp(largest)[1], -1000).astype(np.int64)  # so that the factor is finite
    with np.errstate(under="ignore"):
        return Rows(matrix * shift(np.ones(len(matrix)), -exponents)[:, None], exponents)


def shift(values: Any, exponents: NDArray[np.int64] | int) -> Any:
    """Return ``values * 2**exponents`` to nearest; what leaves the float range becomes 0 or infinity, silently.

    Examples
    --------
    >>> float(shift(3.0, 4))
    48.0
    """
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, np.clip(exponents, -5000, 5000).astype(np.int32))


def down(value: Any) -> Any:
    """Return the next double below, elementwise."""
    return np.nextafter(value, -np.inf)


def up(value: Any) -> Any:
    """Return the next double above, elementwise."""
    return np.nextafter(value, np.inf)


def shift_down(values: Any, exponents: NDArray[np.int64] | int) -> Any:
    """Return a lower bound of ``values * 2**exponents``: the exact product where that is a normal double.

    Examples
    --------
    >>> float(shift_down(1.0, -3)), float(shift_down(1.0, 5000))
    (0.125, 1.7976931348623157e+308)
    """
    shifted = shift(values, exponents)
    magnitude = np.abs(shifted)
    exact = (magnitude > np.finfo(np.float64).tiny) & (magnitude < np.inf)
    return np.where(exact, shifted, down(shifted))


def _normalise(vector: Floats) -> tuple[Floats, int]:
    """Return the vector with its largest entry in [1/2, 1) and the power of two taken out."""
    exponent = int(np.frexp(np.abs(vector).max(initial=0.0))[1])
    return shift(vector, -exponent), exponent


@compiled(nogil=True)
def _row_sums(matrix: Any, vector: Any, heads: Any, tails: Any, sizes: Any) -> None:
    """Write matrix @ vector as heads + tails, and |matrix| @ |vector|; lanes vectorise without reordering any sum."""
    n, d = matrix.shape
    full = d - d % _LANES
    vector_high = _SPLITTER * vector
    vector_high = vector_high - (vector_high - vector)
    vector_low = vector - vector_high
    sums, errors, absolute = np.zeros(_LANES), np.zeros(_LANES), np.zeros(_LANES)
    for i in range(n):
        sums[:] = 0.0
        errors[:] = 0.0
        absolute[:] = 0.0
        for start in range(0, full, _LANES):
            for lane in range(_LANES):
                k = start + lane
                x = np.float64(matrix[i, k])
                big = _SPLITTER * x
                high = big - (big - x)
                low = x - high
                product = x * vector[k]
                error = low * vector_low[k] - (
                    ((product - high * vector_high[k]) - low * vector_high[k]) - high * vector_low[k]
                )
                total = sums[lane] + product
                part = total - sums[lane]
                errors[lane] += ((sums[lane] - (total - part)) + (product - part)) + error
                sums[lane] = total
                absolute[lane] += abs(product)
        head, tail, size = 0.0, 0.0, 0.0
        for k in range(full, d):
            x = np.float64(matrix[i, k])
            big = _SPLITTER * x
            high = big - (big - x)
            low = x - high
            product = x * vector[k]
            tail += low * vector_low[k] - (
                ((product - high * vector_high[k]) - low * vector_high[k]) - high * vector_low[k]
            )
            total = head + product
            part = total - head
            tail += (head - (total - part)) + (product - part)
            head = total
            size += abs(product)
        for lane in range(_LANES):
            total = head + sums[lane]
            part = total - head
            tail += ((head - (total - part)) + (sums[lane] - part)) + errors[lane]
            head = total
            size += absolute[lane]
        heads[i] = head
        tails[i] = tail
        sizes[i] = size


@compiled(nogil=True)
def _column_sums(matrix: Any, vector: Any, heads: Any, tails: Any, sizes: Any) -> None:
    """Write vector @ matrix as heads + tails, and |vector| @ |matrix|, by blocks of columns that stay in the cache."""
    n, d = matrix.shape
    heads[:] = 0.0
    tails[:] = 0.0
    sizes[:] = 0.0
    for start in range(0, d, _BLOCK):
        stop = min(start + _BLOCK, d)
        for i in range(n):
            v = vector[i]
            if v == 0.0:
                continue
            big = _SPLITTER * v
            vector_high = big - (big - v)
            vector_low = v - vector_high
            row, block_heads, block_tails = matrix[i, start:stop], heads[start:stop], tails[start:stop]
            block_sizes = sizes[start:stop]
            for k in range(stop - start):
                x = np.float64(row[k])
                big = _SPLITTER * x
                high = big - (big - x)
                low = x - high
                product = x * v
                error = low * vector_low - (((product - high * vector_high) - low * vector_high) - high * vector_low)
                total = block_heads[k] + product
                part = total - block_heads[k]
                block_tails[k] += ((block_heads[k] - (total - part)) + (product - part)) + error
                block_heads[k] = total
                block_sizes[k] += abs(product)


def _outward(
    sums: tuple[Floats, Floats, Floats], terms: int, exponents: NDArray[np.int64] | int
) -> tuple[Floats, Floats]:
    """Return lower and upper bounds of the exact sums of products, times 2**exponents.

    The heads are summed without error. The at most 2 * terms + lanes error terms are each below UNIT times the sum of
    absolute values, and so is, relatively, each addition that collects them: second order in UNIT, with a factor to
    spare that covers the rounding of the absolute sums and of this bound. Entries are at most 128: no overflow.
    """
    heads, tails, sizes = sums
    errors = 8.0 * (terms + _LANES + 8.0) ** 2 * UNIT**2 * sizes + (terms + _LANES) * _UNDERFLOW
    lower, upper = down(heads + down(tails - errors)), up(heads + up(tails + errors))
    return shift_down(lower, exponents), -shift_down(-upper, exponents)


def row_products(rows: Rows, vector: Floats) -> tuple[Floats, Floats]:
    """Enclose ``matrix @ vector``.

    Parameters
    ----------
    rows : Rows, shape (n, d)
        From `scale_rows`.
    vector : ndarray, shape (d,)

    Returns
    -------
    lower, upper : ndarray, shape (n,)
        Proved bounds of every entry.

    Examples
    --------
    >>> row_products(scale_rows(np.array([[1e16, 1.0, -1e16]])), np.ones(3))
    (array([1.]), array([1.]))
    """
    sums, exponent = _row_parts(rows, vector)
    return _outward(sums, len(vector), rows.exponents + exponent)


def row_residuals(rows: Rows, vector: Floats, wanted: Floats) -> Floats:
    """Return ``wanted - rows.values @ vector`` (scaled rows) to the round-off of the residual itself, not proved."""
    (heads, tails, _), exponent = _row_parts(rows, vector)
    return (wanted - shift(heads, exponent)) - shift(tails, exponent)


def _row_parts(rows: Rows, vector: Floats) -> tuple[tuple[Floats, Floats, Floats], int]:
    """Return heads, tails and absolute sums of ``rows.values @ vector``, and the exponent taken out of the vector."""
    scaled, exponent = _normalise(vector)
    heads, tails, sizes = (np.empty(len(rows.values)) for _ in range(3))
    _row_sums(rows.values, scaled, heads, tails, sizes)
    return (heads, tails, sizes), exponent


def column_products(rows: Rows, vector: Floats) -> tuple[Floats, Floats]:
    """Enclose ``matrix.T @ vector``.

    Parameters
    ----------
    rows : Rows, shape (n, d)
        From `scale_rows`.
    vector : ndarray, shape (n,)

    Returns
    -------
    lower, upper : ndarray, shape (d,)
        Proved bounds of every entry.

    Examples
    --------
    >>> lower, upper = column_products(scale_rows(np.array([[0.1], [0.2]])), np.array([1.0, 1.0]))
    >>> bool(lower[0] < 0.3 < upper[0])
    True
    """
    fractions, exponents = np.frexp(vector)
    exponents = exponents + rows.exponents
    largest = int(exponents[vector != 0.0].max(initial=-5000))
    scaled = shift(fractions, exponents - largest)
    heads, tails, sizes = (np.empty(rows.values.shape[1]) for _ in range(3))
    _column_sums(rows.values, scaled, heads, tails, sizes)
    return _outward((heads, tails, sizes), len(vector), largest)


def pairing_bounds(first: Floats, second: Floats) -> tuple[float, float]:
    """Enclose an inner product of finite doubles, whatever their scales: each product has its own power of two.

    Examples
    --------
    >>> low, high = pairing_bounds(np.array([1e-200, 0.0, 3e250]), np.array([1e200, 1e300, 2e-250]))
    >>> low <= 7.0 <= high, high - low < 1e-14
    (True, True)
    """
    used = (first != 0.0) & (second != 0.0)
    if not used.any():
        return 0.0, 0.0
    low, high = column_products(scale_rows(first[used, None]), second[used])
    return float(low[0]), float(high[0])


def sum_bounds(values: Floats) -> tuple[float, float]:
    """Enclose the sum of a vector of finite doubles (`math.fsum` rounds once); infinite past the float range.

    Examples
    --------
    >>> lower, upper = sum_bounds(np.array([0.1] * 10))
    >>> lower < 1.0 < upper
    True
    """
    try:
        total = math.fsum(values)
    except OverflowError:
        return -math.inf, math.inf
    return float(down(total)), float(up(total))


def norm_upper(magnitudes: Floats, order: float) -> float:
    """Bound from above the norm of any vector whose entries are at most `magnitudes` in absolute value.

    Parameters
    ----------
    magnitudes : ndarray, shape (d,)
        Non-negative and finite.
    order : {1, 2, inf}

    Returns
    -------
    float

    Examples
    --------
    >>> 5.0 < norm_upper(np.array([3.0, 4.0]), 2) < 5.000000000000002
    True
    """
    if order == math.inf:
        return float(magnitudes.max())
    if order == 1:
        return sum_bounds(magnitudes)[1]
    if not magnitudes.any():
        return 0.0
    scaled, exponent = _normalise(magnitudes)
    square = up(math.fsum(np.append(_exact_squares(scaled), len(scaled) * _UNDERFLOW)))
    return float(-shift_down(-up(np.sqrt(square)), exponent))


def group_norms_upper(magnitudes: Floats, groups: NDArray[np.int64]) -> Floats:
    """Bound from above the Euclidean norms of the groups of any vector with entries of at most `magnitudes`.

    Parameters
    ----------
    magnitudes : ndarray, shape (d,)
        Non-negative and finite.
    groups : ndarray of int, shape (d,)
        The group of each entry; every number from 0 to the largest occurs.

    Returns
    -------
    ndarray, shape (number of groups,)

    Examples
    --------
    >>> norms = group_norms_upper(np.array([3.0, 1.0, 4.0]), np.array([0, 1, 0]))
    >>> bool((norms >= [5.0, 1.0]).all() and (norms <= [5.0 + 1e-14, 1.0 + 1e-15]).all())
    True
    """
    exponents = np.full(groups.max() + 1, -5000)
    np.maximum.at(exponents, groups, np.where(magnitudes > 0.0, np.frexp(magnitudes)[1], -5000))
    scaled = shift(magnitudes, -exponents[groups])  # at most 1: each group has its own power of two
    squares = np.bincount(groups, scaled * scaled)
    terms = np.bincount(groups)
    # k roundings of squares and k of sums, each relatively below UNIT; underflow of far smaller entries
    raised = squares * (1.0 + 4.0 * (terms + 2.0) * UNIT) + terms * _UNDERFLOW
    roots = up(np.sqrt(up(raised)))
    return np.where(squares > 0.0, -shift_down(-roots, exponents), 0.0)


def _exact_squares(values: Floats) -> Floats:
    """Return pairs (p, e) with p + e the exact squares, underflow apart (Dekker's product)."""
    big = _SPLITTER * values
    high = big - (big - values)
    low = values - high
    squares = values * values
    return np.concatenate((squares, low * low - ((squares - high * high) - 2.0 * (high * low))))
