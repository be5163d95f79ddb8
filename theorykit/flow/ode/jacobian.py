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


@dataclass(frozen=True)
class NestedJacobian:
    """The Jacobian of f(t, y) = F(t, y, c(t, y)) where a few numbers c are what is stiff.

    As in dy/dt = F(t, y) + sum_k c_k grad g_k(y), c = -A g(y), which holds y near the manifold g = 0. The larger A, the
    less may the gradients turn within a step for Newton's iteration in y alone to converge: its Jacobian is that of the
    start of the step. With c as unknowns of their own it does not matter how large A is.

    Parameters
    ----------
    nested : callable
        ``nested(t, y, c, *args) -> (F(t, y, c), c(t, y))``, shapes (n,) and (k,).
    parts : callable
        ``parts(t, y, c, *args) -> (J, U, V)`` for c near c(t, y): df/dy, shape (n, n), and dF/dc and dc/dy transposed,
        shapes (n, k). Where `dense` is false, instead of J the d, shape (n,), of df/dy = diag(d) + U V.T: see
        `LowRankJacobian`.
    rank : int
        k.
    dense : bool
        Whether J comes whole.

    Examples
    --------
    A point that turns, and is held near the unit circle by a force 1e8 times the distance:

    >>> import numpy as np
    >>> from theorykit.flow import NestedJacobian, integrate
    >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> def nested(t, y, c):
    ...     return turn @ y + c[0] * y, np.array([-1e8 * (y @ y - 1.0)])
    >>> def f(t, y):
    ...     return turn @ y - 1e8 * (y @ y - 1.0) * y
    >>> def parts(t, y, c):
    ...     u, v = y[:, None], -2e8 * y[:, None]
    ...     return turn + c[0] * np.eye(2) + u @ v.T, u, v
    >>> jacobian = NestedJacobian(nested, parts, rank=1)
    >>> flow = integrate(f, [1.0, 0.0], (0.0, 10.0), method="radau", jacobian=jacobian)
    >>> bool(np.allclose(flow.y_end, [np.cos(10.0), np.sin(10.0)], atol=1e-6))
    True
    """

    nested: Callable[..., tuple[Any, Any]]
    parts: Callable[..., tuple[Any, Any, Any]]
    rank: int
    dense: bool = True
