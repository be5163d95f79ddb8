"""Max-margin programs: theorykit next to what a user would call instead, on the data of the grokking example.

n = 256 samples of +-1 features, labels by the sign of a sum of three of them. Every contender runs in a process of its
own (imports and compilation warmed up first), may take 60 seconds, and is judged by the same certificate.

    python benchmarks/programs.py [--quick | --full] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.serial import replacing, to_json
from theorykit.programs import certify, max_margin

Array = NDArray[np.float64]
Pair = tuple[Array, Array | None]
SAMPLES, CAP_S, REPEAT_S, REPEATS = 256, 60.0, 15.0, 3


def data(d: int, n: int = SAMPLES, seed: int = 0) -> tuple[NDArray[np.int8], Array]:
    rng = np.random.default_rng(seed)
    X = (rng.integers(0, 2, (n, d)) * 2 - 1).astype(np.int8)
    return X, np.sign(X[:, :3] @ np.array([1.0, -1.0, 1.0]))


def ours(norm: int) -> Callable[[NDArray[Any], Array], Pair]:
    def solve(X: NDArray[Any], y: Array) -> Pair:
        result = max_margin(X, y, norm=norm)
        return result.w, result.dual

    return solve


def cvxpy_primal(norm: int) -> Callable[[NDArray[Any], Array], Pair]:
    def solve(X: NDArray[Any], y: Array) -> Pair:
        import cvxpy as cp

        w = cp.Variable(X.shape[1])
        size = cp.norm1(w) if norm == 1 else 0.5 * cp.sum_squares(w)
        constraint = cp.multiply(y, X @ w) >= 1
        cp.Problem(cp.Minimize(size), [constraint]).solve(solver="CLARABEL")
        return np.asarray(w.value), np.asarray(constraint.dual_value)

    return solve


def cvxpy_dual(X: NDArray[Any], y: Array) -> Pair:
    import cvxpy as cp

    Z = y[:, None] * X
    mu = cp.Variable(len(y), nonneg=True)
    quadratic = cp.quad_form(mu, cp.psd_wrap(Z @ Z.T))
    cp.Problem(cp.Maximize(cp.sum(mu) - 0.5 * quadratic)).solve(solver="CLARABEL")
    return Z.T @ mu.value, mu.value


def linear_svc(X: NDArray[Any], y: Array) -> Pair:
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=1e6, loss="hinge", fit_intercept=False, tol=1e-8, max_iter=100_000)
    return machine.fit(X, y).coef_[0], None


def linprog(method: Any) -> Callable[[NDArray[Any], Array], Pair]:
    def solve(X: NDArray[Any], y: Array) -> Pair:
        import scipy.optimize

        Z = y[:, None] * X
        d = Z.shape[1]
        result = scipy.optimize.linprog(np.ones(2 * d), A_ub=np.hstack((-Z, Z)), b_ub=-np.ones(len(Z)), method=method)
        return result.x[:d] - result.x[d:], -result.ineqlin.marginals

    return solve


CONTENDERS: dict[int, dict[str, Callable[[NDArray[Any], Array], Pair]]] = {
    2: {
        "theorykit": ours(2),
        "CVXPY, as stated (Clarabel)": cvxpy_primal(2),
        "CVXPY, dual by hand (Clarabel)": cvxpy_dual,
        "scikit-learn LinearSVC": linear_svc,
    },
    1: {
        "theorykit": ours(1),
        "CVXPY, as stated (Clarabel)": cvxpy_primal(1),
        "SciPy linprog, simplex": linprog("highs-ds"),
        "SciPy linprog, interior point": linprog("highs-ipm"),
    },
}


def run_one(norm: int, name: str, d: int) -> None:
    """Warm up, say so, time, and print one JSON line (what the child process does)."""
    solve = CONTENDERS[norm][name]

    def prepared(size: int, samples: int) -> tuple[NDArray[Any], Array]:
        X, y = data(size, samples)
        return (X if name == "theorykit" else X.astype(np.float64)), y

    solve(*prepared(50, 20))
    X, y = prepared(d, SAMPLES)
    print("ready", flush=True)
    times: list[float] = []
    while len(times) < REPEATS and sum(times) + max(times, default=0.0) < REPEAT_S:
        started = time.perf_counter()
        w, dual = solve(X, y)
        times.append(time.perf_counter() - started)
    print(json.dumps({"seconds": statistics.median(times), "repeats": len(times)} | judged(norm, X, y, w, dual)))


def judged(norm: int, X: NDArray[Any], y: Array, w: Array, dual: Array | None) -> dict[str, Any]:
    """Return the certified gap of the pair (ours stands in for a dual that is not given) and its worst violation."""
    multipliers = max_margin(X, y, norm=norm).dual if dual is None else np.maximum(dual, 0.0)
    certificate = certify(X, y, w, multipliers, norm=norm)
    violation = max(0.0, 1.0 - float((y * (X @ w)).min()))
    return {"gap": certificate.gap, "violation": violation, "margin": certificate.lower, "own_dual": dual is not None}


def run_in_process(norm: int, name: str, d: int) -> dict[str, Any]:
    """Run one contender in a process of its own; more than CAP_S after its warm-up is reported as such."""
    command = [sys.executable, __file__, "--one", str(norm), name, str(d)]
    row: dict[str, Any] = {"norm": norm, "d": d, "contender": name, "seconds": None}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        ready = child.stdout.readline()
        try:
            output, errors = child.communicate(timeout=CAP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return row | {"note": f"> {CAP_S:.0f} s"}
    if not ready or child.returncode:
        return row | {"note": (errors.strip().splitlines() or ["failed"])[-1][:80]}
    return row | json.loads(output.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text, each time also relative to ours."""
    lines = [f"{'program':8} {'d':>7} {'contender':32} {'seconds':>9} {'/ ours':>7} {'gap':>8} {'violation':>9}"]
    for row in rows:
        head = f"l{row['norm']:<7} {row['d']:7d} {row['contender']:32}"
        if row["seconds"] is None:
            lines.append(f"{head} {row['note']:>9}")
            continue
        mark = "" if row["own_dual"] else " (gap with our dual)"
        numbers = f"{row['seconds']:9.3f} {row['ratio'] or 1.0:7.1f} {row['gap']:8.1e} {row['violation']:9.1e}"
        lines.append(f"{head} {numbers}{mark}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="d = 1000 only")
    size.add_argument("--full", action="store_true", help="d = 100 000 for every contender, not for ours alone")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the rows as JSON, too")
    parser.add_argument("--one", nargs=3, metavar=("NORM", "NAME", "D"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        norm, name, d = arguments.one
        run_one(int(norm), name, int(d))
        return
    rows: list[dict[str, Any]] = []
    for norm, contenders in CONTENDERS.items():
        for d in (1000,) if arguments.quick else (1000, 10_000, 100_000):
            reference = None
            for name in contenders:
                if d == 100_000 and name != "theorykit" and not arguments.full:
                    continue
                row = run_in_process(norm, name, d)
                reference = reference or row["seconds"]
                row["ratio"] = row["seconds"] / reference if row["seconds"] and reference else None
                rows.append(row)
                print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.out:
        environment = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        with replacing("out", arguments.out) as temporary:
            temporary.write_text(to_json({"environment": environment, "samples": SAMPLES, "rows": rows}))


if __name__ == "__main__":
    main()
