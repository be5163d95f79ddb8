"""What a run writes, and what it says when it cannot run."""

import csv
import json
import math
import os
import types

import numpy as np
import pytest

from theorykit import flow, programs
from theorykit._numerics.errors import InputError, NotSeparableError
from theorykit.datasets import sparse_sign
from theorykit.experiments import Experiment, load_experiment, run_experiment

COLUMNS = [
    *("t", "log_t", "tau", "s", "train_loss", "log_train_loss", "test_loss", "train_accuracy", "test_accuracy"),
    *("norm", "margin", "cos_kernel", "cos_rich"),
]
SMALL = ["data.n=12", "data.d=60", "data.n_test=40", "flow.points=9"]


def faked(monkeypatch):
    """Put a flow with known numbers, some beyond the float range, in place of the real one; return the calls made."""
    calls = []
    s = np.array([0.05, 0.5, 0.7, 1.0, 1.3, 2.5])
    stats = {
        "train_loss": np.array([0.7, 1e-200, 1e-310, 0.0, 1e-10, 1e-9]),
        "log_train_loss": np.array([-0.3, -460.0, -713.8, -5000.0, -23.0, -20.7]),
        "train_accuracy": np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        "test_loss": np.array([0.7, 0.6, 0.5, 0.4, 0.3, 0.2]),
        "test_accuracy": np.array([0.5, 0.5, 0.6, 0.9, 1.0, 1.0]),
        "norm": np.array([128.0, 1e301, np.inf, 3.0, 2.0, 1.0]),
        "margin": np.array([np.nan, 0.1, 0.1, 0.2, 0.2, 0.2]),
        "cos_kernel": np.linspace(1.0, 0.5, 6),
        "cos_rich": np.linspace(0.5, 1.0, 6),
    }

    def gradient_flow(problem, **arguments):
        calls.append(arguments)
        return types.SimpleNamespace(
            tau=s * problem.log_alpha,
            s=s,
            t=np.array([1e-301, 1.0, 10.0, 1e300, 2e300, np.inf]),
            log_t=np.array([-693.1, 0.0, 2.3, 690.8, 691.5, 1e4]),
            stats=stats,
            errors={"margin": np.array([np.nan, 0.0, 1e-9, 2e-9, 0.0, 0.0])},
            events=(
                flow.Event("test_accuracy", 0.6, 1, tau=1e-15, s=1e-16, log_t=-26.0, error=1e-14),
                flow.Event("test_accuracy", 0.6, 1, tau=5.0, s=1.0, log_t=11.9, error=1e-9),
            ),
            diagnostics={"steps": np.int64(3)},
            status="reached_end",
            message="reached the end",
            wall_s=0.25,
        )

    monkeypatch.setattr(flow, "gradient_flow", gradient_flow)
    return calls


def table(folder):
    with open(folder / "trajectory.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def test_table_is_empty_exactly_where_plain_numbers_end(monkeypatch, tmp_path):
    faked(monkeypatch)
    run_experiment(load_experiment("fig-1a", overrides=SMALL), out=tmp_path)
    rows = table(tmp_path)
    assert [row["t"] for row in rows] == ["", "1", "10", "1.0000000000000001e+300", "", ""]
    assert [row["train_loss"] != "" for row in rows] == [True, True, False, False, True, True]
    assert [row["norm"] for row in rows] == ["128", "", "", "3", "2", "1"]
    assert [row["margin"] for row in rows][:2] == ["", "0.10000000000000001"]
    assert rows[0]["train_accuracy"] == "0"
    assert all(row[name] != "" for row in rows for name in ("log_t", "tau", "s", "log_train_loss"))
    assert float(rows[3]["log_train_loss"]) == -5000.0


def test_summary_holds_the_moments(monkeypatch, tmp_path):
    faked(monkeypatch)
    result = run_experiment(load_experiment("fig-1a", overrides=SMALL), out=tmp_path)
    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    assert summary["preset"] == "fig-1a"
    assert summary["wall_s"] == 0.25
    assert summary["wall_total_s"] > 0
    assert summary["events"] == [
        {"name": "test_accuracy", "level": 0.6, "direction": 1, "tau": 5.0, "s": 1.0, "log_t": 11.9, "error": 1e-9}
        | {"log_t_error": None}
    ]
    assert summary["diagnostics"] == {"steps": 3}
    assert {name: moment["s"] for name, moment in summary["moments"].items()} == {
        "start": 0.05,
        "early": 0.7,
        "late": 1.3,
        "end": 2.5,
    }
    assert summary["moments"]["early"]["test_accuracy"] == 0.6
    assert summary["errors"] == {"margin": 2e-9}
    assert summary["moments"]["end"]["cos_kernel"] == 0.5
    assert summary["settings"]["data"]["n"] == 12
    assert summary["confirmed"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in result.files)


def test_flow_is_asked_for_what_the_file_says(monkeypatch):
    calls = faked(monkeypatch)
    overrides = [*SMALL, "problem.log_alpha=2.0", "flow.tau_end=3.0", "flow.points=3", "events.cos_rich=[0.9]"]
    result = run_experiment(load_experiment("fig-1a", overrides=overrides), progress=print, confirm=True)
    (asked,) = calls
    assert asked["tau_end"] == 3.0
    assert "s_end" not in asked
    assert asked["rtol"] == 1e-6
    assert asked["progress"] is print
    assert asked["confirm"] is True
    assert result.summary["confirmed"] is True
    assert asked["save"].s == pytest.approx([0.05, 0.5, 0.7, 1.0, 1.3, 1.5])
    assert asked["events"] == [
        flow.Crossing("test_accuracy", 0.6),
        flow.Crossing("test_accuracy", 0.99),
        flow.Crossing("cos_rich", 0.9),
    ]
    for name, direction in asked["directions"].items():
        assert np.array_equal(direction, result.predictors[name].w)
    assert result.files == ()


def test_a_flow_that_stopped_early_has_no_later_moments(monkeypatch):
    faked(monkeypatch)
    whole = flow.gradient_flow

    def stopped(problem, **arguments):
        result = whole(problem, **arguments)
        for name in ("s", "tau", "t", "log_t"):
            setattr(result, name, getattr(result, name)[:4])
        result.stats = {name: values[:4] for name, values in result.stats.items()}
        return result

    monkeypatch.setattr(flow, "gradient_flow", stopped)
    moments = run_experiment(load_experiment("fig-1a", overrides=SMALL)).summary["moments"]
    assert moments["early"]["s"] == 0.7
    assert moments["late"] is None
    assert moments["end"]["s"] == 1.0


def test_inseparable_data_leave_the_predictors_out_and_say_so(monkeypatch):
    calls = faked(monkeypatch)

    def refuse(X, y, *, norm):
        raise NotSeparableError("y", "labels of samples 0, 3", "separable data")

    monkeypatch.setattr(programs, "max_margin", refuse)
    overrides = [*SMALL, "events.cos_rich=[0.9]"]
    result = run_experiment(load_experiment("fig-1a", overrides=overrides))
    assert result.predictors == {}
    assert "samples 0, 3" in result.summary["notes"][0]
    assert calls[0]["directions"] == {}
    assert [event.statistic for event in calls[0]["events"]] == ["test_accuracy", "test_accuracy"]


def test_predictor_accuracies_are_counted_over_the_test_set(monkeypatch):
    faked(monkeypatch)
    result = run_experiment(load_experiment("fig-1a", overrides=SMALL))
    data = sparse_sign(n=12, d=60, k=3, n_test=40, seed=0)
    X, y = data.test.read(0, 40)
    for name, solved in result.predictors.items():
        expected = sum(float(label * sum(map(float, solved.w * row))) > 0 for row, label in zip(X, y, strict=True)) / 40
        assert result.summary["predictors"][name]["test_accuracy"] == expected
        lower, upper = result.summary["predictors"][name]["margin"]
        assert 0 < lower <= upper


def must_not_run(problem, **arguments):
    raise AssertionError("work was done before the arguments were checked")


def obstructed(tmp_path, kind):
    if kind == "file":
        (tmp_path / "out").write_text("")
        return tmp_path / "out"
    if kind == "below a file":
        (tmp_path / "out").write_text("")
        return tmp_path / "out" / "deeper"
    (tmp_path / "out" / "figure.png").mkdir(parents=True)
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["file", "below a file", "folder of a file's name"])
def test_a_folder_that_cannot_be_written_is_refused_first(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(flow, "gradient_flow", must_not_run)
    with pytest.raises(InputError, match=r"out: got .*(a folder that can be written|not a file)"):
        run_experiment(load_experiment("fig-1a", overrides=SMALL), out=obstructed(tmp_path, kind))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_refused_first(monkeypatch, tmp_path):
    monkeypatch.setattr(flow, "gradient_flow", must_not_run)
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"out: got .*Permission denied"):
        run_experiment(load_experiment("fig-1a", overrides=SMALL), out=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.n_test=0"], "events.test_accuracy: got no test points"),
        (["predictors.rich=false", "events.cos_rich=[0.9]"], "events.cos_rich: got that predictor switched off"),
        (["data.k=2"], "k: got 2; wanted an odd integer"),
    ],
)
def test_what_cannot_be_is_refused_before_the_flow(monkeypatch, overrides, message):
    monkeypatch.setattr(flow, "gradient_flow", must_not_run)
    with pytest.raises(InputError, match=message):
        run_experiment(load_experiment("fig-1a", overrides=[*SMALL, *overrides]))


def test_missing_data_files_are_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[data]\nkind="npz"\npath="points.npz"\n[problem]\nalpha=10\nweight_decay=0.1\n')
    with pytest.raises(InputError, match=r"points\.npz .No such file"):
        run_experiment(load_experiment(file))


def test_regression_has_no_accuracy_to_watch(monkeypatch, tmp_path):
    monkeypatch.setattr(flow, "gradient_flow", must_not_run)
    np.savez(tmp_path / "points.npz", X=np.eye(2), y=np.ones(2))
    file = tmp_path / "mine.toml"
    file.write_text(
        '[data]\nkind="npz"\npath="points.npz"\ntask="regression"\n'
        '[problem]\nloss="squared"\nalpha=10\nweight_decay=0.1\n[events]\ntrain_accuracy=[0.5]\n'
    )
    with pytest.raises(InputError, match=r"events.train_accuracy: got a regression task"):
        run_experiment(load_experiment(file))


def test_a_moment_on_the_grid_is_saved_once(monkeypatch):
    calls = faked(monkeypatch)
    run_experiment(load_experiment("fig-1a", overrides=["data.n=12", "data.d=60", "data.n_test=40", "flow.points=25"]))
    assert calls[0]["save"].s == pytest.approx([0.05, *(0.1 * np.arange(1, 26))])


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_data_of_ones_own_run_to_the_end(tmp_path, kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((10, 30))
    y = np.where(rng.random(10) < 0.5, 1.0, -1.0)
    if kind == "npz":
        np.savez(tmp_path / "points.npz", X=X, y=y)
    else:
        header = ",".join([*(f"x{i}" for i in range(30)), "y"])
        np.savetxt(tmp_path / "points.csv", np.column_stack([X, y]), delimiter=",", header=header, comments="")
    file = tmp_path / "mine.toml"
    file.write_text(
        f'[data]\nkind="{kind}"\npath="points.{kind}"\n'
        "[problem]\nlog_alpha=20\nlog_weight_decay=-20\n[flow]\npoints=20\n"
    )
    result = run_experiment(load_experiment(file), out=tmp_path / "out" / "here")
    rows = table(tmp_path / "out" / "here")
    assert all(row["test_accuracy"] == row["test_loss"] == "" for row in rows)
    assert [path.name for path in result.files] == ["trajectory.csv", "figure.svg", "figure.png", "summary.json"]
    assert float(rows[-1]["s"]) == pytest.approx(2.5)
    moments = result.summary["moments"]
    assert moments["early"]["cos_kernel"] > moments["end"]["cos_kernel"]
    assert moments["early"]["cos_rich"] < moments["end"]["cos_rich"]


def test_regression_draws_losses(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "points.npz", X=rng.standard_normal((4, 20)), y=rng.standard_normal(4))
    file = tmp_path / "mine.toml"
    file.write_text(
        '[data]\nkind="npz"\npath="points.npz"\ntask="regression"\n'
        '[problem]\nloss="squared"\nlog_alpha=5\nlog_weight_decay=-5\n[flow]\npoints=20\n'
    )
    run_experiment(load_experiment(file), out=tmp_path)
    rows = table(tmp_path)
    assert all(row["train_accuracy"] == "" and 0.0 < float(row["cos_kernel"]) <= 1.0 for row in rows)
    assert all(math.isfinite(float(row["log_train_loss"])) for row in rows)
    assert (tmp_path / "figure.png").stat().st_size > 5000


def moments_of(preset):
    overrides = ["flow.points=20", "events.test_accuracy=[]"]
    return run_experiment(load_experiment(preset, profile="quick", overrides=overrides)).summary["moments"]


def test_quick_presets_show_their_phenomenon():
    grokking = moments_of("fig-1a")
    assert grokking["start"]["train_accuracy"] == grokking["end"]["train_accuracy"] == 1.0
    assert grokking["start"]["test_accuracy"] < 0.55
    assert grokking["end"]["test_accuracy"] > 0.99
    misgrokking = moments_of("fig-1b")
    assert misgrokking["start"]["train_accuracy"] == misgrokking["end"]["train_accuracy"] == 1.0
    assert misgrokking["early"]["test_accuracy"] > 0.98
    assert misgrokking["end"]["test_accuracy"] < 0.65


def reference_weights(data, alpha, weight_decay, s):
    """Return w of the degree-2 net from the unit direction by SciPy's BDF on the n dual numbers m, w = u^2 - v^2."""
    from scipy.integrate import solve_ivp

    Z = data.y[:, None] * data.X.astype(float)
    scale = alpha**2 / (2 * data.d)

    def weights(tau, m):
        return 2.0 * scale * np.exp(-2.0 * tau) * np.sinh(4.0 * (Z.T @ m))

    def slope(tau, m):
        return np.exp(-np.logaddexp(0.0, Z @ weights(tau, m))) / (data.n * weight_decay)

    end = s * math.log(alpha)
    solution = solve_ivp(slope, (0.0, end), np.zeros(data.n), method="BDF", rtol=1e-8, atol=1e-12, first_step=1e-9)
    return weights(end, solution.y[:, -1])


def test_a_run_agrees_with_scipy():
    overrides = ["data.n=24", "data.d=300", "data.n_test=50", "flow.points=4", "flow.rtol=1e-8"]
    experiment = load_experiment("fig-1a", overrides=overrides)
    result = run_experiment(experiment)
    data = sparse_sign(n=24, d=300, k=3, n_test=50, seed=0)
    X, y = data.test.read(0, 50)
    for name in ("early", "late", "end"):
        moment = result.summary["moments"][name]
        w = reference_weights(data, 128.0, 1e-3, moment["s"])
        for direction in ("kernel", "rich"):
            other = result.predictors[direction].w
            cosine = w @ other / np.linalg.norm(w) / np.linalg.norm(other)
            assert moment[f"cos_{direction}"] == pytest.approx(cosine, abs=1e-6)
        assert moment["test_accuracy"] == np.mean(np.sign(X @ w) == y)


def test_runs_repeat_to_the_last_digit(tmp_path):
    experiment = load_experiment("fig-1a", overrides=SMALL)
    assert isinstance(experiment, Experiment)
    for name in ("one", "two"):
        run_experiment(experiment, out=tmp_path / name)
    for name in ("trajectory.csv", "figure.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("out", ["", "a\0b", 3])
def test_a_folder_has_a_name(out):
    with pytest.raises(InputError, match="out: got"):
        run_experiment(load_experiment("fig-1a", overrides=SMALL), out=out)


def test_an_experiment_is_wanted():
    with pytest.raises(InputError, match="experiment: got 'fig-1a'; wanted an Experiment"):
        run_experiment("fig-1a")


def test_what_was_not_crossed_is_listed(monkeypatch):
    faked(monkeypatch)
    overrides = [*SMALL, "events.test_accuracy=[0.6, 0.99]"]
    summary = run_experiment(load_experiment("fig-1a", overrides=overrides)).summary
    assert summary["not_crossed"] == [{"name": "test_accuracy", "level": 0.99}]


@pytest.mark.parametrize("model", ["diagonal", "mlp"])
def test_a_run_killed_half_way_is_resumed_to_the_same_bits(monkeypatch, tmp_path, model):
    real, done = flow.gradient_flow, []
    kinds = {"diagonal": [], "mlp": ["model.kind=mlp", "model.widths=[4]", "model.activation=z^2", "problem.init=twin"]}
    small = [
        *SMALL,
        *kinds[model],
        "data.d=9",
        "flow.s_end=0.7",
        "flow.rtol=1e-4",
        "problem.alpha=6.0",
        "problem.weight_decay=0.1",
        "predictors.rich=false",
    ]
    experiment = load_experiment("fig-1a", overrides=small)
    whole = run_experiment(experiment).table

    def killed(problem, *, progress, **arguments):
        def stop(fraction):
            done.append(fraction)
            if fraction > 0.6:
                raise KeyboardInterrupt

        return real(problem, progress=stop, checkpoint_every=0.0, **arguments)

    monkeypatch.setattr(flow, "gradient_flow", killed)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(experiment, out=tmp_path)
    assert (tmp_path / "checkpoint.npz").exists()
    first_half, done[:] = len(done), []

    def watched(problem, *, progress, **arguments):
        return real(problem, progress=done.append, **arguments)

    monkeypatch.setattr(flow, "gradient_flow", watched)
    again = run_experiment(experiment, out=tmp_path, resume=True).table
    assert 0 < len(done) < first_half  # it began where it was
    for name, column in (whole.times | whole.stats).items():
        np.testing.assert_array_equal(column, (again.times | again.stats)[name])
    assert not (tmp_path / "checkpoint.npz").exists()
