"""What every model of theorykit offers, and the small pieces that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import matrix, vector

Array = NDArray[Any]
Made = TypeVar("Made")


class Invariants(NamedTuple):
    """Quantities that gradient flow conserves, up to the exponential factor that weight decay brings.

    Attributes
    ----------
    values : ndarray, shape (m,)
        I(theta); I(theta(t)) e^(`degree` lambda t) is constant under d(theta)/dt = -grad L - lambda theta.
    scale : ndarray, shape (m,)
        The same expressions with the absolute value of every term: what a drift is relative to.
    degree : int
        I(c theta) = c^degree I(theta) for c > 0.
    """

    values: Array
    scale: Array
    degree: int


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs that a model has checked once: any method takes them in place of X, and skips the check.

    What a model can compute from the inputs alone (patches of images, another floating-point type) is kept with them.

    Attributes
    ----------
    model : HomogeneousModel
        The model that checked them; another one refuses them unless it is equal to it.
    values : ndarray, shape (n, ...)
        The inputs in their working type.
    piece : ndarray, shape (K,), or None
        Slopes of the activations at every kink of a `Kinked` model, held whatever the signs of its preactivations: on
        one piece the model is smooth. None: the slopes follow the signs.
    """

    model: Any
    values: Array
    piece: Array | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return what `make` returned the first time it was called for this key."""
        if key not in self._kept:
            self._kept[key] = make()
        made: Made = self._kept[key]
        return made

    def typed(self, dtype: np.dtype[Any]) -> Array:
        """Return the values in a floating-point type."""
        return self.once(np.dtype(dtype), lambda: self.values.astype(dtype, copy=False))


@runtime_checkable
class HomogeneousModel(Protocol):
    """f(theta; x) with f(c theta; x) = c^L f(theta; x) for c > 0: what flows, kernels and programs ask of a model.

    Shapes: theta and every tangent or gradient is a flat vector (P,). With one output, outputs and cotangents have
    shape (n,), Jacobians (n, P) and kernels (n, m); with c > 1 outputs (n, c), (n, c, P) and (n, c, m, c). X is what
    `inputs` accepts, or what it returned. Everything is float64, and float32 where theta is float32. Nothing is
    divided by n: sums over samples are plain sums.
    """

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        ...

    @property
    def degree(self) -> int:
        """L, the degree of homogeneity in theta."""
        ...

    @property
    def outputs(self) -> int:
        """c, the number of outputs."""
        ...

    @property
    def name(self) -> str:
        """Short name for tables; models that differ in more than their data have different names."""
        ...

    @property
    def directions(self) -> Mapping[str, bool]:
        """The names that `direction` knows, and whether the output is zero for every input there."""
        ...

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0) -> Array:
        """Return the initial direction theta_bar (P,): a named one (draws use the seed) or a given array."""
        ...

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return the parameters by name, as views of theta in their natural shapes."""
        ...

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector that `unpack` takes apart."""
        ...

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Check X once; pass what comes back in place of X where many calls share it."""
        ...

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return f(theta; x_i)."""
        ...

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        ...

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and the vjp with ``cotangent_of_output(f)``, in one forward and one backward pass."""
        ...

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>, shaped as the output."""
        ...

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, shape (P,); at a kink, that of one piece."""
        ...

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps, without subtracting outputs.

        The quotient is carried from layer to layer, so that it keeps its digits for every eps; where eps underflows it
        is the limit from above, the directional derivative.
        """
        ...

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        ...

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradient of every output at theta (default: the theory's direction)."""
        ...

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the inner products of the features of X with those of `other` (default: X)."""
        ...

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return what gradient flow conserves, from theta alone; empty where nothing is known."""
        ...


@runtime_checkable
class Kinked(Protocol):
    """What the flow of a model with kinks needs: where they are, and their normals.

    Every preactivation of an activation whose slope jumps at 0 is a kink, K of them for the samples of some inputs.
    """

    def slopes(self, preactivations: ArrayLike) -> Array:
        """Return the slopes of the activations on the piece of these preactivations, (K,); empty for smooth models."""
        ...

    def preactivations(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return the preactivation at every kink, shape (K,)."""
        ...

    def preactivation_quotients(
        self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs
    ) -> tuple[Array, float]:
        """Return the preactivations at theta_bar + eps h over eps, and the size of what is added up in them."""
        ...

    def preactivation_gradients(self, theta: ArrayLike, X: ArrayLike | Inputs, kinks: ArrayLike) -> Array:
        """Return the gradients of some preactivations, shape (len(kinks), P)."""
        ...

    def samples_of(self, X: Inputs, kinks: ArrayLike) -> NDArray[np.intp]:
        """Return the sample to which each of some kinks belongs, shape (len(kinks),)."""
        ...

    def picked(self, X: Inputs, samples: NDArray[np.intp], pieces: Array) -> Inputs:
        """Return the inputs of some samples, shape (m,), each on a piece of its own; the pieces (m, K) are of all."""
        ...


def parameter_vector(theta: ArrayLike, parameters: int, meaning: str, argument: str = "theta") -> Array:
    """Return theta as a flat float64 array (float32 stays), of the right length."""
    array = np.asarray(theta)
    if array.dtype not in (np.float32, np.float64):
        array = np.asarray(theta, dtype=np.float64)
    if array.shape != (parameters,):
        raise InputError(argument, f"shape {array.shape}", f"shape ({parameters},), {meaning}")
    return array


def given_direction(init: ArrayLike, parameters: int, meaning: str) -> NDArray[np.float64]:
    """Return the user's own initial direction, checked: finite and not zero."""
    array = np.asarray(init)
    if array.shape != (parameters,):
        raise InputError("init", f"shape {array.shape}", f"a name or an array of shape ({parameters},), {meaning}")
    direction = vector("init", array)
    if not direction.any():
        raise InputError("init", "all zeros", "a direction (from theta = 0 the flow does not move)")
    return direction


def known_direction(init: str, names: Iterable[str]) -> str:
    """Return the name of a direction, or raise with the nearest right one."""
    known = list(names)
    if init not in known:
        raise unknown_name("init", init, known)
    return init


def require_zero_output(model: HomogeneousModel, theta: ArrayLike, X: ArrayLike | Inputs) -> None:
    """Raise unless f(theta; x) vanishes to round-off on X: the kernel frame (Assumption 3.2 of lyu2024) needs it.

    An output is zero to round-off where it is below 1e-12 of sum_k |theta_k df/dtheta_k| / L, which is |f| where
    nothing cancels (Euler's identity).

    Raises
    ------
    InputError
        The largest output and its sample.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> require_zero_output(DiagonalNet(d=1), [1.0, 1.0], [[3.0]])
    >>> require_zero_output(DiagonalNet(d=1), [1.0, 0.5], [[3.0]])
    Traceback (most recent call last):
    theorykit._numerics.errors.InputError: init: got output 2.25 on sample 0; wanted zero output for every sample
    """
    inputs = model.inputs(X)
    f = np.abs(model.output(theta, inputs)).reshape(len(inputs), -1).max(axis=1)
    worst = int(np.argmax(f))
    if f[worst] == 0.0:
        return
    terms = np.abs(model.features(model.inputs(inputs.values[worst : worst + 1]), theta) * np.asarray(theta))
    if not f[worst] <= 1e-12 * float(terms.sum(axis=-1).max()) / model.degree:
        raise InputError("init", f"output {f[worst]:g} on sample {worst}", "zero output for every sample")


def perturbed(theta_bar: Array, h: Array, log_eps: float) -> tuple[Array, Any]:
    """Return theta_bar + eps h and eps (in the type of theta_bar; 0 where it underflows)."""
    if not log_eps <= (88.0 if theta_bar.dtype == np.float32 else 709.0):
        raise InputError("log_eps", f"{log_eps!r}", "the logarithm of a finite eps >= 0")
    eps = theta_bar.dtype.type(np.exp(log_eps))
    return theta_bar + eps * h, eps


def cotangent_array(cotangent: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a cotangent in the working type, shaped as the output."""
    array = np.asarray(cotangent, dtype=dtype)
    if array.shape != shape:
        raise InputError("cotangent", f"shape {array.shape}", f"shape {shape}, that of the output")
    return array


def feature_matrix(X: ArrayLike, d: int) -> Array:
    """Return inputs of d features: int8 stays int8, all else is float64."""
    array = matrix("X", X)
    if array.shape[1] != d:
        raise InputError("X", f"{array.shape[1]} features", f"{d}, as many as the model has")
    return array


def index_matrix(X: ArrayLike, columns: int, limits: tuple[int, ...], meaning: str) -> NDArray[np.intp]:
    """Return integers (n, columns), each at least 0 and below the limit of its column."""
    array = matrix("X", X)
    if array.shape[1] != columns:
        raise InputError("X", f"{array.shape[1]} columns", f"{columns}: {meaning}")
    rounded = array.astype(np.intp)
    wrong = (rounded != array) | (rounded < 0) | (rounded >= np.array(limits))
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        wanted = f"integers from 0 to {limits[column] - 1}: {meaning}"
        raise InputError("X", f"{array[row, column]:g} at index {(row, column)}", wanted)
    return rounded


def pack_parts(parts: Mapping[str, ArrayLike], shapes: Mapping[str, tuple[int, ...]]) -> Array:
    """Return the named arrays, checked against their shapes, as one flat vector in the order of `shapes`."""
    if set(parts) != set(shapes):
        raise InputError("parts", f"the names {sorted(parts)}", f"{sorted(shapes)}")
    arrays = {name: np.asarray(parts[name]) for name in shapes}
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise InputError(name, f"shape {array.shape}", f"shape {shapes[name]}")
    single = all(array.dtype == np.float32 for array in arrays.values())
    return np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float32 if single else np.float64)


def unpack_parts(theta: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Return views of the flat vector, in the order of `shapes`."""
    views, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        views[name] = theta[start:stop].reshape(shape)
        start = stop
    return views
