"""The result of an integration: states, statistics, events, and how far they can be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import FlowError, InputError

if TYPE_CHECKING:
    from theorykit.flow.ode.events import Found
    from theorykit.flow.ode.methods import Record

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of dy/dt = f(t, y).

    Attributes
    ----------
    t, stats, errors : ndarray of shape (k,), dicts of ndarray of shape (k, ...)
        Times of the statistics, the statistics, and their estimated global errors.
    states_t, y, y_error : ndarray, shapes (m,), (m, n), (m,)
        Times of the saved states, the states, and their estimated global errors in the maximum norm.
    t_end, y_end : float, ndarray of shape (n,)
        Where the integration ended.
    events : tuple of Found
        In the order of travel.
    closest : dict
        For each event function its smallest |g| seen and when: how near it came to zero where it never crossed.
    status, message : str
        "reached_end", "event", "stopped", or the trouble it ended in; what it means and what to do about it.
    method : str
        The method at the end.
    switches : tuple of Switch
        The methods used: from when on, and why.
    counts : dict
        Steps, rejected steps, evaluations and so on of this run and, prefixed ``companion_``, of the companion.
    settings : dict
        Tolerances, span, versions.
    confirmed : dict or None
        With ``confirm=True``: the tolerance of the tighter run, and its largest distance from this one in the states
        and in each statistic.
    wall_s : float
        Seconds in the integrations, without compilation.

    Notes
    -----
    Errors are distances to a companion run at ten times the tolerance, the largest of a save time and its neighbours,
    plus the local tolerance there. The companion's error is about ten times larger than that of this run, so that the
    estimate is on the large side; it is no proof. Without a companion it is nan, past its end infinite.
    """

    t: Array = field(repr=False)
    stats: dict[str, Array] = field(repr=False)
    errors: dict[str, Array] = field(repr=False)
    states_t: Array = field(repr=False)
    y: Array = field(repr=False)
    y_error: Array = field(repr=False)
    t_end: float
    y_end: Array = field(repr=False)
    events: tuple[Found, ...] = field(repr=False)
    closest: dict[str, tuple[float, float]] = field(repr=False)
    status: str
    message: str
    method: str
    switches: tuple[Any, ...] = field(repr=False)
    counts: dict[str, int] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    confirmed: dict[str, Any] | None = field(repr=False)
    wall_s: float
    _path: tuple[Record, ...] = field(repr=False, default=())

    def raise_for_status(self) -> Solution:
        """Return self, or raise `FlowError` when the integration ended in trouble."""
        if self.status not in ("reached_end", "event", "stopped"):
            raise FlowError(f"the integration ended at t = {self.t_end:g}: {self.message}")
        return self

    def at(self, t: ArrayLike) -> Array:
        """Return the dense output, shape (n,) at one time or (k, n) at k times.

        Raises
        ------
        InputError
            The integration was run without ``dense=True``, or a time lies outside.
        """
        if not self._path:
            raise InputError("t", "a solution without dense output", "integrate(..., dense=True)")
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        values = np.array([self._at(float(time)) for time in times])
        return values[0] if np.ndim(t) == 0 else values

    def _at(self, t: float) -> Array:
        start = float(self._path[0].t[0])
        low, high = min(start, self.t_end), max(start, self.t_end)
        if not low <= t <= high:
            raise InputError("t", f"{t:g}", f"a time between {low:g} and {high:g}")
        direction = 1.0 if self.t_end >= start else -1.0
        starts = np.array([float(record.t[0]) for record in self._path]) * direction
        record = self._path[max(0, int(np.searchsorted(starts, t * direction, side="right")) - 1)]
        index = max(0, int(np.searchsorted(record.t * direction, t * direction, side="right")) - 1)
        return record.at(index, t)
