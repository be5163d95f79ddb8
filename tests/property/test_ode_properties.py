"""What holds for every flow: 0 -> a -> b is 0 -> b, time can be rescaled and shifted, components permuted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from theorykit.flow import integrate

METHODS = st.sampled_from(["auto", "tsit5", "dop853", "radau5", "radau9", "radau13"])
TOLERANCES = st.sampled_from([1e-5, 1e-7, 1e-9])
SEEDS = st.integers(0, 2**31)


def system(seed):
    """Return the gradient flow of a smooth, bounded-below potential, and a start."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    A, b, y0 = rng.standard_normal((n, n)), rng.standard_normal(n), rng.standard_normal(n)

    def f(t, y):
        return -A.T @ np.tanh(A @ y - b) - 0.1 * y + 0.3 * np.cos(t)

    return f, y0


def close(first, second):
    return np.max(np.abs(first.y_end - second.y_end)) <= first.y_error[-1] + second.y_error[-1]


@given(SEEDS, METHODS, TOLERANCES, st.floats(0.05, 0.95))
def test_semigroup(seed, method, rtol, share):
    f, y0 = system(seed)
    whole = integrate(f, y0, (0.0, 5.0), method=method, rtol=rtol)
    half = integrate(f, y0, (0.0, 5.0 * share), method=method, rtol=rtol)
    rest = integrate(f, half.y_end, (5.0 * share, 5.0), method=method, rtol=rtol)
    # the flow contracts in every direction but those of negative curvature, which grow at most by exp(5 * 0.9 |A|^2)
    gap = np.max(np.abs(whole.y_end - rest.y_end))
    growth = max(1.0, growth_of(f, y0, 5.0 * share, 5.0))
    assert gap <= whole.y_error[-1] + rest.y_error[-1] + growth * half.y_error[-1]


def growth_of(f, y0, start, end):
    """Return how far the flow spreads neighbours apart between two times, measured on SciPy's solution."""
    from scipy.integrate import solve_ivp

    middle = solve_ivp(f, (0.0, start), y0, "LSODA", rtol=1e-9, atol=1e-9).y[:, -1]
    n = y0.size
    ends = [
        solve_ivp(f, (start, end), middle + shift, "LSODA", rtol=1e-10, atol=1e-10).y[:, -1]
        for shift in np.vstack([np.zeros(n), 1e-4 * np.eye(n)])
    ]
    return float(np.abs(np.array(ends[1:]) - ends[0]).sum(axis=0).max() / 1e-4)


@given(SEEDS, METHODS, TOLERANCES, st.floats(1e-3, 1e3), st.floats(-10.0, 10.0))
def test_time_rescaled_and_shifted(seed, method, rtol, scale, shift):
    f, y0 = system(seed)
    plain = integrate(f, y0, (0.0, 3.0), method=method, rtol=rtol)
    moved = integrate(
        lambda t, y: f((t - shift) / scale, y) / scale, y0, (shift, shift + 3.0 * scale), method=method, rtol=rtol
    )
    assert close(plain, moved)


@given(SEEDS, METHODS, TOLERANCES)
def test_components_permuted(seed, method, rtol):
    f, y0 = system(seed)
    order = np.random.default_rng(seed + 1).permutation(y0.size)
    back = np.argsort(order)
    plain = integrate(f, y0, (0.0, 3.0), method=method, rtol=rtol)
    mixed = integrate(lambda t, y: f(t, y[back])[order], y0[order], (0.0, 3.0), method=method, rtol=rtol)
    assert np.max(np.abs(mixed.y_end[back] - plain.y_end)) <= plain.y_error[-1] + mixed.y_error[-1]


@given(SEEDS, METHODS, TOLERANCES)
def test_there_and_back(seed, method, rtol):
    f, y0 = system(seed)
    there = integrate(f, y0, (0.0, 0.5), method=method, rtol=rtol)
    back = integrate(f, there.y_end, (0.5, 0.0), method=method, rtol=rtol)
    n = y0.size
    A = np.random.default_rng(seed)
    A.integers(1, 8)
    lipschitz = np.linalg.norm(A.standard_normal((n, n)), 2) ** 2 + 0.1
    spread = np.sqrt(n) * np.exp(0.5 * lipschitz)  # backwards, errors grow at most by the Lipschitz constant of f
    assert np.max(np.abs(back.y_end - y0)) <= back.y_error[-1] + spread * there.y_error[-1]
