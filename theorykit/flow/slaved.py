r"""The squared loss where its stiffness A~ is huge: the residual slaved to the manifold f = y.

Let G = Phi P^(1/2) hold the gradients of the outputs, weighted by the samples' shares, G = sum_i s_i w_i v_i^T. Along
w_i the residual f - y falls at rate_i = 2 A~ s_i^2 to where df/dtau = -L (f - y) is held up. There the force along w_i
is

    L (v_i . P^(1/2) y)/s_i   (= w_i . theta by Euler's identity: dtheta/dtau = -(I - projection on range G) theta)

whatever A~ is, with a relative error of 1/rate_i. In the rich frame it is taken as w_i . theta, which keeps its digits
where s_i is small, and drawn to the manifold at the rate L along the other w_i. It is not stiff. Where the tangent
kernel becomes singular, s_i falls, and with it w_i . theta and what the direction is good for; rate_i/(1 + rate_i) of
the force is kept. The singular values come from G itself: of the kernel G^T G only half of their digits would be left,
which is enough while they lie close together.

Directions with s_i below about 1e-8 of the largest are lost in the round-off of w_i: they are faded out. What all that
may do is estimated by `slaving_rate` and, since what is lost may grow again, taken to grow at rate one from then on.

What no direction fits of the targets is not slaved: that residual is of order one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.frames import KERNEL, Field, Floats

SLAVED_FROM = 1e9  # smallest rate of the residual from which it is slaved, where anything else is affordable
_FADED = 1e-8  # singular value, relative to the largest, below which a direction is faded out
_NOTHING = 1e-14  # below which it is not told from zero
_DRAWN = 1e-4  # below which it is not drawn to the manifold: f - y has no digits for it
_LEFT = 1e-6  # part of the targets from which what no direction fits is more than an error
_NEARBY = 0.1  # how far another start is looked at, beside the parameters
_DRIVES = 1e-6  # gradient of what is left there, relative to the largest that it could have
_CLOSE = 0.03  # singular values from which the kernel is as good as the features


class Parts(NamedTuple):
    """The directions of the residual, and the force along them per unit of tau.

    Attributes
    ----------
    w : ndarray, shape (P, k), or None
        None where only the kernel was formed.
    s, v : ndarray, shapes (k,), (n, k)
    slaved : ndarray, shape (k,)
        The slaved force.
    log_rates, kept : ndarray, shape (k,)
        Logarithms of the rates per unit of tau, and the share of the slaved force that is kept.
    seen, lost : ndarray of bool, shape (k,)
        Directions that are told from zero, and those of them that are faded out.
    """

    w: Floats | None
    s: Floats
    v: Floats
    slaved: Floats
    log_rates: Floats
    kept: Floats
    seen: NDArray[np.bool_]
    lost: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SlavedField(Field):
    """A field of the squared loss with its fast residuals slaved."""

    @property
    def slaved(self) -> bool:
        """Whether residuals are slaved."""
        return True

    @property
    def exact(self) -> bool:
        """Whether c has more digits than the outputs."""
        return True

    def force(self, log_tau: float, x: Floats) -> Floats:
        """Return what the residuals add to dx/dclock."""
        piece = self.inputs.piece
        if not np.all(np.isfinite(x)) or (piece is not None and not np.all(np.isfinite(piece))):  # nothing holds it
            return np.full_like(x, np.nan)
        model, moved = self.problem.model, self.moved(log_tau, x)
        try:
            parts = directions(self, log_tau, x)
        except np.linalg.LinAlgError:  # a trial point so far off that the kernel is past the float range
            return np.full_like(x, np.nan)
        if parts.w is None:
            return np.asarray(model.vjp(moved, self.inputs, self.cotangent_at(log_tau, x, np.zeros(0))))
        force: Floats = self._per_clock(log_tau) * (parts.w @ (parts.kept * parts.slaved))
        return force

    def pull(self, log_tau: float, x: Floats) -> Floats:
        """Return the force."""
        return self.force(log_tau, x)

    def cotangent_at(self, log_tau: float, x: Floats, f: Floats) -> Floats:
        """Return c, per unit of the clock."""
        parts = directions(self, log_tau, x)
        inverse = np.divide(parts.kept * parts.slaved, parts.s, out=np.zeros_like(parts.s), where=parts.seen)
        pulled: Floats = self._per_clock(log_tau) * np.sqrt(self.problem.shares) * (parts.v @ inverse)
        return pulled

    def _per_clock(self, log_tau: float) -> float:
        return math.exp(self.log_rate(log_tau))

    def residuals(self, log_tau: float, x: Floats) -> tuple[Floats, float]:
        """Return f - y as mantissa and logarithm of its scale: of the slaved directions what holds the force up."""
        parts = directions(self, log_tau, x)
        shares = np.sqrt(self.problem.shares)
        actual = shares * (self.outputs(log_tau, x) - self.problem.data.y)
        log_scale = -self.log_stiffness(log_tau)
        unfit = _left(parts, actual)
        held = -0.5 * np.divide(parts.kept * parts.slaved, parts.s, out=np.zeros_like(parts.s), where=parts.seen)
        if np.linalg.norm(unfit) > 1e-10 * np.linalg.norm(shares * self.problem.data.y):  # what no parameters can fit
            return (parts.v @ held * math.exp(min(log_scale, 700.0)) + unfit) / shares, 0.0
        return parts.v @ held / shares, log_scale


def directions(field: Field, log_tau: float, x: Floats) -> Parts:
    """Return the singular directions of the weighted features and the force along each; the last ones are kept."""
    known = field.__dict__.get("_known")
    if known is None or known[0] != log_tau or not np.array_equal(known[1], x):
        known = log_tau, x.copy(), _directions(field, log_tau, x)
        field.__dict__["_known"] = known
    parts: Parts = known[2]
    return parts


def _directions(field: Field, log_tau: float, x: Floats) -> Parts:
    w, s, v = _decomposed(field, field.moved(log_tau, x))
    problem = field.problem
    shares, degree = np.sqrt(problem.shares), problem.model.degree
    ratio = np.minimum(_FADED * s[0] / np.maximum(s, 1e-300), 1e150)
    seen, faded = s > _NOTHING * s[0], 1.0 / (1.0 + ratio**2)
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=seen)
    with np.errstate(divide="ignore"):
        log_rates = math.log(2.0) + field.log_stiffness(log_tau) + 2.0 * np.log(s)
    slaved = degree * (v.T @ (shares * problem.data.y)) * inverse
    if field.frame != KERNEL:
        along = w.T @ x if w is not None else degree * (v.T @ (shares * field.outputs(log_tau, x))) * inverse
        slaved = along + (slaved - along) / (1.0 + (_DRAWN * s[0] * inverse) ** 2)
    if not field.decaying:  # nothing moves on the manifold
        slaved = np.zeros_like(slaved)
    kept = faded / (1.0 + np.exp(np.clip(-log_rates, -700.0, 700.0)))
    return Parts(w, s, v, slaved, log_rates, kept, seen, seen & (faded < 0.5))


def _decomposed(field: Field, moved: Floats) -> tuple[Floats | None, Floats, Floats]:
    """Return w, s, v, largest first; of the kernel (w is None) where that is as good."""
    model, shares = field.problem.model, np.sqrt(field.problem.shares)
    eigenvalues, vectors = np.linalg.eigh(shares[:, None] * model.ntk(field.inputs, theta=moved) * shares)
    if eigenvalues[0] > _CLOSE**2 * eigenvalues[-1]:
        return None, np.sqrt(eigenvalues[::-1]), np.ascontiguousarray(vectors[:, ::-1])
    features = shares[:, None] * np.reshape(model.features(field.inputs, moved), (shares.size, -1))
    v, s, w = np.linalg.svd(features, full_matrices=False)
    return w.T, s, v


def log_rates_to_slave(field: Field, log_tau: float, x: Floats) -> Floats:
    """Return the logarithms of the rates per unit of tau, of directions that are neither zero nor faded out."""
    parts = directions(field, log_tau, x)
    return parts.log_rates[parts.seen & ~parts.lost]


def slaving_rate(field: Field, log_tau: float, x: Floats, unseen: Sequence[int] = ()) -> tuple[float, bool]:
    """Return the error of the velocity relative to |x| per unit of tau, and whether directions are being lost.

    Samples that no unit sees are none of the slaved ones.
    """
    parts = directions(field, log_tau, x)
    late = 1.0 - parts.kept + np.exp(-np.maximum(parts.log_rates, 0.0))
    slaved = parts.slaved
    if len(unseen):
        slaved = slaved * (1.0 - np.linalg.norm(parts.v[list(unseen)], axis=0) ** 2)
    wrong = float(np.linalg.norm((late * slaved)[parts.seen]))
    return wrong / max(float(np.linalg.norm(x)), 1e-300), bool(np.any(parts.lost))


def _left(parts: Parts, residual: Floats) -> Floats:
    """Return what of a weighted residual, shape (n,), no direction fits that is slaved."""
    v = parts.v[:, parts.seen & ~parts.lost]
    left: Floats = residual - v @ (v.T @ residual)
    return left


def drives(field: Field, log_tau: float, x: Floats, unseen: Sequence[int] = ()) -> bool:
    """Return whether what no slaved direction fits of the targets moves the features, but for samples no unit sees.

    Its gradient vanishes here. If it does so nearby, too, no parameters can fit it: it stays as it is. Else it moves
    the features by as much as it is large, and not by what weight decay asks for.
    """
    parts, problem, moved = directions(field, log_tau, x), field.problem, field.moved(log_tau, x)
    shares, y = np.sqrt(problem.shares), np.asarray(problem.data.y)
    left = _left(parts, shares * (field.outputs(log_tau, x) - y))
    left[list(unseen)] = 0.0
    size = float(np.linalg.norm(left))
    if size <= _LEFT * float(np.linalg.norm(shares * y)):
        return False
    way = np.random.default_rng(0).standard_normal(x.size)
    way *= _NEARBY * float(np.linalg.norm(moved) / np.linalg.norm(way))
    pulled = problem.model.vjp(moved + way, field.inputs, shares * left)
    return float(np.linalg.norm(pulled)) > _DRIVES * float(parts.s[0]) * size


def settled(field: Field, log_tau: float, x: Floats, tolerance: float) -> bool:
    """Return whether the residuals have reached the manifold, to the tolerance, as far as they can."""
    parts = directions(field, log_tau, x)
    miss = parts.v.T @ (np.sqrt(field.problem.shares) * (field.outputs(log_tau, x) - field.problem.data.y))
    return bool(np.all(np.abs(miss[parts.seen & ~parts.lost]) <= tolerance))
