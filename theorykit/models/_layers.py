"""Layers as one bilinear map: a fixed linear map of the activations (the lift), then a matrix shared by all positions.

Dense layers, convolutions and read-outs behind a pooling are all of this kind, so that products with the Jacobian,
per-sample gradients and kernels are written once. Activations are matrices: one row for each sample and position,
one column for each unit or channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError

Array = NDArray[Any]

_BLOCK = 2**25  # numbers in a block of per-sample gradients of a convolution (256 MiB)


class Lift(Protocol):
    """A fixed linear map from activations to the rows that the weights multiply."""

    @property
    def width(self) -> int:
        """Columns of a lifted row."""
        ...

    @property
    def positions(self) -> int:
        """Lifted rows for each sample."""
        ...

    def lift(self, a: Array) -> Array:
        """Return the lifted rows (n positions, width)."""
        ...

    def lower(self, g: Array) -> Array:
        """Return the transpose of `lift` applied to g."""
        ...


@dataclass(frozen=True)
class Flat:
    """The activations as they are."""

    width: int
    positions: int = 1

    def lift(self, a: Array) -> Array:
        """Return a."""
        return a

    def lower(self, g: Array) -> Array:
        """Return g."""
        return g


@dataclass(frozen=True)
class Patches:
    """All windows of an image that lie inside it, one to a row; channels vary fastest."""

    image: tuple[int, ...]
    channels: int
    kernel: int

    def __post_init__(self) -> None:
        if self.kernel > min(self.image):
            size = " x ".join(str(side) for side in self.image)
            raise InputError("kernel", str(self.kernel), f"at most {min(self.image)}: what it sees is {size} here")

    @property
    def result(self) -> tuple[int, ...]:
        """The image of the convolution's output."""
        return tuple(side - self.kernel + 1 for side in self.image)

    @property
    def width(self) -> int:
        """Numbers in a window."""
        return int(self.kernel ** len(self.image)) * self.channels

    @property
    def positions(self) -> int:
        """Windows in an image."""
        return math.prod(self.result)

    def lift(self, a: Array) -> Array:
        """Return the windows of every image."""
        images = a.reshape(-1, *self.image, self.channels)
        axes = tuple(range(1, 1 + len(self.image)))
        windows = sliding_window_view(images, (self.kernel,) * len(self.image), axis=axes)
        channels = 1 + len(self.image)
        return np.moveaxis(windows, channels, -1).reshape(-1, self.width)  # the one copy

    def lower(self, g: Array) -> Array:
        """Return images in which every pixel is the sum over the windows it is in."""
        kernel = (self.kernel,) * len(self.image)
        windows = g.reshape(-1, *self.result, *kernel, self.channels)
        images = np.zeros((windows.shape[0], *self.image, self.channels), dtype=g.dtype)
        for offset in np.ndindex(kernel):
            place = tuple(slice(o, o + side) for o, side in zip(offset, self.result, strict=True))
            images[(slice(None), *place)] += windows[(..., *offset, slice(None))]
        return images.reshape(-1, self.channels)


@dataclass(frozen=True)
class Pool:
    """Sums (or means) over windows that tile the image, one row for each image; channels vary fastest."""

    image: tuple[int, ...]
    channels: int
    window: tuple[int, ...]
    average: bool
    positions: int = 1

    @property
    def _tiles(self) -> tuple[int, ...]:
        return tuple(side // window for side, window in zip(self.image, self.window, strict=True))

    @property
    def _factor(self) -> float:
        return 1.0 / math.prod(self.window) if self.average else 1.0

    @property
    def width(self) -> int:
        """Pooled positions times channels."""
        return math.prod(self._tiles) * self.channels

    def _tiled(self, images: Array) -> tuple[Array, tuple[int, ...]]:
        """Return a view with an axis for each tile and one for each place in it, and the axes of the latter."""
        split = [size for pair in zip(self._tiles, self.window, strict=True) for size in pair]
        return images.reshape(-1, *split, self.channels), tuple(range(2, 2 + len(split), 2))

    def lift(self, a: Array) -> Array:
        """Return the pooled images."""
        tiled, axes = self._tiled(a)
        return (tiled.sum(axis=axes) * a.dtype.type(self._factor)).reshape(-1, self.width)

    def lower(self, g: Array) -> Array:
        """Return images in which every pixel has its tile's value."""
        images = np.empty((g.shape[0], *self.image, self.channels), dtype=g.dtype)
        tiled, axes = self._tiled(images)
        pooled = g.reshape(-1, *self._tiles, self.channels) * g.dtype.type(self._factor)
        tiled[...] = np.expand_dims(pooled, axes)
        return images.reshape(-1, self.channels)


@dataclass(frozen=True)
class Layer:
    """z = lift(a) W + b: W of shape (width, units), the bias b (units,) or none."""

    lift: Lift
    units: int
    bias: bool = False

    def shapes(self, number: int) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of its parameters; layers are numbered from 1."""
        shapes: dict[str, tuple[int, ...]] = {f"W{number}": (self.lift.width, self.units)}
        return shapes | ({f"b{number}": (self.units,)} if self.bias else {})

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return (self.lift.width + self.bias) * self.units

    def gradient(self, lifted: Array, g: Array, out: Array) -> None:
        """Write the gradient (parameters,), summed over the rows, for the backward signal g (rows, units)."""
        weights = out[: self.lift.width * self.units].reshape(self.lift.width, self.units)
        if isinstance(lifted, np.ndarray):
            np.matmul(lifted.T, g, out=weights)
        else:  # sparse rows of one-hot inputs
            weights[...] = lifted.T @ g
        if self.bias:
            np.sum(g, axis=0, out=out[weights.size :])

    def sample_gradients(self, lifted: Array, g: Array, n: int, out: Array) -> None:
        """Write the gradients (n, c, parameters) of every sample, for signals g (n c positions, units)."""
        size = self.lift.width * self.units
        c = out.shape[1]
        g = g.reshape(n, c, self.lift.positions, self.units)
        out[..., :size] = self._products(dense(lifted), g, n).reshape(n, c, size)
        if self.bias:
            out[..., size:] = g.sum(axis=2)

    def _products(self, lifted: Array, g: Array, n: int) -> Array:
        """Return sum over positions of the outer products of lifted rows and signals, (n, c, width, units)."""
        rows = lifted.reshape(n, self.lift.positions, self.lift.width)
        if self.lift.positions == 1:
            return rows[:, :, :, None] * g
        return rows.swapaxes(1, 2)[:, None] @ g

    def add_gram(self, kernel: Array, left: tuple[Array, Array], right: tuple[Array, Array]) -> None:
        """Add the inner products of the sample gradients to kernel (n, c, m, c); left and right are (lifted, g)."""
        n, c, m, _ = kernel.shape
        if self.lift.positions == 1:
            signals = (left[1] @ right[1].T).reshape(kernel.shape)
            signals *= (dense(left[0] @ right[0].T) + self.bias).reshape(n, 1, m, 1)
            kernel += signals
            return
        flat = kernel.reshape(n * c, m * c)
        gs = [g.reshape(rows, c, self.lift.positions, self.units) for rows, (_, g) in ((n, left), (m, right))]
        block = max(1, _BLOCK // (max(n, m) * c * self.lift.width))
        for first in range(0, self.units, block):
            part = slice(first, first + block)
            ours = self._products(left[0], gs[0][..., part], n).reshape(n * c, -1)
            theirs = ours if right is left else self._products(right[0], gs[1][..., part], m).reshape(m * c, -1)
            flat += ours @ theirs.T
        if self.bias:
            flat += gs[0].sum(axis=2).reshape(n * c, -1) @ gs[1].sum(axis=2).reshape(m * c, -1).T


def dense(rows: Array) -> Array:
    """Return lifted rows as an array, also where they are sparse."""
    return rows if isinstance(rows, np.ndarray) else rows.toarray()
