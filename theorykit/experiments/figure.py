"""The figure of a run: accuracies (or losses) and directions against s, one journal column wide."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from theorykit.flow import Trajectory

_BLUE, _VERMILION, _GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's palette: safe for colour-blind eyes
_BLACK, _GREY = "#000000", "#767676"
_ACCURACIES = {"train_accuracy": ("train", _BLACK), "test_accuracy": ("test", _GREEN)}
_MARGINS = {"cos_kernel": ("max $\\ell_2$ margin", _BLUE), "cos_rich": ("max $\\ell_1$ margin", _VERMILION)}
_NORMS = {"cos_kernel": ("min $\\ell_2$ norm", _BLUE), "cos_rich": ("min $\\ell_1$ norm", _VERMILION)}
_SIZE = 8  # points
_GRID = 201  # about one place a point across the panel

_Curves = dict[str, tuple[NDArray[np.float64], str]]


def draw(trajectory: Trajectory, c: float = 0.3, *, caption: str = "", interpolating: bool = False) -> Figure:
    """Draw accuracies and the cosines with the predictors against s = lambda t / log(alpha).

    Losses take the place of accuracies for regression and where there are no test points.

    Parameters
    ----------
    trajectory : Trajectory
        A flow with `s` defined.
    c : float
        The early and late times T-_c and T+_c, s = 1 - c and 1 + c, are marked.
    caption : str
        A line above everything.
    interpolating : bool
        The predictors are interpolants of least norm, not classifiers of largest margin.

    Returns
    -------
    matplotlib.figure.Figure
        3.4 inches wide; save it with ``figure.savefig``.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment, run_experiment
    >>> small = load_experiment("fig-1a", overrides=["data.n=16", "data.d=200", "data.n_test=100", "flow.points=20"])
    >>> len(draw(run_experiment(small).trajectory).axes)
    2
    """
    if "test_accuracy" in trajectory.stats:
        panels = [("accuracy", 1.0, _curves(trajectory, _ACCURACIES))]
    else:
        panels = [("$\\log_{10}$ loss", np.inf, _log_losses(trajectory))]
    panels.append(("cosine of $w$ with", 1.0, _curves(trajectory, _NORMS if interpolating else _MARGINS)))
    panels = [panel for panel in panels if panel[2]]
    figure = Figure(figsize=(3.4, 1.1 + 1.45 * len(panels) + 0.25 * bool(caption)), layout="constrained")
    if caption:
        figure.suptitle(textwrap.fill(caption, 64), fontsize=_SIZE - 1, color=_GREY)
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, full, curves) in zip(column, panels, strict=True):
        _draw_panel(axes, trajectory.s, curves, label, full)
        for time in (1.0 - c, 1.0 + c):
            axes.axvline(time, color=_GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    _mark_times(column[0], c, float(trajectory.s[-1]))
    _add_slow_time(column[0], float(trajectory.tau[-1] / trajectory.s[-1]))
    column[-1].set_xlabel(r"$s = \lambda t\,/\log\alpha$", fontsize=_SIZE)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write the figure as the file's ending says, without the date and random names that would make two runs differ."""
    with rc_context({"svg.hashsalt": "theorykit"}):
        figure.savefig(file, dpi=300, metadata={"Date": None} if file.suffix == ".svg" else None)


def _curves(trajectory: Trajectory, known: dict[str, tuple[str, str]]) -> _Curves:
    return {
        label: (trajectory.stats[name], color) for name, (label, color) in known.items() if name in trajectory.stats
    }


def _log_losses(trajectory: Trajectory) -> _Curves:
    """Return log10 of the losses, nan where a loss is 0."""
    logarithms = {"train": (trajectory.stats["log_train_loss"] / np.log(10.0), _BLACK)}
    if "test_loss" in trajectory.stats:
        with np.errstate(divide="ignore"):
            logarithms["test"] = (np.log10(trajectory.stats["test_loss"]), _GREEN)
    return {
        name: (np.where(np.isfinite(log), log, np.nan), color)
        for name, (log, color) in logarithms.items()
        if np.isfinite(log).any()
    }


def _draw_panel(axes: Axes, s: NDArray[np.float64], curves: _Curves, label: str, full: float) -> None:
    """Draw the curves of one panel; where they come near a full score, the axis shows it."""
    for values, color in curves.values():
        axes.plot(s, values, color=color, linewidth=1.3)
    low = min(float(np.nanmin(values)) for values, _ in curves.values())
    high = max(float(np.nanmax(values)) for values, _ in curves.values())
    if 0.9 * full < high < full:
        high = full
    room = 0.22 * (high - low) + 0.01  # for the names above and below the curves
    axes.set_xlim(0.0, float(s[-1]))
    axes.set_ylim(low - room, high + room)
    axes.set_yticks(
        [tick for tick in axes.get_yticks() if low - room <= tick <= high + 1e-9]
    )  # none above a full score
    axes.set_ylabel(label, fontsize=_SIZE)
    axes.tick_params(labelsize=_SIZE - 1, width=0.6, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    _name_curves(axes, s, curves)


def _name_curves(axes: Axes, s: NDArray[np.float64], curves: _Curves) -> None:
    """Write each curve's name above or below it, where the curves are furthest apart."""
    grid = np.linspace(s[0], s[-1], _GRID)
    resampled = {name: np.interp(grid, s, values) for name, (values, _) in curves.items()}
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
