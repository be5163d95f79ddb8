"""One file for the states of all runs of a flow."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.serial import plain
from theorykit.flow.ode import checkpoint

Arrays = dict[str, NDArray[Any]]
R = TypeVar("R")

_SPARING = 20.0  # times what a writing takes passes before the next


class Keeper(Generic[R]):
    """Keeps the states of several runs of one flow in a file.

    Parameters
    ----------
    path : path
    every : float
        Seconds between two writings, at least twenty times what one takes. With 0 every step is written.
    what : list
        All that the runs depend on, as plain numbers and words.
    pack, unpack : callable
        Return the state of a run as arrays; bring a fresh run to such a state.
    """

    def __init__(
        self, path: str | os.PathLike[str], every: float, what: Sequence[Any],
        pack: Callable[[R], Arrays], unpack: Callable[[R, Arrays], None],
    ) -> None:  # fmt: skip
        self.path, self.every, self.pack, self.unpack = path, every, pack, unpack
        self.fingerprint = hashlib.sha256(json.dumps(plain(list(what))).encode()).hexdigest()
        self.kept = checkpoint.read(path, self.fingerprint) or {"fingerprint": np.array(self.fingerprint)}
        self.lock = threading.Lock()
        self._write()  # a path that cannot be written shows before the work

    def resume(self, rtol: float, run: R) -> None:
        """Bring the run of a tolerance to where it was written, if it was."""
        arrays = under(f"{rtol!r}/", self.kept)
        if arrays:
            self.unpack(run, arrays)
            with self.lock:
                self._put(rtol, run)  # what was read may be on disk now

    def keep(self, rtol: float, run: R) -> None:
        """Write the state of the run of a tolerance where it is time for it."""
        if time.perf_counter() - self.written < self.pause:
            return
        with self.lock:  # large problems take their runs side by side
            self._put(rtol, run)
            self._write()

    def _put(self, rtol: float, run: R) -> None:
        """Take the state of a run in place of an earlier one, copied where the run may write over it.

        The state of one run is written again with a later one of the other.
        """
        prefix = f"{rtol!r}/"
        own = {
            prefix + name: array.copy() if array.flags.writeable else array for name, array in self.pack(run).items()
        }
        self.kept = {name: array for name, array in self.kept.items() if not name.startswith(prefix)} | own

    def _write(self) -> None:
        began = time.perf_counter()
        checkpoint.write(self.path, self.kept)
        self.written = time.perf_counter()
        self.pause = self.every and max(self.every, _SPARING * (self.written - began))


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
