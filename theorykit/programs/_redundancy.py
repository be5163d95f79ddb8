"""Which equations follow from the others, exactly, and exact proofs that some contradict them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr, solve_triangular

from theorykit._numerics.errors import InconsistentError
from theorykit._numerics.rounding import Floats, Rows, column_products, pairing_bounds, shift
from theorykit._numerics.validate import matrix, vector
from theorykit.programs._box import is_well_conditioned
from theorykit.programs._exact import LARGEST_SUPPORT, fractions, integer_rows, relation, vanishes
from theorykit.programs._l2 import signed_gram
from theorykit.programs._norms import Norm
from theorykit.programs._triangle import triangle

_DEPENDENT = 1e-15
_COEFFICIENT = 1e-9
_WANTED = "equations <w, x_i> = y_i that some w satisfies"


def verify_inconsistency(X: ArrayLike, y: ArrayLike, nu: ArrayLike) -> bool:
    """Check in exact arithmetic that nu proves X w = y impossible: sum_i nu_i x_i = 0 and sum_i nu_i y_i = 1.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Taken as the exact rational numbers that its doubles are; so is y.
    y : array_like, shape (n,)
    nu : array_like of Fraction (or int, or float taken as it is), shape (n,)

    Returns
    -------
    bool

    Examples
    --------
    >>> verify_inconsistency([[1.0], [2.0]], [1.0, 3.0], [-2, 1])
    True
    >>> verify_inconsistency([[1.0], [2.0]], [1.0, 2.0], [-2, 1])
    False
    """
    data = matrix("X", X)
    targets = vector("y", y, length=len(data))
    weights = fractions("nu", nu, len(data))
    if sum(w * Fraction(t) for w, t in zip(weights, targets.tolist(), strict=True)) != 1:
        return False
    support = [i for i, weight in enumerate(weights) if weight]
    return vanishes(integer_rows(data[support], np.ones(len(support))), [weights[i] for i in support])


def independent_rows(rows: Rows) -> tuple[NDArray[np.intp], dict[int, NDArray[np.intp]]]:
    """Return rows on which all others depend (numerically), and for each other one those that it depends on."""
    n, d = rows.values.shape
    if n <= d and rows.values.any(axis=1).all() and is_well_conditioned(signed_gram(rows, np.ones(n))):
        return np.arange(n), {}
    factor = triangle(rows.values) if d > n else rows.values.T.astype(np.float64)
    upper, order = qr(factor, mode="r", pivoting=True, check_finite=False)
    pivots = np.abs(upper.diagonal())
    rank = int((pivots > 4.0 * (n + 10) * _DEPENDENT * pivots[0]).sum())
    coefficients = solve_triangular(upper[:rank, :rank], upper[:rank, rank:]) if rank else np.empty((0, n))
    kept = order[:rank]
    needed = {}
    for column, row in enumerate(order[rank:]):
        weights = np.abs(coefficients[:, column])
        needed[int(row)] = np.sort(kept[weights > _COEFFICIENT * weights.max(initial=0.0)])
    return np.sort(kept), dict(sorted(needed.items()))


def check_redundancy(X: NDArray[Any], y: Floats, rows: Rows, needed: dict[int, NDArray[np.intp]], norm: Norm) -> None:
    """Raise `InconsistentError` unless each of these equations follows, exactly, from those that it depends on."""
    for row, others in needed.items():
        weights = exact_relation(X, row, others)
        if weights is None:
            raise _undecided(y, rows, row, others, norm)
        excess = sum(weight * Fraction(float(y[i])) for i, weight in weights.items())
        if excess:
            proof = {i: weight / excess for i, weight in weights.items() if weight}
            raise _inconsistent(len(X), proof)


def exact_relation(X: NDArray[Any], row: int, others: NDArray[np.intp]) -> dict[int, Fraction] | None:
    """Return exact weights, 1 for the row, with which it and the others add up to zero; None where out of reach."""
    if len(others) >= LARGEST_SUPPORT:
        return None
    return relation(X, np.ones(len(X)), np.append(others, row))


def _inconsistent(n: int, proof: dict[int, Fraction]) -> InconsistentError:
    nu = np.array([proof.get(i, Fraction(0)) for i in range(n)], dtype=object)
    named = ", ".join(map(str, sorted(proof)[:6])) + (f" and {len(proof) - 6} more" if len(proof) > 6 else "")
    got = f"equations that contradict one another ({named})"
    return InconsistentError("X, y", got, _WANTED, nu, tuple(sorted(proof)))


def _undecided(y: Floats, rows: Rows, row: int, others: NDArray[np.intp], norm: Norm) -> InconsistentError:
    """Return the error for a row that depends on others in floating point, but not in a way that exact weights show."""
    nu = np.zeros(len(y))
    nu[row] = 1.0
    if len(others):
        columns = rows.values[others].T.astype(np.float64)
        scales = np.ldexp(1.0, np.clip(rows.exponents[row] - rows.exponents[others], -1000, 1000).astype(np.int32))
        nu[others] = -scales * np.linalg.lstsq(columns, rows.values[row].astype(np.float64), rcond=None)[0]
    at_least = lower_bound(y, rows, nu, norm)
    samples = tuple(sorted([*map(int, others), row]))
    got = f"undecided: equation {row} depends on others up to round-off; any solution has norm at least {at_least:.17g}"
    return InconsistentError("X, y", got, _WANTED, None, samples, at_least)


def lower_bound(y: Floats, rows: Rows, nu: Floats, norm: Norm) -> float:
    """Return the proved lower bound |<y, nu>| / ||X^T nu||_* on the norm of any w with X w = y; at least 0."""
    nu = shift(nu, -int(np.frexp(np.abs(nu).max())[1]))  # only its direction matters
    low, high = pairing_bounds(y, nu)
    paired = max(low, -high)
    below, above = column_products(rows, nu)
    dual_norm = norm.dual_upper(np.maximum(-below, above))
    return max(0.0, float(np.nextafter(paired / dual_norm, -np.inf))) if dual_norm > 0.0 else 0.0
