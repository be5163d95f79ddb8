"""From a TOML file to a checked `Experiment`: every key is known and has the right type before anything runs."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.serial import regular_file
from theorykit._numerics.validate import choice, path, shown, text
from theorykit.experiments.schema import ALTERNATIVES, Settings, checked, mapping

_PRESETS = Path(__file__).parent / "presets"
_BASE = "paper"  # the name of the file's own values, without any profile's changes


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
        The tables data, model, problem, flow, predictors, events and (where there is one) family, with defaults filled
        in. Those of a family are the file's own values, which its members change in one key.
    source : {"preset", "file"}
        Whether it comes with the package or is the user's own.
    members : tuple of Experiment
        The members of a family, named ``key=value``; empty where there is none.
    """

    name: str
    profile: str
    settings: Settings
    source: str = "preset"
    members: tuple[Experiment, ...] = field(default=(), repr=False)


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
        A ``[profile.NAME]`` of the file; "paper" is the file as it stands. Default: what ``[about]`` says, else
        "paper".
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

        [about]       title, profile (the default one), takes (how long it takes, in words)
        [data]        kind = "sparse_sign": n, d, k [3], n_test [0], seed [0]
                      kind = "separated_gaussian": n, d, gap [25.0], n_test [0], seed [0]
                      kind = "sparse_parity": n, d, k [2], n_test [0], seed [0]
                      kind = "xor_cluster": n, d, separation [5.0], flip [0.0], n_test [0], seed [0]
                      kind = "digits": classes [[3, 8]] or "all", n_train [60], seed [0]
                      kind = "modular": p [97], operation ["addition"], fraction [0.4], seed [0]
                      kind = "matrix_completion": d [97], matrix ["multiplication"] or "random", rank [1],
                      fraction [0.05], symmetric [true], seed [0]
                      kind = "matrix_entries": entries and values, or path of an .npz file with X (pairs) and y;
                      shape, symmetric [true]
                      kind = "npz": path, task ["classification"]; kind = "csv": path, label ["y"], task
                      (paths are relative to the TOML file)
        [model]       kind = "diagonal" [the default]: degree [2] (at most 100)
                      kind = "linear"; kind = "matrix_factorization": rank [full], for matrix data
                      kind = "mlp": widths of the hidden layers [[64]], activation ["relu"], bias [false]
                      kind = "cnn": channels [[8, 16]], kernel [3], activation, pooling ["average"], window [whole],
                      image [[8, 8] for digits], bias [false]
                      all but diagonal: difference [false] of two copies, which starts with zero output
        [problem]     loss ["logistic"], alpha > 0 or log_alpha, weight_decay >= 0 or log_weight_decay,
                      init ["theory"], a name that the model knows, seed of its draw [0]; with init = "perturbed"
                      also sigma [1e-3], the standard deviation of the entries of theta(0)
        [flow]        s_end [2.5] (at most 1000) or tau_end = s_end log alpha (at most 1e5 with either key) or
                      log_t_end, the only end without weight decay; s needs alpha > 1; rtol [1e-6] (1e-12 to 3e-2),
                      points [200], spacing ["linear" in s or tau; "log" in t without weight decay, where "loglog" in
                      log t is another], method and dtype as in `theorykit.flow.gradient_flow`
        [predictors]  kernel [true for diagonal, linear, matrix_factorization], rich [true for diagonal nets of degree 2
                      and matrices of full rank, where the theory has it], c [0.3] of the early and late times T-_c and
                      T+_c, s = 1 - c and 1 + c
        [events]      name of a statistic = list of levels, such as test_accuracy = [0.6, 0.99]
        [family]      key, such as "problem.alpha", and its values: one flow for each
        [profile.NAME.TABLE]  keys of that table that change under the profile

    A profile or override that gives one of two exclusive keys (alpha and log_alpha, ...) displaces the other; one that
    changes the kind of data or model displaces all other keys of that table.

    Examples
    --------
    >>> experiment = load_experiment("fig-1a", overrides=["data.d=2000", "problem.log_alpha=20"])
    >>> experiment.settings["data"]["d"], experiment.settings["problem"]["log_alpha"]
    (2000, 20.0)
    """
    file, source = _locate(path_or_preset)
    tables = _read(file)
    about = _about(tables.pop("about", {}))
    profiles = _profiles(tables.pop("profile", {}))
    variants = {_BASE: tables} | {name: _merge(tables, changes) for name, changes in profiles.items()}
    for name, raw in variants.items():
        _experiments(file, name, raw, source, "" if name == _BASE else f"profile.{name}.")
    name = _profile(profile if profile is not None else about.get("profile", _BASE), list(variants), file)
    return _experiments(file, name, _merge(variants[name], _parse_overrides(overrides)), source, "")


def about_preset(name: str) -> dict[str, str]:
    """Return what a preset says of itself: title, profile (the default one) and how long it takes.

    Examples
    --------
    >>> sorted(about_preset("fig-1a"))
    ['takes', 'title']
    """
    return _about(_read(_PRESETS / f"{choice('preset', name, preset_names())}.toml").get("about", {}))


def _experiments(file: Path, profile: str, raw: dict[str, Any], source: str, where: str) -> Experiment:
    """Return the experiment, with the members of its family."""
    settings = _located(checked(raw, where), file)
    if "family" not in settings:
        return Experiment(file.stem, profile, settings, source)
    table, _, key = settings["family"]["key"].partition(".")
    alone = {name: keys for name, keys in raw.items() if name != "family"}
    members = []
    for value in settings["family"]["values"]:
        member = _located(checked(_merge(alone, {table: {key: value}}), f"{where}family: "), file)
        members.append(Experiment(f"{key}={value}", profile, member, source))
    return Experiment(file.stem, profile, settings, source, tuple(members))


def _located(settings: Settings, file: Path) -> Settings:
    """Return the settings with the path of the data relative to the file's folder."""
    if "path" in settings["data"]:
        settings["data"]["path"] = str(file.parent / settings["data"]["path"])
    return settings


def _about(raw: Any) -> dict[str, str]:
    about = mapping("about", raw)
    for key, value in about.items():
        choice("about", key, ["title", "profile", "takes"])
        text(f"about.{key}", value)
    return about


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
    if isinstance(profile, str) and profile not in known == [_BASE]:
        raise InputError("profile", f"{profile!r}; {file.name} has no [profile.{profile}]", f"{_BASE!r} or no profile")
    return choice("profile", profile, known)


def _profiles(raw: Any) -> dict[str, dict[str, Any]]:
    for name, changes in mapping("profile", raw).items():
        if name == _BASE:
            raise InputError(f"profile.{name}", "a table", f"another name: {_BASE!r} is the file as it stands")
        for table, keys in mapping(f"profile.{name}", changes).items():
            mapping(f"profile.{name}.{table}", keys)
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


def _merge(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tables` with the keys of `changes` put in; a key displaces those it excludes."""
    merged = {**tables}
    for table, keys in changes.items():
        old = mapping(table, tables.get(table, {}))
        groups = [set(group) for where, group in ALTERNATIVES if where == table]
        displaced = {other for key in keys for group in groups if key in group for other in group}
        kept = {} if "kind" in old and keys.get("kind", old["kind"]) != old["kind"] else old
        merged[table] = {key: value for key, value in kept.items() if key not in displaced} | keys
    return merged
