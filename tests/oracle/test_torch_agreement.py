"""A sample of the random small nets on which flows and kernels are held against PyTorch; the evidence runs all."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed; the agreement with it is part of the evidence")

_spec = importlib.util.spec_from_file_location("torch_agreement", Path(__file__).with_name("torch_agreement.py"))
assert _spec is not None
assert _spec.loader is not None
agreement = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(agreement)


def test_flows_and_kernels_agree_with_pytorch():
    for row in agreement.run(4, seed=1):
        assert abs(row["slope"] - 1.0) < 0.1, row
        assert row["extrapolated"] < 0.2 * row["error"], row
        assert row["ntk"] < 1e-12, row
