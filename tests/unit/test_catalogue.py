"""The catalogue of claims: what a recorded run adds to it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

import theorykit as tk

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_catalogue.py"


@pytest.fixture(scope="module")
def catalogue() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_catalogue", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_recorded_run_shows_its_numbers_and_a_ladder(catalogue: ModuleType, tmp_path: Path) -> None:
    result = tk.verify("lyu2024.cor-3.6", "lyu2024.lem-c1", instances=1, seed=3)
    run, kept, page = tmp_path / "run.json", tmp_path / "results" / "run.json", tmp_path / "api" / "claims.md"
    result.to_json(run)
    catalogue.record(run, kept)
    assert kept.stat().st_size < run.stat().st_size
    catalogue.write_catalogue(page, kept)
    text = page.read_text(encoding="utf-8")
    assert "a recorded run: profile quick, seed 3" in text
    own = text.split("## lyu2024.cor-3.6\n")[1].split("\n## ")[0]
    rows = [line for line in own.splitlines() if line.startswith("| as-printed")]
    assert [("✓ supported" in row, "refuted | 1 |" in row) for row in rows] == [(True, True)] * 2
    assert "lyu2024.cor-3.6.svg" in own
    assert "<svg" in (page.parent / "lyu2024.cor-3.6.svg").read_text(encoding="utf-8")
    assert not (page.parent / "lyu2024.lem-c1.svg").exists()
    assert json.loads(kept.read_text(encoding="utf-8"))["results"][0]["ladder"]
    assert all("detail" not in row for row in json.loads(kept.read_text(encoding="utf-8"))["results"])


def test_without_a_recorded_run_the_page_says_so(catalogue: ModuleType, tmp_path: Path) -> None:
    catalogue.write_catalogue(tmp_path / "claims.md", tmp_path / "none.json")
    assert "No run is recorded." in (tmp_path / "claims.md").read_text(encoding="utf-8")
