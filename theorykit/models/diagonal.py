"""Diagonal linear nets of any degree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.validate import integer
from theorykit.models.activations import power_quotient, raised
from theorykit.models.protocol import (
    Inputs,
    Invariants,
    cotangent_array,
    feature_matrix,
    given_direction,
    known_direction,
    pack_parts,
    parameter_vector,
    perturbed,
    unpack_parts,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class DiagonalNet:
    """The net f(u, v; x) = sum_k (u_k^L - v_k^L) x_k, parameters theta = (u, v), P = 2d.

    Homogeneous of degree L: f(c theta; x) = c^L f(theta; x). Linear in x, with predictor w = u^L - v^L.

    Parameters
    ----------
    d : int
        Input features.
    degree : int
        L, at least 2.

    Raises
    ------
    InputError
        `d` < 1, or `degree` < 2 or not an integer.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, section 3.2 (L = 2).

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=3)
    >>> net.weights(net.direction("theory")).tolist()
    [0.0, 0.0]
    """

    d: int
    degree: int = 2

    def __post_init__(self) -> None:
        integer("d", self.d, minimum=1)
        integer("degree", self.degree, minimum=2)

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return 2 * self.d

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "diagonal"

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters in their order in theta."""
        return {"u": (self.d,), "v": (self.d,)}

    @property
    def directions(self) -> Mapping[str, bool]:
        """Names of the initial directions, and whether the output vanishes there."""
        return {"theory": True, "unit": True}

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0) -> NDArray[np.float64]:
        """Return the initial direction: ``"theory"`` is (1, ..., 1), ``"unit"`` the same with Euclidean norm 1.

        Parameters
        ----------
        init : str or array_like, shape (2d,)
            A name, or any finite non-zero array.
        seed : int
            Of the draw; neither name is one.

        Returns
        -------
        ndarray, shape (2d,)

        Raises
        ------
        InputError
            Unknown name, wrong length, non-finite or all-zero array.

        Examples
        --------
        >>> float(np.linalg.norm(DiagonalNet(d=50).direction("unit")).round(12))
        1.0
        """
        if not isinstance(init, str):
            return given_direction(init, self.parameters, "u then v")
        known_direction(init, self.directions)
        ones = np.ones(self.parameters)
        return ones if init == "theory" else ones / np.sqrt(self.parameters)

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return views of theta: u and v, each (d,)."""
        return unpack_parts(self._parameters(theta), self.shapes)

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector of u and v."""
        return pack_parts(parts, self.shapes)

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Check X once: what comes back can stand for X in every method of this model.

        Raises
        ------
        InputError
            Wrong number of features, or non-finite entries.
        """
        if isinstance(X, Inputs) and X.model == self:
            return X
        return Inputs(self, feature_matrix(X.values if isinstance(X, Inputs) else X, self.d))

    def weights(self, theta: ArrayLike) -> Array:
        """Return the linear predictor w = u^L - v^L, shape (d,).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).weights([2.0, 1.0])
        array([3.])
        """
        u, v = np.split(self._parameters(theta), 2)
        return raised(u, self.degree) - raised(v, self.degree)

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return f(theta; x) for each row of X, shape (n,).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).output([2.0, 1.0], [[1.0], [-1.0]])
        array([ 3., -3.])
        """
        w = self.weights(theta)
        return self._rows(X, w) @ w

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i cotangent_i grad f_i(theta), shape (2d,).

        Examples
        --------
        >>> DiagonalNet(d=1).vjp([2.0, 1.0], [[1.0], [3.0]], [1.0, 1.0])
        array([16., -8.])
        """
        theta = self._parameters(theta)
        return self._slopes(theta) * self._both(self._backward(X, theta, cotangent))

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``."""
        inputs = self.inputs(X)
        f = self.output(theta, inputs)
        return f, self.vjp(theta, inputs, cotangent_of_output(f))

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>, shape (n,)."""
        theta = self._parameters(theta)
        u, v = np.split(self._slopes(theta) * self._vector(tangent, "tangent", theta), 2)
        return self._rows(X, theta) @ (u - v)

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, shape (2d,)."""
        theta = self._parameters(theta)
        curvatures = self.degree * (self.degree - 1) * raised(theta, self.degree - 2)
        moved = curvatures * self._vector(tangent, "tangent", theta)
        return moved * self._both(self._backward(X, theta, cotangent))

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps, without subtracting outputs.

        Examples
        --------
        >>> DiagonalNet(d=1).difference([1.0, 1.0], [3.0, 0.0], -10_000.0, [[1.0]])
        array([6.])
        """
        theta_bar = self._parameters(theta_bar)
        h = self._vector(h, "h", theta_bar)
        _, eps = perturbed(theta_bar, h, log_eps)
        u, v = np.split(power_quotient(theta_bar, h, eps, self.degree), 2)
        return self._rows(X, theta_bar) @ (u - v)

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        inputs, theta_bar = self.inputs(X), self._parameters(theta_bar)
        quotient = self.difference(theta_bar, h, log_eps, inputs)
        moved, _ = perturbed(theta_bar, self._vector(h, "h", theta_bar), log_eps)
        return quotient, self.vjp(moved, inputs, cotangent_of_difference(quotient))

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients of f at theta (default: the theory's direction), shape (n, 2d).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).features([[3.0]])
        array([[ 6., -6.]])
        """
        theta = self.direction() if theta is None else self._parameters(theta)
        rows = self._rows(X, theta)
        return self._slopes(theta) * np.hstack([rows, -rows])

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the Gram matrix of the features without forming them, shape (n, m).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).ntk([[3.0]])
        array([[72.]])
        """
        theta = self.direction() if theta is None else self._parameters(theta)
        u, v = np.split(self._slopes(theta) ** 2, 2)
        rows = self._rows(X, theta)
        return (rows * (u + v)) @ (rows if other is None else self._rows(other, theta)).T

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return u_k v_k, of degree 2, for L = 2, and u_k^(2-L) + v_k^(2-L), of degree 2 - L, for L > 2.

        A coordinate that is 0 stays 0; for L > 2 its term is infinite.

        Examples
        --------
        >>> DiagonalNet(d=1, degree=4).invariants([0.5, 1.0]).values
        array([5.])
        """
        theta = self._parameters(theta)
        if self.degree == 2:
            u, v = np.split(theta, 2)
            return Invariants(u * v, np.abs(u * v), 2)
        with np.errstate(divide="ignore"):
            u, v = np.split(1.0 / raised(theta, self.degree - 2), 2)
        return Invariants(u + v, np.abs(u) + np.abs(v), 2 - self.degree)

    def _parameters(self, theta: ArrayLike) -> Array:
        return parameter_vector(theta, self.parameters, "u then v")

    def _vector(self, value: ArrayLike, argument: str, theta: Array) -> Array:
        return parameter_vector(value, self.parameters, "u then v", argument).astype(theta.dtype, copy=False)

    def _rows(self, X: ArrayLike | Inputs, like: Array) -> Array:
        return self.inputs(X).typed(like.dtype)

    def _slopes(self, theta: Array) -> Array:
        return self.degree * raised(theta, self.degree - 1)

    def _backward(self, X: ArrayLike | Inputs, theta: Array, cotangent: ArrayLike) -> Array:
        rows = self._rows(X, theta)
        return cotangent_array(cotangent, (rows.shape[0],), theta.dtype) @ rows

    def _both(self, of_weights: Array) -> Array:
        return np.concatenate([of_weights, -of_weights])
