"""What a check is made of: source, instances, measurements, controls, and the class that a user subclasses."""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit.checking.expansion import Expansion
from theorykit.checking.instance import Instance, Trial
from theorykit.checking.measurement import Assumption, Control, Measurement
from theorykit.datasets import Dataset
from theorykit.flow import Problem, Trajectory
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
        The form in which the limit is approached; None for a claim whose measurements are slacks.
    ladders : dict
        Scales log(alpha) for each profile ("quick", "full", "paper"; one that is not named has what the one before it
        has, here and in `draws`). A claim of slacks that sets it is measured at every one of them, else once.
    draws : dict
        How many instances each profile draws.
    quantity : str
        What is measured, in a few words or symbols, for the axes of figures.
    floor : float
        What `measure` gives cannot be below (0 for a residual): an extrapolated limit that is, by more than its error,
        decides nothing.
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
    floor: ClassVar[float] = -math.inf
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
        for name in ("ladders", "draws"):
            if name in vars(cls):
                setattr(cls, name, _completed(vars(cls)[name]))
        written = (cls.instances, cls.measure, cls.controls)
        if not any(getattr(method, "__isabstractmethod__", False) for method in written):
            cls.control_names = _names(f"{cls.__name__}.controls", cls(Tools("quick")).controls())

    @abstractmethod
    def instances(self, rng: np.random.Generator) -> Iterable[Instance | Trial]:
        """Yield one random instance of every family (trials, for a claim about no flow)."""

    @abstractmethod
    def measure(self, instance: Any, problem: Any, variant: str) -> Measurement:
        """Measure one rung: a number that tends to a limit, or a slack. For a `Trial`, `problem` is None."""

    @abstractmethod
    def controls(self) -> Sequence[Control]:
        """Return the false twins."""

    def broken(self) -> Sequence[Control]:
        """Return the statement itself broken on purpose: a changed exponent, constant, norm or time.

        Unlike the controls they are no part of a run: tests refute them, on every family, with the same procedure
        (`theorykit.checking.judge_broken`).
        """
        return ()

    def check(self, instance: Any) -> Sequence[Assumption]:
        """Test the assumptions on an instance."""
        return ()

    def summarise(self, instance: Any, problem: Any) -> Mapping[str, float]:
        """Return further numbers at the largest scale, for the report."""
        return {}

    def traces(self, instance: Any, problem: Any) -> Sequence[Mapping[str, Any]]:
        """Return small trajectories for the report's figures: label, s, curves, and marks (names with values of s)."""
        return ()

    @classmethod
    def is_limit(cls) -> bool:
        """Return whether a rung's prediction belongs beside its measurement (not so for a fitted coefficient)."""
        return cls.expansion is not None and cls.expansion.leading == "1"

    @classmethod
    def has_ladder(cls) -> bool:
        """Return whether it is measured at several scales: a limit, or slacks with `ladders` of their own."""
        return cls.expansion is not None or cls.ladders is not Claim.ladders

    def flow(
        self,
        problem: Problem,
        s_end: float | None = None,
        *,
        tau_end: float | None = None,
        log_t_end: float | None = None,
    ) -> Trajectory:
        """Return the flow of a problem at least to an end; computed once for all claims of a run.

        Parameters
        ----------
        problem : Problem
        s_end, tau_end, log_t_end : float
            The end, exactly one of them, as for `theorykit.gradient_flow`. A flow that is known to go further comes
            back as it is.

        Raises
        ------
        FlowError
            The flow ends before.
        """
        return self.tools.flow(problem, s_end, tau_end=tau_end, log_t_end=log_t_end)

    def max_margin(self, data: Dataset, norm: int) -> MaxMargin:
        """Return the certified max-margin separator; computed once for all claims of a run."""
        return self.tools.max_margin(data, norm)


def _completed(given: Any) -> Any:
    """Let a profile that is not named have what the one before it has (the first named, if there is none)."""
    if not isinstance(given, Mapping) or not given:
        return given
    last, found = next(iter(given.values())), {}
    for profile in ("quick", "full", "paper"):
        last = found[profile] = given.get(profile, last)
    return found


def _names(where: str, controls: Any) -> tuple[str, ...]:
    """Return the names of a claim's controls."""
    if not isinstance(controls, Iterable):
        raise InputError(where, repr(controls), "a list of Control")
    names = []
    for control in controls:
        if not isinstance(control, Control):
            raise InputError(where, repr(control), "Control objects only")
        if control.name in names:
            raise InputError(where, f"{control.name!r} twice", "a name of its own for each control")
        names.append(control.name)
    return tuple(names)


class Ends(NamedTuple):
    """The end of a flow, in one of the three ways."""

    s_end: float | None = None
    tau_end: float | None = None
    log_t_end: float | None = None


def _name(problem: Problem) -> str:
    """Return a name of a problem that means the same in every process."""
    parts = (
        problem.data.fingerprint, problem.model.name, problem.loss, problem.log_alpha, problem.log_weight_decay,
        hashlib.sha256(problem.direction.tobytes()).hexdigest(),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()


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
        self.asked: dict[str, Ends] = {}
        self._expected: dict[str, Ends] = {}
        self._flows: dict[tuple[Any, ...], tuple[float, Trajectory]] = {}
        self._separators: dict[tuple[Any, ...], MaxMargin | NotSeparableError] = {}
        self._others: dict[Hashable, Any] = {}

    def flow(
        self,
        problem: Problem,
        s_end: float | None = None,
        *,
        tau_end: float | None = None,
        log_t_end: float | None = None,
    ) -> Trajectory:
        """See `Claim.flow`."""
        from theorykit.flow import SaveAt, gradient_flow
        from theorykit.flow.api import log_end

        key = (
            problem.data.fingerprint, problem.model, problem.loss, problem.log_alpha, problem.log_weight_decay,
            problem.direction.tobytes(),
        )  # fmt: skip
        name, ends = _name(problem), Ends(s_end, tau_end, log_t_end)
        end = log_end(problem, *ends)
        known = self._flows.get(key)
        if known is None or known[0] < end:
            expected = self._expected.get(name)
            if expected is not None and end < log_end(problem, *expected):
                ends, end = expected, log_end(problem, *expected)
            trajectory = gradient_flow(
                problem, **ends._asdict(), rtol=self.rtol, save=SaveAt(num=2)
            ).raise_for_status()  # fmt: skip
            self.asked[name] = ends
            known = self._flows[key] = (end, trajectory)
        return known[1]

    def expect(self, asked: Mapping[str, Ends]) -> None:
        """Follow flows at least as far as a claim that is not run again did, so that the numbers after it agree."""
        self._expected |= asked

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
