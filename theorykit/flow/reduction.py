r"""The exact dual reduction of a diagonal net's flow, and the frames in which it is integrated.

With z_i = y_i x_i (classification; x_i for the squared loss), u and v obey
du_k/dtau = -u_k + L u_k^(L-1) g_k, dv_k/dtau = -v_k - L v_k^(L-1) g_k, where g = sum_i z_i (-loss'_i)/(n lambda):
every coordinate is an explicit function of B = sum_i m_i z_i. From values u_1 at an anchor time tau_1, with
lag = tau - tau_1,

- L = 2: u = u_1 exp(-lag + 2 B)
- L > 2: u = u_1 exp(-lag) (1 - L(L-2) u_1^(L-2) B)^(-1/(L-2))

(v with -B), where dm_i/dtau = exp(-(L-2) lag) (-loss'_i)/(n lambda). Only the m_i are integrated: n numbers, or d of
them when n > d (then B itself, in a basis of the span of the samples). Two frames, both exact:

- kernel: anchor at the start, with the scaled dual M = sigma^L m, sigma = alpha c exp(-tau), so that no factor leaves
  the float range; exact from theta_bar = c (1, ..., 1) only;
- rich: anchor wherever digits would begin to be lost (for L > 2 the bracket is (u_1 e^(-lag)/u)^(L-2)), from any start.

For the squared loss the residual is a state of its own, slaved to the interpolating manifold once A is huge: see
`_diagonal`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit.flow import _diagonal as compiled
from theorykit.flow import _radau as radau
from theorykit.flow.problem import Problem
from theorykit.flow.tableaus import RadauTableau, radau_iia
from theorykit.losses import SQUARED, loss_code

Floats = NDArray[np.float64]

_CLOCK_CHANGE = 0.1  # tau up to which steps are taken in log tau
_WEAKEST = 1e-4  # square root of the relative eigenvalue below which a direction of the tangent kernel counts as null
_STIFF_FROM = 1e4  # A from which directions of the tangent kernel are told apart
SLAVING_ERROR = 1e-12  # n/(A nu) from which the residual of the squared loss is slaved, and what that costs
_STALE = 0.5  # change of log A within a step up to which one Jacobian serves for it
_KERNEL_ENDS = 0.3  # L^2 eps |B| at which the kernel frame hands over
_INSIDE = 10.0  # interpolation error of a step, in units of rtol, that the bending of the outputs may cause
_BENDS = 16.0  # growth of L^2 eps |B| over which one bound on the steps serves
_ROUND_OFF_OF_FIVE = 2e-14  # in Newton's iteration with five stages: 90 units, the condition of the transformation
_GRID = np.linspace(0.0, 1.0, 401)  # over a step
_SMALLEST = 1e-60  # size of the largest feature: its square and that of the kernel stay in the float range
_SMALL_FROM = 2**22  # entries from which int8 data stay int8: an eighth of the memory traffic
_FIRST_CHUNK, _CHUNK_SECONDS = 32, 0.05  # steps, later seconds, between two looks at the progress bar
MOST_STEPS = 400_000


class Frame(IntEnum):
    """Coordinates of a segment."""

    KERNEL = 0
    RICH = 1


class Status(IntEnum):
    """Why an integration ended."""

    REACHED_END = radau.REACHED_END
    STEP_TOO_SMALL = radau.STEP_TOO_SMALL
    NOT_FINITE = radau.NOT_FINITE
    TOO_MANY_STEPS = 5


@dataclass
class Segment:
    """A stretch of the flow in one frame and one clock: its steps with their dense output."""

    pack: tuple[Any, ...]
    times: Floats
    widths: Floats
    values: Floats
    dense: Floats

    @property
    def log_clock(self) -> bool:
        """Whether the clock is log tau."""
        return bool(self.pack[8][compiled.LOG_CLOCK])

    @property
    def frame(self) -> Frame:
        """The frame."""
        return Frame(int(self.pack[8][compiled.FRAME]))

    @property
    def slaved(self) -> bool:
        """Whether the residual is slaved to the interpolating manifold when the segment begins."""
        clock = float(self.times[0])
        return self.squared and bool(
            compiled.residual_scale(clock, self.pack)[0] < compiled.log_stiffness(clock, self.pack)
        )

    @property
    def end(self) -> float:
        """Clock time at which the segment ends."""
        return float(self.times[-1] + self.widths[-1])

    def states(self, clocks: Floats) -> Floats:
        """Return c = y/kappa at the given clock times, shape (k, r)."""
        y = self.integrated(clocks)
        if self.squared:
            y = y[:, : y.shape[1] // 2]
        return np.ascontiguousarray(y / self.pack[7][compiled.KAPPA])

    @property
    def squared(self) -> bool:
        """Whether the residual is the lower half of the integrated state."""
        return bool(self.pack[8][compiled.LOSS] == SQUARED)

    def integrated(self, clocks: Floats) -> Floats:
        """Return the integrated state at the given clock times, from the collocation polynomials.

        Before the first step of a flow y is proportional to tau (the residual of the squared loss is constant).
        """
        step = np.clip(np.searchsorted(self.times, clocks, side="right") - 1, 0, self.times.size - 1)
        x = np.maximum((clocks - self.times[step]) / self.widths[step], 0.0)[:, None]
        q = self.dense[step]
        y = np.zeros_like(q[:, 0])
        for power in range(q.shape[1] - 1, -1, -1):
            y = x * (q[:, power] + y)
        y += self.values[step]
        early = clocks < self.times[0]
        if early.any():
            moving = y.shape[1] // 2 if self.squared else y.shape[1]
            y[early, :moving] *= np.exp(clocks[early] - self.times[0])[:, None]
        return y


@dataclass(frozen=True)
class Basis:
    """Coordinates of the state: sum_i m_i z_i = c @ rows for c = m @ lift (an empty lift stands for the identity).

    Small data have no rows here: their int8 copy is read instead.
    """

    rows: Floats
    lift: Floats


@dataclass
class Reduction:
    """The data of a problem in the form that the compiled right-hand side reads, shared by all segments."""

    problem: Problem
    z: Floats
    z_small: NDArray[np.int8]
    basis: Basis
    gram: Floats
    targets: Floats
    log_scale: float
    balanced: bool
    z_max: float
    squared_norms: Floats
    smallest_eigenvalue: float = 0.0

    @property
    def span(self) -> bool:
        """Whether the state lives in a basis of the samples' span instead of one number a sample."""
        return self.basis.lift.size > 0

    @property
    def dimension(self) -> int:
        """Number of integrated components r."""
        return int(self.basis.lift.shape[1]) if self.span else int(self.targets.size)


def reduce(problem: Problem) -> Reduction:
    """Prepare the reduction: signed samples, Gram matrix, basis, scale of the start."""
    data = problem.data
    largest = _checked_size(data.X)
    squared = loss_code(problem.loss) == SQUARED
    small = data.X.dtype == np.int8 and data.X.size > _SMALL_FROM
    sign = np.ones(data.n) if squared else data.y
    if small:
        z_small = data.X * sign.astype(np.int8)[:, None]
        z = np.empty((0, 0))
        gram = _gram_of_small(z_small)
    else:
        z_small = np.empty((0, 0), dtype=np.int8)
        z = np.ascontiguousarray(data.X * sign[:, None])
        gram = z @ z.T
    norms = np.diagonal(gram).copy()
    eigenvalues = np.linalg.eigvalsh(gram)
    deficient = eigenvalues[0] <= data.n * 1e-13 * eigenvalues[-1]
    basis = Basis(z, np.empty((0, 0)))
    if data.n > data.d or deficient:
        z = z_small.astype(np.float64) if small else z
        rows = _span(z)
        size = math.sqrt(float(np.mean(norms)))
        z_small, basis = np.empty((0, 0), dtype=np.int8), Basis(size * rows, np.ascontiguousarray(z @ rows.T / size))
    direction = np.abs(problem.direction) if problem.model.degree % 2 == 0 else problem.direction  # even: f(-u) = f(u)
    balanced = bool(np.all(direction == direction[0])) and direction[0] > 0.0
    log_scale = problem.log_alpha + math.log(direction[0]) if balanced else 0.0
    reduction = Reduction(
        problem, z, z_small, basis, gram, np.array(data.y), log_scale, balanced, largest, norms
    )  # fmt: skip
    if squared:
        gram_of_state = basis.lift.T @ basis.lift if reduction.span else gram / np.mean(norms)
        reduction.smallest_eigenvalue = float(np.linalg.eigvalsh(gram_of_state)[0])
    return reduction


def _checked_size(X: NDArray[Any]) -> float:
    """Return the size of the largest feature, where its powers stay in the float range."""
    largest = max(float(X.max()), -float(X.min()))
    if largest == 0.0:
        raise InputError("data", "features that are all 0", "at least one that is not")
    if not _SMALLEST < largest < 1.0 / _SMALLEST:
        raise InputError(
            "data",
            f"features of size {largest:g}",
            f"{_SMALLEST:g} to {1.0 / _SMALLEST:g} (s X is the same flow as X with alpha s^(1/L) and lambda s^(-2/L))",
        )
    return largest


def _gram_of_small(z: NDArray[np.int8]) -> Floats:
    """Return Z Z^T exactly: every partial sum of products of int8 numbers is an integer below 2^24 in each block."""
    block = max(1, min(z.shape[1], (2**24 - 1) // max(1, int(np.abs(z.astype(np.int16)).max()) ** 2)))
    block = min(block, 65_536)
    gram = np.zeros((z.shape[0], z.shape[0]))
    for start in range(0, z.shape[1], block):
        part = z[:, start : start + block].astype(np.float32)
        gram += part @ part.T
    return gram


def _span(z: Floats) -> Floats:
    """Return an orthonormal basis of the span of the rows of z, shape (r, d)."""
    _, singular, rows = np.linalg.svd(z, full_matrices=False)
    rank = int(np.sum(singular > singular[0] * max(z.shape) * 1e-15)) if singular.size else 0
    return np.ascontiguousarray(rows[: max(rank, 1)])


def make_pack(
    reduction: Reduction,
    basis: Basis,
    *,
    frame: Frame,
    log_clock: bool,
    tau_anchor: float,
    anchors: Floats,
    kappa: float,
    size: float,
    log_cap: float,
    damped: float,
) -> tuple[Any, ...]:
    """Assemble what the compiled functions read for one segment."""
    problem = reduction.problem
    decaying = problem.log_weight_decay > -math.inf
    hyper = np.array(
        [
            reduction.log_scale,
            problem.log_weight_decay if decaying else 0.0,
            kappa,
            tau_anchor,
            1.0 if decaying else 0.0,
            math.log(problem.data.n),
            reduction.z_max,
            _KERNEL_ENDS,
            log_cap,
            damped,
            math.log(size),
        ]
    )
    integers = np.array(
        [
            loss_code(problem.loss),
            problem.model.degree,
            frame,
            log_clock,
            basis.lift.size > 0,
            basis.rows.size == 0,
            reduction.balanced,
        ],
        dtype=np.int64,
    )
    return (
        reduction.z, reduction.z_small, basis.rows, basis.lift, reduction.gram, reduction.targets,
        np.ascontiguousarray(anchors), hyper, integers,
    )  # fmt: skip


@dataclass
class Integration:
    """All segments of one flow, why it ended, and what it cost."""

    segments: list[Segment]
    status: Status
    counts: dict[str, int]
    rtol: float


@dataclass
class Leg:
    """A segment under way: what it began with, and what the compiled driver carries from step to step."""

    pack: tuple[Any, ...]
    clock: float
    stop: float
    log_tau_stop: float
    widest: float
    state: Floats
    last: Floats
    derivative: Floats
    jacobian: Floats
    parts: list[tuple[Floats, ...]]


class Run:
    """An integration from 0 to tau_end = exp(log_tau_end), some steps at a time, segment by segment.

    The local error of a step is kept below rtol (1 + |y|) in the root mean square over components, y in units of the
    output.
    """

    def __init__(self, reduction: Reduction, log_tau_end: float, rtol: float, max_steps: int = MOST_STEPS) -> None:
        self.reduction, self.rtol, self.max_steps, self.log_tau_end = reduction, rtol, max_steps, log_tau_end
        self.decaying = reduction.problem.log_weight_decay > -math.inf
        self.segments: list[Segment] = []
        self.leg: Leg | None = None
        self.chunk_size = _FIRST_CHUNK
        self.counts = np.zeros(5, dtype=np.int64)
        self.status: Status | None = None
        self.basis, self.damped = reduction.basis, 0.0
        self.axes, self.sizes = np.eye(reduction.dimension), np.ones(reduction.dimension)
        self.frame = Frame.KERNEL if reduction.balanced else Frame.RICH
        self.log_tau, y = self._start()
        self.first = self.log_tau
        self.log_clock = True
        self.tau_anchor = 0.0
        self.anchors = _start_anchors(reduction)
        self.size, self.kappa = self._units()
        self.y = self._with_residual(y * self.kappa)
        self.width = 0.0

    def _start(self) -> tuple[float, Floats]:
        """Return a log tau at which outputs and exponents have moved by at most 0.3 sqrt(rtol), and c there.

        c is known to first order; what that leaves out is the square, and below the tolerance.
        """
        reduction = self.reduction
        problem, data, degree = reduction.problem, reduction.problem.data, reduction.problem.model.degree
        log_rate = -problem.log_weight_decay if self.decaying else 0.0
        if reduction.balanced:
            log_rate += 2.0 * (degree - 1) * reduction.log_scale
            largest = 2.0 * degree**2 * float(reduction.squared_norms.max())
            q = np.zeros(data.n)
        else:
            theta = problem.direction * math.exp(min(problem.log_alpha, 700.0))
            with np.errstate(over="ignore", invalid="ignore"):
                q = problem.model.output(theta, data.X) * (1.0 if self._squared else data.y)
                largest = (
                    2.0 * degree**2 * float(reduction.squared_norms.max() * np.abs(theta).max() ** (2 * degree - 2))
                )
        with np.errstate(over="ignore"):
            rates = _initial_rates(loss_code(problem.loss), q, reduction.targets) / data.n
        if not np.isfinite([*q, *rates, largest]).all():
            got = f"an unbalanced start at log_alpha = {problem.log_alpha:g}"
            raise InputError("init", got, "a smaller alpha, or init='theory', whose outputs are zero at any scale")
        total = float(np.abs(rates).sum())
        speed = log_rate + math.log(max(largest * total, 1e-300))
        if reduction.balanced:  # the exponents may move before the outputs do
            steepness = -degree * reduction.log_scale
            speed = max(speed, log_rate + steepness + math.log(max(degree**2 * reduction.z_max * total, 1e-300)))
        log_tau = min(math.log(0.3 * math.sqrt(self.rtol)) - speed, math.log(1e-7), self.log_tau_end - 1.0)
        c = rates @ reduction.basis.lift if reduction.span else rates
        return log_tau, c * math.exp(log_tau + log_rate)

    def _turn(self, rho: Floats) -> Floats:
        """Take the eigenvectors of the tangent kernel at the anchor as axes of the state; return rho in the new ones.

        Where fewer coordinates are active than there are samples, some eigenvalues fall without bound. Such a direction
        has a unit of its own, with which the round-off of the strong ones stays below the tolerance: the square root
        of its eigenvalue (relative to the mean), which is what it adds to the outputs. Below `_WEAKEST` a direction is
        null: nothing but coordinates on their way to zero depend on it, and a damping of that size holds it.
        """
        reduction, power = self.reduction, 2 * self.reduction.problem.model.degree - 2
        log_weights = np.logaddexp(power * self.anchors[0], power * self.anchors[1])
        before = self.axes * self.sizes
        stiffness = math.log(self.size / reduction.targets.size) - reduction.problem.log_weight_decay
        if stiffness < math.log(_STIFF_FROM):
            return rho
        rows, lift = reduction.basis.rows, reduction.basis.lift
        if not rows.size:
            rows = reduction.z = reduction.z_small.astype(np.float64)
        weighted = rows * np.exp(0.5 * (log_weights - log_weights.max()))
        eigenvalues, self.axes = np.linalg.eigh(weighted @ weighted.T)
        relative = eigenvalues / eigenvalues.mean()
        self.sizes = np.sqrt(np.clip(relative, _WEAKEST**2, 1.0))
        self.damped = _WEAKEST**2 if relative[0] < 10.0 * _WEAKEST**2 else 0.0
        turned = (self.axes / self.sizes).T @ rows
        lift = lift @ self.axes if lift.size else self.axes
        self.basis = Basis(np.ascontiguousarray(turned), np.ascontiguousarray(lift * self.sizes))
        return np.asarray(np.linalg.solve(before.T, rho) @ self.axes * self.sizes)

    def _log_gain(self) -> float:
        """Return log of the factor from rho to the rate of m: what must not jump when clock or frame change."""
        clock = self._clock(self.log_tau)
        log_s, log_c, _ = compiled.residual_scale(clock, self._pack())
        gain = log_s - log_c - (self.log_tau if self.log_clock else 0.0)
        if self.frame == Frame.KERNEL:
            gain -= 2.0 * (self.reduction.problem.model.degree - 1) * self._log_sigma()
        return gain - math.log(self.kappa)

    def _log_sigma(self) -> float:
        return self.reduction.log_scale - (math.exp(self.log_tau) if self.decaying else 0.0)

    def _with_residual(self, y: Floats) -> Floats:
        """Append rho at the start (squared loss)."""
        reduction = self.reduction
        if not self._squared:
            return y
        clock = np.array([self.log_tau])
        pack = self._pack()
        log_c = compiled.residual_scale(self.log_tau, pack)[1]
        residual = (
            compiled.state_outputs(clock, np.ascontiguousarray(y[None, :] / self.kappa), pack)[0] - reduction.targets
        )
        if reduction.span:
            residual = residual @ reduction.basis.lift
        return np.concatenate([y, 2.0 * self.kappa / reduction.targets.size * math.exp(log_c) * residual])

    def _units(self) -> tuple[float, float]:
        """Return the size of the tangent kernel and kappa, the unit of the state.

        One unit of the state moves the outputs or the exponents of the coordinates by about one, whichever comes first:
        from a tiny start the coordinates grow by many orders of magnitude before any output can be seen.
        """
        reduction, degree = self.reduction, self.reduction.problem.model.degree
        if self.frame == Frame.KERNEL:
            size = 2.0 * degree**2 * float(np.mean(reduction.squared_norms))
            log_steepness = -degree * self._log_sigma()
        else:
            log_weights = np.logaddexp(*(self.anchors[:2] * (2 * degree - 2)))
            weights = degree**2 * np.exp(log_weights)
            if reduction.z_small.size:  # entries +-1, and only an order of magnitude is wanted
                size = float(np.sum(weights)) * reduction.z_max**2
            else:
                size = float(np.mean((reduction.z**2) @ weights))
            log_steepness = (degree - 2) * float(self.anchors[:2].max())
        size = size if size > 0.0 and math.isfinite(size) else 1.0
        return size, max(size, degree**2 * reduction.z_max * math.exp(min(log_steepness, 600.0)))

    def _pack(self) -> tuple[Any, ...]:
        return make_pack(
            self.reduction, self.basis, frame=self.frame, log_clock=self.log_clock, tau_anchor=self.tau_anchor,
            anchors=self.anchors, kappa=self.kappa, size=self.size, log_cap=self._log_cap(), damped=self.damped,
        )  # fmt: skip

    def step(self) -> None:
        """Take a few steps, and where they end a segment go over to the next clock or frame."""
        if self.leg is None:
            self.leg = self._begun()
        leg = self.leg
        status = self._advance(leg) if self.counts[radau.STEPS] < self.max_steps else radau.RUNNING
        self.log_tau = leg.clock if self.log_clock else math.log(leg.clock)
        self.width = float(leg.state[radau.H])
        if status != radau.RUNNING or self.counts[radau.STEPS] >= self.max_steps:
            self.leg = None
            self._end(leg, status)

    def _begun(self) -> Leg:
        """Return the next segment, to the next change of clock or of frame."""
        clock, log_tau_stop = self._clock(self.log_tau), self._next_change()
        stop = self._clock(log_tau_stop)
        if self.width <= 0.0:
            self.width = 0.1 if self.log_clock else 1e-3 * math.exp(self.log_tau)
        # in the rich frame everything decays at rate one: a much wider step can satisfy the collocation equations
        # with another solution (the collapse to zero), which no error estimate sees
        s = self._stages()
        widest = 1.0 if self.frame == Frame.RICH else self._widest_in_kernel_frame(radau_iia(s))
        state, r = np.zeros(9), self.y.size
        state[[radau.H, radau.ETA, radau.H_SAFE]] = min(self.width, stop - clock), 1.0, math.inf
        state[radau.HALVED] = self._squared
        carried = state, np.zeros((s, r)), np.zeros(r), np.zeros((r, r))
        return Leg(self._pack(), clock, stop, log_tau_stop, widest, *carried, [])

    def _stages(self) -> int:
        """Return the number of stages that is fastest at the tolerance.

        More of them have a more ill-conditioned transformation, which leaves Newton's iteration with the squared loss
        to round-off where A is huge and a direction of the tangent kernel is weak.
        """
        most = 3 if self.rtol > 3e-6 else 5 if self.rtol > 3e-9 or self._squared else 7
        if not self._squared or most == 3:
            return most
        weakest = self.reduction.smallest_eigenvalue
        if self.frame == Frame.RICH:
            weakest = float(self.sizes.min()) * math.exp(-compiled.MOST_DECAY)
        enough = 3.0 * radau.newton_tolerance(self.rtol) * self.rtol
        return most if enough * min(weakest, 1.0) > _ROUND_OFF_OF_FIVE else 3

    def _advance(self, leg: Leg) -> int:
        """Run the compiled driver for some steps and keep its record."""
        size = min(self.chunk_size, self.max_steps - int(self.counts[radau.STEPS]))
        s, r = leg.last.shape
        record = (np.empty(size), np.empty(size), np.empty((size, r)), np.empty((size, s, r)))
        began = time.perf_counter()
        try:
            taken, status = radau.advance(
                _driven(radau_iia(s)), leg.clock, leg.stop, self.y, self.rtol, self.rtol, leg.widest, leg.state,
                leg.last, leg.derivative, leg.jacobian, self.counts, leg.pack, *record,
            )  # fmt: skip
        except np.linalg.LinAlgError:  # a Newton matrix that is singular to the last digit
            taken, status = 0, radau.NOT_FINITE
        if time.perf_counter() - began < 0.5 * _CHUNK_SECONDS:  # where a call ends makes no difference to the steps
            self.chunk_size *= 2
        leg.parts.append(tuple(array[:taken].copy() for array in record))
        if taken:
            leg.clock = float(record[0][taken - 1] + record[1][taken - 1])
        return int(status)

    def _end(self, leg: Leg, status: int) -> None:
        """Keep a segment; go over to the next clock or frame, or be done."""
        joined = [np.concatenate(arrays) for arrays in zip(*leg.parts, strict=True)]
        if joined and joined[0].size:
            self.segments.append(Segment(leg.pack, *joined))
        if status in (radau.STEP_TOO_SMALL, radau.NOT_FINITE):
            self.status = Status(status)
        elif status == radau.RUNNING:
            self.status = Status.TOO_MANY_STEPS
        elif status == radau.REACHED_END and leg.log_tau_stop >= self.log_tau_end:
            self.status = Status.REACHED_END
        elif status == radau.REACHED_END:
            self.log_tau = leg.log_tau_stop
            if self.log_clock:
                self._change_clock()
        else:
            self._change_frame(leg.pack)

    @property
    def fraction(self) -> float:
        """The fraction of tau (of log tau without weight decay) that is done."""
        left = self.log_tau_end - self.log_tau
        return math.exp(min(0.0, -left)) if self.decaying else 1.0 - left / (self.log_tau_end - self.first)

    def result(self) -> Integration:
        """Return all segments so far, why the run has ended, and what it cost."""
        assert self.status is not None
        names = ("steps", "rejected", "rhs_batches", "jacobians", "factorisations")
        counts = dict(zip(names, self.counts.tolist(), strict=True))
        return Integration(self.segments, self.status, counts, self.rtol)

    def _clock(self, log_tau: float) -> float:
        return log_tau if self.log_clock else math.exp(log_tau)

    def _next_change(self) -> float:
        """Return the log tau of the change of clock (or the end)."""
        if self.log_clock and self.decaying:
            return min(math.log(_CLOCK_CHANGE), max(self._slaved_from(), self.log_tau), self.log_tau_end)
        stop, uncapped = self.log_tau_end, self._uncapped_from()
        if uncapped > 0.0 and math.log(uncapped) > self.log_tau:
            stop = min(stop, math.log(uncapped))
        if self._slaved_in_kernel_frame():
            ahead = math.log(self.rtol) - self._log_bending()
            ahead = ahead if ahead > 1e-6 else math.log(_BENDS)
            stop = min(stop, math.log(math.exp(self.log_tau) + ahead / self.reduction.problem.model.degree))
        return stop

    def _slaved_from(self) -> float:
        """Return log tau from which the residual has no transient of its own (squared loss, kernel frame; else inf).

        In log tau the rate at which it relaxes grows from stage to stage of a step, which no Jacobian at one time fits;
        in tau it hardly changes.
        """
        log_s, log_rate = self._log_relaxation()
        if log_rate == -math.inf:
            return math.inf
        return math.log(max(log_s, 0.0) - math.log(self.rtol)) - log_rate  # so many time constants from S to rtol

    def _log_relaxation(self) -> tuple[float, float]:
        """Return log S in tau at the start, and log of the slowest rate of the residual (-inf if it has none)."""
        problem, least = self.reduction.problem, self.reduction.smallest_eigenvalue
        if not self._squared or self.frame != Frame.KERNEL or least <= 0.0:
            return 0.0, -math.inf
        log_a = 2.0 * (problem.model.degree - 1) * self.reduction.log_scale - problem.log_weight_decay
        log_s = min(log_a, self._log_cap())
        return log_s, log_s + math.log(2.0 * self.size * least / problem.data.n)

    def _uncapped_from(self) -> float:
        """Return tau from which A is integrated as it falls in the kernel frame, uncapped (squared loss; else 0)."""
        if not (self._squared and self.decaying and self.frame == Frame.KERNEL):
            return 0.0
        power = 2.0 * (self.reduction.problem.model.degree - 1)
        return self.reduction.log_scale - (self._log_cap() + self.reduction.problem.log_weight_decay) / power

    def _widest_in_kernel_frame(self, tableau: RadauTableau) -> float:
        """Return the widest step over which A, and with it the Jacobian of the step, does not go stale.

        Newton's iteration with a Jacobian that is far too stiff hardly moves, and so seems to have converged.
        """
        if not self._slaved_in_kernel_frame():
            return math.inf
        degree, widest = self.reduction.problem.model.degree, math.inf
        if math.exp(self.log_tau) >= self._uncapped_from() * (1.0 - 1e-12):
            widest = _STALE / (2.0 * (degree - 1))
        bending = self._log_bending()
        if bending < math.log(self.rtol) - 1e-6:
            return widest
        c = tableau.c
        between = float(np.max(np.abs(np.prod(_GRID[:, None] - c, axis=1) * _GRID))) / math.factorial(c.size + 1)
        seen = math.exp(math.log(_INSIDE * self.rtol / (_BENDS * between)) - bending) ** (1.0 / (c.size + 1))
        return min(widest, min(seen, 1.0) / degree)

    def _slaved_in_kernel_frame(self) -> bool:
        return self._squared and self.decaying and not self.log_clock and self.frame == Frame.KERNEL

    def _log_bending(self) -> float:
        """Return log(L^2 eps |B|), which grows at the rate L: by so much the outputs differ from the linear model's.

        Where residuals are slaved the outputs hold the state, and Radau's error estimate, which damps stiff components,
        sees the stages only: on a wide step to where the outputs bend, all stages are right and the polynomial between
        them is not. So the width is bounded by the interpolation error of e^(L tau) times the bending.
        """
        c = (self.y[: self.reduction.dimension] / self.kappa)[None, :]
        largest = float(np.max(np.abs(compiled.exponents(c, self._pack()))))
        degree = self.reduction.problem.model.degree
        return 2.0 * math.log(degree) - degree * self._log_sigma() + math.log(max(largest, 1e-300))

    def _change_clock(self) -> None:
        before = self._log_gain() if self._squared else 0.0
        self.log_clock = False
        self.width *= math.exp(self.log_tau)
        if not self._squared:
            return
        if self.log_tau >= self._slaved_from() and self._log_relaxation()[1] > -math.log(self.rtol):
            self._relax()
        else:
            self.y[self.reduction.dimension :] *= math.exp(before - self._log_gain())

    def _relax(self) -> None:
        """Put rho where it balances the decay, right to the inverse of its rate.

        The transient is over, but the tolerance of log tau, tau times smaller a unit, has left noise of it.
        """
        r, clock, pack = self.reduction.dimension, self._clock(self.log_tau), self._pack()
        self.y[r:] = 0.0
        velocity, jacobian = np.empty((1, 2 * r)), np.empty((2 * r, 2 * r))
        compiled.rhs(np.array([clock]), self.y[None, :].copy(), pack, velocity)
        compiled.jacobian(clock, self.y, pack, jacobian)
        self.y[r:] = np.linalg.solve(-jacobian[r:, r:], velocity[0, r:])

    @property
    def _squared(self) -> bool:
        return loss_code(self.reduction.problem.loss) == SQUARED

    def _log_cap(self) -> float:
        """Return log of the largest A that is integrated (squared loss), nu counted as at least 1e-3 of the mean."""
        reduction = self.reduction
        least = min(1.0, max(reduction.smallest_eigenvalue, 1e-3))
        return math.log(reduction.problem.data.n / SLAVING_ERROR) - math.log(self.size * least)

    def _change_frame(self, pack: tuple[Any, ...]) -> None:
        """Anchor the rich frame where the flow is now."""
        clock = np.array([self._clock(self.log_tau)])
        r = self.reduction.dimension
        c = (self.y[:r] / self.kappa)[None, :]
        log_u, log_v = compiled.state_coordinates(clock, c, pack)
        signs = self.anchors[2:]
        tau = math.exp(self.log_tau) if self.decaying else 0.0
        if self.frame == Frame.KERNEL:
            log_u, log_v = log_u + self._log_sigma(), log_v + self._log_sigma()
        before = self._log_gain() if self._squared else 0.0
        self.frame = Frame.RICH
        self.anchors = np.vstack([log_u, log_v, signs])
        self.tau_anchor = tau
        self.size, self.kappa = self._units()
        rho = self.y[r:]
        if self._squared:
            rho = self._turn(rho * math.exp(before - self._log_gain()))
        self.y = np.concatenate([np.zeros(r), rho])


def _driven(tableau: RadauTableau) -> tuple[Any, ...]:
    """Return a tableau as the compiled driver takes it."""
    t = tableau
    return t.error_order, t.c, t.gamma, t.mu.conj(), t.T, t.T_inv, t.error, t.dense, t.series


def _start_anchors(reduction: Reduction) -> Floats:
    """Return log|u|, log|v| at the start and the signs s^L with which u^L and v^L count, shape (4, d)."""
    problem = reduction.problem
    d, degree = problem.data.d, problem.model.degree
    if reduction.balanced:
        return np.vstack([np.full((2, d), reduction.log_scale), np.ones((2, d))])
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(problem.direction)) + problem.log_alpha
    return np.vstack([logs.reshape(2, d), (np.sign(problem.direction) ** degree).reshape(2, d)])


def _initial_rates(code: int, q: Floats, targets: Floats) -> Floats:
    """Return -loss'(q_i)."""
    if code == SQUARED:
        return 2.0 * (targets - q)
    return np.exp(-q) if code == 0 else 1.0 / (1.0 + np.exp(np.clip(q, -700.0, 700.0)))
