"""What a check hands in: tested assumptions, measured numbers with their errors, and the false twins to refute."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from scipy.special import betaincinv

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer


@dataclass(frozen=True)
class Assumption:
    """An assumption of a theorem, tested on an instance."""

    name: str
    holds: bool
    value: float


@dataclass(frozen=True)
class Measurement:
    """One rung: a number, what the claim says about it, and the errors of both.

    Parameters
    ----------
    measured : float
        What was seen, or by how much an inequality holds (a slack). nan where a limit's number does not exist at this
        rung (the rung is then left out).
    predicted : float
        The claimed limit (the same at every rung up to round-off); for claims without an expansion the bound from
        below, 0 for a slack.
    integrator, certificate : float
        Error of the number from the flow, and from the programs that enter it: finite and not negative.
    extra : dict
        Further numbers for the report.
    also : tuple of Measurement
        Further numbers of which the claim says the same; it holds only if all of them do.
    sampling : float
        Error of the number from a finite sample: half-width of a confidence interval.
    floor : float
        Of one of `also`: what the number cannot be below, such as 0 for a size (`Claim.floor` is that of the first).

    Raises
    ------
    InputError
        Something is no number, or an error is negative or not finite (unless `measured` is nan).

    Examples
    --------
    >>> Measurement(0.9, predicted=1.0, integrator=-1.0)
    Traceback (most recent call last):
    theorykit._numerics.errors.InputError: integrator: got -1.0; wanted a finite number >= 0
    """

    measured: float
    predicted: float
    integrator: float = 0.0
    certificate: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)
    also: tuple[Measurement, ...] = ()
    sampling: float = 0.0
    floor: float = -math.inf

    def __post_init__(self) -> None:
        for name in ("measured", "predicted", "floor"):
            _number(name, getattr(self, name))
        for name in ("integrator", "certificate", "sampling"):
            value = _number(name, getattr(self, name))
            if not (math.isfinite(value) and value >= 0.0) and not math.isnan(self.measured):
                raise InputError(name, repr(value), "a finite number >= 0")
        if not isinstance(self.extra, Mapping):
            raise InputError("extra", repr(self.extra), "a mapping of names to numbers")
        for key, value in self.extra.items():
            _number(f"extra[{key!r}]", value)
        for other in self.also:
            if not isinstance(other, Measurement):
                raise InputError("also", repr(other), "Measurement objects only")

    @property
    def error(self) -> float:
        """The whole error of the number."""
        return self.integrator + self.certificate + self.sampling

    @classmethod
    def frequency(cls, hits: int, trials: int, at_least: float, confidence: float = 0.99) -> Measurement:
        """Return a measured frequency, for a claim that says that a probability is at least so large.

        Parameters
        ----------
        hits, trials : int
            How often it came true, and of how many independent trials.
        at_least : float
            The claimed probability.
        confidence : float
            Of the interval, whose end towards `at_least` is the error.

        Returns
        -------
        Measurement
            With the Clopper-Pearson interval in `extra`.

        Raises
        ------
        InputError
            Numbers out of range.

        Examples
        --------
        >>> seen = Measurement.frequency(990, 1000, at_least=0.95)
        >>> seen.measured, round(seen.sampling, 4)
        (0.99, 0.0113)
        """
        at_least = finite("at_least", at_least, minimum=0.0)
        low, high = clopper_pearson(hits, trials, confidence)
        share = hits / trials
        error = share - low if share >= at_least else high - share
        return cls(share, at_least, sampling=error, extra={"interval from": low, "interval to": high})


def clopper_pearson(hits: int, trials: int, confidence: float = 0.99) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a probability.

    Parameters
    ----------
    hits, trials : int
        How often it came true, and of how many independent trials.
    confidence : float
        Probability that the interval holds the true one, at least.

    Raises
    ------
    InputError
        Counts that are none, more hits than trials, a confidence outside (0, 1).

    References
    ----------
    Clopper and Pearson, Biometrika 26 (1934) 404-413.

    Examples
    --------
    >>> low, high = clopper_pearson(9, 10, 0.95)
    >>> round(low, 4), round(high, 4)
    (0.555, 0.9975)
    """
    trials, hits = integer("trials", trials, minimum=1), integer("hits", hits, minimum=0)
    if hits > trials:
        raise InputError("hits", f"{hits}", f"at most {trials}, the number of trials")
    if not 0.0 < confidence < 1.0:
        raise InputError("confidence", f"{confidence}", "a number in (0, 1)")
    tail = 0.5 * (1.0 - confidence)
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1.0 - tail)) if hits < trials else 1.0
    return low, high


def _number(argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(argument, repr(value), "a number")
    return float(value)


@dataclass(frozen=True)
class Control:
    """A false twin of a claim, which the same procedure must refute.

    Parameters
    ----------
    name : str
        What it says, in a few words.
    measure : callable
        Like `Claim.measure`: ``measure(instance, problem)`` returns a `Measurement` (``measure(trial, None)`` for a
        `Trial`).
    shared : bool
        Whether it makes another prediction about the number that the claim itself measures. Its distance then is the
        resolution that a supported claim needs.
    """

    name: str
    measure: Callable[[Any, Any], Measurement]
    shared: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError("name", repr(self.name), "what the control says, in a few words")
        if not callable(self.measure):
            raise InputError("measure", repr(self.measure), "a function of instance and problem")
        if not accepts(self.measure, 2):
            got = f"a function of {inspect.signature(self.measure)} for the control {self.name!r}"
            raise InputError("measure", got, "a function of instance and problem")


def accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments (True where Python cannot tell)."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True
