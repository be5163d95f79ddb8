"""Limits from ladders: the form in which a limit is approached, its fit, and how far the fit can be believed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import vector

Floats = NDArray[np.float64]
_CURVE = 61  # points of the fitted curve, for figures

TERMS: dict[str, Callable[[Floats], Floats]] = {
    "1": lambda x: np.ones_like(x),
    "log": lambda x: np.log(x),
    "log/x": lambda x: np.log(x) / x,
    "1/x": lambda x: 1.0 / x,
    "log^2/x^2": lambda x: (np.log(x) / x) ** 2,
    "log/x^2": lambda x: np.log(x) / x**2,
    "1/x^2": lambda x: 1.0 / x**2,
}
"""Functions of x = log(alpha). Constants inside a logarithm only mix them, so that log A does as well as log alpha."""

_WRITTEN = {
    "1": "{}",
    "log": "{}·log x",
    "log/x": "{}·log(x)/x",
    "1/x": "{}/x",
    "log^2/x^2": "{}·log²(x)/x²",
    "log/x^2": "{}·log(x)/x²",
    "1/x^2": "{}/x²",
}


@dataclass(frozen=True)
class Expansion:
    """The asymptotic form in which a measured quantity is approached as x = log(alpha) grows.

    Parameters
    ----------
    terms : tuple of str
        Names of `TERMS` beside the leading one, in falling size.
    neighbours : tuple of tuple of str
        Other sets of terms; how much they change the answer is part of its error.
    leading : str
        The term whose coefficient is the answer: "1" for a limit, "log" for the coefficient of log log A.

    Examples
    --------
    >>> x = np.array([20.0, 40, 80, 160, 320, 640])
    >>> fit = Expansion(("1/x",), neighbours=(("1/x", "1/x^2"),)).fit(x, 2.0 + 3.0 / x)
    >>> round(fit.value, 12), fit.error < 1e-12
    (2.0, True)
    """

    terms: tuple[str, ...] = ("log/x", "1/x", "log/x^2", "1/x^2")
    neighbours: tuple[tuple[str, ...], ...] = (("log/x", "1/x"), ("log/x", "1/x", "log^2/x^2", "log/x^2", "1/x^2"))
    leading: str = "1"

    def __post_init__(self) -> None:
        for name in (self.leading, *self.terms, *(term for terms in self.neighbours for term in terms)):
            if name not in TERMS:
                raise unknown_name("terms", name, list(TERMS))

    @property
    def form(self) -> str:
        """The fitted form in words."""
        return self._written(self.terms)

    def _written(self, terms: tuple[str, ...]) -> str:
        answer = "limit" if self.leading == "1" else "coefficient"
        letters = (chr(97 + i) for i in range(len(terms)))
        parts = [_WRITTEN[self.leading].format(answer), *map(str.format, map(_WRITTEN.get, terms), letters)]  # type: ignore[arg-type]
        return " + ".join(parts) + ", x = log α"

    def fit(self, x: ArrayLike, y: ArrayLike, noise: ArrayLike = 0.0) -> Fit:
        """Extrapolate a ladder.

        Large scales weigh more (as x^2: what the form leaves out is smallest there). The error is the largest change
        of the answer under refits (each neighbouring form, and the declared one without the smallest scales, as many
        as it can spare), plus its change where the largest scale is left out (a ladder that ends in the middle of a
        crossover shows it there), plus the fit's residuals and the measurement noise, both carried through the fit
        with their absolute values.

        Parameters
        ----------
        x, y : array_like, shape (k,)
            log(alpha) and what was measured.
        noise : array_like, shape (k,)
            Bounds on the errors of y.

        Raises
        ------
        InputError
            Fewer rungs than the form has unknowns, plus one; scales that do not increase from above 0.
        """
        x_, y_ = vector("x", x), vector("y", y)
        if y_.size != x_.size:
            raise InputError("y", f"{y_.size} entries", f"{x_.size}, one for each rung")
        if x_.size and not (x_[0] > 0.0 and (np.diff(x_) > 0.0).all()):
            raise InputError("x", f"{x_.tolist()}", "increasing scales log(alpha) > 0")
        noise_ = np.broadcast_to(np.asarray(noise, dtype=np.float64), y_.shape)
        if x_.size < len(self.terms) + 2:
            raise InputError("ladder", f"{x_.size} rungs", f"at least {len(self.terms) + 2} for the form {self.form}")
        largest = max(np.abs(y_).max(), np.abs(noise_).max(), np.finfo(np.float64).tiny)
        unit = 2.0 ** (math.frexp(largest)[1] - 1)  # a power of two: exact, and numbers near the largest float fit in
        answer = self._fit(x_, y_ / unit, noise_ / unit)
        with np.errstate(over="ignore"):
            return answer.times(unit)

    def _fit(self, x: Floats, y: Floats, noise: Floats) -> Fit:
        value, weights, coefficients = self._solve(x, y, self.terms)
        refits = [
            Refit(self.form, x.size - k, self._solve(x[k:], y[k:], self.terms)[0])
            for k in range(1, x.size - len(self.terms))
        ]
        refits += [
            Refit(self._written(terms), x.size, self._solve(x, y, terms)[0])
            for terms in self.neighbours
            if x.size >= len(terms) + 1
        ]
        fitted = self._design(x, self.terms) @ coefficients
        spread = max(abs(refit.value - value) for refit in refits)
        shorter = Refit(self.form, x.size - 1, self._solve(x[:-1], y[:-1], self.terms)[0], "smallest")
        spread += abs(shorter.value - value) + float(np.abs(weights) @ np.abs(fitted - y))
        refits.append(shorter)
        dense = np.geomspace(x[0], x[-1], _CURVE)
        return Fit(
            value, spread, float(np.abs(weights) @ noise), fitted, self.form, tuple(refits), dense,
            self._design(dense, self.terms) @ coefficients,
        )  # fmt: skip

    def _design(self, x: Floats, terms: tuple[str, ...]) -> Floats:
        return np.column_stack([TERMS[name](x) for name in (self.leading, *terms)])

    def _solve(self, x: Floats, y: Floats, terms: tuple[str, ...]) -> tuple[float, Floats, Floats]:
        """Return the leading coefficient, its weights on y, and all coefficients."""
        scale = x**2
        design = self._design(x, terms) * scale[:, None]
        columns = np.linalg.norm(design, axis=0)
        inverse = np.linalg.pinv(design / columns, rcond=1e-14) / columns[:, None]
        coefficients = inverse @ (y * scale)
        return float(coefficients[0]), inverse[0] * scale, coefficients


@dataclass(frozen=True)
class Refit:
    """The answer of another fit to the same ladder: in another form, or to its largest or smallest scales alone."""

    form: str
    rungs: int
    value: float
    kept: str = "largest"


@dataclass(frozen=True, eq=False)
class Fit:
    """An extrapolated ladder: its answer, the two parts of its error, the refits behind it, and the fitted curve."""

    value: float
    spread: float
    carried: float
    fitted: Floats
    form: str
    refits: tuple[Refit, ...]
    x: Floats
    curve: Floats

    @property
    def error(self) -> float:
        """Disagreement of the refits and residuals of the fit, plus carried measurement errors."""
        return self.spread + self.carried

    def times(self, unit: float) -> Fit:
        """Return the fit to numbers `unit` times as large."""
        refits = tuple(replace(refit, value=refit.value * unit) for refit in self.refits)
        return Fit(
            self.value * unit, self.spread * unit, self.carried * unit, self.fitted * unit, self.form, refits, self.x,
            self.curve * unit,
        )  # fmt: skip
