"""Verified linear algebra: right inverses with a proof, and what they prove about nearby solutions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, qr, solve_triangular

from theorykit._numerics.rounding import UNIT, Floats, down, shift, up

_TINY = 2.0**-500
"""Columns below it are left out; far more than underflow can have cost the others."""


class RightInverse(NamedTuple):
    """An approximate right inverse R of A, and a proof that A has full row rank.

    Attributes
    ----------
    columns : ndarray, shape (k,)
        The columns S of A that it uses: row j of R belongs to column S_j.
    magnitudes : ndarray, shape (k,)
        Upper bounds of the sums of |R| along its rows.
    defect : float
        Proved upper bound on ``||I - A_S R||_inf``; below 1, so that A_S has full row rank.
    """

    columns: NDArray[np.intp]
    magnitudes: Floats
    defect: float

    def correction(self, residual: float) -> Floats:
        """Bound the entries, on the columns, of some delta that solves ``A delta = r``, ``||r||_inf <= residual``.

        ``delta = R (A_S R)^{-1} r``, and the inverse has norm at most ``1 / (1 - defect)``.
        """
        factor = up(residual / float(down(1.0 - self.defect)))
        with np.errstate(over="ignore"):
            return np.asarray(up(self.magnitudes * factor))


def right_inverse(A: Floats) -> RightInverse | None:
    """Return a right inverse of A with its proof; None where A has not, or not clearly, full row rank.

    Parameters
    ----------
    A : ndarray, shape (m, d)
        Rows of moderate size: the largest entry of each between 2**-10 and 2**10, say. Columns of any size.

    Returns
    -------
    RightInverse or None

    Notes
    -----
    The largest columns are tried first, four for each row, then all of them. Proved as in Rump ("Verification methods",
    Acta Numerica 19, 2010): the product with the approximate inverse, in floating point, plus the bound on its rounding
    errors that holds in whatever order a matrix product is summed.

    Examples
    --------
    >>> found = right_inverse(np.array([[2.0, 0.0, 1e-9], [0.0, 4.0, 0.0]]))
    >>> found.columns, found.defect < 1e-14, found.correction(1.0)[:2]
    (array([0, 1, 2]), True, array([0.5 , 0.25]))
    >>> right_inverse(np.array([[1.0, 2.0], [2.0, 4.0]])) is None
    True
    """
    m, d = A.shape
    largest = np.abs(A).max(axis=0)
    order = np.argsort(-largest, kind="stable")
    for count in sorted({min(d, 4 * m), d}):
        found = _proved(A, order[:count], largest) if count >= m else None
        if found is not None:
            return found
    return None


def _proved(A: Floats, columns: NDArray[np.intp], largest: Floats) -> RightInverse | None:
    """Try the given columns, largest first."""
    columns = columns[largest[columns] > _TINY]
    exponents = np.frexp(largest[columns])[1]
    block = A[:, columns].astype(np.float64)
    m, k = block.shape
    if k < m:
        return None
    try:
        basis, triangle = qr(block.T, mode="economic", check_finite=False)
        inverse = basis @ solve_triangular(triangle, np.eye(m), trans=1)
    except (LinAlgError, ValueError):
        return None
    scaled, inverse = shift(block, -exponents), shift(inverse, exponents[:, None])  # exact: powers of two
    if not np.isfinite(inverse).all():
        return None
    growth = 4.0 * (k + m + 8.0) * UNIT  # twice what the sums below can lose, relatively
    with np.errstate(over="ignore", invalid="ignore"):
        errors = growth * (np.abs(scaled) @ np.abs(inverse)) + _TINY * (1.0 + np.abs(inverse).max())
        defect = float(up(((np.abs(np.eye(m) - scaled @ inverse) + errors).sum(axis=1) * (1.0 + growth)).max()))
    if not defect < 0.5:
        return None
    sums = np.abs(inverse).sum(axis=1) * (1.0 + growth)
    magnitudes = np.asarray(up(shift(sums, -exponents)))
    return RightInverse(columns, magnitudes, defect) if math.isfinite(magnitudes.max()) else None
