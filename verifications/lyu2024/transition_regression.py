"""When the transition of regression comes, to second order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from theorykit import Crossing, Problem
from theorykit.checking import Control, Expansion, Instance, Measurement, Source
from theorykit.models import DiagonalNet

from ._regression import Regression, regression_instances

_END = 1.5  # s to which the flows of diagonal nets are followed, as for Theorem 3.10


class RegressionTransition(Regression):
    """For regression lambda t* = log(alpha) + O(1), without the log log A of classification: t* is the time at which
    delta = e^(lambda t) theta/alpha - theta_bar has half the norm of theta_bar (other models than diagonal nets: a
    quarter, or a quarter of the norm of h* where that is smaller).
    """

    id, title, kind = "lyu2024.transition-regression", "Transition of regression at log α / λ + O(1)", "limit"
    source = Source("lyu2024", "after Lemma D.2")
    quantity = "log α - λt*"
    judged = "log α - λt* is fitted in log(alpha); the coefficient of log log(alpha) must be 0."
    expansion = Expansion(("1",), neighbours=(("1", "1/x"),), leading="log")

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 2, 3, 4, matrix factorisation, and smooth nets."""
        yield from regression_instances(rng)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure log(alpha) - lambda t*."""
        return self._lead(instance, problem, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return the coefficient of classification."""
        return (Control("1/L, as there", lambda i, p: self._lead(i, p, 1.0 / i.model.degree), shared=True),)

    def broken(self) -> Sequence[Control]:
        """Return a smaller coefficient, of the other sign."""
        return (Control("-1/(2L)", lambda i, p: self._lead(i, p, -0.5 / i.model.degree)),)

    def _lead(self, instance: Instance, problem: Problem, predicted: float) -> Measurement:
        if isinstance(instance.model, DiagonalNet):
            share, trajectory = 0.5, self.flow(problem, _END)
        else:
            size = float(np.linalg.norm(problem.direction))
            share, trajectory = 0.25 * min(1.0, self.interpolant(instance).norm / size), self.early(problem)
        event = trajectory.crossings(Crossing("log_delta", math.log(share), direction=1))[0]
        return Measurement(problem.log_alpha - event.tau, predicted, event.error)
