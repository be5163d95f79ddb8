"""Lemmas D.1, D.2, D.3 and D.5: the early phase of regression, with every constant in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from theorykit import Crossing, Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.flow import Snapshot
from theorykit.predictors import (
    displacement_bound,
    earliest_exit,
    early_log_loss,
    early_loss_rate,
    off_span_bound,
    window,
)

from ._regression import Regression, accepted, decisive, regression_instances, slaving_error, target_norm

_HALF = 0.5
_KNOWN = 0.1  # relative error of the residual up to which the loss is judged
_FALLEN = 1e-6  # of log Loss, from which on its bound is compared: at t = 0 both are equal
_ROUND_OFF = 1e-13  # of h, through the projection off the span


class _Inequality(Regression):
    """What the lemmas share: they are slacks, measured on every rung of the ladder."""

    kind = "inequality"
    expansion = None

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Diagonal nets with L = 2, 3, 4, matrix factorisation, and smooth nets."""
        yield from regression_instances(rng)


class Terms(NamedTuple):
    """What Lemma D.1 speaks of at one time."""

    residual: np.ndarray  # f - y, up to a factor
    log_scale: float  # of that factor
    log_loss: float
    logs: np.ndarray  # of the four terms of the inequality over Loss: -bound, +bound, d(log Loss)/dtau in two parts
    signs: np.ndarray  # with which they stand in its slack


class Step(NamedTuple):
    """The terms at one accepted step, of the flow and of its companion."""

    log_tau: float
    own: Terms
    other: Terms
    log_noise: float  # of the residual: what the tolerance allows a step to leave of it

    @property
    def resolved(self) -> bool:
        """Whether the residual is known, to a tenth.

        In the first instants it falls below what a step can tell from 0; both runs may then leave much the same of it.
        Later, when d(log Loss)/dtau is nearly 0 beside its two parts, it is known again: they determine it.
        """
        own = np.linalg.norm(self.own.residual)
        with np.errstate(over="ignore"):
            other = self.other.residual * np.exp(self.other.log_scale - self.own.log_scale)
            agree = bool(np.linalg.norm(self.own.residual - other) < _KNOWN * own)
        above = bool(_log(float(own)) + self.own.log_scale + math.log(_KNOWN) > self.log_noise)
        return agree and (above or self._balanced)

    @property
    def _balanced(self) -> bool:
        parts = self.own.logs[2:]
        rate = np.exp(parts - parts.max()) * self.own.signs[2:]
        return bool(abs(rate.sum()) < _KNOWN * np.abs(rate).sum())

    def rate_slack(self, returned: bool = True) -> tuple[float, float]:
        """Return the slack of the inequality as a share of its terms, with what decay gives back or without."""
        own, other = (_share(terms, returned) for terms in (self.own, self.other))
        return own, abs(own - other)


class LossFalls(_Inequality):
    """For t <= T_max, the mean squared loss obeys d(Loss)/dt <= -(nu/2n) alpha^(2(L-1)) e^(-2(L-1) lambda t) Loss +
    (lambda L/sqrt(n)) |y| sqrt(Loss), and Loss <= max{ (|y|^2/n) exp(-nu A (1 - e^(-2(L-1) lambda t))/(8 n (L-1))),
    16 n L^2 |y|^2 lambda^2 e^(4(L-1) lambda t)/(nu^2 alpha^(4(L-1))) }. T_max is the time at which delta leaves the
    ball of radius eps_max around theta_bar, in which the smallest eigenvalue of the tangent kernel is at least nu/2.
    """

    id, title = "lyu2024.lem-d1", "Loss of regression falls and is held"
    source = Source("lyu2024", "Lemma D.1")
    quantity = "smallest slack"
    judged = (
        "At every accepted step up to the first at which the smallest eigenvalue of the tangent kernel is below nu/2 "
        "(no radius gives a later T_max): the slack of the differential inequality as a share of its terms, and that "
        "of the bound on log Loss as a share of how far it has fallen (from 1e-6 on: at t = 0 both are equal). Both "
        "must be positive at every scale. Steps in the first instants at which the residual is not known to a tenth "
        "(below ten times the tolerance, and not yet where its decay and what weight decay gives back balance) are "
        "left out and counted."
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Return the smallest slack over the steps."""
        steps = self._steps(instance, problem)
        count = {"steps judged": float(len(steps)), "steps": float(len(list(accepted(self.early(problem)))))}
        rates = [step.rate_slack() for step in steps]
        return Measurement(*decisive(rates), extra=count, also=(self._bound(instance, problem),))

    def controls(self) -> Sequence[Control]:
        """Return a faster fall, and inequality and bound without what weight decay gives back."""
        return (
            Control("loss falls like A⁻³", lambda i, p: self._bound(i, p, power=1.5)),
            Control("without what weight decay gives back", self._without_return),
        )

    def broken(self) -> Sequence[Control]:
        """Return another exponent of e^(lambda t) in the second term of the bound."""
        return (Control("held at e^(2(L-1)λt)", lambda i, p: self._bound(i, p, slower=0.5)),)

    def _steps(self, instance: Instance, problem: Problem) -> list[Step]:
        """Return the accepted steps as far as the kernel keeps half of nu, but for those that are not resolved."""

        def read() -> list[Step]:
            nu, found = self.ball(instance).nu, []
            noise = math.log(2.0 * self.tools.rtol * target_norm(instance))  # the residual is half a slope
            for snapshot in accepted(self.early(problem)):
                if _smallest(snapshot, problem) < _HALF * nu:
                    break
                own, other = (self._terms(instance, problem, now) for now in (snapshot, snapshot.looser))
                found.append(Step(snapshot.log_tau, own, other, noise))
            return [step for step in found if step.resolved]

        return self.tools.remember(("steps", instance.key, problem.log_alpha), read)

    def _terms(self, instance: Instance, problem: Problem, now: Snapshot) -> Terms:
        model, data = instance.model, instance.data
        slopes, log_scale = now.path.slopes(now.log_tau)
        top = float(np.abs(slopes).max())
        if top == 0.0:  # below the float range, in the first instants: not resolved
            return Terms(slopes, log_scale, -math.inf, np.zeros(4), np.zeros(4))
        log_loss = 2.0 * (math.log(0.5 * top) + log_scale) + math.log(float(np.mean((slopes / top) ** 2)))
        bound = early_loss_rate(
            math.exp(now.log_tau), log_loss, n=data.n, degree=model.degree, log_A=problem.log_A,
            nu=self.ball(instance).nu, target_norm=target_norm(instance),
        )  # fmt: skip
        total = -float(np.mean(slopes / top * now.outputs()))
        given = _log(model.degree * top * abs(total)) + log_scale - log_loss
        pulled = float(np.linalg.norm(model.vjp(now.direction, data.X, slopes / top / data.n)))
        gradient = _log(top * pulled) + log_scale + (model.degree - 1) * now.log_norm
        logs = np.array([*bound, given, 2.0 * gradient - log_loss - problem.log_weight_decay])
        return Terms(slopes, log_scale, log_loss, logs, np.array([-1.0, 1.0, -math.copysign(1.0, total), 1.0]))

    def _bound(self, instance: Instance, problem: Problem, power: float = 1.0, slower: float = 0.0) -> Measurement:
        """Return the smallest slack of the bound on log Loss, to another power, or with less growth of its end."""
        steps, size, n = self._steps(instance, problem), target_norm(instance), instance.data.n
        tau = np.exp([step.log_tau for step in steps])
        bounds = early_log_loss(
            tau, n=n, degree=instance.model.degree, log_A=problem.log_A, nu=self.ball(instance).nu, target_norm=size
        )
        start = 2.0 * math.log(size) - math.log(n)
        slacks = []
        growth = 4.0 * (instance.model.degree - 1) * slower
        for bound, step in zip(bounds - growth * tau, steps, strict=True):
            own, other = step.own.log_loss, step.other.log_loss
            fallen = start - own
            if fallen > _FALLEN:
                slacks.append(((start + power * (bound - start) - own) / fallen, abs(own - other) / fallen))
        return Measurement(*decisive(slacks))

    def _without_return(self, instance: Instance, problem: Problem) -> Measurement:
        """Leave out (lambda L/sqrt(n)) |y| sqrt(Loss)."""
        slaved = slaving_error(self.early(problem))
        rates = [step.rate_slack(returned=False) for step in self._steps(instance, problem)]
        return Measurement(*decisive([(slack, error + slaved) for slack, error in rates]))


class StaysNear(_Inequality):
    """T_max >= (1/lambda)(log(alpha) + const), and |delta(t)| <= C alpha^(-L) e^(L lambda t) for t <= T_max. With the
    radius r of a ball in which the tangent kernel keeps nu/2 and Lambda bounds its largest eigenvalue, C = 24
    sqrt(Lambda) |y|/nu and const = log(r/C)/L follow from Lemma D.1.
    """

    id, title = "lyu2024.lem-d2", "Regression stays near the start to log α / λ + const"
    source = Source("lyu2024", "Lemma D.2")
    quantity = "smallest slack, in logarithms"
    judged = (
        "With C and const from the tangent kernel (predictors.displacement_bound, earliest_exit): log C - log |h| at "
        "every accepted step up to T_max, h = alpha^L e^(-L lambda t) delta, and lambda T_max minus its bound; both "
        "must be positive at every scale."
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Return the smaller of both slacks."""
        return Measurement(*self._size(instance, problem, 0.0), also=(self._exit(instance, problem, 0.0),))

    def controls(self) -> Sequence[Control]:
        """Return a smaller displacement."""
        return (Control("|δ| = O(α^(-L-½)) e^(Lλt)", lambda i, p: Measurement(*self._size(i, p, 0.5))),)

    def broken(self) -> Sequence[Control]:
        """Return a later exit."""
        return (Control("T_max ≥ (1.1/λ) log α", lambda i, p: self._exit(i, p, 0.1)),)

    def _size(self, instance: Instance, problem: Problem, power: float) -> tuple[float, float, float]:
        """Return the slack of |h| <= C alpha^(-power) up to T_max."""
        trajectory = self.early(problem)
        until = self._left(instance, problem)[0]
        limit = math.log(displacement_bound(self.ball(instance), target_norm(instance))) - power * problem.log_alpha
        slacks = []
        for snapshot in accepted(trajectory, until):
            value, error = snapshot.estimate(lambda now: now.h[1])
            slacks.append((limit - value, error + slaving_error(trajectory)))
        return decisive(slacks)

    def _left(self, instance: Instance, problem: Problem) -> tuple[float, float]:
        """Return lambda T_max for the proved radius (the end of the flow, where it has not left) and its error."""
        size = float(np.linalg.norm(problem.direction))
        mark = Crossing("log_delta", math.log(self.ball(instance).radius / size), direction=1)
        found = self.early(problem).crossings(mark)
        return (found[0].tau, found[0].error) if found else (problem.log_alpha, 0.0)

    def _exit(self, instance: Instance, problem: Problem, later: float) -> Measurement:
        tau, error = self._left(instance, problem)
        bound = earliest_exit(problem.log_alpha, instance.model.degree, self.ball(instance), target_norm(instance))
        return Measurement(tau - bound - later * problem.log_alpha, 0.0, error)


class OffSpan(_Inequality):
    """The part of delta(T^-_c) that is orthogonal to the span of the features is at most C alpha^(-2cL), with C = 20 B
    |y| C_2/nu, B the Lipschitz constant of the features near theta_bar and C_2 that of Lemma D.2.
    """

    id, title = "lyu2024.lem-d3", "Regression moves in the span of the features"
    source = Source("lyu2024", "Lemma D.3")
    quantity = "slack, in logarithms"
    judged = (
        "With C from the tangent kernel (predictors.off_span_bound): log C - 2cL log(alpha) minus the logarithm of the "
        "part of delta(T⁻) off the span must be positive at every scale, while that part is above round-off of the "
        "whole (cL = 0.06: up to log(alpha) = 230)."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """The same models, with cL = 0.06: the part off the span then is above round-off on the whole ladder."""
        yield from regression_instances(rng, lambda degree: 0.06 / degree)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the slack at T^-_c."""
        return self._slack(instance, problem, 2.0)

    def controls(self) -> Sequence[Control]:
        """Return other powers of alpha^(-cL)."""
        return (Control("α^(-5cL) instead", lambda i, p: self._slack(i, p, 5.0)),)

    def broken(self) -> Sequence[Control]:
        """Return the nearest power that the constants on this ladder can tell."""
        return (Control("α^(-4cL) instead", lambda i, p: self._slack(i, p, 4.0)),)

    def summarise(self, instance: Instance, problem: Problem) -> dict[str, float]:
        """Return the measured exponent, in units of cL, between half the largest scale and the largest."""
        logs = [self._off(instance, instance.at(scale))[0] for scale in (0.5 * problem.log_alpha, problem.log_alpha)]
        rise = 0.5 * problem.log_alpha * instance.c * instance.model.degree
        return {"exponent of the part off the span, in cL": (logs[0] - logs[1]) / rise}

    def _slack(self, instance: Instance, problem: Problem, power: float) -> Measurement:
        value, error = self._off(instance, problem)
        constant = math.log(off_span_bound(self.ball(instance), target_norm(instance)))
        slack = constant - power * instance.c * instance.model.degree * problem.log_alpha - value
        return Measurement(slack, 0.0, error)

    def _off(self, instance: Instance, problem: Problem) -> tuple[float, float]:
        """Return log |delta_perp| at T^-_c, and its error."""
        trajectory = self.early(problem)
        span = np.linalg.qr(self.features(instance).T)[0]
        tau = window(problem.log_alpha, instance.c)[0]
        snapshot = trajectory.at(tau=tau)
        sizes = []
        for now in (snapshot, snapshot.looser):
            unit, log_size = now.h
            rest = unit - span @ (span.T @ unit)
            rest -= span @ (span.T @ rest)
            sizes.append((float(np.linalg.norm(rest)), log_size))
        (size, log_size), (other, other_log) = sizes
        eps = instance.model.degree * (tau - problem.log_alpha)
        value = math.log(size) + log_size + eps
        error = abs(math.log(size / other) + log_size - other_log) + _ROUND_OFF / size + slaving_error(trajectory)
        return value, error


class SizeOfH(_Inequality):
    """|h(T^-_c)| = Theta(1): with C of Lemma D.2 and Lambda the largest eigenvalue of the tangent kernel in its ball,
    |y|/(2 sqrt(Lambda)) <= |h(T^-_c)| <= C.
    """

    id, title = "lyu2024.lem-d5", "h is neither large nor small at T⁻"
    source = Source("lyu2024", "Lemma D.5")
    quantity = "smaller slack, in logarithms"
    judged = (
        "The logarithm of |h(T⁻)| must lie between those of |y|/(2 sqrt(Lambda)) and C, which do not depend on alpha, "
        "at every scale."
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the distances to both bounds."""
        return self._between(instance, problem, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return a size that grows like a small power of alpha."""
        return (Control("|h(T⁻)| = Θ(α^0.1)", lambda i, p: self._between(i, p, 0.1)),)

    def broken(self) -> Sequence[Control]:
        """Return a size that shrinks."""
        return (Control("|h(T⁻)| = Θ(α^-0.1)", lambda i, p: self._between(i, p, -0.1)),)

    def summarise(self, instance: Instance, problem: Problem) -> dict[str, float]:
        """Return |h|/|h*|."""
        log_size = self._at(instance, problem).h[1]
        return {"|h(T⁻)| / |h*| at the largest α": math.exp(log_size) / self.interpolant(instance).norm}

    def _at(self, instance: Instance, problem: Problem) -> Snapshot:
        return self.early(problem).at(tau=window(problem.log_alpha, instance.c)[0])

    def _between(self, instance: Instance, problem: Problem, power: float) -> Measurement:
        """Hold |h| alpha^(-power) against the constants."""
        value, error = self._at(instance, problem).estimate(lambda now: now.h[1])
        error += slaving_error(self.early(problem))
        value -= power * problem.log_alpha
        ball, size = self.ball(instance), target_norm(instance)
        above = math.log(displacement_bound(ball, size)) - value
        below = value - math.log(0.5 * size) + 0.5 * math.log(ball.largest)
        return Measurement(above, 0.0, error, also=(Measurement(below, 0.0, error),))


def _share(terms: Terms, returned: bool) -> float:
    """Return the slack of the differential inequality over the sum of its terms' sizes."""
    shares = np.exp(terms.logs - terms.logs.max())
    shares[1] *= returned
    return float(terms.signs @ shares / shares.sum())


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def _smallest(snapshot: Snapshot, problem: Problem) -> float:
    """Return the smallest eigenvalue of the tangent kernel at theta/sigma."""
    log_sigma = problem.log_alpha - math.exp(snapshot.log_tau)
    theta = snapshot.direction * math.exp(snapshot.log_norm - log_sigma)
    return float(np.linalg.eigvalsh(problem.model.ntk(problem.data.X, theta=theta))[0])
