"""Lemmas C.4 to C.8: inequalities along the flow up to T_max, at every accepted step, with proved constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from theorykit import Problem
from theorykit.checking import Control, Instance, Measurement, Source
from theorykit.predictors import kernel_phase_end, log_loss_ceiling, log_loss_floor, log_loss_floor_printed

from ._early import Constants, EarlyClaim, EarlyPhase, Run

Floats = NDArray[np.float64]

_STEPS = (
    "At the end of every accepted step up to T_max (the first time at which |delta| exceeds a proved lower bound on "
    "epsilon_max), at every scale of the ladder, both sides are read off the flow, the loss's derivative from the "
    "exact right-hand side. "
)
_REPEATS = 1000
_ERROR = "The number is the slack nearest to its error, which comes from the companion run, and must exceed it."


class LossFalls(EarlyClaim):
    """For t <= T_max the loss obeys dL/dt <= -(gamma^2/4) alpha^(2(L-1)) e^(-2(L-1) lambda t) L^2 + lambda deg L
    log(1/L), and L <= max{1/(1 + gamma^2 A (1 - e^(-2(L-1) lambda t))/(16(L-1))), e^(2(L-1) lambda t)/(F^-1(gamma^2
    A/(8L)) - 1)}, where F(x) = x log x and A = alpha^(2(L-1))/lambda; L stands for the degree in the second formula and
    in exponents.
    """

    id, title = "lyu2024.lem-c4", "Upper bounds on the loss and its derivative"
    source = Source("lyu2024", "Lemma C.4")
    quantity = "relative slack"
    judged = (
        f"{_STEPS}The slack of the first inequality is relative to the sum of its terms, that of the second to "
        f"log(1/L). {_ERROR}"
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the tightest slack of both inequalities."""
        phase = self.phase(instance, problem)
        return phase.slack(lambda run: _decrease(phase, run, 0.25), lambda run: _below(phase, run, 1.0))

    def controls(self) -> Sequence[Control]:
        """Return a larger constant in the rate, and a bound that does not turn up."""
        return (
            Control("(3/2)γ² instead of γ²/4", self._faster),
            Control("a bound that stays where it is at λt = 1", self._never_up),
        )

    def broken(self) -> Sequence[Control]:
        """Return half the exponent in the second bound."""
        return (Control("from λt = 1 on exp((L-1)λt)", self._slowly_up),)

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return the loss between its bounds along the flow of the smallest scale."""
        problem = instance.at(self.ladders[self.tools.profile][0])
        phase = self.phase(instance, problem)
        ceiling = log_loss_ceiling(phase.log_tau, *phase.constants.scales, phase.constants.margin)
        floor = _floor(phase.constants, phase.tau)
        curves = {"log L": phase.own.log_loss, "upper bound (C.4)": ceiling, "lower bound (C.7, corrected)": floor}
        label = f"{instance.model.name}, L = {instance.model.degree}, log α = {problem.log_alpha:g}"
        return [
            {
                "label": label,
                "s": (phase.tau / problem.log_alpha).tolist(),
                "curves": {name: values.tolist() for name, values in curves.items()},
                "marks": {"T_max": phase.end / problem.log_alpha},
                "quantity": "log of the training loss",
            }
        ]

    def _faster(self, instance: Instance, problem: Problem) -> Measurement:
        phase = self.phase(instance, problem)
        return phase.slack(lambda run: _decrease(phase, run, 1.5))

    def _never_up(self, instance: Instance, problem: Problem) -> Measurement:
        phase = self.phase(instance, problem)
        return phase.slack(lambda run: _below(phase, run, 0.0))

    def _slowly_up(self, instance: Instance, problem: Problem) -> Measurement:
        phase = self.phase(instance, problem)
        return phase.slack(lambda run: _below(phase, run, 0.5))


def _decrease(phase: EarlyPhase, run: Run, factor: float) -> Floats:
    """Return the relative slack of d log L/dtau <= -factor gamma^2 A~ L + deg log(1/L)."""
    degree, margin = phase.constants.problem.model.degree, phase.constants.margin
    room = run.push * (run.g**2 - factor * margin**2) + run.pull * degree * (-run.log_loss - run.mean_q)
    return room / (run.push * run.g**2 + run.pull * degree * -run.log_loss)


def _below(phase: EarlyPhase, run: Run, power: float) -> Floats:
    """Return 1 - log(1/bound)/log(1/L), where from tau = 1 on the bound rises with exp(power 2(L-1) tau) only."""
    constants = phase.constants
    bound = log_loss_ceiling(phase.log_tau, *constants.scales, constants.margin)
    missing = 2.0 * (constants.problem.model.degree - 1) * (1.0 - power) * np.maximum(phase.tau - 1.0, 0.0)
    bound = bound - missing
    return 1.0 - bound / run.log_loss


class Displacement(EarlyClaim):
    """T_max >= (1/lambda)(log alpha - (1/L) log log A + const), and up to then |delta(t)| = O(alpha^-L log A)
    e^(L lambda t).
    """

    id, title = "lyu2024.lem-c5", "The kernel regime lasts to log α - (1/L) log log A"
    source = Source("lyu2024", "Lemma C.5")
    quantity = "slack of λT_max, and of log |δ| over L"
    judged = (
        f"{_STEPS}The constants are computed: integrating |d delta/dt| <= G alpha^(L-2) e^(-(L-2) lambda t) L with "
        "the bound of Lemma C.4 gives a bound on |delta| of the lemma's form (its factor tends to 8G/gamma^2), and the "
        "time at which that reaches epsilon_max has the form of the bound on T_max. Both slacks are in slow time. "
        f"{_ERROR}"
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the slack of T_max and of |delta|."""
        return self._slack(instance, problem, 1.0)

    def controls(self) -> Sequence[Control]:
        """Return a larger factor of log(alpha), and no log log A, the constants measured at the smallest scale."""
        return (
            Control("T_max ≥ (1.05 log α - (1/L) log log A + const)/λ", lambda i, p: self._fitted(i, p, 1.05, 1.0)),
            Control("T_max ≥ (log α + const)/λ", lambda i, p: self._fitted(i, p, 1.0, 0.0)),
        )

    def broken(self) -> Sequence[Control]:
        """Return half the coefficient of log log A, and a slower growth of the bound on delta."""
        return (
            Control("T_max ≥ (log α - (1/2L) log log A + const)/λ", lambda i, p: self._fitted(i, p, 1.0, 0.5)),
            Control("|δ| = O(α^-L log A) exp((L-1)λt)", lambda i, p: self._slack(i, p, 1.0 - 1.0 / i.model.degree)),
        )

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return the measured and the proved constant of the bound on T_max, and that of |delta|, at this scale."""
        phase = self.phase(instance, problem)
        end = _proved_end(phase.constants)
        log_log_A = math.log(problem.log_A)
        shift = log_log_A / instance.model.degree - problem.log_alpha
        factor = phase.own.log_delta + instance.model.degree * (problem.log_alpha - phase.tau) - log_log_A
        proved = phase.constants.log_displacement(phase.log_tau) - phase.own.log_delta + factor
        return {
            "const of T_max, measured": phase.end + shift,
            "const of T_max, proved": end + shift,
            "log factor of |δ|, measured": float(factor.max()),
            "log factor of |δ|, proved": float(proved[-1]),
        }

    def _fitted(self, instance: Instance, problem: Problem, of_log: float, of_log_log: float) -> Measurement:
        """Return the slack of a bound on T_max with other coefficients, its constant that of the smallest scale."""
        smallest = instance.at(self.ladders[self.tools.profile][0])

        def rest(at: Problem) -> float:
            share = of_log_log / instance.model.degree
            return self.phase(instance, at).end - of_log * at.log_alpha + share * math.log(at.log_A)

        phase = self.phase(instance, problem)
        error = phase.end_error + self.phase(instance, smallest).end_error
        return Measurement(rest(problem) - rest(smallest), 0.0, max(error, 1e-12), phase.certificate)

    def _slack(self, instance: Instance, problem: Problem, growth: float) -> Measurement:
        phase = self.phase(instance, problem)
        degree = instance.model.degree
        end = phase.end - _proved_end(phase.constants)
        bound = phase.constants.log_displacement(phase.log_tau) - (1.0 - growth) * degree * phase.tau
        found = phase.slack(lambda run: (bound - run.log_delta) / degree)
        mark = Measurement(end, 0.0, max(phase.end_error, 1e-12), phase.certificate)
        return found if _reach(found) < _reach(mark) else mark


def _reach(found: Measurement) -> float:
    return found.measured - found.error


def _proved_end(constants: Constants) -> float:
    return kernel_phase_end(*constants.scales, constants.margin, constants.gradient, constants.radius)


class Linearisation(EarlyClaim):
    """Up to T_max the margins are those of the linearised net: q_i(theta) = <grad q_i(theta_bar), h> + O(alpha^-L log
    A) e^(L lambda t) |h|.
    """

    id, title = "lyu2024.lem-c6", "Outputs are linear in h up to T_max"
    source = Source("lyu2024", "Lemma C.6")
    quantity = "relative slack"
    judged = (
        f"{_STEPS}The constant is B/2 times that of Lemma C.5, B a proved bound on the Hessians in the ball. What is "
        f"left of q_i is the integral of the Hessian along the segment, so that nothing is subtracted. {_ERROR}"
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the relative slack."""
        return self._slack(instance, problem, 0.0)

    def controls(self) -> Sequence[Control]:
        """Return a remainder that grows more slowly."""
        return (Control("exp((L-1)λt) instead of exp(Lλt)", lambda i, p: self._slack(i, p, 1.0)),)

    def broken(self) -> Sequence[Control]:
        """Return a remainder that is smaller by a power of alpha."""
        return (Control("α^-2L instead of α^-L", lambda i, p: self._slack(i, p, 0.0, i.model.degree * p.log_alpha)),)

    def _slack(self, instance: Instance, problem: Problem, slower: float, smaller: float = 0.0) -> Measurement:
        phase = self.phase(instance, problem)
        bound = math.log(0.5 * phase.constants.curvature) + phase.constants.log_displacement(phase.log_tau)
        bound = bound - slower * phase.tau - smaller
        return phase.slack(lambda run: -np.expm1(np.minimum(run.log_remainder - bound, 30.0)))


class LossStays(EarlyClaim):
    """For t <= T_max the loss obeys dL/dt >= -G^2 alpha^(2(L-1)) e^(-2(L-1) lambda t) L^2 + lambda deg L log(1/(nL)).
    As printed it then is at least min{n/F^-1((2/(nL)) G^2 A e^(-2(L-1) lambda t)), (1/n) exp(1 - 2(L-1) lambda)};
    corrected (1/n) min{1/F^-1((2/(nL)) G^2 A e^(-2(L-1) lambda t)), exp(1 - 4(L-1)/L)}. L stands for the degree in
    these bounds and in exponents.
    """

    id, title = "lyu2024.lem-c7", "Lower bounds on the loss and its derivative"
    source = Source("lyu2024", "Lemma C.7")
    quantity = "relative slack"
    expected: ClassVar[Mapping[str, str]] = {"as-printed": "refuted", "corrected": "supported"}
    judged = (
        f"{_STEPS}The slack of the first inequality is relative to the sum of its terms, that of the second is the "
        f"difference of the logarithms, relative to that of the bound. It is held with {_REPEATS} n for n, "
        "too: the same flow is that of the data set in which every sample stands so often, with the same G. "
        f"{_ERROR}"
    )

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the tightest slack of both inequalities, with n samples and with each of them repeated."""
        phase = self.phase(instance, problem)
        constants = phase.constants
        bound = log_loss_floor_printed if variant == "as-printed" else log_loss_floor
        floors = [bound(phase.tau, *constants.scales, constants.gradient, m * instance.data.n) for m in (1, _REPEATS)]
        return phase.slack(
            lambda run: _slow_decrease(phase, run, constants.gradient),
            *(lambda run, floor=floor: 1.0 - run.log_loss / floor for floor in floors),
        )

    def controls(self) -> Sequence[Control]:
        """Return half the margin for G."""
        return (Control("γ/2 instead of G", self._smaller),)

    def broken(self) -> Sequence[Control]:
        """Return a bound with twice the exponent."""
        return (Control("bound with exp(-4(L-1)λt)", self._shorter),)

    def _smaller(self, instance: Instance, problem: Problem) -> Measurement:
        phase = self.phase(instance, problem)
        return phase.slack(lambda run: _slow_decrease(phase, run, 0.5 * phase.constants.margin))

    def _shorter(self, instance: Instance, problem: Problem) -> Measurement:
        phase = self.phase(instance, problem)
        floor = _floor(phase.constants, 2.0 * phase.tau)
        return phase.slack(lambda run: 1.0 - run.log_loss / floor)


def _floor(constants: Constants, tau: Floats) -> Floats:
    return log_loss_floor(tau, *constants.scales, constants.gradient, constants.problem.data.n)


def _slow_decrease(phase: EarlyPhase, run: Run, bound: float) -> Floats:
    """Return the relative slack of d log L/dtau >= -bound^2 A~ L + deg log(1/(nL))."""
    degree, n = phase.constants.problem.model.degree, phase.constants.problem.data.n
    room = run.push * (bound**2 - run.g**2) + run.pull * degree * (run.mean_q + run.log_loss + math.log(n))
    return room / (run.push * bound**2 + run.pull * degree * (math.log(n) - run.log_loss))


class MarginGrows(EarlyClaim):
    """Up to T_max, as printed d/dt log(1/L) >= (gamma + O(alpha^-L log A) e^(L lambda t)) d|h|/dt. Corrected: while |h|
    grows that holds up to an additive lambda O(alpha^-L log A) e^(L lambda t) |h|, and while |h| falls with
    log(1/L)/|h| in place of gamma.
    """

    id, title = "lyu2024.lem-c8", "The loss falls at the rate of the margin"
    source = Source("lyu2024", "Lemma C.8")
    quantity = "relative slack"
    expected: ClassVar[Mapping[str, str]] = {"as-printed": "refuted", "corrected": "supported"}
    judged = (
        f"{_STEPS}Both rates come from the exact right-hand side. The constant in O(.) is B times that of Lemma C.5, B "
        "a proved bound on the Hessians in the ball; as printed it is, where that is more, ten times the one that the "
        "smallest scale needs, which refutes every constant. The slack is relative to the absolute terms and 1, added. "
        f"{_ERROR}"
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """The same models but for the three-layer net: where |h| turns, its slack is below the error at rtol 1e-8."""
        return (instance for instance in super().instances(rng) if instance.model.degree < 7)

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the relative slack."""
        return self._slack(instance, problem, variant == "corrected", 1.0)

    def controls(self) -> Sequence[Control]:
        """Return twice the margin while |h| grows."""
        return (Control("2γ while |h| grows", lambda i, p: self._slack(i, p, True, 2.0)),)

    def broken(self) -> Sequence[Control]:
        """Return half of log(1/L)/|h| while |h| falls."""
        return (Control("half of log(1/L)/|h| while |h| falls", lambda i, p: self._slack(i, p, True, 0.5)),)

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return the logarithm of the constant that the printed statement would need at this scale."""
        return {"log const needed as printed": self._needed(instance, problem)}

    def _needed(self, instance: Instance, problem: Problem) -> float:
        """Return the logarithm of the least constant with which the printed statement holds at a scale."""
        phase = self.phase(instance, problem)
        of_loss, of_h = _rates(phase, phase.own)
        missing = (phase.constants.margin * of_h - of_loss) / np.abs(of_h)
        found = missing > 1e-9 * phase.constants.margin
        return float(np.max(np.log(missing[found]) - _log_of_error(phase)[found])) if found.any() else -math.inf

    def _slack(self, instance: Instance, problem: Problem, corrected: bool, factor: float) -> Measurement:
        phase = self.phase(instance, problem)
        constants = phase.constants
        error = constants.curvature * np.exp(constants.log_displacement(phase.log_tau))
        if not corrected:
            smallest = instance.at(self.ladders[self.tools.profile][0])
            needed = math.log(10.0) + self._needed(instance, smallest)
            error = np.maximum(error, np.exp(np.minimum(needed + _log_of_error(phase), 300.0)))
        grows = _rates(phase, phase.own)[1] > 0.0  # for both runs, one of which may have passed the turning point

        def relative(run: Run) -> Floats:
            of_loss, of_h = _rates(phase, run)
            rate = np.full_like(run.h, constants.margin)
            given = error * np.abs(of_h)
            if corrected:
                rate = factor * np.where(grows, constants.margin, -run.log_loss / run.h)
                given = given + 0.5 * run.pull * instance.model.degree * error * run.h
            return (of_loss - rate * of_h + given) / (np.abs(of_loss) + rate * np.abs(of_h) + given + run.pull)

        return phase.slack(relative)


def _log_of_error(phase: EarlyPhase) -> Floats:
    """Return the logarithm of alpha^-L log(A) e^(L lambda t) at the steps."""
    problem = phase.constants.problem
    return math.log(problem.log_A) + problem.model.degree * (phase.tau - problem.log_alpha)


def _rates(phase: EarlyPhase, run: Run) -> tuple[Floats, Floats]:
    """Return d log(1/L)/dtau and d|h|/dtau."""
    degree = phase.constants.problem.model.degree
    return run.push * run.g**2 - run.pull * degree * run.mean_q, run.push * run.along - run.pull * degree * run.h
