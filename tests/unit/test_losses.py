"""The losses in the log domain, against mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import theorykit as tk
from theorykit.losses import (
    EXPONENTIAL,
    LOGISTIC,
    LOSSES,
    SQUARED,
    log_derivatives,
    log_loss,
    log_losses,
    log_minus_derivative,
    loss_code,
    margins,
)

MARGINS = [-1e4, -800.0, -40.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 29.9, 30.1, 40.0, 800.0, 1e4]


def exact(code: int, q: float) -> tuple[float, float]:
    """Return log loss and log of minus its derivative."""
    with mpmath.workdps(50):
        q = mpmath.mpf(q)
        if code == EXPONENTIAL:
            return float(-q), float(-q)
        loss = mpmath.log1p(mpmath.exp(-q)) if q > -5000 else -q
        return float(mpmath.log(loss)), float(-mpmath.log1p(mpmath.exp(q)) if q < 5000 else -q)


@pytest.mark.parametrize("code", [EXPONENTIAL, LOGISTIC])
@pytest.mark.parametrize("q", MARGINS)
def test_against_mpmath(code, q):
    loss, slope = exact(code, q)
    assert log_loss(code, np.array(q)) == pytest.approx(loss, rel=1e-12, abs=1e-13)
    assert log_minus_derivative(code, np.array(q)) == pytest.approx(slope, rel=1e-12, abs=1e-13)


def test_codes_follow_the_names():
    assert [loss_code(name) for name in LOSSES] == [EXPONENTIAL, LOGISTIC, SQUARED] == [0, 1, 2]


def test_unknown_names_get_a_suggestion():
    with pytest.raises(tk.InputError, match=r"loss: got 'expontial'; wanted one of .*did you mean 'exponential'"):
        loss_code("expontial")


def test_logistic_derivative_is_continuous_at_the_change_of_formula():
    q = np.array([29.999999, 30.000001])
    assert np.diff(log_loss(LOGISTIC, q))[0] == pytest.approx(-2e-6, rel=1e-6)


def exact_cross_entropy(f, y):
    """Return log loss, and log|derivative| and sign for every output."""
    with mpmath.workdps(100_100 if np.max(np.abs(f)) > 5e3 else 200):
        f = [mpmath.mpf(float(value)) for value in f]
        rest = mpmath.fsum(mpmath.exp(f[j] - f[y]) for j in range(len(f)) if j != y)
        softmax = [mpmath.exp(f[j] - f[y]) / (1 + rest) for j in range(len(f))]
        slopes = [-rest / (1 + rest) if j == y else softmax[j] for j in range(len(f))]
        logs = [float(mpmath.log(abs(slope))) for slope in slopes]
        return float(mpmath.log(mpmath.log1p(rest))), logs, [float(mpmath.sign(slope)) for slope in slopes]


@given(
    hnp.arrays(np.float64, (3, 4), elements=st.floats(-300, 300)), st.lists(st.integers(0, 3), min_size=3, max_size=3)
)
def test_cross_entropy_against_mpmath(f, y):
    losses, (logs, signs) = log_losses("cross_entropy", f, y), log_derivatives("cross_entropy", f, y)
    for i in range(3):
        loss, exact_logs, exact_signs = exact_cross_entropy(f[i], y[i])
        assert losses[i] == pytest.approx(loss, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(logs[i], exact_logs, rtol=1e-12, atol=1e-12)
        assert signs[i].tolist() == exact_signs


def test_cross_entropy_of_huge_outputs():
    f = np.array([[1e5, 0.0, -1e5], [-1e5, 1e5, 0.0]])
    logs, signs = log_derivatives("cross_entropy", f, [0, 0])
    np.testing.assert_allclose(log_losses("cross_entropy", f, [0, 0]), [-1e5, np.log(2e5)], rtol=1e-15)
    np.testing.assert_allclose(logs, [[-1e5, -1e5, -2e5], [0.0, 0.0, -1e5]], rtol=1e-15)
    assert signs.tolist() == [[-1.0, 1.0, 1.0]] * 2


@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(-50, 50)), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_cross_entropy_pulls_as_much_as_it_pushes(f, y):
    logs, signs = log_derivatives("cross_entropy", f, y)
    pushes = signs * np.exp(logs)
    np.testing.assert_allclose(pushes.sum(axis=1), 0.0, atol=1e-13)


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=6), st.integers(0, 63))
def test_two_classes_are_the_logistic_loss(f, bits):
    f = np.array(f)
    y = np.array([(bits >> k) & 1 for k in range(f.size)])
    pair = np.column_stack([np.zeros_like(f), f])
    signed = 2.0 * y - 1.0
    np.testing.assert_allclose(log_losses("cross_entropy", pair, y), log_losses("logistic", f, signed), rtol=1e-13)
    np.testing.assert_allclose(margins(pair, y), margins(f, signed), rtol=0)
    ours, theirs = log_derivatives("cross_entropy", pair, y), log_derivatives("logistic", f, signed)
    np.testing.assert_allclose(ours[0][:, 1], theirs[0], rtol=1e-13, atol=1e-13)
    assert np.array_equal(ours[1][:, 1], theirs[1])


@given(hnp.arrays(np.float64, (4, 5), elements=st.floats(-9, 9)), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_margins_of_classes_by_brute_force(f, y):
    slow = [min(f[i, y[i]] - f[i, j] for j in range(5) if j != y[i]) for i in range(4)]
    assert margins(f, y).tolist() == slow


@given(
    hnp.arrays(np.float64, (4,), elements=st.floats(-30, 30)), st.sampled_from(["exponential", "logistic", "squared"])
)
def test_derivatives_are_those_of_the_losses(f, loss):
    y, step = np.array([1.0, -1.0, 1.0, -1.0]), 1e-6
    logs, signs = log_derivatives(loss, f, y)
    up, down = (np.exp(log_losses(loss, f + sign * step, y)) for sign in (1, -1))
    slopes = signs * np.exp(logs)
    np.testing.assert_allclose(slopes, (up - down) / (2 * step), rtol=1e-6, atol=1e-6 + 1e-8 * np.max(np.abs(up)))


def test_outputs_may_be_integers():
    assert margins([[3, 1]], [0]).tolist() == [2.0]
    assert log_losses("cross_entropy", [[3, 1]], [0]).tolist() == log_losses("logistic", [2], [1]).tolist()


def test_squared_loss_of_several_outputs_is_their_sum():
    f, y = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(np.exp(log_losses("squared", f, y)), [5.0, 0.0])
    logs, signs = log_derivatives("squared", f, y)
    np.testing.assert_allclose(signs * np.exp(logs), 2.0 * (f - y))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_losses("cross_entropy", np.zeros((2, 3)), [0, 3]), "y: got 3 at index 1; wanted class numbers"),
        (lambda: log_losses("cross_entropy", np.zeros((2, 3)), [0, 0.5]), "y: got 0.5 at index 1"),
        (
            lambda: margins(np.zeros((2, 3)), [-1, 0]),
            "y: got -1 at index 0; wanted class numbers, integers from 0 to 2",
        ),
        (lambda: log_losses("cross_entropy", np.zeros(2), [0, 1]), r"f: got outputs of shape \(2,\)"),
        (lambda: log_losses("logistic", np.zeros((2, 3)), [1, 1]), "one output a sample"),
        (lambda: log_losses("logistic", np.zeros(2), [1, 0]), "y: got 0 at index 1; wanted every label"),
        (lambda: log_derivatives("squared", np.zeros(2), [[1.0], [0.0]]), r"y: got shape \(2, 1\)"),
        (lambda: log_losses("crossentropy", np.zeros((2, 3)), [0, 1]), "loss: got 'crossentropy'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(tk.InputError, match=message):
        call()
