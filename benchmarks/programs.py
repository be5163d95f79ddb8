"""Convex programs: theorykit next to what a user would call instead, every answer put through the same certificate.

n = 256 samples of +-1 features; the sum of three of them is what interpolation fits, its sign is the label for margins.
Every contender runs in a process of its own (imports and compilation warmed up first) and may take 60 seconds (--cap);
one that took longer is not asked again for more features.

    python benchmarks/programs.py [--quick | --full] [--cap SECONDS] [--only PROGRAM ...] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.serial import replacing, to_json
from theorykit.programs import certify, certify_norm, kernel_svm, max_margin, min_norm

Array = NDArray[np.float64]
Data = tuple[NDArray[Any], Array]
Pair = tuple[Array, Array | None]
Solver = Callable[..., Pair]

OURS = "theorykit"
SAMPLES, CAP_S, REPEAT_S, REPEATS = 256, 60.0, 10.0, 5


class Program(NamedTuple):
    """One table of the benchmark; more of them go into PROGRAMS.

    Attributes
    ----------
    make : callable
        ``make(size, samples)`` returns the data, a tuple that is handed to `contenders` and `judge`.
    contenders : dict
        ``solve(*data)`` for each name, OURS first; others than ours get float64 arrays.
    judge : callable
        ``judge(data, answer)`` returns "gap", "violation", "value" and "own_dual".
    sizes : tuple of int
    """

    make: Callable[[int, int], Any]
    contenders: dict[str, Callable[..., Any]]
    judge: Callable[[Any, Any], dict[str, Any]]
    sizes: tuple[int, ...] = (1000, 10_000, 100_000)


# --- data and judgement ----------------------------------------------------------------------------------------------


def signs(d: int, n: int, seed: int = 0) -> tuple[NDArray[np.int8], Array]:
    rng = np.random.default_rng(seed)
    X = (rng.integers(0, 2, (n, d)) * 2 - 1).astype(np.int8)
    return X, X[:, :3] @ np.array([1.0, -1.0, 1.0])


def classes(d: int, n: int) -> Data:
    X, sums = signs(d, n)
    return X, np.sign(sums)


def fours(d: int) -> NDArray[np.int64]:
    return np.arange(d) // 4


def options(norm: Any, d: int) -> dict[str, Any]:
    return {"norm": norm} | ({"groups": fours(d)} if norm == "group" else {})


def judged_margin(norm: Any) -> Callable[[Data, Pair], dict[str, Any]]:
    """Return the judge: certified gap of the pair (ours stands in for a dual that is not given), worst violation."""

    def judge(data: Data, answer: Pair) -> dict[str, Any]:
        (X, y), (w, dual) = data, answer
        more = options(norm, X.shape[1])
        multipliers = max_margin(X, y, **more).dual if dual is None else np.maximum(dual, 0.0)
        certificate = certify(X, y, w, multipliers, **more)
        violation = max(0.0, 1.0 - float((y * (X @ w)).min()))
        return {
            "gap": certificate.gap,
            "violation": violation,
            "value": certificate.lower,
            "own_dual": dual is not None,
        }

    return judge


def judged_norm(norm: Any) -> Callable[[Data, Pair], dict[str, Any]]:
    def judge(data: Data, answer: Pair) -> dict[str, Any]:
        (X, y), (w, dual) = data, answer
        more = options(norm, X.shape[1])
        multipliers = min_norm(X, y, **more).dual if dual is None else dual
        certificates = [certify_norm(X, y, w, sign * multipliers, **more) for sign in (1.0, -1.0)]
        certificate = min(certificates, key=lambda c: c.gap)
        violation = float(np.abs(X @ w - y).max())
        return {
            "gap": certificate.gap,
            "violation": violation,
            "value": certificate.upper,
            "own_dual": dual is not None,
        }

    return judge


# --- contenders ------------------------------------------------------------------------------------------------------


def ours(solve: Any, norm: Any) -> Solver:
    def run(X: NDArray[Any], y: Array) -> Pair:
        result = solve(X, y, **options(norm, X.shape[1]))
        return result.w, result.dual

    return run


def cvxpy_as_stated(norm: Any, solver: str, *, equations: bool = False) -> Solver:
    def run(X: NDArray[Any], y: Array) -> Pair:
        import cvxpy as cp

        w = cp.Variable(X.shape[1])
        sizes = {
            1: lambda: cp.norm1(w),
            2: lambda: 0.5 * cp.sum_squares(w),
            "inf": lambda: cp.norm_inf(w),
            "group": lambda: cp.sum(cp.norm(cp.reshape(w, (X.shape[1] // 4, 4), order="C"), 2, axis=1)),
        }
        constraint = X @ w == y if equations else cp.multiply(y, X @ w) >= 1
        cp.Problem(cp.Minimize(sizes[norm]()), [constraint]).solve(solver=solver)
        return np.asarray(w.value), np.asarray(constraint.dual_value)

    return run


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


def precomputed_svc(X: NDArray[Any], y: Array) -> Pair:
    """It fits an intercept that the program does not have."""
    from sklearn.svm import SVC

    machine = SVC(C=1e6, kernel="precomputed", tol=1e-8).fit(X @ X.T, y)
    mu = np.zeros(len(y))
    mu[machine.support_] = np.abs(machine.dual_coef_[0])
    return (mu * y) @ X, mu


def linprog(method: Any, *, equations: bool = False) -> Solver:
    def run(X: NDArray[Any], y: Array) -> Pair:
        import scipy.optimize

        d = X.shape[1]
        A = np.hstack((X, -X))
        if equations:
            result = scipy.optimize.linprog(np.ones(2 * d), A_eq=A, b_eq=y, method=method)
            return result.x[:d] - result.x[d:], result.eqlin.marginals
        result = scipy.optimize.linprog(np.ones(2 * d), A_ub=-y[:, None] * A, b_ub=-np.ones(len(X)), method=method)
        return result.x[:d] - result.x[d:], -result.ineqlin.marginals

    return run


def least_squares(X: NDArray[Any], y: Array) -> Pair:
    import scipy.linalg

    return scipy.linalg.lstsq(X, y, lapack_driver="gelsy")[0], None


def gaussian(n: int, _: int) -> tuple[Array, Array, Array]:
    """A Gram matrix of n samples with twice as many features: gram, labels and the features themselves."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 2 * n))
    return X @ X.T, np.sign(X[:, :3].sum(axis=1)), X


def judged_gram(data: Any, answer: Pair) -> dict[str, Any]:
    """Judge the coefficients of the features, by the certificate of the margin over the features."""
    (_, y, X), (coefficients, dual) = data, answer
    w = X.T @ coefficients
    certificate = certify(X, y, w, np.maximum(dual, 0.0), norm=2)
    violation = max(0.0, 1.0 - float((y * (X @ w)).min()))
    return {"gap": certificate.gap, "violation": violation, "value": certificate.lower, "own_dual": True}


def our_machine(gram: Array, y: Array, _: Array) -> Pair:
    result = kernel_svm(gram=gram, y=y)
    return result.coefficients, result.dual


def cvxpy_machine(gram: Array, y: Array, _: Array) -> Pair:
    import cvxpy as cp

    mu = cp.Variable(len(y), nonneg=True)
    quadratic = cp.quad_form(mu, cp.psd_wrap(y[:, None] * gram * y))
    cp.Problem(cp.Maximize(cp.sum(mu) - 0.5 * quadratic)).solve(solver="CLARABEL")
    return y * mu.value, mu.value


def svc_machine(gram: Array, y: Array, _: Array) -> Pair:
    """It fits an intercept that the program does not have."""
    from sklearn.svm import SVC

    machine = SVC(C=1e6, kernel="precomputed", tol=1e-8).fit(gram, y)
    mu = np.zeros(len(y))
    mu[machine.support_] = np.abs(machine.dual_coef_[0])
    return y * mu, mu


PROGRAMS: dict[str, Program] = {
    "gram-l2": Program(
        gaussian,
        {
            OURS: our_machine,
            "CVXPY, dual by hand (Clarabel)": cvxpy_machine,
            "scikit-learn SVC, precomputed": svc_machine,
        },
        judged_gram,
        (500, 2000),
    ),
    "margin-l2": Program(
        classes,
        {
            OURS: ours(max_margin, 2),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated(2, "CLARABEL"),
            "CVXPY, as stated (SCS)": cvxpy_as_stated(2, "SCS"),
            "CVXPY, dual by hand (Clarabel)": cvxpy_dual,
            "scikit-learn LinearSVC": linear_svc,
            "scikit-learn SVC, precomputed": precomputed_svc,
        },
        judged_margin(2),
    ),
    "margin-l1": Program(
        classes,
        {
            OURS: ours(max_margin, 1),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated(1, "CLARABEL"),
            "CVXPY, as stated (SCS)": cvxpy_as_stated(1, "SCS"),
            "CVXPY, as stated (HiGHS)": cvxpy_as_stated(1, "HIGHS"),
            "SciPy linprog, simplex": linprog("highs-ds"),
            "SciPy linprog, interior point": linprog("highs-ipm"),
        },
        judged_margin(1),
    ),
    "margin-inf": Program(
        classes,
        {
            OURS: ours(max_margin, "inf"),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated("inf", "CLARABEL"),
            "CVXPY, as stated (HiGHS)": cvxpy_as_stated("inf", "HIGHS"),
        },
        judged_margin("inf"),
        (1000, 10_000),
    ),
    "margin-group": Program(
        classes,
        {
            OURS: ours(max_margin, "group"),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated("group", "CLARABEL"),
            "CVXPY, as stated (SCS)": cvxpy_as_stated("group", "SCS"),
        },
        judged_margin("group"),
        (1000, 10_000),
    ),
    "least-l2": Program(
        signs,
        {
            OURS: ours(min_norm, 2),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated(2, "CLARABEL", equations=True),
            "SciPy lstsq": least_squares,
        },
        judged_norm(2),
    ),
    "least-l1": Program(
        signs,
        {
            OURS: ours(min_norm, 1),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated(1, "CLARABEL", equations=True),
            "SciPy linprog, simplex": linprog("highs-ds", equations=True),
            "SciPy linprog, interior point": linprog("highs-ipm", equations=True),
        },
        judged_norm(1),
    ),
    "least-inf": Program(
        signs,
        {
            OURS: ours(min_norm, "inf"),
            "CVXPY, as stated (Clarabel)": cvxpy_as_stated("inf", "CLARABEL", equations=True),
        },
        judged_norm("inf"),
        (1000, 10_000),
    ),
}


# --- the race --------------------------------------------------------------------------------------------------------


def run_one(program: str, name: str, size: int, cap: float) -> None:
    """Warm up, time, and print one JSON line (what the child process does); the system ends a solve past its time."""
    make, contenders, judge, _ = PROGRAMS[program]
    solve = contenders[name]

    def prepared(d: int, samples: int) -> Any:
        data = make(d, samples)
        return data if name == OURS else tuple(np.asarray(part, dtype=np.float64) for part in data)

    solve(*prepared(52, 20))
    data = prepared(size, SAMPLES)
    times: list[float] = []
    cpu = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, cap)
    while len(times) < REPEATS and sum(times) + max(times, default=0.0) < REPEAT_S:
        started = time.perf_counter()
        answer = solve(*data)
        times.append(time.perf_counter() - started)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    cpu = (time.process_time() - cpu) / len(times)
    print(json.dumps({"seconds": min(times), "cpu": cpu, "repeats": len(times)} | judge(make(size, SAMPLES), answer)))


def run_in_process(program: str, name: str, size: int, cap: float) -> dict[str, Any]:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--cap", str(cap), "--one", program, name, str(size)]
    row: dict[str, Any] = {"program": program, "size": size, "contender": name, "seconds": None}
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode == -signal.SIGALRM:
        return row | {"note": f"> {cap:.0f} s"}
    if child.returncode:
        return row | {"note": (child.stderr.strip().splitlines() or ["failed"])[-1][:80]}
    return row | json.loads(child.stdout.splitlines()[-1])


def rows_of(program: str, sizes: tuple[int, ...], largest_for_peers: int, cap: float) -> list[dict[str, Any]]:
    """Run all contenders of one program, and say each row on stderr as it comes."""
    rows, slow = [], set()
    for size in sizes:
        reference = None
        for name in PROGRAMS[program].contenders:
            if name != OURS and (size > largest_for_peers or name in slow):
                continue
            row = run_in_process(program, name, size, cap)
            if row["seconds"] is None:
                slow.add(name)
            reference = reference or row["seconds"]
            row["ratio"] = row["seconds"] / reference if row["seconds"] and reference else None
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text: the fastest run, processor seconds a run, and the time relative to ours."""
    names = f"{'seconds':>9} {'cpu':>8} {'/ ours':>7} {'gap':>8} {'violation':>9}"
    lines = [f"{'program':13} {'size':>7} {'contender':32} {names}"]
    for row in rows:
        head = f"{row['program']:13} {row['size']:7d} {row['contender']:32}"
        if row["seconds"] is None:
            lines.append(f"{head} {row['note']:>9}")
            continue
        mark = "" if row["own_dual"] else " (gap with our dual)"
        times = f"{row['seconds']:9.3f} {row['cpu']:8.3f} {row['ratio'] or 1.0:7.1f}"
        lines.append(f"{head} {times} {row['gap']:8.1e} {row['violation']:9.1e}{mark}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the smallest size only")
    extent.add_argument("--full", action="store_true", help="the largest size for every contender, not for ours alone")
    parser.add_argument("--cap", type=float, default=CAP_S, metavar="SECONDS", help="the most one solve may take")
    parser.add_argument("--only", nargs="*", choices=sorted(PROGRAMS), help="programs to run (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the rows as JSON, too")
    parser.add_argument("--one", nargs=3, metavar=("PROGRAM", "NAME", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        program, name, size = arguments.one
        run_one(program, name, int(size), arguments.cap)
        return
    rows: list[dict[str, Any]] = []
    for program in arguments.only or PROGRAMS:
        sizes = PROGRAMS[program].sizes
        largest = sizes[-1 if arguments.full else -2]
        rows += rows_of(program, sizes[:1] if arguments.quick else sizes, largest, arguments.cap)
    print(table(rows))
    if arguments.out:
        environment = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        with replacing("out", arguments.out) as temporary:
            temporary.write_text(to_json({"environment": environment, "samples": SAMPLES, "rows": rows}))


if __name__ == "__main__":
    main()
