"""Statistics of a parameter vector, for any model: what `Trajectory.stats` holds, read off theta itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit.flow.problem import Problem
from theorykit.losses import log_losses, margins

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gauge:
    """Reads statistics off theta; `directions` are unit vectors, `own` the user's functions of theta."""

    problem: Problem
    directions: Mapping[str, Floats]
    own: Mapping[str, Callable[[Floats], float]]

    def __post_init__(self) -> None:
        if self.directions and not hasattr(self.problem.model, "weights"):
            raise InputError(
                "directions", "a net without a linear predictor", "statistics={'cos': function of theta} for this model"
            )
        for name in self.own:
            if name in self._standard:
                raise InputError("statistics", f"{name!r}, a statistic that is there", "a name of your own")

    @cached_property
    def names(self) -> list[str]:
        """All statistics that apply."""
        return [*self._standard, *self.own]

    @cached_property
    def _standard(self) -> list[str]:
        data = self.problem.data
        names = ["train_loss", "log_train_loss", "norm", "log_norm"]
        if data.task != "regression":
            names += ["train_accuracy", "margin", "output_margin"]
        if self.problem.log_weight_decay > -math.inf and self.problem.direction.any():
            names.append("log_delta")
        names += [f"cos_{name}" for name in self.directions]
        if {"kernel", "rich"} <= set(self.directions):
            names.append("transition")
        if data.test is not None:
            names += ["test_loss"] if data.task == "regression" else ["test_loss", "test_accuracy"]
        return names

    @cached_property
    def _inputs(self) -> Any:
        return self.problem.model.inputs(self.problem.data.X)

    @np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
    def read(self, theta: Floats, t: float, names: Collection[str]) -> dict[str, float]:
        """Return the named statistics of theta at flow time t."""
        wanted, out = set(names), dict[str, float]()
        out["log_norm"] = _log_norm(theta)
        out["norm"] = float(np.exp(out["log_norm"]))
        if wanted & {"train_loss", "log_train_loss", "train_accuracy", "output_margin", "margin"}:
            out |= self._training(theta)
        if "log_delta" in wanted:
            out["log_delta"] = self._log_delta(theta, t)
        if any(name.startswith(("cos_", "transition")) for name in wanted):
            out |= self._cosines(theta)
        if wanted & {"test_loss", "test_accuracy"}:
            out |= self._testing(theta)
        out |= {name: float(self.own[name](theta.copy())) for name in wanted & set(self.own)}
        return {name: out[name] for name in names}

    def _training(self, theta: Floats) -> dict[str, float]:
        data, model = self.problem.data, self.problem.model
        f = model.output(theta, self._inputs)
        weights = np.ones(data.n) if data.weights is None else data.weights
        logs = log_losses(self.problem.loss, f, data.y) + np.log(weights / weights.sum())
        top = float(logs.max())
        log_loss = top + math.log(float(np.sum(np.exp(logs - top)))) if math.isfinite(top) else top
        out = {"log_train_loss": log_loss, "train_loss": float(np.exp(log_loss))}
        if data.task != "regression":
            q = margins(f, data.y)
            smallest = float(q.min())
            out["train_accuracy"] = float(np.average(q > 0.0, weights=weights))
            out["output_margin"] = smallest
            out["margin"] = float(np.sign(smallest) * np.exp(np.log(abs(smallest)) - model.degree * _log_norm(theta)))
        return out

    def _log_delta(self, theta: Floats, t: float) -> float:
        """Return log(|delta|/|theta_bar|), delta = e^(lambda t) theta/alpha - theta_bar."""
        problem = self.problem
        growth = math.exp(min(700.0, t * math.exp(problem.log_weight_decay) - problem.log_alpha))
        moved = np.linalg.norm(growth * theta - problem.direction) / np.linalg.norm(problem.direction)
        return float(np.log(moved))

    def _cosines(self, theta: Floats) -> dict[str, float]:
        model: Any = self.problem.model  # one with a linear predictor: the others were refused
        w = model.weights(theta)
        norm = float(np.linalg.norm(w))
        out = {f"cos_{name}": float(w @ u) / norm if norm > 0.0 else 0.0 for name, u in self.directions.items()}
        if {"kernel", "rich"} <= set(self.directions):
            kernel, rich = (math.acos(min(1.0, max(-1.0, out[f"cos_{name}"]))) for name in ("kernel", "rich"))
            out["transition"] = kernel / max(kernel + rich, 1e-300)
        return out

    def _testing(self, theta: Floats) -> dict[str, float]:
        """Return mean test loss and accuracy, in one pass over the streamed test points."""
        data, model = self.problem.data, self.problem.model
        assert data.test is not None
        loss = right = 0.0
        for X, y in data.test.blocks():
            f = model.output(theta, X)
            loss += float(np.sum(np.exp(log_losses(self.problem.loss, f, y))))
            right += float(np.sum(margins(f, y) > 0.0)) if data.task != "regression" else 0.0
        return {"test_loss": loss / data.test.n, "test_accuracy": right / data.test.n}


def _log_norm(theta: Floats) -> float:
    """Return log |theta|, without squares that overflow."""
    size = float(np.abs(theta).max())
    return float(np.log(size) + np.log(np.linalg.norm(theta / size))) if size > 0.0 else -math.inf
