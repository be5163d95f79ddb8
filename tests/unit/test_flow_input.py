"""Every refusal of the flow's public functions names the argument, what came, and what was wanted."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit.models import DiagonalNet

DATA = tk.Dataset.from_arrays([[1.0, 2.0], [0.5, -1.0]], [1, -1])
TARGETS = tk.Dataset.from_arrays([[1.0, 2.0], [0.5, -1.0]], [0.3, -2.0], task="regression")
NET = DiagonalNet(d=2)
SCALES: dict[str, Any] = {"log_alpha": 2.0, "weight_decay": 0.1}
PROBLEM = tk.Problem(NET, DATA, **SCALES)
WITHOUT_DECAY = tk.Problem(NET, DATA, alpha=5.0, weight_decay=0.0)


def problem(**changes: Any) -> tk.Problem:
    settings = {"model": NET, "data": DATA, "loss": "logistic", **SCALES} | changes
    return tk.Problem(settings.pop("model"), settings.pop("data"), **settings)


def flow(given: Any = PROBLEM, **settings: Any) -> tk.Trajectory:
    return tk.gradient_flow(given, **({"s_end": 1.0} | settings))


NAN, INF = math.nan, math.inf


def scaled(size: float) -> tk.Trajectory:
    data = tk.Dataset.from_arrays(size * np.ones((1, 2)), [1])
    return flow(tk.Problem(NET, data, alpha=2.0, weight_decay=0.1))


REFUSED = {
    "degree one": (lambda: DiagonalNet(d=2, degree=1), "degree: got 1; wanted an integer >= 2"),
    "degree fraction": (lambda: DiagonalNet(d=2, degree=2.5), "degree: got 2.5; wanted an integer >= 2"),
    "degree word": (lambda: DiagonalNet(d=2, degree="2"), "degree: got '2'; wanted an integer >= 2"),
    "degree truth": (lambda: DiagonalNet(d=2, degree=True), "degree: got True; wanted an integer >= 2"),
    "no features": (lambda: DiagonalNet(d=0), "d: got 0; wanted an integer >= 1"),
    "model": (lambda: problem(model="diagonal"), "model: got str; wanted a model of theorykit.models"),
    "model size": (
        lambda: problem(model=DiagonalNet(d=3)),
        "model: got d = 3; wanted d = 2, as many features as the data",
    ),
    "data": (lambda: problem(data=np.eye(2)), "data: got ndarray; wanted a theorykit Dataset"),
    "loss typo": (lambda: problem(loss="logistik"), "loss: got 'logistik'; wanted one of .*did you mean 'logistic'"),
    "loss type": (lambda: problem(loss=3), "loss: got '3'; wanted one of exponential, logistic, squared"),
    "loss of targets": (
        lambda: problem(data=TARGETS),
        "loss: got 'logistic' on a regression data set; wanted 'squared'",
    ),
    "alpha zero": (lambda: problem(log_alpha=NAN, alpha=0.0), "alpha: got 0; wanted a finite number > 0"),
    "alpha negative": (lambda: problem(log_alpha=NAN, alpha=-1.0), "alpha: got -1; wanted a finite number > 0"),
    "alpha word": (lambda: problem(log_alpha=NAN, alpha="1"), "alpha: got '1'; wanted a finite number > 0"),
    "alpha nan": (lambda: problem(log_alpha=NAN, alpha=NAN), "alpha: got nan; wanted a finite number > 0"),
    "alpha twice": (lambda: problem(alpha=3.0), "alpha: got both alpha and log_alpha; wanted exactly one of"),
    "no alpha": (
        lambda: tk.Problem(NET, DATA, weight_decay=0.1),
        "alpha: got neither alpha nor log_alpha; wanted exactly",
    ),
    "log alpha inf": (lambda: problem(log_alpha=INF), "log_alpha: got inf; wanted a finite number"),
    "lambda negative": (lambda: problem(weight_decay=-0.1), "weight_decay: got -0.1; wanted a finite number >= 0"),
    "lambda nan": (lambda: problem(weight_decay=NAN), "weight_decay: got nan; wanted a finite number >= 0"),
    "lambda twice": (
        lambda: problem(log_weight_decay=-1.0),
        "weight_decay: got both weight_decay and log_weight_decay",
    ),
    "no lambda": (lambda: tk.Problem(NET, DATA, alpha=2.0), "weight_decay: got neither weight_decay nor"),
    "init typo": (lambda: problem(init="units"), "init: got 'units'; wanted one of theory, unit .*did you mean 'unit'"),
    "init length": (
        lambda: problem(init=[1.0, 1.0]),
        r"init: got shape \(2,\); wanted a name or an array of shape \(4,\)",
    ),
    "init zero": (lambda: problem(init=np.zeros(4)), "init: got all zeros; wanted a direction"),
    "init nan": (lambda: problem(init=[1.0, NAN, 1.0, 1.0]), "init: got nan at index 1; wanted finite numbers"),
    "init too large": (
        lambda: flow(problem(init=[1.0, -0.5, 2.0, 1.0], log_alpha=500.0), tau_end=1.0, s_end=None),
        "init: got an unbalanced start at log_alpha = 500; wanted a smaller alpha",
    ),
    "s without decay": (lambda: WITHOUT_DECAY.tau_at(1.0), "s_end: got 1 with weight_decay = 0; wanted log_t_end="),
    "s of a small start": (
        lambda: flow(problem(log_alpha=-1.0)),
        "s_end: got 1 with log_alpha = -1; wanted tau_end=..., since s needs alpha > 1",
    ),
    "no problem": (lambda: flow("fig-1a"), "problem: got str; wanted a Problem"),
    "no end": (lambda: flow(s_end=None), "s_end: got no end; wanted exactly one of s_end=, tau_end=, log_t_end="),
    "two ends": (lambda: flow(tau_end=1.0), "s_end: got s_end and tau_end; wanted exactly one of"),
    "s_end without decay": (lambda: flow(WITHOUT_DECAY), "s_end: got weight_decay = 0; wanted log_t_end="),
    "tau_end without decay": (
        lambda: flow(WITHOUT_DECAY, s_end=None, tau_end=1.0),
        "tau_end: got weight_decay = 0; wanted log_t_end=",
    ),
    "s_end zero": (lambda: flow(s_end=0.0), "s_end: got 0; wanted a finite number > 0"),
    "tau_end negative": (lambda: flow(s_end=None, tau_end=-1.0), "tau_end: got -1; wanted a finite number > 0"),
    "log_t_end nan": (lambda: flow(s_end=None, log_t_end=NAN), "log_t_end: got nan; wanted a finite number"),
    "rtol tight": (lambda: flow(rtol=1e-13), "rtol: got 1e-13; wanted a finite number >= 1e-12"),
    "rtol loose": (lambda: flow(rtol=0.5), "rtol: got 0.5; wanted at most 0.01"),
    "rtol nan": (lambda: flow(rtol=NAN), "rtol: got nan; wanted a finite number"),
    "direction length": (
        lambda: flow(directions={"mine": np.ones(3)}),
        r"directions\['mine'\]: got 3 entries; wanted 2",
    ),
    "direction zero": (lambda: flow(directions={"mine": np.zeros(2)}), r"directions\['mine'\]: got all zeros; wanted"),
    "direction nan": (
        lambda: flow(directions={"mine": [1.0, NAN]}),
        r"directions\['mine'\]: got nan at index 1; wanted",
    ),
    "event type": (lambda: flow(events=["norm"]), "events: got str; wanted a list of Crossing"),
    "event typo": (
        lambda: flow(events=[tk.Crossing("train_acuracy", 1.0)]),
        "events: got 'train_acuracy'; wanted one of .*did you mean 'train_accuracy'",
    ),
    "event without test points": (
        lambda: flow(events=[tk.Crossing("test_accuracy", 0.9)]),
        "events: got 'test_accuracy'; wanted one of",
    ),
    "one event": (lambda: flow(events=tk.Crossing("norm", 0.5)), "events: got Crossing.*; wanted a list of Crossing"),
    "save number": (lambda: flow(save=50), "save: got 50; wanted a SaveAt"),
    "save past the end": (
        lambda: flow(save=tk.SaveAt(tau=[1.0, 50.0])),
        "save: got tau = 50 past the end of the flow; wanted save points up to the end",
    ),
    "progress": (lambda: flow(progress="yes"), "progress: got 'yes'; wanted a function"),
    "directions": (lambda: flow(directions="w"), "directions: got 'w'; wanted a dict of vectors"),
    "event name": (lambda: tk.Crossing(None, 1.0), "statistic: got None; wanted the name"),  # type: ignore[arg-type]
    "degree": (lambda: tk.models.DiagonalNet(2, degree=2**63), "degree: got 9223372036854775808; wanted at most 100"),
    "tiny features": (lambda: scaled(1e-160), "data: got features of size 1e-160; wanted 1e-60 to 1e"),
    "huge features": (lambda: scaled(1e160), r"data: got features of size 1e\+160; wanted 1e-60 to 1e"),
    "zero features": (lambda: scaled(0.0), "data: got features that are all 0; wanted"),
    "crossing level": (lambda: tk.Crossing("norm", NAN), "level: got nan; wanted a finite number"),
    "crossing direction": (lambda: tk.Crossing("norm", 1.0, direction=2), r"direction: got 2; wanted -1 \(falling\)"),
    "save num": (lambda: tk.SaveAt(num=1), "num: got 1; wanted an integer >= 2"),
    "save num fraction": (lambda: tk.SaveAt(num=10.0), "num: got 10.0; wanted an integer >= 2"),
    "save spacing": (lambda: tk.SaveAt(spacing="cubic"), "spacing: got 'cubic'; wanted 'linear', 'log' or 'loglog'"),
    "save twice": (lambda: tk.SaveAt(s=[0.5], tau=[1.0]), "s: got both s and tau; wanted at most one"),
    "save falling": (lambda: tk.SaveAt(s=[0.5, 0.4]), r"s: got \[0.5 0.4\]; wanted increasing positive times"),
    "save zero": (lambda: tk.SaveAt(tau=[0.0, 0.4]), "tau: got .*; wanted increasing positive times"),
    "save empty": (lambda: tk.SaveAt(tau=[]), "tau: got .*; wanted increasing positive times"),
    "save nan": (lambda: tk.SaveAt(s=[0.1, NAN]), "s: got nan at index 1; wanted finite numbers"),
    "save at s without decay": (
        lambda: flow(WITHOUT_DECAY, s_end=None, log_t_end=2.0, save=tk.SaveAt(s=[0.5])),
        "s_end: got 0.5 with weight_decay = 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    call, message = REFUSED[name]
    with pytest.raises(tk.InputError) as caught:
        call()
    assert re.match(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_and_logarithmic_scales_are_the_same():
    plain = tk.Problem(NET, DATA, alpha=math.e**2, weight_decay=math.e**-3)
    logs = tk.Problem(NET, DATA, log_alpha=2.0, log_weight_decay=-3.0)
    assert plain.log_alpha == pytest.approx(logs.log_alpha)
    assert plain.log_weight_decay == pytest.approx(logs.log_weight_decay)
    assert plain.log_A == pytest.approx(2.0 * 2.0 + 3.0)
    assert logs.tau_at(1.5) == 3.0
    assert WITHOUT_DECAY.log_weight_decay == -math.inf


def test_a_problem_is_frozen():
    with pytest.raises(AttributeError):
        PROBLEM.loss = "squared"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        PROBLEM.direction[0] = 2.0


@pytest.mark.parametrize("given", [PROBLEM, WITHOUT_DECAY])
def test_progress_rises_to_one(given):
    seen: list[float] = []
    tk.gradient_flow(given, log_t_end=0.0, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] >= 0.0
    assert seen[-1] == pytest.approx(1.0)
