"""Whether a solution is the only one: proofs by enclosures or in exact arithmetic, and second solutions.

For min ||w||_1 subject to z_i . w >= c_i (or = c_i), let nu be dual optimal, A the samples with nu_i > 0 (all of them
for equations) and F the support of an optimal w. If |Z^T nu|_k < 1 off F and Z_AF has full column rank, w is the only
solution: along any other direction v that keeps all constraints, the norm grows at least by sum_k (Z^T nu)_k v_k >= 0,
and by more unless v is 0 off F and Z_A v = 0. Conversely, if no nu has this property, some direction v != 0 keeps both
the active constraints and the norm.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from theorykit._numerics.linear import right_inverse
from theorykit._numerics.rounding import Floats, Rows, scale_rows, shift, sum_bounds, up
from theorykit._numerics.threads import one_blas_thread
from theorykit.programs._exact import exact_product, exact_solution
from theorykit.programs._group_uniqueness import decided_group
from theorykit.programs._l1 import silent_highs
from theorykit.programs._norms import Norm
from theorykit.programs._pair import Pair, Uniqueness
from theorykit.programs._polyhedron import decided_vertex

Indices = NDArray[np.intp]

_SMALL = 1e-9
_EXACT = 64
_TOLERANCE = 1e-9
_STRICT = 1e-7
_ENOUGH = 0.99
_COLUMNS = 500
_DENOMINATOR = 10**6


def of_margin(X: NDArray[Any], y: Floats, w: Floats, dual: Floats, norm: Norm) -> Uniqueness:
    """Decide whether w is the only solution of min ||w|| subject to y_i <w, x_i> >= 1."""
    scaled = scale_rows(X)
    lowest = int(scaled.exponents.min())
    if scaled.exponents.max() - lowest > 1000:
        return Uniqueness("unknown", "the samples are of too different scales to decide")
    c = np.asarray(shift(np.ones(len(X)), lowest - scaled.exponents))
    solved = Pair(_plain(scaled), y, c, shift(w, lowest), shift(dual, scaled.exponents - lowest), False)
    return _rescaled(_decided(solved, norm), -lowest)


def of_equations(
    X: NDArray[Any], y: Floats, w: Floats, dual: Floats, independent: NDArray[np.int64], norm: Norm
) -> Uniqueness:
    """Decide whether w is the only solution of min ||w|| subject to <w, x_i> = y_i; the other equations follow."""
    if not y.any():
        return Uniqueness("proved", "y = 0: only w = 0 has norm 0")
    if len(independent) == X.shape[1]:
        return Uniqueness("proved", "as many independent equations as features: only one w satisfies them")
    held, wanted = scale_rows(X[independent]), y[independent]
    relative = np.frexp(wanted)[1] - held.exponents
    highest = int(relative[wanted != 0.0].max())
    if highest - int(relative[wanted != 0.0].min()) > 900:
        return Uniqueness("unknown", "the equations are of too different scales to decide")
    c = np.asarray(shift(wanted, -held.exponents - highest))
    weights = shift(dual[independent], held.exponents - int(held.exponents.min()))
    solved = Pair(_plain(held), np.ones(len(c)), c, shift(w, -highest), weights, True)
    return _rescaled(_decided(solved, norm), highest)


def _plain(scaled: Rows) -> Rows:
    return Rows(scaled.values, np.zeros_like(scaled.exponents))


def _rescaled(found: Uniqueness, exponent: int) -> Uniqueness:
    return found._replace(alternative=None if found.alternative is None else shift(found.alternative, exponent))


def _decided(solved: Pair, norm: Norm) -> Uniqueness:
    if norm.kind == 2 or (norm.groups is not None and norm.groups.max() == 0):
        return Uniqueness("proved", "the Euclidean norm is strictly convex")
    if norm.groups is not None and norm.groups.max() + 1 < len(norm.groups):
        with one_blas_thread():
            return decided_group(solved, norm.groups)
    lower, upper = solved.products(solved.dual)
    sizes = np.maximum(-lower, upper)
    total = float(sizes.sum() if norm.kind == math.inf else sizes.max())
    if not 0.0 < total < math.inf:
        return Uniqueness("unknown", "the multipliers vanish")
    solved = solved._replace(dual=solved.dual / total)
    with one_blas_thread():
        return _decided_linf(solved) if norm.kind == math.inf else _decided_l1(solved)


# --- what both polyhedral norms share -------------------------------------------------------------------------------


def _enclosed(matrix: Floats, residual: Floats, uncertain: Floats | None = None) -> Floats | None:
    """Bound the entries of the solution of a square system by its residual; None where singularity is not excluded.

    `uncertain` bounds, row by row, the sum of the absolute errors of the matrix entries times what they multiply.
    """
    inverse = right_inverse(matrix)
    if inverse is None or len(inverse.columns) < matrix.shape[1]:
        return None
    if uncertain is not None:
        spread = np.zeros(matrix.shape[1])
        spread[inverse.columns] = inverse.magnitudes
        inverse = inverse._replace(defect=float(up(inverse.defect + 2.0 * float(uncertain @ spread))))
        if not inverse.defect < 0.5:
            return None
    radii = np.empty(matrix.shape[1])
    radii[inverse.columns] = inverse.correction(float(residual.max(initial=0.0)))
    return radii if np.isfinite(radii).all() else None


def _misses(lower: Any, upper: Any, wanted: Any) -> Floats:
    """Bound |value - wanted| for values in the intervals."""
    return np.asarray(np.maximum(up(wanted - lower), up(upper - wanted)))


def _rows_hold(solved: Pair, w: Floats, radii: Floats, active: Indices) -> bool:
    """Whether the other inequalities hold strictly at every point within the radii of w."""
    others = np.ones(len(solved.y), dtype=bool)
    others[active] = False
    lower, _ = solved.outputs(w)
    spread = 1.01 * solved.largest() * float(radii.sum())
    return bool((lower - spread > solved.c)[others].all())


# --- l1 ---------------------------------------------------------------------------------------------------------------


def _decided_l1(solved: Pair) -> Uniqueness:
    support = np.flatnonzero(np.abs(solved.w) > _SMALL * np.abs(solved.w).max())
    active = np.arange(len(solved.y))
    if not solved.equations:
        active = np.flatnonzero(solved.dual > _SMALL * solved.dual.max())
    found = _l1_vertex(solved, support, active) if len(support) == len(active) else None
    return found or _l1_exactly(solved, support)


def _l1_vertex(solved: Pair, support: Indices, active: Indices) -> Uniqueness | None:
    """Decide at a vertex with as many features as active samples, by enclosing the exact pair; None where it is not."""
    block = solved.block(active, support)
    w, dual = np.zeros(len(solved.w)), np.zeros(len(solved.dual))
    w[support], dual[active] = solved.w[support], solved.dual[active]
    signs = np.sign(w[support])
    lower, upper = solved.outputs(w)
    radii = _enclosed(block, _misses(lower, upper, solved.c)[active])
    low, high = solved.products(dual)
    weights = _enclosed(block.T, _misses(low, high, np.sign(w))[support])
    if radii is None or weights is None or not (np.abs(w[support]) > radii).all():
        return None
    if not solved.equations and not ((dual[active] > weights).all() and _rows_hold(solved, w, radii, active)):
        return None
    spread = 1.01 * solved.largest() * float(weights.sum())
    loose = np.maximum(-low, high) + spread < 1.0
    loose[support] = True
    tight = np.flatnonzero(~loose)
    if len(tight) == 0:
        return Uniqueness("proved", "a non-degenerate vertex: all other features have |Z^T dual| < 1, proved")
    return _twins(solved, w, support, signs, tight)


def _twins(solved: Pair, w: Floats, support: Indices, signs: Floats, tight: Indices) -> Uniqueness | None:
    """Share a weight with a copy of its feature, where all features that may join are copies of used ones."""
    columns = solved.rows.values
    copies = [
        (int(k), int(used), sign)
        for k in tight
        for used in support
        for sign in (1.0, -1.0)
        if (columns[:, used].astype(np.float64) == sign * columns[:, k].astype(np.float64)).all()
    ]
    if {k for k, _, _ in copies} != {int(k) for k in tight}:
        return None
    k, used, sign = copies[0]
    alternative = w.copy()
    alternative[used] *= 0.5
    alternative[k] = sign * alternative[used]
    again = "again" if sign > 0.0 else "with the other sign"
    reason = f"feature {k} is feature {used} {again}: they can share its weight"
    return Uniqueness("disproved", reason, alternative)


def _l1_exactly(solved: Pair, support: Indices) -> Uniqueness:
    """Decide at a degenerate solution of few features, with exact rational w."""
    lower, _ = solved.outputs(solved.w)
    active = np.flatnonzero(lower - solved.c < _TOLERANCE * np.maximum(solved.c, 1e-3 * np.abs(lower).max()))
    active = np.arange(len(solved.y)) if solved.equations else active
    if len(support) > min(_EXACT, len(active)):
        return Uniqueness("unknown", f"the solution is degenerate, with more than {_EXACT} features or too few samples")
    exact = exact_solution(solved.block(active, support), solved.c[active])
    if exact is None:
        return Uniqueness("unknown", "the solution is degenerate, and not exact on the active samples")
    signs = np.array([(v > 0) - (v < 0) for v in exact], dtype=np.float64)
    if (signs == 0.0).any() or (signs != np.sign(solved.w[support])).any():
        return Uniqueness("unknown", "the solution is degenerate, and round-off decides which features it uses")
    if not solved.equations and not _feasible(solved, exact, support, active):
        return Uniqueness("unknown", "the exact vertex next to the solution violates a constraint")
    shortest = _shortest(solved, support, signs, active)
    if shortest is not None:
        return _l1_strictly(solved, support, signs, active, shortest)
    size, dual, direction = _steepest(solved, support, signs, active)
    if size >= 1.0 - _STRICT:
        return _l1_face(solved, support, signs, active, direction)
    if not solved.equations:
        dual, direction = _positive(solved, support, signs, active, dual, size)
        if direction.any():
            return _l1_face(solved, support, signs, active, direction)
    return _l1_strictly(solved, support, signs, active, dual)


def _positive(
    solved: Pair, support: Indices, signs: Floats, active: Indices, dual_active: Floats, size: float
) -> tuple[Floats, Floats]:
    """Return multipliers that are positive on all active samples, or a direction within the support.

    Maximise 1 . M v over 0 <= M v <= 1 and signs . v <= 0, with M = Z_AF: a positive value has such a direction, the
    value 0 has multipliers alpha, kappa with M^T (1 + alpha) = kappa signs, and a little of these joins the others.
    """
    block = solved.block(active, support).astype(np.float64)
    n, direction = len(active), np.zeros(len(solved.w))
    found = linprog(
        -block.sum(axis=0),
        A_ub=np.vstack((-block, block, signs)),
        b_ub=np.concatenate((np.zeros(n), np.ones(n), [0.0])),
        bounds=(None, None),
    )
    if found.x is None or float(block.sum(axis=0) @ found.x) > _STRICT:
        direction[support] = 0.0 if found.x is None else found.x
        return dual_active, direction
    weights, kappa = 1.0 - found.ineqlin.marginals[:n], -float(found.ineqlin.marginals[-1])
    if not kappa > 0.0:
        return dual_active, direction
    dual = np.zeros(len(solved.dual))
    dual[active] = weights / kappa
    share = 0.5 * (1.0 - size) / (1.0 + float(np.abs(solved.middle(dual)).max()))
    return (1.0 - share) * dual_active + share * dual[active], direction


def _l1_strictly(solved: Pair, support: Indices, signs: Floats, active: Indices, dual_active: Floats) -> Uniqueness:
    """Prove uniqueness from multipliers with |Z^T dual| < 1 off the support: exact ones are nearby."""
    positive = np.flatnonzero(np.abs(dual_active) > _SMALL * np.abs(dual_active).max())
    samples = active if solved.equations else active[positive]
    dual = np.zeros(len(solved.dual))
    dual[active] = dual_active
    dual[np.setdiff1d(np.arange(len(dual)), samples)] = 0.0
    low, high = solved.products(dual)
    inverse = right_inverse(solved.block(samples, support).T)
    if inverse is not None:
        radii = np.zeros(len(samples))
        wanted = np.zeros(len(solved.w))
        wanted[support] = signs
        radii[inverse.columns] = inverse.correction(float(_misses(low, high, wanted)[support].max()))
        loose = np.maximum(-low, high) + 1.01 * solved.largest() * float(radii.sum()) < 1.0
        loose[support] = True
        if loose.all() and (solved.equations or (dual[samples] > radii).all()):
            return Uniqueness("proved", "exact w, and multipliers with |Z^T dual| < 1 for all features left out")
    return Uniqueness("unknown", "strict multipliers exist in floating point, but were not proved")


def _l1_face(solved: Pair, support: Indices, signs: Floats, active: Indices, direction: Floats) -> Uniqueness:
    """Disprove uniqueness by a direction in which constraints and norm stay, checked in exact arithmetic."""
    unknown = Uniqueness("unknown", "other solutions exist in floating point, but were not proved")
    moved = np.flatnonzero(np.abs(direction) > _SMALL * np.abs(direction).max(initial=0.0))
    if len(moved) == 0 or len(moved) > _EXACT or not _dual_optimal(solved, support, signs, active):
        return unknown
    biggest = np.abs(direction[moved]).max()
    exact = [Fraction(float(v / biggest)).limit_denominator(_DENOMINATOR) for v in direction[moved]]
    outputs = exact_product(solved.block(active, moved), exact)
    kept = [v == 0 if solved.equations else v >= 0 for v in outputs]
    place = {int(k): sign for k, sign in zip(support, signs, strict=True)}
    growth = sum(
        (v * int(place[int(k)]) if int(k) in place else abs(v) for k, v in zip(moved, exact, strict=True)), Fraction(0)
    )
    if not all(kept) or growth > 0 or not any(exact):
        return unknown
    step = np.zeros(len(solved.w))
    step[moved] = [float(v) for v in exact]
    reason = "a direction that keeps the constraints and the norm, both exactly"
    return Uniqueness("disproved", reason, solved.w + _longest(solved, step) * step)


def _longest(solved: Pair, step: Floats) -> float:
    """Return half the largest multiple of the step that changes no sign and violates no inequality."""
    used = (np.sign(solved.w) * step < 0.0) & (np.abs(solved.w) > _SMALL * np.abs(solved.w).max())
    limits = [float(np.abs(solved.w).max())]
    limits += (np.abs(solved.w[used]) / np.abs(step[used])).tolist()
    if not solved.equations:
        outputs, change = (solved.outputs(v)[0] for v in (solved.w, step))
        slack = outputs - solved.c
        falling = (change < -_SMALL) & (slack > _TOLERANCE * solved.c)
        limits += (slack[falling] / -change[falling]).tolist()
    return 0.5 * min(limits)


def _shortest(solved: Pair, support: Indices, signs: Floats, active: Indices) -> Floats | None:
    """Return the shortest multipliers with Z^T nu = signs on the support, if they are strict: often they are."""
    weights = np.linalg.pinv(solved.block(active, support).T.astype(np.float64)) @ signs
    dual = np.zeros(len(solved.dual))
    dual[active] = weights
    largest = float(np.abs(np.delete(solved.middle(dual), support)).max(initial=0.0))
    positive = solved.equations or bool(weights.min() > _SMALL * weights.max())
    return weights if positive and largest < _ENOUGH else None


def _steepest(solved: Pair, support: Indices, signs: Floats, active: Indices) -> tuple[float, Floats, Floats]:
    """Minimise max |Z^T nu|_k off the support over the multipliers with Z^T nu = signs on it, by HiGHS.

    Multipliers for which it is below _ENOUGH will do: the search goes no further.

    Its dual: maximise -signs . v_F over directions v that keep the active constraints, ||v||_1 <= 1 off the support.
    Returns the value (from 1 on: v is a direction to other solutions), the multipliers, and the direction.
    """
    import highspy

    infinity = highspy.kHighsInf
    model, n = silent_highs(), len(active)
    none = np.empty(0, dtype=np.int32), np.empty(0)
    for _ in active:
        model.addRow(0.0, 0.0 if solved.equations else infinity, 0, *none)
    model.addRow(-infinity, 1.0, 0, *none)
    index = np.arange(n, dtype=np.int32)
    for column, sign in zip(solved.block(active, support).T.astype(np.float64), signs, strict=True):
        model.addCol(sign, -infinity, infinity, n, index, column)
    features, sides = [int(k) for k in support], [1.0] * len(support)
    present = np.zeros((2, len(solved.w)), dtype=bool)
    present[:, support] = True
    dual = np.zeros(len(solved.dual))
    products, size = solved.middle(solved.dual), 0.0
    while True:
        magnitudes = np.where(present[(products < 0.0).astype(int), np.arange(len(products))], 0.0, np.abs(products))
        joining = np.argsort(-magnitudes, kind="stable")[:_COLUMNS]
        joining = joining[magnitudes[joining] > size + _TOLERANCE]
        if len(joining) == 0 or size >= 1.0 - _STRICT:
            break
        for k in joining:
            side = -1.0 if products[k] < 0.0 else 1.0
            entries = np.append(side * solved.block(active, np.array([k]))[:, 0], 1.0)
            model.addCol(0.0, 0.0, infinity, n + 1, np.arange(n + 1, dtype=np.int32), entries)
            present[int(side < 0.0), k] = True
            features.append(int(k))
            sides.append(side)
        model.run()
        size = -float(model.getInfo().objective_function_value)
        dual[active] = np.array(model.getSolution().row_dual[:n])
        products = solved.middle(dual)
        largest = float(np.abs(np.delete(products, support)).max(initial=0.0))
        if largest < _ENOUGH:
            return largest, dual[active], np.zeros(len(solved.w))
    direction = np.zeros(len(solved.w))
    if len(features) > len(support):
        np.add.at(direction, features, np.array(sides) * np.array(model.getSolution().col_value))
    return size, dual[active], direction


# --- exact arithmetic -------------------------------------------------------------------------------------------------


def _feasible(solved: Pair, exact: list[Fraction], support: Indices, active: Indices) -> bool:
    """Whether the exact w satisfies all inequalities: those that are not active by enclosure, with room to spare."""
    w = np.zeros(len(solved.w))
    w[support] = [float(v) for v in exact]
    return _rows_hold(solved, w, 2.0**-50 * np.abs(w), active)


def _dual_optimal(solved: Pair, support: Indices, signs: Floats, active: Indices) -> bool:
    """Whether the multipliers, solved for exactly on the features where they are tight, prove w optimal."""
    samples = np.flatnonzero(np.abs(solved.dual) > _SMALL * np.abs(solved.dual).max())
    low, high = solved.products(solved.dual)
    tight = np.union1d(support, np.flatnonzero(np.maximum(-low, high) > 1.0 - _TOLERANCE))
    if len(samples) > min(_EXACT, len(tight)) or not np.isin(samples, active).all():
        return False
    sides = np.sign(low + high)[tight]
    exact = exact_solution(solved.block(samples, tight).T, sides)
    if exact is None or (not solved.equations and min(exact) < 0):
        return False
    if (sides[np.searchsorted(tight, support)] != signs).any():
        return False
    dual = np.zeros(len(solved.dual))
    dual[samples] = [float(v) for v in exact]
    low, high = solved.products(dual)
    others = np.ones(len(low), dtype=bool)
    others[tight] = False
    spread = 2.0**-50 * solved.largest() * float(np.abs(dual).sum())
    return bool((np.maximum(-low, high)[others] + spread < 1.0).all())


# --- l-infinity -------------------------------------------------------------------------------------------------------


def _decided_linf(solved: Pair) -> Uniqueness:
    size = float(np.abs(solved.w).max())
    empty = np.flatnonzero(~solved.rows.values.any(axis=0))
    if len(empty):
        alternative = solved.w.copy()
        alternative[empty[0]] = -size if solved.w[empty[0]] > 0.0 else size
        return Uniqueness("disproved", f"feature {empty[0]} is zero for every sample: its weight is free", alternative)
    free = np.flatnonzero(np.abs(solved.w) < size * (1.0 - _SMALL))
    active = np.arange(len(solved.y))
    if not solved.equations:
        active = np.flatnonzero(solved.dual > _SMALL * solved.dual.max())
    found = _linf_vertex(solved, free, active, size) if len(active) == len(free) + 1 else None
    return found or _linf_exactly(solved, size)


def _linf_exactly(solved: Pair, size: float) -> Uniqueness:
    """Decide a degenerate solution of few features as a linear program in (w, t), |w_k| <= t."""
    d = len(solved.w)
    if d >= _EXACT:
        return Uniqueness("unknown", f"the solution is degenerate, with {_EXACT} features or more")
    everyone = np.arange(d)
    samples = np.column_stack((solved.block(np.arange(len(solved.y)), everyone), np.zeros(len(solved.y))))
    box = np.column_stack((np.vstack((np.eye(d), -np.eye(d))), np.ones(2 * d)))
    wanted = np.append(solved.c, np.zeros(2 * d))
    equal = np.append(np.full(len(solved.y), solved.equations), np.zeros(2 * d, dtype=bool))
    found = decided_vertex(np.vstack((samples, box)), wanted, equal, np.append(solved.w, size))
    return found._replace(alternative=None if found.alternative is None else found.alternative[:-1])


def _linf_vertex(solved: Pair, free: Indices, active: Indices, size: float) -> Uniqueness | None:
    """Enclose the exact pair at a vertex: the free weights and the common size of all others."""
    sides = np.sign(solved.w)
    sides[free] = 0.0
    w, dual = size * sides, np.zeros(len(solved.dual))
    w[free], dual[active] = solved.w[free], solved.dual[active]
    low, high = solved.outputs(sides)
    block = np.column_stack((solved.block(active, free), 0.5 * (low + high)[active]))
    errors = up(high - low)[active]  # of the last column
    radii = _enclosed(block, _misses(*solved.outputs(w), solved.c)[active], _last(errors.max(), len(block)))
    low, high = solved.products(dual)
    held = sides != 0.0
    inward, outward = np.where(sides > 0.0, low, -high)[held], np.where(sides > 0.0, high, -low)[held]
    total = np.array([sum_bounds(inward)[0], sum_bounds(outward)[1]])
    residual = np.append(_misses(low, high, 0.0)[free], _misses(total[0], total[1], 1.0))
    weights = _enclosed(block.T, residual, errors)
    if radii is None or weights is None:
        return None
    spread = 1.01 * solved.largest() * float(weights.sum())
    strict = bool((inward > spread).all())
    inside = size > radii[-1] and bool((np.abs(w[free]) + radii[:-1] < size - radii[-1]).all())
    whole = np.full(len(w), radii[-1])
    whole[free] = radii[:-1]
    if not solved.equations:
        strict = strict and bool((dual[active] > weights).all()) and _rows_hold(solved, w, whole, active)
    if strict and inside:
        return Uniqueness("proved", "a non-degenerate vertex: (Z^T dual)_k != 0 for all weights at the bound, proved")
    return None


def _last(error: float, length: int) -> Floats:
    """Return the vector with the error at its last place."""
    found = np.zeros(length)
    found[-1] = error
    return found
