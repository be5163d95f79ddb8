"""When the transition comes: to first order, to second order, and how wide it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from theorykit import Crossing, Problem, Trajectory
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source

from ._common import LATE_LADDERS, S_END, assumption_tests, diagonal_instances

_AFTER = 80.0  # slow time past log(alpha) to which flows are followed
_LEFT_INIT = Crossing("log_delta", math.log(0.5), direction=1)
_LADDERS: Mapping[str, tuple[float, ...]] = {
    "quick": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
    "full": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0),
    "paper": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0),
}


class _Transition(Claim):
    """What the claims about the transition share."""

    assumptions = ("homogeneous model (3.1)", "zero output at the start (3.2)", "separable NTK features (3.3)")
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = _LADDERS
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def past_transition(self, problem: Problem) -> Trajectory:
        """Return the flow to `_AFTER` past log(alpha)."""
        return self.flow(problem, 1.0 + (_AFTER + 1.0) / problem.log_alpha)

    def left_init(self, problem: Problem) -> tuple[float, float]:
        """Return lambda t at which |delta| = |theta_bar|/2, and its error."""
        event = self.past_transition(problem).crossings(_LEFT_INIT)[0]
        return event.tau, event.error

    def crossed(
        self, instance: Instance, problem: Problem, trajectory: Trajectory, share: float
    ) -> tuple[float, float]:
        """Return lambda t at which the angle to the kernel limit is `share` of both (nan if never), and its error.

        L = 2: the rich limit is the certified max l1-margin direction.
        """
        early, late = (self.max_margin(instance.data, norm).w for norm in (2, 1))
        mark = Crossing("transition", share, direction=1)
        found = trajectory.crossings(mark, directions={"kernel": early, "rich": late})
        return (found[-1].tau, found[-1].error) if found else (math.nan, 0.0)


class FirstOrder(_Transition):
    """The transition from the kernel to the rich predictor comes at (1 + o(1)) log(alpha)/lambda: for every c it lies
    in [T^-_c, T^+_c] once alpha is large. Its mark for L = 2 is the time at which w is as far (in angle) from one limit
    as from the other; for L > 2, where R1 has many KKT points and flows of different alpha may reach different ones, it
    is the time at which delta = e^(lambda t) theta/alpha - theta_bar has half the norm of theta_bar.
    """

    id, title, kind = "lyu2024.transition-time", "Transition at log α / λ, first order", "limit"
    source = Source("lyu2024", "Theorems 3.4 and 3.5 together")
    quantity = "s* = λt*/log α"
    judged = "s* = λt*/log α is extrapolated in log(alpha) and must tend to 1."
    expansion = Expansion()  # without log/x^2 and 1/x^2 the bars miss 1 on a third of the instances

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses for L = 2, the exponential one for L = 3."""
        return diagonal_instances(
            rng, (("exponential", 2, 1.0, 0.3), ("logistic", 2, 1.0, 0.3), ("exponential", 3, 1.0, 0.3))
        )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure s* where both angles are equal."""
        return self._time(instance, problem, 1.0)

    def controls(self) -> Sequence[Control]:
        """Return log(A)/(L lambda) and log(alpha)/(L lambda) as other times."""
        return (
            Control("at log(A)/(Lλ) instead", self._at_log_a, shared=True),
            Control("at log(α)/(Lλ) instead", lambda i, p: self._time(i, p, 1.0 / i.model.degree), shared=True),
        )

    def broken(self) -> Sequence[Control]:
        """Return a time that is 5 % later."""
        return (Control("at 1.05 log(α)/λ", lambda i, p: self._time(i, p, 1.05), shared=True),)

    def _at_log_a(self, instance: Instance, problem: Problem) -> Measurement:
        return self._time(instance, problem, problem.log_A / problem.log_alpha / instance.model.degree)

    def _time(self, instance: Instance, problem: Problem, predicted: float) -> Measurement:
        if instance.model.degree == 2:
            tau, error = self.crossed(instance, problem, self.past_transition(problem), 0.5)
        else:
            tau, error = self.left_init(problem)
        return Measurement(tau / problem.log_alpha, predicted, error / problem.log_alpha)


class SecondOrder(_Transition):
    """lambda t* = log(alpha) - (1/L) log log A + O(1), A = alpha^(2(L-1))/lambda, where t* is the time at which
    delta = e^(lambda t) theta/alpha - theta_bar has half the norm of theta_bar.
    """

    id, title, kind = "lyu2024.transition-second-order", "Second-order law of the transition", "limit"
    source = Source("lyu2024", "after Lemma C.5")
    quantity = "log α - λt*"
    judged = "log α - λt* is fitted in log(alpha); the coefficient of log log A must be 1/L."
    expansion = Expansion(
        ("1", "log/x", "1/x"), neighbours=(("1", "1/x"), ("1", "log/x", "1/x", "1/x^2")), leading="log"
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses for L = 2, the exponential one for L = 3 and 4."""
        families = (("exponential", 2), ("logistic", 2), ("exponential", 3), ("exponential", 4))
        return diagonal_instances(rng, [(loss, degree, 1.0, 0.3) for loss, degree in families])

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure log(alpha) - lambda t* at |delta| = |theta_bar|/2."""
        return self._lead(problem, 1.0 / instance.model.degree)

    def controls(self) -> Sequence[Control]:
        """Return the coefficients 0 (that of regression) and 1/(L-1)."""
        return (
            Control("coefficient 0, as for regression", lambda i, p: self._lead(p, 0.0), shared=True),
            Control("coefficient 1/(L+1)", lambda i, p: self._lead(p, 1.0 / (i.model.degree + 1)), shared=True),
        )

    def broken(self) -> Sequence[Control]:
        """Return twice the coefficient."""
        return (Control("coefficient 2/L", lambda i, p: self._lead(p, 2.0 / i.model.degree), shared=True),)

    def _lead(self, problem: Problem, predicted: float) -> Measurement:
        tau, error = self.left_init(problem)
        return Measurement(problem.log_alpha - tau, predicted, error)


class Width(_Transition):
    """The transition takes O(1) in slow time: the time in which the angle to the kernel limit grows from 10 % to 90 %
    of the two angles does not grow like any power of log(alpha).
    """

    id, title, kind = "lyu2024.transition-width", "Width of the transition is O(1) in λt", "limit"
    source = Source("lyu2024", "after Lemma C.5 (width)")
    quantity = "log of the width in λt"
    judged = "The logarithm of the width is fitted against log log(alpha); its slope must be 0."
    expansion = Expansion(("1", "1/x"), neighbours=(("1",), ("1", "log/x", "1/x")), leading="log")
    resolution = 0.25
    ladders = LATE_LADDERS

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses."""
        return diagonal_instances(rng, (("exponential", 2, 1.0, 0.3), ("logistic", 2, 1.0, 0.3)))

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the logarithm of the width."""
        return self._log_width(instance, problem, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return a width that is a fixed share of the time itself, and one that grows like its root."""
        return (
            Control("a fixed share of log(α)/λ", lambda i, p: self._log_width(i, p, 1.0), shared=True),
            Control("growing like √log α", lambda i, p: self._log_width(i, p, 0.5), shared=True),
        )

    def broken(self) -> Sequence[Control]:
        """Return a width that shrinks."""
        return (Control("shrinking like 1/√log α", lambda i, p: self._log_width(i, p, -0.5), shared=True),)

    def _log_width(self, instance: Instance, problem: Problem, predicted: float) -> Measurement:
        trajectory = self.flow(problem, S_END)
        (begin, error), (end, other) = (self.crossed(instance, problem, trajectory, share) for share in (0.1, 0.9))
        width = end - begin
        if not width > 0.0:
            return Measurement(math.nan, predicted)
        return Measurement(math.log(width), predicted, (error + other) / width, extra={"width at the largest α": width})
