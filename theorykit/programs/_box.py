"""Dual programs of support vector machines: min 1/2 mu . G mu - c . mu over 0 <= mu <= upper, G semidefinite.

Block principal pivoting (Judice and Pires, Comput. Oper. Res. 21, 1994), with both bounds, where G is well conditioned;
otherwise a primal-dual interior-point method (Mehrotra, SIAM J. Optim. 2, 1992), which does not mind a singular G.
"""

from __future__ import annotations

import math

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
    found = _pivoting(G, c, upper) if is_well_conditioned(G) else None
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


def _pivoting(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int] | None:
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


def _interior_point(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int]:
    """Return the minimiser, entries at their bounds put there, for positive semidefinite G and a bounded program.

    With z and v the multipliers of the two bounds: G mu - c - z + v = 0, mu z = 0, (upper - mu) v = 0.
    """
    bounded = np.isfinite(upper)
    size = float(c.max() / G.diagonal().max())
    mu = np.where(bounded, np.minimum(0.5 * np.where(bounded, upper, 1.0), size), size)
    room = np.where(bounded, upper - mu, 1.0)
    z = np.full(len(c), float(c.max()))
    v = np.where(bounded, z, 0.0)
    pairs = len(c) + int(bounded.sum())
    steps = 0
    while steps < _MAX_STEPS:
        steps += 1
        residual = G @ mu - c - z + v
        gap = float(mu @ z + room @ v) / pairs
        if gap <= _COMPLEMENTARY * float(c @ mu) / pairs and np.abs(residual).max() <= 1e-13 * c.max():
            break
        try:
            factor = cho_factor(G + np.diag(z / mu + v / room))
        except LinAlgError:  # round-off is all that is left
            break

        def newton(lower: Floats, higher: Floats) -> tuple[Floats, Floats, Floats]:
            """Return the step to mu z = lower and room v = higher, to first order."""
            right = -residual + (lower / mu - z) - np.where(bounded, higher / room - v, 0.0)  # noqa: B023
            move = cho_solve(factor, right)  # noqa: B023
            dz = lower / mu - z - z / mu * move  # noqa: B023
            dv = np.where(bounded, higher / room - v + v / room * move, 0.0)  # noqa: B023
            return move, dz, dv

        zeros = np.zeros(len(c))
        dmu, dz, dv = newton(zeros, zeros)
        t, s = _longest(mu, dmu, room, -dmu * bounded), _longest(z, dz, v, dv)
        ahead = float((mu + t * dmu) @ (z + s * dz) + (room - t * dmu * bounded) @ (v + s * dv)) / pairs
        centre = gap * (ahead / gap) ** 3
        dmu, dz, dv = newton(centre - dmu * dz, centre + dmu * dv)
        t, s = _longest(mu, dmu, room, -dmu * bounded), _longest(z, dz, v, dv)
        if not (np.isfinite(dmu).all() and max(t, s) > 1e-10):
            break
        t, s = min(1.0, _TO_THE_BOUNDARY * t), min(1.0, _TO_THE_BOUNDARY * s)
        mu, z, v = mu + t * dmu, z + s * dz, v + s * dv
        room = np.where(bounded, room - t * dmu, 1.0)
    diagonal = G.diagonal()
    inside = np.where(mu * diagonal > z, np.minimum(mu, upper), 0.0)
    return np.where(bounded & (room * diagonal < v), upper, inside), steps


def _longest(x: Floats, dx: Floats, y: Floats, dy: Floats) -> float:
    """Return the largest step, at most 1/0.99, that leaves x and y non-negative."""
    limit = 1.0 / _TO_THE_BOUNDARY
    for value, change in ((x, dx), (y, dy)):
        falling = change < 0.0
        if falling.any():
            limit = min(limit, float((value[falling] / -change[falling]).min()))
    return limit if math.isfinite(limit) else 0.0
