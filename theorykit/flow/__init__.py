"""Gradient flows: problems, the integrator, and trajectories that say how far they can be believed.

The engine of the diagonal nets and the general integrators load on first use, each without the other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Crossing": "events",
    "Descent": "descent",
    "Event": "events",
    "LowRankJacobian": "ode",
    "NestedJacobian": "ode",
    "Problem": "problem",
    "SaveAt": "api",
    "Snapshot": "trajectory",
    "Solution": "ode",
    "Stepper": "stepper",
    "Sweep": "family",
    "Trajectory": "trajectory",
    "Zero": "ode",
    "gradient_descent": "descent",
    "gradient_flow": "api",
    "integrate": "ode",
    "integrator": "ode",
    "sweep": "family",
}

__all__ = [
    "Crossing",
    "Descent",
    "Event",
    "LowRankJacobian",
    "NestedJacobian",
    "Problem",
    "SaveAt",
    "Snapshot",
    "Solution",
    "Stepper",
    "Sweep",
    "Trajectory",
    "Zero",
    "gradient_descent",
    "gradient_flow",
    "integrate",
    "integrator",
    "sweep",
]

if TYPE_CHECKING:
    from theorykit.flow.api import SaveAt, gradient_flow
    from theorykit.flow.descent import Descent, gradient_descent
    from theorykit.flow.events import Crossing, Event
    from theorykit.flow.family import Sweep, sweep
    from theorykit.flow.ode import LowRankJacobian, NestedJacobian, Solution, Zero, integrate, integrator
    from theorykit.flow.problem import Problem
    from theorykit.flow.stepper import Stepper
    from theorykit.flow.trajectory import Snapshot, Trajectory


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"theorykit.flow.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'theorykit.flow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
