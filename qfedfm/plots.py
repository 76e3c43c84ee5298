"""Plots: each takes a frame and optional axes, draws, and returns the axes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .evidence import Paired, mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap

COLOURS = ("#6d4bd8", "#d9822b", "#3a8f5d", "#c2435b", "#2f7fb8", "#7a7a7a")
"""One colour per arm, in order: told apart in print and by colour-blind readers together with `MARKERS`."""
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_STACKED, MOST_NAMED = 12, 40  # columns told apart in a partition; clients whose names are written
LEVELS = 40  # of a colour map
LONGEST_NAME = 22  # characters of a name beside a bar
MOST_WRITTEN = 20  # classes up to which a table of confusion shows its counts
NOTHING = "none"  # how a value that is None is shown


def new_axes(ax: "Axes | None", size: tuple[float, float] = (6.4, 3.6)) -> "Axes":
    """Return `ax`, or the axes of a new figure of `size` inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def learning_curves(frame: "pd.DataFrame", metric: str, ax: "Axes | None" = None) -> "Axes":
    """Plot the mean of a metric over seeds against rounds, one line per arm, with its 95 % t interval.

    frame: columns arm, seed, round and `metric`. With one seed there is no interval and none is drawn.
    """
    from matplotlib.ticker import MaxNLocator

    ax = new_axes(ax)
    for i, (arm, rows) in enumerate(frame.groupby("arm", sort=False)):
        table = rows.pivot_table(index="round", columns="seed", values=metric)
        rounds, several = table.index.to_numpy(), table.shape[1] > 1
        intervals = [mean_interval(values) for values in table.to_numpy()] if several else []
        means = [interval.mean for interval in intervals] if several else table.to_numpy()[:, 0]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.plot(rounds, means, label=_literal(str(arm)), color=colour, marker=marker, markersize=3.5)
        if several:
            low, high = ([getattr(interval, end) for interval in intervals] for end in ("low", "high"))
            ax.fill_between(rounds, low, high, color=colour, alpha=0.15, linewidth=0)
    seeds = frame["seed"].nunique()
    ax.set_xlabel("round")
    ax.set_ylabel(metric.replace("_", " "))
    ax.set_title(f"mean of {seeds} seeds, band: 95 % t interval" if seeds > 1 else "one seed, no interval", fontsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if frame["arm"].nunique() > 1:
        ax.legend(frameon=False)
    return ax


def rows_size(rows: int) -> tuple[float, float]:
    """Return width and height in inches of a plot with so many rows."""
    return 6.4, 1.0 + 0.7 * rows


def paired_differences(
    differences: Mapping[str, np.ndarray],
    results: Mapping[str, Paired],
    margin: float,
    unit: str,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the differences of each seed, with mean and interval, one row per twin; the margin of equivalence is shaded.

    differences: twin to (seeds,) subject minus twin.
    """
    ax = new_axes(ax, rows_size(len(differences)))
    ax.axvspan(-margin, margin, color="#8a8a8a", alpha=0.15, linewidth=0)
    ax.axvline(0, color="#8a8a8a", linewidth=0.8)
    for i, (twin, values) in enumerate(differences.items()):
        result = results[twin]
        colour, marker = COLOURS[(i + 1) % len(COLOURS)], MARKERS[(i + 1) % len(MARKERS)]
        ax.plot(values, np.full(len(values), i) + 0.18, linestyle="", marker="|", color=colour, alpha=0.8)
        if np.isfinite(result.low) and np.isfinite(result.high):
            ax.plot([result.low, result.high], [i, i], color=colour, linewidth=2)
        ax.plot([result.difference], [i], marker=marker, color=colour, markersize=6)
    confidence = next(iter(results.values())).confidence
    interval = f"{100 * confidence:g} % interval"
    ax.set_yticks(range(len(differences)), [f"minus\n{_literal(twin)}" for twin in differences])
    ax.set_ylim(-0.6, len(differences) - 0.4)
    ax.invert_yaxis()
    ax.set_xlabel(f"paired difference, {unit}")
    ax.set_title(f"tick: one seed, bar: {interval}, shaded: margin of {margin:g}", fontsize=9)
    return ax


def fairness_frontier(frame: "pd.DataFrame", metric: str, ax: "Axes | None" = None) -> "Axes":
    """Plot the worst decile of clients against the mean client, a point for each rule, bars: 95 % t intervals.

    frame: columns rule, seed, mean, worst_decile. With one seed there is no interval and none is drawn. On the dashed
    line all clients would be served alike.
    """
    ax = new_axes(ax, (5.2, 4.0))
    for i, (rule, rows) in enumerate(frame.groupby("rule", sort=False)):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        x, y = (rows[column].to_numpy() for column in ("mean", "worst_decile"))
        if len(rows) > 1:
            across, up = mean_interval(x), mean_interval(y)
            ax.plot([across.low, across.high], [up.mean] * 2, color=colour, linewidth=0.8)
            ax.plot([across.mean] * 2, [up.low, up.high], color=colour, linewidth=0.8)
        ax.plot([x.mean()], [y.mean()], label=_literal(str(rule)), color=colour, marker=marker, linestyle="")
    low, high = ax.get_xlim()
    ax.axline((low, low), (high, high), color="#8a8a8a", linewidth=0.8, linestyle="--", zorder=0)
    ax.set_xlim(low, high)
    ax.set_xlabel(f"{metric}, mean over clients")
    ax.set_ylabel(f"{metric}, worst decile of clients")
    seeds = frame["seed"].nunique()
    ax.set_title(f"mean of {seeds} seeds, bars: 95 % t interval" if seeds > 1 else "one seed, no interval", fontsize=9)
    ax.legend(frameon=False)
    return ax


def client_spread(frame: "pd.DataFrame", metric: str, ax: "Axes | None" = None) -> "Axes":
    """Plot the clients' metric, sorted within a seed and averaged over seeds by rank, a curve for each rule.

    frame: columns rule, seed, client and `metric`. A seed with fewer clients is stretched to the most.
    """
    from matplotlib.ticker import MaxNLocator

    ax = new_axes(ax, (5.2, 4.0))
    for i, (rule, rows) in enumerate(frame.groupby("rule", sort=False)):
        several = [one[metric].to_numpy() for _, one in rows.groupby("seed")]
        ranks = np.linspace(0, 1, max(map(len, several)))
        ranked = np.mean([np.quantile(values, ranks) for values in several], axis=0)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.plot(
            np.arange(1, len(ranked) + 1),
            ranked,
            label=_literal(str(rule)),
            color=colour,
            marker=marker,
            markersize=3.5,
        )
    seeds = frame["seed"].nunique()
    ax.set_xlabel("clients, from the lowest to the highest")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(metric)
    ax.set_title(f"mean of {seeds} seeds, client by rank" if seeds > 1 else "one seed", fontsize=9)
    if frame["rule"].nunique() > 1:
        ax.legend(frameon=False)
    return ax


def partition(frame: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Draw each client's rows as a bar, stacked by class or domain.

    frame: clients (index) x classes or domains (columns), counts, as from `Result.partition()["train"]`. Of more than
    twelve columns the largest eleven are told apart; of more than forty clients the names are left out.
    """
    from matplotlib import colormaps

    clients = len(frame)
    ax = new_axes(ax, partition_size(clients))
    order = frame.sum().sort_values(ascending=False, kind="stable").index
    some = frame if len(order) <= MOST_STACKED else frame[[c for c in frame.columns if c in order[: MOST_STACKED - 1]]]
    bars = {str(name): some[name].to_numpy() for name in some.columns}
    if len(order) > MOST_STACKED:
        bars[f"{len(order) - len(bars)} others"] = frame.sum(axis=1).to_numpy() - some.sum(axis=1).to_numpy()
    many, left, shown = colormaps["turbo"], np.zeros(clients), clients <= MOST_NAMED
    for i, (name, rows) in enumerate(bars.items()):
        colour = COLOURS[i] if len(bars) <= len(COLOURS) else many(0.05 + 0.9 * i / (len(bars) - 1))
        if shown:
            ax.barh(np.arange(clients), rows, 0.8, left, color=colour, label=_short(name), linewidth=0)
        else:  # one shape for all: thousands of bars would take seconds
            ends = np.arange(clients + 1) - 0.5
            drawn = ax.stairs(left + rows, ends, baseline=left, orientation="horizontal", fill=True, color=colour)
            drawn.set(label=_short(name), linewidth=0)
        left = left + rows
    names = [_short(str(name)) for name in frame.index] if shown else []
    ax.set_yticks(range(len(names)), names, fontsize=9 if clients <= 20 else 7)
    ax.set_ylim(clients - 0.4, -0.6)
    ax.set_xlabel("rows")
    ax.set_ylabel("" if shown else f"{clients} clients")
    if len(bars) > 1:
        columns, size = (3, 9) if max(map(len, bars)) < 9 else (2, 8)
        ax.legend(
            frameon=False, fontsize=size, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2
        )
    return ax


def partition_size(clients: int) -> tuple[float, float]:
    """Return width and height in inches of the picture of a partition."""
    return 4.6, 1.4 + (0.2 * clients if clients <= 20 else 0.15 * clients if clients <= MOST_NAMED else 4.0)


def confusion(frame: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Draw counts of true classes (rows) and predicted classes (columns), shaded by the share of the true class.

    frame: as from `Result.confusion`. A class without rows is left white.
    """
    counts = frame.to_numpy()
    classes = len(counts)
    ax = new_axes(ax, (max(3.8, 1.8 + 0.5 * classes), max(2.6, 1.2 + 0.45 * classes)))
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    _cells(ax, np.nan_to_num(shares), "Purples", 0, 1)
    ax.set_aspect("equal")
    if classes <= MOST_WRITTEN:
        for (i, j), count in np.ndenumerate(counts):
            ax.text(j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "#222222")
    names = [_literal(str(name)) for name in frame.index]
    long = sum(map(len, names)) > 24
    ax.set_xticks(range(classes), names, rotation=45 if long else 0, ha="right" if long else "center")
    ax.set_yticks(range(classes), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title(f"{counts.sum()} rows, shaded by share of the true class", fontsize=9)
    return ax


def reliability(frame: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Draw how often rows are right at each confidence, against the diagonal of perfect calibration.

    frame: as from `Result.reliability`. A point's area grows with its share of the rows; bins without rows have none.
    The title states the expected calibration error.
    """
    ax = new_axes(ax, (4.2, 4.0))
    some = frame[frame["rows"] > 0]
    share = some["rows"] / some["rows"].sum()
    error = float((share * (some["accuracy"] - some["confidence"]).abs()).sum())
    ax.plot([0, 1], [0, 1], color="#8a8a8a", linewidth=0.8)
    ax.vlines(some["confidence"], some["confidence"], some["accuracy"], color=COLOURS[0], linewidth=1)
    ax.scatter(
        some["confidence"],
        some["accuracy"],
        s=12 + 240 * share,
        color=COLOURS[0],
        alpha=0.8,
        linewidth=0,
        clip_on=False,
    )
    ax.set_xlim(0, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy")
    rows = int(some["rows"].sum())
    ax.set_title(f"{rows} rows, expected calibration error {100 * error:.1f} %", fontsize=9)
    return ax


def against(
    scores: Mapping[Any, np.ndarray], values: Sequence[Any], field: str, metric: str, ax: "Axes | None" = None
) -> "Axes":
    """Plot the mean of each value's scores with its 95 % t interval; numbers to scale, anything else in order.

    scores: value to (seeds,); those of `values` that have none get a cross at the bottom. Positive numbers that span
    more than a factor of ten have a logarithmic axis.
    """
    ax = new_axes(ax)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    order = sorted(values) if numbers else list(values)
    places = dict(zip(order, order if numbers else range(len(order)), strict=True))
    found = [value for value in order if value in scores]
    means = np.array([scores[value].mean() for value in found])
    x = [places[value] for value in found]
    ax.plot(x, means, color=COLOURS[0], marker=MARKERS[0], linestyle="-" if numbers else "", markersize=4.5)
    several = [mean_interval(scores[value]) for value in found if len(scores[value]) > 1]
    if len(several) == len(found):
        half = [interval.high - interval.mean for interval in several]
        ax.errorbar(x, means, yerr=half, fmt="none", ecolor=COLOURS[0], elinewidth=1.4, capsize=3)
    lost = [places[value] for value in order if value not in scores]
    ax.plot(lost, [0.03] * len(lost), "x", color=COLOURS[3], transform=ax.get_xaxis_transform(), label="failed")
    if lost:
        ax.legend(frameon=False)
    if numbers and min(order) > 0 and max(order) > 10 * min(order):
        ax.set_xscale("log")
        if len(order) <= 8:
            ax.set_xticks(order, [_shown(value) for value in order])
            ax.minorticks_off()
    elif numbers and all(isinstance(value, int) for value in values):
        ax.set_xticks(order)
    elif not numbers:
        ax.set_xticks(range(len(order)), [_shown(value) for value in order])
        ax.set_xlim(-0.5, len(order) - 0.5)
    ax.set_xlabel(_literal(field))
    ax.set_ylabel(metric)
    return ax


def heat_map(
    means: Mapping[tuple[Any, Any], float],
    rows: Sequence[Any],
    columns: Sequence[Any],
    fields: Sequence[str],
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw `means` by (row, column) as a heat map, each cell with its number, a dash where there is none."""
    values = np.array([[means.get((row, column), np.nan) for column in columns] for row in rows])
    ax = new_axes(ax, (2.4 + 0.62 * len(columns), 1.4 + 0.36 * len(rows)))
    cells = _cells(ax, np.ma.masked_invalid(values), "viridis")
    middle = np.nanmean([np.nanmin(values), np.nanmax(values)]) if np.isfinite(values).any() else 0
    for (i, j), value in np.ndenumerate(values):
        text = f"{value:.3f}" if np.isfinite(value) else "–"
        colour = "white" if value < middle else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(columns)), [_shown(value) for value in columns], fontsize=8)
    ax.set_yticks(range(len(rows)), [_shown(value) for value in rows], fontsize=8)
    ax.set_ylabel(_literal(fields[0]))
    ax.set_xlabel(_literal(fields[1]))
    ax.figure.colorbar(cells, ax=ax, fraction=0.05)
    return ax


def scattered(means: Mapping[tuple[Any, Any], float], fields: Sequence[str], ax: "Axes | None" = None) -> "Axes":
    """Draw `means` by (x, y) as coloured points, for places that form no grid."""
    ax = new_axes(ax)
    x, y = ([place[i] for place in means] for i in (0, 1))
    points = ax.scatter(x, y, c=list(means.values()), cmap=_levels("viridis"), edgecolor="#8a8a8a", linewidth=0.5)
    for scale, values in ((ax.set_xscale, x), (ax.set_yscale, y)):
        if min(values) > 0 and max(values) > 10 * min(values):
            scale("log")
    ax.set_xlabel(_literal(fields[0]))
    ax.set_ylabel(_literal(fields[1]))
    ax.figure.colorbar(points, ax=ax, fraction=0.05)
    return ax


def _cells(
    ax: "Axes", values: np.ndarray, colours: str, low: float | None = None, high: float | None = None
) -> "QuadMesh":
    """Draw a table of numbers as cells, row 0 on top: as shapes, which stay sharp when enlarged."""
    edges = [np.arange(length + 1) - 0.5 for length in values.shape]
    drawn = ax.pcolormesh(edges[1], edges[0], values, cmap=_levels(colours), vmin=low, vmax=high)
    ax.set_ylim(values.shape[0] - 0.5, -0.5)
    return drawn


def _levels(name: str) -> "Colormap":
    """Return a colour map of so few levels that its bar is drawn as shapes too."""
    from matplotlib import colormaps

    return colormaps[name].resampled(LEVELS)


def _shown(value: Any) -> str:
    return NOTHING if value is None else f"{value:.3g}" if isinstance(value, float) else _literal(str(value))


def count(number: int, noun: str) -> str:
    """Return "1 client", "2 clients"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    return _literal(text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…")


def _literal(text: str) -> str:
    """Return `text` so that matplotlib shows its dollar signs and does not read mathematics between them."""
    return text.replace("$", r"\$")
