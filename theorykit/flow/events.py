"""Crossings of a statistic through a level, located inside the integrator's steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.roots import least_between, root_between
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite
from theorykit.flow.path import Floats, FlowPath
from theorykit.flow.problem import Problem

Located = tuple[float, float, int]
"""log tau, width of its bracket in log tau, direction."""

_INSIDE = 4  # looks inside every step, so that two crossings within one step are both seen
_ZOOM = 24  # parts into which a round of zooming in cuts an interval
_MANY = 10**8  # test points times features from which a look is dear: the save points are the grid, zoomed into once


@dataclass(frozen=True)
class Crossing:
    """What to look for: the times at which a statistic passes through a level.

    Parameters
    ----------
    statistic : str
        A key of `Trajectory.stats`.
    level : float
        The level.
    direction : {-1, 0, 1}
        Only downward, both, only upward crossings.

    Raises
    ------
    InputError
        The level is not finite or the direction is none of the three.

    Examples
    --------
    >>> Crossing("test_accuracy", 0.99, direction=1).level
    0.99
    """

    statistic: str
    level: float
    direction: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.statistic, str):
            raise InputError("statistic", repr(self.statistic), "the name of a statistic")
        finite("level", self.level)
        if self.direction not in (-1, 0, 1):
            raise InputError("direction", repr(self.direction), "-1 (falling), 0 (both) or 1 (rising)")


@dataclass(frozen=True)
class Event:
    """A crossing that happened.

    Attributes
    ----------
    name, level, direction
        The statistic, the level, and +1 (rising) or -1 (falling).
    tau, s, log_t : float
        When: slow time, s = tau/log(alpha) (nan where it is undefined), logarithm of the flow time.
    error : float
        Bound on the error of tau: width of the bracket plus the shift against the looser companion run.
    log_t_error : float
        The same for log t, which stays in the float range where t itself does not.
    """

    name: str
    level: float
    direction: int
    tau: float
    s: float
    log_t: float
    error: float
    log_t_error: float = math.inf


def check_events(path_names: list[str], events: tuple[Crossing, ...]) -> None:
    """Raise if an event watches a statistic that this problem does not have."""
    for event in events:
        if not isinstance(event, Crossing):
            raise InputError("events", type(event).__name__, "a list of Crossing objects")
        if event.statistic not in path_names:
            raise unknown_name("events", event.statistic, path_names)


@dataclass(frozen=True)
class Looks:
    """A statistic of a flow at the points between which crossings are looked for.

    Attributes
    ----------
    log_taus, values : ndarray, shape (k,)
    dear : bool
        Whether every further look counts.
    """

    path: FlowPath
    name: str
    log_taus: Floats
    values: Floats
    dear: bool

    def crossings(self, event: Crossing) -> list[Located]:
        """Return (log tau, width of its bracket in log tau, direction) of every crossing, in time order."""
        grid, values = self._with_turns(event)
        below = values < event.level
        found = []
        for i in np.flatnonzero(below[:-1] != below[1:]):
            direction = 1 if below[i] else -1
            if event.direction in (0, direction):
                width = (grid[i + 1] - grid[i]) / _ZOOM * 1.01 if self.dear else 1e-13 * max(1.0, abs(grid[i]))
                low, high = _zoom(self.path, event, grid[i], grid[i + 1], bool(below[i]), width)
                found.append((0.5 * (low + high), high - low, direction))
        return found

    def _with_turns(self, event: Crossing) -> tuple[Floats, Floats]:
        """Return the looks and those between them at which the statistic turns just beyond the level."""
        if self.dear:
            return self.log_taus, self.values
        turns = [self._turned(event, i) for i in _may_turn(self.log_taus, self.values - event.level)]
        extra = np.array([turn for turn in turns if turn is not None]).reshape(-1, 2)
        grid, order = np.unique(np.concatenate([self.log_taus, extra[:, 0]]), return_index=True)
        return grid, np.concatenate([self.values, extra[:, 1]])[order]

    def _turned(self, event: Crossing, index: int) -> tuple[float, float] | None:
        """Return where and at what value the statistic turns near a look, if that is beyond the level."""
        sign = 1.0 if self.values[index] > event.level else -1.0

        def value(log_tau: float) -> float:
            return float(self.path.statistics(np.array([log_tau]), [self.name])[self.name][0])

        low, high = self.log_taus[index - 1], self.log_taus[index + 1]
        turn = least_between(lambda log_tau: sign * value(log_tau), low, high, 1e-6 * (high - low))
        found = value(turn)
        return (turn, found) if sign * (found - event.level) < 0.0 else None


@np.errstate(all="ignore")
def _may_turn(x: Floats, gap: Floats) -> NDArray[np.intp]:
    """Return the looks nearest to the level where the parabola through it and its neighbours turns near the level."""
    left, middle, right = gap[:-2], gap[1:-1], gap[2:]
    h, k = x[1:-1] - x[:-2], x[2:] - x[1:-1]
    rise, later = (middle - left) / h, (right - middle) / k
    bend = (later - rise) / (h + k)
    slope = (rise * k + later * h) / (h + k)
    depth = slope**2 / (4.0 * np.abs(bend))  # from the middle look to the turn
    nearest = (np.abs(middle) <= np.abs(left)) & (np.abs(middle) <= np.abs(right))
    same = (np.sign(middle) == np.sign(left)) & (np.sign(middle) == np.sign(right)) & (middle * bend > 0.0)
    return np.flatnonzero(nearest & same & (np.abs(middle) <= 2.0 * depth)) + 1


def look(path: FlowPath, name: str, saved: Floats, stats: Mapping[str, Floats]) -> Looks:
    """Look at a statistic inside every step, and at the save points `saved` where `stats` holds it there."""
    data = path.problem.data
    dear = name.startswith("test_") and data.test is not None and data.test.n * data.d > _MANY
    grid = saved if dear else _grid(path, saved if name in stats else saved[:0], _INSIDE)
    values, known = np.empty_like(grid), np.isin(grid, saved if name in stats else [])
    if known.any():
        values[known] = stats[name][np.isin(saved, grid)]
    if not known.all():
        values[~known] = path.statistics(grid[~known], [name])[name]
    return Looks(path, name, grid, values, dear)


def _grid(path: FlowPath, extra: Floats, inside: int) -> Floats:
    ends = np.concatenate([[path.start], path.step_ends()])
    fractions = np.arange(inside) / inside
    points = (ends[:-1, None] + np.diff(ends)[:, None] * fractions).ravel()
    return np.unique(np.concatenate([points, ends[-1:], extra[(extra >= path.start) & (extra <= path.end)]]))


def _zoom(path: FlowPath, event: Crossing, low: float, high: float, below: bool, width: float) -> tuple[float, float]:
    """Narrow a bracket in log tau until it is `width` wide."""
    parts = _ZOOM if path.linear else 2  # with weights w many looks at once cost little more than one
    if not path.linear:
        low, high = _around_root(path, event, low, high, below, width)
    while high - low > width:
        points = np.linspace(low, high, parts + 1)
        if points[1] <= low or points[-2] >= high:
            break
        values = path.statistics(points[1:-1], [event.statistic])[event.statistic]
        first = np.flatnonzero((values < event.level) != below)
        index = int(first[0]) + 1 if first.size else parts
        low, high = float(points[index - 1]), float(points[index])
    return low, high


def _around_root(
    path: FlowPath, event: Crossing, low: float, high: float, below: bool, width: float
) -> tuple[float, float]:
    """Return a narrow bracket around the root that Brent's method finds, or the whole one where that is none."""

    def excess(log_tau: float) -> float:
        return float(path.statistics(np.array([log_tau]), [event.statistic])[event.statistic][0]) - event.level

    ends = excess(low), excess(high)
    if not (np.all(np.isfinite(ends)) and ends[0] * ends[1] < 0.0):
        return low, high
    root = root_between(excess, low, high, 0.25 * width)
    inner = max(low, root - 0.5 * width), min(high, root + 0.5 * width)
    crosses = (excess(inner[0]) < 0.0) == below and (excess(inner[1]) < 0.0) != below
    return inner if crosses else (low, high)


def find(
    path: FlowPath, companion: FlowPath, events: tuple[Crossing, ...], saved: Floats, stats: Mapping[str, Floats]
) -> tuple[Event, ...]:
    """Return all events in time order, each with its error; `stats` are those of `path` at the save points."""
    found = []
    with one_blas_thread(), ThreadPoolExecutor(2) as pool:  # both runs are read side by side
        for name in dict.fromkeys(event.statistic for event in events):
            own, other = pool.map(look, (path, companion), (name, name), (saved, saved), (stats, {}))
            for event in events:
                if event.statistic == name:
                    located = pool.map(Looks.crossings, (own, other), (event, event))
                    found += paired(path.problem, event, *located)
    return tuple(sorted(found, key=lambda event: event.log_t))


def paired(
    problem: Problem, event: Crossing, own: Sequence[Located], others: Sequence[Located] | None = None
) -> list[Event]:
    """Return the crossings as events; the error is the bracket plus the shift against the companion's crossing.

    It is infinite where the companion has no such crossing, or where there is none (None).
    """
    decaying = problem.log_weight_decay > -math.inf
    log_lambda = problem.log_weight_decay if decaying else 0.0
    has_s = decaying and problem.log_alpha > 0.0
    found = []
    for position, (log_tau, bracket, direction) in enumerate(own):
        tau = math.exp(log_tau) if log_tau < 709.0 else math.inf
        same = others is not None and position < len(others) and others[position][2] == direction
        log_shift = abs(others[position][0] - log_tau) if others is not None and same else math.inf
        shift = (
            math.expm1(others[position][0] - log_tau) if others is not None and same and log_shift < 700.0 else math.inf
        )
        s = tau / problem.log_alpha if has_s else math.nan
        error, log_error = tau * (bracket + abs(shift)), bracket + log_shift
        found.append(Event(event.statistic, event.level, direction, tau, s, log_tau - log_lambda, error, log_error))
    return found
