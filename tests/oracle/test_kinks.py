"""ReLU nets along their kinks: against subgradient steps written out here, identities, and tighter runs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import model_flow
from theorykit.flow.carried import CarriedField
from theorykit.flow.frames import KERNEL, RICH, Field
from theorykit.flow.kinks import distances, normals, rates, responses
from theorykit.flow.model_flow import Run
from theorykit.flow.model_path import ModelPath
from theorykit.models import CNN, MLP, Difference

SPEC = importlib.util.spec_from_file_location("relu_flows", Path(__file__).with_name("relu_flows.py"))
assert SPEC is not None
assert SPEC.loader is not None
relu_flows = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(relu_flows)


def problem_of(net, loss, n, seed, *, alpha, weight_decay, init="theory"):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, net.d))
    if loss == "squared":
        data = tk.Dataset.from_arrays(X, rng.standard_normal(n), task="regression")
    else:
        data = tk.Dataset.from_arrays(X, rng.choice([-1.0, 1.0], n))
    return tk.Problem(net, data, loss=loss, alpha=alpha, weight_decay=weight_decay, init=init, seed=seed)


def subgradient_steps(problem, tau_end, count):
    """Return theta after `count` explicit steps of the raw flow of a two-layer ReLU net; along kinks they zigzag."""
    X, y, (d, width, _) = problem.data.X, problem.data.y, problem.model.widths
    theta = np.exp(problem.log_alpha) * problem.direction
    W, a = theta[: d * width].reshape(d, width).copy(), theta[d * width :].copy()
    step, rate = tau_end / count, np.exp(-problem.log_weight_decay) / len(y)
    for _ in range(count):
        active = X @ W > 0.0
        hidden = (X @ W) * active
        c = rate * y / (1.0 + np.exp(y * (hidden @ a)))
        W, a = W + step * (X.T @ (active * np.outer(c, a)) - W), a + step * (hidden.T @ c - a)
    return np.concatenate([W.ravel(), a])


def test_sliding_against_subgradient_steps():
    """The zigzag of explicit steps along a kink is as wide as the step: it comes to our flow in proportion to it."""
    problem = problem_of(MLP((4, 6, 1)), "logistic", 6, 0, alpha=4.0, weight_decay=1e-2)
    flow = tk.gradient_flow(problem, tau_end=0.7, rtol=1e-7, save=tk.SaveAt(num=5)).raise_for_status()
    assert "slid along kinks" in flow.message
    assert flow.counts["run"]["kinks"] >= 3
    unit, log_norm = flow.parameters(-1)
    ours = unit * np.exp(log_norm)
    gaps = [np.linalg.norm(subgradient_steps(problem, 0.7, count) - ours) for count in (4_000, 16_000)]
    assert gaps[1] < 1e-3 * np.exp(log_norm)
    assert gaps[1] < 0.3 * gaps[0]


def test_slopes_far_from_those_of_the_piece_are_found():
    """From the ends of their intervals Newton's method on cosines did not come to them; that on products does."""
    data = tk.datasets.sparse_sign(n=4, d=6, k=1, seed=0)
    problem = tk.Problem(MLP((6, 3, 1)), data, loss="logistic", log_alpha=2.0, log_weight_decay=-3.0, seed=2)
    flow = tk.gradient_flow(problem, tau_end=2.0).raise_for_status()
    assert flow.counts["run"]["kinks"] >= 3
    unit, log_norm = flow.parameters(-1)
    gap = np.linalg.norm(subgradient_steps(problem, 2.0, 64_000) - unit * np.exp(log_norm))
    assert gap < 1e-4 * np.exp(log_norm)


@pytest.mark.parametrize(
    ("widths", "n", "seed", "loss", "log_alpha", "log_weight_decay", "tau_end"),
    [
        ((6, 5, 1), 4, 87, "logistic", 1.4042247861158437, -3.287867627666907, 1.0),  # its slopes are two changes away
        ((3, 4, 1), 5, 23, "exponential", -0.4311, -2.3872, 6.0),  # units that are off graze the kinks they came to
        ((3, 2, 6, 1), 6, 79, "squared", -0.8212671951387881, -4.650112838844011, 0.1),  # kinks of pairs of units
    ],
)
def test_flows_go_on_from_crowds_of_kinks(widths, n, seed, loss, log_alpha, log_weight_decay, tau_end):
    data = tk.datasets.sparse_sign(n=n, d=widths[0], k=1, seed=seed)
    logs = {"log_alpha": log_alpha, "log_weight_decay": log_weight_decay}
    problem = tk.Problem(MLP(widths), data, loss, seed=seed, **logs)
    flow, tighter = (tk.gradient_flow(problem, tau_end=tau_end, rtol=rtol).raise_for_status() for rtol in (1e-6, 1e-8))
    assert flow.counts["run"]["kinks"] >= 2
    (unit, _), (there, _) = flow.parameters(-1), tighter.parameters(-1)
    assert np.linalg.norm(unit - there) < 1e-5


@pytest.mark.parametrize(("loss", "weight_decay"), [("exponential", 1e-3), ("exponential", 0.0), ("squared", 1e-3)])
def test_errors_cover_a_tighter_run_and_identities_hold(loss, weight_decay):
    problem = problem_of(MLP((4, 4, 1)), loss, 4, 1, alpha=10.0, weight_decay=weight_decay)
    end = {"s_end": 1.2} if weight_decay > 0.0 else {"log_t_end": 20.0}
    save = tk.SaveAt(num=15) if weight_decay > 0.0 else tk.SaveAt(log_t=np.linspace(0.0, 20.0, 15))
    tightest = 1e-7 if loss == "squared" else 1e-9  # it is stiff there, and slow
    flow = tk.gradient_flow(problem, rtol=1e3 * tightest, save=save, **end).raise_for_status()
    tight = tk.gradient_flow(problem, rtol=tightest, save=save, **end).raise_for_status()
    assert min(run.counts["run"]["kinks"] for run in (flow, tight)) > 0
    for name in ("log_train_loss", "log_norm"):
        gap = np.abs(flow.stats[name] - tight.stats[name])
        assert np.max(gap) <= np.max(flow.errors[name]) + np.max(tight.errors[name]), name
        assert np.max(gap) < 1e5 * tightest, name
    drift = tight.diagnostics["drift"]
    assert all(value is None or value < 1e3 * tightest for value in drift.values()), drift
    assert drift["balancedness"] < 10.0 * tightest


def test_a_small_net_without_weight_decay_ends():
    """It crawled for minutes while kinks were not located."""
    problem = problem_of(MLP((4, 10, 1)), "exponential", 8, 1, alpha=10.0, weight_decay=0.0)
    flow = tk.gradient_flow(problem, log_t_end=100.0, rtol=1e-6, save=tk.SaveAt(num=20)).raise_for_status()
    assert flow.counts["run"]["steps"] < 1_000
    assert flow.stats["log_train_loss"][-1] < -90.0
    assert flow.errors["log_train_loss"][-1] < 1e-3


NETS = [
    MLP((3, 4, 1)),
    MLP((3, 4, 1), bias=True),
    MLP((3, 4, 5, 2), activation="leaky_relu"),
    CNN((3,), channels=(2, 3), kernel=2),
    Difference(MLP((3, 4, 1))),
]


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_on_its_piece_a_model_is_itself(net):
    rng = np.random.default_rng(5)
    theta, h, X = rng.standard_normal(net.parameters), rng.standard_normal(net.parameters), rng.standard_normal((4, 3))
    free = net.inputs(X)
    g = net.preactivations(theta, free)
    held = replace(free, piece=net.slopes(g))
    c = rng.standard_normal(net.output(theta, X).shape)
    tangent = rng.standard_normal(net.parameters)
    for method, arguments in (("output", ()), ("vjp", (c,)), ("jvp", (tangent,)), ("hvp", (c, tangent))):
        ours, theirs = (getattr(net, method)(theta, inputs, *arguments) for inputs in (held, free))
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-13, err_msg=method)
    np.testing.assert_allclose(net.features(held, theta), net.features(free, theta), atol=1e-13)
    np.testing.assert_allclose(net.ntk(held, theta=theta), net.ntk(free, theta=theta), atol=1e-12)
    moved = theta + np.exp(-1.0) * h
    quotients, _ = net.preactivation_quotients(theta, h, -1.0, free)
    np.testing.assert_allclose(quotients * np.exp(-1.0), net.preactivations(moved, free), atol=1e-12)
    there = replace(free, piece=net.slopes(quotients))
    np.testing.assert_allclose(net.difference(theta, h, -1.0, there), net.difference(theta, h, -1.0, free), atol=1e-12)


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_gradients_of_preactivations(net):
    rng = np.random.default_rng(6)
    theta, tangent, X = (
        rng.standard_normal(net.parameters),
        rng.standard_normal(net.parameters),
        rng.standard_normal((4, 3)),
    )
    up, down = (net.preactivations(theta + sign * 1e-6 * tangent, X) for sign in (1.0, -1.0))
    kinks = np.arange(up.size)
    np.testing.assert_allclose(
        net.preactivation_gradients(theta, X, kinks) @ tangent, (up - down) / 2e-6, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_responses_to_slopes(net):
    """Against differences of the rates, for kinks of different layers and samples, on them."""
    rng = np.random.default_rng(0)
    X, outputs = rng.standard_normal((5, 3)), net.outputs
    task = {"task": "multiclass", "classes": 2} if outputs > 1 else {}
    data = tk.Dataset.from_arrays(X, rng.choice([-1.0, 1.0], 5) if outputs == 1 else rng.integers(0, 2, 5), **task)
    theta = rng.standard_normal(net.parameters)
    loss = "cross_entropy" if outputs > 1 else "logistic"
    problem = tk.Problem(net, data, loss=loss, alpha=2.0, weight_decay=0.01, init=theta)
    inputs = replace(net.inputs(X), piece=net.slopes(net.preactivations(theta, X)))
    field, kinks = Field(problem, inputs, RICH, log_clock=True), [0, 3, inputs.piece.size - 2]
    for _ in range(8):
        g = net.preactivations(theta, inputs)[kinks]
        theta = theta - np.linalg.lstsq(normals(field, 0.0, theta, kinks), g)[0]
    slopes = np.array([0.3, 0.6, 0.5])
    ends = [[rates(field, 0.0, theta, kinks, slopes + sign * 1e-3 * unit) for sign in (1, -1)] for unit in np.eye(3)]
    differences = np.array([(up.products - down.products) / 2e-3 for up, down in ends]).T
    ours = responses(field, 0.0, theta, kinks, slopes)
    np.testing.assert_allclose(ours, differences, atol=1e-11 * np.max(np.abs(differences)))


@pytest.mark.parametrize("frame", [KERNEL, RICH])
@pytest.mark.parametrize("log_clock", [True, False])
@pytest.mark.parametrize("net", [MLP((4, 6, 1)), MLP((3, 4, 4, 1)), MLP((4, 6, 1), activation="z^2")], ids=str)
def test_forces_in_the_state(net, log_clock, frame):
    """They change as those of the outputs do along the flow, and the Jacobian is the derivative of both."""
    problem = problem_of(net, "squared", 5, 1, alpha=2.0, weight_decay=1e-2, init="twin")
    rng, P, clock = np.random.default_rng(3), problem.direction.size, 0.7
    plain, carried = (kind(problem, net.inputs(problem.data.X), frame, log_clock) for kind in (Field, CarriedField))
    x, log_tau = rng.standard_normal(P), plain.log_tau(clock)

    def force(clock, x):
        log_tau = plain.log_tau(clock)
        return plain.cotangent(log_tau, plain.outputs(log_tau, x)) * np.exp(-plain.log_rate(log_tau))

    state = np.append(x, force(clock, x))
    velocity = carried(clock, state)
    h = 1e-6 / np.linalg.norm(velocity[:P])
    np.testing.assert_allclose(velocity[:P], plain(clock, x), rtol=1e-12, atol=1e-12 * np.abs(velocity).max())
    ahead, behind = (force(clock + sign * h, x + sign * h * velocity[:P]) for sign in (1, -1))
    np.testing.assert_allclose(velocity[P:], (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6 * np.abs(velocity).max())
    tangent = rng.standard_normal(state.size)
    difference = (carried(clock, state + 1e-6 * tangent) - carried(clock, state - 1e-6 * tangent)) / 2e-6
    ours = carried.jacobian(clock, state) @ tangent
    assert np.linalg.norm(ours - difference) < 1e-6 * np.linalg.norm(difference)
    d, u, v = carried.low_rank_jacobian(clock, state)
    bent = plain.given(np.exp(plain.log_rate(log_tau)) * state[P:]).bent(log_tau, x, 0.0, of_loss=False)
    if frame == RICH and not np.any(bent):
        np.testing.assert_allclose(np.diag(d) + u @ v.T, carried.jacobian(clock, state))


@pytest.mark.parametrize("frame", [KERNEL, RICH])
def test_the_jacobian_along_held_kinks(frame):
    """On a stretch of sliding: the field stays on its kinks, and its Jacobian is the derivative."""
    problem = problem_of(MLP((4, 6, 1)), "logistic", 6, 0, alpha=4.0, weight_decay=1e-2)
    path = tk.gradient_flow(problem, tau_end=1.0, rtol=1e-6, save=tk.SaveAt(num=3))._path
    assert isinstance(path, ModelPath)
    segment = next(s for s in path.integration.segments if s.field.held and s.field.frame == frame)
    field: Field = segment.field
    clock = float(0.5 * (segment.times[0] + segment.ends[-1]))
    log_tau = field.log_tau(clock)
    x = segment.state(log_tau)[1]
    force = field.sliding(log_tau, x).force(log_tau, x)
    gradients = normals(field, log_tau, x, field.held)
    assert np.max(np.abs(gradients @ force)) < 1e-12 * np.linalg.norm(gradients) * np.linalg.norm(force)
    g = distances(field, log_tau, x).g
    assert np.max(np.abs(g[list(field.held)])) < 1e-5
    tangent = np.random.default_rng(0).standard_normal(x.size)
    difference = (field(clock, x + 1e-6 * tangent) - field(clock, x - 1e-6 * tangent)) / 2e-6
    ours = field.jacobian(clock, x) @ tangent
    assert np.linalg.norm(ours - difference) < 1e-5 * np.linalg.norm(difference)


def unseen(log_alpha):
    """A net with a sample that no unit sees at the start."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((10, 4))
    data = tk.Dataset.from_arrays(X, np.sign(X @ [1.0, -1.0, 0.5, 0.2]))
    problem = tk.Problem(
        MLP((4, 8, 1)), data, loss="logistic", log_alpha=log_alpha, log_weight_decay=-log_alpha, init="twin"
    )
    active = X @ problem.direction[:32].reshape(4, 8) > 0.0
    assert np.any(active.sum(axis=1) == 0)
    return problem


def counts_from_a_kink(flow):
    return any(frame["clock"] == "log since a kink" for frame in flow.diagnostics["frames"])


def test_a_clock_that_counts_from_a_kink_follows_the_same_flow(monkeypatch):
    """Behind every kink instead of those where tau has no digits left; and both that of subgradient steps."""
    problem = unseen(3.0)
    plain = tk.gradient_flow(problem, tau_end=4.0, save=tk.SaveAt(num=5)).raise_for_status()
    monkeypatch.setattr(model_flow, "_FASTEST", 1e-300)
    counted = tk.gradient_flow(problem, tau_end=4.0, save=tk.SaveAt(num=5)).raise_for_status()
    assert not counts_from_a_kink(plain)
    assert counts_from_a_kink(counted)
    (unit, log_norm), (other, log_other) = plain.parameters(-1), counted.parameters(-1)
    np.testing.assert_allclose(other, unit, rtol=0, atol=1e-6)
    assert abs(log_norm - log_other) < 1e-6
    gap = np.linalg.norm(subgradient_steps(problem, 4.0, 64_000) - unit * np.exp(log_norm))
    assert gap < 2e-3 * np.exp(log_norm)
    drift = counted.diagnostics["drift"]
    assert max(drift["norm"], drift["energy"], drift["balancedness"]) < 1e-5


@pytest.mark.parametrize("log_alpha", [50.0, 1000.0, 10_000.0])
def test_a_sample_that_no_unit_saw_is_fitted_at_once_where_one_comes_to_see_it(log_alpha):
    """Behind that kink its force is e^(log alpha) times all others, and the flow faster than tau has digits."""
    flow = tk.gradient_flow(unseen(log_alpha), s_end=1.2, save=tk.SaveAt(num=9)).raise_for_status()
    assert counts_from_a_kink(flow)
    assert flow.stats["train_accuracy"][0] < 1.0
    assert flow.stats["train_accuracy"][-1] == 1.0
    assert flow.stats["margin"][-1] > 0.0


def test_a_sample_that_no_unit_saw_is_fitted_at_once_by_the_squared_loss():
    """In a time of 1/A behind the kink."""
    problem = unseen(50.0)
    problem = tk.Problem(problem.model, problem.data, "squared", log_alpha=50.0, log_weight_decay=-50.0, init="twin")
    flow = tk.gradient_flow(problem, s_end=0.999, save=tk.SaveAt(num=9)).raise_for_status()
    y, f = problem.data.y, flow.outputs(problem.data.X, -1)
    seen = np.abs(f) > 1e-3
    assert np.sum(seen) > np.sum(np.abs(flow.outputs(problem.data.X, 1)) > 1e-3)  # more than soon after the start
    np.testing.assert_allclose(f[seen], y[seen], atol=1e-6)


def test_a_sample_seen_along_kinks_only_is_not_right_by_round_off():
    """Its output is 0 to the end; the sign of what is left of it made the accuracy flicker."""
    flow = tk.gradient_flow(relu_flows.problem_of(4, "twin", 50.0), s_end=1.2, save=tk.SaveAt(num=25))
    assert flow.raise_for_status().counts["run"]["kinks"] > 30
    np.testing.assert_array_equal(flow.stats["train_accuracy"], 0.9)
    np.testing.assert_array_equal(flow.stats["output_margin"], 0.0)


def regression(log_weight_decay, seed):
    """A net with samples that no unit sees at the start."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((10, 4)), rng.standard_normal(10)
    data, scale = tk.Dataset.from_arrays(X, y, task="regression"), {"log_alpha": 3.0}
    return tk.Problem(
        MLP((4, 8, 1)), data, "squared", log_weight_decay=log_weight_decay, init="twin", seed=seed, **scale
    )


def end_of(problem, *, carried=True):
    """Return theta at s = 1.2, from forces in the state or, written as A~ (f - y), as unknowns of Newton's method."""
    run = Run(problem, True, np.log(3.6), 1e-7)
    assert run.field.carried
    if not carried:
        run.field, run.c = model_flow._as(Field, run.field), None
    while run.status.name == "RUNNING":
        run.step()
    assert run.status.name == "REACHED_END"
    assert run.field.frame == RICH
    return run.x


@pytest.mark.parametrize("seed", [0, 2])
def test_regression_along_kinks_in_two_ways(seed):
    """With slaved residuals these flows took other ways at some kinks, and differed by a percent or more."""
    problem = regression(-11.0, seed)
    ours, other = end_of(problem), end_of(problem, carried=False)
    assert np.linalg.norm(ours - other) < 1e-6 * np.linalg.norm(other)


def test_a_bounded_stiffness_is_the_limit_of_small_weight_decay():
    ends = {log_decay: end_of(regression(log_decay, 2)) for log_decay in (-13.0, -17.0, -1000.0)}
    gaps = [np.linalg.norm(ends[log_decay] - ends[-1000.0]) for log_decay in (-13.0, -17.0)]
    assert gaps[0] < 100.0 * np.exp(-13.0)
    assert gaps[1] < 0.1 * gaps[0]


def test_regression_at_huge_scale_slides_past_the_transition():
    """Along a dozen kinks at once; with the slopes searched for one by one that took minutes, or ended before."""
    problem = relu_flows.problem_of(3, "twin", 10_000.0, "squared")
    flow = tk.gradient_flow(problem, s_end=1.2, save=tk.SaveAt(num=7)).raise_for_status()
    assert max(frame["sliding"] for frame in flow._path.frames()) > 8
    np.testing.assert_allclose(flow.outputs(problem.data.X, -1), problem.data.y, atol=1e-6)


def test_more_kinks_than_are_located_do_not_end_the_squared_loss():
    rng = np.random.default_rng(0)
    data = tk.Dataset.from_arrays(rng.standard_normal((12, 3)), rng.standard_normal(12), task="regression")
    problem = tk.Problem(MLP((3, 450, 1)), data, "squared", log_alpha=40.0, log_weight_decay=-40.0, init="twin")
    flow = tk.gradient_flow(problem, s_end=0.3, rtol=1e-4, save=tk.SaveAt(num=3)).raise_for_status()
    assert flow.stats["log_train_loss"][-1] < -100.0


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_a_net_that_sees_nothing_only_decays(loss):
    task = "regression" if loss == "squared" else "classification"
    data = tk.Dataset.from_arrays(np.array([[1.0, 0.5]]), np.array([1.0]), task=task)
    start = np.array([-1.0, -1.0, -0.5, -0.5, 0.3, -0.3])
    problem = tk.Problem(MLP((2, 2, 1)), data, loss, log_alpha=50.0, log_weight_decay=-50.0, init=start)
    flow = tk.gradient_flow(problem, tau_end=45.0, save=tk.SaveAt(num=3)).raise_for_status()
    np.testing.assert_allclose(flow.stats["log_norm"], 50.0 + np.log(np.linalg.norm(start)) - flow.tau, atol=1e-6)
