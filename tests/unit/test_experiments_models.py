"""Experiments of every model, data set and clock: what is built, what is refused, families and interrupted runs."""

import csv
import json
import math

import numpy as np
import pytest

from theorykit._numerics.errors import InputError
from theorykit.experiments import build_problem, load_experiment, run_experiment, run_family
from theorykit.experiments.table import Table

HEAD = "[problem]\nlog_alpha = 1.0\nlog_weight_decay = -2.0\n"
SQUARED = HEAD + 'loss = "squared"\n'
CLASSES = HEAD + 'loss = "cross_entropy"\n'
MATRIX = '[data]\nkind = "matrix_completion"\nd = 6\nfraction = 0.3\n[model]\nkind = "matrix_factorization"\n'
SIGNS = '[data]\nkind = "sparse_parity"\nn = 6\nd = 8\nn_test = 4\n'
DIGITS = '[data]\nkind = "digits"\nclasses = "all"\nn_train = 20\n'
MODULAR = '[data]\nkind = "modular"\np = 5\n[model]\nkind = "mlp"\nwidths = [8]\n'


def loaded(folder, text, **arguments):
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return load_experiment(file, **arguments)


@pytest.mark.parametrize(
    ("text", "name", "zero"),
    [
        (SIGNS + '[model]\nkind = "linear"\n' + HEAD, "linear", True),
        (
            SIGNS + '[model]\nkind = "mlp"\nwidths = [4, 6]\nbias = true\n' + HEAD + 'init = "twin"\n',
            "mlp 8-4-6-1",
            True,
        ),
        (SIGNS + '[model]\nkind = "mlp"\ndifference = true\n' + HEAD + 'init = "he"\n', "difference of two: mlp", True),
        (SIGNS + '[model]\nkind = "cnn"\nchannels = [2]\nimage = [8]\nwindow = 2\n' + HEAD, "cnn", True),
        (DIGITS + '[model]\nkind = "cnn"\nchannels = [2]\nactivation = "relu^2"\n' + CLASSES, "cnn", True),
        (MODULAR + CLASSES + 'init = "he"\nseed = 3\n', "mlp 10-8-5 relu", False),
        (MATRIX + SQUARED + 'init = "perturbed"\nsigma = 0.1\n', "symmetric factorisation", False),
        (
            MATRIX.replace("[model]", "symmetric = false\n[model]") + "rank = 2\n" + SQUARED + 'init = "zero_last"\n',
            "6 x 6 factorisation of rank 2",
            True,
        ),
        (
            '[data]\nkind = "matrix_entries"\nentries = [[0, 1], [2, 2]]\nvalues = [1.0, 2.0]\nshape = [3, 3]\n'
            '[model]\nkind = "matrix_factorization"\n' + SQUARED,
            "symmetric factorisation",
            True,
        ),
        ('[data]\nkind = "xor_cluster"\nn = 6\nd = 8\n[model]\nkind = "mlp"\n' + HEAD, "mlp 8-64-1", True),
    ],
)
def test_every_kind_of_model_and_data_is_built(tmp_path, text, name, zero):
    problem = build_problem(loaded(tmp_path, text))
    assert problem.model.name.startswith(name)
    f = problem.model.output(problem.direction, problem.data.X)
    assert (float(np.max(np.abs(f))) < 1e-12) == zero


def test_the_noise_is_that_of_theta_itself(tmp_path):
    text = MATRIX.replace("d = 6", "d = 60") + SQUARED + 'init = "perturbed"\nsigma = 0.25\n'
    problem = build_problem(loaded(tmp_path, text))
    theta = math.exp(problem.log_alpha) * problem.direction
    noise = theta - math.exp(problem.log_alpha) * problem.model.direction("theory")
    assert float(noise.std()) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SIGNS + '[model]\nkind = "cnn"\nimage = [8]\nkernel = 9\n' + HEAD, "kernel: got 9; wanted at most 8"),
        (SIGNS + '[model]\nkind = "cnn"\nimage = [3, 3]\nkernel = 2\n' + HEAD, "model.image: got 3 x 3 = 9 pixels"),
        (SIGNS + '[model]\nkind = "mlp"\nactivation = "tanh"\n' + HEAD, "activation: got 'tanh'"),
        (SIGNS + '[model]\nkind = "mlp"\nwidths = [3]\n' + HEAD + 'init = "twin"\n', "init: got 'twin'"),
        (MATRIX.replace("0.3", "1e-9") + SQUARED, "fraction: .*wanted at least one observed entry"),
        (MODULAR.replace("[model]", 'operation = "minus"\n[model]') + CLASSES, "operation: got 'minus'"),
        (
            '[data]\nkind = "matrix_entries"\nentries = []\nvalues = []\nshape = [3, 3]\n'
            '[model]\nkind = "matrix_factorization"\n' + SQUARED,
            "entries: got no entries; wanted at least one observed entry",
        ),
        (
            '[data]\nkind = "matrix_entries"\nentries = [[0, 1]]\nvalues = [1.0]\nshape = [2, 3]\n'
            '[model]\nkind = "matrix_factorization"\n' + SQUARED,
            "shape: got 2 x 3; wanted a square matrix",
        ),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        run_experiment(loaded(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SIGNS + '[model]\nkind = "mlp"\n' + HEAD + 'init = "he"\n[predictors]\nkernel = true\n', "zero output"),
        (SIGNS + '[model]\nkind = "mlp"\n' + HEAD + "sigma = 0.1\n", "problem.sigma: got 0.1; wanted none"),
        (SIGNS + '[model]\nkind = "mlp"\n' + HEAD + 'init = "perturbed"\n', "problem.init: got 'perturbed'"),
        (DIGITS + '[model]\nkind = "mlp"\n' + HEAD, "problem.loss: got 'logistic'; wanted 'cross_entropy'"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_read(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        loaded(tmp_path, text)


FAMILY = (
    '[data]\nkind = "sparse_sign"\nn = 6\nd = 20\nn_test = 10\n[problem]\nalpha = 2.0\nweight_decay = 1e-3\n'
    '[flow]\npoints = 8\n[family]\nkey = "problem.alpha"\nvalues = [8.0, 32.0]\n'
)


def test_a_family_holds_all_members_and_goes_on_where_it_was(tmp_path, monkeypatch):
    family = loaded(tmp_path, FAMILY)
    assert [member.settings["problem"]["alpha"] for member in family.members] == [8.0, 32.0]
    first = run_family(family, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"alpha=8.0", "alpha=32.0"}
    with open(tmp_path / "out" / "trajectory.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["problem.alpha"] for row in rows} == {"8.0", "32.0"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [member["value"] for member in summary["members"]] == [8.0, 32.0]
    assert summary["status"] == "reached_end"

    from theorykit.experiments import family as module

    ran = []

    def run(member, **arguments):
        ran.append(member.name)
        return run_experiment(member, **arguments)

    monkeypatch.setattr(module, "run_experiment", run)
    (tmp_path / "out" / "alpha=32.0" / "summary.json").unlink()
    second = run_family(family, out=tmp_path / "out", resume=True)
    assert ran == ["alpha=32.0"]
    for one, other in zip(first.tables, second.tables, strict=True):
        for name, values in one.stats.items():
            assert np.allclose(values, other.stats[name], rtol=1e-15, atol=0.0)


def test_a_family_is_not_run_as_one_flow(tmp_path):
    family = loaded(tmp_path, FAMILY)
    for run in (run_experiment, build_problem):
        with pytest.raises(InputError, match=r"experiment: got (the|a) family.*one of its members"):
            run(family)
    with pytest.raises(InputError, match=r"experiment: .*with a \[family\]"):
        run_family(family.members[0])
    with pytest.raises(InputError, match="resume: got no folder"):
        run_family(family, resume=True)


def test_a_matrix_has_both_predictors(tmp_path):
    text = (
        MATRIX.replace("d = 6", "d = 8")
        + SQUARED.replace("1.0", "4.0").replace("-2.0", "-4.0")
        + "[flow]\npoints = 6\n"
    )
    result = run_experiment(loaded(tmp_path, text), out=tmp_path / "out")
    kernel, rich = (result.predictors[name] for name in ("kernel", "rich"))
    i, j = result.trajectory._path.problem.data.X.T
    early = np.zeros((8, 8))
    early[i, j] = early[j, i] = result.trajectory._path.problem.data.y
    entries = np.indices((8, 8)).reshape(2, -1).T
    assert np.allclose(kernel.predict(entries).reshape(8, 8), early, atol=1e-12)
    W = result.trajectory.at(s=0.7).outputs(entries).reshape(8, 8)
    moment = result.summary["moments"]["early"]
    assert moment["distance_kernel"] == pytest.approx(np.linalg.norm(W - early) / np.linalg.norm(early))
    assert moment["distance_kernel"] < 0.01 < moment["distance_rich"]
    cosine = np.sum(W * rich.W) / np.linalg.norm(W) / np.linalg.norm(rich.W)
    assert moment["cos_rich"] == pytest.approx(cosine)
    table = Table.read(tmp_path / "out" / "trajectory.csv")
    assert table.stats["cos_kernel"] == pytest.approx(result.table.stats["cos_kernel"])


def test_without_weight_decay_the_axis_is_time(tmp_path):
    text = SIGNS.replace("sparse_parity", "sparse_sign") + "[problem]\nalpha = 1.0\nweight_decay = 0.0\n"
    result = run_experiment(loaded(tmp_path, text + "[flow]\nlog_t_end = 20.0\npoints = 10\n"), out=tmp_path / "out")
    assert result.summary["moments"]["end"]["log_t"] == pytest.approx(20.0)
    assert result.table.clock == "log_t"
    assert Table.read(tmp_path / "out" / "trajectory.csv").clock == "log_t"
