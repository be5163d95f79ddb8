r"""The flow of any homogeneous model in coordinates in which no factor leaves the float range.

With sigma = alpha e^(-tau) and eps = sigma^(-L), two frames, both exact:

- kernel: h, where theta = sigma (theta_bar + eps h) and the output vanishes at theta_bar,

      dh/dtau = -L h + sum_i c_i grad f_i(theta_bar + eps h),  c_i = -(sigma^(2(L-1))/lambda) p_i loss'_i

  with the outputs f_i = [f_i(theta_bar + eps h) - f_i(theta_bar)]/eps from the model's difference propagation;
- rich: theta itself, dtheta/dtau = -theta + sum_i c_i grad f_i(theta), c_i = -(1/lambda) p_i loss'_i.

p_i is the share of sample i in the mean. Every factor of c_i is in one exponent, that of the clock log tau, too.

For the squared loss c_i goes with A~ = sigma^(2(L-1))/lambda (1/lambda in the rich frame) times f_i - y_i, which falls
to 1/A~ of y: below round-off where A~ is huge. There the residual is slaved: see `theorykit.flow.slaved`. Not of nets
with kinks: see `theorykit.flow.carried`.

At the kinks of a net with activations like ReLU the right-hand side jumps: a field is smooth because it is that of one
piece, held in its inputs, and of kinks along which the flow slides: see `theorykit.flow.kinks`.

Without weight decay sigma = alpha for all time, the terms -L h and -theta are absent, and lambda is to be read as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.kinks import across, along, holding_slopes
from theorykit.flow.problem import Problem
from theorykit.losses import CROSS_ENTROPY, log_derivatives, log_losses
from theorykit.models import Inputs

Floats = NDArray[np.float64]

KERNEL, RICH = "kernel", "rich"
LARGEST = 300.0  # log |c| of a sample that no unit sees
_UNSEEN = 1e-3  # outputs of such a sample
_NOTHING = 600.0  # under the largest log |c|
_IN_DIGITS = 1e-4  # f - y relative to the targets, from which the difference has digits
_NO_CURVATURE = -37.0  # log eps below which the model is linear in h to round-off


@dataclass(frozen=True, eq=False)
class Field:
    """The right-hand side of a problem in one frame and one clock.

    Attributes
    ----------
    problem : Problem
    inputs : Inputs
        The training inputs as the model has checked them, on the piece that the flow is on.
    frame : {"kernel", "rich"}
        Whether the state x is h or theta.
    log_clock : bool
        Whether the clock is log tau (log t without weight decay) instead of tau.
    held : tuple of int
        The kinks along which the flow slides.
    resting : tuple of int
        Kinks that it cannot leave while it slides along those, whatever their slopes.
    grazing : tuple of int
        Kinks that it is on and moves along without being held there, as those of a unit that is off for every sample.
    since : float or None
        The tau (or t) from which the clock counts, log(tau - since): that of a kink behind which the flow is faster
        than tau has digits.
    negligible : float
        A size of parameters that is nothing beside the tolerance.
    log_cap : float
        What log A~ is bounded by.
    origin : float
        The tau from which a clock in tau counts.
    log_pace : float
        log(dtau/dclock) at the one time for which a field with `since` serves, see `at`.
    """

    problem: Problem
    inputs: Inputs
    frame: str
    log_clock: bool
    held: tuple[int, ...] = ()
    resting: tuple[int, ...] = ()
    grazing: tuple[int, ...] = ()
    since: float | None = None
    negligible: float = 0.0
    log_cap: float = math.inf
    origin: float = 0.0
    log_pace: float = 0.0

    @property
    def slaved(self) -> bool:
        """Whether residuals are slaved."""
        return False

    @property
    def carried(self) -> bool:
        """Whether c is part of the state."""
        return False

    @property
    def exact(self) -> bool:
        """Whether c has more digits than the outputs."""
        return False

    @cached_property
    def decaying(self) -> bool:
        """Whether lambda > 0."""
        return self.problem.log_weight_decay > -math.inf

    @cached_property
    def log_shares(self) -> Floats:
        """Logarithms of the samples' shares in the mean, shape (n,) or (n, 1)."""
        logs = np.log(self.problem.shares)
        return logs if self.problem.model.outputs == 1 else logs[:, None]

    def log_tau(self, clock: float) -> float:
        """Return log tau at a time of the clock."""
        if self.since is not None:
            return math.log(self.since + math.exp(clock))
        return clock if self.log_clock else math.log(self.origin + clock)

    def clock(self, log_tau: float) -> float:
        """Return the time of the clock at log tau."""
        if self.since is not None:
            elapsed = math.exp(log_tau) - self.since
            return math.log(elapsed) if elapsed > 0.0 else -math.inf
        return log_tau if self.log_clock else math.exp(log_tau) - self.origin

    def at(self, clock: float) -> Self:
        """Return the field at one time of its clock."""
        return self if self.since is None else replace(self, log_pace=clock)

    def log_rate(self, log_tau: float) -> float:
        """Return log(dtau/dclock)."""
        return log_tau if self.log_clock and self.since is None else self.log_pace

    def log_sigma(self, log_tau: float) -> float:
        """Return log sigma, sigma = alpha e^(-tau)."""
        return self.problem.log_alpha - (math.exp(log_tau) if self.decaying else 0.0)

    def log_eps(self, log_tau: float) -> float:
        """Return log eps of the kernel frame; 0 in the rich one."""
        return -self.problem.model.degree * self.log_sigma(log_tau) if self.frame == KERNEL else 0.0

    def log_scale(self, log_tau: float) -> float:
        """Return the logarithm of theta over `moved`: log sigma in the kernel frame, 0 in the rich one."""
        return self.log_sigma(log_tau) if self.frame == KERNEL else 0.0

    def log_stiffness(self, log_tau: float) -> float:
        """Return log A~, the factor between loss derivatives and the force."""
        return min(self._log_stiffness(log_tau), self.log_cap)

    def bounded(self, log_tau: float) -> bool:
        """Whether A~ is larger than its bound."""
        return self._log_stiffness(log_tau) > self.log_cap

    def _log_stiffness(self, log_tau: float) -> float:
        """Return it without its bound."""
        log_lambda = self.problem.log_weight_decay if self.decaying else 0.0
        return 2.0 * (self.problem.model.degree - 1) * self.log_scale(log_tau) - log_lambda

    def decay(self, log_tau: float) -> float:
        """Return the rate at which the state shrinks by itself, per unit of the clock."""
        if not self.decaying:
            return 0.0
        rate = float(self.problem.model.degree) if self.frame == KERNEL else 1.0
        return rate * math.exp(self.log_rate(log_tau))

    def moved(self, log_tau: float, x: Floats) -> Floats:
        """Return the parameters over their scale: theta_bar + eps h, or theta."""
        if self.frame == RICH:
            return x
        moved: Floats = self.problem.direction + math.exp(self.log_eps(log_tau)) * x
        return moved

    def outputs(self, log_tau: float, x: Floats, inputs: Inputs | None = None) -> Floats:
        """Return f(theta; x_i) for the training inputs, or others."""
        model, inputs = self.problem.model, self.inputs if inputs is None else inputs
        if self.frame == RICH:
            return np.asarray(model.output(x, inputs))
        return np.asarray(model.difference(self.problem.direction, x, self.log_eps(log_tau), inputs))

    def on_piece(self, kinks: Sequence[int], slopes: Floats) -> Self:
        """Return the field with other slopes at some kinks, none of which is held."""
        assert self.inputs.piece is not None
        piece = self.inputs.piece.copy()
        piece[list(kinks)] = slopes
        return replace(self, inputs=replace(self.inputs, piece=piece), held=(), resting=(), grazing=())

    def sliding(self, log_tau: float, x: Floats) -> Self:
        """Return the field at one point, with the slopes that keep the flow on the kinks that it slides along."""
        if not self.held:
            return self
        return self.on_piece(self.held, holding_slopes(self, log_tau, x, self.held))

    def off_kinks(self, now: Self) -> Self:
        """Return `now` without what round-off lets through at the kinks that this field keeps the flow on.

        Else a sample that is seen along those only would be right or wrong by the sign of round-off.
        """
        on = [*self.held, *self.resting]
        return now.on_piece(on, np.zeros(len(on))) if on else now

    def pull(self, log_tau: float, x: Floats) -> Floats:
        """Return the direction of the force: the force but for a positive factor."""
        return self.pulled_back(log_tau, x, lambda f: self.scaled_cotangent(log_tau, f))

    def pulling(self, log_tau: float, x: Floats) -> Floats:
        """Return the c of `pull`."""
        return self.scaled_cotangent(log_tau, self.outputs(log_tau, x))

    def scaled_cotangent(self, log_tau: float, f: Floats) -> Floats:
        """Return c but for a positive factor: the largest is of size 1."""
        logs, signs = self._log_cotangent(log_tau, f)
        top = float(logs.max())
        slopes: Floats = -signs * np.exp(logs - (top if math.isfinite(top) else 0.0))
        return slopes

    def cotangent(self, log_tau: float, f: Floats) -> Floats:
        """Return c, per unit of the clock."""
        logs, signs = self._log_cotangent(log_tau, f)
        return -signs * np.exp(logs)

    def _log_cotangent(self, log_tau: float, f: Floats) -> tuple[Floats, Floats]:
        """Return the logarithms of |c|, per unit of the clock, and the signs of -c."""
        logs, signs = log_derivatives(self.problem.loss, f, self.problem.data.y)
        return bounded(logs + self.log_shares + self._log_factor(log_tau), f), signs

    @np.errstate(all="ignore")  # a trial point that is too far off gives inf or nan, and the step is rejected
    def __call__(self, clock: float, x: Floats) -> Floats:
        """Return dx/dclock."""
        return self.at(clock).velocity(self.log_tau(clock), x)

    def velocity(self, log_tau: float, x: Floats) -> Floats:
        """Return dx/dclock at a time given by log tau."""
        velocity: Floats = self.sliding(log_tau, x).force(log_tau, x) - self.decay(log_tau) * x
        return velocity

    def force(self, log_tau: float, x: Floats) -> Floats:
        """Return what the residuals add to dx/dclock."""
        return self.pulled_back(log_tau, x, lambda f: self.cotangent(log_tau, f))

    def pulled_back(self, log_tau: float, x: Floats, cotangent: Callable[[Floats], Floats]) -> Floats:
        """Return sum_i c_i grad f_i for c = cotangent(f), in one pass each way."""
        model = self.problem.model
        if self.frame == RICH:
            return np.asarray(model.value_and_vjp(x, self.inputs, cotangent)[1])
        theta_bar, log_eps = self.problem.direction, self.log_eps(log_tau)
        return np.asarray(model.difference_and_vjp(theta_bar, x, log_eps, self.inputs, cotangent)[1])

    def cotangent_at(self, log_tau: float, x: Floats, f: Floats) -> Floats:
        """Return c at a state whose outputs are f, per unit of the clock."""
        return self.cotangent(log_tau, f)

    def residuals(self, log_tau: float, x: Floats) -> tuple[Floats, float]:
        """Return f - y of the squared loss as mantissa and logarithm of its scale."""
        return self.outputs(log_tau, x) - self.problem.data.y, 0.0

    def log_loss(self, log_tau: float, x: Floats, f: Floats | None = None) -> float:
        """Return the logarithm of the mean loss."""
        if self.problem.loss == "squared":
            mantissa, log_scale = self.residuals(log_tau, x)
            with np.errstate(divide="ignore"):
                logs = 2.0 * (np.log(np.abs(mantissa)) + log_scale)
            return float(np.logaddexp.reduce(logs + self.log_shares))
        return mean_log_loss(self.problem, self.outputs(log_tau, x) if f is None else f)

    def log_speed(self, log_tau: float, x: Floats, f: Floats) -> float:
        """Return the logarithm of |dtheta/dtau| (dtau/dclock)^(1/2), whose square is what the energy loses."""
        moved, half = self.moved(log_tau, x), 0.5 * self.log_rate(log_tau)
        c = self.cotangent_at(log_tau, x, f)
        velocity, shift = self.problem.model.vjp(moved, self.inputs, c), self.log_eps(log_tau) - half
        if self.decaying and shift < 300.0:  # beyond, it is nothing beside the force, and the float range is near
            velocity, shift = math.exp(shift) * velocity - math.exp(half) * moved, 0.0
        speed = float(np.linalg.norm(velocity))
        return (math.log(speed) if speed > 0.0 else -math.inf) + shift + self.log_scale(log_tau)

    @np.errstate(all="ignore")
    def jacobian(self, clock: float, x: Floats) -> Floats:
        """Return d(dx/dclock)/dx, shape (P, P)."""
        now, log_tau = self.at(clock), self.log_tau(clock)
        matrix = now.bent(log_tau, x, now._log_factor(log_tau))
        matrix[np.diag_indices(x.size)] -= now.decay(log_tau)
        return matrix

    @np.errstate(all="ignore")
    def low_rank_jacobian(self, clock: float, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the parts of diag(d) + U V^T, the Jacobian without the curvature of the model, which is not stiff."""
        now, log_tau = self.at(clock), self.log_tau(clock)
        features, weighted = now.low_rank_curvature(log_tau, x, now._log_factor(log_tau))
        return np.full(x.size, -now.decay(log_tau)), features.T, -weighted.T

    def given(self, c: Floats) -> Given:
        """Return the field with a given c, shape (outputs of all samples,), per unit of the clock."""
        shaped = c.reshape(-1, 1)[:, 0] if self.problem.model.outputs == 1 else c.reshape(len(self.inputs), -1)
        return Given(**{entry.name: getattr(self, entry.name) for entry in fields(Field)}, c=shaped)

    @np.errstate(all="ignore")
    def nested(self, clock: float, x: Floats, c: Floats) -> tuple[Floats, Floats]:
        """Return dx/dclock for a given c, and the c of x."""
        now, log_tau = self.at(clock), self.log_tau(clock)
        return now.given(c).velocity(log_tau, x), now.cotangent(log_tau, now.outputs(log_tau, x)).ravel()

    def nested_jacobian(self, clock: float, x: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the Jacobian at a given c, and d(dx/dclock)/dc and dc/dx transposed."""
        given = self.given(c)
        _, forces, pulled = given.low_rank_jacobian(clock, x)
        return given.jacobian(clock, x), forces, pulled

    def nested_low_rank_jacobian(self, clock: float, x: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the same without the curvature of the model, of the Jacobian the diagonal."""
        return self.given(c).low_rank_jacobian(clock, x)

    def _log_factor(self, log_tau: float) -> float:
        """Return the logarithm of what multiplies a mean slope of the loss, per unit of the clock."""
        return self.log_stiffness(log_tau) + self.log_rate(log_tau)

    def bent(self, log_tau: float, x: Floats, log_factor: float, *, of_loss: bool = True) -> Floats:
        """Return e^log_factor times the Hessian of -L with respect to x along the kinks that are held, shape (P, P).

        Or of sum_i c_i f_i, without the curvature of the loss.
        """
        if self.held:
            now = self.sliding(log_tau, x)
            return along(now.bent(log_tau, x, log_factor, of_loss=of_loss), *across(now, log_tau, x, self.held))
        model, moved = self.problem.model, self.moved(log_tau, x)
        matrix: Floats = np.zeros((x.size, x.size))
        if of_loss:
            features, weighted = self.low_rank_curvature(log_tau, x, log_factor)
            matrix = -features.T @ weighted
        if self.log_eps(log_tau) > _NO_CURVATURE:
            c = self._bending(log_tau, x, log_factor)
            for column, axis in zip(matrix.T, np.eye(x.size), strict=True):
                column += model.hvp(moved, self.inputs, c, axis)
        return matrix

    def _bending(self, log_tau: float, x: Floats, log_factor: float) -> Floats:
        """Return e^log_factor eps p_i (-loss'_i): what the model's second derivatives are weighted by."""
        f = self.outputs(log_tau, x)
        logs, signs = log_derivatives(self.problem.loss, f, self.problem.data.y)
        weights: Floats = -signs * np.exp(bounded(logs + self.log_shares + log_factor, f) + self.log_eps(log_tau))
        return weights

    def low_rank_curvature(self, log_tau: float, x: Floats, log_factor: float) -> tuple[Floats, Floats]:
        """Return the features, and e^log_factor p_i loss''_i times them, shapes (outputs of all samples, P).

        Of the features what is along the kinks that are held: so they pull.
        """
        if self.held:
            now = self.sliding(log_tau, x)
            features, weighted = now.low_rank_curvature(log_tau, x, log_factor)
            return along(features.T, *across(now, log_tau, x, self.held)).T, weighted
        f = self.outputs(log_tau, x)
        features = np.reshape(self.problem.model.features(self.inputs, self.moved(log_tau, x)), (f.size, x.size))
        curvature = loss_curvature(self.problem.loss, f, self.problem.data.y, log_factor + self.log_shares)
        if f.ndim == 1:
            return features, curvature[:, None] * features
        n, c = f.shape
        weighted = np.einsum("njk,nkp->njp", curvature, features.reshape(n, c, -1)).reshape(n * c, -1)
        return features, weighted


@dataclass(frozen=True, eq=False)
class Given(Field):
    """A field in which c is given, and does not come from the outputs."""

    c: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def exact(self) -> bool:
        """Whether c has more digits than the outputs."""
        return True

    def scaled_cotangent(self, log_tau: float, f: Floats) -> Floats:
        """Return c but for a positive factor: the largest is of size 1."""
        scaled: Floats = self.c / max(float(np.max(np.abs(self.c))), 1e-300)
        return scaled

    def cotangent(self, log_tau: float, f: Floats) -> Floats:
        """Return c."""
        return self.c

    def residuals(self, log_tau: float, x: Floats) -> tuple[Floats, float]:
        """Return f - y: what holds c up where that is too small for digits of the difference."""
        miss, log_scale = super().residuals(log_tau, x)
        log_unit = -self.log_rate(log_tau) - self._log_stiffness(log_tau)
        held = -0.5 * self.c / np.exp(self.log_shares)
        large = np.abs(miss) > _IN_DIGITS * np.max(np.abs(self.problem.data.y))
        if not np.any(large):
            return held, log_unit
        return np.where(large, miss, held * math.exp(min(log_unit, 0.0))), log_scale

    def _bending(self, log_tau: float, x: Floats, log_factor: float) -> Floats:
        weights: Floats = self.c * math.exp(log_factor - self._log_factor(log_tau) + self.log_eps(log_tau))
        return weights


def mean_log_loss(problem: Problem, f: Floats) -> float:
    """Return the logarithm of the mean loss at outputs f."""
    return float(np.logaddexp.reduce(log_losses(problem.loss, f, problem.data.y) + np.log(problem.shares)))


def bounded(logs: Floats, f: Floats) -> Floats:
    """Return log |c|, bounded above for samples that no unit sees, whose gradients are 0.

    Or at whose kinks the flow is held: there the slope of the activation makes up for it. No other c is so large. And
    bounded below, so far under the largest that it makes a difference only where the larger ones have no part.
    """
    unseen = np.abs(f) < _UNSEEN
    if f.ndim > 1:
        unseen = np.all(unseen, axis=1, keepdims=True)
    logs = np.where(unseen, np.minimum(logs, LARGEST), logs)
    return np.maximum(logs, logs.max() - _NOTHING)


def loss_curvature(loss: str, f: Floats, y: NDArray[Any], log_factor: Floats) -> Floats:
    """Return e^log_factor times the second derivatives of each sample's loss: (n,), or (n, c, c) for classes."""
    if loss == "squared":
        return np.asarray(2.0 * np.exp(log_factor))
    logs, signs = log_derivatives(loss, f, y)
    scaled = np.exp(bounded(logs + log_factor, f))
    if loss == "exponential":
        return np.asarray(scaled)
    if loss != CROSS_ENTROPY:  # logistic: |loss'| (1 - |loss'|)
        return scaled * -np.expm1(logs)
    own = signs < 0.0  # of the class itself 1 - softmax_y stands in logs
    shares = np.where(own, -np.expm1(logs), np.exp(logs))
    # d softmax_j/df_k = softmax_j (1{j = k} - softmax_k); in the row of y all is -scaled_k softmax_y: it is symmetric
    matrix: Floats = scaled[:, :, None] * (np.eye(f.shape[1]) - shares[:, None, :])
    rows = np.arange(len(f)), np.argmax(own, axis=1)
    matrix[rows] = -scaled * shares[rows][:, None]
    matrix[(*rows, rows[1])] = scaled[rows] * shares[rows]
    return matrix
