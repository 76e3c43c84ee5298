"""What an aggregation rule gets and gives."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..params import Params, Specs

Info = dict[str, Any]


@dataclass(frozen=True)
class Updates:
    """The accepted updates of a round, stacked and sorted by client name.

    clients: (n,) names. delta: {name: (n, *shape)}, local minus global, angular entries wrapped to the shorter way
    round. rows: (n,) training rows behind each update.
    """

    clients: tuple[str, ...]
    delta: Params
    rows: tuple[int, ...]

    @property
    def weights(self) -> Tensor:
        """The share of each client in all rows, (n,) float64, summing to one."""
        rows = torch.tensor(self.rows, dtype=torch.float64)
        return rows / rows.sum()


@dataclass(frozen=True)
class Context:
    """What a rule may use beside the updates: the round's number and a random stream of its own."""

    round: int
    generator: np.random.Generator


@runtime_checkable
class Aggregator(Protocol):
    """A rule: pure, permutation-free (updates come sorted), with a state that is checkpointed."""

    def init(self, specs: Specs) -> Params:
        """Return the state before the first round."""
        ...

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return new parameters {name: (*shape)}, new state, and what is worth recording about the choice."""
        ...


def weighted_sum(weights: Tensor, stacked: Tensor) -> Tensor:
    """Return sum_i weights_i stacked_i over the leading axis, accumulated in float64, in the type of `stacked`."""
    total: Tensor = torch.tensordot(weights, stacked.double(), dims=1)
    return total.to(stacked.dtype)
