"""What the commands write: results to standard output, all else to standard error, files only where they can go."""

from __future__ import annotations

import os
import sys
import tempfile
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
    print("theorykit: error:", " ".join(message.split()), file=sys.stderr)
    return code


def warn(message: str) -> None:
    """Say in one line on standard error what is odd."""
    print("theorykit: warning:", " ".join(message.split()), file=sys.stderr)


def check_target(option: str, path: Path | None) -> None:
    """Make sure that a file can be written before hours are spent on what goes into it.

    Raises
    ------
    InputError
        It is a folder or a device, or its folder does not exist or cannot be written.
    """
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise InputError(option, f"{path}, which is not a file", "the path of a file")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as problem:
        raise InputError(option, f"{path} ({problem.strerror})", "a file in a folder that can be written") from None


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
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)
