"""The predictors of an experiment, early (kernel) and late (rich), and how near the flow is to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InconsistentError, InputError, NotSeparableError
from theorykit.datasets.dataset import Points
from theorykit.experiments.schema import Settings

if TYPE_CHECKING:
    from theorykit.flow import Problem, Trajectory
    from theorykit.programs import KernelInterpolant, KernelSVM

Floats = NDArray[np.float64]
Predictors = dict[str, Any]

_MOST_ROWS = 20_000  # samples times outputs of a Gram matrix: 3.2 GB
_NORMS: dict[str, Any] = {"kernel": 2, "rich": 1}


class Block(NamedTuple):
    """Some points, and the outputs of each predictor there."""

    X: NDArray[Any]
    wanted: dict[str, Floats]


class Comparison(NamedTuple):
    """How a net's outputs lie to a predictor's: their cosine, and |f - f*|/|f*|."""

    cosine: float
    distance: float


def solve(settings: Settings, problem: Problem) -> tuple[Predictors, list[str]]:
    """Solve the programs that the settings ask for.

    Returns
    -------
    predictors : dict of str to result of `theorykit.programs`
        "kernel" and "rich": separators or interpolants w of a model that is linear in x; for matrix factorisation the
        interpolant on the features of (I, I) and the matrix of least nuclear norm; for other models the machine or
        interpolant on the features of theta_bar.
    notes : list of str
        Data that no predictor separates or interpolates are a note, not an error.
    """
    names = [name for name in _NORMS if settings["predictors"][name]]
    try:
        solved = {name: _solved(name, settings, problem) for name in names}
    except (NotSeparableError, InconsistentError) as error:
        return {}, [f"no predictors: {error}"]
    if not problem.data.y.any() and problem.loss == "squared":
        return {}, ["no predictors: all targets are 0, so that the least-norm interpolant is 0"]
    return solved, []


def _solved(name: str, settings: Settings, problem: Problem) -> Any:
    from theorykit.programs import max_margin, min_norm, min_nuclear_norm

    data, squared = problem.data, problem.loss == "squared"
    if linear(settings, problem):
        return (min_norm if squared else max_margin)(data.X, data.y, norm=_NORMS[name])
    if name == "rich":
        shape = data.settings["shape"]
        return min_nuclear_norm(
            data.X, data.y, shape=(int(shape[0]), int(shape[1])), symmetric=data.settings["symmetric"]
        )
    return _kernel(settings, problem)


def _kernel(settings: Settings, problem: Problem) -> KernelSVM | KernelInterpolant:
    from theorykit.programs import kernel_interpolant, kernel_svm

    rows = problem.data.n * problem.model.outputs
    if rows > _MOST_ROWS:
        got = f"{problem.data.n} samples times {problem.model.outputs} outputs"
        raise InputError("predictors.kernel", got, f"at most {_MOST_ROWS} rows of a Gram matrix, or false")
    completes = settings["model"]["kind"] == "matrix_factorization"
    init = "theory" if completes or not problem.direction.any() else problem.direction
    program: Any = kernel_interpolant if problem.loss == "squared" else kernel_svm
    return program(problem.data.X, problem.data.y, model=problem.model, init=init)


def linear(settings: Settings, problem: Problem) -> bool:
    """Return whether the model is <w, x>, so that predictors are directions of w."""
    kind = settings["model"]["kind"]
    return kind == "diagonal" or (
        kind == "linear" and problem.model.outputs == 1 and not settings["model"]["difference"]
    )


def outputs_of(solved: Any, X: NDArray[Any]) -> Floats:
    """Return a predictor's outputs, shape (m,) or (m, c)."""
    if hasattr(solved, "decision"):
        return np.asarray(solved.decision(X))
    if hasattr(solved, "predict"):
        return np.asarray(solved.predict(X))
    if hasattr(solved, "W"):
        return np.asarray(solved.W[tuple(X.T)])
    return np.asarray(X @ solved.w)


def entries(predictors: Predictors, problem: Problem) -> dict[str, dict[str, Any]]:
    """Return norm, proved bounds on the optimum (margin or least norm) and the score on test points of each."""
    return {name: _optimum(name, solved) | _score(solved, problem) for name, solved in predictors.items()}


def _optimum(name: str, solved: Any) -> dict[str, Any]:
    if hasattr(solved, "W"):
        return {"norm": "nuclear", "least_norm": [solved.certificate.lower, solved.certificate.upper]}
    if hasattr(solved, "residual"):
        bound = solved.distance_bound
        return {"norm": 2, "least_norm": [max(solved.norm - bound, 0.0), solved.norm + bound]}
    optimum = "least_norm" if type(solved).__name__ == "MinNorm" else "margin"
    norm = 2 if hasattr(solved, "decision") else _NORMS[name]
    return {"norm": norm, optimum: [solved.certificate.lower, solved.certificate.upper]}


def _score(solved: Any, problem: Problem) -> dict[str, float | None]:
    """Return test accuracy (0 counts as wrong), or the mean squared error for regression."""
    data = problem.data
    key = "test_loss" if data.task == "regression" else "test_accuracy"
    if data.test is None:
        return {key: None}
    total = sum(float(_scores(outputs_of(solved, X), y, data.task).sum()) for X, y in data.test.blocks())
    return {key: total / data.test.n}


def _scores(f: Floats, y: NDArray[Any], task: str) -> NDArray[Any]:
    if task == "regression":
        return (f - y) ** 2
    return f.argmax(axis=1) == y if task == "multiclass" else np.sign(f) == y


def on_points(predictors: Predictors, problem: Problem) -> list[Block]:
    """Return the points on which outputs are compared, with each predictor's: test points, of a matrix every entry."""
    return [Block(X, {name: outputs_of(solved, X) for name, solved in predictors.items()}) for X, _ in _points(problem)]


def compare(trajectory: Trajectory, index: int, blocks: Sequence[Block]) -> dict[str, Comparison]:
    """Compare the outputs at a save point with each predictor's."""
    outputs = [trajectory.outputs(block.X, index) for block in blocks]
    return {
        name: _compared([(f, block.wanted[name]) for f, block in zip(outputs, blocks, strict=True)])
        for name in blocks[0].wanted
    }


def companion_shift(trajectory: Trajectory, s: float, blocks: Sequence[Block]) -> dict[str, float]:
    """Return how far the companion run is away at s, |f - f'|/|f*|: the error of a distance."""
    now = trajectory.at(s=s)
    pairs = [(now.outputs(block.X), now.companion_outputs(block.X)) for block in blocks]
    shift = math.sqrt(sum(float(np.sum((f - other) ** 2)) for f, other in pairs))
    sizes = {
        name: math.sqrt(sum(float(np.sum(block.wanted[name] ** 2)) for block in blocks)) for name in blocks[0].wanted
    }
    return {name: shift / size for name, size in sizes.items() if size > 0.0}


def _points(problem: Problem) -> Iterator[Points]:
    """Yield the points on which outputs are compared."""
    data = problem.data
    if "shape" in data.settings:
        entries = np.indices(data.settings["shape"]).reshape(2, -1).T
        yield entries.astype(np.int64), np.zeros(len(entries))
    elif data.test is not None:
        yield from data.test.blocks()
    else:
        yield data.X, data.y


def _compared(pairs: list[tuple[Floats, Floats]]) -> Comparison:
    def total(product: Any) -> float:
        return float(sum(np.sum(product(f, wanted)) for f, wanted in pairs))

    own, other = np.sqrt(total(lambda f, _: f * f)), np.sqrt(total(lambda _, wanted: wanted * wanted))
    if own == 0.0 or other == 0.0:
        return Comparison(0.0, float("nan") if other == 0.0 else 1.0)
    cosine = total(lambda f, wanted: (f / own) * (wanted / other))
    return Comparison(cosine, float(np.sqrt(total(lambda f, wanted: (f - wanted) ** 2)) / other))


def directions(predictors: Mapping[str, Any], settings: Settings, problem: Problem) -> dict[str, Floats]:
    """Return the weights of the predictors of a model that is linear in x; others have none."""
    return {name: solved.w for name, solved in predictors.items()} if linear(settings, problem) else {}
