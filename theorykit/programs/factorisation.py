"""Stationary points of matrix factorisation with weight decay: global, or with a direction of negative curvature.

``L(U, V) = (1/n) sum_k (W_k - y_k)^2 + (lambda/2)(||U||_F^2 + ||V||_F^2)`` with W = U U^T - V V^T, the mean over all
observations. Its infimum over U and V with d columns is the optimum of `nuclear_regularised` over symmetric W (Lyu et
al., ICLR 2024, theorem F.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats
from theorykit._numerics.spectral import operator_norm_upper
from theorykit._numerics.validate import finite, matrix, numeric
from theorykit.programs._nuclear_data import LARGEST, Observed, check_squares, checked_observations
from theorykit.programs.nuclear import bounds, residual_matrix

_BITS = 300
_LARGEST = 1e70
"""Entries up to here leave the squares of those of U U^T far from the end of the float range."""


@dataclass(frozen=True, eq=False)
class FactorisationPoint:
    """What a point (U, V) is worth.

    Attributes
    ----------
    loss : float
        Proved upper bound of L(U, V), tight to round-off.
    lower : float
        Proved lower bound of L over all (U, V), from the residuals at this point. The point is a global minimum up to
        ``loss - lower``.
    stationarity : float
        ``sqrt(||(M + lambda I) U||_F^2 + ||(lambda I - M) V||_F^2)``, the norm of the gradient, to round-off.
    operator_norm : float
        Proved upper bound of ||M||_op; a stationary point with at most lambda is a global minimum.
    M : ndarray, shape (d, d)
        ``(4/n) sum_k (W_k - y_k) P_k``.
    curvature : float or None
        Proved upper bound, negative, of the second derivative ``d^2/dt^2 L(U + tH, V + tK)`` at 0 along `direction`,
        with ``||H||_F^2 + ||K||_F^2 = 1`` up to round-off. None where no such direction was found.
    direction : tuple of two ndarrays, shape (d, r) and (d, s), or None
        H and K.
    """

    loss: float
    lower: float
    stationarity: float
    operator_norm: float
    M: Floats = field(repr=False)
    curvature: float | None
    direction: tuple[Floats, Floats] | None = field(repr=False)

    @property
    def gap(self) -> float:
        """The proved distance of the loss from the global minimum, relative to the loss."""
        return (self.loss - self.lower) / self.loss if self.loss > 0.0 else 0.0


def factorisation_point(
    U: ArrayLike, V: ArrayLike, observed: ArrayLike, values: ArrayLike, *, weight_decay: float
) -> FactorisationPoint:
    """Bound how far a point is from the global minimum of a factorisation, and look for negative curvature.

    Parameters
    ----------
    U, V : array_like, shape (d, r) and (d, s)
        The factors of W = U U^T - V V^T.
    observed : array_like of int, shape (n, 2)
        (i, j) and (j, i), or the same entry twice, count as two observations.
    values : array_like, shape (n,)
    weight_decay : float
        lambda > 0.

    Returns
    -------
    FactorisationPoint

    Raises
    ------
    InputError
        Shapes, non-finite entries, lambda <= 0.

    Notes
    -----
    At a stationary point M U = -lambda U and M V = lambda V. If ||M||_op <= lambda, the residuals are dual feasible and
    the bounds meet. If not, M has an eigenvector x with eigenvalue below -lambda (or above lambda), orthogonal to the
    range of U (or V): with U z = 0 and ``||z|| = 1``, the direction H = x z^T leaves W as it is to first order, and has
    the curvature x^T M x + lambda < 0. Such a z exists when U has d columns; with fewer, the smallest singular vector
    is tried.

    Examples
    --------
    >>> saddle = factorisation_point([[0.0]], [[0.0]], [[0, 0]], [1.0], weight_decay=0.5)
    >>> saddle.stationarity, saddle.curvature < -3.4, saddle.direction[0]
    (0.0, True, array([[1.]]))
    >>> u = 0.875**0.5
    >>> factorisation_point([[u]], [[0.0]], [[0, 0]], [1.0], weight_decay=0.5).gap < 1e-12
    True
    """
    first, second = (np.asarray(matrix(n, f), dtype=np.float64) for n, f in (("U", U), ("V", V)))
    if len(first) != len(second):
        raise InputError("V", f"{len(second)} rows", f"{len(first)}, as many as U has")
    if numeric("observed", observed).ndim == 3:
        raise InputError("observed", f"shape {np.shape(observed)}", "indices of entries, shape (n, 2)")
    for name, factor in (("U", first), ("V", second)):
        if np.abs(factor).max() > _LARGEST:
            raise InputError(name, f"an entry of {np.abs(factor).max():.3g}", f"entries up to {_LARGEST:g}")
    decay = finite("weight_decay", weight_decay, above=0.0, maximum=LARGEST)
    data = checked_observations(observed, values, len(first), True)
    check_squares(data.values)
    W = first @ first.T - second @ second.T
    W = 0.5 * (W + W.T)
    M = residual_matrix(data, W)
    residual = 2.0 * data.counts / float(data.counts.sum()) * (data.values - data.of(W))
    lower, _ = bounds(data, W, residual, decay)
    flows = np.hstack((M @ first + decay * first, decay * second - M @ second))
    largest = float(np.abs(flows).max()) or 1.0  # the squares may leave the float range
    loss = float(_upper(_loss(data, first, second, decay)))
    curvature, direction = _negative_curvature(data, first, second, M, decay)
    return FactorisationPoint(
        loss, lower, largest * float(np.linalg.norm(flows / largest)), operator_norm_upper(M), M, curvature, direction
    )


def _negative_curvature(
    data: Observed, U: Floats, V: Floats, M: Floats, decay: float
) -> tuple[float | None, tuple[Floats, Floats] | None]:
    """Return the most negative curvature of the two candidates, with its direction."""
    values, vectors = np.linalg.eigh(M)
    in_U = np.outer(vectors[:, 0], _least_used(U)), np.zeros_like(V)
    in_V = np.zeros_like(U), np.outer(vectors[:, -1], _least_used(V))
    best: tuple[float | None, tuple[Floats, Floats] | None] = (None, None)
    for excess, direction in sorted(((-values[0], in_U), (values[-1], in_V)), key=lambda pair: -pair[0]):
        if excess > decay and best[0] is None:
            curvature = float(_upper(_second_derivative(data, U, V, direction, decay)))
            best = (curvature, direction) if curvature < 0.0 else best
    return best


def _least_used(factor: Floats) -> Floats:
    """Return the unit vector z with the smallest ||factor z||."""
    return np.asarray(np.linalg.svd(factor)[2][-1])


def _ball(array: Floats) -> Any:
    import flint

    rows, columns = array.shape
    return flint.arb_mat(rows, columns, [flint.arb(float(value)) for value in array.ravel()])


def _upper(value: Any) -> float:
    """Return a double at least as large as a ball of arb."""
    return float(np.nextafter(float(value.upper()), np.inf))


def _loss(data: Observed, U: Floats, V: Floats, decay: float) -> Any:
    """Enclose L(U, V)."""
    import flint

    with flint.ctx.workprec(_BITS):
        W = _ball(U) * _ball(U).transpose() - _ball(V) * _ball(V).transpose()
        total = flint.arb(0)
        for (i, j), y, count in zip(_places(data), data.values, data.counts, strict=True):
            total += flint.arb(float(count)) * (W[i, j] - flint.arb(float(y))) ** 2
        return total / flint.arb(float(data.counts.sum())) + flint.arb(decay) / 2 * (_square(U) + _square(V))


def _second_derivative(data: Observed, U: Floats, V: Floats, direction: tuple[Floats, Floats], decay: float) -> Any:
    """Enclose d^2/dt^2 L(U + tH, V + tK) at 0.

    With W' = U H^T + H U^T - V K^T - K V^T and W'' = 2 (H H^T - K K^T) it is
    (2/n) sum_k (W'_k)^2 + (2/n) sum_k (W_k - y_k) W''_k + lambda (||H||_F^2 + ||K||_F^2).
    """
    import flint

    with flint.ctx.workprec(_BITS):
        u, v, h, k = (_ball(array) for array in (U, V, *direction))
        W, bend = u * u.transpose() - v * v.transpose(), h * h.transpose() - k * k.transpose()
        half = u * h.transpose() - v * k.transpose()
        total = flint.arb(0)
        for (i, j), y, count in zip(_places(data), data.values, data.counts, strict=True):
            slope = half[i, j] + half[j, i]
            total += flint.arb(float(count)) * (slope**2 + 2 * (W[i, j] - flint.arb(float(y))) * bend[i, j])
        scaled = 2 * total / flint.arb(float(data.counts.sum()))
        return scaled + flint.arb(decay) * (_square(direction[0]) + _square(direction[1]))


def _square(array: Floats) -> Any:
    import flint

    return sum((flint.arb(float(value)) ** 2 for value in array.ravel()), flint.arb(0))


def _places(data: Observed) -> list[tuple[int, int]]:
    assert data.index is not None
    return [(int(i), int(j)) for i, j in data.index]
