"""Streamed flows of large nets: what they refuse, what they keep, and that a killed one goes on to the same bits."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit.experiments import load_experiment, run_experiment
from theorykit.models import CNN, MLP

P = 11
DATA = tk.datasets.modular(p=P, fraction=0.6, seed=0)
NET = MLP((2 * P, 32, P), bias=True, symbols=P)
PROBLEM = tk.Problem(NET, DATA, loss="cross_entropy", alpha=1.0, weight_decay=1e-2, init="he")
EVENT = tk.Crossing("norm", 8.4)


def flow(given: tk.Problem = PROBLEM, **settings: Any) -> tk.Trajectory:
    settings = {"tau_end": 0.2, "rtol": 1e-2, "dtype": "float32", "save": tk.SaveAt(num=9)} | settings
    return tk.gradient_flow(given, **settings)


REFUSED = {
    "type": ({"dtype": "float16"}, "dtype: got 'float16'; wanted one of float32, float64"),
    "method": ({"method": "radau"}, "dtype: got 'float32' with method='radau'; wanted method='streamed'"),
    "tolerance": ({"rtol": 0.1}, "rtol: got 0.1; wanted at most 0.03"),
    "companion": ({"companion": 0}, "companion: got 0; wanted True or False"),
    "confirmed alone": ({"companion": False, "confirm": True}, "confirm: got True with companion=False"),
    "folder": ({"checkpoint": "/nowhere/state.npz"}, "checkpoint: got /nowhere/state.npz"),
    "seconds": ({"checkpoint_every": -1.0}, "checkpoint_every: got -1; wanted a finite number >= 0"),
    "spacing": ({"save": tk.SaveAt(spacing="loglog")}, "spacing: got 'loglog' with weight decay"),
    "event": ({"events": [tk.Crossing("cos_kernel", 0.5)]}, "events: got 'cos_kernel'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused(case: str) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(tk.InputError, match=re.escape(message)):
        flow(**settings)


def test_other_methods_refuse_what_only_large_nets_have() -> None:
    with pytest.raises(tk.InputError, match="wanted method='streamed', for large nets"):
        tk.gradient_flow(PROBLEM, tau_end=0.1, method="rkc2", companion=False)


def test_problems_out_of_reach_are_refused() -> None:
    far = tk.Problem(NET, DATA, loss="cross_entropy", log_alpha=25.0, weight_decay=1e-2, init="zero_last")
    with pytest.raises(tk.InputError, match=re.escape("log_alpha: got 25; wanted at most 20 in absolute value")):
        flow(far)
    twin = tk.Problem(NET, DATA, loss="cross_entropy", log_alpha=9.0, weight_decay=1e-2, init="twin")
    with pytest.raises(tk.InputError, match="dtype: got log_alpha = 9, where round-off makes the zero output"):
        flow(twin)
    targets = tk.Dataset.from_arrays([[1.0, 2.0], [0.5, -1.0]], [0.3, -2.0], task="regression")
    squared = tk.Problem(MLP((2, 4, 1)), targets, loss="squared", alpha=1.0, weight_decay=0.0)
    with pytest.raises(tk.InputError, match="weight_decay: got 0 for the squared loss"):
        tk.gradient_flow(squared, log_t_end=3.0, dtype="float32")


def test_auto_streams_from_the_stated_number_of_parameters_on() -> None:
    wide = tk.Problem(MLP((2 * P, 1600, P), symbols=P), DATA, loss="cross_entropy", alpha=1.0, weight_decay=1e-2)
    assert wide.model.parameters >= 50_000
    trajectory = tk.gradient_flow(wide, tau_end=1e-4, rtol=1e-2, save=tk.SaveAt(num=2))
    assert trajectory.settings["method"] == "rkc2, streamed"
    assert trajectory.settings["dtype"] == "float64"


def test_result_says_what_it_is_and_refuses_what_it_has_not() -> None:
    trajectory = flow(events=[EVENT])
    assert trajectory.status == "reached_end"
    assert trajectory.tau[-1] == pytest.approx(0.2)
    assert trajectory.events[0].error < trajectory.events[0].tau
    assert set(trajectory.errors) == set(trajectory.stats)
    assert trajectory.settings["error_estimate"] == "the distance to a companion at rtol 0.1"
    counts = trajectory.counts["run"]
    assert counts["gradients"] > counts["steps"] > 10
    with pytest.raises(tk.InputError, match="a large flow, which keeps no dense output"):
        trajectory.at(tau=0.1)
    with pytest.raises(tk.InputError, match="a large flow, which keeps no dense output"):
        trajectory.crossings(EVENT)
    unit, log_norm = trajectory.parameters(-1)
    assert log_norm == pytest.approx(trajectory.stats["log_norm"][-1], abs=1e-6)
    f = NET.output(np.exp(log_norm) * unit, DATA.X)
    assert np.mean(f.argmax(axis=1) == DATA.y) == trajectory.stats["train_accuracy"][-1]
    missing = next(k for k in range(9) if k not in trajectory.kept)  # type: ignore[attr-defined]
    with pytest.raises(tk.InputError, match="where the parameters were kept"):
        trajectory.parameters(missing)


def test_without_a_companion_there_is_no_error_estimate_and_it_says_so() -> None:
    trajectory = flow(companion=False, events=[EVENT])
    assert trajectory.errors == {}
    assert trajectory.settings["error_estimate"] == "none: no companion run was asked for"
    assert trajectory.events[0].error == np.inf
    assert trajectory.diagnostics["sum_of_local_errors"] > 0.0


def test_confirmation_is_a_third_run() -> None:
    trajectory = flow(tau_end=0.05, confirm=True)
    assert trajectory.settings["confirmed"]
    assert trajectory.counts["confirmation"]["steps"] > trajectory.counts["run"]["steps"]


def test_saved_trajectory_comes_back(tmp_path: Path) -> None:
    trajectory = flow(events=[EVENT])
    trajectory.save(tmp_path / "flow.npz")
    loaded = tk.Trajectory.load(tmp_path / "flow.npz")
    assert loaded.events == trajectory.events
    np.testing.assert_array_equal(loaded.stats["test_accuracy"], trajectory.stats["test_accuracy"])
    np.testing.assert_allclose(loaded.parameters(-1)[0], trajectory.parameters(-1)[0])


def test_too_large_a_weight_decay_ends_at_zero() -> None:
    heavy = tk.Problem(NET, DATA, loss="cross_entropy", alpha=1.0, weight_decay=0.5, init="he")
    trajectory = flow(heavy, tau_end=12.0)
    assert trajectory.status == "reached_end"
    assert trajectory.stats["norm"][-1] < 1e-3
    assert trajectory.stats["train_loss"][-1] == pytest.approx(np.log(P), abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolutions_take_the_same_way(dtype: str) -> None:
    data = tk.datasets.digits(classes="all", n_train=60, seed=0)
    net = CNN((8, 8), channels=(4,), kernel=3, window=2, outputs=10)
    given = tk.Problem(net, data, loss="cross_entropy", alpha=1.0, weight_decay=1e-2, init="he")
    trajectory = flow(given, tau_end=0.02, dtype=dtype)
    assert trajectory.status == "reached_end"
    assert trajectory.diagnostics["drift"]["balancedness"] < 1e-3


KILLED = """
import sys
sys.path.insert(0, {folder!r})
import test_large_flow as test
test.flow(tau_end={end}, events=[test.EVENT], checkpoint={path!r}, checkpoint_every=0.0)
"""


def test_killed_flow_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    end, path = 0.6, tmp_path / "state.npz"
    whole = flow(tau_end=end, events=[EVENT])
    script = KILLED.format(folder=str(Path(__file__).parent), end=end, path=str(path))
    process = subprocess.Popen([sys.executable, "-c", script])
    until = time.monotonic() + 120.0
    while time.monotonic() < until and (not path.exists() or np.load(path)["0/counts"][1] < 10):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert np.load(path)["0/counts"][1] >= 10
    resumed = flow(tau_end=end, events=[EVENT], checkpoint=path)
    assert resumed.events == whole.events
    assert resumed.counts == whole.counts
    for name, values in whole.stats.items():
        assert np.array_equal(values, resumed.stats[name])
        assert np.array_equal(whole.errors[name], resumed.errors[name])
    for index, theta in whole.kept.items():  # type: ignore[attr-defined]
        assert np.array_equal(theta, resumed.kept[index])  # type: ignore[attr-defined]


def test_checkpoint_of_another_flow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    flow(tau_end=0.02, checkpoint=path)
    with pytest.raises(tk.InputError, match=r"checkpoint: got .*, of another run"):
        flow(tau_end=0.03, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(tk.InputError, match=r"checkpoint: got .*, unreadable"):
        flow(tau_end=0.02, checkpoint=path)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    flow(tau_end=0.05, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_interrupt_ends_both_runs_side_by_side() -> None:
    data = tk.datasets.matrix_completion(d=97, fraction=0.05, seed=0)
    given = tk.Problem(tk.models.MatrixFactorization(97), data, "squared", alpha=10.0, weight_decay=1e-2)
    seen: list[float] = []

    def interrupt(done: float) -> None:
        seen.append(done)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.gradient_flow(given, s_end=1.0, rtol=1e-3, progress=interrupt)
    assert len(seen) == 5  # the other run reports nothing any more: it has ended at its next step


def test_interrupted_preset_goes_on_from_its_state(tmp_path: Path) -> None:
    small = ["data.p=7", "model.widths=[16]", "flow.tau_end=0.05", "flow.points=5"]
    loaded = load_experiment("fig-2a", overrides=small)
    whole = run_experiment(loaded)

    def interrupt(done: float) -> None:
        if done > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(loaded, out=tmp_path, progress=interrupt)
    assert np.load(tmp_path / "checkpoint.npz")["0/counts"][1] > 5
    other = load_experiment("fig-2a", overrides=[*small, "problem.alpha=2.0"])
    with pytest.raises(tk.InputError, match="of another run"):
        run_experiment(other, out=tmp_path, resume=True)
    resumed = run_experiment(loaded, out=tmp_path, resume=True)
    assert resumed.summary["diagnostics"] == whole.summary["diagnostics"]
    assert resumed.summary["moments"] == whole.summary["moments"]
    assert resumed.summary["events"] == whole.summary["events"]


@pytest.mark.parametrize("name", ["fig-2a", "fig-4"])
def test_shape_of_presets_of_modular_addition(name: str) -> None:
    end = "flow.log_t_end=5.0" if name == "fig-4" else "flow.tau_end=0.02"
    result = run_experiment(load_experiment(name, overrides=["data.p=7", "model.widths=[16]", end, "flow.points=5"]))
    assert result.trajectory.status == "reached_end"
    assert result.trajectory.settings["dtype"] == "float32"
