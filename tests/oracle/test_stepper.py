"""A flow step by step takes the steps of `gradient_flow`, to the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import theorykit as tk
from theorykit import InputError
from theorykit.flow import Stepper
from theorykit.flow.problem import Problem

DATA = tk.datasets.sparse_sign(n=4, d=3, k=1, seed=0)
TARGETS = tk.datasets.Dataset.from_arrays(
    np.random.default_rng(0).standard_normal((3, 3)), np.array([0.5, -1.0, 2.0]), task="regression", name="three"
)
LABELS = tk.datasets.Dataset.from_arrays(TARGETS.X, np.sign(TARGETS.y), name="three")
PROBLEMS = {
    "kernel to rich": Problem(tk.models.MLP((3, 4, 1), "z^2"), DATA, log_alpha=5.0, log_weight_decay=-5.0),
    "kinks": Problem(tk.models.MLP((3, 4, 1), "relu"), DATA, alpha=2.0, weight_decay=0.1, init="he", seed=1),
    "slaved": Problem(tk.models.MLP((3, 6, 1), "z^2"), TARGETS, "squared", log_alpha=30.0, log_weight_decay=-30.0),
    "no decay": Problem(tk.models.MLP((3, 4, 1), "z^2"), LABELS, alpha=2.0, weight_decay=0.0),
}
ENDS = {
    "kernel to rich": {"s_end": 1.3},
    "kinks": {"tau_end": 1.0},
    "slaved": {"s_end": 0.9},
    "no decay": {"log_t_end": 30.0},
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_steps_and_statistics_are_those_of_gradient_flow(name: str) -> None:
    problem, end = PROBLEMS[name], ENDS[name]
    flow = tk.gradient_flow(problem, **end, rtol=1e-6)
    walk, log_taus = Stepper(problem, **end, rtol=1e-6), []
    while walk.running:
        walk.step()
        log_taus.append(walk.log_t + (problem.log_weight_decay if math.isfinite(problem.log_weight_decay) else 0.0))
        if len(log_taus) in (1, 20, 60):
            for key, value in walk.statistics().items():
                np.testing.assert_allclose(value, flow.at(log_t=walk.log_t)[key], rtol=1e-9, atol=1e-20, err_msg=key)
    assert walk.status == flow.status == "reached_end"
    assert walk.steps == len(log_taus) == flow.diagnostics["counts"]["run"]["steps"]
    # the logarithm of t goes through lambda: the steps are the same to round-off
    np.testing.assert_allclose(np.array(log_taus)[:-1], flow.step_ends[:-1], rtol=1e-12, atol=1e-12)


def test_reads_parameters_and_outputs_where_it_is() -> None:
    problem = PROBLEMS["kernel to rich"]
    walk = Stepper(problem, s_end=1.3)
    for _ in range(30):
        walk.step()
    direction, log_norm = walk.parameters()
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    f = problem.model.output(direction, DATA.X) * math.exp(problem.model.degree * log_norm)
    np.testing.assert_allclose(walk.outputs(), f, rtol=1e-8)
    np.testing.assert_allclose(walk.outputs(DATA.X[:2]), f[:2], rtol=1e-8)
    assert walk.tau == pytest.approx(math.exp(walk.log_t + problem.log_weight_decay))


def test_bad_input() -> None:
    problem = PROBLEMS["kernel to rich"]
    with pytest.raises(InputError, match="rtol"):
        Stepper(problem, s_end=1.0, rtol=0.5)
    with pytest.raises(InputError, match="method"):
        Stepper(problem, s_end=1.0, method="dual")
    with pytest.raises(InputError, match="s_end"):
        Stepper(problem)
    walk = Stepper(problem, tau_end=1e-3)
    with pytest.raises(InputError, match="step"):
        walk.statistics()
    while walk.running:
        walk.step()
    with pytest.raises(InputError, match="over"):
        walk.step()
