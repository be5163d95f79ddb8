"""Nuclear-norm programs: input, results, files."""

import json
import pickle
from fractions import Fraction

import numpy as np
import pytest

from theorykit import InputError
from theorykit.programs import (
    CertificateError,
    InconsistentError,
    MinNuclearNorm,
    factorisation_point,
    min_nuclear_norm,
    nuclear_regularised,
)

PLACES = np.array([[0, 0], [0, 1], [1, 2], [2, 2]])
VALUES = np.array([4.0, 2.0, -1.0, 3.0])


@pytest.fixture(scope="module", params=["entries", "symmetric", "regularised", "measurements"])
def case(request):
    """A result and what it was made of."""
    if request.param == "regularised":
        return nuclear_regularised(PLACES, VALUES, weight_decay=0.2, shape=3, symmetric=True), PLACES, VALUES
    if request.param == "measurements":
        A = np.random.default_rng(0).standard_normal((4, 2, 3))
        return min_nuclear_norm(A, VALUES), A, VALUES
    return min_nuclear_norm(PLACES, VALUES, shape=3, symmetric=request.param == "symmetric"), PLACES, VALUES


def test_the_answer_is_certified(case):
    result, observed, values = case
    assert result.certificate.verify(observed, values)
    assert 0.0 <= result.certificate.gap < 1e-9
    assert result.value == result.certificate.upper
    assert result.uniqueness in ("proved", "disproved", "unknown")
    assert result.iterations > 0
    assert result.wall_s > 0
    assert np.linalg.norm(result.S, 2) <= (1.0 if result.fit_bound is None else 0.1) * (1 + 1e-12)
    assert "theorykit" in result.solver


def test_cvxpy_states_the_same_program(case):
    result = case[0]
    problem = result.as_cvxpy()
    problem.solve(solver="CLARABEL")
    assert problem.value == pytest.approx(result.value, rel=1e-5)


def test_other_solvers_go_through_the_same_certificate(case):
    result, observed, values = case
    c = result.certificate
    arguments = {"symmetric": c.symmetric, "solver": "CLARABEL", "shape": c.W.shape}
    if c.weight_decay is None:
        theirs = min_nuclear_norm(observed, values, **arguments)
    else:
        theirs = nuclear_regularised(observed, values, weight_decay=c.weight_decay, **arguments)
    assert theirs.certificate.verify(observed, values)
    assert theirs.certificate.gap < 1e-5
    assert theirs.solver.startswith("CLARABEL")
    assert max(c.lower, theirs.certificate.lower) <= min(c.upper, theirs.certificate.upper)


def test_save_and_load(case, tmp_path):
    result, observed, values = case
    path = tmp_path / "nuclear.npz"
    result.save(path)
    again = MinNuclearNorm.load(path)
    assert np.array_equal(again.W, result.W)
    assert np.array_equal(again.dual, result.dual)
    assert (again.value, again.solver, again.iterations, again.wall_s, again.fit_bound, again.rank) == (
        (result.value, result.solver, result.iterations, result.wall_s, result.fit_bound, result.rank)
    )
    assert again.uniqueness == result.uniqueness
    assert again.certificate.verify(observed, values)
    assert [p.name for p in tmp_path.iterdir()] == ["nuclear.npz"]


def test_files_that_were_changed(case, tmp_path):
    path = tmp_path / "nuclear.npz"
    case[0].save(path)
    whole = path.read_bytes()
    with np.load(path) as file:
        entries = dict(file)
    head = json.loads(str(entries["head"]))
    edits = [{name: entries[name] * (1 + 1e-6)} for name in ("W", "dual", "values")]
    edits += [{"head": np.array(json.dumps(head | {key: value}))} for key, value in (("upper", 9.0), ("format", "x"))]
    edits += [{"head": np.array("{}")}, {"where": entries["where"][:-1]}, {"values": entries["values"][None]}]
    edits += [{name: entries[name].astype(str)} for name in ("W", "dual", "counts")]
    for edit in edits:
        np.savez(path, **(entries | edit))
        with pytest.raises(InputError, match="wanted a file written by"):
            MinNuclearNorm.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="wanted a file written by"):
        MinNuclearNorm.load(path)
    with pytest.raises(InputError, match="does not exist"):
        MinNuclearNorm.load(tmp_path / "none.npz")


def test_stale_data_are_rejected(case):
    result, observed, values = case
    with pytest.raises(CertificateError, match="observations"):
        result.certificate.verify(observed, values + np.array([0, 0, 0, 1e-12]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observed": [[0, 0, 0]]}, "observed: got shape"),
        ({"observed": [[0, 5]]}, r"index \(0, 5\) at observation 0"),
        ({"observed": [[-1, 0]]}, r"index \(-1, 0\)"),
        ({"observed": [[0.5, 0]]}, "no integers"),
        ({"observed": [["a", "b"]]}, "observed: got dtype"),
        ({"observed": [[0, 0], [0]]}, "observed"),
        ({"observed": np.zeros((0, 2), int), "values": []}, "at least one"),
        ({"values": [1.0, 2.0]}, "2 values for 1 observations"),
        ({"values": [np.nan]}, "finite"),
        ({"values": [[1.0]]}, "values"),
        ({"shape": None}, "shape: got None"),
        ({"shape": 0}, "shape: got 0"),
        ({"shape": (2, 2, 2)}, "shape"),
        ({"shape": 2.5}, "shape"),
        ({"shape": (2, 3), "symmetric": True}, "shape"),
        ({"solver": "NONSUCH"}, "solver: got 'NONSUCH'"),
        ({"observed": np.full((1, 2, 2), np.inf)}, "not finite"),
        ({"observed": np.zeros((1, 0, 2))}, "empty"),
        ({"observed": [[[0.0, 1.0], [0.0, 0.0]]], "symmetric": True}, "not symmetric"),
        ({"observed": np.ones((1, 2, 3))}, "shape"),
    ],
)
def test_bad_input(change, message):
    arguments = {"observed": [[0, 0]], "values": [1.0], "shape": 2} | change
    observed, values = arguments.pop("observed"), arguments.pop("values")
    with pytest.raises(InputError, match=message):
        min_nuclear_norm(observed, values, **arguments)


@pytest.mark.parametrize("decay", [0.0, -1.0, np.nan, "x"])
def test_bad_weight_decay(decay):
    with pytest.raises(InputError, match="weight_decay"):
        nuclear_regularised([[0, 0]], [1.0], weight_decay=decay, shape=1)
    with pytest.raises(InputError, match="weight_decay"):
        factorisation_point([[1.0]], [[1.0]], [[0, 0]], [1.0], weight_decay=decay)


def test_bad_factors():
    with pytest.raises(InputError, match="V: got 2 rows"):
        factorisation_point([[1.0]], [[1.0], [2.0]], [[0, 0]], [1.0], weight_decay=1.0)
    with pytest.raises(InputError, match="indices"):
        factorisation_point([[1.0]], [[1.0]], [[[0.0]]], [1.0], weight_decay=1.0)
    with pytest.raises(InputError, match="indices"):
        nuclear_regularised([[[0.0]]], [1.0], weight_decay=1.0, shape=1)


@pytest.mark.parametrize("symmetric", [False, True])
def test_contradictory_entries_are_named(symmetric):
    places = [[0, 1], [2, 2], [1, 0] if symmetric else [0, 1]]
    with pytest.raises(InconsistentError, match=r"\(0, 1\) = .*observation 0.* and .*observation 2") as caught:
        min_nuclear_norm(places, [1.0, 5.0, 1.5], shape=3, symmetric=symmetric)
    assert caught.value.samples == (0, 2)
    assert list(caught.value.proof) == [Fraction(-2), 0, Fraction(2)]
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.samples == (0, 2)
    if symmetric:  # without symmetry they are two entries
        assert min_nuclear_norm(places, [1.0, 5.0, 1.5], shape=3).certificate.gap < 1e-9


def test_consistent_repeats_are_merged():
    once = min_nuclear_norm(PLACES, VALUES, shape=3, symmetric=True)
    twice = min_nuclear_norm(np.vstack((PLACES, PLACES[:, ::-1])), np.append(VALUES, VALUES), shape=3, symmetric=True)
    assert np.array_equal(once.W, twice.W)


def test_nothing_but_zeros():
    result = min_nuclear_norm([[0, 0], [1, 2]], [0.0, 0.0], shape=(2, 3))
    assert not result.W.any()
    assert (result.certificate.lower, result.value, result.rank) == (0.0, 0.0, 0)
    assert result.uniqueness == "proved"
    shrunk = nuclear_regularised([[0, 0]], [0.0], weight_decay=1.0, shape=2)
    assert not shrunk.W.any()
    assert shrunk.value == 0.0


def test_a_large_weight_decay_leaves_nothing():
    result = nuclear_regularised(PLACES, VALUES, weight_decay=100.0, shape=3)
    assert np.abs(result.W).max() < 1e-12
    assert result.value == pytest.approx(np.mean(VALUES**2), rel=1e-12)
    assert result.uniqueness == "proved"


def test_the_residual_matrix_belongs_to_the_symmetric_regularised_program():
    with pytest.raises(InputError, match="theorem"):
        _ = min_nuclear_norm(PLACES, VALUES, shape=3).M


def test_nearly_contradictory_measurements_are_no_answer():
    from theorykit.programs import SolverError

    A = np.random.default_rng(0).standard_normal((2, 3, 3))
    with pytest.raises(SolverError, match="too ill-conditioned"):
        min_nuclear_norm(np.concatenate((A, (A[0] + A[1] / 3)[None])), [1.0, 1.0, 2.0])


def test_a_solver_that_stops_early_is_no_answer(monkeypatch):
    import cvxpy as cp

    from theorykit.programs import SolverError

    solve = cp.Problem.solve
    monkeypatch.setattr(cp.Problem, "solve", lambda self, solver: solve(self, solver=solver, max_iters=10))
    with pytest.raises(SolverError, match=r"inaccurate.*vectors prove"):
        min_nuclear_norm(PLACES, VALUES, shape=3, solver="SCS")


@pytest.mark.parametrize("scale", [1e-310, 1e-150, 1.0, 1e150, 8e307])
def test_scales_at_the_ends_of_the_float_range(scale):
    result = min_nuclear_norm([[0, 0], [0, 1]], [0.6 * scale, 0.8 * scale], shape=3)
    assert result.certificate.lower <= scale * (1 + 1e-12)
    assert scale * (1 - 1e-12) <= result.certificate.upper
    assert result.certificate.gap < 1e-9


@pytest.mark.parametrize(("values", "decay"), [([1e100, 1.0], 1e-12), ([1e-10, 1.0], 1e-12), ([1e-3, 0.0], 1e-300)])
def test_misfits_below_round_off(values, decay):
    """One row: the norm is that of the vector, and the misfit at its best is (lambda/2)^2 n/4, next to nothing."""
    result = nuclear_regularised([[0, 0], [0, 1]], values, weight_decay=decay, shape=3)
    assert result.value == pytest.approx(decay / 2 * np.linalg.norm(values), rel=1e-9)
    assert result.certificate.gap < 1e-9


def test_measurements_that_vanish():
    found = min_nuclear_norm(np.zeros((1, 2, 2)), [0.0])
    assert found.certificate.verify(np.zeros((1, 2, 2)), [0.0])
    assert (found.value, found.uniqueness) == (0.0, "proved")
    with pytest.raises(InconsistentError, match="contradict"):
        min_nuclear_norm(np.zeros((1, 2, 2)), [1.0])


@pytest.mark.parametrize("size", [1e155, 1e200])
def test_factors_beyond_the_float_range(size):
    with pytest.raises(InputError, match="U: got an entry"):
        factorisation_point([[size]], [[1.0]], [[0, 0]], [1.0], weight_decay=1.0)


def test_tiny_values_beside_zeros():
    values = np.array([0.5, 0.0, 1.3]) * 2.0**-1000
    assert min_nuclear_norm([[0, 0], [0, 1], [1, 1]], values, shape=2).certificate.gap < 1e-12


def test_a_point_with_large_entries_has_finite_numbers():
    point = factorisation_point([[1e69]], [[1.0]], [[0, 0]], [1e150], weight_decay=1.0)
    assert np.isfinite([point.loss, point.lower, point.stationarity, point.operator_norm]).all()
