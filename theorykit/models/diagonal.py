"""Diagonal linear nets of any degree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError, unknown_name
from theorykit._numerics.validate import integer, matrix, vector

_DIRECTIONS = ("theory", "unit")
_HIGHEST_DEGREE = 100  # u^L and its derivatives as double-precision numbers


@dataclass(frozen=True)
class DiagonalNet:
    """The net f(u, v; x) = sum_k (u_k^L - v_k^L) x_k, parameters theta = (u, v), P = 2d.

    Homogeneous of degree L: f(c theta; x) = c^L f(theta; x). Linear in x, with predictor w = u^L - v^L.

    Parameters
    ----------
    d : int
        Input features.
    degree : int
        L, at least 2.

    Raises
    ------
    InputError
        `d` < 1, or `degree` < 2 or not an integer.

    References
    ----------
    Lyu et al. 2024, arXiv:2311.18817, section 3.2 (L = 2).

    Examples
    --------
    >>> net = DiagonalNet(d=2, degree=3)
    >>> net.weights(net.direction("theory")).tolist()
    [0.0, 0.0]
    """

    d: int
    degree: int = 2

    def __post_init__(self) -> None:
        integer("d", self.d, minimum=1)
        if integer("degree", self.degree, minimum=2) > _HIGHEST_DEGREE:
            raise InputError("degree", repr(self.degree), f"at most {_HIGHEST_DEGREE}")

    @property
    def parameters(self) -> int:
        """P, the number of parameters."""
        return 2 * self.d

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "diagonal"

    def direction(self, init: str | ArrayLike = "theory") -> NDArray[np.float64]:
        """Return the initial direction: ``"theory"`` is (1, ..., 1), ``"unit"`` the same with Euclidean norm 1.

        Parameters
        ----------
        init : str or array_like, shape (2d,)
            A name, or any finite non-zero array.

        Returns
        -------
        ndarray, shape (2d,)

        Raises
        ------
        InputError
            Unknown name, wrong length, non-finite or all-zero array.

        Examples
        --------
        >>> float(np.linalg.norm(DiagonalNet(d=50).direction("unit")).round(12))
        1.0
        """
        if isinstance(init, str):
            if init not in _DIRECTIONS:
                raise unknown_name("init", init, list(_DIRECTIONS))
            ones = np.ones(self.parameters)
            return ones if init == "theory" else ones / np.sqrt(self.parameters)
        array = np.asarray(init)
        if array.shape != (self.parameters,):
            raise InputError(
                "init", f"shape {array.shape}", f"a name or an array of shape ({self.parameters},), u then v"
            )
        direction = vector("init", array)
        if not direction.any():
            raise InputError("init", "all zeros", "a direction (from theta = 0 the flow does not move)")
        return direction

    def weights(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Return the linear predictor w = u^L - v^L, shape (d,).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).weights([2.0, 1.0])
        array([3.])
        """
        u, v = np.split(self._parameters(theta), 2)
        return u**self.degree - v**self.degree

    def output(self, theta: ArrayLike, X: ArrayLike) -> NDArray[np.float64]:
        """Return f(theta; x) for each row of X, shape (n,).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).output([2.0, 1.0], [[1.0], [-1.0]])
        array([ 3., -3.])
        """
        return self._features_of(X) @ self.weights(theta)

    def features(self, X: ArrayLike, theta: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the gradients of f at theta (default: the theory's direction), shape (n, 2d).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).features([[3.0]])
        array([[ 6., -6.]])
        """
        theta = self.direction() if theta is None else self._parameters(theta)
        u, v = np.split(theta, 2)
        inputs = self._features_of(X)
        power = self.degree - 1
        return self.degree * np.hstack([inputs * u**power, -inputs * v**power])

    def ntk(self, X: ArrayLike, other: ArrayLike | None = None, theta: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the Gram matrix of the features without forming them, shape (n, m).

        Examples
        --------
        >>> DiagonalNet(d=1, degree=2).ntk([[3.0]])
        array([[72.]])
        """
        theta = self.direction() if theta is None else self._parameters(theta)
        u, v = np.split(theta, 2)
        power = 2 * self.degree - 2
        weights = self.degree**2 * (u**power + v**power)
        inputs = self._features_of(X)
        return (inputs * weights) @ (inputs if other is None else self._features_of(other)).T

    def _parameters(self, theta: ArrayLike) -> NDArray[np.float64]:
        array = np.asarray(theta, dtype=np.float64)
        if array.shape != (self.parameters,):
            raise InputError("theta", f"shape {array.shape}", f"shape ({self.parameters},), u then v")
        return array

    def _features_of(self, X: ArrayLike) -> NDArray[np.float64]:
        inputs = matrix("X", X)
        if inputs.shape[1] != self.d:
            raise InputError("X", f"{inputs.shape[1]} features", f"{self.d}, as many as the model has")
        return inputs.astype(np.float64, copy=False)
