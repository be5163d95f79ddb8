"""Jacobians with structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LowRankJacobian:
    """A Jacobian that is diagonal plus low rank, diag(d) + U V.T, given by its parts: linear algebra in O(n k^2).

    Parameters
    ----------
    parts : callable
        ``parts(t, y, *args) -> (d, U, V)``, shapes (n,), (n, k), (n, k).
    rank : int
        k.

    Examples
    --------
    The gradient flow of a sum over few samples, here with one sample x:

    >>> import numpy as np
    >>> x = np.array([1.0, 2.0, 3.0])
    >>> jacobian = LowRankJacobian(lambda t, y: (-np.ones(3), -100.0 * x[:, None], x[:, None]), rank=1)
    >>> from theorykit.flow import integrate
    >>> flow = integrate(lambda t, y: -y - 100.0 * x * (x @ y), np.ones(3), (0.0, 1.0), jacobian=jacobian)
    >>> flow.status
    'reached_end'
    """

    parts: Callable[..., tuple[Any, Any, Any]]
    rank: int
