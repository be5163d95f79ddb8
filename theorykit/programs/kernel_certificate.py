"""Proofs about kernel machines that stand on arithmetic alone: a predictor, multipliers, and the data they speak of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.rounding import Floats, down, norm_upper, shift, shift_down, up
from theorykit._numerics.validate import matrix
from theorykit.programs._constraints import Constraints, of_labels
from theorykit.programs._gram import checked_gram, scaled_gram
from theorykit.programs._sealed import CertificateError, check_interval, digest, hash_rows
from theorykit.programs._semidefinite import is_semidefinite, smallest_eigenvalue
from theorykit.programs._systems import GramSystem, RowSystem, System


@dataclass(frozen=True, eq=False)
class KernelCertificate:
    """Proved bounds on the optimum of a kernel machine, with the vectors that prove them.

    Attributes
    ----------
    lower, upper : float
        Rounded outward. Hard margin (`C` infinite): bounds on the largest margin max_h min_k <z_k, h> / ||h||, with z_k
        the features of the constraints; `lower` is -inf where the vectors separate nothing. Soft margin: bounds on the
        least value of 1/2 ||h||^2 + C sum_k max(0, 1 - <z_k, h>).
    C : float
        inf for the hard margin.
    predictor : ndarray
        Proves one bound: h itself, shape (P,) or (classes, P), for features; its coefficients, shape (n,) or
        (n, classes), for a Gram matrix.
    dual : ndarray, shape (m,)
        Multipliers of the constraints, between 0 and C; they prove the other.
    perturbation : float
        For a Gram matrix K: the bounds hold for every positive semidefinite matrix within
        ``perturbation * 2**(e_i + e_j)`` of K (in operator norm once the powers of two, 2**e_i about sqrt(K_ii), are
        taken out), and there is one. 0 where K itself is proved positive semidefinite, and for features.
    about : {"features", "gram"}
        Which data the certificate speaks of.
    data_hash : str
        SHA-256 of the features or the Gram matrix, and of the labels.
    digest : str
        SHA-256 of everything else: an edited certificate does not verify.
    """

    lower: float
    upper: float
    C: float
    predictor: Floats = field(repr=False)
    dual: Floats = field(repr=False)
    perturbation: float
    about: str
    data_hash: str = field(repr=False)
    digest: str = field(repr=False)

    @property
    def gap(self) -> float:
        """The relative width of the interval, (upper - lower) / lower; inf where nothing positive was proved."""
        return (self.upper - self.lower) / self.lower if self.lower > 0.0 else math.inf

    def verify(self, data: ArrayLike, y: ArrayLike) -> bool:
        """Recompute both bounds from the stored vectors and the data.

        Parameters
        ----------
        data : array_like
            The features (n, P) or the Gram matrix (n, n) or (n, c, n, c): what `about` names.
        y : array_like, shape (n,)
            The labels.

        Returns
        -------
        bool
            True.

        Raises
        ------
        CertificateError
            The data, a vector or a bound is not what was certified, however little it differs; or the claimed interval
            does not contain the recomputed one.
        """
        given = matrix("data", data) if self.about == "features" else checked_gram("data", data)
        outputs = given.shape[1] if given.ndim == 4 else None
        constraints = of_labels(y, len(given), outputs)
        if data_hash(given, constraints.labels) != self.data_hash:
            raise CertificateError("the data are not the ones this certificate was made for")
        if not intact(self):
            raise CertificateError("a stored vector or bound was changed after the certificate was made")
        system = system_of(given, constraints, self.about)
        if isinstance(system, GramSystem):
            if not is_semidefinite(system.data.values, self.perturbation):
                raise CertificateError(f"a perturbation of {self.perturbation!r} is not proved to be enough")
            system = replace(system, data=system.data._replace(perturbation=self.perturbation))
        check_interval(self.lower, self.upper, *bounds(system, self.predictor.ravel(), self.dual, self.C))
        return True


def seal(
    given: NDArray[Any], constraints: Constraints, system: System, predictor: Floats, dual: Floats, C: float, about: str
) -> KernelCertificate:
    """Make a certificate from checked arrays."""
    lower, upper = bounds(system, predictor.ravel(), dual, C)
    parts = lower, upper, C, predictor, dual, _perturbation(system), about, data_hash(given, constraints.labels)
    return KernelCertificate(*parts, _digest(*parts))


def intact(certificate: KernelCertificate) -> bool:
    """Whether the stored vectors and bounds are the ones the digest was made of."""
    c = certificate
    return _digest(c.lower, c.upper, c.C, c.predictor, c.dual, c.perturbation, c.about, c.data_hash) == c.digest


def _digest(
    lower: float, upper: float, C: float, predictor: Floats, dual: Floats, perturbation: float, about: str, source: str
) -> str:
    numbers = {"lower": lower, "upper": upper, "C": C, "perturbation": perturbation}
    return digest("kernel machine", predictor=predictor, dual=dual, about=about, data_hash=source, **numbers)


def data_hash(given: NDArray[Any], labels: Floats) -> str:
    """Return the hash of features or of a Gram matrix, and labels; the same for int8 and float64 copies."""
    flat = given if given.ndim == 2 else given.reshape(given.shape[0] * given.shape[1], -1)
    return digest("labelled", data=hash_rows(flat), shape=str(given.shape), labels=labels + 0.0)


def system_of(given: NDArray[Any], constraints: Constraints, about: str) -> System:
    """Return the constraints on features or on a checked Gram matrix."""
    if about == "features":
        return RowSystem.of(constraints.rows(given))
    return GramSystem(scaled_gram("gram", given), constraints, shared=given.ndim == 2)


def _perturbation(system: System) -> float:
    return system.data.perturbation if isinstance(system, GramSystem) else 0.0


class Scale:
    """The powers of two between the user's units (h, mu) and those of a system (g, nu)."""

    def __init__(self, system: System) -> None:
        self.smallest = int(system.exponents.min())
        self.relative = self.smallest - system.exponents  # c_k = 2**relative_k
        self.exponents = system.exponents
        self.is_gram = isinstance(system, GramSystem)
        self._coefficients = self._of_coefficients(system) if isinstance(system, GramSystem) else None

    def _of_coefficients(self, system: GramSystem) -> NDArray[np.int64]:
        """Coefficients belong to unscaled features: one has to be multiplied by 2**e_i as well."""
        exponents = system.data.exponents
        return np.repeat(exponents, system.constraints.classes) if system.shared else exponents

    def inward(self, predictor: Floats, dual: Floats) -> tuple[Floats, Floats]:
        """Return g and nu."""
        inner = self.smallest if self._coefficients is None else self.smallest + self._coefficients
        return shift(predictor, inner), shift(dual, self.smallest + self.exponents)

    def outward(self, g: Floats, nu: Floats) -> tuple[Floats, Floats]:
        """Return h (or its coefficients) and mu."""
        inner = self.smallest if self._coefficients is None else self.smallest + self._coefficients
        return shift(g, -inner), shift(nu, -(self.smallest + self.exponents))


def bounds(system: System, predictor: Floats, dual: Floats, C: float) -> tuple[float, float]:
    """Return lower and upper bounds, rounded outward; infinite where the vectors prove nothing."""
    scale = Scale(system)
    g, nu = scale.inward(predictor, dual)
    if dual.min() < 0.0 or dual.max() > C or not (np.isfinite(g).all() and np.isfinite(nu).all()):
        return -math.inf, math.inf
    if math.isinf(C):
        return _margin_bounds(system, scale, g, nu)
    return _value_bounds(system, scale, g, nu, dual, C)


def relative_margins(system: System, scale: Scale, g: Floats) -> tuple[Floats, Floats]:
    """Enclose <u_k, g> / c_k: the margins <z_k, h>."""
    lower, upper = system.margins(g)
    return shift_down(lower, -scale.relative), -shift_down(-upper, -scale.relative)


def _margin_bounds(system: System, scale: Scale, g: Floats, nu: Floats) -> tuple[float, float]:
    smallest = float(relative_margins(system, scale, g)[0].min())
    size = system.size(g)
    lower = float(down(smallest / size)) if smallest > 0.0 and size > 0.0 else -math.inf
    total = float(down(math.fsum(down(shift(nu, scale.relative)))))  # sum_k c_k nu_k
    upper = float(up(system.combined_size(nu) / total)) if total > 0.0 else math.inf
    return float(shift_down(lower, scale.smallest)), float(-shift_down(-upper, scale.smallest))


def _value_bounds(system: System, scale: Scale, g: Floats, nu: Floats, dual: Floats, C: float) -> tuple[float, float]:
    """Return sum mu - 1/2 ||sum_k mu_k z_k||^2 <= optimum <= 1/2 ||h||^2 + C sum_k max(0, 1 - <z_k, h>)."""
    shortfall = np.maximum(0.0, up(1.0 - relative_margins(system, scale, g)[0]))
    own = -shift_down(-up(0.5 * up(system.size(g) ** 2)), -2 * scale.smallest)
    upper = up(own + up(C * up(math.fsum(shortfall))))
    combined = -shift_down(-up(0.5 * up(system.combined_size(nu) ** 2)), -2 * scale.smallest)
    return max(0.0, float(down(down(math.fsum(dual)) - combined))), float(upper)


def duality_gap(system: System, scale: Scale, g: Floats, nu: Floats, C: float) -> float:
    """Bound the duality gap in units of 2**(-2 smallest exponent), term by term, so that nothing cancels.

    With margins m_k, ``1/2 ||h||^2 + C sum (1 - m_k)_+ - sum mu_k + 1/2 ||sum mu_k z_k||^2`` is
    ``sum_k [ C (1 - m_k)_+ - mu_k (1 - m_k) ] + 1/2 ||h - sum mu_k z_k||^2``.
    """
    lower, upper = system.margins(g)
    c = shift(np.ones(len(nu)), scale.relative)  # exact, or 0 where it does not matter
    over = np.maximum(up(upper - c), 0.0)
    terms = up(nu * over)
    if math.isfinite(C):
        short = np.maximum(up(c - lower), 0.0)
        room = np.where(short > 0.0, up(_cap(scale, nu, C) - nu), 0.0)
        with np.errstate(over="ignore"):
            terms = up(terms + up(room * short))
    return float(up(up(math.fsum(terms)) + up(0.5 * up(system.miss(g, nu) ** 2))))


def distance_bound(system: System, predictor: Floats, dual: Floats, C: float) -> tuple[float, bool]:
    """Bound ||h - h*||, in the norm of the features, and say whether the multipliers are proved to be the only ones.

    By strong convexity half its square is below the duality gap (hard margins: of h / m, which is feasible, m its
    smallest margin; add the way from h to h / m). Where the active set is proved, see `_active_set_bound`, by that.
    """
    scale = Scale(system)
    g, nu = scale.inward(predictor, dual)
    stretch = 0.0
    if math.isinf(C):
        smallest = float(relative_margins(system, scale, g)[0].min())
        if not smallest > 0.5:
            return math.inf, False
        stretch = float(up(up(system.size(g)) * up(abs(float(up(1.0 / smallest)) - 1.0) * (1.0 + 2.0**-50))))
    gap = _stretched_gap(system, scale, g, nu, C, stretch)
    by_gap = float(up(up(np.sqrt(up(2.0 * gap))) + stretch))
    by_active_set, unique = _active_set_bound(system, scale, g, nu, _cap(scale, nu, C))
    return float(-shift_down(-min(by_gap, by_active_set), -scale.smallest)), unique


def _cap(scale: Scale, nu: Floats, C: float) -> Floats:
    """Return the upper bounds of nu; exact, or infinite past the float range."""
    return np.asarray(shift(np.full(len(nu), C), scale.smallest + scale.exponents))


def _stretched_gap(system: System, scale: Scale, g: Floats, nu: Floats, C: float, stretch: float) -> float:
    """Bound the duality gap of g scaled to be feasible: margins and distances grow by at most that stretch."""
    if stretch == 0.0:
        return duality_gap(system, scale, g, nu, C)
    lower, upper = system.margins(g)
    c = shift(np.ones(len(nu)), scale.relative)
    smallest = float(shift_down(lower, -scale.relative).min())
    over = np.maximum(up(up(np.maximum(upper, 0.0) / smallest) - c), 0.0)
    missed = up(system.miss(g, nu) + stretch)
    return float(up(up(math.fsum(up(nu * over))) + up(0.5 * up(missed**2))))


def _active_set_bound(system: System, scale: Scale, g: Floats, nu: Floats, cap: Floats) -> tuple[float, bool]:
    """Bound ||g - g*|| where the optimum is proved to have its free multipliers where nu has; else infinity.

    Let G be the inner products on the free set F, 0 < nu < cap, nu' the exact solution with the margins c_k there and
    the other multipliers as they are, g' its predictor. With the residual r of nu on F, ``|nu' - nu| <= ||r|| /
    lambda_min(G)`` and ``||g' - g|| <= ||r|| / sqrt(lambda_min(G))``. If nu' is within its bounds and the margins of g'
    off F are on the right side of c, it is the optimum; with slack to spare, no other multiplier can be free, and G is
    invertible, so that the multipliers are unique.
    """
    free = (nu > 0.0) & (nu < cap)
    if free.any():
        smallest = float(down(smallest_eigenvalue(system.block(np.flatnonzero(free))) - system.gram_error))
    else:
        smallest = 1.0  # no equations, no residual
    if not smallest > 0.0:
        return math.inf, False
    missed = system.miss(g, nu)
    lower, upper = system.margins(g)
    c = shift(np.ones(len(nu)), scale.relative)
    lengths = np.sqrt(system.squares + system.gram_error) * (1.0 + 2.0**-50)
    residuals = np.maximum(np.maximum(up(upper - c), up(c - lower)), 0.0) + up(lengths * missed)
    residual = norm_upper(residuals[free], 2)
    distance = float(up(up(up(residual / float(down(math.sqrt(smallest)))) + missed)))
    reach, moved = up(residual / smallest), up(lengths * distance)
    inside = (nu > reach) & (up(nu + reach) < cap)
    beyond = np.where(nu > 0.0, up(upper + moved) < c, down(lower - moved) > c)
    return (distance, True) if bool(np.where(free, inside, beyond).all()) else (math.inf, False)
