"""Nuclear-norm programs in the forms that solvers take: CVXPY's, and ours over symmetric matrices.

A general p x q matrix W becomes the off-diagonal block of a symmetric one of size p + q, whose nuclear norm is twice
that of W.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular

from theorykit._numerics.rounding import Floats, shift
from theorykit.programs._nuclear_data import Observed
from theorykit.programs._nuclear_solve import SymmetricProgram, solve
from theorykit.programs._statement import SolverError

_ROWS = 64


class Solution(NamedTuple):
    """W with the observed values, a dual vector, "optimal" or the solver's complaint, and the iterations."""

    W: Floats
    dual: Floats
    status: str
    iterations: int


def statement(data: Observed, weight_decay: float | None) -> Any:
    """Return the `cvxpy.Problem`; its first constraint has the multipliers of the observations."""
    import cvxpy as cp

    W = cp.Variable(data.shape, name="W", symmetric=data.symmetric)
    if data.index is not None:
        fitted = W[data.index[:, 0], data.index[:, 1]]
    else:
        assert data.matrices is not None
        fitted = data.matrices.reshape(len(data), -1) @ cp.vec(W, order="C")
    if weight_decay is None:
        return cp.Problem(cp.Minimize(cp.normNuc(W)), [fitted == data.values])
    residual = cp.Variable(len(data), name="residual")
    misfit = cp.sum_squares(cp.multiply(np.sqrt(data.counts / data.counts.sum()), residual))
    return cp.Problem(cp.Minimize(misfit + 0.5 * weight_decay * cp.normNuc(W)), [fitted == data.values + residual])


def cvxpy_solution(data: Observed, weight_decay: float | None, solver: str) -> Solution:
    """Solve the CVXPY statement and make W feasible; a status other than "optimal" comes back with the vectors."""
    import cvxpy as cp

    problem = statement(data, weight_decay)
    try:
        problem.solve(solver=solver)
    except (cp.error.SolverError, cp.error.DCPError, ValueError) as failure:
        raise SolverError(f"{solver} could not solve the program: {failure}") from None
    W = next(variable for variable in problem.variables() if variable.name() == "W").value
    multipliers = problem.constraints[0].dual_value
    if W is None or multipliers is None or not (np.isfinite(W).all() and np.isfinite(multipliers).all()):
        raise SolverError(f"{solver} ended with status {problem.status!r} and no solution")
    W = np.asarray(W.toarray() if hasattr(W, "toarray") else W, dtype=np.float64)
    dual = -np.asarray(multipliers, dtype=np.float64)
    steps = problem.solver_stats.num_iters if problem.solver_stats is not None else None
    return Solution(_feasible(data, W, weight_decay), dual, str(problem.status), int(steps or 0))


def solution(data: Observed, weight_decay: float | None) -> Solution:
    """Solve with our own method."""
    if not data.values.any():
        return Solution(np.zeros(data.shape), np.zeros(len(data)), "optimal", 0)
    exponent = int(np.frexp(np.abs(data.values).max())[1])
    values = shift(data.values, -exponent)
    if weight_decay is not None:
        slopes = 2.0 * data.counts / float(data.counts.sum())
        if data.adjoint_norm_upper(slopes * values) <= float(shift(0.5 * weight_decay, -exponent)):
            return Solution(np.zeros(data.shape), slopes * data.values, "optimal", 0)  # decay outweighs every entry
    form = _Entries(data) if data.index is not None else _Measurements(data)
    b = form.targets(values)
    scale = float(np.linalg.norm(b))
    ridge = np.zeros(len(b))
    if weight_decay is not None:
        weights = shift(4.0 * data.counts / float(data.counts.sum()) / weight_decay, exponent) * scale
        ridge = form.factors**2 / (weights * form.copies)
    maps = form.measure, form.adjoint, form.rotated, form.schur, None if data.symmetric else _Mirror(data.shape[0])
    pair = solve(SymmetricProgram(form.size, b / scale, ridge, *maps))
    p = data.shape[0]
    block = pair.X if data.symmetric else pair.X[:p, p:]
    W = _feasible(data, shift(scale * block, exponent), weight_decay)
    if weight_decay is not None:  # where the misfit is below round-off, the values themselves are a better fit
        W = min(W, _feasible(data, W, None), key=lambda candidate: _objective(data, candidate, weight_decay))
    dual = form.multipliers(pair.y)
    return Solution(W, dual if weight_decay is None else 0.5 * weight_decay * dual, "optimal", pair.iterations)


class _Mirror:
    """The change of sign of the last coordinates, from `first` on, that takes [[0, W], [W^T, 0]] to its negative."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, X: Floats) -> Floats:
        Y = X.copy()
        Y[: self.first, self.first :] *= -1.0
        Y[self.first :, : self.first] *= -1.0
        return Y


class _Entries:
    """Observed entries as orthonormal measurements of a symmetric matrix."""

    def __init__(self, data: Observed) -> None:
        assert data.index is not None
        offset, self.copies = (0, 1.0) if data.symmetric else (data.shape[0], 2.0)
        self.size = data.shape[0] if data.symmetric else sum(data.shape)
        self.i, self.j = data.index[:, 0], data.index[:, 1] + offset
        self.factors = np.where(self.i == self.j, 1.0, np.sqrt(2.0))

    def targets(self, values: Floats) -> Floats:
        return self.factors * values

    def multipliers(self, y: Floats) -> Floats:
        return self.factors * y / self.copies

    def measure(self, X: Floats) -> Floats:
        return np.asarray(self.factors * X[self.i, self.j])

    def adjoint(self, y: Floats) -> Floats:
        matrix = np.zeros((self.size, self.size))
        matrix[self.i, self.j] = matrix[self.j, self.i] = y / self.factors
        return matrix

    def schur(self, X: Floats, Y: Floats) -> Floats:
        total = np.empty((len(self.i), len(self.i)))
        for start in range(0, len(total), _ROWS):  # blocks that stay in the cache; the other triangle is the same
            rows, until = slice(start, start + _ROWS), slice(0, start + _ROWS)
            i, j, p, q = self.i[rows], self.j[rows], self.i[until], self.j[until]
            Xi, Xj, Yi, Yj = X[i], X[j], Y[i], Y[j]
            block = Xi[:, p] * Yj[:, q] + Xj[:, q] * Yi[:, p] + Xi[:, q] * Yj[:, p] + Xj[:, p] * Yi[:, q]
            block *= 0.25 * self.factors[rows, None] * self.factors[until]
            total[rows, until], total[until, rows] = block, block.T
        return total

    def rotated(self, P: Floats, Q: Floats) -> Floats:
        both = P[self.i][:, :, None] * Q[self.j][:, None, :] + P[self.j][:, :, None] * Q[self.i][:, None, :]
        return np.asarray((0.5 * self.factors)[:, None, None] * both)


class _Measurements:
    """General measurements, orthonormalised, as symmetric matrices."""

    def __init__(self, data: Observed) -> None:
        assert data.matrices is not None
        flat = data.matrices.reshape(len(data), -1)
        Q, self.triangle = qr(flat.T, mode="economic")
        blocks = Q.T.reshape(-1, *data.shape)
        self.copies = 1.0 if data.symmetric else 2.0
        self.factors = np.full(len(data), self.copies**0.5)
        if data.symmetric:
            self.matrices = 0.5 * (blocks + blocks.transpose(0, 2, 1))
        else:
            p, q = data.shape
            self.matrices = np.zeros((len(data), p + q, p + q))
            self.matrices[:, :p, p:] = blocks / self.factors[0]
            self.matrices[:, p:, :p] = blocks.transpose(0, 2, 1) / self.factors[0]
        self.size = self.matrices.shape[1]
        self.flat = self.matrices.reshape(len(data), -1)

    def targets(self, values: Floats) -> Floats:
        return np.asarray(self.factors * solve_triangular(self.triangle, values, trans="T"))

    def multipliers(self, y: Floats) -> Floats:
        return np.asarray(solve_triangular(self.triangle, self.factors * y / self.copies))

    def measure(self, X: Floats) -> Floats:
        return np.asarray(self.flat @ X.ravel())

    def adjoint(self, y: Floats) -> Floats:
        return np.asarray((y @ self.flat).reshape(self.size, self.size))

    def schur(self, X: Floats, Y: Floats) -> Floats:
        product = (X @ self.matrices @ Y).reshape(len(self.flat), -1) @ self.flat.T
        return np.asarray(0.5 * (product + product.T))

    def rotated(self, P: Floats, Q: Floats) -> Floats:
        return np.asarray(P.T @ self.matrices @ Q)


def _objective(data: Observed, W: Floats, weight_decay: float) -> float:
    with np.errstate(over="ignore"):
        misfit = float(np.average((data.of(W) - data.values) ** 2, weights=data.counts))
    return misfit + 0.5 * weight_decay * float(np.linalg.svd(W, compute_uv=False).sum())


def _feasible(data: Observed, W: Floats, weight_decay: float | None) -> Floats:
    """Return W symmetric where it must be and, unless regularised, with the observed values."""
    W = 0.5 * (W + W.T) if data.symmetric else W.copy()
    if weight_decay is not None:
        return W
    if data.index is not None:
        i, j = data.index.T
        W[i, j] = data.values
        if data.symmetric:
            W[j, i] = data.values
        return W
    assert data.matrices is not None
    flat = data.matrices.reshape(len(data), -1)
    Q, R = qr(flat.T, mode="economic")
    for _ in range(2):  # the second time takes off the round-off of the first
        W = W - (Q @ solve_triangular(R, data.of(W) - data.values, trans="T")).reshape(W.shape)
        W = 0.5 * (W + W.T) if data.symmetric else W
    return W
