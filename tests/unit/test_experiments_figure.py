"""The figure: what it shows, and that no words cover each other or a curve."""

import itertools

import numpy as np
import pytest

from theorykit.experiments.figure import draw, save
from theorykit.experiments.table import Table

S = np.linspace(0.0, 2.5, 200)
RISE = 1.0 / (1.0 + np.exp(-25.0 * (S - 0.9)))
TRAIN = np.where(S < 0.01, 0.5, 1.0)
COSINES = {"cos_kernel": 1.0 - 0.7 * RISE, "cos_rich": 0.3 + 0.7 * RISE}
STATISTICS = {
    "grokking": {"train_accuracy": TRAIN, "test_accuracy": 0.55 + 0.45 * RISE} | COSINES,
    "misgrokking": {"train_accuracy": TRAIN, "test_accuracy": 1.0 - 0.45 * RISE} | COSINES,
    "hardly anything": {"train_accuracy": TRAIN, "test_accuracy": 0.98 - 0.03 * RISE} | COSINES,
    "no test set": {"train_accuracy": TRAIN, "log_train_loss": -50.0 * RISE} | COSINES,
    "no predictors": {"train_accuracy": TRAIN, "test_accuracy": 0.55 + 0.45 * RISE},
    "one predictor": {"train_accuracy": TRAIN, "test_accuracy": TRAIN, "cos_kernel": COSINES["cos_kernel"]},
    "constant": {"train_accuracy": np.ones(200), "test_accuracy": np.ones(200)},
    "regression": {"log_train_loss": -50.0 * RISE, "test_loss": 1.0 - 0.9 * RISE},
}


def table(statistics, s=S):
    tau = 4.85 * s
    with np.errstate(divide="ignore"):
        return Table({"t": 1e3 * tau, "log_t": np.log(1e3 * tau), "tau": tau, "s": s}, statistics)


def drawn_labels(axis):
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()
    ]


@pytest.mark.parametrize("name", STATISTICS)
def test_words_cover_neither_words_nor_curves(name):
    figure = draw(table(STATISTICS[name]))
    figure.draw_without_rendering()
    named = [text for axes in figure.axes for text in axes.texts]
    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in drawn_labels(axis)]
    labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
    words = [word for word in (*named, *ticks, *labels) if word.get_text() and word.get_visible()]
    boxes = [(word.get_text(), word.get_window_extent()) for word in words]
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), (one, other)
    for axes in figure.axes:
        for line, text in itertools.product(axes.lines[: len(axes.lines) - 2], axes.texts):
            points = axes.transData.transform(line.get_xydata())
            box = text.get_window_extent()
            assert not any(box.contains(x, y) for x, y in points), (text.get_text(), line.get_color())
    for text, box in boxes:
        assert figure.bbox.containsx(box.x0), text
        assert figure.bbox.containsx(box.x1), text


def test_two_points_are_enough():
    accuracies = {name: np.array([0.5, 1.0]) for name in ("train_accuracy", "test_accuracy")}
    assert len(draw(table(accuracies, S[[0, -1]])).axes) == 1


def test_a_full_score_is_on_the_axis_even_if_it_is_not_quite_reached():
    cosines = {"cos_kernel": 0.998 - 0.7 * RISE, "cos_rich": 0.1 + 0.89 * RISE}
    for axes in draw(table(STATISTICS["grokking"] | cosines)).axes[:2]:
        assert 1.0 in axes.get_yticks().round(12)


def test_without_test_points_the_loss_is_drawn():
    assert "loss" in draw(table(STATISTICS["no test set"])).axes[0].get_ylabel()
    assert draw(table(STATISTICS["grokking"])).axes[0].get_ylabel() == "accuracy"


def test_caption_and_interpolants():
    figure = draw(table(STATISTICS["regression"] | COSINES), caption="mine: n = 3", predictors="norm")
    assert figure.get_suptitle() == "mine: n = 3"
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"min $\\ell_2$ norm", "min $\\ell_1$ norm"} <= texts


def test_a_loss_of_zero_is_a_gap():
    stats = {"log_train_loss": np.where(S > 1.0, -np.inf, -3.0), "test_loss": np.where(S > 1.0, 0.0, 0.5)}
    assert np.isnan(draw(table(stats)).axes[0].lines[1].get_ydata()[-1])


def test_the_figure_names_its_curves_and_times():
    texts = {text.get_text() for axes in draw(table(STATISTICS["grokking"]), c=0.25).axes for text in axes.texts}
    assert texts == {"train", "test", "max $\\ell_2$ margin", "max $\\ell_1$ margin", "$T^-_{0.25}$", "$T^+_{0.25}$"}


def test_two_drawings_are_the_same_file(tmp_path):
    for name in ("one.svg", "two.svg"):
        save(draw(table(STATISTICS["grokking"])), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_pixels_are_enough_for_print(tmp_path):
    from PIL import Image

    save(draw(table(STATISTICS["grokking"])), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width == 1020
