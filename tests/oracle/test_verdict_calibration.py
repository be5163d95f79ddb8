"""A sample of the calibration of verdicts; all of it: benchmarks/evidence.py, part calibration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import verdict_calibration as calibration

COUNT = 12


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return calibration.run(COUNT, seed=7)


def test_true_claims_are_supported_and_false_ones_refuted(rows: list[dict[str, object]]) -> None:
    assert len(rows) == len(calibration.SETTINGS) * len(calibration.KINDS) + 3
    assert not calibration.faults(rows)


def test_what_no_form_can_stand_for_shows(rows: list[dict[str, object]]) -> None:
    """The calibration can fail: slower powers refute true claims."""
    assert max(row["true: refuted"] for row in rows if row["approach"] == calibration.OUTSIDE) > 0.2


def test_the_page_has_every_row(rows: list[dict[str, object]]) -> None:
    lines = calibration.page(rows, COUNT).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(rows) + 2  # a head and a rule
    assert all(line.count("|") == 9 for line in lines if line.startswith("|"))
