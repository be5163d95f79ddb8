"""Margins in the l_{2/L} quasinorm: what R1 of a diagonal net of degree L > 2 comes to. Not convex: a local search."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import NotSeparableError
from theorykit._numerics.rounding import Floats, Rows, down, scale_rows, shift, up
from theorykit._numerics.validate import integer, matrix, signs
from theorykit.datasets import Dataset
from theorykit.programs._scaled import unpacked
from theorykit.programs._statement import SolverError
from theorykit.programs.certificate import smallest_margin
from theorykit.programs.kkt import KKT, kkt_residuals
from theorykit.programs.margin import MaxMargin, max_margin

_SMOOTHINGS = 10.0 ** -np.arange(1.0, 9.0)
_MAX_REWEIGHTINGS = 30
_ACTIVE = 1e-9


@dataclass(frozen=True, eq=False)
class QuasinormMargin:
    """The best of several local maxima of ``min_i y_i <w, x_i> / ||w||_p``, p = 2/L; it need not be the global one.

    Attributes
    ----------
    w : ndarray, shape (d,)
        A vertex, scaled so that ``min_i y_i <w, x_i> = 1`` (to round-off).
    margin : float
        Its margin, rounded down: a proved lower bound on the largest one.
    upper : float
        A proved upper bound on the largest margin: the l1-margin's, since ||w||_p >= ||w||_1. Seldom tight.
    degree : int
        L.
    kkt : KKT
        Residuals of R1 at theta = (u, v), ``u = (w_+)**(1/L)``, ``v = (w_-)**(1/L)``, for the diagonal net of degree L.
    strict_local : bool
        The second-order check. Off its support w cannot move at first order without loss; on it the program is
        concave, so that it is a strict local maximum if the active samples leave the support no direction to move in
        and all their multipliers are positive.
    values : ndarray, shape (restarts,)
        The margins that the restarts ended with, in their order; restarts that failed are nan.
    seed : int
    wall_s : float
    """

    w: Floats = field(repr=False)
    margin: float
    upper: float
    degree: int
    kkt: KKT
    strict_local: bool
    values: Floats = field(repr=False)
    seed: int
    wall_s: float

    @property
    def local(self) -> bool:
        """Whether a better w is not excluded: False only where `margin` meets `upper` (to 1e-9)."""
        return self.margin < self.upper * (1.0 - 1e-9)


def quasinorm_margin(
    X: ArrayLike | Dataset, y: ArrayLike | None = None, *, degree: int, restarts: int = 10, seed: int = 0
) -> QuasinormMargin:
    """Look for the largest ``min_i y_i <w, x_i> / ||w||_{2/L}``, where ``||w||_p = (sum_k |w_k|**p)**(1/p)``.

    R1 for the diagonal net of degree L: with u^L - v^L = w, the least ``||u||^2 + ||v||^2`` is ``sum_k |w_k|**(2/L)``.
    Each restart is a sequence of weighted l1-margins, the weights the slopes of the quasinorm at the last solution,
    smoothed less and less (Candes, Wakin and Boyd, J. Fourier Anal. Appl. 14, 2008), from the plain l1-margin (the
    first), the l2-margin (the second) and random weights. It ends at a vertex, where the active samples determine w on
    its support.

    Parameters
    ----------
    X : array_like, shape (n, d), or Dataset
    y : array_like, shape (n,)
        Labels +1 or -1. Left out with a data set.
    degree : int
        L > 2, and d**(L/2) at most 2**900. For L = 2 the program is convex: `max_margin(norm=1)`.
    restarts : int
        At least 1.
    seed : int
        Of the random weights.

    Returns
    -------
    QuasinormMargin

    Raises
    ------
    InputError
        What `max_margin` refuses; degree < 3 or too large, restarts < 1, seed < 0.
    NotSeparableError
        No w has a positive margin.

    Examples
    --------
    Two features that do half of it each cost more than one that does all:

    >>> found = quasinorm_margin([[1.0, 1.0, 1.5]], [1], degree=3)
    >>> found.w.round(12), found.strict_local
    (array([0.        , 0.        , 0.66666667]), True)
    """
    started = time.perf_counter()
    points, given = unpacked(X, y)
    data = matrix("X", points)
    labels = signs("y", given, length=len(data))
    order = integer("degree", degree, minimum=3, maximum=_largest_degree(data.shape[1]))
    count, first = integer("restarts", restarts, minimum=1), integer("seed", seed, minimum=0)
    rng = np.random.default_rng(first)
    convex = max_margin(data, labels, norm=1)
    smoothings = [_SMOOTHINGS[2 * min(k, 2) :] for k in range(count)]  # little where it would wash out the random start
    starts = [_start(data, labels, k, rng) for k in range(count)]
    found = [_restart(data, labels, order, *pair, convex) for pair in zip(starts, smoothings, strict=True)]
    rows = scale_rows(data)
    values = np.array([math.nan if w is None else _margin(rows, labels, w, order) for w in found])
    if not np.isfinite(values).any():
        raise SolverError("no restart ended at a vertex: too ill-conditioned")
    best = int(np.nanargmax(values))
    w = found[best]
    assert w is not None
    kkt, strict = _first_and_second_order(data, labels, w, order)
    parts = w, float(values[best]), convex.certificate.upper, order, kkt, strict, values, first
    return QuasinormMargin(*parts, time.perf_counter() - started)


def _largest_degree(d: int) -> int:
    """Return the degree up to which d**(L/2), the quasinorm of d ones, is far from the end of the float range."""
    return int(2.0 * 900.0 / math.log2(max(d, 2)))


def _start(X: NDArray[Any], y: Floats, number: int, rng: np.random.Generator) -> Floats:
    """Return the factors that columns are multiplied with at first."""
    if number == 0:
        return np.ones(X.shape[1])
    if number == 1:
        return np.maximum(np.abs(max_margin(X, y).w), 1e-12)
    return np.exp(2.0 * rng.standard_normal(X.shape[1]))


def _restart(
    X: NDArray[Any], y: Floats, degree: int, factors: Floats, smoothings: Floats, convex: MaxMargin
) -> Floats | None:
    """Reweight until the support stays, then solve on it for the vertex."""
    w = _weighted(X, y, factors, convex)
    for smoothing in smoothings:
        for _ in range(_MAX_REWEIGHTINGS):
            sizes = np.abs(w) / np.abs(w).max() + smoothing
            moved = _weighted(X, y, sizes ** (1.0 - 2.0 / degree), convex)
            settled = np.array_equal(moved != 0.0, w != 0.0) and np.allclose(moved, w, rtol=1e-6)
            w = moved
            if settled:
                break
    return _vertex(X, y, w)


def _weighted(X: NDArray[Any], y: Floats, factors: Floats, convex: MaxMargin) -> Floats:
    """Return the w with smallest margin 1 and the least sum |w_k| / factors_k; small entries put to zero."""
    if (factors == factors[0]).all():
        v = convex.w
    else:
        factors = np.maximum(factors / factors.max(), 1e-8)
        try:
            v = max_margin(X * factors, y, norm=1).w * factors
        except (SolverError, NotSeparableError):  # the factors, not the data, are at fault
            v = convex.w
    return np.where(np.abs(v) > 1e-10 * np.abs(v).max(), v, 0.0)


def _vertex(X: NDArray[Any], y: Floats, w: Floats) -> Floats | None:
    """Return the w on the same support whose active samples have margin 1, to round-off; None if it separates not."""
    Z = y[:, None] * X.astype(np.float64)
    support, active = _support_and_active(Z, w)
    exact = np.zeros(len(w))
    exact[support] = np.linalg.lstsq(Z[np.ix_(active, support)], np.ones(len(active)), rcond=None)[0]
    smallest = smallest_margin(scale_rows(X), y, exact)
    if smallest > 1.0 - 1e-9:
        return exact / smallest
    smallest = smallest_margin(scale_rows(X), y, w)
    return w / smallest if smallest > 0.0 else None


def _support_and_active(Z: Floats, w: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    margins = Z @ w
    return np.flatnonzero(w), np.flatnonzero(margins <= margins.min() * (1.0 + _ACTIVE))


def _margin(rows: Rows, y: Floats, w: Floats, degree: int) -> float:
    """Return min_i y_i <w, x_i> / ||w||_{2/L}, rounded down."""
    exponent = int(np.frexp(np.abs(w).max())[1])
    powers = np.abs(shift(w, -exponent)) ** (2.0 / degree)
    total = math.fsum(powers) * (1.0 + 2.0**-45)  # the powers and the root, each within a few units of round-off
    size = up(float(total ** (degree / 2.0)) * (1.0 + degree * 2.0**-45))
    return float(shift(down(smallest_margin(rows, y, w) / size), -exponent))


def _first_and_second_order(X: NDArray[Any], y: Floats, w: Floats, degree: int) -> tuple[KKT, bool]:
    """Return the KKT residuals of R1 at theta(w), and whether w is a strict local maximum."""
    Z = y[:, None] * X.astype(np.float64)
    u, v = (np.maximum(side, 0.0) ** (1.0 / degree) for side in (w, -w))
    gradients = degree * np.hstack((Z * u ** (degree - 1), -Z * v ** (degree - 1)))
    kkt = kkt_residuals(np.concatenate((u, v)), Z @ w, gradients, degree)
    support, active = _support_and_active(Z, w)
    held = active[kkt.multipliers[active] > _ACTIVE * kkt.multipliers.max()]
    rank = int(np.linalg.matrix_rank(Z[np.ix_(held, support)])) if len(held) else 0
    return kkt, rank == len(support) and kkt.residual < 1e-8
