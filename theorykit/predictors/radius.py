"""How far the parameters may move before the features do: proved bounds from the structure of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, MatrixFactorization

Floats = NDArray[np.float64]

_INWARD = 1.0 - 1e-9  # of a bound, for the round-off in it


_KNOWN = "a diagonal net, a factorisation, or a net with one output and activations of power 2 or more"


def curvature_bound(model: HomogeneousModel, theta_bar: ArrayLike, X: ArrayLike, radius: float) -> float:
    """Return an upper bound on the spectral norms of all Hessians of f_i within a ball round theta_bar.

    Parameters
    ----------
    model : DiagonalNet, MatrixFactorization, MLP or CNN
        With one output; layered nets with an activation of power k >= 2.
    theta_bar : array_like, shape (P,)
        The centre.
    X : array_like
        Inputs of the model.
    radius : float
        Euclidean radius of the ball.

    Returns
    -------
    float
        Diagonal nets: L (L-1) (max|theta_bar| + radius)^(L-2) max|x|. Factorisations: 1, or 2 for diagonal entries of a
        symmetric one. Layered nets: along a unit tangent whose parts in the layers have norms v_l, the first and
        second derivatives of every layer are bounded by p.v and v^T Q v, carried from layer to layer; the bound is the
        largest eigenvalue of the last Q.

    Raises
    ------
    InputError
        A model whose structure is not known here, or whose activation is not differentiable.

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=3)
    >>> round(curvature_bound(net, net.direction(), [[1.0, -2.0]], 0.5), 6)
    18.0
    """
    center = np.asarray(theta_bar, dtype=np.float64)
    radius = finite("radius", radius, minimum=0.0)
    if isinstance(model, DiagonalNet):
        largest = float(np.abs(np.asarray(X)).max())
        power = model.degree - 2
        return model.degree * (model.degree - 1) * (float(np.abs(center).max()) + radius) ** power * largest / _INWARD
    if isinstance(model, MatrixFactorization):
        entries = np.asarray(X)
        return 2.0 if model.symmetric and bool(np.any(entries[:, 0] == entries[:, 1])) else 1.0
    if isinstance(model, (MLP, CNN)) and model.outputs == 1 and model.phi.power > 1:
        rows = model.layers[0].lift.lift(np.asarray(model.inputs(X).typed(np.dtype(np.float64))))
        samples = np.asarray(rows).reshape(len(np.asarray(X)), model.layers[0].lift.positions, -1)
        return max(_of_layers(model, center, sample, radius) for sample in samples) / _INWARD
    raise InputError(
        "model", model.name, "a diagonal net, a factorisation, or a net with activations of power 2 or more"
    )


def feature_radius(model: HomogeneousModel, theta_bar: ArrayLike, X: ArrayLike, margin: float) -> float:
    """Return a radius round theta_bar within which no feature grad f_i moves by more than half a margin.

    A proved lower bound on the epsilon_max of Lemmas C.4 to C.8 of Lyu et al. 2024.

    Parameters
    ----------
    model, theta_bar, X
        As in `curvature_bound`.
    margin : float
        gamma, the margin of the features at theta_bar.

    Returns
    -------
    float
        Diagonal nets from theta_bar = c (1, ..., 1): (c^(L-1) + gamma/(2 L max|x|))^(1/(L-1)) - c, since by
        superadditivity no displacement of that norm moves a feature further than one that is all in one coordinate.
        Others: the radius r with r `curvature_bound`(r) = gamma/2.

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=2)
    >>> round(feature_radius(net, net.direction(), [[1.0, -2.0]], 0.8), 6)
    0.1
    """
    half = 0.5 * finite("margin", margin, above=0.0)
    if isinstance(model, DiagonalNet):
        c, largest = float(np.abs(np.asarray(theta_bar)).max()), float(np.abs(np.asarray(X)).max())
        power = model.degree - 1
        return ((c**power + half / (model.degree * largest)) ** (1.0 / power) - c) * _INWARD

    def room(log_radius: float) -> float:
        radius = math.exp(log_radius)
        return math.log(radius * curvature_bound(model, theta_bar, X, radius) / half)

    return math.exp(brentq(room, -40.0, 40.0, xtol=1e-12)) * _INWARD


def output_bound(model: HomogeneousModel, X: ArrayLike) -> Floats:
    """Return upper bounds on |f_i(theta)| / |theta|^L over all theta, one for each input.

    Parameters
    ----------
    model : DiagonalNet, MatrixFactorization, MLP or CNN
        With one output.
    X : array_like
        Inputs of the model.

    Returns
    -------
    ndarray, shape (n,)
        Diagonal nets: max_k |x_k|. Factorisations: 1/2, or 1 for diagonal entries of a symmetric one. Layered nets: the
        product of the norms of the fixed linear maps times the largest product of powers of the layers' norms on the
        unit sphere.

    Raises
    ------
    InputError
        A model whose structure is not known here.

    Examples
    --------
    >>> output_bound(DiagonalNet(d=2), [[1.0, -2.0]]).tolist()
    [2.0]
    >>> output_bound(MLP((1, 1, 1)), [[3.0]]).round(6).tolist()
    [1.5]
    """
    if isinstance(model, DiagonalNet):
        return np.asarray(np.abs(np.asarray(X, dtype=np.float64)).max(axis=1))
    if isinstance(model, MatrixFactorization):
        entries = np.asarray(X)
        return np.where(model.symmetric & (entries[:, 0] == entries[:, 1]), 1.0, 0.5)
    if isinstance(model, (MLP, CNN)) and model.outputs == 1:
        k, layers = model.phi.power, model.layers
        rows = model.layers[0].lift.lift(np.asarray(model.inputs(X).typed(np.dtype(np.float64))))
        samples = np.asarray(rows).reshape(len(np.asarray(X)), model.layers[0].lift.positions, -1)
        sizes = [float(np.linalg.norm(_augmented(layers[0].bias, sample), 2)) for sample in samples]
        powers = np.array([float(k**j) for j in reversed(range(len(layers)))])  # of the layers' norms in the bound
        bound = np.array(sizes) ** powers[0] * float(np.prod((powers / powers.sum()) ** (powers / 2.0)))
        below = layers[0]
        for layer, power in zip(layers[1:], powers[1:], strict=True):
            bound = bound * _lift_norm(layer.lift, (below.lift.positions, below.units)) ** power
            below = layer
        return bound / _INWARD
    raise InputError("model", model.name, "a diagonal net, a factorisation, or a layered net with one output")


def _augmented(bias: bool, rows: Floats) -> Floats:
    """Return the rows with a column of ones for the bias, if there is one."""
    return np.hstack([rows, np.ones((len(rows), 1))]) if bias else rows


def _of_layers(model: MLP | CNN, center: Floats, rows: Floats, radius: float) -> float:
    """Return the bound for one sample of a layered net, given its lifted rows (positions, width)."""
    k, layers = model.phi.power, model.layers
    parts = model.unpack(center)
    count = len(layers)
    z = rows @ parts["W1"] + parts.get("b1", 0.0)
    rows = _augmented(layers[0].bias, rows)
    p, Q = np.zeros(count), np.zeros((count, count))
    p[0] = float(np.linalg.norm(rows, 2))
    moved, highest = radius * p[0], float(np.abs(z).max()) + radius * float(np.linalg.norm(rows, axis=1).max())
    for layer, name, index in zip(layers[1:], _names(count)[1:], range(1, count), strict=True):
        slope = k * highest ** (k - 1)
        b = model.phi.value(model.phi.base(z.copy()))
        lift = _lift_norm(layer.lift, b.shape)
        size = lift * float(np.linalg.norm(b))
        Q = lift * (k * (k - 1) * highest ** (k - 2) * np.outer(p, p) + slope * Q)
        p, moved = lift * slope * p, lift * slope * moved
        weight = float(np.linalg.norm(parts[name], 2)) + radius
        own = np.eye(count)[index]
        Q = weight * Q + np.outer(own, p) + np.outer(p, own)
        p = weight * p + (size + moved) * own
        moved = weight * moved + size * radius
        z = layer.lift.lift(b) @ parts[name]
        highest = float(np.abs(z).max()) + moved
    return float(np.linalg.eigvalsh(Q)[-1])


def _names(count: int) -> list[str]:
    return [f"W{k + 1}" for k in range(count)]


def _lift_norm(lift: Any, shape: tuple[int, ...]) -> float:
    """Return a bound on the norm of a fixed linear map with entries >= 0: the root of the largest row sum of L^T L."""
    return math.sqrt(float(np.max(lift.lower(lift.lift(np.ones(shape))))))
