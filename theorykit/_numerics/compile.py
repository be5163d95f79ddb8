"""Lazy, cached compilation: nothing compiles at import, and a changed source never meets yesterday's machine code.

numba's own disk cache looks only at the file of the function itself and misses a change in a function it calls from
another file. Here the cache folder is named by a hash of every file that goes into machine code: those that use
`compiled`, and those from which they import constants, which numba freezes into it. A change in any of them, and in no
other, starts a new folder.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parent.parent
_USES_COMPILED = re.compile(rb"^\s*from theorykit\._numerics\.compile import .*\bcompiled\b", re.MULTILINE)


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
def _source_hash(package: Path = _PACKAGE) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in compiled_sources(package):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def compiled_sources(package: Path = _PACKAGE) -> list[Path]:
    """Return the files that decide on the machine code: users of `compiled`, and where their constants come from."""
    found: set[Path] = set()
    ahead = [path for path in package.rglob("*.py") if _USES_COMPILED.search(path.read_bytes())]
    ahead.append(package / "_numerics" / "compile.py")
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead += _sources_of_constants(path, package)
    return sorted(found)


def _sources_of_constants(path: Path, package: Path) -> Iterator[Path]:
    """Yield the package's files from which one of them imports constants, which are written in capitals."""
    for node in ast.parse(path.read_bytes()).body:
        if not isinstance(node, ast.ImportFrom) or not any(name.name.isupper() for name in node.names):
            continue
        outer, *inner = (node.module or "").split(".")
        if outer == package.name:
            module = package.joinpath(*inner)
            yield from (file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file())


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
