"""Figures of results: the ladder with its extrapolation, and small trajectories."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, TypeGuard

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from theorykit.checking.expansion import TERMS
from theorykit.checking.result import ClaimResult
from theorykit.report.words import error_text, number, setting, theory, verdict_text

# The light theme's colours; `inline_svg` turns each into the CSS variable of that name, so that a page can recolour it.
COLOURS = {
    "ink": "#1c1e22",
    "faint": "#b9bec7",
    "measured": "#1f5fbf",
    "theory": "#0a7f4f",
    "control": "#c2410c",
    "fit": "#7a4fc2",
    "fifth": "#9a6700",
    "sixth": "#5b6472",
}
_CURVES = ("measured", "control", "theory", "fit", "fifth", "sixth")
_PANEL = (4.2, 3.3)  # inches: about a phone's width, so that nothing shrinks below legible
_MOST_POINTS = 160


def ladder_figure(result: ClaimResult) -> Figure:
    """Draw the ladder of one result, or its one number where it has no ladder.

    Parameters
    ----------
    result : ClaimResult
        With `ladder`, `limit_fit`, `predicted`, `measured`, `error` and `control` as far as they apply.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.
    """
    with _style():
        figure = Figure(figsize=_PANEL, layout="constrained")
        _draw_result(figure.subplots(), result)
    return figure


def trace_figure(trace: dict[str, Any]) -> Figure:
    """Draw the curves of one trace over s.

    Parameters
    ----------
    trace : dict
        {"label": text, "s": numbers, "curves": {name: numbers}}; None in a curve is a gap. "marks" (names with values
        of s) are drawn as vertical lines, "quantity" is written at the y axis.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.
    """
    with _style():
        figure = Figure(figsize=_PANEL, layout="constrained")
        axes = figure.subplots()
        s = _array(trace["s"])
        kept = _thinned(s.size)
        curves = {name: _array(values) for name, values in trace["curves"].items()}
        for k, (name, values) in enumerate(curves.items()):
            axes.plot(s[kept], values[kept], color=COLOURS[_CURVES[k % len(_CURVES)]], label=_literal(name), lw=1.6)
        if _needs_log_axis(curves.values()):
            axes.set_yscale("log")
        for name, at in trace.get("marks", {}).items():
            axes.axvline(at, color=COLOURS["faint"], lw=1.0, zorder=0)
            axes.text(at, 0.0, f"{_literal(name)} ", transform=axes.get_xaxis_transform(), ha="right", va="bottom")
        axes.set_xlabel(r"s = λt / log α")
        axes.set_ylabel(_literal(trace.get("quantity") or ", ".join(curves)))
        axes.set_title(_literal(trace["label"]))
        _legend(axes)
    return figure


def overview(results: Sequence[ClaimResult]) -> Figure:
    """Draw one panel per result on one figure.

    Parameters
    ----------
    results : sequence of ClaimResult
        May be empty.

    Returns
    -------
    matplotlib.figure.Figure
        Up to three panels in a row.
    """
    columns = max(1, min(3, len(results)))
    rows = max(1, math.ceil(len(results) / columns))
    with _style():
        figure = Figure(figsize=(1.3 * _PANEL[0] * columns, 1.2 * _PANEL[1] * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, result in zip(panels, results, strict=False):
            _draw_result(axes, result)
            title = textwrap.fill(_literal(setting(result)), 36)
            axes.set_title(f"{result.claim}: {verdict_text(result.verdict)}\n{title}")
        for axes in panels[len(results) :]:
            axes.set_axis_off()
    return figure


def inline_svg(figure: Figure, description: str) -> str:
    """Return a figure as an SVG element for an HTML page: text stays text, colours are CSS variables.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn with `COLOURS`.
    description : str
        What the figure shows, for readers who do not see it; different for every figure of a page.

    Returns
    -------
    str
        ``<svg ...>...</svg>`` without prolog, size, or identifiers that could clash between figures of one page.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(stream, format="svg", transparent=True, bbox_inches="tight", metadata=metadata)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


@contextmanager
def _style() -> Iterator[None]:
    ink = COLOURS["ink"]
    settings: dict[Any, Any] = {
        "font.size": 10,
        "font.family": "sans-serif",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": COLOURS["faint"],
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.unicode_minus": False,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }
    with matplotlib.rc_context(settings):
        yield


def _draw_result(axes: Axes, result: ClaimResult) -> None:
    """Measured with error bars, the extrapolation, what the theorem says and what the control says."""
    if any(_known(rung.measured) for rung in result.ladder):
        _draw_ladder(axes, result)
    elif _known(result.measured):
        axes.errorbar([0], [result.measured], yerr=[result.error.get("total") or 0.0], **_marks("measured"))
        axes.set_xticks([])
    else:
        axes.text(0.5, 0.5, "no numbers to draw", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.set_ylabel(_literal(result.quantity or "measured"))
    fit = result.limit_fit or {}
    if not fit.get("is_limit", True):
        _draw_slopes(axes, result, fit)
        _legend(axes)
        return
    low, high = axes.get_ylim()
    claimed = 0.0 if result.is_slack and result.predicted is None else result.predicted
    if _known(claimed):
        low, high = min(low, claimed), max(high, claimed)
        label = f"theory: {theory(result)}"
        axes.axhline(claimed, color=COLOURS["theory"], ls="--", label=label)
    margin = 0.08 * (high - low)
    axes.set_ylim(low - margin, high + margin)  # the control may lie far off, and must not flatten the ladder
    _draw_control(axes, result)
    _legend(axes)


def _draw_ladder(axes: Axes, result: ClaimResult) -> None:
    rungs = [rung for rung in result.ladder if _known(rung.measured)]
    x = np.array([rung.log_alpha for rung in rungs])
    spread = [rung.error if _known(rung.error) else 0.0 for rung in rungs]
    if result.limit_fit:
        _draw_limit(axes, result, result.limit_fit)
    axes.errorbar(x, _array([rung.measured for rung in rungs]), yerr=spread, **_marks("measured"))
    if x.min() > 0 and x.max() >= 8 * x.min():
        axes.set_xscale("log")
        ticks = x[:: math.ceil(x.size / 8)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel("log α")


def _draw_limit(axes: Axes, result: ClaimResult, fit: dict[str, Any]) -> None:
    """The fitted curve, and the band in which the extrapolated limit lies, with a line that shows where it is thin."""
    at, fitted = _array(fit.get("log_alpha", ())), _array(fit.get("fitted", ()))
    kept = _thinned(at.size)
    axes.plot(at[kept], fitted[kept], color=COLOURS["fit"], lw=1.2, label="fit")
    total = result.error.get("total")
    if not (_known(result.measured) and _known(total)):
        return
    text = f"{number(result.measured, total)} ± {error_text(total)}"
    if not fit.get("is_limit", True):
        axes.plot([], [], " ", label=f"coefficient of the fit: {text}")  # no level on this axis
        return
    axes.axhspan(result.measured - total, result.measured + total, color=COLOURS["fit"], alpha=0.18, lw=0.0)
    axes.axhline(result.measured, color=COLOURS["fit"], alpha=0.3, lw=5.0, label=f"limit: {text}")


def _draw_slopes(axes: Axes, result: ClaimResult, fit: dict[str, Any]) -> None:
    """The growth that the theory and the control claim, through the last rung: their answer is a coefficient."""
    rungs = [(rung.log_alpha, rung.measured) for rung in result.ladder if _known(rung.measured)]
    if fit.get("leading") not in TERMS or not rungs:
        return
    x, (end, level) = np.geomspace(rungs[0][0], rungs[-1][0], 61), rungs[-1]
    grown = TERMS[fit["leading"]](x) - TERMS[fit["leading"]](np.array([end]))
    limits = axes.get_ylim()
    slopes = (("theory", "--", result.predicted), ("control", ":", result.control.predicted))
    for name, style, slope in slopes:
        if _known(slope) and not (name == "control" and slope == result.predicted):
            label = f"{name}: coefficient {number(slope)}"
            axes.plot(x, level + slope * grown, color=COLOURS[name], ls=style, label=label)
    low, high = axes.get_ylim()
    room = 2.0 * (limits[1] - limits[0])  # a steep control must not flatten the ladder
    axes.set_ylim(max(low, limits[0] - room), min(high, limits[1] + room))


def _draw_control(axes: Axes, result: ClaimResult) -> None:
    """A line at the control's number, where it has one of its own; an arrow at the edge where that lies outside."""
    control = result.control
    if _known(control.predicted) and control.predicted != result.predicted:
        level, label = control.predicted, f"control: {number(control.predicted)}"
    elif _known(control.measured) and control.measured != result.measured:
        level, label = control.measured, f"control, measured: {number(control.measured, control.error)}"
    else:
        return
    low, high = axes.get_ylim()
    if low <= level <= high:
        axes.axhline(level, color=COLOURS["control"], ls=":", label=label)
        return
    above = level > high
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "top" if above else "bottom"}
    axes.text(
        0.99, 0.99 if above else 0.01, f"{label} {'↑' if above else '↓'}", color=COLOURS["control"], fontsize=9, **place
    )


def _marks(name: str) -> dict[str, Any]:
    return {"fmt": "o", "ms": 4, "lw": 1.2, "capsize": 3, "color": COLOURS[name], "label": name}


def _legend(axes: Axes) -> None:
    """Below the panel, where it hides no data."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _literal(text: str) -> str:
    """Keep matplotlib from reading formulas into a name."""
    return text.replace("$", r"\$")


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _thinned(size: int) -> NDArray[np.intp]:
    """At most `_MOST_POINTS` indices, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, _MOST_POINTS)).round().astype(np.intp))


def _needs_log_axis(curves: Iterable[NDArray[np.float64]]) -> bool:
    """Whether all values are positive and the typical one would vanish on a linear axis."""
    values = np.concatenate([np.empty(0), *curves])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 100 * np.median(values))
