"""The max l-infinity-margin, and the least l-infinity-norm, by HiGHS over all features.

With c_i as in `_l1` the program is

    maximise t  subject to  z_i . w >= t c_i  (or = t c_i)  for every sample i,  |w_k| <= 1 for every feature k.

At a vertex all but at most n features are at a bound: no small working set of features holds the optimum, but an
interior point method needs only systems of n equations. Its crossover gives the vertex, which is recomputed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from theorykit._numerics.rounding import Floats, Rows, row_residuals
from theorykit.programs._l1 import SMALLEST_VALUE, basic_solution, silent_highs
from theorykit.programs._scaled import Candidate, targets
from theorykit.programs._statement import SolverError

_REFINEMENTS = 2


def solve(rows: Rows, y: Floats, c: Floats | None = None, *, equations: bool = False) -> Candidate:
    """Return the optimal pair, with z_i . w >= c_i, recomputed from the vertex where that is regular."""
    c = targets(rows) if c is None else c
    box = _Box(rows, y, c, equations)
    if not box.solve(1.0):
        raise SolverError(f"HiGHS ended with status {box.status!r}")
    while box.scale * box.value < 0.1 and box.scale < 1.0 / SMALLEST_VALUE:
        if not box.solve(1.0 / max(box.value, SMALLEST_VALUE)):
            break  # nothing is left but round-off: the last pair proves what can be proved
    return box.vertex()


class _Box:
    """The HiGHS model: column 0 is t, the others are the features; rows are the samples."""

    def __init__(self, rows: Rows, y: Floats, c: Floats, equations: bool) -> None:
        import highspy

        self.rows, self.y, self.c, self.equations = rows, y, c, equations
        self.scale, self.iterations = 1.0, 0
        self._n, self._d = rows.values.shape
        self._optimal = highspy.HighsModelStatus.kOptimal
        self._lp = silent_highs()
        self._lp.setOptionValue("simplex_iteration_limit", 50 * (self._n + self._d) + 1000)  # it can cycle at t = 0
        self._lp.setOptionValue("ipm_iteration_limit", 1000)
        none = np.empty(0, dtype=np.int32), np.empty(0)
        for _ in y:
            self._lp.addRow(0.0, 0.0 if equations else highspy.kHighsInf, 0, *none)
        index = np.arange(self._n, dtype=np.int32)
        self._lp.addCol(-1.0, -highspy.kHighsInf, highspy.kHighsInf, self._n, index, -c)
        largest = np.maximum(rows.values.max(axis=0), -rows.values.min(axis=0).astype(np.float64))
        self._units = np.ldexp(1.0, np.clip(-np.frexp(largest)[1], -1000, 1000))  # HiGHS drops entries below 1e-12
        entries = np.ascontiguousarray((y[:, None] * rows.values * self._units).T).ravel()
        starts = np.arange(0, entries.size, self._n, dtype=np.int32)
        ones = np.ones(self._d)
        self._lp.addCols(
            self._d, np.zeros(self._d), -ones, ones, entries.size, starts, np.tile(index, self._d), entries
        )

    @property
    def status(self) -> str:
        """What HiGHS says of its last run."""
        return str(self._lp.modelStatusToString(self._lp.getModelStatus()))

    def solve(self, scale: float) -> bool:
        """Solve with the box and the prize for t multiplied by the scale: HiGHS has absolute tolerances.

        Returns False, and keeps the pair of the solve before, where neither method ends at an optimum.
        """
        self._lp.changeColCost(0, -scale)
        features = np.arange(1, self._d + 1, dtype=np.int32)
        bounds = scale / self._units
        self._lp.changeColsBounds(self._d, features, -bounds, bounds)
        for method in ("ipx", "simplex"):
            self._lp.setOptionValue("solver", method)
            self._lp.run()
            if self._lp.getModelStatus() == self._optimal:
                break
        else:
            return False
        self.scale = scale
        information = self._lp.getInfo()
        self.iterations += max(information.ipm_iteration_count, 0) + max(information.simplex_iteration_count, 0)
        solution = self._lp.getSolution()
        self.value = -information.objective_function_value / scale**2
        self.weights = np.array(solution.col_value[1:]) * self._units / scale
        dual = np.array(solution.row_dual) / scale
        self.dual = dual if self.equations else np.maximum(dual, 0.0)
        self.basis = self._lp.getBasis()
        return True

    def vertex(self) -> Candidate:
        """Return the optimum, recomputed from its basis where that is regular."""
        free, active = self._basis()
        if len(active) == len(free) + 1:
            try:
                return self._recomputed(free, active)
            except LinAlgError:
                pass
        return Candidate(self.weights / (abs(self.value) or 1.0), self.dual, self.iterations)

    def _basis(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the features between their bounds and the samples that hold with equality."""
        import highspy

        basic = highspy.HighsBasisStatus.kBasic
        basis = self.basis
        free = np.flatnonzero([status == basic for status in basis.col_status[1:]])
        return free, np.flatnonzero([status != basic for status in basis.row_status])

    def _recomputed(self, free: NDArray[np.intp], active: NDArray[np.intp]) -> Candidate:
        """Solve for the free features and the size v of all others: z_i . w = c_i on the active samples.

        The multipliers are orthogonal to the free features, and to the sum of the others, with their signs, they are 1.
        """
        sides = np.sign(self.weights)
        sides[free] = 0.0
        held = self.rows.values[active]
        signs = self.y[active, None]
        block = signs * np.column_stack((held[:, free], held @ sides))
        right = np.append(np.zeros(len(free)), 1.0)
        found, dual_active = basic_solution(block, self.c[active], right)
        w = self._assembled(free, sides, found)
        kept = Rows(held, np.zeros(len(active), dtype=np.int64))
        for _ in range(_REFINEMENTS):
            residual = signs[:, 0] * row_residuals(kept, w, self.y[active] * self.c[active])
            found = found + basic_solution(block, residual, right)[0]
            w = self._assembled(free, sides, found)
        dual = np.zeros(self._n)
        dual[active] = dual_active if self.equations else np.maximum(dual_active, 0.0)
        return Candidate(w, dual, self.iterations)

    def _assembled(self, free: NDArray[np.intp], sides: Floats, found: Floats) -> Floats:
        w: Any = found[-1] * sides
        w[free] = found[:-1]
        return np.asarray(w)
