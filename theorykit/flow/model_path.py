"""Reading the flow of any model on its dense output: statistics, parameters, and the identities it has to obey."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.threads import one_blas_thread
from theorykit.flow.frames import KERNEL, Field
from theorykit.flow.loss_clock import LossClock
from theorykit.flow.model_flow import Integration, Run, Segment, check_scale, starts_at_zero
from theorykit.flow.ode.methods import METHODS
from theorykit.flow.ode.stepping import Status
from theorykit.flow.path import scaled_slopes, unit_and_log
from theorykit.flow.problem import Problem
from theorykit.losses import log_losses, margins
from theorykit.models import DiagonalNet, Inputs, Linear

if TYPE_CHECKING:
    from theorykit.flow.keeper import Keeper

Floats = NDArray[np.float64]

_ENTRIES_AT_ONCE = 2**23  # parameters held in memory while test points are streamed
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_NODES, _WEIGHTS = 0.5 * (1.0 + _NODES), 0.5 * _WEIGHTS  # on [0, 1]
_LOST = (
    "from {} on some directions of the tangent kernel are below round-off, and nothing is known of what may "
    "grow along them again: the errors say so"
)
_STUCK = (
    "no step succeeds any more: what drives the flow leaves the float range there, or cannot be resolved at such "
    "scales; try a smaller log_alpha, another rtol, or a start with zero output"
)
_LARGE = 10_000  # parameters
_WIDEST = 2.0  # of an interval of quadrature, in either clock


@dataclass(frozen=True, eq=False)
class ModelPath:
    """A flow of any model that can be read at any log tau."""

    problem: Problem
    integration: Integration
    directions: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Why it ended."""
        return self.integration.status.name.lower()

    @property
    def message(self) -> str:
        """What that means and what to do about it."""
        status, slides = self.integration.status, self.integration.slides
        parts = [_STUCK if status in (Status.NOT_FINITE, Status.NO_CONVERGENCE) else status.value]
        if slides:
            first, last = (self._clock(log_tau) for log_tau in (slides[0][0], slides[-1][1]))
            parts.append(f"slid along kinks between {first} and {last}, in {len(slides)} stretches")
        if math.isfinite(self.integration.lost_from):
            parts.append(_LOST.format(self._clock(self.integration.lost_from)))
        return "; ".join(parts)

    def _clock(self, log_tau: float) -> str:
        """Return a time in words."""
        decaying = self.problem.log_weight_decay > -math.inf
        return f"tau = {_exp(log_tau):.6g}" if decaying else f"log t = {log_tau:.6g}"

    @property
    def counts(self) -> dict[str, int]:
        """Steps and evaluations."""
        return self.integration.counts

    @property
    def rtol(self) -> float:
        """The tolerance."""
        return self.integration.rtol

    @property
    def slaving_error(self) -> float:
        """Relative error that slaving the residual has brought, up to where directions are lost; 0 where it was not."""
        return float(self.slaving_errors(np.array([min(self.end, self.integration.before_loss)]))[0])

    def slaving_errors(self, log_taus: Floats) -> Floats:
        """Return that error at each time, shape (k,)."""
        times, errors = self.integration.slaving
        return np.interp(log_taus, times, errors, left=0.0) if times else np.zeros(log_taus.size)

    @property
    def linear(self) -> bool:
        """Whether the model is linear in x, so that there are weights."""
        return _is_linear(self.problem)

    @property
    def start(self) -> float:
        """The log tau at which the integration began; before it the state moves in proportion to tau."""
        return self.integration.segments[0].start

    @property
    def end(self) -> float:
        """The log tau at which it ended."""
        return float(self.integration.segments[-1].log_tau_ends()[-1])

    def step_ends(self) -> Floats:
        """Return the log tau of every accepted step's end."""
        return np.concatenate([segment.log_tau_ends() for segment in self.integration.segments])

    def pointed(self, directions: Mapping[str, Floats]) -> ModelPath:
        """Return the same flow with other directions."""
        return replace(self, directions=directions)

    @cached_property
    def names(self) -> list[str]:
        """The statistics that apply."""
        return statistic_names(self.problem, self.directions)

    def state(self, log_tau: float) -> tuple[Field, Floats]:
        """Return the frame in use at a time, and the state in it."""
        segment = self._segment(log_tau)
        field, x = segment.state(log_tau)
        if log_tau < self.start:
            field, origin = segment.field, self.integration.origin
            x = origin + math.exp(log_tau - self.start) * (x - origin)
        return _sliding(field, log_tau, x), x

    def _segment(self, log_tau: float) -> Segment:
        """Return the stretch that a time lies in."""
        segments = self.integration.segments
        return segments[min(int(np.searchsorted(self._ends, log_tau)), len(segments) - 1)]

    @cached_property
    def _ends(self) -> Floats:
        """The log tau at which each segment ends."""
        return np.array([segment.log_tau_ends()[-1] for segment in self.integration.segments])

    def outputs(self, log_taus: Floats) -> Floats:
        """Return f_i, shape (k, outputs of all samples)."""
        rows = []
        for log_tau in log_taus:
            now, x = self.state(float(log_tau))
            rows.append(now.outputs(float(log_tau), x).ravel())
        return np.array(rows)

    def outputs_on(self, log_tau: float, inputs: Inputs | None) -> Floats:
        """Return f at one time on other inputs, or those of the training data (None)."""
        now, x = self.state(log_tau)
        return now.outputs(log_tau, x, inputs)

    def slopes(self, log_tau: float) -> tuple[Floats, float]:
        """Return d loss_i/df_i at one time, shaped as the outputs, and the logarithm of a scale that multiplies it."""
        now, x = self.state(log_tau)
        if self.problem.loss == "squared":
            mantissa, log_scale = now.residuals(log_tau, x)
            return 2.0 * mantissa, log_scale
        return scaled_slopes(self.problem, now.outputs(log_tau, x))

    def displacement(self, log_tau: float) -> tuple[Floats, float]:
        """Return h = alpha^L e^(-L tau) (theta/sigma - theta_bar) at one time: unit vector (P,) and log norm."""
        if not self.integration.zero_output:
            raise InputError("h", "a start whose output is not zero", "a flow from a direction of zero output")
        now, x = self.state(log_tau)
        if now.frame == KERNEL:
            return unit_and_log(x)
        log_sigma = now.log_sigma(log_tau)
        return unit_and_log(x - _exp(log_sigma) * self.problem.direction, (self.problem.model.degree - 1) * log_sigma)

    def parameters(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return theta/|theta|, shape (k, P), and log|theta|, shape (k,)."""
        units, logs = [], []
        for log_tau in map(float, log_taus):
            now, x = self.state(log_tau)
            moved = now.moved(log_tau, x)
            size = float(np.linalg.norm(moved))
            units.append(moved / max(size, 1e-300))
            logs.append(_log(size) + now.log_scale(log_tau))
        return np.array(units), np.array(logs)

    def weights(self, log_taus: Floats) -> Floats:
        """Return the linear predictors w, shape (k, d): the outputs on the unit vectors."""
        _require_linear(self.problem)
        units = self.problem.model.inputs(np.eye(self.problem.data.d))
        rows = []
        for log_tau in map(float, log_taus):
            now, x = self.state(log_tau)
            rows.append(now.outputs(log_tau, x, units))
        return np.array(rows)

    def log_coordinates(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return log|u| and log|v| of a diagonal net, shapes (k, d)."""
        if not isinstance(self.problem.model, DiagonalNet):
            raise InputError("log_coordinates", f"a {self.problem.model.name} model", "a diagonal net")
        units, log_norms = self.parameters(log_taus)
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(units)) + log_norms[:, None]
        u, v = np.split(logs, 2, axis=1)
        return u, v

    def statistics(self, log_taus: Floats, names: Sequence[str] | None = None) -> dict[str, Floats]:
        """Return each statistic at each time, shape (k,)."""
        names = self.names if names is None else list(names)
        other = {name for name in names if not name.startswith("test_")}
        with one_blas_thread():
            rows = [self._statistics(float(log_tau), other) for log_tau in log_taus] if other else []
            columns = {name: np.array([row[name] for row in rows]) for name in other}
            if len(other) < len(names):
                columns |= self._on_test_points(log_taus)
        return {name: columns[name] for name in names}

    def _statistics(self, log_tau: float, wanted: set[str]) -> dict[str, float]:
        now, x = self.state(log_tau)
        out: dict[str, float] = {}
        size = float(np.linalg.norm(now.moved(log_tau, x)))
        out["log_norm"] = _log(size) + now.log_scale(log_tau)
        out["norm"] = _exp(out["log_norm"])
        if wanted & {"train_loss", "log_train_loss", "train_accuracy", "margin", "output_margin"}:
            out |= self._training(now, log_tau, x, out["log_norm"])
        if "log_delta" in wanted:
            out["log_delta"] = self._log_delta(now, log_tau, x)
        if any(name.startswith(("cos_", "transition")) for name in wanted):
            out |= self._cosines(log_tau)
        return out

    def _training(self, now: Field, log_tau: float, x: Floats, log_norm: float) -> dict[str, float]:
        data, f = self.problem.data, self._segment(log_tau).field.off_kinks(now).outputs(log_tau, x)
        log_loss = now.log_loss(log_tau, x, f)
        out = {"log_train_loss": log_loss, "train_loss": _exp(log_loss)}
        if data.task != "regression":
            q = margins(f, data.y)
            smallest = float(q.min())
            out["train_accuracy"] = float(np.average(q > 0.0, weights=data.weights))
            out["output_margin"] = smallest
            out["margin"] = math.copysign(_exp(_log(abs(smallest)) - self.problem.model.degree * log_norm), smallest)
        return out

    def _log_delta(self, now: Field, log_tau: float, x: Floats) -> float:
        """Return log(|delta|/|theta_bar|), delta = theta/sigma - theta_bar."""
        size = _log(float(np.linalg.norm(self.problem.direction)))
        if now.frame == KERNEL:
            return now.log_eps(log_tau) + _log(float(np.linalg.norm(x))) - size
        log_sigma = now.log_sigma(log_tau)
        distance = float(np.linalg.norm(x - _exp(log_sigma) * self.problem.direction))
        return _log(distance) - log_sigma - size

    def _cosines(self, log_tau: float) -> dict[str, float]:
        w = self.weights(np.array([log_tau]))[0]
        norm = float(np.linalg.norm(w))
        out = {f"cos_{name}": float(w @ u) / norm if norm > 0.0 else 0.0 for name, u in self.directions.items()}
        if {"kernel", "rich"} <= set(self.directions):
            kernel, rich = (math.acos(min(max(out[f"cos_{name}"], -1.0), 1.0)) for name in ("kernel", "rich"))
            out["transition"] = kernel / max(kernel + rich, 1e-300)
        return out

    def _on_test_points(self, log_taus: Floats) -> dict[str, Floats]:
        """Return mean test loss and accuracy at each time, from test points that are streamed once for many times."""
        rows = max(1, _ENTRIES_AT_ONCE // self.problem.model.parameters)
        parts = [self._tested(log_taus[start : start + rows]) for start in range(0, log_taus.size, rows)]
        losses, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert self.problem.data.test is not None
        count = self.problem.data.test.n
        return {"test_loss": losses / count, "test_accuracy": right / count}

    def _tested(self, log_taus: Floats) -> tuple[Floats, Floats]:
        data, times = self.problem.data, [float(log_tau) for log_tau in log_taus]
        states = [self.state(log_tau) for log_tau in times]
        losses, right = np.zeros(len(times)), np.zeros(len(times))
        for inputs, y in self._test_blocks():
            for k, (log_tau, (now, x)) in enumerate(zip(times, states, strict=True)):
                f = now.outputs(log_tau, x, inputs)
                losses[k] += _total_loss(self.problem.loss, f, y)
                if data.task != "regression":
                    right[k] += np.sum(margins(f, y) > 0.0)
        return losses, right

    def _test_blocks(self) -> Iterator[tuple[Inputs, NDArray[Any]]]:
        assert self.problem.data.test is not None
        for X, y in self.problem.data.test.blocks(rows=_rows(self.problem)):
            yield self.problem.model.inputs(X), y

    def frames(self) -> list[dict[str, Any]]:
        """Return the frames in the order in which they were used, neighbours of one kind merged."""
        out: list[dict[str, Any]] = []
        for segment in self.integration.segments:
            now, steps = segment.field, len(segment.records)
            clock = "loss" if segment.by_loss else "log tau" if now.log_clock else "tau"
            clock = clock if now.since is None else "log since a kink"
            entry = {"frame": now.frame, "clock": clock, "slaved": now.slaved, "method": segment.method}
            entry["sliding"] = len(now.held)
            until = _exp(float(segment.log_tau_ends()[-1]))
            if out and all(out[-1][key] == value for key, value in entry.items()):
                out[-1] |= {"until_tau": until, "steps": out[-1]["steps"] + steps}
            else:
                out.append(entry | {"until_tau": until, "steps": steps})
        return out

    def drifts(self) -> dict[str, float | None]:
        """Return the largest relative drift of each identity along the path.

        Returns
        -------
        dict
            ``norm``: the residual of d(|theta|^2 e^(2 tau))/dtau = -(2L/lambda) e^(2 tau) sum_i p_i loss'_i f_i,
            relative to the sum of the absolute terms, accumulated; ``energy``: sum over steps of the residual relative
            to the energy at the step's start; ``balancedness``: change of what the model conserves, the largest entry
            relative to the largest of the same expressions with absolute terms; None where the model knows no
            invariants. For lambda = 0 they are those of d|theta|^2/dt = -2L sum_i p_i loss'_i f_i and d(log L)/dt =
            -|grad L|^2/L; norm and energy are None for the squared loss there, whose residuals fall to round-off.
        """
        formed = self.problem.log_weight_decay > -math.inf or self.problem.loss != "squared"
        with one_blas_thread():
            norm, energy = self._norm_and_energy() if formed else (None, None)
            return {"norm": norm, "energy": energy, "balancedness": self._balancedness()}

    def _balancedness(self) -> float | None:
        first = self.problem.model.invariants(self.problem.direction)
        if first.values.size == 0:
            return None
        worst = 0.0
        ends = self.step_ends()
        for log_tau in map(float, ends[np.unique(np.linspace(0, ends.size - 1, 40).astype(np.intp))]):
            now, x = self.state(log_tau)
            here = self.problem.model.invariants(now.moved(log_tau, x))
            expected = first.values * _exp(first.degree * (now.log_sigma(log_tau) - now.log_scale(log_tau)))
            scale = max(float(np.max(here.scale)), 1e-300)
            worst = max(worst, float(np.max(np.abs(here.values - expected))) / scale)
        return worst

    def _norm_and_energy(self) -> tuple[float, float]:
        """Follow both identities over all steps by Gauss quadrature on the dense output."""
        drift, worst, energy = 0.0, 0.0, 0.0
        for segment in self.integration.segments:
            before: _Terms | None = None
            for start, end in _intervals(segment):
                before = before or _Terms.at(self.problem, segment, start)
                after = _Terms.at(self.problem, segment, end)
                inner = [_Terms.at(self.problem, segment, start + node * (end - start)) for node in _NODES]
                kept = _exp(before.log_norm2 - after.log_norm2)
                terms = [(end - start) * w * t.source(after) for w, t in zip(_WEIGHTS, inner, strict=True)]
                scale = 1.0 + kept + sum(abs(term) for term in terms)
                drift = drift * kept + 2.0 * (1.0 - kept - sum(terms)) / scale
                worst = max(worst, abs(drift))
                fall = after.log_energy - before.log_energy
                # without weight decay the loss may fall by powers of ten in a step: its logarithm does so evenly
                whole = [before.log_energy if segment.field.decaying else t.log_energy for t in inner]
                spent = [
                    (end - start) * w * _exp(t.log_power - log_energy)
                    for w, t, log_energy in zip(_WEIGHTS, inner, whole, strict=True)
                ]
                energy += abs((math.expm1(fall) if segment.field.decaying else fall) + sum(spent))
                before = after
        return worst, energy


class ModelEngine:
    """Integration in the kernel and rich frames."""

    def __init__(self, problem: Problem, directions: Mapping[str, Floats], method: str) -> None:
        if method not in METHODS:
            raise unknown_name("method", str(method), [*METHODS, "dual"])
        self.problem, self.directions, self.method = problem, directions, method
        self.names = statistic_names(problem, directions)
        self.zero_output = starts_at_zero(problem)
        check_scale(problem, self.zero_output)
        self.keeper: Keeper[Run] | None = None
        self.max_steps: int | None = None

    @property
    def large(self) -> bool:
        """Whether the model is, so that most of the time goes into products, which leave Python to the other run."""
        return self.problem.model.parameters >= _LARGE

    @property
    def settings(self) -> dict[str, Any]:
        """How it integrates."""
        return {
            "method": f"{self.method}, kernel and rich frames",
            "state": "parameters",
            "dimension": self.problem.model.parameters,
            "zero_output": self.zero_output,
        }

    def keep(self, path: str | os.PathLike[str], every: float, what: Sequence[Any]) -> None:
        """Have the states of the runs kept in a file."""
        from theorykit.flow.keeper import Keeper
        from theorykit.flow.model_checkpoint import pack, unpack

        self.keeper = Keeper(path, every, what, pack, unpack)

    def run(self, log_tau_end: float, rtol: float, progress: Callable[[float], None] | None) -> ModelPath | None:
        """Integrate to tau_end = exp(log_tau_end); None where not even one step succeeds."""
        run = Run(self.problem, self.zero_output, log_tau_end, rtol, self.method)
        if self.max_steps is not None:
            run.max_steps = self.max_steps
        if self.keeper is not None:
            self.keeper.resume(rtol, run)
            if progress is not None:  # of a run that had ended, too
                progress(run.fraction)
        while run.status is Status.RUNNING:
            run.step()
            if progress is not None:
                progress(run.fraction)
            if self.keeper is not None:
                self.keeper.keep(rtol, run)
        integration = run.result()
        return ModelPath(self.problem, integration, self.directions) if integration.segments else None


@dataclass(frozen=True)
class _Terms:
    """What the identities need at one time.

    Attributes
    ----------
    log_norm2 : float
        log(|theta|^2 e^(2 tau)); tau is 0 without weight decay.
    sign, log_source : float
        Of the derivative of |theta|^2 e^(2 tau) in the clock.
    log_energy, log_power : float
        Logarithms of L_lambda and of its rate of fall in the clock.
    """

    log_norm2: float
    sign: float
    log_source: float
    log_energy: float
    log_power: float

    @classmethod
    def at(cls, problem: Problem, segment: Segment, clock: float) -> _Terms:
        field, log_tau, x = segment.at(clock)
        now = _sliding(field.at(clock), log_tau, x)
        tau, log_lambda = (math.exp(log_tau), problem.log_weight_decay) if now.decaying else (0.0, 0.0)
        f = now.outputs(log_tau, x)
        log_loss = now.log_loss(log_tau, x, f)
        moved = now.moved(log_tau, x)
        log_norm = _log(float(np.linalg.norm(moved))) + now.log_scale(log_tau)
        c = now.cotangent_at(log_tau, x, f)
        # sum_i c_i f_i is sigma^(2(L-1)) times the source over 2 L, per unit of the clock
        total = float(np.sum(c * f))
        shift = 2.0 * (problem.model.degree - 1) * now.log_scale(log_tau)
        log_source = math.log(2.0 * problem.model.degree) + _log(abs(total)) - shift + 2.0 * tau
        log_decay = log_lambda - math.log(2.0) + 2.0 * log_norm if now.decaying else -math.inf
        pace = 0.0  # log of d(log t)/ds in the clock s of the loss
        if segment.by_loss:
            pace = math.log(LossClock(now).pace(x)) - now.log_stiffness(log_tau) - log_loss - log_tau
        return cls(
            2.0 * (log_norm + tau), math.copysign(1.0, total), log_source + pace,
            float(np.logaddexp(log_loss, log_decay)), log_lambda + 2.0 * now.log_speed(log_tau, x, f) + pace,
        )  # fmt: skip

    def source(self, after: _Terms) -> float:
        """Return the source relative to |theta|^2 e^(2 tau) at the end of the interval."""
        return self.sign * _exp(self.log_source - after.log_norm2)


def _sliding(field: Field, log_tau: float, x: Floats) -> Field:
    """Return the field with the slopes of the kinks that it is held at, or those with which the stretch began.

    Where the dense output is a little off a kink there may be none that hold the flow.
    """
    now = field.sliding(log_tau, x)
    return field if now.inputs.piece is not None and not np.all(np.isfinite(now.inputs.piece)) else now


def _intervals(segment: Segment) -> Iterator[tuple[float, float]]:
    """Yield the steps of a segment in its clock, wide ones cut up: over them e^(-2 tau), or t, is no polynomial.

    In the clock of the loss everything is of order one.
    """
    widest = math.inf if segment.by_loss else _WIDEST
    for start, end in zip(segment.times, segment.ends, strict=True):
        cuts = np.linspace(start, end, max(1, math.ceil((end - start) / widest)) + 1)
        yield from zip(map(float, cuts[:-1]), map(float, cuts[1:]), strict=True)


def statistic_names(problem: Problem, directions: Mapping[str, Floats]) -> list[str]:
    """Return the statistics that apply to a problem."""
    if directions:
        _require_linear(problem)
    data = problem.data
    names = ["train_loss", "log_train_loss", "norm", "log_norm"]
    if data.task != "regression":
        names += ["train_accuracy", "margin", "output_margin"]
    if problem.log_weight_decay > -math.inf and problem.direction.any():
        names.append("log_delta")
    names += [f"cos_{name}" for name in directions]
    if {"kernel", "rich"} <= set(directions):
        names.append("transition")
    if data.test is not None:
        names += ["test_loss"] + (["test_accuracy"] if data.task != "regression" else [])
    return names


def _is_linear(problem: Problem) -> bool:
    return isinstance(problem.model, (DiagonalNet, Linear)) and problem.model.outputs == 1


def _require_linear(problem: Problem) -> None:
    if not _is_linear(problem):
        raise InputError("weights", f"a {problem.model.name} model", "one that is linear in x: the others have no w")


@np.errstate(over="ignore", under="ignore")
def _total_loss(loss: str, f: Floats, y: NDArray[Any]) -> float:
    """Return the sum of the samples' losses."""
    return float(np.sum((f - y) ** 2 if loss == "squared" else np.exp(log_losses(loss, f, y))))


def _rows(problem: Problem) -> int:
    """Return how many test points are read at a time, so that the outputs of a layer stay in tens of megabytes."""
    return max(64, min(16_384, 2**22 // max(1, problem.data.d)))


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _exp(x: float) -> float:
    """Return e^x, infinite past the float range."""
    return math.exp(x) if x < 709.0 else math.inf
