"""Predictions of Lyu et al. 2024 for classification and for the times of the transition.

All scales come as logarithms. lambda = alpha^-p, L the degree of homogeneity, c the half-width of the window
[T^-_c, T^+_c] = (1 -+ c) log(alpha)/lambda.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, shown, vector
from theorykit.models import DiagonalNet
from theorykit.predictors._inputs import moderate, scales


def window(log_alpha: float, c: float) -> tuple[float, float]:
    """Return lambda T^-_c and lambda T^+_c, slow times.

    Raises
    ------
    InputError
        An argument is no finite number (up to 1e100).

    Examples
    --------
    >>> window(100.0, 0.25)
    (75.0, 125.0)
    """
    log_alpha, c = moderate("log_alpha", log_alpha), moderate("c", c)
    return (1.0 - c) * log_alpha, (1.0 + c) * log_alpha


def log_normaliser_printed(log_alpha: float, log_weight_decay: float, c: float) -> float:
    """Return gamma Z as printed with Theorem 3.4: log(alpha^c / lambda).

    Raises
    ------
    InputError
        An argument is no finite number (up to 1e100).

    Examples
    --------
    >>> log_normaliser_printed(100.0, -100.0, 0.3)
    130.0
    """
    return moderate("c", c) * moderate("log_alpha", log_alpha) - moderate("log_weight_decay", log_weight_decay)


def log_normaliser(log_alpha: float, log_weight_decay: float, c: float, degree: int) -> float:
    """Return gamma Z with the exponent that the flow has: log(alpha^(2(L-1)c) / lambda).

    At T^-_c the scale is sigma = alpha^c, and in the kernel frame the loss derivatives are multiplied by
    sigma^(2(L-1))/lambda; the outputs grow until that factor times exp(-q) is of order q, so that
    q = log(sigma^(2(L-1))/lambda) (1 + o(1)). The two forms agree at L = 3/2 only.

    Raises
    ------
    InputError
        An argument is no finite number (up to 1e100), or the degree no integer >= 2.

    Examples
    --------
    >>> log_normaliser(100.0, -100.0, 0.3, 2)
    160.0
    """
    log_alpha, log_weight_decay, degree = scales(log_alpha, log_weight_decay, degree)
    return 2.0 * (degree - 1) * moderate("c", c) * log_alpha - log_weight_decay


def kernel_direction(model: DiagonalNet, separator: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """Return w_K with f(theta(T^-_c); x) / (gamma Z) -> <w_K, x>: the max-l2-margin separator of margin 1.

    For a diagonal net phi(x) = L (x, -x) (times c^(L-1) for theta_bar = c(1, 1)), so that the unit vector h* is
    (w, -w)/(sqrt(2)|w|) for the max-l2-margin direction w, gamma = sqrt(2) L c^(L-1) gamma_2, and
    <phi(x), h*>/gamma = <w, x>/(|w| gamma_2).

    Parameters
    ----------
    model : DiagonalNet
    separator : ndarray, shape (d,)
        Any positive multiple of the max-l2-margin direction.
    margin : float
        gamma_2, its margin at unit Euclidean norm.

    Raises
    ------
    InputError
        No diagonal net, no vector of as many entries as the net has features or all of them 0, or a margin <= 0.

    Examples
    --------
    >>> kernel_direction(DiagonalNet(d=2), np.array([3.0, 0.0]), 0.5)
    array([2., 0.])
    """
    if not isinstance(model, DiagonalNet):
        raise InputError("model", shown(model), "a DiagonalNet")
    weights = vector("separator", separator, length=model.d, each="feature of the model")
    size, gamma = float(np.abs(weights).max()), finite("margin", margin, above=0.0)
    if size == 0.0:
        raise InputError("separator", "all zeros", "a multiple of the max-l2-margin direction")
    unit = weights / size  # whose squares stay in the float range
    with np.errstate(over="ignore"):
        direction = unit / float(np.linalg.norm(unit)) / gamma
    if not np.isfinite(direction).all():
        raise InputError("margin", f"{gamma:g}", "one whose inverse is in the float range")
    return direction


def transition_time(log_alpha: float, log_weight_decay: float, degree: int) -> float:
    """Return lambda t* of the transition of a classification flow, to second order and up to O(1).

    log(alpha) - (1/L) log log A with A = alpha^(2(L-1))/lambda (after Lemma C.5).

    Raises
    ------
    InputError
        An argument is no finite number (up to 1e100), the degree no integer >= 2, or A <= 1.

    Examples
    --------
    >>> round(transition_time(100.0, -100.0, 2), 3)
    97.148
    """
    log_alpha, log_weight_decay, degree = scales(log_alpha, log_weight_decay, degree)
    log_a = 2.0 * (degree - 1) * log_alpha - log_weight_decay
    if not log_a > 0.0:
        got = f"{log_alpha:g} with log_weight_decay = {log_weight_decay:g}: log A = {log_a:g}"
        raise InputError("log_alpha", got, "A = alpha^(2(L-1))/lambda above 1")
    return log_alpha - math.log(log_a) / degree
