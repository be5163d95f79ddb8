"""Messages, files, and the small print of theorykit.programs."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit.programs import (
    CertificateError,
    MaxMargin,
    SolverError,
    _separability,
    certify,
    kkt_residuals,
    margin,
    max_margin,
    verify_farkas,
)

X = np.array([[2.0, 0.5], [-1.0, 1.0], [0.5, -3.0]])
Y = np.array([1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": [[1.0, math.nan], [0.0, 1.0], [1.0, 1.0]]}, r"X: got nan at index \(0, 1\); wanted finite"),
        ({"X": [[1.0, math.inf], [0.0, 1.0], [1.0, 1.0]]}, "X: got inf"),
        ({"X": np.empty((0, 2)), "y": []}, "X: got shape .0, 2.; wanted at least one sample"),
        ({"X": [1.0, 2.0, 3.0]}, "X: got shape .3,.; wanted a matrix"),
        ({"y": [1, -1]}, "y: got 2 entries; wanted 3"),
        ({"y": [1, 0, 1]}, "y: got 0 at index 1; wanted every label"),
        ({"norm": 3}, "norm: got 3; wanted 1, 2, inf or"),
        ({"norm": True}, "norm: got True; wanted 1, 2, inf or"),
        ({"norm": "l2"}, "norm: got 'l2'; wanted 1, 2, inf or"),
        ({"solver": "CLARABELL"}, "solver: got 'CLARABELL'; wanted one of .*CLARABEL.*did you mean 'CLARABEL'"),
        ({"solver": "MOSEKK"}, "solver: got 'MOSEKK'; wanted one of "),
    ],
)
def test_bad_input(changed, message):
    arguments = {"X": X, "y": Y} | changed
    with pytest.raises(InputError, match=message):
        max_margin(**arguments)


def test_certify_checks_its_vectors():
    with pytest.raises(InputError, match="w: got 3 entries; wanted 2, one for each feature"):
        certify(X, Y, [1.0, 2.0, 3.0], np.ones(3))
    with pytest.raises(InputError, match="dual: got smallest -1"):
        certify(X, Y, [1.0, 2.0], [1.0, -1.0, 1.0])
    with pytest.raises(InputError, match="not all 0"):
        certify(X, Y, [1.0, 2.0], np.zeros(3))


def test_a_vector_that_does_not_separate_proves_nothing():
    certificate = certify(X, Y, [0.0, 1.0], np.ones(3))
    assert certificate.lower == -math.inf
    assert certificate.gap == math.inf
    assert certificate.verify(X, Y)


def test_int8_and_float64_are_the_same_data():
    data = np.array([[1, -2, 0], [0, 1, 1]], dtype=np.int8)
    first, second = max_margin(data, [1, -1]), max_margin(data.astype(float), [1, -1])
    assert first.certificate.data_hash == second.certificate.data_hash
    assert first.certificate.verify(data.astype(float), [1, -1])
    assert second.certificate.verify(data, [1, -1])
    edge = np.array([[-128, 3]], dtype=np.int8)
    assert max_margin(edge, [-1]).certificate.verify(edge.astype(float), [-1])


def test_other_shape_other_hash():
    certificate = certify([[1.0, 2.0]], [1], [1.0, 2.0], [1.0])
    with pytest.raises(CertificateError, match="data"):
        certificate.verify([[1.0], [2.0]], [1, 1])


def test_one_class_is_no_problem():
    assert max_margin(np.abs(X), np.ones(3)).margin > 0.0


@pytest.mark.parametrize("norm", [1, 2])
def test_what_the_result_carries(norm):
    result = max_margin(X, Y, norm=norm)
    assert result.norm == norm
    assert min(Y * (X @ result.w)) == pytest.approx(1.0, rel=1e-14)
    assert result.dual.sum() == pytest.approx(1.0, rel=1e-14)
    assert result.dual.min() >= 0.0
    assert result.margin == result.certificate.lower
    assert result.margin == pytest.approx(1.0 / np.linalg.norm(result.w, norm), rel=1e-14)
    assert (result.distance_bound is None) == (norm == 1)
    assert "theorykit" in result.solver
    assert result.iterations >= 1
    assert result.wall_s > 0.0
    problem = result.as_cvxpy()
    problem.solve(solver="CLARABEL")
    wanted = 1.0 / result.margin if norm == 1 else 0.5 / result.margin**2
    assert problem.value == pytest.approx(wanted, rel=1e-6)


def test_save_and_load(tmp_path):
    path = tmp_path / "margin.npz"
    result = max_margin(X, Y)
    result.save(path)
    again = MaxMargin.load(path)
    assert np.array_equal(again.w, result.w)
    assert np.array_equal(again.dual, result.dual)
    assert (again.margin, again.norm, again.solver, again.iterations, again.wall_s, again.distance_bound) == (
        (result.margin, result.norm, result.solver, result.iterations, result.wall_s, result.distance_bound)
    )
    assert again.certificate.verify(X, Y)
    assert [p.name for p in tmp_path.iterdir()] == ["margin.npz"]


def test_files_that_are_not_whole(tmp_path):
    path = tmp_path / "margin.npz"
    max_margin(X, Y).save(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="wanted a file written by"):
            MaxMargin.load(path)
    silent = []
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            again = MaxMargin.load(path)
        except InputError:
            continue
        silent.append(again.certificate.verify(X, Y) and np.array_equal(again.w, max_margin(X, Y).w))
    assert all(silent)  # what still loads (a changed time stamp in the archive) is the same result


def test_files_of_others(tmp_path):
    path = tmp_path / "margin.npz"
    np.savez(path, X=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"pickle|allow_pickle"):
        MaxMargin.load(path)
    np.savez(path, X=X)
    with pytest.raises(InputError, match="wanted a file"):
        MaxMargin.load(path)
    with pytest.raises(InputError, match="does not exist"):
        MaxMargin.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="path: got"):
        MaxMargin.load(tmp_path)
    with pytest.raises(InputError, match="path"):
        max_margin(X, Y).save(tmp_path / "no folder" / "margin.npz")


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "margin.npz"
    max_margin(X, Y).save(path)
    with np.load(path) as file:
        entries = dict(file)
    head = json.loads(str(entries["head"]))
    edits = [
        {"w": entries["w"] * (1 + 1e-6)},
        {"X": entries["X"] * (1 + 1e-6)},
        {"head": np.array(json.dumps(head | {"upper": head["upper"] * 2}))},
        {"head": np.array(json.dumps(head | {"format": "another"}))},
        {"head": np.array("{}")},
    ]
    for edit in edits:
        np.savez(path, **(entries | edit))
        with pytest.raises(InputError, match="wanted a file"):
            MaxMargin.load(path)


def test_contradictory_duplicates_are_named():
    data = np.vstack((X, X[1]))
    with pytest.raises(NotSeparableError, match="samples 1 and 3, which contradict each other") as caught:
        max_margin(data, [1, -1, 1, 1])
    assert caught.value.samples == (1, 3)
    assert verify_farkas(data, [1, -1, 1, 1], caught.value.farkas)
    with pytest.raises(NotSeparableError, match="samples 1 and 3"):  # x and -x under one label
        max_margin(np.vstack((X, -X[1])), [1, -1, 1, -1])


def test_a_zero_sample_is_named():
    with pytest.raises(NotSeparableError, match=r"a zero row \(sample 1\)") as caught:
        max_margin([[1.0, 2.0], [0.0, -0.0]], [1, -1])
    assert caught.value.farkas[1] == 1


def test_undecided_carries_a_proved_bound():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((6, 20))
    data[5] = -(data[0] + data[1])  # the sum is rounded: exactly separable perhaps, by less than doubles can say
    for norm in (1, 2):
        with pytest.raises(NotSeparableError, match="undecided: the margin is at most") as caught:
            max_margin(data, np.ones(6), norm=norm)
        assert caught.value.farkas is None
        assert 0.0 < caught.value.margin_at_most < 1e-12


def test_verify_farkas_rejects_what_is_no_proof():
    data, y = [[1.0], [2.0]], [1, -1]
    assert verify_farkas(data, y, [Fraction(2, 3), Fraction(1, 3)])
    assert not verify_farkas(data, y, [Fraction(2), Fraction(1)])
    assert not verify_farkas(data, y, [2 / 3, 1 / 3])  # floats: not exactly
    assert not verify_farkas(data, y, [Fraction(5, 3), Fraction(-2, 3)])
    with pytest.raises(InputError, match="mu: got 1 entries"):
        verify_farkas(data, y, [1])
    with pytest.raises(InputError, match="mu: got something"):
        verify_farkas(data, y, [math.nan, 1.0])


def test_farkas_with_features_of_any_scale():
    data = np.array([[1e150, 1e-150], [-1e150, 3e-150], [2e150, -1e-150]])
    data[2] = -(data[0] + data[1]) / 2
    y = np.ones(3)
    exact = verify_farkas(data, y, [Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)])
    assert exact == all(sum(Fraction(v) * w for v, w in zip(column, (1, 1, 2), strict=True)) == 0 for column in data.T)


def test_a_wrong_support_proves_nothing():
    data = np.random.default_rng(1).standard_normal((4, 3))
    assert _separability.farkas_on(data, np.ones(4), np.array([0, 1])) is None


def test_cvxpy_infeasible_becomes_the_proof():
    with pytest.raises(NotSeparableError, match="contradict") as caught:
        max_margin([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1, 1, 1], solver="CLARABEL")
    assert list(caught.value.farkas) == [Fraction(1, 3)] * 3


def test_inaccurate_is_no_answer(monkeypatch):
    solved = max_margin(X, Y)
    monkeypatch.setattr(
        margin, "solve_statement", lambda problem, solver: (solved.w, solved.dual, "optimal_inaccurate", 3)
    )
    with pytest.raises(SolverError, match=r"'optimal_inaccurate'; its vectors prove .* <= margin <= ") as caught:
        max_margin(X, Y, solver="CLARABEL")
    assert f"{solved.certificate.upper}" in str(caught.value)
    monkeypatch.setattr(margin, "solve_statement", lambda problem, solver: (None, None, "user_limit", 3))
    with pytest.raises(SolverError, match="'user_limit' and no solution"):
        max_margin(X, Y, solver="CLARABEL")


def test_a_solver_for_other_programs():
    with pytest.raises(SolverError, match="SCIPY could not solve"):
        max_margin(X, Y, solver="SCIPY")  # linear programs only


def test_kkt_input():
    with pytest.raises(InputError, match="outputs_q: got 1 entries; wanted 2"):
        kkt_residuals([1.0, 0.0], [1.0], np.eye(2), 2)
    with pytest.raises(InputError, match="theta: got 3 entries; wanted 2"):
        kkt_residuals([1.0, 0.0, 0.0], [1.0, 1.0], np.eye(2), 2)
    with pytest.raises(InputError, match="theta: got the zero vector"):
        kkt_residuals([0.0, 0.0], [1.0, 1.0], np.eye(2), 2)
    with pytest.raises(InputError, match="degree"):
        kkt_residuals([1.0, 0.0], [1.0, 1.0], np.eye(2), 0)


def test_kkt_without_a_feasible_multiple():
    found = kkt_residuals([1.0, 0.0], [1.0, -0.5], np.eye(2), 2)
    assert not found.feasible
    assert found.stationarity == found.complementarity == math.inf
    assert not found.multipliers.any()


def test_kkt_with_opposite_gradients():
    found = kkt_residuals([1.0, 0.0], [1.0], [[-1.0, 0.0]], 2)
    assert found.stationarity == pytest.approx(1.0)
    assert found.complementarity == 0.0
