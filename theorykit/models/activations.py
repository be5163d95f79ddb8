"""Homogeneous activations: phi(c z) = c^k phi(z) for every c > 0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer

Array = NDArray[Any]

_NAMES = re.compile(r"(relu|leaky_relu|z)(?:\^(\d+))?")
_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "z": 1.0}
_LARGEST_POWER = 20


@dataclass(frozen=True)
class Activation:
    """phi(z) = b(z)^k, where b(z) = z for z > 0 and slope * z otherwise.

    Slope 0 gives ReLU^k, slope 1 the monomial z^k (k = 1: the identity), anything between leaky ReLU^k. At z = 0 the
    derivative of b is the slope: that of ReLU is 0.

    Parameters
    ----------
    slope : float
        From 0 to 1.
    power : int
        k, from 1 to 20.

    Raises
    ------
    InputError
        Slope or power out of range.

    Examples
    --------
    >>> Activation.named("relu^2") == Activation(slope=0.0, power=2)
    True
    >>> Activation(slope=0.2).name
    'leaky_relu(0.2)'
    """

    slope: float = 0.0
    power: int = 1

    def __post_init__(self) -> None:
        if finite("slope", self.slope, minimum=0.0) > 1.0:
            raise InputError("slope", f"{self.slope:g}", "a number from 0 (ReLU) to 1 (identity)")
        integer("power", self.power, minimum=1, maximum=_LARGEST_POWER)

    @classmethod
    def named(cls, activation: str | Activation) -> Activation:
        """Return the activation of a name: ``relu``, ``leaky_relu`` (slope 0.01), ``identity``, ``z``, with ``^k``.

        Raises
        ------
        InputError
            The name is unknown.

        Examples
        --------
        >>> Activation.named("z^3")
        Activation(slope=1.0, power=3)
        """
        if isinstance(activation, Activation):
            return activation
        match = _NAMES.fullmatch("z" if activation == "identity" else str(activation))
        if match is None:
            known = "an Activation, or one of relu, relu^k, leaky_relu, leaky_relu^k, identity, z^k"
            raise InputError("activation", repr(activation), known)
        return cls(_SLOPES[match[1]], int(match[2] or 1))

    @property
    def name(self) -> str:
        """The name it is known by."""
        known = {slope: name for name, slope in _SLOPES.items()}
        base = known.get(self.slope, f"leaky_relu({self.slope:g})")
        if self.power > 1:
            return f"{base}^{self.power}"
        return "identity" if self.slope == 1.0 else base

    @property
    def smooth(self) -> bool:
        """Whether it is twice continuously differentiable, as Assumption 3.1 of lyu2024 asks."""
        return self.slope == 1.0 or self.power >= 3

    @property
    def kinked(self) -> bool:
        """Whether its slope jumps at 0."""
        return self.slope < 1.0 and self.power == 1

    def base(self, z: Array, slopes: Array | None = None) -> Array:
        """Overwrite z with b(z), from which everything else follows: b has the sign of z, or is 0.

        Slopes that are given are held, whatever the sign of z.
        """
        if slopes is not None:
            z *= slopes
        elif self.slope == 0.0:
            np.maximum(z, 0.0, out=z)
        elif self.slope < 1.0:
            np.maximum(z, self.slope * z, out=z)
        return z

    def value(self, b: Array) -> Array:
        """Return phi = b^k (b itself for k = 1)."""
        return raised(b, self.power)

    def chain(self, b: Array, g: Array, slopes: Array | None = None) -> Array:
        """Multiply g in place by phi'(z); g may have more axes than b, broadcast as NumPy does."""
        if self.slope < 1.0:
            g *= self.branch(b > 0.0, b.dtype) if slopes is None else slopes
        if self.power > 1:
            g *= self.power * raised(b, self.power - 1)
        return g

    def branch(self, positive: NDArray[np.bool_], dtype: np.dtype[Any]) -> Array:
        """Return b'(z), given where z > 0."""
        if self.slope == 0.0:
            return positive
        return np.where(positive, dtype.type(1.0), dtype.type(self.slope))

    def curvature(self, b: Array, slopes: Array | None = None) -> Array:
        """Return phi''(z), away from the kink."""
        if self.power == 1:
            return np.zeros_like(b)
        second = self.power * (self.power - 1) * raised(b, self.power - 2)
        if self.slope == 1.0:
            return second
        return second * (self.branch(b > 0.0, b.dtype) if slopes is None else slopes) ** 2

    def base_quotient(self, z: Array, e: Array, eps: Any, slopes: Array | None = None) -> Array:
        """Return [b(z + eps e) - b(z)]/eps without subtracting, for eps >= 0 (0: the limit from above).

        Slopes that are given are those at z + eps e, whatever its sign.
        """
        if self.slope == 1.0:
            return e
        c = over(z, eps)
        if slopes is not None:
            at_z = self.branch(z > 0.0, z.dtype)
            return slopes * e + np.multiply(slopes - at_z, c, out=np.zeros_like(c), where=slopes != at_z)
        relu = np.where(z > 0.0, np.maximum(e, -c), np.maximum(0.0, e + c))
        return relu if self.slope == 0.0 else self.slope * e + (1.0 - self.slope) * relu


def over(z: Array, eps: Any) -> Array:
    """Return z/eps for eps >= 0, infinite where that leaves the float range, and 0 where z is."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        quotient: Array = np.divide(z, eps, out=np.zeros_like(z), where=z != 0.0)
    return quotient


def raised(b: Array, k: int) -> Array:
    """Return b^k for an integer k >= 0 by multiplications, which cost less than a power function (b itself for k = 1).

    Examples
    --------
    >>> raised(np.array([2.0, -3.0]), 3).tolist()
    [8.0, -27.0]
    """
    if k == 0:
        return np.ones_like(b)
    power = b
    for _ in range(k - 1):
        power = power * b
    return power


def power_quotient(b: Array, step: Array, eps: Any, k: int) -> Array:
    """Return [(b + eps step)^k - b^k]/eps = step sum_j (b + eps step)^j b^(k-1-j): no digit is lost.

    Examples
    --------
    >>> power_quotient(np.array([3.0]), np.array([1.0]), 0.0, 2).tolist()
    [6.0]
    """
    if k == 1:
        return step
    moved = b + eps * step
    total = np.ones_like(moved)
    for j in range(1, k):  # Horner: after j rounds it is sum_{i<=j} moved^i b^(j-i)
        total = total * moved + raised(b, j)
    return step * total
