"""The compiled stabilised explicit driver: RKC2 with as many stages as stability asks for, adaptive, with dense output.

The spectral radius comes from a power iteration on differences of f (Sommeijer, Shampine and Verwer 1998), enlarged by
a fifth and made anew after 25 steps or a rejection. Eigenvalues have to lie near the negative real axis.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, types

from theorykit._numerics.compile import compiled
from theorykit.flow.ode._drive import (
    AGE,
    COUNTS,
    ERROR_OLD,
    EVALUATIONS,
    FAILURE,
    H_OLD,
    MATRIX,
    NOT_FINITE,
    RADIUS,
    REACHED_END,
    RECORD,
    REJECTED,
    RHS,
    RUNNING,
    STARTED,
    STEP_TOO_SMALL,
    STEPS,
    VECTOR,
    H,
    T,
    factor,
    scaled_norm,
    smallest_step,
    start,
)

_POWER_ITERATIONS = 50
_SHORTER = 5  # of ten times each, of the step of its differences
_AGE = 25.0  # accepted steps for which a spectral radius is trusted
_SURE = 1.2  # what the estimate is multiplied with


@compiled(types.void(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, float64, VECTOR, VECTOR, VECTOR))
def _difference(rhs, pack, t, y, f, step, direction, moved, out):
    """Write f(y + step direction) - f(y)."""
    for i in range(y.shape[0]):
        moved[i] = y[i] + step * direction[i]
    rhs(t, moved, pack, out)
    for i in range(y.shape[0]):
        out[i] -= f[i]


@compiled(
    float64(
        types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, float64, VECTOR, float64, VECTOR, VECTOR, COUNTS
    )
)  # fmt: skip
def _linear(rhs, pack, t, y, f, step, direction, length, moved, difference, counts):
    """Return a step, at most the given one, over which f is linear: as long forwards as backwards.

    Where f depends on small differences of large numbers a step of 1e-8 of y may lead to where f is another function.
    """
    for _ in range(_SHORTER):
        _difference(rhs, pack, t, y, f, step / length, direction, moved, difference)
        forwards = np.dot(difference, difference)
        _difference(rhs, pack, t, y, f, -step / length, direction, moved, difference)
        backwards = np.dot(difference, difference)
        counts[EVALUATIONS] += 2
        if max(forwards, backwards) <= 4.0 * min(forwards, backwards):
            return step
        step *= 0.1
    return step


@compiled(float64(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, COUNTS))
def spectral_radius(rhs, pack, t, y, f, direction, moved, difference, counts):
    """Return an upper estimate of the spectral radius of df/dy; `direction` holds the dominant vector between calls."""
    n = y.shape[0]
    size = math.sqrt(np.dot(y, y))
    length = math.sqrt(np.dot(direction, direction))
    if length == 0.0:
        direction[:] = f
        for i in range(n):  # a vector with a part in every direction
            direction[i] += 1e-3 * (1.0 + i % 7) * max(abs(f[i]), 1e-30)
        length = math.sqrt(np.dot(direction, direction))
        if length == 0.0:
            return 0.0
    step = _linear(rhs, pack, t, y, f, 1.5e-8 * max(size, 1e-8), direction, length, moved, difference, counts)
    radius = 0.0
    for iteration in range(_POWER_ITERATIONS):
        _difference(rhs, pack, t, y, f, step / length, direction, moved, difference)
        counts[EVALUATIONS] += 1
        length = math.sqrt(np.dot(difference, difference))
        old, radius = radius, length / step
        if length == 0.0 or not math.isfinite(length):
            return radius
        direction[:] = difference
        if iteration > 0 and abs(radius - old) <= 0.01 * radius:
            break
    return _SURE * radius


@compiled(
    types.void(types.FunctionType(RHS), VECTOR, float64, float64, VECTOR, VECTOR, int64, MATRIX, MATRIX, VECTOR, COUNTS)
)
def _stages(rhs, pack, t, h, y, f, s, table, work, out, counts):
    """Write the new point of a step with s stages; `table` has the rows mu, nu, mu_tilde, gamma_tilde, c."""
    n = y.shape[0]
    before, now, slope = work[0], work[1], work[2]
    for i in range(n):
        before[i] = y[i]
        now[i] = y[i] + h * table[2, 1] * f[i]
    for j in range(2, s + 1):
        rhs(t + table[4, j - 1] * h, now, pack, slope)
        mu, nu = table[0, j], table[1, j]
        fresh, old = h * table[2, j], h * table[3, j]
        for i in range(n):
            new = (1.0 - mu - nu) * y[i] + mu * now[i] + nu * before[i] + fresh * slope[i] + old * f[i]
            before[i] = now[i]
            now[i] = new
    counts[EVALUATIONS] += s - 1
    out[:] = now


@compiled(
    types.UniTuple(int64, 2)(
        types.FunctionType(RHS), VECTOR, float64, VECTOR, float64, VECTOR, float64, int64, VECTOR, COUNTS,
        float64, VECTOR, VECTOR, MATRIX, VECTOR, VECTOR, MATRIX, *RECORD,
    )
)  # fmt: skip
def advance(
    rhs, pack, t_end, y, rtol, atol, widest, most, state, counts,
    given_radius, sizes, limits, tables, f, direction_of_radius, work,
    wanted, record_all, times, widths, values, dense,
):  # fmt: skip
    """Take at most `most` accepted steps; y, f (n,), state, counts and the dominant vector change in place.

    `sizes` are the numbers of stages on offer, `limits` their stability limits, `tables` their coefficients, five rows
    each. Returns (steps recorded, status).
    """
    n = y.shape[0]
    if state[STARTED] == 0.0:
        status = start(rhs, pack, t_end, y, f, rtol, atol, widest, 2, state, counts)
        if status != RUNNING:
            return 0, status
        state[AGE] = 2.0 * _AGE
    t = state[T]
    direction = 1.0 if t_end >= t else -1.0
    new, slope, error = work[3], work[4], work[5]
    recorded, next_wanted = 0, 0
    for _ in range(most):
        if recorded == times.shape[0]:
            break
        rejected = 0.0
        while True:
            if state[AGE] >= _AGE:
                if given_radius > 0.0:
                    state[RADIUS] = given_radius
                else:
                    state[RADIUS] = spectral_radius(rhs, pack, t, y, f, direction_of_radius, new, slope, counts)
                if not math.isfinite(state[RADIUS]):
                    return recorded, NOT_FINITE
                state[AGE] = 0.0
            h = min(state[H], widest)
            if state[RADIUS] > 0.0:
                h = min(h, limits[-1] / state[RADIUS])
            if h < smallest_step(t):
                return recorded, NOT_FINITE if state[FAILURE] == 1.0 else STEP_TOO_SMALL
            final = h * 1.01 >= abs(t_end - t)
            h = t_end - t if final else direction * h
            choice = 0
            while choice + 1 < limits.shape[0] and limits[choice] < abs(h) * state[RADIUS]:
                choice += 1
            _stages(rhs, pack, t, h, y, f, int(sizes[choice]), tables[5 * choice : 5 * choice + 5], work, new, counts)
            t_new = t_end if final else t + h
            rhs(t_new, new, pack, slope)
            counts[EVALUATIONS] += 1
            for i in range(n):
                error[i] = 0.8 * (y[i] - new[i]) + 0.4 * h * (f[i] + slope[i])
            norm = scaled_norm(error, y, new, rtol, atol)
            if norm <= 1.0:
                break
            counts[REJECTED] += 1
            rejected = 1.0
            bad = not math.isfinite(norm)
            state[FAILURE] = 1.0 if bad else 0.0
            state[H] = abs(h) * (0.1 if bad else factor(norm, 1.0, rejected, 3))
            if state[AGE] > 0.0:
                state[AGE] = 2.0 * _AGE  # perhaps it was the spectral radius
        state[FAILURE] = 0.0
        state[AGE] += 1.0
        counts[STEPS] += 1
        covered = False
        while next_wanted < wanted.shape[0] and (wanted[next_wanted] - t_new) * direction <= 0.0:
            covered = True
            next_wanted += 1
        if record_all or covered:
            times[recorded], widths[recorded] = t, t_new - t
            values[recorded] = y
            for i in range(n):  # the cubic through both ends and their slopes
                change = new[i] - y[i]
                dense[recorded, 0, i] = h * f[i]
                dense[recorded, 1, i] = 3.0 * change - h * (2.0 * f[i] + slope[i])
                dense[recorded, 2, i] = h * (f[i] + slope[i]) - 2.0 * change
            recorded += 1
        y[:] = new
        f[:] = slope
        t = t_new
        proposed = abs(h) * factor(norm, max(state[ERROR_OLD], 1e-4), rejected, 3)
        state[T], state[H_OLD], state[ERROR_OLD] = t, abs(h), norm
        state[H] = max(proposed, state[H]) if final else proposed
        if final:
            return recorded, REACHED_END
    return recorded, RUNNING
