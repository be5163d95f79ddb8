"""Neural tangent features and kernels at the initial direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit.models import HomogeneousModel


def features(model: HomogeneousModel, X: ArrayLike, *, init: str | ArrayLike = "theory") -> NDArray[np.float64]:
    """Return the NTK features phi(x) = grad f(theta_bar; x), shape (n, P).

    Parameters
    ----------
    model : HomogeneousModel
    X : array_like, shape (n, d)
    init : str or array_like
        The initial direction theta_bar, not multiplied by alpha.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> features(DiagonalNet(d=1), [[3.0]])
    array([[ 6., -6.]])
    """
    return model.features(X, model.direction(init))


def ntk(
    model: HomogeneousModel, X: ArrayLike, other: ArrayLike | None = None, *, init: str | ArrayLike = "theory"
) -> NDArray[np.float64]:
    """Return the kernel <phi(x), phi(x')>, shape (n, m), without forming the features.

    Parameters
    ----------
    model : HomogeneousModel
    X, other : array_like, shapes (n, d) and (m, d)
        `other` defaults to X.
    init : str or array_like
        The initial direction theta_bar, not multiplied by alpha.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> ntk(DiagonalNet(d=1), [[3.0]], [[1.0]])
    array([[24.]])
    """
    return model.ntk(X, other, model.direction(init))
