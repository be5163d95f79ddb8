"""``theorykit new``: what it writes runs as it is, and its control and its broken version are refuted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import theorykit as tk
from theorykit.checking import discover, judge_broken

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("claim", "name", "kind"),
    [
        ("mine.early", "early.py", "Early"),
        ("a2024.thm-3.4-global", "thm_3_4_global.py", "Thm34Global"),
        ("a.3-b", "3_b.py", "Claim3B"),
    ],
)
def test_the_file_is_a_claim_of_that_name(run: Run, tmp_path: Path, claim: str, name: str, kind: str) -> None:
    folder = tmp_path / "my checks"
    code, out, err = run("new", claim, "--path", folder)
    assert (code, err) == (0, "")
    assert out == f"wrote {folder / name}\ntry it: theorykit verify {claim} --path '{folder}'\n"
    found = discover([claim], [folder])
    assert [(item.id, item.__name__) for item in found.claims] == [(claim, kind)]
    assert found.broken == found.warnings == ()


@pytest.mark.slow
def test_it_runs_and_its_control_and_its_broken_version_are_refuted(run: Run, tmp_path: Path) -> None:
    assert run("new", "mine.early", "--path", tmp_path).code == 0
    for seed in (0, 1):
        result = tk.verify("mine.early", paths=[tmp_path], seed=seed, instances=1)
        assert result.exit_code == 0, result.table()
        assert {(row.verdict, row.control.verdict) for row in result.results} == {("supported", "refuted")}
    (claim,) = discover(["mine.early"], [tmp_path]).claims
    assert {verdict for _, _, verdict in judge_broken(claim)} == {"refuted"}


def test_it_replaces_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("mine", encoding="utf-8")
    code, out, err = run("new", "mine.early", "--path", tmp_path)
    assert (code, out) == (2, "")
    assert "early.py; wanted an id whose file is not there" in err
    assert (tmp_path / "early.py").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "claim", ["early", "Mine.early", "mine.", "mine.early/..", "../mine.x", "mine.a b", "", "mine.é"]
)
def test_an_id_that_is_none_is_refused(run: Run, tmp_path: Path, claim: str) -> None:
    code, out, err = run("new", claim, "--path", tmp_path)
    assert (code, out) == (2, "")
    assert "wanted an id, suite.name in lower case" in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    code, _, err = run("new", "mine.early", "--path", tmp_path / "file" / "folder")
    assert code == 2
    assert "wanted a folder that can be written" in err
