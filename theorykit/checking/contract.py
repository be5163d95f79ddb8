"""What a claim must be, and what its methods must return: tested before anything is made of it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

from theorykit._numerics.errors import InputError
from theorykit.checking.claim import KINDS, VARIANTS, Claim, Source
from theorykit.checking.measurement import Measurement, accepts
from theorykit.checking.verdict import WORST_FIRST

T = TypeVar("T")
ID = re.compile(r"[a-z0-9]+\.[a-z0-9]+([.-][a-z0-9]+)*")
_METHODS = ("instances", "measure", "controls")
_ARGUMENTS = {"instances": ("rng",), "measure": ("instance", "problem", "variant"), "controls": (), "broken": ()}


def faults(kind: type[Any]) -> list[str]:
    """Return what makes a class unusable as a claim, each in a few words; nothing for a sound one."""
    if not issubclass(kind, Claim):
        return ["does not derive from theorykit.Claim"]
    found = [f"lacks the method {name}" for name in sorted(getattr(kind, "__abstractmethods__", ()))]
    identifier = getattr(kind, "id", None)
    if identifier is None:
        found.append("lacks an id")
    elif not (isinstance(identifier, str) and ID.fullmatch(identifier)):
        found.append(f"id is {identifier!r}; wanted suite.name in lower case, such as 'mine.early'")
    title, source, sort = (getattr(kind, name, None) for name in ("title", "source", "kind"))
    if not (isinstance(title, str) and title.strip()):
        found.append("lacks a title")
    if not kind.statement:
        found.append("lacks a docstring, which is the statement")
    if not isinstance(source, Source):
        found.append(f"source is {source!r}; wanted a theorykit.Source" if source is not None else "lacks a source")
    if sort not in KINDS:
        found.append(f"kind is {sort!r}; wanted one of {', '.join(KINDS)}")
    return found + _expectation_faults(kind.expected) + _profile_faults(kind) + _signature_faults(kind)


def _expectation_faults(expected: Any) -> list[str]:
    wanted = "wanted a verdict for each variant, such as {'as-printed': 'supported'}"
    if not isinstance(expected, Mapping) or not expected:
        return [f"expected is {expected!r}; {wanted}"]
    found = [
        f"expected names the variant {name!r}; wanted {' or '.join(VARIANTS)}" for name in set(expected) - VARIANTS
    ]
    wrong = {verdict for verdict in expected.values() if verdict not in WORST_FIRST}
    return found + [f"expected is {verdict!r}; wanted one of {', '.join(WORST_FIRST)}" for verdict in wrong]


def _profile_faults(kind: type[Claim]) -> list[str]:
    """Test that ladders and draws say something sensible for every profile."""
    found = []
    for name, fits, wanted in (("ladders", _is_ladder, "scales log(alpha)"), ("draws", _is_count, "a number >= 1")):
        value = getattr(kind, name)
        for profile in Claim.draws:
            if not isinstance(value, Mapping) or profile not in value or not fits(value[profile]):
                found.append(f"{name} is {_shown(value)}; wanted {wanted} for each of {', '.join(Claim.draws)}")
                break
    return found


def _is_ladder(value: Any) -> bool:
    numbers = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return numbers and all(isinstance(x, Real) and math.isfinite(x) for x in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _signature_faults(kind: type[Any]) -> list[str]:
    """Test that the methods take what they will be called with."""
    found = []
    for name, arguments in _ARGUMENTS.items():
        method = inspect.getattr_static(kind, name, None)
        if inspect.isfunction(method) and not accepts(method, 1 + len(arguments)):
            found.append(
                f"{name} is {name}{inspect.signature(method)}; wanted {name}({', '.join(('self', *arguments))})"
            )
    return found


def looks_like_a_claim(kind: type[Any]) -> bool:
    """Whether a class is meant to be a claim, and not what several of them share."""
    if not issubclass(kind, Claim):
        return all(callable(getattr(kind, name, None)) for name in _METHODS)
    shared = kind.__name__.startswith("_") or kind.__subclasses__()
    return not shared or (hasattr(kind, "id") and not inspect.isabstract(kind))


def measurement(where: str, value: Any) -> Measurement:
    """Return what a measuring method gave, if it is a `Measurement`.

    Raises
    ------
    InputError
        It is something else; `where` names the method.
    """
    if not isinstance(value, Measurement):
        raise InputError(
            where, _shown(value), "a Measurement, such as Measurement(0.99, predicted=1.0, integrator=1e-9)"
        )
    return value


def every(where: str, values: Any, *wanted: type[T]) -> list[T]:
    """Return what a method yielded as a list, if each item is of one of the classes that it should be.

    Raises
    ------
    InputError
        It is nothing to go through, or an item is something else.
    """
    names = " or ".join(kind.__name__ for kind in wanted)
    if not isinstance(values, Iterable):
        raise InputError(where, _shown(values), f"a sequence of {names}")
    found = list(values)
    for item in found:
        if not isinstance(item, wanted):
            raise InputError(where, _shown(item), f"only {names} objects")
    return found


def numbers(where: str, values: Any) -> dict[str, float]:
    """Return a mapping of names to numbers with plain floats.

    Raises
    ------
    InputError
        It is no mapping, or a value is no number.
    """
    if not isinstance(values, Mapping):
        raise InputError(where, _shown(values), "a mapping of names to numbers")
    for name, value in values.items():
        if not isinstance(value, Real):
            raise InputError(f"{where}[{name!r}]", _shown(value), "a number")
    return {str(name): float(value) for name, value in values.items()}


def traces(where: str, values: Any) -> tuple[dict[str, Any], ...]:
    """Return small trajectories for figures: a label, values of s, curves of as many numbers, marks on the s axis.

    Raises
    ------
    InputError
        One of these is missing or has another shape.
    """
    found = every(where, values, Mapping)  # type: ignore[type-abstract]
    for trace in found:
        if not {"label", "s", "curves"} <= set(trace):
            raise InputError(where, f"keys {sorted(map(str, trace))}", "label, s and curves")
        s = _series(f"{where}['s']", trace["s"])
        if not isinstance(trace["curves"], Mapping):
            raise InputError(f"{where}['curves']", _shown(trace["curves"]), "a mapping of names to numbers")
        for name, curve in trace["curves"].items():
            if len(_series(f"{where}['curves'][{name!r}]", curve)) != len(s):
                raise InputError(f"{where}['curves'][{name!r}]", f"{len(curve)} numbers", f"{len(s)}, one for each s")
        numbers(f"{where}['marks']", trace.get("marks", {}))
    return tuple({**trace, "label": str(trace["label"])} for trace in found)


def _series(where: str, values: Any) -> Sequence[Any]:
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise InputError(where, _shown(values), "a sequence of numbers")
    if not all(value is None or isinstance(value, Real) for value in values):
        raise InputError(where, "something else than numbers", "numbers (None is a gap)")
    found: Sequence[Any] = values
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
