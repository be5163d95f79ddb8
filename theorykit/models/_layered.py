"""What every net of layers shares: one forward and one backward recursion, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.validate import integer
from theorykit.models._layers import Layer, dense
from theorykit.models.activations import Activation, over, power_quotient
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


class _Trace(NamedTuple):
    """What a forward pass leaves for the backward pass."""

    lifted: list[Array]  # of every layer
    bases: list[Array]  # b(z) behind every layer but the last
    slopes: list[Array | None]  # of the activations there, where they are held
    z: Array  # of the last layer


class LayeredNet:
    """A net a_l = phi(lift_l(a_{l-1}) W_l) with a linear last layer; subclasses say which layers.

    Only the first layer may have a bias: further up it would spoil homogeneity.

    The gradient of one weight matrix is a product of lifted activations and backward signals, so a kernel needs only
    their Gram matrices.
    """

    outputs: int

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, first to last."""
        raise NotImplementedError

    @cached_property
    def phi(self) -> Activation:
        """The activation between the layers."""
        raise NotImplementedError

    @cached_property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def degree(self) -> int:
        """L: one for each layer, and each activation multiplies what came before by its power."""
        degree = 1
        for _ in self.layers[1:]:
            degree = self.phi.power * degree + 1
        return degree

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters in their order in theta: W1, b1, W2, ..."""
        return {name: shape for k, layer in enumerate(self.layers) for name, shape in layer.shapes(k + 1).items()}

    @property
    def directions(self) -> Mapping[str, bool]:
        """Names of the initial directions, and whether the output vanishes there."""
        hidden = [layer.units for layer in self.layers[:-1]]
        twin = {"twin": True} if hidden and all(units % 2 == 0 for units in hidden) else {}
        return {"theory": True, "zero_last": True} | twin | {"he": False, "orthogonal": False}

    def direction(self, init: str | ArrayLike = "theory", seed: int = 0) -> Array:
        """Return an initial direction theta_bar.

        Biases start at 0. Same name and seed, same numbers, bit for bit.

        Parameters
        ----------
        init : str or array_like, shape (P,)
            - ``"zero_last"``, also called ``"theory"``: a He draw with the last layer 0; zero output.
            - ``"twin"``: two copies side by side, units of even and of odd number, of one He draw of half the widths,
              with opposite read-outs; zero output. Needs even numbers of hidden units (channels).
            - ``"he"``: W_l ~ N(0, 2/width), width the number of rows of W_l.
            - ``"orthogonal"``: W_l has orthonormal columns (rows where it is wide), Haar distributed.
            - an array: any finite, non-zero direction.
        seed : int
            Of the draw.

        Returns
        -------
        ndarray, shape (P,)

        Raises
        ------
        InputError
            Unknown name, wrong length, non-finite or all-zero array, negative seed.
        """
        if not isinstance(init, str):
            return given_direction(init, self.parameters, "W1, b1, W2, ... in rows")
        known_direction(init, self.directions)
        rng = np.random.default_rng(integer("seed", seed, minimum=0))
        theta = np.zeros(self.parameters)
        parts = self.unpack(theta)
        matrices = [parts[f"W{k + 1}"] for k in range(len(self.layers))]
        for k, W in enumerate(matrices):
            if init == "twin":
                self._put_twins(rng, W, k)
            else:
                W[...] = _orthogonal(rng, *W.shape) if init == "orthogonal" else _he(rng, *W.shape)
        if init in ("theory", "zero_last"):
            matrices[-1][...] = 0.0
        return theta

    def _put_twins(self, rng: np.random.Generator, W: Array, k: int) -> None:
        """Write one layer of two nets of half the widths into W, the rest of which is 0."""
        first, last = k == 0, k == len(self.layers) - 1
        below = W.shape[0] if first else self.layers[k - 1].units
        blocks = W.reshape(-1, below, W.shape[1])
        draw = _he(rng, W.shape[0] // (1 if first else 2), W.shape[1] // (1 if last else 2))
        for copy, sign in enumerate((1.0, -1.0 if last else 1.0)):
            own = slice(copy, None, 2)
            part = blocks[:, slice(None) if first else own, slice(None) if last else own]
            part[...] = sign * draw.reshape(part.shape)

    def unpack(self, theta: ArrayLike) -> dict[str, Array]:
        """Return views of theta: W1 (width, units), b1 (units,) if there is a bias, W2, ..."""
        return unpack_parts(self._theta(theta), self.shapes)

    def pack(self, parts: Mapping[str, ArrayLike]) -> Array:
        """Return the flat vector of the named parameters.

        Raises
        ------
        InputError
            A name is missing or too many, or a shape is wrong.
        """
        return pack_parts(parts, self.shapes)

    def inputs(self, X: ArrayLike | Inputs) -> Inputs:
        """Check X once: what comes back can stand for X in every method of this model.

        Raises
        ------
        InputError
            Wrong number of features, non-finite entries, or an `Inputs` of another model.
        """
        if isinstance(X, Inputs) and X.model == self:
            return X
        return Inputs(self, self._checked(X.values if isinstance(X, Inputs) else X))

    def _checked(self, X: ArrayLike) -> Array:
        return feature_matrix(X, self.layers[0].lift.width)

    def _first_rows(self, inputs: Inputs, dtype: np.dtype[Any]) -> Array:
        """Return the lifted rows of the first layer."""
        return inputs.once(("rows", dtype), lambda: self.layers[0].lift.lift(inputs.typed(dtype)))

    def output(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return f(theta; x), shape (n,), or (n, outputs) for several outputs."""
        return self._shaped(self._forward(self._theta(theta), self.inputs(X)).z)

    def vjp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike) -> Array:
        """Return sum_i <cotangent_i, grad f_i(theta)>, shape (P,)."""
        return self.value_and_vjp(theta, X, lambda f: cotangent_array(cotangent, f.shape, f.dtype))[1]

    def value_and_vjp(
        self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent_of_output: Callable[[Array], Array]
    ) -> tuple[Array, Array]:
        """Return f and its vjp with ``cotangent_of_output(f)``, in one forward and one backward pass."""
        theta = self._theta(theta)
        trace = self._forward(theta, self.inputs(X))
        f = self._shaped(trace.z)
        return f, self._backward(theta, trace, cotangent_array(cotangent_of_output(f), f.shape, theta.dtype))

    def jvp(self, theta: ArrayLike, X: ArrayLike | Inputs, tangent: ArrayLike) -> Array:
        """Return <grad f_i(theta), tangent>, shaped as the output."""
        theta = self._theta(theta)
        trace = self._forward(theta, self.inputs(X))
        zs, _ = self._tangents(theta, self._tangent(tangent, theta), trace)
        return self._shaped(zs[-1])

    def hvp(self, theta: ArrayLike, X: ArrayLike | Inputs, cotangent: ArrayLike, tangent: ArrayLike) -> Array:
        """Return the derivative of `vjp` in theta along the tangent, shape (P,); at a kink, that of one piece."""
        theta = self._theta(theta)
        tangent = self._tangent(tangent, theta)
        trace = self._forward(theta, self.inputs(X))
        zs, rises = self._tangents(theta, tangent, trace)
        g = cotangent_array(cotangent, self._shaped(trace.z).shape, theta.dtype).reshape(-1, self.outputs)
        change = np.zeros_like(g)  # of g along the tangent
        out, part = np.empty_like(theta), np.empty_like(theta)
        weights, moved = self._weights(theta), self._weights(tangent)
        for k in reversed(range(1, len(self.layers))):
            layer, span, b = self.layers[k], self._spans[k], trace.bases[k - 1]
            layer.gradient(trace.lifted[k], change, out[span])
            layer.gradient(rises[k - 1], g, part[span])
            slopes = trace.slopes[k - 1]
            below = layer.lift.lower(g @ weights[k].T)
            change = self.phi.chain(b, layer.lift.lower(g @ moved[k].T + change @ weights[k].T), slopes)
            change += self.phi.curvature(b, slopes) * zs[k - 1] * below
            g = self.phi.chain(b, below, slopes)
            out[span] += part[span]
        self.layers[0].gradient(trace.lifted[0], change, out[self._spans[0]])
        return out

    def difference(self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs) -> Array:
        """Return [f(theta_bar + eps h) - f(theta_bar)]/eps, eps = e^log_eps, carried from layer to layer.

        Where eps underflows it is the limit from above: the jvp, and at a preactivation of exactly 0 the one-sided
        derivative of the activation.
        """
        return self._shaped(self._difference(theta_bar, h, log_eps, X)[1])

    def difference_and_vjp(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        cotangent_of_difference: Callable[[Array], Array],
    ) -> tuple[Array, Array]:
        """Return the difference quotient q and the vjp at theta_bar + eps h with ``cotangent_of_difference(q)``."""
        theta, quotient, trace = self._difference(theta_bar, h, log_eps, X)
        q = self._shaped(quotient)
        return q, self._backward(theta, trace, cotangent_array(cotangent_of_difference(q), q.shape, theta.dtype))

    def slopes(self, preactivations: ArrayLike) -> Array:
        """Return the slopes of the activations on the piece of these preactivations, shape (K,); see `Kinked`."""
        z = np.asarray(preactivations)
        return np.asarray(self.phi.branch(z > 0.0, z.dtype), dtype=z.dtype)

    def preactivations(self, theta: ArrayLike, X: ArrayLike | Inputs) -> Array:
        """Return the preactivations of the hidden layers in one row, shape (K,); none where phi has no kink."""
        zs: list[Array] = []
        if self.phi.kinked:
            self._forward(self._theta(theta), self.inputs(X), zs)
        return _joined(zs)

    def preactivation_quotients(
        self, theta_bar: ArrayLike, h: ArrayLike, log_eps: float, X: ArrayLike | Inputs
    ) -> tuple[Array, float]:
        """Return the preactivations at theta_bar + eps h over eps, infinite far from 0, and the size of h's part."""
        pairs: list[tuple[Array, Array]] = []
        if self.phi.kinked:
            self._difference(theta_bar, h, log_eps, X, pairs)
        moves = _joined([e for _, e in pairs])
        return _joined([z for z, _ in pairs]) + moves, float(np.max(np.abs(moves), initial=0.0))

    def preactivation_gradients(self, theta: ArrayLike, X: ArrayLike | Inputs, kinks: ArrayLike) -> Array:
        """Return the gradients of some of the preactivations, shape (len(kinks), P)."""
        theta, inputs, kinks = self._theta(theta), self.inputs(X), np.asarray(kinks, dtype=np.intp)
        out = np.zeros((kinks.size, theta.size), dtype=theta.dtype)
        layer = self.layers[0]
        first = len(inputs) * layer.lift.positions * layer.units  # in the first layer the input itself is the gradient
        rows, units = np.divmod(kinks[kinks < first], layer.units)
        lifted = dense(self._first_rows(inputs, theta.dtype)[rows])
        weights = np.zeros((rows.size, layer.lift.width + layer.bias, layer.units), dtype=theta.dtype)
        weights[np.arange(rows.size), : layer.lift.width, units] = lifted
        weights[np.arange(rows.size), layer.lift.width :, units] = 1.0
        out[kinks < first, self._spans[0]] = weights.reshape(rows.size, layer.parameters)
        if np.all(kinks < first):
            return out
        trace = self._forward(theta, inputs)
        starts = np.cumsum([0, *(b.size for b in trace.bases)])
        for place in np.flatnonzero(kinks >= first):
            last = int(np.searchsorted(starts, kinks[place], side="right")) - 1
            g = np.zeros_like(trace.bases[last])
            g.flat[kinks[place] - starts[last]] = 1.0
            for k, signal in self._signals(theta, trace, g, below=last + 1):
                self.layers[k].gradient(trace.lifted[k], signal, out[place, self._spans[k]])
        return out

    def samples_of(self, X: Inputs, kinks: ArrayLike) -> NDArray[np.intp]:
        """Return the sample to which each of some kinks belongs; see `Kinked`."""
        sizes = np.array([layer.lift.positions * layer.units for layer in self.layers[:-1]])
        ends = np.cumsum(len(X) * sizes)
        places = np.asarray(kinks, dtype=np.intp)
        layers = np.searchsorted(ends, places, side="right")
        samples: NDArray[np.intp] = (places - (ends - len(X) * sizes)[layers]) // sizes[layers]
        return samples

    def picked(self, X: Inputs, samples: NDArray[np.intp], pieces: Array) -> Inputs:
        """Return the inputs of some samples, each on a piece of its own; see `Kinked`."""
        m, parts, start = samples.size, [], 0
        for layer in self.layers[:-1]:
            stop = start + len(X) * layer.lift.positions * layer.units
            parts.append(pieces[:, start:stop].reshape(m, len(X), -1)[np.arange(m), samples].ravel())
            start = stop
        return Inputs(self, X.values[samples], np.concatenate(parts))

    def features(self, X: ArrayLike | Inputs, theta: ArrayLike | None = None) -> Array:
        """Return the gradients at theta (default: the theory's direction), (n, P) or (n, outputs, P)."""
        theta, inputs = self._theta_or_default(theta), self.inputs(X)
        trace = self._forward(theta, inputs)
        n = len(inputs)
        out = np.empty((n, self.outputs, self.parameters), dtype=theta.dtype)
        for k, g in self._signals(theta, trace, self._unit_signals(n, theta.dtype), self.outputs):
            self.layers[k].sample_gradients(trace.lifted[k], g, n, out[..., self._spans[k]])
        return out[:, 0] if self.outputs == 1 else out

    def ntk(
        self, X: ArrayLike | Inputs, other: ArrayLike | Inputs | None = None, theta: ArrayLike | None = None
    ) -> Array:
        """Return the Gram matrix of the features, (n, m) or (n, outputs, m, outputs), without forming them.

        Layer by layer: for dense layers the product of the Gram matrices of activations and of backward signals, for
        convolutions a sum over blocks of channels.
        """
        theta = self._theta_or_default(theta)
        left = self._rows_and_signals(theta, self.inputs(X))
        right = left if other is None else self._rows_and_signals(theta, self.inputs(other))
        n, m = (side[0][1].shape[0] // (self.outputs * self.layers[0].lift.positions) for side in (left, right))
        kernel = np.zeros((n, self.outputs, m, self.outputs), dtype=theta.dtype)
        for layer, ours, theirs in zip(self.layers, left, right, strict=True):
            layer.add_gram(kernel, ours, theirs)
        return kernel[:, 0, :, 0] if self.outputs == 1 else kernel

    def invariants(self, theta: ArrayLike) -> Invariants:
        """Return the balancedness of every hidden unit (channel): k |outgoing|^2 - |incoming|^2, degree 2.

        k is the power of the activation; a first-layer bias counts as incoming.
        """
        parts = self.unpack(theta)
        weights = [parts[f"W{k + 1}"] for k in range(len(self.layers))]
        into = [np.einsum("ku,ku->u", W, W) for W in weights[:-1]]
        if "b1" in parts and into:
            into[0] += parts["b1"] ** 2
        rows = [np.einsum("ku,ku->k", W, W) for W in weights[1:]]  # a unit of the layer below may have several
        outward = [row.reshape(-1, norms.size).sum(axis=0) for row, norms in zip(rows, into, strict=True)]
        none = np.zeros(0, dtype=weights[0].dtype)
        incoming, outgoing = (np.concatenate([*norms, none]) for norms in (into, outward))
        return Invariants(self.phi.power * outgoing - incoming, self.phi.power * outgoing + incoming, 2)

    def _theta(self, theta: ArrayLike) -> Array:
        return parameter_vector(theta, self.parameters, "W1, b1, W2, ... in rows")

    def _theta_or_default(self, theta: ArrayLike | None) -> Array:
        return self.direction() if theta is None else self._theta(theta)

    def _tangent(self, tangent: ArrayLike, theta: Array) -> Array:
        vector = parameter_vector(tangent, self.parameters, "as theta", argument="tangent")
        return vector.astype(theta.dtype, copy=False)

    def _shaped(self, z: Array) -> Array:
        return z[:, 0] if self.outputs == 1 else z

    @cached_property
    def _spans(self) -> tuple[slice, ...]:
        """Where each layer's parameters are in theta."""
        ends = np.cumsum([0] + [layer.parameters for layer in self.layers]).tolist()
        return tuple(slice(start, stop) for start, stop in pairwise(ends))

    @cached_property
    def _matrices(self) -> tuple[tuple[slice, tuple[int, int]], ...]:
        """Where each weight matrix is in theta, and its shape."""
        shapes = [(layer.lift.width, layer.units) for layer in self.layers]
        starts = [span.start for span in self._spans]
        return tuple(
            (slice(k, k + rows * units), (rows, units)) for k, (rows, units) in zip(starts, shapes, strict=True)
        )

    def _weights(self, theta: Array) -> list[Array]:
        """Return the weight matrix of every layer, as views."""
        return [theta[place].reshape(shape) for place, shape in self._matrices]

    def _affine(self, theta: Array, rows: Array) -> Array:
        """Return z of the first layer, the only one with a bias."""
        place, shape = self._matrices[0]
        z: Array = rows @ theta[place].reshape(shape)
        if self.layers[0].bias:
            z += theta[self._spans[0]][-self.layers[0].units :]
        return z

    def _forward(self, theta: Array, inputs: Inputs, zs: list[Array] | None = None) -> _Trace:
        """Return the trace; `zs` collects the preactivations of the hidden layers."""
        lifted, bases, slopes = [self._first_rows(inputs, theta.dtype)], [], self._held_slopes(inputs)
        z = self._affine(theta, lifted[0])
        for k, (layer, W) in enumerate(zip(self.layers[1:], self._weights(theta)[1:], strict=True)):
            if zs is not None:
                zs.append(z.copy())
            bases.append(self.phi.base(z, slopes[k]))
            lifted.append(layer.lift.lift(self.phi.value(bases[-1])))
            z = lifted[-1] @ W
        return _Trace(lifted, bases, slopes, z)

    def _held_slopes(self, inputs: Inputs) -> list[Array | None]:
        """Return the slopes of every hidden layer, (rows, units), where the inputs hold them."""
        hidden = self.layers[:-1]
        if inputs.piece is None:
            return [None] * len(hidden)
        parts: list[Array | None] = []
        start = 0
        for layer in hidden:
            shape = len(inputs) * layer.lift.positions, layer.units
            stop = start + shape[0] * shape[1]
            parts.append(inputs.piece[start:stop].reshape(shape))
            start = stop
        return parts

    def _tangents(self, theta: Array, tangent: Array, trace: _Trace) -> tuple[list[Array], list[Array]]:
        """Return how z of every layer, and the lifted rows of every layer but the first, move along the tangent."""
        zs, rises = [self._affine(tangent, trace.lifted[0])], []
        for k, (W, W_moved) in enumerate(zip(self._weights(theta), self._weights(tangent), strict=True)):
            if k > 0:
                rise = self.phi.chain(trace.bases[k - 1], zs[-1].copy(), trace.slopes[k - 1])
                rises.append(self.layers[k].lift.lift(rise))
                zs.append(trace.lifted[k] @ W_moved + rises[-1] @ W)
        return zs, rises

    def _difference(
        self,
        theta_bar: ArrayLike,
        h: ArrayLike,
        log_eps: float,
        X: ArrayLike | Inputs,
        pairs: list[tuple[Array, Array]] | None = None,
    ) -> tuple[Array, Array, _Trace]:
        """Return theta_bar + eps h, the quotient of the last layer's z, and the trace at theta_bar + eps h.

        `pairs` collects z/eps at theta_bar and the quotient of the hidden layers: together z/eps at theta_bar + eps h.
        """
        theta_bar = self._theta(theta_bar)
        h = parameter_vector(h, self.parameters, "as theta_bar", argument="h").astype(theta_bar.dtype, copy=False)
        theta, eps = perturbed(theta_bar, h, log_eps)
        inputs = self.inputs(X)
        rows, slopes = self._first_rows(inputs, theta_bar.dtype), self._held_slopes(inputs)
        lifted, bases = [rows], []
        z, e = self._affine(theta_bar, rows), self._affine(h, rows)
        layers = zip(self.layers[1:], slopes, self._weights(theta_bar)[1:], self._weights(h)[1:], strict=True)
        for layer, held, W, H in layers:
            if pairs is not None:
                pairs.append((over(z, eps), e))
            steps = self.phi.base_quotient(z, e, eps, held)
            base = self.phi.base(z)
            rise = layer.lift.lift(power_quotient(base, steps, eps, self.phi.power))
            bases.append(_moved(base, steps, eps))
            lifted.append(layer.lift.lift(self.phi.value(bases[-1])))
            z = layer.lift.lift(self.phi.value(base)) @ W
            e = lifted[-1] @ H + rise @ W
        return theta, e, _Trace(lifted, bases, slopes, z)

    def _signals(
        self, theta: Array, trace: _Trace, g: Array, c: int = 1, below: int | None = None
    ) -> Iterator[tuple[int, Array]]:
        """Yield (layer, backward signal), last layer first; the rows of g are ordered by sample, output, position.

        g is the signal of the last layer, or of the last one below a number.
        """
        weights = self._weights(theta)
        for k in reversed(range(len(self.layers) if below is None else below)):
            yield k, g
            if k:
                layer, b = self.layers[k], trace.bases[k - 1]
                g = layer.lift.lower(g @ weights[k].T)
                held, shape = trace.slopes[k - 1], (self.layers[k - 1].lift.positions, b.shape[1])
                held = None if held is None else held.reshape(-1, 1, *shape)
                self.phi.chain(b.reshape(-1, 1, *shape), g.reshape(-1, c, *shape), held)

    def _backward(self, theta: Array, trace: _Trace, cotangent: Array) -> Array:
        gradient = np.empty_like(theta)
        for k, g in self._signals(theta, trace, cotangent.reshape(-1, self.outputs)):
            self.layers[k].gradient(trace.lifted[k], g, gradient[self._spans[k]])
        return gradient

    def _unit_signals(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Return the last layer's signals for the gradient of each output by itself."""
        return np.tile(np.eye(self.outputs, dtype=dtype), (n, 1))

    def _rows_and_signals(self, theta: Array, inputs: Inputs) -> list[tuple[Array, Array]]:
        """Return (lifted rows, signals of every output) for each layer."""
        trace = self._forward(theta, inputs)
        start = self._unit_signals(len(inputs), theta.dtype)
        signals = dict(self._signals(theta, trace, start, self.outputs))
        return [(rows, signals[k]) for k, rows in enumerate(trace.lifted)]


def _joined(parts: list[Array]) -> Array:
    """Return the parts in one row."""
    return np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0)


def _moved(base: Array, steps: Array, eps: Any) -> Array:
    """Return base + eps steps, kept on the side of 0 to which a unit at 0 moves when eps underflows."""
    moved: Array = base + eps * steps
    moved[(moved == 0.0) & (steps > 0.0)] = np.finfo(moved.dtype).smallest_subnormal
    return moved


def _he(rng: np.random.Generator, width: int, units: int) -> NDArray[np.float64]:
    return rng.standard_normal((width, units)) * np.sqrt(2.0 / width)


def _orthogonal(rng: np.random.Generator, width: int, units: int) -> NDArray[np.float64]:
    """Return a matrix with orthonormal columns, or rows where it is wide; Haar (Mezzadri 2007: signs of R fixed)."""
    Q, R = np.linalg.qr(rng.standard_normal((max(width, units), min(width, units))))
    Q = Q * np.sign(np.diag(R))
    return Q if width >= units else Q.T
