"""Theorem 3.5: after the transition a KKT direction of the rich program, on models of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from theorykit import Problem
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.flow import Snapshot
from theorykit.predictors import window
from theorykit.programs import kkt_residuals

from ._common import S_END, diagonal_instances
from ._models import CLEAR_SUPPORT, LATE, assumption_tests, classification_instances

_C = S_END - 1.0
_LADDER = tuple(40.0 * 2.0**k for k in range(6))


class ReachesKKTOnModels(Claim):
    """For every c > 0 there are times t_k in [log(alpha_k)/lambda, T^+_c] such that every limit point of theta/|theta|
    at them is along a KKT point of min |theta|^2/2 subject to y_i f_i(theta) >= 1. Exhibited at t_k = T^+_c, c = 1/2.
    """

    id, title, kind = "lyu2024.thm-3.5", "A KKT direction of R1 is reached, on every model", "existence"
    source = Source("lyu2024", "Theorem 3.5")
    assumptions = (
        "homogeneous model (3.1)",
        "zero output at the start (3.2)",
        "separable NTK features (3.3)",
        CLEAR_SUPPORT,
    )
    quantity = "KKT residual at T⁺"
    judged = (
        "The normalised stationarity and complementarity residuals at T⁺ (root of the sum of squares, with the "
        "multipliers that make it least) are extrapolated in log(alpha) and must tend to 0, with an error below 0.1 (1 "
        "is the residual of a direction that fits no multipliers). Diagonal nets with L = 2: cor-3.7."
    )
    expansion = Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"), ("1/x", "log/x^2")))
    resolution, floor = 0.1, 0.0
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = dict.fromkeys(("quick", "full", "paper"), _LADDER)
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 3, and other smooth models."""
        yield from diagonal_instances(rng, (("exponential", 3, 1.0, _C),))
        yield from classification_instances(rng, LATE, c=_C)

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the KKT residual at T^+_c."""
        return self._residual(instance, problem, window(problem.log_alpha, instance.c)[1])

    def controls(self) -> Sequence[Control]:
        """Return the same residual before the transition."""
        return (Control("KKT already at T⁻", lambda i, p: self._residual(i, p, window(p.log_alpha, i.c)[0])),)

    def broken(self) -> Sequence[Control]:
        """Return the residual with every label turned round."""
        return (Control("labels turned round", lambda i, p: self._residual(i, p, window(p.log_alpha, i.c)[1], -1.0)),)

    def _residual(self, instance: Instance, problem: Problem, tau: float, sign: float = 1.0) -> Measurement:
        def residual(now: Snapshot) -> float:
            theta, X, signs = now.direction, instance.data.X, sign * instance.data.y
            gradients = np.asarray(instance.model.features(X, theta)) * signs[:, None]
            q = signs * np.asarray(instance.model.output(theta, X))
            found = kkt_residuals(theta, q, gradients, instance.model.degree)
            return found.residual if found.feasible else 1.0

        value, error = self.flow(problem, S_END).at(tau=tau).estimate(residual)
        return Measurement(value, 0.0, error, extra={"residual at the largest α": value})
