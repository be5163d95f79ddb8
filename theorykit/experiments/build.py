"""From settings to the data set, the model and the problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from theorykit import datasets
from theorykit._numerics.errors import InputError
from theorykit.experiments.config import Experiment
from theorykit.experiments.schema import Settings, log_alpha_of

if TYPE_CHECKING:
    from theorykit.flow import Problem
    from theorykit.models import HomogeneousModel


def build_problem(experiment: Experiment) -> Problem:
    """Return the problem that an experiment simulates, with its data generated or read.

    Parameters
    ----------
    experiment : Experiment
        Of a family: one of its members.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        The data or the model cannot be made as the settings say, or it is a family.

    Examples
    --------
    >>> from theorykit.experiments import load_experiment
    >>> build_problem(load_experiment("fig-1a", overrides=["data.n=16", "data.d=200"])).data.d
    200
    """
    if experiment.members:
        raise InputError("experiment", f"a family, {experiment.name}", "one of its members")
    return problem_of(experiment.settings, dataset_of(experiment.settings["data"]))


def dataset_of(settings: Mapping[str, Any]) -> datasets.Dataset:
    """Generate or read the data."""
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    makers: dict[str, Callable[..., datasets.Dataset]] = {
        "sparse_sign": datasets.sparse_sign,
        "separated_gaussian": datasets.separated_gaussian,
        "sparse_parity": datasets.sparse_parity,
        "xor_cluster": datasets.xor_cluster,
        "digits": datasets.digits,
        "modular": datasets.modular,
        "matrix_completion": datasets.matrix_completion,
        "matrix_entries": _matrix_entries,
        "npz": datasets.Dataset.from_npz,
        "csv": datasets.Dataset.from_csv,
    }
    return makers[settings["kind"]](**arguments)


def _matrix_entries(
    entries: Any = None, values: Any = None, *, shape: list[int], symmetric: bool, path: str | None = None
) -> datasets.Dataset:
    if len(shape) != 2:
        raise InputError("shape", f"{len(shape)} sides", "two: rows and columns")
    if path is not None:
        stored = datasets.Dataset.from_npz(path, task="regression")
        entries, values = stored.X, stored.y
    return datasets.matrix_entries(entries, values, shape=(shape[0], shape[1]), symmetric=symmetric)


def problem_of(settings: Settings, data: datasets.Dataset) -> Problem:
    """Return the problem on data that are there."""
    from theorykit.flow import Problem

    model = model_of(settings, data)
    given = {key: value for key, value in settings["problem"].items() if key != "sigma"}
    if given["init"] == "perturbed":
        given["init"] = _perturbed(model, settings)
    return Problem(model, data, **given)


def model_of(settings: Settings, data: datasets.Dataset) -> HomogeneousModel:
    """Return the model: its sizes at both ends are those of the data."""
    from theorykit.models import Difference

    arguments = {key: value for key, value in settings["model"].items() if key not in ("kind", "difference")}
    model = _MAKERS[settings["model"]["kind"]](data, arguments)
    return Difference(model) if settings["model"].get("difference", False) else model


def _diagonal(data: datasets.Dataset, arguments: Mapping[str, Any]) -> HomogeneousModel:
    from theorykit.models import DiagonalNet

    return DiagonalNet(d=data.d, **arguments)


def _linear(data: datasets.Dataset, arguments: Mapping[str, Any]) -> HomogeneousModel:
    from theorykit.models import Linear

    return Linear(d=data.d, outputs=data.classes or 1, **arguments)


def _matrix_factorization(data: datasets.Dataset, arguments: Mapping[str, Any]) -> HomogeneousModel:
    from theorykit.models import MatrixFactorization

    rows, columns = data.settings["shape"]
    return MatrixFactorization(d=rows, columns=columns, symmetric=data.settings["symmetric"], **arguments)


def _mlp(data: datasets.Dataset, arguments: Mapping[str, Any]) -> HomogeneousModel:
    from theorykit.models import MLP

    hidden = {key: value for key, value in arguments.items() if key != "widths"}
    symbols = data.classes if data.name == "modular" else None  # pairs of one-hot vectors, never stored
    widths = (data.d * (symbols or 1), *arguments["widths"], data.classes or 1)
    return MLP(widths, symbols=symbols, **hidden)


def _cnn(data: datasets.Dataset, arguments: Mapping[str, Any]) -> HomogeneousModel:
    from theorykit.models import CNN

    sides = {key: tuple(arguments[key]) for key in ("image", "channels")}
    net = CNN(outputs=data.classes or 1, **{**arguments, **sides})
    if net.d != data.d:
        shape = " x ".join(map(str, net.image))
        raise InputError("model.image", f"{shape} = {net.d} pixels", f"sides of images of {data.d} pixels")
    return net


_MAKERS: dict[str, Callable[[datasets.Dataset, Mapping[str, Any]], HomogeneousModel]] = {
    "diagonal": _diagonal,
    "linear": _linear,
    "matrix_factorization": _matrix_factorization,
    "mlp": _mlp,
    "cnn": _cnn,
}


def _perturbed(model: HomogeneousModel, settings: Settings) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return theta_bar for which theta(0) = alpha theta_bar has N(alpha 1{i = j}, sigma^2) entries (theorem 3.12)."""
    from theorykit.models import MatrixFactorization

    assert isinstance(model, MatrixFactorization)
    sigma = settings["problem"]["sigma"] * float(np.exp(-log_alpha_of(settings)))
    return model.direction("perturbed", settings["problem"].get("seed", 0), sigma=sigma)
