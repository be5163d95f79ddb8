"""How far the optima of a nuclear-norm program can be from a matrix: see "How near the matrix is" in the docs.

A matrix whose nuclear norm is within g of what S certifies is, nearly, U H V^T: a point of the face of S. What is
observed of two such matrices agrees, and tells them apart on the face.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from theorykit._numerics.spectral import operator_norm_upper
from theorykit.programs._nuclear_data import Observed
from theorykit.programs._nuclear_unique import (
    INSIDE,
    SAFE,
    Dual,
    exactly_low_rank,
    face_strength,
    operator_size,
    scaled_dual,
    split,
)

if TYPE_CHECKING:
    from theorykit.programs.nuclear import NuclearCertificate

_NEAR_ONE = 1e-5
_PASSES = 4


def distance_bound(data: Observed, c: NuclearCertificate) -> float | None:
    """Bound ``||W - W*||_F`` for every optimum W*; None where the observations do not determine the face of S."""
    if c.upper == 0.0:
        return 0.0
    if not math.isfinite(c.upper):
        return None
    S, unit = scaled_dual(data, c)
    dual = split(S, c.W)
    if c.weight_decay is None and exactly_low_rank(data, c, dual) is not None:
        return 0.0
    touching = int((dual.found.values > 1.0 - _NEAR_ONE).sum())
    faces = {dual.rank: dual, touching: split(S, c.W, touching)}
    found = [bound for bound in (_on_face(data, c, face, unit) for face in faces.values()) if bound is not None]
    return min(found, default=None)


def _on_face(data: Observed, c: NuclearCertificate, dual: Dual, unit: float) -> float | None:
    """Bound the distance with the first singular pairs of S as the face."""
    if not dual.spread > 0.0:
        return None
    kappa = face_strength(data, dual, 0.0)[0] if dual.rank else math.inf
    if not kappa > 0.0:
        return None
    excess, total = (c.upper - c.lower + 2.0 * INSIDE * c.upper) / unit, c.upper / unit
    short = 1.0 - (dual.found.values[dual.rank - 1] * (1.0 - dual.found.skew) - dual.found.missed) if dual.rank else 0.0
    missed = 0.0 if c.weight_decay is None else math.sqrt(float(data.counts.sum() / data.counts.min()) * unit * excess)
    missing = 0.0 if data.index is not None else data.missing(c.W) * SAFE  # to a matrix that has the values exactly
    own = operator_norm_upper(c.W) + missing
    largest, bound = total, math.inf
    for _ in range(_PASSES):
        off = (2.0 / math.sqrt(dual.spread) + math.sqrt(2.0)) * math.sqrt(excess * largest) + short * total
        off *= 4.0 if data.symmetric else 2.0
        bound = (off + (operator_size(data) * off + missed) / kappa) * SAFE
        largest = min(largest, own + bound)
    return float(bound + missing)
