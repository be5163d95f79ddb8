"""Finished results, kept on disk: what was computed once is not computed again, whatever ended the run.

One SQLite file with a write-ahead log: every outcome of one claim on one instance is a row, written as soon as it is
there, by whichever process has it. Rows are found by a hash of everything that their numbers depend on.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import theorykit
from theorykit._numerics.compile import cache_folder
from theorykit.checking.claim import Claim

_PACKAGE = Path(theorykit.__file__).resolve().parent
_LIBRARIES = ("numpy", "scipy", "numba", "cvxpy", "clarabel", "highspy", "sympy")
_PATIENCE_S = 30.0  # how long a writer waits for another one
_KEPT_S = 60 * 86400.0  # rows of older code are never asked for again
_TABLES = (
    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, digest TEXT, outcome TEXT, made REAL)",
    "CREATE INDEX IF NOT EXISTS by_age ON results (made)",
)


def default_store() -> Path:
    """Return the file in which the command line keeps results: in THEORYKIT_CACHE_DIR, else in the user's cache folder.

    Examples
    --------
    >>> default_store().name
    'results.sqlite'
    """
    return cache_folder().parent / "results.sqlite"


class Store:
    """A file of finished results.

    It never raises for what may happen to a file: `complaint` then says in one line why nothing is kept, and every
    look-up finds nothing. A file that is no database any more is moved aside.

    Parameters
    ----------
    path : path-like
        Made if it is not there, with its folder.

    Attributes
    ----------
    complaint : str or None
        Why the store does not work, or what happened to it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(Path(folder) / "results.sqlite")
    ...     store.put("key", "text")
    ...     found = store.get("key"), store.get("another"), store.complaint
    ...     store.close()
    >>> found
    ('text', None, None)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.complaint: str | None = None
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._opened()
        except (sqlite3.Error, OSError) as problem:
            self._recover(problem)

    @property
    def is_open(self) -> bool:
        """Whether results are kept."""
        return self._connection is not None

    def get(self, key: str) -> str | None:
        """Return what was put under a key, if it is there and whole."""
        row = self._attempt("SELECT digest, outcome FROM results WHERE key = ?", key)
        return row[1] if row is not None and row[0] == _digest(row[1]) else None

    def put(self, key: str, text: str) -> None:
        """Keep a text; it is on disk when this returns."""
        self._attempt("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)", key, _digest(text), text, time.time())

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            for table in _TABLES:
                connection.execute(table)
            connection.execute("DELETE FROM results WHERE made < ?", (time.time() - _KEPT_S,))
        except BaseException:
            connection.close()
            raise
        return connection

    def _attempt(self, statement: str, *values: Any) -> Any:
        """Run one statement and return its first row, or nothing if the file fails."""
        if self._connection is None:
            return None
        try:
            return self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as problem:
            self.close()
            self._recover(problem)
        return None

    def _recover(self, problem: Exception) -> None:
        """Begin again if the file is damaged; do without it if it cannot be reached, written, or locked in time."""
        damaged = isinstance(problem, sqlite3.DatabaseError) and not isinstance(problem, sqlite3.OperationalError)
        if damaged:
            self._start_again(problem)
        else:
            self._give_up(problem)

    def _give_up(self, problem: Exception) -> None:
        self.complaint = f"results are not kept: {self.path} cannot be used ({problem})"

    def _start_again(self, problem: Exception) -> None:
        """Move a file that is no database out of the way, and begin a new one."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._connection = self._opened()
        except (sqlite3.Error, OSError) as again:
            self._give_up(again)
        else:
            self.complaint = f"{self.path} was damaged ({problem}): moved to {aside.name}, and begun again"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def result_key(claim: type[Claim], **settings: Any) -> str:
    """Return the hash under which a result is kept: of the claim, its sources, theorykit and its libraries, settings.

    Parameters
    ----------
    claim : type
    **settings
        Profile, seed, tolerance and whatever else the numbers depend on, as plain values.
    """
    text = json.dumps([claim.id, claim.__qualname__, _claim_hash(claim), _code_hash(), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _code_hash() -> str:
    """Return a hash of theorykit's own files and of the versions of what they stand on."""
    versions = [f"{name} {version(name)}" for name in _LIBRARIES]
    digest = hashlib.sha256("\n".join([sys.version, platform.machine(), *versions]).encode())
    for path in sorted(file for kind in ("*.py", "*.toml") for file in _PACKAGE.rglob(kind)):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()


def _claim_hash(claim: type[Claim]) -> str:
    """Return a hash of the files behind a claim: those of its class and bases, and what these import beside them."""
    folders = {file.parent for file in map(_file, _modules(claim)) if file is not None}
    pending, seen = _modules(claim), dict[str, Path]()
    while pending:
        module = pending.pop()
        file = _file(module)
        if file is None or module.__name__ in seen or file.parent not in folders or _PACKAGE in file.parents:
            continue
        seen[module.__name__] = file
        pending += [sys.modules[name] for name in _imported(module, file) if name in sys.modules]
    digest = hashlib.sha256()
    for file in sorted(set(seen.values())):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _modules(claim: type[Claim]) -> list[ModuleType]:
    own = claim.__mro__[: claim.__mro__.index(Claim)]
    return [sys.modules[kind.__module__] for kind in own if kind.__module__ in sys.modules]


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _imported(module: ModuleType, file: Path) -> Iterator[str]:
    """Yield the full names of the modules that a file imports, or imports from."""
    package = module.__package__ or ""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
