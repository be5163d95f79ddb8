"""Assertions for tests of models, programs and checks. They raise AssertionError with the numbers."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from theorykit._numerics.errors import InputError
from theorykit._numerics.threads import one_blas_thread
from theorykit.checking.claim import Claim, Tools
from theorykit.checking.judge import judge
from theorykit.checking.outcome import Outcome
from theorykit.checking.runner import draw, judge_broken
from theorykit.models import HomogeneousModel, check_homogeneous
from theorykit.programs import CertificateError


def assert_homogeneous(model: HomogeneousModel, X: ArrayLike, seed: int = 0) -> None:
    """Assert that f(c theta; x) = c^L f(theta; x), that Euler's identity holds, and that the gradient is that of f.

    Parameters
    ----------
    model : HomogeneousModel
    X : array_like
        Inputs at which it is tested.
    seed : int
        Of the random parameters.

    Examples
    --------
    >>> from theorykit.models import DiagonalNet
    >>> assert_homogeneous(DiagonalNet(d=2, degree=3), [[1.0, 2.0]])
    """
    try:
        check_homogeneous(model, X, seed).raise_for_failure()
    except InputError as problem:
        raise AssertionError(str(problem)) from None


def assert_certified(result: Any, *data: ArrayLike, gap: float | None = None) -> None:
    """Assert that the certificate of a result of `theorykit.programs` proves what it says about the data.

    Parameters
    ----------
    result : object
        With a `certificate`, or a certificate itself.
    *data : array_like
        What its `verify` takes: X and y, mostly.
    gap : float, optional
        The largest gap between its bounds that is good enough.

    Examples
    --------
    >>> from theorykit.programs import max_margin
    >>> X, y = [[1.0, 0.0], [0.0, 2.0]], [1, -1]
    >>> assert_certified(max_margin(X, y), X, y, gap=1e-9)
    >>> assert_certified(max_margin(X, y), X, [1, 1])
    Traceback (most recent call last):
    AssertionError: the data (X, y) are not the ones this certificate was made for
    """
    certificate = getattr(result, "certificate", result)
    try:
        holds = certificate.verify(*data)
    except (CertificateError, InputError) as problem:
        raise AssertionError(str(problem)) from None
    assert holds, f"{certificate} does not hold"
    assert gap is None or certificate.gap <= gap, f"gap {certificate.gap:.3g}; wanted at most {gap:.3g}"


def assert_supported(
    claim: type[Claim], variant: str | None = None, profile: str = "quick", seed: int = 0, index: int = 0
) -> None:
    """Assert that a check supports its claim, and refutes its controls, on one random instance of every family.

    Parameters
    ----------
    claim : type
        The class.
    variant : str, optional
        "as-printed" or "corrected"; by default the last one that the class has.
    profile : str
        How long the ladders are.
    seed, index : int
        Which instance: number `index` of the run with that seed.
    """
    _assert_verdict("supported", claim, variant, profile, seed, index)


def assert_refuted(
    claim: type[Claim], variant: str | None = None, profile: str = "quick", seed: int = 0, index: int = 0
) -> None:
    """Assert that a check refutes its claim, and its controls, on one random instance of every family.

    Parameters are those of `assert_supported`.
    """
    _assert_verdict("refuted", claim, variant, profile, seed, index)


def assert_broken_refuted(claim: type[Claim], profile: str = "quick", seed: int = 0, index: int = 0) -> None:
    """Assert that a check has versions of its statement that are broken on purpose, and refutes them.

    Parameters are those of `assert_supported`.
    """
    judged = judge_broken(claim, profile, seed, index)
    assert judged, f"{claim.id}: broken() gives nothing"
    wrong = [f"{name!r} on {family.model}: {verdict}" for family, name, verdict in judged if verdict != "refuted"]
    assert not wrong, f"{claim.id}: " + "; ".join(wrong)


def _assert_verdict(wanted: str, claim: type[Claim], variant: str | None, profile: str, seed: int, index: int) -> None:
    chosen = claim.variants[-1] if variant is None else variant
    assert chosen in claim.variants, f"{claim.id} has the variants {', '.join(claim.variants)}, not {chosen!r}"
    made = claim(Tools(profile))
    with one_blas_thread():
        outcomes = [judge(made, instance, index, profile) for instance in draw(made, seed, index)]
    wrong = [text for outcome in outcomes for text in _faults(outcome, chosen, wanted)]
    assert not wrong, f"{claim.id}: " + "; ".join(wrong)


def _faults(outcome: Outcome, variant: str, wanted: str) -> list[str]:
    """Say what is not as it was wanted on one instance."""
    if outcome.failure is not None:
        return [f"{outcome.failure['type']}: {outcome.failure['message']}"]
    where = " ".join(str(part) for part in (outcome.family.model, outcome.family.loss) if part)
    found = outcome.variants[variant]
    numbers = f"measured {found.value:.8g} ± {found.error:.2g}, predicted {found.predicted:.8g}"
    texts = [] if found.verdict == wanted else [f"{found.verdict}, not {wanted}, on {where} ({numbers})"]
    alive = [name for name, control in outcome.controls.items() if control.verdict != "refuted"]
    return texts + [f"control {name!r} not refuted on {where}" for name in alive]
