"""Reading regular files, writing files whole or not at all, and JSON that any reader accepts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import path as checked_path


@contextlib.contextmanager
def replacing(argument: str, path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends well, remove it when not.

    A link stays a link: what it points to is replaced.

    Raises
    ------
    InputError
        It is something else than a file, or its folder does not exist or cannot be written.
    """
    target = writable_file(argument, path)
    handle, name = tempfile.mkstemp(prefix=".theorykit-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, writable_file(argument, target))
    finally:
        temporary.unlink(missing_ok=True)


def writable_file(argument: str, path: str | os.PathLike[str]) -> Path:
    """Return the file behind all links, after making sure that it can be written, replaced or made.

    Raises
    ------
    InputError
        It is a folder, a device or a pipe, or its folder does not exist or cannot be written.
    """
    given = checked_path(argument, path, "the path of a file")
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(given).st_mode):
                raise InputError(argument, f"{given}, which is not a file", "the path of a file")
        target = given.resolve()
        tempfile.TemporaryFile(dir=target.parent).close()
    except (OSError, RuntimeError) as problem:  # a loop of links is a RuntimeError in Python 3.11 and 3.12
        reason = getattr(problem, "strerror", None) or "a loop of links"
        raise InputError(argument, f"{given} ({reason})", "a file in a folder that can be written") from None
    return target


def regular_file(argument: str, path: str | os.PathLike[str], wanted: str) -> Path:
    """Return `path` after making sure that it is a file: a device or a pipe might never end.

    Raises
    ------
    InputError
        There is no such file, or it is something else.
    """
    file = checked_path(argument, path, wanted)
    try:
        mode = os.stat(file).st_mode
    except OSError as problem:
        raise InputError(argument, f"{file} ({problem.strerror})", wanted) from None
    if not stat.S_ISREG(mode):
        got = "Is a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise InputError(argument, f"{file} ({got})", wanted)
    return file


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def plain(value: Any) -> Any:
    """Turn arrays, numpy scalars, tuples and non-finite numbers (null) into what strict JSON holds.

    Examples
    --------
    >>> plain({"a": np.float64(1.5), "b": (float("nan"), np.arange(2))})
    {'a': 1.5, 'b': [None, [0, 1]]}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def to_json(value: Any) -> str:
    """Return strict, indented JSON of anything `plain` understands."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
