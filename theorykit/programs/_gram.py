"""Gram matrices as data: checked, freed of their scale, and proved positive semidefinite as far as doubles can tell."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import UNIT, Floats, Rows, down, row_products, shift, up
from theorykit._numerics.spectral import eigenvalue_bounds
from theorykit._numerics.validate import reals
from theorykit.programs._semidefinite import semidefinite_shift

_ROUND_OFF_ASYMMETRY = 1e-12
_ROUND_OFF_EIGENVALUE = 1e-11
SPARE = 1.25
"""How much larger than proved a perturbation is taken, so that it is proved on other machines, too."""


class Gram(NamedTuple):
    """A Gram matrix as exact powers of two times entries of moderate size: K_ij = 2**(e_i + e_j) values_ij.

    Attributes
    ----------
    values : ndarray, shape (N, N)
        Symmetric to the last bit, diagonal below 1.
    exponents : ndarray of int, shape (N,)
        The e_i.
    perturbation : float
        eps >= 0 with ``values + eps I`` proved positive semidefinite; 0 where `values` itself is.
    """

    values: Floats
    exponents: NDArray[np.int64]
    perturbation: float


def checked_gram(argument: str, given: ArrayLike) -> Floats:
    """Return the symmetric float64 matrix of shape (n, n), or of shape (n, c, n, c) for c outputs.

    Entries (i, j) and (j, i) may differ by round-off, 1e-12 of sqrt(K_ii K_jj): the data are then their means.

    Raises
    ------
    InputError
        Shape, non-finite entries, not symmetric.
    """
    K = reals(argument, given)
    if K.ndim not in (2, 4) or K.shape[: K.ndim // 2] != K.shape[K.ndim // 2 :] or K.size == 0:
        wanted = "a Gram matrix of shape (n, n), or (n, c, n, c) for c outputs"
        raise InputError(argument, f"shape {K.shape}", wanted)
    flat = np.ascontiguousarray(K).reshape(math.isqrt(K.size), -1)
    if not np.isfinite(flat).all():
        i, j = np.argwhere(~np.isfinite(flat))[0]
        raise InputError(argument, f"{flat[i, j]} at row {i}, column {j}", "finite numbers only")
    return _symmetric(argument, flat).reshape(K.shape)


def _symmetric(argument: str, K: Floats) -> Floats:
    if (K == K.T).all():
        return K
    sizes = np.sqrt(np.abs(K.diagonal()))
    excess = np.abs(0.5 * K - 0.5 * K.T) - 0.5 * _ROUND_OFF_ASYMMETRY * np.outer(sizes, sizes)
    i, j = np.unravel_index(int(excess.argmax()), K.shape)
    if excess[i, j] > 0.0:
        got = f"{K[i, j]:.17g} at row {i}, column {j} and {K[j, i]:.17g} at row {j}, column {i}"
        raise InputError(argument, got, "a symmetric matrix")
    return 0.5 * K + 0.5 * K.T


def scaled_gram(argument: str, K: Floats) -> Gram:
    """Take the powers of two out of a checked Gram matrix, the same for all outputs of a sample.

    Raises
    ------
    InputError
        Not positive semidefinite, beyond round-off (1e-11 of the largest eigenvalue of `values`).
    """
    size = math.isqrt(K.size)
    flat = K.reshape(size, size)
    diagonal = flat.diagonal()
    outputs = K.shape[1] if K.ndim == 4 else 1
    largest = np.repeat(diagonal.reshape(-1, outputs).max(axis=1), outputs)
    halves = -(-np.frexp(largest)[1] // 2)
    exponents = np.where(largest > 0.0, halves, halves[largest > 0.0].min(initial=0)).astype(np.int64)
    values = shift(flat, -(exponents[:, None] + exponents))
    if diagonal.min() < 0.0 or not np.abs(values).max() <= 2.0:
        raise _indefinite(argument, flat)
    return Gram(values, exponents, _perturbation(argument, values, flat))


def _perturbation(argument: str, values: Floats, K: Floats) -> float:
    """Return an eps that is proved to make the matrix positive semidefinite, with something to spare."""
    shift = semidefinite_shift(values)
    if shift > _ROUND_OFF_EIGENVALUE * float(values.diagonal().max()):
        upper = eigenvalue_bounds(values)[1]
        if upper[0] < -_ROUND_OFF_EIGENVALUE * upper[-1]:
            raise _indefinite(argument, K)
    return SPARE * shift


def _indefinite(argument: str, K: Floats) -> InputError:
    """Return the error, with a proved upper bound on the smallest eigenvalue (the Rayleigh quotient of a vector)."""
    exponent = int(np.frexp(np.abs(K).max())[1])
    scaled = shift(K, -exponent)
    vectors = np.linalg.eigh(scaled)[1][:, :1].T
    below = np.eye(len(K))[[int(K.diagonal().argmin())]]
    for v in np.vstack((vectors, below)):
        square = float(down(math.fsum(v * v) * (1.0 - 4.0 * UNIT)))
        quotient = math.ldexp(quadratic_bounds(scaled, v)[1] / square, exponent)
        if quotient < 0.0:
            got = f"a matrix with an eigenvalue of {quotient:.6g} or less (proved)"
            return InputError(argument, got, "a positive semidefinite matrix")
    got = "a matrix with entries larger than its diagonal allows: |K_ij| > sqrt(K_ii K_jj)"
    return InputError(argument, got, "a positive semidefinite matrix")


def product_bounds(values: Floats, vectors: Floats) -> tuple[Floats, Floats]:
    """Enclose ``values @ vectors`` for vectors of shape (N,) or (N, c)."""
    rows = Rows(values, np.zeros(len(values), dtype=np.int64))
    columns = [row_products(rows, np.ascontiguousarray(v)) for v in vectors.reshape(len(values), -1).T]
    lower, upper = (np.column_stack(part).reshape(vectors.shape) for part in zip(*columns, strict=True))
    return lower, upper


def quadratic_bounds(values: Floats, vectors: Floats) -> tuple[float, float]:
    """Enclose ``sum(vectors * (values @ vectors))``."""
    lower, upper = product_bounds(values, vectors)
    below = down(np.minimum(vectors * lower, vectors * upper))
    above = up(np.maximum(vectors * lower, vectors * upper))
    return float(down(math.fsum(below.ravel()))), float(up(math.fsum(above.ravel())))
