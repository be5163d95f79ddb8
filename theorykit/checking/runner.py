"""`verify`: draw instances, climb the ladder, judge; one task per instance, so that all its claims share flows."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, integer
from theorykit._numerics.validate import path as checked_path
from theorykit._numerics.workers import side_by_side
from theorykit._version import __version__
from theorykit.checking.assemble import assemble
from theorykit.checking.claim import Claim, Ends, Tools
from theorykit.checking.contract import every
from theorykit.checking.discover import discover
from theorykit.checking.instance import Family, Instance, Trial
from theorykit.checking.judge import judge, judge_control, undrawn_outcome
from theorykit.checking.measurement import Control
from theorykit.checking.outcome import Outcome, decode, encode
from theorykit.checking.result import VerificationResult
from theorykit.checking.store import Store, result_key
from theorykit.checking.verdict import Verdict
from theorykit.models import DiagonalNet

PROFILES = ("quick", "full", "paper")
_FIGURE, _FREQUENCY = 1e12, 1e9  # more than the guess for any flow
_LARGE = 10**8  # entries of training and test data from which an instance runs alone


class Progress(Protocol):
    """Where a run reports how far it is."""

    def start(self, total: int) -> None:
        """Say how many tasks there are."""

    def advance(self, n: int, text: str) -> None:
        """Say that n more are done, and what the last one was."""


@dataclass(frozen=True)
class _Work:
    """One claim on one instance of a task, and where its result is kept."""

    claim: str
    position: int  # among the claim's instances
    family: Family
    key: str | None


@dataclass(frozen=True)
class _Task:
    """All claims on one drawn instance."""

    index: int
    work: tuple[_Work, ...]
    paths: tuple[str, ...]
    profile: str
    seed: int
    rtol: float
    large: bool
    cost: float
    store: str | None


_Done = tuple[int, _Work, Outcome, str | None]  # index of the instance, what was done, what came out, a complaint


def verify(
    *patterns: str,
    profile: str = "quick",
    seed: int = 0,
    instances: int | None = None,
    jobs: int = 1,
    paths: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
    rtol: float = 1e-8,
    store: str | os.PathLike[str] | None = None,
) -> VerificationResult:
    """Check claims and return their verdicts.

    Parameters
    ----------
    *patterns : str
        Claim ids with shell wildcards; none means all.
    profile : {"quick", "full", "paper"}
        Length of the ladders and number of instances; "paper" runs the figures at full size.
    seed : int
        All instances follow from it; the same seed gives the same numbers whatever `jobs` is.
    instances : int, optional
        Number of random instances of each family (default: the claim's own for the profile).
    jobs : int
        Worker processes.
    paths : sequence of path-like
        Folders with further claims.
    progress : Progress, optional
    rtol : float
        Tolerance of the flows.
    store : path-like, optional
        A file of finished results (SQLite; made if it is not there). What an earlier run with the same settings, files
        of claims, theorykit and libraries finished is taken from it, with the same bits, and what this one finishes is
        put there at once, so that a run that dies goes on where it was. The command line uses
        `theorykit.checking.default_store`. A file that cannot be used is a warning, and the run does without.

    Returns
    -------
    VerificationResult
        With `interrupted` set and what was finished, after Ctrl-C.

    Raises
    ------
    InputError
        Unknown claim or profile, a missing folder, a number out of range.

    Examples
    --------
    >>> import theorykit as tk
    >>> result = tk.verify("lyu2024.cor-3.6", seed=0, instances=1)
    >>> {item.verdict for item in result.results}
    {'supported'}
    """
    if profile not in PROFILES:
        raise unknown_name("profile", str(profile), list(PROFILES))
    seed, jobs = integer("seed", seed, minimum=0), integer("jobs", jobs, minimum=1)
    if instances is not None:
        instances = integer("instances", instances, minimum=1)
    rtol = finite("rtol", rtol, above=0.0)
    began = time.perf_counter()
    found = discover(patterns, paths)
    folders = tuple(str(Path(path).resolve()) for path in paths)
    settings = {"patterns": list(patterns), "paths": [os.fspath(path) for path in paths], "instances": instances}
    kept = None if store is None else Store(checked_path("store", store))
    complaints = {} if kept is None or kept.complaint is None else {kept.complaint: None}
    usable = None if kept is None or not kept.is_open else str(kept.path.resolve())
    tasks, undrawn = _tasks(found.claims, folders, profile, seed, instances, rtol, usable)
    finished = _recall(tasks, kept)
    if progress is not None:
        progress.start(sum(len(task.work) for task in tasks))
        if finished:
            progress.advance(len(finished), "finished by earlier runs")
    interrupted = False
    try:
        for index, work, outcome, complaint in _run_all(tasks, finished, jobs):
            finished[index, work] = outcome
            complaints |= {} if complaint is None else {complaint: None}
            if progress is not None:
                progress.advance(1, f"{work.claim}: {_family_text(work.family)}, instance {index + 1}")
    except KeyboardInterrupt:
        interrupted = True
        finished = _recall(tasks, kept, recalled=False) | finished  # of tasks that other processes had begun
    if kept is not None:
        kept.close()
    in_order = [finished.get((task.index, work)) for task in tasks for work in task.work]  # not as workers ended
    outcomes = undrawn + [outcome for outcome in in_order if outcome is not None]
    results = [result for claim in found.claims for result in assemble(claim, outcomes, seed)]
    return VerificationResult(
        __version__, profile, seed, environment(jobs, rtol), tuple(results), interrupted, time.perf_counter() - began,
        found.broken, (*found.warnings, *complaints), settings,
    )  # fmt: skip


def _recall(tasks: list[_Task], store: Store | None, *, recalled: bool = True) -> dict[tuple[int, _Work], Outcome]:
    """Return what the store has of the work of all tasks."""
    found = {}
    for task in tasks:
        for work in task.work:
            text = None if store is None or work.key is None else store.get(work.key)
            if text is not None:
                found[task.index, work] = replace(decode(text), recalled=recalled)
    return found


def _family_text(family: Family) -> str:
    degree = None if family.degree is None else f"L={family.degree}"
    return " ".join(part for part in (family.model, family.loss, degree) if part)


def judge_broken(
    claim: type[Claim], profile: str = "quick", seed: int = 0, index: int = 0, rtol: float = 1e-8
) -> list[tuple[Family, str, Verdict]]:
    """Judge the versions of a claim that are broken on purpose, on one instance of every family.

    Parameters
    ----------
    claim : type
    profile : {"quick", "full", "paper"}
    seed, index : int
        As in `verify`: instance `index` of the run with that seed.
    rtol : float
        Tolerance of the flows.

    Returns
    -------
    list of tuple
        Family, what was broken, and the verdict on that; "not-applicable" where an assumption fails.

    Examples
    --------
    >>> (found,) = discover(["lyu2024.cor-3.6"]).claims
    >>> {verdict for _, _, verdict in judge_broken(found)}
    {'refuted'}
    """
    made = claim(Tools(profile, rtol))
    found: list[tuple[Family, str, Verdict]] = []
    with one_blas_thread():
        for instance in draw(made, seed, index):
            applies = all(assumption.holds for assumption in made.check(instance))
            for twin in every(f"{claim.__name__}.broken", made.broken(), Control):
                verdict = judge_control(made, twin, instance, profile).verdict if applies else "not-applicable"
                found.append((instance.family, twin.name, verdict))
    return found


def _rng(seed: int, index: int) -> np.random.Generator:
    """Return the generator of instance `index`: the same for every claim, so that claims meet on the same problems."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def _tasks(
    claims: Sequence[type[Claim]],
    paths: tuple[str, ...],
    profile: str,
    seed: int,
    count: int | None,
    rtol: float,
    store: str | None,
) -> tuple[list[_Task], list[Outcome]]:
    """Group (claim, instance) pairs by the problem they share; claims that draw none are failures already."""
    groups: dict[tuple[Any, ...], list[_Work]] = {}
    costs: dict[tuple[Any, ...], float] = {}
    large: dict[tuple[Any, ...], bool] = {}
    undrawn: list[Outcome] = []
    tools = Tools(profile, rtol)
    for claim in claims:
        for index in range(count if count is not None and claim.kind != "figure" else claim.draws[profile]):
            try:
                drawn = draw(claim(tools), seed, index)
                if not drawn:
                    raise InputError("instances", "none", "at least one")
            except (Exception, SystemExit) as error:
                undrawn.append(undrawn_outcome(claim, index, error))
                continue
            for position, instance in enumerate(drawn):
                group = (index, *(instance.key if isinstance(instance, Instance) else (claim.id, position)))
                others = groups.setdefault(group, [])
                # flows go as far as the claims before asked for: these are part of what the numbers depend on
                before = [(work.claim, work.position) for work in others]
                key = None if store is None else result_key(
                    claim, profile=profile, seed=seed, index=index, position=position, rtol=rtol, before=before
                )  # fmt: skip
                others.append(_Work(claim.id, position, instance.family, key))
                costs[group] = costs.get(group, 0.0) + _cost(claim, instance, profile)
                large[group] = isinstance(instance, Instance) and _entries(instance) > _LARGE
    tasks = [
        _Task(group[0], tuple(work), paths, profile, seed, rtol, large[group], costs[group], store)
        for group, work in groups.items()
    ]
    return tasks, undrawn


def _cost(claim: type[Claim], instance: Instance | Trial, profile: str) -> float:
    """Return a guess at how long a claim takes on an instance, to begin with what takes longest: only order counts.

    Figures first, then frequencies (many repetitions), then flows by their number of unknowns and their scales.
    """
    if claim.kind == "figure":
        return _FIGURE
    if isinstance(instance, Trial):
        return _FREQUENCY if claim.kind == "probability" else 0.0
    scales = claim.ladders[profile] if claim.has_ladder() else (1.0,)
    unknowns = instance.data.n if isinstance(instance.model, DiagonalNet) else instance.model.parameters
    return unknowns * math.sqrt(sum(scales))


def _entries(instance: Instance) -> int:
    """Return how many numbers the training and test inputs have."""
    test = instance.data.test
    return instance.data.X.size + (test.n * instance.data.d if test is not None else 0)


def draw(claim: Claim, seed: int, index: int) -> list[Instance | Trial]:
    """Return instance `index` of every family of a claim, in the run with a seed."""
    return every(f"{type(claim).__name__}.instances", claim.instances(_rng(seed, index)), Instance, Trial)


def _run_all(tasks: list[_Task], finished: dict[tuple[int, _Work], Outcome], jobs: int) -> Iterator[_Done]:
    """Run what is not finished: small tasks side by side, each on one thread, the longest first; large ones alone."""
    open_tasks = [(task, _flows_of(task, finished)) for task in sorted(tasks, key=lambda task: -task.cost)]
    open_tasks = [(task, flows) for task, flows in open_tasks if None in flows]
    small = [(task, flows) for task, flows in open_tasks if not task.large]
    if jobs == 1 or len(small) < 2:
        for task, flows in small:
            yield from _run(task, flows)
    else:
        for done in side_by_side(_run_whole, small, jobs, ordered=False):
            yield from done
    for task, flows in open_tasks:
        if task.large:
            yield from _run(task, flows)


def _flows_of(task: _Task, finished: dict[tuple[int, _Work], Outcome]) -> list[dict[str, Ends] | None]:
    """Return for each claim of a task the flows that it asked for, None where it is still to be run."""
    outcomes = [finished.get((task.index, work)) for work in task.work]
    return [None if outcome is None else outcome.flows for outcome in outcomes]


def _run_whole(task: _Task, flows: list[dict[str, Ends] | None]) -> list[_Done]:
    return list(_run(task, flows))


def _claims_by_id(paths: tuple[str, ...]) -> dict[str, type[Claim]]:
    return {claim.id: claim for claim in discover([], [Path(path) for path in paths]).claims}


def _run(task: _Task, flows: list[dict[str, Ends] | None]) -> Iterator[_Done]:
    """Run the claims of a task that are not finished (`flows` is None) on its instance, and keep each result."""
    tools = Tools(task.profile, task.rtol)
    known = _claims_by_id(task.paths)
    drawn: dict[str, list[Instance | Trial]] = {}
    store = None if task.store is None else Store(task.store)
    for work, asked in zip(task.work, flows, strict=True):
        if asked is not None:
            tools.expect(asked)
            continue
        with one_blas_thread():
            claim = known[work.claim](tools)
            if work.claim not in drawn:
                drawn[work.claim] = draw(claim, task.seed, task.index)
            text = encode(judge(claim, drawn[work.claim][work.position], task.index, task.profile))
        outcome = decode(text)  # what a later run would read
        if store is not None and work.key is not None and outcome.failure is None:
            store.put(work.key, text)
        yield task.index, work, outcome, None if store is None else store.complaint
    if store is not None:
        store.close()


def environment(jobs: int, rtol: float) -> dict[str, Any]:
    """Return versions and settings that a rerun needs."""
    import clarabel
    import cvxpy
    import numba
    import scipy

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "jobs": jobs,
        "rtol": rtol,
        "theorykit": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "numba": numba.__version__,
        "cvxpy": cvxpy.__version__,
        "clarabel": clarabel.__version__,
        "highspy": version("highspy"),  # the solver itself prints a banner when it is asked
    }
