"""Running an experiment: predictors first, then the flow, then the files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from theorykit import datasets
from theorykit._numerics.errors import InputError
from theorykit._numerics.threads import one_blas_thread
from theorykit._numerics.validate import shown
from theorykit.experiments import predict
from theorykit.experiments.build import dataset_of, problem_of
from theorykit.experiments.config import Experiment
from theorykit.experiments.files import folder_of, heading, write
from theorykit.experiments.predict import Block, Predictors
from theorykit.experiments.schema import Settings
from theorykit.experiments.table import Table

if TYPE_CHECKING:
    from theorykit.flow import Crossing, Event, Problem, SaveAt, Trajectory

CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """What a run of an experiment gave.

    Attributes
    ----------
    experiment : Experiment
        What was run.
    trajectory : Trajectory
        The flow.
    predictors : dict of str to result of `theorykit.programs`
        "kernel" (early) and "rich" (late), as far as they were asked for and exist: max-margin separators, for the
        squared loss interpolants of least norm; w of models that are linear in x, else kernel machines on the features
        at theta_bar; for matrix factorisation the late one is the matrix of least nuclear norm.
    summary : dict
        What ``summary.json`` holds.
    table : Table
        What ``trajectory.csv`` holds.
    files : tuple of Path
        The files that were written.
    """

    experiment: Experiment
    trajectory: Trajectory
    predictors: Predictors
    summary: dict[str, Any]
    table: Table = field(repr=False)
    files: tuple[Path, ...] = ()

    def raise_for_status(self) -> ExperimentResult:
        """Return self, or raise `FlowError` if the flow did not reach its end."""
        self.trajectory.raise_for_status()
        return self


def run_experiment(
    experiment: Experiment,
    *,
    out: str | os.PathLike[str] | None = None,
    confirm: bool = False,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
) -> ExperimentResult:
    """Run an experiment and write its table, figure and summary.

    Parameters
    ----------
    experiment : Experiment
        From `load_experiment`; a family is for `run_family`.
    out : path, optional
        Folder for ``trajectory.csv``, ``figure.svg``, ``figure.png`` and ``summary.json``; made where it is missing.
        Nothing is written without it. While the flow runs, its state is kept there, too, in ``checkpoint.npz``.
    confirm : bool
        Solve the flow once more at a tenth of the tolerance; the error estimates in the summary count the distance.
    resume : bool
        Go on from the checkpoint in `out`, where there is one, instead of from the start.
    progress : callable, optional
        Passed to `theorykit.flow.gradient_flow`.

    Returns
    -------
    ExperimentResult

    Raises
    ------
    InputError
        `out` cannot be written (raised before any work), the data or problem is unusable, it is a family, or there is
        nowhere to resume from.

    Notes
    -----
    The columns of ``trajectory.csv`` are t, log_t, tau, s, train_loss, log_train_loss, test_loss, train_accuracy,
    test_accuracy, norm (of all parameters, Euclidean), margin (smallest y f / norm^L), cos_kernel and cos_rich, as
    ``%.17g``; losses are means over samples. A cell is empty where the column does not apply, and where t, norm or a
    loss leaves 1e-300 to 1e300. The cosines are those of w for models that are linear in x, else those of the outputs
    on the test points, of a matrix on all its entries.

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
    if experiment.members:
        raise InputError("experiment", f"the family {experiment.name}", "one of its members, or run_family")
    folder = folder_of(out, resume)
    settings = experiment.settings
    data = dataset_of(settings["data"])
    problem = problem_of(settings, data)
    _refuse_impossible_events(settings, data)
    predictors, notes = predict.solve(settings, problem)
    trajectory = gradient_flow(
        problem,
        **{key: value for key, value in settings["flow"].items() if key not in ("points", "spacing")},
        **_kept(folder, resume),
        save=_save_points(settings, problem),
        events=_crossings(settings["events"], predictors),
        directions=predict.directions(predictors, settings, problem),
        confirm=confirm,
        progress=progress,
    )
    weights = predict.linear(settings, problem)  # to be compared as such, all others by their outputs
    with one_blas_thread():  # products are small here, and more threads only wait for each other on a busy machine
        blocks = predict.on_points(predictors, problem) if predictors and not weights else []
        table = Table.of(trajectory, _cosines(trajectory, blocks))
        summary = _summary(experiment, problem, predictors, trajectory, blocks)
    summary |= {"confirmed": confirm, "notes": notes}
    summary |= {"wall_s": trajectory.wall_s, "wall_total_s": time.perf_counter() - started}
    files = () if folder is None else _write(folder, experiment, table, summary)
    return ExperimentResult(experiment, trajectory, predictors, summary, table, files)


def _kept(folder: Path | None, resume: bool) -> dict[str, Any]:
    """Return where the flow keeps its state while it runs; an old state goes unless it is to be resumed."""
    if folder is None:
        return {}
    if not resume:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return {"checkpoint": folder / CHECKPOINT}


def _refuse_impossible_events(settings: Settings, data: datasets.Dataset) -> None:
    for name in settings["events"]:
        if name.startswith("test_") and data.test is None:
            raise InputError(f"events.{name}", "no test points", "data with a test set, or no such event")
        if name.endswith(("accuracy", "margin")) and data.task == "regression":
            raise InputError(f"events.{name}", "a regression task", "classification, or no such event")
        if name.startswith("cos_") and not settings["predictors"][name.removeprefix("cos_")]:
            raise InputError(f"events.{name}", "that predictor switched off", f"predictors.{name[4:]} = true")


def _moments(settings: Settings) -> dict[str, float]:
    """Return the s at which the summary reads the flow, by name."""
    c = settings["predictors"]["c"]
    return {"start": 0.05, "early": 1.0 - c, "late": 1.0 + c}


def _save_points(settings: Settings, problem: Problem) -> SaveAt:
    """Save evenly in s, and at the moments of the summary exactly; where s is undefined, evenly in tau or log t."""
    from theorykit.flow import SaveAt

    flow = settings["flow"]
    points = flow["points"]
    if "log_t_end" in flow or "log" in flow.get("spacing", ""):
        return SaveAt(num=points, spacing=flow.get("spacing", "log"))
    if problem.log_alpha <= 0.0:
        return SaveAt(num=points)
    s_end = flow["s_end"] if "s_end" in flow else flow["tau_end"] / problem.log_alpha
    evenly = np.linspace(0.0, s_end, points + 1)[1:]
    moments = [s for s in _moments(settings).values() if not np.isclose(s, evenly).any() and s < s_end]
    return SaveAt(s=np.union1d(evenly, moments))


def _crossings(events: Mapping[str, list[float]], predictors: Predictors) -> list[Crossing]:
    """Return what to look for; cosines only with predictors that exist."""
    from theorykit.flow import Crossing

    there = [name for name in events if not name.startswith("cos_") or name.removeprefix("cos_") in predictors]
    return [Crossing(name, level) for name in there for level in events[name]]


def _cosines(trajectory: Trajectory, blocks: list[Block]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the cosines of outputs at the save points."""
    if not blocks:
        return {}
    found = [predict.compare(trajectory, k, blocks) for k in range(len(trajectory.s))]
    return {f"cos_{name}": np.array([row[name].cosine for row in found]) for name in blocks[0].wanted}


def _summary(
    experiment: Experiment, problem: Problem, predictors: Predictors, trajectory: Trajectory, blocks: list[Block]
) -> dict[str, Any]:
    data = problem.data
    moments = _read_moments(experiment.settings, trajectory, problem)
    squared = problem.loss == "squared"
    errors = _add_comparisons(moments, trajectory, blocks, squared)
    if squared and not blocks:
        errors = _add_distances_of_w(moments, trajectory, predictors)
    # a crossing whose error exceeds its time is noise of the start, where nothing has moved yet
    hidden = {} if problem.log_weight_decay > -np.inf else {"tau": None, "error": None}  # of t, past the float range
    events = [asdict(event) | hidden for event in trajectory.events if _located(event, trajectory)]
    crossed = {(event["name"], event["level"]) for event in events}
    asked = [(name, level) for name, levels in experiment.settings["events"].items() for level in levels]
    return heading(experiment) | {
        "data": {"name": data.name, "n": data.n, "d": data.d, "fingerprint": data.fingerprint}
        | {"n_test": data.test.n if data.test else 0},
        "model": {"name": problem.model.name, "degree": problem.model.degree, "parameters": problem.model.parameters},
        "status": trajectory.status,
        "message": trajectory.message,
        "events": events,
        "not_crossed": [{"name": name, "level": level} for name, level in asked if (name, level) not in crossed],
        "predictors": predict.entries(predictors, problem),
        "moments": moments,
        "errors": {name: float(np.nanmax(error)) for name, error in trajectory.errors.items()} | errors,
        "diagnostics": trajectory.diagnostics,
    }


def _located(event: Event, trajectory: Trajectory) -> bool:
    """Return whether the error of a crossing is below its time: of log t without weight decay."""
    if np.isnan(trajectory.tau).all():
        return event.log_t_error < max(1.0, event.log_t)
    return not event.error >= event.tau


def _read_moments(settings: Settings, trajectory: Trajectory, problem: Problem) -> dict[str, dict[str, Any] | None]:
    """Return the statistics at the moments that are save points, and at the end; None past the end of the flow."""
    last = len(trajectory.s) - 1
    moments: dict[str, dict[str, Any] | None] = {}
    if np.isfinite(trajectory.s).all() and "log" not in settings["flow"].get("spacing", ""):
        for name, s in _moments(settings).items():
            index = int(np.argmin(np.abs(trajectory.s - s)))
            reached = trajectory.s[index] >= s * (1.0 - 1e-9)
            moments[name] = _moment(trajectory, index, problem) if reached else None
    return moments | {"end": _moment(trajectory, last, problem)}


def _moment(trajectory: Trajectory, index: int, problem: Problem) -> dict[str, Any]:
    losses = ("train_loss", "test_loss") if problem.loss == "squared" else ()
    wanted = (*losses, "train_accuracy", "test_accuracy", "cos_kernel", "cos_rich")
    clock = next((name for name in ("s", "tau") if np.isfinite(getattr(trajectory, name)[index])), "log_t")
    statistics = {name: trajectory.stats[name][index] for name in wanted if name in trajectory.stats}
    return {clock: getattr(trajectory, clock)[index]} | statistics


def _add_comparisons(
    moments: Mapping[str, dict[str, Any] | None], trajectory: Trajectory, blocks: list[Block], squared: bool
) -> dict[str, float]:
    """Put cosines of outputs, and distances |f - f*|/|f*| from interpolants, whose length counts, into `moments`.

    Returned are the errors of the distances, the largest distance to the companion run.
    """
    errors: dict[str, float] = {}
    for moment in filter(None, moments.values() if blocks else ()):
        clock = next(iter(moment))
        index = int(np.argmin(np.abs(getattr(trajectory, clock) - moment[clock])))
        found = predict.compare(trajectory, index, blocks)
        moment |= {f"cos_{name}": compared.cosine for name, compared in found.items()}
        if squared:
            moment |= {f"distance_{name}": compared.distance for name, compared in found.items()}
        if squared and clock == "s":
            for name, shift in predict.companion_shift(trajectory, moment["s"], blocks).items():
                errors[f"distance_{name}"] = max(errors.get(f"distance_{name}", 0.0), shift)
    return errors


def _add_distances_of_w(
    moments: Mapping[str, dict[str, Any] | None], trajectory: Trajectory, predictors: Predictors
) -> dict[str, float]:
    """Put distances |w - w*|/|w*| from the interpolants into `moments`, and return their errors."""
    errors = {f"distance_{name}": 0.0 for name in predictors}
    for moment in (moment for moment in moments.values() if moment is not None and "s" in moment):
        now = trajectory.at(s=moment["s"])
        for name, solved in predictors.items():
            key, length = f"distance_{name}", float(np.linalg.norm(solved.w))
            moment[key] = float(np.linalg.norm(now.weights - solved.w)) / length
            shift = float(np.linalg.norm(now.weights - now.companion_weights)) / length
            errors[key] = max(errors[key], shift)
    return errors


def _write(folder: Path, experiment: Experiment, table: Table, summary: Mapping[str, Any]) -> tuple[Path, ...]:
    from theorykit.experiments.figure import draw

    settings = experiment.settings
    figure = draw(table, settings["predictors"]["c"], caption=caption(summary), predictors=_compared(settings))
    files = write(folder, figure, summary, table.write)
    if summary["status"] == "reached_end":  # nothing is left to go on with
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return files


def _compared(settings: Settings) -> str:
    """Return what the cosines of a figure are with."""
    if settings["model"]["kind"] not in ("diagonal", "linear"):
        return "outputs"
    return "norm" if settings["problem"]["loss"] == "squared" else "margin"


def caption(summary: Mapping[str, Any]) -> str:
    """Return what was simulated: sizes, scales and loss."""
    data, problem = summary["data"], summary["settings"]["problem"]
    scales = [
        f"{sign} = {problem[key]:g}".replace("-", "−")
        for key, sign in (("alpha", "α"), ("log_alpha", "log α"), ("weight_decay", "λ"), ("log_weight_decay", "log λ"))
        if key in problem
    ]
    model = [] if summary["settings"]["model"]["kind"] == "diagonal" else [summary["model"]["name"]]
    loss = problem["loss"].replace("_", "-")
    sizes = model or [f"d = {data['d']}"]
    return ", ".join([f"{summary['preset']}: n = {data['n']}", *sizes, *scales, f"{loss} loss"])
