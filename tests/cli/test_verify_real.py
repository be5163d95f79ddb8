"""The command on the real suite, as a process of its own: exit codes, streams, files, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

SCHEMA = json.loads((Path(__file__).parent / "verify.schema.json").read_text(encoding="utf-8"))
COMMAND = (sys.executable, "-m", "theorykit")

SLEEPER = '''
"""A claim that is quick on its first instance, says so, and never comes back from its second."""

import os
import time
from pathlib import Path

from theorykit.checking import Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet

MARK = Path(__file__).with_suffix(".mark")


class Sleeper(Claim):
    """a tends to 2."""

    id, title, kind, source = "toy.sleeper", "Falls asleep", "limit", Source("toy", "Theorem 1")
    expansion = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 4)), [1.0, -1.0, 1.0])
        yield Instance(DiagonalNet(4), data, "exponential")

    def measure(self, instance, problem, variant):
        return Measurement(2.0 + 3.0 / problem.log_alpha, 2.0, 1e-6)

    def controls(self):
        return (Control("a tends to 2.5", lambda i, p: Measurement(2.0 + 3.0 / p.log_alpha, 2.5, 1e-6)),)

    def check(self, instance):
        if MARK.exists():
            MARK.rename(MARK.with_name("asleep"))
            time.sleep(600.0)
        MARK.write_text("once")
        return ()
'''


def theorykit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, encoding="utf-8", timeout=300)


@pytest.mark.slow
def test_verify_writes_table_json_and_report(tmp_path: Path) -> None:
    json_file, html_file = tmp_path / "out.json", tmp_path / "out.html"
    done = theorykit(
        "verify", "lyu2024.cor-3.6", "--fresh", "--instances", "1", "--json", json_file, "--html", html_file
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "lyu2024.cor-3.6" in done.stdout
    assert done.stdout.count("✓ supported") == 2
    written = json.loads(json_file.read_text(encoding="utf-8"))
    jsonschema.validate(written, SCHEMA)
    assert [(row["claim"], row["loss"], row["verdict"], row["control"]["verdict"]) for row in written["results"]] == [
        ("lyu2024.cor-3.6", loss, "supported", "refuted") for loss in ("exponential", "logistic")
    ]
    page = html_file.read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "lyu2024.cor-3.6" in page


def test_list_and_its_json_name_the_same_claims() -> None:
    plain, as_json = theorykit("list"), theorykit("list", "--json")
    assert (plain.returncode, plain.stderr, as_json.returncode, as_json.stderr) == (0, "", 0, "")
    entries = json.loads(as_json.stdout)
    names = [line.split()[0] for line in plain.stdout.splitlines()]
    assert names == [entry["claim"] for entry in entries]
    assert {"lyu2024.thm-3.4", "lyu2024.cor-3.6", "lyu2024.cor-3.7", "lyu2024.fig-1a"} <= set(names)
    (theorem,) = (entry for entry in entries if entry["claim"] == "lyu2024.thm-3.4")
    assert theorem["expected"] == {"as-printed": "refuted", "corrected": "supported"}


def test_info_shows_the_whole_claim() -> None:
    done = theorykit("info", "lyu2024.thm-3.4")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "Theorem 3.4",
        "separable NTK features (3.3)",
        "labels shuffled",
        "@inproceedings{lyu2024,",
        "corrected",
    ):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("verify", "lyu2024.thm-3.44"), "did you mean 'lyu2024.thm-3.4'?"),
        (("info", "nonsense"), "nonsense"),
        (("verify", "lyu2024.*", "--profile", "quik"), "did you mean 'quick'?"),
        (("verify", "--path", "no/such/folder"), "wanted an existing folder"),
    ],
)
def test_bad_input_is_one_line_on_standard_error(words: tuple[str, ...], text: str) -> None:
    done = theorykit(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_prints_and_keeps_what_was_finished(tmp_path: Path) -> None:
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    json_file = tmp_path / "out.json"
    words = ("verify", "toy.sleeper", "--fresh", "--path", checks, "--instances", "3", "--json", json_file)
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    try:
        begun = time.monotonic()
        while not (checks / "asleep").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - begun < 120.0
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "toy.sleeper" in out
    assert "supported" in out
    written = json.loads(json_file.read_text(encoding="utf-8"))
    jsonschema.validate(written, SCHEMA)
    assert written["interrupted"] is True
    (row,) = written["results"]
    assert (row["verdict"], row["control"]["verdict"], row["instances"]) == ("supported", "refuted", 1)
