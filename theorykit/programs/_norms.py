"""The norms that the programs speak of, their duals, and proved upper bounds of both."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats, group_norms_upper, norm_upper
from theorykit._numerics.validate import numeric, shown

Kind = float | Literal["group"]
"""1, 2, inf (as numbers) or "group"."""


class Norm(NamedTuple):
    """A norm on the features.

    Attributes
    ----------
    kind : {1, 2, inf, "group"}
        "group" is the sum over groups of the Euclidean norms.
    groups : ndarray of int, shape (d,), or None
        The group of each feature, 0 .. number of groups - 1; only for "group".
    """

    kind: Kind
    groups: NDArray[np.int64] | None = None

    def upper(self, magnitudes: Floats) -> float:
        """Bound from above the norm of any vector with entries of at most these absolute values."""
        if self.groups is not None:
            return norm_upper(group_norms_upper(magnitudes, self.groups), 1)
        return norm_upper(magnitudes, float(self.kind))

    def dual_upper(self, magnitudes: Floats) -> float:
        """Bound from above the dual norm of any vector with entries of at most these absolute values."""
        if self.groups is not None:
            return norm_upper(group_norms_upper(magnitudes, self.groups), math.inf)
        return norm_upper(magnitudes, {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[float(self.kind)])


_GROUPS = "the group of each feature, integers of shape (d,)"
_WANTED = '1, 2, inf or "group"'


def checked_norm(norm: Any, groups: ArrayLike | None, d: int) -> Norm:
    """Return the norm, with its groups numbered from 0.

    Examples
    --------
    >>> checked_norm("inf", None, 3)
    Norm(kind=inf, groups=None)
    >>> checked_norm("group", [7, 7, -1], 3).groups
    array([1, 1, 0])
    """
    kind = _checked_kind(norm)
    if kind != "group":
        if groups is not None:
            raise InputError("groups", f"groups with norm {norm!r}", 'groups only with norm="group"')
        return Norm(kind)
    if groups is None:
        raise InputError("groups", "none", f'{_GROUPS}, with norm="group"')
    labels = numeric("groups", groups)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError("groups", f"dtype {labels.dtype}, shape {labels.shape}", _GROUPS)
    if len(labels) != d:
        raise InputError("groups", f"{len(labels)} entries", f"{d}, one for each feature (column of X)")
    return Norm("group", np.unique(labels, return_inverse=True)[1].astype(np.int64))


def _checked_kind(norm: Any) -> Kind:
    """Return 1, 2 or inf (an int where it is one) or "group"."""
    if isinstance(norm, str) and norm in ("inf", "group"):
        return math.inf if norm == "inf" else "group"
    if isinstance(norm, (bool, str)) or not isinstance(norm, (int, float, np.integer, np.floating)):
        raise InputError("norm", shown(norm), _WANTED)
    if norm not in (1, 2, math.inf):
        raise InputError("norm", shown(norm), _WANTED)
    return math.inf if norm == math.inf else int(norm)
