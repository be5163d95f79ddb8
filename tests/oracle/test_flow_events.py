"""Crossings: where SciPy finds them on the raw flow, two within one step, none where there are none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import theorykit as tk
from theorykit.losses import LOSSES

SPEC = importlib.util.spec_from_file_location("flow_agreement", Path(__file__).with_name("flow_agreement.py"))
assert SPEC is not None
assert SPEC.loader is not None
agreement = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(agreement)


def problem_of(loss: str, **settings: object) -> tk.Problem:
    rng = np.random.default_rng(7)
    y = rng.standard_normal(5) if loss == "squared" else rng.choice([-1.0, 1.0], 5)
    data = tk.Dataset.from_arrays(
        rng.standard_normal((5, 8)), y, task="regression" if loss == "squared" else "classification"
    )
    given = {"log_alpha": 1.8, "weight_decay": 0.02} | settings
    return tk.Problem(tk.models.DiagonalNet(d=8), data, loss=loss, **given)


def cosine(w: np.ndarray, direction: np.ndarray) -> float:
    """Return the cosine, 0 where w is."""
    norm = np.linalg.norm(w) * np.linalg.norm(direction)
    return float(w @ direction / norm) if norm > 0.0 else 0.0


def levels_on_the_way(trajectory: tk.Trajectory, statistic: str) -> list[float]:
    """Return two levels that the statistic passes through after the start-up."""
    values = trajectory.stats[statistic][trajectory.tau > 0.2]
    return [float(values.min() + share * np.ptp(values)) for share in (0.3, 0.8)]


@pytest.mark.parametrize("loss", LOSSES)
def test_event_times_agree_with_scipy(loss):
    problem = problem_of(loss)
    X, y, d, end = problem.data.X, problem.data.y, problem.data.d, 3.5
    direction = np.linspace(-1.0, 1.0, d)

    def weights(theta: np.ndarray) -> np.ndarray:
        return theta[:d] ** 2 - theta[d:] ** 2

    read = {
        "norm": np.linalg.norm,
        "cos_odd": lambda theta: cosine(weights(theta), direction),
    }
    if loss != "squared":
        read["output_margin"] = lambda theta: np.min(y * (X @ weights(theta)))
        read["train_loss"] = lambda theta: np.mean(
            np.exp(-y * (X @ weights(theta))) if loss == "exponential" else np.logaddexp(0.0, -y * (X @ weights(theta)))
        )
    first = tk.gradient_flow(problem, tau_end=end, directions={"odd": direction})
    crossings = [tk.Crossing(name, level) for name in read for level in levels_on_the_way(first, name)]
    trajectory = tk.gradient_flow(problem, tau_end=end, rtol=1e-10, events=crossings, directions={"odd": direction})

    marks = [lambda tau, theta, c=c: read[c.statistic](theta) - c.level for c in crossings]
    rhs, jacobian = agreement.raw_rhs(problem)
    start = np.exp(problem.log_alpha) * problem.direction
    solution = solve_ivp(
        rhs,
        (0.0, end),
        start,
        "Radau",
        jac=jacobian,
        rtol=1e-11,
        atol=1e-14,
        first_step=1e-12,
        max_step=0.02,
        events=marks,
    )
    for crossing, taus, states in zip(crossings, solution.t_events, solution.y_events, strict=True):
        found = [e for e in trajectory.events if (e.name, e.level) == (crossing.statistic, crossing.level)]
        late = [e for e in found if e.tau > 0.1]
        expected = taus[taus > 0.1]
        assert len(late) == len(expected) >= 1, (crossing, taus, states.shape)
        np.testing.assert_allclose([e.tau for e in late], expected, atol=1e-7)
        assert all(e.error < 1e-6 for e in late)


def test_both_crossings_within_one_step_are_found():
    """The cosine to w at a time rises to 1 there and falls again: a bump, here narrower than a step."""
    problem = problem_of("logistic")
    plain = tk.gradient_flow(problem, tau_end=4.0, rtol=1e-3, save=tk.SaveAt(num=2))
    ends = np.exp(plain._path.step_ends())  # type: ignore[union-attr]
    ends = ends[ends > 1.0]
    index = int(np.argmax(np.diff(ends)))
    start, width = ends[index], np.diff(ends)[index]
    peak = plain.at(tau=start + 0.5 * width).weights
    sides = [plain.at(tau=start + share * width).weights for share in (0.1, 0.9)]
    level = max(cosine(w, peak) for w in sides)
    both = tk.gradient_flow(
        problem,
        tau_end=4.0,
        rtol=1e-3,
        save=tk.SaveAt(num=2),
        directions={"peak": peak},
        events=[tk.Crossing("cos_peak", level)],
    )
    inside = [event for event in both.events if start < event.tau < start + width]
    assert [event.direction for event in inside] == [1, -1]
    for event in inside:
        assert both.at(tau=event.tau, directions={"peak": peak / np.linalg.norm(peak)})["cos_peak"] == pytest.approx(
            level, abs=1e-12
        )
    for direction, expected in ((1, inside[:1]), (-1, inside[1:])):
        watch = tk.Crossing("cos_peak", level, direction=direction)
        filtered = tk.gradient_flow(
            problem, tau_end=4.0, rtol=1e-3, save=tk.SaveAt(num=2), directions={"peak": peak}, events=[watch]
        ).events
        assert all(event.direction == direction for event in filtered)
        assert [e.tau for e in filtered if start < e.tau < start + width] == [e.tau for e in expected]


def test_a_level_that_is_never_reached_gives_no_event():
    problem = problem_of("logistic")
    watch = [tk.Crossing("train_accuracy", 1.5), tk.Crossing("norm", 1e9), tk.Crossing("log_norm", -50.0)]
    assert tk.gradient_flow(problem, tau_end=3.0, events=watch).events == ()


def test_events_come_in_time_order_with_all_their_clocks():
    problem = problem_of("logistic")
    levels = levels_on_the_way(tk.gradient_flow(problem, s_end=1.6), "log_norm")
    events = tk.gradient_flow(problem, s_end=1.6, events=[tk.Crossing("log_norm", level) for level in levels]).events
    assert len(events) >= 2
    assert [e.tau for e in events] == sorted(e.tau for e in events)
    for event in events:
        assert event.s == pytest.approx(event.tau / 1.8)
        assert event.log_t == pytest.approx(np.log(event.tau / 0.02))
