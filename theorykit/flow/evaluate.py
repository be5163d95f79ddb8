"""Reading a flow anywhere on its dense output: outputs, weights, coordinates, and the statistics made of them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.threads import one_blas_thread
from theorykit.flow import _diagonal as compiled
from theorykit.flow.path import scaled_slopes, unit_and_log
from theorykit.flow.problem import Problem
from theorykit.flow.reduction import (
    MOST_STEPS,
    SLAVING_ERROR,
    Frame,
    Integration,
    Reduction,
    Run,
    Segment,
    Status,
    reduce,
)
from theorykit.losses import SQUARED, log_loss, loss_code
from theorykit.models import Inputs

if TYPE_CHECKING:
    from theorykit.flow.keeper import Keeper

Floats = NDArray[np.float64]

_LARGE = 2**20  # entries of X from which two runs side by side gain more than they disturb each other
_ENTRIES_AT_ONCE = 2**22  # coordinates held in memory at a time (32 MiB an array)
_TEST_ENTRIES_AT_ONCE = 2**26  # for the test points, which are streamed once for every such batch of weights
_LINEAR = 1e-200  # of log u - log sigma below which the displacement is linear in the exponents to every digit
_ADVICE = {
    Status.REACHED_END: "reached the end",
    Status.STEP_TOO_SMALL: "the step size fell to round-off: try a larger rtol, or a shorter run to see where it is",
    Status.NOT_FINITE: "the right-hand side is not finite: check the scale of the data, and log_weight_decay",
    Status.TOO_MANY_STEPS: "the step limit was reached: try a larger rtol or max_steps, or a shorter run",
}


@dataclass(frozen=True, eq=False)
class Path:
    """A flow that can be read at any log tau; `directions` are unit vectors for the ``cos_`` statistics."""

    reduction: Reduction
    integration: Integration
    directions: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """What was simulated."""
        return self.reduction.problem

    @property
    def names(self) -> list[str]:
        """The statistics that apply."""
        return statistic_names(self.reduction, self.directions)

    def pointed(self, directions: Mapping[str, Floats]) -> Path:
        """Return the same flow with other directions."""
        return replace(self, directions=directions)

    def statistics(self, log_taus: Floats, names: Sequence[str] | None = None) -> dict[str, Floats]:
        """Return each statistic at each time, shape (k,)."""
        return statistics(self, log_taus, names)

    def drifts(self) -> dict[str, float | None]:
        """Return the largest relative drift of each exact identity."""
        from theorykit.flow.identities import drifts

        return drifts(self)

    @property
    def degree(self) -> int:
        """L."""
        return self.reduction.problem.model.degree

    @property
    def squared(self) -> bool:
        """Whether the loss is the squared one."""
        return loss_code(self.reduction.problem.loss) == SQUARED

    @property
    def status(self) -> str:
        """Why it ended."""
        return Status(self.integration.status).name.lower()

    @property
    def message(self) -> str:
        """What that means and what to do about it."""
        return _ADVICE[self.integration.status]

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
        """Relative error at which the residual of the squared loss was slaved; 0 where it was not."""
        return SLAVING_ERROR if any(segment.slaved for segment in self.integration.segments) else 0.0

    def slaving_errors(self, log_taus: Floats) -> Floats:
        """Return that error at each time, shape (k,)."""
        return np.full(log_taus.size, self.slaving_error)

    @property
    def linear(self) -> bool:
        """A diagonal net is linear in x."""
        return True

    @property
    def start(self) -> float:
        """The log tau at which the integration began; before it nothing has moved to round-off."""
        return float(self.integration.segments[0].times[0])

    @property
    def end(self) -> float:
        """The log tau at which it ended."""
        last = self.integration.segments[-1]
        return last.end if last.log_clock else math.log(last.end)

    def step_ends(self) -> Floats:
        """Return the log tau of every accepted step's end."""
        parts = [s.times + s.widths if s.log_clock else np.log(s.times + s.widths) for s in self.integration.segments]
        return np.concatenate(parts)

    def pieces(self, log_taus: Floats) -> Iterable[tuple[NDArray[np.intp], Segment, Floats]]:
        """Yield (indices, segment, clock times) so that together they cover `log_taus`."""
        segments = self.integration.segments
        ends = np.array([s.end if s.log_clock else math.log(s.end) for s in segments])
        owner = np.minimum(np.searchsorted(ends, log_taus, side="left"), len(segments) - 1)
        for index in np.unique(owner):
            segment = segments[index]
            where = np.flatnonzero(owner == index)
            clocks = log_taus[where] if segment.log_clock else np.exp(log_taus[where])
            yield where, segment, np.ascontiguousarray(np.minimum(clocks, segment.end))

    def _gather(self, log_taus: Floats, width: int, read: Callable[[Segment, Floats, Floats], Floats]) -> Floats:
        out = np.empty((log_taus.size, width))
        for where, segment, clocks in self.pieces(log_taus):
            out[where] = read(segment, clocks, segment.states(clocks))
        return out

    def outputs(self, log_taus: Floats) -> Floats:
        """Return q_i = y_i f_i (classification) or f_i (squared loss), shape (k, n)."""
        n = self.reduction.problem.data.n
        return self._gather(log_taus, n, lambda s, clocks, c: compiled.state_outputs(clocks, c, s.pack))

    def outputs_on(self, log_tau: float, inputs: Inputs | None) -> Floats:
        """Return f at one time on other inputs, or those of the training data (None)."""
        if inputs is not None:
            return np.asarray(inputs.values @ self.weights(np.array([log_tau]))[0])
        q = self.outputs(np.array([log_tau]))[0]
        return q if self.squared else q * self.problem.data.y

    def slopes(self, log_tau: float) -> tuple[Floats, float]:
        """Return d loss_i/df_i at one time, shape (n,), and the logarithm of a scale that multiplies it."""
        if self.squared:
            mantissa, log_scale = self.residuals(np.array([log_tau]))
            return 2.0 * mantissa[0], float(log_scale[0])
        return scaled_slopes(self.problem, self.outputs_on(log_tau, None))

    def displacement(self, log_tau: float) -> tuple[Floats, float]:
        """Return h = alpha^L e^(-L tau) (theta/sigma - theta_bar) at one time: unit vector (2d,) and log norm."""
        if not self.reduction.balanced:
            raise InputError("h", "a start whose output is not zero", "a flow from a multiple of (1, 1)")
        log_taus = np.array([log_tau])
        [(_, segment, clocks)] = self.pieces(log_taus)
        c = segment.states(clocks)
        parts = np.hstack(compiled.state_coordinates(clocks, c, segment.pack))[0]
        log_sigma = float(self.log_sigma(log_taus)[0])
        log_size = self.reduction.log_scale - self.problem.log_alpha  # theta_bar = e^log_size (1, 1)
        shift = (1 - self.degree) * log_size
        if segment.frame == Frame.RICH:
            parts = parts - log_sigma
        elif np.max(np.abs(parts)) < _LINEAR:
            b = compiled.exponents(c, segment.pack)[0]
            return unit_and_log(self.degree * np.concatenate([b, -b]), shift)
        largest = max(float(parts.max()), 0.0)  # e^largest leaves the float range late in the flow
        scaled = np.exp(parts - largest) - math.exp(-largest) if largest > 1.0 else np.expm1(parts)
        return unit_and_log(scaled, shift + self.degree * log_sigma + (largest if largest > 1.0 else 0.0))

    def weights(self, log_taus: Floats) -> Floats:
        """Return the linear predictors w, shape (k, d)."""
        d = self.reduction.problem.data.d
        return self._gather(log_taus, d, lambda s, clocks, c: compiled.state_weights(clocks, c, s.pack))

    def log_coordinates(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return log|u| and log|v|, shapes (k, d)."""
        shape = (log_taus.size, self.reduction.problem.data.d)
        log_u, log_v = np.empty(shape), np.empty(shape)
        for where, segment, clocks in self.pieces(log_taus):
            u, v = compiled.state_coordinates(clocks, segment.states(clocks), segment.pack)
            shift = self.log_sigma(log_taus[where])[:, None] if segment.frame == Frame.KERNEL else 0.0
            log_u[where], log_v[where] = u + shift, v + shift
        return log_u, log_v

    def parameters(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return theta/|theta|, shape (k, 2d), and log|theta|, shape (k,)."""
        log_norms = self.log_norm(log_taus)
        signs = np.concatenate(list(self.integration.segments[0].pack[6][2:]))
        logs = np.hstack(self.log_coordinates(log_taus))
        return signs * _exp(logs - log_norms[:, None]), log_norms

    def frames(self) -> list[dict[str, Any]]:
        """Return the frames in the order in which they were used, neighbours of one kind merged."""
        out: list[dict[str, Any]] = []
        for segment in self.integration.segments:
            clock = "log tau" if segment.log_clock else "tau"
            until = segment.end if not segment.log_clock else float(_exp(np.array(segment.end)))
            entry = {"frame": segment.frame.name.lower(), "clock": clock, "slaved": segment.slaved}
            if out and all(out[-1][key] == value for key, value in entry.items()):
                out[-1] |= {"until_tau": until, "steps": out[-1]["steps"] + segment.times.size}
            else:
                out.append(entry | {"until_tau": until, "steps": segment.times.size})
        return out

    def log_sigma(self, log_taus: Floats) -> Floats:
        """Return log(alpha c) - tau, the scale of a parameter that only decays."""
        decay = np.exp(log_taus) if self.reduction.problem.log_weight_decay > -math.inf else 0.0
        return self.reduction.log_scale - decay + np.zeros_like(log_taus)

    def residuals(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return f_i - y_i of the squared loss as (mantissas (k, n), logarithms of their scales (k,)).

        It comes from the state that carries it, rho; what no parameters can fit (targets outside the span) is added.
        """
        reduction = self.reduction
        n = reduction.problem.data.n
        mantissa, log_scale = np.empty((log_taus.size, n)), np.empty(log_taus.size)
        for where, segment, clocks in self.pieces(log_taus):
            rho = segment.integrated(clocks)[:, reduction.dimension :] * (0.5 * n / segment.pack[7][compiled.KAPPA])
            for row, clock in zip(where, clocks, strict=True):
                log_s, log_c, _ = compiled.residual_scale(clock, segment.pack)
                log_scale[row] = log_s - log_c - compiled.log_stiffness(clock, segment.pack)
            lift = segment.pack[3]
            mantissa[where] = rho @ np.linalg.pinv(lift) if lift.size else rho
        if reduction.span:
            lift, y = reduction.basis.lift, reduction.targets
            unfit = lift @ np.linalg.lstsq(lift, y, rcond=None)[0] - y
            if np.linalg.norm(unfit) > 1e-12 * np.linalg.norm(y):
                return mantissa * _exp(np.minimum(log_scale, 700.0))[:, None] + unfit, np.zeros_like(log_scale)
        return mantissa, log_scale

    def log_norm(self, log_taus: Floats) -> Floats:
        """Return log of the Euclidean norm of theta, shape (k,)."""
        return 0.5 * np.logaddexp(*(log_sum_of_squares(part) for part in self.log_coordinates(log_taus)))

    def log_delta(self, log_taus: Floats) -> Floats:
        """Return log(|delta|/|theta_bar|), delta = e^tau theta/alpha - theta_bar, of a balanced start, shape (k,)."""
        out = np.empty(log_taus.size)
        log_sigma = self.log_sigma(log_taus)
        d = self.reduction.problem.data.d
        for where, segment, clocks in self.pieces(log_taus):
            c = segment.states(clocks)
            parts = compiled.state_coordinates(clocks, c, segment.pack)
            if segment.frame == Frame.RICH:
                parts = tuple(part - log_sigma[where][:, None] for part in parts)
            elif np.max(np.abs(parts[0])) < _LINEAR:
                b = compiled.exponents(c, segment.pack)
                with np.errstate(divide="ignore"):
                    first = np.log(self.degree * np.linalg.norm(b, axis=1) * math.sqrt(2.0))
                out[where] = first - self.degree * log_sigma[where] - 0.5 * math.log(2 * d)
                continue
            # log|e^x - 1|, without overflow for large x
            logs = [
                np.where(p > 30.0, p, np.log(np.maximum(np.abs(np.expm1(np.minimum(p, 30.0))), 1e-300))) for p in parts
            ]
            out[where] = 0.5 * np.logaddexp(*(log_sum_of_squares(p) for p in logs)) - 0.5 * math.log(2 * d)
        return out


class DualEngine:
    """Integration in the dual reduction."""

    def __init__(self, problem: Problem, directions: Mapping[str, Floats]) -> None:
        self.directions = directions
        self.reduction = reduce(problem)
        self.max_steps: int | None = None
        self.keeper: Keeper[Run] | None = None

    @property
    def names(self) -> list[str]:
        """The statistics that apply."""
        return statistic_names(self.reduction, self.directions)

    @property
    def settings(self) -> dict[str, Any]:
        """How it integrates."""
        state = "span" if self.reduction.span else "samples"
        return {
            "method": "Radau IIA, order 5, dual reduction",
            "state": state,
            "dimension": self.reduction.dimension,
        }

    @property
    def large(self) -> bool:
        """Whether the data are."""
        return self.reduction.problem.data.X.size >= _LARGE

    def keep(self, path: str | os.PathLike[str], every: float, what: Sequence[Any]) -> None:
        """Have the states of the runs kept in a file."""
        from theorykit.flow.dual_checkpoint import pack, unpack
        from theorykit.flow.keeper import Keeper

        self.keeper = Keeper(path, every, what, pack, unpack)

    def run(self, log_tau_end: float, rtol: float, progress: Callable[[float], None] | None) -> Path | None:
        """Integrate to tau_end = exp(log_tau_end); None where not even one step succeeds."""
        run = Run(self.reduction, log_tau_end, rtol, self.max_steps or MOST_STEPS)
        if self.keeper is not None:
            self.keeper.resume(rtol, run)
            if progress is not None:  # of a run that had ended, too
                progress(run.fraction)
        while run.status is None:
            run.step()
            if progress is not None:
                progress(run.fraction)
            if self.keeper is not None:
                self.keeper.keep(rtol, run)
        integration = run.result()
        return Path(self.reduction, integration, self.directions) if integration.segments else None


def log_sum_of_squares(logs: Floats) -> Floats:
    """Return log sum_k exp(2 logs_k) along the last axis."""
    top = logs.max(axis=1)
    shift = np.where(np.isfinite(top), top, 0.0)  # all -inf: the sum is 0
    with np.errstate(divide="ignore"):
        return 2.0 * shift + np.log(np.sum(np.exp(2.0 * (logs - shift[:, None])), axis=1))


def statistic_names(reduction: Reduction, directions: Iterable[str]) -> list[str]:
    """Return the statistics that apply to a problem."""
    data = reduction.problem.data
    names = ["train_loss", "log_train_loss", "norm", "log_norm"]
    if data.task == "classification":
        names += ["train_accuracy", "margin", "output_margin"]
    if reduction.balanced and reduction.problem.log_weight_decay > -math.inf:
        names.append("log_delta")
    directions = list(directions)
    names += [f"cos_{name}" for name in directions]
    if {"kernel", "rich"} <= set(directions):
        names.append("transition")
    if data.test is not None:
        names.append("test_loss")
        if data.task == "classification":
            names.append("test_accuracy")
    return names


@np.errstate(under="ignore")
def statistics(path: Path, log_taus: Floats, names: Sequence[str] | None = None) -> dict[str, Floats]:
    """Return each statistic at each time, shape (k,), reading the weights in bounded memory."""
    names = statistic_names(path.reduction, path.directions) if names is None else list(names)
    test = [name for name in names if name.startswith("test_")]
    other = [name for name in names if name not in test]
    with one_blas_thread():
        out = _in_batches(path, log_taus, other, _ENTRIES_AT_ONCE)
        out |= _in_batches(path, log_taus, test, _TEST_ENTRIES_AT_ONCE)
    return {name: out[name] for name in names}


def _in_batches(path: Path, log_taus: Floats, names: list[str], entries: int) -> dict[str, Floats]:
    rows = max(1, entries // path.reduction.problem.data.d)
    parts = [_statistics(path, log_taus[i : i + rows], names) for i in range(0, log_taus.size, rows)] if names else []
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _statistics(path: Path, log_taus: Floats, names: Sequence[str]) -> dict[str, Floats]:
    out: dict[str, Floats] = {}
    wanted = set(names)
    if wanted & {"train_loss", "log_train_loss", "train_accuracy", "margin", "output_margin"}:
        out |= _training(path, log_taus)
    if wanted & {"norm", "log_norm", "margin"}:
        out["log_norm"] = path.log_norm(log_taus)
        out["norm"] = _exp(out["log_norm"])
    if "margin" in wanted:
        q = out["output_margin"]
        with np.errstate(divide="ignore"):
            out["margin"] = np.sign(q) * _exp(np.log(np.abs(q)) - path.degree * out["log_norm"])
    if "log_delta" in wanted:
        out["log_delta"] = path.log_delta(log_taus)
    if any(name.startswith(("cos_", "test_", "transition")) for name in wanted):
        out |= _of_weights(path, path.weights(log_taus), wanted)
    return {name: out[name] for name in names}


def _training(path: Path, log_taus: Floats) -> dict[str, Floats]:
    problem = path.reduction.problem
    out: dict[str, Floats] = {}
    if path.squared:
        mantissa, log_scale = path.residuals(log_taus)
        top = np.max(np.abs(mantissa), axis=1) + 1e-300
        with np.errstate(divide="ignore"):
            shares = np.log(np.mean((mantissa / top[:, None]) ** 2, axis=1))
        out["log_train_loss"] = shares + 2.0 * (np.log(top) + log_scale)
        q = path.outputs(log_taus) * problem.data.y
    else:
        q = path.outputs(log_taus)
        logs = log_loss(loss_code(problem.loss), q)
        top = logs.max(axis=1)
        out["log_train_loss"] = top + np.log(np.mean(np.exp(logs - top[:, None]), axis=1))
    out["train_loss"] = _exp(out["log_train_loss"])
    out["train_accuracy"] = np.mean(q > 0.0, axis=1)
    out["output_margin"] = q.min(axis=1)
    return out


def _of_weights(path: Path, w: Floats, wanted: set[str]) -> dict[str, Floats]:
    out: dict[str, Floats] = {}
    norms = np.linalg.norm(w, axis=1)
    for name, direction in path.directions.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            out[f"cos_{name}"] = np.where(norms > 0.0, (w @ direction) / norms, 0.0)
    if "transition" in wanted:
        kernel, rich = (np.arccos(np.clip(out[f"cos_{name}"], -1.0, 1.0)) for name in ("kernel", "rich"))
        out["transition"] = kernel / np.maximum(kernel + rich, 1e-300)
    if wanted & {"test_loss", "test_accuracy"}:
        out |= _on_test_points(path, w)
    return out


def _on_test_points(path: Path, w: Floats) -> dict[str, Floats]:
    """Return mean test loss and accuracy of each predictor, in one pass over the streamed test points."""
    problem = path.reduction.problem
    assert problem.data.test is not None
    code = loss_code(problem.loss)
    loss, right, count = np.zeros(w.shape[0]), np.zeros(w.shape[0]), 0
    for X, y in problem.data.test.blocks():
        f = X.astype(np.float64) @ w.T
        if code == SQUARED:
            loss += np.sum((f - y[:, None]) ** 2, axis=0)
        else:
            loss += np.sum(_exp(log_loss(code, f * y[:, None])), axis=0)
        right += np.sum(f * y[:, None] > 0.0, axis=0)
        count += y.size
    return {"test_loss": loss / count, "test_accuracy": right / count}


def _exp(x: Floats) -> Floats:
    """Return exp(x), infinite past the float range without a warning."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(x)
