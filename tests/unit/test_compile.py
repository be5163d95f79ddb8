"""The cache of compiled code: which files it is named by, and that nothing is compiled a second time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from theorykit._numerics import compile as compiling

PACKAGE = Path(compiling.__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the sources, to change at will."""
    return Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("sources") / "theorykit"))


def hash_of(package: Path) -> str:
    return compiling._source_hash.__wrapped__(package)


def test_the_key_covers_the_files_with_compiled_code():
    covered = {path.relative_to(PACKAGE).as_posix() for path in compiling.compiled_sources()}
    decorated = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "@compiled" in path.read_text() or "compiled()" in path.read_text()
    }
    constants = {"losses.py", "flow/tableaus.py", "_numerics/signatures.py"}
    assert covered == decorated | constants | {"_numerics/compile.py"}


@pytest.mark.parametrize("name", ["flow/ode/api.py", "_numerics/errors.py", "flow/frames.py", "models/mlp.py"])
def test_other_files_may_change(package, name):
    before = hash_of(package)
    file = package / name
    text = file.read_text()
    file.write_text(text + "\n# compiled code is not here\n")
    assert hash_of(package) == before
    file.write_text(text)


@pytest.mark.parametrize("name", ["flow/_radau.py", "flow/ode/_drive.py", "losses.py", "flow/tableaus.py"])
def test_compiled_code_and_its_constants_may_not(package, name):
    before = hash_of(package)
    file = package / name
    text = file.read_text()
    file.write_text(text + "\n# changed\n")
    assert hash_of(package) != before
    file.write_text(text)
    assert hash_of(package) == before
