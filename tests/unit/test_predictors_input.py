"""Every refusal of predictors, programs, losses, kernels and data names the argument, what came, and what was wanted.

And what is right, however large or small, is not refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import theorykit as tk
from theorykit import datasets, kernels, losses, predictors, programs
from theorykit.models import CNN, MLP, DiagonalNet, MatrixFactorization
from theorykit.predictors import KernelBall

NAN, INF, HUGE = math.nan, math.inf, 10**400
NET, DEEP = DiagonalNet(2), MLP((2, 4, 1), "z^2")
BALL = KernelBall(nu=2.0, condition=2.0, radius=0.4, largest=4.0, lipschitz=2.0)
RANKLESS = KernelBall(nu=0.0, condition=INF, radius=0.0, largest=1.0, lipschitz=INF)
X, SIGNS = np.array([[2.0, 0.0], [0.0, -1.0], [1.0, -0.5]]), [1, 1, 1]
SCALES: dict[str, Any] = {"log_alpha": 20.0, "log_weight_decay": -20.0, "degree": 2}
REGRESSION: dict[str, Any] = {"n": 4, "degree": 2, "log_A": 20.0, "nu": 1.0, "target_norm": 2.0}
ENTRIES: dict[str, Any] = {"observed": [[0, 0], [1, 1]], "values": [1.0, 2.0], "shape": 2}

GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "window": (predictors.window, {"log_alpha": 100.0, "c": 0.25}),
    "log_normaliser": (predictors.log_normaliser, SCALES | {"c": 0.3}),
    "log_normaliser_printed": (
        predictors.log_normaliser_printed,
        {"log_alpha": 9.0, "log_weight_decay": -9.0, "c": 0.3},
    ),
    "kernel_direction": (predictors.kernel_direction, {"model": NET, "separator": [3.0, 0.0], "margin": 0.5}),
    "transition_time": (predictors.transition_time, SCALES),
    "log_inverse_xlogx": (predictors.log_inverse_xlogx, {"log_y": 2.0}),
    "log_loss_ceiling": (predictors.log_loss_ceiling, SCALES | {"log_tau": [-3.0, 2.0], "margin": 1.0}),
    "log_loss_floor": (predictors.log_loss_floor, SCALES | {"tau": [0.0, 2.0], "gradient_bound": 3.0, "n": 8}),
    "log_loss_floor_printed": (
        predictors.log_loss_floor_printed,
        SCALES | {"tau": [0.0, 2.0], "gradient_bound": 3.0, "n": 8},
    ),
    "log_displacement_ceiling": (
        predictors.log_displacement_ceiling,
        SCALES | {"log_tau": [-3.0, 2.0], "margin": 1.0, "gradient_bound": 3.0},
    ),
    "kernel_phase_end": (
        predictors.kernel_phase_end,
        SCALES | {"margin": 1.0, "gradient_bound": 3.0, "radius": 0.1},
    ),
    "margin_error_bound": (predictors.margin_error_bound, {"n": 2000, "d": 50, "k": 1, "delta": 0.1, "norm": 1}),
    "rademacher_bound": (predictors.rademacher_bound, {"X": np.eye(4), "norm": 2}),
    "label_noise_weights": (
        predictors.label_noise_weights,
        {"X": [[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]], "y": [2.0, 1.0], "alpha": 1.0, "time": 0.3, "noise": 1.0},
    ),
    "curvature_bound": (
        predictors.curvature_bound,
        {"model": DEEP, "theta_bar": DEEP.direction(), "X": X, "radius": 0.5},
    ),
    "feature_radius": (
        predictors.feature_radius,
        {"model": NET, "theta_bar": NET.direction(), "X": X, "margin": 0.5},
    ),
    "output_bound": (predictors.output_bound, {"model": DEEP, "X": X}),
    "kernel_ball": (predictors.kernel_ball, {"model": NET, "X": X[:2], "init": "theory", "seed": 0}),
    "early_log_loss": (predictors.early_log_loss, REGRESSION | {"tau": [0.0, 1.0]}),
    "early_loss_rate": (predictors.early_loss_rate, REGRESSION | {"tau": 0.5, "log_loss": 0.0}),
    "displacement_bound": (predictors.displacement_bound, {"ball": BALL, "target_norm": 3.0}),
    "off_span_bound": (predictors.off_span_bound, {"ball": BALL, "target_norm": 3.0}),
    "earliest_exit": (
        predictors.earliest_exit,
        {"log_alpha": 50.0, "degree": 2, "ball": BALL, "target_norm": 1.0},
    ),
    "norm_bound": (
        predictors.norm_bound,
        {"n": 1, "degree": 2, "log_weight_decay": -100.0, "ball": BALL, "target_norm": 1.0, "size": 2.0},
    ),
    "kernel_svm": (programs.kernel_svm, {"X": X, "y": SIGNS, "gram": None, "model": None, "C": 1.0}),
    "kernel_svm of a Gram matrix": (programs.kernel_svm, {"gram": np.eye(2), "y": [1, -1], "C": 1.0}),
    "kernel_interpolant": (programs.kernel_interpolant, {"X": X[:2], "y": [1.0, 2.0], "ridge": 0.1}),
    "kernel_interpolant of a Gram matrix": (
        programs.kernel_interpolant,
        {"gram": np.eye(2), "y": [1.0, 2.0], "ridge": 0.0},
    ),
    "min_nuclear_norm": (programs.min_nuclear_norm, ENTRIES | {"symmetric": False}),
    "nuclear_regularised": (programs.nuclear_regularised, ENTRIES | {"symmetric": False, "weight_decay": 0.1}),
    "factorisation_point": (
        programs.factorisation_point,
        {"U": np.eye(2), "V": np.eye(2), "observed": [[0, 0]], "values": [1.0], "weight_decay": 0.1},
    ),
    "max_margin": (programs.max_margin, {"X": X, "y": SIGNS, "norm": "group", "groups": [0, 1], "model": None}),
    "kkt_residuals": (
        programs.kkt_residuals,
        {"theta": [3.0, 0.0], "outputs_q": [9.0], "gradients": [[6.0, 0.0]], "degree": 2},
    ),
    "rich_kkt": (
        programs.rich_kkt,
        {"model": NET, "theta": [1.0, 0.5, 0.0, 0.0], "X": [[1.0, 0.5]], "y": [1.0], "task": "regression"}
        | {"second_order": True},
    ),
    "loss_code": (lambda loss: losses.loss_code(loss), {"loss": "logistic"}),
    "log_loss": (losses.log_loss, {"code": 1, "q": [1.0, 2.0]}),
    "log_minus_derivative": (losses.log_minus_derivative, {"code": 0, "q": [1.0, 2.0]}),
    "margins": (losses.margins, {"f": [1.0, 2.0], "y": [1, -1]}),
    "log_losses": (losses.log_losses, {"loss": "squared", "f": [1.0, 2.0], "y": [0.5, -1.0]}),
    "log_derivatives": (losses.log_derivatives, {"loss": "logistic", "f": [1.0, 2.0], "y": [1, -1]}),
    "features": (kernels.features, {"model": NET, "X": X, "init": "theory", "seed": 0}),
    "ntk": (kernels.ntk, {"model": DEEP, "X": X, "other": None, "init": "he", "seed": 0}),
    "from_arrays": (
        tk.Dataset.from_arrays,
        {"X": X, "y": [0, 1, 1], "task": "multiclass", "classes": 2, "name": "mine"},
    ),
    "modular": (datasets.modular, {"p": 5, "operation": "addition", "fraction": 0.4, "seed": 0}),
    "matrix_completion": (
        datasets.matrix_completion,
        {"d": 5, "matrix": "random", "rank": 1, "fraction": 0.5, "symmetric": True, "seed": 0},
    ),
    "matrix_entries": (
        datasets.matrix_entries,
        {"entries": [[0, 1], [1, 1]], "values": [1.0, 2.0], "shape": (2, 2), "symmetric": True, "name": "mine"},
    ),
    "separated_gaussian": (datasets.separated_gaussian, {"n": 4, "d": 3, "gap": 2.0, "n_test": 2, "seed": 0}),
}

ALWAYS_WRONG = {
    "word": "x",
    "object": object(),
    "class": DiagonalNet,
    "complex": 1j,
    "complex array": np.ones((2, 2)) * 1j,
    "ragged": [[1.0], [1.0, 2.0]],
    "words": ["a", "b"],
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "function": len,
    "enormous in a list": [HUGE, 1],
    "empty array": np.zeros((0, 2)),
}
MAY_BE = {
    ("log_inverse_xlogx", "log_y"): {"empty array"},
    ("log_loss_ceiling", "log_tau"): {"empty array"},
    ("log_displacement_ceiling", "log_tau"): {"empty array"},
    ("log_loss_floor", "tau"): {"empty array"},
    ("log_loss_floor_printed", "tau"): {"empty array"},
    ("early_log_loss", "tau"): {"empty array"},
    ("log_loss", "q"): {"empty array"},
    ("log_minus_derivative", "q"): {"empty array"},
    ("from_arrays", "name"): {"word"},
    ("matrix_entries", "name"): {"word"},
    ("kernel_ball", "init"): {"ragged"},  # the models' own
    ("features", "init"): {"ragged"},
    ("ntk", "init"): {"ragged"},
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in GOOD for argument in GOOD[name][1]])
def test_what_is_never_right_is_refused(name: str, argument: str) -> None:
    call, good = GOOD[name]
    for which, wrong in ALWAYS_WRONG.items():
        if which in MAY_BE.get((name, argument), ()):
            continue
        with pytest.raises(tk.InputError) as caught:
            call(**good | {argument: wrong})
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_taken(name: str) -> None:
    """Else the refusals below would show nothing."""
    call, good = GOOD[name]
    found = call(**good)
    assert found is not None
    if isinstance(found, (float, np.ndarray)):
        assert not np.any(np.isnan(found))


def refused(name: str, **changes: Any) -> Any:
    call, good = GOOD[name]
    return lambda: call(**good | changes)


REFUSED = {
    "degree one": (refused("log_normaliser", degree=1), "degree: got 1; wanted an integer >= 2"),
    "degree fraction": (refused("transition_time", degree=2.5), "degree: got 2.5; wanted an integer >= 2"),
    "degree truth": (refused("log_loss_floor", degree=True), "degree: got True; wanted an integer >= 2"),
    "degree enormous": (refused("kernel_phase_end", degree=HUGE), "degree: got 1000.*; wanted an integer <= 1000000"),
    "degree of regression": (refused("early_log_loss", degree=1), "degree: got 1; wanted an integer >= 2"),
    "degree of the exit": (refused("earliest_exit", degree=0), "degree: got 0; wanted an integer >= 2"),
    "log alpha nan": (refused("window", log_alpha=NAN), "log_alpha: got nan; wanted a finite number"),
    "log alpha inf": (refused("log_loss_ceiling", log_alpha=INF), "log_alpha: got inf; wanted a finite number"),
    "log alpha huge": (refused("transition_time", log_alpha=1e308), r"log_alpha: got 1e\+308; wanted a finite number"),
    "log alpha word": (refused("log_normaliser", log_alpha="1"), "log_alpha: got '1'; wanted a finite number"),
    "log lambda": (refused("log_normaliser_printed", log_weight_decay=-INF), "log_weight_decay: got -inf; wanted"),
    "c nan": (refused("window", c=NAN), "c: got nan; wanted a finite number"),
    "no transition": (
        refused("transition_time", log_alpha=1.0, log_weight_decay=9.0),
        "log_alpha: got 1 with log_weight_decay = 9: log A = -7; wanted A = .* above 1",
    ),
    "separator zero": (refused("kernel_direction", separator=[0, 0]), "separator: got all zeros; wanted a multiple"),
    "separator length": (refused("kernel_direction", separator=[1.0]), "separator: got 1 entries; wanted 2"),
    "separator of a deep net": (refused("kernel_direction", model=DEEP), "model: got MLP.*; wanted a DiagonalNet"),
    "margin zero": (refused("kernel_direction", margin=0.0), "margin: got 0; wanted a finite number > 0"),
    "margin tiny": (refused("kernel_direction", margin=1e-320), "margin: got 9.99989e-321; wanted one whose inverse"),
    "margin of a ceiling": (refused("log_loss_ceiling", margin=-1.0), "margin: got -1; wanted a finite number > 0"),
    "times nan": (refused("log_loss_ceiling", log_tau=[0.0, NAN]), "log_tau: got nan; wanted numbers"),
    "times negative": (refused("log_loss_floor", tau=[0.0, -1.0]), "tau: got -1; wanted numbers >= 0"),
    "times of regression": (refused("early_log_loss", tau=-0.5), "tau: got -0.5; wanted numbers >= 0"),
    "y nan": (refused("log_inverse_xlogx", log_y=NAN), "log_y: got nan; wanted numbers"),
    "n zero": (refused("log_loss_floor", n=0), "n: got 0; wanted an integer >= 1"),
    "n fraction": (refused("early_log_loss", n=4.0), "n: got 4.0; wanted an integer >= 1"),
    "bound zero": (
        refused("log_displacement_ceiling", gradient_bound=0.0),
        "gradient_bound: got 0; wanted a finite number > 0",
    ),
    "radius zero": (refused("kernel_phase_end", radius=0.0), "radius: got 0; wanted a finite number > 0"),
    "nu zero": (refused("early_log_loss", nu=0.0), "nu: got 0; wanted a finite number > 0"),
    "targets negative": (
        refused("early_loss_rate", target_norm=-1.0),
        "target_norm: got -1; wanted a finite number >=",
    ),
    "log loss": (refused("early_loss_rate", log_loss=NAN), "log_loss: got nan; wanted a finite number"),
    "ball": (refused("displacement_bound", ball=(1.0, 2.0)), r"ball: got \(1.0, 2.0\); wanted a KernelBall"),
    "ball without rank": (refused("off_span_bound", ball=RANKLESS), "ball.nu: got 0; wanted a finite number > 0"),
    "ball of the norm": (refused("norm_bound", ball=None), "ball: got None; wanted a KernelBall"),
    "size": (refused("norm_bound", size=-1.0), "size: got -1; wanted a finite number >= 0"),
    "norm truth": (refused("rademacher_bound", norm=True), "norm: got True; wanted 1 or 2"),
    "norms": (refused("margin_error_bound", norm=np.array([1, 2])), r"norm: got array\(\[1, 2\]\); wanted 1 or 2"),
    "samples enormous": (refused("margin_error_bound", n=HUGE), "n: got 1000.*; wanted an integer <= 10"),
    "bound past the range": (
        refused("rademacher_bound", X=np.full((1, 9), 1e308)),
        r"X: got entries up to 1e\+308; wanted a bound in the float range",
    ),
    "long noise": (refused("label_noise_weights", time=1e9), r"time: got 1e\+09 with alpha = 1 and noise = 1; wanted"),
    "loud noise": (refused("label_noise_weights", noise=1e308), r"time: got 0.3 with .* noise = 1e\+308; wanted"),
    "alpha huge": (refused("label_noise_weights", alpha=1e200), r"alpha: got 1e\+200; wanted at most"),
    "model of a bound": (
        refused("curvature_bound", model="net"),
        "model: got 'net'; wanted a model of theorykit.models",
    ),
    "kinked model": (
        refused("feature_radius", model=MLP((2, 4, 1), "relu")),
        "model: got .*; wanted a diagonal net, a factorisation, or a net with one output and activations of power 2",
    ),
    "center length": (refused("curvature_bound", theta_bar=[1.0]), "theta_bar: got 1 entries; wanted 12, one for each"),
    "center nan": (refused("feature_radius", theta_bar=[1, 1, 1, NAN]), "theta_bar: got nan at index 3; wanted finite"),
    "inputs of a bound": (refused("output_bound", X=[[1.0]]), "X: got 1 features; wanted 2"),
    "features that stay": (refused("feature_radius", X=[[0.0, 0.0]]), "X: got features that do not move"),
    "negative radius": (refused("curvature_bound", radius=-1.0), "radius: got -1; wanted a finite number >= 0"),
    "two outputs": (
        refused("kernel_ball", model=MLP((2, 4, 2), "z^2"), init="twin"),
        "model: got 2 outputs; wanted .* with one output",
    ),
    "huge kernel": (refused("kernel_ball", X=[[1e308, 1e308]]), "X: got inputs with a tangent kernel beyond the float"),
    "no price": (refused("kernel_svm", C=0.0), "C: got 0; wanted a finite number >= 9.33264e-302"),
    "subnormal price": (refused("kernel_svm", C=1e-320), "C: got 9.99989e-321; wanted a finite number >= 9.33264e-302"),
    "low price": (refused("kernel_svm", C=1e-300), "C: got 1e-300; wanted a price from .* for features of this size"),
    "high price": (
        refused("kernel_svm", X=[[1.0], [1.0]], y=[1, -1], C=1e308),
        r"C: got 1e\+308; wanted a price from 2.96e-272 to 8.18e\+149 for features of this size",
    ),
    "price of different sizes": (
        refused("kernel_svm", X=[[1e-149, 0.0], [0.0, 1e200]], y=[1, -1], C=1.0),
        "C: got 1 with samples whose sizes differ by a factor of",
    ),
    "tiny features": (refused("kernel_svm", X=1e-200 * X), r"X: got samples of size 2\^-66.; wanted 2\^-500 to 2\^500"),
    "huge features": (refused("kernel_svm", X=1e200 * X), r"X: got samples of size 2\^66.; wanted 2\^-500 to 2\^500"),
    "ridge huge": (refused("kernel_interpolant", ridge=1e308), r"ridge: got 1e\+308; wanted at most .* for 2 samples"),
    "ridge of a Gram matrix": (
        refused("kernel_interpolant of a Gram matrix", ridge=1e200),
        r"ridge: got 1e\+200; wanted at most .* for 2 samples",
    ),
    "targets huge": (
        refused("kernel_interpolant of a Gram matrix", y=[1e308, 1e308]),
        r"y: got targets of size 1e\+308 with features of sizes .*; wanted targets whose coefficients",
    ),
    "targets subnormal": (refused("kernel_interpolant", y=[1e-320, 0.0]), "y: got targets of size 1e-320"),
    "symmetric word": (refused("min_nuclear_norm", symmetric="no"), "symmetric: got 'no'; wanted True or False"),
    "matrix enormous": (refused("min_nuclear_norm", shape=HUGE), "shape: got 1000.* GiB; wanted what fits into"),
    "matrix too large": (refused("nuclear_regularised", shape=2**63), "shape: got 92233.* GiB; wanted what fits into"),
    "decay subnormal": (
        refused("nuclear_regularised", weight_decay=1e-320),
        "weight_decay: got 9.99989e-321; wanted at least",
    ),
    "values huge": (
        refused("nuclear_regularised", values=[1e200, 0.0]),
        r"values: got values up to 1e\+200; wanted sizes",
    ),
    "values of a point": (
        refused("factorisation_point", values=[1e-200]),
        "values: got values up to 1e-200; wanted sizes",
    ),
    "measurements huge": (
        lambda: programs.min_nuclear_norm(np.full((1, 2, 2), 1e200), [1.0]),
        r"observed: got a matrix of size 1e\+200 \(observation 0\); wanted sizes",
    ),
    "model class": (
        refused("max_margin", norm=2, groups=None, model=DiagonalNet),
        "model: got the class DiagonalNet; wanted a homogeneous model",
    ),
    "far outputs": (
        refused("kkt_residuals", theta=[1e-320, 0.0]),
        "outputs_q: got outputs up to 9 with theta of size .*; wanted those of a homogeneous model",
    ),
    "tiny gradients": (
        refused("kkt_residuals", gradients=[[1e-320, 0.0]]),
        "gradients: got entries up to 9.99989e-321",
    ),
    "no theta": (refused("rich_kkt", theta=[]), "theta: got the zero vector; wanted a direction"),
    "tiny inputs": (refused("rich_kkt", X=[[1e-320, 0.0]]), "X: got inputs with outputs or gradients past the float"),
    "loss code": (refused("log_loss", code=2), "code: got 2; wanted an integer <= 1"),
    "loss typo": (refused("log_losses", loss="squred"), "loss: got 'squred'; wanted one of .*did you mean 'squared'"),
    "one output": (refused("log_derivatives", f=1.0), r"f: got outputs of shape \(\); wanted shape \(n,\)"),
    "targets nan": (refused("log_losses", y=[1.0, NAN]), "y: got targets that are not finite; wanted finite numbers"),
    "features huge": (
        refused("features", X=[[1e308, 1e308]]),
        "X: got inputs whose features or kernel leave the float",
    ),
    "classes enormous": (refused("from_arrays", classes=HUGE), "classes: got 1000.*; wanted an integer <= 9007"),
    "rank enormous": (refused("matrix_completion", rank=HUGE), "rank: got 1000.* GiB; wanted what fits into"),
    "gap": (refused("separated_gaussian", gap=1e308), r"gap: got 1e\+308; wanted a finite number >= 0 and <= 1e\+38"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(tk.InputError) as caught:
        call()
    assert re.match(message, str(caught.value)), str(caught.value)


ALLOWED = {
    "log lambda far down": ("transition_time", {"log_weight_decay": -1e4}),
    "log alpha far up": ("kernel_phase_end", {"log_alpha": 1e4}),
    "log alpha far down": ("log_loss_ceiling", {"log_alpha": -1e4}),
    "other side of the window": ("log_normaliser", {"c": -0.3}),
    "large A": ("log_loss_ceiling", {"log_alpha": 1e99, "degree": 10**6}),
    "small A": ("log_displacement_ceiling", {"log_weight_decay": 1e4}),
    "large lambda": ("log_loss_floor_printed", {"log_weight_decay": 1e4}),
    "large radius": ("kernel_phase_end", {"radius": 1e308}),
    "start": ("log_displacement_ceiling", {"log_tau": [-INF, -1e4]}),
    "end": ("log_loss_ceiling", {"log_tau": [1e4, INF]}),
    "end of the floor": ("log_loss_floor", {"tau": [1e308, INF]}),
    "many samples": ("log_loss_floor", {"n": HUGE}),
    "no targets": ("early_log_loss", {"target_norm": 0.0}),
    "nothing to fit": ("earliest_exit", {"target_norm": 0.0}),
    "large ball": ("norm_bound", {"log_weight_decay": 1e4, "target_norm": 1e308}),
    "tiny delta": ("margin_error_bound", {"delta": 1e-320}),
    "tiny alpha": ("label_noise_weights", {"alpha": 1e-300}),
    "no noise": ("label_noise_weights", {"noise": 0.0, "time": 1e308}),
    "curvature past the range": ("curvature_bound", {"radius": 1e308}),
    "huge margin": ("feature_radius", {"margin": 1e308}),
    "tiny margin": ("feature_radius", {"margin": 1e-320}),
    "single precision": ("rademacher_bound", {"X": np.eye(3, dtype=np.float32)}),
    "huge decay": ("nuclear_regularised", {"weight_decay": 1e308}),
    "huge price": ("kernel_svm", {"C": 1e308}),
    "cheap": ("kernel_svm", {"C": 1e-250}),
    "tiny ridge": ("kernel_interpolant", {"ridge": 1e-320}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ALLOWED)
def test_what_can_be_computed_is_allowed(name: str) -> None:
    which, changes = ALLOWED[name]
    call, good = GOOD[which]
    found = call(**good | changes)
    if isinstance(found, (float, np.ndarray)):
        assert not np.isnan(found).any()


def test_displacement_at_the_very_start_is_linear_in_time() -> None:
    """|delta| <= G alpha^(L-2) tau/lambda, up to the factor 2 of adding both parts of the loss bound."""
    log_tau = np.array([-1e4, -1e3, -100.0])
    found = predictors.log_displacement_ceiling(log_tau, 20.0, -20.0, 3, 1.0, 3.0)
    excess = found - (math.log(3.0) + 20.0 + 20.0 + log_tau)
    assert (excess > 0.0).all()
    assert (excess < 1.0).all()


def test_bounds_do_not_lose_small_or_large_inputs() -> None:
    assert predictors.rademacher_bound(1e-200 * np.eye(4), norm=2) == pytest.approx(0.5e-200)
    assert predictors.rademacher_bound(1e200 * np.eye(4), norm=2) == pytest.approx(0.5e200)
    lowest = np.array([[-128, 1]], dtype=np.int8)  # has no negative in its own type
    assert predictors.output_bound(NET, lowest).tolist() == [128.0]
    assert predictors.curvature_bound(NET, NET.direction(), lowest, 0.0) == pytest.approx(256.0)


def test_radius_of_a_diagonal_net_keeps_its_digits() -> None:
    """(c^p + g)^(1/p) - c for small g is g/(p c^(p-1))."""
    net = DiagonalNet(2, degree=4)
    found = predictors.feature_radius(net, net.direction(), [[1.0, -2.0]], 1e-12)
    assert found == pytest.approx(0.5e-12 / (4 * 2.0) / 3.0, rel=2e-9)


@pytest.mark.parametrize("model", [MLP((2, 4, 4, 4, 1), "z^3"), CNN((5,), (4,), 3, "z^2", window=3)])
@pytest.mark.parametrize("margin", [1e-200, 1.0, 1e200])
def test_radius_of_a_deep_net_has_the_curvature_it_asks_for(model: Any, margin: float) -> None:
    """Though the curvature bound of the first bracket leaves the float range."""
    inputs = np.ones((2, 2 if isinstance(model, MLP) else 5))
    theta = model.direction("he", 1)
    radius = predictors.feature_radius(model, theta, inputs, margin)
    assert radius * predictors.curvature_bound(model, theta, inputs, radius) == pytest.approx(0.5 * margin, rel=1e-6)


def test_a_factorisation_has_a_radius_for_every_margin() -> None:
    model = MatrixFactorization(2)
    for margin in (1e-300, 1e300):
        found = predictors.feature_radius(model, model.direction(), [[0, 1]], margin)
        assert found == pytest.approx(0.5 * margin, rel=1e-6)


@pytest.mark.parametrize("alpha", [1e-100, 1e-8, 1.0, 1e8, 1e20])
@pytest.mark.parametrize("time", [0.0, 1.0, 30.0])
def test_label_noise_interpolates_at_every_scale(alpha: float, time: float) -> None:
    """The solution has one non-zero entry, where the limit is degenerate."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((6, 12))
    y = points[:, 3]
    w = predictors.label_noise_weights(points, y, alpha=alpha, time=time)
    assert points @ w == pytest.approx(y, abs=1e-10)
    if time == 0.0 and alpha >= 1e8:  # the kernel regime: least Euclidean norm
        assert w == pytest.approx(np.linalg.pinv(points) @ y, abs=1e-9)
    if time == 30.0 or alpha == 1e-100:
        assert w == pytest.approx(np.eye(12)[3], abs=1e-9)


def test_label_noise_does_not_depend_on_units() -> None:
    points, y = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]]), np.array([2.0, 1.0])
    plain = predictors.label_noise_weights(points, y, alpha=0.5, time=0.1)
    scaled = predictors.label_noise_weights(1e90 * points, 1e-60 * y, alpha=0.5e-75, time=0.1e-180)
    assert scaled == pytest.approx(1e-150 * plain, rel=1e-9)


@pytest.mark.parametrize("price", [1e20, 1e150, 1e308])
def test_a_dear_soft_margin_is_the_hard_one(price: float) -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((6, 4))
    y = np.sign(points @ rng.standard_normal(4))
    hard, soft = programs.kernel_svm(points, y), programs.kernel_svm(points, y, C=price)
    assert soft.w == pytest.approx(hard.w, rel=1e-9)
    assert soft.distance_bound < 1e-6 * hard.norm
    assert soft.certificate.gap < 1e-9


@pytest.mark.parametrize("price", [1e-250, 1e-100, 1e-10])
def test_a_cheap_soft_margin_is_the_sum_of_all_samples(price: float) -> None:
    found = programs.kernel_svm(X, SIGNS, C=price)
    assert found.w == pytest.approx(price * X.sum(axis=0), rel=1e-12)
    assert found.dual == pytest.approx(np.full(3, price), rel=0.0, abs=0.0)
    assert found.certificate.gap < 1e-9


def test_a_huge_ridge_leaves_what_one_step_gives() -> None:
    found = programs.kernel_interpolant(X[:2], [1.0, 2.0], ridge=1e100)
    assert found.w == pytest.approx(np.array([1.0, 2.0]) @ X[:2] / 2e100, rel=1e-12)


def test_decay_that_outweighs_every_entry_leaves_zero() -> None:
    """||(2/n) sum_k y_k A_k||_op <= lambda/2 makes W = 0 optimal, with the residuals as its proof."""
    for decay in (4.001, 1e10, 1e308):
        found = programs.nuclear_regularised([[0, 0], [1, 1]], [1.0, 2.0], weight_decay=decay, shape=2)
        assert not found.W.any()
        assert found.certificate.gap < 1e-12
        assert found.certificate.verify([[0, 0], [1, 1]], [1.0, 2.0])
    just_below = programs.nuclear_regularised([[0, 0], [1, 1]], [1.0, 2.0], weight_decay=3.99, shape=2)
    assert just_below.W[1, 1] > 1e-4


def test_a_soft_margin_that_a_solver_calls_infeasible_is_not_called_inseparable(monkeypatch: Any) -> None:
    monkeypatch.setattr("theorykit.programs.svm.solve_statement", lambda problem, solver: (None, None, "infeasible", 0))
    with pytest.raises(programs.SolverError, match="infeasible"):
        programs.kernel_svm(X, SIGNS, C=1.0, solver="CLARABEL")


def test_predictions_past_the_float_range_are_refused() -> None:
    machine = programs.kernel_svm(gram=np.eye(2), y=[1, -1])
    with pytest.raises(tk.InputError, match="X: got points with outputs past the float range"):
        machine.decision([[1e308, -1e308]])
