"""Layer 6: the command ``theorykit``. Every outcome is an exit code; bad input is one line on standard error."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from theorykit._numerics.errors import InputError, TheorykitError
from theorykit.cli.output import complain, emit, silence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``theorykit``; by default those of this process.

    Returns
    -------
    int
        0 as expected; 1 a verdict not as expected or a control that survived; 2 bad usage or input; 3 inconclusive
        where that was not expected; 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "✓" shows "?" instead of a traceback
    try:
        if sys.stdout is None:
            return complain("standard output is closed: there is nowhere to write the result", 2)
        return _run(sys.argv[1:] if argv is None else list(argv))
    except InputError as problem:
        return complain(str(problem), 2)
    except TheorykitError as problem:  # a solver or a flow that gave up: nothing was decided
        return complain(str(problem), 3)
    except MemoryError as problem:
        return complain(f"out of memory: {problem}", 2)
    except OSError as problem:  # a full disk, mostly
        silence()
        return complain(str(problem), 2)
    except KeyboardInterrupt:
        return 130


def _run(words: list[str]) -> int:
    """Run one command; the imports are inside, where Ctrl-C already counts."""
    from typer import Abort

    from theorykit.cli.app import UsageError, app

    try:
        code = app(words, prog_name="theorykit", standalone_mode=False)
        emit("")
    except UsageError as problem:
        return complain(problem.format_message(), 2)
    except Abort:
        return 130
    return code or 0
