"""Evaluation of global models: what they put out for each row, and the loss of each row."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..aggregation.updates import Metric, Utility
from ..backends import Executor
from ..errors import ConfigurationError
from ..heads.losses import row_losses
from ..heads.model import Model
from ..params import Params

MEMORY_BUDGET = 256 * 2**20


@dataclass(frozen=True)
class Evaluation:
    """One model on one set of n rows.

    outputs: (n, K) float64. labels: (n,) int64 classes or float64 numbers. losses: (n,) float64, see `row_losses`.
    """

    outputs: np.ndarray
    labels: np.ndarray
    losses: np.ndarray

    @property
    def loss(self) -> float:
        """The mean cross-entropy, natural logarithm, or the mean squared error."""
        return float(self.losses.mean())

    @property
    def right(self) -> np.ndarray:
        """Whether the largest output is the row's class, (n,) bool."""
        return np.asarray(self.outputs.argmax(1) == self.labels)

    @property
    def accuracy(self) -> float:
        """The share of rows classified rightly."""
        return float(self.right.mean())


def evaluate(
    model: Model,
    params: Params,
    table: Tensor,
    labels: Tensor,
    rows: Sequence[np.ndarray],
    executor: Executor | None = None,
) -> list[Evaluation]:
    """Evaluate G models, model g on the rows rows[g] of the feature table.

    params: {name: (G, *shape)}. Models are evaluated together, padded to the longest set of rows, on the device that
    holds the table. executor: the machine that `model` runs on, which is then spared the rows that pad.
    """
    longest = max(map(len, rows))
    index = torch.zeros(len(rows), longest, dtype=torch.int64)
    for g, some in enumerate(rows):
        index[g, : len(some)] = torch.from_numpy(some)
    real = torch.arange(longest) < torch.tensor([len(some) for some in rows]).unsqueeze(1)
    outputs = apply_in_pieces(model, params, table, index, (executor, real) if executor else None).cpu()
    wanted = labels.cpu()[index]
    losses = row_losses(outputs, wanted)
    if wanted.is_floating_point():
        wanted = wanted.double()
    parts = [tensor.numpy() for tensor in (outputs.double(), wanted, losses.double())]
    return [Evaluation(*(part[g, : len(some)] for part in parts)) for g, some in enumerate(rows)]


def utility_on(model: Model, fixed: Params, table: Tensor, labels: Tensor, rows: np.ndarray) -> Utility:
    """Return the function that a rule may ask how good models are on `rows` of the feature table.

    fixed: {name: (*shape)}, the parameters that do not travel, the same in every model asked about.
    """

    def utility(params: Params, metric: Metric) -> np.ndarray:
        if metric == "accuracy" and labels.is_floating_point():
            raise ConfigurationError('numbers that are predicted have no accuracy: use metric="loss"')
        models = len(next(iter(params.values())))
        whole = {name: tensor.expand(models, *tensor.shape) for name, tensor in fixed.items()} | params
        scores = evaluate(model, whole, table, labels, [rows] * models)
        return np.array([score.accuracy if metric == "accuracy" else -score.loss for score in scores])

    return utility


def apply_in_pieces(
    model: Model, params: Params, table: Tensor, index: Tensor, only: tuple[Executor, Tensor] | None = None
) -> Tensor:
    """Return the outputs of G models on table[index], index (G, n), as (G, n, outputs), in bounded memory.

    only: a machine that is to run no rows but those of a mask (G, n).
    """
    models, rows = index.shape
    params, index = {name: p.to(table.device) for name, p in params.items()}, index.to(table.device)
    width = max(1, min(rows, MEMORY_BUDGET // model.row_bytes))
    height = max(1, MEMORY_BUDGET // (model.row_bytes * width))

    def piece(g: int, r: int) -> Tensor:
        here = slice(g, g + height), slice(r, r + width)
        with only[0].only(only[1][here]) if only else nullcontext():
            return model.apply({name: p[here[0]] for name, p in params.items()}, table[index[here]])

    with torch.no_grad():
        bands = [torch.cat([piece(g, r) for r in range(0, rows, width)], dim=1) for g in range(0, models, height)]
    return torch.cat(bands)
