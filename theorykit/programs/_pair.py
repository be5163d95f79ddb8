"""An approximate optimal pair, in units in which it can be examined, and what the examination says."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.rounding import Floats, Rows, column_products, row_products

Indices = NDArray[np.intp]
Verdict = Literal["proved", "disproved", "unknown"]


class Uniqueness(NamedTuple):
    """A statement on uniqueness.

    Attributes
    ----------
    verdict : {"proved", "disproved", "unknown"}
    reason : str
        In words.
    alternative : ndarray, shape (d,), or None
        Another solution (to round-off) where uniqueness is disproved; so is everything between the two.
    """

    verdict: Verdict
    reason: str
    alternative: Floats | None = None


class Judged:
    """A result that says whether it is the only one."""

    @cached_property
    def _uniqueness(self) -> Uniqueness:
        raise NotImplementedError

    @property
    def uniqueness(self) -> Verdict:
        """Whether there is no other solution: "proved", "disproved" or "unknown"."""
        return self._uniqueness.verdict

    @property
    def uniqueness_reason(self) -> str:
        """Why."""
        return self._uniqueness.reason

    @property
    def alternative(self) -> Floats | None:
        """Another solution where uniqueness is disproved."""
        return self._uniqueness.alternative


class Pair(NamedTuple):
    """The program for rows of moderate size, y_i z_i . w >= c_i (or = c_i), with an approximate optimal pair."""

    rows: Rows
    y: Floats
    c: Floats
    w: Floats
    dual: Floats
    equations: bool

    def block(self, samples: Indices, features: Indices) -> Floats:
        return np.asarray(self.y[samples, None] * self.rows.values[np.ix_(samples, features)])

    def outputs(self, w: Floats) -> tuple[Floats, Floats]:
        """Enclose y_i z_i . w."""
        lower, upper = row_products(self.rows, w)
        return np.where(self.y > 0, lower, -upper), np.where(self.y > 0, upper, -lower)

    def products(self, dual: Floats) -> tuple[Floats, Floats]:
        """Enclose sum_i dual_i y_i z_i."""
        return column_products(self.rows, self.y * dual)

    def middle(self, dual: Floats) -> Floats:
        """Return sum_i dual_i y_i z_i to round-off."""
        lower, upper = self.products(dual)
        return np.asarray(0.5 * (lower + upper))

    def largest(self) -> float:
        """The largest entry of the rows."""
        return float(max(self.rows.values.max(), -float(self.rows.values.min())))
