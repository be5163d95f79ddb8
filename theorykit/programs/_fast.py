"""Our own method for each norm: what `max_margin` and `min_norm` use unless a CVXPY solver is asked for."""

from __future__ import annotations

import math

from theorykit._numerics.rounding import Floats, Rows
from theorykit._version import __version__
from theorykit.programs import _group, _l1, _l2, _linf
from theorykit.programs._norms import Norm
from theorykit.programs._scaled import Candidate

_METHODS = {
    1: "HiGHS on a working set of features",
    2: "active set in the dual",
    math.inf: "HiGHS, interior point and crossover",
    "group": "Clarabel on a working set of groups, Newton's method",
}


def method(norm: Norm) -> str:
    """Return what solves the programs in this norm, with version."""
    return f"theorykit {__version__} ({_METHODS[norm.kind]})"


def solve(rows: Rows, y: Floats, c: Floats, norm: Norm, *, equations: bool = False) -> Candidate:
    """Return the pair for: least norm of w subject to y_i z_i . w >= c_i (or = c_i), z_i the scaled rows.

    Nothing is promised about it: whatever it is, the certificate says how good.
    """
    if norm.kind == 1:
        return _l1.solve(rows, y, c, equations=equations)
    if norm.kind == math.inf:
        return _linf.solve(rows, y, c, equations=equations)
    shortest = _l2.solve_equations(rows, c) if equations else _l2.solve(rows, y)
    if norm.groups is None:
        return shortest
    return _group.solve(rows, y, c, groups=norm.groups, equations=equations, start=shortest)
