"""Uniqueness at a degenerate vertex of a small linear program, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from theorykit._numerics.linear import right_inverse
from theorykit._numerics.rounding import Floats, up
from theorykit.programs._exact import exact_product, exact_solution
from theorykit.programs._pair import Uniqueness

_ACTIVE = 1e-9
_POSITIVE = 1e-7
_DENOMINATOR = 10**6


def decided_vertex(G: Floats, h: Floats, equal: NDArray[np.bool_], x: Floats) -> Uniqueness:
    """Decide whether x is the only minimiser of its last coordinate over G x >= h (= h where `equal`).

    With I the active rows, x is the only one if G_I has full column rank and G_I^T lam = (0, ..., 0, 1) for some lam
    that is positive on the inequalities; if there is none, some v != 0 has G_I v >= 0 (= 0) and v_last <= 0.
    """
    scale = max(1.0, float(np.abs(x).max()))
    active = equal | (G @ x - h < _ACTIVE * scale)
    exact = exact_solution(G[active], h[active])
    if exact is None:
        return Uniqueness("unknown", "the solution is degenerate, and not exact on the active samples")
    slack = [value - Fraction(float(want)) for value, want in zip(exact_product(G, exact), h, strict=True)]
    if not all(value == 0 if held else value > 0 for value, held in zip(slack, active, strict=True)):
        return Uniqueness("unknown", "the exact vertex next to the solution violates a constraint")
    held, both = G[active], equal[active]
    multipliers, direction = _alternatives(held, both)
    if direction is None:
        if multipliers is not None and _positive(held, both, multipliers):
            return Uniqueness("proved", "exact vertex, and positive multipliers for all its active constraints")
        return Uniqueness("unknown", "strict multipliers exist in floating point, but were not proved")
    step = [Fraction(float(v)).limit_denominator(_DENOMINATOR) for v in direction / np.abs(direction).max()]
    change = exact_product(held, step)
    stays = all(value == 0 if same else value >= 0 for value, same in zip(change, both, strict=True))
    if not (stays and step[-1] <= 0 and any(step) and _optimal(held, both)):
        return Uniqueness("unknown", "other solutions exist in floating point, but were not proved")
    moved = np.array([float(v) for v in step])
    outputs, falling = (G @ x - h)[~active], -(G @ moved)[~active]
    limits = [scale, *(outputs[falling > 0.0] / falling[falling > 0.0]).tolist()]
    reason = "a direction that keeps the constraints and the norm, both exactly"
    return Uniqueness("disproved", reason, x + 0.5 * min(limits) * moved)


def _alternatives(held: Floats, both: NDArray[np.bool_]) -> tuple[Floats | None, Floats | None]:
    """Return positive multipliers, or a direction: maximise 1 . G v over 0 <= G v <= 1 (= 0) and v_last <= 0."""
    rows, last = held[~both], np.zeros(held.shape[1])
    last[-1] = 1.0
    found = linprog(
        -rows.sum(axis=0),
        A_ub=np.vstack((-rows, rows, last)),
        b_ub=np.concatenate((np.zeros(len(rows)), np.ones(len(rows)), [0.0])),
        A_eq=held[both] if both.any() else None,
        b_eq=np.zeros(int(both.sum())) if both.any() else None,
        bounds=(None, None),
    )
    if found.x is None:
        return None, None
    if float(rows.sum(axis=0) @ found.x) > _POSITIVE:
        return None, np.asarray(found.x)
    kappa = -float(found.ineqlin.marginals[-1])
    if not kappa > 0.0:
        return None, None
    multipliers = np.empty(len(held))
    multipliers[~both] = (1.0 - found.ineqlin.marginals[: len(rows)]) / kappa
    multipliers[both] = found.eqlin.marginals / kappa if both.any() else 0.0
    return multipliers, None


def _positive(held: Floats, both: NDArray[np.bool_], multipliers: Floats) -> bool:
    """Whether exact multipliers near these are positive on the inequalities, and the rows have full column rank."""
    inverse = right_inverse(held.T)
    if inverse is None:
        return False
    wanted = [Fraction(0)] * (held.shape[1] - 1) + [Fraction(1)]
    reached = exact_product(held.T, [Fraction(float(v)) for v in multipliers])
    residual = float(up(max(float(abs(a - b)) for a, b in zip(reached, wanted, strict=True))))
    radii = np.zeros(len(held))
    radii[inverse.columns] = inverse.correction(residual)
    return bool((multipliers > radii)[~both].all())


def _optimal(held: Floats, both: NDArray[np.bool_]) -> bool:
    """Whether exact multipliers, non-negative on the inequalities, prove the vertex optimal."""
    count, size = held.shape
    last = np.zeros(size)
    last[-1] = 1.0
    limits = [(None, None) if same else (0.0, None) for same in both]
    found = linprog(np.zeros(count), A_eq=held.T, b_eq=last, bounds=limits, method="highs-ds")
    if found.x is None:
        return False
    support = np.abs(found.x) > _ACTIVE * np.abs(found.x).max()
    if support.sum() > size:
        return False
    exact = exact_solution(held[support].T, last)
    return exact is not None and all(v >= 0 or same for v, same in zip(exact, both[support], strict=True))
