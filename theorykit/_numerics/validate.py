"""Argument checks that every layer shares; each raises `InputError` and returns the value in its working type."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name

_LONGEST = 60  # characters of a value that a message repeats


def shown(value: Any) -> str:
    """Return `value` as a message repeats it: in one line, shortened.

    Examples
    --------
    >>> shown("logistik"), shown(10**5000)
    ("'logistik'", 'an integer of 16610 bits')
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def finite(
    argument: str, value: Any, *, minimum: float | None = None, above: float | None = None, maximum: float | None = None
) -> float:
    """Return `value` as a finite float, within the bounds that are given (`above` is not itself allowed).

    Examples
    --------
    >>> finite("alpha", 3, above=0.0)
    3.0
    """
    bounds = {">=": minimum, ">": above, "<=": maximum}
    limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    wanted = f"a finite number {limits}".strip()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(argument, shown(value), wanted)
    try:
        number = float(value)
    except OverflowError:
        raise InputError(argument, shown(value), wanted) from None
    too_small = (minimum is not None and number < minimum) or (above is not None and number <= above)
    if too_small or (maximum is not None and number > maximum) or not math.isfinite(number):
        raise InputError(argument, f"{number:g}", wanted)
    return number


def integer(argument: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int from `minimum` to `maximum` (bools and floats are refused).

    Examples
    --------
    >>> integer("degree", 2, minimum=2)
    2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(argument, shown(value), f"an integer >= {minimum}")
    number = int(value)
    if maximum is not None and number > maximum:
        raise InputError(argument, shown(number), f"an integer <= {maximum}")
    return number


def choice(argument: str, value: Any, known: Sequence[str]) -> str:
    """Return `value`, one of the names that are `known`.

    Examples
    --------
    >>> choice("task", "regression", ["classification", "regression"])
    'regression'
    """
    if not isinstance(value, str):
        raise InputError(argument, shown(value), f"one of {', '.join(known)}")
    if value not in known:
        raise unknown_name(argument, value, list(known))
    return value


def text(argument: str, value: Any) -> str:
    """Return `value`, a str that is not empty.

    Examples
    --------
    >>> text("name", "mine")
    'mine'
    """
    if not isinstance(value, str) or not value:
        raise InputError(argument, shown(value), "a text that is not empty")
    return value


def path(argument: str, value: Any, wanted: str = "a path") -> Path:
    """Return `value`, a str or path that is not empty and that the system could know.

    Examples
    --------
    >>> path("out", "results").name
    'results'
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise InputError(argument, shown(value), wanted)
    name = os.fspath(value)
    if not name or "\0" in name:
        raise InputError(argument, shown(name), wanted)
    return Path(name)


def affordable(argument: str, value: int, size: int) -> None:
    """Refuse what would take `size` bytes, more than this machine has memory.

    Examples
    --------
    >>> affordable("n", 1000, 8000)
    """
    memory = _memory()
    if size > memory:
        wanted = f"what fits into the {memory / 2**30:.0f} GiB of memory here"
        raise InputError(argument, f"{shown(value)}, which takes {shown(size // 2**30)} GiB", wanted)


def _memory() -> int:
    """Return the bytes of physical memory, as far as the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 2**63


def matrix(argument: str, value: ArrayLike) -> NDArray[Any]:
    """Return a finite, non-empty 2-D array: int8 stays int8 (kept small in memory), anything else becomes float64.

    Examples
    --------
    >>> matrix("X", [[1, 2]]).dtype
    dtype('float64')
    """
    array = numeric(argument, value)
    if array.ndim != 2:
        raise InputError(argument, f"shape {array.shape}", "a matrix of shape (n, d): n samples in rows, d features")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InputError(argument, f"shape {array.shape}", "at least one sample and one feature")
    return _finite_array(argument, array)


def vector(
    argument: str, value: ArrayLike, *, length: int | None = None, each: str = "sample (row of X)"
) -> NDArray[np.float64]:
    """Return a finite 1-D float64 array, of the given length where one is given: one entry for `each` of something.

    Examples
    --------
    >>> vector("y", [1, -1])
    array([ 1., -1.])
    """
    array = numeric(argument, value)
    if array.ndim != 1:
        raise InputError(argument, f"shape {array.shape}", "a vector of shape (n,)")
    if length is not None and array.shape[0] != length:
        raise InputError(argument, f"{array.shape[0]} entries", f"{length}, one for each {each}")
    return _finite_array(argument, _floats(array))


def numbers(argument: str, value: ArrayLike, *, minimum: float = -math.inf) -> NDArray[np.float64]:
    """Return a float64 array of any shape: numbers of at least `minimum`, infinite ones too, but no NaN.

    Examples
    --------
    >>> numbers("log_tau", [-math.inf, 2])
    array([-inf,   2.])
    """
    array = reals(argument, value)
    wrong = array[~(array >= minimum)]
    if wrong.size:
        raise InputError(argument, f"{wrong[0]:g}", "numbers" + (f" >= {minimum:g}" if minimum > -math.inf else ""))
    return array


def reals(argument: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return a float64 array of any shape, whose entries may be infinite or NaN; no copy of what is one already.

    Examples
    --------
    >>> reals("gram", [[2, 1]])
    array([[2., 1.]])
    """
    array = numeric(argument, value)
    return array if array.dtype == np.float64 else _floats(array)


def flag(argument: str, value: Any) -> bool:
    """Return `value`, True or False.

    Examples
    --------
    >>> flag("symmetric", True)
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(argument, shown(value), "True or False")
    return bool(value)


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
        hint = f" (2 * {argument} - 1 makes them of 0 and 1)" if np.isin(labels, (0.0, 1.0)).all() else ""
        raise InputError(argument, f"{labels[wrong[0]]:g} at index {wrong[0]}", f"every label +1 or -1{hint}")
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


def numeric(argument: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array of real numbers, of any shape and in their own type.

    Examples
    --------
    >>> numeric("X", [[0, 1]]).shape
    (1, 2)
    """
    if np.ma.is_masked(value):
        raise InputError(argument, "a masked array with hidden entries", "every number: fill them in or leave them out")
    if hasattr(value, "toarray"):  # of SciPy, which need not be imported to know it
        raise InputError(argument, f"a sparse {type(value).__name__}", f"a dense array: {argument}.toarray()")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as problem:
        got = f"something numpy cannot read ({problem})"
        raise InputError(argument, got, "a rectangular array of numbers") from None
    if array.dtype.kind not in "iufb":
        raise InputError(argument, f"dtype {array.dtype}", "real numbers")
    return array


def _finite_array(argument: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.int8:
        return np.ascontiguousarray(array)
    array = np.ascontiguousarray(array) if array.dtype == np.float64 else _floats(array)
    if not np.isfinite(array).all():
        where = np.unravel_index(int(np.flatnonzero(~np.isfinite(array).ravel())[0]), array.shape)
        index = tuple(int(i) for i in where)
        place = index if len(index) > 1 else index[0]
        raise InputError(argument, f"{array[where]} at index {place}", "finite numbers only")
    return array


def _floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return a float64 copy; wider floats may become infinite, which is for the caller to notice."""
    with np.errstate(over="ignore"):
        return array.astype(np.float64, order="C")
