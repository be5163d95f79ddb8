"""Real and complex linear systems in compiled code, factored once and solved often."""

from __future__ import annotations

import math

import numpy as np

from theorykit._numerics.compile import compiled

SMALL = 48  # up to here plain loops are faster than LAPACK, which then inverts

# No signatures: only compiled code calls these, and they are compiled into it.


@compiled()
def factor_dense(a, pivots):
    """Replace a (n, n) by its LU factors with row pivots, or by its inverse where it is large; False if singular."""
    n = a.shape[0]
    if n > SMALL:
        for i in range(n):
            for j in range(n):
                if not (math.isfinite(a[i, j].real) and math.isfinite(a[i, j].imag)):
                    return False
        a[:, :] = np.linalg.inv(a)
        return True
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[best, k]):
                best = i
        if not abs(a[best, k]) > 0.0:
            return False
        pivots[k] = best
        if best != k:
            for j in range(n):
                a[k, j], a[best, j] = a[best, j], a[k, j]
        for i in range(k + 1, n):
            ratio = a[i, k] / a[k, k]
            a[i, k] = ratio
            if ratio != 0.0:
                for j in range(k + 1, n):
                    a[i, j] -= ratio * a[k, j]
    return True


@compiled()
def solve_dense(a, pivots, x):
    """Solve in place with what `factor_dense` made."""
    n = a.shape[0]
    if n > SMALL:
        x[:] = np.dot(a, x)
        return
    for k in range(n):
        best = pivots[k]
        if best != k:
            x[k], x[best] = x[best], x[k]
    for i in range(n):
        total = x[i]
        for j in range(i):
            total -= a[i, j] * x[j]
        x[i] = total
    for i in range(n - 1, -1, -1):
        total = x[i]
        for j in range(i + 1, n):
            total -= a[i, j] * x[j]
        x[i] = total / a[i, i]
