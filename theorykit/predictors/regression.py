"""Predictions of Lyu et al. 2024 for regression with the squared loss, all constants in closed form.

The loss is the mean (1/n) sum_i (f_i - y_i)^2. All scales come as logarithms. tau = lambda t is slow time, L the degree
of homogeneity, A = alpha^(2(L-1))/lambda, K the tangent kernel Phi^T Phi at theta_bar (a sum over parameters, not
divided by n) and nu its smallest eigenvalue. delta = e^tau theta/alpha - theta_bar and h = alpha^L e^(-L tau) delta.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theorykit._numerics.errors import InputError
from theorykit._numerics.validate import finite, integer, shown
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, MatrixFactorization
from theorykit.predictors._inputs import (
    checked_model,
    degree_of,
    log_or_less,
    moderate,
    slow_times,
)
from theorykit.predictors.radius import curvature_bound, radius_of_change

_LARGEST = 700.0  # exponents past it are beyond the float range
_WHOLE = "a diagonal net, a square symmetric factorisation, an MLP or a CNN, with one output"


class KernelBall(NamedTuple):
    """The tangent kernel at theta_bar, and a ball around theta_bar in which it changes little.

    Attributes
    ----------
    nu : float
        Smallest eigenvalue of K at theta_bar.
    condition : float
        Condition number of K at theta_bar.
    radius : float
        A proved lower bound on eps_max: the smallest eigenvalue of K is at least nu/2 at distance up to `radius`.
    largest : float
        Upper bound on the largest eigenvalue of K in the ball.
    lipschitz : float
        Upper bound on |Phi(theta) - Phi(theta_bar)|_op/|theta - theta_bar| in the ball.
    """

    nu: float
    condition: float
    radius: float
    largest: float
    lipschitz: float


def kernel_ball(
    model: HomogeneousModel, X: ArrayLike, *, init: str | ArrayLike = "theory", seed: int = 0
) -> KernelBall:
    """Bound the radius eps_max of the lemmas on regression (appendix D of lyu2024), and the kernel within it.

    Parameters
    ----------
    model : HomogeneousModel
        A `DiagonalNet` from (1, 1), a symmetric square `MatrixFactorization` from (I, I) on entries that are observed
        once, or an `MLP` or `CNN` with an activation of power 2 or more.
    X : array_like
        Inputs of the model, n of them.
    init : str or array_like, shape (P,)
        theta_bar.
    seed : int
        Of a direction that is drawn.

    Returns
    -------
    KernelBall
        To round-off.

    Raises
    ------
    InputError
        A model or a direction for which no bound is known.

    Notes
    -----
    The diagonal net has K = L^2 sum_k (u_k^(2L-2) + v_k^(2L-2)) x_k x_k^T. At distance eps from (1, 1) each bracket is
    at least 2 (1 - eps/sqrt(2))^(2L-2), by convexity, so that nu/2 is kept up to eps = sqrt(2) (1 - 2^(-1/(2L-2))). For
    the factorisation Phi c = (2SU, -2SV) with S = sum_k c_k P_k: the same with L = 2. The features of n samples of a
    net move by at most sqrt(n) times `curvature_bound` times the distance (in the Frobenius norm), and the root of the
    smallest eigenvalue of K falls by no more than that.

    Examples
    --------
    >>> ball = kernel_ball(DiagonalNet(d=2), [[1.0, 0.0], [0.0, 2.0]])
    >>> ball.nu, ball.condition, round(ball.radius, 6)
    (8.0, 4.0, 0.414214)
    """
    if checked_model(model).outputs != 1:
        raise InputError("model", f"{model.outputs} outputs", _WHOLE)
    theta = model.direction(init, integer("seed", seed, minimum=0))
    with np.errstate(over="ignore", invalid="ignore"):
        kernel = model.ntk(X, theta=theta)
    if not np.isfinite(kernel).all():
        raise InputError("X", "inputs with a tangent kernel beyond the float range", "inputs of moderate size")
    eigenvalues = np.linalg.eigvalsh(kernel)
    if isinstance(model, (MLP, CNN)):
        return _net_ball(model, X, theta, eigenvalues)
    nu, top = float(eigenvalues[0]), float(eigenvalues[-1])
    if not np.array_equal(theta, model.direction("theory")):
        raise InputError("init", "another direction than the theory's", "'theory', for which the radius is known")
    if isinstance(model, DiagonalNet):
        points = model.inputs(X).typed(np.dtype(np.float64))
        power, widest = model.degree - 1, float(np.linalg.norm(points, axis=0).max())
    elif isinstance(model, MatrixFactorization) and model.symmetric and model.rank in (None, model.d):
        power, widest = 1, 1.0
    else:
        raise InputError("model", model.name, _WHOLE)
    radius = math.sqrt(2.0) * (1.0 - 2.0 ** (-0.5 / power))
    stretch = (1.0 + radius) ** (power - 1)
    condition = top / nu if nu > 0.0 else math.inf
    return KernelBall(
        nu, condition, radius, top * (1.0 + radius) ** (2 * power), (power + 1) * power * stretch * widest
    )


def _net_ball(
    model: MLP | CNN, X: ArrayLike, theta: NDArray[np.float64], eigenvalues: NDArray[np.float64]
) -> KernelBall:
    """Return the ball of a layered net, in which its Hessians are bounded."""
    samples, (nu, top) = len(eigenvalues), eigenvalues[[0, -1]]
    room = math.sqrt(max(nu, 0.0)) * (1.0 - math.sqrt(0.5))
    if room == 0.0:
        return KernelBall(0.0, math.inf, 0.0, float(top), math.inf)

    radius = radius_of_change(model, theta, X, room / math.sqrt(samples))
    lipschitz = math.sqrt(samples) * curvature_bound(model, theta, X, radius)
    largest = (math.sqrt(top) + radius * lipschitz) ** 2
    return KernelBall(float(nu), float(top / nu), radius, float(largest), lipschitz)


def early_log_loss(
    tau: ArrayLike,
    *,
    n: int,
    degree: int,
    log_A: float,
    nu: float,
    target_norm: float,
) -> NDArray[np.float64]:
    """Return the logarithm of the bound of Lemma D.1 on the mean squared loss, for t <= T_max.

    max{ (|y|^2/n) exp(-nu A (1 - e^(-2(L-1) tau))/(8 n (L-1))), 16 n L^2 |y|^2 lambda^2 e^(4(L-1) tau)/(nu^2
    alpha^(4(L-1))) }, |y| the Euclidean norm of the targets.

    Parameters
    ----------
    tau : array_like
        Slow times lambda t >= 0.
    n, degree : int
        Samples, and L.
    log_A, nu, target_norm : float
        log A, the smallest eigenvalue of K, |y|.

    Returns
    -------
    ndarray
        Shaped as `tau`; -inf where |y| = 0.

    Raises
    ------
    InputError
        Times below 0, n < 1, a degree below 2, log_A that is no finite number, nu <= 0, or a norm below 0.

    Examples
    --------
    >>> early_log_loss([0.0, 1.0], n=4, degree=2, log_A=20.0, nu=1.0, target_norm=2.0).round(4)
    array([  0.    , -29.0685])
    """
    times, power = slow_times(tau), degree_of(degree) - 1
    n, log_nu, log_y = _sizes(n, nu, target_norm)
    log_A = moderate("log_A", log_A)
    with np.errstate(over="ignore", divide="ignore"):
        log_spent = np.log(-np.expm1(-2.0 * power * times)) + log_nu - math.log(8 * n * power) + log_A
        falling = 2.0 * log_y - math.log(n) - np.exp(np.minimum(log_spent, _LARGEST))
        held = math.log(16 * n) + 2.0 * (math.log(degree) + log_y - log_nu) - 2.0 * log_A + 4.0 * power * times
    return falling if log_y == -math.inf else np.maximum(falling, held)


def early_loss_rate(
    tau: float,
    log_loss: float,
    *,
    n: int,
    degree: int,
    log_A: float,
    nu: float,
    target_norm: float,
) -> tuple[float, float]:
    """Return the two sides of Lemma D.1's bound on d(log Loss)/dtau, Loss the mean squared one, as logarithms.

    d(log Loss)/dtau <= -e^a + e^b with e^a = (nu/2n) A e^(-2(L-1) tau) and e^b = L |y|/sqrt(n Loss): the printed
    inequality over lambda Loss. The return value is (a, b); the other arguments are those of `early_log_loss`.

    Raises
    ------
    InputError
        tau < 0, log_loss that is no finite number, or what `early_log_loss` refuses.

    Examples
    --------
    >>> early_loss_rate(0.0, 0.0, n=4, degree=2, log_A=0.0, nu=8.0, target_norm=1.0)
    (0.0, 0.0)
    """
    power, slow_time = degree_of(degree) - 1, finite("tau", tau, minimum=0.0)
    n, log_nu, log_y = _sizes(n, nu, target_norm)
    taken = log_nu - math.log(2 * n) + moderate("log_A", log_A) - 2.0 * power * slow_time
    return taken, math.log(degree) + log_y - 0.5 * (math.log(n) + finite("log_loss", log_loss))


def _sizes(n: int, nu: float, target_norm: float) -> tuple[int, float, float]:
    """Return n, log nu and log |y|."""
    samples, log_nu = integer("n", n, minimum=1), math.log(finite("nu", nu, above=0.0))
    return samples, log_nu, log_or_less(finite("target_norm", target_norm, minimum=0.0))


def _checked(ball: KernelBall, target_norm: float) -> tuple[KernelBall, float]:
    """Return the ball, in which the kernel has full rank, and |y|."""
    if not isinstance(ball, KernelBall):
        raise InputError("ball", shown(ball), "a KernelBall, which kernel_ball returns")
    for name in ("nu", "radius", "largest", "lipschitz"):
        finite(f"ball.{name}", getattr(ball, name), above=0.0)
    return ball, finite("target_norm", target_norm, minimum=0.0)


def displacement_bound(ball: KernelBall, target_norm: float) -> float:
    """Return C with |h(t)| <= C, that is |delta(t)| <= C alpha^(-L) e^(L lambda t), for t <= T_max (Lemma D.2).

    C = 24 sqrt(Lambda) |y|/nu, Lambda the largest eigenvalue of K in the ball. The lemma only says that there is one:
    d|h|/dtau + L|h| <= (2/n) A e^(-2(L-1) tau) sqrt(Lambda n Loss), and with Lemma D.1 the two parts of its bound give
    16 and 8 of the 24.

    Raises
    ------
    InputError
        No `KernelBall` with positive finite numbers (that of a kernel without full rank has nu = 0), or a norm below 0.

    Examples
    --------
    >>> displacement_bound(KernelBall(nu=2.0, condition=2.0, radius=0.4, largest=4.0, lipschitz=2.0), 3.0)
    72.0
    """
    ball, target_norm = _checked(ball, target_norm)
    return 24.0 * math.sqrt(ball.largest) * target_norm / ball.nu


def earliest_exit(log_alpha: float, degree: int, ball: KernelBall, target_norm: float) -> float:
    """Return a lower bound on lambda T_max (Lemma D.2): log(alpha) + (1/L) log(radius/C), C of `displacement_bound`.

    Raises
    ------
    InputError
        No `KernelBall` with positive finite numbers (that of a kernel without full rank has nu = 0), a norm below 0,
        log_alpha that is no finite number, or a degree below 2.

    Examples
    --------
    >>> ball = KernelBall(nu=24.0, condition=1.0, radius=1.0, largest=1.0, lipschitz=2.0)
    >>> earliest_exit(50.0, 2, ball, 1.0)
    50.0
    """
    log_alpha, degree = moderate("log_alpha", log_alpha), degree_of(degree)
    return log_alpha + _log_room(ball, target_norm) / degree


def _log_room(ball: KernelBall, target_norm: float) -> float:
    """Return log(radius/C), C of `displacement_bound`; infinite where there is nothing to fit."""
    ball, target_norm = _checked(ball, target_norm)
    log_c = math.log(24.0) + 0.5 * math.log(ball.largest) + log_or_less(target_norm) - math.log(ball.nu)
    return math.log(ball.radius) - log_c


def off_span_bound(ball: KernelBall, target_norm: float) -> float:
    """Return C with |delta_perp(t)| <= C (alpha^(-L) e^(L lambda t))^2 for t <= T_max, off the span of Phi (Lemma D.3).

    C = 20 B |y| C_2/nu, B the Lipschitz constant of Phi in the ball and C_2 that of `displacement_bound`: off the span
    the force is (2/n) A (Phi(theta) - Phi(theta_bar)) r, with r the residual of Lemma D.1; its two parts give 16 and 4.
    At T^-_c this is C alpha^(-2cL).

    Raises
    ------
    InputError
        No `KernelBall` with positive finite numbers (that of a kernel without full rank has nu = 0), or a norm below 0.

    Examples
    --------
    >>> off_span_bound(KernelBall(nu=2.0, condition=2.0, radius=0.4, largest=4.0, lipschitz=2.0), 3.0)
    4320.0
    """
    ball, target_norm = _checked(ball, target_norm)
    return 20.0 * target_norm * ball.lipschitz * displacement_bound(ball, target_norm) / ball.nu


def norm_bound(
    *, n: int, degree: int, log_weight_decay: float, ball: KernelBall, target_norm: float, size: float
) -> float:
    """Return C with |theta(t)| <= C for every t >= (1/lambda) min(log(alpha), T of `earliest_exit`) (Lemma D.8).

    L_lambda = Loss + (lambda/2)|theta|^2 falls. At T its second part is (lambda/2) sigma^2 |theta_bar + delta|^2 with
    sigma = alpha e^(-tau), and its first is bounded by Lemma D.1 (once A is so large that the second term of the bound
    is the larger one): |theta(t)|^2 <= sigma^2 (size + radius)^2 + 32 n L^2 |y|^2 lambda/(nu^2 sigma^(4(L-1))).

    Parameters
    ----------
    n, degree : int
    log_weight_decay : float
        log lambda.
    ball : KernelBall
    target_norm, size : float
        |y| and |theta_bar|.

    Raises
    ------
    InputError
        n < 1, a degree below 2, log_weight_decay that is no finite number, no `KernelBall` with positive finite
        numbers, or a norm below 0.

    Examples
    --------
    >>> ball = KernelBall(nu=24.0, condition=1.0, radius=1.0, largest=1.0, lipschitz=2.0)
    >>> norm_bound(n=1, degree=2, log_weight_decay=-100.0, ball=ball, target_norm=1.0, size=2.0)
    3.0
    """
    log_room, degree = _log_room(ball, target_norm), degree_of(degree)
    n, log_nu, log_y = _sizes(n, ball.nu, target_norm)
    log_sigma = max(0.0, -log_room / degree)
    log_rest = math.log(32 * n) + 2.0 * (math.log(degree) + log_y - log_nu)
    log_rest += moderate("log_weight_decay", log_weight_decay) - 4.0 * (degree - 1) * log_sigma
    reached = _exp(log_sigma) * (finite("size", size, minimum=0.0) + ball.radius)
    return math.hypot(reached, _exp(0.5 * log_rest))


def _exp(exponent: float) -> float:
    """Return the exponential, infinity past the float range: no less of an upper bound."""
    return math.exp(exponent) if exponent < _LARGEST else math.inf
