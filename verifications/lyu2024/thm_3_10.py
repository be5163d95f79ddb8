"""Theorem 3.10 and Lemma D.8: after the transition a regression net is bounded, and a KKT point of R2."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from theorykit import Problem, Trajectory
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel
from theorykit.predictors import norm_bound, window

from ._regression import EARLY_LADDERS, POWER_LAW, Regression, decisive, kkt_residual, regression_instances, target_norm

_C = 0.5
_SCALES = (40.0, 80.0, 160.0, 320.0, 640.0)
_OF_OTHERS = 0.3  # c of the other models


class _Late(Regression):
    """What both claims about the time after the transition share."""

    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = {"quick": _SCALES, "full": _SCALES, "paper": _SCALES}

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 2, 3, 4, and c = 1/2."""
        for instance in regression_instances(rng, lambda degree: _C):
            if isinstance(instance.model, DiagonalNet):
                yield instance

    def late(self, problem: Problem) -> Trajectory:
        """Return the flow up to T^+_c."""
        return self.flow(problem, 1.0 + _past(problem.model))


def _past(model: HomogeneousModel) -> float:
    """Return the c of a model."""
    return _C if isinstance(model, DiagonalNet) else _OF_OTHERS


class ReachesInterpolatingKKT(_Late):
    """For c > 0 there are times t_k in [log(alpha)/lambda, T^+_c] at which |theta(t_k)| is bounded and every limit
    point of theta(t_k) is a KKT point of min |theta|^2/2 subject to f_i(theta) = y_i. Exhibited at t_k = T^+_c with
    c = 1/2.
    """

    id, title, kind = "lyu2024.thm-3.10", "A KKT point of R2 is reached", "existence"
    source = Source("lyu2024", "Theorem 3.10")
    quantity = "KKT residual at T⁺"
    judged = (
        "The KKT residual of R2 at T⁺ (root of the sum of squares of stationarity, with the best multipliers, and of "
        "the relative violation of f = y) is extrapolated in log(alpha) and must tend to 0, and so must the "
        "exponent k of |θ| ~ log(alpha)^k between neighbouring scales, each with an error below 0.1 (1 is the residual "
        "of a point that fits no multipliers). Matrix factorisation has a check of its own, lyu2024.cor-3.11-global."
    )
    expansion = POWER_LAW
    resolution, floor = 0.1, 0.0

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure residual and growth of the norm at T^+_c."""
        return replace(self._residual(instance, problem, self._end(problem)), also=(self._growth(instance, problem),))

    def controls(self) -> Sequence[Control]:
        """Return the same residual before the transition, and at it."""
        return (
            Control("KKT already at T⁻", lambda i, p: self._residual(i, p, window(p.log_alpha, i.c)[0])),
            Control("KKT at log(α)/λ", lambda i, p: self._residual(i, p, p.log_alpha)),
        )

    def broken(self) -> Sequence[Control]:
        """Return the program for other targets, and another growth."""
        return (
            Control("KKT for rotated targets", lambda i, p: self._residual(i, p, self._end(p), shift=1)),
            Control("|θ| ~ √log(α)", lambda i, p: replace(self._growth(i, p), predicted=0.5)),
        )

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return the KKT residual along one flow of moderate scale."""
        trajectory = self.late(instance.at(self.ladders["quick"][1]))
        s = np.linspace(0.6, 1.0 + instance.c, 60)
        found = [kkt_residual(instance, trajectory.at(s=float(value))) for value in s]
        return [
            {
                "label": f"log α = {self.ladders['quick'][1]:g}, {instance.model.name}, L = {instance.model.degree}",
                "s": s.tolist(),
                "curves": {"KKT residual": found},
                "marks": {"T⁺": 1.0 + instance.c},
                "quantity": "KKT residual of R2",
            }
        ]

    def _end(self, problem: Problem) -> float:
        return window(problem.log_alpha, _past(problem.model))[1]

    def _growth(self, instance: Instance, problem: Problem) -> Measurement:
        """Return the exponent of log(alpha) with which |theta(T^+_c)| grows from the scale before to this one.

        It is a mean over that stretch: half its change from the mean over the stretch before counts as an error.
        """
        ladder = self.ladders[self.tools.profile]
        rung = max(ladder.index(problem.log_alpha), 2)
        (before, _), (exponent, error) = (self._exponent(instance, *ladder[k - 1 : k + 1]) for k in (rung - 1, rung))
        return Measurement(exponent, 0.0, error + 0.5 * abs(exponent - before))

    def _exponent(self, instance: Instance, *scales: float) -> tuple[float, float]:
        """Return the exponent between two scales and its error."""
        snapshots = [self.late(problem).at(tau=self._end(problem)) for problem in map(instance.at, scales)]
        (first, loose), (last, looser) = (snapshot.estimate(lambda now: now.log_norm) for snapshot in snapshots)
        apart = math.log(scales[1] / scales[0])
        return (last - first) / apart, (loose + looser) / apart

    def _residual(self, instance: Instance, problem: Problem, tau: float, shift: int = 0) -> Measurement:
        snapshot, targets = self.late(problem).at(tau=tau), np.roll(instance.data.y, shift)
        value, error = snapshot.estimate(lambda now: kkt_residual(instance, now, targets))
        return Measurement(value, 0.0, error, extra={"residual at the largest α": value})


class NetsReachKKT(ReachesInterpolatingKKT):
    """The same for smooth nets, exhibited at t_k = T^+_c with c = 0.3."""

    id, title = "lyu2024.thm-3.10-nets", "A KKT point of R2 is reached by nets"
    ladders = EARLY_LADDERS

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Nets with two and three layers and a convolutional one, activation z^2."""
        for instance in regression_instances(rng, lambda degree: _OF_OTHERS):
            if isinstance(instance.model, (MLP, CNN)):
                yield instance


class NormIsBounded(_Late):
    """|theta(t)| = O(1) for t in [log(alpha)/lambda, T^+_c]: with the radius r of a ball in which the tangent kernel
    keeps half of its smallest eigenvalue nu and C of Lemma D.2, |theta|^2 <= (C/r)^(2/L) (|theta_bar| + r)^2 + 32 n L^2
    |y|^2 lambda/(nu^2 (C/r)^(4(L-1)/L)) there (with C/r replaced by 1 where it is smaller), since the loss with weight
    decay falls.
    """

    id, title, kind = "lyu2024.lem-d8", "Parameters are bounded after the transition", "inequality"
    source = Source("lyu2024", "Lemma D.8")
    quantity = "smallest slack of log |θ|"
    judged = (
        "At every accepted step from log(alpha)/lambda to T⁺ (c = 1/2, of other models than diagonal nets 0.3) log |θ| "
        "must be below that of the bound (predictors.norm_bound), which does not grow with alpha, at every scale."
    )
    expansion = None
    ladders = EARLY_LADDERS

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 2, 3, 4, a factorisation, and smooth nets."""
        for instance in regression_instances(rng, lambda degree: _C):
            yield replace(instance, c=_past(instance.model))

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Return the smallest slack."""
        return self._slack(instance, problem, problem.log_alpha, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return a bound that holds from an earlier time."""
        return (Control("from log(α)/(2λ) on", lambda i, p: self._slack(i, p, 0.5 * p.log_alpha, 0.0)),)

    def broken(self) -> Sequence[Control]:
        """Return a bound that falls."""
        return (Control("|θ| = O(α^-0.2)", lambda i, p: self._slack(i, p, p.log_alpha, -0.2)),)

    def _slack(self, instance: Instance, problem: Problem, begin: float, power: float) -> Measurement:
        """Hold |theta| from a slow time on against the bound times alpha^power."""
        bound = norm_bound(
            n=instance.data.n, degree=instance.model.degree, log_weight_decay=problem.log_weight_decay,
            ball=self.ball(instance), target_norm=target_norm(instance), size=float(np.linalg.norm(problem.direction)),
        )  # fmt: skip
        trajectory = self.late(problem)
        ends = trajectory.step_ends
        times = np.concatenate([[math.log(begin)], ends[np.exp(ends) > begin]])
        last = trajectory.at(log_tau=float(times[-1]))
        own, other = (path.statistics(times, ["log_norm"])["log_norm"] for path in (last.path, last.companion))
        limit = math.log(bound) + power * problem.log_alpha
        slacks = [(limit - value, error) for value, error in zip(own, np.abs(own - other), strict=True)]
        return Measurement(*decisive(slacks))
