"""What every discovered claim must do: be described, refute its control, stand at a tighter tolerance, fail if broken.

One instance on the quick ladder: of the first and the last family for the verdicts, of the last one (the highest
degree, where there are several) for the rest; every second claim where a test takes new flows. All families of all
claims are what `theorykit verify` runs. Flows and programs are shared by all tests at one tolerance.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit import Claim, Measurement, Problem, Trajectory
from theorykit.checking import (
    ClaimResult,
    Instance,
    Tools,
    Trial,
    VerificationResult,
    discover,
    judge_broken,
    runner,
)
from theorykit.checking.judge import resolution_of

CLAIMS = discover().claims
LIMITS = [claim for claim in CLAIMS if claim.expansion is not None]
Families = Callable[[list[Any]], list[Any]]
Verify = Callable[..., VerificationResult]


def last(families: list[Any]) -> list[Any]:
    return families[-1:]


def first_and_last(families: list[Any]) -> list[Any]:
    return families[:: max(len(families) - 1, 1)]


by_id = functools.partial(pytest.mark.parametrize, "claim", ids=lambda claim: claim.id)


@pytest.fixture(scope="module")
def verify() -> Iterator[Verify]:
    """Run one claim on one instance; what it computes stays for the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "Tools", functools.cache(lambda profile, rtol=1e-8: Tools(profile, rtol)))

        def one(claim: type[Claim], rtol: float = 1e-8, seed: int = 0, families: Families = last) -> VerificationResult:
            every = claim.instances
            with pytest.MonkeyPatch.context() as shorter:
                shorter.setattr(claim, "instances", lambda self, rng: families(list(every(self, rng))))
                return tk.verify(claim.id, instances=1, rtol=rtol, seed=seed)

        yield one


@by_id(CLAIMS)
def test_is_described(claim: type[Claim]) -> None:
    assert re.fullmatch(r"[a-z0-9]+\.[a-z0-9.-]+", claim.id)
    assert claim.kind in ("limit", "existence", "inequality", "identity", "probability", "figure")
    for text in (claim.title, claim.statement, claim.judged, claim.source.where):
        assert text.strip()
    assert claim.source.key == claim.id.split(".")[0]
    assert f"{{{claim.source.key}," in claim.source.bibtex()
    assert claim.assumptions or claim.kind == "figure"
    assert all(assumption.strip() for assumption in claim.assumptions)
    assert claim.control_names
    assert len(set(claim.control_names)) == len(claim.control_names)
    assert set(claim.expected) <= {"as-printed", "corrected"}
    assert set(claim.expected.values()) <= {"supported", "refuted", "inconclusive", "not-applicable"}
    if claim.expansion is not None:
        for ladder in claim.ladders.values():
            assert len(ladder) >= len(claim.expansion.terms) + 2


@by_id([claim for claim in CLAIMS if claim.expected.get("as-printed") == "refuted"])
def test_a_refuted_printed_statement_is_explained(claim: type[Claim]) -> None:
    """The findings have the command that shows it."""
    page = Path(__file__).parents[2] / "docs" / "findings.md"
    commands = re.findall(r"^\$ theorykit verify (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    patterns = [word for command in commands for word in shlex.split(command)]
    assert any(fnmatch.fnmatchcase(claim.id, pattern) for pattern in patterns)


@pytest.mark.slow
@by_id(CLAIMS)
def test_verdict_is_expected_and_every_control_refuted(verify: Verify, claim: type[Claim]) -> None:
    result = verify(claim, families=first_and_last)
    assert result.exit_code == 0, result.table()
    for row in result.results:
        assert row.verdict == row.expected
        assert {control.verdict for control in row.controls} == {"refuted"}, row.controls
        assert {control.name for control in row.controls} == set(claim.control_names)


def is_of_trials(claim: type[Claim]) -> bool:
    return isinstance(next(iter(claim(Tools("quick")).instances(np.random.default_rng(0)))), Trial)


def comparable(row: ClaimResult) -> tuple[object, ...]:
    return (
        row.variant,
        row.loss,
        row.degree,
        row.summary.get("p"),
        row.summary.get("c"),
        row.verdict,
        row.control.verdict,
    )


@pytest.mark.slow
@by_id([claim for claim in CLAIMS if claim.broken is not Claim.broken])  # of all of them: evidence.py, part ledger
@pytest.mark.usefixtures("verify")
def test_every_broken_version_of_the_statement_is_refuted(claim: type[Claim]) -> None:
    judged = judge_broken(claim)
    assert judged
    assert {verdict for _, _, verdict in judged} == {"refuted"}, judged


@pytest.mark.slow
@by_id(CLAIMS[::2])
def test_same_verdict_at_a_tighter_tolerance(verify: Verify, claim: type[Claim]) -> None:
    if is_of_trials(claim):
        pytest.skip("trials follow no flow of the runner: there is no tolerance")
    loose, tight = verify(claim), verify(claim, rtol=1e-9)
    assert [comparable(row) for row in loose.results] == [comparable(row) for row in tight.results]
    for one, other in zip(loose.results, tight.results, strict=True):
        if not one.is_slack:  # the smallest slack over the accepted steps is one over other steps
            assert abs(one.measured - other.measured) <= one.error["total"] + other.error["total"]


@pytest.mark.slow
@by_id(LIMITS[::2])
def test_same_verdict_on_another_instance(verify: Verify, claim: type[Claim]) -> None:
    first, second = verify(claim), verify(claim, seed=1)
    assert [comparable(row) for row in first.results] == [comparable(row) for row in second.results]
    assert [row.measured for row in first.results] != [row.measured for row in second.results]


def resolution(claim: type[Claim]) -> float:
    """Return the distance from the prediction that the claim says it can tell, on the instance of `verify`."""
    made = claim(runner.Tools("quick"))
    instance = list(made.instances(runner._rng(0, 0)))[-1]
    return resolution_of(made, made.controls(), instance, "quick")


@pytest.mark.slow
@by_id(LIMITS)
def test_refuted_if_its_prediction_is_moved(
    verify: Verify, claim: type[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the distance to the nearest control away, the same numbers refute it."""
    honest = claim.measure
    (row, *_) = verify(claim).where(verdict="supported").results
    distance = resolution(claim)
    assert np.isfinite(distance)
    assert distance > row.error["total"]

    def moved(self: Claim, instance: Instance, problem: Problem, variant: str) -> Measurement:
        rung = honest(self, instance, problem, variant)
        return replace(rung, predicted=rung.predicted + 3.0 * distance)

    monkeypatch.setattr(claim, "measure", moved)
    assert {row.verdict for row in verify(claim).results} == {"refuted"}


@pytest.mark.slow
@by_id([claim for claim in CLAIMS if re.search(r"cor-3\.|thm-3\.", claim.id)][::2])
def test_refuted_if_the_flow_saw_other_labels(
    verify: Verify, claim: type[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims that tie a flow to a program of its data: a flow on labels of which one is turned round breaks the tie."""
    if is_of_trials(claim):
        pytest.skip("trials follow no flow of the runner")
    honest = Tools.flow

    def flow(self: Tools, problem: Problem, *args: float, **ends: float) -> Trajectory:
        labels = problem.data.y * np.where(np.arange(problem.data.n) == 0, -1.0, 1.0)
        data = replace(problem.data, y=labels, name="one label turned round")
        return honest(self, replace(problem, data=data), *args, **ends)

    monkeypatch.setattr(Tools, "flow", flow)
    for row in verify(claim).results:
        assert row.failure is None
        assert row.verdict == "refuted", row


@pytest.mark.slow
@by_id([claim for claim in CLAIMS if hasattr(claim, "bounds")])
def test_refuted_if_a_bound_is_turned_round(
    verify: Verify, claim: type[Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = claim.bounds["quick"]  # type: ignore[attr-defined]
    for k, bound in enumerate(bounds):
        if bound.statistic == "train_accuracy":
            continue
        turned = (*bounds[:k], replace(bound, above=not bound.above), *bounds[k + 1 :])
        with monkeypatch.context() as patch:
            patch.setattr(claim, "bounds", {"quick": turned})
            assert {row.verdict for row in verify(claim).results} == {"refuted"}
