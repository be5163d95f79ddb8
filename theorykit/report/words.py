"""How verdicts and numbers read, the same in terminal, figures and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence

from theorykit.checking.result import ClaimResult, VerificationResult

SYMBOLS = {"supported": "✓", "refuted": "✗", "inconclusive": "?", "not-applicable": "–"}
NOTHING = "–"


def verdict_text(verdict: str) -> str:
    """Return the verdict after a symbol, so that it reads without colour too.

    Examples
    --------
    >>> verdict_text("refuted")
    '✗ refuted'
    """
    return f"{SYMBOLS.get(verdict, '?')} {verdict}"


def number(value: float | None, error: float | None = None, most: int = 8) -> str:
    """Return a number to the second digit of its error, `most` digits at most; to six digits without an error.

    Examples
    --------
    >>> number(1.230771234, 2e-6), number(1.0, 2e-6), number(1.230771234), number(None), number(0.5, 3.0)
    ('1.2307712', '1.0000000', '1.23077', '–', '0.50')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0 or not error or not math.isfinite(error):
        return f"{value:.6g}"
    digits = math.floor(math.log10(abs(value))) - math.floor(math.log10(abs(error))) + 2
    return f"{value:#.{min(most, max(2, digits))}g}".removesuffix(".")


def error_text(error: float | None) -> str:
    """Return an error to two digits.

    Examples
    --------
    >>> error_text(0.000217), error_text(None)
    ('0.00022', '–')
    """
    return NOTHING if error is None or not math.isfinite(error) else f"{error:.2g}"


def seconds(value: float) -> str:
    """Return a wall time in words.

    Examples
    --------
    >>> seconds(0.034), seconds(75.2), seconds(4000)
    ('0.03 s', '1 min 15 s', '1 h 6 min')
    """
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"


def setting(result: ClaimResult) -> str:
    """Return variant, model, loss and degree of a result in one line."""
    degree = None if result.degree is None else f"L = {result.degree}"
    return ", ".join(part for part in (result.variant, result.model, result.loss, degree) if part)


def headline(result: VerificationResult) -> str:
    """Return one sentence on how the verdicts compare with what was expected.

    Examples
    --------
    >>> headline(VerificationResult("0.1.0", "quick", 0, {}, ()))
    'No verdicts.'
    """
    verdicts = result.results
    if not verdicts and not result.broken and not result.interrupted:
        return "No verdicts."
    unexpected = sum(r.verdict != r.expected for r in verdicts)
    controls = [r.control.verdict for r in verdicts if r.verdict != "not-applicable"]
    survived, undecided = controls.count("supported"), controls.count("inconclusive")
    parts = [
        f"{len(verdicts)} verdict{'s' * (len(verdicts) != 1)}, "
        + (f"{unexpected} not as expected" if unexpected else "as expected"),
        f"{survived} of {len(controls)} controls survived" if survived else "no control survived",
    ]
    if undecided:
        parts.append(f"{undecided} of {len(controls)} controls undecided")
    if result.broken:
        parts.append(f"{len(result.broken)} file{'s' * (len(result.broken) != 1)} could not be imported")
    if result.interrupted:
        parts.append("interrupted before the end")
    return "; ".join(parts) + "."


def notes(result: VerificationResult) -> list[str]:
    """Return what a row of the table has no room for: failures, reasons, files that could not be imported."""
    found = []
    for item in result.results:
        where = f"{item.claim} ({setting(item)})"
        if item.failure:
            found.append(f"{where} raised {item.failure['type']}: {item.failure['message']}")
        if item.reason:
            found.append(f"{where} is not applicable: {item.reason}")
    found += [broken_text(entry) for entry in result.broken]
    return found


def broken_text(entry: dict[str, str]) -> str:
    """Return one line on a file of claims that could not be imported."""
    return f"{entry.get('path', 'a file')} could not be imported: {entry.get('type', '')}: {entry.get('message', '')}"


def coincide(results: Sequence[ClaimResult]) -> bool:
    """Whether two results differ in nothing but the model, so that a table has to name it."""
    keys = {(r.claim, r.variant, r.loss, r.degree) for r in results}
    return len(keys) < len({(r.claim, r.variant, r.loss, r.degree, r.model) for r in results})
