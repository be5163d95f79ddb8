"""Matrix factorisation: symmetric, W = U U^T - V V^T, and asymmetric, W = U V^T."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer
from theorykit.models.protocol import (
    Inputs,
    Invariants,
    cotangent_array,
    given_direction,
    index_matrix,
    known_direction,
    pack_parts,
    parameter_vector,
    perturbed,
    unpack_parts,
)

Array = NDArray[Any]

_LARGE, _SPARSE = 2500, 0.2  # entries of W from which, and the share of them up to which, a few are computed one by one


@dataclass(frozen=True)
class MatrixFactorization:
    """The entries f(U, V; (i, j)) = W_ij of W = U U^T - V V^T (symmetric) or W = U V^T; degree 2.

    An input is a pair of integers (i, j), counted from 0. In the symmetric case (i, j) and (j, i) are the same
    function of the parameters.

    Parameters
    ----------
    d : int
        Rows of W.
    columns : int, optional
        Columns of W, for the asymmetric one; default: d.
    rank : int, optional
        Columns of U and of V; default: the smaller side of W.
    symmetric : bool
        Which of the two.

    Raises
    ------
    InputError
        A size < 1, or a symmetric W that is not square.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, section 3.4.

    Examples
    --------
    >>> net = MatrixFactorization(d=2)
    >>> net.output([2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [[0, 0], [0, 1], [1, 1]])
    array([4., 0., 0.])
    >>> MatrixFactorization(d=3, columns=5, rank=2, symmetric=False).parameters
    16
    """

    d: int
    columns: int | None = None
    rank: int | None = None
    symmetric: bool = True

    def __post_init__(self) -> None:
        integer("d", self.d, minimum=1)
        for name in ("columns", "rank"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), minimum=1)
        if self.symmetric and self.columns not in (None, self.d):
            raise InputError("columns", str(self.columns), f"{self.d}, as many as rows: a symmetric matrix is square")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of W."""
        return self.d, self.columns or self.d

    @property
    def outputs(self) -> int:
        """One: an entry."""
        return 1

    @property
    def degree(self) -> int:
        """L = 2."""
        return 2

    @property
    def name(self) -> str:
        """Short name for tables."""
        rank = f" of rank {self.rank}" if self.rank else ""
        if self.symmetric:
            return f"symmetric factorisation{rank}"
        return f"{self.d} x {self.size[1]} factorisation{rank}"

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Names and shapes of the parameters in their order in theta."""
        rank = self.rank or min(self.size)
        return {"U": (self.size[0], rank), "V": (self.size[1], rank)}

    @cached_property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return sum(rows * rank for rows, rank in self.shapes.values())

    @property
    def directions(self) -> Mapping[str, bool]:
        """Names of the initial directions, and whether W = 0 there."""
        both = {"theory": True, "unit": True}
        return both | ({"perturbed": False} if self.symmetric else {"zero_last": True}) | {"he": False}

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0, *, sigma: float = 1e-3) -> Array:
        """Return an initial direction theta_bar = (U, V).

        Parameters
        ----------
        init : str or array_like, shape (P,)
            - ``"theory"``: (I, I), or (I, 0) in the asymmetric case, I with ones on the diagonal; W = 0.
            - ``"unit"``: the same with Euclidean norm 1.
            - ``"perturbed"`` (symmetric): independent N(1{i = j}, sigma^2) entries of U and V.
            - ``"zero_last"`` (asymmetric): U as in ``"he"``, V = 0; W = 0.
            - ``"he"``: independent N(0, 1/rank) entries.
            - an array: any finite, non-zero direction.
        seed : int
            Of the draw.
        sigma : float
            Of the perturbation. Theorem 3.12 of lyu2024 perturbs theta(0) = alpha theta_bar, by sigma' in every entry:
            then sigma = sigma'/alpha.

        Returns
        -------
        ndarray, shape (P,)

        Raises
        ------
        InputError
            Unknown name, wrong length, non-finite or all-zero array, negative seed or sigma.

        Examples
        --------
        >>> MatrixFactorization(d=2).direction("theory").tolist()
        [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
        """
        if not isinstance(init, str):
            return given_direction(init, self.parameters, "U then V, in rows")
        known_direction(init, self.directions)
        rng = np.random.default_rng(integer("seed", seed, minimum=0))
        finite("sigma", sigma, minimum=0.0)
        if init in ("he", "zero_last"):
            theta = rng.standard_normal(self.parameters) / np.sqrt(self.shapes["U"][1])
        else:
            theta = np.concatenate([np.eye(rows, rank).ravel() for rows, rank in self.shapes.values()])
        if init == "perturbed":
            theta += sigma * rng.standard_normal(self.parameters)
        elif not self.symmetric and init != "he":
            self.unpack(theta)["V"][...] = 0.0
        return theta / np.linalg.norm(theta) if init == "unit" else theta

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return views of theta: U (d, rank) and V (columns, rank)."""
        return unpack_parts(self._theta(theta), self.shapes)

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector of U and V."""
        return pack_parts(parts, self.shapes)

    def matrix(self, theta: ArrayLike) -> Array:
        """Return W, shape (d, columns).

        Examples
        --------
        >>> net = MatrixFactorization(d=2)
        >>> float(np.abs(net.matrix(net.direction("theory"))).max())
        0.0
        """
        U, V = self.unpack(theta).values()
        return U @ U.T - V @ V.T if self.symmetric else U @ V.T

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Check the pairs (i, j) once: what comes back can stand for X in every method of this model.

        Raises
        ------
        InputError
            Not two columns, or entries that are no integers or outside the matrix.
        """
        if isinstance(X, Inputs) and X.model == self:
            return X
        entries = X.values if isinstance(X, Inputs) else X
        return Inputs(self, index_matrix(entries, 2, self.size, "row and column of an entry"))

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return W_ij for every pair, shape (n,)."""
        theta, inputs = self._theta(theta), self.inputs(X)
        if not self._are_few(theta, inputs):
            return self._entries(self.matrix(theta), inputs)
        from theorykit.models import _entries as compiled

        f = np.empty(len(inputs))
        write = compiled.symmetric_products if self.symmetric else compiled.products
        write(*self.unpack(theta).values(), *self._pairs(inputs), f)
        return f

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        theta, inputs = self._theta(theta), self.inputs(X)
        return self._backward(theta, inputs, cotangent_array(cotangent, (len(inputs),), theta.dtype))

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``."""
        theta, inputs = self._theta(theta), self.inputs(X)
        f = self.output(theta, inputs)
        return f, self._backward(theta, inputs, cotangent_array(cotangent_of_output(f), f.shape, theta.dtype))

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>, shape (n,)."""
        theta = self._theta(theta)
        return self._entries(self._change(theta, theta, self._vector(tangent, "tangent", theta)), self.inputs(X))

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` along the tangent, shape (P,): f is quadratic, so it is a vjp there."""
        return self.vjp(self._vector(tangent, "tangent", self._theta(theta)), X, cotangent)

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps, without subtracting outputs."""
        theta_bar = self._theta(theta_bar)
        h = self._vector(h, "h", theta_bar)
        moved, _ = perturbed(theta_bar, h, log_eps)
        return self._entries(self._change(theta_bar, moved, h), self.inputs(X))

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        theta_bar, inputs = self._theta(theta_bar), self.inputs(X)
        h = self._vector(h, "h", theta_bar)
        moved, _ = perturbed(theta_bar, h, log_eps)
        quotient = self._entries(self._change(theta_bar, moved, h), inputs)
        cotangent = cotangent_array(cotangent_of_difference(quotient), quotient.shape, theta_bar.dtype)
        return quotient, self._backward(moved, inputs, cotangent)

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients at theta (default: the theory's direction), shape (n, P)."""
        theta, inputs = self._theta_or_default(theta), self.inputs(X)
        U, V = self.unpack(theta).values()
        i, j = inputs.values.T
        every = np.arange(len(inputs))
        of_U, of_V = (np.zeros((len(inputs), *part.shape), dtype=theta.dtype) for part in (U, V))
        if self.symmetric:
            for a, b in ((i, j), (j, i)):  # one after the other: on the diagonal both hit the same row
                of_U[every, a] += U[b]
                of_V[every, a] -= V[b]
        else:
            of_U[every, i], of_V[every, j] = V[j], U[i]
        return np.hstack([of_U.reshape(len(inputs), -1), of_V.reshape(len(inputs), -1)])

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the Gram matrix of the features without forming them, shape (n, m)."""
        U, V = self.unpack(self._theta_or_default(theta)).values()
        i, j = self.inputs(X).values.T
        k, m = (i, j) if other is None else self.inputs(other).values.T
        if not self.symmetric:
            return _same(i, k) * (V @ V.T)[np.ix_(j, m)] + _same(j, m) * (U @ U.T)[np.ix_(i, k)]
        G = U @ U.T + V @ V.T
        pairs = ((i, k, j, m), (i, m, j, k), (j, k, i, m), (j, m, i, k))
        return np.sum([_same(a, b) * G[np.ix_(c, e)] for a, b, c, e in pairs], axis=0)

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return the entries of V^T U (symmetric), or of U^T U - V^T V; degree 2."""
        U, V = self.unpack(theta).values()
        A, B = np.abs(U), np.abs(V)
        if self.symmetric:
            return Invariants((V.T @ U).ravel(), (B.T @ A).ravel(), 2)
        return Invariants((U.T @ U - V.T @ V).ravel(), (A.T @ A + B.T @ B).ravel(), 2)

    def _theta(self, theta: ArrayLike) -> Array:
        return parameter_vector(theta, self.parameters, "U then V, in rows")

    def _theta_or_default(self, theta: ArrayLike | None) -> Array:
        return self.direction() if theta is None else self._theta(theta)

    def _vector(self, value: ArrayLike, argument: str, theta: Array) -> Array:
        return parameter_vector(value, self.parameters, "as theta", argument).astype(theta.dtype, copy=False)

    def _places(self, inputs: Inputs) -> NDArray[np.intp]:
        """Return where the entries are in the flat matrix."""
        i, j = inputs.values.T
        return inputs.once("places", lambda: i * self.size[1] + j)

    def _pairs(self, inputs: Inputs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and the columns of the entries."""

        def made() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            i, j = np.ascontiguousarray(inputs.values.T, dtype=np.int64)
            return i, j

        return inputs.once("pairs", made)

    def _are_few(self, theta: Array, inputs: Inputs) -> bool:
        """Whether the entries are so few of a large matrix that computing them one by one is cheaper than all."""
        whole = self.size[0] * self.size[1]
        return whole >= _LARGE and len(inputs) <= _SPARSE * whole and theta.dtype == np.float64

    def _entries(self, W: Array, inputs: Inputs) -> Array:
        return W.ravel().take(self._places(inputs))

    def _change(self, theta: Array, moved: Array, h: Array) -> Array:
        """Return [W(moved) - W(theta)]/eps for moved = theta + eps h; moved = theta gives the derivative."""
        (U, V), (A, B), (H, K) = (self.unpack(vector).values() for vector in (theta, moved, h))
        if self.symmetric:
            return H @ U.T + A @ H.T - K @ V.T - B @ K.T
        return H @ V.T + A @ K.T

    def _backward(self, theta: Array, inputs: Inputs, cotangent: Array) -> Array:
        """Return the vjp: the cotangents as a matrix, times the factors."""
        if self._are_few(theta, inputs):
            return self._backward_of_few(theta, inputs, cotangent)
        rows, columns = self.size
        S = np.bincount(self._places(inputs), cotangent, rows * columns).reshape(rows, columns)
        S = S.astype(theta.dtype, copy=False)
        gradient = np.empty_like(theta)
        (U, V), (of_U, of_V) = self.unpack(theta).values(), self.unpack(gradient).values()
        if self.symmetric:
            S = S + S.T
            np.matmul(S, U, out=of_U)
            np.matmul(-S, V, out=of_V)
        else:
            np.matmul(S, V, out=of_U)
            np.matmul(S.T, U, out=of_V)
        return gradient

    def _backward_of_few(self, theta: Array, inputs: Inputs, cotangent: Array) -> Array:
        """Return the vjp, entry by entry."""
        from theorykit.models import _entries as compiled

        gradient, c = np.empty_like(theta), np.ascontiguousarray(cotangent, dtype=np.float64)
        write = compiled.symmetric_gradients if self.symmetric else compiled.gradients
        write(*self.unpack(theta).values(), *self._pairs(inputs), c, *self.unpack(gradient).values())
        return gradient


def _same(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.bool_]:
    return a[:, None] == b
