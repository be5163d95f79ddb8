"""Numerical tests of what the theory assumes of a model: homogeneity, Euler's identity, a right gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import integer
from theorykit.models.protocol import HomogeneousModel, Inputs

_POINTS = 4  # random parameters
_FACTORS = (0.5, 1.7, 3.0)
_ROUND_OFF = 1e-9
_DIFFERENCES = 1e-5  # of central differences with step 1e-5; kinks nearby cost digits


@dataclass(frozen=True)
class HomogeneityReport:
    """How far a model is from homogeneity of its degree, the worst over random parameters; 0 is perfect.

    Attributes
    ----------
    model : str
        Its name.
    degree : int
        The degree L that was tested.
    scaling : float
        max_i |f_i(c theta) - c^L f_i(theta)| relative to max_i |c^L f_i|, for c = 0.5, 1.7 and 3.
    euler : float
        max_i |<theta, grad f_i> - L f_i| relative to max_i sum_k |theta_k df_i/dtheta_k|.
    gradient : float
        max_i of |central difference of f_i along a random direction - jvp| relative to the largest |jvp|, and of
        |<c, jvp> - <vjp, tangent>| relative to |vjp| |tangent|.
    seed : int
        Of the random parameters, N(0, 1), and directions.
    """

    model: str
    degree: int
    scaling: float
    euler: float
    gradient: float
    seed: int

    @property
    def failures(self) -> dict[str, str]:
        """The properties that do not hold, and by how much."""
        tests = {
            "homogeneity": (self.scaling, _ROUND_OFF, f"f(c theta) and c^{self.degree} f(theta) differ by"),
            "gradient": (self.gradient, _DIFFERENCES, "finite differences of the output and the gradient differ by"),
            "Euler's identity": (self.euler, _ROUND_OFF, f"<theta, grad f> and {self.degree} f differ by"),
        }
        return {
            name: f"{words} {value:.2g} (relative)" for name, (value, most, words) in tests.items() if not value <= most
        }

    @property
    def ok(self) -> bool:
        """Whether every property holds: to 1e-9, and finite differences to 1e-5."""
        return not self.failures

    def raise_for_failure(self) -> None:
        """Raise an `InputError` that names the first property that fails, and by how much."""
        for name, words in self.failures.items():
            raise InputError(
                "model", f"{self.model}, for which {name} fails: {words}", f"a {self.degree}-homogeneous model"
            )


def check_homogeneous(model: HomogeneousModel, X: ArrayLike | Inputs, seed: int = 0) -> HomogeneityReport:
    """Test numerically whether a model is homogeneous of its degree and its gradient is that of its output.

    Parameters
    ----------
    model : HomogeneousModel
    X : array_like or Inputs
        Sample inputs.
    seed : int
        Of the random parameters.

    Returns
    -------
    HomogeneityReport

    Examples
    --------
    >>> from theorykit.models import MLP
    >>> report = check_homogeneous(MLP((2, 4, 1), bias=True), [[1.0, 2.0], [0.5, -1.0]])
    >>> report.ok, report.degree
    (True, 2)
    """
    inputs = model.inputs(X)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    worst = np.zeros(3)
    for _ in range(_POINTS):
        theta = rng.standard_normal(model.parameters)
        found = (_scaling(model, theta, inputs), _euler(model, theta, inputs), _gradient(model, theta, inputs, rng))
        worst = np.maximum(worst, found)  # a NaN stays
    scaling, euler, gradient = (float(value) for value in worst)
    return HomogeneityReport(model.name, model.degree, scaling, euler, gradient, seed)


def measured_degree(model: HomogeneousModel, inputs: Inputs, seed: int = 0) -> int:
    """Return the degree L that f(2 theta)/f(theta) = 2^L shows at random parameters.

    Raises
    ------
    InputError
        The outputs are not finite, all zero, or do not scale by one integer power.
    """
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(_POINTS):
        theta = rng.standard_normal(model.parameters)
        f, scaled = model.output(theta, inputs), model.output(2.0 * theta, inputs)
        if not (np.isfinite(f).all() and np.isfinite(scaled).all()):
            raise InputError("model", f"{model.name}, whose output is not finite", "finite outputs")
        large = np.abs(f) > 1e-3 * np.max(np.abs(f))
        ratios.append(scaled[large] / f[large])
    found = np.concatenate(ratios)
    if found.size == 0:
        raise InputError("model", f"{model.name}, whose output is zero", "an output that depends on theta")
    degree = round(float(np.log2(max(np.median(found), 1.0))))
    if degree < 1 or not np.all(np.abs(found / 2.0**degree - 1.0) < 1e-6):
        span = f"f(2 theta)/f(theta) goes from {found.min():.3g} to {found.max():.3g}"
        raise InputError("model", f"a {model.name} that is not homogeneous: {span}", "2^L throughout, L an integer")
    return degree


def _scaling(model: HomogeneousModel, theta: NDArray[np.float64], inputs: Inputs) -> float:
    f = model.output(theta, inputs)
    off = []
    for c in _FACTORS:
        expected = c**model.degree * f
        off.append(_relative(model.output(c * theta, inputs) - expected, expected))
    return max(off)


def _euler(model: HomogeneousModel, theta: NDArray[np.float64], inputs: Inputs) -> float:
    terms = model.features(inputs, theta) * theta
    return _relative(terms.sum(axis=-1) - model.degree * model.output(theta, inputs), np.abs(terms).sum(axis=-1))


def _gradient(model: HomogeneousModel, theta: NDArray[np.float64], inputs: Inputs, rng: np.random.Generator) -> float:
    tangent = rng.standard_normal(theta.size)
    step = 1e-5 * tangent
    jvp = model.jvp(theta, inputs, tangent)
    numeric = (model.output(theta + step, inputs) - model.output(theta - step, inputs)) / 2e-5
    cotangent = rng.standard_normal(jvp.shape)
    vjp = model.vjp(theta, inputs, cotangent)
    scale = float(np.linalg.norm(vjp) * np.linalg.norm(tangent))
    transposed = abs(float(np.vdot(cotangent, jvp)) - float(vjp @ tangent))
    return max(_relative(numeric - jvp, jvp), transposed / scale if scale > 0.0 else transposed)


def _relative(difference: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the largest difference relative to the largest reference (absolute where that is 0)."""
    scale = float(np.max(np.abs(reference)))
    return float(np.max(np.abs(difference))) / (scale if scale > 0.0 else 1.0)
