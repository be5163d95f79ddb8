"""What a claim is tested on: random problems without their scale, or, where no flow is involved, plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import integer
from theorykit.datasets import Dataset
from theorykit.flow import Problem
from theorykit.models import HomogeneousModel, check_homogeneous

_SAMPLES = 3  # on which a model is tested


class Family(NamedTuple):
    """What makes instances comparable: those of one family are reported as one result."""

    model: str | None
    loss: str | None = None
    degree: int | None = None
    p: float | None = None
    c: float | None = None
    init: str | None = None


@dataclass(frozen=True, eq=False)
class Instance:
    """One random problem family: everything but the initial scale.

    Parameters
    ----------
    model : HomogeneousModel
        Any model of `theorykit.models`; its name tells it from others in tables.
    data : Dataset
    loss : str
    p : float
        lambda = alpha^-p.
    c : float
        Half-width of the window [T^-_c, T^+_c] = (1 -+ c) log(alpha)/lambda, in (0, 1).
    init : str or array_like, shape (P,)
        The initial direction theta_bar: a name that the model knows, or an array.
    seed : int
        Of an initial direction that is drawn.

    Raises
    ------
    InputError
        Names the argument, what came and what was wanted. A model of the user's own that is not homogeneous, or whose
        gradient is not that of its output: the property that fails, and by how much.
    """

    model: HomogeneousModel
    data: Dataset
    loss: str
    p: float = 1.0
    c: float = 0.3
    init: str | ArrayLike = "theory"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, HomogeneousModel):
            raise InputError("model", repr(self.model), "a model, such as theorykit.models.DiagonalNet(d=40)")
        if not isinstance(self.data, Dataset):
            raise InputError("data", repr(self.data), "a theorykit.Dataset")
        if not type(self.model).__module__.startswith("theorykit.models."):  # those are tested where they are made
            check_homogeneous(self.model, self.data.X[:_SAMPLES]).raise_for_failure()
        if not self.p > 0.0:
            raise InputError("p", f"{self.p}", "a positive exponent: the theory needs weight decay alpha^-p > 0")
        if not 0.0 < self.c < 1.0:
            raise InputError("c", f"{self.c}", "a number in (0, 1)")
        integer("seed", self.seed, minimum=0)

    def at(self, log_alpha: float) -> Problem:
        """Return the problem at one initial scale."""
        return Problem(
            self.model, self.data, self.loss, log_alpha=log_alpha, log_weight_decay=-self.p * log_alpha,
            init=self.init, seed=self.seed,
        )  # fmt: skip

    @property
    def family(self) -> Family:
        """What makes instances comparable: they are reported as one result."""
        init = self.init if isinstance(self.init, str) else "given"
        return Family(self.model.name, self.loss, self.model.degree, self.p, self.c, init)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two instances the same problem, so that claims share its flows."""
        init = self.init if isinstance(self.init, str) else np.asarray(self.init, dtype=np.float64).tobytes()
        return self.data.fingerprint, self.model, self.loss, self.p, init, self.seed


@dataclass(frozen=True, eq=False)
class Trial:
    """One instance of a claim about no flow: a scalar lemma, a bound on a complexity, a frequency.

    Parameters
    ----------
    label : str
        Its family, in a few words: trials of one label are reported as one result.
    values : object
        What `Claim.measure` reads.

    Raises
    ------
    InputError
        The label is no text.

    Examples
    --------
    >>> Trial("y > 0", {"y": 2.5}).family.model
    'y > 0'
    """

    label: str
    values: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not self.label.strip():
            raise InputError("label", repr(self.label), "what kind of trial it is, in a few words")

    @property
    def family(self) -> Family:
        """What makes trials comparable: they are reported as one result."""
        return Family(self.label)
