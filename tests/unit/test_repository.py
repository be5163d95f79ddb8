"""What holds across the whole package: names are what they say, examples run, nothing is left out of the wheel."""

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import theorykit

ROOT = Path(__file__).resolve().parents[2]
SLOW_IMPORTS = {"numba", "cvxpy", "scipy.integrate", "matplotlib", "sklearn"}
MODULES = ["theorykit", *sorted(found.name for found in pkgutil.walk_packages(theorykit.__path__, "theorykit."))]
MODULES += sorted(
    name
    for name in (
        found.name for found in pkgutil.walk_packages(theorykit.verifications.__path__, "theorykit.verifications.")
    )
    if name not in MODULES
)
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/guide/*.md"))]
PAGES += sorted(ROOT.glob("docs/theory/*.md"))


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_import_loads_nothing_slow():
    loaded = in_fresh_process("import sys, theorykit; print(*sys.modules)").split()
    assert "theorykit" in loaded
    assert SLOW_IMPORTS.isdisjoint(loaded)


@pytest.fixture(scope="module")
def every_module() -> dict[str, types.ModuleType]:
    """Imported one and all: a submodule binds its name in its package, and would hide a function of the same name."""
    return {name: importlib.import_module(name) for name in MODULES}


def test_no_public_name_is_hidden_by_a_submodule(every_module):
    assert set(theorykit._HOMES).isdisjoint(theorykit._SUBPACKAGES)
    for name, package in every_module.items():
        for public in getattr(package, "__all__", []):
            assert isinstance(public, str), f"{name}.__all__ holds {public!r}, which is no string"
            is_module = isinstance(getattr(package, public), types.ModuleType)
            assert is_module == (name == "theorykit" and public in theorykit._SUBPACKAGES), f"{name}.{public}"


def test_top_level_names_are_what_their_home_defines(every_module):
    for public, home in theorykit._HOMES.items():
        assert getattr(theorykit, public) is getattr(every_module[f"theorykit.{home}"], public)
        assert callable(getattr(theorykit, public))


def test_type_checkers_see_the_same_names():
    """The lazy tables, `__all__` and what only type checkers read must list the same names."""
    assert set(theorykit.__all__) == {*theorykit._HOMES, *theorykit._SUBPACKAGES, "__version__"}
    tree = ast.parse(Path(theorykit.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom) and "theorykit" in (node.module or "")]
    seen = {alias.name for node in imports for alias in node.names}
    seen |= {ast.unparse(node.target) for node in guarded.body if isinstance(node, ast.AnnAssign)}
    assert seen == set(theorykit.__all__) - {"__version__"}


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'gradient_flwo'"):
        theorykit.gradient_flwo  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("page", with_blocks("python"), ids=page_name)
def test_python_in_documents_runs(page, tmp_path, monkeypatch):
    """The blocks of a page, in order, as one session."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page_name(page), "exec"), namespace)


@pytest.mark.parametrize("page", with_blocks("console"), ids=page_name)
def test_commands_in_documents_exist(page):
    """Parsed as the command line would, without running them."""
    import typer

    from theorykit.cli.app import app

    group = typer.main.get_command(app)
    for line in "".join(blocks(page, "console")).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] != ["theorykit"]:
            continue
        context = group.make_context("theorykit", words[1:2], resilient_parsing=True)
        name, command, _ = group.resolve_command(context, words[1:])
        command.make_context(name, words[2:])


def test_the_check_in_the_documents_is_sound():
    """The file that the guide shows, word for word the one in the README, gives the verdict it should."""
    folder = ROOT / "docs" / "examples"
    assert (folder / "early.py").read_text(encoding="utf-8") in blocks(ROOT / "README.md", "python")
    (result,) = theorykit.verify("mine.*", paths=[folder], instances=1).results
    assert (result.verdict, result.control.verdict) == ("supported", "refuted")
    guide = blocks(ROOT / "docs" / "guide" / "write-a-check.md", "python")
    assert {(folder / name).read_text(encoding="utf-8") for name in ("early.py", "margins.py")} <= set(guide)
    (slack,) = theorykit.verify("notes.*", paths=[folder]).results
    assert (slack.verdict, slack.control.verdict, slack.is_slack) == ("supported", "refuted", True)


def test_make_targets_in_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z]+)`|^\$? ?make ([a-z]+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert {first or second for first, second in named} <= targets, page_name(page)


def test_every_package_is_installed():
    """The list of packages in pyproject.toml is written by hand; what it leaves out is missing from the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = set(settings["packages"])
    folders = {file.parent.relative_to(ROOT) for file in ROOT.glob("theorykit/**/__init__.py")}
    folders |= {Path("theorykit") / file.parent.relative_to(ROOT) for file in ROOT.glob("verifications/**/__init__.py")}
    assert {".".join(folder.parts) for folder in folders} == listed


def test_every_data_file_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packed = {
        file
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    present = {file for file in (ROOT / "theorykit").rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert {file for file in present if file.suffix not in (".py", ".pyc")} == packed


def test_every_citation_resolves():
    found = theorykit.checking.discover()
    assert found.claims
    assert not found.broken
    for claim in found.claims:
        assert re.match(rf"@\w+{{{re.escape(claim.source.key)},", claim.source.bibtex()), claim.id


def test_the_catalogue_has_every_claim(tmp_path):
    script = ROOT / "docs" / "generate_catalogue.py"
    subprocess.run([sys.executable, script, tmp_path / "claims.md"], check=True)
    sections = re.findall(r"^## (\S+\.\S+)$", (tmp_path / "claims.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [claim.id for claim in theorykit.checking.discover().claims]
