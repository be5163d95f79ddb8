"""Predictions of Lyu et al. 2024 for classification and for the times of the transition.

All scales come as logarithms. lambda = alpha^-p, L the degree of homogeneity, c the half-width of the window
[T^-_c, T^+_c] = (1 -+ c) log(alpha)/lambda.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from theorykit.models import DiagonalNet


def window(log_alpha: float, c: float) -> tuple[float, float]:
    """Return lambda T^-_c and lambda T^+_c, slow times.

    Examples
    --------
    >>> window(100.0, 0.25)
    (75.0, 125.0)
    """
    return (1.0 - c) * log_alpha, (1.0 + c) * log_alpha


def log_normaliser_printed(log_alpha: float, log_weight_decay: float, c: float) -> float:
    """Return gamma Z as printed with Theorem 3.4: log(alpha^c / lambda).

    Examples
    --------
    >>> log_normaliser_printed(100.0, -100.0, 0.3)
    130.0
    """
    return c * log_alpha - log_weight_decay


def log_normaliser(log_alpha: float, log_weight_decay: float, c: float, degree: int) -> float:
    """Return gamma Z with the exponent that the flow has: log(alpha^(2(L-1)c) / lambda).

    At T^-_c the scale is sigma = alpha^c, and in the kernel frame the loss derivatives are multiplied by
    sigma^(2(L-1))/lambda; the outputs grow until that factor times exp(-q) is of order q, so that
    q = log(sigma^(2(L-1))/lambda) (1 + o(1)). The two forms agree at L = 3/2 only.

    Examples
    --------
    >>> log_normaliser(100.0, -100.0, 0.3, 2)
    160.0
    """
    return 2.0 * (degree - 1) * c * log_alpha - log_weight_decay


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

    Examples
    --------
    >>> kernel_direction(DiagonalNet(d=2), np.array([3.0, 0.0]), 0.5)
    array([2., 0.])
    """
    return separator / (math.sqrt(float(separator @ separator)) * margin)


def transition_time(log_alpha: float, log_weight_decay: float, degree: int) -> float:
    """Return lambda t* of the transition of a classification flow, to second order and up to O(1).

    log(alpha) - (1/L) log log A with A = alpha^(2(L-1))/lambda (after Lemma C.5).

    Examples
    --------
    >>> round(transition_time(100.0, -100.0, 2), 3)
    97.148
    """
    return log_alpha - math.log(2.0 * (degree - 1) * log_alpha - log_weight_decay) / degree
