"""What `verify` gives back: plain frozen records, and how they turn into tables, JSON, figures and exit codes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from theorykit._numerics.errors import unknown_name
from theorykit._numerics.serial import replacing, to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder of scales.

    Parameters
    ----------
    log_alpha : float
        Natural logarithm of the initial scale.
    measured, error, predicted : float or None
        What was seen there, its error, and what the theorem (in the limit) says.
    """

    log_alpha: float
    measured: float | None
    error: float | None
    predicted: float | None = None


@dataclass(frozen=True)
class ControlResult:
    """A false twin of a claim, judged by the same procedure; sound checks refute it.

    Parameters
    ----------
    name : str
        Name of the control.
    verdict : str
        "supported", "refuted", "inconclusive" or "not-applicable".
    measured, predicted, error : float or None
        The numbers that the verdict rests on.
    instances, refuted : int
        On how many random instances it was judged, and on how many of them it was refuted: one is enough for the
        verdict, all show that the check has power on each.
    """

    name: str
    verdict: str
    measured: float | None = None
    predicted: float | None = None
    error: float | None = None
    instances: int = 0
    refuted: int = 0


@dataclass(frozen=True, repr=False)
class ClaimResult:
    """The verdict on one variant of one claim for one model, loss and degree, with the numbers behind it.

    Parameters
    ----------
    claim, variant, title, statement, kind, source : str
        Which claim, "as-printed" or "corrected", and what it says.
    model, loss : str or None
        The setting; None where the claim has none (a scalar inequality).
    degree : int or None
        Degree of homogeneity L.
    verdict, expected : str
        "supported", "refuted", "inconclusive" or "not-applicable".
    predicted, measured : float or None
        The two numbers compared; None where a claim has no single number.
    error : dict of str to float or None
        Error budget: "total" and those of "integrator", "certificate", "fit", "instances" that apply.
    control : ControlResult
        The worst of `controls` (supported is worse than inconclusive, which is worse than refuted).
    controls : tuple of ControlResult
        All of them.
    ladder : tuple of Rung
        The ladder of a representative instance; empty where there is none.
    instances, seed : int
        How many instances were drawn, and from which seed.
    wall_s : float
        Wall time in seconds.
    limit_fit : dict or None
        The extrapolation for the figure: "log_alpha" and "fitted" (lists), "limit" (number), "form" (text), and
        "is_limit", whether the answer is a level on the axis of what was measured (else a coefficient).
    detail : tuple of dict
        One record of numbers per instance.
    summary : dict
        Further numbers, such as the distribution of a ratio.
    failure : dict or None
        {"type", "message"} of what the check raised.
    reason : str or None
        Why the claim is not applicable, or the verdict inconclusive though nothing was raised.
    traces : tuple of dict
        Small trajectories for figures: {"label", "s": [...], "curves": {name: [...]}}.
    judged : str
        How the verdict comes about, in a sentence.
    paper : str
        Title and year of the paper.
    quantity : str
        What was measured, in a few words or symbols.
    is_slack : bool
        Whether the number is a slack: by how much an inequality holds (the claim says that it is not negative).
    open_question : bool
        Whether no theorem says so: the paper leaves it open.
    recalled : int
        How many of the instances an earlier run with the same settings had finished.
    """

    claim: str
    variant: str
    title: str
    statement: str
    kind: str
    source: str
    model: str | None
    loss: str | None
    degree: int | None
    verdict: str
    expected: str
    predicted: float | None
    measured: float | None
    error: dict[str, float | None]
    control: ControlResult
    controls: tuple[ControlResult, ...]
    ladder: tuple[Rung, ...]
    instances: int
    seed: int
    wall_s: float
    limit_fit: dict[str, Any] | None = None
    detail: tuple[dict[str, Any], ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, str] | None = None
    reason: str | None = None
    traces: tuple[dict[str, Any], ...] = ()
    judged: str = ""
    paper: str = ""
    quantity: str = ""
    is_slack: bool = False
    open_question: bool = False
    recalled: int = 0

    def __repr__(self) -> str:
        from theorykit.report.words import error_text, number, setting

        total = self.error.get("total")
        found = f"{self.verdict}, measured {number(self.measured, total)} ± {error_text(total)}"
        return f"<ClaimResult {self.claim} ({setting(self)}): {found}>"

    def _repr_html_(self) -> str:
        from theorykit.report.html import notebook_result

        return notebook_result(self)

    @property
    def is_wrong(self) -> bool:
        """Whether the verdict, if there is one, is not the expected one, or a control survived."""
        if self.verdict != "inconclusive" and self.verdict != self.expected:
            return True
        return self.verdict != "not-applicable" and self.control.verdict == "supported"

    @property
    def is_open(self) -> bool:
        """Whether the verdict or the control is inconclusive and that was not expected."""
        if self.expected == "inconclusive" or self.verdict == "not-applicable":
            return False
        return "inconclusive" in (self.verdict, self.control.verdict)


@dataclass(frozen=True, repr=False)
class VerificationResult:
    """Everything one call of `theorykit.verify` found.

    Parameters
    ----------
    version, profile : str
        Version of theorykit, and "quick", "full" or "paper".
    seed : int
        Seed of the whole run.
    environment : dict
        Versions of libraries, platform, threads.
    results : tuple of ClaimResult
        In the order in which the claims were asked for.
    interrupted : bool
        Whether the run was stopped; `results` then holds what was finished.
    wall_s : float
        Wall time in seconds.
    broken : tuple of dict
        Files of claims that could not be imported: {"path", "type", "message"}, and classes that are no usable claim
        (with "class").
    warnings : tuple of str
        What is odd but stops nothing.
    settings : dict
        What else repeats the run: "patterns", "paths" and "instances" (None: as many as the profile says).

    Examples
    --------
    >>> nothing = VerificationResult("0.1.0", "quick", 0, {}, ())
    >>> nothing
    <VerificationResult: no verdicts>
    >>> nothing.exit_code
    0
    """

    version: str
    profile: str
    seed: int
    environment: dict[str, Any]
    results: tuple[ClaimResult, ...]
    interrupted: bool = False
    wall_s: float = 0.0
    broken: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        from theorykit.report.words import comparison

        return f"<VerificationResult: {comparison(self.results)}>"

    @property
    def exit_code(self) -> int:
        """What the command line returns.

        130 when interrupted; else 1 if a verdict among supported, refuted and not-applicable differs from the expected
        one, or a control came out supported; else 3 if a verdict or a control is inconclusive where that was not
        expected, or a file of claims could not be imported; else 0. The control of a not-applicable result does not
        count.
        """
        if self.interrupted:
            return 130
        if any(result.is_wrong for result in self.results):
            return 1
        if self.broken or any(result.is_open for result in self.results):
            return 3
        return 0

    def table(self, width: int = 100) -> str:
        """Return the results as plain text, at most `width` columns wide.

        Parameters
        ----------
        width : int
            Columns of text; where it is small, columns are left out, and at last each result becomes a few lines.

        Returns
        -------
        str
            Without colours or control characters.
        """
        from theorykit.report.table import text_table

        return text_table(self, width)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return strict JSON (numbers that are not finite become null), and write it to `path` if one is given.

        Parameters
        ----------
        path : path-like, optional
            The file to write, whole or not at all.

        Returns
        -------
        str
            The same text.
        """
        text = to_json(asdict(self))
        if path is not None:
            with replacing("path", path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return text

    def where(self, **wanted: Any) -> VerificationResult:
        """Keep the results whose fields have the given values.

        Parameters
        ----------
        **wanted
            Names of fields of `ClaimResult` with the values to keep, such as ``verdict="refuted"``.

        Returns
        -------
        VerificationResult
            With fewer results, otherwise the same.

        Raises
        ------
        InputError
            A `ClaimResult` has no such field.

        Examples
        --------
        >>> VerificationResult("0.1.0", "quick", 0, {}, ()).where(verdict="refuted").results
        ()
        """
        known = [item.name for item in fields(ClaimResult)]
        for name in wanted:
            if name not in known:
                raise unknown_name("field", name, known)
        kept = tuple(r for r in self.results if all(getattr(r, name) == value for name, value in wanted.items()))
        return replace(self, results=kept)

    def plot(self) -> Figure:
        """Draw one panel per result: measured against scale, the extrapolation, the prediction and the control.

        Returns
        -------
        matplotlib.figure.Figure
            Not registered with pyplot; `savefig` works, notebooks show it.
        """
        from theorykit.report.figures import overview

        return overview(self.results)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report: one self-contained HTML file.

        Parameters
        ----------
        path : path-like
            The file to write, whole or not at all.
        """
        from theorykit.report.html import page

        text = page(self)
        with replacing("path", path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")

    def _repr_html_(self) -> str:
        from theorykit.report.html import notebook_table

        return notebook_table(self)
