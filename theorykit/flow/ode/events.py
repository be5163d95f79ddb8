"""Zeros of functions of the solution, located on the dense output: also two within one step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.roots import root_between

if TYPE_CHECKING:
    from theorykit.flow.ode.methods import Record

_SAMPLES = 4  # intervals of a step at whose ends the function is looked at
_INWARD = 1e-3  # of a step: how far from its ends the direction of g is felt
_CLOSE = 0.25  # of the range seen in a step: nearer to zero than this, its extrema are looked for


@dataclass(frozen=True)
class Zero:
    """An event: g(t, y) passes through zero.

    Parameters
    ----------
    g : callable
        ``g(t, y) -> float``, y of shape (n,).
    name : str
        What the event is called; "event" by default.
    direction : {-1, 0, 1}
        Only falling, both, only rising zeros.
    terminal : bool
        Whether the integration ends there.

    Raises
    ------
    InputError
        g cannot be called, or the direction is none of the three.

    Examples
    --------
    >>> Zero(lambda t, y: y[0], "first entry", direction=1).terminal
    False
    """

    g: Callable[[float, NDArray[np.float64]], Any]
    name: str = "event"
    direction: int = 0
    terminal: bool = False

    def __post_init__(self) -> None:
        if not callable(self.g):
            raise InputError("events", repr(self.g), "a function g(t, y), or Zero(g, ...)")
        if self.direction not in (-1, 0, 1):
            raise InputError("direction", repr(self.direction), "-1 (falling), 0 (both) or 1 (rising)")


@dataclass(frozen=True, eq=False)
class Found:
    """An event that happened.

    Attributes
    ----------
    name : str
        That of the `Zero`.
    t, direction : float, int
        When, and +1 (rising) or -1 (falling).
    y : ndarray, shape (n,)
        The solution there.
    error : float
        Estimated error of t: width of the bracket plus the shift against the companion run; infinite when the
        companion does not see the event, nan without a companion.
    """

    name: str
    t: float
    direction: int
    y: NDArray[np.float64]
    error: float


class Watch:
    """Follows one event function through the recorded steps.

    A zero is a change of sign; a function that touches zero has none. The closest approach is kept, so that the reader
    sees how near a touch was.
    """

    def __init__(self, event: Zero, t: float, y: NDArray[np.float64]) -> None:
        self.event = event
        value = self._value(t, y)
        self.side = math.copysign(1.0, value) if value != 0.0 else 0.0
        self.closest, self.closest_t, self.last = abs(value), t, value

    def _value(self, t: float, y: NDArray[np.float64]) -> float:
        value = np.asarray(self.event.g(t, y))
        if value.size != 1 or value.dtype.kind not in "iufb":
            raise InputError("events", f"{self.event.name} = {value!r}", "a function g(t, y) that returns one number")
        return float(value.reshape(()))

    def _look(self, record: Record, index: int, t: float) -> float:
        value = self._value(t, record.at(index, t))
        if abs(value) < self.closest:
            self.closest, self.closest_t = abs(value), float(t)
        return value

    def zeros(self, record: Record, index: int) -> list[tuple[float, float, int]]:
        """Return (t, width of the bracket, direction) of the zeros in one step, in the order of travel."""
        t, h = float(record.t[index]), float(record.h[index])
        times = [t + h * k / _SAMPLES for k in range(_SAMPLES + 1)]
        values = [self.last] + [self._look(record, index, at) for at in times[1:]]
        self.last = values[-1]
        times, values = self._with_extrema(record, index, times, values)
        found = []
        for low, high, value in zip(times[:-1], times[1:], values[1:], strict=True):
            side = math.copysign(1.0, value) if value != 0.0 and not math.isnan(value) else self.side
            if self.side != 0.0 and side != self.side:
                zero, width = self._locate(record, index, low, high)
                if self.event.direction in (0, int(side)):
                    found.append((zero, width, int(side)))
            self.side = side
        return found

    def _with_extrema(
        self, record: Record, index: int, times: list[float], values: list[float]
    ) -> tuple[list[float], list[float]]:
        """Add the extrema that may lie on the other side of zero: two zeros within one interval hide there."""
        sizes = np.abs(values)
        if not np.all(np.isfinite(values)) or sizes.min() > _CLOSE * np.ptp(values):
            return times, values
        side = math.copysign(1.0, values[int(np.argmax(sizes))])
        heights = [side * value for value in values]
        extra = []
        for k in range(_SAMPLES + 1):
            low, high = max(0, k - 1), min(_SAMPLES, k + 1)
            if (
                heights[k] > 0.0
                and heights[k] == min(heights[low : high + 1])
                and self._turns(record, index, k, heights)
            ):
                extra.append(self._extremum(record, index, low / _SAMPLES, high / _SAMPLES, side))
        points = dict(zip(times, values, strict=True)) | dict(extra)
        ordered = sorted(points, reverse=bool(record.h[index] < 0.0))
        return ordered, [points[at] for at in ordered]

    def _turns(self, record: Record, index: int, k: int, heights: list[float]) -> bool:
        """Return whether the lowest sample is beside a lower extremum: always inside; at an end, if g falls inward."""
        if 0 < k < _SAMPLES:
            return True
        x = _INWARD if k == 0 else 1.0 - _INWARD
        inward = self._look(record, index, float(record.t[index] + x * record.h[index]))
        return abs(inward) < heights[k]

    def _extremum(self, record: Record, index: int, low: float, high: float, side: float) -> tuple[float, float]:
        """Return time and value of the extremum of g toward zero between two fractions of the step."""
        from scipy.optimize import minimize_scalar

        t, h = float(record.t[index]), float(record.h[index])
        result = minimize_scalar(
            lambda x: side * self._look(record, index, t + x * h), bounds=(low, high), method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        at = t + float(result.x) * h
        return at, self._look(record, index, at)

    def _locate(self, record: Record, index: int, low: float, high: float) -> tuple[float, float]:
        """Return the zero between two times of different signs and the width of its bracket."""
        held = [record]  # SciPy's wrapper refers to itself, and would keep the record until the next collection

        def value(t: float) -> float:
            return self._value(t, held[0].at(index, t))

        xtol = 4e-16 * max(abs(low), abs(high)) + 1e-300
        first, last = value(low), value(high)
        if first == 0.0 or last == 0.0 or (first < 0.0) == (last < 0.0):  # a sample on zero itself
            return (low if abs(first) <= abs(last) else high), xtol
        root = root_between(value, low, high, xtol)
        held.clear()
        return root, 2.0 * xtol + 2e-15 * abs(root)
