"""Theorem B.1: label noise makes SGD leave the end of the gradient flow for a sparse interpolator, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from theorykit import Problem, SaveAt, Trial, gradient_descent, gradient_flow
from theorykit.checking import Assumption, Claim, Control, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet
from theorykit.predictors import label_noise_weights
from theorykit.programs import min_norm

Floats = NDArray[np.float64]

_CONFIDENCE = 0.99
_SIZE = (32, 20, 2)  # d, n, kappa
_LOG_T_END = 8.0
_POINTS, _AROUND = 1000, 8  # save points of a run, and how many on either side of a time are averaged
_OMEGA = 0.25  # half of C_2 = 1 - n/d = 1/2
_ZERO = 1e-9  # a loss is zero if it is below this, relative to the labels


@dataclass(frozen=True, eq=False)
class Sparse:
    """Gaussian inputs and the labels of a sparse rule."""

    X: Floats
    rule: Floats

    @property
    def y(self) -> Floats:
        """The labels <w*, x_i>."""
        return np.asarray(self.X @ self.rule)

    def problem(self, alpha: float = 1.0) -> Problem:
        """Return the diagonal net of degree 2 from alpha (1, 1), squared loss, no weight decay."""
        data = Dataset.from_arrays(self.X, self.y, task="regression", name="sparse rule, Gaussian inputs")
        return Problem(DiagonalNet(self.X.shape[1]), data, "squared", alpha=alpha, weight_decay=0.0)

    def population_loss(self, w: Floats) -> float:
        """Return E (<w, x> - <w*, x>)^2 over x ~ N(0, I), relative to |w*|^2."""
        return float(((w - self.rule) ** 2).sum() / (self.rule**2).sum())


def draw(rng: np.random.Generator, d: int, n: int, nonzero: int) -> Sparse:
    """Draw inputs from N(0, I_d), and a rule of entries 1 and -1 in random places."""
    rule = np.zeros(d)
    rule[rng.permutation(d)[:nonzero]] = rng.choice([-1.0, 1.0], nonzero)
    return Sparse(rng.standard_normal((n, d)), rule)


def flow_end(sparse: Sparse, alpha: float, rtol: float) -> tuple[Floats, float]:
    """Return w at the end of the gradient flow without noise, and the training loss there relative to the labels."""
    ends = SaveAt(num=2)
    flow = gradient_flow(sparse.problem(alpha), log_t_end=_LOG_T_END, rtol=rtol, save=ends).raise_for_status()
    return flow.weights(-1), float(flow.stats["train_loss"][-1] / np.mean(sparse.y**2))


def run(
    sparse: Sparse, step: float, steps: int, seeds: int, statistics: Mapping[str, Callable[[Floats], float]],
    noise: float = 1.0, points: int = 2,
) -> dict[str, Floats]:  # fmt: skip
    """Run label-noise SGD, one sample a step, and return all statistics at the save points, shape (seeds, points)."""
    runs = [
        gradient_descent(
            sparse.problem(), step=step, steps=steps, batch=1, replacement=True, label_noise=noise, seed=seed,
            save=SaveAt(num=points), statistics=statistics,
        ).raise_for_status().stats
        for seed in range(seeds)
    ]  # fmt: skip
    return {name: np.array([stats[name] for stats in runs]) for name in runs[0]}


def interval(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and half-width of a 99 % Student interval over the first axis."""
    count = len(values)
    wide = float(student.ppf(0.5 + 0.5 * _CONFIDENCE, count - 1))
    return values.mean(axis=0), wide * values.std(axis=0, ddof=1) / math.sqrt(count)


def falls(values: Floats, errors: Floats, factor: float) -> Measurement:
    """Measure the smallest of `factor` - values[j + 1]/values[j], with the errors of both."""
    ratios = values[1:] / values[:-1]
    spread = (errors[1:] + np.abs(ratios) * errors[:-1]) / np.abs(values[:-1])
    worst = int(np.argmin(factor - ratios - spread))
    return Measurement(factor - float(ratios[worst]), 0.0, sampling=float(spread[worst]))


class _LabelNoise(Claim):
    """What the two parts about SGD share: one random problem, and the test that the rule can be found at all."""

    kind = "limit"
    source = Source("lyu2024", "Theorem B.1")
    assumptions = ("x ~ N(0, I), labels of a κ-sparse rule", "C₁ κ log d ≤ n ≤ d (1 − C₂)")
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield one problem."""
        d, n, nonzero = _SIZE
        yield Trial(f"d = {d}, n = {n}, κ = {nonzero}", draw(rng, d, n, nonzero))

    def check(self, instance: Trial) -> Sequence[Assumption]:
        """Test by a certified program that w* has the smallest sum_k c_k |w_k| of all interpolators."""
        sparse = instance.values
        weights = (sparse.X**2).mean(axis=0)
        found = min_norm(sparse.X / weights, sparse.y, norm=1).w / weights
        away = float(np.abs(found - sparse.rule).max())
        return [Assumption("n ≥ C₁ κ log d: distance of the sparsest interpolator from w*", away < 1e-6, away)]


class FlowEnd(Claim):
    """Gradient flow without noise from alpha(1, 1) ends at zero training loss and population loss Omega(|w*|^2), for
    n <= d(1 - C_2), with high probability over the data.
    """

    id, title, kind = "lyu2024.thm-b1-flow", "Without noise: interpolation, not the sparse rule", "inequality"
    source = Source("lyu2024", "Theorem B.1, part 1")
    assumptions = ("x ~ N(0, I), labels of a κ-sparse rule", "C₁ κ log d ≤ n ≤ d (1 − C₂)")
    expansion = None
    quantity = "population loss / |w*|² − C₂/2, the smallest of the data sets"
    judged = (
        "n = d/2, so that C₂ = 1/2, κ = 2, α = 1, three data sets each at d = 80 and 160. In the kernel limit the mean "
        "of (population loss)/|w*|² is 1 - n/d; half of it, C₂/2, is the constant that every data set must exceed, by "
        "more than the distance of the flow's end from its closed form. Training losses must be below 1e-9 of the "
        "labels' mean square."
    )
    sizes = (80, 160)
    repeats = 3
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 20, "paper": 20}

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield data sets of every size."""
        drawn = [draw(rng, d, d // 2, 2) for d in self.sizes for _ in range(self.repeats)]
        yield Trial(f"d = {self.sizes[0]} and {self.sizes[1]}, n = d/2, κ = 2", drawn)

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the smallest relative population loss, less its constant."""
        return _flow_ends(instance.values, 1.0, self.tools.rtol)

    def controls(self) -> Sequence[Control]:
        """Return a start near 0, and more samples than features."""
        return (
            Control("from α = 0.001", lambda trial, _: _flow_ends(trial.values[:1], 1e-3, self.tools.rtol)),
            Control("n = 2d", lambda trial, _: _flow_ends([_overdetermined()], 1.0, self.tools.rtol)),
        )

    def broken(self) -> Sequence[Control]:
        """Return all of |w*|^2 as the bound."""
        return (
            Control("1 in place of C₂/2", lambda trial, _: _flow_ends(trial.values[:1], 1.0, self.tools.rtol, 1.0)),
        )


def _overdetermined() -> Sparse:
    return draw(np.random.default_rng(0), 40, 80, 2)


def _flow_ends(data: Sequence[Sparse], alpha: float, rtol: float, constant: float = _OMEGA) -> Measurement:
    ends = [(sparse, *flow_end(sparse, alpha, rtol)) for sparse in data]
    losses = [sparse.population_loss(w) for sparse, w, _ in ends]
    exact = [
        sparse.population_loss(label_noise_weights(sparse.X, sparse.y, alpha=alpha, time=0.0))
        for sparse in data
        if len(sparse.X) < sparse.X.shape[1]  # otherwise w* itself, and the loss is 0
    ]
    error = max((abs(a - b) for a, b in zip(losses, exact, strict=False)), default=max(losses))
    trained = max(loss for *_, loss in ends)
    slack = min(min(losses) - constant, 1.0 - trained / _ZERO)
    return Measurement(slack, 0.0, integrator=error, extra={"largest training loss": trained})


class StillAtTheFlowEnd(_LabelNoise):
    """At step T/eta^a, 1 < a < 2, label-noise SGD is still where the gradient flow ends, as eta tends to 0."""

    id, title = "lyu2024.thm-b1-early", "At step T/η^a label-noise SGD is still at θ_GF"
    source = Source("lyu2024", "Theorem B.1, part 2")
    quantity = "1/2 − (squared distance at η/4) / (squared distance at η)"
    judged = (
        "a = 3/2, T = 1/2, α = 1, η = 1e-3, 2.5e-4, 6.25e-5. The mean of |θ − θ_GF|² over the last tenth of the steps "
        "and over four noise seeds must at least halve when η is divided by four, by more than its 99 % Student "
        "interval: it tends to 0, then, at least like η^(1/2) (theory: like η)."
    )
    ladder = (1e-3, 2.5e-4, 6.25e-5)
    late = (2e-3, 5e-4)
    seeds, time = 4, 0.5

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure how the distance falls."""
        return self._falling(instance, self._end(instance), self.ladder, 1.5)

    def controls(self) -> Sequence[Control]:
        """Return the time at which it has left, and another place."""
        return (
            Control("at step T/η²", lambda trial, _: self._falling(trial, self._end(trial), self.late, 2.0)),
            Control(
                "at the rule at step T/η^a", lambda trial, _: self._falling(trial, _at_rule(trial), self.ladder, 1.5)
            ),
        )

    def broken(self) -> Sequence[Control]:
        """Return another rate: the squared distance falls like eta^(3/2)."""
        return (
            Control("like η^(3/2)", lambda trial, _: self._falling(trial, self._end(trial), self.ladder, 1.5, 0.125)),
        )

    def _end(self, instance: Trial) -> Floats:
        """Return theta at the end of the flow, which keeps u_k v_k = 1: u^2 and v^2 = sqrt(1 + w^2/4) +- w/2."""
        w = flow_end(instance.values, 1.0, self.tools.rtol)[0]
        half = np.arcsinh(0.5 * w) / 2.0
        return np.concatenate([np.exp(half), np.exp(-half)])

    def _falling(
        self, instance: Trial, place: Floats, ladder: Sequence[float], exponent: float, factor: float = 0.5
    ) -> Measurement:
        def distance(theta: Floats) -> float:
            return float(((theta - place) ** 2).sum())

        means, errors = [], []
        for step in ladder:
            steps = round(self.time / step**exponent)
            found = run(instance.values, step, steps, self.seeds, {"distance": distance}, points=201)
            mean, error = interval(found["distance"][:, -20:].mean(axis=1))
            means.append(float(mean))
            errors.append(float(error))
        fall = falls(np.array(means), np.array(errors), factor)
        power = float(np.polyfit(np.log(ladder), np.log(means), 1)[0])
        return Measurement(fall.measured, 0.0, sampling=fall.sampling, extra={"power of η": power, "last": means[-1]})


def _at_rule(instance: Trial) -> Floats:
    """Return the smallest theta with w = w*: u^2 its positive part, v^2 its negative part."""
    rule = instance.values.rule
    return np.sqrt(np.concatenate([np.maximum(rule, 0.0), np.maximum(-rule, 0.0)]))


class SparseInTheEnd(_LabelNoise):
    """At step T/eta^2, as eta tends to 0, label-noise SGD is at a point of zero training loss whose population loss
    tends to 0 as T grows.
    """

    id, title = "lyu2024.thm-b1", "Label noise finds the sparse rule at step T/η²"
    source = Source("lyu2024", "Theorem B.1, part 3")
    quantity = "1/2 − (population loss at the next T) / (population loss at T)"
    judged = (
        "α = 1, η = 1.4e-3, 7e-4, 3.5e-4. The times T are those at which the closed form of the small-step limit has "
        "lost 10, 75 and 98 % of its population loss. At each the population loss of SGD, averaged over T ± 0.8 % and "
        "five noise seeds, is extrapolated to η = 0 (linearly; the error has the 99 % Student interval and the change "
        "by a quadratic fit), and must at least halve from one T to the next, by more than its error: it tends to 0, "
        "then, at least geometrically. The training loss must fall by a quarter or more with every halving of η."
    )
    ladder = (1.4e-3, 7e-4, 3.5e-4)
    left = (0.9, 0.25, 0.02)
    seeds = 5

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure how the population loss falls with T in the limit of small steps."""
        return self._falling(instance)

    def controls(self) -> Sequence[Control]:
        """Return no noise, and too few steps."""
        return (
            Control("without label noise", lambda trial, _: self._falling(trial, noise=0.0)),
            Control("at step T/η^(3/2)", lambda trial, _: self._falling(trial, exponent=1.5)),
        )

    def broken(self) -> Sequence[Control]:
        """Return label noise whose variance is the step."""
        return (Control("label noise of size √η", lambda trial, _: self._falling(trial, scaled=True)),)

    def _times(self, sparse: Sparse) -> dict[float, float]:
        """Return the times at which the small-step limit has so much population loss left, with what it has."""
        grid = np.arange(0.0, 1.6, 0.025)
        losses: list[float] = []
        for time in grid:
            losses.append(sparse.population_loss(label_noise_weights(sparse.X, sparse.y, alpha=1.0, time=float(time))))
            if losses[-1] < self.left[-1] * losses[0]:
                break
        first = [next(k for k, loss in enumerate(losses) if loss < share * losses[0]) for share in self.left]
        return {float(grid[k]): losses[k] for k in first}

    def _falling(
        self, instance: Trial, noise: float = 1.0, exponent: float = 2.0, *, scaled: bool = False
    ) -> Measurement:
        sparse = instance.values
        d = sparse.X.shape[1]
        times = self._times(sparse)
        last = max(times)
        marks = [min(round(_POINTS * time / last), _POINTS - _AROUND) for time in times]

        def population(theta: Floats) -> float:
            return sparse.population_loss(theta[:d] ** 2 - theta[d:] ** 2)

        losses, trained = [], []
        for step in self.ladder:
            steps = round(last / step**exponent)
            size = noise * math.sqrt(step) if scaled else noise
            seeds = self.seeds if size == 1.0 else 2
            found = run(sparse, step, steps, seeds, {"population": population}, size, _POINTS + 1)
            around = [found["population"][:, mark - _AROUND : mark + _AROUND + 1].mean(axis=1) for mark in marks]
            losses.append(np.column_stack(around))
            trained.append(interval(found["train_loss"][:, marks[1] :].mean(axis=1)))
        values, errors = _at_zero_step(losses)
        parts = [falls(values, errors, 0.5)]
        if noise > 0.0:
            means, spreads = np.array(trained).T
            parts.append(falls(means, spreads, 0.75))
        fall = min(parts, key=lambda part: part.measured - part.error)
        extra = {"training loss at the smallest η": float(trained[-1][0])}
        for (time, limit), value in zip(times.items(), values, strict=True):
            extra |= {f"population loss at T = {time:.3g}": float(value), f"small-step limit at T = {time:.3g}": limit}
        return Measurement(fall.measured, 0.0, sampling=fall.sampling, extra=extra)


def _at_zero_step(losses: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Extrapolate three rungs, each half the step of the one before, to step 0: (seeds, times) each."""
    (coarse, _), (middle, middle_error), (fine, fine_error) = (interval(rung) for rung in losses)
    linear, before = 2.0 * fine - middle, 2.0 * middle - coarse
    return linear, np.hypot(2.0 * fine_error, middle_error) + np.abs(linear - before) / 3.0
