"""What the lemmas about the early flow are measured with, against difference quotients and direct subtraction."""

import math

import numpy as np
import pytest
from theorykit.verifications.lyu2024._models import SMOOTH, classification_instances
from theorykit.verifications.lyu2024.lem_c4_c8 import MarginGrows, _rates

from theorykit.checking import Tools


@pytest.fixture(scope="module", params=["diagonal", "factorisation"])
def phase(request):
    claim = MarginGrows(Tools("quick"))
    instances = list(claim.instances(np.random.default_rng(0)))
    instance = instances[0] if request.param == "diagonal" else instances[-1]
    problem = instance.at(12.0)
    return claim.phase(instance, problem), claim.flow(problem, 1.0)


def test_rates_are_the_slopes_of_the_flow(phase):
    early, trajectory = phase
    scaled = _rates(early, early.own)
    for k in np.flatnonzero(early.tau > 0.5)[:: max(1, early.tau.size // 12)]:
        tau, step = float(early.tau[k]), 1e-4
        before, after = (trajectory.at(tau=tau + side * step) for side in (-1.0, 1.0))
        of_loss = (before["log_train_loss"] - after["log_train_loss"]) / (2.0 * step)
        of_h = (math.exp(after.h[1]) - math.exp(before.h[1])) / (2.0 * step)
        found = [float(rate[k] / early.own.pull[k]) for rate in scaled]
        assert found == pytest.approx([of_loss, of_h], rel=1e-3, abs=1e-4)


def test_remainders_are_what_subtraction_gives_where_it_has_digits(phase):
    early, trajectory = phase
    problem = early.constants.problem
    for k in np.flatnonzero(early.own.log_delta > -4.0)[::3]:
        now = trajectory.at(log_tau=float(early.log_tau[k]))
        unit, log_h = now.h
        linear = problem.model.jvp(problem.direction, problem.data.X, unit) * math.exp(log_h)
        direct = float(np.abs(now.outputs() - linear).max()) / math.exp(log_h)
        assert math.exp(early.own.log_remainder[k]) == pytest.approx(direct, rel=1e-4, abs=1e-9)


def test_the_draw_of_a_model_does_not_depend_on_the_others():
    def drawn(models):
        return {i.model.name: i.data.fingerprint for i in classification_instances(np.random.default_rng(3), models)}

    alone = drawn(SMOOTH[-1:])
    assert alone.items() <= drawn(SMOOTH).items()
