"""Corollary 3.11: matrix factorisation remembers the observed entries first; what it fills in then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from theorykit import Problem, Trajectory
from theorykit.checking import Assumption, Control, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.flow import Snapshot
from theorykit.models import MatrixFactorization
from theorykit.predictors import window
from theorykit.programs import MinNuclearNorm, min_nuclear_norm

from ._regression import POWER_LAW, SIDE, Regression, kkt_residual, observed_entries, slaving_error, test_inputs

_LATE = (12.0, 18.0, 24.0, 32.0, 43.0)
_SEPARATED = 0.2


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
        W, other = snapshot.outputs(points), snapshot.looser.outputs(points)
        error = float(np.abs(W - other).max()) / size + slaving_error(trajectory)
        return Measurement(float(np.abs(W - predicted).max()) / size, 0.0, error)


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
        "The ratio of the nuclear norm of W(T⁺), c = 0.3, to the certified least one, and the KKT residual of R2, are "
        "extrapolated in log(alpha) and must tend to 1 and to 0. The ladder ends where alpha^2 e^(-2 lambda t) is "
        "10^(-12) of |U||V|: past it round-off, and not the exact start, decides on which side of a saddle W falls."
    )
    expansion = POWER_LAW
    resolution = 0.05
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = {"quick": _LATE, "full": _LATE, "paper": _LATE}

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Random entries of a random symmetric matrix, drawn until the program is separated; lambda = alpha^-3.

        A direction in which the dual matrix has an eigenvalue 1 - gap relaxes like exp(-gap lambda t), and after the
        transition there are 13 units of lambda t.
        """
        data = observed_entries(rng)
        while _separation(_least(data)) < _SEPARATED:
            data = observed_entries(rng)
        yield Instance(MatrixFactorization(SIDE), data, "squared", p=3.0)

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Test Assumptions 3.1, 3.2 and 3.8, and the separation of the convex program."""
        gap = _separation(self._least(instance))
        separated = Assumption("separated dual of the nuclear-norm program, gap", gap >= _SEPARATED, gap)
        return [*super().check(instance), separated]

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the ratio at T^+_c, and the KKT residual."""
        tau = window(problem.log_alpha, instance.c)[1]
        snapshot = self._late(problem).at(tau=tau)
        residual, error = snapshot.estimate(lambda now: kkt_residual(instance, now))
        return self._ratio(instance, problem, tau, 1.0, also=(Measurement(residual, 0.0, error),))

    def controls(self) -> Sequence[Control]:
        """Return the nuclear norm of the early completion by zeros, and the time before the transition."""
        return (
            Control("stays at the completion by zeros", self._ratio_of_zeros, shared=True),
            Control(
                "least already at T⁻", lambda i, p: self._ratio(i, p, window(p.log_alpha, i.c)[0], 1.0),
            ),
        )  # fmt: skip

    def broken(self) -> Sequence[Control]:
        """Return the Frobenius norm in place of the nuclear one."""
        return (Control("least Frobenius norm", self._ratio_of_squares),)

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return both ratios at the largest scale."""
        return {
            "nuclear norm ratio at the largest α": self.measure(instance, problem, "as-printed").measured,
            "nuclear norm ratio of the completion by zeros": self._ratio_of_zeros(instance, problem).predicted,
        }

    def _late(self, problem: Problem) -> Trajectory:
        return self.flow(problem, 1.3)

    def _least(self, instance: Instance) -> MinNuclearNorm:
        return self.tools.remember(("least", instance.key), lambda: _least(instance.data))

    def _ratio(
        self,
        instance: Instance,
        problem: Problem,
        tau: float,
        predicted: float,
        also: tuple[Measurement, ...] = (),
    ) -> Measurement:
        certificate = self._least(instance).certificate
        snapshot = self._late(problem).at(tau=tau)
        value, error = snapshot.estimate(lambda now: float(np.abs(np.linalg.eigvalsh(_matrix(instance, now))).sum()))
        certified = value * (1.0 / certificate.lower - 1.0 / certificate.upper)
        return Measurement(value / certificate.lower, predicted, error / certificate.lower, certified, also=also)

    def _zeros(self, instance: Instance) -> np.ndarray:
        W = np.zeros((SIDE, SIDE))
        i, j = instance.data.X.T
        W[i, j] = W[j, i] = instance.data.y
        return W

    def _ratio_of_zeros(self, instance: Instance, problem: Problem) -> Measurement:
        early = float(np.abs(np.linalg.eigvalsh(self._zeros(instance))).sum()) / self._least(instance).certificate.lower
        return self._ratio(instance, problem, window(problem.log_alpha, instance.c)[1], early)

    def _ratio_of_squares(self, instance: Instance, problem: Problem) -> Measurement:
        """Measure |W|_F over that of the completion by zeros, which is the least."""
        least = float(np.linalg.norm(self._zeros(instance)))
        snapshot = self._late(problem).at(tau=window(problem.log_alpha, instance.c)[1])
        value, error = snapshot.estimate(lambda now: float(np.linalg.norm(_matrix(instance, now))))
        return Measurement(value / least, 1.0, error / least)


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
