"""Theorem F.3: stationary points of matrix factorisation with weight decay are global minima or strict saddles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from theorykit import FlowError, Trial
from theorykit.checking import Claim, Control, Measurement, Source
from theorykit.programs import FactorisationPoint, MinNuclearNorm, factorisation_point, nuclear_regularised

Floats = NDArray[np.float64]

_DIGITS = 1e-9  # a value is the global one if proved to be within this of it, relatively
_STATIONARY = 1e-11  # of the gradient, relative to lambda and the size of the point
_NEWTON_STEPS = 300
_RANKS = tuple((r, s) for r in range(4) for s in range(3))  # columns of U and of V that a start uses
_STARTS = {"quick": 2, "full": 4, "paper": 4}
_DESCENTS = {"quick": 3, "full": 8, "paper": 8}


@dataclass(frozen=True, eq=False)
class Observations:
    """Entries of a symmetric d x d matrix, each observation (i, j) of its own, and lambda."""

    d: int
    index: NDArray[np.int64]
    values: Floats
    decay: float

    def loss(self, U: Floats, V: Floats) -> tuple[float, Floats, Floats]:
        """Return L(U, V) = (1/n) sum (W_ij - y)^2 + (lambda/2)(|U|^2 + |V|^2) and its gradients."""
        residual = self._residual(U, V)
        M = self._spread(4.0 / residual.size * residual)
        value = float(residual @ residual) / residual.size + 0.5 * self.decay * float((U * U).sum() + (V * V).sum())
        return value, M @ U + self.decay * U, self.decay * V - M @ V

    def hessian(self, U: Floats, V: Floats) -> Floats:
        """Return the Hessian over the entries of U, then of V, both row by row."""
        residual = self._residual(U, V)
        M = self._spread(4.0 / residual.size * residual)
        rows, columns = self.index.T
        slopes = []
        for factor, sign in ((U, 1.0), (V, -1.0)):
            slope = np.zeros((residual.size, *factor.shape))
            np.add.at(slope, (np.arange(residual.size), rows), sign * factor[columns])
            np.add.at(slope, (np.arange(residual.size), columns), sign * factor[rows])
            slopes.append(slope.reshape(residual.size, -1))
        slope = np.hstack(slopes)
        hessian = 2.0 / residual.size * slope.T @ slope + self.decay * np.eye(slope.shape[1])
        cut = U.size
        hessian[:cut, :cut] += np.kron(M, np.eye(U.shape[1]))
        hessian[cut:, cut:] -= np.kron(M, np.eye(V.shape[1]))
        return np.asarray(hessian)

    def _residual(self, U: Floats, V: Floats) -> Floats:
        W = U @ U.T - V @ V.T
        return np.asarray(W[self.index[:, 0], self.index[:, 1]] - self.values)

    def _spread(self, weights: Floats) -> Floats:
        """Return sum_k weights_k P_k, with P_k = (e_i e_j^T + e_j e_i^T)/2."""
        M = np.zeros((self.d, self.d))
        np.add.at(M, (self.index[:, 0], self.index[:, 1]), 0.5 * weights)
        return M + M.T


class _Found(NamedTuple):
    """A stationary point in few columns."""

    U: Floats
    V: Floats


class StrictSaddles(Claim):
    """For matrix factorisation W = U U^T - V V^T, U and V in R^(d x d), every local minimum of
    L = (1/n) sum (W_ij - y_ij)^2 + (lambda/2)(|U|_F^2 + |V|_F^2) is global, every saddle has a direction of negative
    curvature, and the minimum is that of the convex problem min_W (1/n) sum (W_ij - y_ij)^2 + (lambda/2)|W|_*.
    """

    id, title, kind = "lyu2024.thm-f3", "Matrix factorisation has no bad local minimum", "existence"
    source = Source("lyu2024", "Theorem F.3")
    assumptions = ("U and V have d columns", "λ > 0")
    expansion = None
    quantity = "−curvature/λ, or 1 − distance from the global value / 1e-9"
    judged = (
        "Stationary points: descents from random full starts, and Newton's method from random starts of every rank up "
        "to (3, 2), padded with zero columns, and from 0; all polished to a gradient of 1e-11 λ. Each has a direction "
        "whose curvature is proved to be negative in ball arithmetic (slack: -curvature/λ), or a certificate that its "
        "loss is within 1e-9, relatively, of the global minimum and of the certified optimum of the convex problem "
        "(slack: 1 - distance/1e-9; the point counts as a minimum). The number is the smallest slack."
    )

    def instances(self, rng: np.random.Generator) -> Iterator[Trial]:
        """Yield noisy full matrices, and a matrix of rank four with two thirds of its entries observed."""
        yield Trial("all entries, full rank", _full(rng, 6))
        yield Trial("two thirds of the entries, rank 4", _partial(rng, 8))

    def measure(self, instance: Trial, problem: None, variant: str) -> Measurement:
        """Measure the smallest slack over all stationary points, and how far their curvature is below its bound.

        By convexity a stationary point obeys loss - optimum <= (|M|_op - lambda) |W*|_*/2, and the curvature of a
        saddle is lambda - |M|_op: it is at most -2 (loss - optimum)/|W*|_*.
        """
        observed, solved = instance.values, self._optimum(instance, 1.0)
        optimum, size = float(solved.certificate.upper), float(np.linalg.norm(solved.W, "nuc"))
        certificates = [_certificate(observed, point) for point in self._points(instance)]
        distances = [max(found.gap, abs(found.loss / optimum - 1.0)) for found in certificates]
        judged = list(zip(certificates, distances, strict=True))
        slacks = [
            -found.curvature / observed.decay
            if distance >= _DIGITS and found.curvature is not None
            else 1.0 - distance / _DIGITS
            for found, distance in judged
        ]
        saddles = [found for found, distance in judged if distance >= _DIGITS and found.curvature is not None]
        extra = {
            "saddles": len(saddles),
            "values at saddles": len({round(found.loss, 8) for found in saddles}),
            "minima": sum(distance < _DIGITS for distance in distances),
            "least curvature / its bound": min(
                (-0.5 * size * (found.curvature or 0.0) / (found.loss - optimum) for found in saddles), default=math.nan
            ),
        }
        return Measurement(float(np.min(slacks)), 0.0, extra=extra)

    def controls(self) -> Sequence[Control]:
        """Return too few columns, and another constant before the nuclear norm."""
        return (
            Control("U and V with one column each", self._one_column),
            Control("λ |W|_* in place of (λ/2) |W|_*", lambda trial, _: self._other_penalty(trial, 2.0)),
        )

    def broken(self) -> Sequence[Control]:
        """Return half the penalty in the convex problem."""
        return (Control("(λ/4) |W|_* in place of (λ/2) |W|_*", lambda trial, _: self._other_penalty(trial, 0.5)),)

    def _points(self, instance: Trial) -> list[_Found]:
        """Return the stationary points found: ends of descents, and of Newton's method from every rank."""

        def search() -> list[_Found]:
            observed = instance.values
            rng = np.random.default_rng(0)
            d = observed.d
            descents = [_descent(observed, rng, d, d) for _ in range(_DESCENTS[self.tools.profile])]
            starts = [rank for rank in _RANKS for _ in range(_STARTS[self.tools.profile])]
            newton = [_polished(observed, rng.standard_normal((d, r)), rng.standard_normal((d, s))) for r, s in starts]
            ended = [point for point in descents + newton if point is not None]
            if 2 * len(ended) < len(starts):
                raise FlowError(
                    f"{len(ended)} of {len(starts)} starts ended at a stationary point; wanted half of them"
                )
            return ended

        found: list[_Found] = self.tools.remember((self.id, instance), search)
        return found

    def _optimum(self, instance: Trial, factor: float) -> MinNuclearNorm:
        """Return the certified solution of the convex problem at factor * lambda."""
        observed = instance.values
        return self.tools.remember(
            (self.id, instance, factor),
            lambda: nuclear_regularised(
                observed.index, observed.values, weight_decay=factor * observed.decay, shape=observed.d, symmetric=True
            ),
        )

    def _one_column(self, instance: Trial, problem: None) -> Measurement:
        """Descend with one column each: the ends are local minima there (no curvature is below -1e-9 lambda)."""
        observed, rng = instance.values, np.random.default_rng(1)
        gaps = []
        for _ in range(4):
            point = _descent(observed, rng, 1, 1)
            if point is not None and np.linalg.eigvalsh(observed.hessian(*point))[0] > -_DIGITS * observed.decay:
                gaps.append(_certificate(observed, point).gap)
        return Measurement(1.0 - max(gaps, default=math.nan) / _DIGITS, 0.0)

    def _other_penalty(self, instance: Trial, factor: float) -> Measurement:
        least = min(_certificate(instance.values, point).loss for point in self._points(instance))
        optimum = float(self._optimum(instance, factor).certificate.upper)
        return Measurement(1.0 - abs(least / optimum - 1.0) / _DIGITS, 0.0)


def _full(rng: np.random.Generator, d: int) -> Observations:
    """Draw every entry on and above the diagonal."""
    noise = rng.standard_normal((d, d))
    index = np.argwhere(np.triu(np.ones((d, d)))).astype(np.int64)
    return Observations(d, index, (noise + noise.T)[index[:, 0], index[:, 1]], 0.05)


def _partial(rng: np.random.Generator, d: int) -> Observations:
    """Draw two thirds of the d^2 pairs, (i, j) and (j, i) alike, of a matrix with two eigenvalues of each sign."""
    plus, minus = rng.standard_normal((2, d, 2))
    matrix = plus @ plus.T - minus @ minus.T
    chosen = rng.permutation(d * d)[: 2 * d * d // 3]
    index = np.column_stack(np.divmod(chosen, d)).astype(np.int64)
    return Observations(d, index, matrix[index[:, 0], index[:, 1]], 0.02)


def _descent(observed: Observations, rng: np.random.Generator, r: int, s: int) -> _Found | None:
    """Minimise from a random start with r and s columns, and polish."""
    d = observed.d

    def loss(theta: Floats) -> tuple[float, Floats]:
        value, in_U, in_V = observed.loss(*_split(theta, d, r))
        return value, np.concatenate([in_U.ravel(), in_V.ravel()])

    start = rng.standard_normal(d * (r + s))
    end = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9, "ftol": 0.0})
    return _polished(observed, *_split(end.x, d, r))


def _polished(observed: Observations, U: Floats, V: Floats) -> _Found | None:
    """Bring the gradient to 0 by Levenberg and Marquardt, whatever the kind of stationary point; None if it stalls."""
    d, r = observed.d, U.shape[1]
    theta, damping = np.concatenate([U.ravel(), V.ravel()]), 1e-3
    if theta.size == 0:
        return _Found(U, V)
    gradient = _gradient(observed, theta, r)
    for _ in range(_NEWTON_STEPS):
        size = float(np.linalg.norm(gradient))
        if size <= _STATIONARY * observed.decay:
            return _Found(*_split(theta, d, r))
        hessian = observed.hessian(*_split(theta, d, r))
        values, vectors = np.linalg.eigh(hessian)
        step = vectors @ (values * (vectors.T @ gradient) / (values**2 + damping * min(1.0, size)))
        trial = theta - step
        after = _gradient(observed, trial, r)
        if np.linalg.norm(after) < size:
            theta, gradient, damping = trial, after, damping / 5.0
        else:
            damping *= 10.0
    return None


def _gradient(observed: Observations, theta: Floats, r: int) -> Floats:
    _, in_U, in_V = observed.loss(*_split(theta, observed.d, r))
    return np.concatenate([in_U.ravel(), in_V.ravel()])


def _split(theta: Floats, d: int, r: int) -> tuple[Floats, Floats]:
    return theta[: d * r].reshape(d, r), theta[d * r :].reshape(d, -1)


def _certificate(observed: Observations, point: _Found) -> FactorisationPoint:
    """Return what a point is worth among all (U, V) with d columns."""
    d = observed.d
    U, V = (np.hstack([factor, np.zeros((d, d - factor.shape[1]))]) for factor in point)
    return factorisation_point(U, V, observed.index, observed.values, weight_decay=observed.decay)
