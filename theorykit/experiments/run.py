"""Running an experiment: predictors first, then the flow, then the files."""

from __future__ import annotations

import csv
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from theorykit import datasets
from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit._numerics.serial import replacing, to_json
from theorykit._version import __version__
from theorykit.experiments.config import Experiment, Settings

if TYPE_CHECKING:
    from theorykit.flow import Crossing, Problem, SaveAt, Trajectory
    from theorykit.programs import MaxMargin

_TIMES = ("t", "log_t", "tau", "s")
_STATISTICS = (
    *("train_loss", "log_train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
)
_PLAIN = ("t", "train_loss", "test_loss", "norm")  # may leave the float range; their logarithms do not
_NORMS = {"kernel": 2, "rich": 1}
_FILES = ("trajectory.csv", "figure.svg", "figure.png", "summary.json")


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """What a run of an experiment gave.

    Attributes
    ----------
    experiment : Experiment
        What was run.
    trajectory : Trajectory
        The flow.
    predictors : dict of str to MaxMargin
        "kernel" (max l2 margin, early) and "rich" (max l1 margin, late), as far as they were asked for and exist.
    summary : dict
        What ``summary.json`` holds.
    files : tuple of Path
        The files that were written.
    """

    experiment: Experiment
    trajectory: Trajectory
    predictors: dict[str, MaxMargin]
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
    folder = None if out is None else _writable_folder(Path(out))
    settings = experiment.settings
    data = _dataset(settings["data"])
    problem = _problem(settings, data)
    _refuse_impossible_events(settings, data)
    predictors, notes = _predictors(settings["predictors"], data)
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
    wanted = "a folder that can be written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as problem:
        raise InputError("out", f"{folder} ({problem.strerror})", wanted) from None
    for name in _FILES:
        if (folder / name).is_dir():
            raise InputError("out", f"{folder} with a folder {name}", wanted)
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


def _predictors(wanted: Mapping[str, Any], data: datasets.Dataset) -> tuple[dict[str, MaxMargin], list[str]]:
    """Solve the max-margin programs; data that no predictor separates are a note, not an error."""
    from theorykit.programs import max_margin

    names = [name for name in _NORMS if wanted[name]]
    try:
        return {name: max_margin(data.X, data.y, norm=_NORMS[name]) for name in names}, []
    except NotSeparableError as problem:
        return {}, [f"no max-margin predictors: {problem}"]


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


def _crossings(events: Mapping[str, list[float]], predictors: Mapping[str, MaxMargin]) -> list[Crossing]:
    """Return what to look for; cosines only with predictors that exist."""
    from theorykit.flow import Crossing

    there = [name for name in events if not name.startswith("cos_") or name.removeprefix("cos_") in predictors]
    return [Crossing(name, level) for name in there for level in events[name]]


def _summary(
    experiment: Experiment,
    data: datasets.Dataset,
    predictors: Mapping[str, MaxMargin],
    trajectory: Trajectory,
) -> dict[str, Any]:
    moments = _moments(experiment.settings) | {"end": float(trajectory.s[-1])}
    accuracies = _test_accuracies({name: solved.w for name, solved in predictors.items()}, data.test)
    return {
        "preset": experiment.name,
        "profile": experiment.profile,
        "version": __version__,
        "settings": experiment.settings,
        "data": {"name": data.name, "n": data.n, "d": data.d, "fingerprint": data.fingerprint}
        | {"n_test": data.test.n if data.test else 0},
        "status": trajectory.status,
        "message": trajectory.message,
        # a crossing whose error exceeds its time is noise of the start, where nothing has moved yet
        "events": [asdict(event) for event in trajectory.events if event.error < event.tau],
        "predictors": {
            name: {
                "norm": _NORMS[name],
                "margin": [solved.certificate.lower, solved.certificate.upper],
                "test_accuracy": accuracies.get(name),
            }
            for name, solved in predictors.items()
        },
        "moments": {name: _moment(trajectory, s) for name, s in moments.items()},
        "errors": {name: float(np.nanmax(error)) for name, error in trajectory.errors.items()},
        "diagnostics": trajectory.diagnostics,
    }


def _moment(trajectory: Trajectory, s: float) -> dict[str, Any] | None:
    """Return the statistics at `s`, a save point; None where the flow ended before."""
    index = int(np.argmin(np.abs(trajectory.s - s)))
    if trajectory.s[index] < s * (1.0 - 1e-9):
        return None
    wanted = ("train_accuracy", "test_accuracy", "cos_kernel", "cos_rich")
    statistics = {name: trajectory.stats[name][index] for name in wanted if name in trajectory.stats}
    return {"s": trajectory.s[index]} | statistics


def _test_accuracies(weights: Mapping[str, NDArray[np.float64]], test: datasets.TestSet | None) -> dict[str, float]:
    """Return the share of test points that each linear predictor gets right; 0 counts as wrong. One pass."""
    if test is None or not weights:
        return {}
    directions = np.column_stack(list(weights.values()))
    right = sum((np.sign(X @ directions) == y[:, None]).sum(axis=0) for X, y in test.blocks())
    return {name: int(count) / test.n for name, count in zip(weights, np.atleast_1d(right), strict=True)}


def _write(
    folder: Path, experiment: Experiment, trajectory: Trajectory, summary: Mapping[str, Any]
) -> tuple[Path, ...]:
    from theorykit.experiments.figure import draw, save

    figure = draw(trajectory, experiment.settings["predictors"]["c"])
    for name in _FILES:
        with replacing("out", folder / name) as file:
            if name == "trajectory.csv":
                _write_table(file, trajectory)
            elif name == "summary.json":
                file.write_text(to_json(summary), encoding="utf-8")
            else:
                save(figure, file)
    return tuple(folder / name for name in _FILES)


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
