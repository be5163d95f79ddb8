"""The compiled implicit driver of the dual reduction: Radau IIA, adaptive, with dense output, in chunks of steps.

One signature for all data: nothing here is compiled a second time. The right-hand side takes all stages at once, so
that a large data matrix is read once for them all.
"""

from __future__ import annotations

import math

import numpy as np
from numba import complex128, float64, int64, types

from theorykit._numerics.compile import compiled
from theorykit._numerics.signatures import INTEGERS, MATRIX, PACK, VECTOR
from theorykit.flow._collocation import extrapolate, mix, newton_iterations
from theorykit.flow._dense import factor_dense, solve_dense
from theorykit.flow._diagonal import jacobian, monitor, rhs

RUNNING, REACHED_END, MONITOR_STOPPED, STEP_TOO_SMALL, NOT_FINITE = range(5)

# state[...] carried from chunk to chunk
H, H_OLD, ERROR_OLD, ETA, H_SAFE, BEGUN, FRESH_JACOBIAN, FACTORED_H, HALVED = range(9)
# counts[...]
STEPS, REJECTED, RHS_BATCHES, JACOBIANS, FACTORISATIONS = range(5)

TABLEAU = types.Tuple(
    (int64, VECTOR, float64, complex128[::1], MATRIX, MATRIX, VECTOR, MATRIX, MATRIX)
)  # error_order, c, gamma, mu (of negative imaginary part), T, T_inv, error, dense, series
_CUBE = types.Array(float64, 3, "C")


@compiled()
def _norm(x, scale):
    return math.sqrt(np.mean((x / scale) ** 2))


@compiled(float64(float64))
def newton_tolerance(rtol):
    """Return the error, in units of the tolerance, at which Newton's iteration ends."""
    return max(10.0 * 2.2e-16 / rtol, min(0.03, rtol**0.25))


@compiled()
def _factor(j, shift, halved, factors, pivots):
    """Factor shift I - J; of a halved J (see `advance`) what is left once the upper half is eliminated."""
    n = factors.shape[0]
    first = n if halved else 0
    ratio = -j[0, n] / (shift - j[0, 0]) if halved else 0.0 * shift
    for i in range(n):
        for k in range(n):
            factors[i, k] = -j[first + i, first + k]
            if halved:
                factors[i, k] += ratio * j[n + i, k]
        factors[i, i] += shift
    return factor_dense(factors, pivots)


@compiled()
def _solve(j, shift, halved, factors, pivots, x):
    """Solve (shift I - J) x = b in place with what `_factor` made."""
    if not halved:
        solve_dense(factors, pivots, x)
        return
    n = factors.shape[0]
    own, other = shift - j[0, 0], -j[0, n]
    upper, lower = x[:n], x[n:]
    for i in range(n):
        upper[i] /= own
    for i in range(n):
        total = lower[i]
        for k in range(n):
            total += j[n + i, k] * upper[k]
        lower[i] = total
    solve_dense(factors, pivots, lower)
    for i in range(n):
        upper[i] -= other / own * lower[i]


@compiled()
def _newton(t, y, h, z, scale, tolerance, j, halved, real, pairs, pivots, pack, tableau, eta):
    """Solve the collocation equations for the stage increments z (s, r) in place."""
    _, c, gamma, mu, transform, inverse, _, _, _ = tableau
    s, r = z.shape
    w, g, f = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    residual = np.empty(r, dtype=np.complex128)
    mix(inverse, z, w)
    times = t + h * c
    most = newton_iterations(s)
    rate = 0.0
    previous = 0.0
    for iteration in range(most):
        rhs(times, y + z, pack, f)
        if not np.all(np.isfinite(f)):
            return False, iteration + 1, rate, eta
        mix(inverse, f, g)
        change = g[0] - (gamma / h) * w[0]
        _solve(j, gamma / h, halved, real, pivots[0], change)
        size = 0.0
        for i in range(r):
            size += (change[i] / scale[i]) ** 2
            w[0, i] += change[i]
        for p in range(mu.shape[0]):
            a, b = 1 + 2 * p, 2 + 2 * p
            for i in range(r):
                residual[i] = complex(g[a, i], g[b, i]) - (mu[p] / h) * complex(w[a, i], w[b, i])
            _solve(j, mu[p] / h, halved, pairs[p], pivots[p + 1], residual)
            for i in range(r):
                size += (residual[i].real / scale[i]) ** 2 + (residual[i].imag / scale[i]) ** 2
                w[a, i] += residual[i].real
                w[b, i] += residual[i].imag
        size = math.sqrt(size / (s * r))
        if iteration > 0:
            rate = size / previous
            if rate >= 1.0 or rate ** (most - 1 - iteration) / (1.0 - rate) * size > tolerance:
                return False, iteration + 1, rate, eta
            eta = rate / (1.0 - rate)
        mix(transform, w, z)
        if size == 0.0 or eta * size < tolerance:
            return True, iteration + 1, rate, eta
        previous = size
    return False, most, rate, eta


@compiled()
def _renew(t, y, h, h_old, last, halved, pack, j):
    """Write the Jacobian for a step of h.

    Of a halved one (squared loss) that in the middle of the step, where the last polynomial leads: it changes slowly
    along the flow, and from the middle by half as much. That of a classification loss has an exponential in it, which
    cannot be trusted ahead.
    """
    if halved:
        middle, x = y.copy(), 1.0 + 0.5 * h / h_old
        for k in range(last.shape[0]):
            for i in range(y.shape[0]):
                middle[i] += (x ** (k + 1) - 1.0) * last[k, i]
        jacobian(t + 0.5 * h, middle, pack, j)
        if np.all(np.isfinite(j)):
            return
    jacobian(t, y, pack, j)


@compiled(
    types.UniTuple(int64, 2)(
        TABLEAU,
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
    tableau, t, t_end, y, rtol, atol, widest, state, last, f, j, counts, pack, times, widths,
    values, dense,
):  # fmt: skip
    """Take accepted steps (none wider than `widest`) until the end, the monitor's word, trouble, or a full record.

    y (r,) and what is carried on to the next call are updated in place: `state`, the last dense coefficients `last`
    (s, r), the derivative f (r,) and the Jacobian j (r, r), which is that of the middle of the step it was made for.
    `state` is zero but for H, ETA, H_SAFE and HALVED before the first one; HALVED says that the upper half of J is
    [a I, b I], I of half the size. The record of each step is its start time, its width, its start value (r,) and its
    dense coefficients (s, r).

    How many steps are taken in one call makes no difference. Returns (steps recorded, status).
    """
    error_order, c, gamma, mu, _, _, error_weights, dense_weights, series = tableau
    r, s = y.shape[0], c.shape[0]
    power = 1.0 / error_order
    most_iterations = newton_iterations(s)
    tolerance = newton_tolerance(rtol)
    single_time, single_y, single_f = np.empty(1), np.empty((1, r)), np.empty((1, r))
    if state[BEGUN] == 0.0:
        single_time[0] = t
        single_y[0] = y
        rhs(single_time, single_y, pack, single_f)
        f[:] = single_f[0]
        if not np.all(np.isfinite(f)):
            return 0, NOT_FINITE
        jacobian(t, y, pack, j)
        counts[RHS_BATCHES] += 1
        counts[JACOBIANS] += 1
        state[BEGUN] = state[FRESH_JACOBIAN] = 1.0
    halved, factored = state[HALVED] == 1.0, False
    size = r // 2 if halved else r
    real, pivots = np.empty((size, size)), np.empty((mu.shape[0] + 1, size), dtype=np.int64)
    pairs = np.empty((mu.shape[0], size, size), dtype=np.complex128)
    z = np.empty((s, r))
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
            if h != state[FACTORED_H] or not factored:
                good = _factor(j, gamma / h, halved, real, pivots[0])
                for p in range(mu.shape[0]):
                    good = _factor(j, mu[p] / h, halved, pairs[p], pivots[p + 1]) and good
                if not good:
                    return recorded, NOT_FINITE
                if h != state[FACTORED_H]:
                    counts[FACTORISATIONS] += 1
                state[FACTORED_H], factored = h, True
            scale = atol + rtol * np.abs(y)
            if state[H_OLD] == 0.0:
                for k in range(s):
                    z[k] = c[k] * h * f
            else:
                extrapolate(h, state[H_OLD], last, series, c, scale, z)
            converged, iterations, rate, eta = _newton(
                t, y, h, z, scale, tolerance, j, halved, real, pairs, pivots, pack, tableau,
                max(state[ETA], 1e-16) ** 0.8,
            )  # fmt: skip
            counts[RHS_BATCHES] += iterations
            if not converged:
                counts[REJECTED] += 1
                state[ETA] = 1.0
                if state[FRESH_JACOBIAN] == 0.0:
                    _renew(t, y, h, state[H_OLD], last, halved, pack, j)
                    counts[JACOBIANS] += 1
                    state[FRESH_JACOBIAN] = 1.0
                    state[FACTORED_H] = 0.0
                else:
                    state[H_SAFE] = 0.8 * h  # remembered, and forgotten slowly: else every second step would fail
                    h *= 0.5
                rejected = True
                continue
            state[ETA] = eta
            y_new = y + z[s - 1]
            increments = np.dot(error_weights, z) / h
            error = f + increments
            _solve(j, gamma / h, halved, real, pivots[0], error)
            scale = atol + rtol * np.maximum(np.abs(y), np.abs(y_new))
            error_norm = _norm(error, scale)
            safety = 0.9 * (2 * most_iterations + 1) / (2 * most_iterations + iterations)
            if error_norm > 1.0 and (rejected or state[H_OLD] == 0.0):
                single_time[0] = t
                single_y[0] = y + error
                rhs(single_time, single_y, pack, single_f)
                counts[RHS_BATCHES] += 1
                error = single_f[0] + increments
                _solve(j, gamma / h, halved, real, pivots[0], error)
                error_norm = _norm(error, scale)
            if not error_norm <= 1.0:
                counts[REJECTED] += 1
                factor = safety * error_norm**-power if math.isfinite(error_norm) else 0.1
                h *= max(0.1, factor)
                rejected = True
                continue
            accepted = True
        # predictive step control (Gustafsson), as in Hairer and Wanner IV.8
        factor = 10.0 if error_norm == 0.0 else error_norm**-power
        if state[ERROR_OLD] > 0.0 and error_norm > 0.0:
            factor = min(factor, factor * h / state[H_OLD] * (state[ERROR_OLD] / error_norm) ** power)
        factor = min(10.0, max(0.2, safety * factor))
        if rejected:
            factor = min(factor, 1.0)
        times[recorded] = t
        widths[recorded] = h
        values[recorded] = y
        q = dense[recorded]
        mix(dense_weights.T, z, q)
        last[:, :] = q
        recorded += 1
        counts[STEPS] += 1
        y[:] = y_new
        t = t_end if final else t + h
        state[H_OLD] = h
        state[ERROR_OLD] = max(error_norm, 1e-10)
        refresh = iterations > 2 and rate > 1e-3
        if not refresh and factor < 1.2 and factor >= 1.0:
            factor = 1.0
        state[H_SAFE] = max(1.1 * state[H_SAFE], h)
        proposed = min(h * factor, widest, state[H_SAFE])
        state[H] = (
            max(proposed, state[H]) if final and not rejected else proposed
        )  # the end may have cut the step short
        if t >= t_end:
            return recorded, REACHED_END
        if monitor(t, y, pack):
            return recorded, MONITOR_STOPPED
        # the derivative at the new point is that of the collocation polynomial: its error is the Newton iteration's,
        # and it spares one evaluation a step
        f[:] = 0.0
        for k in range(s):
            for i in range(r):
                f[i] += (k + 1) / h * q[k, i]
        state[FRESH_JACOBIAN] = 0.0
        if refresh:
            _renew(t, y, state[H], h, last, halved, pack, j)
            counts[JACOBIANS] += 1
            state[FRESH_JACOBIAN] = 1.0
            state[FACTORED_H] = 0.0
    return recorded, RUNNING
