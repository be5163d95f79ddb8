"""The table of a run: times and statistics at the save points, in memory and as a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from theorykit.flow import Trajectory

Floats = NDArray[np.float64]

TIMES = ("t", "log_t", "tau", "s")
COLUMNS = (
    *("train_loss", "log_train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
)
_PLAIN = ("t", "train_loss", "test_loss", "norm")  # may leave the float range; their logarithms do not


@dataclass(frozen=True, eq=False)
class Table:
    """Times and statistics at the save points.

    Attributes
    ----------
    times, stats : dict of ndarray, shape (T,)
        By column name; statistics that do not apply are left out, nan stands for an empty cell.
    """

    times: dict[str, Floats]
    stats: dict[str, Floats]

    @classmethod
    def of(cls, trajectory: Trajectory, more: Mapping[str, Floats]) -> Table:
        """Return the table of a trajectory, with further statistics."""
        known = {**trajectory.stats, **more}
        times = {name: getattr(trajectory, name) for name in TIMES}
        return cls(times, {name: known[name] for name in COLUMNS if name in known})

    @classmethod
    def read(cls, file: Path) -> Table:
        """Read what `write` wrote."""
        with open(file, newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        cells = np.array([[float(cell) if cell else math.nan for cell in row] for row in rows]).reshape(-1, len(header))
        columns = dict(zip(header, cells.T, strict=True))
        stats = {name: columns[name] for name in COLUMNS if not np.isnan(columns[name]).all()}
        return cls({name: columns[name] for name in TIMES}, stats)

    @property
    def clock(self) -> str:
        """The finest clock that is defined throughout: "s", "tau" or "log_t"."""
        return next((name for name in ("s", "tau") if np.isfinite(self.times[name]).all()), "log_t")

    def write(self, file: Path) -> None:
        """Write the contract's columns; a cell is empty where a number does not apply or leaves 1e-300 to 1e300."""
        write_all(file, [((), self)], ())


def write_all(file: Path, tables: Sequence[tuple[Sequence[str], Table]], further: Sequence[str]) -> None:
    """Write several tables below one another, each row with the texts that go with its table in `further` columns."""
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*TIMES, *COLUMNS, *further])
        for texts, table in tables:
            columns = {**table.times, **{name: table.stats.get(name) for name in COLUMNS}}
            for index in range(len(table.times["log_t"])):
                writer.writerow([*(_cell(name, values, index) for name, values in columns.items()), *texts])


def _cell(name: str, values: Floats | None, index: int) -> str:
    if values is None or math.isnan(values[index]):
        return ""
    if name in _PLAIN and not 1e-300 <= values[index] <= 1e300:
        return ""
    return f"{values[index]:.17g}"
