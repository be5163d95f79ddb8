"""One run from start to end: saves, events and stop conditions on the dense output, and its state as arrays."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit.flow.ode.events import Found, Watch, Zero
from theorykit.flow.ode.methods import Array, Record
from theorykit.flow.ode.stepping import Integrator, Status

_FIRST_CHUNK, _CHUNK_SECONDS = 256, 0.1

Statistic = Callable[[float, Array], Any]


class Run:
    """An integrator and what is kept of its path.

    Attributes
    ----------
    integrator : Integrator
    at, states : ndarray
        Times at which statistics and states are wanted, in the order of travel.
    t, stats, states_t, y
        What has been saved so far.
    found : list of Found
        Events, their errors still the widths of the brackets.
    """

    def __init__(
        self,
        integrator: Integrator,
        at: Array,
        states: Array,
        save: Mapping[str, Statistic],
        events: Sequence[Zero],
        stop: Callable[[float, Array], Any] | None,
        max_steps: int,
        dense: bool,
    ) -> None:
        self.integrator, self.at, self.states, self.save, self.stop = integrator, at, states, save, stop
        self.max_steps, self.dense = max_steps, dense
        self.direction = 1.0 if integrator.t_end >= integrator.t0 else -1.0
        self.wanted = np.unique(np.concatenate([at, states]))[:: int(self.direction)]
        self.t: list[float] = []
        self.stats: dict[str, list[NDArray[Any]]] = {name: [] for name in save}
        self.states_t: list[float] = []
        self.y: list[Array] = []
        self.found: list[Found] = []
        self.path: list[Record] = []
        self.wall_s = 0.0
        self.chunk_size = _FIRST_CHUNK
        self.watches = [Watch(event, integrator.t, integrator.y) for event in events]
        self._keep(integrator.t, integrator.y)

    def go(self, every: float = math.inf, checkpoint: Callable[[], None] | None = None) -> None:
        """Run to the end, and call `checkpoint` about every so many seconds between chunks of steps."""
        last = time.perf_counter()
        while self.integrator.status is Status.RUNNING:
            began = time.perf_counter()
            self.chunk()
            took = time.perf_counter() - began
            self.wall_s += took
            # where a call of the driver ends changes nothing but how long Ctrl-C and a checkpoint wait for it
            if took < 0.5 * _CHUNK_SECONDS:
                self.chunk_size *= 2 if took > 0.02 * _CHUNK_SECONDS else 16
            elif took > _CHUNK_SECONDS:
                self.chunk_size = max(1, self.chunk_size // 2)
            if checkpoint is not None and time.perf_counter() - last >= every:
                checkpoint()
                last = time.perf_counter()

    def chunk(self) -> None:
        """Take one chunk of steps and keep what is wanted of it."""
        integrator = self.integrator
        left = self.max_steps - integrator.counts["steps"]
        if left <= 0:
            integrator.status = Status.MAX_STEPS
            return
        ahead = self.wanted[(self.wanted - integrator.t) * self.direction > 0.0]
        record_all = bool(self.watches) or self.stop is not None or self.dense
        record = integrator.advance(min(left, self.chunk_size), ahead, record_all=record_all)
        for index in range(record.t.size):
            if self._follow(record, index):
                break
        if self.dense:
            self.path.append(record)

    def _follow(self, record: Record, index: int) -> bool:
        """Look at one step; return whether the run ends in it."""
        t, end = float(record.t[index]), float(record.t[index] + record.h[index])
        if index + 1 == record.t.size and self.integrator.status is Status.REACHED_END:
            end = self.integrator.t_end
        events = []
        for watch in self.watches:
            for zero, width, direction in watch.zeros(record, index):
                found = Found(watch.event.name, zero, direction, record.at(index, zero), width)
                events.append((found, watch.event.terminal))
        events.sort(key=lambda pair: pair[0].t * self.direction)
        final = next((found for found, terminal in events if terminal), None)
        if final is not None:
            self.found += [found for found, _ in events if (found.t - final.t) * self.direction <= 0.0]
            self._save_between(record, index, t, final.t)
            self.integrator.move_back(final.t, final.y, Status.EVENT)
            return True
        self.found += [found for found, _ in events]
        self._save_between(record, index, t, end)
        if self.stop is not None:
            y = record.at(index, end)
            if self.stop(end, y):
                self.integrator.move_back(end, y, Status.STOPPED)
                return True
        return False

    def _save_between(self, record: Record, index: int, low: float, high: float) -> None:
        """Keep what is wanted after `low` and up to `high`."""
        here = self.wanted
        here = here[((here - low) * self.direction > 0.0) & ((here - high) * self.direction <= 0.0)]
        for t in here:
            self._keep(float(t), record.at(index, float(t)))

    def _keep(self, t: float, y: Array) -> None:
        if np.any(self.states == t):
            self.states_t.append(t)
            self.y.append(y.copy())
        if np.any(self.at == t):
            self.t.append(t)
            for name, statistic in self.save.items():
                self.stats[name].append(self._value(name, statistic, t, y))

    def _value(self, name: str, statistic: Statistic, t: float, y: Array) -> NDArray[Any]:
        value = np.array(statistic(t, y.copy()), dtype=np.float64)
        before = self.stats[name]
        if before and before[0].shape != value.shape:
            raise InputError(f"save[{name!r}]", f"shape {value.shape} at t = {t:g}", f"{before[0].shape} as at first")
        return value

    # --- checkpoints ---

    def pack(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays."""
        arrays = {f"integrator_{key}": value for key, value in self.integrator.pack().items()}
        arrays |= {f"stat_{k}": np.array(self.stats[name]) for k, name in enumerate(self.save)}
        watches = [[w.side, w.closest.hex(), w.closest_t.hex(), w.last.hex()] for w in self.watches]
        events = [[f.name, f.t.hex(), f.direction, f.error.hex()] for f in self.found]
        notes = {"watches": watches, "events": events, "wall_s": self.wall_s}
        n = self.integrator.system.n
        return arrays | {
            "notes": np.array(json.dumps(notes)), "t": np.array(self.t), "states_t": np.array(self.states_t),
            "y": np.array(self.y).reshape(-1, n), "events_y": np.array([f.y for f in self.found]).reshape(-1, n),
        }  # fmt: skip

    def unpack(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to where `pack` was called."""
        prefix = "integrator_"
        self.integrator.unpack({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
        notes = json.loads(str(arrays["notes"]))
        for watch, (side, closest, closest_t, last) in zip(self.watches, notes["watches"], strict=True):
            watch.side, watch.last = side, float.fromhex(last)
            watch.closest, watch.closest_t = float.fromhex(closest), float.fromhex(closest_t)
        self.found = [
            Found(name, float.fromhex(t), direction, y, float.fromhex(error))
            for (name, t, direction, error), y in zip(notes["events"], arrays["events_y"], strict=True)
        ]
        self.wall_s = notes["wall_s"]
        self.t, self.states_t = arrays["t"].tolist(), arrays["states_t"].tolist()
        self.y = list(arrays["y"])
        self.stats = {name: list(arrays[f"stat_{k}"]) for k, name in enumerate(self.save)}
