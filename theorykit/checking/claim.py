"""What a check is made of: source, instances, measurements, controls, and the class that a user subclasses."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np

from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit.checking.expansion import Expansion
from theorykit.datasets import Dataset
from theorykit.flow import Problem, Trajectory
from theorykit.models import DiagonalNet
from theorykit.programs import MaxMargin

T = TypeVar("T")

KINDS = ("limit", "existence", "inequality", "identity", "probability", "figure")
VARIANTS = frozenset({"as-printed", "corrected"})

REFERENCES = {
    "lyu2024": """@inproceedings{lyu2024,
  title     = {Dichotomy of Early and Late Phase Implicit Biases Can Provably Induce Grokking},
  author    = {Lyu, Kaifeng and Jin, Jikai and Li, Zhiyuan and Du, Simon S. and Lee, Jason D. and Hu, Wei},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  eprint    = {2311.18817},
  archivePrefix = {arXiv}
}"""
}


@dataclass(frozen=True)
class Source:
    """Where a statement comes from.

    Parameters
    ----------
    key : str
        Citation key.
    where : str
        Number of the theorem, lemma, figure.
    entry : str, optional
        The BibTeX entry, for keys that theorykit does not know.

    Examples
    --------
    >>> Source("lyu2024", "Theorem 3.4").bibtex().splitlines()[0]
    '@inproceedings{lyu2024,'
    """

    key: str
    where: str
    entry: str | None = None

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        return self.entry or REFERENCES.get(self.key, f"@misc{{{self.key}}}")

    @property
    def is_known(self) -> bool:
        """Whether there is a BibTeX entry: one of its own, or one that theorykit has."""
        return bool(self.entry) or self.key in REFERENCES

    @property
    def paper(self) -> str:
        """Title and year from the BibTeX entry, as far as it has them.

        Examples
        --------
        >>> Source("lyu2024", "Theorem 3.4").paper
        'Dichotomy of Early and Late Phase Implicit Biases Can Provably Induce Grokking (2024)'
        """
        title, year = (
            re.search(rf"\b{name}\s*=\s*[{{\"](.+?)[}}\"]\s*(,|$|}})", self.bibtex(), re.MULTILINE | re.IGNORECASE)
            for name in ("title", "year")
        )
        parts = ([title[1].replace("{", "").replace("}", "")] if title else []) + ([f"({year[1]})"] if year else [])
        return " ".join(parts)


@dataclass(frozen=True, eq=False)
class Instance:
    """One random problem family: everything but the initial scale.

    Parameters
    ----------
    model : DiagonalNet
    data : Dataset
    loss : str
    p : float
        lambda = alpha^-p.
    c : float
        Half-width of the window [T^-_c, T^+_c] = (1 -+ c) log(alpha)/lambda, in (0, 1).
    init : str
        Name of the initial direction.
    """

    model: DiagonalNet
    data: Dataset
    loss: str
    p: float = 1.0
    c: float = 0.3
    init: str = "theory"

    def __post_init__(self) -> None:
        if not isinstance(self.model, DiagonalNet):
            raise InputError("model", repr(self.model), "a model, such as theorykit.models.DiagonalNet(d=40)")
        if not isinstance(self.data, Dataset):
            raise InputError("data", repr(self.data), "a theorykit.Dataset")
        if not self.p > 0.0:
            raise InputError("p", f"{self.p}", "a positive exponent: the theory needs weight decay alpha^-p > 0")
        if not 0.0 < self.c < 1.0:
            raise InputError("c", f"{self.c}", "a number in (0, 1)")

    def at(self, log_alpha: float) -> Problem:
        """Return the problem at one initial scale."""
        return Problem(
            self.model, self.data, self.loss, log_alpha=log_alpha, log_weight_decay=-self.p * log_alpha, init=self.init
        )

    @property
    def family(self) -> tuple[Any, ...]:
        """What makes instances comparable: they are reported as one result."""
        return self.model.name, self.loss, self.model.degree, self.p, self.c

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two instances the same problem, so that claims share its flows."""
        return self.data.fingerprint, self.model.name, self.model.degree, self.loss, self.p, self.init


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
        nan where it does not exist at this rung (the rung is then left out).
    predicted : float
        The claimed limit (the same at every rung up to round-off).
    integrator, certificate : float
        Error of the number from the flow, and from the programs that enter it: finite and not negative.
    extra : dict
        Further numbers for the report.
    also : tuple of Measurement
        Further numbers of which the claim says the same; it holds only if all of them do.
    sampling : float
        Error of the number from a finite sample: half-width of a confidence interval.

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

    def __post_init__(self) -> None:
        for name in ("measured", "predicted"):
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
        Like `Claim.measure`: ``measure(instance, problem)`` returns a `Measurement`.
    shared : bool
        Whether it makes another prediction about the number that the claim itself measures. Its distance then is the
        resolution that a supported claim needs.
    """

    name: str
    measure: Callable[[Instance, Problem], Measurement]
    shared: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError("name", repr(self.name), "what the control says, in a few words")
        if not callable(self.measure):
            raise InputError("measure", repr(self.measure), "a function of instance and problem")


class Claim(ABC):
    """A statement of a paper as a check.

    Subclass it in one file, set the class attributes, and write `instances`, `measure` and `controls`;
    `theorykit verify` finds the file by itself. The runner owns seeds, the ladder of scales and the loop; a measurement
    never judges.

    Attributes
    ----------
    id : str
        ``suite.name`` in lower case.
    title : str
        A few words for the table. The class docstring is the statement.
    kind : str
        "limit", "existence", "inequality", "identity", "probability" or "figure".
    source : Source
    assumptions : tuple of str
        In words; `check` tests them.
    judged : str
        How the verdict comes about, in a sentence.
    expected : dict
        Expected verdict of each variant ("as-printed", "corrected").
    expansion : Expansion or None
        The form in which the limit is approached; None for claims without a ladder (their measurement is a slack).
    ladders : dict
        Scales log(alpha) for each profile.
    draws : dict
        How many instances each profile draws.
    quantity : str
        What is measured, in a few words or symbols, for the axes of figures.
    open_question : bool
        Whether no theorem says so: the source asks, or leaves it open.
    resolution : float
        The largest error at which an interval around the prediction still says something; controls that share the
        measurement lower it further.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[str]
    source: ClassVar[Source]
    assumptions: ClassVar[tuple[str, ...]] = ()
    judged: ClassVar[str] = ""
    expected: ClassVar[Mapping[str, str]] = {"as-printed": "supported"}
    expansion: ClassVar[Expansion | None] = Expansion()
    ladders: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "quick": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
        "full": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0),
        "paper": (20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0),
    }
    draws: ClassVar[Mapping[str, int]] = {"quick": 2, "full": 20, "paper": 20}
    quantity: ClassVar[str] = ""
    open_question: ClassVar[bool] = False
    resolution: ClassVar[float] = math.inf
    statement: ClassVar[str] = ""
    variants: ClassVar[tuple[str, ...]] = ()
    control_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    def __init_subclass__(cls) -> None:
        """Read the statement off the docstring, the variants off the expectations, the names off the controls."""
        super().__init_subclass__()
        cls.statement = " ".join((cls.__doc__ or "").split())
        cls.variants = tuple(cls.expected) if isinstance(cls.expected, Mapping) else ()
        written = (cls.instances, cls.measure, cls.controls)
        if not any(getattr(method, "__isabstractmethod__", False) for method in written):
            cls.control_names = _names(cls(Tools("quick")).controls())

    @abstractmethod
    def instances(self, rng: np.random.Generator) -> Iterable[Instance]:
        """Yield one random instance of every family."""

    @abstractmethod
    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure one rung (claims without a ladder: a slack and its error, once)."""

    @abstractmethod
    def controls(self) -> Sequence[Control]:
        """Return the false twins."""

    def check(self, instance: Instance) -> Sequence[Assumption]:
        """Test the assumptions on an instance."""
        return ()

    def summarise(self, instance: Instance, problem: Problem) -> Mapping[str, float]:
        """Return further numbers at the largest scale, for the report."""
        return {}

    def traces(self, instance: Instance, problem: Problem) -> Sequence[Mapping[str, Any]]:
        """Return small trajectories for the report's figures: label, s, curves, and marks (names with values of s)."""
        return ()

    @classmethod
    def is_limit(cls) -> bool:
        """Return whether a rung's prediction belongs beside its measurement (not so for a fitted coefficient)."""
        return cls.expansion is not None and cls.expansion.leading == "1"

    def flow(self, problem: Problem, s_end: float) -> Trajectory:
        """Return the flow of a problem at least to s_end; computed once for all claims of a run."""
        return self.tools.flow(problem, s_end)

    def max_margin(self, data: Dataset, norm: int) -> MaxMargin:
        """Return the certified max-margin separator; computed once for all claims of a run."""
        return self.tools.max_margin(data, norm)


def _names(controls: Any) -> tuple[str, ...]:
    """Return the names of a claim's controls."""
    if not isinstance(controls, Iterable):
        raise InputError("controls", repr(controls), "a sequence of Control")
    names = []
    for control in controls:
        if not isinstance(control, Control):
            raise InputError("controls", repr(control), "Control objects only")
        if control.name in names:
            raise InputError("controls", f"{control.name!r} twice", "a name of its own for each control")
        names.append(control.name)
    return tuple(names)


class Tools:
    """Flows and programs that the claims of one run share, all at one tolerance.

    Parameters
    ----------
    profile : str
    rtol : float
        Tolerance of the flows.
    """

    def __init__(self, profile: str, rtol: float = 1e-8) -> None:
        self.profile, self.rtol = profile, rtol
        self._flows: dict[tuple[Any, ...], tuple[float, Trajectory]] = {}
        self._separators: dict[tuple[Any, ...], MaxMargin | NotSeparableError] = {}
        self._others: dict[Hashable, Any] = {}

    def flow(self, problem: Problem, s_end: float) -> Trajectory:
        """See `Claim.flow`."""
        from theorykit.flow import SaveAt, gradient_flow

        key = (
            problem.data.fingerprint, problem.model, problem.loss, problem.log_alpha, problem.log_weight_decay,
            problem.direction.tobytes(),
        )  # fmt: skip
        known = self._flows.get(key)
        if known is None or known[0] < s_end:
            trajectory = gradient_flow(problem, s_end=s_end, rtol=self.rtol, save=SaveAt(num=2)).raise_for_status()
            known = self._flows[key] = (s_end, trajectory)
        return known[1]

    def max_margin(self, data: Dataset, norm: int) -> MaxMargin:
        """See `Claim.max_margin`."""
        from theorykit.programs import max_margin

        key = (data.fingerprint, norm)
        if key not in self._separators:
            try:
                self._separators[key] = max_margin(data.X, data.y, norm=norm)
            except NotSeparableError as error:
                self._separators[key] = error
        found = self._separators[key]
        if isinstance(found, NotSeparableError):
            raise found
        return found

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gives, computed once for each key."""
        if key not in self._others:
            self._others[key] = compute()
        found: T = self._others[key]
        return found
