"""The one place where features, a data set, a Gram matrix, or a model with data become what a kernel program needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats
from theorykit._numerics.validate import matrix, numeric, reals
from theorykit.datasets import Dataset
from theorykit.programs._gram import checked_gram
from theorykit.programs._scaled import check_model, only_with_model, unpacked

_ROUND_OFF = 1e-9  # other machines, not other numbers
_SAME = "the model that the result came from"


@dataclass(frozen=True, eq=False)
class KernelData:
    """Features or a Gram matrix, with labels or targets, and how to predict on new points.

    Attributes
    ----------
    values : ndarray
        Features (n, P), or a Gram matrix (n, n), or (n, c, n, c) for c outputs.
    about : {"features", "gram"}
        Which of the two.
    y : array_like, shape (n,) or (n, c)
        As it was given.
    outputs : int or None
        Outputs of the model or of the Gram matrix; None where all outputs share the features.
    model, X, theta
        The model, its inputs and its parameters, where the Gram matrix is an NTK.
    """

    values: NDArray[Any]
    about: str
    y: Any
    outputs: int | None = None
    model: Any = field(default=None, repr=False)
    X: NDArray[Any] | None = field(default=None, repr=False)
    theta: Floats | None = field(default=None, repr=False)

    def predictions(self, new: ArrayLike, weights: Floats | None, coefficients: Floats) -> Floats:
        """Return the outputs (m,) or (m, c) on new inputs (features, model) or from a cross-Gram matrix.

        `weights` are h itself, (P,) or (c, P), for features; `coefficients` (n,) or (n, c) are what a kernel needs.
        """
        if self.about == "features":
            assert weights is not None
            points = matrix("X", new)
            if points.shape[1] != self.values.shape[1]:
                raise InputError("X", f"{points.shape[1]} features", f"{self.values.shape[1]}, as in the training data")
            return _outputs(points, weights.T)
        return _outputs(self._cross(new), coefficients)

    def _cross(self, new: ArrayLike) -> Floats:
        """Return the kernel between new points and the training points."""
        if self.model is not None:
            return np.asarray(self.model.ntk(new, self.X, self.theta), dtype=np.float64)
        cross = reals("X", new)
        n, outputs = len(self.values), self.values.shape[1:2]
        inner = (n,) if self.values.ndim == 2 else (*outputs, n, *outputs)
        if cross.shape[1:] != inner or cross.ndim != self.values.ndim or not np.isfinite(cross).all():
            wanted = f"a finite cross-Gram matrix of shape (m, {', '.join(map(str, inner))}): new points in rows"
            raise InputError("X", f"shape {cross.shape}", wanted)
        return cross

    def with_model(self, model: Any) -> KernelData:
        """Return the same data with their model put back (files do not hold models)."""
        if self.X is None:
            raise InputError("model", "one for a result that came from no model", "None")
        try:
            kernel = np.asarray(model.ntk(self.X, None, self.theta), dtype=np.float64)
        except (InputError, AttributeError) as problem:
            raise InputError("model", f"one that does not take the saved inputs ({problem})", _SAME) from None
        if kernel.shape != self.values.shape or not np.allclose(kernel, self.values, _ROUND_OFF, 0.0):
            raise InputError("model", "one with another kernel than the saved one (or a changed file)", _SAME)
        return KernelData(self.values, self.about, self.y, self.outputs, model, self.X, self.theta)


def _outputs(points: NDArray[Any], weights: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = np.tensordot(points, weights, axes=2) if points.ndim == 4 else points @ weights
    if not np.isfinite(outputs).all():
        raise InputError("X", "points with outputs past the float range", "points of moderate size")
    return np.asarray(outputs, dtype=np.float64)


def kernel_data(
    X: ArrayLike | Dataset | None, y: ArrayLike | None, gram: ArrayLike | None, model: Any, init: str | ArrayLike
) -> KernelData:
    """Return the data of a kernel program from whichever of the three ways they were given in.

    Raises
    ------
    InputError
        None or several of X, `gram` and `model` with X; `init` without a model; whatever the arrays are refused for.
    """
    if gram is not None:
        if X is not None or model is not None:
            raise InputError("gram", "a Gram matrix beside " + ("X" if X is not None else "a model"), "one of them")
        only_with_model(init)
        if y is None:
            raise InputError("y", "none", "one entry for each sample (row of the Gram matrix)")
        K = checked_gram("gram", gram)
        return KernelData(K, "gram", y, K.shape[1] if K.ndim == 4 else None)
    if X is None:
        raise InputError("X", "none", "features, a data set, or gram=")
    points, labels = unpacked(X, y)
    if model is None:
        only_with_model(init)
        return KernelData(matrix("X", points), "features", labels)
    return _of_model(model, points, labels, init)


def _of_model(model: Any, points: Any, labels: Any, init: str | ArrayLike) -> KernelData:
    check_model(model, "ntk", "direction")
    theta = np.asarray(model.direction(init), dtype=np.float64)
    inputs = numeric("X", points)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        K = model.ntk(inputs, None, theta)
    K = checked_gram("model", K)
    return KernelData(K, "gram", labels, K.shape[1] if K.ndim == 4 else 1, model, inputs, theta)
