"""The strategies draw what they say, held against other solvers; the assertions fail where they must."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from scipy.optimize import linprog

import theorykit as tk
from theorykit import testing
from theorykit.checking import discover
from theorykit.models import MLP, DiagonalNet
from theorykit.programs import max_margin


def test_theorykit_does_not_need_hypothesis() -> None:
    script = (
        "import sys, theorykit.testing as t; t.assert_homogeneous; assert 'hypothesis' not in sys.modules; t.separable"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert {*testing.__all__} <= {*dir(testing)}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = testing.nonsense


@given(testing.separable())
def test_separable_data_have_the_margin_that_they_say(data: tk.Dataset) -> None:
    margin = float(data.name.split()[-1])
    found = max_margin(data.X, data.y, norm=2)
    assert found.certificate.lower <= margin * (1.0 + 1e-12)
    assert margin * (1.0 - 1e-12) <= found.certificate.upper
    testing.assert_certified(found, data.X, data.y, gap=1e-9)


@given(testing.separable(degenerate=True), testing.separable(samples=(3, 8), degenerate=False))
def test_degenerate_data_repeat_samples(degenerate: tk.Dataset, plain: tk.Dataset) -> None:
    assert len(np.unique(degenerate.X, axis=0)) < degenerate.n
    assert len(np.unique(plain.X, axis=0)) == plain.n


@given(testing.inseparable())
def test_inseparable_data_are_so_by_a_linear_program(data: tk.Dataset) -> None:
    """HiGHS finds no w with y_i <w, x_i> >= 1, and the sum of all y_i x_i vanishes exactly."""
    z = data.X * data.y[:, None]
    assert not z.sum(axis=0).any()
    assert linprog(np.zeros(data.d), A_ub=-z, b_ub=-np.ones(data.n), bounds=(None, None)).status == 2


@given(testing.regression())
def test_regression_data_have_the_condition_that_they_say(data: tk.Dataset) -> None:
    condition = float(data.name.split()[-1]) if data.n > 1 else 1.0
    assert np.linalg.cond(data.X) == pytest.approx(condition, rel=1e-9)
    assert np.linalg.norm(data.X, 2) == pytest.approx(1.0)


@given(st.data(), st.booleans())
def test_models_are_homogeneous_with_zero_output_at_the_start(data: st.DataObject, smooth: bool) -> None:
    model = data.draw(testing.models(3, smooth=smooth))
    X = np.random.default_rng(0).standard_normal((4, 3))
    if smooth:
        testing.assert_homogeneous(model, X)
    assert not model.output(model.direction("theory"), X).any()


@settings(max_examples=5)
@given(testing.problems(model=DiagonalNet(4), features=(4, 4), samples=(1, 3)))
def test_problems_flow(problem: tk.Problem) -> None:
    assert tk.gradient_flow(problem, s_end=0.5, rtol=1e-6).status == "reached_end"


def test_ranges_that_are_none_are_refused() -> None:
    for strategy in (testing.separable(samples=(3, 2)), testing.regression(samples=(4, 4), features=(3, 3))):
        with pytest.raises((tk.InputError, InvalidArgument), match="samples"):
            find(strategy, lambda data: True)
    with pytest.raises(tk.InputError, match="task"):
        testing.datasets("multiclass")


class Cubic(MLP):
    """A net that says its degree is another one."""

    @property
    def degree(self) -> int:
        return super().degree + 1


def test_assertions_about_models_and_certificates_fail() -> None:
    with pytest.raises(AssertionError, match="homogeneous"):
        testing.assert_homogeneous(Cubic((2, 3, 1), activation="z^2"), [[1.0, 2.0]])
    X, y = [[1.0, 0.3], [0.2, 2.0]], [1, -1]
    found = max_margin(X, y)
    with pytest.raises(AssertionError, match="gap"):
        testing.assert_certified(found, X, y, gap=-1.0)
    with pytest.raises(AssertionError, match="not the ones this certificate was made for"):
        testing.assert_certified(found, X, [1, 1])


def test_assertions_about_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    (claim,) = discover(["lyu2024.thm-3.4"]).claims
    families = claim.instances
    monkeypatch.setattr(claim, "instances", lambda self, rng: list(families(self, rng))[:1])
    testing.assert_refuted(claim, "as-printed")
    testing.assert_supported(claim, "corrected")
    testing.assert_broken_refuted(claim)
    with pytest.raises(AssertionError, match=r"lyu2024.thm-3.4: refuted, not supported, on diagonal exponential"):
        testing.assert_supported(claim, "as-printed")
    with pytest.raises(AssertionError, match=r"supported, not refuted, .*measured .* predicted 1"):
        testing.assert_refuted(claim)
    monkeypatch.setattr(claim, "broken", lambda self: self.controls()[:0])
    with pytest.raises(AssertionError, match="gives nothing"):
        testing.assert_broken_refuted(claim)
