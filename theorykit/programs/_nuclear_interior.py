"""An interior-point method for nuclear-norm programs over symmetric matrices, as semidefinite programs.

With X = P - N, both positive semidefinite, the program of `_nuclear_solve` is ``min tr P + tr N`` subject to
``a(P - N) + ridge y = b``; its dual asks that ``I - A^T y`` and ``I + A^T y`` be positive semidefinite. Both have
interior points, whatever the data, so that the method needs no non-degeneracy. Directions as in Helmberg, Rendl,
Vanderbei and Wolkowicz (SIAM J. Optim. 6, 1996), with Mehrotra's corrector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular

from theorykit._numerics.rounding import Floats

if TYPE_CHECKING:
    from theorykit.programs._nuclear_solve import SymmetricProgram

_STEPS = 60
_TO_THE_BOUNDARY = 0.95
_ENOUGH, _NEAR, _STALLED = 1e-11, 1e-8, 0.3
_ADDED = (0.0, 1e-15, 1e-14, 1e-13, 1e-12)
_REFINEMENTS = 2


class _Side(NamedTuple):
    """P (sign 1) or N (sign -1), the dual matrix I - sign A^T y, and its inverse."""

    sign: float
    X: Floats
    Z: Floats
    inverse: Floats


Moves = list[tuple[Floats, Floats]]
"""The changes of X and Z, side by side."""


def interior_point(p: SymmetricProgram) -> tuple[Floats, Floats, int]:
    """Return a nearly optimal X, a y inside the dual ball, and the number of steps."""
    y, before = np.zeros(len(p.b)), math.inf
    start, one = 10.0 * math.sqrt(p.size) * float(np.abs(p.b).max()) * np.eye(p.size), np.eye(p.size)
    sides = [_Side(sign, start, one, one) for sign in ((1.0,) if p.mirrored is not None else (1.0, -1.0))]
    steps = 0
    while steps < _STEPS:
        gap = sum(float(np.vdot(s.X, s.Z)) for s in sides)
        relative = gap / max(float(p.b @ y), 1e-300)
        if relative <= _ENOUGH or (relative < _NEAR and gap > _STALLED * before):
            break
        try:
            sides, y = _stepped(p, sides, y, gap)
        except LinAlgError:  # round-off is all that is left
            break
        before, steps = gap, steps + 1
    X = sides[0].X - sides[1].X if p.mirrored is None else 0.5 * (sides[0].X - p.mirrored(sides[0].X))
    return X, y, steps


def _stepped(p: SymmetricProgram, sides: list[_Side], y: Floats, gap: float) -> tuple[list[_Side], Floats]:
    """Predict, correct, and go nearly to the boundary."""
    solve = _solver(sum((p.schur(s.X, s.inverse) for s in sides), np.diag(p.ridge)))
    ahead, _ = _direction(p, sides, y, solve, 0.0, None)
    lengths = [min(1.0, length) for length in _lengths(sides, ahead)]
    after = sum(
        float(np.vdot(s.X + lengths[0] * dX, s.Z + lengths[1] * dZ)) for s, (dX, dZ) in zip(sides, ahead, strict=True)
    )
    centre = gap / (p.size * len(sides)) * min(1.0, max(after, 0.0) / gap) ** 3
    moves, dy = _direction(p, sides, y, solve, centre, ahead)
    length, dual_length = (min(1.0, _TO_THE_BOUNDARY * longest) for longest in _lengths(sides, moves))
    y = y + dual_length * dy
    return [_moved(p, s, y, length * dX) for s, (dX, _) in zip(sides, moves, strict=True)], y


def _direction(
    p: SymmetricProgram,
    sides: list[_Side],
    y: Floats,
    solve: Callable[[Floats], Floats],
    centre: float,
    ahead: Moves | None,
) -> tuple[Moves, Floats]:
    """Return the step to X Z = centre, symmetrised; with a predictor, its second order taken off."""
    targets = [centre * s.inverse for s in sides]
    if ahead is not None:
        targets = [
            target - _symmetric(dX @ dZ @ s.inverse) for target, s, (dX, dZ) in zip(targets, sides, ahead, strict=True)
        ]
    reached = sum((s.sign * p.measure(target) for s, target in zip(sides, targets, strict=True)), p.ridge * y)
    dy = solve(p.b - reached)
    slope = p.adjoint(dy)
    moves = [
        (target - s.X + s.sign * _symmetric(s.X @ slope @ s.inverse), -s.sign * slope)
        for s, target in zip(sides, targets, strict=True)
    ]
    return moves, dy


def _symmetric(matrix: Floats) -> Floats:
    return np.asarray(0.5 * (matrix + matrix.T))


def _lengths(sides: list[_Side], moves: Moves) -> tuple[float, float]:
    """Return how far X and Z can go before one of them is singular."""
    pairs = list(zip(sides, moves, strict=True))
    return min(_longest(s.X, dX) for s, (dX, _) in pairs), min(_longest(s.Z, dZ) for s, (_, dZ) in pairs)


def _longest(matrix: Floats, change: Floats) -> float:
    L = np.linalg.cholesky(matrix)
    half = solve_triangular(L, change, lower=True, check_finite=False)
    smallest = float(np.linalg.eigvalsh(solve_triangular(L, half.T, lower=True, check_finite=False))[0])
    return -1.0 / smallest if smallest < 0.0 else math.inf


def _moved(p: SymmetricProgram, side: _Side, y: Floats, change: Floats) -> _Side:
    one = np.eye(p.size)
    Z = one - side.sign * p.adjoint(y)
    inverse = cho_solve(cho_factor(Z, check_finite=False), one, check_finite=False)
    return _Side(side.sign, side.X + change, Z, _symmetric(inverse))


def _solver(matrix: Floats) -> Callable[[Floats], Floats]:
    """Return a solver for a positive semidefinite matrix: Cholesky with as little added as it needs, then refined."""
    scale = 1.0 / np.sqrt(matrix.diagonal())
    unit = scale[:, None] * matrix * scale
    for added in _ADDED:
        shifted = unit + added * np.eye(len(unit))
        try:
            factor = cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
            break
        except LinAlgError:
            if added == _ADDED[-1]:
                raise

    def solve(right: Floats) -> Floats:
        wanted = scale * right
        found = cho_solve(factor, wanted, check_finite=False)
        for _ in range(_REFINEMENTS):
            found += cho_solve(factor, wanted - unit @ found, check_finite=False)
        return np.asarray(scale * found)

    return solve
