"""Nuclear-norm completion: theorykit next to CVXPY with Clarabel and SCS, all judged by the same certificate.

Matrices of d x d with a share of the entries observed. Over symmetric matrices: the multiplication table ij, and random
matrices of rank 3 (which 5 % of the entries do not determine). Over all matrices: the table, with that share and with
three times as many entries, and random ones of rank 3. Every contender runs in a process of its own (imports and
compilation warmed up first), and may take 120 seconds (--cap).

    python benchmarks/nuclear.py [--quick | --full] [--cap SECONDS] [--out FILE.json]
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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.serial import replacing, to_json
from theorykit.programs import SolverError, min_nuclear_norm

Array = NDArray[np.float64]
CAP_S, REPEAT_S, REPEATS = 120.0, 15.0, 3
SHARES = {20: 0.2, 50: 0.1, 97: 0.05, 200: 0.05}
KINDS = {"table": 1, "rank 3": 1, "general": 1, "general x3": 3, "general 3": 1}
"""How many times the share each kind of data sees."""
CONTENDERS = ("theorykit", "CLARABEL", "SCS")


def data(kind: str, d: int, seed: int = 0) -> tuple[NDArray[np.int64], Array]:
    """Return observed places, shape (m, 2), and values; m is the share of d * d, drawn without repeats."""
    rng = np.random.default_rng(seed)
    i, j = np.divmod(rng.choice(d * d, round(KINDS[kind] * SHARES[d] * d * d), replace=False), d)
    if not kind.endswith(" 3"):
        return np.stack((i, j), axis=1), i * j / d**2
    U = rng.standard_normal((d, 3))
    if kind == "general 3":
        return np.stack((i, j), axis=1), (U @ rng.standard_normal((3, d)) / d)[i, j]
    W = U @ np.diag([1.0, -1.0, 1.0]) @ U.T / d
    return np.stack((i, j), axis=1), (0.5 * (W + W.T))[i, j]


def run_one(kind: str, name: str, d: int) -> None:
    """Warm up, say so, time, and print one JSON line (what the child process does)."""
    solver = None if name == "theorykit" else name
    symmetric = not kind.startswith("general")
    min_nuclear_norm([[0, 0], [0, 1]], [2.0, 1.0], shape=3, symmetric=symmetric, solver=solver)
    places, values = data(kind, d)
    print("ready", flush=True)
    times: list[float] = []
    cpu = time.process_time()
    while len(times) < REPEATS and sum(times) + max(times, default=0.0) < REPEAT_S:
        started = time.perf_counter()
        try:
            result = min_nuclear_norm(places, values, shape=d, symmetric=symmetric, solver=solver)
        except SolverError as failure:
            print(json.dumps({"note": str(failure)[:110], "seconds": time.perf_counter() - started}))
            return
        times.append(time.perf_counter() - started)
    found = {"m": len(result.dual), "gap": result.certificate.gap, "value": result.value, "rank": result.rank}
    spent = {"seconds": min(times), "median": statistics.median(times)}
    spent["cpu"] = (time.process_time() - cpu) / len(times)
    print(json.dumps(spent | found | {"unique": result.uniqueness}))


def run_in_process(kind: str, name: str, d: int, cap: float) -> dict[str, Any]:
    """Run one contender in a process of its own; more than the cap after its warm-up is reported as such."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", kind, name, str(d)]
    row: dict[str, Any] = {"kind": kind, "d": d, "contender": name, "seconds": None}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        ready = child.stdout.readline()
        try:
            output, errors = child.communicate(timeout=cap)
        except subprocess.TimeoutExpired:
            child.kill()
            return row | {"note": f"> {cap:.0f} s"}
    if not ready or child.returncode:
        return row | {"note": (errors.strip().splitlines() or ["failed"])[-1][:110]}
    return row | json.loads(output.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text: fastest run, processor seconds a run, and the gap proved from each one's own answer."""
    lines = [f"{'data':10} {'d':>4} {'m':>5} {'contender':10} {'seconds':>8} {'cpu':>8} {'gap':>8} {'rank':>4} unique"]
    for row in rows:
        head = f"{row['kind']:10} {row['d']:4d} {row.get('m', ''):>5} {row['contender']:10}"
        if "gap" not in row:
            seconds = "" if row["seconds"] is None else f"{row['seconds']:8.3f} "
            lines.append(f"{head} {seconds}{row['note']}")
            continue
        lines.append(
            f"{head} {row['seconds']:8.3f} {row['cpu']:8.3f} {row['gap']:8.1e} {row['rank']:4d} {row['unique']}"
        )
    return "\n".join(lines)


def run(sizes: tuple[int, ...], peers_up_to: int, cap: float) -> list[dict[str, Any]]:
    """Return one row for each kind of data, size and contender."""
    rows = []
    for kind in KINDS:
        for d in sizes:
            for name in CONTENDERS:
                if name != "theorykit" and d > peers_up_to:
                    continue
                rows.append(run_in_process(kind, name, d, cap))
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="d = 20 and 50 only")
    size.add_argument("--full", action="store_true", help="d = 200 for every contender, not for ours alone")
    parser.add_argument("--cap", type=float, default=CAP_S, metavar="SECONDS", help="the most a contender may take")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the rows as JSON, too")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "NAME", "D"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, name, d = arguments.one
        run_one(kind, name, int(d))
        return
    sizes = (20, 50) if arguments.quick else tuple(SHARES)
    rows = run(sizes, 200 if arguments.full else 97, arguments.cap)
    print(table(rows))
    if arguments.out:
        environment = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        with replacing("out", arguments.out) as temporary:
            temporary.write_text(to_json({"environment": environment, "rows": rows}))


if __name__ == "__main__":
    main()
