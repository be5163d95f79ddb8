"""What is simulated: a model on data with a loss, an initial scale and a weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite
from theorykit.datasets import Dataset
from theorykit.losses import SQUARED, loss_code
from theorykit.models import DiagonalNet


@dataclass(frozen=True, eq=False)
class Problem:
    """Gradient flow d(theta)/dt = -grad(L + (lambda/2)|theta|^2) from theta(0) = alpha theta_bar, L the mean loss.

    Parameters
    ----------
    model : DiagonalNet
    data : Dataset
        With as many features as the model.
    loss : {"exponential", "logistic", "squared"}
        See `theorykit.losses` for the normalisations.
    alpha, log_alpha : float
        The initial scale or its natural logarithm: exactly one of them.
    weight_decay, log_weight_decay : float
        lambda or its logarithm: exactly one of them; ``weight_decay=0`` is legal.
    init : {"theory", "unit"} or array_like, shape (P,)
        The initial direction theta_bar; alpha multiplies it as given.

    Raises
    ------
    InputError
        Names the argument, what came and what was wanted.

    Examples
    --------
    >>> from theorykit.datasets import sparse_sign
    >>> data = sparse_sign(n=8, d=40, k=3, seed=0)
    >>> problem = Problem(DiagonalNet(d=40), data, loss="logistic", alpha=100.0, weight_decay=1e-3)
    >>> round(problem.log_A, 3)
    16.118
    """

    model: DiagonalNet
    data: Dataset
    loss: str = "logistic"
    alpha: float | None = field(default=None, kw_only=True)
    log_alpha: float = field(default=math.nan, kw_only=True)
    weight_decay: float | None = field(default=None, kw_only=True)
    log_weight_decay: float = field(default=math.nan, kw_only=True)
    init: str | ArrayLike = field(default="theory", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.model, DiagonalNet):
            raise InputError("model", type(self.model).__name__, "a model of theorykit.models")
        if not isinstance(self.data, Dataset):
            raise InputError("data", type(self.data).__name__, "a theorykit Dataset (see Dataset.from_arrays)")
        if self.model.d != self.data.d:
            raise InputError("model", f"d = {self.model.d}", f"d = {self.data.d}, as many features as the data")
        if self.data.weights is not None:
            raise InputError(
                "data", "samples of unequal weight", "equal weights, the only ones a diagonal net is run on"
            )
        code = loss_code(self.loss)
        if code != SQUARED and self.data.task != "classification":
            raise InputError("loss", f"{self.loss!r} on a regression data set", "'squared', or labels +1 and -1")
        object.__setattr__(self, "log_alpha", _logarithm("alpha", self.alpha, self.log_alpha, zero=False))
        object.__setattr__(
            self, "log_weight_decay", _logarithm("weight_decay", self.weight_decay, self.log_weight_decay, zero=True)
        )
        direction = self.model.direction(self.init)
        direction.flags.writeable = False
        object.__setattr__(self, "_direction", direction)

    @property
    def direction(self) -> NDArray[np.float64]:
        """theta_bar, shape (P,)."""
        direction: NDArray[np.float64] = self.__dict__["_direction"]
        return direction

    @property
    def log_A(self) -> float:  # noqa: N802 - the theory's name
        """Logarithm of A = alpha^(2(L-1)) / lambda."""
        return 2.0 * (self.model.degree - 1) * self.log_alpha - self.log_weight_decay

    def tau_at(self, s: float) -> float:
        """Slow time tau = lambda t at s = tau / log(alpha).

        Raises
        ------
        InputError
            s is undefined: lambda = 0 or log(alpha) <= 0.
        """
        if self.log_weight_decay == -math.inf:
            raise InputError("s_end", f"{s:g} with weight_decay = 0", "log_t_end=..., since s needs weight decay")
        if self.log_alpha <= 0.0:
            raise InputError(
                "s_end", f"{s:g} with log_alpha = {self.log_alpha:g}", "tau_end=..., since s needs alpha > 1"
            )
        return s * self.log_alpha

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that defines the problem, as plain numbers and words."""
        return {
            "model": self.model.name,
            "degree": self.model.degree,
            "data": {"name": self.data.name, "n": self.data.n, "d": self.data.d, "fingerprint": self.data.fingerprint},
            "loss": self.loss,
            "log_alpha": self.log_alpha,
            "log_weight_decay": self.log_weight_decay if math.isfinite(self.log_weight_decay) else None,
            "init": self.init if isinstance(self.init, str) else np.asarray(self.init).tolist(),
        }


def _logarithm(name: str, value: float | None, logarithm: float, *, zero: bool) -> float:
    """Return the logarithm of a scale that is given either plainly or as its logarithm."""
    by_log = not (isinstance(logarithm, float) and math.isnan(logarithm))
    if (value is None) == (not by_log):
        got = f"neither {name} nor" if value is None else f"both {name} and"
        raise InputError(name, f"{got} log_{name}", f"exactly one of {name}= and log_{name}=")
    if by_log:
        return finite(f"log_{name}", logarithm)
    number = finite(name, value, minimum=0.0) if zero else finite(name, value, above=0.0)
    return math.log(number) if number > 0.0 else -math.inf
