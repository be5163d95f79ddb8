"""Figure 3: grokking in matrix completion, at full size: the multiplication table from 5 % of its entries."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from theorykit import Dataset, Problem, SaveAt, Trajectory, gradient_flow
from theorykit.checking import Claim, Control, Instance, Measurement, Source
from theorykit.datasets import matrix_completion
from theorykit.models import MatrixFactorization
from theorykit.programs import min_nuclear_norm

_D, _SHARE = 97, 0.05
_LOG_ALPHA, _P = math.log(10.0), 4.0  # alpha = 10, lambda = 1e-4
_LOG_LARGE = math.log(1e4)  # the scale at which the early predictor is tested
_NOISE = 1e-3  # standard deviation of the entries of theta(0) round alpha (I, I)
_S_END, _POINTS = 2.5, 50
_COARSER = 1e4  # losses to a percent need fewer digits than limits: rtol 1e-4 by default
_TRAINED, _FLAT, _FALLEN, _NEAR = 1e-6, 0.02, 1.0 / 3.0, 1e-3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Slack:
    """By how much a bound holds, relative to the bound, and the error of that."""

    value: float
    error: float


class MatrixCompletion(Claim):
    """The multiplication table ij/d^2, d = 97, completed from 5 % of its entries by W = UU' - VV', from alpha times the
    perturbed identity with alpha = 10, lambda = 1e-4: the training loss is below 1e-6 from s = 0.1 to 0.65 while the
    test loss stays constant to 2 % from 0.1 to 0.7, and falls below a third of that by s = 2; before, W is the table
    with zeros for what was not observed (from the identity at alpha = 1e4 to 1e-3 of its norm at s = 1/2).
    """

    id, title = "lyu2024.fig-3", "Grokking: matrix completion"
    kind = "figure"
    source = Source("lyu2024", "Figure 3")
    quantity = "slack of the tightest bound, relative to the bound"
    expansion = None
    draws: ClassVar[Mapping[str, int]] = {"quick": 1, "full": 5, "paper": 5}
    judged = (
        "A flow at full size for each set of observed entries, with noise of standard deviation 1e-3 in theta(0). Each "
        "bound on a loss has a slack, relative to the bound, and as its error the distance to a run at ten times the "
        "tolerance. The early predictor has a flow of its own from the exact identity at alpha = 1e4, lambda = "
        "alpha^-4. The number is the slack nearest to its error, and must exceed it."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Yield one set of observed entries and one draw of the noise."""
        data = matrix_completion(d=_D, fraction=_SHARE, seed=int(rng.integers(2**31)))
        yield _instance(data, int(rng.integers(2**31)))

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure the tightest slack."""
        return _tightest([*self._of_losses(instance), self._of_early(instance)])

    def controls(self) -> Sequence[Control]:
        """Return the observed values in other places, and the fall before the transition."""
        return (
            Control("observed values in shuffled places", self._shuffled),
            Control("test loss fallen already at s = 0.7", self._too_early),
        )

    def broken(self) -> Sequence[Control]:
        """Return a fall to a hundredth, and a training loss that is gone to 1e-9."""
        return (
            Control("fall to a hundredth by s = 2", lambda given, _: _tightest([self._fallen(given, 2.0, 0.01)])),
            Control("training loss below 1e-9", lambda given, _: _tightest([self._trained(given, 1e-9)])),
        )

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return the losses of the figure, and the distances to both predictors."""
        trajectory, least = self._flow(instance), self._least_nuclear(instance.data)
        table = _outputs(trajectory, _S_END)[0]
        early = self._early(instance, _LOG_ALPHA)
        return {
            "test loss at s = 0.7": _test_loss(trajectory, instance, 0.7)[0],
            "test loss at s = 2": _test_loss(trajectory, instance, 2.0)[0],
            "test loss at the end": float(trajectory.stats["test_loss"][-1]),
            "test loss of the least nuclear norm": _mean_square(least, instance.data),
            "distance to the least nuclear norm at the end": _distance(table, least),
            "distance to the early predictor at alpha = 10": early[0],
        }

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return both losses against s."""
        trajectory = self._flow(instance)
        logs = {
            "training loss": trajectory.stats["log_train_loss"] / math.log(10.0),
            "test loss": np.log10(trajectory.stats["test_loss"]),
        }
        return [
            {
                "label": f"d = {_D}, {instance.data.n} entries observed",
                "s": trajectory.s.tolist(),
                "curves": {name: values.tolist() for name, values in logs.items()},
                "marks": {"T⁻": 1.0 - instance.c, "T⁺": 1.0 + instance.c},
                "quantity": "log₁₀ loss",
            }
        ]

    def _flow(self, instance: Instance) -> Trajectory:
        problem = instance.at(_LOG_ALPHA)
        return self.tools.remember((instance.key, "figure"), lambda: self._integrated(problem, _S_END))

    def _integrated(self, problem: Problem, s_end: float) -> Trajectory:
        rtol = min(_COARSER * self.tools.rtol, 1e-3)
        return gradient_flow(
            problem, s_end=s_end, rtol=rtol, method="rkc2", save=SaveAt(num=_POINTS)
        ).raise_for_status()

    def _of_losses(self, instance: Instance) -> list[_Slack]:
        """Return the slacks of the three bounds on losses."""
        flat, error = _plateau(self._flow(instance), instance)
        spread = flat.max() / flat.min() - 1.0
        constant = _Slack(1.0 - spread / _FLAT, 2.0 * error / _FLAT)
        return [self._trained(instance, _TRAINED), constant, self._fallen(instance, 2.0, _FALLEN)]

    def _trained(self, instance: Instance, level: float) -> _Slack:
        """Return by how much the training loss from s = 0.1 to 0.65 lies below a level."""
        trajectory = self._flow(instance)
        inside = (trajectory.s > 0.1 - 1e-9) & (trajectory.s < 0.65 + 1e-9)
        loss, error = (
            float(values[inside].max()) for values in (trajectory.stats["train_loss"], trajectory.errors["train_loss"])
        )
        return _Slack(1.0 - loss / level, error / level)

    def _fallen(self, instance: Instance, s: float, level: float) -> _Slack:
        """Return by how much the test loss at s lies below a share of its plateau."""
        trajectory = self._flow(instance)
        flat, error = _plateau(trajectory, instance)
        loss, off = _test_loss(trajectory, instance, s)
        share = loss / flat.min()
        return _Slack(1.0 - share / level, share * (off + error) / level)

    def _of_early(self, instance: Instance) -> _Slack:
        distance, error = self._early(instance, _LOG_LARGE)
        return _Slack(1.0 - distance / _NEAR, error / _NEAR)

    def _early(self, instance: Instance, log_alpha: float) -> tuple[float, float]:
        """Return |W - X|/|X| at s = 1 - c from the exact identity, X zero off the observed entries, and its error."""
        problem = replace(instance, init="theory").at(log_alpha)
        s = 1.0 - instance.c
        trajectory = self.tools.remember(
            (instance.data.fingerprint, "early", log_alpha), lambda: self._integrated(problem, s)
        )
        W, other = _outputs(trajectory, float(trajectory.s[-1]))
        observed = np.zeros_like(W)
        i, j = instance.data.X.T
        observed[i, j] = observed[j, i] = instance.data.y
        return _distance(W, observed), float(np.linalg.norm(W - other) / np.linalg.norm(observed))

    def _least_nuclear(self, data: Dataset) -> Floats:
        """Return the completion of least nuclear norm."""
        return self.tools.remember(
            (data.fingerprint, "least nuclear norm"),
            lambda: min_nuclear_norm(data.X, data.y, shape=_D, symmetric=True).W,
        )

    def _shuffled(self, instance: Instance, problem: Problem) -> Measurement:
        values = np.random.default_rng(0).permutation(instance.data.y)
        data = replace(instance.data, y=values, name=f"{instance.data.name}, values shuffled")
        return _tightest(self._of_losses(replace(instance, data=data)))

    def _too_early(self, instance: Instance, problem: Problem) -> Measurement:
        return _tightest([self._fallen(instance, 0.7, _FALLEN)])


def _instance(data: Dataset, seed: int) -> Instance:
    net = MatrixFactorization(d=_D)
    noisy = net.direction("perturbed", seed, sigma=_NOISE * math.exp(-_LOG_ALPHA))
    return Instance(net, data, "squared", p=_P, c=0.5, init=noisy)


def _tightest(slacks: Sequence[_Slack]) -> Measurement:
    """Return the slack that is missed most, or comes nearest to its error."""
    missed = [slack for slack in slacks if slack.value < 0.0]
    tightest = min(missed or slacks, key=lambda slack: slack.value - slack.error)
    return Measurement(tightest.value, 0.0, integrator=tightest.error)


def _plateau(trajectory: Trajectory, instance: Instance) -> tuple[Floats, float]:
    """Return the test losses from s = 0.1 to 0.7, and their largest relative error."""
    inside = (trajectory.s > 0.1 - 1e-9) & (trajectory.s < 0.7 + 1e-9)
    errors = [_test_loss(trajectory, instance, float(s))[1] for s in trajectory.s[inside]]
    return trajectory.stats["test_loss"][inside], max(errors)


def _test_loss(trajectory: Trajectory, instance: Instance, s: float) -> tuple[float, float]:
    """Return the mean squared error off the observed entries at s, and its relative error."""
    own, other = (_mean_square(W, instance.data) for W in _outputs(trajectory, s))
    return own, abs(own - other) / own


def _outputs(trajectory: Trajectory, s: float) -> tuple[Floats, Floats]:
    """Return W at s, and that of the run at ten times the tolerance."""
    now, entries = trajectory.at(s=s), np.indices((_D, _D)).reshape(2, -1).T
    return now.outputs(entries).reshape(_D, _D), now.companion_outputs(entries).reshape(_D, _D)


def _mean_square(W: Floats, data: Dataset) -> float:
    assert data.test is not None
    X, y = data.test.read(0, data.test.n)
    return float(np.mean((W[tuple(X.T)] - y) ** 2))


def _distance(W: Floats, other: Floats) -> float:
    return float(np.linalg.norm(W - other) / np.linalg.norm(other))
