"""Uniqueness for the group norm: an exact solution of the optimality conditions nearby, and no other one.

With G the groups that w uses and A the samples with nu_i > 0 (all of them for equations), the conditions are

    w_g / ||w_g|| = Z_Ag^T nu_A  for g in G,    Z_AG w_G = c_A,

and Newton's method at the pair proves (Kantorovich; Rump, "Verification methods", Acta Numerica 19, 2010) that a ball
around it holds exactly one solution. If there the other samples have z_i . w > c_i, the other groups ||Z_g^T nu|| < 1
and nu_A > 0, it is optimal. A second optimal w would satisfy the conditions with the same nu, and so would the points
between the two: also some inside the ball.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from theorykit._numerics.rounding import UNIT, Floats, group_norms_upper, shift, up
from theorykit.programs._pair import Indices, Pair, Uniqueness

_SMALL = 1e-7
_LARGEST = 3000
_ROUNDING = 1.0 + 1e-10
"""Far more than the rounding of any norm below can lose."""


def decided_group(pair: Pair, groups: NDArray[np.int64]) -> Uniqueness:
    """Decide whether w is the only solution."""
    sizes = group_norms_upper(np.abs(pair.w), groups)
    exponent = int(np.frexp(sizes.max())[1])
    low, high = pair.products(pair.dual)
    total = float(group_norms_upper(np.maximum(-low, high), groups).max())
    if not 0.0 < total < np.inf:
        return Uniqueness("unknown", "the multipliers vanish")
    pair = pair._replace(w=shift(pair.w, -exponent), c=shift(pair.c, -exponent), dual=pair.dual / total)
    used = sizes > _SMALL * sizes.max()
    features = np.flatnonzero(used[groups])
    active = np.arange(len(pair.y)) if pair.equations else np.flatnonzero(pair.dual > _SMALL * pair.dual.max())
    if len(features) + len(active) > _LARGEST:
        return Uniqueness("unknown", f"more than {_LARGEST} equations for the active groups and samples")
    radius = _radius(pair, groups, features, active)
    if radius is None:
        return Uniqueness("unknown", "the optimality conditions are degenerate or too ill-conditioned")
    if _strict(pair, groups, features, active, radius):
        return Uniqueness(
            "proved", "the optimality conditions have one solution near the pair, and it is strict, proved"
        )
    return Uniqueness("unknown", "the solution is degenerate up to round-off")


def _restricted(pair: Pair, features: Indices, active: Indices) -> tuple[Floats, Floats]:
    """Return w and the multipliers with zeros where they are to be zero."""
    w, dual = np.zeros(len(pair.w)), np.zeros(len(pair.dual))
    w[features], dual[active] = pair.w[features], pair.dual[active]
    return w, dual


def _radius(pair: Pair, groups: NDArray[np.int64], features: Indices, active: Indices) -> float | None:
    """Return the radius (Euclidean, of w and nu together) of a ball that holds exactly one solution, if proved."""
    w, dual = _restricted(pair, features, active)
    members = np.unique(groups[features], return_inverse=True)[1]
    lengths = np.sqrt(np.bincount(members, w[features] ** 2))
    counts = np.bincount(members)
    direction = w[features] / lengths[members]
    error = 4.0 * (counts.max() + 8.0) * UNIT  # of each entry of the direction
    low, high = pair.products(dual)
    residual = np.maximum(up(high[features] - direction), up(direction - low[features])) + error
    low, high = pair.outputs(w)
    misses = np.maximum(up(pair.c - low), up(high - pair.c))[active]

    m, size = len(features), len(features) + len(active)
    block = pair.block(active, features)
    jacobian = np.zeros((size, size))
    same = members[:, None] == members
    jacobian[:m, :m] = np.where(same, (np.eye(m) - np.outer(direction, direction)) / lengths[members, None], 0.0)
    jacobian[:m, m:], jacobian[m:, :m] = -block.T, block
    try:
        inverse = np.linalg.inv(jacobian)
    except LinAlgError:
        return None
    uncertain = 4.0 * error * float(np.sqrt(((counts / lengths) ** 2).sum()))  # of the Jacobian, Frobenius norm
    norm = float(np.linalg.norm(inverse)) * _ROUNDING
    rounding = 4.0 * size * UNIT * norm * float(np.linalg.norm(jacobian))
    defect = (float(np.linalg.norm(np.eye(size) - inverse @ jacobian)) + rounding + norm * uncertain) * _ROUNDING
    step = float(np.linalg.norm(np.abs(inverse) @ np.append(residual, misses))) * _ROUNDING
    radius, shortest = 2.0 * step, float(lengths.min())
    # the second derivative of the length is below 2 / length**2, and no length falls below half of its own
    bends = norm * 8.0 / shortest**2 * radius
    return radius if defect + bends < 0.49 and radius < 0.49 * shortest else None


def _strict(pair: Pair, groups: NDArray[np.int64], features: Indices, active: Indices, radius: float) -> bool:
    """Whether every point within the radius satisfies all other conditions strictly."""
    w, dual = _restricted(pair, features, active)
    others = np.ones(len(pair.y), dtype=bool)
    others[active] = False
    reach = pair.largest() * radius * _ROUNDING
    if not pair.equations:
        lower, _ = pair.outputs(w)
        if not ((dual[active] > radius).all() and (lower - np.sqrt(len(features)) * reach > pair.c)[others].all()):
            return False
    low, high = pair.products(dual)
    norms = group_norms_upper(np.maximum(-low, high), groups)
    unused = np.ones(len(norms), dtype=bool)
    unused[groups[features]] = False
    spread = np.sqrt(np.bincount(groups) * len(active)) * reach
    return bool((norms + spread < 1.0)[unused].all())
