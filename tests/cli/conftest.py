"""A suite of one invented claim, and `run`: one command in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import theorykit.checking
from theorykit._numerics.errors import unknown_name
from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult
from theorykit.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*words: str | Path) -> Outcome:
        code = main([str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return call


CONTROL = ControlResult("wrong-exponent", "refuted", 1.0, 0.7, 2e-6)
RESULT = ClaimResult(
    claim="suite.thm-1",
    variant="as-printed",
    title="A theorem",
    statement="a tends to b",
    kind="limit",
    source="suite, Theorem 1",
    model="DiagonalNet",
    loss="exponential",
    degree=2,
    verdict="supported",
    expected="supported",
    predicted=1.0,
    measured=1.000001,
    error={"fit": 1e-6, "total": 2e-6},
    control=CONTROL,
    controls=(CONTROL,),
    ladder=(Rung(20.0, 0.9, 1e-3, 1.0), Rung(40.0, float("nan"), 1e-3, 1.0)),
    instances=4,
    seed=0,
    wall_s=0.5,
)
CLAIM = SimpleNamespace(
    id="suite.thm-1",
    title="A theorem",
    statement="a tends to b " * 20,
    source=SimpleNamespace(key="suite", where="Theorem 1", bibtex=lambda: "@article{suite,\n  year = {2024}\n}"),
    kind="limit",
    assumptions=("features are separable",),
    judged="extrapolated along the ladder",
    variants=("as-printed", "corrected"),
    expected={"as-printed": "refuted", "corrected": "supported"},
    control_names=("wrong-exponent", "shuffled-labels"),
    open_question=False,
)


class Suite:
    """Stands for `theorykit.checking`: what it is asked for is kept, what it answers can be set."""

    def __init__(self) -> None:
        self.results: tuple[ClaimResult, ...] = (RESULT,)
        self.broken: tuple[dict[str, str], ...] = ()
        self.interrupted = False
        self.asked: dict[str, Any] = {}

    def discover(self, patterns: Sequence[str], paths: Sequence[Path]) -> SimpleNamespace:
        for pattern in patterns:
            if pattern not in ("suite.thm-1", "suite.*"):
                raise unknown_name("claim", pattern, ["suite.thm-1"])
        return SimpleNamespace(claims=(CLAIM,), broken=self.broken, warnings=())

    def verify(self, *patterns: str, **asked: Any) -> VerificationResult:
        self.discover(patterns, asked["paths"])
        self.asked = {"patterns": patterns, **asked}
        environment = {"python": "3"}
        return VerificationResult(
            "0.1.0", asked["profile"], asked["seed"], environment, self.results, self.interrupted, 0.5, self.broken
        )


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suite:
    stand_in = Suite()
    for name in ("discover", "verify"):
        monkeypatch.setattr(theorykit.checking, name, getattr(stand_in, name), raising=False)
    return stand_in
