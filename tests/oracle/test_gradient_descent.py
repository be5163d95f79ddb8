"""Gradient descent against what it must be: the flow in the limit, one step by hand, batches found by brute force."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats

import theorykit as tk
from theorykit.flow._iterate import largest_curvature
from theorykit.models import MLP, DiagonalNet, Linear, MatrixFactorization


def small_problem(loss: str, degree: int = 2, n: int = 3, d: int = 5, **scales: float) -> tk.Problem:
    rng = np.random.default_rng(degree)
    y = rng.standard_normal(n) if loss == "squared" else np.resize([1.0, -1.0, 1.0], n)
    task: Any = "regression" if loss == "squared" else "classification"
    data = tk.Dataset.from_arrays(rng.standard_normal((n, d)), y, task=task)
    return tk.Problem(
        DiagonalNet(d=d, degree=degree), data, loss=loss, **({"alpha": 0.8, "weight_decay": 0.2} | scales)
    )


def of_any_model(model: Any, data: tk.Dataset, loss: str, init: Any, alpha: float, weight_decay: float) -> tk.Problem:
    return tk.Problem(model, data, loss=loss, init=init, alpha=alpha, weight_decay=weight_decay)


def gradient(problem: tk.Problem, theta: np.ndarray, rows: Any = slice(None), noise: Any = 0.0) -> np.ndarray:
    """Return the gradient of the mean loss over the rows plus the decay, for diagonal nets, by hand."""
    X, y, L = problem.data.X[rows].astype(float), problem.data.y[rows], problem.model.degree
    u, v = np.split(theta, 2)
    f = X @ (u**L - v**L)
    slopes = {
        "squared": lambda: 2.0 * (f - y + noise),
        "exponential": lambda: -y * np.exp(-y * f),
        "logistic": lambda: -y / (1.0 + np.exp(y * f)),
    }[problem.loss]()
    g = L * (slopes @ X) / y.size
    return np.concatenate([u ** (L - 1) * g, -(v ** (L - 1)) * g]) + np.exp(problem.log_weight_decay) * theta


def iterates(problem: tk.Problem, **settings: Any) -> np.ndarray:
    """Return theta before the first and after every step, shape (steps + 1, P)."""
    seen: list[np.ndarray] = [math.exp(problem.log_alpha) * problem.direction]

    def record(theta: np.ndarray) -> float:
        seen.append(theta)
        return 0.0

    steps = settings["steps"]
    tk.gradient_descent(problem, save=tk.SaveAt(num=max(2, steps)), statistics={"seen": record}, **settings)
    return np.array(seen)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
def test_tends_to_the_flow_at_first_order(loss, degree):
    problem = small_problem(loss, degree)
    time = 2.0
    flow = tk.gradient_flow(problem, log_t_end=math.log(time), rtol=1e-10)
    counts = 800 * 2 ** np.arange(3)
    runs = [tk.gradient_descent(problem, step=time / count, steps=int(count)) for count in counts]
    errors = [np.max(np.abs(run.weights(-1) - flow.weights(-1))) for run in runs]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)
    for name in ("log_train_loss", "log_norm", "log_delta"):
        extrapolated = 2.0 * runs[2].stats[name][-1] - runs[1].stats[name][-1]
        assert extrapolated == pytest.approx(flow.stats[name][-1], rel=1e-4)
    assert runs[0].tau[-1] == pytest.approx(flow.tau[-1])


@pytest.mark.parametrize("degree", [2, 3, 5])
@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
def test_steps_by_hand(loss, degree):
    problem = small_problem(loss, degree, n=8)
    theta = iterates(problem, step=0.03, steps=20)
    for before, after in itertools.pairwise(theta):
        np.testing.assert_allclose(after, before - 0.03 * gradient(problem, before), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("integers", [True, False])
def test_small_and_large_types_of_features_agree(integers):
    signs = np.random.default_rng(0).choice([-1, 1], size=(6, 9)).astype(np.int8)
    data = tk.Dataset.from_arrays(signs if integers else signs.astype(float), [1, 1, 1, -1, -1, -1])
    assert (data.X.dtype == np.int8) == integers
    problem = tk.Problem(DiagonalNet(d=9), data, alpha=0.5, weight_decay=0.01)
    theta = iterates(problem, step=0.1, steps=3, batch=6)
    np.testing.assert_allclose(theta[1], theta[0] - 0.1 * gradient(problem, theta[0]), rtol=1e-13)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_sample_once_an_epoch(batch):
    """The batch of every step, found by trying all that there are."""
    problem = small_problem("squared", n=8, weight_decay=0.05)
    epoch = -(-8 // batch)
    theta = iterates(problem, step=0.01, steps=6 * epoch, batch=batch, seed=3)
    orders = []
    for start in range(0, 6 * epoch, epoch):
        seen: list[int] = []
        for k in range(start, start + epoch):
            size = batch if k < start + epoch - 1 else 8 - batch * (epoch - 1)
            subsets = list(itertools.combinations(range(8), size))
            moves = [theta[k] - 0.01 * gradient(problem, theta[k], list(subset)) for subset in subsets]
            misses = [np.max(np.abs(theta[k + 1] - move)) for move in moves]
            assert min(misses) < 1e-13
            assert sorted(misses)[1] > 1e-8
            seen += subsets[int(np.argmin(misses))]
        assert sorted(seen) == list(range(8))
        orders.append(tuple(seen))
    assert len(set(orders)) > 1


def test_draws_with_replacement_are_uniform():
    problem = small_problem("squared", n=8, weight_decay=0.05)
    theta = iterates(problem, step=1e-3, steps=2000, batch=1, replacement=True)
    moves = np.stack([theta[:-1] - [1e-3 * gradient(problem, t, [i]) for t in theta[:-1]] for i in range(8)])
    picks = np.argmin(np.abs(theta[1:] - moves).max(axis=2), axis=0)
    assert scipy.stats.chisquare(np.bincount(picks, minlength=8)).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(8 * picks[:-1] + picks[1:], minlength=64)).pvalue > 1e-3


@pytest.mark.parametrize("batch", [1, 4])
def test_label_noise_is_fresh_and_normal(batch):
    """The noise of every visit, solved for from the step that it moved: rows of X are independent."""
    problem = small_problem("squared", n=4, d=6, alpha=1.0, weight_decay=0.0)
    step, sigma = 1e-4, 0.7
    theta = iterates(problem, step=step, steps=3000, batch=batch, label_noise=sigma)
    found = []
    for before, after in itertools.pairwise(theta):
        u, v = np.split(before, 2)
        pulls = (before - after)[:6] / (2.0 * step * u)  # (1/batch) sum_i 2 (f_i - y_i + xi_i) x_i over the batch
        coefficients = np.linalg.lstsq(problem.data.X.T, pulls, rcond=None)[0] * batch / 2.0
        rows = np.arange(4) if batch == 4 else [int(np.argmax(np.abs(coefficients)))]
        residuals = problem.data.X @ (u**2 - v**2) - problem.data.y
        found += (coefficients - residuals)[rows].tolist()
    noise = np.array(found) / sigma
    assert noise.size == 3000 * batch
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4.0 / math.sqrt(noise.size)


def test_label_noise_finds_sparse_solutions():
    """What Theorem B.1 is about, at a small size: descent without noise stops at a dense interpolator."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((25, 40))
    w = np.zeros(40)
    w[:2] = 1.0
    data = tk.Dataset.from_arrays(X, X @ w, task="regression")
    problem = tk.Problem(DiagonalNet(d=40), data, loss="squared", alpha=0.5, weight_decay=0.0)
    noiseless = tk.gradient_descent(problem, step=2e-3, steps=20_000, batch=1, replacement=True)
    noisy = tk.gradient_descent(problem, step=2e-3, steps=1_000_000, batch=1, replacement=True, label_noise=1.0)
    population = [float(np.sum((run.weights(-1) - w) ** 2)) for run in (noiseless, noisy)]
    assert noiseless.stats["train_loss"][-1] < 1e-6
    assert population[1] < 0.1 * population[0]


def of_classes() -> tk.Problem:
    data = tk.Dataset.from_arrays(
        np.random.default_rng(0).standard_normal((6, 3)), [0, 1, 2, 2, 1, 0], task="multiclass"
    )
    return of_any_model(MLP((3, 4, 3), activation="z^2", bias=True), data, "cross_entropy", "he", 1.3, 0.1)


def of_a_matrix() -> tk.Problem:
    entries = [(0, 1), (1, 0), (2, 2), (0, 2)]
    data = tk.datasets.matrix_entries(entries, [0.5, 0.5, 1.0, -0.3], shape=(3, 3))
    assert data.weights is not None
    return of_any_model(MatrixFactorization(d=3), data, "squared", "theory", 0.7, 0.1)


def of_a_linear_model() -> tk.Problem:
    data = tk.Dataset.from_arrays(np.random.default_rng(0).standard_normal((6, 3)), [1, -1, 1, 1, -1, 1])
    return of_any_model(Linear(3), data, "logistic", "theory", 0.7, 0.1)  # which is 0


def mean_loss(problem: tk.Problem, theta: np.ndarray) -> float:
    """Return the weighted mean loss plus the decay, from outputs alone."""
    data, f = problem.data, problem.model.output(theta, problem.data.X)
    if problem.loss == "cross_entropy":
        losses = scipy.special.logsumexp(f, axis=1) - f[np.arange(data.n), data.y]
    else:
        losses = (f - data.y) ** 2 if problem.loss == "squared" else np.log1p(np.exp(-data.y * f))
    return float(np.average(losses, weights=data.weights) + 0.5 * problem.weight_decay * theta @ theta)


def numerical_gradient(value: Any, theta: np.ndarray) -> np.ndarray:
    width = 1e-6
    return np.array([(value(theta + width * e) - value(theta - width * e)) / (2.0 * width) for e in np.eye(theta.size)])


@pytest.mark.parametrize("make", [of_classes, of_a_matrix, of_a_linear_model])
def test_any_model(make):
    problem = make()
    theta = iterates(problem, step=0.05, steps=10)
    for before, after in itertools.pairwise(theta):
        slope = numerical_gradient(lambda t: mean_loss(problem, t), before)
        np.testing.assert_allclose(after, before - 0.05 * slope, rtol=1e-7, atol=1e-9)
    run = tk.gradient_descent(problem, step=0.05, steps=10)
    decay = 0.5 * problem.weight_decay * run.theta @ run.theta
    assert run.stats["train_loss"][-1] == pytest.approx(mean_loss(problem, run.theta) - decay, rel=1e-12)
    assert run.stats["norm"][-1] == pytest.approx(float(np.linalg.norm(run.theta)))


@pytest.mark.parametrize("make", [of_classes, of_a_matrix, of_a_linear_model])
def test_batches_of_any_model_average_to_the_whole(make):
    """From one point, the steps of one epoch add up to full-batch ones, since every sample is visited once."""
    problem = make()
    n, step = problem.data.n, 1e-9
    whole = tk.gradient_descent(problem, step=step, steps=n).theta - iterates(problem, step=step, steps=1)[0]
    parts = tk.gradient_descent(problem, step=step, steps=n, batch=1).theta - iterates(problem, step=step, steps=1)[0]
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize(("batch", "replacement", "noise"), [(8, False, 0.0), (3, False, 0.5), (2, True, 0.5)])
def test_the_compiled_loop_and_the_general_one_agree(batch, replacement, noise, monkeypatch):
    problem = small_problem("squared", 3, n=8, weight_decay=0.05)
    settings = {"step": 0.01, "steps": 50, "batch": batch, "replacement": replacement, "label_noise": noise}
    fast = tk.gradient_descent(problem, **settings)
    monkeypatch.setattr("theorykit.flow._iterate.DiagonalNet", ())
    slow = tk.gradient_descent(problem, **settings)
    assert fast.settings["compiled"]
    assert not slow.settings["compiled"]
    np.testing.assert_allclose(fast.theta, slow.theta, rtol=1e-11)


@pytest.mark.parametrize("settings", [{}, {"batch": 3}, {"batch": 2, "replacement": True}, {"label_noise": 0.3}])
def test_where_one_looks_changes_nothing(settings):
    problem = small_problem("squared", n=8, weight_decay=0.05)
    settings = settings | {"step": 0.01, "steps": 397}
    plain = tk.gradient_descent(problem, save=tk.SaveAt(num=2), **settings)
    looked = tk.gradient_descent(problem, save=tk.SaveAt(num=397), events=[tk.Crossing("norm", 0.0)], **settings)
    assert np.array_equal(plain.theta, looked.theta)
    assert looked.steps.tolist() == list(range(1, 398))


@pytest.mark.parametrize("check_every", [1, 7, 100])
def test_events_are_those_of_the_full_record(check_every):
    problem = small_problem("squared", n=8, weight_decay=0.05)
    settings: dict[str, Any] = {"step": 0.01, "steps": 600, "batch": 1, "label_noise": 0.2}
    record = tk.gradient_descent(problem, save=tk.SaveAt(num=600), **settings)
    level = float(np.median(record.stats["train_loss"]))
    run = tk.gradient_descent(
        problem, save=tk.SaveAt(num=2), events=[tk.Crossing("train_loss", level)], check_every=check_every, **settings
    )
    below = record.stats["train_loss"] < level
    crossed = {(k + 2, 1 if below[k] else -1) for k in np.flatnonzero(below[1:] != below[:-1])}
    found = {(round(math.exp(event.log_t) / 0.01), event.direction) for event in run.events}
    assert found
    assert found == crossed if check_every == 1 else found <= crossed
    for event in run.events:
        assert event.tau == pytest.approx(0.05 * math.exp(event.log_t))
        assert event.error == pytest.approx(0.05 * 0.01)


def test_stop_ends_at_its_step():
    problem = small_problem("squared", n=8)
    whole = tk.gradient_descent(problem, step=0.01, steps=400, save=tk.SaveAt(num=400))
    losses = whole.stats["train_loss"]
    assert np.all(np.diff(losses[:31]) < 0.0)
    level = float(losses[29:31].mean())
    run = tk.gradient_descent(problem, step=0.01, steps=400, stop=[tk.Crossing("train_loss", level)], check_every=50)
    assert (run.status, run.steps[-1]) == ("stopped", 31)
    assert run.stats["train_loss"][-1] == losses[30]
    assert run.raise_for_status() is run
    shorter = tk.gradient_descent(problem, step=0.01, steps=31)
    assert np.array_equal(run.theta, shorter.theta)


def test_divergence_is_reported_with_the_last_finite_iterate():
    problem = small_problem("squared", n=8, alpha=2.0)
    run = tk.gradient_descent(problem, step=0.5, steps=100_000, save=tk.SaveAt(num=2))
    assert run.status == "diverged"
    theta = 2.0 * problem.direction
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(int(run.steps[-1])):
            theta = theta - 0.5 * gradient(problem, theta)
        assert np.isfinite(theta).all()
        assert not np.isfinite(theta - 0.5 * gradient(problem, theta)).all()
    np.testing.assert_allclose(run.theta, theta, rtol=1e-6)
    assert f"after step {run.steps[-1] + 1}" in run.message
    assert "above 2/(largest curvature at the start)" in run.message
    with pytest.raises(tk.FlowError, match="diverged"):
        run.raise_for_status()


@pytest.mark.parametrize("degree", [2, 3])
def test_curvature_is_the_largest_eigenvalue(degree):
    problem = small_problem("squared", degree, n=8, alpha=2.0)
    theta = 2.0 * problem.direction
    columns = [numerical_gradient(lambda t, k=k: gradient(problem, t)[k], theta) for k in range(theta.size)]
    largest = np.abs(np.linalg.eigvalsh(np.array(columns))).max()
    assert largest_curvature(problem, theta) == pytest.approx(largest, rel=1e-3)


def test_test_points_and_directions():
    data = tk.datasets.sparse_sign(n=8, d=40, k=3, n_test=300, seed=0)
    problem = tk.Problem(DiagonalNet(d=40), data, alpha=1.0, weight_decay=1e-3)
    ends = {"kernel": np.arange(40.0) - 10.0, "rich": data.truth}
    run = tk.gradient_descent(problem, step=0.1, steps=200, directions=ends)
    w, (X, y) = run.weights(-1), next(data.test.blocks())
    assert run.stats["test_accuracy"][-1] == np.mean(y * (X @ w) > 0.0)
    assert run.stats["test_loss"][-1] == pytest.approx(np.mean(np.log1p(np.exp(-y * (X @ w)))))
    angles = [np.arccos(w @ v / np.linalg.norm(w) / np.linalg.norm(v)) for v in ends.values()]
    assert run.stats["cos_rich"][-1] == pytest.approx(np.cos(angles[1]))
    assert run.stats["transition"][-1] == pytest.approx(angles[0] / sum(angles))
    q = data.y * (data.X @ w)
    assert run.stats["margin"][-1] == pytest.approx(q.min() / np.linalg.norm(run.theta) ** 2)


def test_divergence_below_the_limit_at_the_start():
    """At a tiny start, and degree 3, the curvature is tiny too: 2/curvature there says nothing about later steps."""
    problem = small_problem("squared", 3, n=8, alpha=1e-3, weight_decay=0.0)
    step = 1.5 / largest_curvature(problem, 1e-3 * problem.direction)
    whole = tk.gradient_descent(problem, step=step, steps=100_000)
    assert whole.status == "diverged"
    assert re.search(r"below 2/.*curvature has grown since: try a smaller", whole.message)
    parts = tk.gradient_descent(problem, step=step, steps=100_000, batch=1)
    assert re.search(r"below 2/.*or is larger on a batch: try a smaller", parts.message)
