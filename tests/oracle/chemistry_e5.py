"""The stiff problem E5 in 40 digits: Radau IIA of order 13 in mpmath, geometric steps. Run it to print them.

The values at 10^13 that the IVP test set prints (release 2.4) are wrong from the third digit on: y2 = y3 + y4 at all
times and y4 dies out with y1, so y2 = y3 in the end, 8.8612335e-23; printed are 8.868e-23 and 8.855e-23. They were
formed when all were near 1e-10, and what round-off did to their difference then stays. At 10^7 they are 1e-14 still.
After 10^9 the printed y1 and y4, which die out exponentially, have few digits or none.
"""

from __future__ import annotations

import mpmath as mp

A, B, C, M = mp.mpf("7.89e-10"), mp.mpf("1.1e7"), mp.mpf("1.13e3"), mp.mpf("1e6")
DECADES = (1, 3, 5, 7, 9, 11, 13)
STAGES = 7


def rates(y: mp.matrix) -> mp.matrix:
    made, used, split, back = A * y[0], B * y[0] * y[2], M * C * y[1] * y[2], C * y[3]
    return mp.matrix([-made - used, made - split, made - used - split + back, used - back])


def jacobian(y: mp.matrix) -> mp.matrix:
    a, b, c = B * y[2], B * y[0], M * C * y[2]
    d = M * C * y[1]
    return mp.matrix([[-A - a, 0, -b, 0], [A, -c, -d, 0], [A - a, -c, -b - d, C], [a, 0, b, -C]])


def tableau() -> mp.matrix:
    """Return the weights of Radau IIA, whose abscissae are zeros of a difference of Legendre polynomials."""
    s = STAGES
    c = [
        mp.findroot(lambda x: mp.legendre(s, 2 * x - 1) - mp.legendre(s - 1, 2 * x - 1), guess) for guess in _guesses()
    ]
    powers = mp.matrix(s, s)
    moments = mp.matrix(s, s)
    for i in range(s):
        for k in range(s):
            powers[i, k], moments[i, k] = c[i] ** k, c[i] ** (k + 1) / (k + 1)
    return moments * powers**-1


def _guesses() -> list[float]:
    from theorykit.flow.tableaus import radau_iia

    return [float(c) for c in radau_iia(STAGES).c]


def step(y: mp.matrix, h: mp.mpf, weights: mp.matrix) -> mp.matrix:
    """Return y after one step, by Newton's iteration with the Jacobian of the start of the step."""
    s = STAGES
    J, z, system = jacobian(y), mp.matrix(4 * s, 1), mp.eye(4 * s)
    for i in range(s):
        for k in range(s):
            for p in range(4):
                for q in range(4):
                    system[4 * i + p, 4 * k + q] -= h * weights[i, k] * J[p, q]
    inverse = system**-1
    for _ in range(200):
        slopes = [rates(y + z[4 * i : 4 * i + 4, 0]) for i in range(s)]
        miss = mp.matrix(4 * s, 1)
        for i in range(s):
            for p in range(4):
                miss[4 * i + p] = h * mp.fsum(weights[i, k] * slopes[k][p] for k in range(s)) - z[4 * i + p]
        change = inverse * miss
        z += change
        if all(abs(change[4 * i + p]) <= abs(y[p] + z[4 * i + p]) * mp.eps * 1e6 for i in range(s) for p in range(4)):
            return y + z[4 * s - 4 : 4 * s, 0]
    raise ArithmeticError("no convergence")


def solve(steps_per_decade: int) -> dict[int, mp.matrix]:
    """Return y at powers of ten."""
    weights = tableau()
    t, y, found = mp.mpf("1e-6"), mp.matrix([mp.mpf("1.76e-3"), 0, 0, 0]), {}
    y = step(y, t, weights)
    for k in range(1, steps_per_decade * 19 + 1):
        after = mp.mpf(10) ** (mp.mpf(k) / steps_per_decade - 6)
        y = step(y, after - t, weights)
        t = after
        if k % steps_per_decade == 0 and k // steps_per_decade - 6 in DECADES:
            found[k // steps_per_decade - 6] = y
    return found


if __name__ == "__main__":
    with mp.workdps(40):
        coarse, fine = solve(16), solve(24)
        for decade in DECADES:
            print(decade, [mp.nstr(value, 17) for value in fine[decade]])
            print(
                "   relative change",
                [mp.nstr(abs(a / b - 1), 3) for a, b in zip(coarse[decade], fine[decade], strict=True)],
            )
