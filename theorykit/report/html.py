"""The report: one HTML file that needs nothing else, for readers who have not seen the paper."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

from theorykit._numerics.serial import plain
from theorykit.checking.result import ClaimResult, VerificationResult
from theorykit.report.figures import COLOURS, inline_svg, ladder_figure, trace_figure
from theorykit.report.maths import formulas
from theorykit.report.style import PAGE_CSS, TABLE_CSS
from theorykit.report.words import (
    NOTHING,
    broken_text,
    error_text,
    headline,
    labels,
    number,
    seconds,
    setting,
    theory,
    verdict_text,
)

_MOST_ROWS, _MOST_TRACES = 60, 4
_NUMBERS = ("theory", "measured", "± error")
_PARTS = {
    "integrator": "integrator (distance to a run at ten times the tolerance)",
    "certificate": "certificate (width of the certified optima)",
    "sampling": "sampling (confidence interval of a finite sample, Clopper–Pearson for accuracies)",
    "fit": "fit (refits and residuals of the extrapolation)",
    "instances": "instances (spread between random instances)",
}

_JUDGED = {
    "limit": "Measured on a ladder of ever larger initial scales α and extrapolated to infinite scale. "
    "Supported: the extrapolated interval contains the prediction. Refuted: it excludes it.",
    "inequality": "What is measured is a slack: by how much the statement holds. "
    "Supported: every slack exceeds its error. Refuted: one of them is below minus its error.",
    "existence": "Supported by exhibiting what is claimed to exist, such as a time in the window, with its error.",
    "identity": "Two sides that should be equal are computed independently. "
    "Supported: they agree within their errors, and these are small enough to tell the control apart.",
    "probability": "The frequency over independent draws, with an exact binomial (Clopper–Pearson) interval, "
    "against the probability claimed.",
    "figure": "The experiment behind the figure is run, and what the figure shows is read off with its error.",
}

_GLOSSARY = """
<h3>Words and symbols</h3>
<dl>
<dt>θ, α, θ̄</dt><dd>The parameters of the network. Training starts at α times a fixed direction θ̄.</dd>
<dt>λ, t, p</dt><dd>Weight decay, and the time of gradient flow (training with steps of size zero). λ =
α<sup>−p</sup>.</dd>
<dt>L, log α</dt><dd>L is the degree of homogeneity: scaling all parameters by a factor scales the output by its L-th
power. α is given by its natural logarithm.</dd>
<dt>s, T<sup>−</sup><sub>c</sub>, T<sup>+</sup><sub>c</sub></dt><dd>s = λt/log α; theory puts the transition from
early to late behaviour at s = 1. T<sup>∓</sup><sub>c</sub> = (1 ∓ c) log(α)/λ are times before and after it, c
between 0 and 1.</dd>
<dt>f, w, x<sub>i</sub>, y<sub>i</sub></dt><dd>The output of the network; for a diagonal net, f(x) = ⟨w, x⟩ with
weights w made of θ. Training points x<sub>i</sub> have labels y<sub>i</sub> = ±1.</dd>
<dt>φ, NTK</dt><dd>φ(x) is the gradient of the output in the parameters at θ̄; the neural tangent kernel (NTK) is its
inner product ⟨φ(x), φ(x′)⟩. The kernel predictor is linear in φ.</dd>
<dt>γ, h*</dt><dd>h* is the unit vector that separates the points φ(x<sub>i</sub>) with the largest margin; γ is that
margin.</dd>
<dt>Z</dt><dd>The normaliser: by how much the output exceeds ⟨φ(x), h*⟩ before the transition.</dd>
<dt>margin, ℓ<sub>1</sub>, ℓ<sub>2</sub></dt><dd>The ℓ<sub>q</sub>-margin of w is min<sub>i</sub> y<sub>i</sub>⟨w,
x<sub>i</sub>⟩/|w|<sub>q</sub>, with |w|<sub>1</sub> the sum of absolute values and |w|<sub>2</sub> the Euclidean
norm.</dd>
<dt>K1, R1, KKT</dt><dd>K1: the maximal margin in the space of φ, the early limit. R1: least |θ|² with
y<sub>i</sub>f<sub>i</sub>(θ) ≥ 1 for all i, the late limit. A KKT point satisfies the first-order conditions of such
a program; it need not be the best point.</dd>
<dt>A, δ</dt><dd>A = α<sup>2(L−1)</sup>/λ. δ = e<sup>λt</sup>θ/α − θ̄ is how far the direction has moved.</dd>
<dt>ladder, rung</dt><dd>The series of growing scales at which a limit is measured, and one scale of it.</dd>
<dt>refit</dt><dd>The same numbers fitted in another form, or without the smallest scales or the largest: how
far the answer moves says how far it can be believed.</dd>
<dt>Clopper–Pearson</dt><dd>The exact confidence interval of a frequency, such as a test accuracy, here at 99 %.</dd>
<dt>n</dt><dd>In the table, the number of random instances.</dd>
<dt>slack</dt><dd>By how much an inequality holds; negative where it does not.</dd>
</dl>
"""

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
</dl>
"""

_RELU = """
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
    claims = "".join(_claim(list(group), result) for _, group in groupby(indexed, key=lambda pair: pair[1].claim))
    remarks = [broken_text(entry) for entry in result.broken] + [f"Warning: {odd}" for odd in result.warnings]
    broken = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
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
{f"<h2>What could not be used, and warnings</h2><ul>{broken}</ul>" if broken else ""}
</header>
<main>
<section aria-labelledby="verdicts"><h2 id="verdicts">Verdicts</h2>
{_verdict_table(result.results, linked=True)}
</section>
<section aria-labelledby="reading"><h2 id="reading">How to read this</h2>
{_INTRO}{_GLOSSARY}{_RELU if any("relu" in (item.model or "").lower() for item in result.results) else ""}
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


def notebook_result(result: ClaimResult) -> str:
    """Return one result for a notebook cell: its verdict, its numbers, its figures.

    Parameters
    ----------
    result : ClaimResult
        What to show.

    Returns
    -------
    str
        An HTML fragment with its own style.
    """
    colours = "".join(f"--{name}: {colour};" for name, colour in COLOURS.items())
    style = f".tk-result {{ {colours} max-width: 46rem; }} .tk-result svg {{ max-width: 27rem; }} {TABLE_CSS}"
    return f"<style>{style}</style><div class='tk-result'><h3>{escape(result.claim)}</h3>{_result(0, result)}</div>"


def _verdict_table(results: Sequence[ClaimResult], *, linked: bool) -> str:
    titles = ["claim", "variant", "model", "loss", "L", "verdict", "expected", *_NUMBERS, "control", "n"]
    rows = []
    for index, (item, label) in enumerate(zip(results, labels(results), strict=True)):
        name = escape(f"{item.claim} {label}".rstrip())
        if linked:
            name = re.sub(r"[.-](?=[a-z])", r"\g<0><wbr>", name)
        rows.append(
            [
                f'<a href="#result-{index}">{name}</a>' if linked else name,
                escape(item.variant),
                escape(item.model or NOTHING),
                escape(item.loss or NOTHING),
                NOTHING if item.degree is None else str(item.degree),
                _verdict(item.verdict),
                _expected(item),
                theory(item),
                number(item.measured, item.error.get("total")),
                error_text(item.error.get("total")),
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


def _claim(group: list[tuple[int, ClaimResult]], run: VerificationResult) -> str:
    first = group[0][1]
    statements = dict.fromkeys((item.variant, item.statement) for _, item in group)
    same = len({statement for _, statement in statements}) == 1
    shown = [("Statement", first.statement)] if same else [(f"Statement, {v}", s) for v, s in statements]
    terms = [(term, formulas(text)) for term, text in shown]
    if first.open_question:
        text = (
            "No theorem says so; the paper leaves it open. “Supported” is evidence for a yes, not a check of a proof."
        )
        terms.append(("Open question", text))
    terms += [
        ("Source", escape(f"{first.source}{f' of {first.paper}' * bool(first.paper)}")),
        ("How it is judged", formulas(first.judged or _JUDGED.get(first.kind, first.kind))),
    ]
    mark = " <span class='soft'>(open question)</span>" if first.open_question else ""
    return f"""<section class="claim" aria-labelledby="claim-{escape(first.claim)}">
<h3 id="claim-{escape(first.claim)}">{escape(first.claim)}: {formulas(first.title)}{mark}</h3>
{_rich_definitions(terms)}
{"".join(_result(index, item, run) for index, item in group)}
</section>
"""


def _result(index: int, item: ClaimResult, run: VerificationResult | None = None) -> str:
    total = item.error.get("total")
    expectation = "as expected" if item.verdict == item.expected else f"expected: {item.expected}"
    quantity = f" ({item.quantity})" if item.quantity else ""
    terms = [
        ("Theory says", f"a slack {theory(item)}" if item.is_slack else number(item.predicted)),
        (
            "Measured",
            f"{'slack' if item.is_slack else ''} {number(item.measured, total)} ± {error_text(total)}{quantity}",
        ),
        ("Instances", f"{item.instances}, seed {item.seed}, {seconds(item.wall_s)}"),
    ]
    if item.reason:
        terms.append((f"{item.verdict.replace('-', ' ').capitalize()} because", item.reason))
    if item.failure:
        terms.append(("The check raised", f"{item.failure['type']}: {item.failure['message']}"))
    if run is not None:
        terms.append(("Alone", command(run, [item.claim])))
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
        caption = "Measured against the initial scale" + (f"; fitted: {form}. {_how(item)}" if form else "")
        yield _figure(inline_svg(ladder_figure(item), escape(f"Ladder of {name}")), caption)
    for trace in item.traces[:_MOST_TRACES]:
        yield _figure(inline_svg(trace_figure(trace), f"{trace['label']}; {name}"), "Along one training run")
    if len(item.traces) > _MOST_TRACES:
        yield f"<p class='soft'>{len(item.traces) - _MOST_TRACES} more runs are in the JSON file.</p>"


def _error_title(item: ClaimResult) -> str:
    """Name the error of a rung after what it comes from."""
    parts = [part for part in ("integrator", "certificate", "sampling") if item.error.get(part)]
    return f"± {' + '.join(parts)}" if parts else "± error"


def _how(item: ClaimResult) -> str:
    """Say in a sentence how the answer and its bar came about."""
    fit = item.limit_fit or {}
    name = "limit" if fit.get("is_limit", True) else "coefficient"
    return (
        f"The {name} is that of a weighted least-squares fit to all rungs of an instance. Its bar: the largest change "
        f"of the {name} under {len(fit.get('refits', ()))} refits (see “Extrapolation”), plus the residuals and the "
        "errors of the rungs, both carried through the fit, plus the spread between instances."
    )


def _extrapolation(fit: dict[str, Any]) -> str:
    """List every refit of the first instance with its answer."""
    answer = fit["limit"]
    rows = [[escape(fit["form"]), "all", f"{answer:.9g}", NOTHING]]
    for refit in fit["refits"]:
        change = error_text(abs(refit["value"] - answer))
        rows.append([escape(refit["form"]), f"{refit['kept']} {refit['rungs']}", f"{refit['value']:.9g}", change])
    parts = [
        ("refits and residuals", error_text(fit.get("spread"))),
        ("errors of the rungs", error_text(fit.get("carried"))),
    ]
    name = "limit" if fit.get("is_limit", True) else "coefficient"
    return _table(["form", "rungs", name, "change"], rows) + _definitions(parts)


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
    budget = [(_PARTS.get(part, part), error_text(value)) for part, value in item.error.items()]
    yield _details("Error budget", _definitions(budget))
    if item.ladder:
        rungs = [
            [f"{r.log_alpha:g}", number(r.predicted), number(r.measured, r.error), error_text(r.error)]
            for r in item.ladder
        ]
        yield _details("Ladder", _table(["log α", "theory", "measured", _error_title(item)], rungs))
    if (item.limit_fit or {}).get("refits"):
        yield _details("Extrapolation", _extrapolation(item.limit_fit or {}))
    if item.detail:
        yield _details(f"Instance by instance ({len(item.detail)})", _records(item.detail))
    if item.summary:
        yield _details("Further numbers", _definitions((key, _value(value)) for key, value in item.summary.items()))


def _records(records: Sequence[dict[str, Any]]) -> str:
    """Show records of numbers as a table whose columns are all keys that occur."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[escape(_value(record.get(key))) for key in keys] for record in records[:_MOST_ROWS]]
    left = len(records) - _MOST_ROWS
    more = f"<p class='soft'>{left} more are in the JSON file.</p>" if left > 0 else ""
    return _table([str(key) for key in keys], rows) + more


def command(run: VerificationResult, claims: Sequence[str] | None = None) -> str:
    """Return the command that repeats a run, or what it found on some claims."""
    asked = run.settings
    patterns = claims if claims is not None else asked.get("patterns", dict.fromkeys(r.claim for r in run.results))
    words = ["theorykit", "verify", *patterns]
    for path in asked.get("paths", ()):
        words += ["--path", path]
    words += ["--profile", run.profile, "--seed", str(run.seed)]
    if asked.get("instances") is not None:
        words += ["--instances", str(asked["instances"])]
    return shlex.join(words)


def _run(result: VerificationResult) -> str:
    environment = [(str(key), _value(value)) for key, value in result.environment.items()]
    return f"""<section aria-labelledby="run"><h2 id="run">Settings, versions, and how to repeat this</h2>
<p>The same seed gives the same numbers, whatever the number of jobs:</p>
<pre><code>{escape(command(result))}</code></pre>
{_definitions([("theorykit", result.version), ("Profile", result.profile), ("Seed", str(result.seed)), *environment])}
</section>
"""


def _value(value: Any) -> str:
    """One value of a record in words: numbers to nine digits, names before what they stand for."""
    value = plain(value)
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return str(value)


def _definitions(terms: Iterable[tuple[str, str]]) -> str:
    return _rich_definitions((term, escape(text)) for term, text in terms)


def _rich_definitions(terms: Iterable[tuple[str, str]]) -> str:
    """Return a list of terms with what they stand for, which is HTML already."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in terms) + "</dl>"


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
