"""Theorem 3.4: the kernel regime, as printed and with the exponent that the flow has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from theorykit import Problem
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.flow import Snapshot
from theorykit.models import DiagonalNet
from theorykit.predictors import kernel_direction, log_normaliser, log_normaliser_printed, window

from ._common import BOTH_LOSSES, assumption_tests, diagonal_instances

_TEST_POINTS = 32


class KernelRegime(Claim):
    """For every c in (0, 1) and every x, f(theta(T^-_c); x)/Z(alpha) tends to <phi(x), h*> as alpha grows, where
    T^-_c = (1-c) log(alpha)/lambda, h* is the kernel max-margin direction and gamma its margin. As printed
    Z = (1/gamma) log(alpha^c/lambda); corrected Z = (1/gamma) log(alpha^(2(L-1)c)/lambda).
    """

    id, title, kind = "lyu2024.thm-3.4", "Kernel regime up to (1-c) log α / λ", "limit"
    source = Source("lyu2024", "Theorem 3.4")
    assumptions = ("homogeneous model (3.1)", "zero output at the start (3.2)", "separable NTK features (3.3)")
    quantity = "f(T⁻) / Z⟨φ, h*⟩"
    judged = (
        "Over random test points, the projection of f on its prediction is extrapolated in log(alpha) and must tend "
        "to 1, and the part of f off the prediction (relative to it) must tend to 0, each with an error below 0.05."
    )
    expected: ClassVar[Mapping[str, str]] = {"as-printed": "refuted", "corrected": "supported"}
    expansion = Expansion()
    resolution = 0.05

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Both losses, L = 2, 3, 4, and one more pair of exponents (p, c)."""
        return diagonal_instances(rng, (*BOTH_LOSSES, ("exponential", 2, 0.5, 0.6)))

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure f/(Z <phi, h*>) at T^-_c."""
        normaliser = self._printed if variant == "as-printed" else self._corrected
        return self._ratio(instance, problem, normaliser(instance, problem))

    def controls(self) -> Sequence[Control]:
        """Return a Z without c, a Z with the wrong sign of c, and the predictor of shuffled labels."""
        return (
            Control("Z = log(1/λ)/γ, without c", self._without_c),
            Control("Z at T⁺ instead of T⁻", self._at_the_wrong_side),
            Control("labels shuffled", self._shuffled),
        )

    def broken(self) -> Sequence[Control]:
        """Return a changed exponent of Z."""
        return (Control("Z = log(α^(2Lc)/λ)/γ", self._with_another_exponent),)

    def _snapshot(self, instance: Instance, problem: Problem) -> Snapshot:
        s = 1.0 - instance.c
        return self.flow(problem, s).at(tau=window(problem.log_alpha, instance.c)[0])

    def _direction(self, instance: Instance) -> np.ndarray:
        separator = self.max_margin(instance.data, 2)
        assert isinstance(instance.model, DiagonalNet)
        return kernel_direction(instance.model, separator.w, separator.certificate.lower)

    def _printed(self, instance: Instance, problem: Problem) -> float:
        return log_normaliser_printed(problem.log_alpha, problem.log_weight_decay, instance.c)

    def _corrected(self, instance: Instance, problem: Problem) -> float:
        return log_normaliser(problem.log_alpha, problem.log_weight_decay, instance.c, instance.model.degree)

    def _ratio(self, instance: Instance, problem: Problem, normaliser: float) -> Measurement:
        snapshot, direction = self._snapshot(instance, problem), self._direction(instance)
        certificate = self.max_margin(instance.data, 2).certificate
        uncertain = certificate.upper / certificate.lower - 1.0
        predicted = _test_points(instance) @ direction

        def split(w: np.ndarray) -> tuple[float, float]:
            """Return f along its prediction, and the size of the rest, relative to the prediction."""
            f = _test_points(instance) @ w / normaliser
            along = float(f @ predicted / (predicted @ predicted))
            return along, float(np.linalg.norm(f - along * predicted) / np.linalg.norm(predicted))

        (along, off), (along_, off_) = split(snapshot.weights), split(snapshot.companion_weights)
        rest = Measurement(off, 0.0, abs(off - off_), self._uncertainty_of_direction(instance))
        return Measurement(along, 1.0, abs(along - along_), abs(along) * uncertain, also=(rest,))

    def _uncertainty_of_direction(self, instance: Instance) -> float:
        separator = self.max_margin(instance.data, 2)
        return (separator.distance_bound or 0.0) / float(np.linalg.norm(separator.w))

    def _without_c(self, instance: Instance, problem: Problem) -> Measurement:
        return self._ratio(instance, problem, -problem.log_weight_decay)

    def _at_the_wrong_side(self, instance: Instance, problem: Problem) -> Measurement:
        degree = instance.model.degree
        return self._ratio(
            instance, problem, log_normaliser(problem.log_alpha, problem.log_weight_decay, -instance.c, degree)
        )

    def _with_another_exponent(self, instance: Instance, problem: Problem) -> Measurement:
        degree = instance.model.degree + 1
        return self._ratio(
            instance, problem, log_normaliser(problem.log_alpha, problem.log_weight_decay, instance.c, degree)
        )

    def _shuffled(self, instance: Instance, problem: Problem) -> Measurement:
        """Hold the flow against the kernel predictor of the same points with their labels rotated by one."""
        data = instance.data
        labels = np.roll(data.y, 1)
        if np.array_equal(labels, data.y):
            labels = -data.y
        other = self.max_margin(Dataset.from_arrays(data.X, labels), 2)
        snapshot = self._snapshot(instance, problem)
        assert isinstance(instance.model, DiagonalNet)
        direction = kernel_direction(instance.model, other.w, other.certificate.lower)
        normaliser = self._corrected(instance, problem)

        def project(w: np.ndarray) -> float:
            return float(w @ direction / (direction @ direction)) / normaliser

        ratio = project(snapshot.weights)
        return Measurement(ratio, 1.0, abs(ratio - project(snapshot.companion_weights)))


def _test_points(instance: Instance) -> np.ndarray:
    """Return fixed random inputs: the theorem speaks of every x."""
    return np.random.default_rng(1).standard_normal((_TEST_POINTS, instance.data.d))
