"""Matrix factorisation from exactly U = V = alpha I, in logarithms: at any scale, and its limit as alpha grows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorykit.flow import integrate

Floats = NDArray[np.float64]

_FAR = 100.0  # of log |U|: beyond it a step that went too far is refused, without overflow
_START = 1e7  # sigma^2 over the largest entry, where the linear start of the orbit is exact to round-off


@dataclass(frozen=True, eq=False)
class Moment:
    r"""W = U U^T - V V^T at one time.

    Attributes
    ----------
    W : ndarray, shape (d, d)
    theta : ndarray, shape (2 d^2,)
        (U, V), up to rotations of their columns (before the start of the orbit: up to a factor, too).
    """

    W: Floats
    theta: Floats


class _FromIdentity:
    r"""A flow dU/dtau = (S - I) U, dV/dtau = -(S + I) V from U = V = alpha I, S symmetric and made of W.

    It keeps V^T U = sigma^2 I with sigma = alpha e^{-tau}, so that U U^T = sigma^2 e^{2B} and V V^T = sigma^2 e^{-2B}
    with one symmetric matrix B: W = 2 sigma^2 sinh 2B, and in the eigenbasis of B, b its eigenvalues,

        dB_ij/dtau = S_ij (b_i - b_j) coth(b_i - b_j).

    Scale and time come in through u = tau - log(alpha) = -log(sigma), and nothing underflows.
    """

    def __init__(self, entries: NDArray[np.int_], y: Floats, d: int) -> None:
        self._y, self._d = y, d
        self._upper = np.triu_indices(d)
        self._places = np.zeros((y.size, d, d))
        for place, (i, j) in zip(self._places, entries, strict=True):
            place[i, j] = place[j, i] = 1.0

    def _pull(self, u: float, b: Floats, axes: Floats) -> Floats:
        """Return S."""
        raise NotImplementedError

    def _run(self, start: Floats, begin: float, ends: list[float], rtol: float) -> list[Floats]:
        if not ends:
            return []
        solution = integrate(
            self._rate, start, (begin, ends[-1]), method="tsit5", at=[begin, *ends], rtol=rtol, atol=1e-3 * rtol,
            companion=False,
        )  # fmt: skip
        if solution.status != "reached_end":
            raise ArithmeticError(f"the flow ends at u = {solution.t[-1]:g}: {solution.message}")
        return [self._symmetric(row) for row in solution.y[1:]]

    def _rate(self, u: float, packed: Floats) -> Floats:
        b, axes = np.linalg.eigh(self._symmetric(packed))
        S = axes.T @ self._pull(u, b, axes) @ axes
        gaps = b[:, None] - b
        turned = np.where(np.abs(gaps) < 1e-8, 1.0, gaps / np.tanh(np.where(gaps == 0.0, 1.0, gaps)))
        return np.asarray((axes @ (S * turned) @ axes.T)[self._upper])

    def _symmetric(self, packed: Floats) -> Floats:
        B = np.zeros((self._d, self._d))
        B[self._upper] = packed
        return B + np.triu(B, 1).T

    def _moment(self, B: Floats, u: float) -> Moment:
        b, axes = np.linalg.eigh(B)
        return Moment(_matrix(u, b, axes), np.concatenate([part.ravel() for part in _factors(u, b, axes)]))


class ExactIdentity(_FromIdentity):
    r"""Gradient flow of mean squared error + (lambda/2)(|U|^2 + |V|^2) on observed entries, from U = V = alpha I.

    S = -M/lambda, M = (2/n) sum_k (W_k - y_k) P_k with P_k = e_i e_j^T + e_j e_i^T.

    Parameters
    ----------
    entries : ndarray of int, shape (n, 2)
        Observed places, each once.
    y : ndarray, shape (n,)
    d : int
        Rows.
    log_alpha, log_weight_decay : float
        Scales of order one.
    ends : iterable of float
        Slow times that are asked for.
    rtol : float
        Tolerance of the integration; `at` gives a companion at ten times as much.
    """

    def __init__(
        self, entries: NDArray[np.int_], y: Floats, d: int, log_alpha: float, log_weight_decay: float,
        ends: Iterable[float], rtol: float,
    ) -> None:  # fmt: skip
        super().__init__(entries, y, d)
        self._log_alpha, self._entries = log_alpha, entries
        self._push = (self._places + self._places * np.eye(d)) * (2.0 / y.size) * math.exp(-log_weight_decay)
        times = sorted(ends)
        after, start = [tau - log_alpha for tau in times], np.zeros(d * (d + 1) // 2)
        runs = [self._run(start, -log_alpha, after, each) for each in (rtol, 10.0 * rtol)]
        self._found = {tau: pair for tau, *pair in zip(times, *runs, strict=True)}

    def at(self, tau: float) -> tuple[Moment, Moment]:
        """Return the flow at one of the times, and its companion there."""
        own, companion = (self._moment(B, tau - self._log_alpha) for B in self._found[tau])
        return own, companion

    def _pull(self, u: float, b: Floats, axes: Floats) -> Floats:
        W = _matrix(u, np.clip(b, -_FAR - u, _FAR + u), axes)
        i, j = self._entries.T
        return np.asarray(np.tensordot(self._y - W[i, j], self._push, 1))


class Orbit(_FromIdentity):
    r"""The limit of gradient flow with weight decay on observed entries, from U = V = alpha I, as alpha grows.

    For lambda -> 0 the residual is slaved (W = y on the observed entries): S = sum_i mu_i P_i with ({S, UU^T + VV^T})_i
    = 2 y_i on the observed entries. Scale comes in through u alone, and the start is B = P(y)/(4 sigma^2), up to its
    square: every scale follows the same orbit, on which T^+_c is u = c log(alpha).

    Parameters
    ----------
    entries : ndarray of int, shape (n, 2)
        Observed places (i <= j), each once.
    y : ndarray, shape (n,)
    d : int
        Rows.
    ends : sequence of float
        Times u that are asked for.
    rtol : float
        Tolerance of the integration; `at` gives a companion at ten times as much.
    """

    def __init__(self, entries: NDArray[np.int_], y: Floats, d: int, ends: list[float], rtol: float) -> None:
        super().__init__(entries, y, d)
        i, j = entries.T
        unit = np.eye(d)
        # {P_k, H} at entry (i, j) as a linear function of H: the tangent kernel is one product away
        left = np.einsum("kia,bj->kijab", self._places, unit) + np.einsum("kbj,ia->kijab", self._places, unit)
        self._kernel = left[:, i, j].transpose(1, 0, 2, 3).reshape(y.size**2, d * d)
        self._filled = np.tensordot(y, self._places, 1)
        self._begin = -0.5 * math.log(_START * float(np.abs(y).max()))
        late = sorted({u for u in ends if u > self._begin})
        start = self._filled[self._upper] * math.exp(2.0 * self._begin) / 4.0
        runs = [self._run(start, self._begin, late, each) for each in (rtol, 10.0 * rtol)]
        self._found = [dict(zip(late, run, strict=True)) for run in runs]

    def at(self, u: float) -> tuple[Moment, Moment]:
        """Return the orbit at one of the times, and its companion there."""
        if u <= self._begin:  # further back sigma leaves the float range
            theta = np.concatenate([np.eye(self._d).ravel()] * 2) * math.exp(-self._begin)
            return Moment(self._filled, theta), Moment(self._filled, theta)
        return self._moment(self._found[0][u], u), self._moment(self._found[1][u], u)

    def _pull(self, u: float, b: Floats, axes: Floats) -> Floats:
        H = (axes * (np.exp(2.0 * (b - u)) + np.exp(-2.0 * (b + u)))) @ axes.T
        kernel = (self._kernel @ H.ravel()).reshape(self._y.size, -1)
        return np.asarray(np.tensordot(np.linalg.solve(kernel, 2.0 * self._y), self._places, 1))


def _factors(u: float, b: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """Return U and V, up to rotations of their columns."""
    return axes * np.exp(b - u), axes * np.exp(-b - u)


def _matrix(u: float, b: Floats, axes: Floats) -> Floats:
    """Return W; before u = 0 both factors are huge and nearly equal: their difference is a sinh, not a difference."""
    if u < 0.0:
        return np.asarray((axes * (2.0 * np.sinh(2.0 * b) * math.exp(-2.0 * u))) @ axes.T)
    U, V = _factors(u, b, axes)
    return np.asarray(U @ U.T - V @ V.T)
