"""How verdicts and numbers read, the same in terminal, figures and HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

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
    """Return variant, model, loss, degree and exponents of a result in one line."""
    degree = None if result.degree is None else f"L = {result.degree}"
    parts = (result.variant, result.model, result.loss, degree, exponents(result))
    return ", ".join(part for part in parts if part)


def exponents(result: ClaimResult, equals: str = " = ") -> str:
    """Return the exponents p and c of a result, and a start other than the theory's, as far as it has them."""
    known = [(name, result.summary.get(name)) for name in ("p", "c")]
    parts = [f"{name}{equals}{value:.3g}" for name, value in known if isinstance(value, (int, float))]
    init = result.summary.get("init")
    return ", ".join([*parts, f"init{equals}{init}"] if isinstance(init, str) else parts)


def comparison(results: Sequence[ClaimResult]) -> str:
    """Return how many verdicts there are, and how many are not the expected ones.

    Examples
    --------
    >>> comparison(())
    'no verdicts'
    """
    if not results:
        return "no verdicts"
    unexpected = sum(r.verdict != r.expected for r in results)
    how = f"{unexpected} not as expected" if unexpected else "as expected"
    return f"{len(results)} verdict{'s' * (len(results) != 1)}, {how}"


def headline(result: VerificationResult) -> str:
    """Return one sentence on how the verdicts compare with what was expected.

    Examples
    --------
    >>> headline(VerificationResult("0.1.0", "quick", 0, {}, ()))
    'No verdicts.'
    """
    counted = comparison(result.results)
    parts = [counted[0].upper() + counted[1:]]
    controls = _controls(result.results)
    survived, undecided = controls.count("supported"), controls.count("inconclusive")
    if survived:
        parts.append(f"{survived} of {len(controls)} controls survived")
    elif controls:
        parts.append("no control survived")
    if undecided:
        parts.append(f"{undecided} of {len(controls)} controls undecided")
    files = sum("class" not in entry for entry in result.broken)
    classes = len(result.broken) - files
    if files:
        parts.append(f"{files} file{'s' * (files != 1)} could not be imported")
    if classes:
        parts.append(f"{classes} class{'es' * (classes != 1)} not usable as a claim")
    if result.interrupted:
        parts.append("interrupted before the end")
    return "; ".join(parts) + "."


def _controls(results: Sequence[ClaimResult]) -> list[str]:
    """Return the verdict on every control, once where the variants of a claim share it."""
    found: dict[tuple[Any, ...], str] = {}
    for r in results:
        if r.verdict != "not-applicable":
            family = (r.claim, r.model, r.loss, r.degree, exponents(r))
            found |= {(*family, control.name): control.verdict for control in (*r.controls, r.control)}
    return list(found.values())


def notes(result: VerificationResult) -> list[str]:
    """Return what a row of the table has no room for: failures, reasons, files that could not be imported."""
    found = []
    for item in result.results:
        where = f"{item.claim} ({setting(item)})"
        if item.failure:
            found.append(f"{where} raised {item.failure['type']}: {item.failure['message']}")
        if item.reason:
            found.append(f"{where} is {item.verdict.replace('-', ' ')}: {item.reason}")
        weak = [c for c in item.controls if c.verdict == "refuted" and c.refuted < c.instances]
        found += [f"{where}: its control, {c.name}, is refuted on {c.refuted} of {c.instances} instances" for c in weak]
    earlier = sum(item.recalled > 0 for item in result.results)
    if earlier:
        found.append(
            f"{earlier} of {len(result.results)} results were finished, whole or in part, by earlier runs with the "
            "same settings and code; --fresh computes them again"
        )
    return found + [broken_text(entry) for entry in result.broken] + [f"warning: {odd}" for odd in result.warnings]


def broken_text(entry: dict[str, str]) -> str:
    """Return one line on a file that could not be imported, or on a class that is no usable claim."""
    where = entry.get("path", "a file")
    if "class" in entry:
        return f"{where}: class {entry['class']} is not usable as a claim: {entry.get('message', '')}"
    return f"{where} could not be imported: {entry.get('type', '')}: {entry.get('message', '')}"


def theory(result: ClaimResult) -> str:
    """Return what the claim says about the number: a value, or for a slack a bound."""
    return f"≥ {number(result.predicted or 0.0)}" if result.is_slack else number(result.predicted)


def coincide(results: Sequence[ClaimResult]) -> bool:
    """Whether two results differ in nothing but the model, so that a table has to name it."""
    keys = {(r.claim, r.variant, r.loss, r.degree) for r in results}
    return len(keys) < len({(r.claim, r.variant, r.loss, r.degree, r.model) for r in results})


def labels(results: Sequence[ClaimResult]) -> list[str]:
    """Return for each result the exponents that tell it from another one of the table, or nothing."""
    keys = [(r.claim, r.variant, r.model, r.loss, r.degree) for r in results]
    counts = Counter(keys)
    return [exponents(r, "=") if counts[key] > 1 else "" for r, key in zip(results, keys, strict=True)]
