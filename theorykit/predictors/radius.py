"""How far the parameters may move before the features do: proved bounds from the structure of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, vector
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, Inputs, MatrixFactorization
from theorykit.predictors._inputs import checked_model, log_or_less

Floats = NDArray[np.float64]

_INWARD = 1.0 - 1e-9  # of a bound, for the round-off in it
_SMALLEST, _LARGEST = -745.0, 709.0  # logarithms of the numbers in the float range


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
        largest eigenvalue of the last Q. Infinite past the float range.

    Raises
    ------
    InputError
        A model whose structure is not known here, or whose activation is not differentiable; theta_bar or X that are
        not the model's, or a radius below 0.

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=3)
    >>> round(curvature_bound(net, net.direction(), [[1.0, -2.0]], 0.5), 6)
    18.0
    """
    center, inputs = _center(model, theta_bar, X)
    return _curvature(model, center, inputs, finite("radius", radius, minimum=0.0))


def _center(model: HomogeneousModel, theta_bar: ArrayLike, X: ArrayLike | Inputs) -> tuple[Floats, Inputs]:
    """Return theta_bar and X, checked, for a model with known bounds on its Hessians."""
    checked_model(model)
    smooth = isinstance(model, (MLP, CNN)) and model.outputs == 1 and model.phi.power > 1
    if not smooth and not isinstance(model, (DiagonalNet, MatrixFactorization)):
        wanted = "a diagonal net, a factorisation, or a net with one output and activations of power 2 or more"
        raise InputError("model", model.name, wanted)
    return vector("theta_bar", theta_bar, length=model.parameters, each="parameter of the model"), model.inputs(X)


def _curvature(model: HomogeneousModel, center: Floats, inputs: Inputs, radius: float) -> float:
    if isinstance(model, MatrixFactorization):
        entries = inputs.values
        return 2.0 if model.symmetric and bool(np.any(entries[:, 0] == entries[:, 1])) else 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(model, DiagonalNet):
            largest, power = _largest(inputs), model.degree - 2
            slope = model.degree * (model.degree - 1) * (np.abs(center).max() + radius) ** power
            return float(slope * largest / _INWARD) if largest > 0.0 else 0.0
        assert isinstance(model, (MLP, CNN))
        return max(_of_layers(model, center, sample, radius) for sample in _samples(model, inputs)) / _INWARD


def _largest(inputs: Inputs) -> float:
    return float(np.abs(inputs.typed(np.dtype(np.float64))).max())


def _samples(model: MLP | CNN, inputs: Inputs) -> Floats:
    """Return the lifted rows of every sample, shape (n, positions, width)."""
    lift = model.layers[0].lift
    return np.asarray(lift.lift(inputs.typed(np.dtype(np.float64)))).reshape(len(inputs), lift.positions, -1)


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

    Raises
    ------
    InputError
        What `curvature_bound` refuses, a margin <= 0, or features that do not move.

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=2)
    >>> round(feature_radius(net, net.direction(), [[1.0, -2.0]], 0.8), 6)
    0.1
    """
    center, inputs = _center(model, theta_bar, X)
    half = 0.5 * finite("margin", margin, above=0.0)
    if not isinstance(model, DiagonalNet):
        return radius_of_change(model, center, inputs, half)
    largest, power = _largest(inputs), model.degree - 1
    if largest == 0.0:
        raise _unmoved()
    log_c = log_or_less(float(np.abs(center).max()))
    log_reach = (math.log(half) - math.log(model.degree) - math.log(largest)) / power  # the radius for c = 0
    log_radius = log_reach
    if log_c > -math.inf:  # log of c ((1 + x)^(1/(L-1)) - 1), whose digits do not cancel
        grown = float(np.logaddexp(0.0, power * (log_reach - log_c))) / power
        log_radius = log_c + (grown if grown > 40.0 else log_or_less(math.expm1(grown)))
    if not _SMALLEST < log_radius < _LARGEST:
        raise _unmoved()
    return math.exp(log_radius) * _INWARD


def radius_of_change(model: HomogeneousModel, theta_bar: ArrayLike, X: ArrayLike | Inputs, change: float) -> float:
    """Return the radius r with r `curvature_bound`(r) = change, by which no feature moves further."""
    center, inputs = _center(model, theta_bar, X)

    def room(log_radius: float) -> float:
        return log_or_less(_curvature(model, center, inputs, math.exp(log_radius))) + log_radius - math.log(change)

    low, high = -60.0, 40.0
    while room(low) > 0.0 and low > _SMALLEST:
        low = max(2.0 * low, _SMALLEST)
    while room(high) < 0.0 and high < _LARGEST:
        high = min(2.0 * high, _LARGEST)
    if not room(low) <= 0.0 <= room(high):
        raise _unmoved()
    return math.exp(brentq(room, low, high, xtol=1e-12, maxiter=500)) * _INWARD


def _unmoved() -> InputError:
    got = "features that do not move, or by far too much for the margin"
    return InputError("X", got, "inputs for which some radius in the float range is right")


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
        A model whose structure is not known here, or inputs that are not the model's.

    Examples
    --------
    >>> output_bound(DiagonalNet(d=2), [[1.0, -2.0]]).tolist()
    [2.0]
    >>> output_bound(MLP((1, 1, 1)), [[3.0]]).round(6).tolist()
    [1.5]
    """
    inputs = checked_model(model).inputs(X)
    if isinstance(model, DiagonalNet):
        return np.asarray(np.abs(inputs.typed(np.dtype(np.float64))).max(axis=1))
    if isinstance(model, MatrixFactorization):
        entries = inputs.values
        return np.where(model.symmetric & (entries[:, 0] == entries[:, 1]), 1.0, 0.5)
    if isinstance(model, (MLP, CNN)) and model.outputs == 1:
        k, layers = model.phi.power, model.layers
        samples = _samples(model, inputs)
        sizes = [float(np.linalg.norm(_augmented(layers[0].bias, sample), 2)) for sample in samples]
        powers = np.array([float(k**j) for j in reversed(range(len(layers)))])  # of the layers' norms in the bound
        below = layers[0]
        with np.errstate(over="ignore"):
            bound = np.array(sizes) ** powers[0] * float(np.prod((powers / powers.sum()) ** (powers / 2.0)))
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
    moved, highest = radius * p[0], np.abs(z).max() + radius * np.linalg.norm(rows, axis=1).max()
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
        highest = np.abs(z).max() + moved
    return float(np.linalg.eigvalsh(Q)[-1]) if np.isfinite(Q).all() else math.inf


def _names(count: int) -> list[str]:
    return [f"W{k + 1}" for k in range(count)]


def _lift_norm(lift: Any, shape: tuple[int, ...]) -> float:
    """Return a bound on the norm of a fixed linear map with entries >= 0: the root of the largest row sum of L^T L."""
    return math.sqrt(float(np.max(lift.lower(lift.lift(np.ones(shape))))))
