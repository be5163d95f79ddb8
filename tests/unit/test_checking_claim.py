"""What a check is made of: sources, instances, and what a subclass of `Claim` gets by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import pytest

from theorykit import Claim, Control, Dataset, InputError, Instance, Measurement, NotSeparableError, Problem, Source
from theorykit.checking import Tools
from theorykit.models import DiagonalNet

DATA = Dataset.from_arrays([[1.0, 2.0], [0.5, -1.0]], [1.0, -1.0])
CONTRADICTION = Dataset.from_arrays([[1.0, 2.0], [2.0, 4.0]], [1.0, -1.0])


@pytest.mark.parametrize("p", [0.0, -1.0, float("nan")])
def test_instance_wants_a_positive_exponent(p: float) -> None:
    with pytest.raises(InputError, match=r"^p: got .*; wanted a positive exponent"):
        Instance(DiagonalNet(2), DATA, "logistic", p=p)


@pytest.mark.parametrize("c", [0.0, 1.0, -0.3, 2.0, float("nan")])
def test_instance_wants_c_inside_the_unit_interval(c: float) -> None:
    with pytest.raises(InputError, match=r"^c: got .*; wanted a number in \(0, 1\)"):
        Instance(DiagonalNet(2), DATA, "logistic", c=c)


def test_instance_at_a_scale_ties_weight_decay_to_it() -> None:
    instance = Instance(DiagonalNet(2, degree=3), DATA, "logistic", p=0.5, init="unit")
    problem = instance.at(80.0)
    assert (problem.log_alpha, problem.log_weight_decay, problem.loss, problem.init) == (
        80.0,
        -40.0,
        "logistic",
        "unit",
    )
    assert problem.data is DATA


def test_instances_share_a_problem_whatever_their_window() -> None:
    base = Instance(DiagonalNet(2), DATA, "logistic", c=0.3)
    assert Instance(DiagonalNet(2), DATA, "logistic", c=0.5).key == base.key
    assert Instance(DiagonalNet(2), DATA, "logistic", c=0.5).family != base.family
    for other in (
        Instance(DiagonalNet(2, 3), DATA, "logistic"),
        Instance(DiagonalNet(2), DATA, "exponential"),
        Instance(DiagonalNet(2), DATA, "logistic", p=2.0),
        Instance(DiagonalNet(2), DATA, "logistic", init="unit"),
        Instance(DiagonalNet(2), CONTRADICTION, "logistic"),
    ):
        assert other.key != base.key


def test_bibtex_of_known_given_and_unknown_sources() -> None:
    assert "eprint    = {2311.18817}" in Source("lyu2024", "Theorem 3.4").bibtex()
    assert Source("mine", "Lemma 1", "@misc{mine, note = {draft}}").bibtex() == "@misc{mine, note = {draft}}"
    assert Source("unheard", "Lemma 1").bibtex() == "@misc{unheard}"


class Base(Claim):
    """Shared: abstract, since it says neither what to draw nor what to measure."""

    twin: ClassVar[str] = "nobody"

    def controls(self) -> Sequence[Control]:
        """Return a twin named by the subclass."""
        return (Control(self.twin, lambda instance, problem: Measurement(0.0, 1.0)),)


class Concrete(Base):
    """The statement,
    on two   lines.
    """

    id, title, kind, source = "toy.concrete", "Concrete", "limit", Source("toy", "1")
    expected: ClassVar[dict[str, str]] = {"as-printed": "refuted", "corrected": "supported"}
    twin = "the twin"

    def instances(self, rng: np.random.Generator) -> Iterator[Instance]:
        """Yield one."""
        yield Instance(DiagonalNet(2), DATA, "logistic")

    def measure(self, instance: Instance, problem: Problem, variant: str) -> Measurement:
        """Measure nothing."""
        return Measurement(0.0, 0.0)


def test_subclass_reads_statement_variants_and_names_of_controls() -> None:
    assert Concrete.statement == "The statement, on two lines."
    assert Concrete.variants == ("as-printed", "corrected")
    assert Concrete.control_names == ("the twin",)  # though `controls` itself is inherited
    assert Base.control_names == ()
    assert Claim.variants == ()


def test_a_claim_that_lacks_a_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="measure"):
        Base(Tools("quick"))


def test_flows_are_computed_once_and_again_only_to_go_further(monkeypatch: pytest.MonkeyPatch) -> None:
    import theorykit.flow

    asked: list[float] = []

    class Done:
        def raise_for_status(self) -> Done:
            return self

    def gradient_flow(problem: Problem, *, rtol: float, save: object, **ends: float | None) -> Done:
        assert rtol == 1e-9
        asked.extend(end for end in ends.values() if end is not None)
        return Done()

    monkeypatch.setattr(theorykit.flow, "gradient_flow", gradient_flow)
    claim = Concrete(Tools("quick", rtol=1e-9))
    instance = Instance(DiagonalNet(2), DATA, "logistic")
    first = claim.flow(instance.at(20.0), 1.0)
    assert claim.flow(instance.at(20.0), 0.7) is first
    assert claim.flow(instance.at(40.0), 0.7) is not first
    assert claim.flow(Instance(DiagonalNet(2), DATA, "exponential").at(20.0), 1.0) is not first
    longer = claim.flow(instance.at(20.0), 1.5)
    assert longer is not first
    assert claim.flow(instance.at(20.0), tau_end=29.0) is longer  # log(alpha) = 20, lambda = e^-20
    assert claim.flow(instance.at(20.0), log_t_end=20.0 + math.log(29.0)) is longer
    claim.flow(instance.at(20.0), tau_end=31.0)
    assert asked == [1.0, 0.7, 1.0, 1.5, 31.0]


def test_programs_are_solved_once_and_failures_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    import theorykit.programs

    solved: list[tuple[int, int]] = []
    real = theorykit.programs.max_margin

    def max_margin(X: np.ndarray, y: np.ndarray, norm: int) -> object:
        solved.append((int(X[0, 0] * 10 + X[1, 0]), norm))
        return real(X, y, norm=norm)

    monkeypatch.setattr(theorykit.programs, "max_margin", max_margin)
    claim = Concrete(Tools("quick"))
    assert claim.max_margin(DATA, 2) is claim.max_margin(DATA, 2)
    claim.max_margin(DATA, 1)
    for _ in range(2):
        with pytest.raises(NotSeparableError):
            claim.max_margin(CONTRADICTION, 2)
    assert solved == [(10, 2), (10, 1), (12, 2)]


def test_remember_computes_once_for_each_key() -> None:
    tools, calls = Tools("quick"), []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [tools.remember(key, compute) for key in ("a", "a", "b")] == [1, 1, 2]
