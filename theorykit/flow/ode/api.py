"""Integrating any right-hand side: `integrate`, and `integrator` for going step by step."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.serial import writable_file
from theorykit._numerics.validate import finite, integer, vector
from theorykit.flow.ode.jacobian import LowRankJacobian, NestedJacobian
from theorykit.flow.ode.solution import Solution

if TYPE_CHECKING:
    from theorykit.flow.ode.events import Found, Zero
    from theorykit.flow.ode.functions import Function
    from theorykit.flow.ode.methods import System
    from theorykit.flow.ode.run import Run
    from theorykit.flow.ode.stepping import Integrator

Array = NDArray[np.float64]
_TIGHTEST, _LOOSEST = 1e-14, 0.1  # round-off of a step is some 1e-15
_COMPANION = 10.0  # times the tolerance
_MANY_REJECTED = 0.3
_SAME = 1e-6  # part of f within which a nested form of it is f
_MOST_TIMES = 10**7


def integrate(
    f: Callable[..., Any],
    y0: ArrayLike,
    t_span: tuple[float, float],
    *,
    method: str = "auto",
    jacobian: Callable[..., Any] | LowRankJacobian | NestedJacobian | str | None = None,
    rtol: float = 1e-8,
    atol: ArrayLike | None = None,
    save: Mapping[str, Callable[[float, Array], Any]] | None = None,
    at: int | Sequence[float] | Array = 33,
    states: int | Sequence[float] | Array | None = None,
    events: Sequence[Zero | Callable[[float, Array], Any]] = (),
    stop: Callable[[float, Array], Any] | None = None,
    max_steps: int = 1_000_000,
    first_step: float | None = None,
    widest: float = math.inf,
    spectral_radius: float | None = None,
    args: Sequence[Any] = (),
    companion: bool = True,
    confirm: bool = False,
    dense: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 30.0,
) -> Solution:
    """Integrate dy/dt = f(t, y), with an estimate of the global error.

    Parameters
    ----------
    f : callable
        Either a Python function ``f(t, y, *args) -> array of shape (n,)``, or a function compiled by ``numba.njit``
        that writes into its last argument, ``f(t, y, p, out)``, with `args` as one vector p of floats. The drivers are
        never compiled for a new f.
    y0 : array_like, shape (n,)
        Start.
    t_span : (float, float)
        Start and end; the end may come before the start.
    method : str
        "auto" starts explicit, goes to an implicit or stabilised method where stability limits the step and back where
        it no longer does, and says so in `Solution.switches`. By name: "tsit5" (order 5) and "dop853" (order 8),
        explicit; "rkc2", stabilised explicit (order 2) for large systems whose Jacobian has eigenvalues near the
        negative real axis; "radau5", "radau9", "radau13", Radau IIA, L-stable, and "radau", one of them by tolerance.
    jacobian : callable, LowRankJacobian, NestedJacobian or "krylov"
        df/dy for the implicit methods: a Python function ``(t, y, *args) -> (n, n)``, a numba function
        ``(t, y, p, out)``, or its parts, for which see there. Without it, up to 400 unknowns, differences and dense
        factors; above, or with "krylov", only products with vectors by differences, and GMRES.
    rtol : float
        Local error of a step: below atol + rtol |y| in the root mean square. Between 1e-14 and 0.1.
    atol : float or array_like, shape (n,)
        Absolute tolerance, rtol/100 by default.
    save : dict of callable
        Statistics ``g(t, y)``, each a number or an array of constant shape, evaluated at the times `at`.
    at : int or array_like
        Times of the statistics: so many, evenly over the span, or the times themselves. An error estimate looks at the
        neighbouring times too, and is the weaker the fewer there are.
    states : int or array_like
        Times at which y is saved; those of `at` by default.
    events : sequence of Zero or callable
        Functions g(t, y) whose zeros are located on the dense output.
    stop : callable
        ``stop(t, y) -> bool``, asked after every step: the integration ends at the first true answer.
    max_steps : int
        Most accepted steps.
    first_step, widest : float
        First and largest step; the first is chosen automatically.
    spectral_radius : float
        Upper bound on that of df/dy for "rkc2", which estimates it otherwise.
    args : sequence
        Further arguments of f and jacobian.
    companion : bool
        Whether to run a second time at ten times the tolerance, for the error estimates.
    confirm : bool
        Run once more at a tenth of the tolerance, report the difference, and use it as the estimate where larger.
    dense : bool
        Keep all steps for `Solution.at`; the memory grows with the number of steps.
    checkpoint : path
        File for the state of the integration, about every `checkpoint_every` seconds. If it exists, the integration
        goes on from there, to the same bits as without interruption. It is removed at the end. One of other start,
        times, tolerances, arguments or functions (told by their code and the numbers in it) is refused.
    checkpoint_every : float
        Seconds.

    Returns
    -------
    Solution
        Numerical trouble does not raise: the solution up to there comes back with `status` and `message`.

    Raises
    ------
    InputError
        An argument is unusable (before any work), or f returns the wrong shape. What f raises comes out as it is.

    References
    ----------
    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I; Hairer and Wanner, the same, II.
    Tsitouras 2011; Sommeijer, Shampine and Verwer 1998: see `theorykit.flow.tableaus`.

    Examples
    --------
    >>> from theorykit.flow import Zero, integrate
    >>> def pendulum(t, y):
    ...     return [y[1], -y[0]]
    >>> swing = integrate(pendulum, [1.0, 0.0], (0.0, 2.0), events=[Zero(lambda t, y: y[0], "bottom")])
    >>> round(swing.events[0].t, 8), bool(swing.events[0].error < 1e-6)
    (1.57079633, True)
    """
    system, span = _system(f, y0, t_span, jacobian, rtol, atol, widest, spectral_radius, _arguments(args), method)
    start = vector("y0", y0)
    _check_nested(system, start, span[0])
    if checkpoint is not None:
        writable_file("checkpoint", checkpoint)
    if save is not None and not isinstance(save, Mapping):
        raise InputError("save", repr(save), "a dict of functions g(t, y)")
    at_times = _times("at", at, span)
    state_times = at_times if states is None else _times("states", states, span)
    save = dict(save or {})
    for name, statistic in save.items():
        if not callable(statistic):
            raise InputError(f"save[{name!r}]", repr(statistic), "a function g(t, y)")
    if stop is not None and not callable(stop):
        raise InputError("stop", repr(stop), "a function stop(t, y)")
    max_steps = integer("max_steps", max_steps, minimum=1)
    first = 0.0 if first_step is None else finite("first_step", first_step, above=0.0)
    finite("checkpoint_every", checkpoint_every, minimum=0.0)

    from dataclasses import replace

    from theorykit.flow.ode.run import Run
    from theorykit.flow.ode.stepping import Integrator

    watched = _watched(events)
    factors = [1.0] + ([_COMPANION] if companion or confirm else []) + ([0.1] if confirm else [])
    runs = []
    for factor in factors:
        own = replace(system, rtol=min(max(system.rtol * factor, _TIGHTEST), _LOOSEST), atol=system.atol * factor)
        integrator = Integrator(own, start, *span, method, first)
        keep = dense and factor == 1.0
        runs.append(Run(integrator, at_times, state_times, save, watched, stop, max_steps, keep))
    if checkpoint is None:
        for run in runs:
            run.go()
    else:
        asked: dict[str, Any] = {f"save {name}": g for name, g in save.items()}
        asked |= {f"event {event.name}": (event.g, event.direction, event.terminal) for event in watched}
        fingerprint = _fingerprint(system, start, span, method, at_times, state_times, asked)
        _go_on(runs, checkpoint, checkpoint_every, fingerprint)
    return _solution(runs, companion or confirm, confirm, method)


def integrator(
    f: Callable[..., Any],
    y0: ArrayLike,
    t_span: tuple[float, float],
    *,
    method: str = "auto",
    jacobian: Callable[..., Any] | LowRankJacobian | NestedJacobian | str | None = None,
    rtol: float = 1e-8,
    atol: ArrayLike | None = None,
    first_step: float | None = None,
    widest: float = math.inf,
    spectral_radius: float | None = None,
    args: Sequence[Any] = (),
) -> Integrator:
    """Return an integration to be driven step by step; the arguments are those of `integrate`.

    Examples
    --------
    >>> from theorykit.flow import integrator
    >>> flow = integrator(lambda t, y: -y, [1.0], (0.0, 1.0))
    >>> while flow.status.name == "RUNNING":
    ...     step = flow.step()
    >>> bool(abs(flow.y[0] - 0.36787944117) < 1e-8)
    True
    """
    system, span = _system(f, y0, t_span, jacobian, rtol, atol, widest, spectral_radius, _arguments(args), method)
    first = 0.0 if first_step is None else finite("first_step", first_step, above=0.0)
    from theorykit.flow.ode.stepping import Integrator

    return Integrator(system, vector("y0", y0), *span, method, first)


def _arguments(args: Sequence[Any]) -> tuple[Any, ...]:
    try:
        return tuple(args)
    except TypeError:
        raise InputError("args", repr(args), "a sequence, such as (2.0,)") from None


def _system(
    f: Callable[..., Any],
    y0: ArrayLike,
    t_span: tuple[float, float],
    jacobian: Callable[..., Any] | LowRankJacobian | NestedJacobian | str | None,
    rtol: float,
    atol: ArrayLike | None,
    widest: float,
    spectral_radius: float | None,
    args: tuple[Any, ...],
    method: str,
) -> tuple[System, tuple[float, float]]:
    """Check what describes the system, and call f once."""
    if not callable(f):
        raise InputError("f", repr(f), "a function f(t, y), or a numba function f(t, y, p, out)")
    start = vector("y0", y0)
    if start.size == 0:
        raise InputError("y0", "no entries", "at least one unknown")
    try:
        begin, end = t_span
    except (TypeError, ValueError):
        raise InputError("t_span", repr(t_span), "a pair (start, end)") from None
    span = finite("t_span[0]", begin), finite("t_span[1]", end)
    rtol = finite("rtol", rtol, minimum=_TIGHTEST)
    if rtol > _LOOSEST:
        raise InputError("rtol", f"{rtol:g}", f"at most {_LOOSEST:g}")
    given_atol = 0.01 * rtol if atol is None else atol
    many = (
        vector("atol", given_atol, length=start.size, each="unknown")
        if np.ndim(given_atol)
        else finite("atol", given_atol)
    )
    absolute = np.array(np.broadcast_to(many, start.shape), dtype=np.float64)
    if not np.all(absolute > 0.0):
        raise InputError("atol", repr(atol), "finite numbers > 0")
    if not (isinstance(widest, (int, float)) and widest > 0.0):
        raise InputError("widest", repr(widest), "a number > 0")
    radius = 0.0 if spectral_radius is None else finite("spectral_radius", spectral_radius, above=0.0)

    from theorykit.flow.ode.functions import Function
    from theorykit.flow.ode.methods import METHODS, System

    if method not in METHODS:
        raise unknown_name("method", str(method), list(METHODS))
    rhs = Function(f, args, start.shape, "f")
    with np.errstate(all="ignore"):
        rhs(span[0], start)
    krylov = isinstance(jacobian, str)
    if krylov and jacobian != "krylov":
        raise InputError("jacobian", repr(jacobian), "a function, a LowRankJacobian, a NestedJacobian or 'krylov'")
    given = None if krylov or jacobian is None else _jacobian(jacobian, args, start, span[0])
    nested = _nested(jacobian, rhs, start, span[0]) if isinstance(jacobian, NestedJacobian) else None
    return System(rhs, given, start.size, rtol, absolute, float(widest), radius, krylov, nested), span


def _nested(jacobian: NestedJacobian, rhs: Function, y0: Array, t0: float) -> Function:
    """Return (y, c) -> (F, c(t, y)) ready for the drivers, called once."""
    from theorykit.flow.ode.functions import Function

    n, k = y0.size, integer("jacobian.rank", jacobian.rank, minimum=1)

    def joined(t: float, both: Array, *args: Any) -> Array:
        value, inner = jacobian.nested(t, both[:n], both[n:], *args)
        if np.shape(value) != (n,) or np.shape(inner) != (k,):
            got = f"values of shapes {np.shape(value)} and {np.shape(inner)}"
            raise InputError("jacobian.nested", got, f"shapes ({n},), that of y0, and ({k},), the rank")
        return np.concatenate([value, inner])

    function = Function(joined, rhs.arguments, (n + k,), "jacobian.nested")
    with np.errstate(all="ignore"):
        function(t0, np.concatenate([y0, np.zeros(k)]))
    return function


def _check_nested(system: System, y0: Array, t0: float) -> None:
    """Raise where F(t, y, c(t, y)), which an implicit method solves, is not f."""
    if system.nested is None:
        return
    with np.errstate(all="ignore"):
        inner = system.nested(t0, np.concatenate([y0, np.zeros(system.inner)]))[system.n :]
        value, f = system.nested(t0, np.concatenate([y0, inner]))[: system.n], system.rhs(t0, y0)
        gap, size = float(np.max(np.abs(value - f))), float(np.max(np.abs(f)))
    if gap > _SAME * size:
        raise InputError("jacobian.nested", f"an F(t, y, c(t, y)) {gap:.3g} away from f = {size:.3g}", "f itself")


def _jacobian(jacobian: Any, args: tuple[Any, ...], y0: Array, t0: float) -> Any:
    """Return the Jacobian ready for the drivers, called once."""
    from theorykit.flow.ode.functions import Function

    n = y0.size
    structured = isinstance(jacobian, LowRankJacobian | NestedJacobian)
    if not (callable(jacobian) or structured):
        raise InputError("jacobian", repr(jacobian), "a function, a LowRankJacobian, a NestedJacobian or 'krylov'")
    shape = (n, n)
    if structured:
        whole = isinstance(jacobian, NestedJacobian) and jacobian.dense
        rank = integer("jacobian.rank", jacobian.rank, minimum=1)
        if rank > n and not whole:
            raise InputError("jacobian.rank", str(rank), f"at most {n}, the number of unknowns")
        shape = ((n if whole else 1) + 2 * rank, n)
    inner = jacobian.rank if isinstance(jacobian, NestedJacobian) else 0
    function = Function(jacobian, args, shape, "jacobian", inner)
    with np.errstate(all="ignore"):
        function(t0, np.concatenate([y0, np.zeros(inner)]))
    return function


def _times(argument: str, given: int | Sequence[float] | Array, span: tuple[float, float]) -> Array:
    """Return times in the order of travel."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        count = integer(argument, int(given), minimum=2, maximum=_MOST_TIMES)
        return np.linspace(*span, count) if span[0] != span[1] else np.array([span[0]])
    times = np.unique(vector(argument, given))
    low, high = min(span), max(span)
    if times.size == 0 or times[0] < low or times[-1] > high:
        raise InputError(argument, f"times from {times.min():g} to {times.max():g}" if times.size else "no times",
                         f"times within [{low:g}, {high:g}], or how many")  # fmt: skip
    return times if span[1] >= span[0] else times[::-1]


def _watched(events: Sequence[Any]) -> list[Zero]:
    from theorykit.flow.ode.events import Zero

    try:
        given = list(events)
    except TypeError:
        raise InputError("events", repr(events), "a sequence of Zero or of functions g(t, y)") from None
    return [g if isinstance(g, Zero) else Zero(g, f"event {k}") for k, g in enumerate(given)]


def _fingerprint(
    system: System, y0: Array, span: tuple[float, float], method: str, at: Array, states: Array,
    functions: Mapping[str, Any],
) -> str:  # fmt: skip
    """Return what a checkpoint must share with the integration that takes it up."""
    digest = hashlib.sha256()
    for array in (y0, system.atol, at, states):
        digest.update(array.tobytes() + b";")
    settings = [span[0].hex(), span[1].hex(), system.rtol.hex(), system.widest.hex(), method]
    digest.update(json.dumps(settings).encode())
    for name, function in {"f": system.rhs.function, **functions}.items():
        digest.update(name.encode() + b"=" + _identity(function) + b";")
    digest.update(_identity(system.rhs.arguments))
    return digest.hexdigest()


def _identity(thing: Any, depth: int = 3) -> bytes:
    """Return what tells functions and values apart: code, constants, what is enclosed; numbers; else types."""
    thing = getattr(thing, "py_func", thing)  # that of numba
    if hasattr(thing, "__code__") and depth > 0:
        cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != CellType()]
        cells = [None if isinstance(value, list) else value for value in cells]  # counters and the like
        return _identity([thing.__code__, thing.__defaults__, cells], depth - 1)
    if isinstance(thing, CodeType):
        thing = [thing.co_code, thing.co_names, *thing.co_consts]
    if isinstance(thing, (list, tuple)):
        return b"[" + b",".join(_identity(part, depth) for part in thing) + b"]"
    if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes)):
        return repr(thing).encode()
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "biufcSU":
        return f"{thing.dtype} {thing.shape} ".encode() + thing.tobytes()
    return type(thing).__qualname__.encode()


def _go_on(runs: list[Run], path: str | os.PathLike[str], every: float, fingerprint: str) -> None:
    """Run all, one after the other, from the checkpoint where there is one."""
    from theorykit.flow.ode import checkpoint

    def keep() -> None:
        arrays = {f"{k}_{key}": value for k, run in enumerate(runs) for key, value in run.pack().items()}
        checkpoint.write(path, arrays | {"fingerprint": np.array(fingerprint), "runs": np.array(len(runs))})

    kept = checkpoint.read(path, fingerprint)
    if kept is not None:
        if int(kept["runs"]) != len(runs):
            raise InputError(
                "checkpoint", f"one of {int(kept['runs'])} runs", f"one of {len(runs)}: companion, confirm"
            )
        for k, run in enumerate(runs):
            run.unpack({key.removeprefix(f"{k}_"): value for key, value in kept.items() if key.startswith(f"{k}_")})
    for run in runs:
        run.go(every, keep)
    if os.path.exists(path):
        os.remove(path)


def _solution(runs: list[Run], companion: bool, confirm: bool, asked: str) -> Solution:
    """Compare the runs and put the result together."""
    main = runs[0]
    others = runs[1:] if companion else []
    integrator = main.integrator
    y, states_t = np.array(main.y).reshape(len(main.y), -1), np.array(main.states_t)
    stats = {name: np.array(values) for name, values in main.stats.items()}
    system = integrator.system
    floor = np.max(system.atol + system.rtol * np.abs(y), axis=1, initial=0.0)
    y_error = _estimate(y, [np.array(other.y).reshape(len(other.y), -1) for other in others]).max(axis=1, initial=0.0)
    y_error = y_error + floor
    errors = {
        name: _estimate(value, [np.array(other.stats[name]) for other in others]) + system.rtol * np.abs(value)
        for name, value in stats.items()
    }
    status = integrator.status
    message = f"{status.value} (t = {integrator.t:.8g})"
    counts = integrator.counts
    attempts = counts["steps"] + counts["rejected"]
    if attempts > 50 and counts["rejected"] > _MANY_REJECTED * attempts:
        message += f"; {counts['rejected']} of {attempts} steps were rejected: f may not be smooth"
    if others:
        counts |= {f"companion_{name}": count for name, count in others[0].integrator.counts.items()}
    confirmed = _confirmed(main, runs[-1]) if confirm else None
    return Solution(
        np.array(main.t), stats, errors, states_t, y, y_error, integrator.t, integrator.y,
        tuple(_with_error(main.found, [other.found for other in others])),
        {watch.event.name: (watch.closest, watch.closest_t) for watch in main.watches},
        status.name.lower(), message, integrator.method.name, tuple(integrator.switches), counts,
        _settings(main, asked), confirmed, sum(run.wall_s for run in runs), tuple(r for r in main.path if r.t.size),
    )  # fmt: skip


def _estimate(mine: Array, others: list[Array]) -> Array:
    """Return the largest distance to the other runs at this save time and the ones before and after it.

    A difference of two solutions passes through zero now and then, where it says nothing; its neighbours rarely do.
    """
    if not others:
        return np.full(mine.shape, np.nan)
    distance = np.max([_distance(mine, other) for other in others], axis=0)
    wide = distance.copy()
    wide[1:] = np.maximum(wide[1:], distance[:-1])
    wide[:-1] = np.maximum(wide[:-1], np.where(np.isfinite(distance[1:]), distance[1:], 0.0))
    return wide


def _distance(mine: Array, others: Array) -> Array:
    """Return |mine - others| entry by entry, infinite where the others ended before."""
    distance = np.full(mine.shape, np.inf)
    common = min(len(mine), len(others))
    if common:
        distance[:common] = np.abs(mine[:common] - others[:common])
    return distance


def _with_error(found: list[Found], others: list[list[Found]]) -> list[Found]:
    """Return the events with the shift against the same event of each other run added to their error."""
    from dataclasses import replace

    if not others:
        return [replace(event, error=math.nan) for event in found]
    result = []
    seen: dict[str, int] = {}
    for event in found:
        position = seen[event.name] = seen.get(event.name, -1) + 1
        shift = 0.0
        for other in others:
            same = [candidate for candidate in other if candidate.name == event.name]
            matches = position < len(same) and same[position].direction == event.direction
            shift = max(shift, abs(same[position].t - event.t) if matches else math.inf)
        result.append(replace(event, error=event.error + shift))
    return result


def _confirmed(main: Run, tighter: Run) -> dict[str, Any]:
    """Return how far the run at a tenth of the tolerance is from the main one."""
    y, other = np.array(main.y), np.array(tighter.y)
    stats = {
        name: float(np.max(_distance(np.array(values), np.array(tighter.stats[name])), initial=0.0))
        for name, values in main.stats.items()
    }
    return {
        "rtol": tighter.integrator.system.rtol,
        "states": float(np.max(_distance(y, other), initial=0.0)),
        "stats": stats,
        "status": tighter.integrator.status.name.lower(),
    }


def _settings(main: Run, asked: str) -> dict[str, Any]:
    import numba

    from theorykit._version import __version__

    system = main.integrator.system
    return {
        "method": asked, "rtol": system.rtol, "atol": float(system.atol.max()), "n": system.n,
        "t_span": (main.integrator.t0, main.integrator.t_end), "max_steps": main.max_steps,
        "theorykit": __version__, "numpy": np.__version__, "numba": numba.__version__,
    }  # fmt: skip
