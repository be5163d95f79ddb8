"""Work in several processes, which leave when the one that started them does."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_LOOK_S = 1.0


def side_by_side(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], jobs: int, *, ordered: bool = True
) -> Iterator[Any]:
    """Yield ``function(*each)`` for all arguments, computed in `jobs` processes, each result as soon as it is there.

    With `ordered`, a result waits for those before it.
    """
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, return_as="generator" if ordered else "generator_unordered", batch_size=1)
    results: Iterator[Any] = parallel(delayed(_work)(os.getpid(), function, each) for each in arguments)
    return results


def _work(parent: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if os.getppid() == parent:  # not where joblib works in the process itself
        _leave_with(parent)
    return function(*arguments)


@functools.cache
def _leave_with(parent: int) -> None:
    """End this process when its parent has gone: after a `kill -9` of that one it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
