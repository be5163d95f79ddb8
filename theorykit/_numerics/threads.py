"""One BLAS thread for the small linear algebra of a flow: the same numbers everywhere, and no waiting for threads."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any


@functools.cache
def _controller() -> Any:
    """Return the controller of the BLAS libraries (slow to find; compiled code has loaded them all)."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread inside a ``with`` block."""
    context: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return context
