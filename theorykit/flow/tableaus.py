"""Coefficients of the integrators, as data: tests hold them against the order conditions.

Radau IIA with three stages has order 5 and is L-stable; its last stage is the new point (Hairer and Wanner, Solving
Ordinary Differential Equations II, section IV.8). Everything is derived here from the abscissae and the collocation
conditions, so that there are no long decimals to mistype.

The explicit pairs are given by their published decimals: Tsitouras (2011, Computers & Mathematics with Applications 62,
pp. 770-775) for order 5(4), and Dormand and Prince's 8(5,3) as in Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I, section II.10.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray


@dataclass(frozen=True)
class RadauTableau:
    """Radau IIA with any odd number s of stages: order 2s - 1, L-stable.

    Attributes
    ----------
    order, error_order : int
        2s - 1, and s + 1, the power of h with which the embedded error estimate falls.
    A, b, c : ndarray, shapes (s, s), (s,), (s,)
        The Butcher tableau.
    gamma : float
        Real eigenvalue of inv(A).
    mu : ndarray of complex, shape ((s - 1)/2,)
        Its eigenvalues with positive imaginary part.
    T, T_inv : ndarray, shape (s, s)
        inv(A) T = T diag(gamma, blocks [[a, b], [-b, a]]), a + i b each entry of mu.
    error : ndarray, shape (s,)
        Weights of the stage increments in the embedded error estimate (order s).
    dense : ndarray, shape (s, s)
        dense.T @ increments = coefficients of x, ..., x^s of the collocation polynomial on the step.
    series : ndarray, shape (s, s)
        series @ those coefficients = coefficients of T_1, ..., T_s in 2x - 1.
    """

    order: int
    error_order: int
    A: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    gamma: float
    mu: NDArray[np.complex128]
    T: NDArray[np.float64]
    T_inv: NDArray[np.float64]
    error: NDArray[np.float64]
    dense: NDArray[np.float64]
    series: NDArray[np.float64]


def _radau_abscissae(s: int) -> NDArray[np.float64]:
    """Return the zeros of the (s-1)-th derivative of x^(s-1) (x-1)^s; the last is 1."""
    if s == 3:
        return np.array([(4.0 - 6.0**0.5) / 10.0, (4.0 + 6.0**0.5) / 10.0, 1.0])
    # the others are zeros of a Jacobi polynomial: eigenvalues of a symmetric tridiagonal matrix (Golub and Welsch)
    k = np.arange(s - 1)
    diagonal = -1.0 / ((2 * k + 1.0) * (2 * k + 3.0))
    k = k[1:]
    off = np.sqrt(k * (k + 1.0)) / (2 * k + 1.0)
    jacobi = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    return np.append(0.5 * (1.0 + np.linalg.eigvalsh(jacobi)), 1.0)


def _collocation(c: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return A_ij, the integral from 0 to c_i of the Lagrange polynomial of c_j, by a Gauss rule that is exact."""
    nodes, weights = np.polynomial.legendre.leggauss(c.size)
    x = 0.5 * c[:, None] * (nodes + 1.0)
    lagrange = np.ones((c.size, *x.shape))
    for j, own in enumerate(c):
        for other in np.delete(c, j):
            lagrange[j] *= (x - other) / (own - other)
    return 0.5 * c[:, None] * (lagrange @ weights).T


@functools.cache
def radau_iia(s: int) -> RadauTableau:
    """Return Radau IIA with s stages, s odd and at least 3.

    Examples
    --------
    >>> radau_iia(5).order
    9
    """
    c = _radau_abscissae(s)
    powers = np.vander(c, s, increasing=True)
    A = _collocation(c)
    inverse = np.linalg.inv(A)
    values, vectors = np.linalg.eig(inverse)
    real = int(np.argmin(np.abs(values.imag)))
    gamma = float(values[real].real)
    pairs = [k for k in np.argsort(-values.imag) if k != real][: (s - 1) // 2]
    columns = [vectors[:, real].real]
    for k in pairs:
        columns += [vectors[:, k].real, vectors[:, k].imag]
    T = np.column_stack(columns)
    # Embedded formula of order s with the extra weight 1/gamma on f(t, y): find e with
    # h f(t, y)/gamma + sum b^_i h f(stage i), minus the method itself, expressed in the stage increments.
    b = A[-1]
    moments = 1.0 / np.arange(1, s + 1)
    moments[0] -= 1.0 / gamma
    b_hat = np.linalg.solve(powers.T, moments)
    error = gamma * (b_hat - b) @ inverse
    dense = np.linalg.inv(c[:, None] ** np.arange(1.0, s + 1.0)).T.copy()
    return RadauTableau(2 * s - 1, s + 1, A, b, c, gamma, values[pairs], T, np.linalg.inv(T), error, dense, _series(s))


def _series(s: int) -> NDArray[np.float64]:
    """Return the Chebyshev coefficients, from T_1(2x - 1) on, of x, ..., x^s as columns."""
    powers = [
        np.polynomial.chebyshev.poly2cheb(np.polynomial.polynomial.polypow([0.5, 0.5], k)) for k in range(1, s + 1)
    ]
    return np.column_stack([np.pad(power, (0, s + 1 - power.size))[1:] for power in powers])


@dataclass(frozen=True)
class ExplicitTableau:
    """An explicit pair whose last main stage is the new point (its derivative is the first stage of the next step).

    Attributes
    ----------
    name : str
        What the method is called.
    order, error_order : int
        Order of the solution, and the power of h with which the error estimate falls (q + 1 for an embedded order q).
    stages : int
        Index of the stage at the new point: row `stages` of A holds the weights b.
    A, c : ndarray, shapes (S, S), (S,)
        All stages; those after `stages` serve the dense output alone.
    error : ndarray, shape (2, stages + 1)
        Weights of two error estimates e1 and e2, used as e1^2/sqrt(e1^2 + 0.01 e2^2); the second may be zero.
    dense : ndarray, shape (degree, S)
        y(t + x h) = y + h sum_k x^(k+1) (dense[k] @ K).
    stability : float
        Length of the stability interval on the negative real axis.
    """

    name: str
    order: int
    error_order: int
    stages: int
    A: NDArray[np.float64]
    c: NDArray[np.float64]
    error: NDArray[np.float64]
    dense: NDArray[np.float64]
    stability: float


_Sparse = Mapping[int, float]


def _row(entries: _Sparse, length: int) -> NDArray[np.float64]:
    row = np.zeros(length)
    row[list(entries)] = list(entries.values())
    return row


def _rows(entries: Sequence[_Sparse], length: int) -> NDArray[np.float64]:
    return np.array([_row(row, length) for row in entries])


# fmt: off
_TSIT5_C = (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
_TSIT5_A: tuple[_Sparse, ...] = (
    {},
    {0: 0.161},
    {0: -0.008480655492356989, 1: 0.335480655492357},
    {0: 2.8971530571054935, 1: -6.359448489975075, 2: 4.3622954328695815},
    {0: 5.325864828439257, 1: -11.748883564062828, 2: 7.4955393428898365, 3: -0.09249506636175525},
    {0: 5.86145544294642, 1: -12.92096931784711, 2: 8.159367898576159, 3: -0.071584973281401, 4: -0.028269050394068383},
    {0: 0.09646076681806523, 1: 0.01, 2: 0.4798896504144996, 3: 1.379008574103742, 4: -3.290069515436081,
     5: 2.324710524099774},
)
_TSIT5_ERROR = {
    0: -0.001780011052225771, 1: -0.0008164344596567469, 2: 0.007880878010261995, 3: -0.1447110071732629,
    4: 0.5823571654525552, 5: -0.45808210592918697, 6: 0.015151515151515152,
}
# the interpolant: weight of each stage as its leading coefficient, its power of x, and its other (monic) factors
_TSIT5_DENSE: tuple[tuple[float, int, tuple[tuple[float, ...], ...]], ...] = (
    (-1.0530884977290216, 1, ((-1.3299890189751412, 1.0), (0.7139816917074209, -1.4364028541716351, 1.0))),
    (0.1017, 2, ((1.2949852507374631, -2.1966568338249754, 1.0),)),
    (2.490627285651253, 2, ((1.57803468208092486, -2.38535645472061657, 1.0),)),
    (-16.548102889244902, 2, ((-1.21712927295533244, 1.0), (-0.61620406037800089, 1.0))),
    (47.37952196281928, 2, ((-1.203071208372362603, 1.0), (-0.658047292653547382, 1.0))),
    (-34.87065786149661, 2, ((-1.2, 1.0), (-2.0 / 3.0, 1.0))),
    (2.5, 2, ((-1.0, 1.0), (-0.6, 1.0))),
)
_DOP853_C = (
    0.0, 0.05260015195876773, 0.0789002279381516, 0.1183503419072274, 0.2816496580927726, 0.3333333333333333, 0.25,
    0.3076923076923077, 0.6512820512820513, 0.6, 0.8571428571428571, 1.0, 1.0, 0.1, 0.2, 0.7777777777777778,
)
_DOP853_A: tuple[_Sparse, ...] = (
    {},
    {0: 0.05260015195876773},
    {0: 0.0197250569845379, 1: 0.0591751709536137},
    {0: 0.02958758547680685, 2: 0.08876275643042054},
    {0: 0.2413651341592667, 2: -0.8845494793282861, 3: 0.924834003261792},
    {0: 0.037037037037037035, 3: 0.17082860872947386, 4: 0.12546768756682242},
    {0: 0.037109375, 3: 0.17025221101954405, 4: 0.06021653898045596, 5: -0.017578125},
    {0: 0.03709200011850479, 3: 0.17038392571223998, 4: 0.10726203044637328, 5: -0.015319437748624402, 6:
     0.008273789163814023},
    {0: 0.6241109587160757, 3: -3.3608926294469414, 4: -0.868219346841726, 5: 27.59209969944671, 6:
     20.154067550477894, 7: -43.48988418106996},
    {0: 0.47766253643826434, 3: -2.4881146199716677, 4: -0.590290826836843, 5: 21.230051448181193, 6:
     15.279233632882423, 7: -33.28821096898486, 8: -0.020331201708508627},
    {0: -0.9371424300859873, 3: 5.186372428844064, 4: 1.0914373489967295, 5: -8.149787010746927, 6:
     -18.52006565999696, 7: 22.739487099350505, 8: 2.4936055526796523, 9: -3.0467644718982196},
    {0: 2.273310147516538, 3: -10.53449546673725, 4: -2.0008720582248625, 5: -17.9589318631188, 6:
     27.94888452941996, 7: -2.8589982771350235, 8: -8.87285693353063, 9: 12.360567175794303, 10:
     0.6433927460157636},
    {0: 0.054293734116568765, 5: 4.450312892752409, 6: 1.8915178993145003, 7: -5.801203960010585, 8:
     0.3111643669578199, 9: -0.1521609496625161, 10: 0.20136540080403034, 11: 0.04471061572777259},
    {0: 0.056167502283047954, 6: 0.25350021021662483, 7: -0.2462390374708025, 8: -0.12419142326381637, 9:
     0.15329179827876568, 10: 0.00820105229563469, 11: 0.007567897660545699, 12: -0.008298},
    {0: 0.03183464816350214, 5: 0.028300909672366776, 6: 0.053541988307438566, 7: -0.05492374857139099, 10:
     -0.00010834732869724932, 11: 0.0003825710908356584, 12: -0.00034046500868740456, 13: 0.1413124436746325},
    {0: -0.42889630158379194, 5: -4.697621415361164, 6: 7.683421196062599, 7: 4.06898981839711, 8:
     0.3567271874552811, 12: -0.0013990241651590145, 13: 2.9475147891527724, 14: -9.15095847217987},
)
_DOP853_E5 = {
    0: 0.01312004499419488, 5: -1.2251564463762044, 6: -0.4957589496572502, 7: 1.6643771824549864, 8:
    -0.35032884874997366, 9: 0.3341791187130175, 10: 0.08192320648511571, 11: -0.022355307863886294,
}
_DOP853_E3 = {
    0: -0.18980075407240762, 5: 4.450312892752409, 6: 1.8915178993145003, 7: -5.801203960010585, 8:
    -0.4226823213237919, 9: -0.1521609496625161, 10: 0.20136540080403034, 11: 0.02265179219836082,
}
_DOP853_D: tuple[_Sparse, ...] = (
    {0: -8.428938276109013, 5: 0.5667149535193777, 6: -3.0689499459498917, 7: 2.38466765651207, 8:
     2.117034582445028, 9: -0.871391583777973, 10: 2.2404374302607883, 11: 0.6315787787694688, 12:
     -0.08899033645133331, 13: 18.148505520854727, 14: -9.194632392478356, 15: -4.436036387594894},
    {0: 10.427508642579134, 5: 242.28349177525817, 6: 165.20045171727028, 7: -374.5467547226902, 8:
     -22.113666853125306, 9: 7.733432668472264, 10: -30.674084731089398, 11: -9.332130526430229, 12:
     15.697238121770845, 13: -31.139403219565178, 14: -9.35292435884448, 15: 35.81684148639408},
    {0: 19.985053242002433, 5: -387.0373087493518, 6: -189.17813819516758, 7: 527.8081592054236, 8:
     -11.57390253995963, 9: 6.8812326946963, 10: -1.0006050966910838, 11: 0.7777137798053443, 12:
     -2.778205752353508, 13: -60.19669523126412, 14: 84.32040550667716, 15: 11.99229113618279},
    {0: -25.69393346270375, 5: -154.18974869023643, 6: -231.5293791760455, 7: 357.6391179106141, 8:
     93.40532418362432, 9: -37.45832313645163, 10: 104.0996495089623, 11: 29.8402934266605, 12: -43.53345659001114,
     13: 96.32455395918828, 14: -39.17726167561544, 15: -149.72683625798564},
)
# fmt: on


def _tsit5() -> ExplicitTableau:
    dense = np.zeros((4, 7))
    for stage, (leading, power, factors) in enumerate(_TSIT5_DENSE):
        weight = np.array([leading])
        for factor in factors:
            weight = polynomial.polymul(weight, factor)
        dense[power - 1 : power - 1 + weight.size, stage] = weight
    A = _rows(_TSIT5_A, 7)
    error = np.array([_row(_TSIT5_ERROR, 7), np.zeros(7)])
    return ExplicitTableau("tsit5", 5, 5, 6, A, np.array(_TSIT5_C), error, dense, 3.5)


def _dop853() -> ExplicitTableau:
    A = _rows(_DOP853_A, 16)
    error = np.array([_row(_DOP853_E5, 13), _row(_DOP853_E3, 13)])
    # The increment is dy, then come corrections that vanish at both ends, on the basis x, x(1-x), x^2(1-x), ...
    first, new = np.eye(16)[0], np.eye(16)[12]
    parts = [A[12], first - A[12], 2.0 * A[12] - first - new, *_rows(_DOP853_D, 16)]
    dense = np.zeros((7, 16))
    basis = np.array([0.0, 1.0])
    for k, part in enumerate(parts):
        dense[: basis.size - 1] += basis[1:, None] * part
        basis = polynomial.polymul(basis, [1.0, -1.0] if k % 2 == 0 else [0.0, 1.0])
    return ExplicitTableau("dop853", 8, 8, 12, A, np.array(_DOP853_C), error, dense, 6.1)


TSIT5 = _tsit5()
DOP853 = _dop853()


@dataclass(frozen=True)
class ChebyshevTableau:
    """Coefficients of the stabilised explicit method RKC2 with s stages, from Chebyshev polynomials of degree s.

    Attributes
    ----------
    mu, nu, mu_tilde, gamma_tilde, c : ndarray, shape (s + 1,)
        Y_j = (1 - mu_j - nu_j) y + mu_j Y_{j-1} + nu_j Y_{j-2} + h mu_tilde_j f(Y_{j-1}) + h gamma_tilde_j f(y), at
        t + c_j h; the first stage is Y_1 = y + h mu_tilde_1 f(y).
    stability : float
        The method is stable for h rho up to this, rho the spectral radius of the Jacobian.

    References
    ----------
    Sommeijer, Shampine and Verwer 1998, Journal of Computational and Applied Mathematics 88, pp. 315-326.
    """

    mu: NDArray[np.float64]
    nu: NDArray[np.float64]
    mu_tilde: NDArray[np.float64]
    gamma_tilde: NDArray[np.float64]
    c: NDArray[np.float64]
    stability: float


def chebyshev(s: int) -> ChebyshevTableau:
    """Return RKC2 with s >= 2 stages.

    Examples
    --------
    >>> round(chebyshev(10).stability / 10**2, 2)
    0.65
    """
    w0 = 1.0 + 2.0 / 13.0 / s**2  # damping
    T, dT, ddT = np.ones(s + 1), np.zeros(s + 1), np.zeros(s + 1)
    T[1], dT[1] = w0, 1.0
    for j in range(2, s + 1):
        T[j] = 2.0 * w0 * T[j - 1] - T[j - 2]
        dT[j] = 2.0 * T[j - 1] + 2.0 * w0 * dT[j - 1] - dT[j - 2]
        ddT[j] = 4.0 * dT[j - 1] + 2.0 * w0 * ddT[j - 1] - ddT[j - 2]
    w1 = dT[s] / ddT[s]
    b = np.empty(s + 1)
    b[2:] = ddT[2:] / dT[2:] ** 2
    b[:2] = b[2]
    c = np.zeros(s + 1)
    c[2:] = w1 * ddT[2:] / dT[2:]
    c[1] = c[2] / dT[2]
    mu, nu, mu_tilde, gamma_tilde = np.zeros((4, s + 1))
    mu_tilde[1] = b[1] * w1
    mu[2:] = 2.0 * b[2:] * w0 / b[1:-1]
    nu[2:] = -b[2:] / b[:-2]
    mu_tilde[2:] = 2.0 * b[2:] * w1 / b[1:-1]
    gamma_tilde[2:] = -(1.0 - b[1:-1] * T[1:-1]) * mu_tilde[2:]
    return ChebyshevTableau(mu, nu, mu_tilde, gamma_tilde, c, float((w0 + 1.0) / w1))
