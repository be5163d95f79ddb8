"""Reading data files: every way in which a file can be wrong becomes one clear `InputError`."""

from __future__ import annotations

import csv
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.serial import regular_file
from theorykit._numerics.validate import shown

_NPZ = "an .npz file with the arrays X and y"
_CSV = "a CSV file in UTF-8: a header row, then numbers"
_KEYS = ("X", "y", "X_test", "y_test")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[np.generic]]:
    """Return the arrays X, y and, where they are there, X_test and y_test."""
    file = regular_file("path", path, _NPZ)
    try:
        arrays = _load(file)
    except OSError as problem:
        raise InputError("path", f"{path} ({problem.strerror or 'unreadable'})", _NPZ) from None
    except (MemoryError, OverflowError):
        raise InputError("path", f"{path} (it says that it is larger than memory)", _NPZ) from None
    except (ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise InputError("path", f"{path} (truncated, pickled or not in this format)", _NPZ) from None
    for key in ("X", "y"):
        if key not in arrays:
            raise InputError("path", f"{path} without {key!r}", _NPZ)
    return arrays


def _load(path: str | os.PathLike[str]) -> dict[str, NDArray[np.generic]]:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("one array, not an archive of arrays")
    with archive:
        return {key: archive[key] for key in archive.files if key in _KEYS}


def read_csv(path: str | os.PathLike[str], label: str | int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features and the label column of a CSV file."""
    file = regular_file("path", path, _CSV)
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            lines = _rows(csv.reader(stream))
            header = _header(path, lines)
            column = _label_column(label, header)
            table = np.array([_numbers(path, line, cells, header) for line, cells in lines]).reshape(-1, len(header))
    except OSError as problem:
        raise InputError("path", f"{path} ({problem.strerror})", _CSV) from None
    except UnicodeDecodeError:
        raise InputError("path", f"{path} (not UTF-8 text)", _CSV) from None
    except csv.Error as problem:
        raise InputError("path", f"{path} ({problem})", _CSV) from None
    if len(table) == 0:
        raise InputError("path", f"{path} with a header and no samples", _CSV)
    if len(header) == 1:
        raise InputError("path", f"{path} with one column", "a column of labels and at least one feature")
    return np.delete(table, column, axis=1), table[:, column]


def _rows(reader: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of every line that is not empty."""
    for cells in reader:
        if cells:
            yield reader.line_num, [cell.strip() for cell in cells]  # type: ignore[attr-defined]


def _header(path: str | os.PathLike[str], lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    line, names = next(lines, (1, []))
    if not names:
        raise InputError("path", f"{path}, an empty file", _CSV)
    if all(_number(name) is not None for name in names):
        raise InputError("path", f"{path} with numbers in line {line}", "column names in the first row")
    return names


def _label_column(label: str | int, header: list[str]) -> int:
    if isinstance(label, str):
        if label not in header:
            raise unknown_name("label", label, header)
        if header.count(label) > 1:
            raise InputError("label", f"{label!r}, the name of {header.count(label)} columns", "the name of one column")
        return header.index(label)
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(header):
        raise InputError("label", shown(label), f"a column name, or a position from 0 to {len(header) - 1}")
    return label


def _numbers(path: str | os.PathLike[str], line: int, cells: list[str], header: list[str]) -> list[float]:
    if len(cells) != len(header):
        raise InputError("path", f"{path} with {len(cells)} cells in line {line}", f"{len(header)}, as in the header")
    numbers = []
    for name, cell in zip(header, cells, strict=True):
        number = _number(cell)
        if number is None or not math.isfinite(number):
            raise InputError("path", f"{path} with {cell!r} in line {line}, column {name!r}", "a finite number")
        numbers.append(number)
    return numbers


def _number(cell: str) -> float | None:
    """Return a decimal number in ASCII digits, None for what Python alone takes for one (``1_0``, other scripts)."""
    return float(cell) if _DECIMAL.fullmatch(cell) else None
