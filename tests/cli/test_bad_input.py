"""Bad usage or input: exit code 2, exactly one line on standard error, nothing on standard output, nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


_MODELS = {
    "cnn": '[data]\nkind = "digits"\n[model]\nkind = "cnn"\nkernel = 9\n[problem]\n',
    "he": '[data]\nkind = "sparse_sign"\nn = 4\nd = 9\n[model]\nkind = "mlp"\n[predictors]\nkernel = true\n'
    '[problem]\ninit = "he"\n',
    "labels": '[data]\nkind = "csv"\npath = "labels.csv"\ntask = "multiclass"\n[model]\nkind = "linear"\n'
    '[problem]\nloss = "cross_entropy"\n',
    "square": '[data]\nkind = "matrix_entries"\nentries = [[0, 1]]\nvalues = [1.0]\nshape = [2, 3]\n'
    '[model]\nkind = "matrix_factorization"\n[problem]\nloss = "squared"\n',
}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "Missing command"),
        ("verfy", "verify"),
        ("--no-such-option", "--no-such-option"),
        ("list suite.thm-1 more", "more"),
        ("list suite.thm-2", "did you mean 'suite.thm-1'"),
        ("list --jsn", "--json"),
        ("info", "claim"),
        ("info suite.thm-2", "did you mean 'suite.thm-1'"),
        ("verify suite.thm-2", "did you mean 'suite.thm-1'"),
        ("verify --jbs 2", "--jobs"),
        ("verify --jobs 0", "--jobs"),
        ("verify --jobs two", "--jobs"),
        ("verify --instances 0", "--instances"),
        ("verify --seed -1", "--seed"),
        ("verify --seed 1.5", "--seed"),
        ("verify --json", "--json"),
        ("verify --json TMP/missing/a.json", "missing/a.json"),
        ("verify --html TMP/missing/a.html", "missing/a.html"),
        ("verify --json TMP", "not a file"),
        ("verify --json /dev/null", "not a file"),
        ("verify --json TMP/file/a.json", "file/a.json"),
        ("verify --json TMP/a --html TMP/sub/../a", "same file"),
        ("simulate", "Missing argument"),
        ("simulate no-such-preset", "no-such-preset"),
        ("simulate fig-1", "fig-1a"),
        ("simulate TMP/missing.toml", "missing.toml"),
        ("simulate TMP/file.toml", "file.toml"),
        ("simulate fig-1a --profile fast", "fast"),
        ("simulate fig-1a --set nonsense", "nonsense"),
        ("simulate fig-1a --set problem.alpah=3", "alpha"),
        ("simulate fig-1a --set problem.alpha=-3", "alpha"),
        ("simulate fig-1a --out TMP/file", "file"),
        ("simulate fig-1a --set problem.loss=squard", "did you mean 'squared'"),
        ("simulate fig-1a --set flow.rtol=0.5", "flow.rtol"),
        ("simulate fig-1a --set data.n=1000000000000", "n: got 1000000000000, which takes"),
        ("simulate fig-1a --resume", "--resume: got no --out"),
        ("simulate fig-3 --set data.fraction=1e-9", "at least one observed entry"),
        ("simulate fig-3 --set problem.init=twin", "problem.init: got 'twin'"),
        ("simulate fig-3 --set model.kind=mlp", "wanted matrix_factorization"),
        ("simulate fig-3 --set data.kind=modular --set data.p=1", "data.p: got 1; wanted an integer >= 2"),
        ("simulate TMP/cnn.toml", "kernel: got 9; wanted at most 8"),
        ("simulate digits --set model.kind=mlp --set model.widths=[0]", "model.widths: got 0"),
        ("simulate TMP/he.toml", "zero output"),
        ("simulate TMP/labels.toml", "class numbers, integers from 0"),
        ("simulate TMP/square.toml", "a square matrix"),
        ("simulate /dev/zero", "a device or a pipe"),
        ("simulate LONG", "experiment"),
        ("simulate fig-1a --out LONG", "out: got"),
        ("verify --json LONG", "--json: got"),
        ("verify --json TMP/loop", "--json: got"),
        ("verify --json TMP/fifo", "not a file"),
        ("doctor now", "now"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run: Run, suite: Any, tmp_path: Path, words: str, says: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    (tmp_path / "file.toml").write_text("not = [toml", encoding="utf-8")
    (tmp_path / "labels.csv").write_text("a,y\n1,0\n2,-1\n", encoding="utf-8")
    for name, text in _MODELS.items():
        (tmp_path / f"{name}.toml").write_text(text + "alpha = 2.0\nweight_decay = 0.1\n", encoding="utf-8")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*words.replace("TMP", str(tmp_path)).replace("LONG", "a" * 300).split())
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("theorykit: error: ")
    assert says in err
    assert sorted(tmp_path.rglob("*")) == before
    assert suite.asked == {}


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(run: Run, suite: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    code, _, err = run("verify", "--json", tmp_path / "a.json")
    tmp_path.chmod(0o700)
    assert code == 2
    assert "Permission denied" in err


def python(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False, **options)


def test_module_and_process_agree_on_the_exit_code() -> None:
    done = python("-m", "theorykit", "verfy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "theorykit: error: No such command 'verfy'. Did you mean 'verify'?\n"


def test_a_reader_that_leaves_early_is_not_an_error() -> None:
    script = "from theorykit.cli.output import emit; emit('x' * 10**6); emit('more')"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "theorykit", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


def test_a_terminal_without_unicode_gets_question_marks() -> None:
    setup = "from theorykit.cli import app, main; app.app.command('x')(lambda: app.emit('✓'))"
    script = f"import theorykit.cli.app; {setup}; main(['x'])"
    done = python("-c", script, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.stdout, done.stderr) == ("?", "")


@pytest.mark.parametrize("words", [["verify", "--path"], ["verify", "--html"], ["simulate", "fig-1a", "--out"]])
def test_an_empty_path_is_not_the_current_folder(run: Run, suite: Any, words: list[str]) -> None:
    code, out, err = run(*words, "")
    assert (code, out) == (2, "")
    assert f"{words[-1]}: got ''" in err


def test_a_link_stays_a_link(run: Run, suite: Any, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    assert run("verify", "--json", tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "file.json").is_file()


def test_standard_output_is_no_file_to_replace(tmp_path: Path) -> None:
    with open(tmp_path / "out.txt", "w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "theorykit", "verify", "--html", "/dev/stdout"],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert "which is standard output" in done.stderr
    assert (tmp_path / "out.txt").read_text() == ""


def test_a_closed_standard_output_is_one_line() -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m theorykit list >&-"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "theorykit: error: standard output is closed: there is nowhere to write the result\n"


def test_control_c_while_it_is_loading_is_silent() -> None:
    slow_import = (
        "class Slow:\n def find_spec(self, name, *_):\n  if name == 'typer': print('there', flush=True); sleep(60)"
    )
    script = "import sys\nfrom time import sleep\nfrom theorykit.cli import main\n"
    script += f"{slow_import}\nsys.meta_path.insert(0, Slow())\nraise SystemExit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, "")


def test_the_command_line_is_there_before_numpy() -> None:
    done = python("-c", "import sys, theorykit.cli; print('numpy' in sys.modules)")
    assert done.stdout == "False\n"


def test_solvers_print_nothing() -> None:
    small = [
        w for setting in ("data.n=16", "data.d=200", "data.n_test=50", "flow.points=9") for w in ("--set", setting)
    ]
    done = python("-m", "theorykit", "simulate", "fig-1a", *small)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fig-1a (paper): ")
    script = "from theorykit.checking.runner import environment as e; print(e(1, 1e-8)['highspy'][0].isdigit())"
    assert python("-c", script).stdout == "True\n"


def test_huge_scales_print_no_warnings() -> None:
    small = [w for setting in ("data.n=8", "data.d=50", "data.n_test=50", "flow.points=9") for w in ("--set", setting)]
    done = python("-m", "theorykit", "simulate", "fig-1a", *small, "--set", "problem.log_weight_decay=-1e5")
    assert (done.returncode, done.stderr) == (0, "")
