"""Finding checks: in the installed suites, in packages that register themselves, and in folders."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from theorykit._numerics.errors import InputError, unknown_name
from theorykit.checking.claim import Claim

_GROUP = "theorykit.verifications"


@dataclass(frozen=True)
class Discovery:
    """What was found: claims in the order of their files, and files that could not be imported."""

    claims: tuple[type[Claim], ...]
    broken: tuple[dict[str, str], ...]


def discover(patterns: Sequence[str] = (), paths: Sequence[Path] = ()) -> Discovery:
    """Find claims whose id matches one of the patterns (shell wildcards; none given means all).

    Parameters
    ----------
    patterns : sequence of str
        Such as ``"lyu2024.*"`` or ``"lyu2024.thm-3.4"``.
    paths : sequence of Path
        Folders of further files.

    Raises
    ------
    InputError
        A pattern matches nothing (with the nearest id), a folder does not exist, two claims share an id.

    Examples
    --------
    >>> [claim.id for claim in discover(["lyu2024.cor-3.6"]).claims]
    ['lyu2024.cor-3.6']
    """
    broken: list[dict[str, str]] = []
    claims: dict[str, type[Claim]] = {}
    for module in _modules(paths, broken):
        for value in vars(module).values():
            if not (isinstance(value, type) and issubclass(value, Claim) and value.__module__ == module.__name__):
                continue
            if getattr(value, "__abstractmethods__", None) or not hasattr(value, "id"):
                continue  # what several claims share
            if value.id in claims and claims[value.id] is not value:
                raise InputError("id", f"{value.id!r} in two files", "one file for each claim id")
            claims[value.id] = value
    wanted = [claim for claim in claims.values() if not patterns or any(_matches(claim.id, p) for p in patterns)]
    for pattern in patterns:
        if not any(_matches(claim.id, pattern) for claim in claims.values()):
            raise unknown_name("claim", pattern, list(claims))
    return Discovery(tuple(wanted), tuple(broken))


def _matches(identifier: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(identifier, pattern)


def _modules(paths: Sequence[Path], broken: list[dict[str, str]]) -> Iterator[ModuleType]:
    """Import every module that may hold claims; note those that fail and go on."""
    roots = ["theorykit.verifications"] + [entry.value for entry in entry_points(group=_GROUP)]
    for root in roots:
        package = _imported(root, root, broken)
        if package is not None:
            yield package
            for info in pkgutil.walk_packages(getattr(package, "__path__", []), prefix=f"{package.__name__}."):
                module = _imported(info.name, info.name, broken)
                if module is not None:
                    yield module
    for folder in paths:
        if not Path(folder).is_dir():
            raise InputError("path", str(folder), "an existing folder")
        for file in sorted(Path(folder).glob("*.py")):
            module = _imported_file(file, broken)
            if module is not None:
                yield module


def _imported(name: str, where: str, broken: list[dict[str, str]]) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception as error:
        broken.append(_failure(where, error))
        return None


def _imported_file(file: Path, broken: list[dict[str, str]]) -> ModuleType | None:
    version = (file.resolve(), file.stat().st_mtime_ns)  # an edited file is another module
    name = f"theorykit_path_{file.stem.replace('-', '_')}_{abs(hash(version)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        broken.append(_failure(str(file), error))
        return None
    return module


def _failure(where: str, error: Exception) -> dict[str, str]:
    last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    place = f" (line {last.lineno})" if last else ""
    return {"path": where, "type": type(error).__name__, "message": f"{error}{place}"}
