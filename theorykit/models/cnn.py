"""Convolutional nets in one and two dimensions with homogeneous activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import integer
from theorykit.models._layered import LayeredNet
from theorykit.models._layers import Layer, Patches, Pool
from theorykit.models.activations import Activation
from theorykit.models.protocol import feature_matrix

_POOLINGS = ("average", "sum")


@dataclass(frozen=True)
class CNN(LayeredNet):
    """Convolutions (stride 1, no padding) with an activation behind each, one pooling, and a linear read-out.

    Homogeneous, of the degree of an `MLP` with as many weight matrices. Images are rows of X, channels varying
    fastest, then columns, or arrays of shape (n, height, width) or (n, height, width, input_channels), without width in
    one dimension. Weights are (kernel^dimensions * input
    channels, output channels), in the same order.

    Parameters
    ----------
    image : tuple of one or two int
        Length, or height and width.
    channels : tuple of int
        Output channels of every convolution, at least one convolution.
    kernel : int
        Side of the windows that a convolution sees.
    activation : str or Activation
        As in `MLP`.
    pooling : {"average", "sum"}
        How a window is pooled.
    window : int, optional
        Side of the pooled windows, which must tile the last image; default: the whole image. 1 pools nothing.
    outputs : int
        Outputs.
    input_channels : int
        Channels of the image.
    bias : bool
        Whether the first convolution has one for each channel.

    Raises
    ------
    InputError
        Not one or two sides, a size < 1, a kernel larger than what it sees, or a window that does not tile it.

    Examples
    --------
    >>> net = CNN((8, 8), channels=(4, 6), kernel=3, window=2, outputs=10)
    >>> net.parameters, net.degree
    (492, 3)
    >>> CNN((4, 4), channels=(2,), kernel=5)
    Traceback (most recent call last):
    theorykit._numerics.errors.InputError: kernel: got 5; wanted at most 4: what it sees is 4 x 4 here
    """

    image: tuple[int, ...]
    channels: tuple[int, ...]
    kernel: int = 3
    activation: str | Activation = "relu"
    pooling: str = "average"
    window: int | None = None
    outputs: int = 1
    input_channels: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.image, (tuple, list)) or len(self.image) not in (1, 2):
            raise InputError("image", repr(self.image), "(length,) or (height, width)")
        if not isinstance(self.channels, (tuple, list)) or len(self.channels) == 0:
            raise InputError("channels", repr(self.channels), "the output channels of at least one convolution")
        object.__setattr__(self, "image", tuple(integer("image", side, minimum=1) for side in self.image))
        object.__setattr__(self, "channels", tuple(integer("channels", c, minimum=1) for c in self.channels))
        for name in ("kernel", "outputs", "input_channels"):
            integer(name, getattr(self, name), minimum=1)
        object.__setattr__(self, "activation", Activation.named(self.activation))
        if self.pooling not in _POOLINGS:
            raise unknown_name("pooling", str(self.pooling), list(_POOLINGS))
        last = self._convolutions[-1].result
        if self.window is not None and any(side % integer("window", self.window, minimum=1) for side in last):
            size = " x ".join(str(side) for side in last)
            raise InputError("window", str(self.window), f"a divisor of the sides of the last image, {size}")

    @property
    def d(self) -> int:
        """Columns of X: pixels times channels."""
        return math.prod(self.image) * self.input_channels

    @property
    def name(self) -> str:
        """Short name for tables."""
        size = "x".join(str(side) for side in self.image)
        channels = "-".join(str(c) for c in (self.input_channels, *self.channels, self.outputs))
        pool = f"{self.pooling} pooling" + (f" {self.window}" if self.window else "")
        bias = " with bias" if self.bias else ""
        return f"cnn {size} {channels} kernel {self.kernel} {self.phi.name} {pool}{bias}"

    @cached_property
    def phi(self) -> Activation:
        """The activation behind every convolution."""
        return Activation.named(self.activation)

    @cached_property
    def _convolutions(self) -> tuple[Patches, ...]:
        image, found = self.image, []
        for channels in (self.input_channels, *self.channels[:-1]):
            found.append(Patches(image, channels, self.kernel))
            image = found[-1].result
        return tuple(found)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The convolutions, then the read-out behind the pooling."""
        image, channels = self._convolutions[-1].result, self.channels[-1]
        window = image if self.window is None else (self.window,) * len(image)
        pairs = zip(self._convolutions, self.channels, strict=True)
        hidden = [Layer(lift, units, self.bias and k == 0) for k, (lift, units) in enumerate(pairs)]
        last = Pool(image, channels, window, self.pooling == "average")
        return (*hidden, Layer(last, self.outputs))

    def _checked(self, X: ArrayLike) -> NDArray[Any]:
        images = np.asarray(X)
        if images.ndim > 2 and images.shape[1:] in (self.image, (*self.image, self.input_channels)):
            images = images.reshape(images.shape[0], -1)
        return feature_matrix(images, self.d)
