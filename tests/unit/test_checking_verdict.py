"""From numbers with errors to verdicts: every branch."""

from __future__ import annotations

import itertools
import math

import pytest

from theorykit.checking.verdict import combine, judge_slacks, judge_value, worst

S, R, U, N = "supported", "refuted", "inconclusive", "not-applicable"


@pytest.mark.parametrize(
    ("measured", "error", "predicted", "resolution", "verdict"),
    [
        (1.0, 0.1, 1.05, math.inf, S),
        (1.0, 0.1, 1.05, 0.2, S),
        (1.0, 0.1, 1.05, 0.1, U),  # as wide as the distance to the control: not narrower
        (1.0, 0.5, 1.25, math.inf, S),
        (1.0, 0.25, 1.25, math.inf, S),  # the interval is closed
        (1.0, 0.25, 1.5, math.inf, R),
        (1.5, 0.25, 1.0, 1e-9, R),  # a refutation needs no resolution
        (math.nan, 0.1, 1.0, math.inf, U),
        (1.0, math.inf, 1.0, math.inf, U),
        (1.0, math.nan, 5.0, math.inf, U),
        (1.0, 0.1, math.nan, math.inf, U),
    ],
)
def test_judge_value(measured: float, error: float, predicted: float, resolution: float, verdict: str) -> None:
    assert judge_value(measured, error, predicted, resolution) == verdict


@pytest.mark.parametrize(
    ("slacks", "verdict"),
    [
        ([], U),
        ([(0.2, 0.1), (3.0, 0.0)], S),
        ([(0.2, 0.1), (0.1, 0.1)], U),  # touches zero
        ([(0.2, 0.1), (-0.1, 0.1)], U),
        ([(0.2, 0.1), (-0.11, 0.1)], R),
        ([(0.0, 0.0)], U),
        ([(-1e-300, 0.0)], R),
        ([(1.0, 0.1), (math.nan, 0.1)], U),
        ([(1.0, math.inf)], U),
        ([(-9.0, 0.1), (math.nan, 0.1)], U),
    ],
)
def test_judge_slacks(slacks: list[tuple[float, float]], verdict: str) -> None:
    assert judge_slacks(iter(slacks)) == verdict


@pytest.mark.parametrize(
    ("verdicts", "joined"),
    [
        ([], N),
        ([N, N], N),
        ([S, S, N], S),
        ([S, U], U),
        ([S, U, R], R),
        ([N, R], R),
        ([N, U], U),
    ],
)
def test_combine(verdicts: list[str], joined: str) -> None:
    for order in itertools.permutations(verdicts):
        assert combine(order) == joined


@pytest.mark.parametrize(
    ("verdicts", "bad"), [([R], R), ([R, N], R), ([R, U, N], U), ([R, U, S], S), ([S, R], S), ([N, N], N)]
)
def test_worst_names_the_control_that_survived(verdicts: list[str], bad: str) -> None:
    for order in itertools.permutations(verdicts):
        assert worst(order) == bad
