"""Corollary 3.6: before the transition a diagonal net is the max l2-margin classifier."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from theorykit import Problem
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.predictors import window

from ._common import assumption_tests, diagonal_instances


class EarlyDirection(Claim):
    """For a diagonal net with L = 2, w(T^-_c)/|w(T^-_c)| tends to the max l2-margin direction as alpha grows,
    where w are the weights of the linear function that the net is, and T^-_c = (1-c) log(alpha)/lambda.
    """

    id, title, kind = "lyu2024.cor-3.6", "Early direction is max ℓ2-margin", "limit"
    source = Source("lyu2024", "Corollary 3.6")
    assumptions = ("homogeneous model (3.1)", "zero output at the start (3.2)", "separable NTK features (3.3)")
    quantity = "angle to the ℓ2 direction"
    judged = "The angle between w(T⁻) and the certified direction is extrapolated in log(alpha) and must tend to 0."
    expansion = Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"), ("1/x", "log/x^2")))

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses."""
        return diagonal_instances(rng, (("exponential", 2, 1.0, 0.3), ("logistic", 2, 1.0, 0.3)))

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the angle to the max l2-margin direction."""
        return self._angle(instance, problem, 2, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return the max l1-margin direction, as the limit of w and as a prediction for the measured angle."""
        return (
            Control("the max ℓ1-margin direction", lambda instance, problem: self._angle(instance, problem, 1, 0.0)),
            Control("the angle between both directions", self._angle_between, shared=True),
        )

    def broken(self) -> Sequence[Control]:
        """Return the same angle at the other end of the window."""
        return (Control("at T⁺ instead of T⁻", lambda i, problem: self._angle(i, problem, 2, 0.0, late=True)),)

    def _angle(
        self, instance: Instance, problem: Problem, norm: int, predicted: float, *, late: bool = False
    ) -> Measurement:
        tau = window(problem.log_alpha, instance.c)[late]
        snapshot = self.flow(problem, tau_end=tau).at(tau=tau)
        separator = self.max_margin(instance.data, norm)
        measured, error = snapshot.estimate(lambda now: angle(now.weights, separator.w))
        uncertain = (separator.distance_bound or 0.0) / float(np.linalg.norm(separator.w))
        return Measurement(measured, predicted, error, uncertain)

    def _angle_between(self, instance: Instance, problem: Problem) -> Measurement:
        early, late = (self.max_margin(instance.data, norm) for norm in (2, 1))
        return self._angle(instance, problem, 2, angle(early.w, late.w))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two vectors, accurate for small ones."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 2.0 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))
