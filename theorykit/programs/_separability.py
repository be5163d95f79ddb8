"""Exact proofs that samples are not separable: Farkas vectors in rational arithmetic.

Doubles are dyadic rationals, so that mu >= 0, sum mu = 1, sum_i mu_i y_i x_i = 0 is a statement that integers decide.
The support of mu comes from a vertex of a linear program in floating point; on it mu is the only solution of a linear
system, which is solved exactly.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import NotSeparableError
from theorykit._numerics.rounding import Floats, Rows
from theorykit._numerics.validate import matrix, signs
from theorykit.programs._exact import LARGEST_SUPPORT, fractions, integer_rows, relation, vanishes
from theorykit.programs._l1 import SMALLEST_VALUE, Game
from theorykit.programs._norms import Norm
from theorykit.programs._scaled import Candidate, unscaled
from theorykit.programs.certificate import upper_bound

_SUPPORT = 1e-9


def verify_farkas(X: ArrayLike, y: ArrayLike, mu: ArrayLike) -> bool:
    """Check in exact arithmetic that mu proves (X, y) not separable: mu >= 0, sum mu = 1 and sum_i mu_i y_i x_i = 0.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Taken as the exact rational numbers that its doubles are.
    y : array_like, shape (n,)
        Labels +1 or -1.
    mu : array_like of Fraction (or int, or float taken as it is), shape (n,)

    Returns
    -------
    bool
        Whether it is a proof: then no w has y_i <w, x_i> > 0 for all i.

    Examples
    --------
    >>> verify_farkas([[1.0], [2.0]], [1, -1], [Fraction(2, 3), Fraction(1, 3)])
    True
    >>> verify_farkas([[1.0], [2.0]], [1, -1], [Fraction(1, 2), Fraction(1, 2)])
    False
    """
    data = matrix("X", X)
    labels = signs("y", y, length=len(data))
    weights = fractions("mu", mu, len(data))
    if min(weights) < 0 or sum(weights) != 1:
        return False
    support = [i for i, weight in enumerate(weights) if weight]
    return vanishes(integer_rows(data[support], labels[support]), [weights[i] for i in support])


def at_once(X: NDArray[Any], y: Floats) -> NotSeparableError | None:
    """Return the error for a zero row or for two opposite rows of Z, found without a linear program."""
    seen: dict[int, list[tuple[int, float]]] = {}
    for i, row in enumerate(X):
        first = row[(row != 0).argmax()]
        if first == 0:
            return _proof(len(X), {i: Fraction(1)}, f"a zero row (sample {i})")
        sign = y[i] * np.sign(float(first))
        key = hash((np.multiply(row, np.sign(first), dtype=row.dtype) + row.dtype.type(0)).tobytes())
        for j, other in seen.setdefault(key, []):
            if other != sign and (y[i] * row.astype(float) == -y[j] * X[j].astype(float)).all():
                half = Fraction(1, 2)
                return _proof(len(X), {j: half, i: half}, f"samples {j} and {i}, which contradict each other")
        seen[key].append((i, sign))
    return None


def not_separable(X: NDArray[Any], y: Floats, rows: Rows, norm: Norm, margin_at_most: float) -> NotSeparableError:
    """Return the error with an exact proof where one is in reach, else with the proved bound on the margin."""
    game = Game(Rows(rows.values, np.zeros_like(rows.exponents)), y)  # separability knows no scale of a sample
    scale = 1.0
    while True:
        game.play(scale)
        support = np.flatnonzero(game.dual > _SUPPORT * game.dual.max())
        farkas = farkas_on(X, y, support) if 1 < len(support) <= LARGEST_SUPPORT else None
        if farkas is not None:
            return _proof(len(X), farkas, f"samples that contradict one another ({_few(sorted(farkas))})")
        scale = 1.0 / max(game.value, SMALLEST_VALUE)
        if not scale > 10.0 * game.scale:
            break
    dual = unscaled(Candidate(np.zeros(X.shape[1]), game.dual, 0), rows).dual
    at_most = min(margin_at_most, upper_bound(rows, y, dual, norm))
    got = f"undecided: the margin is at most {at_most:.17g} (heaviest: {_few(np.argsort(-dual)[:2])})"
    return NotSeparableError("X, y", got, _WANTED, margin_at_most=at_most)


_WANTED = "samples that some w separates: y_i <w, x_i> > 0 for every i (no bias)"


def _proof(n: int, weights: dict[int, Fraction], got: str) -> NotSeparableError:
    farkas = np.array([weights.get(i, Fraction(0)) for i in range(n)], dtype=object)
    return NotSeparableError("X, y", got, _WANTED, farkas, tuple(sorted(weights)), 0.0)


def _few(samples: Any, limit: int = 6) -> str:
    """Name the first few samples."""
    shown = ", ".join(str(int(i)) for i in samples[:limit])
    return f"samples {shown}" + (f" and {len(samples) - limit} more" if len(samples) > limit else "")


def farkas_on(X: NDArray[Any], y: Floats, support: NDArray[np.intp]) -> dict[int, Fraction] | None:
    """Return the exact Farkas weights with this support, if they exist, are unique and are not negative."""
    values = relation(X, y, support)
    if values is None or min(values.values()) < 0:
        return None
    total = sum(values.values())
    return {i: value / total for i, value in values.items() if value}
