"""The difference trick: two copies of one model, both trained, whose difference starts at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit.models.protocol import (
    HomogeneousModel,
    Inputs,
    Invariants,
    given_direction,
    pack_parts,
    parameter_vector,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """The model f(theta_1, theta_2; x) = g(theta_1; x) - g(theta_2; x), homogeneous of g's degree; P = 2 P_g.

    Both copies start in the same place, so every direction of g has zero output, random draws among them. Both are
    trained: a frozen offset would not be homogeneous.

    Parameters
    ----------
    model : HomogeneousModel
        g.

    Raises
    ------
    InputError
        `model` is no model.

    References
    ----------
    Chizat, Oyallon & Bach 2019, arXiv:1812.07956, section 1 (unbiased initialisation by doubling).

    Examples
    --------
    >>> from theorykit.models import MLP
    >>> net = Difference(MLP((3, 8, 1)))
    >>> net.output(net.direction("he", seed=1), [[1.0, -2.0, 0.5]])
    array([0.])
    """

    model: HomogeneousModel

    def __post_init__(self) -> None:
        if not isinstance(self.model, HomogeneousModel):
            raise InputError("model", type(self.model).__name__, "a model of theorykit.models")

    @property
    def parameters(self) -> int:
        """P = 2 P_g."""
        return 2 * self.model.parameters

    @property
    def degree(self) -> int:
        """L, that of g."""
        return self.model.degree

    @property
    def outputs(self) -> int:
        """c, that of g."""
        return self.model.outputs

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"difference of two: {self.model.name}"

    @property
    def d(self) -> Any:
        """Columns of X, where g says how many."""
        return self.model.d  # type: ignore[attr-defined]

    @property
    def directions(self) -> Mapping[str, bool]:
        """The names that g knows; the output vanishes at all of them."""
        return dict.fromkeys(self.model.directions, True)

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0) -> Array:
        """Return (theta_g, theta_g) for a named direction of g, or the user's own array (P,), checked."""
        if not isinstance(init, str):
            return given_direction(init, self.parameters, "theta_1 then theta_2")
        return np.tile(self.model.direction(init, seed), 2)

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return g's named views for both copies: ``plus.W1``, ..., ``minus.W1``, ..."""
        plus, minus = self._halves(theta)
        named = {"plus": self.model.unpack(plus), "minus": self.model.unpack(minus)}
        return {f"{copy}.{name}": view for copy, views in named.items() for name, view in views.items()}

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector of the named parameters."""
        shapes = {name: view.shape for name, view in self.unpack(np.zeros(self.parameters)).items()}
        return pack_parts(parts, shapes)

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Check X once, as g does."""
        return self.model.inputs(X)

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return g(theta_1; x) - g(theta_2; x)."""
        (plus, minus), inputs = self._halves(theta), self.inputs(X)
        return self.model.output(plus, inputs) - self.model.output(minus, inputs)

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        (plus, minus), inputs = self._halves(theta), self.inputs(X)
        return _signed(self.model.vjp(plus, inputs, cotangent), self.model.vjp(minus, inputs, cotangent))

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``: the second copy's forward pass runs twice."""
        (plus, minus), inputs = self._halves(theta), self.inputs(X)
        below = self.model.output(minus, inputs)
        cotangent: list[Array] = []

        def of_both(g: Array) -> Array:
            cotangent.append(np.asarray(cotangent_of_output(g - below)))
            return cotangent[0]

        above, gradient = self.model.value_and_vjp(plus, inputs, of_both)
        return above - below, _signed(gradient, self.model.vjp(minus, inputs, cotangent[0]))

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>."""
        (plus, minus), (up, down), inputs = self._halves(theta), self._halves(tangent, "tangent"), self.inputs(X)
        return self.model.jvp(plus, inputs, up) - self.model.jvp(minus, inputs, down)

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, shape (P,)."""
        (plus, minus), (up, down), inputs = self._halves(theta), self._halves(tangent, "tangent"), self.inputs(X)
        above = self.model.hvp(plus, inputs, cotangent, up)
        return _signed(above, self.model.hvp(minus, inputs, cotangent, down))

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps: the quotient of each copy, subtracted."""
        (plus, minus), (up, down), inputs = self._halves(theta_bar), self._halves(h, "h"), self.inputs(X)
        above = self.model.difference(plus, up, log_eps, inputs)
        return above - self.model.difference(minus, down, log_eps, inputs)

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        (plus, minus), (up, down), inputs = self._halves(theta_bar), self._halves(h, "h"), self.inputs(X)
        below = self.model.difference(minus, down, log_eps, inputs)
        cotangent: list[Array] = []

        def of_both(quotient: Array) -> Array:
            cotangent.append(np.asarray(cotangent_of_difference(quotient - below)))
            return cotangent[0]

        above, first = self.model.difference_and_vjp(plus, up, log_eps, inputs, of_both)
        _, second = self.model.difference_and_vjp(minus, down, log_eps, inputs, lambda _: cotangent[0])
        return above - below, _signed(first, second)

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients at theta (default: the theory's direction), (n, P) or (n, outputs, P)."""
        (plus, minus), inputs = self._halves(self.direction() if theta is None else theta), self.inputs(X)
        return np.concatenate([self.model.features(inputs, plus), -self.model.features(inputs, minus)], axis=-1)

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the kernel: that of theta_1 plus that of theta_2."""
        plus, minus = self._halves(self.direction() if theta is None else theta)
        inputs = self.inputs(X)
        second = None if other is None else self.inputs(other)
        return self.model.ntk(inputs, second, plus) + self.model.ntk(inputs, second, minus)

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return those of theta_1, then those of theta_2."""
        first, second = (self.model.invariants(half) for half in self._halves(theta))
        values, scale = (np.concatenate(pair) for pair in zip(first[:2], second[:2], strict=True))
        return Invariants(values, scale, first.degree)

    def _halves(self, theta: ArrayLike, argument: str = "theta") -> tuple[Array, Array]:
        vector = parameter_vector(theta, self.parameters, "theta_1 then theta_2", argument)
        return vector[: vector.size // 2], vector[vector.size // 2 :]


def _signed(plus: Array, minus: Array) -> Array:
    return np.concatenate([plus, -minus])
