"""What no certificate may do, and what no margin may depend on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorykit._numerics.errors import InputError
from theorykit.programs import Certificate, CertificateError, certify, kkt_residuals, max_margin
from theorykit.programs.certificate import _digest

seeds = st.integers(0, 2**32 - 1)
norms = st.sampled_from([1, 2])
changes = st.sampled_from([1e-6, 1e-3, 0.5]).flatmap(lambda size: st.sampled_from([size, -size]))
relaxed = settings(deadline=None, max_examples=40)


def separable(seed, n=12, d=20):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sign(X @ rng.standard_normal(d))


def nudged(array, index, change):
    """Change one entry, relatively (or to the change itself where the entry is zero)."""
    array = np.array(array, dtype=np.float64)
    flat = array.reshape(-1)
    k = index % flat.size
    flat[k] = flat[k] * (1.0 + change) if flat[k] else change
    return array


def resealed(certificate: Certificate, **changed) -> Certificate:
    """What a forger who knows the digest would write."""
    forged = dataclasses.replace(certificate, **changed)
    digest = _digest(forged.norm, forged.lower, forged.upper, forged.w, forged.dual, forged.data_hash, forged.groups)
    return dataclasses.replace(forged, digest=digest)


@relaxed
@given(seeds, norms, st.integers(0, 10**6), changes)
def test_changed_data_are_rejected(seed, norm, index, change):
    X, y = separable(seed)
    certificate = max_margin(X, y, norm=norm).certificate
    assert certificate.verify(X, y)
    with pytest.raises(CertificateError, match="data"):
        certificate.verify(nudged(X, index, change), y)
    flipped = y.copy()
    flipped[index % len(y)] *= -1.0
    with pytest.raises(CertificateError, match="data"):
        certificate.verify(X, flipped)


@relaxed
@given(seeds, norms, st.sampled_from(["w", "dual", "lower", "upper"]), st.integers(0, 10**6), changes)
def test_changed_certificates_are_rejected(seed, norm, name, index, change):
    X, y = separable(seed)
    certificate = max_margin(X, y, norm=norm).certificate
    value = nudged(getattr(certificate, name), index, change)
    forged = dataclasses.replace(certificate, **{name: value if value.ndim else float(value)})
    with pytest.raises(CertificateError, match="changed"):
        forged.verify(X, y)


@relaxed
@given(seeds, norms, st.sampled_from(["lower", "upper"]), changes)
def test_forged_bounds_are_rejected_even_with_their_digest(seed, norm, name, change):
    X, y = separable(seed)
    certificate = max_margin(X, y, norm=norm).certificate
    assert resealed(certificate).verify(X, y)
    with pytest.raises(CertificateError, match="interval"):
        resealed(certificate, **{name: getattr(certificate, name) * (1.0 + change)}).verify(X, y)


@relaxed
@given(seeds, norms)
def test_weak_duality(seed, norm):
    rng = np.random.default_rng(seed)
    X, y = separable(seed)
    optimum = max_margin(X, y, norm=norm).certificate
    any_pair = certify(X, y, optimum.w + 0.1 * rng.standard_normal(20), rng.random(12), norm=norm)
    assert any_pair.lower <= optimum.upper
    assert optimum.lower <= any_pair.upper
    assert any_pair.lower <= any_pair.upper


@relaxed
@given(seeds, norms, st.integers(-400, 400))
def test_powers_of_two_change_nothing_but_the_scale(seed, norm, power):
    X, y = separable(seed)
    plain, scaled = max_margin(X, y, norm=norm), max_margin(np.ldexp(X, power), y, norm=norm)
    assert np.ldexp(scaled.margin, -power) == plain.margin
    assert np.array_equal(np.ldexp(scaled.w, power), plain.w)


def assert_same(first: Certificate, second: Certificate, factor: float = 1.0) -> None:
    """The two intervals, one scaled, meet (up to the rounding of the changed data) and are narrow."""
    assert first.lower <= factor * second.upper * (1 + 1e-13)
    assert factor * second.lower <= first.upper * (1 + 1e-13)
    assert max(first.gap, second.gap) < 1e-11


@relaxed
@given(seeds, norms, st.floats(1e-3, 1e3))
def test_invariances(seed, norm, scale):
    rng = np.random.default_rng(seed)
    X, y = separable(seed)
    first = max_margin(X, y, norm=norm).certificate
    samples, features = rng.permutation(len(X)), rng.permutation(X.shape[1])
    assert_same(first, max_margin(X[samples][:, features], y[samples], norm=norm).certificate)
    assert_same(first, max_margin(np.vstack((X, X[:5])), np.append(y, y[:5]), norm=norm).certificate)
    assert_same(first, max_margin(-X, -y, norm=norm).certificate)
    assert_same(first, max_margin(scale * X, y, norm=norm).certificate, 1.0 / scale)
    if norm == 2:
        rotation = np.linalg.qr(rng.standard_normal((20, 20)))[0]
        assert_same(first, max_margin(X @ rotation, y).certificate)


@relaxed
@given(seeds, st.integers(-150, 150))
def test_samples_of_very_different_scale(seed, power):
    """A sample scaled up beyond its need does not matter; the certificate says so at any scale."""
    X, y = separable(seed)
    X[3] *= 10.0**power
    for norm in (1, 2):
        certificate = max_margin(X, y, norm=norm).certificate
        assert certificate.verify(X, y)
        assert certificate.gap < 1e-11


@relaxed
@given(seeds)
def test_the_distance_bound_holds(seed):
    """Between two solutions of the same program, each within its own bound of the optimum."""
    X, y = separable(seed, n=8, d=5)
    rng = np.random.default_rng(seed)
    turned = rng.permutation(8)
    first, second = max_margin(X, y), max_margin(X[turned], y[turned])
    assert first.distance_bound <= 1e-5 * np.linalg.norm(first.w)
    assert np.linalg.norm(first.w - second.w) <= first.distance_bound + second.distance_bound


@relaxed
@given(seeds, st.floats(0.01, 100.0), st.sampled_from([1, 2, 3]))
def test_kkt_residuals_do_not_depend_on_the_scale(seed, factor, degree):
    rng = np.random.default_rng(seed)
    theta, q, gradients = rng.standard_normal(9), rng.random(5) + 0.1, rng.standard_normal((5, 9))
    first = kkt_residuals(theta, q, gradients, degree)
    second = kkt_residuals(factor * theta, factor**degree * q, factor ** (degree - 1) * gradients, degree)
    assert second.stationarity == pytest.approx(first.stationarity, rel=1e-9)
    assert second.complementarity == pytest.approx(first.complementarity, rel=1e-9, abs=1e-12)
    assert np.allclose(first.multipliers, second.multipliers, rtol=1e-9, atol=1e-12)


@relaxed
@given(st.lists(st.floats(), min_size=3, max_size=3), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 3))
def test_non_finite_data_never_get_through(entries, bad, place):
    entries.insert(place, bad)
    with pytest.raises(InputError, match="finite"):
        max_margin(np.reshape(entries, (2, 2)), [1, -1])
