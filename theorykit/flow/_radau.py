"""The compiled implicit driver: Radau IIA of order 5, adaptive, with dense output, in chunks of steps.

One driver for all models: the right-hand side, its Jacobian and the monitor come in as first-class functions of the
signatures in `theorykit._numerics.signatures`, so that nothing here is compiled a second time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, types

from theorykit._numerics.compile import compiled
from theorykit._numerics.signatures import INTEGERS, JACOBIAN, MATRIX, MONITOR, PACK, RHS, VECTOR
from theorykit.flow.tableaus import RADAU_IIA_5

_C, _T, _T_INV = RADAU_IIA_5.c, RADAU_IIA_5.T, RADAU_IIA_5.T_inv
_ERROR, _DENSE = RADAU_IIA_5.error, RADAU_IIA_5.dense
_GAMMA, _MU = RADAU_IIA_5.gamma, RADAU_IIA_5.mu.conjugate()

RUNNING, REACHED_END, MONITOR_STOPPED, STEP_TOO_SMALL, NOT_FINITE = range(5)

# state[...] carried from chunk to chunk
H, H_OLD, ERROR_OLD, ETA, HAVE_PREDICTOR, H_SAFE, BEGUN, FRESH_JACOBIAN, FACTORED_H = range(9)
# counts[...]
STEPS, REJECTED, RHS_BATCHES, JACOBIANS, FACTORISATIONS = range(5)

_NEWTON_ITERATIONS = 7
_CUBE = types.Array(float64, 3, "C")


@compiled()
def _norm(x, scale):
    return math.sqrt(np.mean((x / scale) ** 2))


@compiled()
def _newton(rhs, t, y, h, z, scale, tolerance, real_inverse, complex_inverse, pack, eta):
    """Solve the collocation equations for the stage increments z (3, r) in place."""
    w = np.dot(_T_INV, z)
    f = np.empty_like(z)
    times = t + h * _C
    rate = 0.0
    previous = 0.0
    r = y.shape[0]
    for iteration in range(_NEWTON_ITERATIONS):
        rhs(times, y + z, pack, f)
        if not np.all(np.isfinite(f)):
            return False, iteration + 1, rate, eta
        g = np.dot(_T_INV, f)
        dw = np.empty_like(w)
        dw[0] = np.dot(real_inverse, g[0] - (_GAMMA / h) * w[0])
        residual = np.empty(r, dtype=np.complex128)
        for i in range(r):
            residual[i] = complex(g[1, i], g[2, i]) - (_MU / h) * complex(w[1, i], w[2, i])
        solution = np.dot(complex_inverse, residual)
        dw[1] = solution.real
        dw[2] = solution.imag
        size = 0.0
        for s in range(3):
            for i in range(r):
                size += (dw[s, i] / scale[i]) ** 2
        size = math.sqrt(size / (3 * r))
        if iteration > 0:
            rate = size / previous
            if rate >= 1.0 or rate ** (_NEWTON_ITERATIONS - 1 - iteration) / (1.0 - rate) * size > tolerance:
                return False, iteration + 1, rate, eta
            eta = rate / (1.0 - rate)
        w += dw
        z[:, :] = np.dot(_T, w)
        if size == 0.0 or eta * size < tolerance:
            return True, iteration + 1, rate, eta
        previous = size
    return False, _NEWTON_ITERATIONS, rate, eta


@compiled(
    types.UniTuple(int64, 2)(
        types.FunctionType(RHS),
        types.FunctionType(JACOBIAN),
        types.FunctionType(MONITOR),
        float64,
        float64,
        VECTOR,
        float64,
        float64,
        float64,
        VECTOR,
        MATRIX,
        VECTOR,
        MATRIX,
        INTEGERS,
        PACK,
        VECTOR,
        VECTOR,
        MATRIX,
        _CUBE,
    ),
    nogil=True,
)
def advance(
    rhs, jac, monitor, t, t_end, y, rtol, atol, widest, state, last, f, j, counts, pack, times, widths, values, dense
):
    """Take accepted steps (none wider than `widest`) until the end, the monitor's word, trouble, or a full record.

    y (r,) and what is carried on to the next call are updated in place: `state`, the last dense coefficients `last`
    (3, r), the derivative f (r,) and the Jacobian j (r, r); `state` is zero but for H, ETA and H_SAFE before the first
    one. The record of each step is its start time, its width, its start value (r,) and its dense coefficients (3, r).
    How many steps are taken in one call makes no difference. Returns (steps recorded, status).
    """
    r = y.shape[0]
    tolerance = max(10.0 * 2.2e-16 / rtol, min(0.03, rtol**0.25))
    single_time, single_y, single_f = np.empty(1), np.empty((1, r)), np.empty((1, r))
    if state[BEGUN] == 0.0:
        single_time[0] = t
        single_y[0] = y
        rhs(single_time, single_y, pack, single_f)
        f[:] = single_f[0]
        if not np.all(np.isfinite(f)):
            return 0, NOT_FINITE
        jac(t, y, pack, j)
        counts[RHS_BATCHES] += 1
        counts[JACOBIANS] += 1
        state[BEGUN] = state[FRESH_JACOBIAN] = 1.0
    inverted = False
    real_inverse = np.empty((r, r))
    complex_inverse = np.empty((r, r), dtype=np.complex128)
    identity = np.eye(r)
    recorded = 0
    while recorded < times.shape[0]:
        h = min(state[H], widest)
        smallest = 10.0 * abs(np.nextafter(t, np.inf) - t)
        rejected = False
        accepted = False
        while not accepted:
            if h < smallest:
                return recorded, STEP_TOO_SMALL
            final = t + h >= t_end - smallest
            if final:
                h = t_end - t
            if h != state[FACTORED_H] or not inverted:
                matrix = _GAMMA / h * identity - j
                if not np.all(np.isfinite(matrix)):
                    return recorded, NOT_FINITE
                real_inverse[:, :] = np.linalg.inv(matrix)
                complex_inverse[:, :] = np.linalg.inv(_MU / h * identity - j)
                if h != state[FACTORED_H]:
                    counts[FACTORISATIONS] += 1
                state[FACTORED_H], inverted = h, True
            z = np.empty((3, r))
            if state[HAVE_PREDICTOR] == 0.0:
                for s in range(3):
                    z[s] = _C[s] * h * f
            else:  # extrapolate the last collocation polynomial
                for s in range(3):
                    x = 1.0 + _C[s] * h / state[H_OLD]
                    for i in range(r):
                        z[s, i] = x * (last[0, i] + x * (last[1, i] + x * last[2, i])) - (
                            last[0, i] + last[1, i] + last[2, i]
                        )
            scale = atol + rtol * np.abs(y)
            converged, iterations, rate, eta = _newton(
                rhs, t, y, h, z, scale, tolerance, real_inverse, complex_inverse, pack, max(state[ETA], 1e-16) ** 0.8
            )
            counts[RHS_BATCHES] += iterations
            if not converged:
                counts[REJECTED] += 1
                state[ETA] = 1.0
                if state[FRESH_JACOBIAN] == 0.0:
                    jac(t, y, pack, j)
                    counts[JACOBIANS] += 1
                    state[FRESH_JACOBIAN] = 1.0
                    state[FACTORED_H] = 0.0
                else:
                    state[H_SAFE] = 0.8 * h  # remembered, and forgotten slowly: else every second step would fail
                    h *= 0.5
                rejected = True
                continue
            state[ETA] = eta
            y_new = y + z[2]
            increments = np.dot(_ERROR, z) / h
            error = np.dot(real_inverse, f + increments)
            scale = atol + rtol * np.maximum(np.abs(y), np.abs(y_new))
            error_norm = _norm(error, scale)
            safety = 0.9 * (2 * _NEWTON_ITERATIONS + 1) / (2 * _NEWTON_ITERATIONS + iterations)
            if error_norm > 1.0 and (rejected or state[HAVE_PREDICTOR] == 0.0):
                single_time[0] = t
                single_y[0] = y + error
                rhs(single_time, single_y, pack, single_f)
                counts[RHS_BATCHES] += 1
                error = np.dot(real_inverse, single_f[0] + increments)
                error_norm = _norm(error, scale)
            if not error_norm <= 1.0:
                counts[REJECTED] += 1
                factor = safety * error_norm**-0.25 if math.isfinite(error_norm) else 0.1
                h *= max(0.1, factor)
                rejected = True
                continue
            accepted = True
        # predictive step control (Gustafsson), as in Hairer and Wanner IV.8
        factor = 10.0 if error_norm == 0.0 else error_norm**-0.25
        if state[ERROR_OLD] > 0.0 and error_norm > 0.0:
            factor = min(factor, factor * h / state[H_OLD] * (state[ERROR_OLD] / error_norm) ** 0.25)
        factor = min(10.0, max(0.2, safety * factor))
        if rejected:
            factor = min(factor, 1.0)
        times[recorded] = t
        widths[recorded] = h
        values[recorded] = y
        q = np.dot(_DENSE.T.copy(), z)
        dense[recorded] = q
        last[:, :] = q
        recorded += 1
        counts[STEPS] += 1
        y[:] = y_new
        t = t_end if final else t + h
        state[H_OLD] = h
        state[ERROR_OLD] = max(error_norm, 1e-10)
        state[HAVE_PREDICTOR] = 1.0
        refresh = iterations > 2 and rate > 1e-3
        if not refresh and factor < 1.2 and factor >= 1.0:
            factor = 1.0
        state[H_SAFE] = max(1.1 * state[H_SAFE], h)
        state[H] = min(h * factor, widest, state[H_SAFE])
        if t >= t_end:
            return recorded, REACHED_END
        if monitor(t, y, pack):
            return recorded, MONITOR_STOPPED
        # the derivative at the new point is that of the collocation polynomial: its error is the Newton iteration's,
        # and it spares one evaluation a step
        f[:] = (q[0] + 2.0 * q[1] + 3.0 * q[2]) / h
        state[FRESH_JACOBIAN] = 0.0
        if refresh:
            jac(t, y, pack, j)
            counts[JACOBIANS] += 1
            state[FRESH_JACOBIAN] = 1.0
            state[FACTORED_H] = 0.0
    return recorded, RUNNING
