"""The programs as CVXPY states them: the one place where they are written as a reader would write them."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import TheorykitError, unknown_name
from theorykit._numerics.rounding import Floats
from theorykit.programs._constraints import Constraints
from theorykit.programs._norms import Norm


class SolverError(TheorykitError):
    """A solver gave no optimal answer; the message has its status and what its vectors prove."""


def statement(X: NDArray[Any], y: Floats, norm: Norm) -> Any:
    """Return the `cvxpy.Problem`: minimise 1/2 ||w||_2^2 (norm 2) or ||w|| subject to y_i <w, x_i> >= 1."""
    import cvxpy as cp

    w = cp.Variable(X.shape[1], name="w")
    return cp.Problem(cp.Minimize(_size(w, norm)), [cp.multiply(y, X.astype(np.float64) @ w) >= 1.0])


def equations_statement(X: NDArray[Any], y: Floats, norm: Norm) -> Any:
    """Return the `cvxpy.Problem`: minimise 1/2 ||w||_2^2 (norm 2) or ||w|| subject to <w, x_i> = y_i."""
    import cvxpy as cp

    w = cp.Variable(X.shape[1], name="w")
    return cp.Problem(cp.Minimize(_size(w, norm)), [X.astype(np.float64) @ w == y])


def kernel_statement(values: NDArray[Any], about: str, constraints: Constraints, C: float) -> Any:
    """Return the `cvxpy.Problem` of a kernel machine: in h for features, in its coefficients for a Gram matrix.

    Minimise 1/2 ||h||^2 subject to differences @ outputs >= 1, or, for finite C, >= 1 - xi at the price C sum(xi).
    """
    import cvxpy as cp

    c = constraints.classes
    if about == "features":
        h = cp.Variable(values.shape[1] if c == 1 else (c, values.shape[1]), name="h")
        size, outputs = cp.sum_squares(h), values.astype(np.float64) @ (h if c == 1 else h.T)
    else:
        h, size, outputs = _coefficients(values, c)
    margins = constraints.differences @ cp.vec(outputs, order="C")
    if math.inf == C:
        return cp.Problem(cp.Minimize(0.5 * size), [margins >= 1.0])
    xi = cp.Variable(len(constraints.samples), name="xi", nonneg=True)
    return cp.Problem(cp.Minimize(0.5 * size + C * cp.sum(xi)), [margins >= 1.0 - xi])


def interpolant_statement(values: NDArray[Any], about: str, targets: Floats, ridge: float) -> Any:
    """Return the `cvxpy.Problem`: minimise 1/2 ||h||^2 subject to f = y, or mean squared error + ridge ||h||^2."""
    import cvxpy as cp

    c = 1 if targets.ndim == 1 else targets.shape[1]
    if about == "features":
        h = cp.Variable(values.shape[1] if targets.ndim == 1 else (values.shape[1], c), name="h")
        size, outputs = cp.sum_squares(h), values.astype(np.float64) @ h
    else:
        h, size, outputs = _coefficients(values, c)
    misses = cp.vec(outputs, order="C") - targets.ravel()
    if ridge == 0.0:
        return cp.Problem(cp.Minimize(0.5 * size), [misses == 0.0])
    return cp.Problem(cp.Minimize(cp.sum_squares(misses) / len(targets) + ridge * size))


def _coefficients(values: NDArray[Any], classes: int) -> tuple[Any, Any, Any]:
    """Return coefficients (n,) or (n, c), the squared norm of the predictor they make, and its outputs."""
    import cvxpy as cp

    n = len(values)
    a = cp.Variable(n if classes == 1 else (n, classes), name="coefficients")
    K = cp.psd_wrap(values.reshape(math.isqrt(values.size), -1))
    if values.ndim == 2 and classes > 1:
        return a, sum(cp.quad_form(a[:, k], K) for k in range(classes)), values @ a
    flat = cp.vec(a, order="C")
    return a, cp.quad_form(flat, K), values.reshape(K.shape) @ flat


def _size(w: Any, norm: Norm) -> Any:
    import cvxpy as cp

    if norm.groups is not None:
        return cp.sum(cp.norm(_as_rows(w, norm.groups), 2, axis=1))
    if norm.kind == 2:
        return 0.5 * cp.sum_squares(w)
    return cp.norm_inf(w) if norm.kind == math.inf else cp.norm1(w)


def _as_rows(w: Any, groups: NDArray[np.int64]) -> Any:
    """Return the matrix with one group in each row, filled up with zeros."""
    import cvxpy as cp
    from scipy import sparse

    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    width = int(sizes.max())
    places = np.concatenate([g * width + np.arange(size) for g, size in enumerate(sizes)])
    shape = (len(sizes) * width, len(groups))
    spread = sparse.csr_matrix((np.ones(len(groups)), (places, order)), shape=shape)
    return cp.reshape(spread @ w, (len(sizes), width), order="C")


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
        with _without_stdout() if solver == "HIGHS" else nullcontext():
            problem.solve(solver=solver)
    except (cp.error.SolverError, cp.error.DCPError, ValueError) as failure:
        raise SolverError(f"{solver} could not solve the program: {failure}") from None
    w = problem.variables()[0].value
    multipliers = problem.constraints[0].dual_value if problem.constraints else None
    iterations = problem.solver_stats.num_iters if problem.solver_stats is not None else None
    return w, multipliers, str(problem.status), int(iterations or 0)


@contextmanager
def _without_stdout() -> Iterator[None]:
    """Send file descriptor 1 to nowhere: HiGHS greets there, in C, before any option can tell it not to."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C still holds back
        os.dup2(kept, 1)
        os.close(kept)


def solver_version(solver: str) -> str:
    """Return 'NAME version (cvxpy version)'."""
    from importlib.metadata import PackageNotFoundError, version

    package = {"HIGHS": "highspy", "SCIPY": "scipy"}.get(solver, solver.lower())
    try:
        own = f" {version(package)}"
    except PackageNotFoundError:
        own = ""
    return f"{solver}{own} (cvxpy {version('cvxpy')})"
