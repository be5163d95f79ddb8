"""Checkpoints of flows, in frames and in the dual reduction: killed, resumed to the same bits, damaged ones refused."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import keeper, model_flow, reduction
from theorykit.models import MLP, DiagonalNet, MatrixFactorization

_RELU = """
import numpy as np, theorykit as tk
from theorykit.models import MLP
rng = np.random.default_rng(1)
data = tk.Dataset.from_arrays(rng.standard_normal((5, 4)), rng.choice([-1.0, 1.0], 5))
problem = tk.Problem(MLP((4, 6, 1)), data, loss="exponential", alpha=10.0, weight_decay={decay}, seed=1)
"""


def problem_of(decay: float, loss: str = "exponential", log_alpha: float | None = None) -> tk.Problem:
    rng = np.random.default_rng(1)
    X, labels = rng.standard_normal((5, 4)), rng.choice([-1.0, 1.0], 5)
    data = tk.Dataset.from_arrays(X, labels, task="regression" if loss == "squared" else "classification")
    if log_alpha is not None:
        net, scales = MLP((4, 8, 1), activation="z^2"), {"log_alpha": log_alpha, "log_weight_decay": -log_alpha}
        return tk.Problem(net, data, loss=loss, **scales, seed=1)
    return tk.Problem(MLP((4, 6, 1)), data, loss=loss, alpha=10.0, weight_decay=decay, seed=1)


FLOWS = {
    "kinks": (problem_of(1e-3), {"tau_end": 2.5}),
    "counted from kinks": (problem_of(1e-3), {"tau_end": 2.5}),
    "forces in the state": (problem_of(1e-3, "squared"), {"tau_end": 3.0}),
    "loss clock": (problem_of(0.0), {"log_t_end": 20.0}),
    "slaved": (problem_of(0.0, "squared", 40.0), {"s_end": 0.6}),
}


def diagonal(loss: str, n: int, d: int, log_alpha: float, degree: int = 2) -> tk.Problem:
    rng = np.random.default_rng(2)
    X, labels = rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n)
    data = tk.Dataset.from_arrays(X, labels, task="regression" if loss == "squared" else "classification")
    net = DiagonalNet(d=d, degree=degree)
    return tk.Problem(net, data, loss=loss, log_alpha=log_alpha, log_weight_decay=-log_alpha)


DUAL = {
    "both frames": (diagonal("exponential", 8, 40, 300.0, 3), {"s_end": 1.4}),
    "span": (diagonal("logistic", 20, 6, 5.0), {"s_end": 1.5}),
    "turned axes": (diagonal("squared", 8, 20, 30.0), {"s_end": 1.4}),
}


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", [*FLOWS, *DUAL])
def test_resumed_to_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, end = FLOWS[name] if name in FLOWS else DUAL[name]
    run = model_flow.Run if name in FLOWS else reduction.Run
    deaths = (7, 25, 11) if name in FLOWS else (2, 3, 5, 4)  # in the run, then in the run or its companion
    if name == "counted from kinks":
        monkeypatch.setattr(model_flow, "_FASTEST", 1e-300)
        deaths = (38, 5, 90, 12)
    if name == "forces in the state":
        deaths = (60, 9, 120, 30)
    settings = {"rtol": 1e-5, "save": tk.SaveAt(num=5), "events": [tk.Crossing("log_norm", 1.0)], **end}
    monkeypatch.setattr(reduction, "_FIRST_CHUNK", 5)
    monkeypatch.setattr(reduction, "_CHUNK_SECONDS", 0.0)  # chunks never grow
    whole = tk.gradient_flow(problem, **settings)
    assert whole.status == "reached_end"
    path, step = tmp_path / "state.npz", run.step
    for death in deaths:
        left = iter(range(death))

        def dying(self, left=left) -> None:
            if next(left, None) is None:
                raise KilledError
            step(self)

        monkeypatch.setattr(run, "step", dying)
        with pytest.raises(KilledError):
            tk.gradient_flow(problem, checkpoint=path, checkpoint_every=0.0, **settings)
    monkeypatch.setattr(run, "step", step)
    again = tk.gradient_flow(problem, checkpoint=path, **settings)
    for key, values in whole.stats.items():
        assert np.array_equal(values, again.stats[key], equal_nan=True), key
        if key in whole.errors:
            assert np.array_equal(whole.errors[key], again.errors[key], equal_nan=True), key
    assert [vars(event) for event in again.events] == [vars(event) for event in whole.events]
    assert again.counts == whole.counts
    assert again.message == whole.message
    assert again.diagnostics == whole.diagnostics


@pytest.mark.parametrize("name", list(DUAL))
def test_the_dual_steps_do_not_depend_on_how_many_are_taken_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, end = DUAL[name]
    whole = tk.gradient_flow(problem, **end)
    assert whole.counts["run"]["steps"] > 20
    monkeypatch.setattr(reduction, "_FIRST_CHUNK", 1)
    monkeypatch.setattr(reduction, "_CHUNK_SECONDS", 0.0)  # chunks never grow
    again = tk.gradient_flow(problem, **end)
    assert again.counts == whole.counts
    for key, values in whole.stats.items():
        assert np.array_equal(values, again.stats[key], equal_nan=True), key


def test_resumed_after_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    script = _RELU.format(decay=1e-3) + (
        "import os, signal\n"
        "seen = []\n"
        "def progress(fraction):\n"
        "    seen.append(fraction)\n"
        "    if len(seen) == 40: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"tk.gradient_flow(problem, tau_end=2.5, rtol=1e-5, checkpoint={str(path)!r}, checkpoint_every=0.0,"
        " progress=progress)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert np.load(path)["1e-05/x"].shape == (30,)
    settings = {"tau_end": 2.5, "rtol": 1e-5, "save": tk.SaveAt(num=5)}
    again = tk.gradient_flow(problem_of(1e-3), checkpoint=path, **settings)
    whole = tk.gradient_flow(problem_of(1e-3), **settings)
    assert again.counts == whole.counts
    for key, values in whole.stats.items():
        assert np.array_equal(values, again.stats[key]), key


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path, problem = tmp_path / "state.npz", problem_of(1e-3)
    tk.gradient_flow(problem, tau_end=0.2, rtol=1e-4, checkpoint=path)
    with pytest.raises(tk.InputError, match=r"checkpoint: got .*, of another run"):
        tk.gradient_flow(problem, tau_end=0.3, rtol=1e-4, checkpoint=path)
    whole = path.read_bytes()
    for spoiled in (whole[: len(whole) // 2], b"", whole[:200] + bytes(50) + whole[250:]):
        path.write_bytes(spoiled)
        with pytest.raises(tk.InputError, match=r"checkpoint: got .*"):
            tk.gradient_flow(problem, tau_end=0.2, rtol=1e-4, checkpoint=path)


def test_bad_input(tmp_path: Path) -> None:
    problem = problem_of(1e-3)
    with pytest.raises(tk.InputError, match="checkpoint: got /nowhere"):
        tk.gradient_flow(problem, tau_end=0.2, checkpoint="/nowhere/state.npz")
    with pytest.raises(tk.InputError, match="checkpoint_every"):
        tk.gradient_flow(problem, tau_end=0.2, checkpoint=tmp_path / "a.npz", checkpoint_every=-1.0)


@pytest.mark.parametrize("method", ["tsit5", "radau5", "rkc2"])
def test_killed_in_the_companion_after_the_main_run_went_on_unwritten(monkeypatch, tmp_path, method):
    """The file is written in the companion, with the main run as it was when it was last written."""
    data = tk.datasets.matrix_completion(d=5, fraction=0.5, seed=0)
    problem = tk.Problem(MatrixFactorization(5), data, alpha=5.0, weight_decay=1e-2, loss="squared", init="perturbed")

    def flow(**options):
        return tk.gradient_flow(problem, s_end=1.2, rtol=1e-6, method=method, save=tk.SaveAt(num=50), **options)

    def stop(fraction):
        if fraction > 0.9:
            raise KeyboardInterrupt

    clock = itertools.count()
    monkeypatch.setattr(keeper.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(keeper, "_SPARING", 0.0)
    with pytest.raises(KeyboardInterrupt):
        flow(checkpoint=tmp_path / "flow.npz", checkpoint_every=23.0, progress=stop)
    again, whole = flow(checkpoint=tmp_path / "flow.npz"), flow()
    for name, values in whole.stats.items():
        np.testing.assert_array_equal(values, again.stats[name])
    assert len(again.tau) == 50
