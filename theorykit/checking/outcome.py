"""What one claim says about one instance, as plain records that a file of results can hold without losing a bit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from theorykit.checking.claim import Ends
from theorykit.checking.instance import Family
from theorykit.checking.measurement import Assumption
from theorykit.checking.result import Rung
from theorykit.checking.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """One statement (a variant or a control) on one instance."""

    verdict: Verdict
    value: float = math.nan
    predicted: float = math.nan
    integrator: float = 0.0
    certificate: float = 0.0
    sampling: float = 0.0
    fit: float = 0.0
    rungs: tuple[Rung, ...] = ()
    fitted: dict[str, Any] | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The whole error."""
        return self.integrator + self.certificate + self.sampling + self.fit


@dataclass(frozen=True)
class Outcome:
    """Everything one claim said about one instance.

    `flows` are those that it asked for, with their ends, which a later claim on the same instance would have found;
    `recalled` says that it comes from the store.
    """

    claim: str
    family: Family
    index: int
    variants: dict[str, Judged]
    controls: dict[str, Judged]
    summary: dict[str, float]
    traces: tuple[dict[str, Any], ...]
    assumptions: tuple[Assumption, ...]
    reason: str | None
    failure: dict[str, str] | None
    wall_s: float
    flows: dict[str, Ends] = field(default_factory=dict)
    recalled: bool = False


def encode(outcome: Outcome) -> str:
    """Return an outcome as JSON with every bit of its numbers; nan and inf are words that Python's reader knows."""
    return json.dumps(asdict(outcome), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return float(value) if isinstance(value, Real) else str(value)


def decode(text: str) -> Outcome:
    """Return the outcome that `encode` wrote."""
    read = json.loads(text)
    for name in ("variants", "controls"):
        read[name] = {key: _judged(item) for key, item in read[name].items()}
    read["assumptions"] = tuple(Assumption(**item) for item in read["assumptions"])
    read["flows"] = {name: Ends(*ends) for name, ends in read["flows"].items()}
    return Outcome(**{**read, "family": Family(*read["family"]), "traces": tuple(read["traces"])})


def _judged(item: dict[str, Any]) -> Judged:
    return Judged(**{**item, "rungs": tuple(Rung(**rung) for rung in item["rungs"])})
