"""The step-by-step interface: one point that moves, its method (which "auto" may change), checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import InputError
from theorykit.flow.ode import _drive
from theorykit.flow.ode.methods import Array, Method, Point, Radau, Record, System, method

_RECORD_ENTRIES = 500_000  # floats of dense output held at a time
_AUTO_CHUNK = 128  # steps after which "auto" looks whether an implicit method is still worth its price
_WORTH = 200.0  # explicit steps left that are cheaper than to change the method
_STABILISED_WORTH = 1e6  # explicit steps left up to which a stabilised method, in about their square root, is cheaper


class Status(Enum):
    """Why a run is where it is, and what to do about it."""

    RUNNING = "under way"
    REACHED_END = "reached the end"
    EVENT = "a terminal event ended it"
    STOPPED = "the stop condition ended it"
    MAX_STEPS = "the step limit was reached: raise max_steps or rtol, or let method='auto' choose for stiff systems"
    NO_SPACE = (
        "the dense output fills the disk of temporary files: name another (TMPDIR), or end earlier, or loosen rtol"
    )
    STEP_TOO_SMALL = "the step size fell to round-off: the solution has a singularity there, or f is discontinuous"
    NOT_FINITE = "f is nan or infinite there: check its domain, or stop before with a terminal event"
    BLOW_UP = "the solution grows without bound (or past the float range): the flow ends there in finite time"
    KINKS = (
        "kinks are met so closely one after another that there is no telling how the flow goes on: perturb the start"
    )
    UNFIT = (
        "what the features at the start cannot fit of the targets moves them, and its pull on them is a difference of "
        "forces too large to have digits: take a wider net or fewer samples, another init, or a smaller log_alpha"
    )
    NO_CONVERGENCE = "Newton's iteration fails even for tiny steps: check the Jacobian, or use method='rkc2'"


_ENDS = {
    _drive.REACHED_END: Status.REACHED_END,
    _drive.STEP_TOO_SMALL: Status.STEP_TOO_SMALL,
    _drive.NOT_FINITE: Status.NOT_FINITE,
    _drive.NO_CONVERGENCE: Status.NO_CONVERGENCE,
}


@dataclass(frozen=True)
class Switch:
    """A change of method: when, to what, and why."""

    t: float
    method: str
    reason: str


class Integrator:
    """One integration, advanced step by step.

    Attributes
    ----------
    t, y : float, ndarray of shape (n,)
        The present point (y is a copy).
    status : Status
        RUNNING until the end or trouble.
    switches : list of Switch
        The methods used, the first chosen at the start.
    counts : dict of int
        Accepted and rejected steps, evaluations of f (with those for Jacobians by differences), Jacobians,
        factorisations, iterations of Krylov solves.

    Notes
    -----
    Made by `theorykit.flow.integrator`, which checks its arguments.
    """

    def __init__(self, system: System, y0: Array, t0: float, t_end: float, name: str, first_step: float) -> None:
        self.system, self.t0, self.t_end, self.name = system, t0, t_end, name
        self.status = Status.RUNNING if t_end != t0 else Status.REACHED_END
        self.switches: list[Switch] = []
        self._y0_size = float(np.max(np.abs(y0)))
        self._point = Point(y0.copy(), {})
        self._point.state[_drive.T] = t0
        self._point.state[_drive.H] = first_step
        self._use(*self._first_choice())

    @property
    def t(self) -> float:
        """The present time."""
        return self._point.t

    @property
    def y(self) -> Array:
        """The present point."""
        return self._point.y.copy()

    @property
    def counts(self) -> dict[str, int]:
        """Steps and evaluations so far."""
        return {name: int(count) for name, count in zip(_drive.COUNT_NAMES, self._point.counts, strict=True)}

    def step(self) -> Record:
        """Take one accepted step and return it with its dense output (no step when the run has ended).

        Numerical trouble does not raise, it sets `status`.
        """
        return self.advance(1, np.zeros(0), record_all=True)

    def advance(self, most: int, wanted: Array, *, record_all: bool) -> Record:
        """Take up to `most` steps, record those that cover a time in `wanted` (in the order of travel), or all."""
        n = self.system.n
        size = max(1, _RECORD_ENTRIES // ((self.method.degree + 2) * n)) if record_all or wanted.size else 0
        if self.name == "auto":  # the method is looked at after the same steps, wherever the calls end
            most = min(most, _AUTO_CHUNK - self.counts["steps"] % _AUTO_CHUNK)
        record = Record.empty(max(1, min(size, most)), self.method.degree, n)
        if self.status is not Status.RUNNING:
            return record.first(0)
        recorded, code = self._call(most, wanted, record_all, record)
        if code == _drive.STIFF and self.name == "auto":
            self._consider_implicit()
        elif code == _drive.RUNNING and self.name == "auto" and self.counts["steps"] % _AUTO_CHUNK == 0:
            self._consider_explicit()
        elif code == _drive.NO_CONVERGENCE and self.name == "auto":
            self._use("rkc2", "Newton's iteration failed: a stabilised explicit method needs none")
        elif code in _ENDS:
            self.status = self._diagnosed(_ENDS[code])
        return record.first(recorded)

    def _call(self, most: int, wanted: Array, record_all: bool, record: Record) -> tuple[int, int]:
        """Call the driver; what the user's functions raise comes out as itself."""
        before = int(self._point.counts[_drive.STEPS])
        try:
            result = self.method.advance(self.system, self._point, self.t_end, most, wanted, record_all, record)
        except Exception:
            self.system.rhs.reraise()
            if self.system.jacobian is not None:
                self.system.jacobian.reraise()
            if self.system.nested is not None:
                self.system.nested.reraise()
            raise
        assert int(self._point.counts[_drive.STEPS]) - before <= most
        return result

    def _diagnosed(self, status: Status) -> Status:
        """Tell growth without bound from other trouble."""
        size = float(np.max(np.abs(self._point.y)))
        grown = size > 1e6 * (1.0 + self._y0_size) and status is not Status.REACHED_END
        return Status.BLOW_UP if grown else status

    # --- the choice of method ---

    def _first_choice(self) -> tuple[str, str]:
        if self.name != "auto":
            return self.name, "as asked"
        if self.system.rtol > 1e-5:
            return "tsit5", "explicit until stiffness shows; order 5 for a loose tolerance"
        return "dop853", "explicit until stiffness shows; order 8 for a tight tolerance"

    def _use(self, name: str, reason: str) -> None:
        """Go on with a method, from the present point and step."""
        self.method: Method = method(name, self.system.rtol)
        t, h = self._point.t, self._point.h
        self._point.memory = self.method.allocate(self.system)
        self._point.state[:] = 0.0
        self._point.state[[_drive.T, _drive.H]] = t, h
        self.switches.append(Switch(t, self.method.name, reason))

    def _consider_implicit(self) -> None:
        """Leave an explicit method at the edge of its stability, unless it is nearly through."""
        left = abs(self.t_end - self.t) / self._point.h
        if left < _WORTH:
            return
        reason = f"the step is limited by stability, with {left:.3g} such steps to go"
        if self.system.affordable:
            self._use("radau", f"stiff: {reason}")
        elif left < _STABILISED_WORTH:
            self._use("rkc2", f"mildly stiff and large: {reason}")
        else:
            self._use("radau5", f"very stiff and large: {reason}; by Newton-Krylov")

    def _consider_explicit(self) -> None:
        """Leave an implicit method where the Jacobian no longer limits an explicit one's step."""
        jacobian = self._point.memory.get("jacobian")
        dense = isinstance(self.method, Radau) and jacobian is not None and self.system.low_rank is None
        if not dense or jacobian is None or jacobian.shape[0] == 0 or not self._point.state[_drive.HAVE_JACOBIAN]:
            return
        bound = float(np.abs(jacobian[: self.system.n]).sum(axis=1).max()) * self._point.h
        if bound < 0.5:
            name, _ = self._first_choice()
            self._use(name, f"no longer stiff: h |J| = {bound:.2g}")

    # --- checkpoints ---

    def pack(self) -> dict[str, NDArray[Any]]:
        """Return everything the run depends on, as arrays: what `unpack` takes back, bit for bit."""
        notes = {
            "name": self.name, "method": self.method.name, "status": self.status.name,
            "switches": [[s.t.hex(), s.method, s.reason] for s in self.switches],
        }  # fmt: skip
        point = self._point
        arrays: dict[str, NDArray[Any]] = {f"memory_{key}": value for key, value in point.memory.items()}
        return {
            "notes": np.array(json.dumps(notes)),
            "y": point.y,
            "state": point.state,
            "counts": point.counts,
        } | arrays

    def unpack(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Go back to where `pack` was called."""
        notes = json.loads(str(arrays["notes"]))
        if notes["name"] != self.name or arrays["y"].shape != self._point.y.shape:
            raise InputError("checkpoint", "one of another problem", "the checkpoint of this very integration")
        self.method = method(notes["method"], self.system.rtol)
        self.status = Status[notes["status"]]
        self.switches = [Switch(float.fromhex(t), name, reason) for t, name, reason in notes["switches"]]
        memory = {key: arrays[f"memory_{key}"].copy() for key in self.method.allocate(self.system)}
        self._point = Point(arrays["y"].copy(), memory, arrays["state"].copy(), arrays["counts"].copy())

    def move_back(self, t: float, y: Array, status: Status) -> None:
        """End at an earlier time, at which an event or a stop condition has been found."""
        self._point.state[_drive.T] = t
        self._point.y[:] = y
        self.status = status
