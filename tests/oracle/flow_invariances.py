"""What the mathematics leaves unchanged along flows of general models: tables for the tests and for the evidence.

Each row follows one random flow twice, in two ways that are the same in exact arithmetic, and holds the distance of the
two against the sum of their error estimates:

- semigroup: from 0 to b; and from 0 to a, then from there, as a problem of its own, to b;
- frame: kernel frame and then rich; rich from the start (diagonal nets: their dual reduction);
- samples: the samples in another order;
- rotation: inputs and first layer turned together (diagonal nets and matrices: features and indices permuted);
- time: inputs scaled by c, start by c^(-m/L), lambda by c^(2m/L), where f(theta; c x) = c^m f(theta; x): the same
  outputs at the same lambda t.

python tests/oracle/flow_invariances.py 10
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ortho_group

import theorykit as tk
from theorykit.flow.model_flow import Run, starts_at_zero
from theorykit.flow.model_path import ModelPath
from theorykit.flow.ode.stepping import Status
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, Linear, MatrixFactorization

Array = NDArray[np.float64]
KINDS = ("diagonal", "linear", "two layers", "two layers, bias", "three layers", "classes", "cnn", "factorisation")
INVARIANCES = ("semigroup", "frame", "samples", "rotation", "time")
NOISE = 1e-11
"""Relative size of what round-off may do to outputs, which no estimate of the integrator's error has to see."""


@dataclass(frozen=True)
class Case:
    """A random problem, kept as what it is made of, so that it can be changed."""

    kind: str
    model: HomogeneousModel
    X: NDArray[Any]
    y: NDArray[Any]
    loss: str
    log_alpha: float
    log_lambda: float
    theta: Array
    rtol: float

    def problem(self, **changes: Any) -> tk.Problem:
        """Return the problem, with some parts replaced."""
        now = vars(self) | changes
        if self.kind == "factorisation":
            data = tk.datasets.matrix_entries(now["X"], now["y"], shape=(self.model.d,) * 2)  # type: ignore[attr-defined]
        else:
            tasks = {"squared": "regression", "cross_entropy": "multiclass"}
            data = tk.Dataset.from_arrays(now["X"], now["y"], task=tasks.get(self.loss, "classification"))
        return tk.Problem(
            self.model, data, self.loss, init=now["theta"], log_alpha=now["log_alpha"],
            log_weight_decay=now["log_lambda"] if self.decaying else math.nan,
            weight_decay=None if self.decaying else 0.0,
        )  # fmt: skip

    @property
    def decaying(self) -> bool:
        """Whether there is weight decay."""
        return self.log_lambda > -math.inf


def random_case(kind: str, rng: np.random.Generator) -> Case:
    """Return a small random problem, every third without weight decay, of a random tolerance."""
    d, n, units = int(rng.integers(2, 6)), int(rng.integers(2, 6)), 2 * int(rng.integers(1, 4))
    power = f"z^{rng.integers(2, 4)}"
    model: Any = {
        "diagonal": lambda: DiagonalNet(d, int(rng.integers(2, 5))),
        "linear": lambda: Linear(d),
        "two layers": lambda: MLP((d, units, 1), power),
        "two layers, bias": lambda: MLP((d, units, 1), power, bias=True),
        "three layers": lambda: MLP((d, units, 2, 1), "z^2"),
        "classes": lambda: MLP((d, units, 3), power),
        "cnn": lambda: CNN((d + 2,), (units,), 2, power),
        "factorisation": lambda: MatrixFactorization(d),
    }[kind]()
    loss = str(rng.choice(["exponential", "logistic", "squared"]))
    loss = {"classes": "cross_entropy", "factorisation": "squared"}.get(kind, loss)
    X: NDArray[Any] = rng.standard_normal((n, d + 2 if kind == "cnn" else d))
    if kind == "factorisation":
        pairs = np.column_stack(np.triu_indices(d))
        X = pairs[np.sort(rng.choice(len(pairs), min(n, len(pairs)), replace=False))]
    y: NDArray[Any] = rng.choice([-1.0, 1.0], len(X))
    if loss == "squared":
        y = rng.standard_normal(len(X))
    elif loss == "cross_entropy":
        y = np.concatenate([[0, 1, 2], rng.integers(0, 3, max(0, n - 3))])
        X = rng.standard_normal((len(y), d))
    names = [name for name in ("theory", "twin", "he") if name in model.directions]
    names = ["he"] if kind == "linear" else names  # whose "theory" is 0
    theta = model.direction(str(rng.choice(names)), int(rng.integers(1000)))
    log_lambda = -math.inf if rng.integers(3) == 0 else rng.uniform(-3.0, -1.0)
    return Case(
        kind, model, X, y, loss, rng.uniform(-0.3, 2.5 / model.degree**0.5), log_lambda, theta,
        10.0 ** rng.uniform(-9.0, -5.0),
    )  # fmt: skip


def states(flow: tk.Trajectory, times: Array) -> tuple[Array, Array]:
    """Return the outputs on the training data at some log t, and of the looser run, shapes (k, outputs)."""
    now = [flow.at(log_t=float(time)) for time in times]
    own, other = (np.array([np.ravel(at.outputs()) for at in found]) for found in (now, [at.looser for at in now]))
    return own, np.max(np.abs(own - other), axis=1)


def run_flow(problem: tk.Problem, log_t_end: float, rtol: float, method: str = "auto") -> tk.Trajectory:
    """Return the flow, of which only the dense output is read."""
    flow = tk.gradient_flow(problem, log_t_end=log_t_end, rtol=rtol, method=method, save=tk.SaveAt(num=2))
    return flow.raise_for_status()


def rich(problem: tk.Problem, log_t_end: float, rtol: float, times: Array) -> tuple[Array, Array]:
    """Return outputs and estimate of the flow in the rich frame from the start."""
    shift = problem.log_weight_decay if problem.log_weight_decay > -math.inf else 0.0
    runs = [Run(problem, False, log_t_end + shift, tol) for tol in (rtol, 10.0 * rtol)]
    for run in runs:
        while run.status is Status.RUNNING:
            run.step()
    own, other = (ModelPath(problem, run.result()).outputs(times + shift) for run in runs)
    return own, np.max(np.abs(own - other), axis=1)


def variant(name: str, case: Case, times: Array, rng: np.random.Generator) -> tuple[Array, Array, NDArray[Any]] | None:
    """Return outputs and estimate of the other way to a flow, and where its outputs are; None: there is no such way."""
    model, X, end, at = case.model, case.X, float(times[-1]), np.arange(len(case.X) * case.model.outputs)
    if name == "frame":
        if isinstance(model, DiagonalNet):
            return *states(run_flow(case.problem(), end, case.rtol, "radau"), times), at
        return (*rich(case.problem(), end, case.rtol, times), at) if starts_at_zero(case.problem()) else None
    if name == "samples":
        order = rng.permutation(len(X))
        moved = case.problem(X=X[order], y=case.y[order])
        if case.kind != "factorisation":  # its data set is sorted
            at = at.reshape(len(X), -1)[np.argsort(order)].ravel()
        return *states(run_flow(moved, end, case.rtol), times), at
    if name == "rotation":
        if isinstance(model, DiagonalNet):
            order = rng.permutation(model.d)
            turned = case.problem(X=X[:, order], theta=case.theta.reshape(2, -1)[:, order].ravel())
        elif isinstance(model, MatrixFactorization):
            order = rng.permutation(model.d)
            pairs = np.sort(np.argsort(order)[X], axis=1)
            turned = case.problem(X=pairs, theta=case.theta.reshape(2, model.d, -1)[:, order].ravel())
            at = np.argsort(np.lexsort(pairs.T[::-1]))  # that data set is sorted
        elif isinstance(model, MLP | Linear) and X.shape[1] > 1:
            parts = dict(model.unpack(case.theta))
            R, first = ortho_group.rvs(X.shape[1], random_state=rng), next(iter(parts))
            turned = case.problem(X=X @ R, theta=model.pack(parts | {first: R.T @ parts[first]}))
        else:
            return None
        return *states(run_flow(turned, end, case.rtol), times), at
    # time
    power = 1 if isinstance(model, DiagonalNet | Linear) else None
    if isinstance(model, MLP | CNN) and not model.bias:
        power = model.phi.power ** (len(model.layers) - 1)
    if power is None:
        return None
    shift = power * math.log(rng.uniform(0.5, 2.0)) / model.degree
    c = math.exp(shift * model.degree / power)
    scaled = case.problem(X=c * X, log_alpha=case.log_alpha - shift, log_lambda=case.log_lambda + 2.0 * shift)
    return *states(run_flow(scaled, end - 2.0 * shift, case.rtol), times - 2.0 * shift), at


def compare(case: Case, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield one row for each invariance that the model has."""
    times = np.log(np.sort(rng.uniform(0.05, 1.5, 3))) - (case.log_lambda if case.decaying else -1.0)
    whole = run_flow(case.problem(), float(times[-1]), case.rtol)
    own, estimate = states(whole, times)
    size = 1.0 + np.max(np.abs(own), axis=1)
    row = {
        "model": case.kind, "loss": case.loss, "degree": case.model.degree, "log_alpha": case.log_alpha,
        "decay": case.decaying, "rtol": case.rtol,
    }  # fmt: skip
    row |= {f"drift of {name}": value or 0.0 for name, value in whole.diagnostics["drift"].items()}
    for name in INVARIANCES:
        found = semigroup(case, whole, times) if name == "semigroup" else variant(name, case, times, rng)
        if found is None:
            continue
        other, further, at = found
        skipped = len(own) - len(other)
        gap = np.max(np.abs(own[skipped:] - other[:, at]), axis=1)
        # an error of the first half goes on in the second, here taken as it is
        allowed = estimate[skipped:] + further + (estimate[0] if skipped else 0.0)
        allowed += (2.0 * case.rtol + NOISE) * size[skipped:]  # the local tolerances are a part of both estimates
        largest = float(np.max(gap / size[skipped:]))
        yield {"invariance": name} | row | {
            "gap": largest, "gap / rtol": largest / case.rtol, "gap / estimates": float(np.max(gap / allowed)),
        }  # fmt: skip


def semigroup(case: Case, whole: tk.Trajectory, times: Array) -> tuple[Array, Array, NDArray[Any]]:
    """Return outputs and estimate at all times but the first, from a flow that starts there."""
    middle = whole.at(log_t=float(times[0]))
    rest = np.log(np.exp(times[1:]) - math.exp(times[0]))
    second = case.problem(theta=middle.direction, log_alpha=middle.log_norm)
    other, further = states(run_flow(second, float(rest[-1]), case.rtol), rest)
    return other, further, np.arange(other.shape[1])


def run(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rows of `count` random flows of every kind of model."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        for kind in KINDS:
            yield from compare(random_case(kind, rng), rng)


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        print({key: round(value, 14) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
