"""Diagonal nets in detail; directions, draws and messages of all models; what a user's model has to obey."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import theorykit as tk
from theorykit.models import CNN, MLP, Activation, DiagonalNet, Difference, Linear, MatrixFactorization, UserModel
from theorykit.models.activations import power_quotient

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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((3, 1)), r"widths: got \(3, 1\); wanted input features, at least one hidden width, outputs"),
        (lambda: MLP((3, 0, 1)), "widths: got 0; wanted an integer >= 1"),
        (lambda: MLP((3, 4.0, 1)), "widths: got 4.0"),
        (lambda: MLP((3, 4, 1), "tanh"), "activation: got 'tanh'; wanted an Activation, or one of relu"),
        (lambda: MLP((3, 4, 1), "relu^0"), "power: got 0"),
        (lambda: MLP((3, 4, 1), "relu^99"), "power: got 99; wanted an integer <= 20"),
        (lambda: MLP((5, 4, 1), symbols=2), "widths: got 5 inputs; wanted a multiple of symbols = 2"),
        (lambda: MLP((5, 4, 1), symbols=1), "symbols: got 1"),
        (lambda: Activation(slope=1.5), "slope: got 1.5; wanted a number from 0"),
        (lambda: Activation(slope=-0.1), "slope: got -0.1"),
        (lambda: Linear(0), "d: got 0"),
        (lambda: Linear(2, 0), "outputs: got 0"),
        (lambda: CNN((3, 5), (2,), kernel=4), "kernel: got 4; wanted at most 3: what it sees is 3 x 5 here"),
        (lambda: CNN((5, 5), (2, 2), kernel=4), "kernel: got 4; wanted at most 2: what it sees is 2 x 2 here"),
        (lambda: CNN((5, 5, 5), (2,)), r"image: got \(5, 5, 5\)"),
        (lambda: CNN((5, 5), ()), r"channels: got \(\); wanted the output channels of at least one convolution"),
        (lambda: CNN((5, 5), (0,)), "channels: got 0"),
        (lambda: CNN((5, 5), (2,), kernel=0), "kernel: got 0"),
        (lambda: CNN((5, 5), (2,), window=2), "window: got 2; wanted a divisor of the sides of the last image, 3 x 3"),
        (lambda: CNN((5, 5), (2,), pooling="max"), "pooling: got 'max'; wanted one of average, sum"),
        (lambda: MatrixFactorization(0), "d: got 0"),
        (lambda: MatrixFactorization(3, rank=0), "rank: got 0"),
        (lambda: MatrixFactorization(3, columns=4), "columns: got 4; wanted 3, as many as rows: a symmetric matrix"),
        (lambda: Difference(3), "model: got int; wanted a model of theorykit.models"),
    ],
)
def test_models_that_cannot_be(make, message):
    with pytest.raises(tk.InputError, match=message):
        make()


NET = MLP((4, 3, 2))
ADDER = MLP((6, 3, 3), symbols=3)
FACTORS = MatrixFactorization(3, columns=4, symmetric=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NET.output(np.ones(3), X), r"theta: got shape \(3,\); wanted shape \(18,\)"),
        (lambda: NET.vjp(np.ones(18), X, np.ones(5)), r"cotangent: got shape \(5,\); wanted shape \(5, 2\)"),
        (lambda: NET.jvp(np.ones(18), X, np.ones(3)), r"tangent: got shape \(3,\)"),
        (lambda: NET.difference(np.ones(18), np.ones(3), 0.0, X), r"h: got shape \(3,\)"),
        (lambda: NET.difference(np.ones(18), np.ones(18), np.nan, X), "log_eps: got nan"),
        (lambda: NET.difference(np.ones(18), np.ones(18), 1e4, X), "log_eps: got 10000.0"),
        (lambda: NET.output(np.ones(18), X[:, :2]), "X: got 2 features; wanted 4, as many as the model has"),
        (lambda: NET.output(np.ones(18), [[np.nan] * 4]), "X: got nan"),
        (lambda: NET.direction("twin"), "init: got 'twin'; wanted one of theory, zero_last, he, orthogonal"),
        (lambda: NET.direction("he", seed=-1), "seed: got -1"),
        (lambda: NET.direction(np.zeros(18)), "init: got all zeros"),
        (lambda: NET.pack({"W1": np.ones((4, 3))}), r"parts: got the names \['W1'\]; wanted \['W1', 'W2'\]"),
        (lambda: NET.pack({"W1": np.ones((4, 3)), "W2": np.ones(6)}), r"W2: got shape \(6,\); wanted shape \(3, 2\)"),
        (lambda: ADDER.output(np.ones(27), [[0, 3]]), r"X: got 3 at index \(0, 1\); wanted integers from 0 to 2"),
        (lambda: ADDER.output(np.ones(27), [[0.5, 1]]), r"X: got 0.5 at index \(0, 0\)"),
        (lambda: ADDER.output(np.ones(27), [[0]]), "X: got 1 columns; wanted 2: one for each one-hot vector"),
        (lambda: FACTORS.output(np.ones(21), [[3, 0]]), r"X: got 3 at index \(0, 0\); wanted integers from 0 to 2"),
        (lambda: FACTORS.output(np.ones(21), [[-1, 0]]), "X: got -1"),
        (lambda: FACTORS.direction("perturbed"), "init: got 'perturbed'; wanted one of theory, unit, zero_last, he"),
        (lambda: MatrixFactorization(2).direction("perturbed", sigma=-1.0), "sigma: got -1"),
        (lambda: tk.kernels.ntk(NET, X, init="theori"), "init: got 'theori'.*did you mean 'theory'"),
    ],
)
def test_calls_that_cannot_be(call, message):
    with pytest.raises(tk.InputError, match=message):
        call()


def test_inputs_of_one_model_are_checked_again_by_another():
    inputs = MLP((4, 3, 2)).inputs(X)
    assert NET.inputs(inputs) is inputs  # an equal model
    assert MLP((4, 5, 1)).inputs(inputs) is not inputs
    with pytest.raises(tk.InputError, match="X: got 4 features; wanted 3"):
        MLP((3, 5, 1)).inputs(inputs)


def test_he_draws_have_their_variance():
    net = MLP((50, 400, 300, 5), bias=True)
    parts = net.unpack(net.direction("he", seed=1))
    assert not parts["b1"].any()
    for name, width in (("W1", 50), ("W2", 400), ("W3", 300)):
        W = parts[name]
        assert abs(W.var() * width / 2 - 1) < 5 * np.sqrt(2 / W.size)
        assert abs(W.mean()) < 5 * np.sqrt(2 / width / W.size)


def test_orthogonal_draws_are_orthogonal():
    net = MLP((5, 8, 3, 2))
    for W in net.unpack(net.direction("orthogonal", seed=1)).values():
        tall = W if W.shape[0] >= W.shape[1] else W.T
        np.testing.assert_allclose(tall.T @ tall, np.eye(tall.shape[1]), atol=1e-14)
    draws = np.array([MLP((2, 2, 1)).direction("orthogonal", seed=k)[:4] for k in range(2000)])
    assert np.max(np.abs(draws.mean(axis=0))) < 5 * np.sqrt(0.5 / 2000)  # Haar: every entry has mean 0


def test_images_may_keep_their_shape():
    net = CNN((4, 5), (2,), 3, input_channels=2)
    theta, images = net.direction("he"), RNG.standard_normal((3, 4, 5, 2))
    np.testing.assert_array_equal(net.output(theta, images), net.output(theta, images.reshape(3, -1)))
    grey = CNN((4, 5), (2,), 3)
    theta = grey.direction("he")
    np.testing.assert_array_equal(grey.output(theta, images[..., 0]), grey.output(theta, images[..., 0].reshape(3, -1)))
    with pytest.raises(tk.InputError, match="X: got 20 features; wanted 40"):
        net.output(net.direction("he"), images[..., 0])


def test_kernels_take_a_seed_and_keep_single_precision():
    net = MLP((4, 6, 1))
    first, again, other = (tk.kernels.ntk(net, X, init="he", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    theta = net.direction("he", seed=1).astype(np.float32)
    assert tk.kernels.ntk(net, X, init=theta).dtype == tk.kernels.features(net, X, init=theta).dtype == np.float32
    np.testing.assert_allclose(tk.kernels.ntk(net, X, init=theta), first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "half"),
    [
        (MLP((4, 6, 4, 2, 1), "leaky_relu", True), MLP((4, 3, 2, 1, 1), "leaky_relu", True)),
        (CNN((6, 6), (2, 4), 3, window=2, outputs=2), CNN((6, 6), (1, 2), 3, window=2, outputs=2)),
    ],
)
def test_twins_are_two_nets_of_half_the_width(net, half):
    """They have the kernel of the difference of two such nets; weights between the copies only add to it."""
    theta, small = net.direction("twin", seed=3), half.direction("he", seed=3)  # the same draws, in the same order
    points = np.random.default_rng(1).standard_normal((5, net.d))
    assert net.features(points, theta)[..., : net.layers[0].parameters].any()  # the first layer moves, too
    added = net.ntk(points, theta=theta) - Difference(half).ntk(points, theta=np.tile(small, 2))
    assert np.linalg.eigvalsh(added.reshape(5 * net.outputs, -1)).min() > -1e-10
    readout, half_readout = list(net.unpack(theta).values())[-1], list(half.unpack(small).values())[-1]
    grid = readout.reshape(-1, net.layers[-2].units // 2, 2, net.outputs)
    np.testing.assert_array_equal(grid[:, :, 0].ravel(), half_readout.ravel())
    np.testing.assert_array_equal(grid[:, :, 1].ravel(), -half_readout.ravel())


def test_perturbed_identity():
    net = MatrixFactorization(60)
    theta = net.direction("perturbed", seed=2, sigma=0.01)
    noise = (theta - net.direction("theory")) / 0.01
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
    assert np.linalg.norm(net.direction("unit")) == pytest.approx(1.0)
    np.testing.assert_allclose(net.direction("unit") * np.sqrt(120), net.direction("theory"), rtol=1e-14)


@given(st.floats(-2, 2), st.floats(-2, 2), st.sampled_from([0.0, 1e-300, 0.3]), st.integers(1, 6))
def test_power_quotient_against_exact_arithmetic(b, step, eps, k):
    exact_b, exact_step, exact_eps = Fraction(b), Fraction(step), Fraction(eps)
    if eps == 0.0:
        exact = k * exact_b ** (k - 1) * exact_step
    else:
        exact = ((exact_b + exact_eps * exact_step) ** k - exact_b**k) / exact_eps
    ours = power_quotient(np.array([b]), np.array([step]), eps, k)[0]
    scale = abs(step) * k * (abs(b) + eps * abs(step)) ** (k - 1)
    assert abs(ours - float(exact)) <= 1e-14 * scale + 1e-300


near_zero = st.one_of(st.floats(-2, 2), st.just(0.0), st.floats(-1e-290, 1e-290))


@given(near_zero, st.floats(-2, 2), st.sampled_from([0.0, 1e-300, 0.3, 50.0]), st.sampled_from([0.0, 0.25, 1.0]))
def test_quotient_across_the_kink_against_exact_arithmetic(z, e, eps, slope):
    def bent_line(value):
        return value if value > 0 else Fraction(slope) * value

    exact_z, exact_e = Fraction(z), Fraction(e)
    if eps == 0.0:  # from above: a unit at 0 goes to the side of e
        positive = exact_z > 0 or (exact_z == 0 and exact_e > 0)
        exact = exact_e if positive else Fraction(slope) * exact_e
    else:
        exact = (bent_line(exact_z + Fraction(eps) * exact_e) - bent_line(exact_z)) / Fraction(eps)
    ours = Activation(slope).base_quotient(np.array([z]), np.array([e]), eps)[0]
    assert abs(ours - float(exact)) <= 1e-15 * abs(e)


def test_names_of_one_activation_are_one_model():
    assert MLP((2, 3, 1), "identity") == MLP((2, 3, 1), "z^1") == MLP((2, 3, 1), Activation(1.0))
    assert [Activation.named(name).smooth for name in ("relu", "relu^2", "relu^3", "identity", "z^2")] == [
        False,
        False,
        True,
        True,
        True,
    ]


def bent(theta, X):
    return (X @ theta) * np.abs(X @ theta)


def user(output=bent, jacobian=None, **more):
    right = lambda theta, X: 2.0 * np.abs(X @ theta)[:, None] * X  # noqa: E731
    return UserModel(output, parameters=4, X=X, jacobian=jacobian or right, **more)


def test_a_users_model_is_accepted_when_it_is_homogeneous():
    net = user()
    assert (net.degree, net.outputs, dict(net.directions)) == (2, 1, {"gaussian": False})
    assert net.invariants(np.ones(4)).values.size == 0
    with pytest.raises(tk.InputError, match="init: got 'theory'; wanted one of gaussian"):
        net.direction()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: user(lambda t, X: np.tanh(X @ t)), r"model: got a user's model that is not homogeneous: f\(2 theta\)"),
        (lambda: user(lambda t, X: (X @ t) * np.sqrt(np.abs(X @ t))), "goes from 2.83 to 2.83; wanted 2\\^L"),
        (lambda: user(lambda t, X: np.zeros(5)), "model: got user's model, whose output is zero"),
        (lambda: user(lambda t, X: X @ t * np.inf), "whose output is not finite"),
        (lambda: user(degree=3), "homogeneity fails: f.c theta. and c.3 f.theta. differ by"),
        (lambda: user(jacobian=lambda t, X: np.abs(X @ t)[:, None] * X), "gradient fails: .* differ by 1 "),
        (
            lambda: user(jacobian=lambda t, X: X.T),
            r"jacobian: got a callable that returned shape \(4, 5\); wanted shape",
        ),
        (lambda: user(lambda t, X: (X @ t)[:, None]), r"output: got a callable that returned shape \(5, 1\)"),
        (lambda: user(direction=np.ones(4)), "init: got output .* on sample .*; wanted zero output for every sample"),
        (lambda: UserModel(bent, parameters=4, X=X), "jacobian: got neither jacobian and vjp; wanted exactly one"),
        (lambda: user(vjp=lambda t, X, c: t), "jacobian: got both jacobian and vjp"),
        (lambda: UserModel(bent, parameters=0, X=X, vjp=len), "parameters: got 0"),
    ],
)
def test_a_users_model_that_fails_says_which_property_and_by_how_much(make, message):
    with pytest.raises(tk.InputError, match=message), np.errstate(invalid="ignore"):
        make()


def test_a_numba_model_works():
    import numba

    @numba.njit
    def output(theta, X):
        return (X * theta) @ theta

    @numba.njit
    def vjp(theta, X, cotangent):
        return 2.0 * theta * (X.T @ cotangent)

    net = UserModel(output, parameters=4, X=X, vjp=vjp)
    theta, h = np.array([0.3, -1.0, 2.0, 0.5]), np.array([1.0, 2.0, -1.0, 0.0])
    assert net.degree == 2
    np.testing.assert_allclose(net.jvp(theta, X, h), 2.0 * X @ (theta * h), atol=1e-13)
    np.testing.assert_allclose(net.difference(theta, h, 0.0, X), X @ (2 * theta * h + h**2), atol=1e-13)


def test_a_large_kernel_never_needs_the_features():
    """n = 400, P = 10^6: the features would be 3.2 GB."""
    net = MLP((100, 900, 1000, 1), bias=True)
    assert net.parameters > 990_000
    inputs = np.random.default_rng(0).standard_normal((400, 100))
    tracemalloc.start()
    kernel = net.ntk(inputs, theta=net.direction("he"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kernel.shape == (400, 400)
    assert peak < 100 * 2**20


@pytest.mark.parametrize(
    "net",
    [
        MatrixFactorization(60),
        MatrixFactorization(60, rank=3),
        MatrixFactorization(60, columns=50, rank=4, symmetric=False),
    ],
    ids=lambda net: net.name,
)
def test_few_entries_of_a_large_matrix_are_those_of_the_whole(net: MatrixFactorization) -> None:
    """One by one (numba) and from the whole product (BLAS), diagonal, mirrored and repeated entries among them."""
    rng = np.random.default_rng(3)
    theta = rng.standard_normal(net.parameters)
    theta.flags.writeable = False
    X = np.column_stack([rng.integers(0, rows, 200) for rows in net.size])
    X[:5], X[5:7], X[7:9] = X[0], [4, 9], [9, 4]
    X[9] = 7
    c = rng.standard_normal(len(X))
    f, gradient = net.value_and_vjp(theta, X, lambda _: c)
    parts = net.unpack(theta)
    W = parts["U"] @ parts["U"].T - parts["V"] @ parts["V"].T if net.symmetric else parts["U"] @ parts["V"].T
    np.testing.assert_allclose(f, W[tuple(X.T)], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, c @ net.features(X, theta), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: tk.kernels.ntk(None, X), "model: got None; wanted a model"),
        (lambda X: tk.kernels.ntk(MLP, X), "model: got .*MLP.*; wanted a model"),
        (lambda X: tk.kernels.features(None, X), "model: got None; wanted a model"),
        (lambda X: UserModel(None, parameters=2, X=X, jacobian=lambda theta, X: X), "output: got None; wanted a func"),
        (
            lambda X: UserModel(lambda theta, X: X @ theta, parameters=2, X=X, jacobian=5),
            "jacobian: got 5; wanted a fu",
        ),
    ],
)
def test_what_is_no_model_or_function_is_refused(call, message):
    with pytest.raises(tk.InputError, match=message):
        call(np.ones((2, 2)))
