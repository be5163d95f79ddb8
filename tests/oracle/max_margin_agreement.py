"""Our max-margin solvers against others, on random separable problems: one table, for the tests and for the evidence.

python tests/oracle/max_margin_agreement.py 50
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from theorykit.programs import max_margin

Array = NDArray[np.float64]
SHAPES = ((8, 3), (12, 5), (30, 10), (60, 4), (20, 20), (15, 60), (40, 120))


def random_problem(rng: np.random.Generator, index: int) -> tuple[NDArray[Any], Array]:
    """Return a separable problem; Gaussian, integer (with ties) and badly scaled features take turns."""
    n, d = SHAPES[index % len(SHAPES)]
    X = rng.standard_normal((n, d))
    if index % 3 == 1:
        X = rng.integers(-2, 3, (n, d)).astype(np.float64)
    elif index % 3 == 2:
        X = X * 10.0 ** rng.uniform(-2, 2, d)
    outputs = X @ rng.standard_normal(d)
    keep = np.abs(outputs) > 1e-9
    return X[keep], np.sign(outputs[keep])


def l2_margin_by_clarabel(Z: Array) -> float:
    """Return 1/||w|| of the primal program, by Clarabel at tight tolerances."""
    import cvxpy as cp

    w = cp.Variable(Z.shape[1])
    problem = cp.Problem(cp.Minimize(cp.sum_squares(w)), [Z @ w >= 1])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return float(1.0 / np.sqrt(problem.value))


def l1_margin_by_scipy(Z: Array) -> float:
    """Return 1/||w||_1 of the primal program in w = u - v, by SciPy's dual simplex."""
    result = linprog(np.ones(2 * Z.shape[1]), A_ub=np.hstack((-Z, Z)), b_ub=-np.ones(len(Z)), method="highs-ds")
    return float(1.0 / result.fun)


REFERENCES: dict[int, tuple[str, Callable[[Array], float]]] = {
    1: ("SciPy linprog (HiGHS dual simplex)", l1_margin_by_scipy),
    2: ("CVXPY (Clarabel)", l2_margin_by_clarabel),
}


def run(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per problem and norm: shape, our interval and gap, their margin, the relative difference."""
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        X, y = random_problem(rng, index)
        for norm, (name, reference) in REFERENCES.items():
            certificate = max_margin(X, y, norm=norm).certificate
            theirs = reference(y[:, None] * X)
            table.append(
                {
                    "problem": index,
                    "norm": norm,
                    "n": X.shape[0],
                    "d": X.shape[1],
                    "lower": certificate.lower,
                    "upper": certificate.upper,
                    "gap": certificate.gap,
                    "reference": name,
                    "theirs": theirs,
                    "difference": abs(theirs / certificate.lower - 1.0),
                }
            )
    return table


if __name__ == "__main__":
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
    for row in rows:
        print(
            "{problem:3d} l{norm} {n:3d} x {d:3d}  gap {gap:.1e}  differs by {difference:.1e}  {reference}".format(
                **row
            )
        )
    print(f"largest gap {max(r['gap'] for r in rows):.1e}, largest difference {max(r['difference'] for r in rows):.1e}")
