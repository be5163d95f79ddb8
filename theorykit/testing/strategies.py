"""Hypothesis strategies for data sets, models and problems; they shrink towards few samples and features."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit.datasets import Dataset
from theorykit.flow import Problem
from theorykit.models import MLP, DiagonalNet, Difference, HomogeneousModel

Floats = NDArray[np.float64]
Range = tuple[int, int]
_SMOOTH, _KINKED = ("z^2", "relu^3"), ("relu", "leaky_relu^2")
_LARGEST = 3  # entries of exactly inseparable inputs


def _seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


@st.composite
def separable(
    draw: st.DrawFn,
    samples: Range = (1, 8),
    features: Range = (2, 12),
    margin: tuple[float, float] = (0.1, 2.0),
    degenerate: bool | None = None,
) -> Dataset:
    """Draw a separable classification problem of known max l2-margin.

    Parameters
    ----------
    samples, features : tuple of int
        Smallest and largest n and d. Degenerate sets have more samples.
    margin : tuple of float
        The max l2-margin, min_i y_i <w, x_i> over unit vectors w, is drawn from here, and kept by the data set's name
        as ``separable, l2-margin 0.5``. It holds to round-off: two samples have it exactly, on either side of the
        separating direction.
    degenerate : bool, optional
        Whether samples are repeated, and lie between others, so that multipliers are not unique; drawn by default.

    Returns
    -------
    strategy of Dataset

    Examples
    --------
    >>> from hypothesis import find
    >>> found = find(separable(samples=(3, 5)), lambda data: data.n >= 3)
    >>> found.task, found.name.split(",")[0]
    ('classification', 'separable')
    """
    n, d = draw(_integers("samples", samples, 1)), draw(_integers("features", features, 2))
    gamma = draw(st.floats(*margin))
    rng = np.random.default_rng(draw(_seeds()))
    w = rng.standard_normal(d)
    w /= np.linalg.norm(w)
    aside = rng.standard_normal((n, d))
    aside -= np.outer(aside @ w, w)
    beyond = rng.exponential(1.0, n)
    beyond[:2] = 0.0
    aside[1:2] = -aside[0]
    if n == 1:
        aside[:] = 0.0
    z = gamma * (1.0 + beyond)[:, None] * w + aside
    y = rng.choice([-1.0, 1.0], n)
    if draw(st.booleans()) if degenerate is None else degenerate:
        again = rng.integers(n, size=2)
        z, y = np.vstack([z, z[again], 0.5 * (z[0] + z[-1])]), np.concatenate([y, y[again], y[:1]])
    return Dataset.from_arrays(z * y[:, None], y, name=f"separable, l2-margin {gamma!r}")


@st.composite
def inseparable(draw: st.DrawFn, samples: Range = (2, 8), features: Range = (1, 12)) -> Dataset:
    """Draw a classification problem that no w separates, exactly: small integers with sum_i y_i x_i = 0.

    Parameters
    ----------
    samples, features : tuple of int
        Smallest and largest n and d.

    Returns
    -------
    strategy of Dataset
    """
    n, d = draw(_integers("samples", samples, 2)), draw(_integers("features", features, 1))
    rng = np.random.default_rng(draw(_seeds()))
    z = rng.integers(-_LARGEST, _LARGEST + 1, (n, d)).astype(np.float64)
    z[:, 0] = rng.integers(1, _LARGEST + 1, n)  # no two samples of the same point with other labels
    z[-1] = -z[:-1].sum(axis=0)
    return Dataset.from_arrays(z, np.ones(n), name="inseparable")


@st.composite
def regression(
    draw: st.DrawFn, samples: Range = (1, 6), features: Range = (6, 12), condition: tuple[float, float] = (1.0, 1e3)
) -> Dataset:
    """Draw a regression problem with independent inputs of known condition number.

    Parameters
    ----------
    samples, features : tuple of int
        Smallest and largest n and d, with at most as many samples as features.
    condition : tuple of float
        The ratio of the largest singular value of X, which is 1, to the smallest is drawn from here (that of the kernel
        X X^T is its square).

    Returns
    -------
    strategy of Dataset
        With standard normal targets.
    """
    n, d = draw(_integers("samples", samples, 1)), draw(_integers("features", features, 1))
    if n > d:
        raise InputError("samples", f"{n} with {d} features", "no more samples than features")
    kappa = draw(st.floats(*condition))
    rng = np.random.default_rng(draw(_seeds()))
    left, _ = np.linalg.qr(rng.standard_normal((n, n)))
    right, _ = np.linalg.qr(rng.standard_normal((d, n)))
    X = left * np.geomspace(1.0, 1.0 / kappa, n) @ right.T
    return Dataset.from_arrays(X, rng.standard_normal(n), task="regression", name=f"regression, condition {kappa!r}")


def datasets(task: str = "classification", **ranges: Any) -> st.SearchStrategy[Dataset]:
    """Draw a data set that a theorem of the kernel regime speaks of: separable, or with independent inputs.

    Parameters
    ----------
    task : {"classification", "regression"}
    **ranges
        Of `separable` or `regression`.

    Returns
    -------
    strategy of Dataset
    """
    if task not in ("classification", "regression"):
        raise InputError("task", repr(task), "'classification' or 'regression'")
    return separable(**ranges) if task == "classification" else regression(**ranges)


@st.composite
def models(draw: st.DrawFn, d: int, degrees: Range = (2, 4), smooth: bool = True) -> HomogeneousModel:
    """Draw a model of d features whose output is zero at its theory's start.

    Parameters
    ----------
    d : int
        Features.
    degrees : tuple of int
        Smallest and largest degree of homogeneity of diagonal nets; that of the others follows from their activations.
    smooth : bool
        Whether all are twice differentiable, as the theory assumes; else kinked activations are drawn, too.

    Returns
    -------
    strategy of HomogeneousModel
        A `DiagonalNet`, an `MLP` of two layers, or the `Difference` of two.
    """
    kind = draw(st.sampled_from(["diagonal", "mlp", "difference"]))
    if kind == "diagonal":
        return DiagonalNet(d, draw(_integers("degrees", degrees, 2)))
    activation = draw(st.sampled_from(_SMOOTH if smooth else _SMOOTH + _KINKED))
    net = MLP((d, draw(st.integers(1, 4)), 1), activation=activation)
    return Difference(net) if kind == "difference" else net


@st.composite
def problems(
    draw: st.DrawFn,
    losses: tuple[str, ...] = ("exponential", "logistic", "squared"),
    log_alpha: tuple[float, float] = (0.5, 3.0),
    p: tuple[float, float] = (0.5, 2.0),
    model: HomogeneousModel | None = None,
    **ranges: Any,
) -> Problem:
    """Draw a problem with weight decay lambda = alpha^-p from the theory's start.

    Parameters
    ----------
    losses : tuple of str
    log_alpha, p : tuple of float
        Where the logarithm of the initial scale and the exponent are drawn from.
    model : HomogeneousModel, optional
        Instead of a random one; then `features` has to fix its number of inputs.
    **ranges
        Of `separable` and `regression`.

    Returns
    -------
    strategy of Problem
    """
    loss = draw(st.sampled_from(losses))
    data = draw(datasets("regression" if loss == "squared" else "classification", **ranges))
    scale = draw(st.floats(*log_alpha))
    net = draw(models(data.d)) if model is None else model
    return Problem(net, data, loss, log_alpha=scale, log_weight_decay=-draw(st.floats(*p)) * scale)


def _integers(name: str, ends: Range, least: int) -> st.SearchStrategy[int]:
    low, high = ends
    if not least <= low <= high:
        raise InputError(name, f"{ends}", f"two integers in order, at least {least}")
    return st.integers(low, high)
