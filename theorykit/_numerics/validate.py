"""Argument checks that every layer shares; each raises `InputError` and returns the value in its working type."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError


def finite(argument: str, value: Any, *, minimum: float | None = None, above: float | None = None) -> float:
    """Return `value` as a finite float, at least `minimum` and greater than `above` where given.

    Examples
    --------
    >>> finite("alpha", 3, above=0.0)
    3.0
    """
    wanted = "a finite number"
    if minimum is not None:
        wanted += f" >= {minimum:g}"
    if above is not None:
        wanted += f" > {above:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(argument, repr(value), wanted)
    number = float(value)
    too_small = (minimum is not None and number < minimum) or (above is not None and number <= above)
    if too_small or not math.isfinite(number):
        raise InputError(argument, f"{number:g}", wanted)
    return number


def integer(argument: str, value: Any, *, minimum: int) -> int:
    """Return `value` as an int of at least `minimum` (bools and floats are refused).

    Examples
    --------
    >>> integer("degree", 2, minimum=2)
    2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(argument, repr(value), f"an integer >= {minimum}")
    return int(value)


def matrix(argument: str, value: ArrayLike) -> NDArray[Any]:
    """Return a finite, non-empty 2-D array: int8 stays int8 (kept small in memory), anything else becomes float64.

    Examples
    --------
    >>> matrix("X", [[1, 2]]).dtype
    dtype('float64')
    """
    array = _numeric(argument, value)
    if array.ndim != 2:
        raise InputError(argument, f"shape {array.shape}", "a matrix of shape (n, d): n samples in rows, d features")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InputError(argument, f"shape {array.shape}", "at least one sample and one feature")
    return _finite_array(argument, array)


def vector(argument: str, value: ArrayLike, *, length: int | None = None) -> NDArray[np.float64]:
    """Return a finite 1-D float64 array, of the given length where one is given.

    Examples
    --------
    >>> vector("y", [1, -1])
    array([ 1., -1.])
    """
    array = _numeric(argument, value)
    if array.ndim != 1:
        raise InputError(argument, f"shape {array.shape}", "a vector of shape (n,)")
    if length is not None and array.shape[0] != length:
        raise InputError(argument, f"{array.shape[0]} entries", f"{length}, one for each sample (row of X)")
    return _finite_array(argument, array.astype(np.float64))


def signs(argument: str, value: ArrayLike, *, length: int | None = None) -> NDArray[np.float64]:
    """Return a vector of labels, each +1 or -1.

    Examples
    --------
    >>> signs("y", [1, -1, 1])
    array([ 1., -1.,  1.])
    """
    labels = vector(argument, value, length=length)
    wrong = np.flatnonzero(np.abs(labels) != 1.0)
    if wrong.size:
        raise InputError(argument, f"{labels[wrong[0]]:g} at index {wrong[0]}", "every label +1 or -1")
    return labels


def class_numbers(argument: str, y: ArrayLike, classes: int, *, length: int | None = None) -> NDArray[np.int64]:
    """Return class numbers as integers, checked to lie in 0, ..., classes - 1.

    Examples
    --------
    >>> class_numbers("y", [0.0, 2.0], 3).tolist()
    [0, 2]
    """
    labels = vector(argument, y, length=length)
    wrong = np.flatnonzero((labels != np.rint(labels)) | (labels < 0) | (labels >= classes))
    if wrong.size:
        got = f"{labels[wrong[0]]:g} at index {wrong[0]}"
        raise InputError(argument, got, f"class numbers, integers from 0 to {classes - 1}")
    return labels.astype(np.int64)


def _numeric(argument: str, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as problem:
        got = f"something numpy cannot read ({problem})"
        raise InputError(argument, got, "a rectangular array of numbers") from None
    if array.dtype.kind not in "iufb":
        raise InputError(argument, f"dtype {array.dtype}", "real numbers")
    return array


def _finite_array(argument: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.int8:
        return np.ascontiguousarray(array)
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        where = np.unravel_index(int(np.flatnonzero(~np.isfinite(array).ravel())[0]), array.shape)
        index = tuple(int(i) for i in where)
        place = index if len(index) > 1 else index[0]
        raise InputError(argument, f"{array[where]} at index {place}", "finite numbers only")
    return array
