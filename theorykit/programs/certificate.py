"""Proofs of a margin that stand on arithmetic alone: two vectors, two bounds, and the data they speak of.

With Z = diag(y) X and gamma_p = max_w min_i (Zw)_i / ||w||_p, any w gives ``gamma_p >= min_i (Zw)_i / ||w||_p`` and any
mu >= 0 gives ``gamma_p <= ||Z^T mu||_q / sum(mu)``, q the dual norm. It does not matter which solver found w and mu.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, TheorykitError
from theorykit._numerics.rounding import (
    Floats,
    Rows,
    column_products,
    down,
    norm_upper,
    row_products,
    scale_rows,
    sum_bounds,
    up,
)
from theorykit._numerics.validate import matrix, signs, vector

_SLACK = 1e-9
"""How much wider than the recomputed interval (relatively) a claimed one may be: other machines, not other numbers."""

_HASHED_ROWS = 64


class CertificateError(TheorykitError):
    """A certificate does not hold for the data it was shown; the message says what does not match."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Proved bounds ``lower <= gamma_p <= upper`` on a margin, with the vectors that prove them.

    Attributes
    ----------
    norm : {1, 2}
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
        SHA-256 of all of the above: an edited certificate does not verify.
    """

    norm: int
    lower: float
    upper: float
    w: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)

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
        if data_hash(data, labels) != self.data_hash:
            raise CertificateError("the data (X, y) are not the ones this certificate was made for")
        if not intact(self):
            raise CertificateError("a stored vector or bound was changed after the certificate was made")
        lower, upper = bounds(scale_rows(data), labels, self.w, self.dual, self.norm)
        if not _contains(self.lower, self.upper, lower, upper):
            claimed, found = f"[{self.lower!r}, {self.upper!r}]", f"[{lower!r}, {upper!r}]"
            raise CertificateError(f"the claimed interval {claimed} is not the one that the vectors prove, {found}")
        return True


def certify(X: ArrayLike, y: ArrayLike, w: ArrayLike, dual: ArrayLike, *, norm: int = 2) -> Certificate:
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
    norm : {1, 2}

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
    return seal(data, labels, scale_rows(data), weights, multipliers, checked_norm(norm))


def seal(X: NDArray[Any], y: Floats, rows: Rows, w: Floats, dual: Floats, norm: int) -> Certificate:
    """Make a certificate from checked arrays (`rows` is X scaled: large data are scaled once)."""
    dual = dual / dual.max() if dual.max() > 0.0 else np.ones(len(dual))
    dual /= math.fsum(dual)
    lower, upper = bounds(rows, y, w, dual, norm)
    source = data_hash(X, y)
    return Certificate(norm, lower, upper, w, dual, source, _digest(norm, lower, upper, w, dual, source))


def intact(certificate: Certificate) -> bool:
    """Whether the stored vectors and bounds are the ones the digest was made of."""
    c = certificate
    return _digest(c.norm, c.lower, c.upper, c.w, c.dual, c.data_hash) == c.digest


def checked_norm(norm: Any) -> int:
    """Return the norm if it is 1 or 2."""
    if isinstance(norm, bool) or not isinstance(norm, (int, np.integer)) or norm not in (1, 2):
        raise InputError("norm", repr(norm), "1 or 2")
    return int(norm)


def bounds(rows: Rows, y: Floats, w: Floats, dual: Floats, norm: int) -> tuple[float, float]:
    """Return lower and upper bounds on gamma_p, rounded outward; -inf and inf where the vectors prove nothing."""
    return _lower_bound(rows, y, w, norm), upper_bound(rows, y, dual, norm)


def smallest_margin(rows: Rows, y: Floats, w: Floats) -> float:
    """Return a proved lower bound on min_i (Zw)_i."""
    lower, upper = row_products(rows, w)
    return float(np.where(y > 0, lower, -upper).min())


def _lower_bound(rows: Rows, y: Floats, w: Floats, norm: int) -> float:
    smallest = smallest_margin(rows, y, w)
    if not smallest > 0.0:
        return -math.inf
    return float(down(smallest / norm_upper(np.abs(w), norm)))


def upper_bound(rows: Rows, y: Floats, dual: Floats, norm: int) -> float:
    """Return the proved upper bound ||Z^T dual||_q / sum(dual) on gamma_p; inf where the dual proves nothing."""
    total = sum_bounds(dual)[0]
    if not total > 0.0 or dual.min() < 0.0:
        return math.inf
    lower, upper = column_products(rows, y * dual)
    dual_norm = norm_upper(np.maximum(-lower, upper), math.inf if norm == 1 else 2)
    return float(up(dual_norm / total))


def _contains(lower: float, upper: float, proved_lower: float, proved_upper: float) -> bool:
    """Whether [lower, upper] holds what was proved, and is no looser."""
    return proved_lower * (1.0 - _SLACK) <= lower <= proved_lower and proved_upper <= upper <= proved_upper * (
        1.0 + _SLACK
    )


def data_hash(X: NDArray[Any], y: Floats) -> str:
    """Return the SHA-256 of Z = diag(y) X: of its int8 bytes where Z fits, else of its float64 bytes (little endian).

    Examples
    --------
    >>> X = np.array([[1, -1]], dtype=np.int8)
    >>> data_hash(X, np.ones(1)) == data_hash(X.astype(float), np.ones(1))
    True
    """
    small = _fits_int8(X)
    digest = hashlib.sha256(f"{X.shape[0]} x {X.shape[1]} {'int8' if small else 'float64'} ".encode())
    for start in range(0, len(X), _HASHED_ROWS):
        rows, labels = X[start : start + _HASHED_ROWS], y[start : start + _HASHED_ROWS, None]
        if small:
            digest.update((rows.astype(np.int8, copy=False) * labels.astype(np.int8)).tobytes())
        else:
            digest.update((np.multiply(rows, labels, dtype="<f8") + 0.0).tobytes())  # + 0.0: no negative zeros
    return digest.hexdigest()


def _fits_int8(X: NDArray[Any]) -> bool:
    """Whether X and -X are integers that int8 holds (-128 has no negative there)."""
    if X.dtype == np.int8:
        return bool(X.min() > -128)
    return all(bool((np.abs(row) <= 127.0).all() and (row == np.rint(row)).all()) for row in X)


def _digest(norm: int, lower: float, upper: float, w: Floats, dual: Floats, source: str) -> str:
    head = json.dumps([int(norm), float(lower).hex(), float(upper).hex(), len(w), len(dual), source])
    digest = hashlib.sha256(head.encode())
    for values in (w, dual):
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
