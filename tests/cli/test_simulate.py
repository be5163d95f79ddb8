"""`theorykit simulate`: what it prints, writes and returns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        "profile": "paper",
        "data": {"name": "sparse", "n": 1, "d": 2},
        "status": "step-too-small",
        "predictors": {"kernel": {"margin": [0.5, 0.5], "test_accuracy": None}},
        "events": [{"name": "test_accuracy", "direction": -1, "level": 0.99, "s": 0.5, "tau": 2.0, "error": 1e-7}],
        "errors": {"cos_kernel": 1.25e-7},
        "confirmed": False,
        "moments": {"end": {"s": 0.5, "test_accuracy": 0.75}},
        "notes": ["a note"],
        "wall_s": 0.5,
        "wall_total_s": 1.5,
    }
    partial = SimpleNamespace(summary=summary, files=(), trajectory=SimpleNamespace(raise_for_status=give_up))
    monkeypatch.setattr(theorykit.experiments, "run_experiment", lambda *_, **__: partial)
    code, out, err = run("simulate", "fig-1a")
    assert code == 3
    assert out.splitlines() == [
        "fig-1a (paper): sparse, n = 1, d = 2",
        "status: step-too-small",
        "kernel predictor: margin 0.5",
        "test_accuracy falls through 0.99 at s = 0.5, tau = 2 ± 1e-07",
        "end (s = 0.5): test_accuracy 0.75",
        "largest errors: cos_kernel 1.2e-07",
        "a note",
        "flow 0.50 s, everything 1.5 s",
    ]
    assert err == "theorykit: warning: the step became too small; loosen rtol\n"
