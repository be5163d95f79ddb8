"""The compiled loop of gradient descent on diagonal nets: any degree, any loss of one output, any batches.

One step costs a few passes over the 2d parameters and over the rows of the batch, whatever they hold: int8 rows are
read as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from theorykit._numerics.compile import compiled
from theorykit.losses import EXPONENTIAL, SQUARED

_REASSOCIATE = {"reassoc", "contract", "arcp", "nsz"}  # nothing here assumes finite values


@compiled(fastmath=_REASSOCIATE)
def _slope(loss: int, f: float, y: float) -> Any:
    """Return d loss/df; the exponentials overflow to infinity, which 1/(1 + inf) takes back."""
    if loss == SQUARED:
        return 2.0 * (f - y)
    if loss == EXPONENTIAL:
        return -y * np.exp(-y * f)
    return -y / (1.0 + np.exp(y * f))


@compiled(fastmath=_REASSOCIATE, nogil=True)
def descend(
    theta: Any, X: Any, y: Any, weights: Any, order: Any, starts: Any, stops: Any, noise: Any, loss: int, degree: int,
    step: float, decay: float,
) -> None:  # fmt: skip
    """Take one step for each batch ``order[starts[k]:stops[k]]``, changing theta = (u, v) in place.

    `noise` (one number for each sample visited, or empty) is added to the outputs, `weights` have mean 1.
    """
    d = X.shape[1]
    u, v = theta[:d], theta[d:]
    slope_u, slope_v, w, pull = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    visits = 0
    for k in range(starts.size):
        slope_u[:] = u
        slope_v[:] = v
        for _ in range(degree - 2):
            slope_u *= u
            slope_v *= v
        for j in range(d):
            w[j] = slope_u[j] * u[j] - slope_v[j] * v[j]
        pull[:] = 0.0
        for position in range(starts[k], stops[k]):
            i = order[position]
            x = X[i]
            f = 0.0
            for j in range(d):
                f += w[j] * x[j]
            if noise.size > 0:
                f += noise[visits]
            visits += 1
            c = weights[i] * _slope(loss, f, y[i])
            for j in range(d):
                pull[j] += c * x[j]
        rate = step * degree / (stops[k] - starts[k])
        for j in range(d):
            u[j] -= rate * slope_u[j] * pull[j] + step * decay * u[j]
            v[j] -= step * decay * v[j] - rate * slope_v[j] * pull[j]
