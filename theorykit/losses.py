"""The losses of the theory, in the log domain.

All enter every flow as the mean over samples, L = (1/n) sum_i loss_i. Three are functions of one output f and one
target y:

- ``exponential``: exp(-y f), y in {-1, +1}
- ``logistic``: log(1 + exp(-y f)), y in {-1, +1}
- ``squared``: (f - y)^2, real y (no factor 1/2); for several outputs the sum over outputs

and one is a function of c >= 2 outputs f and a class y in {0, ..., c - 1}:

- ``cross_entropy``: -log softmax(f)_y = log(1 + sum_{j != y} exp(f_j - f_y))

Codes and functions of the margin q serve compiled code and the first three; `log_losses`, `log_derivatives` and
`margins` take outputs and targets, and know all four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import choice, class_numbers, integer, numeric, signs

LOSSES = ("exponential", "logistic", "squared")
"""Names of the losses; the position is the code that compiled functions see."""

EXPONENTIAL, LOGISTIC, SQUARED = range(3)

CROSS_ENTROPY = "cross_entropy"
"""Name of the loss for classes."""

_ALL = (*LOSSES, CROSS_ENTROPY)


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
    return LOSSES.index(choice("loss", name, LOSSES))


def log_loss(code: int, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log of the loss of one sample of a classification loss at output margin q = y f.

    Raises
    ------
    InputError
        Another code than `EXPONENTIAL` and `LOGISTIC`, or margins that are no numbers.

    Examples
    --------
    >>> float(log_loss(EXPONENTIAL, np.array(700.0)))
    -700.0
    """
    q = _margins_for(code, q)
    if code == EXPONENTIAL:
        return -q
    softplus = np.logaddexp(0.0, -q)  # log1p(e^{-q}); for large q it underflows, and its log is -q to round-off
    return np.where(q > 30.0, -q, np.log(np.maximum(softplus, 1e-300)))


def log_minus_derivative(code: int, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(-d loss/dq) of a classification loss at output margin q = y f.

    Raises
    ------
    InputError
        As `log_loss`.

    Examples
    --------
    >>> round(float(log_minus_derivative(LOGISTIC, np.array(0.0))), 12)
    -0.69314718056
    """
    q = _margins_for(code, q)
    return -q if code == EXPONENTIAL else -np.logaddexp(0.0, q)


def margins(f: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Return the output margins q_i, shape (n,): positive where the sample is classified rightly.

    Parameters
    ----------
    f : array_like, shape (n,) or (n, c)
        Outputs.
    y : array_like, shape (n,)
        Labels +-1 for one output: q = y f. Class numbers for several: q = min_j (f_y - f_j) over j != y.

    Raises
    ------
    InputError
        Outputs that are no numbers or of another shape, labels other than +-1, or class numbers out of range.

    Examples
    --------
    >>> margins([[3.0, 1.0, 2.5]], [0]).tolist()
    [0.5]
    """
    f = _outputs(f)
    if f.ndim == 1:
        return f * signs("y", y, length=f.shape[0])
    return _gaps(f, y)[1].min(axis=1)


def log_losses(loss: str, f: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithm of the loss of every sample, without overflow for outputs of any size.

    Parameters
    ----------
    loss : str
        One of `LOSSES`, or ``"cross_entropy"``.
    f : array_like, shape (n,) or (n, c)
        Outputs.
    y : array_like
        Labels +-1, class numbers (n,), or targets shaped as `f`, as the loss wants them.

    Returns
    -------
    ndarray, shape (n,)
        -inf where a squared loss is 0.

    Raises
    ------
    InputError
        Unknown loss, outputs that are no numbers or of another shape, or targets that do not fit it or `f`.

    Examples
    --------
    >>> log_losses("cross_entropy", [[1e5, 0.0], [0.0, 1e5]], [0, 0]).round(9).tolist()
    [-100000.0, 11.512925465]
    """
    f = _outputs(f)
    if choice("loss", loss, _ALL) == CROSS_ENTROPY:
        return log_loss(LOGISTIC, -_log_odds_against(_gaps(f, y)[1]))
    code = loss_code(loss)
    if code != SQUARED:
        return log_loss(code, _binary(f) * signs("y", y, length=f.shape[0]))
    with np.errstate(divide="ignore"):
        logs = 2.0 * np.log(np.abs(_residuals(f, y)))
    return logs if f.ndim == 1 else np.logaddexp.reduce(logs, axis=1)


def log_derivatives(loss: str, f: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log|d loss_i/df_i| and the signs of the derivatives, shaped as `f`; sign 0 goes with -inf.

    Parameters
    ----------
    loss, f, y
        As in `log_losses`.

    Returns
    -------
    logs, signs : ndarray, shaped as `f`

    Raises
    ------
    InputError
        Unknown loss, outputs that are no numbers or of another shape, or targets that do not fit it or `f`.

    Examples
    --------
    >>> logs, signs = log_derivatives("cross_entropy", [[1e5, 0.0]], [0])
    >>> logs.tolist(), signs.tolist()
    ([[-100000.0, -100000.0]], [[-1.0, 1.0]])
    """
    f = _outputs(f)
    if choice("loss", loss, _ALL) == CROSS_ENTROPY:
        return _of_cross_entropy(f, y)
    code = loss_code(loss)
    if code == SQUARED:
        residuals = _residuals(f, y)
        with np.errstate(divide="ignore"):
            return np.log(2.0 * np.abs(residuals)), np.sign(residuals)
    labels = signs("y", y, length=f.shape[0])
    return log_minus_derivative(code, _binary(f) * labels), -labels


def _of_cross_entropy(f: NDArray[np.float64], y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log softmax_j, and log(1 - softmax_y) for the class itself: the one place where digits could be lost."""
    own, gaps = _gaps(f, y)
    against = _log_odds_against(gaps)
    logs = -gaps - np.logaddexp(0.0, against)[:, None]
    logs[own] = log_minus_derivative(LOGISTIC, -against)
    direction = np.ones_like(logs)
    direction[own] = -1.0
    return logs, direction


def _gaps(f: NDArray[np.float64], y: ArrayLike) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.float64]]:
    """Return where each sample's own class y is, and f_y - f_j for every class j (infinite for j = y)."""
    if f.ndim != 2 or f.shape[1] < 2:
        raise InputError("f", f"outputs of shape {f.shape}", "shape (n, classes), at least two classes")
    labels = class_numbers("y", y, f.shape[1], length=f.shape[0])
    own = (np.arange(labels.size), labels)
    gaps = f[own][:, None] - f
    gaps[own] = np.inf
    return own, gaps


def _log_odds_against(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log sum_{j != y} exp(f_j - f_y): the cross-entropy is the logistic loss of its negative."""
    nearest = gaps.min(axis=1)
    odds: NDArray[np.float64] = np.log(np.sum(np.exp(nearest[:, None] - gaps), axis=1)) - nearest
    return odds


def _outputs(f: ArrayLike) -> NDArray[np.float64]:
    """Return outputs of shape (n,) or (n, c)."""
    array = _floats("f", f)
    if array.ndim not in (1, 2):
        raise InputError("f", f"outputs of shape {array.shape}", "shape (n,), or (n, c) for several outputs")
    return array


def _margins_for(code: int, q: ArrayLike) -> NDArray[np.float64]:
    """Return the margins of a classification loss."""
    integer("code", code, minimum=EXPONENTIAL, maximum=LOGISTIC)
    return _floats("q", q)


def _floats(argument: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return floats as they are (NaN is for a flow to notice), integers as float64."""
    array = value if type(value) is np.ndarray else numeric(argument, value)  # flows come here at every step
    if array.dtype.kind == "f":
        return array
    return numeric(argument, array).astype(np.float64)


def _binary(f: NDArray[np.float64]) -> NDArray[np.float64]:
    if f.ndim != 1:
        raise InputError("f", f"outputs of shape {f.shape}", "shape (n,), one output a sample")
    return f


def _residuals(f: NDArray[np.float64], y: ArrayLike) -> NDArray[np.float64]:
    targets = numeric("y", y)
    if targets.shape != f.shape:
        raise InputError("y", f"shape {targets.shape}", f"shape {f.shape}, that of the outputs")
    if not np.isfinite(targets).all():
        raise InputError("y", "targets that are not finite", "finite numbers only")
    return f - targets
