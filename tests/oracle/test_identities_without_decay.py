"""The identities of norm and energy without weight decay, far past the float range of t; right flows obey them."""

from __future__ import annotations

import numpy as np
import pytest

import theorykit as tk
from theorykit.flow import loss_clock
from theorykit.models import MLP, DiagonalNet

DATA = tk.Dataset.from_arrays(np.random.default_rng(0).standard_normal((3, 3)), np.array([1.0, -1.0, 1.0]))
NETS = {"two layers": MLP((3, 4, 1), "z^2"), "kinks": MLP((3, 6, 1), "relu"), "three layers": MLP((3, 4, 4, 1), "z^2")}
DIAGONAL = {f"diagonal, L = {degree}": DiagonalNet(3, degree) for degree in (2, 3)}


def drift(net, loss: str, rtol: float) -> dict[str, float]:
    init = {} if isinstance(net, DiagonalNet) else {"init": "twin", "seed": 1}
    given = tk.Problem(net, DATA, loss, alpha=1.5, weight_decay=0.0, **init)
    flow = tk.gradient_flow(given, log_t_end=1000.0, rtol=rtol, save=tk.SaveAt(num=3))
    assert flow.status == "reached_end"
    return flow.diagnostics["drift"]


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("name", [*NETS, *DIAGONAL])
def test_right_flows_obey_them_to_the_tolerance(name: str, loss: str) -> None:
    loose, tight = (drift((NETS | DIAGONAL)[name], loss, rtol) for rtol in (1e-4, 1e-7))
    assert tight["norm"] < 1e-6
    assert tight["energy"] < 1e-3
    assert tight["norm"] < 0.1 * loose["norm"]


def test_a_force_that_is_wrong_by_a_thousandth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = loss_clock.log_loss_descent

    def wrong(field, x):
        log_loss, descent = right(field, x)
        return log_loss, 1.001 * descent

    before = drift(NETS["two layers"], "exponential", 1e-6)
    monkeypatch.setattr(loss_clock, "log_loss_descent", wrong)
    after = drift(NETS["two layers"], "exponential", 1e-6)
    assert after["energy"] > 0.5  # a thousandth of a fall of log L by a thousand
    assert before["energy"] < 1e-3
    assert after["norm"] > 1e3 * before["norm"]


def test_residuals_of_the_squared_loss_are_round_off_there() -> None:
    data = tk.Dataset.from_arrays(DATA.X, np.array([0.5, -1.0, 2.0]), task="regression")
    for net in (NETS["two layers"], DIAGONAL["diagonal, L = 2"]):
        init = {} if isinstance(net, DiagonalNet) else {"init": "twin", "seed": 1}
        given = tk.Problem(net, data, "squared", alpha=2.0, weight_decay=0.0, **init)
        flow = tk.gradient_flow(given, log_t_end=3.0, rtol=1e-6, save=tk.SaveAt(num=3))
        assert flow.diagnostics["drift"]["norm"] is None
        assert flow.diagnostics["drift"]["energy"] is None
