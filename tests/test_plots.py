"""Plots show the numbers they are given, with an interval where there is one and none where there is not."""

import inspect
from importlib import import_module
from pkgutil import walk_packages

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import qfedfm
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
    shares = ax.collections[0].get_array()
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


def drawing():
    """Return every public function and method of the package that draws on axes, by its full name."""
    found = {}
    for module in (import_module(info.name) for info in walk_packages(qfedfm.__path__, "qfedfm.")):
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__ or name.startswith("_"):
                continue
            members = vars(value).items() if inspect.isclass(value) else [(None, value)]
            for member, function in members:
                if not inspect.isfunction(function) or (member or "").startswith("_"):
                    continue
                called = member or name
                if called.startswith("plot") or function.__annotations__.get("return") == "Axes":
                    found[f"{module.__name__}.{name}{f'.{member}' if member else ''}"] = function
    return found


MAKES_AXES = {"qfedfm.svg.canvas", "qfedfm.plots.new_axes"}


def test_everything_that_draws_takes_axes_and_returns_them():
    every = drawing()
    assert len(every) > 30
    assert {"qfedfm.plots.partition", "qfedfm.result.Result.plot", "qfedfm.swept.Sweep.plot"} <= set(every)
    for name, function in every.items():
        if name in MAKES_AXES:
            continue
        axes = inspect.signature(function).parameters.get("ax")
        assert axes is not None, name
        assert "Axes | None" in axes.annotation, name
        assert function.__annotations__["return"] == "Axes", name


def test_a_partition_is_stacked_in_the_order_of_its_columns():
    counts = pd.DataFrame({"a$b": [3, 0], "b": [1, 4]}, index=["one", "two"])
    ax = plots.partition(counts, ax=axes())
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 3), (0, 0), (3, 1), (0, 4)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [r"a\$b", "b"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "two"]
    low, high = ax.get_ylim()
    assert low > high  # the first client on top


def test_many_classes_and_clients_are_gathered():
    counts = pd.DataFrame(np.arange(1, 21) * np.ones((50, 20), dtype=int), columns=[f"class {i}" for i in range(20)])
    ax = plots.partition(counts, ax=axes())
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == [*(f"class {i}" for i in range(9, 20)), "9 others"]
    assert len(ax.patches) == 12
    values, edges, baseline = ax.patches[-1].get_data()
    assert (values - baseline).tolist() == [sum(range(1, 10))] * 50
    assert len(edges) == 51
    assert not ax.get_yticklabels()
    assert ax.get_ylabel() == "50 clients"


def test_one_column_needs_no_legend_and_a_long_name_is_cut():
    ax = plots.partition(pd.DataFrame({"rows": [1]}, index=["x" * 60]), ax=axes())
    assert ax.get_legend() is None
    assert len(ax.get_yticklabels()[0].get_text()) == plots.LONGEST_NAME
