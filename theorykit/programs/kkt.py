"""How near a parameter is to a KKT point of the non-convex rich programs R1 and R2, and which kind of point it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lstsq
from scipy.optimize import nnls

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats, shift
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import choice, finite, flag, matrix, reals, vector
from theorykit.datasets import Dataset
from theorykit.programs._constraints import Constraints, of_labels
from theorykit.programs._curvature import Curvature, curvature_on
from theorykit.programs._scaled import check_model, unpacked
from theorykit.programs._triangle import triangle


@dataclass(frozen=True, eq=False)
class KKT:
    """KKT residuals of R1 or R2; both are 0 exactly at a KKT point. For R1 the scale of theta does not matter.

    Attributes
    ----------
    stationarity : float
        ``||theta - sum_i mu_i grad q_i||_2 / ||theta||_2`` (R2: grad f_i). inf where not feasible (R1).
    complementarity : float
        ``sum_i mu_i (q_i - q_min) / (q_min sum_i mu_i)``; 0 where all mu are 0, and for R2. inf where not feasible.
    multipliers : ndarray, shape (m,)
        mu: for R1 non-negative, at the scale where q_min = 1; zeros where not feasible. For R2 of any sign.
    feasible : bool
        R1: whether q_min > 0: only then some multiple of theta satisfies the constraints q_i >= 1. R2: whether
        `violation` is at most 1e-6.
    residual : float
        The root of the sum of squares that the multipliers make least: of stationarity and, for R1, of
        ``L sum_i mu_i (q_i - q_min) / ||theta||^2``, which is the complementarity up to second order (by Euler's
        identity); for R2 of stationarity and violation.
    violation : float
        R2: ``||f - y||_2 / ||y||_2`` (without the denominator where y = 0). 0 for R1, where a multiple of theta counts.
    curvature : Curvature or None
        The second-order check, where `rich_kkt` made one.
    """

    stationarity: float
    complementarity: float
    multipliers: Floats = field(repr=False)
    feasible: bool
    residual: float = field(repr=False)
    violation: float = field(default=0.0, repr=False)
    curvature: Curvature | None = field(default=None, repr=False)


_MET = 1e-6
"""Targets met to this, relatively, count as met."""

_WEAK = 1e-6
"""Constraints with q_i / q_min - 1 below it count as active."""

_POSITIVE = 1e-9
"""Multipliers above this part of the largest count as positive."""

_SMALLEST = 2.0**-1000
"""Of gradients that one can divide by."""

_STEPS = 30


def kkt_residuals(theta: ArrayLike, outputs_q: ArrayLike, gradients: ArrayLike, degree: float) -> KKT:
    """Measure how far theta's direction is from a KKT point of R1: min 1/2 ||theta||^2 subject to q_i(theta) >= 1.

    In the normalised form of Lyu and Li ("Gradient descent maximizes the margin of homogeneous neural networks", ICLR
    2020, section 4 and its appendix): theta is scaled so that q_min = 1. One vector of multipliers must make both
    residuals small, so that they are chosen by non-negative least squares for the two together (see `KKT.residual`).
    Both residuals are then continuous in the data, and the same for all multipliers that do equally well: those that
    fit theta best alone may rest on samples far from the margin, for the sake of its last digits.

    Parameters
    ----------
    theta : array_like, shape (P,)
        Not zero.
    outputs_q : array_like, shape (m,)
        q_i(theta) = y_i f_i(theta) at this theta, homogeneous of the given degree; for several classes one entry
        ``f_{y_i} - f_j`` for each sample and other class, since min_j q_ij >= 1 asks all of them to be.
    gradients : array_like, shape (m, P)
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
    outputs, slopes, point = _checked("outputs_q", theta, outputs_q, gradients)
    order = finite("degree", degree, above=0.0)
    smallest = float(outputs.min())
    if smallest <= 0.0:
        return KKT(math.inf, math.inf, np.zeros(len(outputs)), False, math.inf)
    return _feasible_residuals(point, outputs, slopes, order)


def interpolation_kkt_residuals(theta: ArrayLike, outputs: ArrayLike, gradients: ArrayLike, targets: ArrayLike) -> KKT:
    """Measure how far theta is from a KKT point of R2: min 1/2 ||theta||^2 subject to f_i(theta) = y_i.

    The multipliers, of any sign, are the least-squares solution of theta = sum_i mu_i grad f_i(theta) (the shortest
    one, where there are several).

    Parameters
    ----------
    theta : array_like, shape (P,)
        Not zero.
    outputs, targets : array_like, shape (m,)
        f_i(theta) and y_i; several outputs of one sample are several entries.
    gradients : array_like, shape (m, P)
        grad f_i at this theta, in rows.

    Returns
    -------
    KKT

    Raises
    ------
    InputError
        Shapes, non-finite entries, theta = 0.

    Examples
    --------
    >>> interpolation_kkt_residuals([3.0, 0.0], [9.0], [[6.0, 0.0]], [9.0])
    KKT(stationarity=0.0, complementarity=0.0, feasible=True)
    """
    found, slopes, point = _checked("outputs", theta, outputs, gradients)
    wanted = vector("targets", targets, length=len(found))
    size, steepest = float(np.abs(point).max()), float(np.abs(slopes).max()) or 1.0
    factor, right = _reduced(point / size, slopes / steepest)
    weights = lstsq(factor, right)[0]
    direction = point / size
    stationarity = float(np.linalg.norm(direction - weights @ (slopes / steepest)) / np.linalg.norm(direction))
    scale = max(float(np.abs(wanted).max()), float(np.abs(found).max())) or 1.0
    missed, whole = np.linalg.norm((found - wanted) / scale), np.linalg.norm(wanted / scale)
    violation = float(missed / whole if whole > 0.0 else missed * scale)
    residual = math.hypot(stationarity, violation)
    with np.errstate(over="ignore", under="ignore"):
        multipliers = weights * (size / steepest)
    return KKT(stationarity, 0.0, multipliers, violation <= _MET, residual, violation)


def rich_kkt(
    model: Any,
    theta: ArrayLike,
    X: ArrayLike | Dataset,
    y: ArrayLike | None = None,
    *,
    task: Literal["classification", "regression"] | None = None,
    second_order: bool = True,
) -> KKT:
    """Measure how far a model's parameter is from a KKT point of R1 or R2 on the data, and of which kind.

    Parameters
    ----------
    model : HomogeneousModel
        Its outputs and gradients are used; for the second-order check also ``hvp(theta, X, cotangent, tangent)``.
    theta : array_like, shape (P,)
        Not zero.
    X : array_like or Dataset
        Inputs of the model.
    y : array_like, shape (n,) or (n, c)
        R1: labels +-1, or class numbers 0 .. c-1 for a model with c outputs: ``min_j f_{y_i} - f_j >= 1``. R2: targets,
        shaped as the outputs. Left out with a data set.
    task : {"classification", "regression"}, optional
        R1 or R2. Default: that of the data set; else classification.
    second_order : bool
        Whether to compute `KKT.curvature` (R1: only where feasible).

    Returns
    -------
    KKT
        `curvature` is None for a model without ``hvp``.

    Raises
    ------
    InputError
        Shapes, non-finite entries, theta = 0, labels of another kind, an unknown task.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> net = DiagonalNet(d=2, degree=2)
    >>> found = rich_kkt(net, [1.0, 0.0, 0.0, 0.0], [[1.0, 0.5]], [1])
    >>> found, found.curvature.sufficient
    (KKT(stationarity=0.0, complementarity=0.0, feasible=True), 0.5)
    """
    check_model(model, "output", "features")
    points, labels = unpacked(X, y)
    kind = (X.task if isinstance(X, Dataset) else "classification") if task is None else task
    choice("task", kind, ["classification", "regression"])
    curved = flag("second_order", second_order)
    point = vector("theta", theta)
    if not point.any():
        raise InputError("theta", "the zero vector", "a direction")
    if kind == "classification":  # R1 does not depend on the scale of theta, and this one overflows nowhere
        point = shift(point, -int(np.frexp(np.abs(point).max())[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        f = np.asarray(model.output(point, points), dtype=np.float64)
        gradients = np.asarray(model.features(points, point), dtype=np.float64).reshape(f.size, -1)
        steepest = max(float(gradients.max()), -float(gradients.min()))
    if not (np.isfinite(f).all() and (steepest == 0.0 or _SMALLEST <= steepest < math.inf)):
        raise InputError("X", "inputs with outputs or gradients past the float range", "inputs of moderate size")
    if kind == "regression":
        found = interpolation_kkt_residuals(point, f.ravel(), gradients, _flat_targets(labels, f))
        weights, strict, active = found.multipliers, *2 * (np.ones(f.size, dtype=bool),)
    else:
        constraints = of_labels(labels, len(f), 1 if f.ndim == 1 else f.shape[1])
        q, gradients = constraints.differences @ f.ravel(), constraints.differences @ gradients
        found = kkt_residuals(point, q, gradients, model.degree)
        if not found.feasible:
            return found
        weights = _at_own_scale(found, q, model.degree)
        strict = weights > _POSITIVE * weights.max()
        active = strict | (q / q.min() - 1.0 <= _WEAK)
    if not curved or not callable(getattr(model, "hvp", None)):
        return found
    cotangent = _cotangent(weights, f, None if kind == "regression" else constraints)

    def hessian(tangent: Floats) -> Floats:
        """Apply I - sum_i mu_i Hess q_i(theta)."""
        return tangent - np.asarray(model.hvp(point, points, cotangent, tangent), dtype=np.float64)

    curvature = curvature_on(hessian, gradients[strict], gradients[active])
    parts = found.stationarity, found.complementarity, found.multipliers, found.feasible
    return KKT(*parts, found.residual, found.violation, curvature)


def _flat_targets(y: ArrayLike, f: Floats) -> Floats:
    targets = reals("y", y)
    if targets.shape != f.shape:
        raise InputError("y", f"shape {targets.shape}", f"shape {f.shape}, that of the outputs")
    return targets.ravel()


def _at_own_scale(found: KKT, q: Floats, degree: int) -> Floats:
    """Return the multipliers for theta as it is: those at q_min = 1 times q_min**(2/L - 1)."""
    return np.asarray(found.multipliers * float(q.min()) ** (2.0 / degree - 1.0))


def _cotangent(weights: Floats, f: NDArray[Any], constraints: Constraints | None) -> Floats:
    flat = weights if constraints is None else constraints.adjoint(weights)[0]
    return flat.reshape(f.shape)


def _checked(name: str, theta: ArrayLike, outputs: ArrayLike, gradients: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return outputs, gradients and theta, checked against one another."""
    found = vector(name, outputs)
    slopes = matrix("gradients", gradients).astype(np.float64, copy=False)
    point = vector("theta", theta)
    if len(found) != len(slopes):
        raise InputError(name, f"{len(found)} entries", f"{len(slopes)}, one for each row of gradients")
    if len(point) != slopes.shape[1]:
        raise InputError("theta", f"{len(point)} entries", f"{slopes.shape[1]}, one for each column of gradients")
    if not point.any():
        raise InputError("theta", "the zero vector", "a direction")
    steepest = max(float(slopes.max()), -float(slopes.min()))
    if 0.0 < steepest < _SMALLEST:
        raise InputError("gradients", f"entries up to {steepest:g}", f"some of at least {_SMALLEST:.3g}, or zeros")
    return found, slopes, point


def _feasible_residuals(theta: Floats, q: Floats, gradients: Floats, degree: float) -> KKT:
    """Solve for theta / size and gradients / steepest, which are of order 1, and put the powers of the scale back."""
    size, smallest = float(np.abs(theta).max()), float(q.min())
    steepest = max(float(gradients.max()), -float(gradients.min())) or 1.0
    direction, slack = theta / size, q / smallest - 1.0
    length = float(np.linalg.norm(direction))
    factor, right = _reduced(theta, gradients)
    # one more equation: sum_i mu_i L (q_i - q_min) / ||theta|| = 0, in the units of theta
    with np.errstate(over="ignore", invalid="ignore"):
        spread = degree * (q / size - smallest / size) / (steepest * length)
    if not np.isfinite(spread).all():
        got = f"outputs up to {float(q.max()):g} with theta of size {size:g} and gradients of size {steepest:g}"
        raise InputError("outputs_q", got, "those of a homogeneous model: L q_i = <theta, grad q_i>")
    stacked = np.vstack((factor / steepest, spread))
    weights = nnls(stacked, np.append(right / size, 0.0), maxiter=_STEPS * len(q))[0]
    stationarity = float(np.linalg.norm(direction - (weights / steepest) @ gradients)) / length
    total = weights.sum()
    complementarity = float(weights @ slack / total) if total > 0.0 else 0.0
    residual = math.hypot(stationarity, float(spread @ weights) / length)
    # mu solves theta c = sum mu c**(L-1) grad q with c = q_min**(-1/L)
    log_scale = math.log(size) - math.log(steepest) - (2.0 - degree) / degree * math.log(smallest)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        multipliers = np.where(weights > 0.0, weights * np.exp(log_scale), 0.0)
    return KKT(stationarity, complementarity, multipliers, True, residual)


def _reduced(theta: Floats, gradients: Floats) -> tuple[Floats, Floats]:
    """Return a smaller matrix and right-hand side with the same least-squares problem.

    An orthogonal reduction to m + 1 rows: it keeps the accuracy that the m x m Gram matrix would halve.
    """
    if gradients.shape[1] <= gradients.shape[0] + 1:
        return gradients.T, theta
    with one_blas_thread():
        factor = triangle(gradients, theta[None, :])
    return factor[:, :-1], factor[:, -1]
