"""From a TOML file to a checked `Experiment`: every key is known and has the right type before anything runs."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.serial import regular_file
from theorykit._numerics.validate import choice, finite, integer, path, shown, text

Settings = dict[str, dict[str, Any]]
_Check = Callable[[str, Any], Any]

_PRESETS = Path(__file__).parent / "presets"
_BASE = "paper"  # the name of the file's own values, without any profile's changes
_REQUIRED = object()
_TIGHTEST, _LOOSEST = 1e-12, 1e-2  # rtol, as `theorykit.flow.gradient_flow` takes it (which is slow to import)
_SHORTEST, _LONGEST = 1e-100, 1000.0  # s_end: all that happens does so around s = 1
_MOST_TAU = 1e5  # steps are about 1 in tau: half a minute for small data
_HIGHEST_DEGREE = 100
_MOST_POINTS = 100_000
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
    source : {"preset", "file"}
        Whether it comes with the package or is the user's own.
    """

    name: str
    profile: str
    settings: Settings
    source: str = "preset"


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
        ``"table.key=value"`` with TOML values, applied last; what is no TOML value is a text, as in
        ``"problem.loss=exponential"``.

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
        [model]       kind ["diagonal"], degree [2] (at most 100)
        [problem]     loss ["logistic"], alpha > 1 or log_alpha > 0, weight_decay > 0 or log_weight_decay,
                      init ["theory"]
        [flow]        s_end [2.5] (at most 1000) or tau_end = s_end log alpha (at most 1e5 with either key),
                      rtol [1e-6] (1e-12 to 1e-2), points [200]
        [predictors]  kernel [true], rich [true for degree 2, the only one for which the theory has it],
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
    file, source = _locate(path_or_preset)
    tables = _read(file)
    profiles = _profiles(tables.pop("profile", {}))
    variants = {_BASE: tables} | {name: _merge(tables, changes) for name, changes in profiles.items()}
    checked = {name: _checked(raw, "" if name == _BASE else f"profile.{name}.") for name, raw in variants.items()}
    name = _profile(profile, list(variants), file)
    settings = checked[name]
    if overrides:
        settings = _checked(_merge(variants[name], _parse_overrides(overrides)), "")
    if "path" in settings["data"]:
        settings["data"]["path"] = str(file.parent / settings["data"]["path"])
    return Experiment(file.stem, name, settings, source)


def _locate(path_or_preset: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the file, and whether it is a preset or the user's own."""
    wanted = "a TOML file or the name of a preset"
    file = path("experiment", path_or_preset, wanted)
    if str(file) in preset_names():
        return _PRESETS / f"{file}.toml", "preset"
    if file.suffix != ".toml" and file.parent == Path() and not os.path.lexists(file):
        raise unknown_name("experiment", str(file), [*preset_names(), "or the path of a TOML file"])
    return regular_file("experiment", file, wanted), "file"


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise InputError("experiment", f"{file} ({problem.strerror})", "a TOML file that can be read") from None
    except (ValueError, RecursionError) as problem:  # not TOML, not UTF-8, or an integer of thousands of digits
        raise InputError("experiment", f"{file}: {problem}", "a TOML file in UTF-8") from None


def _profile(profile: Any, known: list[str], file: Path) -> str:
    if profile is None:
        return _BASE
    if isinstance(profile, str) and profile not in known == [_BASE]:
        raise InputError("profile", f"{profile!r}; {file.name} has no [profile.{profile}]", f"{_BASE!r} or no profile")
    return choice("profile", profile, known)


def _profiles(raw: Any) -> dict[str, dict[str, Any]]:
    for name, changes in _mapping("profile", raw).items():
        if name == _BASE:
            raise InputError(f"profile.{name}", "a table", f"another name: {_BASE!r} is the file as it stands")
        for table, keys in _mapping(f"profile.{name}", changes).items():
            _mapping(f"profile.{name}.{table}", keys)
    return raw


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    wanted = "table.key=value, such as data.d=4000, problem.loss=squared or events.test_accuracy=[0.6,0.99]"
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise InputError("overrides", shown(overrides), f"a list of {wanted}")
    changes: dict[str, Any] = {}
    for override in overrides:
        parsed = _parse_override(override) if isinstance(override, str) else None
        if not parsed or not all(isinstance(keys, dict) for keys in parsed.values()):
            raise InputError("set", shown(override), wanted)
        changes = _merge(changes, parsed)
    return changes


def _parse_override(override: str) -> dict[str, Any] | None:
    """Return the tables of ``key=value`` with a TOML value, or else with the text as it stands; None for neither."""
    key, _, value = override.partition("=")
    forms = (override, f"{key}={json.dumps(value.strip())}") if value.strip() else ()
    for form in forms:
        try:
            return tomllib.loads(form)
        except (ValueError, RecursionError):
            continue
    return None


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
    _check_end(settings, where)
    _fill_predictors(settings, where)
    return settings


def _checked_data(raw: Any, where: str) -> dict[str, Any]:
    check = partial(choice, known=list(_DATA))
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
            raise InputError(f"{where}.{name}", shown(levels), "a list of levels, such as [0.6, 0.99]")
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


def _check_end(settings: Settings, where: str) -> None:
    """Refuse an end that is out of reach, in the unit in which it was given."""
    problem, flow = settings["problem"], settings["flow"]
    log_alpha = problem["log_alpha"] if "log_alpha" in problem else math.log(problem["alpha"])
    if "s_end" in flow:
        most = min(_LONGEST, _MOST_TAU / log_alpha)
        finite(f"{where}flow.s_end", flow["s_end"], minimum=_SHORTEST, maximum=most)
    else:
        most = min(_LONGEST * log_alpha, _MOST_TAU)
        finite(f"{where}flow.tau_end", flow["tau_end"], minimum=_SHORTEST * log_alpha, maximum=most)


def _fill_predictors(settings: Settings, where: str) -> None:
    """Switch on the predictors the theory has for this problem, and refuse the others."""
    problem, data, predictors = settings["problem"], settings["data"], settings["predictors"]
    regression = data.get("task") == "regression"
    if regression and problem["loss"] != "squared":
        raise InputError(f"{where}problem.loss", repr(problem["loss"]), "'squared' for data.task = 'regression'")
    predictors.setdefault("kernel", True)
    convex = settings["model"]["degree"] == 2
    if predictors.setdefault("rich", convex) and not convex:
        raise InputError(f"{where}predictors.rich", "true", "false: the late predictor is a convex program in degree 2")


def _mapping(argument: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(argument, shown(value), f"a table: [{argument}]")
    return value


def _flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(argument, shown(value), "true or false")
    return value


def _file(argument: str, value: Any) -> str:
    return str(path(argument, text(argument, value)))


def _label(argument: str, value: Any) -> str | int:
    return value if isinstance(value, str) else integer(argument, value, minimum=0)


def _pair_of_digits(argument: str, value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(argument, shown(value), "two different digits, such as [3, 8]")
    return [integer(argument, digit, minimum=0) for digit in value]


def _fraction(argument: str, value: Any) -> float:
    number = finite(argument, value, above=0.0)
    if number >= 1.0:
        raise InputError(argument, f"{number:g}", "a number between 0 and 1")
    return number


_POSITIVE = partial(finite, above=0.0)
_LARGEST = 2**63 - 1  # what TOML promises of an integer
_COUNT = partial(integer, minimum=1, maximum=_LARGEST)
_FROM_ZERO = partial(integer, minimum=0, maximum=_LARGEST)
_TASK = (partial(choice, known=["classification", "regression"]), "classification")

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
    "npz": {"path": (_file, _REQUIRED), "task": _TASK},
    "csv": {"path": (_file, _REQUIRED), "label": (_label, "y"), "task": _TASK},
}

_TABLES: dict[str, dict[str, tuple[_Check, Any]]] = {
    "model": {
        "kind": (partial(choice, known=["diagonal"]), "diagonal"),
        "degree": (partial(integer, minimum=2, maximum=_HIGHEST_DEGREE), 2),
    },
    "problem": {
        "loss": (partial(choice, known=["exponential", "logistic", "squared"]), "logistic"),
        "alpha": (partial(finite, above=1.0), None),
        "log_alpha": (_POSITIVE, None),
        "weight_decay": (_POSITIVE, None),
        "log_weight_decay": (finite, None),
        "init": (partial(choice, known=["theory", "unit"]), "theory"),
    },
    "flow": {
        "s_end": (_POSITIVE, None),
        "tau_end": (_POSITIVE, None),
        "rtol": (partial(finite, minimum=_TIGHTEST, maximum=_LOOSEST), 1e-6),
        "points": (partial(integer, minimum=2, maximum=_MOST_POINTS), 200),
    },
    "predictors": {"kernel": (_flag, None), "rich": (_flag, None), "c": (_fraction, 0.3)},
}
