"""Extrapolation: exact where the form is exact, honest where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorykit import Expansion, InputError
from theorykit.checking.expansion import TERMS

LADDER = np.array([20.0, 40.0, 80.0, 160.0, 320.0, 640.0])
LONG = np.concatenate([LADDER, [1280.0, 2560.0]])
NUMBERS = st.floats(-10.0, 10.0)
FAMILIES = (
    Expansion(),
    Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"))),
    Expansion(("1", "1/x"), neighbours=(("1",), ("1", "log/x", "1/x")), leading="log"),
)


def ladder(leading: str, limit: float, terms: tuple[str, ...], coefficients: list[float], x: np.ndarray) -> np.ndarray:
    """Evaluate limit * leading + sum of coefficients * terms in extended precision."""
    x = x.astype(np.longdouble)
    y = limit * TERMS[leading](x)
    for name, coefficient in zip(terms, coefficients, strict=False):
        y = y + coefficient * TERMS[name](x)
    return y.astype(float)


@given(st.sampled_from(FAMILIES), NUMBERS, st.lists(NUMBERS, min_size=4, max_size=4))
def test_declared_family_is_recovered_exactly(expansion: Expansion, limit: float, coefficients: list[float]) -> None:
    fit = expansion.fit(LONG, ladder(expansion.leading, limit, expansion.terms, coefficients, LONG))
    assert fit.value == pytest.approx(limit, abs=1e-9)
    assert np.allclose(fit.fitted, ladder(expansion.leading, limit, expansion.terms, coefficients, LONG), atol=1e-9)


@given(NUMBERS, st.lists(NUMBERS, min_size=2, max_size=2))
def test_a_form_inside_every_neighbour_has_no_spread(limit: float, coefficients: list[float]) -> None:
    fit = Expansion().fit(LONG, ladder("1", limit, ("log/x", "1/x"), coefficients, LONG))
    assert fit.value == pytest.approx(limit, abs=1e-9)
    assert fit.error < 1e-8


@given(
    st.sampled_from(FAMILIES),
    NUMBERS,
    st.sampled_from(("log/x", "1/x", "log^2/x^2", "log/x^2", "1/x^2")),
    st.sampled_from((-1.0, 1.0)),
    st.floats(0.1, 10.0),
)
def test_error_covers_the_truth_when_the_ladder_has_one_foreign_term(
    expansion: Expansion, limit: float, term: str, sign: float, size: float
) -> None:
    """A single term of any of the forms, in the declared family or not: the bar must reach the true answer."""
    fit = expansion.fit(LADDER, ladder(expansion.leading, limit, (term,), [sign * size], LADDER))
    assert abs(fit.value - limit) <= fit.error + 1e-9


@given(st.sampled_from(FAMILIES), st.integers(0, 1), NUMBERS, st.lists(NUMBERS, min_size=5, max_size=5))
def test_error_covers_the_truth_when_a_neighbour_is_exact(
    expansion: Expansion, which: int, limit: float, coefficients: list[float]
) -> None:
    terms = expansion.neighbours[which]
    fit = expansion.fit(LONG, ladder(expansion.leading, limit, terms, coefficients, LONG))
    assert abs(fit.value - limit) <= fit.error + 1e-9


@given(NUMBERS, NUMBERS)
def test_forms_that_disagree_make_a_wide_bar(limit: float, a: float) -> None:
    expansion = Expansion(("1/x",), neighbours=(("log/x", "1/x"),))
    fit = expansion.fit(LADDER, ladder("1", limit, ("log/x",), [a], LADDER))
    assert abs(fit.value - limit) <= fit.spread + 1e-9
    assert fit.spread >= 2e-3 * abs(a)  # linear in the term that one form has and the other lacks


@given(NUMBERS, st.floats(-1.0, 1.0), st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
def test_noise_within_its_bounds_moves_the_answer_by_no_more_than_is_carried(
    limit: float, a: float, signs: list[float]
) -> None:
    expansion = Expansion(("1/x", "1/x^2"), neighbours=(("1/x",),))
    bounds = 1e-3 * np.arange(1.0, 7.0)
    clean = ladder("1", limit, ("1/x",), [a], LADDER)
    fit = expansion.fit(LADDER, clean + bounds * np.array(signs), bounds)
    assert abs(fit.value - limit) <= fit.carried * (1.0 + 1e-9)
    assert fit.error == fit.spread + fit.carried


def test_carried_noise_is_attained_and_scales() -> None:
    """The bound is sharp: the worst signs reach it; ten times the noise is ten times the bar."""
    expansion = Expansion(("1/x",), neighbours=())
    zero = np.zeros(6)
    carried = expansion.fit(LADDER, zero, 1e-3).carried
    answers = [
        expansion.fit(LADDER, 1e-3 * np.array(signs)).value
        for signs in np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).T.reshape(-1, 6)
    ]
    assert max(answers) == pytest.approx(carried, rel=1e-12)
    assert expansion.fit(LADDER, zero, 1e-2).carried == pytest.approx(10.0 * carried)
    assert expansion.fit(LADDER, zero).carried == 0.0


def test_weighted_fit_is_the_least_squares_of_numpy() -> None:
    """Rung k weighs x_k^2, here through numpy.linalg.lstsq on a ladder that the form does not fit."""
    y = 1.0 / np.sqrt(LADDER)
    fit = Expansion(("1/x",), neighbours=()).fit(LADDER, y)
    design = np.column_stack([np.ones(6), 1.0 / LADDER]) * LADDER[:, None] ** 2
    reference = np.linalg.lstsq(design, y * LADDER**2, rcond=None)[0]
    shorter = [np.linalg.lstsq(design[k:], (y * LADDER**2)[k:], rcond=None)[0][0] for k in range(1, 5)]
    assert fit.value == pytest.approx(reference[0], rel=1e-12)
    residuals = np.abs(reference[0] + reference[1] / LADDER - y)
    carried = np.abs(np.linalg.pinv(design)[0] * LADDER**2) @ residuals
    below = np.linalg.lstsq(design[:-1], (y * LADDER**2)[:-1], rcond=None)[0][0]  # without the largest scale
    moved = max(abs(reference[0] - short) for short in shorter) + abs(reference[0] - below)
    assert fit.spread == pytest.approx(moved + carried, rel=1e-9)
    np.testing.assert_allclose(fit.fitted, reference[0] + reference[1] / LADDER, rtol=1e-12)


@given(st.integers(-3, 3), NUMBERS, NUMBERS)
def test_coefficient_of_the_logarithm(slope: int, constant: float, a: float) -> None:
    expansion = FAMILIES[2]
    fit = expansion.fit(LADDER, ladder("log", slope, ("1", "1/x"), [constant, a], LADDER))
    assert fit.value == pytest.approx(slope, abs=1e-10)
    assert fit.form == "coefficient·log x + a + b/x, x = log α"


@pytest.mark.parametrize("expansion", FAMILIES)
def test_too_few_rungs(expansion: Expansion) -> None:
    enough = len(expansion.terms) + 2
    assert np.isfinite(expansion.fit(LADDER[:enough], np.ones(enough)).value)
    for k in range(enough):
        with pytest.raises(InputError, match=f"^ladder: got {k} rungs; wanted at least {enough} for the form"):
            expansion.fit(LADDER[:k], np.ones(k))


@pytest.mark.parametrize(
    ("x", "y", "argument"),
    [
        (LADDER[::-1], np.ones(6), "x"),
        ([20.0] * 6, np.ones(6), "x"),
        (LADDER - 20.0, np.ones(6), "x"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "x"),
        (LADDER, np.ones(5), "y"),
        (LADDER, [1.0, 1.0, 1.0, 1.0, 1.0, float("nan")], "y"),
        ([*LADDER[:5], float("inf")], np.ones(6), "x"),
    ],
)
def test_bad_ladders(x: list[float], y: list[float], argument: str) -> None:
    with pytest.raises(InputError, match=f"^{argument}: got"):
        Expansion().fit(x, y)


@pytest.mark.parametrize(
    "arguments", [{"terms": ("1/xx",)}, {"neighbours": (("1/xx",),)}, {"leading": "1/xx"}], ids=lambda a: next(iter(a))
)
def test_unknown_terms_name_the_nearest(arguments: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InputError, match=r"terms: got '1/xx'.*did you mean '1/x'\?"):
        Expansion(**arguments)  # type: ignore[arg-type]


def test_refits_are_kept_with_their_forms() -> None:
    expansion = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))
    y = 2.0 + 3.0 / LADDER + 1.0 / LADDER**2
    fit = expansion.fit(LADDER, y)
    assert [(refit.kept, refit.rungs) for refit in fit.refits] == [
        *(("largest", rungs) for rungs in (5, 4, 3, 2, 6)),
        ("smallest", 5),
    ]
    assert fit.refits[-2].form == "limit + a/x + b/x², x = log α"
    assert fit.refits[-2].value == pytest.approx(2.0, abs=1e-12)
    assert fit.refits[0].value == expansion.fit(LADDER[1:], y[1:]).value
    assert fit.refits[-1].value == expansion.fit(LADDER[:-1], y[:-1]).value
    assert fit.spread >= max(abs(refit.value - fit.value) for refit in fit.refits)
    assert fit.curve[[0, -1]] == pytest.approx(fit.fitted[[0, -1]])


@pytest.mark.filterwarnings("error")
def test_units_do_not_matter_up_to_the_largest_float() -> None:
    y = 2.0 + 3.0 / LADDER + 1.0 / LADDER**2
    fit, large = (Expansion(("1/x",)).fit(LADDER, y * unit, 1e-3 * unit) for unit in (1.0, 2.0**1021))
    assert large.value == fit.value * 2.0**1021
    assert large.error == fit.error * 2.0**1021
