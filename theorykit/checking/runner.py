"""`verify`: draw instances, climb the ladder, judge; one task per instance, so that all its claims share flows."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import platform
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, integer
from theorykit._version import __version__
from theorykit.checking import contract
from theorykit.checking.claim import Claim, Tools
from theorykit.checking.contract import every, measurement, numbers
from theorykit.checking.discover import discover
from theorykit.checking.expansion import Expansion
from theorykit.checking.instance import Family, Instance, Trial
from theorykit.checking.measurement import Assumption, Control, Measurement
from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult
from theorykit.checking.verdict import Verdict, combine, decisive, judge_slacks, judge_value, worst
from theorykit.flow import Problem

PROFILES = ("quick", "full", "paper")
_LARGE = 10**8  # entries of training and test data from which an instance runs alone

Measure = Callable[[Problem | None], Measurement]


class Progress(Protocol):
    """Where a run reports how far it is."""

    def start(self, total: int) -> None:
        """Say how many tasks there are."""

    def advance(self, n: int, text: str) -> None:
        """Say that n more are done, and what the last one was."""


@dataclass(frozen=True)
class Judged:
    """One statement (a variant or a control) on one instance."""

    verdict: Verdict
    value: float = math.nan
    predicted: float = math.nan
    integrator: float = 0.0
    certificate: float = 0.0
    sampling: float = 0.0
    fit: float = 0.0
    rungs: tuple[Rung, ...] = ()
    fitted: dict[str, Any] | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The whole error."""
        return self.integrator + self.certificate + self.sampling + self.fit


@dataclass(frozen=True)
class Outcome:
    """Everything one claim said about one instance."""

    claim: str
    family: Family
    index: int
    variants: dict[str, Judged]
    controls: dict[str, Judged]
    summary: dict[str, float]
    traces: tuple[dict[str, Any], ...]
    assumptions: tuple[Assumption, ...]
    reason: str | None
    failure: dict[str, str] | None
    wall_s: float


@dataclass(frozen=True)
class _Task:
    """All claims on one drawn instance."""

    index: int
    work: tuple[tuple[str, int], ...]  # claim id, position among the claim's instances
    paths: tuple[str, ...]
    profile: str
    seed: int
    rtol: float
    large: bool
    families: tuple[Family, ...]


def verify(
    *patterns: str,
    profile: str = "quick",
    seed: int = 0,
    instances: int | None = None,
    jobs: int = 1,
    paths: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
    rtol: float = 1e-8,
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
    tasks, undrawn = _tasks(found.claims, folders, profile, seed, instances, rtol)
    if progress is not None:
        progress.start(sum(len(task.work) for task in tasks))
    finished: dict[_Task, list[Outcome]] = {}
    interrupted = False
    try:
        for task, done in _run_all(tasks, jobs):
            finished[task] = done
            if progress is not None:
                progress.advance(len(task.work), f"{_family_text(task.families[0])}, instance {task.index + 1}")
    except KeyboardInterrupt:
        interrupted = True
    outcomes = undrawn + [one for task in tasks for one in finished.get(task, ())]  # not as workers happened to end
    results = [result for claim in found.claims for result in _assemble(claim, outcomes, seed)]
    return VerificationResult(
        __version__, profile, seed, environment(jobs, rtol), tuple(results), interrupted, time.perf_counter() - began,
        found.broken, found.warnings, settings,
    )  # fmt: skip


def _family_text(family: Family) -> str:
    degree = None if family.degree is None else f"L={family.degree}"
    return " ".join(part for part in (family.model, family.loss, degree) if part)


def _rng(seed: int, index: int) -> np.random.Generator:
    """Return the generator of instance `index`: the same for every claim, so that claims meet on the same problems."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def _tasks(
    claims: Sequence[type[Claim]], paths: tuple[str, ...], profile: str, seed: int, count: int | None, rtol: float
) -> tuple[list[_Task], list[Outcome]]:
    """Group (claim, instance) pairs by the problem they share; claims that draw none are failures already."""
    groups: dict[tuple[Any, ...], list[tuple[str, int, Family]]] = {}
    large: dict[tuple[Any, ...], bool] = {}
    undrawn: list[Outcome] = []
    tools = Tools(profile, rtol)
    for claim in claims:
        for index in range(count if count is not None and claim.kind != "figure" else claim.draws[profile]):
            try:
                drawn = _drawn(claim(tools), seed, index)
                if not drawn:
                    raise InputError("instances", "none", "at least one")
            except (Exception, SystemExit) as error:
                undrawn.append(_undrawn(claim, index, error))
                continue
            for position, instance in enumerate(drawn):
                key = (index, *(instance.key if isinstance(instance, Instance) else (claim.id, position)))
                groups.setdefault(key, []).append((claim.id, position, instance.family))
                large[key] = isinstance(instance, Instance) and _entries(instance) > _LARGE
    tasks = [
        _Task(
            key[0], tuple((claim, position) for claim, position, _ in work), paths, profile, seed, rtol, large[key],
            tuple(family for _, _, family in work),
        )
        for key, work in groups.items()
    ]  # fmt: skip
    return tasks, undrawn


def _entries(instance: Instance) -> int:
    """Return how many numbers the training and test inputs have."""
    test = instance.data.test
    return instance.data.X.size + (test.n * instance.data.d if test is not None else 0)


def _drawn(claim: Claim, seed: int, index: int) -> list[Instance | Trial]:
    return every(f"{type(claim).__name__}.instances", claim.instances(_rng(seed, index)), Instance, Trial)


def _undrawn(claim: type[Claim], index: int, error: BaseException) -> Outcome:
    """Return the outcome of a claim whose instances could not be drawn."""
    return Outcome(
        claim.id, Family(None), index, dict.fromkeys(claim.variants, Judged("inconclusive")),
        dict.fromkeys(claim.control_names, Judged("inconclusive")), {}, (), (), None, _failure(claim, error), 0.0,
    )  # fmt: skip


def _failure(claim: type[Claim], error: BaseException) -> dict[str, str]:
    """Say what was raised, and where in the file of the check."""
    file = inspect.getfile(claim)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" ({Path(file).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return {"type": type(error).__name__, "message": f"{error}{place}".strip()}


def _run_all(tasks: list[_Task], jobs: int) -> Iterator[tuple[_Task, list[Outcome]]]:
    """Run small tasks side by side, each on one thread, and large ones alone."""
    small = [task for task in tasks if not task.large]
    if jobs == 1 or len(small) < 2:
        yield from ((task, _run(task)) for task in small)
    else:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        yield from parallel(delayed(_labelled)(task) for task in small)
    yield from ((task, _run(task)) for task in tasks if task.large)


def _labelled(task: _Task) -> tuple[_Task, list[Outcome]]:
    return task, _run(task)


def _claims_by_id(paths: tuple[str, ...]) -> dict[str, type[Claim]]:
    return {claim.id: claim for claim in discover([], [Path(path) for path in paths]).claims}


def _run(task: _Task) -> list[Outcome]:
    """Run all claims of a task on its instance."""
    tools = Tools(task.profile, task.rtol)
    known = _claims_by_id(task.paths)
    drawn: dict[str, list[Instance | Trial]] = {}
    outcomes = []
    with one_blas_thread():
        for identifier, position in task.work:
            claim = known[identifier](tools)
            if identifier not in drawn:
                drawn[identifier] = _drawn(claim, task.seed, task.index)
            outcomes.append(_outcome(claim, drawn[identifier][position], task))
    return outcomes


def _outcome(claim: Claim, instance: Instance | Trial, task: _Task) -> Outcome:
    """Judge all variants and controls of a claim on one instance; a check that raises is inconclusive and says why."""
    began = time.perf_counter()
    variants: dict[str, Judged] = dict.fromkeys(claim.variants, Judged("inconclusive"))
    controls: dict[str, Judged] = {name: Judged("inconclusive") for name in claim.control_names}
    summary: dict[str, float] = {}
    traces: tuple[dict[str, Any], ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    reason, failure = None, None
    name = type(claim).__name__
    try:
        assumptions = tuple(every(f"{name}.check", claim.check(instance), Assumption))
        twins = every(f"{name}.controls", claim.controls(), Control)
        if tuple(twin.name for twin in twins) != claim.control_names or not twins:
            names = ", ".join(repr(twin.name) for twin in twins) or "no control"
            wanted = f"always the same, {', '.join(claim.control_names)}" if claim.control_names else "a false twin"
            raise InputError(f"{name}.controls", names, wanted)
        failed = [a for a in assumptions if not a.holds]
        if failed:
            reason = "; ".join(f"{a.name} fails ({a.value:.3g})" for a in failed)
            variants = dict.fromkeys(claim.variants, Judged("not-applicable"))
            controls = {name: Judged("not-applicable") for name in claim.control_names}
        else:
            controls = {twin.name: _judge_control(claim, twin, instance, task.profile) for twin in twins}
            resolution = _resolution(claim, twins, instance, task.profile)
            variants = {v: _judge(claim, instance, task.profile, v, resolution) for v in claim.variants}
            last = _problems(claim, instance, task.profile)[-1][1]
            summary = numbers(f"{name}.summarise", claim.summarise(instance, last))
            if task.index == 0:
                traces = contract.traces(f"{name}.traces", claim.traces(instance, last))
    except (Exception, SystemExit) as error:
        failure = _failure(type(claim), error)
    wall = time.perf_counter() - began
    return Outcome(
        claim.id, instance.family, task.index, variants, controls, summary, traces, assumptions, reason, failure, wall
    )


def _judge(claim: Claim, instance: Instance | Trial, profile: str, variant: str, resolution: float) -> Judged:
    def measure(problem: Problem | None) -> Measurement:
        return _measured(claim, instance, problem, variant)

    return _judge_with(claim, measure, instance, profile, resolution)


def _judge_control(claim: Claim, control: Control, instance: Instance | Trial, profile: str) -> Judged:
    def measure(problem: Problem | None) -> Measurement:
        return _measured_by(control, instance, problem)

    return _judge_with(claim, measure, instance, profile, claim.resolution)


def _measured(claim: Claim, instance: Instance | Trial, problem: Problem | None, variant: str) -> Measurement:
    return measurement(f"{type(claim).__name__}.measure", claim.measure(instance, problem, variant))


def _measured_by(control: Control, instance: Instance | Trial, problem: Problem | None) -> Measurement:
    return measurement(f"control {control.name!r}", control.measure(instance, problem))


def _resolution(claim: Claim, controls: Sequence[Control], instance: Instance | Trial, profile: str) -> float:
    """Return the distance from the claim's prediction to the nearest one of a control that shares its measurement."""
    nearest = claim.resolution
    if claim.expansion is None:
        return nearest
    problem = _problems(claim, instance, profile)[-1][1]
    predicted = _measured(claim, instance, problem, claim.variants[-1]).predicted
    for control in controls:
        if control.shared:
            nearest = min(nearest, abs(_measured_by(control, instance, problem).predicted - predicted))
    return nearest


def _problems(claim: Claim, instance: Instance | Trial, profile: str) -> list[tuple[float, Problem | None]]:
    """Return the scales at which a claim is measured, with the problems there: one, and none, for a trial.

    Raises
    ------
    InputError
        A claim about a limit yields trials, which have no scale.
    """
    if isinstance(instance, Trial):
        if claim.expansion is not None:
            wanted = "Instance objects, or expansion = None: a trial has no scale along which a limit is approached"
            raise InputError(f"{type(claim).__name__}.instances", f"the Trial {instance.label!r}", wanted)
        return [(math.nan, None)]
    scales = claim.ladders[profile] if claim.has_ladder() else (1.0,)
    return [(log_alpha, instance.at(log_alpha)) for log_alpha in scales]


def _judge_with(claim: Claim, measure: Measure, instance: Instance | Trial, profile: str, resolution: float) -> Judged:
    """Climb the ladder with one measurement and judge what it extrapolates to, or the slacks on it."""
    rungs = [(log_alpha, measure(problem)) for log_alpha, problem in _problems(claim, instance, profile)]
    if claim.expansion is None:
        return _weigh(rungs, claim.has_ladder() and isinstance(instance, Instance))
    judged = _extrapolate(claim, claim.expansion, rungs, resolution)
    further = [
        _extrapolate(
            claim, claim.expansion, [(log_alpha, rung.also[i]) for log_alpha, rung in rungs], resolution
        ).verdict
        for i in range(len(rungs[0][1].also))
    ]
    return replace(judged, verdict=combine([judged.verdict, *further]))


def _weigh(rungs: list[tuple[float, Measurement]], has_ladder: bool) -> Judged:
    """Judge the slacks of all rungs, and what each has beside it; the number is the one on which that turns."""
    every = [(log_alpha, one) for log_alpha, rung in rungs for one in (rung, *rung.also)]
    slacks = [(one.measured - one.predicted, one.error) for _, one in every]
    one = every[decisive(slacks)][1]
    ladder = tuple(Rung(log_alpha, rung.measured, rung.error) for log_alpha, rung in rungs) if has_ladder else ()
    return Judged(
        judge_slacks(slacks), one.measured, one.predicted, one.integrator, one.certificate, one.sampling, rungs=ladder,
        extra=dict(one.extra),
    )  # fmt: skip


def _extrapolate(
    claim: Claim, expansion: Expansion, rungs: list[tuple[float, Measurement]], resolution: float
) -> Judged:
    """Fit one ladder; rungs at which the number does not exist are left out."""
    kept = [(log_alpha, rung) for log_alpha, rung in rungs if math.isfinite(rung.measured)]
    needed = len(expansion.terms) + 2
    if len(kept) < needed <= len(rungs):
        got = f"a finite number at {len(kept)} of {len(rungs)} rungs, nan or inf at the others"
        raise InputError("ladder", got, f"at least {needed} rungs for the form {expansion.form}")
    x = np.array([log_alpha for log_alpha, _ in kept])
    fit = expansion.fit(x, [rung.measured for _, rung in kept], np.array([rung.error for _, rung in kept]))
    last = kept[-1][1]
    share = fit.carried / last.error if last.error > 0.0 else 0.0
    certificate, sampling = share * last.certificate, share * last.sampling
    shown = tuple(
        Rung(log_alpha, rung.measured, rung.error, rung.predicted if claim.is_limit() else None)
        for log_alpha, rung in kept
    )
    return Judged(
        judge_value(fit.value, fit.error, last.predicted, resolution), fit.value, last.predicted,
        fit.carried - certificate - sampling, certificate, sampling, fit.spread, shown,
        {
            "log_alpha": fit.x.tolist(), "fitted": fit.curve.tolist(), "limit": fit.value, "form": fit.form,
            "is_limit": claim.is_limit(), "leading": expansion.leading, "spread": fit.spread, "carried": fit.carried,
            "refits": [asdict(refit) for refit in fit.refits],
        },
        dict(last.extra),
    )  # fmt: skip


def _assemble(claim: type[Claim], outcomes: Iterable[Outcome], seed: int) -> list[ClaimResult]:
    """Join the instances of each family into one result per variant."""
    families: dict[Family, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.claim == claim.id:
            families[outcome.family].append(outcome)
    results = []
    for family, members in families.items():
        members.sort(key=lambda outcome: outcome.index)
        results += [_result(claim, family, members, variant, seed) for variant in claim.variants]
    return results


def _result(claim: type[Claim], family: Family, members: list[Outcome], variant: str, seed: int) -> ClaimResult:
    judged = [member.variants[variant] for member in members]
    verdict = combine(item.verdict for item in judged)
    failure = next((member.failure for member in members if member.failure is not None), None)
    if failure is not None and verdict != "refuted":
        verdict = "inconclusive"
    joined = _joined if claim.expansion is not None else _tightest
    controls = tuple(_control_result(name, members, joined) for name in claim.control_names)
    reason = next((member.reason for member in members if member.reason), None)
    shown, value, predicted, error = joined(judged)
    return ClaimResult(
        claim.id, variant, claim.title, claim.statement, claim.kind, f"{claim.source.key}, {claim.source.where}",
        family.model, family.loss, family.degree, verdict, claim.expected[variant], predicted, value, error,
        _worst_control(controls, verdict), controls, shown.rungs, len(members), seed,
        sum(member.wall_s for member in members),
        limit_fit=shown.fitted,
        detail=tuple(_detail(member, variant) for member in members),
        summary=_setting(family) | _distributions(members),
        failure=failure,
        reason=reason if verdict == "not-applicable" else None,
        traces=tuple(itertools.chain.from_iterable(member.traces for member in members)),
        judged=claim.judged,
        paper=claim.source.paper,
        quantity=claim.quantity,
        is_slack=claim.expansion is None,
        open_question=claim.open_question,
    )  # fmt: skip


def _setting(family: Family) -> dict[str, Any]:
    """Return what tells families apart beside model, loss and degree, as far as it applies."""
    found: dict[str, Any] = {} if family.p is None else {"p": family.p, "c": family.c}
    return found if family.init in (None, "theory") else found | {"init": family.init}


Joined = tuple[Judged, float | None, float | None, dict[str, float | None]]


def _joined(judged: list[Judged]) -> Joined:
    """Return an instance to show, and over all: mean, mean prediction, and the worst of each error with the spread."""
    shown = next((item for item in judged if item.rungs), judged[0])
    found = [item for item in judged if math.isfinite(item.value)]
    if not found:
        return shown, None, None, {"total": None}
    values = np.array([item.value for item in found])
    parts = {
        "integrator": max(item.integrator for item in found),
        "certificate": max(item.certificate for item in found),
        "fit": max(item.fit for item in found),
    }
    sampling = max(item.sampling for item in found)
    if sampling > 0.0:
        parts["sampling"] = sampling
    with np.errstate(over="ignore", invalid="ignore"):  # numbers near the largest float
        mean, predicted = float(values.mean()), float(np.mean([item.predicted for item in found]))
        parts["instances"] = float(np.max(np.abs(values - mean)))
    return shown, mean, predicted, {**parts, "total": max(item.error for item in found) + parts["instances"]}


def _tightest(judged: list[Judged]) -> Joined:
    """Return the instance on which a statement about slacks turns; a bare slack is compared with no prediction."""
    found = [item for item in judged if item.verdict != "not-applicable"] or judged
    item = found[decisive([(item.value - item.predicted, item.error) for item in found])]
    if not math.isfinite(item.value):
        return item, None, None, {"total": None}
    error = {"integrator": item.integrator, "certificate": item.certificate}
    sampling = {"sampling": item.sampling} if item.sampling > 0.0 else {}
    return item, item.value, item.predicted or None, {**error, **sampling, "total": item.error}


def _control_result(name: str, members: list[Outcome], joined: Callable[[list[Judged]], Joined]) -> ControlResult:
    judged = [member.controls[name] for member in members]
    _, value, predicted, error = joined(judged)
    return ControlResult(name, combine(item.verdict for item in judged), value, predicted, error["total"])


def _worst_control(controls: tuple[ControlResult, ...], verdict: Verdict) -> ControlResult:
    if verdict == "not-applicable":
        return ControlResult(controls[0].name if controls else "none", "not-applicable")
    if not controls:
        return ControlResult("none", "inconclusive")
    verdicts: list[Verdict] = [control.verdict for control in controls]  # type: ignore[misc]
    return controls[verdicts.index(worst(verdicts))]


def _detail(member: Outcome, variant: str) -> dict[str, Any]:
    item = member.variants[variant]
    numbers = {
        "instance": member.index, "verdict": item.verdict, "measured": item.value, "predicted": item.predicted,
        "error": item.error,
    }  # fmt: skip
    tests = {assumption.name: assumption.value for assumption in member.assumptions}
    return numbers | dict(item.extra) | member.summary | tests


def _distributions(members: list[Outcome]) -> dict[str, Any]:
    """Return minimum, median and maximum over instances of every number that `summarise` gave."""
    out: dict[str, Any] = {}
    for key in sorted({key for member in members for key in member.summary}):
        values = np.array([member.summary[key] for member in members if key in member.summary])
        with np.errstate(over="ignore"):
            out[key] = {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}
    return out


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
