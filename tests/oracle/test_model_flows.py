"""Flows of general models: against SciPy on the raw flow, against the dual reduction, and against the paper's fig-3."""

from __future__ import annotations

import importlib.util
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.models import MLP, DiagonalNet, MatrixFactorization

_spec = importlib.util.spec_from_file_location(
    "model_flow_agreement", Path(__file__).with_name("model_flow_agreement.py")
)
assert _spec is not None
assert _spec.loader is not None
agreement = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(agreement)


def test_agreement_with_raw_flows():
    rows = agreement.run(2, seed=1)
    assert {row["model"] for row in rows} == set(agreement.NETS)
    assert {"kernel", "rich"} <= {frame for row in rows for frame in row["frames"]}
    for row in rows:
        assert row["status"] == "reached_end", row
        assert row["reference_error"] < 1e-8, row  # otherwise the reference has no right to judge
        assert row["error"] < 1e-8, row


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_diagonal_net_against_its_dual_reduction_at_huge_scale(loss):
    data = tk.datasets.sparse_sign(n=8, d=40, k=3, n_test=50, seed=0)
    problem = tk.Problem(DiagonalNet(d=40), data, loss=loss, log_alpha=230.0, log_weight_decay=-230.0)
    save, target = tk.SaveAt(num=15), {"truth": data.truth}
    dual = tk.gradient_flow(problem, s_end=1.5, save=save, directions=target)
    frames = tk.gradient_flow(problem, s_end=1.5, save=save, directions=target, method="radau").raise_for_status()
    assert [f["frame"] for f in frames.diagnostics["frames"]] == ["kernel", "kernel", "rich"]
    for name, values in dual.stats.items():
        exponentiated = name in ("norm", "train_loss", "test_loss", "margin")  # their logarithms are of size 600
        scale = np.abs(values) + 1e-300 if exponentiated else np.maximum(1.0, np.abs(values))
        assert np.max(np.abs(frames.stats[name] - values) / scale) < (1e-5 if exponentiated else 1e-7), name
    assert frames.diagnostics["drift"]["norm"] < 1e-6
    assert frames.diagnostics["drift"]["energy"] < 1e-6


def test_weights_are_repeated_samples():
    """A sample of weight 2 is the sample twice: in the frames against the dual reduction of the longer data."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.choice([-1.0, 1.0], 4)
    once = tk.Dataset(X.copy(), y.copy(), "classification", "weighted", weights=np.array([1.0, 2.0, 1.0, 3.0]))
    again = tk.Dataset.from_arrays(np.repeat(X, [1, 2, 1, 3], axis=0), np.repeat(y, [1, 2, 1, 3]))
    settings = {"log_alpha": 3.0, "weight_decay": 0.05}
    flows = [tk.gradient_flow(tk.Problem(DiagonalNet(d=6), data, **settings), s_end=1.5) for data in (once, again)]
    assert [flow.settings["dimension"] for flow in flows] == [12, 4]
    for name in ("log_train_loss", "log_norm", "output_margin", "train_accuracy"):
        np.testing.assert_allclose(flows[0].stats[name], flows[1].stats[name], rtol=0, atol=1e-6)


def test_interpolation_at_huge_scale():
    """thm-3.9: early on the flow of the squared loss is the least-norm solution in the features, K2."""
    rng = np.random.default_rng(5)
    X, y, X_test = rng.standard_normal((5, 4)), rng.standard_normal(5), rng.standard_normal((7, 4))
    data = tk.Dataset.from_arrays(X, y, X_test, rng.standard_normal(7), task="regression")
    net = MLP((4, 12, 1), activation="z^2")
    problem = tk.Problem(net, data, loss="squared", log_alpha=200.0, log_weight_decay=-100.0)
    flow = tk.gradient_flow(problem, s_end=1.2, rtol=1e-10, save=tk.SaveAt(num=20)).raise_for_status()
    assert any(frame["slaved"] for frame in flow.diagnostics["frames"])
    features, others = (net.features(points, problem.direction) for points in (X, X_test))
    predicted = others @ np.linalg.lstsq(features, y, rcond=None)[0]
    assert data.test is not None
    expected = np.mean((predicted - data.test.read(0, 7)[1]) ** 2)
    assert abs(flow.at(s=0.5)["test_loss"] / expected - 1.0) < 1e-8
    # the slaved residual: f - y = -(L n / 2 A~) K^(-1) y, A~ = sigma^(2(L-1))/lambda
    A = 2.0 * (net.degree - 1) * 100.0 + 100.0
    K = features @ features.T
    residual = 0.5 * net.degree * 5 * np.linalg.solve(K, y)
    assert abs(flow.at(s=0.5)["log_train_loss"] - (np.log(np.mean(residual**2)) - 2.0 * A)) < 1e-6


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])  # the others at log alpha = 10 000: test_huge_scales
def test_no_warning_at_log_alpha_1000(loss):
    rng = np.random.default_rng(7)
    if loss == "cross_entropy":
        X, width = rng.standard_normal((3, 3)), 4
        data = tk.Dataset.from_arrays(X, [0, 1, 2], task="multiclass", classes=3)
    else:
        X, width = rng.standard_normal((5, 4)), 12
        data = tk.Dataset.from_arrays(X, rng.choice([-1.0, 1.0], 5))
    net = MLP((X.shape[1], width, data.classes or 1), activation="z^2")
    problem = tk.Problem(net, data, loss=loss, log_alpha=1000.0, log_weight_decay=-500.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = tk.gradient_flow(problem, s_end=1.2, rtol=1e-6, save=tk.SaveAt(num=10)).raise_for_status()
        assert flow.diagnostics["drift"]["balancedness"] < 1e-4
    assert all(np.isfinite(values).all() for name, values in flow.stats.items() if name.startswith("log_"))


def test_without_weight_decay_to_enormous_times():
    """q_min/log t -> 1 for the logistic loss: the mean loss falls like 1/t up to logarithms."""
    rng = np.random.default_rng(8)
    data = tk.Dataset.from_arrays(rng.standard_normal((6, 4)), rng.choice([-1.0, 1.0], 6))
    problem = tk.Problem(MLP((4, 10, 1), activation="z^2"), data, alpha=3.0, weight_decay=0.0)
    flow = tk.gradient_flow(problem, log_t_end=2e4, rtol=1e-6, save=tk.SaveAt(num=20)).raise_for_status()
    assert flow.log_t[-1] == pytest.approx(2e4)
    assert abs(flow.stats["log_train_loss"][-1] / -2e4 - 1.0) < 2e-3
    assert flow.diagnostics["drift"]["balancedness"] < 1e-4


def figure_3(seed: int, *, rtol: float = 1e-4) -> tk.Trajectory:
    """Return fig-3 of lyu2024 at full size: 97 x 97, 5 % observed, alpha = 10, lambda = 1e-4, to s = 2.5."""
    data = tk.datasets.matrix_completion(d=97, fraction=0.05, seed=seed)
    net = MatrixFactorization(d=97)
    init = net.direction("perturbed", seed=seed, sigma=1e-4)  # theta(0) is perturbed by 1e-3
    problem = tk.Problem(net, data, loss="squared", alpha=10.0, weight_decay=1e-4, init=init)
    return tk.gradient_flow(problem, s_end=2.5, method="rkc2", rtol=rtol, save=tk.SaveAt(num=50))


def test_slaved_residuals_of_a_large_model_against_scalar_equations():
    """The observed entries u_i^2 - v_i^2 of a diagonal decouple, and u_i v_i = sigma^2: one equation each.

    At alpha = 1e4, lambda = 1e-4 their residuals fall at rates of 1e11 at first and 1e3 at the end.
    """
    d, log_alpha, log_lambda = 66, np.log(1e4), np.log(1e-4)  # more outputs and parameters than a Jacobian is formed of
    targets = np.resize([0.9, -0.6, 0.3], d)
    data = tk.datasets.matrix_entries([[i, i] for i in range(d)], targets, shape=(d, d))
    problem = tk.Problem(MatrixFactorization(d), data, "squared", log_alpha=log_alpha, log_weight_decay=log_lambda)
    flow = tk.gradient_flow(problem, tau_end=log_alpha + 2.0, rtol=1e-4, method="rkc2").raise_for_status()
    assert [frame["slaved"] for frame in flow.diagnostics["frames"]] == [False, True, True, False, False]
    times = np.array([0.05, 0.5 * log_alpha, 0.7 * log_alpha, 0.8 * log_alpha, log_alpha, log_alpha + 1.9])
    for index in range(3):
        exact = _scalar_output(times, targets[index], log_alpha, 8.0 / d * np.exp(-log_lambda))
        for tau, wanted in zip(times, exact, strict=True):
            value, error = flow.at(tau=tau).estimate(lambda now, index=index: float(now.outputs()[index]))
            assert abs(value - wanted) <= error < 4e-4  # of which 1e-4 is the tolerance itself


def _scalar_output(times, target, log_alpha, stiffness):
    """Solve dq/dtau = -2 q - stiffness (q - y) sqrt(q^2 + 4 sigma^4) from q = 0, sigma = alpha e^(-tau)."""

    def size(tau, q):
        return np.sqrt(q**2 + 4.0 * np.exp(4.0 * (log_alpha - tau)))

    def rhs(tau, q):
        return -2.0 * q - stiffness * (q - target) * size(tau, q)

    def jacobian(tau, q):
        p = size(tau, q)
        return np.array([-2.0 - stiffness * (p + (q - target) * q / p)])

    solved = solve_ivp(rhs, (0.0, times[-1]), [0.0], "Radau", times, jac=jacobian, rtol=1e-11, atol=1e-13)
    return solved.y[0]


def test_figure_3():
    flow = figure_3(seed=0).raise_for_status()
    s, train, test = flow.s, flow.stats["train_loss"], flow.stats["test_loss"]
    assert train[(s > 0.09) & (s < 0.651)].max() < 1e-6
    plateau = test[(s > 0.09) & (s < 0.701)]
    assert plateau.max() / plateau.min() < 1.02
    assert test[np.isclose(s, 2.0)][0] < plateau.min() / 3.0
    assert flow.counts["run"]["evaluations"] < 4000
    assert flow.errors["train_loss"][s > 0.09].max() < 1e-6


@pytest.mark.parametrize("method", ["radau5", "radau9", "radau13"])
def test_high_orders_at_loose_tolerances_take_no_more_steps(method):
    """The last step's polynomial, extrapolated whole, would start Newton's iteration from amplified noise."""
    rng = np.random.default_rng(7)
    data = tk.Dataset.from_arrays(rng.standard_normal((3, 3)), rng.choice([-1.0, 1.0], 3))
    problem = tk.Problem(
        MLP((3, 4, 1), activation="z^2"), data, loss="logistic", log_alpha=25.0, log_weight_decay=-12.5
    )
    flow = tk.gradient_flow(problem, s_end=0.5, rtol=1e-4, method=method, save=tk.SaveAt(num=5)).raise_for_status()
    for counts in (flow.diagnostics["counts"]["run"], flow.diagnostics["counts"]["companion"]):
        assert counts["steps"] + counts["rejected"] < 200


@pytest.mark.parametrize("method", ["auto", "radau5", "tsit5", "streamed"])
def test_a_flow_that_weight_decay_takes_to_zero_keeps_its_digits(method):
    """Against SciPy on theta e^tau, which stays of order one, to |theta| = 1e-25."""
    rows, columns, y = [0, 0, 1], [0, 1, 2], np.array([1.0, 0.5, -1.0])
    data = tk.datasets.matrix_entries(list(zip(rows, columns, strict=True)), y, shape=(3, 3))
    problem = tk.Problem(MatrixFactorization(3), data, alpha=2.0, weight_decay=50.0, loss="squared")
    shares = problem.shares

    def rhs(tau, scaled):
        U, V = scaled.reshape(2, 3, 3)
        W = math.exp(-2.0 * tau) * (U @ U.T - V @ V.T)
        G = np.zeros((3, 3))
        G[rows, columns] = 2.0 * shares * (W[rows, columns] - y) / 50.0
        G = G + G.T
        return np.concatenate([-(G @ U).ravel(), (G @ V).ravel()])

    start = 2.0 * problem.direction
    exact = solve_ivp(rhs, (0.0, 60.0), start, "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    flow = tk.gradient_flow(problem, tau_end=60.0, rtol=1e-6, method=method, save=tk.SaveAt(num=6)).raise_for_status()
    missed = abs(flow.stats["log_norm"][-1] - (math.log(np.linalg.norm(exact)) - 60.0))
    assert missed <= flow.errors["log_norm"][-1] < 1e-2


@pytest.mark.parametrize("loss", ["exponential", "squared"])
def test_a_start_too_far_from_the_data_is_refused(loss):
    rng = np.random.default_rng(1)
    y = rng.choice([-1.0, 1.0], 10)
    data = tk.Dataset.from_arrays(
        rng.standard_normal((10, 4)), y, task="regression" if loss == "squared" else "classification"
    )
    problem = tk.Problem(MLP((4, 5, 5, 1)), data, loss, log_alpha=200.0, log_weight_decay=-200.0, init="he")
    with pytest.raises(
        tk.InputError, match=r"init: got outputs .* away from the data at the start, at log_alpha = 200"
    ):
        tk.gradient_flow(problem, s_end=1.5)
