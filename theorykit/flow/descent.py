"""Gradient descent: the discrete counterpart of `gradient_flow`, in full or mini-batches, with label noise or not."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import FlowError, InputError
from theorykit._numerics.serial import plain, replacing, writable_file
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, integer
from theorykit._version import __version__
from theorykit.flow._gauge import Gauge
from theorykit.flow._iterate import Mark, Rule, Walk, largest_curvature
from theorykit.flow.api import SaveAt
from theorykit.flow.events import Crossing, Event, check_events
from theorykit.flow.problem import Problem
from theorykit.flow.trajectory import _UNREADABLE, Snapshot, Trajectory, _event, unit_directions

Floats = NDArray[np.float64]

_CHECKS = 10_000  # looks at the watched statistics in a run, unless told otherwise
_LARGEST_LOG = 700.0
_STATUSES = ("reached_end", "stopped", "diverged")


@dataclass(frozen=True, eq=False, repr=False)
class Descent(Trajectory):
    """The result of gradient descent: a `Trajectory` whose points are iterates.

    Step k is at flow time t = `step` k, slow time tau = lambda t. `errors` is empty, since the iterates are exact to
    round-off; the error of an event is the length of a step in tau. Between steps there is nothing: `at` and
    `crossings` refuse.

    Attributes
    ----------
    steps : ndarray of int, shape (T,)
        Steps taken at the save points; the last is where the descent ended.
    theta : ndarray, shape (P,)
        The last iterate (of a descent that diverged, the last one that was finite).
    status : {"reached_end", "stopped", "diverged"}
        "stopped" by a `stop` event.
    """

    steps: NDArray[np.int64] = field(kw_only=True)
    theta: Floats = field(kw_only=True, repr=False)

    def __repr__(self) -> str:
        shown = f"{self.steps.size} points, {len(self.events)} events, statistics {', '.join(self.stats)}"
        return f"<Descent: {self.status} at step {self.steps[-1]}, {shown}>"

    def raise_for_status(self) -> Descent:
        """Return self, or raise `FlowError` if the descent diverged."""
        if self.status == "diverged":
            raise FlowError(f"the descent diverged: {self.message}")
        return self

    def weights(self, index: int) -> Floats:
        """Return the linear predictor w, shape (d,), of the last iterate; `index` is -1.

        Raises
        ------
        InputError
            Another index, or a model that has no linear predictor (`theta` has its parameters).
        """
        if "w" not in self._saved:
            raise InputError("weights", "a net without a linear predictor", "theta, the last iterate")
        if isinstance(index, bool) or index not in (-1, self.steps.size - 1):
            raise InputError("index", repr(index), "-1: only the last iterate is kept")
        return np.array(self._saved["w"])

    def at(
        self,
        *,
        s: float | None = None,
        tau: float | None = None,
        log_tau: float | None = None,
        log_t: float | None = None,
        directions: Mapping[str, ArrayLike] | None = None,
    ) -> Snapshot:
        """Raise: a descent has no dense output."""
        raise InputError("at", "a descent, which has nothing between its steps", "stats at the points of save=")

    def crossings(self, event: Crossing, *, directions: Mapping[str, ArrayLike] | None = None) -> tuple[Event, ...]:
        """Raise: a descent is not kept, so that crossings must be asked for beforehand."""
        raise InputError("crossings", "a descent, whose iterates are not kept", "events= of gradient_descent")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write times, statistics, events, settings and the last iterate to an .npz file (no pickle)."""
        header = {name: getattr(self, name) for name in ("status", "message", "settings", "counts", "wall_s")}
        header |= {"events": [vars(event) for event in self.events], "diagnostics": self.diagnostics}
        arrays = {name: getattr(self, name) for name in ("steps", "theta", "tau", "s", "t", "log_t")}
        arrays |= {f"stats/{name}": values for name, values in self.stats.items()}
        if "w" in self._saved:
            arrays["w"] = self._saved["w"]
        with replacing("path", path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(plain(header), allow_nan=False)), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Descent:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is missing, truncated, pickled, or not a saved descent.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays["header"]))
            _check_saved(arrays, header)
            saved = {"diagnostics": header["diagnostics"]} | ({"w": arrays["w"]} if "w" in arrays else {})
            return cls(
                **{name: arrays[name] for name in ("tau", "s", "t", "log_t", "steps", "theta")},
                **{name: header[name] for name in ("status", "message", "settings", "counts", "wall_s")},
                stats={name[6:]: values for name, values in arrays.items() if name.startswith("stats/")},
                errors={},
                events=tuple(_event(entry) for entry in header["events"]),
                _log_tau=_log(arrays["tau"]),
                _saved=saved,
            )
        except _UNREADABLE as problem:
            raise InputError("path", f"{path} ({problem})", "a file written by Descent.save") from None


def gradient_descent(
    problem: Problem,
    *,
    step: float,
    steps: int,
    batch: int | None = None,
    replacement: bool = False,
    label_noise: float = 0.0,
    seed: int = 0,
    save: SaveAt | None = None,
    events: Sequence[Crossing] = (),
    stop: Sequence[Crossing] = (),
    check_every: int | None = None,
    directions: Mapping[str, ArrayLike] | None = None,
    statistics: Mapping[str, Callable[[Floats], float]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 30.0,
    progress: Callable[[float], None] | None = None,
) -> Descent:
    """Run (stochastic) gradient descent theta <- theta - step grad(L_B + (lambda/2)|theta|^2) from alpha theta_bar.

    L_B is the mean loss over the batch of that step, which on average is the mean loss over all samples (its weights,
    where the data have some). Step k is at flow time t = `step` k: as `step` -> 0 the iterates tend to those of
    `gradient_flow` at first order.

    Parameters
    ----------
    problem : Problem
        With alpha and lambda inside the float range: nothing is rescaled here.
    step : float
        The learning rate eta, in units of flow time.
    steps : int
        Number of steps.
    batch : int, optional
        Samples a step; all of them by default. An epoch is a fresh permutation of the samples in batches, of which the
        last one may be smaller; every sample is visited once in an epoch.
    replacement : bool
        Draw every sample of a batch independently and uniformly instead.
    label_noise : float
        Standard deviation of fresh Gaussian noise xi that is added to f - y of every sample visited (squared loss).
    seed : int
        Of batches and noise, which have streams of their own.
    save : SaveAt
        Where statistics are saved, in steps: 400 points evenly by default, ``spacing="log"`` from the first step on,
        `s` and `tau` at the nearest step. The last iterate is always saved.
    events : sequence of Crossing
        Crossings to be located to the step.
    stop : sequence of Crossing
        Crossings that are events too, and that end the descent at their step.
    check_every : int, optional
        Steps between two looks at the statistics of `events` and `stop`, apart from the save points; the steps between
        two looks that differ are repeated one by one. By default a 10 000th of `steps`.
    directions : dict of array_like, shape (d,)
        Predictors to compare with: statistic ``cos_NAME`` is the cosine between w and each (models with a linear
        predictor).
    statistics : dict of callables
        Statistics of your own, functions of theta (P,), by name.
    checkpoint : path
        File for the state of the descent, about every `checkpoint_every` seconds. If it exists, the same call goes on
        from there, to the same bits.
    checkpoint_every : float
        Seconds.
    progress : callable
        Called with the fraction done, in [0, 1].

    Returns
    -------
    Descent
        Divergence does not raise: the iterates up to it come back with status "diverged" and advice.

    Raises
    ------
    InputError
        An argument is unusable (before any work), or the checkpoint is damaged or belongs to another descent.

    References
    ----------
    Label noise: Lyu et al. 2024, arXiv:2311.18817, Theorem B.1 (there with `replacement`, one sample a step).

    Examples
    --------
    >>> import theorykit as tk
    >>> data = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=0)
    >>> net = tk.models.DiagonalNet(d=40)
    >>> problem = tk.Problem(net, data, loss="exponential", alpha=2.0, weight_decay=1e-2)
    >>> descent = tk.gradient_descent(problem, step=1e-3, steps=2000, events=[tk.Crossing("train_loss", 0.1)])
    >>> descent.status, descent.stats["train_accuracy"][-1].item(), len(descent.events)
    ('reached_end', 1.0, 1)
    """
    rule, steps = _rule(problem, step, steps, batch, replacement, label_noise)
    seed = integer("seed", seed, minimum=0)
    save_steps = _save_steps(problem, SaveAt() if save is None else save, rule.step, steps)
    gauge = Gauge(problem, unit_directions(directions, problem.data.d), _functions(statistics))
    watched = _watched(gauge, events, stop)
    every = max(1, steps // _CHECKS) if check_every is None else integer("check_every", check_every, minimum=1)
    finite("checkpoint_every", checkpoint_every, minimum=0.0)
    if checkpoint is not None:
        writable_file("checkpoint", checkpoint)
    if progress is not None and not callable(progress):
        raise InputError("progress", repr(progress), "a function of the fraction done")
    walk = Walk(problem, rule, seed)
    if not walk.sound or walk.theta.any() != problem.direction.any():
        got = f"{problem.log_alpha:g} with a direction of size {np.abs(problem.direction).max():g}"
        raise InputError("log_alpha", got, "a start inside the float range")
    settings = _settings(problem, walk, steps, seed)
    run = _Run(walk, gauge, watched, frozenset(stop), save_steps, every if watched else walk.at_once)
    began = time.perf_counter()
    with one_blas_thread():
        run.go(_Keeper(checkpoint, checkpoint_every, _fingerprint(run, settings)), progress)
    return _result(run, settings, time.perf_counter() - began)


class _Keeper(NamedTuple):
    """Where the state is kept, how often, and what a state must share with the descent that takes it up."""

    path: str | os.PathLike[str] | None
    every: float
    fingerprint: str


class _Run:
    """A descent under way: the moving iterate, and what has been saved and found."""

    def __init__(
        self, walk: Walk, gauge: Gauge, watched: tuple[Crossing, ...], stop: frozenset[Crossing],
        save_steps: NDArray[np.int64], every: int,
    ) -> None:  # fmt: skip
        self.walk, self.gauge, self.watched, self.stop, self.save_steps = walk, gauge, watched, stop, save_steps
        self.every = min(every, walk.at_once)
        self.rows: list[list[float]] = []
        self.saved: list[int] = []
        self.events: list[Event] = []
        self.status = ""

    @property
    def end(self) -> int:
        """The number of the last step."""
        return int(self.save_steps[-1])

    def go(self, keeper: _Keeper, progress: Callable[[float], None] | None) -> None:
        """Descend to the end, from the checkpoint where there is one."""
        if keeper.path is not None:
            self._resume(keeper.path, keeper.fingerprint)
        last = time.perf_counter()
        values = self._look(self.watched)
        while not self.status:
            values = self._leg(values)
            if progress is not None:
                progress(1.0 if self.status else self.walk.taken / self.end)
            due = self.status or time.perf_counter() - last >= keeper.every
            if keeper.path is not None and due:
                self._keep(keeper.path, keeper.fingerprint)
                last = time.perf_counter()

    def _leg(self, before: list[float]) -> list[float]:
        """Go on to the next save point or look, and return the watched values there."""
        walk, mark = self.walk, self.walk.mark()
        target = min(walk.taken - walk.taken % self.every + self.every, self._next_save())
        walk.advance(target - walk.taken)
        if not walk.sound:
            _to_last_sound(walk, mark, target)
            self.status = "diverged"
        after = self._look(self.watched)
        suspects = [c for c, a, b in zip(self.watched, before, after, strict=True) if (a < c.level) != (b < c.level)]
        if suspects:
            self._locate(suspects, mark)
        if walk.taken == self.end and not self.status:
            self.status = "reached_end"
        if walk.taken not in self.saved[-1:] and (self.status or walk.taken == self._next_save()):
            self._save()
        return after

    def _next_save(self) -> int:
        """Return the first save point that has no row yet."""
        return int(self.save_steps[np.searchsorted(self.save_steps, self.saved[-1] if self.saved else 0, side="right")])

    def _save(self) -> None:
        self.saved.append(self.walk.taken)
        values = self.gauge.read(self.walk.theta, self.walk.rule.step * self.walk.taken, self.gauge.names)
        self.rows.append([values[name] for name in self.gauge.names])

    def _look(self, crossings: Sequence[Crossing]) -> list[float]:
        values = self.gauge.read(
            self.walk.theta, self.walk.rule.step * self.walk.taken, {crossing.statistic for crossing in crossings}
        )
        return [values[crossing.statistic] for crossing in crossings]

    def _locate(self, suspects: list[Crossing], mark: Mark) -> None:
        """Repeat the steps since the mark one by one; end at the first crossing that is to stop the descent."""
        walk, until = self.walk, self.walk.taken
        walk.back(mark)
        before = self._look(suspects)
        while walk.taken < until and self.status != "stopped":
            walk.advance(1)
            after = self._look(suspects)
            for crossing, a, b in zip(suspects, before, after, strict=True):
                direction = int(a < crossing.level) - int(b < crossing.level)
                if direction != 0 and crossing.direction in (0, direction):
                    self.events.append(self._event(crossing, direction))
                    self.status = "stopped" if crossing in self.stop else self.status
            before = after

    def _event(self, crossing: Crossing, direction: int) -> Event:
        """Return a crossing within the step just taken; without weight decay its tau is t, as for a flow."""
        problem, rule = self.walk.problem, self.walk.rule
        rate = self.walk.decay if problem.log_weight_decay > -math.inf else 1.0
        t = rule.step * self.walk.taken
        s = rate * t / problem.log_alpha if _has_s(problem) else math.nan
        return Event(crossing.statistic, crossing.level, direction, rate * t, s, math.log(t), rate * rule.step)

    def _keep(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        from theorykit.flow.ode import checkpoint

        taken, theta, (sampler, order) = self.walk.mark()
        state = {"taken": taken, "sampler": sampler, "status": self.status, "events": [vars(e) for e in self.events]}
        arrays = {
            "fingerprint": np.array(fingerprint),
            "state": np.array(json.dumps(state)),
            "theta": theta,
            "order": order,
            "saved": np.array(self.saved, dtype=np.int64),
            "rows": np.array(self.rows).reshape(len(self.rows), len(self.gauge.names)),
        }
        checkpoint.write(path, arrays)

    def _resume(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        from theorykit.flow.ode import checkpoint

        kept = checkpoint.read(path, fingerprint)
        if kept is None:
            return
        state = json.loads(str(kept["state"]))
        self.walk.back(Mark(state["taken"], kept["theta"], (state["sampler"], kept["order"])))
        self.status, self.events = state["status"], [Event(**entry) for entry in state["events"]]
        self.saved, self.rows = kept["saved"].tolist(), kept["rows"].tolist()


def _to_last_sound(walk: Walk, mark: Mark, target: int) -> None:
    """Bring the walk to the last iterate before `target` that is finite."""
    walk.back(mark)
    while target - walk.taken > 1:
        here = walk.mark()
        walk.advance((target - walk.taken) // 2)
        if not walk.sound:
            target = walk.taken
            walk.back(here)


def _rule(
    problem: Problem, step: float, steps: int, batch: int | None, replacement: bool, label_noise: float
) -> tuple[Rule, int]:
    if not isinstance(problem, Problem):
        raise InputError("problem", type(problem).__name__, "a Problem")
    n = problem.data.n
    step, steps = finite("step", step, above=0.0), integer("steps", steps, minimum=1)
    batch = n if batch is None else integer("batch", batch, minimum=1)
    if not isinstance(replacement, bool):
        raise InputError("replacement", repr(replacement), "True or False")
    if batch > n:
        raise InputError("batch", repr(batch), f"at most {n}, the number of samples")
    label_noise = finite("label_noise", label_noise, minimum=0.0)
    if label_noise > 0.0 and problem.loss != "squared":
        raise InputError("label_noise", f"{label_noise:g} with loss {problem.loss!r}", "0, or loss='squared'")
    if abs(problem.log_alpha) > _LARGEST_LOG:
        wanted = "a start inside the float range, between -700 and 700, or gradient_flow, which has no such limit"
        raise InputError("log_alpha", f"{problem.log_alpha:g}", wanted)
    if problem.log_weight_decay > _LARGEST_LOG:
        raise InputError("log_weight_decay", f"{problem.log_weight_decay:g}", "at most 700")
    return Rule(step, batch, replacement, label_noise), steps


def _save_steps(problem: Problem, save: SaveAt, step: float, steps: int) -> NDArray[np.int64]:
    """Return the steps after which statistics are saved; the last of all is one of them."""
    if not isinstance(save, SaveAt):
        raise InputError("save", repr(save), "a SaveAt, such as SaveAt(num=50)")
    if save.s is not None or save.tau is not None:
        points = _taus(problem, save) / (step * math.exp(problem.log_weight_decay))
        if points[-1] > steps + 0.5:
            raise InputError("save", f"points up to step {points[-1]:g}", f"points up to the end, step {steps}")
    elif save.log_t is not None or save.spacing == "loglog":
        raise InputError(
            "save", "points in log t or spacing='loglog' for a descent", "s, tau, or spacing 'log' or 'linear'"
        )
    elif save.spacing == "log":
        points = np.geomspace(1.0, steps, save.num)
    else:
        points = steps * np.arange(1, save.num + 1) / save.num
    return np.unique(np.append(np.clip(np.rint(points), 1, steps), steps).astype(np.int64))


def _taus(problem: Problem, save: SaveAt) -> Floats:
    if save.s is not None:
        return np.array([problem.tau_at(float(s)) for s in np.asarray(save.s)])
    if problem.log_weight_decay == -math.inf:
        raise InputError("tau", "save points in slow time with weight_decay = 0", "num= and spacing=")
    return np.asarray(save.tau, dtype=np.float64)


def _functions(statistics: Mapping[str, Callable[[Floats], float]] | None) -> dict[str, Callable[[Floats], float]]:
    if statistics is None:
        return {}
    if not isinstance(statistics, Mapping) or not all(callable(function) for function in statistics.values()):
        raise InputError("statistics", repr(statistics), "a dict of functions of theta")
    return dict(statistics)


def _watched(gauge: Gauge, events: Sequence[Crossing], stop: Sequence[Crossing]) -> tuple[Crossing, ...]:
    for name, given in (("events", events), ("stop", stop)):
        if not isinstance(given, Sequence):
            raise InputError(name, repr(given), "a list of Crossing, such as [Crossing('norm', 0.5)]")
    watched = tuple(dict.fromkeys((*events, *stop)))
    check_events(gauge.names, watched)
    return watched


def _has_s(problem: Problem) -> bool:
    return problem.log_weight_decay > -math.inf and problem.log_alpha > 0.0


def _settings(problem: Problem, walk: Walk, steps: int, seed: int) -> dict[str, Any]:
    rule = walk.rule
    return problem.settings | {
        "method": "gradient descent",
        "step": rule.step,
        "steps": steps,
        "batch": rule.batch,
        "replacement": rule.replacement,
        "label_noise": rule.label_noise,
        "seed": seed,
        "compiled": walk.compiled,
        "versions": {"theorykit": __version__, "numpy": np.__version__},
    }


def _fingerprint(run: _Run, settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(plain(dict(settings)), sort_keys=True).encode())
    digest.update(repr((run.every, run.gauge.names, run.watched, sorted(run.stop, key=repr))).encode())
    digest.update(run.save_steps.tobytes())
    for direction in run.gauge.directions.values():
        digest.update(direction.tobytes())
    return digest.hexdigest()


@np.errstate(over="ignore", invalid="ignore", under="ignore")  # the last iterate before a divergence is huge
def _result(run: _Run, settings: dict[str, Any], wall: float) -> Descent:
    problem, walk = run.walk.problem, run.walk
    steps = np.array(run.saved, dtype=np.int64)
    t = walk.rule.step * steps.astype(np.float64)
    nan = np.full(t.size, math.nan)
    tau: Floats = walk.decay * t if problem.log_weight_decay > -math.inf else nan
    counts = {"steps": walk.taken, "epochs": walk.taken / math.ceil(problem.data.n / walk.rule.batch)}
    saved: dict[str, Any] = {"diagnostics": {"status": run.status, "counts": counts}}
    if hasattr(problem.model, "weights"):
        saved["w"] = problem.model.weights(walk.theta)
    return Descent(
        tau=tau,
        s=tau / problem.log_alpha if _has_s(problem) else nan,
        t=t,
        log_t=_log(t),
        stats=dict(zip(run.gauge.names, np.array(run.rows).T.copy(), strict=True)),
        errors={},
        events=tuple(run.events),
        status=run.status,
        message=_message(run),
        settings=settings,
        counts=counts,
        wall_s=wall,
        _log_tau=_log(tau),
        _saved=saved,
        steps=steps,
        theta=walk.theta,
    )


def _message(run: _Run) -> str:
    if run.status == "reached_end":
        return "reached the end"
    if run.status == "stopped":
        return f"stopped at step {run.walk.taken} by {run.events[-1].name} = {run.events[-1].level:g}"
    walk, step = run.walk, run.walk.rule.step
    start = math.exp(walk.problem.log_alpha) * walk.problem.direction
    limit = 2.0 / max(largest_curvature(walk.problem, start), 1e-300)
    where = f"not finite after step {walk.taken + 1}: the step, {step:g}, is"
    if step >= limit:
        return f"{where} above 2/(largest curvature at the start) = {limit:.3g}: try one well below that"
    grown = "has grown since" if walk.rule.batch == walk.problem.data.n else "has grown since, or is larger on a batch"
    return f"{where} below 2/(largest curvature at the start) = {limit:.3g}; curvature {grown}: try a smaller one"


def _log(values: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(values)


def _check_saved(arrays: Mapping[str, Any], header: Any) -> None:
    """Raise ValueError where a file has the right entries of the wrong kind."""
    size = arrays["steps"].shape
    for name, values in arrays.items():
        if name != "header":
            kind = "i" if name == "steps" else "f"
            if values.dtype.kind != kind or values.ndim != 1 or (name not in ("theta", "w") and values.shape != size):
                raise ValueError(f"{name} is not what it should be")
    if header["status"] not in _STATUSES:
        raise ValueError(f"status {header['status']!r}")
    kinds: dict[str, Any] = {"message": str, "settings": dict, "counts": dict, "wall_s": (int, float)}
    for name, kind in (kinds | {"diagnostics": dict, "events": list}).items():
        if not isinstance(header[name], kind):
            raise ValueError(f"{name} is not what it should be")
