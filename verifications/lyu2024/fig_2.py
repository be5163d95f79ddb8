"""Figure 2: grokking of modular addition by a two-layer ReLU net, and what initial scale and weight decay do to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from theorykit import Problem
from theorykit.checking import Claim, Control, Measurement, Source, Trial
from theorykit.experiments import build_problem, load_experiment

from ._curves import Curves, jump, on_shuffled_labels, slack, tightest

GROKKING, SCALE, DECAY = "grokking (2a)", "initial scale (2b)", "weight decay (2c)"

_SMALLER = ("data.p=23", "data.fraction=0.85")  # of the quick preset fig-2a, for the suites
_EARLY = 0.3  # lambda t up to which test accuracy is near chance
_FITTED = 0.25  # lambda t from which all training pairs are right
_SMALL = (0.01, 0.3)  # initial scales of the control
_SLOPE = 0.5  # of lambda t* against log alpha, where the theory suggests 1
_LATER = 1.0  # smallest rise of log t* from lambda = 1e-3 to 1e-4, where the theory suggests log 10
_COLLAPSED = 0.5  # training accuracy that a net under too large a weight decay does not reach at the end


class ModularAddition(Claim):
    """A two-layer ReLU net with first-layer bias on one-hot pairs, cross-entropy, weight decay lambda: (a) it is right
    on all training pairs early, while its test accuracy is near chance, and later right on almost all test pairs;
    (b) from a zero last layer the jump comes later the larger the initial scale is; (c) it comes later the smaller
    lambda is, and too large a lambda breaks training.
    """

    id, title, kind = "lyu2024.fig-2", "Grokking: modular addition", "figure"
    source = Source("lyu2024", "Figure 2")
    quantity = "slack of the tightest bound"
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 1, "paper": 1}
    judged = (
        "Flows of the presets fig-2a, fig-2b and fig-2c, smaller than theirs except in profile paper. (a) Bounds on "
        "accuracies over stretches of lambda t, with the 99 % Clopper–Pearson interval of a test accuracy as error. "
        "(b) The jump is where test accuracy rises through 1/2; lambda t* must grow by more than 1/2 with log alpha "
        "(the theory suggests 1). (c) log t* must grow by more than 1 from lambda = 1e-3 to 1e-4 (the theory suggests "
        "log 10), and at 3e-2 the training accuracy at the end must be below 1/2. Errors of t*: the shift against a "
        "companion run at a looser tolerance, and that of the level within its Clopper–Pearson interval. The "
        "number is the slack nearest to its error, and must exceed it."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield the problems of the three panels."""
        profile = "paper" if self.tools.profile == "paper" else "quick"
        smaller = () if profile == "paper" else _SMALLER
        yield Trial(GROKKING, (build_problem(load_experiment("fig-2a", profile=profile, overrides=smaller)),))
        scales = [build_problem(member) for member in load_experiment("fig-2b", profile=profile).members]
        yield Trial(SCALE, (scales[0], scales[3]))
        decays = [build_problem(member) for member in load_experiment("fig-2c", profile=profile).members]
        yield Trial(DECAY, (decays[0], decays[2], decays[3]))

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the tightest slack of a panel."""
        return _PANELS[instance.label](self, instance.values)

    def controls(self) -> Sequence[Control]:
        """Return one false twin for each panel."""
        name = "(a) training labels shuffled, (b) small scales, (c) the clock lambda t instead of t"
        return (Control(name, lambda trial, problem: _TWINS[trial.label](self, trial.values)),)

    def broken(self) -> Sequence[Control]:
        """Return one changed time, constant or exponent for each panel."""
        name = "(a) near chance to the end, (b) a slope of more than 2, (c) t* like λ^-2"
        return (Control(name, lambda trial, problem: _BROKEN[trial.label](self, trial.values)),)

    def traces(self, instance: Trial, problem: None) -> Sequence[Mapping[str, Any]]:
        """Return both accuracies against lambda t."""
        found = [self._curves(given) for given in instance.values]
        return [
            {
                "label": f"{instance.label}: α = {math.exp(given.log_alpha):g}, "
                f"λ = {math.exp(given.log_weight_decay):.0e}",
                "s": curves.clock.tolist(),
                "curves": {name.replace("_", " "): curves.stats[name].tolist() for name in curves.accuracies},
                "quantity": "accuracy against λt",
            }
            for given, curves in zip(instance.values, found, strict=True)
        ]

    def _curves(self, problem: Problem, tau_end: float = 5.5) -> Curves:
        return Curves.of(self.tools, problem, tau_end=tau_end)

    def _grokking(self, problems: tuple[Problem, ...]) -> Measurement:
        curves = self._curves(problems[0])
        level = 0.95 if self.tools.profile == "paper" else 0.8
        fitted = curves.between(_FITTED, math.inf)
        bounds = [
            slack(curves, "test_accuracy", curves.between(0.0, _EARLY), 0.2, above=False),
            slack(curves, "test_accuracy", curves.between(curves.clock[-1], math.inf), level, above=True),
        ]
        return tightest([slack(curves, "train_accuracy", fitted, 1.0, above=True), *bounds], curves.last())

    def _scale(self, problems: tuple[Problem, ...]) -> Measurement:
        """Measure the slope of lambda t* against log alpha between two scales."""
        small, large = found = [jump(self._curves(problem)) for problem in problems]
        extra: dict[str, float] = {}
        for problem, seen in zip(problems, found, strict=True):
            alpha = f"α = {math.exp(problem.log_alpha):g}"
            extra |= {f"λt* at {alpha}": seen.clock, f"λt*/log α at {alpha}": seen.clock / problem.log_alpha}
        distance = problems[1].log_alpha - problems[0].log_alpha
        slope = (large.clock - small.clock) / distance
        return Measurement(
            slope - _SLOPE, 0.0, integrator=(small.integrator + large.integrator) / distance,
            sampling=(small.sampling + large.sampling) / distance, extra=extra | {"slope": slope},
        )  # fmt: skip

    def _near_chance(self, problems: tuple[Problem, ...]) -> Measurement:
        curves = self._curves(problems[0])
        return slack(curves, "test_accuracy", curves.between(0.0, math.inf), 0.2, above=False)

    def _steeper(self, problems: tuple[Problem, ...]) -> Measurement:
        seen = self._scale(problems)
        return replace(seen, measured=seen.measured + _SLOPE - 2.0)

    def _decay(self, problems: tuple[Problem, ...], *, slow: bool = False, least: float = _LATER) -> Measurement:
        """Compare log t* (or log of lambda t*, `slow`) at two weight decays, and look for the collapse at a third."""
        logs, integrator, sampling, extra = [], 0.0, 0.0, dict[str, float]()
        for problem in problems[:2]:
            seen = jump(self._curves(problem, 4.5))
            logs.append(math.log(seen.clock) - (0.0 if slow else problem.log_weight_decay))
            extra[f"log t* at λ = {math.exp(problem.log_weight_decay):.0e}"] = logs[-1]
            integrator, sampling = integrator + seen.integrator / seen.clock, sampling + seen.sampling / seen.clock
        later = Measurement(logs[0] - logs[1] - least, 0.0, integrator=integrator, sampling=sampling)
        heavy = self._curves(problems[2], 4.5)
        end = float(heavy.stats["train_accuracy"][-1])
        collapsed = Measurement(_COLLAPSED - end, 0.0, integrator=heavy.error("train_accuracy", -1))
        return tightest([later, collapsed], extra | {"train accuracy at the largest λ": end})

    def _shuffled(self, problems: tuple[Problem, ...]) -> Measurement:
        return self._grokking((on_shuffled_labels(problems[0]),))

    def _small_scales(self, problems: tuple[Problem, ...]) -> Measurement:
        """The same from scales at which the start is soon forgotten: the jump does not move."""
        small = tuple(
            replace(p, alpha=None, log_alpha=math.log(a), weight_decay=None, log_weight_decay=p.log_weight_decay)
            for p, a in zip(problems, _SMALL, strict=True)
        )
        return self._scale(small)


_PANELS: dict[str, Any] = {
    GROKKING: ModularAddition._grokking,
    SCALE: ModularAddition._scale,
    DECAY: ModularAddition._decay,
}
_BROKEN: dict[str, Any] = {
    GROKKING: ModularAddition._near_chance,
    SCALE: ModularAddition._steeper,
    DECAY: lambda claim, problems: claim._decay(problems, least=2.0 * math.log(10.0)),
}
_TWINS: dict[str, Any] = {
    GROKKING: ModularAddition._shuffled,
    SCALE: ModularAddition._small_scales,
    DECAY: lambda claim, problems: claim._decay(problems, slow=True),
}
