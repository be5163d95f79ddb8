"""Generalisation bounds of Lyu et al. 2024: Rademacher complexities, and errors of max-margin classifiers."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer, matrix, shown

_LARGEST = 10**18  # sizes up to it keep every quotient below in the float range


def rademacher_bound(X: ArrayLike, *, norm: int) -> float:
    """Bound the empirical Rademacher complexity of the linear functions with a weight vector in a unit ball.

    The complexity is the mean over independent uniform signs sigma of ``sup_w (1/n) sum_i sigma_i <w, x_i>``, over w
    with ``||w||_1 <= 1`` (norm 1) or ``||w||_2 <= 1`` (norm 2).

    Parameters
    ----------
    X : array_like, shape (n, d)
    norm : {1, 2}

    Returns
    -------
    float
        ``sqrt(2 log(2d)) (sum_i ||x_i||_inf^2)^(1/2) / n`` for norm 1, ``(sum_i ||x_i||_2^2)^(1/2) / n`` for norm 2.

    Raises
    ------
    InputError
        X is no matrix of finite numbers, the norm is another one, or the bound leaves the float range.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, Theorem E.3.

    Examples
    --------
    >>> rademacher_bound(np.eye(4), norm=2)
    0.5
    """
    points = np.asarray(matrix("X", X), dtype=np.float64)
    n, d = points.shape
    one, size = _checked(norm) == 1, float(np.abs(points).max())
    units = points / size if size > 0.0 else points  # whose squares stay in the float range
    total = float(np.linalg.norm(np.abs(units).max(axis=1) if one else units))
    bound = size * ((math.sqrt(2.0 * math.log(2.0 * d)) if one else 1.0) * total / n)
    if math.isinf(bound):
        raise InputError("X", f"entries up to {size:g}", "a bound in the float range")
    return bound


def margin_error_bound(n: int, d: int, k: int, delta: float, *, norm: int) -> float:
    """Bound the test error of a max-margin classifier on sign data with a k-sparse rule.

    x is uniform on {-1, 1}^d and y the sign of a sum of k of its entries, up to signs. With probability at least
    1 - delta over n samples, the max-l1-margin classifier (norm 1) errs on at most
    ``4 k sqrt(2 log(2d)/n) + 3 sqrt(log(2/delta)/(2n))`` of all x, the max-l2-margin classifier (norm 2) on at most
    ``4 sqrt(k d/n) + 3 sqrt(log(2/delta)/(2n))``. From 1/2 on a bound says nothing.

    Parameters
    ----------
    n, d, k : int
    delta : float
        In (0, 1).
    norm : {1, 2}

    Raises
    ------
    InputError
        A number is out of its range.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, Theorems E.4 and E.5.

    Examples
    --------
    >>> round(margin_error_bound(2000, 50, 1, 0.1, norm=1), 4), round(margin_error_bound(2000, 10, 1, 0.1, norm=2), 4)
    (0.3535, 0.3649)
    """
    n, d = (integer(name, value, minimum=1, maximum=_LARGEST) for name, value in (("n", n), ("d", d)))
    k = integer("k", k, minimum=1)
    if k > d:
        raise InputError("k", shown(k), f"at most d = {d}")
    delta = finite("delta", delta, above=0.0)
    if delta >= 1.0:
        raise InputError("delta", f"{delta}", "a probability below 1")
    log_inverse = math.log(2.0) - math.log(delta)  # 1/delta leaves the float range before delta does
    margin_term = k * math.sqrt(2.0 * math.log(2.0 * d) / n) if _checked(norm) == 1 else math.sqrt(k * d / n)
    return 4.0 * margin_term + 3.0 * math.sqrt(log_inverse / (2.0 * n))


def _checked(norm: int) -> int:
    if isinstance(norm, bool) or not isinstance(norm, Integral) or norm not in (1, 2):
        raise InputError("norm", shown(norm), "1 or 2")
    return int(norm)
