"""Metrics of predictions, for many models and clients at once.

A row belongs to a segment (a model; or one client's rows under one model), and every metric is computed for all
segments in one pass over the rows, as sums by segment. A metric that its segment's rows do not define (the AUROC of
rows of one class) is NaN here and None in records, never a made-up number.

- accuracy: share of rows whose largest output is their class (the first of equal ones).
- balanced_accuracy: mean over the classes that are there of the share of their rows that is right (Brodersen et al.
  2010, doi:10.1109/ICPR.2010.764).
- f1: macro F1, the mean of 2 TP / (2 TP + FP + FN) over the classes that are there or predicted.
- auroc: chance that a row of the class gets a larger probability of it than another row, ties one half (Hanley and
  McNeil 1982, doi:10.1148/radiology.143.1.7063747). Of the second class where there are two; else each class against
  the rest, mean over the classes that are there. Needs two classes among the rows.
- ece: expected calibration error (Guo et al. 2017, arXiv:1706.04599), the sum over `BINS` bins of equal width of
  |right - confidence| weighted by their share of the rows. Confidence: the largest probability p, in bin
  (b / BINS, (b + 1) / BINS].
- brier: mean over rows of the sum over classes of (p - y)^2, from 0 to 2 (Brier 1950).
- rmse, r2: root of the mean squared error, in the unit of the labels; 1 - squared error / squared deviation from the
  rows' own mean, which needs rows that differ.
- loss: mean cross-entropy in nats, or mean squared error.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Rows, Task

BINS = 15
EDGES = np.arange(1, BINS) / BINS  # (between bins; a value on an edge belongs to the lower one)
Array = NDArray[np.float64]
Scores = dict[str, Array]


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    label: its name in a sentence. percent: a fraction shown in points (hundredths), or a plain number.
    higher_is_better: which way is better. tasks: of which it is a metric.
    """

    percent: bool
    higher_is_better: bool
    label: str
    tasks: tuple[Task, ...] = ("classes",)


METRICS = {
    "accuracy": Metric(percent=True, higher_is_better=True, label="accuracy"),
    "loss": Metric(percent=False, higher_is_better=False, label="loss", tasks=("classes", "numbers")),
    "balanced_accuracy": Metric(percent=True, higher_is_better=True, label="balanced accuracy"),
    "f1": Metric(percent=True, higher_is_better=True, label="macro F1"),
    "auroc": Metric(percent=False, higher_is_better=True, label="AUROC"),
    "ece": Metric(percent=True, higher_is_better=False, label="expected calibration error"),
    "brier": Metric(percent=False, higher_is_better=False, label="Brier score"),
    "rmse": Metric(percent=False, higher_is_better=False, label="RMSE", tasks=("numbers",)),
    "r2": Metric(percent=False, higher_is_better=True, label="R²", tasks=("numbers",)),
}


def headline(task: Task) -> str:
    """Return the metric that a summary shows for a task."""
    return "accuracy" if task == "classes" else "rmse"


def unfit_metric(metric: str, task: Task) -> list[str]:
    """Return why a metric cannot judge a task, if it cannot."""
    fitting = [name for name, kind in METRICS.items() if task in kind.tasks]
    if metric in fitting:
        return []
    learnt = "told apart" if task == "classes" else "predicted"
    return [
        f"metric: the data are {task} to be {learnt}, and '{metric}' does not judge those; use {', '.join(fitting)}"
    ]


def score(outputs: Array, labels: NDArray[Any], losses: Array, segment: Rows, segments: int) -> Scores:
    """Return every metric of the labels' task for every segment, {name: (segments,)}, NaN where it is undefined.

    outputs: (rows, K) logits, or (rows, 1) predicted numbers. labels: (rows,) int64 classes or floating-point numbers.
    losses: (rows,). segment: (rows,), from 0 to segments - 1; a segment without rows is NaN throughout.
    """
    rows = np.bincount(segment, minlength=segments)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        loss = np.bincount(segment, losses, segments) / rows
        if labels.dtype.kind == "f":
            return {"loss": loss} | _of_numbers(outputs[:, 0], labels, segment, rows)
        return {"loss": loss} | _of_classes(outputs, labels, segment, rows)


def confusion(outputs: Array, labels: Rows, segment: Rows, segments: int) -> Rows:
    """Return the number of rows by segment, true class and predicted class, (segments, K, K) int64."""
    classes = outputs.shape[1]
    cell = (segment * classes + labels) * classes + outputs.argmax(1)
    return np.bincount(cell, minlength=segments * classes**2).reshape(segments, classes, classes)


@dataclass(frozen=True)
class Reliability:
    """Rows by confidence, (segments, BINS): how many, the sum of their confidences, and how many are right."""

    rows: Rows
    confidence: Array
    right: Rows


def reliability(outputs: Array, labels: Rows, segment: Rows, segments: int) -> Reliability:
    """Return rows, confidence and success in `BINS` bins of equal width, for each segment."""
    return _bins(probabilities(outputs).max(1), outputs.argmax(1) == labels, segment, segments)


def probabilities(outputs: Array) -> Array:
    """Return the softmax of logits (rows, K)."""
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, as their loss does
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _bins(confidence: Array, right: NDArray[np.bool_], segment: Rows, segments: int) -> Reliability:
    place = segment * BINS + np.searchsorted(EDGES, confidence)
    shape, cells = (segments, BINS), segments * BINS
    return Reliability(
        np.bincount(place, minlength=cells).reshape(shape),
        np.bincount(place, confidence, cells).reshape(shape).astype(np.float64),
        np.bincount(place[right], minlength=cells).reshape(shape),
    )


def _of_numbers(predicted: Array, labels: Array, segment: Rows, rows: Rows) -> Scores:
    count = len(rows)
    squared = np.bincount(segment, np.square(predicted - labels), count)
    mean = np.bincount(segment, labels, count) / rows
    spread = np.bincount(segment, np.square(labels - mean[segment]), count)
    return {"rmse": np.sqrt(squared / rows), "r2": np.where(spread > 0, 1 - squared / spread, np.nan)}


def _of_classes(outputs: Array, labels: Rows, segment: Rows, rows: Rows) -> Scores:
    count = len(rows)
    share = probabilities(outputs)
    table = confusion(outputs, labels, segment, count)
    right = np.diagonal(table, axis1=1, axis2=2)
    there, predicted = table.sum(2), table.sum(1)
    bins = _bins(share.max(1), outputs.argmax(1) == labels, segment, count)
    error = np.square(share).sum(1) - 2 * share[np.arange(len(share)), labels] + 1
    return {
        "accuracy": right.sum(1) / rows,
        "balanced_accuracy": _mean(right / there, there > 0),
        "f1": _mean(2 * right / (there + predicted), there + predicted > 0),
        "auroc": _auroc(share, labels, segment, there),
        "ece": np.abs(bins.right - bins.confidence).sum(1) / rows,
        "brier": np.bincount(segment, error, count) / rows,
    }


def _auroc(share: Array, labels: Rows, segment: Rows, there: Rows) -> Array:
    """Return the mean of the classes' areas, by ranks: (sum of the positives' ranks - p (p + 1) / 2) / (p n)."""
    classes = share.shape[1]
    judged = [1] if classes == 2 else range(classes)
    rows = there.sum(1)
    first = np.cumsum(rows) - rows
    areas = np.full((len(there), len(judged)), np.nan)
    for i, one in enumerate(judged):
        mine = labels == one
        ranks = _ranks(share[:, one], segment, first)
        positives, negatives = there[:, one], rows - there[:, one]
        sums = np.bincount(segment[mine], ranks[mine], len(there))
        areas[:, i] = (sums - positives * (positives + 1) / 2) / (positives * negatives)
    return _mean(areas, np.isfinite(areas))


def _ranks(values: Array, segment: Rows, first: Rows) -> Array:
    """Return each row's rank within its segment, from 1, equal values sharing their mean rank.

    first: how many rows all segments before each one have, (segments,).
    """
    order = np.argsort(values)
    narrow = np.uint16 if len(first) <= 2**16 else np.int64  # NumPy sorts short integers by radix, several times faster
    order = order[np.argsort(segment[order].astype(narrow), kind="stable")]
    ordered, owner = values[order], segment[order]
    new = np.ones(len(values), dtype=bool)  # where another value or segment begins
    new[1:] = (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1])
    begins = np.flatnonzero(new)
    ends = np.append(begins[1:], len(values))
    tie = np.cumsum(new) - 1
    ranks = np.empty(len(values))
    ranks[order] = (begins + ends + 1)[tie] / 2 - first[owner]
    return ranks


def _mean(values: Array, defined: NDArray[np.bool_]) -> Array:
    """Return the mean over the defined entries of each row, NaN where there is none."""
    return np.asarray(np.where(defined, values, 0.0).sum(1) / defined.sum(1))
