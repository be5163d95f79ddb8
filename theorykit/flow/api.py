"""`gradient_flow`: from a problem to a trajectory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, integer, vector
from theorykit._version import __version__
from theorykit.flow.evaluate import Floats, Path, statistic_names, statistics
from theorykit.flow.events import Crossing, check_events, find
from theorykit.flow.problem import Problem
from theorykit.flow.reduction import SLAVING_ERROR, Integration, Reduction, Status, integrate, reduce
from theorykit.flow.trajectory import _ADVICE, ROUND_OFF, Trajectory, unit_directions

_TIGHTEST, _LOOSEST = 1e-12, 1e-2
_LARGE = 2**20  # entries of X from which two runs side by side gain more than they disturb each other


@dataclass(frozen=True)
class SaveAt:
    """Where to save statistics.

    Parameters
    ----------
    num : int
        Number of points, at least 2.
    spacing : {"linear", "log"}
        Evenly in tau (from tau_end/num on), or evenly in log t from the first movement of the outputs.
    s, tau : array_like, optional
        The points themselves (then `num` and `spacing` do not count); increasing and positive.

    Examples
    --------
    >>> SaveAt(num=100).num
    100
    """

    num: int = 400
    spacing: str = "linear"
    s: ArrayLike | None = None
    tau: ArrayLike | None = None

    def __post_init__(self) -> None:
        integer("num", self.num, minimum=2, maximum=10**7)
        if self.spacing not in ("linear", "log"):
            raise InputError("spacing", repr(self.spacing), "'linear' or 'log'")
        if self.s is not None and self.tau is not None:
            raise InputError("s", "both s and tau", "at most one of them")
        for name in ("s", "tau"):
            points = getattr(self, name)
            if points is not None:
                if isinstance(points, (str, bytes)):
                    raise InputError(name, repr(points), "increasing positive times")
                values = vector(name, points)
                if values.size == 0 or values[0] <= 0.0 or np.any(np.diff(values) <= 0.0):
                    raise InputError(name, f"{values}", "increasing positive times")


@np.errstate(under="ignore")  # e^{-huge} is 0 to every digit, whatever the caller makes of underflow
def gradient_flow(
    problem: Problem,
    *,
    s_end: float | None = None,
    tau_end: float | None = None,
    log_t_end: float | None = None,
    rtol: float = 1e-8,
    save: SaveAt | None = None,
    events: Sequence[Crossing] = (),
    directions: Mapping[str, ArrayLike] | None = None,
    confirm: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Simulate gradient flow exactly, to a stated error.

    The flow is d(theta)/dt = -grad(L + (lambda/2)|theta|^2), L the mean loss over samples, from theta(0) =
    alpha theta_bar. It is integrated in the dual reduction (see `theorykit.flow.reduction`), in log tau at first and in
    the frame in which nothing overflows, by Radau IIA of order 5; a companion run at ten times the tolerance gives the
    error estimate.

    Parameters
    ----------
    problem : Problem
    s_end, tau_end, log_t_end : float
        The end, exactly one of them: s = lambda t/log(alpha), tau = lambda t, or the logarithm of flow time t (the only
        one without weight decay).
    rtol : float
        Local error of a step, relative to 1 + |y| in the root mean square over the reduced state, whose unit moves the
        outputs by about one. Between 1e-12 and 1e-2.
    save : SaveAt
        Where statistics are saved; 400 points evenly in tau by default.
    events : sequence of Crossing
        Crossings to be located inside steps.
    directions : dict of array_like, shape (d,)
        Predictors to compare with: statistic ``cos_NAME`` is the cosine between w and each.
    confirm : bool
        Integrate once more at a tenth of `rtol`; the error estimate then is the distance to that run where it is
        larger.
    progress : callable
        Called with the fraction done, in [0, 1].

    Returns
    -------
    Trajectory
        Numerical trouble does not raise: the partial trajectory comes back with `status` and `message`.

    Raises
    ------
    InputError
        An argument is unusable (before any work).

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, sections 2 and 3.

    Examples
    --------
    >>> import theorykit as tk
    >>> data = tk.datasets.sparse_sign(n=8, d=40, k=3, n_test=100, seed=0)
    >>> net = tk.models.DiagonalNet(d=40, degree=2)
    >>> problem = tk.Problem(net, data, loss="logistic", log_alpha=230.0, log_weight_decay=-230.0)
    >>> trajectory = tk.gradient_flow(problem, s_end=1.5)
    >>> trajectory.status
    'reached_end'
    """
    if not isinstance(problem, Problem):
        raise InputError("problem", type(problem).__name__, "a Problem")
    log_tau_end = _end(problem, s_end, tau_end, log_t_end)
    rtol = finite("rtol", rtol, minimum=_TIGHTEST)
    if rtol > _LOOSEST:
        raise InputError("rtol", f"{rtol:g}", f"at most {_LOOSEST:g}")
    unit = unit_directions(directions, problem.data.d)
    save = save if save is not None else SaveAt()
    if not isinstance(save, SaveAt):
        raise InputError("save", repr(save), "a SaveAt, such as SaveAt(num=50)")
    if progress is not None and not callable(progress):
        raise InputError("progress", repr(progress), "a function of the fraction done")
    if not isinstance(events, Sequence):
        raise InputError("events", repr(events), "a list of Crossing, such as [Crossing('norm', 0.5)]")
    reduction = reduce(problem)
    check_events(statistic_names(reduction, unit), tuple(events))
    # bad save points raise before the work
    log_taus_at_end = _save_points(problem, save, log_tau_end, log_tau_end - 1.0)
    if log_taus_at_end[-1] > log_tau_end + 1e-12:
        name = "s" if save.s is not None else "tau"
        last = np.asarray(getattr(save, name))[-1]
        raise InputError("save", f"{name} = {last:g} past the end of the flow", "save points up to the end")
    tolerances = [rtol, min(10.0 * rtol, 0.1)] + ([max(0.1 * rtol, 1e-13)] if confirm else [])
    began = time.perf_counter()
    runs = _integrate_all(reduction, log_tau_end, tolerances, progress)
    wall = time.perf_counter() - began
    paths = [Path(reduction, run, unit) for run in runs if run.segments]
    if len(paths) < len(runs):
        raise InputError(
            "problem", "a flow whose first step fails", "finite data of moderate scale: see Problem.settings"
        )
    path = paths[0]
    log_taus = _save_points(problem, save, log_tau_end, path.start)
    log_taus = log_taus[log_taus <= min(p.end for p in paths) + 1e-12]
    if log_taus.size == 0:
        log_taus = np.array([min(log_taus_at_end[0], path.end)])
    stats = statistics(path, log_taus)
    cheap = [name for name in stats if not name.startswith("test_")]
    others = [statistics(other, log_taus, cheap) for other in paths[1:]]
    errors = {name: _distance(stats[name], [other[name] for other in others]) for name in cheap}
    status = runs[0].status
    return Trajectory(
        *_times(problem, log_taus), stats, errors, find(path, paths[1], tuple(events), log_taus, stats),
        status.name.lower(), _ADVICE[status], _settings(problem, reduction, runs, rtol, confirm), _counts(runs),
        wall, log_taus, path, paths[1],
    )  # fmt: skip


def _end(problem: Problem, s_end: float | None, tau_end: float | None, log_t_end: float | None) -> float:
    """Return log(tau_end); without weight decay the clock is t itself."""
    ends = {"s_end": s_end, "tau_end": tau_end, "log_t_end": log_t_end}
    given = [name for name, value in ends.items() if value is not None]
    if len(given) != 1:
        raise InputError("s_end", " and ".join(given) or "no end", "exactly one of s_end=, tau_end=, log_t_end=")
    log_lambda = problem.log_weight_decay
    if log_t_end is not None:
        return finite("log_t_end", log_t_end) + (log_lambda if log_lambda > -math.inf else 0.0)
    if log_lambda == -math.inf:
        raise InputError(given[0], "weight_decay = 0", "log_t_end=..., since slow time needs weight decay")
    if s_end is not None:
        return math.log(problem.tau_at(finite("s_end", s_end, above=0.0)))
    return math.log(finite("tau_end", tau_end, above=0.0))


def _save_points(problem: Problem, save: SaveAt, log_tau_end: float, start: float) -> Floats:
    if save.s is not None:
        return np.log([problem.tau_at(float(s)) for s in np.asarray(save.s)])
    if save.tau is not None:
        return np.log(np.asarray(save.tau, dtype=np.float64))
    if save.spacing == "log" or problem.log_weight_decay == -math.inf:
        return np.linspace(start, log_tau_end, save.num)
    return log_tau_end + np.log(np.arange(1, save.num + 1) / save.num)


def _times(problem: Problem, log_taus: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return tau, s, t, log t."""
    nan = np.full_like(log_taus, math.nan)
    decaying = problem.log_weight_decay > -math.inf
    log_t = log_taus - problem.log_weight_decay if decaying else log_taus.copy()
    tau = np.exp(log_taus) if decaying else nan
    with np.errstate(over="ignore"):
        s = tau / problem.log_alpha if problem.log_alpha > 0.0 else nan
        return tau, s, np.exp(log_t), log_t


def _distance(values: Floats, others: list[Floats]) -> Floats:
    with np.errstate(invalid="ignore"):
        gaps = [np.where(values == other, 0.0, np.abs(values - other)) for other in others]
    return np.maximum(np.max(gaps, axis=0), ROUND_OFF * np.abs(values))


def _settings(
    problem: Problem, reduction: Reduction, runs: list[Integration], rtol: float, confirm: bool
) -> dict[str, Any]:
    import numba
    import scipy

    slaved = any(segment.slaved for segment in runs[0].segments)
    return problem.settings | {
        "method": "Radau IIA, order 5, dual reduction",
        "state": "span" if reduction.span else "samples",
        "dimension": reduction.dimension,
        "rtol": rtol,
        "companion_rtol": runs[1].rtol,
        "confirmed": confirm,
        "slaving_error": SLAVING_ERROR if slaved else 0.0,
        "versions": {
            "theorykit": __version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
        },
    }


def _counts(runs: list[Integration]) -> dict[str, Any]:
    return {
        "run": runs[0].counts,
        "companion": runs[1].counts,
        "statuses": [Status(run.status).name.lower() for run in runs],
    }


def _integrate_all(
    reduction: Reduction, log_tau_end: float, tolerances: list[float], progress: Callable[[float], None] | None
) -> list[Integration]:
    """Integrate once for each tolerance: side by side where the data are large, each run on one thread in any case.

    One thread a run keeps the numbers the same whatever else the machine does, and small linear algebra is faster so.
    """
    shares = _Shares(progress, len(tolerances))
    with one_blas_thread():
        if reduction.problem.data.X.size < _LARGE:
            return [integrate(reduction, log_tau_end, rtol, shares.next()) for rtol in tolerances]
        with ThreadPoolExecutor(len(tolerances)) as pool:
            jobs = [pool.submit(integrate, reduction, log_tau_end, rtol, shares.next()) for rtol in tolerances]
            return [job.result() for job in jobs]


class _Shares:
    """Join the progress of several runs into one fraction."""

    def __init__(self, progress: Callable[[float], None] | None, runs: int) -> None:
        self.progress, self.done = progress, [0.0] * runs
        self.runs = iter(range(runs))

    def next(self) -> Callable[[float], None] | None:
        """Return the callback of the next run."""
        if self.progress is None:
            return None
        progress, index = self.progress, next(self.runs)

        def report(fraction: float) -> None:
            self.done[index] = fraction
            progress(sum(self.done) / len(self.done))

        return report
