"""The integration methods behind one face: what they are called, the memory they need, one call of their driver."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theorykit._numerics.errors import unknown_name
from theorykit._numerics.threads import one_blas_thread
from theorykit.flow.ode._drive import COUNT_NAMES, STATE_SIZE, H, T
from theorykit.flow.ode.functions import Function
from theorykit.flow.ode.jacobian import LowRankJacobian, NestedJacobian
from theorykit.flow.tableaus import DOP853, TSIT5, ExplicitTableau, chebyshev, radau_iia

Array = NDArray[np.float64]
Memory = dict[str, NDArray[Any]]

METHODS = ("auto", "tsit5", "dop853", "rkc2", "radau", "radau5", "radau9", "radau13")
_STAGES = {"radau5": 3, "radau9": 5, "radau13": 7}
_DENSE_LIMIT = 400  # unknowns up to which a Jacobian by differences and dense factors are affordable
_MOST_STAGES = 400  # of the stabilised method


@dataclass
class System:
    """What is integrated: f, its Jacobian, the tolerances.

    Attributes
    ----------
    rhs, jacobian : Function
        The Jacobian is None where it is approximated.
    n : int
        Number of unknowns.
    rtol, atol : float, ndarray of shape (n,)
        Local error of a step: below atol + rtol |y| in the root mean square.
    widest : float
        Largest step.
    radius : float
        Spectral radius of the Jacobian for the stabilised method; 0 where it is estimated.
    krylov : bool
        Whether the Jacobian may only act on vectors.
    nested : Function or None
        (y, c) -> (F, c(t, y)) where f is nested, see `NestedJacobian`.
    """

    rhs: Function
    jacobian: Function | None
    n: int
    rtol: float
    atol: Array
    widest: float
    radius: float
    krylov: bool = False
    nested: Function | None = None

    @property
    def low_rank(self) -> int | None:
        """Rank of the low-rank part of a structured Jacobian."""
        given = self.jacobian.function if self.jacobian is not None else None
        if isinstance(given, LowRankJacobian) or (isinstance(given, NestedJacobian) and not given.dense):
            return given.rank
        return None

    @property
    def inner(self) -> int:
        """How many numbers f is nested in."""
        return self.nested.shape[0] - self.n if self.nested is not None else 0

    @property
    def affordable(self) -> bool:
        """Whether the linear algebra of an implicit method is direct."""
        return not self.krylov and (self.jacobian is not None or self.n <= _DENSE_LIMIT)


@dataclass
class Record:
    """Steps in full: start t, width h, value (n,) at the start, coefficients (degree, n) of the dense output."""

    t: Array
    h: Array
    y: Array
    dense: NDArray[np.float64]

    @classmethod
    def empty(cls, size: int, degree: int, n: int) -> Record:
        """Return a record of `size` steps to be filled."""
        return cls(np.zeros(size), np.zeros(size), np.zeros((size, n)), np.zeros((size, degree, n)))

    def first(self, count: int) -> Record:
        """Return copies of the first `count` steps."""
        return Record(self.t[:count].copy(), self.h[:count].copy(), self.y[:count].copy(), self.dense[:count].copy())

    def at(self, index: int, t: float) -> Array:
        """Return y at a time in one step."""
        x = (t - self.t[index]) / self.h[index]
        powers = x ** np.arange(1, self.dense.shape[1] + 1)
        value: Array = self.y[index] + powers @ self.dense[index]
        return value


@dataclass
class Point:
    """Where a run is: everything its next step depends on."""

    y: Array
    memory: Memory
    state: Array = field(default_factory=lambda: np.zeros(STATE_SIZE))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(COUNT_NAMES), dtype=np.int64))

    @property
    def t(self) -> float:
        """The time."""
        return float(self.state[T])

    @property
    def h(self) -> float:
        """The size of the next step."""
        return float(self.state[H])


class Method(Protocol):
    """What an integrator asks of a method."""

    name: str
    degree: int

    def allocate(self, system: System) -> Memory:
        """Return the arrays that the driver keeps between steps."""

    def advance(
        self, system: System, point: Point, t_end: float, most: int, wanted: Array, record_all: bool, record: Record
    ) -> tuple[int, int]:
        """Take at most `most` steps; return how many were recorded, and the driver's status."""


class Explicit:
    """An explicit pair."""

    def __init__(self, tableau: ExplicitTableau) -> None:
        self.tableau, self.name, self.degree = tableau, tableau.name, tableau.dense.shape[0]

    def allocate(self, system: System) -> Memory:
        """Return the stages and two points."""
        return {"k": np.zeros((self.tableau.A.shape[0], system.n)), "work": np.zeros((4, system.n))}

    def advance(
        self, system: System, point: Point, t_end: float, most: int, wanted: Array, record_all: bool, record: Record
    ) -> tuple[int, int]:
        """Take at most `most` steps."""
        from theorykit.flow.ode._explicit import advance

        r, m = self.tableau, point.memory
        result: tuple[int, int] = advance(
            system.rhs.pointer, system.rhs.pack, t_end, point.y, system.rtol, system.atol, system.widest, most,
            point.state, point.counts,
            r.order, r.error_order, r.stages, r.A, r.c, r.error, r.dense, r.stability, m["k"], m["work"],
            wanted, record_all, record.t, record.h, record.y, record.dense,
        )  # fmt: skip
        return result


class Radau:
    """Radau IIA with dense, low-rank or Krylov linear algebra."""

    def __init__(self, stages: int) -> None:
        self.tableau, self.degree, self.name = radau_iia(stages), stages, f"radau{2 * stages - 1}"

    def allocate(self, system: System) -> Memory:
        """Return slope, Jacobian, factors, stages and the last polynomial."""
        n, s = system.n, self.tableau.c.size
        pairs = s // 2
        rank = system.low_rank
        rows = n if system.affordable else 0
        shape, factors = (rows + 2 * system.inner, n), (rows, n)
        if rank is not None:
            shape, factors = (1 + 2 * rank, n), (1 + rank, n)
        return {
            "f": np.zeros(n), "jacobian": np.zeros(shape), "real": np.zeros(factors),
            "complex": np.zeros((pairs, *factors), dtype=np.complex128),
            "pivots": np.zeros((pairs + 1, n), dtype=np.int64), "work": np.zeros((4, s, n)), "last": np.zeros((s, n)),
            "inner": np.zeros(system.inner),
        }  # fmt: skip

    def advance(
        self, system: System, point: Point, t_end: float, most: int, wanted: Array, record_all: bool, record: Record
    ) -> tuple[int, int]:
        """Take at most `most` steps."""
        from theorykit.flow._dense import SMALL
        from theorykit.flow.ode._implicit import advance, no_jacobian
        from theorykit.flow.ode._linear import DENSE, KRYLOV, LOW_RANK

        r, m, given = self.tableau, point.memory, system.jacobian
        kind = LOW_RANK if system.low_rank is not None else DENSE if system.affordable else KRYLOV
        # the factors of middling systems, by LAPACK, only wait for one another on several threads
        lapack = system.affordable and system.n <= _DENSE_LIMIT and not (kind == DENSE and system.n <= SMALL)
        nested = system.nested or system.rhs
        threads = one_blas_thread() if lapack else contextlib.nullcontext()
        with threads:
            result: tuple[int, int] = advance(
                system.rhs.pointer, given.pointer if given else no_jacobian, system.rhs.pack,
                given.pack if given else np.zeros(0), nested.pointer, nested.pack, m["inner"],
                t_end, point.y, system.rtol, system.atol, system.widest, most,
                point.state, point.counts, kind, given is None,
                r.error_order, r.c, r.gamma, r.mu.conj(), r.T, r.T_inv, r.error, r.dense, r.series,
                m["f"], m["jacobian"], m["real"], m["complex"], m["pivots"], m["work"], m["last"],
                wanted, record_all, record.t, record.h, record.y, record.dense,
            )  # fmt: skip
        return result


class Stabilised:
    """RKC2 with as many stages as stability asks for."""

    name, degree = "rkc2", 3

    def allocate(self, system: System) -> Memory:
        """Return slope, dominant vector and stages."""
        return {"f": np.zeros(system.n), "dominant": np.zeros(system.n), "work": np.zeros((6, system.n))}

    def advance(
        self, system: System, point: Point, t_end: float, most: int, wanted: Array, record_all: bool, record: Record
    ) -> tuple[int, int]:
        """Take at most `most` steps."""
        from theorykit.flow.ode._stabilised import advance

        m = point.memory
        result: tuple[int, int] = advance(
            system.rhs.pointer, system.rhs.pack, t_end, point.y, system.rtol, system.atol, system.widest, most,
            point.state, point.counts, system.radius, *_chebyshev_tables(), m["f"], m["dominant"], m["work"],
            wanted, record_all, record.t, record.h, record.y, record.dense,
        )  # fmt: skip
        return result


@functools.cache
def _chebyshev_tables() -> tuple[Array, Array, Array]:
    """Return numbers of stages, a tenth apart, their stability limits, and five rows of coefficients for each."""
    sizes = [2]
    while sizes[-1] < _MOST_STAGES:
        sizes.append(max(sizes[-1] + 1, int(1.1 * sizes[-1])))
    tables = np.zeros((5 * len(sizes), sizes[-1] + 1))
    limits = np.zeros(len(sizes))
    for index, s in enumerate(sizes):
        r = chebyshev(s)
        limits[index] = 0.98 * r.stability
        tables[5 * index : 5 * index + 5, : s + 1] = r.mu, r.nu, r.mu_tilde, r.gamma_tilde, r.c
    return np.array(sizes, dtype=np.float64), limits, tables


@functools.cache
def method(name: str, rtol: float) -> Method:
    """Return the method of a name; "radau" has more stages the tighter the tolerance is."""
    if name == "tsit5":
        return Explicit(TSIT5)
    if name == "dop853":
        return Explicit(DOP853)
    if name == "rkc2":
        return Stabilised()
    if name == "radau":
        return Radau(3 if rtol > 3e-4 else 5 if rtol > 3e-8 else 7)
    if name in _STAGES:
        return Radau(_STAGES[name])
    raise unknown_name("method", name, list(METHODS))
