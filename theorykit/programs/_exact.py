"""Exact linear relations between rows of doubles, which are dyadic rationals: integers decide."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats

LARGEST_SUPPORT = 1000


def fractions(argument: str, values: ArrayLike, length: int) -> list[Fraction]:
    """Return the values as exact fractions."""
    try:
        weights = [Fraction(value) for value in np.asarray(values, dtype=object).ravel()]
    except (TypeError, ValueError, OverflowError) as problem:
        raise InputError(
            argument, f"something that is no rational number ({problem})", "fractions, integers or floats"
        ) from None
    if len(weights) != length:
        raise InputError(argument, f"{len(weights)} entries", f"{length}, one for each sample")
    return weights


def relation(X: NDArray[Any], y: Floats, support: NDArray[np.intp]) -> dict[int, Fraction] | None:
    """Return exact weights v with sum_i v_i y_i x_i = 0 over the support, 1 for its last row, if they are unique.

    Examples
    --------
    >>> relation(np.array([[1.0, 2.0], [3.0, 6.0]]), np.ones(2), np.array([0, 1]))
    {0: Fraction(-3, 1), 1: Fraction(1, 1)}
    """
    import flint

    integers = integer_rows(X[support], y[support])
    features = _independent_features(X[support[:-1]])
    if len(features) < len(support) - 1:
        return None
    values = [Fraction(1)]
    if features:
        square = flint.fmpz_mat([[integers[i][k] for i in range(len(support) - 1)] for k in features])
        right = flint.fmpz_mat([[-integers[-1][k]] for k in features])
        try:
            solution = square.solve(right)
        except ZeroDivisionError:
            return None
        values = [Fraction(int(v.p), int(v.q)) for v in solution.entries()] + values
    if not vanishes(integers, values):
        return None
    return {int(i): value for i, value in zip(support, values, strict=True)}


def _independent_features(rows: NDArray[Any]) -> list[int]:
    """Return as many features as there are rows, chosen by pivoted QR to be as independent as possible."""
    if len(rows) == 0:
        return []
    scale = np.abs(rows.astype(np.float64)).max(axis=1, keepdims=True)
    pivots = qr(rows / scale, mode="r", pivoting=True)[1]
    return [int(k) for k in pivots[: len(rows)]]


def integer_rows(X: NDArray[Any], y: Floats) -> list[list[int]]:
    """Return y_i x_i in integers, each feature (column) multiplied by a power of two of its own."""
    mantissas, exponents = np.frexp(y[:, None] * X)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = np.where(whole != 0, exponents, 5000).min(axis=0)
    shifts = np.where(whole != 0, exponents - lowest, 0)
    return [[m << s for m, s in zip(*pair, strict=True)] for pair in zip(whole.tolist(), shifts.tolist(), strict=True)]


def vanishes(integers: list[list[int]], weights: list[Fraction]) -> bool:
    """Whether sum_i weights_i integers_i is zero, exactly."""
    import flint

    common = math.lcm(*(weight.denominator for weight in weights))
    row = flint.fmpz_mat([[int(weight * common) for weight in weights]])
    product = row * flint.fmpz_mat(integers)
    return not any(product.entries())


def exact_solution(matrix: Floats, right: Floats) -> list[Fraction] | None:
    """Return the exact solution of (perhaps overdetermined) equations of full column rank; None if there is none."""
    import flint

    rows, columns = matrix.shape
    pivots = np.sort(qr(matrix.T.astype(np.float64), mode="r", pivoting=True)[1][:columns])
    if rows < columns:
        return None
    square = flint.fmpq_mat(columns, columns, [_rational(v) for v in matrix[pivots].ravel()])
    try:
        solution = square.solve(flint.fmpq_mat(columns, 1, [_rational(v) for v in right[pivots]]))
    except ZeroDivisionError:
        return None
    values = [Fraction(int(v.p), int(v.q)) for v in solution.entries()]
    wanted = [Fraction(float(v)) for v in right]
    return values if exact_product(matrix, values) == wanted else None


def _rational(value: Any) -> Any:
    import flint

    return flint.fmpq(*float(value).as_integer_ratio())


def exact_product(matrix: Floats, vector: list[Fraction]) -> list[Fraction]:
    """Return matrix @ vector, exactly."""
    import flint

    left = flint.fmpq_mat(matrix.shape[0], matrix.shape[1], [_rational(v) for v in matrix.ravel()])
    right = flint.fmpq_mat(len(vector), 1, [flint.fmpq(v.numerator, v.denominator) for v in vector])
    return [Fraction(int(v.p), int(v.q)) for v in (left * right).entries()]
