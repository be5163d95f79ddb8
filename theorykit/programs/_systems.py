"""The constraints of a kernel machine, ``<z_k, h> >= 1``, with their z_k given as rows of features or by a Gram matrix.

Both kinds free z_k of a power of two: ``z_k = 2**e_k u_k``. Everything below is in terms of the u_k and of
``g = 2**e h``, e the smallest exponent, so that the constraints read ``<u_k, g> >= c_k = 2**(e - e_k)``; both kinds
answer the same questions with proved bounds, and the solver and the certificate need not know which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.rounding import (
    UNIT,
    Floats,
    Rows,
    column_products,
    down,
    norm_upper,
    row_products,
    scale_rows,
    up,
)
from theorykit.programs._constraints import Constraints
from theorykit.programs._gram import Gram, product_bounds, quadratic_bounds
from theorykit.programs._l2 import signed_gram


class System(Protocol):
    """What solvers and certificates ask of the constraints; g is (P,) for features, flat coefficients for a Gram."""

    @property
    def exponents(self) -> NDArray[np.int64]:
        """The e_k, shape (m,)."""
        ...

    @property
    def gram(self) -> Floats:
        """The inner products of the u_k, shape (m, m), to round-off."""
        ...

    def block(self, chosen: NDArray[np.intp]) -> Floats:
        """Return the rows and columns of `gram` that were chosen, without forming the others where that is a saving."""
        ...

    @property
    def squares(self) -> Floats:
        """The diagonal of `gram`, shape (m,)."""
        ...

    @property
    def gram_error(self) -> float:
        """Bound on the operator norm of what `gram`, or any block of it, misses."""
        ...

    def combine(self, mu: Floats) -> Floats:
        """Return g = sum_k mu_k u_k, to round-off."""
        ...

    def margins(self, g: Floats) -> tuple[Floats, Floats]:
        """Enclose all <u_k, g>."""
        ...

    def size(self, g: Floats) -> float:
        """Bound ||g|| from above."""
        ...

    def combined_size(self, mu: Floats) -> float:
        """Bound ||sum_k mu_k u_k|| from above."""
        ...

    def miss(self, g: Floats, mu: Floats) -> float:
        """Bound ||g - sum_k mu_k u_k|| from above."""
        ...


@dataclass(frozen=True)
class RowSystem:
    """Constraints whose z_k are the rows of a matrix (m, P)."""

    rows: Rows

    @classmethod
    def of(cls, Z: NDArray[Any]) -> RowSystem:
        """Scale the rows."""
        return cls(scale_rows(Z))

    @property
    def exponents(self) -> NDArray[np.int64]:
        return self.rows.exponents

    @cached_property
    def _plain(self) -> Rows:
        return Rows(self.rows.values, np.zeros_like(self.rows.exponents))

    @cached_property
    def gram(self) -> Floats:
        return signed_gram(self.rows, np.ones(len(self.rows.values)))

    def block(self, chosen: NDArray[np.intp]) -> Floats:
        part = Rows(self.rows.values[chosen], self.rows.exponents[chosen])
        return signed_gram(part, np.ones(len(chosen)))

    @cached_property
    def squares(self) -> Floats:
        return np.array([float(np.square(row, dtype=np.float64).sum()) for row in self.rows.values])

    @property
    def gram_error(self) -> float:
        if self.rows.values.dtype == np.int8:
            return 0.0
        terms = self.rows.values.shape[1]
        return float(2.0 * (terms + 4.0) * UNIT * self.squares.sum() + len(self.squares) * 2.0**-900)

    def combine(self, mu: Floats) -> Floats:
        lower, upper = column_products(self._plain, mu)
        return 0.5 * (lower + upper)

    def margins(self, g: Floats) -> tuple[Floats, Floats]:
        return row_products(self._plain, g)

    def size(self, g: Floats) -> float:
        return norm_upper(np.abs(g), 2)

    def combined_size(self, mu: Floats) -> float:
        lower, upper = column_products(self._plain, mu)
        return norm_upper(np.maximum(-lower, upper), 2)

    def miss(self, g: Floats, mu: Floats) -> float:
        lower, upper = column_products(self._plain, mu)
        return norm_upper(np.maximum(up(g - lower), up(upper - g)), 2)


@dataclass(frozen=True)
class GramSystem:
    """Constraints on outputs whose features are known by their Gram matrix only; g is their coefficients, flat.

    Bounds hold for every positive semidefinite matrix whose scaled form is within `data.perturbation` of
    `data.values` in operator norm: for the matrix itself where that is 0.
    """

    data: Gram
    constraints: Constraints
    shared: bool  # whether the Gram matrix is (n, n) and all classes share it

    @property
    def exponents(self) -> NDArray[np.int64]:
        step = 1 if self.shared else self.constraints.classes
        return self.data.exponents[::step][self.constraints.samples]

    @cached_property
    def gram(self) -> Floats:
        return self.constraints.gram(self.data.values, self.shared)

    def block(self, chosen: NDArray[np.intp]) -> Floats:
        return np.asarray(self.gram[np.ix_(chosen, chosen)])

    @property
    def squares(self) -> Floats:
        return self.gram.diagonal()

    @property
    def gram_error(self) -> float:
        spread = max(1, self.constraints.classes)  # of differences of outputs: ||e_y - e_j||^2 summed over j at most c
        rounding = 0.0 if self.shared or self.constraints.classes == 1 else 16.0 * UNIT * len(self.gram)
        return float(up(up(spread * self.data.perturbation) + rounding))

    def combine(self, mu: Floats) -> Floats:
        return self.constraints.adjoint(mu)[0]

    def margins(self, g: Floats) -> tuple[Floats, Floats]:
        lower, upper = product_bounds(self.data.values, self._by_class(g))
        slack = float(up(self.data.perturbation * norm_upper(np.abs(g), 2)))
        return self.constraints.margins(down(lower - slack).ravel(), up(upper + slack).ravel())

    def size(self, g: Floats) -> float:
        square = quadratic_bounds(self.data.values, self._by_class(g))[1]
        slack = up(self.data.perturbation * up(norm_upper(np.abs(g), 2) ** 2))
        return float(up(np.sqrt(max(0.0, float(up(square + slack))))))

    def combined_size(self, mu: Floats) -> float:
        total, errors = self.constraints.adjoint(mu)
        return float(up(self.size(total) + self._at_most(errors)))

    def miss(self, g: Floats, mu: Floats) -> float:
        total, errors = self.constraints.adjoint(mu)
        difference = g - total
        return float(up(self.size(difference) + self._at_most(up(UNIT * np.abs(difference)) + errors)))

    def _by_class(self, g: Floats) -> Floats:
        return g.reshape(len(self.data.values), -1) if self.shared else g

    def _at_most(self, magnitudes: Floats) -> float:
        """Bound ||sum_i a_i u_i|| for any |a_i| <= magnitudes_i."""
        lengths = np.sqrt(up(self.data.values.diagonal() + self.data.perturbation)) * (1.0 + 4.0 * UNIT)
        sizes = self._by_class(magnitudes)
        total = sizes.T @ lengths if sizes.ndim == 2 else np.array([sizes @ lengths])
        return float(up(total.sum() * (1.0 + 4.0 * (sizes.size + 4.0) * UNIT)))
