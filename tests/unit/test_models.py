"""Diagonal nets: homogeneity, features, kernel, directions, messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import theorykit as tk
from theorykit.models import DiagonalNet

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4))


@pytest.mark.parametrize("degree", [2, 3, 4, 7])
def test_features_are_the_gradients(degree):
    net = DiagonalNet(d=4, degree=degree)
    theta = RNG.uniform(-1.5, 1.5, 8)
    step = 1e-6
    numeric = np.column_stack(
        [(net.output(theta + step * e, X) - net.output(theta - step * e, X)) / (2 * step) for e in np.eye(8)]
    )
    np.testing.assert_allclose(net.features(X, theta), numeric, rtol=1e-6, atol=1e-7)


@given(st.integers(2, 6), st.floats(0.1, 10.0), st.integers(0, 1000))
def test_homogeneous_of_its_degree(degree, c, seed):
    net = DiagonalNet(d=4, degree=degree)
    theta = np.random.default_rng(seed).uniform(-1.0, 1.0, 8)
    np.testing.assert_allclose(net.output(c * theta, X), c**degree * net.output(theta, X), rtol=1e-10, atol=1e-12)
    euler = net.features(X, theta) @ theta  # Euler's identity
    np.testing.assert_allclose(euler, degree * net.output(theta, X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("init", ["theory", "unit"])
def test_named_directions_have_zero_output(init):
    net = DiagonalNet(d=4, degree=3)
    np.testing.assert_array_equal(net.output(net.direction(init), X), 0.0)


def test_norms_of_the_named_directions():
    net = DiagonalNet(d=50)
    assert np.linalg.norm(net.direction("theory")) == pytest.approx(10.0)
    assert np.linalg.norm(net.direction("unit")) == pytest.approx(1.0)


@pytest.mark.parametrize("degree", [2, 3, 5])
@pytest.mark.parametrize("init", ["theory", "unit", "array"])
def test_kernel_is_the_gram_matrix_of_the_features(degree, init):
    net = DiagonalNet(d=4, degree=degree)
    start = RNG.uniform(-1.0, 1.0, 8) if init == "array" else init
    other = RNG.standard_normal((3, 4))
    features = tk.kernels.features(net, X, init=start)
    np.testing.assert_allclose(tk.kernels.ntk(net, X, init=start), features @ features.T, atol=1e-12)
    cross = features @ tk.kernels.features(net, other, init=start).T
    np.testing.assert_allclose(tk.kernels.ntk(net, X, other, init=start), cross, atol=1e-12)


def test_kernel_of_the_theory_is_that_of_the_inputs():
    net = DiagonalNet(d=4, degree=3)
    np.testing.assert_allclose(tk.kernels.ntk(net, X), 2 * 9 * X @ X.T, atol=1e-12)


def test_int8_inputs_do_not_wrap_around():
    small = np.full((2, 4), 100, dtype=np.int8)
    net = DiagonalNet(d=4)
    np.testing.assert_array_equal(net.ntk(small), 8.0 * 40_000)
    np.testing.assert_array_equal(net.output([2.0] * 4 + [1.0] * 4, small), 3.0 * 400)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: net.direction("theori"), "init: got 'theori'; wanted one of theory, unit"),
        (lambda net: net.direction(np.ones(3)), r"init: got shape \(3,\); wanted a name or an array of shape \(8,\)"),
        (lambda net: net.direction(np.zeros(8)), "init: got all zeros"),
        (lambda net: net.direction([np.nan] * 8), "init: got nan at index 0; wanted finite numbers"),
        (lambda net: net.output(np.ones(4), X), r"theta: got shape \(4,\); wanted shape \(8,\), u then v"),
        (lambda net: net.output(np.ones(8), X[:, :3]), "X: got 3 features; wanted 4, as many as the model has"),
        (lambda net: net.output(np.ones(8), X[0]), r"X: got shape \(4,\); wanted a matrix"),
        (lambda net: net.features(np.full((1, 4), np.inf)), r"X: got inf at index \(0, 0\); wanted finite"),
        (lambda net: net.ntk(X, np.ones((2, 5))), "X: got 5 features; wanted 4"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(tk.InputError, match=message):
        call(DiagonalNet(d=4))
