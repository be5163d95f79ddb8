"""The triangular factor of a tall matrix, read once, a block at a time; and BLAS on one thread."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - its BLAS must be loaded for the controller to find it
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from theorykit._numerics.rounding import Floats

_BLOCK = 4096


def one_thread() -> AbstractContextManager[Any]:
    """Hold BLAS to one thread: on a busy machine several spin, waiting for one another, and take ten times as long."""
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


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
