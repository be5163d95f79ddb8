r"""The flow of any homogeneous model in coordinates in which no factor leaves the float range.

With sigma = alpha e^(-tau) and eps = sigma^(-L), two frames, both exact:

- kernel: h, where theta = sigma (theta_bar + eps h) and the output vanishes at theta_bar,

      dh/dtau = -L h + sum_i c_i grad f_i(theta_bar + eps h),  c_i = -(sigma^(2(L-1))/lambda) p_i loss'_i

  with the outputs f_i = [f_i(theta_bar + eps h) - f_i(theta_bar)]/eps from the model's difference propagation;
- rich: theta itself, dtheta/dtau = -theta + sum_i c_i grad f_i(theta), c_i = -(1/lambda) p_i loss'_i.

p_i is the share of sample i in the mean. Every factor of c_i is in one exponent, that of the clock log tau, too.

For the squared loss c_i goes with A~ = sigma^(2(L-1))/lambda (1/lambda in the rich frame) times f_i - y_i, which falls
to 1/A~ of y: below round-off where A~ is huge. There the residual is slaved: it is what holds df/dtau = -L (f - y) up,
so that K c = L y with the tangent kernel K, and

    dh/dtau = -L h + L Phi K^(-1) y   (-theta + L Phi K^(-1) y in the rich frame),

up to 1/(A~ K) relative to 1. It is not stiff, and df/dtau = -L (f - y) still draws it to the manifold f = y.

Without weight decay sigma = alpha for all time, the terms -L h and -theta are absent, and lambda is to be read as 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.problem import Problem
from theorykit.losses import CROSS_ENTROPY, log_derivatives, log_losses
from theorykit.models import Inputs

Floats = NDArray[np.float64]

KERNEL, RICH = "kernel", "rich"
_NO_CURVATURE = -37.0  # log eps below which the model is linear in h to round-off


@dataclass(frozen=True, eq=False)
class Field:
    """The right-hand side of a problem in one frame and one clock.

    Attributes
    ----------
    problem : Problem
    inputs : Inputs
        The training inputs as the model has checked them.
    frame : {"kernel", "rich"}
        Whether the state x is h or theta.
    log_clock : bool
        Whether the clock is log tau (log t without weight decay) instead of tau.
    slaved : bool
        Whether the residual of the squared loss is slaved.
    """

    problem: Problem
    inputs: Inputs
    frame: str
    log_clock: bool
    slaved: bool = False

    @cached_property
    def decaying(self) -> bool:
        """Whether lambda > 0."""
        return self.problem.log_weight_decay > -math.inf

    @cached_property
    def log_shares(self) -> Floats:
        """Logarithms of the samples' shares in the mean, shape (n,) or (n, 1)."""
        logs = np.log(self.problem.shares)
        return logs if self.problem.model.outputs == 1 else logs[:, None]

    def log_tau(self, clock: float) -> float:
        """Return log tau at a time of the clock."""
        return clock if self.log_clock else math.log(clock)

    def clock(self, log_tau: float) -> float:
        """Return the time of the clock at log tau."""
        return log_tau if self.log_clock else math.exp(log_tau)

    def log_sigma(self, log_tau: float) -> float:
        """Return log sigma, sigma = alpha e^(-tau)."""
        return self.problem.log_alpha - (math.exp(log_tau) if self.decaying else 0.0)

    def log_eps(self, log_tau: float) -> float:
        """Return log eps of the kernel frame; 0 in the rich one."""
        return -self.problem.model.degree * self.log_sigma(log_tau) if self.frame == KERNEL else 0.0

    def log_scale(self, log_tau: float) -> float:
        """Return the logarithm of theta over `moved`: log sigma in the kernel frame, 0 in the rich one."""
        return self.log_sigma(log_tau) if self.frame == KERNEL else 0.0

    def log_stiffness(self, log_tau: float) -> float:
        """Return log A~, the factor between loss derivatives and the force."""
        log_lambda = self.problem.log_weight_decay if self.decaying else 0.0
        return 2.0 * (self.problem.model.degree - 1) * self.log_scale(log_tau) - log_lambda

    def decay(self, log_tau: float) -> float:
        """Return the rate at which the state shrinks by itself, per unit of the clock."""
        if not self.decaying:
            return 0.0
        rate = float(self.problem.model.degree) if self.frame == KERNEL else 1.0
        return rate * (math.exp(log_tau) if self.log_clock else 1.0)

    def moved(self, log_tau: float, x: Floats) -> Floats:
        """Return the parameters over their scale: theta_bar + eps h, or theta."""
        if self.frame == RICH:
            return x
        moved: Floats = self.problem.direction + math.exp(self.log_eps(log_tau)) * x
        return moved

    def outputs(self, log_tau: float, x: Floats, inputs: Inputs | None = None) -> Floats:
        """Return f(theta; x_i) for the training inputs, or others."""
        model, inputs = self.problem.model, self.inputs if inputs is None else inputs
        if self.frame == RICH:
            return np.asarray(model.output(x, inputs))
        return np.asarray(model.difference(self.problem.direction, x, self.log_eps(log_tau), inputs))

    def cotangent(self, log_tau: float, f: Floats) -> Floats:
        """Return c, per unit of the clock."""
        logs, signs = log_derivatives(self.problem.loss, f, self.problem.data.y)
        factor = self.log_stiffness(log_tau) + (log_tau if self.log_clock else 0.0)
        return -signs * np.exp(logs + self.log_shares + factor)

    @np.errstate(all="ignore")  # a trial point that is too far off gives inf or nan, and the step is rejected
    def __call__(self, clock: float, x: Floats) -> Floats:
        """Return dx/dclock."""
        log_tau = self.log_tau(clock)
        if self.slaved:
            moved = self.moved(log_tau, x)
            force = self.problem.model.vjp(moved, self.inputs, self.slaved_cotangent(log_tau, moved))
        else:
            force = self._force(log_tau, x)
        velocity: Floats = force - self.decay(log_tau) * x
        return velocity

    def _force(self, log_tau: float, x: Floats) -> Floats:
        model = self.problem.model
        if self.frame == RICH:
            return np.asarray(model.value_and_vjp(x, self.inputs, lambda f: self.cotangent(log_tau, f))[1])
        theta_bar, log_eps = self.problem.direction, self.log_eps(log_tau)
        cotangent = lambda f: self.cotangent(log_tau, f)  # noqa: E731 - it is an argument, named for the line's sake
        return np.asarray(model.difference_and_vjp(theta_bar, x, log_eps, self.inputs, cotangent)[1])

    def slaved_cotangent(self, log_tau: float, moved: Floats) -> Floats:
        """Return c of the slaved residual, K c = L y, per unit of the clock."""
        kernel = self.problem.model.ntk(self.inputs, theta=moved)
        factor = self.problem.model.degree * (math.exp(log_tau) if self.log_clock else 1.0)
        return factor * _solved(kernel, self.problem.data.y)

    def residuals(self, log_tau: float, x: Floats) -> tuple[Floats, float]:
        """Return f - y of the squared loss as mantissa and logarithm of its scale."""
        if not self.slaved:
            return self.outputs(log_tau, x) - self.problem.data.y, 0.0
        solved = _solved(self.problem.model.ntk(self.inputs, theta=self.moved(log_tau, x)), self.problem.data.y)
        mantissa = -0.5 * self.problem.model.degree * solved * np.exp(-self.log_shares)
        return mantissa, -self.log_stiffness(log_tau)

    def log_loss(self, log_tau: float, x: Floats, f: Floats | None = None) -> float:
        """Return the logarithm of the mean loss."""
        if self.problem.loss == "squared":
            mantissa, log_scale = self.residuals(log_tau, x)
            with np.errstate(divide="ignore"):
                logs = 2.0 * (np.log(np.abs(mantissa)) + log_scale)
        else:
            logs = log_losses(self.problem.loss, self.outputs(log_tau, x) if f is None else f, self.problem.data.y)
        return float(np.logaddexp.reduce(logs + self.log_shares.ravel()))

    def log_rates(self, log_tau: float, x: Floats) -> tuple[float, float]:
        """Return the logarithms of the smallest and largest rate of the squared loss's residual, per unit of tau."""
        kernel = self.problem.model.ntk(self.inputs, theta=self.moved(log_tau, x))
        roots = np.exp(0.5 * self.log_shares)
        eigenvalues = np.linalg.eigvalsh(roots[:, None] * kernel * roots)[[0, -1]]
        with np.errstate(divide="ignore"):
            low, high = np.log(2.0 * np.maximum(eigenvalues, 0.0)) + self.log_stiffness(log_tau)
        return float(low), float(high)

    def log_speed(self, log_tau: float, x: Floats, f: Floats) -> float:
        """Return the logarithm of |dtheta/dtau| (dtau/dclock)^(1/2), whose square is what the energy loses."""
        moved, half = self.moved(log_tau, x), 0.5 * log_tau if self.log_clock else 0.0
        c = self.slaved_cotangent(log_tau, moved) if self.slaved else self.cotangent(log_tau, f)
        velocity, shift = self.problem.model.vjp(moved, self.inputs, c), self.log_eps(log_tau) - half
        if shift < 300.0:  # beyond, weight decay is nothing beside the force, and the float range is near
            velocity = math.exp(shift) * velocity - (math.exp(half) * moved if self.decaying else 0.0)
            shift = 0.0
        speed = float(np.linalg.norm(velocity))
        return (math.log(speed) if speed > 0.0 else -math.inf) + shift + self.log_scale(log_tau)

    @np.errstate(all="ignore")
    def jacobian(self, clock: float, x: Floats) -> Floats:
        """Return d(dx/dclock)/dx, shape (P, P)."""
        log_tau, model = self.log_tau(clock), self.problem.model
        moved, f = self.moved(log_tau, x), self.outputs(log_tau, x)
        features = np.reshape(model.features(self.inputs, moved), (f.size, x.size))
        matrix: Floats = -features.T @ self._curved(log_tau, f, features)
        matrix[np.diag_indices(x.size)] -= self.decay(log_tau)
        if self.log_eps(log_tau) > _NO_CURVATURE:
            c = math.exp(self.log_eps(log_tau)) * self.cotangent(log_tau, f)
            for column, axis in zip(matrix.T, np.eye(x.size), strict=True):
                column += model.hvp(moved, self.inputs, c, axis)
        return matrix

    @np.errstate(all="ignore")
    def low_rank_jacobian(self, clock: float, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the parts of diag(d) + U V^T, the Jacobian without the curvature of the model, which is not stiff."""
        log_tau, model = self.log_tau(clock), self.problem.model
        f = self.outputs(log_tau, x)
        features = np.reshape(model.features(self.inputs, self.moved(log_tau, x)), (f.size, x.size))
        return np.full(x.size, -self.decay(log_tau)), -self._curved(log_tau, f, features).T, features.T

    def _curved(self, log_tau: float, f: Floats, features: Floats) -> Floats:
        """Return -dc/df times the features, shape (outputs of all samples, P)."""
        factor = self.log_stiffness(log_tau) + (log_tau if self.log_clock else 0.0) + self.log_shares
        curvature = loss_curvature(self.problem.loss, f, self.problem.data.y, factor)
        if f.ndim == 1:
            return curvature[:, None] * features
        n, c = f.shape
        return np.einsum("njk,nkp->njp", curvature, features.reshape(n, c, -1)).reshape(n * c, -1)


def loss_curvature(loss: str, f: Floats, y: NDArray[Any], log_factor: Floats) -> Floats:
    """Return e^log_factor times the second derivatives of each sample's loss: (n,), or (n, c, c) for classes."""
    if loss == "squared":
        return np.asarray(2.0 * np.exp(log_factor))
    logs, signs = log_derivatives(loss, f, y)
    if loss == "exponential":
        return np.asarray(np.exp(logs + log_factor))
    if loss != CROSS_ENTROPY:  # logistic: |loss'| (1 - |loss'|)
        return np.exp(logs + log_factor) * -np.expm1(logs)
    scaled, own = np.exp(logs + log_factor), signs < 0.0  # of the class itself 1 - softmax_y stands in logs
    shares = np.where(own, -np.expm1(logs), np.exp(logs))
    # d softmax_j/df_k = softmax_j (1{j = k} - softmax_k); in the row of y all is -scaled_k softmax_y: it is symmetric
    matrix: Floats = scaled[:, :, None] * (np.eye(f.shape[1]) - shares[:, None, :])
    rows = np.arange(len(f)), np.argmax(own, axis=1)
    matrix[rows] = -scaled * shares[rows][:, None]
    matrix[(*rows, rows[1])] = scaled[rows] * shares[rows]
    return matrix


def _solved(kernel: Floats, y: Floats) -> Floats:
    """Return K^(-1) y; nan where K is singular, so that the step is rejected."""
    try:
        return np.asarray(np.linalg.solve(kernel, y))
    except np.linalg.LinAlgError:
        return np.full_like(y, np.nan)
