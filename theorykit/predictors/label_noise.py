"""Label-noise SGD on diagonal nets of degree 2, in the limit of small steps: where it is after T/eta^2 steps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, matrix, vector

Floats = NDArray[np.float64]

_ROUNDS, _ROUNDOFF = 500, 1e-13


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
        Shapes, numbers out of range, rows of X that depend on each other.

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
    if np.linalg.matrix_rank(points) < len(points):
        raise InputError("X", f"{len(points)} rows of rank {np.linalg.matrix_rank(points)}", "independent rows")
    decay = 16.0 * sigma**2 * elapsed * (points**2).mean(axis=0)
    dual = np.zeros(len(points))
    for share in np.linspace(0.0, 1.0, 2 + math.ceil(float(decay.max()))):  # each start is close to its solution
        dual = _interpolating(points, targets, 2.0 * math.log(scale) - share * decay, dual)
    return _weights(points, 2.0 * math.log(scale) - decay, dual)


def _weights(X: Floats, log_scales: Floats, dual: Floats) -> Floats:
    """Return 2 e^s sinh(4B), whose two exponentials stay in the float range though e^s or sinh may not."""
    pull = 4.0 * (X.T @ dual)
    return np.asarray(np.exp(log_scales + pull) - np.exp(log_scales - pull))


def _interpolating(X: Floats, y: Floats, log_scales: Floats, dual: Floats) -> Floats:
    """Minimise sum_k e^s_k cosh(4 (X^T m)_k)/2 - <y, m> over m by Newton's method, whose gradient is X w - y."""

    def value(m: Floats) -> float:
        pull = 4.0 * (X.T @ m)
        with np.errstate(over="ignore"):
            return float((np.exp(log_scales + pull) + np.exp(log_scales - pull)).sum()) / 4.0 - float(y @ m)

    for _ in range(_ROUNDS):
        pull = 4.0 * (X.T @ dual)
        grow, fall = np.exp(log_scales + pull), np.exp(log_scales - pull)
        residual = X @ (grow - fall) - y
        if np.abs(residual).max() <= _ROUNDOFF * (np.abs(y).max() + float((np.abs(X) @ (grow + fall)).max())):
            break
        step = np.linalg.solve((X * (4.0 * (grow + fall))) @ X.T, residual)
        length, now, slope = 1.0, value(dual), float(residual @ step)
        while length > 1e-12 and not value(dual - length * step) <= now - 0.1 * length * slope + 1e-15 * abs(now):
            length /= 2.0
        dual = dual - length * step
    return dual
