"""The compiled explicit driver: any `ExplicitTableau`, adaptive, with dense output and a test for stiffness."""

from __future__ import annotations

import math

from numba import float64, int64, types

from theorykit._numerics.compile import compiled
from theorykit.flow.ode._drive import (
    COUNTS,
    ERROR_OLD,
    EVALUATIONS,
    FAILED_H,
    FAILURE,
    H_OLD,
    MATRIX,
    NOT_FINITE,
    OTHER_SIGNS,
    REACHED_END,
    RECORD,
    REJECTED,
    RHS,
    RUNNING,
    SINCE,
    STARTED,
    STEP_TOO_SMALL,
    STEPS,
    STIFF,
    STIFF_SIGNS,
    VECTOR,
    H,
    T,
    factor,
    scaled_norm,
    smallest_step,
    start,
)

_SOON = 10.0  # accepted steps between two rejections that belong together
_STEEP = 100.0  # error norm of a step that fails for want of stability
_FORGET = 0.005  # how fast the size of such a step is forgotten: by more than ten times in twelve steps
_SIGNS = 15  # this many steps at the edge of the stability region, with fewer than six others between, are stiffness


@compiled(int64(VECTOR, int64, int64))
def _next(weights, first, stages):
    """Return the index of the first weight that is not zero, from `first` on."""
    while first < stages and weights[first] == 0.0:
        first += 1
    return first


@compiled(types.void(VECTOR, float64, VECTOR, MATRIX, int64, VECTOR))
def _combine(y, h, weights, k, stages, out):
    """Write y + h sum_j weights[j] k[j], j < stages, four terms in one pass."""
    n = out.shape[0]
    for i in range(n):  # loops from 0 become vector instructions; slices of rows would cost more than short ones
        out[i] = y[i]
    first = _next(weights, 0, stages)
    while first < stages:
        second = _next(weights, first + 1, stages)
        third = _next(weights, second + 1, stages)
        fourth = _next(weights, third + 1, stages)
        a = h * weights[first]
        if fourth < stages:
            b, c, d = h * weights[second], h * weights[third], h * weights[fourth]
            for i in range(n):
                out[i] += (a * k[first, i] + b * k[second, i]) + (c * k[third, i] + d * k[fourth, i])
            first = _next(weights, fourth + 1, stages)
        elif second < stages:
            b = h * weights[second]
            for i in range(n):
                out[i] += a * k[first, i] + b * k[second, i]
            first = third
        else:
            for i in range(n):
                out[i] += a * k[first, i]
            first = second


@compiled(float64(VECTOR, VECTOR, float64, MATRIX, MATRIX, float64, VECTOR, MATRIX))
def _error_norm(y, new, h, error, k, rtol, atol, estimates):
    """Return the norm of the error estimate, in units of the tolerance."""
    first, second = 0.0, 0.0
    estimates[:, :] = 0.0
    for which in range(2):
        _combine(estimates[which], 1.0, error[which], k, error.shape[1], estimates[which])
    for i in range(y.shape[0]):
        unit = 1.0 / (atol[i] + rtol * max(abs(y[i]), abs(new[i])))
        first += (estimates[0, i] * unit) ** 2
        second += (estimates[1, i] * unit) ** 2
    if first == 0.0:
        return 0.0
    return abs(h) * first / math.sqrt((first + 0.01 * second) * y.shape[0])


@compiled(float64(float64, MATRIX, int64, MATRIX))
def _stiffness(h, k, stages, work):
    """Return h times the largest eigenvalue, seen between the last two stages, both at the end of the step."""
    change, distance = 0.0, 0.0
    for i in range(k.shape[1]):
        change += (k[stages, i] - k[stages - 1, i]) ** 2
        distance += (work[1, i] - work[0, i]) ** 2
    return abs(h) * math.sqrt(change / distance) if distance > 0.0 else 0.0


@compiled(float64(float64, VECTOR, MATRIX, int64, MATRIX, float64, VECTOR))
def _shift(h, y, k, stages, work, rtol, atol):
    """Return how far the slopes of the last two stages lead apart within a step, in units of the tolerance."""
    for i in range(y.shape[0]):
        work[2, i] = h * (k[stages, i] - k[stages - 1, i])
    return scaled_norm(work[2], y, work[1], rtol, atol)


@compiled(
    types.UniTuple(int64, 2)(
        types.FunctionType(RHS), VECTOR, float64, VECTOR, float64, VECTOR, float64, int64, VECTOR, COUNTS,
        int64, int64, int64, MATRIX, VECTOR, MATRIX, MATRIX, float64, MATRIX, MATRIX, *RECORD,
    )
)  # fmt: skip
def advance(
    rhs, pack, t_end, y, rtol, atol, widest, most, state, counts,
    order, error_order, stages, a, c, error, dense_weights, stability, k, work,
    wanted, record_all, times, widths, values, dense,
):  # fmt: skip
    """Take at most `most` accepted steps; y (n,), state, counts and k (S, n), whose first row is f, change in place.

    Returns (steps recorded, status).
    """
    n = y.shape[0]
    if state[STARTED] == 0.0:
        state[SINCE] = math.inf
        status = start(rhs, pack, t_end, y, k[0], rtol, atol, widest, order, state, counts)
        if status != RUNNING:
            return 0, status
    t = state[T]
    direction = 1.0 if t_end >= t else -1.0
    recorded, next_wanted = 0, 0
    for _ in range(most):
        if recorded == times.shape[0]:
            break
        rejected = 0.0
        while True:
            h = min(state[H], widest)
            if h < smallest_step(t):
                return recorded, NOT_FINITE if state[FAILURE] == 1.0 else STEP_TOO_SMALL
            final = h * 1.01 >= abs(t_end - t)
            h = t_end - t if final else direction * h
            for s in range(1, stages):
                _combine(y, h, a[s], k, s, work[0])
                rhs(t + c[s] * h, work[0], pack, k[s])
            _combine(y, h, a[stages], k, stages, work[1])
            t_new = t_end if final else t + h
            rhs(t_new, work[1], pack, k[stages])
            counts[EVALUATIONS] += stages
            norm = _error_norm(y, work[1], h, error, k, rtol, atol, work[2:])
            stiffness = _stiffness(h, k, stages, work)
            far = not stiffness <= 10.0 * stability  # also where f is not finite
            if norm <= 1.0 and far and not _shift(h, y, k, stages, work, rtol, atol) <= 1.0:
                norm = math.inf  # y is within the tolerance, but f at y is another one altogether
            if norm <= 1.0:
                break
            again = state[FAILED_H] > 0.0 if rejected == 1.0 else state[SINCE] < _SOON
            if again and not (stiffness <= stability and norm <= _STEEP):
                state[FAILED_H] = abs(h)
            counts[REJECTED] += 1
            rejected = 1.0
            bad = not math.isfinite(norm)
            state[FAILURE] = 1.0 if bad else 0.0
            state[H] = abs(h) * (0.1 if bad else factor(norm, 1.0, rejected, error_order))
        state[FAILURE] = 0.0
        counts[STEPS] += 1
        if stiffness > 0.8 * stability:
            state[STIFF_SIGNS] += 1.0
            state[OTHER_SIGNS] = 0.0
        else:
            state[OTHER_SIGNS] += 1.0
            if state[OTHER_SIGNS] >= 6.0:
                state[STIFF_SIGNS] = 0.0
        covered = False
        while next_wanted < wanted.shape[0] and (wanted[next_wanted] - t_new) * direction <= 0.0:
            covered = True
            next_wanted += 1
        if record_all or covered:
            for s in range(stages + 1, k.shape[0]):  # stages of the dense output alone
                _combine(y, h, a[s], k, s, work[0])
                rhs(t + c[s] * h, work[0], pack, k[s])
                counts[EVALUATIONS] += 1
            times[recorded], widths[recorded] = t, t_new - t
            values[recorded] = y
            for d in range(dense_weights.shape[0]):
                dense[recorded, d] = 0.0
                _combine(dense[recorded, d], h, dense_weights[d], k, k.shape[0], dense[recorded, d])
            recorded += 1
        for i in range(n):
            y[i] = work[1, i]
            k[0, i] = k[stages, i]
        t = t_new
        state[T], state[H_OLD] = t, abs(h)
        proposed = abs(h) * factor(norm, max(state[ERROR_OLD], 1e-4), rejected, error_order)
        state[SINCE] = 1.0 if rejected == 1.0 else state[SINCE] + 1.0
        if state[FAILED_H] > 0.0:  # at the edge of stability every second step would fail without this
            proposed = min(proposed, max(abs(h), 0.9 * state[FAILED_H]))
            state[FAILED_H] *= 1.0 + _FORGET * state[SINCE] ** 2
        if state[SINCE] > 12.0:
            state[FAILED_H] = 0.0
        # a last step cut short says nothing about the next one, should the run be prolonged
        state[H] = max(proposed, state[H]) if final else proposed
        state[ERROR_OLD] = norm
        if final:
            return recorded, REACHED_END
        if state[STIFF_SIGNS] >= _SIGNS:
            state[STIFF_SIGNS] = 0.0
            return recorded, STIFF
    return recorded, RUNNING
