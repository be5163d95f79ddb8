"""Small ReLU nets from huge scales to past the transition, most of them with samples that no unit sees at the start.

Behind the kink at which a unit comes to see such a sample its force is e^(log alpha) times all others.

python tests/oracle/relu_flows.py 5
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import theorykit as tk
from theorykit.models import MLP

SCALES = (50.0, 200.0, 1000.0, 10_000.0)
"""Of log alpha = log 1/lambda."""


LOSSES = "logistic", "exponential"


def problem_of(seed: int, init: str, log_alpha: float, loss: str | None = None) -> tk.Problem:
    """Return 10 samples in 4 dimensions for a net of 8 units: separable by a line through 0, or random targets."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((10, 4))
    loss = loss or LOSSES[seed % 2]
    if loss == "squared":
        data = tk.Dataset.from_arrays(X, rng.standard_normal(10), task="regression")
    else:
        data = tk.Dataset.from_arrays(X, np.sign(X @ rng.standard_normal(4)))
    scale = {"log_alpha": log_alpha, "log_weight_decay": -log_alpha}
    return tk.Problem(MLP((4, 8, 1)), data, loss=loss, init=init, seed=seed, **scale)


def compare(problem: tk.Problem) -> dict[str, Any]:
    """Return how one flow goes: a warning is an error."""
    W = problem.direction[:32].reshape(4, 8)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = tk.gradient_flow(problem, s_end=1.2, save=tk.SaveAt(num=13))
    return {
        "log_alpha": problem.log_alpha,
        "loss": problem.loss,
        "unseen": int(np.sum(np.all(problem.data.X @ W <= 0.0, axis=1))),
        "status": flow.status,
        "companion": flow.counts["statuses"][-1],
        "kinks": flow.counts["run"]["kinks"],
        "train_loss": float(flow.stats["train_loss"][-1]),
        "error": float(flow.errors["log_norm"][-1]),
        "seconds": time.perf_counter() - began,
    }


def run(count: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each scale, kind of loss, initialisation and seed.

    With the last layer at zero 8 units do not fit 10 targets: that start is none for the squared loss.
    """
    for log_alpha in SCALES:
        for init, loss in (("twin", None), ("zero_last", None), ("twin", "squared")):
            for seed in range(count):
                yield {"init": init, "seed": seed} | compare(problem_of(seed, init, log_alpha, loss))


if __name__ == "__main__":
    for row in run(int(sys.argv[1])):
        print(row, flush=True)
