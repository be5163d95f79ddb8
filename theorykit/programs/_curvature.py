"""The second-order check at a KKT point: the least curvature of the Lagrangian where first order decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigvalsh, qr
from scipy.sparse.linalg import LinearOperator, eigsh

from theorykit._numerics.rounding import Floats

_LARGEST_DENSE = 2000
_DEPENDENT = 1e-10


@dataclass(frozen=True)
class Curvature:
    """The smallest eigenvalues of the Hessian of the Lagrangian, ``I - sum_i mu_i Hess q_i``, on two subspaces.

    The critical cone consists of the v with ``<grad q_i, v> = 0`` where mu_i > 0, and ``>= 0`` for other active
    constraints. It lies between two subspaces, and equals both under strict complementarity. Numbers are those of an
    eigenvalue solver, to its round-off; they are not proved, and at a kink of a model they are those of one piece.

    Attributes
    ----------
    sufficient : float
        On ``{v : <grad q_i, v> = 0 where mu_i > 0}``, which contains the cone. Above 0 at a KKT point: a strict local
        minimum. inf where the subspace is {0}.
    necessary : float
        On ``{v : <grad q_i, v> = 0 for every active constraint}``, which the cone contains. Below 0 at a KKT point with
        independent active gradients: no local minimum. inf where the subspace is {0}.
    dimensions : tuple of int
        Of the two subspaces.
    method : {"dense", "Lanczos"}
        Dense up to 2000 parameters; above, by Hessian-vector products only.
    """

    sufficient: float
    necessary: float
    dimensions: tuple[int, int]
    method: str


def curvature_on(hessian: Callable[[Floats], Floats], strict: Floats, active: Floats) -> Curvature:
    """Return the least eigenvalues on the null spaces of the strictly active and of all active gradients (in rows)."""
    parameters = active.shape[1]
    dense = parameters <= _LARGEST_DENSE
    least = _dense(hessian, parameters) if dense else _matrix_free(hessian, parameters)
    sufficient, first = least(strict)
    necessary, second = (sufficient, first) if len(strict) == len(active) else least(active)
    return Curvature(sufficient, necessary, (first, second), "dense" if dense else "Lanczos")


Least = Callable[[Floats], tuple[float, int]]


def _dense(hessian: Callable[[Floats], Floats], parameters: int) -> Least:
    columns = np.column_stack([hessian(unit) for unit in np.eye(parameters)])
    H = 0.5 * (columns + columns.T)

    def least(gradients: Floats) -> tuple[float, int]:
        basis, rank = _row_space(gradients, "full")
        null = basis[:, rank:]
        if null.shape[1] == 0:
            return math.inf, 0
        return float(eigvalsh(null.T @ H @ null, subset_by_index=[0, 0])[0]), null.shape[1]

    return least


def _matrix_free(hessian: Callable[[Floats], Floats], parameters: int) -> Least:
    def least(gradients: Floats) -> tuple[float, int]:
        basis, rank = _row_space(gradients, "economic")
        span = basis[:, :rank]

        def projected(v: Floats) -> Floats:
            return np.asarray(v - span @ (span.T @ v))

        start = projected(np.random.default_rng(0).standard_normal(parameters))
        inside = LinearOperator((parameters, parameters), matvec=lambda v: projected(hessian(projected(v))))
        largest = float(eigsh(inside, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])
        lift = 2.0 * abs(largest) + 1.0  # the span of the gradients goes above everything else

        def lifted(v: Floats) -> Floats:
            part = projected(v)
            return np.asarray(projected(hessian(part)) + lift * (v - part))

        whole = LinearOperator((parameters, parameters), matvec=lifted)
        return float(eigsh(whole, k=1, which="SA", v0=start, return_eigenvectors=False)[0]), parameters - rank

    return least


def _row_space(gradients: Floats, mode: str) -> tuple[Floats, int]:
    """Return an orthonormal basis whose first vectors span the rows, and how many they are."""
    largest = np.abs(gradients).max(axis=1, initial=0.0, keepdims=True)
    scaled = gradients / np.where(largest > 0.0, largest, 1.0)  # whose squares stay in the float range
    sizes = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit = scaled / np.where(sizes > 0.0, sizes, 1.0)
    basis, factor, _ = qr(unit.T, mode=mode, pivoting=True)  # type: ignore[call-overload]
    pivots = np.abs(np.diagonal(factor))
    return np.asarray(basis), int((pivots > _DEPENDENT * pivots.max(initial=0.0)).sum())
