"""Corollary 3.11: matrix factorisation remembers the observed entries first, and fills in zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from theorykit import Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.models import MatrixFactorization
from theorykit.predictors import window

from ._regression import SIDE, Regression, observed_entries, slaving_error, test_inputs
from .thm_3_9 import POWER_LAW


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
