"""Checkpoints: arrays in one file, written aside and renamed, with a digest that tells a damaged file."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.serial import replacing

# what numpy and zipfile raise on damaged files; RuntimeError stands for an unknown way of packing
_UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.data if array.dtype.kind in "biuf" else array.tobytes())  # without a copy of the large ones
    return digest.hexdigest()


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays, whole or not at all."""
    with replacing("checkpoint", path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, digest=np.array(_digest(arrays)), **arrays)


def read(path: str | os.PathLike[str], fingerprint: str) -> dict[str, NDArray[Any]] | None:
    """Return the arrays, or None where there is no file yet.

    Raises
    ------
    InputError
        The file is damaged, or belongs to another run.
    """
    if not Path(path).exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        sound = str(arrays.pop("digest")) == _digest(arrays)
    except _UNREADABLE as problem:
        raise InputError(
            "checkpoint", f"{path}, unreadable ({problem})", "a checkpoint that was written here"
        ) from None
    if not sound:
        raise InputError("checkpoint", f"{path}, whose contents are damaged", "a checkpoint that was written here")
    if str(arrays["fingerprint"]) != fingerprint:
        wanted = "the checkpoint of this very run, or a new path"
        raise InputError("checkpoint", f"{path}, of another run", wanted)
    return arrays
