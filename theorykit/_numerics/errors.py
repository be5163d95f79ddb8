"""The exceptions users see. Bad input is an `InputError` and says argument, what came and what was wanted."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line starts with this module and has to be there at once
    import numpy as np
    from numpy.typing import NDArray


class TheorykitError(Exception):
    """Base of everything theorykit raises on purpose."""


class InputError(TheorykitError, ValueError):
    """An argument is unusable; raised before any work.

    Parameters
    ----------
    argument : str
        Name of the argument (or option, or TOML key).
    got : str
        What came, in words.
    wanted : str
        What would have been right, in words.

    Examples
    --------
    >>> print(InputError("weight_decay", "-0.1", "a finite number >= 0"))
    weight_decay: got -0.1; wanted a finite number >= 0
    """

    def __init__(self, argument: str, got: str, wanted: str) -> None:
        super().__init__(f"{argument}: got {got}; wanted {wanted}")
        self.argument, self.got, self.wanted = argument, got, wanted

    def __reduce__(self) -> tuple[Any, ...]:  # pickling (worker processes) needs all three arguments back
        return type(self), (self.argument, self.got, self.wanted)


class NotSeparableError(InputError):
    """No linear predictor without bias separates the samples: carries the proof.

    Attributes
    ----------
    farkas : ndarray of object, shape (n,), or None
        Exact `fractions.Fraction` weights mu >= 0 with sum 1 and sum_i mu_i y_i x_i = 0: no w has y_i <w, x_i> > 0 for
        all i. None when the exact proof was out of reach.
    samples : tuple of int
        Indices of the samples with mu_i > 0 (they contradict one another).
    margin_at_most : float
        Upper bound on the margin, rounded outward; 0.0 when `farkas` is there.
    """

    def __init__(
        self,
        argument: str,
        got: str,
        wanted: str,
        farkas: NDArray[np.object_] | None = None,
        samples: tuple[int, ...] = (),
        margin_at_most: float = 0.0,
    ) -> None:
        super().__init__(argument, got, wanted)
        self.farkas, self.samples, self.margin_at_most = farkas, samples, margin_at_most

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.argument, self.got, self.wanted, self.farkas, self.samples, self.margin_at_most)


class InconsistentError(InputError):
    """No w satisfies the equations <w, x_i> = y_i: carries the proof.

    Attributes
    ----------
    proof : ndarray of object, shape (n,), or None
        Exact `fractions.Fraction` weights nu with sum_i nu_i x_i = 0 and sum_i nu_i y_i = 1. None when the exact proof
        was out of reach: then the equations may have a solution.
    samples : tuple of int
        Indices of the equations with nu_i != 0 (they contradict one another).
    norm_at_least : float
        Lower bound on the norm of any solution, rounded outward; inf when `proof` is there.
    """

    def __init__(
        self,
        argument: str,
        got: str,
        wanted: str,
        proof: NDArray[np.object_] | None = None,
        samples: tuple[int, ...] = (),
        norm_at_least: float = math.inf,
    ) -> None:
        super().__init__(argument, got, wanted)
        self.proof, self.samples, self.norm_at_least = proof, samples, norm_at_least

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.argument, self.got, self.wanted, self.proof, self.samples, self.norm_at_least)


class FlowError(TheorykitError, RuntimeError):
    """A flow ended early; raised only by `Trajectory.raise_for_status`."""


def unknown_name(argument: str, got: str, known: list[str]) -> InputError:
    """An `InputError` for a name that is not known, with the nearest right one.

    Examples
    --------
    >>> print(unknown_name("loss", "logistik", ["exponential", "logistic"]))
    loss: got 'logistik'; wanted one of exponential, logistic (did you mean 'logistic'?)
    """
    near = get_close_matches(got, known, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(argument, repr(got), f"one of {', '.join(known)}{hint}")
