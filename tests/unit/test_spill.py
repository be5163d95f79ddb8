"""Dense output that is moved to disk: the same numbers, in bounded memory, in checkpoints too; a full disk."""

import shutil
import tracemalloc

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import spill
from theorykit.models import MLP


def flow(**options):
    rng = np.random.default_rng(3)
    data = tk.Dataset.from_arrays(rng.standard_normal((6, 30)), rng.choice([-1.0, 1.0], 6))
    problem = tk.Problem(MLP((30, 40, 1), activation="z^2"), data, alpha=3.0, weight_decay=0.05)
    return tk.gradient_flow(problem, tau_end=3.0, rtol=1e-6, save=tk.SaveAt(num=7), **options)


def assert_same(one, other):
    for name, values in one.stats.items():
        np.testing.assert_array_equal(values, other.stats[name])
        np.testing.assert_array_equal(one.errors[name], other.errors[name])
    for tau in (0.3, 1.7, 2.9):
        np.testing.assert_array_equal(one.at(tau=tau).direction, other.at(tau=tau).direction)
    assert one.diagnostics["drift"] == other.diagnostics["drift"]


def test_numbers_on_disk_are_those_in_memory(monkeypatch):
    whole = flow()
    monkeypatch.setattr(spill, "_IN_MEMORY", 20_000)
    assert_same(whole, flow())


def test_memory_is_bounded(monkeypatch):
    flow()  # all modules are there now
    peaks = []
    for most in (2**30, 20_000):
        monkeypatch.setattr(spill, "_IN_MEMORY", most)
        tracemalloc.start()
        steps = sum(flow().diagnostics["counts"][name]["steps"] for name in ("run", "companion"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 8 * 4 * 1240 * steps < peaks[0]  # at least the start and three coefficients of each step
    assert peaks[1] < 0.5 * peaks[0]


def test_a_killed_flow_is_resumed_to_the_same_bits(monkeypatch, tmp_path):
    whole = flow()
    monkeypatch.setattr(spill, "_IN_MEMORY", 20_000)
    path = tmp_path / "flow.npz"

    def stop(fraction):
        if fraction > 0.7:
            raise KeyboardInterrupt

    for _ in range(2):  # the second goes on with steps that were read from the file of the first
        with pytest.raises(KeyboardInterrupt):
            flow(checkpoint=path, checkpoint_every=0.0, progress=stop)
    assert_same(whole, flow(checkpoint=path))


def test_a_full_disk_ends_the_flow_with_what_there_is(monkeypatch):
    whole = flow()
    monkeypatch.setattr(spill, "_IN_MEMORY", 20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    short = flow()
    assert short.status == "no_space"
    assert "TMPDIR" in short.message
    assert 0.0 < short.tau[-1] < whole.tau[-1]
    assert short.stats["log_norm"][-1] == whole.at(tau=short.tau[-1])["log_norm"]
