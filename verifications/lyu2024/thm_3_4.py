"""Theorems 3.4 and C.9: the kernel regime, as printed and with the exponent that the flow has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from theorykit import Problem
from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.flow import Snapshot
from theorykit.predictors import log_normaliser, log_normaliser_printed, window

from ._common import BOTH_LOSSES, diagonal_instances
from ._models import (
    CLEAR_SUPPORT,
    KINKED,
    SMOOTH,
    assumption_tests,
    classification_instances,
    kernel_predictor,
    random_inputs,
    shuffled_predictor,
)

Floats = NDArray[np.float64]

_TEST_POINTS = 32
_LADDER: Mapping[str, tuple[float, ...]] = dict.fromkeys(
    ("quick", "full", "paper"), tuple(20.0 * 2.0**k for k in range(6))
)
_FEW: Mapping[str, int] = {"quick": 1, "full": 20, "paper": 20}


class _Early(Claim):
    """What the statements about T^-_c share: the normaliser Z, its false twins, and how a vector is held against one.

    A subclass says what vector it measures, and what it should be for Z = 1/gamma.
    """

    assumptions: ClassVar[tuple[str, ...]] = (
        "homogeneous model (3.1)",
        "zero output at the start (3.2)",
        "separable NTK features (3.3)",
    )
    expected: ClassVar[Mapping[str, str]] = {"as-printed": "refuted", "corrected": "supported"}
    expansion = Expansion()
    resolution = 0.05
    reach: ClassVar[float] = 0.0  # s to which the flow is followed at least

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the vector at T^-_c over Z and its prediction."""
        scales = problem.log_alpha, problem.log_weight_decay, instance.c
        if variant == "as-printed":
            return self._ratio(instance, problem, log_normaliser_printed(*scales))
        return self._ratio(instance, problem, log_normaliser(*scales, instance.model.degree))

    def controls(self) -> Sequence[Control]:
        """Return a Z without c, a Z with the wrong sign of c, and the predictor of shuffled labels."""
        return (
            Control("Z = log(1/λ)/γ, without c", lambda i, p: self._ratio(i, p, -p.log_weight_decay)),
            Control("Z at T⁺ instead of T⁻", self._at_the_wrong_side),
            Control("labels shuffled", self._shuffled),
        )

    def broken(self) -> Sequence[Control]:
        """Return a changed exponent of Z."""
        return (Control("Z = log(α^(2Lc)/λ)/γ", self._with_another_exponent),)

    def vector(self, instance: Instance, snapshot: Snapshot) -> Floats:
        """Return what is measured."""
        raise NotImplementedError

    def predicted(self, instance: Instance, direction: Floats) -> Floats:
        """Return what it should be for a kernel predictor of unit norm and Z = 1."""
        raise NotImplementedError

    def _snapshot(self, instance: Instance, problem: Problem) -> Snapshot:
        return self.flow(problem, max(self.reach, 1.0 - instance.c)).at(tau=window(problem.log_alpha, instance.c)[0])

    def _ratio(self, instance: Instance, problem: Problem, normaliser: float) -> Measurement:
        """Return the projection on the prediction (1, says the claim), and the part off it (0), relative to it."""
        snapshot, kernel = self._snapshot(instance, problem), kernel_predictor(self, instance)
        predicted = self.predicted(instance, kernel.direction) / kernel.margin

        def split(now: Snapshot) -> tuple[float, float]:
            found = self.vector(instance, now) / normaliser
            along = float(found @ predicted / (predicted @ predicted))
            return along, float(np.linalg.norm(found - along * predicted) / np.linalg.norm(predicted))

        along, error = snapshot.estimate(lambda now: split(now)[0])
        off, off_error = snapshot.estimate(lambda now: split(now)[1])
        rest = Measurement(off, 0.0, off_error, kernel.off, floor=0.0)
        return Measurement(along, 1.0, error, abs(along) * kernel.uncertainty, also=(rest,))

    def _at_the_wrong_side(self, instance: Instance, problem: Problem) -> Measurement:
        scales = problem.log_alpha, problem.log_weight_decay, -instance.c
        return self._ratio(instance, problem, log_normaliser(*scales, instance.model.degree))

    def _with_another_exponent(self, instance: Instance, problem: Problem) -> Measurement:
        scales = problem.log_alpha, problem.log_weight_decay, instance.c
        return self._ratio(instance, problem, log_normaliser(*scales, instance.model.degree + 1))

    def _shuffled(self, instance: Instance, problem: Problem) -> Measurement:
        """Hold the flow against the kernel predictor of the same points with their labels rotated by one."""
        snapshot, other = self._snapshot(instance, problem), shuffled_predictor(self, instance)
        scales = problem.log_alpha, problem.log_weight_decay, instance.c
        direction = self.predicted(instance, other.direction) / other.margin
        unit = direction / (direction @ direction) / log_normaliser(*scales, instance.model.degree)
        ratio, error = snapshot.estimate(lambda now: float(self.vector(instance, now) @ unit))
        return Measurement(ratio, 1.0, error)


class _Outputs(_Early):
    """Theorem 3.4 itself: outputs at random test points."""

    quantity = "f(T⁻) / Z⟨φ, h*⟩"
    judged = (
        "Over random test points, the projection of f on its prediction is extrapolated in log(alpha) and must tend "
        "to 1, and the part of f off the prediction (relative to it) must tend to 0, each with an error below 0.05."
    )

    def vector(self, instance: Instance, snapshot: Snapshot) -> Floats:
        """Return f at the test points."""
        return snapshot.outputs(_test_points(instance))

    def predicted(self, instance: Instance, direction: Floats) -> Floats:
        """Return <phi(x), h*>."""
        theta_bar = kernel_predictor(self, instance).theta_bar
        return np.asarray(instance.model.features(_test_points(instance), theta_bar) @ direction)


class KernelRegime(_Outputs):
    """For every c in (0, 1) and every x, f(theta(T^-_c); x)/Z(alpha) tends to <phi(x), h*> as alpha grows, where
    T^-_c = (1-c) log(alpha)/lambda, h* is the kernel max-margin direction and gamma its margin. As printed
    Z = (1/gamma) log(alpha^c/lambda); corrected Z = (1/gamma) log(alpha^(2(L-1)c)/lambda).
    """

    id, title, kind = "lyu2024.thm-3.4", "Kernel regime up to (1-c) log α / λ", "limit"
    source = Source("lyu2024", "Theorem 3.4")

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with both losses, L = 2, 3, 4, and one more pair of exponents (p, c)."""
        return diagonal_instances(rng, (*BOTH_LOSSES, ("exponential", 2, 0.5, 0.6)))


class KernelRegimeOfModels(_Outputs):
    """On every model of the assumptions, for every c in (0, 1) and every x, f(theta(T^-_c); x)/Z(alpha) tends to
    <phi(x), h*> as alpha grows. As printed Z = (1/gamma) log(alpha^c/lambda); corrected Z = (1/gamma)
    log(alpha^(2(L-1)c)/lambda).
    """

    id, title, kind = "lyu2024.thm-3.4-models", "Kernel regime of factorisations, deep nets, convolutions", "limit"
    source = Source("lyu2024", "Theorem 3.4")
    assumptions = (*_Early.assumptions, CLEAR_SUPPORT)
    ladders = _LADDER
    draws = _FEW
    reach = 1.0  # as the lemmas up to T_max

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Yield a factorisation, nets of two and three layers, and a convolution, all with smooth activations."""
        list(diagonal_instances(rng, ()))  # what the other claims draw first, so that all meet on the same problems
        return classification_instances(rng, SMOOTH)


class KernelRegimeOfReLU(_Outputs):
    """Outside the theorem, whose Assumption 3.1 asks for two continuous derivatives: for ReLU nets, too,
    f(theta(T^-_c); x)/Z(alpha) tends to <phi(x), h*>. Z as printed and as corrected for Theorem 3.4.
    """

    id, title, kind = "lyu2024.thm-3.4-relu", "Kernel regime of ReLU nets (outside the assumptions)", "limit"
    source = Source("lyu2024", "Theorem 3.4, on models that its assumptions exclude")
    open_question = True
    ladders = _LADDER
    draws = _FEW
    assumptions = (
        "homogeneous model (3.1, but for its derivatives)",
        "zero output at the start (3.2)",
        "separable NTK features (3.3)",
        CLEAR_SUPPORT,
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Yield a fully connected and a convolutional ReLU net."""
        return classification_instances(rng, KINKED)


class KernelDisplacement(_Early):
    """For every c in (0, 1) the displacement h = alpha^L e^(-L lambda t) delta obeys h(T^-_c)/Z(alpha) -> h* as alpha
    grows, Z as in Theorem 3.4: as printed (1/gamma) log(alpha^c/lambda), corrected (1/gamma)
    log(alpha^(2(L-1)c)/lambda).
    """

    id, title, kind = "lyu2024.thm-c9", "h tends to the kernel max-margin direction", "limit"
    source = Source("lyu2024", "Theorem C.9")
    quantity = "⟨h(T⁻), h*⟩ / Z"
    judged = (
        "The projection of h/Z on h* is extrapolated in log(alpha) and must tend to 1, and the part of h/Z off h* must "
        "tend to 0, each with an error below 0.05."
    )
    assumptions = (*_Early.assumptions, CLEAR_SUPPORT)
    ladders = _LADDER
    draws = _FEW
    reach = 1.0

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with both losses, L = 2, 3, 4, and the other smooth models."""
        yield from diagonal_instances(rng, BOTH_LOSSES)
        yield from classification_instances(rng, SMOOTH)

    def vector(self, instance: Instance, snapshot: Snapshot) -> Floats:
        """Return h."""
        unit, log_size = snapshot.h
        return np.asarray(np.exp(log_size) * unit)

    def predicted(self, instance: Instance, direction: Floats) -> Floats:
        """Return h*."""
        return direction


def _test_points(instance: Instance) -> Floats:
    """Return fixed random inputs: the theorem speaks of every x."""
    return random_inputs(np.random.default_rng(1), instance.model, _TEST_POINTS)
