"""Running an experiment: predictors first, then the flow, then the files."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit import datasets
from theorykit._numerics.errors import InconsistentError, InputError, NotSeparableError
from theorykit._numerics.serial import replacing, to_json, writable_file
from theorykit._numerics.validate import path, shown
from theorykit._version import __version__
from theorykit.experiments.config import Experiment, Settings

if TYPE_CHECKING:
    from theorykit.flow import Crossing, Problem, SaveAt, Trajectory
    from theorykit.programs import MaxMargin, MinNorm

_TIMES = ("t", "log_t", "tau", "s")
_STATISTICS = (
    *("train_loss", "log_train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
)
_PLAIN = ("t", "train_loss", "test_loss", "norm")  # may leave the float range; their logarithms do not
_NORMS = {"kernel": 2, "rich": 1}
_FILES = ("trajectory.csv", "figure.svg", "figure.png", "summary.json")

Predictors = dict[str, "MaxMargin | MinNorm"]


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """What a run of an experiment gave.

    Attributes
    ----------
    experiment : Experiment
        What was run.
    trajectory : Trajectory
        The flow.
    predictors : dict of str to MaxMargin or MinNorm
        "kernel" (early: max l2 margin, or for the squared loss the interpolant of least l2 norm) and "rich" (late: the
        same with l1), as far as they were asked for and exist.
    summary : dict
        What ``summary.json`` holds.
    files : tuple of Path
        The files that were written.
    """

    experiment: Experiment
    trajectory: Trajectory
    predictors: Predictors
    summary: dict[str, Any]
    files: tuple[Path, ...] = ()


def run_experiment(
    experiment: Experiment,
    *,
    out: str | os.PathLike[str] | None = None,
    confirm: bool = False,
    progress: Callable[..., None] | None = None,
) -> ExperimentResult:
    """Run an experiment and write its table, figure and summary.

    Parameters
    ----------
    experiment : Experiment
        From `load_experiment`.
    out : path, optional
        Folder for ``trajectory.csv``, ``figure.svg``, ``figure.png`` and ``summary.json``; made where it is missing.
        Nothing is written without it.
    confirm : bool
        Solve the flow once more at a tenth of the tolerance; the error estimates in the summary count the distance.
    progress : callable, optional
        Passed to `theorykit.flow.gradient_flow`.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    InputError
        `out` cannot be written (raised before any work), or the data or problem is unusable.

    Notes
    -----
    The columns of ``trajectory.csv`` are t, log_t, tau, s, train_loss, log_train_loss, test_loss, train_accuracy,
    test_accuracy, norm (of all parameters, Euclidean), margin (smallest y f / norm^L), cos_kernel and cos_rich, as
    ``%.17g``; losses are means over samples. A cell is empty where the column does not apply, and where t, norm or a
    loss leaves 1e-300 to 1e300.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment, run_experiment
    >>> small = load_experiment("fig-1a", overrides=["data.n=16", "data.d=200", "data.n_test=100", "flow.points=20"])
    >>> result = run_experiment(small)
    >>> sorted(result.predictors)
    ['kernel', 'rich']
    """
    from theorykit.flow import gradient_flow

    started = time.perf_counter()
    if not isinstance(experiment, Experiment):
        raise InputError("experiment", shown(experiment), "an Experiment, from load_experiment")
    folder = None if out is None else _writable_folder(path("out", out, "a folder that can be written"))
    settings = experiment.settings
    data = _dataset(settings["data"])
    problem = _problem(settings, data)
    _refuse_impossible_events(settings, data)
    predictors, notes = _predictors(settings, data)
    trajectory = gradient_flow(
        problem,
        **{key: value for key, value in settings["flow"].items() if key != "points"},
        save=_save_points(settings, problem.log_alpha),
        events=_crossings(settings["events"], predictors),
        directions={name: solved.w for name, solved in predictors.items()},
        confirm=confirm,
        progress=progress,
    )
    summary = _summary(experiment, data, predictors, trajectory) | {"confirmed": confirm, "notes": notes}
    summary |= {"wall_s": trajectory.wall_s, "wall_total_s": time.perf_counter() - started}
    files = () if folder is None else _write(folder, experiment, trajectory, summary)
    return ExperimentResult(experiment, trajectory, predictors, summary, files)


def _writable_folder(folder: Path) -> Path:
    """Make the folder and make sure that every file can be put there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError("out", f"{folder} ({problem.strerror})", "a folder that can be written") from None
    for name in _FILES:
        writable_file("out", folder / name)
    return folder


def _dataset(settings: Mapping[str, Any]) -> datasets.Dataset:
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    makers: dict[str, Callable[..., datasets.Dataset]] = {
        "sparse_sign": datasets.sparse_sign,
        "separated_gaussian": datasets.separated_gaussian,
        "digits": datasets.digits,
        "npz": datasets.Dataset.from_npz,
        "csv": datasets.Dataset.from_csv,
    }
    return makers[settings["kind"]](**arguments)


def build_problem(experiment: Experiment) -> Problem:
    """Return the problem that an experiment simulates, with its data generated or read.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment
    >>> build_problem(load_experiment("fig-1a", overrides=["data.n=16", "data.d=200"])).data.d
    200
    """
    return _problem(experiment.settings, _dataset(experiment.settings["data"]))


def _problem(settings: Settings, data: datasets.Dataset) -> Problem:
    from theorykit.flow import Problem
    from theorykit.models import DiagonalNet

    return Problem(DiagonalNet(d=data.d, degree=settings["model"]["degree"]), data, **settings["problem"])


def _refuse_impossible_events(settings: Settings, data: datasets.Dataset) -> None:
    for name in settings["events"]:
        if name.startswith("test_") and data.test is None:
            raise InputError(f"events.{name}", "no test points", "data with a test set, or no such event")
        if name.endswith(("accuracy", "margin")) and data.task == "regression":
            raise InputError(f"events.{name}", "a regression task", "classification, or no such event")
        if name.startswith("cos_") and not settings["predictors"][name.removeprefix("cos_")]:
            raise InputError(f"events.{name}", "that predictor switched off", f"predictors.{name[4:]} = true")


def _predictors(settings: Settings, data: datasets.Dataset) -> tuple[Predictors, list[str]]:
    """Solve the programs of the loss; data that no predictor separates or interpolates are a note, not an error."""
    from theorykit.programs import max_margin, min_norm

    solve = min_norm if settings["problem"]["loss"] == "squared" else max_margin
    names = [name for name in _NORMS if settings["predictors"][name]]
    try:
        solved: Predictors = {name: solve(data.X, data.y, norm=_NORMS[name]) for name in names}
    except (NotSeparableError, InconsistentError) as problem:
        return {}, [f"no predictors: {problem}"]
    if not all(found.w.any() for found in solved.values()):
        return {}, ["no predictors: all targets are 0, so that the least-norm interpolant is 0"]
    return solved, []


def _moments(settings: Settings) -> dict[str, float]:
    """Return the s at which the summary reads the flow, by name."""
    c = settings["predictors"]["c"]
    return {"start": 0.05, "early": 1.0 - c, "late": 1.0 + c}


def _save_points(settings: Settings, log_alpha: float) -> SaveAt:
    """Save evenly in s, and at the moments of the summary exactly."""
    from theorykit.flow import SaveAt

    flow = settings["flow"]
    s_end = flow["s_end"] if "s_end" in flow else flow["tau_end"] / log_alpha
    evenly = np.linspace(0.0, s_end, flow["points"] + 1)[1:]
    moments = [s for s in _moments(settings).values() if not np.isclose(s, evenly).any() and s < s_end]
    return SaveAt(s=np.union1d(evenly, moments))


def _crossings(events: Mapping[str, list[float]], predictors: Predictors) -> list[Crossing]:
    """Return what to look for; cosines only with predictors that exist."""
    from theorykit.flow import Crossing

    there = [name for name in events if not name.startswith("cos_") or name.removeprefix("cos_") in predictors]
    return [Crossing(name, level) for name in there for level in events[name]]


def _summary(
    experiment: Experiment,
    data: datasets.Dataset,
    predictors: Predictors,
    trajectory: Trajectory,
) -> dict[str, Any]:
    squared = experiment.settings["problem"]["loss"] == "squared"
    times = _moments(experiment.settings) | {"end": float(trajectory.s[-1])}
    moments = {name: _moment(trajectory, s, squared) for name, s in times.items()}
    distance_errors = _add_distances(moments, trajectory, predictors) if squared else {}
    # a crossing whose error exceeds its time is noise of the start, where nothing has moved yet
    events = [asdict(event) for event in trajectory.events if not event.error >= event.tau]
    crossed = {(event["name"], event["level"]) for event in events}
    asked = [(name, level) for name, levels in experiment.settings["events"].items() for level in levels]
    return {
        "preset": experiment.name,
        "source": experiment.source,
        "profile": experiment.profile,
        "version": __version__,
        "settings": experiment.settings,
        "data": {"name": data.name, "n": data.n, "d": data.d, "fingerprint": data.fingerprint}
        | {"n_test": data.test.n if data.test else 0},
        "status": trajectory.status,
        "message": trajectory.message,
        "events": events,
        "not_crossed": [{"name": name, "level": level} for name, level in asked if (name, level) not in crossed],
        "predictors": _predictor_entries(predictors, data, "least_norm" if squared else "margin"),
        "moments": moments,
        "errors": {name: float(np.nanmax(error)) for name, error in trajectory.errors.items()} | distance_errors,
        "diagnostics": trajectory.diagnostics,
    }


def _moment(trajectory: Trajectory, s: float, squared: bool) -> dict[str, Any] | None:
    """Return the statistics at `s`, a save point; None where the flow ended before."""
    index = int(np.argmin(np.abs(trajectory.s - s)))
    if trajectory.s[index] < s * (1.0 - 1e-9):
        return None
    losses = ("train_loss", "test_loss") if squared else ()
    wanted = (*losses, "train_accuracy", "test_accuracy", "cos_kernel", "cos_rich")
    statistics = {name: trajectory.stats[name][index] for name in wanted if name in trajectory.stats}
    return {"s": trajectory.s[index]} | statistics


def _add_distances(
    moments: Mapping[str, dict[str, Any] | None], trajectory: Trajectory, predictors: Predictors
) -> dict[str, float]:
    """Put the distances |w - w*|/|w*| from the interpolants, whose length counts, into `moments`; return their errors.

    The error is the largest distance to the companion run.
    """
    errors = {f"distance_{name}": 0.0 for name in predictors}
    for moment in filter(None, moments.values()):
        now = trajectory.at(s=moment["s"])
        for name, solved in predictors.items():
            key, length = f"distance_{name}", float(np.linalg.norm(solved.w))
            moment[key] = float(np.linalg.norm(now.weights - solved.w)) / length
            shift = float(np.linalg.norm(now.weights - now.companion_weights)) / length
            errors[key] = max(errors[key], shift)
    return errors


def _predictor_entries(predictors: Predictors, data: datasets.Dataset, optimum: str) -> dict[str, dict[str, Any]]:
    """Return norm, proved bounds on the optimum (margin or least norm) and the score on test points of each."""
    scores = _test_scores(predictors, data)
    return {
        name: {"norm": _NORMS[name], optimum: [solved.certificate.lower, solved.certificate.upper]} | scores[name]
        for name, solved in predictors.items()
    }


def _test_scores(predictors: Predictors, data: datasets.Dataset) -> dict[str, dict[str, float | None]]:
    """Return test accuracies (0 counts as wrong), or mean squared errors for regression. One pass over the points."""
    regression = data.task == "regression"
    key = "test_loss" if regression else "test_accuracy"
    if data.test is None or not predictors:
        return {name: {key: None} for name in predictors}
    directions = np.column_stack([solved.w for solved in predictors.values()])
    total = np.zeros(len(predictors))
    for X, y in data.test.blocks():
        outputs, wanted = X @ directions, y[:, None]
        total += (((outputs - wanted) ** 2) if regression else (np.sign(outputs) == wanted)).sum(axis=0)
    return {name: {key: float(score) / data.test.n} for name, score in zip(predictors, total, strict=True)}


def _write(
    folder: Path, experiment: Experiment, trajectory: Trajectory, summary: Mapping[str, Any]
) -> tuple[Path, ...]:
    from theorykit.experiments.figure import draw, save

    settings = experiment.settings
    squared = settings["problem"]["loss"] == "squared"
    figure = draw(trajectory, settings["predictors"]["c"], caption=_caption(summary), interpolating=squared)
    for name in _FILES:
        with replacing("out", folder / name) as file:
            if name == "trajectory.csv":
                _write_table(file, trajectory)
            elif name == "summary.json":
                file.write_text(to_json(summary), encoding="utf-8")
            else:
                save(figure, file)
    return tuple(folder / name for name in _FILES)


def _caption(summary: Mapping[str, Any]) -> str:
    """Return what was simulated: sizes, scales and loss."""
    data, problem = summary["data"], summary["settings"]["problem"]
    scales = [
        f"{sign} = {problem[key]:g}".replace("-", "−")
        for key, sign in (("alpha", "α"), ("log_alpha", "log α"), ("weight_decay", "λ"), ("log_weight_decay", "log λ"))
        if key in problem
    ]
    return ", ".join([f"{summary['preset']}: n = {data['n']}", f"d = {data['d']}", *scales, f"{problem['loss']} loss"])


def _write_table(file: Path, trajectory: Trajectory) -> None:
    columns = {name: getattr(trajectory, name) for name in _TIMES}
    columns |= {name: trajectory.stats.get(name) for name in _STATISTICS}
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for index in range(len(trajectory.s)):
            writer.writerow(_cell(name, values, index) for name, values in columns.items())


def _cell(name: str, values: NDArray[np.float64] | None, index: int) -> str:
    if values is None or math.isnan(values[index]):
        return ""
    if name in _PLAIN and not 1e-300 <= values[index] <= 1e300:
        return ""
    return f"{values[index]:.17g}"
