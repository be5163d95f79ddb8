"""The losses of the theory, in the log domain.

All three are functions of one output f and one target y, and enter every flow as the mean over samples,
L = (1/n) sum_i loss(f_i, y_i):

- ``exponential``: exp(-y f), y in {-1, +1}
- ``logistic``: log(1 + exp(-y f)), y in {-1, +1}
- ``squared``: (f - y)^2, real y (no factor 1/2)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import unknown_name

LOSSES = ("exponential", "logistic", "squared")
"""Names of the losses; the position is the code that compiled functions see."""

EXPONENTIAL, LOGISTIC, SQUARED = range(3)


def loss_code(name: str) -> int:
    """Return the integer that compiled functions know the loss by.

    Raises
    ------
    InputError
        The name is not one of `LOSSES`.

    Examples
    --------
    >>> loss_code("logistic")
    1
    """
    if name not in LOSSES:
        raise unknown_name("loss", str(name), list(LOSSES))
    return LOSSES.index(name)


def log_loss(code: int, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log of the loss of one sample of a classification loss at output margin q = y f.

    Examples
    --------
    >>> float(log_loss(EXPONENTIAL, np.array(700.0)))
    -700.0
    """
    if code == EXPONENTIAL:
        return -q
    softplus = np.logaddexp(0.0, -q)  # log1p(e^{-q}); for large q it underflows, and its log is -q to round-off
    return np.where(q > 30.0, -q, np.log(np.maximum(softplus, 1e-300)))


def log_minus_derivative(code: int, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(-d loss/dq) of a classification loss at output margin q = y f.

    Examples
    --------
    >>> round(float(log_minus_derivative(LOGISTIC, np.array(0.0))), 12)
    -0.69314718056
    """
    return -q if code == EXPONENTIAL else -np.logaddexp(0.0, q)
