"""Write the catalogue of claims as one Markdown page, from the classes themselves and from the last recorded run.

``python docs/generate_catalogue.py --record out/evidence/full.json`` keeps the numbers of a run (what
``theorykit verify --json`` writes) in docs/results/run.json; without it the page is written to TARGET.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theorykit.checking import ClaimResult, ControlResult, Rung, discover
from theorykit.report.figures import ladder_figure
from theorykit.report.words import error_text, exponents, number, theory, verdict_text

if TYPE_CHECKING:
    from theorykit.checking import Claim

RECORD = Path(__file__).resolve().parent / "results" / "run.json"
_KEPT = ("version", "profile", "seed", "environment")
_LEFT_OUT = ("detail", "traces", "statement", "judged", "paper", "title")  # in the code, or too long to keep


def record(run: Path, target: Path = RECORD) -> None:
    """Keep the numbers of a run: of each result all but its instances, and of each claim one ladder to draw."""
    read = json.loads(run.read_text(encoding="utf-8"))
    drawn: set[str] = set()
    results = []
    for row in read["results"]:
        kept = {name: value for name, value in row.items() if name not in _LEFT_OUT}
        if row["claim"] in drawn or not row["ladder"]:
            kept |= {"ladder": [], "limit_fit": None}
        else:
            drawn.add(row["claim"])
            kept["limit_fit"] = {**row["limit_fit"], "refits": []} if row["limit_fit"] else None
        results.append(kept)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**{name: read[name] for name in _KEPT}, "results": results}, indent=None, separators=(",", ":"))
    target.write_text(text.replace('{"claim"', '\n{"claim"') + "\n", encoding="utf-8")


def recorded(source: Path = RECORD) -> tuple[dict[str, Any], list[ClaimResult]]:
    """Return the head of the recorded run, and its results."""
    if not source.exists():
        return {}, []
    read = json.loads(source.read_text(encoding="utf-8"))
    return read, [_result(row) for row in read["results"]]


def _result(row: dict[str, Any]) -> ClaimResult:
    known = {item.name for item in fields(ClaimResult)}
    parts = {
        "title": "",
        "statement": "",
        **{name: value for name, value in row.items() if name in known},
        "control": ControlResult(**row["control"]),
        "controls": tuple(ControlResult(**control) for control in row["controls"]),
        "ladder": tuple(Rung(**rung) for rung in row["ladder"]),
    }
    return ClaimResult(**parts)


def write_catalogue(target: Path, source: Path = RECORD) -> None:
    """Write one section per claim that the installed suites hold, and the references at the end."""
    claims = discover([], []).claims
    run, results = recorded(source)
    entries = {claim.source.key: claim.source.bibtex().strip() for claim in claims}
    lines = [
        "# Catalogue of claims",
        "",
        f"{len(claims)} claims, generated from the code. `theorykit info CLAIM` prints the same. {_origin(run)}",
        "",
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    for claim in claims:
        lines += section(claim)
        lines += numbers(claim, [row for row in results if row.claim == claim.id], target.parent)
    lines += [
        "## References",
        "",
        *(line for key in sorted(entries) for line in ("```bibtex", entries[key], "```", "")),
    ]
    target.write_text("\n".join(lines), encoding="utf-8")


def _origin(run: dict[str, Any]) -> str:
    """Say which run the numbers are from."""
    if not run:
        return "No run is recorded."
    environment = run["environment"]
    return (
        f"The numbers are those of a recorded run: profile {run['profile']}, seed {run['seed']}, theorykit "
        f"{run['version']}, numpy {environment['numpy']}, rtol {environment['rtol']:g}."
    )


def section(claim: type[Claim]) -> Iterator[str]:
    """Yield the lines of one claim's section."""
    expected = "; ".join(f"{variant}: {claim.expected[variant]}" for variant in claim.variants)
    facts = {
        "Source": f"{claim.source.key}, {claim.source.where} of {claim.source.paper}",
        "Kind": claim.kind + ", an open question: no theorem says so" * claim.open_question,
        "Assumptions": "; ".join(claim.assumptions) or "none",
        "How it is judged": claim.judged,
        "Controls, which must be refuted": "; ".join(claim.control_names),
        "Expected verdict": expected,
    }
    yield from (f"## {claim.id}", "", f"**{claim.title}.** {plain(claim.statement)}", "")
    yield from (f"- {name}: {plain(text)}" for name, text in facts.items() if text)
    yield ""


def numbers(claim: type[Claim], rows: list[ClaimResult], folder: Path) -> Iterator[str]:
    """Yield the table of the recorded results of one claim and the figure of a ladder, where there are any."""
    if not rows:
        return
    head = ("variant", "model", "loss", "L", "verdict", "theory", "measured", "± error", "control", "instances")
    yield from (f"| {' | '.join(head)} |", "|" + " --- |" * len(head))
    for row in rows:
        total = row.error.get("total")
        measured = number(row.measured, total)
        model = " ".join(part for part in (row.model, exponents(row)) if part)
        degree = "" if row.degree is None else str(row.degree)
        cells = (
            row.variant, model, row.loss or "", degree, verdict_text(row.verdict), theory(row), measured,
            error_text(total), row.control.verdict, str(row.instances),
        )  # fmt: skip
        yield f"| {' | '.join(map(plain, cells))} |"
    yield ""
    for row in rows:
        if row.ladder:
            name = f"{claim.id}.svg"
            ladder_figure(row).savefig(folder / name, metadata={"Date": None})
            text = f"{row.quantity or 'What is measured'} along the ladder: {row.variant}, {row.model}, {row.loss}."
            yield from (
                f":::{{figure}} {name}",
                ":width: 70%",
                f":alt: {json.dumps(text, ensure_ascii=False)}",
                "",
                plain(text),
                ":::",
                "",
            )


def plain(text: str) -> str:
    """Return text without Markdown markup: stars, underscores and brackets in a statement mean themselves."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|~$" else character for character in text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--record", type=Path, metavar="RUN.json")
    arguments = parser.parse_args()
    if arguments.record is not None:
        record(arguments.record)
    if arguments.target is not None:
        write_catalogue(arguments.target)
