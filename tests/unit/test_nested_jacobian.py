"""Stiff forces as unknowns of Newton's method: a rotation held near the unit circle, whose solution is known."""

import numpy as np
import pytest

from theorykit._numerics.errors import InputError
from theorykit.flow import NestedJacobian, integrate, integrator

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
EXACT = np.array([np.cos(10.0), np.sin(10.0)])


class Held:
    """dy/dt = TURN y - A (|y|^2 - 1) y: from the circle it turns at rate one, whatever A is."""

    def __init__(self, A):
        self.A = A

    def f(self, t, y):
        return TURN @ y - self.A * (y @ y - 1.0) * y

    def nested(self, t, y, c):
        return TURN @ y + c[0] * y, np.array([-self.A * (y @ y - 1.0)])

    def jacobian(self, t, y):
        return TURN - self.A * (y @ y - 1.0) * np.eye(2) - 2.0 * self.A * np.outer(y, y)

    def whole(self, t, y, c):
        return TURN + c[0] * np.eye(2) - 2.0 * self.A * np.outer(y, y), y[:, None], -2.0 * self.A * y[:, None]

    def low_rank(self, t, y, c):
        return c[0] * np.ones(2), y[:, None], -2.0 * self.A * y[:, None]


@pytest.mark.parametrize("method", ["radau5", "radau9", "radau13"])
@pytest.mark.parametrize("A", [1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("dense", [True, False])
def test_the_solution_is_right_however_stiff(method, A, dense):
    held = Held(A)
    jacobian = NestedJacobian(held.nested, held.whole if dense else held.low_rank, 1, dense)
    flow = integrate(held.f, [1.0, 0.0], (0.0, 10.0), method=method, jacobian=jacobian, rtol=1e-8)
    assert flow.status == "reached_end"
    assert np.abs(flow.y_end - EXACT).max() <= min(flow.y_error[-1], 1e-7)


def test_the_steps_do_not_grow_with_the_stiffness_as_without():
    steps = {}
    for A in (1e4, 1e6):
        held = Held(A)
        forms = {"plain": held.jacobian, "nested": NestedJacobian(held.nested, held.whole, 1)}
        for name, form in forms.items():
            flow = integrate(held.f, [1.0, 0.0], (0.0, 10.0), method="radau9", jacobian=form, rtol=1e-8,
                             companion=False)  # fmt: skip
            steps[A, name] = flow.counts["steps"] + flow.counts["rejected"]
    assert steps[1e6, "nested"] < 1.5 * steps[1e4, "nested"] < steps[1e4, "plain"] < 0.3 * steps[1e6, "plain"]


def test_off_the_manifold_it_falls_onto_it():
    held = Held(1e6)
    jacobian = NestedJacobian(held.nested, held.whole, 1)
    flow = integrate(held.f, [0.9, 0.0], (0.0, 10.0), method="radau", jacobian=jacobian, rtol=1e-8)
    exact = integrate(held.f, [0.9, 0.0], (0.0, 10.0), method="radau13", jacobian=held.jacobian, rtol=1e-10)
    assert np.abs(flow.y_end - exact.y_end).max() <= flow.y_error[-1] + exact.y_error[-1]


def test_a_cut_run_goes_on_bit_for_bit():
    held = Held(1e6)

    def new():
        jacobian = NestedJacobian(held.nested, held.whole, 1)
        return integrator(held.f, [1.0, 0.0], (0.0, 10.0), method="radau9", jacobian=jacobian)

    whole, first, second = new(), new(), new()
    for _ in range(12):
        whole.step()
    for _ in range(5):
        first.step()
    second.unpack({name: np.array(value) for name, value in first.pack().items()})
    for _ in range(7):
        second.step()
    assert second.y.tobytes() == whole.y.tobytes()
    assert second.counts == whole.counts


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"rank": 0}, "jacobian.rank"),
        ({"rank": 2}, "jacobian"),
        ({"nested": lambda t, y, c: (y[:1], c)}, "jacobian.nested"),
        ({"nested": lambda t, y, c: (TURN @ y - c[0] * y, np.array([-1e2 * (y @ y - 1.0)]))}, "jacobian.nested"),
        ({"parts": lambda t, y, c: (np.eye(3), y[:, None], y[:, None])}, "jacobian"),
        ({"parts": lambda t, y, c: (np.ones(2), y[:, None], y[:, None])}, "jacobian"),
    ],
)
def test_bad_parts(change, argument):
    held = Held(1e2)
    jacobian = NestedJacobian(**({"nested": held.nested, "parts": held.whole, "rank": 1} | change))
    with pytest.raises(InputError, match=argument.replace(".", r"\.")):
        integrate(held.f, [1.1, 0.0], (0.0, 1.0), method="radau5", jacobian=jacobian)


def test_what_it_raises_comes_out_as_itself():
    held = Held(1e2)

    def nested(t, y, c):
        if t > 0.5:
            raise ZeroDivisionError("mine")
        return held.nested(t, y, c)

    with pytest.raises(ZeroDivisionError, match="mine"):
        integrate(held.f, [1.0, 0.0], (0.0, 1.0), method="radau5", jacobian=NestedJacobian(nested, held.whole, 1))
