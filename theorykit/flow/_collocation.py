"""What both compiled Radau IIA drivers do with their collocation polynomials."""

from __future__ import annotations

import math

import numpy as np

from theorykit._numerics.compile import compiled

# No signatures: only compiled code calls these, and they are compiled into it.


@compiled()
def newton_iterations(s):
    """Return after how many iterations Newton's method for s stages is given up."""
    return 7 + (5 * (s - 3)) // 2


@compiled()
def mix(weights, x, out):
    """Write weights (s, s) times x (s, n): loops, since a call of BLAS costs more than so few rows."""
    out[:, :] = 0.0
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            a = weights[i, j]
            if a != 0.0:
                for k in range(x.shape[1]):
                    out[i, k] += a * x[j, k]


@compiled()
def _chebyshev(x, out):
    """Write T_0(x), T_1(x), ..."""
    out[0], out[1] = 1.0, x
    for k in range(2, out.shape[0]):
        out[k] = 2.0 * x * out[k - 1] - out[k - 2]


@compiled()
def extrapolate(h, h_old, last, series, c, scale, z):
    """Write the stage increments that the last collocation polynomial predicts.

    At the tolerance it is noise, which grows outside its step as T_k does: a term too many, and Newton's iteration
    begins far from its solution. So its Chebyshev series is cut where the next two terms are least at the new end.
    """
    s, n = z.shape
    terms, sizes, grown = np.zeros((s, n)), np.zeros(s), np.empty(s + 1)
    mix(series, last, terms)
    _chebyshev(1.0 + 2.0 * h / h_old, grown)
    for k in range(s):
        for i in range(n):
            sizes[k] += (terms[k, i] / scale[i]) ** 2
        sizes[k] = math.sqrt(sizes[k]) * (grown[k + 1] - 1.0)
    degree, least = s, sizes[s - 1]
    for k in range(s - 2, -1, -1):
        following = max(sizes[k], sizes[k + 1])
        if following < least:
            degree, least = k, following
    z[:, :] = 0.0
    for i in range(s):
        _chebyshev(1.0 + 2.0 * c[i] * h / h_old, grown)
        for k in range(degree):
            for m in range(n):
                z[i, m] += terms[k, m] * (grown[k + 1] - 1.0)
