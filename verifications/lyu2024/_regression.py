"""What the claims about regression share: instances of every model, the tests of assumptions, flows and kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from theorykit import Problem, Trajectory
from theorykit.checking import Assumption, Claim, Expansion, Instance, verdict
from theorykit.datasets import Dataset, matrix_entries
from theorykit.flow import Snapshot
from theorykit.kernels import features
from theorykit.models import CNN, MLP, DiagonalNet, MatrixFactorization, check_homogeneous
from theorykit.predictors import KernelBall, kernel_ball
from theorykit.programs import KernelInterpolant, interpolation_kkt_residuals, kernel_interpolant

SAMPLES, FEATURES = 8, 40
SIDE, OBSERVED = 6, 8  # of the symmetric matrix, and how many of its 21 entries
FEW, INPUTS, PIXELS = 4, 4, 6  # samples and features of the nets
TEST_POINTS = 32

ASSUMPTIONS = ("homogeneous model (3.1)", "zero output at the start (3.2)", "independent NTK features (3.8)")
POWER_LAW = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"), ("log/x", "1/x")))
"""For limits that close like a power of alpha: over a ladder of log(alpha) everything but the limit is small."""

LARGEST_CONDITION = 1e10  # of the tangent kernel at the start, beyond which 3.8 holds for no double

_EARLY = (30.0, 60.0, 120.0, 230.0)
EARLY_LADDERS: Mapping[str, tuple[float, ...]] = {"quick": _EARLY, "full": _EARLY, "paper": _EARLY}
"""Scales log(alpha) for claims about the time before the transition: their limits close like powers of alpha."""


def regression_instances(
    rng: np.random.Generator, window: Callable[[int], float] = lambda degree: 0.3, *, smooth: bool = True
) -> Iterator[Instance]:
    """Yield one instance of every smooth model, c = window(L), or of ReLU nets.

    The targets are independent N(0, 1) (the factorisation: entries of a random symmetric matrix of rank 2).
    """
    X = rng.standard_normal((SAMPLES, FEATURES))
    gaussian = Dataset.from_arrays(X, rng.standard_normal(SAMPLES), task="regression", name="gaussian")
    entries = observed_entries(rng)
    few = Dataset.from_arrays(*_draw(rng, INPUTS), task="regression", name="gaussian")
    signals = Dataset.from_arrays(*_draw(rng, PIXELS), task="regression", name="gaussian")
    seed = int(rng.integers(2**31))
    power = "z^2" if smooth else "relu"
    nets: list[tuple[Any, Dataset]] = [(MLP((INPUTS, 12, 1), power), few), (CNN((PIXELS,), (6,), 3, power), signals)]
    if smooth:
        nets.insert(1, (MLP((INPUTS, 8, 8, 1), power), few))
        for degree in (2, 3, 4):
            yield Instance(DiagonalNet(FEATURES, degree), gaussian, "squared", c=window(degree))
        yield Instance(MatrixFactorization(SIDE), entries, "squared", c=window(2))
    for model, data in nets:
        yield Instance(model, data, "squared", c=window(model.degree), init="twin", seed=seed)


def observed_entries(rng: np.random.Generator) -> Dataset:
    """Return some entries, each once, of a random symmetric matrix of rank 2."""
    pairs = np.column_stack(np.triu_indices(SIDE))
    seen = pairs[np.sort(rng.choice(len(pairs), OBSERVED, replace=False))]
    factor = rng.standard_normal((SIDE, 2))
    whole = (factor * rng.choice([-1.0, 1.0], 2)) @ factor.T
    return matrix_entries(seen, whole[tuple(seen.T)], shape=(SIDE, SIDE), name="random symmetric matrix")


def _draw(rng: np.random.Generator, d: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((FEW, d)), rng.standard_normal(FEW)


def test_inputs(instance: Instance) -> np.ndarray:
    """Return fixed random inputs, or all entries of the matrix: the theorems speak of every x."""
    if isinstance(instance.model, MatrixFactorization):
        return np.column_stack(np.triu_indices(instance.model.d))
    return np.random.default_rng(1).standard_normal((TEST_POINTS, instance.data.d))


test_inputs.__test__ = False  # type: ignore[attr-defined]


class Regression(Claim):
    """What all claims about regression share."""

    assumptions = ASSUMPTIONS
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = EARLY_LADDERS
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1, 3.2 and 3.8."""
        model, data = instance.model, instance.data
        theta = model.direction(instance.init, instance.seed)
        report = check_homogeneous(model, data.X)
        f = np.abs(model.output(theta, data.X)).max()
        size = np.abs(model.features(data.X, theta) * theta).sum(axis=-1).max()
        condition = float(np.linalg.cond(self.features(instance))) ** 2
        return [
            Assumption("homogeneity (3.1), relative defect", report.ok, max(report.scaling, report.euler)),
            Assumption("zero output (3.2), largest output", bool(f <= 1e-12 * size), float(f)),
            Assumption("independent features (3.8), condition of K", condition < LARGEST_CONDITION, condition),
        ]

    def features(self, instance: Instance, X: Any = None) -> np.ndarray:
        """Return the NTK features of the training inputs, or of others."""
        X = instance.data.X if X is None else X
        return features(instance.model, X, init=instance.init, seed=instance.seed)

    def interpolant(self, instance: Instance, shift: int = 0) -> KernelInterpolant:
        """Return h* of K2 with its proved distance bound; with a shift, for targets that are rotated by so many."""

        def solve() -> KernelInterpolant:
            return kernel_interpolant(self.features(instance), np.roll(instance.data.y, shift))

        return self.tools.remember(("h*", instance.key, shift), solve)

    def ball(self, instance: Instance) -> KernelBall:
        """Return the tangent kernel at the start and a ball in which it changes little."""
        model, X = instance.model, instance.data.X
        made = lambda: kernel_ball(model, X, init=instance.init, seed=instance.seed)  # noqa: E731 - for one line's sake
        return self.tools.remember(("ball", instance.key), made)

    def early(self, problem: Problem) -> Trajectory:
        """Return the flow up to log(alpha)/lambda, which all claims about the early phase share."""
        return self.flow(problem, 1.0)


def accepted(trajectory: Trajectory, until: float = math.inf) -> Iterator[Snapshot]:
    """Yield the flow at the end of every accepted step up to a slow time, from where the companion run has begun."""
    first = trajectory.at(log_tau=float(trajectory.step_ends[-1])).companion.start
    for log_tau in trajectory.step_ends:
        if log_tau >= first and math.exp(log_tau) <= until:
            yield trajectory.at(log_tau=float(log_tau))


def decisive(slacks: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Return (slack, 0, error) of the step on which the verdict turns.

    What the slack does between accepted steps is not seen: the difference to the nearer neighbour counts as an error.
    """
    at = verdict.decisive(slacks)
    slack, error = slacks[at]
    neighbours = slacks[max(at - 1, 0) : at] + slacks[at + 1 : at + 2]
    between = min((abs(near[0] - slack) for near in neighbours), default=0.0)
    return float(slack), 0.0, float(error + between)


def target_norm(instance: Instance) -> float:
    """Return |y|."""
    return float(np.linalg.norm(instance.data.y))


def kkt_residual(instance: Instance, now: Snapshot, targets: np.ndarray | None = None) -> float:
    """Return the KKT residual of R2, at most 1, for the targets of the data or others."""
    model, X = instance.model, instance.data.X
    log_size = min(now.log_norm, 200.0)  # before the transition theta leaves the float range: a multiple is worse
    theta = now.direction * math.exp(log_size)
    outputs = now.outputs() * math.exp(model.degree * (log_size - now.log_norm))
    wanted = instance.data.y if targets is None else targets
    return min(interpolation_kkt_residuals(theta, outputs, model.features(X, theta), wanted).residual, 1.0)


def slaving_error(trajectory: Trajectory) -> float:
    """Return the relative error that slaving the residual brings."""
    return float(trajectory.settings["slaving_error"])
