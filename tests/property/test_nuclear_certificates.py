"""What nuclear-norm programs must not depend on, what their bounds must hold, and what no certificate may accept."""

from __future__ import annotations

import dataclasses

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorykit import InputError
from theorykit.programs import CertificateError, factorisation_point, min_nuclear_norm, nuclear_regularised
from theorykit.programs._nuclear_data import checked_observations
from theorykit.programs.nuclear import _digest, bounds

seeds = st.integers(0, 2**32 - 1)
flags = st.booleans()
few = settings(deadline=None, max_examples=15)


def instance(seed, symmetric, p=6, q=5):
    rng = np.random.default_rng(seed)
    q = p if symmetric else q
    W = rng.standard_normal((p, 2)) @ rng.standard_normal((2, q))
    W = W + W.T if symmetric else W
    places = np.argwhere(rng.random((p, q)) < 0.6)
    places = places if len(places) else np.array([[0, 0]])
    return rng, places, W[*places.T], (p, q)


def same(first, second, factor=1.0):
    """Two proved intervals meet, and are narrow."""
    assert max(first.gap, second.gap) < 1e-8
    assert first.lower * factor <= second.upper * (1 + 1e-14)
    assert second.lower * (1 - 1e-14) <= first.upper * factor


@few
@given(seeds, flags, st.sampled_from([None, 0.1]))
def test_weak_duality(seed, symmetric, decay):
    rng, places, values, shape = instance(seed, symmetric)
    data = checked_observations(places, values, shape, symmetric)
    W = rng.standard_normal(shape)
    W = W + W.T if symmetric else W
    W[*data.index.T] = data.values
    if symmetric:
        W[*data.index.T[::-1]] = data.values
    lower, upper = bounds(data, W, rng.standard_normal(len(data)), decay)
    assert 0.0 <= lower <= upper < np.inf
    arguments = {"shape": shape, "symmetric": symmetric}
    if decay is None:
        best = min_nuclear_norm(places, values, **arguments).certificate
    else:
        best = nuclear_regularised(places, values, weight_decay=decay, **arguments).certificate
    assert lower <= best.upper
    assert best.lower <= upper


@few
@given(seeds, flags, st.sampled_from([1e-150, 1e-3, 3.0, 1e150]))
def test_scaling(seed, symmetric, factor):
    _, places, values, shape = instance(seed, symmetric)
    plain = min_nuclear_norm(places, values, shape=shape, symmetric=symmetric).certificate
    scaled = min_nuclear_norm(places, values * factor, shape=shape, symmetric=symmetric).certificate
    same(plain, scaled, factor)


@few
@given(seeds, flags)
def test_permutations_signs_and_order(seed, symmetric):
    rng, places, values, (p, q) = instance(seed, symmetric)
    rows, columns, order = rng.permutation(p), rng.permutation(q), rng.permutation(len(places))
    left, right = rng.choice([-1.0, 1.0], p), rng.choice([-1.0, 1.0], q)
    if symmetric:
        rows, left = columns, right
    turned = np.stack((rows[places[:, 0]], columns[places[:, 1]]), axis=1)[order]
    changed = (values * left[places[:, 0]] * right[places[:, 1]])[order]
    plain = min_nuclear_norm(places, values, shape=(p, q), symmetric=symmetric)
    same(plain.certificate, min_nuclear_norm(turned, changed, shape=(p, q), symmetric=symmetric).certificate)
    if not symmetric:
        same(plain.certificate, min_nuclear_norm(places[:, ::-1], values, shape=(q, p)).certificate)


@few
@given(seeds)
def test_repeats_change_nothing_but_the_weights_of_the_mean(seed):
    rng, places, values, shape = instance(seed, symmetric=True)
    again = rng.integers(len(places), size=3)
    more, both = np.vstack((places, places[again][:, ::-1])), np.append(values, values[again])
    first = min_nuclear_norm(places, values, shape=shape, symmetric=True).certificate
    second = min_nuclear_norm(more, both, shape=shape, symmetric=True).certificate
    assert (first.lower, first.upper, first.gap) == (second.lower, second.upper, second.gap)
    heavier = nuclear_regularised(more, both, weight_decay=0.1, shape=shape, symmetric=True)
    mean = np.mean((heavier.W[*more.T] - both) ** 2)
    norm = np.linalg.svd(heavier.W, compute_uv=False).sum()
    assert heavier.value == pytest.approx(mean + 0.05 * norm, rel=1e-10)


@few
@given(seeds, flags)
def test_orthogonal_transformations_of_measurements(seed, symmetric):
    rng = np.random.default_rng(seed)
    p, q, m = 5, (5 if symmetric else 4), 6
    A, b = rng.standard_normal((m, p, q)), rng.standard_normal(m)
    A = A + A.transpose(0, 2, 1) if symmetric else A
    P, Q = np.linalg.qr(rng.standard_normal((p, p)))[0], np.linalg.qr(rng.standard_normal((q, q)))[0]
    Q = P.T if symmetric else Q
    turned = P @ A @ Q
    turned = 0.5 * (turned + turned.transpose(0, 2, 1)) if symmetric else turned
    first = min_nuclear_norm(A, b, symmetric=symmetric).certificate
    second = min_nuclear_norm(turned, b, symmetric=symmetric).certificate
    assert max(first.gap, second.gap) < 1e-8
    assert first.upper == pytest.approx(second.upper, rel=1e-8)
    weights = rng.standard_normal((m, m))
    mixed = np.tensordot(weights, A, axes=1)
    mixed = 0.5 * (mixed + mixed.transpose(0, 2, 1)) if symmetric else mixed
    assert min_nuclear_norm(mixed, weights @ b, symmetric=symmetric).value == pytest.approx(first.upper, rel=1e-6)


@few
@given(seeds, flags)
def test_entries_are_measurements(seed, symmetric):
    _, places, values, shape = instance(seed, symmetric)
    if symmetric:
        places, first = np.unique(np.sort(places, axis=1), axis=0, return_index=True)
        values = values[first]
    matrices = np.zeros((len(places), *shape))
    for matrix, (i, j) in zip(matrices, places, strict=True):
        matrix[i, j] += 0.5 if symmetric else 1.0
        if symmetric:
            matrix[j, i] += 0.5
    entries = min_nuclear_norm(places, values, shape=shape, symmetric=symmetric)
    same(entries.certificate, min_nuclear_norm(matrices, values, symmetric=symmetric).certificate)


@few
@given(seeds, flags, st.sampled_from([None, 0.05]))
def test_bounds_hold_in_fifty_digits(seed, symmetric, decay):
    _, places, values, shape = instance(seed, symmetric)
    arguments = {"shape": shape, "symmetric": symmetric}
    if decay is None:
        result = min_nuclear_norm(places, values, **arguments)
    else:
        result = nuclear_regularised(places, values, weight_decay=decay, **arguments)
    with mpmath.workdps(50):
        norm = mpmath.fsum(mpmath.svd_r(mpmath.matrix(result.W.tolist()), compute_uv=False))
        largest = max(mpmath.svd_r(mpmath.matrix(result.S.tolist()), compute_uv=False))
        data, n = result.observed, len(places)
        pairing = mpmath.fdot(zip(map(mpmath.mpf, result.dual), map(mpmath.mpf, data.values), strict=True))
        if decay is None:
            assert result.certificate.lower <= pairing / max(1, largest)
            assert norm <= result.certificate.upper
            assert (result.W[*places.T] == values).all()
            return
        misfit = mpmath.fsum(
            (mpmath.mpf(result.W[i, j]) - mpmath.mpf(y)) ** 2 for (i, j), y in zip(places, values, strict=True)
        )
        assert misfit / n + mpmath.mpf(decay) / 2 * norm <= result.certificate.upper
        factor = min(1, mpmath.mpf(decay) / 2 / largest)
        bend = mpmath.fsum(mpmath.mpf(t) ** 2 / mpmath.mpf(c) for t, c in zip(result.dual, data.counts, strict=True))
        assert result.certificate.lower <= factor * pairing - factor**2 * n / 4 * bend


@few
@given(seeds, flags, st.sampled_from(["lower", "upper"]), st.sampled_from([1e-6, -1e-6, 0.5, -0.5]))
def test_forged_bounds_are_rejected_even_with_their_digest(seed, symmetric, name, change):
    _, places, values, shape = instance(seed, symmetric)
    certificate = min_nuclear_norm(places, values, shape=shape, symmetric=symmetric).certificate
    assert certificate.verify(places, values)
    forged = dataclasses.replace(certificate, **{name: getattr(certificate, name) * (1.0 + change)})
    with pytest.raises(CertificateError, match="changed"):
        forged.verify(places, values)
    with pytest.raises(CertificateError, match="interval"):
        dataclasses.replace(forged, digest=_digest(forged)).verify(places, values)
    infeasible = dataclasses.replace(certificate, W=certificate.W * (1.0 + 1e-6))
    with pytest.raises(CertificateError, match="interval"):
        dataclasses.replace(infeasible, digest=_digest(infeasible)).verify(places, values)


@few
@given(seeds, st.sampled_from([0.01, 0.3]))
def test_no_point_of_a_factorisation_is_below_its_bound(seed, decay):
    rng, places, values, (d, _) = instance(seed, symmetric=True)
    optimum = nuclear_regularised(places, values, weight_decay=decay, shape=d, symmetric=True).certificate
    point = factorisation_point(
        rng.standard_normal((d, 3)), rng.standard_normal((d, d)), places, values, weight_decay=decay
    )
    assert point.lower <= optimum.upper
    assert optimum.lower <= point.loss
    assert point.curvature is None or point.curvature < 0.0


@few
@given(seeds, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_non_finite_values_never_get_through(seed, bad):
    rng, places, values, shape = instance(seed, symmetric=False)
    values[rng.integers(len(values))] = bad
    with pytest.raises(InputError, match="finite"):
        min_nuclear_norm(places, values, shape=shape)
