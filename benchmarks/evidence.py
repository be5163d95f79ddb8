"""Every count that the tests only sample, as tables in out/evidence: `make evidence`.

1. flows against SciPy on the raw ODE, 50 random problems;
2. programs of every kind against other solvers, 200 random instances each, with 1 000 changed certificates
   that must be refused, the exact proofs of infeasible ones, and answers known beforehand;
3. models against loops in many digits, flows and kernels of random small nets against PyTorch;
4. error estimates of the general integrators on 1 000 random problems, of flows of general models on 1 000 random nets;
   what leaves such flows as they are: another start on the way, another frame, samples permuted, inputs turned, scaled;
5. verdicts on synthetic ladders, slacks and frequencies of known truth, 1 000 of each kind (docs/calibration.md);
6. every claim of the ledger broken on purpose and refuted; the same bits on one job and on two; other seeds;
7. the whole suite in profile full: 20 instances a family, ladders to log(alpha) = 2560;
8. figures 1a and 1b at full size;
9. bad input: what each command line prints, and its exit code.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("oracle", "conformance")]

_FLOWS, _INSTANCES, _TAMPERED, _INFEASIBLE, _PROBLEMS, _NETS, _LADDERS, _SEEDS = 50, 200, 1000, 100, 1000, 20, 1000, 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "evidence")
    parser.add_argument("--only", choices=sorted(PARTS), nargs="*", help="parts to run (default: all)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.only or PARTS:
        began = time.perf_counter()
        good, text = PARTS[name](arguments.out)
        (arguments.out / f"{name}.txt").write_text(text)
        word = "as it must be" if good else "NOT AS IT MUST BE"
        print(f"== {name}: {word} ({time.perf_counter() - began:.0f} s)\n{text}\n", flush=True)
        failed += [] if good else [name]
    return 1 if failed else 0


def flows(out: Path) -> tuple[bool, str]:
    """Compare flows with SciPy on the raw 2d-dimensional ODE; the largest error must be below 1e-7."""
    import flow_agreement

    rows = flow_agreement.run(_FLOWS, 0)
    return max(row["error"] for row in rows) <= 1e-7, _table(rows)


def norms(out: Path) -> tuple[bool, str]:
    """Margins and interpolation in every norm: agreement, tampering, exact refutations, uniqueness."""
    import norm_programs

    agreement = norm_programs.agreement(_INSTANCES)
    tampered = norm_programs.tampering(_TAMPERED)
    infeasible = [row for row in norm_programs.infeasible(_INFEASIBLE) if row["proved"] is not None]  # None: feasible
    unique = norm_programs.uniqueness(_INSTANCES)
    widest = {"proved": (0.0, 1e-5), "disproved": (1e-3, math.inf), "unknown": (0.0, math.inf)}
    good = (
        all(row["gap"] <= 1e-9 and row["difference"] <= 1e-6 for row in agreement)
        and all(row["rejected"] for row in tampered)
        and all(row["proved"] for row in infeasible)
        and all(widest[row["said"]][0] <= row["width"] <= widest[row["said"]][1] for row in unique)
    )
    return good, "\n\n".join(
        [
            _extremes("agreement with other solvers", agreement, by="program"),
            f"changed or stale certificates refused: {_share(tampered, 'rejected')}",
            f"infeasible programs refuted in exact arithmetic: {_share(infeasible, 'proved')}",
            f"uniqueness: {dict(Counter(row['said'] for row in unique))}, none contradicted by a search",
        ]
    )


def kernels(out: Path) -> tuple[bool, str]:
    """Kernel machines, interpolants, quasinorm margins: agreement, brute force, tampering."""
    import kernel_programs

    machines = kernel_programs.machines(_INSTANCES)
    tiny, interpolants = kernel_programs.tiny_machines(_INSTANCES), kernel_programs.interpolants(_INSTANCES)
    tampered, quasinorms = kernel_programs.tampered(_TAMPERED), kernel_programs.quasinorms(_INFEASIBLE)
    good = all(row["difference"] <= 1e-9 for row in [*machines, *tiny, *interpolants])
    good = good and all(row["genuine"] and row["rejected"] for row in tampered)
    good = good and all(row["ratio"] <= 1.0 + 1e-12 and row["strict"] and row["bounded"] for row in quasinorms)
    best = sum(row["ratio"] > 1.0 - 1e-9 for row in quasinorms)
    return good, "\n\n".join(
        [
            *(
                f"{title}: {len(rows)}, largest difference {max(row['difference'] for row in rows):.1e}"
                for title, rows in (
                    ("machines against Clarabel", machines),
                    ("tiny machines against every active set", tiny),
                    ("interpolants", interpolants),
                )
            ),
            f"changed certificates refused: {_share(tampered, 'rejected')}; true ones: {_share(tampered, 'genuine')}",
            f"quasinorm margins: the global optimum found in {best} of {len(quasinorms)} (the search is local)",
        ]
    )


def nuclear(out: Path) -> tuple[bool, str]:
    """Nuclear-norm programs: agreement with other solvers, tampering."""
    import nuclear_agreement

    rows, tampered = (
        nuclear_agreement.run(len(nuclear_agreement.KINDS) * _INSTANCES, 0),
        nuclear_agreement.tampered(_TAMPERED, 0),
    )
    misses = [name for name in rows[0] if name.endswith("miss")]
    good = all(row["gap"] <= 1e-9 and not any(row[name] for name in misses) for row in rows)
    good = good and all(row["true"] and row["rejected"] for row in tampered)
    return good, (
        f"{_table(rows)}\n\nchanged certificates refused: {_share(tampered, 'rejected')}; "
        f"true ones accepted: {_share(tampered, 'true')}"
    )


def known(out: Path) -> tuple[bool, str]:
    """Answers known beforehand: completion of low-rank matrices, l1-margins of sparse signs, orthonormal features."""
    import known_answers

    matrices = known_answers.completions(_INFEASIBLE)
    margins, features = known_answers.sparse_margins(_FLOWS), known_answers.orthonormal(_INFEASIBLE)
    good = all(row["recovered"] and row["refuted"] for row in matrices)
    good = good and all(row["difference"] < 1e-12 for row in [*margins, *features])
    return good, "\n\n".join(
        [
            f"low-rank matrices, 70 % seen: recovered and proved the only optimum: {_share(matrices, 'recovered')}; "
            f"8 % seen: proved to be no optimum: {_share(matrices, 'refuted')}",
            _extremes("l1-margins of sparse signs against 1/k (relative)", margins, by="k"),
            _extremes("K1 of orthonormal features against the sum of y_i phi_i", features, by="n"),
        ]
    )


def models(out: Path) -> tuple[bool, str]:
    """Every model, activation and depth against loops in many digits."""
    import model_table

    rows = model_table.run(depth=5, seed=0)
    errors = [name for name, value in rows[0].items() if isinstance(value, float)]
    return all(row[name] < 1e-11 for row in rows for name in errors), _table(rows)


def pytorch(out: Path) -> tuple[bool, str]:
    """Flows of random small nets against gradient descent of small step in PyTorch, their kernels against autograd."""
    try:
        import torch_agreement
    except ImportError:
        return True, "not run: PyTorch is not installed (pip install torch)"
    rows = torch_agreement.run(_NETS, 0)
    slopes = [row["slope"] for row in rows]
    good = all(abs(slope - 1.0) < 0.1 for slope in slopes) and all(row["ntk"] < 1e-12 for row in rows)
    return good, f"{_table(rows)}\n\nerror per step size: slope from {min(slopes):.3f} to {max(slopes):.3f}"


def integrators(out: Path) -> tuple[bool, str]:
    """Error estimates of the general integrators against references at 1e-13: they must cover 95 % of the errors."""
    import ode_error_agreement

    rows = ode_error_agreement.run(_PROBLEMS)
    names = ("covers", "covers the statistic")
    shares = {name: sum(float(row[name]) for row in rows) / len(rows) for name in names}
    return min(shares.values()) >= 0.95, "\n".join(
        f"{name}: {share:.4f} of {len(rows)}" for name, share in shares.items()
    )


def coverage(out: Path) -> tuple[bool, str]:
    """Error estimates of flows of general models against SciPy's LSODA at 1e-11: to cover 95 % of the errors."""
    import model_flow_coverage

    rows = list(model_flow_coverage.run(_PROBLEMS))
    shares = model_flow_coverage.shares(rows)
    missed = [row for row in rows if not all(row[name] for name in shares)]
    lines = [f"{name}: {share:.4f} of {len(rows)}" for name, share in shares.items()]
    return min(shares.values()) >= 0.95, "\n".join([*lines, *([_table(missed)] if missed else [])])


def relu(out: Path) -> tuple[bool, str]:
    """Small ReLU nets with samples that no unit sees, to log alpha = 10 000: all flows must come to their end."""
    import relu_flows

    rows = list(relu_flows.run(_SEEDS))
    lines = []
    for log_alpha in relu_flows.SCALES:
        own = [row for row in rows if row["log_alpha"] == log_alpha]
        ended = sum(row["status"] == row["companion"] == "reached_end" for row in own)
        slowest = max(row["seconds"] for row in own)
        lines.append({"log_alpha": log_alpha, "flows": len(own), "ended": ended, "slowest, s": slowest})
    return all(line["ended"] == line["flows"] for line in lines), f"{_table(lines)}\n\n{_table(rows)}"


def invariances(out: Path) -> tuple[bool, str]:
    """Two ways to one flow, equal in exact arithmetic: apart by at most the sum of both estimates in 95 %."""
    import flow_invariances

    rows = list(flow_invariances.run(_NETS))
    within = sum(row["gap / estimates"] <= 1.0 for row in rows) / len(rows)
    good = within >= 0.95 and max(row["gap / rtol"] for row in rows) < 1e3
    drifts = _extremes("drifts of identities", rows, by="model")
    return good, f"{_extremes('gaps', rows, by='invariance')}\n\n{drifts}\n\nwithin the estimates: {within:.4f}"


def calibration(out: Path) -> tuple[bool, str]:
    """Verdicts on evidence of known truth: at most 1 % wrong, 20 % open, where the form is one of those declared."""
    import verdict_calibration

    rows = verdict_calibration.run(_LADDERS)
    (out / "calibration.md").write_text(verdict_calibration.page(rows, _LADDERS))
    return not verdict_calibration.faults(rows), _table(rows)


def ledger(out: Path) -> tuple[bool, str]:
    """Every claim: controls and broken versions refuted; same seed, same bits on one and two jobs; other seeds."""
    import ledger

    import theorykit as tk

    rows = ledger.broken()
    one, two = (tk.verify(jobs=jobs) for jobs in (1, 2))
    first, second = ledger.numbers(one), ledger.numbers(two)
    others = {seed: ledger.differences(two, tk.verify(seed=seed, jobs=2)) for seed in (1, 2)}
    good = all(row["verdict"] == "refuted" for row in rows) and first == second and not any(others.values())
    return good, "\n\n".join(
        [
            _table(rows),
            f"same numbers on one job and on two: {first == second} ({len(first)} results)",
            *(
                f"verdicts of seed {seed} other than those of seed 0: {found or 'none'}"
                for seed, found in others.items()
            ),
        ]
    )


def verdicts(out: Path) -> tuple[bool, str]:
    """Run the suite in profile full."""
    import theorykit as tk

    result = tk.verify(profile="full", seed=0, jobs=2, store=out / "results.sqlite")  # goes on where it was
    result.to_json(out / "full.json")
    result.to_html(out / "full.html")
    lines = [result.table(110)]
    for item in result.results:
        ratio = item.summary.get("ℓ1-margin ratio at the largest α")
        if ratio:
            lines.append(f"{item.claim} ({item.loss}): ℓ1-margin ratio at the largest α over instances: {ratio}")
    return result.exit_code == 0, "\n".join(lines)


def figures(out: Path) -> tuple[bool, str]:
    """Simulate figures 1a and 1b at full size and judge them in profile paper."""
    import theorykit as tk

    lines = []
    for name in ("fig-1a", "fig-1b"):
        result = tk.experiments.run_experiment(tk.experiments.load_experiment(name), out=out / name)
        summary = result.summary
        lines.append(f"{name}: flow {summary['wall_s']:.2f} s, everything {summary['wall_total_s']:.0f} s")
        lines.append(f"  moments {json.dumps(summary['moments'])}")
        lines.append(f"  events  {json.dumps(summary['events'])}")
    judged = tk.verify("lyu2024.fig-1*", profile="paper", seed=0)
    return judged.exit_code == 0, "\n".join([*lines, judged.table(110)])


def bad_input(out: Path) -> tuple[bool, str]:
    """Run every bad command line; each must give exit code 2 and one line on stderr."""
    folder = out / "bad"
    folder.mkdir(exist_ok=True)
    (folder / "truncated.npz").write_bytes(b"PK\x03\x04 not an archive")
    files = {
        "nan.csv": "a,y\nnan,1\n2,-1\n",
        "labels.csv": "a,y\n1,3\n2,-1\n",
        "empty.csv": "a,y\n",
        "twice.csv": "a,y\n1,1\n1,-1\n",
        "syntax.toml": "[data\n",
        "key.toml": '[data]\nkind = "sparse_sign"\nn = 8\nd = 20\ndd = 3\n',
        **{
            f"{name}.toml": f'[data]\nkind = "csv"\npath = "{name}.csv"\n[problem]\nalpha = 10.0\nweight_decay = 0.01\n'
            for name in ("nan", "labels", "empty", "twice")
        },
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "npz.toml").write_text(
        '[data]\nkind = "npz"\npath = "truncated.npz"\n[problem]\nalpha = 10.0\nweight_decay = 0.01\n'
    )
    small = ["--set", "data.n=8", "--set", "data.d=40", "--set", "data.n_test=10"]
    commands = [
        ["simulate", "fig-1c"],
        ["simulate", str(folder / "missing.toml")],
        *(["simulate", str(file)] for file in sorted(folder.glob("*.toml"))),
        ["simulate", "fig-1a", *small, "--set", "problem.weight_decay=-0.1"],
        ["simulate", "fig-1a", *small, "--set", "problem.weight_decay=0.0"],
        ["simulate", "fig-1a", *small, "--set", "problem.alpha=0.0"],
        ["simulate", "fig-1a", *small, "--set", "model.degree=1"],
        ["simulate", "fig-1a", *small, "--set", "model.degree=2.5"],
        ["simulate", "fig-1a", *small, "--set", "problem.loss='logistik'"],
        ["simulate", "fig-1a", *small, "--out", "/proc/theorykit"],
        ["simulate", "fig-1a", "--sett", "x=1"],
        ["simulate", "fig-1a", "--resume"],
        ["simulate", "fig-3", "--set", "data.fraction=1e-9"],
        ["simulate", "fig-3", "--set", "data.kind=modular", "--set", "data.p=1"],
        ["simulate", "fig-3", "--set", "model.kind=mlp"],
        ["verify", "lyu2024.thm-3.5x"],
        ["verify", "--profile", "fast"],
        ["verify", "--path", str(folder / "nowhere")],
        ["verify", "--json", "/proc/no/file.json"],
        ["info", "lyu2024.thm-34"],
        ["veryfy"],
    ]
    rows = [_bad(command) for command in commands]
    return all(row["code"] == 2 and row["lines"] == 1 for row in rows), "\n".join(
        f"[{row['code']}] theorykit {row['command']}\n      {row['message']}" for row in rows
    )


def _bad(command: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "theorykit", *command], capture_output=True, text=True, check=False)
    message = done.stderr.strip().replace(str(ROOT), ".")
    return {
        "command": " ".join(command).replace(str(ROOT), "."),
        "code": done.returncode,
        "lines": len(message.splitlines()),
        "message": message,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned text."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    names = list(rows[0])
    cells = [[cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in [names, *cells]]
    return "\n".join(lines)


def _share(rows: list[dict[str, Any]], name: str) -> str:
    return f"{sum(bool(row[name]) for row in rows)} of {len(rows)}"


def _extremes(title: str, rows: list[dict[str, Any]], by: str) -> str:
    """Return the number and the largest values of each kind of row."""
    numbers = [name for name, value in rows[0].items() if isinstance(value, float)]
    lines = [
        {by: kind, "count": len(own)} | {f"largest {name}": max(row[name] for row in own) for name in numbers}
        for kind in dict.fromkeys(row[by] for row in rows)
        for own in [[row for row in rows if row[by] == kind]]
    ]
    return f"{title}\n{_table(lines)}"


PARTS: dict[str, Callable[[Path], tuple[bool, str]]] = {
    "flows": flows,
    "norms": norms,
    "kernels": kernels,
    "nuclear": nuclear,
    "known": known,
    "models": models,
    "pytorch": pytorch,
    "integrators": integrators,
    "coverage": coverage,
    "relu": relu,
    "invariances": invariances,
    "calibration": calibration,
    "ledger": ledger,
    "verdicts": verdicts,
    "figures": figures,
    "bad_input": bad_input,
}

if __name__ == "__main__":
    sys.exit(main())
