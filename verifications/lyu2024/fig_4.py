"""Figure 4: modular addition without weight decay still groks, in log log t."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from theorykit import Problem
from theorykit.checking import Claim, Control, Measurement, Source, Trial
from theorykit.experiments import build_problem, load_experiment

from ._curves import Curves, on_shuffled_labels, slack, tightest

_LOG_T_END = {"paper": 23026.0}  # t = 10^(10^4); elsewhere:
_SMALLER_END = 1000.0
_FITTED, _EARLY = math.log(1e4), math.log(1e4)  # log t from which training accuracy is 1; up to which test is chance
_DOUBLINGS = math.log(2.0)  # of log t, that the rise of the test accuracy takes at least: it is no jump


class WithoutWeightDecay(Claim):
    """Modular addition by a two-layer ReLU net without weight decay: it is right on all training pairs early while its
    test accuracy is near chance, and right on almost all test pairs at last, but the rise is spread over log log t.
    """

    id, title, kind = "lyu2024.fig-4", "Grokking without weight decay", "figure"
    source = Source("lyu2024", "Figure 4")
    quantity = "slack of the tightest bound"
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 1, "paper": 1}
    judged = (
        "The flow of the preset fig-4 in the clock of the loss, smaller than the preset's except in profile paper. "
        "Bounds on accuracies over stretches of log t, with the 99 % Clopper–Pearson interval of a test accuracy as "
        "error; and log t must at least double while test accuracy rises from 1/4 to 3/4. The number is the slack "
        "nearest to its error, and must exceed it."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield the preset's problem."""
        profile = "paper" if self.tools.profile == "paper" else "quick"
        smaller = () if profile == "paper" else ("data.fraction=0.85",)
        yield Trial("no weight decay", build_problem(load_experiment("fig-4", profile=profile, overrides=smaller)))

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the tightest slack."""
        return self._slack(instance.values)

    def controls(self) -> Sequence[Control]:
        """Return the same flow from shuffled training labels."""
        return (
            Control("training labels shuffled", lambda trial, problem: self._slack(on_shuffled_labels(trial.values))),
        )

    def broken(self) -> Sequence[Control]:
        """Return another time: what holds of the test accuracy early, to the end."""
        return (Control("near chance to the end", lambda trial, problem: self._near_chance(trial.values)),)

    def traces(self, instance: Trial, problem: None) -> Sequence[Mapping[str, Any]]:
        """Return both accuracies against log10 log t."""
        curves = self._curves(instance.values)
        return [
            {
                "label": "no weight decay",
                "s": np.log10(curves.clock).tolist(),
                "curves": {name.replace("_", " "): curves.stats[name].tolist() for name in curves.accuracies},
                "quantity": "accuracy against log10 log t",
            }
        ]

    def _curves(self, problem: Problem) -> Curves:
        return Curves.of(self.tools, problem, log_t_end=_LOG_T_END.get(self.tools.profile, _SMALLER_END))

    def _near_chance(self, problem: Problem) -> Measurement:
        curves = self._curves(problem)
        return slack(curves, "test_accuracy", curves.between(0.0, math.inf), 0.2, above=False)

    def _slack(self, problem: Problem) -> Measurement:
        curves = self._curves(problem)
        fitted = slack(curves, "train_accuracy", curves.between(_FITTED, math.inf), 1.0, above=True)
        early = slack(curves, "test_accuracy", curves.between(0.0, _EARLY), 0.2, above=False)
        late = slack(curves, "test_accuracy", curves.between(curves.clock[-1], math.inf), 0.7, above=True)
        rise = _rise(curves)
        return tightest(
            [fitted, early, late, rise], curves.last() | {"log log t of the rise": rise.measured + _DOUBLINGS}
        )


def _rise(curves: Curves) -> Measurement:
    """Return the log log t that the rise from 1/4 to 3/4 takes, beyond what is asked; the grid is its error."""
    highest = np.maximum.accumulate(curves.stats["test_accuracy"])
    first, last = (int(np.searchsorted(highest, level)) for level in (0.25, 0.75))
    if last == highest.size:
        return Measurement(-_DOUBLINGS, 0.0)
    logs = np.log(curves.clock)
    return Measurement(float(logs[last] - logs[first]) - _DOUBLINGS, 0.0, integrator=float(2.0 * (logs[1] - logs[0])))
