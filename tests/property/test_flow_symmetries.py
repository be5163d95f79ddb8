"""What the mathematics of the flow leaves unchanged, and the exact identities along it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import theorykit as tk
from theorykit import testing
from theorykit.losses import LOSSES

TAUS = np.array([0.1, 0.7, 1.4, 2.1])


class Instance(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    loss: str
    degree: int
    log_alpha: float
    log_weight_decay: float


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    loss = draw(st.sampled_from(LOSSES))
    data = draw(
        testing.regression(samples=(1, 6), features=(6, 9), condition=(1.0, 10.0))
        if loss == "squared"
        else testing.separable(samples=(1, 6), features=(2, 9))
    )
    return Instance(
        data.X,
        data.y,
        loss,
        draw(st.integers(2, 4)),
        draw(st.floats(-0.5, 2.0)),
        draw(st.floats(-4.0, -1.0)),
    )


def flow(instance: Instance, rtol: float = 1e-9) -> tk.Trajectory:
    task = "regression" if instance.loss == "squared" else "classification"
    data = tk.Dataset.from_arrays(instance.X, instance.y, task=task)
    problem = tk.Problem(
        tk.models.DiagonalNet(d=data.d, degree=instance.degree),
        data,
        loss=instance.loss,
        log_alpha=instance.log_alpha,
        log_weight_decay=instance.log_weight_decay,
    )
    return tk.gradient_flow(problem, tau_end=float(TAUS[-1]), rtol=rtol, save=tk.SaveAt(tau=TAUS)).raise_for_status()


def weights(instance: Instance) -> np.ndarray:
    trajectory = flow(instance)
    return np.array([trajectory.weights(i) for i in range(TAUS.size)])


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.max(np.abs(actual - expected)) <= 2e-6 * max(1.0, np.max(np.abs(expected)))


@given(instances(), st.randoms(use_true_random=False))
def test_order_of_samples_and_features_does_not_matter(instance, random):
    rows = random.sample(range(instance.X.shape[0]), instance.X.shape[0])
    columns = random.sample(range(instance.X.shape[1]), instance.X.shape[1])
    shuffled = instance._replace(X=instance.X[rows][:, columns], y=instance.y[rows])
    assert_close(weights(shuffled), weights(instance)[:, columns])


@given(instances())
def test_signs(instance):
    w = weights(instance)
    assert_close(weights(instance._replace(X=-instance.X, y=-instance.y)), w)  # f(-x) = -f(x)
    assert_close(weights(instance._replace(y=-instance.y)), -w)  # u and v change places
    flip = np.where(np.arange(instance.X.shape[1]) % 2, 1.0, -1.0)
    assert_close(weights(instance._replace(X=instance.X * flip)), w * flip)


@given(instances(), st.floats(0.2, 5.0))
def test_scaling_the_inputs_scales_start_and_weight_decay(instance, c):
    """With x' = c x, alpha' = c^(-1/L) alpha and lambda' = c^(2/L) lambda: w' = w/c at the same lambda t."""
    scaled = instance._replace(
        X=c * instance.X,
        log_alpha=instance.log_alpha - np.log(c) / instance.degree,
        log_weight_decay=instance.log_weight_decay + 2.0 * np.log(c) / instance.degree,
    )
    assert_close(c * weights(scaled), weights(instance))


@given(instances())
def test_repeated_samples_change_nothing(instance):
    """The loss is a mean; and with more samples than features the state lives in another basis."""
    times = 1 + instance.X.shape[1] // instance.X.shape[0]
    repeated = instance._replace(X=np.tile(instance.X, (times + 1, 1)), y=np.tile(instance.y, times + 1))
    assert_close(weights(repeated), weights(instance))


@given(instances())
def test_a_feature_that_is_never_seen_stays_silent(instance):
    wider = instance._replace(X=np.insert(instance.X, 1, 0.0, axis=1))
    w = weights(wider)
    np.testing.assert_allclose(w[:, 1], 0.0, atol=1e-13)
    assert_close(np.delete(w, 1, axis=1), weights(instance))


@given(instances())
def test_exact_identities_hold_along_the_path(instance):
    drift = flow(instance).diagnostics["drift"]
    assert drift["norm"] < 1e-5
    assert drift["energy"] < 1e-3
    assert drift["balancedness"] < 1e-9


@given(instances())
def test_weights_explain_the_statistics(instance):
    """Losses, margins and the norm bound follow from w alone."""
    trajectory = flow(instance)
    w = np.array([trajectory.weights(i) for i in range(TAUS.size)])
    f = w @ instance.X.T
    q = f * instance.y
    if instance.loss == "squared":
        loss = np.mean((f - instance.y) ** 2, axis=1)
    elif instance.loss == "exponential":
        loss = np.mean(np.exp(-q), axis=1)
    else:
        loss = np.mean(np.logaddexp(0.0, -q), axis=1)
    np.testing.assert_allclose(trajectory.stats["train_loss"], loss, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.exp(trajectory.stats["log_train_loss"]), trajectory.stats["train_loss"], rtol=1e-12)
    if instance.loss != "squared":
        np.testing.assert_allclose(trajectory.stats["output_margin"], q.min(axis=1), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(trajectory.stats["train_accuracy"], np.mean(q > 0.0, axis=1))
        margin = q.min(axis=1) / trajectory.stats["norm"] ** instance.degree
        np.testing.assert_allclose(trajectory.stats["margin"], margin, rtol=1e-9, atol=1e-12)
    # |u|^L + |v|^L >= |w| coordinate by coordinate
    assert np.all(trajectory.stats["norm"] >= np.abs(w).max(axis=1) ** (1.0 / instance.degree) * (1.0 - 1e-12))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_run_twice_is_the_same_to_the_last_bit(loss):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(4) if loss == "squared" else rng.choice([-1.0, 1.0], 4)
    instance = Instance(rng.standard_normal((4, 9)), y, loss, 3, 1.5, -3.0)
    first, second = flow(instance), flow(instance)
    for name, values in first.stats.items():
        np.testing.assert_array_equal(values, second.stats[name])
