"""What an experiment may say: every table and key, its check, its default, and what fits together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import choice, finite, integer, path, shown, text

Settings = dict[str, dict[str, Any]]
Check = Callable[[str, Any], Any]

ALTERNATIVES = (
    ("problem", ("alpha", "log_alpha")),
    ("problem", ("weight_decay", "log_weight_decay")),
    ("flow", ("s_end", "tau_end", "log_t_end")),
)
"""Keys that exclude each other, by table."""

STATISTICS = [
    *("train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
]
"""What [events] may watch."""

TIGHTEST, LOOSEST = 1e-12, 3e-2  # rtol, as `theorykit.flow.gradient_flow` takes it (which is slow to import)

_REQUIRED = object()
_SHORTEST, _LONGEST = 1e-100, 1000.0  # s_end: all that happens does so around s = 1
_MOST_TAU = 1e5  # steps are about 1 in tau: half a minute for small data
_MOST_LOG_T = 1e6
_HIGHEST_DEGREE = 100
_MOST_POINTS = 100_000
_MOST_MEMBERS = 100
_LARGEST = 2**63 - 1  # what TOML promises of an integer
_ZERO_OUTPUT = ("theory", "unit", "zero_last", "twin")


def mapping(argument: str, value: Any) -> dict[str, Any]:
    """Return `value`, a table."""
    if not isinstance(value, dict):
        raise InputError(argument, shown(value), f"a table: [{argument}]")
    return value


def checked(raw: Mapping[str, Any], where: str) -> Settings:
    """Return all tables with every value checked and defaults filled in; `where` prefixes the names in messages."""
    known = ["data", "model", *_TABLES, "events", "family"]
    for table in raw:
        if table not in known:
            raise unknown_name(f"{where}table", table, known)
    if "data" not in raw:
        raise InputError(f"{where}data", "no [data] table", f"one with kind = one of {', '.join(_DATA)}")
    settings = {"data": _checked_kind(raw["data"], _DATA, None, f"{where}data")}
    settings["model"] = _checked_kind(raw.get("model", {}), _MODELS, "diagonal", f"{where}model")
    for table, keys in _TABLES.items():
        settings[table] = _checked_table(raw.get(table, {}), keys, f"{where}{table}")
    settings["events"] = _checked_events(raw.get("events", {}), f"{where}events")
    if "family" in raw:
        settings["family"] = _checked_family(raw["family"], f"{where}family")
    _check_data(settings, where)
    _check_alternatives(settings, where)
    _check_model(settings, where)
    _check_problem(settings, where)
    _check_end(settings, where)
    _fill_predictors(settings, where)
    return settings


def log_alpha_of(settings: Settings) -> float:
    """Return log(alpha)."""
    problem = settings["problem"]
    return float(problem["log_alpha"]) if "log_alpha" in problem else math.log(problem["alpha"])


def task_of(settings: Settings) -> str:
    """Return what the labels mean: "classification", "regression" or "multiclass"."""
    data = settings["data"]
    if data["kind"] in ("npz", "csv"):
        return str(data["task"])
    if data["kind"] in _MATRICES:
        return "regression"
    return "multiclass" if data["kind"] == "modular" or data.get("classes") == "all" else "classification"


def _checked_kind(raw: Any, kinds: Mapping[str, Any], default: str | None, where: str) -> dict[str, Any]:
    check = partial(choice, known=list(kinds))
    kind = check(f"{where}.kind", mapping(where, raw).get("kind", default))
    return _checked_table(raw, {"kind": (check, default or _REQUIRED)} | kinds[kind], where)


def _checked_table(raw: Any, keys: Mapping[str, tuple[Check, Any]], where: str) -> dict[str, Any]:
    """Return the table's values, checked; keys whose default is None are left out where they are not given."""
    for key in mapping(where, raw):
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
    for name, levels in mapping(where, raw).items():
        if name not in STATISTICS:
            raise unknown_name(where, name, STATISTICS)
        events[name] = _levels(f"{where}.{name}", levels)
    return events


def _checked_family(raw: Any, where: str) -> dict[str, Any]:
    """Return key and values; that each value is legal is for the members to check."""
    family = _checked_table(raw, {"key": (text, _REQUIRED), "values": (_members, _REQUIRED)}, where)
    table, _, key = family["key"].partition(".")
    if table not in ("data", "model", "problem", "flow") or not key.isidentifier():
        wanted = "table.key of data, model, problem or flow, such as problem.alpha"
        raise InputError(f"{where}.key", shown(family["key"]), wanted)
    return family


def _check_alternatives(settings: Settings, where: str) -> None:
    """Require one of each set of exclusive keys, and not more; `s_end` has a default where s is defined."""
    flow = settings["flow"]
    for table, keys in ALTERNATIVES:
        given = [key for key in keys if key in settings[table]]
        if table == "flow" and not given and _clock(settings) == "s":
            flow["s_end"] = 2.5
        elif table == "flow" and not given:
            decays = settings["problem"].get("weight_decay") != 0.0
            wanted = "tau_end, since s needs alpha > 1" if decays else "log_t_end, since weight_decay = 0"
            raise InputError(f"{where}flow", "no end", wanted)
        elif len(given) != 1:
            raise InputError(f"{where}{table}", " and ".join(given) or "neither", f"one of {' and '.join(keys)}")


def _clock(settings: Settings) -> str:
    """Return the finest clock that is defined: "s" = lambda t/log(alpha), "tau" = lambda t, or "log_t"."""
    if settings["problem"].get("weight_decay") == 0.0:
        return "log_t"
    return "s" if log_alpha_of(settings) > 0.0 else "tau"


def _check_data(settings: Settings, where: str) -> None:
    data = settings["data"]
    if data["kind"] != "matrix_entries":
        return
    inline = [key for key in ("entries", "values", "shape") if key in data]
    if "path" in data and inline[:2]:
        raise InputError(f"{where}data", f"path and {inline[0]}", "the entries either from a file or in place")
    if "path" not in data and len(inline) < 3:
        missing = next(key for key in ("entries", "values", "shape") if key not in data)
        raise InputError(f"{where}data.{missing}", "nothing", "entries, values and shape, or path and shape")
    if "shape" not in data:
        raise InputError(f"{where}data.shape", "nothing", "rows and columns, such as [97, 97]")


def _check_model(settings: Settings, where: str) -> None:
    """Refuse a model that cannot read the data."""
    data, model = settings["data"]["kind"], settings["model"]
    readers = _READERS.get(data, ("diagonal", "linear", "mlp", "cnn"))
    if model["kind"] not in readers:
        wanted = f"{' or '.join(readers)}, which {'reads' if len(readers) == 1 else 'read'} {data} data"
        raise InputError(f"{where}model.kind", repr(model["kind"]), wanted)
    if model["kind"] == "cnn" and "image" not in model:
        if data != "digits":
            raise InputError(f"{where}model.image", "nothing", "the sides of the images, such as [8, 8]")
        model["image"] = [8, 8]


def _check_problem(settings: Settings, where: str) -> None:
    """Refuse a loss that does not fit the labels, and a start that the model does not have."""
    problem, task = settings["problem"], task_of(settings)
    losses = _LOSSES[task]
    if problem["loss"] not in losses:
        wanted = f"{' or '.join(map(repr, losses))} for data.task = {task!r}"
        raise InputError(f"{where}problem.loss", repr(problem["loss"]), wanted)
    choice(f"{where}problem.init", problem["init"], _inits(settings))
    if problem["init"] == "perturbed":
        problem.setdefault("sigma", 1e-3)
    elif "sigma" in problem:
        raise InputError(f"{where}problem.sigma", f"{problem['sigma']:g}", "none: only init = 'perturbed' has one")


def _inits(settings: Settings) -> list[str]:
    """Return the names of the starts of a kind of model."""
    kind = settings["model"]["kind"]
    if kind == "matrix_factorization":
        return ["theory", "unit", "perturbed", "he"] if settings["data"]["symmetric"] else _ASYMMETRIC
    return ["theory", "unit"] if kind == "diagonal" else ["theory", "zero_last", "twin", "he", "orthogonal"]


def _check_end(settings: Settings, where: str) -> None:
    """Refuse an end that is out of reach or undefined, in the unit in which it was given."""
    flow, clock = settings["flow"], _clock(settings)
    (key,) = (key for key in ("s_end", "tau_end", "log_t_end") if key in flow)
    if clock == "log_t" and key != "log_t_end":
        raise InputError(f"{where}flow.{key}", f"{flow[key]:g} with weight_decay = 0", "log_t_end = log(t) of the end")
    if key == "log_t_end":
        finite(f"{where}flow.log_t_end", flow["log_t_end"], maximum=_MOST_LOG_T)
        return
    if key == "s_end" and clock == "tau":
        raise InputError(f"{where}flow.s_end", f"{flow['s_end']:g} with alpha <= 1", "tau_end: s needs alpha > 1")
    log_alpha = log_alpha_of(settings) if clock == "s" else 1.0
    if key == "s_end":
        most = min(_LONGEST, _MOST_TAU / log_alpha)
        finite(f"{where}flow.s_end", flow["s_end"], minimum=_SHORTEST, maximum=most)
    else:
        most = min(_LONGEST * log_alpha, _MOST_TAU)
        finite(f"{where}flow.tau_end", flow["tau_end"], minimum=_SHORTEST * log_alpha, maximum=most)


def _fill_predictors(settings: Settings, where: str) -> None:
    """Switch on the predictors the theory has for this problem, and refuse the others."""
    model, predictors = settings["model"], settings["predictors"]
    linear = model["kind"] in ("diagonal", "linear") and task_of(settings) != "multiclass"
    completes = model["kind"] == "matrix_factorization"
    starts_at_zero = settings["problem"]["init"] in _ZERO_OUTPUT or model.get("difference", False)
    if predictors.setdefault("kernel", linear or completes) and not (linear or completes or starts_at_zero):
        got = f"true for init = {settings['problem']['init']!r}"
        wanted = f"false, or a start with zero output: {', '.join(_ZERO_OUTPUT)}, model.difference = true"
        raise InputError(f"{where}predictors.kernel", got, wanted)
    convex = model["kind"] == "diagonal" and model["degree"] == 2
    convex |= completes and "rank" not in model and not model["difference"]
    if predictors.setdefault("rich", convex) and not convex:
        wanted = "false: the late predictor is a convex program for diagonal nets of degree 2 and matrices of full rank"
        raise InputError(f"{where}predictors.rich", "true", wanted)
    for name in settings["events"]:
        if name.startswith("cos_") and not (linear and not model.get("difference", False)):
            wanted = "a statistic of the flow alone: w is there for models linear in x"
            raise InputError(f"{where}events.{name}", f"a {model['kind']} model", wanted)


def flag(argument: str, value: Any) -> bool:
    """Return `value`, true or false."""
    if not isinstance(value, bool):
        raise InputError(argument, shown(value), "true or false")
    return value


def _file(argument: str, value: Any) -> str:
    return str(path(argument, text(argument, value)))


def _label(argument: str, value: Any) -> str | int:
    return value if isinstance(value, str) else integer(argument, value, minimum=0)


def _digit_classes(argument: str, value: Any) -> list[int] | str:
    if value == "all":
        return "all"
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(argument, shown(value), "two different digits, such as [3, 8], or 'all'")
    return [integer(argument, digit, minimum=0) for digit in value]


def _fraction(argument: str, value: Any) -> float:
    number = finite(argument, value, above=0.0)
    if number >= 1.0:
        raise InputError(argument, f"{number:g}", "a number between 0 and 1")
    return number


def _share(argument: str, value: Any) -> float:
    return finite(argument, value, above=0.0, maximum=1.0)


def _sizes(argument: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not value:
        raise InputError(argument, shown(value), "a list of integers >= 1, such as [64, 32]")
    return [integer(argument, size, minimum=1, maximum=_LARGEST) for size in value]


def _levels(argument: str, value: Any) -> list[float]:
    if not isinstance(value, list):
        raise InputError(argument, shown(value), "a list of levels, such as [0.6, 0.99]")
    return [finite(argument, level) for level in value]


def _rows(argument: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(argument, shown(value), "a list")
    return value


def _members(argument: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_MEMBERS:
        raise InputError(argument, shown(value), f"a list of 1 to {_MOST_MEMBERS} values")
    if any(value.count(member) > 1 for member in value):
        raise InputError(argument, shown(value), "different values")
    return value


_POSITIVE = partial(finite, above=0.0)
_COUNT = partial(integer, minimum=1, maximum=_LARGEST)
_ANY_COUNT = partial(integer, minimum=0, maximum=_LARGEST)
_TASK = (partial(choice, known=["classification", "regression", "multiclass"]), "classification")
_FROM_ZERO = partial(finite, minimum=0.0)
_SEED: tuple[Check, Any] = (_ANY_COUNT, 0)
_CLASSES: tuple[Check, Any] = (_digit_classes, [3, 8])

_MATRICES = ("matrix_completion", "matrix_entries")
_READERS = {"modular": ("mlp",)} | dict.fromkeys(_MATRICES, ("matrix_factorization",))
_ASYMMETRIC = ["theory", "unit", "zero_last", "he"]
_LOSSES = {
    "classification": ("exponential", "logistic", "squared"),
    "regression": ("squared",),
    "multiclass": ("cross_entropy",),
}

_DRAWN: dict[str, tuple[Check, Any]] = {
    "n": (_COUNT, _REQUIRED),
    "d": (_COUNT, _REQUIRED),
    "n_test": (_ANY_COUNT, 0),
    "seed": _SEED,
}
_DATA: dict[str, dict[str, tuple[Check, Any]]] = {
    "sparse_sign": _DRAWN | {"k": (_COUNT, 3)},
    "separated_gaussian": _DRAWN | {"gap": (_FROM_ZERO, 25.0)},
    "sparse_parity": _DRAWN | {"k": (_COUNT, 2)},
    "xor_cluster": _DRAWN | {"separation": (_FROM_ZERO, 5.0), "flip": (_FROM_ZERO, 0.0)},
    "digits": {"classes": _CLASSES, "n_train": (_COUNT, 60), "seed": _SEED},
    "modular": {
        "p": (partial(integer, minimum=2, maximum=_LARGEST), 97),
        "operation": (text, "addition"),
        "fraction": (_share, 0.4),
        "seed": _SEED,
    },
    "matrix_completion": {
        "d": (_COUNT, 97),
        "matrix": (partial(choice, known=["multiplication", "random"]), "multiplication"),
        "rank": (_COUNT, 1),
        "fraction": (_share, 0.05),
        "symmetric": (flag, True),
        "seed": _SEED,
    },
    "matrix_entries": {
        "entries": (_rows, None),
        "values": (_rows, None),
        "path": (_file, None),
        "shape": (_sizes, None),
        "symmetric": (flag, True),
    },
    "npz": {"path": (_file, _REQUIRED), "task": _TASK},
    "csv": {"path": (_file, _REQUIRED), "label": (_label, "y"), "task": _TASK},
}

_DIFFERENCE: dict[str, tuple[Check, Any]] = {"difference": (flag, False)}
_MODELS: dict[str, dict[str, tuple[Check, Any]]] = {
    "diagonal": {"degree": (partial(integer, minimum=2, maximum=_HIGHEST_DEGREE), 2)},
    "linear": _DIFFERENCE,
    "matrix_factorization": {"rank": (_COUNT, None), **_DIFFERENCE},
    "mlp": {"widths": (_sizes, [64]), "activation": (text, "relu"), "bias": (flag, False), **_DIFFERENCE},
    "cnn": {
        "channels": (_sizes, [8, 16]),
        "kernel": (_COUNT, 3),
        "activation": (text, "relu"),
        "pooling": (partial(choice, known=["average", "sum"]), "average"),
        "window": (_COUNT, None),
        "image": (_sizes, None),
        "bias": (flag, False),
        **_DIFFERENCE,
    },
}

_TABLES: dict[str, dict[str, tuple[Check, Any]]] = {
    "problem": {
        "loss": (partial(choice, known=["exponential", "logistic", "squared", "cross_entropy"]), "logistic"),
        "alpha": (_POSITIVE, None),
        "log_alpha": (finite, None),
        "weight_decay": (_FROM_ZERO, None),
        "log_weight_decay": (finite, None),
        "init": (text, "theory"),
        "sigma": (_FROM_ZERO, None),
        "seed": (_ANY_COUNT, None),
    },
    "flow": {
        "s_end": (_POSITIVE, None),
        "tau_end": (_POSITIVE, None),
        "log_t_end": (finite, None),
        "rtol": (partial(finite, minimum=TIGHTEST, maximum=LOOSEST), 1e-6),
        "points": (partial(integer, minimum=2, maximum=_MOST_POINTS), 200),
        "spacing": (partial(choice, known=["linear", "log", "loglog"]), None),
        "method": (text, None),
        "dtype": (partial(choice, known=["float64", "float32"]), None),
    },
    "predictors": {"kernel": (flag, None), "rich": (flag, None), "c": (_fraction, 0.3)},
}
