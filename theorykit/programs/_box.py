"""Dual programs of support vector machines: min 1/2 mu . G mu - c . mu over 0 <= mu <= upper, G semidefinite.

Block principal pivoting (Judice and Pires, Comput. Oper. Res. 21, 1994), with both bounds, where G is well conditioned;
otherwise a primal-dual interior-point method (Mehrotra, SIAM J. Optim. 2, 1992), which does not mind a singular G.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky

from theorykit._numerics.rounding import Floats

_WELL_CONDITIONED = 1e-5
_MAX_STEPS = 100
_TO_THE_BOUNDARY = 0.99
_COMPLEMENTARY = 1e-15


def box_program(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int]:
    """Return the minimiser (one of them where G is singular) and the number of pivots or steps."""
    found = block_pivoting(G, c, upper) if is_well_conditioned(G) else None
    return _interior_point(G, c, upper) if found is None else found


def is_well_conditioned(G: Floats) -> bool:
    """Whether the Cholesky factor of G, scaled to unit diagonal, has no small pivot."""
    if not G.diagonal().min() > 0.0:
        return False
    scale = 1.0 / np.sqrt(G.diagonal())
    try:
        factor = cholesky(scale[:, None] * G * scale, lower=True)
    except LinAlgError:
        return False
    return bool(factor.diagonal().min() > _WELL_CONDITIONED)


def block_pivoting(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int] | None:
    """Return the minimiser for positive definite G; None where that takes too many pivots.

    Each entry is free, at 0, or at its upper bound. All those of the wrong sign change sides at once, as long as that
    makes them fewer; after three failures only the last of them does (Murty's rule), which would end some day.
    """
    high, free = np.zeros(len(c), dtype=bool), np.ones(len(c), dtype=bool)
    magnitudes = np.abs(G)
    fewest, patience = len(c) + 1, 3
    for iteration in range(1, 60):
        mu = _restricted(G, c, upper, free, high)
        slope = G @ mu - c
        noise = np.where(free, 1e-13 * np.abs(mu).max(), 1e-15 * (magnitudes @ np.abs(mu) + c))
        above = free & (mu > upper + noise)
        leave = (~free & ~high & (slope < -noise)) | (high & (slope > noise))
        wrong = np.flatnonzero((free & (mu < -noise)) | above | leave)
        if len(wrong) == 0:
            return np.clip(mu, 0.0, upper), iteration
        if len(wrong) < fewest:
            fewest, patience = len(wrong), 3
        elif patience > 0:
            patience -= 1
        else:
            wrong = wrong[-1:]
        free[wrong] = leave[wrong]
        high[wrong] = above[wrong]
    return None


def _restricted(G: Floats, c: Floats, upper: Floats, free: NDArray[np.bool_], high: NDArray[np.bool_]) -> Floats:
    """Return the mu with the given entries at their upper bounds, G mu = c on the free ones, and 0 elsewhere."""
    mu = np.where(high, upper, 0.0)
    if free.any():
        right = c[free] - (G[np.ix_(free, high)] @ upper[high] if high.any() else 0.0)
        mu[free] = cho_solve(cho_factor(G[np.ix_(free, free)]), right)
    return mu


class _Point(NamedTuple):
    """mu, its distance to the upper bounds, and the multipliers of the lower and upper bounds (room 1, v 0: none)."""

    mu: Floats
    room: Floats
    z: Floats
    v: Floats


def _interior_point(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int]:
    """Return the minimiser, entries at their bounds put there, for positive semidefinite G and a bounded program.

    The optimality conditions are G mu - c - z + v = 0, mu z = 0 and room v = 0.
    """
    bounded = np.isfinite(upper)
    size = float(c.max() / (G.diagonal().max() or 1.0))
    mu = np.where(bounded, np.minimum(0.5 * np.where(bounded, upper, 1.0), size), size)
    z = np.full(len(c), float(c.max()))
    at = _Point(mu, np.where(bounded, upper - mu, 1.0), z, np.where(bounded, z, 0.0))
    pairs = len(c) + int(bounded.sum())
    steps = 0
    while steps < _MAX_STEPS:
        steps += 1
        residual = G @ at.mu - c - at.z + at.v
        gap = _complementarity(at) / pairs
        if gap <= _COMPLEMENTARY * float(c @ at.mu) / pairs and np.abs(residual).max() <= 1e-13 * c.max():
            break
        try:
            factor = cho_factor(G + np.diag(at.z / at.mu + at.v / at.room))
        except LinAlgError:  # round-off is all that is left
            break
        predicted = _newton(factor, residual, at, np.zeros(len(c)), np.zeros(len(c)), bounded)
        centre = gap * (_complementarity(_moved(at, predicted, 1.0)[0]) / (gap * pairs)) ** 3
        lower, higher = centre - predicted.mu * predicted.z, bounded * centre - predicted.room * predicted.v
        at, longest = _moved(at, _newton(factor, residual, at, lower, higher, bounded), _TO_THE_BOUNDARY)
        if not longest > 1e-10:
            break
    diagonal = G.diagonal()
    inside = np.where(at.mu * diagonal > at.z, np.minimum(at.mu, upper), 0.0)
    return np.where(bounded & (at.room * diagonal < at.v), upper, inside), steps


def _complementarity(at: _Point) -> float:
    return float(at.mu @ at.z + at.room @ at.v)


def _newton(
    factor: Any, residual: Floats, at: _Point, lower: Floats, higher: Floats, bounded: NDArray[np.bool_]
) -> _Point:
    """Return the step to mu z = lower and room v = higher, to first order."""
    first, second = lower / at.mu - at.z, higher / at.room - at.v
    move = cho_solve(factor, first - residual - second)
    return _Point(move, -move * bounded, first - at.z / at.mu * move, second + at.v / at.room * move)


def _moved(at: _Point, step: _Point, part: float) -> tuple[_Point, float]:
    """Go that part of the way to the boundary, primal and dual each, at most the whole step; and the longer of them."""
    primal, dual = (min(1.0, part * _longest(*pairs)) for pairs in ((at[:2], step[:2]), (at[2:], step[2:])))
    lengths = primal, primal, dual, dual
    return _Point(*(x + t * dx for x, t, dx in zip(at, lengths, step, strict=True))), max(primal, dual)


def _longest(values: tuple[Floats, ...], changes: tuple[Floats, ...]) -> float:
    """Return the largest step that leaves all values non-negative."""
    limit = math.inf
    for value, change in zip(values, changes, strict=True):
        falling = change < 0.0
        if falling.any():
            limit = min(limit, float((value[falling] / -change[falling]).min()))
    return limit
