"""Scores of evaluated models as they are recorded: overall, by client, and as tables of confusion and reliability.

All models (seeds, learning rates) and all their clients are computed together; see `metrics` for what each score is.
A score that is not defined on its rows is None.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Rows
from ..federation.evaluation import Evaluation
from .metrics import confusion, reliability, score

Score = dict[str, float | int | None]


def by_model(evaluations: Sequence[Evaluation]) -> list[Score]:
    """Return every metric of each model on its rows."""
    outputs, labels, losses, model = _together(evaluations)
    return _records(score(outputs, labels, losses, model, len(evaluations)), range(len(evaluations)))


def by_client(
    evaluations: Sequence[Evaluation], owners: Sequence[Rows], names: Sequence[Sequence[str]]
) -> list[dict[str, Score]]:
    """Return for each model the number of rows and every metric of each client that owns any of its rows.

    owners: for each model (n,) positions in its `names`.
    """
    outputs, labels, losses, _ = _together(evaluations)
    first = [0, *accumulate(map(len, names))]
    segment = np.concatenate([start + owner for start, owner in zip(first, owners, strict=False)])
    rows = np.bincount(segment, minlength=first[-1])
    owning = np.flatnonzero(rows)
    records = _records(score(outputs, labels, losses, segment, first[-1]), owning)
    known = dict(zip(owning.tolist(), records, strict=True))
    return [
        {name: {"rows": int(rows[i])} | known[i] for i, name in enumerate(some, start) if i in known}
        for start, some in zip(first, names, strict=False)
    ]


def tables(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return for each model its "confusion" (true class, predicted class) and "reliability" by confidence, as lists.

    reliability: for each bin the rows, the sum of their confidences and how many are right. Nothing for numbers.
    """
    outputs, labels, _, model = _together(evaluations)
    if labels.dtype.kind == "f":
        return [{} for _ in evaluations]
    counts = confusion(outputs, labels, model, len(evaluations))
    bins = reliability(outputs, labels, model, len(evaluations))
    return [
        {
            "confusion": counts[i].tolist(),
            "reliability": {name: getattr(bins, name)[i].tolist() for name in ("rows", "confidence", "right")},
        }
        for i in range(len(evaluations))
    ]


def _together(evaluations: Sequence[Evaluation]) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64], Rows]:
    """Return outputs, labels and losses of all models' rows, one after another, and which model's each row is."""
    model = np.repeat(np.arange(len(evaluations)), [len(one.labels) for one in evaluations])
    outputs, labels, losses = (
        np.concatenate([getattr(one, name) for one in evaluations]) for name in ("outputs", "labels", "losses")
    )
    return outputs, labels, losses, model


def _records(scores: dict[str, NDArray[np.float64]], chosen: Sequence[int] | Rows) -> list[Score]:
    """Return the scores of chosen segments; a loss stays what it is, for a loss that is not finite is a failure."""
    columns = {name: values[np.asarray(chosen, dtype=np.int64)].tolist() for name, values in scores.items()}
    return [
        {
            name: value if name == "loss" or np.isfinite(value) else None
            for name, value in zip(columns, row, strict=True)
        }
        for row in zip(*columns.values(), strict=True)
    ]
