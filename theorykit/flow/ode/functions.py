"""Right-hand sides and Jacobians as the drivers take them: numba functions as they are, Python functions by a callback.

Both come as first-class functions of one signature, so that no driver is ever compiled for a new one.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float64, int64
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numpy.typing import NDArray

from theorykit._numerics.compile import compiled
from theorykit._numerics.errors import InputError
from theorykit.flow.ode._drive import JACOBIAN, RHS
from theorykit.flow.ode.jacobian import LowRankJacobian, NestedJacobian

Array = NDArray[np.float64]
_MOST_VIEWS = 256
_C_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_double, ctypes.c_int64, ctypes.c_int64)


@intrinsic
def _call(typing, address, t, y, out):  # type: ignore[no-untyped-def]
    """Call the C function at an address with (t, address of y, address of out); it returns 0 when all went well."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        integer = ir.IntType(64)
        function = ir.FunctionType(integer, [ir.DoubleType(), integer, integer]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), arguments[1:])

    return int64(int64, float64, int64, int64), generate


@compiled(RHS)
def _vector_callback(t, y, pack, out):  # type: ignore[no-untyped-def]
    """Call back into Python; the pack is the address."""
    if _call(pack.view(np.int64)[0], t, y.ctypes.data, out.ctypes.data) != 0:
        raise RuntimeError("callback failed")


@compiled(JACOBIAN)
def _matrix_callback(t, y, pack, out):  # type: ignore[no-untyped-def]
    """Call back into Python; the pack is the address."""
    if _call(pack.view(np.int64)[0], t, y.ctypes.data, out.ctypes.data) != 0:
        raise RuntimeError("callback failed")


class Function:
    """A right-hand side or a Jacobian, ready for a driver.

    Attributes
    ----------
    pointer : numba function
        What the driver calls.
    pack : ndarray
        Its parameters: those of a numba function, or the address of a callback into Python.
    """

    def __init__(
        self, function: Any, arguments: tuple[Any, ...], shape: tuple[int, ...], name: str, inner: int = 0
    ) -> None:
        self.function, self.arguments, self.shape, self.name = function, arguments, shape, name
        self._given = shape[-1] + inner  # numbers that it is a function of
        self.failure: BaseException | None = None
        self._views: dict[int, Array] = {}
        self.is_compiled = isinstance(function, Dispatcher)
        if self.is_compiled:
            self.pointer = function
            self.pack = _parameters(arguments)
        else:
            self._callback = _C_CALLBACK(self._serve)
            address = ctypes.cast(self._callback, ctypes.c_void_p).value
            self.pointer = _vector_callback if len(shape) == 1 else _matrix_callback
            self.pack = np.array([address], dtype=np.int64).view(np.float64)

    def __call__(self, t: float, y: Array) -> Array:
        """Return the value at one point, checked; what the function raises comes out as itself."""
        out = np.full(self.shape, np.nan)
        if self.is_compiled:
            try:
                self.function(float(t), y.copy(), self.pack, out)
            except (NumbaError, TypeError) as problem:
                got = f"a numba function that fails: {(str(problem).strip() or 'unknown').splitlines()[0]}"
                raise InputError(self.name, got, "one that writes into its last argument: (t, y, p, out)") from None
            return out
        self._store(self._evaluate(t, y.copy()), out)
        return out

    def _evaluate(self, t: float, y: Array) -> Any:
        if isinstance(self.function, LowRankJacobian | NestedJacobian):
            n = self.shape[-1]
            given = (y[:n], y[n:]) if isinstance(self.function, NestedJacobian) else (y,)
            parts = first, u, v = self.function.parts(t, *given, *self.arguments)
            try:
                return np.vstack([np.atleast_2d(first), np.transpose(u), np.transpose(v)])
            except ValueError:
                got = "parts of shapes " + ", ".join(str(np.shape(part)) for part in parts)
                raise InputError(self.name, got, f"parts of {self.shape[0]} rows of {self.shape[1]} in all") from None
        return self.function(t, y, *self.arguments)

    def _store(self, value: Any, out: Array) -> None:
        if np.shape(value) != self.shape:
            whose = ", that of y0" if len(self.shape) == 1 else ""
            raise InputError(self.name, f"a value of shape {np.shape(value)}", f"shape {self.shape}{whose}")
        if np.iscomplexobj(value):
            raise InputError(self.name, "complex numbers", "real numbers: split y into real and imaginary parts")
        out[...] = value

    def _serve(self, t: float, y_address: int, out_address: int) -> int:
        """Answer the driver: 0, or 1 with the exception kept for `reraise`."""
        try:
            y = self._view(y_address, (self._given,))
            # a copy: the user may keep it, the driver will overwrite its own
            self._store(self._evaluate(t, y.copy()), self._view(out_address, self.shape))
        except BaseException as problem:
            self.failure = problem
            return 1
        return 0

    def _view(self, address: int, shape: tuple[int, ...]) -> Array:
        """Return the memory at an address as an array; a driver uses few addresses, again and again."""
        key = address if len(shape) == 1 else -address
        view = self._views.get(key)
        if view is None:
            if len(self._views) > _MOST_VIEWS:
                self._views.clear()
            memory = (ctypes.c_double * int(np.prod(shape))).from_address(address)
            view = self._views[key] = np.ctypeslib.as_array(memory).reshape(shape)
        return view

    def reraise(self) -> None:
        """Raise what the user's function raised inside a callback, if it did."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure.with_traceback(failure.__traceback__)


def _parameters(arguments: tuple[Any, ...]) -> Array:
    """Return the parameters of a numba function as one vector of floats."""
    if not arguments:
        return np.zeros(0)
    try:
        return np.concatenate([np.ravel(np.asarray(a, dtype=np.float64)) for a in arguments])
    except (ValueError, TypeError):
        wanted = "numbers or arrays: a numba f sees them as one vector p"
        raise InputError("args", "something that is not numbers", wanted) from None
