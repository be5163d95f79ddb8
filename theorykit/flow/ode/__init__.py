"""Integrating any right-hand side: explicit, stabilised and implicit methods, compiled, with error estimates."""

from theorykit.flow.ode.api import integrate, integrator
from theorykit.flow.ode.events import Zero
from theorykit.flow.ode.jacobian import LowRankJacobian, NestedJacobian
from theorykit.flow.ode.solution import Solution

__all__ = ["LowRankJacobian", "NestedJacobian", "Solution", "Zero", "integrate", "integrator"]
