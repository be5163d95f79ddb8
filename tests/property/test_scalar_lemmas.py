"""Lemmas C.1, C.2, C.3 by hypothesis in mpmath, and the machinery that proves them: it must not prove what is false."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from theorykit.verifications.lyu2024 import scalar_lemmas as lemmas

t = lemmas._t
magnitudes = st.floats(-280.0, 280.0)


@given(magnitudes)
def test_inverse_is_above_the_quotient(log_y):
    with mp.workdps(700):
        y = mp.mpf(10) ** log_y
        x = y / mp.lambertw(y)
        assert mp.almosteq(x * mp.log(x), y, rel_eps=mp.mpf(10) ** -300)
        assert x >= y / mp.log(y + 1)


@given(magnitudes, st.floats(-30.0, 30.0))
def test_inverse_less_one_is_concave_through_zero(log_y, log_odds):
    with mp.workdps(700):
        y, beta = mp.mpf(10) ** log_y, 1 / (1 + mp.mpf(10) ** log_odds)
        whole, part = (value / mp.lambertw(value) - 1 for value in (y, beta * y))
        assert part >= beta * whole


@given(st.lists(st.floats(1e-200, 1e200), min_size=1, max_size=30))
def test_mean_of_r_log_r_is_between(values):
    with mp.workdps(60):
        r = [mp.mpf(value) for value in values]
        m = sum(r) / len(r)
        middle = sum(value * mp.log(1 / value) for value in r) / len(r)
        slack = mp.mpf(10) ** -40 * (abs(middle) + m)
        assert m * mp.log(1 / (len(r) * m)) <= middle + slack
        assert middle <= m * mp.log(1 / m) + slack


@pytest.mark.parametrize("claim", [lemmas.InverseBelow, lemmas.InverseConcave, lemmas.MeanLogarithm])
def test_proved_bounds_are_below_the_function(claim):
    """The lower bound of each product, against the product in mpmath at points it did not choose."""
    rng = np.random.default_rng(0)
    for product in claim(lemmas.Tools("quick")).statements("")[lemmas.BALLS]:
        value, found = sp.lambdify(t, product.falling * product.rising, "mpmath"), product.measure()
        with mp.workdps(700):
            end = product.range[1]
            inside = 10.0 ** rng.uniform(*np.log10(product.range), 200)
            past = end + rng.random(20) * ((1.0 if end < 1.0 else 10.0 * end) - end)
            for point in (*inside, *past):
                assert found.measured - found.certificate <= value(mp.mpf(point))


def test_products_are_refused_unless_they_fall():
    rising = lemmas.Product((sp.exp(t) - 1 - t) / t**2, sp.Integer(1), sp.exp(t), 3)
    assert math.isnan(rising.measure().measured)


@pytest.mark.parametrize(
    ("S", "zero", "expected"),
    [
        (t - 1 - sp.log(t), 1, 0.5),
        ((t - 1) ** 2, 1, 1.0),
        (1 - sp.exp(t), 0, -0.5),
        (sp.log(t), 0, -1.0),
        (-(t**2), 0, -1.0),
        (sp.Integer(1) - t, 0, math.nan),  # positive at 0, not later
        (t**2 - t**3, 0, math.nan),
    ],
)
def test_convexity_is_proved_or_nothing_is_said(S, zero, expected):
    assert lemmas.Convex(S, zero).measure().measured == pytest.approx(expected, nan_ok=True)


def test_smallest_value_of_a_product_with_a_known_minimum():
    """(1/t)(1 + t^2) has its minimum 2 at t = 1; the first piece (0, begin] is bounded by falling(begin) rising(0)."""
    value, lower, where = lemmas._smallest(lambda x: 1 / x, lambda x: 1 + x * x, (0.2, 1e5))
    assert value == pytest.approx(2.0, rel=1e-3)
    assert 2.0 * (1.0 - 2e-3) <= lower <= 2.0
    assert where == pytest.approx(1.0, abs=0.05)
