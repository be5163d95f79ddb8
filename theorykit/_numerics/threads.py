"""One BLAS thread for the small linear algebra of a flow: the same numbers everywhere, and no waiting for threads."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any


@functools.cache
def _controller() -> Any:
    """Return the controller of the BLAS libraries, which must be loaded to be found (slow, so once)."""
    import scipy.linalg  # noqa: F401 - SciPy brings a BLAS of its own
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread inside a ``with`` block."""
    context: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return context


def blas_threads() -> int:
    """Return how many threads BLAS would use here: one inside `one_blas_thread`, or where the environment says so."""
    counts = [library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"]
    return max(counts, default=1)
