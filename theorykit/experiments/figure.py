"""The figure of a run: accuracies (or losses) and directions against s, one journal column wide."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from theorykit.experiments.table import Table

_BLUE, _VERMILION, _GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's palette: safe for colour-blind eyes
_BLACK, _GREY = "#000000", "#767676"
_ACCURACIES = {"train_accuracy": ("train", _BLACK), "test_accuracy": ("test", _GREEN)}
_MARGINS = {"cos_kernel": ("max $\\ell_2$ margin", _BLUE), "cos_rich": ("max $\\ell_1$ margin", _VERMILION)}
_NORMS = {"cos_kernel": ("min $\\ell_2$ norm", _BLUE), "cos_rich": ("min $\\ell_1$ norm", _VERMILION)}
_PHASES = {"cos_kernel": ("early predictor", _BLUE), "cos_rich": ("late predictor", _VERMILION)}
_PREDICTED = {"margin": ("cosine of $w$ with", _MARGINS), "norm": ("cosine of $w$ with", _NORMS)}
_SIZE = 8  # points
_GRID = 201  # about one place a point across the panel
_TWICE = math.log(1e5)  # log t at the end from which its logarithm is the axis
_MEMBERS = 0.9  # of the colour map that the curves of a family take: its end is too light on white

_Curves = dict[str, tuple[NDArray[np.float64], str]]


@dataclass(frozen=True, eq=False)
class _Axis:
    """The horizontal axis of a table: values, name, and which rows it can show."""

    clock: str
    values: NDArray[np.float64]
    label: str
    rows: NDArray[np.bool_]

    @classmethod
    def of(cls, table: Table, clock: str) -> _Axis:
        log_t = table.times["log_t"]
        everything = np.ones(log_t.size, dtype=np.bool_)
        if clock == "s":
            return cls(clock, table.times["s"], r"$s = \lambda t\,/\log\alpha$", everything)
        if clock == "tau":
            return cls(clock, table.times["tau"], r"$\tau = \lambda t$", everything)
        if log_t[-1] > _TWICE * math.log(10.0):
            rows = log_t > 1.0
            return cls(clock, np.log10(log_t[rows]), r"$\log_{10}\,\log t$", rows)
        return cls(clock, log_t / math.log(10.0), r"$\log_{10} t$", everything)


def draw(table: Table, c: float = 0.3, *, caption: str = "", predictors: str = "margin") -> Figure:
    """Draw accuracies and the cosines with the predictors against s = lambda t / log(alpha).

    Losses take the place of accuracies for regression and where there are no test points. Where s is undefined the axis
    is tau = lambda t, without weight decay log10 t, or log10 log t where t leaves 10^(10^5).

    Parameters
    ----------
    table : Table
        Of a run.
    c : float
        The early and late times T-_c and T+_c, s = 1 - c and 1 + c, are marked.
    caption : str
        A line above everything.
    predictors : {"margin", "norm", "outputs"}
        What the cosines are with: classifiers w of largest margin, interpolants w of least norm, or the outputs of
        the predictors of other models.

    Returns
    -------
    matplotlib.figure.Figure
        3.4 inches wide; save it with ``figure.savefig``.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment, run_experiment
    >>> small = load_experiment("fig-1a", overrides=["data.n=16", "data.d=200", "data.n_test=100", "flow.points=20"])
    >>> len(draw(run_experiment(small).table).axes)
    2
    """
    axis = _Axis.of(table, table.clock)
    panels = [_performance(table, axis)]
    label, known = _PREDICTED.get(predictors, ("cosine of outputs with", _PHASES))
    panels.append((label, 1.0, _curves(table, axis, known)))
    panels = [panel for panel in panels if panel[2]]
    figure, column = _panels(len(panels), caption)
    for axes, (label, full, curves) in zip(column, panels, strict=True):
        _draw_panel(axes, axis.values, curves, label, full)
        if axis.clock == "s":
            for time in (1.0 - c, 1.0 + c):
                axes.axvline(time, color=_GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
        _name_curves(axes, axis.values, curves)
    if axis.clock == "s":
        _mark_times(column[0], c, float(axis.values[-1]))
        _add_slow_time(column[0], float(table.times["tau"][-1] / table.times["s"][-1]))
    column[-1].set_xlabel(axis.label, fontsize=_SIZE)
    return figure


def draw_family(tables: Mapping[str, Table], key: str, *, caption: str = "") -> Figure:
    """Draw training and test accuracies (or losses) of all members of a family, from dark to light in their order.

    Parameters
    ----------
    tables : dict of str to Table
        By value of the key.
    key : str
        What the members differ in.
    caption : str
        A line above everything.

    Returns
    -------
    matplotlib.figure.Figure
        3.4 inches wide.
    """
    clocks = {table.clock for table in tables.values()}
    clock = next(name for name in ("log_t", "tau", "s") if name in clocks)
    drawn = [(_Axis.of(table, clock), table) for table in tables.values()]
    names = [name for name in _ACCURACIES if all(name in table.stats for _, table in drawn)]
    figure, column = _panels(max(len(names), 1), caption)
    colours = colormaps["viridis"](np.linspace(0.0, _MEMBERS, len(drawn)))
    for axes, name in zip(column, names or ["loss"], strict=True):
        for (axis, table), colour, value in zip(drawn, colours, tables, strict=True):
            if names:
                axes.plot(axis.values, table.stats[name][axis.rows], color=colour, linewidth=1.2, label=value)
                continue
            for label, (values, _) in _log_losses(table, axis).items():
                style = "--" if label == "train" else "-"
                axes.plot(
                    axis.values, values, style, color=colour, linewidth=1.2, label=value if style == "-" else None
                )
        axes.set_ylabel(name.replace("_", " ") if names else "$\\log_{10}$ loss", fontsize=_SIZE)
        _plain(axes)
    signs = {"alpha": r"$\alpha$", "weight_decay": r"$\lambda$", "log_alpha": r"$\log\alpha$"}
    column[-1].legend(title=signs.get(key, key), fontsize=_SIZE - 1, title_fontsize=_SIZE, frameon=False)
    column[-1].set_xlabel(drawn[0][0].label, fontsize=_SIZE)
    return figure


def _panels(count: int, caption: str) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(3.4, 1.1 + 1.45 * count + 0.25 * bool(caption)), layout="constrained")
    if caption:
        figure.suptitle(textwrap.fill(caption, 64), fontsize=_SIZE - 1, color=_GREY)
    return figure, figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]


def _performance(table: Table, axis: _Axis) -> tuple[str, float, _Curves]:
    if "test_accuracy" in table.stats:
        return "accuracy", 1.0, _curves(table, axis, _ACCURACIES)
    return "$\\log_{10}$ loss", np.inf, _log_losses(table, axis)


def save(figure: Figure, file: Path) -> None:
    """Write the figure as the file's ending says, without the date and random names that would make two runs differ."""
    with rc_context({"svg.hashsalt": "theorykit"}):
        figure.savefig(file, dpi=300, metadata={"Date": None} if file.suffix == ".svg" else None)


def _curves(table: Table, axis: _Axis, known: dict[str, tuple[str, str]]) -> _Curves:
    return {
        label: (table.stats[name][axis.rows], color) for name, (label, color) in known.items() if name in table.stats
    }


def _log_losses(table: Table, axis: _Axis) -> _Curves:
    """Return log10 of the losses, nan where a loss is 0."""
    logarithms = {"train": (table.stats["log_train_loss"] / np.log(10.0), _BLACK)}
    if "test_loss" in table.stats:
        with np.errstate(divide="ignore"):
            logarithms["test"] = (np.log10(table.stats["test_loss"]), _GREEN)
    return {
        name: (np.where(np.isfinite(log), log, np.nan)[axis.rows], color)
        for name, (log, color) in logarithms.items()
        if np.isfinite(log).any()
    }


def _draw_panel(axes: Axes, x: NDArray[np.float64], curves: _Curves, label: str, full: float) -> None:
    """Draw the curves of one panel; where they come near a full score, the axis shows it."""
    for values, color in curves.values():
        axes.plot(x, values, color=color, linewidth=1.3)
    low = min(float(np.nanmin(values)) for values, _ in curves.values())
    high = max(float(np.nanmax(values)) for values, _ in curves.values())
    if 0.9 * full < high < full:
        high = full
    room = 0.22 * (high - low) + 0.01  # for the names above and below the curves
    axes.set_xlim(min(0.0, float(x[0])), float(x[-1]))
    axes.set_ylim(low - room, high + room)
    axes.set_yticks(
        [tick for tick in axes.get_yticks() if low - room <= tick <= high + 1e-9]
    )  # none above a full score
    axes.set_ylabel(label, fontsize=_SIZE)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=_SIZE - 1, width=0.6, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)


def _name_curves(axes: Axes, x: NDArray[np.float64], curves: _Curves) -> None:
    """Write each curve's name above or below it, where the curves are furthest apart."""
    grid = np.linspace(x[0], x[-1], _GRID)
    resampled = {name: np.interp(grid, x, values) for name, (values, _) in curves.items()}
    place = _widest_gap(list(resampled.values()), width=max(map(_width, curves)))
    highest = max(curves, key=lambda name: float(np.nanmean(resampled[name][place])))
    for name, (_, color) in curves.items():
        above = name == highest
        values = resampled[name][place]
        axes.annotate(
            name,
            (float(grid[place].mean()), float(np.nanmax(values) if above else np.nanmin(values))),
            xytext=(0, 2 if above else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            color=color,
            fontsize=_SIZE,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _width(name: str) -> int:
    """Return about how many places of the grid a name covers, with room."""
    return 15 + 5 * len(re.sub(r"\$.*?\$", "l2", name))


def _widest_gap(curves: list[NDArray[np.float64]], width: int) -> slice:
    """Return the `width` neighbouring points over which the smallest distance between the curves is largest."""

    def gap(start: int) -> float:
        inside = [values[start : start + width] for values in curves]
        if not all(np.isfinite(values).any() for values in inside):
            return -np.inf
        lowest, highest = sorted([inside[0], inside[-1]], key=lambda values: float(np.nanmean(values)))
        return float(np.nanmin(highest) - np.nanmax(lowest))

    start = max(range(0, len(curves[0]) - width, 4), key=gap)
    return slice(start, start + width)


def _mark_times(axes: Axes, c: float, end: float) -> None:
    """Name the marked times above the panel."""
    for time, name in ((1.0 - c, f"$T^-_{{{c:g}}}$"), (1.0 + c, f"$T^+_{{{c:g}}}$")):
        if time <= end:
            axes.annotate(
                name,
                (time, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=_GREY,
                fontsize=_SIZE,
            )


def _add_slow_time(axes: Axes, log_alpha: float) -> None:
    """Put an axis of tau = s log(alpha) above the names of the marked times."""
    top = axes.secondary_xaxis(
        1.17, functions=(lambda s: np.multiply(s, log_alpha), lambda tau: np.divide(tau, log_alpha))
    )
    top.set_xlabel(r"$\tau = \lambda t$", fontsize=_SIZE)
    top.tick_params(labelsize=_SIZE - 1, width=0.6, length=3)
    top.spines["top"].set_linewidth(0.6)
