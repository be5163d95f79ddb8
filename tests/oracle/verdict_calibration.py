"""Verdicts on synthetic evidence of known truth: how often is a true claim supported, a false one refuted?

Ladders follow the limit in one of several ways, with noise inside stated bounds; the claim says the truth, or what a
control of the ledger says. Slacks and frequencies are judged likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from theorykit.checking import Expansion, Measurement
from theorykit.checking.expansion import TERMS
from theorykit.checking.verdict import judge_slacks, judge_value

_QUICK = tuple(20.0 * 2.0**k for k in range(6))
_FULL = tuple(20.0 * 2.0**k for k in range(8))
_LATE = tuple(320.0 * 2.0**k for k in range(6))
_SIZE = 2.0  # standard deviation of the coefficients: those of the ledger's own ladders are of this size


@dataclass(frozen=True)
class Setting:
    """An expansion of the ledger on one of its ladders, and how far away the nearest false claim is."""

    name: str
    expansion: Expansion
    ladder: tuple[float, ...]
    distance: float


_ANGLE = Expansion(("1/x", "log/x^2", "1/x^2"), neighbours=(("1/x",), ("log/x", "1/x"), ("1/x", "log/x^2")))
_SECOND = Expansion(("1", "log/x", "1/x"), neighbours=(("1", "1/x"), ("1", "log/x", "1/x", "1/x^2")), leading="log")
_WIDTH = Expansion(("1", "1/x"), neighbours=(("1",), ("1", "log/x", "1/x")), leading="log")
SETTINGS = (
    Setting("ratio of thm-3.4, quick", Expansion(), _QUICK, 3.0 / 13.0),  # as printed 16/13
    Setting("ratio of thm-3.4, full", Expansion(), _FULL, 3.0 / 13.0),
    Setting("time of transition-time, quick", Expansion(), _QUICK, 0.5),
    Setting("angle of cor-3.6, quick", _ANGLE, _QUICK, 0.5),
    Setting("residual of cor-3.7, late", _ANGLE, _LATE, 0.1),
    Setting("coefficient of transition-second-order, quick", _SECOND, _QUICK, 1.0 / 6.0),
    Setting("coefficient of transition-second-order, full", _SECOND, _FULL, 1.0 / 6.0),
    Setting("power of transition-width, late", _WIDTH, _LATE, 0.5),
)

Ladder = Callable[[Setting, np.random.Generator], np.ndarray]


def _combination(terms: tuple[str, ...], x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sum((_SIZE * rng.standard_normal() * TERMS[name](x) for name in terms), np.zeros_like(x))


def _declared(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    return _combination(setting.expansion.terms, np.array(setting.ladder), rng)


def _neighbour(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    forms = setting.expansion.neighbours
    return _combination(forms[rng.integers(len(forms))], np.array(setting.ladder), rng)


def _inverse(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    return _SIZE * rng.standard_normal() / np.array(setting.ladder)


def _double_logarithm(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """log log A / log A with A = alpha^k."""
    log_a = rng.uniform(2.0, 8.0) * np.array(setting.ladder)
    return _SIZE * rng.standard_normal() * np.log(log_a) / log_a


def _power(setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """A power of log(alpha) that no term has."""
    return _SIZE * rng.standard_normal() * np.array(setting.ladder) ** -rng.uniform(1.0, 3.0)


KINDS: dict[str, Ladder] = {
    "declared family": _declared,
    "neighbours": _neighbour,
    "1/log α": _inverse,
    "log log A/log A": _double_logarithm,
    "powers of log α": _power,
}


def ladders(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Judge `count` ladders of each kind in each setting, on the true claim and on the nearest false one."""
    rows = []
    for setting in SETTINGS:
        for kind, make in KINDS.items():
            rng = np.random.default_rng([seed, len(rows)])
            verdicts = [_on_a_ladder(setting, make, rng) for _ in range(count)]
            rows.append({"evidence": setting.name, "approach": kind, **_shares(verdicts)})
    return rows


def _on_a_ladder(setting: Setting, make: Ladder, rng: np.random.Generator) -> tuple[str, str]:
    x, limit = np.array(setting.ladder), rng.uniform(-2.0, 2.0)
    noise = 10.0 ** rng.uniform(-10.0, -5.0) * np.ones_like(x)
    y = limit * TERMS[setting.expansion.leading](x) + make(setting, rng) + noise * rng.uniform(-1.0, 1.0, x.size)
    fit = setting.expansion.fit(x, y, noise)
    false = limit + setting.distance * rng.choice([-1.0, 1.0])
    return tuple(judge_value(fit.value, fit.error, claim, setting.distance) for claim in (limit, false))  # type: ignore[return-value]


def slacks(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Judge inequalities with slacks of both signs along a ladder, known to an error that is stated."""
    rng = np.random.default_rng([seed, 1])
    verdicts = []
    for _ in range(count):
        error = 10.0 ** rng.uniform(-8.0, -3.0, len(_QUICK))
        true = 10.0 ** rng.uniform(-2.0, 0.0, len(_QUICK))
        false = np.where(np.arange(len(_QUICK)) == rng.integers(len(_QUICK)), -1.0, 1.0) * true
        seen = error * rng.uniform(-1.0, 1.0, len(_QUICK))
        verdicts.append(tuple(judge_slacks(list(zip(slack + seen, error, strict=True))) for slack in (true, false)))
    return [{"evidence": "slacks on six rungs", "approach": "one of six is violated, or none", **_shares(verdicts)}]


def frequencies(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Judge frequencies in 1 000 trials: the true probability is as claimed or more, or less."""
    rows = []
    for name, claimed, true, false in (
        ("far from the claim", 0.9, (0.95, 1.0), (0.8, 0.85)),
        ("exactly as claimed", 0.9, (0.9, 0.9), (0.8, 0.85)),
    ):
        rng = np.random.default_rng([seed, 2, len(rows)])
        verdicts = [
            tuple(
                judge_slacks([(seen.measured - seen.predicted, seen.error)])
                for share in (true, false)
                for seen in [Measurement.frequency(int(rng.binomial(1000, rng.uniform(*share))), 1000, claimed)]
            )
            for _ in range(count)
        ]
        rows.append({"evidence": "frequency of 1 000", "approach": name, **_shares(verdicts)})
    return rows


def _shares(verdicts: list[tuple[str, ...]]) -> dict[str, float]:
    """Return the shares of each verdict on true and on false claims."""
    count = len(verdicts)
    true, false = (Counter(verdict[k] for verdict in verdicts) for k in (0, 1))
    return {
        "true: supported": true["supported"] / count,
        "true: refuted": true["refuted"] / count,
        "true: inconclusive": true["inconclusive"] / count,
        "false: supported": false["supported"] / count,
        "false: refuted": false["refuted"] / count,
        "false: inconclusive": false["inconclusive"] / count,
    }


def faults(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with more than 1 % wrong verdicts, or more than 20 % open ones on either claim."""
    return [
        row
        for row in rows
        if max(row["true: refuted"], row["false: supported"]) > 0.01
        or (
            max(row["true: inconclusive"], row["false: inconclusive"]) > 0.2 and row["approach"] != "exactly as claimed"
        )
    ]
