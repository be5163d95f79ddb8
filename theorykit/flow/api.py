"""`gradient_flow`: from a problem to a trajectory."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.serial import writable_file
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import choice, finite, integer, vector
from theorykit._version import __version__
from theorykit.flow.events import Crossing, check_events, find
from theorykit.flow.path import Floats, FlowPath
from theorykit.flow.problem import Problem
from theorykit.flow.trajectory import SIZES, Trajectory, unit_directions

STREAMED_FROM = 50_000
"""Parameters from which "auto" is the method for large nets."""

TIGHTEST, LOOSEST = 1e-12, 1e-2
_LOOSEST_STREAMED = 3e-2
_MARGIN_ERROR = 2e-3  # local error of an output margin


class Engine(Protocol):
    """A way to integrate a problem."""

    max_steps: int | None

    @property
    def names(self) -> list[str]:
        """The statistics that apply."""

    @property
    def settings(self) -> dict[str, Any]:
        """How it integrates, as plain numbers and words."""

    @property
    def large(self) -> bool:
        """Whether two runs side by side gain more than they disturb each other."""

    def keep(self, path: str | os.PathLike[str], every: float, what: Sequence[Any]) -> None:
        """Have the states of the runs kept in a file."""

    def run(self, log_tau_end: float, rtol: float, progress: Callable[[float], None] | None) -> FlowPath | None:
        """Integrate to tau_end = exp(log_tau_end); None where not even one step succeeds."""


@dataclass(frozen=True)
class SaveAt:
    """Where to save statistics.

    Parameters
    ----------
    num : int
        Number of points, at least 2.
    spacing : {"linear", "log", "loglog"}
        Evenly in tau (from tau_end/num on), evenly in log t from the first movement of the outputs, or evenly in
        log log t from t = e on, for flows without weight decay, where "linear" is "log".
    s, tau, log_t : array_like, optional
        The points themselves (then `num` and `spacing` do not count), at most one of the three; increasing, s and tau
        positive.

    Examples
    --------
    >>> SaveAt(num=100).num
    100
    """

    num: int = 400
    spacing: str = "linear"
    s: ArrayLike | None = None
    tau: ArrayLike | None = None
    log_t: ArrayLike | None = None

    def __post_init__(self) -> None:
        integer("num", self.num, minimum=2, maximum=10**7)
        if self.spacing not in ("linear", "log", "loglog"):
            raise InputError("spacing", repr(self.spacing), "'linear', 'log' or 'loglog'")
        given = [name for name in ("s", "tau", "log_t") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(given[0], f"both {' and '.join(given)}", "at most one of them")
        for name in given:
            wanted = "increasing times" if name == "log_t" else "increasing positive times"
            points = getattr(self, name)
            if isinstance(points, (str, bytes)):
                raise InputError(name, repr(points), wanted)
            values = vector(name, points)
            if values.size == 0 or np.any(np.diff(values) <= 0.0) or (name != "log_t" and values[0] <= 0.0):
                raise InputError(name, f"{values}", wanted)


@np.errstate(under="ignore")  # e^{-huge} is 0 to every digit, whatever the caller makes of underflow
def gradient_flow(
    problem: Problem,
    *,
    s_end: float | None = None,
    tau_end: float | None = None,
    log_t_end: float | None = None,
    rtol: float = 1e-8,
    method: str = "auto",
    save: SaveAt | None = None,
    events: Sequence[Crossing] = (),
    directions: Mapping[str, ArrayLike] | None = None,
    confirm: bool = False,
    dtype: str | None = None,
    companion: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 30.0,
    max_steps: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Simulate gradient flow exactly, to a stated error.

    The flow is d(theta)/dt = -grad(L + (lambda/2)|theta|^2), L the mean loss over samples, from theta(0) =
    alpha theta_bar. Diagonal nets are integrated in the dual reduction (see `theorykit.flow.reduction`) by Radau IIA of
    order 5, all other models in the kernel and rich frames (see `theorykit.flow.frames`) by the methods of
    `theorykit.flow.integrate`; both in log tau at first and in the frame in which nothing overflows. A companion run at
    ten times the tolerance (at most 0.1) gives the error estimate.

    Parameters
    ----------
    problem : Problem
    s_end, tau_end, log_t_end : float
        The end, exactly one of them: s = lambda t/log(alpha), tau = lambda t, or the logarithm of flow time t (the only
        one without weight decay).
    rtol : float
        Local error of a step, relative to 1 + |y| in the root mean square over the reduced state, whose unit moves the
        outputs by about one (for the squared loss of other models than diagonal nets: by the size of the targets).
        Between 1e-12 and 1e-2 (3e-2 for "streamed"). At huge log A = log(alpha^(2(L-1))/lambda) the frames take at most
        2e-3/log A for other losses than the squared one: margins grow to log A, and e^(-q) needs their digits.
    method : str
        "auto"; "dual", the reduction of diagonal nets, which is their "auto"; or one of the methods of `integrate` for
        the frames. There "auto" is "radau" with exact Jacobians up to 400 parameters; above it begins explicit and
        changes where the flow is stiff, with Jacobians of low rank for at most 64 outputs, else to "rkc2" or
        Newton-Krylov. "streamed", the choice from 50 000 parameters on, is for large nets at loose tolerances: "rkc2"
        with the local error in the Euclidean norm, relative to the displacement |theta - alpha e^(-tau) theta_bar|
        (where that is small, to one that moves the outputs by about 1), statistics and crossings read in passing, no
        dense output.
    save : SaveAt
        Where statistics are saved; 400 points evenly in tau by default.
    events : sequence of Crossing
        Crossings to be located inside steps.
    directions : dict of array_like, shape (d,)
        Predictors to compare with: statistic ``cos_NAME`` is the cosine between w and each. Only for models that are
        linear in x: `DiagonalNet` and `Linear`.
    confirm : bool
        Integrate once more at a tenth of `rtol`; the error estimate then is the distance to that run where it is
        larger.
    dtype : {"float32", "float64"}, optional
        Floating-point type of the gradients of a large net, float64 by default; the state itself is in float64.
        Giving it chooses the method for large nets, "streamed".
    companion : bool
        Whether the companion run is made ("streamed" only). Without it there are no error estimates, and the settings
        say so.
    checkpoint : path
        File for the state of the flow, about every `checkpoint_every` seconds. If it exists, the same call goes on
        from there, to the same bits.
    checkpoint_every : float
        Seconds.
    max_steps : int, optional
        Most accepted steps of a run, 400 000 by default ("streamed": a million).
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

    Notes
    -----
    Without weight decay the frames follow the clock of the loss once every sample is fitted (see
    `theorykit.flow.loss_clock`), so that log t = 10^4 is an ordinary end. With the squared loss at huge A the residual
    is slaved, also where the tangent kernel becomes singular (see `theorykit.flow.slaved`); `message` says from when on
    directions are below round-off, and the errors grow from there.

    ReLU nets and the like are followed across their kinks, and along those where the flow slides, by Filippov's rule
    (see `theorykit.flow.kinks`); `counts` has how many were met and `message` where it slid. For more than 5000 kinks
    (samples times units) they are counted only, and the error estimate stands for them.

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
    log_tau_end = log_end(problem, s_end, tau_end, log_t_end)
    method = method_of(problem, method, dtype)
    _check_streamed(method, companion, checkpoint, checkpoint_every)
    if confirm and not companion:
        raise InputError("confirm", "True with companion=False", "a companion, too: both measure the error")
    rtol = finite("rtol", rtol, minimum=TIGHTEST)
    loosest = _LOOSEST_STREAMED if method == "streamed" else LOOSEST
    if rtol > loosest:
        raise InputError("rtol", f"{rtol:g}", f"at most {loosest:g}")
    unit = unit_directions(directions, problem.data.d)
    save = save if save is not None else SaveAt()
    if not isinstance(save, SaveAt):
        raise InputError("save", repr(save), "a SaveAt, such as SaveAt(num=50)")
    if max_steps is not None:
        integer("max_steps", max_steps, minimum=1)
    if progress is not None and not callable(progress):
        raise InputError("progress", repr(progress), "a function of the fraction done")
    if not isinstance(events, Sequence):
        raise InputError("events", repr(events), "a list of Crossing, such as [Crossing('norm', 0.5)]")
    engine = _engine(problem, unit, "rkc2" if method == "streamed" else method)
    check_events(engine.names, tuple(events))
    # bad save points raise before the work
    log_taus_at_end = _save_points(problem, save, log_tau_end, log_tau_end - 1.0)
    if log_taus_at_end[-1] > log_tau_end + 1e-12:
        name = next(name for name in ("s", "tau", "log_t") if getattr(save, name) is not None)
        last = np.asarray(getattr(save, name))[-1]
        raise InputError("save", f"{name} = {last:g} past the end of the flow", "save points up to the end")
    if method != "streamed" and not _is_reduced(problem, method):
        rtol = min(rtol, loosest_in_frames(problem))
    tolerances = [rtol, min(10.0 * rtol, 0.1)] + ([max(0.1 * rtol, 1e-13)] if confirm else [])
    if method == "streamed":
        from theorykit.flow.large import Plan, stream

        plan = Plan(
            log_tau_end, tolerances if companion else tolerances[:1], dtype or "float64",
            functools.partial(_save_points, problem, save, log_tau_end), tuple(events), unit, checkpoint,
            checkpoint_every, progress, max_steps,
        )  # fmt: skip
        return stream(problem, plan)
    began, engine.max_steps = time.perf_counter(), max_steps
    if checkpoint is not None:
        what = [problem.settings, method, log_tau_end, tolerances, *([] if max_steps is None else [max_steps])]
        engine.keep(checkpoint, checkpoint_every, [*what, __version__])
    paths = _integrate_all(engine, log_tau_end, tolerances, progress)
    wall = time.perf_counter() - began
    path, other = paths[:2]
    log_taus = _save_points(problem, save, log_tau_end, path.start)
    last = next((p for p in paths if p.status != "reached_end"), path)  # errors are known as far as all runs come
    log_taus = log_taus[log_taus <= min(p.end for p in paths) + 1e-12]
    if log_taus.size == 0:
        log_taus = np.array([min(log_taus_at_end[0], path.end)])
    stats = path.statistics(log_taus)
    cheap = [name for name in stats if not name.startswith("test_")]
    tables = [looser.statistics(log_taus, cheap) for looser in paths[1:]]
    relative = rtol + path.slaving_errors(log_taus)
    errors = {
        name: _distance(stats[name], [table[name] for table in tables]) + _relative(name, stats[name], relative)
        for name in cheap
    }
    return Trajectory(
        *times_of(problem, log_taus), stats, errors, find(path, other, tuple(events), log_taus, stats),
        last.status, last.message, _settings(problem, engine, paths, rtol, confirm), _counts(paths), wall,
        log_taus, path, other,
    )  # fmt: skip


def method_of(problem: Problem, method: str, dtype: str | None) -> str:
    """Return the method, with that for large nets where it is asked for or "auto" stands for it."""
    if dtype is None:
        large = method == "auto" and not problem.reducible and problem.model.parameters >= STREAMED_FROM
        return "streamed" if large else method
    choice("dtype", dtype, ["float32", "float64"])
    if method not in ("auto", "streamed"):
        raise InputError("dtype", f"{dtype!r} with method={method!r}", "method='streamed', for large nets")
    return "streamed"


def _check_streamed(
    method: str, companion: bool, checkpoint: str | os.PathLike[str] | None, checkpoint_every: float
) -> None:
    """Check the arguments that only large nets have."""
    if not isinstance(companion, bool):
        raise InputError("companion", repr(companion), "True or False")
    finite("checkpoint_every", checkpoint_every, minimum=0.0)
    if not companion and method != "streamed":
        raise InputError("companion", f"it with method={method!r}", "method='streamed', for large nets")
    if checkpoint is not None:
        writable_file("checkpoint", checkpoint)


def _is_reduced(problem: Problem, method: str) -> bool:
    return method == "dual" or (method == "auto" and problem.reducible)


def loosest_in_frames(problem: Problem) -> float:
    """Return the tolerance at which local errors of margins, which grow to log A, are far below 1 in the companion."""
    if problem.loss == "squared" or problem.log_weight_decay == -math.inf:
        return math.inf
    return _MARGIN_ERROR / max(1.0, problem.log_A)


def _engine(problem: Problem, directions: Mapping[str, Floats], method: str) -> Engine:
    """Return the reduction of a diagonal net, or the frames; each loads without the other."""
    if method == "dual" and not problem.reducible:
        raise InputError("method", "'dual'", "'auto': only diagonal nets on samples of equal weight have the reduction")
    if _is_reduced(problem, method):
        from theorykit.flow.evaluate import DualEngine

        return DualEngine(problem, directions)
    from theorykit.flow.model_path import ModelEngine

    return ModelEngine(problem, directions, method)


def log_end(problem: Problem, s_end: float | None, tau_end: float | None, log_t_end: float | None) -> float:
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
        if problem.log_weight_decay == -math.inf:
            raise InputError(
                "save", "tau = ... with weight_decay = 0", "log_t = ..., since slow time needs weight decay"
            )
        return np.log(np.asarray(save.tau, dtype=np.float64))
    log_lambda = problem.log_weight_decay if problem.log_weight_decay > -math.inf else 0.0
    if save.log_t is not None:
        return np.asarray(save.log_t, dtype=np.float64) + log_lambda
    if save.spacing == "loglog":
        if problem.log_weight_decay > -math.inf or log_tau_end <= 1.0:
            raise InputError("spacing", "'loglog' with weight decay or log_t_end <= 1", "'linear' or 'log'")
        return np.geomspace(1.0, log_tau_end, save.num)
    if save.spacing == "log" or problem.log_weight_decay == -math.inf:
        return np.linspace(start, log_tau_end, save.num)
    return log_tau_end + np.log(np.arange(1, save.num + 1) / save.num)


def times_of(problem: Problem, log_taus: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return tau, s, t, log t."""
    nan = np.full_like(log_taus, math.nan)
    decaying = problem.log_weight_decay > -math.inf
    log_t = log_taus - problem.log_weight_decay if decaying else log_taus.copy()
    tau = np.exp(log_taus) if decaying else nan
    with np.errstate(over="ignore"):
        s = tau / problem.log_alpha if problem.log_alpha > 0.0 else nan
        return tau, s, np.exp(log_t), log_t


def _distance(values: Floats, others: list[Floats]) -> Floats:
    """Return the largest distance to the other runs at each time and its neighbours."""
    with np.errstate(invalid="ignore"):
        gaps = [np.where(values == other, 0.0, np.abs(values - other)) for other in others]
    gap = np.max(gaps, axis=0)
    wide = gap.copy()
    wide[1:] = np.maximum(wide[1:], gap[:-1])
    wide[:-1] = np.maximum(wide[:-1], gap[1:])
    return wide


def _relative(name: str, values: Floats, relative: Floats) -> Floats:
    """Return what a relative error of the parameters does: in proportion to sizes, and to at least 1 for the others."""
    sizes = np.abs(values) if name in SIZES else np.maximum(np.abs(values), 1.0)
    return relative * np.where(np.isfinite(sizes), sizes, 0.0)


def _settings(problem: Problem, engine: Engine, paths: list[FlowPath], rtol: float, confirm: bool) -> dict[str, Any]:
    return (
        problem.settings
        | engine.settings
        | {
            "rtol": rtol,
            "companion_rtol": paths[1].rtol,
            "confirmed": confirm,
            "slaving_error": paths[0].slaving_error,
            "versions": versions(),
        }
    )


def versions() -> dict[str, str]:
    """Return the versions of what the numbers come from."""
    import numba
    import scipy

    modules = {"numpy": np, "scipy": scipy, "numba": numba}
    return {"theorykit": __version__} | {name: module.__version__ for name, module in modules.items()}


def _counts(paths: list[FlowPath]) -> dict[str, Any]:
    return {"run": paths[0].counts, "companion": paths[1].counts, "statuses": [path.status for path in paths]}


def _integrate_all(
    engine: Engine,
    log_tau_end: float,
    tolerances: list[float],
    progress: Callable[[float], None] | None,
) -> list[FlowPath]:
    """Integrate once for each tolerance: side by side where the data are large, each run on one thread in any case.

    One thread a run keeps the numbers the same whatever else the machine does, and small linear algebra is faster so.
    """
    shares = _Shares(progress, len(tolerances))
    with one_blas_thread():
        if engine.large:
            with ThreadPoolExecutor(len(tolerances)) as pool:
                jobs = [pool.submit(engine.run, log_tau_end, rtol, shares.next()) for rtol in tolerances]
                try:
                    wait(jobs, return_when=FIRST_EXCEPTION)  # whichever fails first, not the first in the list
                    failures = [job.exception() for job in jobs if job.done()]
                    shares.failure = next((failure for failure in failures if failure is not None), None)
                except BaseException as failure:  # an interrupt of this thread: the runs end at their next step
                    shares.failure = failure
                    raise
                paths = [job.result() for job in jobs]
        else:
            paths = [engine.run(log_tau_end, rtol, shares.next()) for rtol in tolerances]
    if any(path is None for path in paths):
        raise InputError(
            "problem",
            "a flow whose first step fails",
            "moderate data, a smaller |log_alpha|, or a start with zero output",
        )
    return [path for path in paths if path is not None]


class _Shares:
    """Join the progress of several runs into one fraction, and end them where one of them has failed."""

    def __init__(self, progress: Callable[[float], None] | None, runs: int) -> None:
        self.progress, self.done = progress, [0.0] * runs
        self.failure: BaseException | None = None
        self.runs, self.lock = iter(range(runs)), Lock()

    def next(self) -> Callable[[float], None]:
        """Return the callback of the next run."""
        index = next(self.runs)

        def report(fraction: float) -> None:
            with self.lock:  # once one callback has raised, no other is called
                if self.failure is not None:
                    raise self.failure
                self.done[index] = fraction
                try:
                    if self.progress is not None:
                        self.progress(sum(self.done) / len(self.done))
                except BaseException as failure:
                    self.failure = failure
                    raise

        return report
