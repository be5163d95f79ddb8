"""The folder of a run or of a family: which files it has, and how they are put there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theorykit._numerics.errors import InputError
from theorykit._numerics.serial import replacing, to_json, writable_file
from theorykit._numerics.validate import path
from theorykit._version import __version__
from theorykit.experiments.config import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, SUMMARY = "trajectory.csv", "summary.json"
FILES = (TABLE, "figure.svg", "figure.png", SUMMARY)


def folder_of(out: str | os.PathLike[str] | None, resume: bool) -> Path | None:
    """Return the folder, made and found to be writable, so that this shows before the work; None where none is asked.

    Raises
    ------
    InputError
        The folder or one of its files cannot be written, or there is none to resume from.
    """
    if resume and out is None:
        raise InputError("resume", "no folder", "out, the folder of the run to go on with")
    if out is None:
        return None
    folder = path("out", out, "a folder that can be written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError("out", f"{folder} ({problem.strerror})", "a folder that can be written") from None
    for name in FILES:
        writable_file("out", folder / name)
    return folder


def heading(experiment: Experiment) -> dict[str, Any]:
    """Return what every summary begins with."""
    return {
        "preset": experiment.name,
        "source": experiment.source,
        "profile": experiment.profile,
        "version": __version__,
        "settings": experiment.settings,
    }


def write(
    folder: Path, figure: Figure, summary: Mapping[str, Any], write_table: Callable[[Path], None]
) -> tuple[Path, ...]:
    """Write the table, the figure and the summary, each whole or not at all; return their paths."""
    from theorykit.experiments.figure import save

    for name in FILES:
        with replacing("out", folder / name) as file:
            if name == TABLE:
                write_table(file)
            elif name == SUMMARY:
                file.write_text(to_json(summary), encoding="utf-8")
            else:
                save(figure, file)
    return tuple(folder / name for name in FILES)
