"""What both solvers share: the program for scaled rows, z_i . w >= c_i, and a pair to be certified."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats, Rows, column_products, shift
from theorykit._numerics.validate import numeric
from theorykit.datasets import Dataset


class Candidate(NamedTuple):
    """What a solver hands over to be certified: w (d,) and dual (n,) >= 0, in the units of the scaled rows."""

    w: Floats
    dual: Floats
    iterations: int


def featured(X: ArrayLike | Dataset, y: ArrayLike | None, model: Any, init: str | ArrayLike) -> tuple[Any, Any]:
    """Return the NTK features of a model (or X itself without one) and y."""
    points, labels = unpacked(X, y)
    if model is None:
        only_with_model(init)
        return points, labels
    check_model(model, "features", "direction")
    inputs, direction = numeric("X", points), model.direction(init)
    with np.errstate(over="ignore", invalid="ignore"):  # refused by whoever takes the features
        features = np.asarray(model.features(inputs, direction), dtype=np.float64)
    if features.ndim != 2:
        raise InputError("model", f"{features.shape[1]} outputs", "one output: kernel_svm takes several")
    return features, labels


def check_model(model: Any, *needed: str) -> None:
    """Raise `InputError` unless the model has the methods that are needed."""
    if isinstance(model, type):
        raise InputError("model", f"the class {model.__name__}", "a homogeneous model: one of its instances")
    missing = [name for name in needed if not callable(getattr(model, name, None))]
    if missing:
        raise InputError("model", f"{type(model).__name__}, without {' and '.join(missing)}", "a homogeneous model")


def only_with_model(init: str | ArrayLike) -> None:
    """Raise `InputError` for a direction that has no model."""
    if not (isinstance(init, str) and init == "theory"):
        raise InputError("init", "a direction without a model", "model=, whose direction it is")


def unpacked(X: ArrayLike | Dataset, y: ArrayLike | None) -> tuple[Any, Any]:
    """Return X and y, from a data set or as they were given."""
    if isinstance(X, Dataset):
        if y is not None:
            raise InputError("y", "labels beside a data set", "one or the other: the data set has its own")
        return X.X, X.y
    if y is None:
        raise InputError("y", "none", "one entry for each sample (row of X)")
    return X, y


_SMALLEST_TARGET = 2.0**-43
_ROUND_OFF = 2.0**-52


def targets(rows: Rows) -> Floats:
    """Return c_i = 2**(smallest exponent - exponent_i), with which z_i . w >= c_i asks for equal margins.

    Targets near or below the round-off of z_i . w (the samples of larger scale) are raised above it: by so little that
    the optimum moves less than 1e-12, relatively.
    """
    exact = np.ldexp(1.0, np.maximum(_relative_exponents(rows), -1000).astype(np.int32))
    return np.where(exact > 1e-3, exact, np.maximum(exact, _SMALLEST_TARGET) + _ROUND_OFF)


def unscaled(candidate: Candidate, rows: Rows) -> Candidate:
    """Return the pair in the units of the data (the scale of w and of the dual is free)."""
    w = shift(candidate.w, -int(rows.exponents.min()))
    return Candidate(w, shift(candidate.dual, _relative_exponents(rows)), candidate.iterations)


def _relative_exponents(rows: Rows) -> NDArray[np.int64]:
    return rows.exponents.min() - rows.exponents


def combination(rows: Rows, y: Floats, weights: Floats) -> Floats:
    """Return sum_i weights_i y_i z_i over the scaled rows, to round-off."""
    plain = Rows(rows.values, np.zeros_like(rows.exponents))
    lower, upper = column_products(plain, y * weights)
    return 0.5 * (lower + upper)
