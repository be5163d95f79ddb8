"""Completion of matrices by the smallest nuclear norm, and regularised least squares with it, with certificates.

Lower bounds come from a dual vector s: if S = sum_k s_k A_k has ``||S||_op <= 1``, then ``||W||_* >= <S, W>``. Upper
bounds come from a matrix that has the observed values exactly, and a proved bound on its singular values.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.rounding import Floats, down, norm_upper, up
from theorykit._numerics.spectral import nuclear_norm_upper
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, flag, numeric
from theorykit._version import __version__
from theorykit.programs._nuclear_data import Observed, check_squares, checked_observations
from theorykit.programs._nuclear_distance import distance_bound
from theorykit.programs._nuclear_form import cvxpy_solution, solution, statement
from theorykit.programs._nuclear_unique import numerical_rank, on_grid, uniqueness
from theorykit.programs._pair import Judged, Uniqueness
from theorykit.programs._sealed import CertificateError, digest, read, write
from theorykit.programs._statement import SolverError, checked_solver, solver_version

_SLACK = 1e-9
_POOR_GAP = 1e-3
_SMALLEST_VALUE = 2.0**-1022  # of an optimum that still has its digits
_METHOD = f"theorykit {__version__} (interior points, semismooth Newton proximal points)"


@dataclass(frozen=True, eq=False)
class NuclearCertificate:
    """Proved bounds on the optimum of a nuclear-norm program, with the matrix and the dual vector that prove them.

    Attributes
    ----------
    lower, upper : float
        Rounded outward: proofs, not estimates. In units of the objective: the nuclear norm, or for the regularised
        program ``(1/n) sum_k (W_k - y_k)^2 + (weight_decay / 2) ||W||_*``.
    W : ndarray, shape (p, q)
        Proves `upper`. Without weight decay it has the observed entries exactly (measurements: within a residual that
        the bound allows for).
    dual : ndarray, shape (m,)
        One multiplier for each distinct observation; proves `lower`.
    weight_decay : float or None
        None for the program with constraints.
    symmetric : bool
        Over symmetric matrices only.
    data_hash : str
        SHA-256 of the observations.
    digest : str
        SHA-256 of all of the above: an edited certificate does not verify.
    """

    lower: float
    upper: float
    W: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    weight_decay: float | None
    symmetric: bool
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)

    @property
    def gap(self) -> float:
        """The relative width of the interval, (upper - lower) / upper; 0 where the optimum is 0."""
        return (self.upper - self.lower) / self.upper if 0.0 < self.upper < math.inf else self.upper

    def verify(self, observed: ArrayLike, values: ArrayLike) -> bool:
        """Recompute both bounds from the stored matrix and dual vector and the observations.

        Parameters
        ----------
        observed : array_like, shape (m, 2) or (m, p, q)
        values : array_like, shape (m,)

        Returns
        -------
        bool
            True.

        Raises
        ------
        CertificateError
            The observations, a stored array or a bound is not what was certified, however little it differs; or the
            claimed interval does not contain the recomputed one.

        Examples
        --------
        >>> min_nuclear_norm([[0, 0]], [2.0], shape=2).certificate.verify([[0, 0]], [2.0])
        True
        """
        data = checked_observations(observed, values, self.W.shape, self.symmetric)
        if data.data_hash() != self.data_hash:
            raise CertificateError("the observations are not the ones this certificate was made for")
        if _digest(self) != self.digest:
            raise CertificateError("a stored array or bound was changed after the certificate was made")
        lower, upper = bounds(data, self.W, self.dual, self.weight_decay)
        slack = _SLACK * upper
        if not (lower - slack <= self.lower <= lower and upper <= self.upper <= upper + slack):
            claimed, found = f"[{self.lower!r}, {self.upper!r}]", f"[{lower!r}, {upper!r}]"
            raise CertificateError(f"the claimed interval {claimed} is not the one that the arrays prove, {found}")
        return True


def bounds(data: Observed, W: Floats, dual: Floats, weight_decay: float | None) -> tuple[float, float]:
    """Return lower and upper bounds on the optimum, rounded outward; 0 and inf where the arrays prove nothing."""
    if weight_decay is None:
        return _constrained_lower(data, dual), data.feasible_norm_upper(W)
    return _regularised_lower(data, dual, weight_decay), objective_upper(data, W, weight_decay)


def _constrained_lower(data: Observed, dual: Floats) -> float:
    """Return <s, b> / max(1, ||S||_op), the value of the dual vector scaled into the unit ball."""
    value = data.pairing_lower(dual)
    return max(0.0, float(down(value / max(1.0, data.adjoint_norm_upper(dual))))) if value > 0.0 else 0.0


def _regularised_lower(data: Observed, dual: Floats, weight_decay: float) -> float:
    """Return f <t, y> - f^2 (n/4) sum_k t_k^2 / c_k, with f t scaled into the ball ||sum_k f t_k A_k||_op <= lambda/2.

    For every W, (lambda/2) ||W||_* >= sum_k f t_k W_k, and each (c_k/n) (w - y_k)^2 + f t_k w is at least
    f t_k y_k - f^2 (n / (4 c_k)) t_k^2.
    """
    value, norm = data.pairing_lower(dual), data.adjoint_norm_upper(dual)
    half = 0.5 * weight_decay
    factor = 1.0 if norm <= half else float(down(half / norm))
    n = float(data.counts.sum())
    square = up(norm_upper(np.abs(up(np.abs(dual) / down(np.sqrt(data.counts)))), 2))
    bend = up(up(up(factor * square) ** 2) * (0.25 * n))
    return max(0.0, float(down(down(factor * value) - bend)))


def objective_upper(data: Observed, W: Floats, weight_decay: float) -> float:
    """Bound (1/n) sum_k c_k (W_k - y_k)^2 + (weight_decay / 2) ||W||_* from above."""
    if data.symmetric and not (W == W.T).all():
        return math.inf
    if not W.any() and not data.values.any():
        return 0.0
    residual = up(np.abs(data.of(W) - data.values))
    misfit = up(up(math.fsum(up(up(residual * residual) * data.counts))) / float(data.counts.sum()))
    return float(up(misfit + up(0.5 * weight_decay * nuclear_norm_upper(W))))


def certify_nuclear(data: Observed, W: Floats, dual: Floats, weight_decay: float | None) -> NuclearCertificate:
    """Make the certificate of any primal-dual pair, whoever found it."""
    lower, upper = bounds(data, W, dual, weight_decay)
    unsigned = NuclearCertificate(lower, upper, W, dual, weight_decay, data.symmetric, data.data_hash(), "")
    return NuclearCertificate(**{**unsigned.__dict__, "digest": _digest(unsigned)})


def _digest(c: NuclearCertificate) -> str:
    return digest("nuclear norm", **{name: value for name, value in c.__dict__.items() if name != "digest"})


@dataclass(frozen=True, eq=False)
class MinNuclearNorm(Judged):
    """A matrix of least nuclear norm (or least regularised objective) with its proof.

    Attributes
    ----------
    W : ndarray, shape (p, q)
    value : float
        The proved upper bound of the objective at W; within `certificate.gap` of the optimum.
    dual : ndarray, shape (m,)
        Multipliers of the distinct observations (entries in row-major order), ``||S||_op <= 1`` up to round-off
        (regularised: weight_decay / 2).
    S : ndarray, shape (p, q)
        The dual matrix sum_k dual_k A_k.
    M : ndarray, shape (p, q)
        Regularised and symmetric: (4/n) sum_k (W_k - y_k) P_k of theorem F.3 of Lyu et al. (2024), which is -2 S at
        the optimum and has operator norm at most weight_decay.
    certificate : NuclearCertificate
    rank : int
        Singular values of W above 1e-8 of the largest.
    uniqueness : {"proved", "disproved", "unknown"}
        Whether W is the only optimum.
    uniqueness_reason : str
        Why, in words.
    alternative : ndarray, shape (p, q), or None
        Where uniqueness is disproved, another optimum.
    distance_bound : float or None
        Proved bound on ||W - W*||_F for every optimum W*, where the observations determine the face of the dual optimum
        (0 where W itself is proved optimal); else None. About the root of the gap. Found out when first asked for.
    fit_bound : float or None
        Regularised: proved bound on the root mean square, over the observations, of W - W* for any optimum W*, the
        fitted values being the same for all of them. None with constraints.
    solver : str
    iterations : int
        Interior-point steps and eigendecompositions, or iterations of the CVXPY solver.
    wall_s : float
        Seconds, certificate included.
    """

    certificate: NuclearCertificate
    solver: str
    iterations: int
    wall_s: float
    observed: Observed = field(repr=False)

    @cached_property
    def _uniqueness(self) -> Uniqueness:
        with one_blas_thread():
            return uniqueness(self.observed, self.certificate)

    @cached_property
    def distance_bound(self) -> float | None:
        """The bound on ||W - W*||_F."""
        with one_blas_thread():
            return distance_bound(self.observed, self.certificate)

    @property
    def W(self) -> Floats:  # noqa: N802
        """The matrix, shape (p, q)."""
        return self.certificate.W

    @property
    def value(self) -> float:
        """The proved upper bound of the objective."""
        return self.certificate.upper

    @property
    def dual(self) -> Floats:
        """The multipliers, shape (m,)."""
        return self.certificate.dual

    @property
    def S(self) -> Floats:  # noqa: N802
        """The dual matrix, shape (p, q)."""
        return self.observed.adjoint(self.dual)

    @property
    def M(self) -> Floats:  # noqa: N802
        """The residual matrix of theorem F.3, shape (d, d)."""
        data = self.observed
        if not data.symmetric or self.certificate.weight_decay is None:
            raise InputError("M", "a program that is not regularised and symmetric", "the program of theorem F.3")
        return residual_matrix(data, self.W)

    @property
    def rank(self) -> int:
        """The numerical rank."""
        return numerical_rank(self.W)

    @property
    def fit_bound(self) -> float | None:
        """The bound on the fitted values: the misfit is strongly convex in them."""
        c = self.certificate
        return None if c.weight_decay is None else float(up(np.sqrt(up(c.upper - c.lower))))

    def as_cvxpy(self) -> Any:
        """Return the program as a `cvxpy.Problem` in one variable W.

        Examples
        --------
        >>> problem = min_nuclear_norm([[0, 0]], [2.0], shape=(2, 3)).as_cvxpy()
        >>> problem.is_dcp(), problem.variables()[0].shape
        (True, (2, 3))
        """
        return statement(self.observed, self.certificate.weight_decay)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result and its observations to one ``.npz`` file, whole or not at all.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        InputError
            The file cannot be written.
        """
        c, data = self.certificate, self.observed
        head = {name: getattr(c, name) for name in _BOUNDS} | {name: getattr(self, name) for name in _NUMBERS}
        where = data.index if data.matrices is None else data.matrices
        arrays = {"W": self.W, "dual": self.dual, "values": data.values, "counts": data.counts}
        write(path, _FORMAT, head, arrays | {"where": np.asarray(where)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MinNuclearNorm:
        """Read what `save` wrote, check that it is whole and unchanged, and judge uniqueness again.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        MinNuclearNorm

        Raises
        ------
        InputError
            No such file, or not one that `save` wrote, or changed since.
        """
        return read(path, _FORMAT, "MinNuclearNorm.save", cls._rebuilt)

    @classmethod
    def _rebuilt(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> MinNuclearNorm:
        W, dual, where, values, counts = (arrays[name] for name in ("W", "dual", "where", "values", "counts"))
        places = (where, None) if where.ndim == 2 else (None, where)
        data = Observed((W.shape[0], W.shape[1]), head["symmetric"], values, counts, *places)
        c = NuclearCertificate(W=W, dual=dual, **{name: head[name] for name in _BOUNDS})
        if _digest(c) != c.digest or data.data_hash() != c.data_hash:
            raise ValueError("its contents were changed")
        return cls(c, observed=data, **{name: head[name] for name in _NUMBERS})


_FORMAT = "theorykit nuclear norm 2"
_BOUNDS = ("lower", "upper", "weight_decay", "symmetric", "data_hash", "digest")
_NUMBERS = ("solver", "iterations", "wall_s")


def residual_matrix(data: Observed, W: Floats) -> Floats:
    """Return M = (4/n) sum_k c_k (W_k - y_k) P_k, to round-off."""
    residual = data.counts * (data.of(W) - data.values)
    return data.adjoint(4.0 * residual / float(data.counts.sum()))


def min_nuclear_norm(
    observed: ArrayLike,
    values: ArrayLike,
    *,
    shape: int | tuple[int, int] | None = None,
    symmetric: bool = False,
    solver: str | None = None,
) -> MinNuclearNorm:
    """Return a matrix of least nuclear norm among those with the observed values, with a proof of how good it is.

    ``min ||W||_*`` (the sum of the singular values) subject to ``W[i_k, j_k] = b_k``, or ``<A_k, W> = b_k``. Over
    symmetric W this is what R2 of matrix factorisation comes to (Lyu et al., ICLR 2024, corollary 3.11).

    Parameters
    ----------
    observed : array_like
        Integers of shape (m, 2): the observed entries (i_k, j_k), from 0. Or floats of shape (m, p, q): the matrices
        A_k of general linear measurements (symmetric ones where `symmetric`).
    values : array_like, shape (m,)
    shape : int or (int, int)
        The size of W, needed with entries: d for d x d, or (p, q).
    symmetric : bool
        Over symmetric W only. Entries (i, j) and (j, i) are then one observation.
    solver : str, optional
        An installed CVXPY solver ("CLARABEL", "SCS", ...), to solve the program as CVXPY states it. Default: our own,
        interior points and then a semismooth Newton proximal point method.

    Returns
    -------
    MinNuclearNorm

    Raises
    ------
    InputError
        Shapes, non-finite values, indices outside, a solver that is not installed.
    InconsistentError
        Observations that contradict one another, with an exact proof: an `InputError` that names them.
    SolverError
        The solver did not end with the status "optimal"; or our own proved no better than a gap of 1e-3.

    Examples
    --------
    >>> known = min_nuclear_norm([[0, 0], [0, 1], [1, 0]], [4.0, 2.0, 2.0], shape=2)
    >>> bool(abs(known.W[1, 1] - 1.0) < 1e-7), known.rank, known.certificate.gap < 1e-9
    (True, 1, True)
    """
    data = checked_observations(observed, values, shape, flag("symmetric", symmetric))
    return _solved(data, None, solver)


def nuclear_regularised(
    observed: ArrayLike,
    values: ArrayLike,
    *,
    weight_decay: float,
    shape: int | tuple[int, int],
    symmetric: bool = False,
    solver: str | None = None,
) -> MinNuclearNorm:
    """Return the minimiser of the mean squared error plus ``weight_decay / 2`` times the nuclear norm, with a proof.

    ``min_W (1/n) sum_k (W[i_k, j_k] - y_k)^2 + (lambda/2) ||W||_*``: the value of matrix factorisation with weight
    decay lambda (Lyu et al., ICLR 2024, theorem F.3). The mean is over all n observations given: repeats keep their
    weight, and in the symmetric case (i, j) and (j, i), or the same entry twice, count as two.

    Parameters
    ----------
    observed : array_like of int, shape (n, 2)
    values : array_like, shape (n,)
    weight_decay : float
        lambda > 0.
    shape : int or (int, int)
        The size of W: d for d x d, or (p, q).
    symmetric : bool
        Over symmetric W only.
    solver : str, optional
        An installed CVXPY solver; see `min_nuclear_norm`.

    Returns
    -------
    MinNuclearNorm
        ``.fit_bound`` bounds the error of the fitted values, which are unique even where W is not.

    Raises
    ------
    InputError, SolverError
        As `min_nuclear_norm`.

    Examples
    --------
    >>> shrunk = nuclear_regularised([[0, 0]], [1.0], weight_decay=0.5, shape=1)  # min (w - 1)^2 + |w|/4
    >>> bool(abs(shrunk.W[0, 0] - 0.875) < 1e-7)
    True
    """
    if numeric("observed", observed).ndim == 3:
        raise InputError("observed", f"shape {np.shape(observed)}", "indices of entries, shape (n, 2)")
    data = checked_observations(observed, values, shape, flag("symmetric", symmetric))
    check_squares(data.values)
    decay, size = finite("weight_decay", weight_decay, above=0.0), float(np.abs(data.values).max()) or 1.0
    if decay * size < _SMALLEST_VALUE:
        raise InputError("weight_decay", f"{decay:g}", f"at least {_SMALLEST_VALUE / size:.3g} for values of this size")
    return _solved(data, decay, solver)


def _solved(data: Observed, weight_decay: float | None, solver: str | None) -> MinNuclearNorm:
    started = time.perf_counter()
    name = None if solver is None else checked_solver(solver)
    with one_blas_thread():
        found = solution(data, weight_decay) if name is None else cvxpy_solution(data, weight_decay, name)
        W = on_grid(data, found.W) if weight_decay is None else found.W
        certificate = certify_nuclear(data, W, found.dual, weight_decay)
        proved = f"{certificate.lower} <= optimum <= {certificate.upper}"
        if found.status != "optimal":
            raise SolverError(f"{name} ended with status {found.status!r}; its vectors prove {proved}")
        if name is None and certificate.gap > _POOR_GAP:
            raise SolverError(f"too ill-conditioned to solve: proved is {proved}")
    title = _METHOD if name is None else solver_version(name)
    return MinNuclearNorm(certificate, title, found.iterations, time.perf_counter() - started, data)
