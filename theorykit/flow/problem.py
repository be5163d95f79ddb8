"""What is simulated: a model on data with a loss, an initial scale and a weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import finite
from theorykit.datasets import Dataset
from theorykit.losses import CROSS_ENTROPY, LOSSES
from theorykit.models import DiagonalNet, HomogeneousModel


@dataclass(frozen=True, eq=False)
class Problem:
    """Gradient flow d(theta)/dt = -grad(L + (lambda/2)|theta|^2) from theta(0) = alpha theta_bar, L the mean loss.

    Parameters
    ----------
    model : HomogeneousModel
        Any model of `theorykit.models`, a `UserModel` among them.
    data : Dataset
        With inputs that the model takes. L is the mean over samples, with the data's weights if there are any.
    loss : {"exponential", "logistic", "squared", "cross_entropy"}
        See `theorykit.losses` for the normalisations. Classes need "cross_entropy", and a model with one output for
        each; the others a model with one output.
    alpha, log_alpha : float
        The initial scale or its natural logarithm: exactly one of them.
    weight_decay, log_weight_decay : float
        lambda or its logarithm: exactly one of them; ``weight_decay=0`` is legal.
    init : str or array_like, shape (P,)
        The initial direction theta_bar, by one of the names in ``model.directions`` or as an array; alpha multiplies it
        as given.
    seed : int
        Of an initial direction that is drawn.

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

    model: HomogeneousModel
    data: Dataset
    loss: str = "logistic"
    alpha: float | None = field(default=None, kw_only=True)
    log_alpha: float = field(default=math.nan, kw_only=True)
    weight_decay: float | None = field(default=None, kw_only=True)
    log_weight_decay: float = field(default=math.nan, kw_only=True)
    init: str | ArrayLike = field(default="theory", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.model, HomogeneousModel) or isinstance(self.model, type):
            raise InputError("model", type(self.model).__name__, "a model of theorykit.models")
        if not isinstance(self.data, Dataset):
            raise InputError("data", type(self.data).__name__, "a theorykit Dataset (see Dataset.from_arrays)")
        if isinstance(self.model, DiagonalNet) and self.model.d != self.data.d:
            raise InputError("model", f"d = {self.model.d}", f"d = {self.data.d}, as many features as the data")
        self.model.inputs(self.data.X)
        _check_loss(self.loss, self.model, self.data)
        object.__setattr__(self, "log_alpha", _logarithm("alpha", self.alpha, self.log_alpha, zero=False))
        object.__setattr__(
            self, "log_weight_decay", _logarithm("weight_decay", self.weight_decay, self.log_weight_decay, zero=True)
        )
        direction = self.model.direction(self.init, self.seed)
        direction.flags.writeable = False
        object.__setattr__(self, "_direction", direction)

    @property
    def direction(self) -> NDArray[np.float64]:
        """theta_bar, shape (P,)."""
        direction: NDArray[np.float64] = self.__dict__["_direction"]
        return direction

    @property
    def reducible(self) -> bool:
        """Whether the flow is that of a diagonal net in its dual reduction: n numbers instead of 2d."""
        return isinstance(self.model, DiagonalNet) and self.data.weights is None

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """The samples' shares p_i in the mean, shape (n,)."""
        weights = np.ones(self.data.n) if self.data.weights is None else self.data.weights
        return weights / weights.sum()

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
            "seed": self.seed,
        }


def _check_loss(loss: str, model: HomogeneousModel, data: Dataset) -> None:
    """Raise unless loss, outputs and labels fit."""
    if loss not in (*LOSSES, CROSS_ENTROPY):
        raise unknown_name("loss", str(loss), [*LOSSES, CROSS_ENTROPY])
    if loss == CROSS_ENTROPY:
        if data.classes is None:
            raise InputError("loss", f"{loss!r} on a {data.task} data set", "class numbers, task='multiclass'")
        if model.outputs != data.classes:
            raise InputError("model", f"{model.outputs} outputs", f"{data.classes}, one for each class")
        return
    if data.task == "multiclass":
        raise InputError("loss", f"{loss!r} on a multiclass data set", "'cross_entropy'")
    if loss != "squared" and data.task != "classification":
        raise InputError("loss", f"{loss!r} on a regression data set", "'squared', or labels +1 and -1")
    if model.outputs != 1:
        raise InputError("model", f"{model.outputs} outputs", f"one, which {loss!r} takes")


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
