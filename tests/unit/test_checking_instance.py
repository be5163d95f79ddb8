"""Instances of any model, trials of claims about no flow, slacks along a ladder, and measured frequencies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy.stats import beta, binomtest

import theorykit as tk
from theorykit import Dataset, InputError, Instance, Measurement, Trial
from theorykit.checking import clopper_pearson
from theorykit.models import MLP, DiagonalNet

SCHEMA = json.loads((Path(__file__).parents[1] / "cli" / "verify.schema.json").read_text(encoding="utf-8"))
DATA = Dataset.from_arrays([[1.0, 2.0], [0.5, -1.0]], [1.0, -1.0])
HEAD = """
import numpy as np
from theorykit.checking import Claim, Control, Instance, Measurement, Source, Trial
from theorykit.datasets import Dataset
from theorykit.models import MLP, DiagonalNet
"""
SCALAR = (
    HEAD
    + '''
class Scalar(Claim):
    """y >= log(1 + y)."""

    id, title, kind, source = "toy.scalar", "A scalar lemma", "inequality", Source("toy", "Lemma 1")
    expansion = None
    draws = {"quick": 3}

    def instances(self, rng):
        for label, y in (("y < 1", rng.uniform(0.5, 1.0)), ("y > 1", rng.uniform(1.0, 9.0))):
            yield Trial(label, {"y": y})

    def measure(self, trial, problem, variant):
        assert problem is None
        y = trial.values["y"]
        return Measurement(y - np.log1p(y), 0.0, integrator=1e-15, extra={"y": y})

    def summarise(self, trial, problem):
        return {"largest": trial.values["y"]}

    def controls(self):
        return (Control("y <= log(1 + y)", lambda t, _: Measurement(np.log1p(t.values["y"]) - t.values["y"], 0.0)),)
'''
)
LADDER = (
    HEAD
    + '''
class Slack(Claim):
    """The slack 1 - 10/log(alpha) is not negative."""

    id, title, kind, source = "toy.slack", "Slack on a ladder", "inequality", Source("toy", "Lemma 2")
    expansion = None
    ladders = {"quick": (20.0, 40.0, 80.0)}
    draws = {"quick": 2}

    def instances(self, rng):
        data = Dataset.from_arrays(rng.standard_normal((3, 4)), [1.0, -1.0, 1.0])
        yield Instance(MLP((4, 3, 1), activation="relu^2"), data, "exponential")
        yield Instance(DiagonalNet(4), data, "exponential")

    def measure(self, instance, problem, variant):
        return Measurement(1.0 - TEN / problem.log_alpha, 0.0, integrator=0.01 * problem.log_alpha / 20.0)

    def controls(self):
        return (Control("negative", lambda i, problem: Measurement(-1.0 / problem.log_alpha, 0.0)),)
'''
)


def test_an_instance_takes_any_model_start_and_seed() -> None:
    net = MLP((2, 3, 1), activation="relu^2")
    start = np.ones(net.parameters)
    problem = Instance(net, DATA, "logistic", p=2.0, init=start).at(3.0)
    assert (problem.model, problem.log_weight_decay, problem.direction.tolist()) == (net, -6.0, start.tolist())
    drawn = [Instance(net, DATA, "logistic", init="he", seed=seed).at(3.0).direction for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_instances_share_a_problem_only_if_everything_agrees() -> None:
    net = MLP((2, 3, 1), activation="relu^2")
    base = Instance(net, DATA, "logistic")
    assert Instance(MLP((2, 3, 1), activation="relu^2"), DATA, "logistic").key == base.key
    others = [
        Instance(MLP((2, 4, 1), activation="relu^2"), DATA, "logistic"),
        Instance(net, DATA, "logistic", seed=1),
        Instance(net, DATA, "logistic", init=np.ones(net.parameters)),
        Instance(net, DATA, "logistic", init=2.0 * np.ones(net.parameters)),
    ]
    assert len({base.key, *(other.key for other in others)}) == 5
    assert others[0].family != base.family  # the width is part of the model's name
    assert others[1].family == base.family  # another draw of the same family
    assert others[2].family != base.family


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "net"}, "^model: got 'net'; wanted a model"),
        ({"data": [1.0]}, "^data: got"),
        ({"seed": -1}, "^seed: got -1"),
    ],
)
def test_an_instance_says_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Instance(**{"model": DiagonalNet(2), "data": DATA, "loss": "logistic"} | changes)


WRONG = {
    # f has degree 3: at c = 1/2 it is twice c^4 f
    "def degree(self): return 4": r"homogeneity fails: f\(c theta\) and c\^4 f\(theta\) differ by 1",
    "def jvp(self, *given): return 0.5 * super().jvp(*given)": (
        "gradient fails: finite differences of the output and the gradient differ by 1"
    ),
    # <theta, 2 grad f> = 6 f; relative to the sum of |theta_k df/dtheta_k|, which is at least |3 f|
    "def features(self, *given): return 2.0 * super().features(*given)": (
        r"Euler's identity fails: <theta, grad f> and 3 f differ by (0\.\d+|1)"
    ),
}


@pytest.mark.parametrize(("method", "message"), WRONG.items())
def test_a_claim_refuses_a_model_that_is_not_homogeneous_and_says_by_how_much(
    tmp_path: Path, method: str, message: str
) -> None:
    line = f"    @property\n    {method}" if "degree" in method else f"    {method}"
    source = LADDER.replace("TEN", "10.0").replace("Instance(MLP", "Instance(Wrong")
    (tmp_path / "slack.py").write_text(source.replace("class Slack", f"class Wrong(MLP):\n{line}\n\nclass Slack"))
    result = tk.verify("toy.slack", paths=[tmp_path])
    assert result.exit_code != 0
    for row in result.results:
        assert row.verdict == "inconclusive"
        assert row.failure is not None
        wanted = rf"^model: got mlp 4-3-1 relu\^2, for which {message} \(relative\); wanted a [34]-homogeneous model"
        assert re.search(wanted, row.failure["message"])


def test_a_trial_needs_a_label() -> None:
    with pytest.raises(InputError, match=r"^label: got ''"):
        Trial("", 1.0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_trials_are_judged_without_a_flow_and_reported_by_their_label(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "scalar.py").write_text(SCALAR, encoding="utf-8")
    result = tk.verify("toy.scalar", paths=[tmp_path], jobs=jobs)
    assert [(r.model, r.loss, r.degree, r.verdict, r.instances) for r in result.results] == [
        ("y < 1", None, None, "supported", 3),
        ("y > 1", None, None, "supported", 3),
    ]
    for row in result.results:
        assert row.control.verdict == "refuted"
        slacks = [item["measured"] for item in row.detail]
        assert (row.measured, row.predicted, row.ladder) == (min(slacks), None, ())
        assert "instances" not in row.error
        assert set(row.summary) == {"largest"}
    assert result.exit_code == 0
    document = json.loads(result.to_json())
    jsonschema.validate(document, SCHEMA)
    assert document["results"][0]["predicted"] is None
    table = result.table()
    assert "y < 1" in table
    assert "≥ 0" in table
    assert "y &lt; 1" in result._repr_html_()


def test_a_limit_of_trials_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scalar.py").write_text(SCALAR.replace("expansion = None", ""), encoding="utf-8")
    (row, _) = tk.verify("toy.scalar", paths=[tmp_path]).results
    assert row.verdict == "inconclusive"
    assert row.failure is not None
    assert "a trial has no scale" in row.failure["message"]


def test_slacks_along_a_ladder(tmp_path: Path) -> None:
    for ten, verdict, measured in ((10.0, "supported", 0.5), (19.9, "inconclusive", 0.005), (30.0, "refuted", -0.5)):
        (tmp_path / "slack.py").write_text(LADDER.replace("TEN", str(ten)), encoding="utf-8")
        result = tk.verify("toy.slack", paths=[tmp_path])
        assert [row.model for row in result.results] == [MLP((4, 3, 1), activation="relu^2").name, "diagonal"]
        for row in result.results:
            assert row.verdict == verdict
            assert (row.measured, row.error["total"]) == (pytest.approx(measured), 0.01)  # that of the first rung
            assert [rung.log_alpha for rung in row.ladder] == [20.0, 40.0, 80.0]
            assert row.ladder[1].measured == pytest.approx(1.0 - ten / 40.0)
            assert row.control.verdict == "refuted"


def test_a_number_beside_a_slack_counts(tmp_path: Path) -> None:
    source = LADDER.replace("TEN", "10.0").replace("/ 20.0)", "/ 20.0, also=(Measurement(-0.25, 0.0),))")
    (tmp_path / "slack.py").write_text(source, encoding="utf-8")
    for row in tk.verify("toy.slack", paths=[tmp_path], instances=1).results:
        assert (row.verdict, row.measured) == ("refuted", -0.25)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (0, 50), (1, 1), (17, 50), (50, 50), (990, 1000)])
def test_intervals_of_frequencies_agree_with_scipy(hits: int, trials: int) -> None:
    low, high = clopper_pearson(hits, trials, 0.99)
    exact = binomtest(hits, trials).proportion_ci(0.99, method="exact")
    assert (low, high) == (pytest.approx(exact.low, abs=1e-12), pytest.approx(exact.high, abs=1e-12))
    if 0 < hits < trials:
        assert low == pytest.approx(beta.ppf(0.005, hits, trials - hits + 1), rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "trials", "at_least", "verdict"),
    [(990, 1000, 0.95, "supported"), (990, 1000, 0.985, "inconclusive"), (900, 1000, 0.95, "refuted")],
)
def test_a_frequency_is_judged_by_the_end_of_its_interval(
    hits: int, trials: int, at_least: float, verdict: str
) -> None:
    from theorykit.checking.verdict import judge_slacks

    seen = Measurement.frequency(hits, trials, at_least)
    low, high = seen.extra["interval from"], seen.extra["interval to"]
    assert judge_slacks([(seen.measured - seen.predicted, seen.error)]) == verdict
    assert {"supported": low > at_least, "refuted": high < at_least, "inconclusive": low <= at_least <= high}[verdict]


@pytest.mark.parametrize("bad", [(3, 2, 0.5), (-1, 2, 0.5), (0, 0, 0.5), (1, 2, 0.5, 1.0), (1, 2, -0.1)])
def test_frequencies_say_what_is_wrong(bad: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        Measurement.frequency(*bad)
