r"""Bounds along the flow before the transition: lemmas behind Theorem 3.4 of Lyu et al. 2024, with explicit constants.

For the exponential loss, as long as |delta| stays below the radius epsilon_max in which no feature moves by gamma/2
(`feature_radius`). sigma = alpha e^(-tau), tau = lambda t, A = alpha^(2(L-1))/lambda, L the degree, gamma the kernel
margin, G a bound on the norms of the features in that ball. F(x) = x log x on [1, inf); all of it by logarithms, since
A leaves the float range.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import wrightomega

from theorykit._numerics.validate import finite, integer, numbers
from theorykit.predictors._inputs import scales, slow_times

Floats = NDArray[np.float64]


def log_inverse_xlogx(log_y: ArrayLike) -> Floats:
    """Return log F^-1(y) for F(x) = x log x on [1, inf), from log y: the Lambert function W(y).

    Raises
    ------
    InputError
        No numbers.

    Examples
    --------
    >>> round(math.exp(log_inverse_xlogx(math.log(3.0 * math.log(3.0)))), 12)
    3.0
    >>> float(log_inverse_xlogx(1e6).round(3))
    999986.185
    """
    return np.asarray(wrightomega(numbers("log_y", log_y)))


def log_loss_ceiling(
    log_tau: ArrayLike, log_alpha: float, log_weight_decay: float, degree: int, margin: float
) -> Floats:
    """Return the logarithm of the upper bound on the mean loss of Lemma C.4.

    max{1 / (1 + gamma^2 A (1 - e^(-2(L-1) tau)) / (16 (L-1))), e^(2(L-1) tau) / (F^-1(gamma^2 A / (8 L)) - 1)}.

    Parameters
    ----------
    log_tau : array_like
        Logarithms of slow times lambda t, which leave the float range where A does.
    log_alpha, log_weight_decay : float
    degree : int
        L.
    margin : float
        gamma.

    Raises
    ------
    InputError
        Times that are no numbers, scales that are no finite numbers (up to 1e100), a degree below 2, or a margin <= 0.

    Examples
    --------
    >>> log_loss_ceiling(np.log([1e-30, 10.0]), 20.0, -20.0, 2, 1.0).round(3).tolist()
    [-0.0, -33.252]
    """
    log_tau = numbers("log_tau", log_tau)
    log_k, log_rest, power = _rates(*scales(log_alpha, log_weight_decay, degree), margin)
    first = -np.logaddexp(0.0, log_k + _log_risen(log_tau, power))
    return np.maximum(first, power * _exp(log_tau) - log_rest)


def log_loss_floor(
    tau: ArrayLike, log_alpha: float, log_weight_decay: float, degree: int, gradient_bound: float, n: int
) -> Floats:
    """Return the logarithm of the lower bound on the mean loss that the differential inequality of Lemma C.7 gives.

    (1/n) min{1 / F^-1((2/(n L)) G^2 A e^(-2(L-1) tau)), e^(1 - 4(L-1)/L)}. With y = log(1/(n loss)) the inequality
    is dy/dtau <= (G^2/n) A e^(-2(L-1) tau) e^(-y) - L y, and Y = log F^-1(...), which falls at the rate
    2(L-1) Y/(1 + Y), is a barrier as long as Y >= 4(L-1)/L - 1; below that this constant is one.

    Parameters
    ----------
    tau : array_like
        Slow times.
    log_alpha, log_weight_decay : float
    degree : int
        L.
    gradient_bound : float
        G.
    n : int
        Samples.

    Raises
    ------
    InputError
        Times that are no numbers >= 0, scales that are no finite numbers (up to 1e100), a degree below 2, a bound <= 0,
        or n < 1.

    Examples
    --------
    >>> log_loss_floor([0.0, 10.0], 20.0, -20.0, 2, 3.0, 8).round(3).tolist()
    [-58.17, -38.599]
    """
    barrier = _barrier(tau, *scales(log_alpha, log_weight_decay, degree), gradient_bound, n)
    return np.minimum(-barrier, 1.0 - 4.0 * (degree - 1) / degree) - math.log(n)


def log_loss_floor_printed(
    tau: ArrayLike, log_alpha: float, log_weight_decay: float, degree: int, gradient_bound: float, n: int
) -> Floats:
    """Return the logarithm of the lower bound as printed with Lemma C.7.

    min{n / F^-1((2/(n L)) G^2 A e^(-2(L-1) tau)), (1/n) e^(1 - 2(L-1) lambda)}: parameters as in `log_loss_floor`.

    Raises
    ------
    InputError
        Times that are no numbers >= 0, scales that are no finite numbers (up to 1e100), a degree below 2, a bound <= 0,
        or n < 1.

    Examples
    --------
    >>> log_loss_floor_printed([0.0, 10.0], 20.0, -20.0, 2, 3.0, 8).round(3).tolist()
    [-54.011, -34.44]
    """
    log_alpha, log_weight_decay, degree = scales(log_alpha, log_weight_decay, degree)
    barrier = _barrier(tau, log_alpha, log_weight_decay, degree, gradient_bound, n)
    constant = 1.0 - 2.0 * (degree - 1) * float(_exp(log_weight_decay))
    return np.minimum(math.log(n) - barrier, constant - math.log(n))


def log_displacement_ceiling(
    log_tau: ArrayLike, log_alpha: float, log_weight_decay: float, degree: int, margin: float, gradient_bound: float
) -> Floats:
    """Return the logarithm of an upper bound on |delta| = |theta/sigma - theta_bar|: Lemma C.5 with its constant.

    |d delta/dt| <= G alpha^(L-2) e^(-(L-2) tau) loss, integrated with the two parts of `log_loss_ceiling` added:

        |delta| <= (G alpha^(L-2)/lambda) {I(tau) + (e^(L tau) - 1) / (L (F^-1(gamma^2 A/(8L)) - 1))}.

    I is the integral of the first part times e^(-(L-2) tau), bounded in closed form on both sides of the time at which
    e^(-2(L-1) tau) = 1/2. For large A the second term leads: (8 G/gamma^2) alpha^-L log A e^(L tau).

    Parameters
    ----------
    log_tau : array_like
        Logarithms of slow times.
    log_alpha, log_weight_decay : float
    degree : int
        L.
    margin, gradient_bound : float
        gamma and G.

    Raises
    ------
    InputError
        Times that are no numbers, scales that are no finite numbers (up to 1e100), a degree below 2, or a margin or
        bound <= 0.

    Examples
    --------
    >>> log_displacement_ceiling(np.log([10.0]), 20.0, -20.0, 2, 1.0, 3.0).round(3).tolist()
    [-12.847]
    """
    log_tau = numbers("log_tau", log_tau)
    log_alpha, log_weight_decay, degree = scales(log_alpha, log_weight_decay, degree)
    log_k, log_rest, power = _rates(log_alpha, log_weight_decay, degree, margin)
    log_g = math.log(finite("gradient_bound", gradient_bound, above=0.0))
    tau, split = _exp(log_tau), math.log(2.0) / power
    risen = log_k + _log_risen(np.minimum(log_tau, math.log(split)), power)
    with np.errstate(divide="ignore"):
        logs = np.where(risen < -40.0, risen, np.log(np.logaddexp(0.0, risen)))
    early = degree / power * math.log(2.0) - math.log(power) + logs - log_k
    later = np.maximum(tau - split, 0.0)
    if degree > 2:
        later = -np.expm1(-(degree - 2) * later) * 2.0 ** (-(degree - 2) / power) / (degree - 2)
    with np.errstate(divide="ignore"):
        late = np.log(later) - np.logaddexp(0.0, log_k - math.log(2.0))
    grown = degree * tau + _log_risen(log_tau, degree) - math.log(degree) - log_rest
    factor = log_g + (degree - 2) * log_alpha - log_weight_decay
    return np.asarray(factor + np.logaddexp(np.logaddexp(early, late), grown))


def kernel_phase_end(
    log_alpha: float, log_weight_decay: float, degree: int, margin: float, gradient_bound: float, radius: float
) -> float:
    """Return a lower bound on lambda T_max, the slow time at which |delta| first exceeds a radius (Lemma C.5).

    The time at which `log_displacement_ceiling` reaches it, log(alpha) - (1/L) log log A + O(1); 0 where that is before
    0.001.

    Raises
    ------
    InputError
        Scales that are no finite numbers (up to 1e100), a degree below 2, or a margin, bound or radius <= 0.

    Examples
    --------
    >>> round(kernel_phase_end(100.0, -100.0, 2, 1.0, 3.0, 0.1), 3)
    94.422
    """
    constants = *scales(log_alpha, log_weight_decay, degree), margin, gradient_bound
    log_radius = math.log(finite("radius", radius, above=0.0))

    def ahead(log_tau: float) -> float:
        return float(log_displacement_ceiling(log_tau, *constants)) - log_radius

    start, end = math.log(1e-3), math.log(max(constants[0], 0.0) + 10.0)
    if ahead(start) >= 0.0:
        return 0.0
    while ahead(end) < 0.0:  # a large radius
        end += 1.0
    return math.exp(brentq(ahead, start, end, xtol=1e-14, rtol=1e-14))


def _exp(value: ArrayLike) -> Floats:
    """Return the exponentials, infinity past the float range."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(value))


def _log_risen(log_tau: ArrayLike, rate: float) -> Floats:
    """Return log(1 - e^(-rate tau)), also where tau leaves the float range."""
    log_x = np.asarray(log_tau, dtype=np.float64) + math.log(rate)
    with np.errstate(divide="ignore"):
        return np.where(log_x < -40.0, log_x, np.log(-np.expm1(-_exp(log_x))))


def _rates(log_alpha: float, log_weight_decay: float, degree: int, margin: float) -> tuple[float, float, float]:
    """Return log(gamma^2 A/(16(L-1))), log(F^-1(gamma^2 A/(8L)) - 1), and 2(L-1)."""
    power = 2.0 * (degree - 1)
    log_a = power * log_alpha - log_weight_decay + 2.0 * math.log(finite("margin", margin, above=0.0))
    log_y = log_a - math.log(8.0 * degree)
    log_inverse = float(log_inverse_xlogx(log_y))
    log_rest = log_y if log_y < -40.0 else log_inverse + math.log(-math.expm1(-log_inverse))
    return log_a - math.log(8.0 * power), log_rest, power


def _barrier(
    tau: ArrayLike, log_alpha: float, log_weight_decay: float, degree: int, gradient_bound: float, n: int
) -> Floats:
    """Return log F^-1((2/(n L)) G^2 A e^(-2(L-1) tau))."""
    samples = integer("n", n, minimum=1)
    log_g = math.log(finite("gradient_bound", gradient_bound, above=0.0))
    power = 2.0 * (degree - 1)
    log_y = math.log(2.0) - math.log(samples * degree) + 2.0 * log_g + power * log_alpha - log_weight_decay
    with np.errstate(over="ignore"):  # later than any float: log y is -inf, and nothing is left
        return log_inverse_xlogx(log_y - power * slow_times(tau))
