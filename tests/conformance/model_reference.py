"""Every model written out a second time, with loops and in any arithmetic: what the real ones are tested against.

The parameters may be floats or mpmath numbers; nothing here is shared with the models but their shapes and names.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import mpmath
import numpy as np

from theorykit.models import CNN, MLP, DiagonalNet, Difference, Linear, MatrixFactorization


def activation(slope: float, power: int) -> Callable[[Any], Any]:
    return lambda z: (z if z > 0 else slope * z) ** power


def output(model: Any, theta: list[Any], x: Any) -> list[Any]:
    """Return the outputs of one input, as a list."""
    if isinstance(model, DiagonalNet):
        d = model.d
        return [sum((theta[k] ** model.degree - theta[d + k] ** model.degree) * float(x[k]) for k in range(d))]
    if isinstance(model, MatrixFactorization):
        return [entry(model, theta, int(x[0]), int(x[1]))]
    if isinstance(model, Difference):
        half = model.model.parameters
        pairs = zip(output(model.model, theta[:half], x), output(model.model, theta[half:], x), strict=True)
        return [a - b for a, b in pairs]
    if isinstance(model, CNN):
        return convolutional(model, list(theta), x)
    if isinstance(model, Linear):
        return affine([float(v) for v in x], list(theta), model.outputs, False)
    assert isinstance(model, MLP)
    return fully_connected(model, list(theta), x)


def entry(model: MatrixFactorization, theta: list[Any], i: int, j: int) -> Any:
    rows, columns = model.size
    rank = (len(theta)) // (rows + columns)
    U, V = theta[: rows * rank], theta[rows * rank :]
    if model.symmetric:
        return sum(U[i * rank + r] * U[j * rank + r] - V[i * rank + r] * V[j * rank + r] for r in range(rank))
    return sum(U[i * rank + r] * V[j * rank + r] for r in range(rank))


def affine(a: list[Any], theta: list[Any], units: int, bias: bool) -> list[Any]:
    """Take the weights (and biases) of one layer off the front of theta, and apply them."""
    W = [theta.pop(0) for _ in range(len(a) * units)]
    z = [sum(a[k] * W[k * units + u] for k in range(len(a))) for u in range(units)]
    return [value + theta.pop(0) for value in z] if bias else z


def fully_connected(model: MLP, theta: list[Any], x: Any) -> list[Any]:
    phi = activation(model.activation.slope, model.activation.power)
    a = [float(v) for v in x]
    if model.symbols is not None:
        a = [float(symbol == int(v)) for v in x for symbol in range(model.symbols)]
    for k, units in enumerate(model.widths[1:]):
        a = affine(a if k == 0 else [phi(value) for value in a], theta, units, model.bias and k == 0)
    return a


def convolutional(model: CNN, theta: list[Any], x: Any) -> list[Any]:
    phi = activation(model.activation.slope, model.activation.power)
    side, channels = model.image, model.input_channels
    places = list(product(*(range(s) for s in side)))
    image = {(*place, c): float(x[k * channels + c]) for k, place in enumerate(places) for c in range(channels)}
    for number, units in enumerate(model.channels):
        offsets = list(product(range(model.kernel), repeat=len(side)))
        W = [theta.pop(0) for _ in range(len(offsets) * channels * units)]
        b = [theta.pop(0) for _ in range(units)] if model.bias and number == 0 else [0.0] * units
        side = tuple(s - model.kernel + 1 for s in side)
        places = list(product(*(range(s) for s in side)))
        image = {
            (*place, u): phi(
                b[u]
                + sum(
                    image[(*(p + q for p, q in zip(place, offset, strict=True)), c)] * W[(o * channels + c) * units + u]
                    for o, offset in enumerate(offsets)
                    for c in range(channels)
                )
            )
            for place in places
            for u in range(units)
        }
        channels = units
    window = side if model.window is None else (model.window,) * len(side)
    factor = 1 if model.pooling == "sum" else mpmath.mpf(1) / int(np.prod(window))
    tiles = list(product(*(range(s // w) for s, w in zip(side, window, strict=True))))
    inside = list(product(*(range(w) for w in window)))
    pooled = [
        factor * sum(image[(*(t * w + i for t, w, i in zip(tile, window, place, strict=True)), c)] for place in inside)
        for tile in tiles
        for c in range(channels)
    ]
    return affine(pooled, theta, model.outputs, False)


def difference(model: Any, theta: Any, h: Any, log_eps: float, X: Any, digits: int) -> Any:
    """Return [f(theta + eps h) - f(theta)]/eps by subtracting two outputs, with as many digits as that takes."""
    with mpmath.workdps(digits):
        eps = mpmath.exp(log_eps)
        start = [mpmath.mpf(float(t)) for t in theta]
        moved = [t + eps * mpmath.mpf(float(s)) for t, s in zip(start, h, strict=True)]
        rows = [
            [float((a - b) / eps) for a, b in zip(output(model, moved, x), output(model, start, x), strict=True)]
            for x in X
        ]
    return np.array(rows)[:, 0] if model.outputs == 1 else np.array(rows)
