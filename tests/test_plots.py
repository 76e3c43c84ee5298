"""Plots show the numbers they are given, with an interval where there is one and none where there is not."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qfedfm import plots
from qfedfm.evidence import paired


def frame(arms, seeds):
    rows = [
        {"arm": arm, "seed": seed, "round": number, "test_accuracy": 0.5 + 0.1 * number + 0.02 * seed + 0.01 * i}
        for i, arm in enumerate(arms)
        for seed in range(seeds)
        for number in range(3)
    ]
    return pd.DataFrame(rows)


def axes():
    return Figure().subplots()


def test_learning_curves_show_mean_and_t_interval_of_each_arm():
    ax = plots.learning_curves(frame(["a", "b"], 3), "test_accuracy", ax=axes())
    assert [line.get_label() for line in ax.get_lines()] == ["a", "b"]
    assert np.allclose(ax.get_lines()[0].get_ydata(), [0.52, 0.62, 0.72])  # seeds at -.02, 0 and +.02
    half = 4.302652729911275 * 0.02 / np.sqrt(3)  # t quantile .975 with two degrees of freedom
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(0.52 - half)
    assert band.max() == pytest.approx(0.72 + half)
    assert ax.get_title() == "mean of 3 seeds, band: 95 % t interval"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_one_seed_has_no_interval():
    ax = plots.learning_curves(frame(["a"], 1), "test_accuracy", ax=axes())
    assert len(ax.collections) == 0
    assert ax.get_title() == "one seed, no interval"
    assert ax.get_legend() is None
    assert ax.get_ylabel() == "test accuracy"


def test_a_run_that_went_to_infinity_is_still_drawn():
    broken = frame(["a"], 1)
    broken.loc[2, "test_accuracy"] = np.inf
    assert np.isinf(plots.learning_curves(broken, "test_accuracy", ax=axes()).get_lines()[0].get_ydata()[-1])


def test_more_arms_than_colours():
    names = [f"arm {i}" for i in range(9)]
    ax = plots.learning_curves(frame(names, 2), "test_accuracy", ax=axes())
    assert len(ax.get_lines()) == 9
    values = {name: np.array([0.1, 0.2]) for name in names}
    results = {name: paired([0.1, 0.2], [0.0, 0.0], 0.05) for name in names}
    assert len(plots.paired_differences(values, results, 0.05, "points", ax=axes()).get_yticklabels()) == 9


def test_paired_differences_show_every_seed_mean_interval_and_margin():
    values = np.array([1.0, 3.0, 2.0])
    result = paired(values, np.zeros(3), 2.0)
    ax = plots.paired_differences({"twin": values}, {"twin": result}, 2.0, "points", ax=axes())
    _, ticks, interval, mean = ax.get_lines()
    assert ticks.get_xdata().tolist() == [1.0, 3.0, 2.0]
    assert mean.get_xdata() == [2.0]
    half = 4.302652729911275 / np.sqrt(3)
    assert np.allclose(interval.get_xdata(), [2 - half, 2 + half])
    assert (ax.patches[0].get_x(), ax.patches[0].get_width()) == (-2.0, 4.0)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["minus\ntwin"]


def test_a_difference_from_one_seed_has_no_interval():
    result = paired([0.5], [0.4], 0.02)
    ax = plots.paired_differences({"twin": np.array([0.1])}, {"twin": result}, 0.02, "points", ax=axes())
    assert len(ax.get_lines()) == 3  # zero, the tick, the mean


def test_dollar_signs_are_shown_as_they_are():
    ax = plots.learning_curves(frame(["$x_1^^$", "b"], 1), "test_accuracy", ax=axes())
    ax.figure.canvas.draw()  # raises where the label is read as mathematics
    assert ax.get_lines()[0].get_label() == r"\$x_1^^\$"


def test_without_axes_a_new_figure_is_made():
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    ax = plots.learning_curves(frame(["a"], 1), "test_accuracy")
    assert plt.get_fignums()
    plt.close(ax.figure)


def test_confusion_shows_every_count_shaded_by_its_class():
    counts = pd.DataFrame([[8, 2, 0], [1, 3, 0], [0, 0, 0]], index=["a$b", "b", "c"], columns=["a$b", "b", "c"])
    ax = plots.confusion(counts, ax=axes())
    assert [text.get_text() for text in ax.texts] == ["8", "2", "0", "1", "3", "0", "0", "0", "0"]
    shares = ax.get_images()[0].get_array()
    assert np.allclose(shares, [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]])
    assert ax.get_title() == "14 rows, shaded by share of the true class"
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"a\$b", "b", "c"]


def test_many_classes_are_shaded_only():
    ax = plots.confusion(pd.DataFrame(np.eye(30, dtype=int)), ax=axes())
    assert not ax.texts


def test_reliability_shows_bins_with_rows_and_the_calibration_error():
    bins = pd.DataFrame(
        {
            "low": [0, 0.5],
            "high": [0.5, 1],
            "rows": [0, 4],
            "confidence": [np.nan, 0.9],
            "accuracy": [np.nan, 0.75],
        }
    )
    ax = plots.reliability(bins, ax=axes())
    assert ax.collections[-1].get_offsets().data.tolist() == [[0.9, 0.75]]
    assert ax.get_title() == "4 rows, expected calibration error 15.0 %"
