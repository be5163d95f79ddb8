"""The result of a flow: statistics at the save points, the path itself, events, and how well it was followed."""

from __future__ import annotations

import csv
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import FlowError, InputError, unknown_name
from theorykit._numerics.serial import plain, replacing
from theorykit._numerics.validate import finite, vector
from theorykit.flow.events import Crossing, Event, check_events, find
from theorykit.flow.path import Floats, FlowPath, unit_and_log
from theorykit.flow.problem import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# what numpy, zipfile and json raise on damaged files; RuntimeError stands for an unknown way of packing
_UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
_OF_END = ("weights", "parameters")  # saved of the last point only
_STATUSES = (
    *("reached_end", "step_too_small", "not_finite", "too_many_steps"),
    *("max_steps", "no_space", "blow_up", "no_convergence", "kinks", "unfit"),
)

SIZES = ("norm", "train_loss", "margin")
"""Statistics whose errors are relative; all others are numbers of order one, outputs, or logarithms."""

_APART = 0.37  # of a step between the times at which an error is estimated

ROUND_OFF = 4.0 * float(np.finfo(np.float64).eps)
"""Relative error below which no statistic is claimed to be known."""


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """A simulated gradient flow.

    Attributes
    ----------
    tau, s, t, log_t : ndarray, shape (T,)
        The save points as slow time tau = lambda t, s = tau/log(alpha) (nan where undefined), flow time t (infinite
        past the float range) and its logarithm. Without weight decay tau is nan and t is the clock.
    stats : dict of ndarray, shape (T,)
        Statistics of the flow: train_loss (mean), log_train_loss, train_accuracy, output_margin (min_i y_i f_i), margin
        (output_margin / |theta|_2^L), norm (|theta|_2), log_norm, log_delta (log of |delta|/|theta_bar|), cos_NAME for
        each direction, transition (the angle to "kernel" over the sum of those to "kernel" and "rich": 0 at one, 1 at
        the other), and on test points test_loss (mean), test_accuracy.
    errors : dict of ndarray, shape (T,)
        Estimated global error of the statistics (not the test ones): the distance to a companion run at ten times the
        tolerance, which is the error of the looser run and so overestimates that of this one; the largest of a save
        point and its neighbours, since such a distance passes through zero now and then. The local tolerance is added
        and, where residuals of the squared loss are slaved, what that may bring.
    events : tuple of Event
        Crossings, in time order.
    status, message : str
        Why it ended, and what to do about it.
    settings, counts : dict
        Problem, tolerances, versions; steps and evaluations of this run and its companion.
    wall_s : float
        Seconds for the two integrations, without statistics and without compilation.
    """

    tau: Floats
    s: Floats
    t: Floats
    log_t: Floats
    stats: dict[str, Floats] = field(repr=False)
    errors: dict[str, Floats] = field(repr=False)
    events: tuple[Event, ...]
    status: str
    message: str
    settings: dict[str, Any] = field(repr=False)
    counts: dict[str, Any] = field(repr=False)
    wall_s: float
    _log_tau: Floats = field(repr=False)
    _path: FlowPath | None = field(default=None, repr=False)
    _companion: FlowPath | None = field(default=None, repr=False)
    _saved: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        clock = "s" if np.isfinite(self.s).all() else "log_t"
        end = f"{clock} = {getattr(self, clock)[-1]:.6g}"
        shown = f"{self.tau.size} points, {len(self.events)} events, statistics {', '.join(self.stats)}"
        return f"<Trajectory: {self.status} at {end}, {shown}>"

    def raise_for_status(self) -> Trajectory:
        """Return self, or raise `FlowError` if the flow did not reach its end."""
        if self.status != "reached_end":
            raise FlowError(f"the flow stopped at tau = {self.tau[-1]:g}: {self.message}")
        return self

    def weights(self, index: int) -> Floats:
        """Return the linear predictor w, shape (d,), at a save point.

        Raises
        ------
        InputError
            The trajectory was loaded from a file (which holds statistics and the last weights only), or the model is
            not linear in x.
        """
        self._check_index(index)
        if self._path is None:
            return np.array(self._last(index, "weights"))
        return self._path.weights(self._log_tau[[index]])[0]

    def parameters(self, index: int) -> tuple[Floats, float]:
        """Return theta/|theta|, shape (P,), and log|theta| at a save point: theta itself may leave the float range.

        Raises
        ------
        InputError
            The trajectory was loaded from a file, which holds the last parameters only.
        """
        self._check_index(index)
        if self._path is None:
            return np.array(self._last(index, "parameters")), float(self.stats["log_norm"][index])
        units, log_norms = self._path.parameters(self._log_tau[[index]])
        return units[0], float(log_norms[0])

    def outputs(self, X: ArrayLike, index: int) -> Floats:
        """Return f(theta; x) on any inputs at a save point, shape (m,), or (m, c) for c > 1 outputs.

        Raises
        ------
        InputError
            The model does not take X, or the trajectory was loaded from a file.

        Examples
        --------
        >>> import theorykit as tk
        >>> data = tk.datasets.sparse_sign(n=8, d=40, seed=0)
        >>> problem = tk.Problem(tk.models.DiagonalNet(d=40), data, log_alpha=20.0, log_weight_decay=-20.0)
        >>> trajectory = tk.gradient_flow(problem, s_end=0.5)
        >>> bool((data.y * trajectory.outputs(data.X, -1) > 0.0).all())
        True
        """
        self._check_index(index)
        if self._path is None:
            raise InputError("outputs", "a loaded trajectory", "one that was computed in this session")
        return self._path.outputs_on(float(self._log_tau[index]), self._path.problem.model.inputs(X))

    def _check_index(self, index: int) -> None:
        if isinstance(index, bool) or not isinstance(index, (int, np.integer)):
            raise InputError("index", repr(index), "an integer")
        if not -self.tau.size <= index < self.tau.size:
            raise InputError("index", repr(index), f"between {-self.tau.size} and {self.tau.size - 1}")

    def _last(self, index: int, name: str) -> Floats:
        if index not in (-1, self.tau.size - 1) or name not in self._saved:
            raise InputError("index", f"{index} of a loaded trajectory", f"-1, the only {name} that are saved")
        last: Floats = self._saved[name]
        return last

    @property
    def step_ends(self) -> Floats:
        """Log tau (log t without weight decay) at the end of every accepted step: times for `at`, shape (steps,).

        Raises
        ------
        InputError
            A loaded trajectory.
        """
        return self._computed("step_ends")[0].step_ends()

    def at(
        self,
        *,
        s: float | None = None,
        tau: float | None = None,
        log_tau: float | None = None,
        log_t: float | None = None,
        directions: Mapping[str, ArrayLike] | None = None,
    ) -> Snapshot:
        """Return everything about the flow at one time of its dense output.

        Parameters
        ----------
        s, tau, log_tau, log_t : float
            The time: exactly one of them. Without weight decay, `log_t`, and `log_tau` is the same.
        directions : dict of array_like, shape (d,), optional
            Further predictors for statistics ``cos_NAME``.

        Raises
        ------
        InputError
            No time or several, a time past the end, one that needs weight decay, or a loaded trajectory.
        """
        path, companion = self._computed("at")
        name, log_time = _log_time(path.problem, {"s": s, "tau": tau, "log_tau": log_tau, "log_t": log_t})
        if log_time > path.end + 1e-12:
            last = _in_clock(path.problem, name, path.end)
            given = _in_clock(path.problem, name, log_time)
            raise InputError(name, f"{given:g}", f"at most {last:g}, to where the flow was followed")
        further = unit_directions(directions, path.problem.data.d)
        own, other = (p.pointed({**p.directions, **further}) for p in (path, companion))
        return Snapshot(own, other, min(log_time, path.end))

    def _computed(self, name: str) -> tuple[FlowPath, FlowPath]:
        """Return the path and its companion, where the trajectory has them."""
        if self._path is None or self._companion is None:
            raise InputError(name, "a loaded trajectory", "one that was computed in this session")
        return self._path, self._companion

    def crossings(self, event: Crossing, *, directions: Mapping[str, ArrayLike] | None = None) -> tuple[Event, ...]:
        """Return the crossings of one statistic, looked for after the fact.

        Parameters
        ----------
        event : Crossing
        directions : dict of ndarray, shape (d,), optional
            Predictors for the statistics ``cos_NAME`` and (with "kernel" and "rich") ``transition``; those of the
            trajectory by default.

        Raises
        ------
        InputError
            Unknown statistic, or a loaded trajectory.
        """
        paths = list(self._computed("crossings"))
        if directions is not None:
            unit = unit_directions(directions, paths[0].problem.data.d)
            paths = [path.pointed(unit) for path in paths]
        check_events(paths[0].names, (event,))
        return find(paths[0], paths[1], (event,), self._log_tau, {})

    @cached_property
    def diagnostics(self) -> dict[str, Any]:
        """How far the trajectory can be believed: error estimate, drifts of exact identities, counts (JSON-able)."""
        if self._path is None or self._companion is None:
            return dict(self._saved.get("diagnostics", {}))
        own, other = self._path.outputs(self._log_tau), self._companion.outputs(self._log_tau)
        size = np.maximum(1.0, np.abs(own).max(axis=1))
        return plain(
            {
                "status": self.status,
                "global_error_outputs": float(np.max(np.abs(own - other).max(axis=1) / size)),
                "drift": self._path.drifts(),
                "frames": self._path.frames(),
                "slaving_error": self.settings["slaving_error"],
                "counts": self.counts,
            }
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write times, statistics, errors, events, settings and the last weights to an .npz file (no pickle)."""
        header = {
            "events": [vars(event) for event in self.events],
            "status": self.status,
            "message": self.message,
            "settings": self.settings,
            "counts": self.counts,
            "wall_s": self.wall_s,
            "diagnostics": self.diagnostics,
        }
        arrays = {"tau": self.tau, "s": self.s, "t": self.t, "log_t": self.log_t, "log_tau": self._log_tau}
        arrays |= {f"stats/{name}": values for name, values in self.stats.items()}
        arrays |= {f"errors/{name}": values for name, values in self.errors.items()}
        arrays |= self._last_arrays()
        with replacing("path", path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(plain(header), allow_nan=False)), **arrays)  # type: ignore[arg-type]

    def _last_arrays(self) -> dict[str, Floats]:
        """Return what is saved of the end: w where there is one, else the parameters."""
        name = "weights" if self._path is None and "weights" in self._saved else "parameters"
        if self._path is not None and self._path.linear:
            name = "weights"
        return {name: self.weights(-1) if name == "weights" else self.parameters(-1)[0]}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is missing, truncated, pickled, or not a saved trajectory.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            _check_saved(arrays, header)
            stats = {name[6:]: values for name, values in arrays.items() if name.startswith("stats/")}
            errors = {name[7:]: values for name, values in arrays.items() if name.startswith("errors/")}
            events = tuple(_event(entry) for entry in header["events"])
            return cls(
                arrays["tau"], arrays["s"], arrays["t"], arrays["log_t"], stats, errors, events, header["status"],
                header["message"], header["settings"], header["counts"], header["wall_s"], arrays["log_tau"],
                _saved={name: arrays[name] for name in _OF_END if name in arrays}
                | {"diagnostics": header["diagnostics"]},
            )  # fmt: skip
        except _UNREADABLE as problem:
            raise InputError("path", f"{path} ({problem})", "a file written by Trajectory.save") from None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the save points as a table: t, log_t, tau, s, every statistic; empty where a number is not finite."""
        columns = {"t": self.t, "log_t": self.log_t, "tau": self.tau, "s": self.s} | self.stats
        with replacing("path", path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in zip(*columns.values(), strict=True):
                writer.writerow([f"{x:.17g}" if math.isfinite(x) else "" for x in row])

    def plot(self) -> Figure:
        """Return a figure of accuracies (or loss) and cosines against s (or log t)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        x, label = (self.s, "s = λt / log α") if np.isfinite(self.s).all() else (self.log_t, "log t")
        shown = [name for name in self.stats if name.endswith("_accuracy")] or ["log_train_loss"]
        for name in shown:
            upper.plot(x, self.stats[name], label=name.replace("_", " "))
        for name in [n for n in self.stats if n.startswith("cos_")] or ["log_norm"]:
            lower.plot(x, self.stats[name], label=name.replace("_", " "))
        upper.set_ylabel("accuracy" if shown[0].endswith("accuracy") else "log loss")
        lower.set_ylabel("cosine" if any(name.startswith("cos_") for name in self.stats) else "log norm")
        for axes in (upper, lower):
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
            axes.ticklabel_format(axis="y", useOffset=False)
            if axes.get_ylabel() in ("accuracy", "cosine"):
                axes.set_ylim(min(axes.get_ylim()[0], 0.45), 1.03)
        lower.set_xlabel(label)
        return figure


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The flow at one time, with the companion run for the error of anything made of it.

    Attributes
    ----------
    path, companion : FlowPath
        The run, and that at ten times the tolerance.
    log_tau : float
        The time: log(lambda t), or log t without weight decay.
    """

    path: FlowPath = field(repr=False)
    companion: FlowPath = field(repr=False)
    log_tau: float

    def __getitem__(self, name: str) -> float:
        """Return a statistic."""
        self._check(name)
        return float(self.path.statistics(np.array([self.log_tau]), [name])[name][0])

    def error(self, name: str) -> float:
        """Return the estimated global error of a statistic, at least its round-off."""
        self._check(name)
        return self._estimate(lambda now: now[name], 0.0 if name in SIZES else 1.0)[1]

    def estimate(self, measure: Callable[[Snapshot], float]) -> tuple[float, float]:
        """Return (value, estimated global error) of any number of order one, or a logarithm, made of a snapshot.

        The error is the largest distance to the companion run at this time, one before and one after it within about a
        step, plus the local tolerance and what slaving the residuals of the squared loss may bring (`diagnostics`),
        both relative to |value| or 1, whichever is larger.

        Examples
        --------
        >>> import theorykit as tk
        >>> data = tk.datasets.sparse_sign(n=4, d=10, k=3, seed=0)
        >>> problem = tk.Problem(tk.models.DiagonalNet(d=10), data, log_alpha=30.0, log_weight_decay=-30.0)
        >>> flow = tk.gradient_flow(problem, s_end=0.6)
        >>> size, error = flow.at(s=0.5).estimate(lambda now: now.h[1])
        >>> bool(size > 0.0 and error < 1e-6)
        True
        """
        return self._estimate(measure, 1.0)

    def _estimate(self, measure: Callable[[Snapshot], float], smallest: float) -> tuple[float, float]:
        """Return value and error; what is relative counts relative to |value|, at least to `smallest`."""
        own = measure(self)
        distance = _gap(own, measure(self.looser))
        distance = max(distance, *(_gap(measure(at), measure(at.looser)) for at in self._neighbours))
        relative = self.path.rtol + float(self.path.slaving_errors(np.array([self.log_tau]))[0])
        return own, distance + relative * max(abs(own), smallest)

    @cached_property
    def _neighbours(self) -> tuple[Snapshot, Snapshot]:
        """The flow a part of the companion's step earlier and later (twice earlier at the end).

        The error of dense output changes its sign several times in a step, and so does the difference of two runs: at
        one time alone it is too small by chance too often.
        """
        ends = self.companion.step_ends()
        step = min(max(int(np.searchsorted(ends, self.log_tau)), 1), ends.size - 1) if ends.size > 1 else 0
        shift = _APART * float(ends[step] - ends[step - 1]) if step else 0.0
        later = self.log_tau + shift
        if later > min(self.path.end, self.companion.end):
            later = self.log_tau - 2.0 * shift
        return replace(self, log_tau=self.log_tau - shift), replace(self, log_tau=later)

    @cached_property
    def looser(self) -> Snapshot:
        """The companion run at the same time."""
        return Snapshot(self.companion, self.companion, self.log_tau)

    @property
    def names(self) -> list[str]:
        """The names of the statistics."""
        return self.path.names

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise unknown_name("name", str(name), self.names)

    @cached_property
    def weights(self) -> Floats:
        """The linear predictor w, shape (d,)."""
        return self.path.weights(np.array([self.log_tau]))[0]

    @cached_property
    def companion_weights(self) -> Floats:
        """The same from the run at ten times the tolerance."""
        return self.looser.weights

    def companion_outputs(self, X: ArrayLike) -> Floats:
        """Return the same from the run at ten times the tolerance."""
        return self.looser.outputs(X)

    @cached_property
    def _parameters(self) -> tuple[Floats, float]:
        units, logs = self.path.parameters(np.array([self.log_tau]))
        return units[0], float(logs[0])

    @property
    def direction(self) -> Floats:
        """theta/|theta|, shape (P,)."""
        return self._parameters[0]

    @property
    def log_norm(self) -> float:
        """log|theta|: theta itself may leave the float range."""
        return self._parameters[1]

    @cached_property
    def log_coordinates(self) -> tuple[Floats, Floats]:
        """log|u| and log|v|, shapes (d,)."""
        log_u, log_v = self.path.log_coordinates(np.array([self.log_tau]))
        return log_u[0], log_v[0]

    @cached_property
    def h(self) -> tuple[Floats, float]:
        """h/|h|, shape (P,), and log|h|, where h = alpha^L e^(-L tau) delta and delta = e^tau theta/alpha - theta_bar.

        Raises
        ------
        InputError
            The flow does not start from zero output.
        """
        return self.path.displacement(self.log_tau)

    def outputs(self, X: ArrayLike | None = None) -> Floats:
        """Return f(theta; x), shape (k,) or (k, classes), on inputs X, or on the training inputs."""
        model = self.path.problem.model
        return self.path.outputs_on(self.log_tau, None if X is None else model.inputs(X))

    @cached_property
    def gradient(self) -> tuple[Floats, float]:
        """Direction, shape (P,), and log norm of grad L(theta), L the mean loss without weight decay.

        With it dh/dtau = -L h - sigma^(L-1)/lambda grad L(theta), sigma = alpha e^(-tau), and
        dtheta/dtau = -theta - grad L(theta)/lambda.
        """
        problem = self.path.problem
        slopes, log_scale = self.path.slopes(self.log_tau)
        pulled = problem.model.vjp(self.direction, problem.data.X, (slopes.T * problem.shares).T)
        return unit_and_log(pulled, log_scale + (problem.model.degree - 1) * self.log_norm)

    @cached_property
    def log_loss_rates(self) -> tuple[float, float, float]:
        """The two parts of d(log L)/dtau = sign e^g - e^a as (sign, g, a), L the mean loss.

        sign e^g = -(degree/L) sum_i p_i loss'_i f_i is what weight decay gives back, e^a = |grad L|^2/(lambda L) what
        the gradient takes. Without weight decay (0, -inf, a), and d(log L)/dt = -e^a.
        """
        problem = self.path.problem
        log_loss = self["log_train_loss"]
        taken = 2.0 * self.gradient[1] - log_loss
        if problem.log_weight_decay == -math.inf:
            return 0.0, -math.inf, taken
        slopes, log_scale = self.path.slopes(self.log_tau)
        f = self.outputs()
        given = -problem.model.degree * float(np.sum((slopes * f).T * problem.shares))
        log_given = math.log(abs(given)) + log_scale - log_loss if given != 0.0 else -math.inf
        return float(np.sign(given)), log_given, taken - problem.log_weight_decay


def _gap(own: float, other: float) -> float:
    return 0.0 if own == other else abs(own - other)


def _log_time(problem: Problem, given: Mapping[str, float | None]) -> tuple[str, float]:
    """Return which time was given, and log tau there (log t without weight decay)."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise InputError("s", " and ".join(names) or "no time", "exactly one of s, tau, log_tau and log_t")
    [name] = names
    decaying = problem.log_weight_decay > -math.inf
    if name in ("log_tau", "log_t"):
        shift = problem.log_weight_decay if name == "log_t" and decaying else 0.0
        return name, finite(name, given[name]) + shift
    time = finite(name, given[name], above=0.0)
    if name == "tau" and not decaying:
        raise InputError("tau", f"{time:g} with weight_decay = 0", "log_t, since slow time needs weight decay")
    return name, math.log(problem.tau_at(time) if name == "s" else time)


def _in_clock(problem: Problem, name: str, log_tau: float) -> float:
    """Return a time as `name` measures it."""
    if name == "log_tau":
        return log_tau
    if name == "log_t":
        return log_tau - (problem.log_weight_decay if problem.log_weight_decay > -math.inf else 0.0)
    return math.exp(log_tau) / (problem.log_alpha if name == "s" else 1.0)


def unit_directions(directions: Mapping[str, ArrayLike] | None, d: int) -> dict[str, Floats]:
    """Return the directions at norm 1; `InputError` if they are not d finite numbers each, not all 0."""
    if directions is None:
        return {}
    if not isinstance(directions, Mapping):
        raise InputError("directions", repr(directions), "a dict of vectors by name")
    return {name: _unit(f"directions[{name!r}]", w, d) for name, w in directions.items()}


def _unit(argument: str, w: ArrayLike, d: int) -> Floats:
    direction = vector(argument, w)
    if direction.size != d:
        raise InputError(argument, f"{direction.size} entries", f"{d}, one for each feature")
    size = float(np.abs(direction).max())
    if size == 0.0:
        raise InputError(argument, "all zeros", "a direction")
    direction = direction / size  # so that the norm neither overflows nor underflows
    return np.asarray(direction / np.linalg.norm(direction))


def _check_saved(arrays: Mapping[str, Any], header: Any) -> None:
    """Raise ValueError where a file has the right entries of the wrong kind."""
    size = arrays["tau"].shape
    for name, values in arrays.items():
        if values.dtype.kind != "f" or (name not in _OF_END and values.shape != size) or values.ndim != 1:
            raise ValueError(f"{name} is not what it should be")
    if header["status"] not in _STATUSES:
        raise ValueError(f"status {header['status']!r}")
    kinds: dict[str, Any] = {
        "message": str,
        "settings": dict,
        "counts": dict,
        "wall_s": (int, float),
        "diagnostics": dict,
    }
    for name, kind in kinds.items():
        if not isinstance(header[name], kind):
            raise ValueError(f"{name} is not what it should be")


def _event(saved: dict[str, Any]) -> Event:
    """Return an event as it was before strict JSON made null of an infinite error and an undefined s."""
    nulls: dict[str, Any] = {"error": math.inf, "log_t_error": math.inf, "tau": math.inf}
    return Event(**{key: nulls.get(key, math.nan) if value is None else value for key, value in saved.items()})
