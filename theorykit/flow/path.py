"""What a trajectory asks of a flow that has been integrated, whatever it was integrated in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.problem import Problem
from theorykit.losses import log_derivatives
from theorykit.models import Inputs

Floats = NDArray[np.float64]


class FlowPath(Protocol):
    """A flow that can be read at any log tau (log t without weight decay) up to its end.

    Attributes
    ----------
    directions : dict of ndarray
        Unit vectors for the ``cos_`` statistics.
    """

    @property
    def problem(self) -> Problem:
        """What was simulated."""

    @property
    def directions(self) -> Mapping[str, Floats]:
        """Unit vectors for the ``cos_`` statistics."""

    @property
    def status(self) -> str:
        """Why it ended: "reached_end", or the trouble."""

    @property
    def message(self) -> str:
        """What that means and what to do about it."""

    @property
    def counts(self) -> dict[str, int]:
        """Steps and evaluations."""

    @property
    def rtol(self) -> float:
        """The tolerance."""

    @property
    def slaving_error(self) -> float:
        """Relative error that slaving the residual has brought, up to where directions are lost; 0 where it was not."""

    def slaving_errors(self, log_taus: Floats) -> Floats:
        """Return that error at each time, shape (k,)."""

    @property
    def linear(self) -> bool:
        """Whether the model is linear in x, so that there are weights."""

    @property
    def start(self) -> float:
        """The log tau at which the integration began; before it the state moves in proportion to tau."""

    @property
    def end(self) -> float:
        """The log tau at which it ended."""

    @property
    def names(self) -> list[str]:
        """The statistics that apply."""

    def pointed(self, directions: Mapping[str, Floats]) -> Self:
        """Return the same flow with other directions."""

    def step_ends(self) -> Floats:
        """Return the log tau of every accepted step's end."""

    def statistics(self, log_taus: Floats, names: Sequence[str] | None = None) -> dict[str, Floats]:
        """Return each statistic at each time, shape (k,)."""

    def outputs(self, log_taus: Floats) -> Floats:
        """Return what the error of the whole path is measured in, shape (k, outputs of all samples)."""

    def outputs_on(self, log_tau: float, inputs: Inputs | None) -> Floats:
        """Return f at one time on other inputs, or those of the training data (None)."""

    def slopes(self, log_tau: float) -> tuple[Floats, float]:
        """Return d loss_i/df_i at one time, shaped as the outputs, and the logarithm of a scale that multiplies it."""

    def displacement(self, log_tau: float) -> tuple[Floats, float]:
        """Return h = alpha^L e^(-L tau) (theta/sigma - theta_bar) at one time: unit vector (P,) and log norm."""

    def weights(self, log_taus: Floats) -> Floats:
        """Return the linear predictors w, shape (k, d); `InputError` where the model is not linear in x."""

    def log_coordinates(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return log|u| and log|v| of a diagonal net, shapes (k, d)."""

    def parameters(self, log_taus: Floats) -> tuple[Floats, Floats]:
        """Return theta/|theta|, shape (k, P), and log|theta|, shape (k,)."""

    def drifts(self) -> dict[str, float | None]:
        """Return the largest relative drift of each exact identity."""

    def frames(self) -> list[dict[str, Any]]:
        """Return the frames in the order in which they were used."""


def scaled_slopes(problem: Problem, f: Floats) -> tuple[Floats, float]:
    """Return d loss_i/df_i, shaped as f, over a scale, and the logarithm of that: no slope leaves the float range."""
    logs, signs = log_derivatives(problem.loss, f, problem.data.y)
    top = float(logs.max())
    if top == -math.inf:
        return np.zeros_like(f), 0.0
    return signs * np.exp(logs - top), top


def unit_and_log(vector: Floats, log_scale: float = 0.0) -> tuple[Floats, float]:
    """Return a vector's direction and the logarithm of its norm times e^log_scale; (0, -inf) for 0."""
    largest = float(np.max(np.abs(vector)))
    if largest == 0.0:
        return np.zeros_like(vector), -math.inf
    scaled = vector / largest
    norm = float(np.linalg.norm(scaled))
    return scaled / norm, math.log(largest) + math.log(norm) + log_scale
