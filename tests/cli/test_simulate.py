"""`theorykit simulate`: what it prints, writes and returns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import theorykit.experiments
from theorykit._numerics.errors import FlowError

Run = Callable[..., Any]
SMALL = [
    word for setting in ("data.n=16", "data.d=200", "data.n_test=100", "flow.points=20") for word in ("--set", setting)
]
COLUMNS = (
    "t,log_t,tau,s,train_loss,log_train_loss,test_loss,train_accuracy,test_accuracy,norm,margin,cos_kernel,cos_rich"
)


def test_a_small_preset_prints_its_findings(run: Run) -> None:
    code, out, err = run("simulate", "fig-1a", *SMALL)
    assert (code, err) == (0, "")
    assert out.startswith("fig-1a (paper): ")
    assert "n = 16, d = 200" in out
    for wanted in ("kernel predictor: margin", "rich predictor: margin", "train_accuracy", "early (s = ", "late (s = "):
        assert wanted in out
    assert "wrote" not in out


def test_out_holds_the_files_of_the_contract(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    code, out, _ = run("simulate", "fig-1a", *SMALL, "--confirm", "--out", folder)
    assert code == 0
    names = {"trajectory.csv", "figure.svg", "figure.png", "summary.json"}
    assert {file.name for file in folder.iterdir()} == names
    assert {Path(line.removeprefix("wrote ")).name for line in out.splitlines() if line.startswith("wrote ")} == names
    assert "largest errors, confirmed: " in out
    with open(folder / "trajectory.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == COLUMNS.split(",")
    assert len(rows) >= 20
    assert all(len(row) == len(rows[0]) for row in rows)
    summary = json.loads(
        (folder / "summary.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name)
    )
    assert {"preset", "settings", "events", "diagnostics", "wall_s", "wall_total_s"} <= set(summary)
    assert summary["settings"]["data"]["d"] == 200


def test_a_flow_that_ended_early_is_shown_and_exits_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up() -> None:
        raise FlowError("the step became too small;\nloosen rtol")

    summary = {
        "preset": "fig-1a",
        "source": "preset",
        "profile": "paper",
        "settings": {"model": {"kind": "diagonal"}},
        "data": {"name": "sparse", "n": 1, "d": 2},
        "status": "step-too-small",
        "predictors": {"kernel": {"margin": [0.5, 0.5], "test_accuracy": None}},
        "events": [{"name": "test_accuracy", "direction": -1, "level": 0.99, "s": 0.5, "tau": 2.0, "error": 1e-7}],
        "not_crossed": [{"name": "test_accuracy", "level": 0.6}],
        "errors": {"cos_kernel": 1.25e-7, "norm": 3.0},
        "confirmed": False,
        "moments": {"late": None, "end": {"s": 0.5, "test_accuracy": 0.75, "cos_kernel": 0.5}},
        "notes": ["a note"],
        "wall_s": 0.5,
        "wall_total_s": 1.5,
    }
    partial = SimpleNamespace(summary=summary, files=(), raise_for_status=give_up)
    monkeypatch.setattr(theorykit.experiments, "run_experiment", lambda *_, **__: partial)
    code, out, err = run("simulate", "fig-1a")
    assert code == 3
    assert out.splitlines() == [
        "fig-1a (paper): sparse, n = 1, d = 2",
        "status: step-too-small",
        "kernel predictor: margin 0.5",
        "test_accuracy falls through 0.99 at s = 0.5, tau = 2 ± 1e-07",
        "test_accuracy does not cross 0.6",
        "late: not reached",
        "end (s = 0.5): test_accuracy 0.75, cos_kernel 0.5",
        "largest errors: cos_kernel 1.2e-07",
        "a note",
        "flow 0.50 s, everything 1.5 s",
    ]
    assert err == "theorykit: warning: the step became too small; loosen rtol\n"


def test_a_short_flow_says_what_it_did_not_reach(run: Run) -> None:
    code, out, err = run("simulate", "fig-1a", *SMALL, "--set", "flow.s_end=0.5")
    assert (code, err) == (0, "")
    assert "early: not reached\nlate: not reached\n" in out


def test_a_crossing_of_the_start_up_is_no_event_in_s(run: Run) -> None:
    out = run("simulate", "digits-diagonal", "--profile", "quick").out
    assert "cos_kernel is above 0.99 from the start (s = " in out
    assert "cos_kernel falls through 0.99 at s = 0.98" in out


def test_an_own_regression_finds_both_interpolants(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(size=(12, 40)), rng.normal(size=(30, 40))
    w = np.zeros(40)
    w[:2] = 1.0, -2.0
    np.savez(tmp_path / "points.npz", X=X, y=X @ w, X_test=X_test, y_test=X_test @ w)
    (tmp_path / "own.toml").write_text(
        "[data]\nkind = 'npz'\npath = 'points.npz'\ntask = 'regression'\n"
        "[problem]\nloss = 'squared'\nlog_alpha = 40.0\nlog_weight_decay = -40.0\n"
        "[flow]\npoints = 20\n[events]\ncos_rich = [0.99]\ntest_loss = [1e-3, 1e6]\n",
        encoding="utf-8",
    )
    code, out, err = run("simulate", tmp_path / "own.toml", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.startswith("own (as in the file): ")
    assert "test_loss does not cross 1e+06" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    early, late = (summary["moments"][name] for name in ("early", "late"))
    kernel = X.T @ np.linalg.solve(X @ X.T, X @ w)
    assert summary["predictors"]["kernel"]["least_norm"] == pytest.approx([np.linalg.norm(kernel)] * 2, rel=1e-9)
    assert summary["predictors"]["kernel"]["test_loss"] == pytest.approx(np.mean((X_test @ (kernel - w)) ** 2))
    assert summary["predictors"]["rich"]["least_norm"] == pytest.approx([3.0, 3.0], rel=1e-9)
    assert early["distance_kernel"] < 1e-6 < 0.1 < early["distance_rich"]
    assert late["distance_rich"] < 1e-2 < 0.1 < late["distance_kernel"]
    assert late["train_loss"] < 1e-20 < 1e-3 < early["test_loss"]
    assert {"distance_kernel", "distance_rich"} <= set(summary["errors"])


def test_targets_without_an_interpolant_are_a_note(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,1\n2,1\n", encoding="utf-8")
    (tmp_path / "z.csv").write_text("a,y\n1,0\n", encoding="utf-8")
    for name, says in (("t", "no predictors: "), ("z", "all targets are 0")):
        (tmp_path / "own.toml").write_text(
            f"[data]\nkind = 'csv'\npath = '{name}.csv'\ntask = 'regression'\n"
            "[problem]\nloss = 'squared'\nlog_alpha = 5.0\nlog_weight_decay = -5.0\n",
            encoding="utf-8",
        )
        code, out, _ = run("simulate", tmp_path / "own.toml", "--set", "flow.points=5")
        assert (code, says in out) == (0, True)
