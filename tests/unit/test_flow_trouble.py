"""Flows of a user's model that goes wrong on the way: a status with advice, or an error that says what."""

from __future__ import annotations

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import reduction
from theorykit.models import MLP, DiagonalNet, UserModel

X, Y = np.array([[1.0, 2.0], [0.5, -1.0], [1.0, 0.2]]), np.array([1.0, -1.0, 1.0])


def problem(spoiled):
    """Return a problem whose model is right when it is tested, and later what `spoiled` makes of its outputs."""
    tested = []

    def output(theta, X):
        f = X @ theta[:2] * theta[2]
        return spoiled(theta, f) if tested else f

    def jacobian(theta, X):
        return np.column_stack([X * theta[2], X @ theta[:2]])

    net = UserModel(output, parameters=3, X=X, jacobian=jacobian, direction=[1.0, 1.0, 0.0])
    made = tk.Problem(net, tk.Dataset.from_arrays(X, Y), alpha=1.0, weight_decay=0.1, init=[1.0, 1.0, 0.1])
    tested.append(True)
    return made


def flow(spoiled):
    return tk.gradient_flow(problem(spoiled), tau_end=1.0, rtol=1e-5, save=tk.SaveAt(num=5))


def test_nan_on_the_way_ends_the_flow_there():
    def nan(theta, f):
        return f * np.nan if theta[2] > 0.5 else f

    trajectory = flow(nan)
    assert trajectory.status in ("not_finite", "step_too_small")
    assert trajectory.tau[-1] < 1.0
    assert np.isfinite(trajectory.stats["log_train_loss"]).all()
    unit, log_norm = trajectory.parameters(-1)
    assert np.exp(log_norm) * unit[2] == pytest.approx(0.5, abs=0.2)
    with pytest.raises(tk.FlowError, match="the flow stopped at tau"):
        trajectory.raise_for_status()


def test_nan_from_the_start_is_refused():
    with pytest.raises(tk.InputError, match="problem: got outputs or gradients that are not finite at the start"):
        flow(lambda theta, f: f * np.nan)


def test_another_shape_on_the_way_is_refused():
    with pytest.raises(tk.InputError, match="shape"):
        flow(lambda theta, f: f[:2] if theta[2] > 0.5 else f)


def test_an_exception_comes_out_as_itself():
    def raises(theta, f):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        flow(raises)


SIGNS = tk.datasets.sparse_sign(n=4, d=6, k=1, seed=0)
MODULAR = tk.datasets.modular(p=5, fraction=0.6, seed=0)
FLOWS = {
    "frames": (tk.Problem(MLP((6, 3, 1), "z^2"), SIGNS, log_alpha=5.0, log_weight_decay=-5.0), {}),
    "dual": (tk.Problem(DiagonalNet(6), SIGNS, log_alpha=5.0, log_weight_decay=-5.0), {}),
    "streamed": (
        tk.Problem(MLP((10, 8, 5), symbols=5), MODULAR, "cross_entropy", alpha=1.0, weight_decay=0.01, init="he"),
        {"method": "streamed", "rtol": 0.01},
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_too_few_steps_give_what_there_is(name):
    given, settings = FLOWS[name]
    short = tk.gradient_flow(given, tau_end=2.0, max_steps=7, **settings)
    assert short.status in ("max_steps", "too_many_steps")
    assert "max_steps" in short.message
    assert short.diagnostics["counts"]["run"]["steps"] == 7
    assert short.tau[-1] < 2.0
    assert tk.gradient_flow(given, tau_end=2.0, max_steps=10**6, **settings).status == "reached_end"
    with pytest.raises(tk.InputError, match="max_steps: got 0; wanted an integer >= 1"):
        tk.gradient_flow(given, tau_end=2.0, max_steps=0, **settings)


KINKS = tk.Problem(MLP((6, 3, 1), "relu"), SIGNS, log_alpha=0.0, log_weight_decay=-3.0), {}


@pytest.mark.parametrize("name", [*FLOWS, "kinks"])
def test_the_steps_a_flow_needs_are_enough_and_fewer_are_not(name):
    given, settings = (FLOWS | {"kinks": KINKS})[name]

    def steps(trajectory):
        return max(trajectory.diagnostics["counts"][run]["steps"] for run in ("run", "companion"))

    whole = tk.gradient_flow(given, tau_end=2.0, **settings)
    assert whole.status == "reached_end"
    if name == "kinks":
        assert whole.diagnostics["counts"]["run"]["kinks"] > 0
    assert tk.gradient_flow(given, tau_end=2.0, max_steps=steps(whole), **settings).status == "reached_end"
    for fewer in (steps(whole) - 1, steps(whole) // 2):
        assert steps(tk.gradient_flow(given, tau_end=2.0, max_steps=fewer, **settings)) == fewer


def test_a_statistic_that_touches_a_level_has_two_crossings_or_none():
    given, _ = FLOWS["dual"]
    trajectory = tk.gradient_flow(given, tau_end=4.0)
    ends = trajectory.step_ends
    lowest = int(np.argmin([trajectory.at(log_tau=float(end))["log_train_loss"] for end in ends]))
    low, high = ends[lowest - 1], ends[lowest + 1]
    inside = np.linspace(low, high, 2001)
    least = min(trajectory.at(log_tau=float(at))["log_train_loss"] for at in inside)
    assert trajectory.crossings(tk.Crossing("log_train_loss", least - 1e-6)) == ()
    falls, rises = trajectory.crossings(tk.Crossing("log_train_loss", least + 1e-6))
    assert (falls.direction, rises.direction) == (-1, 1)
    assert low < np.log(falls.tau) < np.log(rises.tau) < high


def test_a_companion_that_ends_early_gives_the_trajectory_its_status(monkeypatch):
    """Errors are known as far as both runs come, and so is the trajectory."""
    step = reduction.Run.step

    def limited(run):
        if run.rtol > 5e-8:  # the companion's
            run.max_steps = 20
        step(run)

    monkeypatch.setattr(reduction.Run, "step", limited)
    given, _ = FLOWS["dual"]
    trajectory = tk.gradient_flow(given, tau_end=4.0, rtol=1e-8, save=tk.SaveAt(num=50))
    assert trajectory.counts["statuses"][0] == "reached_end"
    assert trajectory.status == trajectory.counts["statuses"][1] == "too_many_steps"
    assert trajectory.tau[-1] < 4.0
