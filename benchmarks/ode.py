"""`flow.integrate` next to what a user would call instead: error against seconds, measured in one run.

Problems: the non-stiff DETEST classes, stiff ones of the IVP test set with their published references, and the raw flow
of a diagonal net (n = 8, d = 40, weight decay 1e-3) from alpha to s = 1.5. Each contender runs at a ladder of
tolerances; its error is measured at the end, relative to max(|y|, scale), against the published value or, where there
is none, a run of SciPy's DOP853 at 1e-13 (DETEST) or of our Radau IIA of order 13 at 1e-13 (the nets, on which the
tightest runs of the peers agree with it to the errors shown). Times are the least of several runs; compilation is
apart, and so are our companion runs, since no peer estimates its global error. Ratios compare times at equal measured
error: above 1 ours is faster. A result that claims success and is wrong in its first digits is marked WRONG.

    python benchmarks/ode.py [--quick | --full] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracle"))

from ode_problems import DETEST, STIFF, Problem, error  # noqa: E402

import theorykit as tk  # noqa: E402
from theorykit._numerics.serial import to_json  # noqa: E402
from theorykit.flow import LowRankJacobian, integrate  # noqa: E402

Array = NDArray[np.float64]
Solve = Callable[[float], tuple[Array | None, str]]
WRONG = 1e-2  # error of a claimed success
REPEATS = 3
PACKAGES = ("numpy", "numba", "scipy", "scikit-sundae", "heyoka", "diffrax", "numbalsoda")
WEIGHT_DECAY = 1e-3
OURS = {
    "DETEST": ("auto", "tsit5", "dop853"),
    "stiff": ("auto", "radau5", "radau9", "radau13"),
    "net": ("auto", "radau9"),
}


class OutOfTimeError(Exception):
    """The time limit of a run has passed."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` in a block that takes too long (compiled code notices when it comes back to Python)."""

    def stop(number: int, frame: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


# --- the raw flow of a diagonal net ---


@numba.njit
def net_exponential(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    Z = p[3 : 3 + n * d].reshape(n, d)
    u, v = theta[:d], theta[d:]
    force = p[2] * np.dot(np.exp(-np.dot(Z, u * u - v * v)), Z)
    out[:d] = u * (force - 1.0)
    out[d:] = -v * (force + 1.0)


@numba.njit
def net_squared(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    Z = p[3 : 3 + n * d].reshape(n, d)
    u, v = theta[:d], theta[d:]
    force = 2.0 * p[2] * np.dot(1.0 - np.dot(Z, u * u - v * v), Z)
    out[:d] = u * (force - 1.0)
    out[d:] = -v * (force + 1.0)


def net_problem(loss: str, alpha: float) -> Problem:
    """Return d(theta)/d(tau), tau = lambda t, of the mean loss over y_i <x_i, w>, w = u^2 - v^2."""
    data = tk.datasets.sparse_sign(n=8, d=40, k=3, n_test=0, seed=0)
    Z = data.y[:, None] * data.X.astype(np.float64)
    p = np.concatenate([[8.0, 40.0, 2.0 / (8.0 * WEIGHT_DECAY)], Z.ravel()])
    f = net_exponential if loss == "exponential" else net_squared
    return Problem(f"net {loss} alpha={alpha:g}", f, np.full(80, alpha), 1.5 * math.log(alpha), None, 1.0, p)


def net_jacobian(problem: Problem) -> LowRankJacobian:
    """Return the Jacobian of the net's flow: diagonal plus rank 8."""
    assert problem.p is not None
    gain, Z = problem.p[2], problem.p[3:].reshape(8, 40)
    exponential = "exponential" in problem.name

    def parts(t: float, theta: Array, *_: Any) -> tuple[Array, Array, Array]:
        u, v = theta[:40], theta[40:]
        q = Z @ (u * u - v * v)
        g = np.exp(-q) if exponential else 2.0 * (1.0 - q)
        bend = np.exp(-q) if exponential else np.full(8, 2.0)  # -dg/dq
        force = gain * (g @ Z)
        signed = np.concatenate([Z.T * u[:, None], -Z.T * v[:, None]])
        return np.concatenate([force - 1.0, -force - 1.0]), -2.0 * gain * signed * bend, signed

    return LowRankJacobian(parts, rank=8)


# --- contenders: each returns a function of rtol ---


def ours(problem: Problem, method: str, **options: Any) -> Solve:
    def solve(rtol: float) -> tuple[Array | None, str]:
        result = integrate(
            problem.f, problem.y0, (0.0, problem.t_end), method=method, rtol=rtol, atol=rtol * problem.scale,
            args=(problem.parameters,), companion=False, at=2, max_steps=10_000_000, **options,
        )  # fmt: skip
        return result.y_end, result.status if result.status != "reached_end" else "success"

    return solve


def scipy_(problem: Problem, method: str) -> Solve:
    from scipy.integrate import solve_ivp

    f = problem.python()

    def solve(rtol: float) -> tuple[Array | None, str]:
        result = solve_ivp(f, (0.0, problem.t_end), problem.y0, method, rtol=rtol, atol=rtol * problem.scale)
        return result.y[:, -1], "success" if result.success else "failed"

    return solve


def cvode(problem: Problem, method: str) -> Solve:
    from sksundae.cvode import CVODE

    p, f = problem.parameters, problem.f

    def rhs(t: float, y: Array, out: Array) -> None:
        f(t, y, p, out)

    def solve(rtol: float) -> tuple[Array | None, str]:
        solver = CVODE(rhs, method=method, rtol=rtol, atol=rtol * problem.scale, max_num_steps=1_000_000)
        result = solver.solve(np.array([0.0, problem.t_end]), problem.y0)
        return result.y[-1], "success" if result.success else "failed"

    return solve


def numbalsoda_(problem: Problem, method: str) -> Solve:
    import numbalsoda

    f, n, m = problem.f, problem.y0.size, problem.parameters.size

    @numba.cfunc(numbalsoda.lsoda_sig)
    def rhs(t, y, out, p):  # type: ignore[no-untyped-def]
        f(t, numba.carray(y, (n,)), numba.carray(p, (m,)), numba.carray(out, (n,)))

    call = numbalsoda.lsoda if method == "LSODA" else numbalsoda.dop853

    def solve(rtol: float) -> tuple[Array | None, str]:
        times = np.array([0.0, problem.t_end])
        y, good = call(rhs.address, problem.y0, times, problem.parameters, rtol=rtol, atol=rtol * problem.scale)
        return y[-1], "success" if good else "failed"

    return solve


def heyoka_(problem: Problem) -> Solve:
    """Taylor's method, for the net with the exponential loss (it takes expressions)."""
    import heyoka as hy

    assert problem.p is not None
    gain, Z = problem.p[2], problem.p[3:].reshape(8, 40)
    u, v = [hy.expression(f"u{j}") for j in range(40)], [hy.expression(f"v{j}") for j in range(40)]
    g = [hy.exp(-hy.sum([float(Z[i, j]) * (u[j] * u[j] - v[j] * v[j]) for j in range(40)])) for i in range(8)]
    force = [gain * hy.sum([float(Z[i, j]) * g[i] for i in range(8)]) for j in range(40)]
    system = [(u[j], u[j] * (force[j] - 1.0)) for j in range(40)]
    system += [(v[j], -v[j] * (force[j] + 1.0)) for j in range(40)]
    cache: dict[float, Any] = {}

    def solve(rtol: float) -> tuple[Array | None, str]:
        if rtol not in cache:
            cache[rtol] = hy.taylor_adaptive(system, problem.y0.copy(), tol=rtol, compact_mode=True)
        taylor = cache[rtol]
        taylor.time = 0.0
        taylor.state[:] = problem.y0
        outcome = taylor.propagate_until(problem.t_end)[0]
        return taylor.state.copy(), "success" if outcome == hy.taylor_outcome.time_limit else "failed"

    return solve


def diffrax_(problem: Problem, method: str) -> Solve:
    """Return diffrax on the net (it takes JAX functions)."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    assert problem.p is not None
    gain, Z = float(problem.p[2]), jnp.asarray(problem.p[3:].reshape(8, 40))
    exponential = "exponential" in problem.name

    def f(t: Any, theta: Any, _: Any) -> Any:
        u, v = theta[:40], theta[40:]
        q = Z @ (u * u - v * v)
        force = gain * ((jnp.exp(-q) if exponential else 2.0 * (1.0 - q)) @ Z)
        return jnp.concatenate([u * (force - 1.0), -v * (force + 1.0)])

    solver = diffrax.Tsit5() if method == "Tsit5" else diffrax.Kvaerno5()

    @jax.jit
    def run(rtol: Any, y0: Any) -> Any:
        result = diffrax.diffeqsolve(
            diffrax.ODETerm(f), solver, 0.0, problem.t_end, None, y0, max_steps=200_000, throw=False,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * problem.scale),
            saveat=diffrax.SaveAt(t1=True),
        )  # fmt: skip
        return result.ys[-1], result.result == diffrax.RESULTS.successful

    def solve(rtol: float) -> tuple[Array | None, str]:
        y, good = run(rtol, problem.y0)
        return np.asarray(y), "success" if bool(good) else "failed"

    return solve


def contenders(problem: Problem, kind: str) -> dict[str, Callable[[], Solve]]:
    """Return how each contender is made ready; those whose package is not installed raise ImportError then."""
    made: dict[str, Callable[[], Solve]] = {
        f"theorykit {method}": lambda method=method: ours(problem, method) for method in OURS[kind]
    }
    if kind == "net":
        jacobian = net_jacobian(problem)
        made["theorykit radau9, low rank"] = lambda: ours(problem, "radau9", jacobian=jacobian)
    names = {
        "DETEST": ("DOP853", "LSODA"),
        "stiff": ("LSODA", "Radau", "BDF"),
        "net": ("DOP853", "LSODA", "Radau", "BDF"),
    }
    for name in names[kind]:
        made[f"SciPy {name}"] = lambda name=name: scipy_(problem, name)
    made["CVODE BDF"] = lambda: cvode(problem, "BDF")
    made["numbalsoda LSODA"] = lambda: numbalsoda_(problem, "LSODA")
    if kind != "stiff":
        made["CVODE Adams"] = lambda: cvode(problem, "Adams")
        made["numbalsoda DOP853"] = lambda: numbalsoda_(problem, "DOP853")
    if kind == "net":
        made["diffrax Tsit5"] = lambda: diffrax_(problem, "Tsit5")
        made["diffrax Kvaerno5"] = lambda: diffrax_(problem, "Kvaerno5")
        if "exponential" in problem.name:
            made["heyoka Taylor"] = lambda: heyoka_(problem)
    return made


# --- measuring ---


def measure(problem: Problem, kind: str, tolerances: list[float], limit: float) -> list[dict[str, Any]]:
    """Return one row for each contender and tolerance."""
    reference = reference_of(problem, kind)
    rows = []
    for name, ready in contenders(problem, kind).items():
        row: dict[str, Any] = {"problem": problem.name, "kind": kind, "contender": name}
        try:
            with limited(10 * limit):
                began = time.perf_counter()
                solve = ready()
                solve(tolerances[0])
                first = time.perf_counter() - began
        except ImportError:
            rows.append(row | {"status": "not installed"})
            continue
        except OutOfTimeError:
            rows.append(row | {"status": f"more than {10 * limit:g} s to start"})
            continue
        except Exception as problem_of_peer:
            rows.append(row | {"status": f"raised {type(problem_of_peer).__name__}", "rtol": tolerances[0]})
            continue
        for rtol in tolerances:
            now = one(problem, solve, rtol, limit, reference)
            rows.append(row | {"rtol": rtol, "first_s": first} | now)
            if now["status"] == "out of time":
                break
    return rows


def one(problem: Problem, solve: Solve, rtol: float, limit: float, reference: Array) -> dict[str, Any]:
    """Return status, error and least time at one tolerance."""
    best = math.inf
    try:
        with limited(limit):
            for _ in range(REPEATS):
                began = time.perf_counter()
                y, status = solve(rtol)
                best = min(best, time.perf_counter() - began)
                if best > 1.0:
                    break
    except OutOfTimeError:
        if best == math.inf:
            return {"status": "out of time"}
    except Exception as trouble:
        return {"status": f"raised {type(trouble).__name__}"}
    wrong = math.inf if y is None or not np.all(np.isfinite(y)) else error(problem, y, reference)
    if status == "success" and not wrong < WRONG:
        status = "WRONG"
    return {"status": status, "error": wrong, "seconds": best}


def reference_of(problem: Problem, kind: str) -> Array:
    """Return y at the end: published, or from a much tighter run."""
    if problem.reference is not None:
        return problem.reference
    if kind == "DETEST":
        from scipy.integrate import solve_ivp

        return solve_ivp(problem.python(), (0.0, problem.t_end), problem.y0, "DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    y, status = ours(problem, "radau13", jacobian=net_jacobian(problem))(1e-13)
    assert status == "success", f"reference of {problem.name}: {status}"
    return y


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each problem and peer the geometric mean of peer's seconds over ours at equal error."""
    table = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        own = [row for row in rows if row["problem"] == problem]
        mine = frontier([row for row in own if row["contender"].startswith("theorykit")])
        for peer in dict.fromkeys(row["contender"] for row in own if not row["contender"].startswith("theorykit")):
            good = [row for row in own if row["contender"] == peer and row.get("status") == "success"]
            logs = [
                math.log(row["seconds"]) - seconds_at(mine, row["error"]) for row in good if mine and row["error"] > 0
            ]
            trouble = sorted({row["status"] for row in own if row["contender"] == peer} - {"success"})
            ratio = math.exp(sum(logs) / len(logs)) if logs else math.nan
            table.append({"problem": problem, "kind": own[0]["kind"], "peer": peer, "ratio": ratio, "points": len(logs),
                          "trouble": ", ".join(trouble)})  # fmt: skip
    return table


def frontier(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (log error, log seconds) of our runs that no other of ours beats in both, from large errors to small."""
    points = sorted((row["seconds"], row["error"]) for row in rows if row.get("status") == "success")
    best: list[tuple[float, float]] = []
    for seconds, wrong in points:
        if not best or math.log(max(wrong, 1e-17)) < best[-1][0]:
            best.append((math.log(max(wrong, 1e-17)), math.log(seconds)))
    return best


def seconds_at(points: list[tuple[float, float]], wrong: float) -> float:
    """Return our log seconds for an error: on the frontier between two runs, at its ends those of the end."""
    errors, seconds = [point[0] for point in points][::-1], [point[1] for point in points][::-1]
    return float(np.interp(math.log(wrong), errors, seconds))


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Draw a work-precision diagram for each problem, one file for each kind."""
    import matplotlib.pyplot as plt

    for kind in dict.fromkeys(row["kind"] for row in rows):
        problems = list(dict.fromkeys(row["problem"] for row in rows if row["kind"] == kind))
        columns = min(5, len(problems))
        lines = math.ceil(len(problems) / columns)
        figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3.2 * lines), squeeze=False)
        for axis in axes.ravel()[len(problems) :]:
            axis.set_visible(False)
        for axis, problem in zip(axes.ravel(), problems, strict=False):
            own = [row for row in rows if row["problem"] == problem and row.get("status") == "success"]
            for name in dict.fromkeys(row["contender"] for row in own):
                points = [(max(row["error"], 1e-16), row["seconds"]) for row in own if row["contender"] == name]
                solid = name.startswith("theorykit")
                axis.loglog(*zip(*points, strict=True), "o-" if solid else "x--", ms=3, lw=1, label=name)
            axis.set_title(problem, fontsize=9)
            axis.invert_xaxis()
        axes[0, 0].legend(fontsize=6)
        figure.supxlabel("error at the end")
        figure.supylabel("seconds")
        figure.tight_layout()
        figure.savefig(folder / f"ode-{kind}.png", dpi=110)
        plt.close(figure)


def report(rows: list[dict[str, Any]], table: list[dict[str, Any]]) -> str:
    """Return the ratios, a line a problem and peer, then the means over each kind, and what failed."""
    lines = [f"{'problem':28s} {'peer':20s} {'ratio':>8s}  trouble"]
    lines += [f"{r['problem']:28s} {r['peer']:20s} {r['ratio']:8.2f}  {r['trouble']}" for r in table]
    lines.append("\ngeometric means over the problems (above 1: ours is faster at equal error)")
    for kind in dict.fromkeys(r["kind"] for r in table):
        for peer in dict.fromkeys(r["peer"] for r in table if r["kind"] == kind):
            own = [r["ratio"] for r in table if r["kind"] == kind and r["peer"] == peer and r["points"]]
            if own:
                least = min(own)
                mean = math.exp(float(np.mean(np.log(own))))
                lines.append(f"{kind:8s} {peer:20s} {mean:8.2f}  least {least:.2f}, {len(own)} problems")
    mine = [row for row in rows if row["contender"].startswith("theorykit") and row.get("status") != "success"]
    lines += ["", f"our own runs without success: {len(mine)}"]
    lines += [f"  {row['problem']} {row['contender']} {row.get('rtol')} {row['status']}" for row in mine]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "theorykit": tk.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer problems and tolerances (default)")
    size.add_argument("--full", action="store_true", help="all of them")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench-ode")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # the peers' overflow warnings
    detest, stiff, alphas = DETEST, STIFF, (10.0, 100.0, 1e4)
    tolerances, limit = [10.0**-k for k in range(3, 13)], 60.0
    if not arguments.full:
        detest, stiff, alphas = [p for p in DETEST if p.name[1] in "24"], STIFF[:4], (10.0,)
        tolerances, limit = [1e-4, 1e-6, 1e-8, 1e-10], 10.0
    jobs = [(p, "DETEST") for p in detest] + [(p, "stiff") for p in stiff]
    jobs += [(net_problem(loss, alpha), "net") for loss in ("exponential", "squared") for alpha in alphas]
    rows: list[dict[str, Any]] = []
    for problem, kind in jobs:
        began = time.perf_counter()
        rows += measure(problem, kind, tolerances, limit)
        print(f"{kind} {problem.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    table = ratios(rows)
    text = report(rows, table)
    print(json.dumps(versions()))
    print(text)
    (arguments.out / "ode.json").write_text(to_json({"versions": versions(), "rows": rows, "ratios": table}))
    (arguments.out / "ode.txt").write_text(text + "\n")
    plot(rows, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
