"""Roots and minima between two points."""

from __future__ import annotations

from collections.abc import Callable


def root_between(f: Callable[[float], float], low: float, high: float, xtol: float) -> float:
    """Return a root of f, whose signs at both ends differ, by Brent's method."""
    from scipy.optimize import brentq  # takes a quarter of a second to load, and many flows need no root

    return float(brentq(f, low, high, xtol=xtol))


def least_between(f: Callable[[float], float], low: float, high: float, xtol: float) -> float:
    """Return where f is least, by Brent's method: one of its minima if there are more."""
    from scipy.optimize import minimize_scalar

    return float(minimize_scalar(f, bounds=(low, high), method="bounded", options={"xatol": xtol}).x)
