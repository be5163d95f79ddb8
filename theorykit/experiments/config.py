"""From a TOML file to a checked `Experiment`: every key is known and has the right type before anything runs."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import finite, integer

Settings = dict[str, dict[str, Any]]
_Check = Callable[[str, Any], Any]

_PRESETS = Path(__file__).parent / "presets"
_BASE = "paper"  # the name of the file's own values, without any profile's changes
_REQUIRED = object()
_STATISTICS = [
    *("train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment, ready to run.

    Attributes
    ----------
    name : str
        Name of the preset, or of the file without its ending.
    profile : str
        The profile in force; "paper" stands for the file's own values.
    settings : dict of dict
        The tables data, model, problem, flow, predictors and events, with defaults filled in.
    """

    name: str
    profile: str
    settings: Settings


def preset_names() -> list[str]:
    """Return the names of the experiments that come with the package.

    Returns
    -------
    list of str

    Examples
    --------
    >>> "fig-1a" in preset_names()
    True
    """
    return sorted(file.stem for file in _PRESETS.glob("*.toml"))


def load_experiment(
    path_or_preset: str | os.PathLike[str], *, profile: str | None = None, overrides: Sequence[str] = ()
) -> Experiment:
    """Read and check an experiment.

    Parameters
    ----------
    path_or_preset : str or path
        Name of a preset, or path of a TOML file.
    profile : str, optional
        A ``[profile.NAME]`` of the file; "paper" (the default) is the file as it stands.
    overrides : sequence of str
        ``"table.key=value"`` with TOML values, applied last.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        No such file or preset, TOML that cannot be read, an unknown or missing table or key, a value of the wrong type
        or out of range, two keys that exclude each other.

    Notes
    -----
    The tables and their keys (defaults in brackets)::

        [data]        kind = "sparse_sign": n, d, k [3], n_test [0], seed [0]
                      kind = "separated_gaussian": n, d, gap [25.0], n_test [0], seed [0]
                      kind = "digits": classes [[3, 8]], n_train [60], seed [0]
                      kind = "npz": path, task ["classification"]; kind = "csv": path, label ["y"], task
                      (paths are relative to the TOML file)
        [model]       kind ["diagonal"], degree [2]
        [problem]     loss ["logistic"], alpha > 1 or log_alpha > 0, weight_decay > 0 or log_weight_decay,
                      init ["theory"]
        [flow]        s_end [2.5] or tau_end, rtol [1e-6], points [200]
        [predictors]  kernel, rich [both true where the theory has them: classification, and degree 2 for rich],
                      c [0.3] of the early and late times T-_c and T+_c, s = 1 - c and 1 + c
        [events]      name of a statistic = list of levels, such as test_accuracy = [0.6, 0.99]
        [profile.NAME.TABLE]  keys of that table that change under the profile

    A profile or override that gives one of two exclusive keys (alpha and log_alpha, ...) displaces the other.

    Examples
    --------
    >>> experiment = load_experiment("fig-1a", overrides=["data.d=2000", "problem.log_alpha=20"])
    >>> experiment.settings["data"]["d"], experiment.settings["problem"]["log_alpha"]
    (2000, 20.0)
    """
    file = _locate(path_or_preset)
    tables = _read(file)
    profiles = _profiles(tables.pop("profile", {}))
    variants = {_BASE: tables} | {name: _merge(tables, changes) for name, changes in profiles.items()}
    checked = {name: _checked(raw, "" if name == _BASE else f"profile.{name}.") for name, raw in variants.items()}
    name = _BASE if profile is None else profile
    if name not in variants:
        raise unknown_name("profile", name, list(variants))
    settings = checked[name]
    if overrides:
        settings = _checked(_merge(variants[name], _parse_overrides(overrides)), "")
    if "path" in settings["data"]:
        settings["data"]["path"] = str(file.parent / settings["data"]["path"])
    return Experiment(file.stem, name, settings)


def _locate(path_or_preset: str | os.PathLike[str]) -> Path:
    name = os.fspath(path_or_preset)
    if name in preset_names():
        return _PRESETS / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" or path.exists() or path.parent != Path():
        return path
    raise unknown_name("experiment", name, [*preset_names(), "or the path of a TOML file"])


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError("experiment", f"{file} ({problem.strerror})", "a TOML file or the name of a preset") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError("experiment", f"{file}: {problem}", "a TOML file in UTF-8") from None


def _profiles(raw: Any) -> dict[str, dict[str, Any]]:
    for name, changes in _mapping("profile", raw).items():
        if name == _BASE:
            raise InputError(f"profile.{name}", "a table", f"another name: {_BASE!r} is the file as it stands")
        for table, keys in _mapping(f"profile.{name}", changes).items():
            _mapping(f"profile.{name}.{table}", keys)
    return raw


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    wanted = "table.key=value with a TOML value, such as data.d=4000 or problem.loss='squared'"
    changes: dict[str, Any] = {}
    for text in overrides:
        try:
            parsed = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            raise InputError("set", repr(text), wanted) from None
        if not parsed or not all(isinstance(keys, dict) for keys in parsed.values()):
            raise InputError("set", repr(text), wanted)
        changes = _merge(changes, parsed)
    return changes


_ALTERNATIVES = (("alpha", "log_alpha"), ("weight_decay", "log_weight_decay"), ("s_end", "tau_end"))


def _merge(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tables` with the keys of `changes` put in; a key displaces the one it excludes."""
    merged = {**tables}
    for table, keys in changes.items():
        old = _mapping(table, tables.get(table, {}))
        displaced = {b if key == a else a for a, b in _ALTERNATIVES for key in keys if key in (a, b)}
        merged[table] = {key: value for key, value in old.items() if key not in displaced} | keys
    return merged


def _checked(raw: Mapping[str, Any], where: str) -> Settings:
    """Return all tables with every value checked and defaults filled in; `where` prefixes the names in messages."""
    known = ["data", *_TABLES, "events"]
    for table in raw:
        if table not in known:
            raise unknown_name(f"{where}table", table, known)
    if "data" not in raw:
        raise InputError(f"{where}data", "no [data] table", f"one with kind = one of {', '.join(_DATA)}")
    settings = {"data": _checked_data(raw["data"], f"{where}data")}
    for table, keys in _TABLES.items():
        settings[table] = _checked_table(raw.get(table, {}), keys, f"{where}{table}")
    settings["events"] = _checked_events(raw.get("events", {}), f"{where}events")
    _fill_alternatives(settings, where)
    _fill_predictors(settings, where)
    return settings


def _checked_data(raw: Any, where: str) -> dict[str, Any]:
    check = partial(_choice, known=list(_DATA))
    kind = check(f"{where}.kind", _mapping(where, raw).get("kind"))
    return _checked_table(raw, {"kind": (check, _REQUIRED)} | _DATA[kind], where)


def _checked_table(raw: Any, keys: Mapping[str, tuple[_Check, Any]], where: str) -> dict[str, Any]:
    """Return the table's values, checked; keys whose default is None are left out where they are not given."""
    for key in _mapping(where, raw):
        if key not in keys:
            raise unknown_name(where, key, list(keys))
    table = {}
    for key, (check, default) in keys.items():
        value = raw.get(key, default)
        if value is _REQUIRED:
            raise InputError(f"{where}.{key}", "nothing", "a value: it has no default")
        if value is not None:
            table[key] = check(f"{where}.{key}", value)
    return table


def _checked_events(raw: Any, where: str) -> dict[str, list[float]]:
    events = {}
    for name, levels in _mapping(where, raw).items():
        if name not in _STATISTICS:
            raise unknown_name(where, name, _STATISTICS)
        if not isinstance(levels, list):
            raise InputError(f"{where}.{name}", repr(levels), "a list of levels, such as [0.6, 0.99]")
        events[name] = [finite(f"{where}.{name}", level) for level in levels]
    return events


def _fill_alternatives(settings: Settings, where: str) -> None:
    """Require one of each pair of exclusive keys, and not both; `s_end` has a default."""
    if "tau_end" not in settings["flow"]:
        settings["flow"].setdefault("s_end", 2.5)
    for table, (one, other) in zip(("problem", "problem", "flow"), _ALTERNATIVES, strict=True):
        given = [key for key in (one, other) if key in settings[table]]
        if len(given) != 1:
            raise InputError(f"{where}{table}", f"{' and '.join(given) or 'neither'}", f"one of {one} and {other}")


def _fill_predictors(settings: Settings, where: str) -> None:
    """Switch on the predictors the theory has for this problem, and refuse the others."""
    problem, data, predictors = settings["problem"], settings["data"], settings["predictors"]
    regression = data.get("task") == "regression"
    if regression and problem["loss"] != "squared":
        raise InputError(f"{where}problem.loss", repr(problem["loss"]), "'squared' for data.task = 'regression'")
    margins = problem["loss"] != "squared"
    available = {"kernel": margins, "rich": margins and settings["model"]["degree"] == 2}
    for name, there in available.items():
        if predictors.setdefault(name, there) and not there:
            wanted = (
                "false: max-margin predictors belong to the logistic and exponential losses, the rich one to degree 2"
            )
            raise InputError(f"{where}predictors.{name}", "true", wanted)


def _mapping(argument: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(argument, repr(value), f"a table: [{argument}]")
    return value


def _choice(argument: str, value: Any, *, known: list[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise unknown_name(argument, str(value), known)
    return value


def _flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(argument, repr(value), "true or false")
    return value


def _text(argument: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(argument, repr(value), "a text in quotes")
    return value


def _label(argument: str, value: Any) -> str | int:
    return value if isinstance(value, str) else integer(argument, value, minimum=0)


def _pair_of_digits(argument: str, value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(argument, repr(value), "two different digits, such as [3, 8]")
    return [integer(argument, digit, minimum=0) for digit in value]


def _fraction(argument: str, value: Any) -> float:
    number = finite(argument, value, above=0.0)
    if number >= 1.0:
        raise InputError(argument, f"{number:g}", "a number between 0 and 1")
    return number


_POSITIVE = partial(finite, above=0.0)
_COUNT = partial(integer, minimum=1)
_FROM_ZERO = partial(integer, minimum=0)
_TASK = (partial(_choice, known=["classification", "regression"]), "classification")

_DATA: dict[str, dict[str, tuple[_Check, Any]]] = {
    "sparse_sign": {
        "n": (_COUNT, _REQUIRED),
        "d": (_COUNT, _REQUIRED),
        "k": (_COUNT, 3),
        "n_test": (_FROM_ZERO, 0),
        "seed": (_FROM_ZERO, 0),
    },
    "separated_gaussian": {
        "n": (_COUNT, _REQUIRED),
        "d": (_COUNT, _REQUIRED),
        "gap": (partial(finite, minimum=0.0), 25.0),
        "n_test": (_FROM_ZERO, 0),
        "seed": (_FROM_ZERO, 0),
    },
    "digits": {"classes": (_pair_of_digits, [3, 8]), "n_train": (_COUNT, 60), "seed": (_FROM_ZERO, 0)},
    "npz": {"path": (_text, _REQUIRED), "task": _TASK},
    "csv": {"path": (_text, _REQUIRED), "label": (_label, "y"), "task": _TASK},
}

_TABLES: dict[str, dict[str, tuple[_Check, Any]]] = {
    "model": {"kind": (partial(_choice, known=["diagonal"]), "diagonal"), "degree": (partial(integer, minimum=2), 2)},
    "problem": {
        "loss": (partial(_choice, known=["exponential", "logistic", "squared"]), "logistic"),
        "alpha": (partial(finite, above=1.0), None),
        "log_alpha": (_POSITIVE, None),
        "weight_decay": (_POSITIVE, None),
        "log_weight_decay": (finite, None),
        "init": (partial(_choice, known=["theory", "unit"]), "theory"),
    },
    "flow": {
        "s_end": (_POSITIVE, None),
        "tau_end": (_POSITIVE, None),
        "rtol": (_fraction, 1e-6),
        "points": (partial(integer, minimum=2), 200),
    },
    "predictors": {"kernel": (_flag, None), "rich": (_flag, None), "c": (_fraction, 0.3)},
}
