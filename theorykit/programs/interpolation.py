"""Interpolation of least norm, in every norm, solved fast and certified."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.linear import RightInverse, right_inverse
from theorykit._numerics.rounding import (
    Floats,
    Rows,
    column_products,
    down,
    norm_upper,
    row_products,
    scale_rows,
    shift,
    shift_down,
    up,
)
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import matrix, vector
from theorykit.datasets import Dataset
from theorykit.programs._fast import method, solve
from theorykit.programs._norms import Kind, Norm, checked_norm
from theorykit.programs._pair import Judged, Uniqueness
from theorykit.programs._redundancy import check_redundancy, exact_relation, independent_rows, lower_bound
from theorykit.programs._scaled import Candidate, featured, unscaled
from theorykit.programs._sealed import CertificateError, check_interval, digest, hash_rows, read, write
from theorykit.programs._statement import (
    SolverError,
    checked_solver,
    equations_statement,
    solve_statement,
    solver_version,
)
from theorykit.programs._uniqueness import of_equations


@dataclass(frozen=True, eq=False)
class NormCertificate:
    """Proved bounds ``lower <= min ||w|| over X w = y <= upper``, with the vectors that prove them.

    Attributes
    ----------
    norm : {1, 2, inf, "group"}
    lower, upper : float
        Rounded outward. ``lower`` is ``<y, dual> / ||X^T dual||_*``. ``upper`` is ||w|| plus a proved bound on the norm
        of what has to be added to w to satisfy the equations exactly; inf where none was proved.
    w : ndarray, shape (d,)
        Proves ``upper``.
    dual : ndarray, shape (n,)
        Proves ``lower``.
    independent : ndarray of int, shape (r,)
        Equations that are proved linearly independent; all others are proved to follow from them, exactly.
    data_hash : str
        SHA-256 of X and y, the same for int8 and float64 copies.
    digest : str
        SHA-256 of everything else: an edited certificate does not verify.
    groups : ndarray of int, shape (d,), or None
        The group of each feature, 0 .. number of groups - 1, for norm "group".
    """

    norm: Kind
    lower: float
    upper: float
    w: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    independent: NDArray[np.int64] = field(repr=False)
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)
    groups: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def gap(self) -> float:
        """The relative width of the interval, (upper - lower) / lower; 0 for [0, 0], inf where nothing was proved."""
        if self.lower > 0.0:
            return (self.upper - self.lower) / self.lower
        return 0.0 if self.upper == 0.0 else math.inf

    def verify(self, X: ArrayLike, y: ArrayLike) -> bool:
        """Recompute both bounds from the stored vectors and the data.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,)

        Returns
        -------
        bool
            True.

        Raises
        ------
        CertificateError
            The data, a vector or a bound is not what was certified, however little it differs; or the claimed interval
            does not contain the recomputed one.

        Examples
        --------
        >>> certify_norm([[3.0, 4.0]], [5.0], [0.6, 0.8], [1.0], norm=2).verify([[3.0, 4.0]], [5.0])
        True
        """
        data = matrix("X", X)
        targets = vector("y", y, length=len(data))
        if _hash(data, targets) != self.data_hash:
            raise CertificateError("the data (X, y) are not the ones this certificate was made for")
        if not _intact(self):
            raise CertificateError("a stored vector or bound was changed after the certificate was made")
        norm, rows = Norm(self.norm, self.groups), scale_rows(data)
        if not _follow(data, targets, rows, self.independent):
            raise CertificateError("the equations left out do not follow from the others")
        check_interval(self.lower, self.upper, *_bounds(rows, targets, self.w, self.dual, self.independent, norm))
        return True


def certify_norm(
    X: ArrayLike,
    y: ArrayLike,
    w: ArrayLike,
    dual: ArrayLike,
    *,
    norm: Kind | Literal["inf"] = 2,
    groups: ArrayLike | None = None,
) -> NormCertificate:
    """Make the certificate of any primal-dual pair for: least ||w|| subject to X w = y, whoever found it.

    Parameters
    ----------
    X : array_like, shape (n, d)
    y : array_like, shape (n,)
        Real numbers.
    w : array_like, shape (d,)
        Satisfies the equations, approximately.
    dual : array_like, shape (n,)
        Any vector; only its direction matters.
    norm : {2, 1, inf, "inf", "group"}
    groups : array_like of int, shape (d,), optional
        The group of each feature, for norm "group": the sum over groups of the Euclidean norms.

    Returns
    -------
    NormCertificate

    Raises
    ------
    InputError
        Shapes, non-finite entries.
    InconsistentError
        No w satisfies the equations; or equations depend on others up to round-off, but not exactly.

    Examples
    --------
    >>> certificate = certify_norm([[3.0, 4.0]], [5.0], [0.6, 0.8], [1.0], norm=2)
    >>> certificate.lower <= 1.0 <= certificate.upper, certificate.gap < 1e-14
    (True, True)
    """
    data = matrix("X", X)
    targets = vector("y", y, length=len(data))
    weights = vector("w", w)
    if len(weights) != data.shape[1]:
        raise InputError("w", f"{len(weights)} entries", f"{data.shape[1]}, one for each feature")
    multipliers = vector("dual", dual, length=len(data))
    kind, rows = checked_norm(norm, groups, data.shape[1]), scale_rows(data)
    independent = _independent(data, targets, rows, kind)
    return _seal(data, targets, rows, weights, multipliers, independent, kind)


def _seal(
    X: NDArray[Any], y: Floats, rows: Rows, w: Floats, dual: Floats, independent: NDArray[np.intp], norm: Norm
) -> NormCertificate:
    """Make a certificate from checked arrays."""
    kept = independent.astype(np.int64)
    lower, upper = _bounds(rows, y, w, dual, kept, norm)
    parts = norm.kind, lower, upper, w, dual, kept, _hash(X, y)
    return NormCertificate(*parts, _digest(*parts, norm.groups), norm.groups)


def _digest(
    norm: Kind,
    lower: float,
    upper: float,
    w: Floats,
    dual: Floats,
    independent: NDArray[np.int64],
    data_hash: str,
    groups: NDArray[np.int64] | None,
) -> str:
    fields = {"norm": norm, "lower": lower, "upper": upper, "w": w, "dual": dual, "groups": groups}
    return digest("least norm", independent=independent, data_hash=data_hash, **fields)


def _intact(certificate: NormCertificate) -> bool:
    c = certificate
    parts = c.norm, c.lower, c.upper, c.w, c.dual, c.independent, c.data_hash, c.groups
    return _digest(*parts) == c.digest


def _hash(X: NDArray[Any], y: Floats) -> str:
    return digest("equations", X=hash_rows(X), y=y + 0.0)


def _independent(X: NDArray[Any], y: Floats, rows: Rows, norm: Norm) -> NDArray[np.intp]:
    """Return equations from which all others follow, exactly; raise where they do not."""
    with one_blas_thread():
        kept, needed = independent_rows(rows)
    check_redundancy(X, y, rows, needed, norm)
    return kept


def _follow(X: NDArray[Any], y: Floats, rows: Rows, independent: NDArray[np.int64]) -> bool:
    """Whether all other equations follow, exactly, from the independent ones."""
    if len(independent) == len(X):
        return True
    with one_blas_thread():
        kept, needed = independent_rows(rows)
    if not np.array_equal(kept, independent):  # numbered otherwise on another machine: each against all
        needed = {int(i): independent.astype(np.intp) for i in np.setdiff1d(np.arange(len(X)), independent)}
    extended = np.column_stack((X.astype(np.float64), y))
    return all(exact_relation(extended, row, others) is not None for row, others in needed.items())


def _bounds(
    rows: Rows, y: Floats, w: Floats, dual: Floats, independent: NDArray[np.int64], norm: Norm
) -> tuple[float, float]:
    """Return lower and upper bounds on the least norm, rounded outward."""
    if not y.any():
        return 0.0, 0.0 if not w.any() else norm.upper(np.abs(w))
    return lower_bound(y, rows, dual, norm), _upper_bound(rows, y, w, independent, norm)


def _upper_bound(rows: Rows, y: Floats, w: Floats, independent: NDArray[np.int64], norm: Norm) -> float:
    correction = _correction(rows, y, w, independent)
    if correction is None:
        return math.inf
    total = norm.upper(np.abs(w)) + norm.upper(correction)
    return float(up(total)) if math.isfinite(total) else math.inf


def _correction(rows: Rows, y: Floats, w: Floats, independent: NDArray[np.int64]) -> Floats | None:
    """Bound the entries of some delta with X (w + delta) = y; None where nothing is proved."""
    held = Rows(rows.values[independent], rows.exponents[independent])
    inverse = _inverse(held)
    if inverse is None:
        return None
    lower, upper = row_products(held, w)
    misses = np.maximum(up(y[independent] - lower), up(upper - y[independent]))
    residual = float(np.max(-shift_down(-misses, -held.exponents)))  # in units of the scaled rows
    delta = np.zeros(len(w))
    delta[inverse.columns] = inverse.correction(max(residual, 0.0))
    return delta if np.isfinite(delta).all() else None


def _inverse(held: Rows) -> RightInverse | None:
    with one_blas_thread():
        return right_inverse(held.values)


@dataclass(frozen=True, eq=False)
class MinNorm(Judged):
    """An interpolant of least norm with its proof.

    Attributes
    ----------
    w : ndarray, shape (d,)
        The solution: X w = y to round-off.
    value : float
        Proved upper bound on the least norm, and ||w|| to round-off; within `certificate.gap` of the least.
    dual : ndarray, shape (n,)
        Multipliers nu, scaled so that ``||X^T nu||_* = 1`` (to round-off): the least norm is <y, nu>.
    certificate : NormCertificate
        Proved bounds on the least norm.
    distance_bound : float or None
        Norm 2: proved bound on ||w - w*||_2, with w* the exact solution. None for the other norms, whose solution need
        not be unique.
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

    certificate: NormCertificate
    distance_bound: float | None
    solver: str
    iterations: int
    wall_s: float
    X: NDArray[Any] = field(repr=False)
    y: Floats = field(repr=False)

    @property
    def norm(self) -> Kind:
        """The norm that is least."""
        return self.certificate.norm

    @property
    def w(self) -> Floats:
        """The solution, shape (d,)."""
        return self.certificate.w

    @property
    def dual(self) -> Floats:
        """The multipliers, shape (n,)."""
        return self.certificate.dual

    @property
    def value(self) -> float:
        """The norm that the solution is proved to have at most."""
        return self.certificate.upper

    @cached_property
    def _uniqueness(self) -> Uniqueness:
        norm = Norm(self.norm, self.certificate.groups)
        return of_equations(self.X, self.y, self.w, self.dual, self.certificate.independent, norm)

    def as_cvxpy(self) -> Any:
        """Return the program as a `cvxpy.Problem` in one variable w.

        Examples
        --------
        >>> problem = min_norm([[2.0]], [1.0]).as_cvxpy()
        >>> problem.is_dcp(), problem.variables()[0].shape
        (True, (1,))
        """
        return equations_statement(self.X, self.y, Norm(self.norm, self.certificate.groups))

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
        arrays = {"X": self.X, "y": self.y, "w": c.w, "dual": c.dual, "independent": c.independent}
        write(path, _FORMAT, head, arrays if c.groups is None else arrays | {"groups": c.groups})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MinNorm:
        """Read what `save` wrote, and check that it is whole and unchanged (`certificate.verify` checks the proof too).

        Parameters
        ----------
        path : path-like

        Returns
        -------
        MinNorm

        Raises
        ------
        InputError
            No such file, or not one that `save` wrote, or changed since.
        """
        return read(path, _FORMAT, "MinNorm.save", cls._rebuilt)

    @classmethod
    def _rebuilt(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> MinNorm:
        X, y, w, dual, independent = (arrays[name] for name in ("X", "y", "w", "dual", "independent"))
        parts = head["norm"], head["lower"], head["upper"], w, dual, independent, head["data_hash"], head["digest"]
        certificate = NormCertificate(*parts, arrays.get("groups"))
        if not _intact(certificate) or _hash(X, y) != certificate.data_hash:
            raise ValueError("its contents were changed")
        distance = _distance_bound(certificate, scale_rows(X), y)
        return cls(certificate, distance, head["solver"], head["iterations"], head["wall_s"], X, y)


_FORMAT = "theorykit min-norm 1"
_POOR_GAP = 1e-3


def min_norm(
    X: ArrayLike | Dataset,
    y: ArrayLike | None = None,
    *,
    norm: Kind | Literal["inf"] = 2,
    groups: ArrayLike | None = None,
    model: Any = None,
    init: str | ArrayLike = "theory",
    solver: str | None = None,
) -> MinNorm:
    """Return the linear interpolant of least norm, min ||w|| subject to X w = y, with a proof of how good it is.

    For p = 2 it is program K2 of the kernel regime (Lyu et al., ICLR 2024, arXiv:2311.18817), for p = 1 what R2 of the
    diagonal net of degree 2 comes to, up to a factor in the value.

    Parameters
    ----------
    X : array_like, shape (n, d), or Dataset
        int8 stays int8; anything else becomes float64. Rows that follow from others, exactly, are fine.
    y : array_like, shape (n,)
        Real numbers. Left out with a data set, which has its own.
    norm : {2, 1, inf, "inf", "group"}
        "group" is the sum over groups of the Euclidean norms.
    groups : array_like of int, shape (d,), optional
        The group of each feature, any integers, for norm "group".
    model : HomogeneousModel, optional
        With it, X are its inputs and the program is that of its NTK features at `init`, (n, P) and formed as such;
        `kernel_svm` and `kernel_interpolant` need only their Gram matrix.
    init : str or array_like
        The direction at which the features are taken.
    solver : str, optional
        An installed CVXPY solver ("CLARABEL", "HIGHS", ...), to solve the program as CVXPY states it. Default: linear
        equations (norm 2), HiGHS on a working set of features (norm 1) or on all of them (inf), Clarabel on a working
        set of groups and Newton's method (group).

    Returns
    -------
    MinNorm

    Raises
    ------
    InputError
        NaN or infinite entries, lengths that differ, no samples, an unknown norm, groups that are missing or misshapen,
        a solver that is not installed.
    InconsistentError
        No w satisfies the equations: with an exact proof. Or an equation depends on others up to round-off but not
        exactly: then it says "undecided", with a proved lower bound on the norm of any solution.
    SolverError
        The CVXPY solver did not end with the status "optimal"; or our own method proved no better than a gap of 1e-3.

    Examples
    --------
    >>> result = min_norm([[3.0, 4.0]], [1.0], norm=1)
    >>> result.w
    array([0.  , 0.25])
    >>> result.certificate.gap < 1e-14
    True
    """
    started = time.perf_counter()
    points, given = featured(X, y, model, init)
    data = matrix("X", points)
    targets = vector("y", given, length=len(data))
    kind = checked_norm(norm, groups, data.shape[1])
    name = None if solver is None else checked_solver(solver)
    rows = scale_rows(data)
    independent = _independent(data, targets, rows, kind)
    if not targets.any():
        found, title = Candidate(np.zeros(data.shape[1]), np.zeros(len(data)), 0), method(kind)
    elif name is None:
        found, title = _solved(rows, targets, independent, kind), method(kind)
    else:
        found, title = _stated(data, targets, rows, independent, kind, name), solver_version(name)
    certificate = _seal(data, targets, rows, found.w, _normalised(rows, targets, found.dual, kind), independent, kind)
    if name is None and certificate.gap > _POOR_GAP:
        proved = f"{certificate.lower} <= norm <= {certificate.upper}"
        raise SolverError(f"too ill-conditioned to solve: proved is {proved}")
    distance = _distance_bound(certificate, rows, targets)
    return MinNorm(certificate, distance, title, found.iterations, time.perf_counter() - started, data, targets)


def _solved(rows: Rows, y: Floats, independent: NDArray[np.intp], norm: Norm) -> Candidate:
    """Solve for the independent equations, scaled; the multipliers of the others are 0."""
    held = Rows(rows.values[independent], rows.exponents[independent])
    wanted = y[independent]
    relative = np.frexp(wanted)[1] - held.exponents
    largest = int(relative[wanted != 0.0].max())
    c = np.asarray(shift(wanted, -held.exponents - largest))
    with one_blas_thread():
        found = solve(held, np.ones(len(c)), c, norm, equations=True)
    dual = np.zeros(len(y))
    dual[independent] = unscaled(found, held).dual
    return Candidate(shift(found.w, largest), dual, found.iterations)


def _normalised(rows: Rows, y: Floats, dual: Floats, norm: Norm) -> Floats:
    """Scale the multipliers to dual norm 1 and to <y, dual> >= 0."""
    dual = dual / (np.abs(dual).max() or 1.0)
    lower, upper = column_products(rows, dual)
    size = norm.dual_upper(np.maximum(-lower, upper))
    paired = y / (np.abs(y).max() or 1.0) @ dual
    return dual / size * (1.0 if paired >= 0.0 else -1.0) if 0.0 < size < np.inf else dual


def _stated(
    X: NDArray[Any], y: Floats, rows: Rows, independent: NDArray[np.intp], norm: Norm, solver: str
) -> Candidate:
    """Solve the CVXPY statement; anything but "optimal" raises, with what the vectors prove all the same."""
    w, dual, status, iterations = solve_statement(equations_statement(X, y, norm), solver)
    if w is None or dual is None or not (np.isfinite(w).all() and np.isfinite(dual).all()):
        raise SolverError(f"{solver} ended with status {status!r} and no solution")
    if status != "optimal":
        proved = _seal(X, y, rows, w, _normalised(rows, y, dual, norm), independent, norm)
        raise SolverError(
            f"{solver} ended with status {status!r}; its vectors prove {proved.lower} <= norm <= {proved.upper}"
        )
    return Candidate(w, dual, iterations)


def _distance_bound(certificate: NormCertificate, rows: Rows, y: Floats) -> float | None:
    """Bound ||w - w*||_2, rounded outward; None for other norms than 2.

    With P the projection onto the span of the rows, w* - P w is the shortest solution of X z = y - X w, no longer than
    the correction; and ||w - P w|| <= ||w - X^T nu|| for any nu.
    """
    if certificate.norm != 2:
        return None
    w = certificate.w
    with np.errstate(over="ignore"):
        nu = certificate.dual * certificate.upper
    if not y.any():
        return norm_upper(np.abs(w), 2)
    correction = _correction(rows, y, w, certificate.independent)
    if correction is None or not np.isfinite(nu).all():
        return math.inf
    lower, upper = column_products(rows, nu)
    off = np.maximum(np.abs(down(w - upper)), np.abs(up(w - lower)))
    return float(up(norm_upper(off, 2) + norm_upper(correction, 2)))
