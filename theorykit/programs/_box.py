"""Dual programs of support vector machines: min 1/2 mu . G mu - c . mu over 0 <= mu <= upper, G semidefinite.

Block principal pivoting (Judice and Pires, Comput. Oper. Res. 21, 1994), with both bounds; where G is singular or close
to it, inside a proximal point iteration, which adds a multiple of the identity and takes its effect out again.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky

from theorykit._numerics.rounding import Floats

_WELL_CONDITIONED = 1e-5
_PROXIMAL = 1e-8
_MAX_PROXIMAL = 60
_AT_REST = 1e-13


def box_program(G: Floats, c: Floats, upper: Floats) -> tuple[Floats, int]:
    """Return the minimiser (one of them where G is singular) and the number of pivots.

    Unbounded programs end with a very large mu.
    """
    if is_well_conditioned(G):
        return _pivoting(G, c, upper, np.zeros(len(c)))
    delta = _PROXIMAL * float(G.diagonal().max())
    lifted = G + delta * np.eye(len(c))
    mu, total = np.zeros(len(c)), 0
    for _ in range(_MAX_PROXIMAL):
        before = mu
        mu, pivots = _pivoting(lifted, c + delta * before, upper, before)
        total += pivots
        if np.abs(mu - before).max() <= _AT_REST * mu.max():
            break
    return mu, total


def is_well_conditioned(G: Floats) -> bool:
    """Whether the Cholesky factor of G, scaled to unit diagonal, has no small pivot."""
    if not G.diagonal().min() > 0.0:
        return False
    scale = 1.0 / np.sqrt(G.diagonal())
    try:
        factor = cholesky(scale[:, None] * G * scale, lower=True)
    except np.linalg.LinAlgError:
        return False
    return bool(factor.diagonal().min() > _WELL_CONDITIONED)


def _pivoting(G: Floats, c: Floats, upper: Floats, start: Floats) -> tuple[Floats, int]:
    """Return the minimiser for positive definite G.

    Each entry is free, at 0, or at its upper bound. All those of the wrong sign change sides at once, as long as that
    makes them fewer; after three failures only the last of them does, which ends in finitely many steps (Murty's rule).
    """
    high = (start >= upper) & np.isfinite(upper)
    free = ~high & ((start > 0.0) if start.any() else np.ones(len(c), dtype=bool))
    magnitudes = np.abs(G)
    fewest, patience = len(c) + 1, 3
    limit = 20 * len(c) + 20
    mu = start
    for iteration in range(1, limit):
        mu = _restricted(G, c, upper, free, high)
        slope = G @ mu - c
        noise = np.where(free, 1e-13 * np.abs(mu).max(), 1e-15 * (magnitudes @ np.abs(mu) + c))
        below = free & (mu < -noise)
        above = free & (mu > upper + noise)
        leave = (~free & ~high & (slope < -noise)) | (high & (slope > noise))
        wrong = np.flatnonzero(below | above | leave)
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
    return np.clip(mu, 0.0, upper), limit


def _restricted(G: Floats, c: Floats, upper: Floats, free: Floats, high: Floats) -> Floats:
    """Return the mu with the given entries at 0 and at their upper bounds and G mu = c on the free ones."""
    mu = np.where(high, upper, 0.0)
    if free.any():
        right = c[free] - (G[np.ix_(free, high)] @ upper[high] if high.any() else 0.0)
        mu[free] = cho_solve(cho_factor(G[np.ix_(free, free)]), right)
    return mu
