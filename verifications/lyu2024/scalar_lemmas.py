"""Lemmas C.1, C.2 and C.3: inequalities between numbers, proved by sympy, in balls over the whole range, and searched.

Each is brought to the form S(t) >= 0 for t > 0. Where S has a zero no margin can be absolute, so that all slacks here
are in units of a simple function with the same zeros (its leading order there): they stay away from 0 over the whole
range, and what is reported is the smallest.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import flint
import numpy as np
import sympy as sp

from theorykit import Trial
from theorykit.checking import Claim, Control, Measurement, Source, Tools
from theorykit.checking.verdict import decisive

SYMBOLIC, BALLS, SEARCH = "sympy", "balls over the whole range", "random search"

_t = sp.Symbol("t", positive=True)
_beta_odds = sp.Symbol("b", positive=True)
_BETA = 1 / (1 + _beta_odds)  # runs through (0, 1)
_RANGE = (1e-9, 1e300)
_NOTHING = sp.Integer(0)
_SHARP = 1e-3  # the proved bound is this close to the smallest value found
_POINTS = {"quick": 150, "full": 500, "paper": 500}
_LARGEST = float(np.finfo(np.float64).max)
_BITS = 4000  # a slack of 1e-900 beside numbers of order 1 keeps 1000 bits


@dataclass(frozen=True)
class Convex:
    """S(t) >= 0 because S is convex and has a double zero at `zero`."""

    S: sp.Expr
    zero: int

    def measure(self) -> Measurement:
        """Measure the first Taylor coefficient at the zero that is not 0; without a proof of convexity, nan."""
        for order in range(3):
            derivative = sp.diff(self.S, _t, order)
            leading = sp.simplify(sp.limit(derivative, _t, self.zero, "+"))
            if leading != 0:
                break
        sign = -1.0 if leading.is_negative or leading == -sp.oo else 1.0
        convex = order == 2 and bool(sp.factor(sp.simplify(derivative)).is_positive)
        if sign > 0.0 and not convex:
            return Measurement(math.nan, 0.0)
        size = leading.subs(_beta_odds, 1)
        return Measurement(float(abs(size)) / 2.0 * sign if size.is_finite else sign, 0.0)


@dataclass(frozen=True)
class Product:
    """A slack in its unit, as a falling function of t > 0 times a rising one.

    The falling one is a divided difference of `f` over points of which t is one, the others fixed: it falls with t
    if the derivative of `f` that is one order higher is negative (`order` counts it).
    """

    falling: sp.Expr
    rising: sp.Expr
    f: sp.Expr
    order: int
    range: tuple[float, float] = _RANGE
    beyond: sp.Expr = _NOTHING  # a lower bound, rising with t, of the product past the end of the range

    def measure(self) -> Measurement:
        """Measure the smallest value, with a proved lower bound for all t > 0."""
        if not sp.simplify(sp.diff(self.f, _t, self.order)).is_negative:
            return Measurement(math.nan, 0.0)
        value, lower, where = _smallest(_balls(self.falling), _balls(self.rising), self.range)
        lower = min(lower, _lower(_balls(self.beyond)(_exact(self.range[1]))))
        return Measurement(value, 0.0, certificate=value - lower, extra={"at t": where})


@dataclass(frozen=True)
class Somewhere:
    """A slack in its unit that a grid over the range shows to be negative (or not: then nothing is said)."""

    slack: sp.Expr
    range: tuple[float, float] = _RANGE

    def measure(self) -> Measurement:
        """Measure the smallest value on the grid."""
        slack = _balls(self.slack)
        values = [slack(_exact(point)) for point in np.geomspace(*self.range, 997)]
        worst = min(values, key=lambda ball: _middle(ball))
        value = _middle(worst)
        return Measurement(value if value < 0.0 else math.nan, 0.0, certificate=_radius(worst))


def _exact(value: float) -> Any:
    return flint.arb(float(value))


def _lower(ball: Any) -> float:
    return float(np.nextafter(float(ball.lower()), -np.inf))


def _middle(ball: Any) -> float:
    """Return the middle of a ball; a false twin may leave the float range."""
    return min(max(float(ball.mid()), -_LARGEST), _LARGEST)


def _radius(ball: Any) -> float:
    return float(np.nextafter(float(ball.rad()), np.inf))


def _balls(expression: sp.Expr) -> Callable[[Any], Any]:
    """Return an expression in t as a function of balls, at a precision that leaves it 30 digits."""
    raw = sp.lambdify(_t, expression, modules=[{"log": lambda x: flint.arb(x).log(), "exp": lambda x: x.exp()}])

    def evaluate(t: Any) -> Any:
        for bits in (128, 512, 2048, 8192):
            with flint.ctx.workprec(bits):
                ball = flint.arb(raw(t))
            if ball.is_finite() and ball.rel_accuracy_bits() > 100:
                return ball
        raise ArithmeticError(f"{expression} at t = {t} is not resolved in {bits} bits")

    return evaluate


def _smallest(
    falling: Callable[[Any], Any], rising: Callable[[Any], Any], ends: tuple[float, float]
) -> tuple[float, float, float]:
    """Return the smallest value found on a range, a proved lower bound on (0, end], and where the value is.

    On [a, b] the product is at least falling(b) rising(a). The piece with the smallest bound is halved (in log t)
    until that bound is close to the smallest value; the first piece is (0, begin], with rising(0).
    """
    begin, end = ends
    low, high = _exact(begin), _exact(end)
    best, where = min((_middle(falling(t) * rising(t)), float(t)) for t in (low, high))
    start = falling(low) * rising(flint.arb(0))
    pieces = [(_lower(falling(high) * rising(low)), begin, end)]
    while pieces[0][0] < best * (1.0 - _SHARP):
        _, a, b = heapq.heappop(pieces)
        middle = math.exp(0.5 * (math.log(a) + math.log(b)))
        t = _exact(middle)
        at_middle = falling(t)
        best, where = min((best, where), (_middle(at_middle * rising(t)), middle))
        heapq.heappush(pieces, (_lower(at_middle * rising(_exact(a))), a, middle))
        heapq.heappush(pieces, (_lower(falling(_exact(b)) * rising(t)), middle, b))
    return best, min(pieces[0][0], _lower(start)), where


def _searched(slacks: Iterator[Any]) -> Measurement:
    """Measure the smallest of random slacks in their unit, balls of arb."""
    with flint.ctx.workprec(_BITS):
        worst = min(slacks, key=lambda ball: _middle(ball) - _radius(ball))
        return Measurement(_middle(worst), 0.0, certificate=_radius(worst))


class _ScalarLemma(Claim):
    """What the three lemmas share: three ways to look, on the statement and on its false twins."""

    kind = "inequality"
    expansion = None
    quantity = "slack / its leading order"
    judged = (
        "Three ways. sympy: S is convex with a double zero (the number is half its second derivative there). Balls: "
        "the slack in its unit is a falling function times a rising one, which bounds it from below on any interval; "
        "adaptive subdivision of (0, 1e300], and a bound beyond, prove a lower bound within 0.15 % of the smallest "
        "value found. Random search: the statement as it stands, at random points over 600 orders of magnitude, in "
        "4000 bits. Slacks are in units of a function with the same zeros."
    )
    twins: ClassVar[tuple[str, ...]] = ()
    mutant: ClassVar[str] = ""

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield one trial for each way to look."""
        yield Trial(SYMBOLIC)
        yield Trial(BALLS)
        yield Trial(SEARCH, int(rng.integers(2**31)))

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the smallest slack."""
        return self._measured(instance, "")

    def controls(self) -> Sequence[Control]:
        """Return the false twins."""
        return [Control(twin, self._twin(twin)) for twin in self.twins]

    def broken(self) -> Sequence[Control]:
        """Return the statement with a changed constant."""
        return (Control(self.mutant, self._twin(self.mutant)),)

    def _twin(self, twin: str) -> Callable[[Trial, None], Measurement]:
        return lambda instance, problem: self._measured(instance, twin)

    def _measured(self, instance: Trial, twin: str) -> Measurement:
        if instance.label == SEARCH:
            rng = np.random.default_rng(instance.values)
            return _searched(self.search(rng, _POINTS[self.tools.profile], twin))
        return _proved(type(self), instance.label, twin)

    def statements(self, twin: str) -> Mapping[str, Sequence[Convex | Product | Somewhere]]:
        """Return the parts of the statement (or of a false twin) as sympy and the balls read them."""
        raise NotImplementedError

    def search(self, rng: np.random.Generator, points: int, twin: str) -> Iterator[Any]:
        """Yield slacks in their unit at random points."""
        raise NotImplementedError


@functools.cache
def _proved(lemma: type[_ScalarLemma], way: str, twin: str) -> Measurement:
    """Measure the worst part of a statement in a way that no instance changes: once."""
    parts = [part.measure() for part in lemma(Tools("quick")).statements(twin)[way]]
    return parts[decisive([(part.measured, part.error) for part in parts])]


def _anywhere(rng: np.random.Generator, points: int) -> list[float]:
    """Return numbers spread evenly over orders of magnitude, half of them within six of 1."""
    return (10.0 ** (rng.uniform(-300.0, 300.0, points) * rng.choice([1.0, 0.02], points))).tolist()


class InverseBelow(_ScalarLemma):
    """F^-1(y) >= y / log(y + 1) for y > 0, where F(x) = x log x on [1, infinity)."""

    id, title = "lyu2024.lem-c1", "F⁻¹(y) ≥ y / log(y + 1)"
    source = Source("lyu2024", "Lemma C.1")
    assumptions = ("y > 0",)
    twins = ("y / log y, without the + 1", "twice as much")
    mutant = "log(1 + y/2) in place of log(1 + y)"

    def statements(self, twin: str) -> Mapping[str, Sequence[Convex | Product | Somewhere]]:
        """Return the statement in t = log F^-1(y) = W(y): log(1 + t e^t) >= t, or exp(-t) + t - 1 >= 0."""
        if twin:
            y = _t * sp.exp(_t)
            slack = {
                self.twins[0]: sp.log(_t),
                self.twins[1]: 1 + y - sp.exp(2 * _t),
                self.mutant: 1 + y / 2 - sp.exp(_t),
            }[twin]
            return {SYMBOLIC: [Convex(slack, 0)], BALLS: [Somewhere(slack, (1e-9, 300.0))]}
        decay = sp.exp(-_t)
        return {
            SYMBOLIC: [Convex(1 + (_t - 1) * sp.exp(_t), 0)],
            BALLS: [
                Product((decay - 1 + _t) / _t**2, 2 + _t, decay, 3, range=(1e-9, 690.0), beyond=(1 - 1 / _t))
            ],
        }  # fmt: skip

    def search(self, rng: np.random.Generator, points: int, twin: str) -> Iterator[Any]:
        """Yield (log(1+y)/W - 1) / (log(1 + W^2/(2+W))/W) at random y."""
        for y in map(flint.arb, _anywhere(rng, points)):
            w = y.lambertw()
            side = y.log() if twin == self.twins[0] else (1 + (y / 2 if twin == self.mutant else y)).log()
            if twin == self.twins[1]:
                side /= 2
            yield (w.exp() * side / y - 1) * w / (1 + w * w / (2 + w)).log()


class InverseConcave(_ScalarLemma):
    """F^-1(beta y) - 1 >= beta (F^-1(y) - 1) for y > 0 and beta in (0, 1), where F(x) = x log x on [1, infinity)."""

    id, title = "lyu2024.lem-c2", "F⁻¹(βy) − 1 ≥ β (F⁻¹(y) − 1)"
    source = Source("lyu2024", "Lemma C.2")
    assumptions = ("y > 0", "β in (0, 1)")
    twins = ("β in (1, 2)", "the root of β on the right")
    mutant = "2 in place of 1"

    def statements(self, twin: str) -> Mapping[str, Sequence[Convex | Product | Somewhere]]:
        """Return the statement in t = F^-1(y) - 1: beta F(1 + t) >= F(1 + beta t).

        The slack over beta (1 - beta) t^2 is the divided difference F[1, 1 + beta t, 1 + t], which falls with beta: its
        infimum over beta is F[1, 1 + t, 1 + t] = (t - log(1 + t))/t^2.
        """
        left, right, offset = self._factors(_BETA, twin)
        slack = left * _x_log_x(1 + _t) - _x_log_x(1 + right * _t + offset)
        if twin:
            at_half = slack.subs(_beta_odds, 1)
            return {SYMBOLIC: [Convex(at_half, 0)], BALLS: [Somewhere(at_half / _t**2, (1e-9, 1e9))]}
        falling, end = (_t - sp.log(1 + _t)) / _t**2, 1 - sp.log(1 + _t) / _t
        return {
            SYMBOLIC: [Convex(slack, 0)],
            BALLS: [Product(falling, 2 + _t, _x_log_x(_t), 3, beyond=end)],
        }

    def _factors(self, beta: Any, twin: str) -> tuple[Any, Any, Any]:
        """Return (a, b, c) of F^-1(a y) - 1 >= b (F^-1(y) - 1) + c."""
        return {
            "": (beta, beta, 0),
            self.twins[0]: (1 + beta, 1 + beta, 0),
            self.twins[1]: (beta**2, beta, 0),
            self.mutant: (beta, beta, 1 - beta),
        }[twin]

    def search(self, rng: np.random.Generator, points: int, twin: str) -> Iterator[Any]:
        """Yield (X - 1 - b(x - 1)) F'(X) / (b |1 - b| t^2/(2 + t)) at random y and beta; both ends of (0, 1) alike."""
        for y, odd in zip(map(flint.arb, _anywhere(rng, points)), _anywhere(rng, points), strict=True):
            left, right, offset = self._factors(1 / (1 + flint.arb(odd)), twin)
            t, other = y.lambertw().exp() - 1, (left * y).lambertw().exp()
            unit = right * abs(1 - right) * t * t / (2 + t)
            yield (other - 1 - right * t - offset) * (1 + other.log()) / unit


class MeanLogarithm(_ScalarLemma):
    """For r_1, ..., r_n > 0 with mean m: m log(1/(n m)) <= (1/n) sum_i r_i log(1/r_i) <= m log(1/m)."""

    id, title = "lyu2024.lem-c3", "m log(1/nm) ≤ mean of r log(1/r) ≤ m log(1/m)"
    source = Source("lyu2024", "Lemma C.3")
    assumptions = ("r_i > 0", "n ≥ 2 (with n = 1 all three are equal)")
    twins = ("m log(1/m) on the left, too", "m log(1/(nm)) on the right, too")
    mutant = "√n in place of n"

    def statements(self, twin: str) -> Mapping[str, Sequence[Convex | Product | Somewhere]]:
        """Return both sides term by term.

        With p_i = r_i/(n m) and a_i = r_i/m the slacks over m are sum p log(1/p), in units of sum p (1 - p), and the
        mean of a log a = a log a - a + 1, in units of the mean of (1/2)(a - 1)^2/(a + 2). The twins are looked at
        for n = 2.
        """
        if twin:
            entropy = -_t * sp.log(_t) - (1 - _t) * sp.log(1 - _t)
            slack, shift = {
                self.twins[0]: (entropy - sp.log(2), sp.Rational(1, 2)),
                self.twins[1]: (-entropy, sp.Rational(1, 2)),
                self.mutant: (entropy - sp.log(2) / 2, 0),
            }[twin]
            return {
                SYMBOLIC: [Convex(slack.subs(_t, _t + shift), 0)],
                BALLS: [Somewhere(slack, (1e-9, 0.49))],
            }
        lower, upper = -sp.log(_t) - 1 + _t, _t * sp.log(_t) - _t + 1
        return {
            SYMBOLIC: [Convex(lower, 1), Convex(upper, 1)],
            BALLS: [
                # log has slope at least 1 below 1; (a log a - a + 1)(a + 2)/(a - 1)^2 is at least log a - 1
                Product(-sp.log(_t) / (1 - _t), sp.Integer(1), sp.log(_t), 2, (3e-300, 0.9999), sp.Integer(1)),
                Product(upper / (_t - 1) ** 2, 2 * (_t + 2), _x_log_x(_t), 3, (3e-9, 1e300), 2 * (sp.log(_t) - 1)),
            ],
        }

    def search(self, rng: np.random.Generator, points: int, twin: str) -> Iterator[Any]:
        """Yield both slacks in their units: numbers spread widely, nearly equal, and in between; m anywhere."""
        for _ in range(points // 3):
            n = int(rng.integers(2, 41))
            spread = 10.0 ** rng.uniform(-12.0, 2.0)
            size = 10.0 ** rng.uniform(-100.0, 100.0)
            r = [flint.arb(float(value)) * size for value in np.exp(spread * rng.uniform(-1.0, 1.0, n))]
            total = sum(r, flint.arb(0))
            middle = -sum((value * value.log() for value in r), flint.arb(0)) / total
            low, high = -total.log(), (n / total).log()
            if twin == self.twins[1]:
                high = low
            elif twin:
                low = high if twin == self.twins[0] else (low + high) / 2
            yield (middle - low) / (1 - sum((value / total) ** 2 for value in r))
            away = sum((n * value / total - 1) ** 2 / (n * value / total + 2) for value in r) / (2 * n)
            yield (high - middle) / away


def _x_log_x(x: sp.Expr) -> sp.Expr:
    return x * sp.log(x)
