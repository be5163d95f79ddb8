"""The iterates of gradient descent: which samples each step sees, and the two loops that take the steps."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.problem import Problem
from theorykit.losses import log_derivatives, loss_code
from theorykit.models import DiagonalNet

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_VISITS_AT_ONCE = 2**18  # samples drawn ahead of the steps that see them
_WORK_AT_ONCE = 2**26  # multiplications between two looks at the clock: about a tenth of a second


class Rule(NamedTuple):
    """What a step does: everything that stays the same from step to step."""

    step: float
    batch: int
    replacement: bool
    label_noise: float


class Draws(NamedTuple):
    """The batches of some steps, ``order[starts[k]:stops[k]]``, and the label noise of each visit (or nothing)."""

    order: Indices
    starts: Indices
    stops: Indices
    noise: Floats


@dataclass
class Sampler:
    """Draws batches and label noise; the stream does not depend on how many steps are asked for at a time.

    Attributes
    ----------
    n : int
        Number of samples.
    rule : Rule
    picks, noise : numpy.random.Generator
        Independent streams of the same seed.
    order : ndarray, shape (n,)
        The permutation of the current epoch (without replacement).
    position : int
        How much of it has been seen.
    """

    n: int
    rule: Rule
    picks: np.random.Generator
    noise: np.random.Generator
    order: Indices
    position: int

    @classmethod
    def seeded(cls, n: int, rule: Rule, seed: int) -> Sampler:
        """Return a sampler at the start of its stream."""
        picks, noise = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(2))
        return cls(n, rule, picks, noise, np.arange(n), n)

    def draw(self, count: int) -> Draws:
        """Return the next `count` batches."""
        order, starts, stops = self._batches(count)
        visits = int((stops - starts).sum())
        size = self.rule.label_noise
        return Draws(order, starts, stops, size * self.noise.standard_normal(visits) if size > 0.0 else np.empty(0))

    def _batches(self, count: int) -> tuple[Indices, Indices, Indices]:
        batch, n = self.rule.batch, self.n
        if self.rule.replacement:
            starts = batch * np.arange(count)
            return self.picks.integers(n, size=count * batch), starts, starts + batch
        if batch == n:
            return self.order, np.zeros(count, dtype=np.int64), np.full(count, n)
        pieces, starts_of, total = [], [], 0
        while count > 0:
            if self.position == n:
                self.order, self.position = self.picks.permutation(n), 0
            here = min(count, -(-(n - self.position) // batch))
            piece = self.order[self.position : self.position + here * batch]
            pieces.append(piece)
            starts_of.append(total + batch * np.arange(here))
            total += piece.size
            self.position += piece.size
            count -= here
        starts = np.concatenate(starts_of)
        return np.concatenate(pieces), starts, np.append(starts[1:], total)

    def state(self) -> tuple[str, Indices]:
        """Return where the streams are: JSON, and the permutation of the epoch."""
        states = [self.picks.bit_generator.state, self.noise.bit_generator.state]
        return json.dumps({"position": self.position, "generators": states}), self.order

    def restore(self, state: tuple[str, Indices]) -> None:
        """Go back to a state."""
        kept = json.loads(state[0])
        self.position, self.order = kept["position"], state[1]
        self.picks.bit_generator.state, self.noise.bit_generator.state = kept["generators"]


class Mark(NamedTuple):
    """A point of the descent from which it can be repeated: steps taken, parameters, state of the sampler."""

    taken: int
    theta: Floats
    sampler: tuple[str, Indices]


class Walk:
    """The moving iterate: `taken` steps lead to `theta`."""

    @np.errstate(over="ignore", under="ignore")
    def __init__(self, problem: Problem, rule: Rule, seed: int) -> None:
        self.problem, self.rule = problem, rule
        self.sampler = Sampler.seeded(problem.data.n, rule, seed)
        self.decay = math.exp(problem.log_weight_decay)
        weights = problem.data.weights
        self.weights = np.ones(problem.data.n) if weights is None else weights / weights.mean()
        self.inputs = problem.model.inputs(problem.data.X)
        self.compiled = isinstance(problem.model, DiagonalNet)
        self.theta, self.taken = math.exp(problem.log_alpha) * problem.direction, 0

    @property
    def at_once(self) -> int:
        """How many steps one call should take: few enough for little memory and a quick answer to Ctrl-C."""
        work = self.rule.batch * self.problem.data.d + self.problem.model.parameters
        return max(1, min(_VISITS_AT_ONCE // self.rule.batch, _WORK_AT_ONCE // work))

    @property
    def sound(self) -> bool:
        """Whether every parameter is finite; once it is not, it stays so."""
        return bool(np.isfinite(self.theta).all())

    def mark(self) -> Mark:
        """Return the present point."""
        return Mark(self.taken, self.theta.copy(), self.sampler.state())

    def back(self, mark: Mark) -> None:
        """Return to a point."""
        self.taken, self.theta = mark.taken, mark.theta.copy()
        self.sampler.restore(mark.sampler)

    @np.errstate(over="ignore", invalid="ignore", under="ignore")
    def advance(self, count: int) -> None:
        """Take so many steps."""
        draws = self.sampler.draw(count)
        if self.compiled:
            self._compiled(draws)
        else:
            for k in range(count):
                self.theta = self.theta - self.rule.step * self.gradient(draws, k)
        self.taken += count

    def gradient(self, draws: Draws, k: int) -> Floats:
        """Return the gradient that step k takes, for any model."""
        begin, end = int(draws.starts[k]), int(draws.stops[k])
        rows = draws.order[begin:end]
        data, model = self.problem.data, self.problem.model
        visited = k * data.n if rows.size == data.n else begin
        noise = draws.noise[visited : visited + rows.size]
        everything = rows.size == data.n and not self.rule.replacement
        inputs = self.inputs if everything else model.inputs(data.X[rows])
        y, weights = (data.y, self.weights) if everything else (data.y[rows], self.weights[rows])

        def pulls(f: Floats) -> Floats:
            logs, signs = log_derivatives(self.problem.loss, f + noise if noise.size else f, y)
            return signs * np.exp(logs) * (weights if f.ndim == 1 else weights[:, None]) / rows.size

        gradient: Floats = model.value_and_vjp(self.theta, inputs, pulls)[1] + self.decay * self.theta
        return gradient

    def _compiled(self, draws: Draws) -> None:
        from theorykit.flow._descend import descend

        problem = self.problem
        X = problem.data.X if problem.data.X.dtype == np.int8 else self.inputs.values
        code, degree = loss_code(problem.loss), problem.model.degree
        descend(self.theta, X, problem.data.y, self.weights, *draws, code, degree, self.rule.step, self.decay)


def largest_curvature(problem: Problem, theta: Floats) -> float:
    """Return about |largest eigenvalue| of the Hessian of L + (lambda/2)|theta|^2; infinite where it overflows.

    By the power method on differences of gradients: a digit or two, which is what advice on a step needs.
    """
    walk = Walk(problem, Rule(0.0, problem.data.n, False, 0.0), 0)
    draws = walk.sampler.draw(1)
    direction = np.random.default_rng(0).standard_normal(theta.size)
    direction /= np.linalg.norm(direction)
    width = 1e-6 * max(1e-300, float(np.linalg.norm(theta)))
    curvature = 0.0
    for _ in range(50):
        walk.theta = theta + width * direction
        ahead = walk.gradient(draws, 0)
        walk.theta = theta - width * direction
        change = (ahead - walk.gradient(draws, 0)) / (2.0 * width)
        curvature = float(np.linalg.norm(change))
        if not math.isfinite(curvature):
            return math.inf
        if curvature == 0.0:
            break
        direction = change / curvature
    return curvature
