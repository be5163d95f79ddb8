"""What holds for every model, every activation and every depth, against the reference in model_reference.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import (
    CNN,
    MLP,
    Activation,
    DiagonalNet,
    Difference,
    HomogeneousModel,
    Linear,
    MatrixFactorization,
    UserModel,
    check_homogeneous,
)

_spec = importlib.util.spec_from_file_location("model_table", Path(__file__).with_name("model_table.py"))
table: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(table)
reference, sample = table.reference, table.sample


def models() -> dict[str, HomogeneousModel]:
    """Return one small model of every kind, under its name."""
    found: list[HomogeneousModel] = [DiagonalNet(d=3, degree=degree) for degree in (2, 3, 5)]
    found += [Linear(d=3), Linear(d=3, outputs=2)]
    found += [MatrixFactorization(d=3), MatrixFactorization(d=4, rank=2)]
    found += [MatrixFactorization(d=3, columns=4, rank=2, symmetric=False)]
    for activation in table.ACTIVATIONS:
        found += [MLP((3, 4, 1), activation), MLP((3, 4, 2), activation, bias=True)]
        found += [MLP((3, 4, 2, 4, 1), activation, bias=True)]
        found += [CNN((5,), (2, 2), kernel=2, activation=activation, pooling="sum")]
        found += [CNN((4, 5), (2,), 2, activation, "average", outputs=2, input_channels=2, bias=True)]
    found += [CNN((5, 5), (2, 2), kernel=2, window=1), CNN((6, 6), (2, 4), kernel=3, window=2, outputs=2, bias=True)]
    found += [MLP((6, 4, 3), symbols=3), MLP((6, 4, 4, 1), "z^2", bias=True, symbols=2)]
    found += [Difference(MLP((3, 4, 2), bias=True)), Difference(MatrixFactorization(d=3))]
    return {f"{k}: {model.name}": model for k, model in enumerate(found)}


MODELS = models()
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def shaped(model: Any, n: int) -> tuple[int, ...]:
    return (n,) if model.outputs == 1 else (n, model.outputs)


def smooth(model: Any) -> bool:
    inner = model.model if isinstance(model, Difference) else model
    return getattr(inner, "phi", Activation(1.0)).smooth


def close(ours: Any, theirs: Any, rtol: float) -> None:
    """Compare relative to the largest entry."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * max(float(np.max(np.abs(theirs))), 1e-200))


@every_model
def test_is_a_model(model, rng):
    assert isinstance(model, HomogeneousModel)
    theta = rng.standard_normal(model.parameters)
    parts = model.unpack(theta)
    np.testing.assert_array_equal(model.pack(parts), theta)
    assert all(np.shares_memory(part, theta) for part in parts.values())


@every_model
def test_output_is_the_reference(model, rng):
    theta, X = rng.standard_normal(model.parameters), sample(model, 4, rng)
    theirs = np.array([[float(value) for value in reference.output(model, list(theta), x)] for x in X])
    assert model.output(theta, X).shape == shaped(model, 4)
    close(model.output(theta, X).reshape(4, -1), theirs, 1e-13)


@every_model
def test_homogeneous_with_the_right_gradient(model, rng):
    X = sample(model, 4, rng)
    report = check_homogeneous(model, X, seed=3)
    assert report.ok, report
    assert report.scaling < 1e-13
    assert report.euler < 1e-13


@every_model
def test_jvp_is_the_derivative(model, rng):
    """Against the quotient at eps = 1e-40 in 120 digits: no step size to choose."""
    theta, tangent = rng.standard_normal((2, model.parameters))
    X = sample(model, 4, rng)
    log_eps = -40.0 * np.log(10.0)
    close(model.jvp(theta, X, tangent), reference.difference(model, theta, tangent, log_eps, X, 120), 1e-13)


@every_model
def test_vjp_features_and_jvp_agree(model, rng):
    theta, tangent = rng.standard_normal((2, model.parameters))
    X = sample(model, 4, rng)
    cotangent = rng.standard_normal(shaped(model, 4))
    features = model.features(X, theta)
    assert features.shape == (*shaped(model, 4), model.parameters)
    close(features @ tangent, model.jvp(theta, X, tangent), 1e-13)
    vjp = model.vjp(theta, X, cotangent)
    close(vjp, np.tensordot(cotangent, features, cotangent.ndim), 1e-13)
    f, gradient = model.value_and_vjp(theta, X, lambda f: cotangent * f)
    np.testing.assert_array_equal(f, model.output(theta, X))
    close(gradient, model.vjp(theta, X, cotangent * f), 1e-13)


@every_model
def test_kernel_is_the_gram_matrix_of_the_features(model, rng):
    theta, X, other = rng.standard_normal(model.parameters), sample(model, 4, rng), sample(model, 3, rng)
    left, right = model.features(X, theta), model.features(other, theta)
    close(model.ntk(X, theta=theta), np.tensordot(left, left, (-1, -1)), 1e-13)
    close(model.ntk(X, other, theta), np.tensordot(left, right, (-1, -1)), 1e-13)
    close(model.ntk(X), np.tensordot(model.features(X), model.features(X), (-1, -1)), 1e-13)


@every_model
def test_hvp_is_the_derivative_of_the_vjp(model, rng):
    """By central differences; piecewise, away from kinks, where the activation has any."""
    theta, tangent = rng.standard_normal((2, model.parameters))
    X = sample(model, 3, rng)
    cotangent = rng.standard_normal(shaped(model, 3))
    step = 1e-5
    up, down = (model.vjp(theta + sign * step * tangent, X, cotangent) for sign in (1, -1))
    ours = model.hvp(theta, X, cotangent, tangent)
    assert np.max(np.abs(ours - (up - down) / (2 * step))) <= 1e-6 * (1.0 + np.max(np.abs(ours)))
    other = rng.standard_normal(model.parameters)
    close(model.hvp(theta, X, cotangent, other) @ tangent, ours @ other, 1e-10)  # the Hessian is symmetric


@every_model
@pytest.mark.parametrize("log_eps", [-np.log(10.0) * 300, -2.0, 1.0])
def test_difference_against_many_digits(model, log_eps, rng):
    theta, h = rng.standard_normal((2, model.parameters))
    X = sample(model, 3, rng)
    exact = reference.difference(model, theta, h, log_eps, X, 40 if log_eps > -50 else 660)
    close(model.difference(theta, h, log_eps, X), exact, 1e-12)


@pytest.mark.parametrize(
    ("name", "init"),
    [(name, init) for name, model in MODELS.items() for init, zero in model.directions.items() if zero],
)
def test_difference_from_a_start_with_zero_output(name, init, rng):
    """At eps = 1e-300 two outputs agree in 300 digits; the quotient has all of its own."""
    model = MODELS[name]
    theta, h, X = model.direction(init, seed=4), rng.standard_normal(model.parameters), sample(model, 3, rng)
    exact = reference.difference(model, theta, h, -np.log(10.0) * 300, X, 660)
    quotient = model.difference(theta, h, -np.log(10.0) * 300, X)
    close(quotient, exact, 1e-12)
    close(model.difference(theta, h, -1e4 * model.degree, X), exact, 1e-12)


@every_model
def test_difference_and_vjp_is_both(model, rng):
    theta, h = rng.standard_normal((2, model.parameters))
    X = sample(model, 4, rng)
    quotient, gradient = model.difference_and_vjp(theta, h, -3.0, X, np.tanh)
    close(quotient, model.difference(theta, h, -3.0, X), 1e-14)
    close(gradient, model.vjp(theta + np.exp(-3.0) * h, X, np.tanh(quotient)), 1e-12)


def test_a_unit_at_its_kink_moves_to_the_side_of_h():
    """The limit from above: a ReLU at exactly 0 follows relu(h), and its gradient is there if h > 0."""
    net = MLP((1, 2, 1))
    theta, h, X = np.array([0.0, 0.0, 1.0, 1.0]), np.array([2.0, -3.0, 0.0, 0.0]), [[1.0]]
    for log_eps in (-1e5, -690.0, -1.0):
        quotient, gradient = net.difference_and_vjp(theta, h, log_eps, X, np.ones_like)
        assert quotient.tolist() == [2.0]
        np.testing.assert_allclose(gradient, [1.0, 0.0, 2.0 * np.exp(log_eps), 0.0], atol=1e-300)


@every_model
def test_single_precision_stays_single(model, rng):
    theta, tangent = rng.standard_normal((2, model.parameters))
    X = sample(model, 4, rng)
    single, direction = theta.astype(np.float32), tangent.astype(np.float32)
    cotangent = np.ones(shaped(model, 4))
    calls = {
        "output": lambda t, h: model.output(t, X),
        "vjp": lambda t, h: model.vjp(t, X, cotangent),
        "jvp": lambda t, h: model.jvp(t, X, h),
        "hvp": lambda t, h: model.hvp(t, X, cotangent, h),
        "difference": lambda t, h: model.difference(t, h, -2.0, X),
        "features": lambda t, h: model.features(X, t),
        "ntk": lambda t, h: model.ntk(X, theta=t),
        "invariants": lambda t, h: model.invariants(t).values,
    }
    for name, call in calls.items():
        ours = call(single, direction)
        assert ours.dtype == np.float32 or ours.size == 0, name
        exact = call(single.astype(np.float64), direction.astype(np.float64))
        if exact.size and np.any(exact):
            close(ours, exact, 1e-4)


@every_model
def test_checked_inputs_stand_for_the_inputs(model, rng):
    theta, X = rng.standard_normal(model.parameters), sample(model, 4, rng)
    inputs = model.inputs(X)
    assert model.inputs(inputs) is inputs
    assert len(inputs) == 4
    np.testing.assert_array_equal(model.output(theta, inputs), model.output(theta, X))
    np.testing.assert_array_equal(model.ntk(inputs, theta=theta), model.ntk(X, theta=theta))


@every_model
def test_zero_output_starts_have_zero_output(model, rng):
    X = sample(model, 6, rng)
    inner = model.model if isinstance(model, Difference) else model
    assert any(model.directions.values())
    for name, zero in model.directions.items():
        theta = model.direction(name, seed=7)
        np.testing.assert_array_equal(theta, model.direction(name, seed=7))
        if zero:
            tk.models.require_zero_output(model, theta, X)
            scale = np.max(np.abs(model.output(np.ones(model.parameters), X))) + 1.0
            assert np.max(np.abs(model.output(theta, X))) <= 1e-15 * scale * theta.size
        elif not isinstance(inner, Linear):
            with pytest.raises(tk.InputError, match="wanted zero output for every sample"):
                tk.models.require_zero_output(model, theta, X)


@every_model
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_invariants_along_a_flow(model, weight_decay, rng):
    """SciPy follows d(theta)/dt = -grad (mean squared loss) - lambda theta, slowed down where it is very steep."""
    X = sample(model, 3, rng)
    y = np.random.default_rng(8).standard_normal(shaped(model, 3))
    theta = 0.7 * np.random.default_rng(9).standard_normal(model.parameters)
    inputs = model.inputs(X)

    def velocity(_, state):
        theta = state[:-1]
        v = -model.vjp(theta, inputs, 2.0 * (model.output(theta, inputs) - y) / 3.0) - weight_decay * theta
        return np.append(v, 1.0) / (1.0 + np.linalg.norm(v))

    way = solve_ivp(velocity, (0.0, 0.05), np.append(theta, 0.0), method="LSODA", rtol=1e-11, atol=1e-13)
    assert way.success
    end, grown = way.y[:-1, -1], np.exp(weight_decay * way.y[-1, -1])
    assert np.linalg.norm(end * grown - theta) > 1e-3  # or there would be nothing to conserve
    start, now = model.invariants(theta), model.invariants(end)
    factor = grown**now.degree
    tolerance = 1e-8 if smooth(model) else 1e-6  # across a kink the integrator loses its order
    assert np.all(np.abs(now.values * factor - start.values) <= tolerance * (start.scale + factor * now.scale))


def test_every_hidden_unit_has_its_invariant():
    assert MLP((3, 4, 5, 2)).invariants(np.ones(42)).values.shape == (9,)
    assert CNN((6, 6), (2, 4), window=2).invariants(np.ones(94)).values.shape == (6,)


@given(
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=6),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    power=st.integers(1, 3),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
    log_c=st.floats(-2, 2),
)
def test_any_mlp_is_homogeneous(widths, slope, power, bias, seed, log_c):
    net = MLP(tuple(widths), Activation(slope, power), bias=bias)
    assert net.degree == sum(power**k for k in range(len(widths) - 1))
    rng = np.random.default_rng(seed)
    theta, X, c = rng.standard_normal(net.parameters), rng.standard_normal((3, widths[0])), np.exp(log_c)
    f = net.output(theta, X)
    np.testing.assert_allclose(net.output(c * theta, X), c**net.degree * f, rtol=1e-9, atol=1e-12 * c**net.degree)


@given(seed=st.integers(0, 10**6), channels=st.integers(1, 3), kernel=st.integers(1, 3), extra=st.integers(0, 3))
def test_convolution_is_correlate(seed, channels, kernel, extra):
    """One linear convolution of one channel, pooled by nothing, against SciPy."""
    from scipy.signal import correlate2d

    rng = np.random.default_rng(seed)
    side = kernel + extra
    net = CNN((side, side), (channels,), kernel, "identity", "sum", window=1)
    theta = rng.standard_normal(net.parameters)
    W, readout = net.unpack(theta).values()
    image = rng.standard_normal((side, side))
    maps = [correlate2d(image, W[:, c].reshape(kernel, kernel), mode="valid") for c in range(channels)]
    expected = float(np.sum(np.stack(maps, axis=-1).ravel() * readout[:, 0]))
    np.testing.assert_allclose(net.output(theta, image.reshape(1, -1)), [expected], rtol=1e-10, atol=1e-12)


def test_one_hot_gathers_what_dense_multiplies(rng):
    p, gathered, dense = 5, MLP((10, 6, 5), "relu", True, symbols=5), MLP((10, 6, 5), "relu", True)
    X = rng.integers(0, p, (7, 2))
    one_hot = np.concatenate([np.eye(p)[X[:, 0]], np.eye(p)[X[:, 1]]], axis=1)
    theta, tangent = rng.standard_normal((2, dense.parameters))
    cotangent = rng.standard_normal((7, 5))
    close(gathered.output(theta, X), dense.output(theta, one_hot), 1e-14)
    close(gathered.vjp(theta, X, cotangent), dense.vjp(theta, one_hot, cotangent), 1e-14)
    close(gathered.hvp(theta, X, cotangent, tangent), dense.hvp(theta, one_hot, cotangent, tangent), 1e-14)
    close(gathered.ntk(X, theta=theta), dense.ntk(one_hot, theta=theta), 1e-14)


def wrapped(model: Any, X: Any, kind: str, **more: Any) -> UserModel:
    """Return a model with its own methods given as a user would give them."""
    given_: dict[str, Any] = {"jacobian": lambda theta, X: model.features(X, theta), "vjp": model.vjp}
    return UserModel(
        model.output, parameters=model.parameters, X=X, outputs=model.outputs, **{kind: given_[kind]}, **more
    )


@pytest.mark.parametrize("kind", ["jacobian", "vjp"])
@pytest.mark.parametrize("inner", [MLP((3, 4, 1), "z^2"), MLP((3, 4, 2), "relu^3", True), DiagonalNet(3, 4)])
def test_a_users_model_derives_the_rest(kind, inner, rng):
    X = sample(inner, 4, rng)
    user = wrapped(inner, X, kind, direction=inner.direction())
    assert isinstance(user, HomogeneousModel)
    assert user.degree == inner.degree
    theta, tangent, h = rng.standard_normal((3, inner.parameters))
    cotangent = rng.standard_normal(shaped(inner, 4))
    close(user.vjp(theta, X, cotangent), inner.vjp(theta, X, cotangent), 1e-13)
    close(user.jvp(theta, X, tangent), inner.jvp(theta, X, tangent), 1e-13)
    close(user.ntk(X, X[:2], theta), inner.ntk(X, X[:2], theta), 1e-13)
    close(user.features(X), inner.features(X), 1e-13)
    for log_eps in (-1e4, -1.0):
        ours, gradient = user.difference_and_vjp(theta, h, log_eps, X, np.tanh)
        theirs, other = inner.difference_and_vjp(theta, h, log_eps, X, np.tanh)
        if inner.phi.smooth if isinstance(inner, MLP) else True:
            close(ours, theirs, 1e-4 if "relu" in inner.name else 1e-12)
            close(gradient, other, 1e-4 if "relu" in inner.name else 1e-11)
    close(user.hvp(theta, X, cotangent, tangent), inner.hvp(theta, X, cotangent, tangent), 1e-8)
    f, gradient = user.value_and_vjp(theta, X, np.tanh)
    close(gradient, inner.vjp(theta, X, np.tanh(f)), 1e-13)


def test_the_table_for_two_layers():
    """The evidence runs it to depth 5; kernels and features there come from gradients in 660 digits."""
    rows = table.run(depth=2)
    assert len(rows) > 40
    for entry in rows:
        assert max(value for name, value in entry.items() if name not in ("model", "degree", "parameters")) < 1e-12
