"""What the mathematics leaves unchanged along flows of general models; `benchmarks/evidence.py` has more of each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location(
    "flow_invariances", Path(__file__).parent.parent / "oracle" / "flow_invariances.py"
)
assert _spec is not None
assert _spec.loader is not None
invariances = importlib.util.module_from_spec(_spec)
sys.modules["flow_invariances"] = invariances
_spec.loader.exec_module(invariances)


@pytest.mark.parametrize("kind", invariances.KINDS)
def test_two_ways_to_one_flow_agree(kind):
    rng = np.random.default_rng(invariances.KINDS.index(kind))
    rows = list(invariances.compare(invariances.random_case(kind, rng), rng))
    assert {"semigroup", "samples"} <= {row["invariance"] for row in rows}
    for row in rows:
        assert row["gap"] <= 30.0 * row["rtol"] + invariances.NOISE, row
        assert row["gap / estimates"] <= 3.0, row  # how often it is at most 1 is counted in the evidence
        assert row["drift of norm"] <= 30.0 * row["rtol"], row
        assert row["drift of energy"] <= 1e-3, row
        assert row["drift of balancedness"] <= 30.0 * row["rtol"], row
