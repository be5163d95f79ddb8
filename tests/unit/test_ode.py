"""`flow.integrate`: input, trouble and what it says then, events, checkpoints, the step-by-step interface."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest

from theorykit import FlowError, InputError
from theorykit.flow import LowRankJacobian, Zero, integrate, integrator

METHODS = ("tsit5", "dop853", "rkc2", "radau5", "radau9", "radau13")


def decay(t, y):
    return -y


@numba.njit
def compiled_decay(t, y, p, out):
    for i in range(y.shape[0]):
        out[i] = -p[0] * y[i]


# --- functions ---


@pytest.mark.parametrize("method", METHODS)
def test_python_and_numba_functions_give_the_same_bits(method):
    mine = integrate(lambda t, y, rate: -rate * y, [1.0, 2.0], (0.0, 1.0), method=method, rtol=1e-6, args=(1.0,))
    theirs = integrate(compiled_decay, [1.0, 2.0], (0.0, 1.0), method=method, rtol=1e-6, args=(1.0,))
    assert mine.y_end.tobytes() == theirs.y_end.tobytes()
    np.testing.assert_allclose(mine.y_end, np.exp(-1.0) * np.array([1.0, 2.0]), rtol=2e-4)


def test_a_new_function_does_not_recompile_a_driver():
    from theorykit.flow.ode import _explicit

    integrate(compiled_decay, [1.0], (0.0, 1.0), args=(1.0,))
    before = list(_explicit.advance.signatures)

    @numba.njit
    def another(t, y, p, out):
        out[0], out[1], out[2] = y[1], y[2], -y[0]

    integrate(another, [1.0, 0.0, 0.0], (0.0, 1.0))
    integrate(decay, np.ones(7), (0.0, 1.0))
    assert list(_explicit.advance.signatures) == before
    assert len(before) == 1


def test_exceptions_come_out_as_themselves():
    class MineError(Exception):
        pass

    def fails_later(t, y):
        if t > 0.5:
            raise MineError("at the half")
        return -y

    for method in METHODS:
        with pytest.raises(MineError, match="at the half"):
            integrate(fails_later, [1.0], (0.0, 1.0), method=method, rtol=1e-4)

    @numba.njit
    def compiled_failure(t, y, p, out):
        if t > 0.5:
            raise ValueError("compiled, at the half")
        out[0] = -y[0]

    with pytest.raises(ValueError, match="compiled, at the half"):
        integrate(compiled_failure, [1.0], (0.0, 1.0))


def test_interrupt_in_a_callback_comes_out():
    def slow(t, y):
        if t > 0.01:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return -y

    with pytest.raises(KeyboardInterrupt):
        integrate(slow, [1.0], (0.0, 1.0))


def test_the_function_gets_an_array_of_its_own():
    kept = []

    def keeps(t, y):
        kept.append(y)
        value = -y
        y[:] = np.nan
        return value

    result = integrate(keeps, [1.0], (0.0, 1.0))
    assert result.y_end[0] == pytest.approx(math.exp(-1.0), abs=1e-8)
    assert len({id(y) for y in kept}) == len(kept)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"f": 3.0}, "f"),
        ({"f": lambda t, y: np.ones(3)}, "f"),
        ({"f": lambda t, y: 1.0}, "f"),
        ({"f": lambda t, y: 1j * y}, "f"),
        ({"f": numba.njit(lambda t, y: -y)}, "f"),
        ({"y0": [math.nan, 1.0]}, "y0"),
        ({"y0": []}, "y0"),
        ({"t_span": 3.0}, "t_span"),
        ({"t_span": (0.0, math.inf)}, "t_span[1]"),
        ({"rtol": 1e-16}, "rtol"),
        ({"rtol": 0.5}, "rtol"),
        ({"atol": 0.0}, "atol"),
        ({"atol": [1e-3]}, "atol"),
        ({"atol": "a"}, "atol"),
        ({"atol": 1j}, "atol"),
        ({"at": "a"}, "at"),
        ({"at": 10**12}, "at"),
        ({"states": [1j]}, "states"),
        ({"save": "abc"}, "save"),
        ({"args": 5}, "args"),
        ({"checkpoint": 5}, "checkpoint"),
        ({"checkpoint": "no/such/folder/x.npz"}, "checkpoint"),
        ({"method": "rk4"}, "method"),
        ({"jacobian": "dense"}, "jacobian"),
        ({"jacobian": lambda t, y: np.eye(3)}, "jacobian"),
        ({"jacobian": LowRankJacobian(lambda t, y: (y, y, y), rank=0)}, "jacobian.rank"),
        ({"max_steps": 0}, "max_steps"),
        ({"at": [0.0, 2.0]}, "at"),
        ({"at": 1}, "at"),
        ({"save": {"x": 3}}, "save['x']"),
        ({"events": [3]}, "events"),
        ({"stop": 3}, "stop"),
        ({"first_step": -1.0}, "first_step"),
        ({"widest": 0.0}, "widest"),
        ({"spectral_radius": 0.0}, "spectral_radius"),
    ],
)
def test_bad_input(change, argument):
    arguments = {"f": decay, "y0": [1.0, 1.0], "t_span": (0.0, 1.0)} | change
    f, y0, t_span = (arguments.pop(name) for name in ("f", "y0", "t_span"))
    with pytest.raises(InputError) as raised:
        integrate(f, y0, t_span, **arguments)
    assert raised.value.argument == argument


def test_wrong_shape_later_on_raises():
    with pytest.raises(InputError, match="shape"):
        integrate(lambda t, y: -y if t < 0.5 else np.ones(3), [1.0, 1.0], (0.0, 1.0))


# --- hard cases ---


@pytest.mark.parametrize("method", METHODS)
def test_nan_is_a_status(method):
    result = integrate(lambda t, y: np.array([math.nan if t > 0.5 else -1.0]), [1.0], (0.0, 1.0), method=method, at=11)
    assert result.status == "not_finite"
    assert 0.49 < result.t_end <= 0.5 + 1e-9
    assert result.t[-1] <= result.t_end
    with pytest.raises(FlowError, match="nan or infinite"):
        result.raise_for_status()


def test_nan_at_the_start():
    assert integrate(lambda t, y: y * math.nan, [1.0], (0.0, 1.0)).status == "not_finite"


@pytest.mark.parametrize("method", METHODS)
def test_blow_up_in_finite_time(method):
    result = integrate(lambda t, y: y * y, [1.0], (0.0, 2.0), method=method, rtol=1e-6)
    assert result.status == "blow_up"
    assert result.t_end == pytest.approx(1.0, abs=1e-4)


def test_singularity_without_growth():
    result = integrate(lambda t, y: -1.0 / y, [1.0], (0.0, 1.0))  # y = sqrt(1 - 2t)
    assert result.status in ("step_too_small", "not_finite")
    assert result.t_end == pytest.approx(0.5, abs=1e-6)


def test_discontinuous_right_hand_side_is_passed_and_noticed():
    def switch(t, y):
        return np.array([1.0 if math.floor(10.0 * t) % 2 == 0 else -1.0])

    result = integrate(switch, [0.0], (0.0, 1.0), method="dop853", rtol=1e-6)
    assert result.status == "reached_end"
    assert abs(result.y_end[0]) <= result.y_error[-1]
    assert "may not be smooth" in result.message


def test_too_few_steps():
    result = integrate(decay, [1.0], (0.0, 100.0), max_steps=5)
    assert result.status == "max_steps"
    assert result.counts["steps"] == 5
    assert 0.0 < result.t_end < 100.0
    assert "max_steps" in result.message


def test_zero_span_and_backwards():
    still = integrate(decay, [1.0], (3.0, 3.0))
    assert (still.status, still.t_end, still.y_end[0]) == ("reached_end", 3.0, 1.0)
    for method in METHODS:
        back = integrate(decay, [1.0], (1.0, 0.0), method=method, rtol=1e-7, at=5, events=[lambda t, y: y[0] - 2.0])
        assert back.y_end[0] == pytest.approx(math.e, rel=1e-4)
        assert back.t.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert [event.t for event in back.events] == [pytest.approx(1.0 - math.log(2.0), abs=1e-4)]


# --- saves and events ---


def circle(t, y):
    return np.array([-y[1], y[0]])


def test_saves_are_where_they_were_asked_for():
    times = [0.1, 0.25, 1.0, 2.0]
    result = integrate(
        circle, [1.0, 0.0], (0.0, 2.0), at=times, states=[0.5, 2.0],
        save={"angle": lambda t, y: math.atan2(y[1], y[0]), "both": lambda t, y: y},
    )  # fmt: skip
    assert result.t.tolist() == times
    np.testing.assert_allclose(result.stats["angle"], times, atol=1e-8)
    assert result.stats["both"].shape == (4, 2)
    assert result.states_t.tolist() == [0.5, 2.0]
    np.testing.assert_allclose(result.y[0], [math.cos(0.5), math.sin(0.5)], atol=1e-8)
    assert np.all(np.abs(result.stats["angle"] - times) <= result.errors["angle"])


@pytest.mark.parametrize("method", ["tsit5", "dop853", "radau9"])
def test_both_crossings_inside_one_step_are_found(method):
    """A dip below zero for a hundredth of the step, at any place: signs at the ends never see it."""
    for dip in np.linspace(0.3, 9.7, 23):
        event = Zero(lambda t, y, dip=dip: (t - dip) ** 2 - 1e-4, "dip")
        result = integrate(
            lambda t, y: np.array([1.0]), [0.0], (0.0, 10.0), method=method, first_step=2.0, widest=2.0, events=[event]
        )
        assert [found.direction for found in result.events] == [-1, 1]
        np.testing.assert_allclose([found.t for found in result.events], [dip - 1e-2, dip + 1e-2], atol=1e-9)


def test_direction_terminal_and_errors_of_events():
    up = integrate(circle, [1.0, 0.0], (0.0, 20.0), events=[Zero(lambda t, y: y[0], "x", direction=1)])
    exact = [1.5 * math.pi, 3.5 * math.pi, 5.5 * math.pi]
    assert len(up.events) == 3
    for found, t in zip(up.events, exact, strict=True):
        assert abs(found.t - t) <= found.error < 1e-5
    first = integrate(circle, [1.0, 0.0], (0.0, 20.0), at=21, events=[Zero(lambda t, y: y[0], "x", terminal=True)])
    assert first.status == "event"
    assert first.t_end == pytest.approx(0.5 * math.pi, abs=1e-8)
    assert first.y_end[0] == pytest.approx(0.0, abs=1e-14)
    assert first.t.tolist() == [0.0, 1.0]


def test_events_that_never_cross_and_that_touch():
    result = integrate(
        circle, [1.0, 0.0], (0.0, 10.0),
        events=[Zero(lambda t, y: y[0] + 2.0, "never"), Zero(lambda t, y: (t - 5.0) ** 2, "touches")],
    )  # fmt: skip
    assert result.events == ()
    assert result.closest["never"][0] == pytest.approx(1.0, abs=1e-3)
    assert result.closest["touches"][0] < 1e-6
    assert result.closest["touches"][1] == pytest.approx(5.0, abs=1e-3)


def test_an_event_at_zero_from_the_start_is_none():
    result = integrate(circle, [1.0, 0.0], (0.0, 6.0), events=[lambda t, y: y[1]])
    assert [found.t for found in result.events] == [pytest.approx(math.pi, abs=1e-8)]


def test_stop_condition():
    result = integrate(decay, [1.0], (0.0, 100.0), stop=lambda t, y: y[0] < 0.01)
    assert result.status == "stopped"
    assert result.y_end[0] < 0.01
    assert result.t_end < 100.0


def test_dense_output():
    result = integrate(circle, [1.0, 0.0], (0.0, 6.0), dense=True)
    times = np.linspace(0.0, 6.0, 77)
    np.testing.assert_allclose(result.at(times), np.stack([np.cos(times), np.sin(times)], axis=1), atol=3e-7)
    assert result.at(1.0).shape == (2,)
    with pytest.raises(InputError):
        result.at(7.0)
    with pytest.raises(InputError, match="dense=True"):
        integrate(circle, [1.0, 0.0], (0.0, 6.0)).at(1.0)


def test_confirm():
    result = integrate(circle, [1.0, 0.0], (0.0, 6.0), rtol=1e-6, confirm=True, save={"x": lambda t, y: y[0]})
    assert result.confirmed["status"] == "reached_end"
    assert 0.0 < result.confirmed["states"] <= result.y_error.max()
    assert set(result.confirmed["stats"]) == {"x"}


# --- the choice of method ---


def test_auto_says_what_it_chose():
    def stiff(t, y):
        return -1e5 * (y - np.cos(t))

    result = integrate(stiff, [0.0], (0.0, 10.0), rtol=1e-6)
    assert [switch.method for switch in result.switches][:2] == ["dop853", "radau9"]
    assert "stability" in result.switches[1].reason
    assert result.y_end[0] == pytest.approx(math.cos(10.0), abs=1e-4)
    assert result.counts["steps"] < 1000


def test_auto_comes_back_from_implicit():
    def at_first_stiff(t, y):
        return -(1e5 if t < 1.0 else 1.0) * (y - np.cos(t))

    result = integrate(at_first_stiff, [0.0], (0.0, 400.0), rtol=1e-6)
    assert [switch.method for switch in result.switches][:3] == ["dop853", "radau9", "dop853"]
    assert "no longer stiff" in result.switches[2].reason


def heat(n):
    def f(t, y):
        full = np.concatenate([[0.0], y, [0.0]])
        return (n + 1.0) ** 2 * np.diff(full, 2)

    return f


def test_auto_on_a_large_stiff_system_stabilises():
    n = 600
    x = np.arange(1, n + 1) / (n + 1)
    result = integrate(heat(n), np.sin(np.pi * x), (0.0, 0.1), rtol=1e-4)
    rate = 4.0 * (n + 1) ** 2 * math.sin(0.5 * math.pi / (n + 1)) ** 2
    np.testing.assert_allclose(result.y_end, math.exp(-0.1 * rate) * np.sin(np.pi * x), atol=float(result.y_error[-1]))
    assert result.method == "rkc2"


# --- linear algebra of the implicit methods ---


@pytest.mark.parametrize("method", ["radau5", "radau9"])
def test_jacobians_in_every_form_agree(method):
    rng = np.random.default_rng(0)
    n, k = 60, 3
    U = rng.standard_normal((n, k))
    y0 = rng.standard_normal(n)

    def f(t, y):
        return -(y**3) - 1e4 * U @ (U.T @ y)

    forms = {
        "differences": None,
        "dense": lambda t, y: -np.diag(3 * y**2) - 1e4 * U @ U.T,
        "low rank": LowRankJacobian(lambda t, y: (-3 * y**2, -1e4 * U, U), rank=k),
        "krylov": "krylov",
    }
    results = {
        name: integrate(f, y0, (0.0, 2.0), method=method, jacobian=form, rtol=1e-7) for name, form in forms.items()
    }
    for name, result in results.items():
        assert result.status == "reached_end", name
        gap = np.abs(result.y_end - results["dense"].y_end).max()
        assert gap <= result.y_error[-1] + results["dense"].y_error[-1], name
    assert results["low rank"].counts["evaluations"] < results["differences"].counts["evaluations"]


def test_a_wrong_jacobian_costs_steps_and_not_digits():
    result = integrate(lambda t, y: -1e3 * (y - np.cos(t)), [0.0], (0.0, 1.0), method="radau5", rtol=1e-6,
                       jacobian=lambda t, y: np.array([[-700.0]]))  # fmt: skip
    assert result.status == "reached_end"
    exact = integrate(lambda t, y: -1e3 * (y - np.cos(t)), [0.0], (0.0, 1.0), method="dop853", rtol=1e-12)
    assert abs(result.y_end[0] - exact.y_end[0]) <= result.y_error[-1]


# --- step by step, checkpoints ---


@pytest.mark.parametrize("method", METHODS)
def test_steps_by_hand_are_those_of_integrate(method):
    flow = integrator(circle, [1.0, 0.0], (0.0, 3.0), method=method, rtol=1e-5)
    middle = []
    while flow.status.name == "RUNNING":
        step = flow.step()
        middle.append(step.at(0, float(step.t[0] + 0.5 * step.h[0])))
    whole = integrate(circle, [1.0, 0.0], (0.0, 3.0), method=method, rtol=1e-5, companion=False)
    assert flow.y.tobytes() == whole.y_end.tobytes()
    assert len(middle) == whole.counts["steps"]
    assert flow.step().t.size == 0
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1.0, atol=1e-2)


CHILD = """
import sys, time
import numpy as np
from theorykit.flow import Zero, integrate

def f(t, y):
    if slow:
        time.sleep(1e-4)
    return np.array([y[1], {stiffness} * ((1 - y[0] ** 2) * y[1]) - y[0]])

slow = sys.argv[2] == "slow"
result = integrate(
    f, [2.0, 0.0], (0.0, {end}), method="{method}", at=50, save={{"x": lambda t, y: y[0]}},
    events=[Zero(lambda t, y: y[0], "zero")], checkpoint=sys.argv[1], checkpoint_every=0.0, confirm=True,
)
np.savez(sys.argv[3], y=result.y, x=result.stats["x"], errors=result.errors["x"], t=[e.t for e in result.events],
         e=[e.error for e in result.events], counts=list(result.counts.values()))
"""


@pytest.mark.parametrize(("method", "stiffness", "end"), [("dop853", 1.0, 100.0), ("auto", 100.0, 150.0)])
def test_killed_half_way_and_resumed_to_the_same_bits(tmp_path, method, stiffness, end):
    script = tmp_path / "run.py"
    script.write_text(CHILD.format(method=method, stiffness=stiffness, end=end))

    def call(checkpoint, speed, out):
        return [sys.executable, str(script), str(tmp_path / checkpoint), speed, str(tmp_path / out)]

    subprocess.run(call("whole", "fast", "whole.npz"), check=True)
    process = subprocess.Popen(call("half", "slow", "never.npz"))
    while not (tmp_path / "half").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "half").exists()
    subprocess.run(call("half", "fast", "half.npz"), check=True)
    assert not (tmp_path / "half").exists()
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "half.npz") as half:
        assert {name: whole[name].tobytes() for name in whole} == {name: half[name].tobytes() for name in half}


class EnoughError(Exception):
    """Enough evaluations."""


def _circle_for_a_while(calls):
    def f(t, y):
        calls[0] += 1
        if calls[0] > 40_000:
            raise EnoughError
        return circle(t, y)

    return f


def _stopped_half_way(path: Path) -> None:
    with pytest.raises(EnoughError):
        integrate(_circle_for_a_while([0]), [1.0, 0.0], (0.0, 1e4), checkpoint=path, checkpoint_every=0.0)
    assert path.exists()


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    path = tmp_path / "half.npz"
    _stopped_half_way(path)
    good = path.read_bytes()
    with pytest.raises(InputError, match="another run"):
        integrate(circle, [1.0, 0.5], (0.0, 1e4), checkpoint=path)
    with pytest.raises(InputError, match="companion"):
        integrate(_circle_for_a_while([0]), [1.0, 0.0], (0.0, 1e4), checkpoint=path, companion=False)
    rng = np.random.default_rng(0)
    for _ in range(40):
        bad = bytearray(good)
        if rng.random() < 0.3:
            bad = bad[: int(rng.integers(len(bad)))]
        else:
            bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        try:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            with np.load(_write(tmp_path / "good.npz", good)) as file:
                same = all(arrays[name].tobytes() == file[name].tobytes() for name in file.files)
        except Exception:
            same = False
        if not same:  # a flipped bit in the padding or in a time stamp of the archive changes nothing
            with pytest.raises(InputError, match="checkpoint"):
                integrate(circle, [1.0, 0.0], (0.0, 1e4), checkpoint=path)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_memory_stays_bounded_on_a_long_run():
    import tracemalloc

    @numba.njit
    def turn(t, y, p, out):
        for i in range(0, y.shape[0], 2):
            out[i], out[i + 1] = -y[i + 1], y[i]

    y0 = np.ones(2000)
    integrate(turn, y0, (0.0, 2.0), events=[lambda t, y: y[0]], companion=False)  # all modules are there now
    tracemalloc.start()
    result = integrate(turn, y0, (0.0, 500.0), events=[lambda t, y: y[0]], companion=False, rtol=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = result.counts["steps"] * 9 * y0.nbytes
    assert whole > 4 * peak
    assert peak < 60e6


def test_a_checkpoint_of_another_function_is_refused(tmp_path):
    """Other code, constants, enclosed numbers, arguments, events, statistics: all of them would give other bits."""

    def pull(rate):
        return lambda t, y, *args: -rate * (y - np.cos(t))

    def go(f=None, rate=1.0, **options):
        def stop(t, y):
            if t > 150.0 and path.exists():
                raise EnoughError
            return False

        f = pull(rate) if f is None else f
        return integrate(f, [0.0], (0.0, 300.0), stop=stop, checkpoint=path, checkpoint_every=0.0, **options)

    path = tmp_path / "run.npz"
    with pytest.raises(EnoughError):
        go()
    others = [
        {"rate": 0.0}, {"f": lambda t, y: -2.0 * (y - np.cos(t))}, {"args": (3.0,)}, {"save": {"a": lambda t, y: y[0]}},
        {"events": [lambda t, y: y[0] - 0.5]},
    ]  # fmt: skip
    for other in others:
        with pytest.raises(InputError, match="of another run"):
            go(**other)
    with pytest.raises(EnoughError):
        go()


@pytest.mark.parametrize("method", ["radau5", "radau9"])
def test_a_first_step_that_lands_where_slopes_are_absurd_is_cut(method):
    """The slope after an Euler step is e^200 of that before: the step chosen from it would be below round-off in t."""
    slow, steep = 1e-3, 2e4
    result = integrate(
        lambda t, y: slow * (1.0 - 2.0 * np.sinh(steep * (y - 1.0))), [1.0], (-300.0, -200.0), method=method
    )
    assert result.status == "reached_end"
    assert result.y_end[0] == pytest.approx(1.0 + math.asinh(0.5) / steep, abs=1e-9)


@numba.njit
def net(t, theta, p, out):
    n, d = int(p[0]), int(p[1])
    Z = p[2:].reshape(n, d)
    u, v = theta[:d], theta[d:]
    force = 250.0 * np.dot(np.exp(-np.dot(Z, u * u - v * v)), Z)
    out[:d] = u * (force - 1.0)
    out[d:] = -v * (force + 1.0)


@pytest.mark.parametrize("method", ["tsit5", "dop853"])
def test_a_step_to_where_the_slope_is_another_one_is_taken_back(method):
    """Outputs are differences of squares of size alpha^2: y may be within the tolerance and f at y beyond measure.

    u v = alpha^2 exp(-2 t) is exact for every coordinate.
    """
    Z = np.random.default_rng(0).choice([-1.0, 1.0], (8, 40))
    alpha, end = 1e5, 1.5 * math.log(1e5)
    for rtol in np.logspace(-4, -10, 13):
        result = integrate(
            net, np.full(80, alpha), (0.0, end), method=method, rtol=rtol, atol=rtol, args=[8.0, 40.0, *Z.ravel()],
            companion=False, at=2, max_steps=100_000,
        )  # fmt: skip
        assert result.status == "reached_end", rtol
        u, v = result.y_end[:40], result.y_end[40:]
        np.testing.assert_allclose(u * v, alpha**2 * math.exp(-2.0 * end), atol=300.0 * rtol)


def test_differences_for_the_spectral_radius_stay_where_f_is_linear():
    """Steps of 1e-8 of y led to where f is e^100 times itself, and steps of 1e-32 in t were thought necessary."""
    Z = np.random.default_rng(0).choice([-1.0, 1.0], (8, 40))
    result = integrate(net, np.full(80, 1e4), (0.0, 1e-8), method="rkc2", args=[8.0, 40.0, *Z.ravel()], rtol=1e-3)
    assert result.status == "reached_end"
    assert result.counts["steps"] < 100
