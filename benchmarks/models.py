"""Gradients, kernels and a flow at the sizes that the experiments need: best time of several, and peak memory.

Every case runs in a process of its own. The kernel is set next to the product of explicit features. The flow is that of
the preset fig-3 with its companion run, statistics and crossings. Seconds are of the clock, and of all cores together.

    python benchmarks/models.py [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import theorykit as tk
from theorykit._numerics.serial import replacing, to_json
from theorykit.experiments import load_experiment
from theorykit.experiments.build import dataset_of, problem_of
from theorykit.models import CNN, MLP, MatrixFactorization

REPEATS = 5


def million() -> MLP:
    return MLP((200, 700, 700, 500, 1), bias=True)


def kernel(n: int, explicit: bool = False) -> Callable[[], Any]:
    """Return the computation of an n x n kernel for 981 200 parameters, or of the product of its features."""
    net = million()
    theta, X = net.direction("he"), np.random.default_rng(0).standard_normal((n, net.d))

    def of_features() -> Any:
        features = net.features(X, theta)
        return features @ features.T

    return of_features if explicit else lambda: net.ntk(X, theta=theta)


def gradient(model: Any, X: Any, dtype: Any) -> Callable[[], Any]:
    """Return one full-batch gradient, output and backward pass together."""
    theta, inputs = model.direction("he").astype(dtype), model.inputs(X)
    return lambda: model.value_and_vjp(theta, inputs, lambda f: f)


def modular(dtype: Any) -> Callable[[], Any]:
    return gradient(MLP((194, 1024, 97), bias=True, symbols=97), tk.datasets.modular(97).X, dtype)


def completion() -> Callable[[], Any]:
    """Return the flow of figure 3 at full size, from the problem to the trajectory with its errors."""
    settings = load_experiment("fig-3").settings
    problem, flow = problem_of(settings, dataset_of(settings["data"])), settings["flow"]
    events = [tk.Crossing(name, level) for name, levels in settings["events"].items() for level in levels]
    how = {"s_end": flow["s_end"], "rtol": flow["rtol"], "method": flow["method"]}
    return lambda: tk.gradient_flow(problem, **how, save=tk.SaveAt(num=flow["points"]), events=events)


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "kernel, n = 1000, P = 981 200": lambda: kernel(1000),
    "kernel, n = 200, P = 981 200": lambda: kernel(200),
    "explicit features, n = 200, P = 981 200": lambda: kernel(200, explicit=True),
    "gradient, modular addition p = 97, width 1024, float32": lambda: modular(np.float32),
    "gradient, modular addition p = 97, width 1024, float64": lambda: modular(np.float64),
    "gradient, matrix completion d = 97, 5 % observed": lambda: gradient(
        MatrixFactorization(97), tk.datasets.matrix_completion(97).X, np.float64
    ),
    "gradient, CNN 16-32 channels on 1000 digits": lambda: gradient(
        CNN((8, 8), (16, 32), window=2, outputs=10, bias=True),
        tk.datasets.digits("all", n_train=1000).X,
        np.float64,
    ),
    "flow, figure 3 (d = 97) to s = 2.5 and its companion": completion,
}


def run_one(name: str) -> dict[str, Any]:
    """Return the best of several times, and the peak memory of this process."""
    call = CASES[name]()
    seconds, cpu_seconds = [], []
    for _ in range(REPEATS):
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return {"case": name, "seconds": min(seconds), "cpu_seconds": min(cpu_seconds), "peak_gib": peak}


def run() -> list[dict[str, Any]]:
    """Return one row for each case."""
    commands = [[sys.executable, __file__, "--one", name] for name in CASES]
    return [json.loads(subprocess.run(c, check=True, capture_output=True, text=True).stdout) for c in commands]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the rows as JSON, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(arguments.one)))
        return
    rows = run()
    for row in rows:
        cost = f"{row['seconds']:9.4f} s {row['cpu_seconds']:9.4f} CPU-s {row['peak_gib']:6.2f} GiB"
        print(f"{row['case']:60s} {cost}")
    if arguments.out:
        environment = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        with replacing("out", arguments.out) as temporary:
            temporary.write_text(to_json({"environment": environment, "rows": rows}))


if __name__ == "__main__":
    main()
