"""Lazy, cached compilation: nothing compiles at import, and a changed source never meets yesterday's machine code.

numba's own disk cache looks only at the file of the function itself and misses a change in a function it calls from
another file. Here the cache folder is named by a hash of every compiled source, so a change anywhere starts a new one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def cache_folder() -> Path:
    """Return the folder for compiled code: THEORYKIT_CACHE_DIR, else the user's cache folder, else a temporary one."""
    base = os.environ.get("THEORYKIT_CACHE_DIR")
    if base is None:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        base = str(Path(home) / "theorykit")
    for root in (Path(base), Path(tempfile.gettempdir()) / "theorykit-cache"):
        folder = root / f"numba-{_source_hash()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="theorykit-"))


@functools.cache
def _source_hash() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if b"compiled" in source:  # every file with compiled functions imports this decorator
            digest.update(str(path.relative_to(_PACKAGE)).encode() + source)
    return digest.hexdigest()[:16]


def compiled(*signatures: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function for numba, cached in `cache_folder` (only ours: the user's numba settings stay as they are).

    Modules that use it are imported only when something has to be compiled or run, never by ``import theorykit``.
    """
    import numba

    def decorate(function: Callable[..., Any]) -> Any:
        previous = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder())
        try:
            return numba.njit(*signatures, cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = previous

    return decorate
