"""What the claims about figures of large nets share: flows, bounds on accuracies, times of jumps, with their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit import Crossing, Problem, SaveAt, Trajectory, gradient_flow
from theorykit.checking import Measurement, Tools
from theorykit.checking.measurement import clopper_pearson

Floats = NDArray[np.float64]

_RTOL = 0.03  # what curves need; it follows the run's tolerance slowly, since kinks make tight ones dear
_LEVEL = 0.5  # at which a jump is timed
_POINTS = 120


@dataclass(frozen=True, eq=False)
class Curves:
    """The accuracies along a flow.

    Attributes
    ----------
    clock : ndarray, shape (T,)
        lambda t; log t without weight decay.
    """

    trajectory: Trajectory
    problem: Problem
    clock: Floats

    accuracies = ("train_accuracy", "test_accuracy")

    @classmethod
    def of(
        cls, tools: Tools, problem: Problem, *, tau_end: float | None = None, log_t_end: float | None = None
    ) -> Curves:
        """Return those of a problem, computed once for all claims of a run."""
        rtol = _RTOL * min(1.0, (tools.rtol / 1e-8) ** 0.25)
        decays = log_t_end is None
        key = ("curves", problem.data.fingerprint, problem.model, problem.log_alpha, problem.log_weight_decay,
               problem.direction.tobytes(), tau_end, log_t_end)  # fmt: skip
        trajectory = tools.remember(
            key,
            lambda: gradient_flow(
                problem, tau_end=tau_end, log_t_end=log_t_end, rtol=rtol, dtype="float32",
                save=SaveAt(num=_POINTS, spacing="linear" if decays else "loglog"),
                events=[Crossing("test_accuracy", _LEVEL, direction=1)],
            ).raise_for_status(),
        )  # fmt: skip
        return cls(trajectory, problem, trajectory.tau if decays else trajectory.log_t)

    @property
    def stats(self) -> dict[str, Floats]:
        """The statistics of the flow."""
        return self.trajectory.stats

    def between(self, begin: float, end: float) -> NDArray[np.bool_]:
        """Return which save points are in a stretch of the clock."""
        inside: NDArray[np.bool_] = (self.clock >= begin - 1e-9) & (self.clock <= end + 1e-9)
        return inside

    def error(self, name: str, index: int) -> float:
        """Return the error of a statistic from the integration."""
        return float(self.trajectory.errors[name][index])

    def last(self) -> dict[str, float]:
        """Return both accuracies at the end."""
        return {f"{name.replace('_', ' ')} at the end": float(self.stats[name][-1]) for name in self.accuracies}


class Jump(NamedTuple):
    """When test accuracy rises through 1/2, in the clock, with errors from the integration and from the test points."""

    clock: float
    integrator: float
    sampling: float


def jump(curves: Curves) -> Jump:
    """Return the first rise of the test accuracy through 1/2.

    One that does not come is at infinity, with the end of the flow as a bound from below: its Measurement says so by an
    error as large as the flow is long.
    """
    test = curves.problem.data.test
    assert test is not None
    end = float(curves.clock[-1])
    if not curves.trajectory.events:
        return Jump(end, end, end)
    event = curves.trajectory.events[0]
    at = event.tau if math.isfinite(curves.trajectory.tau[-1]) else event.log_t
    low, high = clopper_pearson(round(_LEVEL * test.n), test.n)
    highest = np.maximum.accumulate(curves.stats["test_accuracy"])
    times = [float(curves.clock[min(int(np.searchsorted(highest, level)), highest.size - 1)]) for level in (low, high)]
    return Jump(at, min(event.error, end), max(abs(at - times[0]), abs(times[1] - at)))


def slack(curves: Curves, name: str, inside: NDArray[np.bool_], level: float, *, above: bool) -> Measurement:
    """Return by how much an accuracy keeps to a bound over a stretch; training accuracies have half a sample of it."""
    values = curves.stats[name][inside]
    index = int(values.argmin() if above else values.argmax())
    value, error = float(values[index]), float(curves.trajectory.errors[name][inside][index])
    distance = value - level if above else level - value
    if name == "train_accuracy":
        return Measurement(distance + 0.5 / curves.problem.data.n, 0.0)
    assert curves.problem.data.test is not None
    low, high = clopper_pearson(round(value * curves.problem.data.test.n), curves.problem.data.test.n)
    return Measurement(distance, 0.0, integrator=error, sampling=value - low if above else high - value)


def tightest(slacks: Sequence[Measurement], extra: Mapping[str, float]) -> Measurement:
    """Return the slack that is nearest to being missed; the half sample of training accuracies counts if missed."""
    missed = [one for one in slacks if one.measured < 0.0]
    judged = missed or [one for one in slacks if one.error > 0.0] or list(slacks)
    return replace(min(judged, key=lambda one: one.measured - one.error), extra=dict(extra))


def on_shuffled_labels(problem: Problem) -> Problem:
    """Return the same problem with its training labels shuffled."""
    labels = np.random.default_rng(0).permutation(problem.data.y)
    data = replace(problem.data, y=labels, name=f"{problem.data.name}, labels shuffled")
    decay = {"weight_decay": 0.0} if problem.log_weight_decay == -math.inf else {"weight_decay": None}
    log_decay = math.nan if problem.log_weight_decay == -math.inf else problem.log_weight_decay
    return replace(
        problem, data=data, alpha=None, log_alpha=problem.log_alpha, log_weight_decay=log_decay, **decay
    )  # fmt: skip
