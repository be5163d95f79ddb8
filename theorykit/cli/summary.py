"""The summary of one simulated flow as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from theorykit.report.words import error_text, number, seconds


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return what a run found, in lines.

    Parameters
    ----------
    summary : mapping
        What ``summary.json`` holds.

    Returns
    -------
    str
        Ends with a newline.
    """
    return "\n".join(_lines(summary)) + "\n"


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    data = summary["data"]
    yield f"{summary['preset']} ({summary['profile']}): {data['name']}, n = {data['n']}, d = {data['d']}"
    yield f"status: {summary['status']}"
    for name, found in summary["predictors"].items():
        low, high = found["margin"]
        yield f"{name} predictor: margin {number(low, high - low)}" + _accuracy(found["test_accuracy"])
    for event in summary["events"]:
        way = "rises" if event["direction"] > 0 else "falls"
        where = f"s = {number(event['s'])}, tau = {number(event['tau'])} ± {error_text(event['error'])}"
        yield f"{event['name']} {way} through {number(event['level'])} at {where}"
    for name, moment in summary["moments"].items():
        shown = ", ".join(f"{key} {number(value)}" for key, value in moment.items() if key != "s" and value is not None)
        yield f"{name} (s = {number(moment['s'])}): {shown}"
    errors = ", ".join(f"{name} {error_text(error)}" for name, error in summary["errors"].items())
    yield f"largest errors{', confirmed' * summary['confirmed']}: {errors}"
    yield from summary["notes"]
    yield f"flow {seconds(summary['wall_s'])}, everything {seconds(summary['wall_total_s'])}"


def _accuracy(value: float | None) -> str:
    return "" if value is None else f", test accuracy {number(value)}"
