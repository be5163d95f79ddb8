"""Kernel machines without bias: the program K1 and its soft and multi-class forms, solved and certified."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit._numerics.rounding import Floats, scale_rows, shift
from theorykit._numerics.validate import finite
from theorykit._version import __version__
from theorykit.datasets import Dataset
from theorykit.programs._constraints import Constraints, of_labels
from theorykit.programs._inputs import KernelData, kernel_data
from theorykit.programs._norms import Norm
from theorykit.programs._sealed import digest, read, write
from theorykit.programs._separability import at_once, not_separable
from theorykit.programs._statement import SolverError, checked_solver, kernel_statement, solve_statement, solver_version
from theorykit.programs._svm_solve import Pair, hard_margin, least_combination, soft_margin
from theorykit.programs._systems import GramSystem, RowSystem, System
from theorykit.programs.kernel_certificate import (
    KernelCertificate,
    Scale,
    bounds,
    data_hash,
    distance_bound,
    intact,
    relative_margins,
    seal,
    system_of,
)


@dataclass(frozen=True, eq=False)
class KernelSVM:
    """A kernel machine h with its proof. Its output on x is ``f(x) = <phi(x), h>``, one for each class if several.

    Attributes
    ----------
    dual : ndarray, shape (m,)
        Multipliers mu >= 0 of the m constraints; ``h = sum_k mu_k z_k`` to round-off, z_k their features. For signs
        m = n and z_i = y_i phi_i; for c classes m = n (c - 1), in the order of (sample, other class).
    coefficients : ndarray, shape (n,) or (n, c)
        ``h = sum_i coefficients_i phi_i`` to round-off; exactly that for a Gram matrix.
    w : ndarray, shape (P,) or (c, P), or None
        h itself, where features were given.
    margin : float
        ``min_k <z_k, h> / ||h||``, 0 for h = 0: for the hard margin proved, and within `certificate.gap` of the best
        possible.
    norm : float
        ||h||. Hard margin: h is scaled so that the smallest <z_k, h> is 1, up to round-off, and this is 1/margin.
    support : ndarray of int
        Samples with a positive multiplier.
    C : float
        inf for the hard margin.
    certificate : KernelCertificate
        Proved bounds on the largest margin (hard) or on the least value of the program (soft).
    distance_bound : float
        Proved bound on ||h - h*||, in the norm of the features (of the RKHS), with h* the exact optimum.
    uniqueness : {"proved"}
        The program is strictly convex in h.
    multipliers : {"proved", "unknown"}
        Whether `dual` is proved to be (near) the only multipliers.
    solver : str
        What solved it, with version.
    iterations : int
        Pivots or solver iterations.
    wall_s : float
        Seconds, certificate included.
    """

    certificate: KernelCertificate
    distance_bound: float
    margin: float
    norm: float
    multipliers: Literal["proved", "unknown"]
    solver: str
    iterations: int
    wall_s: float
    data: KernelData = field(repr=False)
    constraints: Constraints = field(repr=False)

    @property
    def uniqueness(self) -> Literal["proved"]:
        """Whether h is the only solution."""
        return "proved"

    @property
    def C(self) -> float:  # noqa: N802 - the field's name
        """The price of a unit of violation; inf for the hard margin."""
        return self.certificate.C

    @property
    def dual(self) -> Floats:
        """The multipliers, shape (m,)."""
        return self.certificate.dual

    @property
    def w(self) -> Floats | None:
        """The predictor h, shape (P,) or (c, P), where features were given."""
        return self.certificate.predictor if self.certificate.about == "features" else None

    @property
    def coefficients(self) -> Floats:
        """What the features of the samples have to be multiplied by, shape (n,) or (n, c)."""
        if self.certificate.about == "gram":
            return self.certificate.predictor
        return _by_class(self.constraints.adjoint(self.dual)[0], self.constraints.classes)

    @property
    def support(self) -> NDArray[np.intp]:
        """The samples with a positive multiplier, in order."""
        return np.unique(self.constraints.samples[self.dual > 0.0])

    def decision(self, X: ArrayLike) -> Floats:
        """Return the outputs on new points.

        Parameters
        ----------
        X : array_like
            Features (m, P); inputs of the model; or, where a Gram matrix was given, the cross-Gram matrix (m, n) or
            (m, c, n, c), new points in rows.

        Returns
        -------
        ndarray, shape (m,) or (m, c)
        """
        return self.data.predictions(X, self.w, self.coefficients)

    def predict(self, X: ArrayLike) -> Floats:
        """Return the labels of new points (see `decision`): +1 or -1 (also at 0), or class numbers.

        Examples
        --------
        >>> kernel_svm([[2.0, 0.0], [0.0, -1.0]], [1, -1]).predict([[1.0, 0.0], [0.0, -3.0]])
        array([ 1., -1.])
        """
        outputs = self.decision(X)
        if self.constraints.classes == 1:
            return np.where(outputs > 0.0, 1.0, -1.0)
        return outputs.argmax(axis=1).astype(np.float64)

    def as_cvxpy(self) -> Any:
        """Return the program as a `cvxpy.Problem`, in h (features) or in its coefficients (Gram matrix).

        Examples
        --------
        >>> kernel_svm([[2.0]], [1], C=1.0).as_cvxpy().is_dcp()
        True
        """
        return kernel_statement(self.data.values, self.data.about, self.constraints, self.C)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result and its data (no model) to one ``.npz`` file, whole or not at all.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        c = self.certificate
        head = {name: getattr(c, name) for name in ("lower", "upper", "C", "perturbation", "about", "data_hash")}
        head |= {name: getattr(self, name) for name in _NUMBERS} | {"digest": c.digest, "sealed": _sealed_numbers(self)}
        arrays = {"values": self.data.values, "y": self.constraints.labels, "predictor": c.predictor, "dual": c.dual}
        if self.data.X is not None and self.data.theta is not None:
            arrays |= {"X": self.data.X, "theta": self.data.theta}
        write(path, _FORMAT, head | {"outputs": self.data.outputs}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Any = None) -> KernelSVM:
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
        found: KernelSVM = read(path, _FORMAT, "KernelSVM.save", cls._rebuilt)
        if model is None:
            return found
        return replace(found, data=found.data.with_model(model))

    @classmethod
    def _rebuilt(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> KernelSVM:
        parts = head["perturbation"], head["about"], head["data_hash"], head["digest"]
        certificate = KernelCertificate(
            head["lower"], head["upper"], head["C"], arrays["predictor"], arrays["dual"], *parts
        )
        values, y = arrays["values"], arrays["y"]
        data = KernelData(values, head["about"], y, head["outputs"], None, arrays.get("X"), arrays.get("theta"))
        constraints = of_labels(y, len(values), head["outputs"])
        result = cls(certificate, data=data, constraints=constraints, **{name: head[name] for name in _NUMBERS})
        if not intact(certificate) or data_hash(values, y) != certificate.data_hash:
            raise ValueError("its contents were changed")
        if _sealed_numbers(result) != head["sealed"]:
            raise ValueError("its numbers were changed")
        return result


_FORMAT = "theorykit kernel-svm 1"
_NUMBERS = ("distance_bound", "margin", "norm", "multipliers", "solver", "iterations", "wall_s")
_NEARLY = 1e-9
_SMALLEST_PRICE = 2.0**-1000  # sums of such prices still have their digits
_FURTHEST = 500
"""Powers of two of samples whose squares stay in the float range."""
_DEAR, _LOWEST, _HIGHEST = 40, -900, 500
"""Powers of two: of C times squared features, from where a soft margin may be hard, and what can be computed with."""
_POOR_GAP = 1e-3
_LARGEST_ROWS = 2**27
"""Entries of the features of all constraints (1 GiB) up to which several classes are solved on features."""


def _sealed_numbers(result: KernelSVM) -> str:
    numbers = {name: getattr(result, name) for name in _NUMBERS}
    return digest("kernel svm", certificate=result.certificate.digest, **numbers)


def kernel_svm(
    X: ArrayLike | Dataset | None = None,
    y: ArrayLike | None = None,
    *,
    gram: ArrayLike | None = None,
    model: Any = None,
    init: str | ArrayLike = "theory",
    C: float | None = None,
    solver: str | None = None,
) -> KernelSVM:
    """Return the kernel machine without bias, with a proof of how good it is.

    Hard margin, program K1 of the kernel regime (Lyu et al., ICLR 2024, arXiv:2311.18817, section 3):
    ``min 1/2 ||h||^2`` subject to ``<z_k, h> >= 1``. Soft margin: ``min 1/2 ||h||^2 + C sum_k max(0, 1 - <z_k, h>)``, a
    sum, not a mean. For labels +-1 there is one constraint a sample, z_i = y_i phi_i. For class numbers 0 .. c-1 there
    is one for each sample and other class, ``<phi_{y_i}(x_i) - phi_j(x_i), h> >= 1`` for all j != y_i: with features,
    or a Gram matrix that the classes share, h is one vector a class and the constraint <phi_i, h_{y_i} - h_j> >= 1.

    Parameters
    ----------
    X : array_like, shape (n, P), or Dataset
        Features phi_i in rows, or the inputs of `model`; features of sizes 1e-150 to 1e150.
    y : array_like, shape (n,)
        Labels +1 and -1, or class numbers. Labels that are all 1 are signs. Left out with a data set.
    gram : array_like, shape (n, n) or (n, c, n, c), instead of X
        Inner products of the features (of c outputs). The matrix is the data: symmetric and positive semidefinite, up
        to round-off that the certificate names and counts in (`perturbation`).
    model : HomogeneousModel, optional
        The features are then those of its neural tangent kernel at `init`; its Gram matrix, as computed in doubles, is
        the data, and the features (n, P) are never formed.
    init : str or array_like
        The model's direction theta_bar, not multiplied by alpha.
    C : float, optional
        The price of violation, > 0. Default: hard margin.
    solver : str, optional
        An installed CVXPY solver ("CLARABEL", ...), to solve the program as CVXPY states it. Default: block pivoting in
        the dual and polishing on the active set.

    Returns
    -------
    KernelSVM

    Raises
    ------
    InputError
        NaN or infinite entries, features of other sizes, labels of another kind, lengths that differ, no samples, a
        Gram matrix that is not symmetric or not positive semidefinite (with a proved bound on the offending
        eigenvalue), C <= 0 or at a scale that the features put out of the float range, a solver that is not installed.
    NotSeparableError
        Hard margin: no h satisfies the constraints. With exact weights mu that prove it, where they are in reach: for
        features those of `verify_farkas`; for a Gram matrix ``sum_i mu_i y_i K_i = 0``, that is
        ``verify_farkas(K, y, mu)``, so that the features themselves add up to 0, K being positive semidefinite; for
        several classes one for each constraint. Else "undecided", with a proved bound on the margin.
    SolverError
        The CVXPY solver did not end with the status "optimal"; or our own method proved no better than a gap of 1e-3.

    Notes
    -----
    Hard margins of n samples of d features take n d numbers where n > d; soft margins, and any Gram matrix, take the
    square of the number of constraints.

    Features of several classes are written out for every constraint, m c P numbers; above 2**27 of them the Gram matrix
    of the features, as computed in doubles, takes their place, and `certificate.about` says so.

    Examples
    --------
    >>> machine = kernel_svm(gram=[[2.0, 0.0], [0.0, 0.5]], y=[1, -1])
    >>> machine.coefficients, round(machine.norm**2, 12)
    (array([ 0.5, -2. ]), 2.5)
    >>> machine.decision([[1.0, 0.0]])
    array([0.5])
    """
    started = time.perf_counter()
    data = kernel_data(X, y, gram, model, init)
    constraints = of_labels(data.y, len(data.values), data.outputs)
    price = math.inf if C is None else finite("C", C, minimum=_SMALLEST_PRICE)
    name = None if solver is None else checked_solver(solver)
    data = _affordable(data, constraints)
    system = _checked_system(data, constraints, price)
    if name is None:
        pair = hard_margin(system) if math.isinf(price) else _priced(system, price)
        title = f"theorykit {__version__} (block pivoting in the dual, active set)"
    else:
        pair, title = _stated(data, constraints, system, price, name), solver_version(name)
    predictor, dual = _in_users_units(system, pair, price)
    shape = _shape(data, constraints)
    certificate = seal(data.values, constraints, system, predictor.reshape(shape), dual, price, data.about)
    if math.isinf(price) and certificate.lower <= 0.0:
        raise _not_separable(data, constraints, system, certificate.upper)
    if name is None and certificate.gap > _POOR_GAP:
        raise SolverError(f"too ill-conditioned to solve: proved is {certificate.lower} to {certificate.upper}")
    distance, unique = distance_bound(system, predictor, dual, price)
    margin, norm = _margin_and_norm(system, certificate)
    return KernelSVM(
        certificate,
        distance,
        margin,
        norm,
        "proved" if unique else "unknown",
        title,
        pair.iterations,
        time.perf_counter() - started,
        data,
        constraints,
    )


def _affordable(data: KernelData, constraints: Constraints) -> KernelData:
    """Replace features by their Gram matrix where writing them out for every constraint takes too much memory."""
    size = len(constraints.samples) * constraints.classes * data.values.shape[1]
    if data.about == "gram" or constraints.classes == 1 or size <= _LARGEST_ROWS:
        return data
    wide = data.values.astype(np.float64)
    return KernelData(wide @ wide.T, "gram", data.y)


def _checked_system(data: KernelData, constraints: Constraints, C: float) -> System:
    system = system_of(data.values, constraints, data.about)
    if abs(int(system.exponents.min())) > _FURTHEST:
        got, wanted = f"samples of size 2^{int(system.exponents.min())}", f"2^-{_FURTHEST} to 2^{_FURTHEST}"
        name = "gram" if data.about == "gram" and data.model is None else "X"
        raise InputError(name, got, f"{wanted}, since multipliers are as one over their squares")
    if math.isinf(C):
        if isinstance(system, RowSystem):
            hopeless = at_once(constraints.rows(data.values), np.ones(len(constraints.samples)))
        else:
            hopeless = _zero_sample(data, constraints)
        if hopeless is not None:
            raise _named(hopeless, constraints)
    return system


def _zero_sample(data: KernelData, constraints: Constraints) -> NotSeparableError | None:
    """Return the error for a sample all of whose features vanish."""
    flat = data.values.reshape(len(data.values), -1)
    zero = np.flatnonzero(~np.asarray(flat.any(axis=1))[constraints.samples])
    if not zero.size:
        return None
    weights = np.array([Fraction(int(k == zero[0])) for k in range(len(constraints.samples))], dtype=object)
    return NotSeparableError("gram, y", "a sample without features", _WANTED, weights, (int(zero[0]),), 0.0)


_WANTED = "samples that some h separates (no bias)"


def _named(error: NotSeparableError, constraints: Constraints) -> NotSeparableError:
    """Return the error with samples in place of constraints."""
    if constraints.classes == 1:
        return error
    samples = tuple(int(i) for i in np.unique(constraints.samples[list(error.samples)]))
    got = f"{error.got} (constraints; the samples are {', '.join(map(str, samples[:6]))})"
    return NotSeparableError(error.argument, got, _WANTED, error.farkas, samples, error.margin_at_most)


def _priced(system: System, C: float) -> Pair:
    """Return the pair of the soft margin, whose multipliers reach C ||z_k||^2 where all scales are taken out."""
    smallest, largest = int(system.exponents.min()), int(system.exponents.max())
    dearest = int(np.frexp(C)[1]) + smallest + largest
    if dearest > _DEAR and system.squares.min() > 0.0:  # then it may as well be the hard margin
        pair, scale = hard_margin(system), Scale(system)
        margin = float(relative_margins(system, scale, pair.g)[0].min())
        if margin > 0.0 and scale.outward(pair.g, pair.nu / margin)[1].max() <= C:
            return Pair(pair.g / margin, pair.nu / margin, pair.iterations)
    if largest - smallest > -_LOWEST:
        got = f"{C:g} with samples whose sizes differ by a factor of 2^{largest - smallest}"
        raise InputError("C", got, f"samples whose sizes differ by a factor of 2^{-_LOWEST} at most")
    least, most = (float(shift(1.0, limit - smallest - e)) for limit, e in ((_LOWEST, smallest), (_HIGHEST, largest)))
    most = min(most, float(np.finfo(np.float64).max))
    if not least <= C <= most:
        raise InputError("C", f"{C:g}", f"a price from {least:.3g} to {most:.3g} for features of this size")
    return soft_margin(system, C)


def _in_users_units(system: System, pair: Pair, C: float) -> tuple[Floats, Floats]:
    """Return h (or its coefficients) and mu; hard margins with h scaled to smallest margin 1 where it separates."""
    scale = Scale(system)
    g, nu = pair.g, np.maximum(pair.nu, 0.0)
    if math.isinf(C):
        smallest = float(relative_margins(system, scale, g)[0].min())
        g, nu = (g / smallest, nu / smallest) if smallest > 0.0 else (g, nu)
    else:
        g = _lifted(system, scale, g, nu, C)
    predictor, dual = scale.outward(g, nu)
    return predictor, np.minimum(dual, C)


def _lifted(system: System, scale: Scale, g: Floats, nu: Floats, C: float) -> Floats:
    """Return g, or g made longer by what its margins miss of 1 through round-off: a dear C makes that worth it."""
    margins = relative_margins(system, scale, g)[0]
    missed = margins[(margins < 1.0) & (margins > 1.0 - _NEARLY)]
    if not len(missed):
        return g
    longer = g / float(missed.min()) * (1.0 + 2.0**-48)  # and what rounding g costs
    dual = np.minimum(scale.outward(g, nu)[1], C)
    return min(g, longer, key=lambda h: bounds(system, scale.outward(h, nu)[0], dual, C)[1])


def _shape(data: KernelData, constraints: Constraints) -> tuple[int, ...]:
    """Return the shape of h or of its coefficients."""
    first, second = (data.values.shape[1], None) if data.about == "features" else (None, len(data.values))
    c = constraints.classes
    if c == 1:
        return (first or second or 0,)
    return (c, first) if first is not None else (second or 0, c)


def _by_class(flat: Floats, classes: int) -> Floats:
    return flat if classes == 1 else flat.reshape(-1, classes)


def _margin_and_norm(system: System, certificate: KernelCertificate) -> tuple[float, float]:
    """Return min_k <z_k, h> / ||h|| and ||h||."""
    scale = Scale(system)
    g = scale.inward(certificate.predictor.ravel(), certificate.dual)[0]
    size = system.size(g)
    norm = float(np.ldexp(size, -scale.smallest))
    if math.isinf(certificate.C):
        return certificate.lower, norm
    smallest = float(relative_margins(system, scale, g)[0].min())
    return smallest / norm if norm > 0.0 else 0.0, norm


def _not_separable(
    data: KernelData, constraints: Constraints, system: System, margin_at_most: float
) -> NotSeparableError:
    """Return the error with an exact proof where one is in reach, else with the proved bound on the margin."""
    everyone = np.ones(len(constraints.samples))
    if isinstance(system, RowSystem):
        Z = constraints.rows(data.values)
        return _named(not_separable(Z, everyone, system.rows, Norm(2), margin_at_most), constraints)
    assert isinstance(system, GramSystem)
    if system.shared:  # the rows of a semidefinite matrix add up to zero only if the features do
        Z = constraints.rows(data.values)
        exact = not_separable(Z, everyone, scale_rows(Z), Norm(2), math.inf)
        if exact.farkas is not None:
            return _named(NotSeparableError("gram, y", exact.got, _WANTED, exact.farkas, exact.samples), constraints)
    nu = least_combination(system.gram, np.ones(len(everyone)))[0]
    predictor, dual = Scale(system).outward(system.combine(nu), nu)
    at_most = min(margin_at_most, bounds(system, predictor, dual, math.inf)[1])
    heaviest = tuple(int(i) for i in constraints.samples[np.argsort(-nu)[:2]])
    got = f"undecided: the margin is at most {at_most:.17g} (heaviest: samples {', '.join(map(str, heaviest))})"
    return NotSeparableError("gram, y", got, _WANTED, margin_at_most=at_most)


def _stated(data: KernelData, constraints: Constraints, system: System, C: float, solver: str) -> Pair:
    """Solve the CVXPY statement; anything but "optimal" raises, with what the vectors prove all the same."""
    problem = kernel_statement(data.values, data.about, constraints, C)
    found, multipliers, status, iterations = solve_statement(problem, solver)
    if status in ("infeasible", "infeasible_inaccurate") and math.isinf(C):  # a soft margin always exists
        raise _not_separable(data, constraints, system, math.inf)
    if found is None or multipliers is None or not (np.isfinite(found).all() and np.isfinite(multipliers).all()):
        raise SolverError(f"{solver} ended with status {status!r} and no solution")
    predictor, dual = np.asarray(found).ravel(), np.clip(np.asarray(multipliers).ravel(), 0.0, C)
    if status != "optimal":
        lower, upper = bounds(system, predictor, dual, C)
        raise SolverError(f"{solver} ended with status {status!r}; its vectors prove an optimum in [{lower}, {upper}]")
    return Pair(*Scale(system).inward(predictor, dual), iterations)
