"""Solving (shift I - J) x = b for the implicit driver: J dense, diagonal plus low rank, or only acting on vectors."""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, complex128, float64, types

from theorykit._numerics.compile import compiled
from theorykit.flow.ode._drive import COUNTS, EVALUATIONS, LINEAR, MATRIX, RHS, VECTOR

DENSE, LOW_RANK, KRYLOV = range(3)
KRYLOV_SIZE = 40  # largest dimension of the Krylov space

COMPLEX, COMPLEX_VECTOR = types.Array(complex128, 2, "C"), types.Array(complex128, 1, "C")


@compiled([boolean(MATRIX, float64, MATRIX), boolean(MATRIX, complex128, COMPLEX)])
def factor_low_rank(j, shift, factors):
    """Woodbury: row 0 of `factors` becomes 1/(shift - d), the rest the inverse of I - V.T diag U; False if singular."""
    rank, n = (j.shape[0] - 1) // 2, j.shape[1]
    for i in range(n):
        gap = shift - j[0, i]
        if not abs(gap) > 0.0:
            return False
        factors[0, i] = 1.0 / gap
    u, v = j[1 : 1 + rank], j[1 + rank :]
    small = np.eye(rank) - np.dot(v * factors[0], np.ascontiguousarray(u.T).astype(factors.dtype))
    for a in range(rank):
        for b in range(rank):
            if not (math.isfinite(small[a, b].real) and math.isfinite(small[a, b].imag)):
                return False
    factors[1:, :rank] = np.linalg.inv(small)
    return True


@compiled([types.void(MATRIX, MATRIX, VECTOR), types.void(MATRIX, COMPLEX, COMPLEX_VECTOR)])
def solve_low_rank(j, factors, x):
    """Solve in place with what `factor_low_rank` made."""
    rank = (j.shape[0] - 1) // 2
    for i in range(x.shape[0]):
        x[i] *= factors[0, i]
    seen = np.zeros(rank, dtype=x.dtype)
    for a in range(rank):
        for i in range(x.shape[0]):
            seen[a] += j[1 + rank + a, i] * x[i]
    for a in range(rank):
        weight = factors[0, 0] * 0.0
        for b in range(rank):
            weight += factors[1 + a, b] * seen[b]
        for i in range(x.shape[0]):
            x[i] += weight * factors[0, i] * j[1 + a, i]


@compiled(types.void(types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, COUNTS))
def _action(rhs, pack, t, y, f, direction, scale, out, counts):
    """Write J direction, by one difference of f."""
    size = 0.0
    for i in range(y.shape[0]):
        size += (direction[i] / scale[i]) ** 2
    size = math.sqrt(size / y.shape[0])
    if size == 0.0:
        out[:] = 0.0
        return
    # the difference moves y by a millionth of its own scale, which is far above round-off and keeps curvature out
    large = 0.0
    for i in range(y.shape[0]):
        large += (y[i] / scale[i]) ** 2
    step = 1e-8 * max(math.sqrt(large / y.shape[0]), 1.0) / size
    moved = y + step * direction
    rhs(t, moved, pack, out)
    counts[EVALUATIONS] += 1
    for i in range(y.shape[0]):
        out[i] = (out[i] - f[i]) / step


@compiled(
    boolean(
        types.FunctionType(RHS), VECTOR, float64, VECTOR, VECTOR, complex128, VECTOR, COMPLEX_VECTOR, float64, COUNTS
    )
)
def solve_krylov(rhs, pack, t, y, f, shift, scale, x, tolerance, counts):
    """Solve in place by GMRES, J acting through differences; False if it stagnates.

    In the scaled root mean square the error of x is at most `tolerance`, for every J whose symmetric part (scaled) is
    negative semidefinite: there |(shift - J)^-1| <= 1/Re(shift).
    """
    n = y.shape[0]
    size = min(KRYLOV_SIZE, n)
    basis = np.empty((size + 1, n), dtype=np.complex128)
    h = np.zeros((size + 1, size), dtype=np.complex128)
    cosines, sines = np.zeros(size), np.zeros(size, dtype=np.complex128)
    rotated = np.zeros(size + 1, dtype=np.complex128)
    x /= scale
    beta = math.sqrt(np.vdot(x, x).real)
    if beta == 0.0:
        return True
    if not math.isfinite(beta):
        return False
    basis[0] = x / beta
    rotated[0] = beta
    real_part, imaginary_part, action = np.empty(n), np.empty(n), np.empty(n)
    enough = max(tolerance * shift.real * math.sqrt(n), 1e-9 * beta)  # differences are not worth more
    used = 0
    for k in range(size):
        is_complex = False
        for i in range(n):
            real_part[i] = basis[k, i].real * scale[i]
            imaginary_part[i] = basis[k, i].imag * scale[i]
            is_complex = is_complex or imaginary_part[i] != 0.0
        _action(rhs, pack, t, y, f, real_part, scale, action, counts)
        for i in range(n):
            basis[k + 1, i] = shift * basis[k, i] - action[i] / scale[i]
        if is_complex:
            _action(rhs, pack, t, y, f, imaginary_part, scale, action, counts)
            for i in range(n):
                basis[k + 1, i] -= 1j * action[i] / scale[i]
        counts[LINEAR] += 1
        for j in range(k + 1):
            h[j, k] = np.vdot(basis[j], basis[k + 1])
            basis[k + 1] -= h[j, k] * basis[j]
        length = math.sqrt(np.vdot(basis[k + 1], basis[k + 1]).real)
        if not math.isfinite(length):
            return False
        for j in range(k):
            first = cosines[j] * h[j, k] + sines[j] * h[j + 1, k]
            h[j + 1, k] = -sines[j].conjugate() * h[j, k] + cosines[j] * h[j + 1, k]
            h[j, k] = first
        own = abs(h[k, k])
        root = math.hypot(own, length)
        if root == 0.0:
            return False
        phase = h[k, k] / own if own > 0.0 else 1.0 + 0.0j
        cosines[k], sines[k] = own / root, phase * length / root
        h[k, k] = phase * root
        rotated[k + 1] = -sines[k].conjugate() * rotated[k]
        rotated[k] = cosines[k] * rotated[k]
        used = k + 1
        if abs(rotated[k + 1]) <= enough or length <= 1e-14 * root:
            break
        basis[k + 1] /= length
    good = abs(rotated[used]) <= max(enough, 1e-3 * beta)
    for j in range(used - 1, -1, -1):
        for i in range(j + 1, used):
            rotated[j] -= h[j, i] * rotated[i]
        rotated[j] /= h[j, j]
    x[:] = 0.0
    for j in range(used):
        x += rotated[j] * basis[j]
    x *= scale
    return good
