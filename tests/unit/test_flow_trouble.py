"""Flows of a user's model that goes wrong on the way: a status with advice, or an error that says what."""

from __future__ import annotations

import numpy as np
import pytest

import theorykit as tk
from theorykit.models import UserModel

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
