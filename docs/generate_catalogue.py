"""Write the catalogue of claims as one Markdown page, from the classes themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from theorykit.checking import discover

if TYPE_CHECKING:
    from theorykit.checking import Claim


def write_catalogue(target: Path) -> None:
    """Write one section per claim that the installed suites hold, and the references at the end."""
    claims = discover([], []).claims
    entries = {claim.source.key: claim.source.bibtex().strip() for claim in claims}
    lines = [
        "# Catalogue of claims",
        "",
        f"{len(claims)} claims, generated from the code. `theorykit info CLAIM` prints the same.",
        "",
        *(line for claim in claims for line in section(claim)),
        "## References",
        "",
        *(line for key in sorted(entries) for line in ("```bibtex", entries[key], "```", "")),
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines), encoding="utf-8")


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


def plain(text: str) -> str:
    """Return text without Markdown markup: stars, underscores and brackets in a statement mean themselves."""
    return "".join(f"\\{character}" if character in r"\`*_{}[]<>#|~$" else character for character in text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    write_catalogue(parser.parse_args().target)
