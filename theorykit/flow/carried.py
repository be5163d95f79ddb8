r"""The squared loss of a net with kinks: the forces c are part of the state.

What happens behind a kink depends on how the residuals come from what they were to what they are there, within a time
of 1/A~. So they are not slaved. A~ is bounded instead (`Field.log_cap`): the flow is that of a lambda which is larger,
and no less small beside what it is compared with. As differences f - y the residuals, of size 1/A~, would be round-off,
and with them the slopes that hold the flow on kinks. By Euler's identity df/dtau = -L f + grad f . force, and so

    dc_i/dtau = (d log A~/dtau) c_i - 2 A~ p_i (-L f_i + grad f_i . force),

of which nothing cancels but what has to, at equilibrium. That f - y is -c/(2 A~ p) is conserved; what errors of steps
do to it is taken back where a segment ends (`theorykit.flow.kinks.drawn`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from theorykit.flow.frames import KERNEL, Field, Floats, Given
from theorykit.flow.kinks import across, along


@dataclass(frozen=True, eq=False)
class CarriedField(Field):
    """A field whose state is (x, c), c per unit of tau, shape (P + outputs of all samples,)."""

    @property
    def carried(self) -> bool:
        """Whether c is part of the state."""
        return True

    @np.errstate(all="ignore")
    def __call__(self, clock: float, state: Floats) -> Floats:
        """Return d(x, c)/dclock."""
        return self.at(clock)._velocity(self.log_tau(clock), *self._parts(state))

    @np.errstate(all="ignore")
    def jacobian(self, clock: float, state: Floats) -> Floats:
        """Return the Jacobian, shape (P + outputs, P + outputs)."""
        return self.at(clock)._jacobian(self.log_tau(clock), *self._parts(state))

    @np.errstate(all="ignore")
    def low_rank_jacobian(self, clock: float, state: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the parts of diag(d) + U V^T, the Jacobian without the curvature of the model in the forces."""
        return self.at(clock)._low_rank_jacobian(self.log_tau(clock), *self._parts(state))

    def _parts(self, state: Floats) -> tuple[Floats, Floats]:
        P = self.problem.model.parameters
        return state[:P], state[P:]

    def _pace(self, log_tau: float) -> float:
        """Return dtau/dclock."""
        return float(np.exp(self.log_rate(log_tau)))

    def _growth(self, log_tau: float) -> float:
        """Return the rate per unit of tau at which A~ grows."""
        shrinking = self.frame == KERNEL and not self.bounded(log_tau)
        return -2.0 * (self.problem.model.degree - 1) if shrinking else 0.0

    def _weights(self, log_tau: float) -> Floats:
        """Return 2 A~ p_i, shape (outputs of all samples,)."""
        each: Floats = 2.0 * np.exp(np.ravel(self.log_shares) + self.log_stiffness(log_tau))
        return np.repeat(each, self.problem.model.outputs)

    def _velocity(self, log_tau: float, x: Floats, c: Floats) -> Floats:
        model, pace = self.problem.model, self._pace(log_tau)
        now = self.given(pace * c).sliding(log_tau, x)
        force = now.force(log_tau, x)
        turned = np.ravel(model.jvp(now.moved(log_tau, x), now.inputs, force))
        change = turned - model.degree * pace * np.ravel(now.outputs(log_tau, x))
        dc = self._growth(log_tau) * pace * c - self._weights(log_tau) * change
        return np.concatenate([force - self.decay(log_tau) * x, dc])

    def _jacobian(self, log_tau: float, x: Floats, c: Floats) -> Floats:
        now = self.given(self._pace(log_tau) * c).sliding(log_tau, x)
        bent = self.given(now.c).bent(log_tau, x, self._log_factor(log_tau), of_loss=False)
        forces, features, below, corner = self._lower(now, log_tau, x)
        below = below - self._weights(log_tau)[:, None] * (features @ bent)
        bent[np.diag_indices(x.size)] -= self.decay(log_tau)
        return np.block([[bent, forces.T], [below, corner]])

    def _low_rank_jacobian(self, log_tau: float, x: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        now = self.given(self._pace(log_tau) * c).sliding(log_tau, x)
        forces, _, below, corner = self._lower(now, log_tau, x)
        m, P = forces.shape
        diagonal = np.append(np.full(P, -self.decay(log_tau)), np.zeros(m))
        nothing, beside, one = np.zeros((m, m)), np.zeros((P, m)), np.eye(m)
        u = np.block([[forces.T, beside], [nothing, one]])
        v = np.block([[beside, below.T], [one, corner.T]])
        return diagonal, u, v

    def _lower(self, now: Given, log_tau: float, x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return d(dx)/dc transposed, the features, d(dc)/dx but for changes of the force, and d(dc)/dc."""
        model, pace, weights = self.problem.model, self._pace(log_tau), self._weights(log_tau)
        moved = now.moved(log_tau, x)
        features = np.reshape(model.features(now.inputs, moved), (-1, x.size))
        forces = pace * features
        if self.held:
            forces = along(forces.T, *across(now, log_tau, x, self.held)).T
        force = now.force(log_tau, x)
        rows = [model.hvp(moved, now.inputs, one.reshape(now.c.shape), force) for one in np.eye(now.c.size)]
        turning = np.exp(self.log_eps(log_tau)) * np.array(rows)
        below = weights[:, None] * (model.degree * pace * features - turning)
        corner = self._growth(log_tau) * pace * np.eye(weights.size) - weights[:, None] * (features @ forces.T)
        return forces, features, below, corner
