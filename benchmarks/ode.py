"""`flow.integrate` next to what a user would call instead: error against seconds, measured in one run.

Problems: the non-stiff DETEST classes, stiff ones of the IVP test set with their published references, and the raw
flows of nets (`ode_nets.py`), which theorykit also follows in its own frames and reductions. Each contender runs at a
ladder of tolerances; its error is measured at the end, relative to max(|y|, scale), against the published value or,
where there is none, heyoka's Taylor method at 1e-18 (diagonal nets), SciPy's Radau at 1e-13 on their dual (where the
squared loss makes them stiff) or SciPy's DOP853 at 1e-13 (1e-9 for ReLU, along whose kinks it zigzags).

Times are the least of several runs; compilation is apart, and so are our companion runs in `integrate`, since no peer
estimates its global error (`gradient_flow` always has one, and it counts). Ratios compare times at equal measured
error: above 1 ours is faster. "net" is the same without what one call costs before the first step (checks and set-up
in Python; measured on a span of a billionth), which is most of the time on problems of microseconds. A result that
claims success and is wrong in its first digits is marked WRONG.

    python benchmarks/ode.py [--quick | --full] [--only KIND ...] [--match NAME] [--rtol RTOL ...] [--limit SECONDS]
                              [--out FOLDER]

numbalsoda is built from source: it needs gfortran, and CMAKE_POLICY_VERSION_MINIMUM=3.5 for a recent cmake.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "oracle"))

from ode_nets import Net, nets  # noqa: E402
from ode_problems import DETEST, STIFF, Problem, error  # noqa: E402

import theorykit as tk  # noqa: E402
from theorykit._numerics.serial import to_json  # noqa: E402
from theorykit.flow import integrate  # noqa: E402

Array = NDArray[np.float64]
Solve = Callable[[float, float], tuple[Array | None, str]]
"""(rtol, end of the span) -> (y there, status)."""
WRONG = 1e-2  # error of a claimed success
REPEATS = 3
DENSE = 2000  # unknowns up to which contenders that factor Jacobians are asked
TIGHTEST_NET = 1e-8  # of large nets: the kinks of ReLU make tighter runs very long for everybody
FORK = multiprocessing.get_context("fork")
PACKAGES = ("numpy", "numba", "scipy", "scikit-sundae", "heyoka", "diffrax", "numbalsoda")
OURS = {
    "DETEST": ("auto", "tsit5", "dop853"),
    "stiff": ("auto", "radau5", "radau9", "radau13"),
    "net": ("auto", "dop853", "rkc2"),
}


# --- contenders: each returns a function of rtol and the end of the span ---


def ours(problem: Problem, method: str, **options: Any) -> Solve:
    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        result = integrate(
            problem.f, problem.y0, (0.0, end), method=method, rtol=rtol, atol=rtol * problem.scale,
            args=(problem.parameters,), companion=False, at=2, max_steps=10_000_000, **options,
        )  # fmt: skip
        return result.y_end, result.status if result.status != "reached_end" else "success"

    return solve


def frames(net: Net) -> Solve:
    """The same flow by `gradient_flow`, with its error estimate: its frames, or the reduction of a diagonal net."""

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        found = tk.gradient_flow(net.flow, tau_end=end, rtol=rtol, save=tk.SaveAt(num=2))
        unit, log_norm = found.parameters(-1)
        return math.exp(log_norm) * unit, found.status if found.status != "reached_end" else "success"

    return solve


def scipy_(problem: Problem, method: str) -> Solve:
    from scipy.integrate import solve_ivp

    f = problem.python()

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        tolerances = {"rtol": rtol, "atol": rtol * problem.scale}
        result = solve_ivp(f, (0.0, end), problem.y0, method, t_eval=(end,), **tolerances)  # no other step is kept
        return (result.y[:, -1], "success") if result.success else (None, "failed")

    return solve


def cvode(problem: Problem, method: str) -> Solve:
    from sksundae.cvode import CVODE

    p, f = problem.parameters, problem.f

    def rhs(t: float, y: Array, out: Array) -> None:
        f(t, y, p, out)

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        solver = CVODE(rhs, method=method, rtol=rtol, atol=rtol * problem.scale, max_num_steps=1_000_000)
        result = solver.solve(np.array([0.0, end]), problem.y0)
        return result.y[-1], "success" if result.success else "failed"

    return solve


def numbalsoda_(problem: Problem, method: str) -> Solve:
    import numbalsoda

    f, n, m = problem.f, problem.y0.size, problem.parameters.size

    @numba.cfunc(numbalsoda.lsoda_sig)
    def rhs(t, y, out, p):  # type: ignore[no-untyped-def]
        f(t, numba.carray(y, (n,)), numba.carray(p, (m,)), numba.carray(out, (n,)))

    call = numbalsoda.lsoda if method == "LSODA" else numbalsoda.dop853

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        times = np.array([0.0, end])
        y, good = call(rhs.address, problem.y0, times, problem.parameters, rtol=rtol, atol=rtol * problem.scale)
        return y[-1], "success" if good else "failed"

    return solve


def heyoka_(net: Net) -> Solve:
    """Taylor's method, for systems that are given as expressions."""
    import heyoka as hy

    assert net.taylor is not None
    system, start = net.taylor(hy), net.raw.y0
    cache: dict[float, Any] = {}

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        if rtol not in cache:
            cache[rtol] = hy.taylor_adaptive(system, start.copy(), tol=rtol, compact_mode=True)
        taylor = cache[rtol]
        taylor.time = 0.0
        taylor.state[:] = start
        outcome = taylor.propagate_until(end)[0]
        return taylor.state.copy(), "success" if outcome == hy.taylor_outcome.time_limit else "failed"

    return solve


def diffrax_(net: Net, method: str) -> Solve:
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    velocity, scale = net.jax(jnp), net.raw.scale
    solver = diffrax.Tsit5() if method == "Tsit5" else diffrax.Kvaerno5()

    @jax.jit
    def run(rtol: Any, end: Any, y0: Any) -> Any:
        result = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, theta, _: velocity(theta)), solver, 0.0, end, None, y0, max_steps=200_000,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol * scale),
            saveat=diffrax.SaveAt(t1=True), throw=False,
        )  # fmt: skip
        return result.ys[-1], result.result == diffrax.RESULTS.successful

    def solve(rtol: float, end: float) -> tuple[Array | None, str]:
        y, good = run(rtol, end, net.raw.y0)
        return np.asarray(y), "success" if bool(good) else "failed"

    return solve


def contenders(problem: Problem, kind: str, net: Net | None) -> dict[str, Callable[[], Solve]]:
    """Return how each contender is made ready; those whose package is not installed raise ImportError then."""
    made: dict[str, Callable[[], Solve]] = {
        f"theorykit {method}": lambda method=method: ours(problem, method) for method in OURS[kind]
    }
    names = {
        "DETEST": ("DOP853", "LSODA"),
        "stiff": ("LSODA", "Radau", "BDF"),
        "net": ("DOP853", "LSODA", "Radau", "BDF"),
    }[kind]
    if net is not None:
        made["theorykit gradient_flow"] = lambda: frames(net)
        if net.jacobian is not None:
            made["theorykit radau9, low rank"] = lambda: ours(problem, "radau9", jacobian=net.jacobian)
        if problem.y0.size > DENSE:
            names = ("RK45", "DOP853")  # the others form a Jacobian by differences
    for name in names:
        made[f"SciPy {name}"] = lambda name=name: scipy_(problem, name)
    if problem.y0.size <= DENSE:
        made["CVODE BDF"] = lambda: cvode(problem, "BDF")
        made["numbalsoda LSODA"] = lambda: numbalsoda_(problem, "LSODA")
    if kind != "stiff":
        made["CVODE Adams"] = lambda: cvode(problem, "Adams")
        made["numbalsoda DOP853"] = lambda: numbalsoda_(problem, "DOP853")
    if net is not None:
        made["diffrax Tsit5"] = lambda: diffrax_(net, "Tsit5")
        if problem.y0.size <= DENSE:
            made["diffrax Kvaerno5"] = lambda: diffrax_(net, "Kvaerno5")
        if net.taylor is not None:
            made["heyoka Taylor"] = lambda: heyoka_(net)
    return made


# --- measuring ---


Job = tuple[Problem, str, Net | None]


def measure(job: Job, tolerances: list[float], limit: float) -> list[dict[str, Any]]:
    """Return one row for each contender and tolerance."""
    problem, kind, net = job
    if problem.y0.size > DENSE:
        tolerances = [rtol for rtol in tolerances if rtol >= TIGHTEST_NET]
    list(apart(lambda: warmed(job), math.inf))
    (reference,) = apart(lambda: iter([reference_of(problem, net)]), math.inf)
    rows: list[dict[str, Any]] = []
    for name, ready in contenders(*job).items():
        row: dict[str, Any] = {"problem": problem.name, "kind": kind, "contender": name}
        ahead, tries = tolerances, 2  # one that was ended is asked once more, at the next tolerance
        while ahead and tries > 0:
            found = list(apart(lambda ready=ready, ahead=ahead: runs(problem, ready, ahead, reference), limit))
            rows += [row | {"rtol": rtol} | run for rtol, run in zip(ahead, found, strict=False)]
            ahead, tries = ahead[len(found) :], 0 if found[-1]["status"] == "not installed" else tries - 1
    return rows


def apart(work: Callable[[], Iterator[Any]], limit: float) -> Iterator[Any]:
    """Yield what a generator does in a process of its own, and a last row of why it ended early.

    It is killed where one item takes too long: no signal would stop compiled code. The first one has more time, for
    compilation.
    """
    here, there = FORK.Pipe(duplex=False)

    def send() -> None:
        warnings.simplefilter("ignore")  # the peers' overflow warnings
        for item in work():
            there.send(item)

    process = FORK.Process(target=send)
    process.start()
    there.close()
    patience = limit + 15.0
    try:
        while here.poll(min(patience, 1e6)):
            yield here.recv()
            patience = limit
        process.kill()
        yield {"status": "out of time"}
    except EOFError:
        process.join()
        if process.exitcode:
            yield {"status": "died"}


def warmed(job: Job) -> Iterator[str]:
    """Yield what of ours is compiled, for a minute on a fresh machine, and in its cache for the runs that are timed."""
    for name, ready in contenders(*job).items():
        if name.startswith("theorykit"):
            ready()(1e-3, 1e-9 * job[0].t_end)
            yield name


def runs(
    problem: Problem, ready: Callable[[], Solve], tolerances: list[float], reference: Array
) -> Iterator[dict[str, Any]]:
    """Yield one contender's status, error and times at each tolerance."""
    began = time.perf_counter()
    try:
        solve = ready()
    except ImportError:
        yield {"status": "not installed"}
        return
    with suppress(Exception):  # what it raises comes again below
        solve(tolerances[0], problem.t_end)
    first, call = time.perf_counter() - began, 0.0
    with suppress(Exception):
        call = least_time(lambda: solve(tolerances[0], 1e-9 * problem.t_end), REPEATS)
    for rtol in tolerances:
        yield {"first_s": first, "call_s": call} | one(problem, solve, rtol, reference)


def one(problem: Problem, solve: Solve, rtol: float, reference: Array) -> dict[str, Any]:
    """Return status, error and least time at one tolerance."""
    best = math.inf
    try:
        for _ in range(REPEATS):
            began = time.perf_counter()
            y, status = solve(rtol, problem.t_end)
            best = min(best, time.perf_counter() - began)
            if best > 1.0:
                break
    except Exception as trouble:
        return {"status": f"raised {type(trouble).__name__}"}
    wrong = math.inf if y is None or not np.all(np.isfinite(y)) else error(problem, y, reference)
    if status == "success" and not wrong < WRONG:
        status = "WRONG"
    return {"status": status, "error": wrong, "seconds": best}


def least_time(call: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds of several calls."""
    best = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def reference_of(problem: Problem, net: Net | None) -> Array:
    """Return y at the end: published, or from a much tighter run of an independent solver."""
    if problem.reference is not None:
        return problem.reference
    if net is not None and net.reference is not None:
        return net.reference(problem.t_end)
    if net is not None and net.taylor is not None:
        y, status = heyoka_(net)(1e-18, problem.t_end)
    else:
        tightest = net.tightest if net is not None else 1e-13
        y, status = scipy_(problem, "DOP853")(
            max(tightest, 1e-13 if problem.y0.size <= DENSE else 1e-10), problem.t_end
        )
    assert status == "success", f"reference of {problem.name}: {status}"
    assert y is not None
    return y


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each problem and peer the geometric mean of peer's seconds over ours at equal error."""
    table = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        own = [row for row in rows if row["problem"] == problem]
        mine = [row for row in own if row["contender"].startswith("theorykit")]
        raw = [row for row in mine if row["contender"] != "theorykit gradient_flow"]
        for peer in dict.fromkeys(row["contender"] for row in own if row not in mine):
            theirs = [row for row in own if row["contender"] == peer]
            entry: dict[str, Any] = {"problem": problem, "kind": own[0]["kind"], "peer": peer}
            entry["raw"], entry["points"] = compared(raw, theirs, seconds)
            entry["raw net"], _ = compared(raw, theirs, net_seconds)
            entry["all"], _ = compared(mine, theirs, seconds)
            entry["trouble"] = ", ".join(sorted({row["status"] for row in theirs} - {"success"}))
            table.append(entry)
    return table


def seconds(row: dict[str, Any]) -> float:
    return float(row["seconds"])


def net_seconds(row: dict[str, Any]) -> float:
    """Return the seconds without those of a call that integrates nothing (at least a tenth of all)."""
    return max(row["seconds"] - row["call_s"], 0.1 * row["seconds"])


def compared(
    mine: list[dict[str, Any]], theirs: list[dict[str, Any]], cost: Callable[[dict[str, Any]], float]
) -> tuple[float, int]:
    """Return the geometric mean over their runs of their cost over ours at equal error, and how many runs."""
    best = frontier(mine, cost)
    good = [row for row in theirs if row.get("status") == "success" and row["error"] > 0.0]
    logs = [math.log(cost(row)) - cost_at(best, row["error"]) for row in good if best]
    return (math.exp(sum(logs) / len(logs)) if logs else math.nan), len(logs)


def frontier(rows: list[dict[str, Any]], cost: Callable[[dict[str, Any]], float]) -> list[tuple[float, float]]:
    """Return (log error, log cost) of the runs that no other beats in both, from large errors to small."""
    points = sorted((cost(row), row["error"]) for row in rows if row.get("status") == "success")
    best: list[tuple[float, float]] = []
    for spent, wrong in points:
        if not best or math.log(max(wrong, 1e-17)) < best[-1][0]:
            best.append((math.log(max(wrong, 1e-17)), math.log(spent)))
    return best


def cost_at(points: list[tuple[float, float]], wrong: float) -> float:
    """Return our log cost for an error: on the frontier between two runs, at its ends those of the end."""
    errors, costs = [point[0] for point in points][::-1], [point[1] for point in points][::-1]
    return float(np.interp(math.log(wrong), errors, costs))


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


COLUMNS = ("raw", "raw net", "all")


def report(rows: list[dict[str, Any]], table: list[dict[str, Any]]) -> str:
    """Return the ratios, a line a problem and peer, then the means over each kind, and what failed."""
    lines = [
        "peer's seconds over ours at equal error, above 1 ours is faster. raw: our integrators on the same right-hand",
        "side; raw net: without the cost of a call; all: with gradient_flow (frames, reductions, error estimate)",
        "",
        f"{'problem':32s} {'peer':20s} " + " ".join(f"{name:>8s}" for name in COLUMNS) + "  trouble",
    ]
    for r in table:
        figures = " ".join(f"{r[name]:8.2f}" for name in COLUMNS)
        lines.append(f"{r['problem']:32s} {r['peer']:20s} {figures}  {r['trouble']}")
    lines.append("\ngeometric means over the problems")
    for kind in dict.fromkeys(r["kind"] for r in table):
        for peer in dict.fromkeys(r["peer"] for r in table if r["kind"] == kind):
            own = [r for r in table if r["kind"] == kind and r["peer"] == peer and r["points"]]
            if own:
                means = [math.exp(float(np.mean([math.log(r[name]) for r in own]))) for name in COLUMNS]
                figures = " ".join(f"{mean:8.2f}" for mean in means)
                lines.append(f"{kind:32s} {peer:20s} {figures}  {len(own)} problems")
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
    parser.add_argument("--only", nargs="*", choices=list(OURS), default=list(OURS), help="kinds of problems")
    parser.add_argument("--match", default="", help="only problems whose name contains this")
    parser.add_argument("--rtol", nargs="*", type=float, help="tolerances (full: 1e-3 to 1e-12, quick: every other)")
    parser.add_argument("--limit", type=float, help="seconds that one run may take (full: 60, quick: 10)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench-ode")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    detest, stiff = DETEST, STIFF
    tolerances, limit = [10.0**-k for k in range(3, 13)], 60.0
    if not arguments.full:
        detest, stiff = [p for p in DETEST if p.name[1] in "24"], STIFF[:4]
        tolerances, limit = [1e-4, 1e-6, 1e-8, 1e-10], 10.0
    tolerances, limit = arguments.rtol or tolerances, arguments.limit or limit
    jobs: list[Job] = [(p, "DETEST", None) for p in detest]
    jobs += [(p, "stiff", None) for p in stiff]
    jobs += [(net.raw, "net", net) for net in nets(full=arguments.full)]
    rows: list[dict[str, Any]] = []
    for problem, kind, net in jobs:
        if kind not in arguments.only or arguments.match not in problem.name:
            continue
        began = time.perf_counter()
        rows += measure((problem, kind, net), tolerances, limit)
        print(f"{kind} {problem.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        text = write(rows, arguments.out)  # a run that is ended early has what it measured
    print(json.dumps(versions()))
    print(text)
    return 0


def write(rows: list[dict[str, Any]], folder: Path) -> str:
    """Write rows, ratios, report and diagrams; return the report."""
    table = ratios(rows)
    text = report(rows, table)
    (folder / "ode.json").write_text(to_json({"versions": versions(), "rows": rows, "ratios": table}))
    (folder / "ode.txt").write_text(text + "\n")
    plot(rows, folder)
    return text


if __name__ == "__main__":
    sys.exit(main())
