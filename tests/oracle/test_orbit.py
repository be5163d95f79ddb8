"""Matrix factorisation from the exact identity in logarithms against the equations for U U^T and V V^T themselves."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from theorykit.verifications.lyu2024._orbit import ExactIdentity, Orbit

ENTRIES = np.array([[0, 0], [0, 1], [1, 2], [2, 3]])
Y = np.array([0.7, -1.2, 0.5, 0.9])
D = 4


def _products(ends: list[float]) -> np.ndarray:
    """Integrate P = U U^T and Q = V V^T from sigma^2 = e^12, without the orbit's logarithm."""
    places = np.zeros((len(Y), D, D))
    for place, (i, j) in zip(places, ENTRIES, strict=True):
        place[i, j] = place[j, i] = 1.0
    i, j = ENTRIES.T
    begin = -6.0

    def rate(u: float, state: np.ndarray) -> np.ndarray:
        P, Q = state.reshape(2, D, D)
        H = P + Q
        kernel = np.array([(place @ H + H @ place)[i, j] for place in places]).T
        S = np.tensordot(np.linalg.solve(kernel, 2.0 * Y), places, axes=1)
        return np.array([S @ P + P @ S - 2.0 * P, -S @ Q - Q @ S - 2.0 * Q]).ravel()

    B = np.tensordot(Y, places, axes=1) * np.exp(2.0 * begin) / 4.0
    start = np.exp(-2.0 * begin) * np.array([expm(2.0 * B), expm(-2.0 * B)])
    found = solve_ivp(rate, (begin, ends[-1]), start.ravel(), "DOP853", t_eval=ends, rtol=1e-12, atol=1e-14)
    P, Q = np.moveaxis(found.y.reshape(2, D, D, -1), -1, 1)
    return np.asarray(P - Q)


def test_orbit_is_the_flow_of_the_products() -> None:
    ends = [-2.0, 0.0, 1.0, 3.0]
    orbit = Orbit(ENTRIES, Y, D, ends, 1e-9)
    for u, W in zip(ends, _products(ends), strict=True):
        now, companion = orbit.at(u)
        np.testing.assert_allclose(now.W, W, atol=2e-7)
        assert np.abs(now.W - companion.W).max() < 1e-6
        U, V = now.theta.reshape(2, D, D)
        np.testing.assert_allclose(U @ U.T - V @ V.T, now.W, atol=1e-9)


@pytest.mark.parametrize("u", [-3000.0, -20.0])
def test_before_the_transition_observed_entries_and_zeros(u: float) -> None:
    now, _ = Orbit(ENTRIES, Y, D, [u, 1.0], 1e-6).at(u)
    expected = np.zeros((D, D))
    expected[tuple(ENTRIES.T)] = expected[tuple(ENTRIES.T[::-1])] = Y
    np.testing.assert_array_equal(now.W, expected)


def test_long_after_it_nothing_underflows() -> None:
    orbit = Orbit(ENTRIES, Y, D, [500.0], 1e-7)
    now, companion = orbit.at(500.0)
    np.testing.assert_allclose(now.W[tuple(ENTRIES.T)], Y, rtol=1e-7)
    assert np.isfinite(now.theta).all()
    np.testing.assert_allclose(now.W, companion.W, atol=1e-6)


def test_exact_identity_is_the_flow_of_the_products() -> None:
    log_alpha, log_weight_decay, times = 2.0, -1.5, [0.5, 3.0, 6.0]

    def rate(tau: float, state: np.ndarray) -> np.ndarray:
        P, Q = state.reshape(2, D, D)
        M = np.zeros((D, D))
        for (i, j), target in zip(ENTRIES, Y, strict=True):  # of (1/n) sum (W_ij - y)^2, entry by entry
            slope = 2.0 / len(Y) * ((P - Q)[i, j] - target)
            M[i, j] += slope
            M[j, i] += slope
        S = -M * np.exp(-log_weight_decay)
        return np.array([S @ P + P @ S - 2.0 * P, -S @ Q - Q @ S - 2.0 * Q]).ravel()

    start = np.exp(2.0 * log_alpha) * np.array([np.eye(D), np.eye(D)])
    found = solve_ivp(rate, (0.0, times[-1]), start.ravel(), "DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    flow = ExactIdentity(ENTRIES, Y, D, log_alpha, log_weight_decay, times, 1e-9)
    for tau, state in zip(times, found.y.T, strict=True):
        (now, companion), (P, Q) = flow.at(tau), state.reshape(2, D, D)
        U, V = now.theta.reshape(2, D, D)
        np.testing.assert_allclose(U @ U.T, P, atol=1e-7)
        np.testing.assert_allclose(V @ V.T, Q, atol=1e-7)
        assert np.abs(now.W - companion.W).max() < 1e-6
