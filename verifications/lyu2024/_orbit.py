"""Matrix factorisation from U = V = alpha I for alpha -> infinity: one orbit for all scales, in logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theorykit.flow import integrate

Floats = NDArray[np.float64]

_START = 1e7  # sigma^2 over the largest entry, where the linear start of the orbit is exact to round-off


@dataclass(frozen=True, eq=False)
class Moment:
    r"""W = U U^T - V V^T on the orbit, at one time after the transition.

    Attributes
    ----------
    W : ndarray, shape (d, d)
    theta : ndarray, shape (2 d^2,)
        (U, V), up to rotations of their columns (before the start of the orbit: up to a factor, too).
    """

    W: Floats
    theta: Floats


class Orbit:
    r"""The limit of gradient flow with weight decay on observed entries, from U = V = alpha I, as alpha grows.

    The flow keeps V^T U = sigma^2 I with sigma = alpha e^{-tau}, so that U U^T = sigma^2 e^{2B} and V V^T = sigma^2
    e^{-2B} with one symmetric matrix B: W = 2 sigma^2 sinh 2B. For lambda -> 0 the residual is slaved (W = y on the
    observed entries) and dU/dtau = (S - I) U, dV/dtau = -(S + I) V with S = sum_i mu_i P_i, so that in the eigenbasis
    of B, b its eigenvalues,

        dB_ij/dtau = S_ij (b_i - b_j) coth(b_i - b_j),    ({S, UU^T + VV^T})_i = 2 y_i on the observed entries.

    Time and scale come in through u = tau - log(alpha) = -log(sigma) alone, and the start is B = P(y)/(4 sigma^2), up
    to its square: every scale follows the same orbit, T^+_c is u = c log(alpha), and nothing underflows.

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
        self._y, self._d = y, d
        self._upper = np.triu_indices(d)
        places = np.zeros((y.size, d, d))
        for place, (i, j) in zip(places, entries, strict=True):
            place[i, j] = place[j, i] = 1.0
        i, j = entries.T
        unit = np.eye(d)
        # {P_k, H} at entry (i, j) as a linear function of H: the tangent kernel is one product away
        left = np.einsum("kia,bj->kijab", places, unit) + np.einsum("kbj,ia->kijab", places, unit)
        self._kernel = left[:, i, j].transpose(1, 0, 2, 3).reshape(y.size**2, d * d)
        self._places = places.reshape(y.size, d * d)
        self._filled = (y @ self._places).reshape(d, d)
        self._begin = -0.5 * math.log(_START * float(np.abs(y).max()))
        late = sorted({u for u in ends if u > self._begin})
        start = self._filled[self._upper] * math.exp(2.0 * self._begin) / 4.0
        self._found = [dict(zip(late, self._run(start, late, each), strict=True)) for each in (rtol, 10.0 * rtol)]

    def at(self, u: float) -> tuple[Moment, Moment]:
        """Return the orbit at one of the times, and its companion there."""
        if u <= self._begin:  # further back sigma leaves the float range
            theta = np.concatenate([np.eye(self._d).ravel()] * 2) * math.exp(-self._begin)
            return Moment(self._filled, theta), Moment(self._filled, theta)
        return self._moment(self._found[0][u], u), self._moment(self._found[1][u], u)

    def _run(self, start: Floats, ends: list[float], rtol: float) -> list[Floats]:
        if not ends:
            return []
        span, at = (self._begin, ends[-1]), [self._begin, *ends]
        solution = integrate(
            self._rate, start, span, method="tsit5", at=at, rtol=rtol, atol=1e-3 * rtol, companion=False
        )
        if solution.status != "reached_end":
            raise ArithmeticError(f"the orbit ends at u = {solution.t[-1]:g}: {solution.message}")
        return [self._symmetric(row) for row in solution.y[1:]]

    def _rate(self, u: float, packed: Floats) -> Floats:
        b, axes = np.linalg.eigh(self._symmetric(packed))
        H = (axes * (np.exp(2.0 * (b - u)) + np.exp(-2.0 * (b + u)))) @ axes.T
        kernel = (self._kernel @ H.ravel()).reshape(self._y.size, -1)
        mu = np.linalg.solve(kernel, 2.0 * self._y)
        S = axes.T @ (mu @ self._places).reshape(self._d, self._d) @ axes
        gaps = b[:, None] - b
        turned = np.where(np.abs(gaps) < 1e-8, 1.0, gaps / np.tanh(np.where(gaps == 0.0, 1.0, gaps)))
        return np.asarray((axes @ (S * turned) @ axes.T)[self._upper])

    def _symmetric(self, packed: Floats) -> Floats:
        B = np.zeros((self._d, self._d))
        B[self._upper] = packed
        return B + np.triu(B, 1).T

    def _moment(self, B: Floats, u: float) -> Moment:
        b, axes = np.linalg.eigh(B)
        U, V = axes * np.exp(b - u), axes * np.exp(-b - u)
        # below u = 0 both are huge and nearly equal: their difference is a sinh, not a difference
        W = (axes * (2.0 * np.sinh(2.0 * b) * math.exp(-2.0 * u))) @ axes.T if u < 0.0 else U @ U.T - V @ V.T
        return Moment(np.asarray(W), np.concatenate([U.ravel(), V.ravel()]))
