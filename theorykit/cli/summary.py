"""The summary of one simulated flow as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from theorykit.report.words import error_text, number, seconds

_START = 1e-3  # crossings before this s belong to the start-up, in which the outputs first leave 0


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
    if "members" in summary:
        for member in summary["members"]:
            yield from [*_lines(member), ""]
        yield f"{summary['family']['key']}: {len(summary['members'])} flows, {seconds(summary['wall_s'])}"
        return
    data = summary["data"]
    own = summary["source"] == "file" and summary["profile"] == "paper"
    size = "as in the file" if own else summary["profile"]
    diagonal = summary["settings"]["model"]["kind"] == "diagonal"
    sizes = f"d = {data['d']}" if diagonal else summary["model"]["name"]  # other models' names have their sizes
    yield f"{summary['preset']} ({size}): {data['name']}, n = {data['n']}, {sizes}"
    yield f"status: {summary['status']}"
    for name, found in summary["predictors"].items():
        yield f"{name} predictor: {_predictor(found)}"
    for event in summary["events"]:
        yield _event(event)
    for event in summary["not_crossed"]:
        yield f"{event['name']} does not cross {number(event['level'])}"
    for name, moment in summary["moments"].items():
        yield f"{name}: not reached" if moment is None else f"{name} ({_at(moment)}): {_moment(moment)}"
    yield f"largest errors{', confirmed' * summary['confirmed']}: {_errors(summary)}"
    yield from summary["notes"]
    yield f"flow {seconds(summary['wall_s'])}, everything {seconds(summary['wall_total_s'])}"


def _predictor(found: Mapping[str, Any]) -> str:
    key = "margin" if "margin" in found else "least_norm"
    low, high = found[key]
    text = f"{key.replace('_', ' ')} {number(low, high - low)}"
    for key in ("test_accuracy", "test_loss"):
        if found.get(key) is not None:
            text += f", {key.replace('_', ' ')} {number(found[key])}"
    return text


def _event(event: Mapping[str, Any]) -> str:
    """Return one crossing in words; one of the start-up, long before anything happens in s, is no event in s."""
    rises = event["direction"] > 0
    if event["s"] is not None and event["s"] < _START:
        side = "above" if rises else "below"
        return f"{event['name']} is {side} {number(event['level'])} from the start (s = {error_text(event['s'])})"
    clocks = {name: event[name] for name in ("s", "tau") if _finite(event[name])}
    error = f" ± {error_text(event['error'])}" if "tau" in clocks else f" ± {error_text(event['log_t_error'])}"
    where = ", ".join(f"{name} = {number(value)}" for name, value in clocks.items()) or f"log t = {event['log_t']:.6g}"
    return f"{event['name']} {'rises' if rises else 'falls'} through {number(event['level'])} at {where}{error}"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _at(moment: Mapping[str, Any]) -> str:
    """Return the time of a moment, in the finest clock it has."""
    clock = next(name for name in ("s", "tau", "log_t") if name in moment)
    return f"{clock.replace('_', ' ')} = {number(moment[clock])}"


def _moment(moment: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in moment.items() if key not in ("s", "tau", "log_t") and value is not None}
    return ", ".join(f"{key} {number(value)}" for key, value in shown.items())


def _errors(summary: Mapping[str, Any]) -> str:
    """Return the largest errors of the statistics that the lines above show."""
    moments = [moment for moment in summary["moments"].values() if moment is not None]
    shown = {key for moment in moments for key in moment} | {event["name"] for event in summary["events"]}
    return ", ".join(f"{name} {error_text(error)}" for name, error in summary["errors"].items() if name in shown)
