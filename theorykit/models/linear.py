"""Linear models: the simplest homogeneous ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from theorykit._numerics.validate import integer
from theorykit.models._layered import LayeredNet
from theorykit.models._layers import Flat, Layer
from theorykit.models.activations import Activation


@dataclass(frozen=True)
class Linear(LayeredNet):
    """The model f(W; x) = x W, parameters W (d, outputs), degree 1. No bias: append a constant feature for one.

    Its theory direction is 0, from which a flow of degree 1 does move.

    Parameters
    ----------
    d : int
        Input features.
    outputs : int
        Outputs.

    Raises
    ------
    InputError
        `d` or `outputs` < 1.

    Examples
    --------
    >>> Linear(d=2).output([1.0, -1.0], [[3.0, 1.0]])
    array([2.])
    """

    d: int
    outputs: int = 1

    def __post_init__(self) -> None:
        integer("d", self.d, minimum=1)
        integer("outputs", self.outputs, minimum=1)

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "linear" if self.outputs == 1 else f"linear {self.d}-{self.outputs}"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The one layer."""
        return (Layer(Flat(self.d), self.outputs),)

    @cached_property
    def phi(self) -> Activation:
        """The identity: there is nothing between layers."""
        return Activation.named("identity")
