"""What the arguments that the predictors share have to be: scales by their logarithms, the degree, times, models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer, numbers, shown
from theorykit.models import HomogeneousModel

_LARGEST = 1e100  # no formula leaves the float range with logarithms up to it
_HIGHEST_DEGREE = 10**6


def moderate(argument: str, value: Any) -> float:
    """Return a number, such as the logarithm of a scale.

    Examples
    --------
    >>> moderate("log_alpha", -1e4)
    -10000.0
    """
    return finite(argument, value, minimum=-_LARGEST, maximum=_LARGEST)


def degree_of(value: Any) -> int:
    """Return L, the degree of homogeneity."""
    return integer("degree", value, minimum=2, maximum=_HIGHEST_DEGREE)


def scales(log_alpha: Any, log_weight_decay: Any, degree: Any) -> tuple[float, float, int]:
    """Return log(alpha), log(lambda) and L."""
    return moderate("log_alpha", log_alpha), moderate("log_weight_decay", log_weight_decay), degree_of(degree)


def slow_times(value: ArrayLike) -> NDArray[np.float64]:
    """Return times of any shape, infinity among them."""
    return numbers("tau", value, minimum=0.0)


def log_or_less(value: float) -> float:
    """Return the logarithm of a number >= 0.

    Examples
    --------
    >>> log_or_less(0.0)
    -inf
    """
    return math.log(value) if value > 0.0 else -math.inf


def checked_model(model: Any) -> HomogeneousModel:
    """Return the model, which is one."""
    if not isinstance(model, HomogeneousModel) or isinstance(model, type):
        raise InputError("model", shown(model), "a model of theorykit.models")
    return model
