"""Theorem 3.9: before the transition a regression net is the kernel interpolant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from theorykit import Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.flow import Snapshot
from theorykit.predictors import window

from ._regression import POWER_LAW, Regression, regression_instances, test_inputs


class KernelInterpolant(Regression):
    """For every c in (0, 1) and every x, f(theta(T^-_c); x) tends to <phi(x), h*> as alpha grows, where T^-_c = (1-c)
    log(alpha)/lambda and h* is the shortest h with <phi(x_i), h> = y_i.
    """

    id, title, kind = "lyu2024.thm-3.9", "Kernel interpolant up to (1-c) log α / λ", "limit"
    source = Source("lyu2024", "Theorem 3.9")
    quantity = "f(T⁻) / ⟨φ, h*⟩"
    judged = (
        "Over random test points (of a matrix: all entries) the projection of f on its prediction, with the certified "
        "h*, is extrapolated in log(alpha) and must tend to 1, and the part of f off the prediction (relative to it) "
        "must tend to 0, each with an error below 0.01."
    )
    expansion = POWER_LAW
    resolution = 0.01

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 2, 3, 4, matrix factorisation, and smooth nets."""
        yield from regression_instances(rng)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure f/<phi, h*> at T^-_c."""
        return self._ratio(instance, problem, window(problem.log_alpha, instance.c)[0])

    def controls(self) -> Sequence[Control]:
        """Return the interpolant of other targets, and one that weight decay has shrunk."""
        return (
            Control("interpolant of rotated targets", lambda i, p: self._ratio(i, p, self._early(i, p), shift=1)),
            Control("shrunk by 1 - c", self._shrunk, shared=True),
        )

    def broken(self) -> Sequence[Control]:
        """Return one part in a hundred more."""
        return (Control("1.01 ⟨φ, h*⟩", lambda i, p: replace(self.measure(i, p, "as-printed"), predicted=1.01)),)

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return distance and shrinkage of f along one flow of moderate scale."""
        problem = instance.at(40.0)
        trajectory, points = self.early(problem), test_inputs(instance)
        predicted = self.features(instance, points) @ self.interpolant(instance).w
        s = np.linspace(0.05, 1.0, 60)
        found = [trajectory.at(s=float(value)).outputs(points) for value in s]
        size = np.linalg.norm(predicted)
        return [
            {
                "label": f"log α = 40, {instance.model.name}",
                "s": s.tolist(),
                "curves": {
                    "f along ⟨φ, h*⟩": [float(f @ predicted / size**2) for f in found],
                    "distance to ⟨φ, h*⟩": [float(np.linalg.norm(f - predicted) / size) for f in found],
                },
                "marks": {"T⁻": 1.0 - instance.c},
                "quantity": "relative to the interpolant",
            }
        ]

    @staticmethod
    def _early(instance: Instance, problem: Problem) -> float:
        return window(problem.log_alpha, instance.c)[0]

    def _shrunk(self, instance: Instance, problem: Problem) -> Measurement:
        found = self.measure(instance, problem, "as-printed")
        return Measurement(found.measured, 1.0 - instance.c, found.integrator, found.certificate)

    def _ratio(self, instance: Instance, problem: Problem, tau: float, shift: int = 0) -> Measurement:
        trajectory, interpolant = self.early(problem), self.interpolant(instance, shift)
        points = test_inputs(instance)
        phi = self.features(instance, points)
        predicted = phi @ interpolant.w
        size = float(np.linalg.norm(predicted))

        def split(now: Snapshot) -> tuple[float, float]:
            f = now.outputs(points)
            along = float(f @ predicted) / size**2
            return along, float(np.linalg.norm(f - along * predicted)) / size

        snapshot = trajectory.at(tau=tau)
        along, error = snapshot.estimate(lambda now: split(now)[0])
        off, off_error = snapshot.estimate(lambda now: split(now)[1])
        uncertain = interpolant.distance_bound * float(np.linalg.norm(phi, 2)) / size
        rest = Measurement(off, 0.0, off_error, uncertain, floor=0.0)
        return Measurement(along, 1.0, error, uncertain, also=(rest,))


class ReluKernelInterpolant(KernelInterpolant):
    """Outside the theorem, whose Assumption 3.1 asks for two continuous derivatives: for nets with ReLU, too,
    f(theta(T^-_c); x) tends to <phi(x), h*> as alpha grows.
    """

    id, title = "lyu2024.thm-3.9-relu", "Kernel interpolant, ReLU nets"
    source = Source("lyu2024", "Theorem 3.9, without its Assumption 3.1 (ReLU is not C²)")
    assumptions = ("homogeneous model", "zero output at the start (3.2)", "independent NTK features (3.8)")
    open_question = True

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """A two-layer net; the flow of a convolutional one, with its many kinks, takes minutes."""
        yield next(regression_instances(rng, smooth=False))
