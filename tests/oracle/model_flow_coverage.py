"""How often the error estimate of a flow of a general model covers its true error: for the tests and for the evidence.

Random small nets of every kind, tolerances 1e-7 to 1e-4, with and without weight decay. The reference is SciPy's LSODA
at 1e-11 on the raw flow, whose outputs and gradients are written out in `model_flow_agreement`; with itself at 1e-12 it
agrees to about 1e-10, which is allowed for as noise.

python tests/oracle/model_flow_coverage.py 100
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import model_flow_agreement as agreement
import numpy as np
from numpy.typing import NDArray

import theorykit as tk
from theorykit.flow import Snapshot
from theorykit.losses import log_losses

Array = NDArray[np.float64]
NOISE = 2e-10
"""Of the reference, relative to 1 + |value|."""

STATISTICS = ("outputs", "log_norm", "log_train_loss")


def reference(name: str, problem: tk.Problem, times: Array) -> dict[str, Array]:
    """Return the outputs (k, all of them), log norm and log loss at some times."""
    shares, run = problem.shares, agreement.forward(name, problem.data.X.astype(np.float64))
    thetas = agreement.reference(name, problem, times, "LSODA", 1e-11)
    outputs = [run(theta)[0] for theta in thetas]
    losses = [np.log(np.sum(shares * np.exp(log_losses(problem.loss, f, problem.data.y)))) for f in outputs]
    return {
        "outputs": np.array([np.ravel(f) for f in outputs]),
        "log_norm": np.log(np.linalg.norm(thetas, axis=1))[:, None],
        "log_train_loss": np.array(losses)[:, None],
    }


def compare(name: str, problem: tk.Problem, rtol: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return one row: for each statistic whether its estimate covers its error, and the largest error/estimate.

    Of the outputs it is the largest error that is held against the largest estimate.
    """
    decaying = problem.log_weight_decay > -np.inf
    times = np.sort(rng.uniform(0.02, 2.0, 4)) * (1.0 if decaying else 10.0)
    log_t = np.log(times) - (problem.log_weight_decay if decaying else 0.0)
    flow = tk.gradient_flow(problem, log_t_end=float(log_t[-1]), rtol=rtol, save=tk.SaveAt(num=2))
    flow.raise_for_status()
    exact = reference(name, problem, times)
    row: dict[str, Any] = {"model": name, "loss": problem.loss, "decay": decaying, "rtol": rtol}
    row["frames"] = "+".join(dict.fromkeys(entry["frame"] for entry in flow.at(log_t=float(log_t[-1])).path.frames()))
    for statistic in STATISTICS:
        ratios = []
        for time, truth, f in zip(log_t, exact[statistic], exact["outputs"], strict=True):
            now = flow.at(log_t=float(time))
            pairs = [now.estimate(partial(measured, statistic=statistic, k=k)) for k in range(truth.size)]
            values, errors = np.array(pairs).T
            noise = NOISE * (1.0 + np.max(np.abs(f)))
            if statistic == "log_train_loss" and problem.loss == "squared":
                noise *= 2.0 * np.exp(-0.5 * truth[0])  # of the logarithm of a small square
            ratios.append(float(np.max(np.abs(values - truth)) / (np.max(errors) + noise)))
        row |= {statistic: max(ratios) <= 1.0, f"{statistic}, error / estimate": max(ratios)}
    return row


def measured(now: Snapshot, statistic: str, k: int) -> float:
    """Return one number of a flow at one time."""
    return float(np.ravel(now.outputs())[k]) if statistic == "outputs" else now[statistic]


def random_case(index: int, rng: np.random.Generator) -> tuple[str, tk.Problem, float]:
    """Return a model's name, a problem and a tolerance; models, losses and starts take turns."""
    pairs = [(name, loss) for name in agreement.NETS for loss in agreement.losses(name)]
    name, loss = pairs[index % len(pairs)]
    settings: dict[str, Any] = {"init": "theory"}
    if index // len(pairs) % 2:
        settings = {"init": "perturbed" if name == "factorisation" else "he", "log_alpha": rng.uniform(-1.0, -0.3)}
    if index % 4 == 3:
        settings["weight_decay"] = 0.0
    return name, agreement.random_problem(name, loss, rng, **settings), 10.0 ** rng.uniform(-7.0, -4.0)


def run(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield one row for each of `count` random flows."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])  # so that one flow can be looked at by itself
        yield {"index": index} | compare(*random_case(index, rng), rng)


def shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return how often each statistic is covered."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in STATISTICS}


if __name__ == "__main__":
    rows = []
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 20, int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        rows.append(row)
        if not all(row[name] for name in STATISTICS):
            print({key: f"{v:.2g}" if isinstance(v, float) else v for key, v in row.items()}, flush=True)
        if len(rows) % 50 == 0:
            print(len(rows), {name: round(share, 4) for name, share in shares(rows).items()}, flush=True)
    print(len(rows), shares(rows))
