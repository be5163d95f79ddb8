"""What the claims of this suite share: their random instances and the tests of the theory's assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from theorykit import NotSeparableError
from theorykit.checking import Assumption, Claim, Instance
from theorykit.datasets import Dataset
from theorykit.models import DiagonalNet

SAMPLES, FEATURES = 8, 40
S_END = 1.5  # every flow that passes the transition is followed to here, so that all claims read the same one

# Near ties of the l1 program relax like exp(-gap lambda t): at small scales the window holds too little time for that.
_LATE = (320.0, 640.0, 1280.0, 2560.0, 5120.0, 10240.0)
LATE_LADDERS: Mapping[str, tuple[float, ...]] = {"quick": _LATE, "full": _LATE, "paper": _LATE}
"""Scales log(alpha) for claims about the time after the transition (L = 2)."""

BOTH_LOSSES = tuple((loss, degree, 1.0, 0.3) for loss in ("exponential", "logistic") for degree in (2, 3, 4))
"""(loss, L, p, c) with lambda = alpha^-p and window [1 - c, 1 + c]."""


def diagonal_instances(
    rng: np.random.Generator, families: Sequence[tuple[str, int, float, float]]
) -> Iterator[Instance]:
    """Yield the same random data set (Gaussian features, random labels) in every family."""
    X = rng.standard_normal((SAMPLES, FEATURES))
    y = rng.choice([-1.0, 1.0], SAMPLES)
    data = Dataset.from_arrays(X, y, name="gaussian")
    for loss, degree, p, c in families:
        yield Instance(DiagonalNet(FEATURES, degree), data, loss, p=p, c=c)


def assumption_tests(claim: Claim, instance: Instance) -> list[Assumption]:
    """Test homogeneity (3.1), zero output at the start (3.2) and separability of the features (3.3)."""
    model, data = instance.model, instance.data
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(model.parameters)
    f, scaled = model.output(theta, data.X), model.output(2.0 * theta, data.X)
    off = float(np.max(np.abs(scaled - 2.0**model.degree * f)) / np.max(np.abs(scaled)))
    start = float(np.max(np.abs(model.output(model.direction(instance.init), data.X))))
    try:
        margin = claim.max_margin(data, 2).certificate.lower
    except NotSeparableError as error:
        margin = -error.margin_at_most
    return [
        Assumption("homogeneity (3.1), relative defect", off < 1e-12, off),
        Assumption("zero output (3.2), largest output", start == 0.0, start),
        Assumption("separability (3.3), certified margin", margin > 0.0, margin),
    ]
