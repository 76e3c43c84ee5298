"""Evaluation of global models: loss and accuracy over all rows and for each client."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..heads.model import Model
from ..params import Params

MEMORY_BUDGET = 256 * 2**20


@dataclass(frozen=True)
class Evaluation:
    """One model on one set of rows: per row its cross-entropy (n,) float64 and whether it was right (n,) bool."""

    losses: np.ndarray
    right: np.ndarray

    @property
    def loss(self) -> float:
        """The mean cross-entropy, natural logarithm."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """The share of rows classified rightly."""
        return float(self.right.mean())

    def by_client(self, owner: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, float | int]]:
        """Return rows, loss and accuracy of each client that owns any; owner: (n,) positions in `names`."""
        table: dict[str, dict[str, float | int]] = {}
        for i, name in enumerate(names):
            mine = owner == i
            if mine.any():
                losses, right = self.losses[mine], self.right[mine]
                table[name] = {"rows": int(mine.sum()), "loss": float(losses.mean()), "accuracy": float(right.mean())}
        return table


def evaluate(
    model: Model, params: Params, table: Tensor, labels: Tensor, rows: Sequence[np.ndarray]
) -> list[Evaluation]:
    """Evaluate G models, model g on the rows rows[g] of the feature table.

    params: {name: (G, *shape)}. Models are evaluated together, padded to the longest set of rows.
    """
    longest = max(map(len, rows))
    index = torch.zeros(len(rows), longest, dtype=torch.int64)
    for g, some in enumerate(rows):
        index[g, : len(some)] = torch.from_numpy(some)
    together = max(1, MEMORY_BUDGET // (model.row_bytes * longest))
    results = []
    for start in range(0, len(rows), together):
        chosen = index[start : start + together]
        with torch.no_grad():
            outputs = model.apply({name: p[start : start + together] for name, p in params.items()}, table[chosen])
            losses = cross_entropy(outputs.flatten(0, 1), labels[chosen].flatten(), reduction="none").view(chosen.shape)
            right = outputs.argmax(-1) == labels[chosen]
        for g, some in enumerate(rows[start : start + together]):
            results.append(Evaluation(losses[g, : len(some)].double().numpy(), right[g, : len(some)].numpy()))
    return results
