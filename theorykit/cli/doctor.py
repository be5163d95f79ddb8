"""What ``theorykit doctor`` looks at."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match

from theorykit._numerics.compile import cache_folder, compiled
from theorykit._version import __version__

_NEEDED_SOLVERS = ("CLARABEL", "HIGHS")

Finding = tuple[str, str, bool]


def examine() -> Iterator[Finding]:
    """Yield name, finding, and whether it is in order, cheap ones first.

    Yields
    ------
    tuple of (str, str, bool)
        One line of the report each.
    """
    yield "theorykit", __version__, True
    yield "python", f"{platform.python_version()} on {platform.platform()}", True
    yield from _libraries()
    yield _processors()
    yield from _blas()
    yield _cache()
    yield _compiler()
    yield _solvers()


def _libraries() -> Iterator[Finding]:
    """Every library that theorykit needs, and those it can use (they come with an extra)."""
    try:
        requirements = requires("theorykit") or []
    except PackageNotFoundError:
        yield "libraries", "theorykit runs without having been installed, so what it needs is unknown", False
        return
    for requirement in requirements:
        found = match(r"[A-Za-z0-9._-]+", requirement)
        if found is None or "extra == " in requirement.replace('extra == "data"', ""):
            continue
        optional = "extra" in requirement
        try:
            yield found[0], version(found[0]), True
        except PackageNotFoundError:
            yield found[0], "not installed (optional)" if optional else "not installed", optional


def _processors() -> Finding:
    limits = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name in os.environ}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "processors", f"{usable} usable" + "".join(f", {k}={v}" for k, v in limits.items()), True


def _blas() -> Iterator[Finding]:
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))  # BLAS is listed once it has been loaded
    for pool in threadpool_info():
        kind = f"{pool['internal_api']} {pool['version'] or ''}".strip()
        yield pool["user_api"], f"{kind}, {pool['num_threads']} threads", True


def _cache() -> Finding:
    folder = cache_folder()
    size = sum(file.stat().st_size for file in folder.parent.glob("numba-*/**/*") if file.is_file())
    return "cache", f"{folder.parent}, {size / 1e6:.1f} MB", _is_writable(folder)


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _compiler() -> Finding:
    """Compile and run a sum; whatever goes wrong is the finding."""
    try:
        total = compiled()(_sum_of_squares)(10)
    except Exception as problem:
        return "compiler", f"{type(problem).__name__}: {problem}".splitlines()[0], False
    return "compiler", "numba compiles and runs", total == 285


def _sum_of_squares(n: int) -> int:
    total = 0
    for k in range(n):
        total += k * k
    return total


def _solvers() -> Finding:
    try:
        import cvxpy
    except ImportError as problem:
        return "solvers", str(problem), False
    installed = cvxpy.installed_solvers()
    missing = [name for name in _NEEDED_SOLVERS if name not in installed]
    text = ", ".join(installed) + "".join(f"; {name} is missing" for name in missing)
    return "solvers", text, not missing
