"""From the outcomes on single instances to one result for each variant and family of a claim."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from theorykit.checking.claim import Claim
from theorykit.checking.instance import Family
from theorykit.checking.outcome import Judged, Outcome
from theorykit.checking.result import ClaimResult, ControlResult
from theorykit.checking.verdict import Verdict, combine, decisive, worst


def assemble(claim: type[Claim], outcomes: Iterable[Outcome], seed: int) -> list[ClaimResult]:
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
    shown, value, predicted, error = joined(judged)
    reason = None
    if verdict == "not-applicable":
        reason = next((member.reason for member in members if member.reason), None)
    elif verdict == "inconclusive" and failure is None:
        reason = _why_open(claim, judged, value, error["total"])
    return ClaimResult(
        claim.id, variant, claim.title, claim.statement, claim.kind, f"{claim.source.key}, {claim.source.where}",
        family.model, family.loss, family.degree, verdict, claim.expected[variant], predicted, value, error,
        _worst_control(controls, verdict), controls, shown.rungs, len(members), seed,
        sum(member.wall_s for member in members),
        limit_fit=shown.fitted,
        detail=tuple(_detail(member, variant) for member in members),
        summary=_setting(family) | _distributions(members),
        failure=failure,
        reason=reason,
        traces=tuple(itertools.chain.from_iterable(member.traces for member in members)),
        judged=claim.judged,
        paper=claim.source.paper,
        quantity=claim.quantity,
        is_slack=claim.expansion is None,
        open_question=claim.open_question,
        recalled=sum(member.recalled for member in members),
    )  # fmt: skip


def _why_open(claim: type[Claim], judged: list[Judged], value: float | None, error: float | None) -> str:
    """Say why a verdict is inconclusive although nothing failed."""
    if value is None or error is None:
        return "a number is not finite"
    if any(item.value + item.error < claim.floor for item in judged):
        return f"a limit lies below {claim.floor:g}, which is impossible, by more than its error"
    if claim.expansion is None:
        return f"a slack, {value:.3g}, is within its error, {error:.3g}"
    return "an interval holds what the claim says, and is so wide that it cannot be told from what a control says"


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
    verdicts = [item.verdict for item in judged if item.verdict != "not-applicable"]
    return ControlResult(
        name, combine(verdicts), value, predicted, error["total"], len(verdicts), verdicts.count("refuted")
    )


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
