"""Steps of a rotation held on a circle by a force A times the distance, with and without `NestedJacobian`.

python benchmarks/held.py
"""

from __future__ import annotations

import numpy as np

from theorykit.flow import NestedJacobian, integrate

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
EXACT = np.array([np.cos(10.0), np.sin(10.0)])


def row(A: float, method: str) -> list[str]:
    """Return steps, rejected steps and error, without and with it."""

    def f(t, y):
        return TURN @ y - A * (y @ y - 1.0) * y

    def nested(t, y, c):
        return TURN @ y + c[0] * y, np.array([-A * (y @ y - 1.0)])

    def jacobian(t, y):
        return TURN - A * (y @ y - 1.0) * np.eye(2) - 2.0 * A * np.outer(y, y)

    def parts(t, y, c):
        u, v = y[:, None], -2.0 * A * y[:, None]
        return TURN + c[0] * np.eye(2) + u @ v.T, u, v

    cells = []
    for form in (jacobian, NestedJacobian(nested, parts, 1)):
        flow = integrate(f, [1.0, 0.0], (0.0, 10.0), method=method, jacobian=form, rtol=1e-8, companion=False)
        steps, rejected = flow.counts["steps"], flow.counts["rejected"]
        cells += [str(steps), str(rejected), f"{np.abs(flow.y_end - EXACT).max():.1e}"]
    return cells


def main() -> None:
    """Print the table."""
    print("| A | method | steps | rejected | error | nested: steps | rejected | error |")
    print("|---|---|---|---|---|---|---|---|")
    for A in (1e2, 1e4, 1e6, 1e8):
        for method in ("radau5", "radau9", "radau13"):
            print("|", " | ".join([f"{A:g}", method, *row(A, method)]), "|")


if __name__ == "__main__":
    main()
