"""A user's own model: an output and its gradient; everything else is derived, and what it has to obey is tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import integer
from theorykit.models.homogeneity import check_homogeneous, measured_degree
from theorykit.models.protocol import (
    Inputs,
    Invariants,
    cotangent_array,
    given_direction,
    known_direction,
    pack_parts,
    parameter_vector,
    perturbed,
    require_zero_output,
)

Array = NDArray[Any]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)  # on [-1, 1]; exact for outputs of degree up to 32
_STEP = 2e-3  # of the fourth-order differences in hvp: both error and round-off are near 1e-12 there


class UserModel:
    """A model of one's own from two NumPy or numba callables: its output, and its Jacobian or its vjp.

    When it is made, it is tested at random parameters on the sample inputs: that it is homogeneous of an integer
    degree, that Euler's identity <theta, grad f> = L f holds, that the gradient is that of the output, and that the
    output vanishes at `direction` if there is one. What the callables do not give is derived: single gradients from
    the vjp, one call for each output; jvp and kernel from the gradients; the difference quotient as the mean of 16
    jvps on the way (Gauss-Legendre: exact for outputs that are polynomials of degree <= 32 there, approximate across a
    kink); hvp by central differences of fourth order (about 1e-11 relative, away from kinks).

    Parameters
    ----------
    output : callable
        ``output(theta, X)`` returns f, shape (n,), or (n, outputs) for several outputs.
    parameters : int
        P.
    X : array_like, shape (n, ...)
        Sample inputs for the tests.
    jacobian : callable
        ``jacobian(theta, X)`` returns the gradients (n, P) or (n, outputs, P). Exactly one of `jacobian` and `vjp`.
    vjp : callable
        ``vjp(theta, X, cotangent)`` returns sum_i <cotangent_i, grad f_i>, shape (P,).
    direction : array_like, shape (P,), optional
        The initial direction ``"theory"``, where the output has to vanish. Without one only arrays and the draw
        ``"gaussian"`` (independent N(0, 1) entries, seeded) are known.
    outputs : int
        Outputs.
    degree : int, optional
        L, if it is known; else it is measured.
    name : str
        For tables.

    Raises
    ------
    InputError
        Names the property that fails and by how much, a missing callable, or one that returns another shape.

    Examples
    --------
    >>> def output(theta, X):
    ...     return X @ theta[:2] * theta[2]
    >>> def jacobian(theta, X):
    ...     return np.column_stack([X * theta[2], X @ theta[:2]])
    >>> X = np.array([[1.0, 2.0], [0.5, -1.0]])
    >>> net = UserModel(output, parameters=3, X=X, jacobian=jacobian, direction=[1.0, 1.0, 0.0])
    >>> net.degree, net.vjp([1.0, 1.0, 2.0], X, [1.0, 1.0]).tolist()
    (2, [3.0, 2.0, 2.5])
    >>> UserModel(lambda theta, X: X @ theta + 1.0, parameters=2, X=X, jacobian=lambda theta, X: X)
    Traceback (most recent call last):
    theorykit._numerics.errors.InputError: model: got a user's model that is not homogeneous: f(2 theta)/f(theta) goes from -0.699 to 1.76; wanted 2^L throughout, L an integer
    """  # noqa: E501

    def __init__(
        self,
        output: Callable[[Array, Array], Array],
        *,
        parameters: int,
        X: ArrayLike,
        jacobian: Callable[[Array, Array], Array] | None = None,
        vjp: Callable[[Array, Array, Array], Array] | None = None,
        direction: ArrayLike | None = None,
        outputs: int = 1,
        degree: int | None = None,
        name: str = "user's model",
    ) -> None:
        for what, function in (("output", output), ("jacobian", jacobian), ("vjp", vjp)):
            if not callable(function) and (function is not None or what == "output"):
                raise InputError(what, repr(function), "a function of (theta, X)")
        if (jacobian is None) == (vjp is None):
            got = "neither" if jacobian is None else "both"
            raise InputError("jacobian", f"{got} jacobian and vjp", "exactly one of jacobian= and vjp=")
        self._output, self._jacobian, self._vjp = output, jacobian, vjp
        self.parameters, self.outputs = integer("parameters", parameters, minimum=1), outputs
        integer("outputs", outputs, minimum=1)
        self.name = name
        inputs = self.inputs(X)
        self.degree = measured_degree(self, inputs) if degree is None else integer("degree", degree, minimum=1)
        self._direction = None if direction is None else given_direction(direction, self.parameters, "as theta")
        check_homogeneous(self, inputs).raise_for_failure()
        if self._direction is not None:
            require_zero_output(self, self._direction, inputs)

    @property
    def directions(self) -> Mapping[str, bool]:
        """Names of the initial directions, and whether the output vanishes there."""
        return ({} if self._direction is None else {"theory": True}) | {"gaussian": False}

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0) -> Array:
        """Return ``"theory"`` (as given), ``"gaussian"`` (N(0, 1) entries, seeded), or the user's array, checked."""
        if not isinstance(init, str):
            return given_direction(init, self.parameters, "as theta")
        if known_direction(init, self.directions) == "gaussian":
            return np.random.default_rng(integer("seed", seed, minimum=0)).standard_normal(self.parameters)
        assert self._direction is not None
        return self._direction.copy()

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return ``{"theta": theta}``."""
        return {"theta": self._theta(theta)}

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector."""
        return pack_parts(parts, {"theta": (self.parameters,)})

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Take X as it is, as an array: what it means is up to the callables."""
        if isinstance(X, Inputs):
            return X if X.model is self else Inputs(self, X.values)
        array = np.asarray(X)
        if array.ndim == 0 or array.shape[0] == 0:
            raise InputError("X", f"shape {array.shape}", "at least one sample")
        return Inputs(self, array)

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return f(theta; x)."""
        inputs = self.inputs(X)
        f = self._output(self._theta(theta), inputs.values)
        return self._expect("output", f, self._output_shape(inputs))

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        inputs, theta = self.inputs(X), self._theta(theta)
        cotangent = cotangent_array(cotangent, self._output_shape(inputs), theta.dtype)
        if self._vjp is None:
            return cotangent.ravel() @ self.features(inputs, theta).reshape(-1, self.parameters)
        return self._expect("vjp", self._vjp(theta, inputs.values, cotangent), (self.parameters,))

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``."""
        inputs = self.inputs(X)
        f = self.output(theta, inputs)
        return f, self.vjp(theta, inputs, cotangent_of_output(f))

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>, from the single gradients."""
        return self.features(X, theta) @ parameter_vector(tangent, self.parameters, "as theta", "tangent")

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, by central differences of fourth order."""
        theta, inputs = self._theta(theta), self.inputs(X)
        tangent = parameter_vector(tangent, self.parameters, "as theta", "tangent")
        length = np.linalg.norm(tangent)
        if length == 0.0:
            return np.zeros_like(theta)
        step = _STEP * (np.linalg.norm(theta) or 1.0) / length
        near, far = (
            self.vjp(theta + k * step * tangent, inputs, cotangent)
            - self.vjp(theta - k * step * tangent, inputs, cotangent)
            for k in (1, 2)
        )
        return (8.0 * near - far) / (12.0 * step)

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps as the mean of the jvp on the way from one to the other."""
        theta_bar, inputs = self._theta(theta_bar), self.inputs(X)
        h = parameter_vector(h, self.parameters, "as theta_bar", "h")
        moved, eps = perturbed(theta_bar, h, log_eps)
        if np.array_equal(moved, theta_bar):
            return self.jvp(theta_bar, inputs, h)
        ways = zip((_NODES + 1.0) / 2.0, _WEIGHTS / 2.0, strict=True)
        return np.sum([weight * self.jvp(theta_bar + way * eps * h, inputs, h) for way, weight in ways], axis=0)

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        inputs, theta_bar = self.inputs(X), self._theta(theta_bar)
        quotient = self.difference(theta_bar, h, log_eps, inputs)
        moved, _ = perturbed(theta_bar, parameter_vector(h, self.parameters, "as theta_bar", "h"), log_eps)
        return quotient, self.vjp(moved, inputs, cotangent_of_difference(quotient))

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients at theta (default: the theory's direction), (n, P) or (n, outputs, P)."""
        inputs = self.inputs(X)
        theta = self.direction() if theta is None else self._theta(theta)
        shape = self._output_shape(inputs)
        if self._jacobian is not None:
            return self._expect("jacobian", self._jacobian(theta, inputs.values), (*shape, self.parameters))
        units = np.eye(int(np.prod(shape)), dtype=theta.dtype)
        rows = [self.vjp(theta, inputs, unit.reshape(shape)) for unit in units]
        return np.array(rows).reshape(*shape, self.parameters)

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the Gram matrix of the features, (n, m) or (n, outputs, m, outputs)."""
        left = self.features(X, theta)
        right = left if other is None else self.features(other, theta)
        return np.tensordot(left, right, axes=(-1, -1))

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return none: what a user's model conserves is not known."""
        self._theta(theta)
        return Invariants(np.zeros(0), np.zeros(0), 2)

    def _theta(self, theta: ArrayLike) -> Array:
        return parameter_vector(theta, self.parameters, "the model's parameters")

    def _output_shape(self, inputs: Inputs) -> tuple[int, ...]:
        return (len(inputs),) if self.outputs == 1 else (len(inputs), self.outputs)

    def _expect(self, argument: str, value: Any, shape: tuple[int, ...]) -> Array:
        array = np.asarray(value)
        if array.shape != shape:
            raise InputError(argument, f"a callable that returned shape {array.shape}", f"shape {shape}")
        return array
