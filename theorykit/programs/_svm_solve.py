"""Kernel machines solved in the dual: the pair (g, nu) of a system, polished to round-off on the active set."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from theorykit._numerics.rounding import Floats, Rows, shift
from theorykit._numerics.threads import one_blas_thread
from theorykit.programs import _l2
from theorykit.programs._box import box_program, is_well_conditioned
from theorykit.programs._scaled import targets
from theorykit.programs._systems import RowSystem, System

_MAX_EXCHANGES = 50
_MAX_REFINEMENTS = 30
_MAX_RESCALINGS = 8
_RIDGE = 1e-10
_ROUND_OFF = 1e-14


class Pair(NamedTuple):
    """Predictor and multipliers in the units of a system, and the iterations they took."""

    g: Floats
    nu: Floats
    iterations: int


def hard_margin(system: System) -> Pair:
    """Return the pair for: min 1/2 ||g||^2 subject to <u_k, g> >= c_k; nothing is promised where none is feasible."""
    with one_blas_thread():
        if isinstance(system, RowSystem):
            return Pair(*_l2.solve(system.rows, np.ones(len(system.exponents))))
        c = _targets(system)
        nu, iterations = least_combination(system.gram, c)
        return _polished(system, c, np.full(len(c), np.inf), nu, iterations)


def soft_margin(system: System, C: float) -> Pair:
    """Return the pair for: min 1/2 ||h||^2 + C sum_k max(0, 1 - <z_k, h>)."""
    smallest = int(system.exponents.min())
    cap = shift(np.full(len(system.exponents), C), smallest + system.exponents)
    c = shift(np.ones(len(cap)), smallest - system.exponents)
    with one_blas_thread():
        if (np.abs(system.gram) @ cap < 0.5 * c).all():  # so cheap that all margins stay below 1
            return Pair(system.combine(cap), cap, 0)
        nu, iterations = box_program(system.gram, c, cap)
        return _polished(system, c, cap, nu, iterations)


def _targets(system: System) -> Floats:
    return targets(Rows(np.empty(0), system.exponents))


def least_combination(G: Floats, c: Floats) -> tuple[Floats, int]:
    """Return nu >= 0 with the least ||sum_k nu_k u_k|| for its c . nu, at the scale that the hard margin needs.

    Where G is singular, the least ``nu . G nu + weight^2 (c . nu - 1)^2``, which has a minimiser whether or not the
    constraints can be met; the weight follows the margin, so that the two terms are of one size.
    """
    free = np.full(len(c), np.inf)
    if is_well_conditioned(G):
        return box_program(G, c, free)
    nu, weight, total = np.full(len(c), 1.0 / c.sum()), math.inf, 0
    for _ in range(_MAX_RESCALINGS):
        margin = math.sqrt(max(0.0, float(nu @ G @ nu))) / float(c @ nu)
        if not _ROUND_OFF < margin < 0.1 * weight:
            break
        weight = margin
        found, pivots = box_program(G + weight**2 * np.outer(c, c), weight**2 * c, free)
        total += pivots
        if not found.any():
            break
        nu = found
    square = float(nu @ G @ nu)
    return (nu * float(c @ nu) / square if square > 0.0 else nu), total


def _polished(system: System, c: Floats, cap: Floats, nu: Floats, iterations: int) -> Pair:
    """Solve on the free multipliers to round-off, exchanging constraints until all signs are right."""
    G = system.gram
    magnitudes = np.abs(G)
    free, best = (nu > 0.0) & (nu < cap), nu
    for _ in range(_MAX_EXCHANGES):
        iterations += 1
        nu, margins = _refined(system, G, c, best, free)
        noise = _ROUND_OFF * c + 4e-16 * (magnitudes @ np.abs(nu))
        dropped, capped = free & (nu < 0.0), free & (nu > cap)
        best = np.clip(nu, 0.0, cap)
        if dropped.any() or capped.any():
            free &= ~(dropped | capped)
            continue
        joining = ~free & np.where(best > 0.0, margins > c + noise, margins < c - noise)
        if not joining.any():
            break
        worst = int(np.where(joining, np.abs(margins - c), -1.0).argmax())
        free[worst] = True
    return Pair(system.combine(best), best, iterations)


def _refined(system: System, G: Floats, c: Floats, nu: Floats, free: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return nu with <u_k, sum_j nu_j u_j> = c_k on the free entries, and these margins for all k.

    Iterative refinement with residuals in doubled precision; a small multiple of the identity where the free block is
    singular, which refinement takes out again as far as the equations determine nu.
    """
    margins = _middle(system, nu)
    if not free.any():
        return nu, margins
    block = G[np.ix_(free, free)]
    ridge = 0.0 if is_well_conditioned(block) else _RIDGE * float(block.diagonal().max())
    factor = cho_factor(block + ridge * np.eye(len(block)))
    before = math.inf
    for _ in range(_MAX_REFINEMENTS):
        residual = (c - margins)[free]
        size = float(np.abs(residual / c[free]).max())
        if not 0.0 < size < 0.5 * before:
            break
        trial = nu.copy()
        trial[free] += cho_solve(factor, residual)
        moved = _middle(system, trial)
        if not float(np.abs((c - moved)[free] / c[free]).max()) < size:
            break
        nu, margins, before = trial, moved, size
    return nu, margins


def _middle(system: System, nu: Floats) -> Floats:
    """Return the margins of sum_k nu_k u_k, to round-off."""
    lower, upper = system.margins(system.combine(nu))
    return 0.5 * (lower + upper)
