"""The losses in the log domain, against mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import theorykit as tk
from theorykit.losses import EXPONENTIAL, LOGISTIC, LOSSES, SQUARED, log_loss, log_minus_derivative, loss_code

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
