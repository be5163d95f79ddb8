"""Families of gradient flows over initial scale and weight decay, and when the transition comes in each."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.serial import plain, replacing
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, integer, path, vector
from theorykit._numerics.workers import side_by_side
from theorykit._version import __version__
from theorykit.flow.api import SaveAt, gradient_flow
from theorykit.flow.events import Crossing
from theorykit.flow.problem import Problem
from theorykit.flow.trajectory import Trajectory, unit_directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_POINTS = 100  # save points of each flow; the event is located on the dense output and does not depend on them


@dataclass(frozen=True, eq=False)
class Sweep:
    """When the transition came, over a family of flows: entry m of every array belongs to flow m.

    Attributes
    ----------
    log_alpha, log_weight_decay : ndarray, shape (M,)
        Logarithms of the initial scale and of lambda.
    tau, s : ndarray, shape (M,)
        Slow time lambda t* of the first crossing, and s* = tau/log(alpha); nan where there was none.
    error : ndarray, shape (M,)
        Bound on the error of tau, as in `Event`; nan where there was no crossing.
    status : tuple of str
        Why each flow ended, as in `Trajectory`.
    wall_s : ndarray, shape (M,)
        Seconds each flow took when it was computed.
    reused : int
        How many flows came from files.
    event : Crossing
        What was looked for.
    settings : dict
        Problem, end, tolerance, versions.
    """

    log_alpha: Floats = field(repr=False)
    log_weight_decay: Floats = field(repr=False)
    tau: Floats
    s: Floats = field(repr=False)
    error: Floats = field(repr=False)
    status: tuple[str, ...]
    wall_s: Floats = field(repr=False)
    reused: int
    event: Crossing
    settings: dict[str, Any] = field(repr=False)

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """The table, by column: one row for each flow."""
        names = ("log_alpha", "log_weight_decay", "tau", "s", "error", "status", "wall_s")
        return {name: getattr(self, name) for name in names}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table; empty where a number is not finite."""
        with replacing("path", path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for row in zip(*self.columns.values(), strict=True):
                writer.writerow([x if isinstance(x, str) else f"{x:.17g}" if math.isfinite(x) else "" for x in row])

    def plot(self) -> Figure:
        """Return a figure of lambda t* against log(alpha) (dashed: lambda t = log(alpha)) and against log(lambda)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _curves(left, self.log_alpha, self.log_weight_decay, self, "log λ")
        _curves(right, self.log_weight_decay, self.log_alpha, self, "log α")
        ends = np.array([self.log_alpha.min(), self.log_alpha.max()])
        left.plot(ends, ends, color="0.6", linestyle="--", label="λt = log α")
        left.set_xlabel("log α")
        left.set_ylabel(f"λt* ({self.event.statistic} = {self.event.level:.3g})")
        right.set_xlabel("log λ")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.locator_params(axis="x", nbins=6)
        left.legend(frameon=False)
        return figure


def sweep(
    problem: Problem,
    *,
    log_alpha: ArrayLike,
    log_weight_decay: ArrayLike | Callable[[float], float] | None = None,
    s_end: float = 1.5,
    event: Crossing | None = None,
    directions: Mapping[str, ArrayLike] | None = None,
    rtol: float = 1e-8,
    jobs: int = 1,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Sweep:
    """Run gradient flow from every initial scale with every weight decay, and find when the transition comes.

    Parameters
    ----------
    problem : Problem
        Model, data, loss and initial direction; its own scales do not count where others are given.
    log_alpha : array_like
        Logarithms of the initial scales, positive.
    log_weight_decay : array_like or callable, optional
        Logarithms of lambda, each of which goes with every alpha; or log(lambda) as a function of log(alpha), such as
        ``lambda a: -a`` for lambda = 1/alpha. By default that of the problem.
    s_end : float
        Where each flow ends, in s = lambda t/log(alpha).
    event : Crossing
        What counts as the transition; its first crossing does. With directions "kernel" and "rich" it is, by default,
        where the predictor is as near to the one as to the other (``transition`` = 1/2), else where theta has left its
        start by half, |delta| = |theta_bar|/2.
    directions : dict of array_like, shape (d,)
        Predictors, as for `gradient_flow`.
    rtol : float
        Tolerance of the flows.
    jobs : int
        Processes; the numbers do not depend on it.
    folder : path
        Every finished flow is saved there as a `Trajectory` file, and read instead of computed when the same is wanted
        again: a sweep that was interrupted loses only the flows under way.
    progress : callable
        Called with the fraction done, in [0, 1].

    Returns
    -------
    Sweep
        Numerical trouble does not raise: it is in `status`.

    Raises
    ------
    InputError
        An argument is unusable.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817: the transition at lambda t = log(alpha) (1 + o(1)).

    Examples
    --------
    >>> import theorykit as tk
    >>> data = tk.datasets.sparse_sign(n=6, d=12, k=3, seed=0)
    >>> problem = tk.Problem(tk.models.DiagonalNet(d=12), data, loss="exponential", alpha=10.0, weight_decay=1e-3)
    >>> family = tk.sweep(problem, log_alpha=[20.0, 40.0], log_weight_decay=lambda a: -a)
    >>> family.s.round(2).tolist(), set(family.status)
    ([0.99, 0.99], {'reached_end'})
    """
    scales = _scales(problem, log_alpha, log_weight_decay)
    jobs = integer("jobs", jobs, minimum=1)
    unit = unit_directions(directions, problem.data.d)
    event = _default_event(unit) if event is None else event
    if not isinstance(event, Crossing):
        raise InputError("event", repr(event), "a Crossing, such as Crossing('test_accuracy', 0.99)")
    if progress is not None and not callable(progress):
        raise InputError("progress", repr(progress), "a function of the fraction done")
    task = _Task(problem, finite("s_end", s_end, above=0.0), event, unit, finite("rtol", rtol), _existing(folder))
    rows: list[_Row] = []
    for row in _run_all(task, scales, jobs):
        rows.append(row)
        if progress is not None:
            progress(len(rows) / len(scales))
    return _collect(task, scales, rows)


class _Task(NamedTuple):
    """What all flows of a sweep share."""

    problem: Problem
    s_end: float
    event: Crossing
    directions: dict[str, Floats]
    rtol: float
    folder: Path | None


class _Row(NamedTuple):
    """One flow, as the table has it."""

    tau: float
    s: float
    error: float
    status: str
    wall_s: float
    reused: bool


def _scales(
    problem: Problem, log_alpha: ArrayLike, log_weight_decay: ArrayLike | Callable[[float], float] | None
) -> list[tuple[float, float]]:
    """Return (log alpha, log lambda) of every flow."""
    if not isinstance(problem, Problem):
        raise InputError("problem", type(problem).__name__, "a Problem")
    alphas = vector("log_alpha", log_alpha)
    if alphas.size == 0 or np.any(alphas <= 0.0):
        raise InputError("log_alpha", f"{alphas}", "positive logarithms of initial scales, since s needs alpha > 1")
    if callable(log_weight_decay):
        return [(float(a), finite("log_weight_decay", log_weight_decay(float(a)))) for a in alphas]
    given = [problem.log_weight_decay] if log_weight_decay is None else log_weight_decay
    if log_weight_decay is None and problem.log_weight_decay == -math.inf:
        raise InputError("log_weight_decay", "a problem with weight_decay = 0", "logarithms of weight decays")
    decays = vector("log_weight_decay", given)
    if decays.size == 0:
        raise InputError("log_weight_decay", "none", "at least one logarithm of a weight decay")
    return [(float(a), float(decay)) for a in alphas for decay in decays]


def _default_event(directions: Mapping[str, Floats]) -> Crossing:
    if {"kernel", "rich"} <= set(directions):
        return Crossing("transition", 0.5, direction=1)
    return Crossing("log_delta", math.log(0.5), direction=1)


def _existing(folder: str | os.PathLike[str] | None) -> Path | None:
    if folder is None:
        return None
    folder = path("folder", folder, "a folder that can be written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError("folder", f"{folder} ({problem.strerror})", "a folder that can be written") from None
    return folder


def _run_all(task: _Task, scales: list[tuple[float, float]], jobs: int) -> Iterator[_Row]:
    """Yield the rows in order, each as soon as it and those before it are there."""
    if jobs == 1 or len(scales) == 1:
        yield from (_run(task, *scale) for scale in scales)
        return
    yield from side_by_side(_run, [(task, *scale) for scale in scales], jobs)


def _run(task: _Task, log_alpha: float, log_weight_decay: float) -> _Row:
    """Compute one flow, or read it from its file."""
    problem = replace(
        task.problem, alpha=None, log_alpha=log_alpha, weight_decay=None, log_weight_decay=log_weight_decay
    )
    file = task.folder / f"{_fingerprint(task, problem)}.npz" if task.folder is not None else None
    if file is not None and file.exists():
        try:
            return _row(Trajectory.load(file), reused=True)
        except InputError:
            pass  # a damaged file is computed anew
    with one_blas_thread():
        flow = gradient_flow(
            problem, s_end=task.s_end, rtol=task.rtol, save=SaveAt(num=_POINTS), events=[task.event],
            directions=task.directions,
        )  # fmt: skip
    if file is not None:
        flow.save(file)
    return _row(flow, reused=False)


def _row(flow: Trajectory, *, reused: bool) -> _Row:
    """Return the first crossing; a flow of the file and a fresh one have the same."""
    first = flow.events[0] if flow.events else None
    when = (first.tau, first.s, first.error) if first is not None else (math.nan, math.nan, math.nan)
    return _Row(*when, flow.status, flow.wall_s, reused)


def _fingerprint(task: _Task, problem: Problem) -> str:
    """Return a name for the file of a flow: two flows share it only where every setting is the same."""
    settings = problem.settings | {"s_end": task.s_end, "rtol": task.rtol, "event": vars(task.event)}
    settings |= {"theorykit": __version__, "points": _POINTS}
    digest = hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode())
    for name, direction in sorted(task.directions.items()):
        digest.update(name.encode() + direction.tobytes())
    return digest.hexdigest()[:32]


def _collect(task: _Task, scales: list[tuple[float, float]], rows: list[_Row]) -> Sweep:
    alphas, decays = np.array(scales).T.copy()
    settings = task.problem.settings | {"s_end": task.s_end, "rtol": task.rtol, "theorykit": __version__}
    return Sweep(
        log_alpha=alphas,
        log_weight_decay=decays,
        tau=np.array([row.tau for row in rows]),
        s=np.array([row.s for row in rows]),
        error=np.array([row.error for row in rows]),
        status=tuple(row.status for row in rows),
        wall_s=np.array([row.wall_s for row in rows]),
        reused=sum(row.reused for row in rows),
        event=task.event,
        settings={name: value for name, value in settings.items() if name not in ("log_alpha", "log_weight_decay")},
    )


def _curves(axes: Any, x: Floats, others: Floats, family: Sweep, label: str) -> None:
    """Draw lambda t* against x: a curve for each value of the other scale, or one where each has its own."""
    values = np.unique(others)
    if values.size == others.size:
        order = np.argsort(x)
        axes.errorbar(x[order], family.tau[order], family.error[order], marker="o", capsize=2)
        return
    for value in values:
        mine = np.flatnonzero(others == value)
        mine = mine[np.argsort(x[mine])]
        axes.errorbar(
            x[mine], family.tau[mine], family.error[mine], marker="o", capsize=2, label=f"{label} = {value:g}"
        )
    if values.size <= 8:
        axes.legend(frameon=False)
