"""A run in the dual reduction as arrays, for checkpoints: all that its next step and its dense output depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.keeper import Arrays, under
from theorykit.flow.reduction import Basis, Floats, Frame, Leg, Run, Segment, Status

_NUMBERS = ("log_tau", "tau_anchor", "size", "kappa", "width", "damped")
_ARRAYS = ("y", "counts", "anchors", "axes", "sizes")
_CARRIED = ("state", "last", "derivative", "jacobian")
_RECORD = ("times", "widths", "values", "dense")


def pack(run: Run) -> Arrays:
    """Return the state of a run."""
    notes: dict[str, Any] = {
        "status": None if run.status is None else run.status.name, "frame": int(run.frame), "log_clock": run.log_clock,
        "segments": len(run.segments),
    }  # fmt: skip
    arrays = {name: getattr(run, name) for name in _ARRAYS} | {
        "numbers": np.array([getattr(run, name) for name in _NUMBERS])
    }
    bases = [run.reduction.basis]  # the next ones are turned ones: as large as the data
    for k, segment in enumerate(run.segments):
        record = [segment.times, segment.widths, segment.values, segment.dense]
        arrays |= _packed(f"segment{k}/", segment.pack, record, bases)
    if run.leg is not None:
        leg = run.leg
        record = [np.concatenate(parts) for parts in zip(*leg.parts, strict=True)]
        arrays |= _packed("leg/", leg.pack, record, bases)
        arrays |= {f"leg/{name}": getattr(leg, name) for name in _CARRIED}
        arrays["leg/numbers"] = np.array([leg.clock, leg.stop, leg.log_tau_stop, leg.widest])
    notes["basis"] = _place(run.basis, bases)
    for k, basis in enumerate(bases[1:], start=1):
        arrays |= {f"basis{k}/rows": basis.rows, f"basis{k}/lift": basis.lift}
    return arrays | {"notes": np.array(json.dumps(notes))}


def _packed(prefix: str, pack: tuple[Any, ...], record: list[Floats], bases: list[Basis]) -> Arrays:
    """Return what a segment began with, and its steps."""
    _, _, rows, lift, _, _, anchors, hyper, integers = pack
    place = np.array(_place(Basis(rows, lift), bases))
    arrays = {"basis": place, "anchors": anchors, "hyper": hyper, "integers": integers}
    arrays |= dict(zip(_RECORD, record, strict=True))
    return {prefix + name: array for name, array in arrays.items()}


def _place(basis: Basis, bases: list[Basis]) -> int:
    """Return where a basis is in a list, to whose end it goes if it is not."""
    for k, other in enumerate(bases):
        if basis.rows is other.rows and basis.lift is other.lift:
            return k
    bases.append(basis)
    return len(bases) - 1


def unpack(run: Run, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Bring a run, fresh from its start, to where `pack` was called."""
    notes = json.loads(str(arrays["notes"]))
    run.status = None if notes["status"] is None else Status[notes["status"]]
    run.frame, run.log_clock = Frame(notes["frame"]), notes["log_clock"]
    for name in _ARRAYS:
        setattr(run, name, arrays[name].copy())
    for name, number in zip(_NUMBERS, arrays["numbers"].tolist(), strict=True):
        setattr(run, name, number)
    bases = [run.reduction.basis]
    while f"basis{len(bases)}/rows" in arrays:
        mine = under(f"basis{len(bases)}/", arrays)
        bases.append(Basis(mine["rows"], mine["lift"]))
    run.basis = bases[notes["basis"]]
    if len(bases) > 1 and not run.reduction.z.size:  # a basis was turned, for which the data were widened
        run.reduction.z = run.reduction.z_small.astype(np.float64)
    run.segments = []
    for k in range(notes["segments"]):
        mine = under(f"segment{k}/", arrays)
        run.segments.append(Segment(_pack_of(run, mine, bases), *(mine[name] for name in _RECORD)))
    mine = under("leg/", arrays)
    if mine:
        clock, stop, log_tau_stop, widest = mine["numbers"].tolist()
        carried, record = {name: mine[name].copy() for name in _CARRIED}, tuple(mine[name] for name in _RECORD)
        run.leg = Leg(_pack_of(run, mine, bases), clock, stop, log_tau_stop, widest, parts=[record], **carried)


def _pack_of(run: Run, mine: Mapping[str, NDArray[Any]], bases: list[Basis]) -> tuple[Any, ...]:
    """Return what the compiled functions read in a segment."""
    reduction, basis = run.reduction, bases[int(mine["basis"])]
    return (
        reduction.z, reduction.z_small, basis.rows, basis.lift, reduction.gram, reduction.targets,
        mine["anchors"], mine["hyper"], mine["integers"],
    )  # fmt: skip
