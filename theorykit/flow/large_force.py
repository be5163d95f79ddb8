"""The force on a large net, in blocks of samples: one thread a block, the same bits on one thread and on many."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theorykit.flow.problem import Problem
from theorykit.losses import log_derivatives, log_losses
from theorykit.models import HomogeneousModel, Inputs

Array = NDArray[Any]
Floats = NDArray[np.float64]

_BLOCK = 2**19  # activations of all layers that a block of samples has: 2 MiB in float32, about a core's cache
_SMALLEST = 0.7  # power of the smallest normal number up to which a share of the gradient counts, the largest being 1
_MOST_BLOCKS = 16  # each leaves a gradient of its own, to be added


class Pull(NamedTuple):
    """Minus the gradient of the mean loss, e^log_scale times `direction` (P,), and the logarithm of the loss."""

    log_loss: float
    log_scale: float
    direction: Array


class Force:
    """Minus the gradient of a problem's mean loss at theta, in the floating-point type of theta.

    The blocks do not depend on the number of threads, and their gradients are added in their order.

    Parameters
    ----------
    problem : Problem
    threads : int
        Threads that work on blocks side by side; each should have a BLAS of one thread.
    """

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem = problem
        data = problem.data
        weights = np.ones(data.n) if data.weights is None else data.weights
        shares = np.log(weights / weights.sum())
        count = min(_MOST_BLOCKS, max(1, -(-data.n * _width(problem.model) // _BLOCK)))
        self.blocks = [
            (problem.model.inputs(data.X[rows]), data.y[rows], shares[rows])
            for rows in np.array_split(np.arange(data.n), min(count, data.n))
        ]
        threads = min(threads, len(self.blocks))
        self._map: Any = ThreadPoolExecutor(threads).map if threads > 1 else map

    def __call__(self, theta: Array) -> Pull:
        """Return the pull at theta."""
        parts: list[Pull] = list(self._map(partial(self._of_block, theta), self.blocks))
        log_loss = float(np.logaddexp.reduce([part.log_loss for part in parts]))
        log_scale = max(part.log_scale for part in parts)
        if len(parts) == 1 or not math.isfinite(log_scale):
            return Pull(log_loss, log_scale, parts[0].direction)
        total = np.zeros_like(parts[0].direction)
        for part in parts:
            total += theta.dtype.type(math.exp(part.log_scale - log_scale)) * part.direction
        return Pull(log_loss, log_scale, total)

    def _of_block(self, theta: Array, block: tuple[Inputs, Array, Floats]) -> Pull:
        inputs, y, log_shares = block
        found: list[float] = []

        def cotangent(f: Array) -> Array:
            found.append(float(np.logaddexp.reduce(log_losses(self.problem.loss, f, y) + log_shares)))
            logs, signs = log_derivatives(self.problem.loss, f, y)
            logs = logs + (log_shares if f.ndim == 1 else log_shares[:, None]).astype(f.dtype)
            found.append(float(logs.max()))
            logs -= f.dtype.type(found[-1] if math.isfinite(found[-1]) else 0.0)
            # products with what is left out would be subnormal, on which a matrix product takes ten times as long
            logs[logs < _SMALLEST * math.log(np.finfo(f.dtype).tiny)] = -math.inf
            return -signs * np.exp(logs)

        with np.errstate(all="ignore"):  # of the thread; a trial point too far off gives nan, and the step is rejected
            direction = np.asarray(self.problem.model.value_and_vjp(theta, inputs, cotangent)[1])
        return Pull(found[0], found[1], direction)


def _width(model: HomogeneousModel) -> int:
    """Return about how many activations one sample has in all layers."""
    layers = getattr(model, "layers", ())
    return max(1, sum(layer.lift.positions * (layer.lift.width + layer.units) for layer in layers[1:]) + model.outputs)
