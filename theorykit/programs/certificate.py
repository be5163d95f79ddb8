"""Proofs of a margin that stand on arithmetic alone: two vectors, two bounds, and the data they speak of.

With Z = diag(y) X and gamma_p = max_w min_i (Zw)_i / ||w||_p, any w gives ``gamma_p >= min_i (Zw)_i / ||w||_p`` and any
mu >= 0 gives ``gamma_p <= ||Z^T mu||_q / sum(mu)``, q the dual norm. It does not matter which solver found w and mu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats, Rows, column_products, down, row_products, scale_rows, sum_bounds, up
from theorykit._numerics.validate import matrix, signs, vector
from theorykit.programs._norms import Kind, Norm, checked_norm
from theorykit.programs._sealed import CertificateError, check_interval, digest, hash_rows


@dataclass(frozen=True, eq=False)
class Certificate:
    """Proved bounds ``lower <= gamma_p <= upper`` on a margin, with the vectors that prove them.

    Attributes
    ----------
    norm : {1, 2, inf, "group"}
        The p of the margin.
    lower, upper : float
        Rounded outward: proofs, not estimates. ``lower`` is -inf when w does not separate the samples.
    w : ndarray, shape (d,)
        Proves ``lower``.
    dual : ndarray, shape (n,)
        Non-negative with sum 1 (up to rounding, which the bound allows for); proves ``upper``.
    data_hash : str
        SHA-256 of Z = diag(y) X, the same for int8 and float64 copies.
    digest : str
        SHA-256 of everything else: an edited certificate does not verify.
    groups : ndarray of int, shape (d,), or None
        The group of each feature, 0 .. number of groups - 1, for norm "group".
    """

    norm: Kind
    lower: float
    upper: float
    w: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)
    groups: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def gap(self) -> float:
        """The relative width of the interval, (upper - lower) / lower; inf where nothing positive was proved."""
        return (self.upper - self.lower) / self.lower if self.lower > 0.0 else math.inf

    def verify(self, X: ArrayLike, y: ArrayLike) -> bool:
        """Recompute both bounds from the stored vectors and the data.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,)

        Returns
        -------
        bool
            True.

        Raises
        ------
        CertificateError
            The data, a vector or a bound is not what was certified, however little it differs; or the claimed interval
            does not contain the recomputed one.

        Examples
        --------
        >>> certify([[2.0, 0.0]], [1], [1.0, 0.0], [1.0], norm=2).verify([[2.0, 0.0]], [1])
        True
        """
        data = matrix("X", X)
        labels = signs("y", y, length=len(data))
        if hash_rows(data, labels) != self.data_hash:
            raise CertificateError("the data (X, y) are not the ones this certificate was made for")
        if not intact(self):
            raise CertificateError("a stored vector or bound was changed after the certificate was made")
        norm = Norm(self.norm, self.groups)
        check_interval(self.lower, self.upper, *bounds(scale_rows(data), labels, self.w, self.dual, norm))
        return True


def certify(
    X: ArrayLike,
    y: ArrayLike,
    w: ArrayLike,
    dual: ArrayLike,
    *,
    norm: Kind | Literal["inf"] = 2,
    groups: ArrayLike | None = None,
) -> Certificate:
    """Make the certificate of any primal-dual pair, whoever found it.

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,)
        Labels +1 or -1.
    w : array_like, shape (d,)
        Any vector; only its direction matters for the bound.
    dual : array_like, shape (n,)
        Any non-negative vector with a positive sum; stored divided by its sum.
    norm : {2, 1, inf, "inf", "group"}
    groups : array_like of int, shape (d,), optional
        The group of each feature, for norm "group": the sum over groups of the Euclidean norms.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        Shapes, non-finite entries, a negative or vanishing dual.

    Examples
    --------
    >>> certificate = certify([[3.0, 4.0]], [1], [3.0, 4.0], [1.0], norm=2)
    >>> certificate.lower <= 5.0 <= certificate.upper, certificate.gap < 1e-14
    (True, True)
    """
    data = matrix("X", X)
    labels = signs("y", y, length=len(data))
    weights = vector("w", w)
    if len(weights) != data.shape[1]:
        raise InputError("w", f"{len(weights)} entries", f"{data.shape[1]}, one for each feature")
    multipliers = vector("dual", dual, length=len(data))
    if multipliers.min() < 0.0 or multipliers.max() == 0.0:
        raise InputError(
            "dual", f"smallest {multipliers.min():g}, largest {multipliers.max():g}", "weights >= 0, not all 0"
        )
    return seal(data, labels, scale_rows(data), weights, multipliers, checked_norm(norm, groups, data.shape[1]))


def seal(X: NDArray[Any], y: Floats, rows: Rows, w: Floats, dual: Floats, norm: Norm) -> Certificate:
    """Make a certificate from checked arrays (`rows` is X scaled: large data are scaled once)."""
    dual = dual / dual.max() if dual.max() > 0.0 else np.ones(len(dual))
    dual /= math.fsum(dual)
    lower, upper = bounds(rows, y, w, dual, norm)
    parts = norm.kind, lower, upper, w, dual, hash_rows(X, y)
    return Certificate(*parts, _digest(*parts, norm.groups), norm.groups)


def intact(certificate: Certificate) -> bool:
    """Whether the stored vectors and bounds are the ones the digest was made of."""
    c = certificate
    return _digest(c.norm, c.lower, c.upper, c.w, c.dual, c.data_hash, c.groups) == c.digest


def bounds(rows: Rows, y: Floats, w: Floats, dual: Floats, norm: Norm) -> tuple[float, float]:
    """Return lower and upper bounds on gamma_p, rounded outward; -inf and inf where the vectors prove nothing."""
    return _lower_bound(rows, y, w, norm), upper_bound(rows, y, dual, norm)


def smallest_margin(rows: Rows, y: Floats, w: Floats) -> float:
    """Return a proved lower bound on min_i (Zw)_i."""
    lower, upper = row_products(rows, w)
    return float(np.where(y > 0, lower, -upper).min())


def _lower_bound(rows: Rows, y: Floats, w: Floats, norm: Norm) -> float:
    smallest = smallest_margin(rows, y, w)
    if not smallest > 0.0:
        return -math.inf
    return float(down(smallest / norm.upper(np.abs(w))))


def upper_bound(rows: Rows, y: Floats, dual: Floats, norm: Norm) -> float:
    """Return the proved upper bound ||Z^T dual||_q / sum(dual) on gamma_p; inf where the dual proves nothing."""
    total = sum_bounds(dual)[0]
    if not total > 0.0 or dual.min() < 0.0:
        return math.inf
    lower, upper = column_products(rows, y * dual)
    return float(up(norm.dual_upper(np.maximum(-lower, upper)) / total))


def _digest(
    norm: Kind,
    lower: float,
    upper: float,
    w: Floats,
    dual: Floats,
    data_hash: str,
    groups: NDArray[np.int64] | None,
) -> str:
    return digest("margin", norm=norm, lower=lower, upper=upper, w=w, dual=dual, data_hash=data_hash, groups=groups)
