"""Neural tangent features and kernels at the initial direction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import integer, shown
from theorykit.models import HomogeneousModel, Inputs


def features(
    model: HomogeneousModel, X: ArrayLike | Inputs, *, init: str | ArrayLike = "theory", seed: int = 0
) -> NDArray[Any]:
    """Return the NTK features phi(x) = grad f(theta_bar; x), shape (n, P), or (n, c, P) for c > 1 outputs.

    Parameters
    ----------
    model : HomogeneousModel
    X : array_like or Inputs, shape (n, ...)
        What the model takes.
    init : str or array_like, shape (P,)
        The initial direction theta_bar, not multiplied by alpha; float32 makes float32 features.
    seed : int
        Of the draw, where `init` names one.

    Raises
    ------
    InputError
        No model, inputs or a direction that it refuses, or numbers past the float range.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> features(DiagonalNet(d=1), [[3.0]])
    array([[ 6., -6.]])
    """
    direction = _direction(model, init, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        return _finite(model.features(X, direction))


def ntk(
    model: HomogeneousModel,
    X: ArrayLike | Inputs,
    other: ArrayLike | Inputs | None = None,
    *,
    init: str | ArrayLike = "theory",
    seed: int = 0,
) -> NDArray[Any]:
    """Return the kernel <phi(x), phi(x')>, shape (n, m), or (n, c, m, c) for c > 1 outputs.

    The features are never formed, except by a `UserModel`, whose gradients are all there is.

    Parameters
    ----------
    model : HomogeneousModel
    X, other : array_like or Inputs, shapes (n, ...) and (m, ...)
        `other` defaults to X.
    init : str or array_like, shape (P,)
        The initial direction theta_bar, not multiplied by alpha; float32 makes a float32 kernel.
    seed : int
        Of the draw, where `init` names one.

    Raises
    ------
    InputError
        No model, inputs or a direction that it refuses, or numbers past the float range.

    Examples
    --------
    >>> from theorykit.models import MLP, DiagonalNet
    >>> ntk(DiagonalNet(d=1), [[3.0]], [[1.0]])
    array([[24.]])
    >>> ntk(MLP((2, 64, 3)), [[1.0, 0.0], [0.0, 1.0]], init="twin", seed=1).shape
    (2, 3, 2, 3)
    """
    direction = _direction(model, init, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        return _finite(model.ntk(X, other, direction))


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(values).all():
        raise InputError("X", "inputs whose features or kernel leave the float range", "inputs of moderate size")
    return values


def _direction(model: HomogeneousModel, init: str | ArrayLike, seed: int) -> NDArray[Any]:
    """Return the initial direction, checked; the user's own keeps single precision."""
    if not isinstance(model, HomogeneousModel) or isinstance(model, type):
        raise InputError("model", shown(model), "a model of theorykit.models")
    direction = model.direction(init, integer("seed", seed, minimum=0))
    single = getattr(init, "dtype", None) == "float32"
    return direction.astype("float32") if single else direction
