"""Fully connected nets of any depth with homogeneous activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import integer
from theorykit.models._layered import LayeredNet
from theorykit.models._layers import Flat, Layer
from theorykit.models.activations import Activation
from theorykit.models.protocol import Inputs, feature_matrix, index_matrix


@dataclass(frozen=True)
class MLP(LayeredNet):
    """The net f(theta; x) = phi(... phi(phi(x W1 + b1) W2) ...) W_m with a bias in the first layer only, if any.

    Homogeneous: its degree is m for ReLU, leaky ReLU and the identity, and 1 + k + ... + k^(m-1) for an activation of
    power k. For ``symbols=p`` every input is a few integers from 0 to p - 1 that stand for one-hot vectors side by
    side; the first layer gathers rows of W1 and the one-hot vectors are never stored.

    Parameters
    ----------
    widths : tuple of int
        Input features, widths of the hidden layers (at least one), outputs.
    activation : str or Activation
        ``"relu"``, ``"relu^k"``, ``"leaky_relu"``, ``"identity"``, ``"z^k"``, or an `Activation`.
    bias : bool
        Whether the first layer has one.
    symbols : int, optional
        p: inputs are integers (n, widths[0] / p) instead of features.

    Raises
    ------
    InputError
        Fewer than three widths, a width < 1, an unknown activation, or widths[0] not a multiple of `symbols`.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, section 3.1 (ReLU nets with a first-layer bias); section 2 (modular addition).

    Examples
    --------
    >>> net = MLP((2, 3, 1), bias=True)
    >>> net.parameters, net.degree
    (12, 2)
    >>> MLP((4, 8, 8, 1), activation="z^3").degree
    13
    >>> adder = MLP((14, 32, 7), symbols=7)
    >>> adder.output(adder.direction("he"), [[3, 5], [6, 0]]).shape
    (2, 7)
    """

    widths: tuple[int, ...]
    activation: str | Activation = "relu"
    bias: bool = False
    symbols: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.widths, (tuple, list)) or len(self.widths) < 3:
            raise InputError("widths", repr(self.widths), "input features, at least one hidden width, outputs")
        object.__setattr__(self, "widths", tuple(integer("widths", width, minimum=1) for width in self.widths))
        object.__setattr__(self, "activation", Activation.named(self.activation))
        if self.symbols is not None and self.widths[0] % integer("symbols", self.symbols, minimum=2):
            raise InputError("widths", f"{self.widths[0]} inputs", f"a multiple of symbols = {self.symbols}")

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """c, the number of outputs."""
        return self.widths[-1]

    @property
    def d(self) -> int:
        """Columns of X: features, or integers that stand for one-hot vectors."""
        return self.widths[0] // (self.symbols or 1)

    @property
    def name(self) -> str:
        """Short name for tables."""
        bias = " with bias" if self.bias else ""
        return f"mlp {'-'.join(str(width) for width in self.widths)} {self.phi.name}{bias}"

    @cached_property
    def phi(self) -> Activation:
        """The activation between the layers."""
        return Activation.named(self.activation)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, first to last."""
        pairs = zip(self.widths, self.widths[1:], strict=False)
        return tuple(Layer(Flat(width), units, self.bias and k == 0) for k, (width, units) in enumerate(pairs))

    def _checked(self, X: ArrayLike) -> NDArray[Any]:
        if self.symbols is None:
            return feature_matrix(X, self.d)
        return index_matrix(X, self.d, (self.symbols,) * self.d, "one for each one-hot vector")

    def _first_rows(self, inputs: Inputs, dtype: np.dtype[Any]) -> Any:
        if self.symbols is None:
            return inputs.typed(dtype)
        return inputs.once(("rows", dtype), lambda: self._one_hot(inputs.values, dtype))

    def _one_hot(self, X: NDArray[np.intp], dtype: np.dtype[Any]) -> Any:
        """Return the one-hot rows as a sparse matrix: its products gather rows and add them."""
        from scipy.sparse import csr_array

        n, slots = X.shape
        assert self.symbols is not None
        columns = (X + self.symbols * np.arange(slots)).ravel()
        starts = np.arange(0, n * slots + 1, slots)
        return csr_array((np.ones(n * slots, dtype=dtype), columns, starts), shape=(n, self.widths[0]))
