r"""The flow without weight decay in the clock of its loss, ds = L dt: dtheta/ds = -grad log L.

The path is the same, at a pace at which a loss that falls like 1/t, to t = e^(10^4) and beyond, is an ordinary flow.
What is lost, the time, is carried as its logarithm:

    d(log t)/ds = exp(-log A~ - log L - log t),  A~ = sigma^(2(L-1)) in the kernel frame, where dh/ds = -grad_h log L

(A~ = 1 in the rich one), a quantity that is always of order |grad log L|^2 late in the flow: no factor leaves the float
range, and nothing is subtracted. In the rich frame everything is slowed down by |theta|^(2 - degree), so that |theta|
grows exponentially in s for every degree instead of without bound at a finite s.

It is the clock once every sample is fitted: then the loss goes to 0, and |grad log L| stays away from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from theorykit.flow.frames import RICH, Field, Floats, mean_log_loss
from theorykit.losses import log_derivatives, log_losses
from theorykit.models import Inputs


def log_loss_descent(field: Field, x: Floats) -> tuple[float, Floats]:
    """Return log L and -grad log L with respect to the state x of the field's frame, in one pass each way."""
    problem, field = field.problem, field.sliding(0.0, x)
    found: list[float] = []

    def cotangent(f: Floats) -> Floats:
        found.append(mean_log_loss(problem, f))
        logs, signs = log_derivatives(problem.loss, f, problem.data.y)
        slopes: Floats = -signs * np.exp(logs + field.log_shares - found[0])
        return slopes

    descent = field.pulled_back(0.0, x, cotangent)
    return found[0], descent


def all_fitted(field: Field, f: Floats) -> bool:
    """Return whether the mean loss is so small that every sample must be classified rightly, from now on."""
    problem = field.problem
    undecided = np.zeros_like(f)
    least = float(log_losses(problem.loss, undecided, problem.data.y)[0]) + float(np.min(field.log_shares))
    return mean_log_loss(problem, f) < least - 1.0


@dataclass(frozen=True, eq=False)
class LossClock:
    """The right-hand side of (x, log t) in the clock of the loss, x the state of a field without weight decay."""

    field: Field

    @property
    def inputs(self) -> Inputs:
        """The training inputs."""
        return self.field.inputs

    def pace(self, x: Floats) -> float:
        """Return the factor that slows the rich frame down."""
        if self.field.frame != RICH:
            return 1.0
        return float(np.linalg.norm(x)) ** (2 - self.field.problem.model.degree)

    @np.errstate(all="ignore")  # a trial point that is too far off gives inf or nan, and the step is rejected
    def __call__(self, _: float, state: Floats) -> Floats:
        """Return d(x, log t)/ds."""
        x, log_t = state[:-1], state[-1]
        log_loss, descent = log_loss_descent(self.field, x)
        return self.pace(x) * np.append(descent, np.exp(-self.field.log_stiffness(log_t) - log_loss - log_t))

    @np.errstate(all="ignore")
    def jacobian(self, _: float, state: Floats) -> Floats:
        """Return its Jacobian, shape (P + 1, P + 1)."""
        bent, bound, column, row = self._parts(state, curved=True)
        matrix: Floats = np.outer(column, row)
        matrix[:-1, :-1] += self.pace(state[:-1]) * bent
        matrix[-1, -1] -= bound
        return matrix

    @np.errstate(all="ignore")
    def low_rank_jacobian(self, s: float, state: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the parts of diag(d) + U V^T, the Jacobian without the curvature of the model."""
        x = state[:-1]
        _, bound, column, row = self._parts(state, curved=False)
        log_loss = self.field.log_loss(state[-1], x)
        features, weighted = self.field.low_rank_curvature(state[-1], x, -log_loss)
        left = np.vstack([-self.pace(x) * weighted.T, np.zeros(len(features))])
        right = np.vstack([features.T, np.zeros(len(features))])
        diagonal: Floats = np.zeros(state.size)
        diagonal[-1] = -bound
        return diagonal, np.column_stack([left, column]), np.column_stack([right, row])

    def _parts(self, state: Floats, *, curved: bool) -> tuple[Floats, float, Floats, Floats]:
        """Return the Hessian of -L over L (if asked for), the damping of log t, and the factors of an outer product."""
        x, log_t = state[:-1], float(state[-1])
        log_loss, descent = log_loss_descent(self.field, x)
        speed = math.exp(-self.field.log_stiffness(log_t) - log_loss - log_t)
        pace = self.pace(x)
        bent = self.field.bent(log_t, x, -log_loss) if curved else np.zeros(0)
        slowing = np.zeros_like(x)
        if self.field.frame == RICH:
            slowing = (2 - self.field.problem.model.degree) * pace / float(x @ x) * x
        return bent, pace * speed, np.append(descent, speed), np.append(pace * descent + slowing, 0.0)
