"""The commands. Each parses, calls the library, and hands text to `emit`; none computes anything itself."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theorykit._numerics.errors import FlowError, InputError
from theorykit._numerics.serial import to_json
from theorykit._numerics.validate import path as checked_path
from theorykit._version import __version__
from theorykit.cli.output import checked_target, emit, progress_bar, warn
from theorykit.experiments import about_preset, preset_names

if TYPE_CHECKING:
    from theorykit.checking import Claim, Discovery

UsageError: Any = typer.BadParameter.__base__  # click's, which typer imports or bundles depending on its version

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Check theorems of deep-learning theory numerically, and be able to believe the answer.",
)


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"theorykit {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("list")
def list_claims(
    pattern: Annotated[str | None, typer.Argument(help="Claims to list, such as 'lyu2024.lem-*'.")] = None,
    path: Annotated[list[str] | None, typer.Option("--path", metavar="DIR", help="Look for claims here too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON array.")] = False,
) -> None:
    """List the claims that can be verified."""
    found = _discover(pattern, path)
    if as_json:
        emit(to_json([_listing(claim) for claim in found.claims]))
        return
    rows = [(claim.id, claim.kind, ", ".join(claim.variants), claim.title) for claim in found.claims]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    emit("".join("  ".join([*map(str.ljust, row, widths), row[3]]) + "\n" for row in rows))


def _discover(pattern: str | None, path: list[str] | None) -> Discovery:
    from theorykit.checking import discover

    folders = [checked_path("--path", folder) for folder in path or ()]
    found = discover([] if pattern is None else [pattern], folders)
    for message in (*map(_broken, found.broken), *found.warnings):
        warn(message)
    return found


def _broken(entry: dict[str, str]) -> str:
    from theorykit.report.words import broken_text

    return broken_text(entry)


def _listing(claim: type[Claim]) -> dict[str, Any]:
    return {
        "claim": claim.id,
        "title": claim.title,
        "source": _source(claim),
        "kind": claim.kind,
        "variants": claim.variants,
        "control": ", ".join(claim.control_names),
        "controls": claim.control_names,
        "expected": claim.expected,
        "statement": claim.statement,
    }


def _source(claim: type[Claim]) -> str:
    return f"{claim.source.key}, {claim.source.where}"


@app.command()
def info(
    claim: Annotated[str, typer.Argument(help="Id of a claim, such as 'lyu2024.thm-3.4'.")],
    path: Annotated[list[str] | None, typer.Option("--path", metavar="DIR", help="Look for claims here too.")] = None,
) -> None:
    """Show statement, source, assumptions, how a claim is judged, its control and BibTeX."""
    width = min(100, shutil.get_terminal_size().columns)
    emit("\n\n".join(_description(found, width) for found in _discover(claim, path).claims) + "\n")


def _description(claim: type[Claim], width: int) -> str:
    expected = [f"{variant}, expected: {claim.expected[variant]}" for variant in claim.variants]
    sections = {
        "Statement": [claim.statement],
        "Source": [_source(claim)],
        "Kind": [claim.kind + " (an open question: no theorem says so)" * claim.open_question],
        "Assumptions": claim.assumptions or ["none"],
        "How it is judged": [claim.judged],
        "Controls (must be refuted)": claim.control_names,
        "Variants": expected,
    }
    lines = [f"{claim.id}: {claim.title}"]
    for title, items in sections.items():
        lines += ["", title, *(_indented(item, width) for item in items)]
    return "\n".join([*lines, "", "BibTeX", textwrap.indent(claim.source.bibtex().strip(), "  ")])


def _indented(text: str, width: int) -> str:
    return textwrap.fill(" ".join(text.split()), width, initial_indent="  ", subsequent_indent="  ")


@app.command()
def verify(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Claims to check, such as 'lyu2024.*'; all if none.")
    ] = None,
    path: Annotated[list[str] | None, typer.Option("--path", metavar="DIR", help="Look for claims here too.")] = None,
    profile: Annotated[str, typer.Option(metavar="quick|full|paper", help="How much work to do.")] = "quick",
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Random instances per claim, instead of the profile's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; the numbers do not depend on it.")] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compute everything, also what earlier runs finished, and keep nothing.")
    ] = False,
    json_file: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write all numbers here.")] = None,
    html_file: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write the report here.")] = None,
) -> int:
    """Check claims and print the table of verdicts.

    What an earlier run of the same claims with the same settings and code has finished is not computed again.

    Exit code: 0 all as expected, 1 not as expected or a control survived, 2 bad input, 3 inconclusive, 130 interrupted.
    """
    json_target, html_target = checked_target("--json", json_file), checked_target("--html", html_file)
    if json_target is not None and json_target == html_target:
        raise InputError("--html", f"{html_file}, the same file as --json", "another file")
    from theorykit.checking import default_store
    from theorykit.checking import verify as run_checks
    from theorykit.report.table import text_table

    with progress_bar() as bar:
        result = run_checks(
            *(patterns or ()),
            profile=profile,
            seed=seed,
            instances=instances,
            jobs=jobs,
            paths=[checked_path("--path", folder) for folder in path or ()],
            progress=bar,
            store=None if fresh else default_store(),
        )
    on_terminal = sys.stdout.isatty()
    emit(text_table(result, shutil.get_terminal_size().columns if on_terminal else 100, colour=on_terminal))
    if json_target is not None:
        result.to_json(json_target)
    if html_target is not None:
        with progress_bar() as bar:  # dozens of figures take seconds
            if bar is not None:
                bar.advance(0, "drawing the report")
            result.to_html(html_target)
    return result.exit_code


_SET_HELP = "Change a setting: data.d=4000, problem.loss=exponential, events.test_accuracy=[0.6,0.99]."


def _sizes() -> str:
    """Return the presets with their default profiles and how long they take, for the help."""
    lines = [f"{name}: {about_preset(name).get('takes', '')}" for name in preset_names()]
    return "Presets. " + " ".join(f"{line.rstrip('. :')}." for line in lines)


@app.command(epilog=_sizes())
def simulate(
    experiment: Annotated[
        str, typer.Argument(metavar="PRESET|FILE.toml", help=f"A preset ({', '.join(preset_names())}) or a file.")
    ],
    profile: Annotated[
        str | None,
        typer.Option(metavar="quick|paper", help="Size; by default that of the file in full, of slow presets quick."),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Write trajectory, figure and summary here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Repeat at a tenth of the tolerance and compare.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SET_HELP)] = None,
) -> int:
    """Run one gradient flow, or the family of them that a file asks for, and print events and predictors."""
    from theorykit.cli.summary import summary_text
    from theorykit.experiments import load_experiment, run_experiment, run_family

    folder = None if out is None else checked_path("--out", out)
    if resume and folder is None:
        raise InputError("--resume", "no --out", "--out DIR, the folder of the run to go on with")
    loaded = load_experiment(experiment, profile=profile, overrides=overrides or ())
    run: Any = run_family if loaded.members else run_experiment
    with progress_bar() as bar:
        report = None if bar is None else bar.fraction
        result = run(loaded, out=folder, confirm=confirm, resume=resume, progress=report)
    emit(summary_text(result.summary) + "".join(f"wrote {file}\n" for file in result.files))
    try:
        result.raise_for_status()
    except FlowError as problem:
        warn(str(problem))
        return 3
    return 0


@app.command()
def new(
    claim: Annotated[str, typer.Argument(help="Its id, suite.name in lower case, such as 'mine.early'.")],
    path: Annotated[str, typer.Option("--path", metavar="DIR", help="The folder to write it to.")] = ".",
) -> None:
    """Write a check to begin from: it works, and its control is refuted."""
    from theorykit.checking.skeleton import write_skeleton

    file = write_skeleton(claim, checked_path("--path", path))
    folder = shlex.quote(str(file.parent))
    emit(f"wrote {file}\ntry it: theorykit verify {claim} --path {folder}\n")


@app.command()
def doctor() -> int:
    """Show versions, threads, BLAS, solvers and caches, and try the compiler; 1 if something essential is broken."""
    from theorykit.cli.doctor import examine

    broken = []
    for name, text, fine in examine():
        emit(f"{name:<14} {text}{'' if fine else '   <-- PROBLEM'}\n")
        broken += [] if fine else [name]
    verdict = f"broken: {', '.join(broken)}" if broken else "all is in order"
    emit(f"{'verdict':<14} {verdict}\n")
    return 1 if broken else 0
