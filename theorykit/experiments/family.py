"""Families: the same experiment at several values of one key, each member run and kept by itself."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from theorykit._numerics.errors import FlowError, InputError
from theorykit._numerics.serial import plain
from theorykit._numerics.validate import shown
from theorykit._version import __version__
from theorykit.experiments.config import Experiment
from theorykit.experiments.files import SUMMARY, TABLE, folder_of, heading, write
from theorykit.experiments.run import caption, run_experiment
from theorykit.experiments.table import Table, write_all

_UNSAFE = re.compile(r"[^A-Za-z0-9=.+-]+")


@dataclass(frozen=True, eq=False)
class FamilyResult:
    """What the members of a family gave.

    Attributes
    ----------
    experiment : Experiment
        The family.
    summary : dict
        What the family's ``summary.json`` holds; ``summary["members"]`` lists those of the members, each with its
        ``value``.
    tables : tuple of Table
        What the members' ``trajectory.csv`` hold.
    files : tuple of Path
        The files of the family; each member has a folder of its own beside them.
    """

    experiment: Experiment
    summary: dict[str, Any]
    tables: tuple[Table, ...] = field(repr=False)
    files: tuple[Path, ...] = ()

    def raise_for_status(self) -> FamilyResult:
        """Return self, or raise `FlowError` if a member's flow did not reach its end."""
        for member in self.summary["members"]:
            if member["status"] != "reached_end":
                raise FlowError(f"{member['preset']}: the flow stopped early: {member['message']}")
        return self


def run_family(
    experiment: Experiment,
    *,
    out: str | os.PathLike[str] | None = None,
    confirm: bool = False,
    resume: bool = False,
    progress: Callable[[float], None] | None = None,
) -> FamilyResult:
    """Run all members of a family, one after the other, and put them side by side.

    Parameters
    ----------
    experiment : Experiment
        From `load_experiment`, of a file with a [family].
    out : path, optional
        Folder: each member has a folder of its own in it (``alpha=4``), with the files of any run, written when it is
        done. Beside them are the family's ``trajectory.csv`` (all members' rows, with the value of the key in a last
        column that is named after it), ``summary.json`` (their summaries in a list) and a joint figure.
    confirm : bool
        As in `run_experiment`.
    resume : bool
        Take members that `out` has already as they are, and the one that was interrupted from its checkpoint.
    progress : callable, optional
        Called with the fraction done, in [0, 1].

    Returns
    -------
    FamilyResult

    Raises
    ------
    InputError
        As `run_experiment`; or it is no family.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment
    >>> small = ["data.n=16", "data.d=200", "data.n_test=100", "flow.points=20"]
    >>> family = ["family.key=problem.alpha", "family.values=[16, 128]"]
    >>> result = run_family(load_experiment("fig-1a", overrides=[*small, *family]))
    >>> [member["value"] for member in result.summary["members"]]
    [16, 128]
    """
    started = time.perf_counter()
    if not isinstance(experiment, Experiment) or not experiment.members:
        raise InputError("experiment", shown(experiment), "an Experiment with a [family], from load_experiment")
    folder = folder_of(out, resume)
    family = experiment.settings["family"]
    summaries, tables = [], []
    for k, (value, member) in enumerate(zip(family["values"], experiment.members, strict=True)):
        own = None if folder is None else folder / _UNSAFE.sub("_", member.name)
        report = None if progress is None else partial(_share, progress, k, len(experiment.members))
        summary, table = _member(member, own, confirm=confirm, resume=resume, progress=report)
        summaries.append({"value": value} | summary)
        tables.append(table)
    summary = _summary(experiment, summaries) | {"confirmed": confirm, "wall_total_s": time.perf_counter() - started}
    files = () if folder is None else _write(folder, experiment, summary, tables)
    return FamilyResult(experiment, summary, tuple(tables), files)


def _share(progress: Callable[[float], None], k: int, members: int, done: float) -> None:
    progress((k + done) / members)


def _member(
    member: Experiment,
    folder: Path | None,
    *,
    confirm: bool,
    resume: bool,
    progress: Callable[[float], None] | None,
) -> tuple[dict[str, Any], Table]:
    """Run a member, or read what an earlier run left of the same settings."""
    if folder is not None and resume:
        kept = _kept(member, folder, confirm)
        if kept is not None:
            return kept, Table.read(folder / TABLE)
    result = run_experiment(
        member, out=folder, confirm=confirm, resume=resume and folder is not None, progress=progress
    )
    return plain(result.summary), result.table


def _kept(member: Experiment, folder: Path, confirm: bool) -> dict[str, Any] | None:
    """Return the summary of a finished run of this very member in a folder."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    mine = {"settings": plain(member.settings), "version": __version__, "confirmed": confirm, "status": "reached_end"}
    same = isinstance(summary, dict) and all(summary.get(key) == value for key, value in mine.items())
    return summary if same and (folder / TABLE).is_file() else None


def _summary(experiment: Experiment, members: list[dict[str, Any]]) -> dict[str, Any]:
    early = [member for member in members if member["status"] != "reached_end"]
    ended = early[0] if early else members[-1]
    return heading(experiment) | {
        "family": experiment.settings["family"],
        "status": ended["status"],
        "message": ended["message"],
        "events": [{"value": member["value"]} | event for member in members for event in member["events"]],
        "not_crossed": [{"value": member["value"]} | event for member in members for event in member["not_crossed"]],
        "diagnostics": {str(member["value"]): member["diagnostics"] for member in members},
        "members": members,
        "wall_s": math.fsum(member["wall_s"] for member in members),
    }


def _write(folder: Path, experiment: Experiment, summary: Mapping[str, Any], tables: list[Table]) -> tuple[Path, ...]:
    from theorykit.experiments.figure import draw_family

    key, values = experiment.settings["family"]["key"], experiment.settings["family"]["values"]
    rows = [((str(value),), table) for value, table in zip(values, tables, strict=True)]
    named = {str(value): table for value, table in zip(values, tables, strict=True)}
    figure = draw_family(named, key.partition(".")[2], caption=_caption(summary, key))
    return write(folder, figure, summary, lambda file: write_all(file, rows, (key,)))


def _caption(summary: Mapping[str, Any], key: str) -> str:
    """Return the caption of the first member, without what the members differ in."""
    first = summary["members"][0]
    problem = {name: value for name, value in first["settings"]["problem"].items() if f"problem.{name}" != key}
    settings = first["settings"] | {"problem": problem}
    return caption(first | {"preset": summary["preset"], "settings": settings})
