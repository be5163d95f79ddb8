"""`gradient_flow` for large nets: RKC2 in float32 or float64, statistics read in passing, checkpoints.

The state is the displacement x = theta - sigma theta_bar from the decaying start, sigma = alpha e^(-tau):

    dx/dtau = -x - (1/lambda) grad L(sigma theta_bar + x),

so that tolerances are relative to how far the net has moved. Without weight decay the clock is that of the loss,
ds = L dt: dx/ds = -grad log L, and log t = log of the integral of e^(-log L) ds is carried along.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.serial import plain
from theorykit._numerics.threads import blas_threads, one_blas_thread
from theorykit.flow._gauge import Gauge
from theorykit.flow.events import Crossing, Event, paired
from theorykit.flow.large_force import Force
from theorykit.flow.large_steps import Point, Step, Stepper, Velocity
from theorykit.flow.ode import checkpoint
from theorykit.flow.problem import Problem
from theorykit.flow.trajectory import ROUND_OFF, Snapshot, Trajectory

Array = NDArray[Any]
Floats = NDArray[np.float64]

_LARGEST = {"float32": 40.0, "float64": 300.0}  # |L log alpha|: theta and the outputs stay far inside the float range
_NOISE = 1e-2  # largest output of a start whose output is zero in exact arithmetic
_KEPT = 8  # save points at which the parameters are kept
_HALVINGS = 12  # of the interval in which a crossing is located
_MOST_STEPS = 1_000_000
_NODES = 64  # subintervals of a step for the integral of 1/L
_SAMPLES = 32  # from which the size of the features is taken
_NO_ESTIMATE = "none: no companion run was asked for"
_STATUSES = {
    "running": "under way",
    "reached_end": "reached the end",
    "max_steps": "the step limit was reached: a looser rtol, a larger max_steps, or an earlier end",
    "step_too_small": "the step size fell to round-off: a looser rtol, or dtype='float64'",
}


@dataclass(frozen=True, eq=False, repr=False)
class Streamed(Trajectory):
    """A trajectory whose statistics were read in passing: it has no dense output, so `at` and `crossings` refuse.

    Attributes
    ----------
    kept : dict of int to ndarray, shape (P,)
        theta at some of the save points, by their index.
    """

    kept: Mapping[int, Array] = field(default_factory=dict, repr=False)

    def parameters(self, index: int) -> tuple[Floats, float]:
        """Return theta/|theta|, shape (P,), and log|theta| at one of the save points in `kept`.

        Raises
        ------
        InputError
            Another save point.
        """
        self._check_index(index)
        position = int(index) % self.tau.size
        if self.kept and position not in self.kept:
            known = ", ".join(str(k) for k in sorted(self.kept))
            raise InputError("index", str(index), f"one of {known}, where the parameters were kept")
        if not self.kept:
            return super().parameters(index)
        theta = self.kept[position].astype(np.float64)
        size = float(np.linalg.norm(theta))
        return theta / max(size, 1e-300), math.log(size) if size > 0.0 else -math.inf

    def at(
        self,
        *,
        s: float | None = None,
        tau: float | None = None,
        log_tau: float | None = None,
        log_t: float | None = None,
        directions: Mapping[str, ArrayLike] | None = None,
    ) -> Snapshot:
        """Raise: there is no dense output."""
        raise InputError("at", "a large flow, which keeps no dense output", "stats at the points of save=")

    def crossings(self, event: Crossing, *, directions: Mapping[str, ArrayLike] | None = None) -> tuple[Event, ...]:
        """Raise: crossings must be asked for beforehand."""
        raise InputError("crossings", "a large flow, which keeps no dense output", "events= of gradient_flow")


@dataclass(frozen=True)
class Plan:
    """What a streamed flow is asked for.

    Attributes
    ----------
    log_end : float
        log tau at the end; log t without weight decay.
    rtols : list of float
        Of the run, and of its companions.
    dtype : str
        Of the velocity.
    save : callable
        The save points (increasing log tau or log t), given where the flow begins to move.
    events : tuple of Crossing
    directions : dict of ndarray
        Unit vectors for the ``cos_`` statistics.
    checkpoint : path, optional
    checkpoint_every : float
        Seconds.
    progress : callable, optional
    max_steps : int, optional
        Most accepted steps of a run; a million by default.
    """

    log_end: float
    rtols: list[float]
    dtype: str
    save: Callable[[float], Floats]
    events: tuple[Crossing, ...]
    directions: Mapping[str, Floats]
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: float
    progress: Callable[[float], None] | None
    max_steps: int | None = None


class System:
    """The velocity of the displacement, and what its size is to be compared with."""

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        self.problem, self.dtype = problem, np.dtype(dtype)
        self.force = Force(problem, threads)
        self.decaying = problem.log_weight_decay > -math.inf

    def theta(self, clock: float, x: Floats) -> Array:
        """Return the parameters in the working type."""
        sigma = math.exp(self.problem.log_alpha - (clock if self.decaying else 0.0))
        return np.asarray(sigma * self.problem.direction + x).astype(self.dtype)

    def velocity(self, clock: float, x: Floats) -> Velocity:
        """Return dx/dclock."""
        pull = self.force(self.theta(clock, x))
        over = self.problem.log_weight_decay if self.decaying else pull.log_loss
        scale = self.dtype.type(math.exp(min(pull.log_scale - over, 600.0)) if math.isfinite(over) else math.nan)
        velocity = scale * pull.direction
        if self.decaying:
            velocity -= x.astype(self.dtype)
        return Velocity(velocity, pull.log_loss)

    def length(self, clock: float, x: Floats) -> float:
        """Return the norm of the parameters."""
        return float(np.linalg.norm(self.theta(clock, x)))

    @cached_property
    def unit(self) -> float:
        """The norm of a displacement that moves the outputs by about one; for tiny starts, the norm of the start."""
        problem, degree = self.problem, self.problem.model.degree
        size, alpha = float(np.linalg.norm(problem.direction)), math.exp(problem.log_alpha)
        features = _feature_size(problem)
        grown = size ** (1.0 - 1.0 / degree) * features ** (-1.0 / degree)
        return min(1.0 / (alpha ** (degree - 1) * features), grown, alpha * size)


def _feature_size(problem: Problem) -> float:
    """Return the largest norm of an output's gradient at theta_bar over some samples; 1 where all vanish."""
    model, X = problem.model, problem.data.X
    rows = np.unique(np.linspace(0, len(X) - 1, _SAMPLES).astype(np.intp))
    kernels = [np.max(model.ntk(model.inputs(X[row : row + 1]), theta=problem.direction)) for row in rows]
    return math.sqrt(max(map(float, kernels))) or 1.0


class _Run:
    """One run: where it is, and what has been read off it."""

    def __init__(self, system: System, plan: Plan, rtol: float) -> None:
        self.system, self.plan, self.rtol = system, plan, rtol
        self.gauge = Gauge(system.problem, plan.directions, {})
        self.stepper = Stepper(system.velocity, rtol, system.unit, system.length)
        self.point = self.stepper.start(0.0, np.zeros_like(system.problem.direction))
        self.log_time = -math.inf  # log tau, log t without weight decay
        self.clock_end = math.exp(plan.log_end) if system.decaying else math.inf
        self.save = plan.save(self._first())
        self.rows: list[list[float]] = []
        self.kept: dict[int, Array] = {}
        self.found: list[
            tuple[int, float, float, int]
        ] = []  # which crossing, log time, width of its bracket, direction
        self.status, self.wall = "running", 0.0
        self.seen = self._look(system.theta(0.0, self.point.x), 0.0)

    def _first(self) -> float:
        """Return log tau (log t) at the end of the first step."""
        log_loss = 0.0 if self.system.decaying else self.point.velocity.log_loss
        return min(math.log(self.point.h) - log_loss, self.plan.log_end - 1.0)

    def _look(self, theta: Array, log_time: float) -> list[float]:
        names = {crossing.statistic for crossing in self.plan.events}
        values = self._read(theta, log_time, names) if names else {}
        return [values[crossing.statistic] for crossing in self.plan.events]

    def _read(self, theta: Array, log_time: float, names: set[str]) -> dict[str, float]:
        t = math.exp(min(log_time - max(self.system.problem.log_weight_decay, -700.0), 700.0))
        return self.gauge.read(theta, t, names)

    def advance(self) -> None:
        """Take a step and read what lies in it."""
        after = self.stepper.step(self.point, self.clock_end)
        if after is None:
            self.status = "step_too_small"
            return
        step = Step(self.point, after)
        fractions, log_times = self._times(step)
        last = min(float(log_times[-1]), self.plan.log_end)
        first = len(self.rows)
        stop = int(np.searchsorted(self.save, last + 1e-12, side="right"))
        before, log_before = 0.0, self.log_time
        for log_time in [*self.save[first:stop], last]:
            if self.system.decaying:
                fraction = min((math.exp(log_time) - step.before.clock) / step.h, 1.0)
            else:
                fraction = float(np.interp(log_time, log_times, fractions))
            self._pass(step, (before, log_before), (fraction, float(log_time)), len(self.rows) < stop)
            before, log_before = fraction, float(log_time)
        self.point, self.log_time = after, last
        if after.clock >= self.clock_end or last >= self.plan.log_end:
            self.status = "reached_end"
        elif after.steps >= (self.plan.max_steps or _MOST_STEPS):
            self.status = "max_steps"

    def _times(self, step: Step) -> tuple[Floats, Floats]:
        """Return fractions of a step and log tau (log t) there."""
        if self.system.decaying:
            return np.array([0.0, 1.0]), np.array([self.log_time, math.log(step.after.clock)])
        fractions = np.linspace(0.0, 1.0, _NODES + 1)
        return fractions, log_t_inside(step, fractions, self.log_time)

    def _pass(self, step: Step, before: tuple[float, float], now: tuple[float, float], saving: bool) -> None:
        """Read the flow at a fraction of a step, and locate what has been crossed since the last one."""
        theta = self._theta(step, now[0])
        if saving:
            index = len(self.rows)
            values = self._read(theta, now[1], set(self.gauge.names))
            self.rows.append([values[name] for name in self.gauge.names])
            if index in np.linspace(0, self.save.size - 1, _KEPT).astype(int):
                self.kept[index] = theta
        seen = self._look(theta, now[1])
        for index, (crossing, old, new) in enumerate(zip(self.plan.events, self.seen, seen, strict=True)):
            direction = int(old < crossing.level) - int(new < crossing.level)
            if direction != 0 and crossing.direction in (0, direction):
                log_time, width = self._locate(step, crossing, before, now)
                self.found.append((index, log_time, width, direction))
        self.seen = seen

    def _theta(self, step: Step, fraction: float) -> Array:
        return self.system.theta(step.before.clock + fraction * step.h, step.at(fraction))

    def _locate(
        self, step: Step, crossing: Crossing, low: tuple[float, float], high: tuple[float, float]
    ) -> tuple[float, float]:
        """Halve the interval that a crossing is in; return its log time and the width of what is left."""
        fractions, log_times = self._times(step)

        def time_at(fraction: float) -> float:
            if self.system.decaying:
                return math.log(step.before.clock + fraction * step.h) if fraction > 0.0 else low[1]
            return float(np.interp(fraction, fractions, log_times))

        def below(fraction: float) -> bool:
            theta, name = self._theta(step, fraction), crossing.statistic
            return self._read(theta, time_at(fraction), {name})[name] < crossing.level

        left, right = low[0], high[0]
        start = below(left)
        for _ in range(_HALVINGS):
            middle = 0.5 * (left + right)
            left, right = (middle, right) if below(middle) == start else (left, middle)
        first, last = max(time_at(left), time_at(right) - 1.0), time_at(right)
        return 0.5 * (first + last), last - first

    def state(self) -> dict[str, Array]:
        """Return everything as arrays, for a checkpoint."""
        p = self.point
        return {
            "x": p.x, "v": p.velocity.of, "dominant": p.dominant,
            "numbers": np.array([p.clock, p.velocity.log_loss, p.h, p.error, p.radius, p.drift, self.log_time]),
            "wall": np.array(self.wall),
            "counts": np.array([p.age, p.steps, p.rejected, p.gradients]), "status": np.array(self.status),
            "rows": np.array(self.rows).reshape(-1, len(self.gauge.names)), "seen": np.array(self.seen),
            "found": np.array(self.found).reshape(-1, 4),
            "kept_at": np.array(list(self.kept), dtype=np.int64), "kept": np.array(list(self.kept.values())),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go back to where a checkpoint was written."""
        clock, log_loss, h, error, radius, drift, self.log_time = state["numbers"].tolist()
        age, steps, rejected, gradients = state["counts"].tolist()
        velocity = Velocity(state["v"], log_loss)
        self.point = Point(
            clock, state["x"], velocity, h, error, radius, age, state["dominant"], steps, rejected, gradients, drift
        )
        self.status, self.rows, self.seen = str(state["status"]), state["rows"].tolist(), state["seen"].tolist()
        self.wall = float(state["wall"])
        self.found = [(int(k), log_time, width, int(side)) for k, log_time, width, side in state["found"].tolist()]
        self.kept = dict(zip(state["kept_at"].tolist(), state["kept"], strict=True))

    @property
    def fraction(self) -> float:
        """Which part of the time is done: of tau, or of log(1 + log(1 + t)) without weight decay."""
        if self.system.decaying:
            return min(1.0, self.point.clock / self.clock_end)
        done, all_ = (math.log1p(float(np.logaddexp(0.0, x))) for x in (self.log_time, self.plan.log_end))
        return min(1.0, done / all_)

    @property
    def counts(self) -> dict[str, int]:
        """Steps, rejected steps and evaluations of the gradient."""
        point = self.point
        return {"steps": point.steps, "rejected": point.rejected, "gradients": point.gradients}


def log_t_inside(step: Step, fractions: Floats, log_t: float) -> Floats:
    """Return log t at fractions of a step in the loss clock, dt/ds = 1/L, from log t at its beginning.

    -log L is the cubic through both ends and their slopes |grad log L|^2, and linear between the fractions.
    """
    u, v = -step.before.velocity.log_loss, -step.after.velocity.log_loss
    slopes = [step.h * float(np.linalg.norm(point.velocity.of)) ** 2 for point in (step.before, step.after)]
    z = fractions
    heights = u + z * (slopes[0] + z * (3.0 * (v - u) - 2.0 * slopes[0] - slopes[1]))
    heights += z**3 * (slopes[0] + slopes[1] - 2.0 * (v - u))
    rises = np.abs(np.diff(heights))
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(rises > 1e-8, np.log(-np.expm1(-rises) / rises), -0.5 * rises)
    pieces = np.log(np.diff(z) * step.h) + np.maximum(heights[1:], heights[:-1]) + means
    out: Floats = np.logaddexp.accumulate(np.concatenate([[log_t], pieces]))
    return out


def check(problem: Problem, dtype: str) -> None:
    """Raise where a problem cannot be followed this way."""
    if problem.log_weight_decay == -math.inf and problem.loss == "squared":
        raise InputError("weight_decay", "0 for the squared loss of a large net", "weight decay, or method='radau'")
    size = abs(problem.model.degree * problem.log_alpha)
    if size > _LARGEST[dtype]:
        most = _LARGEST[dtype] / problem.model.degree
        raise InputError("log_alpha", f"{problem.log_alpha:g}", f"at most {most:g} in absolute value for {dtype}")
    if isinstance(problem.init, str) and problem.model.directions[problem.init]:
        theta = np.asarray(math.exp(problem.log_alpha) * problem.direction).astype(dtype)
        output = float(np.max(np.abs(problem.model.output(theta, problem.data.X))))
        if output > _NOISE:
            got = f"log_alpha = {problem.log_alpha:g}, where round-off makes the zero output {output:.2g}"
            raise InputError("dtype", got, "'float64', or a start whose output is zero without cancellation")


def stream(problem: Problem, plan: Plan) -> Streamed:
    """Integrate, reading statistics and crossings in passing; go on from the checkpoint where there is one."""
    check(problem, plan.dtype)
    threads = blas_threads()
    with one_blas_thread():
        system = System(problem, plan.dtype, threads)
        runs = [_Run(system, plan, rtol) for rtol in plan.rtols]
        _Keeper(problem, plan, runs).go()
    return _result(problem, plan, system, runs)


class _Keeper:
    """Takes the runs to their ends, one after the other, and keeps their states in a file."""

    def __init__(self, problem: Problem, plan: Plan, runs: list[_Run]) -> None:
        self.plan, self.runs = plan, runs
        watched = [[event.statistic, event.level, event.direction] for event in plan.events]
        directions = {name: hashlib.sha256(unit.tobytes()).hexdigest() for name, unit in plan.directions.items()}
        what = [problem.settings, plan.log_end, plan.rtols, plan.dtype, runs[0].save.tolist(), watched, directions]
        what += [] if plan.max_steps is None else [plan.max_steps]
        self.fingerprint = hashlib.sha256(json.dumps(plain(what)).encode()).hexdigest()

    def go(self) -> None:
        """Take every run to its end."""
        if self.plan.checkpoint is not None:
            self._resume(self.plan.checkpoint)
        try:
            for run in self.runs:
                self._to_end(run)
        except KeyboardInterrupt:
            self._keep()
            raise

    def _to_end(self, run: _Run) -> None:
        written = time.perf_counter()
        while run.status == "running":
            began = time.perf_counter()
            run.advance()
            run.wall += time.perf_counter() - began
            if self.plan.progress is not None:
                self.plan.progress(self._fraction())
            if time.perf_counter() - written >= self.plan.checkpoint_every or run.status != "running":
                self._keep()
                written = time.perf_counter()

    def _fraction(self) -> float:
        """Return the part of all runs that is done; the cost of a run goes with rtol^(-1/3)."""
        shares = [run.rtol ** (-1.0 / 3.0) for run in self.runs]
        return sum(share * run.fraction for share, run in zip(shares, self.runs, strict=True)) / sum(shares)

    def _keep(self) -> None:
        if self.plan.checkpoint is None:
            return
        arrays = {f"{k}/{name}": array for k, run in enumerate(self.runs) for name, array in run.state().items()}
        checkpoint.write(self.plan.checkpoint, arrays | {"fingerprint": np.array(self.fingerprint)})

    def _resume(self, path: str | os.PathLike[str]) -> None:
        arrays = checkpoint.read(path, self.fingerprint)
        if arrays is None:
            self._keep()  # a path that cannot be written shows before the work
            return
        for k, run in enumerate(self.runs):
            run.restore({name[len(f"{k}/") :]: a for name, a in arrays.items() if name.startswith(f"{k}/")})


def _result(problem: Problem, plan: Plan, system: System, runs: list[_Run]) -> Streamed:
    from theorykit.flow.api import times_of

    own, others = runs[0], runs[1:]
    count = max(1, min(len(run.rows) for run in runs))
    log_taus = own.save[:count] if own.rows else np.array([own.log_time])
    names = own.gauge.names
    tables = [_table(run, count) for run in runs]
    stats = dict(zip(names, tables[0].T, strict=True))
    errors = {name: _distance(stats[name], [t[:, k] for t in tables[1:]]) for k, name in enumerate(names) if others}
    events = [paired(problem, event, *(_of(run, k) for run in runs[:2])) for k, event in enumerate(plan.events)]
    ordered = sorted((event for found in events for event in found), key=lambda event: event.log_t)
    last = own.kept.get(count - 1)
    theta = own.system.theta(own.point.clock, own.point.x) if last is None else last
    unit = theta.astype(np.float64) / max(float(np.linalg.norm(theta)), 1e-300)
    return Streamed(
        *times_of(problem, log_taus), stats, errors, tuple(ordered), own.status, _STATUSES[own.status],
        _settings(problem, plan, system), _counts(runs), sum(run.wall for run in runs), log_taus,
        _saved={"diagnostics": _diagnostics(problem, runs), "parameters": unit}, kept=own.kept,
    )  # fmt: skip


def _table(run: _Run, count: int) -> Floats:
    if run.rows:
        return np.array(run.rows[:count])
    theta = run.system.theta(run.point.clock, run.point.x)
    values = run._read(theta, run.log_time, set(run.gauge.names))
    return np.array([[values[name] for name in run.gauge.names]])


def _of(run: _Run, index: int) -> list[tuple[float, float, int]]:
    """Return (log time, width of the bracket, direction) of the crossings of one kind."""
    return [(log_time, width, direction) for k, log_time, width, direction in run.found if k == index]


def _distance(values: Floats, others: Sequence[Floats]) -> Floats:
    gaps = [np.where(values == other, 0.0, np.abs(values - other)) for other in others]
    return np.maximum(np.max(gaps, axis=0), ROUND_OFF * np.abs(values))


def _settings(problem: Problem, plan: Plan, system: System) -> dict[str, Any]:
    from theorykit.flow.api import versions

    estimate = f"the distance to a companion at rtol {plan.rtols[1]:g}" if len(plan.rtols) > 1 else _NO_ESTIMATE
    return problem.settings | {
        "method": "rkc2, streamed", "state": "displacement from the decaying start", "dtype": plan.dtype,
        "clock": "tau" if system.decaying else "the integral of the loss", "dimension": problem.model.parameters,
        "rtol": plan.rtols[0], "companion_rtol": plan.rtols[1] if len(plan.rtols) > 1 else None,
        "confirmed": len(plan.rtols) > 2, "unit": system.unit, "slaving_error": 0.0, "error_estimate": estimate,
        "versions": versions(),
    }  # fmt: skip


def _counts(runs: list[_Run]) -> dict[str, Any]:
    named = dict(zip(("run", "companion", "confirmation"), (run.counts for run in runs), strict=False))
    return named | {"statuses": [run.status for run in runs]}


def _diagnostics(problem: Problem, runs: list[_Run]) -> dict[str, Any]:
    own = runs[0]
    return {
        "status": own.status,
        "sum_of_local_errors": own.point.drift,
        "drift": {"norm": None, "energy": None, "balancedness": _imbalance(problem, own)},
        "frames": [{"frame": "displacement", "slaved": False, "method": "rkc2", "steps": own.point.steps}],
        "slaving_error": 0.0,
        "counts": _counts(runs),
    }


def _imbalance(problem: Problem, run: _Run) -> float | None:
    """Return the drift of what the model conserves from the start to where the run is, relative to absolute terms."""
    first = problem.model.invariants(problem.direction)
    if first.values.size == 0:
        return None
    here = problem.model.invariants(run.system.theta(run.point.clock, run.point.x).astype(np.float64))
    log_sigma = problem.log_alpha - (run.point.clock if run.system.decaying else 0.0)
    gap = np.abs(here.values - math.exp(first.degree * log_sigma) * first.values)
    return float(np.max(gap) / max(float(np.max(here.scale)), 1e-300))
