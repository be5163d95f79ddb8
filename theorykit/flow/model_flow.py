"""Integrating the flow of any model: which frame, which clock, which method; the steps with their dense output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.roots import root_between
from theorykit.flow.carried import CarriedField
from theorykit.flow.frames import KERNEL, RICH, Field, Given
from theorykit.flow.kinks import TIE, continued, drawn, first_meeting, magnified, sides
from theorykit.flow.loss_clock import LossClock, all_fitted
from theorykit.flow.ode import LowRankJacobian, NestedJacobian, integrator
from theorykit.flow.ode.methods import Record
from theorykit.flow.ode.stepping import Integrator, Status
from theorykit.flow.problem import Problem
from theorykit.flow.slaved import (
    SLAVED_FROM,
    SlavedField,
    directions,
    drives,
    log_rates_to_slave,
    settled,
    slaving_rate,
)
from theorykit.flow.spill import Spill
from theorykit.losses import log_derivatives, margins
from theorykit.models import Inputs, require_zero_output

Floats = NDArray[np.float64]

_NESTED_FROM = 100.0  # log A~ from which Newton's method in the slopes of the loss, too, pays for its iterations
_FASTEST_RESIDUAL = 1e10  # rate of nets with kinks
_HARDLY = 1e-2  # part of the longest gradient of an output, and of the targets
_FORCE = 100.0  # tolerance of forces, relative to them, over that of the state
_UNRESOLVED = 1e13  # largest rate at which f - y, formed by subtraction, still has digits
_SLAVED = 1e6  # smallest rate slaved where Jacobians are too large, so that stiffness costs steps; at least 10/rtol
_TRANSIENT = 46.0  # log of 1e20: multiples of 1/rate after which the residual is slaved
_LOG_CLOCK_ENDS = math.log(0.1)
_FASTEST = 1e5  # rate relative to tau up to which tau is the clock behind a kink
_IN_RANGE = 250.0  # size of a logarithm up to which the number itself and products of it with others are floats
_UNFIT = 1e-3  # output of an unfit sample relative to its target
_FLAT = 1e-8  # length of its gradient relative to the longest, but for what it is held by
_LARGEST_TIE = 1e-4  # that errors of steps make
_TRIES = 20  # at the rate behind a kink
_SHORTEST = 1e-12  # step beside the clock
_FIRST_STEP = 0.1  # in the logarithm of the time since a kink
_NEGLIGIBLE = 1e-4  # part of the tolerance
_SHRUNK = 0.1  # of the unit of the state at which the tolerance follows it
_SMALLEST = 1e-250  # that unit can become
_KERNEL_ENDS = math.log(0.5)  # log of eps |h|/|theta_bar| at which the frame changes
_LARGEST = 600.0  # L log alpha up to which a flow can start in the rich frame
_FARTHEST = 1e12  # from the data that outputs may start, so that they have digits when they come there
_DENSE, _LOW_RANK = 400, 64  # parameters, and outputs of all samples, up to which the Jacobian is formed
_AHEAD = 100.0  # times what log t would take at its present pace: it never gets slower for long
_SAMPLES = 32  # from which the size of the features is taken
_MOST_STEPS = 400_000
_MOST_KINKS = 5_000  # samples times units up to which kinks are located


@dataclass
class Segment:
    """A stretch in one frame and one clock: its steps with their dense output.

    Attributes
    ----------
    by_loss : bool
        Whether the clock is that of the loss: then log t is the last entry of the state.
    until : float
        The log tau up to which it is read; the last step in the clock of the loss goes past the end.
    """

    field: Field
    records: list[Record]
    method: str
    by_loss: bool = False
    until: float = math.inf

    @cached_property
    def times(self) -> Floats:
        """Clock times at which the steps begin."""
        return np.concatenate([record.t for record in self.records])

    @cached_property
    def ends(self) -> Floats:
        """Clock times at which they end."""
        return np.concatenate([record.t + record.h for record in self.records])

    @cached_property
    def _log_taus(self) -> Floats:
        """Log tau at which the steps begin, and at which the last one ends."""
        if self.by_loss:
            starts = [record.y[0, -1] for record in self.records]
            return np.array([*starts, self.records[-1].at(0, float(self.ends[-1]))[-1]])
        clocks = np.append(self.times, self.ends[-1])
        return np.array([self.field.log_tau(float(clock)) for clock in clocks])

    @property
    def start(self) -> float:
        """The log tau at which it begins."""
        return float(self._log_taus[0])

    def log_tau_ends(self) -> Floats:
        """Return log tau at the end of every step."""
        return np.minimum(self._log_taus[1:], self.until)

    def at(self, clock: float) -> tuple[Field, float, Floats]:
        """Return the field, with its c where that is known, log tau and x at a time of its clock."""
        step = int(np.clip(np.searchsorted(self.times, clock, side="right") - 1, 0, len(self.records) - 1))
        return read(self.field, self.records[step].at(0, clock), clock, self.by_loss)

    def state(self, log_tau: float) -> tuple[Field, Floats]:
        """Return the field, with its c where that is known, and x at one time."""
        field, _, x = self.at(self._clock(log_tau))
        return field, x

    def _clock(self, log_tau: float) -> float:
        """Return the time of its clock, within the step that a time lies in."""
        step = int(np.clip(np.searchsorted(self._log_taus, log_tau, side="right") - 1, 0, len(self.records) - 1))
        start, end = float(self.times[step]), float(self.ends[step])
        record = self.records[step]
        if not self.by_loss:
            return min(max(self.field.clock(log_tau), start), end)
        low, high = (record.at(0, clock)[-1] for clock in (start, end))
        if not low < log_tau < high:
            return start if log_tau <= low else end
        return root_between(lambda s: float(record.at(0, s)[-1]) - log_tau, start, end, 1e-15 * max(end, end - start))


def read(field: Field, state: Floats, clock: float, by_loss: bool) -> tuple[Field, float, Floats]:
    """Return the field, with its c where that is part of a state, log tau and x."""
    x, rest = np.split(state, [field.problem.model.parameters])
    if by_loss:
        return field, float(rest[0]), x
    now, log_tau = field.at(clock), field.log_tau(clock)
    return now.given(rest * math.exp(now.log_rate(log_tau))) if rest.size else field, log_tau, x


@dataclass
class Integration:
    """All segments of one flow, why it ended, and what it cost.

    Attributes
    ----------
    origin : ndarray, shape (P,)
        The state at tau = 0, in the frame of the first segment.
    zero_output : bool
        Whether the output vanishes at theta_bar.
    slaving : two lists of float
        Times (log tau) and the relative error up to there that slaving residuals of the squared loss has brought.
    lost_from : float
        The log tau from which directions of the tangent kernel are below round-off; infinite where none is.
    slides : list of (float, float)
        From which log tau to which the flow slid along kinks.
    """

    segments: list[Segment]
    origin: Floats
    zero_output: bool
    status: Status
    counts: dict[str, int]
    rtol: float
    slaving: tuple[list[float], list[float]]
    lost_from: float
    slides: list[tuple[float, float]]

    @property
    def before_loss(self) -> float:
        """The log tau of the last step before directions are lost."""
        times = [time for time in self.slaving[0] if time < self.lost_from]
        return times[-1] if times else self.lost_from


def starts_at_zero(problem: Problem) -> bool:
    """Return whether the output vanishes at theta_bar, on the training and the test inputs."""
    model, data = problem.model, problem.data
    if isinstance(problem.init, str):
        return bool(model.directions[problem.init])
    blocks = [data.X] + ([X for X, _ in data.test.blocks()] if data.test is not None else [])
    try:
        for X in blocks:
            require_zero_output(model, problem.direction, X)
    except InputError:
        return False
    return True


def check_scale(problem: Problem, zero_output: bool) -> None:
    """Raise where the flow starts so far from the data that the outputs have lost their digits when it comes there.

    Without zero output it starts in the rich frame: theta and f have to be floats. Where f of size 1e12 has to come to
    the data, it ends as the difference of two numbers of that size, and the loss needs f to a part of one.
    """
    if zero_output:
        return
    size = abs(problem.model.degree * problem.log_alpha)
    if size > _LARGEST:
        raise InputError(
            "init",
            f"a direction whose output is not zero, at log_alpha = {problem.log_alpha:g}",
            f"zero output, or |log_alpha| up to {_LARGEST / problem.model.degree:g}",
        )
    data = problem.data
    with np.errstate(all="ignore"):
        f = problem.model.output(math.exp(problem.log_alpha) * problem.direction, problem.model.inputs(data.X))
        wrong = float(np.max(np.abs(f - data.y) if problem.loss == "squared" else -margins(f, data.y)))
    if wrong > _FARTHEST:
        raise InputError(
            "init",
            f"outputs {wrong:.3g} away from the data at the start, at log_alpha = {problem.log_alpha:g}",
            f"at most {_FARTHEST:g}: zero output, or a smaller log_alpha",
        )


class Begun(NamedTuple):
    """Where a segment began, and with which step if that was given."""

    log_tau: float
    x: Floats
    first_step: float | None
    clock: float | None
    c: Floats | None = None


class Run:
    """An integration that moves step by step.

    Attributes
    ----------
    log_tau, x : float, ndarray of shape (P,)
        Where it is, in the frame of `field`.
    status : Status
        RUNNING until the end or trouble.
    segments, records : lists
        What lies behind: whole segments, and the steps of the one under way.
    spill : Spill
        Where the numbers of those steps are.
    flow : Integrator or None
        The integrator of the segment under way.

    Notes
    -----
    The local error of a step is kept below rtol (unit/sqrt(P) + |x|) in the root mean square over parameters, where a
    change of x of norm `unit` moves the outputs by about one (the squared loss: by about the size of the targets).
    """

    def __init__(
        self, problem: Problem, zero_output: bool, log_tau_end: float, rtol: float, method: str = "auto"
    ) -> None:
        inputs = problem.model.inputs(problem.data.X)
        self.problem, self.log_tau_end, self.rtol, self.method = problem, log_tau_end, rtol, method
        self.max_steps = _MOST_STEPS
        self.zero_output = zero_output
        self.decaying = problem.log_weight_decay > -math.inf
        self.size = float(np.linalg.norm(problem.direction))
        self.feature_size = _feature_size(problem, inputs, problem.direction)
        y = np.asarray(problem.data.y, dtype=np.float64)
        self.output_unit = (float(np.sqrt(np.mean(y**2))) or 1.0) if problem.loss == "squared" else 1.0
        self.h_unit = self.output_unit / self.feature_size
        self.status, self.counts, self.segments = Status.RUNNING, dict[str, int](), list[Segment]()
        self.spill, self.slaving, self.lost_from = Spill(), (list[float](), list[float]()), math.inf
        log_eps = -problem.model.degree * problem.log_alpha
        kernel = zero_output and self.size > 0.0 and log_eps + math.log(self.h_unit / self.size) < _KERNEL_ENDS
        self.field = Field(problem, inputs, KERNEL if kernel else RICH, log_clock=True)
        self.origin = np.zeros_like(problem.direction)
        if not kernel and self.size > 0.0:
            self.origin = problem.direction * math.exp(problem.log_alpha)
        kinks = sides(self.field, math.log(rtol), self.origin).size
        self.kinked = 0 < kinks <= _MOST_KINKS
        self.slaved_from = SLAVED_FROM if self._solvable else min(SLAVED_FROM, max(_SLAVED, 10.0 / rtol))
        self.by_loss = False
        self.x = self.origin
        carried = problem.loss == "squared" and self.decaying and self.kinked
        if carried:
            self.field = replace(self.field, log_cap=self._log_cap())
        self.log_tau, self.x = self._start()
        self.c: Floats | None = None  # per unit of tau, where that is part of the state
        if carried:
            f = self.field.outputs(self.log_tau, self.x)
            self.c = self.field.cotangent(self.log_tau, f).ravel() * math.exp(-self.field.log_rate(self.log_tau))
            self.field = _as(CarriedField, self.field)
        self.first = self.log_tau
        self.transient_ends = self._transient()
        self.slides = list[tuple[float, float]]()
        self.begun_unit = 0.0  # that of the segment under way
        self.met: int | None = None  # the kink at which the last step ended
        self.stalled = 0  # kinks met in a row without moving
        self.first_step: float | None = None
        self.elapsed: float | None = None  # time of a clock since a kink
        self.flow: Integrator | None = None
        self.records, self.until, self.begun = list[Record](), math.inf, Begun(self.log_tau, self.x, None, None)
        self.sides = sides(self.field, self.log_tau, self.x)
        if self.sides.size > 0:
            self.counts["kinks"] = 0
        if self.kinked:
            self.field = replace(self.field, inputs=replace(self.field.inputs, piece=self.sides))
            self._go_on([])

    def _go_on(self, met: list[int]) -> None:
        """Go on from kinks, across them or along them.

        Where the flow is at once at the same kink again, it may be along it but for the errors of steps.
        """
        field = self._here()
        known = TIE
        if self.stalled > 0:
            known = max(TIE, min(0.1 * self.rtol * magnified(field, self.log_tau, self.x, met), _LARGEST_TIE))
        tie = min(TIE * 10.0 ** min(self.stalled, 10), known)
        way = continued(field, self.log_tau, self.x, met, tie)
        if way is None:
            self.status = Status.KINKS
            return
        field, self.x = way
        if isinstance(field, Given):
            self.x = drawn(field, self.log_tau, self.x, [*field.held, *field.resting, *met])
        self.field = _as(type(self.field), replace(field, log_pace=0.0))

    def _here(self) -> Field:
        """Return the field at this point, with its c where that is part of the state."""
        field = self.field if self.elapsed is None else self.field.at(self.elapsed)
        return field if self.c is None else field.given(self.c * math.exp(field.log_rate(self.log_tau)))

    @property
    def _solvable(self) -> bool:
        """Whether Jacobians can be formed, so that stiffness costs no steps."""
        outputs = self.problem.data.n * self.problem.model.outputs
        return self.problem.model.parameters <= _DENSE or outputs <= _LOW_RANK

    def unit(self) -> float:
        """Return the norm of a change of x that moves the outputs by about their unit."""
        if self.field.frame == KERNEL:
            return self.h_unit
        power = 1.0 / self.problem.model.degree
        grown = self.size ** (1.0 - power) * self.h_unit**power
        # tiny starts: their growth is what has to be seen
        start = math.log(self.size) + self.problem.log_alpha if self.size > 0.0 else math.inf
        # and what weight decay leaves of others is no part of what they were
        now = max(float(np.linalg.norm(self.x)), _SMALLEST) if self.x.any() else math.inf
        return min(grown, math.exp(min(start, 300.0)), now)

    def _start(self) -> tuple[float, Floats]:
        """Return a time up to which the flow is linear in tau to the tolerance, and the state there."""
        little = 0.01 * math.sqrt(self.rtol)
        log_tau = math.log(little)
        for _ in range(2):  # the velocity itself may leave the float range at the first time
            velocity = self.field(log_tau, self.origin)
            largest = float(np.max(np.abs(velocity)))
            if math.isfinite(largest) and self.field.log_stiffness(log_tau) + log_tau < _IN_RANGE:
                if largest > 0.0:
                    log_size = math.log(largest) + math.log(float(np.linalg.norm(velocity / largest)))
                    log_tau = min(log_tau, log_tau + math.log(little * self.unit()) - log_size)
                break
            # all of its size is in the exponents of the force and of the loss
            f = self.field.outputs(log_tau, self.origin)
            if not np.all(np.isfinite(f)):
                break
            slopes, _ = log_derivatives(self.problem.loss, f, self.problem.data.y)
            steepest = self.field.log_stiffness(log_tau) + max(float(slopes.max()), 0.0)
            log_tau = min(log_tau, math.log(little) - steepest)
        log_tau = min(log_tau, self.log_tau_end - 1.0)
        x = self.origin + self.field(log_tau, self.origin)
        if not np.all(np.isfinite(x)):
            raise InputError("problem", "outputs or gradients that are not finite at the start", "finite ones")
        return log_tau, x

    def _transient(self) -> float:
        """Return log tau at which the residual of the squared loss can be slaved, infinite where it cannot."""
        if self.problem.loss != "squared":
            return math.inf
        if math.log(2.0 * self.feature_size**2) + self.field.log_stiffness(self.log_tau) < math.log(self.slaved_from):
            return math.inf
        rates = log_rates_to_slave(self.field, self.log_tau, self.x)
        if rates.size == 0:  # no unit sees any sample: there is no force
            return math.inf
        low, high = float(rates.min()), float(rates.max())
        if self.field.carried:
            return max(math.log(_TRANSIENT) - high, self.log_tau)
        if low > math.log(self.slaved_from):
            return max(math.log(_TRANSIENT) - low, self.log_tau)
        if high > math.log(_UNRESOLVED):
            raise InputError(
                "problem",
                f"a squared loss whose residual falls at rates {math.exp(low):.3g} to 1e{high / math.log(10.0):.0f}",
                f"rates to {_UNRESOLVED:g}, or all from {self.slaved_from:g} on: a smaller log_A, other features",
            )
        return math.inf

    def _log_cap(self) -> float:
        """Return the log A~ at which residuals fall at the fastest rate that is followed."""
        degree, log_size = self.problem.model.degree, math.log(self.feature_size)
        if self.field.frame == RICH:  # gradients are those at theta, which may grow to where the outputs are of order y
            log_size += (degree - 1) * max(self.problem.log_alpha, math.log(self.h_unit) / degree)
        return math.log(0.5 * _FASTEST_RESIDUAL) - 2.0 * log_size

    def step(self) -> None:
        """Take a step, where needed the first of a segment, and end the segment where its frame or clock ends."""
        if self.flow is None:
            self.begin()
        flow = self.flow
        assert flow is not None
        record = flow.step()
        ended = self._follow(record, flow) if record.t.size > 0 else False
        if ended or flow.status is not Status.RUNNING:
            self._end(flow)
        taken = self.steps + (len(self.records) if self.flow is not None else 0)
        if self.status is Status.RUNNING and (self.spill.full or taken >= self.max_steps):
            self.status = Status.NO_SPACE if self.spill.full else Status.MAX_STEPS
            if self.flow is not None:
                self._end(flow)

    def begin(self) -> None:
        """Begin a segment, up to where its frame and its clock are surely right."""
        negligible = _NEGLIGIBLE * self.rtol * self.unit() / math.sqrt(self.problem.model.parameters)
        field = self.field = replace(self.field, negligible=negligible)
        self.until = self._until()
        self.records, self.begun = [], Begun(self.log_tau, self.x, self.first_step, self.elapsed, self.c)
        start = field.clock(self.log_tau) if self.elapsed is None else self.elapsed
        ends = start, field.clock(self.until)
        self.begun_unit = self.unit()
        self.flow = self._by_loss() if self.by_loss else self._integrator(*ends)

    def _follow(self, record: Record, flow: Integrator) -> bool:
        """Keep a step; return whether the segment ends with it."""
        before, self.first_step = self.log_tau, float(record.h[0])
        record = self._up_to_kink(record)
        if record.h[0] == 0.0:
            return True
        self.records.append(record)
        self.spill.add(record)
        self._take(record, flow)
        self._note_slaving(before)
        changes = self._leaves_frame() or self._leaves_manifold() or self._leaves_clock() or self._shrinks()
        return changes or self.met is not None

    def _end(self, flow: Integrator) -> None:
        """End a segment: all is over, or another frame, clock, piece or treatment of the residual begins."""
        for name, count in flow.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if self.records:
            segment = Segment(self.field, self.records, flow.method.name, self.by_loss, self.log_tau_end)
            self.segments.append(segment)
            if self.field.held:
                self.slides.append((segment.start, self.log_tau))
        self.flow = None
        if self.met is not None:
            pass  # the end of the step is past it
        elif flow.status is Status.REACHED_END:
            self.log_tau = self.log_tau if self.by_loss else self.until
        elif flow.status is not Status.RUNNING:
            self.status = flow.status
        if self.status is Status.RUNNING:
            self._change()

    def _at(self, record: Record, clock: float) -> tuple[Field, float, Floats]:
        """Return the field, with its c where that is known, log tau and x at a time in a step."""
        return read(self.field, record.at(0, clock), clock, self.by_loss)

    def _up_to_kink(self, record: Record) -> Record:
        """Return a step, shortened to where it meets a kink."""
        if self.field.inputs.piece is None:
            self._count_kinks(record)
            return record
        start, end = float(record.t[0]), float(record.t[0] + record.h[0])
        with np.errstate(all="ignore"):
            meeting = first_meeting(lambda clock: self._at(record, clock), start, end)
        if meeting is None:
            return record
        self.met = meeting.kink
        self.counts["kinks"] += 1
        part = (meeting.clock - start) / (end - start)
        self.stalled = 0 if part > 1e-9 else self.stalled + 1
        if self.stalled > 0:  # a force that grows within the step moved g the wrong way, by less than the tolerance
            self.first_step = max(0.1 * float(record.h[0]), _SHORTEST * abs(start))
        powers = part ** np.arange(1.0, record.dense.shape[1] + 1.0)
        return Record(record.t, record.h * part, record.y, record.dense * powers[:, None])

    def _count_kinks(self, record: Record) -> None:
        """Count the kinks of a large net on whose other side a step ends."""
        if self.sides.size > 0:
            before, self.sides = self.sides, sides(*self._at(record, float(record.t[0] + record.h[0])))
            self.counts["kinks"] += int(np.sum(before != self.sides))

    def _take(self, record: Record, flow: Integrator) -> None:
        """Take over where the last step ends."""
        _, self.log_tau, self.x = self._at(record, float(record.t[0] + record.h[0]))
        if self.met is None and self.by_loss:
            state = flow.y
            self.x, self.log_tau = state[:-1], float(state[-1])
        elif self.met is None:
            self.x, self.log_tau = flow.y[: self.x.size], self.field.log_tau(flow.t)
        if self.field.carried:
            self.c = record.at(0, float(record.t[0] + record.h[0]))[self.x.size :]
        if self.field.since is not None:
            self.elapsed = float(record.t[0] + record.h[0])

    def _note_slaving(self, before: float) -> None:
        """Add what slaving residuals has brought in the last step; what is lost may grow at rate one."""
        bounded = self.field.bounded(self.log_tau)
        if not (self.field.slaved or bounded):
            return
        rate, lost = slaving_rate(self.field, self.log_tau, self.x, self._unseen())
        width = math.exp(self.log_tau) - math.exp(before) if self.decaying else 0.0
        times, errors = self.slaving
        kept = errors[-1] if errors else 0.0
        if bounded and self.field.frame == KERNEL:  # there every error dies out at the rate L
            L = self.problem.model.degree
            kept, width = kept * math.exp(-L * width), -math.expm1(-L * width) / L
        error = kept + rate * width
        if lost and self.field.slaved:
            self.lost_from = min(self.lost_from, self.log_tau)
            error *= math.exp(min(width, 700.0))
        times.append(self.log_tau)
        errors.append(error)

    def _leaves_clock(self) -> bool:
        """Return whether the clock of the loss has reached the end, or log t can give way to it."""
        if self.by_loss:
            return self.log_tau >= self.log_tau_end
        if self.decaying or self.problem.loss == "squared":
            return False
        return all_fitted(self.field, self.field.outputs(self.log_tau, self.x))

    @property
    def steps(self) -> int:
        """Accepted steps of all segments so far."""
        return self.counts.get("steps", 0)

    def _until(self) -> float:
        """Return log tau up to which this frame and this clock are surely right."""
        until = min(self.log_tau_end, self.transient_ends)
        if self.field.since is not None:
            until = min(until, self._counts_until(self.field.since))
        if not self.decaying:
            return until
        if self.field.log_clock:
            until = min(until, max(_LOG_CLOCK_ENDS, self.log_tau))
        if self.field.frame == KERNEL:
            ahead = max((_KERNEL_ENDS - self._log_way()) / self.problem.model.degree, 0.01)
            until = min(until, math.log(math.exp(self.log_tau) + ahead))
        return until

    def _integrator(self, start: float, end: float) -> Integrator:
        if self.field.carried:
            return self._carrying(start, end)
        P = self.problem.model.parameters
        jacobian, method = self._linearised()
        atol = self.rtol * self.unit() / math.sqrt(P)
        return integrator(
            self.field, self.x, (start, end), method=method, jacobian=jacobian, rtol=self.rtol, atol=atol,
            first_step=self._first_step(end - start),
        )  # fmt: skip

    def _carrying(self, start: float, end: float) -> Integrator:
        """Return the integrator of (x, c)."""
        field, P = self.field, self.problem.model.parameters
        assert self.c is not None
        m = self.c.size
        atol = np.full(P + m, self.rtol * self.unit() / math.sqrt(P))
        atol[P:] = _FORCE * self.rtol * max(float(np.median(np.abs(self.c))), 1e-300)
        low_rank = P + m > _DENSE and 4 * m < P
        jacobian = LowRankJacobian(field.low_rank_jacobian, rank=2 * m) if low_rank else field.jacobian
        method = self.method if self.method.startswith("radau") else "radau"
        return integrator(
            field, np.append(self.x, self.c), (start, end), method=method, jacobian=jacobian, rtol=self.rtol,
            atol=atol, first_step=self._first_step(end - start),
        )  # fmt: skip

    def _linearised(self) -> tuple[Callable[..., Floats] | LowRankJacobian | NestedJacobian | None, str]:
        """Return the Jacobian in the form that suits the field, None where it is not needed or too large; the method.

        Small systems are stiff sooner or later, at once where A~ is huge.
        """
        field, P, outputs = self.field, self.problem.model.parameters, self.problem.data.n * self.problem.model.outputs
        if field.slaved or not (P <= _DENSE or outputs <= _LOW_RANK):
            return None, self.method
        dense = P <= _DENSE
        method = "radau" if dense and self.method == "auto" else self.method
        if self.problem.loss == "squared" or field.log_stiffness(self.log_tau) > _NESTED_FROM:
            parts = field.nested_jacobian if dense else field.nested_low_rank_jacobian
            return NestedJacobian(field.nested, parts, outputs, dense), method
        return field.jacobian if dense else LowRankJacobian(field.low_rank_jacobian, rank=outputs), method

    def _by_loss(self) -> Integrator:
        """Return the integrator of (x, log t) in the clock of the loss, which has no end of its own."""
        clock, P = LossClock(self.field), self.problem.model.parameters
        state = np.append(self.x, self.log_tau)
        outputs = self.problem.data.n * self.problem.model.outputs
        jacobian: Callable[..., Floats] | LowRankJacobian | None = None
        method = self.method
        if P < _DENSE:
            jacobian = clock.jacobian
            method = "radau" if method == "auto" else method
        elif outputs < _LOW_RANK:
            jacobian = LowRankJacobian(clock.low_rank_jacobian, rank=outputs + 1)
        atol = np.append(np.full(P, self.rtol * self.unit() / math.sqrt(P)), self.rtol / math.sqrt(P))
        ahead = _AHEAD * (self.log_tau_end - self.log_tau) / float(clock(0.0, state)[-1])
        return integrator(
            clock, state, (0.0, ahead), method=method, jacobian=jacobian, rtol=self.rtol, atol=atol,
            first_step=self._first_step(ahead),
        )  # fmt: skip

    def _first_step(self, span: float) -> float | None:
        """Return the last step for the first of the next segment.

        What is chosen blindly starts from an Euler step, and e^(-q) may leave every scale on it.
        """
        step, self.first_step = self.first_step, None
        return None if step is None else min(step, span)

    def _leaves_frame(self) -> bool:
        """Return whether eps |h| has come near |theta_bar|."""
        return self.field.frame == KERNEL and self.size > 0.0 and self._log_way() >= _KERNEL_ENDS - 1e-9

    def _log_way(self) -> float:
        """Return log of eps |h|/|theta_bar|; an h below its unit, whose errors are no smaller, counts as that."""
        size = max(float(np.linalg.norm(self.x)), self.h_unit)
        return self.field.log_eps(self.log_tau) + math.log(size / self.size)

    def _shrinks(self) -> bool:
        """Return whether the state has become small beside what the tolerance is an absolute one of."""
        return self.field.frame == RICH and 0.0 < float(np.linalg.norm(self.x)) < _SHRUNK * self.begun_unit

    def _leaves_manifold(self) -> bool:
        """Return whether slaving costs more than the tolerance and the residual can be resolved without."""
        if not self.field.slaved:
            return False
        rate, _ = slaving_rate(self.field, self.log_tau, self.x)
        high = float(directions(self.field, self.log_tau, self.x).log_rates[0])
        return rate > 1.0 / self.slaved_from and high < math.log(_UNRESOLVED)

    def _change(self) -> None:
        """Go to the frame, clock and treatment of the residual that the next segment needs."""
        field = self.field
        if self.log_tau >= self.log_tau_end:
            self.status = Status.REACHED_END
            return
        if self.c is not None:
            self._see()
        if self.met is not None:
            self._go_on([self.met])
            if self.stalled > 2 * self.sides.size:
                self.status = Status.KINKS
            field = self.field
        elif isinstance(here := self._here(), Given):
            self.x = drawn(here, self.log_tau, self.x, [*field.held, *field.resting])
        if field.since is not None and (self.met is not None or self.log_tau >= self._counts_until(field.since)):
            field = self.field = self._by_tau(field)
        if self._leaves_frame():
            sigma = math.exp(field.log_sigma(self.log_tau))
            self.x = sigma * field.moved(self.log_tau, self.x)
            shift = 2.0 * (self.problem.model.degree - 1) * field.log_sigma(self.log_tau)
            field = replace(field, frame=RICH, log_cap=field.log_cap - shift)
            self.c = self.c if self.c is None else self.c * math.exp(-shift)
        by_loss, self.by_loss = self.by_loss, self.by_loss or self._leaves_clock()
        if self.decaying and self.log_tau >= _LOG_CLOCK_ENDS:
            field = replace(field, log_clock=False)
        if self.log_tau >= self.transient_ends:
            self.field = field
            field = _as(SlavedField, field) if self._settled() else field
        elif self._leaves_manifold():
            field = _as(Field, field)
        if self.first_step is not None and field.log_clock != self.field.log_clock:
            self.first_step *= math.exp(self.log_tau)
        if field.slaved != self.field.slaved or by_loss != self.by_loss:
            self.first_step = None
        self.field = field
        if self.met is not None and not self.by_loss:
            self.field = self._layered(field) if field.carried else self._from_here(field)
        self.met = None

    def _see(self) -> None:
        """Take c of samples that hardly any unit sees, whose residuals are of order one, from their outputs.

        For others c has more digits, and outputs are drawn to it.
        """
        assert self.c is not None
        field, y = self._here(), np.asarray(self.problem.data.y)
        now, f = field.sliding(self.log_tau, self.x), field.outputs(self.log_tau, self.x)
        features = self.problem.model.features(now.inputs, now.moved(self.log_tau, self.x))
        lengths = np.linalg.norm(np.reshape(features, (f.size, -1)), axis=1)
        unseen = lengths <= _HARDLY * np.max(lengths)
        unseen &= np.ravel(np.abs(f - y)) > _HARDLY * np.max(np.abs(y))
        seen = self.field.cotangent(self.log_tau, f).ravel() * math.exp(-self.field.log_rate(self.log_tau))
        self.c = np.where(unseen, seen, self.c)

    def _layered(self, field: Field) -> Field:
        """Return the field in a clock that resolves behind a kink how the residuals come to what they are there."""
        shortest = math.exp(-field.log_rate(self.log_tau)) / _FASTEST_RESIDUAL
        self.first_step = shortest if self.first_step is None else min(self.first_step, shortest)
        return field if field.log_clock else replace(field, origin=math.exp(self.log_tau))

    def _from_here(self, field: Field) -> Field:
        """Return the field in a clock that counts from here if the flow is too fast behind a kink for digits of tau.

        So a sample that no unit saw is fitted where one comes to see it: at a rate e^q times that of all others.
        """
        if not abs(self.log_tau) < _IN_RANGE:  # tau itself has to be a float
            return field
        counting = replace(field, since=math.exp(self.log_tau))
        log_rate, velocity = self._speed(counting)
        if log_rate + self.log_tau < math.log(_FASTEST):
            return field
        self.elapsed = math.log(0.01 * math.sqrt(self.rtol)) - log_rate
        self.x = self.x + velocity * (0.01 * math.sqrt(self.rtol))
        self.first_step = _FIRST_STEP
        return counting

    def _speed(self, counting: Field) -> tuple[float, Floats]:
        """Return the logarithm of |dx/dtau| relative to x, and dx/dtau over that rate; -inf where there is no telling.

        From evaluations in which that rate is about one: there no force that counts is out of the range of floats.
        """
        f = counting.outputs(self.log_tau, self.x)
        slopes, _ = log_derivatives(self.problem.loss, f, self.problem.data.y)
        size = self.unit() + float(np.linalg.norm(self.x))
        log_rate = counting.log_stiffness(self.log_tau) + float(slopes.max())
        for _ in range(_TRIES):
            with np.errstate(all="ignore"):
                velocity = counting.at(-log_rate).velocity(self.log_tau, self.x)
            largest = float(np.max(np.abs(velocity)))
            if not math.isfinite(largest):
                break
            change = math.log(largest / size) if largest > size * math.exp(-_IN_RANGE) else -_IN_RANGE
            log_rate += change
            if abs(change) < 1.0 or log_rate + self.log_tau < 0.0:
                return log_rate, velocity * math.exp(-change)
        return -math.inf, np.zeros_like(self.x)

    def _counts_until(self, since: float) -> float:
        """Return log tau up to which a clock counts from a kink."""
        return math.log(since + (min(since, math.exp(_LOG_CLOCK_ENDS)) if self.decaying else since))

    def _by_tau(self, field: Field) -> Field:
        """Return the field of a clock that counts from a kink in tau or log tau again."""
        assert self.elapsed is not None
        if self.first_step is not None:  # which may have been too short to be seen in tau
            self.first_step *= math.exp(self.elapsed - (self.log_tau if field.log_clock else 0.0))
            self.first_step = self.first_step or None
        self.elapsed = None
        return replace(field, since=None)

    def _unseen(self) -> tuple[int, ...]:
        """Return the samples that no unit sees, or only along kinks that it is held at: their outputs are 0."""
        if self.field.inputs.piece is None:
            return ()
        field, y = self.field, np.asarray(self.problem.data.y)
        off = field.on_piece(field.held, np.zeros(len(field.held)))
        lengths = np.linalg.norm(self.problem.model.features(off.inputs, field.moved(self.log_tau, self.x)), axis=1)
        lost = np.abs(field.outputs(self.log_tau, self.x)) < _UNFIT * np.abs(y)
        return tuple(np.flatnonzero(lost & (lengths < _FLAT * np.max(lengths))).tolist())

    def _settled(self) -> bool:
        """Return whether the residual has reached the slaved one; if it has not, wait twice as long.

        Where it never does, since what the features cannot fit moves them, it is followed as far as it has digits.
        """
        if drives(self.field, self.log_tau, self.x, self._unseen()):
            self.transient_ends = math.inf
            log_rate = float(directions(self.field, self.log_tau, self.x).log_rates[0])
            if log_rate > math.log(_UNRESOLVED) or self.field.bounded(self.log_tau):
                self.status = Status.UNFIT
            return False
        if self.field.carried:
            self.transient_ends = math.inf
            return False
        there = settled(self.field, self.log_tau, self.x, 10.0 * self.output_unit / self.slaved_from)
        self.transient_ends = math.inf if there else self.log_tau + math.log(2.0)
        return there

    @property
    def fraction(self) -> float:
        """Which part is done: of tau, or of log t without weight decay."""
        done, all_ = self.log_tau - self.first, self.log_tau_end - self.first
        if self.decaying:
            done, all_ = math.exp(self.log_tau), math.exp(self.log_tau_end)
        return min(1.0, done / all_)

    def result(self) -> Integration:
        """Return what has been integrated so far."""
        segments = list(self.segments)
        if self.flow is not None and self.records:
            segments.append(Segment(self.field, list(self.records), self.flow.method.name, self.by_loss))
        return Integration(
            segments, self.origin, self.zero_output, self.status, self.counts, self.rtol, self.slaving,
            self.lost_from, self.slides,
        )  # fmt: skip


def _as(kind: type[Field], field: Field) -> Field:
    """Return the same field with its residuals treated in another way."""
    return kind(**{entry.name: getattr(field, entry.name) for entry in fields(Field)})


def _feature_size(problem: Problem, inputs: Inputs, theta: Floats) -> float:
    """Return the largest norm of an output's gradient over some samples; 1 where all vanish."""
    model, largest = problem.model, 0.0
    for index in np.unique(np.linspace(0, len(inputs) - 1, _SAMPLES).astype(np.intp)):
        kernel = model.ntk(model.inputs(inputs.values[index : index + 1]), theta=theta)
        largest = max(largest, float(np.max(kernel)))
    return math.sqrt(largest) or 1.0
