"""The table of verdicts for terminals: one row per result, or a few lines each where the window is too narrow."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from theorykit.checking.result import ClaimResult, VerificationResult
from theorykit.report.words import SYMBOLS, coincide, error_text, headline, labels, notes, number, setting, theory

_COLOURS = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "not-applicable": "dim"}
_SHORT = {"as-printed": "printed", "not-applicable": "n/a", "exponential": "exp", "cross-entropy": "CE"}


def text_table(result: VerificationResult, width: int = 100, *, colour: bool = False) -> str:
    """Return the table as text.

    Parameters
    ----------
    result : VerificationResult
        What to show.
    width : int
        Columns of text, at least 20.
    colour : bool
        Whether to write terminal colours.

    Returns
    -------
    str
        Ends with a newline.
    """
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=max(20, width),
        force_terminal=colour,
        color_system="auto" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    console.print(_layout(result, console))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _layout(result: VerificationResult, console: Console) -> RenderableType:
    shown: list[RenderableType] = []
    if result.results:
        tables = (table for table in _tables(result.results) if _natural_width(table, console) <= console.width)
        found = next(tables, None)
        shown = [found] if found is not None else [_cards(result.results)]
    remarks = [Text(f"• {note}") for note in notes(result)]
    return Group(*shown, *remarks, *([Text("")] if shown or remarks else []), Text(headline(result), style="bold"))


def _natural_width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=1000), table).maximum


def _tables(results: Sequence[ClaimResult]) -> Iterator[Table]:
    """Yield ever narrower tables: names of claims break into two lines, then columns go, the least telling first."""
    columns = _columns(results)
    names = [cell.plain for cell in columns["claim"]]
    widest = max(map(len, names))
    narrowest = min(width for width in range(1, widest + 1) if all(len(_lines(name, width)) <= 2 for name in names))
    for width in range(widest, narrowest - 1, -1):
        yield _table(columns | {"claim": [Text("\n".join(_lines(name, width))) for name in names]})
    columns["claim"] = [Text("\n".join(_lines(name, narrowest))) for name in names]
    for title in _least_telling(results):
        del columns[title]
        yield _table(columns)


def _least_telling(results: Sequence[ClaimResult]) -> list[str]:
    """Return the columns that a narrow table can do without, the first to go first."""
    said_below = []
    if all(item.verdict == item.expected for item in results):
        said_below.append("expected")
    if all(item.control.verdict in ("refuted", "not-applicable") for item in results):
        said_below.append("control")
    return ["n", *said_below]


def _lines(name: str, width: int) -> list[str]:
    """Break a name after dots and hyphens, and before the exponents that may follow it."""
    claim, _, label = name.partition(" ")
    lines = [""]
    for piece in [*re.findall(r"[^.-]+[.-]*|[.-]+", claim), *([f" {label}"] if label else [])]:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return lines


def _columns(results: Sequence[ClaimResult]) -> dict[str, list[Text]]:
    columns: dict[str, list[Text]] = {
        "claim": [Text(f"{item.claim} {label}".rstrip()) for item, label in zip(results, labels(results), strict=True)],
        "variant": [Text(_SHORT.get(item.variant, item.variant)) for item in results],
        "model": [Text(item.model or "") for item in results] if coincide(results) else [],
        "loss": [Text(_SHORT.get(item.loss or "", item.loss or "")) for item in results],
        "L": [Text("" if item.degree is None else str(item.degree)) for item in results],
        "verdict": [_coloured(item.verdict) for item in results],
        "expected": [_expected(item) for item in results],
        "theory": [Text(theory(item)) for item in results],
        "measured": [Text(number(item.measured, item.error.get("total"), most=6)) for item in results],
        "± error": [Text(error_text(item.error.get("total"))) for item in results],
        "control": [_control(item) for item in results],
        "n": [Text(str(item.instances)) for item in results],
    }
    return {title: cells for title, cells in columns.items() if cells}


def _table(columns: dict[str, list[Text]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for title in columns:
        justify: JustifyMethod = "right" if title in ("theory", "measured", "± error", "n") else "left"
        table.add_column(title, justify=justify, no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _coloured(verdict: str) -> Text:
    return Text(f"{SYMBOLS.get(verdict, '?')} {_SHORT.get(verdict, verdict)}", style=_COLOURS.get(verdict, ""))


def _expected(item: ClaimResult) -> Text:
    word = _SHORT.get(item.expected, item.expected)
    return Text(word) if item.verdict == item.expected else Text(f"{word} !", style="bold red")


def _control(item: ClaimResult) -> Text:
    """The control's verdict; "refuted" is the good news, so colours are the other way round."""
    verdict = item.control.verdict
    turned = {"refuted": "supported", "supported": "refuted"}.get(verdict, verdict)
    return Text(_SHORT.get(verdict, verdict), style=_COLOURS.get(turned, ""))


def _cards(results: Sequence[ClaimResult]) -> RenderableType:
    """Lay the results out in lines with a blank one between them, for windows in which no table would fit."""
    return Group(*(part for item in results for part in (_card(item), Text(""))))


def _card(item: ClaimResult) -> RenderableType:
    """Lay one result out in lines, for windows in which the table would not fit."""
    total = item.error.get("total")
    verdict = Text.assemble("verdict ", _coloured(item.verdict), ", expected: ", _expected(item))
    control = Text.assemble("control ", _control(item), f" ({item.control.name})")
    figures = Text(f"theory {theory(item)}, measured {number(item.measured, total)} ± {error_text(total)}")
    head = Text.assemble((item.claim, "bold"), f" {setting(item)}")
    instances = Text(f"instances {item.instances}")
    return Group(head, *(Padding(line, (0, 0, 0, 2)) for line in (verdict, figures, control, instances)))
