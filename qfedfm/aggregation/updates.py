"""What an aggregation rule gets and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..heads.model import Model
from ..params import Params, Specs

BLOCK = 8192  # columns converted to float64 at a time: 100 clients x 8192 x 8 bytes stay in the cache
Info = dict[str, Any]
T = TypeVar("T")
Root = Callable[[Params], Params]
"""Global parameters {name: (*shape)} to the update that a client with the server's own rows would send."""
Metric = Literal["accuracy", "loss"]
Utility = Callable[[Params, Metric], NDArray[np.float64]]
"""G sets of global parameters {name: (G, *shape)} to how good each is on the server's validation rows, (G,): its
accuracy, or its negative mean cross-entropy in nats. More is better."""


@dataclass(frozen=True)
class Updates:
    """The accepted updates of a round, stacked and sorted by client name.

    clients: (n,) names. delta: {name: (n, *shape)}, local minus global, angular entries wrapped to the shorter way
    round. rows: (n,) training rows behind each update. steps: (n,) minibatches that each client took. losses: (n,) mean
    training loss that each client reports. clusters: (n,) which model each client trained, where there are several.
    """

    clients: tuple[str, ...]
    delta: Params
    rows: tuple[int, ...]
    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    clusters: tuple[int, ...] = ()

    def only(self, members: NDArray[np.intp]) -> "Updates":
        """Return the updates of some clients; members: their positions, rising."""

        def those(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in members) if values else ()

        return Updates(
            those(self.clients),
            {name: delta[torch.as_tensor(members)] for name, delta in self.delta.items()},
            *(those(self.rows), those(self.steps), those(self.losses), those(self.clusters)),
        )

    @property
    def weights(self) -> Tensor:
        """The share of each client in all rows, (n,) float64, summing to one."""
        rows = torch.tensor(self.rows, dtype=torch.float64)
        return rows / rows.sum()


@dataclass(frozen=True)
class Context:
    """What a rule may use beside the updates.

    round: its number. generator: a random stream of the rule's own. model: the head that is being trained, whose
    circuit and `apply` a rule may evaluate. root: what the server's own rows make of a model; None where it has none.
    utility: how good models are on the server's validation rows; None where it has none.
    """

    round: int
    generator: np.random.Generator
    model: Model | None = None
    root: Root | None = None
    utility: Utility | None = None


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


@runtime_checkable
class Selects(Protocol):
    """A rule that also says who trains in a round, by what it remembers."""

    def select(self, state: Params, clients: Sequence[str], count: int, generator: np.random.Generator) -> list[str]:
        """Return `count` of the enrolled clients, in the order given."""
        ...


def weighted_sum(weights: Tensor, stacked: Tensor) -> Tensor:
    """Return sum_i weights_i stacked_i over the leading axis, accumulated in float64, in the type of `stacked`.

    A block of columns at a time, so that no float64 copy of all updates is made.
    """
    flat = stacked.reshape(len(stacked), -1)
    blocks = [torch.tensordot(weights, block.double(), dims=1) for block in torch.split(flat, BLOCK, dim=1)]
    return torch.cat(blocks).view(stacked.shape[1:]).to(stacked.dtype)
