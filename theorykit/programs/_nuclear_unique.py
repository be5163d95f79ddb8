"""Whether the optimum of a nuclear-norm program is unique: proved, disproved, or unknown.

Three sufficient conditions, with all constants bounded in the arithmetic (docs/theory/certificates.md has the proofs):
a matrix of exactly low rank with an approximate dual certificate; a dual optimum that the data determine, whose face
they determine, too; and, against, two optima that rational arithmetic checks.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from theorykit._numerics.rounding import UNIT, Floats, shift
from theorykit._numerics.spectral import (
    SingularBounds,
    operator_norm_upper,
    singular_bounds,
    smallest_singular_value_lower,
)
from theorykit.programs._nuclear_data import Observed
from theorykit.programs._nuclear_second import face_observed, second_optimum
from theorykit.programs._pair import Uniqueness

if TYPE_CHECKING:
    from theorykit.programs.nuclear import NuclearCertificate

_LARGEST_GRAM = 1200
_GRID_BITS = 40
_RANK = 1e-8
INSIDE = 1e-13  # pulls S into the unit ball, over the rounding of its entries
_ORTHONORMAL = 1e-12  # more than Householder QR loses at these sizes
SAFE = 1.0 + 1e-9
"""What the rounding of the few operations on bounds below could cost, many times over."""


class Dual(NamedTuple):
    """S in the unit ball, its decomposition, the numerical rank of W, and 1 - the next singular value of S, proved."""

    S: Floats
    found: SingularBounds
    rank: int
    spread: float

    @property
    def loose(self) -> float:
        """What the decomposition may miss of S."""
        return self.found.missed + 3.0 * self.found.skew


def uniqueness(data: Observed, certificate: NuclearCertificate) -> Uniqueness:
    """Judge the optimum that a certificate encloses."""
    c = certificate
    if c.upper == 0.0:
        return Uniqueness("proved", "the optimum is 0, and only W = 0 has nuclear norm 0")
    if not math.isfinite(c.upper):
        return Uniqueness("unknown", "the certificate encloses nothing")
    dual = split(scaled_dual(data, c)[0], c.W)
    if c.weight_decay is None:
        proved = exactly_low_rank(data, c, dual) or _determined(data, c, dual)
    else:
        proved = _regularised(data, c, dual)
    return proved or second_optimum(data, c) or Uniqueness("unknown", "neither proof nor counterexample was found")


def scaled_dual(data: Observed, c: NuclearCertificate) -> tuple[Floats, float]:
    """Return S in the unit ball, and the weight of the nuclear norm in the objective."""
    unit = 1.0 if c.weight_decay is None else 0.5 * c.weight_decay
    norm = data.adjoint_norm_upper(c.dual) / unit
    return data.adjoint(c.dual) / (unit * max(1.0, norm) * (1.0 + INSIDE)), unit


def split(S: Floats, W: Floats, rank: int | None = None) -> Dual:
    """Split the singular values of S into as many as W has (or as asked for), and the others."""
    found = singular_bounds(S)
    rank = numerical_rank(W) if rank is None else rank
    following = np.append(found.values, 0.0)[rank]
    return Dual(S, found, rank, 1.0 - (following * (1.0 + found.skew) + found.missed) * SAFE)


def numerical_rank(W: Floats) -> int:
    """Return the number of singular values above 1e-8 of the largest."""
    singular = np.linalg.svd(W, compute_uv=False)
    return int((singular > _RANK * singular[0]).sum())


def operator_size(data: Observed) -> float:
    """Bound ||A||, from the Frobenius norm to the Euclidean one: at most 1 for distinct entries."""
    return 1.0 if data.matrices is None else float(np.linalg.norm(data.matrices)) * SAFE


def exactly_low_rank(data: Observed, c: NuclearCertificate, dual: Dual) -> Uniqueness | None:
    """W has exactly rank r, S nearly its sign, and the observations determine the tangent space T at W.

    For A(D) = 0, ``||W + D||_* - ||W||_* >= spread ||D'||_* - miss ||P_T D||_F`` with D' the part outside T, and
    ``kappa ||P_T D||_F <= ||A|| ||D'||_F``.
    """
    r, found = dual.rank, singular_bounds(c.W)
    if data.index is None or len(data) < _tangent_size(data, r) or _exact_rank(c.W) != r:
        return None
    smallest = found.values[r - 1] * (1.0 - found.skew) - found.missed
    if not smallest > 0.0 or len(data) > 8 * _LARGEST_GRAM or _tangent_size(data, r) > _LARGEST_GRAM:
        return None
    excess = c.upper - c.lower + 2.0 * INSIDE * c.upper
    miss = math.sqrt(2.0 * excess / smallest) * SAFE  # of S v = u, over the singular pairs of W
    tilt = 4.0 * (found.missed / smallest + found.skew + _ORTHONORMAL) * SAFE
    seen = _tangent_observed(data, found.U[:, :r], found.V[:, :r])
    kappa = smallest_singular_value_lower(seen, 1e-13 * len(data)) - 2.0 * tilt
    spread = dual.spread - 2.0 * miss
    if not (kappa > 0.0 and spread > 2.0 * miss / kappa * SAFE):
        return None
    return Uniqueness(
        "proved",
        f"W has rank {r} exactly; S has the norm {1.0 - spread:.3g} < 1 outside its tangent space, "
        f"which the observations determine (smallest singular value {kappa:.3g})",
    )


def _tangent_size(data: Observed, r: int) -> int:
    p, q = data.shape
    return r * (2 * p - r + 1) // 2 if data.symmetric else r * (p + q - r)


def _tangent_observed(data: Observed, U: Floats, V: Floats) -> Floats:
    """Return the observations of an orthonormal basis of the tangent space at U H V^T, shape (m, size)."""
    assert data.index is not None
    (i, j), r = data.index.T, U.shape[1]
    right = np.linalg.qr(V, mode="complete")[0]
    if data.symmetric:
        a, b = np.triu_indices(r, 0, len(right))
        factor = np.where(a == b, 0.5, math.sqrt(0.5))
        return np.asarray((right[i][:, a] * right[j][:, b] + right[i][:, b] * right[j][:, a]) * factor)
    left = np.linalg.qr(U, mode="complete")[0]
    first = left[i][:, :r, None] * right[j][:, None, :]
    second = left[i][:, r:, None] * right[j][:, None, :r]
    return np.hstack((first.reshape(len(data), -1), second.reshape(len(data), -1)))


def _determined(data: Observed, c: NuclearCertificate, dual: Dual) -> Uniqueness | None:
    """W nearly determines every dual optimum: S* V = U on its singular vectors, and S* is a combination of the A_k.

    From ``||W||_* - <S*, W> <= gap``, S* V - U, its columns times the roots of the singular values of W, has at most
    the norm ``sqrt(2 gap')``, and likewise for the transpose.
    """
    found, r = singular_bounds(c.W), dual.rank
    if len(data) > _LARGEST_GRAM:
        return None
    total, largest = float(found.values.sum()), float(found.values[0])
    leak = float(found.values[r:].sum()) + math.sqrt(min(data.shape)) * found.missed + 3.0 * found.skew * total
    roots = np.sqrt(found.values[:r] / largest)
    U, V = found.U[:, :r] * roots, found.V[:, :r] * roots
    far = math.sqrt(2.0 * (c.upper - c.lower + 2.0 * leak) / largest)
    here = float(np.linalg.norm(dual.S @ V - U))
    if not data.symmetric:  # where the transpose says nothing new
        far, here = math.sqrt(2.0) * far, math.hypot(here, float(np.linalg.norm(dual.S.T @ U - V)))
    kappa = _told_apart(data, U, V) - 4.0 * found.skew
    if not kappa > 0.0:
        return None
    distance = (far + here + 1e-12) / kappa * SAFE
    return _face(data, dual, distance, "the dual optimum is determined by W")


def _told_apart(data: Observed, U: Floats, V: Floats) -> float:
    """Bound from below the norm of (S V, S^T U), or S V where all is symmetric, for S = sum_k s_k A_k, ||S||_F = 1."""
    if data.index is not None:
        return smallest_singular_value_lower(_products(data, U, V).T, 1e-13 * len(data))
    assert data.matrices is not None
    A = data.matrices / np.linalg.norm(data.matrices, axis=(1, 2))[:, None, None]
    parts = [A @ V] if data.symmetric else [A @ V, A.transpose(0, 2, 1) @ U]
    products = np.hstack([part.reshape(len(data), -1) for part in parts])
    largest = operator_norm_upper(A.reshape(len(data), -1)) + 1e-13 * len(data)
    return smallest_singular_value_lower(products.T, 1e-13 * len(data)) / largest


def _products(data: Observed, U: Floats, V: Floats) -> Floats:
    """Return the rows A_k V, flattened, shape (m, p r), for entries; beside them, if not symmetric, A_k^T U."""
    assert data.index is not None
    (p, q), r, m = data.shape, U.shape[1], np.arange(len(data))
    i, j = data.index.T
    right = np.zeros((len(data), p, r))
    if data.symmetric:
        right[m, i] += 0.5 * V[j]
        right[m, j] += 0.5 * V[i]
        return right.reshape(len(data), -1)
    left = np.zeros((len(data), q, r))
    right[m, i], left[m, j] = V[j], U[i]
    return np.hstack((right.reshape(len(data), -1), left.reshape(len(data), -1)))


def _regularised(data: Observed, c: NuclearCertificate, dual: Dual) -> Uniqueness | None:
    """The fitted values, and with them the dual optimum t_k = (2 c_k/n)(y_k - W_k), are unique: bound its distance."""
    assert c.weight_decay is not None
    n = float(data.counts.sum())
    exact = 2.0 * data.counts / n * (data.values - data.of(c.W))
    # sum_k (c_k/n) (W - W*)_k^2 <= gap, hence ||t* - exact|| <= 2 sqrt(max c / n) sqrt(gap)
    error = 2.0 * math.sqrt(float(data.counts.max()) / n * (c.upper - c.lower))
    unit = 0.5 * c.weight_decay
    offset = float(np.linalg.norm(data.adjoint(exact) / unit - dual.S))
    size = float(np.abs(data.values).max() + np.abs(c.W).max()) * float(data.counts.max()) / n
    distance = (error / unit + offset + 16.0 * UNIT * math.sqrt(len(data)) * size / unit + 1e-13) * SAFE
    return _face(data, dual, distance, "the fitted values determine the dual optimum")


def _face(data: Observed, dual: Dual, distance: float, why: str) -> Uniqueness | None:
    """Prove that the face of any dual optimum within `distance` of S (operator norm) holds one point with the values.

    Optima are U H V^T with (U, V) the singular pairs of S* for the value 1: those of S near 1 up to an angle. Unless
    the observations see less of that face than the angle can hide, two optima differ by H = 0.
    """
    r = dual.rank
    if not dual.spread > distance + dual.loose:
        return None
    if r == 0:
        return Uniqueness("proved", f"{why} within {distance:.1e}; ||S|| is below 1: W = 0")
    turned, plain = face_strength(data, dual, distance)
    if not turned > 0.0:
        return None
    return Uniqueness(
        "proved",
        f"{why} within {distance:.1e}; {r} singular values of S reach 1, the next is below {1.0 - dual.spread:.6g}; "
        f"the observations determine the face (smallest singular value {plain:.3g})",
    )


def face_strength(data: Observed, dual: Dual, distance: float) -> tuple[float, float]:
    """Bound from below what is observed of U H V^T, ``||H||_F = 1``, on the face of any S* within `distance` of S.

    The second number is the same for the computed singular vectors.
    """
    found, r, size = dual.found, dual.rank, operator_size(data)
    angle = (distance + dual.loose) / dual.spread * SAFE
    seen = face_observed(data, found.U[:, :r], found.V[:, :r])
    plain = smallest_singular_value_lower(seen, 1e-13 * len(data)) - 4.0 * found.skew * size
    return plain * (1.0 - angle**2) - size * (2.0 * math.sqrt(2.0) * angle + 2.0 * angle**2) * SAFE, plain


def on_grid(data: Observed, W: Floats) -> Floats:
    """Return W rounded to the binary grid of the observed values where that lowers its rank and keeps the values.

    Data that are exact products of low-rank factors have an optimum of exactly low rank, on that grid.
    """
    if data.index is None or not data.values.any():
        return W
    fractions, exponents = np.frexp(data.values[data.values != 0.0])
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    spacing = int((exponents - 53 + np.log2((mantissas & -mantissas).astype(np.float64))).min())
    if int(exponents.max()) - spacing > _GRID_BITS:
        return W
    rounded = np.asarray(shift(np.rint(shift(W, -spacing)), spacing) + 0.0)
    rank = numerical_rank(W)
    near = float(np.abs(rounded - W).max()) <= 1e-6 * float(np.abs(W).max())
    return rounded if near and rank < min(W.shape) and _exact_rank(rounded) == rank else W


def _exact_rank(W: Floats) -> int:
    """Return the rank of a matrix of doubles, exactly; -1 where its integers would be too long to try."""
    import flint

    fractions, exponents = np.frexp(W)
    used = W != 0.0
    if not used.any():
        return 0
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    trailing = np.log2(np.where(used, mantissas & -mantissas, 1).astype(np.float64)).astype(np.int64)
    lowest = int((exponents - 53 + trailing)[used].min())
    if int(exponents[used].max()) - lowest > 2 * _GRID_BITS:
        return -1
    entries = [int(Fraction(float(value)) / Fraction(2) ** lowest) for value in W.ravel()]
    return int(flint.fmpz_mat(W.shape[0], W.shape[1], entries).rank())
