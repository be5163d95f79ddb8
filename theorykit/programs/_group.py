"""The group-norm programs: Clarabel on a working set of groups, then Newton's method on what is active.

For min sum_g ||w_g||_2 subject to z_i . w >= c_i (or = c_i) the dual is: maximise c . nu subject to ||Z_g^T nu||_2 <= 1
for every group g, and nu >= 0 (or of any sign). Few groups are needed, and those with ||Z_g^T nu|| > 1 join until there
is none. With the active samples A and groups G known, w and nu solve the smooth system

    Z_AG w_G = c_A,    w_g / ||w_g|| = Z_Ag^T nu_A  for g in G,

on which Newton's method reaches round-off in a few steps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import LinAlgError, lstsq

from theorykit._numerics.rounding import Floats, Rows, row_residuals
from theorykit.programs import _l2
from theorykit.programs._scaled import Candidate, combination, targets
from theorykit.programs._statement import SolverError

Groups = NDArray[np.int64]
Indices = NDArray[np.intp]

_TOLERANCE = 1e-9
_FIRST_FEATURES = 2
_MORE_FEATURES = 250
_ACTIVE = (1e-6, 1e-4, 1e-2, 1e-8)
_ROUND_OFF = 1e-14
_NEWTON_STEPS = 5
_POOR = 1e-6
_SMOOTHINGS = np.geomspace(1e-1, 1e-9, 30)
_SETTINGS: dict[str, Any] = {
    "verbose": False,
    "max_threads": 1,
    "tol_gap_abs": 1e-11,
    "tol_gap_rel": 1e-11,
    "tol_feas": 1e-11,
}


class _Problem(NamedTuple):
    rows: Rows
    y: Floats
    c: Floats
    groups: Groups
    equations: bool


def solve(
    rows: Rows, y: Floats, c: Floats | None = None, *, groups: Groups, equations: bool = False, start: Candidate
) -> Candidate:
    """Return the optimal pair; `start`, the pair for the l2-norm, tells the size of the answer."""
    c = targets(rows) if c is None else c
    size = float(_group_norms(start.w, groups).sum())
    if not 0.0 < size < np.inf:
        return start
    problem = _Problem(rows, y, c / size, groups, equations)
    w, nu, iterations = _working_set(problem)
    w, nu = _polished(problem, w, nu)
    if not _merit(problem, w, nu) < _POOR:  # margins below the tolerances of Clarabel
        again = _polished(problem, *_reweighted(problem, start.w / size, size))
        w, nu = min((w, nu), again, key=lambda pair: _merit(problem, *pair))
    return Candidate(w * size, nu, start.iterations + iterations)


def _reweighted(problem: _Problem, w: Floats, size: float) -> tuple[Floats, Floats]:
    """Solve l2-programs with features weighted by the root of the length of their group, from a separating w on.

    ``sum_g ||w_g|| = min over eta of 1/2 sum_g (||w_g||^2 / eta_g + eta_g)``. The l2-programs are exact to round-off.
    """
    rows, y, c, groups, equations = problem
    nu = np.ones(len(y))
    for smoothing in _SMOOTHINGS:
        sizes = _group_norms(w, groups)
        factors = np.sqrt(sizes / sizes.max() + smoothing)[groups]
        scaled = Rows(rows.values * factors, rows.exponents)
        found = _l2.solve_equations(scaled, c * size) if equations else _l2.solve(scaled, y)
        if not (np.isfinite(found.w).all() and found.w.any()):
            break
        w, nu = factors * found.w / size, found.dual
    largest = float(_group_norms(combination(rows, y, nu), groups).max())
    return w, nu / largest if largest > 0.0 else nu


def _group_norms(values: Floats, groups: Groups) -> Floats:
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.sqrt(np.bincount(groups, values * values)))


def _working_set(problem: _Problem) -> tuple[Floats, Floats, int]:
    """Solve over the groups that matter."""
    rows, y, c, groups, _ = problem
    sizes = np.bincount(groups)
    inside = np.zeros(len(sizes), dtype=bool)
    norms, budget, iterations = _group_norms(combination(rows, y, np.sign(c)), groups), _FIRST_FEATURES * len(y), 0
    while True:
        order = np.argsort(-np.where(inside, -1.0, norms), kind="stable")
        order = order[: int(np.searchsorted(np.cumsum(sizes[order]), budget)) + 1]
        inside[order[norms[order] > 0.0]] = True
        w, nu, steps, bounded = _conic(problem, np.flatnonzero(inside))
        iterations += steps
        norms, budget = _group_norms(combination(rows, y, nu), groups), _MORE_FEATURES
        limit = (1.0 if bounded else 0.0) + _TOLERANCE
        violated = (norms > limit) & ~inside
        if not violated.any():
            return w, nu, iterations
        norms = np.where(violated, norms, 0.0)


def _conic(problem: _Problem, chosen: Indices) -> tuple[Floats, Floats, int, bool]:
    """Solve the dual over the chosen groups with Clarabel; the last entry is False for a ray, which has no w."""
    import clarabel

    rows, y, c, groups, equations = problem
    n, d = rows.values.shape
    features = np.flatnonzero(np.isin(groups, chosen))
    features = features[np.argsort(groups[features], kind="stable")]
    sizes = np.bincount(groups)[chosen]
    heads = np.concatenate(([0], np.cumsum(sizes + 1)[:-1]))  # each cone: its bound, then its features
    matrix = np.zeros((int(sizes.sum()) + len(sizes), n))
    places = np.setdiff1d(np.arange(len(matrix)), heads)
    matrix[places] = -(y[:, None] * rows.values[:, features]).T
    right = np.zeros(len(matrix))
    right[heads] = 1.0
    cones = [clarabel.SecondOrderConeT(int(size) + 1) for size in sizes]
    left = sparse.csc_matrix(matrix)
    if not equations:
        left = sparse.vstack((-sparse.eye(n), left), format="csc")
        right = np.append(np.zeros(n), right)
        cones.insert(0, clarabel.NonnegativeConeT(n))
    settings = clarabel.DefaultSettings()
    for name, value in _SETTINGS.items():
        setattr(settings, name, value)
    found = clarabel.DefaultSolver(sparse.csc_matrix((n, n)), -c, left, right, cones, settings).solve()
    nu, z = np.array(found.x), np.array(found.z)
    nu = nu if equations else np.maximum(nu, 0.0)
    w = np.zeros(d)
    if "DualInfeasible" in str(found.status):
        return w, nu, found.iterations, False
    if not (np.isfinite(nu).all() and np.isfinite(z).all()):
        raise SolverError(f"Clarabel ended with status {found.status} and no solution")
    w[features] = -z[0 if equations else n :][places]
    return w, nu, found.iterations, True


def _polished(problem: _Problem, w: Floats, nu: Floats) -> tuple[Floats, Floats]:
    """Return the best of the pairs that Newton's method goes through, the one it starts from included.

    What is active shows in the size of the numbers; where that is not clear, one guess after another is tried.
    """
    best, smallest = (w, nu), _merit(problem, w, nu)
    for share in _ACTIVE:
        sizes = _group_norms(best[0], problem.groups)
        features = np.flatnonzero((sizes > share * sizes.max())[problem.groups])
        active = np.arange(len(nu)) if problem.equations else np.flatnonzero(best[1] > share * best[1].max())
        w, nu = best
        for _ in range(_NEWTON_STEPS):
            if smallest < _ROUND_OFF or not len(features):
                return best
            w, nu = _newton_step(problem, w, nu, features, active)
            merit = _merit(problem, w, nu)
            if not math.isfinite(merit):
                break
            if merit < smallest:
                best, smallest = (w, nu), merit
    return best


def _merit(problem: _Problem, w: Floats, nu: Floats) -> float:
    """Return the relative gap between the two values, once both are feasible (for equations: plus the residual)."""
    rows, y, c, groups, equations = problem
    outputs = y * -row_residuals(Rows(rows.values, np.zeros(len(y), dtype=np.int64)), w, np.zeros(len(y)))
    norm, dual = float(_group_norms(w, groups).sum()), float(_group_norms(combination(rows, y, nu), groups).max())
    value = float(c @ nu)
    if dual == 0.0 or value <= 0.0:
        return np.inf
    if equations:
        return abs(norm * dual / value - 1.0) + float(np.abs(outputs - c).max() / np.abs(c).max())
    smallest = float((outputs / c).min())
    return norm * dual / (value * smallest) - 1.0 if smallest > 0.0 else np.inf


def _newton_step(problem: _Problem, w: Floats, nu: Floats, features: Indices, active: Indices) -> tuple[Floats, Floats]:
    """Return w and nu after one Newton step on the active features and samples; all others are 0."""
    rows, y, c, groups, equations = problem
    block = y[active, None] * rows.values[np.ix_(active, features)].astype(np.float64)
    members = np.unique(groups[features], return_inverse=True)[1]
    lengths = np.sqrt(np.bincount(members, w[features] ** 2))[members]
    directions = w[features] / lengths
    curvature = -np.where(members[:, None] == members, np.outer(directions, directions), 0.0) / lengths[:, None]
    curvature[np.diag_indices(len(features))] += 1.0 / lengths
    m = len(features)
    system = np.zeros((m + len(active), m + len(active)))
    system[:m, :m], system[:m, m:], system[m:, :m] = curvature, -block.T, block
    right = np.concatenate((block.T @ nu[active] - directions, c[active] - block @ w[features]))
    try:
        step = np.linalg.solve(system, right)
    except LinAlgError:
        step = lstsq(system, right)[0]
    new_w, new_nu = np.zeros(len(w)), np.zeros(len(nu))
    new_w[features] = w[features] + step[:m]
    new_nu[active] = nu[active] + step[m:]
    return new_w, new_nu if equations else np.maximum(new_nu, 0.0)
