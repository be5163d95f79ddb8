"""Every kind of model x activation x depth against loops in many digits: one table, for the tests and for the evidence.

python tests/conformance/model_table.py 5
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from theorykit.models import (
    CNN,
    MLP,
    Activation,
    DiagonalNet,
    Difference,
    HomogeneousModel,
    Linear,
    MatrixFactorization,
    check_homogeneous,
)

_spec = importlib.util.spec_from_file_location("model_reference", Path(__file__).with_name("model_reference.py"))
assert _spec is not None
assert _spec.loader is not None
reference: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

ACTIVATIONS = ["relu", "relu^2", "relu^3", "leaky_relu", Activation(0.3, 2), "identity", "z^2", "z^3"]
LOG_TINY = -300.0 * float(np.log(10.0))


def zoo(depth: int) -> list[HomogeneousModel]:
    """Return the models up to that many weight matrices (of degree at most 200: beyond, floats overflow soon)."""
    found: list[HomogeneousModel] = [DiagonalNet(d=3, degree=degree) for degree in range(2, depth + 3)]
    found += [Linear(d=3, outputs=2), MatrixFactorization(d=3), MatrixFactorization(d=4, rank=2)]
    found += [MatrixFactorization(d=3, columns=4, rank=2, symmetric=False), MLP((6, 4, 3), symbols=3)]
    for activation in ACTIVATIONS:
        for layers in range(2, depth + 1):
            widths = (3, *(4, 2, 3, 4, 2, 3)[: layers - 1])
            found += [MLP((*widths, 1), activation), MLP((*widths, 2), activation, bias=True)]
            channels = (2,) * (layers - 1)
            found.append(CNN((layers + 2,), channels, 2, activation, "sum", bias=True))
            found.append(CNN((layers + 1, layers + 2), channels, 2, activation, "average", outputs=2))
    found += [Difference(MLP((3, 4, 2), bias=True)), Difference(CNN((4,), (2,), 2)), Difference(MatrixFactorization(2))]
    return [model for model in found if model.degree <= 200]


def sample(model: Any, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return inputs of the kind the model takes."""
    inner = model.model if isinstance(model, Difference) else model
    if isinstance(inner, MatrixFactorization):
        return np.column_stack([rng.integers(0, side, n) for side in inner.size])
    if getattr(inner, "symbols", None):
        return rng.integers(0, inner.symbols, (n, inner.d))
    return rng.standard_normal((n, inner.d))


def row(model: Any, seed: int) -> dict[str, Any]:
    """Return how far one model is from the reference, relative to the largest entry."""
    rng = np.random.default_rng(seed)
    theta, h = rng.standard_normal((2, model.parameters)) / 2.0
    X = sample(model, 3, rng)
    gradients = np.stack(
        [reference.difference(model, theta, unit, LOG_TINY, X, 660) for unit in np.eye(model.parameters)], axis=-1
    )
    exact = reference.difference(model, theta, h, LOG_TINY, X, 660)
    near = reference.difference(model, theta, h, -1.0, X, 60)
    report = check_homogeneous(model, X, seed)
    return {
        "model": model.name,
        "degree": model.degree,
        "parameters": model.parameters,
        "homogeneity": report.scaling,
        "euler": report.euler,
        "gradient": off(model.features(X, theta), gradients),
        "ntk": off(model.ntk(X, theta=theta), np.tensordot(gradients, gradients, (-1, -1))),
        "difference_1e-300": off(model.difference(theta, h, LOG_TINY, X), exact),
        "difference_e^-1": off(model.difference(theta, h, -1.0, X), near),
    }


def off(ours: Any, theirs: Any) -> float:
    """Return the largest difference relative to the largest entry."""
    return float(np.max(np.abs(ours - theirs)) / max(float(np.max(np.abs(theirs))), 1e-300))


def run(depth: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row for each model with up to `depth` weight matrices."""
    return [row(model, seed + k) for k, model in enumerate(zoo(depth))]


if __name__ == "__main__":
    table = run(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    errors = list(table[0])[3:]
    for entry in table:
        print(f"{entry['model']:60s} L = {entry['degree']:3d}  " + "  ".join(f"{entry[e]:.0e}" for e in errors))
    print("worst: " + ", ".join(f"{e} {max(entry[e] for entry in table):.1e}" for e in errors))
