"""What the commands write: results to standard output, all else to standard error, files only where they can go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from theorykit._numerics.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress


def emit(text: str) -> None:
    """Write a result to standard output; a reader that has left (``| head``) is no reason to stop."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Send what is left for standard output nowhere, so that the interpreter does not fail on it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def complain(message: str, code: int) -> int:
    """Say in one line on standard error what is wrong, and return the exit code."""
    _say("error", message)
    return code


def warn(message: str) -> None:
    """Say in one line on standard error what is odd."""
    _say("warning", message)


def _say(kind: str, message: str) -> None:
    if sys.stderr is not None:  # print would take standard output instead
        print(f"theorykit: {kind}:", " ".join(message.split()), file=sys.stderr)


def checked_target(option: str, path: str | None) -> Path | None:
    """Return the file behind all links, made sure to be writable before hours are spent on what goes into it.

    Raises
    ------
    InputError
        It is a folder, a device or standard output itself, or its folder does not exist or cannot be written.
    """
    if path is None:
        return None
    from theorykit._numerics.serial import writable_file

    target = writable_file(option, path)
    if target.exists() and _is_standard_output(target):
        raise InputError(option, f"{path}, which is standard output", "the path of another file")
    return target


def _is_standard_output(target: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stdout.fileno()), target.stat())
    except (OSError, ValueError):  # a standard output that is no file of the system's
        return False


class Bar:
    """A progress bar on standard error, in the two forms in which theorykit reports progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._task = progress, progress.add_task("starting", total=None)

    def start(self, total: int) -> None:
        """Begin to count to `total`."""
        self._progress.update(self._task, total=total)

    def advance(self, n: int, text: str) -> None:
        """Count `n` more, and say what was done."""
        self._progress.update(self._task, advance=n, description=text)

    def fraction(self, done: float) -> None:
        """Say which part of a flow is done."""
        self._progress.update(self._task, total=1.0, completed=done, description="gradient flow")


@contextmanager
def progress_bar() -> Iterator[Bar | None]:
    """Yield a bar when standard error is a terminal, otherwise None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as parts
    from rich.console import Console

    text = parts.TextColumn("{task.description}", markup=False)
    times = parts.TimeElapsedColumn(), parts.TimeRemainingColumn(), parts.TextColumn("left")
    columns = (text, parts.BarColumn(), parts.TaskProgressColumn(), *times)
    with parts.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)
