"""How far a symmetric matrix of doubles is from positive semidefinite, to less than the round-off of its largest entry.

Cholesky's factorisation proves an eigenvalue to about n times the round-off of the largest one. Turned by approximate
eigenvectors Q, and with Q^T S Q computed to more than double precision, the matrix is nearly diagonal: what belongs to
the small eigenvalues stands in entries of its own, which scaling each row and column brings to order 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from theorykit._numerics.rounding import UNIT, Floats
from theorykit._numerics.spectral import product_bounds

_TINY = 2.0**-900
_DOUBLINGS = 60


def proved_positive(S: Floats, at_least: float) -> bool:
    """Whether the smallest eigenvalue of a symmetric S is proved to be at least that, by a Cholesky factorisation.

    One that runs to completion on B, in floating point and in any order, is exact for some B + D with
    ``||D|| <= g / (1 - g) trace(B)``, g = (n + 1) UNIT / (1 - (n + 1) UNIT) (Rump, "Verification of positive
    definiteness", BIT 46, 2006; Higham, "Accuracy and stability of numerical algorithms", theorem 10.3).

    Examples
    --------
    >>> S = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> proved_positive(S, 0.999), proved_positive(S, 1.001)
    (True, False)
    """
    trace = float(S.trace())
    if not trace > 0.0:
        return False
    lost = 4.0 * (len(S) + 4.0) * UNIT * trace + _TINY  # twice the theorem's, and the rounding of the difference
    shifted = S.copy()
    shifted[np.diag_indices_from(S)] -= at_least + lost
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    return True


class Turned(NamedTuple):
    """``|Q^T S Q - middle| <= radius``, entry by entry, for some Q with ``||Q^T Q - I|| <= skew``."""

    middle: Floats
    radius: Floats
    skew: float

    def is_at_least(self, value: float) -> bool:
        """Whether the smallest eigenvalue of S is proved to be at least that.

        If it were not, ``Q^T (S - value) Q`` would not be positive definite.
        """
        off = value * (1.0 + math.copysign(self.skew, value)) * (1.0 + math.copysign(4.0 * UNIT, value))
        diagonal = self.middle.diagonal() - off
        if not (self.skew < 0.5 and diagonal.min() > 0.0):
            return False
        scale = 1.0 / np.sqrt(diagonal)
        scaled = scale[:, None] * (self.middle - off * np.eye(len(scale))) * scale
        missed = float(np.linalg.norm(scale[:, None] * self.radius * scale) + 8.0 * UNIT * np.linalg.norm(scaled))
        return proved_positive(scaled, (1.0 + 1e-9) * missed)


def turned(S: Floats) -> Turned:
    """Return a symmetric matrix with finite entries in the coordinates of its computed eigenvectors."""
    n, size = len(S), 2.0 ** int(np.frexp(np.abs(S).max())[1])
    half = 0.5 * np.linalg.eigh(S)[1]
    first, first_radius = product_bounds(S / size, half)
    grown = 2.0 ** math.ceil(math.log2(n + 1))
    second, radius = product_bounds(half.T, first / grown)
    radius = radius + UNIT * np.abs(second) + np.abs(half).T @ first_radius * (1.0 + 2.0 * (n + 4.0) * UNIT) / grown
    square, square_radius = product_bounds(half.T, half)
    skew = 4.0 * float(np.linalg.norm(np.abs(square - 0.25 * np.eye(n)) + square_radius)) * (1.0 + 1e-9)
    whole = 4.0 * size * grown
    middle = 0.5 * (second + second.T)  # the exact one is symmetric
    return Turned(whole * middle, whole * np.maximum(radius, radius.T) * (1.0 + 1e-9), skew)


def is_semidefinite(S: Floats, eps: float) -> bool:
    """Whether S + eps I is proved positive semidefinite."""
    if not S.any() or proved_positive(S, -eps):
        return eps >= 0.0
    return turned(S).is_at_least(-eps)


def semidefinite_shift(S: Floats) -> float:
    """Return a small eps >= 0 with S + eps I proved positive semidefinite.

    Examples
    --------
    >>> 0.0 < semidefinite_shift(np.ones((3, 3))) < 1e-15
    True
    """
    if not S.any() or proved_positive(S, 0.0):
        return 0.0
    found = turned(S)
    if found.is_at_least(0.0):
        return 0.0
    eps = max(-2.0 * float(found.middle.diagonal().min()), 2.0**-70 * float(np.abs(S).max()))
    for _ in range(_DOUBLINGS):
        if found.is_at_least(-eps):
            return eps
        eps *= 2.0
    return math.inf


def smallest_eigenvalue(S: Floats) -> float:
    """Return a proved lower bound above 0 on the smallest eigenvalue of a symmetric matrix, or 0: none was proved."""
    for factor in (0.99, 0.5):
        estimate = factor * float(np.linalg.eigvalsh(S)[0])
        if estimate > 0.0 and proved_positive(S, estimate):
            return estimate
    found = turned(S)
    estimate = 0.5 * float(found.middle.diagonal().min())
    return estimate if estimate > 0.0 and found.is_at_least(estimate) else 0.0
