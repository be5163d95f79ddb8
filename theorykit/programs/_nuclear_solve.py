"""A solver for nuclear-norm programs over symmetric matrices: interior points, then a semismooth Newton method.

The program is ``min ||X||_* + sum_k (a_k(X) - b_k)^2 / (2 ridge_k)`` over symmetric X, with orthonormal measurements a;
ridge_k = 0 stands for the constraint a_k(X) = b_k. Its dual is ``max <b, y> - 1/2 sum_k ridge_k y_k^2`` subject to
``||A^T y||_op <= 1``. An interior-point method comes near, or, where there are too many unknowns for it, alternating
directions (Wen, Goldfarb and Yin, Math. Program. Comput. 2, 2010); proximal points on X, each found by a semismooth
Newton method in the m dual variables (Zhao, Sun and Toh, SIAM J. Optim. 20, 2010), end at round-off. Nothing here is
proved: the certificate judges what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from theorykit._numerics.rounding import Floats
from theorykit.programs._nuclear_interior import interior_point

_LARGEST_SCHUR = 3000
_NEGLIGIBLE = 1e-6
_LONG_STEP = 100.0  # so near the optimum the proximal term is only there to make it one point
_FIRST_ORDER_STEPS = 300
_FIRST_ORDER_ENOUGH = 1e-5
_PROXIMAL_STEPS = 40
_NEWTON_STEPS = 50
_CONJUGATE_STEPS = 60
_LARGEST_DENSE = 1000
_REGULARISATION = 1e-4
_ROUND_OFF = 4e-15
_NEAR = 1e-9
_GAP_ENOUGH, _GAP_GOOD = 1e-13, 1e-11
_OVERSTEP = 1.6


class SymmetricProgram(NamedTuple):
    """The program above, with ``||b|| = 1``.

    A as a map, its transpose, P^T A_k Q for all k, shape (m, r, n), and the matrix a_k(X A_l Y), shape (m, m), for
    symmetric X and Y. Where solutions have as much below 0 as above: what takes the one half to minus the other.
    """

    size: int
    b: Floats
    ridge: Floats
    measure: Callable[[Floats], Floats]
    adjoint: Callable[[Floats], Floats]
    rotated: Callable[[Floats, Floats], Floats]
    schur: Callable[[Floats, Floats], Floats]
    mirrored: Callable[[Floats], Floats] | None


class Pair(NamedTuple):
    """A primal matrix, a dual vector (feasible up to round-off) and how many eigendecompositions they took."""

    X: Floats
    y: Floats
    iterations: int


class _Best:
    """The best primal and the best dual seen so far, which need not come together."""

    def __init__(self, program: SymmetricProgram) -> None:
        self.program = program
        self.upper, self.lower = math.inf, 0.0
        self.X, self.y = np.zeros((program.size, program.size)), np.zeros(len(program.b))

    def offer(self, X: Floats, y: Floats) -> float:
        """Take what is better; return the relative gap."""
        p = self.program
        missing = np.where(p.ridge > 0.0, 0.0, p.b - p.measure(X))
        feasible = X + p.adjoint(missing)
        upper = float(np.abs(np.linalg.eigvalsh(feasible)).sum() + _misfit(p, feasible))
        if upper < self.upper:
            self.upper, self.X = upper, feasible
        inside = y / max(1.0, float(np.abs(np.linalg.eigvalsh(p.adjoint(y))).max()))
        lower = float(p.b @ inside - 0.5 * p.ridge @ inside**2)
        if lower > self.lower:
            self.lower, self.y = lower, inside
        return (self.upper - self.lower) / self.upper if self.upper > 0.0 else 0.0


def _misfit(program: SymmetricProgram, X: Floats) -> float:
    soft = program.ridge > 0.0
    residual = (program.measure(X) - program.b)[soft]
    return float(0.5 * np.sum(residual**2 / program.ridge[soft]))


def solve(program: SymmetricProgram) -> Pair:
    """Return a primal-dual pair with a relative gap near round-off where the problem is not too degenerate."""
    best = _Best(program)
    X, y, sigma, steps = _interior(program) if len(program.b) <= _LARGEST_SCHUR else _alternating(program)
    steps += _proximal(program, best, X, y, sigma)
    return Pair(best.X, best.y, steps)


def _interior(p: SymmetricProgram) -> tuple[Floats, Floats, float, int]:
    X, y, steps = interior_point(p)
    sizes = np.abs(np.linalg.eigvalsh(X))
    return X, y, _LONG_STEP * float(sizes[sizes > _NEGLIGIBLE * sizes.max()].mean()), steps


def _alternating(p: SymmetricProgram) -> tuple[Floats, Floats, float, int]:
    """Alternate between the dual vector y and its matrix Z in the unit ball; X is the multiplier of A^T y = Z."""
    X, Z, rho = np.zeros((p.size, p.size)), np.zeros((p.size, p.size)), 1.0 / p.size
    y = np.zeros(len(p.b))
    for step in range(1, _FIRST_ORDER_STEPS + 1):
        y = (p.measure(Z) + (p.b - p.measure(X)) / rho) / (1.0 + p.ridge / rho)
        matrix = p.adjoint(y)
        shrunk = rho * _shrink(matrix + X / rho)
        outside = matrix + (X - shrunk) / rho  # the projection of matrix + X/rho on the unit ball
        primal = float(np.linalg.norm(p.measure(shrunk) + p.ridge * y - p.b))
        dual = float(np.linalg.norm(matrix - outside)) / math.sqrt(p.size)
        X, Z = X + _OVERSTEP * (shrunk - X), outside
        if max(primal, dual) < _FIRST_ORDER_ENOUGH:
            return shrunk, y, rho, step
        if step % 20 == 0 and (step <= 200 or step % 100 == 0):
            rho *= 0.6 if primal > 3.0 * dual else 1.0 / 0.6 if dual > 3.0 * primal else 1.0
    return X, y, rho, _FIRST_ORDER_STEPS


def _shrink(matrix: Floats) -> Floats:
    """Return the matrix with its eigenvalues moved towards 0 by 1."""
    values, Q = np.linalg.eigh(matrix)
    kept = np.abs(values) > 1.0
    return np.asarray((Q[:, kept] * (values - np.sign(values))[kept]) @ Q[:, kept].T)


def _proximal(p: SymmetricProgram, best: _Best, X: Floats, y: Floats, sigma: float) -> int:
    """Take proximal steps on X until the gap is at round-off or no longer falls; return the eigendecompositions."""
    gap, stalled, steps = best.offer(X, y), 0, 0
    y = best.y.copy()
    for _ in range(_PROXIMAL_STEPS):
        new, y, taken = _proximal_step(p, X, y, sigma)
        steps += taken
        moved = float(np.linalg.norm(new - X)) / (sigma * math.sqrt(p.size))
        X, previous = new, gap
        gap = best.offer(X, y)
        stalled = stalled + 1 if gap > 0.9 * previous else 0
        if gap < _GAP_ENOUGH or stalled >= (3 if gap < _GAP_GOOD else 8) or moved < 1e-15:
            break
        sigma *= 8.0 if taken <= 6 else 3.0 if taken <= 12 else 1.0
    return steps


def _proximal_step(p: SymmetricProgram, X: Floats, y: Floats, sigma: float) -> tuple[Floats, Floats, int]:
    """Minimise the program plus ``||. - X||_F^2 / (2 sigma)`` through its smooth dual; return X, y and the steps."""
    new, previous, step = X, math.inf, 0
    while step < _NEWTON_STEPS:
        step += 1
        values, Q = np.linalg.eigh(X / sigma + p.adjoint(y))
        shrunk = np.sign(values) * np.maximum(np.abs(values) - 1.0, 0.0)
        new = sigma * (Q * shrunk) @ Q.T
        gradient = p.b - p.ridge * y - p.measure(new)
        miss = float(np.linalg.norm(gradient))
        moved = float(np.linalg.norm(new - X)) / (sigma * math.sqrt(p.size))
        enough = max(_ROUND_OFF * max(1.0, sigma), min(1e-3 * moved, 1e-2))
        if miss <= enough or (miss < _NEAR and miss > 0.5 * previous):
            break
        previous = miss
        direction = _newton_direction(p, values, shrunk, Q, gradient / sigma, sigma, miss)
        value = _smooth_dual(p, X, y, sigma)
        y = _line_search(p, X, y, sigma, direction, value, float(gradient @ direction))
    return new, y, step


def _newton_direction(
    p: SymmetricProgram, values: Floats, shrunk: Floats, Q: Floats, right: Floats, sigma: float, miss: float
) -> Floats:
    """Solve ``(A D A^T + ridge / sigma) d = right``, D the derivative of the shrinkage.

    By conjugate gradients; where those are slow, for a moderate number of unknowns, by the Cholesky factor.
    """
    slopes = _divided_differences(values, shrunk)
    shift = p.ridge / sigma + max(_ROUND_OFF, min(_REGULARISATION, 1e-2 * miss))

    kept = np.abs(shrunk) > 0.0  # D vanishes between the others
    first, half = Q[:, kept], slopes[kept] * np.where(kept, 0.5, 1.0)

    def hessian(d: Floats) -> Floats:
        corner = first @ ((half * (first.T @ p.adjoint(d) @ Q)) @ Q.T)
        return p.measure(corner + corner.T) + shift * d

    dense = len(right) <= _LARGEST_DENSE
    limit = _CONJUGATE_STEPS if dense else 10 * _CONJUGATE_STEPS
    solution, converged = _conjugate_gradients(hessian, right, min(1e-3, math.sqrt(miss)), limit)
    if converged or not dense:
        return solution
    weights = np.sqrt(np.where(kept[None, :], slopes[kept], 2.0 * slopes[kept]))  # the other corner counts here, too
    rows = (p.rotated(first, Q) * weights).reshape(len(right), -1)
    try:
        factor = cho_factor(rows @ rows.T + np.diag(shift), lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return solution
    return np.asarray(cho_solve(factor, right, check_finite=False))


def _conjugate_gradients(
    matrix: Callable[[Floats], Floats], right: Floats, tolerance: float, limit: int
) -> tuple[Floats, bool]:
    """Return the solution and whether its relative residual is within the tolerance."""
    solution, residual = np.zeros_like(right), right.copy()
    search, square = residual.copy(), float(residual @ residual)
    enough = tolerance**2 * square
    for _ in range(limit):
        image = matrix(search)
        length = square / max(float(search @ image), 1e-300)
        solution += length * search
        residual -= length * image
        previous, square = square, float(residual @ residual)
        if square <= enough:
            return solution, True
        search = residual + (square / previous) * search
    return solution, False


def _divided_differences(values: Floats, shrunk: Floats) -> Floats:
    """Return (f(a) - f(b)) / (a - b) over pairs of eigenvalues, f'(a) where they coincide."""
    width = values[:, None] - values[None, :]
    same = np.abs(width) <= 1e-14 * np.abs(values).max()
    outside = (np.abs(values) > 1.0).astype(np.float64)
    slope = 0.5 * (outside[:, None] + outside[None, :])
    return np.asarray(np.where(same, slope, (shrunk[:, None] - shrunk[None, :]) / np.where(same, 1.0, width)))


def _smooth_dual(p: SymmetricProgram, X: Floats, y: Floats, sigma: float) -> float:
    values = np.linalg.eigvalsh(X / sigma + p.adjoint(y))
    excess = np.maximum(np.abs(values) - 1.0, 0.0)
    return float(p.b @ y - 0.5 * p.ridge @ y**2 - 0.5 * sigma * excess @ excess)


def _line_search(
    p: SymmetricProgram, X: Floats, y: Floats, sigma: float, direction: Floats, value: float, slope: float
) -> Floats:
    """Halve the step until the dual climbs enough (Armijo), with an allowance for its round-off."""
    length = 1.0
    while length > 1e-4:
        moved = y + length * direction
        if _smooth_dual(p, X, moved, sigma) >= value + 1e-4 * length * slope - 1e-15 * abs(value):
            return moved
        length *= 0.5
    return y + length * direction
