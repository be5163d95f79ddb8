"""Messages, files and the small print of margins and interpolation in every norm."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

import theorykit as tk
from theorykit._numerics.errors import InconsistentError, InputError
from theorykit._numerics.linear import right_inverse
from theorykit._numerics.rounding import group_norms_upper
from theorykit.programs import (
    CertificateError,
    MaxMargin,
    MinNorm,
    SolverError,
    certify_norm,
    interpolation,
    max_margin,
    min_norm,
    verify_inconsistency,
)

X = np.array([[2.0, 0.5, 1.0], [-1.0, 1.0, 0.5]])
Y = np.array([1.0, -2.0])
GROUPS = [4, 4, 9]
NORMS = [1, 2, "inf", "group"]


def groups_for(norm):
    return GROUPS if norm == "group" else None


@pytest.mark.parametrize("program", [max_margin, min_norm])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": 3}, 'norm: got 3; wanted 1, 2, inf or "group"'),
        ({"norm": "nuclear"}, "norm: got 'nuclear'; wanted 1, 2"),
        ({"norm": math.nan}, "norm: got nan; wanted 1, 2"),
        ({"norm": "group"}, r"groups: got none; wanted the group of each feature, integers of shape \(d,\)"),
        ({"norm": "group", "groups": [0, 1]}, "groups: got 2 entries; wanted 3, one for each feature"),
        ({"norm": "group", "groups": [0.0, 1.0, 1.0]}, "groups: got dtype float64, shape"),
        ({"norm": "group", "groups": [[0, 1, 1]]}, "groups: got dtype int64, shape"),
        ({"norm": 1, "groups": GROUPS}, "groups: got groups with norm 1; wanted groups only with"),
        ({"y": None}, "y: got none; wanted one entry for each sample"),
        ({"y": [1.0]}, "y: got 1 entries; wanted 2"),
        ({"y": [1.0, math.inf]}, "y: got inf at index 1"),
        ({"X": [[math.nan, 1.0, 2.0], [0.0, 1.0, 2.0]]}, "X: got nan"),
        ({"X": np.empty((0, 3)), "y": []}, "X: got shape"),
        ({"solver": "CLARABELL"}, "solver: got 'CLARABELL'; wanted one of .*did you mean 'CLARABEL'"),
        ({"solver": "GUROBI"}, "solver: got 'GUROBI'; wanted one of "),
    ],
)
def test_bad_input(program, changed, message):
    arguments = {"X": X, "y": np.sign(Y)} | changed
    with pytest.raises(InputError, match=message):
        program(arguments.pop("X"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize("program", [max_margin, min_norm])
def test_a_data_set_has_its_own_labels(program):
    data = tk.datasets.sparse_sign(n=4, d=9, k=3, seed=0)
    assert program(data).certificate.verify(data.X, data.y)
    with pytest.raises(InputError, match="y: got labels beside a data set"):
        program(data, data.y)


@pytest.mark.parametrize("norm", NORMS)
def test_what_the_result_carries(norm):
    result = min_norm(X, Y, norm=norm, groups=groups_for(norm))
    assert result.norm == (math.inf if norm == "inf" else norm)
    assert np.allclose(X @ result.w, Y, rtol=1e-14)
    assert result.dual @ Y == pytest.approx(result.value, rel=1e-12)
    assert result.value == result.certificate.upper
    assert (result.distance_bound is None) == (norm != 2)
    assert result.uniqueness in ("proved", "disproved", "unknown")
    assert result.uniqueness_reason
    assert "theorykit" in result.solver
    assert result.wall_s > 0.0
    problem = result.as_cvxpy()
    problem.solve(solver="CLARABEL")
    assert problem.value == pytest.approx(0.5 * result.value**2 if norm == 2 else result.value, rel=1e-6)


@pytest.mark.parametrize("program", [max_margin, min_norm])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("solver", ["CLARABEL", "scs"])
def test_any_cvxpy_solver(program, norm, solver):
    y = np.sign(Y) if program is max_margin else Y
    ours = program(X, y, norm=norm, groups=groups_for(norm)).certificate
    theirs = program(X, y, norm=norm, groups=groups_for(norm), solver=solver)
    assert theirs.solver.startswith(solver.upper())
    assert theirs.certificate.lower <= ours.upper
    assert ours.lower <= theirs.certificate.upper
    assert theirs.certificate.gap < 1e-2


def test_inaccurate_is_no_answer(monkeypatch):
    solved = min_norm(X, Y)
    monkeypatch.setattr(
        interpolation, "solve_statement", lambda problem, solver: (solved.w, -solved.dual, "optimal_inaccurate", 3)
    )
    with pytest.raises(SolverError, match=r"'optimal_inaccurate'; its vectors prove .* <= norm <= ") as caught:
        min_norm(X, Y, solver="CLARABEL")
    assert f"{solved.certificate.upper}"[:12] in str(caught.value)
    monkeypatch.setattr(interpolation, "solve_statement", lambda problem, solver: (None, None, "infeasible", 3))
    with pytest.raises(SolverError, match="'infeasible' and no solution"):
        min_norm(X, Y, solver="CLARABEL")


@pytest.mark.parametrize("program", [max_margin, min_norm])
@pytest.mark.parametrize("norm", NORMS)
def test_save_and_load(program, norm, tmp_path):
    path = tmp_path / "result.npz"
    result = program(X, np.sign(Y), norm=norm, groups=groups_for(norm))
    result.save(path)
    kind = MaxMargin if program is max_margin else MinNorm
    again = kind.load(path)
    assert np.array_equal(again.w, result.w)
    assert np.array_equal(again.dual, result.dual)
    assert again.certificate.verify(X, np.sign(Y))
    kept = ("norm", "solver", "iterations", "wall_s", "distance_bound", "uniqueness", "uniqueness_reason")
    assert [getattr(again, name) for name in kept] == [getattr(result, name) for name in kept]


def test_edited_files_are_refused(tmp_path):
    path = tmp_path / "norm.npz"
    min_norm(X, Y, norm="group", groups=GROUPS).save(path)
    with np.load(path) as file:
        entries = dict(file)
    head = json.loads(str(entries["head"]))
    edits = [
        {"w": entries["w"] * (1 + 1e-6)},
        {"y": entries["y"] * (1 + 1e-6)},
        {"groups": np.array([0, 1, 1])},
        {"independent": np.array([0])},
        {"head": np.array(json.dumps(head | {"lower": head["lower"] * (1 + 1e-6)}))},
        {"head": np.array(json.dumps(head | {"norm": 2}))},
        {"head": np.array(json.dumps(head | {"format": "theorykit max-margin 2"}))},
        {"head": np.array("[]")},
    ]
    for edit in edits:
        np.savez(path, **(entries | edit))
        with pytest.raises(InputError, match=r"wanted a file written by MinNorm\.save"):
            MinNorm.load(path)
    with pytest.raises(InputError, match="does not exist"):
        MinNorm.load(tmp_path / "none.npz")


def test_other_data_do_not_verify():
    certificate = min_norm(X, Y).certificate
    with pytest.raises(CertificateError, match="data"):
        certificate.verify(X, -Y)
    with pytest.raises(CertificateError, match="data"):
        certificate.verify(-X, -Y)


def test_a_vector_that_is_far_off_proves_little():
    certificate = certify_norm(X, Y, [5.0, 0.0, 0.0], [1.0, 1.0], norm=1)
    best = min_norm(X, Y, norm=1).certificate
    assert certificate.upper > best.upper
    assert certificate.lower < best.lower
    assert certificate.verify(X, Y)


def test_certify_checks_its_vectors():
    with pytest.raises(InputError, match="w: got 2 entries; wanted 3"):
        certify_norm(X, Y, [1.0, 2.0], [1.0, 1.0])
    with pytest.raises(InputError, match="dual: got 3 entries; wanted 2"):
        certify_norm(X, Y, [1.0, 2.0, 3.0], [1.0, 1.0, 1.0])


def test_the_error_travels():
    with pytest.raises(InconsistentError) as caught:
        min_norm([[1.0, 1.0], [2.0, 2.0]], [1.0, 1.0])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.samples, list(again.proof)) == (
        (str(caught.value), caught.value.samples, list(caught.value.proof))
    )
    assert verify_inconsistency([[1.0, 1.0], [2.0, 2.0]], [1.0, 1.0], again.proof)


def test_nothing_is_printed(capfd):
    max_margin(X, np.sign(Y), norm=1)
    min_norm(X, Y, norm="inf")
    assert capfd.readouterr() == ("", "")


def test_right_inverses():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 30)) * 10.0 ** rng.uniform(-6, 6, 30)
    found = right_inverse(A)
    assert found.defect < 1e-10
    r = rng.uniform(-1.0, 1.0, 5)
    bound = np.zeros(30)
    bound[found.columns] = found.correction(1.0)
    delta = np.linalg.lstsq(A, r)[0]  # the shortest solution is no longer than the one that is bounded
    assert np.linalg.norm(delta) <= np.linalg.norm(bound)
    assert right_inverse(np.vstack((A, A[0] + A[1]))) is None
    assert right_inverse(A.T) is None


def test_group_norms():
    magnitudes = np.array([3.0, 1e-200, 4.0, 0.0, 1e200])
    bounds = group_norms_upper(magnitudes, np.array([0, 1, 0, 2, 3]))
    assert (bounds >= [5.0, 1e-200, 0.0, 1e200]).all()
    assert np.allclose(bounds, [5.0, 1e-200, 0.0, 1e200], rtol=1e-14, atol=0.0)


def test_a_model_stands_for_its_features_at_the_start():
    data = tk.datasets.sparse_sign(n=8, d=40, k=3, seed=0)
    net = tk.models.MLP((40, 32, 1), activation="relu")
    features = net.features(data.X, net.direction("twin", seed=0))
    init = net.direction("twin", seed=0)
    assert max_margin(data, norm=1, model=net, init=init).margin == max_margin(features, data.y, norm=1).margin
    assert min_norm(data, model=net, init=init).value == min_norm(features, data.y).value
    with pytest.raises(InputError, match="model: got int, without features"):
        max_margin(data, model=3)
    with pytest.raises(InputError, match="init: got a direction without a model"):
        max_margin(data, init=init)
    with pytest.raises(InputError, match="model: got 3 outputs; wanted one output"):
        max_margin(data, model=tk.models.MLP((40, 6, 3), activation="relu"))


@pytest.mark.parametrize(
    ("X", "y"),
    [
        ([[1.0, 2.0], [2.0, 4.0]], [1, -1]),
        ([[3.0, 2.0, 0.0, 2.0, 2.0], [6.0, 4.0, 0.0, 4.0, 4.0]], [1, -1]),
        (
            [
                [1.5139237747390626, 1.3458754237823045, 0.7813114007004275, 0.2644556303293035, -0.3139228145364278],
                [1.4580206835369587, 1.9602583164499647, 1.801634869866125, 1.31510376473437, 0.357380410658956],
                [3.027847549478125, 2.691750847564609, 1.562622801400855, 0.528911260658607, -0.6278456290728556],
            ],
            [1, 1, -1],
        ),
    ],
)
def test_linf_refutes_what_is_not_separable(X, y):
    """HiGHS fails, or cycles, on the rescaled program of a margin that is 0."""
    with pytest.raises(tk.NotSeparableError) as caught:
        max_margin(X, y, norm="inf")
    assert caught.value.farkas is not None


@pytest.mark.parametrize("norm", [1, 2, "inf", "group"])
def test_equations_of_all_scales(norm):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4, 6)) * 10.0 ** np.array([-150, -50, 50, 150])[:, None]
    groups = np.arange(6) // 2 if norm == "group" else None
    found = min_norm(X, X @ rng.standard_normal(6), norm=norm, groups=groups)
    assert found.certificate.gap < 1e-13


def test_highs_says_nothing(capfd):
    assert max_margin([[1.0, 2.0], [3.0, 1.0]], [1, 1], norm=1, solver="HIGHS").certificate.gap < 1e-9
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", [6, 7, 14, 17, 20, 26])
def test_group_margins_of_1e8_in_general_position(seed):
    """The last sample nearly contradicts the others; Clarabel gives up on these."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(4, 12))
    samples, weights, direction = rng.standard_normal((d, d)), rng.random(d - 1), rng.standard_normal(d)
    samples[-1] = 1e-8 * direction / np.linalg.norm(direction) - weights / weights.sum() @ samples[:-1]
    found = max_margin(samples, np.ones(d), norm="group", groups=rng.integers(0, max(2, d // 2), d))
    assert 0.0 < found.margin < 2e-8
    assert found.certificate.gap < 1e-6


def test_samples_of_any_scale_are_refuted():
    """Sample 2 is twice sample 3, with the other label, 483 powers of two apart."""
    rows = (
        "-2 -1 0 -1 -1 1 -1; 0 1 -4 5 -3 3 5; 2 0 4 -4 4 -4 -4; 1 0 2 -2 2 -2 -2; 6 2 4 -2 6 -6 -2; -3 -2 2 -4 0 0 -4"
    )
    samples = np.array([[float(entry) for entry in row.split()] for row in rows.split(";")])
    scaled = samples * 2.0 ** np.array([120, -2, -199, 284, -240, 257])[:, None]
    with pytest.raises(tk.NotSeparableError) as caught:
        max_margin(scaled, [1, -1, 1, -1, -1, 1])
    assert caught.value.farkas is not None
