"""Arithmetic modulo p: the inputs are pairs of symbols, the classes results."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import affordable, choice, finite, integer
from theorykit.datasets.dataset import Dataset, stored

Integers = NDArray[np.int64]

OPERATIONS: dict[str, Callable[[Integers, Integers], Integers]] = {
    "addition": lambda x, y: x + y,
    "subtraction": lambda x, y: x - y,
    "multiplication": lambda x, y: x * y,
    "x^2+y^2": lambda x, y: x**2 + y**2,
    "x^2+xy": lambda x, y: x**2 + x * y,
    "x^2+xy+y^2": lambda x, y: x**2 + x * y + y**2,
    "x^3+xy": lambda x, y: x**3 + x * y,
    "x^3+xy^2": lambda x, y: x**3 + x * y**2,
}
"""Polynomials whose value is taken modulo p; ``"division"`` is x y^(-1) besides."""


def modular(p: int = 97, operation: str = "addition", fraction: float = 0.4, seed: int = 0) -> Dataset:
    """All pairs (x, y) modulo p with the result of an operation as their class (fig-2 of lyu2024).

    A share of the pairs, drawn without replacement, is for training, the others are the test points. The inputs stay
    pairs of integers: ``MLP((2 * p, ...), symbols=p)`` reads them as one-hot vectors side by side.

    Parameters
    ----------
    p : int
        The modulus, at least 2; need not be prime.
    operation : str
        ``"addition"``, ``"subtraction"``, ``"multiplication"``, ``"division"`` (x y^(-1), over the pairs whose y has an
        inverse), ``"x^2+y^2"``, ``"x^2+xy"``, ``"x^2+xy+y^2"``, ``"x^3+xy"`` or ``"x^3+xy^2"``.
    fraction : float
        Share of the pairs for training, above 0 and at most 1.
    seed : int
        Which pairs.

    Returns
    -------
    Dataset
        Multiclass: `X` int64 (n, 2), `y` int64 (n,), p classes.

    Raises
    ------
    InputError
        p < 2, an unknown operation, or a fraction that leaves no training pair.

    References
    ----------
    Power et al. 2022, arXiv:2201.02177, appendix A.1 (the operations).

    Examples
    --------
    >>> data = modular(p=7, operation="division", fraction=0.5, seed=0)
    >>> data.n, data.test.n, data.classes
    (21, 21, 7)
    >>> bool((data.y * data.X[:, 1] % 7 == data.X[:, 0]).all())
    True
    """
    p, seed = integer("p", p, minimum=2), integer("seed", seed, minimum=0)
    affordable("p", p, 3 * 8 * p * p)
    choice("operation", operation, [*OPERATIONS, "division"])
    if finite("fraction", fraction, above=0.0) > 1.0:
        raise InputError("fraction", f"{fraction:g}", "a share above 0 and at most 1")
    pairs, results = _table(p, operation)
    n = round(fraction * len(pairs))
    if n == 0:
        raise InputError("fraction", f"{fraction:g} of {len(pairs)} pairs", "at least one training pair")
    order = np.random.default_rng(seed).permutation(len(pairs))
    train, rest = order[:n], order[n:]
    settings = {"p": p, "operation": operation, "fraction": fraction}
    test = stored(pairs[rest], results[rest]) if rest.size else None
    return Dataset(pairs[train], results[train], "multiclass", "modular", seed, settings, test, classes=p)


def _table(p: int, operation: str) -> tuple[Integers, Integers]:
    """Return all pairs for which the operation is defined, and its results."""
    x, y = (axis.ravel() for axis in np.indices((p, p), dtype=np.int64))
    if operation == "division":
        inverses = np.array([pow(k, -1, p) if math.gcd(k, p) == 1 else -1 for k in range(p)], dtype=np.int64)
        defined = inverses[y] >= 0
        x, y = x[defined], y[defined]
        return np.column_stack([x, y]), x * inverses[y] % p
    return np.column_stack([x, y]), OPERATIONS[operation](x, y) % p
