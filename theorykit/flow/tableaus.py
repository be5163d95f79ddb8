"""Coefficients of the integrators, as data: tests hold them against the order conditions.

Radau IIA with three stages has order 5 and is L-stable; its last stage is the new point (Hairer and Wanner, Solving
Ordinary Differential Equations II, section IV.8). Everything is derived here from the abscissae and the collocation
conditions, so that there are no long decimals to mistype.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImplicitTableau:
    """A collocation method in the form that a simplified Newton iteration needs.

    Attributes
    ----------
    A, b, c : ndarray, shapes (3, 3), (3,), (3,)
        The Butcher tableau.
    gamma : float
        Real eigenvalue of inv(A).
    mu : complex
        The complex eigenvalue of inv(A) with positive imaginary part.
    T, T_inv : ndarray, shape (3, 3)
        Real transformation with inv(A) T = T [[gamma, 0, 0], [0, a, b], [0, -b, a]], mu = a + i b.
    error : ndarray, shape (3,)
        Weights of the stage increments in the embedded error estimate (order 3).
    dense : ndarray, shape (3, 3)
        Increments (3, r).T @ dense = coefficients of x, x^2, x^3 of the collocation polynomial on the step.
    """

    A: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    gamma: float
    mu: complex
    T: NDArray[np.float64]
    T_inv: NDArray[np.float64]
    error: NDArray[np.float64]
    dense: NDArray[np.float64]


def _radau_iia_5() -> ImplicitTableau:
    root = 6.0**0.5
    c = np.array([(4.0 - root) / 10.0, (4.0 + root) / 10.0, 1.0])
    powers = np.vander(c, 3, increasing=True)
    # collocation: sum_j A_ij c_j^k = c_i^(k+1)/(k+1)
    A = (c[:, None] ** np.arange(1, 4) / np.arange(1, 4)) @ np.linalg.inv(powers)
    inverse = np.linalg.inv(A)
    values, vectors = np.linalg.eig(inverse)
    real = int(np.argmin(np.abs(values.imag)))
    complex_ = int(np.argmax(values.imag))
    gamma, mu = float(values[real].real), complex(values[complex_])
    T = np.column_stack([vectors[:, real].real, vectors[:, complex_].real, vectors[:, complex_].imag])
    # Embedded formula of order 3 with the extra weight 1/gamma on f(t, y): find e with
    # h f(t, y)/gamma + sum b^_i h f(stage i), minus the method itself, expressed in the stage increments.
    b = A[-1]
    moments = np.array([1.0 - 1.0 / gamma, 0.5, 1.0 / 3.0])
    b_hat = np.linalg.solve(powers.T, moments)
    error = gamma * (b_hat - b) @ inverse
    dense = np.linalg.inv(c[:, None] ** np.arange(1, 4)).T
    return ImplicitTableau(A, b, c, gamma, mu, T, np.linalg.inv(T), error, dense)


RADAU_IIA_5 = _radau_iia_5()
