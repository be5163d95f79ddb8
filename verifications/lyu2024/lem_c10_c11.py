"""Lemmas C.10 and C.11: what weight decay leaves at the end of the kernel regime, and the norm from there on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorykit import Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.checking.verdict import decisive
from theorykit.flow import Snapshot
from theorykit.predictors import kernel_phase_end, log_loss_ceiling, output_bound

from ._common import S_END, diagonal_instances
from ._early import EarlyClaim, constants_of
from ._models import LATE, classification_instances

Floats = NDArray[np.float64]

_FURTHEST = 1e7  # log(alpha) up to which the constant is the largest one
_ASSUMED = (
    "The time is where the bound of Lemma C.5 reaches epsilon_max, log(alpha) - (1/L) log log A + const. The bound on "
    "the loss of Lemma C.4 and the decay of the norm up to then give C: the largest value, over all scales from the "
    "smallest of the ladder to log(alpha) = 10^7, of what they give for L_lambda/(lambda (log 1/lambda)^(2/L)). "
)
_ERROR = "The number is the slack (of logarithms) nearest to its error, which comes from the companion run."


@dataclass(frozen=True)
class _Late:
    """The constants of both lemmas at one scale.

    Attributes
    ----------
    tau : float
        lambda times the time at which they begin.
    log_constant : float
        log C in L_lambda <= C lambda (log 1/lambda)^(2/L).
    log_log : float
        log log 1/lambda.
    growth : float
        log of (log 1/lambda) over its value at the smallest scale.
    """

    tau: float
    log_constant: float
    log_log: float
    growth: float


class _LateClaim(EarlyClaim):
    """What both lemmas share."""

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets of degree 2 and 3, and other smooth models, followed to T^+_c with c = 1/2."""
        yield from diagonal_instances(rng, [("exponential", degree, 1.0, S_END - 1.0) for degree in (2, 3)])
        yield from classification_instances(rng, LATE, c=S_END - 1.0)

    def late(self, instance: Instance, problem: Problem) -> _Late:
        """Return the constants; C is computed once for all scales."""
        smallest = instance.at(self.ladders[self.tools.profile][0])
        key = ("constant of C.10", instance.key, smallest.log_alpha)
        scales = np.geomspace(smallest.log_alpha, _FURTHEST, 40)
        constant = self.tools.remember(key, lambda: max(self._at(instance, float(x))[1] for x in scales))
        growth = math.log(problem.log_weight_decay / smallest.log_weight_decay)
        return _Late(self._at(instance, problem.log_alpha)[0], constant, math.log(-problem.log_weight_decay), growth)

    def _at(self, instance: Instance, log_alpha: float) -> tuple[float, float]:
        """Return the time, and the logarithm of the proved bound on L_lambda/(lambda (log 1/lambda)^(2/L))."""
        problem = instance.at(log_alpha)
        constants = self.tools.remember(
            ("constants", instance.key), lambda: constants_of(self, instance, problem)
        )  # they do not depend on the scale
        scales = problem.log_alpha, problem.log_weight_decay, problem.model.degree
        tau = kernel_phase_end(*scales, constants.margin, constants.gradient, constants.radius)
        log_loss = float(log_loss_ceiling(math.log(tau), *scales, constants.margin))
        size = float(np.linalg.norm(problem.direction)) + constants.radius
        decay = 2.0 * (log_alpha - tau + math.log(size)) - math.log(2.0)
        relative = float(np.logaddexp(log_loss - problem.log_weight_decay, decay))
        return tau, relative - 2.0 / problem.model.degree * math.log(-problem.log_weight_decay)


class RegularisedLoss(_LateClaim):
    """At t = (1/lambda)(log alpha - (1/L) log log A + const) the regularised loss is L_lambda = O(lambda (log
    1/lambda)^(2/L)).
    """

    id, title = "lyu2024.lem-c10", "The regularised loss at the end of the kernel regime"
    source = Source("lyu2024", "Lemma C.10")
    quantity = "log of bound over L_λ"
    judged = _ASSUMED + _ERROR

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure log(C lambda (log 1/lambda)^(2/L)/L_lambda)."""
        return self._slack(instance, problem, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return the order lambda alone, the constant matched at the smallest scale."""
        return (Control("L_λ = O(λ)", lambda i, p: self._slack(i, p, 2.0 / i.model.degree)),)

    def broken(self) -> Sequence[Control]:
        """Return half the exponent."""
        return (Control("L_λ = O(λ (log 1/λ)^(1/L))", lambda i, p: self._slack(i, p, 1.0 / i.model.degree)),)

    def _slack(self, instance: Instance, problem: Problem, less: float) -> Measurement:
        late, log_lambda = self.late(instance, problem), problem.log_weight_decay
        bound = late.log_constant + log_lambda + 2.0 / instance.model.degree * late.log_log - less * late.growth

        def slack(now: Snapshot) -> float:
            decay = log_lambda - math.log(2.0) + 2.0 * now.log_norm
            return bound - float(np.logaddexp(now["log_train_loss"], decay))

        value, error = self.flow(problem, S_END).at(tau=late.tau).estimate(slack)
        return Measurement(value, 0.0, max(error, 1e-12))


class NormOrder(_LateClaim):
    """From t = (1/lambda)(log alpha - (1/L) log log A + const) on, |theta| = Theta((log 1/lambda)^(1/L))."""

    id, title = "lyu2024.lem-c11", "The norm after the kernel regime"
    source = Source("lyu2024", "Lemma C.11")
    quantity = "log of |θ| over its lower, or of its upper bound over |θ|"
    judged = (
        f"{_ASSUMED}L_lambda only falls, so that |theta| <= (2C)^(1/2) (log 1/lambda)^(1/L) from then on; and as the "
        "loss is below L_lambda while no |f_i| exceeds M |theta|^L (M proved from the structure), M |theta|^L >= "
        "log(1/lambda) - log(nC) - (2/L) log log 1/lambda. Both are held against every accepted step to T⁺ (c = 1/2). "
        f"{_ERROR}"
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the tightest slack."""
        return self._slack(instance, problem, 0.0, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return a bounded norm, the constant matched at the smallest scale."""
        return (Control("|θ| = O(1)", lambda i, p: self._slack(i, p, 1.0 / i.model.degree, 0.0)),)

    def broken(self) -> Sequence[Control]:
        """Return twice the exponent in the lower bound, matched at the smallest scale."""
        return (Control("|θ| ≥ const (log 1/λ)^(2/L)", lambda i, p: self._slack(i, p, 0.0, 1.0 / i.model.degree)),)

    def _slack(self, instance: Instance, problem: Problem, less: float, more: float) -> Measurement:
        late, degree = self.late(instance, problem), instance.model.degree
        upper = 0.5 * (math.log(2.0) + late.log_constant) + late.log_log / degree - less * late.growth
        left = -problem.log_weight_decay - math.log(instance.data.n) - late.log_constant - 2.0 / degree * late.log_log
        largest = float(output_bound(instance.model, instance.data.X).min())
        lower = math.log(left / largest) / degree + more * late.growth if left > 0.0 else -math.inf
        trajectory = self.flow(problem, S_END)
        begin, end = math.log(late.tau), math.log(S_END * problem.log_alpha)
        steps = trajectory.step_ends
        steps = np.concatenate([[begin], steps[(steps > begin) & (steps < end)], [end]])
        pairs = []
        for step in steps:
            now = trajectory.at(log_tau=float(step))
            error = max(abs(now.log_norm - now.looser.log_norm), 1e-12)
            pairs += [(upper - now.log_norm, error), (now.log_norm - lower, error)]
        slack, error = pairs[decisive(pairs)]
        return Measurement(slack, 0.0, error, extra={"steps": float(len(pairs) // 2)})
