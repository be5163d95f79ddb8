"""Messages, files, and the small print of the kernel programs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from theorykit import Dataset
from theorykit._numerics.errors import InputError
from theorykit.models import DiagonalNet
from theorykit.programs import (
    InconsistentError,
    KernelInterpolant,
    KernelSVM,
    SolverError,
    interpolation_kkt_residuals,
    kernel_interpolant,
    kernel_svm,
    kkt_residuals,
    quasinorm_margin,
    rich_kkt,
    svm,
)

X = np.array([[2.0, 0.5, 0.0], [-1.0, 1.0, 0.3], [0.5, -3.0, 1.0]])
Y = np.array([1.0, -1.0, 1.0])
K = X @ X.T


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X": [[1.0, math.nan]], "y": [1]}, r"X: got nan at index \(0, 1\)"),
        ({"X": np.empty((0, 3)), "y": []}, "X: got shape .0, 3.; wanted at least one sample"),
        ({"X": X}, "y: got none"),
        ({"y": Y}, "X: got none; wanted features, a data set, or gram="),
        ({"gram": K}, "y: got none; wanted one entry for each sample .row of the Gram"),
        ({"gram": K, "X": X, "y": Y}, "gram: got a Gram matrix beside X"),
        ({"gram": K, "model": DiagonalNet(3), "y": Y}, "gram: got a Gram matrix beside a model"),
        ({"gram": K[:2], "y": Y}, "gram: got shape .2, 3.; wanted a Gram matrix of shape .n, n."),
        ({"gram": [[1.0, math.inf], [math.inf, 1.0]], "y": [1, -1]}, "gram: got inf at row 0, column 1"),
        ({"gram": [[1.0, 0.5], [0.4, 1.0]], "y": [1, -1]}, "gram: got 0.5.* at row 0, column 1 and 0.4.*symmetric"),
        ({"gram": [[1.0, 2.0], [2.0, 1.0]], "y": [1, -1]}, r"gram: got a matrix with an eigenvalue of -1 or less"),
        ({"gram": [[1.0, 0.0], [0.0, -2.0]], "y": [1, -1]}, r"gram: got a matrix with an eigenvalue of -2 or less"),
        ({"gram": [[0.0, 1.0], [1.0, 1.0]], "y": [1, -1]}, r"eigenvalue of -0.618034 or less \(proved\)"),
        ({"X": X, "model": object(), "y": Y}, "model: got object, without ntk and direction"),
        ({"X": X, "y": Y, "init": "unit"}, "init: got a direction without a model"),
        ({"X": X, "y": Y, "solver": "MOSEKK"}, "solver: got 'MOSEKK'; wanted one of"),
    ],
)
def test_bad_input(given, message):
    for program in (kernel_svm, kernel_interpolant):
        with pytest.raises(InputError, match=message):
            program(**given)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, -1], "y: got 2 entries; wanted 3"),
        ([1, -1, 0.5], "y: got -1 at index 1; wanted every label .1 or -1 or a class number"),
        ([0, 1, 1.5], "y: got 1.5 at index 2"),
        ([0, 0, 0], "y: got class 0 only"),
        ([1, math.nan, 1], "y: got nan"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(InputError, match=message):
        kernel_svm(X, y)


def test_labels_of_a_model_with_one_output():
    with pytest.raises(InputError, match=r"y: got 0 at index 0; wanted every label \+1 or -1$"):
        kernel_svm(X, [0, 1, 1], model=DiagonalNet(3))


def test_bad_prices_and_ridges():
    for C in (0.0, -1.0, math.inf, math.nan, True):
        with pytest.raises(InputError, match="C: got"):
            kernel_svm(X, Y, C=C)
    for ridge in (-1.0, math.nan, "1"):
        with pytest.raises(InputError, match="ridge: got"):
            kernel_interpolant(X, Y, ridge=ridge)


def test_bad_targets():
    for y, message in (([1.0, 2.0], "shape .2,.; wanted shape .3,."), ([[1.0], [math.inf], [1.0]], "not finite")):
        with pytest.raises(InputError, match="y: got .*" + message):
            kernel_interpolant(X, y)
    block = np.einsum("ij,kl->ikjl", K, np.eye(2))
    with pytest.raises(InputError, match=r"y: got shape .3,.; wanted shape .3, 2."):
        kernel_interpolant(gram=block, y=Y)


def test_bad_new_points():
    with pytest.raises(InputError, match="X: got 2 features; wanted 3, as in the training data"):
        kernel_svm(X, Y).predict([[1.0, 2.0]])
    for cross in ([[1.0, 2.0]], [1.0, 2.0, 3.0], [[1.0, math.nan, 1.0]]):
        with pytest.raises(InputError, match=r"cross-Gram matrix of shape \(m, 3\)"):
            kernel_svm(gram=K, y=Y).predict(cross)


def test_an_asymmetry_of_round_off_is_none():
    nearly = K.copy()
    nearly[0, 1] = np.nextafter(nearly[0, 1], 10.0)
    assert kernel_svm(gram=nearly, y=Y).margin == pytest.approx(kernel_svm(gram=K, y=Y).margin, rel=1e-14)


def test_a_data_set_has_its_own_labels():
    data = Dataset.from_arrays(X, Y)
    assert kernel_svm(data).margin == kernel_svm(X, Y).margin
    assert rich_kkt(DiagonalNet(3), np.ones(6), data).feasible is False
    regression = Dataset.from_arrays(X, Y, task="regression")
    assert rich_kkt(DiagonalNet(3), np.ones(6), regression).violation == pytest.approx(1.0)


def test_what_a_machine_carries():
    for given in ({"X": X}, {"gram": K}):
        found = kernel_svm(y=Y, **given)
        assert found.uniqueness == "proved"
        assert math.isinf(found.C)
        assert found.norm * found.margin == pytest.approx(1.0, rel=1e-14)
        h = X.T @ found.coefficients
        assert np.linalg.norm(h) == pytest.approx(found.norm, rel=1e-14)
        assert min(Y * (X @ h)) == pytest.approx(1.0, rel=1e-14)
        assert found.coefficients == pytest.approx(Y * found.dual, rel=1e-12)
        assert found.wall_s > 0.0
        assert "theorykit" in found.solver
        problem = found.as_cvxpy()
        problem.solve(solver="CLARABEL")
        assert problem.value == pytest.approx(0.5 * found.norm**2, rel=1e-6)
    assert kernel_svm(gram=K, y=Y).w is None


@pytest.mark.parametrize("given", [{"X": X}, {"gram": K}])
@pytest.mark.parametrize("y", [Y, [0, 1, 2]])
@pytest.mark.parametrize("C", [None, 0.1])
def test_any_cvxpy_solver(given, y, C):
    fast, stated = kernel_svm(y=y, C=C, **given), kernel_svm(y=y, C=C, solver="clarabel", **given)
    assert stated.solver.startswith("CLARABEL")
    assert stated.certificate.lower <= fast.certificate.upper
    assert fast.certificate.lower <= stated.certificate.upper
    difference = X.T @ (fast.coefficients - stated.coefficients) if fast.w is None else fast.w - stated.w
    assert np.linalg.norm(difference) <= fast.distance_bound + stated.distance_bound


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("given", [{"X": X}, {"gram": K}])
def test_interpolants_by_cvxpy(given, ridge):
    fast = kernel_interpolant(y=Y, ridge=ridge, **given)
    stated = kernel_interpolant(y=Y, ridge=ridge, solver="clarabel", **given)
    difference = X.T @ (fast.coefficients - stated.coefficients) if fast.w is None else fast.w - stated.w
    assert np.linalg.norm(difference) <= fast.distance_bound + stated.distance_bound


def test_inaccurate_is_no_answer(monkeypatch):
    found = kernel_svm(X, Y)
    answer = found.w, found.dual, "optimal_inaccurate", 7
    monkeypatch.setattr(svm, "solve_statement", lambda problem, solver: answer)
    with pytest.raises(SolverError, match="CLARABEL ended with status 'optimal_inaccurate'; its vectors prove"):
        kernel_svm(X, Y, solver="CLARABEL")


def assert_round_trip(tmp_path, found, kind):
    """The file gives the result back, and is refused once a number in it is another."""
    path = tmp_path / "result.npz"
    found.save(path)
    again = kind.load(path)
    assert again.certificate.verify(found.data.values, found.data.y)
    assert np.array_equal(again.coefficients, found.coefficients)
    assert again.distance_bound == found.distance_bound
    assert again.wall_s == found.wall_s
    with np.load(path) as file:
        entries = dict(file)
    head = json.loads(str(entries["head"]))
    edits = [{name: entries[name] * (1 + 1e-6)} for name in ("values", "y", "predictor", "dual")]
    edits += [{"head": np.array(json.dumps(head | {name: head[name] * 2}))} for name in ("distance_bound", "norm")]
    edits += [{"head": np.array("{}")}]
    for edit in edits:
        np.savez(path, **(entries | edit))
        with pytest.raises(InputError, match="wanted a file written by"):
            kind.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="wanted a file written by"):
        kind.load(path)


@pytest.mark.parametrize("given", [{"X": X}, {"gram": K}])
def test_files(tmp_path, given):
    for C in (None, 0.2):
        assert_round_trip(tmp_path, kernel_svm(y=Y, C=C, **given), KernelSVM)
        assert_round_trip(tmp_path, kernel_svm(y=[0, 1, 2], C=C, **given), KernelSVM)
    assert_round_trip(tmp_path, kernel_interpolant(y=Y, **given), KernelInterpolant)
    assert_round_trip(tmp_path, kernel_interpolant(y=X, ridge=0.1, **given), KernelInterpolant)


def test_a_model_is_put_back(tmp_path):
    net, path = DiagonalNet(3), tmp_path / "machine.npz"
    for program, kind in ((kernel_svm, KernelSVM), (kernel_interpolant, KernelInterpolant)):
        found = program(X, Y, model=net)
        found.save(path)
        assert np.array_equal(kind.load(path, model=net).predict(X), found.predict(X))
        assert kind.load(path).predict(net.ntk(X)) == pytest.approx(found.predict(X))
        program(X, Y).save(path)
        with pytest.raises(InputError, match="model: got one for a result that came from no model"):
            kind.load(path, model=net)


def test_wide_features_of_several_classes_go_through_their_gram_matrix(monkeypatch):
    direct = kernel_svm(X, [0, 1, 2])
    monkeypatch.setattr(svm, "_LARGEST_ROWS", 10)
    found = kernel_svm(X, [0, 1, 2])
    assert (direct.certificate.about, found.certificate.about) == ("features", "gram")
    assert found.margin == pytest.approx(direct.margin, rel=1e-12)


def test_kkt_input():
    with pytest.raises(InputError, match="outputs: got 1 entries; wanted 2"):
        interpolation_kkt_residuals([1.0, 0.0], [1.0], np.eye(2), [1.0])
    with pytest.raises(InputError, match="targets: got 1 entries; wanted 2"):
        interpolation_kkt_residuals([1.0, 0.0], [1.0, 0.0], np.eye(2), [1.0])
    with pytest.raises(InputError, match="task: got 'R1'"):
        rich_kkt(DiagonalNet(3), np.ones(6), X, Y, task="R1")
    with pytest.raises(InputError, match="theta: got the zero vector"):
        rich_kkt(DiagonalNet(3), np.zeros(6), X, Y)
    with pytest.raises(InputError, match=r"y: got shape \(2,\)"):
        rich_kkt(DiagonalNet(3), np.ones(6), X, [1.0, 2.0], task="regression")


def test_a_model_without_second_derivatives():
    class FirstOrder:
        degree = 1

        def output(self, theta, X):
            return X @ theta

        def features(self, X, theta):
            return X

    found = rich_kkt(FirstOrder(), kernel_svm(X, Y).w, X, Y)
    assert found.residual < 1e-12
    assert found.curvature is None


def test_quasinorm_input():
    for wrong in ({"degree": 2}, {"degree": 3, "restarts": 0}, {"degree": 3, "seed": -1}, {"degree": 2.5}):
        with pytest.raises(InputError):
            quasinorm_margin(X, Y, **wrong)
    first, second = (quasinorm_margin(X, Y, degree=3, restarts=4, seed=5) for _ in range(2))
    assert np.array_equal(first.values, second.values)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize(
    ("given", "y"),
    [({"X": [[1.0, 2.0]]}, [3.0]), ({"gram": [[2.0]]}, [1.0]), ({"gram": [[1.0, 2.0], [2.0, 4.0]]}, [1.0, 2.0])],
)
def test_certificates_of_rank_one_verify(given, y, ridge):
    found = kernel_interpolant(y=y, ridge=ridge, **given)
    assert found.certificate.verify(next(iter(given.values())), y)


def test_a_model_is_put_back_only_where_its_kernel_is_the_saved_one(tmp_path):
    path = tmp_path / "machine.npz"
    kernel_svm(X, Y, model=DiagonalNet(3)).save(path)
    with pytest.raises(InputError, match="model: got one with another kernel than the saved one"):
        KernelSVM.load(path, model=DiagonalNet(3, degree=3))
    with pytest.raises(InputError, match="model: got one that does not take the saved inputs"):
        KernelSVM.load(path, model=DiagonalNet(4))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **(arrays | {"X": arrays["X"] * (1.0 + 1e-6)}))
    with pytest.raises(InputError, match="or a changed file"):
        KernelSVM.load(path, model=DiagonalNet(3))


def test_curvature_does_not_depend_on_the_scale_of_theta():
    net = DiagonalNet(3, degree=3)
    w = quasinorm_margin(X, Y, degree=3, restarts=2).w
    theta = np.concatenate([np.cbrt(np.maximum(w, 0.0)), np.cbrt(np.maximum(-w, 0.0))])
    plain, huge = rich_kkt(net, theta, X, Y), rich_kkt(net, 2.0**300 * theta, X, Y)
    assert plain.curvature is not None
    assert huge.curvature is not None
    assert huge.curvature.sufficient == plain.curvature.sufficient
    assert huge.residual == plain.residual


def test_saved_vectors_are_numbers(tmp_path):
    path = tmp_path / "machine.npz"
    kernel_svm(X, Y).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("predictor", "dual"):
        np.savez(path, **(arrays | {name: arrays[name].astype(str)}))
        with pytest.raises(InputError, match="no numbers"):
            KernelSVM.load(path)


@pytest.mark.parametrize("given", [{"X": np.zeros((2, 3))}, {"gram": np.zeros((2, 2))}])
def test_features_that_vanish(given):
    zero = kernel_interpolant(y=[0.0, 0.0], **given)
    assert zero.certificate.verify(next(iter(given.values())), [0.0, 0.0])
    assert zero.distance_bound < 1e-100
    soft = kernel_svm(y=[1, -1], C=1.0, **given)
    assert soft.certificate.gap < 1e-14
    assert soft.norm < 1e-100
    assert abs(soft.margin) < 1e-100


def test_what_is_no_model_and_no_degree():
    with pytest.raises(InputError, match="model: got NoneType, without output and features"):
        rich_kkt(None, np.ones(3), X, Y)
    with pytest.raises(InputError, match="degree: got 1000000"):
        quasinorm_margin(X, Y, degree=10**6)


def test_a_smooth_kernel_is_singular_to_round_off_and_its_margin_is_not():
    x = np.linspace(0.0, 1.0, 60)
    kernel = np.exp(-0.5 * (x[:, None] - x) ** 2)
    found = kernel_svm(gram=kernel, y=np.sign(np.sin(5.0 * x) + 1e-3))
    assert 0.0 < found.certificate.perturbation < 1e-14
    assert found.certificate.gap < 1e-9


def test_gram_equations_that_contradict_up_to_round_off_are_no_answer():
    x = np.array([1.6753692014501018, 2.050526852620505, -0.41304025572960756, 0.5556977798506308])
    with pytest.raises(InconsistentError, match="undecided") as caught:
        kernel_interpolant(gram=np.outer(x, x), y=[-0.6, -0.1, 0.4, -1.6])
    assert caught.value.proof is None
    assert caught.value.norm_at_least > 1e6
    assert np.allclose(kernel_interpolant(gram=np.outer(x, x), y=3.0 * x).predict(np.outer(x, x)), 3.0 * x)


@pytest.mark.parametrize("C", [1e-20, 1e-3, 1.0, 1e8])
def test_a_violation_may_cost_far_more_than_the_optimum(C):
    features = 2e8 * np.eye(4)[:2]
    found = kernel_svm(features, [1, -1], C=C)
    assert found.certificate.gap < 1e-14
    assert found.certificate.verify(features, [1, -1])


def test_multipliers_beyond_the_float_range_leave_the_others_at_zero():
    found = kkt_residuals([1e200, 0.0], [1.0, 2.0], [[1e-150, 0.0], [0.0, 1e-150]], 5.0)
    assert found.multipliers[1] == 0.0
    assert found.multipliers[0] > 0.0
