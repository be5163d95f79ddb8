"""The difference trick: two copies of one model, both trained, whose difference starts at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit.models.protocol import (
    HomogeneousModel,
    Inputs,
    Invariants,
    Kinked,
    given_direction,
    pack_parts,
    parameter_vector,
)

Array = NDArray[Any]
Cotangent = Callable[[Array], Array]


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
        (plus, minus), (ours, theirs) = self._halves(theta), self._copies(X)
        return self.model.output(plus, ours) - self.model.output(minus, theirs)

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        (plus, minus), (ours, theirs) = self._halves(theta), self._copies(X)
        return _signed(self.model.vjp(plus, ours, cotangent), self.model.vjp(minus, theirs, cotangent))

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Cotangent
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``."""
        (plus, minus), (ours, theirs) = self._halves(theta), self._copies(X)
        return _jointly(
            lambda cotangent: self.model.value_and_vjp(plus, ours, cotangent),
            lambda cotangent: self.model.value_and_vjp(minus, theirs, cotangent),
            cotangent_of_output,
        )

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>."""
        (plus, minus), (up, down), (ours, theirs) = (
            self._halves(theta),
            self._halves(tangent, "tangent"),
            self._copies(X),
        )
        return self.model.jvp(plus, ours, up) - self.model.jvp(minus, theirs, down)

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, shape (P,)."""
        (plus, minus), (up, down), (ours, theirs) = (
            self._halves(theta),
            self._halves(tangent, "tangent"),
            self._copies(X),
        )
        above = self.model.hvp(plus, ours, cotangent, up)
        return _signed(above, self.model.hvp(minus, theirs, cotangent, down))

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps: the quotient of each copy, subtracted."""
        (plus, minus), (up, down), (ours, theirs) = self._halves(theta_bar), self._halves(h, "h"), self._copies(X)
        above = self.model.difference(plus, up, log_eps, ours)
        return above - self.model.difference(minus, down, log_eps, theirs)

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Cotangent,
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        (plus, minus), (up, down), (ours, theirs) = self._halves(theta_bar), self._halves(h, "h"), self._copies(X)
        return _jointly(
            lambda cotangent: self.model.difference_and_vjp(plus, up, log_eps, ours, cotangent),
            lambda cotangent: self.model.difference_and_vjp(minus, down, log_eps, theirs, cotangent),
            cotangent_of_difference,
        )

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients at theta (default: the theory's direction), (n, P) or (n, outputs, P)."""
        (plus, minus), (ours, theirs) = self._halves(self.direction() if theta is None else theta), self._copies(X)
        return np.concatenate([self.model.features(ours, plus), -self.model.features(theirs, minus)], axis=-1)

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the kernel: that of theta_1 plus that of theta_2."""
        plus, minus = self._halves(self.direction() if theta is None else theta)
        ours, theirs = self._copies(X)
        others = (None, None) if other is None else self._copies(other)
        return self.model.ntk(ours, others[0], plus) + self.model.ntk(theirs, others[1], minus)

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return those of theta_1, then those of theta_2."""
        first, second = (self.model.invariants(half) for half in self._halves(theta))
        values, scale = (np.concatenate(pair) for pair in zip(first[:2], second[:2], strict=True))
        return Invariants(values, scale, first.degree)

    def slopes(self, preactivations: ArrayLike) -> Array:
        """Return the slopes of the activations of both copies on the piece of these preactivations; see `Kinked`."""
        return self._kinked.slopes(preactivations)

    def preactivations(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return those of theta_1, then those of theta_2; none where g is smooth or says nothing about its kinks."""
        if not isinstance(self.model, Kinked):
            return np.zeros(0)
        pairs = zip(self._halves(theta), self._copies(X), strict=True)
        return np.concatenate([self.model.preactivations(half, inputs) for half, inputs in pairs])

    def preactivation_quotients(
        self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs
    ) -> tuple[Array, float]:
        """Return the preactivations of both copies at theta_bar + eps h over eps, and the size of h's part."""
        triples = zip(self._halves(theta_bar), self._halves(h, "h"), self._copies(X), strict=True)
        found = [self._kinked.preactivation_quotients(bar, up, log_eps, inputs) for bar, up, inputs in triples]
        return np.concatenate([values for values, _ in found]), max(size for _, size in found)

    def preactivation_gradients(self, theta: ArrayLike, X: ArrayLike | Inputs, kinks: ArrayLike) -> Array:
        """Return the gradients of some preactivations of either copy, shape (len(kinks), P)."""
        kinks, model = np.asarray(kinks, dtype=np.intp), self._kinked
        (plus, minus), (ours, theirs) = self._halves(theta), self._copies(X)
        first = model.preactivations(plus, ours).size
        out = np.zeros((kinks.size, self.parameters))
        out[kinks < first, : plus.size] = model.preactivation_gradients(plus, ours, kinks[kinks < first])
        out[kinks >= first, plus.size :] = model.preactivation_gradients(minus, theirs, kinks[kinks >= first] - first)
        return out

    def samples_of(self, X: Inputs, kinks: ArrayLike) -> NDArray[np.intp]:
        """Return the sample to which each of some kinks of either copy belongs; see `Kinked`."""
        assert X.piece is not None
        return self._kinked.samples_of(X, np.asarray(kinks, dtype=np.intp) % (X.piece.size // 2))

    def picked(self, X: Inputs, samples: NDArray[np.intp], pieces: Array) -> Inputs:
        """Return the inputs of some samples, each on a piece of its own; see `Kinked`."""
        found = [self._kinked.picked(X, samples, half) for half in np.split(pieces, 2, axis=1)]
        halves = [inputs.piece for inputs in found if inputs.piece is not None]
        return replace(found[0], piece=np.concatenate(halves))

    @property
    def _kinked(self) -> Kinked:
        assert isinstance(self.model, Kinked)
        return self.model

    def _copies(self, X: ArrayLike | Inputs) -> tuple[Inputs, Inputs]:
        """Return the inputs of both copies, which differ where the slopes of the activations are held."""
        inputs = self.inputs(X)
        if inputs.piece is None:
            return inputs, inputs
        plus, minus = np.split(inputs.piece, 2)
        return replace(inputs, piece=plus), replace(inputs, piece=minus)

    def _halves(self, theta: ArrayLike, argument: str = "theta") -> tuple[Array, Array]:
        vector = parameter_vector(theta, self.parameters, "theta_1 then theta_2", argument)
        return vector[: vector.size // 2], vector[vector.size // 2 :]


def _jointly(
    plus: Callable[[Cotangent], tuple[Array, Array]],
    minus: Callable[[Cotangent], tuple[Array, Array]],
    cotangent_of: Cotangent,
) -> tuple[Array, Array]:
    """Return the difference of two values and its vjp, running the second copy between the first one's passes."""
    found: dict[str, Array] = {}

    def between(above: Array) -> Array:
        def back(below: Array) -> Array:
            found["value"] = above - below
            found["cotangent"] = np.asarray(cotangent_of(found["value"]))
            return found["cotangent"]

        found["second"] = minus(back)[1]
        return found["cotangent"]

    _, first = plus(between)
    return found["value"], _signed(first, found["second"])


def _signed(plus: Array, minus: Array) -> Array:
    return np.concatenate([plus, -minus])
