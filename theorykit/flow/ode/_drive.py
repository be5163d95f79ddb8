"""What the compiled drivers share: signatures, the layout of their state, the first step, the step-size controller.

A driver takes accepted steps until the end, trouble, or a full record. All that the next step depends on lies in the
arrays it is given, so that a run can be cut anywhere, and even written to a file, without changing a bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float64, int64, types, void

from theorykit._numerics.compile import compiled

VECTOR, MATRIX, COUNTS = float64[::1], float64[:, ::1], int64[::1]
CUBE = types.Array(float64, 3, "C")

RHS = void(float64, VECTOR, VECTOR, VECTOR)
"""(t, y (n,), parameters (m,), out (n,)): write dy/dt."""

JACOBIAN = void(float64, VECTOR, VECTOR, MATRIX)
"""(t, y (n,), parameters (m,), out): write the Jacobian, (n, n), or diagonal, U.T and V.T stacked, (1 + 2k, n)."""

RUNNING, REACHED_END, STEP_TOO_SMALL, NOT_FINITE, STIFF, NO_CONVERGENCE = range(6)

# state[...]: time; next step; last step and its error; consecutive signs of (non-)stiffness; whether f at y is known;
# why the last attempt failed; of the implicit driver: contraction of Newton's iteration, step of the factors, whether
# the Jacobian is that of this step, ceiling after failures; of the stabilised one: spectral radius, its age; of the
# explicit one: the step that failed for want of stability, accepted steps since a rejection
T, H, H_OLD, ERROR_OLD, STIFF_SIGNS, OTHER_SIGNS, STARTED, FAILURE = range(8)
ETA, FACTORED_H, FRESH, CEILING, HAVE_JACOBIAN = range(8, 13)
RADIUS, AGE = 8, 9
FAILED_H, SINCE = 8, 9
STATE_SIZE = 16

# counts[...]
STEPS, REJECTED, EVALUATIONS, JACOBIANS, FACTORISATIONS, LINEAR = range(6)
COUNT_NAMES = ("steps", "rejected", "evaluations", "jacobians", "factorisations", "linear_iterations")

RECORD = (VECTOR, boolean, VECTOR, VECTOR, MATRIX, CUBE)
"""Times that have to be covered by recorded steps, whether all steps are recorded, and the record: start, width,
value (n,) and dense coefficients (degree, n) of each step: y(t + x h) = value + sum_k x^(k+1) dense[k]."""

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
_UNIT = 2.0**-52


@compiled(float64(float64, float64, float64, int64))
def factor(error, error_old, rejected, order):
    """Return the factor for the next step: a PI controller in the error and the last one (Gustafsson)."""
    if error == 0.0:
        return GROW if rejected == 0.0 else 1.0
    proportional = 0.2 / order
    raw = SAFETY * error ** -(1.0 / order - 0.75 * proportional) * error_old**proportional
    return max(SHRINK, min(GROW if rejected == 0.0 else 1.0, raw))


@compiled(float64(VECTOR, VECTOR, VECTOR, float64, VECTOR))
def scaled_norm(x, y, other, rtol, atol):
    """Return the root mean square of x / (atol + rtol max(|y|, |other|))."""
    total = 0.0
    for i in range(x.shape[0]):
        ratio = x[i] / (atol[i] + rtol * max(abs(y[i]), abs(other[i])))
        total += ratio * ratio
    return math.sqrt(total / x.shape[0])


@compiled(float64(float64))
def smallest_step(t):
    """Return the step below which t + h is round-off."""
    return 8.0 * _UNIT * max(abs(t), 1e-290)


@compiled(boolean(VECTOR))
def all_finite(x):
    """Return whether no entry is infinite or nan."""
    good = True
    for i in range(x.shape[0]):
        good = good and math.isfinite(x[i])
    return good


@compiled(
    int64(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, float64, VECTOR, float64, int64, VECTOR, COUNTS)
)
def start(rhs, pack, t_end, y, f, rtol, atol, widest, order, state, counts):
    """Evaluate f at the start and choose the first step where state[H] is 0 (Hairer, Norsett and Wanner I, II.4)."""
    t = state[T]
    rhs(t, y, pack, f)
    counts[EVALUATIONS] += 1
    state[STARTED] = 1.0
    if not all_finite(f):
        return NOT_FINITE
    if state[H] != 0.0:
        return RUNNING
    span = abs(t_end - t)
    direction = 1.0 if t_end > t else -1.0
    size, slope = scaled_norm(y, y, y, rtol, atol), scaled_norm(f, y, y, rtol, atol)
    h = 0.01 * size / slope if size > 1e-5 and slope > 1e-5 else 1e-6 * span
    h = min(h, span, widest)
    other = 0.0
    for _ in range(60):  # an Euler step may leave the domain of f, or come to where f is of another size altogether
        h = max(h, 10.0 * smallest_step(t))
        moved = y + direction * h * f
        new = np.empty_like(f)
        rhs(t + direction * h, moved, pack, new)
        counts[EVALUATIONS] += 1
        if all_finite(new):
            bend = scaled_norm(new - f, y, y, rtol, atol) / h
            largest = max(slope, bend)
            other = (0.01 / largest) ** (1.0 / order) if largest > 1e-15 else max(1e-6 * span, 1e-3 * h)
            if other > smallest_step(t):
                break
        h *= 0.1
    h = min(100.0 * h, other, span, widest)
    state[H] = h if math.isfinite(h) and h > 0.0 else 1e-6 * span
    return RUNNING
