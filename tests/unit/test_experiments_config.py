"""TOML files, presets, profiles and overrides: what they become, and one clear line for everything wrong with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from theorykit._numerics.errors import InputError
from theorykit.experiments import load_experiment, preset_names

GOOD = """
[data]
kind = "sparse_sign"
n = 8
d = 40
[problem]
alpha = 128
weight_decay = 1e-3
[profile.quick.data]
d = 20
"""


def written(folder, text):
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_are_filled_in(tmp_path):
    experiment = load_experiment(written(tmp_path, GOOD))
    assert (experiment.name, experiment.profile) == ("mine", "paper")
    assert experiment.settings == {
        "data": {"kind": "sparse_sign", "n": 8, "d": 40, "k": 3, "n_test": 0, "seed": 0},
        "model": {"kind": "diagonal", "degree": 2},
        "problem": {"loss": "logistic", "alpha": 128.0, "weight_decay": 1e-3, "init": "theory"},
        "flow": {"s_end": 2.5, "rtol": 1e-6, "points": 200},
        "predictors": {"kernel": True, "rich": True, "c": 0.3},
        "events": {},
    }


def test_profile_then_overrides(tmp_path):
    file = written(tmp_path, GOOD)
    assert load_experiment(file, profile="quick").settings["data"]["d"] == 20
    both = load_experiment(file, profile="quick", overrides=["data.d=10", "events.test_loss=[0.5]", "data.n_test=3"])
    assert both.settings["data"] == {"kind": "sparse_sign", "n": 8, "d": 10, "k": 3, "n_test": 3, "seed": 0}
    assert both.settings["events"] == {"test_loss": [0.5]}
    assert load_experiment(file, profile="paper").settings["data"]["d"] == 40


def test_an_override_displaces_the_key_it_excludes(tmp_path):
    settings = load_experiment(written(tmp_path, GOOD), overrides=["problem.log_alpha=20", "flow.tau_end=3.0"]).settings
    assert settings["problem"]["log_alpha"] == 20.0
    assert "alpha" not in settings["problem"]
    assert settings["flow"]["tau_end"] == 3.0
    assert "s_end" not in settings["flow"]


def test_predictors_follow_the_theory(tmp_path):
    file = written(tmp_path, GOOD)
    cubic = load_experiment(file, overrides=["model.degree=3"]).settings["predictors"]
    assert (cubic["kernel"], cubic["rich"]) == (True, False)
    squared = load_experiment(file, overrides=["problem.loss='squared'"]).settings["predictors"]
    assert (squared["kernel"], squared["rich"]) == (True, True)


def test_paths_are_relative_to_the_file(tmp_path):
    text = GOOD.replace('"sparse_sign"\nn = 8\nd = 40', '"npz"\npath = "points.npz"').split("[profile")[0]
    assert load_experiment(written(tmp_path, text)).settings["data"]["path"] == str(tmp_path / "points.npz")


def test_presets_have_their_full_sizes():
    figures = {"fig-1a", "fig-1b", "fig-2a", "fig-2b", "fig-2c", "fig-3", "fig-4"}
    assert figures | {"digits", "digits-cnn", "digits-diagonal"} <= set(preset_names())
    for name in ("fig-2a", "fig-4"):
        full = load_experiment(name, profile="paper").settings
        assert full["data"] == {"kind": "modular", "p": 97, "operation": "addition", "fraction": 0.4, "seed": 0}
        assert (full["model"]["widths"], full["model"]["bias"]) == ([1024], True)
    first = load_experiment("fig-1a").settings
    assert first["data"] == {"kind": "sparse_sign", "n": 256, "d": 100_000, "k": 3, "n_test": 10_000, "seed": 0}
    second = load_experiment("fig-1b").settings
    assert second["data"]["kind"] == "separated_gaussian"
    assert (second["data"]["n"], second["data"]["d"], second["data"]["gap"]) == (32, 100_000, 25.0)
    for settings in (first, second):
        assert settings["problem"] == {"loss": "logistic", "alpha": 128.0, "weight_decay": 1e-3, "init": "unit"}
        assert settings["flow"]["s_end"] == 2.5


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_a_smaller_quick_profile(name):
    assert load_experiment(name, profile="quick").settings != load_experiment(name, profile="paper").settings


def test_matrix_completion_starts_without_noise_by_one_override():
    noisy, exact = (load_experiment("fig-3", overrides=which) for which in ([], ["problem.init=theory"]))
    assert (noisy.settings["problem"]["init"], noisy.settings["problem"]["sigma"]) == ("perturbed", 1e-3)
    assert "sigma" not in exact.settings["problem"]


def test_nets_of_millions_of_gradients_are_quick_unless_told_otherwise():
    for name in ("fig-2a", "fig-2b", "fig-2c", "fig-4", "digits", "digits-cnn"):
        assert load_experiment(name).profile == "quick"
    alphas = [member.settings["problem"]["alpha"] for member in load_experiment("fig-2b").members]
    assert alphas == [2.0, 4.0, 8.0, 16.0]


def test_the_digits_example_is_the_preset():
    example = Path(__file__).parents[2] / "examples" / "digits.toml"
    for profile in ("paper", "quick"):
        preset = load_experiment("digits-diagonal", profile=profile)
        assert load_experiment(example, profile=profile).settings == preset.settings


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data\n", r"mine.toml: .*line 1"),
        ("a = 1\na = 2\n", r"mine.toml: .*line 2"),
        ("", r"data: got no \[data\] table; wanted one with kind = one of sparse_sign"),
        (GOOD + "[modle]\n", "table: got 'modle'; wanted one of .*did you mean 'model'"),
        ("seed = 1\n" + GOOD, "table: got 'seed'"),
        ("data = 3\n", r"data: got 3; wanted a table: \[data\]"),
        (replaced('kind = "sparse_sign"\n', ""), "data.kind: got None; wanted one of sparse_sign"),
        (replaced("sparse_sign", "sparse_sing"), "data.kind: got 'sparse_sing'.*did you mean 'sparse_sign'"),
        (replaced('"sparse_sign"', "3"), "data.kind: got 3"),
        (replaced("n = 8", "nn = 8"), "data: got 'nn'; wanted one of kind, n, d, n_test, seed, k .did you mean 'n'"),
        (replaced("n = 8\n", ""), "data.n: got nothing"),
        (replaced("n = 8", "n = 0"), "data.n: got 0; wanted an integer >= 1"),
        (replaced("n = 8", "n = 8.0"), "data.n: got 8.0"),
        (replaced("n = 8", 'n = "8"'), "data.n: got '8'"),
        (replaced("alpha = 128", "alpha = 128\nlog_alpha = 3"), "problem: got alpha and log_alpha; wanted one of"),
        (replaced("alpha = 128\n", ""), "problem: got neither; wanted one of alpha and log_alpha"),
        (replaced("alpha = 128", "alpha = true"), "problem.alpha: got True"),
        (replaced("alpha = 128", "alpha = nan"), "problem.alpha: got nan"),
        (replaced("alpha = 128", "alpha = 0"), "problem.alpha: got 0; wanted a finite number > 0"),
        (replaced("alpha = 128", "alpha = 0.5"), "flow: got no end; wanted tau_end, since s needs alpha > 1"),
        (replaced("alpha = 128", "alpha = 1") + "[flow]\ns_end = 1\n", "flow.s_end: got 1 with alpha <= 1"),
        (replaced("= 1e-3", "= -1e-3"), "problem.weight_decay: got -0.001; wanted a finite number >= 0"),
        (replaced("= 1e-3", "= 0"), "flow: got no end; wanted log_t_end, since weight_decay = 0"),
        (replaced("= 1e-3", "= 0") + "[flow]\ntau_end = 1\n", "flow.tau_end: got 1 with weight_decay = 0"),
        (replaced("= 1e-3", "= 1e-3\nlog_weight_decay = -3.0"), "problem: got weight_decay and log_weight_decay"),
        (replaced("= 1e-3", '= 1e-3\nloss = "logistik"'), "problem.loss: got 'logistik'.*did you mean 'logistic'"),
        (replaced("= 1e-3", '= 1e-3\ninit = "zero"'), "problem.init: got 'zero'; wanted one of theory, unit"),
        (GOOD + "[model]\ndegree = 1\n", "model.degree: got 1; wanted an integer >= 2"),
        (GOOD + "[model]\ndegree = 2.5\n", "model.degree: got 2.5"),
        (GOOD + '[model]\nkind = "mpl"\n', "model.kind: got 'mpl'.*did you mean 'mlp'"),
        (GOOD + '[model]\nkind = "mlp"\nwidths = [0]\n', "model.widths: got 0; wanted an integer >= 1"),
        (GOOD + '[model]\nkind = "mlp"\nwidths = []\n', "model.widths: got \\[\\]; wanted a list of integers"),
        (GOOD + '[model]\nkind = "cnn"\n', "model.image: got nothing; wanted the sides"),
        (GOOD + '[model]\nkind = "matrix_factorization"\n', "model.kind: .*wanted diagonal or linear or mlp or cnn"),
        (GOOD + '[model]\nkind = "mlp"\n[predictors]\nrich = true\n', "predictors.rich: got true; wanted false"),
        (GOOD + '[model]\nkind = "mlp"\n[events]\ncos_kernel = [0.9]\n', "events.cos_kernel: got a mlp model"),
        (GOOD + "[family]\nvalues = [1]\n", "family.key: got nothing"),
        (GOOD + "[family]\nkey = 'alpha'\nvalues = [1]\n", "family.key: got 'alpha'; wanted table.key"),
        (GOOD + "[family]\nkey = 'problem.alpha'\nvalues = []\n", "family.values: .*wanted a list of 1 to"),
        (GOOD + "[family]\nkey = 'problem.alpha'\nvalues = [2, 2]\n", "family.values: .*wanted different values"),
        (GOOD + "[family]\nkey = 'problem.alpha'\nvalues = [2, -1]\n", "family: problem.alpha: got -1"),
        (GOOD + "[about]\nauthor = 'me'\n", "about: got 'author'; wanted one of title, profile, takes"),
        ("[data]\nkind = 'modular'\np = 1\n", "data.p: got 1; wanted an integer >= 2"),
        ("[data]\nkind = 'modular'\n[problem]\nalpha = 2\nweight_decay = 1\n", "model.kind: .*wanted mlp, which reads"),
        ("[data]\nkind = 'matrix_completion'\nfraction = 0\n", "data.fraction: got 0; wanted a finite number > 0"),
        ("[data]\nkind = 'matrix_entries'\n", "data.entries: got nothing"),
        ("[data]\nkind = 'matrix_entries'\npath = 'a'\nentries = []\n", "data: got path and entries"),
        ("[data]\nkind = 'matrix_entries'\npath = 'a'\n", "data.shape: got nothing"),
        (GOOD + "[flow]\npoints = 1\n", "flow.points: got 1; wanted an integer >= 2"),
        (GOOD + "[flow]\nrtol = 0\n", "flow.rtol: got 0"),
        (GOOD + "[flow]\nrtol = 0.5\n", "flow.rtol: got 0.5; wanted a finite number >= 1e-12 and <= 0.03"),
        (GOOD + "[flow]\nrtol = 1e-13\n", "flow.rtol: got 1e-13"),
        (GOOD + "[flow]\ns_end = 5e-324\n", "flow.s_end: got 4.94066e-324"),
        (GOOD + "[flow]\ns_end = 1e10\n", "flow.s_end: got 1e.10; wanted .* <= 1000"),
        (GOOD + "[flow]\ntau_end = 1e308\n", "flow.tau_end: got 1e.308; wanted .* <= 4852"),
        (replaced("alpha = 128", "log_alpha = 1e6"), "flow.s_end: got 2.5; wanted .* <= 0.1"),
        (GOOD + "[flow]\npoints = 1000000000\n", "flow.points: got 1000000000; wanted an integer <= 100000"),
        (GOOD + "[model]\ndegree = 100000\n", "model.degree: got 100000; wanted an integer <= 100"),
        (replaced("alpha = 128", "alpha = 1" + "0" * 400), "problem.alpha: got 1000.*; wanted a finite number"),
        (replaced("n = 8", "n = 1" + "0" * 400), "data.n: got 1000"),
        (replaced("n = 8", "n = 1" + "0" * 5000), "mine.toml: .*; wanted a TOML file"),
        (GOOD + "[flow]\ns_end = -1\n", "flow.s_end: got -1"),
        (GOOD + "[flow]\ns_end = 1\ntau_end = 2\n", "flow: got s_end and tau_end"),
        (GOOD + '[predictors]\nrich = "yes"\n', "predictors.rich: got 'yes'; wanted true or false"),
        (GOOD + "[predictors]\nc = 1.5\n", "predictors.c: got 1.5; wanted a number between 0 and 1"),
        (GOOD + "[model]\ndegree = 3\n[predictors]\nrich = true\n", "predictors.rich: got true; wanted false"),
        (GOOD + "[events]\ntest_acuracy = [0.5]\n", "events: got 'test_acuracy'.*did you mean 'test_accuracy'"),
        (GOOD + "[events]\ntest_accuracy = 0.5\n", "events.test_accuracy: got 0.5; wanted a list of levels"),
        (GOOD + '[events]\ntest_accuracy = ["a"]\n', "events.test_accuracy: got 'a'"),
        (GOOD + "[profile.full.data]\ndd = 3\n", "profile.full.data: got 'dd'; wanted one of"),
        (GOOD + "[profile.full]\ndata = 3\n", "profile.full.data: got 3; wanted a table"),
        (GOOD + "[profile.paper.data]\nd = 3\n", "profile.paper: got a table; wanted another name"),
        ("[data]\nkind = 'digits'\nclasses = 3\n", "data.classes: got 3; wanted two different digits"),
        ("[data]\nkind = 'npz'\n", "data.path: got nothing"),
        ("[data]\nkind = 'npz'\npath = ''\n", "data.path: got ''"),
        ("[data]\nkind = 'csv'\npath = 'a'\nlabel = -1\n", "data.label: got -1"),
        ("[data]\nkind = 'npz'\npath = 'a'\ntask = 'regress'\n", "data.task: got 'regress'.*'regression'"),
        (
            "[data]\nkind = 'npz'\npath = 'a'\ntask = 'regression'\n[problem]\nalpha = 3\nweight_decay = 1\n",
            "problem.loss: got 'logistic'; wanted 'squared'",
        ),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_experiment(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["data.d", "data.d=", "d=3", "", "da ta.d=1", "[data", 1])
def test_bad_overrides_are_named(tmp_path, override):
    with pytest.raises(InputError, match=r"set: got .*wanted table.key=value"):
        load_experiment(written(tmp_path, GOOD), overrides=[override])


def test_what_is_no_toml_value_is_a_text(tmp_path):
    settings = load_experiment(
        written(tmp_path, GOOD), overrides=["problem.loss=squared", "problem.init = unit"]
    ).settings
    assert (settings["problem"]["loss"], settings["problem"]["init"]) == ("squared", "unit")
    with pytest.raises(InputError, match=r"data.d: got '1 2'; wanted an integer"):
        load_experiment(written(tmp_path, GOOD), overrides=["data.d=1 2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path_or_preset": None}, "experiment: got None; wanted a TOML file"),
        ({"path_or_preset": 1}, "experiment: got 1"),
        ({"path_or_preset": ""}, "experiment: got ''"),
        ({"path_or_preset": "a\0b.toml"}, "experiment: got "),
        ({"path_or_preset": "a" * 300 + ".toml"}, "experiment: .*File name too long"),
        ({"path_or_preset": "/dev/zero"}, "experiment: got /dev/zero .a device or a pipe."),
        ({"profile": 1}, "profile: got 1; wanted one of paper, quick"),
        ({"overrides": 1}, "overrides: got 1"),
        ({"overrides": "data.d=3"}, "overrides: got 'data.d=3'; wanted a list"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        load_experiment(**{"path_or_preset": "fig-1a"} | arguments)


def test_bounds_are_those_of_the_flow():
    from theorykit.experiments import schema
    from theorykit.flow import api

    assert (schema.TIGHTEST, schema.LOOSEST) == (api.TIGHTEST, api._LOOSEST_STREAMED)


def test_a_file_without_profiles_says_so(tmp_path):
    text = GOOD.split("[profile")[0]
    with pytest.raises(InputError, match=r"profile: got 'quick'; mine.toml has no \[profile.quick\]"):
        load_experiment(written(tmp_path, text), profile="quick")
    assert load_experiment(written(tmp_path, text)).source == "file"
    assert load_experiment("fig-1a").source == "preset"


def test_overrides_are_checked_like_the_file(tmp_path):
    with pytest.raises(InputError, match="data: got 'dd'"):
        load_experiment(written(tmp_path, GOOD), overrides=["data.dd=3"])
    with pytest.raises(InputError, match="table: got 'dat'"):
        load_experiment(written(tmp_path, GOOD), overrides=["dat.d=3"])


def test_names_that_are_nowhere(tmp_path):
    with pytest.raises(InputError, match=r"experiment: got 'fig-1'; wanted one of .*did you mean 'fig-1"):
        load_experiment("fig-1")
    with pytest.raises(InputError, match="No such file"):
        load_experiment(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="Is a directory"):
        load_experiment(tmp_path)
    with pytest.raises(InputError, match=r"profile: got 'quik'; wanted one of paper, quick .did you mean 'quick'"):
        load_experiment(written(tmp_path, GOOD), profile="quik")
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(InputError, match="a TOML file in UTF-8"):
        load_experiment(tmp_path / "latin.toml")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(InputError, match="a TOML file in UTF-8"):
        load_experiment(tmp_path / "deep.toml")


def test_loading_is_light():
    code = "import sys, theorykit.experiments as e; e.load_experiment('fig-1a'); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("cvxpy", "numba", "sklearn", "matplotlib", "scipy.integrate"):
        assert f"'{heavy}'" not in loaded
