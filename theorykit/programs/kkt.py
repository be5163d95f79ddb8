"""How near a direction is to a KKT point of the non-convex rich program R1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lstsq
from scipy.optimize import linprog, nnls

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats
from theorykit._numerics.validate import finite, matrix, vector
from theorykit.programs._triangle import one_thread, triangle


@dataclass(frozen=True, eq=False)
class KKT:
    """KKT residuals of R1 at a direction; both are 0 exactly at a KKT point, and do not depend on the scale of theta.

    Attributes
    ----------
    stationarity : float
        ``||theta - sum_i mu_i grad q_i||_2 / ||theta||_2`` with the best mu >= 0; at most 1. inf where not feasible.
    complementarity : float
        ``sum_i mu_i (q_i - q_min) / (q_min sum_i mu_i)``; 0 where all mu are 0. inf where not feasible.
    multipliers : ndarray, shape (n,)
        mu at the scale where q_min = 1. Zeros where not feasible.
    feasible : bool
        Whether q_min > 0: only then some multiple of theta satisfies the constraints q_i >= 1.
    """

    stationarity: float
    complementarity: float
    multipliers: Floats = field(repr=False)
    feasible: bool


def kkt_residuals(theta: ArrayLike, outputs_q: ArrayLike, gradients: ArrayLike, degree: float) -> KKT:
    """Measure how far theta's direction is from a KKT point of R1: min 1/2 ||theta||^2 subject to q_i(theta) >= 1.

    In the normalised form of Lyu and Li ("Gradient descent maximizes the margin of homogeneous neural networks", ICLR
    2020, section 4 and its appendix): theta is scaled so that q_min = 1, and the multipliers are the non-negative least
    squares solution over all samples; where that is not unique, the one with the least complementarity.

    Parameters
    ----------
    theta : array_like, shape (P,)
        Not zero.
    outputs_q : array_like, shape (n,)
        q_i(theta) = y_i f_i(theta) at this theta, homogeneous of the given degree.
    gradients : array_like, shape (n, P)
        grad q_i at this theta, in rows.
    degree : float
        L > 0, the degree of homogeneity: theta * c has outputs q * c**L and gradients * c**(L-1).

    Returns
    -------
    KKT

    Raises
    ------
    InputError
        Shapes, non-finite entries, degree <= 0, theta = 0.

    Examples
    --------
    The direction (1, 0) for q(theta) = theta_1^2 is a KKT point, at any scale:

    >>> kkt_residuals([3.0, 0.0], [9.0], [[6.0, 0.0]], 2)
    KKT(stationarity=0.0, complementarity=0.0, feasible=True)
    """
    outputs = vector("outputs_q", outputs_q)
    slopes = matrix("gradients", gradients).astype(np.float64, copy=False)
    point = vector("theta", theta)
    order = finite("degree", degree, above=0.0)
    if len(outputs) != len(slopes):
        raise InputError("outputs_q", f"{len(outputs)} entries", f"{len(slopes)}, one for each row of gradients")
    if len(point) != slopes.shape[1]:
        raise InputError("theta", f"{len(point)} entries", f"{slopes.shape[1]}, one for each column of gradients")
    size = float(np.abs(point).max())
    if size == 0.0:
        raise InputError("theta", "the zero vector", "a direction")
    smallest = float(outputs.min())
    if smallest <= 0.0:
        return KKT(math.inf, math.inf, np.zeros(len(outputs)), False)
    return _feasible_residuals(point, outputs, slopes, order, size, smallest)


def _feasible_residuals(
    theta: Floats, q: Floats, gradients: Floats, degree: float, size: float, smallest: float
) -> KKT:
    """Solve for theta / size and gradients / steepest, which are of order 1, and put the powers of the scale back."""
    steepest = max(float(gradients.max()), -float(gradients.min())) or 1.0
    slack = q / smallest - 1.0
    factor, right = _reduced(theta, gradients)
    weights = _multipliers(factor / steepest, right / size, slack)
    direction = theta / size
    stationarity = float(np.linalg.norm(direction - (weights / steepest) @ gradients) / np.linalg.norm(direction))
    total = weights.sum()
    complementarity = float(weights @ slack / total) if total > 0.0 else 0.0
    # mu solves theta c = sum mu c**(L-1) grad q with c = q_min**(-1/L)
    log_scale = math.log(size) - math.log(steepest) - (2.0 - degree) / degree * math.log(smallest)
    with np.errstate(over="ignore", under="ignore"):
        multipliers = weights * np.exp(log_scale)
    return KKT(stationarity, complementarity, multipliers, True)


def _reduced(theta: Floats, gradients: Floats) -> tuple[Floats, Floats]:
    """Return a smaller matrix and right-hand side with the same least-squares problem.

    An orthogonal reduction to n + 1 rows: it keeps the accuracy that the n x n Gram matrix would halve.
    """
    if gradients.shape[1] <= gradients.shape[0] + 1:
        return gradients.T, theta
    with one_thread():
        factor = triangle(gradients, theta[None, :])
    return factor[:, :-1], factor[:, -1]


def _multipliers(factor: Floats, right: Floats, slack: Floats) -> Floats:
    """Return the mu >= 0 that minimises ||right - factor mu||; of several, the one with least mu . slack."""
    weights = nnls(factor, right, maxiter=_STEPS * len(slack))[0]
    if np.linalg.matrix_rank(factor) == len(slack):
        return weights
    return _least_slack(factor, right, weights, slack)


def _least_slack(factor: Floats, right: Floats, weights: Floats, slack: Floats) -> Floats:
    """Return the mu >= 0 with factor mu = factor weights (all best fits) that has the least mu . slack."""
    found = linprog(slack, A_eq=factor, b_eq=factor @ weights, bounds=(0.0, None), method="highs-ds")
    if found.x is None:
        return weights
    support = np.flatnonzero(found.x > _ZERO * found.x.max())
    polished = np.zeros(len(slack))
    polished[support] = lstsq(factor[:, support], right)[0]
    worst = np.linalg.norm(factor @ weights - right) + _ZERO * np.linalg.norm(right)
    if polished.min() < 0.0 or np.linalg.norm(factor @ polished - right) > worst:
        return weights
    return polished


_STEPS = 30
_ZERO = 1e-12
