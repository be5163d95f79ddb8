"""Compiled right-hand sides of the dual reduction of diagonal nets; `theorykit.flow.reduction` has the mathematics.

State y (r numbers): c = y / kappa, and B = c @ basis is the exponent of every coordinate. kappa is such that one unit
of y moves the outputs or the exponents by about one, whichever comes first.

- kernel frame: c is the scaled dual sigma^L m, so that nothing overflows however large alpha is;
- rich frame: c counts from the last anchor, at which log|u|, log|v| are known.

`clock` is tau or log tau. All huge or tiny factors enter as one exponent.

Squared loss: f - y falls to about 1/A, far below the round-off of f, so that the residual is a state of its own,
rho = C R(f - y), stacked below y in the unit 2 kappa/n. With S = A dtau/dclock (A = sigma^(2(L-1))/lambda in the kernel
frame, 1/lambda in the rich one), Euler's identity gives d(f - y)/dtau = -L f - (2/n) A K(theta) (f - y), so

    drho/dclock = (d log C/dclock - L) rho - C L R y - (2/n) S T rho,    T = R Z diag(tangent weights) basis.T,

with C = S where S K/n > 1, constant below. Past a cap S stays constant too: rho is then slaved to the interpolating
manifold, and all but f - y itself (which is rho over the true A) changes by O(1/S) = 1e-12 only. In the rich frame T
may lose rank (fewer active coordinates than samples): there a part `DAMPED` of its mean is added to its diagonal, which
keeps round-off from driving the directions that nothing else holds.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, types

from theorykit._numerics.compile import compiled
from theorykit._numerics.signatures import JACOBIAN, MATRIX, MONITOR, PACK, RHS, VECTOR
from theorykit.losses import EXPONENTIAL, SQUARED

# pack[7]: hyper-parameters
LOG_SIGMA0, LOG_LAMBDA, KAPPA, TAU_ANCHOR, DECAY, LOG_N, Z_MAX, SWITCH, LOG_CAP, DAMPED, LOG_SIZE = range(11)
# pack[8]: integers
LOSS, DEGREE, FRAME, LOG_CLOCK, SPAN, SMALL_DATA, BALANCED = range(7)
KERNEL, RICH = 0, 1

_LARGEST_LOG = 700.0  # log tau passes it without weight decay only, where tau itself is multiplied by 0
MOST_DECAY = 5.0  # of the logarithm of a dying coordinate's weight, and so of an eigenvalue, between two anchors
_BLOCK = 1024  # columns at a time: what a pass over them reads and writes stays in the cache for the next one
_REASSOCIATE = {"reassoc", "contract", "nsz"}  # lets dot products use wide registers; keeps NaN and infinity meaningful

# What only other compiled code calls has no signature: it is compiled into its callers, and a fresh process loads those
# from the cache alone.


@compiled(fastmath=_REASSOCIATE)
def _rows_times(c, z, start, stop, out):
    """Write c (k, n) @ z[:, start:stop] into the first columns of out: four rows of z, three of c at a time."""
    k, n, width = c.shape[0], z.shape[0], stop - start
    out[:, :width] = 0.0
    i = 0
    while i + 4 <= n:
        z0, z1, z2, z3 = z[i, start:stop], z[i + 1, start:stop], z[i + 2, start:stop], z[i + 3, start:stop]
        s = 0
        while s + 3 <= k:  # the three stages of a step share each load of z
            a0, a1, a2, a3 = c[s, i], c[s, i + 1], c[s, i + 2], c[s, i + 3]
            b0, b1, b2, b3 = c[s + 1, i], c[s + 1, i + 1], c[s + 1, i + 2], c[s + 1, i + 3]
            e0, e1, e2, e3 = c[s + 2, i], c[s + 2, i + 1], c[s + 2, i + 2], c[s + 2, i + 3]
            out0, out1, out2 = out[s, :width], out[s + 1, :width], out[s + 2, :width]
            for j in range(width):
                x0, x1, x2, x3 = float64(z0[j]), float64(z1[j]), float64(z2[j]), float64(z3[j])
                out0[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                out1[j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                out2[j] += e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3
            s += 3
        while s < k:
            a0, a1, a2, a3 = c[s, i], c[s, i + 1], c[s, i + 2], c[s, i + 3]
            out0 = out[s, :width]
            for j in range(width):
                out0[j] += a0 * z0[j] + a1 * z1[j] + a2 * z2[j] + a3 * z3[j]
            s += 1
        i += 4
    while i < n:
        z0 = z[i, start:stop]
        for s in range(k):
            a0, out0 = c[s, i], out[s, :width]
            for j in range(width):
                out0[j] += a0 * z0[j]
        i += 1


@compiled(fastmath=_REASSOCIATE)
def _add_columns_times(w, z, start, stop, out):
    """Add w (k, first columns) @ z[:, start:stop].T to out (k, n): two rows of z, three of w at a time."""
    k, n, width = w.shape[0], z.shape[0], stop - start
    s = 0
    while s + 3 <= k:
        w0, w1, w2 = w[s, :width], w[s + 1, :width], w[s + 2, :width]
        for i in range(0, n - 1, 2):
            row, next_row = z[i, start:stop], z[i + 1, start:stop]
            t0, t1, t2, r0, r1, r2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(width):
                x, y = float64(row[j]), float64(next_row[j])
                t0 += w0[j] * x
                t1 += w1[j] * x
                t2 += w2[j] * x
                r0 += w0[j] * y
                r1 += w1[j] * y
                r2 += w2[j] * y
            out[s, i] += t0
            out[s + 1, i] += t1
            out[s + 2, i] += t2
            out[s, i + 1] += r0
            out[s + 1, i + 1] += r1
            out[s + 2, i + 1] += r2
        if n % 2 == 1:
            row = z[n - 1, start:stop]
            t0, t1, t2 = 0.0, 0.0, 0.0
            for j in range(width):
                x = float64(row[j])
                t0 += w0[j] * x
                t1 += w1[j] * x
                t2 += w2[j] * x
            out[s, n - 1] += t0
            out[s + 1, n - 1] += t1
            out[s + 2, n - 1] += t2
        s += 3
    while s < k:
        w0 = w[s, :width]
        for i in range(n):
            row, total = z[i, start:stop], 0.0
            for j in range(width):
                total += w0[j] * row[j]
            out[s, i] += total
        s += 1


@compiled()
def _exponents_of(c, pack, start, stop, out):
    """Write B = c @ basis for the columns from start to stop."""
    if pack[8][SMALL_DATA] == 1:
        _rows_times(c, pack[1], start, stop, out)
    else:
        _rows_times(c, pack[2], start, stop, out)


@compiled()
def _add_outputs(w, pack, start, stop, out):
    """Add what the weights w of the columns from start to stop contribute to w @ Z.T."""
    if pack[8][SMALL_DATA] == 1:
        _add_columns_times(w, pack[1], start, stop, out)
    else:
        _add_columns_times(w, pack[0], start, stop, out)


@compiled()
def _features(pack):
    return pack[1].shape[1] if pack[8][SMALL_DATA] == 1 else pack[0].shape[1]


@compiled(MATRIX(MATRIX, PACK))
def exponents(c, pack):
    """Return B = c @ basis, shape (k, d)."""
    d = _features(pack)
    out, part = np.empty((c.shape[0], d)), np.empty((c.shape[0], min(_BLOCK, d)))
    for start in range(0, d, _BLOCK):
        stop = min(d, start + _BLOCK)
        _exponents_of(c, pack, start, stop, part)
        out[:, start:stop] = part[:, : stop - start]
    return out


@compiled()
def outputs(w, pack):
    """Return w @ Z.T, shape (k, n)."""
    d = _features(pack)
    out, part = np.zeros((w.shape[0], pack[5].shape[0])), np.empty((w.shape[0], min(_BLOCK, d)))
    for start in range(0, d, _BLOCK):
        stop = min(d, start + _BLOCK)
        part[:, : stop - start] = w[:, start:stop]
        _add_outputs(part, pack, start, stop, out)
    return out


@compiled()
def _times(clock, pack):  # tau, its logarithm where it multiplies the right-hand side (else 0), log sigma
    hyper = pack[7]
    tau = math.exp(min(clock, _LARGEST_LOG)) if pack[8][LOG_CLOCK] == 1 else clock
    log_rate = clock if pack[8][LOG_CLOCK] == 1 else 0.0
    return tau, log_rate, hyper[LOG_SIGMA0] - hyper[DECAY] * tau


@compiled()
def _lag(clock, pack):
    """Return the time since the anchor, in units of the decay (0 in the kernel frame)."""
    if pack[8][FRAME] == KERNEL:
        return 0.0
    return pack[7][DECAY] * (_times(clock, pack)[0] - pack[7][TAU_ANCHOR])


_C3, _C5, _C7, _C9, _C11, _C13 = (1.0 / math.factorial(m) for m in (3, 5, 7, 9, 11, 13))
_C2, _C4, _C6, _C8, _C10, _C12 = (1.0 / math.factorial(m) for m in (2, 4, 6, 8, 10, 12))
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # their sum is ln 2, the first has few bits


@compiled(error_model="numpy", fastmath={"contract"})
def _scaled_sinh(x, scale, out):
    """Write scale * sinh(x) for |x| < 709, to a few units of round-off, without a call to libm for each entry.

    libm's sinh would cost more than both passes over a wide data matrix. Small x: Taylor to x^13. Large x: e^|x| by
    range reduction to |r| < ln(2)/2, Taylor to r^13, and the power of two through its bits. The NumPy error model
    spares the test for a division by zero, which would keep the compiler from using wide instructions.
    """
    bits, reduced = np.empty(_BLOCK, dtype=np.int64), np.empty(_BLOCK)
    powers = bits.view(np.float64)
    for start in range(0, x.shape[0], _BLOCK):
        stop = min(x.shape[0], start + _BLOCK)
        part, target = x[start:stop], out[start:stop]
        for j in range(stop - start):
            a = abs(part[j])
            k = np.floor(a * 1.4426950408889634 + 0.5)
            reduced[j] = (a - k * _LN2_HIGH) - k * _LN2_LOW
            bits[j] = (np.int64(k) + 1023) << 52
        for j in range(stop - start):
            r = reduced[j]
            p = _C8 + r * (_C9 + r * (_C10 + r * (_C11 + r * (_C12 + r * _C13))))
            p = 1.0 + r * (1.0 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * (_C7 + r * p)))))))
            e = p * powers[j]
            a = abs(part[j])
            x2 = a * a
            small = a * (1.0 + x2 * (_C3 + x2 * (_C5 + x2 * (_C7 + x2 * (_C9 + x2 * (_C11 + x2 * _C13))))))
            value = small if a < 0.3 else 0.5 * (e - 1.0 / e)
            target[j] = scale * (value if part[j] >= 0.0 else -value)


@compiled(fastmath=_REASSOCIATE)
def _kernel_weights(epsilon, b, pack, w):  # (a_+^L - a_-^L) / epsilon as a quotient, never as a difference
    degree = pack[8][DEGREE]
    if degree == 2:
        largest = 4.0 * epsilon * np.max(np.abs(b))
        if largest < 1e-8:  # where epsilon may have underflown, too
            w[:] = 8.0 * b
        elif not largest < 700.0:
            w[:] = math.nan  # far past the frame's end: the step is too long, and the integrator will halve it
        else:
            _scaled_sinh(4.0 * epsilon * b, 2.0 / epsilon, w)
    else:
        scale = degree * (degree - 2.0)
        power = degree / (degree - 2.0)
        for j in range(b.shape[0]):
            x = scale * epsilon * b[j]
            if abs(x) < 1e-8:
                w[j] = 2.0 * degree * degree * b[j]
            elif abs(x) >= 1.0:
                w[j] = math.nan  # past the pole: the step is too long, and the integrator will halve it
            else:
                w[j] = 2.0 * math.exp(-0.5 * power * math.log1p(-x * x)) * math.sinh(power * math.atanh(x)) / epsilon


@compiled()
def log_coordinates(b, lag, anchor, pack):
    """Return the change of log|u| (or log|v|) since its anchor for a signed exponent b, with and without decay."""
    degree = pack[8][DEGREE]
    if degree == 2:
        growth = 2.0 * b
    else:
        change = -degree * (degree - 2.0) * math.exp((degree - 2.0) * anchor) * b
        growth = -math.log1p(change) / (degree - 2.0) if change > -1.0 else math.nan  # nan: the step is too long
    return growth - lag, growth


@compiled(fastmath=_REASSOCIATE)
def _rich_weights(log_sigma, lag, b, start, pack, w):
    degree, stop = pack[8][DEGREE], start + b.shape[0]
    anchor_u, anchor_v = pack[6][0, start:stop], pack[6][1, start:stop]
    sign_u, sign_v = pack[6][2, start:stop], pack[6][3, start:stop]
    if pack[8][BALANCED] == 1 and degree == 2:  # u v = sigma^2 for every coordinate
        x = anchor_u - anchor_v + 4.0 * b
        if np.max(np.abs(x)) <= 30.0:
            _scaled_sinh(x, 2.0 * math.exp(2.0 * log_sigma), w)
            return
        near = np.empty_like(x)  # not w, which may be b itself
        _scaled_sinh(np.minimum(np.maximum(x, -40.0), 40.0), 2.0 * math.exp(2.0 * log_sigma), near)
        for j in range(b.shape[0]):
            if x[j] > 30.0:  # far out the scale may underflow, and x and log(sigma) would cancel: from the anchor
                w[j] = math.exp(2.0 * (anchor_u[j] - lag + 2.0 * b[j]))
            elif x[j] < -30.0:
                w[j] = -math.exp(2.0 * (anchor_v[j] - lag - 2.0 * b[j]))
            else:
                w[j] = near[j]
    else:
        for j in range(b.shape[0]):
            log_u = anchor_u[j] + log_coordinates(sign_u[j] * b[j], lag, anchor_u[j], pack)[0]
            log_v = anchor_v[j] + log_coordinates(-sign_v[j] * b[j], lag, anchor_v[j], pack)[0]
            w[j] = sign_u[j] * math.exp(degree * log_u) - sign_v[j] * math.exp(degree * log_v)


@compiled()
def _tangent(clock, b, start, pack):
    """Return the weight of the tangent kernel and its slope in B for the coordinates from start on.

    The slope of w in B is the weight itself in the kernel frame, and e^((L-2) lag) times it in the rich one.
    """
    degree, stop = float(pack[8][DEGREE]), start + b.shape[0]
    anchor_u, anchor_v = pack[6][0, start:stop], pack[6][1, start:stop]
    sign_u, sign_v = pack[6][2, start:stop], pack[6][3, start:stop]
    _, _, log_sigma = _times(clock, pack)
    p, q = 2.0 * degree - 2.0, 3.0 * degree - 4.0
    weight, slope = np.empty_like(b), np.empty_like(b)
    if pack[8][FRAME] == KERNEL:
        epsilon = math.exp(-degree * log_sigma)
        for j in range(b.shape[0]):
            log_u = log_coordinates(epsilon * b[j], 0.0, 0.0, pack)[1]
            log_v = log_coordinates(-epsilon * b[j], 0.0, 0.0, pack)[1]
            weight[j] = degree**2 * (math.exp(p * log_u) + math.exp(p * log_v))
            slope[j] = epsilon * degree**3 * p * (math.exp(q * log_u) - math.exp(q * log_v))
    else:
        lag = _lag(clock, pack)
        growth = math.exp((degree - 2.0) * lag)
        for j in range(b.shape[0]):
            log_u = anchor_u[j] + log_coordinates(sign_u[j] * b[j], lag, anchor_u[j], pack)[0]
            log_v = anchor_v[j] + log_coordinates(-sign_v[j] * b[j], lag, anchor_v[j], pack)[0]
            weight[j] = degree**2 * (math.exp(p * log_u) + math.exp(p * log_v))
            slope[j] = growth * degree**3 * p * (sign_u[j] * math.exp(q * log_u) - sign_v[j] * math.exp(q * log_v))
    return weight, slope


@compiled()
def _kernel_outputs_by_gram(c, pack):  # exact to round-off while epsilon * B is below 1e-8
    return np.dot(c, pack[4]) * (2.0 * pack[8][DEGREE] ** 2)


@compiled()
def _weigh(clocks, b, start, stop, pack):
    """Replace the exponents of the columns from start to stop by the weights u^L - v^L, at each of the clock times."""
    for s in range(clocks.shape[0]):
        log_sigma, part = _times(clocks[s], pack)[2], b[s, : stop - start]
        if pack[8][FRAME] == KERNEL:
            _kernel_weights(math.exp(-pack[8][DEGREE] * log_sigma), part, pack, part)
        else:
            _rich_weights(log_sigma, _lag(clocks[s], pack), part, start, pack, part)


@compiled(MATRIX(VECTOR, MATRIX, PACK))
def state_weights(clocks, c, pack):
    """Return w = u^L - v^L (signed), shape (k, d), at k states."""
    d = _features(pack)
    out, part = np.empty((c.shape[0], d)), np.empty((c.shape[0], min(_BLOCK, d)))
    for start in range(0, d, _BLOCK):
        stop = min(d, start + _BLOCK)
        _exponents_of(c, pack, start, stop, part)
        _weigh(clocks, part, start, stop, pack)
        out[:, start:stop] = part[:, : stop - start]
    return out


@compiled(types.UniTuple(MATRIX, 2)(VECTOR, MATRIX, PACK))
def state_coordinates(clocks, c, pack):
    """Return log|u| and log|v|, shapes (k, d); in the kernel frame relative to log sigma."""
    degree = pack[8][DEGREE]
    b = exponents(c, pack)
    log_u, log_v = np.empty_like(b), np.empty_like(b)
    for s in range(clocks.shape[0]):
        log_sigma = _times(clocks[s], pack)[2]
        if pack[8][FRAME] == KERNEL:
            epsilon = math.exp(-degree * log_sigma)
            for j in range(b.shape[1]):
                log_u[s, j] = log_coordinates(epsilon * b[s, j], 0.0, 0.0, pack)[1]
                log_v[s, j] = log_coordinates(-epsilon * b[s, j], 0.0, 0.0, pack)[1]
        else:
            lag = _lag(clocks[s], pack)
            for j in range(b.shape[1]):
                u, v = pack[6][0, j], pack[6][1, j]
                log_u[s, j] = u + log_coordinates(pack[6][2, j] * b[s, j], lag, u, pack)[0]
                log_v[s, j] = v + log_coordinates(-pack[6][3, j] * b[s, j], lag, v, pack)[0]
    return log_u, log_v


@compiled(MATRIX(VECTOR, MATRIX, PACK))
def state_outputs(clocks, c, pack):
    """Return Z w(c), shape (k, n): the output margins (classification) or outputs (squared loss) at k states."""
    hyper, degree = pack[7], pack[8][DEGREE]
    kernel = pack[8][FRAME] == KERNEL
    if kernel and pack[8][SPAN] == 0:
        largest = 0.0
        for s in range(clocks.shape[0]):
            epsilon = math.exp(-degree * _times(clocks[s], pack)[2])
            largest = max(largest, epsilon * np.sum(np.abs(c[s])))
        if largest * hyper[Z_MAX] * degree * degree < 1e-8:
            return _kernel_outputs_by_gram(c, pack)
    d = _features(pack)
    out, part = np.zeros((c.shape[0], pack[5].shape[0])), np.empty((c.shape[0], min(_BLOCK, d)))
    for start in range(0, d, _BLOCK):  # the data are read from memory once: a block of them stays in the cache
        stop = min(d, start + _BLOCK)
        _exponents_of(c, pack, start, stop, part)
        _weigh(clocks, part, start, stop, pack)
        _add_outputs(part, pack, start, stop, out)
    return out


@compiled(float64(float64, PACK))
def log_stiffness(clock, pack):
    """Return log S = log(A dtau/dclock)."""
    _, log_rate, log_sigma = _times(clock, pack)
    log_s = log_rate - pack[7][LOG_LAMBDA]
    if pack[8][FRAME] == KERNEL:
        log_s += 2.0 * (pack[8][DEGREE] - 1.0) * log_sigma
    return log_s


@compiled(types.UniTuple(float64, 3)(float64, PACK))
def residual_scale(clock, pack):
    """Return log S as it is integrated (capped), log C, and the slope of log C (squared loss)."""
    hyper = pack[7]
    log_s = log_stiffness(clock, pack)
    if log_s > hyper[LOG_CAP]:
        return hyper[LOG_CAP], hyper[LOG_CAP], 0.0
    least = hyper[LOG_N] - hyper[LOG_SIZE]
    if log_s < least:
        return log_s, least, 0.0
    slope, per_clock = (1.0, _times(clock, pack)[0]) if pack[8][LOG_CLOCK] == 1 else (0.0, 1.0)
    if pack[8][FRAME] == KERNEL:
        slope -= 2.0 * (pack[8][DEGREE] - 1.0) * hyper[DECAY] * per_clock
    return log_s, log_s, slope


@compiled()
def _extra_damping(log_s, log_c, pack):
    """Return what is added to the rate (2/n) S T where T may lose rank, in units of rho."""
    if log_s < log_c:
        return 0.0
    return pack[7][DAMPED] * 2.0 * math.exp(log_s + pack[7][LOG_SIZE] - pack[7][LOG_N])


@compiled()
def _decay(clock, pack):
    """Return L dtau/dclock (0 without weight decay): the rate at which outputs decay."""
    return pack[8][DEGREE] * pack[7][DECAY] * math.exp(min(_times(clock, pack)[1], _LARGEST_LOG))


@compiled()
def _damping(clock, pack):
    """Return the coefficient of -y: the decay in the kernel frame (its dual is scaled by sigma^L), else 0."""
    return 0.0 if pack[8][FRAME] == RICH else _decay(clock, pack)


@compiled()
def _shrinking(clock, pack):
    """Return e^(-(L-2) lag), with which the dual of the rich frame gains."""
    return math.exp(-(pack[8][DEGREE] - 2.0) * _lag(clock, pack))


@compiled()
def _rates(log_factor, q, pack):
    """Return exp(log_factor) * (-loss'(q_i)) of a classification loss, with one exponent."""
    out = np.empty(q.shape[0])
    exponential = pack[8][LOSS] == EXPONENTIAL
    for i in range(q.shape[0]):
        if exponential:
            out[i] = math.exp(log_factor - q[i])
        else:
            softplus = q[i] + math.log1p(math.exp(-q[i])) if q[i] > 0.0 else math.log1p(math.exp(q[i]))
            out[i] = math.exp(log_factor - softplus)
    return out


@compiled()
def _weighted(weights, pack):
    """Return Z diag(weights) basis.T, shape (n, r), exactly."""
    if pack[8][SMALL_DATA] == 0:
        return np.dot(pack[0] * weights, pack[2].T)
    z = pack[1]
    n, d = z.shape
    out = np.zeros((n, n))
    for start in range(0, d, _BLOCK):
        stop = min(d, start + _BLOCK)
        block = z[:, start:stop].astype(np.float64)
        out += np.dot(block * weights[start:stop], block.T)
    return out


@compiled()
def _weighted_single(weights, pack):
    """Return Z diag(weights) basis.T in single precision, a block of columns at a time."""
    z, basis = pack[0], pack[2]
    n, r, largest = z.shape[0], basis.shape[0], np.max(weights)
    out = np.zeros((n, r), dtype=np.float32)
    scaled, plain = np.zeros((n, _BLOCK), dtype=np.float32), np.zeros((r, _BLOCK), dtype=np.float32)
    for start in range(0, z.shape[1], _BLOCK):
        stop = min(z.shape[1], start + _BLOCK)
        part = weights[start:stop] / largest
        for i in range(n):
            row, target = z[i, start:stop], scaled[i]
            target[stop - start :] = 0.0
            for j in range(stop - start):
                target[j] = np.float32(row[j] * part[j])
        for i in range(r):
            row, target = basis[i, start:stop], plain[i]
            for j in range(stop - start):
                target[j] = np.float32(row[j])
        out += np.dot(scaled, plain.T)
    return out * largest


_MOST_EXACT = 1024  # columns that enter an approximate weighted Gram matrix one by one


@compiled()
def _weighted_nearly(weights, pack):
    """Return Z diag(weights) basis.T, for wide data nearly: only the Newton iteration's matrix is made of it.

    The iteration converges to the same solution, a little more slowly. Wide float data are multiplied in single
    precision; of int8 data the bulk of the weights is replaced by their mean, which saves the n^2 d operations.
    """
    z, d = pack[1], _features(pack)
    if d <= 4 * _MOST_EXACT:
        return _weighted(weights, pack)
    if pack[8][SMALL_DATA] == 0:
        return _weighted_single(weights, pack)
    sample = np.sort(weights[:: d // 1024])
    centre = sample[sample.shape[0] // 2]
    spread = np.abs(weights - centre)
    threshold = max(np.partition(spread, d - _MOST_EXACT)[d - _MOST_EXACT], 0.02 * centre)
    exact = np.flatnonzero(spread > threshold)
    bulk = (np.sum(weights) - np.sum(weights[exact])) / max(1, d - exact.shape[0])
    block = np.empty((z.shape[0], exact.shape[0]))
    for i in range(z.shape[0]):
        for j in range(exact.shape[0]):
            block[i, j] = z[i, exact[j]]
    return bulk * pack[4] + np.dot(block * (weights[exact] - bulk), block.T)


@compiled()
def _lift(rates, pack):
    """Return R @ rates: from one number a sample to one a state component."""
    return np.dot(rates, pack[3]) if pack[8][SPAN] == 1 else rates


@compiled()
def _square(weights, pack):
    """Return R Z diag(weights) basis.T, shape (r, r)."""
    m = _weighted(weights, pack)
    return np.dot(pack[3].T, m) if pack[8][SPAN] == 1 else m


@compiled()
def _rhs_squared(clocks, states, pack, out):
    hyper = pack[7]
    n, r = pack[5].shape[0], states.shape[1] // 2
    rho = states[:, r:].copy()
    c, k, d = states[:, :r] / hyper[KAPPA], states.shape[0], _features(pack)
    forces, b, direction = np.zeros((k, n)), np.empty((k, min(_BLOCK, d))), np.empty((k, min(_BLOCK, d)))
    for start in range(0, d, _BLOCK):
        stop = min(d, start + _BLOCK)
        _exponents_of(c, pack, start, stop, b)
        _exponents_of(rho, pack, start, stop, direction)
        for s in range(k):
            direction[s, : stop - start] *= _tangent(clocks[s], b[s, : stop - start], start, pack)[0]
        _add_outputs(direction, pack, start, stop, forces)
    pull = 2.0 * hyper[KAPPA] / n * _lift(pack[5], pack)
    for s in range(clocks.shape[0]):
        log_s, log_c, slope = residual_scale(clocks[s], pack)
        gain = math.exp(log_s - log_c) * _shrinking(clocks[s], pack)
        decay = _decay(clocks[s], pack)
        out[s, :r] = -_damping(clocks[s], pack) * states[s, :r] - gain * rho[s]
        forced = math.exp(log_c) * decay * pull + math.exp(log_s) * 2.0 / n * _lift(forces[s], pack)
        out[s, r:] = (slope - decay - _extra_damping(log_s, log_c, pack)) * rho[s] - forced


@compiled(RHS)
def rhs(clocks, states, pack, out):
    """Write d(state)/d(clock) of the reduced flow."""
    if pack[8][LOSS] == SQUARED:
        _rhs_squared(clocks, states, pack, out)
        return
    hyper = pack[7]
    q = state_outputs(clocks, states / hyper[KAPPA], pack)
    for s in range(clocks.shape[0]):
        rates = _lift(_rates(log_stiffness(clocks[s], pack) - hyper[LOG_N], q[s], pack), pack)
        out[s] = hyper[KAPPA] * _shrinking(clocks[s], pack) * rates - _damping(clocks[s], pack) * states[s]


@compiled(JACOBIAN)
def jacobian(clock, state, pack, out):
    """Write the Jacobian of `rhs` (analytic; for wide data to the few digits that the Newton iteration needs)."""
    hyper = pack[7]
    squared = pack[8][LOSS] == SQUARED
    r = state.shape[0] // 2 if squared else state.shape[0]
    c = np.empty((1, r))
    c[0] = state[:r] / hyper[KAPPA]
    b = exponents(c, pack)
    weight, slope = _tangent(clock, b[0], 0, pack)
    if squared:
        n = pack[5].shape[0]
        rho = np.empty((1, r))
        rho[0] = state[r:]
        log_s, log_c, log_slope = residual_scale(clock, pack)
        big = 2.0 / n * math.exp(log_s)
        out[:, :] = 0.0
        out[r:, r:] = -big * _square(weight, pack)
        out[r:, :r] = -big / hyper[KAPPA] * _square(slope * exponents(rho, pack)[0], pack)
        for i in range(r):
            out[i, i] = -_damping(clock, pack)
            out[i, r + i] = -_shrinking(clock, pack) * math.exp(log_s - log_c)
            out[r + i, r + i] += log_slope - _decay(clock, pack) - _extra_damping(log_s, log_c, pack)
        return
    clocks = np.empty(1)
    clocks[0] = clock
    _weigh(clocks, b, 0, b.shape[1], pack)
    q = outputs(b, pack)[0]
    steepness = _rates(log_stiffness(clock, pack) - hyper[LOG_N], q, pack)
    if pack[8][LOSS] != EXPONENTIAL:
        for i in range(q.shape[0]):
            steepness[i] *= 1.0 / (1.0 + math.exp(-q[i])) if q[i] > 0.0 else math.exp(q[i]) / (1.0 + math.exp(q[i]))
    # dw/dB gains e^((L-2) lag) over the tangent weight, which the shrinking of the dual takes back
    m = _weighted_nearly(weight, pack)
    for i in range(m.shape[0]):
        m[i] *= -steepness[i]
    if pack[8][SPAN] == 1:
        out[:, :] = np.dot(pack[3].T, m)
    else:
        out[:, :] = m
    damping = _damping(clock, pack)
    for i in range(r):
        out[i, i] -= damping


@compiled(MONITOR)
def monitor(clock, state, pack):
    """Say whether the frame has come to its end: kernel where epsilon*B is of order one, rich where digits are lost."""
    hyper, degree = pack[7], pack[8][DEGREE]
    _, _, log_sigma = _times(clock, pack)
    r = state.shape[0] // 2 if pack[8][LOSS] == SQUARED else state.shape[0]
    c = np.empty((1, r))
    c[0] = state[:r] / hyper[KAPPA]
    if pack[8][FRAME] == KERNEL:
        epsilon = math.exp(-degree * log_sigma)
        strength = epsilon * degree * degree
        if pack[8][SPAN] == 0 and strength * np.sum(np.abs(c[0])) * hyper[Z_MAX] < hyper[SWITCH]:
            return False  # a bound that spares the pass over the data
        return strength * np.max(np.abs(exponents(c, pack)[0])) > hyper[SWITCH]
    lag = _lag(clock, pack)
    if pack[8][LOSS] == SQUARED and lag > MOST_DECAY / (2.0 * degree - 2.0):
        return True
    if degree == 2:
        return lag > 30.0
    b = exponents(c, pack)[0]
    scale = degree * (degree - 2.0)
    for j in range(b.shape[0]):
        for row, sign in ((0, 1.0), (1, -1.0)):
            if scale * math.exp((degree - 2.0) * pack[6][row, j]) * pack[6][row + 2, j] * sign * b[j] > 0.9:
                return True
    return False
