"""Figures 1a and 1b: grokking and misgrokking of a diagonal net, at the size of the profile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from theorykit import Problem, SaveAt, Trajectory, gradient_flow
from theorykit.checking import Claim, Control, Instance, Measurement, Source, clopper_pearson
from theorykit.experiments import build_problem, load_experiment
from theorykit.models import DiagonalNet

_S_END, _POINTS = 2.5, 100
_COARSER = 100.0  # accuracies need fewer digits than limits: rtol 1e-6 by default


@dataclass(frozen=True)
class Bound:
    """An accuracy stays above (or below) a level over a stretch of s."""

    statistic: str
    begin: float
    end: float
    level: float
    above: bool


TRAINED = Bound("train_accuracy", 0.05, _S_END, 1.0, True)


class _Figure(Claim):
    """What both figures share: the flow of a preset, and bounds on accuracies over stretches of s."""

    kind = "figure"
    quantity = "slack of the tightest bound on an accuracy"
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 1, "paper": 1}
    judged = (
        "The flow of the preset: full size in profile paper, smaller (with milder bounds, the test set being smaller) "
        "in the others. Each bound on an accuracy over its stretch of s has a slack, and as its error the 99 % "
        "Clopper–Pearson interval of a test accuracy. The number is the slack nearest to its error, and must exceed it."
    )
    preset: ClassVar[str]
    bounds: ClassVar[Mapping[str, tuple[Bound, ...]]]

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Yield the preset's problem."""
        problem = self._problem()
        p = -problem.log_weight_decay / problem.log_alpha
        assert isinstance(problem.init, str)
        assert isinstance(problem.model, DiagonalNet)
        yield Instance(problem.model, problem.data, problem.loss, p=p, c=0.3, init=problem.init)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the tightest slack."""
        return self._slack(instance)

    def controls(self) -> Sequence[Control]:
        """Return the same flow from shuffled training labels."""
        return (Control("training labels shuffled", lambda instance, problem: self._slack(_shuffled(instance))),)

    def broken(self) -> Sequence[Control]:
        """Return another time: what holds of the test accuracy before the transition, to the end."""
        return (Control("no transition", lambda instance, problem: self._slack(instance, self._without_transition())),)

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return both accuracies and the cosines to both predictors against s."""
        trajectory = self._flow(instance)
        curves = {
            name.replace("_", " "): trajectory.stats[name].tolist() for name in ("train_accuracy", "test_accuracy")
        }
        weights = [trajectory.weights(k) for k in range(trajectory.s.size)]
        for norm in (2, 1):
            target = self.max_margin(instance.data, norm).w
            curves[f"cos to max ℓ{norm}-margin"] = [
                float(w @ target / np.linalg.norm(w) / np.linalg.norm(target)) for w in weights
            ]
        label = f"{self.preset}: n = {instance.data.n}, d = {instance.data.d}"
        marks = {"T⁻": 1.0 - instance.c, "T⁺": 1.0 + instance.c}
        return [
            {
                "label": label,
                "s": trajectory.s.tolist(),
                "curves": curves,
                "marks": marks,
                "quantity": "accuracy, cosine",
            }
        ]

    def _problem(self) -> Problem:
        profile = "paper" if self.tools.profile == "paper" else "quick"
        return build_problem(load_experiment(self.preset, profile=profile))

    def _flow(self, instance: Instance) -> Trajectory:
        log_alpha = load_experiment(self.preset).settings["problem"]["alpha"]
        problem = instance.at(math.log(log_alpha))
        return self.tools.remember(
            (instance.key, "figure"),
            lambda: gradient_flow(
                problem, s_end=_S_END, rtol=_COARSER * self.tools.rtol, save=SaveAt(num=_POINTS)
            ).raise_for_status(),
        )

    def _bounds(self) -> tuple[Bound, ...]:
        return self.bounds["paper" if self.tools.profile == "paper" else "quick"]

    def _without_transition(self) -> tuple[Bound, ...]:
        trained, early, _ = self._bounds()
        return trained, replace(early, end=_S_END)

    def _slack(self, instance: Instance, bounds: tuple[Bound, ...] | None = None) -> Measurement:
        """Return the slack of the bound that is nearest to being missed."""
        trajectory = self._flow(instance)
        pairs = [_slack_of(bound, trajectory, instance) for bound in bounds or self._bounds()]
        missed = [pair for pair in pairs if pair[0] < 0.0]
        # where all hold, the bounds on test accuracy say more than the half sample of training accuracy
        slack, error = min(missed or pairs[1:], key=lambda pair: pair[0] - pair[1])
        last = {f"{name} at the end": float(trajectory.stats[name][-1]) for name in ("train_accuracy", "test_accuracy")}
        return Measurement(slack, 0.0, sampling=error, extra=last)


class Grokking(_Figure):
    """Sparse labels on sign data: training accuracy is 1 early while test accuracy is near 1/2; at the transition test
    accuracy jumps to 1 (paper: train 1 from s = 0.05, test below 0.6 for s < 0.35, at least 0.999 at s = 2.5).
    """

    id, title = "lyu2024.fig-1a", "Grokking: sparse sign data"
    source = Source("lyu2024", "Figure 1a")
    preset = "fig-1a"
    bounds: ClassVar[Mapping[str, tuple[Bound, ...]]] = {
        "paper": (
            TRAINED,
            Bound("test_accuracy", 0.0, 0.35, 0.6, False),
            Bound("test_accuracy", _S_END, _S_END, 0.999, True),
        ),
        "quick": (
            TRAINED,
            Bound("test_accuracy", 0.0, 0.35, 0.65, False),
            Bound("test_accuracy", _S_END, _S_END, 0.98, True),
        ),
    }


class Misgrokking(_Figure):
    """Two separated Gaussians: the early classifier generalises, the late one does not, so that test accuracy falls at
    the transition (paper: train 1 from s = 0.05, test at least 0.99 for s < 0.6, below 0.65 at s = 2.5).
    """

    id, title = "lyu2024.fig-1b", "Misgrokking: separated Gaussians"
    source = Source("lyu2024", "Figure 1b")
    preset = "fig-1b"
    bounds: ClassVar[Mapping[str, tuple[Bound, ...]]] = {
        "paper": (
            TRAINED,
            Bound("test_accuracy", 0.0, 0.6, 0.99, True),
            Bound("test_accuracy", _S_END, _S_END, 0.65, False),
        ),
        "quick": (
            TRAINED,
            Bound("test_accuracy", 0.05, 0.6, 0.95, True),
            Bound("test_accuracy", _S_END, _S_END, 0.75, False),
        ),
    }


def _slack_of(bound: Bound, trajectory: Trajectory, instance: Instance) -> tuple[float, float]:
    """Return by how much a bound holds over its stretch (negative: is missed), and the error of that."""
    s = trajectory.s
    inside = (s >= bound.begin - 1e-9) & (s <= bound.end + 1e-9)
    values = trajectory.stats[bound.statistic][inside]
    value = float(values.min() if bound.above else values.max())
    if bound.statistic == "train_accuracy":  # a count of samples, without sampling error: half a sample is the slack
        return value - bound.level + 0.5 / instance.data.n, 0.0
    assert instance.data.test is not None
    count = instance.data.test.n
    low, high = clopper_pearson(round(value * count), count)
    return (value - bound.level, value - low) if bound.above else (bound.level - value, high - value)


def _shuffled(instance: Instance) -> Instance:
    labels = np.random.default_rng(0).permutation(instance.data.y)
    return replace(instance, data=replace(instance.data, y=labels, name=f"{instance.data.name}, labels shuffled"))
