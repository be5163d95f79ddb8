"""theorykit: check theorems of deep-learning theory numerically, and be able to believe the answer.

Everything below loads on first use, so that ``import theorykit`` costs milliseconds and not the seconds that CVXPY,
SciPy's integrators and numba take together.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from theorykit._version import __version__

_SUBPACKAGES = (
    "checking",
    "datasets",
    "experiments",
    "flow",
    "kernels",
    "losses",
    "models",
    "predictors",
    "programs",
    "report",
    "testing",
    "verifications",
)
_HOMES = {
    "Claim": "checking",
    "Control": "checking",
    "Crossing": "flow",
    "Dataset": "datasets",
    "Descent": "flow",
    "Expansion": "checking",
    "FlowError": "_numerics.errors",
    "InconsistentError": "_numerics.errors",
    "InputError": "_numerics.errors",
    "Instance": "checking",
    "Measurement": "checking",
    "NotSeparableError": "_numerics.errors",
    "Problem": "flow",
    "SaveAt": "flow",
    "Source": "checking",
    "Sweep": "flow",
    "TheorykitError": "_numerics.errors",
    "Trajectory": "flow",
    "Trial": "checking",
    "gradient_descent": "flow",
    "gradient_flow": "flow",
    "sweep": "flow",
    "verify": "checking",
}

__all__ = [
    "Claim",
    "Control",
    "Crossing",
    "Dataset",
    "Descent",
    "Expansion",
    "FlowError",
    "InconsistentError",
    "InputError",
    "Instance",
    "Measurement",
    "NotSeparableError",
    "Problem",
    "SaveAt",
    "Source",
    "Sweep",
    "TheorykitError",
    "Trajectory",
    "Trial",
    "__version__",
    "checking",
    "datasets",
    "experiments",
    "flow",
    "gradient_descent",
    "gradient_flow",
    "kernels",
    "losses",
    "models",
    "predictors",
    "programs",
    "report",
    "sweep",
    "testing",
    "verifications",
    "verify",
]

if TYPE_CHECKING:
    from types import ModuleType

    from theorykit import (
        checking,
        datasets,
        experiments,
        flow,
        kernels,
        losses,
        models,
        predictors,
        programs,
        report,
        testing,
    )
    from theorykit._numerics.errors import FlowError, InconsistentError, InputError, NotSeparableError, TheorykitError
    from theorykit.checking import Claim, Control, Expansion, Instance, Measurement, Source, Trial, verify
    from theorykit.datasets import Dataset
    from theorykit.flow import (
        Crossing,
        Descent,
        Problem,
        SaveAt,
        Sweep,
        Trajectory,
        gradient_descent,
        gradient_flow,
        sweep,
    )

    verifications: ModuleType  # its folder lies beside the package: type checkers do not find it inside


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"theorykit.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"theorykit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'theorykit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
