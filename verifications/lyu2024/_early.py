"""The flow before the transition as the lemmas of classification read it: every accepted step up to T_max."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from theorykit import Crossing, Problem
from theorykit.checking import Assumption, Claim, Instance, Measurement
from theorykit.checking.verdict import decisive
from theorykit.flow import Snapshot
from theorykit.predictors import curvature_bound, feature_radius, log_displacement_ceiling

from ._common import diagonal_instances
from ._models import CLEAR_SUPPORT, SMOOTH, Kernel, assumption_tests, classification_instances, kernel_predictor

Floats = NDArray[np.float64]

DIAGONAL = tuple(("exponential", degree, 1.0, 0.3) for degree in (2, 3, 4))
LADDERS = {
    "quick": (20.0, 80.0, 320.0),
    "full": (20.0, 40.0, 80.0, 160.0, 320.0),
    "paper": (20.0, 40.0, 80.0, 160.0, 320.0),
}
"""Scales log(alpha), up to where the flows of all models are reliable at the tolerance of a run."""


@dataclass(frozen=True)
class Constants:
    """What the lemmas call constants, proved: radius epsilon_max, bound G on features, bound B on Hessians in it."""

    problem: Problem
    kernel: Kernel
    radius: float
    gradient: float
    curvature: float

    @property
    def margin(self) -> float:
        """Gamma."""
        return self.kernel.margin

    @property
    def scales(self) -> tuple[float, float, int]:
        """The arguments log(alpha), log(lambda) and L of the predictors."""
        return self.problem.log_alpha, self.problem.log_weight_decay, self.problem.model.degree

    def log_displacement(self, log_tau: Floats) -> Floats:
        """Return the logarithm of the proved bound on |delta| (Lemma C.5)."""
        return log_displacement_ceiling(log_tau, *self.scales, self.margin, self.gradient)


@dataclass(frozen=True)
class Run:
    """One run (the flow's own, or its companion) at given times: what the inequalities are made of.

    With p_i = r_i/sum r, g = sum_i p_i grad q_i(theta_bar + eps h) and A~ = sigma^(2(L-1))/lambda the flow is
    dh/dtau = A~ loss g - L h, exactly, and d log(1/loss)/dtau = A~ loss |g|^2 - L sum_i p_i q_i. Rates are in units of
    max(1, A~ loss), which leaves the float range.

    Attributes
    ----------
    constants : Constants
    log_loss, mean_q : ndarray, shape (k,)
        Logarithm of the mean loss, and sum_i p_i q_i.
    push, pull : ndarray, shape (k,)
        A~ loss and 1 in that unit.
    g, along : ndarray, shape (k,)
        |g| and <g, h>/|h|.
    h, log_delta : ndarray, shape (k,)
        |h| and log|delta|.
    direction : ndarray, shape (k, P)
        h/|h|.
    """

    constants: Constants
    log_loss: Floats
    mean_q: Floats
    push: Floats
    pull: Floats
    g: Floats
    along: Floats
    h: Floats
    log_delta: Floats
    direction: Floats

    @cached_property
    def log_remainder(self) -> Floats:
        """Logarithms of the largest |q_i - <grad q_i(theta_bar), h>|/|h|, from Hessians: nothing is subtracted."""
        pairs = zip(self.direction, self.log_delta, strict=True)
        return self.log_delta + np.array([_log_curvature(self.constants, unit, size) for unit, size in pairs])


@dataclass(frozen=True)
class EarlyPhase:
    """The accepted steps of a flow up to T_max, read on the flow's own run and on its companion.

    Attributes
    ----------
    log_tau : ndarray, shape (k,)
        Logarithms of the slow times of the steps' ends.
    end : float
        lambda T_max, the slow time at which |delta| reaches the radius; with `end_error`.
    """

    constants: Constants
    log_tau: Floats
    own: Run
    companion: Run
    end: float
    end_error: float

    @cached_property
    def tau(self) -> Floats:
        """Slow times of the steps' ends; 0 where they leave the float range."""
        return np.exp(self.log_tau)

    @cached_property
    def certificate(self) -> float:
        """Bound on what the width of gamma's interval changes in a relative slack: gamma enters squared at most."""
        return 4.0 * self.constants.kernel.uncertainty

    def slack(self, *measures: Callable[[Run], Floats], extra: dict[str, float] | None = None) -> Measurement:
        """Return the step on which the inequalities turn: their slack there and its error."""
        pairs: list[tuple[float, float]] = []
        for measure in measures:
            own, other = measure(self.own), measure(self.companion)
            errors = np.maximum(np.abs(own - other), 1e-12)
            pairs += zip(own.tolist(), errors.tolist(), strict=True)
        slack, error = pairs[decisive([(value, error + self.certificate) for value, error in pairs])]
        found = {"steps": float(self.log_tau.size), "smallest slack": min(value for value, _ in pairs)}
        return Measurement(slack, 0.0, error, self.certificate, extra=found | (extra or {}))


class EarlyClaim(Claim):
    """What the lemmas about the time up to T_max share."""

    kind = "inequality"
    assumptions = (
        "homogeneous model (3.1)",
        "zero output at the start (3.2)",
        "separable NTK features (3.3)",
        "exponential loss",
        CLEAR_SUPPORT,
    )
    expansion = None
    ladders = LADDERS
    draws = {"quick": 1, "full": 20, "paper": 20}  # noqa: RUF012 - as in the base class

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets of degree 2, 3, 4, a factorisation, nets of two and three layers, and a convolution."""
        yield from diagonal_instances(rng, DIAGONAL)
        yield from classification_instances(rng, SMOOTH)

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Assumptions 3.1 to 3.3."""
        return assumption_tests(self, instance)

    def phase(self, instance: Instance, problem: Problem) -> EarlyPhase:
        """Return the flow up to T_max; read once for all claims of a run."""
        key = ("early phase", instance.key, problem.log_alpha)
        return self.tools.remember(key, lambda: _early_phase(self, instance, problem))


def constants_of(claim: Claim, instance: Instance, problem: Problem) -> Constants:
    """Return the constants of an instance at one scale."""
    kernel = kernel_predictor(claim, instance)
    model, X = instance.model, instance.data.X
    radius = feature_radius(model, kernel.theta_bar, X, kernel.margin)
    largest = float(np.linalg.norm(kernel.signed, axis=1).max())
    curvature = curvature_bound(model, kernel.theta_bar, X, radius)
    return Constants(problem, kernel, radius, largest + 0.5 * kernel.margin, curvature)


def _early_phase(claim: Claim, instance: Instance, problem: Problem) -> EarlyPhase:
    constants = constants_of(claim, instance, problem)
    trajectory = claim.flow(problem, 1.0)
    level = math.log(constants.radius / float(np.linalg.norm(problem.direction)))
    events = trajectory.crossings(Crossing("log_delta", level))
    if not events:
        raise ValueError(f"|delta| does not reach {constants.radius:.3g} up to s = 1")
    end = events[0].tau
    steps = trajectory.step_ends
    steps = steps[steps <= math.log(end)]
    snapshots = [trajectory.at(log_tau=float(step)) for step in steps]
    own, companion = (_read(constants, instance, shots) for shots in (snapshots, [shot.looser for shot in snapshots]))
    return EarlyPhase(constants, steps, own, companion, end, events[0].error)


def _read(constants: Constants, instance: Instance, snapshots: Sequence[Snapshot]) -> Run:
    rows = zip(*(_state(constants, instance, snapshot) for snapshot in snapshots), strict=True)
    loss, q, push, pull, g, along, h, delta = (np.array(row) for row in rows)
    return Run(constants, loss, q, push, pull, g, along, h, delta, np.array([shot.h[0] for shot in snapshots]))


def _state(constants: Constants, instance: Instance, snapshot: Snapshot) -> tuple[float, ...]:
    """Return the numbers of `Run` at one time."""
    problem, model, y = constants.problem, instance.model, instance.data.y
    unit, log_h = snapshot.h
    log_sigma = problem.log_alpha - math.exp(snapshot.log_tau)
    log_delta = log_h - model.degree * log_sigma
    q = y * snapshot.outputs()
    log_loss = float(np.logaddexp.reduce(-q)) - math.log(q.size)
    p = np.exp(-q - log_loss) / q.size
    g = (p * y) @ model.features(instance.data.X, constants.kernel.theta_bar + math.exp(log_delta) * unit)
    log_push = 2.0 * (model.degree - 1) * log_sigma - problem.log_weight_decay + log_loss
    unit_of_rates = max(log_push, 0.0)
    return (
        log_loss, float(p @ q), math.exp(log_push - unit_of_rates), math.exp(-unit_of_rates),
        float(np.linalg.norm(g)), float(g @ unit), math.exp(log_h), log_delta,
    )  # fmt: skip


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_NODES, _WEIGHTS = 0.5 * (1.0 + _NODES), 0.5 * _WEIGHTS  # on [0, 1]


def _log_curvature(constants: Constants, unit: Floats, log_size: float) -> float:
    """Return log max_i |int_0^1 (1 - s) f_i''(theta_bar + s delta) ds|: |q_i - <grad q_i, h>| over |delta| |h|.

    f_i'' is the second derivative along the unit vector of h. Four Gauss nodes are exact for polynomials in s of degree
    7, which is enough for the models here.
    """
    problem = constants.problem
    model, X = problem.model, problem.data.X
    total = np.zeros(problem.data.n)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        theta = constants.kernel.theta_bar + node * math.exp(log_size) * unit
        second = [float(model.hvp(theta, X, axis, unit) @ unit) for axis in np.eye(problem.data.n)]
        total += weight * (1.0 - node) * np.array(second)
    largest = float(np.abs(total).max())
    return math.log(largest) if largest > 0.0 else -math.inf
