"""The margin programs as CVXPY states them: the one place where they are written as a reader would write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import TheorykitError, unknown_name
from theorykit._numerics.rounding import Floats


class SolverError(TheorykitError):
    """A CVXPY solver gave no optimal answer; the message has its status and what its vectors prove."""


def statement(X: NDArray[Any], y: Floats, norm: int) -> Any:
    """Return the `cvxpy.Problem`: minimise 1/2 ||w||_2^2 (norm 2) or ||w||_1 subject to y_i <w, x_i> >= 1."""
    import cvxpy as cp

    w = cp.Variable(X.shape[1], name="w")
    size = cp.norm1(w) if norm == 1 else 0.5 * cp.sum_squares(w)
    return cp.Problem(cp.Minimize(size), [cp.multiply(y, X.astype(np.float64) @ w) >= 1.0])


def checked_solver(solver: str) -> str:
    """Return the solver's name as CVXPY spells it."""
    import cvxpy as cp

    installed = cp.installed_solvers()
    name = solver.upper() if isinstance(solver, str) else repr(solver)
    if name not in installed:
        raise unknown_name("solver", str(solver), installed)
    return name


def solve_statement(problem: Any, solver: str) -> tuple[Floats | None, Floats | None, str, int]:
    """Solve with a CVXPY solver; return w, the multipliers (None where there are none), the status, the iterations."""
    import cvxpy as cp

    try:
        problem.solve(solver=solver)
    except (cp.error.SolverError, cp.error.DCPError, ValueError) as failure:
        raise SolverError(f"{solver} could not solve the program: {failure}") from None
    w, multipliers = problem.variables()[0].value, problem.constraints[0].dual_value
    iterations = problem.solver_stats.num_iters if problem.solver_stats is not None else None
    return w, multipliers, str(problem.status), int(iterations or 0)


def solver_version(solver: str) -> str:
    """Return 'NAME version (cvxpy version)'."""
    from importlib.metadata import PackageNotFoundError, version

    package = {"HIGHS": "highspy", "SCIPY": "scipy"}.get(solver, solver.lower())
    try:
        own = f" {version(package)}"
    except PackageNotFoundError:
        own = ""
    return f"{solver}{own} (cvxpy {version('cvxpy')})"
