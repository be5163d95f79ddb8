"""For tests of one's own: random problems as hypothesis strategies, and assertions that say what went wrong.

The strategies need hypothesis, which is no dependency of theorykit: they load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "assert_broken_refuted": "assertions",
    "assert_certified": "assertions",
    "assert_homogeneous": "assertions",
    "assert_refuted": "assertions",
    "assert_supported": "assertions",
    "datasets": "strategies",
    "inseparable": "strategies",
    "models": "strategies",
    "problems": "strategies",
    "regression": "strategies",
    "separable": "strategies",
}

__all__ = [
    "assert_broken_refuted",
    "assert_certified",
    "assert_homogeneous",
    "assert_refuted",
    "assert_supported",
    "datasets",
    "inseparable",
    "models",
    "problems",
    "regression",
    "separable",
]

if TYPE_CHECKING:
    from theorykit.testing.assertions import (
        assert_broken_refuted,
        assert_certified,
        assert_homogeneous,
        assert_refuted,
        assert_supported,
    )
    from theorykit.testing.strategies import datasets, inseparable, models, problems, regression, separable


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"theorykit.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'theorykit.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
