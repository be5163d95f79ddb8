"""Standard problems: stiff ones correct to the digits asked for, others against SciPy; error estimates on samples."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from theorykit.flow import integrate


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


problems = load("ode_problems")
agreement = load("ode_error_agreement")
STIFF = [problem for problem in problems.STIFF if problem.name != "ring modulator"]


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
@pytest.mark.parametrize("method", ["auto", "radau5", "radau9", "radau13"])
@pytest.mark.parametrize("problem", STIFF, ids=lambda problem: problem.name)
def test_stiff_problems_to_the_digits_asked_for(problem, method, rtol):
    result = integrate(problem.f, problem.y0, (0.0, problem.t_end), method=method, rtol=rtol, atol=rtol * problem.scale)
    assert result.status == "reached_end"
    assert problems.error(problem, result.y_end, problem.reference) < 10.0 * rtol


def test_ring_modulator():
    problem = problems.STIFF[-1]
    result = integrate(
        problem.f, problem.y0, (0.0, problem.t_end), method="radau13", rtol=1e-6, atol=1e-8, companion=False
    )
    assert problems.error(problem, result.y_end, problem.reference) < 1e-5


@pytest.mark.parametrize("problem", problems.DETEST, ids=lambda problem: problem.name)
def test_detest_against_scipy(problem):
    result = integrate(problem.f, problem.y0, (0.0, problem.t_end), rtol=1e-9, atol=1e-9)
    exact = solve_ivp(problem.python(), (0.0, problem.t_end), problem.y0, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    assert result.status == "reached_end"
    assert len(result.switches) == 1  # none of them is stiff
    assert np.max(np.abs(result.y_end - exact)) <= result.y_error[-1]


def test_error_estimates_cover_true_errors():
    """A sample; `benchmarks/evidence.py` takes 1 000."""
    rows = agreement.run(140, seed=1)
    for key in ("covers", "covers the statistic"):
        assert np.mean([row[key] for row in rows]) >= 0.95
    assert np.median([row["estimate"] / max(row["error"], 1e-300) for row in rows]) < 100.0  # and is no mere excuse
