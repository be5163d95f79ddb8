"""Gradient flows: theorykit next to what a user would call instead, accuracy and seconds in one run.

Figures 1a and 1b of lyu2024 (diagonal net, L = 2, logistic loss) from alpha = 128 to s = 2.5, against SciPy's explicit
integrators on the raw flow of the 2d parameters; then scales that no peer can represent; then imports and first calls.
Every contender is warmed up on a small problem of the same kind, and its error is measured: the largest |w - w*|
relative to max |w*| over s = 0.5, 1.0, 1.3 and the end, w* from our own run at rtol = 1e-9 (which tests/oracle holds
against SciPy). Ours meets each peer at the loosest tolerance that is at least as accurate; its time is that of two
runs, the second being the error estimate, which the peers do not give.

    python benchmarks/flows.py [--quick | --full] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import theorykit as tk
from theorykit._numerics.serial import replacing, to_json

Array = NDArray[np.float64]
REPEATS = 3
SLOW = 5.0  # seconds from which a contender is timed once only
STEPS_TIMED = 50
MARKS = (0.5, 1.0, 1.3, 2.5)
ALPHA, WEIGHT_DECAY = 128.0, 1e-3
PEERS = {"SciPy RK45, rtol 1e-6": ("RK45", 1e-6), "SciPy DOP853, rtol 1e-8": ("DOP853", 1e-8)}
TOLERANCES = tuple(10.0 ** (-0.5 * k) for k in range(8, 17))


def figure(name: str, d: int) -> tk.Problem:
    """Return the problem of a figure with d features."""
    if name == "fig-1a":
        data = tk.datasets.sparse_sign(n=256, d=d, k=3, n_test=0, seed=0)
    else:
        data = tk.datasets.separated_gaussian(n=32, d=d, gap=25.0, n_test=0, seed=0)
    model = tk.models.DiagonalNet(d=d)
    return tk.Problem(model, data, loss="logistic", alpha=ALPHA, weight_decay=WEIGHT_DECAY, init="unit")


def ours(problem: tk.Problem, rtol: float) -> tuple[tk.Trajectory, Array]:
    trajectory = tk.gradient_flow(problem, s_end=MARKS[-1], rtol=rtol, save=tk.SaveAt(s=MARKS)).raise_for_status()
    return trajectory, np.array([trajectory.weights(i) for i in range(len(MARKS))])


def raw_flow(problem: tk.Problem) -> Callable[[float, Array], Array]:
    """Return d(theta)/d(tau), written as well as a user reasonably can: y X once, BLAS products, no copies of data."""
    Z = problem.data.y[:, None] * problem.data.X.astype(np.float64)
    n, d = Z.shape
    gain = 2.0 / (n * WEIGHT_DECAY)

    def rhs(tau: float, theta: Array) -> Array:
        u, v = theta[:d], theta[d:]
        q = Z @ (u * u - v * v)
        force = gain * (np.exp(-np.logaddexp(0.0, q)) @ Z)
        out = np.empty_like(theta)
        np.multiply(u, force - 1.0, out=out[:d])
        np.multiply(v, -force - 1.0, out=out[d:])
        return out

    return rhs


def peer(problem: tk.Problem, method: str, rtol: float) -> tuple[Array, int]:
    """Return w at the marks and the number of right-hand sides, by SciPy."""
    from scipy.integrate import solve_ivp

    taus = np.array(MARKS) * problem.log_alpha
    start = ALPHA * problem.direction
    solution = solve_ivp(
        raw_flow(problem), (0.0, taus[-1]), start, method, t_eval=taus, rtol=rtol, atol=1e-3 * rtol, first_step=1e-10
    )
    u, v = np.split(solution.y.T, 2, axis=1)
    return u**2 - v**2, int(solution.nfev)


def timed(*calls: Callable[[], Any]) -> list[tuple[Any, float]]:
    """Return each call's result and median seconds over three rounds, in turn: so that other load hits all alike."""
    results: list[Any] = [None] * len(calls)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for index, call in enumerate(calls):
            if times[index] and times[index][0] > SLOW:
                continue
            began = time.perf_counter()
            results[index] = call()
            times[index].append(time.perf_counter() - began)
    return [(result, statistics.median(own)) for result, own in zip(results, times, strict=True)]


def error_of(w: Array, exact: Array) -> float:
    return float(np.max(np.abs(w - exact).max(axis=1) / np.abs(exact).max(axis=1)))


def descent(problem: tk.Problem) -> dict[str, Any]:
    """Estimate float32 full-batch gradient descent to the same end: the price of a step times the number of steps.

    The step size is what stability allows at the start: 2 over the largest eigenvalue of the Hessian, halved.
    """
    X = problem.data.X.astype(np.float32) * problem.data.y[:, None].astype(np.float32)
    n, d = X.shape
    scale = np.float32(ALPHA**2 / (2 * d))
    curvature = 8.0 * float(scale) * float(np.linalg.eigvalsh(X.astype(np.float64) @ X.T)[-1]) * 0.25 / n
    step = 1.0 / curvature
    theta = np.full(2 * d, math.sqrt(float(scale)), dtype=np.float32)

    def some_steps() -> None:
        for _ in range(STEPS_TIMED):
            u, v = theta[:d], theta[d:]
            q = X @ (u * u - v * v)
            force = np.float32(2.0 / n) * ((1.0 / (1.0 + np.exp(np.minimum(q, 80.0)))) @ X)
            u += np.float32(step) * (u * force - np.float32(WEIGHT_DECAY) * u)
            v += np.float32(step) * (-v * force - np.float32(WEIGHT_DECAY) * v)

    some_steps()
    ((_, together),) = timed(some_steps)
    seconds = together / STEPS_TIMED
    steps = MARKS[-1] * problem.log_alpha / WEIGHT_DECAY / step
    return {
        "contender": "NumPy float32 gradient descent (estimate)",
        "seconds": seconds * steps,
        "seconds_a_step": seconds,
        "steps": steps,
        "error": None,
        "estimate": True,
    }


def _row(contender: str, seconds: float, error: float, evaluations: int, ratio: float) -> dict[str, Any]:
    return {"contender": contender, "seconds": seconds, "error": error, "evaluations": evaluations, "ratio": ratio}


def matched(problem: tk.Problem, exact: Array, wanted: float) -> float:
    """Return the loosest of our tolerances whose error is at most `wanted`."""
    return next((rtol for rtol in TOLERANCES if error_of(ours(problem, rtol)[1], exact) <= wanted), TOLERANCES[-1])


def compare(name: str, d: int) -> list[dict[str, Any]]:
    """Return one row a contender for a figure with d features; `ratio` is its time over ours at its accuracy."""
    problem = figure(name, d)
    _, exact = ours(problem, 1e-9)
    results = []
    for method, rtol in PEERS.values():
        ((w, evaluations), seconds) = timed(partial(peer, problem, method, rtol))[0]
        tolerance = matched(problem, exact, error_of(w, exact))
        results += [timed(partial(ours, problem, tolerance))[0], ((w, evaluations), seconds)]
    rows = []
    for label, own, theirs in zip(PEERS, results[::2], results[1::2], strict=True):
        (trajectory, w), seconds = own
        evaluations = sum(trajectory.counts[run]["rhs_batches"] for run in ("run", "companion"))
        name_of_ours = f"theorykit, rtol {trajectory.settings['rtol']:.1e}"
        rows.append(_row(name_of_ours, seconds, error_of(w, exact), evaluations, 1.0))
        (w, evaluations), peer_seconds = theirs
        rows.append(_row(label, peer_seconds, error_of(w, exact), evaluations, peer_seconds / seconds))
    guess = descent(problem)
    rows.append(guess | {"ratio": guess["seconds"] / rows[0]["seconds"]})
    return [{"problem": name, "n": problem.data.n, "d": d, "repeats": REPEATS} | row for row in rows]


def extreme(log_alpha: float, s_end: float = 1.5) -> dict[str, Any]:
    """Time n = 8, d = 40, exponential loss, at a scale that no float holds."""
    data = tk.datasets.sparse_sign(n=8, d=40, k=3, n_test=0, seed=0)
    net = tk.models.DiagonalNet(d=40)
    problem = tk.Problem(net, data, loss="exponential", log_alpha=log_alpha, log_weight_decay=-log_alpha)
    save = tk.SaveAt(num=50)
    ((trajectory, seconds),) = timed(lambda: tk.gradient_flow(problem, s_end=s_end, rtol=1e-8, save=save))
    return {
        "log_alpha": log_alpha,
        "seconds": seconds,
        "steps": trajectory.counts["run"]["steps"],
        "status": trajectory.status,
        "repeats": REPEATS,
    }


FIRST = """
import time
began = time.perf_counter()
import theorykit as tk
imported = time.perf_counter()
data = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=0)
problem = tk.Problem(tk.models.DiagonalNet(d=40), data, loss="logistic", log_alpha=20.0, log_weight_decay=-20.0)
tk.gradient_flow(problem, s_end=1.5)
print(imported - began, time.perf_counter() - imported)
"""


def fresh_process(cache: Path | None = None) -> tuple[float, float]:
    """Return seconds for the import and for the first flow in a new process."""
    environment = os.environ | ({"THEORYKIT_CACHE_DIR": str(cache)} if cache else {})
    done = subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True, text=True, check=True)
    imported, first = done.stdout.split()
    return float(imported), float(first)


def start_up(*, compile_too: bool) -> dict[str, Any]:
    fresh_process()  # fills the cache
    warm = [fresh_process() for _ in range(REPEATS)]
    row: dict[str, Any] = {
        "import_s": statistics.median(pair[0] for pair in warm),
        "first_flow_s": statistics.median(pair[1] for pair in warm),
        "repeats": REPEATS,
    }
    if compile_too:
        with tempfile.TemporaryDirectory() as folder:
            row["first_flow_with_compilation_s"] = fresh_process(Path(folder))[1]
    return row


def versions() -> dict[str, Any]:
    import numba
    import scipy

    packages = {module.__name__: module.__version__ for module in (tk, np, scipy, numba)}
    return packages | {
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def show(result: dict[str, Any]) -> None:
    print(json.dumps(result["versions"]), f"medians of {REPEATS}", sep="; ")
    for row in result["figures"]:
        error = "" if row["error"] is None else f"error in w {row['error']:.1e}"
        print(
            f"{row['problem']} n={row['n']} d={row['d']:<7d}{row['contender']:44s}{row['seconds']:12.3f} s "
            f"{row['ratio']:9.1f} x  {error}"
        )
    print("n=8, d=40, exponential loss, L=2, s_end=1.5, rtol=1e-8 (no peer can represent these scales):")
    for row in result["extreme"]:
        print(f"  log alpha {row['log_alpha']:7.0f}  {row['seconds']:8.3f} s  {row['steps']:7d} steps  {row['status']}")
    start = result["start_up"]
    print(
        f"import theorykit {start['import_s']:.3f} s; first flow, compiled code on disk {start['first_flow_s']:.2f} s"
    )
    if "first_flow_with_compilation_s" in start:
        print(f"first flow ever, with compilation {start['first_flow_with_compilation_s']:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="4 000 features, no compilation (default)")
    size.add_argument("--full", action="store_true", help="100 000 features, and the time that compilation takes")
    parser.add_argument("--out", type=Path, help="write the numbers to a JSON file")
    options = parser.parse_args()
    for name in ("fig-1a", "fig-1b"):  # warm up everything
        small = figure(name, 300)
        ours(small, 1e-3)
        peer(small, "RK45", 1e-3)
    result = {
        "profile": "full" if options.full else "quick",
        "versions": versions(),
        "figures": [row for name in ("fig-1a", "fig-1b") for row in compare(name, 100_000 if options.full else 4_000)],
        "extreme": [extreme(20.0 * 2.0**k) for k in range(10)] + [extreme(230.0)],
        "start_up": start_up(compile_too=options.full),
    }
    show(result)
    if options.out is not None:
        with replacing("--out", options.out) as temporary:
            temporary.write_text(to_json(result))


if __name__ == "__main__":
    main()
