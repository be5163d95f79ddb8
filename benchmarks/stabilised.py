"""Does a stabilised method of higher order pay? RKC2 against its extrapolations, by gradients at equal error.

The steps are those of an adaptive run of RKC2, cut into equal parts for smaller errors. On the same steps: RKC2;
RKC2 extrapolated from one and two parts (order 3) and from one, two and three (order 4; with as many stages in every
part as its stability asks for, these cost 2.4 and 4.1 times as much). A part of ROCK4 would cost 1.4 times one of RKC2:
its interval of stability is 0.35 s^2 against 0.65 s^2 (Abdulle 2002, SIAM J. Sci. Comput. 23, pp. 2041-2054). Next to
them adaptive runs at a ladder of tolerances: rkc2, dop853, and radau5 and radau9 by Newton-Krylov.

Both problems are matrix completions (the multiplication table) from alpha = 10 to s = 2.5.

    python benchmarks/stabilised.py [--out FILE.json]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracle"))

from ode_nets import factorisation  # noqa: E402
from ode_problems import Problem  # noqa: E402

from theorykit._numerics.serial import to_json  # noqa: E402
from theorykit.flow import integrate, integrator  # noqa: E402
from theorykit.flow.tableaus import chebyshev  # noqa: E402

Array = NDArray[np.float64]
PARTS = (1, 2, 4, 8, 16)
tableau = functools.cache(chebyshev)
TOLERANCES = tuple(10.0**-k for k in range(3, 11))
ERRORS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
RKC2, ORDER_3, ORDER_4 = "rkc2", "order 3", "order 4"
SEQUENCES = {RKC2: (1,), ORDER_3: (1, 2), ORDER_4: (1, 2, 3)}


class Counted:
    """A right-hand side that counts its evaluations."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.calls = problem, 0

    def __call__(self, t: float, y: Array) -> Array:
        self.calls += 1
        out = np.empty_like(y)
        self.problem.f(t, y, self.problem.parameters, out)
        return out


def step(f: Counted, t: float, y: Array, h: float, radius: float) -> Array:
    """Return y after one step of RKC2 with the least number of stages."""
    s = max(2, int(math.sqrt(h * radius / 0.7)))
    while 0.98 * tableau(s).stability < h * radius:
        s += 1
    r, slope = tableau(s), f(t, y)
    before, now = y, y + r.mu_tilde[1] * h * slope
    for j in range(2, s + 1):
        after = (1.0 - r.mu[j] - r.nu[j]) * y + r.mu[j] * now + r.nu[j] * before
        after += h * (r.mu_tilde[j] * f(t + r.c[j - 1] * h, now) + r.gamma_tilde[j] * slope)
        before, now = now, after
    return now


def extrapolated(f: Counted, t: float, y: Array, h: float, radius: float, sequence: tuple[int, ...]) -> Array:
    """Return y after one step: the polynomial in the width of the parts, without a linear term, at 0."""
    ends = []
    for parts in sequence:
        now = y
        for k in range(parts):
            now = step(f, t + k * h / parts, now, h / parts, radius)
        ends.append(now)
    widths = 1.0 / np.array(sequence)
    powers = np.array([np.ones_like(widths), *(widths**k for k in range(2, 1 + len(sequence)))])
    weights = np.linalg.solve(powers, np.eye(len(sequence))[0])
    return np.tensordot(weights, np.array(ends), 1)


def radius_of(f: Counted, t: float, y: Array, rng: np.random.Generator) -> float:
    """Return a spectral radius by the power method, a tenth above."""
    base, direction, size = f(t, y), rng.standard_normal(y.size), 0.0
    for _ in range(30):
        direction *= 1e-6 * np.linalg.norm(y) / np.linalg.norm(direction)
        image = f(t, y + direction) - base
        size, direction = float(np.linalg.norm(image) / np.linalg.norm(direction)), image
    return 1.1 * size


def compare(problem: Problem) -> list[dict[str, Any]]:
    """Return a row for each run: method, gradients, error at the end relative to the largest entry."""
    f, rng = Counted(problem), np.random.default_rng(0)
    exact = solve_ivp(f, (0.0, problem.t_end), problem.y0, "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    rows: list[dict[str, Any]] = []

    def add(method: str, y: Array, gradients: int) -> None:
        error = float(np.max(np.abs(y - exact)) / np.max(np.abs(exact)))
        rows.append({"problem": problem.name, "method": method, "gradients": gradients, "error": error})

    grid = integrator(problem.f, problem.y0, (0.0, problem.t_end), method="rkc2", rtol=1e-3, args=(problem.parameters,))
    times, radii = [0.0], []
    while grid.status.name == "RUNNING":
        radii.append(radius_of(f, grid.t, grid.y, rng))
        grid.step()
        times.append(grid.t)
    for (method, sequence), parts in itertools.product(SEQUENCES.items(), PARTS):
        y, f.calls = problem.y0, 0
        for (start, end), radius in zip(itertools.pairwise(times), radii, strict=True):
            for k in range(parts):
                h = (end - start) / parts
                y = extrapolated(f, start + k * h, y, h, 1.2 * radius, sequence)
        add(f"{method} on given steps", y, f.calls)
    for method, rtol in itertools.product((RKC2, "dop853", "radau5", "radau9"), TOLERANCES):
        found = integrate(
            problem.f, problem.y0, (0.0, problem.t_end), method=method, rtol=rtol, atol=rtol, at=2, companion=False,
            args=(problem.parameters,), jacobian="krylov" if method.startswith("radau") else None,
        )  # fmt: skip
        if found.status == "reached_end":
            add(f"{method} adaptive", found.y_end, found.counts["evaluations"])
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the gradients that each method needs for a ladder of errors."""
    lines = ["gradients for an error at the end of", f"{'':42s}" + "".join(f"{error:>10.0e}" for error in ERRORS)]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        lines.append(problem)
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["problem"] == problem and row["method"] == method]
            lines.append(f"  {method:40s}" + "".join(f"{needed(own, error):>10}" for error in ERRORS))
    return "\n".join(lines)


def needed(rows: list[dict[str, Any]], error: float) -> str:
    """Return the gradients at an error, between two runs; nothing beyond the smallest error reached."""
    best: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row["gradients"]):
        if math.isfinite(row["error"]) and (not best or row["error"] < best[-1][0]):
            best.append((row["error"], row["gradients"]))
    if not best or best[-1][0] > error:
        return "-"
    errors, gradients = np.log(best[::-1]).T
    return f"{math.exp(np.interp(math.log(error), errors, gradients)):.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench-stabilised.json")
    arguments = parser.parse_args()
    problems = [factorisation(20, 0.2), factorisation(40, 0.1)]
    rows = [row for net in problems for row in compare(net.raw)]
    print(report(rows))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(to_json({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
