"""The max l1-margin and the least l1-norm as a matrix game, solved by HiGHS on a working set of columns.

With c_i = 2**-exponent_i (so that row i of Z is z_i / c_i for the scaled row z_i) the program is

    maximise t  subject to  z_i . w >= t c_i  for every sample i,  ||w||_1 = 1,

always feasible and bounded, with the dual: minimise s subject to |Z^T nu|_k <= s for every feature k, nu >= 0 and
c . nu = 1. A vertex touches at most n features, so features enter by the most violated |Z^T nu|_k and the simplex
method goes on from where it was. At t = 0 the samples are not separable and nu is the proof.

Equations z_i . w = c_i are the same game with = in place of >=, nu of any sign, and ||w||_1 = 1/t their least norm.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, lu_solve
from scipy.linalg.lapack import dgetrf

from theorykit._numerics.rounding import Floats, Rows, row_residuals, scale_rows
from theorykit.programs._scaled import Candidate, combination, targets

TOLERANCE = 1e-10
SMALLEST_VALUE = 1e-12
_FIRST_COLUMNS = 500
_MORE_COLUMNS = 250
_REFINEMENTS = 3
_BOTH = 2.0


def solve(rows: Rows, y: Floats, c: Floats | None = None, *, equations: bool = False) -> Candidate:
    """Return the optimal pair, from the vertex HiGHS ends at, recomputed to round-off; `c` as in `Game`."""
    game = Game(rows, y, c, equations=equations)
    game.play(1.0)
    while game.scale * game.value < 0.1 and game.scale < 1.0 / SMALLEST_VALUE:
        game.play(1.0 / max(game.value, SMALLEST_VALUE))
    return game.vertex()


class Game:
    """The program on its working set: a HiGHS model that only ever gains columns.

    Column 0 is t; every other one is a feature with a sign, so that its weight is non-negative. Rows 0..n-1 are the
    samples and row n is the norm. A small value is multiplied up to order 1 by `scale` (the norm asked for, and the
    prize for t): HiGHS has absolute tolerances. The right-hand sides `c` are those of equal margins unless given.
    """

    def __init__(self, rows: Rows, y: Floats, c: Floats | None = None, *, equations: bool = False) -> None:
        from highspy import kHighsInf

        self.rows, self.y, self.equations = rows, y, equations
        self.c = targets(rows) if c is None else c
        self.features: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.signs: Floats = np.empty(0)
        self._side = np.zeros(rows.values.shape[1])  # the sign with which a feature has joined, 0 or _BOTH
        self.scale, self.iterations = 1.0, 0
        self._inf, self._lp = kHighsInf, silent_highs()
        none = np.empty(0, dtype=np.int32), np.empty(0)
        for _ in y:
            self._lp.addRow(0.0, 0.0 if equations else self._inf, 0, *none)
        self._lp.addRow(1.0, 1.0, 0, *none)
        self._lp.addCol(-1.0, -self._inf, self._inf, len(y), np.arange(len(y), dtype=np.int32), -self.c)
        self._add(combination(rows, y, np.sign(self.c)), _FIRST_COLUMNS)

    def play(self, scale: float) -> None:
        """Solve to optimality over all features."""
        self.scale = scale
        n = len(self.y)
        self._lp.changeRowBounds(n, 0.0 if self.equations else scale, scale)
        self._lp.changeColCost(0, -scale)
        while True:
            self._lp.run()
            self.iterations += self._lp.getInfo().simplex_iteration_count
            solution = self._lp.getSolution()
            self.dual = np.array(solution.row_dual[:n]) / scale
            if not self.equations:
                self.dual = np.maximum(self.dual, 0.0)
            self.value = -self._lp.getInfo().objective_function_value / scale**2
            products = combination(self.rows, self.y, self.dual)
            violated = np.abs(products) * scale > self.value * scale + 10.0 * TOLERANCE
            violated &= self._side != np.sign(products)  # the other sign of a feature is another column
            violated &= self._side != _BOTH
            if not violated.any():
                self.weights = np.array(solution.col_value[1:]) / (scale * abs(self.value) or scale)
                return
            self._lp.setOptionValue("simplex_strategy", 4)  # primal: the old basis stays feasible when columns join
            self._add(np.where(violated, products, 0.0), _MORE_COLUMNS)

    def _add(self, products: Floats, count: int) -> None:
        """Let the features with the largest |products| join, each with the sign that pays."""
        magnitudes = np.abs(products)
        count = min(count, len(products))
        chosen = np.argpartition(-magnitudes, count - 1)[:count]
        chosen = chosen[(magnitudes[chosen] > 0.0) | (len(self.features) == 0)]
        signs = np.where(products[chosen] < 0.0, -1.0, 1.0)
        n, m = len(self.y), len(chosen)
        entries = np.ones((m, n + 1))
        entries[:, :n] = (self.rows.values[:, chosen] * self.y[:, None] * signs).T
        index = np.tile(np.arange(n + 1, dtype=np.int32), m)
        starts = np.arange(0, m * (n + 1), n + 1, dtype=np.int32)
        zeros = np.zeros(m)
        self._lp.addCols(m, zeros, zeros, np.full(m, self._inf), entries.size, starts, index, entries.ravel())
        self._side[chosen] = np.where(self._side[chosen] == 0.0, signs, _BOTH)
        self.features = np.append(self.features, chosen)
        self.signs = np.append(self.signs, signs)

    def vertex(self) -> Candidate:
        """Return the optimum, with z_i . w >= c_i, recomputed from its basis where that is regular."""
        kept, active = self.basis()
        w = np.zeros(self.rows.values.shape[1])
        np.add.at(w, self.features, self.signs * self.weights)
        dual = self.dual
        if len(kept) and len(kept) == len(active):
            features = self.features[kept]
            block = self.y[active, None] * self.rows.values[np.ix_(active, features)]
            try:
                w_kept, dual_active = basic_solution(block, self.c[active], self.signs[kept])
            except LinAlgError:
                return Candidate(w, dual, self.iterations)
            w, dual = np.zeros(len(w)), np.zeros(len(dual))
            w[features] = w_kept
            dual[active] = dual_active if self.equations else np.maximum(dual_active, 0.0)
        return Candidate(w, dual, self.iterations)

    def basis(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the basic features (positions in the working set) and the samples that hold with equality."""
        import highspy

        basic = highspy.HighsBasisStatus.kBasic
        basis = self._lp.getBasis()
        kept = np.flatnonzero([status == basic for status in basis.col_status[1:]])
        active = np.flatnonzero([status != basic for status in basis.row_status[: len(self.y)]])
        return kept, active


def silent_highs() -> Any:
    """Return an empty HiGHS model with our options (`highspy.Highs` itself prints a banner on stdout)."""
    from highspy._core import _Highs

    model = _Highs()
    for option, value in _OPTIONS.items():
        model.setOptionValue(option, value)
    return model


_OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "solver": "simplex",
    "presolve": "off",
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
    "small_matrix_value": 1e-12,
}


def basic_solution(block: Floats, c: Floats, signs: Floats) -> tuple[Floats, Floats]:
    """Solve ``block w = c`` and ``block^T dual = signs``, refined with residuals in doubled precision."""
    factors, pivots, singular = dgetrf(block)
    if singular:
        raise LinAlgError("the basis is singular")

    def solved(right: Floats, transposed: Literal[0, 1]) -> Floats:
        return np.asarray(lu_solve((factors, pivots), right, trans=transposed, check_finite=False))

    rows, columns = scale_rows(block), scale_rows(np.ascontiguousarray(block.T))
    w, dual = solved(c, 0), solved(signs, 1)
    for _ in range(_REFINEMENTS):
        w = w + solved(_residual(rows, w, c), 0)
        dual = dual + solved(_residual(columns, dual, signs), 1)
    if not (np.isfinite(w).all() and np.isfinite(dual).all()):
        raise LinAlgError("the basis is singular to working precision")
    return w, dual


def _residual(rows: Rows, vector: Floats, wanted: Floats) -> Floats:
    return np.ldexp(row_residuals(rows, vector, np.ldexp(wanted, -rows.exponents)), rows.exponents)
