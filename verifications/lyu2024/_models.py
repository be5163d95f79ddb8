"""Random classification problems on every kind of model, and what the theory says about their features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from theorykit import NotSeparableError
from theorykit.checking import Assumption, Claim, Instance
from theorykit.datasets import Dataset
from theorykit.models import CNN, MLP, HomogeneousModel, MatrixFactorization
from theorykit.programs import kernel_svm

Floats = NDArray[np.float64]

LATE: tuple[tuple[HomogeneousModel, str], ...] = (
    (MLP((3, 4, 1), "z^2"), "twin"),
    (MatrixFactorization(3), "theory"),
)
"""Models with two continuous derivatives that are followed past the transition, with their starts of zero output."""

SMOOTH: tuple[tuple[HomogeneousModel, str], ...] = (
    (CNN((6,), (4,), 3, "z^2", window=2), "twin"),
    (MLP((3, 4, 4, 1), "z^2"), "twin"),
    *LATE,
)
"""All models with two continuous derivatives; past the transition the first ones take many more steps."""

KINKED: tuple[tuple[HomogeneousModel, str], ...] = (
    (CNN((6,), (4,), 3, "relu", window=2), "twin"),
    (MLP((3, 8, 1), "relu"), "twin"),
)
"""ReLU nets: outside Assumption 3.1, which asks for two continuous derivatives."""

_SAMPLES = 4
CLEAR_SUPPORT = "clear support, but for diagonal nets: near ties are drawn again"
_CLEAR = 0.05  # share of the multipliers, or relative slack, that tells a support vector from the others


def classification_instances(
    rng: np.random.Generator,
    models: tuple[tuple[HomogeneousModel, str], ...],
    *,
    loss: str = "exponential",
    p: float = 1.0,
    c: float = 0.3,
) -> Iterator[Instance]:
    """Yield a random data set (inputs on the sphere, or entries; random labels) and a random start for every model.

    No model's draw depends on the others. It is repeated where the features are dependent (a sample on which
    every unit of a ReLU net is off has none), where one sample carries nearly all of the multipliers of K1, and where
    one is nearly tied between supporting and not: it settles only at scales beyond the ladders.
    """
    root = int(rng.integers(2**31))
    for model, init in models:
        own = np.random.default_rng([root, crc32(model.name.encode())])
        while True:
            y, X, seed = (
                own.choice([-1.0, 1.0], _SAMPLES),
                random_inputs(own, model, _SAMPLES),
                int(own.integers(2**31)),
            )
            if _is_clear(model.features(X, model.direction(init, seed)), y):
                break
        data = Dataset.from_arrays(X, y, name="entries" if isinstance(model, MatrixFactorization) else "sphere")
        yield Instance(model, data, loss, p=p, c=c, init=init, seed=seed)


def _is_clear(features: Floats, y: Floats) -> bool:
    """Return whether the features are independent, and it is clear which samples support their separator."""
    if np.linalg.matrix_rank(features) < y.size:
        return False
    found = kernel_svm(features, y)
    assert found.w is not None
    shares, q = found.dual / found.dual.sum(), y * (features @ found.w)
    return bool(shares.max() < 0.9 and np.maximum(shares, q / q.min() - 1.0).min() > _CLEAR)


def random_inputs(rng: np.random.Generator, model: HomogeneousModel, n: int) -> NDArray[Any]:
    """Return inputs of a model: uniform on the unit sphere, or different entries of a matrix."""
    if not isinstance(model, MatrixFactorization):
        gaussian = rng.standard_normal((n, model.d))  # type: ignore[attr-defined]
        return gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)
    entries = np.array(list(combinations_with_replacement(range(model.d), 2)))
    return entries[rng.permutation(len(entries))[:n]]


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernel max-margin predictor of an instance.

    Attributes
    ----------
    theta_bar : ndarray, shape (P,)
    signed : ndarray, shape (n, P)
        y_i grad f_i(theta_bar).
    direction : ndarray, shape (P,)
        h*, of norm 1.
    margin : float
        gamma, proved from below.
    uncertainty, off : float
        Relative width of the proved interval of gamma, and a bound on the distance of `direction` to the exact h*.
    """

    theta_bar: Floats
    signed: Floats
    direction: Floats
    margin: float
    uncertainty: float
    off: float


def kernel_predictor(claim: Claim, instance: Instance) -> Kernel:
    """Return the certified kernel predictor; computed once for all claims of a run."""
    return claim.tools.remember(("kernel predictor", instance.key), lambda: _predictor(instance, instance.data.y))


def shuffled_predictor(claim: Claim, instance: Instance) -> Kernel:
    """Return that of the same inputs with their labels rotated by one (all turned round, if that changes nothing)."""
    labels = np.roll(instance.data.y, 1)
    if np.array_equal(labels, instance.data.y):
        labels = -labels
    return claim.tools.remember(("shuffled predictor", instance.key), lambda: _predictor(instance, labels))


def _predictor(instance: Instance, y: Floats) -> Kernel:
    theta_bar = instance.at(1.0).direction
    features = instance.model.features(instance.data.X, theta_bar)
    found = kernel_svm(features, y)
    assert found.w is not None
    certificate = found.certificate
    uncertainty = certificate.upper / certificate.lower - 1.0
    return Kernel(
        theta_bar, np.asarray(features * y[:, None]), found.w / found.norm, certificate.lower, uncertainty,
        found.distance_bound / found.norm,
    )  # fmt: skip


def assumption_tests(claim: Claim, instance: Instance) -> list[Assumption]:
    """Test homogeneity (3.1), zero output at the start (3.2) and separability of the features (3.3)."""
    model, data = instance.model, instance.data
    theta = np.random.default_rng(0).standard_normal(model.parameters)
    f, scaled = model.output(theta, data.X), model.output(2.0 * theta, data.X)
    off = float(np.max(np.abs(scaled - 2.0**model.degree * f)) / np.max(np.abs(scaled)))
    theta_bar = instance.at(1.0).direction
    size = float(np.linalg.norm(theta_bar)) ** model.degree * float(np.max(np.abs(f)))
    start = float(np.max(np.abs(model.output(theta_bar, data.X)))) / size
    try:
        margin = kernel_predictor(claim, instance).margin
    except NotSeparableError as error:
        margin = -error.margin_at_most
    return [
        Assumption("homogeneity (3.1), relative defect", off < 1e-12, off),
        Assumption("zero output (3.2), relative to a random direction's", start < 1e-14, start),
        Assumption("separable NTK features (3.3), certified margin", margin > 0.0, margin),
    ]
