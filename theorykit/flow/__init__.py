"""Gradient flows: problems, the integrator, and trajectories that say how far they can be believed."""

from theorykit.flow.api import SaveAt, gradient_flow
from theorykit.flow.events import Crossing, Event
from theorykit.flow.ode import LowRankJacobian, Solution, Zero, integrate, integrator
from theorykit.flow.problem import Problem
from theorykit.flow.trajectory import Snapshot, Trajectory

__all__ = [
    "Crossing",
    "Event",
    "LowRankJacobian",
    "Problem",
    "SaveAt",
    "Snapshot",
    "Solution",
    "Trajectory",
    "Zero",
    "gradient_flow",
    "integrate",
    "integrator",
]
