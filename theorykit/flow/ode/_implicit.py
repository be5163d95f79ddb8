"""The compiled implicit driver: Radau IIA with any odd number of stages, adaptive, with dense output.

Simplified Newton iteration on the transformed stages, one real and (s-1)/2 complex systems of the size of y, with the
linear algebra of `theorykit.flow.ode._linear` (Hairer and Wanner, Solving Ordinary Differential Equations II, IV.8).

Where f(t, y) = F(t, y, c(t, y)) and c is what is stiff, as in a force that holds y near a curved manifold, c at the
stages is unknown, too: dc = V dy + c(t, y) - c with the frozen V = dc/dy, and U = dF/dc, leaves the same linear systems
and F + U (c(t, y) - c) for f. With f alone the iteration contracts only while U V changes by less than its smallest
eigenvalues within a step; so while U does by little of itself.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, complex128, float64, int64, types

from theorykit._numerics.compile import compiled
from theorykit.flow._collocation import extrapolate, mix, newton_iterations
from theorykit.flow._dense import factor_dense, solve_dense
from theorykit.flow.ode._drive import (
    CEILING,
    COUNTS,
    CUBE,
    ERROR_OLD,
    ETA,
    EVALUATIONS,
    FACTORED_H,
    FACTORISATIONS,
    FAILURE,
    FRESH,
    H_OLD,
    HAVE_JACOBIAN,
    JACOBIAN,
    JACOBIANS,
    MATRIX,
    NO_CONVERGENCE,
    NOT_FINITE,
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
    all_finite,
    scaled_norm,
    smallest_step,
    start,
)
from theorykit.flow.ode._linear import (
    COMPLEX_VECTOR,
    DENSE,
    KRYLOV,
    LOW_RANK,
    factor_low_rank,
    solve_krylov,
    solve_low_rank,
)

_COMPLEX_CUBE = types.Array(complex128, 3, "C")
_PIVOTS = types.Array(int64, 2, "C")
_LINEAR_SHARE = 0.1  # of the tolerance of Newton's iteration, for the error of a Krylov solve within it
# A first iteration has no rate of its own. The last step's may be far too good for this one, which is perhaps longer:
# never taken for better than this, or the iteration's error would be left to be the largest.
_LEAST_ETA = 0.1


@compiled(JACOBIAN)
def no_jacobian(t, y, pack, out):
    """Stand in for a Jacobian that is approximated by differences."""


@compiled(
    types.void(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, float64, float64, VECTOR, MATRIX, COUNTS)
)
def _differences(rhs, pack, t, y, f, h, rtol, atol, out, counts):
    """Write the Jacobian by one-sided differences, a column an evaluation."""
    n = y.shape[0]
    moved, column = y.copy(), np.empty(n)
    for j in range(n):
        step = 1.5e-8 * max(abs(y[j]), h * abs(f[j]), 1e-3 * atol[j] / rtol)
        moved[j] = y[j] + step
        step = moved[j] - y[j]
        rhs(t, moved, pack, column)
        moved[j] = y[j]
        for i in range(n):
            out[i, j] = (column[i] - f[i]) / step
    counts[EVALUATIONS] += n


@compiled(boolean(int64, MATRIX, float64, float64, COMPLEX_VECTOR, MATRIX, _COMPLEX_CUBE, _PIVOTS))
def _factor_all(kind, j, h, gamma, mu, real, pairs, pivots):
    """Factor the real and the complex systems for a step of h; False if one is singular."""
    if kind == LOW_RANK:
        good = factor_low_rank(j, gamma / h, real)
        for p in range(mu.shape[0]):
            good = factor_low_rank(j, mu[p] / h, pairs[p]) and good
        return good
    n = j.shape[1]
    for i in range(n):
        for k in range(n):
            real[i, k] = -j[i, k]
        real[i, i] += gamma / h
    good = factor_dense(real, pivots[0])
    for p in range(mu.shape[0]):
        for i in range(n):
            for k in range(n):
                pairs[p, i, k] = -j[i, k]
            pairs[p, i, i] += mu[p] / h
        good = factor_dense(pairs[p], pivots[p + 1]) and good
    return good


@compiled(VECTOR(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, VECTOR))
def _nested_value(nested, pack, t, y, inner, f):
    """Write F for the c in `inner`; return c(t, y)."""
    n, m = y.shape[0], inner.shape[0]
    given, both = np.empty(n + m), np.empty(n + m)
    given[:n], given[n:] = y, inner
    nested(t, given, pack, both)
    f[:] = both[:n]
    return both[n:]


@compiled(boolean(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, VECTOR, MATRIX, VECTOR))
def _nested_stage(nested, pack, t, y, inner, f, factors, new):
    """Write F + U (c(t, y) - c) and c(t, y) for the c in `inner`; `factors` (2m, n) are U.T and V.T."""
    new[:] = _nested_value(nested, pack, t, y, inner, f)
    for a in range(inner.shape[0]):
        gap = new[a] - inner[a]
        for k in range(y.shape[0]):
            f[k] += factors[a, k] * gap
    return all_finite(f)


@compiled(
    types.Tuple((boolean, int64, float64, float64))(
        types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, float64, VECTOR, float64, float64,
        types.FunctionType(RHS), VECTOR, MATRIX, MATRIX,
        int64, MATRIX, MATRIX, _COMPLEX_CUBE, _PIVOTS,
        VECTOR, float64, COMPLEX_VECTOR, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, MATRIX, COUNTS,
    )
)  # fmt: skip
def _newton(
    rhs, pack, t, y, f0, h, scale, tolerance, eta,
    nested, nested_pack, inner, factors,
    kind, j, real, pairs, pivots,
    c, gamma, mu, transform, inverse, z, w, f, g, counts,
):  # fmt: skip
    """Solve the collocation equations for the stage increments z (s, n) in place: (good, iterations, rate, eta).

    And for c at the stages, `inner` (s, m), where f is nested.
    """
    s, n = z.shape
    m = inner.shape[1]
    most = newton_iterations(s)
    first = 1 if m else 0  # iteration whose step shows the error: that of c shows in y one later
    rate, previous = 0.0, 0.0
    stage, single, double = np.empty(n), np.empty(n), np.empty(n, dtype=np.complex128)
    new, before = np.empty((s, m)), np.empty((s if m else 0, n))
    mix(inverse, z, w)
    for iteration in range(most):
        for i in range(s):
            for k in range(n):
                stage[k] = y[k] + z[i, k]
            counts[EVALUATIONS] += 1
            if m:
                if not _nested_stage(nested, nested_pack, t + c[i] * h, stage, inner[i], f[i], factors, new[i]):
                    return False, iteration + 1, math.inf, eta
                continue
            rhs(t + c[i] * h, stage, pack, f[i])
            if not all_finite(f[i]):
                return False, iteration + 1, math.inf, eta
        mix(inverse, f, g)
        size = 0.0
        for k in range(n):
            single[k] = g[0, k] - gamma / h * w[0, k]
        if kind == DENSE:
            solve_dense(real, pivots[0], single)
        elif kind == LOW_RANK:
            solve_low_rank(j, real, single)
        else:
            double[:] = single
            if not solve_krylov(rhs, pack, t, y, f0, gamma / h + 0j, scale, double, _LINEAR_SHARE * tolerance, counts):
                return False, iteration + 1, 2.0, eta
            single[:] = double.real
        for k in range(n):
            size += (single[k] / scale[k]) ** 2
            w[0, k] += single[k]
        for p in range(mu.shape[0]):
            a, b = 1 + 2 * p, 2 + 2 * p
            for k in range(n):
                double[k] = complex(g[a, k], g[b, k]) - mu[p] / h * complex(w[a, k], w[b, k])
            if kind == DENSE:
                solve_dense(pairs[p], pivots[p + 1], double)
            elif kind == LOW_RANK:
                solve_low_rank(j, pairs[p], double)
            elif not solve_krylov(rhs, pack, t, y, f0, mu[p] / h, scale, double, _LINEAR_SHARE * tolerance, counts):
                return False, iteration + 1, 2.0, eta
            for k in range(n):
                size += (double[k].real / scale[k]) ** 2 + (double[k].imag / scale[k]) ** 2
                w[a, k] += double[k].real
                w[b, k] += double[k].imag
        size = math.sqrt(size / (s * n))
        if not math.isfinite(size):
            return False, iteration + 1, math.inf, eta
        if iteration > first:
            rate = size / previous
            if rate >= 1.0 or rate ** (most - 1 - iteration) / (1.0 - rate) * size > tolerance:
                return False, iteration + 1, rate, eta
            eta = rate / (1.0 - rate)
        if m:
            before[:, :] = z
        mix(transform, w, z)
        for i in range(s if m else 0):
            for a in range(m):
                inner[i, a] = new[i, a]
                for k in range(n):
                    inner[i, a] += factors[m + a, k] * (z[i, k] - before[i, k])
        if size == 0.0 or (iteration >= first and eta * size < tolerance):
            return True, iteration + 1, rate, eta
        previous = size
    return False, most, rate, eta


@compiled(
    types.UniTuple(int64, 2)(
        types.FunctionType(RHS), types.FunctionType(JACOBIAN), VECTOR, VECTOR,
        types.FunctionType(RHS), VECTOR, VECTOR,
        float64, VECTOR, float64, VECTOR, float64, int64, VECTOR, COUNTS,
        int64, boolean, int64, VECTOR, float64, COMPLEX_VECTOR, MATRIX, MATRIX, VECTOR, MATRIX, MATRIX,
        VECTOR, MATRIX, MATRIX, _COMPLEX_CUBE, _PIVOTS, CUBE, MATRIX, *RECORD,
    )
)  # fmt: skip
def advance(
    rhs, jac, pack, jac_pack, nested, nested_pack, inner, t_end, y, rtol, atol, widest, most, state, counts,
    kind, numerical, error_order, c, gamma, mu, transform, inverse, error_weights, dense_weights, series,
    f, j, real, pairs, pivots, work, last,
    wanted, record_all, times, widths, values, dense,
):  # fmt: skip
    """Take at most `most` accepted steps; y, f (n,), state, counts, the Jacobian and `last` (s, n) change in place.

    So does `inner` (m,), c at the end of the last step where f is nested; m = 0 where it is not.

    Returns (steps recorded, status).
    """
    n, s, m = y.shape[0], c.shape[0], inner.shape[0]
    if state[STARTED] == 0.0:
        status = start(rhs, pack, t_end, y, f, rtol, atol, widest, error_order, state, counts)
        if status != RUNNING:
            return 0, status
        state[H] = min(state[H], 1e-3 * abs(t_end - state[T]))
        state[CEILING] = widest
    tolerance = max(2e-15 / rtol, min(0.03, rtol**0.25))
    most_iterations = newton_iterations(s)
    t = state[T]
    direction = 1.0 if t_end >= t else -1.0
    z, w, stages, g = work[0], work[1], work[2], work[3]
    scale, error, moved = np.empty(n), np.empty(n), np.empty(n)
    double = np.empty(n, dtype=np.complex128)
    given, inners, new_inner, factors = np.empty(n + m), np.empty((s, m)), np.empty(m), j[j.shape[0] - 2 * m :]
    recorded, next_wanted = 0, 0
    for _ in range(most):
        if recorded == times.shape[0]:
            break
        rejected = False
        iterations, rate, norm = 0, 0.0, 0.0
        while True:
            size_h = min(state[H], widest)
            if size_h < smallest_step(t):
                if state[FAILURE] == 1.0:
                    return recorded, NOT_FINITE
                return recorded, NO_CONVERGENCE if state[FAILURE] == 2.0 else STEP_TOO_SMALL
            final = size_h * 1.01 >= abs(t_end - t)
            if final:
                size_h = abs(t_end - t)
            h = direction * size_h
            if m and state[H_OLD] == 0.0:
                inner[:] = _nested_value(nested, nested_pack, t, y, inner, moved)
                counts[EVALUATIONS] += 1
            if kind != KRYLOV:
                if state[HAVE_JACOBIAN] == 0.0:
                    given[:n], given[n:] = y, inner
                    if numerical:
                        _differences(rhs, pack, t, y, f, size_h, rtol, atol, j, counts)
                    else:
                        jac(t, given, jac_pack, j)
                    counts[JACOBIANS] += 1
                    state[HAVE_JACOBIAN], state[FRESH], state[FACTORED_H] = 1.0, 1.0, 0.0
                if h != state[FACTORED_H]:
                    counts[FACTORISATIONS] += 1
                    if not _factor_all(kind, j, h, gamma, mu, real, pairs, pivots):
                        counts[REJECTED] += 1
                        state[FAILURE] = 1.0
                        state[H], state[FACTORED_H] = 0.5 * size_h, 0.0
                        rejected = True
                        continue
                    state[FACTORED_H] = h
            for i in range(n):
                scale[i] = atol[i] + rtol * abs(y[i])
            if state[H_OLD] == 0.0:
                z[:, :] = 0.0
            else:
                extrapolate(h, state[H_OLD], last, series, c, scale, z)
            for i in range(s if m else 0):
                inners[i] = inner
            good, iterations, rate, eta = _newton(
                rhs, pack, t, y, f, h, scale, tolerance, max(state[ETA] ** 0.8, _LEAST_ETA),
                nested, nested_pack, inners, factors,
                kind, j, real, pairs, pivots, c, gamma, mu, transform, inverse, z, w, stages, g, counts,
            )  # fmt: skip
            if not good:
                counts[REJECTED] += 1
                state[ETA] = 1.0
                state[FAILURE] = 1.0 if rate == math.inf else 2.0  # f was not finite, or no convergence
                rejected = True
                if kind != KRYLOV and state[FRESH] == 0.0:
                    state[HAVE_JACOBIAN] = 0.0
                else:
                    state[CEILING] = 0.8 * size_h  # remembered, forgotten slowly: else every second step would fail
                    state[H] = 0.5 * size_h
                continue
            state[ETA] = eta
            for attempt in range(2):
                if attempt == 1:  # a first or repeated step: the estimate once more, without its stiff part
                    moved[:] = y + error
                    if m:
                        _nested_stage(nested, nested_pack, t, moved, inner, stages[0], factors, new_inner)
                    else:
                        rhs(t, moved, pack, stages[0])
                    counts[EVALUATIONS] += 1
                for i in range(n):
                    total = 0.0
                    for k in range(s):
                        total += error_weights[k] * z[k, i]
                    error[i] = total / h + (f[i] if attempt == 0 else stages[0, i])
                if kind == DENSE:
                    solve_dense(real, pivots[0], error)
                elif kind == LOW_RANK:
                    solve_low_rank(j, real, error)
                else:
                    double[:] = error
                    solve_krylov(rhs, pack, t, y, f, gamma / h + 0j, scale, double, 0.05, counts)
                    error[:] = double.real
                for i in range(n):
                    moved[i] = y[i] + z[s - 1, i]
                norm = scaled_norm(error, y, moved, rtol, atol)
                if norm <= 1.0 or not (rejected or state[H_OLD] == 0.0):
                    break
            if norm <= 1.0:
                t_new = t_end if final else t + h
                if m:  # f itself is F but for what is left of the iteration's error, times all of the stiffness
                    _nested_value(nested, nested_pack, t_new, moved, inners[s - 1], stages[1])
                else:
                    rhs(t_new, moved, pack, stages[1])
                counts[EVALUATIONS] += 1
                if all_finite(stages[1]):
                    break
                norm = math.inf
            counts[REJECTED] += 1
            rejected = True
            finite = math.isfinite(norm)
            state[FAILURE] = 0.0 if finite else 1.0
            state[H] = size_h * (max(0.1, 0.9 * norm ** (-1.0 / error_order)) if finite else 0.1)
        state[FAILURE] = 0.0
        counts[STEPS] += 1
        # predictive step control (Gustafsson), as in Hairer and Wanner IV.8
        ratio = 10.0 if norm == 0.0 else norm ** (-1.0 / error_order)
        if state[ERROR_OLD] > 0.0 and norm > 0.0 and state[H_OLD] > 0.0:
            ratio = min(ratio, ratio * size_h / state[H_OLD] * (state[ERROR_OLD] / norm) ** (1.0 / error_order))
        safety = 0.9 * (2 * most_iterations + 1) / (2 * most_iterations + iterations)
        ratio = min(1.0 if rejected else 8.0, max(0.2, safety * ratio))
        for i in range(s):
            for k in range(n):
                total = 0.0
                for d in range(s):
                    total += dense_weights[d, i] * z[d, k]
                last[i, k] = total
        t_new = t_end if final else t + h
        covered = False
        while next_wanted < wanted.shape[0] and (wanted[next_wanted] - t_new) * direction <= 0.0:
            covered = True
            next_wanted += 1
        if record_all or covered:
            times[recorded], widths[recorded] = t, t_new - t
            values[recorded] = y
            dense[recorded] = last
            recorded += 1
        y[:] = moved
        f[:] = stages[1]
        inner[:] = inners[s - 1]
        t = t_new
        state[T], state[H_OLD], state[ERROR_OLD] = t, h * direction, max(norm, 1e-10)
        refresh = iterations > 2 and rate > 1e-3
        state[CEILING] = max(1.1 * state[CEILING], size_h)
        if not refresh and 1.0 <= ratio < 1.2:
            ratio = 1.0  # keep the factors
        proposed = min(size_h * ratio, state[CEILING])
        state[H] = max(proposed, state[H]) if final else proposed
        state[FRESH] = 0.0
        if refresh:
            state[HAVE_JACOBIAN] = 0.0
        if final:
            return recorded, REACHED_END
    return recorded, RUNNING
