"""A sample of the random small nets on which flows and kernels are held against PyTorch; the evidence runs all."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; the agreement with it is part of the evidence")


def test_flows_and_kernels_agree_with_pytorch():
    import torch_agreement

    for row in torch_agreement.run(4, seed=1):
        assert abs(row["slope"] - 1.0) < 0.1, row
        assert row["extrapolated"] < (0.2 if row["kinks"] else 0.02) * row["error"], row
        assert row["ntk"] < 1e-12, row
