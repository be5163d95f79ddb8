"""The report: one HTML file that needs nothing else, for readers who have not seen the paper."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

from theorykit._numerics.serial import plain
from theorykit.checking.result import ClaimResult, VerificationResult
from theorykit.report.figures import inline_svg, ladder_figure, trace_figure
from theorykit.report.style import PAGE_CSS, TABLE_CSS
from theorykit.report.words import (
    NOTHING,
    broken_text,
    error_text,
    headline,
    number,
    seconds,
    setting,
    verdict_text,
)

_MOST_ROWS, _MOST_TRACES = 60, 4
_NUMBERS = ("theory", "measured", "± error")

_JUDGED = {
    "limit": "Measured on a ladder of ever larger initial scales α and extrapolated to infinite scale. "
    "Supported: the extrapolated interval contains the prediction. Refuted: it excludes it.",
    "inequality": "Checked at every step that the simulation accepted. "
    "Supported: the smallest slack exceeds its error everywhere. Refuted: somewhere it is below minus its error.",
    "existence": "Supported by exhibiting what is claimed to exist, such as a time in the window, with its error.",
    "identity": "Two sides that should be equal are computed independently. "
    "Supported: they agree within their errors, and these are small enough to tell the control apart.",
    "probability": "The frequency over independent draws, with an exact binomial (Clopper–Pearson) interval, "
    "against the probability claimed.",
    "figure": "The experiment behind the figure is run, and what the figure shows is read off with its error.",
}

_INTRO = """
<p>A <em>claim</em> is a statement from a paper, such as a theorem about how a neural network trains.
Here each one was confronted with a simulation whose error is known, and judged from the numbers alone.</p>
<dl>
<dt class="supported">✓ supported</dt>
<dd>What was measured agrees with the statement within the error, and the error is small enough to mean something.</dd>
<dt class="refuted">✗ refuted</dt>
<dd>What was measured contradicts the statement by more than the error.</dd>
<dt class="inconclusive">? inconclusive</dt>
<dd>The error is too large to say, or the check did not finish.</dd>
<dt>– not-applicable</dt>
<dd>An assumption of the statement does not hold here, so it says nothing.</dd>
<dt>expected</dt>
<dd>The verdict known beforehand. Some statements are wrong as printed: “refuted” is then expected, and a corrected
variant is checked beside them.</dd>
<dt>control</dt>
<dd>A deliberately false twin of the claim, put through the same procedure. It has to be refuted: a check that cannot
refute a falsehood proves nothing.</dd>
<dt>ladder</dt>
<dd>Limits for infinite initial scale α are approached slowly, so they are measured at a series of growing scales and
extrapolated. No single scale decides anything.</dd>
<dt>± error</dt>
<dd>How far the measured number may be off: from the integrator, the certificates of the optimisation, the
extrapolation and the differences between random instances.</dd>
<dt>L, log α</dt>
<dd>L is the degree of homogeneity: scaling all parameters by c scales the output by c to the power L.
α is the scale of the parameters at the start of training, given by its natural logarithm.</dd>
</dl>
<p>Networks with ReLU do not meet the smoothness assumption of the theorems: what is found for them is evidence, not an
instance of the theorem.</p>
"""


def page(result: VerificationResult) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    result : VerificationResult
        What to report.

    Returns
    -------
    str
        Self-contained: style and figures inline, no scripts, nothing from the network.
    """
    indexed = list(enumerate(result.results))
    claims = "".join(_claim(list(group)) for _, group in groupby(indexed, key=lambda pair: pair[1].claim))
    broken = "".join(f"<li>{escape(broken_text(entry))}</li>" for entry in result.broken)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>theorykit: verification report</title>
<style>{PAGE_CSS}</style>
</head>
<body>
<header>
<h1>Verification report</h1>
<p class="soft">theorykit {escape(result.version)}, profile {escape(result.profile)}, seed {result.seed},
{seconds(result.wall_s)}</p>
<p class="headline code-{result.exit_code}">{escape(headline(result))}</p>
{f"<h2>Files that could not be imported</h2><ul>{broken}</ul>" if broken else ""}
</header>
<main>
<section aria-labelledby="verdicts"><h2 id="verdicts">Verdicts</h2>
{_verdict_table(result.results, linked=True)}
</section>
<section aria-labelledby="reading"><h2 id="reading">How to read this</h2>
{_INTRO}
</section>
<section aria-labelledby="claims"><h2 id="claims">Claim by claim</h2>
{claims or "<p>No claims were checked.</p>"}
</section>
{_run(result)}
</main>
</body>
</html>
"""


def notebook_table(result: VerificationResult) -> str:
    """Return the table of verdicts for a notebook cell.

    Parameters
    ----------
    result : VerificationResult
        What to show.

    Returns
    -------
    str
        An HTML fragment with its own style.
    """
    table = _verdict_table(result.results, linked=False)
    return f"<style>{TABLE_CSS}</style>{table}<p>{escape(headline(result))}</p>"


def _verdict_table(results: Sequence[ClaimResult], *, linked: bool) -> str:
    titles = ["claim", "variant", "model", "loss", "L", "verdict", "expected", *_NUMBERS, "control", "instances"]
    rows = []
    for index, item in enumerate(results):
        name = escape(item.claim)
        rows.append(
            [
                f'<a href="#result-{index}">{name}</a>' if linked else name,
                escape(item.variant),
                escape(item.model or NOTHING),
                escape(item.loss or NOTHING),
                NOTHING if item.degree is None else str(item.degree),
                _verdict(item.verdict),
                _expected(item),
                *_numbers(item.predicted, item.measured, item.error.get("total")),
                _verdict(item.control.verdict, control=True),
                str(item.instances),
            ]
        )
    return _table(titles, rows, cards=True)


def _verdict(verdict: str, *, control: bool = False) -> str:
    """Colour a verdict; of a control "refuted" is the good news."""
    colour = {"supported": "refuted", "refuted": "supported"}.get(verdict, verdict) if control else verdict
    return f'<span class="verdict {escape(colour)}">{escape(verdict_text(verdict))}</span>'


def _expected(item: ClaimResult) -> str:
    if item.verdict == item.expected:
        return escape(item.expected)
    return f'<span class="unexpected">{escape(item.expected)} !</span>'


def _claim(group: list[tuple[int, ClaimResult]]) -> str:
    first = group[0][1]
    statements = dict.fromkeys((item.variant, item.statement) for _, item in group)
    same = len({statement for _, statement in statements}) == 1
    shown = [("Statement", first.statement)] if same else [(f"Statement, {v}", s) for v, s in statements]
    terms = [
        *shown,
        ("Source", first.source),
        ("How it is judged", first.judged or _JUDGED.get(first.kind, first.kind)),
    ]
    return f"""<section class="claim" aria-labelledby="claim-{escape(first.claim)}">
<h3 id="claim-{escape(first.claim)}">{escape(first.claim)}: {escape(first.title)}</h3>
{_definitions(terms)}
{"".join(_result(index, item) for index, item in group)}
</section>
"""


def _result(index: int, item: ClaimResult) -> str:
    total = item.error.get("total")
    expectation = "as expected" if item.verdict == item.expected else f"expected: {item.expected}"
    terms = [
        ("Theory says", number(item.predicted)),
        ("Measured", f"{number(item.measured, total)} ± {error_text(total)}"),
        ("Instances", f"{item.instances}, seed {item.seed}, {seconds(item.wall_s)}"),
    ]
    if item.reason:
        terms.append(("Not applicable because", item.reason))
    if item.failure:
        terms.append(("The check raised", f"{item.failure['type']}: {item.failure['message']}"))
    return f"""<article class="result" id="result-{index}">
<h4>{escape(setting(item))}</h4>
<p>{_verdict(item.verdict)} <span class="soft">({escape(expectation)})</span></p>
{_definitions(terms)}
<div class="figures">{"".join(_figures(item))}</div>
{"".join(_tables(item))}
</article>
"""


def _figures(item: ClaimResult) -> Iterator[str]:
    name = f"{item.claim}, {setting(item)}"
    if item.ladder:
        form = (item.limit_fit or {}).get("form")
        caption = "Measured against the initial scale" + (f"; fitted: {form}" if form else "")
        yield _figure(inline_svg(ladder_figure(item), escape(f"Ladder of {name}")), caption)
    for trace in item.traces[:_MOST_TRACES]:
        yield _figure(inline_svg(trace_figure(trace), f"{trace['label']}; {name}"), "Along one training run")
    if len(item.traces) > _MOST_TRACES:
        yield f"<p class='soft'>{len(item.traces) - _MOST_TRACES} more runs are in the JSON file.</p>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _tables(item: ClaimResult) -> Iterator[str]:
    """What the verdict rests on, folded away."""
    controls = [
        [
            escape(c.name),
            _verdict(c.verdict, control=True),
            number(c.predicted),
            number(c.measured, c.error),
            error_text(c.error),
        ]
        for c in item.controls or (item.control,)
    ]
    yield _details("Controls", _table(["control", "verdict", "theory", "measured", "± error"], controls))
    yield _details("Error budget", _definitions((part, error_text(value)) for part, value in item.error.items()))
    if item.ladder:
        rungs = [
            [f"{r.log_alpha:g}", number(r.predicted), number(r.measured, r.error), error_text(r.error)]
            for r in item.ladder
        ]
        yield _details("Ladder", _table(["log α", "theory", "measured", "± error"], rungs))
    if item.detail:
        yield _details(f"Instance by instance ({len(item.detail)})", _records(item.detail))
    if item.summary:
        yield _details("Further numbers", _definitions((key, _value(value)) for key, value in item.summary.items()))


def _numbers(predicted: float | None, measured: float | None, error: float | None) -> list[str]:
    return [number(predicted), number(measured, error), error_text(error)]


def _records(records: Sequence[dict[str, Any]]) -> str:
    """Show records of numbers as a table whose columns are all keys that occur."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[escape(_value(record.get(key))) for key in keys] for record in records[:_MOST_ROWS]]
    left = len(records) - _MOST_ROWS
    more = f"<p class='soft'>{left} more are in the JSON file.</p>" if left > 0 else ""
    return _table([str(key) for key in keys], rows) + more


def _run(result: VerificationResult) -> str:
    claims = dict.fromkeys(item.claim for item in result.results)
    command = shlex.join(["theorykit", "verify", *claims, "--profile", result.profile, "--seed", str(result.seed)])
    environment = [(str(key), _value(value)) for key, value in result.environment.items()]
    return f"""<section aria-labelledby="run"><h2 id="run">Settings, versions, and how to repeat this</h2>
<p>The same seed gives the same numbers, whatever the number of jobs:</p>
<pre><code>{escape(command)}</code></pre>
{_definitions([("theorykit", result.version), ("Profile", result.profile), ("Seed", str(result.seed)), *environment])}
</section>
"""


def _value(value: Any) -> str:
    """One value of a record: numbers to nine digits, anything nested as JSON."""
    value = plain(value)
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _definitions(terms: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in terms) + "</dl>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, cards: bool = False) -> str:
    """Return a table that scrolls where it is too wide, or turns into cards on a phone; titles are text, cells HTML."""
    labels = [escape(title) for title in titles]
    head = "".join(f'<th scope="col">{label}</th>' for label in labels)
    body = "".join(
        "<tr>" + "".join(f'<td data-label="{k}">{cell}</td>' for k, cell in zip(labels, row, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="tk-table{" cards" * cards}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
