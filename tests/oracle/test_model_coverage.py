"""A sample of how often error estimates of general models cover the true error: `benchmarks/evidence.py` has 1 000."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

import theorykit as tk

FOLDER = Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


agreement, coverage = load("model_flow_agreement"), load("model_flow_coverage")


def test_estimates_cover_the_true_errors():
    rows = list(coverage.run(14, seed=3))
    assert {row["model"] for row in rows} == set(agreement.NETS)
    for name in coverage.STATISTICS:
        ratios = sorted(row[f"{name}, error / estimate"] for row in rows)
        assert ratios[-2] <= 1.0, name  # one of fourteen may miss, by little
        assert ratios[-1] <= 2.0, name


def test_an_estimate_does_not_vanish_where_the_difference_to_the_companion_does():
    """It changes its sign several times in a step: at one time alone it says nothing."""
    rng = np.random.default_rng(0)
    problem = agreement.random_problem("linear", "logistic", rng)
    flow = tk.gradient_flow(problem, tau_end=2.0, rtol=1e-5)
    taus = np.geomspace(0.05, 2.0, 400)
    now = [flow.at(tau=float(tau)) for tau in taus]
    alone = np.array([abs(at["log_train_loss"] - at.looser["log_train_loss"]) for at in now])
    changes = np.flatnonzero(alone < 0.02 * alone.max())
    assert changes.size
    assert min(now[k].error("log_train_loss") for k in changes) >= 1e-5  # the local tolerance
    assert np.all(flow.errors["log_train_loss"] >= 1e-5)
