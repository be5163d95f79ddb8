"""Label-noise SGD on diagonal nets of degree 2, in the limit of small steps: where it is after T/eta^2 steps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, matrix, vector

Floats = NDArray[np.float64]

_ROUNDS, _ROUNDOFF, _RIDGE = 100, 1e-13, 1e-15
_MISSED = 1e-8  # of X w = y, where conditioning keeps it above round-off
_LOWEST, _HIGHEST = -1e4, 600.0  # logarithms of scales, relative to the solution: further down digits are lost


def label_noise_weights(X: ArrayLike, y: ArrayLike, *, alpha: float, time: float, noise: float = 1.0) -> Floats:
    """Return w = u^2 - v^2 after time/eta^2 steps of label-noise SGD, as the step eta tends to 0.

    One sample a step, ``theta <- theta - eta grad (f(theta; x_i) - y_i + xi)^2`` with xi of standard deviation `noise`,
    from u = v = alpha. On the time scale 1/eta^2 the iterates stay at zero training loss and follow

        d theta/dT = -(sigma^2/2) P grad tr H,  tr H = 8 sum_k c_k (u_k^2 + v_k^2),  c_k = (1/n) sum_i x_ik^2,

    with H the Hessian of the mean squared loss and P the projection on the tangent space (the limit of SGD whose noise
    has the covariance 2 sigma^2 H). With P written by multipliers this integrates to

        w_k = 2 alpha^2 exp(-16 sigma^2 c_k T) sinh(4 (X^T m)_k),  X w = y,

    whose dual variables m minimise a strictly convex function. time = 0 is the end of the gradient flow; as time grows,
    w tends to the interpolator with the smallest sum_k c_k |w_k|.

    Parameters
    ----------
    X : array_like, shape (n, d)
        With independent rows.
    y : array_like, shape (n,)
    alpha : float
        Initial scale > 0.
    time : float
        T >= 0: number of steps times eta^2.
    noise : float
        sigma >= 0.

    Returns
    -------
    ndarray, shape (d,)

    Raises
    ------
    InputError
        Shapes, numbers out of range, rows of X that depend on each other, or scales 2 alpha^2 exp(-16 sigma^2 c_k T)
        that are too far apart, or too far from w, for double precision.

    References
    ----------
    The limit of SGD: Li, Wang and Arora, ICLR 2022. The setting: Lyu et al. 2024, arXiv:2311.18817, Theorem B.1.

    Examples
    --------
    >>> X, y = [[1.0, 2.0]], [2.0]
    >>> (X @ label_noise_weights(X, y, alpha=1.0, time=0.3)).round(10).tolist()
    [2.0]
    >>> label_noise_weights(X, y, alpha=1.0, time=4.0).round(6).tolist()  # |w_1| + 4 |w_2| is least at w_2 = 0
    [2.0, 0.0]
    """
    points = np.asarray(matrix("X", X), dtype=np.float64)
    targets = np.asarray(vector("y", y, length=len(points)))
    scale = finite("alpha", alpha, above=0.0)
    elapsed, sigma = finite("time", time, minimum=0.0), finite("noise", noise, minimum=0.0)
    x_size, y_size = float(np.abs(points).max()), float(np.abs(targets).max())
    unit = points / (x_size or 1.0)
    rank = int(np.linalg.matrix_rank(unit))
    if rank < len(points):
        raise InputError("X", f"{len(points)} rows of rank {rank}", "independent rows")
    if y_size == 0.0:
        return np.zeros(points.shape[1])
    log_scale = 2.0 * math.log(scale) + math.log(x_size) - math.log(y_size)  # of w, in units of y_size/x_size
    if log_scale > _HIGHEST:
        limit = math.exp(0.5 * (_HIGHEST + math.log(y_size) - math.log(x_size)))
        raise InputError("alpha", f"{scale:g}", f"at most {limit:.3g} for samples of this size")
    loud = sigma * x_size
    fall = 16.0 * (elapsed * loud * loud) * (unit**2).mean(axis=0)
    if not log_scale - float(fall.max()) >= _LOWEST:
        got = f"{elapsed:g} with alpha = {scale:g} and noise = {sigma:g}"
        raise InputError("time", got, "a time at which no scale of w has fallen below e^-10000")
    ends, dual = log_scale - fall, np.zeros(len(points))
    for share in np.linspace(0.0, 1.0, 2 + math.ceil(float(np.abs(ends).max()))):  # each start is close to its solution
        dual = _interpolating(unit, targets / y_size, share * ends, dual)
    with np.errstate(over="ignore"):
        w = _weights(unit, ends, dual) * (y_size / x_size)
    if not np.isfinite(w).all():
        raise InputError("y", f"targets up to {y_size:g} of samples up to {x_size:g}", "a w in the float range")
    return w


def _weights(X: Floats, log_scales: Floats, dual: Floats) -> Floats:
    """Return 2 e^s sinh(4B) without cancellation; it stays in the float range though e^s or sinh may not."""
    pull = 4.0 * (X.T @ dual)
    return np.asarray(np.exp(log_scales + np.abs(pull)) * -np.expm1(-2.0 * np.abs(pull)) * np.sign(pull))


def _interpolating(X: Floats, y: Floats, log_scales: Floats, dual: Floats) -> Floats:
    """Minimise sum_k e^s_k cosh(4 (X^T m)_k)/2 - <y, m> over m by Newton's method, whose gradient is X w - y."""
    tolerance = _ROUNDOFF + float(np.finfo(np.float64).eps) * float(np.abs(log_scales).max())

    def value(m: Floats) -> float:
        """Return the function less its value at m = 0."""
        size = 4.0 * np.abs(X.T @ m)
        with np.errstate(over="ignore"):
            roots = np.exp(0.5 * (log_scales + size)) * np.expm1(-size)
            return float((roots**2).sum()) / 4.0 - float(y @ m)

    for _ in range(_ROUNDS):
        w = _weights(X, log_scales, dual)
        residual = X @ w - y
        missed = float(np.abs(residual).max()) / (1.0 + float((np.abs(X) @ np.abs(w)).max()))
        if missed <= tolerance:
            break
        size = 4.0 * np.abs(X.T @ dual)
        hessian = (X * (4.0 * np.exp(log_scales + size) * (1.0 + np.exp(-2.0 * size)))) @ X.T
        hessian.flat[:: len(y) + 1] += _RIDGE * np.trace(hessian) / len(y)  # few weights may be left: still regular
        step = np.linalg.solve(hessian, residual)
        length, now, slope = 1.0, value(dual), float(residual @ step)
        while length > 1e-12 and not value(dual - length * step) <= now - 0.1 * length * slope + 1e-15 * abs(now):
            length /= 2.0
        dual = dual - length * step
    if not missed <= _MISSED:
        got = "scales of w too far apart for double precision"
        raise InputError("alpha, time", got, "an alpha nearer to the size of w, or a shorter time")
    return dual
