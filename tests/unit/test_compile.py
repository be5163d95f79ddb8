"""The cache of compiled code: which files it is named by, and that nothing is compiled a second time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    constants = {"losses.py", "_numerics/signatures.py"}
    assert covered == decorated | constants | {"_numerics/compile.py"}


@pytest.mark.parametrize("name", ["flow/ode/api.py", "_numerics/errors.py", "flow/frames.py", "models/mlp.py"])
def test_other_files_may_change(package, name):
    before = hash_of(package)
    file = package / name
    text = file.read_text()
    file.write_text(text + "\n# compiled code is not here\n")
    assert hash_of(package) == before
    file.write_text(text)


@pytest.mark.parametrize("name", ["flow/_radau.py", "flow/ode/_drive.py", "losses.py"])
def test_compiled_code_and_its_constants_may_not(package, name):
    before = hash_of(package)
    file = package / name
    text = file.read_text()
    file.write_text(text + "\n# changed\n")
    assert hash_of(package) != before
    file.write_text(text)
    assert hash_of(package) == before


FLOWS = """
import numpy as np
import theorykit as tk
from theorykit.models import CNN, MLP, DiagonalNet, MatrixFactorization, UserModel

def data(n, d, task="classification"):
    rng = np.random.default_rng(n)
    y = rng.standard_normal(n) if task == "regression" else rng.choice([-1.0, 1.0], n)
    return tk.Dataset.from_arrays(rng.standard_normal((n, d)), y, task=task)

def flow(model, data, loss="logistic", init="theory"):
    problem = tk.Problem(model, data, loss, log_alpha=0.5, weight_decay=0.2, init=init)
    tk.gradient_flow(problem, tau_end=0.5, rtol=1e-4, save=tk.SaveAt(num=2)).raise_for_status()

def known():
    flow(DiagonalNet(4), data(3, 4))
    flow(MLP((4, 3, 1), activation="z^2"), data(3, 4))

def new():
    five = data(5, 6)
    flow(DiagonalNet(6, 3), data(5, 6, "regression"), "squared")
    flow(MLP((6, 4, 3, 1), activation="z^3", bias=True), five, "exponential")
    flow(CNN((6,), (3,), 2, "z^2"), five)
    flow(MatrixFactorization(d=3), tk.datasets.matrix_entries([[0, 1], [2, 2]], [1.0, -0.5], shape=(3, 3)), "squared")
    mine = UserModel(
        lambda theta, X: X @ theta[:6] * theta[6], parameters=7, X=five.X,
        jacobian=lambda theta, X: np.column_stack([X * theta[6], X @ theta[:6]]), direction=[1.0] * 6 + [0.0],
    )
    flow(mine, five)
"""
COUNT = """
from numba.core.event import install_recorder
with install_recorder("numba:compile") as compiled:
    known()
    new()
print(len(compiled.buffer))
"""


def test_new_models_and_shapes_compile_nothing_and_a_fresh_process_nothing_at_all():
    from numba.core.event import install_recorder

    names: dict[str, Any] = {}
    exec(FLOWS, names)
    names["known"]()
    with install_recorder("numba:compile") as compiled:
        names["new"]()
    assert [event.data["dispatcher"].py_func.__name__ for _, event in compiled.buffer] == []
    fresh = subprocess.run([sys.executable, "-c", FLOWS + COUNT], capture_output=True, text=True, check=True)
    assert fresh.stdout == "0\n"
