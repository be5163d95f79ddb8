"""The triangular factor of a tall matrix, read once, a block at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.rounding import Floats

_BLOCK = 4096


def triangle(*parts: NDArray[Any]) -> Floats:
    """Return R, upper triangular, with R^T R = A A^T, for A of shape (n, p), the parts one above the other.

    Householder QR of the transpose, block after block below the R so far: backward stable, and without a second copy of
    the data. R has min(n, p) rows and n columns.
    """
    factor = np.empty((0, sum(map(len, parts))))
    for start in range(0, parts[0].shape[1], _BLOCK):
        block = np.hstack([part[:, start : start + _BLOCK].T for part in parts])
        factor = np.asarray(np.linalg.qr(np.vstack((factor, block)), mode="r"), dtype=np.float64)
    return factor
