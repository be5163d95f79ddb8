"""One step of the stabilised explicit method RKC2 for large states: increments in one type, the state in float64.

Sommeijer, Shampine and Verwer 1998. The recursion runs on increments Y_j - y, so that round-off is relative to the
step and not to the state; the local error is measured in the Euclidean norm of the whole state.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.ode._drive import factor, smallest_step
from theorykit.flow.tableaus import ChebyshevTableau, chebyshev

Array = NDArray[Any]
Floats = NDArray[np.float64]

_AGE = 25  # accepted steps for which a spectral radius is trusted
_SURE = 1.2  # what the estimate is multiplied with
_POWER_ITERATIONS = 50
_SETTLED = 0.02  # relative change of the radius at which the power iteration stops
_MOST_STAGES = 200
_STABLE = 0.98  # share of the stability limit that is used


class Velocity(NamedTuple):
    """dx/dclock in the working type, and the logarithm of the mean loss there."""

    of: Array
    log_loss: float


VelocityOf = Callable[[float, Floats], Velocity]


@dataclass(frozen=True, eq=False)
class Point:
    """Where a run is: everything its next step depends on.

    Attributes
    ----------
    clock : float
    x : ndarray of float64, shape (P,)
    velocity : Velocity
        At x.
    h : float
        The next step.
    error : float
        Of the last step, relative to the tolerance.
    radius : float
        Estimate of the spectral radius of the Jacobian, of `age` accepted steps ago.
    dominant : ndarray, shape (P,)
        The vector that the power iteration ended with.
    steps, rejected, gradients : int
        Accepted and rejected steps, evaluations of the velocity.
    drift : float
        Sum of the local errors of all steps, relative to the scale of the state at each.
    """

    clock: float
    x: Floats
    velocity: Velocity
    h: float
    error: float
    radius: float
    age: int
    dominant: Array
    steps: int
    rejected: int
    gradients: int
    drift: float


@dataclass(frozen=True)
class Stepper:
    """Takes steps of a velocity field.

    Attributes
    ----------
    velocity : callable
        (clock, x) -> Velocity.
    rtol : float
        The local error of a step is kept below rtol (unit + |x|), in Euclidean norms, with |theta| in place of the
        unit where that is smaller.
    unit : float
        A change of x of this norm matters, however small x is.
    length : callable
        (clock, x) -> the norm of the parameters, in proportion to which the power iteration moves them.
    """

    velocity: VelocityOf
    rtol: float
    unit: float
    length: Callable[[float, Floats], float]

    def start(self, clock: float, x: Floats) -> Point:
        """Return the point at which a run begins, with a first step that moves x by a hundredth of its unit."""
        velocity = self.velocity(clock, x)
        speed = _norm(velocity.of)
        h = 0.01 * self.unit / speed if speed > 0.0 else 1.0
        return Point(clock, x, velocity, h, 1.0, 0.0, 2 * _AGE, np.zeros_like(velocity.of), 0, 0, 1, 0.0)

    @np.errstate(all="ignore")  # a trial point that is too far off gives inf or nan, and the step is rejected
    def step(self, point: Point, clock_end: float) -> Point | None:
        """Return the point behind one accepted step, at most at `clock_end`; None where even tiny steps fail."""
        rejected = 0.0
        # what weight decay has made small is followed to digits of its own
        unit = min(self.unit, max(self.length(point.clock, point.x), 1e-250))
        while True:
            if point.age >= _AGE:
                point = self._with_radius(point)
            h, final = self._size(point, clock_end)
            if h < smallest_step(point.clock) or not math.isfinite(point.radius):
                return None
            clock = clock_end if final else point.clock + h
            stages = _stages(abs(h) * point.radius)
            increment = self._increment(point, h, chebyshev_of(stages))
            x = point.x + increment
            velocity = self.velocity(clock, x)
            point = replace(point, gradients=point.gradients + stages)
            error = 0.4 * h * (point.velocity.of + velocity.of) - 0.8 * increment
            size = _norm(error) / (unit + max(_norm(point.x), _norm(x)))
            relative = size / self.rtol
            if relative <= 1.0:
                break
            rejected, sound = 1.0, math.isfinite(relative)
            shrunk = h * (float(factor(relative, 1.0, rejected, 3)) if sound else 0.1)
            age = 2 * _AGE if point.age > 0 else 0  # perhaps it was the spectral radius
            point = replace(point, h=shrunk, age=age, rejected=point.rejected + 1)
        proposed = h * float(factor(relative, max(point.error, 1e-4), rejected, 3))
        return replace(
            point, clock=clock, x=x, velocity=velocity, h=max(proposed, point.h) if final else proposed,
            error=relative, age=self._aged(point, velocity, increment), steps=point.steps + 1, drift=point.drift + size,
        )  # fmt: skip

    def _size(self, point: Point, clock_end: float) -> tuple[float, bool]:
        """Return the step to try, and whether it is the last one."""
        h = point.h
        if point.radius > 0.0:
            h = min(h, _STABLE * chebyshev_of(_MOST_STAGES).stability / point.radius)
        final = h * 1.01 >= clock_end - point.clock
        return (clock_end - point.clock if final else h), final

    def _increment(self, point: Point, h: float, r: ChebyshevTableau) -> Array:
        """Return the change of x over a step."""
        first, kind = point.velocity.of, point.velocity.of.dtype.type
        before, now = np.zeros_like(first), kind(h * r.mu_tilde[1]) * first
        for j in range(2, r.mu.size):
            slope = self.velocity(point.clock + h * r.c[j - 1], point.x + now).of
            before *= kind(r.nu[j])
            before += kind(r.mu[j]) * now
            before += kind(h * r.mu_tilde[j]) * slope
            before += kind(h * r.gamma_tilde[j]) * first
            before, now = now, before
        return now

    def _aged(self, point: Point, velocity: Velocity, increment: Array) -> int:
        """Return the age of the radius; it is out of date where the step itself has seen a larger one."""
        seen = _norm(velocity.of - point.velocity.of) / max(_norm(increment), 1e-300)
        return point.age + 1 if seen <= point.radius else 2 * _AGE

    def _with_radius(self, point: Point) -> Point:
        """Return the point with a fresh spectral radius, by power iteration on differences of the velocity."""
        velocity, direction = point.velocity.of, point.dominant
        size = _norm(direction)
        if size == 0.0:  # a vector with a part in every direction
            direction = velocity + np.resize(np.arange(1.0, 8.0), velocity.size) * 1e-3 * np.abs(velocity).max()
            size = _norm(direction)
        if size == 0.0:
            return replace(point, radius=0.0, age=0)
        reach = math.sqrt(float(np.finfo(velocity.dtype).eps)) * max(self.length(point.clock, point.x), self.unit)
        radius, count = 0.0, 0
        for count in range(1, _POWER_ITERATIONS + 1):
            moved = point.x + (reach / size) * direction
            direction = self.velocity(point.clock, moved).of - velocity
            size = _norm(direction)
            old, radius = radius, size / reach
            if size == 0.0 or not math.isfinite(size) or (count > 1 and abs(radius - old) <= _SETTLED * radius):
                break
        dominant = direction.astype(velocity.dtype)
        return replace(point, radius=_SURE * radius, age=0, dominant=dominant, gradients=point.gradients + count)


@dataclass(frozen=True, eq=False)
class Step:
    """An accepted step: the cubic through both ends and their slopes."""

    before: Point
    after: Point

    @property
    def h(self) -> float:
        """Its width in the clock."""
        return self.after.clock - self.before.clock

    def at(self, fraction: float) -> Floats:
        """Return x at a fraction of the step."""
        if fraction >= 1.0:
            return self.after.x
        start, first, last = self.before.x, self.before.velocity.of, self.after.velocity.of
        change, h, z = self.after.x - start, self.h, fraction
        value: Floats = start + z * (h * first + z * (3.0 * change - h * (2.0 * first + last)))
        value += z**3 * (h * (first + last) - 2.0 * change)
        return value


@functools.cache
def chebyshev_of(stages: int) -> ChebyshevTableau:
    """Return the coefficients for a number of stages."""
    return chebyshev(stages)


def _stages(reach: float) -> int:
    """Return the smallest number of stages that is stable for h times the spectral radius."""
    stages = max(2, math.floor(math.sqrt(reach / (_STABLE * 0.66))))
    while _STABLE * chebyshev_of(stages).stability < reach:
        stages += 1
    return min(stages, _MOST_STAGES)


def _norm(x: Array) -> float:
    return float(np.linalg.norm(x))
