"""Kernel interpolation and ridge regression: the program K2, by verified linear algebra on the Gram matrix."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from theorykit._numerics.errors import InconsistentError, InputError
from theorykit._numerics.rounding import (
    UNIT,
    Floats,
    Rows,
    column_products,
    down,
    norm_upper,
    row_products,
    scale_rows,
    shift,
    up,
)
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import finite, matrix, reals
from theorykit._version import __version__
from theorykit.datasets import Dataset
from theorykit.programs._gram import (
    checked_gram,
    product_bounds,
    quadratic_bounds,
    scaled_gram,
)
from theorykit.programs._inputs import KernelData, kernel_data
from theorykit.programs._l2 import signed_gram
from theorykit.programs._norms import Norm
from theorykit.programs._redundancy import check_redundancy, exact_relation, independent_rows
from theorykit.programs._sealed import CertificateError, digest, hash_rows, read, write
from theorykit.programs._semidefinite import proved_positive, smallest_eigenvalue, turned
from theorykit.programs._statement import (
    SolverError,
    checked_solver,
    interpolant_statement,
    solve_statement,
    solver_version,
)


class _Equations(NamedTuple):
    """The equations ``(K + shift) a = y`` with the powers of two taken out: K_ij = 2**(e_i + e_j) gram_ij."""

    gram: Floats  # (N, N)
    gram_error: float  # bound on the operator norm of what `gram` misses
    exponents: NDArray[np.int64]
    ridge: Floats  # (N,): n times the ridge, in the same units
    rows: Rows | None  # the features, where they are known
    perturbation: float

    @property
    def matrix(self) -> Floats:
        return self.gram + np.diag(self.ridge)

    def smallest(self) -> float:
        """Return a proved lower bound on the smallest eigenvalue; 0 where none above 0 was proved."""
        if not len(self.gram):  # no equations, nothing to lose
            return 1.0
        return max(0.0, float(down(smallest_eigenvalue(self.matrix) - self._matrix_error)))

    def is_at_least(self, smallest: float) -> bool:
        """Whether the smallest eigenvalue is proved to be that large; 0 claims nothing."""
        if not len(self.gram):
            return smallest <= 1.0
        S, wanted = self.matrix, float(up(smallest + self._matrix_error))
        return smallest == 0.0 or proved_positive(S, wanted) or turned(S).is_at_least(wanted)

    @property
    def _matrix_error(self) -> float:
        rounding = 2.0 * UNIT * float(np.abs(self.ridge + self.gram.diagonal()).max()) if self.ridge.any() else 0.0
        return float(up(self.gram_error + rounding))

    def subset(self, kept: NDArray[np.intp]) -> _Equations:
        rows = None if self.rows is None else Rows(self.rows.values[kept], self.rows.exponents[kept])
        parts = self.gram[np.ix_(kept, kept)], self.gram_error, self.exponents[kept], self.ridge[kept]
        return _Equations(*parts, rows, self.perturbation)

    def combine(self, a: Floats) -> Floats:
        """Return what distances and outputs are measured from: the features' sum (P, k), or the coefficients."""
        if self.rows is None:
            return a
        lower, upper = self._sums(a)
        return 0.5 * (lower + upper)

    def _sums(self, a: Floats) -> tuple[Floats, Floats]:
        assert self.rows is not None
        plain = Rows(self.rows.values, np.zeros_like(self.rows.exponents))
        columns = [column_products(plain, np.ascontiguousarray(column)) for column in a.T]
        lower, upper = (np.column_stack(part) for part in zip(*columns, strict=True))
        return lower, upper

    def outputs(self, g: Floats) -> tuple[Floats, Floats]:
        """Enclose the outputs of a predictor."""
        values = self.gram if self.rows is None else self.rows.values
        return product_bounds(values, g) if self.rows is None else _products(values, g)

    def residual(self, g: Floats, a: Floats, y: Floats) -> Floats:
        """Bound |y - (K + shift) a|, entry by entry, where g is what `combine` made of a."""
        lower, upper = self.outputs(g)
        ridge = self.ridge[:, None] * a
        slack = up(4.0 * UNIT * (np.abs(ridge) + np.abs(y)))
        missed = up(self.lengths()[:, None] * self.miss(g, a)) if self.rows is not None else 0.0
        return np.asarray(up(up(np.maximum(y - lower - ridge, upper + ridge - y) + slack) + missed))

    def lengths(self) -> Floats:
        return np.asarray(np.sqrt(up(self.gram.diagonal() + self.gram_error)) * (1.0 + 4.0 * UNIT))

    def miss(self, g: Floats, a: Floats) -> float:
        """Bound the distance of g from the exact combination with coefficients a."""
        if self.rows is not None:
            lower, upper = self._sums(a)
            return norm_upper(np.maximum(up(g - lower), up(upper - g)).ravel(), 2)
        difference = g - a
        if not difference.any():
            return 0.0
        square = max(0.0, quadratic_bounds(self.gram, difference)[1])
        spread = up(self.perturbation * up(norm_upper(np.abs(difference).ravel(), 2) ** 2))
        rounding = float(up(math.fsum((UNIT * np.abs(difference) * self.lengths()[:, None]).ravel())))
        return float(up(up(math.sqrt(up(square + spread))) + rounding))

    def size(self, g: Floats) -> float:
        """Return the norm of a predictor, to round-off (from above)."""
        if self.rows is not None:
            return norm_upper(np.abs(g).ravel(), 2)
        return math.sqrt(max(0.0, quadratic_bounds(self.gram, g)[1]))


def _products(values: NDArray[Any], g: Floats) -> tuple[Floats, Floats]:
    plain = Rows(values, np.zeros(len(values), dtype=np.int64))
    columns = [row_products(plain, np.ascontiguousarray(column)) for column in g.T]
    lower, upper = (np.column_stack(part) for part in zip(*columns, strict=True))
    return lower, upper


@dataclass(frozen=True, eq=False)
class InterpolantCertificate:
    """A proved bound on the distance of a predictor from the exact solution, with what proves it.

    Attributes
    ----------
    distance_bound : float
        Bound on ||h - h*||, rounded outward; inf where the condition number is beyond reach.
    ridge : float
    predictor : ndarray
        h, shape (P,) or (c, P), for features; its coefficients (n,) or (n, c) for a Gram matrix.
    dual : ndarray, shape (n,) or (n, c)
        Coefficients of a predictor close by that solves the equations to round-off.
    smallest : float
        Proved lower bound on the smallest eigenvalue of K + n ridge I, once each sample is scaled by a power of two to
        K_ii of about 1 (features: largest entry); 0 where none above 0 was proved.
    independent : ndarray of int
        Equations proved linearly independent; all others follow from them, exactly.
    about : {"features", "gram"}
    data_hash, digest : str
        SHA-256 of data and targets, and of everything else.
    """

    distance_bound: float
    ridge: float
    predictor: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    smallest: float = field(repr=False)
    independent: NDArray[np.int64] = field(repr=False)
    about: str
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)

    def verify(self, data: ArrayLike, y: ArrayLike) -> bool:
        """Recompute the bound from the stored vectors and the data (features or Gram matrix, whichever `about` says).

        Returns
        -------
        bool
            True.

        Raises
        ------
        CertificateError
            The data, a vector or the bound is not what was certified; or the recomputed bound is another.
        """
        given = matrix("data", data) if self.about == "features" else checked_gram("data", data)
        targets = _targets(y, given)
        if _hash(given, targets) != self.data_hash:
            raise CertificateError("the data are not the ones this certificate was made for")
        if not intact(self):
            raise CertificateError("a stored vector or bound was changed after the certificate was made")
        system = _equations(given, self.about, self.ridge)
        kept = self.independent.astype(np.intp)
        if len(kept) < len(system.gram) and not _all_follow(given, _columns(targets, given), kept):
            raise CertificateError("the equations left out do not follow from the others")
        if not system.subset(kept).is_at_least(self.smallest):
            raise CertificateError(f"the smallest eigenvalue is not proved to be {self.smallest!r}")
        found = _distance(system, self.predictor, self.dual, _columns(targets, given), kept, self.smallest)
        if not found <= self.distance_bound <= found * (1.0 + _SLACK):
            raise CertificateError(f"the distance bound is not {self.distance_bound!r} but {found!r}")
        return True


def intact(certificate: InterpolantCertificate) -> bool:
    """Whether the stored vectors and the bound are the ones the digest was made of."""
    c = certificate
    parts = c.distance_bound, c.ridge, c.predictor, c.dual, c.smallest, c.independent, c.about, c.data_hash
    return _digest(*parts) == c.digest


def _digest(
    bound: float,
    ridge: float,
    predictor: Floats,
    dual: Floats,
    smallest: float,
    kept: NDArray[np.int64],
    about: str,
    source: str,
) -> str:
    vectors = {"predictor": predictor, "dual": dual, "independent": kept}
    numbers = {"distance_bound": bound, "ridge": ridge, "smallest": smallest}
    return digest("interpolant", about=about, data_hash=source, **vectors, **numbers)


def _hash(given: NDArray[Any], targets: Floats) -> str:
    flat = given if given.ndim == 2 else given.reshape(given.shape[0] * given.shape[1], -1)
    return digest("targets", data=hash_rows(flat), shape=str(given.shape), targets=targets + 0.0)


@dataclass(frozen=True, eq=False)
class KernelInterpolant:
    """A kernel interpolant or ridge regressor h with its proof. Its output on x is ``f(x) = <phi(x), h>``.

    Attributes
    ----------
    coefficients : ndarray, shape (n,) or (n, c)
        ``h = sum_i coefficients_i phi_i``.
    w : ndarray, shape (P,) or (c, P), or None
        h itself, where features were given.
    norm : float
        ||h||; for several outputs the root of the sum of squares.
    residual : float
        Largest |f(x_i) - y_i| on the training data, absolute; not zero with a ridge.
    condition : float
        Proved upper bound on the condition number of the matrix that was solved for (K + n ridge I with its diagonal
        scaled to the same power of two); inf where none was proved.
    distance_bound : float
        Proved bound on ||h - h*||; inf where the condition number is beyond reach (about 1e15).
    uniqueness : {"proved"}
        The program is strictly convex in h.
    certificate : InterpolantCertificate
    solver : str
    wall_s : float
        Seconds, certificate included.
    """

    certificate: InterpolantCertificate
    norm: float
    residual: float
    condition: float
    solver: str
    wall_s: float
    data: KernelData = field(repr=False)
    targets: Floats = field(repr=False)

    @property
    def uniqueness(self) -> Literal["proved"]:
        """Whether h is the only solution."""
        return "proved"

    @property
    def distance_bound(self) -> float:
        """The proved bound on ||h - h*||."""
        return self.certificate.distance_bound

    @property
    def ridge(self) -> float:
        """The factor of ||h||^2."""
        return self.certificate.ridge

    @property
    def w(self) -> Floats | None:
        """The predictor h, where features were given."""
        return self.certificate.predictor if self.certificate.about == "features" else None

    @property
    def coefficients(self) -> Floats:
        """What the features of the samples have to be multiplied by."""
        return self.certificate.dual if self.certificate.about == "features" else self.certificate.predictor

    def predict(self, X: ArrayLike) -> Floats:
        """Return the outputs on new points, shape (m,) or (m, c).

        Parameters
        ----------
        X : array_like
            Features (m, P); inputs of the model; or, where a Gram matrix was given, the cross-Gram matrix (m, n) or
            (m, c, n, c), new points in rows.

        Examples
        --------
        >>> kernel_interpolant([[1.0, 1.0]], [4.0]).predict([[1.0, 0.0]])
        array([2.])
        """
        return self.data.predictions(X, self.w, self.coefficients)

    def as_cvxpy(self) -> Any:
        """Return the program as a `cvxpy.Problem`, in h (features) or in its coefficients (Gram matrix).

        Examples
        --------
        >>> kernel_interpolant([[1.0, 1.0]], [4.0]).as_cvxpy().is_dcp()
        True
        """
        return interpolant_statement(self.data.values, self.data.about, self.targets, self.ridge)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result and its data (no model) to one ``.npz`` file, whole or not at all.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        c = self.certificate
        head = {
            name: getattr(c, name) for name in ("distance_bound", "ridge", "smallest", "about", "data_hash", "digest")
        }
        head |= {name: getattr(self, name) for name in _NUMBERS} | {"sealed": _sealed_numbers(self)}
        arrays = {"values": self.data.values, "y": self.targets, "predictor": c.predictor, "dual": c.dual}
        arrays |= {"independent": c.independent}
        if self.data.X is not None and self.data.theta is not None:
            arrays |= {"X": self.data.X, "theta": self.data.theta}
        write(path, _FORMAT, head | {"outputs": self.data.outputs}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Any = None) -> KernelInterpolant:
        """Read what `save` wrote, and check that it is whole and unchanged (`certificate.verify` checks the proof too).

        Parameters
        ----------
        path : path-like
        model : HomogeneousModel, optional
            The model that the kernel came from: with it `predict` takes inputs, without it the cross-Gram matrix.

        Raises
        ------
        InputError
            No such file, or not one that `save` wrote, or changed since.
        """
        found: KernelInterpolant = read(path, _FORMAT, "KernelInterpolant.save", cls._rebuilt)
        if model is None:
            return found
        return replace(found, data=found.data.with_model(model))

    @classmethod
    def _rebuilt(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> KernelInterpolant:
        vectors = arrays["predictor"], arrays["dual"], head["smallest"], arrays["independent"]
        source = head["about"], head["data_hash"], head["digest"]
        certificate = InterpolantCertificate(head["distance_bound"], head["ridge"], *vectors, *source)
        values, y = arrays["values"], arrays["y"]
        data = KernelData(values, head["about"], y, head["outputs"], None, arrays.get("X"), arrays.get("theta"))
        result = cls(certificate, data=data, targets=y, **{name: head[name] for name in _NUMBERS})
        if not intact(certificate) or _hash(values, y) != certificate.data_hash:
            raise ValueError("its contents were changed")
        if _sealed_numbers(result) != head["sealed"]:
            raise ValueError("its numbers were changed")
        return result


_FORMAT = "theorykit kernel-interpolant 1"
_NUMBERS = ("norm", "residual", "condition", "solver", "wall_s")
_MAX_REFINEMENTS = 20
_MISSED = 1e-6
_HIGHEST, _FURTHEST = 500, 1020
"""Powers of two up to which numbers, and their squares, stay in the float range."""
_SLACK = 1e-9
"""How much wider than the recomputed bound (relatively) a claimed one may be: other machines, not other numbers."""


def _sealed_numbers(result: KernelInterpolant) -> str:
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    return digest("kernel interpolant", certificate=result.certificate.digest, **numbers)


def kernel_interpolant(
    X: ArrayLike | Dataset | None = None,
    y: ArrayLike | None = None,
    *,
    gram: ArrayLike | None = None,
    model: Any = None,
    init: str | ArrayLike = "theory",
    ridge: float = 0.0,
    solver: str | None = None,
) -> KernelInterpolant:
    """Return the interpolant of least norm, or the ridge regressor, with a proof of how near it is.

    Program K2 of the kernel regime (Lyu et al., ICLR 2024, arXiv:2311.18817, section 3): ``min 1/2 ||h||^2`` subject to
    ``<phi_i, h> = y_i``. With a ridge: ``min (1/n) sum_i (<phi_i, h> - y_i)^2 + ridge ||h||^2``, a mean over samples
    (for several outputs, the mean over samples of the sum over outputs).

    Parameters
    ----------
    X : array_like, shape (n, P), or Dataset
        Features phi_i in rows, or the inputs of `model`; of any size for which the coefficients are in the float range.
    y : array_like, shape (n,) or (n, c)
        Targets; several outputs share the features, unless the model or the Gram matrix has c outputs of its own.
    gram : array_like, shape (n, n) or (n, c, n, c), instead of X
        Inner products of the features, symmetric and positive semidefinite up to round-off. The matrix is the data.
    model : HomogeneousModel, optional
        The features are then those of its neural tangent kernel at `init`; its Gram matrix, as computed in doubles, is
        the data.
    init : str or array_like
        The model's direction theta_bar, not multiplied by alpha.
    ridge : float
        At least 0.
    solver : str, optional
        An installed CVXPY solver, to solve the program as CVXPY states it. Default: Cholesky factorisation and
        iterative refinement with residuals in doubled precision.

    Returns
    -------
    KernelInterpolant

    Raises
    ------
    InputError
        Shapes, non-finite entries, a Gram matrix that is not symmetric or not positive semidefinite, ridge < 0, a
        ridge or targets so far from the scale of the features that the coefficients leave the float range, a solver
        that is not installed.
    InconsistentError
        No ridge, and dependent features with targets that contradict them: with an exact proof nu, ``sum nu_i phi_i =
        0`` and ``sum nu_i y_i = 1`` (for a Gram matrix, ``sum nu_i K_i = 0``, which says the same), that
        `verify_inconsistency` checks. Without a proof ("undecided") where features, or the Gram matrix, are dependent
        up to round-off only and no h comes near the targets.
    SolverError
        The CVXPY solver did not end with the status "optimal".

    Notes
    -----
    With a the coefficients and r the residual of the linear equations, ``||h - h*||^2 <= ||r||^2 / lambda_min``, and
    the smallest eigenvalue of K + n ridge I is bounded from below by a Cholesky factorisation (Rump, BIT 46, 2006).

    Examples
    --------
    >>> found = kernel_interpolant([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]], [4.0, 6.0])
    >>> found.w, found.distance_bound < 1e-14
    (array([2., 2., 3.]), True)
    """
    started = time.perf_counter()
    data = kernel_data(X, y, gram, model, init)
    targets = _targets(data.y, data.values)
    weight = finite("ridge", ridge, minimum=0.0)
    name = None if solver is None else checked_solver(solver)
    system = _equations(data.values, data.about, weight)
    columns = _columns(targets, data.values)
    _refuse_scales(system, columns, weight, len(data.values))
    with one_blas_thread():
        kept, smallest = _independent(data, columns, system)
        dual = _solved(system, columns, kept)
    predictor = system.combine(shift(dual, system.exponents[:, None]))
    title = f"theorykit {__version__} (Cholesky factorisation, refined)"
    predictor = shift(predictor, -system.exponents[:, None]) if data.about == "gram" else predictor
    if name is not None:
        predictor, title = _stated(data, targets, weight, name, predictor.shape), solver_version(name)
    certificate = _sealed(data, targets, system, weight, _shaped(predictor, targets, data), dual, kept, smallest)
    norm, residual, condition = _numbers(system, predictor, columns, kept, smallest, data.about)
    if name is None and weight == 0.0 and residual > _MISSED * float(np.abs(targets).max()):
        raise _undecided(system, dual, columns)
    numbers = norm, residual, condition, title, time.perf_counter() - started
    return KernelInterpolant(certificate, *numbers, data, targets)


def _targets(y: Any, given: NDArray[Any]) -> Floats:
    """Return the targets, (n,) or (n, c), as many columns as a Gram matrix of several outputs has."""
    targets = reals("y", y).copy()
    n = len(given)
    wanted = (n, given.shape[1]) if given.ndim == 4 else (n, *targets.shape[1:2])
    if targets.shape != wanted or targets.size == 0:
        raise InputError("y", f"shape {targets.shape}", f"shape {wanted}, one row for each sample")
    if not np.isfinite(targets).all():
        raise InputError("y", "entries that are not finite", "finite numbers only")
    return targets


def _refuse_scales(system: _Equations, y: Floats, ridge: float, n: int) -> None:
    """Raise `InputError` where ridge, coefficients or their squares would leave the float range."""
    smallest, largest = int(system.exponents.min()), int(system.exponents.max())
    highest = _FURTHEST if system.rows is not None else _HIGHEST  # the norm squares features, or coefficients
    most = min(float(shift(1.0, highest + 2 * smallest)), float(np.finfo(np.float64).max)) / n
    if ridge > most:
        raise InputError("ridge", f"{ridge:g}", f"at most {most:.3g} for {n} samples of this size")
    if not y.any():
        return
    size = int((np.frexp(y)[1] - system.exponents[:, None])[y != 0.0].max())  # of coefficients, scales apart
    shrunk = max(0, int(np.frexp(n * ridge)[1]) - 2 * smallest)
    if size > highest or size - smallest > _FURTHEST or size - shrunk - max(largest, 0) < -_FURTHEST:
        got = f"targets of size {float(np.abs(y).max()):.3g} with features of sizes 2^{smallest} to 2^{largest}"
        raise InputError("y", got, "targets whose coefficients stay well within the float range")


def _columns(targets: Floats, given: NDArray[Any]) -> Floats:
    """Return the right-hand sides as columns: one for all outputs of a Gram matrix of its own for each, else c."""
    return targets.reshape(-1, 1) if given.ndim == 4 else targets.reshape(len(targets), -1)


def _equations(given: NDArray[Any], about: str, ridge: float) -> _Equations:
    n = len(given)
    if about == "features":
        rows = scale_rows(given)
        gram = signed_gram(rows, np.ones(n))
        exact = rows.values.dtype == np.int8
        terms = given.shape[1] + 4.0
        error = 0.0 if exact else float(2.0 * terms * UNIT * gram.trace() + n * 2.0**-900)
        return _Equations(gram, error, rows.exponents, _ridge(n, ridge, rows.exponents), rows, 0.0)
    found = scaled_gram("gram", given)
    return _Equations(found.values, 0.0, found.exponents, _ridge(n, ridge, found.exponents), None, found.perturbation)


def _ridge(n: int, ridge: float, exponents: NDArray[np.int64]) -> Floats:
    return np.asarray(shift(np.full(len(exponents), n * ridge), -2 * exponents))


def _independent(data: KernelData, y: Floats, system: _Equations) -> tuple[NDArray[np.intp], float]:
    """Return equations that all others follow from, exactly, and a bound on the smallest eigenvalue of their matrix.

    All of them where nothing is to be decided, or where it cannot be.
    """
    everyone, smallest = np.arange(len(system.gram)), system.smallest()
    if system.ridge.any() or smallest > 0.0:
        return everyone, smallest
    flat = data.values.reshape(len(everyone), -1)
    rows = system.rows if system.rows is not None else scale_rows(flat)
    kept, needed = independent_rows(rows)
    if data.about == "features":
        for column in y.T:
            check_redundancy(flat, column, rows, needed, Norm(2))
        return kept, system.subset(kept).smallest()
    for row, others in needed.items():
        weights = exact_relation(flat, row, others)
        if weights is None:  # round-off hides whether the equations depend on one another: nothing will be proved
            return everyone, 0.0
        for column in y.T:
            excess = sum(weight * Fraction(float(column[i])) for i, weight in weights.items())
            if excess:
                raise _inconsistent(len(flat), {i: weight / excess for i, weight in weights.items() if weight})
    return kept, system.subset(kept).smallest()


def _inconsistent(n: int, proof: dict[int, Fraction]) -> InconsistentError:
    nu = np.array([proof.get(i, Fraction(0)) for i in range(n)], dtype=object)
    got = f"equations that contradict one another ({', '.join(map(str, sorted(proof)[:6]))})"
    return InconsistentError("gram, y", got, "targets that some h attains", nu, tuple(sorted(proof)))


def _undecided(system: _Equations, coefficients: Floats, y: Floats) -> InconsistentError:
    """Return the error for features with which, up to round-off, no h attains the targets.

    For every h that does, and any nu, ``<y, nu> = <sum_i nu_i phi_i, h>``; the residual is nearly a relation of phi.
    """
    a, targets = shift(coefficients, system.exponents[:, None]), shift(y, -system.exponents[:, None])
    nu = targets - system.gram @ a
    worst = int((nu * targets).sum(axis=0).argmax())
    paired = float(down(math.fsum(down(nu[:, worst] * targets[:, worst]))))
    chosen = nu[:, [worst]]
    at_least = max(0.0, float(down(paired / system.miss(np.zeros_like(system.combine(chosen)), chosen))))
    samples = tuple(int(i) for i in np.sort(np.argsort(-np.abs(nu[:, worst]))[:2]))
    got = f"undecided: up to round-off some equations contradict others (heaviest: {', '.join(map(str, samples))}); "
    got += f"any solution has norm at least {at_least:.17g}"
    return InconsistentError("gram, y", got, "targets that some h attains", None, samples, at_least)


def _all_follow(given: NDArray[Any], y: Floats, kept: NDArray[np.intp]) -> bool:
    """Whether all other equations follow, exactly, from these."""
    extended = np.column_stack((given.reshape(len(y), -1).astype(np.float64), y))
    return all(
        exact_relation(extended, int(row), kept) is not None for row in np.setdiff1d(np.arange(len(extended)), kept)
    )


def _solved(system: _Equations, y: Floats, kept: NDArray[np.intp]) -> Floats:
    """Return coefficients in the user's units, zero off the kept equations."""
    if not len(kept):  # no features: h = 0
        return np.zeros_like(y)
    part = system.subset(kept)
    right = shift(y[kept], -part.exponents[:, None])
    a = np.zeros_like(right)
    try:
        factor = cho_factor(part.matrix)
    except LinAlgError:  # singular to working precision: the best that singular vectors give
        out = np.zeros_like(y)
        out[kept] = shift(np.linalg.lstsq(part.matrix, right, rcond=None)[0], -part.exponents[:, None])
        return out
    residual, before = right, math.inf
    for _ in range(_MAX_REFINEMENTS):
        size = float(np.abs(residual).max())
        if not 0.0 < size < 0.5 * before:
            break
        trial = a + cho_solve(factor, residual)
        lower, upper = part.outputs(part.combine(trial))
        moved = right - 0.5 * (lower + upper) - part.ridge[:, None] * trial
        if not float(np.abs(moved).max()) < size:
            break
        a, residual, before = trial, moved, size
    out = np.zeros_like(y)
    out[kept] = shift(a, -part.exponents[:, None])
    return out


def _sealed(
    data: KernelData,
    targets: Floats,
    system: _Equations,
    ridge: float,
    predictor: Floats,
    dual: Floats,
    kept: NDArray[np.intp],
    smallest: float,
) -> InterpolantCertificate:
    dual = dual.reshape(targets.shape)
    bound = _distance(system, predictor, dual, _columns(targets, data.values), kept, smallest)
    parts = bound, ridge, predictor, dual, smallest, kept.astype(np.int64), data.about, _hash(data.values, targets)
    return InterpolantCertificate(*parts, _digest(*parts))


def _distance(
    system: _Equations, predictor: Floats, dual: Floats, y: Floats, kept: NDArray[np.intp], smallest: float
) -> float:
    """Bound ||h - h*||: the way from h to the combination of the features with the coefficients, and from there.

    The second part is ``sqrt(r . A^-1 r)`` at most, r the residual and A the matrix of the kept equations.
    """
    if not smallest > 0.0:
        return math.inf
    if system.rows is None:
        g = shift(predictor.reshape(y.shape), system.exponents[:, None])
    else:
        g = predictor.reshape(y.shape[1], -1).T
    if not len(kept):
        return system.size(g)  # h* = 0
    part = system.subset(kept)
    a = shift(dual.reshape(y.shape)[kept], part.exponents[:, None])
    near = part.combine(a)
    residual = norm_upper(part.residual(near, a, shift(y[kept], -part.exponents[:, None])).ravel(), 2)
    solved = float(up(up(residual / float(down(math.sqrt(smallest)))) + part.miss(near, a)))
    whole = shift(dual.reshape(y.shape), system.exponents[:, None])
    return float(up(solved + system.miss(g, whole)))


def _shaped(predictor: Floats, targets: Floats, data: KernelData) -> Floats:
    """Return h, (P,) or (c, P), from its columns; or coefficients in the shape of the targets."""
    if data.about == "gram":
        return predictor.reshape(targets.shape)
    return np.ascontiguousarray(predictor[:, 0] if targets.ndim == 1 else predictor.T)


def _numbers(
    system: _Equations, predictor: Floats, y: Floats, kept: NDArray[np.intp], smallest: float, about: str
) -> tuple[float, float, float]:
    """Return norm, largest residual, and the bound on the condition number."""
    g = shift(predictor, system.exponents[:, None]) if about == "gram" else predictor
    lower, upper = system.outputs(g)
    outputs = shift(0.5 * (lower + upper), system.exponents[:, None])
    part = system.subset(kept)
    largest = float(up(np.abs(part.matrix).sum(axis=1).max(initial=smallest) * (1.0 + 2.0**-40) + part.gram_error))
    condition = float(up(largest / smallest)) if smallest > 0.0 else math.inf
    return system.size(g), float(np.abs(outputs - y).max()), condition


def _stated(data: KernelData, targets: Floats, ridge: float, solver: str, shape: tuple[int, ...]) -> Floats:
    """Solve the CVXPY statement; anything but "optimal" raises."""
    problem = interpolant_statement(data.values, data.about, targets, ridge)
    found, _, status, _ = solve_statement(problem, solver)
    if status != "optimal" or found is None:
        raise SolverError(f"{solver} ended with status {status!r}")
    return np.asarray(found, dtype=np.float64).reshape(shape)
