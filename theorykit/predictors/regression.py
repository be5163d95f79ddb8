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
from scipy.optimize import brentq

from theorykit._numerics.errors import InputError
from theorykit.models import CNN, MLP, DiagonalNet, HomogeneousModel, MatrixFactorization
from theorykit.predictors.radius import curvature_bound

_LARGEST = 700.0  # exponents past it are beyond the float range


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
    theta = model.direction(init, seed)
    eigenvalues = np.linalg.eigvalsh(model.ntk(X, theta=theta))
    if isinstance(model, (MLP, CNN)):
        return _net_ball(model, X, theta, eigenvalues)
    nu, top = float(eigenvalues[0]), float(eigenvalues[-1])
    if not np.array_equal(theta, model.direction("theory")):
        raise InputError("init", "another direction than the theory's", "'theory', for which the radius is known")
    if isinstance(model, DiagonalNet):
        power, widest = model.degree - 1, float(np.linalg.norm(np.asarray(X, dtype=np.float64), axis=0).max())
    elif isinstance(model, MatrixFactorization) and model.symmetric and model.rank in (None, model.d):
        power, widest = 1, 1.0
    else:
        raise InputError("model", model.name, "a diagonal net, a square symmetric factorisation, an MLP or a CNN")
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
    samples, (nu, top) = len(np.asarray(X)), eigenvalues[[0, -1]]
    room = math.sqrt(max(nu, 0.0)) * (1.0 - math.sqrt(0.5))
    if room == 0.0:
        return KernelBall(0.0, math.inf, 0.0, float(top), math.inf)

    def change(radius: float) -> float:
        """Bound the Frobenius norm of the change of the features at a distance."""
        return radius * math.sqrt(samples) * curvature_bound(model, theta, X, radius)

    log_radius = brentq(lambda log_r: math.log(change(math.exp(log_r)) / room), -60.0, 40.0, xtol=1e-12)
    radius = math.exp(log_radius) * (1.0 - 1e-9)
    largest = (math.sqrt(top) + change(radius)) ** 2
    return KernelBall(float(nu), float(top / nu), radius, float(largest), change(radius) / radius)


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

    Examples
    --------
    >>> early_log_loss([0.0, 1.0], n=4, degree=2, log_A=20.0, nu=1.0, target_norm=2.0).round(4)
    array([  0.    , -29.0685])
    """
    times, power = np.asarray(tau, dtype=np.float64), degree - 1
    with np.errstate(over="ignore", divide="ignore"):
        log_spent = np.log(-np.expm1(-2.0 * power * times)) + math.log(nu / (8.0 * n * power)) + log_A
        falling = 2.0 * math.log(target_norm) - math.log(n) - np.exp(np.minimum(log_spent, _LARGEST))
    held = math.log(16.0 * n) + 2.0 * math.log(degree * target_norm / nu) + 4.0 * power * times - 2.0 * log_A
    return np.maximum(falling, held)


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

    Examples
    --------
    >>> early_loss_rate(0.0, 0.0, n=4, degree=2, log_A=0.0, nu=8.0, target_norm=1.0)
    (0.0, 0.0)
    """
    taken = math.log(nu / (2.0 * n)) + log_A - 2.0 * (degree - 1) * tau
    return taken, math.log(degree * target_norm) - 0.5 * (math.log(n) + log_loss)


def displacement_bound(ball: KernelBall, target_norm: float) -> float:
    """Return C with |h(t)| <= C, that is |delta(t)| <= C alpha^(-L) e^(L lambda t), for t <= T_max (Lemma D.2).

    C = 24 sqrt(Lambda) |y|/nu, Lambda the largest eigenvalue of K in the ball. The lemma only says that there is one:
    d|h|/dtau + L|h| <= (2/n) A e^(-2(L-1) tau) sqrt(Lambda n Loss), and with Lemma D.1 the two parts of its bound give
    16 and 8 of the 24.

    Examples
    --------
    >>> displacement_bound(KernelBall(nu=2.0, condition=2.0, radius=0.4, largest=4.0, lipschitz=2.0), 3.0)
    72.0
    """
    return 24.0 * math.sqrt(ball.largest) * target_norm / ball.nu


def earliest_exit(log_alpha: float, degree: int, ball: KernelBall, target_norm: float) -> float:
    """Return a lower bound on lambda T_max (Lemma D.2): log(alpha) + (1/L) log(radius/C), C of `displacement_bound`.

    Examples
    --------
    >>> ball = KernelBall(nu=24.0, condition=1.0, radius=1.0, largest=1.0, lipschitz=2.0)
    >>> earliest_exit(50.0, 2, ball, 1.0)
    50.0
    """
    return log_alpha + math.log(ball.radius / displacement_bound(ball, target_norm)) / degree


def off_span_bound(ball: KernelBall, target_norm: float) -> float:
    """Return C with |delta_perp(t)| <= C (alpha^(-L) e^(L lambda t))^2 for t <= T_max, off the span of Phi (Lemma D.3).

    C = 20 B |y| C_2/nu, B the Lipschitz constant of Phi in the ball and C_2 that of `displacement_bound`: off the span
    the force is (2/n) A (Phi(theta) - Phi(theta_bar)) r, with r the residual of Lemma D.1; its two parts give 16 and 4.
    At T^-_c this is C alpha^(-2cL).

    Examples
    --------
    >>> off_span_bound(KernelBall(nu=2.0, condition=2.0, radius=0.4, largest=4.0, lipschitz=2.0), 3.0)
    4320.0
    """
    return 20.0 * ball.lipschitz * target_norm * displacement_bound(ball, target_norm) / ball.nu


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

    Examples
    --------
    >>> ball = KernelBall(nu=24.0, condition=1.0, radius=1.0, largest=1.0, lipschitz=2.0)
    >>> norm_bound(n=1, degree=2, log_weight_decay=-100.0, ball=ball, target_norm=1.0, size=2.0)
    3.0
    """
    log_sigma = max(0.0, math.log(displacement_bound(ball, target_norm) / ball.radius) / degree)
    log_rest = math.log(32.0 * n) + 2.0 * math.log(degree * target_norm / ball.nu) + log_weight_decay
    rest = math.exp(log_rest - 4.0 * (degree - 1) * log_sigma)
    return math.sqrt(math.exp(2.0 * log_sigma) * (size + ball.radius) ** 2 + rest)
