"""Tables, figures and the HTML page: complete, escaped, self-contained, within the width."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorykit.checking.result import ClaimResult, ControlResult, Rung, VerificationResult
from theorykit.report.figures import COLOURS, inline_svg, ladder_figure, overview, trace_figure
from theorykit.report.html import page
from theorykit.report.words import error_text, headline, number

SCALES = (20.0, 40.0, 80.0, 160.0, 320.0)
TWIN = ControlResult("wrong exponent", "refuted", 1.0, 0.7, 2e-6)
RESULT = ClaimResult(
    claim="suite.thm-1",
    variant="as-printed",
    title="A theorem",
    statement="the output tends to the margin",
    kind="limit",
    source="suite, Theorem 1",
    model="DiagonalNet",
    loss="exponential",
    degree=2,
    verdict="refuted",
    expected="refuted",
    predicted=1.0,
    measured=1.230771,
    error={"integrator": 1e-9, "fit": 1e-6, "total": 2e-6},
    control=TWIN,
    controls=(TWIN, ControlResult("shuffled labels", "refuted")),
    ladder=tuple(Rung(a, 1.230771 - 1 / a, 1e-4, 1.0) for a in SCALES),
    instances=4,
    seed=7,
    wall_s=0.5,
    limit_fit={
        "log_alpha": list(SCALES),
        "fitted": [1.23 - 1 / a for a in SCALES],
        "limit": 1.23,
        "form": "limit + b/log A",
    },
    detail=({"n": 8, "limit": 1.2307}, {"n": 8, "gap": 1e-12}),
    summary={"quartiles": [0.9, 1.0]},
    traces=({"label": "log α = 320", "s": [0.0, 0.5, 1.0], "curves": {"cos": [1.0, None, 0.0]}},),
)
FAILED = replace(
    RESULT,
    claim="suite.lem-2",
    verdict="inconclusive",
    expected="supported",
    predicted=None,
    measured=None,
    error={"total": None},
    ladder=(),
    limit_fit=None,
    detail=(),
    summary={},
    traces=(),
    failure={"type": "ValueError", "message": "<script>alert('&')</script>"},
)
SKIPPED = replace(
    FAILED, verdict="not-applicable", failure=None, reason="nu = 0", control=ControlResult("x", "not-applicable")
)
RUN = VerificationResult("0.1.0", "quick", 7, {"numpy": "2.0", "blas": {"threads": 1}}, (RESULT, FAILED, SKIPPED))
VOID = ("br", "hr", "img", "link", "meta", "input", "wbr")


class Page(HTMLParser):
    """Checks that elements nest, and collects text, ids and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src") and tag == "a":
                self.links.append(value or "")
            elif name in ("href", "src", "xlink:href"):
                self.sources.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_page_is_well_formed_self_contained_and_linked() -> None:
    read = Page(page(RUN))
    assert "script" not in read.tags
    assert all(source.startswith(("#", "data:")) for source in read.sources)
    assert len(set(read.ids)) == len(read.ids)
    assert len(read.links) == 3
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)


def test_page_says_everything_a_reader_needs() -> None:
    text = Page(page(RUN)).text
    for wanted in (
        *(
            "suite.thm-1",
            "A theorem",
            "the output tends to the margin",
            "suite, Theorem 1",
            "wrong exponent",
            "shuffled labels",
        ),
        *("1.230771", "2e-06", "nu = 0", "ValueError: <script>alert('&')</script>", "integrator", "quartiles", "blas"),
        "theorykit verify suite.thm-1 suite.lem-2 --profile quick --seed 7",
        headline(RUN),
    ):
        assert wanted in text


def test_page_shows_files_that_could_not_be_imported() -> None:
    broken = replace(RUN, results=(), broken=({"path": "bad.py", "type": "SyntaxError", "message": "<oops>"},))
    assert "bad.py could not be imported: SyntaxError: <oops>" in Page(page(broken)).text


@settings(deadline=None, max_examples=15)
@given(text=st.text(min_size=1, max_size=30))
def test_page_escapes_whatever_a_claim_says(text: str) -> None:
    hostile = replace(
        FAILED,
        title=text,
        statement=text,
        source=text,
        model=text,
        loss=text,
        reason=text,
        detail=({text: text},),
        summary={text: text},
    )
    assert "script" not in Page(page(replace(RUN, results=(hostile,)))).tags


def test_page_of_forty_results_stays_small() -> None:
    s = np.linspace(0.0, 1.5, 5000)
    trace = {"label": "long", "s": s.tolist(), "curves": {"a": np.sin(s).tolist(), "b": np.cos(s).tolist()}}
    many = replace(RUN, results=(replace(RESULT, traces=(trace,) * 3, detail=RESULT.detail * 100),) * 2)
    assert len(page(many).encode()) * 20 < 10e6


def test_svg_is_xml_with_themed_colours_and_no_clashing_ids() -> None:
    first, second = (
        inline_svg(figure, name) for figure, name in ((ladder_figure(RESULT), "a & b"), (ladder_figure(RESULT), "c"))
    )
    for svg in (first, second):
        ElementTree.fromstring(svg)
        assert "var(--measured)" in svg
        assert not any(colour in svg for colour in COLOURS.values())
        assert not re.search(r'<svg[^>]*\s(width|height)="', svg)
    ids = [re.findall(r'\sid="([^"]+)"', svg) for svg in (first, second)]
    assert not set(ids[0]) & set(ids[1])
    assert 'aria-label="a &amp; b"' in first


def test_ladder_figure_draws_the_numbers_it_was_given() -> None:
    axes = ladder_figure(RESULT).axes[0]
    points = axes.containers[0].lines[0]
    assert points.get_xdata() == pytest.approx(SCALES)
    assert points.get_ydata() == pytest.approx([rung.measured for rung in RESULT.ladder])
    levels = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert {1.0, 1.230771} <= set(levels)  # the theory's line and the limit's
    assert [text.get_text() for text in axes.texts] == ["control: 0.7 ↓"]  # far off
    near = ladder_figure(replace(RESULT, control=replace(TWIN, predicted=1.1))).axes[0]
    assert not near.texts
    assert 1.1 in [line.get_ydata()[0] for line in near.lines]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    "changes",
    [
        {"ladder": (), "limit_fit": None},
        {"ladder": (), "limit_fit": None, "measured": None},
        {"measured": float("nan"), "predicted": float("inf")},
        {"ladder": (Rung(20.0, None, None), Rung(-1.0, 2.0, None))},
        {"error": {"total": None}},
        {"limit_fit": {"log_alpha": [], "fitted": [], "form": "$x"}},
        {"control": ControlResult("x", "inconclusive")},
        {"control": ControlResult("x", "refuted", 5.0, 1.0, 0.1)},
    ],
)
def test_figures_take_results_with_parts_missing(changes: dict[str, object]) -> None:
    ElementTree.fromstring(inline_svg(ladder_figure(replace(RESULT, **changes)), "x"))


def test_trace_figure_leaves_gaps_keeps_the_ends_and_thins() -> None:
    s = np.linspace(0.0, 1.0, 10_001)
    curve: list[float | None] = s.tolist()
    curve[0] = None
    line = trace_figure({"label": "$", "s": s.tolist(), "curves": {"$a": curve}}).axes[0].lines[0]
    assert line.get_xdata()[[0, -1]] == pytest.approx([0.0, 1.0])
    assert np.isnan(line.get_ydata()[0])
    assert len(line.get_xdata()) < 200


def test_overview_has_a_panel_for_every_result() -> None:
    assert [axes.axison for axes in overview(RUN.results).axes] == [True, False, False]
    assert RUN.plot().axes[0].get_title().startswith("suite.thm-1: ✗ refuted")
    assert len(overview(()).axes) == 1


@pytest.mark.parametrize("width", [20, 40, 80, 100, 160])
def test_table_fits_the_width_and_loses_nothing(width: int) -> None:
    text = RUN.table(width)
    assert max(map(len, text.splitlines())) <= width
    joined = "".join(text.split())
    for wanted in (
        *("suite.", "thm-1", "lem-2"),  # a name may break
        "✗refuted",
        "?inconclusive",
        "1.23077",
        "2e-06",
        "nu=0",
        "ValueError",
        "\x1b",
    ):
        assert (wanted in joined) == (wanted != "\x1b")


def test_table_is_one_line_per_result_at_the_default_width() -> None:
    rows = [line for line in RUN.table().splitlines() if line.startswith("suite.thm-1 ")]
    assert len(rows) == 1
    assert rows[0].split()[1:] == [
        "printed",
        "exp",
        "2",
        "✗",
        "refuted",
        "refuted",
        "1",
        "1.23077",
        "2e-06",
        "refuted",
        "4",
    ]


def test_table_names_models_only_where_rows_would_look_the_same() -> None:
    assert "DiagonalNet" not in replace(RUN, results=(RESULT,)).table()
    both = replace(RUN, results=(RESULT, replace(RESULT, model="MLP"))).table(130)
    assert "DiagonalNet" in both
    assert "MLP" in both


def test_rows_that_differ_in_their_exponents_alone_are_told_apart() -> None:
    first, second = (replace(RESULT, summary={"p": p, "c": c}) for p, c in ((1.0, 0.3), (0.5, 0.6)))
    both = replace(RUN, results=(first, second))
    for width in (80, 100, 130):
        assert "p=1, c=0.3" in both.table(width)
        assert "p=0.5, c=0.6" in both.table(width)
    assert "c=0.3" not in replace(RUN, results=(first,)).table(130)
    text = Page(page(both)).text
    assert "p=0.5, c=0.6" in text
    assert "as-printed, DiagonalNet, exponential, L = 2, p = 0.5, c = 0.6" in text


def test_a_long_name_breaks_and_verdicts_stay_on_one_line_at_80_columns() -> None:
    long = replace(RESULT, claim="suite2024.transition-second-order", loss="logistic", variant="corrected")
    text = replace(RUN, results=(long, RESULT)).table(80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("✗ refuted") == 2
    assert "suite2024.transition-" in text
    assert "1.23077" in text


def test_blocks_have_blank_lines_between_them() -> None:
    lines = RUN.table(40).splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith("suite.")]
    assert len(heads) >= 3
    assert all(lines[k - 1] == "" for k in heads[1:])


def test_controls_are_counted_once_for_the_variants_that_share_them() -> None:
    survived = replace(RESULT, control=replace(TWIN, verdict="supported"))
    both = replace(RUN, results=(survived, replace(survived, variant="corrected")))
    assert "1 of 2 controls survived" in headline(both)


def test_page_repeats_the_run_exactly_and_each_result_alone() -> None:
    settings = {"patterns": ["suite.*"], "paths": ["my checks"], "instances": 3}
    text = Page(page(replace(RUN, settings=settings))).text
    options = "--path 'my checks' --profile quick --seed 7 --instances 3"
    assert f"theorykit verify 'suite.*' {options}" in text
    assert f"theorykit verify suite.lem-2 {options}" in text


def test_page_lists_every_refit_and_names_a_coefficient() -> None:
    refits = [{"form": "coefficient·log x + a", "kept": "largest", "rungs": 4, "value": 0.51}]
    fit = {
        "log_alpha": [20.0, 320.0],
        "fitted": [1.0, 2.0],
        "limit": 0.5,
        "form": "coefficient·log x",
        "refits": refits,
    }
    fit |= {"is_limit": False, "leading": "log", "spread": 0.01, "carried": 0.002}
    item = replace(RESULT, limit_fit=fit, predicted=0.5)
    text = Page(page(replace(RUN, results=(item,)))).text
    for wanted in ("largest 4", "0.51", "The coefficient is that of a weighted", "± integrator"):
        assert wanted in text
    drawn = {line.get_label() for line in ladder_figure(item).axes[0].lines}
    assert {"theory: coefficient 0.5", "control: coefficient 0.7"} <= drawn


def test_page_says_what_a_reader_without_the_paper_needs() -> None:
    item = replace(
        RESULT, statement="w(T^-_c) tends to theta_bar", paper="A paper (2024)", is_slack=True, open_question=True
    )
    source = page(replace(RUN, results=(item,)))
    for wanted in (
        "w(T<sup>−</sup><sub>c</sub>) tends to θ̄",
        "Clopper–Pearson",
        "a slack ≥ 1",
        "NTK",
        "A paper (2024)",
    ):
        assert wanted in source
    assert "(open question)" in source
    assert "ReLU" not in source
    assert "ReLU" in page(replace(RUN, results=(replace(item, model="relu"),)))


def test_short_and_rich_representations() -> None:
    assert repr(RUN) == "<VerificationResult: 3 verdicts, 2 not as expected>"
    assert repr(RESULT).startswith("<ClaimResult suite.thm-1 (as-printed, DiagonalNet, exponential, L = 2): refuted")
    assert "suite.thm-1" in Page(RESULT._repr_html_()).text


def test_marks_and_labels_of_a_trace() -> None:
    axes = trace_figure({**RESULT.traces[0], "marks": {"T⁻": 0.7}, "quantity": "cosine"}).axes[0]
    assert axes.get_ylabel() == "cosine"
    assert [text.get_text().strip() for text in axes.texts] == ["T⁻"]
    assert ladder_figure(replace(RESULT, quantity="f/Z")).axes[0].get_ylabel() == "f/Z"


def test_coloured_table_has_colours() -> None:
    from theorykit.report.table import text_table

    assert "\x1b[" in text_table(RUN, colour=True)


def test_notebook_table_is_well_formed() -> None:
    text = Page(RUN._repr_html_()).text
    assert "suite.thm-1" in text
    assert headline(RUN) in text


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RUN, "3 verdicts, 2 not as expected; no control survived."),
        (replace(RUN, results=(RESULT,)), "1 verdict, as expected; no control survived."),
        (
            replace(RUN, results=(replace(RESULT, control=replace(TWIN, verdict="supported")),)),
            "1 of 2 controls survived",
        ),
        (
            replace(RUN, results=(replace(RESULT, control=replace(TWIN, verdict="inconclusive")),)),
            "1 of 2 controls undecided",
        ),
        (replace(RUN, interrupted=True), "interrupted"),
        (replace(RUN, broken=({"path": "bad.py"},)), "1 file could not be imported"),
    ],
)
def test_headline(result: VerificationResult, words: str) -> None:
    assert words in headline(result)


@settings(deadline=None)
@given(
    value=st.floats(-1e12, 1e12).filter(lambda v: abs(v) > 1e-12),
    error=st.floats(1e-14, 1e14),
)
def test_numbers_are_shown_to_the_error_or_eight_digits(value: float, error: float) -> None:
    shown = float(number(value, error))
    assert abs(shown - value) <= max(0.05 * error, 0.5e-7 * abs(value)) or abs(value) < 10 * error
    assert float(error_text(error)) == pytest.approx(error, rel=0.051)
