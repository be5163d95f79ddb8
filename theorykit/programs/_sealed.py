"""What every certificate shares: hashes of data, canonical digests of fields, and files that are whole or refused."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError, TheorykitError
from theorykit._numerics.rounding import Floats
from theorykit._numerics.serial import replacing

_SLACK = 1e-9
"""How much wider than the recomputed interval (relatively) a claimed one may be: other machines, not other numbers."""

_HASHED_ROWS = 64
_UNREADABLE = (  # all that zipfile, numpy and json raise on a file that is not whole
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


class CertificateError(TheorykitError):
    """A certificate does not hold for the data it was shown; the message says what does not match."""


def hash_rows(X: NDArray[Any], signs: Floats | None = None) -> str:
    """Return the SHA-256 of diag(signs) X: of its int8 bytes where it fits, else of its float64 bytes (little endian).

    Examples
    --------
    >>> X = np.array([[1, -1]], dtype=np.int8)
    >>> hash_rows(X) == hash_rows(-X.astype(float), np.array([-1.0]))
    True
    """
    signs = np.ones(len(X)) if signs is None else signs
    small = _fits_int8(X)
    sha = hashlib.sha256(f"{X.shape[0]} x {X.shape[1]} {'int8' if small else 'float64'} ".encode())
    for start in range(0, len(X), _HASHED_ROWS):
        rows, factors = X[start : start + _HASHED_ROWS], signs[start : start + _HASHED_ROWS, None]
        if small:
            sha.update((rows.astype(np.int8, copy=False) * factors.astype(np.int8)).tobytes())
        else:
            sha.update((np.multiply(rows, factors, dtype="<f8") + 0.0).tobytes())  # + 0.0: no negative zeros
    return sha.hexdigest()


def _fits_int8(X: NDArray[Any]) -> bool:
    """Whether X and -X are integers that int8 holds (-128 has no negative there)."""
    if X.dtype == np.int8:
        return bool(X.min() > -128)
    return all(bool((np.abs(row) <= 127.0).all() and (row == np.rint(row)).all()) for row in X)


def digest(kind: str, **fields: Any) -> str:
    """Return the SHA-256 of named fields, one canonical text or run of bytes each: equal if and only if they are.

    Parameters
    ----------
    kind : str
        What the fields belong to: fields of another kind have another digest.
    **fields : None, bool, int, float, str or ndarray
        Arrays count with shape and kind (integer or float), whatever their width and byte order.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    TypeError
        A field that has no canonical form, such as an array of strings.

    Examples
    --------
    >>> digest("pair", lower=1.0, w=np.zeros(2)) == digest("pair", w=np.zeros(2), lower=1.0)
    True
    >>> digest("pair", lower=1.0) == digest("pair", lower=1)
    False
    """
    sha = hashlib.sha256(json.dumps([kind, sorted(fields)]).encode())
    for name in sorted(fields):
        value = fields[name]
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "iubf":
                raise TypeError(f"{name} holds no numbers but {value.dtype}")
            whole = value.dtype.kind in "iub"
            sha.update(f"{name} {'i' if whole else 'f'} {value.shape} ".encode())
            sha.update(np.ascontiguousarray(value, dtype="<i8" if whole else "<f8").tobytes())
        else:
            sha.update(f"{name} {_canonical(value)} ".encode())
    return sha.hexdigest()


def _canonical(value: Any) -> str:
    """Return a text that only this value has."""
    if isinstance(value, (bool, np.bool_)):
        return f"bool {bool(value)}"
    if isinstance(value, (int, np.integer)):
        return f"int {int(value)}"
    if isinstance(value, (float, np.floating)):
        return f"float {float(value).hex()}"
    if value is None or isinstance(value, str):
        return json.dumps(value)
    raise TypeError(f"no canonical form for {type(value).__name__}")


def check_interval(lower: float, upper: float, proved_lower: float, proved_upper: float) -> None:
    """Raise `CertificateError` unless [lower, upper] holds the interval that was proved, and is no looser.

    Examples
    --------
    >>> check_interval(1.0, 2.0, 1.0, 2.0)
    >>> check_interval(1.0, 2.1, 1.0, 2.0)
    Traceback (most recent call last):
    theorykit.programs._sealed.CertificateError: the claimed interval [1.0, 2.1] is not the one that the vectors...
    """
    below, above = proved_lower - _SLACK * abs(proved_lower), proved_upper + _SLACK * abs(proved_upper)
    if not (_between(below, lower, proved_lower) and _between(proved_upper, upper, above)):
        claimed, found = f"[{lower!r}, {upper!r}]", f"[{proved_lower!r}, {proved_upper!r}]"
        raise CertificateError(f"the claimed interval {claimed} is not the one that the vectors prove, {found}")


def _between(smallest: float, value: float, largest: float) -> bool:
    """Whether the value lies between the two; one infinite bound (its slack is not a number) must be met exactly."""
    return value in (smallest, largest) or smallest <= value <= largest


def write(path: str | os.PathLike[str], form: str, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays and a JSON head to one ``.npz`` file, whole or not at all.

    Parameters
    ----------
    path : path-like
    form : str
        Name and number of the format; `read` wants the same.
    head : dict
        Anything JSON holds.
    arrays : dict of ndarray
        Names other than "head".

    Raises
    ------
    InputError
        The file cannot be written.
    """
    text = np.array(json.dumps({"format": form} | head))
    with replacing("path", path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, head=text, **arrays)


def read(path: str | os.PathLike[str], form: str, writer: str, build: Any) -> Any:
    """Return ``build(head, arrays)`` of what `write` wrote; a file that is not whole is refused.

    Parameters
    ----------
    path : path-like
    form : str
        The format that was given to `write`.
    writer : str
        What writes such files, for the message: "MaxMargin.save".
    build : callable
        Takes the head (dict) and the arrays (dict) and returns the result. A `ValueError`, or any other error that
        missing or misshapen entries cause, says that the file is not what it should be.

    Raises
    ------
    InputError
        No such file, or not one that `write` wrote, or one that `build` refuses.
    """
    wanted = f"a file written by {writer}"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("damaged")
        with np.load(Path(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = json.loads(str(arrays.pop("head")))
        if head["format"] != form:
            raise ValueError(f"format {head['format']!r}")
        return build(head, arrays)
    except FileNotFoundError:
        raise InputError("path", f"{path}, which does not exist", wanted) from None
    except _UNREADABLE as problem:
        raise InputError("path", f"{path} ({problem or type(problem).__name__})", wanted) from None
