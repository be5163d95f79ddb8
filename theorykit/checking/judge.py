"""One claim on one instance: climb the ladder, judge every variant and control; a check that raises is inconclusive."""

from __future__ import annotations

import inspect
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from theorykit._numerics.errors import InputError
from theorykit.checking import contract
from theorykit.checking.claim import Claim
from theorykit.checking.contract import every, measurement, numbers
from theorykit.checking.expansion import Expansion
from theorykit.checking.instance import Family, Instance, Trial
from theorykit.checking.measurement import Assumption, Control, Measurement
from theorykit.checking.outcome import Judged, Outcome
from theorykit.checking.result import Rung
from theorykit.checking.verdict import combine, decisive, judge_slacks, judge_value
from theorykit.flow import Problem

Measure = Callable[[Problem | None], Measurement]


def undrawn_outcome(claim: type[Claim], index: int, error: BaseException) -> Outcome:
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
    notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    return {"type": type(error).__name__, "message": f"{error}{place}{notes}".strip()}


def judge(claim: Claim, instance: Instance | Trial, index: int, profile: str) -> Outcome:
    """Judge all variants and controls of a claim on one instance; a check that raises is inconclusive and says why."""
    began = time.perf_counter()
    variants: dict[str, Judged] = dict.fromkeys(claim.variants, Judged("inconclusive"))
    controls: dict[str, Judged] = {name: Judged("inconclusive") for name in claim.control_names}
    summary: dict[str, float] = {}
    traces: tuple[dict[str, Any], ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    reason, failure = None, None
    name = type(claim).__name__
    claim.tools.asked.clear()
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
            controls = {twin.name: judge_control(claim, twin, instance, profile) for twin in twins}
            nearest = resolution_of(claim, twins, instance, profile)
            variants = {v: _judge(claim, instance, profile, v, nearest) for v in claim.variants}
            last = _problems(claim, instance, profile)[-1][1]
            summary = numbers(f"{name}.summarise", claim.summarise(instance, last))
            if index == 0:
                traces = contract.traces(f"{name}.traces", claim.traces(instance, last))
    except (Exception, SystemExit) as error:
        failure = _failure(type(claim), error)
    wall = time.perf_counter() - began
    return Outcome(
        claim.id,
        instance.family,
        index,
        variants,
        controls,
        summary,
        traces,
        assumptions,
        reason,
        failure,
        wall,
        dict(claim.tools.asked),
    )


def _judge(claim: Claim, instance: Instance | Trial, profile: str, variant: str, resolution: float) -> Judged:
    def measure(problem: Problem | None) -> Measurement:
        return _measured(claim, instance, problem, variant)

    return _judge_with(claim, measure, instance, profile, resolution)


def judge_control(claim: Claim, control: Control, instance: Instance | Trial, profile: str) -> Judged:
    """Judge a false twin on one instance, as the claim itself is judged."""

    def measure(problem: Problem | None) -> Measurement:
        return _measured_by(control, instance, problem)

    return _judge_with(claim, measure, instance, profile, claim.resolution)


def _measured(claim: Claim, instance: Instance | Trial, problem: Problem | None, variant: str) -> Measurement:
    return measurement(f"{type(claim).__name__}.measure", claim.measure(instance, problem, variant))


def _measured_by(control: Control, instance: Instance | Trial, problem: Problem | None) -> Measurement:
    try:
        return measurement(f"control {control.name!r}", control.measure(instance, problem))
    except (Exception, SystemExit) as error:
        error.add_note(f"for the control {control.name!r}")
        raise


def resolution_of(claim: Claim, controls: Sequence[Control], instance: Instance | Trial, profile: str) -> float:
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
    judged = _extrapolate(claim, claim.expansion, rungs, resolution, claim.floor)
    further = []
    for i in range(len(rungs[0][1].also)):
        beside = [(log_alpha, rung.also[i]) for log_alpha, rung in rungs]
        further.append(_extrapolate(claim, claim.expansion, beside, resolution, beside[0][1].floor))
    verdict = combine([judged.verdict, *(other.verdict for other in further)])
    if verdict == judged.verdict:
        return judged
    deciding = next(other for other in further if other.verdict == verdict)
    numbers = {"value": deciding.value, "prediction": deciding.predicted, "error": deciding.error}
    told = {f"{name} of the number that decides": number for name, number in numbers.items()}
    return replace(judged, verdict=verdict, extra=judged.extra | told)


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
    claim: Claim,
    expansion: Expansion,
    rungs: list[tuple[float, Measurement]],
    resolution: float,
    floor: float = -math.inf,
) -> Judged:
    """Fit one ladder; rungs at which the number does not exist are left out.

    An answer below the floor by more than its error shows that form or error is wrong: nothing is decided.
    """
    kept = [(log_alpha, rung) for log_alpha, rung in rungs if not math.isnan(rung.measured)]
    needed = len(expansion.terms) + 2
    if len(kept) < needed <= len(rungs):
        got = f"a number at {len(kept)} of {len(rungs)} rungs, nan at the others"
        raise InputError("ladder", got, f"at least {needed} rungs for the form {expansion.form}")
    x = np.array([log_alpha for log_alpha, _ in kept])
    fit = expansion.fit(x, [rung.measured for _, rung in kept], np.array([rung.error for _, rung in kept]))
    last = kept[-1][1]
    verdict = judge_value(fit.value, fit.error, last.predicted, resolution)
    if fit.value + fit.error < floor:
        verdict = "inconclusive"
    share = fit.carried / last.error if last.error > 0.0 else 0.0
    certificate, sampling = share * last.certificate, share * last.sampling
    shown = tuple(
        Rung(log_alpha, rung.measured, rung.error, rung.predicted if claim.is_limit() else None)
        for log_alpha, rung in kept
    )
    return Judged(
        verdict, fit.value, last.predicted,
        fit.carried - certificate - sampling, certificate, sampling, fit.spread, shown,
        {
            "log_alpha": fit.x.tolist(), "fitted": fit.curve.tolist(), "limit": fit.value, "form": fit.form,
            "is_limit": claim.is_limit(), "leading": expansion.leading, "spread": fit.spread, "carried": fit.carried,
            "refits": [asdict(refit) for refit in fit.refits],
        },
        dict(last.extra),
    )  # fmt: skip
