"""Standard initial-value problems, as numba functions: the non-stiff DETEST classes, and stiff ones with references.

DETEST: Hull, Enright, Fellen and Sedgwick 1972, SIAM Journal on Numerical Analysis 9, pp. 603-637; all on [0, 20].
Stiff: Mazzia and Magherini, Test Set for Initial Value Problem Solvers, release 2.4, with its reference values, save
for E5, whose are wrong in the third digit and at a time when round-off in f has taken over (see `chemistry_e5.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """f, start, end, and y at the end where it is published."""

    name: str
    f: Any
    y0: Array
    t_end: float
    reference: Array | None = None
    scale: float = 1.0  # atol is rtol times this
    p: Array | None = None

    @property
    def parameters(self) -> Array:
        return np.zeros(1) if self.p is None else self.p

    def python(self) -> Callable[[float, Array], Array]:
        """Return f(t, y) for solvers that take no numba function."""
        p, f = self.parameters, self.f

        def call(t: float, y: Array) -> Array:
            out = np.empty(len(y))
            f(t, np.ascontiguousarray(y), p, out)
            return out

        return call


@numba.njit
def a1(t, y, p, out):
    out[0] = -y[0]


@numba.njit
def a2(t, y, p, out):
    out[0] = -0.5 * y[0] ** 3


@numba.njit
def a3(t, y, p, out):
    out[0] = y[0] * math.cos(t)


@numba.njit
def a4(t, y, p, out):
    out[0] = 0.25 * y[0] * (1.0 - y[0] / 20.0)


@numba.njit
def a5(t, y, p, out):
    out[0] = (y[0] - t) / (y[0] + t)


@numba.njit
def b1(t, y, p, out):
    out[0] = 2.0 * (y[0] - y[0] * y[1])
    out[1] = -(y[1] - y[0] * y[1])


@numba.njit
def b2(t, y, p, out):
    out[0] = -y[0] + y[1]
    out[1] = y[0] - 2.0 * y[1] + y[2]
    out[2] = y[1] - y[2]


@numba.njit
def b3(t, y, p, out):
    out[0] = -y[0]
    out[1] = y[0] - y[1] * y[1]
    out[2] = y[1] * y[1]


@numba.njit
def b4(t, y, p, out):
    r = math.sqrt(y[0] * y[0] + y[1] * y[1])
    out[0] = -y[1] - y[0] * y[2] / r
    out[1] = y[0] - y[1] * y[2] / r
    out[2] = y[0] / r


@numba.njit
def b5(t, y, p, out):
    out[0] = y[1] * y[2]
    out[1] = -y[0] * y[2]
    out[2] = -0.51 * y[0] * y[1]


@numba.njit
def c1(t, y, p, out):
    out[0] = -y[0]
    for i in range(1, 9):
        out[i] = y[i - 1] - y[i]
    out[9] = y[8]


@numba.njit
def c2(t, y, p, out):
    out[0] = -y[0]
    for i in range(1, 9):
        out[i] = i * y[i - 1] - (i + 1.0) * y[i]
    out[9] = 9.0 * y[8]


@numba.njit
def c3(t, y, p, out):
    n = y.shape[0]
    for i in range(n):
        out[i] = -2.0 * y[i]
        if i > 0:
            out[i] += y[i - 1]
        if i < n - 1:
            out[i] += y[i + 1]


MASSES = (0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778)
PLANETS = np.array([
    3.42947415189, 3.35386959711, 1.35494901715, 6.64145542550, 5.97156957878, 2.18231499728,
    11.2630437207, 14.6952576794, 6.27960525067, -30.1552268759, 1.65699966404, 1.43785752721,
    -21.1238353380, 28.4465098142, 15.3882659679,
    -0.557160570446, 0.505696783289, 0.230578543901, -0.415570776342, 0.365682722812, 0.169143213293,
    -0.325325669158, 0.189706021964, 0.0877265322780, -0.0240476254170, -0.287659532608, -0.117219543175,
    -0.176860753121, -0.216393453025, -0.0148647893090,
])  # fmt: skip


@numba.njit
def c5(t, y, p, out):
    """Motion of the outer planets."""
    k, sun = 2.95912208286, 1.00000597682
    cubes = np.empty(5)
    for j in range(5):
        cubes[j] = (y[3 * j] ** 2 + y[3 * j + 1] ** 2 + y[3 * j + 2] ** 2) ** 1.5
    for j in range(5):
        for i in range(3):
            out[3 * j + i] = y[15 + 3 * j + i]
            out[15 + 3 * j + i] = -(sun + MASSES[j]) * y[3 * j + i] / cubes[j]
        for m in range(5):
            if m != j:
                d = 0.0
                for i in range(3):
                    d += (y[3 * m + i] - y[3 * j + i]) ** 2
                d = d**1.5
                for i in range(3):
                    out[15 + 3 * j + i] += MASSES[m] * ((y[3 * m + i] - y[3 * j + i]) / d - y[3 * m + i] / cubes[m])
        for i in range(3):
            out[15 + 3 * j + i] *= k


@numba.njit
def kepler(t, y, p, out):
    r = (y[0] * y[0] + y[1] * y[1]) ** 1.5
    out[0], out[1] = y[2], y[3]
    out[2], out[3] = -y[0] / r, -y[1] / r


@numba.njit
def e1(t, y, p, out):
    out[0] = y[1]
    out[1] = -(y[1] / (t + 1.0) + (1.0 - 0.25 / (t + 1.0) ** 2) * y[0])


@numba.njit
def e2(t, y, p, out):
    out[0] = y[1]
    out[1] = (1.0 - y[0] * y[0]) * y[1] - y[0]


@numba.njit
def e3(t, y, p, out):
    out[0] = y[1]
    out[1] = y[0] ** 3 / 6.0 - y[0] + 2.0 * math.sin(2.78535 * t)


@numba.njit
def e4(t, y, p, out):
    out[0] = y[1]
    out[1] = 0.032 - 0.4 * y[1] * y[1]


@numba.njit
def e5(t, y, p, out):
    out[0] = y[1]
    out[1] = math.sqrt(1.0 + y[1] * y[1]) / (25.0 - t)


def _detest() -> list[Problem]:
    first = np.eye(10)[0]
    simple = {
        "A1": (a1, [1.0]), "A2": (a2, [1.0]), "A3": (a3, [1.0]), "A4": (a4, [1.0]), "A5": (a5, [4.0]),
        "B1": (b1, [1.0, 3.0]), "B2": (b2, [2.0, 0.0, 1.0]), "B3": (b3, [1.0, 0.0, 0.0]),
        "B4": (b4, [3.0, 0.0, 0.0]), "B5": (b5, [0.0, 1.0, 1.0]),
        "C1": (c1, first), "C2": (c2, first), "C3": (c3, first), "C4": (c3, np.eye(51)[0]), "C5": (c5, PLANETS),
    }  # fmt: skip
    for k, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), 1):
        simple[f"D{k}"] = (kepler, [1.0 - e, 0.0, 0.0, math.sqrt((1.0 + e) / (1.0 - e))])
    simple |= {
        "E1": (e1, [0.6713967071418030, 0.09540051444747446]), "E2": (e2, [2.0, 0.0]), "E3": (e3, [0.0, 0.0]),
        "E4": (e4, [30.0, 0.0]), "E5": (e5, [0.0, 0.0]),
    }  # fmt: skip
    return [Problem(name, f, np.array(y0, dtype=np.float64), 20.0) for name, (f, y0) in simple.items()]


@numba.njit
def robertson(t, y, p, out):
    out[0] = -0.04 * y[0] + 1e4 * y[1] * y[2]
    out[2] = 3e7 * y[1] * y[1]
    out[1] = -out[0] - out[2]


@numba.njit
def hires(t, y, p, out):
    out[0] = -1.71 * y[0] + 0.43 * y[1] + 8.32 * y[2] + 0.0007
    out[1] = 1.71 * y[0] - 8.75 * y[1]
    out[2] = -10.03 * y[2] + 0.43 * y[3] + 0.035 * y[4]
    out[3] = 8.32 * y[1] + 1.71 * y[2] - 1.12 * y[3]
    out[4] = -1.745 * y[4] + 0.43 * (y[5] + y[6])
    out[5] = -280.0 * y[5] * y[7] + 0.69 * y[3] + 1.71 * y[4] - 0.43 * y[5] + 0.69 * y[6]
    out[6] = 280.0 * y[5] * y[7] - 1.81 * y[6]
    out[7] = -out[6]


@numba.njit
def van_der_pol(t, y, p, out):
    out[0] = y[1]
    out[1] = ((1.0 - y[0] * y[0]) * y[1] - y[0]) * 1e6


@numba.njit
def oregonator(t, y, p, out):
    out[0] = 77.27 * (y[1] + y[0] * (1.0 - 8.375e-6 * y[0] - y[1]))
    out[1] = (y[2] - (1.0 + y[0]) * y[1]) / 77.27
    out[2] = 0.161 * (y[0] - y[2])


@numba.njit
def chemistry_e5(t, y, p, out):
    a, b, c, m = 7.89e-10, 1.1e7, 1.13e3, 1e6
    first, second, third = a * y[0], b * y[0] * y[2], m * c * y[1] * y[2]
    out[0] = -first - second
    out[1] = first - third
    out[3] = second - c * y[3]
    out[2] = out[1] - out[3]


@numba.njit
def pollution(t, y, p, out):
    r = np.empty(25)
    r[0] = 0.35 * y[0]
    r[1] = 26.6 * y[1] * y[3]
    r[2] = 12300.0 * y[4] * y[1]
    r[3] = 0.00086 * y[6]
    r[4] = 0.00082 * y[6]
    r[5] = 15000.0 * y[6] * y[5]
    r[6] = 0.00013 * y[8]
    r[7] = 24000.0 * y[8] * y[5]
    r[8] = 16500.0 * y[10] * y[1]
    r[9] = 9000.0 * y[10] * y[0]
    r[10] = 0.022 * y[12]
    r[11] = 12000.0 * y[9] * y[1]
    r[12] = 1.88 * y[13]
    r[13] = 16300.0 * y[0] * y[5]
    r[14] = 4800000.0 * y[2]
    r[15] = 0.00035 * y[3]
    r[16] = 0.0175 * y[3]
    r[17] = 1e8 * y[15]
    r[18] = 444000000000.0 * y[15]
    r[19] = 1240.0 * y[16] * y[5]
    r[20] = 2.1 * y[18]
    r[21] = 5.78 * y[18]
    r[22] = 0.0474 * y[0] * y[3]
    r[23] = 1780.0 * y[18] * y[0]
    r[24] = 3.12 * y[19]
    out[0] = -r[0] - r[9] - r[13] - r[22] - r[23] + r[1] + r[2] + r[8] + r[10] + r[11] + r[21] + r[24]
    out[1] = -r[1] - r[2] - r[8] - r[11] + r[0] + r[20]
    out[2] = -r[14] + r[0] + r[16] + r[18] + r[21]
    out[3] = -r[1] - r[15] - r[16] - r[22] + r[14]
    out[4] = -r[2] + 2.0 * r[3] + r[5] + r[6] + r[12] + r[19]
    out[5] = -r[5] - r[7] - r[13] - r[19] + r[2] + 2.0 * r[17]
    out[6] = -r[3] - r[4] - r[5] + r[12]
    out[7] = r[3] + r[4] + r[5] + r[6]
    out[8] = -r[6] - r[7]
    out[9] = -r[11] + r[6] + r[8]
    out[10] = -r[8] - r[9] + r[7] + r[10]
    out[11] = r[8]
    out[12] = -r[10] + r[9]
    out[13] = -r[12] + r[11]
    out[14] = r[13]
    out[15] = -r[17] - r[18] + r[15]
    out[16] = -r[19]
    out[17] = r[19]
    out[18] = -r[20] - r[21] - r[23] + r[22] + r[24]
    out[19] = -r[24] + r[23]


@numba.njit
def diode(u):
    return 40.67286402e-9 * (math.exp(17.7493332 * u) - 1.0)


@numba.njit
def ring_modulator(t, y, p, out):
    c, cs, cp, lh = 1.6e-8, 2e-12, 1e-8, 4.45
    ls1, ls2, ls3 = 2e-3, 5e-4, 5e-4
    rg1, rg2, rg3 = 36.3, 17.3, 17.3
    first, second = 0.5 * math.sin(2e3 * math.pi * t), 2.0 * math.sin(2e4 * math.pi * t)
    q1, q2 = diode(y[2] - y[4] - y[6] - second), diode(-y[3] + y[5] - y[6] - second)
    q3, q4 = diode(y[3] + y[4] + y[6] + second), diode(-y[2] - y[5] + y[6] + second)
    out[0] = (y[7] - 0.5 * y[9] + 0.5 * y[10] + y[13] - y[0] / 25e3) / c
    out[1] = (y[8] - 0.5 * y[11] + 0.5 * y[12] + y[14] - y[1] / 25e3) / c
    out[2] = (y[9] - q1 + q4) / cs
    out[3] = (-y[10] + q2 - q3) / cs
    out[4] = (y[11] + q1 - q3) / cs
    out[5] = (-y[12] - q2 + q4) / cs
    out[6] = (-y[6] / 50.0 + q1 + q2 - q3 - q4) / cp
    out[7] = -y[0] / lh
    out[8] = -y[1] / lh
    out[9] = (0.5 * y[0] - y[2] - rg2 * y[9]) / ls2
    out[10] = (-0.5 * y[0] + y[3] - rg3 * y[10]) / ls3
    out[11] = (0.5 * y[1] - y[4] - rg2 * y[11]) / ls2
    out[12] = (-0.5 * y[1] + y[5] - rg3 * y[12]) / ls3
    out[13] = (-y[0] + first - (50.0 + rg1) * y[13]) / ls1
    out[14] = (-y[1] - (600.0 + rg1) * y[14]) / ls1


def _pollution_start() -> Array:
    y = np.zeros(20)
    y[[1, 3, 6, 7, 8, 16]] = 0.2, 0.04, 0.1, 0.3, 0.01, 0.007
    return y


# fmt: off
STIFF = [
    Problem("Robertson", robertson, np.array([1.0, 0.0, 0.0]), 1e11,
            np.array([0.2083340149701255e-07, 0.8333360770334713e-13, 0.9999999791665050]), 1e-6),
    Problem("HIRES", hires, np.array([1.0, 0, 0, 0, 0, 0, 0, 0.0057]), 321.8122,
            np.array([0.7371312573325668e-3, 0.1442485726316185e-3, 0.5888729740967575e-4, 0.1175651343283149e-2,
                      0.2386356198831331e-2, 0.6238968252742796e-2, 0.2849998395185769e-2, 0.2850001604814231e-2]),
            1e-2),
    Problem("van der Pol", van_der_pol, np.array([2.0, 0.0]), 2.0,
            np.array([0.1706167732170483e1, -0.8928097010247975])),
    Problem("Oregonator", oregonator, np.array([1.0, 2.0, 3.0]), 360.0,
            np.array([0.1000814870318523e1, 0.1228178521549917e4, 0.1320554942846706e3])),
    Problem("E5", chemistry_e5, np.array([1.76e-3, 0.0, 0.0, 0.0]), 1e7,  # from chemistry_e5.py
            np.array([4.7150333630401446e-10, 1.8188895860792112e-14, 1.8188812376771815e-14, 8.3484020296252924e-20]),
            1e-18),
    Problem("Pollution", pollution, _pollution_start(), 60.0,
            np.array([0.5646255480022769e-1, 0.1342484130422339, 0.4139734331099427e-8, 0.5523140207484359e-2,
                      0.2018977262302196e-6, 0.1464541863493966e-6, 0.7784249118997964e-1, 0.3245075353396018,
                      0.7494013383880406e-2, 0.1622293157301561e-7, 0.1135863833257075e-7, 0.2230505975721359e-2,
                      0.2087162882798630e-3, 0.1396921016840158e-4, 0.8964884856898295e-2, 0.4352846369330103e-17,
                      0.6899219696263405e-2, 0.1007803037365946e-3, 0.1772146513969984e-5, 0.5682943292316392e-4]),
            1e-4),
    Problem("ring modulator", ring_modulator, np.zeros(15), 1e-3,
            np.array([-0.2339057358486745e-1, -0.7367485485540825e-2, 0.2582956709291169, -0.4064465721283450,
                      -0.4039455665149794, 0.2607966765422943, 0.1106761861269975, 0.2939904342435596e-6,
                      -0.2840029933642329e-7, 0.7267198267264553e-3, 0.7929487196960840e-3, -0.7255283495698965e-3,
                      -0.7941401968526521e-3, 0.7088495416976114e-4, 0.2390059075236570e-4]), 1e-2),
]
# fmt: on
DETEST = _detest()


def error(problem: Problem, y: Array, reference: Array) -> float:
    """Return the largest error relative to max(|reference|, scale): what rtol and atol asked for."""
    floor = problem.scale if problem.reference is not None else 1.0
    return float(np.max(np.abs(y - reference) / np.maximum(np.abs(reference), floor)))
