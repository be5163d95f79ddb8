"""The one place where numbers with errors become verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

Verdict = Literal["supported", "refuted", "inconclusive", "not-applicable"]

WORST_FIRST: tuple[Verdict, ...] = ("supported", "inconclusive", "refuted", "not-applicable")
"""Order in which the verdicts on controls, all to be refuted, are bad news."""


def judge_value(measured: float, error: float, predicted: float, resolution: float = math.inf) -> Verdict:
    """Judge "measured tends to predicted" from an interval.

    Parameters
    ----------
    measured, error : float
        The interval measured +- error.
    predicted : float
        What the claim says.
    resolution : float
        The distance to what a control says: an interval that is wide enough to hold both proves nothing.

    Returns
    -------
    str
        "refuted" if the interval excludes the prediction, "supported" if it contains it and reaches less far from it
        than the resolution, so that it excludes what the control says, "inconclusive" otherwise (or if a number is not
        finite).

    Examples
    --------
    >>> judge_value(1.0001, 0.001, 1.0), judge_value(1.23, 0.001, 1.0), judge_value(1.1, 0.5, 1.0, resolution=0.2)
    ('supported', 'refuted', 'inconclusive')
    """
    if not (math.isfinite(measured) and math.isfinite(error) and math.isfinite(predicted)):
        return "inconclusive"
    if abs(measured - predicted) > error:
        return "refuted"
    return "supported" if abs(measured - predicted) + error < resolution else "inconclusive"


def judge_slacks(slacks: Iterable[tuple[float, float]]) -> Verdict:
    """Judge inequalities from pairs (slack, error): the claim says that no slack is negative.

    Returns
    -------
    str
        "refuted" if some slack is below minus its error, "supported" if all exceed their errors, else "inconclusive".

    Examples
    --------
    >>> judge_slacks([(0.1, 0.01), (2.0, 0.5)]), judge_slacks([(-0.1, 0.01), (1.0, 0.0)]), judge_slacks([(0.1, 0.2)])
    ('supported', 'refuted', 'inconclusive')
    """
    pairs = list(slacks)
    if not pairs or not all(math.isfinite(slack) and math.isfinite(error) for slack, error in pairs):
        return "inconclusive"
    if any(slack < -error for slack, error in pairs):
        return "refuted"
    return "supported" if all(slack > error for slack, error in pairs) else "inconclusive"


def decisive(slacks: Sequence[tuple[float, float]]) -> int:
    """Return the index of the pair (slack, error) on which `judge_slacks` turns: the one nearest to being refuted.

    Where that is none, numbers that are not finite come first.

    Examples
    --------
    >>> decisive([(2.0, 0.5), (0.4, 0.1), (0.5, 0.3)]), decisive([(-0.1, 0.2), (-0.05, 0.01)])
    (2, 1)
    """
    side = 1.0 if judge_slacks(slacks) == "refuted" else -1.0
    reached = [slack + side * error for slack, error in slacks]
    return min(range(len(reached)), key=lambda k: reached[k] if math.isfinite(reached[k]) else -math.inf)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Judge a statement about all instances from the verdicts on each.

    One counterexample refutes it; support needs all. Instances to which it does not apply do not count.

    Examples
    --------
    >>> combine(["supported", "refuted"]), combine(["supported", "not-applicable"]), combine(["not-applicable"])
    ('refuted', 'supported', 'not-applicable')
    """
    counted = [verdict for verdict in verdicts if verdict != "not-applicable"]
    if not counted:
        return "not-applicable"
    if "refuted" in counted:
        return "refuted"
    return "supported" if all(verdict == "supported" for verdict in counted) else "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict on a set of controls: one that is supported, else one that is open.

    Examples
    --------
    >>> worst(["refuted", "inconclusive"])
    'inconclusive'
    """
    return min(verdicts, key=WORST_FIRST.index)
