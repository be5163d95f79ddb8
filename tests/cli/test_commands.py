"""What each command prints, writes and returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import theorykit.checking
from theorykit.checking import default_store
from theorykit.cli import main
from theorykit.cli.output import progress_bar

SCHEMA = json.loads((Path(__file__).parent / "verify.schema.json").read_text(encoding="utf-8"))
BROKEN = {"path": "bad.py", "type": "SyntaxError", "message": "invalid\nsyntax"}
Run = Callable[..., Any]


def test_list_is_one_line_per_claim(run: Run, suite: Any) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert out == "suite.thm-1  limit  as-printed, corrected  A theorem\n"
    assert run("list", "suite.*").out == out


def test_list_json_has_the_keys_of_the_contract(run: Run, suite: Any) -> None:
    (entry,) = json.loads(run("list", "--json").out)
    assert {"claim", "title", "source", "kind", "variants", "control"} <= set(entry)
    assert entry["claim"] == "suite.thm-1"
    assert entry["source"] == "suite, Theorem 1"
    assert entry["variants"] == ["as-printed", "corrected"]
    assert entry["control"] == "wrong-exponent, shuffled-labels"


def test_list_warns_of_files_it_could_not_import(run: Run, suite: Any) -> None:
    suite.broken = (BROKEN,)
    code, out, err = run("list")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert err == "theorykit: warning: bad.py could not be imported: SyntaxError: invalid syntax\n"


def test_info_says_everything_about_a_claim(run: Run, suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    code, out, err = run("info", "suite.thm-1")
    assert (code, err) == (0, "")
    for wanted in (
        *("suite.thm-1: A theorem", "a tends to b", "suite, Theorem 1", "limit", "features are separable"),
        *("extrapolated along", "wrong-exponent", "shuffled-labels", "as-printed, expected: refuted"),
        *("corrected, expected: supported", "@article{suite,"),
    ):
        assert wanted in out
    assert max(map(len, out.splitlines())) <= 50


def test_list_and_info_look_in_folders_too(run: Run, tmp_path: Path) -> None:
    source = (Path(__file__).parents[2] / "docs" / "examples" / "margins.py").read_text(encoding="utf-8")
    (tmp_path / "margins.py").write_text(source, encoding="utf-8")
    assert run("list", "notes.*", "--path", tmp_path).out.startswith("notes.margins  inequality  as-printed")
    assert "a larger one" in run("info", "notes.margins", "--path", tmp_path).out
    assert run("info", "notes.margins").code == 2


def test_verify_prints_the_table_and_nothing_else(run: Run, suite: Any) -> None:
    code, out, err = run("verify", "suite.thm-1")
    assert (code, err) == (0, "")
    assert out == suite.verify("suite.thm-1", profile="quick", seed=0, paths=()).table()


def test_verify_passes_its_options_on(run: Run, suite: Any, tmp_path: Path) -> None:
    options = {"--profile": "full", "--seed": "5", "--instances": "3", "--jobs": "2"}
    words = [word for option in options.items() for word in option]
    assert run("verify", "suite.thm-1", "suite.*", *words, "--path", tmp_path, "--path", tmp_path / "b").code == 0
    assert suite.asked == {
        "patterns": ("suite.thm-1", "suite.*"),
        "profile": "full",
        "seed": 5,
        "instances": 3,
        "jobs": 2,
        "paths": [tmp_path, tmp_path / "b"],
        "progress": None,
        "store": default_store(),
    }


def test_fresh_does_without_what_is_kept(run: Run, suite: Any) -> None:
    run("verify", "--fresh")
    assert suite.asked["store"] is None


def test_verify_without_arguments_checks_everything_quickly(run: Run, suite: Any) -> None:
    run("verify")
    assert suite.asked["patterns"] == ()
    assert (suite.asked["profile"], suite.asked["seed"]) == ("quick", 0)
    assert (suite.asked["instances"], suite.asked["jobs"]) == (None, 1)


def test_verify_writes_json_of_the_schema_and_a_page(run: Run, suite: Any, tmp_path: Path) -> None:
    failed = replace(
        suite.results[0],
        claim="suite.lem-2",
        model=None,
        loss=None,
        degree=None,
        verdict="inconclusive",
        measured=float("inf"),
        error={"total": None},
        ladder=(),
        failure={"type": "ValueError", "message": "no"},
    )
    suite.results += (failed,)
    assert run("verify", "--json", tmp_path / "a.json", "--html", tmp_path / "a.html").code == 3
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert [result["claim"] for result in found["results"]] == ["suite.thm-1", "suite.lem-2"]
    assert found["results"][1]["failure"] == {"type": "ValueError", "message": "no"}
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_the_schema_would_notice_a_wrong_file(suite: Any) -> None:
    good = json.loads(suite.verify(profile="quick", seed=0, paths=()).to_json())
    for path, value in ((("profile",), "fast"), (("results", 0, "verdict"), "true"), (("results", 0, "error"), {})):
        wrong = json.loads(json.dumps(good))
        place = wrong
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


@pytest.mark.parametrize(
    ("verdict", "code"), [("supported", 0), ("refuted", 1), ("not-applicable", 1), ("inconclusive", 3)]
)
def test_verify_returns_the_exit_code_of_the_result(run: Run, suite: Any, verdict: str, code: int) -> None:
    suite.results = (replace(suite.results[0], verdict=verdict),)
    assert run("verify").code == code


def test_verify_shows_files_it_could_not_import(run: Run, suite: Any) -> None:
    suite.broken = (BROKEN,)
    code, out, _ = run("verify")
    assert code == 3
    assert "bad.py could not be imported" in out


def test_interrupted_verify_keeps_what_was_finished(run: Run, suite: Any, tmp_path: Path) -> None:
    suite.interrupted = True
    code, out, _ = run("verify", "--json", tmp_path / "a.json")
    assert code == 130
    assert "suite.thm-1" in out
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found["interrupted"] is True
    assert len(found["results"]) == 1


def test_control_c_anywhere_else_is_130_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(theorykit.checking, "discover", stop, raising=False)
    code, out, err = run("list")
    assert (code, out, err.strip()) == (130, "", "")


def test_progress_goes_to_standard_error_and_only_to_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar() as bar:
        assert bar is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar() as bar:
        assert bar is not None
        bar.start(3)
        bar.advance(2, "suite.thm-1 [/b]")
        bar.fraction(0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "gradient flow" in err


def test_doctor_finds_this_environment_sound(run: Run) -> None:
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert {"theorykit", "python", "numpy", "cvxpy", "processors", "cache", "compiler", "solvers"} <= set(names)
    assert "PROBLEM" not in out
    assert out.splitlines()[-1].split(maxsplit=1) == ["verdict", "all is in order"]


def test_version_and_presets_are_shown(run: Run) -> None:
    from theorykit import __version__

    assert run("--version") == (0, f"theorykit {__version__}\n", "")
    help_text = run("simulate", "--help").out
    assert all(name in help_text for name in ("fig-1a", "fig-1b", "digits", "problem.loss="))


def test_doctor_reports_what_is_broken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theorykit.cli.doctor._NEEDED_SOLVERS", ("NO_SUCH_SOLVER",))
    code, out, _ = run("doctor")
    assert code == 1
    assert "NO_SUCH_SOLVER is missing   <-- PROBLEM" in out


@pytest.mark.parametrize("command", [(), ("list",), ("info",), ("verify",), ("simulate",), ("doctor",)])
def test_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: theorykit")
