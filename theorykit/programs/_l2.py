"""The max l2-margin in the n-dimensional dual: min 1/2 ||Z^T nu||^2 - c . nu over nu >= 0; and shortest solutions.

Two ways to find the support vectors: block principal pivoting on the Gram matrix (Judice and Pires, Comput. Oper. Res.
21, 1994) where that is well conditioned; otherwise Lawson and Hanson's least distance programming as non-negative least
squares, on an orthogonal factor, which does not square the condition number. Either way the support vectors then
determine w by linear equations, solved to round-off with residuals in doubled precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, qr, solve_triangular
from scipy.optimize import nnls

from theorykit._numerics.rounding import Floats, Rows, row_residuals
from theorykit.programs._box import block_pivoting, is_well_conditioned
from theorykit.programs._scaled import Candidate, combination, targets
from theorykit.programs._triangle import triangle

Indices = NDArray[np.intp]
Step = Callable[[Floats], tuple[Floats, Floats]]

_CHUNK = 8192
_MAX_EXCHANGES = 50
_ROUND_OFF = 1e-14
_NOT_SOLVED = 1e-6
_MAX_RESCALINGS = 8


def solve(rows: Rows, y: Floats) -> Candidate:
    """Return the max l2-margin pair for the scaled rows."""
    n, d = rows.values.shape
    c = targets(rows)
    gram = signed_gram(rows, y) if n <= d else None
    pivoted = None
    if gram is not None and is_well_conditioned(gram):
        pivoted = block_pivoting(gram, c, np.full(len(c), np.inf))
    nu, iterations = pivoted or _least_distance(rows, y, c)

    def factorise(support: Indices) -> Step:
        block = None if gram is None else gram[np.ix_(support, support)]
        if block is not None and is_well_conditioned(block):
            return _gram_step(rows, y, block, support)
        return _orthogonal_step(rows, y, support)

    return _polish(rows, y, c, nu, iterations, factorise)


def solve_equations(rows: Rows, c: Floats) -> Candidate:
    """Return the shortest w with z_i . w = c_i and its multipliers, for linearly independent scaled rows."""
    signs, everyone = np.ones(len(c)), np.arange(len(c))
    gram = signed_gram(rows, signs)
    well = is_well_conditioned(gram)
    step = _gram_step(rows, signs, gram, everyone) if well else _orthogonal_step(rows, signs, everyone)
    w, nu, _ = _solution(rows, signs, c, everyone, step)
    return Candidate(w, nu, 1)


def signed_gram(rows: Rows, y: Floats) -> Floats:
    """Return Z Z^T of the scaled rows; exact for int8 (float32 holds the integers below 2**24, float64 all of them)."""
    values = rows.values
    n, d = values.shape
    kind: type[Any] = np.float64
    if values.dtype == np.int8 and d * max(int(values.max()), -int(values.min())) ** 2 < 2**24:
        kind = np.float32
    gram = np.zeros((n, n), dtype=kind)
    for start in range(0, d, _CHUNK):
        chunk = values[:, start : start + _CHUNK].astype(kind)
        gram += chunk @ chunk.T
    return y[:, None] * gram.astype(np.float64) * y


def _least_distance(rows: Rows, y: Floats, c: Floats) -> tuple[Floats, int]:
    """Return the nu >= 0 that minimises ||Z^T nu||^2 + (1 - weight c . nu)^2.

    It is a multiple of the dual optimum for every weight; the weight follows the margin, so that the two terms
    are of one size and a small margin is not lost beside the 1.
    """
    factor = y * (triangle(rows.values) if rows.values.shape[1] > len(c) else rows.values.T)
    nu, solved = np.full(len(c), 1.0 / c.sum()), True
    weight = np.inf
    for iteration in range(1, _MAX_RESCALINGS):
        margin = float(np.linalg.norm(factor @ nu) / (c @ nu))
        if solved and not 0.0 < margin < 0.1 * weight:
            return nu, iteration
        weight = margin
        stacked, target = np.vstack((factor, weight * c)), np.append(np.zeros(len(factor)), 1.0)
        try:
            found = nnls(stacked, target, maxiter=10 * len(c))[0]
        except RuntimeError:  # too many steps: what came before is a start to polish
            return nu, iteration
        if not found.any():
            return nu, iteration
        nu = found
        # degenerate samples can end in a wrong answer without a word: another weight takes another path
        solved = bool((stacked.T @ (stacked @ nu - target)).min() > -_NOT_SOLVED * weight * c.max())
    return nu, _MAX_RESCALINGS


def _polish(
    rows: Rows, y: Floats, c: Floats, nu: Floats, iterations: int, factorise: Callable[[Indices], Step]
) -> Candidate:
    """Solve for w and nu on the support of nu to round-off, exchanging samples until both have the right sign."""
    best = Candidate(combination(rows, y, nu), nu, iterations)
    support = np.flatnonzero(nu > 0.0)
    for exchange in range(_MAX_EXCHANGES):
        try:
            w, nu, slack = _solution(rows, y, c, support, factorise(support))
        except (LinAlgError, ValueError):  # dependent samples, or numbers that are none: the last pair stands
            break
        best = Candidate(w, np.maximum(nu, 0.0), iterations + exchange)
        negative = nu < -_ROUND_OFF * nu.max()
        slack[support] = 0.0
        worst = int((slack / c).argmin())
        if negative.any():
            support = np.flatnonzero((nu != 0.0) & ~negative)
        elif slack[worst] < -_ROUND_OFF * c[worst] - 2e-16 * float(np.linalg.norm(w)):
            support = np.append(support, worst)
        else:
            break
    return best


def _solution(rows: Rows, y: Floats, c: Floats, support: Indices, step: Step) -> tuple[Floats, Floats, Floats]:
    """Return the shortest w with z_i . w = c_i on the support, its multipliers, and z_i . w - c_i for all i."""
    w, nu = np.zeros(rows.values.shape[1]), np.zeros(len(c))
    residual, size, before = c[support], 1.0, np.inf
    sizes = np.where(residual != 0.0, np.abs(residual), np.abs(residual).max())
    while size < 0.5 * before:
        change, multipliers = step(residual)
        w += change
        nu[support] += multipliers
        slack = -y * row_residuals(rows, w, y * c)
        residual = -slack[support]
        size, before = float(np.abs(residual / sizes).max()), size
    if not np.isfinite(nu).all():
        raise LinAlgError("singular to working precision")
    return w, nu, slack


def _gram_step(rows: Rows, y: Floats, gram: Floats, support: Indices) -> Step:
    """Work with the Gram matrix of the support vectors."""
    factor = cho_factor(gram)

    def step(residual: Floats) -> tuple[Floats, Floats]:
        multipliers = cho_solve(factor, residual)
        nu = np.zeros(len(y))
        nu[support] = multipliers
        return combination(rows, y, nu), multipliers

    return step


def _orthogonal_step(rows: Rows, y: Floats, support: Indices) -> Step:
    """Work in an orthonormal basis of the support vectors: the Gram matrix would square their condition number."""
    columns = (y[support, None] * rows.values[support]).T
    basis, factor = qr(columns, mode="economic", overwrite_a=True, check_finite=False)
    if len(factor) < len(support):
        raise LinAlgError("more support vectors than features")

    def step(residual: Floats) -> tuple[Floats, Floats]:
        coordinates = solve_triangular(factor, residual, trans=1)
        return basis @ coordinates, solve_triangular(factor, coordinates)

    return step
