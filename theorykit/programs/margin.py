"""Max-margin classifiers without bias, in every norm, solved fast and certified."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.rounding import Floats, Rows, down, scale_rows, up
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import matrix, signs
from theorykit.datasets import Dataset
from theorykit.programs._fast import method, solve
from theorykit.programs._norms import Kind, Norm, checked_norm
from theorykit.programs._pair import Judged, Uniqueness
from theorykit.programs._scaled import Candidate, featured, targets, unscaled
from theorykit.programs._sealed import hash_rows, read, write
from theorykit.programs._separability import at_once, not_separable
from theorykit.programs._statement import SolverError, checked_solver, solve_statement, solver_version, statement
from theorykit.programs._uniqueness import of_margin
from theorykit.programs.certificate import Certificate, intact, seal, smallest_margin


@dataclass(frozen=True, eq=False)
class MaxMargin(Judged):
    """A max-margin classifier with its proof.

    Attributes
    ----------
    w : ndarray, shape (d,)
        The minimum-norm separator, scaled so that ``min_i y_i <w, x_i> = 1`` (to round-off): its margin is 1/||w||_p.
    margin : float
        ``min_i y_i <w, x_i> / ||w||_p``, proved, and within `certificate.gap` of the best possible.
    dual : ndarray, shape (n,)
        Multipliers mu >= 0 with sum 1; the margin is ||Z^T mu||_q, q the dual norm, Z = diag(y) X.
    certificate : Certificate
        Proved bounds on the optimal margin.
    distance_bound : float or None
        Norm 2: proved bound on ||w - w*||_2, with w* the exact optimum of min 1/2 ||w||^2 subject to Zw >= 1. None for
        the other norms, whose optimum need not be unique.
    norm : {1, 2, inf, "group"}
    uniqueness : {"proved", "disproved", "unknown"}
        Whether w is proved to be the only solution, or proved not to be. Found out when first asked for.
    uniqueness_reason : str
        Why, in words.
    alternative : ndarray, shape (d,), or None
        Where uniqueness is disproved, another solution (to round-off); all between it and w are solutions, too.
    solver : str
        What solved it, with version.
    iterations : int
        Pivots or solver iterations.
    wall_s : float
        Seconds, certificate included.
    """

    certificate: Certificate
    distance_bound: float | None
    solver: str
    iterations: int
    wall_s: float
    X: NDArray[Any] = field(repr=False)
    y: Floats = field(repr=False)

    @property
    def norm(self) -> Kind:
        """The p of the margin."""
        return self.certificate.norm

    @property
    def w(self) -> Floats:
        """The separator, shape (d,)."""
        return self.certificate.w

    @property
    def dual(self) -> Floats:
        """The multipliers, shape (n,), sum 1."""
        return self.certificate.dual

    @property
    def margin(self) -> float:
        """The margin that w is proved to have."""
        return self.certificate.lower

    @cached_property
    def _uniqueness(self) -> Uniqueness:
        return of_margin(self.X, self.y, self.w, self.dual, Norm(self.norm, self.certificate.groups))

    def as_cvxpy(self) -> Any:
        """Return the program as a `cvxpy.Problem` in one variable w.

        Examples
        --------
        >>> problem = max_margin([[2.0]], [1]).as_cvxpy()
        >>> problem.is_dcp(), problem.variables()[0].shape
        (True, (1,))
        """
        return statement(self.X, self.y, Norm(self.norm, self.certificate.groups))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result and its data to one ``.npz`` file, whole or not at all.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        InputError
            The file cannot be written.
        """
        c = self.certificate
        head = {
            "norm": c.norm,
            "lower": c.lower,
            "upper": c.upper,
            "data_hash": c.data_hash,
            "digest": c.digest,
            "solver": self.solver,
            "iterations": self.iterations,
            "wall_s": self.wall_s,
        }
        arrays = {"X": self.X, "y": self.y, "w": c.w, "dual": c.dual}
        write(path, _FORMAT, head, arrays if c.groups is None else arrays | {"groups": c.groups})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MaxMargin:
        """Read what `save` wrote, and check that it is whole and unchanged (`certificate.verify` checks the proof too).

        Parameters
        ----------
        path : path-like

        Returns
        -------
        MaxMargin

        Raises
        ------
        InputError
            No such file, or not one that `save` wrote, or changed since.
        """
        return read(path, _FORMAT, "MaxMargin.save", cls._rebuilt)

    @classmethod
    def _rebuilt(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> MaxMargin:
        X, y, w, dual = (arrays[name] for name in ("X", "y", "w", "dual"))
        bounds = head["norm"], head["lower"], head["upper"]
        certificate = Certificate(*bounds, w, dual, head["data_hash"], head["digest"], arrays.get("groups"))
        if not intact(certificate) or hash_rows(X, y) != certificate.data_hash:
            raise ValueError("its contents were changed")
        distance = _distance_bound(certificate, scale_rows(X), y)
        return cls(certificate, distance, head["solver"], head["iterations"], head["wall_s"], X, y)


_POOR_GAP = 1e-3
"""Nobody expects our own method to be this far off: beyond it, say so instead of handing over the vectors."""

_FORMAT = "theorykit max-margin 2"


def max_margin(
    X: ArrayLike | Dataset,
    y: ArrayLike | None = None,
    *,
    norm: Kind | Literal["inf"] = 2,
    groups: ArrayLike | None = None,
    model: Any = None,
    init: str | ArrayLike = "theory",
    solver: str | None = None,
) -> MaxMargin:
    """Return the max-margin linear classifier without bias, with a proof of how good it is.

    ``gamma_p = max_w min_i y_i <w, x_i> / ||w||_p``. For p = 2 this is program K1 of the kernel regime (Lyu et al.,
    ICLR 2024, arXiv:2311.18817), for p = 1 what R1 of the diagonal net of degree 2 comes to (corollary 3.7 there).

    Parameters
    ----------
    X : array_like, shape (n, d), or Dataset
        int8 stays int8 (n = 256, d = 100 000 fits in 25 MB); anything else becomes float64. Any scale, and samples may
        differ in scale as they like; features that differ by more than 1e12 can be too ill-conditioned to certify.
    y : array_like, shape (n,)
        Labels +1 or -1. One class alone is fine: there is no bias. Left out with a data set, which has its own.
    norm : {2, 1, inf, "inf", "group"}
        The p of the margin; "group" is the sum over groups of the Euclidean norms.
    groups : array_like of int, shape (d,), optional
        The group of each feature, any integers, for norm "group".
    model : HomogeneousModel, optional
        With it, X are its inputs and the program is that of its NTK features at `init`, (n, P) and formed as such;
        `kernel_svm` and `kernel_interpolant` need only their Gram matrix.
    init : str or array_like
        The direction at which the features are taken.
    solver : str, optional
        An installed CVXPY solver ("CLARABEL", "HIGHS", ...), to solve the program as CVXPY states it. Default: block
        pivoting or non-negative least squares in the dual (norm 2), HiGHS on a working set of features (norm 1) or on
        all of them (inf), Clarabel on a working set of groups and Newton's method (group).

    Returns
    -------
    MaxMargin

    Raises
    ------
    InputError
        NaN or infinite entries, labels other than +-1, lengths that differ, no samples, an unknown norm, groups that
        are missing or misshapen, a solver that is not installed.
    NotSeparableError
        No w has a positive margin: with an exact proof, or, where none was in reach, a proved bound on the margin.
    SolverError
        The CVXPY solver did not end with the status "optimal"; or our own method proved no better than a gap of 1e-3
        (margins below about 1e-10 of the sizes of the samples).

    Notes
    -----
    Doubles can carry a w with margin gamma only to a relative 1e-16 * max_i ||x_i|| / gamma: so small can the gap be.

    Examples
    --------
    >>> result = max_margin([[2.0, 0.0], [0.0, -1.0]], [1, -1])
    >>> result.w
    array([0.5, 1. ])
    >>> result.certificate.gap < 1e-14, result.distance_bound < 1e-7
    (True, True)
    """
    started = time.perf_counter()
    points, given = featured(X, y, model, init)
    data = matrix("X", points)
    labels = signs("y", given, length=len(data))
    kind = checked_norm(norm, groups, data.shape[1])
    name = None if solver is None else checked_solver(solver)
    hopeless = at_once(data, labels)
    if hopeless is not None:
        raise hopeless
    rows = scale_rows(data)
    if name is None:
        with one_blas_thread():
            candidate, title = unscaled(solve(rows, labels, targets(rows), kind), rows), method(kind)
    else:
        candidate, title = _stated(data, labels, rows, kind, name), solver_version(name)
    certificate = _sealed(data, labels, rows, candidate, kind)
    if certificate.lower <= 0.0:
        raise not_separable(data, labels, rows, kind, certificate.upper)
    if name is None and certificate.gap > _POOR_GAP:
        raise SolverError(
            f"too ill-conditioned to solve: proved is {certificate.lower} <= margin <= {certificate.upper}"
        )
    distance = _distance_bound(certificate, rows, labels)
    wall_s = time.perf_counter() - started
    return MaxMargin(certificate, distance, title, candidate.iterations, wall_s, data, labels)


def _sealed(X: NDArray[Any], y: Floats, rows: Rows, candidate: Candidate, norm: Norm) -> Certificate:
    """Certify the pair, with w scaled to smallest margin 1 where it separates."""
    smallest = smallest_margin(rows, y, candidate.w)
    w = candidate.w / smallest if smallest > 0.0 else candidate.w
    return seal(X, y, rows, w, candidate.dual, norm)


def _stated(X: NDArray[Any], y: Floats, rows: Rows, norm: Norm, solver: str) -> Candidate:
    """Solve the CVXPY statement; anything but "optimal" raises, with what the vectors prove all the same."""
    w, dual, status, iterations = solve_statement(statement(X, y, norm), solver)
    if status in ("infeasible", "infeasible_inaccurate"):
        raise not_separable(X, y, rows, norm, math.inf)
    if w is None or dual is None or not (np.isfinite(w).all() and np.isfinite(dual).all()) or dual.max() <= 0.0:
        raise SolverError(f"{solver} ended with status {status!r} and no solution")
    dual = np.maximum(dual, 0.0)
    if status != "optimal":
        proved = seal(X, y, rows, w, dual, norm)
        raise SolverError(
            f"{solver} ended with status {status!r}; its vectors prove {proved.lower} <= margin <= {proved.upper}"
        )
    return Candidate(w, dual, iterations)


def _distance_bound(certificate: Certificate, rows: Rows, y: Floats) -> float | None:
    """Bound ||w - w*||_2, rounded outward; None for other norms than 2.

    With m the smallest margin, w/m is feasible and has 1/2 ||w/m||^2 <= 1/(2 lower^2); the optimum has at least
    1/(2 upper^2). By strong convexity ||w/m - w*||^2 <= 1/lower^2 - 1/upper^2. From w/m to w it is |m - 1| ||w/m||.
    """
    if certificate.norm != 2:
        return None
    smallest = smallest_margin(rows, y, certificate.w)
    ratio = down(certificate.lower / certificate.upper)
    relative = up(up(np.sqrt(up(up(1.0 - ratio) * up(1.0 + ratio)))) + up(abs(smallest - 1.0)))  # in units of ||w/m||
    return float(up(relative * up(1.0 / certificate.lower)))
