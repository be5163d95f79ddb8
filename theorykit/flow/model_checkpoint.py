"""A flow in its frames as arrays, for checkpoints: everything that its next step and its dense output depend on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.serial import plain
from theorykit.flow.carried import CarriedField
from theorykit.flow.frames import Field, Floats
from theorykit.flow.keeper import Arrays, under
from theorykit.flow.model_flow import Run, Segment
from theorykit.flow.ode.methods import Record
from theorykit.flow.ode.stepping import Status
from theorykit.flow.slaved import SlavedField
from theorykit.flow.spill import Reader


def pack(run: Run) -> Arrays:
    """Return the state of a run."""
    under_way = run.flow is not None
    notes = {
        "status": run.status.name, "counts": run.counts, "slides": [[_text(x) for x in pair] for pair in run.slides],
        "numbers": [_text(x) for x in (run.log_tau, run.transient_ends, run.lost_from, run.until)],
        "first_step": _text_or_none(run.first_step),
        "by_loss": run.by_loss, "stalled": run.stalled,
        "under_way": under_way,
        "begun": [_text(run.begun.log_tau), _text_or_none(run.begun.first_step), _text_or_none(run.begun.clock)],
        "elapsed": _text_or_none(run.elapsed),
    }  # fmt: skip
    arrays = {
        "notes": np.array(json.dumps(notes)), "x": run.x, "begun_x": run.begun.x, "sides": run.sides,
        "c": np.zeros(0) if run.c is None else run.c, "begun_c": np.zeros(0) if run.begun.c is None else run.begun.c,
        "slaving": np.array(run.slaving).reshape(2, -1),
    }  # fmt: skip
    stretches = [(s.field, s.records, s.method, s.by_loss) for s in run.segments]
    stretches.append((run.field, run.records if under_way else [], "", run.by_loss))
    for k, (field, records, method, by_loss) in enumerate(stretches):
        arrays |= {f"segment{k}/{name}": array for name, array in _packed(field, records, method, by_loss).items()}
    arrays |= {f"steps{k}": block for k, block in enumerate(run.spill.blocks())}
    if run.flow is not None:
        arrays |= {f"integrator/{name}": array for name, array in run.flow.pack().items()}
    return arrays


def unpack(run: Run, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Bring a run, fresh from its start, to where `pack` was called."""
    notes = json.loads(str(arrays["notes"]))
    run.status, run.counts = Status[notes["status"]], notes["counts"]
    run.slides = [(float.fromhex(a), float.fromhex(b)) for a, b in notes["slides"]]
    run.log_tau, run.transient_ends, run.lost_from, until = map(float.fromhex, notes["numbers"])
    run.by_loss, run.stalled = notes["by_loss"], notes["stalled"]
    run.sides = arrays["sides"]
    times, errors = arrays["slaving"].tolist()
    run.slaving = times, errors
    stretches, numbers = list[Segment](), Reader(_blocks(arrays))
    while f"segment{len(stretches)}/notes" in arrays:
        stretches.append(_unpacked(run, under(f"segment{len(stretches)}/", arrays), numbers))
    run.segments = stretches[:-1]
    run.field = stretches[-1].field
    if notes["under_way"]:
        log_tau, first_step, clock = notes["begun"]
        there, run.x, run.log_tau = run.log_tau, arrays["begun_x"], float.fromhex(log_tau)
        run.first_step, run.elapsed = _number_or_none(first_step), _number_or_none(clock)
        run.c = arrays["begun_c"] if arrays["begun_c"].size else None
        run.begin()
        assert run.flow is not None
        run.flow.unpack(under("integrator/", arrays))
        run.records, run.log_tau, run.until = stretches[-1].records, there, until
    run.x, run.c = arrays["x"], arrays["c"] if arrays["c"].size else None
    run.first_step, run.elapsed = _number_or_none(notes["first_step"]), _number_or_none(notes["elapsed"])


def _text(x: float) -> str:
    return float(x).hex()


def _text_or_none(x: float | None) -> str | None:
    return None if x is None else _text(x)


def _number_or_none(text: str | None) -> float | None:
    return None if text is None else float.fromhex(text)


def _packed(field: Field, records: list[Record], method: str, by_loss: bool) -> Arrays:
    """Return a stretch of the flow."""
    notes = {
        "frame": field.frame, "log_clock": field.log_clock, "slaved": field.slaved, "carried": field.carried,
        "held": field.held,
        "resting": field.resting, "grazing": field.grazing, "method": method, "by_loss": by_loss,
        "degrees": [record.dense.shape[1] for record in records], "since": _text_or_none(field.since),
        "negligible": field.negligible.hex(), "log_cap": _text(field.log_cap), "origin": _text(field.origin),
        "widths": [record.y.shape[1] for record in records],
    }  # fmt: skip
    nothing = np.zeros(0)
    return {
        "notes": np.array(json.dumps(plain(notes))),
        "piece": nothing if field.inputs.piece is None else field.inputs.piece,
        "t": np.array([record.t[0] for record in records]), "h": np.array([record.h[0] for record in records]),
    }  # fmt: skip


def _blocks(arrays: Mapping[str, NDArray[Any]]) -> Iterator[Floats]:
    """Yield the numbers of all steps."""
    for k in itertools.count():
        if f"steps{k}" not in arrays:
            return
        yield arrays[f"steps{k}"]


def _unpacked(run: Run, arrays: Mapping[str, NDArray[Any]], numbers: Reader) -> Segment:
    """Return a stretch, its steps read from the numbers of all and handed to the run's memory."""
    notes = json.loads(str(arrays["notes"]))
    held, resting, grazing = (tuple(notes[name]) for name in ("held", "resting", "grazing"))
    inputs = run.field.inputs
    if arrays["piece"].size:
        inputs = replace(inputs, piece=arrays["piece"])
    kind = SlavedField if notes["slaved"] else CarriedField if notes["carried"] else Field
    field = kind(run.problem, inputs, notes["frame"], notes["log_clock"], held, resting, grazing)
    negligible = float.fromhex(notes["negligible"])
    log_cap, origin = float.fromhex(notes["log_cap"]), float.fromhex(notes["origin"])
    since = _number_or_none(notes["since"])
    field = replace(field, since=since, negligible=negligible, log_cap=log_cap, origin=origin)
    records = list[Record]()
    for k, (degree, n) in enumerate(zip(notes["degrees"], notes["widths"], strict=True)):
        y, dense = numbers.next((1, n)), numbers.next((1, degree, n))
        records.append(Record(arrays["t"][k : k + 1], arrays["h"][k : k + 1], y, dense))
        run.spill.add(records[-1])
    return Segment(field, records, notes["method"], notes["by_loss"], run.log_tau_end if records else math.inf)
