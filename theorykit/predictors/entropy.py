"""The inverse of F(x) = x log x on [1, infinity), in which the bounds of Lyu et al. 2024 on the loss are written."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import lambertw

from theorykit._numerics.errors import InputError

Floats = NDArray[np.float64]

_ROUNDS = 4  # Newton converges quadratically from a start that is good to log(log y)/log(y)


def inverse_x_log_x(y: ArrayLike) -> Floats:
    """Return x >= 1 with x log x = y: exp(W(y)), W the Lambert function.

    Parameters
    ----------
    y : array_like
        Finite numbers >= 0.

    Returns
    -------
    ndarray, of the same shape

    Raises
    ------
    InputError
        A number is negative or not finite.

    Examples
    --------
    >>> inverse_x_log_x([0.0, 2.0 * np.log(2.0), 1e300]).round(12).tolist()[:2]
    [1.0, 2.0]
    """
    values = np.asarray(y, dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0.0)).all():
        raise InputError("y", f"{values[~(values >= 0.0) | ~np.isfinite(values)].flat[0]}", "finite numbers >= 0")
    return np.asarray(np.exp(lambertw(values).real))


def log_inverse_x_log_x(log_y: ArrayLike) -> Floats:
    """Return log x for x >= 1 with log(x log x) = log_y: for y beyond the float range.

    Parameters
    ----------
    log_y : array_like
        Logarithms of y; -inf stands for y = 0.

    Returns
    -------
    ndarray, of the same shape

    Raises
    ------
    InputError
        A number is nan or +inf.

    Examples
    --------
    >>> log_x = log_inverse_x_log_x(1e5)
    >>> bool(abs(log_x + np.log(log_x) - 1e5) < 1e-9)
    True
    """
    values = np.asarray(log_y, dtype=np.float64)
    if not (values < np.inf).all():
        raise InputError("log_y", "nan or inf", "numbers, or -inf for y = 0")
    small = lambertw(np.exp(np.minimum(values, 1.0))).real
    large = np.maximum(values, 1.0)
    w = np.maximum(large - np.log(large), 0.5)
    for _ in range(_ROUNDS):
        w *= (1.0 + large - np.log(w)) / (1.0 + w)
    return np.asarray(np.where(values < 1.0, small, w))
