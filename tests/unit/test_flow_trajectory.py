"""Trajectories: reading them, saving and loading them, and what damaged files say."""

from __future__ import annotations

import csv
import json
import math
import pickle

import numpy as np
import pytest

import theorykit as tk


@pytest.fixture(scope="module")
def trajectory() -> tk.Trajectory:
    data = tk.datasets.sparse_sign(n=6, d=20, k=3, n_test=50, seed=0)
    problem = tk.Problem(tk.models.DiagonalNet(d=20), data, loss="logistic", log_alpha=5.0, log_weight_decay=-5.0)
    return tk.gradient_flow(
        problem,
        s_end=1.5,
        save=tk.SaveAt(num=20),
        directions={"ones": np.ones(20)},
        events=[tk.Crossing("log_delta", math.log(0.5)), tk.Crossing("test_accuracy", 0.9)],
    )


def test_times_and_statistics(trajectory):
    np.testing.assert_allclose(trajectory.s, 1.5 * np.arange(1, 21) / 20)
    np.testing.assert_allclose(trajectory.tau, 5.0 * trajectory.s)
    np.testing.assert_allclose(trajectory.log_t, np.log(trajectory.tau) + 5.0)
    np.testing.assert_allclose(np.log(trajectory.t), trajectory.log_t)
    assert {"train_loss", "train_accuracy", "test_accuracy", "margin", "log_norm", "cos_ones"} <= set(trajectory.stats)
    assert all(values.shape == (20,) for values in trajectory.stats.values())
    assert all((values >= 0.0).all() for values in trajectory.errors.values())
    assert not [name for name in trajectory.errors if name.startswith("test_")]
    assert trajectory.raise_for_status() is trajectory


def test_at_reads_the_dense_output(trajectory):
    snapshot = trajectory.at(s=float(trajectory.s[7]))
    np.testing.assert_allclose(snapshot.weights, trajectory.weights(7), rtol=1e-12)
    for name in ("log_norm", "train_loss", "test_accuracy"):
        assert snapshot[name] == pytest.approx(trajectory.stats[name][7], rel=1e-10)
    log_u, log_v = snapshot.log_coordinates
    np.testing.assert_allclose(np.exp(2.0 * log_u) - np.exp(2.0 * log_v), snapshot.weights, rtol=1e-6, atol=1e-9)
    assert 0.0 <= snapshot.error("log_norm") < 1e-4
    assert 0.0 < snapshot.error("test_accuracy") < 1.0
    cosine = snapshot.weights @ np.ones(20) / np.linalg.norm(snapshot.weights) / math.sqrt(20.0)
    assert trajectory.stats["cos_ones"][7] == pytest.approx(cosine)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({}, "s: got no time; wanted exactly one"),
        ({"s": 1.0, "tau": 1.0}, "s: got s and tau; wanted exactly one"),
        ({"tau": 100.0}, "tau: got 100; wanted at most"),
        ({"tau": 0.0}, "tau: got 0; wanted a finite number > 0"),
        ({"tau": -1.0}, "tau: got -1; wanted a finite number > 0"),
    ],
)
def test_at_refuses(trajectory, when, message):
    with pytest.raises(tk.InputError, match=message):
        trajectory.at(**when)


def test_save_and_load(trajectory, tmp_path):
    trajectory.save(tmp_path / "flow.npz")
    loaded = tk.Trajectory.load(tmp_path / "flow.npz")
    for name in ("tau", "s", "t", "log_t"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(trajectory, name))
    for name, values in trajectory.stats.items():
        np.testing.assert_array_equal(loaded.stats[name], values)
    for name, values in trajectory.errors.items():
        np.testing.assert_array_equal(loaded.errors[name], values)
    assert loaded.events == trajectory.events
    assert (loaded.status, loaded.message, loaded.wall_s) == (trajectory.status, trajectory.message, trajectory.wall_s)
    assert loaded.settings == json.loads(json.dumps(trajectory.settings))
    assert loaded.diagnostics == trajectory.diagnostics
    np.testing.assert_array_equal(loaded.weights(-1), trajectory.weights(-1))
    np.testing.assert_array_equal(loaded.weights(19), trajectory.weights(-1))
    with pytest.raises(tk.InputError, match=r"index: got 3 of a loaded trajectory; wanted -1"):
        loaded.weights(3)
    with pytest.raises(tk.InputError, match="at: got a loaded trajectory"):
        loaded.at(s=1.0)


def test_an_undefined_s_and_an_infinite_time_survive_saving(tmp_path):
    data = tk.Dataset.from_arrays([[1.0, 2.0]], [1])
    problem = tk.Problem(tk.models.DiagonalNet(d=2), data, loss="exponential", alpha=1.0, weight_decay=0.0)
    trajectory = tk.gradient_flow(
        problem, log_t_end=1000.0, save=tk.SaveAt(num=5), events=[tk.Crossing("output_margin", 900.0)]
    )
    trajectory.save(tmp_path / "flow.npz")
    loaded = tk.Trajectory.load(tmp_path / "flow.npz")
    assert np.isnan(loaded.s).all()
    assert math.isinf(loaded.t[-1])
    (event,), (again,) = trajectory.events, loaded.events
    assert (again.log_t, again.name) == (event.log_t, event.name)
    assert math.isnan(again.s)
    assert event.log_t > 700.0
    assert math.isinf(event.tau)


def damaged(trajectory: tk.Trajectory, folder, kind: str):
    path = folder / "flow.npz"
    trajectory.save(path)
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "one byte":
        path.write_bytes(whole[:1])
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"tau": [1.0]}))
    elif kind == "pickled array":
        np.savez(path, header=np.array([{"a": 1}], dtype=object))
    elif kind == "another npz":
        np.savez(path, X=np.eye(2))
    elif kind == "an npy":
        with path.open("wb") as file:
            np.save(file, np.eye(2))
    elif kind == "flipped":
        path.write_bytes(whole[:200] + bytes(255 - b for b in whole[200:260]) + whole[260:])
    elif kind == "header":
        with np.load(path) as file:
            arrays = dict(file)
        arrays["header"] = np.array("[1, 2]")
        np.savez(path, **arrays)
    elif kind == "missing":
        path.unlink()
    return path


KINDS = (
    *("truncated", "one byte", "random", "empty", "pickle", "pickled array", "another npz", "an npy", "flipped"),
    *("header", "missing"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(trajectory, tmp_path, kind):
    path = damaged(trajectory, tmp_path, kind)
    with pytest.raises(tk.InputError, match=r"path: got .*wanted a file written by Trajectory.save"):
        tk.Trajectory.load(path)


def test_any_flipped_byte_is_refused_or_harmless(trajectory, tmp_path):
    path = tmp_path / "flow.npz"
    trajectory.save(path)
    whole = bytearray(path.read_bytes())
    refused = 0
    for position in range(0, len(whole), 29):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            tk.Trajectory.load(path)
        except tk.InputError:
            refused += 1
    assert refused > len(whole) // 29 // 2


def test_saving_into_a_missing_folder_leaves_nothing(trajectory, tmp_path):
    with pytest.raises(tk.InputError, match="path: got"):
        trajectory.save(tmp_path / "no" / "flow.npz")
    assert list(tmp_path.iterdir()) == []


def test_csv(trajectory, tmp_path):
    trajectory.to_csv(tmp_path / "flow.csv")
    with (tmp_path / "flow.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["t", "log_t", "tau", "s", *trajectory.stats]
    assert [float(row["s"]) for row in rows] == trajectory.s.tolist()
    assert [float(row["margin"]) for row in rows] == trajectory.stats["margin"].tolist()


def test_trouble_comes_back_with_advice():
    data = tk.Dataset.from_arrays([[1.0, 2.0]], [1])
    problem = tk.Problem(tk.models.DiagonalNet(d=2), data, loss="logistic", alpha=1.0, weight_decay=0.0)
    trajectory = tk.gradient_flow(problem, log_t_end=1e7, save=tk.SaveAt(num=5), rtol=1e-4)  # a step per unit of log t
    assert trajectory.status == "too_many_steps"
    assert "try" in trajectory.message
    with pytest.raises(tk.FlowError, match="the flow stopped at tau"):
        trajectory.raise_for_status()


def test_plot_has_both_panels(trajectory):
    figure = trajectory.plot()
    assert len(figure.axes) == 2
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert {"train accuracy", "test accuracy", "cos ones"} <= set(labels)


def test_further_directions_at_one_time(trajectory):
    w = trajectory.weights(-1)
    snapshot = trajectory.at(tau=float(trajectory.tau[-1]), directions={"end": 1e-200 * w})
    assert snapshot["cos_end"] == pytest.approx(1.0)
    assert "cos_end" in snapshot.names
    with pytest.raises(tk.InputError, match=r"name: got .cos_ende.; wanted one of .*did you mean .cos_end."):
        snapshot["cos_ende"]


def test_no_error_is_claimed_to_be_zero(trajectory):
    for name, errors in trajectory.errors.items():
        assert (errors[trajectory.stats[name] != 0.0] > 0.0).all(), name


def test_repr_is_one_line(trajectory):
    assert "reached_end" in repr(trajectory)
    assert "\n" not in repr(trajectory)
    assert len(repr(trajectory)) < 400
