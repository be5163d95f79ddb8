"""Finding checks: in the installed suites, in packages that register themselves, and in folders."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from theorykit._numerics.errors import InputError
from theorykit.checking.claim import Claim
from theorykit.checking.contract import faults, looks_like_a_claim

_GROUP = "theorykit.verifications"


@dataclass(frozen=True)
class Discovery:
    """What was found: claims in the order of their files, what could not be used, and what is odd.

    Attributes
    ----------
    claims : tuple of type
    broken : tuple of dict
        Files that could not be imported ({"path", "type", "message"}), and classes that are no usable claim (with
        "class", and "claim" if it has an id).
    warnings : tuple of str
    """

    claims: tuple[type[Claim], ...]
    broken: tuple[dict[str, str], ...]
    warnings: tuple[str, ...] = ()


def discover(patterns: Sequence[str] = (), paths: Sequence[str | os.PathLike[str]] = ()) -> Discovery:
    """Find claims whose id matches one of the patterns (shell wildcards; none given means all).

    Parameters
    ----------
    patterns : sequence of str
        Such as ``"lyu2024.*"`` or ``"lyu2024.thm-3.4"``.
    paths : sequence of path-like
        Folders of further files.

    Raises
    ------
    InputError
        A pattern matches nothing (with the nearest id, and the files that could not be read), a folder does not exist,
        two claims share an id.

    Examples
    --------
    >>> [claim.id for claim in discover(["lyu2024.cor-3.6"]).claims]
    ['lyu2024.cor-3.6']
    """
    patterns, folders = _patterns(patterns), _folders(paths)
    broken: list[dict[str, str]] = []
    claims: dict[str, type[Claim]] = {}
    for kind in _classes(list(_modules(folders, broken))):
        wrong = faults(kind)
        if wrong:
            broken.append(_unusable(kind, wrong))
            continue
        if kind.id in claims and claims[kind.id] is not kind:
            raise _twice(claims[kind.id], kind)
        claims[kind.id] = kind
    for pattern in patterns:
        known = [*claims, *(entry["claim"] for entry in broken if "claim" in entry)]
        if not any(_matches(identifier, pattern) for identifier in known):
            raise _unknown(pattern, list(claims), broken)
    wanted = tuple(claim for claim in claims.values() if not patterns or any(_matches(claim.id, p) for p in patterns))
    odd = [
        f"{claim.id}: theorykit has no BibTeX entry for {claim.source.key!r}; give one as the third argument of Source"
        for claim in wanted
        if not claim.source.is_known
    ]
    return Discovery(wanted, tuple(broken), tuple(odd))


def _twice(first: type[Claim], second: type[Claim]) -> InputError:
    """Return the error for two claims of one id; a class that derives from a claim has that one's id."""
    files = [_place(kind) for kind in (first, second)]
    places = f"in {files[0]} and {files[1]}"
    if files[0] == files[1]:
        places = f"in the classes {first.__name__} and {second.__name__} of {files[0]}"
    return InputError("id", f"{first.id!r} {places}", "an id of its own for each claim")


def _patterns(patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError("pattern", repr(pattern), "ids of claims as text, such as 'lyu2024.*'")
    return list(patterns)


def _folders(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return folders as paths.

    Raises
    ------
    InputError
        It is no sequence of paths.
    """
    if isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable):
        raise InputError("paths", repr(paths), "a list of folders")
    found = list(paths)
    for path in found:
        if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
            raise InputError("paths", repr(path), "folders as text or pathlib.Path")
    return [Path(path) for path in found]


def _classes(modules: list[ModuleType]) -> Iterator[type[Any]]:
    """Yield the classes of these modules that are claims, or look as if they were meant to be."""
    for module in modules:
        for value in dict.fromkeys(v for v in vars(module).values() if isinstance(v, type)):
            if value.__module__ == module.__name__ and looks_like_a_claim(value):
                yield value


def _unusable(kind: type[Any], wrong: list[str]) -> dict[str, str]:
    entry = {"path": _place(kind), "class": kind.__name__, "type": "InputError", "message": "; ".join(wrong)}
    identifier = getattr(kind, "id", None)
    return entry | ({"claim": identifier} if isinstance(identifier, str) else {})


def _place(kind: type[Any]) -> str:
    return getattr(sys.modules[kind.__module__], "__file__", None) or kind.__module__


def _unknown(pattern: str, known: list[str], broken: list[dict[str, str]]) -> InputError:
    """Return the error for a pattern that matches nothing; what could not be read may hold what is missing."""
    near = get_close_matches(pattern, known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    unread = "".join(f"; not usable: {entry['path']}: {entry['type']}: {entry['message']}" for entry in broken)
    where = "`theorykit list` shows all, with --path DIR also those in DIR"
    return InputError("claim", repr(pattern), f"an id{hint} or a pattern such as 'lyu2024.*'; {where}{unread}")


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
            if file.name.startswith("test_") or file.name == "conftest.py":
                continue  # pytest's, and likely to call `verify` themselves
            module = _imported_file(file, broken)
            if module is not None:
                yield module


def _imported(name: str, where: str, broken: list[dict[str, str]]) -> ModuleType | None:
    return _attempted(where, lambda: importlib.import_module(name), broken)


def _imported_file(file: Path, broken: list[dict[str, str]]) -> ModuleType | None:
    return _attempted(str(file), lambda: _executed(file), broken)


def _executed(file: Path) -> ModuleType:
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
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attempted(where: str, load: Callable[[], ModuleType], broken: list[dict[str, str]]) -> ModuleType | None:
    """Import something that may do anything; whatever it raises, Ctrl-C apart, is noted and no more."""
    with _interrupts() as pressed:
        try:
            return load()
        except (Exception, SystemExit) as error:
            broken.append(_failure(where, error))
        except KeyboardInterrupt as error:
            if pressed:
                raise
            broken.append(_failure(where, error))
    return None


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yield a list that fills when Ctrl-C is pressed, to tell it from a file that raises KeyboardInterrupt itself."""
    pressed: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _failure(where: str, error: BaseException) -> dict[str, str]:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == where]
    text = f"{error}" if not lines else f"{error} (line {lines[-1]})"
    return {"path": where, "type": type(error).__name__, "message": text.strip()}
