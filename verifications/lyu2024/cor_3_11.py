"""Corollary 3.11: matrix factorisation remembers the observed entries first; what it fills in then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from theorykit import Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.flow import Snapshot
from theorykit.models import MatrixFactorization
from theorykit.predictors import window
from theorykit.programs import MinNuclearNorm, interpolation_kkt_residuals, min_nuclear_norm

from ._orbit import Moment, Orbit
from ._regression import POWER_LAW, SIDE, Regression, observed_entries, slaving_error, test_inputs

_FLOWS = (12.0, 18.0, 24.0, 32.0, 43.0)  # further up round-off takes part in the flow before T^+
_LATE = (*_FLOWS, *(80.0 * 2.0**k for k in range(7)))


class ObservedEntries(Regression):
    """For W = U U^T - V V^T from U = V = alpha I, W_ij(T^-_c) tends to X*_ij where (i, j) or (j, i) is observed, and to
    0 elsewhere, T^-_c = (1-c) log(alpha)/lambda.
    """

    id, title, kind = "lyu2024.cor-3.11", "Early factorisation: observed entries, else 0", "limit"
    source = Source("lyu2024", "Corollary 3.11")
    quantity = "|W(T⁻) - P(X*)| / |P(X*)|"
    judged = (
        "The largest difference between W(T⁻) and the observed entries filled up with zeros, relative to the largest "
        "observed entry, is extrapolated in log(alpha) and must tend to 0 with an error below 0.01."
    )
    expansion = POWER_LAW
    resolution = 0.01

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Random entries of a random symmetric matrix of rank 2, in two windows."""
        data = observed_entries(rng)
        for c in (0.3, 0.6):
            yield Instance(MatrixFactorization(SIDE), data, "squared", c=c)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the largest difference at T^-_c."""
        return self._difference(instance, problem, self._filled(instance), window(problem.log_alpha, instance.c)[0])

    def controls(self) -> Sequence[Control]:
        """Return other fillings."""
        return (
            Control("unobserved entries filled with their mean", self._with_mean),
            Control("observed entries shrunk by 1 - c", self._shrunk),
        )

    def broken(self) -> Sequence[Control]:
        """Return a later time."""
        return (Control("still at log(α)/λ", lambda i, p: self._difference(i, p, self._filled(i), p.log_alpha)),)

    @staticmethod
    def _filled(instance: Instance, rest: float = 0.0) -> np.ndarray:
        """Return what is predicted for all entries i <= j."""
        W = np.full((SIDE, SIDE), rest)
        W[tuple(instance.data.X.T)] = instance.data.y
        return W[tuple(test_inputs(instance).T)]

    def _with_mean(self, instance: Instance, problem: Problem) -> Measurement:
        filled = self._filled(instance, float(np.abs(instance.data.y).mean()))
        return self._difference(instance, problem, filled, window(problem.log_alpha, instance.c)[0])

    def _shrunk(self, instance: Instance, problem: Problem) -> Measurement:
        filled = (1.0 - instance.c) * self._filled(instance)
        return self._difference(instance, problem, filled, window(problem.log_alpha, instance.c)[0])

    def _difference(self, instance: Instance, problem: Problem, predicted: np.ndarray, tau: float) -> Measurement:
        trajectory, points = self.early(problem), test_inputs(instance)
        snapshot, size = trajectory.at(tau=tau), float(np.abs(instance.data.y).max())
        value, error = snapshot.estimate(lambda now: float(np.abs(now.outputs(points) - predicted).max()) / size)
        return Measurement(value, 0.0, error)


class FillsGlobally(Regression):
    """Left open after Corollary 3.11: is the KKT point of R2 that matrix factorisation reaches after the transition the
    global one, a completion of least nuclear norm over symmetric matrices? If so, the ratio of |W(T^+_c)|_* to the
    least one tends to 1.
    """

    id, title, kind = "lyu2024.cor-3.11-global", "The late factorisation has least nuclear norm", "limit"
    source = Source("lyu2024", "the question left open after Corollary 3.11")
    quantity = "|W(T⁺)|_* / least nuclear norm"
    open_question = True
    judged = (
        "From U = V = αI the flow keeps VᵀU = σ²I, and for huge α it follows one orbit, in logarithms, of which T⁺ is "
        "the time c log(α) after the transition (c = 0.3). On it the ratio of the nuclear norm of W(T⁺) to the "
        "certified least one, and the KKT residual of R2, are extrapolated in log(alpha) and must tend to 1 and to 0; "
        "so must the relative distance of the flow itself from the orbit at T⁺, on the scales up to log(alpha) = 43: "
        "past them round-off, and not the exact start, decides on which side of a saddle a flow in U and V falls."
    )
    expansion = POWER_LAW
    resolution = 0.05
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = {"quick": _LATE, "full": _LATE, "paper": _LATE}

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Random entries of a random symmetric matrix; lambda = alpha^-3."""
        yield Instance(MatrixFactorization(SIDE), observed_entries(rng), "squared", p=3.0)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the ratio at T^+_c on the orbit, the KKT residual, and how far the flow is from the orbit."""
        now, companion = self._orbit(instance).at(_after(instance, problem))
        residual, other = (_residual(instance, moment) for moment in (now, companion))
        also = (Measurement(residual, 0.0, abs(residual - other), floor=0.0), self._distance(instance, problem))
        return self._ratio(instance, _after(instance, problem), 1.0, also)

    def controls(self) -> Sequence[Control]:
        """Return the nuclear norm of the early completion by zeros, and the time before the transition."""
        return (
            Control("stays at the completion by zeros", self._ratio_of_zeros, shared=True),
            Control("least already at T⁻", lambda i, p: self._ratio(i, -_after(i, p), 1.0)),
        )

    def broken(self) -> Sequence[Control]:
        """Return the Frobenius norm in place of the nuclear one."""
        return (Control("least Frobenius norm", self._ratio_of_squares),)

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return the ratios, and the gap of the dual: a direction in it relaxes like exp(-2 gap u) on the orbit."""
        return {
            "nuclear norm ratio at the largest α": self.measure(instance, problem, "as-printed").measured,
            "nuclear norm ratio of the completion by zeros": self._ratio_of_zeros(instance, problem).predicted,
            "gap of the dual matrix": _separation(self._least(instance)),
        }

    def _orbit(self, instance: Instance) -> Orbit:
        """Return the orbit at the times T^- and T^+ of all scales."""

        def follow() -> Orbit:
            after = [instance.c * log_alpha for log_alpha in _LATE]
            return Orbit(instance.data.X, instance.data.y, SIDE, [*after, *(-u for u in after)], self.tools.rtol)

        return self.tools.remember(("orbit", instance.key), follow)

    def _distance(self, instance: Instance, problem: Problem) -> Measurement:
        """Measure |W - W of the orbit|/|W of the orbit| at T^+_c, where the flow can be followed so far."""
        if problem.log_alpha > _FLOWS[-1]:
            return Measurement(np.nan, 0.0)
        now, companion = self._orbit(instance).at(_after(instance, problem))
        trajectory, size = self.flow(problem, 1.3), float(np.linalg.norm(now.W))
        snapshot = trajectory.at(tau=window(problem.log_alpha, instance.c)[1])
        value, error = snapshot.estimate(lambda flow: float(np.linalg.norm(_matrix(instance, flow) - now.W)) / size)
        error += float(np.linalg.norm(now.W - companion.W)) / size + slaving_error(trajectory)
        return Measurement(value, 0.0, error)

    def _least(self, instance: Instance) -> MinNuclearNorm:
        return self.tools.remember(("least", instance.key), lambda: _least(instance.data))

    def _ratio(self, instance: Instance, u: float, predicted: float, also: tuple[Measurement, ...] = ()) -> Measurement:
        certificate = self._least(instance).certificate
        value, other = (float(np.abs(np.linalg.eigvalsh(moment.W)).sum()) for moment in self._orbit(instance).at(u))
        certified, error = value * (1.0 / certificate.lower - 1.0 / certificate.upper), abs(value - other)
        return Measurement(value / certificate.lower, predicted, error / certificate.lower, certified, also=also)

    def _zeros(self, instance: Instance) -> np.ndarray:
        W = np.zeros((SIDE, SIDE))
        i, j = instance.data.X.T
        W[i, j] = W[j, i] = instance.data.y
        return W

    def _ratio_of_zeros(self, instance: Instance, problem: Problem) -> Measurement:
        early = float(np.abs(np.linalg.eigvalsh(self._zeros(instance))).sum()) / self._least(instance).certificate.lower
        return self._ratio(instance, _after(instance, problem), early)

    def _ratio_of_squares(self, instance: Instance, problem: Problem) -> Measurement:
        """Measure |W|_F over that of the completion by zeros, which is the least."""
        least = float(np.linalg.norm(self._zeros(instance)))
        now, companion = self._orbit(instance).at(_after(instance, problem))
        return Measurement(
            float(np.linalg.norm(now.W)) / least, 1.0, float(np.linalg.norm(now.W - companion.W)) / least
        )


def _after(instance: Instance, problem: Problem) -> float:
    """Return the time from the transition to T^+_c."""
    return instance.c * problem.log_alpha


def _residual(instance: Instance, moment: Moment) -> float:
    """Return the KKT residual of R2 at a moment of the orbit."""
    model, X = instance.model, instance.data.X
    outputs, features = model.output(moment.theta, X), model.features(X, moment.theta)
    return interpolation_kkt_residuals(moment.theta, outputs, features, instance.data.y).residual


def _least(data: Dataset) -> MinNuclearNorm:
    return min_nuclear_norm(data.X, data.y, shape=SIDE, symmetric=True)


def _separation(found: MinNuclearNorm) -> float:
    """Return how far from 1 the eigenvalues of the dual matrix are, but for as many as W has."""
    sizes = np.sort(np.abs(np.linalg.eigvalsh(found.S)))[: SIDE - found.rank]
    return 1.0 - float(sizes[-1]) if sizes.size else 1.0


def _matrix(instance: Instance, now: Snapshot) -> np.ndarray:
    W = np.zeros((SIDE, SIDE))
    i, j = test_inputs(instance).T
    W[i, j] = W[j, i] = now.outputs(test_inputs(instance))
    return W
