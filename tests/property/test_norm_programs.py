"""What margins and least norms depend on, and what they do not, in every norm."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorykit.programs import CertificateError, MaxMargin, certify, certify_norm, max_margin, min_norm
from theorykit.programs.interpolation import _digest

seeds = st.integers(0, 2**32 - 1)
norms = st.sampled_from([1, 2, "inf", "group"])
programs = st.sampled_from([max_margin, min_norm])
relaxed = settings(deadline=None, max_examples=25)
N, D = 6, 14
GROUPS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4])


def instance(seed, program):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((N, D)), rng.standard_normal(N)
    return rng, X, np.sign(y) if program is max_margin else y


def solved(program, X, y, norm, groups=GROUPS):
    return program(X, y, norm=norm, groups=groups if norm == "group" else None)


def least_norm(result, factor=1.0):
    """Return the proved interval of the least norm (the reciprocal of the margin), times a factor."""
    lower, upper = result.certificate.lower, result.certificate.upper
    if isinstance(result, MaxMargin):
        lower, upper = 1.0 / upper, 1.0 / lower
    return factor * lower, factor * upper


def assert_same(first, second, rounding=1e-12):
    """Two intervals meet, up to the rounding of the changed data, and are narrow."""
    assert first[0] <= second[1] * (1.0 + rounding)
    assert second[0] <= first[1] * (1.0 + rounding)
    assert max(first[1] / first[0], second[1] / second[0]) < 1.0 + 1e-9


@relaxed
@given(seeds, programs, norms)
def test_weak_duality(seed, program, norm):
    """No pair proves more than any other allows."""
    rng, X, y = instance(seed, program)
    best = solved(program, X, y, norm).certificate
    groups = GROUPS if norm == "group" else None
    w, dual = best.w + 0.1 * rng.standard_normal(D), best.dual + 0.1 * rng.random(N)
    if program is max_margin:
        other = certify(X, y, w, dual, norm=norm, groups=groups)
    else:
        w -= np.linalg.lstsq(X, X @ w - y)[0]
        other = certify_norm(X, y, w, dual, norm=norm, groups=groups)
    assert other.lower <= best.upper
    assert best.lower <= other.upper
    assert other.verify(X, y)


@relaxed
@given(seeds, programs, norms, st.integers(-400, 400))
def test_powers_of_two_change_nothing_but_the_scale(seed, program, norm, power):
    _, X, y = instance(seed, program)
    plain, scaled = solved(program, X, y, norm), solved(program, np.ldexp(X, power), y, norm)
    assert np.array_equal(np.ldexp(scaled.w, power), plain.w)
    assert least_norm(plain) == least_norm(scaled, 2.0**power)


@relaxed
@given(seeds, norms, st.integers(-400, 400))
def test_targets_scale_the_interpolant(seed, norm, power):
    _, X, y = instance(seed, min_norm)
    plain, scaled = solved(min_norm, X, y, norm), solved(min_norm, X, np.ldexp(y, power), norm)
    assert np.array_equal(np.ldexp(scaled.w, -power), plain.w)


@relaxed
@given(seeds, programs, norms, st.floats(1e-3, 1e3))
def test_invariances(seed, program, norm, scale):
    rng, X, y = instance(seed, program)
    first = least_norm(solved(program, X, y, norm))
    samples, features = rng.permutation(N), rng.permutation(D)
    assert_same(first, least_norm(solved(program, X[samples][:, features], y[samples], norm, GROUPS[features])))
    assert_same(first, least_norm(solved(program, np.vstack((X, X[:2])), np.append(y, y[:2]), norm)))
    assert_same(first, least_norm(solved(program, -X, -y, norm)))
    assert_same(first, least_norm(solved(program, scale * X, y, norm), scale))
    flips = np.where(rng.random(D) < 0.5, -1.0, 1.0)
    assert_same(first, least_norm(solved(program, X * flips, y, norm)))
    relabelled = 10 * rng.permutation(5)[GROUPS] - 7
    assert_same(first, least_norm(solved(program, X, y, norm, relabelled)))


@relaxed
@given(seeds, programs)
def test_rotations(seed, program):
    """Of all features for the l2-norm; within the groups for the group norm."""
    rng, X, y = instance(seed, program)
    rotation = np.linalg.qr(rng.standard_normal((D, D)))[0]
    assert_same(least_norm(solved(program, X, y, 2)), least_norm(solved(program, X @ rotation, y, 2)))
    turned = X.copy()
    turned[:, :3] = X[:, :3] @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
    assert_same(least_norm(solved(program, X, y, "group")), least_norm(solved(program, turned, y, "group")))


@relaxed
@given(seeds, programs)
def test_more_columns(seed, program):
    """A feature again: no help in l1, as good as sqrt(2) of it in l2, twice the reach in l-infinity. Zeros: nothing."""
    _, X, y = instance(seed, program)
    for norm, factor in ((1, 1.0), (2, np.sqrt(2.0)), ("inf", 2.0)):
        plain = least_norm(solved(program, X, y, norm))
        assert_same(plain, least_norm(solved(program, np.hstack((X, X)), y, norm), factor))
        assert_same(plain, least_norm(solved(program, np.hstack((X, np.zeros((N, 2)))), y, norm)))


@relaxed
@given(seeds)
def test_more_equations_cost_more(seed):
    _, X, y = instance(seed, min_norm)
    for norm in (1, 2, "inf", "group"):
        fewer, all_of_them = solved(min_norm, X[:4], y[:4], norm), solved(min_norm, X, y, norm)
        assert fewer.certificate.lower <= all_of_them.certificate.upper


@relaxed
@given(seeds, programs)
def test_norms_in_order(seed, program):
    """||w||_inf <= ||w||_2 <= sum of group norms <= ||w||_1, so the least ones are, too."""
    _, X, y = instance(seed, program)
    values = [least_norm(solved(program, X, y, norm)) for norm in ("inf", 2, "group", 1)]
    for smaller, larger in itertools.pairwise(values):
        assert smaller[0] <= larger[1]


@relaxed
@given(seeds, norms, st.sampled_from(["lower", "upper"]), st.sampled_from([1e-6, -1e-6, 1e-3, -0.5]))
def test_forged_bounds_are_rejected_even_with_their_digest(seed, norm, name, change):
    _, X, y = instance(seed, min_norm)
    c = solved(min_norm, X, y, norm).certificate
    forged = dataclasses.replace(c, **{name: getattr(c, name) * (1.0 + change)})
    parts = forged.norm, forged.lower, forged.upper, forged.w, forged.dual, forged.independent, forged.data_hash
    with pytest.raises(CertificateError, match="interval"):
        dataclasses.replace(forged, digest=_digest(*parts, forged.groups)).verify(X, y)


@relaxed
@given(seeds)
def test_the_distance_bound_holds(seed):
    _, X, y = instance(seed, min_norm)
    result = min_norm(X, y)
    exact = np.linalg.lstsq(X, y)[0]
    assert result.distance_bound < 1e-12 * np.linalg.norm(result.w)
    assert np.linalg.norm(result.w - exact) < 1e-11 * np.linalg.norm(exact)
