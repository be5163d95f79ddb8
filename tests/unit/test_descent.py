"""Gradient descent: refusals, checkpoints that survive a kill, files."""

from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit.models import DiagonalNet

RNG = np.random.default_rng(0)
DATA = tk.Dataset.from_arrays(RNG.standard_normal((6, 4)), RNG.standard_normal(6), task="regression")
LABELS = tk.Dataset.from_arrays(RNG.standard_normal((6, 4)), [1, -1, 1, 1, -1, -1])
PROBLEM = tk.Problem(DiagonalNet(d=4), DATA, loss="squared", alpha=1.5, weight_decay=0.1)
WITHOUT_DECAY = tk.Problem(DiagonalNet(d=4), DATA, loss="squared", alpha=1.5, weight_decay=0.0)
CLASSIFIER = tk.Problem(DiagonalNet(d=4), LABELS, alpha=1.5, weight_decay=0.1)


def descend(problem: Any = PROBLEM, **settings: Any) -> tk.Descent:
    return tk.gradient_descent(problem, **({"step": 0.01, "steps": 40} | settings))


def scaled(**settings: Any) -> tk.Problem:
    settings = {"log_alpha": 0.0, "log_weight_decay": 0.0} | settings
    return tk.Problem(DiagonalNet(d=4), DATA, loss="squared", **settings)


NAN = math.nan
REFUSED = {
    "problem": ({"problem": "fig-1a"}, "problem: got str; wanted a Problem"),
    "step zero": ({"step": 0.0}, "step: got 0; wanted a finite number > 0"),
    "step negative": ({"step": -0.1}, "step: got -0.1; wanted a finite number > 0"),
    "step nan": ({"step": NAN}, "step: got nan; wanted a finite number > 0"),
    "step infinite": ({"step": math.inf}, "step: got inf; wanted a finite number > 0"),
    "step word": ({"step": "0.1"}, "step: got '0.1'; wanted a finite number > 0"),
    "no steps": ({"steps": 0}, "steps: got 0; wanted an integer >= 1"),
    "steps fraction": ({"steps": 10.0}, "steps: got 10.0; wanted an integer >= 1"),
    "batch zero": ({"batch": 0}, "batch: got 0; wanted an integer >= 1"),
    "batch large": ({"batch": 7}, "batch: got 7; wanted at most 6, the number of samples"),
    "batch truth": ({"batch": True}, "batch: got True; wanted an integer >= 1"),
    "replacement": ({"replacement": "yes"}, "replacement: got 'yes'; wanted True or False"),
    "noise negative": ({"label_noise": -1.0}, "label_noise: got -1; wanted a finite number >= 0"),
    "noise nan": ({"label_noise": NAN}, "label_noise: got nan; wanted a finite number >= 0"),
    "noise on labels": (
        {"problem": CLASSIFIER, "label_noise": 0.1},
        "label_noise: got 0.1 with loss 'logistic'; wanted 0, or loss='squared'",
    ),
    "seed": ({"seed": -1}, "seed: got -1; wanted an integer >= 0"),
    "seed fraction": ({"seed": 0.5}, "seed: got 0.5; wanted an integer >= 0"),
    "save": ({"save": 50}, "save: got 50; wanted a SaveAt"),
    "save past the end": (
        {"save": tk.SaveAt(tau=[0.01, 3.0])},
        "save: got points up to step 3000; wanted points up to the end, step 40",
    ),
    "save in tau without decay": (
        {"problem": WITHOUT_DECAY, "save": tk.SaveAt(tau=[0.01])},
        "tau: got save points in slow time with weight_decay = 0; wanted num= and spacing=",
    ),
    "event": ({"events": ["norm"]}, "events: got str; wanted a list of Crossing"),
    "one event": ({"events": tk.Crossing("norm", 0.5)}, "events: got Crossing.*; wanted a list of Crossing"),
    "one stop": ({"stop": tk.Crossing("norm", 0.5)}, "stop: got Crossing.*; wanted a list of Crossing"),
    "event typo": (
        {"stop": [tk.Crossing("train_los", 0.5)]},
        "events: got 'train_los'; wanted one of .*did you mean 'train_loss'",
    ),
    "check": ({"check_every": 0}, "check_every: got 0; wanted an integer >= 1"),
    "checkpoint": ({"checkpoint": 5}, "checkpoint: got 5; wanted the path of a file"),
    "direction": ({"directions": {"mine": np.ones(3)}}, r"directions\['mine'\]: got 3 entries; wanted 4"),
    "statistics": ({"statistics": {"mine": 3.0}}, "statistics: got .*; wanted a dict of functions of theta"),
    "statistics taken": (
        {"statistics": {"norm": np.sum}},
        "statistics: got 'norm', a statistic that is there; wanted a name of your own",
    ),
    "checkpoint often": ({"checkpoint_every": NAN}, "checkpoint_every: got nan; wanted"),
    "checkpoint nowhere": ({"checkpoint": "no/such/folder/a.npz"}, "checkpoint: got .*; wanted a file in a folder"),
    "progress": ({"progress": 1}, "progress: got 1; wanted a function of the fraction done"),
    "alpha": ({"problem": scaled(log_alpha=800.0)}, "log_alpha: got 800; wanted a start inside the float range"),
    "alpha small": (
        {"problem": scaled(log_alpha=-800.0)},
        "log_alpha: got -800; wanted a start inside the float range",
    ),
    "start too large": (
        {"problem": scaled(log_alpha=600.0, init=np.full(8, 1e300))},
        r"log_alpha: got 600 with a direction of size 1e\+300; wanted a start inside the float range",
    ),
    "start too small": (
        {"problem": scaled(log_alpha=-600.0, init=np.full(8, 1e-300))},
        "log_alpha: got -600 with a direction of size 1e-300; wanted a start inside the float range",
    ),
    "decay": ({"problem": scaled(log_weight_decay=800.0)}, "log_weight_decay: got 800; wanted at most 700"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    changes, message = REFUSED[name]
    with pytest.raises(tk.InputError) as caught:
        descend(**changes)
    assert re.match(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def same(a: tk.Descent, b: tk.Descent) -> None:
    """Assert that two descents agree bit for bit, wall time apart."""
    assert (a.status, a.message, a.events, a.counts, a.settings) == (
        b.status,
        b.message,
        b.events,
        b.counts,
        b.settings,
    )
    for name in ("theta", "steps", "tau", "s", "t", "log_t"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True), name
    assert a.stats.keys() == b.stats.keys()
    for name, values in a.stats.items():
        assert np.array_equal(values, b.stats[name], equal_nan=True), name


LONG: dict[str, Any] = {
    "step": 1e-3,
    "steps": 6000,
    "batch": 4,
    "label_noise": 0.5,
    "seed": 7,
    "events": [tk.Crossing("train_loss", 0.0905)],
    "check_every": 20,
    "save": tk.SaveAt(num=50),
}
KILLED = f"""
import os, sys
import numpy as np
import theorykit as tk
rng = np.random.default_rng(0)
data = tk.Dataset.from_arrays(rng.standard_normal((6, 4)), rng.standard_normal(6), task="regression")
problem = tk.Problem(tk.models.DiagonalNet(d=4), data, loss="squared", alpha=1.5, weight_decay=0.1)
from theorykit import Crossing, SaveAt
settings = {LONG!r}
def die(fraction):
    if fraction > 0.4:
        os._exit(9)
tk.gradient_descent(problem, checkpoint=sys.argv[1], checkpoint_every=0.0, progress=die, **settings)
"""


@pytest.mark.parametrize("replacement", [False, True])
def test_a_killed_descent_goes_on_to_the_same_bits(replacement, tmp_path):
    file = tmp_path / "run.npz"
    script = KILLED.replace("**settings", f"replacement={replacement}, **settings")
    killed = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    whole = descend(replacement=replacement, **LONG)
    assert len(whole.events) > 1
    fractions: list[float] = []
    resumed = descend(replacement=replacement, checkpoint=file, progress=fractions.append, **LONG)
    assert 0.4 < fractions[0] < 0.5
    same(resumed, whole)
    fractions.clear()
    same(descend(replacement=replacement, checkpoint=file, progress=fractions.append, **LONG), whole)
    assert not fractions


def test_a_checkpoint_of_another_descent_is_refused(tmp_path):
    file = tmp_path / "run.npz"
    descend(checkpoint=file)
    for change in ({"seed": 1}, {"steps": 41}, {"step": 0.02}, {"batch": 2}, {"events": [tk.Crossing("norm", 1.0)]}):
        with pytest.raises(tk.InputError, match=r"checkpoint: got .*of another run"):
            descend(checkpoint=file, **change)
    with pytest.raises(tk.InputError, match="of another run"):
        descend(WITHOUT_DECAY, checkpoint=file)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    file = tmp_path / "run.npz"
    descend(checkpoint=file)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    file.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b"", "text": b"theta = 3"}[damage])
    with pytest.raises(tk.InputError, match=r"checkpoint: got .*(unreadable|damaged)"):
        descend(checkpoint=file)


def test_nothing_runs_from_a_checkpoint(tmp_path):
    """An array of pickled objects is refused, not loaded."""
    file = tmp_path / "run.npz"
    np.savez(file, digest=np.array([Path("x")], dtype=object), allow_pickle=True)
    with pytest.raises(tk.InputError, match=r"checkpoint: got .*unreadable"):
        descend(checkpoint=file)


def test_save_and_load(tmp_path):
    run = descend(events=[tk.Crossing("norm", 3.0)], directions={"mine": np.ones(4)})
    run.save(tmp_path / "run.npz")
    again = tk.Descent.load(tmp_path / "run.npz")
    same(again, run)
    assert np.array_equal(again.weights(-1), PROBLEM.model.weights(run.theta))
    assert again.diagnostics == run.diagnostics
    assert "40" in repr(again)


@pytest.mark.parametrize("content", [b"", b"PK", b"a,b\n"])
def test_load_refuses_other_files(content, tmp_path):
    file = tmp_path / "run.npz"
    file.write_bytes(content)
    with pytest.raises(tk.InputError, match=r"path: got .*; wanted a file written by Descent.save"):
        tk.Descent.load(file)
    flow = tk.gradient_flow(PROBLEM, tau_end=1.0, save=tk.SaveAt(num=5))
    flow.save(file)
    with pytest.raises(tk.InputError, match=r"wanted a file written by Descent.save"):
        tk.Descent.load(file)


def test_csv_and_plot(tmp_path):
    run = descend(CLASSIFIER, save=tk.SaveAt(num=5))
    run.to_csv(tmp_path / "run.csv")
    rows = list(csv.DictReader((tmp_path / "run.csv").open()))
    assert [float(row["t"]) for row in rows] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])
    assert [float(row["train_loss"]) for row in rows] == run.stats["train_loss"].tolist()
    assert len(run.plot().axes) == 2
    assert len(descend(WITHOUT_DECAY).plot().axes) == 2


@pytest.mark.parametrize(
    ("save", "steps"),
    [
        (tk.SaveAt(num=4), [10, 20, 30, 40]),
        (tk.SaveAt(num=400), list(range(1, 41))),
        (tk.SaveAt(num=4, spacing="log"), [1, 3, 12, 40]),
        (tk.SaveAt(tau=[0.0101, 0.0204]), [10, 20, 40]),
        (tk.SaveAt(s=[0.02 / math.log(1.5)]), [20, 40]),
    ],
)
def test_save_points(save, steps):
    run = descend(save=save)
    assert run.steps.tolist() == steps
    np.testing.assert_allclose(run.t, 0.01 * np.array(steps))
    np.testing.assert_allclose(run.tau, 0.001 * np.array(steps))
    np.testing.assert_allclose(run.s, run.tau / math.log(1.5))


def test_a_start_whose_loss_overflows_diverges_at_once():
    run = descend(scaled(log_alpha=650.0))
    assert (run.status, run.steps.tolist(), run.counts["steps"]) == ("diverged", [0], 0)
    assert "above 2/(largest curvature at the start) = 0" in run.message


def test_what_a_descent_does_not_have():
    run = descend(WITHOUT_DECAY)
    assert np.isnan(run.tau).all()
    assert np.isnan(run.s).all()
    assert isinstance(run, tk.Trajectory)
    for call in (lambda: run.at(tau=0.01), lambda: run.crossings(tk.Crossing("norm", 1.0)), lambda: run.weights(0)):
        with pytest.raises(tk.InputError, match=r"got .*; wanted "):
            call()


def test_the_global_seed_does_not_matter_and_the_seed_does():
    np.random.seed(1)  # noqa: NPY002 - someone else's global state
    one = descend(batch=2, label_noise=0.1)
    np.random.seed(2)  # noqa: NPY002
    same(one, descend(batch=2, label_noise=0.1))
    assert not np.array_equal(one.theta, descend(batch=2, label_noise=0.1, seed=1).theta)


def test_memory_does_not_grow_with_the_steps():
    peaks = []
    for steps in (600_000, 3_000_000):
        tracemalloc.start()
        descend(steps=steps, step=1e-5, batch=1, replacement=True, label_noise=0.1, save=tk.SaveAt(num=2))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
