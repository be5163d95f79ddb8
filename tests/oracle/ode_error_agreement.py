"""The error estimate of `flow.integrate` against true errors, on random small problems: for tests and for the evidence.

References: matrix exponentials in closed form for the linear problems, SciPy's DOP853 at 1e-13 for the others.

python tests/oracle/ode_error_agreement.py 1000
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from theorykit.flow import integrate

Array = NDArray[np.float64]
Problem = tuple[Callable[[float, Array], Array], Array, float, Callable[[float], Array] | None]
METHODS = ("auto", "tsit5", "dop853", "radau5", "radau9", "radau13", "rkc2")
POINTS = 9


def linear(rng: np.random.Generator) -> Problem:
    """Return a damped linear system, with its closed form."""
    n = int(rng.integers(1, 7))
    A = rng.standard_normal((n, n)) - rng.uniform(0.0, 2.0) * np.eye(n)
    y0 = rng.standard_normal(n)
    return lambda t, y: A @ y, y0, float(rng.uniform(0.5, 4.0)), lambda t: expm(t * A) @ y0


def stiff_linear(rng: np.random.Generator) -> Problem:
    """Return a symmetric system with rates over four decades, with its closed form."""
    n = int(rng.integers(2, 6))
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    rates = -(10.0 ** rng.uniform(-1.0, 3.0, n))
    y0 = rng.standard_normal(n)
    A = (Q * rates) @ Q.T
    return lambda t, y: A @ y, y0, float(rng.uniform(0.5, 2.0)), lambda t: Q @ (np.exp(rates * t) * (Q.T @ y0))


def oscillator(rng: np.random.Generator) -> Problem:
    """Return a driven, damped pendulum."""
    damping, force, rate = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.5, 3)

    def f(t: float, y: Array) -> Array:
        return np.array([y[1], -np.sin(y[0]) - damping * y[1] + force * np.cos(rate * t)])

    return f, rng.standard_normal(2), float(rng.uniform(1, 12)), None


def prey(rng: np.random.Generator) -> Problem:
    """Return a Lotka-Volterra system."""
    a, b, c, d = rng.uniform(0.5, 2.0, 4)
    return lambda t, y: np.array([y[0] * (a - b * y[1]), y[1] * (d * y[0] - c)]), rng.uniform(0.3, 2, 2), 6.0, None


def relaxation(rng: np.random.Generator) -> Problem:
    """Return a van der Pol oscillator."""
    mu = rng.uniform(0.5, 8.0)
    return lambda t, y: np.array([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]), rng.uniform(-2, 2, 2), 8.0, None


def diagonal_net(rng: np.random.Generator) -> Problem:
    """Return the raw gradient flow of a diagonal net u^2 - v^2 under the mean exponential loss and weight decay."""
    n, d = int(rng.integers(2, 6)), int(rng.integers(2, 9))
    Z, decay = rng.choice([-1.0, 1.0], (n, d)), rng.uniform(0.0, 0.3)

    def f(t: float, theta: Array) -> Array:
        u, v = theta[:d], theta[d:]
        pull = 2.0 / n * (np.exp(-Z @ (u * u - v * v)) @ Z)
        return np.concatenate([u * pull, -v * pull]) - decay * theta

    return f, np.full(2 * d, rng.uniform(0.2, 1.5)), float(rng.uniform(1, 8)), None


def two_layers(rng: np.random.Generator) -> Problem:
    """Return the gradient flow of a small two-layer net with activation tanh under squared loss."""
    n, d, m = 4, 2, 3
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)

    def f(t: float, theta: Array) -> Array:
        W, a = theta[: m * d].reshape(m, d), theta[m * d :]
        h = np.tanh(X @ W.T)
        r = (h @ a - y) / n
        return -np.concatenate([((r[:, None] * (1 - h**2) * a).T @ X).ravel(), h.T @ r])

    return f, rng.standard_normal(m * d + m), float(rng.uniform(2, 20)), None


FAMILIES = (linear, stiff_linear, oscillator, prey, relaxation, diagonal_net, two_layers)


def run(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row a problem: family, method, tolerance, largest error and its estimate, whether the latter covers.

    It covers when at every save time the estimate is at least the true error in the maximum norm, for the states, or at
    least that error less the reference's own, about 1e-12 of the solution's size.
    """
    rng = np.random.default_rng(seed)
    table = []
    for index in range(count):
        family = FAMILIES[index % len(FAMILIES)]
        f, y0, end, closed = family(rng)
        method = METHODS[int(rng.integers(len(METHODS)))]
        low = -6.0 if method == "rkc2" else -10.0
        rtol = 10.0 ** rng.uniform(low, -4.0)
        result = integrate(f, y0, (0.0, end), method=method, rtol=rtol, atol=rtol, at=POINTS, save={"sum": total})
        times = np.linspace(0.0, end, POINTS)
        if closed is None:
            exact = solve_ivp(f, (0.0, end), y0, "DOP853", t_eval=times, rtol=1e-13, atol=1e-14).y.T
        else:
            exact = np.array([closed(t) for t in times])
        noise = 1e-12 * np.max(np.abs(exact))
        error = np.max(np.abs(result.y - exact), axis=1)
        error_of_sum = np.abs(result.stats["sum"] - exact.sum(axis=1))
        worst = int(np.argmax(error))
        table.append(
            {
                "family": family.__name__,
                "method": method,
                "rtol": rtol,
                "status": result.status,
                "error": float(error[worst]),
                "estimate": float(result.y_error[worst]),
                "covers": bool(np.all(error <= result.y_error + noise)),
                "covers at the end": bool(error[-1] <= result.y_error[-1] + noise),
                "covers the statistic": bool(np.all(error_of_sum <= result.errors["sum"] + noise)),
            }
        )
    return table


def total(t: float, y: Array) -> float:
    return float(np.sum(y))


if __name__ == "__main__":
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    for row in rows:
        if not (row["covers"] and row["covers the statistic"]):
            print(
                "{family:13s} {method:8s} {rtol:.1e} error {error:.1e} estimate {estimate:.1e} {status}".format(**row)
            )
    for key in ("covers", "covers at the end", "covers the statistic"):
        print(f"{key}: {np.mean([row[key] for row in rows]):.1%} of {len(rows)}")
    print(f"median estimate / error: {np.median([row['estimate'] / max(row['error'], 1e-300) for row in rows]):.1f}")
