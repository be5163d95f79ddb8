"""Writing files whole or not at all, and JSON that any reader accepts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from theorykit._numerics.errors import InputError


@contextlib.contextmanager
def replacing(argument: str, path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the block ends well, remove it when not.

    Raises
    ------
    InputError
        The folder does not exist or cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    except OSError as problem:
        raise InputError(argument, f"{target} ({problem.strerror})", "a file in a folder that can be written") from None
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    temporary = Path(name)
    try:
        yield temporary
        if target.is_dir():
            raise InputError(argument, f"{target}, a folder", "the path of a file")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
