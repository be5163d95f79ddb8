"""Every claim of the ledger: broken on purpose, on one job and on two, with other seeds."""

from __future__ import annotations

import json
from typing import Any

from theorykit.checking import VerificationResult, discover, judge_broken


def broken(pattern: str = "*") -> list[dict[str, Any]]:
    """Return the verdict on every broken version of every claim, on one instance of each family."""
    rows = []
    for claim in discover([pattern]).claims:
        judged = judge_broken(claim)
        rows += [
            {
                "claim": claim.id,
                "family": " ".join(str(part) for part in family if part),
                "broken": name,
                "verdict": said,
            }
            for family, name, said in judged
        ]
        rows += [] if judged else [{"claim": claim.id, "family": "", "broken": "none", "verdict": "missing"}]
    return rows


def numbers(result: VerificationResult) -> list[dict[str, Any]]:
    """Return what a run says, wall times apart, as JSON that keeps every bit."""
    return [
        {name: value for name, value in row.items() if name != "wall_s"}
        for row in json.loads(result.to_json())["results"]
    ]


def differences(first: VerificationResult, second: VerificationResult) -> list[str]:
    """Return the results whose verdicts, or whose controls' verdicts, two runs do not agree on."""
    one, other = _verdicts(first), _verdicts(second)
    return [
        f"{name}: {one.get(name)} and {other.get(name)}" for name in one | other if one.get(name) != other.get(name)
    ]


def _verdicts(result: VerificationResult) -> dict[str, tuple[str, str]]:
    return {
        " ".join(str(part) for part in (row.claim, row.variant, row.model, row.loss, row.degree, *row.summary.items())
                 if not isinstance(part, tuple) or part[0] in ("p", "c", "init")): (row.verdict, row.control.verdict)
        for row in result.results
    }  # fmt: skip
