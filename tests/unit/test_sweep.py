"""Sweeps: the same numbers however they are computed, nothing computed twice, and the law of the transition time."""

from __future__ import annotations

import csv
import math
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import family
from theorykit.models import DiagonalNet

DATA = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=0)
PROBLEM = tk.Problem(DiagonalNet(d=40), DATA, loss="exponential", alpha=10.0, weight_decay=1e-3)
DIRECTIONS = {
    "kernel": tk.programs.max_margin(DATA.X, DATA.y, norm=2).w,
    "rich": tk.programs.max_margin(DATA.X, DATA.y, norm=1).w,
}


def run(problem: Any = PROBLEM, **settings: Any) -> tk.Sweep:
    return tk.sweep(problem, **({"log_alpha": [20.0, 40.0], "log_weight_decay": lambda a: -a} | settings))


def same(a: tk.Sweep, b: tk.Sweep) -> None:
    for name in ("log_alpha", "log_weight_decay", "tau", "s", "error"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True), name
    assert (a.status, a.event, a.settings) == (b.status, b.event, b.settings)


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("a flow was computed again")


def test_one_job_and_two_give_the_same():
    same(run(jobs=1, directions=DIRECTIONS), run(jobs=2, directions=DIRECTIONS))


def test_each_row_is_what_the_flow_alone_gives():
    found = run(log_alpha=[30.0], directions=DIRECTIONS)
    problem = tk.Problem(DiagonalNet(d=40), DATA, loss="exponential", log_alpha=30.0, log_weight_decay=-30.0)
    flow = tk.gradient_flow(problem, s_end=1.5, directions=DIRECTIONS)
    (event,) = flow.crossings(tk.Crossing("transition", 0.5, direction=1))
    assert (found.tau[0], found.s[0]) == pytest.approx((event.tau, event.s), rel=1e-12)
    assert 0.4 < flow.at(tau=float(found.tau[0]))["transition"] < 0.6


def test_products_and_functions():
    product = run(log_weight_decay=[-20.0, -30.0, -40.0])
    assert product.log_alpha.tolist() == [20.0] * 3 + [40.0] * 3
    assert product.log_weight_decay.tolist() == [-20.0, -30.0, -40.0] * 2
    paired = run()
    assert paired.log_weight_decay.tolist() == [-20.0, -40.0]
    assert paired.tau.tolist() == [product.tau[0], product.tau[5]]
    assert run(log_weight_decay=None).log_weight_decay == pytest.approx([math.log(1e-3)] * 2)


@pytest.mark.parametrize("degree", [2, 3])
def test_second_order_law(degree):
    """lambda t* = log(alpha) - (1/L) log log A + O(1): what is left settles, and log(alpha) alone drifts."""
    problem = tk.Problem(DiagonalNet(d=40, degree=degree), DATA, loss="exponential", alpha=10.0, weight_decay=1e-3)
    found = run(problem, log_alpha=[40.0, 160.0, 640.0, 2560.0])
    log_a = 2.0 * (degree - 1) * found.log_alpha - found.log_weight_decay
    left = found.tau - (found.log_alpha - np.log(log_a) / degree)
    assert np.all(np.abs(left) < 3.0)
    assert np.ptp(left) < 0.1
    assert np.ptp(found.tau - found.log_alpha) > 1.0
    assert np.all(found.error < 1e-5)


def test_a_sweep_that_died_loses_nothing(tmp_path, monkeypatch):
    folder, flow, count = tmp_path / "flows", family.gradient_flow, [0]

    def dies(*arguments: Any, **settings: Any) -> Any:
        count[0] += 1
        if count[0] > 1:
            raise KeyboardInterrupt
        return flow(*arguments, **settings)

    monkeypatch.setattr(family, "gradient_flow", dies)
    with pytest.raises(KeyboardInterrupt):
        run(folder=folder)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(family, "gradient_flow", flow)
    whole = run(folder=folder)
    assert whole.reused == 1
    same(whole, run())
    monkeypatch.setattr(family, "gradient_flow", forbidden)
    again = run(folder=folder)
    assert again.reused == 2
    same(again, whole)
    assert np.array_equal(again.wall_s, whole.wall_s)
    for change in (
        {"rtol": 1e-7}, {"s_end": 1.4}, {"event": tk.Crossing("norm", 1.0)}, {"directions": DIRECTIONS},
        {"log_alpha": [21.0]}, {"log_weight_decay": [-10.0]},
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="computed again"):
            run(folder=folder, **change)


def test_damaged_files_are_computed_anew(tmp_path):
    whole = run(folder=tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    again = run(folder=tmp_path, jobs=2)
    assert again.reused == 0
    same(again, whole)
    assert run(folder=tmp_path).reused == 2


def test_no_crossing_is_nan(tmp_path):
    found = run(s_end=0.5)
    assert np.isnan(found.tau).all()
    assert found.status == ("reached_end", "reached_end")
    found.to_csv(tmp_path / "sweep.csv")
    assert [row["tau"] for row in csv.DictReader((tmp_path / "sweep.csv").open())] == ["", ""]


def test_default_event():
    assert run(log_alpha=[20.0]).event == tk.Crossing("log_delta", math.log(0.5), direction=1)
    assert run(log_alpha=[20.0], directions=DIRECTIONS).event == tk.Crossing("transition", 0.5, direction=1)


def test_table_plot_and_progress(tmp_path):
    fractions: list[float] = []
    found = run(log_weight_decay=[-20.0, -40.0], progress=fractions.append)
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    found.to_csv(tmp_path / "sweep.csv")
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [float(row["tau"]) for row in rows] == found.tau.tolist()
    assert [row["status"] for row in rows] == list(found.status)
    assert [len(axes.get_lines()) > 0 for axes in found.plot().axes] == [True, True]
    assert len(run().plot().axes) == 2


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "problem": ({"problem": None}, "problem: got NoneType; wanted a Problem"),
    "no alpha": ({"log_alpha": []}, "log_alpha: got .*; wanted positive logarithms"),
    "small alpha": ({"log_alpha": [-1.0]}, "log_alpha: got .*; wanted positive logarithms"),
    "alpha nan": ({"log_alpha": [math.nan]}, "log_alpha: got nan at index 0"),
    "no decay": ({"log_weight_decay": []}, "log_weight_decay: got none"),
    "decay infinite": ({"log_weight_decay": [-math.inf]}, "log_weight_decay: got -inf at index 0"),
    "decay of a function": ({"log_weight_decay": lambda a: math.nan}, "log_weight_decay: got nan; wanted a finite"),
    "s_end": ({"s_end": 0.0}, "s_end: got 0; wanted a finite number > 0"),
    "event": ({"event": "transition"}, "event: got 'transition'; wanted a Crossing"),
    "event typo": ({"event": tk.Crossing("norms", 1.0)}, "events: got 'norms'; wanted one of"),
    "transition without directions": ({"event": tk.Crossing("transition", 0.5)}, "events: got 'transition'"),
    "rtol": ({"rtol": 1.0}, "rtol: got 1; wanted at most 0.01"),
    "jobs": ({"jobs": 0}, "jobs: got 0; wanted an integer >= 1"),
    "folder": ({"folder": __file__}, "folder: got .*; wanted a folder that can be written"),
    "progress": ({"progress": 3}, "progress: got 3; wanted a function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    changes, message = REFUSED[name]
    with pytest.raises(tk.InputError, match=message):
        run(**changes)
