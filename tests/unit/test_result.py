"""Records of results: exit codes, JSON, selection."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest

from theorykit._numerics.errors import InputError
from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult

GOOD = ClaimResult(
    claim="suite.thm-1",
    variant="as-printed",
    title="A theorem",
    statement="a = b",
    kind="limit",
    source="suite, Theorem 1",
    model="DiagonalNet",
    loss="logistic",
    degree=2,
    verdict="supported",
    expected="supported",
    predicted=1.0,
    measured=1.000001,
    error={"integrator": 1e-9, "fit": 1e-6, "total": 2e-6},
    control=ControlResult("wrong exponent", "refuted", 1.0, 1.3, 2e-6),
    controls=(ControlResult("wrong exponent", "refuted", 1.0, 1.3, 2e-6),),
    ladder=(Rung(20.0, 0.9, 1e-3, 1.0), Rung(40.0, 0.95, 1e-3, 1.0)),
    instances=4,
    seed=0,
    wall_s=0.5,
)


def claim(verdict: str, expected: str, control: str) -> ClaimResult:
    twin = replace(GOOD.control, verdict=control)
    return replace(GOOD, verdict=verdict, expected=expected, control=twin, controls=(twin,))


def run(*results: ClaimResult, **changes: object) -> VerificationResult:
    return replace(VerificationResult("0.1.0", "quick", 0, {"python": "3"}, results), **changes)


NOT_APPLICABLE = claim("not-applicable", "not-applicable", "not-applicable")
OPEN = claim("inconclusive", "supported", "refuted")
WRONG = claim("refuted", "supported", "refuted")
BROKEN = {"path": "a.py", "type": "SyntaxError", "message": "invalid syntax"}


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (run(), 0),
        (run(GOOD), 0),
        (run(claim("refuted", "refuted", "refuted")), 0),
        (run(NOT_APPLICABLE), 0),
        (run(claim("inconclusive", "inconclusive", "refuted")), 0),
        (run(claim("inconclusive", "inconclusive", "inconclusive")), 0),
        (run(WRONG), 1),
        (run(claim("supported", "refuted", "refuted")), 1),
        (run(claim("supported", "inconclusive", "refuted")), 1),
        (run(claim("supported", "not-applicable", "refuted")), 1),
        (run(claim("not-applicable", "supported", "not-applicable")), 1),
        (run(claim("supported", "supported", "supported")), 1),
        (run(claim("inconclusive", "supported", "supported")), 1),
        (run(claim("inconclusive", "inconclusive", "supported")), 1),
        (run(OPEN), 3),
        (run(claim("supported", "supported", "inconclusive")), 3),
        (run(claim("inconclusive", "supported", "inconclusive")), 3),
        (run(claim("inconclusive", "not-applicable", "refuted")), 3),
        (run(replace(OPEN, failure={"type": "ValueError", "message": "no"})), 3),
        # the control of a not-applicable result does not count
        (run(claim("not-applicable", "not-applicable", "supported")), 0),
        (run(claim("not-applicable", "not-applicable", "inconclusive")), 0),
        # the worst of several decides: 1 before 3 before 0, and 130 before all
        (run(GOOD, OPEN), 3),
        (run(OPEN, WRONG, GOOD), 1),
        (run(GOOD, broken=(BROKEN,)), 3),
        (run(WRONG, broken=(BROKEN,)), 1),
        (run(GOOD, interrupted=True), 130),
        (run(WRONG, interrupted=True), 130),
    ],
)
def test_exit_code(result: VerificationResult, code: int) -> None:
    assert result.exit_code == code


def test_results_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        GOOD.verdict = "refuted"


def test_json_holds_every_field_and_no_nan(tmp_path: Path) -> None:
    odd = replace(
        GOOD, measured=float("nan"), predicted=np.float64(2.5), degree=np.int64(3), detail=({"a": np.arange(2)},)
    )
    file = tmp_path / "out.json"
    text = run(odd).to_json(file)
    assert file.read_text(encoding="utf-8") == text
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    result = read["results"][0]
    assert set(result) == {field.name for field in fields(ClaimResult)}
    assert result["measured"] is None
    assert (result["predicted"], result["degree"], result["detail"]) == (2.5, 3, [{"a": [0, 1]}])
    assert result["ladder"][1] == {"log_alpha": 40.0, "measured": 0.95, "error": 1e-3, "predicted": 1.0}
    assert result["control"]["name"] == "wrong exponent"
    assert (read["version"], read["profile"], read["seed"], read["environment"]) == (
        "0.1.0",
        "quick",
        0,
        {"python": "3"},
    )


def test_json_into_a_missing_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path: got .*missing"):
        run(GOOD).to_json(tmp_path / "missing" / "out.json")


def test_where_keeps_what_matches_and_everything_else_of_the_run() -> None:
    found = run(GOOD, WRONG, OPEN, interrupted=True).where(verdict="refuted", degree=2)
    assert found.results == (WRONG,)
    assert found.interrupted
    assert run(GOOD).where(degree=3).results == ()


def test_where_names_the_nearest_field() -> None:
    with pytest.raises(InputError, match="did you mean 'verdict'"):
        run(GOOD).where(verdit="refuted")
