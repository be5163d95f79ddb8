"""Finding checks and running them, on small claims in files of the user's own."""

from __future__ import annotations

import itertools
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import theorykit as tk
from theorykit import InputError
from theorykit.checking import VerificationResult, discover, runner

SCHEMA = json.loads((Path(__file__).parents[1] / "cli" / "verify.schema.json").read_text(encoding="utf-8"))

KNOWN = '''
"""A claim with a known limit."""

from theorykit.checking import Assumption, Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet


class Known(Claim):
    """a tends to 2."""

    id, title, kind, source = "toy.known", "Known limit", "limit", Source("toy", "Theorem 1")
    expansion = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))
    draws = {"quick": 3, "full": 3, "paper": 3}

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 4)), [1.0, -1.0, 1.0])
        yield Instance(DiagonalNet(4), data, "exponential")
        yield Instance(DiagonalNet(4, 3), data, "logistic")

    def check(self, instance):
        return (Assumption("holds anyway", True, 0.25),)

    def measure(self, instance, problem, variant):
        return self._near(problem, 2.0)

    def controls(self):
        return (Control("a tends to 2.5", lambda instance, problem: self._near(problem, 2.5), shared=True),)

    def summarise(self, instance, problem):
        return {"scale": problem.log_alpha}

    def traces(self, instance, problem):
        return [{"label": "a", "s": [0.0, 1.0], "curves": {"a": [2.0, 2.0]}}]

    def _near(self, problem, predicted):
        return Measurement(2.0 + 3.0 / problem.log_alpha, predicted, integrator=1e-6, certificate=1e-7)
'''
FLOWS = '''
"""A claim that follows real flows."""

import numpy as np
from theorykit.checking import Claim, Control, Expansion, Instance, Measurement, Source
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet


class Flows(Claim):
    """w(s = 1/2) points at the max l2-margin direction."""

    id, title, kind, source = "toy.flows", "Flows", "limit", Source("toy", "Theorem 2")
    expansion = Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"), ("1/x", "log/x^2")))
    draws = {"quick": 3}

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 6)), [1.0, -1.0, 1.0])
        yield Instance(DiagonalNet(6), data, "exponential")

    def measure(self, instance, problem, variant):
        return self._angle(instance, problem, 2)

    def controls(self):
        return (Control("the l1 direction", lambda instance, problem: self._angle(instance, problem, 1)),)

    def _angle(self, instance, problem, norm):
        now, w = self.flow(problem, 0.5).at(s=0.5), self.max_margin(instance.data, norm).w
        angle, other = (np.linalg.norm(v / np.linalg.norm(v) - w / np.linalg.norm(w))
                        for v in (now.weights, now.companion_weights))
        return Measurement(float(angle), 0.0, float(abs(angle - other)), 1e-9)
'''
STAMPS = itertools.count()


def write(folder: Path, source: str = KNOWN, name: str = "mine.py", **changes: str) -> Path:
    """Write a file of claims, each keyword replacing the line of the method's body that it names."""
    for old, new in changes.items():
        line = {
            "measure": "return self._near(problem, 2.0)",
            "instances": "yield Instance(DiagonalNet(4), data",
            "check": 'return (Assumption("holds anyway", True, 0.25),)',
            "summarise": 'return {"scale": problem.log_alpha}',
            "id": "toy.known",
            "control": "self._near(problem, 2.5)",
        }[old]
        assert line in source
        source = source.replace(line, new)
    path = folder / name
    path.write_text(source, encoding="utf-8")
    stamp = 10**9 * next(STAMPS)  # some file systems would give two edits of one test the same time
    os.utime(path, ns=(stamp, stamp))
    return path


def numbers(result: VerificationResult) -> list[dict[str, Any]]:
    """Return all that a result says, wall times apart, as JSON that keeps every bit of a float."""
    rows = json.loads(result.to_json())["results"]
    for row in rows:
        del row["wall_s"]
    return rows


# discovery


def test_unknown_pattern_names_the_nearest_id() -> None:
    with pytest.raises(InputError, match=r"claim: got 'lyu2024.cor-3.66'.*did you mean 'lyu2024.cor-3.6'\?"):
        discover(["lyu2024.cor-3.66"])
    with pytest.raises(InputError, match="claim: got 'Lyu2024"):
        tk.verify("Lyu2024.*")  # ids are lower case, whatever the platform's file names


def test_patterns_keep_the_order_of_the_files_and_repeat_nothing() -> None:
    every = [claim.id for claim in discover().claims]
    assert len(set(every)) == len(every)
    assert [claim.id for claim in discover(["lyu2024.t*", "lyu2024.cor-3.6", "lyu2024.cor-3.6"]).claims] == [
        name for name in every if name.startswith("lyu2024.t") or name == "lyu2024.cor-3.6"
    ]


def test_missing_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path: got .*nowhere; wanted an existing folder"):
        discover([], [tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"path: got .*mine\.py; wanted an existing folder"):
        tk.verify("toy.known", paths=[write(tmp_path)])


def test_own_file_is_found_and_judged_with_its_control_refuted(tmp_path: Path) -> None:
    write(tmp_path)
    result = tk.verify("toy.*", paths=[tmp_path])
    assert [(r.claim, r.loss, r.degree) for r in result.results] == [
        ("toy.known", "exponential", 2),
        ("toy.known", "logistic", 3),
    ]
    for row in result.results:
        assert (row.verdict, row.control.verdict, row.control.name) == ("supported", "refuted", "a tends to 2.5")
        assert (row.instances, row.predicted) == (3, 2.0)
        assert row.measured == pytest.approx(2.0, abs=1e-9)
        assert row.error["fit"] == pytest.approx(0.0, abs=1e-9)
        assert row.error["integrator"] == pytest.approx(10.0 * row.error["certificate"])  # as every rung says
        assert [rung.log_alpha for rung in row.ladder] == [20.0, 40.0, 80.0, 160.0, 320.0, 640.0]
        assert row.ladder[0].measured == pytest.approx(2.15)
        assert row.summary["scale"] == {"min": 640.0, "median": 640.0, "max": 640.0}
        assert [item["holds anyway"] for item in row.detail] == [0.25] * 3
        assert len(row.traces) == 1  # of the first instance only
    assert result.exit_code == 0
    assert not result.broken


def test_broken_file_is_reported_and_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "bad.py").write_text("x = 1\nraise ValueError('out of order')\n", encoding="utf-8")
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert [row.verdict for row in result.results] == ["supported", "supported"]
    (entry,) = result.broken
    assert entry == {"path": str(tmp_path / "bad.py"), "type": "ValueError", "message": "out of order (line 2)"}
    assert result.exit_code == 3


def test_one_id_in_two_files_is_bad_input(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="twin.py")
    with pytest.raises(InputError, match=r"id: got 'toy.known' in .*mine.py and .*twin.py; wanted an id"):
        discover([], [tmp_path])
    os.remove(tmp_path / "twin.py")
    write(tmp_path, id="lyu2024.thm-3.4")
    with pytest.raises(InputError, match=r"id: got 'lyu2024.thm-3.4' in .*thm_3_4.py and .*mine.py"):
        discover([], [tmp_path])


def test_a_class_that_derives_from_a_claim_needs_an_id_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, KNOWN + '\n\nclass Heir(Known):\n    """The same."""\n\n\n_HEIR = Heir\n')
    with pytest.raises(InputError, match=r"in the classes Known and Heir of .*mine.py"):
        discover([], [tmp_path])


@pytest.mark.parametrize(("floor", "verdict"), [("-2.0", "refuted"), ("2.5", "inconclusive"), ("2.0", "refuted")])
def test_a_limit_below_the_floor_decides_nothing(tmp_path: Path, floor: str, verdict: str) -> None:
    write(tmp_path, KNOWN.replace("draws =", f"floor = {floor}; draws =").replace("(problem, 2.0)", "(problem, 2.25)"))
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert {row.verdict for row in result.results} == {verdict}
    if verdict == "inconclusive":
        assert all("a limit lies below 2.5, which is impossible" in row.reason for row in result.results)


def test_a_number_beside_the_first_has_its_own_floor_and_is_told_where_it_decides(tmp_path: Path) -> None:
    beside = "Measurement(0.5 - 1.0 / problem.log_alpha, 0.75, floor={})"
    alone = "return self._near(problem, 2.0)"
    for floor, verdict in (("0.0", "refuted"), ("0.7", "inconclusive")):
        also = f"return replace(self._near(problem, 2.0), also=({beside.format(floor)},))"
        source = KNOWN.replace(alone, also).replace(
            "from theorykit.checking", "from dataclasses import replace\nfrom theorykit.checking", 1
        )
        write(tmp_path, source)
        result = tk.verify("toy.known", paths=[tmp_path], instances=1)
        for row in result.results:
            assert row.verdict == verdict
            assert row.measured == pytest.approx(2.0, abs=1e-6)
            (told,) = row.detail
            assert told["value of the number that decides"] == pytest.approx(0.5, abs=1e-6)


def test_controls_say_on_how_many_instances_they_are_refuted(tmp_path: Path) -> None:
    weak = "lambda instance, problem: self._near(problem, 2.5 if instance.data.X[0, 0] > 0 else 2.0)"
    source = KNOWN.replace("lambda instance, problem: self._near(problem, 2.5), shared=True", weak)
    write(tmp_path, source)
    result = tk.verify("toy.known", paths=[tmp_path], instances=20)
    for row in result.results:
        (control,) = row.controls
        assert control.verdict == "refuted"
        assert 0 < control.refuted < control.instances == 20
    assert f"its control, a tends to 2.5, is refuted on {control.refuted} of 20 instances" in " ".join(
        result.table(200).split()
    )


def test_a_profile_that_is_not_named_has_what_the_one_before_it_has(tmp_path: Path) -> None:
    write(tmp_path, KNOWN.replace('"full": 3, "paper": 3}', '"paper": 2}; ladders = {"full": (5.0, 10.0, 20.0)}'))
    (claim,) = discover(["toy.*"], [tmp_path]).claims
    assert claim.draws == {"quick": 3, "full": 3, "paper": 2}
    assert claim.ladders == dict.fromkeys(("quick", "full", "paper"), (5.0, 10.0, 20.0))


def test_files_of_pytest_are_not_imported(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("test_it.py", "conftest.py"):
        (tmp_path / name).write_text("raise RuntimeError\n")
    assert not discover(["toy.*"], [tmp_path]).broken


def test_a_name_imported_from_another_file_is_no_second_claim(tmp_path: Path) -> None:
    write(tmp_path)
    source = "from theorykit.verifications.lyu2024.cor_3_6 import EarlyDirection\n"
    (tmp_path / "imports.py").write_text(source, encoding="utf-8")
    assert [claim.id for claim in discover(["lyu2024.cor-3.6"], [tmp_path]).claims] == ["lyu2024.cor-3.6"]


def test_edited_and_added_files_are_seen_in_the_same_session(tmp_path: Path) -> None:
    write(tmp_path)
    assert tk.verify("toy.known", paths=[tmp_path], instances=1).results[0].verdict == "supported"
    write(tmp_path, measure="return self._near(problem, 2.0 + 1.0)")
    assert tk.verify("toy.known", paths=[tmp_path], instances=1).results[0].verdict == "refuted"
    write(tmp_path, name="more.py", id="toy.more")
    assert tk.verify("toy.more", paths=[tmp_path], instances=1).results[0].verdict == "supported"


# files and classes that are unusable


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("import sys; sys.exit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("1 +", "SyntaxError"),
    ],
)
def test_a_file_that_leaves_is_broken_and_the_rest_is_checked(tmp_path: Path, line: str, kind: str) -> None:
    write(tmp_path)
    (tmp_path / "bad.py").write_text(f"{line}\n", encoding="utf-8")
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert [row.verdict for row in result.results] == ["supported", "supported"]
    assert [entry["type"] for entry in result.broken] == [kind]
    assert result.exit_code == 3


def test_control_c_while_a_file_is_imported_is_no_broken_file(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        discover([], [tmp_path])


def test_a_dangling_link_is_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "b.py").symlink_to(tmp_path / "nowhere.py")
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert {row.verdict for row in result.results} == {"supported"}
    assert [entry["type"] for entry in result.broken] == ["FileNotFoundError"]


def test_a_pattern_that_only_a_broken_file_could_match_names_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"got 'mine\.\*'.*bad\.py: ModuleNotFoundError: No module"):
        tk.verify("mine.*", paths=[tmp_path])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('title, kind, source = "toy.known", "Known limit"', 'kind, source = "toy.known"', "lacks a title"),
        ('Source("toy", "Theorem 1")', '"toy"', "source is 'toy'; wanted a theorykit.Source"),
        ('"toy.known"', "5", "id is 5; wanted suite.name"),
        ('"toy.known"', '""', "id is ''; wanted suite.name"),
        ('"toy.known"', '"known"', "id is 'known'; wanted suite.name"),
        ('id, title, kind, source = "toy.known", ', "title, kind, source = ", "lacks an id"),
        ('"limit"', '"nonsense"', "kind is 'nonsense'; wanted one of limit"),
        ("draws =", 'expected = ["supported"]; draws =', "expected is ['supported']; wanted a verdict for each"),
        ("draws =", "expected = {}; draws =", "expected is {}; wanted a verdict for each"),
        ("draws =", 'expected = {"as-printed": "maybe"}; draws =', "expected is 'maybe'; wanted one of supported"),
        ("draws =", 'expected = {"printed": "refuted"}; draws =', "expected names the variant 'printed'"),
        ('    """a tends to 2."""\n', "", "lacks a docstring"),
        ("def measure(", "def measured(", "lacks the method measure"),
        (
            "draws =",
            'ladders = {"quick": (5.0, "10")}; draws =',
            "wanted scales log(alpha) for each of quick, full",
        ),
        ("draws =", 'draws = {"quick": 0, "full": 1, "paper": 1}; was =', "wanted a number >= 1 for each of quick"),
        ("problem, variant", "problem", "wanted measure(self, instance, problem, variant)"),
        ("self, rng", "self", "instances is instances(self); wanted instances(self, rng)"),
        ("class Known(Claim)", "class Known", "does not derive from theorykit.Claim"),
    ],
)
def test_an_unusable_class_is_one_line_and_the_rest_is_checked(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in KNOWN
    source = KNOWN.replace(old, new)
    write(tmp_path, source)
    write(tmp_path, name="sound.py", id="toy.sound")
    result = tk.verify("toy.*", paths=[tmp_path], instances=1)
    assert {(row.claim, row.verdict) for row in result.results} == {("toy.sound", "supported")}
    (entry,) = result.broken
    assert (entry["path"], entry["class"]) == (str(tmp_path / "mine.py"), "Known")
    assert says in entry["message"]
    assert result.exit_code == 3
    assert says in " ".join(result.table().split())
    jsonschema.validate(json.loads(result.to_json()), SCHEMA)


def test_an_unusable_class_that_is_asked_for_by_name_is_found(tmp_path: Path) -> None:
    write(tmp_path, KNOWN.replace("def measure(", "def measured("))
    result = tk.verify("toy.known", paths=[tmp_path])
    assert (result.results, result.exit_code) == ((), 3)


def test_what_claims_share_is_no_unusable_claim(tmp_path: Path) -> None:
    shared = KNOWN.replace("class Known(Claim)", "class Shared(Claim)").replace("id, title", "_, title")
    write(tmp_path, shared + '\n\nclass Known(Shared):\n    """a tends to 2."""\n\n    id = "toy.known"\n')
    found = discover(["toy.*"], [tmp_path])
    assert [claim.id for claim in found.claims] == ["toy.known"]
    assert not found.broken


def test_a_source_without_bibtex_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path)
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert result.exit_code == 0
    assert "warning: toy.known: theorykit has no BibTeX entry for 'toy'" in " ".join(result.table(200).split())
    write(tmp_path, KNOWN.replace('"Theorem 1")', '"Theorem 1", "@misc{toy}")'))
    assert not tk.verify("toy.known", paths=[tmp_path], instances=1).warnings


# running


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "quik"}, r"profile: got 'quik'.*did you mean 'quick'\?"),
        ({"seed": -1}, "seed: got -1; wanted an integer >= 0"),
        ({"seed": 0.5}, "seed: got 0.5"),
        ({"jobs": 0}, "jobs: got 0; wanted an integer >= 1"),
        ({"instances": 0}, "instances: got 0; wanted an integer >= 1"),
        ({"rtol": 0.0}, "rtol: got 0; wanted a finite number > 0"),
        ({"rtol": float("nan")}, "rtol: got nan"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tk.verify("lyu2024.cor-3.6", **arguments)


def test_a_check_that_raises_is_inconclusive_and_says_why(tmp_path: Path) -> None:
    write(tmp_path, measure="raise ZeroDivisionError('no such number')")
    result = tk.verify("toy.known", paths=[tmp_path], instances=2)
    for row in result.results:
        assert (row.verdict, row.measured, row.error) == ("inconclusive", None, {"total": None})
        assert row.failure["type"] == "ZeroDivisionError"
        assert re.fullmatch(r"no such number \(mine\.py, line \d+, in measure\)", row.failure["message"])
    assert result.exit_code == 3
    jsonschema.validate(json.loads(result.to_json()), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"measure": "return 0.5"}, "Known.measure: got 0.5 (float); wanted a Measurement"),
        ({"measure": "return None"}, "Known.measure: got None (NoneType); wanted a Measurement"),
        ({"measure": "import sys; sys.exit(0)"}, "0 (mine.py, line"),
        ({"measure": "return Measurement(1.0, 1.0, integrator=-1.0)"}, "integrator: got -1.0; wanted a finite number"),
        ({"measure": "return Measurement(2.0, 2.0, extra={'a': object()})"}, "extra['a']: got <object"),
        ({"control": "0.5"}, "control 'a tends to 2.5': got 0.5 (float); wanted a Measurement"),
        ({"check": "return [3]"}, "Known.check: got 3 (int); wanted only Assumption"),
        ({"summarise": "return [3]"}, "Known.summarise: got [3] (list); wanted a mapping"),
        ({"instances": "yield 3\n        yield Instance(DiagonalNet(4), data"}, "Known.instances: got 3 (int)"),
        ({"instances": "yield Instance(DiagonalNet(4), None"}, "data: got None; wanted a theorykit.Dataset"),
        ({"instances": "yield Instance(4, data"}, "model: got 4; wanted a model"),
    ],
)
def test_what_a_method_must_not_return_is_a_failure_that_names_it(
    tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    write(tmp_path, **changes)
    write(tmp_path, name="sound.py", id="toy.sound")
    result = tk.verify("toy.*", paths=[tmp_path], instances=1)
    rows = result.where(claim="toy.known").results
    assert rows
    for row in rows:
        assert row.verdict == "inconclusive"
        assert says in row.failure["message"]
    assert {row.verdict for row in result.where(claim="toy.sound").results} == {"supported"}
    assert result.exit_code == 3
    assert says in result.table(250)
    jsonschema.validate(json.loads(result.to_json()), SCHEMA)
    result.to_html(tmp_path / "out.html")


@pytest.mark.parametrize(
    "trace",
    [
        '{"x": 1}',
        '{"label": "a", "s": 3, "curves": {}}',
        '{"label": "a", "s": [0.0], "curves": {"a": [1.0, 2.0]}}',
        '{"label": "a", "s": [0.0], "curves": {"a": ["b"]}}',
        '{"label": "a", "s": [0.0], "curves": {}, "marks": {"b": "c"}}',
    ],
)
def test_a_trace_that_cannot_be_drawn_is_a_failure(tmp_path: Path, trace: str) -> None:
    write(tmp_path, KNOWN.replace('{"label": "a", "s": [0.0, 1.0], "curves": {"a": [2.0, 2.0]}}', trace))
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert {(row.verdict, row.failure["message"].startswith("Known.traces")) for row in result.results} == {
        ("inconclusive", True)
    }
    result.to_html(tmp_path / "out.html")


@pytest.mark.parametrize("expected", ["supported", "refuted"])
def test_a_claim_without_a_control_does_not_pass(tmp_path: Path, expected: str) -> None:
    source = KNOWN.replace("draws =", f'expected = {{"as-printed": "{expected}"}}; draws =')
    source = source.replace("return (Control(", "return ()\n        return (Control(")
    write(tmp_path, source.replace("problem, 2.0)", f"problem, {2.0 if expected == 'supported' else 3.0})"))
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    for row in result.results:
        assert (row.verdict, row.control.verdict) == ("inconclusive", "inconclusive")
        assert "got no control; wanted a false twin" in row.failure["message"]
    assert result.exit_code == 3


def test_numbers_near_the_largest_float_are_inconclusive_without_a_warning(tmp_path: Path) -> None:
    write(tmp_path, measure="return Measurement(1e308 if problem.log_alpha > 30.0 else -1e308, 1e308)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = tk.verify("toy.known", paths=[tmp_path])
        result.to_json()
    assert {row.verdict for row in result.results} <= {"inconclusive", "supported"}


@pytest.mark.parametrize(
    ("patterns", "paths", "argument"),
    [
        *(((pattern,), (), "pattern") for pattern in (None, b"x", [1])),
        *(((), paths, "paths") for paths in (None, [1], [b"x"], "checks", Path("checks"))),
    ],
)
def test_patterns_and_paths_of_another_type(patterns: Any, paths: Any, argument: str) -> None:
    with pytest.raises(InputError, match=f"^{argument}: got"):
        tk.verify(*patterns, paths=paths)


def test_a_finite_sample_has_a_part_of_the_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, measure="return Measurement(2.0, 2.0, integrator=1e-6, sampling=3e-6)")
    for row in tk.verify("toy.known", paths=[tmp_path], instances=1).results:
        assert row.error["sampling"] == pytest.approx(3.0 * row.error["integrator"])
        assert row.error["certificate"] == 0.0


def test_a_check_that_raises_once_is_not_supported(tmp_path: Path) -> None:
    write(tmp_path, summarise="return {'scale': 1 // int(0.3 < instance.data.X[0, 0])}")  # seeds of both signs
    result = tk.verify("toy.known", paths=[tmp_path], instances=4)
    for row in result.results:
        assert {item["verdict"] for item in row.detail} == {"supported"}
        assert (row.verdict, row.failure["type"]) == ("inconclusive", "ZeroDivisionError")
        assert row.measured == pytest.approx(2.0, abs=1e-9)


def test_too_short_a_ladder_is_inconclusive(tmp_path: Path) -> None:
    missing = "return Measurement(float('nan') if problem.log_alpha > 50.0 else 2.0, 2.0)"
    write(tmp_path, measure=missing)
    for row in tk.verify("toy.known", paths=[tmp_path], instances=1).results:
        assert row.verdict == "inconclusive"
        assert row.failure["message"].startswith(
            "ladder: got a number at 2 of 6 rungs, nan at the others; wanted at least 3 rungs"
        )


@pytest.mark.parametrize(
    ("draw", "failure"),
    [
        (
            "yield Instance(DiagonalNet(4), data, 'logistic', p=-1.0)\n        yield Instance(DiagonalNet(4), data",
            "p: got",
        ),
        ("return\n        yield Instance(DiagonalNet(4), data", "instances: got none; wanted at least one"),
    ],
)
def test_a_claim_that_cannot_draw_its_instances_is_inconclusive(tmp_path: Path, draw: str, failure: str) -> None:
    write(tmp_path, instances=draw)
    write(tmp_path, name="sound.py", id="toy.sound")
    result = tk.verify("toy.*", paths=[tmp_path], instances=1)
    (bad,) = result.where(claim="toy.known").results
    assert (bad.verdict, bad.control.verdict, bad.model, bad.failure["type"]) == (
        "inconclusive",
        "inconclusive",
        None,
        "InputError",
    )
    assert bad.failure["message"].startswith(failure)
    assert {row.verdict for row in result.where(claim="toy.sound").results} == {"supported"}
    assert result.exit_code == 3
    jsonschema.validate(json.loads(result.to_json(tmp_path / "out.json")), SCHEMA)
    assert "toy.known" in result.table()
    result.to_html(tmp_path / "out.html")


def test_a_failed_assumption_makes_it_not_applicable_with_the_number(tmp_path: Path) -> None:
    write(tmp_path, check='return (Assumption("fine", True, 1.0), Assumption("margin", False, -0.125))')
    result = tk.verify("toy.known", paths=[tmp_path], instances=2)
    for row in result.results:
        assert (row.verdict, row.control.verdict) == ("not-applicable", "not-applicable")
        assert row.reason == "margin fails (-0.125)"
        assert row.failure is None
    assert result.exit_code == 1  # expected: supported


def test_a_surviving_control_is_reported(tmp_path: Path) -> None:
    write(tmp_path, control="Measurement(7.0, 7.0)")
    result = tk.verify("toy.known", paths=[tmp_path], instances=1)
    assert {(row.verdict, row.control.verdict) for row in result.results} == {("supported", "supported")}
    assert result.exit_code == 1


def test_a_bar_as_wide_as_the_distance_to_the_control_proves_nothing(tmp_path: Path) -> None:
    write(tmp_path, measure="return Measurement(2.0, 2.0, integrator=0.3)")
    for row in tk.verify("toy.known", paths=[tmp_path], instances=1).results:
        assert row.error["total"] > 0.5
        assert row.verdict == "inconclusive"


def test_further_numbers_of_a_measurement_must_hold_too(tmp_path: Path) -> None:
    write(tmp_path, measure="return Measurement(2.0, 2.0, 1e-9, also=(Measurement(1.0, 1.0, 1e-9), Measurement(3, 0)))")
    for row in tk.verify("toy.known", paths=[tmp_path], instances=1).results:
        assert (row.measured, row.verdict) == (pytest.approx(2.0), "refuted")


def test_a_measurement_without_ladder_is_a_slack(tmp_path: Path) -> None:
    for slack, verdict in ((0.5, "supported"), (0.05, "inconclusive"), (-0.5, "refuted")):
        source = KNOWN.replace('Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))', "None")
        write(tmp_path, source, measure=f"return Measurement({slack}, 0.0, 0.1, extra={{'more': 7.0}})")
        result = tk.verify("toy.known", paths=[tmp_path], instances=2)
        for row in result.results:
            assert (row.verdict, row.measured, row.ladder, row.instances) == (verdict, slack, (), 2)
            assert row.predicted is None
            assert row.detail[0]["more"] == 7.0


def test_instances_override_the_draws_of_the_profile(tmp_path: Path) -> None:
    write(tmp_path)
    for count in (1, 5):
        result = tk.verify("toy.known", paths=[tmp_path], instances=count)
        assert {row.instances for row in result.results} == {count}
        assert {len(row.detail) for row in result.results} == {count}


def test_seeds_draw_the_same_and_other_instances(tmp_path: Path) -> None:
    write(tmp_path, measure="return Measurement(float(instance.data.X[0, 0]), 0.0)")

    def first(seed: int) -> list[float]:
        (row, _) = tk.verify("toy.known", paths=[tmp_path], seed=seed).results
        return [item["measured"] for item in row.detail]

    assert first(4) == first(4)
    assert len({*first(4), *first(5)}) == 6


class Recorder:
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.total, self.done, self.texts = 0, 0, list[str]()

    def start(self, total: int) -> None:
        self.total = total

    def advance(self, n: int, text: str) -> None:
        self.done += n
        self.texts.append(text)


def test_progress_counts_every_claim_on_every_instance(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="more.py", id="toy.more")  # on the same problems: shares its tasks
    progress = Recorder()
    tk.verify("toy.*", paths=[tmp_path], progress=progress)
    assert (progress.total, progress.done, len(progress.texts)) == (12, 12, 12)


def test_interrupt_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    whole = tk.verify("toy.known", paths=[tmp_path])
    run, calls = runner._run, list[int]()

    def run_three(task: Any, flows: Any) -> Any:
        calls.append(task.index)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(task, flows)

    monkeypatch.setattr(runner, "_run", run_three)
    result = tk.verify("toy.known", paths=[tmp_path])
    assert result.interrupted
    assert result.exit_code == 130
    assert len(calls) == 4
    assert sum(row.instances for row in result.results) == 3
    for row in result.results:
        assert row.verdict == "supported"
        before = whole.where(degree=row.degree).results[0]
        assert [dict(item) for item in row.detail] == [dict(item) for item in before.detail[: row.instances]]
    jsonschema.validate(json.loads(result.to_json()), SCHEMA)


def test_json_is_strict_and_obeys_the_schema(tmp_path: Path) -> None:
    extra = "return Measurement(2.0, 2.0, extra={'gone': float('inf'), 'lost': float('nan')})"
    write(tmp_path, measure=extra)
    text = tk.verify("toy.known", paths=[tmp_path], instances=1).to_json(tmp_path / "out.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    loaded = json.loads(text, parse_constant=refuse)
    jsonschema.validate(loaded, SCHEMA)
    assert loaded["results"][0]["detail"][0]["gone"] is None
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_same_seed_same_numbers_bit_for_bit_on_one_job_and_on_two(tmp_path: Path) -> None:
    write(tmp_path, FLOWS)
    write(tmp_path, name="known.py")
    first, again, spread = (tk.verify("toy.*", paths=[tmp_path], seed=7, jobs=jobs) for jobs in (1, 1, 2))
    assert numbers(first) == numbers(again)
    assert numbers(first) == numbers(spread)
    assert {(row.verdict, row.control.verdict) for row in first.results} == {("supported", "refuted")}
    other = tk.verify("toy.*", paths=[tmp_path], seed=8)
    assert [row.verdict for row in other.results] == [row.verdict for row in first.results]
    assert numbers(other.where(claim="toy.flows")) != numbers(first.where(claim="toy.flows"))


def test_what_takes_longest_begins_first(tmp_path: Path) -> None:
    """Figures, then nets with many parameters, then small ones; the results stay in the order of the files."""
    write(tmp_path, id="toy.a")
    wide = KNOWN.replace("DiagonalNet(4), data", 'MLP((4, 50, 1), activation="z^2"), data').replace(
        "import DiagonalNet", "import MLP, DiagonalNet"
    )
    (tmp_path / "wide.py").write_text(wide.replace("toy.known", "toy.b"), encoding="utf-8")
    slack = 'expansion = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),))'
    figure = KNOWN.replace("toy.known", "toy.c").replace('"limit"', '"figure"').replace(slack, "expansion = None")
    (tmp_path / "figure.py").write_text(figure, encoding="utf-8")
    progress = Recorder()
    result = tk.verify("toy.*", paths=[tmp_path], instances=1, progress=progress)
    begun = list(dict.fromkeys(text.split(":")[0] for text in progress.texts))
    assert begun.index("toy.c") < begun.index("toy.b")
    assert progress.texts[-1].startswith("toy.")
    assert list(dict.fromkeys(row.claim for row in result.results)) == ["toy.c", "toy.a", "toy.b"]
