"""Dense output in bounded memory: what no longer fits is moved to a temporary file, and read from there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.ode.methods import Record

Floats = NDArray[np.float64]

_IN_MEMORY = 2**25  # numbers (256 MiB)
_LEFT_FREE = 2**30  # bytes of the disk


class Spill:
    """Holds the arrays of steps: those of the last steps in memory, blocks of earlier ones on disk.

    Attributes
    ----------
    full : bool
        Whether the disk is; what is added then stays in memory.
    """

    def __init__(self) -> None:
        self.full = False
        self._blocks, self._loose, self._size = list[Floats](), list[Record](), 0
        self._file: BinaryIO | None = None

    def add(self, record: Record) -> None:
        """Take a step, whose arrays may be replaced by the same numbers on disk from now on."""
        self._loose.append(record)
        self._size += record.y.size + record.dense.size
        if self._size > _IN_MEMORY and not self.full:
            self._move()

    def blocks(self) -> list[Floats]:
        """Return the arrays of all steps one after another, y before dense, in a few long vectors, read-only."""
        if not self._loose:
            return list(self._blocks)
        loose = np.concatenate([array.ravel() for record in self._loose for array in (record.y, record.dense)])
        loose.flags.writeable = False
        return [*self._blocks, loose]

    def _move(self) -> None:
        """Write what is in memory and map it."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="theorykit-")  # noqa: SIM115 -- as long as the flow
            if shutil.disk_usage(tempfile.gettempdir()).free < 8 * self._size + _LEFT_FREE:
                raise OSError
            start = self._file.seek(0, os.SEEK_END)
            for record in self._loose:
                for array in (record.y, record.dense):
                    self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        except OSError:
            self.full = True
            return
        block = np.memmap(self._file, np.float64, "r", start, (self._size,)).view(np.ndarray)
        numbers = Reader([block])
        for record in self._loose:
            record.y, record.dense = numbers.next(record.y.shape), numbers.next(record.dense.shape)
        self._blocks.append(block)
        self._loose, self._size = [], 0


class Reader:
    """Cuts arrays from vectors, in the order in which they were put together; none lies across two of them."""

    def __init__(self, vectors: Iterable[Floats]) -> None:
        self._vectors, self._vector, self._at = iter(vectors), np.zeros(0), 0

    def next(self, shape: tuple[int, ...]) -> Floats:
        """Return the next array."""
        size = int(np.prod(shape))
        if self._at == self._vector.size:
            self._vector, self._at = next(self._vectors), 0
        self._at += size
        return self._vector[self._at - size : self._at].reshape(shape)
