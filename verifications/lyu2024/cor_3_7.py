"""Corollary 3.7, and the question it leaves open: after the transition a KKT direction, and whether the global one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from theorykit import Problem
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.flow import Snapshot
from theorykit.models import DiagonalNet
from theorykit.predictors import window
from theorykit.programs import kkt_residuals

from ._common import LATE_LADDERS, S_END, assumption_tests, diagonal_instances

_LATE = Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"), ("1/x", "log/x^2")))
_C = S_END - 1.0


class _Late(Claim):
    """What both claims about the time after the transition share."""

    assumptions = ("homogeneous model (3.1)", "zero output at the start (3.2)", "separable NTK features (3.3)")
    expansion = _LATE
    ladders = LATE_LADDERS

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)


class ReachesKKT(_Late):
    """For a diagonal net with L = 2 there are times t_k in [log(alpha)/lambda, T^+_c] at which theta/|theta| tends to
    the direction of a KKT point of min |theta|^2/2 subject to y_i f_i(theta) >= 1. Exhibited at t_k = T^+_c, c = 1/2.
    """

    id, title, kind = "lyu2024.cor-3.7", "A KKT direction of R1 is reached", "existence"
    source = Source("lyu2024", "Corollary 3.7 (and Theorem 3.5)")
    quantity = "KKT residual at T⁺"
    judged = (
        "The normalised stationarity and complementarity residuals at T⁺ (root of the sum of squares, with the "
        "multipliers that make it least) are extrapolated in log(alpha) and must tend to 0, with an error below 0.1 (1 "
        "is the residual of a direction that fits no multipliers)."
    )
    resolution, floor = 0.1, 0.0

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses."""
        return diagonal_instances(rng, (("exponential", 2, 1.0, _C), ("logistic", 2, 1.0, _C)))

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the KKT residual at T^+_c."""
        return self._residual(instance, problem, window(problem.log_alpha, instance.c)[1])

    def controls(self) -> Sequence[Control]:
        """Return the same residual before the transition."""
        return (
            Control(
                "KKT already at T⁻",
                lambda instance, problem: self._residual(instance, problem, window(problem.log_alpha, instance.c)[0]),
            ),
        )

    def broken(self) -> Sequence[Control]:
        """Return another norm: the KKT residual of w in the max l2-margin program."""
        return (Control("w at a KKT point of min ½‖w‖²", self._residual_in_w),)

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return the KKT residual and the cosines along one flow of moderate scale."""
        trajectory = self.flow(instance.at(80.0), S_END)
        s = np.linspace(0.3, S_END, 80)
        early, late = (self.max_margin(instance.data, norm).w for norm in (2, 1))
        points = [trajectory.at(s=float(value)) for value in s]
        cosines = {
            name: [float(p.weights @ w / np.linalg.norm(p.weights) / np.linalg.norm(w)) for p in points]
            for name, w in (("cos to max ℓ2-margin", early), ("cos to max ℓ1-margin", late))
        }
        residual = [self._at(instance, *p.log_coordinates) for p in points]
        return [
            {
                "label": f"log α = 80, {instance.loss} loss, L = {instance.model.degree}",
                "s": s.tolist(),
                "curves": {**cosines, "KKT residual": residual},
                "marks": {"T⁺": 1.0 + instance.c},
                "quantity": "cosine, residual",
            }
        ]

    def _residual_in_w(self, instance: Instance, problem: Problem) -> Measurement:
        snapshot = self.flow(problem, S_END).at(tau=window(problem.log_alpha, instance.c)[1])
        signed = instance.data.X * instance.data.y[:, None]
        residual = lambda now: kkt_residuals(now.weights, signed @ now.weights, signed, 1).residual  # noqa: E731
        value, error = snapshot.estimate(residual)
        return Measurement(value, 0.0, error)

    def _residual(self, instance: Instance, problem: Problem, tau: float) -> Measurement:
        snapshot = self.flow(problem, S_END).at(tau=tau)
        value, error = snapshot.estimate(lambda now: self._at(instance, *now.log_coordinates))
        return Measurement(value, 0.0, error, extra={"residual at the largest α": value})

    @staticmethod
    def _at(instance: Instance, log_u: np.ndarray, log_v: np.ndarray) -> float:
        degree = instance.model.degree
        logs = np.concatenate([log_u, log_v])
        theta = np.exp(logs - logs.max())  # only the direction counts, and |theta| may leave the float range
        signed = instance.data.X * instance.data.y[:, None]
        assert isinstance(instance.model, DiagonalNet)
        q = signed @ instance.model.weights(theta)
        gradients = instance.model.features(signed, theta)
        found = kkt_residuals(theta, q, gradients, degree)
        return found.residual if found.feasible else 1.0


class GlobalMargin(_Late):
    """Left open after Corollary 3.7: for L = 2, is the direction reached at T^+_c the global max l1-margin direction?
    If so, the ratio of its l1-margin min_i y_i <w, x_i>/|w|_1 to the optimal one tends to 1.
    """

    id, title, kind = "lyu2024.cor-3.7-global", "The KKT direction is the global ℓ1 one", "limit"
    source = Source("lyu2024", "the question left open after Corollary 3.7")
    quantity = "ratio of ℓ1-margins at T⁺"
    open_question = True
    judged = "The ratio of the ℓ1-margin at T⁺ (c = 1/2) to the certified optimum is extrapolated and must tend to 1."

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses."""
        return diagonal_instances(rng, (("exponential", 2, 1.0, _C), ("logistic", 2, 1.0, _C)))

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the ratio at T^+_c."""
        return self._ratio(instance, problem, window(problem.log_alpha, instance.c)[1], 1.0)

    def controls(self) -> Sequence[Control]:
        """Return the ratio of the max l2-margin direction, as a prediction, and the ratio before the transition."""
        return (
            Control("stays at the max ℓ2-margin direction", self._ratio_of_early, shared=True),
            Control(
                "global already at T⁻",
                lambda instance, problem: self._ratio(instance, problem, window(problem.log_alpha, instance.c)[0], 1.0),
            ),
        )

    def broken(self) -> Sequence[Control]:
        """Return another norm: the ratio of l2-margins."""
        return (Control("the global ℓ2 one", self._ratio_of_l2_margins),)

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return the ratio at the largest scale, and that of the early predictor."""
        return {
            "ℓ1-margin ratio at the largest α": self.measure(instance, problem, "as-printed").measured,
            "ℓ1-margin ratio of the ℓ2 direction": self._ratio_of_early(instance, problem).predicted,
        }

    def _ratio_of_l2_margins(self, instance: Instance, problem: Problem) -> Measurement:
        snapshot = self.flow(problem, S_END).at(tau=window(problem.log_alpha, instance.c)[1])
        largest = self.max_margin(instance.data, 2).certificate.lower

        def ratio(now: Snapshot) -> float:
            w = now.weights
            return float((instance.data.y * (instance.data.X @ w)).min() / np.linalg.norm(w)) / largest

        value, error = snapshot.estimate(ratio)
        return Measurement(value, 1.0, error)

    def _ratio(self, instance: Instance, problem: Problem, tau: float, predicted: float) -> Measurement:
        snapshot = self.flow(problem, S_END).at(tau=tau)
        certificate = self.max_margin(instance.data, 1).certificate
        value, error = snapshot.estimate(lambda now: _l1_margin(instance, now.weights) / certificate.lower)
        uncertain = abs(value) * (certificate.upper / certificate.lower - 1.0)
        return Measurement(value, predicted, error, uncertain)

    def _ratio_of_early(self, instance: Instance, problem: Problem) -> Measurement:
        early = _l1_margin(instance, self.max_margin(instance.data, 2).w)
        predicted = early / self.max_margin(instance.data, 1).certificate.lower
        return self._ratio(instance, problem, window(problem.log_alpha, instance.c)[1], predicted)


def _l1_margin(instance: Instance, w: np.ndarray) -> float:
    return float((instance.data.y * (instance.data.X @ w)).min() / np.abs(w).sum())
