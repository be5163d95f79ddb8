"""Finished results survive whatever ends a run, come back with every bit, and only where nothing has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import theorykit as tk
from theorykit.checking import VerificationResult
from theorykit.checking.store import Store

COUNTED = '''
"""A claim that notes every measurement in a file."""

import time
from pathlib import Path

from theorykit.checking import Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet

LOG = Path("LOG")


class Counted(Claim):
    """a tends to 2."""

    id, title, kind, source = "toy.counted", "Counted", "limit", Source("toy", "Theorem 1", "@misc{toy}")
    expansion = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))
    draws = {"quick": 4, "full": 4}

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 4)), [1.0, -1.0, 1.0])
        yield Instance(DiagonalNet(4), data, "exponential")

    def measure(self, instance, problem, variant):
        return self._near(instance, problem, 2.0)

    def controls(self):
        return (Control("a tends to 2.5", lambda instance, problem: self._near(instance, problem, 2.5)),)

    def summarise(self, instance, problem):
        with LOG.open("a") as log:
            log.write(f"{instance.data.fingerprint[:8]}\\n")
        time.sleep(PAUSE)
        return {"odd": float("nan"), "third": 1.0 / 3.0}

    def traces(self, instance, problem):
        return [{"label": "a", "s": instance.data.X[0], "curves": {"a": instance.data.X[1]}, "marks": {"T": 1.0}}]

    def _near(self, instance, problem, predicted):
        value = 2.0 + instance.data.X[0, 0] / problem.log_alpha
        return Measurement(value, predicted, 1e-6, extra={"huge": float("inf")})
'''
FLOWS = '''
"""Two claims on one problem: the first follows the flow further than the second needs."""

from theorykit.checking import Claim, Control, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet


class _Ends(Claim):
    """w does not vanish."""

    kind, source = "inequality", Source("toy", "Theorem 2", "@misc{toy}")
    expansion = None
    draws = {"quick": 1}

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 6)), [1.0, -1.0, 1.0])
        yield Instance(DiagonalNet(6), data, "exponential")

    def measure(self, instance, problem, variant):
        point = self.flow(instance.at(40.0), self.end).at(s=0.5)
        return Measurement(float(point.weights[0] ** 2), 0.0)

    def controls(self):
        return (Control("it is negative", lambda instance, problem: Measurement(-1.0, 0.0)),)


class Long(_Ends):
    """w does not vanish."""

    id, title, end = "toy.long", "Long", 1.25


class Short(_Ends):
    """w does not vanish, half-way."""

    id, title, end = "toy.short", "Short", 0.5
'''


class Checks:
    """A folder with one claim that counts its measurements, and a store."""

    def __init__(self, folder: Path, pause: float = 0.0) -> None:
        self.folder, self.log, self.store = folder / "checks", folder / "log", folder / "kept" / "results.sqlite"
        self.folder.mkdir()
        self.file = self.folder / "counted.py"
        self.file.write_text(
            COUNTED.replace('"LOG"', repr(str(self.log))).replace("PAUSE", repr(pause)), encoding="utf-8"
        )

    @property
    def measured(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def run(self, **options: Any) -> VerificationResult:
        return tk.verify("toy.*", paths=[self.folder], **{"store": self.store, **options})


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    return Checks(tmp_path)


def numbers(result: VerificationResult) -> Any:
    """Return what a result says, wall times and where it comes from apart, as JSON that keeps every bit."""
    rows = json.loads(result.to_json())["results"]
    return [{key: value for key, value in row.items() if key not in ("wall_s", "recalled")} for row in rows]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_finished_is_not_computed_again_and_has_the_same_bits(checks: Checks, jobs: int) -> None:
    first = checks.run(jobs=jobs)
    assert len(checks.measured) == 4
    again, without = checks.run(), checks.run(store=None)
    assert len(checks.measured) == 8  # without the store everything is computed
    assert numbers(first) == numbers(again) == numbers(without)
    assert [result.results[0].recalled for result in (first, again, without)] == [0, 4, 0]
    assert first.results[0].wall_s == again.results[0].wall_s
    assert first.results[0].traces == again.results[0].traces
    assert len(first.results[0].traces) == 1
    assert "finished, whole or in part, by earlier runs" in again.table()
    assert "earlier runs" not in first.table()


def test_more_instances_compute_only_the_new_ones(checks: Checks) -> None:
    checks.run(instances=2)
    result = checks.run(instances=5)
    assert len(checks.measured) == len(set(checks.measured)) == 5
    assert (result.results[0].instances, result.results[0].recalled) == (5, 2)


@pytest.mark.parametrize("change", [{"seed": 1}, {"profile": "full"}, {"rtol": 1e-9}])
def test_other_settings_are_other_results(checks: Checks, change: dict[str, Any]) -> None:
    checks.run()
    assert checks.run(**change).results[0].recalled == 0


def test_an_edited_file_is_another_claim(checks: Checks) -> None:
    checks.run()
    text = checks.file.read_text(encoding="utf-8")
    checks.file.write_text(text.replace("tends to 2.5", "tends to 2.25").replace("2.5)", "2.25)"), encoding="utf-8")
    result = checks.run()
    assert (result.results[0].recalled, result.results[0].control.predicted) == (0, 2.25)


def test_an_edited_helper_of_a_suite_is_another_claim(tmp_path: Path) -> None:
    """A module beside the claim, that its own module imports, is part of it; another claim beside it is not."""
    package = tmp_path / "suite_of_mine"
    package.mkdir()
    for name, text in {
        "__init__.py": "",
        "shared.py": "END = 0.5\n",
        "one.py": FLOWS.replace("from theorykit.checking", "from .shared import END\nfrom theorykit.checking"),
        "other.py": "",
    }.items():
        (package / name).write_text(text, encoding="utf-8")
    script = (
        "import suite_of_mine.one as m\n"
        "from theorykit.checking.store import result_key\n"
        "print(result_key(m.Long, seed=0), result_key(m.Short, seed=0))"
    )

    def keys() -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        return done.stdout.decode()

    first = keys()
    assert len(set(first.split())) == 2
    (package / "other.py").write_text("x = 1\n", encoding="utf-8")
    assert keys() == first
    (package / "shared.py").write_text("END = 0.25\n", encoding="utf-8")
    assert not set(keys().split()) & set(first.split())


def test_a_check_that_raises_is_run_again(checks: Checks) -> None:
    text = checks.file.read_text(encoding="utf-8")
    checks.file.write_text(
        text.replace("return self._near(instance, problem, 2.0)", "raise ValueError"), encoding="utf-8"
    )
    for _ in range(2):
        result = checks.run()
        assert result.results[0].failure is not None
        assert result.results[0].recalled == 0


def test_a_claim_that_comes_after_a_kept_one_sees_the_same_flow(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(FLOWS, encoding="utf-8")
    store = tmp_path / "results.sqlite"
    whole = tk.verify("toy.*", paths=[tmp_path], store=store)
    with sqlite3.connect(store) as connection:
        assert connection.execute("""DELETE FROM results WHERE outcome LIKE '%"toy.short"%'""").rowcount == 1
    connection.close()
    mended = tk.verify("toy.*", paths=[tmp_path], store=store)
    assert [row.recalled for row in mended.results] == [1, 0]
    assert numbers(mended) == numbers(whole)
    alone = tk.verify("toy.short", paths=[tmp_path], store=store)
    assert alone.results[0].recalled == 0  # not the same numbers: its flow is its own
    assert alone.results[0].measured == pytest.approx(whole.results[1].measured, rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    checks = Checks(tmp_path, pause=1.0)
    words = ["-m", "theorykit", "verify", "toy.*", "--path", str(checks.folder)]
    environment = {**os.environ, "THEORYKIT_CACHE_DIR": str(tmp_path / "kept")}
    process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL)
    while len(checks.measured) < 3:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    json_file = tmp_path / "out.json"
    subprocess.run([sys.executable, *words, "--json", str(json_file)], env=environment, check=True)
    (row,) = json.loads(json_file.read_text())["results"]
    assert (row["verdict"], row["instances"], row["recalled"]) == ("supported", 4, 2)
    assert len(set(checks.measured)) == 4
    assert sorted(map(checks.measured.count, set(checks.measured))) == [1, 1, 1, 2]  # only what was cut short
    assert numbers(checks.run(store=None)) == [{k: v for k, v in row.items() if k not in ("wall_s", "recalled")}]
    subprocess.run([sys.executable, *words, "--fresh"], env=environment, check=True)
    assert min(map(checks.measured.count, set(checks.measured))) == 3


def test_two_runs_at_once(tmp_path: Path) -> None:
    checks = Checks(tmp_path, pause=0.05)
    script = (
        "import theorykit as tk\n"
        f"result = tk.verify('toy.*', paths=[{str(checks.folder)!r}], store={str(checks.store)!r}, instances=20)\n"
        "assert not result.warnings, result.warnings\n"
        "print(result.exit_code)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["0", "0"]
    result = checks.run(instances=20)
    assert result.results[0].recalled == 20


def test_a_write_ahead_log_cut_short_loses_its_end_and_no_more(tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite"
    store = Store(whole)
    for k in range(50):
        store.put(f"key {k}", f"text {k} " * 500)
    log = whole.with_name("whole.sqlite-wal")
    size = log.stat().st_size
    assert size > 100_000  # nothing is in the file itself yet
    for share in (0.0, 0.013, 0.5, 0.9, 1.0):
        cut = tmp_path / f"cut-{share}.sqlite"
        shutil.copy(whole, cut)
        cut.with_name(f"{cut.name}-wal").write_bytes(log.read_bytes()[: int(share * size)])
        other = Store(cut)
        found = [other.get(f"key {k}") for k in range(50)]
        kept = sum(text is not None for text in found)
        assert found == [f"text {k} " * 500 if k < kept else None for k in range(50)]
        assert other.complaint is None
        other.put("new", "text")
        assert other.get("new") == "text"
        other.close()
        assert (kept == 50) == (share == 1.0)
        assert (kept == 0) == (share <= 0.013)
    store.close()


@pytest.mark.parametrize("damage", ["garbage", "middle"])
def test_a_damaged_file_is_moved_aside(checks: Checks, damage: str) -> None:
    checks.run()
    raw = bytearray(checks.store.read_bytes())
    if damage == "garbage":
        raw[:] = b"no database" * 500
    else:
        raw[100:] = bytes(255 for _ in raw[100:])
    checks.store.write_bytes(raw)
    result = checks.run()
    assert result.results[0].recalled == 0
    assert result.results[0].verdict == "supported"
    (warning,) = result.warnings
    assert "was damaged" in warning
    assert "\n" not in warning
    assert [file.read_bytes() for file in checks.store.parent.glob("*.damaged-*")] == [bytes(raw)]
    assert checks.run().results[0].recalled == 4


def test_a_changed_row_is_computed_again(checks: Checks) -> None:
    first = checks.run()
    with sqlite3.connect(checks.store) as connection:
        connection.execute("UPDATE results SET outcome = replace(outcome, '\"supported\"', '\"refuted\"')")
    connection.close()
    again = checks.run()
    assert again.results[0].recalled == 0
    assert numbers(again) == numbers(first)


@pytest.mark.parametrize("place", ["/proc/no/such/results.sqlite", "FILE/results.sqlite", "FOLDER"])
def test_a_place_that_cannot_be_written_is_one_warning(checks: Checks, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = place.replace("FILE", str(tmp_path / "file")).replace("FOLDER", str(tmp_path))
    result = checks.run(store=path)
    assert (result.results[0].verdict, result.exit_code) == ("supported", 0)
    (warning,) = result.warnings
    assert warning.startswith("results are not kept: ")
    assert "\n" not in warning
    assert f"warning: {warning}" in " ".join(result.table(400).split("\n"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_one_warning(checks: Checks) -> None:
    checks.run()
    for mode in (0o444, 0o644):
        checks.store.chmod(mode)
        checks.store.parent.chmod(0o555 if mode == 0o444 else 0o755)
        result = checks.run(seed=3)
        assert len(result.warnings) == (mode == 0o444)


def test_a_locked_store_gives_up_in_time(checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theorykit.checking.store._PATIENCE_S", 0.1)
    checks.run(instances=1)
    holder = sqlite3.connect(checks.store, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    result = checks.run(instances=2)
    holder.execute("ROLLBACK")
    holder.close()
    assert result.exit_code == 0
    (warning,) = result.warnings
    assert "locked" in warning
