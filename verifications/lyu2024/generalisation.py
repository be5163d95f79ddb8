"""Theorems E.3, E.4 and E.5: Rademacher complexities of balls, and test errors of max-margin classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from theorykit import Trial
from theorykit.checking import Assumption, Claim, Control, Measurement, Source
from theorykit.predictors import margin_error_bound, rademacher_bound
from theorykit.programs import max_margin

Floats = NDArray[np.float64]

_EXACT, _SAMPLED = (12, 40), (200, 400)  # (n, d): all signs, or random ones
_DRAWS, _WIDE = 4000, 3.3  # random signs, and the standard errors of a two-sided 99.9 % interval
_BLOCK = 1 << 12

_DELTA, _REPEATS = 0.2, 24  # 24 of 24 prove 0.8 at 99 %
_FEW = 4  # repetitions of which none is within its bound refute 0.8 at 99 %
_ENUMERATED = 16


class _Ball(NamedTuple):
    """A ball, matrices of data, and the signs over which its complexity is averaged."""

    norm: int
    data: tuple[Floats, ...]
    signs: Floats
    exact: bool


class RademacherBalls(Claim):
    """The empirical Rademacher complexity of the linear functions with weights in the unit l1 ball is at most
    (1/n) sqrt(2 log 2d) (sum_i |x_i|_inf^2)^(1/2), in the unit l2 ball at most (1/n) (sum_i |x_i|_2^2)^(1/2).
    """

    id, title, kind = "lyu2024.thm-e3", "Rademacher complexity of the ℓ1 and ℓ2 balls", "inequality"
    source = Source("lyu2024", "Theorem E.3")
    assumptions = ("none: every data set",)
    expansion = None
    quantity = "1 − complexity / bound, the smallest of the data sets"
    judged = (
        "On data of several kinds (signs, Gaussian, heavy tails, rows of very different size, one direction), the "
        "complexity is averaged over all 2^n signs (n = 12, d = 40), and over 4000 random ones with a 99.9 % interval "
        "(n = 200, d = 400). The slack is 1 minus complexity/bound, the smallest over the kinds."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield both balls, with all signs and with random ones."""
        for (n, d), exact in ((_EXACT, True), (_SAMPLED, False)):
            data = _kinds(rng, n, d)
            signs = _all_signs(n) if exact else rng.choice([-1.0, 1.0], (_DRAWS, n))
            for norm in (1, 2):
                label = f"unit ℓ{norm} ball, {'all' if exact else 'random'} signs"
                yield Trial(label, _Ball(norm, data, signs, exact))

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the smallest relative slack."""
        return self._smallest(instance.values, lambda X, norm: rademacher_bound(X, norm=norm))

    def controls(self) -> Sequence[Control]:
        """Return the bound without its dependence on the ball, and with another rate."""
        return (
            Control("|x|_∞ whatever the ball, without the logarithm", self._with(lambda X, norm: _plain(X))),
            Control("1/n in place of 1/√n", self._with(lambda X, norm: rademacher_bound(X, norm=norm) / len(X) ** 0.5)),
        )

    def broken(self) -> Sequence[Control]:
        """Return half the bound."""
        return (Control("half of it", self._with(lambda X, norm: rademacher_bound(X, norm=norm) / 2.0)),)

    def _with(self, bound: Callable[[Floats, int], float]) -> Callable[[Trial, None], Measurement]:
        return lambda instance, problem: self._smallest(instance.values, bound)

    def _smallest(self, ball: _Ball, bound: Callable[[Floats, int], float]) -> Measurement:
        slacks = [_relative_slack(ball, X, bound(X, ball.norm)) for X in ball.data]
        return min(slacks, key=lambda slack: slack.measured - slack.error)


def _kinds(rng: np.random.Generator, n: int, d: int) -> tuple[Floats, ...]:
    signs, normal = rng.choice([-1.0, 1.0], (n, d)), rng.standard_normal((n, d))
    return (
        signs,
        normal,
        rng.standard_t(2.5, (n, d)),
        signs * np.exp(rng.standard_normal((n, 1))),
        rng.standard_normal((n, 1)) * rng.standard_normal(d),
    )


def _all_signs(n: int) -> Floats:
    """Return all signs of n samples up to a common one, shape (2^(n-1), n)."""
    return np.asarray(1.0 - 2.0 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1))


def _plain(X: Floats) -> float:
    return float(np.linalg.norm(np.abs(X).max(axis=1))) / len(X)


def _relative_slack(ball: _Ball, X: Floats, bound: float) -> Measurement:
    """Return 1 - complexity/bound.

    For the l2 ball the mean square of |sum_i sigma_i x_i| is known, and with z their ratio to its root
    1 - E z = E (1 - z)^2 / 2: a mean of small numbers in place of a small difference of means.
    """
    n, values = len(X), []
    for start in range(0, len(ball.signs), _BLOCK):
        sums = ball.signs[start : start + _BLOCK] @ X
        values.append(np.abs(sums).max(axis=1) if ball.norm == 1 else np.linalg.norm(sums, axis=1))
    suprema = np.concatenate(values)
    if ball.norm == 1:
        terms, offset = suprema / (n * bound), 1.0
    else:
        root = float(np.linalg.norm(X))
        ratio = root / (n * bound)
        terms, offset = -0.5 * ratio * (1.0 - suprema / root) ** 2, 1.0 - ratio
    spread = 0.0 if ball.exact else _WIDE * float(terms.std()) / math.sqrt(terms.size)
    roundoff = 4.0 * n * np.finfo(np.float64).eps
    return Measurement(offset - float(terms.mean()), 0.0, certificate=roundoff, sampling=spread)


class _Size(NamedTuple):
    """The size of a problem with a sparse rule on sign data."""

    n: int
    d: int
    k: int


class _Sample(NamedTuple):
    """What one repetition is drawn from."""

    size: _Size
    seed: int


class _ErrorBound(Claim):
    """What both theorems share: the frequency with which a test error, known exactly, is within its bound."""

    kind = "probability"
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}
    quantity = "frequency of test error ≤ bound"
    assumptions = ("x uniform on {±1}^d, labels of a k-sparse rule, k odd", "the bound is below 1/2")
    judged = (
        "δ = 0.2. In 24 repetitions a certified max-margin classifier is trained, and its test error found by going "
        "through the entries that can matter (all of them, where d ≤ 16). The share of repetitions with an error "
        "within the bound must exceed 1 − δ by more than its Clopper–Pearson interval (99 %). Only sizes at which the "
        "bound is below 1/2 count. The second control holds the ℓ2 classifier to k √(2 log(2d)/n) at n = 150, "
        "d = 3000, where the ℓ1 classifier still meets it."
    )
    norm: ClassVar[int]
    sizes: ClassVar[tuple[_Size, ...]]
    too_small: ClassVar[_Size]

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield the sizes."""
        for size in self.sizes:
            seed = int(rng.integers(2**31))
            yield Trial(f"n = {size.n}, d = {size.d}, k = {size.k}", _Sample(size, seed))

    def check(self, instance: Trial) -> Sequence[Assumption]:
        """Test that the bound says something."""
        bound = self._bound(instance.values.size)
        return [Assumption("bound below 1/2", bound < 0.5, bound)]

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure how often the bound holds."""
        size, seed = instance.values
        return _frequency(size, seed, _REPEATS, self.norm, self._bound(size))

    def controls(self) -> Sequence[Control]:
        """Return training labels of another rule, and the l2 classifier held to a bound of the l1 classifier."""
        return (
            Control("trained on the labels of another rule", self._other_rule),
            Control("ℓ2 classifier within k √(2 log(2d)/n)", self._l2_within_l1),
        )

    def broken(self) -> Sequence[Control]:
        """Return a fortieth of the first term alone, where the sample is too small for the classifier."""
        return (Control("0.1 in place of 4, without the second term", self._with_small_constant),)

    def _bound(self, size: _Size) -> float:
        return margin_error_bound(*size, _DELTA, norm=self.norm)

    def _other_rule(self, instance: Trial, problem: None) -> Measurement:
        size, seed = instance.values
        return _frequency(size, seed, _REPEATS // 2, self.norm, self._bound(size), shift=size.k)

    def _l2_within_l1(self, instance: Trial, problem: None) -> Measurement:
        size = _Size(150, 3000, 1)
        bound = math.sqrt(2.0 * math.log(2.0 * size.d) / size.n)
        seed = instance.values.seed
        other = _frequency(size, seed, _FEW, 1, bound)
        found = _frequency(size, seed, _FEW, 2, bound)
        return replace(found, extra={**found.extra, "largest error of l1": other.extra["largest error"]})

    def _with_small_constant(self, instance: Trial, problem: None) -> Measurement:
        size, both = self.too_small, margin_error_bound(*self.too_small, _DELTA, norm=self.norm)
        first = both - 3.0 * math.sqrt(math.log(2.0 / _DELTA) / (2.0 * size.n))
        return _frequency(size, instance.values.seed, _FEW, self.norm, 0.025 * first)


def _frequency(size: _Size, seed: int, repeats: int, norm: int, bound: float, shift: int = 0) -> Measurement:
    """Measure the share of repetitions in which the test error is within the bound.

    The rule is the sum of the first k entries: no other choice of entries and signs differs from it in anything but
    names. `shift` moves the rule of the training labels.
    """
    rng = np.random.default_rng(seed)
    errors = [_test_error(_trained(rng, size, norm, shift), size.k) for _ in range(repeats)]
    found = Measurement.frequency(sum(high <= bound for _, high in errors), repeats, at_least=1.0 - _DELTA)
    largest = max(high for _, high in errors)
    return replace(found, extra={**found.extra, "bound": bound, "largest error": largest})


def _trained(rng: np.random.Generator, size: _Size, norm: int, shift: int) -> Floats:
    """Return the max-margin classifier of a sample; equal rows change nothing and go in once."""
    X = rng.choice(np.array([-1, 1], dtype=np.int8), (size.n, size.d))
    rows = np.unique(X, axis=0).astype(np.float64) if size.d <= _ENUMERATED else X.astype(np.float64)
    y = np.sign(rows[:, shift : shift + size.k].sum(axis=1))
    return max_margin(rows, y, norm=norm).w


def _test_error(w: Floats, k: int) -> tuple[float, float]:
    """Bracket the probability over x that <w, x> has not the sign of the sum of its first k entries.

    The largest entries of w, and the first k, are gone through; the others sum to at most `rest` in size, or, where
    that decides too little, to a number that is Gaussian up to the error of Berry and Esseen (constant 0.56).
    """
    order = np.concatenate([np.arange(k), k + np.argsort(-np.abs(w[k:]), kind="stable")])
    inside, outside = order[: max(_ENUMERATED, k)], order[max(_ENUMERATED, k) :]
    signs = np.concatenate([_all_signs(inside.size), -_all_signs(inside.size)])
    margins = (signs @ w[inside]) * np.sign(signs[:, :k].sum(axis=1))
    rest = float(np.abs(w[outside]).sum()) + 1e-12 * float(np.abs(w).sum())
    low, high = float((margins <= -rest).mean()), float((margins <= rest).mean())
    size = float(np.linalg.norm(w[outside]))
    if size > 0.0:
        away = 0.56 * float((np.abs(w[outside]) ** 3).sum()) / size**3
        gaussian = float(ndtr(-margins / size).mean())
        low, high = max(low, gaussian - away), min(high, gaussian + away)
    return low, high


class L1MarginError(_ErrorBound):
    """On sign data with a k-sparse rule the max-l1-margin classifier errs, with probability at least 1 - delta over
    the n samples, on at most 4 k sqrt(2 log(2d)/n) + 3 sqrt(log(2/delta)/(2n)) of all inputs.
    """

    id, title = "lyu2024.thm-e4", "Test error of the max ℓ1-margin classifier"
    source = Source("lyu2024", "Theorem E.4")
    norm = 1
    sizes = (_Size(2000, 50, 1), _Size(6000, 10, 3))
    too_small = _Size(4, 1000, 1)


class L2MarginError(_ErrorBound):
    """On sign data with a k-sparse rule the max-l2-margin classifier errs, with probability at least 1 - delta over
    the n samples, on at most 4 sqrt(k d/n) + 3 sqrt(log(2/delta)/(2n)) of all inputs.
    """

    id, title = "lyu2024.thm-e5", "Test error of the max ℓ2-margin classifier"
    source = Source("lyu2024", "Theorem E.5")
    norm = 2
    sizes = (_Size(2000, 10, 1), _Size(4000, 10, 3))
    too_small = _Size(150, 750, 1)
